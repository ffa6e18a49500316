# A worker dies, and leaves the zone half changed, while all are quitting, so
# that no worker is left to rebuild it: what waits is answered, and nginx ends.

use strict;
use warnings;

use Test::More;

use KV::Test;

KV::Test::with_failpoints();

my $s = KV::Test->new(server => 'add_header Worker $pid always;');
$ENV{KV_FAILPOINT_DIR} = $s->{dir};
$s->expect_log(qr/worker process \d+ exited on signal 9/,
               qr/process that writes the log is not there/);
$s->start;

# uploads on both workers that lack their last byte

my @c = map { $s->connect_to($_) } map { ($_) x 10 } $s->workers;
my $n = 0;

$_->send('PUT /kv/k' . $n++ . " HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n"
         . "\r\n" . 'x' x 9) for @c;
ok($s->has_read, 'uploads are under way on both workers');
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
