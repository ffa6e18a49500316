package Bench::Process;

# Programs that are started, and always ended: each is the head of a process
# group of its own, whose id is kept until it is gone. What is bounded ends by
# itself; what serves is stopped by stop() or, whatever happened, by stop_all().

use strict;
use warnings;

use Exporter 'import';
use IO::Select ();
use IO::Socket::INET ();
use POSIX qw(:sys_wait_h SIGINT);
use Time::HiRes qw(time sleep);

our @EXPORT = qw(run running cpu_ns last_lines wait_for free_port);

my %running;             # pid => what it is, of the programs that serve
my $owner = $$;
my $port = 18_000;


# Runs a program to its end and returns what it printed, errors included. Dies
# if it fails, or is not done after `timeout` seconds. `done`, if given, is
# called every few milliseconds; when it says true the program is interrupted,
# as if by Ctrl-C, and is expected to end well.

sub run {
    my ($o, @command) = @_;
    my ($out, $deadline) = ('', time + $o->{timeout});

    pipe(my $from, my $to) or die "pipe: $!\n";
    my $pid = spawn($to, @command);
    close $to;
    local $running{$pid} = $command[0];

    my $select = IO::Select->new($from);
    my $done = $o->{done};

    while (1) {
        my $left = $deadline - time;
        if ($left <= 0) {
            end_group($pid, 'KILL', 5);
            die "@command: not done after $o->{timeout} s\n$out";
        }
        if ($done && $done->() && catches_interrupt($pid)) {
            kill('INT', $pid);
            undef $done;
        }
        my $pause = $done && $left > 0.005 ? 0.005 : $left;
        next unless $select->can_read($pause);
        last unless sysread($from, $out, 65_536, length $out);
    }

    waitpid($pid, 0);
    die "@command: " . how_it_ended($?) . "\n$out" if $?;
    return $out;
}


# On a busy machine it may not have come so far yet, and would die of it.

sub catches_interrupt {
    my ($pid) = @_;
    open(my $f, '<', "/proc/$pid/status") or return 1;
    my ($caught) = map { /^SigCgt:\s+\w*(\w)$/ ? hex $1 : () } <$f>;
    return $caught & 1 << SIGINT - 1;
}


# Starts a program that serves; what it says goes to the file `log`.

sub start {
    my ($log, @command) = @_;

    open(my $to, '>>', $log) or die "$log: $!\n";
    my $pid = spawn($to, @command);
    $running{$pid} = $command[0];

    return $pid;
}


# Whether a program that was started still runs.

sub running {
    my ($pid) = @_;
    delete $running{$pid} if $running{$pid} && waitpid($pid, WNOHANG) == $pid;
    return exists $running{$pid};
}


# Nanoseconds that all threads of these processes have run.

sub cpu_ns {
    my $sum = 0;

    for my $file (map { glob "/proc/$_/task/*/schedstat" } @_) {
        open(my $f, '<', $file) or next;
        $sum += (split ' ', readline($f) // '')[0] // 0;
    }

    return $sum;
}


sub stop {
    my ($pid) = @_;
    return unless running($pid);
    end_group($pid, 'TERM', 20) or end_group($pid, 'KILL', 5);
    delete $running{$pid};
}


sub stop_all {
    return if $$ != $owner;
    kill('TERM', keys %running);
    stop($_) for keys %running;
}


# What a log ends with, for a message.

sub last_lines {
    my ($name) = @_;
    open(my $f, '<', $name) or return '';
    my @lines = <$f>;
    return join '', @lines > 5 ? @lines[-5 .. -1] : @lines;
}


# Calls the condition until it is true; false if it is not after so long.

sub wait_for {
    my ($seconds, $condition, $step) = @_;
    my $end = time + $seconds;

    until ($condition->()) {
        return 0 if time > $end;
        sleep($step || 0.01);
    }

    return 1;
}


# Below the ports that outgoing connections use, and none twice.

sub free_port {
    while ($port < 30_000) {
        $port++;
        my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
                                           LocalPort => $port, Listen => 1);
        return $port if $socket;
    }

    die "no free port\n";
}


sub spawn {
    my ($to, @command) = @_;
    my $pid = fork // die "fork: $!\n";

    if ($pid == 0) {
        setpgrp(0, 0);
        open(STDIN, '<', '/dev/null');
        open(STDOUT, '>&', $to);
        open(STDERR, '>&', $to);
        { no warnings; exec { $command[0] } @command }
        print STDERR "$command[0]: $!\n";
        POSIX::_exit(127);
    }

    setpgrp($pid, $pid);
    return $pid;
}


# The master of nginx ends its workers itself when asked to; nothing of the
# group may be left when it is not asked.

sub end_group {
    my ($pid, $signal, $seconds) = @_;
    kill($signal, $signal eq 'KILL' ? -$pid : $pid);
    return wait_for($seconds, sub { waitpid($pid, WNOHANG) != 0 });
}


sub how_it_ended {
    my ($status) = @_;
    return WIFSIGNALED($status) ? 'signal ' . WTERMSIG($status)
                                : 'status ' . WEXITSTATUS($status);
}


1;
