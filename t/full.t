# A full zone, a full disk, a failing disk: what is refused changes nothing,
# what was acknowledged stays, and what can go on goes on.

# long

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep);

use KV::Inspect;
use KV::Load;
use KV::Test;

my @KV = (kv => 'segment=1m max_value=256k snapshot=1000m');


sub answer {
    my ($r, $status, $body, $name) = @_;
    return is_deeply([ $r->{status}, $r->{body},
                       $r->{headers}{'content-type'} ],
                     [ $status, $body, 'text/plain' ], $name);
}

# Puts values of this length under name1, name2, ... until one is refused: how
# many were taken, and the last answer.

sub fill {
    my ($s, $name, $len) = @_;
    my $c = $s->connect;

    for my $n (1 .. 200_000) {
        $c->send(KV::Conn::request(PUT => "/kv/$name$n",
                                   body => value("$name$n", $n, $len)));
        my $r = $c->response;
        return ($n - 1, $r) if $r->{status} != 200;
    }
}

sub wrong {
    my ($s, $name, $len, @n) = @_;
    my $c = $s->connect;
    return grep {
        $c->send(KV::Conn::request(GET => "/kv/$name$_"));
        $c->response->{body} ne value("$name$_", $_, $len)
    } @n;
}

sub note_full { my ($what, $n, $len, $s) = @_;
    note(sprintf '%s: %d values of %d bytes, %.0f%% of the zone', $what, $n,
         $len, 100 * $n * $len / $s->store->{zone}{size}) }


# ---- the zone


for my $len (100_000, 10_000, 1000) {
    my $s = KV::Test->new(zone => '8m', @KV);
    $s->{kv} .= ' sync=off' if $len == 1000;       # it is about memory
    $s->start;

    my ($n, $r) = fill($s, 'a', $len);
    answer($r, 507, "zone is full\n", "$len: the zone is full");
    cmp_ok($n * $len, '>', 0.5 * (8 << 20), "$len: after half of it at least");
    note_full('full', $n, $len, $s);

    is($s->http(GET => '/health')->{status}, 200, "$len: /health is fine");
    is(scalar(wrong($s, 'a', $len, 1 .. $n)), 0, "$len: reads go on");
    is($s->get('a' . ($n + 1))->{status}, 404, "$len: nothing was stored");

    # over an old key, larger

    $r = $s->put('a1', 'x' x ($len * 2));
    answer($r, 507, "zone is full\n", "$len: the same for an old key");
    $r = $s->http(PUT => '/kv/a1', chunks => [ ('x' x $len) x 2 ]);
    answer($r, 507, "zone is full\n", "$len: the same for a chunked body");
    is(scalar(wrong($s, 'a', $len, 1)), 0, "$len: the old value stays");
    is($s->store->{keys}, $n, "$len: nothing has changed");

    # Expect: refused before the body

    my $c = $s->connect;
    $c->send("PUT /kv/e HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
             . "Content-Length: 200000\r\n\r\n");
    answer($c->response, 507, "zone is full\n",
           "$len: known before the body comes");

    # deletes free memory at once, for values of any size

    my $gone = 2 + int(600_000 / $len);
    $c = $s->connect;
    my $bad = 0;
    for (1 .. $gone) {
        $c->send(KV::Conn::request(DELETE => "/kv/a$_"));
        $bad++ if $c->response->{status} != 200;
    }
    is($bad, 0, "$len: deletes go on");

    is($s->put('big', value('big', 1, 200_000))->{status}, 200,
       "$len: a large value fits at once");
    is(scalar(grep { $s->put("s$_", value("s$_", $_, 500))->{status} != 200 }
              1 .. 50), 0, "$len: and for small ones");
    is($s->get('big')->{body}, value('big', 1, 200_000), "$len: it is there");
    is(scalar(wrong($s, 'a', $len, $gone + 1 .. $n)), 0,
       "$len: and so are the others");

    # fuller once more, then all of it is free at once

    fill($s, 'b', 1000);
    is($s->clear->{status}, 200, "$len: a clear of the full zone");
    is($s->store->{keys}, 0, "$len: which is empty then");
    my ($again) = fill($s, 'c', $len);
    cmp_ok($again, '>=', 0.97 * $n, "$len: and takes as much as before");
    is(scalar(wrong($s, 'c', $len, 1 .. $again)), 0, "$len: all of it right");

    $s->clear;
    my ($large) = fill($s, 'd', 200_000);
    cmp_ok($large * 200_000, '>', 0.5 * (8 << 20),
           "$len: values of another size have as much memory");

    is($s->stop('KILL'), 128 + 9, "$len: killed when full");
    if (ok(eval { $s->start }, "$len: it starts again, full")) {
        is(scalar(wrong($s, 'd', 200_000, 1 .. $large)), 0,
           "$len: with all of it");
        is($s->store->{keys}, $large, "$len: and nothing else");
    } else {
        diag($@);
    }
    $s->done;
}


# many small values, and again, leave memory for large ones; what fits then
# fits after a restart

{
    my $s = KV::Test->new(zone => '5m', @KV);
    my $fill = sub {
        my ($name, $len, $step) = @_;
        my ($n, $c, @status) = (0, $s->connect);
        do {
            $c->send(join '', map { KV::Conn::request(PUT => "/kv/$name$_",
                                        body => value("$name$_", $_, $len)) }
                              $n + 1 .. $n + $step);
            @status = map { $c->response->{status} } 1 .. $step;
            $n += $step;
        } until grep { $_ != 200 } @status;
    };

    $s->{kv} .= ' sync=off';
    $s->start;
    $fill->('a', 100, 100);
    cmp_ok($s->store->{keys}, '>', 10_000, 'very many small values');
    $s->clear;
    $fill->('b', 300, 100);
    $s->clear;
    $fill->('c', 200_000, 1);
    my $n = $s->store->{keys};
    cmp_ok($n * 200_000, '>', 0.6 * (5 << 20), 'then large ones');

    $s->stop('KILL');
    if (ok(eval { $s->start }, 'after a restart all of them fit')) {
        is($s->store->{keys}, $n, 'they are there');
        is(scalar(wrong($s, 'c', 200_000, 1 .. $n)), 0, 'and right');
    } else {
        diag($@);
    }
    $s->done;
}


# a worker that has just started reads large values, and deletes, in a zone that
# was full when it was killed: it has no records yet, and there may be no page

{
    my $s = KV::Test->new(zone => '4m', kv => 'segment=1m snapshot=1m list=on
                                               max_value=512k sync=off');
    $s->start;
    my ($n) = fill($s, 'a', 20_000);
    fill($s, 'b', 400);

    $s->stop('KILL');
    $s->start;
    is(scalar(map { wrong($s, 'a', 20_000, 1 .. $n) } 1 .. 4), 0,
       'killed when full: reads go on');
    is(scalar(grep { $s->del("a$_")->{status} != 200 } 1 .. $n), 0,
       'killed when full: deletes go on');
    $s->done;
}


# the smallest zone works

{
    my $s = KV::Test->new(zone => '4m', kv => 'segment=256k max_value=64k
                                               sync=off');
    $s->start;
    my ($n, $r) = fill($s, 'a', 1000);
    answer($r, 507, "zone is full\n", 'the smallest zone is full');
    cmp_ok($n, '>', 500, 'but not at once');
    note_full('smallest zone', $n, 1000, $s);
    is(scalar(grep { $s->del("a$_")->{status} != 200 } 1 .. 200), 0,
       'deletes go on');
    is($s->put('a', 'x')->{status}, 200, 'it fits');
    $s->done;
}


# more large uploads at once than there is memory for: some are stored, the
# others refused (408 if it takes them more than a second), and they do not wait
# for each other for ever

for my $how ('a length', 'chunks') {
    my $s = KV::Test->new(zone => '16m', kv => 'segment=4m max_value=2m');
    my $piece = 'x' x 65_536;
    $s->start;

    my @c = map { $s->connect } 1 .. 20;
    for my $i (1 .. 20) {
        $c[$i - 1]->send("PUT /kv/b$i HTTP/1.1\r\nHost: x\r\n"
                         . ($how eq 'chunks' ? 'Transfer-Encoding: chunked'
                                             : 'Content-Length: 2097152')
                         . "\r\n\r\n");
    }
    for (1 .. 32) {
        $_->send($how eq 'chunks' ? "10000\r\n$piece\r\n" : $piece) for @c;
    }
    $_->send($how eq 'chunks' ? "0\r\n\r\n" : '') for @c;

    my @status = map { ($_->response || { status => 'none' })->{status} } @c;
    my $stored = grep { $_ eq '200' } @status;
    is($stored + grep({ /^(?:507|408)$/ } @status), 20,
       "20 uploads at once with $how: each is stored or refused");
    cmp_ok($stored, '>', 0, "20 uploads at once with $how: some are stored");
    is($s->store->{keys}, $stored, "20 uploads at once with $how: as many");
    ok(wait_for(sub { $s->del('nothing');
                      $s->used - $stored * (2 << 20) < 1 << 20 }, 20),
       "20 uploads at once with $how: the rest is freed");
    $s->done;
}


# asked to stop while writes wait for deletes to free memory

{
    my $s = KV::Test->new(zone => '4m', fault => 1,
                          kv => 'segment=256k max_value=64k sync=off');
    $s->start;
    fill($s, 'a', 700);
    $s->{kv} =~ s/ sync=off//;
    ok(defined $s->reload, 'a full zone, and a sync for each batch');

    my $from = length $s->log;
    $s->fault(hold => 1);
    my @c = map {
        my $c = $s->connect;
        $c->send(KV::Conn::request(ref $_ ? @$_ : (DELETE => "/kv/a$_")));
        $c;
    } 1 .. 300, map { [ PUT => "/kv/new$_", body => value("new$_", $_, 700) ] }
                    1 .. 20;
    $s->has_read;
    kill('TERM', -$s->{pgid});
    wait_for(sub { substr($s->log, $from) =~ /: exiting$/m }, 10);
    $s->fault(hold => undef);

    my @status = map { ($_->response || { status => 'none' })->{status} } @c;
    is(scalar(grep { $_ eq '200' } @status[0 .. 299]), 300,
       'stopped: the deletes are answered');
    is(scalar(grep { $_ eq 'none' } @status[300 .. 319]), 0,
       'stopped: and so are the writes that waited for memory');
    is($s->wait_exit, 0, 'stopped: with status 0');
    $s->start;
    is(scalar(grep { $status[$_ + 299] eq '200'
                     && $s->get("new$_")->{body} ne value("new$_", $_, 700) }
              1 .. 20), 0, 'stopped: what was acknowledged is there');
    is(scalar(grep { $s->get("a$_")->{status} != 404 } 1 .. 300), 0,
       'stopped: what was deleted is not');
    $s->done;
}


# changing sizes for long: a zone that is half full never is

{
    my $s = KV::Test->new(zone => '8m', @KV);
    my ($bad, $total, %model) = (0, 0);

    $s->{kv} .= ' sync=off';
    $s->start;
    my $c = $s->connect;
    srand(7);

    for my $i (1 .. 8000) {
        my $key = 'k' . int rand 400;
        my $len = int(exp(rand(log(30_000 / 30))) * 30);   # 30 to 30,000
        my $more = $len - ($model{$key}[1] || 0);

        if ($total + $more > 0.5 * (8 << 20)) {
            $c->send(KV::Conn::request(DELETE => "/kv/$key"));
            $total -= $model{$key}[1] if $model{$key};
            delete $model{$key};
        } else {
            $c->send(KV::Conn::request(PUT => "/kv/$key",
                                       body => value($key, $i, $len)));
            $model{$key} = [ $i, $len ];
            $total += $more;
        }

        $bad++ if $c->response->{status} != 200;
    }

    is($bad, 0, 'a half full zone takes changing sizes for long');
    is(scalar(grep { $s->get($_)->{body} ne value($_, @{$model{$_}}) }
              keys %model), 0, 'every value is right');
    is($s->store->{keys}, scalar(keys %model), 'and counted');
    $s->done;
}


# a zone that is too small for what the directory holds

{
    my $s = KV::Test->new(zone => '32m', @KV);
    $s->start;
    $s->put("k$_", value("k$_", $_, 200_000)) for 1 .. 60;
    $s->stop;
    $s->{zone} = '8m';
    my ($rc, $out) = $s->refused;
    ok($rc, 'a zone too small for its data refuses to start');
    like($out, qr/\[emerg\].*zone/, 'and says so');
    $s->expect_log(qr/\[emerg\].*zone/);
    $s->{zone} = '32m';
    $s->start;
    is(scalar(wrong($s, 'k', 200_000, 1 .. 60)), 0,
       'the old size has all of it');
    $s->done;
}


# ---- the disk


SKIP: {
    my $s = KV::Test->new(kv => 'segment=1m max_value=256k snapshot=1000m');
    my $mnt = $s->mount(disk => 'size=10m')
        // skip('a full disk needs root, who may mount a tmpfs', 1);

    $s->{path} = "$mnt/data";
    write_file("$mnt/ballast", 'x' x (3 << 20));
    $s->start;

    my $fill_disk = sub {
        my ($name, $len) = @_;
        return $s->fill_disk($mnt, sub {
            my $key = $name . ($_[0] + 1);
            return $s->put($key, value($key, $_[0] + 1, $len));
        });
    };

    my ($n, $r) = $fill_disk->('a', 100_000);
    answer($r, 507, "disk is full\n", 'the disk is full');
    cmp_ok($n, '>', 5, 'not at once');
    is(scalar(wrong($s, 'a', 100_000, 1 .. $n)), 0, 'reads go on');
    is($s->get('a' . ($n + 1))->{status}, 404, 'nothing was stored');

    # small writes may still fit; a large one over an old key does not

    my ($m, $small) = $fill_disk->('b', 20_000);
    answer($small, 507, "disk is full\n", 'to the last bytes');
    answer($s->put('a1', 'x' x 200_000), 507, "disk is full\n",
           'the same for an old key');
    is(scalar(wrong($s, 'a', 100_000, 1)), 0, 'the old value stays');
    is($s->store->{keys}, $n + $m, 'nothing has changed');

    # no news with each that fits and each that does not

    my $said = () = $s->log =~ /is full: writes are refused|has space again/g;
    my %seen;
    for (1 .. 30) {
        $seen{large}{$s->put('a1', 'x' x 200_000)->{status}} = 1;
        $seen{small}{$s->put('tiny', 'x')->{status}} = 1;
        $seen{health}{$s->http(GET => '/health')->{status}} = 1;
        $seen{state}{$s->store->{state}} = 1;
    }
    is_deeply(\%seen, { large => { 507 => 1 }, small => { 200 => 1 },
                        health => { 503 => 1 }, state => { 'disk full' => 1 } },
              'at the edge: small ones fit, large ones do not, one state');
    my $again = () = $s->log =~ /is full: writes are refused|has space again/g;
    is($again, $said, 'at the edge: said once');
    $m++;

    # a backup takes no space there

    {
        $r = $s->http(GET => '/backup');
        is($r->{status}, 200, 'a backup of a store whose disk is full');
        write_file("$s->{dir}/backup.kvb", $r->{body});
        my $dir = "$s->{dir}/restored";
        is((inspect('restore', "$s->{dir}/backup.kvb", $dir))[0], 0,
           'can be restored elsewhere');
        my @keys = (inspect('dump', $dir))[1] =~ /"key":/g;
        is(scalar @keys, $n + $m, 'and has all');
        is($s->store->{state}, 'disk full', 'which changes nothing');
    }

    # a start on a full disk

    $s->stop('KILL');
    $s->launch;
    ok(wait_for(sub { $s->http(GET => '/kv/a1', soft => 1)->{status} == 200 },
                10), 'it starts on a full disk');
    is(scalar(wrong($s, 'a', 100_000, 1 .. $n)), 0, 'and reads');
    is(scalar(wrong($s, 'b', 20_000, 1 .. $m - 1)), 0, 'all of it');
    is($s->store->{keys}, $n + $m, 'and nothing else');

    # disk space again

    unlink "$mnt/ballast";
    my $ok = wait_for(sub { $s->put('room', 'x' x 50_000)->{status} == 200 },
                      5);
    ok($ok, 'writes work again when the disk has space');
    is($s->http(GET => '/health')->{status}, 200, '/health is fine');
    my ($more, $last) = $fill_disk->('c', 100_000);
    cmp_ok($more, '>', 5, 'as many as fit');
    answer($last, 507, "disk is full\n", 'and full again');

    $s->stop;
    $s->launch;
    ok(wait_for(sub { $s->http(GET => '/kv/a1', soft => 1)->{status} == 200 },
                10), 'after a clean stop it starts');
    is(scalar(wrong($s, 'a', 100_000, 1 .. $n)), 0, 'with the old');
    is(scalar(wrong($s, 'c', 100_000, 1 .. $more)), 0, 'and the new');
    is($s->store->{keys}, $n + $m + $more + 1, 'and nothing else');
    is($s->stop, 0, 'it stops');

    # under load, with the disk filling up and being freed

    system("rm -rf $mnt/data");
    write_file("$mnt/ballast", 'x' x (3 << 20));
    $s->start;
    my @writers = map { KV::Load->writers($s, name => "w$_",
                            connections => 6, keys => 10,
                            size => sub { 5000 }, accept => qr/^507$/) } 1 .. 3;
    my $probe = sub { $s->put('probe', 'x' x 20_000)->{status} };
    ok(wait_for(sub { $probe->() == 507 }, 10, 0.02), 'full under load');
    my $refused = sub { $s->stats->{routes}{kv}{PUT}{status}{507} // 0 };
    my $before = $refused->();
    ok(wait_for(sub { $refused->() > $before }, 10), 'writers see it');
    unlink "$mnt/ballast";
    ok(wait_for(sub { $probe->() == 200 }, 10, 0.02), 'and again under load');
    my @results = map { $_->stop } @writers;
    my @errors = map { @{$_->{errors}} } @results;
    is(scalar @errors, 0, 'under load: nothing else is answered')
        or diag(join "\n", splice @errors, 0, 10);
    cmp_ok(scalar(grep { $_->{counts}{507} } @results), '>', 0,
           'under load: writers saw it');
    my $ledger = KV::Ledger->merge(map { $_->{ledger} } @results);
    @errors = KV::Load->verify($s, $ledger, \my $found);
    is(scalar @errors, 0, 'under load: what was refused did not happen')
        or diag(join "\n", splice @errors, 0, 10);
    $s->stop('KILL');
    $s->launch;
    wait_for(sub { $s->http(GET => '/kv/x', soft => 1)->{status} == 404 }, 10);
    @errors = KV::Load->verify($s, $ledger, \$found);
    is(scalar @errors, 0, 'nor after a restart')
        or diag(join "\n", splice @errors, 0, 10);

    $s->done;
}


# ---- a disk that the store's own log has filled

# What is alive is small, so a snapshot is all that it takes to go on; but no
# write requests one any more.

SKIP: {
    my $s = KV::Test->new(kv => 'segment=1m max_value=256k snapshot=4m');
    my $mnt = $s->mount(disk => 'size=20m')
        // skip('a full disk needs root, who may mount a tmpfs', 1);
    $s->{path} = "$mnt/data";
    $s->start;

    my $n = 0;
    my $put = sub { $n++;
        return $s->put('k' . $n % 5, value('k' . $n % 5, $n, 60_000))
                 ->{status} };

    $put->() for 1 .. 62;                 # nearly enough for a snapshot
    open my $ball, '>>', "$mnt/ballast" or die $!;
    binmode $ball;
    ok(wait_for(sub {
           my ($grown, @tmp) = (0, glob("$mnt/data/*.tmp"));
           $grown++ while syswrite $ball, 'x' x 4096;
           return $put->() == 507 && !$grown && !@tmp;
       }, 20, 0), 'the log has filled it');
    close $ball;
    is($s->http(GET => '/health')->{status}, 503, 'and /health says so');

    # as much as a snapshot and a segment take, and no more

    truncate "$mnt/ballast", (-s "$mnt/ballast") - (1800 << 10) or die $!;
    ok(wait_for(sub { $put->() == 200 }, 15), 'a little space is enough');
    my $taken = 0;
    wait_for(sub { $taken += $put->() == 200; $taken >= 150 }, 20, 0);
    is($taken, 150, 'to go on with, again and again');
    ok(wait_for(sub { $s->http(GET => '/health')->{status} == 200 }, 10),
       'and healthy');

    # no refused large write, followed by small ones, is news each time

    my $full = () = $s->log =~ /is full: writes are refused/g;
    cmp_ok($full, '<=', 20, 'said now and then');

    my @last = map { $s->get("k$_")->{body} } 0 .. 4;
    $s->stop('KILL');
    $s->start;
    is_deeply([ map { $s->get("k$_")->{body} } 0 .. 4 ], \@last,
              'all is there after a kill');
    $s->done;
}


# ---- a failing disk


for my $what (qw(fdatasync write)) {
    my $s = KV::Test->new(zone => '32m', fault => 1, @KV);
    my $unavailable = "store is unavailable\n";
    $s->expect_log(qr/Input\/output error/);
    $s->start;
    $s->put("k$_", value("k$_", $_, 5000)) for 1 .. 50;

    $s->fault($what => 1);

    # a batch of several

    my @c = map { $s->connect } 1 .. 10;
    $c[$_ - 1]->send(KV::Conn::request(PUT => "/kv/k$_", body => 'new'))
        for 1 .. 10;
    my @answers = map { $_->response } @c;
    is(scalar(grep { $_ && $_->{status} == 503
                     && $_->{body} eq $unavailable } @answers), 10,
       "$what fails: its batch gets 503");
    $s->fault($what => undef);

    # once is enough: it takes no more writes, even if the disk looks well

    for my $request ([ PUT => '/kv/k1', body => 'newer' ],
                     [ PUT => '/kv/fresh', body => 'newer' ],
                     [ PUT => '/kv/k1', chunks => [ 'newer' ] ],
                     [ DELETE => '/kv/k2' ], [ DELETE => '/kv/nothing' ],
                     [ DELETE => '/clear' ], [ GET => '/health' ])
    {
        my $name = "$what failed: @$request[0, 1]";
        my $r = $s->http(@$request);
        answer($r, 503, $unavailable, "$name is refused");
        like($r->{headers}{'retry-after'}, qr/^\d+$/, "$name: Retry-After");
    }

    is($s->http(HEAD => '/health')->{status}, 503,
       "$what failed: HEAD /health");
    is(scalar(wrong($s, 'k', 5000, 1 .. 50)), 0, "$what failed: reads go on");
    is($s->get('nothing')->{status}, 404, "$what failed: 404 as well");
    is($s->put('a~b', 'x')->{status}, 400, "$what failed: 400 goes first");
    is($s->put('k1', '')->{status}, 400, "$what failed: so does no value");
    is($s->http(POST => '/kv/k1')->{status}, 405, "$what failed: and 405");
    is($s->put('k1', 'x' x 300_000)->{status}, 413, "$what failed: and 413");
    isnt($s->store->{state}, 'ready', "$what failed: /stats says so");

    my $c = $s->connect;
    $c->send("PUT /kv/e HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
             . "Content-Length: 9\r\n\r\n");
    is($c->response->{status}, 503, "$what failed: known before the body");
    $_->close for $c, @c;

    # neither a new worker nor a reload believes the disk again

    ok(defined $s->reload, "$what failed: a reload");
    is($s->put('k1', 'x')->{status}, 503, "$what failed: still, after it");
    $s->expect_log(qr/exited on signal 9/);
    my ($pid) = $s->workers;
    kill('KILL', $pid);
    wait_for(sub { 2 == grep { $_ != $pid } $s->workers }, 20);
    is($s->put('k1', 'x')->{status}, 503,
       "$what failed: and with a new worker");
    is(scalar(wrong($s, 'k', 5000, 1 .. 50)), 0, "$what failed: reads go on");

    is($s->stop, 0, "$what failed: it stops");
    $s->start;
    is(scalar(wrong($s, 'k', 5000, 11 .. 50)), 0,
       "$what failed: after a restart all that was acknowledged is there");
    is(scalar(grep { my $b = $s->get("k$_")->{body};
                     $b ne 'new' && $b ne value("k$_", $_, 5000) } 1 .. 10), 0,
       "$what failed: what was not is old or new");
    is($s->store->{keys}, 50, "$what failed: and nothing else is");
    is($s->put('k1', 'x')->{status}, 200, "$what failed: writes work again");
    $s->done;
}

done_testing();
