package KV::Ledger;

# What a client knows about its keys, and so what it may be told.
#
# Of each key it holds the last operation that must have happened (it was
# acknowledged, or its effect was seen, and nothing is visible before it is
# durable) and those tried since whose outcome is unknown.  A read must give
# the result of one of these.  A key has one writer, which waits for each
# answer, so that the order of operations is the order of their numbers.

use strict;
use warnings;

use KV::Util;


sub new { return bless { keys => {} }, $_[0] }


# An operation is about to be sent: its number.

sub try {
    my ($self, $key, $is_put) = @_;
    my $k = $self->{keys}{$key} ||= { seq => 0, ops => [[0, 0]] };

    push @{$k->{ops}}, [++$k->{seq}, $is_put];
    return $k->{seq};
}


# It was acknowledged.

sub ack {
    my ($self, $key, $seq) = @_;
    my $ops = $self->{keys}{$key}{ops};

    shift @$ops while $ops->[0][0] < $seq;
}


# It certainly did not happen.

sub never {
    my ($self, $key, $seq) = @_;
    my $ops = $self->{keys}{$key}{ops};

    @$ops = grep { $_->[0] != $seq } @$ops;
}


# A read gave this value, or undef for none: the complaint, or nothing if that
# is right.

sub seen {
    my ($self, $key, $body) = @_;
    my $ops = ($self->{keys}{$key} ||= { seq => 0, ops => [[0, 0]] })->{ops};
    my ($seq, $op);

    if (defined $body) {
        $seq = check_value($key, $body) // return
            "$key: torn or foreign: " . length($body) . ' bytes, '
            . substr($body, 0, 40) =~ s/[^ -~]/?/gr;
        ($op) = grep { $_->[0] == $seq && $_->[1] } @$ops;

    } else {
        ($op) = grep { !$_->[1] } @$ops;
    }

    if (!$op) {
        return sprintf "%s: acknowledged %s %d, found %s", $key,
                       $ops->[0][1] ? 'PUT' : 'DELETE', $ops->[0][0],
                       defined $seq ? "PUT $seq" : 'nothing';
    }

    shift @$ops while $ops->[0] != $op;
    return;
}


sub keys { return CORE::keys %{$_[0]{keys}} }


sub merge {
    my ($class, @ledgers) = @_;
    return bless { keys => { map { %{$_->{keys}} } @ledgers } }, $class;
}


1;
