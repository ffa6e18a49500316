package Bench::Field;

# All that is compared over HTTP: one nginx with two workers and one with one,
# each with our module and with what nginx does by itself; Redis and webdis
# where they are installed. Started, filled, and asked once whether they give
# back what they took, byte for byte.

use strict;
use warnings;

use File::Path qw(make_path);

use Bench::Check;
use Bench::Load;
use Bench::Nginx;
use Bench::Process;
use Bench::Redis;
use Bench::Webdis;

use constant MIB => 1_048_576;

my @SYNCS = qw(always 1s off);


# $field->{two}, {one}: the instances; {redis}, {webdis}; and target(). Without
# the option `all` there is no instance with one worker, and of each size but
# one key to read.

sub new {
    my ($class, $bench, %o) = @_;
    my $self = bless { bench => $bench, %o }, $class;

    $self->{two} = $self->start_nginx('two', 2);
    $self->{one} = $self->start_nginx('one', 1) if $o{all};
    $self->start_redis if $bench->{have}{redis};
    $self->fill($_) for $self->targets;
    $self->sync_disk;
    Bench::Check::values($_, $self->sizes($_->{workers})) for $self->targets;
    Bench::Check::heads(map { $self->target($_) } @$_)
        for ['always', 'return'], ['always', 'discard'];
    $self->warm_up;

    return $self;
}


# What a name stands for, with two workers or one: always, 1s, off (ours),
# return, discard, dav, webdis. Nothing if there is none.

sub target {
    my ($self, $name, $workers) = @_;
    my $nginx = $self->{$workers && $workers == 1 ? 'one' : 'two'} or return;
    my %on = (port => $nginx->{port}, name => $name,
              workers => $nginx->{workers});

    return { %on, get => '/return/SIZE' } if $name eq 'return';
    return { %on, put => '/discard/vSIZE-%d' } if $name eq 'discard';

    if ($name eq 'webdis') {
        return unless $self->{webdis} && $nginx == $self->{two};
        return { %on, port => $self->{webdis}{port},
                 before => sub { $self->{webdis}->restart },
                 put => '/SET/vSIZE-%d', get => '/GET/vSIZE-%d.txt' };
    }

    return { %on, put => "/$name/vSIZE-%d", get => "/$name/vSIZE-%d",
             lone => "/$name/v100-" };
}


# One worker is compared with the least values only.

sub sizes {
    my ($self, $workers) = @_;
    my @sizes = @{$self->{bench}{sizes}};
    return $workers == 1 ? $sizes[0] : @sizes;
}


sub targets {
    my ($self) = @_;
    my @names = (@SYNCS, qw(return discard dav));
    return ((map { $self->target($_, 2) } @names, 'webdis'),
            $self->{one} ? map { $self->target($_, 1) } @names : ());
}


sub start_nginx {
    my ($self, $name, $workers) = @_;
    my $dir = "$self->{bench}{dir}/$name";
    my $size = grep({ $_ >= MIB } $self->sizes($workers)) ? '1536m' : '256m';

    my $nginx = Bench::Nginx->new(
        bench => $self->{bench}, name => $name, workers => $workers,
        zones => [map { [$_ => $size, "sync=$_"] } @SYNCS],
        locations => $self->locations($dir));

    make_path("$dir/files/dav");
    chmod 0777, "$dir/files/dav" or die "$dir/files/dav: $!\n";
    $nginx->start;

    return $nginx;
}


# The headers of `return 200` are those of our answers, with an entity tag that
# is always the same. A parameter of nginx's configuration is shorter than 4
# KiB, so the longer body is made of pieces.

sub locations {
    my ($self, $dir) = @_;
    my $etag = q{add_header ETag '"80808-688a38eef9c66195"';};
    my $like_ours = "$etag add_header X-Content-Type-Options nosniff; "
                    . 'add_header Cache-Control no-cache; '
                    . 'add_header Accept-Ranges bytes;';
    my ($hundred, $piece) = ('x' x 100, 'x' x 1024);

    return <<"END";
location = /return/100 { $like_ours return 200 "$hundred"; }
        location = /return/4096 {
            $like_ours
            set \$piece "$piece";
            return 200 \$piece\$piece\$piece\$piece;
        }
        location /discard/ {
            $etag
            add_header Cache-Control no-cache;
            return 200;
        }
        location /dav/ {
            root "$dir/files";
            dav_methods PUT;
            sendfile on;
            tcp_nopush on;
        }
END
}


# Every write is synced before it is answered, as ours with sync=always; all
# else is as Redis comes, but for snapshots, which its log does not need.

sub start_redis {
    my ($self) = @_;

    $self->{redis} = Bench::Redis->new(bench => $self->{bench},
                                       name => 'redis');
    $self->{redis}->start('appendonly yes', 'appendfsync always');

    if ($self->{bench}{have}{webdis}) {
        $self->{webdis} = Bench::Webdis->new(redis => $self->{redis});
        $self->{webdis}->start;
    }
}


# The keys that are read later. The files of nginx's own are made by hand,
# because WebDAV answers 201 and the client wants a 200.

sub fill {
    my ($self, $target) = @_;
    return unless $target->{put} && $target->{get};
    $self->{bench}{progress}->("filling $target->{name}");

    for my $size ($self->sizes($target->{workers})) {
        my $count = $self->{all} ? keys_of($size) : 1;
        (my $prefix = $target->{put}) =~ s/SIZE-%d/$size-/;

        if ($target->{name} eq 'dav') {
            $self->make_files($target, $prefix, $count, $size);

        } else {
            run({ timeout => 60 }, "$self->{bench}{bin}/httplat",
                $target->{port}, 'PUT', $prefix, $count, $size);
        }
    }
}


# The keys that redis-benchmark reads.

sub fill_redis {
    my ($self, $size) = @_;
    $self->{redis}->command('EVAL', "for i = 0, ARGV[1] do redis.call('SET', "
        . "string.format('key:%012d', i), ARGV[2]) end", 0, keys_of($size) - 1,
        'x' x $size);
}


sub make_files {
    my ($self, $target, $prefix, $count, $size) = @_;
    my ($nginx) = grep { $_ && $_->{port} == $target->{port} }
                  @$self{qw(two one)};
    my @owner = (stat "$nginx->{dir}/always")[4, 5];

    for my $i (0 .. $count - 1) {
        my $name = "$nginx->{dir}/files$prefix$i";
        open(my $f, '>', $name) or die "$name: $!\n";
        print $f 'x' x $size;
        close $f or die "$name: $!\n";
        chown @owner, $name or die "$name: $!\n";
    }
}


# Clocks up to speed, and the log's segments there.

sub warm_up {
    my ($self) = @_;

    my $target = $self->target('always');

    $self->{bench}{progress}->('warming up');
    wrk(op => $_, target => $target, size => 100, connections => 256,
        seconds => $self->{bench}{look}) for qw(get put);
}


# What one left to do, the next is not to pay for: answers that no client waits
# for any more, and what is to be written to the disk.

sub settle {
    my ($self) = @_;
    my ($before, $now) = (-1, ticks($self->pids));

    wait_for(5, sub {
        ($before, $now) = ($now, ticks($self->pids));
        return $before == $now;
    }, 0.04);

    $self->sync_disk;
}


sub sync_disk {
    my ($self) = @_;
    run({ timeout => 120 }, 'sync', '-f', $self->{bench}{dir});
}


sub stop {
    my ($self) = @_;
    $self->{redis}->check_errors if $self->{redis};
    Bench::Process::stop($_->{pid}) for grep { $_ } @$self{qw(webdis redis)};
    $_->stop for grep { $_ } @$self{qw(two one)};
}


sub pids {
    my ($self) = @_;
    return ((map { $_->workers } grep { $_ } @$self{qw(two one)}),
            map { $_->{pid} } grep { $_ } @$self{qw(redis webdis)});
}


# The time that processes have used, in the kernel's ticks.

sub ticks {
    my $sum = 0;

    for my $pid (@_) {
        open(my $f, '<', "/proc/$pid/stat") or next;
        my ($rest) = (readline($f) // '') =~ /\) (.*)/ or next;
        my @fields = split ' ', $rest;
        $sum += $fields[11] + $fields[12];
    }

    return $sum;
}


1;
