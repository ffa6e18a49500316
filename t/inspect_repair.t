# kv-inspect repair: what it says that goes, what it leaves, and what a kill at
# any point of it leaves.

use strict;
use warnings;

use File::Copy ();
use File::Path ();
use Test::More;

use KV::Batches;
use KV::Inspect;
use KV::Test;

my $s = KV::Test->in_memory(zone => '32m',
    kv => 'segment=64k max_value=16k snapshot=1000m');
my $dir = $s->{path};
my $other = "$dir-other";

sub files {
    my ($path, $re) = @_;
    my @files = sort grep { /$re/ } keys %{list_dir($path)};
    return @files;
}

sub copy {
    my ($from) = @_;
    File::Path::remove_tree($other);
    mkdir $other, 0700 or die "$other: $!";
    for (files($from, qr/^(?:log|snap|spare)-/)) {
        File::Copy::copy("$from/$_", "$other/$_") or die "$_: $!";
    }
}

sub flip {
    my ($file, $offset) = @_;
    my $data = read_file($file);
    substr($data, $offset, 1) ^= "\x10";
    write_file($file, $data);
}

sub contents { my ($path) = @_; return { map { $_ => read_file("$path/$_") }
                                             grep { -f "$path/$_" }
                                             keys %{list_dir($path)} } }


# ---- a directory of 60 keys, each with an LSN of its own, in some segments

$s->start;
my $incarnation = $s->store->{log}{incarnation};
$s->put("k$_", sprintf('%05d', $_) x 1000) for 1 .. 60;
$s->stop;

my @logs = files($dir, qr/^log-.*\.kvl$/);
cmp_ok(scalar @logs, '>', 3, 'some segments');
my ($note) = files($dir, qr/\.closed$/);
my $whole = (inspect('dump', $dir))[1];

# With descriptors for some of the segments alone.

is(`sh -c 'ulimit -n 7; exec "\$@"' sh @{[ KV::Inspect::program() ]} dump $dir`,
   $whole, 'dump: few descriptors');

sub keys_left {
    return map { /"key":"k(\d+)"/ ? $1 : () } split /\n/, $_[0];
}

my ($rc, $out, $err) = inspect('repair', $dir, '--yes');
is($rc, 0, 'nothing to repair: exit status');
like($out, qr/there is nothing to repair/, 'and it says so');
is_deeply([ files($dir, qr/before/) ], [], 'and keeps nothing');

is((inspect('repair', '--yes'))[0], 2, 'no directory');
is((inspect('repair', '--now', $dir))[0], 2, 'an unknown option');

$s->start;
for my $args ([ $dir ], [ '--yes', $dir ]) {
    my ($rc, $out, $err) = inspect('repair', @$args);
    is($rc, 2, "in use: @$args: exit status");
    like($err, qr/is in use by process \d+: stop it first/, 'and says by whom');
}
$s->stop;


# `damage` does something to a copy, `first` is the first LSN that is lost then,
# and what it says matches `says`.

sub repairs {
    my ($name, $damage, $first, @says) = @_;
    copy($dir);
    $damage->();
    my $before = contents($other);

    my ($rc, $out, $err) = inspect('repair', $other);
    is($rc, 1, "$name: without --yes: exit status") or diag("$out$err");
    like($out, qr/nothing was changed: with --yes it is done/, 'and says so');
    like("$err$out", $_, "$name: says $_") for @says;
    is_deeply(contents($other), $before, "$name: nothing is changed");

    ($rc, $out, $err) = inspect('repair', $other, '--yes');
    is($rc, 0, "$name: with --yes: exit status") or diag("$out$err");
    like($out, qr/repaired: a start would succeed, and the next LSN is $first;/,
         "$name: repaired");
    my ($kept) = $out =~ m{what was moved is in "\Q$other\E/([^"]+)"};

    # what is gone from its place, or is another file there, was kept

    my ($now, $there) = (contents($other), contents("$other/$kept"));
    delete $_->{'kv.lock'} for $before, $now;
    is_deeply({ %$now, %$there,
                map { ($_ => $now->{$_}) } grep { /alone$/ } keys %$now },
              { %$now, map { ($_ => $before->{$_}) } grep
                { !defined $now->{$_} || $now->{$_} ne $before->{$_} }
                keys %$before }, "$name: the old files are kept as they were");

    is((inspect('check', $other))[0], 0, "$name: it is whole");
    like((inspect('stat', $other))[1], qr/^\Q$kept\E: what "kv-inspect /m,
         "$name: stat knows what was moved");
    my $dump = (inspect('dump', $other))[1];
    is_deeply([ sort { $a <=> $b } keys_left($dump) ], [ 1 .. $first - 1 ],
              "$name: all writes before LSN $first are there, no other");
    return $dump;
}

sub starts {
    my ($name, $n) = @_;
    my $s2 = KV::Test->new(zone => '32m', path => $other,
                           kv => 'segment=64k max_value=16k');
    $s2->start;
    is($s2->store->{keys}, $n, "$name: nginx starts");
    isnt($s2->store->{log}{incarnation}, $incarnation,
         "$name: versions begin anew");
    is($s2->put('more', 'x')->{status}, 200, "$name: and takes writes");
    $s2->stop('KILL');
    $s2->start;
    is($s2->store->{keys}, $n + 1, "$name: and keeps them");
    $s2->expect_log(qr/\[warn\]/);
    $s2->done;
}

my $lsn = sub { hex(($logs[$_[0]] =~ /log-(\w+)/)[0]) };

# In the second batch of the second segment.

my $in_batch = sub {
    my ($second) = (records("$other/$logs[1]"))[1];
    flip("$other/$logs[1]", $second->{offset} + 90);
};
my $at = $lsn->(1) + 1;

my $cut = repairs('a damaged batch', $in_batch, $at,
                  qr/\Q$logs[1]\E: offset \d+: no good batch with LSN $at/,
                  qr/would move \Q$logs[2]\E\n/, qr/would move \Q$note\E\n/,
                  qr/would cut \Q$logs[1]\E at offset \d+\n/);
starts('a damaged batch', $at - 1);

repairs('a damaged header', sub { flip("$other/$logs[2]", 20) }, $lsn->(2),
        qr/would move \Q$logs[2]\E\n/, qr/would move \Q$logs[3]\E\n/);
starts('a damaged header', $lsn->(2) - 1);

repairs('a missing segment', sub { unlink "$other/$logs[1]" }, $lsn->(1),
        qr/would move \Q$logs[2]\E\n/);
starts('a missing segment', $lsn->(1) - 1);

repairs('the log is gone', sub { unlink map { "$other/$_" } @logs }, 1,
        qr/would move \Q$note\E\n/);

# Two damages, of which the second is found when the first is repaired: of the
# segments the first one loses its end by a cut, and the last is moved.

repairs('two damages', sub { flip("$other/$logs[3]", 20); $in_batch->() }, $at,
        qr/would cut \Q$logs[1]\E/);


# ---- what no repair helps against

{
    copy($dir);
    my $data = read_file("$other/$logs[1]");
    substr($data, 8, 4) = pack 'V', 3;
    substr($data, 12, 4) = pack 'V', crc32c(substr($data, 0, 12) . "\0\0\0\0"
                                            . substr $data, 16, 4080);
    write_file("$other/$logs[1]", $data);
    my $before = contents($other);
    my ($rc, $out, $err) = inspect('repair', $other, '--yes');
    is($rc, 1, 'another format: exit status');
    like($err, qr/format version 3.*\n.*no repair helps against that/,
         'another format: says so');
    my $after = contents($other);
    delete $after->{'kv.lock'};
    is_deeply($after, $before, 'another format: nothing is changed');
}

sub crc32c {
    my $crc = 0xffffffff;
    our @table = @table ? @table : map { my $c = $_;
        $c = $c & 1 ? $c >> 1 ^ 0x82f63b78 : $c >> 1 for 1 .. 8; $c } 0 .. 255;
    $crc = $table[($crc ^ $_) & 255] ^ $crc >> 8 for unpack 'C*', $_[0];
    return $crc ^ 0xffffffff;
}


# ---- a snapshot that needs a log which is gone

{
    $s->{kv} =~ s/snapshot=1000m/snapshot=512k/;
    $s->start;
    my $n = 0;
    wait_for(sub {
        $s->put("more$n", 'x' x 15_000);
        $n++;
        files($dir, qr/^snap-.*\.kvs$/);
    }, 60);
    $s->idle;
    $s->stop;

    # its walk was quick: it is made to say that it saw three writes more

    copy($dir);
    my ($snap) = reverse files($other, qr/^snap-.*\.kvs$/);
    my $data = read_file("$other/$snap");
    my $footer = length($data) - 48;
    my $salt = substr $data, 24, 8;
    my $end = 3 + unpack 'Q<', substr $data, $footer + 24, 8;
    substr($data, $footer + 24, 8) = pack 'Q<', $end;
    substr($data, $footer + 4, 4) =
        pack 'V', crc32c($salt . substr $data, $footer + 8);
    write_file("$other/$snap", $data);
    unlink map { "$other/$_" } files($other, qr/^log-/);

    my ($rc, $out, $err) = inspect('repair', $other);
    is($rc, 1, 'a snapshot alone: exit status');
    like($err, qr/needs the log up to LSN $end\b/, 'says why');
    like($out, qr/would make snap-\w+\.alone\n/, 'says what is to be made');

    ($rc, $out, $err) = inspect('repair', '--yes', $other);
    is($rc, 0, 'with --yes: exit status') or diag("$out$err");
    like($out, qr/the next LSN is @{[ $end + 1 ]};/, 'repaired');
    like((inspect('stat', $other))[1], qr/^snap-\w+\.alone: this snapshot/m,
         'stat knows the file that says so');
    starts('a snapshot alone',
           scalar split /\n/, (inspect('dump', $other))[1]);
}


# ---- killed at each call that changes something

{
    copy($dir);
    my ($snap) = reverse files($other, qr/^snap-.*\.kvs$/);

    my $damage = sub {
        copy($dir);
        unlink "$other/$snap";
        $in_batch->();
    };

    $damage->();
    is((inspect('repair', '--yes', $other))[0], 0, 'not killed: repaired');
    my $final = (inspect('dump', $other))[1];
    my ($n, $refused, $done, @bad) = (0, 0, 0);

    for ($n = 1; $n < 200; $n++) {
        $damage->();
        my ($rc) = inspect_end(inspect_begin({ die => $n }, 'repair', '--yes',
                                             $other));
        last if $rc eq '0';
        push @bad, "$n: $rc" if $rc ne 'signal 9';

        my ($status, $dump) = inspect('dump', $other);
        $refused++ if $status eq '1';
        $done++ if $status eq '0';
        push @bad, "killed at call $n: dump ends with $status"
            if $status ne '1' && ($status ne '0' || $dump ne $final);

        ($status) = inspect('repair', '--yes', $other);
        push @bad, "killed at call $n: a second repair ends with $status"
            if $status ne '0' || (inspect('dump', $other))[1] ne $final;
    }

    is_deeply(\@bad, [], 'a kill leaves what is refused, or what is repaired');
    cmp_ok($n, '>', 5, 'at each of some calls');
    cmp_ok($refused, '>', 0, 'some leave it refused');
}


# ---- and a load: what it leaves has all keys, or none

{
    my ($n, @bad, $empty);

    for ($n = 1; $n < 200; $n++) {
        File::Path::remove_tree($other);
        write_file("$s->{dir}/lines", $whole);
        my ($rc) = inspect_end(inspect_begin({ die => $n, in =>
                                               "$s->{dir}/lines" },
                                             'load', $other));
        last if $rc eq '0';
        push @bad, "$n: $rc" if $rc ne 'signal 9';
        next if !-d $other || !files($other, qr/./);

        my ($status, $dump) = inspect('dump', $other);
        $empty++ if $dump eq '';
        push @bad, "killed at call $n: $status"
            if $status ne '0' || ($dump ne '' && $dump ne $whole);
    }

    is_deeply(\@bad, [], 'a load that is killed leaves all or nothing');
    cmp_ok($n, '>', 3, 'at each of some calls');
    ok($empty, 'some leave nothing');
}

$s->done;
done_testing;
