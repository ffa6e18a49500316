# What the checks beside this one share.

package Lint;

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(files text lines finding code functions rings);


# The files to look at, one a line in standard input; paths are relative to the
# folder that this runs in.

my @files;

sub files {
    my ($pattern) = @_;

    if (!@files) {
        @files = grep { -f } map { chomp; $_ } <STDIN>;
    }

    return grep { $_ =~ $pattern } @files;
}


my %texts;

sub text {
    my ($file) = @_;

    if (!exists $texts{$file}) {
        open my $fh, '<:encoding(UTF-8)', $file or die "$file: $!\n";
        local $/;
        $texts{$file} = <$fh> // '';
    }

    return $texts{$file};
}


sub lines { return split /\n/, text($_[0]) }


sub finding {
    my ($file, $line, $what) = @_;
    binmode STDOUT, ':encoding(UTF-8)';
    print "$file:$line: $what\n";
}


# A C source without what is in comments and strings; each line stays where it
# is.

my %codes;

sub code {
    my ($file) = @_;

    return $codes{$file} //= do {
        my $text = text($file);

        $text =~ s{ (/\*.*?\*/) | (//[^\n]*) | (^[ ]*\#[ ]*include[^\n]*)
                    | "((?:[^"\\\n]|\\.)*)" | '((?:[^'\\\n]|\\.)*)' }
                  { my $kept = $&;
                    if (defined $1 || defined $2) { $kept =~ s/[^\n]/ /g }
                    elsif (!defined $3)           { $kept = '""' }
                    $kept }gsmex;
        $text;
    };
}


# The functions that a C source defines: [name, first line, last line, whether
# others cannot see it, body].

sub functions {
    my ($file) = @_;
    my @lines = split /\n/, code($file);
    my @found;

    for (my $i = 0; $i < @lines; $i++) {
        next if $lines[$i] !~ /^\{/;

        # Up to the line that the name begins, and what stands before it.

        my $head = '';
        my $first = $i;

        while ($first > 0 && $lines[$first - 1] =~ /\S/
               && $lines[$first - 1] !~ /^(?:[#}]|.*;\s*$)/)
        {
            $head = $lines[--$first] . "\n$head";
        }

        my ($name) = $head =~ /^(?!__attribute__)(?:[\w\s*]*?[\s*])?(\w+)\(/m;
        next if !defined $name;

        my $last = $i;
        $last++ while $last < $#lines && $lines[$last] !~ /^\}/;

        my ($at) = grep { $lines[$_] =~ /\b\Q$name\E\(/ } $first .. $i;
        push @found, [ $name, $at + 1, $last + 1, $head =~ /\bstatic\b/ ? 1 : 0,
                       join "\n", @lines[$i .. $last] ];
        $i = $last;
    }

    return @found;
}


# Of a graph, {from => {to => anything}}: for each node that can be reached from
# itself the shortest way there, [node, ..., node].

sub rings {
    my ($edges) = @_;
    my @rings;

    for my $start (sort keys %$edges) {
        my %from = ($start => undef);
        my @next = ($start);
        my $end;

        while (!defined $end && defined(my $at = shift @next)) {
            for my $to (sort keys %{ $edges->{$at} // {} }) {
                if ($to eq $start) {
                    $end = $at;
                    last;
                }

                next if exists $from{$to};
                $from{$to} = $at;
                push @next, $to;
            }
        }

        next if !defined $end;

        my @ring = ($start);

        for (my $at = $end; defined $at; $at = $from{$at}) {
            unshift @ring, $at;
        }

        push @rings, \@ring;
    }

    return @rings;
}

1;
