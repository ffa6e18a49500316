# Bodies in every shape that they come in, and values as they go out.

use strict;
use warnings;

use IO::Uncompress::Gunzip ();
use Test::More;
use Time::HiRes qw(sleep);

use KV::Test;

my $s = KV::Test->new(zone => '64m', server =>
                      'location /hasty/ { kv main; client_body_timeout 2s; }',
                      http => 'gzip on; gzip_types text/plain;
                               gzip_min_length 100;');
$s->start;

my $KEY = 'b';
my $MAX = 10 * 1024 * 1024;


sub answer {
    my ($r, $status, $body, $name) = @_;
    is_deeply([ $r->{status}, $r->{headers}{'content-type'},
                length $r->{body} ],
              [ $status, 'text/plain', length $body ], $name)
        and $r->{body} ne $body and fail("$name: the body differs");
    return $r;
}

sub is_value {
    my ($value, $name) = @_;
    answer($s->get($KEY), 200, $value, $name);
}

# The zone is as full as it was, give or take what workers take for their
# operations.  A write frees what no client reads any more.

sub is_used {
    my ($before, $name) = @_;
    my $now;
    ok(wait_for(sub { $s->del('nothing');
                      ($now = $s->used) <= $before + 20_000 }, 20, 0.05), $name)
        or diag("used $before before, $now now");
}


# in one packet, in two, byte by byte

for my $len (1, 100, 1000) {
    my $value = substr(value($KEY, 1, $len), 0, $len);
    my $request = KV::Conn::request(PUT => "/kv/$KEY", body => $value);
    my $c = $s->connect;

    $c->send($request);
    answer($c->response, 200, '', "PUT of $len in one packet");
    is_value($value, "$len in one packet");

    $value = substr(value($KEY, 2, $len), 0, $len);
    $request = KV::Conn::request(PUT => "/kv/$KEY", body => $value);

    for my $byte (split //, $request) {
        $c->send($byte);
        sleep(0.0003);
    }
    answer($c->response, 200, '', "PUT of $len byte by byte");
    is_value($value, "$len byte by byte");
}

for my $pieces (2, 7, 50) {
    my $value = value($KEY, $pieces, 300_000);
    my $request = KV::Conn::request(PUT => "/kv/$KEY", body => $value);
    my $c = $s->connect;

    my $n = 1 + int(length($request) / $pieces);
    for (unpack "(a$n)*", $request) {
        $c->send($_);
        sleep(0.002);
    }
    answer($c->response, 200, '', "PUT of 300,000 in $pieces pieces");
    is_value($value, "300,000 in $pieces pieces");
}


# the header alone, then the body

{
    my $value = value($KEY, 3, 20_000);
    my $c = $s->connect;
    $c->send("PUT /kv/$KEY HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n"
             . "\r\n");
    ok($c->silent(0.1), 'no answer to a header');
    $c->send($value);
    answer($c->response, 200, '', 'PUT after it');
    is_value($value, 'the body after the header');
}


# sizes, with Content-Length and chunked

my $edge = 32768 - length($KEY) - 8;

for my $len (1, 2, 7, 8, 9, 4095 .. 4097, 16383 .. 16385,
             $edge - 8 .. $edge + 8,
             32767 .. 32769, 65535 .. 65537, 65536 - 8, 131071 .. 131073,
             1048575 .. 1048577, $MAX - 1, $MAX)
{
    my $value = substr(value($KEY, 4, $len), 0, $len);
    answer($s->put($KEY, $value), 200, '', "PUT of $len");
    is_value($value, "$len bytes");

    $value = substr(value($KEY, 5, $len), 0, $len);
    my $n = 1 + int($len / 3);
    answer($s->http(PUT => "/kv/$KEY", chunks => [ unpack "(a$n)*", $value ]),
           200, '', "PUT of $len chunked");
    is_value($value, "$len bytes chunked");

    my $r = $s->http(HEAD => "/kv/$KEY");
    is($r->{headers}{'content-length'}, $len, "HEAD of $len bytes");
}

$s->put($KEY, 'old');
answer($s->put($KEY, 'x' x ($MAX + 1)), 413, "value too large\n",
       'PUT of 10 MiB + 1');
answer($s->http(PUT => "/kv/$KEY", chunks => [ ('x' x 65536) x 160, 'x' ]),
       413, "value too large\n", 'PUT of 10 MiB + 1 chunked');
answer($s->http(PUT => "/kv/$KEY", chunks => [ 'x' x ($MAX + 1) ]),
       413, "value too large\n", 'PUT of 10 MiB + 1 in one chunk');
is_value('old', 'the old value stays');


# chunked

sub chunked {
    my ($body, $pause) = @_;
    my $c = $s->connect;
    $c->send("PUT /kv/$KEY HTTP/1.1\r\nHost: x\r\n"
             . "Transfer-Encoding: chunked\r\n\r\n");
    for (ref $body ? @$body : $body) {
        $c->send($_);
        sleep($pause) if $pause;
    }
    return ($c->response, $c);
}

{
    my $value = value($KEY, 6, 200_000);
    my ($pos, @chunks) = (0);
    for my $len (1, 2, 3, 255, 256, 4096, 65535, 70_000) {
        push @chunks, substr($value, $pos, $len);
        $pos += $len;
    }
    push @chunks, substr($value, $pos);

    answer($s->http(PUT => "/kv/$KEY", chunks => \@chunks), 200, '',
           'chunks of odd sizes');
    is_value($value, 'chunks of odd sizes');

    $value = value($KEY, 7, 500);
    @chunks = unpack '(a1)*', $value;
    answer($s->http(PUT => "/kv/$KEY", chunks => \@chunks), 200, '',
           'chunks of one byte');
    is_value($value, 'chunks of one byte');

    $value = value($KEY, 8, 300);
    answer((chunked([ split //, KV::Conn::chunked(unpack '(a100)*', $value) ],
                    0.0003))[0],
           200, '', 'chunks byte by byte');
    is_value($value, 'chunks byte by byte');

    answer((chunked("5;ext=1\r\nhello\r\n006 ; a=\"b\"\r\n world\r\n"
                    . "1\r\n!\r\n000\r\n\r\n"))[0],
           200, '', 'chunk extensions, leading zeroes');
    is_value('hello world!', 'chunk extensions, leading zeroes');

    my ($r, $c) = chunked("A\r\n0123456789\r\na\r\nabcdefghij\r\n0\r\n"
                          . "X-Trailer: 1\r\nX-More: 2\r\n\r\n"
                          . "GET /kv/$KEY HTTP/1.1\r\nHost: x\r\n\r\n");
    answer($r, 200, '', 'trailers');
    answer($c->response, 200, '0123456789abcdefghij',
           'trailers, and a request after them');

    answer((chunked("0\r\n\r\n"))[0], 400, "value cannot be empty\n",
           'an empty chunked body');
    answer((chunked([ "0\r", "\n", "\r", "\n" ], 0.01))[0], 400,
           "value cannot be empty\n", 'an empty chunked body in pieces');
    is_value('0123456789abcdefghij', 'the old value stays');
}


# bad chunks

for my $bad ([ 'no number', "ZZ\r\n" ], [ 'an overflow', 'f' x 17 . "\r\n" ],
             [ 'no line end', "5\r\nhelloXX" ],
             [ 'later', [ "5\r\nhello\r\n", "hi\r\n" ] ],
             [ 'much later', [ "10000\r\n" . 'x' x 65536 . "\r\n",
                               "-1\r\n" ] ])
{
    my ($name, $body) = @$bad;
    my ($r) = chunked($body, ref $body ? 0.02 : 0);
    is($r && $r->{status}, 400, "bad chunk, $name: 400");
    is($r && $r->{headers}{'content-type'}, 'text/plain',
       "bad chunk, $name: plain text");
    like($r && $r->{body}, qr/^[^<>\n]+\n$/, "bad chunk, $name: one line");
}
is_value('0123456789abcdefghij', 'the old value stays');


# pipelined

{
    my (%model, $out, @want);

    srand(42);
    for my $i (1 .. 400) {
        my $key = 'p' . int rand 10;
        my $dice = rand;

        if ($dice < 0.4) {
            my $value = value($key, $i, $i % 20 ? 10 + int rand 300 : 50_000);
            $out .= KV::Conn::request(PUT => "/kv/$key", $i % 3
                        ? (body => $value)
                        : (chunks => [ unpack '(a97)*', $value ]));
            $model{$key} = $value;
            push @want, [ PUT => 200, '' ];

        } elsif ($dice < 0.5) {
            $out .= KV::Conn::request(DELETE => "/kv/$key");
            delete $model{$key};
            push @want, [ DELETE => 200, '' ];

        } elsif ($dice < 0.53) {
            $out .= KV::Conn::request(PUT => "/kv/$key", body => '');
            push @want, [ PUT => 400, "value cannot be empty\n" ];

        } else {
            $out .= KV::Conn::request(GET => "/kv/$key");
            push @want, [ GET => exists $model{$key}
                                 ? (200, $model{$key})
                                 : (404, "key not found\n") ];
        }
    }

    for my $size (length $out, 10_000, 777) {
        my $c = $s->connect;
        my $bad = '';

        $s->clear;
        my @pieces = unpack "(a$size)*", $out;
        my $want = 0;
        $c->send($_) for @pieces;

        for my $i (0 .. $#want) {
            my ($method, $status, $body) = @{$want[$i]};
            my $r = $c->response($method);
            next if $r && $r->{status} == $status && $r->{body} eq $body;
            $bad = "request $i, $method: " . ($r ? $r->{status} : 'nothing');
            last;
        }

        is($bad, '', "400 pipelined requests, $size bytes at a time");
    }
}


# Expect: 100-continue

sub expecting {
    my ($method, $path, $header) = @_;
    my $c = $s->connect;
    $c->send("$method $path HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
             . "$header\r\n\r\n");
    return $c;
}

{
    my $value = value($KEY, 9, 5000);
    my $c = expecting(PUT => "/kv/$KEY", 'Content-Length: 5000');
    is($c->response->{status}, 100, 'go on');
    $c->send($value);
    answer($c->response, 200, '', 'PUT with Expect');
    is_value($value, 'PUT with Expect');

    $c = expecting(PUT => "/kv/$KEY", 'Transfer-Encoding: chunked');
    is($c->response->{status}, 100, 'go on');
    $c->send(KV::Conn::chunked('a', 'bc'));
    answer($c->response, 200, '', 'PUT with Expect, chunked');
    is_value('abc', 'PUT with Expect, chunked');

    $c = $s->connect;
    $c->send("PUT /kv/$KEY HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
             . "Content-Length: 4\r\n\r\nwhat");
    my $r = $c->response;
    $r = $c->response if $r->{status} == 100;
    answer($r, 200, '', 'PUT with Expect that does not wait');
    is_value('what', 'PUT with Expect that does not wait');
}

answer(expecting(PUT => "/kv/$KEY",
                 "Content-Length: @{[ $MAX + 1 ]}")->response,
       413, "value too large\n", 'Expect: too large');
answer(expecting(PUT => '/kv/', 'Content-Length: 5')->response, 400,
       "key cannot be empty\n", 'Expect: empty key');
answer(expecting(PUT => '/kv/a+b', 'Content-Length: 5')->response, 400,
       "key contains invalid characters\n", 'Expect: invalid key');
answer(expecting(POST => "/kv/$KEY", 'Content-Length: 5')->response, 405,
       "method not allowed\n", 'Expect: wrong method');
answer(expecting(PUT => '/clear', 'Content-Length: 5')->response, 405,
       "method not allowed\n", 'Expect: wrong method of /clear');
answer(expecting(PUT => "/kv/$KEY", 'Content-Length: 0')->response, 400,
       "value cannot be empty\n", 'Expect: nothing');
is_value('what', 'the old value stays');


# cut off

{
    my $before = $s->used;
    my $half = 0;

    for my $how (qw(close reset)) {
        for my $len (10, 5000, 40_000, 200_000, 3_000_000) {
            for my $send (0, 1, int($len / 2), $len - 1) {
                my $c = $s->connect;
                $c->send("PUT /kv/$KEY HTTP/1.1\r\nHost: x\r\n"
                         . "Content-Length: $len\r\n\r\n" . 'x' x $send);
                $c->$how;

                $c = $s->connect;
                $c->send("PUT /kv/$KEY HTTP/1.1\r\nHost: x\r\n"
                         . "Transfer-Encoding: chunked\r\n\r\n"
                         . sprintf("%x\r\n", $len) . 'x' x $send);
                $c->$how;
            }
        }
    }

    is_value('what', 'what is cut off stores nothing');
    is_used($before, 'and frees what it took');

    # seen half-way: it is there, and then not

    my @c = map { $s->connect } 1 .. 10;
    $_->send("PUT /kv/$KEY HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
             . "\r\n" . 'x' x 900_000) for @c;
    ok(wait_for(sub { $s->used >= $before + 10 * 900_000 }, 20),
       'half an upload lies in the zone');
    $_->close for @c;
    is_used($before, 'and is freed when it is cut off');

    # a client that falls silent

    my $c = $s->connect;
    $c->send("PUT /hasty/$KEY HTTP/1.1\r\nHost: x\r\n"
             . "Content-Length: 1000000\r\n\r\n" . 'x' x 500_000);
    $c->response;
    ok($c->{eof}, 'an upload that stands still is ended');
    is_used($before, 'and freed');
    is_value('what', 'and stores nothing');

    # too large, by count: freed as well

    chunked("A00001\r\n" . 'x' x ($MAX + 1));
    is_used($before, 'too large a chunked body is freed');
    chunked("100000\r\n" . 'x' x 0x100000 . "\r\nZ\r\n");
    is_used($before, 'a bad chunked body is freed');
}


# a slow reader keeps its value, whatever happens to the key

{
    my $before = $s->used;
    my $value = value($KEY, 10, $MAX);

    $s->put($KEY, $value);
    my @c = map { $s->connect } 1 .. 3;
    $_->send(KV::Conn::request(GET => "/kv/$KEY")) for @c;
    $_->ready(0, 30) for @c;

    my @status = map { $s->put($KEY, value($KEY, 11, 4_000_000))->{status} }
                     1 .. 3;
    push @status, $s->del($KEY)->{status};
    push @status, $s->put("$KEY$_", value("$KEY$_", 1, 4_000_000))->{status}
        for 1 .. 8;
    is("@status", join(' ', (200) x 12), 'writes go on beside a slow reader');

    answer($c[0]->response, 200, $value, 'it gets the old value, whole');
    $c[1]->close;
    $c[2]->reset;

    $s->del("$KEY$_") for 1 .. 8;
    $s->put($KEY, 'what');
    is_used($before, 'which is freed after the last reader');
}


# ranges

{
    my $value = value($KEY, 12, 300_000);
    $s->put($KEY, $value);

    for my $range ([ 0, 0 ], [ 0, 99 ], [ 65_530, 65_545 ], [ 1, 299_998 ],
                   [ 299_999, 299_999 ], [ 32_000, 200_000 ])
    {
        my ($from, $to) = @$range;
        my $r = $s->get($KEY, headers => [ "Range: bytes=$from-$to" ]);
        is($r->{status}, 206, "range $from-$to");
        is($r->{headers}{'content-range'}, "bytes $from-$to/300000",
           "range $from-$to: Content-Range");
        ok($r->{body} eq substr($value, $from, $to - $from + 1),
           "range $from-$to: its bytes");
        is($r->{headers}{'x-content-type-options'}, 'nosniff',
           "range $from-$to: nosniff");
    }

    my $r = $s->get($KEY, headers => [ 'Range: bytes=299000-' ]);
    ok($r->{status} == 206 && $r->{body} eq substr($value, 299_000),
       'an open range');
    $r = $s->get($KEY, headers => [ 'Range: bytes=-77' ]);
    ok($r->{status} == 206 && $r->{body} eq substr($value, -77),
       'the last bytes');

    # nginx may answer several ranges, or all

    $r = $s->get($KEY, headers => [ 'Range: bytes=0-9,65530-65545,100-200' ]);
    if ($r->{status} == 206) {
        like($r->{headers}{'content-type'}, qr{^multipart/byteranges},
             'several ranges');
        my @parts = $r->{body} =~ m{Content-Range: bytes (\d+-\d+)/300000}gi;
        is("@parts", '0-9 65530-65545 100-200', 'several ranges: which');
        ok(index($r->{body}, "\r\n\r\n" . substr($value, 65_530, 16) . "\r\n")
           > 0, 'several ranges: bytes');
    } else {
        answer($r, 200, $value, 'several ranges get all of it');
    }

    $r = $s->get($KEY, headers => [ 'Range: bytes=300000-' ]);
    is($r->{status}, 416, 'a range behind the end');
    is($r->{headers}{'content-range'}, 'bytes */300000',
       'a range behind the end: Content-Range');
    unlike($r->{body}, qr/</, 'a range behind the end: no HTML');
    is_value($value, 'the whole is as before');
}


# gzip

{
    my $value = 'compress me ' x 20_000;
    $s->put($KEY, $value);
    my $r = $s->get($KEY, headers => [ 'Accept-Encoding: gzip' ]);
    is($r->{headers}{'content-encoding'}, 'gzip', 'nginx compresses');
    is($r->{headers}{'x-content-type-options'}, 'nosniff', 'gzip: nosniff');
    IO::Uncompress::Gunzip::gunzip(\$r->{body}, \my $text);
    ok(defined $text && $text eq $value, 'gzip: the same bytes');
    is_value($value, 'the stored value is as before');
}

$s->done;
done_testing();
