package Bench::Grid;

# Tables of rates: a load in each line, and who answered it in each column.

use strict;
use warnings;
use utf8;

use Bench::Report;


# What the first column is called, and the others.

sub head {
    my ($bench, $corner, @names) = @_;

    if ($bench->{markdown}) {
        print "| $corner | ", join(' | ', @names), " |\n",
              '|---|', '--:|' x @names, "\n";

    } else {
        printf '%-14s' . '%12s' x @names . "\n", $corner, @names;
    }
}


# Of each column the median of its rates, with half their range, and below how
# much that is of the column `base`.

sub line {
    my ($bench, $label, $v, $base, @columns) = @_;
    my $whole = median(@{$v->{$base}});
    my (@rates, @ratios);

    for my $name (@columns) {
        my @v = sort { $a <=> $b } @{$v->{$name} || []};
        my $median = @v ? median(@v) : 0;
        push @rates, !@v ? '-' : short($median) . (@v < 2 ? '' : sprintf
            ' ±%2.0f%%', 50 * ($v[-1] - $v[0]) / ($median || 1));
        push @ratios, @v && $whole ? sprintf '(%.2f)', $median / $whole : '';
    }

    if ($bench->{markdown}) {
        print '| ', join(' | ', $label,
                         map { "$rates[$_] $ratios[$_]" } 0 .. $#rates), " |\n";

    } else {
        printf '%-14s' . '%12s' x @rates . "\n", $label, @rates;
        printf '%-14s' . '%11s ' x @rates . "\n", '', @ratios;
    }
}


1;
