package KV::Conn;

# One connection, byte by byte: what is sent is exactly what the test says,
# answers are taken apart as they come.

use strict;
use warnings;

use Carp qw(croak);
use Errno qw(EAGAIN EINTR);
use IO::Socket::IP ();
use List::Util qw(min);
use Socket qw(IPPROTO_TCP TCP_NODELAY SOL_SOCKET SO_LINGER SO_RCVBUF);
use Time::HiRes qw(time);


# Options: port, host, from (an address of ours), timeout, soft, rcvbuf (bytes).

sub new {
    my ($class, %o) = @_;
    my $size = pack 'i', $o{rcvbuf} // 0;
    my $sock = IO::Socket::IP->new(
        PeerAddr => $o{host} || '127.0.0.1', PeerPort => $o{port},
        Timeout => 10, LocalAddr => $o{from},
        Sockopts => [ $o{rcvbuf} ? [ SOL_SOCKET, SO_RCVBUF, $size ] : () ]);
    if (!$sock) {
        return if $o{soft};
        die "connect to port $o{port}: $!\n";
    }

    setsockopt($sock, IPPROTO_TCP, TCP_NODELAY, 1);
    $sock->blocking(0);
    return bless { sock => $sock, in => '', eof => 0, port => $o{port},
                   timeout => $o{timeout} || 120 }, $class;
}


# nginx has Linux wake one worker for a connection.  If that one is killed
# before it accepts it, and a reload was just replacing it, the connection
# sleeps until another one comes: makes that, if some wait at the port.

sub wake {
    my ($port) = @_;
    my $listens = sprintf ':%04X', $port;

    open(my $f, '<', '/proc/net/tcp') or return;
    while (my $line = readline $f) {
        my ($local, $waiting) = $line =~ /^ *\d+: \S+(:\S+) \S+ 0A \S+:(\S+)/
            or next;
        next if $local ne $listens || !hex $waiting;
        my $other = KV::Conn->new(port => $port, soft => 1) or return;
        return $other->close;
    }
}


# The bytes of a request.  body => bytes gets a Content-Length, chunks =>
# [pieces] go chunked.

sub request {
    my ($method, $path, %o) = @_;
    my @headers = @{$o{headers} || []};
    my $body = '';

    unshift @headers, 'Host: localhost' unless grep { /^Host:/i } @headers;

    if ($o{chunks}) {
        push @headers, 'Transfer-Encoding: chunked';
        $body = chunked(@{$o{chunks}});

    } elsif (defined $o{body}) {
        push @headers, 'Content-Length: ' . length $o{body};
        $body = $o{body};
    }

    return join("\r\n", "$method $path " . ($o{proto} || 'HTTP/1.1'),
                @headers, '', '') . $body;
}


sub chunked {
    return join('', map { sprintf("%x\r\n%s\r\n", length $_, $_) } @_)
           . "0\r\n\r\n";
}


# Takes the first answer off the buffer: { status, reason, proto, headers (by
# lower-case name), body }.  Nothing if it is not all there; `eof` says that
# no more will come.

sub parse {
    my ($buf, $method, $eof) = @_;

    my $end = index($$buf, "\r\n\r\n");
    return if $end < 0;

    my ($line, @lines) = split /\r\n/, substr($$buf, 0, $end);
    my ($proto, $status, $reason) = $line =~ m{^(HTTP/\S+) (\d{3}) ?(.*)}
        or die "bad status line: $line\n";

    my %headers;
    for (@lines) {
        my ($name, $value) = /^([^:\s]+):\s*(.*?)\s*$/
            or die "bad header line: $_\n";
        $name = lc $name;
        $headers{$name} = exists $headers{$name} ? "$headers{$name}, $value"
                                                 : $value;
    }

    my $r = { proto => $proto, status => $status, reason => $reason,
              headers => \%headers, body => '' };
    my $len = $headers{'content-length'};
    my $pos = $end + 4;

    if ($status < 200 || $status == 204 || $status == 304
        || ($method || '') eq 'HEAD')
    {
        # no body

    } elsif (($headers{'transfer-encoding'} || '') eq 'chunked') {
        my $n = -1;
        while ($n != 0) {
            my $eol = index($$buf, "\r\n", $pos);
            return if $eol < 0;
            $n = hex(substr($$buf, $pos, $eol - $pos) =~ s/;.*//r);
            return if length $$buf < $eol + 2 + $n + 2;
            $r->{body} .= substr($$buf, $eol + 2, $n);
            $pos = $eol + 2 + $n + 2;
        }

    } elsif (defined $len) {
        return if length $$buf < $pos + $len;
        $r->{body} = substr($$buf, $pos, $len);
        $pos += $len;

    } else {
        return unless $eof;
        $r->{body} = substr($$buf, $pos);
        $pos = length $$buf;
    }

    substr($$buf, 0, $pos) = '';
    return $r;
}


# Waits until the socket can be read or, if so wanted, written: true, or which
# of the two.  A signal does not end it.

sub ready {
    my ($self, $write, $seconds) = @_;
    my $fd = fileno $self->{sock};
    my ($r, $w, $n);

    do {
        ($r, $w) = ('', '');
        vec($r, $fd, 1) = !$self->{eof};
        vec($w, $fd, 1) = 1 if $write;
        $n = select($r, $w, undef, $seconds < 0 ? 0 : $seconds);
    } while ($n < 0 && $! == EINTR);

    return if $n <= 0;
    return wantarray ? (vec($r, $fd, 1), $write && vec($w, $fd, 1)) : 1;
}


sub fill {
    my ($self) = @_;
    my $n = sysread($self->{sock}, $self->{in}, 1 << 20, length $self->{in});
    $self->{eof} = 1 unless $n || !defined $n && ($! == EAGAIN || $! == EINTR);
}


# Sends all of it, taking in what the server says meanwhile; gives up quietly
# when the server hangs up.  Returns the number of bytes sent.

sub send {
    my ($self, $bytes) = @_;
    my $sent = 0;

    while ($sent < length $bytes) {
        my ($r, $w) = $self->ready(1, $self->{timeout})
            or die "the server takes no more bytes\n";

        $self->fill if $r;
        next unless $w;

        my $n = syswrite($self->{sock}, $bytes, 262_144, $sent);
        last if !defined $n && $! != EAGAIN && $! != EINTR;
        $sent += $n || 0;
    }

    return $sent;
}


# The next answer, interim ones (1xx) included; nothing when the connection
# ends before one is complete.  Dies when it takes too long.

sub response {
    my ($self, $method, $timeout) = @_;
    my $end = time + ($timeout || $self->{timeout});

    while (1) {
        my $r = parse(\$self->{in}, $method, $self->{eof});
        return $r if $r;
        return if $self->{eof};

        $self->more($end)
            or croak('no answer in time, but ' . length($self->{in})
                     . ' bytes');
    }
}


# Takes in what comes, and waits for it until then; false if nothing did.

sub more {
    my ($self, $end) = @_;

    while (!$self->ready(0, min(1, $end - time))) {
        return if time >= $end;
        wake($self->{port});
    }

    $self->fill;
    return 1;
}


# Whether the server says nothing (and does not hang up) for so long.

sub silent {
    my ($self, $seconds) = @_;
    $self->fill if $self->ready(0, $seconds);
    return !$self->{eof} && $self->{in} eq '';
}


# Whether the server ends the connection within so long, without a word more.

sub closed {
    my ($self, $seconds) = @_;
    my $end = time + $seconds;

    while (!$self->{eof} && $self->ready(0, $end - time)) {
        $self->fill;
    }

    return $self->{eof} && $self->{in} eq '';
}


sub close { CORE::close($_[0]{sock}) }


# Ends it with a RST.

sub reset {
    my ($self) = @_;
    setsockopt($self->{sock}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0));
    CORE::close($self->{sock});
}


1;
