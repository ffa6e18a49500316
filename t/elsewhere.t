# A node that does not lead its cluster: who asks it for a key, or for anything
# else of the store, is sent to the leader, or told that there is none, before
# the body is read; and the connection goes on.

use strict;
use warnings;

use Test::More;

use KV::Stream;
use KV::Test;

# A file says what the node is, in builds for tests.

KV::Test::with_failpoints();

my $leader = KV::Test->new(zone => '8m', kv => 'segment=1m max_value=64k')
             ->start;
my $there = "127.0.0.1:$leader->{port}";

my $s = KV::Test->new(
    zone => '8m', h2 => free_port(), listen => free_port(),
    kv => "segment=1m max_value=64k list=on feed=64k
           cluster=127.0.0.1:%%port%% peers=$there\@1
           peer_listen=127.0.0.1:%%listen%%",
    http => 'kv_get flag $flag zone=main default=none;',
    server => 'location = /keys { kv_keys main; }
               location = /watch { kv_watch main; }
               location = /cluster/info { kv_cluster main; }
               location /api/kv/ { kv main; }
               location /old/ { rewrite ^/old/(.*)$ /kv/$1 last; }
               location = /bound { kv main key=bound; }
               location = /leader { return 200 "$kv_leader"; }
               location = /flag { return 200 "$flag"; }
               location = /page { ssi on; default_type text/html;
                   return 200 "[<!--#include virtual=\"/kv/a\" -->]"; }
               location /via/ {
                   kv main;
                   kv_intercept_errors on;
                   error_page 307 = @leader;
               }
               location @leader {
                   rewrite ^/via/(.*)$ /kv/$1 break;
                   proxy_pass http://$kv_leader;
               }',
    servers => 'server { listen 127.0.0.1:%%h2%% http2;
                         location /kv/ { kv main; } }');

$ENV{KV_FAILPOINT_DIR} = $s->{dir};

{
    my ($rc, $out) = $s->test_config;
    plan(skip_all => 'no libraft') if $out =~ /come with a later version/;
    is($rc, 0, 'a node') or diag($out);
}

my %ROLES = (follower => 0, candidate => 1, leader => 2);

# What the node is from now on.

sub node {
    my ($role, $leader) = @_;
    write_file("$s->{dir}/node.new", "$ROLES{$role} 7 " . ($leader // ''));
    rename("$s->{dir}/node.new", "$s->{dir}/node") or die;
}

sub location { return "http://$there$_[0]" }

# "status location" of an answer

sub answer {
    my ($r) = @_;
    return join ' ', $r->{status}, $r->{headers}{location} // ();
}

node('follower', $there);
$s->start;


# each route

my @requests = (
    [ GET => '/kv/a' ], [ HEAD => '/kv/a' ], [ DELETE => '/kv/a' ],
    [ PUT => '/kv/a', 'v' ], [ PUT => '/kv/a?ttl=5', 'v' ],
    [ POST => '/kv/a?incr=1' ], [ POST => '/kv/a?ttl=5' ],
    [ GET => '/kv/a?wait=60' ], [ GET => '/keys?prefix=a' ],
    [ HEAD => '/keys' ], [ DELETE => '/keys?prefix=a' ],
    [ POST => '/bulk', '{"key":"a","value":"v"}' ],
    [ POST => '/batch', '{"key":"a","value":"v"}' ], [ GET => '/watch' ],
    [ HEAD => '/watch' ], [ DELETE => '/clear' ], [ GET => '/backup' ],
    [ HEAD => '/backup' ], [ GET => '/bound' ]);

{
    my $c = $s->connect;
    for (@requests) {
        my ($method, $path, $body) = @$_;
        $c->send(KV::Conn::request($method, $path, body => $body));
        my $r = $c->response($method);
        is(answer($r), '307 ' . location($path), "$method $path");
        is("$r->{body} $r->{headers}{'content-length'} "
           . "$r->{headers}{'content-type'} $r->{headers}{'cache-control'}",
           ' 0 text/plain no-cache', 'an empty answer that is not kept');
    }

    for ([ GET => '/health', 200 ], [ GET => '/stats', 200 ],
         [ GET => '/metrics', 200 ], [ GET => '/cluster/info', 200 ],
         [ GET => '/kv/', 400 ], [ PUT => '/kv/a%20b', 400, 'v' ],
         [ GET => '/clear', 405 ], [ PATCH => '/kv/a', 405 ])
    {
        my ($method, $path, $status, $body) = @$_;
        $c->send(KV::Conn::request($method, $path, body => $body));
        is($c->response->{status}, $status, "the node itself: $method $path");
    }

    like($s->http(GET => '/cluster/info')->{body},
         qr/"role":"follower","term":7,"leader":"\Q$there\E",.*\["\Q$there\E"/,
         'it knows who leads');
}


# where to: the leader, and the path as it was sent, whatever else is sent

for ([ '/kv/a?x=1&y=%2F%0d%0aX:%20y' ], [ '/kv/%61' ], [ '/api/kv/a?x=1' ],
     [ '/old/a?ttl=1' ], [ '/x/../kv/./a' ], [ '/kv/a?' ],
     [ '/kv/a?//evil.example/@evil.example' ], [ '/kv/a#b' ],
     [ "/kv/a?\xc3\xa4\"<>\\^`{|}", '/kv/a?%C3%A4%22%3C%3E%5C%5E%60%7B%7C%7D' ],
     [ 'http://evil.example/kv/a?x', '/kv/a?x' ])
{
    my ($path, $to) = @$_;
    for my $host ('localhost', 'evil.example') {
        my $r = $s->http(GET => $path, headers => [ "Host: $host" ]);
        is(answer($r), '307 ' . location($to // $path), "$path of $host");
    }
}

for my $path ("/kv/a\x01", "/kv/a\rX", "/kv/a?\x7f", '/kv/a%0d%0aX:y') {
    is($s->http(GET => $path)->{status}, 400, 'no controls in a path');
}


# the body is not waited for, and what comes of it is no request

{
    my $put = "PUT /kv/a HTTP/1.1\r\nHost: x\r\n";
    my $get = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    my %bodies = (
        'a length' => [ "Content-Length: 65000\r\n\r\n", 'x' x 100,
                        'x' x 64_900 ],
        'much of it' => [ "Content-Length: 8000000\r\n\r\n", $get x 100,
                          'x' x (8_000_000 - 100 * length $get) ],
        'chunks' => [ "Transfer-Encoding: chunked\r\n\r\n", "5\r\nGET /",
                      "\r\n40\r\n" . 'x' x 64 . "\r\n0\r\n\r\n" ],
        'chunks that are requests' =>
            [ "Transfer-Encoding: chunked\r\n\r\n", '',
              KV::Conn::chunked(($get) x 50) ]);

    for (sort keys %bodies) {
        my ($head, $first, $rest) = @{$bodies{$_}};
        my $c = $s->connect;
        $c->send($put . $head . $first);
        my $r = $c->response('PUT');
        is(answer($r), '307 ' . location('/kv/a'), "$_: answered at once");
        is($r->{headers}{connection}, 'keep-alive', 'the connection is kept');
        $c->send($rest . $get . $put . "Content-Length: 1\r\n\r\nx");
        is($c->response->{status}, 200, 'and finds the next request');
        is($c->response->{status}, 307, 'and one more');
        ok($c->silent(0.05), 'and no other');
    }

    my $c = $s->connect;
    $c->send("${put}Content-Length: 3\r\n\r\nabc$get" x 20);
    is(join(' ', map { $c->response->{status} } 1 .. 40),
       join(' ', ('307 200') x 20), 'pipelined');

    for ("Content-Length: 70000\r\n", "Transfer-Encoding: chunked\r\n") {
        $c = $s->connect;
        $c->send("${put}${_}Expect: 100-continue\r\n\r\n");
        my $r = $c->response('PUT');
        is(answer($r), '307 ' . location('/kv/a'), 'no 100, but the answer');
        is($r->{headers}{connection}, 'close', 'and the connection ends');
        ok($c->closed(10), 'as it says');
    }

    $c = $s->connect;
    $c->send("${put}Transfer-Encoding: chunked\r\n\r\nnone\r\n$get");
    is($c->response->{status}, 307, 'chunks that are none');
    ok($c->closed(10), 'end the connection');
}


# clients that follow it: the value is at the leader

my $value = join '', map { "$_\n" } 1 .. 5_000;
write_file("$s->{dir}/value", $value);
my ($url, $h2) = map { "http://127.0.0.1:$_/kv" } @$s{qw(port h2)};

write_file("$s->{dir}/put.py", <<"END");
import requests
v = open("$s->{dir}/value", "rb").read()
assert requests.put("$url/requests", data=v).status_code == 200
END

write_file("$s->{dir}/put.js", <<"END");
const value = require("fs").readFileSync("$s->{dir}/value", "utf8");
fetch("$url/node", { method: "PUT", body: value })
    .then(r => process.exit(r.status == 200 ? 0 : 1));
END

for ([ 'curl', 'curl -V', "curl -sfL -T $s->{dir}/value $url/curl" ],
     [ 'requests', 'python3 -c "import requests"',
       "python3 $s->{dir}/put.py" ],
     [ 'node', 'node -e "fetch"', "node $s->{dir}/put.js" ])
{
    my ($name, $is_there, $command) = @$_;
    SKIP: {
        skip("no $name", 1) if system("($is_there) >/dev/null 2>&1");
        system("$command >$s->{dir}/client 2>&1");
        ok($leader->get($name)->{body} eq $value, "followed by $name")
            or diag(read_file("$s->{dir}/client"));
    }
}


SKIP: {
    skip('no curl with HTTP/2', 1) if qx(curl -V 2>&1) !~ /\bHTTP2\b/;
    my $put = "curl -s --http2-prior-knowledge -m 60 -T $s->{dir}/value "
              . "-w '%{http_code} %{redirect_url}' $h2/a";

    # Debian 12's curl may take the end of a stream that it sends for an error.

    ok(wait_for(sub { qx($put) eq '307 ' . location('/kv/a') }, 20), 'HTTP/2');
}


# parts of another answer, variables, and a proxy instead

is($s->http(GET => '/page')->{body}, "[store is unavailable\n]",
   'a subrequest is sent nowhere');
is($s->http(GET => '/leader')->{body}, $there, '$kv_leader');
is($s->http(GET => '/flag')->{body}, 'none', 'a variable of kv_get');
is($s->http(PUT => '/via/proxied', body => $value)->{status}, 200,
   'proxied to the leader');
ok($leader->get('proxied')->{body} eq $value, 'with its body');
ok($s->http(GET => '/via/proxied')->{body} eq $value, 'and back');


# no leader

for ([ 'follower' ], [ 'candidate' ], [ follower => "127.0.0.1:$s->{port}" ]) {
    node(@$_);
    my $c = $s->connect;
    my @bad;
    for my $request (@requests) {
        my ($method, $path, $body) = @$request;
        $c->send(KV::Conn::request($method, $path, body => $body));
        my $r = $c->response($method);
        push @bad, "$method $path" if answer($r) ne '503'
            || $r->{headers}{'retry-after'} ne '1'
            || ($method ne 'HEAD' && $r->{body} ne "store is unavailable\n");
    }
    is("@bad", '', "503: @$_");
    is($s->http(GET => '/health')->{status}, 200, 'and healthy');
}
is($s->http(GET => '/leader')->{body}, "127.0.0.1:$s->{port}",
   '$kv_leader is what is known');
node('candidate');
is($s->http(GET => '/leader')->{body}, '', 'or nothing');


# who waits for a change while another node becomes the leader

node('leader', "127.0.0.1:$s->{port}");
is($s->http(GET => '/kv/none')->{status}, 404, 'it leads');

my $waits = $s->connect;
$waits->send(KV::Conn::request(GET => '/kv/none?wait=1'));
my $watch = KV::Stream->new($s, path => '/watch?prefix=a');
is($watch->status, 200, 'a watch');
ok($s->has_read, 'both wait');
node('follower', $there);
is(answer($waits->response), '307 ' . location('/kv/none?wait=1'),
   'a read that waits is sent there');
isnt($watch->end, 'goes on', 'a watch ends');

$s->stop('TERM');
$leader->done;
done_testing();
