# Answers that come before the request's body is read, all of it or any: what
# they say of the connection is what becomes of it.

use strict;
use warnings;

use Test::More;

use KV::Frames;
use KV::Test;
use KV::Util qw(free_port);

my $h2 = free_port();
my $s = KV::Test->new(zone => '16m', kv => 'segment=2m max_value=1m sync=off',
                      server => 'lingering_timeout 3s;');
my $nginx = $s->nginx;

$s->{servers} = <<"END" if qx($nginx -V 2>&1) =~ /http_v2_module/;
    server {
        listen 127.0.0.1:$h2 http2;
        location /kv/ { kv main; }
        location = /clear { kv_clear main; }
        location = /health { kv_health main; }
        location = /stats { kv_stats main; }
    }
END
$s->start;
$s->put('marker', 'here');

my $NEXT = KV::Conn::request(GET => '/kv/marker');


# Sends the beginning of a request, takes the answer, which must say "close" or
# not as `close` has it, sends the rest, and another request.  Then either this
# is answered, or the connection has ended without another word.

sub in_step {
    my ($name, %o) = @_;
    my $c = $s->connect;

    $c->send($o{head});
    my $r = $c->response($o{method});
    $r = $c->response($o{method}) if $r && $r->{status} == 100;

    my $said = $r ? lc($r->{headers}{connection} // 'nothing') : 'no answer';
    $said = 'keep-alive' if $said eq 'nothing';
    is_deeply([ $r && $r->{status}, $said ],
              [ $o{status}, $o{close} ? 'close' : 'keep-alive' ],
              "$name: status and Connection");

    if ($said eq 'close') {
        ok($c->closed(10), "$name: it ends at once");
        $c->send($o{rest} . $NEXT);
        ok($c->closed(0), "$name: and is silent");
        return;
    }

    $c->send($o{rest} . $NEXT);
    my $next = eval { $c->response };
    is($next && $next->{body}, 'here', "$name: the next request is answered");
}


sub head {
    my ($method, $path, @headers) = @_;
    return join "\r\n", "$method $path HTTP/1.1", 'Host: x', @headers, '', '';
}

my $CHUNKED = 'Transfer-Encoding: chunked';


# refused while the body comes

for my $n (1, 5) {
    my $chunk = sprintf("%x\r\n", $n * 600_000) . 'x' x ($n * 600_000) . "\r\n";

    in_step("$n: too large, chunked", method => 'PUT', status => 413,
            close => 1,
            head => head(PUT => '/kv/a', $CHUNKED) . $chunk x 2,
            rest => "${chunk}0\r\n\r\n");
    in_step("$n: too large, all of it sent", method => 'PUT', status => 413,
            close => 1, head => head(PUT => '/kv/a', $CHUNKED)
                                . $chunk x 2 . "0\r\n\r\n", rest => '');
}

in_step('a bad chunk', method => 'PUT', status => 400, close => 1,
        head => head(PUT => '/kv/a', $CHUNKED) . "5\r\nhello\r\nZ\r\n",
        rest => "0\r\n\r\n");
in_step('a bad chunk, first', method => 'PUT', status => 400, close => 1,
        head => head(PUT => '/kv/a', $CHUNKED) . "Z\r\n", rest => "0\r\n\r\n");
in_step('a bad chunk where none belongs', method => 'GET', status => 400,
        close => 1, head => head(GET => '/kv/marker', $CHUNKED) . "Z\r\n",
        rest => "0\r\n\r\n");


# refused before: the body is thrown away, however it is sent

my @REFUSED = ([ 'an empty key', 'PUT', '/kv/', 400 ],
               [ 'a bad key', 'PUT', '/kv/a+b', 400 ],
               [ 'another method', 'POST', '/kv/a', 405 ],
               [ 'GET', 'GET', '/kv/marker', 200 ],
               [ 'HEAD', 'HEAD', '/kv/marker', 200 ],
               [ 'GET of nothing', 'GET', '/kv/none', 404 ],
               [ 'DELETE', 'DELETE', '/kv/none', 200 ],
               [ 'PUT to /clear', 'PUT', '/clear', 405 ],
               [ 'GET /health', 'GET', '/health', 200 ],
               [ 'GET /stats', 'GET', '/stats', 200 ],
               [ 'a conditional PUT', 'PUT', '/kv/a', 412, 'If-Match: "1"' ],
               [ 'a partial PUT', 'PUT', '/kv/a', 400,
                 'Content-Range: bytes 0-9/10' ]);

for (@REFUSED) {
    my ($what, $method, $path, $status, @headers) = @$_;
    my $body = 'x' x 100_000;

    for my $sent (0, 10, 100_000) {
        in_step("$what, $sent bytes sent", method => $method,
                status => $status,
                head => head($method, $path, @headers, 'Content-Length: 100000')
                        . substr($body, 0, $sent),
                rest => substr($body, $sent));
    }

    in_step("$what, chunked", method => $method, status => $status,
            head => head($method, $path, @headers, $CHUNKED)
                    . "186a0\r\n" . substr($body, 0, 5000),
            rest => substr($body, 5000) . "\r\n0\r\n\r\n");
}

in_step('too large, by its length', method => 'PUT', status => 413, close => 1,
        head => head(PUT => '/kv/a', 'Content-Length: 1048577') . 'x' x 10,
        rest => 'x' x 1_048_567);


# Expect: with 100-continue a client sends the body, with another answer it may

for (@REFUSED) {
    my ($what, $method, $path, $status, @headers) = @$_;
    my $goes_on = $method =~ /^(?:GET|HEAD|DELETE)$/ && $path =~ /^.kv/;

    in_step("$what, Expect", method => $method, status => $status,
            close => !$goes_on, rest => 'body!',
            head => head($method, $path, @headers, 'Content-Length: 5',
                         'Expect: 100-continue'));

    # a value that is empty is refused first

    in_step("$what, Expect of nothing", method => $method, rest => '',
            status => $status == 412 ? 400 : $status,
            head => head($method, $path, @headers, 'Expect: 100-continue'));
}


# the zone is full: before the body, and while it comes

my $n = 0;
$n++ while $n < 200 && $s->put("fill$n", 'x' x 500_000)->{status} == 200;
is($s->put('fill', 'x' x 500_000)->{status}, 507, 'the zone is full');

in_step('the zone is full, by its length', method => 'PUT', status => 507,
        head => head(PUT => '/kv/a', 'Content-Length: 1000000') . 'x' x 10,
        rest => 'x' x 999_990);
in_step('the zone is full, chunked', method => 'PUT', status => 507, close => 1,
        head => head(PUT => '/kv/a', $CHUNKED)
                . "f4240\r\n" . 'x' x 1_000_000 . "\r\n", rest => "0\r\n\r\n");
is($s->clear->{status}, 200, 'it is empty again');
$s->put('marker', 'here');


# HTTP/2: the answer is whole, then the stream ends with NO_ERROR; the others,
# and later ones, do not notice

SKIP: {
    skip('this nginx does not speak HTTP/2', 1) unless $s->{servers};

    my $h = KV::Frames->new(port => $h2);
    my ($id, %st) = (-1);

    # Takes all that comes, until a PING is answered, into %st.

    my $settle = sub {
        $h->frame(KV::Frames::PING, 0, 0, 'the end!');
        return $h->read_until(sub {
            my ($f) = @_;
            my $st = $st{$f->{stream}} ||= { body => '' };

            if ($f->{type} == KV::Frames::HEADERS) {
                $st->{status} = KV::Frames::status($f->{payload});
            } elsif ($f->{type} == KV::Frames::DATA) {
                $st->{body} .= $f->{payload};
            } elsif ($f->{type} == KV::Frames::RST_STREAM) {
                $st->{reset} = unpack 'N', $f->{payload};
            }

            $st->{end} = 1 if $f->{type} <= KV::Frames::HEADERS
                              && $f->{flags} & KV::Frames::END_STREAM;
            return $f->{type} == KV::Frames::PING;
        });
    };

    my $early = sub {
        my ($name, $status) = @_;

        ok($settle->(), "h2, $name: the connection lives");
        is_deeply([ @{$st{$id}}{qw(status end reset)} ], [ $status, 1, 0 ],
                  "h2, $name: the answer is whole, then RST_STREAM, NO_ERROR");

        # what was on its way

        $h->data($id, 'more', KV::Frames::END_STREAM);
        $id += 2;
        $h->request($id, GET => '/kv/marker');
        $settle->();
        is($st{$id}{body}, 'here', "h2, $name: another stream");
    };

    for ([ 'a bad key', 400, PUT => '/kv/a+b', '' ],
         [ 'a bad key, some sent', 400, PUT => '/kv/a+b', 'x' x 1000 ],
         [ 'another method', 405, POST => '/kv/a', 'x' ],
         [ 'GET with a body', 200, GET => '/kv/marker', 'x' ],
         [ 'DELETE with a body', 200, DELETE => '/kv/none', 'x' ])
    {
        my ($name, $status, $method, $path, $data) = @$_;
        $id += 2;
        $h->headers(0, $id, $method, $path);
        $h->data($id, $data) if $data ne '';
        wait_for(sub { $settle->(); defined $st{$id}{reset} }, 10);
        $early->($name, $status);
    }

    # while the body comes

    $id += 2;
    $h->headers(0, $id, PUT => '/kv/a');
    for (1 .. 200) {
        $h->data($id, 'x' x 16_000);
        last if !$settle->() || defined $st{$id}{reset};
    }
    $early->('too large', 413);
}

$s->done;
done_testing();
