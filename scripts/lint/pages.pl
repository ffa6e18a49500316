# Usage: perl scripts/lint/pages.pl CHECK <FILES
#
# Checks of what pages and comments say: links, readme, counts.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use Lint;

my %README = (least => 250, most => 350);

# Paths that are nginx's, not ours.
my $NGINX = qr{^src/(?:core|event|os|http/modules)\b};

# How pages write a number.
my $NUMBER = qr/(\d[\d,]*|two|three|four|five|six|seven|eight|nine|ten|eleven
                 |twelve|fifteen|twenty)/x;

my %WORDS = (two => 2, three => 3, four => 4, five => 5, six => 6, seven => 7,
             eight => 8, nine => 9, ten => 10, eleven => 11, twelve => 12,
             fifteen => 15, twenty => 20);

my %checks = (
    links  => \&links,
    readme => \&readme,
    counts => \&counts,
);

for my $check (@ARGV) {
    ($checks{$check} or die "no such check: $check\n")->();
}


# ---- links

# In pages: links and their anchors, and paths. In sources and scripts: the
# files of ours that a comment or a string names.

sub links {
    my @all = files(qr//);
    my %bases = map { (s{.*/}{}r => 1) } @all;

    for my $file (grep { /\.md$/ } @all) {
        my $dir = $file =~ s{[^/]*$}{}r;
        my $n = 0;

        for my $line (lines($file)) {
            $n++;

            while ($line =~ /\]\(([^()\s]+)\)/g) {
                my $target = $1;
                next if $target =~ /^\w+:/;
                my ($path, $anchor) = split /#/, $target, 2;
                my $there = $path eq '' ? $file : normal($dir . $path);

                if (!-e $there) {
                    finding($file, $n, "a link to $path, which is not there");
                } elsif (defined $anchor && !anchors($there)->{$anchor}) {
                    finding($file, $n, "$there has no #$anchor");
                }
            }

            while ($line =~ m{(?<![\w./~-])
                              ((?:src|t|scripts|\.ci)/[\w./*{},-]+)}gx)
            {
                my $path = $1 =~ s/[.,]+$//r;
                next if $path =~ $NGINX || glob_exists($path)
                        || glob_exists($dir . $path);
                finding($file, $n, "names $path, which is not there");
            }
        }
    }

    for my $file (grep { /\.(?:[ch]|t|p[lm]|sh|mk|md)$|^config$/ } @all) {
        my $n = 0;

        for my $line (lines($file)) {
            $n++;

            while ($line =~ m{(?<![\w*/])
                              ((?:ngx_http_kv|kv|test|fuzz)_\w*\.[ch])\b}gx)
            {
                finding($file, $n, "names $1, which is nowhere")
                    if !$bases{$1};
            }
        }
    }
}


sub normal {
    my ($path) = @_;
    1 while $path =~ s{(?:^|(?<=/))(?!\.\./)[^/]+/\.\./}{};
    $path =~ s{(?:^|(?<=/))\./}{}g;
    return $path;
}


sub glob_exists {
    my ($path) = @_;
    return scalar grep { -e } glob $path;
}


# The anchors that GitHub gives the headings of a page.

my %anchors;

sub anchors {
    my ($file) = @_;

    return $anchors{$file} //= do {
        my %found;
        my $code;

        for my $line (-f $file && $file =~ /\.md$/ ? lines($file) : ()) {
            $code = !$code if $line =~ /^```/;
            next if $code || $line !~ /^#+\s+(.*?)\s*$/;
            my $slug = lc $1;
            $slug =~ s/\[([^]]*)\]\([^)]*\)/$1/g;
            $slug =~ s/[^\w\s-]//g;
            $slug =~ s/\s/-/g;
            $slug .= "-$found{$slug}" if $found{$slug}++;
            $found{$slug} = 1;
        }

        \%found;
    };
}


# ---- readme

sub readme {
    my $n = () = lines('README.md');

    finding('README.md', $n,
            "$n lines, of $README{least} to $README{most}")
        if $n < $README{least} || $n > $README{most};
}


# ---- counts

# What pages count, as they say it, and how it is counted.

sub counts {
    my @counts = (
        [ qr/(?:named )?(?:fail)?points/, 'failpoints', \&failpoints ],
        [ qr/(?:unit test|test) programs/, 'programs in t/unit',
          sub { scalar files(qr{^t/unit/test_\w+\.c$}) } ],
        [ qr/(?:fuzz targets|fuzzers)/, 'targets in t/fuzz',
          sub { scalar files(qr{^t/fuzz/fuzz_\w+\.c$}) } ],
        [ qr/(?:Perl scripts|test files|files of `t\/\*\.t`)/, 'files t/*.t',
          sub { scalar files(qr{^t/\w+\.t$}) } ],
        [ qr/promises/, 'promises in the table', \&promises ],
        [ qr/images/, 'images of disks', \&images ],
        [ qr/(?:lint )?checks/, 'checks in scripts/lint.sh', \&lint_checks ],
    );

    for my $file (files(qr/\.md$/)) {
        my $n = 0;

        for my $line (lines($file)) {
            $n++;

            for my $count (@counts) {
                my ($words, $what, $real) = @$count;

                while ($line =~ /\b$NUMBER $words\b/gi) {
                    my $said = $WORDS{lc $1} // $1 =~ tr/,//dr;
                    my $is = $real->();

                    finding($file, $n, "says $said $what, but there are $is")
                        if $said != $is;
                }
            }

            if ($line =~ /nginx (\d+)\.(\d+)(?:\.(\d+))? or newer/) {
                my ($major, $minor, $patch) = ($1, $2, $3 // 0);
                my $said = sprintf '%d%03d%03d', $major, $minor, $patch;
                my ($is) = text('config') =~ /-lt (\d+)/;

                finding($file, $n,
                        "says nginx $major.$minor, but config wants $is")
                    if $said != $is;
            }
        }
    }
}


sub failpoints {
    my %failpoints;

    for my $file (files(qr{^(?:src/|ngx_).*\.c$})) {
        my $code = code($file);
        $failpoints{$1} = 1
            while $code =~ /\bkv_(?:fail)?point\(\s*([A-Z]\w+)\s*\)/g;
    }

    return scalar keys %failpoints;
}


sub promises {
    my ($table) = text('README.md') =~ /^\| promise \|.*?\n((?:\|.*\n)*)/m;
    my @rows = split /\n/, $table // '';
    return @rows - 1;
}


sub images {
    my ($n) = text('t/unit/test_power.c') =~ /^#define IMAGES\s+(\d+)/m;
    return $n // 0;
}


sub lint_checks {
    my ($list) = text('scripts/lint.sh') =~ /^all=\(([^)]*)\)/m;
    return scalar(() = ($list // '') =~ /\w+/g);
}
