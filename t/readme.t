# The configurations in README.md and src/http/README.md, as they stand there,
# and what these pages say of parameters and statistics.

use strict;
use warnings;

use Test::More;

use KV::Test;

my $README = read_file('README.md');
my $HTTP = read_file('src/http/README.md');
my @blocks = "$README$HTTP" =~ /^```nginx\n(.*?)^```\n/msg;


# The only block that has this; with its paths and ports made ours.

sub block {
    my ($what) = @_;
    my @found = grep { /$what/ } @blocks;

    is(scalar @found, 1, "there is one configuration with $what")
        or BAIL_OUT('which one is meant?');
    return $found[0];
}


# ---- the example, which is whole

{
    my $s = KV::Test->new;
    my $text = block('kv_zone');

    $text =~ s/^load_module .*\n//m or fail('no load_module in the example');
    $text =~ s{path=/var/lib/nginx/kv}{path=%%path%%} or fail('no path=');
    $text =~ s/listen 127.0.0.1:8080;/listen 127.0.0.1:%%port%%;/
        or fail('no listen');
    $text =~ s/http \{/http { access_log off; %%temp%%/ or fail('no http{}');
    $s->{conf} = "events { }\n$text";
    $s->start;

    # its charset

    my $value = "\xc3\xbcml\xc3\xa4ut \xe2\x82\xac \xf0\x9f\x98\x80";
    my $bytes = join '', map { chr } 0 .. 255;

    for ([ 'UTF-8', $value ], [ 'other bytes', $bytes ],
         [ 'a large value', $bytes x 1000 ])
    {
        my ($what, $v) = @$_;
        is($s->put('u', $v)->{headers}{'content-type'},
           'text/plain; charset=utf-8', "$what: PUT");
        my $r = $s->get('u');
        is($r->{headers}{'content-type'}, 'text/plain; charset=utf-8',
           "$what: GET says what it is");
        ok($r->{body} eq $v, "$what: the same bytes");
        $r = $s->get('u', headers => [ 'Range: bytes=1-5' ]);
        ok($r->{status} == 206 && $r->{body} eq substr($v, 1, 5),
           "$what: a range of it");
    }

    is($s->get('none')->{headers}{'content-type'}, 'text/plain; charset=utf-8',
       'errors, too');
    is($s->http(GET => '/stats')->{headers}{'content-type'},
       'application/json', 'JSON needs none');
    is($s->clear->{status}, 200, '/clear');
    is($s->http(GET => '/health')->{status}, 200, '/health');
    $s->done;
}


# ---- locations, in place of our own

sub with_location {
    my ($text) = @_;
    my $s = KV::Test->new(text => $text);
    $s->{conf} = <<'END';
events { }
http {
    access_log off;
    %%temp%%
    kv_zone zone=main:%%zone%% path=%%path%%;
    server {
        listen 127.0.0.1:%%port%%;
        location = /health { kv_health main; }
        %%text%%
    }
}
END
    return $s->start;
}


{
    my $s = with_location(block('limit_except'));
    is($s->put('a', 'x')->{status}, 200, 'limit_except: this machine writes');
    is($s->get('a')->{body}, 'x', 'limit_except: and reads');
    $s->done;
}


# CORS: what a browser asks, and what it must see

{
    my $s = with_location(block('Access-Control-Allow-Origin'));
    my @origin = ('Origin: https://app.example');

    my $r = $s->http(OPTIONS => '/kv/a',
                     headers => [ @origin, 'Access-Control-Request-Method: PUT',
                                  'Access-Control-Request-Headers: '
                                  . 'content-type' ]);
    is($r->{status}, 204, 'CORS: the preflight');
    is($r->{headers}{'access-control-allow-origin'}, 'https://app.example',
       'CORS: its origin');
    like($r->{headers}{'access-control-allow-methods'}, qr/\bPUT\b/,
         'CORS: its methods');
    like($r->{headers}{'access-control-allow-headers'}, qr/\bcontent-type\b/i,
         'CORS: its headers');

    for ([ 'PUT', 200, PUT => '/kv/a', body => 'x' ],
         [ 'GET', 200, GET => '/kv/a' ],
         [ 'DELETE', 200, DELETE => '/kv/a' ],
         [ 'no such key', 404, GET => '/kv/a' ],
         [ 'a bad key', 400, GET => '/kv/a+b' ],
         [ 'too large', 413, PUT => '/kv/a',
           chunks => [ 'x' x 10_485_760, 'y' ] ],
         [ 'another method', 405, POST => '/kv/a', body => 'x' ])
    {
        my ($what, $status, $method, $path, @o) = @$_;
        $r = $s->http($method, $path, @o, headers => \@origin);
        is($r->{status}, $status, "CORS, $what: it is done");
        is($r->{headers}{'access-control-allow-origin'}, 'https://app.example',
           "CORS, $what: and may be seen");
    }

    $s->put('a', 'x');
    $r = $s->get('a', headers => [ @origin, 'Range: bytes=5-' ]);
    is("$r->{status} $r->{headers}{'access-control-allow-origin'}",
       '416 https://app.example', 'CORS, no such range: said once');
    $s->done;
}


# ---- the parameters of kv_zone: a table here, all of it there

sub section {
    my ($text, $title) = @_;
    my ($section) = $text =~ /^##+ \Q$title\E\n(.*?)(?=^##+ |\z)/ms;
    return $section // BAIL_OUT("no section $title");
}


{
    my %default = section($README, 'Directives')
                  =~ /^\| `(\w+)=\S*` \| ([^|]+) \|/mg;
    my ($syntax) = section($HTTP, 'kv_zone') =~ /Syntax:(.*?);/s;
    my %full = map { $_ => 1 } $syntax =~ /(\w+)=/g;
    my %described = section($HTTP, 'kv_zone')
                    =~ /^-[ ]`(\w+)=\S*`[ ]-[ ]
                         (required|default[ ]`[^`]+`|default[ ](?:1|none))/mgx;

    is_deeply([ sort keys %default ], [ sort keys %full ],
              'README names each parameter of the syntax');
    is_deeply([ sort keys %described ], [ sort keys %full ],
              'each parameter is described');

    my @kv;
    for my $name (sort keys %default) {
        my ($value) = $default{$name} =~ /^`(.+)`$/ or next;
        is($described{$name}, "default `$value`", "$name=: one default");
        push @kv, "$name=$value";
    }

    my $s = KV::Test->new(kv => "@kv");
    my ($status, $said) = $s->test_config;
    is($status, 0, "nginx takes @kv") or diag($said);
}


# ---- a value is changed only if it is still the one that was read

{
    my ($script) = $HTTP =~ /^```sh\n(url=.*?If-Match.*?)^```\n/ms
        or BAIL_OUT('there is no example of If-Match');
    my $s = KV::Test->new->start;
    my $run = sub {
        my ($before_write) = @_;
        my $text = $script =~ s/127\.0\.0\.1:8080/127.0.0.1:$s->{port}/r;
        $text =~ s/^(echo .*)$/$1\n$before_write/m or die 'no change in it';
        write_file("$s->{dir}/example", $text);
        return scalar qx(cd $s->{dir} && rm -f value && sh example 2>&1);
    };
    my $other = "printf other | curl -s -T - "
                . "http://127.0.0.1:$s->{port}/kv/a";

    $s->put('a', "one\n");
    is($run->(':'), '', 'If-Match: done');
    is($s->get('a')->{body}, "one\none more line\n", 'If-Match: and stored');

    is($run->($other), "not written\n", 'If-Match: another was first');
    is($s->get('a')->{body}, 'other', 'If-Match: whose value stays');

    $s->del('a');
    is($run->($other), "not written\n", 'If-Match: there was none');
    is($s->get('a')->{body}, 'other', 'If-Match: but there is now');
    $s->done;
}


# ---- the statistics: each field is in the page, and each in the page is there

sub fields {
    my ($value, @path) = @_;
    return join '.', @path unless ref $value;
    return map { fields($value->{$_}, @path, $_) } sort keys %$value;
}


{
    my ($table) = section($HTTP, 'Statistics')
                  =~ /^`store` has:\n\n(.*?)\n\n/ms;
    my @told = map { /`([\w.]+)`/g } $table =~ /^\| (.*?) \|/mg;
    my %told = map { $_ => 1 } @told;
    my $s = KV::Test->new->start;
    my @there = fields($s->store);

    is_deeply([ grep { !$told{$_} && !$told{s/\.\w+$//r} } @there ], [],
              '/stats has no field that the page does not tell');
    is_deeply([ grep { my $name = $_; !grep { /^\Q$name\E(?:\.|$)/ } @there }
                @told ], [],
              'the page tells no field that /stats does not have');
    $s->done;
}

done_testing();
