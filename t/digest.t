# Content-Digest: a body that is not what it says is refused, and stores
# nothing, however it comes.

use strict;
use warnings;

use Digest::SHA qw(sha256_base64 sha512_base64);
use Test::More;

use KV::Pages;
use KV::Test;

my $DIFFERS = "content digest does not match\n";
my $INVALID = "invalid Content-Digest\n";


sub answer {
    my ($r, $status, $body, $name) = @_;
    is("$r->{status} $r->{body}", "$status $body", $name);
    return $r;
}

sub padded { return $_[0] . '=' x (-length($_[0]) % 4) }
sub sha256 { return 'sha-256=:' . padded(sha256_base64($_[0])) . ':' }
sub sha512 { return 'sha-512=:' . padded(sha512_base64($_[0])) . ':' }
sub digest { return headers => [ map { "Content-Digest: $_" } @_ ] }


my $s = KV::Test->new(
    zone => '64m', kv => 'max_value=10m list=on',
    server => 'client_body_buffer_size 1m;
        location /post/ { kv main; kv_post on; }
        location /mirrored/ { kv main; mirror /kv/copy; }
        location = /proxied { mirror /kv/copy;
                              proxy_pass http://127.0.0.1:%%port%%/kv/other; }'
)->start;


# ---- values of all sizes, in one piece and in many

for my $size (1, 63, 64, 65, 8192, 8193, 100_000, 10 << 20) {
    my $value = value('d', $size, $size);
    my $other = $value;
    substr($other, -1, 1) = chr(1 ^ ord substr $other, -1, 1);
    my @pieces = unpack '(a' . (1 + int $size / 7) . ')*', $value;

    $s->put('d', 'old');
    for ([ body => $value ], [ chunks => \@pieces ]) {
        my $name = "$size bytes, $_->[0]";
        answer($s->http(PUT => '/kv/d', @$_, digest(sha256($other))), 400,
               $DIFFERS, "$name: others");
        is($s->get('d')->{body}, 'old', "$name: nothing is stored");
        answer($s->http(PUT => '/kv/d', @$_, digest(sha256($value))), 200, '',
               "$name: the same");
        ok($s->get('d')->{body} eq $value, "$name: stored");
        $s->put('d', 'old');
    }
}

is($s->store->{uploads}{bytes}, 0, 'no memory is kept');


# ---- what the header says

{
    my ($a, $b) = ('a', 'b');
    my $other = sha256($b) =~ s/^sha-256/sha-257/r;

    for ([ 200, '', sha512($a) ], [ 400, $DIFFERS, sha512($b) ],
         [ 200, '', sha256($a) . ', ' . sha512($a) ],
         [ 400, $DIFFERS, sha256($a) . ',' . sha512($b) ],
         [ 400, $DIFFERS, sha256($b) . ',' . sha512($a) ],
         [ 200, '', sha256($b) . ', ' . sha256($a) ],
         [ 400, $DIFFERS, sha256($a), sha256($b) ],
         [ 200, '', sha256($b), 'x=1', sha256($a) ],
         [ 400, $DIFFERS, sha512($b), sha256($a) ],
         [ 200, '', $other ],
         [ 200, '', sha256($b) =~ s/^sha-256/sha-256x/r ],
         [ 200, '', 'md5=:AAAA:, x, y=(1 2);z' ],
         [ 200, '', '' ], [ 200, '', sha256($a) =~ s/=(?=:$)//r ],
         [ 200, '', ' ' . sha256($a) . ';p="q" ' ],
         [ 400, $DIFFERS, sha256('') ],
         [ 400, $INVALID, 'sha-256' ], [ 400, $INVALID, 'sha-256=::' ],
         [ 400, $INVALID, 'sha-256=:AAAA:' ], [ 400, $INVALID, 'sha-256=x' ],
         [ 400, $INVALID, 'sha-512' . substr sha256($a), 7 ],
         [ 400, $INVALID, sha256($a) . ',' ], [ 400, $INVALID, 'SHA-256=1' ],
         [ 400, $INVALID, sha256($a) =~ s/:$//r ],
         [ 400, $INVALID, sha256($a) =~ s/:/"/gr ],
         [ 400, $INVALID, sha256($a) =~ s/:(.)/:-/r ],
         [ 400, $INVALID, 'sha-256=:' . 'A' x 5000 . ':' ],
         [ 400, $INVALID, sha256($a), '=' ])
    {
        my ($status, $body, @said) = @$_;
        my $r = answer($s->put('h', $a, digest(@said)), $status, $body,
                       substr "$status: @said", 0, 80);
        is($s->get('h')->{status}, $status == 200 ? 200 : 404, 'and done');
        $s->del('h');
    }
}

answer($s->put('h', 'a', headers => [ 'content-DIGEST: ' . sha256('b') ]), 400,
       $DIFFERS, 'its name in other letters');
answer($s->put('h', 'a', headers => [ 'Content: ' . sha256('b') ]), 200, '',
       'half of its name');


# ---- order, connections, conditions

{
    my $c = $s->connect;
    my $big = 'x' x 300_000;

    for ([ 400, $DIFFERS, body => $big, digest(sha256('y')) ],
         [ 400, $INVALID, body => 'x', digest('=') ],
         [ 400, $DIFFERS, chunks => [ $big ], digest(sha256('y')) ],
         [ 200, '', body => $big, digest(sha256($big)) ])
    {
        my ($status, $body, @o) = @$_;
        $c->send(KV::Conn::request(PUT => '/kv/c', @o));
        answer($c->response, $status, $body, "one connection: $status");
    }
}

my $tag = $s->get('c')->{headers}{etag};
my $b = 'Content-Digest: ' . sha256('b');
answer($s->put('c', 'a', headers => [ 'If-Match: "1-1"', $b ]), 412,
       "precondition failed\n", 'a false condition comes first');
answer($s->put('c', 'a', headers => [ "If-Match: $tag", $b ]), 400, $DIFFERS,
       'a true one does not help');
is($s->get('c')->{headers}{etag}, $tag, 'nothing is changed');


# ---- POST, batches, and bodies that others have read

answer($s->http(POST => '/post/p', body => 'a', digest(sha256('b'))), 400,
       $DIFFERS, 'POST as PUT');
answer($s->http(POST => '/post/p', body => 'a', digest(sha256('a'))), 200, '',
       'POST as PUT, the same');

my $lines = qq({"key":"l1","value":"1"}\n{"key":"l2","value":"2"}\n);
my $half = substr $lines, 0, length($lines) / 2;
answer($s->http(POST => '/batch', body => $half, digest(sha256($lines))), 400,
       qq({"error":"content digest does not match"}\n), 'half a batch');
answer($s->http(POST => '/batch', body => $lines, digest('x=')), 400,
       qq({"error":"invalid Content-Digest"}\n), 'a batch, malformed');
is($s->get('l1')->{status}, 404, 'nothing of it is done');
is($s->http(POST => '/batch', chunks => [ unpack '(a5)*', $lines ],
            digest(sha256($lines)))->{status}, 200, 'a whole batch');

$s->put('copy', 'old');
for my $size (10, 500_000) {
    my $value = 'x' x $size;
    answer($s->http(PUT => '/mirrored/m', body => $value, digest(sha256('y'))),
           400, $DIFFERS, "read before, $size bytes");
    answer($s->http(PUT => '/mirrored/m', body => $value,
                    digest(sha256($value))), 200, '', 'the same');
    ok(wait_for(sub { $s->get('copy')->{body} eq $value }, 10), 'copied');
    answer($s->http(PUT => '/proxied', body => "y$value",
                    digest(sha256('y'))), 400, $DIFFERS, 'proxied');
    is($s->get('copy')->{body}, $value, 'the copy is not changed');
}


# ---- HTTP/2

SKIP: {
    skip('this nginx or curl does not speak HTTP/2', 4)
        if qx(@{[ KV::Test::nginx() ]} -V 2>&1) !~ /http_v2_module/
           || qx(curl -V) !~ /HTTP2/;

    my $s = KV::Test->new(h2 => KV::Util::free_port(), servers => 'server {
        listen 127.0.0.1:%%h2%% http2; location /kv/ { kv main; } }')->start;

    for my $size (100, 1_000_000) {
        my $value = 'x' x $size;
        write_file("$s->{dir}/value", $value);
        for ([ sha256($value), 200 ], [ sha256('y'), 400 ]) {
            my ($said, $status) = @$_;
            my $curl = "curl -s --http2-prior-knowledge -T $s->{dir}/value "
                       . "-H 'Content-Digest: $said' -o /dev/null "
                       . "-w '%{http_code}' http://127.0.0.1:$s->{h2}/kv/a";
            is(qx($curl), $status, "HTTP/2: $size bytes, $status");
        }
    }
    $s->done;
}


# ---- the example of the page

SKIP: {
    skip('there is no openssl', 2) if !grep { -x "$_/openssl" }
                                       split(/:/, $ENV{PATH}), '/usr/bin';
    my $script = page_block('src/http/contents.md', 'sh', 'Content-Digest')
                 =~ s/127\.0\.0\.1:8080/127.0.0.1:$s->{port}/r;
    write_file("$s->{dir}/notes", "some\n");
    write_file("$s->{dir}/example", $script);
    is(qx(cd $s->{dir} && sh example 2>/dev/null), '', 'example: stored');
    is($s->get('notes')->{body}, "some\n", 'example: and there');
}

$s->done;
done_testing();
