# The power is cut while sync=1s: who goes on from an id of the time that is
# lost gets 410, before and after other writes have its number; who goes on from
# one that is kept sees each change behind it, once.
#
# A cut is made of what the files held when they were last synced: of each
# sector that was written since, the one or the other is what is left.

use strict;
use warnings;

use Test::More;

use KV::Stream;
use KV::Test;

my $ROUNDS = $ENV{KV_ROUNDS} || 3;
my $SEED = $ENV{KV_SEED} || 1 + int rand 1_000_000;
my $SECTOR = 512;

srand($SEED);

my $s = KV::Test->new(kv => 'feed=1m segment=1m max_value=64k sync=1s',
                      server => 'location = /watch { kv_watch main; }');
$s->start;

my @log;                # by LSN, what was written: "put key"
my %seen;               # by id
my %cases;
my $writes = 0;


# So many puts, in some batches, which a watch sees: what its ids are of.

sub watched_puts {
    my ($stream, $n) = @_;
    my $left = $n;

    while ($left > 0) {
        my @puts = map { qq({"key":"k@{[ ++$writes ]}","value":")
                         . 'x' x (1 + rand 700) . qq("}\n)
                       } 1 .. ($left < 3 ? $left : 1 + rand 3);
        $s->http(POST => '/batch', body => join '', @puts)->{status} == 200
            or die 'a batch was refused';
        $left -= @puts;
    }

    for (1 .. $n) {
        my $e = $stream->next or die 'the stream has ended';
        $seen{$e->{id}} = $log[lsn($e->{id})] = "$e->{event} $e->{key}";
    }
}

sub lsn { return hex $_[0] =~ s/-.*//r }

sub durable { return $s->store->{log}{durable_lsn} }


# All of nginx ends; of what was written since the files were `synced` this is
# left: nothing, all, or some.

sub cut_power {
    my ($synced, $left) = @_;
    $s->stop('KILL');

    for my $file (keys %{list_dir($s->{path})}) {
        my $path = "$s->{path}/$file";
        my $was = $synced->{$file};
        my $is = read_file($path);
        next if !defined $was || $was eq $is;

        die "$file has grown" if length $was != length $is;

        # the same file, as it is known by its number

        open(my $f, '+<:raw', $path) or die "$path: $!";
        for (my $at = 0; $at < length $is; $at += $SECTOR) {
            my $old = substr($was, $at, $SECTOR);
            next if $old eq substr($is, $at, $SECTOR) || rand() < $left;
            seek($f, $at, 0);
            print $f $old;
        }
        close $f or die "$path: $!";
    }
}

sub files {
    return { map { $_ => read_file("$s->{path}/$_") }
             keys %{list_dir($s->{path})} };
}


# Of the ids that were ever seen all those of writes that are lost, and some
# others: that of a write which is there is good, and all behind it comes; one
# that is lost is of no use.

sub resume_all {
    my ($what, $kept) = @_;
    my @wrong;

    for my $id (sort { lsn($a) <=> lsn($b) } keys %seen) {
        my $there = ($log[lsn($id)] // '') eq $seen{$id};
        next if $there && rand() < 0.7;
        my $w = KV::Stream->new($s, id => $id);
        my $case = ($there ? 'kept ' : 'lost ') . $w->status;
        $cases{$case}++;

        if ($w->status == 410) {
            push @wrong, "$id: $w->{r}{body}" if $w->{r}{body} !~ /was lost/;
            push @wrong, "$id is kept: 410" if $there && lsn($id) <= $kept;
            next;
        }

        push @wrong, "$id is lost: $case" if $case ne 'kept 200';
        my @behind = @log[lsn($id) + 1 .. $#log];
        my $got = $w->take(scalar @behind);
        push @wrong, "$id: $got" if $got ne join ', ', @behind;
    }

    is(scalar @wrong, 0, $what)
        or diag("seed $SEED: ", join "\n", splice @wrong, 0, 10);
}


for my $round (1 .. $ROUNDS) {
    my $stream = KV::Stream->new($s);
    my ($kept, $synced);

    # again if it was synced too early, as where the machine stands still

    do {
        watched_puts($stream, 3);
        $kept = lsn($stream->{id});
        wait_for(sub { durable() >= $kept }, 20) or die "it is not synced\n";
        $synced = files();
        watched_puts($stream, 3 + int rand 6);
    } while (durable() > $kept);

    cut_power($synced, $round == 1 ? 0 : rand);
    $s->start;
    $#log = $s->store->{log}{next_lsn} - 1;

    if ($round == 1) {
        is(scalar @log, $kept + 1, 'all is lost that was not synced');
        is(KV::Stream->new($s, id => $stream->{id})->status, 410,
           'who goes on from there gets 410');
    }

    watched_puts(KV::Stream->new($s), 9);
    resume_all("round $round: other writes have its number", $kept);

    $s->stop('KILL');
    $s->start;
    resume_all("round $round: nginx has died once more", $kept);
}

cmp_ok($cases{$_} // 0, '>', 0, "cases: $_") for 'kept 200', 'lost 410';
note("seed $SEED: ", join ', ', map { "$_: $cases{$_}" } sort keys %cases);

$s->done;
done_testing();
