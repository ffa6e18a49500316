package Bench::Api::Bulk;

# A bulk load of many lines into an empty store, against the same pairs by
# redis-cli --pipe into a Redis that syncs what it answers.

use strict;
use warnings;

use File::Path qw(remove_tree);
use Time::HiRes qw(time);

use Bench::Nginx;
use Bench::Process;
use Bench::Redis;
use Bench::Report;
use Bench::Load;


sub measure {
    my ($bench) = @_;
    my $lines = $bench->{quick} ? 50_000 : 1_000_000;
    my $json = write_lines("$bench->{dir}/bulk.json", $lines);
    my $redis = $bench->{have}{redis}
        && write_commands("$bench->{dir}/bulk.redis", $lines);
    my $rounds = $bench->{rounds} > 2 ? 2 : $bench->{rounds};

    my %v = turns($bench, $rounds, ours => sub { ours($bench, $json, $lines) },
                  $redis ? (redis => sub { redis($bench, $redis, $lines) })
                         : ());
    unlink $json, $redis || ();

    return { name => 'POST /bulk of ' . short($lines) . ' lines', unit => ' s',
             ours => $v{ours}, $bench->{quick} ? () : (target => '<= 10') },
           $v{redis} ? { name => '  / redis-cli --pipe', unit => ' s',
                         ours => $v{ours}, peer => $v{redis},
                         ratio => ratios($v{redis}, $v{ours}) } : ();
}


# So many keys of 16 bytes, their values of 100, whose number is `step` times
# as large each; returns the name.

sub write_lines {
    my ($name, $lines, $step) = @_;
    my $value = 'x' x 100;
    return write_file($name, $lines, $step || 1,
                      qq({"key":"%016d","value":"$value"}\n));
}


sub write_commands {
    my ($name, $lines) = @_;
    my $value = 'x' x 100;
    return write_file($name, $lines, 1, "*3\r\n\$3\r\nSET\r\n\$16\r\n%016d\r\n"
                                        . "\$100\r\n$value\r\n");
}


sub write_file {
    my ($name, $lines, $step, $format) = @_;
    open(my $f, '>', $name) or die "$name: $!\n";
    printf $f $format, $_ * $step for 0 .. $lines - 1;
    close $f or die "$name: $!\n";
    return $name;
}


# Seconds that it takes in an nginx of its own.

sub ours {
    my ($bench, $file, $lines) = @_;
    my $nginx = Bench::Nginx->new(bench => $bench, name => 'bulk',
                                  workers => 2, zones => [[bulk => '1g', '']]);
    $nginx->start;
    my $seconds = post($nginx, 'bulk', $file, $lines);
    my $keys = $nginx->stats('bulk')->{store}{keys};
    $nginx->stop;
    die "$keys keys of $lines lines\n" if $keys != $lines;
    remove($bench, $nginx->{dir});
    return $seconds;
}


# Seconds from the start of the client to its end.

sub post {
    my ($nginx, $zone, $file, $lines) = @_;
    my $from = time;
    my $answer = run({ timeout => 300 }, 'curl', '-sS', '-X', 'POST', '-T',
                     $file, '-H', 'Expect:',
                     "http://127.0.0.1:$nginx->{port}/$zone.bulk");
    my $seconds = time - $from;

    die "bulk load: $answer\n"
        if $answer !~ /^\{"lines":$lines,"applied":$lines\}/;
    return $seconds;
}


sub redis {
    my ($bench, $file, $lines) = @_;
    my $redis = Bench::Redis->new(bench => $bench, name => 'redis.bulk');
    $redis->start('appendonly yes', 'appendfsync always',
                  'auto-aof-rewrite-percentage 0');
    my $from = time;
    my $answer = run({ timeout => 300 }, 'sh', '-c',
                     'exec redis-cli -p "$1" --pipe <"$2"', 'sh',
                     $redis->{port}, $file);
    my $seconds = time - $from;
    my $keys = $redis->command('DBSIZE');
    $redis->stop;

    die "redis-cli --pipe: $answer"
        if $answer !~ /errors: 0, replies: $lines/ || $keys != $lines;
    remove($bench, $redis->{dir});
    return $seconds;
}


# What is left of one is not to be written while the next is measured.

sub remove {
    my ($bench, $dir) = @_;
    remove_tree($dir);
    run({ timeout => 120 }, 'sync', '-f', $bench->{dir});
}


1;
