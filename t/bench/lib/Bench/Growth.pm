package Bench::Growth;

# How cost grows with the number of keys: what t/bench/core.c says of each
# number, and the file that keeps it.

use strict;
use warnings;

use File::Temp qw(tempdir);
use POSIX qw(strftime);

use Bench::Core;
use Bench::Machine;
use Bench::Process;
use Bench::Report;

our @COLUMNS = qw(keys bytes lookup two_reads put from_log from_snapshot
                  snapshot);

# Bytes of memory that a key takes at most, together: in the zone, in the log
# and in two snapshots, as all files are in memory.
use constant MEMORY => 640;

# Starts with more keys than that are not tried again.
use constant MANY => 1_000_000;

# The directory of those files.
use constant FILES => '/dev/shm';


# The rows, a list for each number of keys. Stops before a number that memory
# does not suffice for.

sub measure {
    my ($bench) = @_;
    my $dir = tempdir('kv_growth.XXXXXX', DIR => FILES, CLEANUP => 1);
    my @rows;

    for my $keys (@{$bench->{keys}}) {
        if ($keys * MEMORY > free_memory()) {
            warn 'no memory for ' . short($keys) . " keys\n";
            last;
        }
        push @rows, row($bench, $keys, $dir);
    }

    return @rows;
}


# What else the machine does can only make it slower: the best of all rounds.

sub row {
    my ($bench, $keys, $dir) = @_;
    my @to = ('value=100', "dir=$dir");
    my @rounds = ("rounds=$bench->{rounds}", 'ms=100', 'take=best');
    my %v = (Bench::Core::core($bench, 'lookups', "keys=$keys", @rounds, @to),
             Bench::Core::core($bench, 'puts', "keys=$keys", @rounds, @to));

    for (1 .. ($keys > MANY ? 1 : $bench->{rounds})) {
        my %again = Bench::Core::core($bench, 'recovery', "keys=$keys", @to);

        for my $name (keys %again) {
            $v{$name} = $again{$name}
                if !defined $v{$name} || $again{$name} < $v{$name};
        }
    }

    return [$keys, @v{"puts_${keys}_bytes_per_key", "lookups_${keys}_ns",
                      "lookups_${keys}_memory_ns", "puts_${keys}_ns",
                      'recovery_from_log_s', 'recovery_from_snapshot_s',
                      'recovery_snapshot_s'}];
}


# Bytes that programs and files in memory can still take.

sub free_memory {
    my ($files) = run({ timeout => 10 }, 'df', '-B1', '--output=avail', FILES)
        =~ /(\d+)/;
    my $free = Bench::Machine::free_mib() * 1_048_576;
    return $files < $free ? $files : $free;
}


# The file: what it was measured on, by lines that begin with #, the names of
# the columns, and the rows.

sub save {
    my ($bench, $name, @rows) = @_;
    my @about = (
        'How cost grows with the number of keys; scripts/bench.sh --plots'
            . ' draws it.',
        '',
        "command: $bench->{command}",
        'date:    ' . strftime('%Y-%m-%d', gmtime),
        "commit:  $bench->{commit}",
        'machine: ' . Bench::Machine::brief(),
        sprintf('load:    average of one minute %s before, %s after',
                $bench->{load}, Bench::Machine::load()),
        '',
        'A key has 16 bytes, a value 100. bytes: of the zone, a key. lookup,',
        'two_reads (of that memory, one waits for the other), put (64 in a',
        'batch, no disk): ns of processor time. from_log and from_snapshot (a',
        'start), snapshot (to write one): seconds, all files in memory.',
        sprintf('The best of %d rounds; with more than %d keys, seconds are of'
                . ' one.', $bench->{rounds}, MANY),
    );

    open(my $f, '>', "$name.new") or die "$name.new: $!\n";
    print $f map { s/\s+$//r . "\n" } map { "# $_" } @about;
    print $f line(@COLUMNS), map { line(@$_) } @rows;
    close $f or die "$name.new: $!\n";
    rename("$name.new", $name) or die "$name: $!\n";
}


sub line {
    return join(' ', map { sprintf '%*s', length($COLUMNS[$_]) + 4, $_[$_] }
                         0 .. $#_) . "\n";
}


# Its rows, each as a hash by the names of the columns.

sub load {
    my ($name) = @_;
    open(my $f, '<', $name) or die "$name: $!\n";
    my ($head, @rows) = map { [split] } grep { !/^#/ } <$f>;

    die "$name: not what scripts/bench.sh --plots has written\n"
        if !@rows || "@$head" ne "@COLUMNS"
           || grep { @$_ != @COLUMNS || grep { !/^[\d.]+$/ } @$_ } @rows;

    return map { my %row; @row{@COLUMNS} = @$_; \%row } @rows;
}


1;
