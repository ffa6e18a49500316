package Bench::Redis;

# A redis-server on a port of its own, and as much of its protocol as is needed
# to command it.

use strict;
use warnings;

use IO::Socket::INET ();
use Time::HiRes qw(time);

use Bench::Process;


sub new {
    my ($class, %o) = @_;
    my $dir = "$o{bench}{dir}/$o{name}";
    mkdir $dir or die "$dir: $!\n";
    return bless { %o, dir => $dir, port => free_port() }, $class;
}


# Starts it, with these lines added to its configuration, and returns the
# seconds from then until it has loaded its data and answers.

sub start {
    my ($self, @lines) = @_;
    my $dir = $self->{dir};

    open(my $f, '>', "$dir/redis.conf") or die "$dir/redis.conf: $!\n";
    print $f map { "$_\n" } 'bind 127.0.0.1', "port $self->{port}",
        'protected-mode yes', qq(dir "$dir"), 'daemonize no', 'databases 1',
        'save ""', 'enable-debug-command local', @lines;
    close $f;

    my $from = time;
    $self->{pid} = Bench::Process::start("$dir/redis.log", 'redis-server',
                                         "$dir/redis.conf");

    my $up = wait_for($self->{patience} || 30, sub {
        return 1 unless running($self->{pid});
        return (eval { $self->command('PING') } // '') eq 'PONG';
    }, 0.002);

    die "redis-server does not start:\n" . last_lines("$dir/redis.log")
        unless $up && running($self->{pid});

    return time - $from;
}


sub stop { my ($self) = @_; Bench::Process::stop($self->{pid}) }


# webdis answers 200 whatever Redis said: dies of what that has refused.

sub check_errors {
    my ($self) = @_;
    my @errors = $self->command('INFO', 'errorstats') =~ /^errorstat_(.*)\r$/mg;
    die "Redis has refused: @errors\n" if @errors;
}


# One command: its simple, numeric or bulk answer. Dies of an error's text.

sub command {
    my ($self, @words) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $self->{port}) or die "redis-server does not answer\n";

    print $socket '*' . @words . "\r\n",
                  map { '$' . length($_) . "\r\n$_\r\n" } @words;
    $socket->flush;

    local $SIG{ALRM} = sub { die "@words: redis-server takes too long\n" };
    alarm(120);
    my $answer = eval { read_answer($socket) };
    alarm(0);

    die "@words: " . ($@ || "no answer\n") unless defined $answer;
    return $answer;
}


sub read_answer {
    my ($socket) = @_;
    my $line = readline($socket) // die "connection closed\n";
    my ($type, $rest) = $line =~ /^(.)(.*)\r\n/ or die "unknown answer\n";

    die "$rest\n" if $type eq '-';
    return $rest if $type ne '$' || $rest < 0;

    read($socket, my $bulk, $rest + 2) == $rest + 2 or die "cut off\n";
    return substr($bulk, 0, $rest);
}


1;
