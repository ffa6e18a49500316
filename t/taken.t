# DELETE with Prefer: return=representation: the value that it deletes comes
# back, to one client, whole, whatever others write meanwhile, and while workers
# die, the server is reloaded, or the zone is rebuilt.

# long

use strict;
use warnings;

use List::Util qw(shuffle sum);
use Socket qw(AF_INET SOCK_STREAM SOL_SOCKET SO_RCVBUF inet_aton
              pack_sockaddr_in);
use Test::More;
use Time::HiRes qw(sleep time);

use KV::Frames;
use KV::Load;
use KV::Test;
use KV::Util qw(check_value free_port value);

KV::Test::with_failpoints() if ($ENV{KV_MODULE} // 'none') ne '';

my $PREFER = 'Prefer: return=representation';
my $APPLIED = 'return=representation';
my $LEN = 4 << 20;

my $h2 = qx(@{[ KV::Test::nginx() ]} -V 2>&1) =~ /http_v2_module/;
my $s = KV::Test->new(zone => '32m', h2 => free_port(), slow => free_port(),
                      main => 'error_log %%dir%%/info.log info;',
                      kv => 'segment=16m',
                      server => 'listen 127.0.0.1:%%slow%% sndbuf=32k;
                                 location /gz/ { gzip on; gzip_types text/plain;
                                                 gzip_min_length 1; kv main; }',
                      servers => $h2 ? 'server {
                          listen 127.0.0.1:%%h2%% http2 sndbuf=32k;
                          location /kv/ { kv main; }
                      }' : '');
$ENV{KV_FAILPOINT_DIR} = $s->{dir};
$s->expect_log(qr/worker process \d+ exited on signal 9/);
$s->start;

sub tag { $_[0]{headers}{etag} // 'none' }

sub take {
    my ($key, @headers) = @_;
    return $s->http(DELETE => "/kv/$key", headers => [ $PREFER, @headers ]);
}

sub rebuilds { return eval { $s->store->{recovery}{rebuilds} } // 0 }


# what comes back

for my $len (1, 20, 8191, 8192, 8193, 65_535, 65_536, 65_537, 1_000_000,
             10 << 20)
{
    my $value = substr value("k$len", 1, $len), 0, $len;
    my $tag = tag($s->put("k$len", $value));
    my $r = take("k$len");

    is($r->{status}, 200, "$len: 200");
    ok($r->{body} eq $value, "$len: the value");
    is(tag($r), $tag, "$len: its version");
    is($r->{headers}{'preference-applied'}, $APPLIED, "$len: applied");
    is($r->{headers}{'content-length'}, $len, "$len: length");
    is($r->{headers}{'content-type'}, 'text/plain', "$len: type");
    is($r->{headers}{'x-content-type-options'}, 'nosniff', "$len: nosniff");
    is($s->get("k$len")->{status}, 404, "$len: it is gone");

    $r = take("k$len");
    is("$r->{status} $r->{body}" . tag($r), "404 key not found\nnone",
       "$len: once");
    is($r->{headers}{'preference-applied'}, undef, "$len: nothing applied");
}

is($s->del('k1')->{status}, 200, 'without Prefer a missing key is a 200');


# who prefers what

sub prefers {
    my (@headers) = @_;
    $s->put('p', 'value');
    my $r = $s->http(DELETE => '/kv/p', headers => [ @headers ]);
    my $gone = $s->get('p')->{status};
    return $r->{status} == 200 && $gone == 404 ? $r->{body} : 'not deleted';
}

is(prefers("Prefer: $_"), 'value', "Prefer: $_")
    for 'return=representation', 'Return=Representation',
        'return="representation"', 'return = representation',
        'respond-async, return=representation', 'wait=10,return=representation',
        'x="a, b", return=representation', ',, return=representation',
        'return=representation; x=y', 'a;b="c,d";e=f , return=representation',
        'return=representation, return=minimal',
        'x="\\",", return=representation';

is(prefers("Prefer: $_"), '', "Prefer: $_")
    for '', 'return', 'return=', 'return=minimal', 'representation',
        'return=minimal, return=representation', 'x; return=representation',
        'x="return=representation"', 'x="a, return=representation',
        'return=representations', 'xreturn=representation', 'return="', '"',
        '=', 'return=representation-x', '"return"=x', 'return;=representation',
        'return==representation', 'x="\\", return=representation';

is(prefers('Prefer: respond-async', $PREFER), 'value', 'the second header');
is(prefers('Prefer: return=minimal', $PREFER), '', 'the first one counts');
is(prefers('X-Prefer: return=representation'), '', 'another header');

$s->put('g', 'value');
for my $method (qw(GET HEAD PUT)) {
    my $r = $s->http($method => '/kv/g', headers => [ $PREFER ],
                     $method eq 'PUT' ? (body => 'value') : ());
    is("$r->{status} $r->{body}", $method eq 'GET' ? '200 value' : '200 ',
       "$method does not mind");
    is($r->{headers}{'preference-applied'}, undef, "$method: not applied");
}

is($s->http(DELETE => '/clear', headers => [ $PREFER ])->{body}, '',
   'nor does a clear');


# conditions, ranges, filters, connections

my $tag = tag($s->put('c', 'value'));
is(take('c', 'If-Match: "x"')->{status}, 412, 'a false condition');
is($s->get('c')->{body}, 'value', 'deletes nothing');
is(take('c', "If-Match: $tag")->{body}, 'value', 'a true one');
is(take('c', 'If-Match: *')->{status}, 412, 'nothing to match');
is(take('c', 'If-None-Match: *')->{status}, 404, 'nothing to return');

$s->put('r', 'value');
my $r = take('r', 'Range: bytes=1-2');
is("$r->{status} $r->{body}", '200 value', 'there are no ranges of it');

for my $len (1000, 100_000) {
    $s->put('z', 'z' x $len);
    $r = $s->http(DELETE => '/gz/z', headers => [ $PREFER,
                                                  'Accept-Encoding: gzip' ]);
    is($r->{headers}{'content-encoding'}, 'gzip', "$len: gzip");
    cmp_ok(length $r->{body}, '<', $len / 2, "$len: makes it small");
    is($s->get('z')->{status}, 404, "$len: it is gone");
}

{
    my $c = $s->connect;
    my @keys = map { "row$_" } 1 .. 30;
    $s->put($_, value($_, 1, /0$/ ? 100_000 : 100)) for @keys;
    $c->send(join '', map { KV::Conn::request(DELETE => "/kv/$_",
                                              headers => [ $PREFER ]) } @keys);
    is(scalar(grep { check_value($_, $c->response('DELETE')->{body}) } @keys),
       30, 'many in a row');

    $s->put('e', 'value');
    $c = $s->connect;
    $c->send("DELETE /kv/e HTTP/1.1\r\nHost: x\r\n$PREFER\r\n"
             . "Content-Length: 3\r\n\r\nabc"
             . "GET /kv/e HTTP/1.1\r\nHost: x\r\n\r\n");
    is($c->response('DELETE')->{body}, 'value', 'with a body');
    is($c->response('GET')->{status}, 404, 'the next request is found');

    $s->put('e', 'value');
    $c = $s->connect;
    $c->send("DELETE /kv/e HTTP/1.0\r\n$PREFER\r\n\r\n");
    is($c->response('DELETE')->{body}, 'value', 'HTTP/1.0');
}

$s->clear;
my $empty = $s->used;


# ---- slow readers: what they have taken stays whole


my $value = value('big', 1, $LEN);
my $others = 'other bytes ' x (1 << 16);

sub overwrite {
    my ($most) = @_;
    my $n = 0;
    $n++ while $n < ($most || 100)
               && $s->put("other$n", $others)->{status} == 200;
    return $n;
}

# A client that has taken the value, has read a little of it, and then leaves
# the server with a full socket.

sub slow_http1 {
    my ($key) = @_;
    socket(my $sock, AF_INET, SOCK_STREAM, 0) or die "socket: $!";
    setsockopt($sock, SOL_SOCKET, SO_RCVBUF, 4096);
    connect($sock, pack_sockaddr_in($s->{slow}, inet_aton('127.0.0.1')))
        or die "connect: $!";
    syswrite($sock, KV::Conn::request(DELETE => "/kv/$key",
                                      headers => [ $PREFER ]));
    my $in = '';
    sysread($sock, $in, 1, length $in) or die "no answer: $!"
        until $in =~ /\r\n\r\n/;
    return { sock => $sock, head => $in, got => '' };
}

sub slow_h2 {
    my ($key) = @_;
    my $c = KV::Frames->new(port => $s->{h2}, rcvbuf => 4096);
    my $got = '';

    $c->request(1, DELETE => "/kv/$key", prefer => 'return=representation');
    $c->read_until(sub {
        my ($f) = @_;
        $got .= $f->{payload} if $f->{type} == KV::Frames::DATA;
        return length $got > 20_000;
    });

    return { c => $c, got => $got };
}

# All that comes, until the value or the connection is at its end.

sub rest {
    my ($reader) = @_;
    my $c = $reader->{c};

    if (!$c) {
        1 while sysread($reader->{sock}, $reader->{got}, 262_144,
                        length $reader->{got})
                && length $reader->{got} < $LEN;
        return $reader->{got};
    }

    $c->read_until(sub {
        my ($f) = @_;
        my $data = $f->{type} == KV::Frames::DATA;
        $reader->{got} .= $f->{payload} if $data;
        return length $reader->{got} == $LEN
               || $f->{type} == KV::Frames::RST_STREAM;
    });
    $reader->{got} .= substr($c->{in}, 9)
        if length $c->{in} > 9 && unpack('x3C', $c->{in}) == KV::Frames::DATA;
    return $reader->{got};
}

sub whole { return $_[0]{got} eq $value }

# No byte that is not the value's.

sub foreign {
    my ($reader) = @_;
    my $got = $reader->{got};
    return $got ne substr $value, 0, length $got;
}

sub freed {
    my ($what) = @_;
    ok(wait_for(sub { $s->clear; $s->used <= $empty + (1 << 20) }, 10),
       "$what: the memory is free") or diag($s->used . ", empty $empty");
}

sub point {
    my ($point) = @_;
    write_file("$s->{dir}/point.new", "$point 1\n");
    rename("$s->{dir}/point.new", "$s->{dir}/point") or die;
    return wait_for(sub { $s->put('a', 'b', soft => 1);
                          !-e "$s->{dir}/point" && $s->healthy }, 20);
}

my %slow = (http1 => \&slow_http1, $h2 ? (h2 => \&slow_h2) : ());

for my $how (sort keys %slow) {

    # others write, and compaction moves what it can; then it is read on

    $s->put("big$_", $value) for 1 .. 2;
    my @readers = map { $slow{$how}->("big$_") } 1 .. 2;
    is($s->get("big$_")->{status}, 404, "$how: $_ is gone") for 1 .. 2;
    cmp_ok($s->store->{readers}{bytes}, '>=', 2 * $LEN, "$how: it is kept");
    is(overwrite(20), 20, "$how: others take memory");
    rest($_) for @readers;
    is(scalar(grep { !whole($_) } @readers), 0, "$how: the value is whole");
    undef @readers;
    freed($how);

    # the clients leave; what they left is free, and no byte is another's

    $s->put("big$_", $value) for 1 .. 2;
    @readers = map { $slow{$how}->("big$_") } 1 .. 2;
    undef @readers;
    freed("$how, left");

    # others need all the memory: slow readers are cut off

    $s->put("big$_", $value) for 1 .. 2;
    @readers = map { $slow{$how}->("big$_") } 1 .. 2;
    cmp_ok(overwrite(), '>', 25, "$how: others take all the memory");
    rest($_) for @readers;
    is(scalar(grep { foreign($_) } @readers), 0, "$how: not a byte of theirs");
    undef @readers;
    freed("$how, cut off");

    # reload: the old worker sends it to its end

    $s->put('big1', $value);
    @readers = $slow{$how}->('big1');
    my %old = map { $_ => 1 } $s->workers;
    kill('HUP', $s->{pid});
    ok(wait_for(sub { 2 == grep { !$old{$_} } $s->workers }, 10),
       "$how: a reload");
    overwrite(10);
    rest($readers[0]);
    ok(whole($readers[0]), "$how: a reload: the value is whole");
    undef @readers;
    freed("$how, reload");

    # a worker dies, or all do: what they were sending is free

    $s->put("big$_", $value) for 1 .. 2;
    @readers = map { $slow{$how}->("big$_") } 1 .. 2;
    my @workers = $s->workers;
    kill('KILL', @workers);
    ok($s->back(@workers), "$how: workers died");
    rest($_) for @readers;
    is(scalar(grep { foreign($_) } @readers), 0,
       "$how: workers died: not a byte of another");
    is($s->get("big$_")->{status}, 404, "$how: workers died: $_ is gone")
        for 1 .. 2;
    undef @readers;
    freed("$how, workers died");

    next if ($ENV{KV_MODULE} // 'none') eq '';

    # the zone is rebuilt under them

    $s->put("big$_", $value) for 1 .. 2;
    @readers = map { $slow{$how}->("big$_") } 1 .. 2;
    my $before = rebuilds();
    ok(point('LINKED'), "$how: a worker died in a change");
    ok(wait_for(sub { rebuilds() > $before }, 10), "$how: rebuilt");
    overwrite(10);
    rest($_) for @readers;
    is(scalar(grep { foreign($_) } @readers), 0,
       "$how: rebuilt: not a byte of another");
    undef @readers;
    freed("$how, rebuilt");
}


# A client that resets its stream: frames of the value may be under way still.

if ($h2) {
    my $canceled = sub {
        return scalar(() = read_file("$s->{dir}/info.log")
                           =~ /client canceled stream/g);
    };

    $s->put("big$_", $value) for 1 .. 4;
    my @readers = map { slow_h2("big$_") } 1 .. 4;
    my $before = $canceled->();
    $_->{c}->reset_stream(1) for @readers;
    ok(wait_for(sub { $canceled->() == $before + 4 }, 10),
       'reset: the server has seen it');
    cmp_ok(overwrite(), '>', 10, 'reset: others take the memory');

    for my $reader (@readers) {
        my $c = $reader->{c};
        $c->frame(KV::Frames::PING, 0, 0, 'the end!');
        $c->read_until(sub {
            my ($f) = @_;
            $reader->{got} .= $f->{payload} if $f->{type} == KV::Frames::DATA;
            return $f->{type} == KV::Frames::PING;
        });
    }

    is(scalar(grep { foreign($_) } @readers), 0, 'reset: not a byte of them');
    $_->{c}->close for @readers;
    freed('reset');
}

$s->done;


# ---- what is not durable is not told, and one client gets it


$s = KV::Test->new(fault => 1);
$s->start;

for my $len (100, 100_000) {
    my $value = value('race', 1, $len);
    $s->put('race', $value);
    $s->fault(hold => 1);
    my $first = $s->written(PUT => '/kv/first', body => 'x');

    my @c = map { my $c = $s->connect;
                  $c->send(KV::Conn::request(DELETE => '/kv/race',
                                             headers => [ $PREFER ]));
                  $c } 1 .. 20;
    $s->has_read;
    ok($_->silent(0), "$len: it waits") for @c[0 .. 3];
    ok($s->get('race')->{body} eq $value, "$len: the value is there");
    $s->fault(hold => undef);

    my @r = map { $_->response('DELETE') } @c;
    is(join(' ', sort map { $_->{status} } @r), "200@{[ ' 404' x 19 ]}",
       "$len: one of 20 gets it");
    my ($winner) = grep { $_->{status} == 200 } @r;
    ok($winner->{body} eq $value, "$len: whole");

    # clients that leave before the answer

    $s->clear;
    my $used = $s->used;
    $s->put("left$_", $value) for 1 .. 5;
    $s->fault(hold => 1);
    $first = $s->written(PUT => '/kv/first', body => 'x');
    @c = map { my $c = $s->connect;
               $c->send(KV::Conn::request(DELETE => "/kv/left$_",
                                          headers => [ $PREFER ]));
               $c } 1 .. 5;
    $s->has_read;
    $_->close for @c;
    $s->fault(hold => undef);
    ok(wait_for(sub { 0 == grep { $s->get("left$_")->{status} != 404 } 1 .. 5 },
                10), "$len: a client that leaves has deleted it");
    ok(wait_for(sub { $s->clear; $s->used <= $used + 20_000 }, 10),
       "$len: and nothing is kept") or diag($s->used . ", $used");
}

$s->done;


# ---- a full zone is emptied


$s = KV::Test->new(zone => '8m', kv => 'segment=4m max_value=1m sync=off');
$s->start;

for my $len (8000, 900) {
    my ($n, @errors) = (0);
    $n++ while $s->put("full$n", value("full$n", 1, $len))->{status} == 200;
    my @keys = shuffle(map { "full$_" } 0 .. $n - 1);

    KV::Load::run(port => $s->{port}, connections => 64,
        next => sub {
            my $key = shift @keys // return;
            return { method => 'DELETE', path => "/kv/$key", key => $key,
                     headers => [ $PREFER ] };
        },
        done => sub {
            my (undef, $req, $res, $error) = @_;
            my $status = $res ? $res->{status} : $error;
            push @errors, "$req->{key}: $status"
                if $status ne '200' || !check_value($req->{key}, $res->{body});
        });

    is(scalar @errors, 0, "$n values of $len: a full zone is emptied")
        or diag(join "\n", splice @errors, 0, 5);
    is($s->store->{keys}, 0, "$len: wholly");
}

$s->done;


# ---- a queue: clients put values and take them, and workers die


my $PROCESSES = 4;
my $CLIENTS = 8;
my $KEYS = 12;
my $DEATHS = 20;

$s = KV::Test->in_memory(workers => 2, zone => '32m', fault => 1,
                         kv => 'segment=16m');
$s->expect_log(qr/worker process \d+ exited on signal 9/);
$s->start;


# What a client puts where nothing is has a number of its own.

sub clients {
    my ($number) = @_;

    return KV::Load->fork(sub {
        my ($stop, $parent) = @_;
        my (%put, %taken, @errors, %wait, %unknown);
        my $seq = 0;

        my $next = sub {
            my ($n) = @_;
            return if $$stop;
            my $wait = delete $wait{$n};
            return $wait if $wait;
            my $key = 'q' . int rand $KEYS;

            return { method => 'DELETE', path => "/kv/$key", key => $key,
                     headers => [ $PREFER ] } if rand() < 0.5;

            my $id = $number * 1e7 + ++$seq;
            return { method => 'PUT', path => "/kv/$key", id => $id,
                     key => $key, headers => [ 'If-None-Match: *' ],
                     body => value($key, $id, rand() < 0.8 ? 100 : 50_000) };
        };

        my $done = sub {
            my ($n, $req, $res, $error) = @_;
            my $status = $res ? $res->{status} : $error;
            my $id = $req->{id};

            if ($status eq '200' && $id) {
                $put{$id} = 'acked';

            } elsif ($status eq '200') {
                $id = check_value($req->{key}, $res->{body});
                push @errors, "$req->{key}: torn" if !defined $id;
                $taken{$id // 0}++;

            } elsif ($status =~ /^(?:503|dropped)$/) {
                $put{$id} = 'maybe' if $id;
                $unknown{$req->{key}}++ if !$id;
                $wait{$n} = 0.02;

            } elsif ($status eq 'refused') {
                $wait{$n} = 0.02;

            } elsif ($status ne ($id ? '412' : '404')) {
                push @errors, "$req->{method} $req->{key}: $status";
            }
        };

        KV::Load::run(port => $s->{port}, connections => $CLIENTS,
                      next => $next, done => $done,
                      tick => sub { $$stop = 1 if getppid != $parent });

        return { errors => \@errors, put => \%put, taken => \%taken,
                 unknown => sum(0, values %unknown) };
    });
}


my @clients = map { clients($_) } 1 .. $PROCESSES;
my $begun = time;
my @bad;

for (1 .. $DEATHS) {
    sleep(0.15);
    $s->some_die or push @bad, $_;
}

# until there were many

my $takes = sub { $s->stats->{routes}{kv}{DELETE}{status}{200} // 0 };
wait_for(sub { $takes->() > 1200 }, 30, 0.2);

my @results = map { $_->stop } @clients;
my @errors = map { @{$_->{errors}} } @results;
is("@bad", '', 'the service comes back each time');

$s->stop('KILL');
$s->start;

my %put = map { %{$_->{put} || {}} } @results;
my (%taken, %left);
for my $result (@results) {
    $taken{$_} += $result->{taken}{$_} for keys %{$result->{taken} || {}};
}
for my $key (map { "q$_" } 0 .. $KEYS - 1) {
    my $r = $s->get($key);
    next if $r->{status} == 404;
    my $id = check_value($key, $r->{body});
    push @errors, "$key: torn in the end" if !defined $id;
    $left{$id // 0} = 1;
}

my $unknown = sum map { $_->{unknown} // 0 } @results;
my @lost = grep { $put{$_} eq 'acked' && !$taken{$_} && !$left{$_} } keys %put;

push @errors, map { "$_ was taken $taken{$_} times" }
              grep { $taken{$_} > 1 } keys %taken;
push @errors, map { "$_ was taken and is there" }
              grep { $left{$_} } keys %taken;
push @errors, map { "$_ was never put" }
              grep { !$put{$_} } keys %taken, keys %left;
push @errors, @lost . " are lost, with $unknown takes without an answer"
    if @lost > $unknown;
is(scalar @errors, 0, 'each value is taken once, or is there')
    or diag(join "\n", splice @errors, 0, 10);
cmp_ok(scalar keys %taken, '>', 1000, 'many were taken');
cmp_ok($unknown, '>', 2, 'and workers died with some');
note(sprintf '%.1f s: %d put, %d taken, %d there, %d lost, %d takes without an '
     . 'answer', time - $begun, scalar(grep { $put{$_} eq 'acked' } keys %put),
     scalar keys %taken, scalar keys %left, scalar @lost, $unknown);

$s->done;
done_testing();
