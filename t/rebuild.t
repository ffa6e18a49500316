# The zone is rebuilt while many requests wait whose end leads back to the
# store: each is answered, and none of them begins to give up the others.

use strict;
use warnings;

use Test::More;

use KV::Test;

KV::Test::with_failpoints();

# Every DELETE that has ended is followed by another of the same worker's, but
# for one of each, which is logged.  With so small a stack what nests for each
# of them does not get far.

my $s = KV::Test->new(kv => 'delay=10s batch=801',
                      http => 'log_format kv "$status $kv_result "
                                             "$kv_wait_time";',
                      server => 'add_header Worker $pid always;
                                 location /other/ {
                                     kv main;
                                     access_log %%dir%%/kv.log kv;
                                 }
                                 location /after/ { internal; kv main; }',
                      location => 'post_action /after/k;');
my $wrapper = "$s->{dir}/small";

write_file($wrapper, "#!/bin/sh\nulimit -s 128\nexec " . KV::Test::nginx()
                     . ' "$@"' . "\n");
chmod 0755, $wrapper;

$ENV{KV_NGINX} = $wrapper;
$ENV{KV_FAILPOINT_DIR} = $s->{dir};
$s->expect_log(qr/worker process \d+ exited on signal 9/);
$s->start;

my (@c, @others, %on);

# one of them may have no processor for a while

wait_for(sub {
    my $c = $s->connect;
    $c->send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    my $worker = $c->response('GET')->{headers}{worker};
    push @c, $c if $on{$worker}++ < 400;
    push @others, $c if $on{$worker} == 1;
    return @c == 800;
}, 20, 0.0001);

is(scalar @c, 800, 'both workers have clients');

$s->http(GET => '/kv/none') for 1 .. 3;
wait_for(sub { ($s->stats->{routes}{kv}{GET}{requests} // 0) == 3 }, 10);
my $before = $s->stats;

for my $c (@c) {
    my $path = (grep { $_ == $c } @others) ? '/other/k' : '/kv/k';
    $c->send("DELETE $path HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
}
$s->has_read;

write_file("$s->{dir}/point.new", "LINKED 1\n");
rename("$s->{dir}/point.new", "$s->{dir}/point") or die;

# no batch has begun: this completes it

$s->put('last', 'x', soft => 1);

my %answers;

for my $c (@c) {
    my $r = eval { $c->response('DELETE', 20) };
    $answers{$r ? $r->{status} : $c->{eof} ? 'ended' : 'none'}++;
}

is($answers{none}, undef, 'every client is told');
cmp_ok($answers{503} || 0, '>=', 400, 'those on the worker that lives get 503')
    or diag(join ', ', map { "$_: $answers{$_}" } sort keys %answers);
ok(wait_for(sub {
       read_file("$s->{dir}/kv.log") =~ /^503 failed \d+\.\d{3}$/m
   }, 20), 'and the log says how long one of them has waited');
ok(wait_for(sub { $s->healthy }, 20), 'the store is back');
is($s->put('a', 'b')->{status}, 200, 'and takes writes');

{
    my $after = $s->stats;
    my ($was, $is) = map { $_->{store} } $before, $after;

    is($is->{recovery}{rebuilds}, 1, 'it was rebuilt once');
    cmp_ok($is->{recovery}{last}, '>=', $was->{recovery}{last}, 'and later');
    is($after->{routes}{kv}{GET}{requests}, 3, 'requests stay counted');
    cmp_ok($is->{log}{bytes}, '>', $was->{log}{bytes}, 'so do bytes');
    cmp_ok($is->{commit}{batch}{histogram}{total}, '>',
           $was->{commit}{batch}{histogram}{total}, 'and batches');
}

$s->done;


# What is read back lacks acknowledged writes: the log was deleted meanwhile,
# and nothing on the disk tells of it.  What is left is not served as if it were
# all.

delete $ENV{KV_NGINX};
$s = KV::Test->new(kv => 'segment=1m max_value=64k',
                   http => 'kv_get k1 $k1 zone=main default=unknown;',
                   server => 'location = /k1 { return 200 $k1; }');
$ENV{KV_FAILPOINT_DIR} = $s->{dir};
$s->expect_log(qr{worker process \d+ exited on signal 9},
               qr{cannot be rebuilt: the log});
$s->start;
is($s->put("k$_", "v$_")->{status}, 200, "write $_") for 1 .. 3;
is($s->http(GET => '/k1')->{body}, 'v1', 'a variable has a value');
ok(unlink(glob "$s->{path}/log-*.kvl"), 'the log is deleted');

write_file("$s->{dir}/point.new", "HEAP_ALLOC 1\n");
rename("$s->{dir}/point.new", "$s->{dir}/point") or die;

$s->http(PUT => '/kv/k4', body => 'v4', soft => 1);
ok(wait_for(sub { $s->store->{state} eq 'failed' }, 20), 'the store has failed')
    or diag($s->store->{state});
is($s->get('k1')->{status}, 503, 'no read says that the key is not there');
is($s->http(GET => '/k1')->{body}, 'unknown', 'a variable has its default');
is($s->stats->{variables}{failed}, 1, 'which is counted');
like($s->log, qr/kv zone "main" cannot be read now: variables of "kv_get" have/,
     'and logged');
like($s->log, qr/ends with LSN 0, but writes up to 3 were acknowledged/,
     'the log says what is missing');
$s->done;
done_testing();
