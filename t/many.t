# Many stores and many workers: what they take of the descriptors that a
# process may have.

use strict;
use warnings;

use Test::More;

use KV::Test;


# An nginx that may have no more than 1,024 descriptors, with that many stores.

sub many {
    my ($stores, $workers, @o) = @_;
    my $s = KV::Test->new(workers => $workers, zone => '8m', files => 1024,
                          kv => 'segment=1m max_value=64k',
                          connections => 256, @o);
    my $wrapper = "$s->{dir}/limited";

    write_file($wrapper, "#!/bin/sh\nulimit -n 1024\nexec "
                         . KV::Test::nginx() . ' "$@"' . "\n");
    chmod 0755, $wrapper;

    for (2 .. $stores) {
        $s->{http} .= "kv_zone zone=s$_:8m path=%%dir%%/s$_ segment=1m
                       max_value=64k;\n";
        $s->{server} .= "location /s$_/ { kv s$_; }\n";
    }

    local $ENV{KV_NGINX} = $wrapper;
    $s->start;
    return $s;
}

sub descriptors { my @fds = glob "/proc/$_[0]/fd/*"; scalar @fds }

sub most { (sort { $b <=> $a } map { descriptors($_) } @_)[0] }


# Puts to each store, some at a time, from many connections: how many fail.

sub bad {
    my ($s, $stores, $rounds) = @_;
    my $bad = 0;

    for my $round (1 .. $rounds) {
        my @paths = ('/kv/', map { "/s$_/" } 2 .. $stores);
        my @c = map { my $c = $s->connect;
                      $c->send(KV::Conn::request(PUT => "$_$round",
                                                 body => "$_$round"));
                      $c } @paths;
        $bad += grep { ($_->response || { status => 0 })->{status} != 200 } @c;
        $bad += grep { $s->http(GET => "$_$round")->{body} ne "$_$round" }
                @paths;
    }

    return $bad;
}


{
    my $s = many(20, 2);
    is(bad($s, 20, 5), 0, '20 stores: all take writes');
    cmp_ok(most($s->{pid}, $s->workers), '<', 250,
           '20 stores take few descriptors');
    ok(defined $s->reload, '20 stores: a reload');
    is(bad($s, 20, 5), 0, '20 stores: all take writes after it');
    cmp_ok(most($s->{pid}, $s->workers), '<', 250, '20 stores: and no more');
    $s->done;
}

{
    my $s = many(4, 64);
    ok(wait_for(sub { 64 == (() = $s->workers) }, 20), '64 workers start');
    is(bad($s, 4, 20), 0, '64 workers: all stores take writes');
    cmp_ok(most($s->{pid}, $s->workers), '<', 400,
           '64 workers take few descriptors');
    $s->done;
}

done_testing();
