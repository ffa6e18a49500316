package Bench::Etcd;

# An etcd of one member on ports of its own, which syncs every write, as it does
# by default. Asked through its gateway, JSON over HTTP.

use strict;
use warnings;

use HTTP::Tiny ();

use Bench::Process;


sub new {
    my ($class, %o) = @_;
    return bless { %o, dir => "$o{bench}{dir}/$o{name}",
                   port => free_port(), peer_port => free_port() }, $class;
}


sub start {
    my ($self) = @_;
    my ($client, $peer) = map { "http://127.0.0.1:$self->{$_}" }
                          qw(port peer_port);
    my $log = "$self->{dir}.log";

    $self->{pid} = Bench::Process::start($log, 'etcd',
        '--data-dir', $self->{dir}, '--log-level', 'error',
        '--listen-client-urls', $client, '--advertise-client-urls', $client,
        '--listen-peer-urls', $peer, '--initial-advertise-peer-urls', $peer,
        '--initial-cluster', "default=$peer");

    my $http = HTTP::Tiny->new(timeout => 5);
    my $up = wait_for(30, sub {
        return !running($self->{pid})
            || $http->get("$client/health")->{content} =~ /"true"/;
    });

    die "etcd does not start:\n" . last_lines($log)
        unless $up && running($self->{pid});
}


sub stop { my ($self) = @_; Bench::Process::stop($self->{pid}) }


1;
