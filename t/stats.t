# Statistics: counters that add up over workers, and the lines at the end.

use strict;
use warnings;

use List::Util qw(sum);
use Test::More;
use Time::HiRes qw(sleep);

use KV::Test;

my $s = KV::Test->new(workers => 4, kv => 'segment=1m max_value=256k',
                      http => 'kv_zone zone=other:16m path=%%dir%%/other
                               segment=1m max_value=256k;',
                      server => 'location /other/ { kv other; }
                                 location = /other-stats { kv_stats other; }');
$s->start;


# ---- what is there before the first request (but for /health, by start())

{
    my $st = $s->stats;
    my $store = $st->{store};

    is($store->{state}, 'ready', 'the state');
    is($store->{keys}, 0, 'no key');
    is($store->{bytes}, 0, 'no byte');
    cmp_ok($store->{zone}{size}, '<=', 32 << 20, 'the size of the zone');
    cmp_ok($store->{zone}{size}, '>', 31 << 20, 'most of it is for data');
    is($store->{recovery}{rebuilds}, 0, 'no rebuild');
    is($store->{commit}{operations}, 0, 'no operation');
    is($store->{log}{next_lsn}, 1, 'the first LSN');
    like($store->{log}{incarnation}, qr/^[0-9a-f]{16}$/, 'the incarnation');

    for my $path (qw(commit.batches commit.operations_per_batch
                     commit.sync_us.avg commit.sync_us.min commit.sync_us.max
                     log.bytes log.written log.segments log.durable_lsn
                     log.unsynced_ms
                     snapshots.completed snapshots.failed snapshots.last_lsn
                     snapshots.last_bytes snapshots.last_ms snapshots.log_bytes
                     recovery.ms recovery.snapshot_records recovery.log_records
                     zone.used))
    {
        my $value = $store;
        $value = ref $value ? $value->{$_} : undef for split /\./, $path;
        like($value // 'undefined', qr/^\d+(?:\.\d+)?$/, "store.$path");
    }
}


# The PUTs that are counted.  A request is when it was answered: the client may
# be here first.

sub puts {
    my ($want, @path) = @_;
    my $n;
    wait_for(sub { ($n = $s->stats(@path)->{routes}{kv}{PUT}{requests})
                   == $want }, 10);
    return $n;
}


# ---- requests, each on a connection of its own, so over all workers

my %want = (
    'kv PUT' => { 200 => 40, 400 => 12, 413 => 3 },
    'kv GET' => { 200 => 40, 404 => 10, 400 => 5 },
    'kv HEAD' => { 200 => 7, 404 => 2 },
    'kv DELETE' => { 200 => 15 },
    'kv POST' => { 405 => 3 },
    'kv other' => { 405 => 3 },
    'clear DELETE' => { 200 => 2 },
    'clear POST' => { 405 => 1 },
    'clear GET' => { 405 => 4 },
    'health PUT' => { 405 => 3 },
);

$s->put("k$_", value("k$_", $_, 1000)) for 1 .. 40;
$s->put('k1', '') for 1 .. 10;
$s->put('a~b', 'x');
$s->put('', 'x');
$s->put('k1', 'x' x 300_000) for 1 .. 3;
$s->get("k$_") for 1 .. 40;
$s->get("none$_") for 1 .. 10;
$s->get('a~b') for 1 .. 5;
$s->http(HEAD => '/kv/k1') for 1 .. 7;
$s->http(HEAD => '/kv/none') for 1 .. 2;
$s->http(POST => '/kv/k1') for 1 .. 3;
$s->http(PATCH => '/kv/k1') for 1 .. 3;
$s->http(GET => '/clear') for 1 .. 4;
$s->http(POST => '/clear');
$s->http(PUT => '/health', body => 'x') for 1 .. 3;

{
    my $store = $s->store;
    my $bytes = 0;
    $bytes += length("k$_") + 1000 for 1 .. 40;
    is($store->{keys}, 40, 'keys are counted');
    is($store->{bytes}, $bytes, 'and their bytes, and those of values');
    cmp_ok($store->{log}{bytes}, '>', $bytes, 'the log has them');
    cmp_ok($store->{log}{written}, '>=', $store->{log}{bytes}, 'in blocks');
    is($store->{snapshots}{log_bytes}, $store->{log}{bytes}, 'no snapshot yet');
    cmp_ok($store->{zone}{used}, '>=', $bytes, 'they take memory');
    cmp_ok($store->{zone}{used}, '<=', $store->{zone}{size}, 'not too much');
}

$s->del("k$_") for 1 .. 15;
is($s->store->{keys}, 25, 'deletes are counted');
$s->put('k16', 'x');
$want{'kv PUT'}{200}++;
is($s->store->{bytes}, 24 * 1003 + 4, 'an overwrite is counted');
$s->clear for 1 .. 2;

is(puts(56), 56, 'PUTs are counted');

my $st;
wait_for(sub {
    $st = $s->stats;
    return !grep { my ($route, $method) = split / /;
                   sum(values %{$want{$_}})
                   > ($st->{routes}{$route}{$method}{requests} // 0) }
            keys %want;
}, 10);
is($st->{store}{keys}, 0, 'a clear is counted');
is($st->{store}{bytes}, 0, 'a clear is counted in bytes');

for my $name (sort keys %want) {
    my ($route, $method) = split / /, $name;
    my $row = $st->{routes}{$route}{$method};
    my $n = 0;

    $n += $_ for values %{$want{$name}};
    is($row->{requests}, $n, "$name: requests");
    is_deeply($row->{status}, $want{$name}, "$name: by status");

    my $us = $row->{latency_us};
    cmp_ok($us->{min}, '<=', $us->{avg},
           "$name: the least is not above the mean");
    cmp_ok($us->{avg}, '<=', $us->{max}, "$name: nor that above the most");
    cmp_ok($us->{max}, '<', 10_000_000, "$name: nor that above ten seconds");
}

cmp_ok($st->{routes}{health}{GET}{status}{200}, '>=', 1, 'health is counted');
cmp_ok($st->{routes}{stats}{GET}{status}{200}, '>=', 4, 'stats are counted');
cmp_ok($st->{routes}{kv}{PUT}{latency_us}{max}, '>', 0, 'a PUT takes time');

my $operations = 41 + 15 + 2;
my $commit = $st->{store}{commit};
is($commit->{operations}, $operations, 'operations are counted');
cmp_ok($commit->{batches}, '<=', $operations, 'batches too');
cmp_ok($commit->{batches}, '>=', 1, 'batches too');
cmp_ok($commit->{operations_per_batch}, '>=', 1, 'operations per batch');
cmp_ok($commit->{sync_us}{max}, '>', 0, 'a sync takes time');
is($st->{store}{log}{next_lsn}, $operations + 1, 'the next LSN');
is($st->{store}{log}{durable_lsn}, $operations, 'all of it is durable');
cmp_ok($st->{store}{log}{bytes}, '>', 40_000, 'the log has its bytes');
cmp_ok($st->{store}{log}{segments}, '>=', 1, 'and segments');


# A client that keeps its connection open after the answer adds nothing to
# the time that the answer took.

my $puts = 56;

{
    my $seconds = sub { my $row = $s->stats->{routes}{kv}{PUT};
                        return $row->{requests} * $row->{latency_us}{avg} / 1e6
                      };
    my $took;

    # once more if the machine stood still just then

    for (1 .. 5) {
        my $before = $seconds->();
        my $c = $s->connect;
        $c->send(KV::Conn::request(PUT => '/kv/k', body => 'x',
                                   headers => [ 'Connection: close' ]));
        $c->response;
        sleep(2);
        $c->close;
        is(puts(++$puts), $puts, 'a client that takes its time');
        $operations++;
        $took = $seconds->() - $before;
        last if $took < 1.9;
    }

    cmp_ok($took, '<', 1.9, 'its time is not counted');
}


# ---- of another zone, which counts by itself

$s->http(PUT => '/other/a', body => 'x') for 1 .. 3;
$s->http(GET => '/other/a') for 1 .. 2;
my $other = $s->stats('/other-stats');
is($other->{store}{keys}, 1, 'the other zone: keys');
is(puts(3, '/other-stats'), 3, 'the other zone: requests');
is(puts($puts), $puts, 'not mixed up');


# ---- they outlive workers

$s->expect_log(qr/exited on signal 9/);
kill('KILL', ($s->workers)[0]);
ok(wait_for(sub { $s->workers == 4 }, 20), 'a worker dies and is replaced');
is(puts($puts), $puts, 'what it counted stays');

ok(defined $s->reload, 'a reload');
$s->put('k', 'x');
is(puts(++$puts), $puts, 'counters outlive a reload');
is($s->store->{commit}{operations}, $operations + 1, 'those of the store too');


# ---- the lines at the end

is($s->stop, 0, 'it stops');

my @lines = $s->log =~ /(kv zone "\w+": .* requests?, .*)/g;
my %line = map { /^kv zone "(\w+)": (\S+ \S+): (\d+) requests?, (.*)/
                 ? ("$1 $2" => [ $3, $4 ]) : () } @lines;

is($line{'main PUT /kv/{key}'}[0], $puts, 'PUT /kv/{key}: requests');
is($line{'main GET /kv/{key}'}[0], 55, 'GET /kv/{key}: requests');
is($line{'main HEAD /kv/{key}'}[0], 9, 'HEAD /kv/{key}: requests');
is($line{'main DELETE /kv/{key}'}[0], 15, 'DELETE /kv/{key}: requests');
is($line{'main DELETE /clear'}[0], 2, 'DELETE /clear: requests');
is($line{'other PUT /kv/{key}'}[0], 3, 'the other zone: requests');
ok($line{'main GET /health'}, 'GET /health has a line');
ok($line{'main GET /stats'}, 'GET /stats has a line');
like($line{'main PUT /kv/{key}'}[1] // '', qr/\b200\b.*\b43\b|\b43\b.*\b200\b/,
     'a line counts by status');
like($line{'main PUT /kv/{key}'}[1] // '', qr/avg|average|mean/,
     'and gives latencies');

my %seen;
$seen{$_}++ for map { /^(kv zone "\w+": \S+ \S+):/ } @lines;
is(scalar(grep { $_ > 1 } values %seen), 0, 'each line comes once');
like($s->log, qr/\[notice\].*kv zone "main": PUT/, 'at level notice');

$s->done;


# ---- the disk, of which others take a part, while nobody writes to the store

SKIP: {
    my $t = KV::Test->new(kv => 'segment=1m max_value=256k');
    my $disk = $t->mount(disk => 'size=20m') // skip('no tmpfs here', 1);
    $t->{path} = "$disk/data";
    $t->start;

    my $df = sub { (split /\n/, qx(df --output=avail -B1 '$disk'))[1] + 0 };
    my $left = sub { $t->store->{disk}{available} };

    is($t->store->{disk}{size}, 20 << 20, 'the size of its file system');
    cmp_ok($left->(), '>', 1 << 20, 'what is left of it, from the start on');
    $t->put('a', 'x');
    $t->idle;

    write_file("$disk/of others", 'x' x 10_000_000);
    ok(wait_for(sub { $left->() == $df->() }, 20), 'others take a part');
    cmp_ok($left->(), '<', 10 << 20, 'a large one');
    unlink "$disk/of others";
    ok(wait_for(sub { $t->http(GET => '/metrics')->{body}
                      =~ /^nginx_kv_disk_available_bytes\{.*\} (\d+)$/m
                      && $1 == $df->() }, 20), 'and give it back');
    $t->done;
}

done_testing();
