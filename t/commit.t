# Commit: nothing is visible before it is durable, nothing is answered before
# it is visible; batches, and what delays them.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time sleep);

use KV::Test;

my @KV = (fault => 1, kv => 'segment=4m max_value=1m');


# Sends the requests, each on a connection of its own, and returns these.

sub send_all {
    my ($s, @requests) = @_;
    return map { my $c = $s->connect;
                 $c->send(KV::Conn::request(@$_));
                 $c } @requests;
}

sub puts { map { [ PUT => "/kv/$_[0]$_", body => "value $_" ] } 1 .. $_[1] }

# How long until all are answered, each with 200.

sub took {
    my ($time, @c) = @_;
    my $bad = grep { my $r = $_->response; !$r || $r->{status} != 200 } @c;
    return $bad ? "$bad failed" : time - $time;
}


my $s = KV::Test->new(@KV);
$s->start;


# a write that waits for the disk is not seen, and other requests do not wait

for my $case ([ 'a PUT', { old => 'after' },
                PUT => '/kv/old', body => 'after' ],
              [ 'a new key', { new => 'after' },
                PUT => '/kv/new', body => 'after' ],
              [ 'a DELETE', { gone => undef }, DELETE => '/kv/gone' ],
              [ 'a clear', { map { $_ => undef } qw(old new gone kept) },
                DELETE => '/clear' ])
{
    my ($name, $after, @request) = @$case;
    my %is = (old => 'before', gone => 'before', kept => 'before',
              new => undef);
    my $seen = sub { my $r = $s->get($_[0]);
                     return $r->{status} == 404 ? undef : $r->{body} };

    for (sort keys %is) {
        defined $is{$_} ? $s->put($_, $is{$_}) : $s->del($_);
    }

    $s->fault(hold => 1);
    my $c = $s->written(@request);
    my @early;

    for (1 .. 10) {
        for (sort keys %is) {
            my $now = $seen->($_);
            push @early, "$_ is " . ($now // 'gone')
                if ($now // '') ne ($is{$_} // '');
        }
    }

    is("@early", '', "$name: not visible before it is durable");
    ok($c->silent(0), "$name: nor answered");
    $s->fault(hold => undef);

    is($c->response->{status}, 200, "$name: then it is");
    %is = (%is, %$after);
    is_deeply({ map { $_ => $seen->($_) } keys %is }, \%is,
              "$name: and visible");
}


# what waits for the disk shares the next sync

{
    my $before = $s->store->{commit};
    $s->fault(hold => 1);
    my @c = $s->written(PUT => '/kv/first', body => 'x');
    push @c, send_all($s, puts('next', 100));
    $s->has_read;
    sleep(0.2);
    $s->fault(hold => undef);
    my $bad = grep { $_->response->{status} != 200 } @c;
    my $after = $s->store->{commit};

    is($bad, 0, '101 writes are answered');
    is($after->{operations} - $before->{operations}, 101, 'all are committed');
    cmp_ok($after->{batches} - $before->{batches}, '<=', 10, 'in few batches');
    cmp_ok($after->{sync_us}{count} - $before->{sync_us}{count}, '<=', 10,
           'and few syncs');
    cmp_ok($after->{sync_us}{max}, '>=', 150_000, 'a slow sync is noticed');
}


# writes to one key in the order of their answers: the last one stays

{
    my $bad = 0;
    for my $round (1 .. 30) {
        my @c = send_all($s, map { [ PUT => '/kv/order', body => "$round.$_" ] }
                             1 .. 8);
        $_->response for @c;
        my ($last) = send_all($s,
                              [ PUT => '/kv/order', body => "$round.last" ]);
        $last->response;
        $bad++ if $s->get('order')->{body} ne "$round.last";
    }
    is($bad, 0, 'what is sent after an answer comes after it');
}

is($s->stop, 0, 'it stops');


# a delay: a batch waits for company, but not for more than it takes

{
    $s->{kv} = 'segment=4m max_value=1m delay=300ms batch=10';
    $s->start;
    $s->put('warm', 'x');

    my $puts = sub { my @puts = puts(@_);
                     return sub { my $r = took(time, send_all($s, @puts));
                                  die "$r\n" if $r =~ /failed/ } };

    my $one = quickest(0.6, $puts->('one', 1));
    cmp_ok($one, '>=', 0.25, 'a lone write waits for the delay');
    cmp_ok($one, '<', 0.6 * slowness(), 'and no longer');

    # a worker that stops does not wait

    my $stop = sub {
        $s->start if !$s->{pid};
        my @c = send_all($s, puts('stop', 3));
        $s->has_read;
        kill('TERM', -$s->{pgid});
        is(scalar(grep { ($_->response || { status => 0 })->{status} == 200 }
                  @c),
           3, 'what waits for company is answered when the server stops');
        is($s->wait_exit, 0, 'which it does');
    };

    cmp_ok(quickest(2, $stop), '<', 2 * slowness(), 'soon');

    # of a longer one it can be told on a busy machine

    $s->{kv} = 'segment=4m max_value=1m delay=2s batch=10';
    $s->start;
    cmp_ok(quickest(1.8, $puts->('ten', 10)), '<', 1.8,
           'a full batch does not wait');

    my ($took, $batches);
    for (1 .. 4) {
        $batches = $s->store->{commit}{batches};
        $took = time;
        $puts->('five', 5)->();
        $took = time - $took;
        $batches = $s->store->{commit}{batches} - $batches;
        last if $batches == 1;
    }
    cmp_ok($took, '>', 1.8, 'half a batch does');
    is($batches, 1, 'and is one batch');
    is($s->stop, 0, 'it stops');
}


# however long it is, a worker that stops does not wait: no write would come

for my $how ([ TERM => sub { kill('TERM', -$s->{pgid}) } ],
             [ QUIT => sub { kill('QUIT', $s->{pid}) } ],
             [ HUP => sub { kill('HUP', $s->{pid}) } ])
{
    my ($name, $send) = @$how;
    $s->{kv} = 'segment=4m max_value=1m delay=10s batch=10';
    $s->start;

    my %old = map { $_ => 1 } $s->workers;
    my @c = send_all($s, puts('long', 3));
    $s->has_read;
    ok($c[0]->silent(0.1), "$name: writes wait for company");
    my $time = time;
    $send->();
    is(scalar(grep { (eval { $_->response } || { status => 0 })->{status}
                     == 200 } @c), 3, "$name: they are answered");
    cmp_ok(time - $time, '<', 9, "$name: at once");

    @c = ();
    wait_for(sub { !grep { $old{$_} } $s->workers }, 10) if $name eq 'HUP';
    is($name eq 'HUP' ? $s->stop : $s->wait_exit, 0, "$name: a clean exit");
}


# sync=<interval> answers without the disk, except while a sync is under way,
# and sync=off then, too

for my $sync ('1s', 'off') {
    $s->{kv} = "segment=4m max_value=1m sync=$sync";
    $s->start;
    $s->put('warm', 'x');
    $s->fault(hold => 1) if $sync eq 'off';

    my $before = $s->store->{commit}{sync_us}{count};
    is(scalar(grep { $s->put("$sync$_", value("$sync$_", $_, 100))->{status}
                     != 200 } 1 .. 50), 0, "sync=$sync: 50 writes");
    cmp_ok($s->store->{commit}{sync_us}{count} - $before, '<', 25,
           "sync=$sync: in less than 50 syncs");

    if ($sync ne 'off') {
        ok(wait_for(sub { my $log = $s->store->{log};
                          $log->{durable_lsn} == $log->{next_lsn} - 1 }, 20),
           "sync=$sync: they are durable soon");
    }

    $s->fault(hold => undef);
    $s->stop('KILL');
    $s->start;
    is(scalar(grep { $s->get("$sync$_")->{body} ne value("$sync$_", $_, 100) }
              1 .. 50), 0, "sync=$sync: a SIGKILL loses nothing");
    $s->put('last', $sync);
    is($s->stop, 0, "sync=$sync: a clean stop");
    $s->start;
    is($s->get('last')->{body}, $sync, "sync=$sync: keeps the last write");
    is($s->stop, 0, "sync=$sync: it stops");
}

# a failing sync is noticed there, too

{
    $s->{kv} = 'segment=4m max_value=1m sync=50ms';
    $s->expect_log(qr/Input\/output error/);
    $s->start;
    $s->put('good', 'x');
    wait_for(sub { my $log = $s->store->{log};
                   $log->{durable_lsn} == $log->{next_lsn} - 1 }, 20);
    $s->fault(fdatasync => 1);
    $s->put('lost', 'x');
    ok(wait_for(sub { $s->put('more', 'x')->{status} == 503 }, 20),
       'sync=50ms: a failed sync ends the writes');
    is($s->http(GET => '/health')->{status}, 503, 'sync=50ms: /health says so');
    is($s->get('good')->{body}, 'x', 'sync=50ms: reads go on');
    $s->fault(fdatasync => undef);
    is($s->put('more', 'x')->{status}, 503, 'sync=50ms: once is enough');
}

$s->done;
done_testing();
