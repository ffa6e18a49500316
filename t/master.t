# Which nginx may serve a directory: one master at a time, and no other as long
# as one of its workers lives.

use strict;
use warnings;

use POSIX ();
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

# Other servers on that directory, [ name, what each says, options... ], all at
# once, refuse to start; their words match.

sub refuses {
    my @all = map { [ $_->[0], $_->[1],
                      KV::Test->new(@KV, path => $s->{path},
                                    @$_[2 .. $#$_])->launch ] } @_;

    for (@all) {
        my ($name, $re, $second) = @$_;

        ok(wait_for(sub { $second->exited || $second->healthy }, 15)
           && $second->exited && $second->{status} >> 8, "$name: refused")
            or next;
        my $out = $second->output . $second->log;
        like($out, qr/\[emerg\].*$re/, "$name: it says why");
        like($out, qr/\[emerg\].*\Q$second->{path}\E/, "$name: and where");
        ok(!$second->workers, "$name: nothing is left of it");
    }
}


# two masters

my $recovery = $s->store->{recovery};

symlink($s->{path}, "$s->{dir}/link");

refuses([ 'a second master', qr/\b$s->{pid}\b/ ],
        [ 'with another size', qr/\b$s->{pid}\b/, zone => '32m' ],
        [ 'through a link', qr/\b$s->{pid}\b/, path => "$s->{dir}/link" ]);

ok(all_there($s), 'the first one goes on');
is($s->put('k1', value('k1', 1, 3000))->{status}, 200, 'and takes writes');
is_deeply($s->store->{recovery}, $recovery, 'nothing was recovered');


# the same server, started twice: the port is taken, and the data untouched

{
    my $second = KV::Test->new(@KV, path => $s->{path}, port => $s->{port});
    my $before = settled_dir($s->{path});
    $second->launch;
    ok(wait_for(sub { $second->exited }, 15), 'started twice');
    is_deeply(list_dir($s->{path}), $before, 'no file is touched');
}


# the master alone dies: the workers serve on, and keep others out

{
    my $old = $s->{pid};
    kill('KILL', $old);
    ok(wait_for(sub { read_file("/proc/$old/stat") =~ /\) [ZX] / }, 20),
       'the master dies');
    refuses([ 'beside orphans of one that its parent did not wait for',
              qr/workers of another nginx, whose master was process $old: / ]);
    ok(wait_for(sub { $s->exited }, 20), 'the master is gone');
    is(scalar(() = $s->workers), 2, 'its workers do not');

    ok(all_there($s), 'they serve on');
    is($s->put('orphan', 'x')->{status}, 200, 'they take writes');
    is($s->get('orphan')->{body}, 'x', 'and give them back');
    is($s->http(GET => '/health')->{status}, 200, '/health');

    my ($first, @rest) = $s->workers;
    kill('KILL', $first);
    wait_for(sub { $s->workers == @rest }, 20);
    refuses([ 'a new master beside one orphan', qr/\d/ ]);
    ok(wait_for(sub { $s->put('orphan', 'y', soft => 1)->{status} == 200 }, 20),
       'the last orphan takes writes');

    kill('KILL', @rest);
    ok(wait_for(sub { !$s->workers }, 20), 'the last worker dies');

    $s->start;
    ok(all_there($s), 'then a new one may start');
    is($s->get('orphan')->{body}, 'y', 'and has what the orphans took');
}


# one that was told to stop is waited for while it closes the log

{
    my $first = KV::Test->new(@KV, fault => 1);
    my $second = KV::Test->new(@KV, path => $first->{path});
    $first->start;

    # The next one waits for two seconds.  If the disk takes longer, once more.
    # A master kills workers that take three, which a machine may stand still.

    $first->expect_log(qr/worker process \d+ exited on signal 9/);

    for my $when ('while its workers end', 'while it closes the log') {
        for my $try (1 .. 4) {
            $first->put('k', 'value');
            $first->fault(hold => 1);
            kill('TERM', $first->{pid});
            wait_for(sub { !-e "$first->{dir}/nginx.pid" }, 10)
                if $when =~ /log/;

            $second->launch;
            wait_for(sub { $second->exited
                           || grep { (readlink // '') =~ /^\Q$first->{path}\E/ }
                              glob "/proc/$second->{pid}/fd/*" }, 10);
            my $waits = !$second->healthy && !$first->exited;
            $first->fault(hold => undef);
            wait_for(sub { $second->exited || $second->healthy }, 30);

            is($first->wait_exit, 0, 'the first one ends well');
            my $well = $waits && !$second->exited;
            ok($well, "the next one waits, $when") if $well || $try == 4;
            last if $well || $try == 4;
            $second->expect_log(qr/\[emerg\].*another nginx/);
            $second->stop if !$second->exited;
            $first->start;
        }

        is($second->get('k', soft => 1)->{body}, 'value',
           "the next one has all, $when");
        $second->stop;
        $first->start if $when !~ /log/;
    }

    $_->done for $first, $second;
}


# orphans that are asked to stop do so

{
    kill('KILL', $s->{pid});
    wait_for(sub { $s->exited }, 20);
    $s->put('last', 'word');
    kill('TERM', $s->workers);
    ok(wait_for(sub { !$s->workers }, 20), 'orphans stop when asked');
    $s->start;
    is($s->get('last')->{body}, 'word', 'what they took is there');
    ok(all_there($s), 'and the rest');
}

# a binary upgrade: the new master must not share the data

SKIP: {
    my $t = KV::Test->new(@KV);
    $t->start_alone or skip('no subreaper on this machine', 1);
    $t->put('k', 'value');

    my $where = qr/\Q$t->{path}\E/;
    my $said = qr/\[emerg\].*(?:$where.*\b$t->{pid}\b|\b$t->{pid}\b.*$where)/;
    kill('USR2', $t->{pid});
    ok(wait_for(sub { $t->log =~ $said }, 10),
       'a new binary is refused, and says who holds the directory')
        or diag($t->log);
    $t->expect_log($said);
    ok(wait_for(sub { $t->workers == 2 }, 10), 'it is gone');
    is($t->get('k')->{body}, 'value', 'the old one goes on');
    is($t->put('k', 'another')->{status}, 200, 'and takes writes');
    is($t->get('k')->{body}, 'another', 'and gives them back');
    $t->done;
}


# a lock that no process holds is no lock

$s->stop('KILL');
ok(-e "$s->{path}/kv.lock", 'a lock file is left');
write_file("$s->{path}/kv.lock", "1\n");
$s->start;
ok(all_there($s), 'it is not in the way');

$s->expect_log(qr/\[alert\].*(?:master process|worker process)/);
$s->done;
done_testing();
