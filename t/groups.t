# Groups of writes, POST /batch and DELETE /keys: what they take of the zone,
# and what becomes of others meanwhile.

use strict;
use warnings;

use JSON::PP ();
use Test::More;
use Time::HiRes qw(sleep time);

use KV::Test;


sub line { return JSON::PP->new->utf8->canonical->encode({@_}) . "\n" }
sub batch { return KV::Conn::request(POST => '/batch', body => join '', @_) }
sub answer { my $r = $_[0]->response; return "$r->{status} $r->{body}" }

# Writes of one value under as many keys as it takes to fill the zone; how many.

sub fill {
    my ($s, $len) = @_;
    my ($c, $n, $full) = ($s->connect, 0, 0);
    my $value = 'v' x $len;

    while (!$full) {
        $c->send(join '', map { KV::Conn::request(PUT => "/kv/full" . ($n + $_),
                                                  body => $value) } 0 .. 49);
        for (1 .. 50) {
            my $r = $c->response;
            $full++ if !$r || $r->{status} != 200;
            last if !$r;                 # refused before its body was there
        }
        $n += 50;
    }

    return $n;
}


# ---- batches that wait for memory, which the committer cannot give: it waits
# for its disk

{
    my $s = KV::Test->new(zone => '32m', fault => 1,
                          kv => 'max_value=1m list=on');
    $s->start;
    fill($s, 60_000);

    my $key = 'k' x 1000;
    my @deletes = map { line(op => 'delete', key => "$key$_") } 1 .. 60;

    $s->fault(hold => 1);
    my $held = $s->written(DELETE => '/kv/full1');

    # that there is no memory is believed for a second, and then asked anew

    my $put = KV::Conn::request(PUT => '/kv/waits', body => 'v' x 60_000);
    my @p;
    ok(wait_for(sub { push @p, $s->connect; $p[-1]->send($put);
                      return $s->has_read && $p[-1]->silent(0.1) }, 10),
       'a put waits');
    my $used = $s->used;

    # in vain: there is no memory for what follows the deletes

    my @c = map { $s->connect } 1 .. 20;
    $_->send(batch(@deletes, map { line(key => "new$_", value => 'v' x 60_000) }
                                 1 .. 10)) for @c;
    ok($s->has_read, 'batches in a full zone');

    # those that try again have some of it for a moment; and of the record of
    # each operation, 64 bytes, a worker keeps what it had at once

    sleep(0.2);
    ok(wait_for(sub { $s->used - $used < 200_000 }, 10, 0.02),
       'they wait, and hold nothing');

    my @d = map { $s->connect } 1 .. 4;
    $d[$_]->send(KV::Conn::request(DELETE => '/kv/' . 'x' x (300 * $_ + 1)))
        for 0 .. 3;
    $s->fault(hold => undef);

    is(answer($held), '200 ', 'a delete before them');
    is(answer($_), '200 ', 'and one behind them') for @d;
    is((grep { answer($_) =~ /^507 .*zone is full/ } @c) + 0, 20,
       'the batches are refused');
    is($s->put('full6', 'v' x 10)->{status}, 200, 'writes go on');

    $s->done;
}


# ---- bulk loads of deletes, while the disk hangs: single ones may need memory

{
    my $s = KV::Test->new(zone => '8m', fault => 1);
    $s->start;
    fill($s, 60_000);

    my $key = 'k' x 1000;
    my $load = KV::Conn::request(POST => '/bulk', body => join '', map {
        line(op => 'delete', key => "$key$_") } 1 .. 500);

    $s->fault(hold => 1);
    my $held = $s->written(DELETE => '/kv/full1');
    my @c = map { $s->connect } 1 .. 6;
    $_->send($load) for @c;

    my $begun = time;
    my $least = 100;
    while (time < $begun + 0.5) {
        my $free = $s->store->{zone}{free_pages};
        $least = $free if $free < $least;
        sleep(0.02);
    }
    cmp_ok($least, '>=', 2, 'the last pages stay free');

    $s->fault(hold => undef);
    is(answer($held), '200 ', 'the delete before them');
    is((grep { answer($_) =~ /^200 .*500/ } @c) + 0, 6, 'all are done');
    $s->done;
}


# ---- many bulk loads, while the disk hangs: they take a part of what is free

{
    my $s = KV::Test->new(zone => '32m', fault => 1, workers => 1);
    $s->start;
    $s->put('a', 'x');

    my $value = 'v' x 15_000;
    my $load = KV::Conn::request(POST => '/bulk', body => join '', map {
        line(key => "load$_", value => $value) } 1 .. 30);

    $s->fault(hold => 1);
    my $held = $s->written(DELETE => '/kv/none');
    my $used = $s->used;
    my @c = map { $s->connect } 1 .. 150;
    $_->send($load) for @c;

    my $taken = 0;
    ok(wait_for(sub { my $was = $taken;
                      $taken = $s->used - $used;
                      return $taken > 4_000_000 && $taken == $was }, 10, 0.3),
       'many loads, none of which can go on');
    cmp_ok($taken, '<', 15_000_000, 'they leave memory to others');

    my $p = $s->connect;
    $p->send(KV::Conn::request(PUT => '/kv/large', body => 'v' x 5_000_000));
    ok(wait_for(sub { $s->used > $used + $taken + 5_000_000 }, 10),
       'a large value has all of its memory');

    $s->fault(hold => undef);
    is(answer($held), '200 ', 'the delete before them');
    is(answer($p), '200 ', 'the large value is stored');
    is((grep { answer($_) =~ /^200 .*30/ } @c) + 0, 150, 'all loads are done');
    $s->done;
}


# ---- a full zone: where only compaction helps, and deletes

{
    my $s = KV::Test->new(zone => '8m', kv => 'max_value=64k list=on',
                          server => 'location = /keys { kv_keys main; }');
    $s->start;

    # with a time of expiry such a value needs an object of the next size

    my $n = fill($s, 4070);
    my $c = $s->connect;

    # none of the pages comes free by this

    my @gone = grep { $_ % 6 == 0 } 0 .. $n - 1;
    $c->send(join '', map { KV::Conn::request(DELETE => "/kv/full$_") } @gone);
    is((grep { $c->response->{status} == 200 } @gone) + 0, @gone + 0,
       'a zone with holes');

    # a page for each

    $c->send(batch(map { line(op => 'incr', key => 'n' x $_, by => 5) }
                       300, 700, 1500));
    like(answer($c), qr/^200 (?:.*"value":"5"){3}/, 'increments');

    $c->send(batch(map { line(op => 'touch', key => "full$_", ttl => 1000) }
                       grep { $_ % 6 } 1 .. 50));
    like(answer($c), qr/^200 /, 'touches, which copy values');
    like($s->get('full1')->{headers}{'cache-control'}, qr/max-age/,
         'they expire');

    fill($s, 4070);
    $c->send(batch(map { line(op => 'delete', key => "full$_") } 0 .. 1023));
    like(answer($c), qr/^200 /, 'a batch of deletes');
    fill($s, 4070);
    $c->send(KV::Conn::request(DELETE => '/keys?prefix=full10&max=1024'));
    like(answer($c), qr/^200 \d+$/, 'all keys that begin alike');

    $s->done;
}


# ---- writes with conditions that the committer cannot check, beside groups
# that are just becoming visible: what is there cannot be told then

{
    my $s = KV::Test->new(kv => 'sync=off');
    $s->start;

    my $c = $s->connect;
    my @o = map { $s->connect } 1 .. 8;
    my @if = map { [ "If-Match: $_" ] } '"1-1", "2-2"', '"another-server"';
    my $batch = batch(map { line(key => "b$_", value => 'v') } 1 .. 1000);
    my %n;

    for (1 .. 40) {
        my @p = map { $s->connect } 1 .. 8;
        $c->send($batch);

        for my $i (0 .. 7) {
            my @other = $i & 2 ? (POST => '/kv/none?incr=1')
                               : (DELETE => '/kv/none');
            $o[$i]->send(KV::Conn::request(@other,
                                           headers => $if[$i & 1]) x 20);
            $p[$i]->send(KV::Conn::request(PUT => '/kv/none', body => 'x',
                                           headers => $if[$i & 1]));
        }

        $n{$_->response->{status}}++ for $c, (map { ($_) x 20 } @o), @p;
    }

    is_deeply(\%n, { 200 => 40, 412 => 40 * 168 }, 'each is decided')
        or diag(explain(\%n));
    $s->done;
}

done_testing();
