# Usage: perl -It/lib t/bench/expiry.pl [KEYS [ROUNDS [DIRECTORY]]]
#
# What writes wait for while 1,000,000 keys of 16 bytes, with values of 16,
# expire within one second, over HTTP, on two workers, every write synced: one
# client puts one key after the other, until all are deleted.  Beside it, what
# the same client sees alone, and beside a process that does nothing but use a
# processor: so much any work costs on this machine.  DIRECTORY is where the
# data goes: in memory, if it is /dev/shm.  Builds the module and
# t/bench/httplat.c; needs curl.

use strict;
use warnings;

use Time::HiRes qw(sleep time);

use KV::Test;

my $keys = $ARGV[0] || 1_000_000;
my $rounds = $ARGV[1] || 3;
my $dir = $ARGV[2] || "$ENV{PWD}/.build/bench";
my $httplat = '.build/bench/httplat';
my $LOAD = 30 + int($keys / 20_000);     # seconds until they expire

system('scripts/build.sh', '--quiet') == 0
    && system('make', '-s', '-f', 'scripts/bench.mk', $httplat) == 0 or exit 1;

my $s = KV::Test->new(zone => '1g', path => "$dir/expiry-$$");
my $file = "$s->{dir}/lines";
my $parent = $$;

END { system('rm', '-rf', $s->{path}) if $s && $$ == $parent }


# The longest PUT in so many seconds, and the median, milliseconds.

sub longest {
    my ($seconds) = @_;
    my ($median, undef, $longest) =
        split ' ', qx($httplat $s->{port} PUT /kv/other ${seconds}s 100);
    return sprintf '%6.1f ms (median %.2f)', $longest / 1e3, $median / 1e3;
}

sub said { printf "%-44s %s\n", @_ }


for my $round (1 .. $rounds) {
    system('rm', '-rf', $s->{path});
    $s->start;

    my $at = int(time) + $LOAD;
    open(my $f, '>', $file) or die "$file: $!";
    printf {$f} qq({"key":"%016d","value":"%016d","expires":%d}\n), $_, $_, $at
        for 1 .. $keys;
    close($f);

    my $url = "http://127.0.0.1:$s->{port}/bulk";
    my $answer = qx(curl -sS -X POST -T $file -H Expect: $url);
    die "bulk: $answer" unless $answer =~ /"applied":$keys\b/;
    die "the keys expire too soon\n" if time > $at - 8;
    said('loaded, and seconds left', sprintf '%.1f', $at - time);

    said('alone, for 3 s', longest(3));

    my $pid = fork // die "fork: $!";
    if ($pid == 0) { $SIG{ALRM} = 'DEFAULT'; alarm(20); 1 while 1 }
    said('beside a process that uses a processor', longest(1.5));
    kill('KILL', $pid);
    waitpid($pid, 0);

    # times are whole seconds from when each was put: within a second of $at

    sleep($at - 0.2 - time) if time < $at - 0.2;
    said('while the keys expire', longest(3.2));
    my $left = $s->store->{expiring};
    said('keys left', $left // '?');
    wait_for(sub { !$s->store->{expiring} }, 60) if $left;
    said('deleted', $s->store->{expired});

    $s->stop('KILL');
}
