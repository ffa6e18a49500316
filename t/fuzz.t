# Malformed, slow, oversized, cut off and interleaved requests (KV::Fuzz) by the
# thousand, while a well-behaved client sees no error.  Then: no worker died,
# what came back was HTTP and in the contract's words, no key is there that may
# not be, and no memory or connection is held.
#
# KV_SEED gives the same requests again, KV_CASE=17 that one alone, KV_ROUNDS
# rounds of them.

use strict;
use warnings;

use JSON::PP ();
use Test::More;
use Time::HiRes qw(time);

use KV::Fuzz;
use KV::Load;
use KV::Test;
use KV::Util qw(free_port);

my $SEED = $ENV{KV_SEED} || 1 + int rand 1_000_000;
my $ROUNDS = $ENV{KV_ROUNDS} || 1;
my $CASES = 4500;
my $RECORDS = 5 * 4096;     # of operations: workers keep them once made

# Memory that each thread keeps for later would look like a leak.

$ENV{MALLOC_ARENA_MAX} = 1;

# The fuzzed port clears the store `other`, so that the well-behaved client
# keeps its keys in `main`.  It has a port with more patience: a client may
# stand still for a second.  The lines of bulk loads go to the store `lines`.

my $s = KV::Test->new(
    zone => '64m', kv => 'segment=4m max_value=256k snapshot=16m',
    main => 'thread_pool default threads=4;', admin => free_port(),
    conf => <<'END');
%%main%%
events { worker_connections %%connections%%; }
http {
    %%temp%%
    log_format kv escape=json
        '{"method":"$request_method","status":"$status",'
        '"type":"$sent_http_content_type","uri":"$uri",'
        '"sent":"$request_uri"}';
    access_log off;

    client_header_timeout 1s;
    client_body_timeout 2s;
    keepalive_timeout 4s;
    lingering_timeout 1s;
    lingering_time 2s;

    kv_zone zone=main:%%zone%% path=%%path%% %%kv%%;
    kv_zone zone=other:16m path=%%path%%.other %%kv%%;
    kv_zone zone=lines:16m path=%%path%%.lines list=on %%kv%%;

    server {
        listen 127.0.0.1:%%port%% backlog=4096;
        keepalive_requests 1000000;
        location /kv/ { kv main; access_log %%dir%%/main.log kv; }
        location /other/ { kv other; access_log %%dir%%/other.log kv; }
        location = /clear { kv_clear other; }
        location = /bulk { kv_bulk lines; }
        location = /keys { kv_keys lines; }
        location = /health { kv_health main; }
        location = /stats { kv_stats main; }
    }
    server {
        listen 127.0.0.1:%%admin%% backlog=4096;
        keepalive_requests 1000000;
        keepalive_timeout 60s;
        client_header_timeout 60s;
        client_body_timeout 60s;
        location /kv/ { kv main; }
        location /other/ { kv other; }
        location = /clear/main { kv_clear main; }
        location = /clear/other { kv_clear other; }
        location = /stats/main { kv_stats main; }
        location = /stats/other { kv_stats other; }
        location /lines/ { kv lines; }
        location = /clear/lines { kv_clear lines; }
        location = /stats/lines { kv_stats lines; }
    }
}
END
$s->start;


sub admin {
    my ($method, $path) = @_;
    return $s->http($method, $path, port => $s->{admin});
}

sub store {
    my ($name) = @_;
    return JSON::PP::decode_json(admin(GET => "/stats/$name")->{body})->{store};
}


# Sockets and own memory (kilobytes) of the workers.

sub sockets {
    my $n = 0;
    for my $pid ($s->workers) {
        $n += grep { (readlink($_) // '') =~ /^socket:/ }
                   glob "/proc/$pid/fd/*";
    }
    return $n;
}

sub memory {
    my $sum = 0;
    for my $pid ($s->workers) {
        read_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+)/m or return 0;
        $sum += $1;
    }
    return $sum;
}


# What the access log of a store tells about the odd requests: the keys that
# they put, perhaps; and complaints about keys that must not be, and about pages
# that are nginx's own.

sub logged {
    my ($name) = @_;
    my $json = JSON::PP->new->latin1;
    my (%keys, @errors, $n);

    for my $line (split /\n/, read_file("$s->{dir}/$name.log")) {
        next if $line =~ m{"uri":"/kv/good-};
        my $r = $json->decode($line);
        my ($key) = $r->{uri} =~ m{^/(?:kv|other)/([A-Za-z0-9:_.-]+)$};

        # an empty segment, anywhere in what was sent

        my $sent = $r->{sent} =~ s/[?#].*//sr;
        $sent =~ s/%([0-9a-f]{2})/chr hex $1/gie;
        undef $key if $sent =~ m{//};

        $n++;
        push @errors, $line if $r->{type} =~ /html/
                               || !defined $key && $r->{status} =~ /^[23]/;
        $keys{$key} = 1 if defined $key && $r->{method} =~ /^(?:PUT|POST)$/;
    }

    return (\%keys, \@errors, $n);
}


my $fuzz = KV::Fuzz->new(seed => $SEED);

if (defined $ENV{KV_CASE}) {
    my $case = $fuzz->make($ENV{KV_CASE});
    note("$case->{kind}, $case->{way}, then $case->{end}: ",
         substr($case->{bytes}, 0, 2000) =~ s/([^ -~\n])/sprintf '\\x%02x',
                                                          ord $1/ger);
    my $sum = $fuzz->run(port => $s->{port}, cases => [$ENV{KV_CASE}]);
    is("@{$sum->{errors}}", '', 'the case');
    note(join ', ', map { "$_: $sum->{counts}{$_}" } keys %{$sum->{counts}});
    $s->done;
    done_testing();
    exit;
}

admin(DELETE => "/clear/$_") for qw(main other lines);
my %before = (sockets => sockets(), workers => join(' ', sort $s->workers),
              map { $_ => store($_)->{zone}{used} } qw(main other lines));

my $patient = { port => $s->{admin} };
my $good = KV::Load->writers($patient, name => 'good', connections => 4,
                             accept => qr/(?!)/);
my ($memory, %counts, %kinds, @errors);
my $begun = time;

for my $part (0 .. 3 * $ROUNDS - 1) {
    my $n = $CASES / 3;
    my $sum = $fuzz->run(port => $s->{port},
                         cases => [$part * $n .. ($part + 1) * $n - 1]);

    push @errors, @{$sum->{errors}};
    $counts{$_} += $sum->{counts}{$_} for keys %{$sum->{counts}};
    $kinds{$_} += $sum->{kinds}{$_} for keys %{$sum->{kinds}};
    $memory //= memory();
}

my $took = time - $begun;
my $result = $good->stop;
my $grown = memory() - $memory;

is(scalar @errors, 0, 'every answer is HTTP, and one that the contract has')
    or diag("seed $SEED: ", join "\n", map { s/[^ -~]/?/gr }
                                       splice @errors, 0, 10);

is(scalar @{$result->{errors}}, 0, 'a well-behaved client sees no error')
    or diag("seed $SEED: ", join "\n", splice @{$result->{errors}}, 0, 10);
cmp_ok($result->{counts}{200}, '>', 1000, 'and was not idle');
cmp_ok($result->{gap}, '<', 2 * slowness(), 'nor kept waiting');

is(join(' ', sort $s->workers), $before{workers}, 'no worker died');
unlike($s->log, qr/\[crit\]/, 'nothing critical in the error log');
cmp_ok($counts{$_} // 0, '>', 0, "there were answers $_")
    for qw(0.9 100 200 206 304 400 404 405 409 412 413 414 416 501 505);

ok(wait_for(sub { sockets() <= $before{sockets} }, 20, 0.1),
   'no connection is left') or diag(sockets() . ' now, ', $before{sockets});
cmp_ok($grown, '<', 4500, 'the workers do not grow');


# Each key that is there has one of the names that were put; then all go.

my $ledger = KV::Ledger->merge($result->{ledger});
@errors = KV::Load->verify($patient, $ledger, \my $found);
is(scalar @errors, 0, 'its keys have their values')
    or diag("seed $SEED: ", join "\n", splice @errors, 0, 10);

for my $name (qw(main other)) {
    my ($keys, $errors, $n) = logged($name);
    my $path = $name eq 'main' ? 'kv' : 'other';
    my @keys = (sort(keys %$keys), $name eq 'main' ? $ledger->keys : ());
    my $there = grep { admin(HEAD => "/$path/$_")->{status} == 200 } @keys;

    is(scalar @$errors, 0, "$name: no bad key was taken, no page was nginx's")
        or diag("seed $SEED: ", join "\n", map { s/[^ -~]/?/gr }
                                           splice @$errors, 0, 10);
    is(store($name)->{keys}, $there, "$name: every key has a name that may be");
    note("$name: $n odd requests came so far, $there keys");

    admin(DELETE => "/$path/$_") for @keys;
    is(store($name)->{keys}, 0, "$name: and can be deleted");

    my $used;
    ok(wait_for(sub { admin(DELETE => "/clear/$name");
                      $used = store($name)->{zone}{used};
                      $used <= $before{$name} + $RECORDS }, 20, 0.05),
       "$name: nothing is left in the zone")
        or diag("$before{$name}, now $used");
}

{
    my @keys = map { "f$_" } 0 .. 49;
    my $there = grep { admin(HEAD => "/lines/$_")->{status} == 200 } @keys;
    my $store = store('lines');

    # mutated lines may have other keys

    cmp_ok($there, '>', 0, 'lines: keys of bulk loads are there');
    is($store->{waiting} + $store->{uploads}{bytes} + $store->{readers}{bytes},
       0, 'lines: nothing is held');
    admin(DELETE => '/clear/lines');
    is(store('lines')->{keys}, 0, 'lines: and they can be deleted');
}

note(sprintf 'seed %d: %d cases in %.1f s, workers grew by %d kB; beside them '
     . '%d requests, longest wait %.2f s', $SEED, $CASES * $ROUNDS, $took,
     $grown, $result->{counts}{200}, $result->{gap});
note('answers: ', join ', ', map { "$_: $counts{$_}" } sort keys %counts);
note('cases: ', join ', ', map { "$_: $kinds{$_}" } sort keys %kinds);

$s->done;
done_testing();
