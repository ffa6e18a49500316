# kv_intercept_errors: which errors are left to error_page, what it leads to
# then, and the examples of the page.

use strict;
use warnings;

use POSIX ();
use Test::More;

use KV::Frames;
use KV::Pages;
use KV::Test;

my $PAGE = 'src/http/contents.md';


sub answer {
    my ($r, $status, $body, $name) = @_;
    is("$r->{status} $r->{body}", "$status $body", $name);
    return $r;
}


# What stands behind @origin says what it was asked for.

my $s = KV::Test->new(
    origin => KV::Util::free_port(), kv => 'max_value=64k segment=1m list=on',
    http => 'error_page 404 405 413 428 503 = @origin;
             error_page 400 412 /why; error_page 409 =410 /why;',
    server => 'kv_intercept_errors on;
        location @origin { proxy_pass http://127.0.0.1:%%origin%%; }
        location = /why { return 200 "why: $request_method $uri"; }
        location /plain/ { kv main; kv_intercept_errors off; }
        location /none/ { kv main; error_page 500 /why; }
        location /led/ { error_page 418 =200 /plain/a; return 418; }
        location /self/ { kv main; error_page 404 = /self/there; }
        location /loop/ { kv main; error_page 404 = /loop/never; }
        location /again/ { kv main; recursive_error_pages on;
                           error_page 404 = /again/never; }
        location @file { root %%dir%%; try_files /tmp/page =404; }
        location /file/ { kv main; error_page 404 = @file; }
        location /said/ { kv main; error_page 412 = @said; }
        location @said { return 200 "said"; }
        location /away/ { kv main; error_page 404 = https://a.example/; }
        location /read/ { kv main; kv_read_only on; }
        location /large/ { kv main; kv_read_only on; client_max_body_size 2m; }
        location /any/ { kv main; kv_read_only on; client_max_body_size 0; }
        location /match/ { kv main; kv_require_match on; }
        location /ssi/ { ssi on; ssi_types *; kv main; }
        location /mirrored/ { kv main; mirror /kv/shadow; }
        location = /keys { kv_keys main; }',
    servers => 'server {
        listen 127.0.0.1:%%origin%%;
        client_max_body_size 0;
        location / { return 200 "origin: $request_method $uri"; }
    }')->start;
write_file("$s->{dir}/tmp/page", 'a page');


# ---- which are left to it

$s->put('there', 'value');
my $tag = $s->get('there')->{headers}{etag};

for ([ 200, 'origin: GET /kv/a', GET => '/kv/a' ],
     [ 200, 'origin: GET /kv/a', GET => '/kv/a', headers =>
       [ 'If-None-Match: "1-1"', 'Range: bytes=0-1' ] ],
     [ 200, 'origin: GET /kv/a', GET => '/kv/a?wait=1' ],
     [ 200, 'origin: POST /kv/a', POST => '/kv/a?ttl=1' ],
     [ 200, 'origin: DELETE /kv/a', DELETE => '/kv/a',
       headers => [ 'Prefer: return=representation' ] ],
     [ 200, 'origin: OPTIONS /kv/a', OPTIONS => '/kv/a' ],
     [ 200, 'origin: PUT /read/a', PUT => '/read/a', body => 'x' x 30_000 ],
     [ 200, 'origin: PUT /read/a', PUT => '/read/a', chunks => [ 'xyz' ] ],
     [ 200, 'origin: PUT /read/a', PUT => '/read/a', body => 'x' x 1_048_576 ],
     [ 200, 'origin: PUT /large/a', PUT => '/large/a',
       body => 'x' x 1_048_577 ],
     [ 200, 'origin: PUT /any/a', PUT => '/any/a', body => 'x' x 3_000_000 ],
     [ 200, 'origin: PUT /match/a', PUT => '/match/a', body => 'xyz' ],
     [ 200, 'origin: DELETE /match/a', DELETE => '/match/a' ],
     [ 412, 'why: GET /why', PUT => '/kv/there', body => 'xyz',
       headers => [ 'If-None-Match: *' ] ],
     [ 412, 'why: GET /why', GET => '/kv/there',
       headers => [ 'If-Match: "1-1"' ] ],
     [ 200, 'origin: PUT /kv/a', PUT => '/kv/a', body => 'x' x 65_537 ],
     [ 400, 'why: GET /why', PUT => '/kv/a+b', body => 'xyz' ],
     [ 400, 'why: GET /why', GET => '/kv/a?wait=x' ],
     [ 400, 'why: GET /why', DELETE => '/keys' ],
     [ 400, 'why: GET /why', GET => '/keys?x=1' ],
     [ 410, 'why: GET /why', POST => '/kv/there?incr=1' ],
     [ 200, 'value', GET => '/self/a' ],
     [ 304, '', GET => '/file/a',
       headers => [ 'If-None-Match: *' ] ],
     [ 404, "key not found\n", GET => '/loop/a' ],
     [ 302, undef, GET => '/away/a' ],
     [ 200, 'said', DELETE => '/said/a', headers => [ 'If-Match: "1-1"' ] ])
{
    my ($status, $body, $method, $path, @o) = @$_;
    my $r = $s->http($method, $path, @o);
    $r->{body} = $body = '' if !defined $body;
    answer($r, $status, $body, "left to it: $method $path");
    is_deeply([ @{$r->{headers}}{qw(allow retry-after)} ], [ undef, undef ],
              'with no header of ours');
    is($r->{headers}{etag}, $path =~ /self/ ? $tag : undef, 'nor a version')
        if $path !~ /file/;
}

like($s->http(GET => '/again/a')->{body}, qr/<html>.*500/s,
     'a loop of them ends, as nginx has it');
is($s->http(HEAD => '/kv/a')->{status}, 200, 'left to it: HEAD');


# ---- which are not

for ([ 404, "key not found\n", GET => '/plain/a' ],
     [ 404, "key not found\n", GET => '/none/a' ],
     [ 200, 'value', GET => '/kv/there' ],
     [ 405, "method not allowed\n", DELETE => '/health' ],
     [ 416, "range not satisfiable\n", GET => '/kv/there',
       headers => [ 'Range: bytes=100-' ] ],
     [ 304, '', GET => '/kv/there', headers => [ "If-None-Match: $tag" ] ],
     [ 404, "key not found\n", GET => '/kv/a', body => 'a body' ],
     [ 404, "key not found\n", GET => '/kv/a', chunks => [ 'a body' ] ],
     [ 404, "key not found\n", POST => '/kv/a?ttl=1', chunks => [ 'a body' ] ],
     [ 404, "key not found\n", GET => '/kv/a', body => 'x' x 200_000 ],
     [ 413, "value too large\n", PUT => '/kv/a', chunks => [ 'x' x 65_537 ] ],
     [ 405, "method not allowed\n", PUT => '/read/a', body => 'x' x 1_048_577 ],
     [ 405, "method not allowed\n", PUT => '/large/a',
       body => 'x' x 3_000_000 ],
     [ 400, "value cannot be empty\n", PUT => '/kv/a', chunks => [ ] ],
     [ 400, "invalid request body\n", PUT => '/kv/a',
       headers => [ 'Transfer-Encoding: chunked', '', 'Z' ] ],
     [ 400, "invalid request body\n", POST => '/batch',
       headers => [ 'Transfer-Encoding: chunked', '', 'Z' ] ],
     [ 404, "key not found\n", GET => '/led/a' ])
{
    my ($status, $body, $method, $path, @o) = @$_;
    answer($s->http($method, $path, @o), $status, $body,
           "not left to it: $method $path");
}


# the connection goes on behind each, with what was sent next

{
    my $c = $s->connect;

    for (1 .. 3) {
        for ([ GET => '/kv/a' ], [ GET => '/kv/a', body => 'a body' ],
             [ GET => '/kv/a', chunks => [ 'a body' ] ],
             [ PUT => '/read/a', body => 'x' x 3000 ],
             [ PUT => '/read/a', chunks => [ 'x' x 3000 ] ])
        {
            $c->send(KV::Conn::request(@$_)
                     . KV::Conn::request(GET => '/kv/there'));
            my $r = $c->response;
            answer($c->response, 200, 'value', "behind $r->{status} to a "
                                               . join ' ', @$_[0 .. $#$_ - 1]);
        }
    }
}


# ---- subrequests, bodies that others read, and what is counted

$s->put('page', '[<!--# include virtual="/kv/none" -->]');
answer($s->http(GET => '/ssi/page'), 200, '[origin: GET /kv/none]',
       'what a page includes');
answer($s->http(PUT => '/mirrored/a+b', body => 'x'), 400, 'why: GET /why',
       'a mirrored one');

{
    my $count = sub { $s->stats->{routes}{kv}{GET}{status}{404} // 0 };
    my $before = $count->();
    $s->http(GET => '/kv/a') for 1 .. 3;
    $s->http(GET => '/plain/a') for 1 .. 2;
    ok(wait_for(sub { $count->() >= $before + 5 }, 20), 'they are counted');
    is($count->() - $before, 5, 'once each');
}


# ---- a reload

$s->{server} =~ s/kv_intercept_errors on;//;
ok($s->reload, 'a reload without it');
answer($s->http(GET => '/kv/a'), 404, "key not found\n", 'errors are ours');
$s->done;


# ---- at exit nobody takes it over any more

{
    my $s = KV::Test->new(fault => 1, location => 'kv_intercept_errors on;
                          error_page 404 = @gone;',
                          server => 'location @gone { return 200 gone; }')
        ->start;
    is($s->get('none')->{body}, 'gone', 'an error page');
    $s->put('first', 'x');

    $s->fault(hold => 1);
    my @c = $s->written(PUT => '/kv/a', body => 'x');
    push @c, $s->connect;
    $c[1]->send(KV::Conn::request(POST => '/kv/none?ttl=1'));
    $s->has_read;
    kill('TERM', -$s->{pgid});
    wait_for(sub { 2 <= (() = $s->log =~ /: exiting$/mg) }, 20);
    $s->fault(hold => undef);
    answer($c[0]->response, 200, '', 'at exit: a write');
    answer($c[1]->response, 404, "key not found\n", 'at exit: an error');
    is($s->wait_exit, 0, 'at exit: in order');
    $s->done;
}


# ---- nginx -t

for ([ 'kv_intercept_errors 1;', 'it must be "on" or "off"' ],
     [ 'if ($arg_a) { kv_intercept_errors on; }', 'is not allowed here' ])
{
    my ($location, $says) = @$_;
    my ($status, $said) = KV::Test->new(location => $location)->test_config;
    ok($status == 1 && $said =~ /\Q$says\E/, $location) or diag($said);
}


# ---- the examples

{
    my $app = KV::Util::free_port();
    my $text = page_block($PAGE, 'nginx', '@application')
               =~ s/127\.0\.0\.1:8081/127.0.0.1:$app/r;
    my $s = with_location($text)->start;
    my $program = page_block($PAGE, 'perl', 'LocalAddr')
                  =~ s/127\.0\.0\.1:8081/127.0.0.1:$app/r
                  =~ s/127\.0\.0\.1:8080/127.0.0.1:$s->{port}/r;
    write_file("$s->{dir}/app.pl", $program);
    my $pid = fork // die "fork: $!";
    if ($pid == 0) {
        exec($^X, "$s->{dir}/app.pl") or POSIX::_exit(127);
    }

    wait_for(sub { $s->get('k')->{status} == 200 }, 30);
    my $computed = qr/^computed for k at /;
    like($s->get('k')->{body}, $computed, 'cache: filled');
    is($s->http(GET => '/store/k')->{body}, $s->get('k')->{body},
       'cache: it is stored');
    my ($left) = $s->get('k')->{headers}{'cache-control'} =~ /max-age=(\d+)/;
    ok($left > 20 && $left <= 60, 'cache: for a minute');

    $s->http(PUT => '/store/k', body => 'anew');
    is($s->get('k')->{body}, 'anew', 'cache: written anew');
    is($s->http(PUT => '/store/k', body => 'computed before', headers =>
                [ 'If-None-Match: *' ])->{status}, 412,
       'cache: which no old answer overwrites');
    $s->http(DELETE => '/store/k');
    like($s->get('k')->{body}, $computed, 'cache: and deleted');
    is($s->put('k', 'x')->{status}, 405, 'cache: readers only read');

    kill('TERM', $pid);
    waitpid($pid, 0);
    like($s->get('k')->{body}, $computed, 'cache: without the application');
    is($s->get('other')->{status}, 502, 'cache: what is not there');
    $s->done;

    my $first = KV::Test->new->start;
    $text = page_block($PAGE, 'nginx', '@first')
            =~ s/kv1\.example:8080/127.0.0.1:$first->{port}/r;
    $s = with_location($text)->start;
    answer($s->put('w', 'x' x 100_000), 200, '', 'two servers: a PUT');
    is(length $first->get('w')->{body}, 100_000, 'two servers: of the first');
    answer($s->get('w'), 404, "key not found\n", 'two servers: a GET');
    $_->done for $s, $first;
}


# ---- HTTP/2

SKIP: {
    skip('this nginx does not speak HTTP/2', 3)
        if qx(@{[ KV::Test::nginx() ]} -V 2>&1) !~ /http_v2_module/;

    my $s = KV::Test->new(h2 => KV::Util::free_port(), servers => 'server {
        listen 127.0.0.1:%%h2%% http2;
        kv_intercept_errors on;
        error_page 404 405 = @status;
        location @status { return 299; }
        location /kv/ { kv main; }
        location /read/ { kv main; kv_read_only on; }
    }')->start;

    for ([ 299, GET => '/kv/a', '' ], [ 404, GET => '/kv/a', 'a body' ],
         [ 299, PUT => '/read/a', 'x' x 10_000 ])
    {
        my ($status, @request) = @$_;
        is(KV::Frames::ask($s->{h2}, @request), $status,
           "HTTP/2: @request[0, 1], $status");
    }
    $s->done;
}

done_testing();
