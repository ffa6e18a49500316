# kv_key_chars: which key a path names, with "safe" and with "any", as the table
# of src/http/keys.md tells it; and keys of any characters on all other ways:
# lists, lines, deletes, waiting reads, kv-inspect, backups.

use strict;
use warnings;

use JSON::PP ();
use MIME::Base64 qw(encode_base64);
use Test::More;

use KV::Frames;
use KV::Inspect;
use KV::Test;
use KV::Util qw(free_port wait_for);

my $PAGE = read_file('src/http/keys.md');
my %WRONG = (invalid => "key contains invalid characters\n",
             empty => "key cannot be empty\n",
             dot => "key has a dot segment\n",
             before => "path has a dot or empty segment before the key\n");

my ($example) = $PAGE =~ /^```nginx\n(\s+location \/any\/ .*?)^```\n/ms
    or BAIL_OUT('there is no example');

my $s = KV::Test->new(
    kv => 'list=on', off => free_port(), h2 => free_port(),
    front => free_port(), front_off => free_port(),
    http => 'kv_get $http_key $got zone=main raw;',
    location => 'kv_key_chars any;',
    server => <<"END", servers => <<'END2');
        root %%dir%%;
        kv_key_chars any;
        location = /keys { kv_keys main; }
        location /safe/ { kv main; kv_key_chars safe; }
        location = /safe-keys { kv_keys main; kv_key_chars safe; }
        location = /safe-batch { kv_batch main; kv_key_chars safe; }
        location /kv/private/ { deny all; }
        location /map/ { rewrite ^/map/(.*)\$ /kv/\$1 last; }
        location /args/ { set \$args "ttl=60"; kv main; }
        location /args-safe/ {
            set \$args "ttl=60"; kv main; kv_key_chars safe;
        }
        location = /got { return 200 "\$got"; }
        location /try/ { try_files /try/of%20a/b =404; kv main; }
        location /nest/ { kv main; location /nest/in/ { kv main; } }
$example
END
    server {
        listen 127.0.0.1:%%off%%;
        merge_slashes off;
        location /kv/ { kv main; kv_key_chars any; }
        location /safe/ { kv main; kv_key_chars safe; }
        location /map/ { rewrite ^/map/(.*)$ /kv/$1 last; }
    }
    server {
        listen 127.0.0.1:%%h2%% http2;
        location /kv/ { kv main; kv_key_chars any; }
        location /safe/ { kv main; }
    }
    server {
        listen 127.0.0.1:%%front%%;
        location /kv/ { proxy_pass http://127.0.0.1:%%port%%; }
        location /path/ { proxy_pass http://127.0.0.1:%%port%%/kv/; }
    }
    server {
        listen 127.0.0.1:%%front_off%%;
        merge_slashes off;
        location /path/ { proxy_pass http://127.0.0.1:%%port%%/kv/; }
    }
END2
$s->{servers} =~ s/ http2//
    if qx(@{[ $s->nginx ]} -V 2>&1) !~ /http_v2_module/;
mkdir "$s->{dir}/try";
mkdir "$s->{dir}/try/of%20a";
write_file("$s->{dir}/try/of%20a/b", '');
$s->start;

# A key as each of its bytes can be sent.

sub encoded {
    my ($key) = @_;
    return $key =~ s/([^A-Za-z0-9_.~-])/sprintf '%%%02X', ord $1/ger;
}

sub as_json { return JSON::PP->new->latin1->encode([ @_ ]) =~ s/^\[|\]$//gr }
sub listed { [ split /\n/, $s->http(GET => "/keys$_[0]")->{body} ] }


# ---- the table: every path, every key

sub rows {
    my ($table) = $PAGE =~ /^(\| path \| key with.*?)\n\n/ms;
    my @rows = map { [ split / *\| */, s/^\| //r ] } split /\n/, $table;
    return map { [ [ $_->[0] =~ /`([^`]+)`/g ], @$_[1, 2] ] }
           @rows[2 .. $#rows];
}

sub check_path {
    my ($path, $told, $how, %o) = @_;
    my $r = $s->http(GET => $path, %o);

    if ($told =~ /^nginx: (.*)/) {
        like("$r->{status} $r->{headers}{'content-type'}",
             $1 eq '400' ? qr{^400 text/html} : qr{^40[34] text/html},
             "$how, $path: $told");

    } elsif ($told =~ /^`(.*)`$/) {
        my $key = $1;
        is("$r->{status} $r->{body}", "200 value of $key", "$how, $path: $key");

    } else {
        is("$r->{status} $r->{body}", "400 $WRONG{$told}",
           "$how, $path: $told");
    }
}

my @rows = rows();
cmp_ok(scalar @rows, '>', 15, 'there is a table');

for my $key (map { /^`(.*)`$/ ? $1 : () } map { $_->[2] } @rows) {
    is($s->http(PUT => '/kv/' . encoded($key), body => "value of $key")
       ->{status}, 200, "PUT of $key, encoded");
}

for (@rows) {
    my ($paths, $safe, $any) = @$_;

    for my $path (@$paths) {
        my $same = $path =~ s{/kv(?=/|%2F)}{/safe}gr
                         =~ s{^/%6bv/}{/saf%65/}r;
        check_path($path, $any, 'any');
        check_path($same, $safe, 'safe');
        check_path("http://localhost$path", $any, 'any, with a host');

        next if $path =~ m{^//|^/kv%2F};
        check_path($path, $any, 'any, merge_slashes off', port => $s->{off});
        check_path($same, $safe, 'safe, merge_slashes off', port => $s->{off});
    }
}

SKIP: {
    skip('this nginx does not speak HTTP/2', 1) if $s->{servers} !~ /http2/;

    my $h = KV::Frames->new(port => $s->{h2});
    my ($id, %status) = (1);

    for (@rows) {
        my ($paths, $safe, $any) = @$_;
        next if $any =~ /nginx/;

        for my $path (@$paths) {
            $h->request($id, GET => $path);
            $h->read_until(sub {
                my ($f) = @_;
                $status{$path} = KV::Frames::status($f->{payload})
                    if $f->{type} == KV::Frames::HEADERS;
                return $f->{stream} == $id
                       && $f->{flags} & KV::Frames::END_STREAM;
            });
            $id += 2;
            is($status{$path}, $any =~ /^`/ ? 200 : 400, "HTTP/2, $path");
        }
    }
}

is_deeply(listed(''), [ sort map { /^`(.*)`$/ ? $1 : () }
                        keys %{{ map { $_->[2] => 1 } @rows }} ],
          'and there are no other keys');


# ---- each byte, in the middle and at both ends

$s->clear;

for my $byte (0 .. 255) {
    my $c = chr $byte;
    my $path = '/kv/' . join '', map { sprintf '%%%02x', ord }
                                 split //, "${c}a${c}${c}";
    my $r = $s->http(PUT => $path, body => "of $byte");
    my $bad = $byte < 0x20 || $byte == 0x7f;

    is($r->{status}, $bad ? 400 : 200, "byte $byte");
    next if $bad;
    is($s->http(GET => $path)->{body}, "of $byte", "byte $byte comes back");
}

my @all = sort map { my $c = chr; "${c}a${c}${c}" } 0x20 .. 0x7e, 0x80 .. 0xff;

is_deeply(listed(''), \@all, 'a list has all, in the order of their bytes');

# page by page, by links and by cursors; in all formats

for my $format (qw(text lines json)) {
    my ($path, @keys) = ("/keys?limit=7&format=$format");

    while (defined $path) {
        my $r = $s->http(GET => $path);
        last if $r->{status} != 200;
        push @keys, $format eq 'text' ? split /\n/, $r->{body}
                    : map { key_of($_) } entries($format, $r->{body});
        ($path) = ($r->{headers}{link} // '') =~ /^<(.*)>; rel="next"$/;
    }
    is_deeply(\@keys, \@all, "$format: by links");
}

sub entries {
    my ($format, $body) = @_;
    my $json = JSON::PP->new->utf8;
    return @{$json->decode($body)->{keys}} if $format eq 'json';
    return map { $json->decode($_) } split /\n/, $body;
}

sub key_of {
    my ($entry, $name) = @_;
    $name //= 'key';
    return MIME::Base64::decode_base64($entry->{"${name}_base64"})
        if defined $entry->{"${name}_base64"};
    my $key = $entry->{$name};
    utf8::encode($key);
    return $key;
}

{
    my ($after, @keys) = ('');
    for (1 .. 100) {
        my $page = JSON::PP->new->utf8->decode(
            $s->http(GET => '/keys?format=json&limit=7&after='
                            . encoded($after))->{body});
        push @keys, map { key_of($_) } @{$page->{keys}};
        last if !$page->{more};
        $after = key_of($page, 'next');
    }
    is_deeply(\@keys, \@all, 'json: by "next" and "next_base64"');
}

for my $prefix (map { encoded($_) } '"', '\\', ' ', '%', "\xff", "\xffa", '/',
                                    '+')
{
    is_deeply(listed("?prefix=$prefix"),
              [ grep { encoded($_) =~ /^\Q$prefix\E/ } @all ],
              "a prefix: $prefix");
}

{
    my $page = JSON::PP->new->utf8->decode(
        $s->http(GET => '/keys?format=json&delimiter=a')->{body});
    is_deeply([ sort map({ utf8::encode(my $p = $_); $p } @{$page->{prefixes}}),
                map { MIME::Base64::decode_base64($_) }
                    @{$page->{prefixes_base64}} ],
              [ sort map { substr($_, 0, 2) =~ s/^aa/a/r } @all ],
              'common prefixes, as text or not');
    my @lines = entries('lines', $s->http(GET => '/keys?format=lines'
                                                 . '&delimiter=a')->{body});
    is_deeply([ map { key_of($_, 'prefix') } @lines ],
              [ map { substr($_, 0, 2) =~ s/^aa/a/r } @all ], '... in lines');
}

is_deeply([ split /\n/, $s->http(GET => '/safe-keys')->{body} ], \@all,
          'where keys are safe a list has them, too');

# what a list prints can be posted, and what kv-inspect dumps

my $lines = $s->http(GET => '/keys?values=1')->{body};
$s->clear;
is($s->http(POST => '/bulk', body => $lines)->{body},
   sprintf(qq({"lines":%d,"applied":%1\$d}\n), scalar @all), 'all of it');
is($s->http(GET => '/keys?values=1')->{body} =~ s/"version":"[^"]*"//gr,
   $lines =~ s/"version":"[^"]*"//gr, 'it is the same');

write_file("$s->{dir}/backup", $s->http(GET => '/backup')->{body});
is((inspect('restore', "$s->{dir}/backup", "$s->{dir}/restored"))[0], 0,
   'a backup can be restored');
my ($rc, $dump) = inspect('dump', "$s->{dir}/restored");
is($rc, 0, '... and dumped');
is_deeply([ map { key_of($_) } entries('lines', $dump) ], \@all,
          '... with all keys');

$s->clear;
is($s->http(POST => '/bulk', body => $dump)->{status}, 200,
   '... which can be posted');
is_deeply(listed(''), \@all, '... to the byte');

is((inspect_with($dump, 'load', "$s->{dir}/loaded"))[0], 0, '... and loaded');
is((inspect('dump', "$s->{dir}/loaded"))[1], $dump, '... to the byte');

my $log = (inspect('log', $s->{path}))[1];
my $field = qr/(?:[!-\$&-~]|%[0-9A-F]{2})+/;
is_deeply([ grep { !/^\d+ \S+ \S+ \w+ $field (?:\d+|-) - -$/ }
            split /\n/, $log ], [],
          'the log has eight fields, whatever the key');
like($log, qr/ put %20a%20%20 /, '... which is as in a URL');


# ---- lines

$s->clear;
my $LONG = 'A key of more than 48 bytes, which is decoded by itself: ';

for my $path ('/batch', '/bulk') {
    my $error = sub {
        my ($line) = @_;
        my $r = $s->http(POST => $path, body => "$line\n");
        return "$r->{status} " . (JSON::PP::decode_json($r->{body})->{error}
                                  // '');
    };
    for ('a/b', '/', '//', 'a b"\\', "\xc3\xa9", '.../..a',
         "$LONG/\"\xc3\xa9")
    {
        is($error->('{"key":' . as_json($_) . ',"value":"of it"}'), '200 ',
           "$path: " . encoded($_));
        is($s->http(GET => '/kv/' . encoded($_))->{body}, 'of it', '... is it');
        is($error->('{"op":"delete","key_base64":"' . encode_base64($_, '')
                    . '"}'), '200 ', '... in base64, too');
        is($s->http(GET => '/kv/' . encoded($_))->{status}, 404, '... is it');
    }
    is($error->('{"key":"a\\u002fb","value":"x"}'), '200 ', "$path: an escape");
    is($s->http(GET => '/kv/a%2Fb')->{body}, 'x', '... is decoded');
    is($error->('{"key_base64":"' . encode_base64("\xff\xfe$LONG", '')
                . '","base64":"' . encode_base64("\xfd$LONG", '') . '"}'),
       '200 ', "$path: two in base64");
    is($s->http(GET => '/kv/%FF%FE' . encoded($LONG))->{body}, "\xfd$LONG",
       '... are decoded');

    for (['a\\u0000', 'key contains invalid characters'],
         ['a\\n', 'key contains invalid characters'],
         ["\x7f", 'key contains invalid characters'],
         ['a/../b', 'key has a dot segment'], ['.', 'key has a dot segment'],
         ['a\\u002f\\u002e\\u002e', 'key has a dot segment'])
    {
        my ($key, $why) = @$_;
        is($error->(qq({"key":"$key","value":"x"})), "400 $why",
           "$path: " . encoded($key));
    }
}

for (['{"key":"a/b","value":"x"}', 'key contains invalid characters'],
     ['{"key_base64":"YQ==","value":"x"}', 'unknown member key_base64'])
{
    my ($line, $why) = @$_;
    is($s->http(POST => '/safe-batch', body => $line)->{body},
       qq({"line":1,"error":"$why"}\n), "safe: $line");
}


# ---- other methods, a waiting read, and a delete by prefix

$s->clear;
my $path = '/kv/' . encoded("a//b c\xff");

my $waiter = $s->connect;
$waiter->send(KV::Conn::request(GET => "$path?wait=60"));
ok(wait_for(sub { $s->store->{waiting} == 1 }, 20), 'a read waits');
is($s->http(POST => "$path?incr=5")->{body}, 5, 'POST');
is($waiter->response->{body}, 5, 'the read is answered');
is($s->http(HEAD => $path)->{status}, 200, 'HEAD');
is($s->http(DELETE => $path, headers => ['Prefer: return=representation'])
   ->{body}, 5, 'DELETE');

$s->http(PUT => "/kv/$_", body => 'x')
    for qw(a%2Fb a%2Fb%2Fc a%2F%2Fb a%20b a);
is($s->http(DELETE => '/keys?prefix=a/b')->{body}, 2, 'a delete by prefix');
is_deeply(listed(''), ['a', 'a b', 'a//b'], '... leaves the others');


for my $key ('a//b', "\xff\xfe/", 'a b', '"\\') {
    $s->http(PUT => '/kv/' . encoded($key), body => "$key is got");
    is($s->http(GET => '/got', headers => ["Key: $key"])->{body},
       "$key is got", 'a variable reads ' . encoded($key));
}


# ---- what the configuration makes of a path; other locations

$s->clear;
$s->http(PUT => '/any/' . encoded($_), body => "of $_")
    for 'a/b', 'a//b', 'a', '/a', 'private/a';

sub answer {
    my ($path, $told, $name, %o) = @_;
    my $r = $s->http(GET => $path, %o);
    return is("$r->{status} $r->{body}", $told, "$path: $name");
}

my $DOT = "400 $WRONG{dot}";
my $BEFORE = "400 $WRONG{before}";

answer('/map/a//b', '200 of a/b', 'a rewrite sees merged slashes');
answer('/map/a//b', '200 of a//b', 'not with merge_slashes off',
       port => $s->{off});
answer('/kv/x//../a', $DOT, 'a dot segment behind an empty one',
       port => $s->{off});
answer('/map/x/../a', '200 of a', 'a rewrite sees resolved dot segments');
answer('/args/a//b', '200 of a//b', '"set $args" is no rewrite of the path');
answer('/args-safe//a', "400 $WRONG{invalid}", '... with safe neither');
answer('/try/x//y', "404 key not found\n", 'try_files changes the path');
$s->http(PUT => '/kv/of%2520a/b', body => 'tried');
answer('/try/x//y', '200 tried', '... to what it found');
answer('/any/a//b', '200 of a//b', 'the example');
answer('/nest/in/a', '200 of a', 'a location in another');
answer('/nest/in//a', '200 of /a', '... whose name is cut off');
answer('/nest//in/a', $BEFORE, '... as it was sent alone');

# access to keys below private/ is denied

for my $path ('/kv/private/a', '/kv/private%2Fa', '/kv/private//a',
              '/kv//private/a', '/kv/%70rivate/a', '/kv/x/../private/a',
              '/kv/private/./a', '/kv//private%2f../private/a')
{
    is($s->http(GET => $path)->{status}, 403, "$path is denied");
}

for my $path ('/kv/private/../a', '/kv/private/%2E%2E/a', '/kv/private/..//a',
              '/kv/private%2F..%2Fa', '/kv/private/b/../../a')
{
    answer($path, $DOT, 'nor is a key below it made');
    is($s->http(PUT => $path, body => 'x')->{status}, 400, "PUT of $path");
}
is_deeply(listed('?prefix=private/'), ['private/a'], 'there is none');


# ---- behind another nginx

for my $key ('f/a', '/f', 'f//a', 'f%2Fa', 'f%', 'f?', 'f#', 'f a', "f\xff",
             'f+&=;,', 'f\\"<|>')
{
    my $merged = $key =~ s{//}{/}gr =~ s{^/}{}r;

    for ([ front => '/kv/', $key ], [ front_off => '/path/', $key ],
         [ front => '/path/', $merged ])
    {
        my ($front, $path, $made) = @$_;
        my $name = 'behind ' . ($made eq $key ? '' : 'a path of ') . "$front: "
                   . encoded($key);
        $s->http(PUT => $path . encoded($key), port => $s->{$front},
                 body => "by $front");
        is($s->http(GET => '/kv/' . encoded($made))->{body}, "by $front",
           $name);
        $s->http(DELETE => '/kv/' . encoded($made));
    }
}


# ---- a reload changes it

$s->{location} = 'kv_key_chars safe;';
$s->reload;
answer('/kv/a/b', "400 $WRONG{invalid}", 'safe after a reload');
answer('/kv/a', '200 of a', 'safe after a reload');
is_deeply(listed('?prefix=a/'), ['a//b', 'a/b'], 'other keys stay in the list');

$s->done;
done_testing();
