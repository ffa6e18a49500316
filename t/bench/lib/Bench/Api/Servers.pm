package Bench::Api::Servers;

# Those that Bench::Api compares: an nginx with two workers and one with one,
# with stores of many keys and lists; a Redis whose every write is synced, with
# as many names in an ordered set, and webdis before it.

use strict;
use warnings;

use HTTP::Tiny ();

use Bench::Nginx;
use Bench::Process;
use Bench::Redis;
use Bench::Report;
use Bench::Store;
use Bench::Webdis;


# $servers->{two}, {one}: the instances; {redis}, {webdis}; {keys}, how many
# there are in the stores `many` and, without a list, `plain`, and in Redis's
# set. {counts}: the other numbers of keys, which the stores kNUMBER have.

sub new {
    my ($class, $bench) = @_;
    my $self = bless { bench => $bench }, $class;

    $self->{keys} = $bench->{quick} ? 100_000 : 1_000_000;
    $self->{counts} = $bench->{quick} ? [10_000]
                    : $bench->{little} ? [100_000] : [100_000, 10_000_000];

    $self->{two} = $self->start_nginx('two', 2, [api => '1g', ''],
        $self->store('plain', $self->{keys}, ''),
        $self->store('many', $self->{keys}, 'list=on'),
        map { $self->store("k$_", $_, 'list=on') } @{$self->{counts}});
    $self->{one} = $self->start_nginx('one', 1,
        $self->store('many', $self->{keys}, 'list=on'));
    $self->start_redis if $bench->{have}{redis};
    $self->check;

    return $self;
}


# A zone of so many keys, and room for as many more.

sub store {
    my ($self, $name, $keys, $params) = @_;
    my $n = $self->{stores}++;
    my $store = Bench::Store->new($self->{bench}, "api$n", $keys);
    return [$name => $store->zone_size(512), qq($params "path=$store->{dir}")];
}


sub start_nginx {
    my ($self, $name, $workers, @zones) = @_;
    my $bench = $self->{bench};
    my $file = "$bench->{dir}/page";

    $bench->{progress}->("starting $workers worker" . ($workers > 1 && 's'));
    open(my $f, '>', $file) or die "$file: $!\n";
    print $f page();
    close $f or die "$file: $!\n";

    my $nginx = Bench::Nginx->new(
        bench => $bench, name => "api.$name", workers => $workers,
        zones => \@zones, patience => 120, locations => <<"END");
location = /page {
            alias "$file";
            sendfile on;
            tcp_nopush on;
        }
END
    $nginx->start;

    return $nginx;
}


# A page of the first 1,000 keys.

sub page { return join '', map { sprintf "%016d\n", $_ } 0 .. 999 }


# As Bench::Field has it; without a rewrite of its log meanwhile.

sub start_redis {
    my ($self) = @_;
    my $bench = $self->{bench};

    $bench->{progress}->('a Redis with a set of ' . short($self->{keys}));
    $self->{redis} = Bench::Redis->new(bench => $bench, name => 'redis.api');
    $self->{redis}->start('appendonly yes', 'appendfsync always',
                          'auto-aof-rewrite-percentage 0');
    $self->{redis}->command('EVAL', "for i = 0, ARGV[1] do redis.call('ZADD', "
        . "'index', 0, string.format('%016d', i)) end", 0, $self->{keys} - 1);

    if ($bench->{have}{webdis}) {
        $self->{webdis} = Bench::Webdis->new(redis => $self->{redis});
        $self->{webdis}->start;
    }
}


# Each does what it is measured for.

sub check {
    my ($self) = @_;
    my ($nginx, $webdis) = @$self{qw(two webdis)};
    my $list = '/many.keys?prefix=0000000000000';

    die "the list is not the file\n" if $nginx->request(GET => $list)->{content}
        ne $nginx->request(GET => '/page')->{content};
    die "no counter\n"
        if $nginx->request(POST => '/api/check?incr=7')->{content} ne '7';
    die "no batch\n"
        unless $nginx->request(POST => '/api.batch', qq({"key":"check","value")
                               . qq(:"8"}\n))->{success}
            && $nginx->request(GET => '/api/check')->{content} eq '8';
    die "no time of expiry\n"
        unless $nginx->request(PUT => '/api/check?ttl=3600', 'x')->{success}
            && $nginx->request(GET => '/api/check')->{headers}{expires};

    return unless $webdis;

    my $redis = $self->{redis};
    my $http = HTTP::Tiny->new(timeout => 30);
    my $url = "http://127.0.0.1:$webdis->{port}";

    $http->put("$url/SETEX/check/3600", { content => 'x' });
    die "webdis: no SETEX\n"
        unless $redis->command('GET', 'check') eq 'x'
            && $redis->command('TTL', 'check') > 0;
    $http->put("$url/SETNX/check2", { content => 'x' });
    die "webdis: no SETNX\n" if $redis->command('GET', 'check2') ne 'x';
    $http->get("$url/INCR/check3");
    die "webdis: no INCR\n" if $redis->command('GET', 'check3') ne '1';

    my $names = $http->get("$url/ZRANGEBYLEX/index/%5B" . '0' x 16
                           . '/%2B/LIMIT/0/1000')->{content};
    die "webdis: no list\n" if 1000 != (() = $names =~ /"\d{16}"/g);
}


sub sync_disk {
    my ($self) = @_;
    run({ timeout => 120 }, 'sync', '-f', $self->{bench}{dir});
}


sub stop {
    my ($self) = @_;
    $self->{redis}->check_errors if $self->{redis};
    Bench::Process::stop($_->{pid}) for grep { $_ } @$self{qw(webdis redis)};
    $_->stop for @$self{qw(two one)};
}


1;
