# kv_incr: requests are counted.  What counts, and where; keys and numbers that
# do not; many clients, reloads and ends of the server, which lose none; workers
# that are killed, which lose what they had not written, and add none; and
# stores that take nothing for a while.

use strict;
use warnings;

use POSIX ();
use Test::More;

use KV::Frames;
use KV::Load;
use KV::Pages;
use KV::Test;
use KV::Util qw(free_port);

my $MOST = '9223372036854775807';
my $OK = 'add_header Worker $pid always; return 204;';

# The number of a key, as text; "-": there is no such key.

sub number {
    my ($s, $key) = @_;
    my $r = $s->get($key);
    return $r->{status} == 200 ? $r->{body} : '-';
}

sub becomes {
    my ($s, $key, $number, $name) = @_;
    my $is;
    wait_for(sub { ($is = number($s, $key)) eq $number }, 10);
    is($is, $number, $name);
}

sub counting { return $_[0]->stats->{counting} }

# What the statistics say more than before, once they say it.

sub counts {
    my ($s, $before, $more, $name) = @_;
    my $is;
    wait_for(sub {
        my $now = counting($s);
        $is = join ' ', map { $now->{$_} - $before->{$_} }
                        qw(requests refused dropped);
        return $is eq $more;
    }, 10);
    is($is, $more, $name);
}

# Requests of some clients at once.  Those that were answered, by worker; and
# how many were not.

sub load {
    my ($s, $n, $path, $done) = @_;
    my $sent = 0;
    my %by = (none => 0);
    KV::Load::run(port => $s->{port}, connections => 16, keepalive => !$done,
        next => sub {
            return if $sent == $n;
            $sent++;
            return { method => 'GET', path => $path =~ s/%d/$sent/r };
        },
        done => sub {
            my (undef, undef, $res, $error) = @_;
            $sent-- if !$res && $error eq 'refused';
            $by{$res ? $res->{headers}{worker} // '' : 'none'}++
                if $res || $error ne 'refused';
            $done->(\%by) if $done;
        });
    return %by;
}


# ---- where

my $s = KV::Test->new(zone => '16m', h2 => free_port(),
    http => 'kv_incr http zone=main;',
    server => <<"END", servers => <<"END2");
        kv_incr "server:\$status" zone=main;
        kv_incr \$arg_also zone=main;
        log_subrequest on;
        location = /plain { $OK }
        location = /off { kv_incr off; $OK }
        location = /own { kv_incr own zone=main; $OK }
        location = /two { kv_incr two zone=main; kv_incr two zone=main by=10;
                          kv_incr other zone=main by=-1; $OK }
        location /outer/ {
            kv_incr outer zone=main;
            location = /outer/in { $OK }
            location /outer/off/ { kv_incr off;
                                   location = /outer/off/in { $OK } }
            if (\$arg_if = yes) { kv_incr if zone=main; return 204; }
            if (\$arg_if = off) { kv_incr off; return 204; }
            if (\$arg_if = no) { return 204; }
            limit_except GET { kv_incr except zone=main; deny all; }
            $OK
        }
        location /kvs/ {
            kv main;
            kv_incr "kvs:\$status" zone=main;
            if (\$arg_if = yes) { kv_incr kvs:if zone=main; }
        }
        location = /error { kv_incr asked zone=main; error_page 404 /page;
                            return 404; }
        location = /page { kv_incr page zone=main; internal; $OK }
        location = /rewritten { kv_incr before zone=main; rewrite ^ /own; }
        location = /tried { kv_incr before zone=main; try_files /none /own; }
        location = /index/ { kv_incr before zone=main; index /own; }
        location = /named { kv_incr before zone=main; error_page 404 = \@named;
                            return 404; }
        location \@named { kv_incr named:\$status zone=main; $OK }
        location = /mirrored { kv_incr mirrored zone=main; mirror /sub;
                               kv_health main; }
        location = /sub { kv_incr sub zone=main; internal; $OK }
END
    server { listen 127.0.0.1:%%h2%% http2; location / { $OK } }
END2
$s->start;

sub ask { $s->http(GET => @_) }

ask('/plain') for 1 .. 3;
ask('/plain?also=also');
becomes($s, 'server:204', 4, 'a location has what its server has');
becomes($s, 'also', 1, 'which may be some, one with no key for now');
ask('/off?also=none');
ask('/own?also=none') for 1 .. 2;
becomes($s, 'own', 2, 'one of its own');
ask('/two');
becomes($s, 'two', 11, 'two of one key');
becomes($s, 'other', -1, 'and another');
ask($_) for '/outer/', '/outer/in', '/outer/off/', '/outer/off/in';
becomes($s, 'outer', 2, 'a location has what is around it');
ask("/outer/?if=$_") for qw(yes off no);
becomes($s, 'if', 1, 'if{} has one of its own');
becomes($s, 'outer', 3, 'or that of its location, unless it is off');
is($s->http(POST => '/outer/')->{status}, 403, 'limit_except{}');
becomes($s, 'except', 1, 'limit_except{} has one of its own');
ask($_) for '/kvs/none', '/kvs/none?if=yes', '/kvs/a%2fb';
becomes($s, 'kvs:404', 1, 'requests of the store itself, by their status');
becomes($s, 'kvs:400', 1, 'also those that it refuses');
becomes($s, 'kvs:if', 1, 'a location with kv, and if{} in it');
is(ask('/error')->{status}, 404, 'error_page');
becomes($s, 'page', 1, 'the last location counts, after error_page');
ask('/named');
becomes($s, 'named:204', 1, 'also one with a name');
my $own = 2;
for (qw(/rewritten /tried /index/)) {
    ask($_);
    becomes($s, 'own', ++$own, "and so it is after $_");
}
is(ask('/mirrored')->{status}, 200, 'a subrequest');
becomes($s, 'mirrored', 1, 'is a part of its request');

{
    my $c = $s->connect;
    $c->send("GET /plain HTTP/1.1\r\n\r\n");
    is($c->response->{status}, 400, 'a request without Host');
    becomes($s, 'server:400', 1, 'is counted by its server');

    $c = $s->connect;
    $c->send(KV::Conn::request(GET => '/kvs/none?wait=60'));
    wait_for(sub { $s->store->{waiting} == 1 }, 10);
    undef $c;
    becomes($s, 'kvs:499', 1, 'so is one whose client has left');
}

for (1 .. 2) {
    my ($c, $n) = (KV::Frames->new(port => $s->{h2}), 0);
    $c->request(2 * $_ - 1, GET => '/') for 1 .. 50;
    $c->read_until(sub { ($n += $_[0]{type} == KV::Frames::HEADERS) == 50 });
}
becomes($s, 'http', 100, 'HTTP/2, by what http{} has');

# no requests: a ping of HTTP/2, a stream that begins none, connections

{
    my $h2 = KV::Frames->new(port => $s->{h2});
    $h2->frame(KV::Frames::PING, 0, 0, 'x' x 8);
    ok($h2->read_until(sub { $_[0]{type} == KV::Frames::PING }), 'a ping');
    $h2->close;
    $s->connect for 1 .. 3;
    for (1 .. 2) {
        load($s, 20, '/own');
        becomes($s, 'own', $own += 20, 'requests');
    }
    is(join(' ', map { number($s, $_) } 'http', map { "server:$_" }
                     qw(400 000 408 499)), '100 1 - - -', 'alone are counted');
}

is(join(' ', map { number($s, $_) } qw(none asked before sub)), '- - - -',
   'nothing else is counted');
$s->done;


# ---- the examples, as they stand in the page

{
    my $text = join '', map { page_block('src/http/variables.md', 'nginx', $_) }
                        'kv_incr status', 'kv_incr used';
    $text =~ s/listen (808\d)/listen 127.0.0.1:%%$1%%/g;
    $text =~ s{/srv/www}{%%dir%%};
    $s = KV::Test->new(8087 => free_port(), 8088 => free_port(),
                       http => $text);
    $s->start;

    my @days = (day());
    for (1 .. 3) {
        is(ask_at(8087, '/')->{body}, "hello\n", 'the first example');
        ask_at(8087, '/uncounted');
    }
    push @days, day();

    my $key = wait_for(sub { (grep { number($s, $_) eq '3' }
                              map { "status:200:$_" } @days)[0] }, 10);
    ok($key, 'it counts by status and day');
    like($s->get($key)->{headers}{'cache-control'}, qr/max-age=60\d{4}$/,
         'for a week');
    like(number($s, "bytes:$s->{8087}"), qr/^[1-9]\d\d$/, 'and bytes');

    is(ask_at(8088, '/none')->{status}, 404, 'the quota');
    load({ port => $s->{8088} }, 998, '/none');
    becomes($s, 'used:127.0.0.1', 999, 'a client has asked 999 times');
    is(ask_at(8088, '/none')->{status}, 404, 'once more');
    becomes($s, 'used:127.0.0.1', 1000, 'that is all');
    is(ask_at(8088, '/none')->{body}, "try again later\n", 'for an hour')
        for 1 .. 3;
    is(number($s, 'used:127.0.0.1'), 1000, 'what is refused does not count');
    $s->del('used:127.0.0.1');
    is(ask_at(8088, '/none')->{status}, 404, 'until it is deleted');
    $s->done;
}

sub ask_at {
    my ($port, $path) = @_;
    my $c = KV::Conn->new(port => $s->{$port});
    $c->send(KV::Conn::request(GET => $path));
    return $c->response;
}

sub day { POSIX::strftime('%Y-%m-%d', localtime) }


# ---- keys and numbers

$s = KV::Test->new(zone => '16m', http => 'large_client_header_buffers 4 32k;
                       map $http_x $found { default -; ~^(.+)$ $1; }',
                   server => <<"END");
        location ~ ^/found/(.*)\$ { kv_incr \$1:\$found zone=main by=\$1\$found;
                                   $OK }
        location /n/ { kv_incr \$arg_k zone=main by=\$arg_by ttl=100s; $OK }
        location /k/ { kv_incr \$arg_k zone=main; $OK }
        location /long/ { kv_incr \$arg_k\$arg_k\$arg_k zone=main; $OK }
        location ~ ^/u/((?s).*) { kv_incr \$1 zone=main; $OK }
END
$s->start;

my $before = counting($s);
is(asked(5), 5, 'by a variable');
is(asked(-7), -2, 'of either sign');
like($s->get('n')->{headers}{'cache-control'}, qr/max-age=(?:100|\d\d)$/,
     'the key expires');
ask('/n/?k=zero&by=0');
becomes($s, 'zero', 0, 'by 0 makes a key');
ask('/n/?k=both&by=3');
ask('/n/?k=both&by=-3');
becomes($s, 'both', 0, 'and so does a sum that is 0');

sub asked {
    my ($by) = @_;
    our $sum += $by;
    ask("/n/?k=n&by=$by");
    wait_for(sub { number($s, 'n') eq $sum }, 10);
    return number($s, 'n');
}

counts($s, $before, '5 0 0', '/stats counts them');
$before = counting($s);
ask("/n/?k=none&by=$_")
    for '', '1.5', '+1', '%31', 'x', '01', "${MOST}0", '9223372036854775808';
counts($s, $before, '8 8 0', 'what is no number is refused');
like($s->log, qr/"main": the request is not counted by "kv_incr" in \S+:\d+: /,
     'the error log says which');
like($s->log, qr/: by= is no whole number of 64 bits: "" .*request: "GET /,
     'and why');

$before = counting($s);
ask("/k/?k=$_") for 'a/b', 'a%20b', '.', '..', 'a,b';
ask('/u/a%0Aforged');
ask('/long/?k=' . 'x' x 6000);
counts($s, $before, '7 7 0', 'what is no key, too');
unlike($s->log, qr/^forged/m, 'no client writes a line of the log');
ask($_) for '/k/?k=', '/k/', '/k/?k=dots..';
becomes($s, 'dots..', 1, 'dots in a key');
counts($s, $before, '8 7 0', 'without a key nothing is counted');

my $lines = () = $s->log =~ /the request is not counted/g;
load($s, 300, '/k/?k=a,b');
counts($s, $before, '308 307 0', 'many of them');
cmp_ok(() = $s->log =~ /the request is not counted/g, '<', $lines + 100,
       'are not all logged');

$before = counting($s);
$s->put('word', 'x');
$s->put('most', $MOST);
ask("/k/?k=$_") for qw(word word most);
counts($s, $before, '3 3 0', 'what cannot be added is refused');
is($s->get('word')->{body} . $s->get('most')->{body}, "x$MOST",
   'and changes nothing');
like($s->log, qr/"kv_incr" cannot add \d to the key "word": its value is no/,
     'which is logged');
$s->put('word', '1');
ask('/k/?k=word');
becomes($s, 'word', 2, 'nor is it tried again');

ask("/n/?k=large&by=$MOST") for 1 .. 3;
becomes($s, 'large', $MOST, 'a sum of 64 bits');
wait_for(sub { my $c = counting($s); $c->{refused} + $c->{dropped}
               == $before->{refused} + $before->{dropped} + 5 }, 10);
is(number($s, 'large'), $MOST, 'has no more');

my $metrics = ask('/metrics')->{body};
my $now = counting($s);
for (qw(requests refused dropped)) {
    my $name = 'counted_requests' . ($_ eq 'requests' ? '' : "_$_") . '_total';
    like($metrics, qr/^nginx_kv_$name\{zone="main"\} $now->{$_}$/m, $name);
}


# a map's regular expression changes what $1 is

$before = counting($s);
ask('/found/' . '1' x 3000, headers => [ 'X: 2' ]);
becomes($s, '2:2', 22, 'a key and a number are made of what is found last');
ask('/found/1', headers => [ 'X: ' . '3' x 3000 ]);
counts($s, $before, '2 1 0', 'however long that is');


# ---- many clients; reloads, and ends of the server

load($s, 2000, '/k/?k=many');
becomes($s, 'many', 2000, 'many clients: exactly their requests');
my $keys = $s->store->{keys};
load($s, 2000, '/k/?k=key%d');
wait_for(sub { $s->store->{keys} == $keys + 2000 }, 10);
is(join(' ', map { number($s, 'key' . 20 * $_) } 1 .. 100),
   join(' ', (1) x 100), 'of many keys');

# Clients that ask until they are stopped, and know what was answered.

sub clients {
    my ($number) = @_;
    return KV::Load->fork(sub {
        my ($stop) = @_;
        my (%n, %wait);
        KV::Load::run(port => $s->{port}, connections => 8,
            next => sub {
                return if $$stop;
                return delete $wait{$_[0]}
                       || { method => 'GET', path => "/k/?k=client$number" };
            },
            done => sub {
                my ($n, undef, $res, $error) = @_;
                $n{$res ? $res->{status} : $error}++;
                $wait{$n} = 0.01 if !$res;
            });
        return { %n, errors => [] };
    });
}

for my $end (qw(HUP TERM QUIT)) {
    my @clients = map { clients("$end$_") } 1 .. 2;
    wait_for(sub { number($s, "client${end}2") ne '-' }, 10);
    if ($end eq 'HUP') {
        ok(defined $s->reload, 'a reload') for 1 .. 3;
    } else {
        is($end eq 'QUIT' ? $s->quit : $s->stop, 0, "SIG$end");
        $s->start;
    }

    my @n = map { $_->stop } @clients;
    for (1 .. 2) {
        my ($n, $is) = ($n[$_ - 1], '-');
        my $maybe = ($n->{dropped} || 0) + ($n->{204} || 0);
        wait_for(sub { ($is = number($s, "client$end$_")) >= $n->{204} }, 10);
        ok($is >= $n->{204} && $is <= $maybe, "SIG$end loses none, adds none")
            or diag("$is, of $n->{204} and " . ($n->{dropped} || 0)
                    . ' that were not answered');
    }
}

$s->done;


# ---- workers that are killed

$s = KV::Test->new(zone => '16m', server => <<"END");
        location /k/ { kv_incr \$arg_k zone=main; $OK }
END
$s->expect_log(qr/worker process \d+ exited on signal 9/);
$s->start;
my (%least, %most);

for my $round (1 .. 5) {
    $before = counting($s);
    my $dead;
    my %by = load($s, 400, "/k/?k=kill$round", sub {
        my ($by) = @_;
        my ($worker, @more) = sort { $by->{$b} <=> $by->{$a} }
                              grep { $_ ne 'none' } keys %$by;
        return if $dead || !$worker || $by->{$worker} < (@more ? 50 : 200);
        kill('KILL', $dead = $worker);
    });
    ok($dead, 'a worker dies with what it has counted');
    wait_for(sub { $s->workers == 2 && $s->healthy }, 10);

    my $answered = 0;
    $answered += $by{$_} for grep { $_ ne 'none' } keys %by;
    $most{$round} = $answered + $by{none};
    $least{$round} = $answered - $by{$dead};
    wait_for(sub {
        my $dropped = counting($s)->{dropped} - $before->{dropped};
        my $is = number($s, "kill$round");
        return ($is eq '-' ? 0 : $is) >= $least{$round} - $dropped;
    }, 10) or fail("round $round: the others lose something");
}

load($s, 20, '/k/?k=end');
becomes($s, 'end', 20, 'the workers go on');
my @bad = grep { my $is = number($s, "kill$_");
                 $is ne '-' && $is > $most{$_} } 1 .. 5;
is("@bad", '', 'no request counts twice');
$s->done;


# ---- stores that take nothing for a while

$s = KV::Test->new(zone => '96m', fault => 1,
                   http => 'large_client_header_buffers 4 32k;',
                   server => <<"END");
        set \$p "@{[ 'x' x 2000 ]}";
        location /k/ { kv_incr \$arg_k zone=main; $OK }
        location /pad/ { kv_incr "\$arg_k:\$p\$p\$p\$p\$p\$p\$p\$p" zone=main;
                         $OK }
END
$s->expect_log(qr/writes are disabled until nginx is restarted/);
$s->start;

$s->fault(write => 28);
load($s, 50, '/k/?k=full');
ok(wait_for(sub { $s->store->{state} eq 'disk full' }, 10), 'a full disk');
$before = counting($s);
is($before->{dropped}, 0, 'loses nothing');
load($s, 50, '/k/?k=full');
is(number($s, 'full'), '-', 'nothing is written');
$s->fault(write => undef);
becomes($s, 'full', 100, 'all is written when there is space');

# errors that pass, again and again

for my $flap (1 .. 3) {
    $s->fault(write => 12);
    load($s, 50, '/k/?k=refused');
    ok(wait_for(sub { $s->store->{state} eq 'refusing' }, 10),
       'writes are refused');
    $s->fault(write => undef);
    becomes($s, 'refused', 50 * $flap, 'all is written when the error passes');
}
is(counting($s)->{dropped}, 0, 'and none is lost');

# what is counted of a key while an older sum of it is being written

{
    my $c = $s->connect;
    $s->fault(hold => 1);
    $c->send(KV::Conn::request(PUT => '/kv/held', body => 'x'));
    ok($s->held, 'a write takes its time');
    $before = counting($s);
    load($s, 50, '/k/?k=newer');
    ok(wait_for(sub { counting($s)->{requests} > $before->{requests} }, 10),
       'sums wait for it');
    load($s, 50, '/k/?k=newer');
    $s->fault(write => 28);
    $s->fault(hold => undef);
    is($c->response->{status}, 200, 'and ends');
    ok(wait_for(sub { $s->store->{state} eq 'disk full' }, 10), 'a full disk');
    $s->fault(write => undef);
    becomes($s, 'newer', 100, 'both are written when there is space');
    $s->del('held');
}

# a worker keeps 16m of keys

$s->fault(write => 28);
load($s, 1, '/k/?k=full');
load($s, 2400, '/pad/?k=%d');
load($s, 10, '/k/?k=full');
my ($dropped, $least) = (0, 2400 - 2 * (16 << 20) / 16_000);
wait_for(sub { ($dropped = counting($s)->{dropped}) >= $least }, 10);
cmp_ok($dropped, '>=', $least, 'too many keys');
like($s->log, qr/\[error\] .*"kv_incr" does not count \d+ requests?: too many/,
     'which is logged');
$s->fault(write => undef);
becomes($s, 'full', 111, 'all is written when there is space again');
wait_for(sub { $dropped = counting($s)->{dropped};
               ($keys = $s->store->{keys}) == 2403 - $dropped }, 10);
is($keys, 2403 - $dropped, 'each that was kept is there');

# a disk that is broken: what was being written may be on it

$s->fault(fdatasync => 1);
load($s, 20, '/k/?k=broken');
ok(wait_for(sub { $s->store->{state} eq 'read-only' }, 10), 'a broken disk');
ok(wait_for(sub { counting($s)->{dropped} > $dropped }, 10), 'loses that');
load($s, 20, '/k/?k=broken');
$s->done;
like($s->log, qr/the worker exits.* "kv_incr" has counted: \d+ requests? to 1 /,
     'what is lost is logged');


# a worker keeps 65,536 keys

$s = KV::Test->new(zone => '96m', fault => 1, workers => 1, server => <<"END");
        location /k/ { $OK @{[ map { "kv_incr k$_:\$arg_k zone=main;\n" }
                               1 .. 100 ]} }
END
$s->start;
$s->fault(write => 28);
load($s, 700, '/k/?k=%d');
ok(wait_for(sub { counting($s)->{requests} == 70_000 }, 10), 'very many keys');
is(counting($s)->{dropped}, 70_000 - 65_536, 'which are too many');
$s->fault(write => undef);
ok(wait_for(sub { ($keys = $s->store->{keys}) == 65_536 }, 20), 'the others')
    or diag($keys);
$s->done;


# a zone that is full

$s = KV::Test->new(zone => '4m', server => <<"END");
        set \$p "@{[ 'x' x 2000 ]}";
        location /pad/ { kv_incr "\$arg_k:\$p\$p" zone=main; $OK }
END
$s->start;
for my $size (100_000, 10_000, 1000, 100) {
    my $n = 0;
    1 while $s->put("v$size-" . $n++, 'x' x $size)->{status} == 200;
}
my $refused = $s->store->{zone}{refused};
load($s, 20, '/pad/?k=%d');
ok(wait_for(sub { $s->store->{zone}{refused} > $refused }, 10), 'a full zone');
$s->clear;
my $key = '20:' . 'x' x 4000;
becomes($s, $key, 1, 'what was counted is written when there is memory');
is(counting($s)->{dropped}, 0, 'and none is lost');
$s->done;


# ---- a zone that a reload removes

$s = KV::Test->new(http => 'kv_zone zone=b:8m path=%%dir%%/b;',
                   server => <<"END");
        location = /b { kv_incr b zone=b; $OK }
        location /kvb/ { kv b; }
END
$s->start;
my %with = map { $_ => $s->{$_} } qw(http server);
load($s, 40, '/b');
@$s{qw(http server)} = ('', '');
ok(defined $s->reload, 'a reload without its zone');
@$s{keys %with} = values %with;
ok(defined $s->reload, 'and with it');
is($s->http(GET => '/kvb/b')->{body}, 40, 'what was counted is there');
$s->done;

done_testing();
