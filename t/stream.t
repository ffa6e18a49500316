# kv_get in stream{}: the block list of src/http/variables.md as it stands
# there, what a variable is, and what is refused, whichever of http{} and
# stream{} comes first.

use strict;
use warnings;

use Test::More;

use KV::Test;
use KV::Util qw(free_port);

my $PAGE = read_file('src/http/variables.md');
my $built = qx(@{[ KV::Test::nginx() ]} -V 2>&1);
my ($modules) = $built =~ /--modules-path=(\S+)/;
my $load = '';

# Debian's stream is to be loaded, and so is what is to be beside it.

if ($built !~ /--with-stream(?= |$)/) {
    my %where = (ngx_stream_module => $modules // '', ngx_stream_kv_module =>
                 Cwd::abs_path($ENV{KV_MODULE} || '.build/x') =~ s{/[^/]*$}{}r);
    my ($lines) = $PAGE =~ /^```\n((?:load_module .*;\n)+)```\n/m
        or BAIL_OUT('how is it loaded?');

    $lines =~ s{^load_module modules/ngx_http_kv_module\.so;\n}{}
        or BAIL_OUT('it is loaded first');
    $load = $lines =~ s{(?<=load_module )modules/(\w+)}{$where{$1}/$1}gr;

    for my $file ($load =~ /load_module (.*);/g) {
        plan(skip_all => "there is no $file") if !-e $file;
    }
}


my ($example) = $PAGE
                =~ /^## A block list for TCP\n.*?^```nginx\n(.*?)^```\n/ms
    or BAIL_OUT('there is no example');
my %port = map { $_ => free_port() } 5433, 5432;

$example =~ s/listen 5433;/listen 127.0.0.1:$port{5433};/
    or BAIL_OUT('where does it listen?');
$example =~ s/127\.0\.0\.1:5432/127.0.0.1:$port{5432}/
    or BAIL_OUT('where does it go?');
$example =~ s{/run/nginx-closed\.sock}{%%dir%%/closed}g;

# What is behind it is a server of http{} that says which worker the connection
# of stream{} is at.

my $s = KV::Test->new(main => $load, example => $example,
                      backend => $port{5432}, values => free_port(),
                      kept => free_port(), found => free_port(),
                      get => 'kv_get v $v zone=main default=none-$remote_addr;
                              kv_get v $raw zone=main raw;
                              map $remote_addr $found { "~^(?<a>.*)$" $a; }
                              kv_get f:$a:$found $of_found zone=main;',
                      servers => <<'END');
    server { listen 127.0.0.1:%%backend%%; return 200 backend; }
END
$s->{stream} = <<'END';
stream {
    %%get%%
    server { listen 127.0.0.1:%%values%%; return "$pid [$v] [$raw]"; }
    server { listen 127.0.0.1:%%found%%; return $of_found; }
    log_format kept '[$early] [$v]';
    server {
        listen 127.0.0.1:%%kept%%;
        set $early $v;
        proxy_pass 127.0.0.1:%%backend%%;
        access_log %%dir%%/kept.log kept;
    }
END
$s->{example} =~ s/^stream \{\n// or BAIL_OUT('where is stream{}?');


# http{} before, and behind

my $conf;
{
    local $s->{conf};
    ($conf) = $s->config =~ /^(events .*)/ms;
}

sub in_order {
    my ($stream_first) = @_;
    my ($events, $http) = $conf =~ /^(events .*?\n)(http .*)/ms;
    my $stream = "$s->{stream}$s->{example}";
    $s->{conf} = $load . $events
                 . ($stream_first ? "$stream$http" : "$http$stream");
}


# What a connection gets: all until its end.

sub got {
    my ($port, $send, %o) = @_;
    my $c = KV::Conn->new(port => $port, %o);
    $c->send($send) if $send ne '';
    $c->closed(0) while !$c->{eof} && $c->ready(0, 30) && ($c->fill, 1);
    return $c->{in};
}

# The same of each worker of stream{}.

sub got_of_each {
    my ($port, $send) = @_;
    return $s->on_each(sub {
        my ($worker) = @_;
        return got($port, $send) =~ s/^$worker /worker /r
                                 =~ s/^HTTP.*\r\n\r\n//sr;    # it has a date
    });
}


for my $stream_first (1, 0) {
    my $order = $stream_first ? 'stream{} first' : 'http{} first';
    in_order($stream_first);
    $s->start;

    my $request = "GET / HTTP/1.0\r\n\r\n";
    my $blocked = sub { got_of_each($port{5433}, $request) };

    is($blocked->(), 'backend', "$order: nobody is blocked");
    is($s->put('block:127.0.0.1', 'yes')->{status}, 200, "$order: one is");
    is($blocked->(), '', "$order: on every worker");
    like(got($port{5433}, $request, from => '127.0.0.2'), qr/backend$/,
         "$order: others are not");
    $s->del('block:127.0.0.1');
    is($blocked->(), 'backend', "$order: let in again");

    is(got_of_each($s->{values}, ''), 'worker [none-127.0.0.1] []',
       "$order: the default");
    $s->put('v', "a\r\nb\0\n");
    is(got_of_each($s->{values}, ''), "worker [a  b ] [a\r\nb\0\n]",
       "$order: a line, and all bytes");
    $s->del('v');
    $s->put('f:127.0.0.1:127.0.0.1', 'found');
    is(got($s->{found}, ''), 'found', "$order: what a map finds, in a key");
    is($s->stop, 0, "$order: a stop");
}


# a reload; what is counted

{
    $s->{http} = 'kv_zone zone=two:8m path=%%dir%%/two;';
    $s->{server} = 'location /two/ { kv two; }';
    delete $s->{conf};
    ($conf) = $s->config =~ /^(events .*)/ms;
    in_order(1);
    $s->start;
    my $before = $s->stats->{variables};
    is(got_of_each($s->{values}, ''), 'worker [none-127.0.0.1] []', 'before');
    my $after = $s->stats->{variables};
    is($after->{misses} - $before->{misses}, 4, 'reads are counted');

    $s->put('v', 'first');
    my $c = KV::Conn->new(port => $s->{kept});
    $c->send(KV::Conn::request(GET => '/'));
    is($c->response('GET')->{body}, 'backend', 'a connection');
    $s->put('v', 'second');
    $c->close;
    ok(wait_for(sub { -s "$s->{dir}/kept.log" }, 10), 'which ends');
    is(read_file("$s->{dir}/kept.log"), "[first] [first]\n",
       'has had one value');
    $s->del('v');

    $s->http(PUT => '/two/v', body => 'of two');
    $s->{get} =~ s/zone=main/zone=two/g;
    ok(defined $s->reload, 'a reload with another zone');
    is(got_of_each($s->{values}, ''), 'worker [of two] [of two]',
       'is what they read');

    $s->expect_log(qr/unknown kv zone "three"/);
    $s->{get} =~ s/zone=two/zone=three/;
    ok($s->reload(qr/unknown kv zone "three"/), 'no such zone: refused');
    is(got_of_each($s->{values}, ''), 'worker [of two] [of two]',
       'all goes on');
    $s->done;
}


# certificates

SKIP: {
    my ($dir, $tls) = ($s->{dir}, free_port());
    skip('no TLS in stream{}, or no openssl', 3)
        if $built !~ /--with-stream_ssl_module/
           || system('openssl version >/dev/null 2>&1') != 0;

    system("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 "
           . "-nodes -days 2 -subj /CN=a.example -keyout $dir/key "
           . "-out $dir/crt >/dev/null 2>&1") == 0 or die 'openssl';

    $s->{get} = "kv_get cert:\$ssl_server_name \$pem zone=main;
        server { listen 127.0.0.1:$tls ssl; ssl_certificate data:\$pem;
                 ssl_certificate_key data:\$pem; return [\$v]; }
        kv_get v \$v zone=main; kv_get v \$raw zone=main;
        kv_get f \$of_found zone=main;";
    $s->start;

    my $shown = sub {
        return scalar qx(timeout 30 openssl s_client -connect 127.0.0.1:$tls \\
                             -servername a.example -ign_eof 2>&1 </dev/null);
    };
    unlike($shown->(), qr/a\.example/, 'no certificate yet');
    is($s->put('cert:a.example', read_file("$dir/crt") . read_file("$dir/key"))
           ->{status}, 200, 'one is stored');
    $s->put('v', "a\r\nb\n");
    like($shown->(), qr/subject=.*a\.example/, 'at once');
    like($shown->(), qr/^\[a  b\]/m, 'other variables are lines');
    $s->done;
}


# ---- what is refused

{
    my $kv = "kv_zone zone=main:8m path=%%path%%;";
    my $t = KV::Test->new;

    for (
        [ "http { %%temp%% $kv } stream { kv_get a \$a zone=main; }" ],
        [ "stream { kv_get a \$a zone=main; } http { %%temp%% $kv }" ],
        [ 'stream { }' ],
        [ "http { %%temp%% }" ],
        [ "stream { kv_get a \$a zone=nope; } http { %%temp%% $kv }",
          qr/unknown kv zone "nope" of "kv_get".* in .*t\.conf:\d+/ ],
        [ 'stream { kv_get a $a zone=main; }',
          qr/unknown kv zone "main" of "kv_get": .* in http\{\}/ ],
        [ "http { %%temp%% $kv } stream { kv_get a a zone=main; }",
          qr/invalid variable "a" of "kv_get"/ ],
        [ "http { %%temp%% $kv } stream { kv_get a \$a zone=main ttl=1; }",
          qr/unknown parameter "ttl=1" of "kv_get"/ ],
        [ "http { %%temp%% $kv } stream { kv_get a \$a zone=main;
                                         kv_get b \$a zone=main; }",
          qr/variable "\$a" of "kv_get" is defined before/ ],
        [ "http { %%temp%% $kv } stream { kv_get a \$a zone=main;
                                         map \$pid \$a { default x; } }",
          qr/variable "\$a" of "kv_get" is defined again.* in .*t\.conf:\d+/ ],
        [ "http { %%temp%% $kv } stream { server { listen 1;
                                         kv_get a \$a zone=main; } }",
          qr/"kv_get" directive is not allowed here/ ],
    ) {
        my ($text, $refused) = @$_;
        $t->{conf} = "$load\nevents { }\n$text\n";
        my ($status, $said) = $t->test_config;
        is($status == 0, !$refused, $text =~ s/\s+/ /gr) or diag($said);
        like($said, $refused, 'which is said') if $refused;
    }

    # a zone that one refers to in http{} is another

    $t->{conf} = "$load\nevents { }\nhttp { %%temp%% $kv
        kv_get a \$a zone=main; } stream { kv_get a \$a zone=main; }";
    my ($status, $said) = $t->test_config;
    is($status, 0, 'the same variable in both') or diag($said);
}

done_testing();
