# An archive, and several that come to it: old and new workers of a reload,
# other masters, kv-inspect while the store goes on, and stores that were one
# once.

use strict;
use warnings;

use POSIX ();
use Test::More;

use KV::Inspect;
use KV::Test;
use KV::Util qw(list_dir);

my $KV = 'segment=1m snapshot=1m max_value=512k';
my $noise = join '', map { chr int rand 256 } 1 .. 300_000;
my $n = 0;

sub files {
    my ($dir, $re) = @_;
    return grep { /$re/ } sort keys %{list_dir($dir)};
}

sub lsn { $_[0]->store->{log}{next_lsn} - 1 }

# Some log, until segments and a snapshot are in the archive.

sub more_log {
    my ($s) = @_;
    my $made = $s->store->{snapshots}{completed};
    wait_for(sub { $s->put('noise' . ++$n % 5, $noise)->{status} == 200 or die;
                   $s->store->{snapshots}{completed} > $made }, 60)
        or die "no snapshot\n";
}

sub well {
    my ($s, $what) = @_;
    is_deeply([ @{$s->store->{archive}}{qw(failed gaps)} ], [0, 0],
              "$what: nothing failed, and there is no gap");
}

# A directory that is restored; or what was said.

sub restore {
    my (@args) = @_;
    my ($from, @moment) = @args;
    my $dir = "$from.restored" . ++$n;
    my ($rc, undef, $said) = inspect('restore', $from, $dir, @moment);
    return $rc eq '0' ? ($dir, '') : (undef, $said);
}


# ---- old and new workers, which both write and archive

{
    my $s = KV::Test->new(zone => '64m');
    my $archive = "$s->{dir}/archive";
    $s->{kv} = "$KV archive=$archive";
    $s->start;

    # half a request each, which keeps a worker until the other half comes

    my @c = map { my $c = $s->connect;
                  my $text = KV::Conn::request(PUT => "/kv/old$_",
                                               body => "old $_ $noise");
                  $c->send(substr $text, 0, 1000);
                  [ $c, substr $text, 1000 ] } 1 .. 24;
    $s->has_read;
    my %old = map { $_ => 1 } $s->workers;
    kill('HUP', $s->{pid});
    ok(wait_for(sub { 2 == grep { !$old{$_} } $s->workers }, 20),
       'new workers, beside the old ones');

    for my $i (1 .. 24) {
        my ($c, $rest) = @{$c[$i - 1]};
        $c->send($rest);
        is($c->response->{status}, 200, "old $i") if $i % 8 == 0;
        $c->response if $i % 8;
        $s->put("new$i", "new $i $noise")->{status} == 200 or die;
    }

    ok(wait_for(sub { !grep { $old{$_} } $s->workers }, 20), 'they are gone');
    my $last = lsn($s);
    more_log($s) for 1 .. 2;
    $s->idle;
    well($s, 'a reload');

    my ($rc, $out, $said) = inspect('check', $archive);
    is($rc, 0, 'a reload: the archive is whole') or diag($said);
    (my $dir, $said) = restore($archive, '--to-lsn', $last);
    my $dump = (inspect('dump', $dir))[1];
    is(scalar(grep { $dump =~ /"key":"old$_"/ && $dump =~ /"key":"new$_"/ }
              1 .. 24), 24, 'a reload: it has what all of them wrote');
    $s->done;
}


# ---- a binary upgrade, whose master finds archive and data in use

SKIP: {
    my $prctl = { x86_64 => 157, aarch64 => 167 }->{(POSIX::uname())[4]};
    skip('no subreaper on this machine', 1)
        unless $prctl && syscall($prctl, 36, 1, 0, 0, 0) == 0;

    my $s = KV::Test->new(zone => '64m');
    $s->{kv} = "$KV archive=$s->{dir}/archive";
    my $child = fork // die "fork: $!";
    if ($child == 0) {
        $s->launch;
        wait_for(sub { -s "$s->{dir}/nginx.pid" }, 10);
        POSIX::_exit(0);
    }
    waitpid($child, 0);
    ($s->{pid}) = read_file("$s->{dir}/nginx.pid") =~ /(\d+)/;
    $s->{pgid} = $s->{pid};
    ok(wait_for(sub { $s->healthy }, 10), 'a server whose parent is gone');
    more_log($s);

    my @before = files("$s->{dir}/archive", qr/./);
    my $said = qr/\[emerg\].*is in use by another nginx, whose master is/;
    kill('USR2', $s->{pid});
    ok(wait_for(sub { $s->log =~ $said }, 10), 'a new binary is refused');
    ok(wait_for(sub { $s->workers == 2 }, 10), 'and is gone');
    is(scalar(grep { !-e "$s->{dir}/archive/$_" } @before), 0,
       'it took nothing from the archive');
    more_log($s) for 1 .. 2;
    $s->idle;
    well($s, 'a binary upgrade');
    is((inspect('check', "$s->{dir}/archive"))[0], 0, 'the archive is whole');
    $s->expect_log($said);
    $s->done;
}


# ---- one archive for two zones, by two names; or for one that gets another

{
    my $s = KV::Test->new;
    my $zone = sub { my ($name, $archive) = @_;
                     return "kv_zone zone=$name:8m path=$s->{dir}/$name "
                            . "archive=$s->{dir}/$archive;" };
    symlink('.', "$s->{dir}/link");

    $s->{http} = $zone->('a', 'one') . $zone->('b', 'link/one');
    like($s->test_config, qr/link\/one" is a directory of kv zone "a", too: /,
         'two zones with one archive, which is not there yet');

    $s->{http} = $zone->('a', 'one');
    $s->start;
    $s->{http} = $zone->('b', 'link/one');
    my $said = qr/"b": ".*link\/one" is in use by this nginx as the archive of/;
    ok(defined $s->reload($said), 'nor does a reload give it to another zone');
    $s->{http} = "kv_zone zone=c:8m path=$s->{dir}/one;";
    $said = qr/kv zone "c": ".*one" is in use by this nginx as the archive/;
    ok(defined $s->reload($said), 'nor make it a directory of data');
    $s->expect_log(qr/is in use by this nginx as the archive/);
    $s->done;
}


# ---- kv-inspect, while files come and go there

{
    my $s = KV::Test->new(zone => '64m');
    my $archive = "$s->{dir}/archive";
    $s->{kv} = "$KV archive=$archive archive_keep=1s";
    $s->start;
    $s->put('key', 'value');
    more_log($s);

    my $writer = fork // die "fork: $!";
    if ($writer == 0) {
        my $c = $s->connect;
        for (my $i = 0; ; $i++) {
            $c->send(KV::Conn::request(PUT => '/kv/noise' . $i % 5,
                                       body => $noise));
            POSIX::_exit(1) if $c->response->{status} != 200;
        }
    }

    my (@check, @restore);
    my $deleted = sub { $s->store->{archive}{deleted} };
    wait_for(sub { $deleted->() > 5 }, 60) or die "nothing is deleted\n";

    for (1 .. 6) {
        my $before = $deleted->();
        my ($rc, undef, $said) = inspect('check', $archive);
        push @check, $said if $rc ne '0';
        my ($dir, $why) = restore($archive, '--to-lsn', lsn($s), '--data',
                                  $s->{path});
        push @restore, $why if !$dir;
        push @restore, "no key: $dir"
            if $dir && (inspect('dump', $dir))[1] !~ /"key":"key"/;
        File::Path::remove_tree($dir) if $dir;
        wait_for(sub { $deleted->() > $before }, 60);
    }

    is_deeply(\@check, [], 'check finds nothing wrong while files are deleted');
    is_deeply(\@restore, [], 'what is newest can be restored meanwhile');
    kill('KILL', $writer);
    waitpid($writer, 0);
    $s->idle;
    well($s, 'beside kv-inspect');
    $s->done;
}


# ---- two stores of one backup are two stores: their writes have the same
# numbers, and nothing else would tell them apart in an archive

{
    my $s = KV::Test->new(zone => '64m');
    $s->{kv} = "$KV archive=$s->{dir}/archive";
    $s->start;
    $s->put('key', 'value');
    more_log($s);
    my $backup = "$s->{dir}/backup.kvb";
    write_file($backup, $s->http(GET => '/backup')->{body});
    more_log($s);
    my $archive = "$s->{dir}/of-the-first";

    my @store = map {
        my ($dir, $said) = restore($backup);
        KV::Test->new(zone => '64m', path => $dir, kv => $KV)
    } 1 .. 2;

    # the first one has an archive

    $store[0]{kv} = "$KV archive=$archive";
    $store[0]->start;
    $store[0]->put('key', 'of the first');
    more_log($store[0]) for 1 .. 2;
    my $last = lsn($store[0]);
    $store[0]->stop;

    # the second one goes on for longer, until its log begins behind that

    $store[1]->start;
    $store[1]->put('key', 'of the second');
    my $second = lsn($store[1]);
    wait_for(sub { more_log($store[1]);
                   my ($first) = files($store[1]{path}, qr/^log-.*kvl$/);
                   hex(($first =~ /-(\w+)/)[0]) > $last + 1 }, 60)
        or die "it keeps its log\n";
    $store[1]->stop;

    my @before = files($archive, qr/./);
    $store[1]{kv} = "$KV archive=$archive";
    like($store[1]->refused,
         qr/of another store, or of this one before a restore: give the zone a/,
         'another store of the same backup cannot have its archive');
    is_deeply([ files($archive, qr/./) ], \@before, 'nothing is put there');
    my (undef, $said) = restore($archive, '--to-lsn', $second + 100, '--data',
                                $store[1]{path});
    like($said, qr/what is there ends with LSN \d+|are of two stores/,
         'nor is it restored with the directory of the other');

    # and the one that the backup is of

    $s->stop;
    $s->{kv} = "$KV archive=$archive";
    like($s->refused, qr/of another store, or of this one before a restore/,
         'nor can the store that it was made of');
    $s->{kv} = "$KV archive=$s->{dir}/archive";
    $s->start;
    more_log($s);
    well($s, 'that goes on with its own');
    $s->expect_log(qr/of another store/);

    # what has all that is in an archive is another store, too

    $s->idle;
    my $all = lsn($s);
    (my $dir, $said) = restore("$s->{dir}/archive", '--to-lsn', $all, '--data',
                               $s->{path});
    my $again = KV::Test->new(zone => '64m', path => $dir,
                              kv => "$KV archive=$s->{dir}/archive");
    $s->stop;
    like($again->refused, qr/of another store, or of this one before a restore/,
         'a store that was restored to the last write cannot go on there');
    $again->expect_log(qr/of another store/);
    $again->{kv} = "$KV archive=$again->{dir}/new";
    $again->start;
    is(lsn($again), $all, 'it has all');
    $again->put('noise', $noise) for 1 .. 8;
    $again->stop('KILL');
    $again->start;
    more_log($again);
    well($again, 'a new one');
    $_->done for grep { $_->{pid} } $again, @store;
}

done_testing();
