# Values that leave over HTTP/3, whole and in part, while they are deleted,
# overwritten, or their zone is rebuilt: a client gets the value it asked for,
# or a part of it, and never a byte of another.

use strict;
use warnings;

use Compress::Raw::Zlib qw(WANT_GZIP);
use Test::More;

use KV::Http3;
use KV::Test;

plan(skip_all => 'this nginx does not speak HTTP/3')
    if qx(@{[ KV::Test::nginx() ]} -V 2>&1) !~ /http_v3_module/;
plan(skip_all => $_) for KV::Http3::missing();

KV::Test::with_failpoints();

# A reader that an overwrite leaves behind is cut off as soon as less than a
# quarter of the zone is free: they may keep next to nothing.

my $s = KV::Test->new(zone => '24m', kv => 'readers=64k max_value=4m feed=64k',
                      h3 => free_port(),
                      servers => 'server {
                          listen 127.0.0.1:%%h3%% quic reuseport;
                          ssl_certificate %%dir%%/cert.pem;
                          ssl_certificate_key %%dir%%/key.pem;
                          add_header X-Worker $pid;
                          keepalive_timeout 10m;
                          send_timeout 10m;
                          client_body_timeout 10m;
                          location /kv/ { kv main; }
                          location = /watch { kv_watch main; }
                          location /ssi/ { ssi on; ssi_types *; kv main; }
                          location /gz/ { gzip on; gzip_types text/plain;
                                          gzip_comp_level 1; kv main; }
                      }');
my $dir = $s->{dir};

plan(skip_all => 'openssl makes no certificate')
    if system('openssl req -x509 -newkey ec -pkeyopt '
              . 'ec_paramgen_curve:prime256v1 -nodes -days 2 '
              . "-subj /CN=localhost -keyout $dir/key.pem "
              . "-out $dir/cert.pem >/dev/null 2>&1") != 0;

$ENV{KV_FAILPOINT_DIR} = $dir;
$s->expect_log(qr/worker process \d+ exited on signal 9/);
$s->start;

my $h3 = KV::Http3->new($s->{h3});

my $watch = $h3->call(stream => 'watch', '/watch');
is($watch->{headers}{':status'}, 200, 'a stream of /watch')
    or diag($watch->{body});

my $LEN = 1 << 20;
my $value = noise($LEN);
my $others = 'other bytes ' x (1 << 16);


# Bytes that gzip cannot make fewer.

sub noise {
    my ($len) = @_;
    return join('', map { pack('N*', map { int rand 2 ** 32 } 1 .. 4096) }
                    1 .. $len / 16_384);
}


# A request on the connection of that name: "status end type length", and the
# body.

sub request {
    my ($name, $method, $path, $body, @length) = @_;

    write_file("$dir/sent", $body) if defined $body;
    my $r = $h3->call(request => $name, $method, $path,
                      defined $body ? "$dir/sent" : undef, "$dir/got",
                      @length);
    my $h = $r->{headers};
    return (join(' ', $h->{':status'}, $r->{end},
                 map { $h->{"content-$_"} // '-' } qw(type length)),
            read_file("$dir/got"));
}


# What a reader has got when its stream has ended, of the value's bytes alone,
# and how it ended.

sub read_on {
    my ($name) = @_;
    my $end = $h3->call(read => $name, "$dir/got")->{end};
    my $got = read_file("$dir/got");

    if ($name =~ m{gz}) {
        my $z = Compress::Raw::Zlib::Inflate->new(-WindowBits => WANT_GZIP);
        my $in = $got;
        $z->inflate($in, $got = '');
    }

    return ($got, $end);
}


# Whether that is no part of the value, or of the page of two.

sub foreign {
    my ($got) = @_;
    return length $got < 10_000 || $got ne substr($value x 2, 0, length $got);
}


sub open_readers {
    my ($path, @names) = @_;
    my @answers = map { $h3->call(open => $_, $path) } @names;
    is(scalar(grep { $_->{headers}{':status'} != 200 || $_->{got} > 40_000 }
              @answers), 0, "$path: they stop in the middle of the value");
}


sub store {
    my ($path) = @_;
    my $page = '<!--#include virtual="/kv/big" -->' x 2;
    my @bad = grep { $_->{status} != 200 } $s->put('big', $value),
              $s->put('small', 'a value'), $s->put('page', $page);
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


# Whether all of these readers' streams were ended, while others write.

sub cut_off {
    my (@names) = @_;
    return wait_for(sub {
        $s->put('tick', 'x');
        my $ends = $h3->call(ended => @names);
        return !grep { !defined } values %$ends;
    }, 30, 0.05);
}


# ---- whole values

for my $len (1, 1000, 16_384, 70_000, 1_000_000, 4 << 20) {
    my $body = substr(value('h', 1, $len), 0, $len);

    is_deeply([ request('plain', PUT => '/kv/h', $body) ],
              [ '200 whole text/plain 0', '' ], "PUT of $len");

    my ($line, $got) = request('plain', GET => '/kv/h');
    is($line, "200 whole text/plain $len", "GET of $len");
    ok($got eq $body, "$len: the value");
    ok($s->get('h')->{body} eq $body, "$len: the same over HTTP/1");

    ($line, $got) = request('plain', HEAD => '/kv/h');
    is("$line, " . length $got, "200 whole text/plain $len, 0",
       "HEAD of $len: no body");
}

for my $len (1, 70_000, 1_000_000) {
    my $body = substr(value('h', 2, $len), 0, $len);

    is_deeply([ request('plain', PUT => '/kv/h', $body, JSON::PP::false()) ],
              [ '200 whole text/plain 0', '' ], "PUT of $len, length unknown");
    ok($s->get('h')->{body} eq $body, "$len, length unknown: the value");
}

# an upload that its client gives up: nothing stays

write_file("$dir/sent", 'x' x 1_000_000);
$h3->call(begin => 'upload', '/kv/upload', 2_000_000, "$dir/sent");
ok(wait_for(sub { $s->store->{uploads}{bytes} > 0 }, 30), 'half of a PUT');
$h3->call(close => 'upload');
ok(wait_for(sub { $s->store->{uploads}{bytes} == 0 }, 30),
   'half of a PUT: the memory is freed');
is($s->get('upload')->{status}, 404, 'half of a PUT: nothing is stored');

for my $length (JSON::PP::true(), JSON::PP::false()) {
    is_deeply([ request('plain', PUT => '/kv/h', 'x' x ((4 << 20) + 1),
                        $length) ],
              [ '413 whole text/plain 16', "value too large\n" ],
              'too large, length ' . ($length ? 'known' : 'unknown'));
}

is_deeply([ request('plain', DELETE => '/kv/h') ],
          [ '200 whole text/plain 0', '' ], 'DELETE');
is_deeply([ request('plain', GET => '/kv/h') ],
          [ '404 whole text/plain 14', "key not found\n" ], 'no such key');


# ---- readers who give up, each in its own way, and others who are cut off

for my $path ('/kv/big', '/gz/big', '/ssi/page') {
    store($path);

    my @stopped = map { "$path, $_" } qw(stop reset);
    my @closed = map { "$path, closed $_" } 1, 2;
    my @slow = map { "$path, slow $_" } 1, 2;
    open_readers($path, @stopped, @closed, @slow);

    is($h3->call(stop => $stopped[0])->{end}, 'reset',
       "$path: the server has seen STOP_SENDING");
    is($h3->call(reset => $stopped[1])->{end}, 'reset',
       "$path: the server has seen RESET_STREAM");
    $h3->call(close => $_) for @closed;

    is($s->del('big')->{status}, 200, "$path: DELETE");
    cmp_ok(overwrite(), '>', 10, "$path: others take the memory");
    ok(cut_off(@slow), "$path: slow readers are cut off");

    # what is still sent on their streams comes before the answer

    is_deeply([ map { (request($_, GET => '/kv/small'))[1] } @stopped, @slow ],
              [ ('a value') x 4 ], "$path: their connections go on");
    is(scalar(grep { foreign((read_on($_))[0]) } @stopped, @slow), 0,
       "$path: no client reads a byte of them");

    ok(wait_for(sub {
           $s->put('tick', 'x');
           $s->store->{readers}{bytes} == 0;
       }, 30), "$path: nothing is kept for them");

    is($s->clear->{status}, 200, "$path: clear");
    $h3->call(close => $_) for @stopped, @slow;
}


# ---- readers who read on get all of it

for my $path ('/kv/big', '/gz/big', '/ssi/page') {
    store($path);

    my @readers = map { "$path, read on, $_" } 1, 2;
    open_readers($path, @readers);
    is($s->del('big')->{status}, 200, "$path, read on: DELETE");
    is(overwrite(16), 16, "$path, read on: others take memory");

    my @got = map { [ read_on($_) ] } @readers;
    is(scalar(grep { foreign($_->[0]) } @got), 0,
       "$path, read on: not a byte of them");
    is_deeply([ map { [ length $_->[0], $_->[1] ] } @got ],
              [ ([ $path eq '/ssi/page' ? 2 * $LEN : $LEN, 'whole' ]) x 2 ],
              "$path, read on: all of it");

    $h3->call(close => $_) for @readers;
    is($s->clear->{status}, 200, "$path, read on: clear");
}


# ---- the zone is rebuilt under them.  One of the two workers dies, and what it
# was sending with it: so there are readers until each worker has some.

{
    store('rebuild');

    my %readers;

    for my $name (map { "rebuild $_" } 1 .. 40) {
        my $r = $h3->call(open => $name, '/kv/big');
        push @{$readers{$r->{headers}{'x-worker'}}}, $name;
        last if 2 == grep { @$_ >= 2 } values %readers;
    }

    my $rebuilds = $s->store->{recovery}{rebuilds};
    write_file("$dir/point.new", "LINKED 1\n");
    rename("$dir/point.new", "$dir/point") or die;

    ok(wait_for(sub {
           $s->put('a', 'b', soft => 1);
           my $st = eval { $s->store };
           $st && $st->{recovery}{rebuilds} > $rebuilds
               && $st->{state} eq 'ready';
       }, 30), 'rebuild: a worker died, the zone is rebuilt');

    my @readers = map { @{$readers{$_} || []} } $s->workers;
    cmp_ok(scalar @readers, '>=', 2, 'rebuild: one lives, and has readers');

    is($s->del('big')->{status}, 200, 'rebuild: DELETE');
    is($s->put('tick', 'x')->{status}, 200, 'rebuild: PUT');
    cmp_ok(overwrite(), '>', 10, 'rebuild: others take the memory');

    my @got = map { [ read_on($_) ] } @readers;
    is(scalar(grep { foreign($_->[0]) } @got), 0,
       'rebuild: no client reads a byte of them');
    is(scalar(grep { $_->[1] ne 'reset' } @got), 0,
       'rebuild: the streams are ended');
    is(scalar(grep { (request($_, GET => '/kv/tick'))[1] ne 'x' } @readers), 0,
       'rebuild: the connections go on');
}

$s->done;
done_testing();
