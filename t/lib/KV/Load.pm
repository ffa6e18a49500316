package KV::Load;

# Load: run() drives many connections in one process, writers() forks a
# process that writes, reads back and keeps a ledger until it is told to stop,
# verify() compares a server with ledgers.

use strict;
use warnings;

use Errno qw(EAGAIN EINPROGRESS EINTR ECONNREFUSED);
use Fcntl qw(F_SETFL O_NONBLOCK O_RDWR);
use File::Temp ();
use POSIX ();
use Socket qw(:DEFAULT IPPROTO_TCP TCP_NODELAY);
use Storable ();
use Time::HiRes qw(time sleep);

use KV::Conn;
use KV::Ledger;
use KV::Util;


# Connections number 0 to `connections` - 1 each do one request after the
# other:
#
#   next => sub { my ($n) = @_; ... }
#       returns { method, path, body or chunks, headers, and what the caller
#       likes }, or a number of seconds to wait before asking again, or undef:
#       no more
#   done => sub { my ($n, $request, $answer, $error) = @_; ... }
#       without an answer the error is "refused" (so nothing was sent),
#       "dropped" or "timeout" (so the client cannot know)
#
# Further options: keepalive => 0 (a connection for each request), timeout (120
# seconds for each request), tick (called a few times a second), hold => sub:
# the last byte of each first request is held back until every connection is
# there and the sub returned.

sub run {
    my (%o) = (keepalive => 1, timeout => 120, tick => sub { }, @_);
    my $addr = pack_sockaddr_in($o{port}, INADDR_LOOPBACK);
    my ($rd, $wr, $live, $held, $ticked) = ('', '', $o{connections}, 0, time);
    my (%by_fd, @asleep, $begin, $finish);

    my $drop = sub {
        my ($c) = @_;
        my $sock = delete $c->{sock} or return;
        my $fd = fileno $sock;
        vec($rd, $fd, 1) = vec($wr, $fd, 1) = 0;
        delete $by_fd{$fd};
        close $sock;
    };

    my $open = sub {
        my ($c) = @_;
        socket(my $sock, PF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
        fcntl($sock, F_SETFL, O_RDWR | O_NONBLOCK);
        setsockopt($sock, IPPROTO_TCP, TCP_NODELAY, 1);
        return if !connect($sock, $addr) && $! != EINPROGRESS;
        my $fd = fileno $sock;
        $c->{sock} = $sock;
        $by_fd{$fd} = $c;
        vec($rd, $fd, 1) = 1;
    };

    $begin = sub {
        my ($c) = @_;
        my $req = $o{next}->($c->{n});

        if (!ref $req) {
            if (defined $req) {
                push @asleep, [time + $req, $c];
            } else {
                $drop->($c);
                $live--;
            }
            return;
        }

        my @headers = @{$req->{headers} || []};
        push @headers, 'Connection: close' unless $o{keepalive};
        $c->{req} = $req;
        $c->{out} = KV::Conn::request($req->{method}, $req->{path},
                                      body => $req->{body},
                                      chunks => $req->{chunks},
                                      headers => \@headers);
        $c->{hold} = $o{hold} ? 1 : 0;
        $c->{in} = '';
        $c->{off} = 0;
        $c->{end} = time + $o{timeout};
        $c->{patience} = 1;

        $c->{sock} || $open->($c) || return $finish->($c, undef, 'refused');
        vec($wr, fileno $c->{sock}, 1) = 1;
    };

    $finish = sub {
        my ($c, $res, $error) = @_;
        my $req = delete $c->{req};

        die "bytes after an answer\n" if $res && length $c->{in};
        $drop->($c) if !$res || !$o{keepalive} || $c->{off} < length $c->{out}
                       || ($res->{headers}{connection} || '') eq 'close';
        $o{done}->($c->{n}, $req, $res, $error);
        $begin->($c);
    };

    my $write = sub {
        my ($c) = @_;
        my $left = length($c->{out}) - $c->{hold} - $c->{off};

        if ($left) {
            my $n = syswrite($c->{sock}, $c->{out}, $left, $c->{off});
            if (!defined $n) {
                return if $! == EAGAIN || $! == EINTR;
                return $finish->($c, undef, $! == ECONNREFUSED ? 'refused'
                                                                : 'dropped');
            }
            $c->{off} += $n;
            return if $n < $left;
        }

        vec($wr, fileno $c->{sock}, 1) = 0;
        $held++ if $c->{hold};
    };

    my $read = sub {
        my ($c) = @_;
        my $n = sysread($c->{sock}, $c->{in}, 262_144, length $c->{in});

        return if !defined $n && ($! == EAGAIN || $! == EINTR);

        if (!$c->{req}) {                    # closed while idle
            die "bytes that were not asked for\n" if $n;
            return $drop->($c);
        }

        my $res = KV::Conn::parse(\$c->{in}, $c->{req}{method}, !$n);
        return $finish->($c, $res) if $res;
        $finish->($c, undef, $! == ECONNREFUSED && !defined $n ? 'refused'
                                                               : 'dropped')
            unless $n;
    };

    # whether one of those without an answer has not even been accepted; each is
    # looked at after a second, after two, after four, ...

    my $patient = sub {
        my $now = time + $o{timeout};
        my @late = grep { $_->{req} && $_->{end} + $_->{patience} < $now }
                        values %by_fd or return;
        $_->{patience} *= 2 for @late;
        KV::Conn::wake($o{port});
    };

    $begin->({ n => $_ }) for 0 .. $o{connections} - 1;

    while ($live > 0) {
        my $n = select(my $r = $rd, my $w = $wr, undef, @asleep ? 0.005 : 0.1);

        if ($n > 0) {
            for ([$w, $write], [$r, $read]) {
                my ($bits, $handle) = (unpack('b*', $_->[0]), $_->[1]);
                my $fd = -1;
                while (($fd = index($bits, '1', $fd + 1)) >= 0) {
                    $handle->($by_fd{$fd}) if $by_fd{$fd};
                }
            }
        }

        if ($o{hold} && $held == $live) {
            (delete $o{hold})->();
            for my $c (values %by_fd) {
                $c->{hold} = 0;
                vec($wr, fileno $c->{sock}, 1) = 1;
            }
        }

        my $now = time;
        if (@asleep) {
            my @due = grep { $_->[0] <= $now } @asleep;
            @asleep = grep { $_->[0] > $now } @asleep;
            $begin->($_->[1]) for @due;
        }

        next if $now - $ticked < 0.25;
        $ticked = $now;
        $o{tick}->();
        $patient->();
        $finish->($_, undef, 'timeout')
            for grep { $_->{req} && $_->{end} < $now } values %by_fd;
    }
}


# Runs the sub in a process of its own, which stop() asks to end (the sub's
# argument, a reference, becomes true) and whose result it returns.

sub fork {
    my ($class, $code) = @_;
    my (undef, $file) = File::Temp::tempfile('kvloadXXXXXX', TMPDIR => 1);
    my $parent = $$;

    # it may be asked to end before it has had a processor at all

    my $term = POSIX::SigSet->new(POSIX::SIGTERM());
    POSIX::sigprocmask(POSIX::SIG_BLOCK(), $term);

    my $pid = CORE::fork() // die "fork: $!";
    if ($pid == 0) {
        my $stop = 0;
        $SIG{TERM} = sub { $stop = 1 };
        $SIG{$_} = 'DEFAULT' for qw(INT HUP ALRM);
        POSIX::sigprocmask(POSIX::SIG_UNBLOCK(), $term);
        srand($$ ^ time);
        my $result = eval { $code->(\$stop, $parent) };
        $result = failed($@) if $@;
        Storable::nstore($result, $file);
        POSIX::_exit(0);
    }

    POSIX::sigprocmask(POSIX::SIG_UNBLOCK(), $term);

    return bless { pid => $pid, file => $file, owner => $$ }, $class;
}


sub stop {
    my ($self) = @_;
    kill('TERM', $self->{pid});
    return $self->wait;
}


sub wait {
    my ($self) = @_;
    my $pid = delete $self->{pid};
    waitpid($pid, 0);
    my $result = eval { Storable::retrieve($self->{file}) }
                 || failed("a load process died: $?");
    unlink $self->{file};
    return $result;
}


sub failed {
    my ($why) = @_;
    return { errors => [$why], counts => {}, ledger => KV::Ledger->new,
             gap => 0 };
}


sub DESTROY {
    my ($self) = @_;
    return unless $self->{pid} && $self->{owner} == $$;
    local ($?, $!, $@);
    kill('KILL', $self->{pid});
    waitpid($self->{pid}, 0);
    unlink $self->{file};
}


# A process that writes until it is stopped: `connections` of them (8), each
# with `keys` keys of its own (20), whose names begin with `name`.  `size` is a
# sub giving lengths, `pause` the seconds between two requests of a
# connection, `accept` a pattern of what may be answered (or happen) other than
# success.  stop() then returns
#
#   ledger   of all keys
#   counts   of answers: 200, 404, 503, ..., refused, dropped, timeout
#   errors   what was wrong with answers (texts)
#   gap      the longest time in which no request succeeded, seconds, without
#            what the machine stood still

sub writers {
    my ($class, $server, @o) = @_;
    my %o = (connections => 8, keys => 20, name => 'w', size => \&size,
             pause => 0, keepalive => 1,
             accept => qr/^(?:503|refused|dropped)$/, @o);

    running;                            # one watch for all

    return $class->fork(sub {
        my ($stop, $parent) = @_;
        my $ledger = KV::Ledger->new;
        my (%counts, @errors, %wait);
        my ($last, $gap, $still, $looked) = (running, 0, 0, 0);

        my $now = sub {
            if (time - $looked > 0.1) {
                $still = time - running;
                $looked = time;
            }
            return time - $still;
        };

        my $next = sub {
            my ($n) = @_;
            return if $$stop;
            my $wait = delete $wait{$n};
            return $wait if $wait;

            my $key = "$o{name}-$n-" . int rand $o{keys};
            my $dice = rand;
            return { method => 'GET', key => $key, path => "/kv/$key" }
                if $dice < 0.2;

            my $put = $dice < 0.9;
            my $seq = $ledger->try($key, $put);
            return { method => $put ? 'PUT' : 'DELETE', path => "/kv/$key",
                     key => $key, seq => $seq,
                     $put ? (body => value($key, $seq, $o{size}->())) : () };
        };

        my $done = sub {
            my ($n, $req, $res, $error) = @_;
            my $status = $res ? $res->{status} : $error;
            my ($key, $seq) = @$req{qw(key seq)};

            $counts{$status}++;
            $wait{$n} = $o{pause} if $o{pause};
            my $time = $now->();
            $gap = $time - $last if $time - $last > $gap;

            if ($status eq '200' || $status eq '404' && !$seq) {
                $last = $time;
                if ($seq) {
                    $ledger->ack($key, $seq);
                } else {
                    my $e = $ledger->seen($key, $status == 200 ? $res->{body}
                                                               : undef);
                    push @errors, $e if $e;
                }
                return;
            }

            $wait{$n} = 0.02;
            $ledger->never($key, $seq)
                if $seq && $status =~ /^(?:refused|507)$/;
            push @errors, "$req->{method} $req->{path}: $status"
                unless $status =~ $o{accept};
        };

        run(port => $server->{port}, connections => $o{connections},
            keepalive => $o{keepalive}, next => $next, done => $done,
            tick => sub { $$stop = 1 if getppid != $parent });

        my $time = $now->();
        $gap = $time - $last if $time - $last > $gap;
        return { ledger => $ledger, counts => \%counts, errors => \@errors,
                 gap => $gap };
    });
}


# Mostly small, some around the sizes where something changes.

sub size {
    my $dice = rand;
    return $dice < 0.80 ? 20 + int rand 2_000
         : $dice < 0.97 ? 3_000 + int rand 40_000
         :                60_000 + int rand 150_000;
}


# Reads every key of the ledgers.  Returns the complaints, as a list, and
# leaves the number of keys that have a value in ${$found}.

sub verify {
    my ($class, $server, $ledger, $found) = @_;
    my @keys = sort $ledger->keys;
    my @errors;

    $$found = 0;
    run(port => $server->{port}, connections => 16,
        next => sub {
            my $key = shift @keys // return;
            return { method => 'GET', path => "/kv/$key", key => $key };
        },
        done => sub {
            my ($n, $req, $res, $error) = @_;
            my $status = $res ? $res->{status} : $error;
            my $e = "GET $req->{path}: $status";
            if ($status eq '200' || $status eq '404') {
                $e = $ledger->seen($req->{key}, $status == 200 ? $res->{body}
                                                               : undef);
                $$found++ if $status == 200;
            }
            push @errors, $e if $e;
        });

    return @errors;
}


1;
