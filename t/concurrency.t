# Very many at once: 10,000 writes on connections of their own, a hundred
# writers of one key, readers beside writers and clears.

use strict;
use warnings;

use POSIX ();
use Test::More;

use KV::Load;
use KV::Test;

my $N = $ENV{KV_CONNECTIONS} || 10_000;
my $CLIENTS = 4;

# as many open files as we may have

if (POSIX::sysconf(POSIX::_SC_OPEN_MAX()) < $N + 600) {
    plan(skip_all => "needs more than $N open files; see ulimit -Hn")
        if $ENV{KV_RAISED}++;
    exec('sh', '-c', 'ulimit -n $(ulimit -Hn); exec "$@"', 'sh', $^X,
         '-It/lib', $0);
}

my $s = KV::Test->new(zone => '128m', connections => $N + 100,
                      kv => 'segment=16m max_value=1m',
                      server => 'location = /status { stub_status; }');
my ($nginx) = $s->nginx;
$s->{server} = '' if qx($nginx -V 2>&1) !~ /stub_status/;
$s->start;


# Runs the load in several processes at once, each with its share of the
# numbers from 1 to $n, and gives what they counted: status => how many.

sub storm {
    my ($n, $request, %o) = @_;
    my @clients;

    pipe(my $ready_r, my $ready_w) or die;
    pipe(my $go_r, my $go_w) or die;

    for my $client (0 .. $CLIENTS - 1) {
        push @clients, KV::Load->fork(sub {
            my %counts;
            my @todo = grep { $_ % $CLIENTS == $client } 1 .. $n;
            close $ready_r;
            close $go_w;
            KV::Load::run(port => $s->{port}, connections => scalar @todo,
                next => sub { my $i = shift @todo // return; $request->($i) },
                done => sub {
                    my ($n, $req, $res, $error) = @_;
                    my $right = $res && (!$req->{check}
                                         || $req->{check}->($res));
                    $counts{!$res ? $error : $right ? $res->{status}
                                                    : 'wrong'}++;
                },
                timeout => 60,
                $o{hold} ? (hold => sub {
                    syswrite($ready_w, '.');
                    close $ready_w;
                    sysread($go_r, my $byte, 1);
                }) : ());
            return { counts => \%counts, errors => [] };
        });
    }

    close $ready_w;
    close $go_r;
    if ($o{hold}) {
        my $n = 0;
        while ($n < $CLIENTS) {
            $n += sysread($ready_r, my $bytes, 1) || last;
        }
        $o{hold}->();
    }
    close $go_w;

    my %sum;
    for my $result (map { $_->wait } @clients) {
        my $counts = $result->{counts};
        $sum{$_} += $counts->{$_} for keys %$counts;
        $sum{$_}++ for @{$result->{errors}};
    }

    return \%sum;
}

sub put {
    my ($i, $seq) = @_;
    return { method => 'PUT', path => "/kv/k$i",
             body => value("k$i", $seq, 100 + $i % 400) };
}

sub get {
    my ($i, $seq) = @_;
    return { method => 'GET', path => "/kv/k$i",
             check => sub {
                 $_[0]{body} eq value("k$i", $seq, 100 + $i % 400);
             } };
}


is_deeply(storm($N, sub { put($_[0], 1) }), { 200 => $N },
          "$N PUTs at once, none refused");
is_deeply(storm($N, sub { get($_[0], 1) }), { 200 => $N },
          'all of them can be read, at once');
is($s->store->{keys}, $N, 'as many keys are counted');

# every request is in the server's hands but for its last byte

my $active = 0;
is_deeply(storm($N, sub { put($_[0], 2) }, hold => sub {
              wait_for(sub {
                  ($active) = $s->http(GET => '/status')->{body} =~ /: (\d+)/;
                  return $active >= $N;
              }, 10, 0.1) if $s->{server};
          }), { 200 => $N }, "$N PUTs half done at the same moment");
SKIP: {
    skip('nginx without stub_status', 1) unless $s->{server};
    cmp_ok($active, '>=', $N, 'that many connections at the same moment');
}
is_deeply(storm($N, sub { get($_[0], 2) }), { 200 => $N },
          'all of them can be read, at once');

my $commit = $s->store->{commit};
cmp_ok($commit->{operations}, '>=', 2 * $N, 'operations are counted');
cmp_ok($commit->{operations_per_batch}, '>', 2, 'one sync serves many');


# 100 writers of one key, and readers that see only whole values

{
    my ($turns, %last, @bad, %counts) = (20);
    my %todo = map { $_ => $turns } 0 .. 119;

    KV::Load::run(port => $s->{port}, connections => 120,
        next => sub {
            my ($n) = @_;
            my $seq = $n * 1000 + $todo{$n};
            return unless $todo{$n}--;
            return { method => 'GET', path => '/kv/one' } if $n >= 100;
            return { method => 'PUT', path => '/kv/one',
                     body => value('one', $seq, 50 + ($seq * 7919) % 70_000) };
        },
        done => sub {
            my ($n, $req, $res, $error) = @_;
            $counts{$res ? $res->{status} : $error}++;
            return unless $res && $n >= 100 && $res->{status} == 200;
            push @bad, substr($res->{body}, 0, 30)
                unless defined check_value('one', $res->{body});
        });

    is($counts{200} + ($counts{404} || 0), 120 * $turns,
       '100 writers of one key, 20 readers');
    is("@bad", '', 'no torn value');
    ok(defined check_value('one', $s->get('one')->{body}), 'one of them won');

    my @values = map { $s->get('one')->{body} } 1 .. 20;
    is(scalar(grep { $_ ne $values[0] } @values), 0, 'the same for everybody');
}


# mixed load over four workers, each read checked, and then a clear

{
    $s->{workers} = 4;
    ok(defined $s->reload, 'four workers');
    $s->clear;

    my @writers = map { KV::Load->writers($s, name => "m$_", connections => 16,
                                          keys => 30) } 1 .. 3;
    my $before = $s->store->{commit}{operations};
    my $enough = wait_for(sub { $s->store->{commit}{operations}
                                > $before + 8000 }, 40, 0.1);
    my @results = map { $_->stop } @writers;
    ok($enough, 'thousands of mixed operations');

    my @errors = map { @{$_->{errors}} } @results;
    is(scalar @errors, 0, 'every read was right') or diag("@errors[0 .. 4]");
    is(scalar(grep { !/^(?:200|404)$/ } map { keys %{$_->{counts}} } @results),
       0, 'every request was served');

    my $ledger = KV::Ledger->merge(map { $_->{ledger} } @results);
    @errors = KV::Load->verify($s, $ledger, \my $found);
    is(scalar @errors, 0, 'every key is as it was left')
        or diag("@errors[0 .. 4]");
    is($s->store->{keys}, $found, 'and counted');

    $s->clear;
    my $keys = $s->store->{keys};
    is($keys, 0, 'nothing is left after the clear');
    is(scalar(grep { $s->http(GET => "/kv/$_")->{status} != 404 }
              ($ledger->keys)[0 .. 99]), 0, 'really nothing');
}


# clears among writes: a key that was written after a clear was answered stays

{
    my %written;
    my $turn = 0;
    my $bad = 0;

    KV::Load::run(port => $s->{port}, connections => 30,
        next => sub {
            my ($n) = @_;
            return if $turn++ > 3000;
            return { method => 'DELETE', path => '/clear' }
                if $n == 0 && rand() < 0.3;
            return { method => 'PUT', path => "/kv/c$n", put => 1,
                     body => value("c$n", $turn, 200), seq => $turn };
        },
        done => sub {
            my ($n, $req, $res, $error) = @_;
            $bad++ unless $res && $res->{status} == 200;
        });

    is($bad, 0, 'clears among writes');
    is($s->clear->{status}, 200, 'the last clear');
    is($s->store->{keys}, 0, 'leaves nothing');
    $s->put('after', 'x');
    is($s->store->{keys}, 1, 'but what comes after it');
}

$s->done;
done_testing();
