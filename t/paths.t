# From the path to the key, where nginx changes the path: it merges slashes,
# resolves dot segments, and does what its configuration tells it to.

use strict;
use warnings;

use Test::More;

use KV::Frames;
use KV::Test;
use KV::Util qw(free_port);

my $s = KV::Test->new(off => free_port(), h2 => free_port(),
                      server => <<'END', servers => <<'END2');
    root %%dir%%;

    location /cut/ { rewrite ^/cut/(.*)$ /$1 break; kv main; }
    location /short/ { rewrite ^ /s break; kv main; }
    location /map/ { rewrite ^/map/user[-2](.*)$ /map/$1 break; kv main; }
    location /if/ { if ($arg_x) { rewrite ^/if/(.*)$ /$1 break; } kv main; }
    location /whole/ { rewrite ^ /w$uri break; kv main; }
    location /try/ { try_files /file =404; kv main; }
    location /last/ { rewrite ^/last/(.*)$ /kv/$1 last; }
    location /page/ { error_page 404 = /kv/y; return 404; }
    location /page200/ { error_page 404 =200 /kv/y; return 404; }
    location /none200/ { error_page 404 =200 /kv/none; return 404; }
    location /none403/ { error_page 403 /kv/none; return 403; }
    location /nest/ {
        kv main;
        location /nest/deep/ { kv main; }
        location ^~ /nest/first/ { kv main; limit_except GET { deny all; } }
    }
END
    server {
        listen 127.0.0.1:%%off%%;
        merge_slashes off;
        location /kv/ { kv main; }
    }
    server {
        listen 127.0.0.1:%%h2%% http2;
        location /kv/ { kv main; }
    }
END2
write_file("$s->{dir}/file", 'file');
$s->{servers} =~ s/ http2//
    if qx(@{[ $s->nginx ]} -V 2>&1) !~ /http_v2_module/;
$s->start;

my $INVALID = "key contains invalid characters\n";


sub answer {
    my ($r, $status, $body, $name) = @_;
    return is_deeply([ @$r{qw(status body)}, $r->{headers}{'content-type'} ],
                     [ $status, $body, 'text/plain' ], $name);
}


# ---- empty segments: none anywhere, as the client sent it, once decoded

$s->put('a', 'of a');
$s->put('y', 'of y');

my @EMPTY = ('/kv//a', '/kv///a', '/kv//./a', '/kv/.//a', '/kv//b/../a',
             '/kv/b//../a', '/kv//../kv/a', '/kv/b/..//a', '/kv//%2e/a',
             '/kv//%2E%2e/kv/a', '/kv/%2Fa', '/kv%2F%2fa', '/kv%2F/a',
             '/kv/%2e%2F/a', '/x/..//kv/a', '//kv/a', '/%2fkv/a', '/x//../kv/a',
             '/./%2F./kv/a', '/kv/../kv//a', '/kv//', '/kv//.', '/kv//..//kv/a',
             '//kv/a?b', '/kv//a#b', '/%6bv//a', '/kv//a?//', '/kv/%61//../a');

for my $path (@EMPTY, map { "http://localhost$_" } @EMPTY) {
    answer($s->http(GET => $path), 400, $INVALID, "GET $path");
}
answer($s->http(PUT => $_, body => 'x'), 400, $INVALID, "PUT $_") for @EMPTY;

for my $path ('/kv/a', '/kv/./a', '/kv/b/../a', '/x/../kv/a', '/kv/../kv/a',
              '/kv/%2e/a', '/kv%2Fa', '/kv/a?//', '/kv/a?b//c', '/kv/%61?/..//',
              '/kv/a#//', '/kv/./%2e%2E/kv/a')
{
    answer($s->http(GET => $path), 200, 'of a', "GET $path is a");
    answer($s->http(GET => "http://localhost$path"), 200, 'of a',
           "GET http://localhost$path is a");
}

# where nginx does not merge them, what reaches the module is refused as well,
# and nothing becomes "a"

for my $path (@EMPTY) {
    my $r = $s->http(GET => $path, port => $s->{off});
    ok($r->{status} == 404 && $r->{headers}{'content-type'} eq 'text/html'
       || $r->{status} == 400, "merge_slashes off: GET $path")
        or diag("$r->{status} $r->{body}");
}
is($s->http(GET => '/kv/b/../a', port => $s->{off})->{body}, 'of a',
   'merge_slashes off: dot segments');

SKIP: {
    skip('this nginx does not speak HTTP/2', 1) if $s->{servers} !~ /http2/;

    my $h = KV::Frames->new(port => $s->{h2});
    my ($id, %st) = (1);

    for my $path (@EMPTY) {
        $h->request($id, GET => $path);
        $h->read_until(sub {
            my ($f) = @_;
            $st{$path} = KV::Frames::status($f->{payload})
                if $f->{type} == KV::Frames::HEADERS;
            return $f->{stream} == $id && $f->{flags} & KV::Frames::END_STREAM;
        });
        $id += 2;
    }
    is(join(' ', grep { ($st{$_} // 0) != 400 } @EMPTY), '',
       'the same over HTTP/2');
}


# ---- what was rewritten: a key only behind the location's name

my ($asked, $began) = (0, time);

for my $path ('/cut/user-alice', '/cut/user2alice', '/cut/a', '/cut/',
              '/short/a', '/if/user-alice?x=1', '/try/a', '/whole/a%0Aforged')
{
    for my $method (qw(GET PUT DELETE POST)) {
        my $r = $s->http($method => $path,
                         $method eq 'PUT' ? (body => 'x') : ());
        answer($r, 500, "internal server error\n", "$method $path");
        $asked++;
    }
}
my $lines = () = $s->log =~ /\[error\] .* there is no key in it/g;
cmp_ok($lines, '>', 0, 'and a line in the error log');
cmp_ok($lines, '<=', $s->{workers} * (2 + time - $began),
       "not one for each of $asked: a worker writes one a second");
like($s->log, qr{changed to "/user-alice", which does not begin with "/cut/"},
     'which names both');
ok(wait_for(sub {
    $s->http(GET => '/whole/a%0Aforged');
    $s->log =~ m{changed to "/w/whole/a\?forged"};
}, 10), 'and nothing that breaks its line');
unlike($s->log, qr/^forged/m, 'at no time');
is($s->store->{keys}, 2, 'no key was made of it');

# what keeps the name is fine

$s->http(PUT => '/map/user-bob', body => 'mapped');
answer($s->get('bob'), 200, 'mapped', 'a rewrite that keeps the name');
answer($s->http(GET => '/map/user2bob'), 200, 'mapped', 'as it was told to');
answer($s->http(GET => '/map/other'), 404, "key not found\n", 'not rewritten');

$s->http(PUT => '/if/c', body => 'if');
answer($s->get('c'), 200, 'if', 'an "if" that is false');
answer($s->http(GET => '/last/y'), 200, 'of y', 'rewrite ... last');
answer($s->http(GET => '/last/a/b'), 400, $INVALID, 'and its checks');
answer($s->http(GET => '/page/x'), 200, 'of y', 'error_page');
answer($s->http(GET => '/page200/x'), 200, 'of y', 'error_page =200');
answer($s->http(GET => '/none200/x'), 404, "key not found\n",
       'error_page =200 of a key that is missing');
answer($s->http(GET => '/none403/x'), 404, "key not found\n",
       'error_page of a key that is missing');

for my $where (qw(/nest/ /nest/deep/ /nest/first/)) {
    answer($s->http(GET => "${where}a"), 200, 'of a', "GET ${where}a");
    answer($s->http(GET => "${where}a/b"), 400, $INVALID, "GET ${where}a/b");
}
answer($s->http(GET => '/nest/../nest/deep/a'), 200, 'of a', 'dots before it');

$s->done;
done_testing();
