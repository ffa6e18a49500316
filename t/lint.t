# scripts/lint.sh finds what it is for: for each check a small tree that breaks
# its rule, and says so in one line; and one that breaks none.

use strict;
use warnings;

use Cwd qw(getcwd);
use File::Basename qw(dirname);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use Test::More;

my $LINT = getcwd() . '/scripts/lint.sh';


sub function {
    my ($name, $lines, @body) = @_;
    push @body, '    ;' while @body < $lines - 3;
    return join "\n", '', 'int', "$name(void)", '{', @body, '}', '';
}


# What is no finding, whatever the check.

my %GOOD = (
    'ngx_http_kv_module.c' =>
        qq(#include "store/kv_store.h"\n)
        . function('kv_main', 4, '    return kv_store_get();'),
    'src/base/kv_base.h' =>
        "#define kv_max(a, b)  ((a) > (b) ? (a) : (b))\n",
    'src/store/kv_store.h' => "int kv_store_get(void);\n",
    'src/store/kv_store.c' =>
        qq(#include "store/kv_store.h"\n#include "memory/kv_map.h"\n)
        . function('kv_store_get', 4,
                   '    return kv_map_find();   /* not kv_main() */'),
    'src/memory/kv_map.h' => "int kv_map_find(void);\n",
    'src/memory/kv_map.c' =>
        qq(#include "memory/kv_map.h"\n#include "base/kv_base.h"\n)
        . function('kv_map_find', 4, '    return kv_max(1, 2);'),
    'src/disk/kv_wal.h' => "int kv_wal_write(void);\n",
    'src/disk/kv_wal.c' =>
        qq(#include "disk/kv_wal.h"\n)
        . function('kv_wal_write', 4, '    return 0;'),
    'config' => join("\n    ", 'kv_version -lt 1022000',
                     qw(src/memory/kv_map.c src/disk/kv_wal.c
                        src/store/kv_store.c src/base/kv_base.h
                        src/memory/kv_map.h src/disk/kv_wal.h
                        src/store/kv_store.h)) . "\n",
    'scripts/unit.mk' => "TESTS := \\\n    t/unit/test_a.c\n",
    't/unit/test_a.c' => "\n",
    'README.md' => "# A page\n\n[here](#a-page), `src/base`, "
                   . "[map](src/memory/kv_map.h), nginx 1.22 or newer"
                   . "\n\nmore" x 150 . "\n",
    'scripts/a.sh' => qq(#!/bin/bash\necho "\$1"\n),
);


# What a check says of a tree that has these files besides.

sub lint {
    my ($check, %files) = @_;
    my $dir = tempdir(CLEANUP => 1);

    %files = (%GOOD, %files);

    for my $file (keys %files) {
        make_path(dirname("$dir/$file"));
        open my $fh, '>', "$dir/$file" or die "$file: $!";
        print $fh $files{$file};
        close $fh or die "$file: $!";
    }

    my $out = qx('$LINT' --root '$dir' $check 2>&1);
    return ($? >> 8, $out);
}


# finds CHECK, FINDING, FILE => TEXT...: it is said in a line of its own.

sub finds {
    my ($check, $finding, %files) = @_;
    my ($status, $out) = lint($check, %files);

    ok($status == 1 && $out =~ /^$finding/m, "$check: $finding")
        or diag("status $status: $out");
}


sub passes {
    my ($check, $what, %files) = @_;
    my ($status, $out) = lint($check, %files);

    # what it needs, where it comes first

    $out =~ s/^lint\.sh: installing .*\n//;
    is("$status $out", '0 ', "$check: $what");
}


passes('', 'a good tree');


# ---- what stands at the top

finds('top', 'ir:1: may not stand at the top',
      'ir/a.o' => '', 'ir/b.o' => '');
finds('top', 'README:1: may not stand at the top', 'README' => '');
passes('top', 'what begins with a dot, and the house',
       '.ci/run' => '', '.editorconfig' => '', 'LICENSE' => '',
       't/a.t' => '');


# ---- what a source looks like

finds('columns', 'src/base/kv_a\.c:2: 81 columns',
      'src/base/kv_a.c' => "\n" . 'x' x 81 . "\n");
finds('columns', 'a\.md:1: 105 columns', 'a.md' => 'x' x 105);
passes('columns', 'the row of a table', 'a.md' => '|' . 'x' x 105);
finds('columns', 't/a\.t:1: blanks at the end', 't/a.t' => "x \n");
finds('columns', 't/a\.t:1: a tab', 't/a.t' => "\tx\n");

finds('lengths', 'src/base/kv_a\.c:3: kv_a\(\) has 71 lines',
      'src/base/kv_a.c' => function('kv_a', 71));
finds('lengths', 't/unit/a\.c:3: a\(\) has 101 lines',
      't/unit/a.c' => function('a', 101));
finds('lengths', 'scripts/lint/long-functions:1: kv_a\(\) is not that long',
      'src/base/kv_a.c' => function('kv_a', 70),
      'scripts/lint/long-functions' => "kv_a  a reason\n");
finds('lengths', 'scripts/lint/long-functions:1: more than five',
      'scripts/lint/long-functions' => join '', map { "kv_$_  why\n" } 1 .. 6);
passes('lengths', 'an exception with its reason',
       'src/base/kv_a.c' => function('kv_a', 71),
       'scripts/lint/long-functions' => "kv_a  a reason\n");


# ---- what it reaches for

finds('layers', 'src/memory/kv_a\.c:1: src/memory may not include disk/kv_wal',
      'src/memory/kv_a.c' => qq(#include "disk/kv_wal.h"\n));
finds('layers', 'src/disk/kv_a\.c:1: src/disk may not include memory/kv_map',
      'src/disk/kv_a.c' => qq(#include "memory/kv_map.h"\n));
finds('layers', 'src/base/kv_a\.h:1: src/base may not include store/kv_store',
      'src/base/kv_a.h' => qq(#include "store/kv_store.h"\n));
finds('layers', 'src/http/ngx_http_kv\.c:1: src/http may not include memory/',
      'src/http/ngx_http_kv.c' => qq(#include "memory/kv_map.h"\n));
finds('layers', 'src/store/kv_a\.c:1: includes nginx\'s ngx_core\.h outside',
      'src/store/kv_a.c' => "#include <ngx_core.h>\n");
finds('layers', 'src/store/kv_a\.c:1: includes kv_store\.h without its folder',
      'src/store/kv_a.c' => qq(#include "kv_store.h"\n));
finds('layers', 'src/kv_a\.c:1: is in no folder', 'src/kv_a.c' => "\n");
finds('layers', 'src/http/ngx_http_kv\.c:6: src/http may not use kv_map_find',
      'src/store/kv_store.h' => qq(#include "memory/kv_map.h"\n),
      'src/http/ngx_http_kv.c' =>
          qq(#include "store/kv_store.h"\n)
          . function('get', 4, '    return kv_map_find();'));

finds('circles', 'src/memory/kv_map\.c:5: a ring: kv_map calls kv_a\(\) of kv_a'
                 . ' calls kv_b\(\) of kv_b calls kv_map_find\(\) of kv_map',
      'src/memory/kv_map.c' => function('kv_map_find', 4, '    kv_a();'),
      'src/memory/kv_a.c' => function('kv_a', 4, '    kv_b();'),
      'src/memory/kv_b.c' => function('kv_b', 4, '    kv_map_find();'));
finds('circles', 'src/base/kv_a\.h:1: a ring of includes',
      'src/base/kv_a.h' => qq(#include "base/kv_b.h"\n),
      'src/base/kv_b.h' => qq(#include "base/kv_a.h"\n));
passes('circles', 'a static function is its file\'s',
       'src/base/kv_a.c' => "\nstatic" . function('kv_x', 4, '    kv_b();'),
       'src/base/kv_b.c' => function('kv_b', 4, '    kv_x();')
                            . "\nstatic" . function('kv_x', 4));

# Whether it is a source, a header, or a program of t/.
for my $file (qw(src/base/kv_a.c src/base/kv_a.h t/unit/test_b.c t/unit/b.c
                 t/fuzz/fuzz_a.c t/bench/a.c t/bench/core/a.c))
{
    my $list = $file =~ m{^t/(\w+)} ? "scripts/$1.mk" : 'config';

    finds('lists', "\Q$file\E:1: is not in the list in \Q$list\E\n",
          $file => "\n");
}

finds('lists', 'scripts/bench\.mk:2: lists t/bench/a\.c, which is not there',
      'scripts/bench.mk' => "A := \\\n    t/bench/a.c\n");
finds('lists', 'scripts/unit\.mk:6: lists t/unit/test_a\.c again',
      'scripts/unit.mk' => "A := \\\n    t/unit/test_a.c\n\n\n"
                           . "B := \\\n    t/unit/test_a.c\n");
finds('lists', 'scripts/unit\.mk:3: t/unit/a\.c should stand before t/unit/b',
      'scripts/unit.mk' => "A := \\\n    t/unit/b.c \\\n    t/unit/a.c\n");
finds('lists', 'scripts/unit\.mk:1: looks for files',
      'scripts/unit.mk' => "A := \$(wildcard t/unit/*.c)\n");
passes('lists', 'a helper of another folder',
       'scripts/fuzz.mk' => "A := \\\n    t/unit/test_a.c\n");

finds('headers', 'src/base/kv_a\.h:1: unknown type name .*kv_t',
      'src/base/kv_a.h' => "int kv_a(kv_t *a);\n");


# ---- what pages say

finds('links', 'a\.md:1: a link to none\.md, which is not there',
      'a.md' => "[x](none.md)\n");
finds('links', 'a\.md:1: README\.md has no #nothing',
      'a.md' => "[x](README.md#nothing)\n");
finds('links', 'a\.md:1: names src/none/, which is not there',
      'a.md' => "in `src/none/`\n");
finds('links', 'src/base/kv_a\.c:1: names kv_none\.c, which is nowhere',
      'src/base/kv_a.c' => "/* see kv_none" . ".c */\n");
finds('readme', 'README\.md:351: 351 lines', 'README.md' => "x\n" x 351);
finds('readme', 'README\.md:2: 2 lines', 'README.md' => "x\n" x 2);
finds('counts', 'a\.md:1: says 3 failpoints, but there are 1',
      'a.md' => "There are three failpoints.\n",
      'src/base/kv_a.c' => function('kv_a', 4, '    kv_failpoint(KV_A);'));
finds('counts', 'a\.md:1: says 2 targets in t/fuzz, but there are 0',
      'a.md' => "the 2 fuzz targets\n");
finds('counts', 'a\.md:1: says nginx 1\.20, but config wants 1022000',
      'a.md' => "nginx 1.20 or newer\n");


# the page of the dashboard: a copy of ours, in which something has changed

{
    my @files = (glob('src/http/dashboard/*'), 'src/store/README.md',
                 'README.md', 'src/http/ngx_http_kv_dashboard_page.c');
    my %ours;

    for my $file (@files) {
        open my $fh, '<', $file or die "$file: $!";
        local $/;
        $ours{$file} = <$fh>;
    }

    my $changed = sub {
        my ($file, $from, $to) = @_;
        return (%ours, $file => $ours{$file} =~ s/$from/$to/r);
    };
    my $stale = 'src/http/ngx_http_kv_dashboard_page\.c:1: is not what it is';
    my $library = 'src/http/ngx_http_kv_dashboard_page\.c:1: uPlot .* digest';

    passes('dashboard', 'ours', %ours);
    finds('dashboard', $stale, $changed->('src/http/dashboard/dashboard.js',
                                          'POLL = 1000', 'POLL = 2000'));
    finds('dashboard', $stale, $changed->('src/store/README.md',
                                          'a reload does not help', 'wait'));
    finds('dashboard', $stale, $changed->($files[-1], 'script-src ',
                                          "script-src 'unsafe-inline' "));
    finds('dashboard', $library, $changed->($files[-1], 'var uPlot=',
                                            'var uPlot ='));
}


# ---- other people's tools

finds('shell', 'scripts/a\.sh:2:6: note: Double quote',
      'scripts/a.sh' => "#!/bin/bash\necho \$1\n");
finds('cppcheck', 'src/base/kv_a\.c:\d: Array .*out of bounds',
      'src/base/kv_a.c' => function('kv_a', 5, '    int a[2] = { 0, 0 };',
                                    '    return a[2];'));

done_testing();
