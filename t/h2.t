# Values that leave over HTTP/2 while they are deleted, overwritten, or their
# zone is rebuilt: a client gets the value it asked for, or a part of it, and
# never a byte of another.  Frames are made by hand: no client does such things.

use strict;
use warnings;

use Compress::Raw::Zlib qw(WANT_GZIP);
use Test::More;

use KV::Frames;
use KV::Test;
use KV::Util qw(free_port);

KV::Test::with_failpoints();

# Filters that hold buffers back, or send others in between: a page of includes
# has the second one's while the first is being sent.  What slice cuts comes
# from a proxied location: it does nothing in one of ours.

my %filters = (sub => "sub_filter 'never there' 'x'; sub_filter_once off;
                       sub_filter_types text/plain; kv main;",
               addition => 'add_after_body /kv/after; addition_types *;
                            kv main;',
               slice => 'slice 3m; proxy_set_header Range $slice_range;
                         proxy_http_version 1.1; proxy_buffering off;
                         proxy_pass http://127.0.0.1:%%slow%%/kv/;');
my $built = qx(@{[ KV::Test::nginx() ]} -V 2>&1);
delete @filters{grep { $built !~ /http_${_}_module/ } keys %filters};
my $filtered = join '', map { "location /$_/ { $filters{$_} } " }
                            sort keys %filters;

my $s = KV::Test->new(zone => '24m', h2 => free_port(),
                      slow => free_port(), main =>
                      'error_log %%dir%%/info.log info;',
                      server => 'listen 127.0.0.1:%%slow%% sndbuf=32k;',
                      servers => 'server {
                          listen 127.0.0.1:%%h2%% http2 sndbuf=32k;
                          location /kv/ { kv main; }
                          location /ssi/ { ssi on; ssi_types *; kv main; }
                          location /gz/ { gzip on; gzip_types text/plain;
                                          gzip_comp_level 1; kv main; }
                          ' . $filtered . '
                      }');
plan(skip_all => 'this nginx does not speak HTTP/2')
    if $built !~ /http_v2_module/;

$ENV{KV_FAILPOINT_DIR} = $s->{dir};
$s->expect_log(qr/worker process \d+ exited on signal 9/);
$s->start;

my $LEN = 4 << 20;
my $FRAME = 8192;               # http2_chunk_size, by default
my $value = noise($LEN);

my $others = 'other bytes ' x (1 << 16);


# Bytes that gzip cannot make fewer.

sub noise {
    my ($len) = @_;
    return join('', map { pack('N*', map { int rand 2 ** 32 } 1 .. 4096) }
                    1 .. $len / 16_384);
}


# Whether what a reader got is no part of the value, or of what is in a page.

sub foreign {
    my ($reader) = @_;
    my $got = $reader->{got};
    my $all = $reader->{page} ? $value x 2 : $value;

    if ($reader->{gzip}) {
        my $z = Compress::Raw::Zlib::Inflate->new(-WindowBits => WANT_GZIP);
        my ($in, $out) = ($got, '');
        $z->inflate($in, $out);
        $got = $out;
    }

    return length $got < 10_000 || $got ne substr($all, 0, length $got);
}


sub count_log {
    my ($re) = @_;
    return scalar(() = read_file("$s->{dir}/info.log") =~ /$re/g);
}


# A client that has asked for the value, has read its header and a little of
# it, and then leaves the server with a full socket, in the middle of a frame.

sub reader {
    my ($path, $rcvbuf) = @_;
    my $c = KV::Frames->new(port => $s->{h2}, rcvbuf => $rcvbuf || 4096);
    my $got = '';

    $c->request(1, GET => $path, 'accept-encoding' => 'gzip');
    $c->read_until(sub {
        my ($f) = @_;
        $got .= $f->{payload} if $f->{type} == KV::Frames::DATA;
        return length $got > 20_000;
    });

    return { c => $c, got => $got, gzip => scalar($path =~ m{gz}),
             page => scalar($path =~ m{page}) };
}


# All that comes until the connection ends or it has come to rest: an answer to
# a PING, behind all that was queued.

sub rest {
    my ($reader) = @_;
    my $c = $reader->{c};
    my $settings;

    $c->frame(KV::Frames::PING, 0, 0, 'the end!');
    $c->read_until(sub {
        my ($f) = @_;
        $reader->{got} .= $f->{payload} if $f->{type} == KV::Frames::DATA;
        return $f->{type} == KV::Frames::PING;
    });

    # part of a frame, if the connection ended within one

    $reader->{got} .= substr($c->{in}, 9)
        if length $c->{in} > 9 && unpack('x3C', $c->{in}) == KV::Frames::DATA;
    return $reader->{got};
}


# All that comes until the stream ends.

sub read_on {
    my ($reader) = @_;

    $reader->{c}->read_until(sub {
        my ($f) = @_;
        my $data = $f->{type} == KV::Frames::DATA;
        $reader->{got} .= $f->{payload} if $data;
        return $f->{type} == KV::Frames::RST_STREAM
               || $data && $f->{flags} & KV::Frames::END_STREAM;
    });
}


# The value, and what else a path needs.

sub store {
    my ($path) = @_;
    my $page = '<!--#include virtual="/kv/big" -->' x 2;
    my @bad = grep { $_->{status} != 200 } $s->put('big', $value),
              $s->put('after', 'the end'), $s->put('page', $page);
    is(scalar @bad, 0, "$path: PUT");
}


# What the zone has free is filled with others' bytes, or a part of it.

sub overwrite {
    my ($most) = @_;
    my $n = 0;
    $n++ while $n < ($most || 100)
               && $s->put("other$n", $others)->{status} == 200;
    return $n;
}


for my $path ('/kv/big', '/gz/big', '/ssi/page',
              map { "/$_/big" } sort keys %filters)
{
    store($path);

    my @readers = map { reader($path) } 1 .. 8;
    my $before = count_log(qr/client canceled stream/);
    $_->{c}->reset_stream(1) for @readers;
    ok(wait_for(sub {
           count_log(qr/client canceled stream/) == $before + @readers
       }, 10), "$path: the server has seen every RST_STREAM");

    is($s->del('big')->{status}, 200, "$path: DELETE");
    cmp_ok(overwrite(), '>', 10, "$path: others take the memory");

    rest($_) for @readers;
    is(scalar(grep { foreign($_) } @readers), 0,
       "$path: no client reads a byte of them");

    is($s->clear->{status}, 200, "$path: clear");
    is($s->put('big', $value)->{status}, 200, "$path: PUT");
    $_->{c}->close for @readers;
    ok(wait_for(sub { $s->clear; $s->used < (2 << 20) }, 10),
       "$path: once they are gone, the memory is free");
}


# Those who read on get what they asked for, though the key is gone: the whole
# page, and of what comes in slices the first, for which it was there.  The zone
# is not filled: they would be cut off.

for (['/ssi/page', 2 * $LEN], $filters{slice} ? ['/slice/big', 2 << 20] : ()) {
    my ($path, $least) = @$_;
    store($path);

    my @readers = map { reader($path, 65_536) } 1, 2;
    is($s->del('big')->{status}, 200, "$path, read on: DELETE");
    is(overwrite(18), 18, "$path, read on: others take memory");

    read_on($_) for @readers;
    is(scalar(grep { foreign($_) } @readers), 0,
       "$path, read on: not a byte of them");
    is(scalar(grep { length $_->{got} < $least } @readers), 0,
       "$path, read on: all of it");
    is($s->clear->{status}, 200, "$path, read on: clear");
}


# The zone is rebuilt under them: with a stream that goes on, and one that was
# reset and may have a frame under way.

for my $reset (0, 1) {
    my $what = $reset ? 'a stream that was reset' : 'a stream';

    is($s->put('big', $value)->{status}, 200, "rebuild, $what: PUT");

    my @readers = map { reader('/kv/big') } 1 .. 4;
    my $before = count_log(qr/client canceled stream/);

    if ($reset) {
        $_->{c}->reset_stream(1) for @readers;
        ok(wait_for(sub {
               count_log(qr/client canceled stream/) == $before + @readers
           }, 10), "rebuild, $what: it was seen");
    }

    my $rebuilds = $s->store->{recovery}{rebuilds};
    write_file("$s->{dir}/point.new", "LINKED 1\n");
    rename("$s->{dir}/point.new", "$s->{dir}/point") or die;

    ok(wait_for(sub {
           $s->put('a', 'b', soft => 1);
           my $st = eval { $s->store };
           $st && $st->{recovery}{rebuilds} > $rebuilds
               && $st->{state} eq 'ready';
       }, 20), "rebuild, $what: a worker died, the zone is rebuilt");

    is($s->del('big')->{status}, 200, "rebuild, $what: DELETE");
    cmp_ok(overwrite(), '>', 10, "rebuild, $what: others take the memory");

    rest($_) for @readers;
    is(scalar(grep { foreign($_) } @readers), 0,
       "rebuild, $what: no client reads a byte of them");

    # on a busy machine the frame may have left before, whole: then nothing
    # of the value is under way, and the connection goes on

    my @open = grep { !$_->{c}{eof} } @readers;
    @open = grep { length($_->{got}) % $FRAME } @open if $reset;
    is(scalar @open, 0, "rebuild, $what: the connections are ended");

    is($s->clear->{status}, 200, "rebuild, $what: clear");
}

$s->done;
done_testing();
