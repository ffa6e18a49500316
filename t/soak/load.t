# Load for as long as one likes: overwrites of changing sizes in a zone that
# is three quarters full, reads, deletes, snapshots; workers die and the
# configuration is reloaded; then the same workers go on for a while in peace.
# At the end: no write is lost, no memory of the zone or of a worker either,
# and no write was refused because the zone is full.
#
# KV_SECONDS says how long the load lasts, KV_SEED gives the same sizes and
# events again.  scripts/soak.sh runs this; lines that begin with "# total" are
# for it.

use strict;
use warnings;

use List::Util qw(max min shuffle sum);
use Test::More;
use Time::HiRes qw(sleep time);

use KV::Load;
use KV::Test;

my $SECONDS = $ENV{KV_SECONDS} || 60;
my $SEED = $ENV{KV_SEED} || 1 + int rand 1_000_000;
my $FULL = 0.75;
my $WRITERS = 2;
my $CONNECTIONS = 16;       # of each writer

srand($SEED);

my $s = KV::Test->new(zone => '64m',
                      kv => 'segment=4m max_value=256k snapshot=16m');
$s->expect_log(qr/worker process \d+ exited on signal 9/);
$s->start;

my %size;                   # of each live key's value, in bytes


# Most values are small, most bytes are in large ones.

sub size {
    my $dice = rand;
    return $dice < 0.60 ? 20 + int rand 2_000
         : $dice < 0.90 ? 2_000 + int rand 28_000
         :                30_000 + int rand 90_000;
}


# ---- filling


my $ledger = KV::Ledger->new;
my $count = 0;

sub fill {
    my ($bytes) = @_;
    my ($sum, @bad) = (sum(0, values %size));

    KV::Load::run(port => $s->{port}, connections => 16,
        next => sub {
            return if $sum >= $bytes;
            my $n = $count++;
            my $key = join '-', 's', $n % $WRITERS,
                      int($n / $WRITERS) % $CONNECTIONS, $n;
            my $size = size();
            $sum += $size;
            return { method => 'PUT', path => "/kv/$key", key => $key,
                     seq => $ledger->try($key, 1), size => $size,
                     body => value($key, 1, $size) };
        },
        done => sub {
            my ($n, $req, $res, $error) = @_;
            $ledger->ack($req->{key}, $req->{seq});
            $size{$req->{key}} = $req->{size};
            push @bad, $error // $res->{status}
                unless $res && $res->{status} == 200;
        });

    is("@bad", '', "filled up to $bytes bytes of values");
}


# What is on its way through the zone is not there for long; what stays
# allocated is what counts.

sub settled {
    my ($used, $last, $same) = (0, -1, 0);

    wait_for(sub {
        $used = $s->used;
        $same = $used == $last ? $same + 1 : 0;
        $last = $used;
        return $same >= 10;
    }, 20, 0.1) or diag('the zone does not come to rest');

    return $used;
}


my $empty = settled();
my $zone = $s->store->{zone}{size};

fill(0.5 * $zone);
my $per_byte = (settled() - $empty) / sum(values %size);
fill(($FULL * $zone - $empty) / $per_byte);


# ---- the load


# One process with connections that have keys of their own; each overwrites
# them with values of other sizes, such that their sum stays what it was.

sub writer {
    my ($w) = @_;
    my %mine = map { $_ => 1 } grep { /^s-$w-/ } keys %size;
    my (@keys, %counts, @errors, %wait);
    my %bytes = map { $_ => $size{$_} } keys %mine;
    my $sum = my $budget = sum(values %bytes);
    my $own = KV::Ledger->new;

    $own->{keys}{$_} = $ledger->{keys}{$_} for keys %mine;
    push @{$keys[(split /-/)[2]]}, $_ for sort keys %mine;

    return KV::Load->fork(sub {
        my ($stop, $parent) = @_;
        srand($SEED + $w + 1);

        my $next = sub {
            my ($n) = @_;
            return if $$stop;
            my $wait = delete $wait{$n};
            return $wait if $wait;

            my $key = $keys[$n][int rand @{$keys[$n]}];
            my $dice = rand;
            my %req = (key => $key, path => "/kv/$key");
            return { %req, method => 'GET' } if $dice < 0.25;

            # a deleted key comes back with the next write to it

            my $put = $dice > 0.30 || !$bytes{$key};
            $req{seq} = $own->try($key, $put);
            return { %req, method => 'DELETE' } if !$put;

            my ($less, $more) = sort { $a <=> $b } size(), size();
            $req{size} = $sum > $budget ? $less : $more;
            my $value = value($key, $req{seq}, $req{size});
            my $at = int rand length $value;
            return { %req, method => 'PUT', $dice < 0.8 ? (body => $value)
                     : (chunks => [ grep { length } substr($value, 0, $at),
                                    substr($value, $at) ]) };
        };

        my $done = sub {
            my ($n, $req, $res, $error) = @_;
            my $status = $res ? $res->{status} : $error;
            my ($key, $seq) = @$req{qw(key seq)};
            $counts{$status}++;

            if ($status =~ /^(?:refused|507)$/) {
                $own->never($key, $seq) if $seq;

            } elsif ($seq) {
                $own->ack($key, $seq) if $status eq '200';

                # or so we take it to be, where the client cannot know

                $sum += ($req->{size} || 0) - ($bytes{$key} || 0);
                $bytes{$key} = $req->{size};

            } elsif ($status =~ /^(?:200|404)$/) {
                my $e = $own->seen($key, $status == 200 ? $res->{body}
                                                        : undef);
                push @errors, $e if $e;
            }

            $wait{$n} = 0.02 if $status !~ /^(?:200|404)$/;
            push @errors, "$req->{method} $req->{path}: $status"
                unless $status =~ /^(?:200|404|503|507|dropped)$/;
        };

        KV::Load::run(port => $s->{port}, connections => $CONNECTIONS,
                      next => $next, done => $done,
                      tick => sub { $$stop = 1 if getppid != $parent });

        return { ledger => $own, counts => \%counts, errors => \@errors };
    });
}


# What a process has for itself, kB: without the zone and other shared memory.

sub own_memory {
    my ($pid) = @_;
    my $text = eval { read_file("/proc/$pid/status") } // return;
    my %kb = $text =~ /^Rss(Anon|File):\s+(\d+) kB/mg;
    return %kb ? sum(values %kb) : undef;
}

sub descriptors { return scalar(() = glob "/proc/$_[0]/fd/*") }


my (%memory, @fullness);    # memory by process: [time, kB]
my $sampled = 0;

sub sample {
    return if time - $sampled < 1;
    $sampled = time;

    for my $pid ($s->{pid}, $s->workers) {
        my $kb = own_memory($pid);
        push @{$memory{$pid}}, [$sampled, $kb] if $kb;
    }

    my $store = eval { $s->store };
    push @fullness, $store->{zone}{used} / $zone if $store;
}


sub all_there {
    return wait_for(sub { $s->workers == $s->{workers} }, 5);
}


my %total = (kills => 0, reloads => 0);
my $begin = time;
my @writers = map { writer($_) } 0 .. $WRITERS - 1;
my ($master_fds, @bad);

sleep(1);

while (time < $begin + 0.6 * $SECONDS) {
    my $dice = rand;

    if ($dice < 0.3) {
        push @bad, 'a reload fails' unless defined $s->reload;
        $total{reloads}++;

        # the master may not collect descriptors, but may still have those of
        # a worker that it has yet to bury

        sleep(0.5) if !$master_fds;
        $master_fds ||= descriptors($s->{pid});
        push @bad, 'the master has more than ' . $master_fds . ' descriptors'
            unless wait_for(sub { descriptors($s->{pid}) <= $master_fds }, 5);

    } else {
        my @pids = shuffle($s->workers);
        $#pids = 0 if $dice < 0.9;
        $total{kills} += kill('KILL', @pids);
    }

    push @bad, 'a worker is missing' unless all_there();
    push @bad, 'it is not healthy' unless wait_for(sub { $s->healthy }, 10);

    my $next = time + 0.5 + rand 3;
    do { sample(); sleep(0.1) } while time < $next;
}

my $peace = time;
my @pids = $s->workers;

do { sample(); sleep(0.1) } while time < $begin + $SECONDS;

my $end = time;
my $store = $s->store;
my @results = map { $_->stop } @writers;
my %counts;

for my $counts (map { $_->{counts} } @results) {
    $counts{$_} += $counts->{$_} for keys %$counts;
}

is("@bad", '', 'it comes back from each death and reload');
is($counts{507} // 0, 0, 'no write is refused because the zone is full');

my @errors = map { @{$_->{errors}} } @results;
is(scalar @errors, 0, 'nothing lost or torn on the way')
    or diag(join "\n", splice @errors, 0, 10);

@fullness = sort { $a <=> $b } @fullness;
my $median = $fullness[@fullness / 2];
cmp_ok(abs($median - $FULL), '<', 0.03, 'the zone was three quarters full')
    or diag($median);


# ---- workers' memory


# What stayed as it was in peace, in the second half of it against the first.

sub middle {
    my ($pid, $from, $to) = @_;
    my @kb = sort { $a <=> $b } map { $_->[1] }
             grep { $_->[0] >= $from && $_->[0] < $to } @{$memory{$pid}};
    return $kb[@kb / 2] || 0;
}

my $half = ($peace + $end) / 2;
my $growth = 0;

for my $pid (@pids) {
    my ($one, $two) = (middle($pid, $peace, $half), middle($pid, $half, $end));
    $growth = max($growth, $two - $one);
    cmp_ok($two, '<=', $one * 1.05 + 512, "worker $pid does not grow")
        or diag("$one kB, then $two kB");
}

# The master's, and that of workers old and young, in all of the run.

$half = ($begin + $end) / 2;
my @halves = map { my ($from, $to) = @$_;
                   max(map { $_->[1] } grep { $_->[0] >= $from
                                              && $_->[0] < $to }
                       map { @$_ } values %memory) }
             [$begin, $half], [$half, $end];
cmp_ok($halves[1], '<=', $halves[0] * 1.1 + 1024, 'nor does any process')
    or diag("$halves[0] kB, then $halves[1] kB");


# ---- the store, at rest


my $merged = KV::Ledger->merge(map { $_->{ledger} } @results);

@errors = KV::Load->verify($s, $merged, \my $found);
is(scalar @errors, 0, 'no write is lost')
    or diag(join "\n", splice @errors, 0, 10);

my $used = settled();
my $before = $s->store;
is($before->{keys}, $found, 'and every key is one that was written');

# A new zone with the same keys needs what they need.

is($s->stop('KILL'), 137, 'all is killed');
$s->start;

@errors = KV::Load->verify($s, $merged, \$found);
is(scalar @errors, 0, 'no write is lost on disk')
    or diag(join "\n", splice @errors, 0, 10);

my $needed = settled();
my $after = $s->store;
is("$after->{keys} $after->{bytes}", "$before->{keys} $before->{bytes}",
   'as many keys and bytes');

my $leak = 100 * ($used - $needed) / $needed;
cmp_ok(abs $leak, '<', 5, 'the zone held what the live keys need')
    or diag(sprintf '%d bytes, not %d', $used, $needed);


# Nor do they leave anything behind.

my @keys = $merged->keys;
my %status;

KV::Load::run(port => $s->{port}, connections => 16,
    next => sub {
        my $key = shift @keys // return;
        return { method => 'DELETE', path => "/kv/$key" };
    },
    done => sub { $status{$_[2] ? $_[2]{status} : $_[3]}++ });

is(join(' ', keys %status), '200', 'all are deleted');
my $left = settled() - $empty;
is($s->store->{keys}, 0, 'none is left');
cmp_ok($left, '<', 0.05 * $needed, 'nor is their memory') or diag($left);

$s->done;

$total{requests} = sum(values %counts);
$total{snapshots} = $store->{snapshots}{completed};
$total{rebuilds} = $store->{recovery}{rebuilds};
cmp_ok($total{requests}, '>', 100 * $SECONDS, 'there was load');
cmp_ok($total{$_}, '>', 0, "there were $_") for qw(kills reloads snapshots);

note("total $_ $total{$_}") for sort keys %total;
note("seed $SEED: answers: ",
     join ', ', map { "$_ $counts{$_}" } sort keys %counts);
note(sprintf 'zone: %.1f %% full (%.1f .. %.1f), %d bytes used, %d needed: '
     . '%+.2f %%; %d held, %d left when empty', 100 * $median,
     100 * $fullness[0], 100 * $fullness[-1], $used, $needed, $leak,
     $before->{zone}{held}, $left);
note(sprintf 'memory: at most %d kB of its own, in the second half %d kB; '
     . 'workers grew by %d kB in %d s of peace', @halves, $growth,
     $end - $peace);

done_testing();
