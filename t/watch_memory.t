# What waits for slow clients takes a share of memory, not more for each of
# them: those that have taken nothing for the longest time are cut off.

use strict;
use warnings;

use Test::More;

use KV::Stream;
use KV::Test;

# what waits in sockets does not count: of 200 KB, that is 40 KB at most

my $s = KV::Test->new(
    kv => 'feed=1m', slow_port => free_port(),
    server => 'listen 127.0.0.1:%%slow_port%% sndbuf=4k;
               location = /watch { kv_watch main; }');

$s->start;

sub slow {
    return KV::Stream->new($s, port => $s->{slow_port}, raw => 1,
                           rcvbuf => 16_384);
}

sub watching { return $s->store->{watching} }

# Some 200 KB of keys.

my $n = 0;

sub flood {
    $s->http(POST => '/bulk', body => join '', map {
        sprintf qq({"key":"k%06d%s","value":"x"}\n), ++$n, 'y' x 4000
    } 1 .. 50);
    $s->put('end', 'x');
}

# How many of these come before the end.

sub before_end {
    my ($w) = @_;
    my $got = 0;

    while (my $e = $w->next) {
        return $got if $e->{data} =~ /"key":"end"/;
        $got++;
    }
    return "$got and no end";
}


# of these all wait in two workers for more than the feed has

my $fast = KV::Stream->new($s, raw => 1);
my @slow = map { slow() } 1 .. 48;
is(watching(), 49, 'some watch');
flood();
is(before_end($fast), 50, 'who takes all gets all');

my $is;
ok(wait_for(sub { ($is = watching()) <= 1 + 40 }, 10), 'some are cut')
    or diag("$is are left");

# until each worker has cut its own

my @left = grep { before_end($_) eq 50 } @slow;
ok(wait_for(sub { ($is = watching()) == 1 + @left }, 10),
   'the others get what waited') or diag("$is are left");
cmp_ok($is, '>=', 8, 'not all are cut');


# and none if all take what there is, however much

my $id = (grep { $_->{ended} } @slow)[0]{id};
@slow = ();
@left = splice @left, 0, 3;
ok(wait_for(sub { ($is = watching()) == 4 }, 10), 'three of them stay')
    or diag($is);

for my $round (1 .. 4) {
    flood();
    is(before_end($_), 50, "round $round: all is taken") for @left;
}
$fast = undef;
ok(wait_for(sub { ($is = watching()) == 3 }, 10), 'and none is cut')
    or diag($is);


# who was cut goes on from the last id

@left = ();
my $w = KV::Stream->new($s, id => $id);
is($w->status, 200, 'who was cut goes on');

$s->done;
done_testing();
