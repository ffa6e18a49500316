package KV::Changes;

# Clients that change keys in all ways, and what the log says of all changes, as
# a watch tells them:
#
#     my $log = KV::Changes::follow($s->{path});
#     my @clients = map { KV::Changes::client($s, $_, $seed) } 1, 2;
#     ...
#     my @results = map { $_->stop } @clients;
#     my @changes = KV::Changes::until($log, $lsn);

use strict;
use warnings;

use KV::Inspect;
use KV::Load;
use KV::Util;


# A process of two clients: puts, which now and then expire, deletes, batches,
# sometimes a clear, of keys a:0 to a:39, which get most, and b:0 to b:39.  Its
# result: puts, what was acknowledged of them, by LSN, and counts of answers.
# `pause`: seconds between two requests of a client.

sub client {
    my ($s, $number, $seed, $pause) = @_;

    return KV::Load->fork(sub {
        my ($stop, $parent) = @_;
        my ($seq, %wait, %counts, %puts) = (0);
        srand($seed * 10 + $number);

        my $any = sub { (qw(a a b))[rand 3] . ':' . int rand 40 };
        my $value = sub { "$number " . ++$seq . ' ' . 'x' x rand 300 };
        my $next = sub {
            my ($n) = @_;
            return if $$stop;
            my $wait = delete $wait{$n};
            return $wait if $wait;

            my ($dice, $key) = (rand, $any->());
            return $dice < 0.60  ? { method => 'PUT', path => "/kv/$key",
                                     key => $key, body => $value->() }
                 : $dice < 0.63  ? { method => 'PUT', body => 'x', path =>
                                     "/kv/a:brief$number-" . ++$seq . '?ttl=1' }
                 : $dice < 0.85  ? { method => 'DELETE', path => "/kv/$key" }
                 : $dice < 0.995 ? { method => 'POST', path => '/batch',
                                     body => lines($any, $value) }
                 :                 { method => 'DELETE', path => '/clear' };
        };
        my $done = sub {
            my ($n, $req, $res, $error) = @_;
            $counts{$res ? $res->{status} : $error}++;
            $wait{$n} = $pause;
            return if !$req->{key} || !$res || $res->{status} != 200;
            $puts{hex $res->{headers}{etag} =~ s/^"|-.*//gr} = $req->{key};
        };

        KV::Load::run(port => $s->{port}, connections => 2, next => $next,
                      done => $done, tick => sub {
                          $$stop = 1 if getppid != $parent;
                      });
        return { counts => \%counts, puts => \%puts };
    });
}

# Those of a batch.

sub lines {
    my ($any, $value) = @_;
    return join '', map { rand() < 0.3
        ? qq({"op":"delete","key":"@{[ $any->() ]}"}\n)
        : qq({"key":"@{[ $any->() ]}","value":"@{[ $value->() ]}"}\n)
    } 1 .. 2 + rand 4;
}


# Begins to read the log of a directory, whose server may run, die and be
# started again meanwhile.

sub follow { return inspect_begin('log', '--follow', $_[0]) }


# Ends that when it has come to this LSN.  All changes: [LSN, event, key], where
# a clear has no key.  Dies if some are missing.

sub until {
    my ($run, $last) = @_;

    wait_for(sub { last_lsn($run->{out}) >= $last }, 60)
        or die "kv-inspect log --follow does not come to LSN $last\n";

    my (undef, $text, $said) = inspect_end($run, 'INT');
    die $said if length $said;
    my @records = map { [ split ' ' ] } split /\n/, $text;

    for my $n (0 .. $#records) {
        die "LSN $records[$n][0], not " . ($n + 1) if $records[$n][0] != $n + 1;
    }

    return map { my ($lsn, $what, $key, $expires) = @$_[0, 3, 4, 6];
                 $what = 'expire' if $what eq 'delete' && $expires ne '-';
                 [ $lsn, $what, $what eq 'clear' ? () : $key ]
               } grep { $_->[3] ne 'touch' } @records;
}

sub last_lsn {
    my ($file) = @_;
    open(my $f, '<', $file) or die "$file: $!";
    seek($f, -4096, 2) if -s $f > 4096;
    my ($lsn) = join('', readline $f) =~ /(?:^|\n)(\d+) [^\n]*\n[^\n]*\z/;
    return $lsn // 0;
}


1;
