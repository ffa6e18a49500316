# The states of a store, seen from outside: what may pass does pass, in every
# worker, and /health and /stats tell the truth meanwhile.

# long

use strict;
use warnings;

use Errno qw(EACCES EMFILE ENOMEM);
use Test::More;
use Time::HiRes qw(sleep);

use KV::Test;

KV::Test::with_failpoints();

my @KV = (zone => '32m', kv => 'segment=1m max_value=256k snapshot=off',
          location => '} location = /dashboard { kv_dashboard;');

sub state { $_[0]->store->{state} }

sub health { $_[0]->http(GET => '/health', soft => 1)->{status} }

# That those who look see that state: metrics, the dashboard, and what a backup
# is answered.

sub told {
    my ($s, $state, $backup, $why) = @_;
    my $r = $s->http(GET => '/metrics');
    my %is = $r->{body}
             =~ /^nginx_kv_state\{zone="main",state="([^"]+)"\} (\d)$/mg;
    is($r->{status}, 200, "$state: /metrics");
    is_deeply([ grep { $is{$_} } sort keys %is ], [ $state ],
              "$state: the metrics say it");
    is(scalar keys %is, 6, "$state: and which others there are");
    $r = $s->http(GET => '/dashboard');
    is($r->{status}, 200, "$state: /dashboard");
    like($r->{body}, qr/<code>$state<\/code>|\b$state\b/, "$state: knows it");
    $r = $s->http(GET => '/backup');
    is($r->{status}, $backup, "$state: /backup");
    is($r->{body}, $why, "$state: /backup says why") if defined $why;
    ok(wait_for(sub { $s->store->{backups}{running} == 0 }, 20),
       "$state: it is over");
}

# The next process that comes to this failpoint dies there.

sub arm {
    my ($s, $point) = @_;
    write_file("$s->{dir}/point.new", "$point 1\n");
    rename("$s->{dir}/point.new", "$s->{dir}/point") or die;
}

# A put, whose committer dies there, having all files open, when no other can be
# opened.

sub dies_at {
    my ($s, $point) = @_;
    my $c = $s->connect;

    $s->fault(hold => '1 /log-');
    $c->send(KV::Conn::request(PUT => '/kv/k1', body => value('k1', 1, 5000)));
    $s->held or die "it is not synced\n";
    $s->fault(open => EMFILE);
    arm($s, $point);
    $s->fault(hold => undef);
}

# Puts until the answer is another; what it is.

sub until_not {
    my ($s, $status) = @_;
    for (1 .. 500) {
        my $now = $s->put("k" . $_ % 20, value("k" . $_ % 20, 1, 50_000))
                    ->{status};
        return $now if $now != $status;
    }
    return $status;
}


# ---- a limit of the size of files

{
    my $s = KV::Test->new(@KV, limit => 1000);             # of 512 bytes
    my ($rc, $out) = $s->refused;
    ok($rc, 'a limit below a segment: no start');
    unlike($out, qr/signal/, 'which is no death');
    like($out, qr/\[emerg\].*1048576 bytes.*512000 at most.*ulimit -f/,
         'and says which limit it is');
    $s->expect_log(qr/\[emerg\]/);
    $s->done;
}

SKIP: {
    skip('no prlimit here', 1) if system('prlimit --version >/dev/null 2>&1');

    my $s = KV::Test->new(@KV);
    $s->start;
    my @workers = sort $s->workers;
    my $failed = grep { system("prlimit --pid $_ --fsize=700000: "
                               . '>/dev/null 2>&1') } $s->processes;
    skip('the limits of others cannot be set here', 1) if $failed;

    is(until_not($s, 200), 507, 'a limit that comes later: 507');
    is(state($s), 'disk full', 'as of a full disk');
    is(health($s), 503, 'and /health says so');
    is($s->get('k1')->{body}, value('k1', 1, 50_000), 'reads go on');
    told($s, 'disk full', 200);
    is_deeply([ sort $s->workers ], \@workers, 'no worker was killed');
    $s->expect_log(qr/ulimit -f/);
    like($s->log, qr/ulimit -f/, 'the log says what is in the way');

    # the way out as well: what waits is committed by the main thread

    is($s->stop, 0, 'it stops');
    $s->start;
    is($s->get('k1')->{body}, value('k1', 1, 50_000), 'and starts');
    is($s->put('k1', 'x')->{status}, 200, 'without the limit it writes');
    $s->done;
}


# ---- files that cannot be opened

for my $errno (EACCES, EMFILE) {
    my $name = $! = $errno;
    my $s = KV::Test->new(@KV, fault => 1);
    $s->expect_log(qr/writes are refused/);
    $s->start;
    $s->put("k$_", value("k$_", 1, 50_000)) for 1 .. 3;

    $s->fault(open => $errno);
    is(until_not($s, 200), 503, "$name: refused when a file is needed");
    is(state($s), 'refusing', "$name: /stats says so");
    is(health($s), 503, "$name: /health, too");
    is($s->get('k1')->{body}, value('k1', 1, 50_000), "$name: reads go on");
    told($s, 'refusing', 500, "backup failed\n");
    $s->expect_log(qr/there is no backup/);

    # it does not change with each write that fits

    my @got = map { $s->put('small', 'x'); health($s) } 1 .. 20;
    is_deeply([ grep { $_ != 503 } @got ], [], "$name: nor with small writes");
    my $said = () = $s->log =~ /writes are refused/g;
    cmp_ok($said, '<=', 2, "$name: and is said once or so");

    # no client writes, but one asks for /health

    $s->fault(open => undef);
    ok(wait_for(sub { health($s) == 200 }, 10), "$name: it ends by itself");
    is(state($s), 'ready', "$name: ready");
    is($s->put('k1', value('k1', 1, 50_000))->{status}, 200,
       "$name: writes work again") for 1 .. 30;
    $s->stop('KILL');
    $s->start;
    is($s->get('k1')->{body}, value('k1', 1, 50_000), "$name: nothing lost");
    $s->done;
}


# memory that a write lacks

{
    my $s = KV::Test->new(@KV, fault => 1);
    $s->expect_log(qr/writes are refused/);
    $s->start;
    $s->put('k1', 'old');
    $s->fault(write => ENOMEM);
    is($s->put('k1', 'new')->{status}, 503, 'ENOMEM: refused');
    is(state($s), 'refusing', 'ENOMEM: for now');
    $s->fault(write => undef);
    is($s->get('k1')->{body}, 'old', 'ENOMEM: nothing has changed');
    is($s->put('k1', 'new')->{status}, 200, 'ENOMEM: it works again');
    is(health($s), 200, 'ENOMEM: and is healthy');
    $s->done;
}


# syncs, in whatever worker, that have a file to open

{
    my $s = KV::Test->new(@KV, fault => 1);
    $s->{kv} .= ' sync=20ms';
    $s->expect_log(qr/writes are refused|exited on signal 9/);
    $s->start;
    $s->put("k$_", 'x') for 1 .. 10;

    for (1 .. 5) {

        # the committer goes, and the next has nothing open

        $s->fault(open => EMFILE);
        $s->put("k$_", 'x', soft => 1) for 1 .. 4;
        kill('KILL', ($s->workers)[0]);
        sleep(0.05);
        $s->put("k$_", 'x', soft => 1) for 1 .. 4;
        $s->fault(open => undef);
        wait_for(sub { $s->workers == 2 }, 20);
    }

    ok(wait_for(sub { health($s) == 200 }, 10),
       'syncs that cannot open the segment are not final');
    is($s->put('k1', 'y')->{status}, 200, 'writes go on');
    ok(wait_for(sub { my $l = $s->store->{log};
                      $l->{durable_lsn} == $l->{next_lsn} - 1 }, 20),
       'and are synced');
    $s->done;
}


# ---- what a power cut would take, while a sync lasts

{
    my $s = KV::Test->new(@KV, fault => 1);
    $s->{kv} .= ' sync=50ms';
    $s->start;
    is($s->store->{log}{unsynced_ms}, 0, 'unsynced: nothing yet');
    $s->put('k', 'this opens the log');

    my $c = $s->connect;
    for (1 .. 2) {
        $s->fault(hold => 1);
        $c->send(KV::Conn::request(PUT => '/kv/k', body => 'x'));
        ok(wait_for(sub { $s->store->{log}{unsynced_ms} > 200 }, 10, 0.01),
           'unsynced: older than the interval, while a sync takes its time');
        $s->fault(hold => undef);
        is($c->response->{status}, 200, 'unsynced: it is written');
    }
    ok(wait_for(sub { $s->store->{log}{unsynced_ms} == 0 }, 10),
       'unsynced: nothing in the end');
    $s->done;
}


# ---- a rebuild that lacks descriptors

{
    my $s = KV::Test->new(@KV, fault => 1);
    $s->expect_log(qr/exited on signal 9|cannot be rebuilt yet/);
    $ENV{KV_FAILPOINT_DIR} = $s->{dir};
    $s->start;
    $s->put("k$_", value("k$_", 1, 5000)) for 1 .. 20;

    dies_at($s, 'APPLYING');

    ok(wait_for(sub { $s->log =~ /cannot be rebuilt yet/ }, 10),
       'a rebuild without descriptors');
    is(state($s), 'recovering', 'is tried again');
    told($s, 'recovering', 503, "store is unavailable\n");
    is($s->get('k2')->{status}, 503, 'reads wait');
    is($s->put('k2', 'x')->{status}, 503, 'writes wait');
    is(health($s), 503, '/health knows');

    # also when another worker has to go on with it

    kill('KILL', ($s->workers)[0]);
    wait_for(sub { $s->workers == 2 }, 20);
    $s->fault(open => undef);
    ok(wait_for(sub { health($s) == 200 }, 10), 'until it goes well');
    is(scalar(grep { $s->get("k$_")->{body} ne value("k$_", 1, 5000) }
              1 .. 20), 0, 'and nothing is lost');
    is($s->store->{recovery}{rebuilds}, 1, 'it was one rebuild');
    $s->done;
    delete $ENV{KV_FAILPOINT_DIR};
}


# ---- a worker that is killed while /stats holds the heap's lock: it only read
# there, so the zone is whole, and a rebuild that goes on meanwhile ends well

{
    my $s = KV::Test->new(@KV, workers => 3, fault => 1);
    $s->expect_log(qr/exited on signal 9|cannot be rebuilt yet/);
    $ENV{KV_FAILPOINT_DIR} = $s->{dir};
    $s->start;
    $s->put("k$_", value("k$_", 1, 5000)) for 1 .. 20;

    my $reads = sub { wait_for(sub {

                          # a committer may come there first

                          arm($s, 'HEAP_READ');
                          my $r = $s->http(GET => '/stats', soft => 1);
                          return $r->{status} == 0;
                      }, 10) };
    my $sane = sub { my $st = $s->store;
                     my @size = map { $_ // -1 } @{$st->{zone}}{qw(used held)};
                     $st->{state} eq $_[0]
                     && !grep { $_ < 0 || $_ > $st->{zone}{size} } @size };

    ok($s->idle && $reads->(), 'a worker is killed in /stats');
    ok(wait_for(sub { $s->workers == 3 }, 20), 'another takes its place');
    ok($sane->('ready'), '/stats says what is so');
    is($s->put('k1', value('k1', 1, 5000))->{status}, 200, 'writes go on');
    is($s->store->{recovery}{rebuilds}, 0, 'the zone is whole');

    for my $point ('LINKED', 'HEAP_ALLOC') {
        if ($point eq 'LINKED') {
            dies_at($s, $point);

        } else {
            $s->fault(open => EMFILE);
            arm($s, $point);
            $s->put('k1', value('k1', 1, 5000), soft => 1);
        }
        ok(wait_for(sub { !-e "$s->{dir}/point" && state($s) eq 'recovering' },
                    10), "$point: the zone cannot be rebuilt now");
        ok($reads->(), "$point: a worker is killed in /stats")
            if $point eq 'LINKED';
        ok($sane->('recovering'), "$point: /stats still says what is so");
        $s->fault(open => undef);
        ok(wait_for(sub { health($s) == 200 }, 10), "$point: it is rebuilt");
        is(scalar(grep { $s->get("k$_")->{body} ne value("k$_", 1, 5000) }
                  1 .. 20), 0, "$point: and nothing is lost");
        ok($sane->('ready'), "$point: /stats says that, too");
    }

    unlike($s->log, qr/[^\x20-\x7e\n]|cannot be rebuilt yet: *;/,
           'what the log says is text');
    $s->done;
    delete $ENV{KV_FAILPOINT_DIR};
}


# ---- workers sleep while the zone waits to be rebuilt, because one is stopped,
# and when it cannot be, although a snapshot is still to be made

{
    my $s = KV::Test->new(@KV, workers => 3, fault => 1, server =>
                          'add_header Worker $pid always;');
    $s->{kv} =~ s/snapshot=off/snapshot=64k/;
    $s->expect_log(qr/exited on signal 9|cannot be rebuilt/);
    $ENV{KV_FAILPOINT_DIR} = $s->{dir};
    $s->start;

    # the worker that makes a snapshot

    my $maker = sub {
        my ($pid) = grep { grep { (readlink // '') =~ /snap-.*tmp/ }
                           glob "/proc/$_/fd/*" } $s->workers;
        return $pid;
    };
    my $n = 0;
    my $making = sub {
        my $pid;
        $s->fault(hold => '1 snap-');
        wait_for(sub { my $key = 'k' . ++$n % 200;
                       $pid = $maker->();
                       $s->put($key, value($key, 1, 50_000));
                       return $pid }, 10, 0.001)
            or die "no snapshot is made\n";

        # and the next one is to be made after it

        $s->held or die "it is not synced\n";
        $s->put('again', 'x' x 250_000) for 1 .. 10;
        return $pid;
    };

    # another worker breaks it

    my $break = sub {
        my ($by) = @_;
        my $c = $s->connect_to($by);
        arm($s, 'LINKED');
        $c->send(KV::Conn::request(PUT => '/kv/last', body => 'x'));
        ok(wait_for(sub { (eval { state($s) } // 'ready') ne 'ready' }, 10),
           'the zone breaks');
        $s->fault(hold => undef);
        ok(wait_for(sub { !$maker->() }, 10), 'the snapshot ends');
        ok(wait_for(sub { $s->workers == 3 }, 10), 'there are three workers');
        for (1 .. 12) {
            $s->get('k1');
            health($s);
        }
    };

    # one that is not the committer just now: without it no write goes on

    my $stop = sub {
        my ($worker) = @_;
        return wait_for(sub {
            kill('STOP', $worker);
            my $r = $s->put('beside', 'x', soft => 1, timeout => 2);
            return 1 if $r->{status} == 200;
            kill('CONT', $worker);
            return;
        }, 10);
    };

    my $pid = $making->();
    my $written = $s->store->{log}{next_lsn} - 1;
    my ($stopped, $dies) = grep { $_ != $pid } $s->workers;
    ok($stop->($stopped), 'others write beside one that is stopped');
    $break->($dies);
    is(state($s), 'recovering', 'it waits for the one that is stopped');
    my ($busy, $woken) = busy(grep { $_ != $stopped } $s->workers);
    cmp_ok($busy, '<', 0.3, 'and the others sleep');
    cmp_ok($woken, '<', 100, 'and are not woken all the time');
    kill('CONT', $stopped);
    ok(wait_for(sub { health($s) == 200 }, 10), 'then it is rebuilt');

    # not a count: with 1 MiB in the first one, the sync that was held was not
    # its last, and it ended without a name

    ok(wait_for(sub { $s->store->{snapshots}{last_lsn} >= $written }, 10),
       'and the next snapshot is made')
        or diag("it has all up to $written", $s->symptoms);

    # damage, behind the last snapshot, with other writes behind it

    $pid = $making->();
    my $value = value('damaged', 1, 100_000);
    $s->put('damaged', $value);
    $s->put("behind$_", value("behind$_", 1, 20_000)) for 1, 2;
    for my $name (glob "$s->{path}/log-*.kvl") {
        my $at = index(read_file($name), $value);
        next if $at < 0;
        open(my $f, '+<:raw', $name) or die "$name: $!";
        seek($f, $at + 50_000, 0);
        print $f 'damaged';
        close $f or die "$name: $!";
    }

    ($dies) = grep { $_ != $pid } $s->workers;
    $break->($dies);
    ok(wait_for(sub { state($s) eq 'failed' }, 10), 'it cannot be rebuilt');
    like($s->log, qr/\[alert\].*cannot be rebuilt: .*log-.*restarted/,
         'the log says why');
    is_deeply([ $s->get('k1')->{status}, $s->put('k1', 'x')->{status},
                health($s) ], [ (503) x 3 ], 'nothing is served');
    told($s, 'failed', 503, "store is unavailable\n");
    ($busy, $woken) = busy($s->workers);
    cmp_ok($busy, '<', 0.3, 'and all sleep');
    cmp_ok($woken, '<', 100, 'and are not woken');
    $s->done;
    delete $ENV{KV_FAILPOINT_DIR};
}


# ---- the current segment is deleted: no write follows it, and what the log
# says to do gets back all that was acknowledged

{
    my $s = KV::Test->new(@KV);
    $s->start;
    $s->put("k$_", value("k$_", 1, 1000)) for 1 .. 50;

    my ($segment) = glob "$s->{path}/log-*.kvl";
    unlink($segment) or die "$segment: $!";

    my @got = map { $s->put('k1', 'x')->{status} } 1 .. 10;
    is_deeply([ grep { $_ != 503 } @got ], [], 'a segment that is gone: 503');
    is(state($s), 'read-only', '/stats says so');
    is(health($s), 503, '/health, too');
    told($s, 'read-only', 500, "backup failed\n");

    like($s->log, qr{\[alert\].*\Q@{[ $segment =~ m,([^/]+)$, ]}\E.*/proc/},
         'the log says where to find it');
    my ($from) = grep { (readlink // '') eq "$segment (deleted)" }
                 map { glob "/proc/$_/fd/*" } $s->committers;
    system('cp', $from // '/dev/null', $segment);

    $s->expect_log(qr/a restart would lose the writes in it/,
                   qr/there is no backup/);
    $s->stop('KILL');
    $s->start;
    is(scalar(grep { $s->get("k$_")->{body} eq value("k$_", 1, 1000) } 1 .. 50),
       50, 'and from there all comes back');
    $s->done;
}


done_testing();
