# Three nodes on one machine: clients find the one that leads, whichever they
# ask, also when it died, or its process that writes the log stands still.

use strict;
use warnings;

use JSON::PP ();
use Test::More;

use KV::Stream;
use KV::Test;

KV::Test::with_failpoints();

my @ports = map { free_port() } 1 .. 6;
my @nodes = map {
    my $me = $_;
    my $peers = join ',', map { "127.0.0.1:$ports[$_]\@$ports[$_ + 3]" }
                          grep { $_ != $me } 0 .. 2;
    KV::Test->new(zone => '8m', port => $ports[$me],
                  kv => "segment=1m max_value=64k feed=64k
                         cluster=127.0.0.1:$ports[$me] peers=$peers
                         peer_listen=127.0.0.1:$ports[$me + 3]",
                  server => 'location = /cluster/info { kv_cluster main; }
                             location = /watch { kv_watch main; }')
} 0 .. 2;

{
    my ($rc, $out) = $nodes[0]->test_config;
    plan(skip_all => 'no libraft') if $out =~ /come with a later version/;
    is($rc, 0, 'a node') or diag($out);
}

sub info {
    my ($s) = @_;
    my $r = $s->http(GET => '/cluster/info', soft => 1);
    return $r->{status} == 200 ? JSON::PP::decode_json($r->{body}) : {};
}

# The node that all of these say leads, and that says so itself; or nothing.

sub leader {
    my (@of) = @_;
    my %said = map { info($_)->{leader} // '' => 1 } @of;
    my ($leader) = grep { $said{"127.0.0.1:$_->{port}"} } @of;
    return keys %said == 1 && $leader && info($leader)->{role} eq 'leader'
           ? $leader : undef;
}

# A request, sent on to where an answer says, until there is one but 503: its
# status and body, how often it was sent on, and its headers.

sub follow {
    my ($s, $method, $path, %o) = @_;
    my ($r, $n);

    wait_for(sub {
        my $port = $s->{port};
        for ($n = 0; $n < 5; $n++) {
            my $c = KV::Conn->new(port => $port, soft => 1) or return;
            $c->send(KV::Conn::request($method, $path, %o,
                                       headers => [ @{$o{headers} || []},
                                                    'Connection: close' ]));
            $r = eval { $c->response($method) } or return;
            last if $r->{status} != 307;
            ($port) = $r->{headers}{location}
                      =~ m{^http://127\.0\.0\.1:(\d+)\Q$path\E$} or return;
        }
        return $r->{status} != 503;
    }, 30);

    return ($r->{status}, $r->{body}, $n, $r->{headers});
}

$_->launch for @nodes;
my $leader = wait_for(sub { leader(@nodes) }, 30);
ok($leader, 'one leads, and all know it') or BAIL_OUT('no leader');
ok(wait_for(sub { $_->healthy }, 30), 'it is healthy') for @nodes;
is_deeply(info($nodes[0])->{peers},
          [ sort map { "127.0.0.1:$_" } @ports[1, 2] ], 'and knows the others');

for my $i (0 .. 2) {
    is((follow($nodes[$i], PUT => "/kv/k$i", body => "v$i"))[0], 200,
       "a write to node $i");
    is((follow($nodes[$i - 1], GET => "/kv/k$i"))[1], "v$i",
       'is read by way of another');
}


# the leader's process stands still: it answers no more, and another leads

{
    my $watch;
    ok(wait_for(sub {
        $leader = leader(@nodes) or return;
        $watch = KV::Stream->new($leader, path => '/watch?prefix=k');
        return $watch->status == 200;
    }, 30), 'a watch of the leader');

    my ($helper) = $leader->helpers;
    kill('STOP', $helper);
    my @others = grep { $_ != $leader } @nodes;
    my $next = wait_for(sub { leader(@others) }, 30);
    ok($next, 'another leads');
    is((follow($next, PUT => '/kv/k0', body => 'new'))[0], 200,
       'and is written to');
    ok(wait_for(sub { $leader->get('k0')->{status} == 503 }, 30),
       'the one that stands still has no old value');
    my $info = info($leader);
    is("$info->{role} @{[ $info->{leader} // 'none' ]}", 'follower none',
       'and knows no leader');
    isnt($watch->end, 'goes on', 'the watch has ended');

    kill('CONT', $helper);
    ok(wait_for(sub { $leader = leader(@nodes) }, 30),
       'it follows');
    is((follow($_, GET => '/kv/k0'))[1], 'new', 'the new value') for @nodes;
}


# the leader dies

{
    my $term = info($leader)->{term};
    my $etag = (follow($leader, GET => '/kv/k1'))[3]{etag};
    my $dead = $leader;
    $dead->stop('KILL');
    my @others = grep { $_ != $dead } @nodes;
    ok(wait_for(sub { $leader = leader(@others) }, 30), 'another leads');
    cmp_ok(info($leader)->{term}, '>', $term, 'in another term');
    my ($put) = follow($others[0], PUT => '/kv/k1', body => 'newer',
                       headers => [ "If-Match: $etag" ]);
    $put = 200 if $put == 412    # it was told 503, and was done
                  && (follow($others[0], GET => '/kv/k1'))[1] eq 'newer';
    is($put, 200, 'and is written to, by the version that the dead one gave');

    $dead->launch;
    ok(wait_for(sub { $leader = leader(@nodes) }, 30),
       'the dead one is back');
    is((follow($dead, GET => '/kv/k1'))[1], 'newer', 'and sends to the leader');
}

$_->stop('TERM') for @nodes;
done_testing();
