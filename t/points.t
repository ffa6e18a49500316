# Workers that die at every named point (src/kv_points.h), with writes, reads,
# uploads and snapshots going on: the point is reached, the service is back
# without help, and nothing that was acknowledged is lost.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time sleep);

use KV::Load;
use KV::Test;
use KV::Util qw(free_port);

my $ROUNDS = $ENV{KV_ROUNDS} || 1;

# a module of its own, with the points compiled in

{
    local $ENV{KV_CFLAGS} = '-DKV_TEST_POINTS';
    system('scripts/build.sh', '--quiet', '--build-dir', '.build/points') == 0
        or BAIL_OUT('the test build of the module failed');
}
$ENV{KV_MODULE} = '.build/points/ngx_http_kv_module.so';

my @points = do {
    open my $f, '<', 'src/kv_points.h' or die;
    map { /^\s+KV_POINT_(\w+),/ ? $1 : () } <$f>;
};
cmp_ok(scalar @points, '>', 20, 'there are points');

# which leave the zone half changed: it must be rebuilt

my %rebuild = map { $_ => 1 } qw(HEAP_ALLOC HEAP_FREE APPLYING COMPACTING
                                 REAPING REBUILDING);

# which are reached only when another one left something to mend

my %after_death = (REAPING => 'WRITE', REBUILDING => 'APPLYING');

my $s = KV::Test->new(workers => 3, zone => '24m', fault => 1,
                      kv => 'segment=4m max_value=1m snapshot=8m',
                      slow_port => free_port(), server =>
                      'listen 127.0.0.1:%%slow_port%% sndbuf=32k;');
$ENV{KV_POINT_DIR} = $s->{dir};
$s->expect_log(qr/worker process \d+ exited on signal 9/);
$s->start;

sub arm {
    my ($point, $after, $name) = @_;
    $name //= 'point';
    write_file("$s->{dir}/$name.new", "$point $after\n");
    rename("$s->{dir}/$name.new", "$s->{dir}/$name") or die;
}

sub back {
    my ($seconds) = @_;
    my $time = time;
    my $ok = wait_for(sub { $s->put('back', 'x', soft => 1, timeout => 5)
                                ->{status} == 200 }, $seconds, 0.01);
    return $ok ? time - $time : undef;
}


# Ledger of everything; a few large values come and go beside it, so that
# something is pinned, half received and moved at any time.

my @writers = map { KV::Load->writers($s, name => "w$_") } 1 .. 3;

my $big = KV::Util::value('big', 1, 700_000);

sub stir {
    my @held;
    my $until = time + 0.15;

    while (time < $until) {
        my $c = eval { $s->connect(port => $s->{slow_port}) } or next;
        $s->put('big', $big, soft => 1, timeout => 5);
        eval {
            $c->send("GET /kv/big HTTP/1.1\r\nHost: x\r\n\r\n");
            push @held, $c;
            my $u = $s->connect;
            $u->send("PUT /kv/half HTTP/1.1\r\nHost: x\r\n"
                     . "Content-Length: 400000\r\n\r\n" . 'x' x 300_000);
            push @held, $u;
        };
        shift @held while @held > 12;
        $s->del('big', soft => 1, timeout => 5) if rand() < 0.3;
    }
}

# Fills the zone with small values, then deletes most: sparse pages.

sub scatter {
    my $c = eval { $s->connect } or return;
    my $n = 0;

    eval {
        while ($n < 40_000 && -e "$s->{dir}/point") {
            $c->send(join '', map { KV::Conn::request(PUT => '/kv/x' . $n++,
                                        body => 'x' x (900 + $n % 200)) }
                              1 .. 100);
            my @r = map { $c->response } 1 .. 100;
            last if grep { $_->{status} == 507 } @r;
        }
        for my $k (grep { $_ % 10 } 0 .. $n) {
            last if !-e "$s->{dir}/point";
            $c->send(KV::Conn::request(DELETE => "/kv/x$k"));
            $c->response;
        }
    };
    $s->put("x$_", 'x' x 2000, soft => 1, timeout => 5) for 1 .. 50;
}

my ($slowest, $reached) = (0, 0);

for my $round (1 .. $ROUNDS) {
    for my $point (@points) {
        my $first = $after_death{$point};
        my $before = eval { $s->store->{recovery}{rebuilds} } // 0;

        if ($first) {
            arm($point, 1, 'point.next');
            arm($first, 1);
        } else {
            arm($point, $point =~ /^SNAPSHOT|COMPACTING/ ? 1 : 1 + int rand 3);
        }

        my $ok;
        for (1 .. 60) {
            last if $ok = !-e "$s->{dir}/point";
            $point eq 'COMPACTING' ? scatter() : stir();
        }
        ok($ok, "$point: is reached") or unlink "$s->{dir}/point";
        $reached += $ok ? 1 : 0;

        my $took = back(10);
        ok(defined $took, "$point: the service is back");
        $slowest = $took if defined $took && $took > $slowest;
        ok(wait_for(sub { $s->workers == 3 }, 5), "$point: all workers are");

        if ($rebuild{$point}) {
            cmp_ok($s->store->{recovery}{rebuilds}, '>', $before,
                   "$point: the zone was rebuilt");
        }
    }
}

my @results = map { $_->stop } @writers;
my @errors = grep { !/: 507$/ } map { @{$_->{errors}} } @results;
is(scalar @errors, 0, 'nothing lost or torn on the way')
    or diag(join "\n", splice @errors, 0, 10);

my $ledger = KV::Ledger->merge(map { $_->{ledger} } @results);
@errors = KV::Load->verify($s, $ledger, \my $found);
is(scalar @errors, 0, 'the deaths lost nothing')
    or diag(join "\n", splice @errors, 0, 10);
cmp_ok($slowest, '<', 4, 'the service is back within seconds');


# what the dead held is freed: after a clear nothing is left but the tables

$s->clear;
back(5);
my $used;
my $empty = do {
    my $t = KV::Test->new(workers => 3, zone => '24m',
                          kv => 'segment=4m max_value=1m');
    $t->start;
    $t->put('back', 'x');
    my $n = $t->used;
    $t->done;
    $n;
};
ok(wait_for(sub { $s->put('back', 'x');
                  ($used = $s->used) <= $empty + 100_000 }, 5, 0.05),
   'what the dead held is freed') or diag("used $used, empty $empty");

$s->stop('KILL');
$s->start;
is($s->get('back')->{body}, 'x', 'it starts again');

note(sprintf 'slowest return %.2f s; %d points reached', $slowest, $reached);

$s->done;
done_testing();
