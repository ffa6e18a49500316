# Writes whose requests are gone while the committer has them: what it has
# stays as it is until it is done with it, also when the zone is rebuilt.
#
# nginx takes no notice of a client that leaves while its write waits.  But if
# it leaves while the main request waits for something else, a backend that
# does not answer, then the write of its mirror is left alone.

use strict;
use warnings;

use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(sleep);

use KV::Test;

KV::Test::with_failpoints();

my $N = 6;
my $backend = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 128)
    or die "listen: $!";

my $s = KV::Test->new(zone => '32m', fault => 1,
                      kv => 'segment=8m max_value=1m',
                      main => 'error_log %%dir%%/info.log info;', server =>
    'client_body_buffer_size 1m; add_header Worker $pid always;'
    . join('', map { "location = /front$_ {
                          mirror /kv/left$_;
                          proxy_pass http://127.0.0.1:@{[ $backend->sockport ]};
                      } " } 1 .. $N));
$ENV{KV_FAILPOINT_DIR} = $s->{dir};
$s->expect_log(qr/worker process \d+ exited on signal 9/);
$s->start;

my @workers = $s->workers;
my %left = map { ("left$_", value("left$_", 1, 300_000)) } 1 .. $N;


# A write by the first worker is being synced, and the second one's wait, whose
# clients leave.

sub leave {
    my ($method) = @_;
    my $first = $s->connect_to($workers[0]);
    my @c = map { $s->connect_to($workers[1]) } 1 .. $N;
    my $gone = sub { scalar(() = read_file("$s->{dir}/info.log")
                                 =~ /client prematurely closed/g) };
    my $before = $gone->();

    $s->put('log', 'is open');

    # The committer may be one that the other worker has begun, and that goes
    # on as long as writes keep coming.

    my $committer = 0;
    my ($by) = $ENV{KV_TEST_CLUSTER} ? $s->helpers : @workers;

    for (1 .. 100) {
        $s->fault(hold => '1 /log-');
        $first->send(KV::Conn::request(PUT => '/kv/first', body => 'x'));
        $committer = $s->held || 0;
        last if $committer == $by;
        $s->fault(hold => undef);
        $first->response;
        sleep(0.02);
    }

    is($committer, $by, 'a write is being synced');

    $c[$_ - 1]->send(KV::Conn::request($method => "/front$_",
                         $method eq 'PUT' ? (body => $left{"left$_"})
                         : (headers => ['Prefer: return=representation'])))
        for 1 .. $N;
    ok(wait_for(sub { $s->store->{zone}{used} > $N * 300_000 }, 10)
       && $s->has_read, 'mirrored ones wait');
    $_->reset for @c;
    ok(wait_for(sub { $gone->() >= $before + $N }, 10), 'their clients leave');

    return $first;
}


{
    my $first = leave('PUT');
    my @others = map { [ "other$_", value("other$_", 1, 300_000),
                         $s->connect_to($workers[1]) ] } 1 .. $N;

    $_->[2]->send(KV::Conn::request(PUT => "/kv/$_->[0]", body => $_->[1]))
        for @others;
    $s->fault(hold => undef);

    is($first->response->{status}, 200, 'the first write is answered');
    is(scalar(grep { $_->[2]->response->{status} != 200 } @others), 0,
       'and others, which came later');

    for my $when ('then', 'after a restart') {
        is(scalar(grep { $s->get($_)->{body} ne $left{$_} } sort keys %left),
           0, "$when: what was left is there");
        is(scalar(grep { $s->get($_->[0])->{body} ne $_->[1] } @others), 0,
           "$when: and what the others wrote");
        if ($when eq 'then') {
            $s->stop('KILL');
            $s->start;
        }
    }
}


# Deletes whose clients leave: nothing keeps what they return.

{
    @workers = $s->workers;
    $s->clear;
    $s->put($_, $left{$_}) for sort keys %left;
    my $first = leave('DELETE');
    $s->fault(hold => undef);
    is($first->response->{status}, 200, 'the first write is answered');
    ok(wait_for(sub { 0 == grep { $s->get($_)->{status} != 404 }
                                sort keys %left }, 10), 'they are deleted');
    $s->clear;
    ok(wait_for(sub { $s->put('a', 'b'); $s->used < 1_000_000 }, 10),
       'and what they returned is free') or diag($s->used);
}


# The committer dies while the map is half changed.

{
    @workers = $s->workers;
    $s->clear;
    my $first = leave('PUT');

    write_file("$s->{dir}/point.new", "LINKED 1\n");
    rename("$s->{dir}/point.new", "$s->{dir}/point") or die;
    $s->fault(hold => undef);

    ok(wait_for(sub { my $st = eval { $s->store };
                      $st && $st->{recovery}{rebuilds}
                      && $st->{state} eq 'ready' }, 20),
       'the first worker dies, the zone is rebuilt');
    ok(scalar(grep { $_ == $workers[1] } $s->workers), 'the other one lives');
    is($s->put('a', 'b')->{status}, 200, 'and takes writes');
    is(scalar(grep { my $r = $s->get($_);
                     $r->{status} != 404 && $r->{body} ne $left{$_} }
              sort keys %left), 0, 'what was left is there as it was, or not');
    $s->clear;
    ok(wait_for(sub { $s->put('a', 'b'); $s->used < 2_000_000 }, 10),
       'and keeps no memory');
}

$s->done;
done_testing();
