package KV::Frames;

# An HTTP/2 client whose every frame is made by the test, over cleartext TCP,
# with a receive buffer as small as the test likes.

use strict;
use warnings;

use Socket qw(AF_INET SOCK_STREAM SOL_SOCKET SO_RCVBUF inet_aton
              pack_sockaddr_in);
use Time::HiRes qw(time);

use constant {
    DATA => 0, HEADERS => 1, RST_STREAM => 3, SETTINGS => 4, PING => 6,
    GOAWAY => 7, WINDOW_UPDATE => 8,
    END_STREAM => 1, ACK => 1, END_HEADERS => 4,
};


# Options: port, rcvbuf (bytes), window (of each stream and the connection).

sub new {
    my ($class, %o) = @_;
    my $self = bless { in => '', eof => 0, timeout => $o{timeout} || 120 },
                     $class;

    socket($self->{sock}, AF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
    setsockopt($self->{sock}, SOL_SOCKET, SO_RCVBUF, $o{rcvbuf})
        if $o{rcvbuf};
    connect($self->{sock},
            pack_sockaddr_in($o{port}, inet_aton('127.0.0.1')))
        or die "connect to port $o{port}: $!\n";

    my $window = $o{window} || 0x7fff_ffff;
    $self->write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    $self->frame(SETTINGS, 0, 0, pack('nN', 4, $window));
    $self->frame(WINDOW_UPDATE, 0, 0, pack('N', $window - 65_535));
    return $self;
}


sub write {
    my ($self, $bytes) = @_;
    my $sent = 0;

    while ($sent < length $bytes) {
        my $n = syswrite($self->{sock}, $bytes, length($bytes) - $sent, $sent)
            or return;
        $sent += $n;
    }

    return $sent;
}


sub frame {
    my ($self, $type, $flags, $stream, $payload) = @_;
    my $len = length $payload;

    return $self->write(pack('CnCCN', $len >> 16, $len & 0xffff, $type,
                             $flags, $stream) . $payload);
}


# A request without a body; names and values go as they are, not indexed.

sub request {
    my ($self, @request) = @_;
    return $self->headers(END_STREAM, @request);
}


# The header alone, of one whose body comes by data().

sub headers {
    my ($self, $flags, $stream, $method, $path, @headers) = @_;
    my $block = '';

    unshift @headers, ':method' => $method, ':scheme' => 'http',
                      ':path' => $path, ':authority' => 'localhost';
    while (my ($name, $value) = splice @headers, 0, 2) {
        $block .= pack('CC/aC/a', 0, $name, $value);
    }

    return $self->frame(HEADERS, END_HEADERS | $flags, $stream, $block);
}


sub data {
    my ($self, $stream, $bytes, $flags) = @_;
    return $self->frame(DATA, $flags || 0, $stream, $bytes);
}


# The status in the block of an answer's HEADERS: its first field, behind a
# change of the table's size; 0 if it is in none of the forms that nginx uses.

sub status {
    my ($block) = @_;
    my @indexed = (200, 204, 206, 304, 400, 404, 500);    # from 8 on

    $block =~ s/^[\x20-\x3f]//;
    my $first = unpack 'C', $block;
    return $indexed[$first - 0x88] if $first >= 0x88 && $first <= 0x8e;
    return $block =~ /^[\x08\x18\x48]\x03(\d{3})/ ? $1 : 0;
}


# A request on a connection of its own, with a body that fits into one frame:
# the status of the answer, also where the server does not wait for the body,
# which curl 7.88 may not see.

sub ask {
    my ($port, $method, $path, $body, @headers) = @_;
    my $c = KV::Frames->new(port => $port);

    $c->headers(0, 1, $method, $path, 'content-length' => length $body,
                @headers);
    $c->data(1, $body, END_STREAM);
    return $c->read_until(sub {
        $_[0]{type} == HEADERS && status($_[0]{payload});
    });
}


sub reset_stream {
    my ($self, $stream) = @_;
    return $self->frame(RST_STREAM, 0, $stream, pack('N', 8));
}


# Reads on until the condition, called with each frame as it is complete
# ({ type, flags, stream, payload }), gives something true, which it returns;
# nothing when the connection ends before.  Dies when it takes too long.

sub read_until {
    my ($self, $condition) = @_;
    my $end = time + $self->{timeout};

    while (1) {
        while (my $frame = $self->next_frame) {
            my $rc = $condition->($frame);
            return $rc if $rc;
        }

        return if $self->{eof};

        my $r = '';
        vec($r, fileno $self->{sock}, 1) = 1;
        my $left = $end - time;
        select($r, undef, undef, $left > 0 ? $left : 0) > 0
            or die "no frame in time\n";

        sysread($self->{sock}, $self->{in}, 65_536, length $self->{in})
            or $self->{eof} = 1;
    }
}


# The first frame of what was read, or nothing; {in} keeps a part of one.

sub next_frame {
    my ($self) = @_;

    return if length $self->{in} < 9;
    my ($high, $low, $type, $flags, $stream) = unpack('CnCCN', $self->{in});
    my $len = $high << 16 | $low;
    return if length $self->{in} < 9 + $len;

    my $frame = { type => $type, flags => $flags,
                  stream => $stream & 0x7fff_ffff,
                  payload => substr($self->{in}, 9, $len) };
    substr($self->{in}, 0, 9 + $len) = '';
    return $frame;
}


sub close { CORE::close($_[0]{sock}) }


1;
