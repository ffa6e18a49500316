# The end of a worker with several stores, when the disks of some hang: each
# store's writes are answered as soon as its own disk allows.

# long

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep);

use KV::Test;


# One worker with the stores s1, s2, s3, ..., whose directories have these
# names and whose zones these parameters.

sub stores {
    my ($names, %kv) = @_;
    my $s = KV::Test->new(fault => 1, workers => 1, zone => '8m',
                          path => '%%dir%%/' . $names->[0],
                          kv => 'segment=1m max_value=64k '
                                . ($kv{$names->[0]} // ''));

    $s->{server} = 'location /s1/ { kv main; }
                    location = /stats1 { kv_stats main; }';

    for my $i (2 .. @$names) {
        my $name = $names->[$i - 1];
        $s->{http} .= "kv_zone zone=s$i:8m path=%%dir%%/$name segment=1m
                       max_value=64k @{[ $kv{$name} // '' ]};\n";
        $s->{server} .= "location /s$i/ { kv s$i; }
                         location = /stats$i { kv_stats s$i; }\n";
    }

    $s->start;

    # the first write of each store opens its log

    $s->http(PUT => "/s$_/first", body => 'x')->{status} == 200 or die
        for 1 .. @$names;

    return $s;
}


# A write that the only worker has taken; with `written`, whose batch waits for
# its sync now.

sub taken {
    my ($s, $i, $key, $written) = @_;
    my $lsn = sub { $s->stats("/stats$i")->{store}{log}{next_lsn} };
    my $before = $lsn->();
    my $c = $s->connect;

    $c->send(KV::Conn::request(PUT => "/s$i/$key", body => 'value'));
    if ($written) {
        wait_for(sub { $lsn->() > $before }, 10) or die "not written\n";
    } else {
        $s->healthy for 1 .. 3;
    }

    return $c;
}


sub status {
    my ($c) = @_;
    my $r = eval { $c->response('PUT', 20) };
    return $r ? $r->{status} : 0;
}


# Two stores hang, each with one write in a sync and one behind it.  The third,
# whose write waits for company, answers, wherever it stands among them: true if
# it did.

sub answers {
    my ($well) = @_;
    my @names = qw(hang1 hang2);
    splice @names, $well - 1, 0, 'well';

    my $s = stores(\@names, well => 'delay=8s');
    my @hang = grep { $_ != $well } 1 .. 3;
    my @c;

    $s->expect_log(qr/worker process \d+ exited on signal 9/);
    $s->fault(hold => '1 /hang');

    push @c, taken($s, $_, 'a', 1), taken($s, $_, 'b') for @hang;
    my $c = taken($s, $well, 'a');

    kill 'TERM', $s->{pid};
    my $answered = status($c) == 200;
    is($s->wait_exit, 0, 'nginx ends');
    $s->check_log;

    $s->fault(hold => undef);
    $s->start;
    is($s->http(GET => "/s$well/a")->{body}, 'value', 'the write is there')
        if $answered;
    $s->done;
    return $answered;
}

# The master kills the worker after some three seconds, which a machine may
# stand still for: then once more.

for my $well (1 .. 3) {
    my ($answers, $tries) = (0, 0);
    $answers = answers($well) until $answers || ++$tries > 4;
    ok($answers, "the healthy store, number $well of 3, answers");
}


# They are served side by side: one whose disk goes on answers what it has, in a
# sync and behind it, while the others hang, in whatever order they go on.  The
# worker alone is told, for the master would not wait.  It waits for 5 seconds,
# which a machine may stand still for: then once more.

for my $try (1 .. 4) {
    my $s = stores([map { "slow$_" } 1 .. 5]);
    my ($worker) = $s->workers;
    my $from = length $s->log;
    my %hang = map { $_ => 1 } 1 .. 5;
    my $hold = sub { $s->fault(hold => join ' ', 1, map { "/slow$_" } @_) };
    my (@c, @status);

    $hold->(keys %hang);
    push @c, [ taken($s, $_, 'a', 1), taken($s, $_, 'b') ] for 1 .. 5;

    kill 'TERM', $worker;
    wait_for(sub { substr($s->log, $from) =~ / $worker#.*: exiting$/m }, 10);

    for my $i (3, 5, 1, 4, 2) {
        delete $hang{$i};
        %hang ? $hold->(keys %hang) : $s->fault(hold => undef);
        push @status, map { status($_) } @{$c[$i - 1]};
        last if $status[-1] != 200;
    }

    $s->fault(hold => undef);

    if ("@status" eq join(' ', (200) x 10) || $try == 4) {
        is("@status", join(' ', (200) x 10), 'each store answers by itself');
        $s->done;
        last;
    }
}


# A sync that takes longer than the worker drains, but ends: what it answers
# then leads back to the store, which has no threads any more.  With cluster= it
# never had one for commits, and does not wait for that process.

SKIP: {
    skip('a worker does not wait for another process', 5)
        if $ENV{KV_TEST_CLUSTER};
    my $s = KV::Test->new(fault => 1, workers => 1, zone => '8m',
                          kv => 'segment=1m max_value=64k', server =>
                          'location /after/ { internal; kv main; }',
                          location => 'post_action /after/k;');
    $s->start;
    $s->put('first', 'x');
    my ($worker) = $s->workers;

    $s->fault(hold => 1);
    my $c = $s->written(DELETE => '/kv/first');

    kill 'TERM', $worker;
    sleep(6.5);
    ok($c->silent(0), 'a sync of 6.5 seconds');
    $s->fault(hold => undef);
    is(eval { $c->response('DELETE', 20)->{status} }, 200, 'is answered');
    ok(wait_for(sub { my @now = $s->workers;
                      @now == 1 && $now[0] != $worker }, 20),
       'and another worker takes its place');
    is($s->get('first')->{status}, 404, 'deleted');
    $s->done;
}

done_testing();
