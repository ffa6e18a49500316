# Usage: perl -It/lib t/bench/bulk.pl [LINES [ROUNDS]]
#
# A bulk load of 1,000,000 pairs of 16 and 100 bytes into an empty store on two
# workers, every write synced: how long it takes alone, and while another client
# asks for one thing after the other; which processor time and memory the
# workers take, and what lone GETs and PUTs of that client see before and during
# it.  Builds the module and t/bench/httplat.c; needs curl.

use strict;
use warnings;

use Time::HiRes qw(sleep time);

use KV::Test;

my $lines = $ARGV[0] || 1_000_000;
my $rounds = $ARGV[1] || 3;
my $httplat = '.build/bench/httplat';
my $OTHERS = int(1 + $lines / 150_000);     # seconds: a load takes longer

system('scripts/build.sh', '--quiet') == 0
    && system('make', '-s', '-f', 'scripts/bench.mk', $httplat) == 0 or exit 1;

my $s = KV::Test->new(zone => '1g', path => "$ENV{PWD}/.build/bench/bulk-$$");
my $file = "$s->{dir}/lines";
my $value = join '', map { chr(97 + $_ * 7 % 26) } 1 .. 100;

open(my $f, '>', $file) or die "$file: $!";
printf {$f} qq({"key":"%016d","value":"%s"}\n), $_, $value for 1 .. $lines;
close($f);


# Median and 99th percentile of lone GETs and PUTs, in turn for so many seconds;
# in microseconds.

sub latency {
    my ($seconds) = @_;
    my @figures = qx($httplat $s->{port} GET,PUT /kv/other ${seconds}s 100);
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


# A load into an empty store; those of `others` are asked for meanwhile.

sub load {
    my ($others) = @_;
    system('rm', '-rf', $s->{path});
    $s->start;
    $s->put("other$_", 'x' x 100) for 0 .. 999;

    my @before = $others ? latency(3) : ();
    my ($seconds, $memory) = cost();

    my $pid = open(my $curl, '-|', 'curl', '-sS', '-X', 'POST', '-T', $file,
                   '-H', 'Expect:', '-w', '%{time_total}',
                   "http://127.0.0.1:$s->{port}/bulk") or die "curl: $!";
    my @during;

    if ($others) {
        sleep(0.3);
        @during = latency($OTHERS);
        warn "the load ended before: less than $OTHERS s\n" if !kill(0, $pid);
    }

    my ($answer, $time) = map { s/\s+$//r } <$curl>;
    close($curl);
    my ($seconds2, $memory2) = cost();

    printf "%s in %.2f s%s; workers: %.2f s of processor, %+d KB\n", $answer,
           $time, $others ? ' beside others' : '', $seconds2 - $seconds,
           $memory2 - $memory;

    for my $i ($others ? (0, 1) : ()) {
        printf "  lone %s: p50 %.0f us, p99 %.0f us; during it %.0f, %.0f\n",
               qw(GET PUT)[$i], @{$before[$i]}[0, 1], @{$during[$i]}[0, 1];
    }

    $s->stop('KILL');
}


for my $round (1 .. $rounds) {
    load(0);
    load(1);
}

system('rm', '-rf', $s->{path});
