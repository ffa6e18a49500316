# Values as variables: the examples of src/http/variables.md as they stand
# there, and where kv_get works, what a variable is, and what is refused.

use strict;
use warnings;

use IO::Socket::INET ();
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep);

use KV::Test;
use KV::Util qw(free_port);

my $PAGE = read_file('src/http/variables.md');


# ---- what each worker says

# Status and body of a new connection's first answer; the second one's header
# tells that it is the worker's.

sub asked {
    my ($port, $path, $worker, %o) = @_;
    my $c = KV::Conn->new(port => $port, from => $o{from});
    $c->send(KV::Conn::request(GET => $path, %o));
    my $r = $c->response('GET');
    $c->send(KV::Conn::request(GET => '/whose'));
    my $whose = $c->response('GET')->{headers}{worker} // 'nobody';
    return "worker $whose, not $worker" if $whose != $worker;
    return "$r->{status} $r->{body}";
}

sub asked_of_each {
    my ($s, $port, $path, %o) = @_;
    return $s->on_each(sub { asked($port, $path, $_[0], %o) });
}


# ---- the examples, all in one server

sub example {
    my ($title) = @_;
    my ($text) = $PAGE =~ /^## \Q$title\E\n.*?^```nginx\n(.*?)^```\n/ms
        or BAIL_OUT("no example: $title");
    return $text;
}

my %port = map { $_ => free_port() } 8081 .. 8086;
my $examples = join '', map { example($_) } 'A block list', 'A flag',
                                            'A canary', 'Certificates';

$examples =~ s/(?<=listen )(808\d)\b/127.0.0.1:$port{$1}/g;
$examples =~ s/(?<=server 127\.0\.0\.1:)(808\d)\b/$port{$1}/g;
$examples =~ s{/srv/www}{%%dir%%/www}g;

my $s = KV::Test->new(examples => $examples, http => <<'END',
    add_header Worker $pid always;
    %%examples%%
    kv_zone zone=certificates:8m path=%%dir%%/certificates;
END
                      servers => <<'END');
    server {
        listen 127.0.0.1:%%stable%%;
        add_header Version stable always;
        return 200 stable;
    }
    server {
        listen 127.0.0.1:%%canary%%;
        add_header Version canary always;
        return 200 canary;
    }
END

@$s{qw(stable canary)} = @port{8085, 8086};
$s->{server} = 'location /certificates/ { kv certificates; }';

my $built = qx(@{[ $s->nginx ]} -V 2>&1);
my $with_tls = system('openssl version >/dev/null 2>&1') == 0
               && $built =~ /http_ssl_module/;
$s->{examples} =~ s/^kv_get cert:.*//ms if !$with_tls;
$s->{http} .= "kv_get line \$line zone=main;\nadd_header Line \$line always;\n";

for ('checkout/checkout', 'checkout.new/checkout') {
    system('mkdir', '-p', "$s->{dir}/www/$_") == 0 or die;
    write_file("$s->{dir}/www/$_/page", $_);
}
write_file("$s->{dir}/www/index.html", 'hello');

$s->start;


# a block list

{
    my $seen = sub { asked_of_each($s, $port{8081}, '/') };
    my $blocked = "403 blocked: too many logins\n";

    is($seen->(), '200 hello', 'block list: nobody is blocked');
    is($s->put('block:127.0.0.1', 'too many logins')->{status}, 200,
       'block list: one is');
    is($seen->(), $blocked, 'block list: on every worker');
    is(asked_of_each($s, $port{8081}, '/', from => '127.0.0.2'), '200 hello',
       'block list: others are not');
    $s->del('block:127.0.0.1');
    is($seen->(), '200 hello', 'block list: let in again');

    # a second may be over before each worker was asked

    ok(wait_for(sub {
        $s->http(PUT => '/kv/block:127.0.0.1?ttl=1', body => 'too many logins');
        return $seen->() eq $blocked;
    }, 20), 'block list: for a second');
    ok(wait_for(sub { $seen->() eq '200 hello' }, 20, 0.1),
       'block list: which is over');
}


# a flag

{
    my $seen = sub { asked_of_each($s, $port{8082}, '/checkout/page') };

    is($seen->(), '200 checkout/checkout', 'flag: off');
    $s->put('flag:checkout', "new\n");
    is($seen->(), '200 checkout.new/checkout', 'flag: on, on every worker');
    $s->put('flag:checkout', 'old');
    is($seen->(), '200 checkout/checkout', 'flag: off again');
}


# a canary

{
    my %part = map { $_ => 1 } 0 .. 9;
    my @from = map { "127.0.0.$_" } 1 .. 40;
    my $count = sub {
        my %seen;
        for my $from (@from) {
            my $c = KV::Conn->new(port => $port{8083}, from => $from);
            $c->send(KV::Conn::request(GET => '/'));
            $seen{$c->response('GET')->{body}}{$from} = 1;
        }
        return \%seen;
    };
    my $put = sub {
        my ($what, @parts) = @_;
        return $s->http(POST => '/batch', body => join '', map {
                   qq({"key":"canary:$_","value":"$what"}\n)
               } @parts)->{status};
    };

    is_deeply([ keys %{$count->()} ], [ 'stable' ], 'canary: nobody');
    is($put->('canary', 0 .. 4), 200, 'canary: five parts of ten');

    my $seen = $count->();
    my @canary = sort keys %{$seen->{canary}};
    my @stable = sort keys %{$seen->{stable}};
    ok(@canary && @stable, 'canary: some clients')
        or diag(@canary . ' of ' . @from);
    is(asked_of_each($s, $port{8083}, '/', from => $canary[0]), '200 canary',
       'canary: one that is');
    is(asked_of_each($s, $port{8083}, '/', from => $stable[0]), '200 stable',
       'canary: one that is not');

    is($put->('canary', 5 .. 9), 200, 'canary: the others');
    is(asked_of_each($s, $port{8083}, '/', from => $stable[0]), '200 canary',
       'canary: has come to all');
    is($put->('127.0.0.1:1', 0 .. 9), 200, 'canary: no such version');
    is(asked_of_each($s, $port{8083}, '/', from => $canary[0]), '200 stable',
       'canary: all back');
}


# certificates

# A certificate for the name, which says which it is.

sub certificate {
    my ($name, $which) = @_;
    my $pem = "$s->{dir}/pem";
    system("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 "
           . "-nodes -days 2 -subj '/CN=$name/O=$which' -keyout $pem.key "
           . "-out $pem.crt >/dev/null 2>&1") == 0 or die 'openssl';
    return read_file("$pem.crt") . read_file("$pem.key");
}

# Which one a new handshake gets.

sub shown {
    my ($name) = @_;
    my $sni = $name ? "-servername $name" : '-noservername';
    return $s->on_each(sub {
        my ($worker) = @_;
        my $out = qx(printf 'GET /whose HTTP/1.0\r\n\r\n' | timeout 30 \\
                     openssl s_client -connect 127.0.0.1:$port{8084} $sni \\
                         -ign_eof 2>&1);
        my ($o) = $out =~ /^subject=.*\bO ?= ?(\w+)/m;
        my ($whose) = $out =~ /^Worker: (\d+)/m;
        return $o // 'none' if !$o || ($whose // 0) == $worker;
        return 'another worker';
    });
}

SKIP: {
    skip('no openssl, or an nginx without TLS', 1) if !$with_tls;

    my $put = sub {
        my ($key, $which) = @_;
        is($s->http(PUT => "/certificates/cert:$key",
                    body => certificate($key, $which))->{status}, 200,
           "certificates: $which of $key is stored");
    };

    is(shown('a.example'), 'none', 'certificates: none yet');
    like($s->log, qr/cannot load certificate "data:"/,
         'certificates: which the log says');

    $put->('a.example', 'first');
    $put->('b.example', 'other');
    is(shown('a.example'), 'first', 'certificates: one name');
    is(shown('b.example'), 'other', 'certificates: another name');

    $put->('a.example', 'second');
    is(shown('a.example'), 'second', 'certificates: a new one, at once');
    is(shown('b.example'), 'other', 'certificates: the other stays');
    is(shown('c.example'), 'none', 'certificates: no such name');

    $put->('default', 'fallback');
    is(shown('c.example'), 'fallback', 'certificates: a default');
    is(shown(''), 'fallback', 'certificates: no name');

    $s->put('line', "a\r\nb: c\n");
    like(scalar qx(printf 'GET / HTTP/1.0\r\n\r\n' | timeout 30 \\
                   openssl s_client -connect 127.0.0.1:$port{8084} \\
                       -servername a.example -ign_eof 2>&1),
         qr/^Line: a  b: c\r\n/m, 'certificates: other variables are lines');
    is($s->get('cert:a.example')->{status}, 404,
       'certificates: they are in a store of their own');
}

$s->done;


# ---- where a variable may be, and what it is

my @get = (q{kv_get $arg_k $v zone=main default=none$arg_d},
           q{kv_get $arg_k $raw zone=main raw},
           q{kv_get up:$arg_k $up zone=main},
           q{kv_get key:$http_key $client zone=main},
           q{kv_get $arg_k$arg_k$arg_k $long zone=main default=none},
           q{kv_get $loop $loop zone=main},
           q{kv_get f:$1:$found $of_found zone=main default=none:$1:$found},
           q{kv_get f:$1:$twice $of_twice zone=main},
           q{kv_get one $one zone=main}, q{kv_get two $two zone=main});
my $curl = qx(curl --version 2>&1) =~ /\bHTTP2\b/
           && $built =~ /http_v2_module/;

my $auth = $built =~ /http_auth_request_module/;

$s = KV::Test->new(auth => $auth ? 'location /auth/ { auth_request /check;
                                                      kv main; }' : '',
                   get => join('', map { "$_;\n" } @get), up => free_port(),
                   h2 => free_port(), kv => 'max_value=1m',
                   http => <<'END',
    %%get%%
    kv_zone zone=two:8m path=%%dir%%/two;
    map $v $mapped { on yes; default no; }
    map $http_key $found { default -; ~^(.+)$ $1; }
    map $1$1 $twice { volatile; ~^(.+)$ $1; }
    limit_req_zone $client zone=limit:1m rate=1r/m;
    log_format values escape=none '$request_uri [$v]';
    add_header Worker $pid always;
    merge_slashes off;
END
                   server => <<'END',
    large_client_header_buffers 4 32k;
    access_log %%dir%%/access.log values;
    location /two/ { kv two; }
    location = /return { return 200 "[$v]"; }
    location = /raw { return 200 $raw; }
    location = /both { return 200 "$one $two"; }
    location = /long { return 200 $long; }
    location = /loop { return 200 "[$loop]"; }
    location = /if { if ($v = on) { return 200 yes; } return 200 no; }
    location = /map { return 200 $mapped; }
    location ~ ^/found/(.*)$ { return 200 $of_found; }
    location ~ ^/twice/(.*)$ { return 200 $of_twice; }
    location = /header { add_header V $v; return 204; }
    location = /redirect { return 302 /to?$v; }
    location = /rewritten { rewrite ^ /return last; }
    location = /error { error_page 418 =200 /return?k=a; return 418; }
    location = /named { error_page 418 =200 @named; return 418; }
    location @named { return 200 "[$v]"; }
    location /limited/ { limit_req zone=limit; kv main; }
    %%auth%%
    location = /check { internal; if ($client) { return 204; } return 403; }
    location /ssi/ { ssi on; ssi_types *; kv main; }
    location = /proxied {
        set $before $v;
        proxy_set_header V $v;
        add_header Before $before always;
        add_header After $v always;
        proxy_pass http://$up/?k=$v;
    }
END
                   servers => <<'END');
    server {
        listen 127.0.0.1:%%h2%% http2;
        location = /header { add_header V $v; return 204; }
    }
END
$s->expect_log(qr/unknown kv zone "three"/);
$s->start;

sub page { my ($path, @o) = @_; $s->http(GET => $path, @o)->{body} }
sub logged { read_file("$s->{dir}/access.log") }


{
    is(page('/return?k=a'), '[none]', 'no value: the default');
    is(page('/return?k=a&d=-x'), '[none-x]', 'which has variables');
    is(page('/raw?k=a'), '', 'without one it is empty');

    $s->put('a', 'on');
    is(page('/return?k=a'), '[on]', 'return');
    is(page('/if?k=a'), 'yes', 'if');
    is(page('/map?k=a'), 'yes', 'map');
    is($s->http(GET => '/header?k=a')->{headers}{v}, 'on', 'add_header');
    like($s->http(GET => '/redirect?k=a')->{headers}{location}, qr{/to\?on$},
         'return 302');
    is(page('/rewritten?k=a'), '[on]', 'behind a rewrite');
    is(page('/error'), '[on]', 'behind error_page');
    is(page('/named?k=a'), '[on]', 'in a named location');

    $s->del('a');
    is(page('/if?k=a') . page('/map?k=a'), 'nono', 'all see the delete');
    ok(wait_for(sub { logged() =~ /^\/map\?k=a \[none\]$/m }, 20),
       'log_format');
    ok(wait_for(sub { logged() =~ /^\/return\?k=a \[on\]$/m }, 20),
       'and before');

    is(page('/loop'), '[]', 'a circle ends');
    like($s->log, qr/cycle while evaluating variable "loop"/,
         'and the log says where');
}


# a map's regular expression changes what $1 is, in the middle of a key

{
    my ($short, $long) = ('s', 'l' x 3000);
    $s->put("f:$_:$_", "value of $_") for $short, $long;
    is(page("/found/$_->[0]", headers => [ "Key: $_->[1]" ]),
       "value of $_->[1]", length($_->[0]) . ' bytes become '
                           . length $_->[1])
        for [ $short, $long ], [ $long, $short ];
    is(page('/found/s', headers => [ 'Key: other' ]), 'none:other:other',
       'in a default, too');

    # one that is evaluated anew has another value then

    $short = 't' x 500;
    $long = $short x 2;
    $s->put("f:$long:$long", 'found');
    is(page("/twice/$short"), 'found', 'a volatile map: is evaluated once');
}


# what no key is

for (['', 'empty'], [' b', 'a blank'], ['%20b', 'a blank'], ['a/b', 'a slash'],
     ['%00', 'NUL'], ['a%0ab', 'a line end'], ['.', 'a dot'])
{
    my ($key, $what) = @$_;
    is(page("/return?k=$key"), '[none]', "a key with $what: the default")
        if $key !~ / /;
}
is(page('/long?k=' . 'x' x 6000), 'none', 'a key of 18,000 bytes: the default');
is($s->put('long' x 1000, 'x')->{status}, 200, 'a long key');
is(page('/return?k=' . 'long' x 1000), '[x]', 'that is one');


# lines

for ([ "on\n", 'on' ], [ "on\r\n", 'on' ], [ "on\n\n", 'on ' ],
     [ "\n", '' ], [ "\r\n", '' ], [ "on\r", 'on ' ], [ "a\nb", 'a b' ],
     [ "a\r\nSet-Cookie: x=y", 'a  Set-Cookie: x=y' ],
     [ "a\0b", 'a b' ], [ "\0\r\n", ' ' ],
     [ "a\r\n\r\n<html>", 'a    <html>' ],
     [ "\t\x7f\xff\"\\", "\t\x7f\xff\"\\" ])
{
    my ($value, $line) = @$_;
    my $name = unpack 'H*', $value;
    $s->put('a', $value);
    is(page('/return?k=a'), "[$line]", "$name: a line");
    is(page('/raw?k=a'), $value, "$name: raw, its bytes");
    my $r = $s->http(GET => '/header?k=a');
    is(join(' ', sort keys %{$r->{headers}}),
       $line eq '' ? 'connection date server' : 'connection date server v',
       "$name: one header");
    is($r->{status}, 204, "$name: and no more");
    unlike(logged(), qr/^(?!\/)/m, "$name: one line in the log");
}


# bytes at all places of a word

{
    my $seed = $ENV{KV_SEED} // int rand 1 << 31;
    my @bytes = map { chr } 0, 10, 13, 1, 9, 11, 12, 14, 127, 128, 141, 142,
                            255, (97) x 8;
    my $wrong = '';
    srand($seed);

    for (1 .. 200) {
        my $value = join '', map { $bytes[rand @bytes] } 0 .. rand 80;
        my $line = $value =~ s/\r?\n\z//r =~ tr/\0\r\n/   /r;
        $s->put('a', $value);
        $wrong .= unpack('H*', $value) . ' '
            if page('/return?k=a') ne "[$line]" || page('/raw?k=a') ne $value;
    }

    is($wrong, '', "random bytes: seed $seed");
}


# a proxied server, and a value that changes in the middle of a request

{
    my $server = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 5,
                                       LocalPort => $s->{up}, ReuseAddr => 1)
        or die "port $s->{up}: $!";
    $s->put('up:a', "127.0.0.1:$s->{up}");
    $s->put('a', "first\r\nEvil: yes\n");

    for my $now ('first  Evil: yes', 'second') {
        my $c = $s->connect;
        $c->send(KV::Conn::request(GET => '/proxied?k=a'));
        my $up = $server->accept;
        my $request = '';
        while ($request !~ /\r\n\r\n/) {
            sysread($up, $request, 4096, length $request) or last;
        }
        my ($v) = $request =~ /^V: (.*)\r$/m;
        is($v, $now, 'proxy_pass goes where a value says; proxy_set_header');
        unlike($request, qr/^Evil/m, 'which is one header');
        $s->put('a', 'second');
        print $up "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx";
        close $up;
        my $h = $c->response('GET')->{headers};
        is("$h->{before}|$h->{after}", "$now|$now",
           'one request, one value, though it changed meanwhile');
    }
}


# other modules' decisions; subrequests

{
    my $status = sub {
        $s->http(GET => $_[0], headers => [ 'Key: x' ])->{status};
    };

    is($status->('/auth/none'), 403, 'auth_request: not known') if $auth;
    is(join(' ', map { $status->('/limited/none') } 1 .. 3), '404 404 404',
       'limit_req_zone: empty, no limit');

    $s->put('key:x', 'client');
    is($status->('/auth/none'), 404, 'auth_request: known, at once') if $auth;
    is(join(' ', map { $status->('/limited/none') } 1 .. 2), '404 503',
       'limit_req_zone: one');

    $s->put('key:x', 'client2');
    is(join(' ', map { $status->('/limited/none') } 1 .. 2), '404 503',
       'limit_req_zone: another');

    $s->put('page', '<!--# echo var="v" -->,'
                    . '<!--# include virtual="/return?k=b" -->');
    $s->put('a', 'one');
    $s->put('b', 'two');
    is(page('/ssi/page?k=a'), 'one,[one]', 'a subrequest has the same value');
}


SKIP: {
    skip('no curl with HTTP/2, or no nginx', 1) if !$curl;
    $s->put('a', "x\r\ny: z\n");
    my $h = qx(curl -s -m 30 --http2-prior-knowledge -D - \\
                    'http://127.0.0.1:$s->{h2}/header?k=a');
    like($h, qr/^HTTP\/2\ 204\ \r\n (?:\S.*\r\n)*
                v:\ x\ \ y:\ z\r\n (?:\S.*\r\n)* \r\n \z/x, 'HTTP/2');
}


# all lengths, to the largest

for my $len (1, 100, 8191 .. 8193, 65_535 .. 65_537, 300_000, 1 << 20) {
    my $value = substr(value('a', 1, $len), 0, $len);
    is($s->put('a', $value)->{status}, 200, "a value of $len bytes");
    ok(page('/raw?k=a') eq $value, 'all of it');
}


# what is counted: once what the log asks for behind an answer is

{
    $s->idle;
    my $before = $s->stats->{variables};
    page('/return?k=a') for 1 .. 3;
    page('/return?k=none') for 1 .. 2;
    page('/return?k=');
    page('/return?k=' . 'x' x 17_000);
    page('/health');
    my $after = $s->stats->{variables};
    is_deeply({ map { $_ => $after->{$_} - $before->{$_} } keys %$after },
              { hits => 3, misses => 2, failed => 0 }, 'reads are counted');
    like(page('/metrics'),
         qr/^nginx_kv_variable_hits_total\{zone="main"\} $after->{hits}$/m,
         'for Prometheus, too');
}


# A process with a connection: what the code returns is its status.

sub child {
    my ($code) = @_;
    my $pid = fork // die "fork: $!";
    return $pid if $pid;
    my $c = $s->connect;
    my $status = eval { $code->(sub {
        $c->send(KV::Conn::request(@_));
        return $c->response($_[0])->{body};
    }) } // 9;
    POSIX::_exit($status);
}

sub statuses { return join ' ', map { waitpid($_, 0); $? >> 8 } @_ }


# many writes, of all sizes, beside readers

{
    my ($done, $writes) = ("$s->{dir}/done", $ENV{KV_ROUNDS} || 300);

    my @writers = map { my $i = $_; child(sub {
        my ($ask) = @_;
        for my $n (1 .. $writes) {
            my $len = int(2 ** (6 + rand 14));
            $ask->(PUT => '/kv/k', body => value('k', "$i$n", $len));
            $ask->(DELETE => '/kv/k') if $n % 10 == 0;
        }
        return 0;
    }) } 1 .. 2;
    my @readers = map { child(sub {
        my ($ask) = @_;
        my ($seen, $torn) = (0, 0);
        while (!-e $done || !$seen) {
            my $body = $ask->(GET => '/raw?k=k');
            next if $body eq '';
            $seen++;
            $torn++ if !defined check_value('k', $body);
        }
        return $torn ? 1 : 0;
    }) } 1 .. 2;

    is(statuses(@writers), '0 0', 'many writes');
    $s->put('k', value('k', 1, 10));
    write_file($done, '');
    is(statuses(@readers), '0 0', 'no reader has a torn value');
}


# batches beside readers: who has seen one write of a batch sees the others

{
    my $done = "$s->{dir}/batches";
    my $batch = sub {
        my ($n) = @_;
        return join '', map { qq({"key":"$_","value":"$n"}\n) } 'one',
               (map { "filler$_" } 1 .. 500), 'two';
    };
    $s->http(POST => '/batch', body => $batch->(0));

    my $writer = child(sub {
        my ($ask) = @_;
        my $n = 0;
        $ask->(POST => '/batch', body => $batch->(++$n)) while !-e $done;
        return 0;
    });
    my @readers = map { child(sub {
        my ($ask) = @_;
        my ($last, %seen) = 0;
        while (keys %seen < 30) {
            my ($one, $two) = split ' ', $ask->(GET => '/both');
            return 1 if $one < $last || $two < $one;
            $last = $two;
            $seen{$two} = 1;
        }
        return 0;
    }) } 1 .. 3;

    is(statuses(@readers), '0 0 0', 'batches: each is seen as one');
    write_file($done, '');
    is(statuses($writer), '0', 'batches: all are done');
}


# what is freed while nobody reads: more than there is room for

{
    $s->on_each(sub { asked($s->{port}, '/return?k=a', $_[0]) });
    my %n;
    $n{$s->put('k', value('k', $_, 1 << 20))->{status}}++ for 1 .. 40;
    is_deeply(\%n, { 200 => 40 }, 'a read keeps no memory');
}


# a reload

{
    $s->put('a', 'of main');
    $s->http(PUT => '/two/a', body => 'of two');
    is(asked_of_each($s, $s->{port}, '/return?k=a'), '200 [of main]',
       'before a reload');

    $s->{get} =~ s/(\$v) zone=main default=none/$1 zone=two default=other/;
    ok(defined $s->reload, 'a reload with another zone and default');
    is(asked_of_each($s, $s->{port}, '/return?k=a'), '200 [of two]',
       'another zone');
    is(asked_of_each($s, $s->{port}, '/return?k=b'), '200 [other]',
       'another default');

    $s->{get} =~ s/zone=two/zone=three/;
    ok($s->reload(qr/unknown kv zone "three"/), 'no such zone: refused');
    is(asked_of_each($s, $s->{port}, '/return?k=a'), '200 [of two]',
       'all goes on');
}

$s->done;


# ---- what is refused

{
    my $s = KV::Test->new;

    for (
        [ 'kv_get a $a zone=main;' ],
        [ 'kv_get a $a zone=main "default=a b" raw;' ],
        [ 'kv_get a $a raw default= zone=main;' ],
        [ 'kv_get a $A_9 zone=main;' ],
        [ 'kv_get a $a', qr/"kv_get" needs the parameter "zone=name"/ ],
        [ 'kv_get a', qr/invalid number of arguments in "kv_get"/ ],
        [ 'kv_get "" $a zone=main', qr/the key of "kv_get" is empty/ ],
        [ 'kv_get a a zone=main',
          qr/invalid variable "a" of "kv_get": .*like "\$flag"/ ],
        [ 'kv_get a $ zone=main', qr/invalid variable "\$" of "kv_get"/ ],
        [ 'kv_get a $a-b zone=main',
          qr/invalid variable "\$a-b" .* may have letters, digits and "_"/ ],
        [ 'kv_get a $1 zone=main',
          qr/invalid variable "\$1" .*, and begins with no digit/ ],
        [ 'kv_get a $a zone=nope',
          qr/unknown kv zone "nope" of "kv_get".* in .*t\.conf:\d+/ ],
        [ 'kv_get a $a zone=', qr/needs the parameter "zone=name"/ ],
        [ 'kv_get a $a zone=main zone=main', qr/"zone=main": .*given twice/ ],
        [ 'kv_get a $a zone=main default=x default=',
          qr/"default=": .*given twice/ ],
        [ 'kv_get a $a zone=main raw raw', qr/"raw": .*given twice/ ],
        [ 'kv_get a $a zone=main ttl=1',
          qr/unknown parameter "ttl=1" of "kv_get": there are zone=/ ],
        [ 'kv_get a $a zone=main rawer',
          qr/unknown parameter "rawer" of "kv_get"/ ],
        [ 'kv_get $nope $a zone=main', qr/unknown "nope" variable/ ],
        [ 'kv_get a $a zone=main default=$nope', qr/unknown "nope" variable/ ],
        [ 'kv_get a $a zone=main; kv_get b $a zone=main',
          qr/variable "\$a" of "kv_get" is defined before/ ],
        [ 'map $uri $a { default x; } kv_get b $a zone=main',
          qr/variable "\$a" of "kv_get" is defined before/ ],
        [ 'kv_get b $a zone=main; map $uri $a { default x; }',
          qr/variable "\$a" of "kv_get" is defined again.* in .*t\.conf:\d+/ ],
        [ 'kv_get a $uri zone=main', qr/the duplicate "uri" variable/ ],
        [ 'server { kv_get a $a zone=main; }',
          qr/"kv_get" directive is not allowed here/ ],
    ) {
        my ($conf, $refused) = @$_;
        $s->{http} = $conf =~ /[;}]$/ ? $conf : "$conf;";
        my ($status, $said) = $s->test_config;
        is($status == 0, !$refused, $conf) or diag($said);
        like($said, $refused, 'which is said') if $refused;
    }

    # where zones and variables stand does not matter, nor does "set"

    $s->{conf} = <<'END';
events { }
http {
    access_log off;
    %%temp%%
    server { listen %%port%%; set $flag 1; return 200 $flag; }
    kv_get a $flag zone=main;
    server { listen %%port%%; server_name b; return 200 $flag; }
    kv_zone zone=main:8m path=%%path%%;
}
END
    my ($status, $said) = $s->test_config;
    is($status, 0, 'the zone behind all') or diag($said);
}

done_testing();
