# kv_types: the type and the encoding of a value are stored, and come back where
# the location lists that type; whatever becomes of the value in between. And
# the example of the page, a site that is served from the store.

use strict;
use warnings;

use JSON::PP ();
use Test::More;

use KV::Frames;
use KV::Inspect;
use KV::Pages;
use KV::Test;

my $PAGE = 'src/http/contents.md';
my $HTML = 'text/html; charset=utf-8';
my $BAD_TYPE = 'invalid Content-Type: it takes a type like text/html; '
             . "charset=utf-8, of 200 characters at most, without a comma\n";
my $BAD_ENCODING = 'invalid Content-Encoding: it takes a list like gzip, of '
                 . "50 characters at most\n";


sub type { return map { "Content-Type: $_" } @_ }
sub encoding { return map { "Content-Encoding: $_" } @_ }

# What an answer says of its body, in one line.

sub says {
    my ($r) = @_;
    my $h = $r->{headers};
    return join ' ', $r->{status}, $h->{'content-type'} // '-',
        $h->{'content-encoding'} // '-', $h->{'x-content-type-options'} // '-';
}


my $s = KV::Test->new(
    zone => '32m', kv => 'segment=1m max_value=512k list=on',
    http => 'kv_types text/html application/json;
        charset_map windows-1251 utf-8 { E4 D0B4; }',
    location => 'kv_types text/html text/css application/x-y+z;',
    server => 'gzip on; gzip_min_length 1; gzip_types *;
        location /all/ { kv main; kv_types *; }
        location /off/ { kv main; kv_types off; }
        location /outer/ { kv main; }
        location /post/ { kv main; kv_post on; }
        location /mirrored/ { kv main; mirror /outer/copy; }
        location /charset/ { kv main; kv_types text/html; charset koi8-r; }
        location /recoded/ { kv main; charset windows-1251;
                             override_charset on; }
        location /ssi/ { kv main; ssi on; }
        location /css/ { kv main; kv_types text/css; }
        location = /keys { kv_keys main; kv_types off; }
        location = /off-batch { kv_batch main; kv_types off; }
        location = /off-bulk { kv_bulk main; kv_types off; }
        location = /p-batch { kv_batch main prefix=p; }
        location = /p-bulk { kv_bulk main prefix=p; kv_types off; }')->start;


# ---- what is stored, and shown

for ([ $HTML, $HTML ], [ 'text/html', 'text/html' ],
     [ 'TEXT/Html;a="b;c"', 'TEXT/Html;a="b;c"' ],
     [ 'application/x-y+z', 'application/x-y+z' ],
     [ 'text/plain', 'text/plain' ], [ 'text/htm', 'text/plain' ],
     [ 'text/html5', 'text/plain' ], [ 'text', 'text/plain' ],
     [ "\t text/html\t", 'text/html' ],
     [ 'image/png; text/html', 'text/plain' ], [ '', 'text/plain' ])
{
    my ($sent, $shown) = @$_;

    for my $size (5, 100_000) {
        my $value = value('t', 1, $size);
        is(says($s->put('t', $value, headers => [ type($sent) ])),
           '200 text/plain - -', "$sent: PUT of $size bytes");
        my $r = $s->get('t');
        is(says($r), "200 $shown - nosniff", "$sent: GET");
        ok($r->{body} eq $value, "$sent: the value");
        is(says($s->http(HEAD => '/kv/t')), "200 $shown - nosniff",
           "$sent: HEAD");
    }
}

for my $size (3, 9000, 100_000) {
    my $value = value('t', 3, $size);
    $s->http(PUT => '/kv/t', chunks => [ unpack '(a30000)*', $value ],
             headers => [ type($HTML), encoding('x') ]);
    my $r = $s->get('t');
    is(says($r), "200 $HTML x nosniff", "$size bytes in chunks");
    ok($r->{body} eq $value, 'the value');
}

for ([ [ 'gzip' ], 'gzip' ], [ [ 'gzip, br' ], 'gzip, br' ],
     [ [ 'gzip', 'br' ], 'gzip, br' ], [ [ 'identity' ], '-' ],
     [ [ 'Identity', 'x' ], 'x' ], [ [ 'compress' ], 'compress' ],
     [ [ 'gzip', '', 'br' ], 'gzip, br' ], [ [ '' ], '-' ],
     [ [ "\tgzip", "\t", "\tidentity\t" ], 'gzip' ],
     [ [ 'x' x 50 ], 'x' x 50 ],
     [ [ 'x' x 24, 'y' x 24 ], 'x' x 24 . ', ' . 'y' x 24 ])
{
    my ($sent, $shown) = @$_;
    $s->put('t', 'packed', headers => [ type($HTML), encoding(@$sent) ]);
    is(says($s->get('t')), "200 $HTML $shown nosniff", "encoding @$sent");
    is(says($s->get('t', headers => [ 'Accept-Encoding: gzip' ])),
       "200 $HTML $shown nosniff", "@$sent: not packed twice")
        if $shown ne '-';
}

$s->put('t', 'packed', headers => [ type($HTML), 'Content: a',
        'Content-Encoding-X: b', (map { "X-$_: c" } 1 .. 50), encoding('d'),
        'content-ENCODING: e' ]);
is(says($s->get('t')), "200 $HTML d, e nosniff",
   'found among many, by its whole name');

$s->put('t', 'packed', headers => [ type('a/b'), encoding('gzip') ]);
is(says($s->get('t')), '200 text/plain - nosniff',
   'no encoding without a type that is kept');


# ---- what cannot be stored changes nothing

for ([ $BAD_TYPE, type('text/html, image/png') ],
     [ $BAD_TYPE, type('text/html; a="b, c"') ],
     [ $BAD_TYPE, type('text/html; a') ],
     [ $BAD_TYPE, type("text/html; a=\"\x01\"") ],
     [ $BAD_TYPE, type("text/html; a=\x7f") ],
     [ $BAD_TYPE, type("text/html; a=\xe4") ],
     [ $BAD_TYPE, type('text/html; a=' . 'b' x 188) ],
     [ $BAD_ENCODING, type($HTML), encoding('gzip br') ],
     [ $BAD_ENCODING, type($HTML), encoding('gzip;q=1') ],
     [ $BAD_ENCODING, type($HTML), encoding("gzip\x01") ],
     [ $BAD_ENCODING, type($HTML), encoding('x' x 51) ],
     [ $BAD_ENCODING, type($HTML), encoding('x' x 30, 'y' x 30) ])
{
    my ($body, @headers) = @$_;
    $s->put('t', 'old', headers => [ type('text/css') ]);
    my $r = $s->put('t', 'new', headers => \@headers);
    is("$r->{status} $r->{body}", "400 $body", "@headers");
    $r = $s->get('t');
    is(says($r) . " $r->{body}", '200 text/css - nosniff old', 'it stays');
}

is($s->put('t', 'x', headers => [ type('text/html; a=' . 'b' x 187) ])
   ->{status}, 200, '200 characters');


# ---- by location: what one stores another need not show

$s->put('t', '<p>', headers => [ type($HTML), encoding('x') ]);

for ([ '/kv/t', "$HTML x" ], [ '/all/t', "$HTML x" ], [ '/outer/t', "$HTML x" ],
     [ '/off/t', 'text/plain -' ], [ '/css/t', 'text/plain -' ])
{
    my ($path, $shown) = @$_;
    is(says($s->http(GET => $path)), "200 $shown nosniff", "GET $path");
}

for ([ '/all/u', 'a/b', 'a/b' ], [ '/all/u', 'text', 'text/plain' ],
     [ '/off/u', $HTML, 'text/plain' ], [ '/css/u', $HTML, 'text/plain' ],
     [ '/outer/u', 'application/json', 'application/json' ],
     [ '/kv/u', 'application/json', 'text/plain' ])
{
    my ($path, $sent, $shown) = @$_;
    $s->http(PUT => $path, body => 'x', headers => [ type($sent) ]);
    is(says($s->http(GET => '/all/u')), "200 $shown - nosniff",
       "PUT $path of $sent");
}

$s->http(POST => '/post/u', body => 'x', headers => [ type($HTML) ]);
is(says($s->get('u')), "200 $HTML - nosniff", 'a POST that stores');
$s->http(PUT => '/mirrored/u', body => 'y', headers => [ type($HTML) ]);
ok(wait_for(sub { says($s->get('copy')) eq "200 $HTML - nosniff" }, 20),
   'a mirrored PUT');
$s->http(PUT => '/outer/v', body => 'included', headers => [ type($HTML) ]);
$s->http(PUT => '/outer/u', headers => [ type($HTML) ],
         body => '[<!--# include virtual="/off/v" -->]');
{
    my $r = $s->http(GET => '/ssi/u');
    is("$r->{headers}{'content-type'} $r->{body}", "$HTML [included]",
       'subrequests');
}


# ---- conditions, ranges, deletes that return

for my $size (50, 100_000) {
    my $value = value('r', 2, $size);
    $s->put('r', $value, headers => [ type($HTML), encoding('x') ]);
    my $tag = $s->get('r')->{headers}{etag};

    my $r = $s->get('r', headers => [ "If-None-Match: $tag" ]);
    is(says($r), "304 $HTML - -", "$size bytes: 304 has the type");
    is(says($s->get('r?wait=1', headers => [ "If-None-Match: $tag" ])),
       "304 $HTML - -", 'also after a wait');
    is(says($s->http(GET => '/off/r', headers => [ "If-None-Match: $tag" ])),
       '304 text/plain - -', '304 where it is not shown');

    $r = $s->get('r', headers => [ 'Range: bytes=10-19' ]);
    is(says($r), "206 $HTML x nosniff", "$size bytes: a range");
    is($r->{body}, substr($value, 10, 10), 'of what is stored');
    $r = $s->get('r', headers => [ "Range: bytes=$size-" ]);
    is(says($r), '416 text/plain - nosniff', "$size bytes: no such range");
    $r = $s->get('r', headers => [ 'If-Match: "1-1"' ]);
    is(says($r), '412 text/plain - -', "$size bytes: 412");

    $r = $s->del('r', headers => [ 'Prefer: return=representation' ]);
    is(says($r), "200 $HTML x nosniff", "$size bytes: deleted and returned");
    ok($r->{body} eq $value, 'the value');
    is(says($s->get('r')), '404 text/plain - -', 'it is gone');
}

{
    my $value = 'x' x 30;
    $s->put('r', $value, headers => [ type($HTML) ]);
    my $r = $s->get('r', headers => [ 'Range: bytes=0-1,5-6' ]);
    is($r->{status}, 206, 'two ranges');
    is(() = $r->{body} =~ /^Content-Type: \Q$HTML\E\r$/mg, 2,
       'each of the type');
}


# ---- writes that keep a type, and that do not

$s->put('k', '41', headers => [ type($HTML), encoding('x') ]);
is($s->http(POST => '/kv/k?ttl=1000')->{status}, 200, 'a time of expiry');
is(says($s->get('k')), "200 $HTML x nosniff", 'keeps the type');
is($s->http(POST => '/kv/k?ttl=0')->{status}, 200, 'and another one');
is(says($s->get('k')), "200 $HTML x nosniff", 'keeps it, too');
is(says($s->http(POST => '/kv/k?incr=1')), '200 text/plain - nosniff',
   'an increment');
is(says($s->get('k')), '200 text/plain - nosniff', 'has none');
$s->put('k', 'x', headers => [ type($HTML) ]);
$s->put('k', 'x');
is(says($s->get('k')), '200 text/plain - nosniff', 'a PUT without a type');


# ---- charsets are nginx's

$s->http(PUT => '/charset/c', body => 'x', headers => [ type('text/html') ]);
is(says($s->http(GET => '/charset/c')), '200 text/html; charset=koi8-r - '
   . 'nosniff', 'nginx adds one');
$s->http(PUT => '/charset/c', body => 'x', headers => [ type($HTML) ]);
is(says($s->http(GET => '/charset/c')), "200 $HTML - nosniff",
   'but not a second one');
is(says($s->http(GET => '/charset/c', headers => [ 'Range: bytes=9-' ])),
   '416 text/plain; charset=koi8-r - nosniff', 'an error has its own');

for (';charset=utf-8', ';  CHARSET="UTF-8" ; a=b', ';charset="utf-8";',
     '; a="; charset=b"; ;charset=utf-8;a=b')
{
    $s->http(PUT => '/recoded/c', body => "\xd0\xb4",
             headers => [ type("text/html$_") ]);
    my $r = $s->http(GET => '/recoded/c');
    is(says($r) . " $r->{body}", '200 text/html; charset=windows-1251 - '
       . "nosniff \xe4", "text/html$_ says which");
}


# ---- lines and lists

my $json = JSON::PP->new->canonical;

# A line of JSON: its members are said in pairs.

sub line { return $json->encode({ @_ }) . "\n" }

sub listed {
    my ($prefix, @args) = @_;
    my $path = join '&', "/keys?format=json&prefix=$prefix", @args;
    return map { [ @$_{qw(key type encoding)} ] }
        @{$json->decode($s->http(GET => $path)->{body})->{keys}};
}

$s->clear;
my $lines = line(key => 'l1', value => '<p>', type => $HTML)
          . line(key => 'l2', base64 => 'H4s=', type => 'application/json',
                 encoding => 'gzip, br')
          . line(key => 'l3', value => 'text')
          . line(key => 'l4', value => 'x' x 20_000, type => 'text/html; a="'
                 . 'b' x 100 . '"');
my @want = ([ 'l1', $HTML, undef ], [ 'l2', 'application/json', 'gzip, br' ],
            [ 'l3', undef, undef ],
            [ 'l4', 'text/html; a="' . 'b' x 100 . '"', undef ]);

for my $path ('/batch', '/bulk') {
    $s->clear;
    my $r = $s->http(POST => $path, body => $lines);
    is($r->{status}, 200, "POST $path") or diag($r->{body});
    is(says($s->http(GET => '/all/l2')), '200 application/json gzip, br '
       . 'nosniff', "$path: a value");
    is_deeply([ listed('l') ], \@want, "$path: in a list");
    is_deeply([ listed('l', 'values=1') ], \@want, "$path: with values");
}

my $list = $s->http(GET => '/keys?values=1&format=lines')->{body};
is($list =~ s/,"size":\d+,"version":"[^"]*"//gr,
   "{\"key\":\"l1\",\"type\":\"$HTML\",\"value\":\"<p>\"}\n"
   . '{"key":"l2","type":"application/json","encoding":"gzip, br",'
   . "\"base64\":\"H4s=\"}\n{\"key\":\"l3\",\"value\":\"text\"}\n"
   . '{"key":"l4","type":"text/html; a=\\"' . 'b' x 100 . '\\"","value":"'
   . 'x' x 20_000 . "\"}\n", 'as lines');
$s->clear;
is($s->http(POST => '/bulk', body => $list)->{status}, 200, 'taken back');
is_deeply([ listed('l') ], \@want, 'as it was');

for ([ 'the type is not on the list of kv_types', '/batch',
       type => 'text/css' ],
     [ 'the type is not on the list of kv_types', '/bulk',
       type => 'text/css' ],
     [ 'types are not stored here: kv_types is off', '/off-batch',
       type => $HTML ],
     [ 'types are not stored here: kv_types is off', '/off-bulk',
       type => $HTML ],
     [ 'the type is not on the list of kv_types', '/p-batch',
       type => 'text/css' ],
     [ 'types are not stored here: kv_types is off', '/p-bulk',
       type => $HTML ],
     [ 'encoding needs a type', '/batch', encoding => 'gzip' ],
     [ 'type is not a string', '/batch', type => 1 ],
     [ 'type is none like text/html, of 200 characters at most, without a '
       . 'comma', '/bulk', type => 'text/html, a/b' ],
     [ 'encoding is no list like gzip, of 50 characters at most', '/bulk',
       type => $HTML, encoding => 'a b' ],
     [ 'a delete takes no type', '/batch', op => 'delete', type => $HTML ])
{
    my ($error, $path, @members) = @$_;
    my %line = (key => 'n', @members);
    $line{value} = 'x' if !$line{op};
    my $r = $s->http(POST => $path, body => line(key => 'm', value => 'x')
                                            . line(%line));
    my $said = eval { $json->decode($r->{body}) } // {};
    is("$r->{status} " . ($said->{line} // '') . ' ' . ($said->{error} // ''),
       "400 2 $error", "$path: $error");
}


# ---- across the ends of processes: of all, in a snapshot or in the log; and
# what is dumped and loaded

$s->stop('KILL');
$s->start;
is_deeply([ listed('l') ], \@want, 'after a SIGKILL');
$s->http(POST => '/all/l1?ttl=1000');
$s->{kv} =~ s/segment=1m/segment=1m snapshot=1m/;
$s->stop('TERM');
$s->start;
for (1 .. 12) {
    $s->put('fill', 'x' x 300_000);
}
ok(wait_for(sub { $s->store->{snapshots}{completed} }, 30), 'a snapshot')
    or diag(explain($s->store->{snapshots}));
$s->del('fill');
$s->http(POST => '/all/l1?ttl=0');
$s->stop('TERM');

{
    my ($status, $dump) = inspect('dump', $s->{path});
    is($status, 0, 'dump');
    ($status) = inspect_with($dump, 'load', "$s->{dir}/loaded");
    is($status, 0, 'load');
    my (undef, $again) = inspect('dump', "$s->{dir}/loaded");
    ok($again eq $dump, 'dump, load, dump: the same bytes')
        or diag(substr($dump, 0, 500), substr($again, 0, 500));
    like($dump, qr/"type":"\Q$HTML\E"/, 'with types');
    ($status) = inspect('check', "$s->{dir}/loaded");
    is($status, 0, 'check');

    rename($s->{path}, "$s->{path}.old");
    rename("$s->{dir}/loaded", $s->{path});
}

$s->start;
is_deeply([ listed('l') ], \@want, 'a server on what was loaded');


# ---- a reload

$s->{http} = '';
$s->{server} =~ s/kv_types text\/css;//;
ok($s->reload, 'a reload without it');
is(says($s->http(GET => '/outer/l1')), '200 text/plain - nosniff',
   'types are not shown');
is(says($s->http(GET => '/all/l1')), "200 $HTML - nosniff",
   'but they are there');
$s->done;


# ---- nginx -t

for ([ 1, 'kv_types text;', 'invalid type "text" of "kv_types": it takes types '
       . 'without parameters, like text/html, or * for all of them, or off' ],
     [ 1, 'kv_types "text/html; a=b";', 'invalid type "text/html; a=b"' ],
     [ 1, 'kv_types image/*;', 'invalid type "image/*" of "kv_types"' ],
     [ 1, 'kv_types "";', 'invalid type "" of "kv_types"' ],
     [ 1, 'kv_types text/html off;', '"off" of "kv_types" must stand alone' ],
     [ 1, 'kv_types * text/html;', '"*" of "kv_types" must stand alone' ],
     [ 1, 'kv_types text/html; kv_types a/b;', '"kv_types" directive is '
       . 'duplicate' ],
     [ 0, 'kv_types text/html TEXT/HTML;', 'duplicate MIME type "text/html"' ],
     [ 1, 'if ($arg_a) { kv_types *; }', 'is not allowed here' ],
     [ 1, 'kv_types;', 'invalid number of arguments' ])
{
    my ($want, $location, $says) = @$_;
    my ($status, $said) = KV::Test->new(location => $location)->test_config;
    ok($status == $want && $said =~ /\Q$says\E/, $location) or diag($said);
}


# ---- the example: a site that a batch deploys

{
    my $s = with_location(page_block($PAGE, 'nginx', 'key=site\$uri'),
                          kv => 'list=on')->start;
    my ($folder, $program) = ("$s->{dir}/folder", "$s->{dir}/deploy.pl");
    my $url = "http://127.0.0.1:$s->{port}/deploy";
    my $deploy = sub { system($^X, $program, $folder, $url) };
    my $png = join '', map { chr } 0 .. 255;

    write_file($program, page_block($PAGE, 'perl', 'File::Find'));
    mkdir $_ for $folder, "$folder/img", "$folder/.git";
    write_file("$folder/.git/config", 'secret');
    write_file("$folder/empty", '');
    write_file("$folder/\xc3\xa4 b.css", 'q { }');
    write_file("$folder/index.html", "<p>one \xc3\xa4");
    write_file("$folder/a.css", 'p { color: red }');
    write_file("$folder/img/a.png", $png);
    write_file("$folder/img/index.html", '<p>images');
    write_file("$folder/LICENSE", 'free');
    is($deploy->(), 0, 'a site: deployed');

    for ([ '/', 'text/html; charset=utf-8', "<p>one \xc3\xa4" ],
         [ '/index.html', 'text/html; charset=utf-8', "<p>one \xc3\xa4" ],
         [ '/a.css?v=1', 'text/css', 'p { color: red }' ],
         [ '/img/a.png', 'image/png', $png ],
         [ '/img/', 'text/html; charset=utf-8', '<p>images' ],
         [ '/%C3%A4%20b.css', 'text/css', 'q { }' ],
         [ '/LICENSE', 'application/octet-stream', 'free' ])
    {
        my ($path, $type, $body) = @$_;
        my $r = $s->http(GET => $path);
        is(says($r), "200 $type - nosniff", "a site: $path");
        ok($r->{body} eq $body, 'as it was in the folder');
        my $tag = $r->{headers}{etag};
        is($s->http(GET => $path, headers => [ "If-None-Match: $tag" ])
           ->{status}, 304, 'and not sent twice');
    }

    is($s->http(GET => '/deploy/keys')->{body},
       "LICENSE\na.css\nimg/a.png\nimg/index.html\nindex.html\n"
       . "\xc3\xa4 b.css\n", 'these are all');

    unlink "$folder/a.css", "$folder/\xc3\xa4 b.css";
    write_file("$folder/index.html", '<p>two');
    is($deploy->(), 0, 'a site: deployed again');
    is($s->http(GET => '/')->{body}, '<p>two', 'a page has changed');
    is($s->http(GET => $_)->{status}, 404, "$_ is gone")
        for '/a.css', '/%C3%A4%20b.css';
    is($s->http(GET => '/img/')->{body}, '<p>images', 'the others stay');
    is($s->http(PUT => '/index.html', body => 'x')->{status}, 405,
       'readers only read');
    $s->done;
}


# ---- HTTP/2

SKIP: {
    skip('this nginx does not speak HTTP/2', 2)
        if qx(@{[ KV::Test::nginx() ]} -V 2>&1) !~ /http_v2_module/;

    my $s = KV::Test->new(h2 => KV::Util::free_port(),
        location => 'kv_types *;',
        servers => 'server {
            listen 127.0.0.1:%%h2%% http2;
            location /kv/ { kv main; kv_types *; }
        }')->start;
    is(KV::Frames::ask($s->{h2}, 'PUT', '/kv/a', '<p>', 'content-type', $HTML,
                       'content-encoding', 'gzip'), 200, 'HTTP/2: PUT');
    is(says($s->get('a')), "200 $HTML gzip nosniff", 'HTTP/2: stored');
    $s->done;
}


# ---- an error is of no type but its own: also of a value that is there, and
# for one more reader of which the zone has no memory

SKIP: {
    skip('this nginx does not speak HTTP/2', 2)
        if qx(@{[ KV::Test::nginx() ]} -V 2>&1) !~ /http_v2_module/;

    # one worker, as each has a limit
    my $s = KV::Test->new(workers => 1, zone => '4m',
        h2 => KV::Util::free_port(), kv => 'segment=1m max_value=64k',
        location => 'kv_types *;',
        servers => 'server {
            listen 127.0.0.1:%%h2%% http2;
            http2_max_concurrent_streams 4096;
            keepalive_requests 4096;
            location /kv/ { kv main; }
        }')->start;
    my $slow = KV::Frames->new(port => $s->{h2});

    $s->put('a', 'x' x 9000, headers => [ type('text/html; charset=utf-7') ]);
    $slow->frame(KV::Frames::SETTINGS, 0, 0, pack('nN', 4, 0));
    $slow->request(2 * $_ + 1, GET => '/kv/a') for 1 .. 1200;
    ok(wait_for(sub { $s->get('a')->{status} == 503 }, 20), 'too many readers');
    is(says($s->get('a')), '503 text/plain - -', 'an error has no charset');
    $s->done;
}


# ---- a client that does not take the encoding: nginx unpacks

SKIP: {
    skip('this nginx has no gunzip', 3)
        if qx(@{[ KV::Test::nginx() ]} -V 2>&1) !~ /http_gunzip_module/;

    require IO::Compress::Gzip;
    my $value = '<p>' x 1000;
    IO::Compress::Gzip::gzip(\$value, \my $packed);

    my $s = KV::Test->new(location => 'kv_types *; gunzip on; gzip_vary on;')
        ->start;
    $s->put('a', $packed, headers => [ type($HTML), encoding('gzip') ]);
    my $r = $s->get('a', headers => [ 'Accept-Encoding: gzip' ]);
    ok(says($r) eq "200 $HTML gzip nosniff" && $r->{body} eq $packed,
       'who takes gzip gets it');
    $r = $s->get('a');
    ok(says($r) eq "200 $HTML - nosniff" && $r->{body} eq $value,
       'others get what it is of');
    is($r->{headers}{vary}, 'Accept-Encoding', 'and caches know');
    $s->done;
}

done_testing();
