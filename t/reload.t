# Reloads: no request fails, no write is lost, no recovery runs; what a reload
# cannot change is refused.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time sleep);

use KV::Load;
use KV::Test;

my $ROUNDS = $ENV{KV_ROUNDS} || 6;

my $s = KV::Test->new(zone => '64m', fault => 1,
                      kv => 'segment=4m max_value=1m snapshot=24m');
$s->start;


# Runs the code beside writers; nothing that they do may fail.

sub under_load {
    my ($name, $code) = @_;

    # a connection for each request: one that idles may be closed just when
    # the next request is on its way, which is HTTP's own race

    my @writers = map { KV::Load->writers($s, name => "$name$_",
                                          keepalive => 0, pause => 0.004) }
                      1 .. 3;
    my $written = sub { $s->store->{commit}{operations} };
    my $more = sub { my $n = $written->() + 150;
                     return wait_for(sub { $written->() >= $n }, 10) };
    $more->();
    $code->();
    ok($more->(), "$name: there was load all the time");

    my @results = map { $_->stop } @writers;
    my @errors = map { @{$_->{errors}} } @results;
    my %counts;
    for my $counts (map { $_->{counts} } @results) {
        $counts{$_} += $counts->{$_} for keys %$counts;
    }

    is(scalar @errors, 0, "$name: nothing lost or torn")
        or diag(join "\n", splice @errors, 0, 10);
    is(join(' ', grep { !/^(?:200|404)$/ } sort keys %counts), '',
       "$name: no request fails");

    my $ledger = KV::Ledger->merge(map { $_->{ledger} } @results);
    @errors = KV::Load->verify($s, $ledger, \my $found);
    is(scalar @errors, 0, "$name: every key is there")
        or diag(join "\n", splice @errors, 0, 10);
    note("$name: " . join ', ', map { "$_ $counts{$_}" } sort keys %counts);
    return $ledger;
}


$s->put('stays', value('stays', 1, 100_000));
my $recovery = $s->store->{recovery};

my $ledger = under_load('reload', sub {
    for (1 .. $ROUNDS) {
        ok(defined $s->reload, "reload $_");
        sleep(rand 0.2);
    }
});

is_deeply($s->store->{recovery}, $recovery, 'no recovery ran');
is($s->get('stays')->{body}, value('stays', 1, 100_000), 'old data is there');


# connections of the old generation: a request in progress is finished, by
# the old worker, with the new one's help or against it

{
    my $value = value('slow', 1, 500_000);
    my $c = $s->connect;
    $c->send("PUT /kv/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n"
             . "\r\n" . substr($value, 0, 200_000));
    wait_for(sub { $s->used > 200_000 }, 20);
    my %old = map { $_ => 1 } $s->workers;
    kill('HUP', $s->{pid});
    ok(wait_for(sub { 2 == grep { !$old{$_} } $s->workers }, 10),
       'new workers beside the old');
    ok((grep { $old{$_} } $s->workers) > 0, 'an old one waits for its upload');
    is($s->put('new', 'new')->{status}, 200, 'the new ones take writes');
    $c->send(substr($value, 200_000));
    is($c->response->{status}, 200, 'the old one finishes its upload');
    is($s->get('slow')->{body}, $value, 'which everybody sees');
    ok(wait_for(sub { !grep { $old{$_} } $s->workers }, 10), 'then it goes');
}


# writes waiting for their sync while the workers change

{
    my @c = map { $s->connect } 0 .. 31;
    my %old = map { $_ => 1 } $s->workers;

    $s->fault(hold => 1);
    $c[$_]->send(KV::Conn::request(PUT => "/kv/w$_", body => "w$_"))
        for 0 .. 31;
    $s->has_read;
    kill('HUP', $s->{pid});
    ok(wait_for(sub { 2 == grep { !$old{$_} } $s->workers }, 10),
       'a reload while writes wait for the disk');
    is(scalar(grep { $_->silent(0) } @c), 32, 'which they do');
    $s->fault(hold => undef);
    my @answers = map { $_->response } @c;
    ok(wait_for(sub { !grep { $old{$_} } $s->workers }, 10),
       'the old workers go');
    is(scalar(grep { $_ && $_->{status} == 200 } @answers), 32,
       'all of them are answered');
    is(scalar(grep { $s->get("w$_")->{body} eq "w$_" } 0 .. 31), 32,
       'and there');
}


# the number of workers

under_load('workers', sub {
    for my $n (4, 1, 3, 2) {
        $s->{workers} = $n;
        ok(defined $s->reload, "$n workers");
        is(scalar(() = $s->workers), $n, "$n workers it is");
    }
});


# parameters that may change

under_load('parameters', sub {
    $s->{kv} = 'segment=8m max_value=512k delay=1ms batch=10 snapshot=16m';
    ok(defined $s->reload, 'other parameters');
});
is($s->put('large', 'x' x 600_000)->{status}, 413, 'they are in force');


# a zone more, and one less

{
    $s->{http} = 'kv_zone zone=more:16m path=%%dir%%/more segment=1m
                          max_value=128k;';
    $s->{server} = 'location /more/ { kv more; }';
    under_load('zone', sub {
        ok(defined $s->reload, 'a zone more');
        is($s->http(PUT => '/more/a', body => 'more')->{status}, 200,
           'it takes a write');
        is($s->http(GET => '/more/a')->{body}, 'more', 'and gives it back');
        ok(defined $s->reload, 'again');
        is($s->http(GET => '/more/a')->{body}, 'more', 'it is still there');
    });

    @$s{qw(http server)} = ('', '');
    under_load('less', sub {
        ok(defined $s->reload, 'a zone less');
        is($s->http(GET => '/more/a')->{status}, 404, 'it is gone');
    });

    $s->{http} = 'kv_zone zone=more:16m path=%%dir%%/more segment=1m
                          max_value=128k;';
    $s->{server} = 'location /more/ { kv more; }';
    ok(defined $s->reload, 'the zone again');
    is($s->http(GET => '/more/a')->{body}, 'more', 'with its data');
    @$s{qw(http server)} = ('', '');
    ok(defined $s->reload, 'and away');
}


# changes that a reload cannot make

$s->expect_log(qr/\[emerg\].*zone "main"/);

for my $change ([ size => zone => '96m', qr/"main".*size/ ],
                [ path => path => "$s->{dir}/elsewhere",
                  qr/"main".*elsewhere/ ])
{
    my ($name, $what, $value, $why) = @$change;
    my $was = $s->{$what};
    my $size = $s->store->{zone}{size};
    $recovery = $s->store->{recovery};

    under_load($name, sub {
        $s->{$what} = $value;
        my %old = map { $_ => 1 } $s->workers;
        my $log = $s->reload(qr/\[emerg\].*$why/);
        ok(defined $log, "$name: the error log says why it is refused");
        sleep(0.2);
        is(scalar(grep { $old{$_} } $s->workers), 2,
           "$name: the old workers go on");
        $s->{$what} = $was;
    });

    is_deeply($s->store->{recovery}, $recovery, "$name: no recovery ran");
    is($s->store->{zone}{size}, $size, "$name: the zone is as it was");
    ok(!-e "$s->{dir}/elsewhere", "$name: nothing is created elsewhere");
    ok(defined $s->reload, "$name: the old configuration can be reloaded");
    is($s->get('stays')->{body}, value('stays', 1, 100_000),
       "$name: old data is there");
}

# a configuration that is simply wrong

{
    $s->expect_log(qr/\[emerg\].*wrong=1/);
    my $was = $s->{kv};
    under_load('wrong', sub {
        $s->{kv} = "$was wrong=1";
        ok(defined $s->reload(qr/\[emerg\].*wrong=1/),
           'a wrong configuration is refused');
    });
    $s->{kv} = $was;
}


# everything is on disk

$s->stop('KILL');
$s->start;
my @errors = KV::Load->verify($s, $ledger, \my $found);
is(scalar @errors, 0, 'all of it is there after a SIGKILL')
    or diag(join "\n", splice @errors, 0, 10);

$s->done;
done_testing();
