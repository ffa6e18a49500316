# Usage: perl scripts/lint/sources.pl CHECK <FILES
#
# Checks of sources: columns, lengths, layers, circles, lists.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use Lint;

# Lines of a function, from its name to its last brace: the product's and, as a
# test is a list of facts, those of tests.
my %MOST = (src => 70, t => 100);

# What a folder may include; DESIGN says why. A file may stand for a folder.
my %MAY = (
    base   => [ qw(base) ],
    memory => [ qw(memory base) ],
    disk   => [ qw(disk base) ],
    net    => [ qw(net base) ],
    lines  => [ qw(lines base) ],
    index  => [ qw(index memory disk base) ],
    feed   => [ qw(feed memory disk base) ],
    raft   => [ qw(raft memory disk base) ],
    store  => [ qw(store index feed raft memory disk net base) ],
    http   => [ qw(http store/kv_store.h store/kv_store_dir.h
                   store/kv_version.h lines base) ],
    stream => [ qw(stream http/ngx_http_kv_get.h base) ],
    tool   => [ qw(tool lines disk base) ],
);

my $PRODUCT = qr{^(?:src/.*|ngx_http_kv_module)\.[ch]$};

my %checks = (
    columns => \&columns,
    lengths => \&lengths,
    layers  => \&layers,
    circles => \&circles,
    lists   => \&lists,
);

for my $check (@ARGV) {
    ($checks{$check} or die "no such check: $check\n")->();
}


# ---- columns

sub columns {
    for my $file (files(qr{^[^.].*\.(?:[ch]|t|p[lmy]|sh|mk|lua|md|html|css|js)$
                           |^config$|^\.ci/|^scripts/hooks/[^.]+$}x))
    {
        my $page = $file =~ /\.md$/;
        my $most = $page ? 104 : 80;
        my $n = 0;

        for my $line (lines($file)) {
            $n++;

            # A row of a table cannot be broken, nor a picture, nor an address.

            if (length $line > $most && !($page && $line =~ /^(?:\||!\[)/)
                && $line !~ m{^\W*\w+://\S+\W*$})
            {
                my $columns = length $line;
                finding($file, $n, "$columns columns, of at most $most");
            }

            finding($file, $n, 'blanks at the end') if $line =~ /[ \t]$/;
            finding($file, $n, 'a tab')
                if $line =~ /\t/ && $file =~ /\.(?:[ch]|t|p[lmy]|sh|md)$/;
        }
    }
}


# ---- lengths

sub lengths {
    my $list = 'scripts/lint/long-functions';
    my (%excused, %seen);
    my $n = 0;

    if (-f $list) {
        for my $line (lines($list)) {
            $n++;
            next if $line =~ /^(?:#|\s*$)/;

            if ($line =~ /^(\w+)\s+\S.*/) {
                $excused{$1} = $n;
            } else {
                finding($list, $n, 'not a function and a reason');
            }
        }

        finding($list, 1, 'more than five exceptions') if keys %excused > 5;
    }

    for my $file (files(qr{^(?:src/|t/|ngx_).*\.[ch]$})) {
        my $most = $MOST{$file =~ m{^t/} ? 't' : 'src'};

        for my $function (functions($file)) {
            my ($name, $first, $last) = @$function;
            my $length = $last - $first + 1;

            next if $length <= $most;

            if (delete $excused{$name}) {
                $seen{$name} = 1;
            } elsif (!$seen{$name}) {
                finding($file, $first,
                        "$name() has $length lines, of at most $most");
            }
        }
    }

    for my $name (sort keys %excused) {
        finding($list, $excused{$name}, "$name() is not that long");
    }
}


# ---- layers

# The folder of a file, or of what an #include names.

sub folder {
    my ($path) = @_;
    return 'http' if $path eq 'ngx_http_kv_module.c';
    return $path =~ m{^src/(\w+)/} ? $1 : undef;
}


sub may {
    my ($folder, $path) = @_;
    return grep { $path eq $_ || $path =~ m{^\Q$_\E/} } @{ $MAY{$folder} };
}


sub layers {
    my @files = files($PRODUCT);

    for my $file (@files) {
        my $folder = folder($file);
        my $n = 0;

        if (!defined $folder || !$MAY{$folder}) {
            finding($file, 1, 'is in no folder of src/ that is known');
            next;
        }

        for my $line (split /\n/, code($file)) {
            $n++;
            next if $line !~ /^\s*#\s*include\s*([<"])([^>"]+)[>"]/;
            my ($local, $path) = ($1 eq '"', $2);

            if ($path =~ m{^(?:ngx_(?!http_kv)|nginx)}) {
                finding($file, $n, "includes nginx's $path outside src/http")
                    if $folder ne 'http' && $folder ne 'stream';

            } elsif (!$local) {
                next;

            } elsif ($path !~ m{/}) {
                finding($file, $n, "includes $path without its folder");

            } elsif (!-f "src/$path") {
                finding($file, $n, "includes $path, which is not in src/");

            } elsif (!may($folder, $path)) {
                finding($file, $n, "src/$folder may not include $path");
            }
        }
    }

    layers_of_calls(@files);
}


# What comes along with another header counts as if it were included.

sub layers_of_calls {
    my @files = @_;
    my ($defines, $where) = definitions(@files);
    my %declared;

    # The store's header may offer what others define.

    for my $face (grep { m{/} && -f "src/$_" } map { @$_ } values %MAY) {
        my $code = code("src/$face");
        $declared{$1} = $face while $code =~ /\b(\w+)\(/g;
    }

    for my $file (@files) {
        my $folder = folder($file);
        my %told;

        next if !defined $folder || !$MAY{$folder};

        for my $use (uses($file, $defines)) {
            my ($name, $line) = @$use;
            my $there = $where->{$name};
            my $other = folder($there);

            next if !defined $other || $told{$name}++;
            (my $path = $there) =~ s{^src/}{};
            next if $other eq $folder || may($folder, $path);
            next if $declared{$name} && may($folder, $declared{$name});
            finding($file, $line, "src/$folder may not use $name() of $there");
        }
    }
}


# ---- circles

# By name, the file that defines a function, or a macro that takes arguments.

sub definitions {
    my (%defines, %where);

    for my $file (@_) {
        my $header = $file =~ /\.h$/;

        for my $function (functions($file)) {
            my ($name, undef, undef, $static) = @$function;
            next if $static && !$header || $name eq 'main';
            $where{$name} = $file;
        }

        next if !$header;

        my $code = code($file);
        $where{$1} //= $file while $code =~ /^\s*#\s*define\s+(\w+)\(/mg;
    }

    # A function's own file wins over a macro that takes its place.

    for my $name (keys %where) {
        $defines{$name} = node($where{$name});
    }

    return \%defines, \%where;
}


# A source and the header of its name are one.

sub node {
    my ($file) = @_;
    return $file =~ s/\.[ch]$//r;
}


# Where a file uses what another one defines: [name, line].

sub uses {
    my ($file, $defines) = @_;
    my $own = node($file);
    my $code = code($file);
    my @uses;
    my $n = 0;

    # A header only declares; what it does is in its functions and macros.

    if ($file =~ /\.h$/) {
        my %keep;

        for my $function (functions($file)) {
            $keep{$_} = 1 for $function->[1] .. $function->[2];
        }

        my $macro = 0;
        my @lines = split /\n/, $code;

        for my $i (0 .. $#lines) {
            $macro ||= $lines[$i] =~ /^\s*#\s*define/;
            $lines[$i] = '' if !$macro && !$keep{$i + 1};
            $macro = 0 if $lines[$i] !~ /\\$/;
        }

        $code = join "\n", @lines;
    }

    for my $line (split /\n/, $code) {
        $n++;

        while ($line =~ /\b(\w+)\b/g) {
            my $there = $defines->{$1};
            push @uses, [ $1, $n ] if defined $there && $there ne $own;
        }
    }

    return @uses;
}


sub circles {
    my @files = files($PRODUCT);
    my ($defines, $where) = definitions(@files);
    my (%edges, %includes);

    for my $file (@files) {
        for my $use (uses($file, $defines)) {
            my ($name, $line) = @$use;
            $edges{node($file)}{$defines->{$name}} //= [ $name, $file, $line ];
        }

        next if $file !~ /\.h$/;

        my $code = code($file);
        $includes{$file}{"src/$1"} = 1
            while $code =~ /^\s*#\s*include\s*"([^"]+)"/mg;
    }

    for my $ring (rings(\%edges)) {
        my ($at, @rest) = @$ring;
        my ($name, $file, $line) = @{ $edges{$at}{$rest[0]} };
        my $way = base($at);

        for my $to (@rest) {
            $way .= " calls $edges{$at}{$to}[0]() of " . base($to);
            $at = $to;
        }

        finding($file, $line, "a ring: $way");
    }

    for my $ring (rings(\%includes)) {
        finding($ring->[0], 1, 'a ring of includes: ' . join ' -> ', @$ring);
    }
}


sub base {
    return $_[0] =~ s{.*/}{}r;
}


# ---- lists

# What is built is listed, one file a line, and no makefile looks for files.

sub lists {
    my @lists = (
        [ 'config', qr{^src/(?!tool/).*\.[ch]$} ],
        [ 'scripts/raft.mk', qr{^t/raft/[^/]+\.c$} ],
        [ 'scripts/tool.mk', qr{^src/tool/.*\.c$} ],
        [ 'scripts/unit.mk', qr{^t/unit/[^/]+\.c$} ],
        [ 'scripts/fuzz.mk', qr{^t/fuzz/fuzz_[^/]+\.c$} ],
        [ 'scripts/bench.mk', qr{^t/bench/(?:core/)?[^/]+\.c$} ],
    );

    for my $list (@lists) {
        my ($name, $files) = @$list;
        my $listed = listed($name, $files);

        for my $file (files($files)) {
            finding($file, 1, "is not in the list in $name")
                if !delete $listed->{$file};
        }

        for my $file (sort keys %$listed) {
            finding($name, $listed->{$file}, "lists $file, which is not there");
        }
    }
}


# Those files of a list that are of this sort, and where they stand; within a
# folder they stand in order.

sub listed {
    my ($list, $files) = @_;
    my ($n, $last, %listed) = (0, '');

    return \%listed if !-f $list;

    for my $line (lines($list)) {
        $n++;

        finding($list, $n, 'looks for files; list them')
            if $line =~ /\$\(wildcard [^)]*\.[ch]\)/;

        my ($file) = $line =~ /^\s+(\S+\.[ch])(?: \\)?$/;

        if (!defined $file || $file !~ $files) {
            $last = '';
            next;
        }

        finding($list, $n, "lists $file again") if $listed{$file};
        finding($list, $n, "$file should stand before $last")
            if parent($file) eq parent($last) && $file lt $last;

        $listed{$file} = $n;
        $last = $file;
    }

    return \%listed;
}


sub parent {
    return $_[0] =~ s{[^/]*$}{}r;
}
