# Workers that die in the middle of writes: the others go on, what was
# acknowledged stays, what was half received is freed.  KV_ROUNDS says how
# many deaths.

use strict;
use warnings;

use List::Util qw(shuffle);
use Test::More;
use Time::HiRes qw(time sleep);

use KV::Load;
use KV::Test;
use KV::Util qw(free_port);

my $ROUNDS = $ENV{KV_ROUNDS} || 20;
my $RECORDS = 50_000;     # what workers may have taken for their operations

my $s = KV::Test->new(workers => 3, zone => '128m', fault => 1,
                      kv => 'segment=4m max_value=1m snapshot=24m uploads=64m',
                      slow_port => free_port(), server =>
                      'listen 127.0.0.1:%%slow_port%% sndbuf=32k;');
$s->expect_log(qr/worker process \d+ exited on signal 9/);
$s->start;


# Whether a write succeeds within so long; how long that took.

sub back {
    my ($seconds) = @_;
    my $time = running;
    my $ok = wait_for(sub { $s->put('back', 'x', soft => 1, timeout => 5)
                                ->{status} == 200 }, $seconds);
    return $ok ? running - $time : undef;
}


{
    my @writers = map { KV::Load->writers($s, name => "w$_") } 1 .. 4;
    my ($slowest, @bad) = (0);

    sleep(0.3);
    for my $round (1 .. $ROUNDS) {
        $s->fault(slow => $round % 3 == 1 ? 20 : undef);
        sleep(0.05 + rand 0.2);

        # mostly one, sometimes two, sometimes all

        my @pids = shuffle($s->workers);
        splice @pids, $round % 10 == 9 ? 3 : $round % 5 == 4 ? 2 : 1;
        kill('KILL', @pids);

        my $took = back(10);
        push @bad, $round unless defined $took;
        $slowest = $took if defined $took && $took > $slowest;
        push @bad, "$round: a worker is missing" unless $s->back(@pids);
    }

    $s->fault(slow => undef);
    wait_for(sub { $s->store->{commit}{operations} > 100 * $ROUNDS }, 30, 0.3);
    my @results = map { $_->stop } @writers;
    my %counts;
    for my $counts (map { $_->{counts} } @results) {
        $counts{$_} += $counts->{$_} for keys %$counts;
    }
    my @errors = map { @{$_->{errors}} } @results;

    is("@bad", '', 'the service comes back each time');
    cmp_ok($slowest, '<', 4 * slowness(), 'within seconds');
    cmp_ok($counts{200}, '>', 50 * $ROUNDS, 'there was something to lose');
    is($counts{refused} // 0, 0, 'the port is open all the time');
    is(scalar @errors, 0, 'nothing lost or torn on the way')
        or diag(join "\n", splice @errors, 0, 10);

    my $ledger = KV::Ledger->merge(map { $_->{ledger} } @results);
    @errors = KV::Load->verify($s, $ledger, \my $found);
    is(scalar @errors, 0, "$ROUNDS deaths lost nothing")
        or diag(join "\n", splice @errors, 0, 10);
    is($s->store->{keys}, $found + 1, 'no key came from nowhere');
    is($s->http(GET => '/health')->{status}, 200, 'it is healthy');

    my $rebuilds = $s->store->{recovery}{rebuilds};
    is($s->stop, 0, 'it stops cleanly');
    $s->start;
    @errors = KV::Load->verify($s, $ledger, \$found);
    is(scalar @errors, 0, 'all of it is on disk')
        or diag(join "\n", splice @errors, 0, 10);

    note(join ', ', map { "$_ $counts{$_}" } sort keys %counts);
    note(sprintf 'slowest return %.2f s, %d rebuilds', $slowest, $rebuilds);
}


# uploads that die with their worker free what they took

{
    # what was there may be freed by later writes

    $s->clear;
    my ($was, $before) = (0, -1);
    wait_for(sub { $was = $before;
                   $s->put('back', 'x');
                   ($before = $s->used) == $was }, 20, 0.05);
    my @c = map { $s->connect } 1 .. 60;

    $_->send("PUT /kv/half HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
             . "\r\n" . 'x' x 900_000) for @c;
    ok(wait_for(sub { $s->used > $before + 60 * 900_000 }, 10, 0.05),
       'half the zone is taken by uploads');

    for my $pid ($s->workers) {
        kill('KILL', $pid);
        ok($s->back($pid), 'a worker dies with its uploads');
    }

    # without an answer, or with the 503 of a rebuild

    is(scalar(grep { $_->closed(30); $_->{eof} } @c), 60,
       'all uploads are cut off');
    my $used;
    ok(wait_for(sub { ($used = $s->used) <= $before + $RECORDS }, 20, 0.05),
       'what they had received is freed') or diag("$before, now $used");
    is($s->get('half')->{status}, 404, 'and not stored');

    # and can be used: 60 values of 1 MB, more than half of the zone

    my @status = map { $s->put("full$_", 'x' x 1_000_000)->{status} } 1 .. 60;
    is(scalar(grep { $_ == 200 } @status), 60, 'and can be used again');
}


# slow readers that die with their worker

{
    $s->clear;
    my $before = $s->used;

    $s->put('big', value('big', 1, 1_000_000));
    my @c = map { $s->connect(port => $s->{slow_port}) } 1 .. 20;
    $_->send(KV::Conn::request(GET => '/kv/big')) for @c;
    $_->ready(0, 5) for @c;
    $s->del('big');

    my @workers = $s->workers;
    kill('KILL', @workers);
    ok($s->back(@workers), 'workers die with slow readers');
    my $used;
    ok(wait_for(sub { $s->del('back');            # each write frees some
                      ($used = $s->used) <= $before + $RECORDS }, 20, 0.05),
       'what they read is freed') or diag("$before, now $used");
}


# all workers at once, while the committer is in its sync

{
    my ($lost, $back) = (0, 0);

    for my $round (1 .. 5) {
        $s->fault(slow => 100);
        my @c = map { $s->connect } 0 .. 31;
        $c[$_]->send(KV::Conn::request(PUT => "/kv/r$round-$_",
                                       body => "v$_")) for 0 .. 31;
        sleep(rand 0.15);
        kill('KILL', $s->workers);
        $s->fault(slow => undef);
        my @acked = grep { my $r = eval { $c[$_]->response };
                           $r && $r->{status} == 200 } 0 .. 31;
        my $took = back(10) // 10;
        $back = $took if $took > $back;
        $lost += grep { $s->get("r$round-$_")->{body} ne "v$_" } @acked;

        for (0 .. 31) {
            my $r = $s->get("r$round-$_");
            $lost++ unless $r->{status} == 404 || $r->{body} eq "v$_";
        }
    }

    is($lost, 0, 'all workers die in a sync: nothing is lost');
    cmp_ok($back, '<', 4 * slowness(), 'and the service is back');
}

# the committer dies some microseconds after its sync, mostly few: while it
# changes the map, in one of ten rounds or so, and the zone is rebuilt from disk

{
    $s->{workers} = 2;
    ok(defined $s->reload, 'two workers');
    $s->clear;

    my @writers = map { KV::Load->writers($s, name => "d$_",
                                          connections => 48, keys => 5) } 1, 2;
    my ($rebuilds, $round, $back, @bad) = (0, 0, 0);

    while ($round++ < $ROUNDS * 10 && ($round < $ROUNDS || !$rebuilds)) {
        $s->dies_behind_sync(20) or push @bad, "$round: no worker syncs";
        my $took = back(10) // 10;
        $back = $took if $took > $back;
        push @bad, "$round: not back" if $took >= 10;
        push @bad, "$round: a worker is missing" unless $s->back;
        $rebuilds = $s->store->{recovery}{rebuilds};
    }

    note("$rebuilds rebuilds in $round rounds");
    sleep(0.2);
    my @results = map { $_->stop } @writers;
    my @errors = map { @{$_->{errors}} } @results;

    is("@bad", '', 'committers die: the service comes back each time');
    cmp_ok($back, '<', 4 * slowness(), 'committers die: within seconds');
    cmp_ok($rebuilds, '>', 0, 'committers die: the zone was rebuilt');
    is(scalar @errors, 0, 'committers die: nothing lost or torn on the way')
        or diag(join "\n", splice @errors, 0, 10);

    my $ledger = KV::Ledger->merge(map { $_->{ledger} } @results);
    @errors = KV::Load->verify($s, $ledger, \my $found);
    is(scalar @errors, 0, 'committers die: every key is there')
        or diag(join "\n", splice @errors, 0, 10);
    $s->del('back');
    is($s->store->{keys}, $found, 'committers die: and counted');

    $s->stop('KILL');
    $s->start;
    @errors = KV::Load->verify($s, $ledger, \$found);
    is(scalar @errors, 0, 'committers die: all of it is on disk')
        or diag(join "\n", splice @errors, 0, 10);
    is($s->store->{keys}, $found, 'committers die: and no more');
    note(sprintf '%d deaths, %d rebuilds, slowest return %.2f s', $round - 1,
         $rebuilds, $back);
}

$s->done;
done_testing();
