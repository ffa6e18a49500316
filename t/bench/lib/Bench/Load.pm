package Bench::Load;

# The programs that make load, and what they print.
#
# A target, which they are pointed at, is { port, get, put, before }: the paths
# to read and write, with SIZE for the size of the values and %d for a key's
# number, and a function that runs before each load, if any.
#
# A server that refuses is quick: any answer but 2xx, any error of a connection
# ends the whole with a message.

use strict;
use warnings;

use Exporter 'import';
use File::Basename qw(dirname);
use List::Util qw(max);
use POSIX qw(ceil);
use Time::HiRes qw(time);

use Bench::Process;

our @EXPORT = qw(turns better wrk httpload redis_benchmark redis_rates lone
                 syncs keys_of);

my $SCRIPT = dirname(__FILE__) . '/../../load.lua';


# Runs each of name => sub in turn, `rounds` times, A B B A: whatever else the
# machine does meets all alike, also if it does more and more. Returns
# name => [figures].

sub turns {
    my ($bench, $rounds, @subs) = @_;
    my %sub = @subs;
    my @names = @subs[grep { $_ % 2 == 0 } 0 .. $#subs];
    my %figures;

    for my $round (1 .. $rounds) {
        for my $name (@names) {
            $bench->{progress}->("round $round of $rounds, $name");
            push @{$figures{$name}}, scalar $sub{$name}->();
        }
        @names = reverse @names;
    }

    return %figures;
}


# Of two lists of figures the better one in each round.

sub better {
    my ($one, $other) = @_;
    return [map { max($one->[$_], $other->[$_]) } 0 .. $#$one];
}


# How many keys of a size are written; primes, so that the turns of reads and
# writes meet every key.

sub keys_of { my ($size) = @_; return $size > 65_536 ? 61 : 997 }


# Requests a second, and the latencies' 99.9th percentile in microseconds if
# there was a script. Options:
#
#   op           get (one key), put or mix (many)
#   target, size, connections, seconds (not whole ones, if need be)
#   keys, stride other keys than 0 .. keys_of(size)
#   done         ends it: see Bench::Process::run()

sub wrk {
    my (%o) = @_;
    $o{target}{before}->() if $o{target}{before};

    my ($get, $put) = map { my $path = $o{target}{$_} // '';
                            $path =~ s/SIZE/$o{size}/; $path } qw(get put);
    my $url = "http://127.0.0.1:$o{target}{port}";
    my @script;

    if ($o{op} eq 'get') {
        $url .= $get =~ s/%d/0/r;

    } else {
        @script = ('--', $o{op}, $o{size}, $o{keys} || keys_of($o{size}),
                   $o{stride} || 1, $put, $get);
    }

    my $end = time + $o{seconds};
    $o{done} ||= sub { time >= $end } if $o{seconds} != int $o{seconds};

    my $out = run({ timeout => $o{seconds} + 60, done => $o{done} },
        'wrk', '-t', $o{connections} > 1 ? 2 : 1, '-c', $o{connections},
        '-d', ceil($o{seconds}) . 's', '--timeout', '60s',
        @script ? ('-s', $SCRIPT) : (), $url, @script);

    die "errors under load: $o{op} $url, $o{size} bytes, $o{connections} "
        . "connections:\n$out" if $out =~ /Non-2xx|Socket errors/;

    my ($rate) = $out =~ m{^Requests/sec:\s+([\d.]+)}m
        or die "wrk says nothing:\n$out";
    my ($late) = $out =~ /^p99\.9 (\d+)/m;

    return wantarray ? ($rate, $late) : $rate;
}


# Requests a second by t/bench/httpload.c, which says what its options do; or
# lines, where requests have these. With `other` a reference to both rates.
# Options beside those:
#
#   port, connections, seconds, method, path
#   counter      reference to how many numbers were used before, which grows

sub httpload {
    my ($bench, %o) = @_;
    my @fixed = delete @o{qw(port connections seconds method path)};
    my $counter = delete $o{counter};

    $o{first} = $$counter || 0 if $counter;

    my $out = run({ timeout => $fixed[2] + 90 }, "$bench->{bin}/httpload",
                  @fixed, map { "$_=$o{$_}" } sort keys %o);
    my (@rates) = $out =~ /^([\d.]+)(?: ([\d.]+))? (\d+)$/
        or die "httpload says nothing:\n$out";

    my $used = pop @rates;
    $$counter = $used if $counter;
    return \@rates if $o{other};
    return $rates[0] * ($o{lines} || 1);
}


# Operations a second of Redis by its own protocol. It takes a number of
# operations and not a time: `guess` is a rate, for about `seconds` of them.
#
#   port, connections, seconds, guess, threads
#   op, size     get or put, of keys_of(size)
#   command, keys   or instead the words of a command, with __rand_int__ for a
#                number below that

sub redis_benchmark {
    my (%o) = @_;
    my $size = $o{size} || 0;
    my @command = $o{command} ? @{$o{command}}
                : ('-t', $o{op} eq 'put' ? 'set' : 'get', '-d', $size);

    # fewer than it can time, or than there are connections, make no rate
    my $n = max(int($o{guess} * $o{seconds}), $o{connections},
                $size > 65_536 ? 5 : 200);

    my $out = run({ timeout => 120 }, 'redis-benchmark', '-p',
        $o{port}, '-c', $o{connections}, '-r', $o{keys} || keys_of($size),
        '-n', $n, '--csv', ($o{threads} || 1) > 1 ? ('--threads', $o{threads})
                                                  : (), @command);

    my ($rate) = $out =~ /^"[^"]*","([\d.]+)"/m
        or die "redis-benchmark says nothing:\n$out";

    return $rate;
}


# A sub that gives such a rate, and guesses the next one by the last.

sub redis_rates {
    my (%o) = @_;
    my $guess = $o{guess} || 20_000;
    return sub { return $guess = redis_benchmark(%o, guess => $guess) };
}


# The median microseconds of each method, asked in turn on one connection.

sub lone {
    my ($bench, $target, $methods, $count) = @_;
    my $out = run({ timeout => 60 }, "$bench->{bin}/httplat", $target->{port},
                  $methods, $target->{lone}, $count, 100);
    my @medians = $out =~ /^([\d.]+) /mg;
    return wantarray ? @medians : $medians[0];
}


# Writes and syncs of 200 bytes into a file that has its space: the median in
# microseconds, and how many a second.

sub syncs {
    my ($bench, $count) = @_;
    my $out = run({ timeout => 60 }, "$bench->{bin}/syncprobe", $bench->{dir},
                  $count);
    my ($median, undef, $rate) = split ' ', $out;
    return { median => $median, rate => $rate };
}


1;
