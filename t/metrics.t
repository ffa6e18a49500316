# /metrics: Prometheus' text format, with the facts of /stats; totals that never
# go back; what a real Prometheus makes of it; the alerts.

use strict;
use warnings;

use HTTP::Tiny;
use JSON::PP ();
use List::Util qw(uniq);
use POSIX ();
use Test::More;

use KV::Test;

my $PROMTOOL = '/usr/bin/promtool';
my $PROMETHEUS = '/usr/bin/prometheus';

my $s = KV::Test->new(zone => '16m', prometheus => free_port(),
                      kv => 'segment=1m max_value=256k list=on',
                      http => 'kv_zone zone=o-t.h_R2:16m path=%%dir%%/other
                               segment=1m max_value=256k
                               archive=%%dir%%/archive;',
                      server => 'location /other/ { kv o-t.h_R2; }
                                 location = /other-stats { kv_stats o-t.h_R2; }
                                 location = /keys { kv_keys main; }');
$s->start;


# A Prometheus, which takes some seconds before it scrapes for the first time.
# It has the configuration that is shipped, but scrapes often.

my $prometheus = prometheus();

sub prometheus {
    return if !-x $PROMTOOL || !-x $PROMETHEUS;

    my $config = read_file('scripts/prometheus/scrape.yml');
    my $rules = Cwd::abs_path('scripts/prometheus/rules.yml');
    $config =~ s/localhost:8080/127.0.0.1:$s->{port}/ or fail('no target');
    $config =~ s/^  - rules\.yml$/  - $rules/m or fail('no rules');
    $config =~ s/(scrape_interval:) \w+/$1 200ms/ or fail('no interval');
    write_file("$s->{dir}/prometheus.yml", "$config\nglobal:\n"
                                           . "  evaluation_interval: 200ms\n");

    my $pid = fork // die "fork: $!";
    return $pid if $pid;

    alarm(0);
    open(STDIN, '<', '/dev/null');
    open(STDOUT, '>', "$s->{dir}/prometheus.log");
    open(STDERR, '>&', \*STDOUT);
    { exec $PROMETHEUS, "--config.file=$s->{dir}/prometheus.yml",
           "--storage.tsdb.path=$s->{dir}/tsdb",
           "--web.listen-address=127.0.0.1:$s->{prometheus}" }
    POSIX::_exit(127);
}

END { kill('KILL', $prometheus) if $prometheus }


# All samples: by their names and labels, as text; and that the text is what the
# format wants: each metric in one place, under its help and type.

sub samples {
    my ($text) = @_;
    my (%value, %type, @order, @wrong);

    for my $line (split /\n/, $text) {
        if ($line =~ /^# HELP (nginx_kv_\w+) \S.*\.$/) {
            push @order, $1;
        } elsif ($line =~ /^# TYPE (nginx_kv_\w+) (counter|gauge|histogram)$/) {
            push @wrong, $line if $1 ne $order[-1];
            $type{$1} = $2;
        } elsif ($line =~ /^(nginx_kv_\w+)
                           (\{(?:,?[a-z]+="[^"\\\n]*")+\})\ (\d+(?:\.\d+)?)$/x)
        {
            my ($name, $labels, $value) = ($1, $2, $3);
            my $of = $name;
            $of =~ s/_(?:bucket|sum|count)$// if !$type{$of};
            push @wrong, $line if $of ne $order[-1] || !$type{$of}
                                  || exists $value{"$name$labels"}
                                  || $labels !~ /^\{zone="/;
            $value{"$name$labels"} = $value;
        } else {
            push @wrong, $line;
        }
    }

    is_deeply(\@wrong, [], 'each line is in its place')
        or diag(join "\n", splice @wrong, 0, 10);
    is(scalar @order, scalar(uniq(@order)), 'each metric comes once');
    return (\%value, \%type);
}

sub metrics {
    my $r = $s->http(GET => '/metrics');
    is($r->{status}, 200, 'GET /metrics');
    return samples($r->{body});
}


# ---- how it is asked for

{
    my $r = $s->http(GET => '/metrics');
    is($r->{headers}{'content-type'},
       'text/plain; version=0.0.4; charset=utf-8', 'its type');
    is($r->{headers}{'cache-control'}, 'no-cache', 'no cache keeps it');

    my $head = $s->http(HEAD => '/metrics');
    is($head->{status}, 200, 'HEAD');
    is($head->{body}, '', 'without a body');
    cmp_ok($head->{headers}{'content-length'}, '>', 10_000, 'but its length');

    for my $method (qw(POST PUT DELETE PATCH)) {
        $r = $s->http($method => '/metrics', body => 'x');
        is("$r->{status} $r->{body}", "405 method not allowed\n", $method);
        is($r->{headers}{allow}, 'GET, HEAD', "$method: Allow");
    }

    $r = $s->http(GET => '/metrics?zone=main');
    is("$r->{status} $r->{body}", "400 metrics take no arguments\n",
       'with arguments');
}


# ---- how it is configured

for ([ 'a zone' => server => 'location /m { kv_metrics main; }',
       qr/invalid number of arguments in "kv_metrics"/ ],
     [ 'another handler' => server => 'location /m { kv_metrics;
                                                     kv_stats main; }',
       qr/"kv_stats" cannot stand in a location that has another kv/ ],
     [ 'no zone at all' => conf => 'events { } http { server {
                                        location /m { kv_metrics; } } }',
       qr/"kv_metrics" needs a "kv_zone": there is none, in \S+:\d+/ ],
     [ 'a name that would need an escape' => http =>
       'kv_zone "zone=a\"b:16m" path=%%dir%%/q;',
       qr/invalid zone name "a"b": it may have letters, digits/ ])
{
    my ($name, $where, $text, $why) = @$_;
    my ($status, $out) = KV::Test->new($where => $text)->test_config;
    isnt($status, 0, "$name: refused");
    like($out, $why, "$name: the reason");
}


# ---- the facts of /stats

$s->put("k$_", 'x' x 1000) for 1 .. 20;
$s->put('k1', 'y', headers => [ 'If-None-Match: *' ]) for 1 .. 3;
$s->get('k1') for 1 .. 10;
$s->get('none') for 1 .. 4;
$s->del('k2');
$s->put('t', 'x');
$s->http(GET => '/clear') for 1 .. 2;
$s->http(GET => '/keys') for 1 .. 3;
$s->http(PUT => '/other/a', body => 'x');

my %wanted = ('kv PUT 200' => 21, 'kv PUT 412' => 3, 'kv GET 200' => 10,
              'kv GET 404' => 4, 'kv DELETE 200' => 1, 'clear GET 405' => 2,
              'keys GET 200' => 3);

sub requests {
    my ($value, $zone) = @_;
    my %n;
    for (keys %$value) {
        $n{"$1 $2 $3"} = $value->{$_}
            if /^nginx_kv_requests_total\{zone="\Q$zone\E",route="(\w+)",
                method="(\w+)",code="(\w+)"\}$/x;
    }
    return \%n;
}

# Clients may be here before their requests are counted.

my ($value, $type);
wait_for(sub {
    my $text = $s->http(GET => '/metrics')->{body};
    return !grep { my ($route, $method, $code) = split / /;
                   $text !~ /^nginx_kv_requests_total\{zone="main",
                             route="$route",method="$method",code="$code"\}
                             \ $wanted{$_}$/mx } keys %wanted;
}, 10);
$s->idle;
($value, $type) = metrics();

{
    my $n = requests($value, 'main');
    is($n->{$_}, $wanted{$_}, "requests: $_") for sort keys %wanted;
    is(requests($value, 'o-t.h_R2')->{'kv PUT 200'}, 1, 'of the other zone');
    is(scalar(grep { /route="metrics"/ } keys %$value), 0,
       'no store counts a scrape');
}

# each number of /stats, in its unit

my %same = qw(
    keys keys                        data_bytes bytes
    expiring_keys expiring           expired_keys_total expired
    waiting_reads waiting            watches watching
    zone_size_bytes zone.size
    zone_used_bytes zone.used        zone_index_bytes zone.index
    zone_held_bytes zone.held        zone_refused_writes_total zone.refused
    zone_fragmentation_ratio zone.fragmentation
    uploads_held_bytes uploads.bytes uploads_limit_bytes uploads.limit
    uploads_evicted_total uploads.evicted
    readers_held_bytes readers.bytes readers_limit_bytes readers.limit
    readers_evicted_total readers.evicted
    commit_batch_operations_count commit.batches
    commit_batch_operations_sum commit.operations
    commit_payload_bytes_total commit.payload_bytes
    memory_requests_total commit.reserves
    moved_objects_total commit.moved
    log_sync_duration_seconds_count commit.sync_us.count
    log_bytes_total log.bytes        log_written_bytes_total log.written
    log_segments log.segments        log_next_lsn log.next_lsn
    log_durable_lsn log.durable_lsn  disk_size_bytes disk.size
    snapshots_total snapshots.completed
    snapshot_failures_total snapshots.failed
    snapshot_lsn snapshots.last_lsn  snapshot_size_bytes snapshots.last_bytes
    snapshot_log_bytes snapshots.log_bytes
    snapshot_timestamp_seconds snapshots.last_success
    snapshot_failure_timestamp_seconds snapshots.last_failure
    backups_running backups.running  backups_total backups.completed
    backup_failures_total backups.failed
    backup_lsn backups.last_lsn
    recovery_snapshot_records recovery.snapshot_records
    recovery_log_records recovery.log_records
    recovery_timestamp_seconds recovery.last
    rebuilds_total recovery.rebuilds reloads_refused_total reloads.refused
);

# and of a store that has an archive

my %archive = qw(
    archive_lsn archive.lsn          archive_waiting_segments archive.waiting
    archive_files_total archive.files
    archive_failures_total archive.failed
    archive_gaps_total archive.gaps
    archive_deleted_files_total archive.deleted
    archive_disk_size_bytes archive.disk.size
);

sub agrees {
    my ($value, $what, $path, $zone, %but) = @_;
    my $store = $s->stats($path)->{store};
    my %facts = (%same, $store->{archive} ? %archive : ());
    my @wrong;

    for my $name (sort keys %facts) {
        my $fact = $store;
        $fact = $fact->{$_} for split /\./, $facts{$name};
        my $told = $value->{"nginx_kv_$name\{zone=\"$zone\"}"};
        push @wrong, "$name: " . ($told // 'nothing') . ", not $fact"
            if !defined $told || abs($told - $fact) > 1e-6;
    }

    is_deeply(\@wrong, [], $what);
    is($value->{"nginx_kv_state{zone=\"$zone\",state=\"$store->{state}\"}"}, 1,
       "$what: the state");
    is((grep { /^nginx_kv_state\{zone="\Q$zone"/ && $value->{$_} }
        keys %$value), 1, "$what: no other state");
    is($value->{"nginx_kv_log_incarnation_info{zone=\"$zone\",incarnation="
                . "\"$store->{log}{incarnation}\"}"}, 1,
       "$what: the incarnation");
    is($value->{"nginx_kv_snapshot_duration_seconds{zone=\"$zone\"}"} * 1000,
       $store->{snapshots}{last_ms}, "$what: milliseconds are seconds");
}

agrees($value, 'it says what /stats says', '/stats', 'main');
agrees($value, 'of the other zone, too', '/other-stats', 'o-t.h_R2');
is_deeply([ sort map { /^nginx_kv_(archive_\w+)/ ? $1 : () } keys %$value ],
          [ sort keys %archive, 'archive_disk_available_bytes' ],
          'of the archive where there is one');

# the page has a row for each, and no other

{
    my ($table) = read_file('src/http/README.md')
                  =~ /^\| metric, without `nginx_kv_`.*?\n((?:\|.*\n)+)/m;
    my @told;
    for my $row (split /\n/, $table) {
        my $cell = (split /\|/, $row)[1] =~ s/\([^)]*\)//gr;
        my @names = $cell =~ /`(\w+)`/g;
        push @told, @names;
        push @told, map { s/^uploads/readers/r } @names
            if $cell =~ /`readers_\.\.\.`/;
    }
    is_deeply([ sort @told ], [ sort map { s/^nginx_kv_//r } keys %$type ],
              'the page tells of these metrics');
}

# of disks others take something at any time

for my $disk ('disk', 'archive_disk') {
    my ($size, $left) = map { $value->{"nginx_kv_${disk}_$_"
                                       . '{zone="o-t.h_R2"}'} }
                        qw(size_bytes available_bytes);
    cmp_ok($size, '>', 0, "$disk: its size");
    cmp_ok($left, '<=', $size, "$disk: what is left of it");
}


# ---- histograms: cumulative, with the bounds that were asked for

sub histogram {
    my ($value, $name, $labels) = @_;
    my @bounds = map { my ($le) = /,le="([^"]+)"/; [ $le, $value->{$_} ] }
                 grep { /^nginx_kv_${name}_bucket\{\Q$labels\E,le=/ }
                 keys %$value;
    my ($all) = grep { $_->[0] eq '+Inf' } @bounds;
    @bounds = sort { $a->[0] <=> $b->[0] } grep { $_->[0] ne '+Inf' } @bounds;
    return ([ map { $_->[0] } @bounds ], [ map { $_->[1] } @bounds ],
            $all->[1], $value->{"nginx_kv_${name}_count{$labels}"},
            $value->{"nginx_kv_${name}_sum{$labels}"});
}

my $stats = $s->stats;
my $labels = 'zone="main"';

for ([ request_duration_seconds => $stats->{routes}{kv}{PUT}, 24, 50e-6,
       "$labels,route=\"kv\",method=\"PUT\"" ],
     [ commit_wait_seconds => $stats->{store}{commit}{wait_us}, 22, 50e-6,
       $labels ],
     [ log_sync_duration_seconds => $stats->{store}{commit}{sync_us}, undef,
       50e-6, $labels ],
     [ commit_batch_operations => $stats->{store}{commit}{batch}, undef, 1,
       $labels ])
{
    my ($name, $json, $n, $first, $of) = @$_;
    my ($bounds, $counts, $all, $count, $sum) = histogram($value, $name, $of);
    my $per = $first == 1 ? 1 : 1e6;
    my $was = 0;

    is_deeply([ map { sprintf '%.6f', $_ } @$bounds ],
              [ map { sprintf '%.6f', $first * 2 ** $_ } 0 .. 15 ],
              "$name: 16 bounds, each twice that before it");
    ok(!(grep { my $less = $_ < $was; $was = $_; $less } @$counts, $all),
       "$name: cumulative");
    is($count, $all, "$name: the last bucket has all");
    cmp_ok($sum, '>', 0, "$name: a sum");
    is($all, $n, "$name: how many") if defined $n;

    my $h = $json->{histogram};
    is_deeply([ map { $_ / $per } @{$h->{le}} ], [ map { $_ + 0 } @$bounds ],
              "$name: /stats has the same bounds");
    is_deeply($h->{count}, [ map { $_ + 0 } @$counts, $all ],
              "$name: and counts");
    is($h->{total}, $all, "$name: and their total");
    cmp_ok(abs($h->{sum} / $per - $sum), '<', 1e-6, "$name: and sum");
}

is($value->{'nginx_kv_commit_batch_operations_bucket{zone="main",le="1"}'},
   $value->{'nginx_kv_commit_batch_operations_count{zone="main"}'},
   'each write was a batch of its own');
ok(!(grep { /^nginx_kv_request_duration.*route="clear",method="GET"/ }
     keys %$value), 'what a route does not take is only counted');


# ---- totals never go back: not when workers die, nor with a reload

sub backwards {
    my ($before, $after, $type) = @_;
    return grep { my ($name) = /^(\w+)/;
                  my $of = $name =~ s/_(?:bucket|sum|count)$//r;
                  (($type->{$name} // '') eq 'counter'
                   || ($type->{$of} // '') eq 'histogram')
                  && ($after->{$_} // -1) < $before->{$_} } sort keys %$before;
}

$s->expect_log(qr/exited on signal 9/, qr/\[emerg\]/);

for my $round (1 .. 3) {
    my ($before) = metrics();

    $s->idle;
    my @workers = $s->workers;
    kill('KILL', @workers);
    ok($s->back(@workers), 'workers die');
    $s->put("r$round", 'x');
    ok(defined $s->reload, 'a reload') if $round == 2;
    $s->get("r$round");

    wait_for(sub {
        $s->stats->{routes}{kv}{PUT}{requests} == 24 + $round
    }, 10);
    my ($after, $type) = metrics();
    is_deeply([ backwards($before, $after, $type) ], [], 'no total goes back');
    is(requests($after, 'main')->{'kv PUT 200'}, 21 + $round,
       'what the dead counted is there, and what came since');
}


# ---- configurations that are refused

sub refused {
    return map { $s->stats($_)->{store}{reloads}{refused} }
           '/stats', '/other-stats';
}

is_deeply([ refused() ], [ 0, 0 ], 'none was refused');

{
    local $s->{zone} = '32m';
    ok(defined $s->reload(qr/has a size of \d+ bytes: a reload cannot/),
       'another size is refused');
}

ok(wait_for(sub { join(' ', refused()) eq '1 1' }, 10),
   'each store counts that');

{
    local $s->{server} = "$s->{server} no_such_directive on;";
    ok(defined $s->reload(qr/unknown directive "no_such_directive"/),
       'so is what nginx does not know');
}

ok(wait_for(sub { join(' ', refused()) eq '2 2' }, 10),
   'that counts, whoever refused it');
ok(defined $s->reload, 'a good one is taken');
is_deeply([ refused() ], [ 2, 2 ], 'and does not count');

write_file("$s->{dir}/nginx.conf", "no_such_directive;\n");
my $from = length $s->log;
kill('HUP', $s->{pid});
ok(wait_for(sub { substr($s->log, $from) =~ /no_such_directive/ }, 10),
   'one that does not get to http{} is refused');
is_deeply([ refused() ], [ 2, 2 ], 'which no store is told of');
ok(defined $s->reload, 'a good one again');


# ---- a snapshot, and what a start says

{
    local $s->{kv} = "$s->{kv} snapshot=64k";
    my $began = time - 1;
    ok(defined $s->reload, 'with snapshots');
    $s->put("s$_", 'x' x 100_000) for 1 .. 4;
    my $store;
    ok(wait_for(sub { ($store = $s->store)->{snapshots}{completed} }, 10),
       'a snapshot is made');
    cmp_ok($store->{snapshots}{last_success}, '>=', $began, 'not before');
    cmp_ok($store->{snapshots}{last_success}, '<=', time + 1, 'nor later');
    cmp_ok($store->{time}, '>=', $began, 'the time of the answer');
    is($store->{snapshots}{last_failure}, 0, 'none failed');
}

$s->idle;
my $time = $s->store->{snapshots}{last_success};
is($s->stop, 0, 'it stops');
$s->start;
$s->idle;
($value) = metrics();
agrees($value, 'after a start', '/stats', 'main');
is($value->{'nginx_kv_snapshot_timestamp_seconds{zone="main"}'}, $time,
   'the snapshot is as old as it is');
is($value->{'nginx_kv_requests_total{zone="main",route="kv",method="PUT",'
            . 'code="200"}'}, undef, 'counts begin anew');


# ---- what Prometheus says

if (!$prometheus) {
    fail("no $PROMTOOL: install Debian's package prometheus, as "
         . 'scripts/test.sh does');
    $s->done;
    done_testing();
    exit;
}

$s->put("p$_", 'x') for 1 .. 5;
$s->get('p1') for 1 .. 5;

write_file("$s->{dir}/metrics.txt", $s->http(GET => '/metrics')->{body});
is(qx($PROMTOOL check metrics <$s->{dir}/metrics.txt 2>&1), '',
   'promtool finds nothing to say about the metrics');
is($?, 0, 'and says so');

like(qx($PROMTOOL check rules scripts/prometheus/rules.yml 2>&1),
     qr/SUCCESS: \d+ rules found/, 'the rules are good');
like(qx(cd scripts/prometheus && $PROMTOOL test rules rules_test.yml 2>&1),
     qr/^\s*SUCCESS/m, 'each alert fires when it should')
    or diag(qx(cd scripts/prometheus && $PROMTOOL test rules rules_test.yml));

my $rules = read_file('scripts/prometheus/rules.yml');
my $tests = read_file('scripts/prometheus/rules_test.yml');
is_deeply([ grep { $tests !~ /\b$_\b/ } $rules =~ /alert: (\w+)/g ], [],
          'each alert has a test');
is_deeply([ grep { $_ ne 'nginx_kv_state' && !$type->{$_} }
            map { s/_(?:bucket|sum|count)$//r } $rules =~ /(nginx_kv_\w+[\w])/g
          ] , [], 'and is about metrics that are there');


# the real one

my $http = HTTP::Tiny->new(timeout => 10);

sub ask {
    my ($path, %form) = @_;
    my $r = $http->get("http://127.0.0.1:$s->{prometheus}/api/v1/$path?"
                       . $http->www_form_urlencode(\%form));
    return eval { JSON::PP::decode_json($r->{content})->{data} };
}

sub query {
    my $data = ask(query => query => $_[0]) or return;
    return map { $_->{value}[1] } @{$data->{result}};
}

sub alerts {
    my $data = ask('rules') or return;
    return map { $_->{name} } grep { ($_->{state} // '') eq 'firing' }
           map { @{$_->{rules}} } @{$data->{groups}};
}

my $keys = $s->store->{keys};
ok(wait_for(sub { my ($n) = query('nginx_kv_keys{zone="main"}');
                  return defined $n && $n == $keys }, 30),
   'a Prometheus has scraped it')
    or diag(read_file("$s->{dir}/prometheus.log"));

# it does not wait for an answer for long, which a busy machine may take

ok(wait_for(sub { ((query('up{job="nginx_kv"}'))[0] // 0) == 1 }, 20),
   'and finds that it is up');
ok(wait_for(sub { my $targets = ask('targets') or return;
                  $targets->{activeTargets}[0]{lastError} eq '' }, 20),
   'without an error');

$s->put('more', 'x');
ok(wait_for(sub { my ($n) = query('nginx_kv_keys{zone="main"}');
                  return ($n // 0) == $keys + 1 }, 30), 'again and again');

ok(wait_for(sub {
       $s->put('q', 'x');
       my ($q) = query('histogram_quantile(0.5, rate('
                       . 'nginx_kv_commit_wait_seconds_bucket{zone="main"}'
                       . '[10s]))');
       return defined $q && $q > 0 && $q < 10;
   }, 30), 'it makes quantiles of histograms');

my @rules = map { @{$_->{rules}} } @{ask('rules')->{groups}};
is(scalar @rules, scalar(() = $rules =~ /alert:/g), 'it has all alerts');
ok(wait_for(sub { !grep { $_->{health} ne 'ok' }
                  map { @{$_->{rules}} } @{ask('rules')->{groups}} }, 20),
   'and evaluates them');
is_deeply([ grep { $_ ne 'NginxKvReloadRefused' } alerts() ], [],
          'none fires but for what was refused before');

{
    local $s->{zone} = '64m';
    ok(defined $s->reload(qr/cannot change it/), 'a reload is refused');
}

ok(wait_for(sub { join(' ', alerts()) eq 'NginxKvReloadRefused' }, 30),
   'and an alert fires') or diag(join ' ', alerts());

kill('TERM', $prometheus);
waitpid($prometheus, 0);
is($? >> 8, 0, 'Prometheus ends');
undef $prometheus;

$s->done;
done_testing();
