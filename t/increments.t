# 64 clients increment one number, 50 times each: each reads it, and writes one
# more if it still has the version that was read (If-Match), or begins again.
# Meanwhile workers die, one or both, at any time and in their syncs.  In the
# end the number is exactly what was acknowledged.
#
# The value has a count of each client, besides the sum, so that a client whose
# request got no answer learns what became of it: its own count tells.  Until
# the version is another, such a write may still happen.

use strict;
use warnings;

use List::Util qw(sum);
use Test::More;
use Time::HiRes qw(sleep time);

use KV::Load;
use KV::Test;

my $PROCESSES = 2;
my $CLIENTS = 32;           # of each process
my $TIMES = 50;
my $ALL = $PROCESSES * $CLIENTS;
my $EACH = 150;             # increments a death
my $DEATHS = 20;

# The writes come one after the other, each with its sync: that of a disk in
# memory takes no time, and only processes die here.

my $s = KV::Test->in_memory(workers => 2, zone => '16m', fault => 1);
$s->expect_log(qr/worker process \d+ exited on signal 9/);
$s->start;


# The sum, who wrote last, and the count of each client.

sub number { return join ' ', sum(@_[1 .. $#_]), @_ }

sub counts {
    my ($body) = @_;
    my ($sum, undef, @counts) = split / /, $body;
    return @counts == $ALL && $sum == sum(@counts) ? @counts : ();
}


# The clients of one process.  A client's state: `count` is what was
# acknowledged or found, `read` what it has read and not used yet, `maybe` the
# version that a write without an answer has replaced, or not.

sub clients {
    my ($number) = @_;

    return KV::Load->fork(sub {
        my ($stop, $parent) = @_;
        my %sum = map { $_ => 0 } qw(acked found unknown late);
        my (@errors, @etags);
        my @clients = map { { id => $number * $CLIENTS + $_, count => 0 } }
                          0 .. $CLIENTS - 1;

        my $next = sub {
            my ($n) = @_;
            my $c = $clients[$n];
            return if $$stop || @errors || $c->{count} == $TIMES;

            # the last ones come after all deaths

            return 0.02 if $c->{count} >= $TIMES - 2 && !-e "$s->{dir}/died";

            my $wait = delete $c->{wait};
            return $wait if $wait;

            my $read = delete $c->{read};
            return { method => 'GET', path => '/kv/number' } if !$read;

            my @counts = @{$read->{counts}};
            $counts[$c->{id}]++;
            return { method => 'PUT', path => '/kv/number',
                     version => $read->{version},
                     headers => ["If-Match: $read->{version}"],
                     body => number($c->{id}, @counts) };
        };

        my $got = sub {
            my ($c, $res) = @_;
            my $version = $res->{headers}{etag} // '';
            my @counts = counts($res->{body}) or return 'not a number';
            my $ahead = $counts[$c->{id}] - $c->{count};

            return "no version: $version" if $version !~ /^"[0-9a-f-]+"$/;
            return "count $counts[$c->{id}], not $c->{count}"
                if $ahead && !($ahead == 1 && $c->{maybe});

            if ($ahead) {
                $c->{count}++;
                $sum{found}++;
            }

            $c->{read} = { version => $version, counts => \@counts };
            delete $c->{maybe} if ($c->{maybe} // '') ne $version;
            return;
        };

        my $put = sub {
            my ($c, $req, $status, $version) = @_;

            if ($status eq '200') {
                return 'no new version'
                    if $version eq '' || $version eq $req->{version};
                push @etags, $version;
                $c->{count}++;
                $sum{acked}++;
                delete @$c{qw(maybe late)};

            } elsif ($status eq '412') {
                return "412 for \"$version\""
                    if $version eq '' || $version eq $req->{version};
                $sum{late}++;
                $c->{wait} = rand 0.02 * ++$c->{late};

            } elsif ($status =~ /^(?:503|dropped)$/) {
                $c->{maybe} = $req->{version};
                $sum{unknown}++;

            } elsif ($status ne 'refused') {
                return "PUT: $status";
            }

            return;
        };

        my $done = sub {
            my ($n, $req, $res, $error) = @_;
            my $c = $clients[$n];
            my $status = $res ? $res->{status} : $error;
            my $e;

            if ($req->{method} eq 'PUT') {
                $e = $put->($c, $req, $status, $res->{headers}{etag} // '');
            } elsif ($status eq '200') {
                $e = $got->($c, $res);
            } elsif ($status !~ /^(?:503|refused|dropped)$/) {
                $e = "GET: $status";
            }

            push @errors, "client $c->{id}: $e" if $e;
            $c->{wait} = 0.02 if $status !~ /^(?:200|412)$/;
        };

        KV::Load::run(port => $s->{port}, connections => $CLIENTS,
                      next => $next, done => $done,
                      tick => sub { $$stop = 1 if getppid != $parent });

        write_file("$s->{dir}/ended-$number", '');
        return { %sum, errors => \@errors, etags => \@etags,
                 counts => [map { $_->{count} } @clients] };
    });
}


# The sum as it is, or nothing if the server does not say.

sub reached {
    my $r = $s->get('number', soft => 1, timeout => 5);
    return $r->{status} == 200 ? (split / /, $r->{body})[0] : undef;
}


is($s->put('number', number('nobody', (0) x $ALL))->{status}, 200, 'a number');

my $begun = time;
my @clients = map { clients($_) } 0 .. $PROCESSES - 1;
my ($deaths, @bad) = (0);

while (my $run = grep { !-e "$s->{dir}/ended-$_" } 0 .. $PROCESSES - 1) {
    sleep(0.02);
    write_file("$s->{dir}/died", '') if $deaths == $DEATHS
                                        || $run < $PROCESSES;
    next if $deaths == $DEATHS
            || (reached() // 0) < ($deaths + 1) * $EACH;

    $deaths++;
    $s->some_die or push @bad, $deaths;
}

my $took = time - $begun;
my @results = map { $_->stop } @clients;
my @errors = map { @{$_->{errors}} } @results;
my %sum = map { my $what = $_; $what => sum map { $_->{$what} // 0 } @results }
              qw(acked found unknown late);
my %etags = map { $_ => 1 } map { @{$_->{etags} || []} } @results;

is("@bad", '', 'the service comes back each time');
is(scalar @errors, 0, 'no count is lost, and none is there twice')
    or diag(join "\n", splice @errors, 0, 10);
is($sum{acked} + $sum{found}, $ALL * $TIMES, 'all was done');
is(reached(), $ALL * $TIMES, 'the number is what was acknowledged');
is(join(' ', counts($s->get('number')->{body})), join(' ', ($TIMES) x $ALL),
   'of each client');
is(scalar keys %etags, $sum{acked}, 'each write has a version of its own');

is($deaths, $DEATHS, 'workers died all the time');
cmp_ok($sum{unknown}, '>', $deaths / 4, 'with requests');
cmp_ok($sum{late}, '>', $ALL * $TIMES / 5, 'and clients raced');

$s->stop('KILL');
$s->start;
is(reached(), $ALL * $TIMES, 'and on disk');

note(sprintf '%.1f s, %d deaths; %d acknowledged, %d found, %d had no answer, '
     . '%d came late', $took, $deaths, @sum{qw(acked found unknown late)});

$s->done;
done_testing();
