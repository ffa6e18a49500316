package KV::Fuzz;

# Requests that no well-behaved client sends, and what may be said to them.
#
#     my $fuzz = KV::Fuzz->new(seed => 42);
#     my $case = $fuzz->make(17);      # always the same one
#     my $sum = $fuzz->run(port => $port, cases => [0 .. 4999]);
#
# A case is bytes, of one of some kinds - valid requests, which also go into
# the others; valid ones with bytes changed; odd request lines, keys, headers,
# lengths, chunks, conditions, arguments, lines of a bulk load; what is not HTTP
# at all; several in a row - and a
# way to send them: at once, in pieces, byte by byte, cut off anywhere, or not
# to the end and then silence.  run() sends many at a time, each on a connection
# of its own, and takes apart what comes back.
#
# Keys are f0 to f49 and whatever becomes of them, below /kv/ and /other/;
# DELETE /clear is among the requests.  /bulk and /keys have a store of their
# own.

use strict;
use warnings;

use Errno qw(EAGAIN EINPROGRESS EINTR);
use Fcntl qw(F_SETFL O_NONBLOCK O_RDWR);
use JSON::PP ();
use Socket qw(:DEFAULT IPPROTO_TCP TCP_NODELAY SOL_SOCKET SO_LINGER);
use Time::HiRes qw(time);

use KV::Conn;
use KV::Util qw(value);

my $QUIET = 0.03;           # seconds without a byte: no more will come
my $HANG_UP = 15;           # the server must not wait longer for the rest
my $STALLED = 100;          # connections that stand still, at most


# ---- what is sent


my %KINDS = (valid => 14, mutated => 30, line => 10, key => 12, header => 14,
             length => 9, chunks => 9, range => 10, condition => 12,
             count => 9, take => 9, timed => 5, wait => 3, list => 7,
             bulk => 9, garbage => 5, row => 10, large => 2);

my %WAYS = (whole => 50, pieces => 22, bytes => 7, cut => 17, stall => 4);

my %MAKE = (valid => \&valid, mutated => sub { mutate(valid()) },
            line => \&odd_line, key => \&odd_key, header => \&odd_header,
            length => \&odd_length, chunks => \&odd_chunks, range => \&range,
            condition => \&condition, count => \&count, take => \&taking,
            timed => \&timed, wait => \&waiting, list => \&list,
            bulk => \&bulk, garbage => \&garbage, row => \&row,
            large => \&large);

my @SPECIAL = ("\0", "\r", "\n", "\r\n", "\r\n\r\n", ' ', "\t", ':', '%', '/',
               '?', '#', ';', ',', '"', '=', '..', '/../', '%2e%2e/', '%00',
               '%2F', '%', '%f', "\x7f", "\x80", "\xff", "\xc3\xa9", '0', '-1',
               'Content-Length: 5', 'Transfer-Encoding: chunked', 'Host: x',
               'Connection: close', 'Expect: 100-continue', ' HTTP/1.0', 'PUT ',
               'Content-Length', '0' x 50, 'x' x 300);

my @NUMBERS = ('', '0', '00', '-0', '-1', '+1', '1.5', '1e3', '0x10', ' 7',
               '7 ', '7,', '7, 7', '7, 8', '7 7', 'seven', "7\0", "\xd9\xa3",
               '2147483647', '2147483648', '4294967295', '4294967296',
               '4294967303', '9223372036854775807', '9223372036854775808',
               '18446744073709551615', '18446744073709551623',
               '9' x 30, '0' x 300 . '7');


sub new {
    my ($class, %o) = @_;
    return bless { seed => 1, %o }, $class;
}


# Case number `n`: { n, kind, way, bytes, pieces => [...], delay, end }.

sub make {
    my ($self, $n) = @_;

    srand(($self->{seed} * 1_000_003 + $n * 7919) % 2**31);
    rand for 1 .. 5;

    my ($kind, $way) = (weighted(\%KINDS), weighted(\%WAYS));
    my $bytes = $MAKE{$kind}->();

    $bytes = substr $bytes, 0, 1_000_000;
    $bytes = substr $bytes, 0, int rand 1 + length $bytes
        if $way eq 'cut' || $way eq 'stall';

    return { n => $n, kind => $kind, way => $way, bytes => $bytes,
             pieces => cut_up($way, $bytes),
             delay => $way eq 'pieces' ? rand 0.003 : 0,
             end => one($way eq 'cut' ? qw(close reset half)
                                      : qw(close close close reset half)) };
}


sub cut_up {
    my ($way, $bytes) = @_;
    my $most = 400;                     # pieces

    return [$bytes] if $way ne 'pieces' && $way ne 'bytes' || $bytes eq '';
    return [split //, $bytes] if $way eq 'bytes' && length $bytes <= $most;

    my $size = 1 + int(length($bytes) / (2 + int rand 6));
    return [unpack "(a$size)*", $bytes];
}


sub one { return $_[rand @_] }

sub maybe { my ($p, @list) = @_; return rand() < $p ? @list : () }


sub weighted {
    my ($weights) = @_;
    my $sum = 0;
    $sum += $_ for values %$weights;
    my $dice = rand $sum;

    for (sort keys %$weights) {
        return $_ if ($dice -= $weights->{$_}) < 0;
    }
}


sub noise { return join '', map { chr int rand 256 } 1 .. $_[0] }


sub path {
    my $dice = rand;
    my $path = $dice < 0.85 ? '/kv/f' . int rand 50
             : $dice < 0.92 ? '/other/f' . int rand 50
             :                one(qw(/health /stats /clear / /kv /kv/ /no));
    return $path . join '', maybe(0.05, '?a=' . int rand 9);
}


sub value_of_some_size {
    my $dice = rand;
    my $len = $dice < 0.85 ? 1 + int rand 300
            : $dice < 0.97 ? 1 + int rand 20_000
            :                1 + int rand 120_000;
    return substr value('f', int rand 1e6, $len), 0, $len;
}


sub valid {
    my $method = one(qw(PUT PUT PUT PUT GET GET GET DELETE HEAD POST OPTIONS));
    my @headers = ('Host: localhost',
                   maybe(0.1, 'User-Agent: fuzz', 'Accept: */*'),
                   maybe(0.1, 'Connection: ' . one(qw(close keep-alive))),
                   maybe(0.05, 'Expect: 100-continue'),
                   maybe(0.05, 'Content-Type: text/html'),
                   maybe(0.05, 'If-' . one('', 'None-') . 'Match: '
                               . one('*', tags())));
    my $value = value_of_some_size();
    my $n = 1 + int rand length $value;

    return KV::Conn::request($method, path(), headers => \@headers,
        $method ne 'PUT' && rand() < 0.9 ? ()
        : rand() < 0.6 ? (body => $value)
        :                (chunks => [unpack "(a$n)*", $value]));
}


# Mostly near the beginning, where the header is.

sub mutate {
    my ($bytes) = @_;

    for (1 .. 1 + int rand 5) {
        my $area = rand() < 0.8 && length $bytes > 150 ? 150 : length $bytes;
        my ($pos, $n, $what) = (int rand($area + 1), 1 + int rand 20,
                                int rand 9);

        if ($what == 0) {
            substr($bytes, $pos, 1) = noise(1);
        } elsif ($what == 1) {
            substr($bytes, $pos, 1) = one(@SPECIAL);
        } elsif ($what == 2) {
            substr($bytes, $pos, 0) = one(@SPECIAL);
        } elsif ($what == 3) {
            substr($bytes, $pos, $n) = '';
        } elsif ($what == 4) {
            substr($bytes, $pos, 0) = substr($bytes, $pos, $n);
        } elsif ($what == 5) {
            my $line = one(split /(?<=\n)/, substr $bytes, 0, $area) // '';
            substr($bytes, $pos, 0) = $line;
        } elsif ($what == 6) {
            my $number = one(@NUMBERS);
            my $skip = 0;
            $bytes =~ s/\b(\d+)\b/$skip++ == 1 ? $number : $1/ge;
        } elsif ($what == 7) {
            $bytes =~ s/\r\n/\n/g;
        } else {
            substr($bytes, $pos, $n) = noise($n);
        }
    }

    return $bytes;
}


sub odd_line {
    my $method = one('GET', 'PUT', 'DELETE', 'get', 'G', 'GETT', 'TRACE',
                     'CONNECT', 'PROPFIND', 'LOCK', 'M-SEARCH', 'PRI', "G\0T",
                     'G@T', '', 'X' x 300, 'PURGE', '_', "\xff");
    my $path = path();
    my $uri = one($path, "http://localhost$path", "HTTP://x:80$path",
                  "http://$path", 'http://', 'http:/', 'ftp://x' . $path,
                  'localhost:80', '*', '', '//', "/$path", "/.$path",
                  "/kv/../..$path", "/x/..$path", '/kv/.', '/kv/..', '/kv//f1',
                  '/kv//./f1', '/kv//x/../f1', "/x/../$path", '/kv/.%2F/f1',
                  "$path#a", "$path?", "$path?" . 'q' x int rand 9000, '?',
                  "$path%", "$path%4", "$path%zz", "$path%00", "\\kv\\f1",
                  '/kv/' . 'f' x int rand 40_000, "/kv/f\xc3\xbc", 'kv/f1',
                  '/%6bv/f1', '/kv%2Ff1', "$path\0", "/kv/f 1",
                  "$path HTTP/1.1", 'http://[::1' . $path,
                  'http://[::1]' . $path, 'http://a@b' . $path);
    my $proto = one('HTTP/1.1', 'HTTP/1.1', 'HTTP/1.0', 'HTTP/0.9', 'HTTP/1.2',
                    'HTTP/2.0', 'HTTP/11', 'HTTP/1.', 'HTTP/.1', 'HTTP/1.999',
                    'HTTP/1000.1', 'http/1.1', 'HTTP', 'HTTP/', 'HTTP/1.1 x',
                    'HTTPS/1.1', '', "HTTP/1.1\0", 'HTTP/-1.1', 'HTTP/1,1');

    return one('', '', '', "\r\n", "\n", "\r\n" x 50, ' ', "\r")
           . join(one(' ', ' ', ' ', ' ', '  ', "\t"), $method, $uri,
                  maybe(0.95, $proto))
           . one("\r\n", "\r\n", "\r\n", "\n", "\r", ' ' . "\r\n", "\r\r\n")
           . one("Host: x\r\n\r\n", "Host: x\r\n\r\n", "\r\n", "Host: x\n\n",
                 "Content-Length: 3\r\n\r\nabc", '');
}


# Every byte comes, as it is and encoded, well and badly.

sub odd_key {
    return join '', map { key_with(chr int rand 256) } 1 .. 8
        if rand() < 0.7;

    my $byte = chr int rand 256;
    my $odd = one("%$byte", "%$byte$byte", sprintf('%%%x', ord($byte) & 15),
                  sprintf('%%25%02x', ord $byte),
                  sprintf('%%u00%02x', ord $byte),
                  sprintf('%%%02x', ord $byte) x (1 + int rand 3000));
    return key_with($odd);
}


sub key_with {
    my ($odd) = @_;

    $odd = sprintf one('%%%02x', '%%%02X'), ord $odd
        if length $odd == 1 && rand() < 0.7;
    my $key = one("f$odd", "${odd}f", "f${odd}f", $odd, "f/$odd", "../kv/f$odd",
                  "$odd/../f1", "$odd/", "./$odd");

    return KV::Conn::request(one(qw(PUT PUT GET DELETE HEAD POST)),
                             one('/kv/', '/kv/', '/kv/', '/other/') . $key,
                             maybe(0.9, body => value_of_some_size()));
}


sub odd_header {
    my $name = one(qw(X Host host Connection Content-Length Expect Cookie TE
                      Transfer-Encoding Upgrade Content-Encoding Trailer Range
                      Content-Range If-Match If-None-Match If-Modified-Since
                      If-Unmodified-Since If-Range Authorization Via Depth
                      X-Forwarded-For Accept-Encoding Keep-Alive Destination
                      Max-Forwards Overwrite X_Y (x)),
                   '', ' ', 'X Y', "X\0", "X\t", "\xc3\xbc", "\xff", 'x' x 300);
    my $value = one('', ' ', 'x', 'close', 'keep-alive', 'upgrade', 'chunked',
                    'identity', 'gzip, chunked', 'chunked, chunked', 'h2c',
                    '100-continue', '200-ok', 'bytes=0-0', 'bytes 0-4/5', '*',
                    '"x"', 'Sun, 06 Nov 1994 08:49:37 GMT', 'a' x int rand 9000,
                    'a' x int rand 60_000, "a\0b", "a\rb", "a\r\n b", "a\n\tb",
                    noise(20) =~ s/[\r\n]//gr, '[::1]', 'a b', 'x:99999', '..',
                    '/', "\x7f", one(@NUMBERS));
    my @odd = ("$name:$value", "$name: $value", "$name : $value", "$name",
               ": $value", "$name:\t$value\t", " $name: $value");
    my @headers = (maybe(0.9, 'Host: localhost'),
                   one(@odd), maybe(0.3, one(@odd)),
                   maybe(0.03, ('X-Many: y') x (1 + int rand 3000)),
                   maybe(0.1, ("$name: $value") x 2));
    my $method = one(qw(PUT PUT GET DELETE HEAD POST));
    my $body = $method eq 'PUT' ? value_of_some_size() : '';

    push @headers, 'Content-Length: ' . length $body
        if length $body && rand() < 0.8;

    return join("\r\n", "$method " . path() . ' ' . one('HTTP/1.1', 'HTTP/1.0'),
                @headers, '', $body);
}


sub odd_length {
    my $value = value_of_some_size();
    my $len = length $value;
    my $length = sub {
        return 'Content-Length: '
               . one($len, $len + 1, $len - 1, int rand 2 * $len, @NUMBERS);
    };
    my $encoding = 'Transfer-Encoding: '
                   . one('identity', 'gzip', 'Chunked', 'chunked ', ' chunked',
                         'chunked,', "chunked\0", 'xchunked', 'chunked;q=1',
                         'gzip, chunked');
    my $headers = one([$length->()], [$length->(), $length->()],
                      [$length->(), 'Transfer-Encoding: chunked'],
                      ['Transfer-Encoding: chunked', $length->()],
                      ["Content-Length: $len", "Content-Length: $len"],
                      [$encoding], [$encoding, $length->()],
                      [('Transfer-Encoding: chunked') x 2],
                      [$length->(), 'Expect: 100-continue']);
    my $method = one(qw(PUT PUT PUT POST GET DELETE));
    my $proto = one('HTTP/1.1', 'HTTP/1.1', 'HTTP/1.0');

    return join("\r\n", "$method " . path() . " $proto", 'Host: x', @$headers,
                '', one($value, KV::Conn::chunked($value), $value . valid()));
}


sub odd_chunks {
    my @sizes = ('5', '05', '000005', '5 ', ' 5', "5\t", '5;a=b',
                 "5;a=\"b;\r\n\"", '5;' . 'e' x int rand 9000, '6', '4', '-5',
                 '+5', '0x5', '5.0', 'g', '', 'ffffffff', '100000000',
                 '7fffffffffffffff', '8000000000000000',
                 'ffffffffffffffff', '10000000000000005',
                 'f' x 40, '0' x 400 . '5', "5\0", '55', noise(2), "\xd9\xa5");
    my @ends = ("\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\n\r", '',
                " \r\n", "\r\n\r\n", "\r\r\n");
    my $body = join '', map { (rand() < 0.6 ? '5' : one(@sizes))
                              . (rand() < 0.8 ? "\r\n" : one(@ends)) . 'hello'
                              . (rand() < 0.8 ? "\r\n" : one(@ends)) }
                        1 .. 1 + int rand 6;

    return "PUT " . path() . " HTTP/1.1\r\nHost: x\r\n"
           . "Transfer-Encoding: chunked\r\n\r\n$body"
           . one("0\r\n\r\n", "0\r\n\r\n", "0\r\n", '0', '', "00\r\n\r\n",
                 "\r\n", "0;x\r\n\r\n", "0\r\nX-Trailer: y\r\n\r\n",
                 "0\r\nX\0: \r\n\r\n",
                 "0\r\n" . "T: r\r\n" x int(rand 2000) . "\r\n", "0\n\n",
                 "0\r\n\r\n" . valid());
}


sub range {
    my @n = map { one('', 0, 1, 5, 99, 1000, one(@NUMBERS)) } 1 .. 4;
    my $range = one("bytes=$n[0]-$n[1]", "bytes=$n[0]-$n[1],$n[2]-$n[3]",
                    'bytes=-', "bytes=$n[0]", "bytes $n[0]-$n[1]",
                    "lines=$n[0]-$n[1]",
                    'bytes=' . join(',', map { "$_-$_" } 0 .. rand 300),
                    'bytes=' . '0-,' x int rand 300, "bytes=$n[0]-$n[1]/$n[2]");

    return KV::Conn::request(one(qw(GET GET GET HEAD DELETE PUT)), path(),
        headers => ["Range: $range",
                    maybe(0.2, 'If-Range: ' . one('"x"', 'x', 'Sun', '')),
                    maybe(0.2, one('If-Match: *', 'If-None-Match: *',
                                   'If-None-Match: "x"',
                                   'If-Unmodified-Since: x',
                                   'If-Modified-Since: '
                                   . 'Sun, 06 Nov 2094 08:49:37 GMT'))]);
}


# Versions that may have been, lists of them, and what is none.

sub tags {
    return join one(',', ', ', ' ,', ',,', "\t,"), map {
        one('', '', '', '', 'W/') . '"'
        . one(sprintf('%x-%x', 1 + rand 5000, rand 9), '', 'x', 'a,b', '*',
              "\xff\x80", '0' x int rand 40, 'f' x 17 . '-' . 'f' x 17)
        . '"'
    } 1 .. 1 + rand() ** 4 * 300;
}


sub condition {
    my $odd = sub {
        my $tags = tags();
        my $pos = int rand 1 + length $tags;
        substr($tags, $pos, int rand 3) =
            one('', '"', ' ', ',', '*', '\\', 'W/', "\t", "\x7f", "\x01");
        return one($tags, $tags, '', ' ', '"', '"x', 'x"', 'x', 'W/', 'w/"x"',
                   'W/W/"x"', '* ', '**', '*,*', '"x" *', '"x" "y"', "'x'",
                   '<x>', '"' x (1 + int rand 3000), ',' x (1 + int rand 3000),
                   noise(20) =~ s/[\0\r\n]//gr);
    };
    my @headers = map { 'If-' . one('Match', 'None-Match') . ': '
                        . one('*', '*', tags(), tags(), $odd->()) }
                      1 .. one(1, 1, 1, 1, 1, 2);
    my $method = one(qw(PUT PUT GET GET GET DELETE HEAD));

    return KV::Conn::request('DELETE', '/clear', headers => \@headers)
        if rand() < 0.06;
    return KV::Conn::request($method, path(),
        headers => [@headers, maybe(0.1, 'Expect: 100-continue'),
                    maybe(0.1, 'Range: bytes=0-9'),
                    maybe(0.1, 'If-Range: ' . tags()),
                    maybe(0.1, 'If-Unmodified-Since: '
                               . 'Sun, 06 Nov 1994 08:49:37 GMT')],
        $method ne 'PUT' ? ()
        : rand() < 0.6   ? (body => value_of_some_size())
        :                  (chunks => [value_of_some_size()]));
}


# Increments, and what is none.

sub count {
    my $by = rand() < 0.5 ? one(1, 1, -1, 0, 7, '9223372036854775807',
                                '-9223372036854775808')
           : rand() < 0.7 ? one(@NUMBERS) =~ s/([^\w.,+-])/sprintf '%%%02x',
                                                            ord $1/ger
           :                one('%31', '%2D1', '%', '%3', '%zz', '-', '%00',
                                '1%00', '1' x int rand 3000, '1;', '1#2', '=');
    my $args = one("incr=$by", "incr=$by", "incr=$by", "INCR=$by", "incr$by",
                   "incr=$by&incr=" . int rand 9, "x=y&incr=$by&z", "incr",
                   "xincr=$by", "incr=$by?incr=1", "&&incr=$by&");

    return KV::Conn::request(one(qw(POST POST POST POST POST PUT GET DELETE)),
        '/kv/f' . int(rand 50) . "?$args",
        headers => [maybe(0.2, 'If-' . one('', 'None-') . 'Match: '
                               . one('*', tags())),
                    maybe(0.1, 'Expect: 100-continue')],
        rand() < 0.8 ? () : rand() < 0.5 ? (body => 'incr=1')
                                         : (chunks => ['1']));
}


# Deletes that want the value, or say that they want something.

sub taking {
    my $odd = one('', '"', '=', ',', ';', 'return', 'return=', 'return="',
                  '"' x int rand 3000, ',' x int rand 3000,
                  'a=' x int rand 3000,
                  '\\', '"\\', 'x="return=representation',
                  noise(20) =~ s/[\0\r\n]//gr);
    my @prefer = map { 'Prefer: ' . one('return=representation',
                                        'return=representation',
                                        "$odd,return=representation",
                                        'return=minimal', $odd) }
                     1 .. one(1, 1, 1, 2);

    return KV::Conn::request(one(qw(DELETE DELETE DELETE DELETE GET PUT)),
        path(), headers => [@prefer,
                            maybe(0.2, 'If-' . one('', 'None-') . 'Match: '
                                       . one('*', tags())),
                            maybe(0.1, 'Range: bytes=0-9')],
        rand() < 0.8 ? () : (body => value_of_some_size()));
}


# An odd number, as an argument.

sub number {
    my $number = rand() < 0.7
        ? one(@NUMBERS) =~ s/([^\w.,+-])/sprintf '%%%02x', ord $1/ger
        : one('%31', '%2D1', '%', '%3', '%zz', '-', '%00', '1%00', '1;', '1#2',
              '=', '1' x int rand 3000);
    return $number;
}


# Times of expiry, of values and of counters.

sub timed {
    my $ttl = rand() < 0.5 ? one(0, 1, 1, 60, 315360000, 315360001) : number();
    my $method = one(qw(PUT PUT POST POST POST GET DELETE));
    my $args = one("ttl=$ttl", "ttl=$ttl", "ttl=$ttl&ttl=1", "ttl", "TTL=$ttl",
                   "ttl=$ttl&incr=1", "incr=1&ttl=$ttl", "&&ttl=$ttl&");

    return KV::Conn::request($method, '/kv/f' . int(rand 50) . "?$args",
        headers => [maybe(0.2, 'If-' . one('', 'None-') . 'Match: '
                               . one('*', tags()))],
        $method ne 'PUT' && rand() < 0.8 ? () : (body => value_of_some_size()));
}


# Reads that wait, for a second at most.

sub waiting {
    my $wait = rand() < 0.5 ? one(0, 1, 1, 601) : number();

    return KV::Conn::request(one(qw(GET GET GET HEAD PUT)),
        one('/kv/f', '/kv/g') . int(rand 50) . "?wait=$wait",
        headers => [maybe(0.5, 'If-' . one('', 'None-') . 'Match: '
                               . one('*', tags()))],
        rand() < 0.9 ? () : (body => value_of_some_size()));
}


# Lists, and what is none.

sub list {
    my $odd = sub {
        return one('', 'f', 'f1', ':', '%00', '%ff', '%2F', 'zz', number(),
                   'f' x int rand 3000, noise(3) =~ s/[\0- #&]//gr);
    };
    my %args = (prefix => $odd->(), after => $odd->(), delimiter => $odd->(),
                limit => one(1, 2, 10000, 10001, number()), values => one(0, 1),
                format => one(qw(json json lines text xml)), more => 1,
                max => one(1, 1000, 1024, 1025, number()));
    my $method = one(qw(GET GET GET GET HEAD POST DELETE));
    my @names = grep { rand() < 0.3 } sort keys %args;
    @names = qw(prefix max) if $method eq 'DELETE' && rand() < 0.5;

    return KV::Conn::request($method,
        '/keys?' . join(one('&', '&', '&&'), map { "$_=$args{$_}" }
                                             @names, maybe(0.1, @names)),
        headers => [maybe(0.2, 'Accept: application/json'),
                    maybe(0.1, 'Range: bytes=0-9')],
        rand() < 0.95 ? () : (body => 'x'));
}


# Lines of a bulk load: most of them good, some almost.

sub line {
    my $value = substr value('b', int rand 1e6, 300), 0, 1 + int rand 300;
    my $text = JSON::PP->new->latin1->allow_nonref->encode($value);
    my $key = '"key":"f' . int(rand 50) . '"';
    my $line = rand() < 0.8
        ? one("{$key,\"value\":$text}", "{\"value\":$text,$key}",
              "{$key,\"base64\":\"AAEC/w==\",\"ttl\":1}",
              "{\"op\":\"delete\",$key}", '', " \r",
              "{$key,\"value\":\"" . 'v' x int(rand 9000) . '"}')
        : one('{', '[]', '{}', "{$key}", 'null', '[' x int rand 9000,
              ',' x int rand 9000, "{$key,$key,\"value\":\"x\"}",
              "{$key,\"value\":\"\\ud800\"}", "{$key,\"value\":\"\xff\"}",
              "{$key,\"value\":\"\\u0000\"}", "{$key,\"base64\":\"AA\"}",
              "{$key,\"value\":\"x\",\"ttl\":" . one(@NUMBERS) . '}',
              "{$key,\"value\":\"x\",\"expires\":" . one(@NUMBERS) . '}',
              '{"key":"a/b","value":"x"}', '"' . 'x' x int(rand 9000),
              "\xef\xbb\xbf{$key,\"value\":\"x\"}", noise(30));

    return rand() < 0.97 ? $line : mutate($line);
}


sub bulk {
    my $n = one(0, 1, 1, 2, 5, 5, 20, 300);
    my $body = join "\n", map { line() } 1 .. $n;
    $body .= "\n" if rand() < 0.7;
    my $size = 1 + int rand 1 + length $body;

    return KV::Conn::request(one(qw(POST POST POST POST POST POST PUT)),
        '/bulk' . join('', maybe(0.05, '?a=1')),
        headers => [maybe(0.1, 'Expect: 100-continue'),
                    maybe(0.05, 'If-Match: *'),
                    maybe(0.05, 'Content-Encoding: gzip')],
        rand() < 0.6 ? (body => $body)
                     : (chunks => [grep { length } unpack "(a$size)*", $body]));
}


sub garbage {
    return one(
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" . noise(500),    # TLS
        "\x80\x2e\x01\x00\x02" . noise(41),                             # SSL 2
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" . noise(200),
        "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n" . valid(),
        "\r\n\r\n\0\r\nQUIT\n" . noise(20),                        # PROXY 2
        "SSH-2.0-OpenSSH_9\r\n", "EHLO x\r\n", "*1\r\n\$4\r\nPING\r\n",
        "\x05\x01\0", "\x04\x01\0\x50\0\0\0\1x\0", '<xml/>', "\0" x 5000,
        "\r\n" x 3000, "\n" x 3000, ' ' x 20_000, 'A' x 50_000,
        noise(1 + int rand 300), noise(1 + int rand 20_000),
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", '');
}


sub row {
    my @kinds = qw(valid valid valid valid mutated key header length chunks
                   range condition count take timed wait list bulk);
    return join '', map { $MAKE{one(@kinds)}->() } 1 .. 2 + int rand 15;
}


# Larger than a value may be: by what is said, or by what is sent.

sub large {
    my $n = 262_144 + int rand 400_000;
    my $value = 'y' x $n;
    return one(sub { KV::Conn::request(PUT => path(), body => $value) },
               sub { KV::Conn::request(PUT => path(),
                                  chunks => [unpack '(a50000)*', $value]) },
               sub { KV::Conn::request(PUT => path(), chunks => [$value]) },
               sub { "PUT " . path() . " HTTP/1.1\r\nHost: x\r\n"
                     . "Content-Length: 9" . int(rand 1e9) . "\r\n\r\n$value" },
               sub { "GET /kv/f1 HTTP/1.1\r\nHost: x\r\n"
                     . "X: $value\r\n" x 2 . "\r\n" },
               sub { "GET /kv/$value HTTP/1.1\r\nHost: x\r\n\r\n" })->();
}


# ---- what may come back


# The module's own words, by status.

my %TEXTS = (
    400 => ['key cannot be empty', 'key contains invalid characters',
            'value cannot be empty', 'invalid request body',
            'partial values are not supported', 'invalid increment',
            'invalid ttl', 'invalid wait', 'a bulk load takes no arguments',
            'an argument is given twice', 'delimiter is empty',
            'prefix or after is longer than a key', 'a list takes no body',
            'invalid limit: it is a number from 1 to 10000',
            'invalid format: it is text, lines or json',
            'invalid values: it is 0 or 1',
            'values cannot be listed as text: format is lines or json',
            'unknown argument: there are prefix, after, limit, delimiter, '
            . 'values and format',
            'unknown argument: there are prefix and max',
            'prefix cannot be empty', 'prefix is longer than a key',
            'invalid max: it is a number from 1 to 1024',
            'a delete takes no body',
            'If-Match and If-None-Match take * or a list of quoted tags'],
    404 => ['key not found'],
    405 => ['method not allowed'],
    409 => ['value is not an integer', 'integer overflow',
            'more keys than max begin with it: none is deleted'],
    412 => ['precondition failed'],
    413 => ['value too large'],
    414 => ['key too long'],
    416 => ['range not satisfiable'],
    501 => ['a clear cannot be conditional',
            'a delete of many keys cannot be conditional',
            'a bulk load cannot be conditional'],
);

# Those of nginx, for what never reached the module.

my %NGINX = map { $_ => 1 } qw(400 403 404 405 408 413 414 501 505);


# Takes apart all that a connection gave for the bytes sent, and counts by
# status in %$counts.  `ended`: the server said that this is all.  Returns the
# complaint, or nothing.

sub judge {
    my ($in, $sent, $ended, $counts) = @_;
    my $closes;

    while (length $in) {

        return 'more after "Connection: close"' if $closes;

        if ($in !~ /^HTTP/) {
            $counts->{'0.9'}++;
            return $sent =~ /[A-Z_-] +[^ \r\n]+ *\r?\n/
                   ? () : 'no HTTP: ' . substr $in, 0, 60;
        }

        my $end = index($in, "\r\n\r\n");
        if ($end < 0) {
            return $ended ? 'half a header: ' . substr $in, 0, 60 : ();
        }

        my ($line, @lines) = split /\r\n/, substr($in, 0, $end), -1;
        my ($status) = $line =~ m{^HTTP/1\.1 ([1-5]\d\d)(?: [ -~]*)?$}
            or return "bad status line: $line";
        my %h;

        for (@lines) {
            my ($name, $value) = m{^([\w!#\$%&'*+.^`|~-]+): ([^\0\r\n]*)$}
                or return "bad header line: $_";
            return "twice: $_" if defined $h{lc $name};
            $h{lc $name} = $value;
        }

        $counts->{$status}++;
        substr($in, 0, $end + 4) = '';

        if ($status < 200) {
            return "interim answer $status" if $status != 100;
            next;
        }

        $closes = ($h{connection} // '') eq 'close';

        my $rest = $in;
        my ($body, $e) = $status == 304 ? '' : body(\$in, \%h, $sent, $ended);
        $e ||= said($status, \%h, $body) || unasked($status, \%h, $sent);

        if ($e && $sent =~ /HEAD/) {        # an answer of HTTP/0.9 follows?
            $in = $rest;
            $body = '';
            $e = said($status, \%h, $body);
        }

        return "$status: $e" if $e;
        return if !defined $body;
    }

    return;
}


# Takes a body off.  It is undef if it is not all there, which is no fault of
# the server if it did not say that it was; and '' after a HEAD.

sub body {
    my ($in, $h, $sent, $ended) = @_;
    my $body = '';
    my $len = $h->{'content-length'};

    if (($h->{'transfer-encoding'} || '') eq 'chunked') {
        return (undef, 'length and chunks') if defined $len;

        while (1) {
            $$in =~ s/^([0-9a-f]+)\r\n// or last;
            my $n = hex $1;
            last if length $$in < $n + 2;
            $body .= substr $$in, 0, $n;
            return (undef, 'bad chunk') if substr($$in, $n, 2) ne "\r\n";
            substr($$in, 0, $n + 2) = '';
            return ($body) if $n == 0;
        }

    } elsif (!defined $len) {
        ($body, $$in) = ($$in, '');
        return ($body);

    } else {
        return (undef, "bad length $len") if $len !~ /^\d+$/;
        return ('') if $sent =~ /HEAD/ && $$in =~ m{^(?:HTTP/1\.1 \d|$)};
        return (substr($$in, 0, $len, '')) if length $$in >= $len;
    }

    return (undef, $ended ? 'the body is cut off' : ());
}


sub said {
    my ($status, $h, $body) = @_;
    my $type = $h->{'content-type'} // return 'no Content-Type';

    if ($type eq 'text/html') {
        return $NGINX{$status} ? () : 'HTML';
    }

    return json($status, $type, $body // '') if $type =~ /json/;

    return "type $type"
        if $type ne 'text/plain'
           && !($type =~ m{^multipart/byteranges} && $status == 206);

    return if $status == 200 || $status == 206 || $status == 304;

    my $texts = $TEXTS{$status} or return 'no such answer';
    return if !defined $body || $body eq '';
    return if grep { $body eq "$_\n" } @$texts;
    return 'it says ' . substr $body, 0, 60;
}


# Lists and statistics, and what becomes of a bulk load.

sub json {
    my ($status, $type, $body) = @_;

    return "type $type" if $status != 200 && $status !~ /^(?:400|413)$/;
    return if $body eq '';

    for my $text ($type eq 'application/json' ? $body : split /\n/, $body) {
        my $json = eval { JSON::PP::decode_json($text) };

        return 'no JSON: ' . substr $text, 0, 60 if ref $json ne 'HASH';
        return "no error: $text"
            if $status != 200
               && join(' ', sort keys %$json) ne 'applied error line';
    }

    return;
}


# What only a condition brings about, and the tags of versions.

sub unasked {
    my ($status, $h, $sent) = @_;

    return 'no condition'
        if $status == 412 && $sent !~ /If-(?:None-)?Match/i
           || $status == 304 && $sent !~ /If-None-Match/i;
    return 'no tag' if $status == 304 && !defined $h->{etag};
    return "tag $h->{etag}"
        if defined $h->{etag} && $h->{etag} !~ /^"[\da-f]+-[\da-f]+"$/;
    return;
}


# ---- sending


# Sends the cases, `connections` (60) at a time.  Returns
#
#   counts   of answers by status
#   kinds    of cases by kind, and by way
#   errors   complaints, each with its case's number

sub run {
    my ($self, %o) = (shift, connections => 60, @_);
    my $addr = pack_sockaddr_in($o{port}, INADDR_LOOPBACK);
    my @cases = @{$o{cases}};
    my $sum = { counts => {}, kinds => {}, errors => [] };
    my %live;

    while (@cases || %live) {
        my $stalled = grep { $_->{way} eq 'stall' } values %live;

        while (@cases && keys(%live) - $stalled < $o{connections}
               && $stalled < $STALLED)
        {
            my $c = $self->make(shift @cases);
            $sum->{kinds}{$_}++ for @$c{qw(kind way)};
            begin($c, $addr);
            $live{fileno $c->{sock}} = $c;
            $stalled++ if $c->{way} eq 'stall';
        }

        my ($rd, $wr) = ('', '');
        my $now = time;
        for my $fd (keys %live) {
            my $c = $live{$fd};
            vec($rd, $fd, 1) = 1;
            vec($wr, $fd, 1) = 1 if @{$c->{pieces}} && $c->{next} <= $now;
        }

        select($rd, $wr, undef, 0.001);
        $now = time;

        for my $fd (keys %live) {
            my $c = $live{$fd};
            take($c, $now) if vec($rd, $fd, 1);
            give($c, $now) if vec($wr, $fd, 1) && !$c->{over};
            next unless $c->{over} || over($c, $now);

            my $e = $c->{error}
                    || judge($c->{in}, $c->{bytes}, $c->{over} eq 'ended',
                             $sum->{counts});
            push @{$sum->{errors}}, "case $c->{n} ($c->{kind}, $c->{way}): $e"
                if $e;
            close $c->{sock};
            delete $live{$fd};
        }
    }

    return $sum;
}


sub begin {
    my ($c, $addr) = @_;

    socket($c->{sock}, PF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
    fcntl($c->{sock}, F_SETFL, O_RDWR | O_NONBLOCK);
    setsockopt($c->{sock}, IPPROTO_TCP, TCP_NODELAY, 1);
    connect($c->{sock}, $addr) || $! == EINPROGRESS or die "connect: $!\n";

    @$c{qw(in over next since)} = ('', '', 0, time);
}


# Reads.  "ended" is the server's word that this was all; after a reset, bytes
# on their way may be lost.

sub take {
    my ($c, $now) = @_;
    my $n = sysread($c->{sock}, $c->{in}, 262_144, length $c->{in});

    if ($n) {
        $c->{since} = $now;
    } elsif (defined $n) {
        $c->{over} = 'ended';
    } elsif ($! != EAGAIN && $! != EINTR) {
        $c->{over} = 'reset';
    }
}


sub give {
    my ($c, $now) = @_;
    my $n = syswrite($c->{sock}, $c->{pieces}[0]);

    if (!defined $n) {
        return if $! == EAGAIN || $! == EINTR;

        # it hung up: what it said before may still be there to be read

        $c->{pieces} = [];
        return;
    }

    $c->{since} = $now;
    substr($c->{pieces}[0], 0, $n) = '';
    return if length $c->{pieces}[0];

    shift @{$c->{pieces}};
    $c->{next} = $now + $c->{delay};
}


# Whether a case is at its end, after all was sent.

sub over {
    my ($c, $now) = @_;
    my $quiet = $now - $c->{since};

    return if @{$c->{pieces}} && $quiet < $HANG_UP;

    if ($c->{way} eq 'stall' || $c->{half}) {
        return if $quiet < $HANG_UP;
        $c->{error} = 'the server does not hang up';

    } elsif ($quiet < ($c->{way} eq 'cut' ? 0 : $QUIET)) {
        return;

    } elsif ($c->{end} eq 'half') {
        shutdown($c->{sock}, 1);
        $c->{half} = 1;
        $c->{since} = $now;
        return;

    } elsif ($c->{end} eq 'reset') {
        setsockopt($c->{sock}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0));
    }

    return $c->{over} = 'left';
}


1;
