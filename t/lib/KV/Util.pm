package KV::Util;

# Small things that every test needs.

use strict;
use warnings;

use Digest::MD5 qw(md5);
use Exporter 'import';
use File::Temp ();
use IO::Handle ();
use IO::Socket::INET ();
use List::Util qw(max min);
use POSIX ();
use Socket qw(AF_UNIX SOCK_STREAM pack_sockaddr_un);
use Time::HiRes qw(clock time sleep);

our @EXPORT = qw(wait_for value check_value read_file write_file list_dir
                 settled_dir free_port slowness running quickest
                 busy cpu_time wakeups);


# Calls the condition until it is true, and returns what it gave; nothing if
# that takes more than three times `seconds`, or up to twelve times on a slow
# machine.  Less than a second is not made longer: such a test expects that the
# condition may be false.

sub wait_for {
    my ($condition, $seconds, $step) = @_;
    my $begun = time;
    my $times;

    while (1) {
        my $rc = $condition->();
        return $rc if $rc;

        if (time - $begun > $seconds * ($times || 1)) {
            return if $times || $seconds < 1;
            $times = max(3, min(2 * slowness() - 1, 12));
        }

        sleep($step || 0.01);
    }
}


# The time that the code takes, if that is at most `seconds`; if it is more, the
# shortest of some tries.  A busy machine makes one of them long; what the code
# itself waits for is in all.

sub quickest {
    my ($seconds, $code) = @_;
    my $best;

    for (1 .. 8) {
        my $begun = time;
        $code->();
        my $took = time - $begun;
        $best = $took if !defined $best || $took < $best;
        last if $best < $seconds;
    }

    return $best;
}


# What processes do while nothing asks them to: the share of a processor that
# they take over a second, 1 for each that spins, which a busy machine makes
# less; and how often each of them wakes up in that time.

sub busy {
    my (@pids) = @_;
    my ($time, $cpu, $woken) = (time, cpu_time(@pids), wakeups(@pids));

    sleep(1);
    $time = time - $time;
    return ((cpu_time(@pids) - $cpu) / $time,
            (wakeups(@pids) - $woken) / $time / @pids);
}

sub wakeups {
    my $n = 0;
    for my $pid (@_) {
        my $status = eval { read_file("/proc/$pid/status") } // next;
        $n += $1 if $status =~ /^voluntary_ctxt_switches:\s+(\d+)/m;
    }
    return $n;
}

sub cpu_time {
    my $ticks = 0;
    for my $pid (@_) {
        my $stat = eval { read_file("/proc/$pid/stat") } // next;
        my @fields = split ' ', $stat =~ s/^.*\) //sr;
        $ticks += $fields[11] + $fields[12];
    }
    return $ticks / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}


# A value that says whose it is: its key, a number, its length, then bytes of
# all kinds that only these three give.  Their period shares no divisor with
# any block size, so that a piece in a wrong place shows.

sub value {
    my ($key, $seq, $len) = @_;
    my $head = "$key $seq $len ";

    return $head if $len <= length $head;

    my $filler = substr(join('', map { md5("$head$_") } 0 .. 15), 0, 251);
    my $n = $len - length $head;

    return $head . substr($filler x ($n / 251 + 1), 0, $n);
}


# The number in a value of this key, or nothing if it is torn or foreign.

sub check_value {
    my ($key, $body) = @_;

    my ($of, $seq, $len) = $body =~ /^(\S+) (\d+) (\d+) / or return;
    return unless $of eq $key && $len <= 20_000_000;
    return unless value($key, $seq, $len) eq $body;

    return $seq;
}


sub read_file {
    my ($name) = @_;
    open(my $f, '<:raw', $name) or die "$name: $!";
    local $/;
    return scalar <$f>;
}


sub write_file {
    my ($name, $text) = @_;
    open(my $f, '>:raw', $name) or die "$name: $!";
    print $f $text;
    close $f or die "$name: $!";
}


# What a directory holds: name => "inode size mtime".

sub list_dir {
    my ($dir) = @_;
    opendir(my $d, $dir) or return {};
    return { map { my @st = Time::HiRes::stat("$dir/$_");
                   @st ? ($_ => sprintf '%d %d %.6f', @st[1, 7, 9]) : () }
             grep { !/^\.\.?$/ } readdir $d };
}


# The same, once a server that gets no writes has done what it still had to.

sub settled_dir {
    my ($dir) = @_;
    my $seen = '';

    return wait_for(sub {
        my $list = list_dir($dir);
        my $before = $seen;
        $seen = join ' ', map { "$_ $list->{$_}" } sort keys %$list;
        return $seen eq $before && $list;
    }, 20, 0.3);
}


# A free port, below those that outgoing connections use: no other program takes
# it while the server is down.  Each process has a block of ports of its own,
# which it holds by the name of a socket, as the tests that run beside it must
# not take one between this call and the server's start.

use constant { PORT => 10_000, PORTS => 200, BLOCKS => 110 };

my ($ports, $holder);
my $next_port = 0;

sub free_port {
    hold_ports() if !$holder;

    for (1 .. PORTS) {
        my $port = $ports + $next_port++ % PORTS;
        my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1,
                                      LocalPort => $port, ReuseAddr => 1);
        return $port if $s;
    }

    die "no free port";
}

sub hold_ports {
    my $first = int rand BLOCKS;

    socket($holder, AF_UNIX, SOCK_STREAM, 0) or die "socket: $!";

    for my $block (map { ($first + $_) % BLOCKS } 0 .. BLOCKS - 1) {
        next if !bind $holder, pack_sockaddr_un("\0kv-test-ports-$block");
        $ports = PORT + $block * PORTS;
        return;
    }

    die "no free block of ports";
}


# How many times as long as on an idle machine things may take: the time that
# passes for a piece of work, to the processor's time that it takes, now; or
# what we had to wait for the processor since we were asked last, or before, if
# that was more.  What is promised within a second is promised to those who get
# a processor.

my $slowest = 1;
my ($ran, $waited) = scheduled();

sub slowness {
    my ($begun, $cpu) = (time, clock);
    my $x = 0;

    while (clock() - $cpu < 0.05) {
        $x++ for 1 .. 1000;
    }

    $slowest = max($slowest, (time - $begun) / (clock() - $cpu));

    my @now = scheduled();
    my $run = $now[0] - $ran;
    $slowest = max($slowest, 1 + ($now[1] - $waited) / $run) if $run > 0.05;
    ($ran, $waited) = @now;

    return $slowest;
}


# The time in seconds, without that for which the machine, or its disk, stood
# still.  A process that sleeps, and now and then syncs some bytes, tells by how
# much later it goes on.

my $watch;

sub running () {
    $watch ||= start_watch();

    while (1) {
        open(my $f, '<:raw', $watch) or die "$watch: $!";
        sysread($f, my $bytes, 16);
        my ($seen, $still) = unpack 'd2', $bytes;
        my $now = time;
        return $now - $still if $now - $seen < 0.25;
        sleep(0.01);
    }
}

sub start_watch {
    my ($f, $name) = File::Temp::tempfile('kvwatchXXXXXX', TMPDIR => 1);
    unlink $name;
    syswrite($f, pack 'd2', 0, 0);

    my $parent = $$;
    my $pid = fork // die "fork: $!";
    return "/proc/$pid/fd/" . fileno $f if $pid;

    $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP);
    $_ == fileno $f or POSIX::close($_)
        for map { m{(\d+)$} } glob '/proc/self/fd/*';

    my ($seen, $still, $laps) = (time, 0, 0);

    while (getppid == $parent) {
        sleep(0.02);
        $f->sync if ++$laps % 20 == 0;
        my $late = time - $seen - 0.02;
        $seen = time;
        $still += $late if $late > 0.25;
        sysseek($f, 0, 0);
        syswrite($f, pack 'd2', $seen, $still);
    }

    POSIX::_exit(0);
}


# Seconds for which this process ran, and could have run; Linux may not tell.

sub scheduled {
    open(my $f, '<', '/proc/self/schedstat') or return (0, 0);
    return map { $_ / 1e9 } (split ' ', readline $f)[0, 1];
}

slowness();


1;
