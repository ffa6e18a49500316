# What caches are told: a value may be another the next moment, so no cache
# keeps an answer unless the location says so.  Then the same with a real one.

use strict;
use warnings;

use Test::More;

use KV::Test;
use KV::Util qw(free_port);

my $s = KV::Test->new(
    cache => free_port(), kv => 'max_value=1m',
    http => 'proxy_cache_path %%dir%%/cache keys_zone=c:1m;',
    server => <<'END', servers => <<'END2');
    location /expires/ { kv main; expires 60s; }
    location /epoch/ { kv main; expires epoch; }
    location /off/ { kv main; expires off; }
    location /add/ { kv main; add_header Cache-Control max-age=5; }
    location /always/ { kv main; add_header Cache-Control no-store always;
                        add_header X-Once 1 always; }
    location /empty/ { kv main; add_header Cache-Control $arg_none always; }
    location /both/ { kv main; expires 7s; add_header Cache-Control public; }
    location /denied/ { kv main; deny all; }
    location /limited/ { kv main; limit_except GET { deny all; } }
    location /if/ { if ($request_method = OPTIONS) { return 204; } kv main; }
    location /slow/ {
        kv main; expires 60s; error_page 404 = /other; return 404;
    }
    location /other { return 200 other; }
END
    server {
        listen 127.0.0.1:%%cache%%;
        proxy_cache c;
        proxy_cache_valid any 10m;
        proxy_set_header Connection '';
        proxy_http_version 1.1;
        add_header X-Cache $upstream_cache_status always;
        location / { proxy_pass http://127.0.0.1:%%port%%; }
    }
END2
$s->start;


# The status, and what is said to caches: all of it.

sub said {
    my ($method, $path, %o) = @_;
    my $r = $s->http($method, $path, %o);
    return "$r->{status} " . ($r->{headers}{'cache-control'} // 'nothing');
}


is(said(PUT => '/kv/a', body => 'one'), '200 no-cache', 'PUT');
is(said(GET => '/kv/a'), '200 no-cache', 'GET');
is(said(HEAD => '/kv/a'), '200 no-cache', 'HEAD');
is(said(GET => '/kv/a', headers => [ 'Range: bytes=0-0' ]), '206 no-cache',
   'a range');
is(said(GET => '/kv/a', headers => [ 'Range: bytes=9-' ]), '416 no-cache',
   'a range that is not there');
is(said(GET => '/kv/none'), '404 no-cache', 'no such key');
is(said(HEAD => '/kv/none'), '404 no-cache', 'HEAD, no such key');
is(said(DELETE => '/kv/none'), '200 no-cache', 'DELETE');
is(said(GET => '/kv/'), '400 no-cache', 'an empty key');
is(said(GET => '/kv/a+b'), '400 no-cache', 'a bad key');
is(said(GET => '/kv/' . 'k' x 20_000), '414 nothing', "nginx's own answer");
is(said(POST => '/kv/a'), '405 no-cache', 'another method');
is(said(PUT => '/kv/a', body => ''), '400 no-cache', 'PUT of nothing');
is(said(PUT => '/kv/a', body => 'x' x (1 << 20) . 'y'), '413 no-cache',
   'too large');
is(said(PUT => '/kv/a', chunks => [ 'x' x (1 << 20) . 'y' ]), '413 no-cache',
   'too large, chunked');
is(said(PUT => '/kv/a', body => 'x', headers => [ 'If-Match: "a"' ]),
   '412 no-cache', 'a condition');
is(said(GET => $_), '200 no-cache', $_) for qw(/health /stats);
is(said(DELETE => '/clear'), '200 no-cache', '/clear');
is(said(GET => '/clear'), '405 no-cache', 'GET /clear');

# large: sent from the zone

$s->put('large', 'x' x 1_000_000);
is(said(GET => '/kv/large'), '200 no-cache', 'a large value');


# what the location says

$s->put('a', 'one');
is(said(GET => '/expires/a'), '200 max-age=60', 'expires');
is(said(GET => '/expires/none'), '404 no-cache', 'not for errors');
is(said(GET => '/epoch/a'), '200 no-cache', 'expires epoch');
is(said(GET => '/off/a'), '200 no-cache', 'expires off');
is(said(GET => '/add/a'), '200 max-age=5', 'add_header');
is(said(GET => '/add/none'), '404 no-cache', 'not for errors');
is(said(GET => '/always/a'), '200 no-store', 'add_header ... always');
is(said(GET => '/always/none'), '404 no-store', 'for errors, too');
is(said(GET => '/always/a', headers => [ 'Range: bytes=9-' ]), '416 no-store',
   'and once, for a range that is not there');
is($s->http(GET => '/always/a', headers => [ 'Range: bytes=9-' ])->{headers}
   {'x-once'}, 1, 'as other headers are');
is(said(GET => '/expires/a', headers => [ 'Range: bytes=9-' ]), '416 no-cache',
   'expires, for a range that is not there');
is(said(GET => '/empty/a'), '200 no-cache', 'add_header of nothing');
is(said(GET => '/both/a'), '200 max-age=7, public', 'both, as nginx does it');


# what nginx itself answers in such a location; what it answers elsewhere

is(said(GET => '/denied/a'), '403 no-cache', 'denied');
is(said(PUT => '/limited/a', body => 'x'), '403 no-cache', 'limit_except');
is(said(GET => '/limited/a'), '200 no-cache', 'its other methods');
is(said(OPTIONS => '/if/a'), '204 no-cache', 'an answer of "return"');
is(said(GET => '/if/a'), '200 no-cache', 'beside it');
is(said(GET => '/slow/a'), '200 nothing', 'another location');
is(said(GET => '/other'), '200 nothing', 'which may be cached');


# a cache in front

sub cached {
    my ($method, $path, @o) = @_;
    my $r = $s->http($method, $path, @o, port => $s->{cache});
    return "$r->{status} $r->{body}";
}

is(cached(GET => '/other'), '200 other', 'the cache fetches');
is($s->http(GET => '/other', port => $s->{cache})->{headers}{'x-cache'}, 'HIT',
   'and keeps');

is(cached(GET => '/kv/c'), "404 key not found\n", 'cached: not there');
is(cached(PUT => '/kv/c', body => 'one'), '200 ', 'cached: PUT');
is(cached(GET => '/kv/c'), '200 one', 'cached: there');
is(cached(HEAD => '/kv/c'), '200 ', 'cached: HEAD');
is(cached(PUT => '/kv/c', body => 'another'), '200 ', 'cached: PUT over it');
is(cached(GET => '/kv/c'), '200 another', 'cached: the new value');
is(cached(DELETE => '/kv/c'), '200 ', 'cached: DELETE');
is(cached(GET => '/kv/c'), "404 key not found\n", 'cached: gone');
$s->put('c', 'direct');
is(cached(GET => '/kv/c'), '200 direct', 'cached: written past the cache');
$s->clear;
is(cached(GET => '/kv/c'), "404 key not found\n", 'cached: cleared');
is(cached(GET => '/health'), '200 ', 'cached: /health');
is($s->http(GET => '/health', port => $s->{cache})->{headers}{'x-cache'},
   'MISS', 'is asked for each time');

# and one that may

$s->put('c', 'one');
is(cached(GET => '/expires/c'), '200 one', 'expires: cached');
$s->put('c', 'another');
is(cached(GET => '/expires/c'), '200 one', 'expires: for its time');

$s->done;
done_testing();
