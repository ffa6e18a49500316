# kv-inspect import: from the files of the LittleClusters reference server, and
# from a running Redis.

use strict;
use warnings;

use IO::Socket::INET;
use IO::Socket::UNIX;
use JSON::PP ();
use MIME::Base64 ();
use POSIX qw(:sys_wait_h);
use Test::More;

use KV::Inspect;
use KV::Test;
use KV::Util qw(free_port);

my $s = KV::Test->new;
my $other = "$s->{dir}/other";
my $source = "$s->{dir}/source";

sub remove { my ($path) = @_; unlink glob("$path/*"); rmdir $path }

sub dumped {
    my ($rc, $out) = inspect('dump', $other);
    my %keys;

    for my $line (split /\n/, $out) {
        my $o = JSON::PP->new->utf8->decode($line);
        my $value = $o->{value};
        defined $value ? utf8::encode($value)
                       : ($value = MIME::Base64::decode_base64($o->{base64}));
        $keys{$o->{key}} = [ $value, $o->{expires} || () ];
    }

    return \%keys;
}

sub imports {
    my ($name, $keys, @args) = @_;
    my ($rc, $out, $err) = inspect('import', $other, @args);
    is($rc, 0, "$name: exit status") or diag($err);
    like($out, qr/^@{[ scalar keys %$keys ]} keys are in "\Q$other\E" now/,
         "$name: says how many");
    is_deeply(dumped(), $keys, "$name: all is there");
    remove($other);
    return $err;
}

sub refuses {
    my ($name, $status, $says, @args) = @_;
    my ($rc, $out, $err) = inspect('import', $other, @args);
    is($rc, $status, "$name: exit status");
    is($out, '', "$name: no output");
    like($err, $says, "$name: says why");
    ok(!-e $other, "$name: nothing is left");
}


# ---- the command line

refuses('no kind', 2, qr/--from lkv or --from redis is missing/);
refuses('an unknown kind', 2, qr/--from takes "lkv" or "redis", not "etcd"/,
        '--from', 'etcd');
refuses('no source', 2, qr/the directory of that server is missing/,
        '--from', 'lkv');
refuses('too much', 2, qr/"c" is too much/, '--from', 'lkv', 'b', 'c');
refuses('no number', 2, qr/--db takes the number of a database, not "x"/,
        '--from', 'redis', '--db', 'x');
is((inspect('import', '--from', 'lkv'))[0], 2, 'no directory');


# ---- the reference server's files

refuses('no directory', 2, qr/cannot open the directory .*No such file/,
        '--from', 'lkv', $source);
mkdir $source;
refuses('no files', 2, qr/neither snapshot\.json nor wal\.jsonl/,
        '--from', 'lkv', $source);

# The first generation: indents, and what Go escapes.

write_file("$source/snapshot.json", <<'END');
{
  "a": "1",
  "b": "two \u003ctags\u003e \u0026 \"quotes\" \u2028 caf\u00e9",
  "gone": "x"
}
END
imports('a snapshot', { a => [ 1 ], gone => [ 'x' ],
                        b => [ qq(two <tags> & "quotes" \xe2\x80\xa8 )
                               . "caf\xc3\xa9" ] }, '--from', 'lkv', $source);

write_file("$source/wal.jsonl", <<'END');
{"op":"set","key":"a","value":"one"}
{"op":"delete","key":"gone"}
{"op":"delete","key":"never"}

{"op":"set","key":"c","value":"nul \u0000 byte"}
END
my %keys = (a => [ 'one' ], c => [ "nul \0 byte" ],
            b => [ qq(two <tags> & "quotes" \xe2\x80\xa8 caf\xc3\xa9) ]);
imports('and its log', \%keys, '--from', 'lkv', $source);

# The second: on one line, replaced as a whole; a log that it has already.

write_file("$source/snapshot.json", '{"a":"x","c":"y","d":"z"}');
write_file("$source/snapshot.json.tmp", '{"a":');
write_file("$source/wal.jsonl", read_file("$source/wal.jsonl")
           . qq({"op":"clear"}\n{"op":"set","key":"d","value":"4"}\n));
imports('a clear', { d => [ 4 ] }, '--from', 'lkv', $source);

unlink "$source/snapshot.json";
imports('a log alone', { d => [ 4 ] }, '--from', 'lkv', $source);

my $log = read_file("$source/wal.jsonl");
write_file("$source/wal.jsonl", $log . '{"op":"set","key":"torn","val');
like(imports('a torn end', { d => [ 4 ] }, '--from', 'lkv', $source),
     qr/wal\.jsonl: line 8, the last one, is cut off: it was never/,
     'and it says so');

for my $line ('{"op":"set","key":"a"', '{"op":"put","key":"a","value":"x"}',
              '{"op":"set","value":"x"}', '{"op":"set","key":"a","value":1}',
              '[]', 'x', "\0\0\0")
{
    write_file("$source/wal.jsonl", "$line\n$log");
    refuses("bad line $line", 1, qr/wal\.jsonl: line 1: not an operation/,
            '--from', 'lkv', $source);
}

write_file("$source/wal.jsonl", $log);

for my $snapshot ('{"a":"x","b"', '', '["a"]', 'null x') {
    write_file("$source/snapshot.json", $snapshot);
    refuses("bad snapshot $snapshot", 1, qr/snapshot\.json: line -?\d+: /,
            '--from', 'lkv', $source);
}

write_file("$source/snapshot.json", 'null');
imports('a snapshot of nothing', { d => [ 4 ] }, '--from', 'lkv', $source);

write_file("$source/snapshot.json",
           '{"good":"x","bad key":"x","\u0001":"y","empty":"","n":5,"..":"z"}');
write_file("$source/wal.jsonl", '');
refuses('a bad key', 2, qr/the key "bad key" cannot be kept: a key has no/,
        '--from', 'lkv', $source);
my $said = imports('but not those', { good => [ 'x' ] }, '--from', 'lkv',
                   $source, '--skip');
like($said, qr/the key "\Q$_\E" is left out: /, "it names $_")
    for 'bad key', '?', 'empty', 'n', '..';

$said = imports('keys of any characters', { good => [ 'x' ],
                'bad key' => [ 'x' ] }, '--from', 'lkv', $source, '--skip',
                '--key-chars', 'any');
like($said, qr/the key "\Q$_\E" is left out: no URL can name it/, "it names $_")
    for '?', '..';
is((inspect('import', "$s->{dir}/x", '--from', 'lkv', $source, '--key-chars',
            'all'))[0], 2, '--key-chars takes nothing else');

# What is no regular file.

unlink "$source/snapshot.json";
mkdir "$source/snapshot.json";
refuses('a directory', 1, qr/snapshot\.json: line -?\d+: /, '--from', 'lkv',
        $source);
rmdir "$source/snapshot.json";


# ---- Redis

SKIP: {
    my $server = (grep { -x } map { "$_/redis-server" }
                  split(/:/, $ENV{PATH}), '/usr/bin')[0];
    skip 'no redis-server here', 1 if !$server;

    my $port = free_port();
    my $socket = "$s->{dir}/redis.sock";
    my $pid = fork // die "fork: $!";

    if ($pid == 0) {
        open STDOUT, '>', "$s->{dir}/redis.log";
        open STDERR, '>&', \*STDOUT;
        exec $server, '--port', $port, '--bind', '127.0.0.1', '--save', '',
             '--appendonly', 'no', '--unixsocket', $socket,
             '--dir', $s->{dir} or POSIX::_exit(99);
    }

    my $c = wait_for(sub {
        IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port);
    }, 20);

    if (!$c) {
        kill KILL => $pid;
        waitpid $pid, 0;
        fail('redis-server starts');
        last SKIP;
    }

    my $redis = sub {
        my $command = '*' . @_ . "\r\n"
                      . join '', map { '$' . length($_) . "\r\n$_\r\n" } @_;
        print $c $command;
        $c->flush;
        return scalar <$c>;
    };

    my @from = ('--from', 'redis', "127.0.0.1:$port");
    my $all = join '', map { chr } 0 .. 255;

    imports('an empty Redis', {}, @from);

    my %want = map { ("key:$_" => [ "value $_" ]) } 1 .. 2500;
    $redis->(SET => $_, $want{$_}[0]) for sort keys %want;
    $redis->(SET => 'bytes', $all);
    $redis->(SET => 'large', $all x 4096);
    $redis->(SET => 'expires', 'later', EX => 100_000);
    $want{bytes} = [ $all ];
    $want{large} = [ $all x 4096 ];
    $redis->(SELECT => 3);
    $redis->(SET => 'of.db3', 'x');
    $redis->(SELECT => 0);

    my ($rc, $out, $err) = inspect('import', $other, @from);
    is($rc, 0, 'Redis: exit status') or diag($err);
    my $got = dumped();
    my $expires = delete $got->{expires};
    is_deeply($got, \%want, 'Redis: all values are there');
    is($expires->[0], 'later', 'Redis: so is one that expires');
    cmp_ok(abs($expires->[1] - time - 100_000), '<', 300, 'at the same time');
    remove($other);

    imports('a database', { 'of.db3' => [ 'x' ] }, @from, '--db', 3);
    imports('a socket', { 'of.db3' => [ 'x' ] }, '--from', 'redis', $socket,
            '--db', 3);

    $redis->(LPUSH => 'a list', 'x');
    $redis->(DEL => 'expires');
    refuses('a list', 2, qr/the key "a list" cannot be kept: it is no string/,
            @from);
    $redis->(SET => "bad\x1b[2Jkey", 'x');
    $redis->(SET => 'none', '');
    my $said = imports('but not those', \%want, @from, '--skip');
    like($said, qr/the key "\Q$_\E" is left out: /, "it names $_")
        for 'a list', 'bad?[2Jkey', 'none';

    refuses('a database that there is not', 2, qr/refuses: ERR.*DB index/,
            @from, '--db', 999);

    # a signal takes all of it away

    my $run = inspect_begin('import', $other, @from, '--skip');
    wait_for(sub { -e $other || waitpid($run->{pid}, WNOHANG) }, 20);
    kill INT => $run->{pid};
    my $status = (inspect_end($run))[0];
    ok($status eq 'signal 2' ? !-e $other : $status eq '0', 'SIGINT');
    remove($other);

    $redis->(CONFIG => SET => 'requirepass', 'secret');
    refuses('no password', 2, qr/refuses: NOAUTH.*Set REDISCLI_AUTH/, @from);
    $ENV{REDISCLI_AUTH} = 'wrong';
    refuses('a wrong one', 2, qr/refuses: WRONGPASS|refuses: ERR/, @from);
    $ENV{REDISCLI_AUTH} = 'secret';
    imports('the right one', { 'of.db3' => [ 'x' ] }, @from, '--db', 3);
    delete $ENV{REDISCLI_AUTH};

    kill TERM => $pid;
    waitpid $pid, 0;

    refuses('nothing is there', 2, qr/cannot reach Redis at .*refused: name/,
            @from);
    refuses('no socket', 2, qr/cannot reach Redis at "\Q$socket\E"/,
            '--from', 'redis', "$socket");
    refuses('no address', 2, qr/cannot reach Redis at "host:x": this is/,
            '--from', 'redis', 'host:x');
}

# A server that talks nonsense.

{
    my $l = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1')
        or die "listen: $!";

    for my $answer ("HTTP/1.1 400 Bad Request\r\n\r\n", '',
                    "+OK\r\n:5\r\n*2\r\n:1\r\n:2\r\n",
                    "+OK\r\n:5\r\n*2\r\n\$1\r\n0\r\n*1\r\n\$1\r\na\r\n:1\r\n")
    {
        my $pid = fork // die "fork: $!";

        if ($pid == 0) {
            my $c = $l->accept;
            sysread $c, my $buf, 10_000;
            syswrite $c, $answer if $answer ne '';
            shutdown $c, 1;
            1 while sysread $c, $buf, 10_000;
            POSIX::_exit(0);
        }

        refuses('nonsense', 2, qr/Redis/, '--from', 'redis',
                '127.0.0.1:' . $l->sockport);
        kill KILL => $pid;
        waitpid $pid, 0;
    }
}

done_testing;
