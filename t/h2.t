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

# Filters that hold buffers back, or send others in between.

my %filters = (sub => "sub_filter 'never there' 'x'; sub_filter_once off;
                       sub_filter_types text/plain;",
               addition => "add_after_body /kv/after; addition_types *;");
my $built = qx(@{[ KV::Test::nginx() ]} -V 2>&1);
delete @filters{grep { $built !~ /http_${_}_module/ } keys %filters};
my $filtered = join '', map { "location /$_/ { $filters{$_} kv main; } " }
                            sort keys %filters;

my $s = KV::Test->new(zone => '24m', h2 => free_port(), main =>
                      'error_log %%dir%%/info.log info;',
                      servers => 'server {
                          listen 127.0.0.1:%%h2%% http2 sndbuf=32k;
                          location /kv/ { kv main; }
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


# Whether what a reader got is a part of the value, and nothing else.

sub foreign {
    my ($reader) = @_;
    my $got = $reader->{got};

    if ($reader->{gzip}) {
        my $z = Compress::Raw::Zlib::Inflate->new(-WindowBits => WANT_GZIP);
        my ($in, $out) = ($got, '');
        $z->inflate($in, $out);
        $got = $out;
    }

    return length $got < 10_000 || $got ne substr($value, 0, length $got);
}


sub count_log {
    my ($re) = @_;
    return scalar(() = read_file("$s->{dir}/info.log") =~ /$re/g);
}


# A client that has asked for the value, has read its header and a little of
# it, and then leaves the server with a full socket, in the middle of a frame.

sub reader {
    my ($path) = @_;
    my $c = KV::Frames->new(port => $s->{h2}, rcvbuf => 4096);
    my $got = '';

    $c->request(1, GET => $path, 'accept-encoding' => 'gzip');
    $c->read_until(sub {
        my ($f) = @_;
        $got .= $f->{payload} if $f->{type} == KV::Frames::DATA;
        return length $got > 20_000;
    });

    return { c => $c, got => $got, gzip => scalar($path =~ m{gz}) };
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


# What the zone has free is filled with others' bytes.

sub overwrite {
    my $n = 0;
    $n++ while $s->put("other$n", $others)->{status} == 200 && $n < 100;
    return $n;
}


for my $path ('/kv/big', '/gz/big', map { "/$_/big" } sort keys %filters) {
    is($s->put('big', $value)->{status}, 200, "$path: PUT");
    is($s->put('after', 'the end')->{status}, 200, "$path: PUT what follows");

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
           $st && $st->{recovery}{rebuilds} > $rebuilds;
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
