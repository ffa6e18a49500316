package Bench::Cluster;

# What it costs a write that a process of its own commits it (cluster=): the
# same nginx has a store with it and one without, and both take many short
# turns: what else the machine does meanwhile, both have to bear.

use strict;
use warnings;

use Bench::Load;
use Bench::Nginx;
use Bench::Process;
use Bench::Report;

use constant { CONNECTIONS => 64, KEYS => 10_000 };


sub measure {
    my ($bench) = @_;
    my @syncs = qw(always off);
    my $nginx = Bench::Nginx->new(
        bench => $bench, name => 'cluster', workers => 2,
        zones => [map { [ "alone_$_", '256m', "sync=$_" ],
                        [ "node_$_", '256m',
                          "sync=$_ cluster=127.0.0.1:8080" ] } @syncs]);

    $nginx->start;
    my @rows = map { lone_put($bench, $nginx, $_), puts($bench, $nginx, $_) }
               @syncs;
    $nginx->stop;

    return @rows;
}


sub lone_put {
    my ($bench, $nginx, $sync) = @_;
    my %us = turns($bench, $bench->{rounds} * 40, map {
        my $target = { port => $nginx->{port}, lone => "/${_}_$sync/v100-" };
        $_ => sub { lone($bench, $target, 'PUT', 50) };
    } qw(alone node));

    return { name => "lone PUT with cluster=, sync=$sync", unit => ' us',
             ours => $us{node}, peer => $us{alone}, target => '<= 1.15',
             ratio => ratios($us{node}, $us{alone}) };
}


sub puts {
    my ($bench, $nginx, $sync) = @_;
    my %rate = turns($bench, $bench->{rounds} * 10, map {
        my $path = "/${_}_$sync/k%lu";
        $_ => sub {
            httpload($bench, port => $nginx->{port}, method => 'PUT',
                     connections => CONNECTIONS, seconds => $bench->{look} / 4,
                     path => $path, keys => KEYS, size => 100);
        };
    } qw(alone node));

    return { name => '  by ' . CONNECTIONS . ' connections', unit => '/s',
             ours => $rate{node}, peer => $rate{alone},
             ratio => ratios($rate{node}, $rate{alone}) };
}


1;
