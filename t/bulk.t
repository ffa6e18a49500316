# POST /bulk: what its lines do, what is said of bad ones, in which shapes they
# come, and what is there when the load ends in the middle.

# long

use strict;
use warnings;

use JSON::PP ();
use List::Util qw(min);
use MIME::Base64 qw(encode_base64);
use Test::More;
use Time::HiRes qw(sleep time);

use KV::Frames;
use KV::Test;
use KV::Util qw(free_port);

my $s = KV::Test->new(zone => '64m', kv => 'max_value=1m', h2 => free_port(),
                      http => 'kv_zone zone=short:4m path=%%dir%%/short ttl=60s
                                   segment=1m max_value=64k;',
                      server => 'location /short/ { kv short; }
                          location = /short-bulk { kv_bulk short; }
                          location = /hasty { kv_bulk main;
                                              client_body_timeout 1s; }
                          location = /mirrored { kv_bulk main;
                                                 mirror /mirror; }
                          location = /mirror { internal; return 204; }',
                      servers => 'server {
                          listen 127.0.0.1:%%h2%% http2;
                          location = /bulk { kv_bulk main; }
                      }');
$s->start;


sub line { return JSON::PP->new->utf8->canonical->encode({@_}) . "\n" }

# `n` puts of keys with a prefix.

sub lines {
    my ($prefix, $n, $value) = @_;
    return join '', map { qq({"key":"$prefix$_","value":"$value$_"}\n) }
                        1 .. $n;
}

sub bulk {
    my ($body, %o) = @_;
    return $s->http(POST => $o{path} || '/bulk', body => $body, timeout => 60,
                    %o);
}

sub answer {
    my ($r, $status, $json, $name) = @_;
    is_deeply([ $r->{status}, $r->{headers}{'content-type'},
                eval { JSON::PP::decode_json($r->{body}) } || $r->{body} ],
              [ $status, 'application/json', $json ], $name);
}

sub loads {
    my ($body, $lines, $name, %o) = @_;
    answer(bulk($body, %o), 200, { lines => $lines, applied => $lines }, $name);
}

sub is_value {
    my ($key, $value, $name) = @_;
    my $r = $s->get($key);
    ok($r->{status} == 200 && $r->{body} eq $value, $name)
        or diag("$key: $r->{status}, " . length($r->{body}) . ' bytes: '
                . substr $r->{body}, 0, 60);
}

sub is_none { is($_[0]->get($_[1])->{status}, 404, $_[2]) }

# Which of the keys are there, with the value of lines(); how many.

sub found {
    my ($prefix, $n, $value) = @_;
    my ($c, @found) = ($s->connect);
    for (my $from = 1; $from <= $n; $from += 100) {
        my @i = grep { $_ <= $n } $from .. $from + 99;
        $c->send(join '', map { KV::Conn::request(GET => "/kv/$prefix$_") } @i);
        push @found, grep { $c->response('GET')->{body} eq "$value$_" } @i;
    }
    return @found;
}

sub stored { return scalar(my @found = found(@_)) }


# ---- what lines do

loads(line(key => 'a', value => 'one') . line(key => 'b', base64 => 'AP8K')
      . line(op => 'put', key => 'c', value => "\x{e9}\x{1f600}\0"), 3, 'puts');
is_value('a', 'one', 'text');
is_value('b', "\0\xff\n", 'base64');
is_value('c', "\xc3\xa9\xf0\x9f\x98\x80\0", 'UTF-8');

loads(line(op => 'delete', key => 'a') . line(op => 'delete', key => 'nothing'),
      2, 'deletes, of what is not there, too');
is_none($s, 'a', 'deleted');

loads(join('', map { line(key => 'd', value => "v$_") } 1 .. 700)
      . line(op => 'delete', key => 'e') . line(key => 'e', value => 'e')
      . line(key => 'f', value => 'f') . line(op => 'delete', key => 'f'),
      704, 'one key many times');
is_value('d', 'v700', 'the last line counts');
is_value('e', 'e', 'a put after a delete');
is_none($s, 'f', 'a delete after a put');

# as a list of keys has it

loads('{"key":"l","size":1,"version":"1-2","value":"x"}', 1, 'a listed key');

# keys that expire

sub max_age {
    my ($key) = @_;
    my $h = $s->get($key)->{headers}{'cache-control'};
    return $h =~ /max-age=(\d+)/ ? $1 : $h;
}

loads(line(key => 't1', value => 'x', ttl => 1000)
      . line(key => 't2', base64 => 'AAEC', ttl => 1, size => 1)
      . line(key => 't3', value => 'x', expires => int(time) + 2000)
      . line(key => 't4', value => 'x')
      . line(key => 't4', value => 'y', expires => int(time) - 10)
      . line(key => 't5', value => 'x' x 100_000, ttl => 315360000), 6, 'ttl');
cmp_ok(abs(max_age('t1') - 990), '<=', 10, 'ttl');
cmp_ok(abs(max_age('t3') - 1990), '<=', 10, 'expires');
cmp_ok(max_age('t5'), '>', 315359900, 'in ten years');
is(max_age('l'), 'no-cache', 'others do not expire');
is_none($s, 't4', 'what has expired is deleted');
ok(wait_for(sub { $s->get('t2')->{status} == 404 }, 10, 0.05), 'it expires');
loads(line(key => 'short', value => 'x'), 1, 'ttl= of a zone',
      path => '/short-bulk');
like($s->http(GET => '/short/short')->{headers}{'cache-control'},
     qr/max-age=\d+/, 'is that of its lines');

loads('', 0, 'no lines');
answer(bulk("\n \r\n" . line(key => 'g', value => 'g') =~ s/\n/\r\n/r . "\n\n"),
       200, { lines => 5, applied => 1 }, 'CRLF, and empty lines');
is_value('g', 'g', 'CRLF');
loads("\xef\xbb\xbf" . line(key => 'h', value => 'h'), 1, 'a mark of UTF-8');
loads('{"key":"i","value":"i"}', 1, 'no newline at the end');
is_value('i', 'i', 'the last line');

loads(lines('many', 5000, 'v'), 5000, '5,000 lines');
is(stored('many', 5000, 'v'), 5000, 'all of them');

# on one connection, one behind the other

{
    my $c = $s->connect;
    my @bodies = map { line(key => 'p', value => "p$_") } 1 .. 5;
    $c->send(join '', map { KV::Conn::request(POST => '/bulk', body => $_) }
                          @bodies);
    answer($c->response, 200, { lines => 1, applied => 1 }, 'pipelined')
        for @bodies;
    is_value('p', 'p5', 'in their order');
}


# ---- bad lines

my $good = line(key => 'good', value => 'good');
my $large = 'x' x (1 << 20);

loads(line(key => 'large', value => $large), 1, 'the largest value');
is_value('large', $large, 'as text');
loads(line(key => 'large', base64 => encode_base64("\xff" x (1 << 20), '')), 1,
      'in base64');
is_value('large', "\xff" x (1 << 20), 'as bytes');
loads(line(key => 'large', value => "\x{e9}" x (1 << 19)), 1, 'in UTF-8');
is_value('large', "\xc3\xa9" x (1 << 19), 'as UTF-8');

for ([ 400, 'invalid JSON at byte 1', 'x' ],
     [ 400, 'not a JSON object', '[]' ],
     [ 400, 'a member is no string or number', '{"key":"a","value":{}}' ],
     [ 400, 'a member is no string or number', '[' x 100_000 ],
     [ 400, 'a member stands twice', '{"key":"a","key":"a","value":"b"}' ],
     [ 400, 'unknown member by', '{"key":"a","value":"b","by":1}' ],
     [ 400, 'key is missing', '{"value":"b"}' ],
     [ 400, 'key cannot be empty', '{"key":"","value":"b"}' ],
     [ 400, 'key contains invalid characters', '{"key":"a/b","value":"b"}' ],
     [ 400, 'key contains invalid characters', '{"key":"..","value":"b"}' ],
     [ 400, 'key too long', '{"key":"' . 'k' x 16385 . '","value":"b"}' ],
     [ 400, 'op is not put or delete', '{"op":"incr","key":"a"}' ],
     [ 400, 'value is missing', '{"key":"a"}' ],
     [ 400, 'value cannot be empty', '{"key":"a","value":""}' ],
     [ 400, 'invalid ttl', '{"key":"a","value":"b","ttl":0}' ],
     [ 400, 'invalid expires',
       '{"key":"a","value":"b","expires":9999999999}' ],
     [ 400, 'invalid UTF-8 at byte 20', qq({"key":"a","value":"\xff"}) ],
     [ 413, 'value too large', qq({"key":"a","value":"x$large"}) ],
     [ 413, 'line too long', '{' . ' ' x 1_500_000 ],
     [ 413, 'line too long', '{' . ' ' x 3_000_000 ])
{
    my ($status, $error, $line) = @$_;
    my $said = substr $line, 0, 40;

    answer(bulk("$good$line\n$good"), $status,
           { line => 2, error => $error, applied => 1 }, "$error: $said");
}

# before it, and behind it

for my $n (0, 1, 63, 64, 65, 640, 641, 3000) {
    my $r = bulk(lines("x$n-", $n, 'v') . "\nx\n" . lines("y$n-", 600, 'v'));
    answer($r, 400, { line => $n + 2, error => 'invalid JSON at byte 1',
                      applied => $n }, "a bad line behind $n");
    is(stored("x$n-", $n, 'v'), $n, "the $n are there");
    is(stored("y$n-", 600, 'v'), 0, 'what is behind it is not');
}

# a large body is not read to its end for it

{
    my $c = $s->connect;
    $c->send("POST /bulk HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n"
             . "\r\n${good}x\n");
    my $r = $c->response;
    answer($r, 400, { line => 2, error => 'invalid JSON at byte 1',
                      applied => 1 }, 'at once, though more was announced');
    is($r->{headers}{connection}, 'close', 'and the connection closes');
}


# nor is what is sent as chunks that are none

for my $first ('', lines('chunk', 2, 'v')) {
    my $c = $s->connect;
    my $n = $first ? 2 : 0;
    my $chunk = "${first}{\"key\":\"chunk3\",";
    $c->send("POST /bulk HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
             . "\r\n" . ($n ? sprintf "%x\r\n%s\r\n", length $chunk, $chunk
                          : ''));
    ok(wait_for(sub { stored('chunk', $n, 'v') == $n }, 10), "$n are there");
    $c->send("no length\r\n$good");
    my $r = $c->response;
    answer($r, 400, { line => $n + 1, error => 'invalid request body',
                      applied => $n }, "a malformed chunk behind $n");
    is($r->{headers}{connection}, 'close', 'its connection closes');
}


# ---- requests that are none

sub is_text {
    my ($r, $status, $body, $name) = @_;
    is_deeply([ @$r{qw(status body)}, $r->{headers}{'content-type'} ],
              [ $status, $body, 'text/plain' ], $name);
}

for my $method (qw(GET PUT DELETE)) {
    my $r = $s->http($method => '/bulk');
    is_text($r, 405, "method not allowed\n", $method);
    is($r->{headers}{allow}, 'POST', 'Allow');
}

is_text(bulk($good, path => '/bulk?ttl=1'), 400,
        "a bulk load takes no arguments\n", 'arguments');
is_text(bulk($good, headers => ['If-None-Match: *']), 501,
        "a bulk load cannot be conditional\n", 'a condition');
is_text(bulk($good, path => '/mirrored'), 500, "internal server error\n",
        'a body that another module reads');
like($s->log, qr/read before "kv_bulk" could take it/, 'the log tells of it');


# ---- in which shapes they come

my $body = lines('shape', 300, 'v');

loads($body, 300, 'chunked', body => undef,
      chunks => [ unpack '(a7)*', $body ]);
loads($body, 300, 'in large chunks', body => undef,
      chunks => [ unpack '(a3000)*', $body ]);

{
    my $c = $s->connect;
    my $small = lines('byte', 5, 'v');
    for (split //, KV::Conn::request(POST => '/bulk', body => $small)) {
        $c->send($_);
        sleep(0.0005);
    }
    answer($c->response, 200, { lines => 5, applied => 5 }, 'byte by byte');
}

{
    my $c = $s->connect;
    $c->send("POST /bulk HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
             . 'Content-Length: ' . length($body) . "\r\n\r\n");
    is($c->response->{status}, 100, '100-continue');
    $c->send($body);
    answer($c->response, 200, { lines => 300, applied => 300 }, 'and then');
}

SKIP: {
    skip('this nginx does not speak HTTP/2', 4)
        if qx(@{[ KV::Test::nginx() ]} -V 2>&1) !~ /http_v2_module/;

    # no more than the window that nginx gives a stream at first

    my $h2 = KV::Frames->new(port => $s->{h2});
    my @pieces = unpack '(a1000)*', lines('h2-', 1500, 'v');
    $h2->headers(0, 1, POST => '/bulk');
    my ($got, $status) = ('', 0);

    my $read = sub {
        my ($f) = @_;
        $status = KV::Frames::status($f->{payload})
            if $f->{type} == KV::Frames::HEADERS;
        $got .= $f->{payload} if $f->{type} == KV::Frames::DATA;
        return $f->{flags} & KV::Frames::END_STREAM && $f->{stream} == 1;
    };

    my $last = pop @pieces;
    $h2->data(1, $_) for @pieces;
    $h2->data(1, $last, KV::Frames::END_STREAM);
    $h2->read_until($read);
    is($status, 200, 'HTTP/2');
    is($got, qq({"lines":1500,"applied":1500}\n), 'all of it');
    is(stored('h2-', 1500, 'v'), 1500, 'is there');

    # a stream that breaks off

    $h2->headers(0, 3, POST => '/bulk');
    $h2->data(3, lines('reset', 10, 'v') . '{"key":"reset11","value":"v1');
    ok(wait_for(sub { stored('reset', 10, 'v') == 10 }, 10), 'HTTP/2: applied');
    $h2->reset_stream(3);
    $h2->close;
}


# ---- clients that are slow, or leave

{
    my $c = $s->connect;
    $c->send("POST /bulk HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
             . "\r\n");
    my $used = $s->store->{zone}{used};

    for my $i (1 .. 3) {
        my $text = lines("slow$i-", 20, 'v') . '{"key":"half","value":"';
        $text = qq(h"}\n$text) if $i > 1;
        $c->send(sprintf "%x\r\n%s\r\n", length $text, $text);
        ok(wait_for(sub { stored("slow$i-", 20, 'v') == 20 }, 10),
           'what came is applied while the rest is waited for');
        ok(wait_for(sub { $s->store->{uploads}{bytes} == 0 }, 10),
           'and nothing is held');
    }

    $c->reset;
    is(stored('slow3-', 20, 'v'), 20, 'what was applied stays');
    is_value('half', 'h', 'half a line is none');
    is_none($s, 'never', 'nothing else');
}

{
    my $c = $s->connect;
    $c->send("POST /hasty HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
             . $good);
    ok($c->closed(30), 'client_body_timeout ends it');
}

# as many clients as lines, all at once

{
    my @c = map { $s->connect } 1 .. 50;
    my $n = 0;
    $_->send(KV::Conn::request(POST => '/bulk',
                               body => lines('c' . $n++ . '-', 200, 'v')))
        for @c;
    my $ok = grep { $_->response->{body}
                    eq qq({"lines":200,"applied":200}\n) } @c;
    is($ok, 50, 'fifty clients');
    is((grep { stored("c$_-", 200, 'v') == 200 } 0 .. 49) + 0, 50,
       'each has all');
}


# ---- memory

sub rss {
    my $sum = 0;
    for my $pid ($s->workers) {
        $sum += $1 if read_file("/proc/$pid/status") =~ /RssAnon:\s+(\d+)/;
    }
    return $sum;
}

{
    my $text = join '', map { line(key => "m$_", value => 'v' x 200) } 1 .. 300;
    my $large = line(key => 'm0', base64 => encode_base64('v' x 700_000, ''));
    my @chunks = (($text) x 20, $large) x 10;
    loads(undef, 60_010, 'for once', chunks => \@chunks);
    my ($used, $rss) = ($s->used, rss());

    # another worker may have the next load, which is its first

    for (1 .. 4) {
        loads(undef, 240_040, '60 MB', chunks => [ (@chunks) x 4 ]);
        my $more = rss() - $rss;
        $rss += $more;
        next if $more >= 4000 && $_ < 4;
        cmp_ok($more, '<', 4000, 'no memory of workers is left behind');
        last;
    }

    ok(wait_for(sub { $s->del('nothing'); $s->used < $used + 200_000 }, 10,
                0.1), 'nor of the zone');
}

my $stats = $s->stats->{routes}{bulk};
is_deeply([ sort keys %$stats ], [qw(DELETE GET POST PUT)], 'statistics');
cmp_ok($stats->{POST}{status}{200}, '>', 70, 'by status');
cmp_ok($stats->{POST}{status}{413}, '==', 3, 'each');

$s->done;


# ---- the zone is full

$s = KV::Test->new(zone => '8m', kv => 'max_value=64k');
$s->start;

{
    my $value = 'v' x 1000;
    my $r = bulk(lines('full', 20_000, $value));
    my $json = JSON::PP::decode_json($r->{body});
    is($r->{status}, 507, 'a full zone');
    is($json->{error}, 'zone is full', 'is the reason');
    is($json->{line}, $json->{applied} + 1, 'at the first line without memory');
    cmp_ok($json->{applied}, '>', 3000, 'not at once');
    is(stored('full', 20_000, $value), $json->{applied}, 'others are there');

    my $n = $json->{applied};
    loads(join('', map { line(op => 'delete', key => "full$_") } 1 .. $n), $n,
          'deletes go through');
    is($s->store->{keys}, 0, 'all of them');
    loads(lines('full', 3000, $value), 3000, 'and there is space again');
    loads(lines('full', 3000, $value), 3000, 'for the same keys, too')
        for 1 .. 3;
}

$s->done;


# ---- the disk is full

SKIP: {
    $s = KV::Test->new(kv => 'segment=1m max_value=64k snapshot=off');
    my $mnt = $s->mount(disk => 'size=10m')
        // skip('a full disk needs root, who may mount a tmpfs', 1);
    $s->{path} = "$mnt/data";
    $s->start;

    my $r = bulk(lines('disk', 20_000, 'v' x 1000));
    my $json = JSON::PP::decode_json($r->{body});
    is("$r->{status} $json->{error}", '507 disk is full', 'a full disk');
    cmp_ok($json->{line}, '<=', $json->{applied} + 1, 'the line');
    is(stored('disk', $json->{line} - 1, 'v' x 1000), $json->{line} - 1,
       'all before that line are applied');
    is($s->store->{keys}, $json->{applied}, 'as many as it says');
    $s->done;
}


# ---- long lines that do not end

$s = KV::Test->new(workers => 1, kv => 'max_value=1m');
$s->start;

{
    my $half = "POST /bulk HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n"
               . "\r\n$good" . '{"key":"' . 'x' x 1_200_000;
    my @c = map { $s->connect } 1 .. 45;
    $_->send($half) for @c;
    sleep(1.1);
    push @c, map { $s->connect } 1 .. 5;
    $_->send($half) for @c[-5 .. -1];

    my $line = line(key => 'long', value => $large);
    loads($line x 3, 3, 'beside half lines that take all memory');

    my $slow = grep { $_->ready(0, 0.1)
                      && $_->response->{body} eq qq({"line":2,"error":"upload )
                         . qq(too slow","applied":1}\n) } @c;
    cmp_ok($slow, '>', 0, 'of which some are given up');
    cmp_ok($slow, '<', 40, 'but not all');
    cmp_ok(rss(), '<', 100_000, 'and memory is bounded');
}

$s->done;


# ---- the disk is full: a put is refused before a delete of its group is done

SKIP: {
    $s = KV::Test->new(fault => 1,
                       kv => 'segment=1m max_value=64k snapshot=off');
    my $mnt = $s->mount(disk => 'size=10m')
        // skip('a full disk needs root, who may mount a tmpfs', 1);
    $s->{path} = "$mnt/data";
    $s->start;

    my $value = 'v' x 60_000;
    $s->fill_disk($mnt, sub { $s->put("d$_[0]", $value) });
    $s->fault(hold => 1);
    my $c = $s->connect;
    $c->send(KV::Conn::request(POST => '/bulk',
                               body => line(op => 'delete', key => 'd0')
                                       . line(key => 'new', value => $value)));
    ok($s->held, 'a delete waits for the disk');

    # which has the worker look for what is done

    is($s->http(GET => '/health')->{status}, 503, '... that is full');
    $s->fault(hold => undef);

    my $r = $c->response('POST');
    answer($r, 507, { line => 2, error => 'disk is full', applied => 1 },
           'the put behind it in the group is refused');
    is_none($s, 'd0', 'the delete is done');
    $s->done;
}


# ---- the line that is named, where a load is ended from outside

# A worker that ends refuses a line that was read and waits for memory: it is
# the first that is not applied.

$s = KV::Test->new(fault => 1, workers => 1, zone => '8m',
                   kv => 'max_value=64k');
$s->start;

{
    my $value = 'v' x 1000;
    my $n = JSON::PP::decode_json(bulk(lines('full', 20_000, $value))->{body})
                ->{applied};
    $s->del("full$_") for 1 .. 3;

    $s->fault(hold => 1);
    my $c = $s->connect;
    $c->send(KV::Conn::request(POST => '/bulk',
                               body => lines('more', 12, $value)));
    ok($s->held, 'a zone with space for some lines, which are being written');

    my ($worker) = $s->workers;
    my $from = length $s->log;
    kill('TERM', $worker);
    wait_for(sub { substr($s->log, $from) =~ / $worker#.*: exiting$/m }, 10);
    $s->fault(hold => undef);

    my $json = JSON::PP::decode_json($c->response->{body});
    my $applied = $json->{applied};
    $c->close;
    wait_for(sub { $s->healthy && !grep { $_ == $worker } $s->workers }, 10);

    cmp_ok($applied, '<', 12, 'SIGTERM, where one had to wait for memory');
    is_deeply($json, { line => $applied + 1, error => 'store is unavailable',
                       applied => $applied }, 'it is the one that is named');
    is(stored('more', 12, $value), $applied, 'those before it are there');
}

$s->done;

# What was wrong with a load is said, also if others need the memory of its line
# before all that came in front of that is written.

$s = KV::Test->new(fault => 1, workers => 1, kv => 'max_value=1m');
$s->start;

{
    my $head = "POST /bulk HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n"
               . "\r\n$good";
    my $half = '{"key":"' . 'x' x 1_200_000;

    loads($good, 1, 'a log that is open');
    $s->fault(hold => 1);

    my $bad = $s->connect;
    $bad->send("$head$half");
    ok($s->held, 'a line is being written');
    $s->has_read;
    sleep(1.1);
    $bad->send("\n");
    $s->has_read;

    my @c = map { $s->connect } 1 .. 45;
    $_->send("$head$half") for @c;
    $s->has_read;
    $s->fault(hold => undef);

    like($bad->response->{body},
         qr/^\{"line":2,"error":"invalid JSON at byte \d+","applied":1\}$/,
         'the line behind it is bad');
}

$s->done;


# ---- each is answered when the server ends, however many there are

# more than a worker answers in one round of its event loop

$s = KV::Test->new(fault => 1, workers => 1);
$s->start;
loads($good, 1, 'a log that is open');

# The master kills a worker that takes three seconds, which a busy machine does:
# then once more.

$s->expect_log(qr/worker process \d+ exited on signal 9/);

for my $try (1 .. 4) {
    $s->fault(hold => 1);
    my @c = map { $s->connect } 1 .. 900;
    my $n = 0;
    $_->send(KV::Conn::request(POST => '/bulk',
                               body => lines("e$try-" . $n++ . '-', 60, 'v')))
        for @c;
    ok($s->held && $s->has_read, 'nine hundred loads');
    my $from = length $s->log;
    kill('TERM', $s->{pid});
    wait_for(sub { substr($s->log, $from) =~ /: exiting$/m }, 10);
    $s->fault(hold => undef);

    my @applied = map { my $r = eval { $_->response };
                        $r ? $r->{body} =~ /"applied":(\d+)/ : undef } @c;
    my $all = 900 == grep { defined } @applied;
    is($s->wait_exit, 0, 'nginx ends');
    $s->start;
    next if !$all && $try < 4;
    ok($all, 'all are answered');
    is((grep { stored("e$try-$_-", 60, 'v') == $applied[$_] }
             grep { $_ % 20 == 0 } 0 .. 899) + 0, 45,
       'what they say is applied is there, and no more');
    last;
}

$s->done;


# ---- where a sync takes long, more lines share one

$s = KV::Test->new(fault => 1, http => 'kv_types *;');
$s->start;
$s->fault(slow => 20);
{
    my ($each, $tries) = (0, 0);

    # fewer come in that time where the machine stands still

    while ($each < 320 && $tries++ < 5) {
        my $before = $s->store->{commit};
        my $r = bulk(lines('slow', 12_000, 'v'));
        my $now = $s->store->{commit};
        $each = ($now->{operations} - $before->{operations})
                / ($now->{batches} - $before->{batches})
            if $r->{status} == 200;
    }

    cmp_ok($each, '>=', 320, 'a slow disk has large groups');

    # 128 KiB at most, of lines that count 332 bytes or more

    my $before = $s->store->{commit};
    my $type = 'a/' . 'b' x 198;
    bulk(join '', map { qq({"key":"t$_","value":"v","type":"$type"}\n) }
                      1 .. 5000);
    my $now = $s->store->{commit};
    cmp_ok(5000 / ($now->{batches} - $before->{batches}), '<', 400,
           'types count in them');
}
$s->fault(slow => undef);
$s->done;


# ---- deletes between puts are not taken for writes of others, for which a load
# would slow down to a third

$s = KV::Test->in_memory;
$s->start;
{
    my @bodies = (lines('p', 20_000, 'v'),
                  join '', map { qq({"key":"p$_","value":"v"}\n)
                                 . qq({"op":"delete","key":"p$_"}\n) }
                               1 .. 10_000);
    my @least = (99, 99);

    for (1 .. 10) {
        for my $i (0, 1) {
            my $begun = time;
            bulk($bodies[$i]);
            $least[$i] = min($least[$i], time - $begun);
        }
        last if $least[1] < 2 * $least[0];
    }

    cmp_ok($least[1], '<', 2 * $least[0], 'they are as quick as puts alone');
}
$s->done;


# ---- the store takes no writes

$s = KV::Test->new(fault => 1);
$s->start;
loads($good, 1, 'a store');
$s->fault(fdatasync => 1);
$s->expect_log(qr/syncing .* failed/);
answer(bulk("$good$good"), 503,
       { line => 1, error => 'store is unavailable', applied => 0 },
       'its disk fails');
is_text(bulk($good), 503, "store is unavailable\n", 'and then');
$s->stop('KILL');
$s->check_log;


# ---- reloads, stops, and deaths in the middle

$s = KV::Test->new(zone => '64m');
$s->start;

# The head of a load, whose first lines are applied; and the rest.

sub half {
    my ($prefix, $n) = @_;
    my $c = $s->connect;
    my $body = lines($prefix, $n, 'v');
    my $first = lines($prefix, $n / 2, 'v');
    $c->send("POST /bulk HTTP/1.1\r\nHost: x\r\nContent-Length: "
             . length($body) . "\r\n\r\n$first");
    ok(wait_for(sub { stored($prefix, $n / 2, 'v') == $n / 2 }, 10),
       "$prefix: half of it is applied");
    return ($c, substr $body, length $first);
}

{
    my ($c, $rest) = half('reload', 1000);
    my $from = $s->workers;
    kill('HUP', $s->{pid});
    ok(wait_for(sub { $s->workers > $from }, 10), 'a reload');
    sleep(0.2);
    $c->send($rest);
    answer($c->response, 200, { lines => 1000, applied => 1000 },
           'the old worker goes on');
    is(stored('reload', 1000, 'v'), 1000, 'to the end');
    ok(wait_for(sub { $s->workers == 2 }, 10), 'and ends');
}

{
    my ($c, $rest) = half('quit', 1000);
    kill('QUIT', $s->{pid});
    ok(wait_for(sub { !eval { $s->connect } }, 10), 'a graceful quit');
    $c->send($rest);
    answer($c->response, 200, { lines => 1000, applied => 1000 },
           'it goes on, too');
    is($s->wait_exit, 0, 'and nginx ends');
    $s->start;
    is(stored('quit', 1000, 'v'), 1000, 'all of it is there');
}

{
    my ($c) = half('term', 1000);
    is($s->stop('TERM'), 0, 'SIGTERM ends it at once');
    $s->start;
    is(stored('term', 500, 'v'), 500, 'what was applied is there');
}

# A load rests beside a client that reads, and what it has built is its worker's
# meanwhile, also of one that is to quit.

for my $round (1 .. 6) {
    my ($body, $reader) = (lines("rest$round-", 1000, 'v'), $s->connect);
    my $first = lines("rest$round-", 500, 'v');
    my $c = $s->connect;
    my $from = $s->workers;
    $c->send("POST /bulk HTTP/1.1\r\nHost: x\r\nContent-Length: "
             . length($body) . "\r\n\r\n$first");

    wait_for(sub {
        $reader->send(KV::Conn::request(GET => "/kv/rest$round-500"));
        return $reader->response('GET')->{status} == 200;
    }, 20, 0);

    kill('HUP', $s->{pid});
    ok(wait_for(sub { $s->workers > $from }, 10), "reload $round beside it");
    $c->send(substr $body, length $first);
    answer(scalar $c->response, 200, { lines => 1000, applied => 1000 },
           'it goes on');
    ok(wait_for(sub { $s->workers == 2 }, 10), 'and its worker ends');
}

# what it says is applied is on disk, whenever the processes die

$s->expect_log(qr/worker process \d+ exited on signal 9/);

for my $round (1 .. 8) {
    my $n = 10_000;
    my $c = $s->connect;
    my $bad = $round > 6 ? "x\n" : '';
    my $request = KV::Conn::request(POST => '/bulk', body =>
                                    lines("r$round-", $n, 'v') . $bad);
    my $pid = fork // die "fork: $!";

    if ($pid == 0) {
        my $key = "r$round-" . int 100 * 1.7 ** $round;
        wait_for(sub { $s->get($key)->{status} == 200 }, 20, 0.001);
        kill('KILL', $round % 2 ? -$s->{pgid}
                                : ($s->workers)[$round / 2 % 2]);
        POSIX::_exit(0);
    }

    my $r = eval { $c->send($request); $c->response };
    waitpid($pid, 0);
    my $json = $r && eval { JSON::PP::decode_json($r->{body}) } || {};
    my $applied = $json->{applied} // 0;
    my $line = $json->{line} // $applied + 1;

    $s->stop('KILL');
    $s->start;
    my @found = found("r$round-", $n, 'v');
    my $there = @found;
    cmp_ok($there, '>=', $applied, "round $round: $applied applied, of $there");
    is(scalar(grep { $_ < $line } @found), $line - 1, 'up to the line named');
    is(scalar(grep { $_ <= $there } @found), $there, 'the first ones');
}

$s->done;

done_testing();
