package KV::Linear;

# Is a history of concurrent operations linearizable?
#
# A history is a list of operations [what, key, id, start, end]:
#
#     put     a value; its id is its own, no other put of the key has it
#     del     the key is removed
#     clear   every key is removed; the key is undef
#     get     found the value of that id, or nothing (undef)
#
# with the times at which the client began to send the request and had the
# answer, on one clock that all clients share (CLOCK_MONOTONIC).  The end of a
# write whose answer never came is undef: it took effect at any time after its
# start, or never.  Gets without an answer say nothing and do not belong here.
#
# check() proves, for each key by itself, that every operation can be given an
# instant between its start and its end so that each get finds what the last
# write before it left; or it says which operations cannot.  Linearizability is
# a local property (Herlihy and Wing, 1990), so with puts, deletes and gets
# alone this proves it for the whole store.  A clear is taken as a delete of
# each key, which need not be at one instant for all of them; that it is,
# clears() proves for histories of a simple kind.
#
# How it is decided, in O(n log n), so that histories of any length can be
# proved.  As values are unique, each get names its put, and all that belongs
# to a value is one interval of time without another write in it (Gibbons and
# Korach, 1997).  Let f be the first end, and s the last start, among a value's
# put and gets.
#
#   f < s    the value was certainly there from f to s: a *span*.  Spans of
#            different values must not overlap, and all else has its instant
#            outside of them.
#   f >= s   all of it can be one instant between s and f: a *flash*.
#
# So is a put that no get saw, and one that has no answer either need not have
# happened.  What remains is to find instants, outside of the spans, for
# flashes, deletes, and gets of nothing, which have no put to name.  One walk
# through time does that, doing each thing at the best moment:
#
#   - while there is a value, a flash is over as soon as it begins: it harms
#     nothing; while there is none, it waits, for it would end that;
#   - a get of nothing is over as soon as there is nothing;
#   - a delete is saved up until a get of nothing cannot wait any longer (then
#     the one whose own time ends first is used), or until its own time ends;
#     right before it, all flashes that wait go for free.
#
# Having nothing is never worse than having a value that no get will ask for,
# and a later deadline never worse than an earlier one: so if this walk finds
# no way there is none.  t/linear.t compares it with a search through all ways.

use strict;
use warnings;

use List::Util qw(max min);

my $NEVER = 9**9**9;

# what becomes due at the same time becomes so in this order

use constant { BEGIN_ANY => 0, END_FLASH => 1, END_DELETE => 2, END_GET => 3,
               BEGIN_SPAN => 4 };


# The complaints, at most one for each key: none if all is well.

sub check {
    my ($ops) = @_;
    my (%keys, @clears);

    for my $op (@$ops) {
        push @{defined $op->[1] ? ($keys{$op->[1]} ||= []) : \@clears}, $op;
    }

    return map { my $e = check_key([@{$keys{$_}}, @clears]);
                 $e ? "$_: $e" : () } sort keys %keys;
}


sub check_key {
    my ($ops) = @_;
    my $zero = min(map { $_->[3] } @$ops);
    my ($error, $spans, $loose) = collect($ops, $zero);

    @$spans = sort { $a->{f} <=> $b->{f} || $a->{s} <=> $b->{s} } @$spans;

    return $error || overlap($spans, $zero) || walk($spans, $loose, $zero);
}


# A complaint, or the spans { f, s, first, last } and what has to find its
# place outside of them: [what, start, end, operation] with a flash for "put".

sub collect {
    my ($ops, $zero) = @_;
    my (%put, %gets, @spans, @loose);

    for my $op (@$ops) {
        my ($what, undef, $id, $start, $end) = @$op;

        if ($what eq 'put') {
            die "two puts of $id\n" if $put{$id};
            $put{$id} = $op;
        } elsif ($what eq 'get' && defined $id) {
            push @{$gets{$id}}, $op;
        } else {
            push @loose, [$what, $start, $end // $NEVER, $op];
        }
    }

    for my $id (sort { $gets{$a}[0][3] <=> $gets{$b}[0][3] } keys %gets) {
        return op_text($gets{$id}[0], $zero) . ', which was never put'
            unless $put{$id};
    }

    for my $put (values %put) {
        my $gets = $gets{$put->[2]} || [];
        my ($first, $last) = ($put, $put);

        next if !defined $put->[4] && !@$gets;

        for (@$gets) {
            $first = $_ if $_->[4] < ($first->[4] // $NEVER);
            $last = $_ if $_->[3] > $last->[3];
        }

        return op_text($first, $zero) . ', before ' . op_text($put, $zero)
            if $first->[4] < $put->[3];

        if ($first->[4] < $last->[3]) {
            push @spans, { f => $first->[4], s => $last->[3],
                           first => $first, last => $last };
        } else {
            push @loose, ['put', $last->[3], $first->[4], $put];
        }
    }

    return (undef, \@spans, \@loose);
}


sub overlap {
    my ($spans, $zero) = @_;

    for my $i (1 .. $#$spans) {
        my ($a, $b) = @$spans[$i - 1, $i];
        return op_text($a->{last}, $zero) . ' after '
               . op_text($b->{first}, $zero) . ', and both are later than '
               . op_text($a->{first}, $zero)
            if $b->{f} < $a->{s};
    }

    return;
}


# The span around a time, its ends not among it.

sub around {
    my ($spans, $time) = @_;
    my ($lo, $hi) = (0, scalar @$spans);

    while ($lo < $hi) {
        my $mid = int(($lo + $hi) / 2);
        if ($spans->[$mid]{f} < $time) {
            $lo = $mid + 1;
        } else {
            $hi = $mid;
        }
    }

    my $span = $lo ? $spans->[$lo - 1] : return;
    return $time < $span->{s} ? $span : undef;
}


sub walk {
    my ($spans, $loose, $zero) = @_;
    my @events = map { [$_->{f}, BEGIN_SPAN] } @$spans;
    my ($nothing, @flashes, @deletes, @gets) = (1);

    for my $o (@$loose) {
        my ($what, $start, $end, $op) = @$o;
        my ($before, $after) = (around($spans, $end), around($spans, $start));

        $start = $after->{s} if $after;
        $end = $before->{f} if $before;

        return op_text($op, $zero) . ', but the value of '
               . op_text($after->{first}, $zero) . ' was still there for '
               . op_text($after->{last}, $zero)
            if $start > $end;

        my $item = { end => $end, op => $op };
        push @events, [$start, BEGIN_ANY, $what, $item];
        push @events, [$end, $what eq 'put' ? END_FLASH
                           : $what eq 'get' ? END_GET
                           :                  END_DELETE, $what, $item]
            if $end < $NEVER;
    }

    my $delete = sub {
        $_->{done} = 1 for $_[0], @flashes, @gets;
        @flashes = @gets = ();
        $nothing = 1;
    };

    my $value = sub {
        $_->{done} = 1 for @flashes;
        @flashes = ();
        $nothing = 0;
    };

    for (sort { $a->[0] <=> $b->[0] || $a->[1] <=> $b->[1] } @events) {
        my ($time, $event, $what, $item) = @$_;

        next if $item && $item->{done};

        if ($event == BEGIN_SPAN || $event == END_FLASH) {
            $value->();

        } elsif ($event == END_DELETE) {
            $delete->($item);

        } elsif ($event == END_GET) {
            @deletes = sort { $a->{end} <=> $b->{end} }
                       grep { !$_->{done} } @deletes;
            return op_text($item->{op}, $zero) . ', and there is no DELETE of '
                   . before($spans, $loose, $item->{op}, $zero)
                unless @deletes;
            $delete->(shift @deletes);

        } elsif ($what eq 'get') {
            $nothing ? $item->{done} = 1 : push @gets, $item;

        } elsif ($what eq 'put') {
            $nothing ? push @flashes, $item : ($item->{done} = 1);

        } else {
            push @deletes, $item;
        }
    }

    return;
}


# The last value that must have been there before the get, for a complaint.

sub before {
    my ($spans, $loose, $get, $zero) = @_;
    my ($last) = sort { $b->[0] <=> $a->[0] }
                 grep { $_->[0] <= $get->[4] }
                 ((map { [$_->{s}, $_->{last}] } @$spans),
                  (map { $_->[0] eq 'put' ? [$_->[2], $_->[3]] : () } @$loose));

    return 'what was there: ' . op_text($last->[1], $zero);
}


# An operation in words, in seconds since the first one.

sub op_text {
    my ($op, $zero) = @_;
    my ($what, undef, $id, $start, $end) = @$op;

    return sprintf '%s%s [%.6f, %s]', uc $what,
                   $what eq 'put' ? " of $id"
                   : $what ne 'get' ? ''
                   : defined $id ? " of $id" : ' of nothing',
                   $start - $zero,
                   defined $end ? sprintf('%.6f', $end - $zero) : 'unanswered';
}


# That a clear is one instant for all keys, in a history of this kind: one
# client, which waits for each answer, puts a value under every key, clears,
# and so on; the others only get.  Returns the complaints.
#
# A get that found a value began before the clear that ended it; one that found
# nothing where a value had been put, and was not put again, ended after it.

sub clears {
    my ($ops) = @_;
    my (@clears, %round, %puts, @late, @early, @errors);

    for my $op (sort { $a->[3] <=> $b->[3] } grep { $_->[0] ne 'get' } @$ops) {
        if ($op->[0] eq 'clear') {
            push @clears, $op;
            push @late, $op;
            push @early, $op;
        } else {
            $round{$op->[2]} = @clears;
            $puts{$op->[1]}[@clears] = $op;
        }
    }

    for my $get (grep { $_->[0] eq 'get' } @$ops) {
        my (undef, $key, $id, $start, $end) = @$get;

        if (defined $id) {
            my $n = $round{$id};
            $late[$n] = $get if $n < @late && $start > $late[$n][3];
            next;
        }

        my ($lo, $hi) = (0, scalar @{$puts{$key}});
        while ($lo < $hi) {
            my $mid = int(($lo + $hi) / 2);
            if ($puts{$key}[$mid][4] < $start) {
                $lo = $mid + 1;
            } else {
                $hi = $mid;
            }
        }

        my $next = $puts{$key}[$lo];
        next if !$lo || $lo > @early || $next && $next->[3] <= $end;
        $early[$lo - 1] = $get if $end < $early[$lo - 1][4];
    }

    for my $n (0 .. $#clears) {
        my ($late, $early, $zero) = ($late[$n], $early[$n], $clears[0][3]);
        push @errors, "clear $n: " . op_text($early, $zero) . ', then '
                      . op_text($late, $zero)
            if $early->[4] < $late->[3];
    }

    return @errors;
}


1;
