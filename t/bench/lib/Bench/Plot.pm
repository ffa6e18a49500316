package Bench::Plot;

# Draws what Bench::Growth has measured: an SVG a subject, by gnuplot.

use strict;
use warnings;

# Ours are drawn in full, what they are held against is dashed.
my @PLOTS = (
    { file  => 'growth-memory',
      title => sub { sprintf 'A key takes %.0f bytes of memory among %s, '
                         . '%.0f among %s',
                         map { ($_->{bytes}, many($_)) } @_[0, -1] },
      axis  => 'bytes a key',
      lines => [['bytes', 'ours, key of 16 bytes and value of 100', 1],
                [116, 'the key and the value alone', 4]] },

    { file  => 'growth-time',
      title => sub { sprintf '%s times the keys: a lookup takes %.1f times '
                         . 'as long, a put %.1f times',
                         map { growth($_, @_) } qw(keys lookup put) },
      axis  => 'processor time of one, nanoseconds',
      lines => [['put', 'our put, 64 in a batch, without a disk', 2],
                ['lookup', 'our lookup', 1],
                ['two_reads', 'two reads of as much memory', 4]] },

    { file  => 'growth-start',
      title => sub { my $last = $_[-1];
                     sprintf '%s start in %s from a snapshot, in %s from the '
                         . 'log', many($last), seconds($last->{from_snapshot}),
                         seconds($last->{from_log}) },
      axis  => 'seconds, files in memory',
      log   => 1,
      lines => [['from_log', 'our start from the log alone', 2],
                ['from_snapshot', 'our start from a snapshot', 1],
                ['snapshot', 'our snapshot, to write it', 3]] },
);

my @COLOURS = (undef, '#0b62a4', '#c2410c', '#15803d', '#6b7280');


# All of them, into a directory, from rows as Bench::Growth::load() has them.

sub draw {
    my ($dir, @rows) = @_;

    for my $plot (@PLOTS) {
        my $name = "$dir/$plot->{file}.svg";
        open(my $gnuplot, '|-', 'gnuplot', '-') or die "gnuplot: $!\n";
        print $gnuplot script($plot, "$name.new", @rows);
        close $gnuplot or die "gnuplot cannot draw $name\n";
        rename("$name.new", $name) or die "$name: $!\n";
        print "$name\n";
    }
}


# What gnuplot is told. A page can be light or dark: the ground is white.

sub script {
    my ($plot, $name, @rows) = @_;
    my @lines = @{$plot->{lines}};
    my $data = join '', map { my $row = $_;
        join(' ', $row->{keys}, map { $row->{$_->[0]} // $_->[0] } @lines)
            . "\n" } @rows;
    my $curves = join ', ', map { my $n = $_;
        my ($column, $text, $colour) = @{$lines[$n]};
        my $dash = $colour == 4 ? 'dt 2 lw 1.5 pt 6' : 'dt 1 lw 2.5 pt 7';
        sprintf q($d using 1:%d with linespoints lc rgb '%s' %s ps 0.6 )
            . q(title '%s'), $n + 2, $COLOURS[$colour], $dash, $text;
    } 0 .. $#lines;
    my $title = $plot->{title}->(@rows);
    my $from = $plot->{log} ? 'set logscale y' : 'set yrange [0:*]';

    return <<"END";
set terminal svg size 800,440 dynamic font 'sans-serif,14' background '#ffffff'
set output '$name'
\$d << EOD
${data}EOD
set title '$title' font ',16'
set xlabel 'keys' offset 0,0.5
set ylabel '$plot->{axis}'
set logscale x
set xrange [$rows[0]{keys} / 1.2 : $rows[-1]{keys} * 1.2]
set xtics add (@{[join ', ', map { "'" . commas($_->{keys}) . "' $_->{keys}" }
                  @rows]})
$from
set format y '%g'
set grid y lc rgb '#d1d5db'
set border 3 lc rgb '#374151'
set tics nomirror textcolor rgb '#374151'
set key outside below left Left reverse vertical maxcols 1
plot $curves
END
}


# How many times as much of it the last row has as the first.

sub growth {
    my ($column, @rows) = @_;
    return $rows[-1]{$column} / $rows[0]{$column};
}


sub many { return commas($_[0]{keys}) . ' keys' }


sub seconds { return sprintf $_[0] < 1 ? '%.2f s' : '%.1f s', $_[0] }


sub commas {
    my ($n) = @_;
    1 while $n =~ s/^(\d+)(\d{3})/$1,$2/;
    return $n;
}


1;
