package Bench::Rates;

# Requests a second of 100 bytes, against nginx by itself, against Redis, and
# against what the disk can do.

use strict;
use warnings;

use Bench::Load;
use Bench::Report;


sub measure {
    my ($bench, $field) = @_;

    return ((map { reads($bench, $field, $_) } 64, 256),
            writes_few($bench, $field), writes_many($bench, $field),
            log_bytes($bench, $field));
}


sub reads {
    my ($bench, $field, $connections) = @_;
    my $get = rate($field, get => $connections);

    # the closest race gets twice the rounds
    my %near = turns($bench, rounds($bench) * 2, ours => $get->('always'),
                     'return 200' => $get->('return'));
    my @rows = row("GET, $connections conns / return 200", \%near,
                   'return 200', '>= 0.97');

    if ($field->target('webdis')) {
        my %far = turns($bench, rounds($bench), ours => $get->('always'),
                        webdis => $get->('webdis'));
        push @rows, row("GET, $connections conns / webdis", \%far, 'webdis',
                        '>= 1.6');
    }

    return @rows;
}


sub writes_few {
    my ($bench, $field) = @_;
    my $put = rate($field, put => 64);
    return unless $field->target('webdis');

    my %v = turns($bench, rounds($bench), ours => $put->('always'),
                  webdis => $put->('webdis'));

    return row('PUT, 64 conns / webdis', \%v, 'webdis', '>= 1.5');
}


sub writes_many {
    my ($bench, $field) = @_;
    my $put = rate($field, put => 256);
    my @subs = (ours => $put->('always'), discard => $put->('discard'),
                syncs => sub { syncs($bench, 2000)->{rate} });

    push @subs, webdis => $put->('webdis') if $field->target('webdis');
    push @subs, redis($field, $_) for $field->{redis} ? (1, 2) : ();

    my %v = turns($bench, rounds($bench), @subs);

    # with threads of its own or without, the better in each round counts
    $v{redis} = better(@v{qw(redis1 redis2)}) if $v{redis1};

    return (row('PUT, 256 conns / discard', \%v, 'discard', '>= 0.6'),
            row('PUT, 256 conns / webdis', \%v, 'webdis', '>= 1.5'),
            row('PUT, 256 conns / redis-benchmark', \%v, 'redis', '>= 1'),
            row('PUT, 256 conns / syncs one by one', \%v, 'syncs', '>= 4'));
}


# What the machine does changes from one second to the next: many brief samples
# tell more than few long ones.

sub rounds { my ($bench) = @_; return $bench->{rounds} * 3 }
sub look { my ($bench) = @_; return $bench->{look} / 2 }


# A sub that makes subs: $rate->('always')->() is a rate.

sub rate {
    my ($field, $op, $connections) = @_;
    return sub {
        my $target = $field->target(shift);
        return sub {
            return scalar wrk(op => $op, target => $target, size => 100,
                              connections => $connections,
                              seconds => look($field->{bench}));
        };
    };
}


sub redis {
    my ($field, $threads) = @_;
    return "redis$threads" => redis_rates(
        port => $field->{redis}{port}, op => 'put', size => 100,
        connections => 256, seconds => look($field->{bench}),
        threads => $threads);
}


sub row {
    my ($name, $v, $peer, $target) = @_;
    return unless $v->{$peer};
    return { name => $name, unit => '/s', ours => $v->{ours},
             peer => $v->{$peer}, ratio => ratios($v->{ours}, $v->{$peer}),
             target => $target };
}


# What the log takes for a byte of keys and values, in batches and in the blocks
# that hold them; and what the workers write at all, new segments and snapshots
# included.

sub log_bytes {
    my ($bench, $field) = @_;
    my $target = $field->target('always');
    my @ratios;

    for my $round (1 .. $bench->{rounds}) {
        $bench->{progress}->("round $round of $bench->{rounds}, log bytes");
        my @before = (counts($field), written($field));
        wrk(op => 'put', target => $target, size => 1024, connections => 64,
            seconds => $bench->{look});
        my @after = (counts($field), written($field));
        my ($payload, @bytes) = map { $after[$_] - $before[$_] } 0 .. 3;
        push @{$ratios[$_]}, $bytes[$_] / $payload for 0 .. 2;
    }

    my @names = ('log bytes per payload byte, 1 KiB', '  in whole blocks',
                 '  and all else that is written');

    return map {{ name => $names[$_], unit => '', ours => $ratios[$_],
                  $_ == 0 ? (target => '<= 1.15') : () }} 0 .. 2;
}


sub counts {
    my ($field) = @_;
    my $stats = $field->{two}->stats('always')->{store};
    return ($stats->{commit}{payload_bytes},
            @{$stats->{log}}{qw(bytes written)});
}


sub written {
    my ($field) = @_;
    my $sum = 0;

    for my $pid ($field->{two}->workers) {
        open(my $f, '<', "/proc/$pid/io") or next;
        /^write_bytes: (\d+)/ and $sum += $1 for <$f>;
    }

    return $sum;
}


1;
