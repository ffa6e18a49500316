package Bench::Api::Growth;

# How the rates of Bench::Api grow with the number of keys, and with workers.
# Short samples, as in Bench::Matrix.

use strict;
use warnings;

use Bench::Api::Bulk;
use Bench::Grid;
use Bench::Load;
use Bench::Report;

# Lines of a bulk load: fewer than there are keys.
use constant LINES => 100_000;

# What is measured: a label, how many connections, the method, the path in a
# zone, options of t/bench/httpload.c; KEYS is how many keys the zone has, PAGES
# how many pages. Each sample goes on with the numbers where the last one ended.
my @LOADS = (
    ['GET', 64, 'GET', '/%016lu', keys => 'KEYS'],
    ['PUT', 64, 'PUT', '/%016lu', keys => 'KEYS', size => 100],
    ['  new keys', 64, 'PUT', '/%016lu:%lu', keys => 'KEYS', size => 100],
    ['  If-Match', 64, 'PUT', '/own%lu', size => 100, chain => 1],
    ['  ttl', 64, 'PUT', '/ttl%lu?ttl=3600', keys => 9973, size => 100],
    ['POST incr', 64, 'POST', '/count%lu?incr=1', keys => 9973],
    ['batch, lines', 16, 'POST', '.batch', keys => 'KEYS', lines => 100,
     line => sprintf '{"key":"%%016lu","value":"%s"}', 'x' x 100],
    ['list of 1,000', 16, 'GET', '.keys?prefix=%013lu', keys => 'PAGES'],
);


# The rates of all: label => name of the zone and workers => [rates].

sub measure {
    my ($bench, $servers) = @_;
    my $rounds = $bench->{quick} || $bench->{late}->() ? 1 : 3;
    my @zones = zones($servers);
    my %cells;

    for my $load (@LOADS) {
        my $label = $load->[0];
        my %v = turns({ progress => sub {
            $bench->{progress}->("$label, $_[0]");
        } }, $rounds, map { $_->{name} => rate($bench, $load, $_) } @zones);
        $servers->sync_disk;
        $cells{$label} = \%v;
    }

    $cells{'bulk, lines'} = bulk($bench, $rounds, @zones);

    return \%cells;
}


# Few keys first, and the one with which the others are compared.

sub zones {
    my ($servers) = @_;
    my @counts = @{$servers->{counts}};
    my %on = (nginx => $servers->{two}, workers => 2);
    my @zones = ({ %on, zone => 'many', keys => $servers->{keys} },
                 map { { %on, zone => "k$_", keys => $_ } } @counts);

    @zones = sort { $a->{keys} <=> $b->{keys} } @zones;
    push @zones, { nginx => $servers->{one}, workers => 1, zone => 'many',
                   keys => $servers->{keys} };
    $_->{name} = short($_->{keys}) . " $_->{workers} w" for @zones;

    return @zones;
}


sub rate {
    my ($bench, $load, $zone) = @_;
    my (undef, $connections, $method, $path, %o) = @$load;
    my %number = (KEYS => $zone->{keys}, PAGES => $zone->{keys} / 1000);

    $o{keys} = $number{$o{keys}} || $o{keys} if $o{keys};
    $o{counter} = \my $used;

    return sub {
        return httpload($bench, port => $zone->{nginx}{port},
                        connections => $connections, seconds => 0.3,
                        method => $method, path => "/$zone->{zone}$path", %o);
    };
}


# Lines a second; keys that are spread over all.

sub bulk {
    my ($bench, $rounds, @zones) = @_;
    my %v = turns($bench, $rounds, map {
        my $zone = $_;
        my $lines = LINES < $zone->{keys} ? LINES : $zone->{keys};
        my $file = "$bench->{dir}/bulk.$zone->{keys}";
        Bench::Api::Bulk::write_lines($file, $lines, $zone->{keys} / $lines)
            unless -e $file;
        $zone->{name} => sub {
            return $lines / Bench::Api::Bulk::post(@$zone{qw(nginx zone)},
                                                   $file, $lines);
        };
    } @zones);

    unlink map { "$bench->{dir}/bulk.$_->{keys}" } @zones;
    return \%v;
}


sub print_table {
    my ($bench, $servers, $cells) = @_;
    my @columns = map { $_->{name} } zones($servers);
    my $base = short($servers->{keys}) . ' 2 w';

    print_heading($bench, 'Growth: a second, by keys and workers (w)');
    Bench::Grid::head($bench, 'keys', @columns);
    Bench::Grid::line($bench, $_, $cells->{$_}, $base, @columns)
        for (map { $_->[0] } @LOADS), 'bulk, lines';
}


1;
