# Restarts of the whole group in the middle of writes, as lc does them: clean
# ones and SIGKILL.  KV_ROUNDS says how many.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time sleep);

use KV::Load;
use KV::Test;

my $ROUNDS = $ENV{KV_ROUNDS} || 12;
my $WRITERS = 4;

my $s = KV::Test->new(zone => '128m', fault => 1,
                      kv => 'segment=4m max_value=1m snapshot=24m');
$s->start;


# many cycles

{
    my @writers = map { KV::Load->writers($s, name => "w$_") } 1 .. $WRITERS;
    my ($slowest_stop, $slowest_start) = (0, 0);
    my @bad;

    for my $round (1 .. $ROUNDS) {
        sleep(0.1 + rand 0.5);

        # half of the deaths find a sync under way
        $s->fault(slow => $round % 2 ? 20 : undef);
        sleep(rand 0.1);

        my $signal = (qw(KILL TERM KILL QUIT KILL INT))[$round % 6];
        my $time = running;
        my $rc = $signal eq 'QUIT' ? $s->quit : $s->stop($signal);
        my $took = running - $time;

        if ($signal ne 'KILL') {
            $slowest_stop = $took if $took > $slowest_stop;
            push @bad, "round $round: $signal: " . ($rc // 'does not stop')
                if !defined $rc || $rc != 0;
        }
        $s->fault(slow => undef);

        $time = running;
        $s->start;
        $took = running - $time;
        $slowest_start = $took if $took > $slowest_start;
    }

    wait_for(sub { $s->store->{commit}{operations} > 150 * $ROUNDS }, 30, 0.3);
    my @results = map { $_->stop } @writers;
    my %counts;
    for my $counts (map { $_->{counts} } @results) {
        $counts{$_} += $counts->{$_} for keys %$counts;
    }
    my @errors = map { @{$_->{errors}} } @results;

    is("@bad", '', 'every clean stop is clean');
    cmp_ok($slowest_stop, '<', 5.5 * slowness(), 'and done within 5 seconds');
    cmp_ok($slowest_start, '<', 5 * slowness(), 'every start is quick');
    cmp_ok($counts{200}, '>', 100 * $ROUNDS, 'there was something to lose');
    is(scalar @errors, 0, 'nothing lost or torn on the way')
        or diag(join "\n", splice @errors, 0, 10);

    my $ledger = KV::Ledger->merge(map { $_->{ledger} } @results);
    @errors = KV::Load->verify($s, $ledger, \my $found);
    is(scalar @errors, 0, "$ROUNDS restarts lost nothing")
        or diag(join "\n", splice @errors, 0, 10);
    is($s->store->{keys}, $found, 'no key came from nowhere');

    $s->stop('KILL');
    $s->start;
    @errors = KV::Load->verify($s, $ledger, \$found);
    is(scalar @errors, 0, 'nor did the last SIGKILL')
        or diag(join "\n", splice @errors, 0, 10);

    note(join ', ', map { "$_ $counts{$_}" } sort keys %counts);
    note(sprintf 'slowest stop %.2f s, start %.2f s', $slowest_stop,
         $slowest_start);
}


# writes that were accepted are answered when the server is told to stop

for my $how ([ 'SIGTERM to the group', sub { kill('TERM', -$s->{pgid}) } ],
             [ 'SIGINT to the group', sub { kill('INT', -$s->{pgid}) } ],
             [ 'SIGTERM to the master', sub { kill('TERM', $s->{pid}) } ],
             [ 'SIGQUIT to the master', sub { kill('QUIT', $s->{pid}) } ])
{
    my ($name, $signal) = @$how;
    my $from = length $s->log;
    my @c = map { $s->connect } 0 .. 63;
    my @others;

    # neither keeps a server from stopping, unless gracefully: that waits, in
    # any nginx

    if ($name !~ /QUIT/) {
        @others = map { $s->connect } 1 .. 2;
        $others[0]->send("PUT /kv/half HTTP/1.1\r\nHost: x\r\n"
                         . "Content-Length: 9\r\n\r\nhal");
    }

    $s->put('log', 'is open');
    $s->fault(hold => 1);
    $c[$_]->send(KV::Conn::request(PUT => "/kv/s$_", body => "$name $_"))
        for 0 .. 63;
    $s->has_read;

    my $time = running;
    $signal->();
    wait_for(sub { 2 <= (() = substr($s->log, $from)
                              =~ /: (?:gracefully shutting down|exiting)$/mg)
                 }, 10);
    $s->fault(hold => undef);
    my @answers = map { eval { $_->response } } @c;
    $_->close for @c;
    is(scalar(grep { $_ && $_->{status} == 200 } @answers), 64,
       "$name: accepted writes are answered");
    is($s->wait_exit, 0, "$name: status 0");
    cmp_ok(running - $time, '<', 5 * slowness(), "$name: in time");

    my @lines = grep { /kv zone "main": / } split /\n/,
                substr($s->log, $from);
    my @put = grep { m{PUT /kv/\{key\}: (\d+) requests?} } @lines;
    is(scalar @put, 1, "$name: statistics are logged once");
    cmp_ok(($put[0] // '') =~ /: (\d+) request/ ? $1 : 0, '>=', 64,
           "$name: and count");

    $s->start;
    is(scalar(grep { $s->get("s$_")->{body} eq "$name $_" } 0 .. 63), 64,
       "$name: and the writes are there");
    is($s->get('half')->{status}, 404, "$name: half an upload is not");
}


# a write that is answered while the group is killed is there afterwards

{
    my $lost = 0;

    for my $round (1 .. 5) {
        my @c = map { $s->connect } 0 .. 31;
        $s->fault(slow => 30);
        $c[$_]->send(KV::Conn::request(PUT => "/kv/r$round-$_", body => "v$_"))
            for 0 .. 31;
        sleep(rand 0.1);
        $s->stop('KILL');
        $s->fault(slow => undef);

        my @acked = grep { my $r = eval { $c[$_]->response };
                           $r && $r->{status} == 200 } 0 .. 31;
        $s->start;
        $lost += grep { $s->get("r$round-$_")->{body} ne "v$_" } @acked;
    }

    is($lost, 0, 'what was answered before a SIGKILL is there');
}

$s->done;


# segments of the least size, with the largest values that they take

{
    my $least = KV::Test->new(zone => '32m', kv => 'segment=64k max_value=32k');
    $least->start;
    my %value = map { ("k$_" => chr(97 + $_ % 26) x (32_768 - $_)) } 0 .. 39;

    is(scalar(grep { $least->put($_, $value{$_})->{status} != 200 }
              keys %value), 0, 'segment=64k: values of 32k are taken');
    is($least->put('k0', 'x' x 32_769)->{status}, 413, 'but no larger ones');
    cmp_ok($least->store->{log}{segments}, '>', 10, 'they fill segments');
    $least->stop('KILL');
    $least->start;
    is(scalar(grep { $least->get($_)->{body} ne $value{$_} } keys %value), 0,
       'and are there again after a SIGKILL');
    $least->done;
}


# The incarnation of the store (src/disk/kv_format.h), that its versions are of.
# The same after a clean end alone, and where the very same files are found.

{
    my $t = KV::Test->new(zone => '8m', kv => 'segment=256k max_value=64k');
    my ($path, $copy) = ($t->{path}, "$t->{path}.copy");
    my ($n, $same) = (0, 1);

    my $incarnation = sub { $t->stats->{store}{log}{incarnation} };
    my $run = sub { system(@$_) == 0 or die "@$_" for map { [split] } @_ };

    $t->start;

    for my $way ([ $same, 'a clean end' ],
                 [ !$same, 'SIGKILL', [], 'KILL' ],
                 [ $same, 'moved away and back',
                   [ "mv $path $copy", "mv $copy $path" ] ],
                 [ !$same, 'a copy of the directory',
                   [ "cp -a $path $copy", "rm -rf $path",
                     "cp -a $copy $path", "rm -rf $copy" ] ],
                 [ !$same, 'hard links',
                   [ "cp -al $path $copy", "rm -rf $path",
                     "mv $copy $path" ] ],
                 [ !$same, 'a file "restored"', [ "touch $path/restored" ] ],
                 [ $same, 'a clean end after all' ])
    {
        my ($kept, $name, $commands, $signal) = @$way;

        is($t->put('k', ++$n)->{status}, 200, "$name: a write before");
        my $before = $incarnation->();
        $t->stop($signal // 'TERM');
        $run->(@{$commands // []});
        $t->start;
        is($t->get('k')->{body}, $n, "$name: all is there");
        is($t->put('k', ++$n)->{status}, 200, "$name: a write after");
        my $after = $incarnation->();

        if ($kept) {
            is($after, $before, "$name: versions go on");
        } else {
            cmp_ok($after, 'gt', $before, "$name: versions begin anew");
        }
        ok(!-e "$path/restored", "$name: and nothing says more");
    }

    $t->done;
}

# Hard links that are put back into the same directory.  The first segment has
# no space for the last write, and stays as it was; so the note of the end
# before that would fit, and is the file that was written, but it is empty.

{
    my $t = KV::Test->new(zone => '8m', kv => 'segment=256k max_value=64k');
    my ($path, $copy) = ($t->{path}, "$t->{path}.copy");
    my $incarnation = sub { $t->stats->{store}{log}{incarnation} };

    $t->start;
    is($t->put("k$_", 'x' x 65000)->{status}, 200, "hard links: put $_")
        for 1 .. 3;
    $t->stop('TERM');
    system('cp', '-al', $path, $copy) == 0 or die;

    $t->start;
    my $before = $incarnation->();
    is($t->put('k4', 'x' x 65000)->{status}, 200, 'hard links: one more');
    is($incarnation->(), $before, 'hard links: in the same incarnation');
    $t->stop('TERM');
    system("rm $path/* && mv $copy/* $path/ && rmdir $copy") == 0 or die;

    $t->start;
    is($t->get('k3')->{status}, 200, 'hard links: what they have is there');
    is($t->get('k4')->{status}, 404, 'hard links: the last write is not');
    cmp_ok($incarnation->(), 'gt', $before,
           'hard links moved back: versions begin anew');

    $t->done;
}

done_testing();
