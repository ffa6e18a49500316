# Many reloads while requests that are none of ours last: old workers take
# nothing from the new ones, and can still serve.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep);

use KV::Load;
use KV::Test;

my $s = KV::Test->new(zone => '32m', fault => 1,
                      http => 'kv_get v $v zone=main default=none;',
                      server => 'client_header_timeout 600s;
                                 location = /v { return 200 $v; }',
                      kv => 'segment=1m max_value=256k snapshot=64k');
$s->expect_log(qr/worker process \d+ exited on signal 9/);
$s->start;


# Connections whose requests do not come to an end, one to each worker at least
# (as likely as may be).

sub unfinished {
    my ($n) = @_;
    return map { my $c = $s->connect;
                 $c->send("PUT /kv/late HTTP/1.1\r\nHost: x\r\n");
                 $c } 1 .. $n;
}


# A reload that does not wait for the old workers.

sub next_generation {
    my %old = map { $_ => 1 } $s->workers;
    kill('HUP', $s->{pid});
    return wait_for(sub { $s->{workers} == grep { !$old{$_} } $s->workers }, 10)
}


# more generations than there are places for

{
    my (@held, $failed, $reloads);
    my $reader = $s->connect;
    $reader->send("GET /v HTTP/1.1\r\nHost: x\r\n");
    $s->put('v', 'value');

    # some of those that are there now may have no client, and be about to go

    while ($s->workers < 44 && ++$reloads <= 60) {
        push @held, unfinished(8);
        $s->get('x') for 1 .. 4;
        $failed++ unless next_generation();
        $failed++ if $s->put("r$reloads", $reloads)->{status} != 200
                  || $s->get("r$reloads")->{body} ne $reloads;
    }

    cmp_ok(scalar(() = $s->workers), '>=', 40,
           'there are more workers, of many generations, than places');
    ok(!$failed, 'each generation takes writes and gives them back');

    my @c = map { $s->connect } 1 .. 40;
    $c[$_]->send(KV::Conn::request(PUT => "/kv/many$_", body => "many$_"))
        for 0 .. $#c;
    is(scalar(grep { $_->response->{status} == 200 } @c), 40,
       'so do all workers of the newest');

    # an old one takes a place again when it needs one, and gives it back

    my $bad = 0;
    for my $c (@held[grep { $_ % 2 } 0 .. $#held]) {
        $c->send("Content-Length: 4\r\n\r\nlate");
        my $r = $c->response || { status => 0 };
        $bad++, diag("$r->{status} $r->{body}") if $r->{status} != 200;
    }

    is($bad, 0, 'an old worker still takes a write');
    is($s->get('late')->{body}, 'late', 'which the new ones see');

    $reader->send("\r\n");
    is($reader->response('GET')->{body}, 'value', 'or reads a variable');

    # committers die while they change the map, until the zone is rebuilt: all
    # must let go of it, those among them that not everybody can wake

    my @writers = map { KV::Load->writers($s, name => "d$_",
                                          connections => 24, keys => 5) } 1, 2;
    my ($rebuilds, $round, $back) = (0, 0, 1);

    while ($back && !$rebuilds && $round++ < 100) {
        $s->dies_behind_sync(5);
        $back = wait_for(sub { $s->put('back', 'x', soft => 1, timeout => 5)
                                   ->{status} == 200 }, 10);
        $rebuilds = $s->store->{recovery}{rebuilds} if $back;
    }

    my @errors = map { @{$_->stop->{errors}} } @writers;
    cmp_ok($rebuilds, '>', 0, 'the zone is rebuilt among them');
    is(scalar @errors, 0, 'and nothing lost')
        or diag(join "\n", splice @errors, 0, 10);

    @held = ();
    ok(wait_for(sub { 2 == (() = $s->workers) }, 20), 'then the old ones go');
}


# a snapshot that is given up for a reload, while it waits for a slow sync, is
# made by a worker that stays; the old workers do not spin until it is made

{
    my @held = unfinished(8);
    $s->get('x') for 1 .. 4;
    $s->clear;

    # from now on one of each write or two

    ok(wait_for(sub { $s->put('slow', 'x' x 200_000);
                      my $last = $s->store->{snapshots}{last_bytes};
                      return $last > 200_000 && $last < 300_000 }, 20),
       'snapshots of little');
    $s->fault(slow => 400);

    my $before;
    ok(wait_for(sub { my $now = $s->store->{snapshots};
                      my $same = $before
                                 && $now->{completed} == $before->{completed};
                      $before = $now;
                      return $same }, 10, 0.3), 'no snapshot is being made');

    my @c = map { my $c = $s->connect;
                  $c->send(KV::Conn::request(PUT => '/kv/slow',
                                             body => 'x' x 200_000));
                  sleep(0.2);
                  $c } 1 .. 5;
    ok(next_generation(), 'a reload while one is made');
    is(scalar(grep { $_->response->{status} == 200 } @c), 5,
       'what was written meanwhile is answered');
    $s->fault(slow => undef);

    my @old = sort { $a <=> $b } $s->workers;
    splice @old, -$s->{workers};
    cmp_ok(scalar @old, '>', 0, 'old workers wait for requests of others');

    my ($busy, $woken) = busy(@old);
    cmp_ok($busy, '<', 0.3, 'and sleep meanwhile');
    cmp_ok($woken, '<', 100, 'without being woken all the time');

    # what was being written when it began is in the log after it

    ok(wait_for(sub { my $now = $s->store;
                      my $made = $now->{snapshots};
                      return $made->{last_lsn} > $now->{log}{next_lsn} - 6
                             && $made->{log_bytes} <= $made->{last_bytes};
                    }, 10), 'the snapshot is made');

    @held = @c = ();
    wait_for(sub { 2 == (() = $s->workers) }, 20);
}

$s->done;
done_testing();
