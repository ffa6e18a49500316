package Bench::Large;

# Values of 1 MiB: how fast they leave, against a file that nginx sends from the
# page cache by sendfile(); and what a reader that does not read costs a worker.

use strict;
use warnings;

use Socket;

use Bench::Load;
use Bench::Nginx;
use Bench::Process;
use Bench::Report;

use constant MIB => 1_048_576;


sub measure {
    my ($bench, $field) = @_;

    return ((map { reads($bench, $field, $_) } 1, 64),
            slow_readers($bench));
}


sub reads {
    my ($bench, $field, $connections) = @_;
    my %v = turns($bench, $bench->{rounds}, map {
        my $target = $field->target($_);
        $_ => sub {
            return scalar wrk(op => 'get', target => $target, size => MIB,
                              connections => $connections,
                              seconds => $bench->{look});
        };
    } qw(always dav));
    my $s = $connections > 1 ? 's' : '';

    return { name => "GET 1 MiB, $connections conn$s / sendfile", unit => '/s',
             ours => $v{always}, peer => $v{dav},
             ratio => ratios($v{always}, $v{dav}), target => '>= 0.9' };
}


# Connections that ask, and then take nothing: what the workers' own memory,
# without the zone, grows by for each. In an nginx of its own, which has no
# memory left over from other work, and whose sockets do not swallow a value.

sub slow_readers {
    my ($bench) = @_;
    my $readers = 200;
    my $nginx = Bench::Nginx->new(bench => $bench, name => 'slow',
                                  workers => 2, zones => [[slow => '64m', '']],
                                  listen => 'sndbuf=32k');
    $nginx->start;
    $nginx->request(PUT => '/slow/large', 'x' x MIB)->{success}
        or die "PUT of 1 MiB fails\n";

    # what the first few leave behind is no cost of a reader
    my @sockets = readers($nginx, 20);
    my $before = private_kib($nginx);
    push @sockets, readers($nginx, $readers);
    my $after = private_kib($nginx);

    die "slow readers were served\n"
        if $nginx->stats('slow')->{routes}{kv}{GET};
    $nginx->stop;

    return { name => 'memory per slow reader of 1 MiB', unit => ' KiB',
             ours => [($after - $before) / $readers], target => '< 64' };
}


# `count` readers, whose answers have begun to come.

sub readers {
    my ($nginx, $count) = @_;
    my @sockets = map { ask($nginx->{port}, '/slow/large') } 1 .. $count;

    for my $socket (@sockets) {
        wait_for(10, sub { has_answer($socket) }) or die "no answer\n";
        recv($socket, my $start, 12, MSG_PEEK);
        die "not a 200: $start\n" if $start ne 'HTTP/1.1 200';
    }

    return @sockets;
}


sub ask {
    my ($port, $path) = @_;
    socket(my $socket, PF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
    setsockopt($socket, SOL_SOCKET, SO_RCVBUF, 4096) or die "SO_RCVBUF: $!\n";
    connect($socket, sockaddr_in($port, INADDR_LOOPBACK))
        or die "connect: $!\n";
    syswrite $socket, "GET $path HTTP/1.1\r\nHost: localhost\r\n\r\n";
    return $socket;
}


sub has_answer {
    my ($socket) = @_;
    vec(my $in = '', fileno $socket, 1) = 1;
    return select($in, undef, undef, 0);
}


# Memory of the workers that no other process shares. Pages of the zone that
# only one of them has touched count as private, too, so mappings that are
# shared are left out.

sub private_kib {
    my ($nginx) = @_;
    my ($sum, $private) = (0, 0);

    for my $pid ($nginx->workers) {
        open(my $f, '<', "/proc/$pid/smaps") or die "/proc/$pid/smaps: $!\n";
        while (<$f>) {
            $private = $1 eq 'p' if /^[0-9a-f]+-[0-9a-f]+ ...([ps]) /;
            $sum += $1 if $private && /^Private_\w+:\s+(\d+) kB/;
        }
    }

    return $sum;
}


1;
