# Usage: perl pages.pl PAGE
#
# Prints the page, and every file that a reader of it gets to by links, a path a
# line, from the folder that it runs in. A file that is not there is an error.

use strict;
use warnings;

my @files = @ARGV;
my %seen = map { ($_ => 1) } @files;

while (defined(my $file = shift @files)) {
    open(my $in, '<', $file) or die "$file: $!\n";
    print "$file\n";
    next if $file !~ /\.md$/;
    my ($dir) = $file =~ m{^(.*/|)};

    while (my $line = <$in>) {
        for my $link ($line =~ /\]\(([^()\s#:]+)(?:#[^()\s]*)?\)/g) {
            my $to = "$dir$link";
            1 while $to =~ s{(?:^|(?<=/))(?!\.\./)[^/]+/\.\./}{};
            push @files, $to if !$seen{$to}++;
        }
    }
}
