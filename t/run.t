# scripts/run.sh: what it listens on, by options and by the environment; what
# it says of bad ones; that it serves all paths, and stops with status 0.

# long

use strict;
use warnings;

use File::Temp ();
use POSIX qw(:sys_wait_h);
use Test::More;

use KV::Conn;
use KV::Test;
use KV::Util qw(free_port);

plan(skip_all => 'the module is linked into this nginx: run.sh has none')
    if ($ENV{KV_MODULE} // 'x') eq '';

delete @ENV{qw(ADDR DATA_DIR PEERS)};

my $top = File::Temp::tempdir('kvrunXXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $top;
my (%pids, $n);

# Runs it in a process group of its own, with these arguments; leading NAME=x
# are for the environment.

sub run {
    my (@args) = @_;
    my $dir = "$top/a \"dir\" " . ++$n;
    my $pid = fork // die "fork: $!";

    if ($pid == 0) {
        alarm(0);
        setpgrp(0, 0);
        open(STDIN, '<', '/dev/null');
        open(STDOUT, '>', "$top/out$n");
        open(STDERR, '>&', \*STDOUT);
        while (@args && $args[0] =~ /^([A-Z_]+)=(.*)/s) {
            $ENV{$1} = $2;
            shift @args;
        }
        my @dir = $ENV{DATA_DIR} ? () : ('--working-dir', $dir);
        { exec 'scripts/run.sh', '--zone=8m', '--workers=2', @dir, @args }
        POSIX::_exit(127);
    }

    setpgrp($pid, $pid);
    $pids{$pid} = 1;
    return { pid => $pid, out => "$top/out$n", dir => $dir };
}

sub exited {
    my ($run, $seconds) = @_;
    wait_for(sub { waitpid($run->{pid}, WNOHANG) == $run->{pid} }, $seconds)
        or return;
    my $status = $?;
    delete $pids{$run->{pid}};
    return defined $status ? ($status >> 8 || $status & 127) : undef;
}

sub ask {
    my ($port, $method, $path, %o) = @_;
    my $c = KV::Conn->new(port => $port, soft => 1, %o)
        or return { status => 0 };
    $c->send(KV::Conn::request($method, $path, %o,
                               headers => ['Connection: close']));
    return eval { $c->response($method) } || { status => 0 };
}

# Addresses that something listens on at this port, as the kernel writes them.

sub listening {
    my ($port) = @_;
    my $hex = sprintf '%04X', $port;
    my @found;

    # they may hold thousands of lines about connections that were closed
    for my $table (grep { -r } qw(/proc/net/tcp /proc/net/tcp6)) {
        open(my $f, '<', $table) or next;
        /:$hex 0/ && /^ *\d+: ([0-9A-F]+):$hex \S+ 0A/ && push @found, $1
            while <$f>;
    }

    return join ' ', sort @found;
}

# All that openapi.yaml describes, but what a node of a cluster has alone; other
# paths are none of the module's.

sub serves_all {
    my ($port) = @_;

    for my $path (grep { $_ ne '/cluster/info' }
                  read_file('src/http/openapi.yaml') =~ m{^  (/\S+):$}mg)
    {
        my $r = ask($port, PATCH => $path =~ s/\{key\}/a/r);
        is("$r->{status} $r->{body}", "405 method not allowed\n",
           "it serves $path");
    }

    is(ask($port, GET => '/keys')->{body}, "a\n", 'it lists keys');
    like(ask($port, GET => '/dashboard')->{body},
         qr{"main"[ ]data-stats="\./stats"[ ]data-keys="\./keys"
            [ ]data-values="\./kv/"}x, 'its dashboard has all of the store');
    is(ask($port, GET => '/other')->{status}, 404, 'it serves nothing else');
}

END {
    for my $pid (keys %pids) {
        kill('KILL', -$pid);
        waitpid($pid, 0);
    }
}

my $if6 = eval { read_file('/proc/net/if_inet6') } // '';
my ($lo4, $all4, $two4) = qw(0100007F 00000000 0200007F);
my ($lo6, $all6) = ('0' x 24 . '01000000', '0' x 32);
my $lo = join ' ', sort $lo4, $if6 =~ /^0{31}1 /m ? $lo6 : ();
my $all = join ' ', sort $all4, $if6 ? $all6 : ();


# where it listens

for my $case (
    ['by default on loopback alone', $lo, '--port=%d'],
    ['and with an empty ADDR', $lo, 'ADDR=', '--port', '%d'],
    ['--listen with a port', $two4, '--listen', '127.0.0.2:%d'],
    ['--listen and --port', $two4, '--listen=127.0.0.2', '--port', '%d'],
    ['ADDR and DATA_DIR', $two4, 'ADDR=127.0.0.2:%d', "DATA_DIR=$top/env"],
    ['ADDR without an address: all', $all, 'ADDR=:%d'],
    ['--listen *: all', $all, '--listen', '*', '--port', '%d'],
    ['options go before the environment', $two4, 'ADDR=127.0.0.3:1',
     '--listen=127.0.0.2', '--port=%d'],
    $lo ne $lo4 ? ['an IPv6 address', $lo6, '--listen=[::1]:%d'] : ())
{
    my ($name, $expected, @args) = @$case;
    my $port = free_port();
    my $run = run(map { s/%d/$port/r } @args);

    ok(wait_for(sub { listening($port) eq $expected }, 60, 0.2), $name)
        or diag('listens on ' . listening($port), read_file($run->{out}));

    if ($n == 1 || $name =~ /ADDR and/) {
        my %to = $n == 1 ? () : (host => '127.0.0.2');
        ok(wait_for(sub { ask($port, GET => '/health', %to)->{status} == 200 },
                    60), 'it is healthy');
        is(ask($port, PUT => '/kv/a', body => 'value', %to)->{status}, 200,
           'it takes a value');
        my $got = ask($port, GET => '/kv/a', %to);
        is($got->{body}, 'value', 'and gives it');
        is($got->{headers}{'content-type'}, 'text/plain; charset=utf-8',
           'as text that no client takes for Latin 1');
        ok(-d "$top/env/kv", 'the data is in DATA_DIR') if $n > 1;
        serves_all($port) if $n == 1;
    }

    if ($n == 1) {
        my $second = run('--port', $port);
        is(exited($second, 60), 1, 'a second one on its port is refused');
        is(read_file($second->{out}), "run.sh: port $port is in use\n",
           'and says so');

        $second = run("--listen=127.0.0.2:$port");
        ok(wait_for(sub { listening($port) =~ /$two4/ }, 60, 0.2),
           'but not on another address') or diag(read_file($second->{out}));
        kill('TERM', -$second->{pid});
        is(exited($second, 60), 0, 'which stops alone');
    }

    kill('TERM', -$run->{pid});
    is(exited($run, 60), 0, 'SIGTERM ends it with status 0')
        or diag(read_file($run->{out}));
}


# a node of a cluster

{
    my $port = free_port();
    my $run = run("ADDR=127.0.0.1:$port", 'PEERS=');
    ok(wait_for(sub { ask($port, GET => '/health')->{status} == 200 }, 60),
       'a node alone') or diag(read_file($run->{out}));
    is(ask($port, PUT => '/kv/a', body => 'value')->{status}, 200,
       'takes a value');
    SKIP: {
        skip('no libraft', 1) if read_file($run->{out}) =~ /is no libraft/;
        like(ask($port, GET => '/cluster/info')->{body},
             qr/^{"id":"127.0.0.1:$port","role":"leader",.*"peers":\[\]}$/,
             'and leads');
    }
    kill('TERM', -$run->{pid});
    is(exited($run, 60), 0, 'and ends') or diag(read_file($run->{out}));
}


# what it refuses, with one line

for (['PEERS=127.0.0.2:80', qr/PEERS needs ADDR.*: ''$/],
     ['PEERS=', 'ADDR=0.0.0.0:80', qr/PEERS needs ADDR.*: '0.0.0.0:80'$/],
     ['PEERS=', 'ADDR=:80', qr/PEERS needs ADDR.*: ':80'$/],
     ['PEERS=127.0.0.2:80;x', 'ADDR=127.0.0.1:80',
      qr/PEERS is no list of addresses: '127.0.0.2:80;x'$/])
{
    my ($re, @env) = reverse @$_;
    my $run = run(reverse @env);
    is(exited($run, 60), 1, "@env: refused");
    like(read_file($run->{out}), qr/\Arun\.sh: $re/, 'with a reason');
}

for my $case (['::1', qr/not an IPv4 address, an IPv6 address in brackets/],
              ['127.0.0.1:', qr/not an IPv4/], ['[::1', qr/not an IPv4/],
              ['127.0.0.256', qr/not an IPv4/],
              ['example.org', qr/not an IPv4/],
              ['', qr/not an IPv4/], ["127.0.0.1\n127.0.0.2", qr/not an IPv4/],
              ['127.0.0.1;', qr/not an IPv4/],
              ['127.0.0.1:http', qr/not a port/], [':0', qr/not a port/],
              ['*:65536', qr/not a port/])
{
    my ($given, $re) = @$case;

    for my $env (0, 1) {
        next if $env && $given eq '';
        my $run = run($env ? "ADDR=$given" : "--listen=$given");
        my $status = exited($run, 60);
        my $said = read_file($run->{out});
        my $name = ($env ? 'ADDR' : '--listen') . " '$given'";
        $name =~ s/\n/\\n/;
        ok(defined $status && $status == 1 && $said =~ $re
           && $said =~ /\Arun\.sh: .*\n\z/s, "$name: refused with a reason")
            or diag(($status // 'runs') . ": $said");
        kill('KILL', -$run->{pid}) if !defined $status;
    }
}

done_testing();
