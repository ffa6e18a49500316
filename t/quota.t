# Clients that declare, drip or read slowly: what they hold is what they have
# paid for, and no set of them makes a well-behaved write fail.

# long

use strict;
use warnings;

use POSIX ();
use Socket qw(AF_INET SOCK_STREAM SOL_SOCKET SO_RCVBUF inet_aton
              pack_sockaddr_in);
use Test::More;
use Time::HiRes qw(sleep time);

use KV::Frames;
use KV::Test;

my $MB = 1 << 20;


sub server {
    my ($kv, %o) = @_;
    my $h2 = qx(@{[ KV::Test->nginx ]} -V 2>&1) =~ /http_v2_module/;
    return KV::Test->new(zone => '32m', h2 => free_port(), has_h2 => $h2,
        slow => free_port(),
        kv => "segment=12m max_value=10m sync=off snapshot=1000m $kv",
        servers => $h2 ? 'server {
            listen 127.0.0.1:%%h2%% http2;
            http2_max_concurrent_streams 256;
            location /kv/ { kv main; } }' : '',
        http => 'server { listen 127.0.0.1:%%slow%% sndbuf=32k;
                          location /kv/ { kv main; } }',
        %o)->start;
}

# Whether they hold no more than their share, or the zone can spare it.

sub spared {
    my ($s, $who) = @_;
    my $store = $s->store;
    return $store->{$who}{bytes} <= $store->{$who}{limit}
           || $store->{zone}{used} <= $store->{zone}{size} * 0.76;
}

sub held { my ($s, $who) = @_; return $s->store->{$who}{bytes} }

# Live data up to this share of the zone: big values, so that what is left is
# whole pages.

sub live {
    my ($s, $share, $len) = @_;
    my $store = $s->store->{zone};
    my ($n, $c) = (0, $s->connect);
    while (($s->used) < $share * $store->{size}) {
        for (1 .. int($MB / $len) || 1) {
            $n++;
            $c->send(KV::Conn::request(PUT => "/kv/live$n",
                                       body => value("live$n", $n, $len)));
            return $n if $c->response->{status} != 200;
        }
    }
    return $n;
}

# Well-behaved writes of all sizes and shapes: those that were not answered 200.
# Once more if the machine stood still meanwhile: then it was the client that
# did not send.

sub well_behaved {
    my ($s, $name, @len) = @_;
    my @bad;
    for my $len (@len) {
        for my $how ('body', 'chunks') {
            my $v = value("w$name", $len, $len);
            my $status;
            for (1 .. 4) {
                my $still = time - running;
                my $r = $s->http(PUT => "/kv/w$name", timeout => 20,
                                 $how eq 'body' ? (body => $v)
                                                : (chunks => [ $v ]));
                $status = $r->{status};
                last if $status == 200 || time - running - $still < 0.25;
            }
            push @bad, "$how of $len: $status" if $status != 200;
        }
    }
    return \@bad;
}

sub upload {
    my ($s, $n, $len, $first) = @_;
    my $c = $s->connect(soft => 1) or return;
    $c->send("PUT /kv/up$n HTTP/1.1\r\nHost: x\r\n"
             . (defined $len ? "Content-Length: $len"
                             : 'Transfer-Encoding: chunked')
             . "\r\n\r\n" . $first);
    return $c;
}

# Takes no more than its first bytes.

sub reader {
    my ($s, $path) = @_;
    socket(my $sock, AF_INET, SOCK_STREAM, 0) or die "socket: $!";
    setsockopt($sock, SOL_SOCKET, SO_RCVBUF, 4096);
    connect($sock, pack_sockaddr_in($s->{slow}, inet_aton('127.0.0.1')))
        or die "connect: $!";
    syswrite($sock, "GET $path HTTP/1.1\r\nHost: x\r\n\r\n");
    sysread($sock, my $first, 1) == 1 or die "no answer: $!";
    return $sock;
}

sub chunk {
    my ($bytes) = @_;
    return sprintf("%x\r\n%s\r\n", length $bytes, $bytes);
}


# ---- what is declared costs nothing

{
    my $s = server('');
    my $before = $s->used;

    my @c = map { upload($s, $_, 10 * $MB, '') } 1 .. 24;
    push @c, map { upload($s, $_, undef, '') } 25 .. 200;

    SKIP: {
        skip('no HTTP/2', 1) if !$s->{has_h2};
        my $h2 = KV::Frames->new(port => $s->{h2});
        $h2->headers(0, 2 * $_ - 1, PUT => "/kv/h$_",
                     'content-length' => 10 * $MB) for 1 .. 128;
        $h2->frame(KV::Frames::PING, 0, 0, 'x' x 8);
        ok($h2->read_until(sub { $_[0]{type} == KV::Frames::PING }),
           'declared: 128 streams');
        push @c, $h2;
    }

    cmp_ok($s->used - $before, '<=', 20_000, 'declared: hold nothing');
    is(held($s, 'uploads'), 0, 'declared: nor is anything counted');
    is_deeply(well_behaved($s, 'd', 100, 100_000, 10 * $MB), [],
              'declared: others write');

    # a byte of each, and a byte now and then

    for my $round (1 .. 3) {
        $_->isa('KV::Frames') || $_->send('x') for @c[0 .. 23];
    }
    ok(wait_for(sub { held($s, 'uploads') > 0 }, 10), 'declared: is counted');
    $s->has_read;
    cmp_ok(held($s, 'uploads'), '<', 24 * 1000, 'declared: a byte each');
    is_deeply(well_behaved($s, 'd', 100, 10 * $MB), [],
              'declared: and others write');

    $_->close for @c;
    ok(wait_for(sub { held($s, 'uploads') == 0 }, 10),
       'declared: over, nothing is counted');
    $s->done;
}


# ---- uploads that stop, over the share and in the way

for my $how ('a length', 'chunks') {
    my $s = server('uploads=8m');
    my $live = live($s, 0.6, 60_000);

    my $piece = 'x' x (2 * $MB);
    my @c = map { upload($s, $_, $how eq 'chunks' ? undef : 4 * $MB,
                         $how eq 'chunks' ? chunk($piece) : $piece) } 1 .. 3;
    ok(wait_for(sub { held($s, 'uploads') >= 3 * 2 * $MB }, 10),
       "$how: three uploads hold what came");
    cmp_ok(held($s, 'uploads'), '<', 3 * 2 * $MB + 400_000,
           "$how: and little more");

    # over the share: the worst are evicted, once they are a second old

    push @c, map { upload($s, $_, $how eq 'chunks' ? undef : 4 * $MB,
                          $how eq 'chunks' ? chunk($piece) : $piece) } 4 .. 5;
    ok(wait_for(sub { $s->store->{uploads}{evicted} }, 10),
       "$how: over their share some are told to go");
    ok(wait_for(sub { spared($s, 'uploads') }, 10), "$how: until it is kept");
    my $gone;
    wait_for(sub { ($gone) = grep { !$_->silent(0) } @c }, 10);
    my $r = $gone && $gone->response;
    is_deeply($r && [ $r->{status}, $r->{body}, $r->{headers}{connection} ],
              [ 408, "upload too slow\n", 'close' ], "$how: and answered so");

    # within the share, but in the way of a write

    is_deeply(well_behaved($s, 'u', 5 * $MB), [],
              "$how: they are in no other's way");

    $_->close for @c;
    ok(wait_for(sub { held($s, 'uploads') == 0 }, 10), "$how: all is free");
    is(scalar(grep { $s->get("live$_")->{body} ne value("live$_", $_, 60_000) }
              map { 1 + int rand $live } 1 .. 10), 0,
       "$how: others' are whole");
    $s->done;
}


# ---- slow readers of old versions

{
    my $s = server('');
    my @readers;

    for my $n (1 .. 40) {
        my $r = $s->put('hot', value('hot', $n, $MB), timeout => 20);
        is($r->{status}, 200, "readers: version $n") if $r->{status} != 200;

        push @readers, reader($s, '/kv/hot');
    }

    cmp_ok(held($s, 'readers'), '>', 0, 'readers: keep old versions');
    cmp_ok(held($s, 'readers'), '<=', 32 * $MB, 'readers: some');
    is_deeply(well_behaved($s, 'r', 5 * $MB, 9 * $MB), [],
              'readers: others write');
    live($s, 0.8, 60_000);
    ok(wait_for(sub { $s->put('tick', 'x'); spared($s, 'readers') }, 10),
       'readers: no more than their share');
    cmp_ok($s->store->{readers}{evicted}, '>', 0, 'readers: some were cut off');
    is($s->get('hot')->{body}, value('hot', 40, $MB), 'readers: the last one');

    close $_ for @readers;
    ok(wait_for(sub { $s->put('tick', 'x'); held($s, 'readers') == 0 }, 10),
       'readers: over, nothing is counted');
    $s->done;
}


# ---- the same over HTTP/2: what keeps a version is a window

SKIP: {
    my $s = server('');
    skip('no HTTP/2', 1) if !$s->{has_h2};
    my @readers;

    for my $n (1 .. 20) {
        $s->put('hot', value('hot', $n, $MB), timeout => 20);
        my $h2 = KV::Frames->new(port => $s->{h2}, window => 70_000);
        $h2->frame(KV::Frames::SETTINGS, 0, 0, pack('nN', 4, 100));
        $h2->request(1, GET => '/kv/hot');
        $h2->read_until(sub { $_[0]{type} == KV::Frames::DATA })
            or die "no answer\n";
        push @readers, $h2;
    }

    cmp_ok(held($s, 'readers'), '>', 0, 'streams: keep old versions');
    is_deeply(well_behaved($s, 's', 9 * $MB, 9 * $MB), [],
              'streams: others write');
    live($s, 0.8, 60_000);
    ok(wait_for(sub { $s->put('tick', 'x'); spared($s, 'readers') }, 10),
       'streams: no more than their share');
    ok(!defined eval { $readers[0]->read_until(sub { 0 }) } && !$@,
       'streams: the connection of the first is cut');

    $_->close for @readers;
    ok(wait_for(sub { $s->put('tick', 'x'); held($s, 'readers') == 0 }, 10),
       'streams: over, nothing is counted');
    $s->done;
}


# ---- values that are sent slowly: stored ones, but they cannot be moved

{
    my $s = server('', zone => '16m');
    my $n = live($s, 2, 60_000);
    my @readers = map { reader($s, "/kv/live$_") }
                  grep { $_ % 3 == 0 } 1 .. $n - 1;
    $s->del("live$_") for grep { $_ % 3 } 1 .. $n;

    is_deeply(well_behaved($s, 'l', 100, 10_000, 100_000, 3 * $MB), [],
              'live: others write');
    cmp_ok($s->store->{readers}{evicted}, '>', 0, 'live: some were cut off');
    close $_ for @readers;
    $s->done;
}


# ---- uploads that are slow, one or two, of an empty zone

{
    my $s = server('uploads=1m', zone => '16m');
    my @c = map { upload($s, $_, 5 * $MB, 'x' x (4 * $MB)) } 1 .. 2;
    ok(wait_for(sub { held($s, 'uploads') >= 8 * $MB }, 10),
       'empty: two uploads');
    sleep 1.2;
    is($s->put('other', 'x')->{status}, 200, 'empty: and a write');
    $_->send('x' x $MB) for @c;
    is_deeply([ map { $_->response->{status} } @c ], [ 200, 200 ],
              'empty: no client has to go');
    $s->done;
}


# ---- uploads that are sent fast, and given up, again and again

# `n` processes of clients; each client sends `bytes` of a value that is never
# complete, holds them for some seconds, and starts anew.

sub bursts {
    my ($s, $n, $bytes, $seconds) = @_;
    my @pids;
    for my $i (1 .. $n) {
        my $pid = fork // die "fork: $!";
        push @pids, $pid;
        next if $pid;
        for ( ;; ) {
            my $c = $s->connect(soft => 1) or POSIX::_exit(0);
            my $end = time + $seconds;
            $c->{sock}->blocking(0);
            my $out = "PUT /kv/burst$i HTTP/1.1\r\nHost: x\r\nContent-Length: "
                      . 2 * $bytes . "\r\n\r\n" . 'x' x $bytes;
            while ((my $left = $end - time) > 0) {
                my $n = length $out && $c->ready(1, $left)
                        && syswrite($c->{sock}, $out, 1 << 18);
                substr($out, 0, $n) = '' if $n;
                sleep($n ? 0 : 0.02);
            }
            $c->close;
        }
    }
    return @pids;
}

# A value at that many bytes a second; the answer's status.

sub steady {
    my ($s, $key, $len, $rate) = @_;
    my $c = $s->connect;
    my $began = time;
    my $step = int($rate / 20);
    $c->send("PUT /kv/$key HTTP/1.1\r\nHost: x\r\n"
             . "Content-Length: $len\r\n\r\n");
    for (my $at = 0; $at < $len && $c->silent(0); $at += $step) {
        $c->send('y' x ($len - $at < $step ? $len - $at : $step));
        my $early = $began + ($at + $step) / $rate - time;
        sleep($early) if $early > 0;
    }
    my $status = $c->response->{status};
    $s->del($key);
    return $status;
}

for my $case ([ 'bursts that are held', '64m', 8, 4_800_000, 1.5,
                [ 9 * $MB, 2 * $MB ] ],
              [ 'bursts of less than a second', '16m', 40, 900_000, 0.9,
                [ 2 * $MB, 50 * $MB ], [ 2 * $MB, 2 * $MB ] ]) {
    my ($name, $zone, $n, $bytes, $seconds, @honest) = @$case;
    my $s = server('', zone => $zone);
    live($s, 0.6, 60_000);

    my @pids = bursts($s, $n, $bytes, $seconds);
    ok(wait_for(sub { held($s, 'uploads') > $MB }, 10),
       "$name: they are there");

    # On a machine that is busy with other things an honest client may not keep
    # its pace: it may try four times.  Where bursts are not told from others,
    # one upload of seven went well, so that six of six are not to be expected.

    my (@got, @small);
    for my $round (1 .. 3) {
        for (@honest) {
            my ($status, $tries) = (0, 0);
            $status = steady($s, "honest$round", @$_)
                until $status == 200 || ++$tries > 4;
            push @got, $status;
        }
        push @small, $s->put('small', 'x' x 1000)->{status};
    }
    is_deeply([ grep { $_ != 200 } @got ], [],
              "$name: others' uploads go well");
    is_deeply([ grep { $_ != 200 } @small ], [], "$name: and small values");
    is($s->del('small')->{status}, 200, "$name: and deletes");

    kill 'KILL', @pids;
    waitpid($_, 0) for @pids;
    ok(wait_for(sub { held($s, 'uploads') == 0 }, 10), "$name: all is free");
    $s->done;
}


# ---- no client is to blame for what its worker, which is stopped, does not see

{
    my $s = server('', zone => '64m', workers => 2);
    live($s, 0.6, 60_000);

    my @pids = bursts($s, 8, 4_800_000, 1.5);
    ok(wait_for(sub { held($s, 'uploads') > $MB }, 10),
       'stopped: others hold memory');

    my $stopper = fork // die "fork: $!";
    if (!$stopper) {
        for my $worker (($s->workers) x 2) {
            sleep 0.4;
            kill 'STOP', $worker;
            sleep 0.9;
            kill 'CONT', $worker;
        }
        POSIX::_exit(0);
    }

    # 507 if it waits for what the other one, stopped as well, cannot free

    isnt(steady($s, 'honest', 9 * $MB, 2 * $MB), 408,
         'stopped: an upload to one of these workers is not too slow');
    waitpid($stopper, 0);

    kill 'KILL', @pids;
    waitpid($_, 0) for @pids;
    $s->done;
}


# ---- deletes always work

{
    my $s = server('', zone => '16m', workers => 1,
                   kv => 'segment=32m max_value=30m sync=off');
    my $n = live($s, 2, 60_000);
    my (@c, @bad);

    for my $i (1 .. 200) {
        push @c, upload($s, $i, undef, '');
        push @bad, $i if $s->del('nothing')->{status} != 200;
    }
    is_deeply(\@bad, [], 'deletes: beside uploads of which nothing came');

    push @c, map { upload($s, $_, undef, chunk('x')) } 201 .. 800;

    is($s->http(PUT => '/kv/more', body => 'x' x 60_000)->{status}, 507,
       'deletes: the zone is full');
    is($s->del('nothing')->{status}, 200, 'deletes: one of no key');
    is($s->del('k' x 2000)->{status}, 200, 'deletes: of a long one');

    my @d = map { my $c = $s->connect;
                  $c->send(KV::Conn::request(DELETE => "/kv/live$_")); $c }
            1 .. $n;
    is(scalar(grep { $_->response->{status} != 200 } @d), 0,
       'deletes: many at once');
    live($s, 2, 60_000);
    is($s->clear->{status}, 200, 'deletes: and a clear');
    is($s->store->{keys}, 0, 'deletes: of all');
    $_->close for @c;
    $s->done;
}


# ---- a zone that is full of holes: each way to write puts them together

my $holes = server('', zone => '16m', servers => 'server {
            listen 127.0.0.1:%%h2%%;
            client_body_buffer_size 4m; client_max_body_size 8m;
            location = /m {
                mirror /mm/x;
                proxy_pass http://127.0.0.1:%%port%%/health;
            }
            location /mm/ { internal; kv main; } }');

for my $how (qw(body chunks late mirror)) {
    my $s = $holes;
    $s->clear;
    my $n = live($s, 2, 3000);
    my $c = $s->connect;
    for (1 .. $n) {
        next if $_ % 4 == 0;
        $c->send(KV::Conn::request(DELETE => "/kv/live$_"));
        $c->response;
    }

    my $body = value('big', 1, 6 * $MB);
    my $r;

    if ($how eq 'mirror') {
        $body = value('big', 1, 3 * $MB);
        my $m = KV::Conn->new(port => $s->{h2});
        $m->send(KV::Conn::request(PUT => '/m', body => $body));
        $m->response;
        ok(wait_for(sub { $s->get('x')->{status} == 200 }, 20),
           'holes: what a mirror writes');
        is($s->get('x')->{body}, $body, 'holes: whole');
    } elsif ($how eq 'late') {

        # there is memory when the head comes, and none in the middle

        my @u = map { upload($s, "late$_", undef, chunk('x' x $MB)) } 1 .. 3;
        $r = $s->http(PUT => '/kv/big',
                      chunks => [ $body =~ /(.{1,60000})/gs ]);
        is($r->{status}, 200, "holes: $how");
        $_->close for @u;
    } else {
        $r = $s->http(PUT => '/kv/big',
                      $how eq 'body' ? (body => $body)
                                     : (chunks => [ $body ]));
        is($r->{status}, 200, "holes: $how");
        is($s->get('big')->{body}, $body, "holes: $how, whole");
    }
}

$holes->done;


# ---- a zone that is full is refused at once, however many come, and logged

{
    my $s = server('', zone => '16m');
    my $t = time;
    live($s, 2, 3000);
    my @c = map { my $c = $s->connect;
                  $c->send(KV::Conn::request(PUT => "/kv/n$_",
                                             body => 'x' x 100_000)); $c }
            1 .. 300;
    is(scalar(grep { $_->response->{status} != 507 } @c), 0,
       'full: 300 are refused');
    note(sprintf 'full: it takes %.1f s', time - $t);
    cmp_ok($s->store->{zone}{refused}, '>=', 300, 'full: and counted');
    my @said = $s->log =~ /\[warn\].*zone "main" is full: (.*)/g;
    cmp_ok(scalar @said, '<=', 1 + (time - $t) / 60, 'full: said once');
    is_deeply([ map { $s->store->{$_}{limit} > $MB } qw(uploads readers) ],
              [ 1, 1 ], 'full: there are limits');
    $s->{kv} .= ' uploads=5m readers=3m';
    ok(defined $s->reload, 'full: a reload with others');
    is_deeply([ map { $s->store->{$_}{limit} } qw(uploads readers) ],
              [ 5 * $MB, 3 * $MB ], 'full: which hold then');
    my ($data) = ($said[0] // '') =~
        /\d+ writes? w\w+ refused.*keys and values take (\d+) %/;
    my $is = $s->store;
    my $percent = 100 * $is->{bytes} / $is->{zone}{size};
    ok(defined $data && abs($data - $percent) < 2,
       'full: with the reason, and what the data takes without the rest')
        or diag("$said[0], but the data takes $percent %");
    $s->done;
}

# While the committer syncs, a worker has one request for memory under way, for
# all of its uploads.

{
    my $s = KV::Test->new(fault => 1, workers => 2, zone => '16m',
                          kv => 'segment=2m max_value=1m')->start;

    live($s, 2, 100_000);
    $s->del("live$_") for 2, 3;   # that it is full is not remembered
    my $asked = $s->store->{commit}{reserves};

    $s->fault(hold => 1);
    my $delete = $s->written(DELETE => '/kv/live1');
    my @c = map { my $c = $s->connect;
                  $c->send(KV::Conn::request(PUT => "/kv/n$_",
                                             body => 'x' x 600_000)); $c }
            1 .. 100;
    $s->healthy for 1 .. 8;
    $s->fault(hold => undef);

    is($delete->response('DELETE')->{status}, 200, 'asked: it answers');
    my %status;
    $status{$_->response('PUT', 20)->{status}}++ for @c;
    cmp_ok($status{507} // 0, '>=', 98, 'asked: uploads are refused');
    is(($status{507} // 0) + ($status{200} // 0), 100, 'asked: all answered');
    $asked = $s->store->{commit}{reserves} - $asked;
    note("asked: $asked times");
    cmp_ok($asked, '>', 0, 'asked: for memory');
    cmp_ok($asked, '<=', 40, 'asked: not for each upload');
    $s->done;
}


# Uploads wait for memory when nginx is stopped: each is answered.  None of them
# reads on with the memory that the one before gives back: it could take longer
# than the master waits, and no event loop would see its end.  The first one has
# its memory, and waits for its client.  Once more if a busy machine let the
# store refuse one before, or find it too slow.

for my $try (1 .. 4) {
    my $s = KV::Test->new(workers => 1, zone => '16m',
                          kv => 'segment=2m max_value=1m uploads=8m')->start;
    live($s, 2, 100_000);
    $s->del("live$_") for 2 .. 9;

    my @c = map { my $c = upload($s, $_, undef, chunk('x' x $_));
                  wait_for(sub { held($s, 'uploads') >= 500_000 }, 3);
                  $c } 500_000, 500_001, 300_000, 300_001;
    my $first = shift @c;
    my $last = 0;
    wait_for(sub { my $was = $last;
                   $last = held($s, 'uploads');
                   return $last > 800_000 && $last == $was }, 3, 0.05);
    my $early = grep { !$_->silent(0) } $first, @c;
    kill('TERM', -$s->{pgid});

    my %got;
    $got{(eval { $_->response('PUT', 20) } || { status => 'none' })->{status}}++
        for @c;
    my $status = $s->wait_exit;
    next if ($early || $got{408}) && $try < 4;

    is(join(' ', %got), '507 3', 'stopped: those that wait are answered');
    is($status, 0, 'stopped: with status 0');
    $s->done;
    last;
}

done_testing();
