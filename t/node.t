# A node of a cluster, as clients see it: /cluster/info; the other nodes that
# kv_zone names, and what is wrong with them.

use strict;
use warnings;

use JSON::PP ();
use Test::More;

use KV::Test;

# Only such a build takes peers= yet, and where libraft is.

my $users = $ENV{KV_MODULE} // '.build/ngx_http_kv_module.so';
KV::Test::with_failpoints();

# Which zone is a node is said here.

delete $ENV{KV_TEST_CLUSTER};

my $INFO = 'location = /cluster/info { kv_cluster main; }';

sub node {
    my ($kv, %o) = @_;
    return KV::Test->new(zone => '8m', server => $INFO, %o,
                         kv => "segment=1m max_value=64k $kv");
}

sub info {
    my ($s) = @_;
    my $r = $s->http(GET => '/cluster/info');
    return $r->{status} == 200 ? JSON::PP::decode_json($r->{body}) : $r;
}

plan(skip_all => 'no libraft')
    if (node('cluster=127.0.0.1:80 peers=127.0.0.2:80', server => '')
        ->test_config)[1] =~ /come with a later version/;

SKIP: {
    skip('the module is that of tests', 2) if $users =~ m{/poison/};
    local $ENV{KV_MODULE} = $users;
    my ($rc, $out) = node('peers=127.0.0.2:80', server => '')->test_config;
    is($rc, 1, 'no other build takes peers=');
    like($out, qr/\[emerg\].*"peers=" and .* come with a later version/,
         'and says so');
}


# what is refused

my $own = 'cluster=127.0.0.1:8080';

for ([ 'peers=127.0.0.2:80', qr/"peers=" does nothing without "cluster="/ ],
     [ "$own peer_listen=127.0.0.1:1", qr/"peer_listen=" does .* "peers="/ ],
     [ 'cluster=localhost:80 peers=127.0.0.2:80',
       qr/cluster=localhost:80 must have an IP address/ ],
     [ 'cluster=127.0.0.1:55536 peers=127.0.0.2:80',
       qr/cluster=127.0.0.1:55536 leaves no port.* set "peer_listen="/ ],
     (map { [ qq($own "peers=$_"), qr/invalid peer "[^"]*": it must be/ ] }
      '', ',', '127.0.0.2', 'localhost:80', '127.0.0.2:80,', '127.0.0.2:80@',
      '127.0.0.2:80@0', '127.0.0.2:80@65536', '127.0.0.2:80@x',
      '127.0.0.2:80@80', '127.0.0.2:80@1@2', '127.0.0.2:55536', '*:80',
      '0.0.0.0:80', 'unix:/x', '127.0.0.2:80/x', '127.0.0.2:80;x',
      'http://127.0.0.2:80', 'user@127.0.0.2:80', '127.0.0.2:80 '),
     (map { [ qq($own peers=127.0.0.2:80 "peer_listen=$_"),
              qr/invalid peer_listen "\Q$_\E": it must be an IP/ ] }
      '', '18080', 'localhost:80', '127.0.0.1:8080', '*:80', 'unix:/x'),
     [ "$own peers=127.0.0.2:80,127.0.0.1:8080",
       qr/peer "127.0.0.1:8080" is this node itself/ ],
     [ "$own peers=127.0.0.1:80\@18080",
       qr/peer "127.0.0.1:80" is this node itself/ ],
     [ "cluster=[::1]:80 peers=[0:0::1]:80",
       qr/peer "\[::1\]:80" is this node itself/ ],
     [ "$own peers=127.0.0.2:80,127.0.0.3:80,127.0.0.2:080",
       qr/peer "127.0.0.2:80" is given twice/ ],
     [ "$own peers=127.0.0.2:80,127.0.0.2:81\@10080",
       qr/peer "127.0.0.2:81" is given twice/ ],
     [ "$own peers=" . join(',', map { "127.0.0.1$_:80" } 1 .. 9),
       qr/at most 9 nodes, this one and 8/ ])
{
    my ($kv, $said) = @$_;
    my ($rc, $out) = node($kv, server => '')->test_config;
    is($rc, 1, "refused: $kv");
    like($out, qr/\[emerg\].* $said.* in \S+:\d+$/m, 'which is said');
}

for ([ 'not a node', node('', server => $INFO),
       qr/"kv_cluster" needs a zone that is a node .* "main", in \S+:\d+$/m ],
     [ 'a parameter', node($own, server => $INFO =~ s/main/main prefix=a/r),
       qr/invalid parameter "prefix=a" of "kv_cluster": it takes none/ ],
     [ 'two zones at one address', node("$own peers=127.0.0.2:80", http =>
       "kv_zone zone=b:8m path=%%dir%%/b cluster=127.0.0.1:80
            peers=127.0.0.2:81 peer_listen=127.0.0.1:18080;"),
       qr/"main" listens for its nodes at 127.0.0.1:18080, too/ ])
{
    my ($name, $s, $said) = @$_;
    my ($rc, $out) = $s->test_config;
    is($rc, 1, "refused: $name");
    like($out, $said, 'which is said');
}

{
    my $eight = join ',', map { "127.0.0.1$_:80" } 1 .. 8;
    my ($rc, $out) = node("$own peers=$eight")->test_config;
    is($rc, 0, 'nine nodes are taken') or diag($out);
    unlike($out, qr/\[warn\]/, 'silently');
    ($rc, $out) = node("$own peers=127.0.0.2:80 peer_listen=127.0.0.1:7")
                  ->test_config;
    is($rc, 0, 'two as well') or diag($out);
    like($out, qr/\[warn\].*of 2 nodes no more may fail than of one of 1:/,
         'with a warning');
}


# a node alone

my $s = node('cluster=127.0.0.1:%%port%%')->start;
my $me = "127.0.0.1:$s->{port}";

{
    my $r = $s->http(GET => '/cluster/info');
    is($r->{status}, 200, 'its state');
    is($r->{headers}{'content-type'}, 'application/json', 'is JSON');
    is($r->{headers}{'cache-control'}, 'no-store', 'for no cache');

    ok(wait_for(sub { info($s)->{role} eq 'leader' }, 10),
       'it leads, never written to');
    my $info = info($s);
    my $term = delete $info->{term};
    cmp_ok($term, '>', 0, 'in a term');
    is_deeply($info, { id => $me, role => 'leader', leader => $me,
                       peers => [] }, 'alone');
    is($s->put('a', 'b')->{status}, 200, 'it is written to');

    for ([ 'If-None-Match', '*' ], [ 'If-Match', '"1"' ],
         [ 'If-Unmodified-Since', 'Thu, 01 Jan 1970 00:00:00 GMT' ]) {
        my $said = $s->http(GET => '/cluster/info',
                            headers => [ "$_->[0]: $_->[1]" ]);
        is($said->{status}, 200, "$_->[0] is no question");
    }

    $r = $s->http(HEAD => '/cluster/info');
    is("$r->{status} $r->{body}", '200 ', 'HEAD');
    cmp_ok($r->{headers}{'content-length'}, '>', 60, 'has the length');
    for (qw(PUT POST DELETE)) {
        $r = $s->http($_ => '/cluster/info');
        is("$r->{status} $r->{headers}{allow}", '405 GET, HEAD', $_);
    }

    is($s->stop('TERM'), 0, 'it ends');
    $s->start;
    ok(wait_for(sub { info($s)->{term} > $term }, 10), 'and leads in another');
    my ($helper) = $s->helpers;
    $s->expect_log(qr/exited on signal 9/);
    $term = info($s)->{term};
    kill('KILL', $helper);
    ok(wait_for(sub { info($s)->{term} > $term }, 10),
       'so it does when its process died');
    ok(wait_for(sub { info($s)->{role} eq 'leader' }, 10), 'as the leader');
    $s->done;
}

done_testing();
