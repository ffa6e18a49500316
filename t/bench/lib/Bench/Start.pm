package Bench::Start;

# A start with many keys in a snapshot, against Redis with the same in its RDB
# file; and the memory that keys take in both.

use strict;
use warnings;

use Bench::Core;
use Bench::Nginx;
use Bench::Process;
use Bench::Redis;
use Bench::Report;
use Bench::Store;


sub measure {
    my ($bench) = @_;
    return (start($bench), memory($bench));
}


sub start {
    my ($bench) = @_;
    my $keys = $bench->{few} ? 500_000 : 5_000_000;
    my $redis = $bench->{have}{redis} && filled_redis($bench, $keys);
    my $store = Bench::Store->new($bench, 'start', $keys);
    my $rounds = $bench->{quick} ? 1 : $bench->{late}->() ? 2 : 3;
    my (@ours, @redis);

    for my $round (1 .. $rounds) {
        $bench->{progress}->("round $round of $rounds, start");
        push @ours, our_start($bench, $store, $round);
        push @redis, redis_start($redis, $keys) if $redis;
    }

    $store->remove;
    my $name = sprintf 'start with %s keys / Redis', short($keys);

    return { name => $name, unit => ' s', ours => \@ours,
             $redis ? (peer => \@redis, ratio => ratios(\@redis, \@ours),
                       target => '>= 3') : () };
}


sub our_start {
    my ($bench, $store, $round) = @_;
    my $nginx = Bench::Nginx->new(
        bench => $bench, name => "start$round", workers => 2,
        patience => 120, zones => [[start => $store->zone_size(64),
                                    qq("path=$store->{dir}")]]);
    my $seconds = $nginx->start;

    die "keys are missing\n"
        if $nginx->stats('start')->{store}{keys} != $store->{keys};

    $nginx->stop;
    return $seconds;
}


# Values that cannot be pressed together, as most are not, load faster: so it is
# not tried.

sub filled_redis {
    my ($bench, $keys) = @_;
    my $redis = Bench::Redis->new(bench => $bench, name => 'redis.start',
                                  patience => 120);
    $bench->{progress}->("a Redis of $keys keys");
    $redis->start('rdbcompression no');
    populate($redis, $keys);
    $redis->command('SAVE');
    $redis->stop;
    return $redis;
}


sub redis_start {
    my ($redis, $keys) = @_;
    my $seconds = $redis->start('rdbcompression no');

    die "keys are missing in Redis\n" if $redis->command('DBSIZE') != $keys;

    $redis->stop;
    return $seconds;
}


# Keys are a name, a colon and a number: 16 bytes, but for the few whose number
# is shorter.

sub populate {
    my ($redis, $keys) = @_;
    my $name = 'k' x (15 - length($keys - 1));
    $redis->command('DEBUG', 'POPULATE', $keys, $name, 100);
}


# Bytes per key: of our zone all pages that hold them, of Redis what it says
# it uses.

sub memory {
    my ($bench) = @_;
    my $keys = $bench->{few} ? 200_000 : 1_000_000;
    my %core = Bench::Core::core($bench, 'bytes', 'key=16',
                                 'value=100', "keys=$keys");
    my $ours = $core{bytes_16_100_per_key};
    my @row = (name => 'zone bytes per key / Redis', unit => ' B',
               ours => [$ours]);

    return { @row } unless $bench->{have}{redis};

    my $redis = Bench::Redis->new(bench => $bench, name => 'redis.memory');
    $redis->start;
    my $before = used($redis);
    populate($redis, $keys);
    my $bytes = (used($redis) - $before) / $keys;
    $redis->stop;

    return { @row, peer => [$bytes], ratio => [$ours / $bytes],
             target => '<= 0.75' };
}


sub used {
    my ($redis) = @_;
    return $redis->command('INFO', 'memory') =~ /^used_memory:(\d+)/m
        ? $1 : die "Redis does not tell its memory\n";
}


1;
