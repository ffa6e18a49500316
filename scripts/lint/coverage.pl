# Usage: perl scripts/lint/coverage.pl DIR [FILE]...
#
# Adds up what gcov knows of the objects in DIR, for scripts/coverage.sh.

use strict;
use warnings;

use JSON::PP;

# No part of the product.
my %LEFT_OUT = map { $_ => 1 } qw(kv_failpoint.c kv_failpoint.h);

my ($dir, @missing) = @ARGV;
my (%lines, %branches, %sources);


for my $counted (glob "$dir/kv_*.gcda") {
    open my $gcov, '-|', 'gcov', '-b', '-c', '--json-format', '--stdout',
        $counted or die "gcov: $!\n";

    while (my $text = <$gcov>) {
        next if $text !~ /^\{/;
        add($_) for @{ decode_json($text)->{files} };
    }

    close $gcov or die "gcov failed for $counted\n";
}

%lines or die "nothing was counted in $dir\n";
print_table();
print_missing($_) for @missing;


# A header's inline functions are in many objects: one that reached it will do.

sub add {
    my ($file) = @_;
    my $path = $file->{file};

    return if $path !~ m{^src/(?:base|memory|disk|net|store|index|feed|raft)/};
    return if $LEFT_OUT{ $path =~ s{.*/}{}r };

    $sources{$path} //= [ read_lines($path) ];

    for my $line (@{ $file->{lines} }) {
        my $n = $line->{line_number};
        my $i = 0;

        $lines{$path}{$n} += $line->{count};
        next if asserts($sources{$path}, $n);

        for my $branch (@{ $line->{branches} }) {
            $branches{$path}{"$n." . $i++} += $branch->{count};
        }
    }
}


sub read_lines {
    my ($path) = @_;
    open my $fh, '<', $path or die "$path: $!\n";
    return <$fh>;
}


# Whether a line is part of an assertion, which may have begun above.

sub asserts {
    my ($text, $n) = @_;
    my $i = $n - 1;

    for my $above (0 .. 3) {
        my $line = $text->[$i - $above] // '';
        return 1 if $line =~ /\b(?:kv_|static_)?assert\w*\(/;
        return 0 if $above > 0 && $line =~ /[;{}]\s*$/;
        return 0 if $i - $above <= 0 || $text->[$i - $above - 1] =~ /[;{}]\s*$/;
    }

    return 0;
}


sub reached {
    my @counts = map { values %$_ } @_;
    return (scalar(grep { $_ > 0 } @counts), scalar @counts);
}


sub share {
    my ($some, $all) = @_;
    return $all ? sprintf('%5.1f %% of %4d', 100 * $some / $all, $all)
                : ' ' x 15;
}


sub print_table {
    for my $path (sort keys %lines) {
        printf "%-36s lines %s  branches %s\n", $path,
            share(reached($lines{$path})),
            share(reached($branches{$path} // {}));
    }

    printf "%-36s lines %s  branches %s\n", 'in all',
        share(reached(values %lines)), share(reached(values %branches));
}


# Lines that were not reached, and ways that were not taken.

sub print_missing {
    my ($file) = @_;

    for my $path (grep { m{(?:^|/)\Q$file\E$} } sort keys %lines) {
        my %at;

        for my $branch (keys %{ $branches{$path} // {} }) {
            my ($n) = split /\./, $branch;
            $at{$n}++ if $branches{$path}{$branch} == 0;
        }

        my $counts = $lines{$path};
        $at{$_} //= 0 for grep { $counts->{$_} == 0 } keys %$counts;

        for my $n (sort { $a <=> $b } keys %at) {
            printf "%s:%d: %s %s", $path, $n,
                $lines{$path}{$n} ? "$at{$n} not taken:" : 'not reached:',
                $sources{$path}[$n - 1];
        }
    }
}
