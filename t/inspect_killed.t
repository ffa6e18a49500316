# What makes a directory, killed at each call that changes one: load, import,
# restore of a backup and of an archive.  What it leaves has all keys, or none,
# or another name; what it was made of is as before; and another try, after what
# the first one says if it is refused, makes all of it.

use strict;
use warnings;

use File::Path ();
use Test::More;

use KV::Inspect;
use KV::Test;

my $s = KV::Test->in_memory(zone => '32m');
my $archive = "$s->{path}.archive";
my $backup = "$s->{path}.kvb";
my $lines = "$s->{path}.lines";
my $lkv = "$s->{path}.lkv";
my $made = "$s->{path}.made";
$s->{kv} = "segment=64k max_value=16k snapshot=256k archive=$archive";

sub contents {
    my ($path) = @_;
    return read_file($path) if !-d $path;
    return { map { $_ => read_file("$path/$_") } keys %{list_dir($path)} };
}

sub remove { File::Path::remove_tree($made, "$made.restoring") }

sub dump_of { my ($dir) = @_; return join ' ', (inspect('dump', $dir))[0, 1] }


# ---- some keys; in the archive, snapshots and log, which ends in a batch

$s->start;
my $n = 0;
my $count = sub { scalar grep { /^snap.*kvs$/ } keys %{list_dir($archive)} };
wait_for(sub {
    $s->put('k' . $n++ % 40, "$n " x 2500)->{status} == 200 or die;
    $count->();
}, 60) or die "no snapshot\n";
$s->put("k$_", "$_ " x 2500) for 1 .. 40;
is($s->http(POST => '/batch', body => join '', map {
        qq({"key":"batch$_","value":"$_"}\n) } 1 .. 6)->{status}, 200,
   'a batch');
my $moment = $s->store->{log}{next_lsn} - 1 - 3;
write_file($backup, $s->http(GET => '/backup')->{body});
$s->put('last', 'value');
$s->stop;

write_file($lines, (inspect('dump', $s->{path}))[1]);
mkdir $lkv;
write_file("$lkv/snapshot.json", '{"a":"1","b":"2"}');
write_file("$lkv/wal.jsonl", qq({"op":"set","key":"c","value":"3"}\n));


# ---- killed

# Each is of a source, and given the path that it is to make.

for (['load', $lines, {in => $lines}, 'load', $made],
     ['import', $lkv, {}, 'import', $made, '--from', 'lkv', $lkv],
     ['restore of a backup', $backup, {}, 'restore', $backup, $made],
     ['restore of an archive', $archive, {}, 'restore', $archive, $made,
      '--data', $s->{path}, '--to-lsn', $moment])
{
    my ($name, $source, $options, @args) = @$_;
    my $before = contents($source);
    my ($whole, %left, @bad);

    remove();
    is((inspect_end(inspect_begin($options, @args)))[0], 0, "$name: not killed")
        or next;
    $whole = dump_of($made);

    my $last;
    for my $call (1 .. 200) {
        remove();
        my ($rc) = inspect_end(inspect_begin({ %$options, die => $call },
                                             @args));
        $last = $call;
        last if $rc eq '0';
        push @bad, "$call: $rc" if $rc ne 'signal 9';

        my $is = -e $made && %{list_dir($made)} ? dump_of($made) : 'nothing';
        $left{$is eq $whole ? 'all' : 'none'}++;
        push @bad, "killed at call $call: it holds $is"
            if $is ne 'nothing' && $is ne '0 ' && $is ne $whole;

        # the other name is said, and what to do about it

        my $err;
        ($rc, undef, $err) = inspect_end(inspect_begin($options, @args));
        if (-e "$made.restoring") {
            push @bad, "$call: $err"
                if $rc ne 2 || $err !~ /made\.restoring" is there already/
                   || $err !~ /see to that, delete it, and try again/;
            File::Path::remove_tree("$made.restoring");
            ($rc, undef, $err) = inspect_end(inspect_begin($options, @args));
        }
        push @bad, "killed at call $call, and again: $rc $err"
            if $is eq $whole ? $rc ne 2 || $err !~ /is not empty/
                             : $rc ne 0 || dump_of($made) ne $whole;
    }

    is_deeply(\@bad, [], "$name: all or nothing, and another try does it");
    cmp_ok($last, '>', 4, "$name: at each of some calls");
    cmp_ok($left{none} // 0, '>', 3, "$name: some leave nothing");
    cmp_ok($left{all} // 0, '>', 0, "$name: some leave all");
    is_deeply(contents($source), $before, "$name: the source is as before");
}

$s->done;
done_testing;
