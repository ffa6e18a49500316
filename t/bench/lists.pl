# Usage: perl -It/lib t/bench/lists.pl [KEYS [ROUNDS [SECONDS]]]
#
# What list=on costs a PUT over HTTP, every write synced: two servers on the
# same disk, one with list=on, take turns, A B B A, with new keys of 16 letters
# that come in no order, and with overwrites; each has KEYS (default: 300,000)
# before. Prints requests a second, and microseconds of the workers' processor
# time a request, with the ratios' medians and ranges. And how long pages of
# 10,000 keys take, and what another client's GETs wait meanwhile. Builds the
# module and t/bench/httplat.c; needs wrk.

use strict;
use warnings;

use Time::HiRes qw(sleep time);

use KV::Test;

my $keys = $ARGV[0] || 300_000;
my $rounds = $ARGV[1] || 5;
my $seconds = $ARGV[2] || 3;
my $httplat = '.build/bench/httplat';

system('scripts/build.sh', '--quiet') == 0
    && system('make', '-s', '-f', 'scripts/bench.mk', $httplat) == 0 or exit 1;

my %server = map {
    $_ => KV::Test->new(zone => '2g', kv => "list=$_ snapshot=off",
                        path => "$ENV{PWD}/.build/bench/lists-$_-$$",
                        server => $_ eq 'on'
                                  ? 'location = /keys { kv_keys main; }' : '')
} qw(off on);

my $lua = "$server{on}{dir}/new.lua";
write_file($lua, <<'END');
local bit = require("bit")
local threads = 0
local body = string.rep("x", 100)

function setup(thread)
    thread:set("number", threads)
    threads = threads + 1
end

function init(args)
    n = tonumber(args[1]) + number * 20000000
    most = tonumber(args[2])
end

-- a key's number, mixed so that keys come in no order

function request()
    n = n + 1
    local id = most > 0 and math.random(most) or n
    local mixed = bit.tohex(bit.bxor(bit.bswap(id * 40503), id * 69069))
    return "PUT /kv/" .. mixed .. bit.tohex(id) .. " HTTP/1.1\r\n"
           .. "Host: localhost\r\nContent-Length: 100\r\n\r\n" .. body
end
END


# Processor seconds of all workers.

sub cost {
    my ($s) = @_;
    my $sum = 0;
    for my $pid ($s->workers) {
        my @stat = split ' ', read_file("/proc/$pid/stat") =~ s/.*\) //r;
        $sum += ($stat[11] + $stat[12]) / 100;
    }
    return $sum;
}

# Requests a second, and microseconds of processor for each.

my $next = $keys + 1;

sub load {
    my ($s, $connections, $from, $most, $time) = @_;
    my $before = cost($s);
    my $out = qx(wrk -t2 -c$connections -d${time}s -s $lua \\
                 http://127.0.0.1:$s->{port}/ -- $from $most 2>&1);
    my ($n) = $out =~ /(\d+) requests in/ or die $out;
    die $out if $out =~ /Non-2xx|Socket errors/;
    my ($rate) = $out =~ m{Requests/sec:\s+([\d.]+)};
    return ($rate, (cost($s) - $before) * 1e6 / $n);
}

sub median { my @s = sort { $a <=> $b } @_; return $s[$#s / 2] }

sub compare {
    my ($name, $connections, $most) = @_;
    my (@ratio, @cost, %rate, %us);

    for my $round (1 .. $rounds) {
        my %r;
        for my $which ($round % 2 ? qw(off on) : qw(on off)) {
            $r{$which} = [ load($server{$which}, $connections, $next, $most,
                                $seconds) ];
            push @{$rate{$which}}, $r{$which}[0];
            push @{$us{$which}}, $r{$which}[1];
        }
        $next += 1_000_000;
        push @ratio, $r{on}[0] / $r{off}[0];
        push @cost, $r{on}[1] / $r{off}[1];
    }

    for my $what ([ 'rate', \%rate, \@ratio, '%.0f /s' ],
                  [ 'processor', \%us, \@cost, '%.2f us' ]) {
        my ($title, $figure, $ratio, $form) = @$what;
        my @s = sort { $a <=> $b } @$ratio;
        printf "%s, %d connections, %s: off $form, on $form, ratio %.3f "
               . "(%.3f .. %.3f)\n", $name, $connections, $title,
               median(@{$figure->{off}}), median(@{$figure->{on}}),
               median(@s), $s[0], $s[-1];
    }
}


for my $s (values %server) {
    system('rm', '-rf', $s->{path});
    $s->start;
}

for my $which (qw(off on)) {
    my ($n, $at) = (0, 0);
    while ($n < $keys) {
        load($server{$which}, 256, $at, 0, 3);
        $n = $server{$which}->store->{keys};
        $at = $n;
    }
    printf "list=%s: %d keys\n", $which, $n;
}

for my $connections (64, 256) {
    compare('new keys', $connections, 0);
    compare('overwrites', $connections, int($keys / 3));
}

my $store = $server{on}->store;
$server{on}->put("lone$_", 'x' x 100) for 0 .. 999;
printf "index: %.1f bytes a key\n", $store->{zone}{index} / $store->{keys};

for my $page ('limit=10000', 'limit=10000&format=json',
              'limit=10000&format=json&values=1') {
    my @alone = qx($httplat $server{on}{port} GET /kv/lone 2000 100);
    my $pid = fork // die "fork: $!";
    if ($pid == 0) {
        my $c = $server{on}->connect;
        while (1) {
            $c->send(KV::Conn::request(GET => "/keys?$page"));
            $c->response;
        }
    }
    my @beside = qx($httplat $server{on}{port} GET /kv/lone 2000 100);
    kill('KILL', $pid);
    waitpid($pid, 0);
    my $from = time;
    $server{on}->http(GET => "/keys?$page") for 1 .. 20;
    printf "page %s: %.1f ms; lone GETs alone %s  beside pages %s", $page,
           (time - $from) * 50, $alone[0], $beside[0];
}

for my $s (values %server) {
    $s->stop('KILL');
    system('rm', '-rf', $s->{path});
}
