# Watches of clients that mean no good, or come at a bad moment: no other client
# notices, and nothing is left of them.

use strict;
use warnings;

use Test::More;

use KV::Frames;
use KV::Stream;
use KV::Test;

my $s = KV::Test->new(
    kv => 'feed=2m', slow_port => free_port(),
    server => 'listen 127.0.0.1:%%slow_port%% sndbuf=32k;
        location = /watch { kv_watch main; }
        location = /rate { kv_watch main; limit_rate 100; }');

$s->start;


# a request that comes to a worker which is to quit, and whose answer cannot be
# sent at once

{
    my @c = map { $s->connect } 1 .. 4;
    $_->send("GET /rate HTTP/1.1\r\nHost: localhost\r\n") for @c;
    $s->has_read;
    my @old = $s->workers;
    kill 'HUP', $s->{pid};
    ok(wait_for(sub { 2 == (() = $s->log =~ /gracefully shutting down/g) }, 20),
       'a reload');
    $_->send("\r\n") for @c;
    for my $c (@c) {
        wait_for(sub { $c->fill if $c->ready(0, 0.1); $c->{eof} }, 20);
        like($c->{in}, qr{^HTTP/1.1 200 }, 'a watch in an old worker ends');
    }
    ok(wait_for(sub { my %is = map { $_ => 1 } $s->workers;
                      !grep { $is{$_} } @old }, 20), 'no old worker stays');
}


# one that begins now, in a worker that has slept through what was before: that
# is not its own

{
    my @quiet = map { KV::Stream->new($s, path => '/watch?prefix=quiet') }
                    1 .. 8;
    $s->put("noise$_", 'x') for 1 .. 5;
    my @new = map { KV::Stream->new($s) } 1 .. 8;
    $s->put('end', 'x');
    is($_->take(1), 'put end', 'nothing that was before') for @new;
}


# one that takes nothing for a while, and then reads on: it has all

{
    my $slow = KV::Stream->new($s, port => $s->{slow_port});
    my $more = 'y' x 2000;
    $s->http(POST => '/bulk', body => join '',
             map { qq({"key":"s$_:$more","value":"x"}\n) } 1 .. 600);
    my $wrong = grep { ($slow->next // {})->{key} ne "s$_:$more" } 1 .. 600;
    is($wrong, 0, 'nothing is left out');
}


$s->done;
done_testing();
