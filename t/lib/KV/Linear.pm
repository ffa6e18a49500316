package KV::Linear;

# Is a history of concurrent operations linearizable?
#
# A history is a list of operations [what, key, id, start, end, if]:
#
#     put     a value; its id is its own, no other put of the key has it
#     del     the key is removed
#     clear   every key is removed; the key is undef
#     get     found the value of that id, or nothing (undef)
#
# A put or a del may have a condition, the sixth: the id of the value that must
# be there (If-Match), or "none" (If-None-Match: *).  One that was refused has
# read what was there then, and is a get.  A DELETE that returns the value is a
# del with the condition that this value is there, or a get of nothing.
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

use constant { END_SPAN => 0, BEGIN_ANY => 1, END_FLASH => 2, END_CREATE => 3,
               END_DELETE => 4, END_GET => 5, BEGIN_SPAN => 6 };


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


# A complaint, or the spans { f, s, first, last, creates, deletes } and what has
# to find its place outside of them: [what, start, end, operation], where "put"
# and "create" are flashes.

sub collect {
    my ($ops, $zero) = @_;
    my (%put, %gets, %next, %refers, %happened, @spans, @loose);

    for my $op (@$ops) {
        my ($what, undef, $id, $start, $end, $if) = @$op;

        if ($what eq 'put') {
            die "two puts of $id\n" if $put{$id};
            $put{$id} = $op;
        } elsif ($what eq 'get' && defined $id) {
            push @{$gets{$id}}, $op;
        } elsif ($what eq 'get' || !defined $if || !defined $end) {
            push @loose, [$what, $start, $end // $NEVER, $op];
        } elsif ($if eq 'none') {
            push @loose, ['get', $start, $end, $op];
        } else {
            push @{$refers{$if}}, $op;
        }
    }

    # a put without an answer that nothing saw need not have happened

    my @seen = grep { defined $_->[4] || $gets{$_->[2]} || $refers{$_->[2]} }
               values %put;

    while (my $op = shift @seen) {
        my ($id, $if) = @$op[2, 5];
        next if $happened{$id}++ || !defined $if || $if eq 'none';
        push @{$refers{$if}}, $op;
        push @seen, $put{$if} // ();
    }

    for my $id (sort { $gets{$a}[0][3] <=> $gets{$b}[0][3] } keys %gets) {
        return op_text($gets{$id}[0], $zero) . ', which was never put'
            unless $put{$id};
    }

    for my $id (keys %refers) {
        my ($one, $other) = @{$refers{$id}};
        return op_text($one, $zero) . " for a value that was never put"
            unless $put{$id};
        return op_text($one, $zero) . ' and ' . op_text($other, $zero)
               . ', both for the same value'
            if $other;
        $next{$id} = $one;
    }

    for my $id (keys %happened) {
        my ($put, $if) = ($put{$id}, $put{$id}[5]);
        next if defined $if && $if ne 'none';

        my ($error, $chain) = chain($put, \%gets, \%next, $zero);
        return $error if $error;
        delete @happened{@{$chain->{ids}}};

        if ($chain->{f} < $chain->{s}) {
            push @spans, $chain;
        } else {
            my ($creates, $deletes) = @$chain{qw(creates deletes)};
            push @loose, [$creates ? $deletes ? 'get' : 'create'
                                   : $deletes ? 'del' : 'put',
                          $chain->{s}, $chain->{f}, $put];
        }
    }

    for my $id (keys %happened) {
        return op_text($put{$id}, $zero) . ', for a value that followed it';
    }

    return (undef, \@spans, \@loose);
}


# A complaint, or the chain that begins with the put.  Each of its values, and a
# delete at the end, is a step.

sub chain {
    my ($put, $gets, $next, $zero) = @_;
    my (@steps, $first, $last);

    for (my $op = $put; $op; $op = defined $op->[2] && $next->{$op->[2]}) {
        push @steps, [$op, defined $op->[2] ? @{$gets->{$op->[2]} || []} : ()];
    }

    # from the end: the first of all ends from this step on

    for my $step (reverse @steps) {
        for (@$step) {
            $first = $_
                if !$first || ($_->[4] // $NEVER) < ($first->[4] // $NEVER);
        }
        push @$step, $first;
    }

    for my $step (@steps) {
        my ($op, $end) = ($step->[0], pop @$step);

        for ($op, $last // ()) {
            return op_text($end, $zero) . ', before ' . op_text($_, $zero)
                if ($end->[4] // $NEVER) < $_->[3];
        }

        for (@$step) {
            $last = $_ if !$last || $_->[3] > $last->[3];
        }
    }

    return (undef, { f => $first->[4] // $NEVER, s => $last->[3],
                     first => $first, last => $last, put => $put,
                     ids => [map { $_->[0][2] // () } @steps],
                     creates => defined $put->[5],
                     deletes => $steps[-1][0][0] eq 'del' });
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
    my ($nothing, @flashes, @creates, @deletes, @gets) = (1);
    my %end = (put => END_FLASH, create => END_CREATE, get => END_GET,
               del => END_DELETE, clear => END_DELETE);
    my @events = map { ([$_->{f}, BEGIN_SPAN, $_],
                        $_->{deletes} ? [$_->{s}, END_SPAN, $_] : ()) } @$spans;

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
        push @events, [$start, BEGIN_ANY, $item, $what];
        push @events, [$end, $end{$what}, $item] if $end < $NEVER;
    }

    my $left = sub {
        my ($items) = @_;
        return @$items = sort { $a->{end} <=> $b->{end} }
                         grep { !$_->{done} } @$items;
    };

    # there is nothing, and something else comes: one may be created before

    my $create_free = sub {
        $creates[0]{done} = 1 if $nothing && $left->(\@creates);
    };

    my $delete = sub {
        $create_free->();
        $_->{done} = 1 for $_[0], @flashes, @gets;
        @flashes = @gets = ();
        $nothing = 1;
    };

    my $value = sub {
        $create_free->();
        $_->{done} = 1 for @flashes;
        @flashes = ();
        $nothing = 0;
    };

    # makes sure that there is nothing: a complaint if that cannot be

    my $need_nothing = sub {
        my ($op) = @_;
        return if $nothing;
        return op_text($op, $zero) . ', and there is no DELETE of '
               . before($spans, $loose, $op, $zero)
            unless $left->(\@deletes);
        $delete->(shift @deletes);
        return;
    };

    for (sort { $a->[0] <=> $b->[0] || $a->[1] <=> $b->[1] } @events) {
        my ($time, $event, $item, $what) = @$_;

        next if $item->{done};

        if ($event == END_FLASH || $event == BEGIN_SPAN && !$item->{creates}) {
            $value->();

        } elsif ($event == BEGIN_SPAN) {
            my $error = $need_nothing->($item->{put});
            return $error if $error;
            $nothing = 0;

            # right behind it, if its value stays

            $value->() unless $item->{deletes};

        } elsif ($event == END_SPAN) {
            $_->{done} = 1 for @gets;
            @gets = ();
            $nothing = 1;

        } elsif ($event == END_CREATE) {
            my $error = $need_nothing->($item->{op});
            return $error if $error;
            $item->{done} = 1;
            $nothing = 0;
            $value->();

        } elsif ($event == END_DELETE) {
            $delete->($item);

        } elsif ($event == END_GET) {
            my $error = $need_nothing->($item->{op});
            return $error if $error;

        } elsif ($what eq 'get') {
            $nothing ? $item->{done} = 1 : push @gets, $item;

        } elsif ($what eq 'put') {
            $nothing ? push @flashes, $item : ($item->{done} = 1);

        } elsif ($what eq 'create') {
            push @creates, $item;

        } else {
            push @deletes, $item;
        }
    }

    return;
}


# The last value that must have been there before an operation, for a complaint.

sub before {
    my ($spans, $loose, $op, $zero) = @_;
    my ($last) = sort { $b->[0] <=> $a->[0] }
                 grep { $_->[0] <= ($op->[4] // $NEVER) && $_->[1] != $op }
                 ((map { [$_->{s}, $_->{last}] } @$spans),
                  (map { $_->[3][0] eq 'put' ? [@$_[2, 3]] : () } @$loose));

    return $last ? 'what was there: ' . op_text($last->[1], $zero)
                 : 'what is there';
}


# An operation in words, in seconds since the first one.

sub op_text {
    my ($op, $zero) = @_;
    my ($what, undef, $id, $start, $end, $if) = @$op;

    return sprintf '%s%s%s [%.6f, %s]', uc $what,
                   $what eq 'put' ? " of $id"
                   : $what ne 'get' ? ''
                   : defined $id ? " of $id" : ' of nothing',
                   defined $if ? " if $if" : '',
                   $start - $zero,
                   defined $end ? sprintf('%.6f', $end - $zero) : 'unanswered';
}


# ---- tags


# What is wrong with the tag of an answer, or nothing.  The operation is as it
# was sent: its `if`, the sixth, is a tag or "none", and its seventh is the tag
# that came with the answer.

sub odd_tag {
    my ($op, $status) = @_;
    my ($what, undef, undef, undef, undef, $if, $tag) = @$op;

    return $tag ? "a tag, $tag" : ()
        if $status == 404 || $status == 200 && $what =~ /^(?:del|clear)$/;
    return $if && $if eq 'none' || $status != 412 ? 'no tag' : ()
        if !defined $tag;

    return "a tag like $tag" if $tag !~ /^"[0-9a-f]+-[0-9a-f]+"$/;
    return "not for $tag, but if $if"
        if defined $if && ($tag eq $if) != ($what eq 'get' && $status == 304);
    return;
}


# Puts into a history the ids for the tags, in the sixth and for gets without
# one (of which only the tag came).  A del that has returned a value has its id
# until then.  What came with a tag that nothing else had
# is of a write that was not answered, and goes.  Returns the complaints: a tag
# is one value's, for ever.

sub name {
    my ($ops) = @_;
    my (%id, @errors);

    for my $op (@$ops) {
        my ($what, $key, $id, undef, undef, undef, $tag) = @$op;
        next if !defined $tag || !defined $id;
        $id{$tag} //= "$key $id";
        push @errors, "$tag is $id{$tag} and $key $id"
            if $id{$tag} ne "$key $id";
    }

    my $named = sub {
        my ($key, $tag) = @_;
        my $name = $id{$tag} // return;
        my ($of, $id) = split / /, $name;
        push @errors, "$tag of $of, with $key" if $of ne $key;
        return $id;
    };

    for my $op (@$ops) {
        my ($what, $key, $id, undef, undef, $if, $tag) = @$op;
        $op->[2] = $named->($key, $tag) // 'unknown'
            if $what eq 'get' && !defined $id && defined $tag;
        $op->[5] = $named->($key, $if)
            // push(@errors, "$if is of nothing that was read")
            if defined $if && $if ne 'none';
    }

    $_->[0] eq 'del' and undef $_->[2] for @$ops;
    @$ops = grep { $_->[0] ne 'get' || ($_->[2] // '') ne 'unknown' } @$ops;
    return @errors;
}


# That a watch has the order of the store: `events` are [LSN, kind, key, id],
# the id of a value or undef where it has none; `ranges` are [LSN, LSN]: it has
# all behind the one up to the other.  Tags begin with the LSN.  Returns the
# complaints.

sub watched {
    my ($ops, $events, $ranges) = @_;
    my (%at, %put, %told, @errors);
    my $last = 0;

    for my $e (@$events) {
        push @errors, "LSN $e->[0] after $last" if $e->[0] <= $last;
        $at{$last = $e->[0]} = $e;
    }

    $put{"$_->[1] $_->[2]"} = 1 for grep { $_->[0] eq 'put' } @$ops;

    for my $e (grep { defined $_->[3] } @$events) {
        push @errors, "LSN $e->[0]: $e->[1] of $e->[3], never put to $e->[2]"
            if $e->[1] ne 'put' || !$put{"$e->[2] $e->[3]"};
    }

    for my $op (grep { defined $_->[6] && defined $_->[2] } @$ops) {
        my ($what, $key, $id, $tag) = @$op[0 .. 2, 6];
        next if $what !~ /^(?:put|get)$/ || $tag !~ /^"?([0-9a-f]+)-/;
        my $lsn = hex $1;
        next if !grep { $_->[0] < $lsn && $lsn <= $_->[1] } @$ranges;
        my $e = $at{$lsn};
        my $is = $e ? "$e->[1] $e->[2] " . ($e->[3] // $id) : 'nothing';
        push @errors, "LSN $lsn, of $what $key $id: $is"
            if $is ne "put $key $id";
        $told{$lsn} = $op if $what eq 'put' && defined $op->[4];
    }

    my $begun = 0;

    for my $lsn (sort { $a <=> $b } keys %told) {
        my $op = $told{$lsn};
        push @errors, "LSN $lsn: its put was over before that of an earlier one"
            if $op->[4] < $begun;
        $begun = $op->[3] if $op->[3] > $begun;
    }

    return @errors;
}


# That increments of one key by one, and gets of it, have an order in which each
# finds what the one before has left.  An operation is ["incr" or "get", key,
# sum, start, end]; of an increment without an answer, sum and end are undef.
# Returns the complaints.
#
# The sums tell the order, a get comes behind the increment that it has seen,
# and an increment without an answer made a sum that no client was told, if any.

sub counts {
    my ($ops) = @_;
    my @known = sort { $a->[2] <=> $b->[2] || $b->[0] cmp $a->[0] }
                grep { defined $_->[4] } @$ops;
    my @maybe = sort { $a->[3] <=> $b->[3] } grep { !defined $_->[4] } @$ops;
    my $zero = min(map { $_->[3] } @$ops);
    my (%told, @errors, $first, $later);

    for my $op (grep { $_->[0] eq 'incr' } @known) {
        push @errors, op_text($op, $zero) . ": $op->[2], twice"
            if $told{$op->[2]}++;
    }

    # from the end: what ends first of all that comes later; gets of one sum
    # come in any order

    my ($by, @first) = ('');

    for my $i (reverse 0 .. $#known) {
        my $op = $known[$i];
        $later = $first if $by ne "$op->[0] $op->[2]";
        $by = "$op->[0] $op->[2]";
        push @errors, op_text($op, $zero) . ": $op->[2], but "
                      . op_text($later, $zero) . ": $later->[2]"
            if $later && $op->[3] > $later->[4];
        $first = $op if !$first || $op->[4] < $first->[4];
        $first[$i] = $first;
    }

    my $i = 0;
    for my $sum (1 .. (@known ? $known[-1][2] : 0)) {
        $i++ while $known[$i][2] < $sum;
        next if $told{$sum};
        my $op = shift @maybe;
        push @errors, op_text($first[$i], $zero) . ": no increment to $sum"
            if !$op || $op->[3] > $first[$i][4];
    }

    return @errors;
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


# That keys are gone when they expire, not before, and for good, in a history of
# this kind: one client, which waits for each answer, puts values under a key
# and touches it; others get.  An operation has as its eighth the seconds until
# the key expires, 0 or undef: never.  A touch that found nothing is a get.
# Returns the complaints; `early`: by how much clocks may differ.
#
# The value of a put is there from it to the next put; until that, and not
# before its own time, it may be gone.  What is gone is not seen again.

sub expires {
    my ($ops, $early) = @_;
    my (%keys, @errors);

    push @{$keys{$_->[1]}}, $_ for @$ops;

    for my $key (sort keys %keys) {
        my @writes = sort { $a->[3] <=> $b->[3] }
                     grep { $_->[0] ne 'get' } @{$keys{$key}};

        # one without an answer may happen after the next one: who knows

        next if !@writes
                || grep { !defined $_->[4] } @writes[0 .. $#writes - 1];

        my $error = expires_key($keys{$key}, \@writes, $early);
        push @errors, "$key: $error" if $error;
    }

    return @errors;
}


sub expires_key {
    my ($ops, $writes, $early) = @_;
    my $zero = $writes->[0][3];
    my (@values, %value, @none);

    for my $op (@$writes) {
        my ($what, undef, $id, $start, $end, undef, undef, $ttl) = @$op;
        my $gone = $ttl ? $start + $ttl - $early : $NEVER;

        if ($what eq 'put') {
            @{$values[-1]}{qw(next over)} = ($start, $end // $NEVER) if @values;
            push @values, { put => $op, seen => [], gone => $gone,
                            next => $NEVER, over => $NEVER };
            $value{$id} = $values[-1];
            next;
        }

        $gone = min($gone, $values[-1]{gone}) if !defined $end;
        $values[-1]{gone} = $gone;
        push @{$values[-1]{seen}}, $op if defined $end;
    }

    for my $op (grep { $_->[0] eq 'get' } @$ops) {
        my $value = defined $op->[2] ? $value{$op->[2]} : undef;
        return op_text($op, $zero) . ', which was never put'
            if defined $op->[2] && !$value;
        push @{$value ? $value->{seen} : \@none}, $op;
    }

    for my $op (@none) {
        return op_text($op, $zero) . ', which was not gone'
            unless $op->[3] <= ($values[0]{put}[4] // $NEVER)
                   || grep { $_->{gone} < $_->{over} && $op->[4] >= $_->{gone}
                             && $op->[3] <= $_->{over} } @values;
    }

    for my $value (@values) {
        my ($start, $end) = @{$value->{put}}[3, 4];
        my ($gone) = sort { $a->[4] <=> $b->[4] }
                     grep { defined $end && $_->[3] > $end
                            && $_->[4] < $value->{next} } @none;

        for my $op (@{$value->{seen}}) {
            return op_text($op, $zero) . ', before ' . op_text($value->{put},
                                                               $zero)
                if $op->[4] < $start;
            return op_text($op, $zero) . ', which was written over'
                if $op->[3] > $value->{over};
            return op_text($op, $zero) . ', after ' . op_text($gone, $zero)
                if $gone && $op->[3] > $gone->[4];
        }
    }

    return;
}


1;
