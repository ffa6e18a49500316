# The dashboard as an answer: its headers, what it may do, and where it finds
# its stores.  What it does in a browser is in t/browser.t.

use strict;
use warnings;

use Digest::SHA qw(sha256_base64);
use Test::More;

use KV::Test;

my $s = KV::Test->new(kv => 'list=on', http => 'kv_zone zone=two:16m
                                                path=%%dir%%/two;',
                      two => free_port(), zip => free_port(), server => '
    location = /keys { kv_keys main; }
    location = /dashboard { kv_dashboard; }
    location = /deep/er/page { kv_dashboard; }
    location = /kv/page { kv_dashboard; }
    location = /if { kv_dashboard; if ($arg_x) { set $y 1; } }
    location = "/a:b&c<d>\"e %23?" { kv_stats two; }
    location = //evil.example/ { kv_keys main; }
    location = /again { kv_stats main; }
', servers => '
    server {
        listen 127.0.0.1:%%two%%;
        location = / { kv_dashboard; }
        location = /x/stats { kv_stats two; }
        location /x/kv/ { kv two; }
        location ~ ^/keys { kv_stats main; }
        location @main { kv_stats main; }
    }
    server {
        listen 127.0.0.1:%%zip%%;
        gzip on;
        charset koi8-r;
        add_header X-Own own;
        expires 1h;
        location = /dashboard { kv_dashboard; }
        location = /stats { kv_stats main; }
    }
')->start;


# ---- the answer

my $r = $s->http(GET => '/dashboard');
my $page = $r->{body};

is($r->{status}, 200, 'GET');
is($r->{headers}{'content-type'}, 'text/html; charset=utf-8', 'it is HTML');
is($r->{headers}{'cache-control'}, 'no-cache', 'no cache keeps it unasked');
is($r->{headers}{'x-content-type-options'}, 'nosniff', 'and nothing else');
is($r->{headers}{'referrer-policy'}, 'no-referrer', 'no address is passed on');
is($r->{headers}{'content-length'}, length $page, 'of that length');
like($page, qr/^<!doctype html>.*<\/html>\n\z/s, 'all of it');

my $tag = $r->{headers}{etag};
like($tag, qr/^"[0-9a-f]{16}-[0-9a-f]{8}"$/, 'with an ETag');

my $head = $s->http(HEAD => '/dashboard');
is_deeply([ @{$head->{headers}}{qw(etag content-length content-type)} ],
          [ @{$r->{headers}}{qw(etag content-length content-type)} ],
          'HEAD says the same');
is($head->{body}, '', 'and no more');

for (['its tag', "If-None-Match: $tag", 304],
     ['a list with it', qq(If-None-Match: "x", $tag), 304],
     ['another', 'If-None-Match: "x"', 200],
     ['If-Match of another', 'If-Match: "x"', 200],
     ['If-Unmodified-Since', 'If-Unmodified-Since: Sat, 01 Jan 2000 00:00:00 '
                             . 'GMT', 200],
     ['a range', 'Range: bytes=0-1', 200])
{
    my ($what, $header, $status) = @$_;
    my $got = $s->http(GET => '/dashboard', headers => [ $header ]);
    is($got->{status}, $status, "$what: $status");
    is($got->{body}, $status == 200 ? $page : '', "$what: all or nothing");
    is($got->{headers}{etag}, $tag, "$what: the same tag");
}

for my $method (qw(PUT POST DELETE PATCH)) {
    my $got = $s->http($method => '/dashboard', body => 'x');
    is("$got->{status} $got->{headers}{allow} $got->{body}",
       "405 GET, HEAD method not allowed\n", "$method: refused");
    is($got->{headers}{'cache-control'}, 'no-cache', "$method: kept by none");
}

is($s->http(GET => '/dashboard?x=1')->{body}, $page, 'arguments mean nothing');
is($s->http(GET => '/if?x=1')->{body}, $page, 'nor does an "if"');

my $c = $s->connect;
for my $body ('x' x 100_000, '') {
    $c->send(KV::Conn::request(GET => '/dashboard', body => $body));
    is($c->response->{body}, $page, 'a body means nothing');
}

ok(!(grep { /dash/ } keys %{$s->stats->{routes}}), 'no store counts it');


# ---- what it may do

{
    my %policy = map { /^(\S+) ?(.*)$/ }
                 split /; /, $r->{headers}{'content-security-policy'};
    my $hash = sub { "'sha256-" . sha256_base64($_[0])
                     . '=' x (-length(sha256_base64($_[0])) % 4) . "'" };

    for (['script', $page =~ m{<script>(.*?)</script>}gs],
         ['style', $page =~ m{<style>(.*?)</style>}gs])
    {
        my ($what, @blocks) = @$_;
        is(scalar @blocks, 2, "two of <$what>, the library's and ours");
        is(delete $policy{"$what-src"}, join(' ', map { $hash->($_) } @blocks),
           "it may run its own <$what> and no other");
        like($_, qr/\AThe MIT|\A\/\*\nuPlot \S+\n\nThe MIT .* WARRANTY/s,
             "<$what> of the library with its licence") for $blocks[0];
    }

    is_deeply(\%policy, { 'default-src' => "'none'", 'img-src' => 'data:',
                          'connect-src' => "'self'", 'base-uri' => "'none'",
                          'form-action' => "'none'",
                          'frame-ancestors' => "'none'",
                          'require-trusted-types-for' => "'script'" },
              'and nothing else, but ask its own server');

    my $ours = $page =~ s{<(script|style)>.*?</\1>}{}gsr;
    unlike($ours, qr/<[^>]*\s(?:on\w+|style|src)\s*=/i,
           'no attribute is code, or loads something');
    my ($script) = ($page =~ m{<script>(.*?)</script>}gs)[1];
    unlike($script, qr/\.innerHTML\s*\+?=[^=]|insertAdjacent|document\.write
                       |\beval\b|new\s+Function|outerHTML/x,
           'our script makes no HTML of text');
}


# ---- what it says of states and alerts; the texts are checked by lint.sh

{
    my $table = sub { $page =~ m{<table id="$_[0]">(.*?)</table>}s ? $1 : '' };
    my %known = map { $_ => 1 } $table->('states') =~ m{<tr><td><code>([^<]*)}g;
    my ($names) = read_file('src/store/kv_state.c')
                  =~ /^kv_state_name\(.*?\{(.*?)^\}/ms;
    my %there = map { $_ => 1 } $names =~ /"([^"]+)"/g;

    is_deeply(\%known, \%there, 'it knows each state');

    my ($script) = ($page =~ m{<script>(.*?)</script>}gs)[1];
    my @rows = $script =~ /\{ row: "([^"]+)"/g;
    cmp_ok(scalar @rows, '>', 3, 'there are alerts');
    like($table->('alerts'), qr{<code>\Q$_\E</code>}, "the alert of $_")
        for @rows;
}


# ---- where the stores are

sub places {
    my ($path, $port) = @_;
    my $text = $s->http(GET => $path, port => $port // $s->{port})->{body};
    return join ' | ', map { s/ content=//r }
           $text =~ /<meta name="kv-store"([^>]*)>/g;
}

my $odd = './a:b&amp;c%3Cd%3E%22e%20%2523%3F';

is(places('/dashboard'), '"main" data-stats="./again" data-keys="./keys" '
   . qq(data-values="./kv/" | "two" data-stats="$odd"),
   'relative, the first of each, and escaped');
is(places('/deep/er/page'), '"main" data-stats="../../again" '
   . 'data-keys="../../keys" data-values="../../kv/" | "two" '
   . 'data-stats="../../' . substr($odd, 2) . '"', 'from further down');
is(places('/kv/page'), '"main" data-stats="../again" data-keys="../keys" '
   . 'data-values="./" | "two" data-stats="../' . substr($odd, 2) . '"',
   'from among the keys');
is(places('/', $s->{two}), '"two" data-stats="./x/stats" '
   . 'data-values="./x/kv/"', 'of its own server, and with an address');

is($s->http(GET => '/a:b&c%3Cd%3E%22e%20%2523%3F')->{status}, 200,
   'the address is one');


# ---- what other directives add

{
    my $got = $s->http(GET => '/dashboard', port => $s->{zip},
                       headers => [ 'Accept-Encoding: gzip' ]);
    is($got->{headers}{'content-encoding'}, 'gzip', 'gzip: compressed');
    cmp_ok(length $got->{body}, '<', length($page) / 2, 'gzip: much shorter');
    is($got->{headers}{'content-type'}, 'text/html; charset=utf-8',
       'charset: it is what it is');
    is($got->{headers}{'x-own'}, 'own', 'add_header: added');
    is($got->{headers}{'cache-control'}, 'max-age=3600', 'expires: as it says');
    is($s->http(GET => '/dashboard', port => $s->{zip},
                headers => [ 'Accept-Encoding: gzip',
                             "If-None-Match: $got->{headers}{etag}" ])
           ->{status}, 304, 'gzip: a weak tag will do');
}


# ---- another configuration

$s->{server} =~ s!location = /keys [^}]*\}!!;
ok(defined $s->reload, 'a reload');
isnt($s->http(GET => '/dashboard')->{headers}{etag}, $tag,
     'another page has another tag');
unlike(places('/dashboard'), qr/\.\/keys/, 'it says what there is now');

$s->done;

done_testing();
