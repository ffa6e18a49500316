# A committer dies when the delete of a key that has expired is in the log: a
# watch has that change once, and so has the log, before and after a restart.

use strict;
use warnings;

use Test::More;

use KV::Changes;
use KV::Stream;
use KV::Test;

KV::Test::with_failpoints();

my $s = KV::Test->new(kv => 'feed=1m',
                      server => 'location = /watch { kv_watch main; }');
$ENV{KV_FAILPOINT_DIR} = $s->{dir};
$s->expect_log(qr/worker process \d+ exited on signal 9/);
$s->start;

my $log = KV::Changes::follow($s->{path});
my $all = 'put first';
my $id;

# What is seen behind the first id, on a stream of which others may be cut off.

sub seen {
    my ($n) = @_;
    my @seen;

    for (1 .. 20) {
        my $w = KV::Stream->new($s, id => $id);
        while (@seen < $n and my $e = $w->next) {
            push @seen, "$e->{event} $e->{key}";
            $id = $w->{id};
        }
        last if @seen == $n;
        sleep 1;
    }
    return join ', ', @seen;
}

$s->put('first', 'x');
my $w = KV::Stream->new($s);
$w->next(0.1) until $w->{id};
my $first = $id = $w->{id};

for my $point (qw(WRITTEN PROMISED)) {
    $s->put("a$point?ttl=1", 'x');
    write_file("$s->{dir}/point.new", "$point 1\n");
    rename("$s->{dir}/point.new", "$s->{dir}/point") or die;
    ok(wait_for(sub { !-e "$s->{dir}/point" }, 20), "$point: it dies");

    # one that dies answers nothing

    ok(wait_for(sub { $s->workers == 2
                      && (eval { $s->store->{expiring} } // 1) == 0 }, 20),
       "$point: the key is deleted");
    $s->put("b$point", 'x');

    my $is = "put a$point, expire a$point, put b$point";
    is(seen(3), $is, "$point: what a watch sees");
    $all .= ", $is";
}

$s->stop('KILL');
$s->start;
$id = $first;
is(join(', ', 'put first', seen(6)), $all, 'nginx has died: the same');

my $last = $s->store->{log}{next_lsn} - 1;
$s->done;
is(join(', ', map { "$_->[1] $_->[2]" } KV::Changes::until($log, $last)), $all,
   'and so has the log');

done_testing();
