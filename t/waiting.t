# Reads that wait for a change, GET /kv/{key}?wait=SECONDS: what ends the wait,
# and with which answer.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time sleep);

use KV::Frames;
use KV::Test;

my $built = qx(@{[ KV::Test::nginx() ]} -V 2>&1);
my $ssi = $built !~ /without-http_ssi/;

my $s = KV::Test->new(
    zone => '64m', h2 => free_port(), kv => 'segment=16m',
    servers => 'server { listen 127.0.0.1:%%h2%% http2;
                         location /kv/ { kv main; } }',
    server => '
        location /missing/ { error_page 404 /kv/page?wait=60;
                             return 404; }'
        . ($ssi ? 'location = /page.html { ssi on; ssi_types text/plain;
                                           root %%dir%%; }' : ''));
$s->start;

my $LONG = 180;                  # seconds that no test waits
my $SOON = 60;                   # where the machine stands still, too
my $LARGE = 100_000;


sub tag { $_[0]{headers}{etag} // 'none' }

# A connection on which a request waits, or has been answered.

sub waiter {
    my ($key, %o) = @_;
    my $c = $s->connect;
    my $path = "/kv/$key?wait=" . ($o{wait} // $LONG);
    my @headers = $o{unless} ? ("If-None-Match: $o{unless}") : ();

    $c->send(KV::Conn::request($o{method} || 'GET', $path,
                               headers => \@headers));
    $c->{method} = $o{method} || 'GET';
    return $c;
}

# Waits until so many requests wait.

sub waiting {
    my ($n) = @_;
    my $is;
    wait_for(sub { ($is = $s->store->{waiting}) == $n }, 10);
    return $is;
}

# What a waiter is told: "status tag length".

sub told {
    my ($c) = @_;
    my $r = eval { $c->response($c->{method}, $SOON) } or return 'nothing';
    return join ' ', $r->{status}, tag($r), length $r->{body};
}

# What a waiter is told when the code has run, which it waits for until then.

sub ends {
    my ($name, $c, $code, $expected) = @_;

    is(waiting(1), 1, "$name: waits");
    ok($c->silent(0), "$name: without a word");
    my $r = $code->();
    my $begun = time;
    my $told = told($c);
    cmp_ok(time - $begun, '<', $SOON, "$name: then it is told");
    is($told, ref $expected ? $expected->($r) : $expected, "$name: what");
    is(waiting(0), 0, "$name: nothing waits");
}


# what is answered at once

my $first = tag($s->put('first', 'one'));

for my $case (['no condition', 'first', undef, "200 $first 3"],
              ['another version', 'first', '"1-1"', "200 $first 3"],
              ['no such key', 'none', '"1-1"', '404 none 14'],
              ['no such key, any version', 'none', '*', '404 none 14'])
{
    my ($name, $key, $unless, $expected) = @$case;
    my $begun = time;

    is(told(waiter($key, unless => $unless)), $expected, $name);
    cmp_ok(time - $begun, '<', $SOON, "$name: at once");
}

is(told(waiter('first', unless => $first, wait => 0)), "304 $first 0",
   'wait=0: does not wait');
is(told(waiter('none', wait => 0)), '404 none 14', 'wait=0: no such key');

for my $wait ('x', '-1', '', '1.5', '01', '+1',
               '601', '99999999999999999999', '1s') {
    my $r = $s->get("first?wait=$wait");
    is("$r->{status} $r->{body}", "400 invalid wait\n", "wait=$wait");
}

is($s->get('first?wait=600')->{status}, 200, 'wait=600');
is($s->put('first?wait=x', 'one')->{status}, 200, 'PUT has no such argument');
is($s->get('first?other=x&wait=1')->{status}, 200, 'nor any other');
is(waiting(0), 0, 'nothing waits');


# what ends a wait

for my $len (10, $LARGE) {
    my $value = 'a' x $len;

    ends("$len: PUT of a new key", waiter("new$len"),
         sub { $s->put("new$len", $value) },
         sub { '200 ' . tag($_[0]) . " $len" });

    my $tag = tag($s->get("new$len"));

    ends("$len: PUT of another value", waiter("new$len", unless => $tag),
         sub { $s->put("new$len", $value) },
         sub { '200 ' . tag($_[0]) . " $len" });

    $tag = tag($s->get("new$len"));

    ends("$len: HEAD", waiter("new$len", unless => $tag, method => 'HEAD'),
         sub { $s->put("new$len", $value) },
         sub { '200 ' . tag($_[0]) . ' 0' });

    $tag = tag($s->get("new$len"));

    ends("$len: DELETE", waiter("new$len", unless => $tag),
         sub { $s->del("new$len") }, '404 none 14');

    $s->put("new$len", $value);

    ends("$len: DELETE, any version", waiter("new$len", unless => '*'),
         sub { $s->put("new$len", $value); $s->del("new$len") },
         '404 none 14');

    $s->put("new$len", $value);
    $tag = tag($s->get("new$len"));

    ends("$len: clear", waiter("new$len", unless => "\"x\", W/$tag"),
         sub { $s->clear }, '404 none 14');
}

ends('an increment of a new key', waiter('count'),
     sub { $s->http(POST => '/kv/count?incr=12') },
     sub { '200 ' . tag($_[0]) . ' 2' });

my $count = tag($s->get('count'));
ends('another one', waiter('count', unless => $count),
     sub { $s->http(POST => '/kv/count?incr=-12') },
     sub { '200 ' . tag($_[0]) . ' 1' });

$count = tag($s->get('count'));
ends('read and delete', waiter('count', unless => $count),
     sub { $s->http(DELETE => '/kv/count',
                    headers => [ 'Prefer: return=representation' ]) },
     '404 none 14');

# a time of expiry is no change, but its end is one

{
    my $tag = tag($s->http(PUT => '/kv/short?ttl=100', body => 'x'));
    my $c = waiter('short', unless => $tag);
    is(waiting(1), 1, 'a key that will expire: waits');
    is($s->http(POST => '/kv/short?ttl=50')->{status}, 200, 'and sooner');
    ok($c->silent(0.1), 'which is no other version');
    is($s->http(POST => '/kv/short?ttl=1')->{status}, 200, 'and soon');
    my $begun = time;
    is(told($c), '404 none 14', 'it expires');
    cmp_ok(time - $begun, '<', $SOON, 'and that is told');
}

$first = tag($s->put('first', 'one'));

{
    my $begun = time;
    my $c = waiter('first', unless => $first, wait => 1);
    my $d = waiter('none', wait => 1);
    is(told($c), "304 $first 0", 'the end of the time');
    is(told($d), '404 none 14', 'without a key');
    my $took = time - $begun;
    cmp_ok($took, '>=', 1, 'not before it');
    cmp_ok($took, '<', $SOON, 'but then');
}

# and what does not

{
    my $c = waiter('first', unless => $first);
    my $d = waiter('none');
    is(waiting(2), 2, 'two wait');
    $s->put("other$_", 'x') for 1 .. 50;
    $s->del('none');
    $s->put('first', 'x', headers => [ 'If-Match: "1-1"' ]);
    $s->put('none', '');
    ok($c->silent(0.2), 'others\' writes, and such as are refused');
    ok($d->silent(0), 'nor a key that still is not there');
    $s->put('none', 'x');
    $s->put('first', 'y');
    is((split / /, told($_))[0], 200, 'a write of its own does') for $c, $d;
}


# all that wait for one key, in whatever worker

{
    my @c = map { waiter('many') } 1 .. 200;
    is(waiting(200), 200, '200 wait for a key');
    my $tag = tag($s->put('many', 'x'));
    my $begun = time;
    is(scalar(grep { told($_) eq "200 $tag 1" } @c), 200, 'all are told');
    cmp_ok(time - $begun, '<', $SOON, 'soon');
    is(waiting(0), 0, 'and gone');
}


# the connection goes on; what comes behind a request that waits, waits

{
    my $c = $s->connect;
    $c->send(KV::Conn::request(GET => "/kv/piped?wait=$LONG")
             . KV::Conn::request(GET => '/kv/many')
             . KV::Conn::request(GET => "/kv/piped2?wait=$LONG"));
    is(waiting(1), 1, 'one of three in a row waits');
    $s->put('piped', 'one');
    is($c->response->{body}, 'one', 'it is answered');
    is($c->response->{body}, 'x', 'so is the next');
    is(waiting(1), 1, 'the third waits');
    $s->put('piped2', 'two');
    is($c->response->{body}, 'two', 'and is answered');
}

{
    my $c = $s->connect;
    my $request = KV::Conn::request(GET => "/kv/body?wait=$LONG",
                                    body => 'b' x 1000);
    $c->send(substr $request, 0, -500);
    is(waiting(1), 1, 'a body that nothing reads, half of it');
    $c->send(substr $request, -500);
    $s->put('body', 'x');
    is($c->response->{body}, 'x', 'is no obstacle');
    $c->send(KV::Conn::request(GET => '/kv/many'));
    is($c->response->{body}, 'x', 'and the connection goes on');
}


# clients that go away

for my $how (qw(close reset)) {
    my @c = map { waiter("gone$_") } 1 .. 20;
    is(waiting(20), 20, "$how: 20 wait");
    $_->$how for @c[0 .. 18];
    is(waiting(1), 1, "$how: one is left");
    $s->put("gone$_", 'x') for 1 .. 20;
    is((split / /, told($c[19]))[0], 200, "$how: which is told");
    $s->del("gone$_") for 1 .. 20;
}


# HTTP/2: many on one connection, which serves others meanwhile

{
    my $c = KV::Frames->new(port => $s->{h2});
    my %status;
    my $until = sub {
        my ($n) = @_;
        return $c->read_until(sub {
            my ($f) = @_;
            $status{$f->{stream}} = KV::Frames::status($f->{payload})
                if $f->{type} == KV::Frames::HEADERS;
            return keys %status >= $n;
        });
    };

    $c->request(2 * $_ + 1, 'GET', "/kv/h2-$_?wait=$LONG") for 0 .. 19;
    is(waiting(20), 20, 'HTTP/2: 20 streams wait');
    $c->request(101, 'GET', '/kv/many');
    $until->(1);
    is($status{101}, 200, 'HTTP/2: another is served');
    $c->reset_stream(2 * $_ + 1) for 0 .. 9;
    is(waiting(10), 10, 'HTTP/2: ten are given up');
    $s->put("h2-$_", 'x') for 0 .. 19;
    $until->(11);
    is(join(' ', map { $status{2 * $_ + 1} // '-' } 0 .. 19),
       join(' ', ('-') x 10, (200) x 10), 'HTTP/2: the others are told');

    $c->request(201, 'GET', "/kv/h2-none?wait=$LONG");
    is(waiting(1), 1, 'HTTP/2: one more');
    $c->close;
    is(waiting(0), 0, 'HTTP/2: and its client goes');
}


# a read that another request, or an error, has led to does not wait

{
    my $begun = time;
    my $r = $s->http(GET => '/missing/x');
    is($r->{status}, 404, 'an error page that is not there');

    if ($ssi) {
        write_file("$s->{dir}/page.html",
                   "<!--# include virtual=\"/kv/sub?wait=$LONG\" -->,end");
        $r = $s->http(GET => '/page.html');
        like($r->{body}, qr/,end$/, 'a part of a page that is not there');
    }

    cmp_ok(time - $begun, '<', $SOON, 'at once');
    is(waiting(0), 0, 'nothing waits');
}


# reload, and worse

{
    $first = tag($s->put('first', 'one'));
    my @c = (waiter('first', unless => $first), waiter('none2'));
    is(waiting(2), 2, 'two wait');
    my $begun = time;
    ok(defined $s->reload, 'a reload');
    cmp_ok(time - $begun, '<', $SOON, 'does not wait for them');
    is(told($c[0]), "304 $first 0", 'the one gets what it had got in the end');
    is(told($c[1]), '404 none 14', 'so does the other');
    is(waiting(0), 0, 'nothing waits');

    @c = map { waiter("after$_") } 1 .. 20;
    is(waiting(20), 20, 'the new workers let wait');
    $s->put("after$_", 'x') for 1 .. 20;
    is(scalar(grep { told($_) =~ /^200 / } @c), 20, 'and tell');
}

{
    $s->expect_log(qr/worker process \d+ exited on signal 9/);
    my @c = map { waiter('killed') } 1 .. 40;
    is(waiting(40), 40, '40 wait');
    my $left = 40;

    # one of the two may have none

    for my $victim ($s->workers) {
        kill('KILL', $victim);
        $s->back($victim);
        $left = grep { $_->silent(0) } @c;
        last if $left < 40;
    }

    cmp_ok($left, '<', 40, 'a worker dies');
    is(waiting($left), $left, 'those of a dead worker are forgotten');
    $s->put('killed', 'x');
    my @told = map { told($_) } @c;
    is(scalar(grep { /^200 / } @told), $left, 'the others are told');
    is(scalar(grep { $_ eq 'nothing' } @told), 40 - $left, 'and no more');
    is(waiting(0), 0, 'nothing waits');
}

for my $how (qw(QUIT TERM)) {
    $first = tag($s->put('first', 'one'));
    my @c = map { waiter('first', unless => $first) } 1 .. 20;
    is(waiting(20), 20, "$how: 20 wait");
    my $begun = time;
    is($how eq 'QUIT' ? $s->quit : $s->stop($how), 0, "$how: the server ends");
    cmp_ok(time - $begun, '<', $SOON, "$how: soon");
    is(scalar(grep { told($_) eq "304 $first 0" } @c), 20,
       "$how: all are answered");
    $s->start;
}

$s->done;


# a worker keeps connections for others

{
    my $s2 = KV::Test->new(workers => 1, connections => 100, zone => '16m',
                           kv => 'segment=1m max_value=64k');
    $s2->start;
    my @c;

    for (1 .. 76) {
        my $c = $s2->connect;
        $c->send(KV::Conn::request(GET => "/kv/$_?wait=$LONG"));
        push @c, $c;
    }

    my $r = $c[75]->response;
    is("$r->{status} $r->{body}", "503 too many waiting reads\n",
       'three quarters of the connections may wait');
    is($r->{headers}{'retry-after'}, 1, 'others try again later');
    is($s2->store->{waiting}, 75, 'so many do');
    is($s2->put('1', 'x')->{status}, 200, 'and writes go on');
    is($c[0]->response->{status}, 200, 'one is told');
    $c[75]->send(KV::Conn::request(GET => "/kv/new?wait=$LONG"));
    ok(wait_for(sub { $s2->store->{waiting} == 75 }, 10),
       'which lets another wait');
    $s2->done;
}


# A worker polls for the results of a client that writes one by one, where
# nothing waits for a sync.  The committer does not wake it then, so it must
# look itself for what others wait for.  A timer has it look after 0.1 s.

{
    my $s2 = KV::Test->new(workers => 1, zone => '16m',
                           kv => 'segment=1m max_value=64k sync=off');
    $s2->start;
    my $tag = tag($s2->put('beat', 0));
    my ($writer, $reader) = map { $s2->connect } 1, 2;
    my ($told, @took) = (0);

    for (1 .. 200) {
        $reader->send(KV::Conn::request(GET => "/kv/beat?wait=$LONG", headers =>
                                        [ "If-None-Match: $tag" ]));
        $writer->send(KV::Conn::request(PUT => '/kv/beat', body => $_));
        $writer->response;
        my $begun = time;
        my $r = eval { $reader->response('GET', $SOON) } or last;
        push @took, time - $begun;
        $told += tag($r) ne $tag;
        $tag = tag($r);
    }

    is($told, 200, 'a reader beside a lone writer is told each time');

    # a busy machine makes many of them late

    my ($quarter) = (sort { $a <=> $b } @took)[@took / 4];
    cmp_ok($quarter, '<', 0.05, 'at once, not when a timer has it look');
    note(sprintf '200 changes, a quarter told after %.4f s', $quarter);
    $s2->done;
}

done_testing();
