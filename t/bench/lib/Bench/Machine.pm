package Bench::Machine;

# What it was measured on, and with.

use strict;
use warnings;

use Bench::Process;


# Lines of text.

sub describe {
    my ($bench) = @_;
    my $have = $bench->{have};
    my ($source, $type) = split ' ', (split /\n/, run({ timeout => 10 }, 'df',
        '--output=source,fstype', $bench->{dir}))[-1];

    my @programs = (version($bench->{nginx}, '-v'), version('wrk', '-v'));
    push @programs, version('redis-server', '--version') if $have->{redis};
    push @programs, 'webdis ' . webdis() if $have->{webdis};

    my @lines = (
        sprintf('%s, %d cores, %d MiB free; Linux %s', cpu(), cores(),
                free_mib(), first('/proc/sys/kernel/osrelease', qr/(\S+)/)),
        join(', ', @programs),
        "all on one machine, over loopback; data on $source ($type)",
        sprintf('load average %s before; %d round%s, in turn',
                $ENV{BENCH_LOAD} // '?', $bench->{rounds},
                $bench->{rounds} > 1 ? 's' : ''),
    );

    for my $peer (qw(redis webdis)) {
        push @lines, "$peer is not installed: without its rows"
            unless $have->{$peer};
    }

    push @lines, 'little memory: without values of 1 MiB, with fewer keys'
        if $bench->{little};

    return @lines;
}


# The same without what is free, which changes.

sub brief {
    return sprintf '%s, %d cores, Linux %s', cpu(), cores(),
        first('/proc/sys/kernel/osrelease', qr/^(\d+\.\d+)/);
}


# The load average of one minute.

sub load { return first('/proc/loadavg', qr/^(\S+)/) }


sub cpu { return first('/proc/cpuinfo', qr/^model name\s*:\s*(.*)/) }


sub cores {
    open(my $f, '<', '/proc/cpuinfo') or return 0;
    return scalar grep { /^processor\s*:/ } <$f>;
}


sub free_mib {
    return int(first('/proc/meminfo', qr/^MemAvailable:\s+(\d+)/) / 1024);
}


# Each says it in its own way.

sub version {
    my ($program, $option) = @_;
    my $out = `$program $option 2>&1` // '';
    my ($name) = $program =~ m{([^/]+)$};
    return "$name $1" if $out =~ m{(?:nginx/|wrk \S*?/?|v=)([\d.]+\w*)};
    return $name;
}


sub webdis {
    my $out = `dpkg-query -W -f '\${Version}' webdis 2>/dev/null` // '';
    return $out =~ /^([\d.]+)/ ? $1 : '';
}


# The first match in a file.

sub first {
    my ($name, $re) = @_;
    open(my $f, '<', $name) or return '?';
    while (<$f>) {
        return $1 if /$re/;
    }
    return '?';
}


1;
