# Versions as clients see them, and conditional requests: ETag, If-Match,
# If-None-Match; what nginx's own filters make of them; and what becomes of a
# version when the server ends.

use strict;
use warnings;

use Test::More;

use KV::Test;
use KV::Util qw(free_port wait_for write_file);

my $built = qx(@{[ KV::Test::nginx() ]} -V 2>&1);
my @ssi = $built =~ /without-http_ssi/ ? () : 'ssi';

my $s = KV::Test->new(
    zone => '64m', cache => free_port(), h2 => free_port(),
    kv => 'segment=16m',
    http => 'proxy_cache_path %%dir%%/cache keys_zone=cache:1m;',
    servers => <<'END',
    server {
        listen 127.0.0.1:%%cache%%;
        location / {
            proxy_pass http://127.0.0.1:%%port%%;
            proxy_cache cache;
            proxy_cache_valid 200 1s;
            proxy_ignore_headers Cache-Control;
            proxy_cache_revalidate on;
            add_header X-Cache $upstream_cache_status;
        }
    }
    server { listen 127.0.0.1:%%h2%% http2; location /kv/ { kv main; } }
END
    server => '
        client_body_buffer_size 2m;
        location /gzip/ { kv main; gzip on; gzip_types text/plain;
                          gzip_min_length 1; }
        location /sub/ { kv main; sub_filter one two; sub_filter_types *; }
        location /front/ { mirror /kv/copy; return 204; }
        location = /mirrored { mirror /copy; proxy_pass
                               http://127.0.0.1:%%port%%/kv/first; }
        location = /copy { internal; rewrite ^ /kv/copy; }
        location /missing/ { error_page 404 /kv/page; return 404; }
        location /asked/ { kv main; ' . ($built =~ /auth_request/
                                         ? 'auth_request /kv/token;' : '')
                                      . '}
        location = /page.html { ssi on; ssi_types text/plain; root %%dir%%; }');
$s->start;

my $TAG = qr/^"[0-9a-f]+-[0-9a-f]+"$/;
my $LARGE = 100_000;

sub tag { $_[0]{headers}{etag} // 'none' }
sub tag_of { my ($key) = @_; tag($s->get($key)) }

# The status and the tag of an answer.

sub said {
    my ($method, $path, %o) = @_;
    my $r = $s->http($method, $path, %o);
    return "$r->{status} " . tag($r);
}

sub filled { my ($c, $len) = @_; return $c x $len }


# every answer about a value has its tag, and no other

for my $len (10, $LARGE) {
    my $key = "tag$len";
    my $r = $s->put($key, filled('a', $len));
    my $tag = tag($r);

    like($tag, $TAG, "$len: PUT");
    is($r->{status}, 200, "$len: PUT: status");
    is(said(GET => "/kv/$key"), "200 $tag", "$len: GET");
    is(said(HEAD => "/kv/$key"), "200 $tag", "$len: HEAD");
    is(said(GET => "/kv/$key", headers => [ 'Range: bytes=1-2' ]), "206 $tag",
       "$len: a range");
    is(said(GET => "/kv/$key", headers => [ "Range: bytes=$len-" ]),
       "416 $tag", "$len: no such range");
    is(scalar(grep { tag_of($key) eq $tag } 1 .. 20), 20,
       "$len: every worker says so");

    my $same = tag($s->put($key, filled('a', $len)));
    like($same, $TAG, "$len: the same again");
    isnt($same, $tag, "$len: is another version");
    is(tag_of($key), $same, "$len: which it has");
    is(tag($s->put("$key-chunked", undef, chunks => [ filled('a', $len) ])),
       tag_of("$key-chunked"), "$len: chunked");
}

is(said(GET => '/kv/none'), '404 none', 'no value');
is(said(DELETE => '/kv/tag10'), '200 none', 'DELETE');
is(said(PUT => '/kv/tag10', body => ''), '400 none', 'an empty value');
is(said(POST => '/kv/tag10', headers => [ 'If-Match: *' ]), '405 none',
   'another method');
is(said(GET => '/health'), '200 none', '/health');
is(said(DELETE => '/clear'), '200 none', '/clear');


# reads

for my $len (10, $LARGE) {
    my $key = "read$len";
    my $tag = tag($s->put($key, filled('a', $len)));

    for my $method (qw(GET HEAD)) {
        my $now = sub { said($method => "/kv/$key", headers => [ @_ ]) };
        my $name = "$len: $method";

        for my $list ('*', $tag, "W/$tag", "\"x\", $tag", "$tag,\"x\"",
                      "\"a,b\" ,, W/$tag")
        {
            is($now->("If-None-Match: $list"), "304 $tag",
               "$name: If-None-Match: $list");
            is($now->("If-Match: $list"), "200 $tag",
               "$name: If-Match: $list");
        }

        for my $list ('"x"', 'W/"x"', '""', $tag =~ s/-/0-/r,
                      $tag =~ s/"/"0/r, $tag =~ s/-/-0/r . ',"x"')
        {
            is($now->("If-None-Match: $list"), "200 $tag",
               "$name: If-None-Match: $list");
            is($now->("If-Match: $list"), "412 $tag",
               "$name: If-Match: $list");
        }

        is($now->("If-Match: $tag", "If-None-Match: $tag"), "304 $tag",
           "$name: both, and both name it");
        is($now->('If-Match: "x"', "If-None-Match: $tag"), "412 $tag",
           "$name: If-Match comes first");
        is($now->('Range: bytes=1-2', "If-None-Match: $tag"), "304 $tag",
           "$name: before a range");
        is($now->('Range: bytes=1-2', 'If-Match: "x"'), "412 $tag",
           "$name: 412 before a range");

        for (qw(2000 2035)) {
            is($now->("If-Modified-Since: Sat, 01 Jan $_ 00:00:00 GMT",
                      "If-Unmodified-Since: Sat, 01 Jan $_ 00:00:00 GMT"),
               "200 $tag", "$name: dates, $_");
        }
    }

    is(said(GET => "/kv/$key", headers => [ 'Range: bytes=1-2',
                                            "If-Range: $tag" ]),
       "206 $tag", "$len: If-Range");
    is(said(GET => "/kv/$key", headers => [ 'Range: bytes=1-2',
                                            'If-Range: "x"' ]),
       "200 $tag", "$len: If-Range, another version");

    my $r = $s->get($key, headers => [ "If-None-Match: $tag" ]);
    is($r->{body}, '', "$len: 304 has no body");
    is($r->{headers}{'content-length'}, undef, "$len: nor a length");
    is($r->{headers}{'cache-control'}, 'no-cache', "$len: for caches");

    $r = $s->get($key, headers => [ 'If-Match: "x"' ]);
    is("$r->{body}$r->{headers}{'content-type'}",
       "precondition failed\ntext/plain", "$len: the words of 412");
}

for my $method (qw(GET HEAD)) {
    for ('If-None-Match: *', 'If-Match: *', 'If-Match: "x"') {
        is(said($method => '/kv/none', headers => [ $_ ]), '404 none',
           "$method of nothing, $_");
    }
}


# writes: what is done, and what is not

sub wrote {
    my ($method, $key, $body, @headers) = @_;
    my $r = $s->http($method => "/kv/$key", headers => [ @headers ],
                     ref $body ? (chunks => $body) : (body => $body));
    return $r->{status};
}

for my $len (10, $LARGE) {
    for my $how ('whole', 'chunked', 'DELETE') {
        my $name = "$len, $how";
        my ($method, $body) = $how eq 'DELETE' ? ('DELETE', undef)
            : (PUT => $how eq 'whole' ? filled('n', $len)
                                      : [ filled('n', $len - 1), 'n' ]);
        my $old = filled('o', $len);
        my ($first, $tag);

        my $anew = sub {
            $first = tag($s->put('w', 'first'));
            $tag = tag($s->put('w', $old));
        };

        # true

        for ('If-Match: *', 'If-Match: TAG', 'If-Match: W/TAG',
             'If-Match: "x", TAG', 'If-Match: FIRST, TAG',
             'If-None-Match: "x"', 'If-None-Match: FIRST, "x"',
             'If-Unmodified-Since: Sat, 01 Jan 2000 00:00:00 GMT',
             'If-Modified-Since: Sat, 01 Jan 2035 00:00:00 GMT')
        {
            $anew->();
            my $header = s/TAG/$tag/r =~ s/FIRST/$first/r;
            my $r = $s->http($method => '/kv/w', headers => [ $header ],
                             ref $body ? (chunks => $body) : (body => $body));
            my $now = $s->get('w');

            is($r->{status}, 200, "$name, $_");

            if ($method eq 'PUT') {
                is(tag($r), tag($now), "$name, $_: the new version");
                isnt(tag($r), $tag, "$name, $_: is new");
                ok($now->{body} eq filled('n', $len), "$name, $_: and there");
            } else {
                is($now->{status}, 404, "$name, $_: gone");
            }
        }

        # false

        $anew->();

        for ('If-Match: "x"', "If-Match: $first", "If-None-Match: $tag",
             'If-None-Match: *', "If-None-Match: \"x\", W/$tag",
             "If-Match: $first, W/\"x\"")
        {
            my $r = $s->http($method => '/kv/w', headers => [ $_ ],
                             ref $body ? (chunks => $body) : (body => $body));
            is("$r->{status} $r->{body}" . tag($r),
               "412 precondition failed\n$tag", "$name, $_");
            is($r->{headers}{'content-type'}, 'text/plain', "$name, $_: text");
        }

        is(wrote($method, 'w', $body, "If-Match: $tag", 'If-None-Match: *'),
           412, "$name: never true");
        ok($s->get('w')->{body} eq $old, "$name: nothing has changed");
        is(tag_of('w'), $tag, "$name: nor the version");

        # without a value

        $s->del('w');

        for ('If-Match: *', "If-Match: $tag", 'If-Match: "x"') {
            my $r = $s->http($method => '/kv/w', headers => [ $_ ],
                             ref $body ? (chunks => $body) : (body => $body));
            is("$r->{status} " . tag($r), '412 none', "$name: no value, $_");
            is($s->get('w')->{status}, 404, "$name: no value after it");
        }

        for ('If-None-Match: *', 'If-None-Match: "x"', "If-None-Match: $tag") {
            is(wrote($method, 'w', $body, $_), 200, "$name: no value, $_");
            $s->del('w');
        }
    }
}


# what is no list of tags

my $tag = tag($s->put('m', 'old'));

for my $method (qw(GET HEAD PUT DELETE)) {
    for my $name ('If-Match', 'If-None-Match') {
        for ('x', '', ',', '"x', 'x"', '"x" "y"', 'W/x', '*, "x"', '"a b"',
             "$tag, x")
        {
            my $r = $s->http($method => '/kv/m', headers => [ "$name: $_" ],
                             $method eq 'PUT' ? (body => 'new') : ());
            is("$r->{status} $r->{body}",
               '400 ' . ($method eq 'HEAD' ? '' : 'If-Match and If-None-Match '
                         . "take * or a list of quoted tags\n"),
               "$method, $name: $_");
        }
    }
}

is($s->get('m')->{body}, 'old', 'changed nothing');
is(said(PUT => '/kv/m', body => 'x', headers => [ "If-Match: $tag",
                                                  "If-Match: $tag" ]),
   '400 none', 'two headers of a name');
is($s->http(DELETE => '/clear', headers => [ $_ ])->{body},
   "a clear cannot be conditional\n", "/clear, $_")
    for 'If-Match: *', 'If-None-Match: "x"';
is($s->get('m')->{body}, 'old', 'is not done');


# when it is decided: before the body comes, and again when it is there

{
    my $c = $s->connect;
    my $head = "PUT /kv/m HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n";

    $c->send($head . "Expect: 100-continue\r\nIf-Match: \"x\"\r\n\r\n");
    is($c->response('PUT')->{status}, 412, 'without the body');

    $c = $s->connect;
    $c->send($head . "If-None-Match: *\r\n\r\n");
    is($c->response('PUT')->{status}, 412, 'before the body');
    $c->send('x' x 100_000 . "GET /kv/m HTTP/1.1\r\nHost: x\r\n\r\n");
    is($c->response('GET')->{body}, 'old', 'which is thrown away');

    for my $len (100, 100_000) {
        for ([ "If-Match: $tag", 'changed' ], [ 'If-Match: *', undef ],
             [ 'If-None-Match: *', 'created' ])
        {
            my ($header, $other) = @$_;

            if ($header =~ /None/) {
                $s->del('m');
            } else {
                $tag = tag($s->put('m', 'old'));
                $header =~ s/".*"/$tag/;
            }

            $c = $s->connect;
            $c->send("PUT /kv/m HTTP/1.1\r\nHost: x\r\n$header\r\n"
                     . "Content-Length: $len\r\n\r\n" . 'n' x ($len - 1));
            $s->has_read;
            defined $other ? $s->put('m', $other) : $s->del('m');
            $c->send('n');

            my $r = $c->response('PUT');
            is($r->{status}, 412, "$len, $header: changed meanwhile");
            is(tag($r), tag_of('m'), "$len, $header: by that version");
            is($s->get('m')->{body} , $other // "key not found\n",
               "$len, $header: which stays");
        }
    }
}


# what nginx's filters make of them

{
    my @zip = ('Accept-Encoding: gzip');
    my $strong = tag($s->put('z', 'one ' x 1000));
    my $r = $s->http(GET => '/gzip/z', headers => \@zip);

    is($r->{headers}{'content-encoding'}, 'gzip', 'gzip');
    is(tag($r), "W/$strong", 'makes the tag weak');
    is($s->http(GET => '/gzip/z', headers => [ @zip,
                "If-None-Match: W/$strong" ])->{status}, 304, 'it names it');
    is(said(PUT => '/gzip/z', body => 'new',
            headers => [ @zip, "If-Match: W/$strong" ]),
       '200 ' . tag_of('z'), 'also in a write');
    is($s->http(PUT => '/gzip/z', body => 'x', headers => [ @zip,
                "If-Match: W/$strong" ])->{status}, 412, 'that comes late');

    $s->put('z', 'one');
    $r = $s->http(GET => '/sub/z');
    is("$r->{body} " . tag($r), 'two none',
       'sub_filter, which makes another value of it, takes the tag away');
}

$s->put('page', 'a page');

for ('If-None-Match: *', 'If-Match: "x"', 'If-Match: malformed') {
    my $r = $s->http(GET => '/missing/x', headers => [ $_ ]);
    is("$r->{status} $r->{body}", '404 a page', "a value as an error page, $_");
}

if ($built =~ /auth_request/) {
    $s->put('token', 'x');
    $tag = tag($s->put('asked', 'x'));
    is(said(GET => '/asked/asked', headers => [ "If-Match: $tag" ]),
       "200 $tag", 'auth_request asks without conditions');
    is(said(GET => '/asked/asked', headers => [ 'If-Match: malformed' ]),
       '400 none', 'also without malformed ones');
}

SKIP: {
    skip('no SSI', 2) if !@ssi;

    write_file("$s->{dir}/page.html",
                         '[<!--#include virtual="/kv/asked" -->]');
    $s->put('asked', 'value');

    for ('If-Match: *', 'If-Match: "x"', 'If-None-Match: malformed') {
        my $r = $s->http(GET => '/page.html', headers => [ $_ ]);
        is($r->{body}, '[value]', "nor does a page that includes a value, $_")
            if $r->{status} == 200;
    }
}

$s->del($_) for qw(first copy);
is($s->http(PUT => '/mirrored', body => 'one',
            headers => [ 'If-None-Match: *' ])->{status}, 200, 'mirrored');
ok(wait_for(sub { $s->get('copy')->{body} eq 'one' }, 30), 'the copy is there');
my $copy = tag_of('copy');
$s->del('first');
is($s->http(PUT => '/mirrored', body => 'two',
            headers => [ 'If-None-Match: *' ])->{status}, 200, 'again');
$s->has_read;
is($s->get('copy')->{body}, 'one', 'the copy has conditions as well');
is(tag_of('copy'), $copy, 'and keeps its version');


# HTTP/2: a client that is still sending may miss an early answer

SKIP: {
    skip('no curl with HTTP/2', 2) if qx(curl --version 2>&1) !~ /\bHTTP2\b/;

    $s->put('h2', 'old');

    for my $len (100, 60_000) {
        write_file("$s->{dir}/value", 'n' x $len);
        my @said = map {
            qx(curl -s --http2-prior-knowledge -m 60 -o /dev/null \\
                    -w '%{http_code}' -T $s->{dir}/value \\
                    -H 'If-None-Match: *' http://127.0.0.1:$s->{h2}/kv/h2)
        } 1 .. 20;
        is("@said", join(' ', (412) x 20), "HTTP/2: $len bytes");
    }
}


# a cache that asks whether it has changed

{
    my $cached = sub {
        my $r = $s->http(GET => '/kv/cached', port => $s->{cache});
        return "$r->{status} $r->{body} $r->{headers}{'x-cache'}";
    };

    $s->put('cached', 'one');
    is($cached->(), '200 one MISS', 'a cache fetches');
    ok(wait_for(sub { $cached->() eq '200 one REVALIDATED' }, 30),
       'and learns later that it has not changed');
    $s->put('cached', 'two');
    ok(wait_for(sub { $cached->() =~ /^200 two / }, 30), 'or that it has');
}


$s->done;


# what is true for many while a sync lasts is done for one

$s = KV::Test->new(fault => 1);
$s->start;
$tag = tag($s->put('race', 'old'));

for ([ 'PUT', 'race', "If-Match: $tag" ], [ 'PUT', 'new', 'If-None-Match: *' ],
     [ 'DELETE', 'new', 'If-Match: *' ])
{
    my ($method, $key, $header) = @$_;
    my $name = "20 x $method, $header";

    $s->fault(hold => 1);
    my $first = $s->written(PUT => '/kv/first', body => 'x');

    my @c = map { my $c = $s->connect;
                  $c->send(KV::Conn::request($method => "/kv/$key",
                           headers => [ $header ],
                           $method eq 'PUT' ? (body => "by $_") : ()));
                  $c } 1 .. 20;
    $s->has_read;
    ok($_->silent(0), "$name: it waits") for @c;
    $s->fault(hold => undef);

    my @r = map { $_->response($method) } @c;
    my ($winner) = grep { $r[$_]{status} == 200 } 0 .. 19;
    my $now = $s->get($key);

    is(join(' ', sort map { $_->{status} } @r), "200@{[ ' 412' x 19 ]}",
       "$name: one wins");

    if ($method eq 'PUT') {
        is($now->{body}, 'by ' . ($winner + 1), "$name: that is its value");
        is(scalar(grep { tag($_) eq tag($now) } @r), 20,
           "$name: and all say its version");
    } else {
        is($now->{status}, 404, "$name: it is gone");
        is(scalar(grep { tag($_) eq 'none' } @r), 20, "$name: as all say");
    }
}

# the server's ends

$s->done;
$s = KV::Test->new;
$s->start;

{
    my $count = sub { my ($status) = @_;
                      $s->stats->{routes}{kv}{PUT}{status}{$status} // 0 };
    my $before = $count->(412);
    $s->put('end', 'x', headers => [ 'If-Match: "x"' ]);
    ok(wait_for(sub { $count->(412) > $before }, 10), '/stats counts them');
    is($count->(412), $before + 1, 'once');

    my $value = sub { my $r = $s->get('end'); "$r->{body} " . tag($r) };
    my $tag = tag($s->put('end', 'x'));

    $s->reload;
    is($value->(), "x $tag", 'a reload: the same version');
    $s->stop;
    $s->start;
    is($value->(), "x $tag", 'a restart: the same');
    is(said(PUT => '/kv/end', body => 'y', headers => [ "If-Match: $tag" ]),
       '200 ' . tag_of('end'), 'which a write may name');

    system('cp', '-a', $s->{path}, "$s->{dir}/older") == 0 or die;
    my $older = tag_of('end');
    my $newer = tag($s->put('end', 'newer'));
    isnt($newer, $older, 'another write');

    $s->stop('KILL');
    $s->start;
    is($s->get('end')->{body}, 'newer', 'killed: the value is there');
    is(said(PUT => '/kv/end', body => 'z', headers => [ "If-Match: $newer" ]),
       '412 ' . tag_of('end'), 'under another version');

    # an older copy is restored: what was written since is written again

    $s->stop;
    rename($s->{path}, "$s->{dir}/lost") or die;
    rename("$s->{dir}/older", $s->{path}) or die;
    $s->start;
    $s->put('other', 'takes the LSN');
    my %seen = map { $_ => 1 } $tag, $older, $newer;
    ok(!$seen{tag_of('end')}, 'restored: it has a version of its own');
    ok(!$seen{tag($s->put('end', 'again'))}, 'and so has the next');
    is(said(PUT => '/kv/end', body => 'z', headers => [ "If-Match: $newer" ]),
       '412 ' . tag_of('end'), 'a version that is lost names nothing');
}

$s->done;
done_testing();
