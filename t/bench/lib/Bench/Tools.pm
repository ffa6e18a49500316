package Bench::Tools;

# What a person does to a store with many keys: load, check, dump, back it up
# and restore it, beside Redis and its own tools with the same pairs. Both leave
# what they were given on disk.

use strict;
use warnings;

use File::Path qw(make_path remove_tree);
use Time::HiRes qw(time);

use Bench::Api::Bulk;
use Bench::Nginx;
use Bench::Process;
use Bench::Redis;
use Bench::Report;

my @STEPS = qw(load check dump backup check_backup restore);

# Seconds after which a step hangs.
use constant PATIENCE => 300;


sub measure {
    my ($bench) = @_;
    my $keys = $bench->{few} ? 500_000 : 5_000_000;
    my $rounds = $bench->{quick} ? 1 : $bench->{rounds} > 2 ? 3
                                                            : $bench->{rounds};
    my %files = write_pairs($bench, $keys);
    my @sides = ([ours => \&ours], $bench->{have}{redis} ? [redis => \&redis]
                                                         : ());
    my %v;

    for my $round (1 .. $rounds) {
        for my $side (@sides) {
            my ($name, $steps) = @$side;
            my $dir = "$bench->{dir}/tools.$name$round";
            make_path($dir);
            my %s = $steps->($bench, $dir, $files{$name}, $keys,
                             "$name, round $round of $rounds");
            push @{$v{$name}{$_}}, $s{$_} for keys %s;
            Bench::Api::Bulk::remove($bench, $dir);
        }
        @sides = reverse @sides;
    }

    unlink values %files;
    return rows($keys, $v{ours}, $v{redis} // {});
}


sub write_pairs {
    my ($bench, $keys) = @_;
    my $name = "$bench->{dir}/pairs";
    $bench->{progress}->("$keys pairs");
    return (ours => Bench::Api::Bulk::write_lines("$name.json", $keys),
            $bench->{have}{redis}
            ? (redis => Bench::Api::Bulk::write_commands("$name.redis", $keys))
            : ());
}


sub rows {
    my ($keys, $ours, $redis) = @_;
    my %name = (
        load => 'load of ' . short($keys) . ' pairs / --pipe, SAVE',
        check => 'check / redis-check-rdb',
        dump => 'dump',
        backup => 'GET /backup / redis-cli --rdb',
        check_backup => 'check of that / redis-check-rdb',
        restore => 'restore and start / start',
    );

    return map {
        my $peer = $redis->{$_};
        { name => $name{$_}, unit => ' s', ours => $ours->{$_},
          $peer ? (peer => $peer, ratio => ratios($peer, $ours->{$_})) : () }
    } @STEPS;
}


# Seconds of a step; what it prints is checked by the caller.

sub timed {
    my ($bench, $what, $seconds, @command) = @_;
    $bench->{progress}->($what);
    my $from = time;
    my $out = run({ timeout => PATIENCE }, @command);
    $$seconds = time - $from;
    return $out;
}


sub to_file {
    my ($file, @command) = @_;
    return ('sh', '-c', 'file=$1; shift; exec "$@" >"$file"', 'sh', $file,
            @command);
}


sub from_file {
    my ($file, @command) = @_;
    return ('sh', '-c', 'file=$1; shift; exec "$@" <"$file"', 'sh', $file,
            @command);
}


sub ours {
    my ($bench, $dir, $pairs, $keys, $round) = @_;
    my ($tool, $store, %s) = ($bench->{tool}, "$dir/store");

    timed($bench, "$round: load", \$s{load},
          from_file($pairs, $tool, 'load', $store));
    timed($bench, "$round: check", \$s{check}, $tool, 'check', $store);
    timed($bench, "$round: dump", \$s{dump},
          to_file("$dir/dump", $tool, 'dump', $store));
    die "kv-inspect dump: $dir/dump is short\n" if -s "$dir/dump" < $keys * 116;
    unlink "$dir/dump";

    my $nginx = served($bench, $store, $keys);
    my $url = "http://127.0.0.1:$nginx->{port}/tools.backup";
    timed($bench, "$round: backup", \$s{backup}, 'curl', '-sS', '-f', '-o',
          "$dir/backup", $url);
    $nginx->stop;
    remove_tree($nginx->{dir});

    timed($bench, "$round: check of the backup", \$s{check_backup}, $tool,
          'check', "$dir/backup");
    timed($bench, "$round: restore", \$s{restore}, $tool, 'restore',
          "$dir/backup", "$dir/restored");
    $nginx = served($bench, "$dir/restored", $keys);
    $s{restore} += $nginx->{seconds};
    $nginx->stop;
    remove_tree($nginx->{dir});

    return %s;
}


# An nginx that has started with such a directory.

sub served {
    my ($bench, $dir, $keys) = @_;
    my $zone = int($keys * 250 / 1_048_576 + 64) . 'm';
    my $nginx = Bench::Nginx->new(
        bench => $bench, name => 'tools', workers => 2, patience => 120,
        zones => [[tools => $zone, qq("path=$dir")]],
        locations => 'location = /tools.backup { kv_backup tools; }');

    $nginx->{seconds} = $nginx->start;
    my $have = $nginx->stats('tools')->{store}{keys};
    die "$have keys of $keys in $dir\n" if $have != $keys;

    return $nginx;
}


# Values that cannot be pressed together load faster; ours are not, either.

sub redis {
    my ($bench, $dir, $pairs, $keys, $round) = @_;
    my $redis = Bench::Redis->new(bench => $bench, name => 'redis.tools',
                                  patience => 120);
    my $rdb = "$redis->{dir}/dump.rdb";
    my %s;

    $redis->start('rdbcompression no');
    my $answer = timed($bench, "$round: load", \$s{load},
                       from_file($pairs, 'redis-cli', '-p', $redis->{port},
                                 '--pipe'));
    die "redis-cli --pipe: $answer"
        if $answer !~ /errors: 0, replies: $keys\n/;
    my $from = time;
    $redis->command('SAVE');
    $s{load} += time - $from;

    timed($bench, "$round: check", \$s{check}, 'redis-check-rdb', $rdb);
    timed($bench, "$round: backup", \$s{backup}, 'redis-cli', '-p',
          $redis->{port}, '--rdb', "$dir/backup.rdb");
    $redis->stop;
    timed($bench, "$round: check of the backup", \$s{check_backup},
          'redis-check-rdb', "$dir/backup.rdb");

    rename "$dir/backup.rdb", $rdb or die "$rdb: $!\n";
    $s{restore} = $redis->start('rdbcompression no');
    my $have = $redis->command('DBSIZE');
    die "$have keys of $keys in Redis\n" if $have != $keys;
    $redis->stop;
    remove_tree($redis->{dir});

    return %s;
}


1;
