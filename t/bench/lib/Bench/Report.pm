package Bench::Report;

# Numbers to text: medians, ranges, ratios, and whether a target was met.

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(median number short ratios print_heading print_head
                 print_rows);

my @HEAD = ('measure', 'ours', 'peer', 'ratio', 'least..greatest', 'target',
            '');


sub median {
    my @v = sort { $a <=> $b } @_;
    return ($v[$#v / 2] + $v[@v / 2]) / 2;
}


# Element by element: a ratio is of two figures of the same round.

sub ratios {
    my ($ours, $peer) = @_;
    return [map { $peer->[$_] ? $ours->[$_] / $peer->[$_] : 0 } 0 .. $#$ours];
}


sub number {
    my ($v) = @_;
    my $text = sprintf $v >= 100 ? '%.0f' : $v >= 10 ? '%.1f' : '%.2f', $v;
    1 while $text =~ s/^(\d+)(\d{3})/$1,$2/;
    return $text;
}


# For narrow columns: three digits that count.

sub short {
    my ($v) = @_;
    my $unit = $v >= 999_500 ? 'M' : $v >= 9995 ? 'k' : '';
    $v /= { M => 1e6, k => 1e3, '' => 1 }->{$unit};
    my $text = sprintf !$unit || $v >= 99.95 ? '%.0f' : '%.1f', $v;
    $text =~ s/\.0$// if $unit eq 'M';
    return $text . $unit;
}


sub print_heading {
    my ($bench, $text) = @_;
    print $bench->{markdown} ? "\n### $text\n\n" : "\n$text\n\n";
}


# Rows are { name, unit, ours => [..], peer => [..], ratio => [..], target }.
# Without a ratio the target is for our own figure; without a target the row
# only informs.

sub print_rows {
    my ($bench, @rows) = @_;
    printf row_format($bench), cells($_) for @rows;
}


sub print_head {
    my ($bench) = @_;
    printf row_format($bench), @HEAD;
    print "|---|--:|--:|--:|---|---|---|\n" if $bench->{markdown};
}


sub row_format {
    my ($bench) = @_;
    return $bench->{markdown} ? "| %s | %s | %s | %s | %s | %s | %s |\n"
                              : "%-37s %11s %11s %6s  %-15s %7s %s\n";
}


sub cells {
    my ($row) = @_;
    my $main = $row->{ratio} || $row->{ours};
    my @v = sort { $a <=> $b } @$main;
    my ($ours, $peer) = map { $_ ? number(median(@$_)) . $row->{unit} : '' }
                        @$row{qw(ours peer)};
    my $range = @v < 2 ? ''
              : $row->{ratio} ? sprintf '%.2f .. %.2f', @v[0, -1]
              : join ' .. ', map { number($_) } @v[0, -1];

    return ($row->{name}, $ours, $peer,
            $row->{ratio} ? sprintf '%.2f', median(@v) : '', $range,
            $row->{target} // '', verdict($row, median(@v)));
}


sub verdict {
    my ($row, $value) = @_;
    my ($than, $limit) = ($row->{target} // '') =~ /^([<>]=?) ([\d.]+)/
        or return '';
    my $met = $than eq '<=' ? $value <= $limit
            : $than eq '<'  ? $value < $limit : $value >= $limit;
    return $met ? 'met' : 'MISSED';
}


1;
