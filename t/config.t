# The configuration: what nginx -t refuses, and why; that it touches nothing;
# several zones; nginx's own access rules on our locations.

use strict;
use warnings;

use MIME::Base64 qw(encode_base64);
use Test::More;

use KV::Test;

my $s = KV::Test->new;
my $path = $s->{path};


# Each bad configuration, "..." for the lines of http{}, is refused with the
# number of the line that is marked with #!, and words that match.

sub refuses {
    my ($name, $re, $http) = @_;

    my $t = KV::Test->new(conf => <<"END");
events { }
http {
    access_log off;
    $http
    server { listen 127.0.0.1:%%port%%; }
}
END
    my @lines = split /\n/, $t->config;
    my ($line) = grep { $lines[$_ - 1] =~ /#!/ } 1 .. @lines;
    my ($rc, $out) = $t->test_config;

    is($rc, 1, "$name: refused");
    like($out, qr/\[emerg\].*?$re.* in \S+t\.conf:$line$/im, "$name: why");
    ok(!-e $t->{path}, "$name: nothing is created");
}

my $p = "path=$path";

# kv_zone's parameters

refuses('no zone', qr/zone/, "kv_zone $p; #!");
refuses('no path', qr/path/, "kv_zone zone=main:8m; #!");
refuses('nothing', qr/kv_zone/, "kv_zone; #!");
refuses('no name', qr/zone/, "kv_zone zone=:8m $p; #!");
refuses('no size', qr/zone|size/, "kv_zone zone=main $p; #!");
refuses('an empty size', qr/size/, "kv_zone zone=main: $p; #!");
refuses('a bad size', qr/size/, "kv_zone zone=main:big $p; #!");
refuses('a negative size', qr/size/, "kv_zone zone=main:-8m $p; #!");
refuses('too small a zone', qr/small/, "kv_zone zone=main:3m $p; #!");
refuses('an empty path', qr/path/, "kv_zone zone=main:8m path=; #!");
refuses('an unknown parameter', qr/wrong=1/,
        "kv_zone zone=main:32m $p wrong=1; #!");
refuses('a stray word', qr/fast/, "kv_zone zone=main:32m $p fast; #!");

for my $bad ('sync=sometimes', 'sync=', 'sync=-1', 'segment=', 'segment=x',
             'segment=-1m', 'segment=1k', 'snapshot=', 'snapshot=x',
             'max_value=', 'max_value=x', 'max_value=0', 'max_value=-1',
             'max_value=100g', 'delay=', 'delay=x', 'delay=-1', 'batch=',
             'batch=x', 'batch=0', 'batch=-1', 'uploads=', 'uploads=x',
             'uploads=1k', 'uploads=33m', 'ttl=', 'ttl=0', 'ttl=-1', 'ttl=x',
             'ttl=3651d', 'readers=', 'readers=-1m',
             'readers=1k', 'readers=33m', 'list=', 'list=yes',
             'thread_pool=',
             'thread_pool=nowhere')
{
    my ($name) = split /=/, $bad;
    refuses($bad, qr/$name|thread pool/, "kv_zone zone=main:32m $p $bad; #!");
}

refuses('a segment smaller than a value', qr/segment/,
        "kv_zone zone=main:32m $p segment=1m max_value=2m; #!");
refuses('a segment smaller than the default value', qr/segment/,
        "kv_zone zone=main:32m $p segment=1m; #!");

refuses('a segment too small for a value, which says what to set',
        qr/segment=64k .* max_value=32k .* segment=132k/,
        "kv_zone zone=main:32m $p segment=64k max_value=100k; #!");
refuses('a segment too small for the default value, which says so',
        qr/segment=1m .* default.* max_value=992k .* segment=10272k/,
        "kv_zone zone=main:32m $p segment=1m; #!");

for my $twice ('zone=main:32m', $p, 'delay=1ms', 'batch=5 delay=1ms',
               'sync=off',
               'segment=16m', 'snapshot=off', 'max_value=1k', 'uploads=1m',
               'readers=1m', 'ttl=1h', 'list=on',
               'thread_pool=default')
{
    my ($name) = $twice =~ /^(\w+)=/;
    my $once = "zone=main:32m $p $twice";
    my $again = $twice =~ s/ .*//r;
    $once =~ s/ \Q$twice\E$// if $name =~ /^(?:zone|path)$/;
    refuses("$name= twice", qr/"$name=".* twice|twice.*"$name="/,
            "kv_zone $once $again; #!");
}

refuses('batch= without delay=', qr/batch.*delay/,
        "kv_zone zone=main:32m $p batch=10; #!");

refuses('one zone twice', qr/main/, <<"END");
    kv_zone zone=main:32m $p;
    kv_zone zone=main:32m path=$path-2; #!
END
refuses('two zones on one path', qr/path|director/, <<"END");
    kv_zone zone=main:32m $p;
    kv_zone zone=other:32m $p; #!
END
refuses('two zones on one path, differently written', qr/path|director/,
        <<"END");
    kv_zone zone=main:32m $p;
    kv_zone zone=other:32m $p/; #!
END

# the other directives

for my $directive (qw(kv kv_clear kv_health kv_stats kv_keys)) {
    my $location = $directive eq 'kv' ? '/kv/' : '= /x';
    my $zone = "kv_zone zone=main:32m $p list=on;";

    refuses("$directive of an unknown zone", qr/nowhere/, <<"END");
    $zone
    server { location $location {
        $directive nowhere; #!
    } }
END
    refuses("$directive of no zone", qr/$directive/, <<"END");
    $zone
    server { location $location {
        $directive; #!
    } }
END
    refuses("$directive twice", qr/$directive/, <<"END");
    $zone
    server { location $location {
        $directive main;
        $directive main; #!
    } }
END
    refuses("$directive outside a location", qr/$directive/, <<"END");
    $zone
    server {
        $directive main; #!
    }
END
}

# the dashboard, which names no store, and finds those of its server

for my $location ('/dashboard', '~ ^/dashboard', '@dashboard') {
    refuses("kv_dashboard in location $location", qr/exact location/, <<"END");
    kv_zone zone=main:32m $p;
    server {
        location = /stats { kv_stats main; }
        location $location {
            kv_dashboard; #!
        }
    }
END
}

for (['in the server', ''],
     ['that has an address', 'location ~ ^/stats { kv_stats main; }'],
     ['that has an address', 'location = /stats { internal; kv_stats main; }'])
{
    my ($where, $stats) = @$_;
    refuses("kv_dashboard without kv_stats $where", qr/kv_stats/, <<"END");
    kv_zone zone=main:32m $p;
    server {
        location = /kv/ { return 204; }
        $stats
        location = /dashboard {
            kv_dashboard; #!
        }
    }
    server { listen 127.0.0.1:1; location = /stats { kv_stats main; } }
END
}

refuses('kv_dashboard with a name', qr/kv_dashboard/, <<"END");
    kv_zone zone=main:32m $p;
    server { location = /dashboard {
        kv_dashboard main; #!
    } }
END
refuses('kv_dashboard twice', qr/kv_dashboard/, <<"END");
    kv_zone zone=main:32m $p;
    server { location = /dashboard {
        kv_dashboard;
        kv_dashboard; #!
    } }
END
refuses('kv_dashboard beside another', qr/kv_dashboard.*another/, <<"END");
    kv_zone zone=main:32m $p;
    server { location = /dashboard {
        kv_stats main;
        kv_dashboard; #!
    } }
END
refuses('kv_dashboard outside a location', qr/kv_dashboard/, <<"END");
    kv_zone zone=main:32m $p;
    server {
        kv_dashboard; #!
    }
END

refuses('kv_keys of a zone without lists', qr/kv_keys.*list=on/, <<"END");
    kv_zone zone=main:32m $p;
    server { location = /keys {
        kv_keys main; #!
    } }
END

# kv_incr, which stands anywhere

for (['another parameter', qr/"every=1".* takes zone=, by= and ttl=/,
      'kv_incr k zone=main every=1'],
     ['zone= twice', qr/"zone=b" of "kv_incr" is the second/,
      'kv_incr k zone=main zone=b'],
     ['by= twice', qr/"by=2" .*second/, 'kv_incr k zone=main by=1 by=2'],
     ['ttl= twice', qr/"ttl=2" .*second/, 'kv_incr k zone=main ttl=1 ttl=2'],
     ['no key', qr/key "zone=main" of "kv_incr", where .*: key contains/,
      'kv_incr zone=main zone=main'],
     ['an empty key', qr/key "" of "kv_incr", where .*: key cannot be empty/,
      'kv_incr "" zone=main'],
     ['a key that is none', qr/where "kv_key_chars" is "safe": key contains/,
      'kv_incr "a b" zone=main'],
     ['no zone', qr/"kv_incr" needs the parameter "zone=name"/, 'kv_incr k'],
     ['an empty zone', qr/needs the parameter "zone=/, 'kv_incr k zone='],
     ['an unknown zone', qr/unknown kv zone "none" of "kv_incr"/,
      'kv_incr k zone=none'],
     ['a bad number', qr/invalid by "1.5" of "kv_incr"/,
      'kv_incr k zone=main by=1.5'],
     ['an empty number', qr/invalid by ""/, 'kv_incr k zone=main by='],
     ['a bad time', qr/invalid ttl "x" of "kv_incr"/,
      'kv_incr k zone=main ttl=x'],
     ['no time', qr/invalid ttl "0"/, 'kv_incr k zone=main ttl=0'],
     ['off with more', qr/"kv_incr off" takes no parameters/,
      'kv_incr off zone=main'],
     ['off behind another', qr/"kv_incr off" stands beside another/,
      'kv_incr k zone=main; kv_incr off'],
     ['off before another', qr/"kv_incr off" stands beside another/,
      'kv_incr off; kv_incr k zone=main'])
{
    my ($name, $re, $lines) = @$_;
    $lines =~ s/; /;\n/;
    my $zone = "kv_zone zone=main:32m $p;";

    refuses("kv_incr: $name, in http", $re, "$lines; #!\n$zone\n");
    refuses("kv_incr: $name", $re, "$zone\nserver { location / { if (\$args) {"
            . "\n$lines; #!\n} } }");
}

refuses('kv_incr: a key that is none for an inner level', qr/"a b" .*invalid/,
        <<"END");
    kv_zone zone=main:32m $p;
    kv_key_chars any;
    kv_incr "a b" zone=main; #!
    server { location / { kv_key_chars safe; } }
END

# another content handler in the same location: the last would win in silence

for my $other ('proxy_pass http://127.0.0.1:9;', 'fastcgi_pass 127.0.0.1:9;',
               'uwsgi_pass 127.0.0.1:9;', 'empty_gif;', 'stub_status;')
{
    my ($name) = $other =~ /^(\w+)/;
    next if $name eq 'stub_status'
            && qx(@{[ KV::Test::nginx() ]} -V 2>&1) !~ /stub_status_module/;
    my %location = (kv => '/kv/');
    @location{qw(kv_clear kv_health kv_stats kv_dashboard)} = ('= /x') x 4
        if $name eq 'proxy_pass';

    for my $directive (sort keys %location) {
        my $line = $directive eq 'kv_dashboard' ? 'kv_dashboard;'
                                                : "$directive main;";

        refuses("$directive after $name", qr/$directive.*handler/, <<"END");
    kv_zone zone=main:32m $p;
    server { location $location{$directive} {
        $other
        $line #!
    } }
END
        refuses("$directive before $name", qr/$directive.*handler/, <<"END");
    kv_zone zone=main:32m $p;
    server { location $location{$directive} {
        $line #!
        $other
    } }
END
    }
}

# what is no content handler, or has a block of its own, is fine

for my $fine ('return 204;', 'if ($arg_x) { return 403; }',
              'if ($arg_x) { proxy_pass http://127.0.0.1:9; }',
              'limit_except GET { deny all; }', 'root /nowhere;')
{
    for my $lines ("$fine kv main;", "kv main; $fine") {
        my $t = KV::Test->new(conf => <<"END");
events { }
http {
    access_log off;
    kv_zone zone=main:32m $p;
    server { listen 127.0.0.1:%%port%%; location /kv/ { $lines } }
}
END
        my ($rc, $out) = $t->test_config;
        is($rc, 0, "location { $lines } is fine") or diag($out);
    }
}

for my $location ('/kv', '= /kv/', '~ ^/kv/', '~* /kv/', '@kv') {
    refuses("kv in location $location", qr/location/, <<"END");
    kv_zone zone=main:32m $p;
    server { location $location {
        kv main; #!
    } }
END
}

# good ones

for my $good ('', 'list=on', 'list=off', 'sync=always', 'sync=off',
              'sync=100ms', 'sync=1s', 'delay=0', 'delay=5ms',
              'batch=1 delay=0', 'batch=100 delay=2ms',
              'segment=64k max_value=32k', 'segment=64k max_value=1',
              'segment=16m',
              'segment=1m max_value=256k', 'snapshot=10m', 'max_value=1k',
              'thread_pool=default', 'thread_pool=ours')
{
    my $t = KV::Test->new(kv => $good, main => 'thread_pool ours threads=2;');
    my ($rc, $out) = $t->test_config;
    is($rc, 0, "kv_zone ... $good is fine") or diag($out);
    ok(!-e $t->{path}, "kv_zone ... $good: -t creates nothing");
}

{
    my $t = KV::Test->new(http => '} http {');
    my ($rc, $out) = $t->test_config;
    isnt($rc, 0, 'the test can tell good from bad');
}


# nginx -t beside the running server

$s->{kv} = 'segment=1m max_value=256k';
$s->start;
$s->put("key$_", value("key$_", $_, 1000)) for 1 .. 50;

sub state_of {
    my ($s) = @_;
    my $files = list_dir($s->{path});
    return join "\n", map { "$_ $files->{$_}" } sort keys %$files;
}

{
    my $stable = '';
    wait_for(sub { my $was = $stable; ($stable = state_of($s)) eq $was },
             5, 0.2);
    my $lock = read_file("$s->{path}/kv.lock");
    my $recovery = $s->store->{recovery};

    my ($rc, $out) = $s->test_config;
    is($rc, 0, 'nginx -t beside the server') or diag($out);
    is(state_of($s), $stable, 'it touches no file');
    is(read_file("$s->{path}/kv.lock"), $lock, 'nor the lock');

    $s->{zone} = '64m';
    ($rc, $out) = $s->test_config;
    is($rc, 0, 'nginx -t of another size') or diag($out);
    is(state_of($s), $stable, 'it touches no file');
    $s->{zone} = '32m';

    is_deeply($s->store->{recovery}, $recovery, 'nothing is recovered');
    is($s->put('key1', 'changed')->{status}, 200, 'the server takes writes');
    is($s->get('key50')->{body}, value('key50', 50, 1000), 'and has its data');
}
$s->done;


# modes and owners

is(sprintf('%04o', (stat $path)[2] & 07777), '0700', 'the directory is 0700');
is(join(' ', grep { ((stat "$path/$_")[2] & 07777) != 0600 }
             keys %{list_dir($path)}), '', 'its files are 0600');


# several zones, and the host's own rules

{
    my $t = KV::Test->new(
        http => <<'END',
    client_max_body_size 1k;
    kv_zone zone=two:16m path=%%dir%%/two segment=1m max_value=128k;
    kv_zone zone=three:16m path=%%dir%%/three segment=1m max_value=256k
            sync=off;
END
        servers => <<'END',
    server {
        listen 127.0.0.1:%%port%%;
        server_name two;
        location /kv/ { kv two; }
        location /v3/keys/ { kv three; }
        location = /clear { kv_clear two; }
        location = /stats { kv_stats two; }

        location /ro/ { kv two; limit_except GET { deny all; } }
        location /rw/ { kv two;
                        limit_except GET { allow 127.0.0.1; deny all; } }
        location /denied/ { kv two; deny all; }
        location /allowed/ { kv two; allow 127.0.0.1; deny all; }
        location /secret/ { kv two; auth_basic "kv";
                            auth_basic_user_file %%dir%%/passwords; }
    }
END
    );
    write_file("$t->{dir}/passwords", "me:{PLAIN}secret\n");
    $t->start;

    my @two = (headers => [ 'Host: two' ]);
    my $big = value('a', 1, 100_000);

    is($t->put('a', $big)->{status}, 200, 'a body over client_max_body_size');
    is($t->get('a', @two)->{status}, 404, 'zone two has a key of its own');
    is($t->put('a', 'second', @two)->{status}, 200, 'PUT to zone two');
    is($t->http(PUT => '/v3/keys/a', body => 'third', @two)->{status}, 200,
       'PUT to zone three');

    is($t->get('a')->{body}, $big, 'zone one');
    is($t->get('a', @two)->{body}, 'second', 'zone two');
    is($t->http(GET => '/v3/keys/a', @two)->{body}, 'third', 'zone three');
    is($t->store->{keys}, 1, 'statistics of zone one');

    my $r = $t->put('b', 'x' x 131_073, @two);
    is("$r->{status} $r->{body}", "413 value too large\n",
       'each zone has a limit of its own');
    is($t->put('b', 'x' x 131_073)->{status}, 200, 'the other takes it');

    $t->clear(@two);
    is($t->get('a', @two)->{status}, 404, 'zone two is cleared');
    is($t->get('a')->{body}, $big, 'zone one is not');
    ok(-e "$t->{dir}/two/kv.lock" && -e "$t->{dir}/three/kv.lock",
       'each has its directory');

    # limit_except, allow and deny, auth_basic

    $t->put('a', 'second', @two);
    is($t->http(GET => '/ro/a', @two)->{body}, 'second', 'limit_except: GET');
    is($t->http(HEAD => '/ro/a', @two)->{status}, 200, 'limit_except: HEAD');
    is($t->http(PUT => '/ro/a', body => 'x', @two)->{status}, 403,
       'limit_except: PUT');
    is($t->http(DELETE => '/ro/a', @two)->{status}, 403,
       'limit_except: DELETE');
    is($t->get('a', @two)->{body}, 'second', 'limit_except: unchanged');

    is($t->http(PUT => '/rw/b', body => $big, @two)->{status}, 200,
       'limit_except with allow: PUT');
    is($t->http(GET => '/rw/b', @two)->{body}, $big,
       'limit_except with allow: GET');
    is($t->http(DELETE => '/rw/b', @two)->{status}, 200,
       'limit_except with allow: DELETE');
    is($t->http(PUT => '/rw/b', body => 'x' x 131_073, @two)->{status}, 413,
       'limit_except with allow: too large');

    for my $method (qw(GET PUT DELETE)) {
        my @body = $method eq 'PUT' ? (body => 'x') : ();
        is($t->http($method => '/denied/a', @two, @body)->{status}, 403,
           "deny: $method");
        is($t->http($method => '/allowed/c', @two, @body)->{status},
           $method eq 'GET' ? 404 : 200, "allow: $method");
        is($t->http($method => '/secret/a', @two, @body)->{status}, 401,
           "auth_basic: $method without a password");
    }

    my $pass = 'Authorization: Basic ' . encode_base64('me:secret', '');
    is($t->http(PUT => '/secret/a', body => 'hidden',
                headers => [ 'Host: two', $pass ])->{status}, 200,
       'auth_basic: PUT with the password');
    is($t->http(GET => '/secret/a', headers => [ 'Host: two', $pass ])->{body},
       'hidden', 'auth_basic: GET with the password');
    is($t->http(GET => '/secret/', headers => [ 'Host: two', $pass ])->{status},
       400, 'auth_basic: an empty key');

    # after a restart

    is($t->stop, 0, 'it stops');
    $t->start;
    is($t->get('a')->{body}, $big, 'zone one after a restart');
    is($t->get('a', @two)->{body}, 'hidden', 'zone two after a restart');
    is($t->http(GET => '/v3/keys/a', @two)->{body}, 'third',
       'zone three after a restart');
    $t->done;
}

done_testing();
