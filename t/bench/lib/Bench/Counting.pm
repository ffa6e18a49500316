package Bench::Counting;

# What it costs nginx that requests are counted (kv_incr): `return 200`, which
# does next to nothing else, with one key for all requests, and with 10,000 of
# which each request has the next.

use strict;
use warnings;

use Bench::Load;
use Bench::Nginx;
use Bench::Process;
use Bench::Report;

use constant { CONNECTIONS => 64, KEYS => 10_000 };


sub measure {
    my ($bench) = @_;
    my $nginx = Bench::Nginx->new(bench => $bench, name => 'counting',
        workers => 2, zones => [[count => '256m', '']], locations => <<'END');
location = /plain { return 200 x; }
        location = /one { kv_incr one zone=count; return 200 x; }
        location = /many { kv_incr many:$arg_k zone=count; return 200 x; }
END
    $nginx->start;

    my %sent = map { $_ => 0 } qw(plain one many);
    my %cost = map { $_ => [] } keys %sent;
    my %rate = turns($bench, $bench->{rounds} * 4, map {
        my $name = $_;
        $name => sub { asked($bench, $nginx, $name, \$sent{$name},
                             $cost{$name}) };
    } sort keys %sent);

    check($nginx, $sent{one}, CONNECTIONS * @{$rate{one}});
    $nginx->stop;

    return (rows('return 200, kv_incr of one key', 'one', \%rate, \%cost),
            rows('the same, of ' . number(KEYS) . ' keys', 'many', \%rate,
                 \%cost));
}


# A rate; and what it costs the workers, in microseconds of a processor for a
# request, is added to @$cost.

sub asked {
    my ($bench, $nginx, $name, $sent, $cost) = @_;
    my ($before, $begun) = ($$sent, $nginx->worked);
    my $rate = httpload($bench, port => $nginx->{port}, method => 'GET',
                        connections => CONNECTIONS, seconds => $bench->{look},
                        path => "/$name?k=%lu", keys => KEYS,
                        counter => $sent);

    push @$cost, ($nginx->worked - $begun) / ($$sent - $before) / 1000;
    return $rate;
}


# All were counted, but for the last requests of each load, which it leaves.

sub check {
    my ($nginx, $sent, $left) = @_;
    my $is;

    wait_for(20, sub {
        $is = $nginx->request(GET => '/count/one')->{content};
        return $is <= $sent && $is >= $sent - $left;
    }) or die "$is requests were counted, of $sent\n";

    my $counting = $nginx->stats('count')->{counting};
    die "requests were not counted\n"
        if $counting->{refused} || $counting->{dropped};
}


sub rows {
    my ($name, $which, $rate, $cost) = @_;
    return ({ name => $name, unit => '/s', ours => $rate->{$which},
              peer => $rate->{plain}, target => '>= 0.97',
              ratio => ratios($rate->{$which}, $rate->{plain}) },
            { name => '  processor of the workers', unit => ' us',
              ours => $cost->{$which}, peer => $cost->{plain},
              ratio => ratios($cost->{$which}, $cost->{plain}) });
}


1;
