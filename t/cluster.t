# Zones with cluster=: a process of nginx's own commits for all workers.  It may
# die, stop, be replaced at a reload, or be missing, and end with the workers.

use strict;
use warnings;

use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(sleep time);

use KV::Inspect;
use KV::Load;
use KV::Test;

# What users have, where it has libraft: a plain store becomes a cluster of one
# node, and a backup of that a plain store.

my $users = $ENV{KV_MODULE} // '.build/ngx_http_kv_module.so';
KV::Test::with_failpoints();

SKIP: {
    skip('the module is that of tests', 1) if $users =~ m{/poison/};
    local @ENV{qw(KV_MODULE KV_TEST_CLUSTER)} = ($users, undef);
    my $s = KV::Test->new(kv => 'segment=1m max_value=256k');
    my $said = qr/member of a cluster: give.* "cluster=" again, or restore/;
    $s->expect_log($said);
    $s->start;
    $s->put('plain', 'a');
    is($s->stop('TERM'), 0, 'a plain store');

    my $cluster = ' cluster=127.0.0.1:%%port%%';
    $s->{kv} .= $cluster;
    my ($rc, $out) = $s->test_config;
    skip('no libraft', 1) if $out =~ /"cluster=" needs the library libraft/;
    is($rc, 0, 'it may become a node') or diag($out);
    $s->start;
    is(scalar(() = $s->helpers), 1, 'whose log a process of its own writes');
    $s->put('node', 'b');
    is($s->stop('TERM'), 0, 'it ends');

    $s->{kv} =~ s/\Q$cluster//;
    ($rc, $out) = $s->refused;
    is($rc, 1, 'a node is no plain store');
    like($out, $said, 'which is said, with the way out');

    $s->{kv} .= $cluster;
    $s->start;
    write_file("$s->{dir}/backup", $s->http(GET => '/backup')->{body});
    is($s->stop('TERM'), 0, 'a backup is made');
    ($rc, undef, $out) = inspect('restore', "$s->{dir}/backup", "$s->{dir}/x");
    is($rc, 0, 'and restored') or diag($out);

    $s->{kv} =~ s/\Q$cluster//;
    $s->{path} = "$s->{dir}/x";
    $s->start;
    is(join(' ', map { $s->get($_)->{body} } qw(plain node)), 'a b',
       'all is there');
    is($s->put('plain', 'c')->{status}, 200, 'in a plain store again');
    is(scalar(() = $s->helpers), 0, 'that needs no other process');
    $s->done;
}

sub server {
    my (%o) = @_;
    my $kv = delete $o{kv} // '';
    return KV::Test->new(zone => '16m', fault => 1, kv =>
        "segment=1m max_value=256k cluster=127.0.0.1:%%port%% $kv", %o);
}

sub state_of {
    my ($path) = @_;
    return 'none' if !-e $path;
    my $files = list_dir($path);
    return join ' ', (stat _)[2, 4, 9], map { "$_ $files->{$_}" }
                     sort keys %$files;
}

# Whether there is one process that commits, and it is none of these.

sub another {
    my ($s, @old) = @_;
    my %old = map { $_ => 1 } @old;
    return wait_for(sub { my @now = $s->helpers; @now == 1 && !$old{$now[0]} },
                    10, 0.005);
}

# Writers that nothing may go wrong for; and what all of them saw.

sub writers {
    my ($s, $name, @o) = @_;
    return KV::Load->writers($s, name => $name, accept => qr/^-$/,
                             connections => 4, pause => 0.01,
                             size => sub { 20 + int rand 9_000 }, @o);
}

sub all_well {
    my ($s, $what, @writers) = @_;
    my @results = map { $_->stop } @writers;
    my (%counts, $gap);

    for my $r (@results) {
        $counts{$_} += $r->{counts}{$_} for keys %{$r->{counts}};
        $gap = $r->{gap} if $r->{gap} > ($gap // 0);
    }

    my @errors = map { @{$_->{errors}} } @results;
    my $ledger = KV::Ledger->merge(map { $_->{ledger} } @results);
    push @errors, KV::Load->verify($s, $ledger, \my $found);

    is(join("\n", splice @errors, 0, 10), '',
       "$what: no write is lost, or refused");
    cmp_ok($counts{200}, '>', 20, "$what: some writes were lived through");
    return $gap;
}


# No write goes on without it for long: the master, which would start another,
# is killed.  What the test does with this server takes as long as a write is to
# wait, so it goes on at the end.

my $orphans = server();
$orphans->start;
is($orphans->put('a', 'b')->{status}, 200, 'there is a value');
kill('KILL', $orphans->{pid});
wait_for(sub { $orphans->exited }, 10);
kill('KILL', $orphans->helpers);
ok(wait_for(sub { !$orphans->helpers }, 10), 'no process commits');
my ($waits, $batch) = map { $orphans->connect } 1, 2;
$waits->send(KV::Conn::request(PUT => '/kv/a', body => 'c'));
$batch->send(KV::Conn::request(POST => '/batch',
                                  body => '{"key":"b","value":"c"}'));


# what is refused, and touches nothing

{
    my $s = server(user => 'daemon');
    my ($rc, $out) = $s->test_config;
    is($rc, 0, 'nginx -t') or diag($out);
    is(state_of($s->{path}), 'none', 'makes no directory');
    ok(!-e "$s->{dir}/kv_zone", 'nor one for the process');

    mkdir($s->{path}, 0755);
    my $before = state_of($s->{path});
    is(($s->test_config)[0], 0, 'nginx -t where there is one');
    is(state_of($s->{path}), $before, 'leaves it as it was');

    $s->{servers} = 'server { listen 192.0.2.1:1; }';
    ok(($s->refused)[0], 'a start that is refused');
    is((split / /, state_of($s->{path}))[$_], (split / /, $before)[$_],
       'leaves mode and owner, and no file') for 0, 1, 3;

    @$s{qw(servers main)} = ('', 'master_process off;');
    ($rc, $out) = $s->test_config;
    is($rc, 1, 'it needs a master');
    like($out, qr/\[emerg\].*"cluster=" needs a process of its own.*remove/,
         'which is said');

    $s->{main} = '';
    for my $bad ('', '8080', '127.0.0.1', 'unix:/x', '0.0.0.0:80',
                 '127.0.0.1:80/x', '127.0.0.1:0', '127.0.0.1:65536',
                 '[::]:80', ':80')
    {
        ($rc, $out) = KV::Test->new(kv => qq("cluster=$bad"))->test_config;
        is($rc, 1, qq(no address: "$bad"));
        like($out, qr/\[emerg\].* invalid cluster "\Q$bad\E": it must be/,
             'which is said');
    }

    # docker compose, for one, makes names with a _

    for my $bad ('node_1:80', '*:80', 'a b:80', "n\xc3\xb6de:80", 'a"b:80') {
        my $quote = $bad =~ /"/ ? "'" : '"';
        ($rc, $out) = KV::Test->new(kv => "${quote}cluster=$bad$quote")
                              ->test_config;
        is($rc, 1, qq(no name: "$bad"));
        like($out, qr/\[emerg\].*\ invalid\ cluster\ "\Q$bad\E":\ a\ name\ may
                      \ only\ have\ .*\ or\ use\ its\ IP\ address\ in
                      \ \S+\.conf:\d+/x,
             'which is said, with what to do, and where');
    }
}


# Its death, under load.  If it was just changing the zone, that is rebuilt.

my $s = server(http => '
    proxy_cache_path %%dir%%/cache keys_zone=cache:1m;
    kv_zone zone=other:8m path=%%dir%%/other segment=1m max_value=64k
            cluster=[::1]:%%port%% sync=off;
    kv_zone zone=plain:8m path=%%dir%%/plain segment=1m max_value=64k;',
    servers => 'server { listen 127.0.0.1:%%back%%; return 200 $request_id; }',
    back => free_port(),
    server => 'location /other/ { kv other; }
               location /plain/ { kv plain; }
               location = /cached {
                   proxy_pass http://127.0.0.1:%%back%%;
                   proxy_cache cache;
                   proxy_cache_valid 10m;
                   add_header Cache $upstream_cache_status;
               }');
$s->expect_log(qr/exited on signal 9/);
my $alone = $s->start_alone or $s->start;

ok(another($s), 'one process commits');
is($s->http(PUT => "/$_/a", body => 'b')->{status}, 200, "a write: $_")
    for qw(kv other plain);
ok(wait_for(sub { $s->http(GET => '/cached')->{headers}{cache} eq 'HIT' }, 10),
   'a cache beside it');

{
    my @writers = map { writers($s, "k$_", accept => qr/^503$/) } 1, 2;
    my @bad;

    for my $round (1 .. 4) {
        my @helpers = $s->helpers;
        $s->fault(slow => 20) if $round % 2;
        sleep(0.15);
        kill('KILL', @helpers);
        push @bad, $round unless another($s, @helpers);
        $s->fault(slow => undef);
        wait_for(sub { $s->put('after', $round)->{status} == 200 }, 10)
            or push @bad, "put $round";
    }

    is("@bad", '', 'it is started again each time');
    my $gap = all_well($s, 'deaths', @writers);
    cmp_ok($gap, '<', 1 * slowness(), 'writes go on within a second');
    is($s->http(PUT => '/other/a', body => 'c')->{status}, 200,
       'those of another zone, too');
}


# It stands still: so do writes, and nothing else.

{
    my ($helper) = $s->helpers;
    kill('STOP', $helper);
    wait_for(sub { read_file("/proc/$helper/stat") =~ /\) T / }, 20)
        or die 'it does not stop';
    my $c = $s->connect;
    $c->send(KV::Conn::request(PUT => '/kv/still', body => 'x'));
    is($s->get('after')->{body}, 4, 'stopped: reads go on');
    is($s->http(PUT => '/plain/a', body => 'c')->{status}, 200,
       'stopped: and writes of a zone without it');
    ok($c->silent(0.3), 'stopped: a write waits');
    kill('CONT', $helper);
    is($c->response('PUT')->{status}, 200, 'continued: it is answered');
}


# It finds no memory for its thread, which writes wait for.

SKIP: {
    my ($size) = read_file("/proc/$s->{pid}/status") =~ /^VmSize:\s+(\d+)/m;
    my $limit = sub {
        return system("prlimit --pid=$s->{pid} --as=$_[0]: 2>/dev/null") == 0;
    };
    skip('no limit can be set', 4) if !$limit->(($size + 1024) * 1024);
    my $said = qr/\[alert\].* no thread that writes the log can be made/;
    $s->expect_log($said);
    kill('KILL', $s->helpers);
    ok(wait_for(sub { $s->log =~ $said }, 10), 'no memory: it says so');
    my $c = $s->connect;
    $c->send(KV::Conn::request(PUT => '/kv/memory', body => 'x'));
    my ($begun, $lines) = (time, scalar(() = $s->log =~ /$said/g));
    ok($c->silent(0.5), 'no memory: a write waits');
    cmp_ok((() = $s->log =~ /$said/g) - $lines, '<=', 2 * (time - $begun + 1),
           'no memory: two zones say so once a second');
    $limit->('unlimited');
    kill('KILL', $s->helpers);
    is($c->response('PUT')->{status}, 200, 'there is memory: it is done');
}


# A reload, under load: of several, each replaces it.

{
    my @writers = map { writers($s, "r$_", keepalive => 0) } 1, 2;
    my @bad;

    for my $round (1 .. 3) {
        my @helpers = $s->helpers;
        $s->{kv} =~ s/( snapshot=\d+m)?$/" snapshot=${round}m"/e;
        push @bad, $round unless defined $s->reload && another($s, @helpers);
    }

    is("@bad", '', 'a reload replaces it');
    my $gap = all_well($s, 'reloads', @writers);
    cmp_ok($gap, '<', 1 * slowness(), 'and holds no write up');

    $s->expect_log(qr/\[emerg\].*cluster address/);
    my $kv = $s->{kv};
    for ([ '', qr/"127.0.0.1:$s->{port}": a reload cannot take it away/ ],
         [ 'cluster=127.0.0.1:1', qr/cannot change it to "127.0.0.1:1"/ ])
    {
        $s->{kv} = $kv =~ s/cluster=\S+/$_->[0]/r;
        local $ENV{KV_TEST_CLUSTER};
        ok(defined $s->reload($_->[1]), "a reload cannot: '$_->[0]'");
    }
    $s->{kv} = $kv;
    is($s->put('after', 'refused')->{status}, 200, 'all is as it was');
}


# A new binary is refused, as without it.

SKIP: {
    skip('no subreaper on this machine', 3) unless $alone;
    my $said = qr/\[emerg\].*is in use by/;
    $s->expect_log($said);
    my @helpers = $s->helpers;
    kill('USR2', $s->{pid});
    ok(wait_for(sub { $s->log =~ $said }, 20), 'a new binary is refused');
    is($s->put('after', 'new')->{status}, 200, 'the old one goes on');
    is("@{[ $s->helpers ]}", "@helpers", 'with the same process');
}


# SIGTERM to all: what was received is answered.

{
    $s->fault(hold => '1 /data');
    my @c = map { $s->connect } 1 .. 20;
    $_->send(KV::Conn::request(PUT => '/kv/term', body => 'term')) for @c;
    ok($s->has_read && $s->held, 'writes wait for a sync');
    kill('TERM', -$s->{pgid});
    sleep(0.2);
    $s->fault(hold => undef);
    my @status = map { (eval { $_->response('PUT') } // {})->{status} // 0 } @c;
    is("@status", join(' ', (200) x 20), 'SIGTERM: all are answered');
    is($s->wait_exit, 0, 'and nginx ends');
    ok(scalar(glob("$s->{path}/*.closed")), 'the log is closed');

    $s->start;
    is($s->get('term')->{body}, 'term', 'and whole');
}


# SIGQUIT: as long as a worker has a request, it commits.

{
    my $c = $s->connect;
    $c->send("PUT /kv/quit HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nqu");
    ok($s->has_read, 'an upload is under way');
    kill('QUIT', $s->{pid});
    ok(wait_for(sub { !eval { $s->connect } }, 10), 'SIGQUIT');
    sleep(0.3);
    is(scalar(() = $s->helpers), 1, 'the process waits');
    $c->send('it');
    is($c->response('PUT')->{status}, 200, 'and commits');
    $c->close;                              # nginx would linger for it
    is($s->wait_exit, 0, 'then nginx ends');

    $s->start;
    is($s->get('quit')->{body}, 'quit', 'the log is whole');
}


# Without a master it commits as long as there is a worker.

{
    kill('KILL', $s->{pid});
    ok(wait_for(sub { $s->exited }, 20), 'the master dies');
    is($s->put('orphan', 'x')->{status}, 200, 'workers go on');
    my ($helper) = $s->helpers;
    kill('TERM', grep { $_ != $helper } $s->processes);
    ok(wait_for(sub { !$s->processes }, 20), 'the process ends with them');
    $s->start;
    is($s->get('orphan')->{body}, 'x', 'the log is whole');
    $s->done;
}


# Its files belong to the workers' user.

SKIP: {
    skip('only root has files to give away', 3)
        if $> != 0 || !getpwnam('daemon');
    my $t = server(user => 'daemon', path => '%%dir%%/data', kv => 'sync=1s');
    chmod(0755, $t->{dir});
    $t->start;
    $t->put("k$_", 'x' x 200_000) for 1 .. 12;
    my ($helper) = $t->helpers;
    my %owners = map { (stat)[4] => 1 } "/proc/$helper",
                                        glob("$t->{dir}/data/*");
    is(join(' ', keys %owners), scalar getpwnam('daemon'),
       'process and files are the workers\'');
    $t->done;
}


# The first server again.

is($waits->response('PUT', 30)->{status}, 503,
   'a write is not kept waiting for ever');
ok($batch->closed(30), 'nor is a batch');
is($orphans->get('a')->{body}, 'b', 'reads go on');
is($orphans->http(GET => '/health')->{status}, 503, '/health knows');
like($orphans->log, qr/\[alert\].*process that writes the log is not there/,
     'so does the log');
$orphans->stop('KILL');                     # it would wait for its writes
done_testing();
