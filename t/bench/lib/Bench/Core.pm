package Bench::Core;

# The store without nginx: what t/bench/core.c says, which takes its own turns.

use strict;
use warnings;

use List::Util qw(sum);

use Bench::Process;
use Bench::Report;


# What a command of it prints: name => number.

sub core {
    my ($bench, @command) = @_;
    $bench->{progress}->("core @command");
    my $out = run({ timeout => 300 }, "$bench->{bin}/core", @command);
    return $out =~ /^(\S+) ([\d.]+)$/mg;
}


sub measure {
    my ($bench) = @_;
    return (lookups($bench), rewrites($bench), commits($bench));
}


sub lookups {
    my ($bench) = @_;
    my ($few, $many) = (100_000, $bench->{few} ? 1_000_000 : 10_000_000);
    my %v = core($bench, 'lookups', "keys=$few,$many", 'value=100',
                 "rounds=$bench->{rounds}");
    my $name = sprintf 'lookup among %s keys / %s', short($many), short($few);
    my @rows = (growth(\%v, "lookups_%s_ns", $few, $many, name => $name,
                       target => '<= 2.5'),
                growth(\%v, "lookups_%s_memory_ns", $few, $many,
                       name => '  two reads of that much memory'));

    for my $n ($few, $many) {
        my ($one, $two) = map { $v{"lookups_${n}_writer_${_}_per_s"} } 1, 2;
        push @rows, { name => 'lookups by 2 threads / 1, ' . short($n),
                      unit => '/s', ours => [$two], peer => [$one],
                      ratio => [$v{"lookups_${n}_writer_ratio"}],
                      target => '>= 1.9' },
                    { name => '  per second of processor time', unit => '/s',
                      ours => [$v{"lookups_${n}_writer_2_per_cpu_s"}],
                      peer => [$v{"lookups_${n}_writer_1_per_cpu_s"}],
                      ratio => [$v{"lookups_${n}_writer_cpu_ratio"}] };
    }

    return @rows;
}


# What becomes of a time when there are many keys instead of few.

sub growth {
    my ($v, $format, $few, $many, %row) = @_;
    my ($peer, $ours) = map { $v->{sprintf $format, $_} } $few, $many;
    return { %row, unit => ' ns', ours => [$ours], peer => [$peer],
             ratio => [$ours / $peer] };
}


# All mixes of sizes; a refused put is what a client sees as a 507.

sub rewrites {
    my ($bench) = @_;
    my %v = core($bench, 'rewrites', 'zone=32m',
                 $bench->{quick} ? 'max=30k' : ());
    my ($refused, $puts) = map { my $what = $_;
                                 sum map { $v{$_} } grep { /_$what$/ } keys %v }
                           qw(refused puts);

    return ({ name => 'ten rewrites, 75% full: refused', unit => '',
              ours => [$refused], peer => [$puts], target => '<= 0' });
}


# What it costs to keep keys in order, beside a store that does not, and 1,000
# keys in order: not a part of the targets, but of what lists do over HTTP.

sub lists {
    my ($bench) = @_;
    my $keys = $bench->{few} ? 1_000_000 : 10_000_000;
    my %v = core($bench, 'lists', "keys=$keys", 'letters=random',
                 'rounds=' . ($bench->{quick} ? 1 : 3));
    my $name = "lists_random_$keys";

    return (cost(\%v, "${name}_overwrite", 'core: overwrites, list=on / off',
                 '<= 1.03'),
            cost(\%v, "${name}_new_key", 'core: new keys, list=on / off',
                 '<= 1.15'),
            { name => 'core: bytes a key for list=on', unit => ' B',
              ours => [$v{"${name}_bytes_per_key"}], target => '<= 24' },
            { name => 'core: 1,000 of ' . short($keys) . ' keys',
              unit => ' us', ours => [$v{"${name}_walk_us"}],
              target => '<= 1000' });
}


sub cost {
    my ($v, $what, $name, $target) = @_;
    return { name => $name, unit => ' ns', ours => [$v->{"${what}_on_ns"}],
             peer => [$v->{"${what}_off_ns"}],
             ratio => [$v->{"${what}_ratio"}], target => $target };
}


# Threads that write, each with 64 in flight; in memory a sync costs nothing.

sub commits {
    my ($bench) = @_;
    my @producers = (1, 2, 4);
    my @to = ('producers=' . join(',', @producers), 'flight=64',
              $bench->{quick} ? 'rounds=1' : ());
    my %disk = core($bench, 'commits', @to, "dir=$bench->{dir}");
    my %memory = core($bench, 'commits', @to);

    return map { my $name = "commits_${_}x64_per_s";
                 { name => "commits by $_ threads, on disk / tmpfs",
                   unit => '/s', ours => [$disk{$name}],
                   peer => [$memory{$name}],
                   ratio => [$disk{$name} / $memory{$name}] } } @producers;
}


1;
