# The configurations and the examples in README.md and src/http/README.md, as
# they stand there, and what these pages and contents.md beside say of
# directives, parameters, locks and statistics.

use strict;
use warnings;

use POSIX ();
use Test::More;

use KV::Test;

my $README = read_file('README.md');
my $HTTP = read_file('src/http/README.md');
my @blocks = "$README$HTTP" =~ /^```nginx\n(.*?)^```\n/msg;


# The only block that has this; with its paths and ports made ours.

sub block {
    my ($what) = @_;
    my @found = grep { /$what/ } @blocks;

    is(scalar @found, 1, "there is one configuration with $what")
        or BAIL_OUT('which one is meant?');
    return $found[0];
}


# ---- the example, which is whole

{
    my $s = KV::Test->new;
    my $text = block('kv_zone');

    $text =~ s/^load_module .*\n//m or fail('no load_module in the example');
    $text =~ s{path=/var/lib/nginx-kv}{path=%%path%%} or fail('no path=');
    $text =~ s/listen 127.0.0.1:8080;/listen 127.0.0.1:%%port%%;/
        or fail('no listen');
    $text =~ s/http \{/http { access_log off; %%temp%%/ or fail('no http{}');
    $s->{conf} = "events { }\n$text";
    $s->start;

    # its charset

    my $value = "\xc3\xbcml\xc3\xa4ut \xe2\x82\xac \xf0\x9f\x98\x80";
    my $bytes = join '', map { chr } 0 .. 255;

    for ([ 'UTF-8', $value ], [ 'other bytes', $bytes ],
         [ 'a large value', $bytes x 1000 ])
    {
        my ($what, $v) = @$_;
        is($s->put('u', $v)->{headers}{'content-type'},
           'text/plain; charset=utf-8', "$what: PUT");
        my $r = $s->get('u');
        is($r->{headers}{'content-type'}, 'text/plain; charset=utf-8',
           "$what: GET says what it is");
        ok($r->{body} eq $v, "$what: the same bytes");
        $r = $s->get('u', headers => [ 'Range: bytes=1-5' ]);
        ok($r->{status} == 206 && $r->{body} eq substr($v, 1, 5),
           "$what: a range of it");
    }

    is($s->get('none')->{headers}{'content-type'}, 'text/plain; charset=utf-8',
       'errors, too');
    is($s->http(GET => '/stats')->{headers}{'content-type'},
       'application/json', 'JSON needs none');
    is($s->clear->{status}, 200, '/clear');
    is($s->http(GET => '/health')->{status}, 200, '/health');
    $s->done;
}


# ---- locations, in place of our own

sub with_location {
    my ($text) = @_;
    my $s = KV::Test->new(text => $text);
    $s->{conf} = <<'END';
events { }
http {
    access_log off;
    %%temp%%
    kv_zone zone=main:%%zone%% path=%%path%%;
    server {
        listen 127.0.0.1:%%port%%;
        location = /health { kv_health main; }
        %%text%%
    }
}
END
    return $s->start;
}


{
    my $s = with_location(block('limit_except'));
    is($s->put('a', 'x')->{status}, 200, 'limit_except: this machine writes');
    is($s->get('a')->{body}, 'x', 'limit_except: and reads');
    $s->done;
}


# CORS: what a browser asks, and what it must see

{
    my $s = with_location(block('Access-Control-Allow-Origin'));
    my @origin = ('Origin: https://app.example');

    my $r = $s->http(OPTIONS => '/kv/a',
                     headers => [ @origin, 'Access-Control-Request-Method: PUT',
                                  'Access-Control-Request-Headers: '
                                  . 'content-type' ]);
    is($r->{status}, 204, 'CORS: the preflight');
    is($r->{headers}{'access-control-allow-origin'}, 'https://app.example',
       'CORS: its origin');
    like($r->{headers}{'access-control-allow-methods'}, qr/\bPUT\b/,
         'CORS: its methods');
    like($r->{headers}{'access-control-allow-headers'}, qr/\bcontent-type\b/i,
         'CORS: its headers');

    for ([ 'PUT', 200, PUT => '/kv/a', body => 'x' ],
         [ 'GET', 200, GET => '/kv/a' ],
         [ 'DELETE', 200, DELETE => '/kv/a' ],
         [ 'no such key', 404, GET => '/kv/a' ],
         [ 'a bad key', 400, GET => '/kv/a+b' ],
         [ 'too large', 413, PUT => '/kv/a',
           chunks => [ 'x' x 10_485_760, 'y' ] ],
         [ 'another method', 405, POST => '/kv/a', body => 'x' ])
    {
        my ($what, $status, $method, $path, @o) = @$_;
        $r = $s->http($method, $path, @o, headers => \@origin);
        is($r->{status}, $status, "CORS, $what: it is done");
        is($r->{headers}{'access-control-allow-origin'}, 'https://app.example',
           "CORS, $what: and may be seen");
    }

    $s->put('a', 'x');
    $r = $s->get('a', headers => [ @origin, 'Range: bytes=5-' ]);
    is("$r->{status} $r->{headers}{'access-control-allow-origin'}",
       '416 https://app.example', 'CORS, no such range: said once');
    $s->done;
}


# pages of other sites

{
    my $text = block('\\$foreign') =~ s/listen 8080/listen %%foreign%%/r;
    my $s = KV::Test->new(foreign => KV::Util::free_port(),
                          http => $text)->start;

    for ([ 200 ], [ 200, 'https://kv.example' ], [ 403, 'https://a.example' ],
         [ 403, 'null' ], [ 403, 'https://kv.example.a.example' ])
    {
        my ($status, $origin) = @$_;
        my $r = $s->http(POST => '/batch', body => qq({"key":"a","value":"x"}),
                         port => $s->{foreign},
                         headers => [ 'Content-Type: text/plain',
                                      $origin ? "Origin: $origin" : () ]);
        is($r->{status}, $status, 'a page of ' . ($origin // 'none'));
    }
    $s->done;
}


# ---- the parameters of kv_zone: a table here, all of it there

sub section {
    my ($text, $title) = @_;
    my ($section) = $text =~ /^##+ \Q$title\E\n(.*?)(?=^##+ |\z)/ms;
    return $section // BAIL_OUT("no section $title");
}


{
    my %default = section($README, 'Directives')
                  =~ /^\| `(\w+)=\S*` \| ([^|]+) \|/mg;
    my ($syntax) = section($HTTP, 'kv_zone') =~ /Syntax:(.*?);/s;
    my %full = map { $_ => 1 } $syntax =~ /(\w+)=/g;
    my %described = section($HTTP, 'kv_zone')
                    =~ /^-[ ]`(\w+)=\S*`[ ]-[ ]
                         (required|default[ ]`[^`]+`|default[ ](?:1|none))/mgx;

    is_deeply([ sort keys %default ], [ sort keys %full ],
              'README names each parameter of the syntax');
    is_deeply([ sort keys %described ], [ sort keys %full ],
              'each parameter is described');

    my @kv;
    for my $name (sort keys %default) {
        my ($value) = $default{$name} =~ /^`(.+)`$/ or next;
        is($described{$name}, "default `$value`", "$name=: one default");
        push @kv, "$name=$value";
    }

    my $s = KV::Test->new;
    $s->{kv} = "archive=$s->{dir}/archive @kv";
    my ($status, $said) = $s->test_config;
    is($status, 0, "nginx takes @kv") or diag($said);
}


# ---- the directives: a table of them, with contexts, parameters and defaults

{
    my ($source) = read_file('ngx_http_kv_module.c')
                   =~ /^static ngx_command_t(.*?)^};/ms;
    my %there = $source =~ /ngx_string\("(\w+)"\),
                            ((?:\s*\|?NGX_HTTP_[A-Z]+_CONF)+)/xg;
    my %told = section($HTTP, 'Directives')
               =~ /^\| `(kv\w*)` \| ([^|]+) \| /mg;
    my %names = (MAIN => 'http', SRV => 'server', LOC => 'location',
                 LIF => 'if', LMT => 'limit_except');
    my $pages = $HTTP . read_file('src/http/contents.md');

    for (values %there) {
        $_ = join ', ', map { $names{$_} } /NGX_HTTP_([A-Z]+)_CONF/g;
    }
    is_deeply({ map { $_ => $told{$_} =~ s/`//gr } keys %told }, \%there,
              'the page has a table of all directives');

    for my $name (sort grep { $_ ne 'kv_zone' } keys %there) {
        my $text = section($pages, $name);
        my ($syntax) = $text =~ /Syntax:\s+(.*?);/s;
        my ($defaults) = $text =~ /Default:\s+(.*?)\n/;
        my ($context) = $text =~ /Context:\s+(.*?)\n/;
        my ($row) = $HTTP =~ /^\| `$name` \| [^|]+ \| (.*?) \|/m;
        my ($optional) = ($row // '') =~ /; (.*)/;
        my @told = ($optional // '') =~ /`(\w+=\w*)`/g;

        is($context, $there{$name}, "$name: its context");

        is_deeply([ grep { !/=$/ } @told ], [ $defaults =~ /(\w+=\w+)/g ],
                  "$name: it has their defaults");
        is_deeply([ $row =~ /`(\w+)=/g ], [ $syntax =~ /(\w+)=/g ],
                  "$name: it has the parameters of the syntax");
    }
}


# ---- the three examples

sub examples_server {
    return KV::Test->new(kv => 'list=on', server =>
                         'location = /keys { kv_keys main; }')->start;
}

# The script of README.md that sets this variable first, for this server, and
# with lines replaced.

sub example {
    my ($s, $variable, %replace) = @_;
    my ($script) = $README =~ /^```sh\n($variable=.*?)^```\n/ms
        or BAIL_OUT("there is no example that begins with $variable=");

    $script =~ s/127\.0\.0\.1:8080/127.0.0.1:$s->{port}/g
        or BAIL_OUT("$variable=: where is the server?");
    for my $line (keys %replace) {
        $script =~ s/^(\s*)\Q$line\E.*$/$1$replace{$line}/m
            or BAIL_OUT("there is no line with $line");
    }

    return $script;
}

# Its status, and what it says.

sub run_example {
    my ($s, $script) = @_;
    my $file = "$s->{dir}/example.$$";
    write_file($file, $script);
    my $out = qx(cd $s->{dir} && sh $file 2>&1);
    return ($? >> 8) . " $out";
}

# Runs code in so many processes at once; what each of them returned.

sub at_once {
    my ($n, $code) = @_;
    my @pipes = map {
        my $i = $_;
        my $pid = open(my $pipe, '-|') // die "fork: $!";
        if ($pid == 0) {
            alarm(100);
            print $code->($i);
            close(STDOUT);
            POSIX::_exit(0);
        }
        $pipe;
    } 1 .. $n;
    return map { my $p = $_; join '', readline $p } @pipes;
}


# a lock

{
    my $s = examples_server();
    my $work = 'date >>backup.log';
    my $lock = "http://127.0.0.1:$s->{port}/kv/lock:backup";
    my $curl = 'curl -s -f -o found -X';
    my $done = sub { scalar(() = read_file("$s->{dir}/backup.log") =~ /\n/g) };

    is(run_example($s, example($s, 'lock')), '0 ', 'lock: taken and released');
    is($s->get('lock:backup')->{status}, 404, 'lock: it is free');
    is($done->(), 1, 'lock: the work is done');

    is(run_example($s, example($s, 'lock', $work => "$curl GET $lock")), '0 ',
       'lock: it is there meanwhile');
    like(read_file("$s->{dir}/found"), qr/^\S+ \d+$/,
         'lock: and says who has it');

    $s->put('lock:backup', 'another');
    is(run_example($s, example($s, 'lock')), "1 not now\n",
       'lock: another has it');
    is($s->get('lock:backup')->{body}, 'another', 'lock: who keeps it');
    is($done->(), 1, 'lock: no work is done');
    $s->del('lock:backup');

    # it expires in the middle of the work

    my $slow = "while $curl GET $lock; do sleep 0.05; done; "
               . "$curl PUT -d another $lock";
    my $script = example($s, 'lock', $work => $slow) =~ s/ttl=30/ttl=1/r;
    is(run_example($s, $script), "0 it was lost\n", 'lock: expired, and taken');
    is($s->get('lock:backup')->{body}, 'another',
       'lock: that of another is not released');
    $s->del('lock:backup');

    $slow = "while $curl GET $lock; do sleep 0.05; done";
    $script = example($s, 'lock', $work => $slow) =~ s/ttl=30/ttl=1/r;
    is(run_example($s, $script), "0 it was lost\n", 'lock: expired');

    # more time, as the page says

    my $more = "$curl POST -H \"If-Match: \$tag\" \"\$lock?ttl=600\" && "
               . "$curl GET $lock -D head";
    is(run_example($s, example($s, 'lock', $work => $more)), '0 ',
       'lock: extended, and released');
    my ($left) = read_file("$s->{dir}/head") =~ /max-age=(\d+)\r/;
    cmp_ok($left, '>', 30, 'lock: for that time');

    my $none = $s->http(POST => '/kv/lock:backup?ttl=30',
                        headers => [ 'If-Match: "1-1"' ]);
    is($none->{status}, 412, 'lock: no more time for one that expired');

    # of those that try at once one has it at any time

    my ($tries, $each) = (4, 3);
    write_file("$s->{dir}/n", "0\n");
    $script = example($s, 'lock', $work => 'n=$(cat n); sleep 0.01; '
                                           . 'echo $((n + 1)) >n');
    $script =~ s/ttl=30/ttl=600/;
    my @said = at_once($tries, sub {
        my ($done, $lost) = (0, 0);
        while ($done < $each) {
            my $said = run_example($s, $script);
            $done++ if $said =~ /^0 /;
            $lost++ if $said =~ /lost/;
        }
        return $lost;
    });
    is("@said", join(' ', (0) x $tries), 'lock: none is lost');
    is(read_file("$s->{dir}/n"), $tries * $each . "\n",
       'lock: two never have it at once');

    # the fencing token grows, whatever happens in between

    my $take = sub {
        $s->del('lock:backup');
        my $r = $s->put('lock:backup', 'x', headers => ['If-None-Match: *']);
        my ($first, $second) =
            $r->{headers}{etag} =~ /^"([0-9a-f]+)-([0-9a-f]+)"$/ or return '';
        return sprintf '%16s%16s', $second, $first;
    };
    my $last = $take->();
    for (['at once', sub { }], ['a reload', sub { $s->reload }],
         ['a clean stop', sub { $s->stop; $s->start }],
         ['a kill', sub { $s->stop('KILL'); $s->start }])
    {
        my ($what, $do) = @$_;
        $do->();
        my $now = $take->();
        cmp_ok($now, 'gt', $last, "a later lock has a greater tag: $what");
        $last = $now;
    }

    # after a kill the lock stays, but nobody can release it

    my $tag = $s->get('lock:backup')->{headers}{etag};
    $s->stop('KILL');
    $s->start;
    is($s->http(DELETE => '/kv/lock:backup', headers => ["If-Match: $tag"])
           ->{status}, 412, 'after a kill its holder cannot release it');
    is($s->get('lock:backup')->{status}, 200, 'but it stays');
    $s->done;
}


# a counter

{
    my $s = examples_server();
    my $script = "date() { echo 2026-01-31; }\n" . example($s, 'visits');
    my $key = 'visits:2026-01-31';

    is(run_example($s, $script), "0 visit $_ of this day\n", "counter: $_")
        for 1, 2;
    is($s->get($key)->{body}, 2, 'counter: its value');
    my ($left) = $s->get($key)->{headers}{'cache-control'} =~ /max-age=(\d+)/;
    ok($left > 172_000 && $left <= 172_800, 'counter: it goes two days later');

    my @said = at_once(4, sub {
        join '', map { run_example($s, $script) } 1 .. 5;
    });
    is_deeply([ sort { $a <=> $b } map { /visit (\d+) of/g } @said ],
              [ 3 .. 22 ], 'counter: each gets a sum of its own');
    $s->done;
}


# a list

{
    my $s = examples_server();
    my @keys = map { sprintf 'user:%03d', $_ } 1 .. 250;
    my $listed = sub { "0 " . join '', map { "$_\n" } @_ };

    is(run_example($s, example($s, 'keys')), '0 ', 'list: of nothing');

    for my $key ('user', 'user9', @keys) {
        $s->put($key, 'x')->{status} == 200 or fail("PUT of $key");
    }
    is(run_example($s, example($s, 'keys')), $listed->(@keys),
       'list: all of them, in order');

    # between two pages keys come and go, the cursor among them

    my $kv = "http://127.0.0.1:$s->{port}/kv";
    my $change = 'after=$(echo "$page" | tail -n 1); '
                 . "curl -s -X DELETE $kv/\$after; "
                 . "curl -s -X PUT -d x $kv/user:000; "
                 . "curl -s -X PUT -d x $kv/user:999";
    is(run_example($s, example($s, 'keys', 'after=$(' => $change)),
       $listed->(@keys, 'user:999'), 'list: beside writes');

    $s->stop;
    is(run_example($s, example($s, 'keys')), '1 ',
       'list: an error is not taken for the end');
    $s->check_log;
}


# ---- a value is changed only if it is still the one that was read

{
    my ($script) = $HTTP =~ /^```sh\n(url=.*?If-Match.*?)^```\n/ms
        or BAIL_OUT('there is no example of If-Match');
    my $s = KV::Test->new->start;
    my $run = sub {
        my ($before_write) = @_;
        my $text = $script =~ s/127\.0\.0\.1:8080/127.0.0.1:$s->{port}/r;
        $text =~ s/^(echo .*)$/$1\n$before_write/m or die 'no change in it';
        write_file("$s->{dir}/example", $text);
        return scalar qx(cd $s->{dir} && rm -f value && sh example 2>&1);
    };
    my $other = "printf other | curl -s -T - "
                . "http://127.0.0.1:$s->{port}/kv/a";

    $s->put('a', "one\n");
    is($run->(':'), '', 'If-Match: done');
    is($s->get('a')->{body}, "one\none more line\n", 'If-Match: and stored');

    is($run->($other), "not written\n", 'If-Match: another was first');
    is($s->get('a')->{body}, 'other', 'If-Match: whose value stays');

    $s->del('a');
    is($run->($other), "not written\n", 'If-Match: there was none');
    is($s->get('a')->{body}, 'other', 'If-Match: but there is now');
    $s->done;
}


# ---- the statistics: each field is in the page, and each in the page is there

# A histogram is told of by itself.

sub fields {
    my ($value, @path) = @_;
    return join '.', @path
        if !ref $value || @path && $path[-1] eq 'histogram';
    return map { fields($value->{$_}, @path, $_) } sort keys %$value;
}


{
    my ($table) = section($HTTP, 'Statistics')
                  =~ /^`store` has:\n\n(.*?)\n\n/ms;
    my @told = map { /`([\w.]+)`/g } $table =~ /^\| (.*?) \|/mg;
    my %told = map { $_ => 1 } @told;
    my $s = KV::Test->new;
    $s->{kv} = "archive=$s->{dir}/archive";
    $s->start;
    my @there = fields($s->store);

    is_deeply([ grep { !$told{$_} && !$told{s/\.\w+$//r} } @there ], [],
              '/stats has no field that the page does not tell');
    is_deeply([ grep { my $name = $_; !grep { /^\Q$name\E(?:\.|$)/ } @there }
                @told ], [],
              'the page tells no field that /stats does not have');
    $s->done;
}

done_testing();
