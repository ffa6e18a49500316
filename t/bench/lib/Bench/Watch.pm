package Bench::Watch;

# What watchers cost, and how soon they know. Thousands that are idle: the
# memory of each, and the processor of the server while others' keys are
# written, against the same writes without them. A hundred of one prefix: the
# time from the answer to a write to its event, and from when the write was
# due, which other answers that are late cannot hide. Beside nchan and etcd,
# where they are installed (t/bench/watchload.c is the client of all).

use strict;
use warnings;

use List::Util qw(min);
use Time::HiRes qw(time sleep);

use Bench::Load;
use Bench::Process;
use Bench::Report;
use Bench::Watch::Servers;

use constant { IDLE => 10_000, IDLE_RATE => 10_000, STREAMS => 100,
               RATE => 5000 };

# Our streams have a sign of life in so many seconds: with each sample of that
# length, all of them have one.
use constant BEAT => 15;


sub measure {
    my ($bench) = @_;
    my @servers = Bench::Watch::Servers::start($bench);
    my @rows = (idle($bench, @servers), delays($bench, @servers));

    $_->{server}->stop for @servers;
    return @rows;
}


# The program's lines, name => [numbers]. `how` is of Bench::Watch::Servers.

sub watchload {
    my ($server, @options) = @_;
    my ($bench, %o) = ($server->{bench}, @options);
    my $out = run({ timeout => ($o{seconds} || 1) + 120 },
                  "$bench->{bin}/watchload", $server->{server}{port},
                  map { "$_=$o{$_}" } sort keys %o);
    return map { my ($name, @v) = split ' '; $name => \@v } split /\n/, $out;
}


# Memory and processor: rows for each server.

sub idle {
    my ($bench, @servers) = @_;
    my $count = $bench->{quick} ? min(1000, streams_limit()) : streams_limit();
    my (@memory, @processor);

    for my $server (@servers) {
        my $before = memory($server);
        my $idle = open_idle($server, $count);
        settle($server);
        push @memory, {
            name => $server->{name} eq 'ours'
                    ? 'memory of one of ' . number($count) . ' watchers'
                    : "  $server->{name}",
            unit => ' KiB', ours => [(memory($server) - $before) / $count] };
        end_client($server, $idle);
        settle($server);
        push @processor, processor($bench, $server, $count);
    }

    return (@memory, @processor);
}


# Each stream is a file of the client, and may be one of the same worker.

sub streams_limit {
    my $limit = `sh -c "ulimit -Hn"`;
    return min(IDLE, $limit =~ /^(\d+)/ ? $1 - 1000 : IDLE);
}


sub open_idle {
    my ($server, $count) = @_;
    my $client = client($server, 'idle', streams => $count);

    wait_for(120, sub { last_lines($client->{log}) =~ /^ready/m
                        || !running($client->{pid}) });
    end_client($server, $client) unless running($client->{pid});

    return $client;
}


# Starts the program for the time being.

sub client {
    my ($server, $how, @options) = @_;
    my $bench = $server->{bench};
    my $log = "$bench->{dir}/$how.log";
    my %o = (%{$server->{$how}}, @options);

    unlink $log;
    return { log => $log, pid => Bench::Process::start($log,
        "$bench->{bin}/watchload", $server->{server}{port},
        map { "$_=$o{$_}" } sort keys %o) };
}


# Ends it, and returns what it has printed.

sub end_client {
    my ($server, $client) = @_;
    my $well = running($client->{pid});

    Bench::Process::stop($client->{pid});
    my $out = last_lines($client->{log});
    die "$server->{name}: streams or writes have failed:\n$out" unless $well;
    return $out;
}


# What it was doing is done, with what others left it.

sub settle {
    my ($server) = @_;
    my ($had, $at) = (0, 0);

    wait_for(60, sub {
        my $is = cpu_ns(Bench::Watch::Servers::pids($server));
        my $calm = ($is - $had) / 1e9 < 0.05 * (time - $at);
        ($had, $at) = ($is, time);
        return $calm;
    }, 0.25) or die "$server->{name} has no rest\n";
}


# KiB of all its processes; what they share counts once.

sub memory {
    my ($server) = @_;
    my $sum = 0;

    for my $pid (Bench::Watch::Servers::pids($server)) {
        open(my $f, '<', "/proc/$pid/smaps_rollup") or die "$pid: $!\n";
        /^Pss:\s+(\d+) kB/ and $sum += $1 for <$f>;
    }

    return $sum;
}


# Of one server: microseconds of a processor for a write of others' keys, with
# idle streams and without. One client makes all the writes, on the same
# connections, as it matters how these are spread over the workers.

sub processor {
    my ($bench, $server, $count) = @_;
    my $ours = $server->{name} eq 'ours';
    my $rate = sustained($server, 'other', IDLE_RATE, 5000, 2000, 1000, 500);
    my $seconds = $bench->{quick} ? 2 : $ours ? BEAT : 5;
    my $writer = client($server, 'other', rate => $rate, seconds => 1000);

    my %v = turns($bench, $ours ? $bench->{rounds} : min(2, $bench->{rounds}),
        none => sub { busy($server, $seconds) },
        idle => sub {
            my $idle = open_idle($server, $count);
            my $busy = busy($server, $seconds);
            end_client($server, $idle);
            return $busy;
        });

    my ($answered) = end_client($server, $writer) =~ /^answered ([\d.]+)/m;
    settle($server);
    $_ = [map { $_ / $answered } @$_] for values %v;
    $rate = $answered if $answered < 0.97 * $rate;

    my $name = sprintf '%s writes/s%s', number($rate),
               $ours ? ' beside ' . number($count) . ' / none' : '';

    return { name => $ours ? $name : "  $server->{name}, $name",
             unit => ' us', ours => $v{idle}, peer => $v{none},
             ratio => ratios($v{idle}, $v{none}),
             $ours ? (target => '<= 1.05') : () };
}


# Microseconds of a processor in one of so many seconds, when what has come
# before is over.

sub busy {
    my ($server, $seconds) = @_;
    my @pids = Bench::Watch::Servers::pids($server);

    sleep(0.5);

    my ($from, $before) = (time, cpu_ns(@pids));
    sleep($seconds);

    return (cpu_ns(@pids) - $before) / 1000 / (time - $from);
}


# The highest of these rates that a server can keep up with, or the last one.

sub sustained {
    my ($server, $how, @rates) = @_;
    my @streams = $how eq 'other' ? () : (streams => STREAMS);

    while (@rates > 1) {
        $server->{bench}{progress}->("$server->{name}, $rates[0] writes/s");
        my %v = eval { watchload($server, %{$server->{$how}}, @streams,
                                 rate => $rates[0], seconds => 2) };
        settle($server);
        last if %v && $v{answered}[0] > 0.97 * $rates[0] && !$v{missed}[0]
                && ($v{whole} || $v{answer})->[1] < 500_000;
        shift @rates;
    }

    return $rates[0];
}


# A hundred streams of one prefix. All peers have values in their events: ours
# are measured with them, too, at the rates that each peer can keep up with.

sub delays {
    my ($bench, $ours, @peers) = @_;
    my @rows = delays_at($bench, RATE, keys => 'plain', $ours);

    push @rows, delays_at($bench, RATE, values => 'hot', $ours) unless @peers;

    for my $peer (@peers) {
        my $rate = sustained($peer, 'hot', RATE, 2000, 1000, 500, 200, 100);

        # ours at the whole rate as well, once

        push @rows, delays_at($bench, RATE, values => 'hot', $ours)
            if $peer == $peers[0] && $rate != RATE;
        push @rows, delays_at($bench, $rate, $peer->{name} => 'hot', $ours,
                              $peer);
    }

    return @rows;
}


# From the answer to the event, and from when the write was due.

sub delays_at {
    my ($bench, $rate, $what, $how, @servers) = @_;
    my $seconds = $bench->{quick} ? 1 : 5;
    my @runs = map { [] } @servers;

    turns($bench, $bench->{rounds}, map { my $i = $_;
        my $server = $servers[$i];
        "$server->{name}, $rate writes/s" => sub {
            my %v = watchload($server, %{$server->{$how}}, streams => STREAMS,
                              rate => $rate, seconds => $seconds);
            die "$v{missed}[0] of our events have not come\n"
                if $v{missed}[0] && $i == 0;
            push @{$runs[$i]}, \%v;
            settle($server);
            return 0;
        } } 0 .. $#servers);

    my $head = number($rate) . "/s, $what: ";

    return map { my ($title, $unit, $name, $which) = @$_;
                 beside($title, $unit, map { [map { $_->{$name}[$which] } @$_] }
                                       @runs) }
           (["${head}a write, p50", ' us', answer => 0],
            ['    p99', ' us', answer => 1],
            ['  from its answer to an event, p50', ' us', event => 0],
            ['    p99', ' us', event => 1],
            ['  both, p50', ' us', whole => 0],
            ['    p99', ' us', whole => 1],
            (grep { $_->{missed}[0] } map { @$_ } @runs)
                ? ['  events that did not come', '', missed => 0] : ());
}


# A row of ours, beside a peer's figures if there are any. No ratio of what may
# be less than zero.

sub beside {
    my ($name, $unit, $ours, $peer) = @_;
    my $below = grep { $_ <= 0 } @$ours, @{$peer || []};

    return { name => $name, unit => $unit, ours => $ours,
             $peer ? (peer => $peer) : (),
             $peer && !$below ? (ratio => ratios($ours, $peer)) : () };
}


1;
