# A worker dies, and leaves the zone half changed, while all are quitting, so
# that no worker is left to rebuild it: what waits is answered, and nginx ends.

use strict;
use warnings;

use Test::More;

use KV::Test;

KV::Test::with_failpoints();

my $s = KV::Test->new(server => 'add_header Worker $pid always;');
$ENV{KV_FAILPOINT_DIR} = $s->{dir};
$s->expect_log(qr/worker process \d+ exited on signal 9/);
$s->start;

# uploads on both workers that lack their last byte

my (@c, %on);

for my $i (1 .. 500) {
    my $c = $s->connect;
    $c->send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    my $worker = $c->response('GET')->{headers}{worker};
    next if $on{$worker}++ >= 10;
    $c->send("PUT /kv/k$i HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
             . 'x' x 9);
    push @c, $c;
    last if @c == 20;
}

is(scalar keys %on, 2, 'uploads are under way on both workers');
ok($s->has_read, 'and were seen');
is($s->put('a', 'b')->{status}, 200, 'beside another write');

kill 'QUIT', $s->{pid};
ok(wait_for(sub { !eval { $s->connect } }, 10), 'no worker listens any more');

write_file("$s->{dir}/point.new", "LINKED 1\n");
rename("$s->{dir}/point.new", "$s->{dir}/point") or die;

$_->send('x') for @c;

my (%answers, $left);

for my $c (@c) {
    my $r = eval { $c->response('PUT', $left // 30) };
    $left = 0.1 if !$r && !$c->{eof};
    $answers{$r ? $r->{status} : $c->{eof} ? 'ended' : 'none'}++;
}

is($answers{none}, undef, 'every client is told')
    or diag(join ', ', map { "$_: $answers{$_}" } sort keys %answers);
cmp_ok($answers{503} || 0, '>', 0, 'those that wait for the dead one, too');
is($s->wait_exit, 0, 'nginx ends');
$s->check_log;
done_testing();
