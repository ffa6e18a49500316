# Five nodes, each as if on a machine of its own (KV::Nodes), of which the
# leader is killed, stands still, or loses the process that commits: another one
# leads, in a later term, and what was answered with 200 is there.

use strict;
use warnings;

use Test::More;

use KV::Nodes;
use KV::Test;

KV::Test::with_failpoints();

my $nodes = KV::Nodes->new(workers => 2);

sub others { my ($i) = @_; return grep { $_ != $i } $nodes->all }

# Every one but the leader sends a client to it.

sub sends_on {
    my ($leader, @others) = @_;
    my $there = 'http://' . KV::Nodes::address($leader) . '/kv/k?ttl=9';

    return !grep {
        my $i = $_;
        grep {
            my $r = $nodes->node($i)->http($_ => '/kv/k?ttl=9', body => 'x');
            $r->{status} != 307 || $r->{headers}{location} ne $there
        } qw(GET PUT DELETE POST);
    } @others;
}


# The first leader.

$nodes->node($_)->launch for 1, 2;
ok(wait_for(sub { $nodes->node(1)->healthy && $nodes->node(2)->healthy }, 20),
   'two nodes of five are healthy');
ok(wait_for(sub { $nodes->idle($_) }, 20), "node $_ has no leader") for 1, 2;
$nodes->start(3 .. 5);

my ($leader, $term) = $nodes->elected;
cmp_ok($term, '>', 0, 'a leader of all, in a term');

for my $i ($nodes->all) {
    my $info = wait_for(sub { $nodes->info($i) }, 10);
    is($info->{id}, KV::Nodes::address($i), "node $i knows itself");
    is_deeply($info->{peers}, [ map { KV::Nodes::address($_) } others($i) ],
              'and the others');
}

ok(wait_for(sub {
    ($leader, $term) = $nodes->elected;
    return sends_on($leader, others($leader));
}, 20), 'the others send clients to it');

$nodes->write_on;


# It is killed, and comes back.

$nodes->node($leader)->stop('KILL');
my (undef, $later) = $nodes->elected([ others($leader) ]);
cmp_ok($later, '>', $term, 'it is killed: another one leads, in a later term');
ok($nodes->acknowledged, 'which is written to');
$nodes->start($leader);
($leader, $term) = $nodes->elected;
cmp_ok($term, '>=', $later, 'it is back, and all agree');


# It stands still, with all that it has of nginx.

$nodes->freeze($leader);
is($nodes->info($leader, 0.3), undef, 'it stands still');
(undef, $later) = $nodes->elected([ others($leader) ]);
cmp_ok($later, '>', $term, 'another one leads, in a later term');
ok($nodes->acknowledged, 'which is written to');
$nodes->thaw($leader);
($leader, $term) = $nodes->elected;
cmp_ok($term, '>=', $later, 'it goes on, and all agree');


# Its process that commits is killed.

my $node = $nodes->node($leader);
$node->expect_log(qr/cache manager process \d+ exited on signal 9/);
kill('KILL', $node->helpers);
($leader, $later) = $nodes->elected(undef, $term);
cmp_ok($later, '>', $term, 'one without its process does not lead');


# All of them are killed at once.

my @keys = $nodes->acknowledged;
cmp_ok(scalar @keys, '>', 0, 'there were writes all the time');
$_->stop('KILL') for map { $nodes->node($_) } $nodes->all;
$nodes->start;
(undef, $term) = $nodes->elected;
cmp_ok($term, '>', $later, 'all are killed, and elect again');
is(join(' ', $nodes->missing(@keys)), '', 'all that was written is there');

$nodes->done;
done_testing();
