# The least there can be: a pool of one thread, a single snapshot.

use strict;
use warnings;

use Test::More;

use KV::Test;

# unless sync=always a snapshot waits for a sync, which must not need the one
# thread that the snapshot is made in

{
    my $s = KV::Test->new(zone => '16m', workers => 1,
                          main => 'thread_pool default threads=1;',
                          kv => 'segment=1m max_value=256k snapshot=1m '
                                . 'sync=off');
    $s->start;
    $s->put("k$_", 'x' x 50_000) for 1 .. 30;
    ok(wait_for(sub { $s->store->{snapshots}{completed} > 0 }, 10),
       'one thread makes a snapshot');
    is($s->put('after', 'x')->{status}, 200, 'and then writes go on');
    my $warns = qr/\[warn\].* 1 thread\(s\) for 1 kv zone\(s\)/;
    is(scalar(() = $s->log =~ /$warns/g), 1, 'the log warns of it');

    # each of four backups takes one, too

    for (5, 6) {
        my $from = length $s->log;
        $s->{main} = "thread_pool default threads=$_;";
        ok(defined $s->reload, "a reload with $_ threads");
        is(scalar(() = substr($s->log, $from)
                       =~ /\[warn\].* thread.* and up to 4 backups/g),
           $_ == 5 ? 1 : 0, $_ == 5 ? 'it warns' : 'it does not');
    }
    $s->done;
}


# with one snapshot, the log from its start is there, too

{
    my $s = KV::Test->new(zone => '16m', kv => 'segment=1m max_value=256k '
                                               . 'snapshot=1m');
    $s->start;
    $s->put("k$_", "$_" x 50_000) for 1 .. 9;
    $s->put("m$_", 'y' x 50_000) for 1 .. 15;
    ok(wait_for(sub { $s->store->{snapshots}{completed} == 1 }, 10),
       'there is one snapshot');
    $s->stop;

    my @snaps = glob("$s->{dir}/data/snap-*.kvs");
    is(scalar @snaps, 1, 'on disk');
    open my $f, '+<', $snaps[0] or die "$snaps[0]: $!";
    seek($f, 1000, 0);
    print $f 'rotten';
    close $f;

    $s->start;
    is(scalar(grep { $s->get("k$_")->{body} eq "$_" x 50_000 } 1 .. 9), 9,
       'damaged, it is made up for by the log');
    like($s->log, qr/\[warn\].*trying the log alone/, 'which is said');
    $s->done;
}

done_testing();
