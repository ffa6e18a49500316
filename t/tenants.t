# key= and prefix=: which key a request is about where the configuration says
# it, and that no tenant names, sees or changes what is outside of its prefix.
# The examples of src/http/keys.md, as they stand there.

use strict;
use warnings;

use JSON::PP ();
use MIME::Base64 qw(encode_base64);
use Test::More;

use KV::Frames;
use KV::Test;
use KV::Util qw(free_port);

my $PAGE = read_file('src/http/keys.md');

sub example {
    my ($what) = @_;
    my @found = grep { /\Q$what\E/ } $PAGE =~ /^```nginx\n(.*?)^```\n/msg;
    is(scalar @found, 1, "there is one example with $what") or BAIL_OUT('');
    return $found[0];
}

my $tenants = example('prefix=$remote_user:');
my $said = example('key=profile:$id');

# In the same words for keys of any characters, at /p...

my $paths = $tenants =~ s{/my}{/p}gr =~ s{\$remote_user:}{\$remote_user/}gr
                     =~ s{(location\b[^\{]*\{)}{$1 kv_key_chars any;}gr
                     =~ s{^\s*auth_basic.*\n}{}gmr;

my $s = KV::Test->new(
    kv => 'list=on', open => free_port(), h2 => free_port(),
    http => 'large_client_header_buffers 4 32k;
             map $http_x $mapped { default none; ~^(.*)$ $1; }
             map $step $changes { volatile; default x; two second; }
             map $http_tenant $checked { default ""; ~^(?<t>[ab])$ $t; }',
    servers => <<"END", server => <<'END2');
    server {
        listen 127.0.0.1:%%open%%;
        $tenants
        $paths
        location /any-of/ { kv_key_chars any; kv main prefix=\$remote_user/; }
        location /to/ { rewrite ^/to/(.*)\$ /my/\$1 last; }
        location /falls/ { error_page 404 = /my\$uri; return 404; }
        location /ssi/ { ssi on; ssi_types text/plain; kv main prefix=page:; }
        location /satisfy/ {
            satisfy any; allow all; kv main prefix=\$remote_user:;
        }
        location /limited/ {
            kv main prefix=\$remote_user:;
            limit_except GET { allow 127.0.0.1; deny all; }
        }
    }
    server {
        listen 127.0.0.1:%%h2%% http2;
        $tenants
    }
END
        location = /keys { kv_keys main; }
        location /all/ { kv main; kv_key_chars any; }
        location /checked/ { kv main prefix=%%version%%$checked:; }
        location = /checked-keys { kv_keys main prefix=%%version%%$checked:; }
        location = /checked-batch { kv_batch main prefix=$checked:; }
        location = /checked-bulk { kv_bulk main prefix=$checked:; }
        location = /few { kv_batch main max_ops=2 prefix=few: max_size=100; }
        location = /const-keys { kv_keys main prefix=const:; }
        location /dot/ { kv main prefix=.; }
        location /any-name/ { kv main prefix=$http_tenant:; }
        location = /any-name-keys { kv_keys main prefix=$http_tenant:; }
        location = /any-name-batch { kv_batch main prefix=$http_tenant:; }
        location = /any-name-bulk { kv_bulk main prefix=$http_tenant:; }
        location = /changes {
            set $step one; set $was $changes; set $step two;
            kv main key=$changes;
        }
        location ~ ^/u/(?<id>[^/]*)$ { kv main key=user:$id; }
        location ~ ^/path/(?<rest>.*)$ { kv_key_chars any; kv main key=$rest; }
        location ~ ^/part/(?<part>[a-z]+) { kv main key=part:$part; }
        location = /cookie { kv main key=session:$cookie_sid; }
        location = /arg { kv_key_chars any; kv main key=arg:$arg_k; }
        location = /arg-safe { kv main key=arg:$arg_k; }
        location ~ ^/mapped/(.+)$ { kv_key_chars any;
                                    kv main key=$1-$mapped-$1; }
        location /fallback/ { error_page 404 = @named; return 404; }
        location @named { kv main key=page$arg_n; }
        location /get/ { kv main; if ($arg_x) { set $y 1; } }
        location ~ ^/if/(?<n>.+)$ { if ($arg_x) { set $y 1; }
                                    kv main key=if:$n; }
        location = /sub { auth_request /allowed; kv main key=sub; }
        location = /allowed { internal; kv main key=allowed:$cookie_who; }
END2
$s->{version} = '';
$s->{servers} =~ s/ http2//
    if qx(@{[ $s->nginx ]} -V 2>&1) !~ /http_v2_module/;
write_file("$s->{dir}/tenants", join '', map { "$_:{PLAIN}secret\n" }
                                         qw(jane bob ja jane2 a/b a));
$s->start;

my %auth = map { $_ => 'Authorization: Basic '
                       . encode_base64("$_:secret", '') }
           qw(jane bob ja jane2 a/b a nobody);

# A request of a tenant; its answer as "status body".

sub as {
    my ($who, $method, $path, %o) = @_;
    return $s->http($method, $path, port => $s->{open}, %o,
                    headers => [ $who ? $auth{$who} : (),
                                 @{$o{headers} || []} ]);
}

sub told { my $r = as(@_); return "$r->{status} $r->{body}" }
sub all { join ' ', split /\n/, $s->http(GET => '/keys')->{body} }
sub batch { my ($who, $line, $path) = @_;
            return told($who, POST => $path // '/my-batch', body => "$line\n") }
sub encoded {
    my ($key) = @_;
    return $key =~ s/([^A-Za-z0-9_.~-])/sprintf '%%%02X', ord $1/ger;
}


# ---- each has its own

for my $who (qw(jane bob ja jane2)) {
    for my $key (qw(a b c)) {
        is(told($who, PUT => "/my/$key", body => "${key} of $who"), '200 ',
           "$who puts $key");
    }
}

is(all(), 'bob:a bob:b bob:c ja:a ja:b ja:c jane2:a jane2:b jane2:c '
          . 'jane:a jane:b jane:c', 'each behind a prefix');
is(told(jane => GET => '/my/a'), '200 a of jane', 'a value');
is(told(ja => GET => '/my/a'), '200 a of ja', 'of another');
is(told(jane => GET => '/my-keys'), "200 a\nb\nc\n", 'a list');
is(told(jane => DELETE => '/my/b'), '200 ', 'a delete');
is(told(bob => GET => '/my/b'), '200 b of bob', '... is of its own');
is(told(jane => PUT => '/my/b', body => 'b of jane'), '200 ', 'a put');
is(told(jane => POST => '/my/n?incr=2'), '200 2', 'an increment');
is($s->http(GET => '/all/jane:n')->{body}, 2, '... is of its own');
is(told(jane => DELETE => '/my/n', headers =>
        ['Prefer: return=representation']), '200 2', 'read and delete');
is(as('', GET => '/my/a')->{status}, 401, 'without a name');
is(as(nobody => GET => '/my/a')->{status}, 401, 'with another one');


# ---- whatever a tenant asks for, it gets nothing that is not its own

my %before = map { $_ => $s->http(GET => "/all/$_")->{body} } split / /, all();

sub unchanged {
    my ($what) = @_;
    my %now = map { $_ => $s->http(GET => "/all/$_")->{body} }
              grep { !/^jane:/ } split / /, all();
    is_deeply(\%now, { map { $_ => $before{$_} } grep { !/^jane:/ }
                       keys %before }, "$what: others' keys are as they were");
}

for my $path ('bob:a', 'bob%3Aa', '../bob:a', '%2e%2e/bob:a', '..%2Fbob:a',
              '/bob:a', '%2Fbob:a', '.%2F..%2Fbob:a', '', '.', '..', '%00bob:a',
              'a%0Abob:a', '%6a%61ne:../bob:a', ':a', '::a', '*',
              'a/../../my/../bob:a', '../all/bob:a', '..%2fall%2fbob:a')
{
    for my $method (qw(GET PUT DELETE POST)) {
        my $r = as(jane => $method, "/my/$path" . ($method eq 'POST'
                                                   ? '?incr=1' : ''),
                   $method eq 'PUT' ? (body => 'stolen') : ());
        unlike($r->{body}, qr/of (?!jane)/, "$method /my/$path") ;
    }
}
unchanged('paths');
as(jane => DELETE => "/my/$_") for qw(bob:a :a ::a);

my $bobs = as(bob => GET => '/my-keys?limit=1&format=json');
my ($cursor) = $bobs->{headers}{link} =~ /[?&]after=([^&>]*)/;
is(JSON::PP::decode_json($bobs->{body})->{next}, 'a', 'a cursor has no prefix');
is($cursor, 'a', '... nor has a link');

for my $args ('prefix=', 'prefix=bob:', 'prefix=bob', 'after=bob:', 'after=',
              'after=%00', 'after=%FF', 'prefix=%FF', 'prefix=%00',
              'after=a', 'prefix=a&after=..', 'prefix=../bob:', 'prefix=:',
              'delimiter=:', 'delimiter=a', 'prefix=&delimiter=e', 'limit=1',
              'after=ja:', "after=$cursor", 'prefix=%2e%2e%2f', 'after=jane:')
{
    for my $format ('', '&format=json', '&values=1', '&values=1&format=json') {
        my ($path, $n, $body) = ("/my-keys?$args$format", 0, '');

        while (defined $path && $n++ < 20) {
            my $r = as(jane => GET => $path);
            $body .= "$r->{body}" . ($r->{headers}{link} // '');
            ($path) = ($r->{headers}{link} // '') =~ /^<(.*)>; rel="next"$/;
        }
        unlike($body =~ s/<[^>]*>//gr, qr/of (?!jane)|bob|jane[2:]|ja:/,
               "GET /my-keys?$args$format");
    }
}

is(told(jane => GET => '/my-keys?prefix=&after=a'), "200 b\nc\n", 'after=');
is(told(jane => GET => '/my-keys?after=zzz'), '200 ', 'after= behind its own');
is(told(jane => GET => '/my-keys?delimiter=a'), "200 a\nb\nc\n", 'delimiter=');
is(told(jane => GET => '/my-keys?prefix=x&prefix='),
   "400 an argument is given twice\n", 'prefix= twice');

for my $args ('prefix=bob:', 'prefix=:', 'prefix=%00', 'prefix=%FF',
              'prefix=../bob:', 'prefix=bob:&max=1024')
{
    is(told(jane => DELETE => "/my-keys?$args"), '200 0',
       "DELETE /my-keys?$args");
}
for my $args ('', '?prefix=', '?max=1000') {
    is(told(jane => DELETE => "/my-keys$args"),
       "400 prefix cannot be empty\n", "DELETE /my-keys$args");
}
unchanged('deletes of many');

my $tag = $s->http(GET => '/all/bob:a')->{headers}{etag} =~ tr/"//dr;

for my $path ('/my-batch', '/my-bulk') {
    for my $key ('bob:a', '../bob:a', '\u002e\u002e\u002fbob:a', '\u0000bob:a',
                 'a\u0000', '', ':', '/bob:a', '\u0000')
    {
        batch(jane => $_, $path)
            for qq({"key":"$key","value":"stolen"}),
                qq({"op":"delete","key":"$key"});
    }
    batch(jane => '{"key_base64":"Ym9iOmE=","value":"stolen"}', $path);
}
for my $line (qq("key":"bob:a","value":"x","if_match":"$tag"),
              '"op":"delete","key":"bob:a","if_match":"*"',
              qq("op":"incr","key":"bob:a","by":1,"if_match":"$tag"))
{
    is(batch(jane => "{$line}"),
       qq(412 {"line":1,"error":"precondition failed"}\n), "batch: $line");
}
is(batch(jane => '{"op":"touch","key":"bob:a","ttl":1}'),
   qq(409 {"line":1,"error":"key not found"}\n), 'batch: touch');
is(batch(jane => qq({"key":"x","value":"1","if_none_match":"*"}\n)
         . qq({"key":"bob:a","value":"x","if_match":"$tag"})),
   qq(412 {"line":2,"error":"precondition failed"}\n), 'batch: beside its own');
unchanged('lines');
unlike(all(), qr/(?<!jane:)stolen|jane:x/, 'none is done');

like(batch(jane => qq({"key":"a","value":"1"}\n{"op":"incr","key":"a","by":4})),
     qr/^200 .*"value":"5"/, 'a batch of its own');
is(told(jane => GET => '/my/a'), '200 5', '... is done');
is(told(bob => GET => '/my/a'), '200 a of bob', '... for none else');
is(batch(jane => qq({"key":"a","value":"a of jane"}\n{"op":"delete",)
         . qq("key":"x"}), '/my-bulk'), qq(200 {"lines":2,"applied":2}\n),
   'a load');
is(told(jane => GET => '/my/a'), '200 a of jane', '... is done');

# a waiting read is not woken by others, nor told of them

{
    my $c = KV::Conn->new(port => $s->{open});
    $c->send(KV::Conn::request(GET => '/my/w?wait=60',
                               headers => [ $auth{jane} ]));
    wait_for(sub { $s->store->{waiting} == 1 }, 20) or fail('it waits');
    as(bob => PUT => '/my/w', body => 'w of bob');
    ok($c->silent(0.2), 'a read waits for its own key');
    as(jane => PUT => '/my/w', body => 'w of jane');
    is($c->response->{body}, 'w of jane', '... and gets that');
    as($_ => DELETE => '/my/w') for qw(jane bob);
}

# long ones

{
    my $long = 'k' x (16384 - length 'jane:');
    for my $path ('/my-batch', '/my-bulk') {
        is(batch(jane => qq({"key":"$long","value":"1"}), $path)
           =~ s/ .*//sr, '200', "$path: the longest key");
        like(batch(jane => qq({"key":"k$long","value":"1"}), $path),
             qr/^400 \{"line":1,"error":"key too long"/, '... one more byte');
        is(batch(jane => qq({"op":"delete","key":"$long"}), $path)
           =~ s/ .*//sr, '200', '... goes');
    }
}

# a prefix that is too long, or has what no key has

for (['a' x 16_384, 414, 'key too long'],
     ['a b', 400, 'key contains invalid characters'])
{
    my ($tenant, $status, $why) = @$_;
    my $name = substr $tenant, 0, 3;
    my $says = sub {
        my ($method, $path, @body) = @_;
        my $r = $s->http($method, $path, @body,
                         headers => ["Tenant: $tenant"]);
        return "$r->{status} $r->{body}";
    };
    my $line = $status == 400 ? qr/^400 \{"line":1,"error":"$why"/
                              : qr/^414 $why\n/;

    is($says->(PUT => '/any-name/x', body => 'x'), "$status $why\n",
       "a tenant \"$name\": PUT");
    is($says->(GET => '/any-name-keys'), "$status $why\n", '... a list')
        if $status == 414;
    like($says->(POST => "/any-name-$_", body => '{"key":"x","value":"x"}'),
         $line, "... a $_") for qw(batch bulk);
}
unlike(all(), qr/a b:/, '... no key of it is there');


# ---- any characters: paths below a name

is(told(jane => PUT => '/p/../p/x', body => 'x'), "400 key has a dot segment\n",
   'a dot segment');

for my $who (qw(jane a a/b)) {
    is(told($who, PUT => "/p/$_", body => "$_ of $who"), '200 ', "$who: $_")
        for qw(x /x d/x);
}
is(join(' ', grep { !/:/ } split / /, all()),
   'a//x a/b//x a/b/d/x a/b/x a/d/x a/x jane//x jane/d/x jane/x',
   'each below a name');
is(told(jane => GET => '/p-keys'), "200 /x\nd/x\nx\n", 'a list');
is(told(jane => GET => '/p-keys?delimiter=/'), "200 /\nd/\nx\n",
   'its folders');
is(told(a => GET => '/p-keys?prefix=b/'), "200 b//x\nb/d/x\nb/x\n",
   'a name within another: the page warns of it');

for my $path ('../bob/x', '..%2Fbob/x', '%2e%2e/bob/x', '/../../bob/x',
              'd/../../bob/x', '%2F..%2F..%2Fbob%2Fx', '.', '..', './x')
{
    my $r = as(jane => PUT => "/p/$path", body => 'stolen');
    isnt($r->{status}, 200, "PUT /p/$path");
}
for my $key ('../bob/x', '\u002e\u002e\/bob\u002fx', 'd/../../bob/x', '.',
             '/..', '\u0000', '')
{
    like(batch(jane => qq({"key":"$key","value":"stolen"}), '/p-batch'),
         qr/^400 /, "batch: $key");
}
is(batch(jane => '{"key_base64":"L/8=","value":"x"}', '/p-bulk'),
   qq(200 {"lines":1,"applied":1}\n), 'bytes that are no UTF-8');
is(told(jane => GET => '/p/%2F%FF'), '200 x', '... are its own');
like(told(jane => GET => '/p-keys?format=json&limit=2'),
     qr/"key":"\/x".*"key_base64":"L\/8=".*"next_base64":"L\/8="/,
     '... in lists, too');
is(told(jane => DELETE => '/p-keys?prefix=/'), '200 2', 'a delete of many');
is(told(a => GET => '/p//x'), '200 /x of a', '... is of its own');


# ---- ways to a location; names that nobody has checked

is(told(jane => GET => '/to/a'), '200 a of jane', 'a rewrite');
is(as('', GET => '/to/a')->{status}, 401, '... asks for a name, too');
is(told(jane => GET => '/to/bob:a'), "404 key not found\n", '... keeps to it');
is(told(jane => GET => '/falls/a'), "400 key contains invalid characters\n",
   'an error_page');

$s->http(PUT => '/all/page:p', body => join '',
         map { "<!--# include virtual=\"/my/$_\" -->" } 'a', 'bob:a');
is(told(jane => GET => '/ssi/p'), "200 a of janekey not found\n",
   'subrequests');

is(told('', GET => '/satisfy/a'), "403 a part of the prefix is empty\n",
   'no name, where none is asked for');
is(told(bob => GET => '/satisfy/a'), '200 a of bob',
   'a name that is not checked: the page warns of it');
is(told(jane => GET => '/limited/a'), '200 a of jane', 'limit_except: a read');
is(told(jane => PUT => '/limited/a', body => 'a of jane'), '200 ',
   'limit_except: a write');

for my $path ('/checked/a', '/checked-keys', '/checked-keys?prefix=a') {
    for my $tenant ('', 'c', 'ab', 'a:', "a\t") {
        my $r = $s->http(GET => $path, headers => ["Tenant: $tenant"]);
        is("$r->{status} $r->{body}", "403 a part of the prefix is empty\n",
           "$path of \"$tenant\"");
    }
}
is($s->http(DELETE => '/checked-keys?prefix=a')->{status}, 403,
   '... nor a delete');
for my $path ('/checked-batch', '/checked-bulk') {
    my $c = $s->connect;
    for (1 .. 2) {
        $c->send(KV::Conn::request(POST => $path, headers => ['Tenant: ab'],
                 body => qq({"key":"bob:a","value":"stolen"}\n) x 10_000));
        is($c->response->{status}, 403, "$path: all of it is refused");
    }
    $c->close;
}
unlike(all(), qr/stolen|(?<!\w)bob:a:/, '... and none is done');
my $refused = 'a variable of the "prefix=" of "kv" is empty or not set in this '
              . 'request, which is refused, in';
like($s->log, qr{\[error\] .* \Q$refused\E \S+\.conf:\d+},
     '... and the log says so');
$s->http(PUT => '/checked/x', headers => ['Tenant: a'], body => '1');
is($s->http(GET => '/all/a:x')->{body}, 1, 'a map checks');

SKIP: {
    skip('this nginx does not speak HTTP/2', 1) if $s->{servers} !~ /http2/;

    my $h = KV::Frames->new(port => $s->{h2});
    my $body = '';
    $h->request(1, GET => '/my-keys?limit=2', authorization =>
                $auth{jane} =~ s/^\S+ //r);
    $h->read_until(sub {
        my ($f) = @_;
        $body .= $f->{payload} if $f->{type} == KV::Frames::DATA;
        return $f->{stream} == 1 && $f->{flags} & KV::Frames::END_STREAM;
    });
    is($body, "a\nb\n", 'HTTP/2');
}


# ---- key=

$said =~ s/^\s+//mg;
$s->{server} .= $said;
$s->reload;

sub kv { my $r = $s->http(@_); return "$r->{status} $r->{body}" }

is(kv(PUT => '/users/7/profile', body => 'seven'), '200 ', 'key=');
is(kv(GET => '/all/profile:7'), '200 seven', '... is that one');
is(kv(PUT => '/motd', body => 'hello'), '200 ', 'an exact location');
is(kv(GET => '/all/motd'), '200 hello', '... is that one');

is(kv(PUT => '/u/ann', body => 'u'), '200 ', 'a regular expression');
is(kv(GET => '/all/user:ann'), '200 u', '... is that one');
is(kv(GET => '/u/'), "400 a part of the key is empty\n", 'an empty part');
is(kv(GET => '/u/a%20b'), "400 key contains invalid characters\n", 'a bad key');
is(kv(GET => '/u/' . 'k' x 5000), "404 key not found\n", 'a long one');
is(kv(GET => '/u//ann'), '200 u', 'its path is what nginx makes of it');
is(kv(GET => '/cookie'), "400 a part of the key is empty\n", 'no cookie');
is(kv(PUT => '/cookie', body => 'c', headers => ['Cookie: sid=1']), '200 ',
   'a cookie');
is(kv(GET => '/all/session:1'), '200 c', '... is that one');
is(kv(PUT => '/arg?k=a%2Fb', body => 'x'), '200 ', 'an argument');
is(kv(GET => '/all/arg:a%252Fb'), '200 x', '... is not decoded');
is(kv(PUT => '/arg-safe?k=a%2Fb', body => 'x'),
   "400 key contains invalid characters\n", '... nor where keys are safe');
is(kv(PUT => '/path/a%2Fb', body => 'x'), '200 ', 'what is found in a path');
is(kv(GET => '/all/a%2Fb'), '200 x', '... is decoded');
is(kv(GET => '/path/a//b'), '200 x', '... and normalised');
is(kv(GET => "/path/a%2Fb$_"), "400 key contains invalid characters\n",
   "... and checked: $_") for qw(%0A %01 %7F);
is(kv(GET => "/part/a$_"), "400 key contains invalid characters\n",
   "... wherever it is: $_") for qw(%0A %01 %7F);
is(kv(GET => '/part/a%20'), "404 key not found\n", '... unlike a blank');
is(kv(PUT => '/fallback/x?n=1', body => 'x'), '200 ', 'a named location');
is(kv(GET => '/all/page1'), '200 x', '... is that one');
is(kv(PUT => '/if/q?x=1', body => 'x'), '200 ', 'an "if"');
is(kv(GET => '/all/if:q'), '200 x', '... leaves it as it is');
is(kv(GET => '/u/ann?wait=0'), '200 u', 'arguments are as ever');
is(kv(POST => '/u/count?incr=3'), '200 3', 'an increment');
is(kv(DELETE => '/u/count'), '200 ', 'a delete');

$s->http(PUT => '/all/' . encoded($_), body => $_)
    for 'allowed:me', 'sub';
is(kv(GET => '/sub', headers => ['Cookie: who=me']), '200 sub', 'a subrequest');
unlike(kv(GET => '/sub', headers => ["Cookie: who=$_"]), qr/^200|sub/,
       "... with who=$_") for '', 'x';

# a variable may change while the request lasts

is(kv(PUT => '/changes', body => 'x'), '200 ', 'a variable that changes');
is(kv(GET => '/all/second'), '200 x', '... is what it is then');


# a map's regular expression changes what $1 is, and must change no length

for my $x ('y', 'y' x 3000, '') {
    my $r = $s->http(PUT => '/mapped/abc', headers => ["X: $x"], body => 'm');
    cmp_ok($r->{status}, '<', 500, 'a map with ' . length $x);
}

is($s->http(POST => '/few', body => qq({"key":"a","value":"1"}\n) x 3)
   ->{body}, qq({"line":3,"error":"a batch has at most 2 operations and 100 )
             . qq(bytes"}\n), 'prefix= between other parameters');
is($s->http(POST => '/few', body => qq({"key":"a","value":"1"}\n))->{status},
   200, '... a batch');
is(kv(GET => '/all/few:a'), '200 1', '... is behind it');

$s->http(PUT => "/all/$_", body => 'x') for 'const:', 'const:a', 'const';
is(kv(GET => '/const-keys'), "200 a\n", 'a key that is the prefix has no name');
is(kv(GET => '/const-keys?prefix='), "200 a\n", '... whatever is asked for');
is(kv(GET => '/const-keys?after='), "200 a\n", '... whatever is asked for');
is(kv(PUT => '/dot/x', body => 'x'), '200 ', 'a prefix that is no key');
is(kv(GET => '/all/.x'), '200 x', '... but begins one');


# ---- a reload changes it

$s->{version} = 'v2:';
$s->reload;
is($s->http(GET => '/checked/x', headers => ['Tenant: a'])->{status}, 404,
   'another prefix');
$s->http(PUT => '/checked/y', headers => ['Tenant: a'], body => 'x');
is(kv(GET => '/all/v2:a:y'), '200 x', '... is in force');


# ---- what cannot be

sub refuses {
    my ($location, $lines, $why) = @_;
    my $t = KV::Test->new(kv => 'list=on', server =>
                          "location $location { $lines }");
    my ($rc, $out) = $t->test_config;
    isnt($rc, 0, "$location { $lines } is refused");
    like($out, $why, '... and why') or diag($out);
}

my $ONE = qr/it takes one "key=" or one "prefix="/;

refuses('~ ^/x', 'kv main;', qr/elsewhere "key=" must say which key it is/);
refuses('= /x', 'kv main prefix=a:;', qr/"kv" needs a prefix location/);
refuses('~ ^/x', 'kv main prefix=a:;', qr/"kv" needs a prefix location/);
refuses('/x/', 'kv main key=;', qr/"key=" of "kv" is empty/);
refuses('/x/', 'kv main prefix=;', qr/"prefix=" of "kv" is empty/);
refuses('/x/', 'kv main key=a prefix=b;', qr/invalid number of arguments/);
refuses('/x/', 'kv main ttl=5;', qr/"ttl=5" of "kv": it takes key= or prefix=/);
refuses('/x/', 'kv main key=$nothing;', qr/unknown "nothing" variable/);
refuses('/x/', 'kv main key=${;', qr/variable name|unexpected/);
refuses('/x/', "kv main key=a/b;", qr/"key=a\/b" of "kv" makes no key/);
refuses('/x/', "kv main key=a/b;", qr/with "kv_key_chars safe": key contains/);
refuses('/x/', "kv main key=a/b;", qr/ invalid characters, in \S+:\d+/);
refuses('/x/', "kv main key=a/../b; kv_key_chars any;",
        qr/"kv_key_chars any": key has a dot segment/);
refuses('/x/', 'kv main prefix=a/;', qr/"prefix=a\/" of "kv" makes no key/);
refuses('/x/', "kv_key_chars both; kv main;",
        qr/invalid value "both" of "kv_key_chars": it must be "safe" or "any"/);
refuses('/x/', "kv_key_chars any; kv_key_chars any;", qr/duplicate/);
refuses('= /x', 'kv_keys main key=a;',
        qr/"key=a" of "kv_keys": it takes prefix=/);
refuses('= /x', 'kv_bulk main key=a;',
        qr/"key=a" of "kv_bulk": it takes prefix=/);
refuses('= /x', 'kv_batch main key=a;',
        qr/"key=a" of "kv_batch": it takes max_ops=.*prefix=/);
refuses('= /x', 'kv_batch main prefix=a: prefix=b:;', $ONE);
refuses('= /x', "$_ main prefix=a:;",
        qr/"prefix=a:" of "$_": it takes none, as it is about the whole store/)
    for qw(kv_clear kv_health kv_stats);
refuses('= /x', "kv_batch main $_=1 $_=1;",
        qr/"$_=1" of "kv_batch": it takes max_ops=.* each once/)
    for qw(max_ops max_size);
refuses('= /x', 'kv_backup main prefix=a:;', qr/it takes hold=/);

$s->done;
done_testing();
