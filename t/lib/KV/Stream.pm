package KV::Stream;

# A client of /watch, over HTTP/1.1: takes the stream apart as it comes, and
# remembers the last id, as a browser does.

use strict;
use warnings;

use JSON::PP ();
use Time::HiRes qw(time);

use KV::Conn;


# Options: path (/watch), id (Last-Event-ID), headers, port, from, rcvbuf,
# timeout, raw (events keep their data as text), later (the answer is not waited
# for yet).
# Its header is in {r}; without a stream in it, so is the body.

sub new {
    my ($class, $server, %o) = @_;
    my $c = $server->connect(port => $o{port} || $server->{port},
                             from => $o{from}, rcvbuf => $o{rcvbuf});
    my $self = bless { c => $c, text => '', id => $o{id}, chunk => 0,
                       raw => $o{raw}, timeout => $o{timeout} || 120 }, $class;
    my @headers = @{$o{headers} || []};

    push @headers, "Last-Event-ID: $o{id}" if defined $o{id};
    $c->send(KV::Conn::request('GET', $o{path} || '/watch',
                               headers => \@headers));
    $self->answer if !$o{later};
    return $self;
}


sub answer {
    my ($self) = @_;
    my $c = $self->{c};
    my $end = time + $self->{timeout};

    while (index($c->{in}, "\r\n\r\n") < 0) {
        return if $c->{eof};
        $c->more($end) or die "no header in time\n";
    }

    if ($c->{in} !~ m{^HTTP/1.1 200 .*^Transfer-Encoding: chunked\r$}ms) {
        $self->{r} = $c->response('GET', $self->{timeout});
        $self->{ended} = 1;
        return;
    }

    $self->{r} = KV::Conn::parse(\substr($c->{in}, 0,
                                         index($c->{in}, "\r\n\r\n") + 4),
                                 'HEAD');
    $c->{in} =~ s/^.*?\r\n\r\n//s;
}


sub status {
    my ($self) = @_;
    $self->answer if !$self->{r} && !$self->{c}{eof};
    return $self->{r} ? $self->{r}{status} : 0;
}


# Takes chunks out of what was read.

sub chunks {
    my ($self) = @_;
    my $c = $self->{c};

    while ((my $line = index($c->{in}, "\r\n")) > 0) {
        my ($n, $at) = (hex substr($c->{in}, 0, $line), $line + 2);

        if ($n == 0) {
            return if length $c->{in} < $at + 2;
            $self->{ended} = 'whole';
            return;
        }

        return if length $c->{in} < $at + $n + 2;
        $self->{text} .= substr($c->{in}, $at, $n);
        substr($c->{in}, 0, $at + $n + 2) = '';
    }
}


# The next event: { id, event, key, version, value ... }; nothing when the
# stream ends before, or, with a time, so many seconds are over.

sub next {
    my ($self, $seconds) = @_;
    my $c = $self->{c};
    my $end = time + ($seconds // $self->{timeout});

    while (1) {
        $self->chunks;

        while ((my $n = index($self->{text}, "\n\n")) >= 0) {
            my %event = map { /^(\w+): (.*)/s ? ($1 => $2) : () }
                        split /\n/, substr($self->{text}, 0, $n);
            substr($self->{text}, 0, $n + 2) = '';
            $self->{id} = $event{id} if defined $event{id};
            next unless defined $event{data};
            return \%event if $self->{raw};
            return { %{JSON::PP->new->utf8->decode($event{data})}, %event };
        }

        return if $self->{ended};
        if ($c->{eof}) { $self->{ended} = 'cut'; return }

        if (!$c->ready(0, $end - time)) {
            return if defined $seconds;
            die "no event in time\n";
        }

        $c->fill;
    }
}


# So many events, each as "event key".

sub take {
    my ($self, $n) = @_;
    my @events;

    while (@events < $n) {
        my $e = $self->next or last;
        push @events, $e->{event} . (defined $e->{key} ? " $e->{key}" : '');
    }

    return join ', ', @events;
}


# How it ends, if it does: whole, cut.  What comes before is thrown away.

sub end {
    my ($self, $seconds) = @_;
    my $end = time + ($seconds || $self->{timeout});

    while (!$self->{ended} && time < $end) { $self->next($end - time) }
    return $self->{ended} // 'goes on';
}


1;
