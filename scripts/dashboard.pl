# Usage: perl scripts/dashboard.pl FOLDER [LIBRARY] <PINS >FILE
#
# Makes the page of kv_dashboard, for scripts/dashboard.sh: prints the C file
# src/http/ngx_http_kv_dashboard_page.c of the project in FOLDER. The charts'
# library comes from the folder LIBRARY, its npm package unpacked or, without,
# out of the C file that is there. PINS are its name and version, and what
# sha256 gives for its style and its script in base64, one a line.

use strict;
use warnings;

use Digest::SHA qw(sha256_base64 sha256_hex);

my ($top, $package) = @ARGV;
my ($library, $style_pin, $script_pin) = map { chomp; $_ } <STDIN>;

my $FILE = "$top/src/http/ngx_http_kv_dashboard_page.c";
my $WHERE = "$top/src/http/dashboard/dashboard";


my ($style, $script) = $package ? from_package() : from_page(read_file($FILE));

check("its style", $style, $style_pin);
check("its script", $script, $script_pin);

my %parts = (
    'uplot.css' => $style,
    'uplot.js' => $script,
    'dashboard.css' => read_file("$WHERE.css"),
    'dashboard.js' => read_file("$WHERE.js"),
    states => table(read_file("$top/src/store/README.md"), '`state`'),
    alerts => table(read_file("$top/README.md"), 'what', 1, '`/stats`'),
);

my $page = read_file("$WHERE.html");
$page =~ s/\{\{([\w.]+)\}\}/$parts{$1} \/\/ "{{$1}}"/ge;

my ($head, $rest, @more) = split /\{\{stores\}\}/, $page;
die "the page has not one place for its stores\n" if !defined $rest || @more;

print c_file($head, $rest);


sub read_file {
    my ($name) = @_;
    open my $fh, '<:raw', $name or die "$name: $!\n";
    local $/;
    return scalar <$fh>;
}


# ---- the library

# Its licence stands before each part.

sub from_package {
    my $licence = read_file("$package/LICENSE");
    my $note = "/*\n$library\n\n" . $licence =~ s/\s*\z//r . "\n*/\n";

    die "a licence that ends a comment\n" if $licence =~ m{\*/};
    return map { $note . read_file("$package/dist/$_") =~ s/\s*\z/\n/r }
           qw(uPlot.min.css uPlot.iife.min.js);
}


# The first style and the first script of the page that a C file has.

sub from_page {
    my ($c) = @_;
    my $text = '';
    my %named = (n => "\n");

    for ($c =~ /^    "(.*)"[,;]?$/mg) {
        s/\\([0-7]{3}|.)/length $1 > 1 ? chr oct $1 : $named{$1} \/\/ $1/ge;
        $text .= $_;
    }

    my ($old_style) = $text =~ m{<style>(.*?)</style>}s;
    my ($old_script) = $text =~ m{<script>(.*?)</script>}s;
    return ($old_style // '', $old_script // '');
}


sub digest {
    my ($text) = @_;
    my $digest = sha256_base64($text);
    return $digest . '=' x (-length($digest) % 4);
}


sub check {
    my ($what, $text, $pin) = @_;
    my $digest = digest($text);
    return if $digest eq $pin;
    die "$library: $what has the digest $digest, not $pin\n";
}


# ---- our own pages

# The rows of a table of Markdown whose first row begins with `first`, as HTML;
# or only those whose cell number `column` has the text `has`.

sub table {
    my ($text, $first, $column, $has) = @_;
    my ($lines) = $text =~ /^(\| \Q$first\E \|.*\n(?:\|.*\n)+)/m
        or die "no table that begins with $first\n";
    my ($titles, undef, @rows) = map { [ cells($_) ] } split /\n/, $lines;

    @rows = grep { index($_->[$column], $has) >= 0 } @rows if defined $has;
    die "nothing in the table that begins with $first\n" if !@rows;

    return "<thead><tr>"
           . join('', map { "<th scope=\"col\">$_</th>" } map { html($_) }
                      @$titles)
           . "</tr></thead>\n<tbody>\n"
           . join('', map { row(@$_) } @rows) . "</tbody>\n";
}


sub row {
    return '<tr>' . join('', map { '<td>' . html($_) . '</td>' } @_)
           . "</tr>\n";
}


sub cells {
    my ($line) = @_;
    $line =~ s/^\|\s*|\s*\|\s*$//g;
    return split /\s*\|\s*/, $line, -1;
}


sub html {
    my ($text) = @_;
    my %named = ('&' => '&amp;', '<' => '&lt;', '>' => '&gt;');

    $text =~ s/([&<>])/$named{$1}/g;
    $text =~ s/\[([^]]*)\]\([^)]*\)/$1/g;
    $text =~ s{`([^`]*)`}{<code>$1</code>}g;
    return $text;
}


# ---- the C file

sub policy {
    my ($text) = @_;
    my @styles = map { "'sha256-" . digest($_) . "'" }
                 $text =~ m{<style>(.*?)</style>}gs;
    my @scripts = map { "'sha256-" . digest($_) . "'" }
                  $text =~ m{<script>(.*?)</script>}gs;

    return join '; ', "default-src 'none'", "script-src @scripts",
                      "style-src @styles", "img-src data:",
                      "connect-src 'self'", "base-uri 'none'",
                      "form-action 'none'", "frame-ancestors 'none'",
                      "require-trusted-types-for 'script'";
}


sub c_file {
    my ($one, $two) = @_;
    my $digest = substr sha256_hex("$one\0$two"), 0, 16;

    return <<"END"
\n/*
 * Made by scripts/dashboard.sh of src/http/dashboard, of tables in README.md
 * and src/store/README.md, and of $library: change those, and run it.
 */


#include "http/ngx_http_kv_dashboard_page.h"


static const char  ngx_http_kv_page_head_text[] =
END
        . c_string($one) . "\n\nstatic const char  ngx_http_kv_page_rest_text[]"
        . " =\n" . c_string($two) . <<"END"


const ngx_http_kv_page_part_t  ngx_http_kv_page_head = {
    sizeof(ngx_http_kv_page_head_text) - 1, ngx_http_kv_page_head_text
};

const ngx_http_kv_page_part_t  ngx_http_kv_page_rest = {
    sizeof(ngx_http_kv_page_rest_text) - 1, ngx_http_kv_page_rest_text
};

const char  ngx_http_kv_page_policy[] =
END
        . c_string(policy("$one$two"))
        . "\nconst char  ngx_http_kv_page_digest[] = \"$digest\";\n";
}


# A line for each line of the text, or some. No digit is behind an octal number
# that would be taken for its own, as these have three, and no "??" is left.

sub c_string {
    my ($text) = @_;
    my @lines;
    my %named = ("\n" => '\\n', '"' => '\\"', '\\' => '\\\\', '?' => '\\?');

    for my $line (split /(?<=\n)/, $text) {
        my $c = '';

        while ($line =~ /(.)/gs) {
            my $char = $1;
            my $next = $named{$char}
                       // ($char =~ /[ -~]/ ? $char
                                            : sprintf '\\%03o', ord $char);

            if (length("    \"$c$next\";") > 80) {
                push @lines, $c;
                $c = '';
            }

            $c .= $next;
        }

        push @lines, $c;
    }

    return join("\n", map { "    \"$_\"" } @lines) . ";\n";
}
