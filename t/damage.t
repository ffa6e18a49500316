# Damaged files.  What was never acknowledged may go, quietly; what was is
# never papered over: the server refuses to start, and says where and why.
# The formats are in src/disk/kv_format.h.

# long

use strict;
use warnings;

use File::Copy ();
use IO::Socket::INET;
use Test::More;

use KV::Batches;
use KV::Load;
use KV::Test;

my $HEADER = 4096;
my $node = $ENV{KV_TEST_CLUSTER};
my @KV = (zone => '16m', kv => 'segment=256k max_value=64k snapshot=1000m');


# ---- the files


my @table = map { my $c = $_; $c = $c & 1 ? $c >> 1 ^ 0x82f63b78 : $c >> 1
                      for 1 .. 8; $c } 0 .. 255;

sub crc32c {
    my $crc = 0xffffffff;
    $crc = $table[($crc ^ $_) & 255] ^ $crc >> 8 for unpack 'C*', $_[0];
    return $crc ^ 0xffffffff;
}

is(sprintf('%x', crc32c('123456789')), 'e3069283', 'crc32c');

sub files {
    my ($s, $re) = @_;
    my @files = sort grep { /$re/ } keys %{list_dir($s->{path})};
    return @files;
}

sub logs { files($_[0], qr/^log-.*\.kvl$/) }
sub snaps { files($_[0], qr/^snap-.*\.kvs$/) }

sub poke {
    my ($s, $file, $offset, $bytes) = @_;
    open(my $f, '+<:raw', "$s->{path}/$file") or die "$file: $!";
    seek($f, $offset, 0);
    print $f $bytes;
    close $f or die "$file: $!";
}

sub flip {
    my ($s, $file, $offset) = @_;
    my $byte = substr read_file("$s->{path}/$file"), $offset, 1;
    poke($s, $file, $offset, $byte ^ "\x10");
}

# A server, not started, on a copy of another's directory.

sub copy {
    my ($from) = @_;
    my $s = KV::Test->new(@KV);
    mkdir $s->{path}, 0700;
    for (keys %{list_dir($from->{path})}) {
        File::Copy::copy("$from->{path}/$_", "$s->{path}/$_") or die "$_: $!";
        chmod 0600, "$s->{path}/$_";
    }
    return $s;
}

sub good {
    my ($s, $n) = @_;
    return scalar grep { $s->get("k$_")->{body} eq value("k$_", $_, 500) }
                       1 .. $n;
}


# It starts: all of the first $n keys are there, no other; writes go on, and
# are there after two more restarts.

sub starts {
    my ($name, $s, $n) = @_;

    if (!eval { $s->start }) {
        fail("$name: it starts");
        diag($@);
        return;
    }

    is($s->store->{keys}, $n, "$name: it starts");
    is(good($s, $n), $n, "$name: all is there");

    for my $round (1, 2) {
        $s->put("more$round", "more $round");
        $s->stop($round == 1 ? 'KILL' : 'TERM');
        $s->start;
        is($s->get("more$round")->{body}, "more $round",
           "$name: round $round: writes go on");
        is(good($s, $n), $n, "$name: round $round: all is there");
        is($s->store->{keys}, $n + $round, "$name: round $round: no more");
    }

    $s->done;
}


# It refuses to start, with words that match all of these, and changes nothing.

sub refuses {
    my ($name, $s, @words) = @_;
    my $before = list_dir($s->{path});

    my ($rc, $out) = $s->refused;
    ok($rc, "$name: it refuses to start") or return;
    like($out, qr/\[emerg\].*$_/, "$name: it says $_")
        for map { ref $_ ? $_ : qr/\b\Q$_\E\b/ } @words;

    my $after = list_dir($s->{path});
    delete $_->{'kv.lock'} for $before, $after;
    is_deeply($after, $before, "$name: nothing is changed");
    $s->expect_log(qr/\[emerg\]/);
    $s->check_log;
}


# ---- one segment, a batch for each key


my $one = KV::Test->new(@KV);
$one->start;
$one->put("k$_", value("k$_", $_, 500)) for 1 .. 30;
$one->stop;

my ($file) = logs($one);
my @b = records("$one->{path}/$file");
my $mark = (batches("$one->{path}/$file"))[-1];
my $end = $mark->{offset} + 80;

# A clean stop notes where the log ends, so that what is gone of its end is
# missed even if the mark is gone, too.

my $note = sprintf 'log-%016x.closed', 30;
is_deeply([files($one, qr/closed/)], [$note], 'a clean stop closes the log');

{
    my $s = copy($one);
    poke($s, $file, $end - 800, "\0" x 800);
    refuses('closed, the last 800 bytes are gone', $s, $file,
            $b[28]{offset}, $note);

    # as after a power cut, where a start cannot know

    unlink "$s->{path}/$note";
    $s->expect_log(qr/\[emerg\].*\Q$file\E/);
    starts('the same without the note', $s, 28);

    $s = copy($one);
    unlink "$s->{path}/$file";
    refuses('closed, and no log', $s, qr/no log-\*\.kvl/, $note);

    # what a start that fails at the port leaves

    $s = copy($one);
    my $taken = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1',
                                      LocalPort => $s->{port}, ReuseAddr => 1)
        or die "port $s->{port}: $!";
    like(($s->refused)[1] // '', qr/bind\(\) to .* failed/, 'a port in use');
    close $taken;
    is_deeply([files($s, qr/closed/)], [$note], 'the note is still there');
    poke($s, $file, $end - 800, "\0" x 800);
    refuses('closed, a start failed, the last 800 bytes are gone', $s, $file,
            $b[28]{offset}, $note);

    # a write that finds no log leaves it, too: the next start must know

    SKIP: {
        skip('a node of a cluster writes at its start', 4) if $node;
        $s = copy($one);
        $s->start;
        unlink "$s->{path}/$file";
        is($s->put('more', 'more')->{status}, 503, 'no log to write to');
        is_deeply([files($s, qr/closed/)], [$note], 'the note stays');
        $s->expect_log(qr/\[(?:crit|error|alert)\].*\Q$file\E/);
        $s->stop;
        refuses('closed, started, and no log', $s, qr/no log-\*\.kvl/, $note);
    }

    # where the file ends with the last batch only the note says so, however
    # often it is started

    $s = copy($one);
    truncate("$s->{path}/$file", $mark->{offset}) or die;
    for my $way (qw(TERM QUIT KILL TERM)) {
        ok(eval { $s->start }, "closed, and cut there: it starts, $way")
            or diag($@), last;
        is($s->store->{keys}, 30, "closed, and cut there: all is there, $way");
        $s->stop($way);
    }
    starts('closed, and cut there', $s, 30);

    # an older copy was put over it: what is newer counts, but not silently

    $s = copy($one);
    $s->start;
    $s->put('more', 'more');
    $s->stop('KILL');
    write_file("$s->{path}/$note", read_file("$one->{path}/$note"));
    $s->start;
    is($s->get('more')->{body}, 'more',
       'the note of an older end: all is read');
    like($s->log, qr/\[warn\].*\Q$note\E.* LSN 31, .*not into an empty/,
         'and it is said');
    $s->done;

    for my $way (qw(TERM QUIT KILL)) {
        $s = copy($one);
        $s->start;
        is_deeply([files($s, qr/closed/)], [$note], "$way: a start keeps it")
            unless $node;
        $s->put('more', 'more');
        is_deeply([files($s, qr/closed/)], [], "$way: a write does not");
        $s->stop($way);
        is_deeply([files($s, qr/closed/)],
                  [$way eq 'KILL' ? () : 'log-000000000000001f.closed'],
                  "$way: a note");
    }
}

unlink "$one->{path}/$note";

is(scalar @b, 30, 'a batch for each of 30 writes');
is($mark->{count}, 0, 'and a mark');

starts('untouched', copy($one), 30);

for my $what ([ zeroes => "\0" x 5000 ],
              [ garbage => value('garbage', 1, 5000) ],
              [ 'an old batch' => substr read_file("$one->{path}/$file"),
                                         $b[3]{offset}, 2000 ])
{
    my ($name, $bytes) = @$what;

    my $s = copy($one);
    poke($s, $file, $end, $bytes);
    starts("$name after the end", $s, 30);

    $s = copy($one);
    poke($s, $file, $mark->{offset}, $bytes);
    starts("$name over the mark", $s, 30);

    # a write that was under way when the power went: it need not have
    # been durable

    for my $keep (0, 8, 79, 80, 300, $b[29]{length} - 8) {
        $s = copy($one);
        poke($s, $file, $b[29]{offset} + $keep, $bytes);
        starts("$name over the last batch from byte $keep on", $s, 29);
    }
}

# the last batch, when the mark behind it says that it was durable

for my $at (0, 4, 16, 24, 40, 72, 100, $b[29]{length} - 20) {
    my $s = copy($one);
    flip($s, $file, $b[29]{offset} + $at);
    refuses("byte $at of the last batch, which was durable", $s, $file,
            $b[29]{offset});
}

# the middle

for my $i (0, 1, 10, 28) {
    my $s = copy($one);
    flip($s, $file, $b[$i]{offset} + 100);
    refuses("batch $i damaged", $s, $file, $b[$i]{offset});
}

{
    my $s = copy($one);
    poke($s, $file, $b[10]{offset}, "\0" x $b[10]{length});
    refuses('a batch zeroed', $s, $file, $b[10]{offset});

    $s = copy($one);
    poke($s, $file, $b[10]{offset}, "\0" x 4096);
    refuses('a disk block zeroed', $s, $file, $b[10]{offset});

    $s = copy($one);
    poke($s, $file, $b[10]{offset} + 8, pack 'V', 0xfffffff0);
    refuses('an absurd length', $s, $file, $b[10]{offset});

    $s = copy($one);
    my $bytes = read_file("$s->{path}/$file");
    poke($s, $file, $b[10]{offset}, substr $bytes, $b[9]{offset},
         $b[9]{length});
    refuses('a batch over another', $s, $file, $b[10]{offset});

    # it can be put right, and then nothing is lost

    poke($s, $file, 0, $bytes);
    $s->expect_log(qr/\[emerg\].*\Q$file\E/);
    starts('the file brought back', $s, 30);
}


# the segment's header and size

for my $at (0, 8, 16, 24, 32, 100, 4095) {
    my $s = copy($one);
    flip($s, $file, $at);
    refuses("byte $at of the header", $s, $file);
}

{
    my $s = copy($one);
    my $header = substr read_file("$s->{path}/$file"), 0, $HEADER;
    substr($header, 8, 8) = pack 'V2', 3, 0;
    substr($header, 12, 4) = pack 'V', crc32c($header);
    poke($s, $file, 0, $header);
    refuses('a format of the future', $s, $file, qr/version/);

    for my $size (0, 100, $HEADER, $b[15]{offset} + 50, $end - 1) {
        $s = copy($one);
        truncate("$s->{path}/$file", $size) or die;
        refuses("a segment cut to $size bytes", $s, $file);
    }

    # the mark says that none of what is gone was used; and what is added to
    # a file does not touch what is in it

    for my $size ($end, 256 * 1024 - 8, 256 * 1024 + 1, 260 * 1024) {
        $s = copy($one);
        truncate("$s->{path}/$file", $size) or die;
        starts("a segment of $size bytes", $s, 30);
        like($s->log, qr/\[warn\].*\Q$file\E:[ ]offset[ ]\d+:
                         [ ]the[ ](?:file|segment)[ ]ends[ ]here/x,
             "a segment of $size bytes: it says so");
    }
}

# what is not ours

{
    my $s = copy($one);
    write_file("$s->{path}/README", 'not ours');
    write_file("$s->{path}/log-1.kvl", 'not ours');
    write_file("$s->{path}/snap-0000000000000005.tmp", 'half a snapshot');
    write_file("$s->{path}/spare-7.tmp", 'half a spare');
    starts('strange files', $s, 30);
    is(read_file("$s->{path}/README"), 'not ours', 'they stay');
    is(scalar(files($s, qr/^(?:snap|spare).*\.tmp$/)), 0,
       'half files of ours go');
}


# ---- several segments


my $many = KV::Test->new(@KV);
$many->start;
$many->put("k$_", value("k$_", $_, 500)) for 1 .. 30;
$many->put("fill$_", value("fill$_", $_, 20_000)) for 1 .. 40;
$many->stop;

unlink map { "$many->{path}/$_" } files($many, qr/closed/);

my @logs = logs($many);
cmp_ok(scalar @logs, '>=', 4, 'several segments');

{
    my $s = copy($many);
    $s->start;
    is(good($s, 30), 30, 'untouched, several segments');
    is(scalar(grep { $s->get("fill$_")->{body}
                     eq value("fill$_", $_, 20_000) } 1 .. 40), 40,
       'untouched, several segments: all of it');
    $s->done;

    for my $i (0 .. $#logs) {
        $s = copy($many);
        unlink "$s->{path}/$logs[$i]";
        next if $i == $#logs;     # it may never have been written to
        refuses("segment $i missing", $s, qr/log-/);
    }

    for my $i (0, 1) {
        my @b = records("$many->{path}/$logs[$i]");

        for my $batch ($b[0], $b[-1]) {
            $s = copy($many);
            flip($s, $logs[$i], $batch->{offset} + 60);
            refuses("segment $i, batch at $batch->{offset}", $s, $logs[$i],
                    $batch->{offset});
        }
    }
}


# ---- snapshots


my $snap = KV::Test->new(@KV);
$snap->{kv} =~ s/1000m/600k/;
$snap->start;
$snap->put("k$_", value("k$_", $_, 500)) for 1 .. 30;

my ($n, $ok) = (0);
while ($n < 400) {
    $n++;
    $snap->put("fill$n", value("fill$n", $n, 20_000));
    $snap->del('fill' . ($n - 50)) if $n > 50;
    my $st = $snap->store->{snapshots};
    last if $ok = $st->{completed} >= 3 && snaps($snap) >= 2;
}
ok($ok, 'two snapshots');
$snap->put('last', 'written');
$snap->stop('KILL');

my @snaps = snaps($snap);
my $keys;

sub whole {
    my ($s, $name) = @_;
    is(good($s, 30), 30, "$name: all is there");
    is(scalar(grep { $s->get("fill$_")->{body}
                     eq value("fill$_", $_, 20_000) } $n - 49 .. $n), 50,
       "$name: all of it");
    is($s->get('last')->{body}, 'written', "$name: to the last write");
    is($s->store->{keys}, 81, "$name: and nothing else");
}

{
    my $s = copy($snap);
    $s->start;
    whole($s, 'untouched snapshots');
    $s->done;

    my $size = -s "$snap->{path}/$snaps[-1]";

    for my $at (0, 30, 70, 100, int($size / 2), $size - 100, $size - 30) {
        $s = copy($snap);
        flip($s, $snaps[-1], $at);
        ok(eval { $s->start }, "byte $at of the newest snapshot: it starts")
            or diag($@), next;
        whole($s, "byte $at of the newest snapshot");
        like($s->log, qr/\[(?:warn|notice|error)\].*\Q$snaps[-1]\E/,
             "byte $at of the newest snapshot: it says so");
        is_deeply([snaps($s)], [@snaps[0 .. $#snaps - 1]],
                  "byte $at of the newest snapshot: it no longer counts");
        ok(-e "$s->{path}/$snaps[-1].damaged",
           "byte $at of the newest snapshot: it is kept");
        $s->done;
    }

    for my $cut (0, 63, int($size / 2), $size - 1) {
        $s = copy($snap);
        truncate("$s->{path}/$snaps[-1]", $cut);
        ok(eval { $s->start }, "newest snapshot cut to $cut: it starts")
            or diag($@), next;
        whole($s, "newest snapshot cut to $cut");
        $s->done;
    }

    # nothing is wrong with what is before the footer's end

    $s = copy($snap);
    truncate("$s->{path}/$snaps[-1]", $size + 100);
    $s->start;
    whole($s, 'newest snapshot with more behind it');
    like($s->log, qr/\[warn\].*\Q$snaps[-1]\E" ends at offset $size/,
         'newest snapshot with more behind it: it says so');
    $s->done;

    # both damaged, or none, and the log before them gone

    cmp_ok(hex((logs($snap))[0] =~ s/^log-|\..*//gr), '>', 1,
           'the first segments are gone');

    $s = copy($snap);
    flip($s, $_, 70) for @snaps;
    refuses('every snapshot damaged', $s, qr/snap-|log-/);

    $s = copy($snap);
    unlink "$s->{path}/$_" for @snaps;
    refuses('every snapshot missing', $s, qr/log-|snapshot/);

    # the newest damaged, and the log behind the older one not whole

    $s = copy($snap);
    flip($s, $snaps[-1], 70);

    # those before it may still be there, where the kill came before the purge

    my @logs = logs($s);
    my ($from) = map { hex } $snaps[-2] =~ /^snap-(\w+)/;
    shift @logs
        while @logs > 1 && hex(($logs[1] =~ /^log-(\w+)/)[0]) <= $from + 1;
    unlink "$s->{path}/$_" for grep { defined } @logs[0, 1];
    refuses('the newest damaged, and the log of the other missing', $s,
            qr/log-|snap-/);

    # a snapshot that is ahead of its log

    $s = copy($snap);
    unlink "$s->{path}/$_" for logs($s);
    my ($rc) = $s->refused;
    if (!defined $rc) {
        # nothing was written while it was taken; then it stands for itself,
        # but nothing tells that the last write is lost
        is(good($s, 30), 30, 'a snapshot without a log');
        $s->stop;
    } else {
        ok($rc, 'a snapshot whose log is missing is refused');
    }
}

done_testing();
