# An archive on a disk that gets read-only or is gone, whose rights change, or
# that is in another place than it seems: writes go on, /health is well, /stats,
# metrics and the log tell, the log is not kept without limit, and it ends when
# that does.

use strict;
use warnings;

use Errno qw(EIO EROFS);
use Test::More;

use KV::Inspect;
use KV::Test;
use KV::Util qw(list_dir);

plan(skip_all => 'only root can mount, and be others') if $> != 0;

my $noise = join '', map { chr int rand 256 } 1 .. 300_000;
my $n = 0;

sub files {
    my ($dir, $re) = @_;
    return grep { /$re/ } sort keys %{list_dir($dir)};
}

sub archive { $_[0]->store->{archive} }

sub server {
    my ($archive, %o) = @_;
    my $s = KV::Test->new(zone => '32m', %o);
    $s->{kv} = 'segment=1m snapshot=1m max_value=512k archive_hold=4m '
               . 'archive=' . $archive->($s);
    return $s;
}

# Not much more than a snapshot is made for, however long that takes.

sub writes {
    my ($s) = @_;
    wait_for(sub { $s->store->{snapshots}{log_bytes} < 2 << 20 }, 20);
    my $r = $s->put('noise' . ++$n % 5, $noise);
    $r->{status} == 200 or die "$r->{status} $r->{body}";
}

sub more_log {
    my ($s) = @_;
    my $made = $s->store->{snapshots}{completed};
    wait_for(sub { writes($s); $s->store->{snapshots}{completed} > $made }, 60)
        or die "no snapshot\n";
}

sub metric {
    my ($s, $name) = @_;
    return ($s->http(GET => '/metrics')->{body}
            =~ /^nginx_kv_archive_$name\{zone="main"\} (\S+)$/m)[0];
}

# `breaks` and `mends`, and what the log says in between.

sub fails {
    my ($s, $what, $breaks, $mends, $says) = @_;

    $s->start;
    $s->put('key', 'before');
    more_log($s);
    ok(wait_for(sub { writes($s); archive($s)->{lsn} }, 30), "$what: it works");
    $s->idle;
    my $lsn = archive($s)->{lsn};
    my $from = length $s->log;
    $breaks->();

    ok(wait_for(sub { writes($s); archive($s)->{failed} }, 30),
       "$what: it is counted");
    is($s->http(GET => '/health')->{status}, 200, "$what: /health");
    is($s->store->{state}, 'ready', "$what: /stats");
    ok(wait_for(sub { writes($s); archive($s)->{waiting} > 1 }, 30),
       "$what: segments wait");
    is(archive($s)->{lsn}, $lsn, "$what: nothing is there that is not");
    is(archive($s)->{gaps}, 0, "$what: no gap yet");
    cmp_ok(metric($s, 'failures_total'), '>', 0, "$what: a metric counts it");
    cmp_ok(metric($s, 'waiting_segments'), '>', 1, "$what: and what waits");

    # the alert for it asks for both

    my $log = substr $s->log, $from;
    like($log, $says, "$what: the log says it");
    is(() = $log =~ /segments of the log wait/g, 1, "$what: once");

    # up to the limit

    $s->expect_log(qr/lacks the log from LSN @{[ $lsn + 1 ]} to/);
    my $most = 0;
    ok(wait_for(sub {
        writes($s);
        my $now = files($s->{path}, qr/^log-.*kvl$/);
        $most = $now if $now > $most;
        return archive($s)->{gaps};
    }, 60), "$what: in the end the log is given up");
    cmp_ok($most, '<', 4 + 6, "$what: it was not kept without limit");
    is(metric($s, 'gaps_total'), 1, "$what: a metric tells the gap");
    like($s->log, qr/\[alert\].*lacks the log from LSN/, "$what: and the log");

    $mends->();
    $s->put('key', 'after');
    my $fine = $s->store->{log}{next_lsn} - 1;
    ok(wait_for(sub { more_log($s); !archive($s)->{waiting} }, 30),
       "$what: it works again");
    like($s->log, qr/the archive .* works again/, "$what: the log says so");
    ok(wait_for(sub { more_log($s); archive($s)->{lsn} > $fine }, 30),
       "$what: it has what came later");
    $s->idle;
    is(archive($s)->{gaps}, 1, "$what: that is the only gap");

    my $dir = "$s->{dir}/restored";
    my $path = ($s->{kv} =~ / archive=(\S+)/)[0];
    my ($rc, undef, $said) = inspect('restore', $path, $dir, '--to-lsn', $fine);
    is($rc, 0, "$what: what came later can be restored") or diag($said);
    like((inspect('dump', $dir))[1], qr/"key":"key","value":"after"/,
         "$what: as it was");
    $s->stop('KILL');
    $s->start;
    more_log($s);
    is(archive($s)->{failed}, 0, "$what: a start goes on with it");
    $s->done;
}


# ---- a disk that gets read-only, and one that is gone

for my $errno (EROFS, EIO) {
    my $name = $! = $errno;
    my $s = server(sub { "$_[0]{dir}/archive" }, fault => 1);
    fails($s, $name, sub { $s->fault(open => $errno + 0 . ' /archive') },
          sub { $s->fault(open => undef) },
          qr/\[error\].*: $name; see to the archive's disk, and to the rights/);
}


# what a start says

SKIP: {
    my $s = server(sub { "$_[0]{dir}/archive" });
    mkdir "$s->{dir}/archive";
    skip('nothing can be mounted', 1)
        if system("mount --bind $s->{dir}/archive $s->{dir}/archive") != 0;
    push @{$s->{mounts}}, "$s->{dir}/archive";
    system("mount -o remount,bind,ro $s->{dir}/archive");
    like($s->refused, qr/\[emerg\].*\/archive.*Read-only file system/,
         'read-only: a start is refused');
    system("mount -o remount,bind,rw $s->{dir}/archive");
    $s->start;
    is(archive($s)->{failed}, 0, 'read-only no more: it starts');

    # it stays where it is while it is in use

    isnt(system("umount $s->{dir}/archive 2>/dev/null"), 0, 'no umount then');
    $s->expect_log(qr/Read-only file system/);
    $s->done;
}


# ---- rights that change, where workers are not root

{
    my $nobody = join ' ', 'nobody', getgrgid((getpwnam 'nobody')[3]) || ();
    my $s = server(sub { "$_[0]{dir}/archive" }, user => $nobody);
    chmod 0755, $s->{dir};
    chmod 0777, "$s->{dir}/tmp";

    fails($s, 'rights', sub { chmod 0, "$s->{dir}/archive" },
          sub { chmod 0700, "$s->{dir}/archive" },
          qr/\[error\].*: Permission denied; see to .* the rights there/);
}


# ---- a symbolic link

{
    my $s = server(sub { "$_[0]{dir}/link" });
    mkdir "$s->{dir}/real";
    symlink('real', "$s->{dir}/link");
    $s->start;
    more_log($s) for 1 .. 2;
    ok(files("$s->{dir}/real", qr/^log-.*kvl$/), 'a link: files are there');
    $s->idle;
    is((inspect('check', "$s->{dir}/link"))[0], 0, 'a link: they are good');

    # that leads elsewhere later, as when another disk is mounted

    mkdir "$s->{dir}/else";
    unlink "$s->{dir}/link";
    symlink('else', "$s->{dir}/link");
    my $before = files("$s->{dir}/real", qr/./);
    more_log($s) for 1 .. 2;
    cmp_ok(scalar files("$s->{dir}/real", qr/./), '>', $before,
           'it goes on where it was');
    ok(defined $s->reload, 'a reload');
    like($s->log, qr/\[alert\].*link" is not the archive in use any more/,
         'says so');
    $s->expect_log(qr/is not the archive in use any more/);
    is((files("$s->{dir}/else", qr/./))[0], undef, 'nothing is elsewhere');
    $s->stop;
    unlink "$s->{dir}/link";
    symlink('real', "$s->{dir}/link");
    $s->start;
    more_log($s);
    is(archive($s)->{gaps}, 0, 'put back: no gap');
    $s->done;
}

done_testing();
