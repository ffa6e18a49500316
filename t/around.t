# What nginx does around a location, and what clients may add to a request:
# ranges, mirrored and subrequests, a shortage of descriptors.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time sleep);

use KV::Test;
use KV::Util qw(free_port);

my $built = qx(@{[ KV::Test::nginx() ]} -V 2>&1);
my @asking = ('mirror', grep { $built =~ /http_${_}_module/ } 'auth_request');

my $s = KV::Test->new(
    zone => '16m', kv => 'segment=1m max_value=512k list=on',
    strict => free_port(), http => 'charset_map koi8-r utf-8 { 80 E282AC; }',
    servers => <<'END',
    server {
        listen 127.0.0.1:%%strict%%;
        client_max_body_size 10;
        large_client_header_buffers 4 64k;
        client_body_buffer_size 1k;
        error_page 400 404 405 412 413 414 416 500 501 503 507 /page;
        location = /page { return 200 '<html>a page</html>'; }
        location /kv/ { kv main; if ($arg_a) { set $b 1; } }
        location /cut/ { rewrite ^ /x break; kv main; }
        location = /clear { kv_clear main; }
        location = /health { kv_health main; }
        location = /stats { kv_stats main; }
    }
END
    server => 'client_body_buffer_size 64k;
        location = /copy {
            internal;
            proxy_pass http://127.0.0.1:%%port%%/kv/copy;
        }
        location = /keys { kv_keys main; }
        location /recoded/ {
            charset utf-8;
            source_charset koi8-r;
            kv main;
            location = /recoded/keys { kv_keys main; }
        }
        location /mirrored/ { kv main; mirror /copy; }
        location /front/ {
            proxy_pass http://127.0.0.1:%%port%%/kv/;
            mirror /kv/shadow;
        }
        location /bare/ {
            proxy_pass http://127.0.0.1:%%port%%/kv/;
            mirror /kv/shadow2;
                          mirror_request_body off; } '
        . join '', map { "location /$_/ { kv main; limit_rate 1k;
                                          $_ /kv/token; }" } @asking);
$s->start;

sub answer {
    my ($r, $status, $body, $name) = @_;
    is($r->{status}, $status, "$name: status");
    is($r->{body}, $body, "$name: body");
}


# a filter that changes bodies makes chunks of them, and they have an end

{
    my $c = $s->connect;

    for ([ PUT => '/recoded/a', body => 'x' ], [ GET => '/recoded/a' ],
         [ POST => '/recoded/a?ttl=9' ], [ GET => '/recoded/keys?prefix=x' ],
         [ GET => '/recoded/a', headers => [ 'If-None-Match: *' ] ],
         [ HEAD => '/recoded/a' ], [ DELETE => '/recoded/a' ])
    {
        my ($method, $path) = @$_;
        $c->send(KV::Conn::request(@$_));
        my $r = $c->response($method);
        is($r->{body}, $method eq 'GET' && $path =~ /a$/ && $r->{status} == 200
                       ? 'x' : '', "recoded: $method $path");
    }
    $c->send(KV::Conn::request(GET => '/kv/none'));
    is($c->response->{status}, 404, 'recoded: the connection goes on');
}


# a part of a value is not a whole one

{
    $s->put('c', 'old');

    my $r = $s->put('c', 'ld', headers => [ 'Content-Range: bytes 1-2/3' ]);
    answer($r, 400, "partial values are not supported\n", 'a part of a value');
    is($s->get('c')->{body}, 'old', 'is not stored as a whole one');
}


# what nginx would say in words of its own: its limit of bodies, its pages

{
    my $body = 'x' x 100_000;
    my @cases = (
        [ 200, '', PUT => '/kv/e', body => $body ],
        [ 200, '', PUT => '/kv/e?a=1', body => $body ],
        [ 200, '', PUT => '/kv/e', chunks => [ $body ] ],
        [ 413, "value too large\n", PUT => '/kv/e', body => $body x 6 ],
        [ 413, "value too large\n", PUT => '/kv/e', chunks => [ $body x 6 ] ],
        [ 200, $body, GET => '/kv/e', body => $body ],
        [ 416, "range not satisfiable\n", GET => '/kv/e',
          headers => [ 'Range: bytes=100000-' ] ],
        [ 416, '', HEAD => '/kv/e', headers => [ 'Range: bytes=100000-' ] ],
        [ 400, "invalid request body\n", PUT => '/kv/e',
          headers => [ 'Transfer-Encoding: chunked', '', 'Z' ] ],
        [ 400, "invalid request body\n", GET => '/kv/e',
          headers => [ 'Transfer-Encoding: chunked', '', 'Z' ] ],
        [ 400, "value cannot be empty\n", PUT => '/kv/e', body => '' ],
        [ 400, "key cannot be empty\n", PUT => '/kv/', body => $body ],
        [ 400, "key contains invalid characters\n", PUT => '/kv/a+b',
          body => $body ],
        [ 414, "key too long\n", GET => '/kv/' . '%61' x 20_000 ],
        [ 405, "method not allowed\n", POST => '/kv/e', body => $body ],
        [ 405, "method not allowed\n", PUT => '/clear', body => $body ],
        [ 405, "method not allowed\n", PUT => '/health', body => $body ],
        [ 405, "method not allowed\n", POST => '/stats', body => $body ],
        [ 412, "precondition failed\n", PUT => '/kv/e',
          headers => [ 'If-None-Match: *' ], body => $body ],
        [ 412, "precondition failed\n", GET => '/kv/e',
          headers => [ 'If-Match: "x"' ] ],
        [ 501, "a clear cannot be conditional\n", DELETE => '/clear',
          headers => [ 'If-Match: *' ], body => $body ],
        [ 500, "internal server error\n", GET => '/cut/e' ],
        [ 200, '', DELETE => '/kv/e', body => $body ],
        [ 404, "key not found\n", GET => '/kv/e', body => $body ],
        [ 404, '', HEAD => '/kv/e' ],
    );

    for (@cases) {
        my ($status, $text, $method, $path, @o) = @$_;
        my $name = "$method " . substr $path, 0, 20;
        my $r = $s->http($method, $path, @o, port => $s->{strict});
        answer($r, $status, $text, "$name: $status, not nginx's");
        is($r->{headers}{'content-type'}, 'text/plain', "$name: plain text");
    }

    is($s->http(POST => '/kv/e', port => $s->{strict})->{headers}{allow},
       'GET, HEAD, PUT, DELETE', 'and Allow');
}


# bodies that were read by others before

for my $n (1, 1000, 60_000) {
    my $value = KV::Util::value('mirror', 1, $n < 100 ? 100 : $n);

    is($s->http(PUT => '/mirrored/m', body => $value)->{status}, 200,
       "$n: a location that is mirrored");
    is($s->get('m')->{body}, $value, "$n: its value");
    ok(wait_for(sub { $s->get('copy')->{body} eq $value }, 20),
       "$n: the mirror's");

    is($s->http(PUT => '/front/f', body => $value)->{status}, 200,
       "$n: a mirror of another location");
    ok(wait_for(sub { $s->get('shadow')->{body} eq $value }, 20),
       "$n: its value");
    is($s->get('f')->{body}, $value, "$n: the other's");
    $s->clear;
}

{
    my $value = 'x' x 100_000;
    my $r = $s->http(PUT => '/mirrored/large', body => $value);
    answer($r, 413, "value too large\n", 'one that was read to a file');
    is($s->get('large')->{status}, 404, 'is not stored');

    is($s->http(PUT => '/bare/b', body => 'value')->{status}, 200,
       'a mirror that gets no body');
    sleep(0.1);
    is($s->get('shadow2')->{status}, 404, 'stores nothing');
    is($s->http(GET => '/health')->{status}, 200, 'no worker died of it');
}


# a subrequest that wants no body: its value is not kept for a reader while the
# request lasts, which would be cut off for it

for my $what (@asking) {
    $s->put('token', 'x' x 100_000);
    $s->put('answer', 'y' x 8000);

    my $c = $s->connect;
    $c->send(KV::Conn::request(GET => "/$what/answer"));
    ok($c->ready(0, 10), "$what: an answer is under way");

    is($s->put('token', 'z' x 100_000)->{status}, 200, "$what: PUT");
    is($s->store->{readers}{bytes}, 0, "$what: what was asked is not kept");
    $c->close;
}

$s->done;


# no descriptor for a new segment: that write is refused, later ones are not

{
    my $t = KV::Test->new(zone => '16m', workers => 1, connections => 512,
                          kv => 'segment=256k max_value=128k snapshot=off',
                          files => 100);
    $t->expect_log(qr/Too many open files/);
    $t->start;

    my @writers = map { $t->connect } 1 .. 4;
    my $value = 'x' x 100_000;
    for (@writers) {
        $_->send(KV::Conn::request(GET => '/health'));
        $_->response;
    }

    my @idle = map { eval { $t->connect } } 1 .. 150;
    wait_for(sub { $t->log =~ /accept4?\(\) failed/ }, 10);

    my %status;
    for my $n (1 .. 12) {
        my $c = $writers[$n % 4];
        $c->send(KV::Conn::request(PUT => "/kv/k$n", body => $value));
        $status{$c->response->{status}}++;
    }

    SKIP: {
        skip('who writes has no clients, and descriptors', 1)
            if $ENV{KV_TEST_CLUSTER};
        cmp_ok($status{503} // 0, '>', 0,
               'without descriptors writes are refused');
    }

    $_->close for grep { $_ } @idle;
    ok(wait_for(sub { $t->put('after', $value, soft => 1)->{status} == 200 },
                5), 'with descriptors they are taken again');
    is($t->http(GET => '/health')->{status}, 200, 'and /health is fine');

    $t->stop('KILL');
    $t->start;
    is($t->get('after')->{body}, $value, 'what was acknowledged is there');
    $t->done;
}

done_testing();
