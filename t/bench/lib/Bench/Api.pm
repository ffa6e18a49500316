package Bench::Api;

# What there is beside GET and PUT: conditions, counters, keys that expire,
# batches, lists, waiting reads. Each against the PUT that does without, and
# against what Redis has for it, by its own protocol and behind webdis.

use strict;
use warnings;

use Socket;

use Bench::Load;
use Bench::Process;
use Bench::Report;

use constant CONNECTIONS => 64;

# Those that send batches, or ask for pages, which take longer.
use constant FEW_CONNECTIONS => 16;

# Reads that wait: less than the descriptors that a process has by default.
use constant WAITING => 500;


sub measure {
    my ($bench, $servers) = @_;
    my $on = { bench => $bench, servers => $servers };

    return (if_match($on), new_keys($on), increments($on), expiring($on),
            batches($on), pages($on), list_on($on), waiting($on));
}


# The chain of a connection: each PUT names the version that the one before has
# made, and no other connection writes that key.

sub if_match {
    my ($on) = @_;
    my @put = ('PUT', '/api/own%lu', size => 100);
    my %v = turns_of($on, ours => ours($on, @put, chain => 1),
                     PUT => ours($on, @put, own => 1));

    return rows('PUT If-Match', \%v, PUT => 'PUT');
}


# Keys that no request has made before.

sub new_keys {
    my ($on) = @_;
    my @new = (size => 100, keys => 1_000_000_000);
    my $value = 'x' x 100;
    my %v = turns_of($on,
        ours => ours($on, 'PUT', '/api/create%lu', @new, counter => \my $made,
                     header => 'If-None-Match: *'),
        PUT => ours($on, 'PUT', '/api/new%lu', @new, counter => \my $put),
        redis($on, 1_000_000_000, 'SETNX', 'new:__rand_int__', $value),
        webdis($on, 'PUT', '/SETNX/webdis%lu', @new, counter => \my $behind));

    return rows('PUT If-None-Match: *', \%v, PUT => 'PUT, new keys',
                redis => 'Redis SETNX', webdis => 'webdis');
}


sub increments {
    my ($on) = @_;
    my @keys = (keys => keys_of(100));
    my @incr = ('POST', '/api/count%lu?incr=1', @keys);
    my %v = turns_of($on, ours => ours($on, @incr),
        one => ours($on, 'POST', '/api/count?incr=1'),
        PUT => ours($on, 'PUT', '/api/v%lu', @keys, size => 100),
        redis($on, keys_of(100), 'INCR', 'count:__rand_int__'),
        webdis($on, 'GET', '/INCR/count%lu', @keys));
    my %one = (ours => $v{one}, many => $v{ours});

    return (rows('POST ?incr=1', \%v, PUT => 'PUT', redis => 'Redis INCR',
                 webdis => 'webdis'),
            rows('POST ?incr=1, one key', \%one, many => 'of many'));
}


sub expiring {
    my ($on) = @_;
    my @put = (size => 100, keys => keys_of(100));
    my $value = 'x' x 100;
    my %v = turns_of($on,
        ours => ours($on, 'PUT', '/api/ttl%lu?ttl=3600', @put),
        PUT => ours($on, 'PUT', '/api/v%lu', @put),
        redis($on, keys_of(100), 'SETEX', 'ttl:__rand_int__', 3600, $value),
        webdis($on, 'PUT', '/SETEX/ttl%lu/3600', @put));

    return rows('PUT ?ttl=3600', \%v, PUT => 'PUT', redis => 'Redis SETEX',
                webdis => 'webdis');
}


# 100 lines, or pairs for Redis, which sets them at once, too.

sub batches {
    my ($on) = @_;
    my $few = { %$on, connections => FEW_CONNECTIONS, guess => 500 };
    my @keys = (keys => 9973);
    my $value = 'x' x 100;
    my %v = turns_of($on,
        ours => ours($few, 'POST', '/api.batch', @keys, lines => 100,
                     line => qq({"key":"batch%lu","value":"$value"})),
        PUT => ours($on, 'PUT', '/api/batch%lu', @keys, size => 100),
        redis($few, 9973, 'MSET', ('batch:__rand_int__', $value) x 100));

    $_ = [map { $_ * 100 } @$_] for grep { $_ } @v{qw(redis1 redis2)};

    return rows('POST /batch of 100, lines', \%v, PUT => 'PUT',
                redis => 'Redis MSET');
}


# Pages of 1,000 keys from a random place on. What Redis has in order is a set
# that its user keeps beside the keys; redis-benchmark reads its answers one
# string after the other, which the client of ours does not.

sub pages {
    my ($on) = @_;
    my $keys = $on->{servers}{keys};
    my $few = { %$on, connections => FEW_CONNECTIONS, guess => 2000 };
    my %v = turns_of($on,
        ours => ours($few, 'GET', '/many.keys?prefix=%013lu',
                     keys => $keys / 1000),
        file => ours($few, 'GET', '/page'),
        redis($few, $keys, 'ZRANGEBYLEX', 'index', '[0000__rand_int__', '+',
              'LIMIT', 0, 1000),
        webdis($few, 'GET', '/ZRANGEBYLEX/index/%%5B%016lu/%%2B/LIMIT/0/1000',
               keys => $keys));

    return rows('1,000 of ' . short($keys) . ' keys', \%v, file => 'a file',
                redis => 'Redis ZRANGEBYLEX', webdis => 'webdis');
}


# Among as many keys, of which one store has a list.

sub list_on {
    my ($on) = @_;
    my $keys = $on->{servers}{keys};
    my @rows;

    for my $kind (['overwrites', '%016lu', '>= 0.97'],
                  ['new keys', '%016lu-%lu', '>= 0.85']) {
        my ($name, $key, $target) = @$kind;
        my %count = (many => 0, plain => 0);
        my %put = map { $_ => ours($on, 'PUT', "/$_/$key", size => 100,
                                   keys => $keys, counter => \$count{$_}) }
                  keys %count;
        my %v = turns_of($on, ours => $put{many}, off => $put{plain});
        my ($row) = rows("PUT, $name, list=on", \%v, off => 'list=off');
        push @rows, { %$row, target => $target };
    }

    return @rows;
}


# Reads that wait for keys which nobody writes, beside PUTs of others.

sub waiting {
    my ($on) = @_;
    my $put = ours($on, 'PUT', '/api/v%lu', size => 100,
                   keys => keys_of(100));
    my %v = turns_of($on, none => $put, ours => sub {
        my @sockets = map { wait_for_key($on, $_) } 1 .. WAITING;
        wait_until($on, WAITING);
        my $rate = $put->();
        close $_ for @sockets;
        wait_until($on, 0);
        return $rate;
    });

    return rows('PUT beside ' . WAITING . ' waiting reads', \%v,
                none => 'alone');
}


sub wait_for_key {
    my ($on, $number) = @_;
    my $port = $on->{servers}{two}{port};
    socket(my $socket, PF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
    connect($socket, sockaddr_in($port, INADDR_LOOPBACK))
        or die "connect: $!\n";
    syswrite $socket, "GET /api/never$number?wait=600 HTTP/1.1\r\n"
                      . "Host: localhost\r\n\r\n";
    return $socket;
}


sub wait_until {
    my ($on, $count) = @_;
    wait_for(10, sub {
        $on->{servers}{two}->stats('api')->{store}{waiting} == $count;
    }) or die "reads do not wait\n";
}


# Many brief samples, as Bench::Rates takes them.

sub turns_of {
    my ($on, @subs) = @_;
    return turns($on->{bench}, $on->{bench}{rounds} * 2, @subs);
}


sub look { my ($on) = @_; return $on->{bench}{look} * 0.3 }


# A sub that gives the rate of requests like this one to our server.

sub ours {
    my ($on, @request) = @_;
    return http($on, $on->{servers}{two}{port}, @request);
}


sub http {
    my ($on, $port, $method, $path, %o) = @_;
    return sub {
        return httpload($on->{bench}, port => $port, method => $method,
                        connections => $on->{connections} || CONNECTIONS,
                        seconds => look($on), path => $path, %o);
    };
}


# A command of Redis with numbers below `keys`, by one thread of redis-benchmark
# and by two; nothing where it is not installed.

sub redis {
    my ($on, $keys, @command) = @_;
    my $redis = $on->{servers}{redis} or return;

    return map { ("redis$_" => redis_rates(port => $redis->{port},
                      command => \@command, keys => $keys, threads => $_,
                      connections => $on->{connections} || CONNECTIONS,
                      seconds => look($on), guess => $on->{guess})) } 1, 2;
}


# A request to webdis, where that is installed.

sub webdis {
    my ($on, @request) = @_;
    my $webdis = $on->{servers}{webdis} or return;
    return webdis => http($on, $webdis->{port}, @request);
}


# A row for each peer that was measured, of name => what is printed of it. Of
# redis-benchmark the better in each round counts, with one thread or two.

sub rows {
    my ($name, $v, @peers) = @_;
    my @rows;

    $v->{redis} = better(@$v{qw(redis1 redis2)}) if $v->{redis1};

    while (my ($peer, $title) = splice(@peers, 0, 2)) {
        next unless $v->{$peer};
        push @rows, { name => (@rows ? ' ' : $name) . " / $title",
                      unit => '/s', ours => $v->{ours}, peer => $v->{$peer},
                      ratio => ratios($v->{ours}, $v->{$peer}) };
    }

    return @rows;
}


1;
