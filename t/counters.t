# Counters: POST ?incr=N adds to the number that a value is.  First what is said
# to whom; then 64 clients add to one number and to numbers of their own while
# workers die: each sum is told once, and the numbers are what was acknowledged.

use strict;
use warnings;

use List::Util qw(max sum);
use Test::More;
use Time::HiRes qw(sleep time);

use KV::Load;
use KV::Test;
use KV::Util qw(free_port wait_for);

my $s = KV::Test->new(zone => '64m', h2 => free_port(), servers =>
                      'server { listen 127.0.0.1:%%h2%% http2;
                                location /kv/ { kv main; } }');
$s->start;

my $TAG = qr/^"[0-9a-f]+-[0-9a-f]+"$/;
my ($LEAST, $MOST) = ('-9223372036854775808', '9223372036854775807');
my $NO_NUMBER = "value is not an integer\n";
my $OVERFLOW = "integer overflow\n";

sub tag { $_[0]{headers}{etag} // 'none' }

sub incr {
    my ($key, $by, %o) = @_;
    return $s->http(POST => "/kv/$key?incr=$by", %o);
}

sub said {
    my ($r) = @_;
    return "$r->{status} $r->{body}";
}


# sums

my $r = incr('a', 5);
is(said($r), '200 5', 'a missing key counts as 0');
like(tag($r), $TAG, 'the answer has a version');
is($r->{headers}{'content-type'}, 'text/plain', 'is text');
is($r->{headers}{'content-length'}, 1, 'of that length');
is($r->{headers}{'x-content-type-options'}, 'nosniff', 'like a value');
is(tag($s->get('a')), tag($r), 'GET has the same version');
is($s->get('a')->{body}, '5', 'and the sum');

my $again = incr('a', 0);
is(said($again), '200 5', 'by nothing');
isnt(tag($again), tag($r), 'is a write');
is(said(incr('a', -12)), '200 -7', 'a negative number');
is(said(incr('a', 7)), '200 0', 'and 0');
is(scalar(grep { $s->get('a')->{body} eq '0' } 1 .. 20), 20,
   'every worker says so');

$s->put('a', '41');
is(said(incr('a', 1)), '200 42', 'a value that was put');
$s->put('a', $LEAST);
is(said(incr('a', $MOST)), '200 -1', 'from one end of 64 bits to the other');
is(said(incr('a', '%31%32')), '200 11', 'an encoded number');
is(said(incr('a', '%2d1')), '200 10', 'also a negative one');
is(said($s->http(POST => '/kv/a?x=y&incr=1&incr=7&z')), '200 11',
   'among other arguments');
is(said($s->http(POST => '/kv/a?INCR=1')), '200 12', 'in capitals');


# what cannot be added to

for my $value ('x', '1.5', ' 1', '1 ', "1\n", '01', '-0', '+1', '9' x 19,
               '-', '0x1', '1' x 20, '1' x 20_000)
{
    my $tag = tag($s->put('no', $value));
    my $name = 'a value like ' . substr $value =~ s/\n/\\n/r, 0, 20;

    $r = incr('no', 1);
    is(said($r), "409 $NO_NUMBER", $name);
    is(tag($r), $tag, "$name: with its version");
    is($r->{headers}{'content-type'}, 'text/plain', "$name: as text");
    ok($s->get('no')->{body} eq $value, "$name: stays");
    is(tag($s->get('no')), $tag, "$name: as it is");
}

for ([ $MOST, 1 ], [ $MOST, $MOST ], [ $LEAST, -1 ], [ $LEAST, $LEAST ],
     [ -2, $LEAST ], [ 1, $MOST ])
{
    my ($value, $by) = @$_;
    my $tag = tag($s->put('over', $value));
    $r = incr('over', $by);
    is(said($r) . tag($r), "409 $OVERFLOW$tag", "$value + $by");
    is($s->get('over')->{body}, $value, "$value: stays");
}


# what is no increment

for my $by ('', 'x', '1.0', '+1', '%2B1', '01', '-', '-0', ' 1', '%201', '1%20',
            '9223372036854775808', '-9223372036854775809', '1' x 5000, '%3',
            '1%00', 'one', '0x10', '1e3')
{
    my $name = 'incr=' . substr $by, 0, 30;
    next if $by =~ / /;
    is(said(incr('a', $by)), "400 invalid increment\n", $name);
}

is($s->get('a')->{body}, '12', 'changes nothing');

for my $path ('/kv/a', '/kv/a?', '/kv/a?inc=1', '/kv/a?incr', '/kv/a?xincr=1') {
    $r = $s->http(POST => $path);
    is(said($r), "405 method not allowed\n", "POST $path");
    is($r->{headers}{allow}, 'GET, HEAD, PUT, DELETE', "POST $path: Allow");
}

for my $method (qw(GET HEAD PUT DELETE PATCH)) {
    $s->put('m', '1');
    $r = $s->http($method => '/kv/m?incr=1',
                  $method eq 'PUT' ? (body => '7') : ());
    is($r->{status}, $method eq 'PATCH' ? 405 : 200, "$method with incr");
    is($s->get('m')->{body}, $method eq 'PUT' ? '7'
                             : $method eq 'DELETE' ? "key not found\n" : '1',
       "$method with incr: is $method");
}

is(said($s->http(POST => '/kv/?incr=1')), "400 key cannot be empty\n",
   'no key');
is(said($s->http(POST => '/kv/a/b?incr=x')),
   "400 key contains invalid characters\n", 'a bad key comes first');


# conditions

my $tag = tag($s->put('c', '1'));

is(said(incr('c', 1, headers => [ 'If-Match: "x"' ])),
   "412 precondition failed\n", 'If-Match: "x"');
is(said(incr('c', 1, headers => [ 'If-None-Match: *' ])),
   "412 precondition failed\n", 'If-None-Match: *');
$r = incr('c', 1, headers => [ "If-Match: $tag" ]);
is(said($r), '200 2', 'If-Match: its version');
$again = incr('c', 1, headers => [ "If-Match: $tag" ]);
is(said($again) . tag($again), "412 precondition failed\n" . tag($r),
   'once');
is(said(incr('none', 1, headers => [ 'If-Match: *' ])),
   "412 precondition failed\n", 'If-Match of nothing');
is($s->get('none')->{status}, 404, 'makes nothing');
is(said(incr('none', 1, headers => [ 'If-None-Match: *' ])), '200 1',
   'If-None-Match of nothing');
is(said(incr('c', 1, headers => [ 'If-Match: x' ])),
   "400 If-Match and If-None-Match take * or a list of quoted tags\n",
   'a malformed condition');


# bodies, which mean nothing, and what comes behind them

$s->del('b');

for (sub { ("Content-Length: 3\r\n\r\nabc") },
     sub { ("Content-Length: 0\r\n\r\n") },
     sub { ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n") })
{
    my $c = $s->connect;
    $c->send("POST /kv/b?incr=1 HTTP/1.1\r\nHost: x\r\n" . $_->()
             . "GET /kv/b HTTP/1.1\r\nHost: x\r\n\r\n");
    my $sum = $c->response('POST')->{body};
    is($c->response('GET')->{body}, $sum, "$sum: the next request is found");
}

{
    my $c = $s->connect;
    $c->send("POST /kv/b?incr=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
             . "Expect: 100-continue\r\n\r\n");
    is($c->response('POST')->{status}, 100, 'Expect: 100-continue');
    $c->send('abc');
    is($c->response('POST')->{body}, '4', 'and then the sum');

    $c = $s->connect;
    $c->send("POST /kv/b?incr=1 HTTP/1.1\r\nHost: x\r\n\r\n" x 50);
    is(join(' ', map { $c->response('POST')->{body} } 1 .. 50),
       join(' ', 5 .. 54), 'many in a row');
}

is($s->put('b', '7', headers => [ 'Content-Type: text/plain' ])->{status}, 200,
   'a form');
is(said($s->http(POST => '/kv/b?incr=1', body => 'incr=5',
        headers => [ 'Content-Type: application/x-www-form-urlencoded' ])),
   '200 8', 'has no say');

SKIP: {
    skip('no curl with HTTP/2', 1) if qx(curl --version 2>&1) !~ /\bHTTP2\b/;
    is(scalar qx(curl -s --http2-prior-knowledge -m 30 -X POST \\
                      'http://127.0.0.1:$s->{h2}/kv/b?incr=2'), '10', 'HTTP/2');
}


# statistics, and ends of the server

my $counted;
wait_for(sub { ($counted = $s->stats->{routes}{kv}{POST}{status}{409}) >= 19 },
         10);
is($counted, 19, '/stats counts them');
$s->put('end', '1');
incr('end', 1);
$s->reload;
is(said(incr('end', 1)), '200 3', 'a reload');
$s->stop;
$s->start;
is($s->get('end')->{body}, '3', 'a restart');
is(said(incr('end', 1)), '200 4', 'goes on');
$s->stop('KILL');
$s->start;
is(said(incr('end', 1)), '200 5', 'a kill');
$s->done;


# those that come while a sync lasts are in one batch

$s = KV::Test->new(fault => 1);
$s->start;
$s->put('race', '100');
$s->fault(hold => 1);
my $first = $s->written(PUT => '/kv/first', body => 'x');
my @c = map { my $c = $s->connect;
              $c->send(KV::Conn::request(POST => '/kv/race?incr=1')); $c }
            1 .. 40;
$s->has_read;
ok($_->silent(0), 'it waits') for @c[0 .. 3];
is($s->get('race')->{body}, '100', 'nothing is seen of it');
$s->fault(hold => undef);
is(join(' ', sort { $a <=> $b } map { $_->response('POST')->{body} } @c),
   join(' ', 101 .. 140), '40 at once: each has a sum of its own');
is($s->get('race')->{body}, '140', 'and none is lost');
$s->done;


# ---- 64 clients, and deaths

my $PROCESSES = 2;
my $CLIENTS = 32;
my $DEATHS = 20;
my $EACH = 400;             # increments a death

$s = KV::Test->in_memory(workers => 2, zone => '16m', fault => 1);
$s->expect_log(qr/worker process \d+ exited on signal 9/);
$s->start;


# A client adds to the common number and to its own by turns.  Of what got no
# answer it knows that it may have happened.

sub clients {
    my ($number) = @_;

    return KV::Load->fork(sub {
        my ($stop, $parent) = @_;
        my (@errors, %wait);
        my @turn = (0) x $CLIENTS;
        my %got = map { $_ => { sums => [], unknown => 0 } }
                      'all', map { "own$number-$_" } 0 .. $CLIENTS - 1;

        my $next = sub {
            my ($n) = @_;
            return if $$stop;
            my $wait = delete $wait{$n};
            return $wait if $wait;
            my $key = $turn[$n]++ % 2 ? "own$number-$n" : 'all';
            return { method => 'POST', path => "/kv/$key?incr=1", key => $key };
        };

        my $done = sub {
            my ($n, $req, $res, $error) = @_;
            my $got = $got{$req->{key}};
            my $status = $res ? $res->{status} : $error;

            if ($status eq '200') {
                my $last = $got->{last}{$n} // 0;
                push @errors, "$req->{key}: $res->{body} after $last"
                    if $res->{body} !~ /^\d+$/ || $res->{body} <= $last;
                push @{$got->{sums}}, $got->{last}{$n} = $res->{body};
                return;
            }

            $wait{$n} = 0.02;
            $got->{unknown}++ if $status ne 'refused';
            push @errors, "$req->{key}: $status"
                if $status !~ /^(?:503|dropped|refused)$/;
        };

        KV::Load::run(port => $s->{port}, connections => $CLIENTS,
                      next => $next, done => $done,
                      tick => sub { $$stop = 1 if getppid != $parent });

        return { errors => \@errors, got => \%got };
    });
}


sub reached {
    my $r = $s->get('all', soft => 1, timeout => 5);
    return $r->{status} == 200 ? $r->{body} : undef;
}


is(said(incr('all', 0)), '200 0', 'a number');

my $begun = time;
my @clients = map { clients($_) } 0 .. $PROCESSES - 1;
my ($deaths, $wanted, @bad) = (0, 0);

while ($deaths < $DEATHS) {
    my $now;
    wait_for(sub { ($now = reached() // -1) >= $wanted }, 30, 0.02) or last;
    $wanted = $now + $EACH;

    $deaths++;
    $s->some_die or push @bad, $deaths;
}

my @results = map { $_->stop } @clients;
my @errors = map { @{$_->{errors}} } @results;
my ($acked, $unknown) = (0, 0);

is("@bad", '', 'the service comes back each time');
is($deaths, $DEATHS, 'workers died all the time');


# What was acknowledged of a key: each sum once, and none above the number; and
# the number has no more besides than what got no answer.

sub check {
    my ($key, $value) = @_;
    my @got = map { $_->{got}{$key} // () } @results;
    my @sums = map { @{$_->{sums}} } @got;
    my $maybe = sum 0, map { $_->{unknown} } @got;
    my %seen;
    my @twice = grep { $seen{$_}++ } @sums;

    return "$key: told twice: @twice" if @twice;
    return "$key: $value, and " . max(@sums) . ' was told'
        if @sums && max(@sums) > $value;
    return "$key: $value, of " . @sums . " and $maybe without an answer"
        if @sums > $value || @sums + $maybe < $value;

    $acked += @sums;
    $unknown += $maybe;
    return;
}

# A worker that died last may be found so only now: then 503 comes for a while.

sub check_all {
    my @keys = keys %{{ map { %{$_->{got} || {}} } @results }};
    my @bad;

    for my $key (@keys) {
        my $r;
        wait_for(sub { $r = $s->get($key); $r->{status} != 503 }, 10);
        push @bad, $r->{status} !~ /^(?:200|404)$/ ? "$key: $r->{status}"
                   : check($key, $r->{status} == 200 ? $r->{body} : 0);
    }

    return @bad;
}

push @errors, check_all();
is(scalar @errors, 0, 'no increment is lost, and none is there twice')
    or diag(join "\n", splice @errors, 0, 10);
cmp_ok($acked, '>', $DEATHS * $EACH, 'there were many');
cmp_ok($unknown, '>', $DEATHS / 4, 'and workers died with some');
note(sprintf '%.1f s, %d deaths; %d acknowledged, %d had no answer',
     time - $begun, $deaths, $acked, $unknown);

$s->stop('KILL');
$s->start;
@errors = check_all();
is(scalar @errors, 0, 'and on disk')
    or diag(join "\n", splice @errors, 0, 10);

$s->done;
done_testing();
