# Five nodes whose network falls apart (KV::Nodes): what has no majority has no
# leader and serves nobody, the others have one, and afterwards all agree; what
# was answered with 200 is there.

use strict;
use warnings;

use Test::More;

use KV::Nodes;
use KV::Test;

KV::Test::with_failpoints();

my $nodes = KV::Nodes->new(workers => 2);

sub others {
    my (@of) = @_;
    return grep { my $i = $_; !grep { $_ == $i } @of } $nodes->all;
}

# A write by way of one of these nodes is answered with 200.

sub serves {
    my (@of) = @_;
    return wait_for(sub {
        my $r = $nodes->ask($of[rand @of], PUT => '/kv/some', body => 'x');
        return $r->{status} == 200;
    }, 20);
}

$nodes->start;
my ($leader, $term) = $nodes->elected;
$nodes->write_on;


# The leader and another one are cut off from the other three.

{
    my @few = ($leader, (others($leader))[0]);
    my @most = others(@few);

    $nodes->part(\@few, \@most);
    my $r = $nodes->node($leader)->put('few', 'x');
    isnt($r->{status}, 200, 'a write to a leader that was cut off');
    (undef, my $later) = $nodes->elected(\@most);
    cmp_ok($later, '>', $term, 'most of them have another one');
    ok(serves(@most), 'and are written to');
    ok(wait_for(sub { $nodes->idle($_) }, 20), "node $_ has none") for @few;
    ok($nodes->node($_)->healthy, 'but is healthy') for @few;

    my @heard = map { $nodes->hears($_) } (@few) x 10;
    is(join('; ', grep { /leads|[.]|200|307/ } @heard), '',
       'and they have none for as long as they are cut off');

    $nodes->heal;
    ($leader, $term) = $nodes->elected;
    cmp_ok($term, '>=', $later, 'afterwards all agree');
    ok(serves(@few), 'and serve');
}


# The leader is cut off, stands still before it notices, and goes on: it has not
# heard of the other one, whose value it does not have.

{
    ok(wait_for(sub {
        $nodes->ask($leader, PUT => '/kv/k', body => 'old')->{status} == 200
    }, 20), 'a value');
    ($leader, $term) = $nodes->elected;
    my @most = others($leader);
    $nodes->part([$leader], \@most);
    $nodes->freeze($leader);

    my ($next) = $nodes->elected(\@most, $term);
    ok(wait_for(sub {
        $nodes->ask($next, PUT => '/kv/k', body => 'new')->{status} == 200
    }, 20), 'has another one, by another leader');
    $nodes->thaw($leader);
    my @read = map { $nodes->node($leader)->get('k', soft => 1)->{status} }
               1 .. 50;
    is(scalar(grep { $_ == 200 } @read), 0, 'the old one is not read any more');
    $nodes->heal;
    ($leader, $term) = $nodes->elected;
}


# Two that do not lead.

{
    my @few = (others($leader))[0, 1];
    my @most = others(@few);

    $nodes->part(\@few, \@most);
    ok(wait_for(sub { $nodes->idle($_) }, 20), "node $_ has no leader")
        for @few;
    ok(serves(@most), 'the others have one');
    $nodes->heal;
    ($leader, $term) = $nodes->elected;
    ok(serves(@few), 'afterwards all have one');
}


# What the leader sends does not arrive; then what it is sent.

for my $way ('sends', 'is sent') {
    my @most = others($leader);

    $nodes->cut($way eq 'sends' ? ([$leader], \@most) : (\@most, [$leader]));
    (undef, my $later) = $nodes->elected(\@most);
    cmp_ok($later, '>', $term,
           "what a leader $way is lost: another one leads");
    ok(serves(@most), 'and is written to');
    ok(wait_for(sub { $nodes->idle($leader) }, 20), 'the old one knows none');
    $nodes->heal;
    ($leader, $term) = $nodes->elected;
    ok(serves($nodes->all), 'afterwards all agree');
}


# Two pairs that only the fifth node reaches.

{
    my $bridge = (others($leader))[0];
    my ($a, $b, $c, $d) = others($bridge);

    $nodes->cut([$a, $b], [$c, $d]);
    $nodes->cut([$c, $d], [$a, $b]);
    ok(serves($bridge), 'two halves that one node reaches have a leader');
    $nodes->heal;
    $nodes->elected;
    ok(serves($nodes->all), 'afterwards all agree');
}


# Nobody reaches anybody.

$nodes->part(map { [$_] } $nodes->all);
ok(wait_for(sub { $nodes->idle($_) }, 20), "node $_ is alone") for $nodes->all;
$nodes->heal;
$nodes->elected;

my @keys = $nodes->acknowledged;
cmp_ok(scalar @keys, '>', 0, 'there were writes all the time');
is(join(' ', $nodes->missing(@keys)), '', 'all that was written is there');

$nodes->done;
done_testing();
