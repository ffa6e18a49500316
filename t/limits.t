# kv_max_value, kv_read_only and kv_require_match: what they refuse, where they
# may stand, and what counts if several do.

use strict;
use warnings;

use Test::More;

use KV::Frames;
use KV::Pages;
use KV::Test;

my $PAGE = 'src/http/contents.md';
my $REQUIRED = "precondition required: send If-Match or If-None-Match\n";


sub answer {
    my ($r, $status, $body, $name) = @_;
    is("$r->{status} $r->{body}", "$status $body", $name);
    return $r;
}

sub lines { return join '', map { "$_\n" } @_ }


# ---- what nginx -t says

{
    my @cases = (
        (map { [ "kv_max_value $_;", qq(invalid size "$_" of "kv_max_value": )
                                     . 'it must be from 1 byte to 256m' ] }
             0, '257m', 'none', -1),
        [ 'kv_max_value 1k; kv_max_value 2k;', 'is duplicate' ],
        [ 'kv_max_value 5m;',
          '"kv_max_value" is 5242880 bytes, and values of the kv zone "main" '
          . 'have 1048576 at most: lower it, or raise "max_value=" of the '
          . 'kv_zone, in ' ],
        [ 'kv_read_only yes;', 'it must be "on" or "off"' ],
        [ 'kv_require_match on; kv_require_match on;', 'is duplicate' ],
        [ 'if ($arg_a) { kv_read_only on; }', 'is not allowed here' ],
        [ 'kv_max_value 1m; kv_read_only on; kv_require_match on;', '' ],
    );

    for (@cases) {
        my ($location, $says) = @$_;
        my $s = KV::Test->new(kv => 'max_value=1m', location => $location);
        my ($status, $said) = $s->test_config;
        ok($status == ($says ? 1 : 0) && $said =~ /\Q$says\E/, $location)
            or diag($said);
    }

    my $s = KV::Test->new(kv => 'max_value=1m', http => 'kv_max_value 5m;');
    is(($s->test_config)[0], 0, 'a limit for all may be above a zone\'s');
}


# ---- kv_max_value: of the outer levels the innermost counts, and the zone's

my $s = KV::Test->new(
    kv => 'max_value=64k list=on segment=1m',
    http => 'kv_max_value 5m;',
    server => 'kv_max_value 10000; client_body_buffer_size 128k;
               client_max_body_size 10;
               location /own/ { kv main; kv_max_value 20; }
               location /own/inner/ { kv main; }
               location /nest/ { kv main; kv_max_value 30; kv_read_only on;
                                 location /nest/in/ { kv main; } }
               location /if/ { kv main; kv_max_value 40;
                               if ($arg_a) { set $b 1; }
                               if ($arg_p) {
                                   proxy_pass http://127.0.0.1:%%other%%;
                               } }
               location = /small { kv_bulk main; kv_max_value 20; }
               location = /little { kv_batch main; kv_max_value 20; }
               location /mirrored/ { kv main; mirror /kv/copy; }
               location = /keys { kv_keys main; }',
    servers => <<'END');
    kv_zone zone=wide:16m path=%%dir%%/wide max_value=128k segment=1m;
    server {
        listen 127.0.0.1:%%other%%;
        location /kv/ { kv main; %%here%% }
        location /if/ { return 200 other; }
        location /out/ { kv main; location /out/in/ { kv wide; } }
    }
END
$s->{other} = KV::Util::free_port();
$s->{here} = '';
$s->start;


sub largest {
    my ($path, $max, %o) = @_;
    my @o = $o{port} ? (port => $o{port}) : ();
    my $name = "$path: $max bytes";

    answer($s->http(PUT => $path, body => 'x' x $max, @o), 200, '', $name);
    answer($s->http(PUT => $path, chunks => [ 'x' x $max ], @o), 200, '',
           "$name in chunks");
    answer($s->http(PUT => $path, body => 'x' x ($max + 1), @o), 413,
           "value too large\n", "$name, and one more");
    answer($s->http(PUT => $path, chunks => [ 'x' x $max, 'x' ], @o), 413,
           "value too large\n", "$name, and one more in chunks");
    is(length $s->http(GET => $path, @o)->{body}, $max, "$name are there");
}


largest('/kv/a', 10_000);
largest('/own/a', 20);
largest('/own/inner/a', 10_000);
largest('/if/a', 40);
largest('/if/a?a=1', 40);
is($s->http(GET => '/if/a?p=1')->{body}, 'other', 'an "if" that leads away');
largest('/kv/a', 65_536, port => $s->{other});
largest('/out/in/a', 131_072, port => $s->{other});
is($s->http(GET => '/own/a')->{status}, 200, 'what is larger can be read');

for my $path (qw(/small /little)) {
    my $line = '{"key":"l","value":"%s"}';
    my $r = $s->http(POST => $path, body => sprintf($line, 'x' x 20));
    is($r->{status}, 200, "$path: a line of 20 bytes");
    $r = $s->http(POST => $path, body => sprintf($line, 'x' x 21));
    is($r->{status}, 413, "$path: one of 21");
    like($r->{body}, qr/^\{"line":1,"error":"value too large"/,
         "$path: which one");
}

# a line that is longer than one with such a value, with and without its end

{
    my $line = '{"key":"l","value":"1"' . ' ' x 70_000 . '}';
    like($s->http(POST => '/small', body => $line)->{body},
         qr/"error":"line too long"/, '/small: a longer line');
    my $c = $s->connect;
    $c->send("POST /small HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n"
             . "\r\n" . $line x 2);
    like($c->response->{body}, qr/"error":"line too long"/,
         '/small: one that does not end');
}

# a body that another module has read

$s->http(PUT => '/mirrored/m', body => 'x' x 10_000);
ok(wait_for(sub { length $s->get('copy')->{body} == 10_000 }, 20),
   'mirrored: 10000 bytes');
answer($s->http(PUT => '/mirrored/m', body => 'y' x 10_001), 413,
       "value too large\n", 'mirrored: and one more');
like($s->get('copy')->{body}, qr/^x/, 'mirrored: which is not stored');

# a number is not limited

$s->{here} = 'kv_max_value 2;';
ok($s->reload, 'a reload with another limit');
largest('/kv/a', 2, port => $s->{other});
$s->http(PUT => '/kv/n', body => '99', port => $s->{other});
answer($s->http(POST => '/kv/n?incr=9901', port => $s->{other}), 200, '10000',
       'a counter may be longer');


# ---- kv_read_only

$s->put('r', 'value');

{
    my $c = $s->connect;

    for ([ 405, 'GET, HEAD', PUT => '/nest/r', body => 'x' ],
         [ 405, 'GET, HEAD', PUT => '/nest/r?ttl=x', body => 'x' x 100 ],
         [ 405, 'GET, HEAD', PUT => '/nest/r', body => 'x',
           headers => [ 'If-Match: nonsense' ] ],
         [ 405, 'GET, HEAD', PUT => '/nest/r', chunks => [ 'x' x 20 ] ],
         [ 405, 'GET, HEAD', POST => '/nest/r?incr=1' ],
         [ 405, 'GET, HEAD', POST => '/nest/r' ],
         [ 405, 'GET, HEAD', DELETE => '/nest/r' ],
         [ 405, 'GET, HEAD', OPTIONS => '/nest/r' ],
         [ 405, 'GET, HEAD', DELETE => '/nest/in/r' ],
         [ 400, '', DELETE => '/nest/a+b' ],
         [ 200, '', GET => '/nest/r' ],
         [ 200, '', HEAD => '/nest/r' ])
    {
        my ($status, $allow, $method, $path, @o) = @$_;
        $c->send(KV::Conn::request($method, $path, @o));
        my $r = $c->response($method);
        is("$r->{status} " . ($r->{headers}{allow} // ''), "$status $allow",
           "read only: $method $path");
        is($r->{body}, "method not allowed\n", 'in our words')
            if $status == 405;
    }
    is($s->get('r')->{body}, 'value', 'read only: nothing has changed');
}


# ---- of a server, but one location

$s->{server} .= ' kv_read_only on; location /write/ { kv main;
                                                      kv_read_only off; }';
ok($s->reload, 'a reload that makes a server read only');

for ([ '', DELETE => '/clear' ], [ '', POST => '/batch' ],
     [ '', POST => '/bulk' ], [ 'GET, HEAD', DELETE => '/keys?prefix=r' ],
     [ '', GET => '/batch' ])
{
    my ($allow, $method, $path) = @$_;
    my $r = answer($s->http($method, $path, body => '{"key":"r","value":"x"}'),
                   405, "method not allowed\n", "read only: $method $path");
    is($r->{headers}{allow}, $allow, 'and what it allows');
}

answer($s->http(GET => '/keys?prefix=r'), 200, "r\n", 'read only: a list');
is($s->http(GET => '/backup')->{status}, 200, 'read only: a backup');
is($s->http(GET => '/stats')->{status}, 200, 'read only: statistics');
answer($s->http(PUT => '/write/r', body => 'new'), 200, '', 'but one location');
$s->done;


# ---- kv_require_match

$s = KV::Test->new(kv => 'list=on', server =>
                   'kv_require_match on; location = /keys { kv_keys main; }
                    location /free/ { kv main; kv_require_match off; }')->start;

answer($s->put('q', 'one', headers => [ 'If-None-Match: *' ]), 200, '',
       'required: a first value');
my $tag = $s->get('q')->{headers}{etag};

for ([ PUT => '/kv/q', body => 'x' ], [ PUT => '/kv/q', chunks => [ 'x' ] ],
     [ DELETE => '/kv/q' ], [ POST => '/kv/q?incr=1' ],
     [ POST => '/kv/q?ttl=1' ],
     [ PUT => '/kv/q', body => 'x',
       headers => [ 'If-Unmodified-Since: Mon, 28 Sep 2026 06:00:00 GMT' ] ])
{
    my $r = answer($s->http(@$_), 428, $REQUIRED, "required: @$_[0, 1]");
    is($r->{reason}, 'Precondition Required', 'which has a name');
    is($r->{headers}{'content-type'}, 'text/plain', 'and is text');
}

answer($s->http(POST => '/kv/q'), 405, "method not allowed\n",
       'required: what is no write at all');
answer($s->put('q', 'x', headers => [ 'If-Match: x' ]), 400,
       "If-Match and If-None-Match take * or a list of quoted tags\n",
       'required: no condition');
answer($s->put('q', 'x', headers => [ 'If-None-Match: *' ]), 412,
       "precondition failed\n", 'required: a false one');
answer($s->put('q', 'two', headers => [ "If-Match: $tag" ]), 200, '',
       'required: a true one');
answer($s->get('q'), 200, 'two', 'required: a read needs none');
answer($s->http(PUT => '/free/f', body => 'x'), 200, '', 'not required here');

for ([ DELETE => '/clear' ], [ DELETE => '/keys?prefix=q' ],
     [ POST => '/bulk', body => '{"key":"q","value":"x"}' ])
{
    answer($s->http(@$_), 428,
           "precondition required: this write cannot have one\n",
           "required: @$_[0, 1]");
}

my @good = ('{"key":"b","value":"1","if_none_match":"*"}',
            '{"op":"touch","key":"q","ttl":60,"if_match":"*"}');
for my $bad ('{"key":"c","value":"1"}', '{"op":"delete","key":"q"}',
             '{"op":"incr","key":"c","by":1}',
             '{"op":"touch","key":"q","ttl":1}')
{
    answer($s->http(POST => '/batch', body => lines(@good, $bad)), 428,
           '{"line":3,"error":"precondition required: if_match or '
           . "if_none_match\"}\n", "required: a batch with $bad");
}
is($s->get('b')->{status}, 404, 'required: no line of them is done');
is($s->http(POST => '/batch', body => lines(@good))->{status}, 200,
   'required: a batch that has them');

ok(wait_for(sub { $s->stats->{routes}{kv}{PUT}{status}{other} == 3 }, 20),
   'they are counted');

$s->{server} =~ s/kv_require_match on;//;
ok($s->reload, 'a reload without');
answer($s->put('q', 'three'), 200, '', 'and none is required');
$s->done;


# ---- the page's examples; access rules come first

{
    my $text = page_block($PAGE, 'nginx', 'kv_max_value 64k');
    my $s = with_location($text)->start;
    answer($s->put('a', 'x' x 65_536), 200, '', 'example: 64k');
    answer($s->put('a', 'x' x 65_537), 413, "value too large\n",
           'example: and one more');
    $s->done;

    $text = page_block($PAGE, 'nginx', '/public/');
    $s = with_location($text)->start;
    answer($s->put('a', 'x'), 200, '', 'example: one may write');
    answer($s->http(GET => '/public/a'), 200, 'x', 'example: all may read');
    answer($s->http(PUT => '/public/a', body => 'y'), 405,
           "method not allowed\n", 'example: and not write');

    $s->{text} =~ s/allow 127.0.0.1;/allow 192.0.2.1; kv_read_only on;/
        or fail('no rule in the example');
    ok($s->reload, 'others');
    is($s->put('a', 'x')->{status}, 403, 'example: access rules come first');
    $s->done;

    $text = page_block($PAGE, 'nginx', 'kv_require_match');
    $s = with_location($text)->start;
    my $port = $s->{port};
    write_file("$s->{dir}/notes", "some\n");
    my @said = read_file($PAGE) =~ /^    \$ (curl -T notes .*)\n(    \w.*)?/mg;
    is(scalar @said, 4, 'example: two commands');
    for (0, 1) {
        my ($command, $says) = splice @said, 0, 2;
        $command =~ s/localhost:8080/127.0.0.1:$port/;
        is(qx(cd $s->{dir} && $command 2>/dev/null),
           $says ? $says =~ s/^    //r . "\n" : '', 'example: what it says');
    }
    answer($s->get('notes'), 200, "some\n", 'example: it is stored');
    $s->done;
}


# ---- HTTP/2

SKIP: {
    skip('this nginx does not speak HTTP/2', 4)
        if qx(@{[ KV::Test::nginx() ]} -V 2>&1) !~ /http_v2_module/;

    my $s = KV::Test->new(h2 => KV::Util::free_port(), servers => 'server {
        listen 127.0.0.1:%%h2%% http2;
        location /max/ { kv main; kv_max_value 10; }
        location /read/ { kv main; kv_read_only on; }
        location /match/ { kv main; kv_require_match on; }
    }')->start;

    for ([ 413, '/max/a' ], [ 405, '/read/a' ], [ 428, '/match/a' ],
         [ 412, '/match/a', 'if-match' => '*' ])
    {
        my ($status, $path, @headers) = @$_;
        is(KV::Frames::ask($s->{h2}, PUT => $path, 'x' x 100, @headers),
           $status, "HTTP/2: $path");
    }
    $s->done;
}

done_testing();
