# Histories of concurrent GET, PUT, DELETE and CLEAR, with conditions (If-Match,
# If-None-Match) and without, are linearizable, while workers die, committers at
# failpoints (src/base/kv_failpoint.h) among them, and while the server is
# reloaded and dies as a whole.  So are increments, batches, and keys that
# expire.  Watches of all keys have the order of these histories, with each
# change once.
#
# First the checker (KV::Linear) is checked, by histories whose answer is known
# and by comparison with a search through all orders.  KV_ROUNDS says how many
# long histories are recorded and proved; KV_SEED makes the same requests (not
# the same history) again.
#
# Where writes never cease, a lost one is soon written over and hard to see.
# So all clients keep the same beat: a while of many writes, at whose end things
# happen to the server, then a while of many reads and few writes.  And some
# keys are written often, others less.

use strict;
use warnings;

use List::Util qw(max shuffle sum);
use Test::More;
use Time::HiRes qw(clock_gettime sleep CLOCK_MONOTONIC);

use KV::Linear;
use KV::Load;
use KV::Stream;
use KV::Test;

my $ROUNDS = $ENV{KV_ROUNDS} || 1;
my $SEED = $ENV{KV_SEED} || 1 + int rand 1_000_000;

srand($SEED);


# ---- the checker


# A history of key k in short: "put1 0 3" from 0 to 3, "get 4 5" finds nothing,
# "put2 6 -" was never answered; "put3<2 7 8" is put if 2 is there, "put4! 9 9"
# if nothing is.

sub history {
    return [ map { /^([a-z]+)(\d*)(?:<(\d+)|(!))? (\S+) (\S+)$/ or die;
                   [ $1, $1 eq 'clear' ? undef : 'k', length $2 ? $2 : undef,
                     $5, $6 eq '-' ? undef : $6, $4 ? 'none' : $3 ]
                 } split /, */, $_[0] ];
}

my @good = (
    [ 'one after the other',
      'get 0 1, put1 2 3, get1 4 5, put2 6 7, get2 8 9, del 10 11, get 12 13' ],
    [ 'seen before it is answered',
      'put1 0 9, get1 2 3, get1 4 5' ],
    [ 'not seen before it is answered',
      'put1 0 9, get 2 3, get1 4 5' ],
    [ 'two puts at once, the one first, then the other',
      'put1 0 9, put2 0 9, get2 1 2, get1 3 4, get1 10 11' ],
    [ 'gets at once see both sides of a put',
      'put1 0 1, put2 2 9, get2 3 8, get1 3 8' ],
    [ 'a put that is never answered, and happens late',
      'put1 0 1, put2 2 -, get1 3 4, get1 50 51, get2 60 61' ],
    [ 'a put that is never answered, and never happens',
      'put1 0 1, put2 2 -, get1 99 100' ],
    [ 'a delete that is never answered, and happens late',
      'put1 0 1, del 2 -, get1 3 4, get 50 51' ],
    [ 'one delete for two puts',
      'put1 0 9, put2 0 9, del 0 9, get 10 11' ],
    [ 'nothing between two values, by a delete at the same time',
      'put1 0 1, get1 2 3, del 4 9, get 5 6, put2 7 8, get2 10 11' ],
    [ 'a put that no get sees, between a value and nothing',
      'put1 0 1, put2 2 9, del 3 4, get 5 6, get 10 11' ],
    [ 'a delete must be used early, for a put comes late',
      'put1 0 1, put2 5 20, del 6 7, get 15 16, get2 21 22' ],
    [ 'a clear is a delete',
      'put1 0 1, clear 2 3, get 4 5' ],
    [ 'one of two that race wins, the other has read its value',
      'put1 0 1, put2<1 2 9, get2 2 9, get2 10 11' ],
    [ 'a chain at one instant',
      'put1 0 9, put2<1 0 9, put3<2 0 9, get1 3 4, get3 5 6' ],
    [ 'a chain that others began before, and ended after',
      'put1 0 1, put2<1 2 3, put3<2 4 5, put9 0 8, get9 9 10' ],
    [ 'a write without an answer that another one was for',
      'put1 0 1, put2<1 2 -, put3<2 4 5, get3 6 7' ],
    [ 'created after a delete',
      'put1 0 1, del 2 3, put2! 4 5, get2 6 7' ],
    [ 'created twice, with a delete of which nothing is known',
      'put1! 0 1, del 2 -, put2! 4 5, get2 6 7' ],
    [ 'created, and deleted for that',
      'put1! 0 1, del<1 2 3, put2! 4 5, del<2 6 7, get 8 9' ],
    [ 'created and seen by none, before another value',
      'put1! 0 9, put2 3 4, get2 5 6, del 5 7, get 8 9' ],
    [ 'deleted for a value, and nothing seen before that',
      'put1 0 9, del<1 0 9, get 2 3, get1 4 5, get 10 11' ],
);

my @bad = (
    [ 'a stale read after an acknowledged put',
      'put1 0 1, put2 2 3, get1 4 5', qr/PUT of 2.*still there for GET of 1/ ],
    [ 'a stale read of nothing',
      'put1 0 1, get 2 3', qr/GET of nothing.*PUT of 1/ ],
    [ 'a lost put',
      'put1 0 1, get1 2 3, put2 4 5, get1 6 7', qr/./ ],
    [ 'a put lost to nothing',
      'put1 0 1, put2 2 3, get2 4 5, get 6 7', qr/no DELETE of/ ],
    [ 'a value that was never put',
      'put1 0 1, get7 2 3', qr/never put/ ],
    [ 'a value from the future',
      'get1 0 1, put1 2 3', qr/before PUT of 1/ ],
    [ 'new, then old',
      'put1 0 1, put2 2 9, get2 3 4, get1 5 6', qr/./ ],
    [ 'new, then old, of two puts at once',
      'put1 0 9, put2 0 9, get2 1 2, get1 3 4, get2 5 6', qr/./ ],
    [ 'a delete undone',
      'put1 0 1, del 2 3, get 4 5, get1 6 7', qr/DEL|nothing/ ],
    [ 'a delete without effect',
      'put1 0 1, del 2 3, get1 4 5', qr/DEL/ ],
    [ 'a delete seen, then not, then seen',
      'put1 0 1, del 2 99, get 3 4, get1 5 6, get 7 8', qr/./ ],
    [ 'a delete that happens twice',
      'put1 0 1, del 2 99, get 3 4, put2 5 6, get2 7 8, get 9 10',
      qr/no DELETE of/ ],
    [ 'an unanswered delete that happens twice',
      'put1 0 1, del 2 -, get 3 4, put2 5 6, get 9 10', qr/no DELETE of/ ],
    [ 'an unanswered put that happens twice',
      'put1 0 -, get1 1 2, put2 3 4, get2 5 6, get1 7 8', qr/./ ],
    [ 'two readers that see two orders',
      'put1 0 9, put2 0 9, get1 1 2, get2 3 4, get1 5 6', qr/./ ],
    [ 'a clear without effect',
      'put1 0 1, clear 2 3, get1 4 5', qr/CLEAR/ ],
    [ 'a put inside the span of another value',
      'put1 0 1, put2 3 4, get1 5 6', qr/PUT of 2/ ],
    [ 'two writes for the same value',
      'put1 0 1, put2<1 2 9, put3<1 2 9', qr/both for the same value/ ],
    [ 'a write and a delete for the same value',
      'put1 0 1, put2<1 2 9, del<1 2 9', qr/both for the same value/ ],
    [ 'a write for a value that was written over',
      'put1 0 1, put3 2 3, put2<1 4 5', qr/PUT of 3/ ],
    [ 'a write for a value that was written over, seen by others alone',
      'put1 0 9, put2<1 2 -, put3 2 9, get1 3 4, get3 5 6, get2 7 8', qr/./ ],
    [ 'a write for a value that was deleted',
      'put1 0 1, del 2 3, put2<1 4 5', qr/DEL/ ],
    [ 'a write for a value that comes later',
      'put2<1 0 1, put1 2 3', qr/before PUT of 1/ ],
    [ 'a write for a value that is seen again',
      'put1 0 1, put2<1 2 3, get1 4 5', qr/PUT of 2/ ],
    [ 'a chain whose values are seen in another order',
      'put1 0 9, put2<1 0 9, get2 1 2, get1 3 4', qr/GET of 2.*before/ ],
    [ 'a write for one that was written for it',
      'put1<2 0 9, put2<1 0 9', qr/followed it/ ],
    [ 'a delete for a value that is seen again',
      'put1 0 1, del<1 2 3, get1 4 5', qr/./ ],
    [ 'created where a value is',
      'put1 0 1, put2! 2 3', qr/no DELETE of.*PUT of 1/ ],
    [ 'created twice',
      'put1! 0 9, put2! 0 9', qr/no DELETE of/ ],
    [ 'created thrice with one delete',
      'put1! 0 9, put2! 0 9, put3! 0 9, del 0 9', qr/no DELETE of/ ],
    [ 'created where a value is, and seen',
      'put1 0 1, put2! 2 3, get2 4 5', qr/no DELETE of/ ],
);

for (@good) {
    my ($name, $text) = @$_;
    my @errors = KV::Linear::check(history($text));
    is("@errors", '', "linearizable: $name");
}

for (@bad) {
    my ($name, $text, $why) = @$_;
    my @errors = KV::Linear::check(history($text));
    like("@errors", $why, "not linearizable: $name");
}

# Increments: "+1 0 3" made 1, "=1 4 5" has read it, "+ 0 -" has no answer.

sub counted {
    return [ map { /^([+=])(\d*) (\S+) (\S+)$/ or die;
                   [ $1 eq '+' ? 'incr' : 'get', 'k', length $2 ? $2 : undef,
                     $3, $4 eq '-' ? undef : $4 ] } split /, */, $_[0] ];
}

for ([ 'one after the other', '+1 0 1, =1 2 3, +2 4 5, =2 6 7' ],
     [ 'at once, in any order', '+2 0 9, +1 0 9, +3 0 9, =2 1 2, =2 0 9' ],
     [ 'seen before it is answered', '+1 0 9, =1 2 3' ],
     [ 'nothing yet', '=0 0 9, +1 1 2' ],
     [ 'without an answer, and never done', '+1 0 1, + 2 -, +2 3 4' ],
     [ 'without an answer, and done', '+1 0 1, + 2 -, =1 3 4, +3 5 6' ],
     [ 'without an answer, and seen', '+ 0 -, =1 1 2' ],
     [ 'two of them', '+ 0 -, + 3 -, =1 2 3, =2 4 5' ])
{
    my ($name, $text) = @$_;
    my @errors = KV::Linear::counts(counted($text));
    is("@errors", '', "counted: $name");
}

for ([ 'a sum twice', '+1 0 9, +1 0 9', qr/twice/ ],
     [ 'a sum too early', '+2 0 1, +1 2 3', qr/INCR.*: 1, but INCR.*: 2/ ],
     [ 'a stale read', '+1 0 1, =0 2 3', qr/GET.*: 0, but|INCR.*: 1, but/ ],
     [ 'a read from the future', '=1 0 1, +1 2 3', qr/but/ ],
     [ 'two readers that see two orders', '+1 0 9, =1 1 2, =0 3 4', qr/but/ ],
     [ 'one more than there were', '+1 0 1, =2 2 3', qr/no increment to 2/ ],
     [ 'one that was lost', '+1 0 1, +3 2 3', qr/no increment to 2/ ],
     [ 'one without an answer twice', '+ 0 -, =2 1 2', qr/no increment to 2/ ],
     [ 'one that came later', '=1 0 1, + 2 -', qr/no increment to 1/ ])
{
    my ($name, $text, $why) = @$_;
    my @errors = KV::Linear::counts(counted($text));
    like("@errors", $why, "not counted: $name");
}

is(scalar KV::Linear::check([ [ 'put', 'a', 1, 0, 1 ], [ 'put', 'b', 2, 0, 1 ],
                              [ 'clear', undef, undef, 2, 3 ],
                              [ 'get', 'a', undef, 4, 5 ],
                              [ 'get', 'b', 2, 4, 5 ] ]),
   1, 'not linearizable: a clear of one key and not of the other');

{
    my @puts = ([ 'put', 'a', 1, 0, 1 ], [ 'put', 'b', 2, 2, 3 ],
                [ 'clear', undef, undef, 4, 9 ], [ 'put', 'a', 3, 10, 11 ]);
    my @seen = ([ 'get', 'b', 2, 1, 2 ], [ 'get', 'b', 2, 4, 6 ],
                [ 'get', 'a', undef, 5, 7 ], [ 'get', 'b', undef, 8, 9 ]);

    is(scalar KV::Linear::clears([ @puts, @seen ]), 0, 'a clear of all keys');
    is(scalar KV::Linear::clears([ @puts, @seen, [ 'get', 'b', 2, 7.5, 8 ] ]),
       1, 'a clear half done');
    is(scalar KV::Linear::clears([ @puts, [ 'get', 'b', 2, 10, 11 ] ]),
       1, 'a clear without effect');
}


# Watches.

{
    my @ops = ([ 'put', 'a', 1, 0, 1, undef, '"a-1"' ],
               [ 'put', 'b', 2, 0, 2, undef, '"b-1"' ],
               [ 'put', 'a', 3, 1, undef ],
               [ 'put', 'a', 4, 3, 4, undef, '"d-2"' ],
               [ 'get', 'a', 3, 2, 3, undef, '"c-1"' ]);
    my @events = ([ 10, 'put', 'a' ], [ 11, 'put', 'b', 2 ],
                  [ 12, 'put', 'a', 3 ], [ 13, 'put', 'a', 4 ],
                  [ 14, 'delete', 'a' ]);
    my $say = sub { join ' ', KV::Linear::watched(\@ops, @_) };

    is($say->(\@events, [ [ 9, 14 ] ]), '', 'watched');
    is($say->([ @events[2 .. 4] ], [ [ 11, 14 ] ]), '', 'watched from there');
    is($say->([ @events[0, 1, 4] ], [ [ 9, 11 ], [ 13, 14 ] ]), '',
       'watched, but for what is known to be missing');

    for ([ 'one is missing', [ @events[0, 1, 3] ], qr/LSN 12, .*: nothing/ ],
         [ 'one comes twice', [ @events[0, 1, 1 .. 3] ], qr/LSN 11 after 11/ ],
         [ 'another order', [ @events[0, 2, 1, 3] ], qr/LSN 11 after 12/ ],
         [ 'another key', [ [ 10, 'put', 'b' ], @events[1 .. 3] ],
           qr/LSN 10, .*: put b/ ],
         [ 'another kind', [ [ 10, 'delete', 'a' ], @events[1 .. 3] ],
           qr/LSN 10, .*: delete a/ ],
         [ 'another value', [ [ 10, 'put', 'a', 4 ], @events[1 .. 3] ],
           qr/LSN 10, .*: put a 4/ ],
         [ 'a value that was never put', [ @events, [ 15, 'put', 'a', 5 ] ],
           qr/LSN 15: put of 5, never put/ ])
    {
        my ($name, $events, $why) = @$_;
        like($say->($events, [ [ 9, 15 ] ]), $why, "not watched: $name");
    }

    $ops[3][6] = '"9-2"';
    unshift @events, [ 9, 'put', 'a', 4 ];
    like($say->(\@events, [ [ 8, 14 ] ]),
         qr/LSN 1[01]: its put was over before/,
         'not watched: in another order than clients can tell');
}


# Keys that expire: "put1:9 0 1" for 9 seconds, and so does "touch:9 2 3".

sub timed {
    return [ map { /^(put|touch|get)(\d*)(?::(\d+))? (\S+) (\S+)$/ or die;
                   [ $1, 'k', length $2 ? $2 : undef, $4,
                     $5 eq '-' ? undef : $5, undef, undef, $3 ]
                 } split /, */, $_[0] ];
}

for ([ 'not before it is put', 'get 0 1, put1 2 3, get1 4 5' ],
     [ 'gone in time', 'put1:9 0 1, get1 8 12, get 9 10' ],
     [ 'touched', 'put1:9 0 1, touch:9 5 6, get1 12 13, get 13 14' ],
     [ 'touched, perhaps', 'put1:9 0 1, touch:9 5 -, get 10 11' ],
     [ 'touched for good', 'put1:9 0 1, touch:0 5 6, get1 99 100' ],
     [ 'seen beside its end', 'put1:9 0 1, get 9 20, get1 19 21' ],
     [ 'put again late', 'put1:9 0 1, put2 5 12, get 10 11, get2 20 21' ],
     [ 'put again, perhaps', 'put1:9 0 1, put2 5 -, get 10 11, get2 20 21' ])
{
    my ($name, $text) = @$_;
    is(join(' ', KV::Linear::expires(timed($text), 0)), '', "expires: $name");
}

for ([ 'too early', 'put1:9 0 1, get 5 8', qr/not gone/ ],
     [ 'that does not expire', 'put1 0 1, get 99 100', qr/not gone/ ],
     [ 'though it was touched', 'put1:9 0 1, touch:9 5 6, get 10 11',
       qr/not gone/ ],
     [ 'though it was put again', 'put1:9 0 1, put2 5 6, get 10 11',
       qr/not gone/ ],
     [ 'and is there again', 'put1:9 0 1, get 10 11, get1 12 13', qr/after/ ],
     [ 'and is touched', 'put1:9 0 1, get 10 11, touch:9 12 13', qr/gone/ ],
     [ 'written over', 'put1:9 0 1, put2 2 3, get1 4 5', qr/written over/ ],
     [ 'from the future', 'get1 0 1, put1:9 2 3', qr/before/ ],
     [ 'never put', 'put1:9 0 1, get2 2 3', qr/never put/ ])
{
    my ($name, $text, $why) = @$_;
    like(join(' ', KV::Linear::expires(timed($text), 0)), $why,
         "does not expire: $name");
}


# The search that needs no proof: tries every order.

sub search {
    my ($ops) = @_;
    my %seen;
    my $try;

    $try = sub {
        my ($done, $value) = @_;
        my @left = grep { !($done & 1 << $_) } 0 .. $#$ops;
        return 1 if !grep { defined $ops->[$_][4] } @left;
        return 0 if $seen{"$done $value"}++;

        my $end = (sort { $a <=> $b } grep { defined }
                   map { $ops->[$_][4] } @left)[0];
        for my $i (@left) {
            my ($what, undef, $id, $start, $over, $if) = @{$ops->[$i]};
            next if $start > $end;
            next if $what eq 'get' && ($id // 0) != $value;

            # but one of which KV::Linear says that it does not look closely

            next if defined $if && $value != ($if eq 'none' ? 0 : $if)
                    && ($what eq 'put' || defined $over);
            return 1 if $try->($done | 1 << $i, $what eq 'get' ? $value
                                                : $what eq 'put' ? $id : 0);
        }
        return 0;
    };

    return $try->(0, 0);
}

{
    my (%count, @differ);

    for my $n (1 .. 12_000) {
        my ($puts, $long, $if, @ops) = (0, 2 + int rand 8, $n % 3 / 2);
        for (1 .. 3 + int rand 6) {
            my $start = int rand 16;
            my $end = $start + int rand $long;
            my $dice = rand;
            push @ops, $dice < 0.3 ? [ 'put', 'k', ++$puts ]
                     : $dice < 0.5 ? [ 'del', 'k', undef ]
                     : $dice < 0.8 ? [ 'get', 'k', 1 + int rand 3 ]
                     :               [ 'get', 'k', undef ];
            $end = undef if $dice < 0.5 && rand() < 0.15;
            push @{$ops[-1]}, $start, $end;
            push @{$ops[-1]}, rand() < 0.4 ? 'none' : 1 + int rand 3
                if $dice < 0.5 && rand() < $if;
        }
        $_->[5] = $puts ? 1 + int rand $puts : 'none'
            for grep { ($_->[5] // 'none') ne 'none' && $_->[5] > $puts } @ops;
        $_->[2] = 1 + int rand $puts
            for $puts ? grep { $_->[0] eq 'get' && $_->[2] } @ops : ();

        my ($fast, $slow) = (!KV::Linear::check(\@ops), search(\@ops));
        $count{$slow ? 'yes' : 'no'}++;
        push @differ, join ', ', map { $_->[0] . ($_->[2] // '')
                                       . (defined $_->[5] ? "<$_->[5]" : '')
                                       . " $_->[3] " . ($_->[4] // '-') } @ops
            if !$fast != !$slow;
    }

    is(scalar @differ, 0, 'the checker says what a search of all orders says')
        or diag("seed $SEED: ", join "\n", splice @differ, 0, 5);
    cmp_ok($count{$_}, '>', 600, "there were enough of $_") for qw(yes no);
}


# ---- the store


# A module of its own, with the failpoints compiled in; but an nginx that has
# the module linked in is taken as it is.

my @failpoints;

if (($ENV{KV_MODULE} // 'none') ne '') {
    KV::Test::with_failpoints();
    @failpoints = qw(PUSHED WRITE WRITTEN SYNCED APPLYING APPLIED REPORTING);
}

my $s = KV::Test->new(workers => 3, zone => '64m', fault => 1,
                      kv => 'segment=4m max_value=1m snapshot=16m feed=16m',
                      server => 'location = /watch { kv_watch main; }',
                      location => 'add_header X-Worker $pid;');
$ENV{KV_FAILPOINT_DIR} = $s->{dir};
$s->expect_log(qr/worker process \d+ exited on signal 9/);
$s->start;

my $PROCESSES = 9;
my $ENOUGH = 10_000;                # operations, on a poor machine
my $PLENTY = 2_500;                 # of one process, on a good one: then it
                                    # rests between two in the second while

my $watchers = 0;                   # that are there

my $BEAT = 0.6;                     # seconds, $MANY of them of many writes
my $MANY = 0.25;


sub now { return clock_gettime(CLOCK_MONOTONIC) }

sub beat { return now() - $BEAT * int(now() / $BEAT) }


# A process of clients that keeps a history: `next` gives a request, with the
# operation [what, key, id, undef, undef, if, tag] that it stands for.  It is
# told what the same client has just read, if it has: key, and tag or undef.

sub client {
    my ($number, $o, $next) = @_;

    return KV::Load->fork(sub {
        my ($stop, $parent) = @_;
        my (@ops, %counts, %workers, @errors, %wait, %read);

        srand($SEED * 100 + $number);

        my $begin = sub {
            my ($n) = @_;
            return if $$stop;
            my $wait = delete $wait{$n};
            return $wait if $wait;
            my $req = $next->($n, @{delete $read{$n} || []}) or return;
            return $req if !ref $req;
            $req->{op}[3] = now();
            return $req;
        };

        my $done = sub {
            my ($n, $req, $res, $error) = @_;
            my $end = now();
            my ($op, $status) = ($req->{op}, $res ? $res->{status} : $error);
            my $if = $op->[5];

            $counts{"$op->[0]" . (defined $if ? '-if' : '') . " $status"}++;

            if ($status =~ /^(?:200|304|404|412)$/) {
                $op->[4] = $end;
                $op->[6] = $res->{headers}{etag};
                my $e = $req->{untagged}
                        ? '' : KV::Linear::odd_tag($op, $status);
                push @errors, "$req->{method} $req->{path}: $status: $e" if $e;
            }

            # a value that is taken: as if for what was read

            if ($op->[0] eq 'take') {
                $op->[0] = $status eq '404' ? 'get' : 'del';
                if ($status eq '200') {
                    $op->[2] = KV::Util::check_value($op->[1], $res->{body})
                        // 'torn ' . length $res->{body};
                    $op->[5] = $op->[6];
                }
            }

            if ($status eq '200') {
                $workers{$res->{headers}{'x-worker'} // '-'}++;
                if ($req->{counts}) {
                    $op->[2] = $req->{counts}->($res->{body});
                    push @errors, "$req->{path}: $op->[2]"
                        if $op->[2] !~ /^\d+$/;
                } elsif ($op->[0] eq 'get') {
                    $op->[2] = KV::Util::check_value($op->[1], $res->{body})
                        // 'torn ' . length $res->{body};
                    $read{$n} = [@$op[1, 6]];
                }
            } elsif ($status eq '404' && $op->[0] eq 'get' && !defined $if) {
                $read{$n} = [$op->[1]];

            } elsif (($status eq '304' && $op->[0] eq 'get'
                      || $status eq '412' && $op->[0] ne 'get') && defined $if)
            {
                $op->[0] = 'get';
                $op->[2] = undef;

            } elsif ($status eq '404' && $op->[0] =~ /^(?:get|touch)$/) {

                # nothing that could be the same, or could get another time

                $op->[0] = 'get';

            } else {
                push @errors, "$req->{method} $req->{path}: $status"
                    unless $status =~ /^(?:503|refused|dropped)$/;
                $wait{$n} = 0.02;
                return if $op->[0] eq 'get' || $status eq 'refused';
                $op->[4] = undef;
            }

            $op->[5] = undef if $op->[0] eq 'get';
            push @ops, $op;
            $wait{$n} //= 0.005 if @ops > $PLENTY && beat() > $MANY;
        };

        KV::Load::run(port => $s->{port}, next => $begin, done => $done, %$o,
                      tick => sub { $$stop = 1 if getppid != $parent });

        return { ops => \@ops, counts => \%counts, workers => \%workers,
                 errors => \@errors };
    });
}


# A process that watches all keys, from an id on, and goes on from its last one
# whenever it is cut off, until it has seen a put of the key `last`.

sub watcher {
    my ($id, $path, $last) = @_;
    my $lsn = sub { hex $_[0] =~ s/-.*//r };

    return KV::Load->fork(sub {
        my ($stop, $parent) = @_;
        my (@events, %ends, @ranges, $stopped, $over);
        my $from = $id;

        while (!$over && getppid == $parent) {
            $stopped //= now() if $$stop;
            last if $stopped && now() - $stopped > 20;

            my $w = eval { KV::Stream->new($s, path => $path, raw => 1,
                                           id => $id, timeout => 5) };
            my $status = $w ? $w->status : 'refused';

            if ($status ne '200') {
                $ends{$status =~ /410/ ? $w->{r}{body} : $status}++;
                sleep 0.02;
                next if $status ne '410';
                push @ranges, [ $lsn->($from), $lsn->($id) ];
                $id = $from = undef;
                next;
            }

            until ($over || $w->{ended}) {
                my $e = $w->next(0.5);
                $id = $w->{id};
                $from //= $id;
                last if $stopped && now() - $stopped > 20;
                $stopped //= now() if $$stop;
                next if !$e;
                my ($key) = $e->{data} =~ /^\{"key":"([^"]+)"/;
                my ($seq) = $e->{data} =~ /"value":"\S+ (\d+) /;
                push @events, [ $lsn->($id), $e->{event}, $key, $seq ];
                $over = ($key // '') eq $last;
            }

            $ends{$w->{ended} // 'over'}++;
        }

        push @ranges, [ $lsn->($from), $lsn->($id) ] if defined $from;
        return { events => \@events, ends => \%ends, ranges => \@ranges,
                 over => $over };
    });
}


# What watchers have seen fits these operations.

sub check_watchers {
    my ($ops, @watchers) = @_;
    my %ends;

    for my $w (@watchers) {
        my @errors = KV::Linear::watched($ops, @$w{qw(events ranges)});
        push @errors, 'it has not come to the end' if !$w->{over};
        push @errors, grep { /was lost/ } keys %{$w->{ends}};
        is(scalar @errors, 0, @{$w->{events}} . ' events that one watches')
            or diag("seed $SEED: ", join "\n", splice @errors, 0, 10);
        $ends{$_} += $w->{ends}{$_} for keys %{$w->{ends}};
    }

    cmp_ok($ends{whole} // 0, '>', 0, 'reloads have ended watches');
    cmp_ok($ends{cut} // 0, '>', 0, 'so have deaths');
    note('watches: ', join ', ', map { "$_: $ends{$_}" } sort keys %ends);
}


# With `if`, a tag or "none", the request has a condition; of a GET, that the
# client has the value of that tag.

sub request {
    my ($what, $key, $id, $if) = @_;
    my %method = (put => 'PUT', del => 'DELETE', get => 'GET',
                  take => 'DELETE', clear => 'DELETE', touch => 'POST');
    my $header = $what eq 'take' ? 'Prefer: return=representation'
               : !defined $if ? undef
               : $if eq 'none' ? 'If-None-Match: *'
               : $what eq 'get' ? "If-None-Match: $if"
               :                  "If-Match: $if";

    return { method => $method{$what}, op => [ $what, $key, $id, undef, undef,
                                               $if ],
             path => defined $key ? "/kv/$key" : '/clear',
             defined $header ? (headers => [$header]) : (),
             $what eq 'put' ? (body => value($key, $id, size())) : () };
}


sub size {
    my $dice = rand;
    return $dice < 0.80 ? 20 + int rand 500
         : $dice < 0.97 ? 1_000 + int rand 10_000
         :                40_000 + int rand 60_000;
}


# The final state, as one client sees it.

sub look {
    my (@keys) = @_;
    return map { my ($key, $start) = ($_, now());
                 my $r = read_now($key);
                 my $id = $r->{status} == 404 ? undef
                          : KV::Util::check_value($key, $r->{body}) // 'torn';
                 [ 'get', $key, $id, $start, now(), undef,
                   $r->{headers}{etag} ] } @keys;
}


# A key that is read when a death has just been found: not the 503 of a rebuild.

sub read_now {
    my ($key) = @_;
    my $r;
    wait_for(sub { ($r = $s->get($key))->{status} != 503 }, 10);
    return $r;
}


# What happens to the server: who is killed.

my %EVENTS = (
    'nothing' => sub { },
    'a worker dies' => sub { kill_some(1) },
    'all workers die' => sub { kill_some(3) },
    'two workers die in a sync' => sub { kill_in_sync(2) },
    'all workers die in a sync' => sub { kill_in_sync(3) },
    'a reload' => sub {
        wait_for(sub { $s->store->{watching} >= $watchers }, 10);
        $s->reload;
        return;
    },
    'a death in a reload' => sub {
        kill('HUP', $s->{pid});
        sleep(rand 0.05);
        kill_some(1);
    },
    'everything dies' => sub { $s->stop('KILL'); $s->start; return },
    (map { my $point = $_; ("a death at $point", sub { dies_at($point) }) }
         @failpoints),
);


sub kill_some {
    my ($n) = @_;
    my @dead = shuffle($s->workers);
    splice @dead, $n if @dead > $n;
    kill('KILL', @dead);
    return @dead;
}


sub kill_in_sync {
    my ($n) = @_;
    $s->fault(hold => 1);
    $s->held or fail('no sync is held');
    my @dead = kill_some($n);
    $s->fault(hold => undef);
    return @dead;
}


sub dies_at {
    my ($point) = @_;
    $s->dies_by("$s->{dir}/point", "$point 1\n", 20)
        or fail("$point is not reached"), diag($s->symptoms);
    return;
}


for my $round (1 .. $ROUNDS) {
    my @keys = map { "r$round-k$_" } 0 .. 5;
    my $seq = 0;

    # A client that has just read a key may write for what it found.

    my $for = sub {
        my ($id, $key, $tag) = @_;
        my $dice = rand;
        return !defined $tag ? request('put', $key, $id, 'none')
             : $dice > 0.95  ? request('put', $key, $id, 'none')
             : $dice > 0.80  ? request('get', $key, undef, $tag)
             : $dice > 0.65  ? request('del', $key, undef, $tag)
             :                 request('put', $key, $id, $tag);
    };

    my $next = sub {
        my ($number, @read) = @_;
        my ($dice, $key) = (rand, $keys[@keys * rand() ** 4]);
        my $few = beat() > $MANY;

        return $for->($number * 1e7 + $seq++, @read)
            if @read && rand() < ($few ? 0.05 : 0.7);

        $dice *= 20 if $few;
        return $dice > 0.60  ? request('get', $keys[rand @keys])
             : $dice > 0.18  ? request('put', $key, $number * 1e7 + $seq++)
             : $dice > 0.09  ? request('take', $key)
             : $dice > 0.004 ? request('del', $key)
             :                 request('clear');
    };

    my $begun = now();
    my $id = do { my $w = KV::Stream->new($s);
                  $w->next(0.1) until defined $w->{id}; $w->{id} };
    my @watchers = map { watcher($id, $_, "r$round-end") }
                       qw(/watch?values=1 /watch /watch);
    $watchers = @watchers;
    my @clients = map { my $n = $_;
                        client($n, { connections => 2, keepalive => $n % 3 },
                               sub { $next->($n, @_[1 .. $#_]) })
                      } 1 .. $PROCESSES;

    # as the server counts them, until all of it dies

    my $requests = sub {
        my $routes = eval { $s->stats->{routes} } or return 0;
        return sum(map { $_->{requests} } values %{$routes->{kv}});
    };
    my $before = -$requests->();

    for my $event (shuffle(sort keys %EVENTS)) {
        sleep($BEAT - beat() + $MANY * (0.7 + rand 0.3));
        $before += $requests->() if $event eq 'everything dies';
        my @dead = $EVENTS{$event}->();
        ok($s->back(@dead), "$event: the service is back");
    }

    sleep($BEAT);
    wait_for(sub { $before + $requests->() > 1.5 * $ENOUGH }, 30, 0.5);
    my @results = map { $_->stop } @clients;
    my $took = now() - $begun;
    my @ops = map { @{$_->{ops} || []} } @results;

    push @ops, look(@keys);
    $s->stop('KILL');
    $s->start;
    push @ops, look(@keys);
    $s->put("r$round-end", 'x');
    @watchers = map { $_->stop } @watchers;
    $watchers = 0;

    my @errors = (KV::Linear::name(\@ops), map { @{$_->{errors}} } @results);
    is(scalar @errors, 0, 'no answer that is out of place')
        or diag("seed $SEED: ", join "\n", splice @errors, 0, 10);

    my $proved = now();
    @errors = KV::Linear::check(\@ops);
    $proved = now() - $proved;
    is(scalar @errors, 0, "round $round: " . @ops . ' operations of '
       . @keys . ' keys are linearizable')
        or diag("seed $SEED: ", join "\n", @errors);

    check_watchers(\@ops, @watchers);

    cmp_ok(scalar @ops, '>', $ENOUGH, 'there were many');
    my (%workers, %counts);
    for (@results) {
        my ($w, $c) = @$_{qw(workers counts)};
        $workers{$_} += $w->{$_} for keys %$w;
        $counts{$_} += $c->{$_} for keys %$c;
    }
    cmp_ok($counts{$_} // 0, '>', 20, "there were enough of $_")
        for 'put-if 200', 'put-if 412', 'del-if 200', 'del-if 412',
            'get-if 304', 'take 200', 'take 404';
    delete $workers{'-'};
    my @shares = sort { $b <=> $a } values %workers;
    cmp_ok($shares[2] // 0, '>', @ops / 50, 'more than two workers took part');

    my $maybe = grep { !defined $_->[4] } @ops;
    cmp_ok($maybe, '>', 10, 'some have no answer');
    note(sprintf 'seed %d: %d operations in %.1f s, %d without an answer, '
         . 'by %d workers, proved in %.2f s', $SEED, scalar @ops, $took,
         $maybe, scalar @shares, $proved);
    note(join ', ', map { "$_: $counts{$_}" } sort keys %counts);
}


# increments

{
    $s->http(POST => '/kv/number?incr=0');

    my $next = sub {
        my $incr = rand() < 0.5;
        return { method => $incr ? 'POST' : 'GET', counts => sub { $_[0] },
                 path => '/kv/number' . ($incr ? '?incr=1' : ''),
                 op => [ $incr ? 'incr' : 'get', 'number', undef ] };
    };
    my @clients = map { client(30 + $_, { connections => 3 }, $next) } 1 .. 4;

    for my $event (shuffle('all workers die in a sync', 'a worker dies',
                           'a death in a reload', 'everything dies',
                           grep { /at (?:WRITE|SYNCED|APPLYING)/ }
                                keys %EVENTS))
    {
        sleep(0.1 + rand 0.2);
        my @dead = $EVENTS{$event}->();
        ok($s->back(@dead), "increments, $event: the service is back");
    }

    wait_for(sub { read_now('number')->{body} > 1000 }, 20, 0.2);
    my @results = map { $_->stop } @clients;
    my @ops = map { @{$_->{ops} || []} } @results;
    my @errors = map { @{$_->{errors}} } @results;
    my $start = now();
    push @ops, [ 'get', 'number', read_now('number')->{body}, $start, now() ];

    push @errors, KV::Linear::counts(\@ops);
    is(scalar @errors, 0, @ops . ' increments and reads have an order')
        or diag("seed $SEED: ", join "\n", splice @errors, 0, 10);
    cmp_ok($ops[-1][2], '>', 1000, 'there were many');
    note("$ops[-1][2] increments, ", scalar(grep { !defined $_->[4] } @ops),
         ' without an answer');
}


# A batch is one instant for all keys: each adds one to all of some counters, in
# any order, with other keys between them.  So a read of any of these is a read
# of one and the same number.

{
    my @keys = map { "n$_" } 0 .. 3;
    my $between = join '', map { qq[{"key":"between$_","value":"v"}\n] }
                               1 .. 100;
    my $body = sub {
        my ($by) = @_;
        return join $between, map { qq[{"op":"incr","key":"$_","by":$by}\n] }
                                  shuffle(@keys);
    };
    my $sum = sub {
        my %sums = map { $_ => 1 } $_[0] =~ /"value":"(\d+)"/g;
        return keys %sums == 1 ? (keys %sums)[0] : 'different sums';
    };

    is($s->http(POST => '/batch', body => $body->(0))->{status}, 200,
       'counters');

    my $next = sub {
        my ($batches) = @_;
        return rand() < $batches
            ? { method => 'POST', path => '/batch', body => $body->(1),
                counts => $sum, untagged => 1,
                op => [ 'incr', 'number', undef ] }
            : { method => 'GET', path => "/kv/$keys[rand @keys]",
                counts => sub { $_[0] }, op => [ 'get', 'number', undef ] };
    };
    my @clients = map { my $n = $_;
                        client(70 + $n, { connections => 3 },
                               sub { $next->($n < 2 ? 0.5 : 0) }) } 0 .. 4;

    for my $event (shuffle('all workers die in a sync', 'a worker dies',
                           'a death in a reload', 'everything dies',
                           grep { /at (?:WRITE|SYNCED|APPLYING|APPLIED)/ }
                                keys %EVENTS))
    {
        sleep(0.1 + rand 0.2);
        my @dead = $EVENTS{$event}->();
        ok($s->back(@dead), "batches, $event: the service is back");
    }

    wait_for(sub { read_now('n0')->{body} > 20 }, 20, 0.2);
    my @results = map { $_->stop } @clients;
    my @ops = map { @{$_->{ops} || []} } @results;
    my @errors = map { @{$_->{errors}} } @results;

    for my $key (@keys) {
        my $start = now();
        push @ops, [ 'get', 'number', read_now($key)->{body}, $start, now() ];
    }

    push @errors, KV::Linear::counts(\@ops);
    is(scalar @errors, 0, @ops . ' batches and reads have an order')
        or diag("seed $SEED: ", join "\n", splice @errors, 0, 10);
    cmp_ok($ops[-1][2], '>', 20, 'there were many batches');
    note("$ops[-1][2] batches, ", scalar(grep { !defined $_->[4] } @ops),
         ' without an answer');
}


# Keys expire, at one instant for all workers, and for good.  Each writer has a
# key for a while, puts it, and near its end may give it more time, or another
# value; readers follow.

{
    my $WHILE = 1.5;
    my ($seq, $WRITERS) = (0, 24);
    my $key = sub { return "x$_[0]-" . int(now() / $WHILE) };
    my $age = sub { return now() - $WHILE * int(now() / $WHILE) };

    my $timed = sub {
        my ($what, $key, $ttl) = @_;
        my $req = request($what, $key, $what eq 'put' ? $seq++ : undef);
        $req->{path} .= "?ttl=$ttl" if $ttl || $what eq 'touch';
        $req->{op}[7] = $ttl;
        return $req;
    };

    my $writer = sub {
        my ($number, $state) = @_;
        my ($key, $age) = ($key->($number), $age->());

        if (($state->{key} // '') ne $key) {
            return 0.01 if $age > 0.1;
            %$state = (key => $key, at => $age + 1 - 0.04 * rand);
            return $timed->('put', $key, 1);
        }

        return 0.02 if !$state->{at};
        return $state->{at} - $age if $age < $state->{at};
        $state->{at} = 0;

        my $dice = int rand 5;
        return $dice < 2 ? $timed->('touch', $key, $dice)
             : $dice < 4 ? $timed->('put', $key, $dice == 2 ? 1 : 0) : 0.02;
    };

    my @clients = map { my ($n, @state) = ($_);
                        $seq = $n * 1e6;
                        client(90 + $n, { connections => 8 }, sub {
                            my $number = 8 * $n + $_[0];
                            return $writer->($number, $state[$number] ||= {});
                        }) } 0 .. 2;
    push @clients, map {
        client(100 + $_, { connections => 2 }, sub {
            return $age->() < 0.9
                   ? 0.02 : request('get', $key->(int rand $WRITERS));
        }) } 1 .. 4;

    my $begun = now();
    for my $event ('nothing', 'a reload', 'all workers die in a sync',
                   'nothing')
    {
        sleep(max(0, $WHILE * (1 + int($begun / $WHILE)) + 0.97 - now()));
        $begun = now() + 0.5;
        my @dead = $EVENTS{$event}->();
        ok($s->back(@dead), "keys that expire, $event: the service is back");
    }

    sleep(0.5);
    my @results = map { $_->stop } @clients;
    my @ops = map { @{$_->{ops} || []} } @results;
    my @errors = map { @{$_->{errors}} } @results;
    my $none = grep { $_->[0] eq 'get' && !defined $_->[2] } @ops;
    my $there = grep { $_->[0] eq 'get' && defined $_->[2] } @ops;

    push @errors, KV::Linear::expires(\@ops, 0.02);
    is(scalar @errors, 0, @ops . ' operations on keys that expire')
        or diag("seed $SEED: ", join "\n", splice @errors, 0, 10);
    cmp_ok($none, '>', 100, 'there were many that found nothing');
    cmp_ok($there, '>', 100, 'and many that found something');
    note("$there reads found a value, $none nothing; ",
         scalar(grep { $_->[0] eq 'touch' } @ops), ' touches');
}


# a clear is one instant for all keys

{
    my @keys = map { "c$_" } 0 .. 3;
    my ($seq, $pos) = (0, -1);

    my $writer = client(50, { connections => 1 }, sub {
        $pos = ($pos + 1) % (@keys + 1);
        return $pos < @keys ? request('put', $keys[$pos], $seq++)
                            : request('clear');
    });
    my @readers = map { client(50 + $_, { connections => 3 }, sub {
                            return request('get', $keys[rand @keys]);
                        }) } 1 .. 3;
    my $cleared = sub { $s->stats->{routes}{clear}{DELETE}{status}{200} // 0 };
    my ($begun, $before) = (now(), $cleared->());
    wait_for(sub { now() - $begun > 2 && $cleared->() > $before + 10 }, 20);
    my @results = map { $_->stop } $writer, @readers;
    my @ops = map { @{$_->{ops} || []} } @results;
    my @errors = map { @{$_->{errors}} } @results;

    push @errors, KV::Linear::check(\@ops), KV::Linear::clears(\@ops);
    is(scalar @errors, 0, 'a clear is one instant for all keys')
        or diag("seed $SEED: ", join "\n", splice @errors, 0, 10);

    my $clears = grep { $_->[0] eq 'clear' } @ops;
    cmp_ok($clears, '>', 5, 'there were clears');
    note("$clears clears, " . @ops . ' operations');
}

$s->done;
done_testing();
