# The variables for the log: what a request did to the store, of each route; of
# others, nothing; and that no line is ever more than one.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep time);

use KV::Test;

my $auth = qx(@{[ KV::Test::nginx() ]} -V 2>&1) =~ /http_auth_request_module/;
my $s = KV::Test->new(auth => $auth ? 'auth_request /shown/a;' : '',
                      asides => $auth ? 'auth_request /aside/none;' : '',
                      fault => 1, kv => 'list=on max_value=64k',
                      http => <<'END',
    log_format done '$http_number|'
                    '$status|$kv_key|$kv_result|$kv_version|$kv_wait_time';
    log_format none escape=none '$request_method $kv_key,$kv_result,'
                                '$kv_version,$kv_wait_time';
    merge_slashes off;
    access_log %%dir%%/done.log done;
END
                      server => <<'END',
    access_log %%dir%%/done.log done;
    access_log %%dir%%/none.log none;
    location = /keys { kv_keys main; }
    location = /plain { return 204; }
    location /any/ { kv_key_chars any; kv main; }
    location /shown/ {
        kv main;
        add_header Shown "$kv_key $kv_result $kv_version" always;
    }
    location /aside/ {
        kv main;
        kv_intercept_errors on;
        error_page 404 = @origin;
        error_page 412 = /plain;
    }
    location @origin { return 200 origin; }
    location /auth/ { %%auth%% try_files /none =404; }
    location /asides/ { %%asides%% try_files /none @origin; }
    location /early/ {
        set $early "$kv_key$kv_result$kv_version$kv_wait_time";
        kv main;
    }
    location /denied/ { deny all; kv main; }
END
                      );
$s->start;


# A line is written after its answer was sent, so lines of others may come
# late: a request has a number by which its own is known.

my $number = 0;

sub logged_of {
    my ($known) = @_;
    return wait_for(sub {
        my $lines = eval { read_file("$s->{dir}/done.log") } // '';
        return $lines =~ /^$known(.*)\n/m && $1;
    }, 10) // 'no line';
}

# A request, and what is logged of it; "T" for a time.

sub request {
    my ($method, $path, %o) = @_;
    my $headers = [ @{$o{headers} || []}, 'Number: ' . ++$number ];
    my $r = $s->http($method, $path, %o, headers => $headers);
    return ($r, logged_of("$number\\|") =~ s/\|\d+\.\d{3}$/|T/r);
}

sub tag { ($_[0]{headers}{etag} // '""') =~ /^"(.*)"$/ ? $1 : 'weak' }

my $version;

for (
    # the request; what is logged, V: the answer's ETag, or that before

    [ 'GET', '/kv/a', {}, '404|a|miss|-|-' ],
    [ 'HEAD', '/kv/a', {}, '404|a|miss|-|-' ],
    [ 'PUT', '/kv/a', { body => 'x' }, '200|a|stored|V|T' ],
    [ 'GET', '/kv/a', {}, '200|a|hit|V|-' ],
    [ 'HEAD', '/kv/a', {}, '200|a|hit|V|-' ],
    [ 'GET', '/kv/a', { headers => [ 'If-None-Match: *' ] },
      '304|a|hit|V|-' ],
    [ 'GET', '/kv/a', { headers => [ 'If-Match: "1-1"' ] },
      '412|a|refused|V|-' ],
    [ 'GET', '/kv/a', { headers => [ 'Range: bytes=0-0' ] },
      '206|a|hit|V|-' ],
    [ 'GET', '/kv/a', { headers => [ 'Range: bytes=7-' ] },
      '416|a|refused|V|-' ],
    [ 'PUT', '/kv/a', { body => 'y', headers => [ 'If-None-Match: *' ] },
      '412|a|refused|V|-' ],
    [ 'PUT', '/kv/a', { body => '' }, '400|a|refused|-|-' ],
    [ 'PUT', '/kv/a', { body => 'x' x 100_000 }, '413|a|refused|-|-' ],
    [ 'POST', '/kv/a?incr=1', {}, '409|a|refused|V|T' ],
    [ 'POST', '/kv/n?incr=1', {}, '200|n|stored|V|T' ],
    [ 'POST', '/kv/n?ttl=600', {}, '200|n|stored|V|T' ],
    [ 'POST', '/kv/none?ttl=600', {}, '404|none|miss|-|T' ],
    [ 'POST', '/kv/n', {}, '405|n|refused|-|-' ],
    [ 'DELETE', '/kv/n', {}, '200|n|deleted|-|T' ],
    [ 'DELETE', '/kv/n', {}, '200|n|deleted|-|T' ],
    [ 'DELETE', '/kv/n', { headers => [ 'Prefer: return=representation' ] },
      '404|n|miss|-|T' ],
    [ 'DELETE', '/kv/a', { headers => [ 'Prefer: return=representation' ] },
      '200|a|deleted|V|T' ],

    # what is no key

    [ 'GET', '/kv/', {}, '400|-|refused|-|-' ],
    [ 'GET', '/kv/a%0ab', {}, '400|-|refused|-|-' ],
    [ 'PUT', '/any/a%0d%0ab', { body => 'x' }, '400|-|refused|-|-' ],
    [ 'PUT', '/any/"a%20\\%ff"', { body => 'x' },
      '200|\\x22a \\x5C\\xFF\\x22|stored|V|T' ],

    # other routes

    [ 'POST', '/batch', { body => qq({"key":"b","value":"1"}\n) },
      '200|-|stored|V|T' ],
    [ 'POST', '/batch', { body => qq({"key":"b","value":"1",)
                                  . qq("if_none_match":"*"}\n) },
      '412|-|refused|-|T' ],
    [ 'POST', '/bulk', { body => qq({"key":"c","value":"1"}\n) x 200 },
      '200|-|stored|-|T' ],
    [ 'POST', '/bulk', { body => "x\n" }, '400|-|refused|-|-' ],
    [ 'GET', '/keys', {}, '200|-|hit|V|-' ],
    [ 'DELETE', '/keys?prefix=b', {}, '200|-|deleted|V|T' ],
    [ 'DELETE', '/keys?prefix=b', {}, '200|-|deleted|-|-' ],
    [ 'DELETE', '/clear', {}, '200|-|deleted|-|T' ],
    [ 'DELETE', '/clear', { headers => [ 'If-Match: *' ] },
      '501|-|refused|-|-' ],
    [ 'GET', '/health', {}, '200|-|-|-|-' ],
    [ 'GET', '/stats', {}, '200|-|-|-|-' ],
    [ 'GET', '/metrics', {}, '200|-|-|-|-' ],
    [ 'HEAD', '/backup', {}, '200|-|-|-|-' ],

    # elsewhere, and before the module

    [ 'GET', '/plain', {}, '204|-|-|-|-' ],
    [ 'GET', '/nowhere', {}, '404|-|-|-|-' ],
    [ 'GET', '/denied/a', {}, '403|-|-|-|-' ],
    [ 'GET', '/auth/', {}, ($auth ? 500 : 404) . '|-|-|-|-' ],

    # what error_page answers in its place

    [ 'GET', '/aside/a', {}, '200|a|miss|-|-' ],
    [ 'DELETE', '/aside/a', { headers => [ 'If-Match: *' ] },
      '204|a|refused|-|-' ],
) {
    my ($method, $path, $o, $expected) = @$_;
    my ($r, $line) = request($method, $path, %$o);
    my ($json) = $r->{body} =~ /^\{"version":"([0-9a-f-]+)"/;
    my $its = $r->{headers}{'kv-version'} // $json;

    $its //= tag($r) if $r->{headers}{etag};
    $version = $its // $version;
    $expected =~ s/\|V\|/|$version|/;
    is($line, $expected, "$method $path");
}


# in other places than the log, and of a subrequest

{
    $s->put('a', 'x');
    my ($r, $line) = request(GET => '/shown/a');
    is($r->{headers}{shown}, 'a hit ' . tag($r), 'in a header');
    ($r, $line) = request(GET => '/shown/b');
    is($r->{headers}{shown}, 'b miss', 'of an error, too');
    ($r, $line) = request(PUT => '/shown/b', body => 'x');
    is($r->{headers}{shown}, 'b stored ' . tag($r), 'of a write');
    ($r, $line) = request(GET => '/auth/');
    is($line, '404|-|-|-|-', 'a request has nothing of its subrequest');
    ($r, $line) = request(GET => '/asides/');
    is($line, '200|-|-|-|-', 'nor of what error_page answered there');
    ($r, $line) = request(PUT => '/early/a', body => 'x');
    is($line, '200|a|stored|' . tag($r) . '|T', 'who asked too early');
}


# how long a write has waited for its commit

{
    $s->written(PUT => '/kv/w1', body => 'x')->response('PUT');
    like(logged_of('-\|200\|w1\|'), qr/^stored\|\S+\|\d+\.\d{3}$/, 'some time');

    $s->fault(hold => 1);
    my $begun = time;
    my $c = $s->written(PUT => '/kv/w2', body => 'x');
    sleep(1.1);
    $s->fault(hold => undef);
    $c->response('PUT');
    my $took = time - $begun;
    my ($time) = logged_of('-\|200\|w2\|') =~ /^stored\|\S+\|(\d+\.\d{3})$/;
    cmp_ok($time // 0, '>=', 1.1, 'all of the time in which a sync hung');
    cmp_ok($time // 0, '<=', $took, 'and no more');
}

# a client that leaves

{
    my $c = $s->connect;
    $c->send("PUT /kv/w3 HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf");
    $s->has_read;
    $c->close;
    is(logged_of('-\|400\|w3\|'), 'refused|-|-', 'an upload that breaks off');

    $c = $s->connect;
    $c->send("GET /kv/w4?wait=60 HTTP/1.1\r\nHost: x\r\n\r\n");
    $s->has_read;
    $c->close;
    is(logged_of('-\|499\|w4\|'), 'failed|-|-', 'who waits no longer');
}

# a write that the store cannot do

{
    $s->fault(write => 28);
    my ($r, $line) = request(PUT => '/kv/w5', body => 'x');
    is($line, '507|w5|failed|-|T', 'a full disk');
    $s->fault(write => undef);
}


# the page's format, in its own server

{
    my ($format) = read_file('src/http/variables.md')
                   =~ /^## For the log\n.*?^```nginx\n(.*?)^```\n/ms
        or BAIL_OUT('there is no format');
    $format =~ s{/var/log/nginx}{%%dir%%} or BAIL_OUT('where does it go?');

    # all servers of a test have "access_log off"

    my ($http, $server) = $format =~ /^(.*?)^(access_log .*)/ms;
    my $own = KV::Test->new(http => $http, server => $server);
    $own->start;
    $own->put('a', 'x');
    $own->get('b');

    for (qr/PUT "a" 200 stored [0-9a-f]+-[0-9a-f]+ \d+\.\d{3} \d+\.\d{3}/,
         qr/GET "b" 404 miss - \d+\.\d{3} -/)
    {
        my $line = $_;
        ok(wait_for(sub {
            read_file("$own->{dir}/kv.log") =~ /^127\.0\.0\.1 $line$/m
        }, 10), "the page's format: $line");
    }
    $own->done;
}


# whatever is sent, a line is one

my $lines = read_file("$s->{dir}/none.log");
is(join('', grep { !/^[A-Z]+ [^,\n]*,[a-z]*,[0-9a-f-]*,[0-9.]*$/ }
            split /^/, $lines), '', 'no line is broken');
like($lines, qr/^PUT "a \\\xff",stored,/m, 'also where nothing is escaped');

$s->done;
done_testing();
