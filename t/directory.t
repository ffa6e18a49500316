# The directory: what may be one, whose it is, and what others may have put
# into it.  The master is root here, and the workers are not: what lies in the
# directory is theirs, and must not lead root anywhere.

use strict;
use warnings;

use File::Path ();
use Fcntl qw(:mode);
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep);

use KV::Test;

plan(skip_all => 'only root has files to give away') if $> != 0;
plan(skip_all => 'there are no users daemon and bin')
    unless getpwnam('daemon') && getpwnam('bin');

my @KV = (zone => '8m', kv => 'segment=256k max_value=64k', user => 'daemon');
my $DAEMON = getpwnam('daemon');
my $BIN = getpwnam('bin');

sub server { return KV::Test->new(@KV, @_) }

# A place that the workers' user, or everybody, can get to.

my $place = server();
my $dir = $place->{dir};
chmod(0755, $dir);

sub mode_of { return sprintf('%04o', ((stat $_[0])[2] // 0) & 07777) }
sub owner_of { return (stat $_[0])[4] // 'none' }

sub state_of {
    my ($path) = @_;
    my $files = list_dir($path);
    return join ' ', mode_of($path), owner_of($path),
           map { "$_ $files->{$_}" } sort keys %$files;
}

sub owners {
    my ($path) = @_;
    my %owners = map { owner_of("$path/$_") => 1 } keys %{list_dir($path)};
    return join ' ', sort keys %owners;
}


# Refused by nginx -t and at a start, with words that match, and as it was.

sub refuses {
    my ($name, $re, $path, %o) = @_;
    my $before = state_of($path);
    my $s = server(path => $path);

    unless ($o{start_only}) {
        my ($rc, $out) = $s->test_config;
        is($rc, 1, "$name: nginx -t refuses it");
        like($out, qr/\[emerg\].*$re/, "$name: and says why");
    }

    my ($rc, $out) = $s->refused;
    ok($rc, "$name: a start is refused") or return $s->stop;
    like($out, qr/\[emerg\].*$re/, "$name: and says why");
    is(state_of($path), $before, "$name: nothing is changed")
        unless $o{changes};
}

sub takes {
    my ($name, $path, %o) = @_;
    my $s = server(path => $path, %o);
    my ($rc, $out) = $s->test_config;
    is($rc, 0, "$name: nginx -t takes it") or diag($out);
    $s->start;
    is($s->put('a', 'b')->{status}, 200, "$name: it takes a write");
    is(join(' ', mode_of($path), owner_of($path)), "0700 $DAEMON",
       "$name: it is the workers'");
    $s->done;
}


# what can be no directory of ours

mkdir "$dir/foreign";
chmod(0755, "$dir/foreign");
write_file("$dir/foreign/passwd", "root:x:0:0\n");
write_file("$dir/foreign/kv.lock", '');
symlink("$dir/foreign", "$dir/to-foreign");
write_file("$dir/file", 'x');

refuses('a foreign directory', qr/"\Q$dir\E\/foreign".*"passwd"/,
        "$dir/foreign");
refuses('a link to one', qr/to-foreign.*"passwd"/, "$dir/to-foreign");

# never started: code that fails here would take it

{
    my ($rc, $out) = server(path => '/etc')->test_config;
    is($rc, 1, 'nginx -t refuses /etc');
    like($out, qr/\[emerg\].*"\/etc".* not empty/, 'and says why');
}

refuses('a file', qr/file.*directory/i, "$dir/file");
refuses('a directory below none', qr/"nowhere".*does not exist/,
        "$dir/nowhere/kv");
refuses('a path of 600 bytes', qr/longer/, "$dir/" . 'long/' x 120);
refuses('a name of 300 bytes', qr/too long/, "$dir/" . 'n' x 300);

mkdir "$dir/empty";
mkdir "$dir/open";
chmod(0777, "$dir/open");
symlink("$dir/empty", "$dir/open/link");
refuses('a link that others could make', qr/"link".*symlink/,
        "$dir/open/link");
mkdir "$dir/theirs";
chown($BIN, -1, "$dir/theirs");
symlink("$dir/empty", "$dir/theirs/link");
refuses('a link in a directory of others', qr/"link".*symlink/,
        "$dir/theirs/link");
is(owner_of("$dir/empty"), 0, 'where they lead to is as it was');
mkdir "$dir/empty/sub";
symlink("$dir/open/link", "$dir/chain");
refuses('a link behind a link', qr/"link".*symlink/, "$dir/chain");
refuses('a link on the way', qr/"link".*symlink/, "$dir/open/link/sub");


# what can

for my $mode (0755, 0000, 01777) {
    my $path = sprintf '%s/mode-%04o', $dir, $mode;
    mkdir $path;
    chmod($mode, $path);
    mkdir "$path/lost+found";
    takes(sprintf('an empty directory of mode %04o', $mode), $path);
}

mkdir "$dir/bins";
chown($BIN, -1, "$dir/bins");
takes("an empty directory of another user's", "$dir/bins");
symlink("$dir/bins", "$dir/to-bins");
takes("root's own link", "$dir/to-bins");
symlink("to-be-made", "$dir/dangling");
takes('a link to what is not there yet', "$dir/dangling");
write_file("$dir/bins/notes.txt", 'mine');
takes('ours, and a file of others', "$dir/bins");
is(read_file("$dir/bins/notes.txt"), 'mine', 'which is as it was');
is(owner_of("$dir/bins/notes.txt"), 0, 'and whose it was');
mkdir "$dir/open/sticky";
chmod(01777, "$dir/open/sticky");
symlink("$dir/bins", "$dir/open/sticky/link");
takes("root's link in a sticky directory", "$dir/open/sticky/link");
takes('a path with dots', "$dir/./open/../bins/");

{
    my $s = server(path => 'relative');
    chmod(0755, $s->{dir});
    $s->start;
    ok(-e "$s->{dir}/relative/kv.lock", 'a path that begins at the prefix');
    $s->done;
}


# what the workers' user puts there leads root nowhere

{
    my $s = server();
    $s->start->put('a', 'kept');
    is($s->stop, 0, 'it stops');

    my $path = $s->{path};
    my $victim = "$dir/victim";
    write_file($victim, "root's\n");
    chmod(0600, $victim);

    my $untouched = sub {
        is(read_file($victim), "root's\n", "$_[0]: root's file is not written");
        is(join(' ', mode_of($victim), owner_of($victim)), '0600 0',
           "$_[0]: and still root's");
    };

    for my $how ('symlink', 'link', 'mkfifo') {
        unlink "$path/kv.lock";
        $how eq 'mkfifo' ? POSIX::mkfifo("$path/kv.lock", 0600)
            : $how eq 'link' ? link($victim, "$path/kv.lock")
            : symlink($victim, "$path/kv.lock");
        $s->start;
        $untouched->("kv.lock made by $how");
        ok(!-l "$path/kv.lock" && -f _ && owner_of("$path/kv.lock") == $DAEMON,
           "kv.lock made by $how: replaced");
        is($s->get('a')->{body}, 'kept', "kv.lock made by $how: data is there");
        is($s->stop, 0, "kv.lock made by $how: it stops");
    }

    my @all = qw(symlink link mkfifo mkdir);
    my %plants = ('log-00000000000000ff.kvl' => \@all,
                  'snap-00000000000000ff.kvs' => \@all,
                  'spare-9.kvl' => [ 'symlink', 'link' ],
                  'log-00000000000000ff.tmp' => [ 'link' ],
                  'snap-00000000000000ff.tmp' => [ 'mkfifo' ]);

    for my $name (sort keys %plants) {
        for my $how (@{$plants{$name}}) {
            $how eq 'mkfifo' ? POSIX::mkfifo("$path/$name", 0600)
                : $how eq 'link' ? link($victim, "$path/$name")
                : $how eq 'mkdir' ? mkdir("$path/$name")
                : symlink($victim, "$path/$name");
            if ($name =~ /spare|tmp/ && $how eq 'link') {
                $s->start;
                ok(!-e "$path/$name", "$name made by $how: gone");
                is($s->stop, 0, "$name made by $how: it stops");
            }
            else {
                refuses("$name made by $how", qr/\Q$path\/$name\E/, $path,
                        start_only => 1, changes => 1);
            }
            $untouched->("$name made by $how");
            $how eq 'mkdir' ? rmdir "$path/$name" : unlink "$path/$name";
        }
    }

    # a file of root's, moved to here by a user who cannot read it

    write_file("$path/log-00000000000000ff.kvl", 'secret');
    chmod(0600, "$path/log-00000000000000ff.kvl");
    refuses("root's file under a name of ours", qr/user 0\b.*\b$DAEMON/, $path,
            start_only => 1, changes => 1);
    is(owner_of("$path/log-00000000000000ff.kvl"), 0, 'it stays root\'s');
    unlink "$path/log-00000000000000ff.kvl";

    $s->start;
    is($s->get('a')->{body}, 'kept', 'data is there');
    $s->done;
}


# which master may use it: a second one changes nothing before it has the lock

{
    my $s = server();
    $s->start;
    $s->put("k$_", value("k$_", $_, 30_000)) for 1 .. 10;

    my $before = join ' ', mode_of($s->{path}), owner_of($s->{path}),
                 owners($s->{path});
    my $second = server(path => $s->{path}, user => 'bin');
    my ($rc, $out) = $second->refused;
    ok($rc, 'a second master with another user is refused');
    like($out, qr/\[emerg\].*another nginx, whose master is process $s->{pid}/,
         'and says who has it');
    is(join(' ', mode_of($s->{path}), owner_of($s->{path}),
            owners($s->{path})), $before, 'owner and mode are as they were');
    is(scalar(grep { $s->put("k$_", value("k$_", $_, 30_000))->{status} != 200 }
                   1 .. 80), 0, 'the first one takes all writes');

    # without kv.lock the directory is still taken

    unlink "$s->{path}/kv.lock";
    ($rc, $out) = $second->refused;
    ok($rc, 'a second master is refused when kv.lock is gone');
    like($out, qr/\[emerg\].*\Q$s->{path}\E" is in use by another nginx/,
         'and says that it is in use');
    is($s->put('k1', 'x')->{status}, 200, 'the first one goes on');

    # another user by a reload: refused, and nothing is changed

    $s->{user} = 'bin';
    $s->expect_log(qr/a reload cannot change that/);
    ok(defined $s->reload(qr/\[emerg\].*user, $DAEMON: .*"bin" \($BIN\)/),
       'a reload with another user is refused');
    is($s->put('k2', 'x')->{status}, 200, 'the workers go on');
    $s->{user} = 'daemon';
    ok(defined $s->reload, 'the old one can be reloaded');
    is($s->put('k3', 'x')->{status}, 200, 'and takes writes');

    # another path to the same directory is no change; to another one it is

    my $path = $s->{path};
    symlink($path, "$s->{dir}/same");
    $s->{path} = "$s->{dir}/same";
    ok(defined $s->reload, 'a reload with another path to the directory');
    is($s->put('k4', 'x')->{status}, 200, 'it takes writes');
    $s->{path} = "$s->{dir}/another";
    $s->expect_log(qr/a reload cannot move it/);
    ok(defined $s->reload(qr/\[emerg\].*a reload cannot move it to .*another/),
       'with a path to another one: refused');
    $s->{path} = $path;
    ok(defined $s->reload, 'the first path can be reloaded');

    # a directory that is moved away under it

    rename($s->{path}, "$s->{path}.moved");
    $s->expect_log(qr/is not the directory in use any more/);
    ok(defined $s->reload, 'a reload when the directory was moved');
    like($s->log, qr/\[alert\].*\Q$s->{path}\E" is not the directory in use/,
         'the log says so');
    is($s->put('k5', 'x')->{status}, 200, 'it still takes writes');
    ok(!-e $s->{path}, 'and makes no other directory');
    rename("$s->{path}.moved", $s->{path});
    $s->done;
}


# whose files: another user at a restart, files from a backup of root's

{
    my $s = server();
    $s->start;
    $s->put("k$_", value("k$_", $_, 30_000)) for 1 .. 20;
    is($s->stop('KILL'), 128 + 9, 'it is killed');

    my $works = sub {
        my ($name, $uid) = @_;
        $s->start;
        is(owners($s->{path}), $uid, "$name: all files are the workers'");
        is(join(' ', grep { mode_of("$s->{path}/$_") ne '0600' }
                     keys %{list_dir($s->{path})}), '', "$name: of mode 0600");
        is(join(' ', mode_of($s->{path}), owner_of($s->{path})), "0700 $uid",
           "$name: and so is the directory");
        is(scalar(grep { $s->put("k$_", value("k$_", $_, 30_000))->{status}
                         != 200 } 1 .. 40), 0, "$name: it takes writes");
        is($s->get('k20')->{body}, value('k20', 20, 30_000), "$name: data");
        is($s->http(GET => '/health')->{status}, 200, "$name: /health");
        is($s->stop, 0, "$name: it stops");
    };

    $s->{user} = 'bin';
    $works->('another user', $BIN);

    system("cp -r $s->{path} $s->{path}.copy && rm -r $s->{path} "
           . "&& mv $s->{path}.copy $s->{path}") == 0 or die;
    chmod(0644, glob "$s->{path}/*");
    $works->('copied by root', $BIN);

    chown(0, 0, $s->{path}, glob "$s->{path}/*");
    $works->("root's, and another user", $BIN);

    $s->{user} = 'daemon';
    $works->('the first user again', $DAEMON);
    $s->done;
}


# the files are taken from the workers while they serve, and given back

{
    my $s = server();
    $s->start;
    $s->put("k$_", value("k$_", $_, 30_000)) for 1 .. 5;

    my $give = sub { chown($_[0], -1, $s->{path}, glob "$s->{path}/*") };
    $give->(0);
    my @status = map { $s->put("k$_", value("k$_", $_, 30_000))->{status} }
                     1 .. 60;
    is($status[-1], 503, "root's files: writes are refused");
    is($s->get('k5')->{body}, value('k5', 5, 30_000), 'reads go on');
    is($s->http(GET => '/health')->{status}, 503, '/health says so');
    like($s->log, qr/\[error\].*Permission denied/, 'and the log why');

    $give->($DAEMON);
    ok(wait_for(sub { $s->put('k6', 'x')->{status} == 200 }, 10),
       'given back: writes work again');
    ok(wait_for(sub { $s->healthy }, 10), 'and /health says so');
    $s->done;
}


# one directory as two zones

{
    my $two = sub {
        my (%o) = @_;
        return server(%o, http => "kv_zone zone=two:8m path=$dir/twin-link "
                                  . "segment=256k max_value=64k;",
                      path => "$dir/twin");
    };
    my $re = qr/"\Q$dir\E\/twin-link".*zone "main", "\Q$dir\E\/twin"/;

    mkdir "$dir/twin";
    symlink("$dir/twin", "$dir/twin-link");

    for my $there ('is', 'is not') {
        my $s = $two->();
        my ($rc, $out) = $s->test_config;
        is($rc, 1, "a symlinked twin, which $there there: nginx -t");
        like($out, qr/\[emerg\].*$re/, 'it names both');
        ($rc, $out) = $s->refused;
        ok($rc, "a symlinked twin, which $there there: a start");
        like($out, qr/\[emerg\].*$re/, 'it names both');
        rmdir "$dir/twin";
    }
}

{
    my $s = server(path => "$dir/renamed");
    $s->start->put('a', 'b');
    $s->{conf} = undef;
    my $conf = $s->config;
    $conf =~ s/zone=main/zone=other/;
    $conf =~ s/\bmain;/other;/g;
    write_file("$s->{dir}/nginx.conf", $conf);
    $s->expect_log(qr/as kv zone "main": a reload cannot rename/);
    kill('HUP', $s->{pid});
    ok(wait_for(sub {
           $s->log =~ /\[emerg\].*as kv zone "main": a reload/
       }, 10),
       'a zone that a reload renames is refused, and its name said');
    is($s->get('a')->{body}, 'b', 'it goes on');
    $s->done;
}


# a zone that a reload removes, and another adds while an old worker lives

{
    my @more = (http => "kv_zone zone=more:8m path=%%dir%%/more segment=256k
                         max_value=64k;",
                server => 'location /more/ { kv more; }');
    my $s = server(@more);
    $s->start;
    my $c = $s->connect;
    $c->send("PUT /more/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n"
             . "\r\n12345");
    ok($s->has_read, 'an upload is under way');

    my %old = map { $_ => 1 } $s->workers;
    @$s{qw(http server)} = ('', '');
    write_file("$s->{dir}/nginx.conf", $s->config);
    kill('HUP', $s->{pid});
    ok(wait_for(sub { 2 == grep { !$old{$_} } $s->workers }, 10),
       'the zone is removed while an upload goes on');

    %$s = (%$s, @more);
    $s->expect_log(qr/workers of this nginx that shut down/);
    write_file("$s->{dir}/nginx.conf", $s->config);
    kill('HUP', $s->{pid});
    my $said = 'in use by workers of this nginx that shut down';
    ok(wait_for(sub { $s->log =~ /\[emerg\].*\/more" is $said.*reload again/ },
                10), 'added again meanwhile: the log says who has it')
        or diag($s->log);

    $c->send('67890');
    is($c->response->{status}, 200, 'the upload ends');
    undef $c;
    ok(wait_for(sub { !grep { $old{$_} } $s->workers }, 10),
       'the old worker goes');
    ok(defined $s->reload, 'then it can be added');
    is($s->http(GET => '/more/slow')->{body}, '1234567890', 'with its data');
    $s->done;
}


# two containers, whose masters have the same number

SKIP: {
    skip('no namespaces on this machine', 2)
        if system('unshare -pf --kill-child true >/dev/null 2>&1') != 0;

    my $path = "$dir/shared";
    my $launch = sub {
        my ($s) = @_;
        write_file("$s->{dir}/nginx.conf", $s->config);
        my $pid = fork // die "fork: $!";
        if ($pid == 0) {
            setpgrp(0, 0);
            open(STDIN, '<', '/dev/null');
            open(STDOUT, '>', "$s->{dir}/output");
            open(STDERR, '>&', \*STDOUT);
            { exec('unshare', '-pf', '--kill-child', '--mount-proc',
                   KV::Test::nginx(), '-p', $s->{dir}, '-c',
                   "$s->{dir}/nginx.conf") }
            POSIX::_exit(127);
        }
        setpgrp($pid, $pid);
        $s->{pid} = $s->{pgid} = $pid;
    };

    my $s = server(path => $path);
    $launch->($s);
    ok(wait_for(sub { $s->healthy }, 10), 'a server in a container');

    my $second = server(path => $path);
    $launch->($second);
    ok(wait_for(sub { $second->exited }, 10), 'another is refused');
    like($second->log . $second->output,
         qr/\[emerg\].*another container.*process 1 there/, 'and says why');
    is($s->put('a', 'b')->{status}, 200, 'the first one goes on');
}


# a directory whose name may not be on disk yet holds nothing

{
    my $s = server(fault => 1);
    my ($above) = $s->{path} =~ m{^(.*)/};
    $s->fault(fdatasync => "1 $above\$");

    for my $when ('the first time', 'when it is there already') {
        my ($rc, $out) = $s->refused;
        ok($rc, "refused when the directory above cannot be synced, $when");
        like($out, qr/\[emerg\].*sync the parent of.*\Q$s->{path}\E/,
             'and says so');
    }

    $s->fault(fdatasync => undef);
    $s->expect_log(qr/sync the parent of/);
    $s->start;
    is($s->put('a', 'b')->{status}, 200, 'started again it works');
    $s->done;
}


# a file system that cannot be written

SKIP: {
    $place->mount('read-only', 'ro') // skip('nothing can be mounted', 2);

    for my $path ("$dir/read-only", "$dir/read-only/kv") {
        my ($rc, $out) = server(path => $path)->refused;
        ok($rc, "a read-only file system, $path") or next;
        like($out, qr/\[emerg\].*\Q$path\E.*Read-only/, 'the reason is said');
    }

    $place->unmount;
}


# nginx -t of a user who may not see the directory

{
    my $s = server(path => "$dir/closed/kv");
    mkdir "$dir/closed";
    chmod(0700, "$dir/closed");
    my $conf = $s->config;
    $conf =~ s/^user.*$//m;
    $conf =~ s{\Q$s->{dir}\E/}{$dir/daemons/}g;
    mkdir "$dir/daemons";
    mkdir "$dir/daemons/tmp";
    write_file("$dir/daemons/t.conf", $conf);
    chmod(0644, "$dir/daemons/t.conf");
    chown($DAEMON, -1, "$dir/daemons", "$dir/daemons/tmp");

    # where this very project is may be closed as well

    my $module = $ENV{KV_MODULE} // '.build/ngx_http_kv_module.so';
    if ($module ne '') {
        system('cp', $module, "$dir/daemons/kv.so") == 0 or die;
        $conf =~ s{load_module \S+;}{load_module $dir/daemons/kv.so;};
        write_file("$dir/daemons/t.conf", $conf);
    }

    my $pid = fork // die "fork: $!";
    if ($pid == 0) {
        open(STDOUT, '>', "$dir/said");
        open(STDERR, '>&', \*STDOUT);
        POSIX::setgid((getpwnam('daemon'))[3]);
        POSIX::setuid($DAEMON);
        { exec(KV::Test::nginx(), '-t', '-p', "$dir/daemons", '-c',
               "$dir/daemons/t.conf") }
        POSIX::_exit(127);
    }
    waitpid($pid, 0);
    is($? >> 8, 0, 'nginx -t of one who may not look') or
        diag(read_file("$dir/said"));
    like(read_file("$dir/said"),
         qr/\[warn\].*\Q$dir\E\/closed\/kv.*Permission denied/, 'says so');
}

File::Path::remove_tree($dir);
done_testing();
