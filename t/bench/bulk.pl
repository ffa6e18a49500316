# Usage: perl -It/lib t/bench/bulk.pl [LINES [ROUNDS]]
#
# A bulk load of 1,000,000 pairs of 16 and 100 bytes into an empty store on two
# workers, every write synced: how long it takes, which processor time and
# memory the workers take, and what lone GETs and PUTs of another client see
# before and during it.  Builds the module and t/bench/httplat.c; needs curl.

use strict;
use warnings;

use Time::HiRes qw(sleep time);

use KV::Test;

my $lines = $ARGV[0] || 1_000_000;
my $rounds = $ARGV[1] || 3;
my $httplat = '.build/bench/httplat';

system('scripts/build.sh', '--quiet') == 0
    && system('make', '-s', '-f', 'scripts/bench.mk', $httplat) == 0 or exit 1;

my $s = KV::Test->new(zone => '1g', path => "$ENV{PWD}/.build/bench/bulk-$$");
my $file = "$s->{dir}/lines";
my $value = join '', map { chr(97 + $_ * 7 % 26) } 1 .. 100;

open(my $f, '>', $file) or die "$file: $!";
printf {$f} qq({"key":"%016d","value":"%s"}\n), $_, $value for 1 .. $lines;
close($f);


# Median and 99th percentile of lone GETs and PUTs, in turn for 3 seconds; in
# microseconds.

sub latency {
    my @figures = qx($httplat $s->{port} GET,PUT /kv/other 3s 100);
    return map { [ /([\d.]+)/g ] } @figures;
}

# Of all workers: seconds of processor time, and kilobytes of their own.

sub cost {
    my ($seconds, $memory) = (0, 0);
    for my $pid ($s->workers) {
        my @stat = split ' ', read_file("/proc/$pid/stat") =~ s/.*\) //r;
        $seconds += ($stat[11] + $stat[12]) / 100;
        $memory += $1 if read_file("/proc/$pid/status") =~ /RssAnon:\s+(\d+)/;
    }
    return ($seconds, $memory);
}


for my $round (1 .. $rounds) {
    system('rm', '-rf', $s->{path});
    $s->start;
    $s->put("other$_", 'x' x 100) for 0 .. 999;

    my @before = latency();
    my ($seconds, $memory) = cost();

    my $pid = open(my $curl, '-|', 'curl', '-sS', '-X', 'POST', '-T', $file,
                   '-H', 'Expect:', '-w', '%{time_total}',
                   "http://127.0.0.1:$s->{port}/bulk") or die "curl: $!";
    sleep(0.3);
    my @during = latency();
    my $alone = kill(0, $pid) ? '' : ' (it ended before)';
    my ($answer, $time) = map { s/\s+$//r } <$curl>;
    close($curl);
    my ($seconds2, $memory2) = cost();

    printf "%s in %.2f s; workers: %.2f s of processor, %+d KB%s\n", $answer,
           $time, $seconds2 - $seconds, $memory2 - $memory, $alone;

    for my $i (0, 1) {
        printf "  lone %s: p50 %.0f us, p99 %.0f us; during it %.0f, %.0f\n",
               qw(GET PUT)[$i], @{$before[$i]}[0, 1], @{$during[$i]}[0, 1];
    }

    $s->stop('KILL');
}

system('rm', '-rf', $s->{path});
