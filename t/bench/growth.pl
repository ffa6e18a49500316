#!/usr/bin/perl

# How cost grows with the number of keys, measured and drawn, as
# scripts/bench.sh --plots prepares it; run that.
#
#     growth.pl [--quick] [--redraw] [--most KEYS] [--rounds N] DIR
#
# writes DIR/growth.dat, unless it is only to be drawn again, and DIR/*.svg,
# with these in the environment: BENCH_BIN, where the compiled programs of this
# folder are; BENCH_LOAD, the load average before; BENCH_COMMIT, what was
# measured; BENCH_COMMAND, how.

use strict;
use warnings;

use FindBin ();
use Getopt::Long qw(GetOptions);
use Time::HiRes qw(time);

use lib "$FindBin::Bin/lib";

use Bench::Growth;
use Bench::Plot;
use Bench::Process;

my @KEYS = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000);

my $began = time;
my %bench = (rounds => 3, most => $KEYS[-1]);

GetOptions(\%bench, qw(quick redraw most=i rounds=i)) && @ARGV == 1
    or die "see scripts/bench.sh --help\n";

$SIG{$_} = sub { exit 1 } for qw(INT TERM HUP);
END { local $?; Bench::Process::stop_all() }

main($ARGV[0]);


sub main {
    my ($dir) = @_;
    my $data = "$dir/growth.dat";

    measure($data) unless $bench{redraw};
    Bench::Plot::draw($dir, Bench::Growth::load($data));
}


# A plot needs two rows or more.

sub measure {
    my ($data) = @_;
    $bench{$_} = $ENV{'BENCH_' . uc $_} // die "see scripts/bench.sh --help\n"
        for qw(bin load commit command);
    $bench{progress} = \&progress;
    $bench{most} = 1_000_000 if $bench{quick} && $bench{most} > 1_000_000;
    $bench{keys} = [grep { $_ <= $bench{most} } @KEYS];

    my @rows = Bench::Growth::measure(\%bench);
    progress();
    die "too few numbers of keys for a plot\n" if @rows < 2;
    Bench::Growth::save(\%bench, $data, @rows);
    printf "%s, measured in %.0f seconds\n", $data, time - $began;
}


# What is being done, if standard error is a terminal.

sub progress {
    my ($text) = @_;
    return unless -t STDERR;
    printf STDERR "\r\033[K%s", defined $text
        ? sprintf('%4.0f s  %s', time - $began, $text) : '';
}
