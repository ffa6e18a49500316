# Snapshots under load, and recovery from the log, from a snapshot, from both.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep);

use KV::Load;
use KV::Test;

my @DEFAULT = (zone => '64m');

sub files {
    my ($s, $re) = @_;
    my @files = sort grep { /$re/ } keys %{list_dir($s->{path})};
    return @files;
}

sub logs { files($_[0], qr/^log-[0-9a-f]{16}\.kvl$/) }
sub snaps { files($_[0], qr/^snap-[0-9a-f]{16}\.kvs$/) }

sub restart {
    my ($s) = @_;
    $s->stop('KILL');
    $s->start;
    return $s->store->{recovery};
}

sub check {
    my ($s, $ledger, $name) = @_;
    my @errors = KV::Load->verify($s, $ledger, \my $found);
    is(scalar @errors, 0, "$name: everything is there")
        or diag(join "\n", splice @errors, 0, 10);
    is($s->store->{keys}, $found, "$name: and nothing else");
}

# Writes until the condition holds.

sub write_until {
    my ($s, $name, $condition) = @_;
    my @writers = map { KV::Load->writers($s, name => "$name$_") } 1 .. 3;
    my $ok = wait_for($condition, 40, 0.05);
    my @results = map { $_->stop } @writers;
    my @errors = map { @{$_->{errors}} } @results;

    ok($ok, "$name: it comes so far");
    is(scalar @errors, 0, "$name: every answer was right")
        or diag(join "\n", splice @errors, 0, 10);
    return KV::Ledger->merge(map { $_->{ledger} } @results);
}


# the log alone

{
    my $s = KV::Test->new(@DEFAULT,
                          kv => 'segment=1m max_value=256k snapshot=1000m');
    $s->start;
    my $ledger = write_until($s, 'log', sub { logs($s) >= 8 });
    is(scalar(snaps($s)), 0, 'no snapshot');
    my $operations = $s->store->{log}{next_lsn} - 1;

    my $r = restart($s);
    is($r->{snapshot_records}, 0, 'nothing comes from a snapshot');
    is($r->{log_records}, $operations, 'every record comes from the log');
    check($s, $ledger, 'log');

    # a clear in the log

    $s->put('before', 'x');
    $s->clear;
    $s->put('after', 'y');
    restart($s);
    is($s->get('before')->{status}, 404, 'a clear is replayed');
    is($s->get('after')->{body}, 'y', 'and what came after it');
    is($s->store->{keys}, 1, 'and nothing else is there');
    $s->done;
}


# snapshots under load, then both

{
    my $s = KV::Test->new(@DEFAULT,
                          kv => 'segment=1m max_value=256k snapshot=3m');
    $s->start;
    my $first;

    my $ledger = write_until($s, 'both', sub {
        $first //= (logs($s))[0];
        return $s->store->{snapshots}{completed} >= 6;
    });

    my $st = $s->store->{snapshots};
    is($st->{failed}, 0, 'no snapshot failed');
    cmp_ok($st->{last_lsn}, '>', 0, 'the last LSN');
    cmp_ok($st->{last_bytes}, '>', 0, 'the last size');
    ok(wait_for(sub { !files($s, qr/\.tmp$/) }, 10),
       'no snapshot is left half');
    cmp_ok(scalar(snaps($s)), '>=', 1, 'there is one');
    ok(wait_for(sub { snaps($s) <= 2 }, 10), 'there are not too many');
    isnt((logs($s))[0], $first, 'old segments go');

    # how many there are under load is a matter of whose turn it is; but none
    # stays that two snapshots have made needless

    ok(wait_for(sub { $s->put('more', value('more', 1, 100_000));
                      logs($s) <= 12 }, 20), 'and do not pile up');
    $s->del('more');
    cmp_ok(scalar(files($s, qr/^spare-/)), '<=', 8, 'nor do spare ones');

    my $r = restart($s);
    cmp_ok($r->{snapshot_records}, '>', 0, 'a snapshot is read');
    check($s, $ledger, 'both');

    # the log may be long enough for a snapshot, after which it is counted anew

    my $since;
    ok(wait_for(sub { $since = $s->store->{snapshots}{log_bytes};
                      $s->put('one', 'more');
                      $since = $s->store->{snapshots}{log_bytes} - $since;
                      $since >= 0 }, 20), 'no snapshot comes in between');
    cmp_ok($since, '>=', length 'onemore', 'the log grows');
    cmp_ok($since, '<', 4096, 'a bit');
    $r = restart($s);
    cmp_ok($r->{snapshot_records}, '>', 0, 'a snapshot is read');
    cmp_ok($r->{log_records}, '>', 0, 'and the log');
    cmp_ok($s->store->{snapshots}{log_bytes}, '>', 0, 'which counts');
    is($s->get('one')->{body}, 'more', 'the log goes over the snapshot');

    # SIGKILL at any moment of a snapshot

    for my $round (1 .. 6) {
        my @writers = map { KV::Load->writers($s, name => "k$round-$_") }
                          1 .. 2;
        my $done = $s->store->{snapshots}{completed};
        wait_for(sub { files($s, qr/^snap-.*\.tmp$/)
                       || $s->store->{snapshots}{completed} > $done },
                 15, 0.003);
        sleep(rand 0.03);
        $s->stop('KILL');
        my @results = map { $_->stop } @writers;
        $s->start;
        is(scalar(files($s, qr/\.tmp$/)), 0,
           "round $round: the half snapshot is gone");
        my $mine = KV::Ledger->merge(map { $_->{ledger} } @results);
        my @errors = (map { @{$_->{errors}} } @results);
        push @errors, KV::Load->verify($s, $mine, \my $found);
        is(scalar @errors, 0, "round $round: SIGKILL in a snapshot")
            or diag(join "\n", splice @errors, 0, 10);
    }

    # asked to quit while a snapshot is taken, it does not wait for it

    my $writers = KV::Load->writers($s, name => 'quit');
    wait_for(sub { files($s, qr/^snap-.*\.tmp$/) }, 15, 0.003);
    is($s->stop, 0, 'SIGTERM in a snapshot');
    my $mine = $writers->stop->{ledger};
    $s->start;
    my @errors = KV::Load->verify($s, $mine, \my $found);
    is(scalar @errors, 0, 'SIGTERM in a snapshot: all is there')
        or diag(join "\n", splice @errors, 0, 10);
    $s->done;
}


# a snapshot that nothing came after

{
    my $s = KV::Test->new(@DEFAULT,
                          kv => 'segment=1m max_value=256k snapshot=2m');
    my ($n, $grown) = (0, 0);
    my $last = sub { $s->store->{snapshots}{last_lsn} };

    # until one is due, or has begun: since then the log is counted anew

    $s->start;
    while (++$n < 400) {
        $s->put("n$n", value("n$n", $n, 20_000));
        my $before = $grown;
        $grown = $s->store->{snapshots}{log_bytes};
        last if $grown >= 2 << 20 || $grown < $before;
    }
    my $lsn = $s->store->{log}{next_lsn} - 1;
    ok(wait_for(sub { $last->() == $lsn }, 20),
       'a snapshot after the last write');

    my $r = restart($s);
    is($r->{snapshot_records}, $n, 'every key comes from the snapshot');
    is($r->{log_records}, 0, 'and none from the log');

    $s->del('n1');
    $s->put('n2', value('n2', 1000, 100));
    $r = restart($s);
    is($r->{snapshot_records}, $n, 'every key comes from the snapshot');
    is($r->{log_records}, 2, 'what came later from the log');
    is($s->get('n1')->{status}, 404, 'a delete after the snapshot');
    is($s->get('n2')->{body}, value('n2', 1000, 100),
       'a write after the snapshot');
    is(scalar(grep { $s->get("n$_")->{body} ne value("n$_", $_, 20_000) }
              3 .. $n), 0, 'the rest is as it was');
    $s->done;
}


# a snapshot of an empty store, of a cleared one, and memory for it

{
    my $s = KV::Test->new(@DEFAULT,
                          kv => 'segment=1m max_value=256k snapshot=2m');
    $s->start;
    my $ok = wait_for(sub {
        $s->put('same', value('same', 1, 100_000));
        $s->clear;
        return $s->store->{snapshots}{completed} >= 2;
    }, 20, 0.001);
    ok($ok, 'snapshots of next to nothing');
    $s->clear;
    restart($s);
    is($s->store->{keys}, 0, 'nothing is there afterwards');
    $s->done;
}

done_testing();
