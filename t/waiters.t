# long
# Very many reads that wait: 10,000 cost no processor while nothing changes, nor
# while other keys are written; and among writers, and workers that die, no
# change is missed.

use strict;
use warnings;

use List::Util qw(max min sum);
use POSIX ();
use Test::More;
use Time::HiRes qw(time sleep);

use KV::Load;
use KV::Test;

my $N = $ENV{KV_CONNECTIONS} || 10_000;
my $CLIENTS = 4;                 # processes with their share of these

# as many open files as we may have

if (POSIX::sysconf(POSIX::_SC_OPEN_MAX()) < $N + 600) {
    plan(skip_all => "needs more than $N open files; see ulimit -Hn")
        if $ENV{KV_RAISED}++;
    exec('sh', '-c', 'ulimit -n $(ulimit -Hn); exec "$@"', 'sh', $^X,
         '-It/lib', $0);
}

# on a disk in memory: how many writes come is up to the processor

my $s = KV::Test->in_memory(zone => '128m', connections => 1.4 * $N + 200,
                            kv => 'segment=16m max_value=1m');
$s->expect_log(qr/worker process \d+ exited on signal 9/);
$s->start;

sub waiting {
    my ($n, $seconds) = @_;
    my $is;
    wait_for(sub { ($is = $s->store->{waiting}) == $n }, $seconds || 60, 0.1);
    return $is;
}


# ---- many that wait

sub wait_for_all {
    my ($client) = @_;

    return KV::Load->fork(sub {
        my @todo = grep { $_ % $CLIENTS == $client } 1 .. $N;
        my %counts;

        KV::Load::run(port => $s->{port}, connections => scalar @todo,
            timeout => 600,
            next => sub {
                my $i = shift @todo // return;
                return { method => 'GET', path => "/kv/idle$i?wait=600",
                         body => undef, i => $i };
            },
            done => sub {
                my ($n, $req, $res, $error) = @_;
                $counts{!$res ? $error
                        : $res->{status} ne '200' ? $res->{status}
                        : $res->{body} eq "value $req->{i}" ? 200
                        : 'wrong'}++;
            });

        return { counts => \%counts, errors => [] };
    });
}

# Writes, on one connection; how often each worker woke up for that, besides
# what it does anyway, some times a second.

my $IDLE = 20;

sub write_alone {
    my ($writes) = @_;
    my $c = $s->connect;
    my @workers = $s->workers;
    my @before = map { wakeups($_) } @workers;
    my $begun = time;

    for (1 .. $writes) {
        $c->send(KV::Conn::request(PUT => "/kv/busy$_", body => 'x'));
        my $r = $c->response;
        die "PUT: $r->{status}\n" if $r->{status} != 200;
    }

    return map { max(0, int wakeups($workers[$_]) - $before[$_]
                        - $IDLE * (time - $begun)) } 0 .. $#workers;
}

# What is the workers' own of the memory that they have, KiB.

sub memory {
    return sum(map { read_file("/proc/$_/status") =~ /^RssAnon:\s+(\d+)/m }
                   $s->workers);
}

my $WRITES = 2000;

write_alone(10);

my @alone = write_alone($WRITES);
my $memory = memory();
my @clients = map { wait_for_all($_) } 0 .. $CLIENTS - 1;

is(waiting($N, 120), $N, "$N wait");
$memory = (memory() - $memory) / $N;
cmp_ok($memory, '<', 20, 'each takes some KiB');

my ($busy, $woken) = busy($s->workers);
cmp_ok($busy, '<', 0.05, 'they cost no processor');
cmp_ok($woken, '<', $IDLE, 'and wake no worker');
note(sprintf '%d wait: %.4f of a processor, %.1f wake-ups a second each, '
             . '%.1f KiB a waiter', $N, $busy, $woken, $memory);

# One worker writes; the other does not get to know of it, but for the keys
# that look like one that is waited for.

my @beside = write_alone($WRITES);
cmp_ok(min(@beside), '<', min(@alone) + $WRITES / 20,
       'nor do writes of others');
note("wake-ups for $WRITES writes: @alone; while $N wait: @beside");

my ($begun, $cpu) = (time, cpu_time($s->workers));
my @writers = map {
    my $writer = $_;
    KV::Load->fork(sub {
        my @todo = grep { $_ % 2 == $writer } 1 .. $N;
        my %counts;
        KV::Load::run(port => $s->{port}, connections => 32,
            next => sub {
                my $i = shift @todo // return;
                return { method => 'PUT', path => "/kv/idle$i",
                         body => "value $i" };
            },
            done => sub { $counts{$_[2] ? $_[2]{status} : $_[3]}++ });
        return { counts => \%counts, errors => [] };
    });
} 0, 1;

my %sum;
for my $result (map { $_->wait } @writers) {
    $sum{"PUT $_"} += $result->{counts}{$_} for keys %{$result->{counts}};
}
my $wrote = time - $begun;

is(waiting(0), 0, 'no one waits any more');
for my $result (map { $_->wait } @clients) {
    $sum{"GET $_"} += $result->{counts}{$_} for keys %{$result->{counts}};
    $sum{$_}++ for @{$result->{errors}};
}
is_deeply(\%sum, { 'PUT 200' => $N, 'GET 200' => $N },
          'each is told when its key is written');
note(sprintf '%d written in %.1f s, all told after %.1f s; %.1f s of a '
             . 'processor', $N, $wrote, time - $begun,
     cpu_time($s->workers) - $cpu);


# ---- no change is missed
#
# Each key gets another value every few milliseconds, is deleted at times, and
# gets the value "end" in the end.  A reader that misses a change sleeps until
# its time is over, which gives 304.

my $KEYS = 20;
my $SECONDS = $ENV{KV_ROUNDS} || 8;
my $WAIT = 120;                  # seconds; it takes much less

sub reader {
    return KV::Load->fork(sub {
        my ($stop, $parent) = @_;
        my (%counts, @errors, @state);

        KV::Load::run(port => $s->{port}, connections => 2 * $KEYS,
            timeout => 2 * $WAIT,
            tick => sub { $$stop = 1 if getppid != $parent },
            next => sub {
                my ($n) = @_;
                my $c = $state[$n] ||= {};
                my $pause = delete $c->{pause};
                return if $c->{end} || $$stop;
                return $pause if $pause;
                return { method => 'GET', begun => time,
                         path => '/kv/raced' . $n % $KEYS . "?wait=$WAIT",
                         headers => $c->{tag} ? ["If-None-Match: $c->{tag}"]
                                              : [] };
            },
            done => sub {
                my ($n, $req, $res, $error) = @_;
                my $c = $state[$n];
                my $status = $res ? $res->{status} : $error;

                $counts{$status}++;

                if ($status eq '200') {
                    my $tag = $res->{headers}{etag} // '';
                    push @errors, "key $n: $tag again"
                        if $tag eq ($c->{tag} // '');
                    $c->{tag} = $tag;
                    $c->{end} = $res->{body} eq 'end';

                } elsif ($status eq '404' && $c->{tag}) {
                    delete $c->{tag};

                } elsif ($status =~ /^(?:refused|dropped|503)$/) {
                    $c->{pause} = 0.02;

                } else {
                    push @errors, sprintf 'key %d: %s after %.1f s', $n,
                                          $status, time - $req->{begun};
                }
            });

        push @errors, 'stopped before the end' if grep { !$_->{end} } @state;
        return { counts => \%counts, errors => \@errors };
    });
}

sub writer {
    my ($number) = @_;

    return KV::Load->fork(sub {
        my ($stop, $parent) = @_;
        my %counts;
        my (@last, @pause);
        my $i = 0;

        KV::Load::run(port => $s->{port}, connections => $KEYS / 2,
            tick => sub { $$stop = 1 if getppid != $parent },
            next => sub {
                my ($n) = @_;
                my $key = 'raced' . (2 * $n + $number);
                my $pause = delete $pause[$n];
                return if ($last[$n] // '') eq '200';
                return $pause if $pause;
                return { method => 'PUT', path => "/kv/$key", body => 'end',
                         last => 1 } if $$stop;
                return { method => 'DELETE', path => "/kv/$key" }
                    if rand() < 0.1;
                return { method => 'PUT', path => "/kv/$key",
                         body => 'value ' . ++$i };
            },
            done => sub {
                my ($n, $req, $res, $error) = @_;
                my $status = $res ? $res->{status} : $error;
                $counts{$status}++;
                $last[$n] = $status if $req->{last};
                $pause[$n] = $status eq '200' ? rand 0.01 : 0.02;
            });

        return { counts => \%counts, errors => [] };
    });
}

for my $deaths (0, 4) {
    my $name = $deaths ? "$deaths deaths" : 'no deaths';
    my @readers = map { reader() } 1 .. 2;
    my @writers = map { writer($_) } 0, 1;
    my $written = sub { $s->store->{commit}{operations} };
    my $enough = $written->() + 120 * $SECONDS;

    for my $death (1 .. $deaths || 1) {
        sleep($SECONDS / ($deaths || 1));
        next if !$deaths;
        my @workers = $s->workers;
        my $dead = $workers[rand @workers];
        kill('KILL', $dead);
        $s->back($dead);
    }

    wait_for(sub { $written->() > $enough }, 60, 0.1);

    my @wrote = map { $_->stop } @writers;
    my $end = time;
    my @read = map { $_->wait } @readers;
    my $took = time - $end;
    my @errors = map { @{$_->{errors}} } @wrote, @read;

    is(scalar @errors, 0, "$name: no reader missed a change")
        or diag(join "\n", splice @errors, 0, 10);
    cmp_ok($took, '<', $WAIT / 2, "$name: the last one, too");

    my ($changes, $seen) = map {
        sum(map { $_->{counts}{200} // 0 } @$_) } \@wrote, \@read;
    cmp_ok($changes, '>', 100 * $SECONDS, "$name: there were many");
    cmp_ok($seen, '>', $changes / 10, "$name: which were seen");
    note("$name: $changes changes, $seen seen; the last after "
         . sprintf('%.3f s', $took));
    $s->clear;
}

$s->done;
done_testing();
