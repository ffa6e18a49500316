package Bench::Watch::Servers;

# Who is watched: our server; nchan, which keeps messages in memory, as events
# of an EventSource; and etcd, by its gateway for JSON. Each is
#
#     { name, server, pids, idle, hot, plain, other }
#
# with the options of t/bench/watchload.c for streams of which each has a prefix
# (a channel) of its own that nobody writes; for streams of one prefix, with the
# writes that all of them see; for these without values, where that is possible;
# and for writes of other keys.

use strict;
use warnings;

use MIME::Base64 qw(encode_base64);

use Bench::Etcd;
use Bench::Nginx;

use constant VALUE => 'v' x 100;

# Of the worker processes, which do not share streams evenly.
use constant CONNECTIONS => 16_384;


# Those that are installed; ours is the first.

sub start {
    my ($bench) = @_;
    my @servers = (ours($bench), nchan($bench), etcd($bench));

    $_->{server}->start for @servers;
    return @servers;
}


sub ours {
    my ($bench) = @_;
    my %put = (method => 'PUT', body => VALUE);
    my %stream = (ready => ': watching', mark => '"key":"hot:00');
    my $hot = '/api.watch?prefix=hot:00';

    return {
        name => 'ours', bench => $bench, server => nginx($bench, 'watch',
            zones => [[api => '1g', 'feed=16m']]),
        idle => { %stream, watch => '/api.watch?prefix=idle:{n}:' },
        hot => { %stream, watch => "$hot&values=1", %put,
                 path => '/api/hot:00{n}' },
        plain => { %stream, watch => $hot, %put, path => '/api/hot:00{n}' },
        other => { %put, path => '/api/other:{n}', keys => 997 },
    };
}


# A message is kept until it is a minute old, so that no stream misses one.

sub nchan {
    my ($bench) = @_;
    my $module = nchan_module($bench) or return;
    my %post = (method => 'POST', body => '{n}' . substr VALUE, 9);
    my %stream = (ready => ': hi', mark => 'data: ');

    return {
        name => 'nchan', bench => $bench, server => nginx($bench, 'nchan',
            zones => [], top => "load_module $module;\n",
            block => "nchan_shared_memory_size 1g;\n",
            locations => <<'END'),
location = /pub {
            nchan_publisher;
            nchan_channel_id $arg_id;
            nchan_message_buffer_length 1000000;
            nchan_message_timeout 60s;
        }
        location = /sub {
            nchan_subscriber eventsource;
            nchan_channel_id $arg_id;
            nchan_subscriber_first_message newest;
        }
END
        idle => { %stream, watch => '/sub?id=idle{n}' },
        hot => { %stream, watch => '/sub?id=hot', %post,
                 path => '/pub?id=hot' },
        other => { %post, path => '/pub?id=other{n}', keys => 997 },
    };
}


sub nchan_module {
    my ($bench) = @_;
    my ($modules) = qx("$bench->{nginx}" -V 2>&1) =~ /--modules-path=(\S+)/;
    my ($module) = grep { -e } "$modules/ngx_nchan_module.so";
    return $module;
}


# Parts of keys have lengths of which base64 can be put together.

sub etcd {
    my ($bench) = @_;
    return unless $bench->{have}{etcd};

    my ($idle, $hot, $hot_end, $other, $value) =
        map { encode_base64($_, '') } 'idle:0', 'hot:00', 'hot:01', 'other:',
                                      VALUE;
    my %put = (method => 'POST', path => '/v3/kv/put');
    my %stream = (watch => '/v3/watch', base64 => 1,
                  ready => '"created":true', mark => qq("key":"$hot));

    return {
        name => 'etcd', bench => $bench,
        server => Bench::Etcd->new(bench => $bench, name => 'etcd'),
        idle => { %stream, request => qq({"create_request":{"key":"$idle\{b}")
                                      . qq(,"range_end":"$idle\{e}"}}) },
        hot => { %stream, %put, body => qq({"key":"$hot\{b}","value":"$value"}),
                 request => qq({"create_request":{"key":"$hot","range_end":)
                            . qq("$hot_end"}}) },
        other => { %put, keys => 997,
                   body => qq({"key":"$other\{b}","value":"$value"}) },
    };
}


# With reuseport, so that connections are spread over the workers evenly, and
# not by chance.

sub nginx {
    my ($bench, $name, %o) = @_;
    return Bench::Nginx->new(bench => $bench, name => $name, workers => 2,
                             connections => CONNECTIONS, listen => 'reuseport',
                             %o);
}


# All processes of a server.

sub pids {
    my ($self) = @_;
    my $server = $self->{server};
    return ($server->{pid}, $server->can('workers') ? $server->workers : ());
}


1;
