package KV::Http3;

# An HTTP/3 client, h3.py, in a process of its own.  It is told what to do by
# its do_* functions' names:
#
#     my $h3 = KV::Http3->new($port);
#     $h3->call(open => 'a', '/kv/big');

use strict;
use warnings;

use Cwd ();
use IPC::Open2 qw(open2);
use JSON::PP ();

my $ROOT = Cwd::getcwd();


# Why there is no such client on this machine; nothing if there is one.

sub missing {
    return if system("python3 -c 'import aioquic' >/dev/null 2>&1") == 0;
    return 'no HTTP/3 client: python3 has no aioquic';
}


sub new {
    my ($class, $port) = @_;
    my $self = bless { owner => $$ }, $class;

    $self->{pid} = open2($self->{out}, $self->{in},
                         'python3', "$ROOT/t/lib/h3.py", $port);
    return $self;
}


# The object that answers the command.

sub call {
    my ($self, @command) = @_;

    print { $self->{in} } JSON::PP::encode_json(\@command), "\n";
    $self->{in}->flush;

    my $line = readline($self->{out}) // die "h3.py has ended\n";
    my $answer = JSON::PP::decode_json($line);
    die "h3.py: $answer->{error}\n" if $answer->{error};
    return $answer;
}


sub DESTROY {
    my ($self) = @_;
    return if $$ != $self->{owner};
    local ($?, $!);

    kill('TERM', $self->{pid});
    close $self->{in};
    close $self->{out};
    waitpid($self->{pid}, 0);
}


1;
