# Long work in steps: however much of it there is, another client is served
# between; it ends with its client, and with an answer when the server ends.

use strict;
use warnings;

use JSON::PP ();
use Test::More;
use Time::HiRes qw(sleep);

use KV::Test;

my $s = KV::Test->new(fault => 1, workers => 1, zone => '64m',
                      kv => 'list=on segment=16m sync=off',
                      server => 'location = /keys { kv_keys main; }');
$s->start;

my $keys = 12_000;
my $lines = join '', map { qq({"key":"k$_","value":"v"}\n) } 1 .. $keys;
is($s->http(POST => '/bulk', body => $lines)->{status}, 200, 'many keys');


# ---- one client beside many

# How often a client is served until all these are answered, which are not read
# before.

sub served_beside {
    my (@requests) = @_;
    my @c = map { $s->connect(timeout => 60) } @requests;
    my $other = $s->connect;
    my ($n, @left) = (0, @c);

    $c[$_]->send($requests[$_]) for 0 .. $#c;
    while (@left) {
        $other->send(KV::Conn::request(GET => '/kv/k1'));
        $other->response->{status} == 200 or die "not served\n";
        $n++;
        @left = grep { !$_->ready(0, 0) } @left;
    }

    return ($n, map { $_->response->{status} } @c);
}

# If each of them took a step in a round, there would be about as many rounds
# as one of them has steps, less than 50.  The test may stand still while the
# worker does all of it, or get no processor for each round: then there are more
# of them.

{
    my $list = KV::Conn::request(GET => '/keys?limit=10000');
    my ($n, $lists, @status);

    for (1 .. 8) {
        $lists = $_ > 4 ? 600 : 150 * $_;
        ($n, @status) = served_beside(($list) x $lists);
        last if "@status" ne "@{[(200) x $lists]}" || $n > 100;
    }

    is("@status", "@{[(200) x $lists]}", 'many lists');
    cmp_ok($n, '>', 100, 'another client is served between their steps');

    my $batch = KV::Conn::request(POST => '/batch', body => join '',
        map { qq({"key":"b$_","value":"v"}\n) } 1 .. 1000);
    my @both = map { ($list, $batch) } 1 .. 30;
    ($n, @status) = served_beside(@both,
        map { KV::Conn::request(DELETE => "/keys?prefix=k1&max=$_") } 1 .. 20);
    is("@status", "@{[(200) x 60, (409) x 20]}", 'all kinds');
}


# ---- clients that leave

{
    my $ended = sub { $s->stats->{routes}{keys}{GET}{status}{499} // 0 };
    my $list = KV::Conn::request(GET => '/keys?limit=10000&format=json');

    # they may be made before this test goes on, and leaves

    my $answered = 1;
    for (1 .. 50) {
        my @c = map { $s->connect } 1 .. 50;
        $_->send($list) for @c;
        $s->has_read or die "not read\n";
        $_->reset for @c;
        $answered &&= $s->http(GET => '/keys?limit=10000')->{status} == 200;
        last if $ended->() > 25;
    }

    ok($answered, 'a list behind those of clients that left');
    ok(wait_for(sub { $ended->() > 25 }, 10), 'they end before they are made');

    # one that closes its half alone wants its answer

    my $c = $s->connect;
    $c->send(KV::Conn::request(GET => '/keys?limit=1000'));
    shutdown($c->{sock}, 1);
    is($c->response->{status}, 200, 'a client that only sends no more');
}


# ---- the server ends

# Lists that are not complete are answered so.

{
    my @c = map { $s->connect } 1 .. 100;
    $_->send(KV::Conn::request(GET => '/keys?limit=10000')) for @c;
    ok($s->has_read, 'SIGTERM in the middle of lists');
    kill('TERM', $s->{pid});
    my %n;
    $n{eval { $_->response->{status} } // 'none'}++ for @c;
    is(($n{200} // 0) + ($n{503} // 0), 100, 'each is answered')
        or diag(explain(\%n));
    is($s->wait_exit, 0, 'nginx ends');
}

# A delete of many keys, one of which another client was quicker with: nothing
# would begin it anew.

{
    $s->{kv} = 'list=on segment=16m';
    $s->start;
    $s->put('k0', 'x');
    $s->fault(hold => 1);
    my $first = $s->written(DELETE => '/kv/k77');
    my $from = length $s->log;
    my $c = $s->connect;
    $c->send(KV::Conn::request(DELETE => '/keys?prefix=k77'));
    ok($s->has_read, 'SIGTERM while a key of a delete is being deleted');
    kill('TERM', $s->{pid});
    ok(wait_for(sub { substr($s->log, $from) =~ /#\d+: exiting$/m }, 10),
       'the worker ends');
    $s->fault(hold => undef);
    is($first->response->{status}, 200, 'the key is deleted');
    my $r = eval { $c->response };
    is($r && $r->{status}, 503, 'the others are not, which is answered');
    is($s->wait_exit, 0, 'nginx ends');
}

$s->{kv} = 'list=on segment=16m sync=off';
$s->start;
is($s->get('k77')->{status}, 404, 'the key is gone');
is($s->get('k777')->{status}, 200, 'the others are there');

$s->done;
done_testing();
