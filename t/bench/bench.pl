#!/usr/bin/perl

# The measuring that scripts/bench.sh prepares; run that.
#
#     bench.pl [--quick] [--only PART,...] [--markdown] [--rounds N]
#
# with these in the environment: BENCH_BIN, where the compiled programs of this
# folder are, and where all data goes, in a directory that is removed at the
# end; BENCH_MODULE, our module; BENCH_TOOL, kv-inspect; BENCH_USER, the line of
# nginx's configuration that names the workers' user; BENCH_PEERS, those of
# "redis webdis etcd" that are installed; BENCH_LOAD, the load average before.

use strict;
use warnings;
use utf8;

use File::Temp qw(tempdir);
use FindBin ();
use Getopt::Long qw(GetOptions);
use Time::HiRes qw(time);

use lib "$FindBin::Bin/lib";

use Bench::Api;
use Bench::Api::Bulk;
use Bench::Api::Growth;
use Bench::Api::Servers;
use Bench::Cluster;
use Bench::Core;
use Bench::Counting;
use Bench::Field;
use Bench::Large;
use Bench::Latency;
use Bench::Machine;
use Bench::Matrix;
use Bench::Process;
use Bench::Rates;
use Bench::Report;
use Bench::Start;
use Bench::Tools;
use Bench::Variables;
use Bench::Watch;

my @PARTS = qw(rates latency large start core counting variables cluster
               matrix api tools);

# Those that are not targets; the last one is no part of a whole run.
my %OTHER = (matrix => 1, api => 1, tools => 1, watch => 1);

# Fifteen minutes are all there is: what can be is cut short after so many
# seconds, and in the last part, which has its own time, after so many.
use constant { LATE_AFTER => 450, LAST_LATE_AFTER => 780 };

my $began = time;
my $late_after = LATE_AFTER;
my %bench = (rounds => 5, only => join(',', @PARTS));

GetOptions(\%bench, qw(quick markdown rounds=i only=s)) && !@ARGV
    or die "see scripts/bench.sh --help\n";

$SIG{$_} = sub { exit 1 } for qw(INT TERM HUP);
$SIG{PIPE} = 'IGNORE';
END { local $?; Bench::Process::stop_all() }

binmode STDOUT, ':encoding(UTF-8)';
$| = 1;
main();


sub main {
    my %part = map { $_ => 1 } split /,/, $bench{only};
    $part{$_} = 1 for delete $part{targets} ? grep { !$OTHER{$_} } @PARTS : ();
    prepare();
    print map { "$_\n" } Bench::Machine::describe(\%bench);

    if (grep { !$OTHER{$_} } keys %part) {
        print_heading(\%bench, 'Targets: medians, and the ratio in each round');
        print_head(\%bench);
    }

    my $field = $part{rates} || $part{latency} || $part{large} || $part{matrix}
        ? Bench::Field->new(\%bench, all => $part{matrix})
        : undef;
    my $cells;

    show(Bench::Rates::measure(\%bench, $field)) if $part{rates};
    show(Bench::Latency::measure(\%bench, $field)) if $part{latency};
    show(Bench::Large::measure(\%bench, $field))
        if $part{large} && !$bench{little};
    show(Bench::Start::measure(\%bench)) if $part{start};
    show(Bench::Core::measure(\%bench)) if $part{core};
    show(Bench::Counting::measure(\%bench)) if $part{counting};
    show(Bench::Variables::measure(\%bench)) if $part{variables};
    show(Bench::Cluster::measure(\%bench)) if $part{cluster};
    $cells = Bench::Matrix::measure(\%bench, $field) if $part{matrix};
    $field->stop if $field;

    progress();
    Bench::Matrix::print_tables(\%bench, $cells) if $cells;
    api() if $part{api};
    tools() if $part{tools};
    watch() if $part{watch};
    printf "\n%.0f seconds in all\n", time - $began;
}


# What goes beyond GET and PUT: rows like the targets', and how they grow.

sub api {
    my $servers = Bench::Api::Servers->new(\%bench);

    $late_after = LAST_LATE_AFTER;
    progress();
    print_heading(\%bench, 'Data API: medians, and the ratio in each round');
    print_head(\%bench);
    show(Bench::Api::measure(\%bench, $servers));
    show(Bench::Api::Bulk::measure(\%bench));
    show(Bench::Core::lists(\%bench));

    my $cells = Bench::Api::Growth::measure(\%bench, $servers);

    $servers->stop;
    progress();
    Bench::Api::Growth::print_table(\%bench, $servers, $cells);
}


# What a person does to a store with many keys.

sub tools {
    progress();
    print_heading(\%bench, 'Tools: medians, and the ratio in each round');
    print_head(\%bench);
    show(Bench::Tools::measure(\%bench));
}


# What watchers cost, and how soon they know.

sub watch {
    progress();
    print_heading(\%bench, 'Watches: medians, and the ratio in each round');
    print_head(\%bench);
    show(Bench::Watch::measure(\%bench));
}


sub prepare {
    $bench{$_} = $ENV{'BENCH_' . uc $_} // die "see scripts/bench.sh --help\n"
        for qw(bin module tool user);
    $bench{dir} = tempdir('run.XXXXXX', DIR => $bench{bin}, CLEANUP => 1);
    chmod 0755, $bench{dir} or die "$bench{dir}: $!\n";
    $bench{have} = { map { $_ => 1 } split ' ', $ENV{BENCH_PEERS} // '' };
    ($bench{nginx}) = grep { -x } map { "$_/nginx" } split /:/, $ENV{PATH};
    $bench{rounds} = 1 if $bench{quick};
    $bench{look} = $bench{quick} ? 0.4 : 0.8;     # seconds that a load lasts
    $bench{progress} = \&progress;
    $bench{late} = sub { time - $began > $late_after };
    $bench{sizes} = [100, 4096, 1_048_576];

    # 256 values of 1 MiB on their way, in each server and in the client; and
    # millions of keys
    $bench{little} = Bench::Machine::free_mib() < 8_000;
    pop @{$bench{sizes}} if $bench{little};
    $bench{few} = $bench{quick} || $bench{little};
}


# Each part's rows as soon as they are known.

sub show {
    progress();
    print_rows(\%bench, @_);
}


# What is being done, if standard error is a terminal.

sub progress {
    my ($text) = @_;
    return unless -t STDERR;
    printf STDERR "\r\033[K%s", defined $text
        ? sprintf('%4.0f s  %s', time - $began, $text) : '';
}
