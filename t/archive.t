# archive=: the log and the snapshots are kept in another directory, from which
# any moment can be restored, also the one before a clear; gaps in it are told
# when they arise, and no archive that fails holds up a write.

use strict;
use warnings;

use POSIX ();
use Test::More;
use Time::HiRes qw(time sleep);

use KV::Inspect;
use KV::Test;
use KV::Util qw(list_dir);

my $ROOT = Cwd::getcwd();

my $KV = 'segment=1m snapshot=1m max_value=512k';
my $s = KV::Test->new(zone => '64m', server => 'large_client_header_buffers
                                                 4 32k;');
my $n = 0;
my $noise = join '', map { chr int rand 256 } 1 .. 100_000;

# A server on what is restored of a moment.

sub restored {
    my ($archive, @moment) = @_;
    my $dir = "$s->{dir}/restored" . ++$n;
    my ($status, undef, $said) = inspect('restore', $archive, $dir, @moment);
    is($status, 0, "restored: @moment[0, 1]") or diag($said);
    return KV::Test->new(zone => '64m', path => $dir,
                         kv => 'max_value=512k')->start;
}

sub cannot {
    my ($archive, $re, @moment) = @_;
    my $dir = "$s->{dir}/none";
    my ($status, undef, $said) = inspect('restore', $archive, $dir, @moment);
    isnt($status, 0, "not restored: @moment[0, 1]");
    like($said, $re, 'it says why');
    ok(!-e $dir, 'nothing is made');
}

sub lsn { $s->store->{log}{next_lsn} - 1 }
sub archive { $s->store->{archive} }

sub files {
    my ($dir, $re) = @_;
    return grep { /$re/ } sort keys %{list_dir($dir)};
}

# Takes all the space that a file system has left.

sub fill_up {
    my ($file) = @_;
    open(my $f, '>', $file) or die "$file: $!";
    while (syswrite($f, "\1" x 65536)) { }
}

# Some log, until segments and a snapshot are in the archive; not much more than
# a snapshot is made for, however long that takes.

sub more_log {
    my $made = $s->store->{snapshots}{completed};
    my $i = 0;
    wait_for(sub {
        my $now = $s->store->{snapshots};
        return 1 if $now->{completed} > $made;
        return if $now->{log_bytes} > 2 << 20;
        $s->put('noise' . $i++ % 5, $noise)->{status} == 200 or die;
        return;
    }, 60) or die "no snapshot\n";
}


# ---- the configuration

for (["archive=$s->{path}", qr/is the directory of the zone itself/],
     ['archive=', qr/archive= is empty/],
     ['archive_hold=1m', qr/do nothing without "archive="/],
     ['archive_keep=30d', qr/do nothing without "archive="/],
     ["archive=$s->{dir}/a archive_keep=0", qr/invalid archive_keep "0"/],
     ["archive=$s->{dir}/a archive=$s->{dir}/b", qr/is given twice/])
{
    my ($options, $re) = @$_;
    $s->{kv} = $options;
    my $name = $options =~ s/\Q$s->{dir}\E//gr;
    like($s->test_config, $re, "$name is refused");
}

my $archive = "$s->{dir}/archive";
$s->{kv} = "$KV archive=$archive";

for my $path ("$s->{dir}/other archive=$archive", $archive) {
    $s->{http} = "kv_zone zone=other:8m path=$path;";
    like($s->test_config, qr/each zone needs a directory, and an archive/,
         'two zones with one directory are refused');
}

$s->{http} = '';
like($s->test_config, qr/test is successful/, 'an archive');
ok(!-e $archive, 'is not made by a test');

{
    my $other = KV::Test->new;
    $other->start;
    $other->{kv} = "archive=$archive";
    like($other->reload(qr/kv zone "main" has no archive: .*"\Q$archive\E"/),
         qr/restart nginx to do so/, 'no reload can add one');
    ok(!-e $archive, 'nor make it');
    $other->expect_log(qr/has no archive/);
    $other->done;
}


# ---- moments

$s->start;
is_deeply([ @{archive()}{qw(lsn waiting failed gaps)} ], [0, 0, 0, 0],
          'an empty archive');

$s->put("key$_", "value $_") for 1 .. 20;
my $early = lsn();
more_log();

# a batch, in the middle of which a moment may be

my $before = lsn();
is($s->http(POST => '/batch', body => join '', map {
        qq({"key":"batch$_","value":"$_"}\n) } 1 .. 6)->{status}, 200,
   'a batch');

$s->put('last', 'before the clear');
my $good = lsn();
sleep(0.01);
my $then = time;
$then = POSIX::strftime('%Y-%m-%dT%H:%M:%S', gmtime $then)
        . sprintf('.%03dZ', 1000 * ($then - int $then));
sleep(0.01);

is($s->clear->{status}, 200, 'a clear');
$s->put('after', 'the clear');
more_log();
more_log();
more_log();

my @log = files($s->{path}, qr/^log-.*kvl$/);
my @kept = files($archive, qr/^log-.*kvl$/);
cmp_ok($kept[0], 'lt', $log[0], 'the archive has what the store gave up');
is($kept[0], 'log-0000000000000001.kvl', 'from the first write on');
cmp_ok(scalar files($archive, qr/^snap-.*kvs$/), '>',
       scalar files($s->{path}, qr/^snap-.*kvs$/), 'and more snapshots');
is(archive()->{gaps}, 0, 'without a gap');
cmp_ok(archive()->{files}, '>=', @kept, 'they are counted');


# the store may just have given up all but the segment that is not full yet

ok(wait_for(sub {
    $s->put('noise', $noise);
    return grep { my $here = (stat "$s->{path}/$_")[1];
                  defined $here && $here == (stat "$archive/$_")[1] }
           files($archive, qr/^log-.*kvl$/);
}, 20), 'one file with two names');
is((stat $archive)[2] & 0777, 0700, 'nobody else may read it');

# what is there can be checked while it is in use, and is no store

my $newest = hex(($kept[-1] =~ /(\w+)\.kvl/)[0]);

{
    $s->idle;
    my ($status, $out, $said) = inspect('check', $archive);
    is($status, 0, 'kv-inspect check of an archive in use') or diag($said);
    like($out, qr/: good: moments from LSN 1 to (\d+) can be restored;/,
         'it tells which moments there are');
    my ($last) = $out =~ /from LSN 1 to (\d+)/;
    cmp_ok($last, '>=', $newest, 'up to the last full segment');
    is(() = $out =~ /^\S+: good: \d+ records/mg,
       @{[ files($archive, qr/^(?:log|snap)-.*kv[ls]$/) ]},
       'all files are good');
    is($said, '', 'and nothing is wrong');

    ($status, undef, $said) = inspect('repair', $archive, '--yes');
    is($status, 2, 'it is not repaired');
    like($said, qr/is an archive, in which nothing is repaired/, 'and why');
}

for (['--to-lsn', $good], ['--to-time', $then]) {
    my $other = restored($archive, @$_);
    is($other->get('last')->{body}, 'before the clear', 'the last write');
    is($other->get("key$_")->{body}, "value $_", "key$_") for 1, 20;
    is($other->get('batch6')->{body}, '6', 'the batch');
    is($other->get('after')->{status}, 404, 'nothing of what came later');
    is($other->store->{log}{next_lsn}, $good + 1, 'to the last LSN');
    is($other->put('new', 'value')->{status}, 200, 'it goes on from there');
    $other->stop('KILL');
    $other->start;
    is($other->get('new')->{body}, 'value', 'and that stays');
    $other->done;
}

{
    my $other = restored($archive, '--to-lsn', $before + 4);
    is_deeply([ map { $other->get("batch$_")->{status} } 1 .. 6 ],
              [200, 200, 200, 200, 404, 404], 'in the middle of a batch');
    is($other->get('last')->{status}, 404, 'nothing behind it');
    $other->done;

    $other = restored($archive, '--to-lsn', $early);
    is($other->get('key20')->{status}, 200, 'before the first snapshot');
    is($other->store->{keys}, 20, 'these keys alone');
    $other->done;
}

# what is not there yet is in the store's own directory, also while it is used

$s->put('newest', 'value');
my $now = lsn();
cannot($archive, qr/what is there ends with LSN \d+/, '--to-lsn', $now);

{
    my $other = restored($archive, '--to-lsn', $now, '--data', $s->{path});
    is($other->get('newest')->{body}, 'value', 'with what the store has');
    is($other->get('after')->{body}, 'the clear', 'and all before');
    $other->done;
}

cannot($archive, qr/what is there ends with/, '--to-lsn', $now + 1000, '--data',
       $s->{path});


# what is not said well

for ([[$s->{path}, 'x'], qr/is a directory: of an archive, say which moment/],
     [[$archive, 'x', '--to-lsn', 0], qr/"0" is no LSN/],
     [[$archive, 'x', '--to-lsn'], qr/--to-lsn needs a value/],
     [[$archive, 'x', '--to-time', 'noon'], qr/"noon" is no time/],
     [[$archive, 'x', '--to-time', '2026-02-30 12:00:00'], qr/is no time/],
     [[$archive, 'x', '--to-time', '2026-11-30 -1:00:00'], qr/is no time/],
     [[$archive, 'x', '--to-lsn', '12-xy'], qr/"12-xy" is no LSN/],
     [[$archive, "$archive/none/x", '--to-lsn', 1],
      qr/above .*, ".*none", does not exist: make that first/],
     [["$s->{dir}", 'x', '--to-lsn', 1], qr/ it has no snapshot and no log:/],
     [[$archive, 'x', '--to-lsn', 1, '--to-time', $then], qr/one moment at a/],
     [["$ROOT/README.md", 'x', '--to-lsn', 1], qr/is no archive/],
     [["$ROOT/README.md", 'x'], qr/offset 0: this is no backup/],
     [[$archive], qr/the directory that is to be made is missing/],
     [[$archive, 'x', 'y'], qr/"y" is too much/],
     [[$archive, 'x', '--to', 1], qr/unknown option "--to"/],
     [["$archive/none", 'x'], qr/cannot open ".*none": No such file/])
{
    my ($args, $re) = @$_;
    my ($status, undef, $said) = inspect('restore', @$args);
    like($said, $re, "refused: $re");
    is($status, "$re" =~ /no backup/ ? 1 : 2, 'with that status');
}


# ---- the log goes on right behind a snapshot, which is then damaged

{
    my $hand = "$s->{dir}/hand";
    my $store = KV::Test->new(zone => '4m', path => "$s->{dir}/loaded",
                              kv => 'segment=256k max_value=64k');
    is((inspect_with(qq({"key":"a","value":"b"}\n), 'load',
                     $store->{path}))[0], 0, 'a snapshot with S = 1');
    $store->start;
    $store->put('c', 'd');
    $store->stop;

    mkdir $hand;
    write_file("$hand/archive", '');
    write_file("$hand/$_", read_file("$store->{path}/$_"))
        for files($store->{path}, qr/^(?:log-.*l|snap-.*s)$/);
    my @snapshot = files($hand, qr/^snap-/);

    my ($status, $out, $said) = inspect('check', $hand);
    is("$status $said", '0 ', 'the log begins with its next LSN');
    like($out, qr/: good: moments from LSN 1 to 2 can be restored;/,
         'that moment is the first');
    my $other = restored($hand, '--to-lsn', 2);
    is($other->get($_)->{status}, 200, "restored: $_") for qw(a c);
    $other->done;

    my $data = read_file("$hand/@snapshot");
    for my $at (0, 8, 24) {
        my $damaged = $data;
        substr($damaged, $at, 1) ^= "\x40";
        write_file("$hand/@snapshot", $damaged);
        ($status, $out, $said) = inspect('check', $hand);
        is($status, 1, "byte $at of the snapshot: check tells of damage");
        like($said, qr/@snapshot/, 'and where');
        like($out, qr/no moment can be restored/, 'so nothing is left');
        cannot($hand, qr/@snapshot/, '--to-lsn', 2);
    }
}


# ---- restarts, reloads, others

$s->{kv} = "$KV archive=$s->{dir}/another";
like($s->reload(qr/has the archive .* a reload cannot change it/),
     qr/restart nginx to do so/, 'a reload cannot change it');
$s->{kv} = $KV;
like($s->reload(qr/has the archive .* a reload cannot take it away/),
     qr/restart nginx to do so/, 'nor take it away');
$s->{kv} = "$KV archive=$archive";
ok(defined $s->reload, 'a reload that does not');

{
    my $other = KV::Test->new(kv => "archive=$archive");
    like($other->refused, qr/is in use by another nginx/,
         'another server cannot have it');
}

for my $signal (qw(TERM KILL)) {
    $s->stop($signal);
    $s->start;
    more_log();
    more_log();
    is(archive()->{gaps}, 0, "no gap after a SIG$signal");
}

{
    my $other = restored($archive, '--to-lsn', $now);
    is($other->get('newest')->{body}, 'value', 'over restarts');
    $other->stop;

    # the archive itself is no store

    $s->stop;
    my $misled = KV::Test->new(path => $archive);
    like($misled->refused, qr/it is the archive of a store: make a directory/,
         'the directory of a store is another one');

    # a restored one must not go on in it

    $other->{kv} = "max_value=512k archive=$archive";
    like($other->refused, qr/before a restore: give the zone a new archive/,
         'a store that was restored cannot have its old archive');

    my $stranger = KV::Test->new(kv => "archive=$archive");
    like($stranger->refused, qr/it is of another store/,
         'nor can another store');
    $s->start;
}


# ---- an archive that goes back for a while

{
    my $kept = "$s->{dir}/kept";
    my $t = KV::Test->new(zone => '64m', kv => "$KV archive=$kept "
                                               . 'archive_keep=2s');
    my $old = $s;
    $s->expect_log(qr/a reload cannot (?:change it|take it away)/);
    $s->done;
    $s = $t;
    $s->start;

    # what goes is older than a snapshot that was begun two seconds ago

    my $start = time;
    $s->put('first', 'value');
    my $first = lsn();
    more_log() for 1 .. 3;
    my @first = files($kept, qr/kvl$/);
    cmp_ok(scalar @first, '>', 2, 'all is there') if time - $start < 2;

    # what is written now is younger than what is deleted then

    $s->put('second', 'value');
    my $second = lsn();
    wait_for(sub { more_log(); archive()->{deleted} }, 30);
    cmp_ok(time - $start, '>', 2, 'nothing goes sooner');
    my $young = lsn();
    more_log() for 1 .. 2;

    isnt((files($kept, qr/kvl$/))[0], 'log-0000000000000001.kvl',
         'the log begins later');
    cannot($kept, qr/has no snapshot before that moment/, '--to-lsn', $first);

    my $other = restored($kept, '--to-lsn', $young);
    is($other->get('first')->{body}, 'value', 'what stays has all keys');
    is($other->get('second')->{body}, 'value', 'of all times');
    $other->done;
    $s->stop;
    undef $old;
}


# ---- an archive that fails

SKIP: {
    $s = KV::Test->new(zone => '64m');
    my $disk = $s->mount('small', 'size=3500k');
    skip 'no tmpfs can be mounted', 20 if !$disk;

    $s->{kv} = "$KV archive=$disk/archive archive_hold=6m";
    $s->expect_log(qr/lacks the log from/);
    $s->start;

    # another file system: copies

    $s->put('key', 'value 1');
    more_log();
    wait_for(sub { $s->put('x', $noise); archive()->{failed} }, 30);
    my ($copy) = files("$disk/archive", qr/^log-.*kvl$/);
    ok($copy, 'a copy');

    # that it tries again may just be under way
    ok(wait_for(sub { !(() = files("$disk/archive", qr/tmp$/)) }, 20),
       'nothing half stays');

    # full

    ok(archive()->{failed}, 'it is full');
    like($s->log, qr/the archive .*No space left .* segments of the log wait/,
         'the log says so');
    is($s->http(GET => '/health')->{status}, 200, 'the store is well');
    my $kept = files($s->{path}, qr/^log-.*kvl$/);
    more_log() for 1 .. 2;
    cmp_ok(archive()->{waiting}, '>', 1, 'segments wait for it');
    is(archive()->{gaps}, 0, 'there is no gap yet');
    is(archive()->{disk}{size}, 3500 << 10, 'how large its disk is');
    ok(wait_for(sub { archive()->{disk}{available} < 1 << 20 }, 20),
       'and how little of it is left');
    is(() = $s->log =~ /segments of the log wait/g, 1,
       'which is said once a minute');

    # it has space again

    system('mount', '-o', 'remount,size=40m', $disk);
    ok(wait_for(sub { more_log(); !archive()->{waiting} }, 30),
       'then all is there');
    is(archive()->{gaps}, 0, 'without a gap');
    like($s->log, qr/the archive .* works again/, 'the log says so');

    # full for long

    fill_up("$disk/filler");
    wait_for(sub { $s->put('noise', $noise)->{status} == 200 or die;
                   archive()->{waiting} > 1 }, 60);
    my $last = archive()->{lsn};
    wait_for(sub { $s->put('noise', $noise)->{status} == 200 or die;
                   archive()->{gaps} }, 60);
    is(archive()->{gaps}, 1, 'a gap');
    like($s->log, qr/\[alert\].* lacks the log from LSN @{[ $last + 1 ]} to/,
         'it is told at once, and from where');
    cmp_ok(scalar files($s->{path}, qr/^log-.*kvl$/), '<', 30,
           'the log was given up');
    like((inspect('stat', "$disk/archive"))[1],
         qr/^gap-\S+: this archive lacks the log from LSN @{[ $last + 1 ]} /m,
         'kv-inspect stat tells it, too');

    my $missing = qr/log from LSN @{[ $last + 1 ]} to \d+ is not there: no /;
    my ($status, undef, $said) = inspect('check', "$disk/archive");
    is($status, 1, 'kv-inspect check tells it');
    like($said, $missing, 'it says what is missing');

    unlink "$disk/filler";
    more_log();
    $s->put('key', 'value 2');
    my $fine = lsn();
    more_log();
    more_log();

    # a snapshot that was made in it is a moment of its own

    my %snapshot = map { /snap-(\w+)/ ? (hex $1 => 1) : () }
                   files("$disk/archive", qr/^snap-.*kvs$/);
    my ($lost) = grep { !$snapshot{$_} } $last + 3 .. $last + 9;
    cannot("$disk/archive", qr/./, '--to-lsn', $lost);
    ($status, my $out, $said) = inspect('check', "$disk/archive");
    is($status, 1, 'so it does when the log goes on behind it');
    is(() = $said =~ /is not there/g, 1, 'once');
    like($out, qr/: damaged: moments from LSN 1 to \d+ can be restored, but /,
         'and that others can be restored');
    like($said, qr/${missing}moment from there to LSN \d+ can be restored/,
         'and where it does');

    my $other = restored("$disk/archive", '--to-lsn', $fine);
    is($other->get('key')->{body}, 'value 2', 'behind the gap');
    $other->done;
    $other = restored("$disk/archive", '--to-lsn', $last);
    is($other->get('key')->{body}, 'value 1', 'before it');
    $other->done;
}

$s->done;
done_testing();
