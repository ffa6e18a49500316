package Bench::Webdis;

# webdis, the bridge from HTTP to a Redis, on a port of its own.

use strict;
use warnings;

use IO::Socket::INET ();
use JSON::PP ();

use Bench::Process;


sub new {
    my ($class, %o) = @_;
    return bless { %o, port => free_port() }, $class;
}


sub start {
    my ($self) = @_;
    my $dir = $self->{redis}{dir};

    open(my $f, '>', "$dir/webdis.json") or die "$dir/webdis.json: $!\n";
    print $f JSON::PP::encode_json({
        redis_host => '127.0.0.1', redis_port => $self->{redis}{port},
        http_host => '127.0.0.1', http_port => $self->{port},
        threads => 2, daemonize => JSON::PP::false, database => 0,
        verbosity => 0, logfile => "$dir/webdis.log",
    });
    close $f;

    $self->{pid} = Bench::Process::start("$dir/webdis.stderr", 'webdis',
                                         "$dir/webdis.json");

    wait_for(10, sub {
        return !running($self->{pid})
            || IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                     PeerPort => $self->{port});
    });

    die "webdis does not start:\n" . last_lines("$dir/webdis.stderr")
        unless running($self->{pid});
}


# After connections that were closed with an answer under way, webdis 0.1.9 may
# close others by mistake, which came later: each load gets a fresh one.

sub restart {
    my ($self) = @_;
    Bench::Process::stop($self->{pid});
    $self->start;
}


1;
