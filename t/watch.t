# GET /watch: what a stream of changes has, where it goes on, and what ends it.

use strict;
use warnings;

use MIME::Base64 qw(decode_base64);
use Test::More;
use Time::HiRes qw(time sleep);

use KV::Frames;
use KV::Stream;
use KV::Test;

my $s = KV::Test->new(
    h2 => free_port(), slow_port => free_port(), kv => 'feed=1m list=on',
    http => 'limit_conn_zone $server_port zone=few:1m;
             large_client_header_buffers 4 32k;',
    servers => 'server { listen 127.0.0.1:%%h2%% http2;
                         location = /watch { kv_watch main; } }',
    server => 'listen 127.0.0.1:%%slow_port%% sndbuf=32k;
        location = /watch { kv_watch main; }
        location = /keys { kv_keys main; }
        location = /stuck { kv_watch main; send_timeout 1s; }
        location = /few { kv_watch main; limit_conn few 1;
                          limit_conn_status 429; }
        location ~ ^/of/(?<tenant>\w+)$ { kv_watch main prefix=$tenant: ; }
        location = /any { kv_watch main; kv_key_chars any; }
        location /bytes/ { kv main; kv_key_chars any; }
        location /typed/ { kv main; kv_types *; }
        location = /soon { kv_watch main; error_log %%dir%%/soon.log debug; }
        location = /denied { kv_watch main; deny all; }');

my @all;
sub watch { my $w = KV::Stream->new($s, @_); push @all, $w; return $w }

sub watching {
    my ($n) = @_;
    my $is;
    wait_for(sub { ($is = $s->store->{watching}) == $n }, 10);
    return $is;
}

sub version { my $v = $_[0]{headers}{etag} // ''; $v =~ s/"//g; return $v }

$s->start;


# what is refused

for my $case (
    [GET => '/watch?x=1', '400 unknown argument: there are prefix, key, after '
                          . "and values\n"],
    [GET => '/watch?prefix=a&prefix=b', "400 an argument is given twice\n"],
    [GET => '/watch?prefix=a&key=b', '400 prefix and key are given: a watch '
                                     . "takes one of them\n"],
    [GET => '/watch?key=', "400 key cannot be empty\n"],
    [GET => '/watch?key=a%20b', "400 key contains invalid characters\n"],
    [GET => '/watch?prefix=' . 'x' x 16385,
     "400 prefix or key is longer than a key\n"],
    [GET => '/watch?values=2', "400 invalid values: it is 0 or 1\n"],
    [GET => '/watch?after=x', "400 invalid after: it is a version\n"],
    [GET => '/watch?after=', "400 invalid after: it is a version\n"],
    [POST => '/watch', "405 method not allowed\n"],
    [GET => '/of/', '404'], [GET => '/denied', '403'])
{
    my ($method, $path, $expected) = @$case;
    my $r = $s->http($method => $path);
    my $is = length $expected > 3 ? "$r->{status} $r->{body}" : $r->{status};
    is($is, $expected, "$method " . substr $path, 0, 30);
}

is($s->http(GET => '/watch', body => 'x')->{body}, "a watch takes no body\n",
   'a body');
is(watch(id => 'x')->{r}{body}, "invalid Last-Event-ID: it is a version\n",
   'Last-Event-ID');

my $r = $s->http(HEAD => '/watch');
is("$r->{status} $r->{headers}{'content-type'}", '200 text/event-stream',
   'HEAD');
is(watching(0), 0, 'nothing is watched');


# events, of all workers, in their order; before the first write there is a
# version, too

my $list = $s->http(GET => '/keys');
my $early = watch(path => "/watch?after=$list->{headers}{'kv-version'}");
is($early->status, 200, 'a list of nothing, then a watch');

my @w = map { watch() } 1 .. 8;
is($w[0]{r}{headers}{'content-type'}, 'text/event-stream', 'its type');
like($w[0]{r}{headers}{'cache-control'}, qr/no-cache/, 'is not cached');
is(watching(9), 9, 'they are counted');

my $first = version($s->put('a', 'one'));
$s->put('b:1', 'two');
$s->del('a');
$s->del('none');
$s->http(POST => '/kv/n?incr=5');
$s->http(POST => '/kv/n?ttl=100');
$s->http(POST => '/batch', body => qq({"key":"b:2","value":"x"}\n)
                                   . qq({"key":"c","value":"y"}\n));
$s->put('brief?ttl=1', 'x');
my $all = 'put a, put b:1, delete a, delete none, put n, put b:2, put c, '
          . 'put brief, expire brief';
is($_->take(9), $all, 'all events') for $early, @w;
$s->clear;
is($_->take(1), 'clear', 'a clear') for $early, @w;


# where it goes on: each once

my $w = watch(id => $first);
is($w->take(9), 'put b:1, delete a, delete none, put n, put b:2, put c, '
                . 'put brief, expire brief, clear', 'behind an id');
is(watch(path => "/watch?after=$first", id => $early->{id})->next(0), undef,
   'the id of the header counts');
is(watch(path => "/watch?after=$first", id => '')->take(1), 'put b:1',
   'unless it is empty');

my ($lsn, $incarnation) = split /-/, $first;
is($early->{id} =~ s/.*-//r, $incarnation, 'ids are versions');
for my $gone (['of another time', "$lsn-1"],
              ['not yet given', "ffff-$incarnation"]) {
    my $x = watch(id => $gone->[1]);
    is($x->status, 410, "a version $gone->[0]");
    like($x->{r}{body}, qr/^this version was lost, .*\n\z/, 'and why');
}


# what is watched

my $prefix = watch(path => '/watch?prefix=b:');
my $key = watch(path => '/watch?key=b:1');
my $tenant = watch(path => '/of/b');
my $part = watch(path => '/of/b?prefix=1');
$s->put($_, 'x') for qw(a b b: b:1 b:11 b:2 c);
is($prefix->take(4), 'put b:, put b:1, put b:11, put b:2', 'a prefix');
is($tenant->take(3), 'put 1, put 11, put 2', 'a tenant');
is($part->take(2), 'put 1, put 11', 'a prefix of a tenant');
is($key->take(1), 'put b:1', 'a key');
$s->del('b:1');
is($key->take(1), 'delete b:1', 'and no other');


# values

$w = watch(path => '/watch?values=1&prefix=v');
my $bare = watch(path => '/watch?prefix=v');
my %values = (v1 => "text \"\n\xc3\xa4", v2 => "\xff\x00\x01",
              v3 => 'x' x 65536, v4 => 'x' x 65537);
$s->put($_, $values{$_}) for sort keys %values;
for my $k (sort keys %values) {
    my $e = $w->next;
    utf8::encode($e->{value}) if defined $e->{value};
    my $value = $e->{value} // decode_base64($e->{base64} // '');
    is("$e->{key} " . length $value,
       "$k " . ($k eq 'v4' ? 0 : length $values{$k}), "$k: its value");
    ok($value eq $values{$k}, "$k: as it was") if $k ne 'v4';
    ok(!exists $bare->next->{value}, "$k: not if it is not asked for");
}

$s->http(PUT => '/typed/v5', headers => ['Content-Type: text/css'],
         body => 'x');
is($w->next->{type}, 'text/css', 'with its type');

my $any = watch(path => '/any?prefix=%ff');
$s->http(PUT => '/bytes/%ff%fe', body => 'x');
is(decode_base64($any->next->{key_base64}), "\xff\xfe", 'a key of any bytes');


# an event is sent before the client has acknowledged the last one

SKIP: {
    my ($nginx) = $s->nginx;
    skip 'nginx is built without debug', 1
        if qx($nginx -V 2>&1) !~ /--with-debug/;
    my $soon = watch(path => '/soon');
    like(read_file("$s->{dir}/soon.log"), qr/ tcp_nodelay$/m, 'TCP_NODELAY');
}


# HTTP/2, access rules, limits

my $h2 = KV::Frames->new(port => $s->{h2});
$h2->request(1, GET => '/watch?key=two');
$h2->read_until(sub { $_[0]{payload} =~ /^id: /m }) or die;
$s->put('two', 'x');
ok($h2->read_until(sub { $_[0]{payload} =~ /event: put\ndata: \{"key":"two"/ }),
   'over HTTP/2');

my $watched = $s->store->{watching};
$h2->reset_stream(1);
is(watching($watched - 1), $watched - 1, 'a stream of HTTP/2 that is reset');

my $one = watch(path => '/few');
is(watch(path => '/few')->status, 429, 'limit_conn');
$one->{c}->close;
ok(wait_for(sub { watch(path => '/few')->status == 200 }, 10),
   'one that has left does not count');


# values that are more for all of them than a worker copies in a round

{
    my @many = map { watch(path => '/watch?values=1&prefix=much', raw => 1) }
                   1 .. 50;
    $s->put("much$_", $_ x 60000) for 1 .. 4;
    my $wrong = grep {
        my $w = $_;
        grep { $w->next->{data} !~ /^\{"key":"much$_",.*,"value":"$_{60000}"}$/
             } 1 .. 4
    } @many;
    is($wrong, 0, 'large values for many');
    splice @all, -@many;
}


# a client that takes nothing: others go on, it is cut when the feed has
# passed it

@all = ();
@w = ($w, $early, $h2, $prefix, $key, $tenant, $part, $bare, $any) = ();
is(watching(0), 0, 'all have left');

my $slow = watch(port => $s->{slow_port});
my $stuck = watch(port => $s->{slow_port}, path => '/stuck');
my $fast = watch(path => '/watch?prefix=end');
is(watching(3), 3, 'some watch');
for my $round (1 .. 10) {
    $s->http(POST => '/bulk', body => join '',
             map { qq({"key":"k$round$_) . 'y' x 2000 . qq(","value":"x"}\n) }
             1 .. 100);
}
ok(wait_for(sub { $s->store->{watching} <= 2 }, 20),
   'who takes nothing for send_timeout is cut');
$s->put('end', 'x');
is($fast->take(1), 'put end', 'and nobody else');
1 while $slow->next;
is($slow->{ended}, 'cut', 'so that it notices');
my $late = watch(id => $slow->{id});
is($late->status, 410, "its last id is not kept");
like($late->{r}{body}, qr/^changes since this version are not kept/, 'and why');


# a reload ends all streams at once, and nothing is lost

my @ids = map { my $x = watch(path => '/watch?prefix=r'); $x } 1 .. 6;
$s->put('r1', 'x');
is($_->take(1), 'put r1', 'before a reload') for @ids;
my @old = $s->workers;
$s->reload;
is($_->end(20), 'whole', 'a reload ends a stream') for @ids;
ok(wait_for(sub { my %is = map { $_ => 1 } $s->workers;
                  !grep { $is{$_} } @old }, 20), 'no old worker stays');
$s->put('r2', 'x');
for (@ids) {
    $_ = watch(path => '/watch?prefix=r', id => $_->{id});
    is($_->take(1), 'put r2', 'and it goes on');
}


# so do stops and kills; the log has what was lost in memory

for my $how (qw(TERM QUIT KILL)) {
    my $id = $ids[0]{id};
    $s->put("r$how", 'x');
    is($how eq 'QUIT' ? $s->quit : $s->stop($how), $how eq 'KILL' ? 137 : 0,
       "SIG$how: its status");
    $_->end(20) for @ids;
    $s->start;
    for (@ids) {
        $_ = watch(path => '/watch?prefix=r', id => $id);

        is($_->status, 200, "after SIG$how");
        is($_->take(1), "put r$how", "after SIG$how: it goes on");
    }
}

$list = $s->http(GET => '/keys');
$_ = watch(path => '/watch?prefix=r&after=' . $list->{headers}{'kv-version'})
    for @ids;

kill 'KILL', ($s->workers)[0];
$s->expect_log(qr/exited on signal 9/);
wait_for(sub { $s->workers == 2 }, 20);
$s->put('rlast', 'x');
for (@ids) {
    my $x = $_->take(1) || watch(path => '/watch?prefix=r',
                                 id => $_->{id})->take(1);
    is($x, 'put rlast', 'one worker dies');
}

@ids = @all = ();
$s->done;


# where there is no feed

$s = KV::Test->new(server => 'location = /watch { kv_watch main; }');
like(($s->refused)[1], qr/"kv_watch" needs a zone with a feed of its changes: /,
     'no feed');

for my $feed ('63k', '5g', 'x', '') {
    $s = KV::Test->new(kv => "feed=$feed");
    like(($s->refused)[1], qr/invalid feed "\Q$feed\E": it must be a size/,
         "feed=$feed");
}

$s = KV::Test->new(kv => 'feed=off');
$s->start;
is($s->store->{feed}{size}, 0, 'feed=off');
$s->{kv} = 'feed=64k';
$s->expect_log(qr/a reload cannot change it/);
ok($s->reload(qr/a reload cannot change it/), 'a reload does not change it');
$s->done;

done_testing();
