# The HTTP contract, row by row: exact words, types and order of checks.
# (503 and 507 need a broken or a full store: full.t.)

use strict;
use warnings;

use Test::More;

use KV::Test;

my $s = KV::Test->new(zone => '64m',
                      server => 'large_client_header_buffers 4 32k;');
$s->start;


# An answer with exactly this status and body, as plain text.

sub answer {
    my ($r, $status, $body, $name) = @_;
    is_deeply([ $r->{status}, $r->{body}, $r->{headers}{'content-type'} ],
              [ $status, $body, 'text/plain' ], $name);
    return $r;
}

sub allow {
    my ($r) = @_;
    return join ' ', sort split /\s*,\s*/, $r->{headers}{allow} // '(none)';
}

my $EMPTY = "key cannot be empty\n";
my $INVALID = "key contains invalid characters\n";
my $METHOD = "method not allowed\n";
my $NO_VALUE = "value cannot be empty\n";
my $TOO_LARGE = "value too large\n";
my $NOT_FOUND = "key not found\n";


# put, get, head, delete

answer($s->get('a'), 404, $NOT_FOUND, 'no such key');

my $r = answer($s->put('a', 'one'), 200, '', 'PUT');
is($r->{headers}{'content-length'}, 0, 'PUT says that its body is empty');

$r = answer($s->get('a'), 200, 'one', 'GET');
is($r->{headers}{'content-length'}, 3, 'GET gives the length');
is($r->{headers}{'x-content-type-options'}, 'nosniff', 'GET says nosniff');

$r = answer($s->http(HEAD => '/kv/a'), 200, '', 'HEAD');
is($r->{headers}{'content-length'}, 3, 'HEAD gives the length');
is($r->{headers}{'x-content-type-options'}, 'nosniff', 'HEAD says nosniff');

my $c = $s->connect;
$c->send("HEAD /kv/a HTTP/1.1\r\nHost: x\r\n\r\n"
         . "GET /kv/a HTTP/1.1\r\nHost: x\r\n\r\n");
is($c->response('HEAD')->{status}, 200, 'HEAD, then');
is($c->response('GET')->{body}, 'one', 'HEAD sent no body');

answer($s->put('a', 'another'), 200, '', 'PUT over it');
answer($s->get('a'), 200, 'another', 'the new value');
is(scalar(grep { $s->get('a')->{body} eq 'another' } 1 .. 30), 30,
   'every worker has it');

$r = answer($s->del('a'), 200, '', 'DELETE');
is($r->{headers}{'content-length'}, 0, 'DELETE says that its body is empty');
answer($s->get('a'), 404, $NOT_FOUND, 'gone');
$r = answer($s->http(HEAD => '/kv/a'), 404, '', 'HEAD of what is gone');
answer($s->del('a'), 200, '', 'DELETE of what is not there');
answer($s->del('never'), 200, '', 'DELETE of what never was there');


# clear

$s->put($_, $_) for qw(a b c);
$r = answer($s->clear, 200, '', 'DELETE /clear');
is($r->{headers}{'content-length'}, 0, '/clear says that its body is empty');
answer($s->get($_), 404, $NOT_FOUND, "$_ is gone") for qw(a b c);
is($s->store->{keys}, 0, 'no key is left');
answer($s->put('a', 'after'), 200, '', 'PUT after the clear');
answer($s->get('a'), 200, 'after', 'GET after the clear');
answer($s->clear, 200, '', 'DELETE /clear again');
answer($s->clear, 200, '', 'DELETE /clear of nothing');


# health, stats

is($s->http(GET => '/health')->{status}, 200, '/health');
is($s->http(GET => '/health')->{headers}{'content-type'}, 'text/plain',
   '/health is plain text');
is($s->http(HEAD => '/health')->{status}, 200, 'HEAD /health');

$r = $s->http(GET => '/stats');
is($r->{status}, 200, '/stats');
is($r->{headers}{'content-type'}, 'application/json', '/stats is JSON');
ok(eval { JSON::PP::decode_json($r->{body}) }, '/stats can be parsed');
is($s->http(HEAD => '/stats')->{status}, 200, 'HEAD /stats');


# methods

for my $method (qw(POST PATCH OPTIONS MKCOL PROPFIND LOCK FOO)) {
    $r = answer($s->http($method => '/kv/a'), 405, $METHOD, "$method /kv/a");
    is(allow($r), 'DELETE GET HEAD ' . ($method ne 'POST' && 'POST ') . 'PUT',
       "$method /kv/a: Allow");
    $r = answer($s->http($method => '/kv/a', body => 'x'), 405, $METHOD,
                "$method /kv/a with a body");
}

for my $method (qw(GET HEAD PUT POST PATCH FOO)) {
    $r = answer($s->http($method => '/clear'), 405,
                $method eq 'HEAD' ? '' : $METHOD, "$method /clear");
    is(allow($r), 'DELETE', "$method /clear: Allow");
}

for my $path (qw(/health /stats)) {
    for my $method (qw(PUT POST DELETE PATCH FOO)) {
        $r = answer($s->http($method => $path), 405, $METHOD,
                    "$method $path");
        is(allow($r), 'GET HEAD', "$method $path: Allow");
    }
}


# the order of checks

for my $method (qw(GET PUT DELETE POST PATCH FOO)) {
    answer($s->http($method => '/kv/'), 400, $EMPTY, "$method, empty key");
    answer($s->http($method => '/kv/a%20b'), 400, $INVALID,
           "$method, invalid key");
    answer($s->http($method => '/kv/', body => 'value'), 400, $EMPTY,
           "$method, empty key, with a body");
    answer($s->http($method => '/kv/a%20b', body => 'value'), 400, $INVALID,
           "$method, invalid key, with a body");
}

answer($s->http(HEAD => '/kv/'), 400, '', 'HEAD, empty key');
answer($s->http(POST => '/kv/a', body => ''), 405, $METHOD,
       'the method goes before the value');
answer($s->http(PUT => '/kv/', body => ''), 400, $EMPTY,
       'the key goes before the value');

my $large = 'Content-Length: ' . (10 * 1024 * 1024 + 1);

answer($s->http(PUT => '/kv/', headers => [ $large ]), 400, $EMPTY,
       'an empty key goes before too large a value');
answer($s->http(PUT => '/kv/~', headers => [ $large ]), 400, $INVALID,
       'an invalid key goes before too large a value');
answer($s->http(POST => '/kv/a', headers => [ $large ]), 405, $METHOD,
       'the method goes before too large a value');
answer($s->http(PUT => '/kv/a', headers => [ $large ]), 413, $TOO_LARGE,
       'too large a value, before its first byte');


# values

$s->put('v', 'old');
answer($s->put('v', ''), 400, $NO_VALUE, 'PUT of nothing');
answer($s->http(PUT => '/kv/v'), 400, $NO_VALUE, 'PUT without a body');
answer($s->http(PUT => '/kv/v', chunks => []), 400, $NO_VALUE,
       'PUT of nothing, chunked');
answer($s->get('v'), 200, 'old', 'the old value stays');

for my $value (join('', map { chr } 0 .. 255), "\0", "\0" x 1000, "\r\n\r\n",
               "HTTP/1.1 500 no\r\n\r\n", "0\r\n\r\n", " ", "\n",
               "\xc3\xbcml\xc3\xa4ut \xe2\x82\xac \xf0\x9f\x98\x80",
               "\xff\xfe\xfd", '<script>alert(1)</script>', '{"a": 1}')
{
    my $name = substr($value, 0, 20) =~ s/[^ -~]/./gr;
    answer($s->put('v', $value), 200, '', "PUT of '$name'");
    answer($s->get('v'), 200, $value, "GET of '$name'");
}

answer($s->put('v', "\x1f\x8bnothing", headers =>
               [ 'Content-Encoding: gzip', 'Content-Type: text/html' ]),
       200, '', 'PUT with headers about the value');
$r = answer($s->get('v'), 200, "\x1f\x8bnothing", 'nothing is altered');
is($r->{headers}{'content-encoding'}, undef, 'nor is the header kept');


# bodies where none belongs

$c = $s->connect;
$c->send(KV::Conn::request(GET => '/kv/v', body => 'ignored')
         . KV::Conn::request(DELETE => '/kv/v', body => 'x' x 100_000)
         . KV::Conn::request(GET => '/kv/v', chunks => [ 'a', 'b' ])
         . KV::Conn::request(DELETE => '/clear', body => 'ignored')
         . KV::Conn::request(POST => '/kv/v', body => 'refused')
         . KV::Conn::request(GET => '/health', body => 'ignored'));
answer($c->response, 200, "\x1f\x8bnothing", 'GET with a body');
answer($c->response, 200, '', 'DELETE with a body');
answer($c->response, 404, $NOT_FOUND, 'GET with a chunked body');
answer($c->response, 200, '', 'DELETE /clear with a body');
answer($c->response, 405, $METHOD, 'POST with a body');
is($c->response->{status}, 200, 'GET /health with a body');


# keys: what they may be made of

my $allowed = join '', 'A' .. 'Z', 'a' .. 'z', 0 .. 9, ':_.-';

answer($s->put($allowed, 'all'), 200, '', 'PUT with every character');
answer($s->get($allowed), 200, 'all', 'GET with every character');

for my $format ('%%%02x', '%%%02X') {
    my $encoded = join '', map { sprintf $format, ord } split //, $allowed;
    answer($s->get($encoded), 200, 'all', "the same as $format");
}

my @bad;
for my $char (split //, $allowed) {
    my $hex = sprintf '%%%02X', ord $char;
    push @bad, "PUT $hex" if $s->put("x$hex.", $char)->{status} != 200;
    push @bad, "GET $char" if $s->get("x$char.")->{body} ne $char;
}
is("@bad", '', 'each character, encoded or not, is the same');

@bad = ();
for my $code (1 .. 255) {
    next if index($allowed, chr $code) >= 0;
    for my $key (map { sprintf $_, $code } 'a%%%02x', '%%%02X', '%%%02xa') {
        $r = $s->put($key, 'x');
        push @bad, "$key: $r->{status} $r->{body}"
            unless $r->{status} == 400 && $r->{body} eq $INVALID;
    }
}
is("@bad", '', 'no other character is taken, encoded');

for my $key (split(//, q(~!$&'()*+,;=@|{}^`[]\\"<>)), 'a,b',
             "schl\xc3\xbcssel", "\xff", 'a%C3%BC', 'a%2Fb', 'a/b', 'a/',
             '/a', '%2Fa', 'a%2F', '/', '%2F', '//', '//a', 'a//b', '/a/',
             'y/.', 'a%25', 'a%2520', 'a%3Fb', 'a%23b', 'a%0Ab', 'a%7F')
{
    my $name = $key =~ s/[^!-~]/?/gr;
    answer($s->put($key, 'x'), 400, $INVALID, "PUT /kv/$name");
    answer($s->get($key), 400, $INVALID, "GET /kv/$name");
}
answer($s->get('a'), 404, $NOT_FOUND, 'none of these was key "a"');


# keys: paths

for my $path ('/kv/', '/kv/?', '/kv/?a=b', '/kv/.', '/kv/./', '/kv/x/..',
              '/kv/x/../', '/kv/%2E', '/kv/?/kv/a')
{
    answer($s->http(GET => $path), 400, $EMPTY, "GET $path");
}

answer($s->put('y', 'why'), 200, '', 'PUT of y');

for my $path ('/kv/x/../y', '/kv/./y', '/kv/x/%2e%2E/y', '/kv/../kv/y',
              '/x/../kv/y', '/kv/y?', '/kv/y?z', '/kv/y?/../x', '/kv/y?a=/b#c',
              '/kv/y?' . 'q' x 2000, '/%6bv/y', '/%6B%76/%79', '/k%76/x/../y',
              'http://localhost/kv/y', 'http://localhost/kv/x/../y?z')
{
    my $name = substr $path, 0, 30;
    answer($s->http(GET => $path), 200, 'why', "GET $name is y");
}

for my $key ('...', '..a', '.a', 'a.', 'a..', 'a..b', '-', '_', ':', '::',
             '0', 'kv', 'clear', 'health', 'Kv:User_1.a-B')
{
    answer($s->put($key, "value of $key"), 200, '', "PUT of key $key");
    answer($s->get($key), 200, "value of $key", "GET of key $key");
}

$s->put('Case', 'upper');
answer($s->get('case'), 404, $NOT_FOUND, 'keys are case-sensitive');

for my $len (1, 2, 7, 8, 9, 63, 64, 65, 255, 256, 257, 1000, 1024, 4000, 4096,
             8000, 16384)
{
    my $key = substr('k' . 'long-key:' x 2000, 0, $len);
    $s->put($key, "value $len");
    $s->put(substr($key, 0, -1) . '_', 'another') if $len > 1;
    answer($s->get($key), 200, "value $len", "a key of $len bytes");
}

$r = $s->put('k' x 16385, 'x');
ok($r->{status} == 400 || $r->{status} == 414, 'too long a key');
is($r->{headers}{'content-type'}, 'text/plain', 'too long a key: plain text');


# HTTP/1.0, keep-alive

$c = $s->connect;
$c->send("PUT /kv/old HTTP/1.0\r\nContent-Length: 3\r\n\r\n1.0");
answer($c->response, 200, '', 'PUT by HTTP/1.0');
ok($c->closed(30), 'the connection ends');

$c = $s->connect;
$c->send("GET /kv/old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" x 2);
answer($c->response, 200, '1.0', 'GET by HTTP/1.0');
answer($c->response, 200, '1.0', 'GET by HTTP/1.0, kept alive');

$c = $s->connect;
for my $i (1 .. 50) {
    $c->send(KV::Conn::request(PUT => "/kv/alive$i", body => "$i"));
    last unless $c->response;
    $c->send(KV::Conn::request(GET => "/kv/alive$i"));
    last unless ($c->response || {})->{body} eq $i;
}
is($s->get('alive50')->{body}, 50, '100 requests on one connection');

$s->done;
done_testing();
