# Keys that expire: PUT ?ttl=, POST ?ttl=, the default of a zone, what reads
# say of it, and what becomes of such keys: on all workers, in a full zone, when
# the server ends.

use strict;
use warnings;

use List::Util qw(max min);
use Test::More;
use Time::HiRes qw(sleep time);
use Time::Local qw(timegm);

use KV::Test;

my $s = KV::Test->new(
    workers => 2, zone => '32m', kv => 'segment=16m',
    http => 'kv_zone zone=short:8m path=%%dir%%/short ttl=2s;
             kv_zone zone=tiny:4m path=%%dir%%/tiny max_value=1m segment=4m
                     sync=off;',
    server => <<'END');
    location /short/ { kv short; }
    location /tiny/ { kv tiny; }
    location = /tiny-stats { kv_stats tiny; }
    location /gzip/ { kv main; gzip on; gzip_types text/plain;
                      gzip_min_length 1; }
    location /expires/ { kv main; expires 60s; }
    location /add/ { kv main; add_header Cache-Control public; }
END
$s->start;

my $LARGE = 100_000;
my @MONTHS = qw(Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec);


# The status, and the body of an error.

sub said {
    my ($method, $path, %o) = @_;
    my $r = $s->http($method, $path, %o);
    return "$r->{status} $r->{body}" if $r->{status} >= 400;
    return $r->{status};
}

sub tag { $_[0]{headers}{etag} // 'none' }

# Seconds since the epoch of a date in a header.

sub date {
    my ($text) = @_;
    my %month = map { $MONTHS[$_] => $_ } 0 .. 11;
    $text =~ /^\w{3}, (\d\d) (\w{3}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT$/
        or return -1;
    return timegm($6, $5, $4, $1, $month{$2}, $3);
}

# Whether the answer says that the key expires in that many seconds: a little
# less, as the clients take time, or a minute if the machine stands still.

sub expires_in {
    my ($r, $ttl, $name) = @_;
    my ($age) = ($r->{headers}{'cache-control'} // '')
                =~ /^no-cache, max-age=(\d+)$/;
    ok(defined $age && $age <= $ttl && $age >= $ttl - 60,
       "$name: max-age=" . ($age // 'none'));
    my $at = date($r->{headers}{expires} // '');
    cmp_ok(abs($at - $age - date($r->{headers}{date} // '')), '<=', 1,
           "$name: Expires says the same");
}

# Runs code, which is given a new key each time, until it took less than a
# second: then no key of two seconds has expired in between.

my $keys = 0;

sub in_time {
    my ($code) = @_;

    for (1 .. 60) {
        my $began = time();
        my @got = $code->('in-time' . ++$keys);
        return @got if time() - $began < 1;
    }

    die "nothing takes less than a second here\n";
}

sub expires_never {
    my ($r, $name) = @_;
    is($r->{headers}{'cache-control'}, 'no-cache', "$name: Cache-Control");
    is($r->{headers}{expires}, undef, "$name: no Expires");
}


# a value that expires says so, and no other answer does

for my $len (10, $LARGE) {
    my $put = $s->http(PUT => "/kv/a$len?ttl=1000", body => 'x' x $len);
    is($put->{status}, 200, "$len: PUT");
    expires_never($put, "$len: PUT");

    my $get = $s->get("a$len");
    is(length($get->{body}), $len, "$len: GET");
    expires_in($get, 1000, "$len: GET");
    is(tag($get), tag($put), "$len: its version");
    expires_in($s->http(HEAD => "/kv/a$len"), 1000, "$len: HEAD");

    my $same = $s->http(GET => "/kv/a$len",
                        headers => [ 'If-None-Match: ' . tag($get) ]);
    is($same->{status}, 304, "$len: 304");
    expires_in($same, 1000, "$len: 304");

    my $range = $s->http(GET => "/kv/a$len", headers => [ 'Range: bytes=1-2' ]);
    is($range->{status}, 206, "$len: 206");
    expires_in($range, 1000, "$len: 206");

    for my $header ('If-Match: "x"', "Range: bytes=$len-") {
        expires_never($s->http(GET => "/kv/a$len", headers => [ $header ]),
                      "$len: $header");
    }

    # what the location says comes first

    $s->http(PUT => "/$_/b$len?ttl=1000", body => 'x' x $len)
        for qw(gzip expires add);
    expires_in($s->http(GET => "/gzip/b$len",
                        headers => [ 'Accept-Encoding: gzip' ]), 1000,
               "$len: gzip");
    is($s->http(GET => "/expires/b$len")->{headers}{'cache-control'},
       'max-age=60', "$len: expires");
    is($s->http(GET => "/add/b$len")->{headers}{'cache-control'}, 'public',
       "$len: add_header");

    # a touch changes that, and nothing else

    my $touch = $s->http(POST => "/kv/a$len?ttl=2000");
    is($touch->{status}, 200, "$len: POST");
    is($touch->{body}, '', "$len: POST: no body");
    is(tag($touch), tag($put), "$len: POST: the version stays");
    $get = $s->get("a$len");
    is(tag($get), tag($put), "$len: POST: for readers, too");
    is($get->{body}, 'x' x $len, "$len: POST: the value as well");
    expires_in($get, 2000, "$len: after POST");

    is(said(POST => "/kv/a$len?ttl=0"), 200, "$len: POST ?ttl=0");
    expires_never($s->get("a$len"), "$len: after POST ?ttl=0");
    is(said(POST => "/kv/a$len?ttl=500"), 200, "$len: and a time again");
    expires_in($s->get("a$len"), 500, "$len: a time again");

    is($s->put("a$len", 'y' x $len)->{status}, 200, "$len: PUT without");
    expires_never($s->get("a$len"), "$len: PUT without");
    is(said(POST => "/kv/a$len?ttl=700"), 200, "$len: POST, no time before");
    expires_in($s->get("a$len"), 700, "$len: POST, no time before");
    is($s->get("a$len")->{body}, 'y' x $len, "$len: the value");
}

$s->http(PUT => '/kv/chunked?ttl=1000', chunks => [ 'a', 'b' x $LARGE ]);
expires_in($s->get('chunked'), 1000, 'chunked');
$s->http(PUT => '/kv/chunked?ttl=1000', chunks => [ 'a', 'b' ]);
expires_in($s->get('chunked'), 1000, 'chunked, few bytes');


# what is no time; what is not there; other arguments

for my $bad ('', 0, -1, '+1', 1.5, '1s', 'x', 315360001, '9' x 30, '007',
             '%20') {
    is(said(PUT => "/kv/a10?ttl=$bad", body => 'z'), "400 invalid ttl\n",
       "PUT ?ttl=$bad");
    is(said(POST => "/kv/a10?ttl=$bad"), "400 invalid ttl\n",
       "POST ?ttl=$bad") if $bad ne '0';
}

is($s->get('a10')->{body}, 'y' x 10, 'the value stays');
is(said(PUT => '/kv/a10?x=1&ttl=315360000&y=2', body => 'z'), 200,
   'the most, among others');
expires_in($s->get('a10'), 315360000, 'the most');
is(said(GET => '/kv/a10?ttl=x'), 200, 'GET takes no ttl');
is(said(DELETE => '/kv/a10?ttl=x'), 200, 'nor DELETE');
is(said(POST => '/kv/a10?ttl=5'), "404 key not found\n", 'POST, no such key');
is(said(POST => '/kv/a10?ttl=0'), "404 key not found\n", 'nor to remove it');
is(said(POST => '/kv/?ttl=5'), "400 key cannot be empty\n", 'POST, no key');
is(said(POST => '/kv/a+b?ttl=5'), "400 key contains invalid characters\n",
   'POST, a bad key');
is(said(PUT => '/kv/a10?ttl=x', body => ''), "400 invalid ttl\n",
   'a bad ttl comes before the value');

for my $path ('/kv/a10', '/kv/a10?', '/kv/a10?x=5', '/kv/a10?ttl') {
    my $r = $s->http(POST => $path, body => 'x');
    is($r->{status}, 405, "POST $path");
    is($r->{headers}{allow}, 'GET, HEAD, PUT, DELETE', "POST $path: Allow");
}


# counters keep their time; a new one may get one

is(said(POST => '/kv/n?incr=1&ttl=100'), 200, 'a new counter');
expires_in($s->get('n'), 100, 'a new counter');
is(said(POST => '/kv/n?incr=1&ttl=500'), 200, 'once more');
expires_in($s->get('n'), 100, 'once more');
is($s->get('n')->{body}, '2', 'it counts');
is(said(POST => '/kv/n?incr=1&ttl=0'), "400 invalid ttl\n", 'no time');
is(said(POST => '/kv/n?incr=x&ttl=9'), "400 invalid increment\n", 'no number');
is(said(POST => '/kv/n?ttl=0'), 200, 'a counter for good');
expires_never($s->get('n'), 'a counter for good');


# conditions, and a body that is not looked at

my $tag = tag($s->put('c', 'one'));

is(said(POST => '/kv/c?ttl=100', headers => [ 'If-Match: "x"' ]),
   "412 precondition failed\n", 'POST, If-Match: another');
expires_never($s->get('c'), 'POST, If-Match: another');
is(said(POST => '/kv/c?ttl=100', headers => [ "If-Match: $tag" ]), 200,
   'POST, If-Match');
is(said(POST => '/kv/c?ttl=100', headers => [ 'If-None-Match: *' ]),
   "412 precondition failed\n", 'POST, If-None-Match: *');
is(said(POST => '/kv/none?ttl=100', headers => [ 'If-Match: *' ]),
   "412 precondition failed\n", 'POST, If-Match: *, and no key');
is(said(POST => '/kv/none?ttl=100', headers => [ 'If-None-Match: *' ]),
   "404 key not found\n", 'POST, If-None-Match: *, and no key');
is(said(POST => '/kv/c?ttl=100', headers => [ 'If-Match: x' ]),
   "400 If-Match and If-None-Match take * or a list of quoted tags\n",
   'POST, a malformed condition');
is(said(POST => '/kv/c?ttl=90', body => 'x' x $LARGE), 200, 'a body');
expires_in($s->get('c'), 90, 'a body');


# When its time has come a key is gone, for all workers at once: who has seen
# one read fail sees no other succeed.  Then it is as if it had never been.

for my $len (10, $LARGE) {
    my @c = map { $s->connect } 1 .. 8;
    my (@seen, $gone, $back);
    my $request = KV::Conn::request(GET => "/kv/gone$len");

    is(said(PUT => "/kv/gone$len?ttl=1", body => 'x' x $len), 200,
       "$len: PUT ?ttl=1");
    my $end = time() + 60;
    my $reads = 0;

    while ((!$gone || time() < $gone + 0.5) && time() < $end) {
        my $c = $c[$reads++ % @c];
        $c->send($request);
        my $r = $c->response;

        if ($r->{status} == 404) {
            $gone //= time();

        } elsif ($gone) {
            $back = 1;
        }
    }

    ok($gone, "$len: it expires");
    ok(!$back, "$len: for all workers ($reads reads)");

    is(said(HEAD => "/kv/gone$len"), '404 ', "$len: HEAD");
    is(said(POST => "/kv/gone$len?ttl=9"), "404 key not found\n",
       "$len: nothing brings it back");
    is(said(PUT => "/kv/gone$len", body => 'x',
            headers => [ 'If-Match: *' ]), "412 precondition failed\n",
       "$len: If-Match: *");
    is(said(PUT => "/kv/gone$len", body => 'x',
            headers => [ 'If-None-Match: *' ]), 200, "$len: If-None-Match: *");
}


# They are deleted in the background, whether or not a client comes.

{
    $s->clear;
    my $expired = $s->store->{expired};
    my $lsn = $s->store->{log}{next_lsn};

    $s->http(PUT => "/kv/k$_?ttl=1000", body => 'x' x (10 * $_))
        for 1 .. 100;
    $s->put("stays$_", 'x') for 1 .. 10;
    is($s->store->{expiring}, 100, 'keys with a time are counted');
    $s->http(POST => "/kv/k$_?ttl=" . (1 + $_ % 2)) for 1 .. 100;
    ok(wait_for(sub { $s->store->{keys} == 10 }, 60), 'they are deleted');
    ok(wait_for(sub { $s->store->{expiring} == 0 }, 60), 'none is left');
    ok(wait_for(sub { $s->store->{expired} - $expired >= 100 }, 60),
       'they are counted');
    is($s->store->{expired} - $expired, 100, 'once');
    is($s->store->{log}{next_lsn} - $lsn, 310, 'the log has them');
    ok(wait_for(sub { my $log = $s->store->{log};
                      $log->{durable_lsn} + 1 == $log->{next_lsn} }, 60),
       'and is synced');
}


# a zone's own time

my ($put, $r, $short) = in_time(sub {
    my ($key) = @_;
    return (said(PUT => "/short/$key", body => 'x'),
            $s->http(GET => "/short/$key"), $key);
});
is($put, 200, 'ttl= of the zone');
expires_in($r, 2, 'ttl= of the zone');
is(said(PUT => '/short/b?ttl=100', body => 'x'), 200, 'another time');
expires_in($s->http(GET => '/short/b'), 100, 'another time');
($put, my $post, my $stays) = in_time(sub {
    my ($key) = @_;
    return (said(PUT => "/short/$key", body => 'x'),
            said(POST => "/short/$key?ttl=0"), $key);
});
is("$put $post", '200 200', 'a third, which is to stay');
ok(wait_for(sub { $s->http(GET => "/short/$short")->{status} == 404 }, 60),
   'its keys expire');
is(said(GET => '/short/b'), 200, 'but that one');
expires_never($s->http(GET => "/short/$stays"), 'and that one');


# A zone that is full of what has expired takes new keys.

{
    my $c = $s->connect;
    my $ask = sub { $c->send(KV::Conn::request(@_)); $c->response->{status} };
    my $fill = sub {
        my ($round) = @_;
        my $n = 0;
        $n++ while $ask->(PUT => "/tiny/$round-$n?ttl=1000",
                          body => 'x' x 1000) == 200;
        return $n;
    };

    my $n = $fill->('first');
    cmp_ok($n, '>', 1000, 'a zone gets full');
    cmp_ok($s->stats('/tiny-stats')->{store}{zone}{refused}, '>', 0,
           'it refuses a key');
    is(scalar(grep { $ask->(POST => "/tiny/first-$_?ttl=1") != 200 }
                   0 .. $n - 1), 0, 'its keys get less time');
    ok(wait_for(sub { $ask->(GET => '/tiny/first-' . ($n - 1)) == 404 }, 60,
                0.001), 'they expire');
    cmp_ok($fill->('last'), '>', 0.9 * $n, 'it takes as many new ones');
    is($ask->(GET => '/tiny/last-0'), 200, 'which are there');
}


# Time goes on while the server is down, however it went down.

for my $how (qw(TERM KILL)) {
    my ($freed) = in_time(sub {
        my ($key) = @_;
        $s->clear;
        $s->http(PUT => "/kv/$key?ttl=2", body => 'x');
        $s->http(POST => "/kv/$key?ttl=0");
        return $key;
    });
    $s->http(PUT => '/kv/soon?ttl=2', body => 'x');
    $s->http(PUT => '/kv/later?ttl=1000', body => 'x' x $LARGE);
    $s->put('touched', 'x');
    $s->http(POST => '/kv/touched?ttl=1000');
    my $began = time();

    $s->stop($how);
    sleep(max(0, $began + 2.2 - time()));
    $s->start;

    is(said(GET => '/kv/soon'), "404 key not found\n", "$how: expired");
    expires_in($s->get('later'), 997, "$how: not yet");
    is(length($s->get('later')->{body}), $LARGE, "$how: its value");
    expires_in($s->get('touched'), 997, "$how: a touch");
    expires_never($s->get($freed), "$how: a time taken away");
    is(said(POST => '/kv/soon?ttl=5'), "404 key not found\n",
       "$how: nothing brings it back");
    ok(wait_for(sub { $s->store->{keys} == 3 }, 60), "$how: it is deleted");
}


# A reload: old and new workers agree, and the default may change.

{
    $s->http(PUT => '/kv/r?ttl=1000', body => 'x');
    my $c = $s->connect;
    $c->send(KV::Conn::request(GET => '/kv/r'));
    expires_in($c->response, 1000, 'before a reload');
    ok(defined $s->reload, 'a reload');
    expires_in($s->get('r'), 1000, 'after it');
    is(said(POST => '/kv/r?ttl=2000'), 200, 'after it: POST');
    expires_in($s->get('r'), 2000, 'after it: POST');
}

$s->done;
done_testing();
