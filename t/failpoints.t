# Workers that die at every failpoint (src/base/kv_failpoint.h), with writes,
# reads, uploads and snapshots going on: the point is reached, the others go on
# within a second, nothing that was acknowledged is lost, and all that the dead
# held is freed, while an upload and a download are stuck all the time.

use strict;
use warnings;

use Socket qw(MSG_PEEK);
use Test::More;
use Time::HiRes qw(time sleep);

use KV::Load;
use KV::Test;
use KV::Util qw(free_port);

my $ROUNDS = $ENV{KV_ROUNDS} || 1;

KV::Test::with_failpoints();

my @failpoints = do {
    open my $f, '<', 'src/base/kv_failpoint.h' or die;
    map { /^\s+X\((\w+),/ ? $1 : () } <$f>;
};
cmp_ok(scalar @failpoints, '>', 50, 'there are failpoints');

# which only the first write after a clean stop and a start reaches

my @noted = grep { /^NOTE_/ } @failpoints;
@failpoints = grep { !/^NOTE_/ } @failpoints;

# A host keeps the claim.

@failpoints = grep { $_ ne 'UNCLAIMED' } @failpoints if $ENV{KV_TEST_CLUSTER};

# which a cluster reaches: t/unit/test_death_failpoints.c has them

@failpoints = grep { !/^(?:FOUNDING|VOTED|LEADING)$/ } @failpoints;

# which leave the zone half changed: it must be rebuilt

my %rebuild = map { $_ => 1 } qw(HEAP_ALLOC HEAP_FREE HEAP_FORMAT LINKED
                                 RETURNED APPLYING FEEDING FED EXPIRING
                                 GROWING CLEARED
                                 GROUP_HIDDEN GROUP_SHOWN SWEEPING FREEING
                                 COMPACTING REAPING QUIESCING REBUILDING
                                 RECOVERING RESETTING);

# which are reached only when a dead worker left something to clear up.  It may
# leave nothing, if all that it had under way was its own: then one dies again.

my %after_death = (
    (map { $_ => 'APPLYING' } qw(HEAP_FORMAT QUIESCING REBUILDING RECOVERING
                                 RESETTING)),
    (map { $_ => 'WRITE' } qw(WORKER_TAKEN DEAD_LOCKED REAPING)),
    TAKEOVER => 'TAKEN',
);

# and those which take more than the usual traffic: in a second store

my %second = (GROWING => \&grow, CLEARED => \&clear_second,
              SWEEPING => \&clear_second, COMPACTING => \&scatter,
              SPARE_MADE => \&fill, SEGMENT_NAMED => \&fill);

my $s = KV::Test->new(workers => 3, zone => '24m', fault => 1,
                      kv => 'segment=4m max_value=1m snapshot=8m feed=64k',
                      slow_port => free_port(), http =>
                      'kv_zone zone=two:8m path=%%dir%%/two segment=2m '
                      . 'max_value=1m;', server =>
                      'listen 127.0.0.1:%%slow_port%% sndbuf=32k;
                      location = /once { kv_incr $arg_k zone=main;
                                         return 204; }
                      location /two/ { kv two; }
                      location = /two-clear { kv_clear two; }
                      location = /two-stats { kv_stats two; }');
$ENV{KV_FAILPOINT_DIR} = $s->{dir};
$s->expect_log(qr/worker process \d+ exited on signal 9/);
$s->start;

sub arm {
    my ($point, $after, $name) = @_;
    $name //= 'point';
    write_file("$s->{dir}/$name.new", "$point $after\n");
    rename("$s->{dir}/$name.new", "$s->{dir}/$name") or die;
}

# The second name is there while the first is exchanged.

sub armed { return grep { -e "$s->{dir}/$_" } qw(point.next point) }

sub back {
    my ($seconds) = @_;
    my $time = running;
    my $ok = wait_for(sub { $s->put('back', 'x', soft => 1, timeout => 5)
                                ->{status} == 200 }, $seconds, 0.01);
    return $ok ? running - $time : undef;
}


for my $point (@noted) {
    my $closed = sub { grep { /^log-.*closed$/ } keys %{list_dir($s->{path})} };

    $s->put('noted', $point);
    $s->stop;
    $s->start;
    is(scalar $closed->(), 1, "$point: a note");
    arm($point, 1);
    $s->put('noted', 'no', soft => 1, timeout => 5);
    ok(wait_for(sub { !armed() }, 20), "$point: is reached");
    ok(defined back(10), "$point: the service is back");
    ok(wait_for(sub { $s->workers == 3 }, 20), "$point: all workers are");
    is(scalar $closed->(), 0, "$point: no note");
}


# Ledger of everything; a few large values come and go beside it, so that
# something is pinned, half received and moved at any time.

my @writers = map { KV::Load->writers($s, name => "w$_") } 1 .. 3;

my $big = KV::Util::value('big', 1, 700_000);

my ($tried, $added) = (0, 0);

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
        $s->http(PUT => '/kv/brief' . int(rand(50)) . '?ttl=1', body => 'x',
                 soft => 1, timeout => 5);
        $s->http(POST => '/batch', soft => 1, timeout => 5, body => join '',
            map { qq({"key":"together$_","value":"$tried"}\n) } 0 .. 3);
        shift @held while @held > 12;
        $s->http(GET => '/stats', soft => 1, timeout => 5);
        $s->http(GET => "/once?k=once$tried", soft => 1, timeout => 5);
        $tried++;
        $added++ if $s->http(POST => '/kv/number?incr=1', soft => 1,
                             timeout => 5)->{status} == 200;
        $s->http(GET => '/stats', soft => 1, timeout => 5);
        my @prefer = rand() < 0.5 ? 'Prefer: return=representation' : ();
        $s->del('big', soft => 1, timeout => 5, headers => [@prefer])
            if rand() < 0.3;
    }
}

# `n` requests to the second store, on many connections, until one finds it
# full or the point is reached.  Each is method, key, length of the value.
# Returns how many were sent.

sub second {
    my ($n, $request) = @_;
    my ($i, $full) = (0, 0);

    KV::Load::run(port => $s->{port}, connections => 64,
        next => sub {
            return if $full || $i >= $n || !-e "$s->{dir}/point";
            my ($method, $key, $len) = $request->($i++);
            return { method => $method, path => "/two/$key",
                     $len ? (body => 'x' x $len) : () };
        },
        done => sub { $full = 1 if $_[2] && $_[2]{status} == 507 });

    return $i;
}

sub grow { second(8000, sub { (PUT => "g$_[0]", 8) }) }

sub clear_second {
    second(500, sub { (PUT => "c$_[0]", 500) });
    $s->http(DELETE => '/two-clear', soft => 1, timeout => 5);
}

# More than a segment; it has no snapshots, so no segment is used again.

sub fill {
    clear_second();
    second(3000, sub { (PUT => "f$_[0]", 1000) });
}

# Fills it with small values, then deletes most: sparse pages.

sub scatter {
    my $n = second(20_000, sub { (PUT => "x$_[0]", 900 + $_[0] % 200) });
    second($n, sub { ($_[0] % 10 ? 'DELETE' : 'GET', "x$_[0]") });
    second(100, sub { (PUT => "y$_[0]", 2000) });
}


# An upload and a download that do not move, in some worker that lives.  An
# upload that has an answer, or an end, is over: a rebuild answers it with 503.
# Of the download that cannot be told without reading it, so there is a new one.

my %stuck;

sub goes_on {
    my ($c) = @_;
    return $c && !$c->{eof} && $c->{in} eq '' && !$c->ready(0, 0);
}

sub stuck {
    for my $what (qw(upload download)) {
        my $up = $what eq 'upload';
        next if $up && goes_on($stuck{upload});
        my $c = eval { $s->connect($up ? () : (port => $s->{slow_port})) }
            or next;
        $s->put('stuck', $big, soft => 1, timeout => 5) if !$up;
        eval {
            $c->send($up ? "PUT /kv/half HTTP/1.1\r\nHost: x\r\n"
                           . "Content-Length: 400000\r\n\r\n" . 'x' x 300_000
                         : "GET /kv/stuck HTTP/1.1\r\nHost: x\r\n\r\n");
        };
        $stuck{$what} = $c;
    }
}

# Whether the workers have what the two hold: bytes that came, and a value of
# which the first bytes went out.

sub holds {
    my $head = '';
    my $down = $stuck{download};

    recv($down->{sock}, $head, 12, MSG_PEEK) if $down && $down->ready(0, 1);

    return $head eq 'HTTP/1.1 200' && goes_on($stuck{upload})
           && $s->store->{uploads}{bytes} >= 300_000;
}

# A worker that died had a place in both stores.

sub rebuilds {
    my ($point) = @_;
    my $sum = 0;
    for my $path ($point eq 'REAPING' ? qw(/stats /two-stats)
                  : $second{$point} ? '/two-stats' : '/stats') {
        $sum += eval { $s->stats($path)->{store}{recovery}{rebuilds} } // 0;
    }
    return $sum;
}

# The numbers of the keys that one request each was counted by.

sub counts {
    my ($n, %counts) = (0);
    KV::Load::run(port => $s->{port}, connections => 16,
        next => sub {
            return if $n == $tried;
            return { method => 'GET', path => '/kv/once' . $n++ };
        },
        done => sub { my $r = $_[2] || { status => 'no answer' };
                      $counts{$r->{status} == 200 ? $r->{body} : 'none'}++ });
    return (none => 0, %counts);
}

my ($slowest, $reached) = (0, 0);

for my $round (1 .. $ROUNDS) {
    for my $point (@failpoints) {
        my $first = $after_death{$point};
        my $before = rebuilds($point);
        my $from = length $s->log;

        stuck();

        if ($first) {
            arm($point, 1, 'point.next');
            arm($first, 1);
        } else {
            arm($point, $point =~ /^SNAPSHOT|^PURGING|COMPACTING|LEAVING/
                        ? 1 : 1 + int rand 3);
        }

        my $ok;
        my $until = time + 60;
        for (my $i = 1; time < $until; $i++) {
            last if $ok = !armed();
            if ($first && $i % 8 == 0 && !-e "$s->{dir}/point.next") {
                arm($point, 1, 'point.next');
                arm($first, 1);
            }
            kill('TERM', ($s->workers)[0]) if $point eq 'LEAVING';
            ($second{$point} || \&stir)->();
        }
        ok($ok, "$point: is reached")
            or unlink map { "$s->{dir}/$_" } qw(point.next point);
        $reached += $ok ? 1 : 0;

        my $took = back(10);
        ok(defined $took, "$point: the service is back");
        $slowest = $took if defined $took && $took > $slowest;
        ok(wait_for(sub { $s->workers == 3 }, 20), "$point: all workers are");

        if ($rebuild{$point}) {
            ok(wait_for(sub { rebuilds($point) > $before }, 10),
               "$point: the zone was rebuilt");
        }

        # but for what another thread of the dead, its committer, was changing

        if ($point eq 'HEAP_READ') {
            my $changed = sub {
                return scalar(() = substr($s->log, $from)
                              =~ /committer died while it changed the map/g);
            };
            ok(wait_for(sub { rebuilds($point) == $before + $changed->() }, 10),
               "$point: the zone is whole");
        }
    }
}

my @results = map { $_->stop } @writers;
my @errors = grep { !/: 507$/ } map { @{$_->{errors}} } @results;
is(scalar @errors, 0, 'nothing lost or torn on the way')
    or diag(join "\n", splice @errors, 0, 10);

$s->back;
my $ledger = KV::Ledger->merge(map { $_->{ledger} } @results);
@errors = KV::Load->verify($s, $ledger, \my $found);
is(scalar @errors, 0, 'the deaths lost nothing')
    or diag(join "\n", splice @errors, 0, 10);
my $number = $s->get('number')->{body};
ok($number >= $added && $number <= $tried, 'nor an increment')
    or diag("$number, $added acknowledged, $tried tried");
is(keys %{{ map { $s->get("together$_")->{body} => 1 } 0 .. 3 }}, 1,
   'batches were done all or none');
my %counts = counts();
ok($counts{1} > $tried / 2, 'requests were counted');
is(join(' ', sort keys %counts), '1 none', 'and none of them twice');
my ($gap) = sort { $b <=> $a } map { $_->{gap} } @results;
cmp_ok($slowest, '<', slowness(), 'the service is back within a second');
cmp_ok($gap, '<', slowness(), 'and no writer had to wait longer');


# what the dead held is freed: after a clear nothing is left but the tables, and
# what the stuck requests have

ok(wait_for(sub { stuck(); $s->has_read && holds() }, 10, 0.1),
   'an upload and a download are stuck');
$s->clear;
back(5);
my $empty = do {
    my $t = KV::Test->new(workers => 3, zone => '24m',
                          kv => 'segment=4m max_value=1m');
    $t->start;
    $t->put('back', 'x');
    my $n = $t->used;
    $t->done;
    $n;
};

for my $more (1_100_000, 0) {
    my $used;
    %stuck = () if !$more;
    ok(wait_for(sub { $s->put('back', 'x');
                      ($used = $s->used) <= $empty + $more + 100_000 },
                5, 0.05),
       'what the dead held is freed') or diag("used $used, empty $empty");
    cmp_ok($used, '>', $empty + 1_000_000, 'what is stuck is not') if $more;
}

$s->stop('KILL');
$s->start;
is($s->get('back')->{body}, 'x', 'it starts again');

note(sprintf 'slowest return %.2f s, longest gap %.2f s; %d failpoints reached',
     $slowest, $gap, $reached);

$s->done;
done_testing();
