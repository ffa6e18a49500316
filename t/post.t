# kv_post: a POST with a body stores it like a PUT, and all other POSTs stay
# what they are.

use strict;
use warnings;

use Test::More;

use KV::Pages;
use KV::Test;


sub answer {
    my ($r, $status, $body, $name) = @_;
    is("$r->{status} $r->{body}", "$status $body", $name);
    return $r;
}


my $s = KV::Test->new(
    kv => 'max_value=64k segment=1m ttl=600', http => 'kv_post on;',
    server => 'client_body_buffer_size 32k;
        location /off/ { kv main; kv_post off; }
        location /read/ { kv main; kv_read_only on; }
        location /match/ { kv main; kv_require_match on; }
        location /few/ { kv main; kv_max_value 10; }
        location /mirrored/ { kv main; mirror /kv/copy; }')->start;

for ([ 'a value', body => 'posted' ],
     [ 'of the largest', body => 'x' x 65_536 ],
     [ 'in chunks', chunks => [ ('some ') x 5000 ] ],
     [ 'of a form', body => 'a=1&b=%20',
       headers => [ 'Content-Type: application/x-www-form-urlencoded' ] ])
{
    my ($name, @o) = @$_;
    my $r = answer($s->http(POST => '/kv/p', @o), 200, '', "POST: $name");
    my $value = $o[0] eq 'body' ? $o[1] : join '', @{$o[1]};
    my $got = $s->get('p');
    ok($got->{body} eq $value, 'it is stored');
    is($got->{headers}{etag}, $r->{headers}{etag}, 'and its version told');
    like($got->{headers}{'cache-control'}, qr/max-age=(600|5\d\d)$/,
         'it expires as ttl= says');
}

my $tag = $s->get('p')->{headers}{etag};

for ([ 400, "value cannot be empty\n", '/kv/p' ],
     [ 400, "value cannot be empty\n", '/kv/p', body => '' ],
     [ 400, "value cannot be empty\n", '/kv/p', chunks => [ ] ],
     [ 413, "value too large\n", '/kv/p', body => 'x' x 65_537 ],
     [ 413, "value too large\n", '/few/p', chunks => [ 'x' x 11 ] ],
     [ 405, "method not allowed\n", '/read/p', body => 'x' ],
     [ 405, "method not allowed\n", '/off/p', body => 'x' ],
     [ 412, "precondition failed\n", '/kv/p', body => 'x',
       headers => [ 'If-None-Match: *' ] ],
     [ 412, "precondition failed\n", '/kv/none', body => 'x',
       headers => [ 'If-Match: *' ] ],
     [ 400, "partial values are not supported\n", '/kv/p', body => 'x',
       headers => [ 'Content-Range: bytes 1-1/3' ] ],
     [ 428, "precondition required: send If-Match or If-None-Match\n",
       '/match/p', body => 'x' ],
     [ 400, "invalid ttl\n", '/kv/p?ttl=', body => 'x' ],
     [ 400, "invalid increment\n", '/kv/p?incr=x', body => 'x' ],
     [ 200, '', '/kv/p?ttl=60', body => 'no value' ])
{
    my ($status, $body, $path, @o) = @$_;
    my $name = "POST $path, $status";
    my $r = answer($s->http(POST => $path, @o), $status, $body, $name);
    is($r->{headers}{allow}, $path =~ /read/ ? 'GET, HEAD'
                             : $path =~ /off/ ? 'GET, HEAD, PUT, DELETE'
                             : undef, 'what is allowed');
}
is($s->get('p')->{headers}{etag}, $tag, 'nothing of that is stored');

answer($s->http(POST => '/kv/n?incr=5', body => '7'), 200, '5',
       'an increment is one');
answer($s->http(POST => '/kv/p', body => 'if', headers => [ "If-Match: $tag" ]),
       200, '', 'a condition');
answer($s->http(POST => '/mirrored/m', body => 'x' x 20_000), 200, '',
       'a mirrored one');
ok(wait_for(sub { $s->get('copy')->{body} eq 'x' x 20_000 }, 10),
   'stored twice');

ok(wait_for(sub { $s->stats->{routes}{kv}{POST}{status}{200} == 8 }, 20),
   'they count as POST');
is($s->stats->{routes}{kv}{PUT}, undef, 'and not as PUT');

$s->{http} = '';
ok($s->reload, 'a reload without');
answer($s->http(POST => '/kv/p', body => 'x'), 405, "method not allowed\n",
       'a POST is no PUT any more');
$s->stop('KILL');
$s->start;
answer($s->get('p'), 200, 'if', 'what was posted is durable');
$s->done;


# ---- the example

{
    my $s = with_location(page_block('src/http/contents.md', 'nginx',
                                     'kv_post on'))->start;
    answer($s->http(POST => '/reports/r', body => '{"a":1}',
                    headers => [ 'Content-Type: text/plain;charset=UTF-8',
                                 'Sec-Fetch-Mode: no-cors' ]),
           200, '', 'example: a beacon');
    answer($s->http(GET => '/reports/r'), 200, '{"a":1}', 'example: read');
    $s->http(POST => '/reports/n', body => '1');
    is($s->http(POST => "/reports/n?$_")->{status}, 403,
       "example: no $_") for 'incr=1', 'ttl=1';
    answer($s->http(POST => '/reports/r', body => 'x' x 16_385), 413,
           "value too large\n", 'example: not too large');
    $s->{text} =~ s/allow 127.0.0.1;/allow 192.0.2.1;/ or fail('no rule');
    ok($s->reload, 'example: for others');
    answer($s->http(POST => '/reports/r', body => '2'), 200, '',
           'example: all may post');
    is($s->http(GET => '/reports/r')->{status}, 403, 'example: and not read');
    $s->done;
}

done_testing();
