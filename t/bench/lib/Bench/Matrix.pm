package Bench::Matrix;

# Everything against everything: requests a second by method, size of values,
# connections and workers, of all servers in turn. Short samples, a survey; the
# close races are run by Bench::Rates.

use strict;
use warnings;
use utf8;

use Bench::Grid;
use Bench::Load;
use Bench::Report;

use constant MIB => 1_048_576;

my %COLUMNS = (
    get => [qw(return dav webdis redis always)],
    put => [qw(discard dav webdis redis always 1s off)],
    mix => [qw(dav webdis always 1s off)],
);

my %TITLES = (get => 'GET (one key; the same code in all modes of sync)',
              put => 'PUT', mix => '9 GETs to 1 PUT');

my %NAMES = (return => 'return 200', dav => 'WebDAV', webdis => 'webdis',
             redis => 'redis-bench', always => 'always', '1s' => '1s',
             off => 'off');


# The rates of all: name of the load => server => [rates]. On a machine on which
# all takes longer, the last loads get one sample instead of three.

sub measure {
    my ($bench, $field) = @_;
    my %cells;

    for my $load (loads($bench)) {
        my $rounds = $bench->{quick} || $bench->{late}->() ? 1 : 3;
        my @subs = map { look($field, $load, $_, seconds($bench, $load)) }
                   @{$COLUMNS{$load->{op}}};
        my %v = turns({ progress => sub {
            $bench->{progress}->("$load->{op} $load->{size} bytes, "
                . "$load->{connections} connections, $_[0]");
        } }, $rounds, @subs);
        $cells{$load->{name}} = \%v;
    }

    return \%cells;
}


# In order: { op, size, connections, workers, name }. The mix, and one worker,
# are not tried with everything.

sub loads {
    my ($bench) = @_;
    my @sizes = @{$bench->{sizes}};
    my @loads;

    for my $op (qw(get put mix)) {
        my @connections = $op eq 'mix' || $bench->{quick} ? 64 : (1, 64, 256);
        for my $size (@sizes) {
            push @loads, map { load($op, $size, $_, 2) } @connections;
        }
        push @loads, map { load($op, $sizes[0], $_, 1) } @connections;
    }

    return @loads;
}


sub load {
    my ($op, $size, $connections, $workers) = @_;
    return { op => $op, size => $size, connections => $connections,
             workers => $workers, name => "$op $size $connections $workers" };
}


# How long a sample is: 256 values of 1 MiB at once are not written in no time.

sub seconds {
    my ($bench, $load) = @_;
    return $bench->{quick} ? 0.3
         : $load->{size} >= MIB && $load->{connections} > 64
           && $load->{op} eq 'put' ? 2 : 0.6;
}


# One server under one load: its name, and a sub that gives its rate. Nothing
# where it has no part in it.

sub look {
    my ($field, $load, $name, $seconds) = @_;
    my %o = (%$load, seconds => $seconds);

    if ($name eq 'redis') {
        return unless $field->{redis} && $load->{workers} == 2;
        my $guess = $load->{connections} * 2;
        return $name => sub { redis($field, \%o, \$guess) };
    }

    return if $name eq 'return' && $load->{size} >= MIB;
    my $target = $field->target($name, $load->{workers}) or return;

    return $name => sub {
        my $rate = wrk(%o, target => $target);
        clean_up($field, $load, $name);
        return $rate;
    };
}


# A short sample leaves much undone where values are large, or where no answer
# waited for the disk.

sub clean_up {
    my ($field, $load, $name) = @_;
    return $field->settle if $load->{size} >= MIB;
    $field->sync_disk if $load->{op} ne 'get' && $name =~ /^(?:dav|1s|off)$/;
}


# The first two samples, of which the figures are not kept, find out how many
# operations take how long.

sub redis {
    my ($field, $o, $guess) = @_;
    my $run = sub {
        $$guess = redis_benchmark(%$o, port => $field->{redis}{port},
                                  guess => $$guess, seconds => shift);
    };

    $field->fill_redis($o->{size}) if $o->{op} eq 'get';

    if ($$guess == $o->{connections} * 2) {
        $run->($_) for $o->{size} < MIB ? (1, 0.1) : ();
    }

    $run->($o->{seconds});
    $field->settle if $o->{size} >= MIB;
    return $$guess;
}


sub print_tables {
    my ($bench, $cells) = @_;

    print_heading($bench, 'Survey: requests a second');
    print <<'END';
Medians, ± half the range of the samples; in brackets how much that is of ours
with sync=always. "1s" and "off" are our other modes, c. connections, w. worker
processes. Redis syncs every write, also behind webdis; WebDAV syncs none.
END

    for my $op (qw(get put mix)) {
        print_heading($bench, $TITLES{$op});
        my @columns = grep { my $c = $_; grep { /^$op / && $cells->{$_}{$c} }
                                         keys %$cells } @{$COLUMNS{$op}};
        my @names = map { $op eq 'put' && $_ eq 'return' ? 'discard'
                          : $NAMES{$_} || $_ } @columns;
        Bench::Grid::head($bench, $bench->{markdown}
            ? 'value, connections, workers' : 'value c. w.', @names);
        Bench::Grid::line($bench, label($_), $cells->{$_->{name}}, 'always',
                          @columns) for grep { $_->{op} eq $op } loads($bench);
    }
}


sub label {
    my ($load) = @_;
    my $size = $load->{size};
    $size = $size >= MIB ? $size / MIB . 'M' : $size >= 1024
          ? $size / 1024 . 'K' : "${size}B";
    return sprintf '%-4s %3d c %d w', $size, @$load{qw(connections workers)};
}


1;
