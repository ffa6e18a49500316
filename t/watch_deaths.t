# Watches, while the server dies and is reloaded at random: each sees each
# change once, in the order of the log, however often it has to connect again.
#
# KV_ROUNDS says how often something happens to the server, KV_SEED makes the
# same things happen.  What has happened is compared with the log as kv-inspect
# reads it meanwhile.

use strict;
use warnings;

use IO::Handle ();
use List::Util qw(shuffle);
use Test::More;
use Time::HiRes qw(sleep time);

use KV::Changes;
use KV::Load;
use KV::Stream;
use KV::Test;

my $ROUNDS = $ENV{KV_ROUNDS} || 15;
my $SEED = $ENV{KV_SEED} || 1 + int rand 1_000_000;

srand($SEED);

my $sync = (qw(always 50ms))[$SEED % 2];
my $s = KV::Test->new(workers => 3, fault => 1,
                      kv => "list=on feed=16m segment=256k snapshot=512k "
                            . "max_value=64k sync=$sync",
                      server => 'location = /keys { kv_keys main; }
                                 location = /watch { kv_watch main; }');
$s->expect_log(qr/worker process \d+ exited on signal 9/);
$s->start;

my $log = KV::Changes::follow($s->{path});


# ---- those who watch


# A process that watches, and goes on from its last id whenever its stream ends,
# until it has come to the LSN in the file `end`.  It writes what it sees, a
# line for each event: id, event, key; and, where it had to list, "from" and the
# version of that.  With `away` it leaves now and then, and is away for a while.

sub watcher {
    my ($name, $path, $away) = @_;

    return KV::Load->fork(sub {
        my ($stop, $parent) = @_;
        my (%ends, $id, $end);
        srand($SEED . length $name);
        open(my $seen, '>', "$s->{dir}/seen-$name") or die "$name: $!";
        $id = list($seen, 20);

        while (getppid == $parent) {
            last if $end && hex($id =~ s/-.*//r) >= $end;
            my $w = eval { KV::Stream->new($s, path => $path, raw => 1,
                                           id => $id, timeout => 5) };
            my $status = $w ? $w->status : 'refused';

            if ($status ne '200') {
                $ends{$status eq '410' ? $w->{r}{body} : $status}++;
                $id = list($seen, 1) // $id if $status eq '410';
                sleep 0.01;
                next;
            }

            until ($w->{ended} || $end && hex($id =~ s/-.*//r) >= $end) {
                $end ||= eval { read_file("$s->{dir}/end") };
                my $e = $w->next(0.1);
                $id = $w->{id};
                next if !$e;
                my ($key) = $e->{data} =~ /^\{"key":"([^"]+)"/;
                print {$seen} "$id $e->{event} ", $key // '-', "\n";
                last if $away && rand() < 0.003;
            }

            $ends{$w->{ended} // 'left'}++;
            sleep(rand 0.5) if !$w->{ended} && !$end;
        }

        close $seen or die "$name: $!";
        return { ends => \%ends };
    });
}

# The version of a list, from which on it watches; nothing, if there is none.

sub list {
    my ($seen, $seconds) = @_;
    my $r;

    wait_for(sub { $r = $s->http(GET => '/keys?limit=1', soft => 1);
                   $r->{status} == 200 }, $seconds) or return;
    my $version = $r->{headers}{'kv-version'};
    print {$seen} "from $version\n";
    return $version;
}


# ---- what happens: who is killed


sub kill_workers {
    my ($n) = @_;
    my @dead = shuffle($s->workers);
    splice @dead, $n if @dead > $n;
    kill('KILL', @dead);
    return @dead;
}

# Which is in a sync then; the hold may come to no sync for a while.

sub kill_committer {
    $s->fault(hold => 1);
    my $pid = $s->held or fail('no sync is held');
    kill('KILL', $pid);
    $s->fault(hold => undef);
    return $pid;
}

# With it goes the count of snapshots.

my $snapshots = 0;

sub snapshots { return eval { $s->store->{snapshots}{completed} } // 0 }

sub begin_again {
    my ($signal) = @_;
    $snapshots += snapshots();
    $s->stop($signal);
    $s->start;
    return;
}

# For one of them most watch, so that the end of a stream is seen.

sub reload {
    wait_for(sub { $s->store->{watching} >= 3 }, 10);
    return $s->reload;
}

sub begin_reload {
    write_file("$s->{dir}/nginx.conf", $s->config);
    kill('HUP', $s->{pid});
}

my %EVENTS = (
    'a worker dies' => [ 30, sub { kill_workers(1) } ],
    'all workers die' => [ 10, sub { kill_workers(3) } ],
    'the committer dies in a sync' => [ 15, \&kill_committer ],
    'the committer dies behind a sync' => [ 10, sub {
        $s->dies_behind_sync(5);
        return;
    } ],
    'all of nginx dies' => [ 15, sub { begin_again('KILL') } ],
    'nginx is told to stop' => [ 3, sub { begin_again('TERM') } ],
    'a reload' => [ 10, sub { reload() or fail('a reload'); return } ],
    'a death in a reload' => [ 7, sub {
        begin_reload();
        sleep(rand 0.1);
        kill_workers(1);
    } ],
);

my @dice = map { ($_) x $EVENTS{$_}[0] } sort keys %EVENTS;
my @first = shuffle(sort keys %EVENTS);         # each, however few there are


my @watchers = ([ 'all', '/watch' ], [ 'values', '/watch?values=1', 'away' ],
                [ 'prefix', '/watch?prefix=a:' ], [ 'key', '/watch?key=a:7' ]);
my @processes = map { watcher(@$_) } @watchers;
my @clients = map { KV::Changes::client($s, $_, $SEED, 0.008) } 1, 2;
my (%happened, @bad);
my $begun = time;

for (1 .. $ROUNDS) {
    my $event = shift @first // $dice[rand @dice];
    sleep(rand 0.2);
    my @dead = $EVENTS{$event}[1]->();
    $happened{$event}++;

    push @bad, "$event: the service is not back" if !$s->back(@dead);
}

is(scalar @bad, 0, 'the service is back each time')
    or diag("seed $SEED: ", join "\n", splice @bad, 0, 10);
my $took = time - $begun;

my @results = map { $_->stop } @clients;
ok(wait_for(sub { $s->store->{expiring} == 0 }, 20), 'nothing is to expire');
my $end = $s->store->{log}{next_lsn};
is($s->put('a:7', 'the end')->{status}, 200, 'the end');    # which all watch
write_file("$s->{dir}/end", $end);
@processes = map { $_->wait } @processes;


# ---- what they have seen


$snapshots += snapshots();
$s->done;

my @changes = KV::Changes::until($log, $end);
my %is = map { ($_->[0] => "$_->[1] " . ($_->[2] // '-')) } @changes;
my (%ids, %ends);

my @wrong = map { my $puts = $_->{puts};
                  grep { ($is{$_} // '') ne "put $puts->{$_}" } keys %$puts
                } @results;
is(scalar @wrong, 0, 'the log has what clients were told') or diag("@wrong");

for my $n (0 .. $#watchers) {
    my ($name, $path) = @{$watchers[$n]};
    my ($by, $what) = $path =~ /(prefix|key)=([^&]*)/;
    my $own = !$by ? qr/^/ : $by eq 'key' ? qr/^\Q$what\E$/ : qr/^\Q$what\E/;
    my @own = grep { !defined $_->[2] || $_->[2] =~ $own } @changes;
    my ($next, $lists, $seen, @wrong) = (0, 0, 0);

    open(my $f, '<', "$s->{dir}/seen-$name") or die "$name: $!";
    while (my $line = readline $f) {
        my ($id, $event, $key) = split ' ', $line;

        if ($id eq 'from') {
            my $from = hex $event =~ s/-.*//r;
            $lists++;
            push @wrong, "a list of $from behind $own[$next - 1][0]"
                if $next && $own[$next - 1][0] > $from;
            $next++ while $next < @own && $own[$next][0] <= $from;
            next;
        }

        my $lsn = hex $id =~ s/-.*//r;
        my $expected = $own[$next++] // [ 'none' ];
        push @wrong, "$id $event $key, not LSN @$expected"
            if "$lsn $event $key" ne join ' ', map { $_ // '-' }
                                             @$expected[0 .. 2];
        push @wrong, "$id is $ids{$lsn}, too" if ($ids{$lsn} //= $id) ne $id;
        $seen++;
    }

    my $ends = $processes[$n]{ends};
    is(scalar @wrong, 0, "$name: each change once, in the order of the log")
        or diag("seed $SEED: ", join "\n", splice @wrong, 0, 10);
    is($next, @own, "$name: up to the last one");
    is_deeply([ grep { /was lost/ } keys %$ends ], [], "$name: none was lost");
    cmp_ok($lists, '<=', 1 + $snapshots, "$name: it could go on");
    note("$name: $seen changes, $lists lists, ends: ",
         join ', ', map { s/:.*//sr . " $ends->{$_}" } sort keys %$ends);
    $ends{$_} += $ends->{$_} for keys %$ends;
}

cmp_ok($ends{$_} // 0, '>', 0, "ends of streams: $_") for qw(whole cut);
note("seed $SEED, sync=$sync: $ROUNDS events in ", sprintf('%.0f s: ', $took),
     join ', ', map { "$_: $happened{$_}" } sort keys %happened);
note(scalar @changes . " changes, $snapshots snapshots");

done_testing();
