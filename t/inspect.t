# kv-inspect: what it says of directories that a real nginx wrote, whole and
# damaged; and that what it dumps can be loaded, and posted to a server.

# long

use strict;
use warnings;

use File::Copy ();
use JSON::PP ();
use List::Util qw(shuffle);
use MIME::Base64 qw(encode_base64);
use POSIX ();
use Test::More;
use Time::HiRes qw(time);

use KV::Batches;
use KV::Inspect;
use KV::Test;

my $s = KV::Test->in_memory(zone => '64m',
    kv => 'segment=256k max_value=64k snapshot=1000m list=on',
    server => 'location = /keys { kv_keys main; }');
my $dir = $s->{path};
my $other = "$dir-other";


# A copy of a directory, of which nothing is locked.

sub copy {
    my ($from, $to) = @_;
    mkdir $to, 0700 or die "$to: $!";
    for (keys %{list_dir($from)}) {
        next if $_ eq 'kv.lock';
        File::Copy::copy("$from/$_", "$to/$_") or die "$_: $!";
    }
    return $to;
}

sub remove {
    my ($path) = @_;
    unlink glob("$path/*");
    rmdir $path;
}

sub files {
    my ($path, $re) = @_;
    my @files = sort grep { /$re/ } keys %{list_dir($path)};
    return @files;
}

sub flip {
    my ($file, $offset) = @_;
    my $data = read_file($file);
    substr($data, $offset, 1) ^= "\x10";
    write_file($file, $data);
}

# What it says and how it ends; and that it changes nothing.

sub says {
    my ($name, $args, $rc, $out, $err) = @_;
    my $path = -d $args->[-1] && !$s->{pid} && $args->[-1];
    my $before = $path && list_dir($path);
    my @got = inspect(@$args);

    is($got[0], $rc, "$name: exit status") or diag("@got");
    like($got[1], $out, "$name: output");
    like($got[2], $err, "$name: messages");
    is_deeply(list_dir($path), $before, "$name: nothing is changed") if $path;
    return @got;
}


# ---- the command line

like((inspect('--help'))[1], qr/\bcheck FILE\|DIR\n.*\bload DIR\n/s, '--help');
my ($version) = read_file('src/CHANGES.md') =~ /_module (\S+)/;
is((inspect('--version'))[1],
   "kv-inspect of ngx_http_kv_module $version, format 2\n", '--version');

for ([ [], 'a command is missing' ], [ [ 'chekc', 'x' ], 'unknown command' ],
     [ [ 'check' ], 'a file or a directory is missing' ],
     [ [ 'dump', 'a', 'b' ], '"b" is too much' ],
     [ [ 'stat', '--all', 'a' ], 'unknown option "--all"' ],
     [ [ 'stat', 'a', '-x' ], 'unknown option "-x"' ],
     [ [ 'restore', 'a', '-x' ], 'unknown option "-x"' ],
     [ [ 'repair', 'a', '--yes=no' ], '--yes takes no value' ],
     [ [ 'log', 'a', '--from' ], '--from needs a value' ],
     [ [ 'log', 'a', '--from=' ], '--from needs a value' ],
     [ [ 'log', '--from', 1, '--from=2', 'a' ], '--from is given twice' ],
     [ [ 'import', 'a', '--from', 'lkv', 'b', '--db', 1 ],
       '--db is for --from redis' ],
     [ [ 'load', '' ], 'a directory is missing' ])
{
    my ($args, $says) = @$_;
    my ($rc, $out, $err) = inspect(@$args);
    is($rc, 2, "@$args: exit status");
    is($out, '', "@$args: no output");
    like($err, qr/^kv-inspect: .*\Q$says\E.*\nTry "kv-inspect --help"\.\n$/,
         "@$args: says $says");
}

for ([ 'nowhere', qr/"nowhere": No such file/ ],
     [ $s->{dir}, qr/has no file of a kv_zone/ ],
     [ '/dev/null', qr/"\/dev\/null"/ ])
{
    my ($path, $says) = @$_;
    for my $command (qw(check stat dump)) {
        my ($rc, $out, $err) = inspect($command, $path);
        is($rc, 2, "$command $path: exit status");
        like($err, $says, "$command $path: says why");
    }
}

like((inspect($_, 'README.md'))[2],
     qr/"README\.md" is a file, .* "kv-inspect restore" makes one$/,
     "$_ of a file") for qw(stat dump log repair);

# Options stand anywhere, and have their value in either way; "--" ends them.

for my $args ([qw(log --from=1 --follow nowhere)],
              [qw(log nowhere -f --from 1)],
              [qw(restore nowhere none --to-lsn=1)],
              [qw(restore --to-lsn 1 -- nowhere none)],
              [qw(repair --yes nowhere)],
              [qw(import --from=lkv none nowhere)],
              [qw(check -- nowhere)])
{
    like((inspect(@$args))[2], qr/"nowhere.*": No such file/, "@$args");
}

like((inspect('check', '--', '-x'))[2], qr/"-x": No such file/,
     'a name that begins as an option does');

for my $command ((inspect('--help'))[1] =~ /^    (\w+) /mg) {
    like((inspect($command, 'x', $_))[1], qr/^Usage: kv-inspect $command /,
         "$command $_") for qw(--help -h);
}

# The manual page names what there is, and is well-formed.

{
    my $page = read_file('src/tool/kv-inspect.1');
    my @commands = (inspect('--help'))[1] =~ /^    (\w+) /mg;
    like($page, qr/^\.BI "?$_\b/m, "the manual page has $_") for @commands;

    SKIP: {
        skip 'no man', 1 if system('command -v man >/dev/null') != 0;
        is(qx(man --warnings -E UTF-8 -l -Tutf8 -Z src/tool/kv-inspect.1 \\
              2>&1 >/dev/null), '', 'groff warns of nothing');
    }

    SKIP: {
        skip 'no mandoc', 1 if system('command -v mandoc >/dev/null') != 0;
        is(qx(mandoc -T lint -W warning src/tool/kv-inspect.1 2>&1), '',
           'mandoc warns of nothing');
    }
}


# ---- a store with all kinds of values, written by nginx

my %values = map { sprintf('byte:%02x', $_) => chr($_) } 0 .. 255;
$values{all} = join '', map { chr } 0 .. 255;
$values{'k' x 900} = 'a long key';
$values{large} = join '', map { chr(int rand 256) } 1 .. 60_000;
$values{text} = "caf\xc3\xa9 \"quoted\" \\ \n\r\t\x00\x7f </script>";
$values{controls} = "\x01\x02\x03";
$values{'not.utf8'} = "\xed\xa0\x80";
$values{"small$_"} = "value $_" for 1 .. 300;

# The keys that come first are in a snapshot, the others in the log.

my @keys = shuffle(sort keys %values);
my ($early, $late) = ([ @keys[0 .. 299] ], [ @keys[300 .. $#keys] ]);

sub lines {
    return join '', map { JSON::PP->new->canonical->encode({
        key => $_, base64 => encode_base64($values{$_}, '') }) . "\n" } @_;
}

$s->start;
is($s->http(POST => '/bulk', body => lines(@$early))->{status}, 200, 'early');
$s->put('deleted', 'x');
$s->put('overwritten', 'old');
$s->put('short', 'x');
$s->stop;

# snapshot=1000m makes none by itself: one run with a small one does.

{
    my $kv = $s->{kv};
    $s->{kv} =~ s/snapshot=1000m/snapshot=512k/;
    $s->start;
    wait_for(sub {
        $s->put('filler', 'x' x 60_000);
        files($dir, qr/^snap-.*\.kvs$/);
    }, 60);
    $s->idle;
    $s->stop;
    $s->{kv} = $kv;
}

$s->start;
$s->del('filler');
is($s->http(POST => '/bulk', body => lines(@$late))->{status}, 200, 'late');
$s->del('deleted');
$s->put('overwritten', 'new');
$s->http(PUT => '/kv/expires?ttl=100000', body => 'later');
$s->http(PUT => '/kv/touched', body => 'touched');
$s->http(POST => '/kv/touched?ttl=200000');
$s->http(PUT => '/kv/untouched?ttl=300000', body => 'for ever');
$s->http(POST => '/kv/untouched?ttl=0');
$s->http(PUT => '/kv/short?ttl=1', body => 'soon gone');
$values{overwritten} = 'new';
$values{expires} = 'later';
$values{touched} = 'touched';
$values{untouched} = 'for ever';

wait_for(sub { $s->get('short')->{status} == 404 }, 10);

# What the server itself prints, of one page.

my $listed = $s->http(GET => '/keys?values=1&limit=10000',
                      headers => [ 'Accept: application/x-ndjson' ]);
is($listed->{status}, 200, 'the server lists its keys as lines');
my %listed = map { ($_->{key} => $_) }
             map { JSON::PP::decode_json($_) } split /\n/, $listed->{body};
is(scalar keys %listed, scalar keys %values, 'all of them');


my $backup = $s->http(GET => '/backup');
is($backup->{status}, 200, 'and gives a backup');


# ---- in use

{
    my ($pid) = read_file("$s->{dir}/nginx.pid") =~ /(\d+)/;

    for my $command (qw(check dump load)) {
        says("$command: in use", [ $command, $dir ], 2, qr/^$/,
             qr/"\Q$dir\E" is in use by process $pid: \S/);
    }

    mkdir "$s->{dir}/lkv";
    write_file("$s->{dir}/lkv/snapshot.json", '{"a":"1"}');
    says('import: in use', [ 'import', '--from', 'lkv', $dir, "$s->{dir}/lkv" ],
         2, qr/^$/, qr/"\Q$dir\E" is in use by process $pid: \S/);

    says('stat: in use', [ 'stat', $dir ], 0,
         qr/^directory: \Q$dir\E\nin use: process $pid\n.*^snapshots: [12], /ms,
         qr/^$/);
}

$s->stop;


# ---- a whole directory

says('check', [ 'check', $dir ], 0,
     qr/^snap-\w+\.kvs: good: \d+ records, LSN .*^log-\w+\.kvl: good: \d/ms,
     qr/^$/);
says('check', [ 'check', $dir ], 0,
     qr/^\Q$dir\E: good: a start reads snap-\w+\.kvs .* was closed$/m, qr/^$/);
says('stat', [ 'stat', $dir ], 0,
     qr/in use: no\n.*format 2.*log was closed with LSN \d+/s, qr/^$/);

my (undef, $dump) = says('dump', [ 'dump', $dir ], 0, qr/^\{"key":"all"/,
                         qr/^$/);

sub decoded {
    my %keys;

    for my $line (split /\n/, $_[0]) {
        my $o = JSON::PP->new->utf8->decode($line);
        my $value = $o->{value};

        if (defined $value) {
            utf8::encode($value);
        } else {
            $value = MIME::Base64::decode_base64($o->{base64});
        }

        $keys{$o->{key}} = $value;
    }

    return \%keys;
}

is_deeply(decoded($dump), \%values, 'the dump has all keys and values');
is_deeply([ $dump =~ /"key":"([^"]*)"/g ], [ sort keys %values ],
          'in the order of their bytes');
is_deeply(decoded($listed->{body}), \%values, 'and so had the list');

for my $key (sort keys %values) {
    my ($line) = $dump =~ /^(\{"key":"\Q$key\E".*)$/m;
    my ($at) = $line =~ /"expires":(\d+)/;

    if (defined $listed{$key}{expires}) {
        cmp_ok(abs($at - $listed{$key}{expires}), '<=', 1, "$key expires");
    } elsif (defined $at) {
        fail("$key does not expire");
    }
}

ok(index($dump, qq({"key":"text","value":"caf\xc3\xa9 \\"quoted\\" \\\\ )
                . qq(\\n\\r\\t\\u0000\x7f </script>"}\n)) > 0,
   'text is a string');


# ---- dump, load, dump

sub load {
    my ($lines, $path) = @_;
    my ($rc, $out, $err) = inspect_with($lines, 'load', $path);
    is($rc, 0, 'load: exit status') or diag($err);
    is($err, '', 'load: no message');
    return $out;
}

like(load($dump, $other), qr/^\d+ lines are in "\Q$other\E" now$/, 'load');
is((inspect('dump', $other))[1], $dump, 'dump, load, dump: the same bytes');
says('check', [ 'check', $other ], 0, qr/: good: a start reads snap-/, qr/^$/);
is((stat $other)[2] & 07777, 0700, 'its mode');
is((stat "$other/snap-0000000000000001.kvs")[2] & 07777, 0600, "its file's");

# what the server prints, into a directory that is there, and empty

mkdir "$s->{dir}/list", 0700;
load($listed->{body}, "$s->{dir}/list");
is_deeply(decoded((inspect('dump', "$s->{dir}/list"))[1]), \%values,
          "the server's list can be loaded");
remove("$s->{dir}/list");

# nginx starts on it, as another user, and goes on

{
    my $nobody = join ' ', 'nobody', getgrgid((getpwnam 'nobody')[3]) || ();
    my $s2 = KV::Test->new(zone => '64m', kv => 'segment=256k max_value=64k '
                                                . 'list=on',
                           path => $other,
                           $> == 0 ? (user => $nobody) : ());
    $s2->start;
    is($s2->store->{keys}, scalar keys %values, 'a server starts on it');
    is_deeply([ grep { $s2->get($_)->{body} ne $values{$_} }
                sort keys %values ], [], 'and has all values');
    like($s2->get('touched')->{headers}{expires}, qr/GMT/, 'and expiries');
    is($s2->put('more', 'x')->{status}, 200, 'and takes writes');
    $s2->clear;
    is($s2->http(POST => '/bulk', body => $dump)->{status}, 200,
       'the dump can be posted');
    $s2->stop;
    is((inspect('dump', $other))[1], $dump, 'and is dumped as it was');
    $s2->done;
}

# ---- a backup

{
    my $file = "$s->{dir}/main.kvb";
    write_file($file, $backup->{body});

    says('a backup', [ 'check', $file ], 0,
         qr/^\Q$file\E: good: a backup of what was stored up to LSN \d+, /,
         qr/^$/);

    remove($other);
    my ($rc, $out, $err) = inspect('restore', $file, $other);
    is($rc, 0, 'restore: exit status') or diag($err);
    like($out, qr/^"\Q$other\E" holds what was stored up to LSN \d+ now$/,
         'restore: says up to where');
    is((inspect('dump', $other))[1], $dump, 'restore: the same keys');
    is((inspect('check', $other))[0], 0, 'restore: it is whole');
    unlike((inspect('stat', $other))[1], qr/not a file of the store/,
           'restore: stat knows all files');

    ($rc, $out, $err) = inspect('restore', $file, $other);
    is($rc, 2, 'restore into data: exit status');
    like($err, qr/\Q$other\E" is not empty/, 'restore into data: refused');
    remove($other);

    for my $args ([], [ $file ], [ '--all', $other ], [ $file, 'b', 'c' ]) {
        is((inspect('restore', @$args))[0], 2, "restore @$args: exit status");
    }

    flip($file, length($backup->{body}) / 2);

    for my $command ([ 'check', $file ], [ 'restore', $file, $other ]) {
        my ($rc, $out, $err) = inspect(@$command);
        is($rc, 1, "a changed backup: $command->[0]: exit status");
        like($err, qr/\Q$file\E/, "a changed backup: $command->[0]");
        ok(!-e $other, "a changed backup: $command->[0]: nothing is left");
    }

    ($rc, $out, $err) = inspect('restore', '/dev/null', $other);
    is($rc, 2, 'restore what is no file: exit status') or diag("$rc $err");
    unlink $file;
}

# keys and values as no request has them: the longest, the largest

{
    my $long = 'k' x 16384;
    my $large = join '', map { chr($_ * 7 & 255) } 1 .. 3 << 20;
    my $lines = qq({"key":"$long","value":"x"}\n{"key":"large","base64":")
                . encode_base64($large, '') . qq("}\n);

    remove($other);
    load($lines, $other);
    is((inspect('dump', $other))[1], $lines, 'a long key, a large value');
    remove($other);
}


# ---- a standard stream that is closed is no file of the store

{
    write_file("$s->{dir}/lines", $dump);
    my @program = KV::Inspect::program();
    is(system('sh', '-c', '"$@" <"$0" >&- 2>&-', "$s->{dir}/lines", @program,
              'load', $other) >> 8, 2, 'no output: exit status');
    unlike(read_file("$other/kv.lock"), qr/lines/, 'no output: no file has it');
    is((inspect('dump', $other))[1], $dump, 'no output: but all is there');
    remove($other);
}


# ---- lines that cannot be loaded

for ([ qq({"key":"a","value":"x"}\n{"key":"b"}\n), 'line 2: ' ],
     [ qq({"key":"a","value":"x"}\n\n{"op":"delete","key":"b"}\n),
       'line 3: a new store has nothing to delete' ],
     [ qq({"key":"a\\n","value":"x"}\n), 'line 1: .*invalid characters' ],
     [ qq({"key":"a","value":"x","expires":253402300800}\n),
       'line 1: invalid expires' ],
     [ qq({"key":"a","value":""}\n), 'line 1: .*empty' ],
     [ qq({"key":"a","value":"x"), 'line 1: ' ],
     [ "\x00\n", 'line 1: ' ])
{
    my ($lines, $says) = @$_;
    my ($rc, $out, $err) = inspect_with($lines, 'load', $other);
    is($rc, 2, "$says: exit status");
    like($err, qr/^kv-inspect: standard input, $says/, "$says: says so");
    ok(!-e $other, "$says: nothing is left");
}

load(qq({"key":"a","value":"x"}\n{"key":"old","value":"x","expires":1}\n)
     . qq({"key":"a","value":"y","ttl":1000}\n), $other);
like((inspect('dump', $other))[1],
     qr/^\{"key":"a","expires":\d+,"value":"y"\}\n$/,
     'the last line counts, what has expired is gone');
remove($other);

is(load('', $other), qq(0 lines are in "$other" now\n), 'no line');
is((inspect('dump', $other))[1], '', 'no key');
remove($other);

{
    my ($rc, $out, $err) = inspect_with($dump, 'load', $dir);
    is($rc, 2, 'load into data: exit status');
    like($err, qr/is not empty: it holds "log-/, 'load into data: refused');
}


# ---- ended while it loads

for my $signal (qw(INT TERM HUP KILL)) {
    my $fifo = "$s->{dir}/fifo";
    POSIX::mkfifo($fifo, 0600);
    my $run = inspect_begin({ in => $fifo }, 'load', $other);
    open(my $w, '>', $fifo) or die "$fifo: $!";
    syswrite $w, $dump;

    wait_for(sub { files($other, qr/^snap-.*\.tmp$/) }, 20);
    my ($rc, $out, $err) = inspect_end($run, $signal);
    close $w;
    unlink $fifo;

    my %numbers = (INT => 2, TERM => 15, HUP => 1, KILL => 9);
    is($rc, "signal $numbers{$signal}", "$signal: ends by it");

    if ($signal ne 'KILL') {
        ok(!-e $other, "$signal: nothing is left");
        next;
    }

    says('after KILL', [ 'dump', $other ], 0, qr/^$/, qr/^$/);
    load($dump, $other);
    is((inspect('dump', $other))[1], $dump, 'after KILL: it can be loaded');
    is_deeply([ files($other, qr/tmp/) ], [], 'after KILL: nothing unfinished');
    remove($other);
}


# ---- progress: a bar on a terminal, nothing elsewhere

SKIP: {
    skip 'no script(1)', 3 if system('command -v script >/dev/null') != 0;

    my $fifo = "$s->{dir}/fifo";
    my $shown = "$s->{dir}/shown";
    POSIX::mkfifo($fifo, 0600);
    my $pid = fork // die "fork: $!";

    if ($pid == 0) {
        open STDOUT, '>', '/dev/null';
        my $program = join ' ', KV::Inspect::program();
        exec 'script', '-q', '-e', '-f', '-c', "$program load $other <$fifo",
             $shown or POSIX::_exit(99);
    }

    open(my $w, '>', $fifo) or die "$fifo: $!";
    my $n = 0;
    ok(wait_for(sub {
        syswrite $w, qq({"key":"k@{[ $n++ ]}","value":"x"}\n);
        return (eval { read_file($shown) } // '') =~ /loading: \d/;
    }, 30), 'a terminal shows how far it is');
    close $w;
    waitpid $pid, 0;
    is($?, 0, 'and it ends well');
    like(read_file($shown), qr/\r\e\[K$n lines are in/, 'without its bar');
    remove($other);

    # for as long, and longer, where nobody looks

    my $run = inspect_begin({ in => $fifo }, 'load', $other);
    open($w, '>', $fifo) or die "$fifo: $!";
    my $end = time + 2;
    $n = 0;
    wait_for(sub {
        syswrite $w, qq({"key":"k@{[ $n++ ]}","value":"x"}\n);
        return time > $end;
    }, 30);
    close $w;
    my ($rc, undef, $err) = inspect_end($run);
    is($rc, 0, 'elsewhere, too');
    is($err, '', 'and says nothing of how far it is');
    unlink $fifo;
    remove($other);
}


# ---- a full disk, and output that nobody takes

SKIP: {
    my $mnt = $s->mount('full', 'size=64k');
    skip 'only root can mount', 4 if !$mnt;

    my ($rc, $out, $err) = inspect_with($dump, 'load', "$mnt/data");
    is($rc, 2, 'full disk: exit status');
    like($err, qr/No space left on device; free space/, 'full disk: says so');
    ok(!-e "$mnt/data", 'full disk: nothing is left');

    ($rc, $out, $err) = inspect_end(inspect_begin({ out => '/dev/full' },
                                                  'dump', $dir));
    is($rc, 2, 'full output: exit status');
    like($err, qr/cannot write to standard output: No space/, 'says so');
}


# ---- damage

sub refuses {
    my ($name, $path, $says) = @_;

    my (undef, undef, $err) =
        says("$name: check", [ 'check', $path ], 1, qr//,
             qr/a start would be refused: .*$says.*restore the data directory/);
    says("$name: dump", [ 'dump', $path ], 1, qr/^$/, $says);

    # nginx says the same

    my $s2 = KV::Test->new(zone => '64m', kv => 'segment=256k max_value=64k',
                           path => $path);
    my ($rc, $out) = $s2->refused;
    my ($why) = $err =~ /a start would be refused: (.*)/;
    like($out, qr/\Q$why\E/, "$name: nginx says the same");
    $s2->expect_log(qr/\[emerg\]/, qr/\[warn\]/);
    $s2->check_log;
}

my ($snap) = reverse files($dir, qr/^snap-.*\.kvs$/);
my $s_lsn = hex +($snap =~ /snap-(\w+)/)[0];
my @batches = map { my $file = $_; map { [ $file, @$_{qw(offset lsn)} ] }
                                   records("$dir/$file") }
              files($dir, qr/^log-.*\.kvl$/);
my @needed = grep { $_->[2] > $s_lsn } @batches;
my @unneeded = grep { $_->[0] lt $needed[0][0] } @batches;

{
    copy($dir, $other);
    my $batch = $needed[@needed / 2];
    flip("$other/$batch->[0]", $batch->[1] + 90);
    refuses('a byte of the log', $other,
            qr/\Q$batch->[0]\E: offset $batch->[1]: no good batch/);
    remove($other);
}

{
    copy($dir, $other);
    my $last = $needed[-1];
    truncate "$other/$last->[0]", $last->[1] + 10;
    unlink glob("$other/*.closed");
    my ($rc, $out, $err) = inspect('check', $other);
    is($rc, 1, 'a segment that is cut: exit status');
    like($err, qr/\Q$last->[0]\E: offset \d+: the file ends here, but its/,
         'a segment that is cut: says so');
    remove($other);
}

{
    copy($dir, $other);
    unlink "$other/$needed[0][0]";
    refuses('a segment is gone', $other, qr/log/);
    remove($other);
}

# A last write that was never acknowledged is no damage.

{
    copy($dir, $other);
    unlink glob("$other/*.closed");
    my $last = $batches[-1];
    my $data = read_file("$other/$last->[0]");
    substr($data, $last->[1] + 20, length($data) - $last->[1] - 20) =
        "\0" x (length($data) - $last->[1] - 20);
    write_file("$other/$last->[0]", $data);

    says('a torn end', [ 'check', $other ], 0,
         qr/was not closed: what may lie behind .* was never acknowledged/,
         qr/^$/);
    remove($other);
}

SKIP: {
    skip 'the log before the snapshot is gone', 1 if !@unneeded;
    copy($dir, $other);
    my $batch = $unneeded[0];
    flip("$other/$batch->[0]", $batch->[1] + 90);
    says('damage that does not matter', [ 'check', $other ], 1,
         qr/a start does not need what is damaged: nothing would be lost/,
         qr/\Q$batch->[0]\E: offset $batch->[1]: no good batch/);
    is((inspect('dump', $other))[1], $dump, 'and all can be dumped');
    remove($other);
}

{
    copy($dir, $other);
    flip("$other/$snap", 200);
    my ($rc, $out, $err) = inspect('check', $other);
    is($rc, 1, 'a damaged snapshot: exit status');
    like($err, qr/"\Q$snap\E" is damaged at offset \d+: the block's checksum/,
         'a damaged snapshot: says so');
    says('a snapshot alone', [ 'check', "$other/$snap" ], 1, qr/^$/,
         qr/\Q$other\E.*is damaged at offset/);
    rename "$other/$snap", "$other/$snap.damaged";
    says('one put aside', [ 'check', "$other/$snap.damaged" ], 1, qr/^$/,
         qr/is damaged at offset/);
    remove($other);
}

says('a good snapshot alone', [ 'check', "$dir/$snap" ], 0,
     qr/good: a snapshot of \d+ records, LSN $s_lsn to/, qr/^$/);
says('a good segment alone', [ 'check', "$dir/$needed[0][0]" ], 0,
     qr/good: a segment, LSN \d+ to \d+/, qr/^$/);


# ---- what is no file of ours, or cannot be read

{
    copy($dir, $other);
    rename "$other/$needed[-1][0]", "$other-away" or die "rename: $!";
    symlink "$other-away", "$other/$needed[-1][0]" or die "symlink: $!";
    my ($rc, $out, $err) = inspect('check', $other);
    is($rc, 2, 'a symlink: exit status');
    like($err, qr/\Q$needed[-1][0]\E: offset 0: reading the segment failed/,
         'a symlink is not followed');

    unlink "$other/$needed[-1][0]";
    POSIX::mkfifo("$other/$needed[-1][0]", 0600);

    for my $command (qw(check dump stat)) {
        my ($rc, $out, $err) = inspect($command, $other);
        is($rc, $command eq 'stat' ? 0 : 2, "a FIFO: $command: exit status");
        like("$out$err", qr/\Q$needed[-1][0]\E: /, "a FIFO: $command");
    }

    says('a FIFO alone', [ 'check', "$other/$needed[-1][0]" ], 2, qr/^$/,
         qr/neither a directory nor a regular file/);
    remove($other);
}

SKIP: {
    skip 'only root can be another user', 4 if $> != 0;
    chmod 0755, $s->{dir};
    copy($dir, $other);

    for my $command (qw(check dump stat)) {
        my ($rc, $out, $err) =
            inspect_end(inspect_begin({ user => 65534 }, $command, $other));
        is($rc, 2, "no right: $command: exit status");
        like($err, qr/Permission denied/, "no right: $command: says so");
    }

    remove($other);
}

# A format that is not known: the version is in the header, under a checksum.

my @table = map { my $c = $_; $c = $c & 1 ? $c >> 1 ^ 0x82f63b78 : $c >> 1
                      for 1 .. 8; $c } 0 .. 255;

sub crc32c {
    my $crc = 0xffffffff;
    $crc = $table[($crc ^ $_) & 255] ^ $crc >> 8 for unpack 'C*', $_[0];
    return $crc ^ 0xffffffff;
}

{
    copy($dir, $other);
    my $file = "$other/$needed[0][0]";
    my $data = read_file($file);
    substr($data, 8, 8) = pack 'V2', 3, 0;
    substr($data, 12, 4) = pack 'V', crc32c(substr $data, 0, 4096);
    write_file($file, $data);

    for my $command (qw(check dump)) {
        says("format 3: $command", [ $command, $other ], 1, qr//,
             qr/offset 8: format version 3, of which this/);
    }

    remove($other);
}

# Format 1 is read.

{
    copy('t/unit/format1', $other);
    says('format 1', [ 'check', $other ], 0, qr/: good: a start reads/, qr/^/);
    says('format 1', [ 'stat', $other ], 0, qr/\bformat 1\b/, qr/^$/);
    my (undef, $old) = inspect('dump', $other);
    like($old, qr/^\{"key":/, 'format 1: keys are dumped');
    remove($other);
    load($old, $other);
    is((inspect('dump', $other))[1], $old, 'format 1: and loaded');
    remove($other);
}

$s->done;
done_testing;
