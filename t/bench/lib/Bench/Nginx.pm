package Bench::Nginx;

# An nginx with the module, on a port of its own:
#
#     Bench::Nginx->new(bench => $bench, name => 'two', workers => 2,
#                       zones => [[always => '1g', 'sync=always']],
#                       locations => 'location /x { return 200; }')->start;
#
# Lines in `top`, `block` and `locations` go to the top of the configuration,
# into http{}, and into its server{}.
#
# Each zone is served at /NAME/, its health and figures at /NAME.health and
# /NAME.stats, batches at /NAME.batch, bulk loads at /NAME.bulk and, with
# list=on, lists at /NAME.keys, with feed=, watches at /NAME.watch; its data is
# in the directory NAME unless path= says otherwise.

use strict;
use warnings;

use HTTP::Tiny ();
use IO::Socket::INET ();
use JSON::PP ();
use Time::HiRes qw(time);

use Bench::Process;


sub new {
    my ($class, %o) = @_;
    my $dir = "$o{bench}{dir}/$o{name}";
    mkdir $_ or die "$_: $!\n" for $dir, "$dir/tmp";
    return bless { locations => '', listen => '', top => '', block => '',
                   connections => 2048, %o,
                   http => HTTP::Tiny->new(timeout => 30),
                   dir => $dir, port => free_port() }, $class;
}


sub config {
    my ($self) = @_;
    my $dir = $self->{dir};
    my ($zones, $locations) = ('', '');
    my $files = 4 * $self->{connections};

    for my $zone (@{$self->{zones}}) {
        my ($name, $size, $params) = @$zone;
        $params .= qq( "path=$dir/$name") unless $params =~ /path=/;
        $zones .= "kv_zone zone=$name:$size $params;\n";
        $locations .= <<"END";
        location /$name/ { kv $name; }
        location = /$name.health { kv_health $name; }
        location = /$name.stats { kv_stats $name; }
        location = /$name.batch { kv_batch $name; }
        location = /$name.bulk { kv_bulk $name; }
END
        $locations .= "location = /$name.keys { kv_keys $name; }\n"
            if $params =~ /list=on/;
        $locations .= "location = /$name.watch { kv_watch $name; }\n"
            if $params =~ /feed=/;
    }

    my $temp = join '', map { qq(${_}_temp_path "$dir/tmp/$_";\n) }
                        qw(client_body proxy fastcgi uwsgi scgi);

    return <<"END";
load_module "$self->{bench}{module}";
$self->{top}
$self->{bench}{user}
daemon off;
worker_processes $self->{workers};
worker_rlimit_nofile $files;
pid "$dir/nginx.pid";
error_log "$dir/error.log" notice;
events { worker_connections $self->{connections}; }
http {
    access_log off;
    default_type text/plain;
    keepalive_requests 1000000000;
    client_max_body_size 16m;
    $temp
    $zones
    $self->{block}
    server {
        listen 127.0.0.1:$self->{port} backlog=4096 $self->{listen};
        $locations
        $self->{locations}
    }
}
END
}


# Starts it and returns the seconds from then until all its zones are healthy.

sub start {
    my ($self) = @_;
    my $dir = $self->{dir};

    open(my $f, '>', "$dir/nginx.conf") or die "$dir/nginx.conf: $!\n";
    print $f $self->config;
    close $f;

    my $from = time;
    $self->{pid} = Bench::Process::start("$dir/stderr",
        $self->{bench}{nginx}, '-e', 'stderr', '-p', "$dir/", '-c',
        "$dir/nginx.conf");

    my $up = wait_for($self->{patience} || 30, sub {
        return 1 unless running($self->{pid});
        return IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                     PeerPort => $self->{port})
            && !grep { !$self->healthy($_->[0]) } @{$self->{zones}};
    }, 0.002);

    die "nginx does not start:\n" . last_lines("$dir/error.log")
        . last_lines("$dir/stderr") unless $up && running($self->{pid});

    return time - $from;
}


sub stop { my ($self) = @_; Bench::Process::stop($self->{pid}) }


sub healthy {
    my ($self, $zone) = @_;
    return $self->request(GET => "/$zone.health")->{success};
}


sub stats {
    my ($self, $zone) = @_;
    my $answer = $self->request(GET => "/$zone.stats");
    return JSON::PP::decode_json($answer->{content});
}


sub request {
    my ($self, $method, $path, $body) = @_;
    return $self->{http}->request($method, "http://127.0.0.1:$self->{port}"
        . $path, defined $body ? { content => $body, headers =>
                        { 'content-type' => 'text/plain' } } : {});
}


sub workers {
    my ($self) = @_;
    my $file = "/proc/$self->{pid}/task/$self->{pid}/children";
    open(my $f, '<', $file) or die "$file: $!\n";
    return split ' ', readline($f) // '';
}


# Nanoseconds that the workers' threads have run.

sub worked {
    my ($self) = @_;
    return cpu_ns($self->workers);
}


1;
