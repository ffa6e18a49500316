package Bench::Latency;

# How long a write takes: one that comes alone, against what it cannot do
# without; and the slowest of many while a snapshot is being taken.

use strict;
use warnings;

use Time::HiRes qw(time);

use Bench::Load;
use Bench::Nginx;
use Bench::Process;
use Bench::Report;
use Bench::Store;


sub measure {
    my ($bench, $field) = @_;
    return (lone_put($bench, $field), snapshot($bench));
}


# A lone write waits for its request to come and go, and for one sync. Blocks
# of each take turns, so that each finds the processors as awake as its own
# kind of load leaves them.

sub lone_put {
    my ($bench, $field) = @_;
    my $target = $field->target('always');
    my ($blocks, $count) = $bench->{quick} ? (1, 200) : (3, 500);
    my (%sum, @put, @parts, @turn_put, @turn_parts);

    for my $round (1 .. $bench->{rounds}) {
        $bench->{progress}->("round $round of $bench->{rounds}, lone PUT");
        %sum = ();

        for (1 .. $blocks) {
            $sum{put} += lone($bench, $target, 'PUT', $count);
            $sum{get} += lone($bench, $target, 'GET', $count);
            $sum{sync} += syncs($bench, $count)->{median};
            my ($put, $get) = lone($bench, $target, 'PUT,GET', $count);
            $sum{turn_put} += $put;
            $sum{turn_get} += $get;
        }

        $_ /= $blocks for values %sum;
        push @put, $sum{put};
        push @parts, $sum{get} + $sum{sync};
        push @turn_put, $sum{turn_put};
        push @turn_parts, $sum{turn_get} + $sum{sync};
    }

    return ({ name => 'lone PUT / (lone GET + one sync)', unit => ' us',
              ours => \@put, peer => \@parts, ratio => ratios(\@put, \@parts),
              target => '<= 1.15' },
            { name => '  taking turns on one connection', unit => ' us',
              ours => \@turn_put, peer => \@turn_parts,
              ratio => ratios(\@turn_put, \@turn_parts) });
}


# The store's own snapshots, of all its keys, with 256 connections that write.
# One is due when the log has grown by the last one's size: large values bring
# it near that, so that the load itself lets it begin, soon after its own
# beginning. The load ends when the old files are gone, too.

sub snapshot {
    my ($bench) = @_;
    my $keys = $bench->{few} ? 200_000 : 1_000_000;
    my $store = Bench::Store->new($bench, 'snap', $keys);
    my $nginx = Bench::Nginx->new(
        bench => $bench, name => 'snapshot', workers => 2,
        zones => [[snap => $store->zone_size(512),
                   qq("path=$store->{dir}" snapshot=64k)]]);
    my $rounds = $bench->{quick} ? 1 : 2 * $bench->{rounds};
    my (@during, @outside, @took, @share);

    $nginx->start;

    for my $round (1 .. $rounds) {
        $bench->{progress}->("round $round of $rounds, snapshots");
        my $made = nearly_snapshot($nginx);
        my $from = time;
        my ($begun, $ended, $over);
        push @during, slowest($nginx, $keys, 30, sub {
            if ($store->in_snapshot) { $begun ||= time }
            elsif ($begun)           { $ended ||= time }
            return $over = $ended && time > $ended + 0.25;
        });
        die "no snapshot begins, or it does not end\n" unless $over;

        my $late = slowest($nginx, $keys, $ended + 0.25 - $from);

        # where writes are so quick that another one was due, it does not count
        my $now = $nginx->stats('snap')->{store}{snapshots}{completed};
        if ($now != $made + 1 || $store->in_snapshot) {
            pop @during;
            next;
        }

        push @outside, $late;
        push @took, $ended - $begun;
        push @share, ($ended + 0.25 - $begun) / ($ended + 0.25 - $from);
    }

    die "no load without a snapshot\n" unless @outside;

    $nginx->stop;
    $store->remove;

    return { name => 'PUT p99.9 in a snapshot / outside', unit => ' us',
             ours => \@during, peer => \@outside,
             ratio => ratios(\@during, \@outside), target => '<= 1.5' },
           { name => '  seconds of the snapshot meanwhile', unit => ' s',
             ours => \@took },
           { name => '  its part of the load', unit => '', ours => \@share };
}


# A fifth of a second before a snapshot, or a bit more. Returns how many there
# were.

sub nearly_snapshot {
    my ($nginx) = @_;
    my $value = 'x' x 1_048_576;

    for (1 .. 10_000) {
        my $had = $nginx->stats('snap')->{store}{snapshots};
        return $had->{completed}
            if $had->{log_bytes} + 3 * length $value > $had->{last_bytes};

        my $answer = $nginx->request(PUT => '/snap/large', $value);
        die "PUT of 1 MiB: $answer->{status}\n" unless $answer->{success};
    }

    die "no snapshot comes near\n";
}


sub slowest {
    my ($nginx, $keys, $seconds, $done) = @_;
    my (undef, $late) = wrk(
        op => 'put', size => 100, connections => 256, seconds => $seconds,
        target => { port => $nginx->{port}, put => '/snap/%016d' },
        keys => 10_007, stride => int($keys / 10_007), done => $done);
    return $late;
}


1;
