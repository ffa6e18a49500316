# Who may serve a directory: one master at a time, and nobody else as long as
# one of its workers lives.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep);

use KV::Test;

my @KV = (zone => '16m', kv => 'segment=1m max_value=256k');

my $s = KV::Test->new(@KV);
$s->start;
$s->put("k$_", value("k$_", $_, 3000)) for 1 .. 50;


sub all_there {
    my ($s) = @_;
    return 50 == grep { $s->get("k$_")->{body} eq value("k$_", $_, 3000) }
                      1 .. 50;
}

# A second server on that directory refuses to start; its words match.

sub refuses {
    my ($name, $re, %o) = @_;
    my $second = KV::Test->new(@KV, path => $s->{path}, %o);
    my ($rc, $out) = $second->refused;

    ok($rc, "$name: refused") or return;
    like($out, qr/\[emerg\].*$re/, "$name: it says why");
    like($out, qr/\[emerg\].*\Q$second->{path}\E/, "$name: and where");
    ok(!$second->workers, "$name: nothing is left of it");
}


# two masters

my $recovery = $s->store->{recovery};

refuses('a second master', qr/\b$s->{pid}\b/);
refuses('and again', qr/\b$s->{pid}\b/);
refuses('with another size', qr/\b$s->{pid}\b/, zone => '32m');

symlink($s->{path}, "$s->{dir}/link");
refuses('through a link', qr/\b$s->{pid}\b/, path => "$s->{dir}/link");

ok(all_there($s), 'the first one goes on');
is($s->put('k1', value('k1', 1, 3000))->{status}, 200, 'and takes writes');
is_deeply($s->store->{recovery}, $recovery, 'nothing was recovered');


# the same server, started twice: the port is taken, and the data untouched

{
    my $second = KV::Test->new(@KV, path => $s->{path}, port => $s->{port});
    my $before = list_dir($s->{path});
    $second->launch;
    ok(wait_for(sub { $second->exited }, 15), 'started twice');
    is_deeply(list_dir($s->{path}), $before, 'no file is touched');
}


# a binary upgrade: the new master must not share the data

{
    my $from = length $s->log;
    my @before = $s->workers;

    kill('USR2', $s->{pid});
    ok(wait_for(sub { substr($s->log, $from)
                      =~ /\[emerg\].*\Q$s->{path}\E.*\b$s->{pid}\b/
                      || substr($s->log, $from)
                      =~ /\[emerg\].*\b$s->{pid}\b.*\Q$s->{path}\E/ }, 10),
       'the new binary is refused, and says who holds the directory')
        or diag(substr $s->log, $from);
    $s->expect_log(qr/\[emerg\].*\Q$s->{path}\E/,
                   qr/exited with fatal code/, qr/new binary process/);
    ok(wait_for(sub { $s->workers == @before }, 10), 'it is gone');
    ok(all_there($s), 'the old one goes on');
    is($s->put('upgrade', 'x')->{status}, 200, 'and takes writes');
    is($s->del('upgrade')->{status}, 200, 'and deletes');
}


# the master alone dies: the workers serve on, and keep others out

{
    my $old = $s->{pid};
    kill('KILL', $old);
    ok(wait_for(sub { $s->exited }, 5), 'the master dies');
    is(scalar(() = $s->workers), 2, 'its workers do not');

    ok(all_there($s), 'they serve on');
    is($s->put('orphan', 'x')->{status}, 200, 'they take writes');
    is($s->get('orphan')->{body}, 'x', 'and give them back');
    is($s->http(GET => '/health')->{status}, 200, '/health');

    refuses('a new master beside orphans', qr/\d/);

    my ($first, @rest) = $s->workers;
    kill('KILL', $first);
    wait_for(sub { $s->workers == @rest }, 5);
    refuses('a new master beside one orphan', qr/\d/);
    ok(wait_for(sub { $s->put('orphan', 'y', soft => 1)->{status} == 200 }, 5),
       'the last orphan takes writes');

    kill('KILL', @rest);
    ok(wait_for(sub { !$s->workers }, 5), 'the last worker dies');

    $s->start;
    ok(all_there($s), 'then a new one may start');
    is($s->get('orphan')->{body}, 'y', 'and has what the orphans took');
}


# orphans that are asked to stop do so

{
    kill('KILL', $s->{pid});
    wait_for(sub { $s->exited }, 5);
    $s->put('last', 'word');
    kill('TERM', $s->workers);
    ok(wait_for(sub { !$s->workers }, 6), 'orphans stop when asked');
    $s->start;
    is($s->get('last')->{body}, 'word', 'what they took is there');
    ok(all_there($s), 'and the rest');
}

# a lock that nobody holds is no lock

$s->stop('KILL');
ok(-e "$s->{path}/kv.lock", 'a lock file is left');
write_file("$s->{path}/kv.lock", "1\n");
$s->start;
ok(all_there($s), 'it is not in the way');

$s->expect_log(qr/\[alert\].*(?:master process|worker process)/);
$s->done;
done_testing();
