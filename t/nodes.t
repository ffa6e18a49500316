# The nodes that tests of a cluster stand on (KV::Nodes): each in a network
# namespace of its own, where they can be made.  Here each is a cluster of one.

use strict;
use warnings;

use IO::Socket::INET;
use Socket qw(inet_aton pack_sockaddr_in);
use Test::More;

use KV::Nodes;
use KV::Test;

KV::Test::with_failpoints();

my $nodes = KV::Nodes->new(n => 3, alone => 1, workers => 2);
my $sent = 0;

# Whether the first of them reaches the second: its datagram is there before
# the one that a client sends behind it, or is lost without a word.

my @sockets = (IO::Socket::INET->new(Proto => 'udp'), map {
    my $ip = KV::Nodes::ip_of($_);
    $nodes->within($_, sub {
        IO::Socket::INET->new(Proto => 'udp', LocalAddr => $ip, LocalPort => 7);
    }) or die "$ip: $!";
} $nodes->all);

sub reaches {
    my ($from, $to) = @_;
    my $there = pack_sockaddr_in(7, inet_aton(KV::Nodes::ip_of($to)));
    my $number = ++$sent;
    my $came = 0;

    for ($from, 0) {
        defined $sockets[$_]->send("$_ $number", 0, $there) or die "send: $!";
    }

    while (1) {
        vec(my $r = '', fileno $sockets[$to], 1) = 1;
        select($r, undef, undef, 60) or die "no datagram of a client\n";
        $sockets[$to]->recv(my $said, 100);
        return $came if $said eq "0 $number";
        $came = 1 if $said eq "$from $number";
    }
}

sub ways {
    my ($i, $j) = @_;
    return join ' ', reaches($i, $j), reaches($j, $i);
}

# On a busy machine one may overtake another.

sub connected {
    my ($i, $j) = @_;
    return wait_for(sub { ways($i, $j) eq '1 1' }, 10);
}

ok(connected(1, 2), 'nodes reach each other');
$nodes->cut([1], [2]);
is(reaches(1, 2), 0, 'one way is cut');
ok(wait_for(sub { reaches(2, 1) }, 10), 'the other is not');
$nodes->part([1, 2], [3]);
ok(connected(1, 2), 'a part of them');
is(ways(1, 3), '0 0', 'is cut off from the other');
$nodes->heal;
ok(connected(1, 3), 'and no longer');


# Clients reach all of them, at all times.

$nodes->start;
$nodes->part([1], [2], [3]);

for my $i ($nodes->all) {
    my $r = $nodes->node($i)->put("k$i", "v$i");
    is($r->{status}, 200, "a write to node $i");
    my $info = wait_for(sub { $nodes->info($i) }, 10);
    is($info->{id}, "10.0.42.10$i:8080", 'which knows its address');
    is("$info->{role} $info->{leader}", "leader $info->{id}", 'and leads');
}

$nodes->freeze(2);
my $c = $nodes->node(2)->connect;
$c->send(KV::Conn::request(GET => '/kv/k2'));
ok($c->silent(0.3), 'one that is stopped says nothing');
is($nodes->info(2, 0.3), undef, 'whatever it is asked');
$nodes->thaw(2);
is($c->response->{body}, 'v2', 'and goes on');

is($nodes->node(1)->stop('KILL'), 137, 'one is killed');
is($nodes->info(1), undef, 'and gone');
$nodes->start(1);
is($nodes->node(1)->get('k1')->{body}, 'v1', 'and comes again');

$nodes->done;
done_testing();
