# POST /batch: its lines are done all or not at all, which one was why, in which
# shapes a batch comes, and what is there when something ends in the middle.

use strict;
use warnings;

use JSON::PP ();
use MIME::Base64 qw(encode_base64);
use Test::More;

use KV::Test;

my $s = KV::Test->new(zone => '64m', fault => 1, kv => 'max_value=1m list=on',
                      http => 'kv_zone zone=short:4m path=%%dir%%/short ttl=60s
                                   segment=1m max_value=64k;
                               kv_zone zone=tiny:4m path=%%dir%%/tiny
                                   segment=64k max_value=16k;',
                      server => 'location /short/ { kv short; }
                          location = /keys { kv_keys main; }
                          location = /small { kv_batch main max_ops=3
                                                       max_size=200; }
                          location = /short-batch { kv_batch short; }
                          location = /tiny-batch { kv_batch tiny; }
                          location = /mirrored { kv_batch main;
                                                 mirror /mirror; }
                          location = /mirror { internal; return 204; }');
$s->start;


sub line { return JSON::PP->new->utf8->canonical->encode({@_}) . "\n" }

sub batch {
    my ($body, %o) = @_;
    return $s->http(POST => $o{path} || '/batch', body => $body, timeout => 60,
                    %o);
}

sub json { return eval { JSON::PP::decode_json($_[0]{body}) } || $_[0]{body} }

# The results of a batch that is done; its version in front.

sub done {
    my ($r, $n, $name) = @_;
    my $json = json($r);
    my ($version, @results) = ref $json ? ($json->{version},
                                           @{$json->{results} || []}) : ();
    ok($r->{status} == 200 && @results == $n
       && $r->{headers}{'content-type'} eq 'application/json'
       && $version =~ /^[0-9a-f]+-[0-9a-f]+$/, $name)
        or diag("$r->{status} $r->{body}");
    return ($version, @results);
}

# A batch of which nothing is done; `error` may be longer.

sub refused {
    my ($r, $status, $line, $error, $name) = @_;
    my $json = json($r);
    ok($r->{status} == $status && ref $json
       && ($json->{line} // 0) == $line && $json->{error} eq $error
       && $r->{headers}{'content-type'} eq 'application/json',
       $name // "$error: line $line")
        or diag("$r->{status} $r->{body}");
    return $json;
}

sub version { return $s->get($_[0])->{headers}{etag} =~ s/"//gr }
sub is_value { is($s->get($_[0])->{body}, $_[1], $_[2]) }
sub is_none { is($s->get($_[0])->{status}, 404, $_[1]) }

# How many of these keys are there.

sub present {
    my @keys = @_;
    my ($c, $found) = ($s->connect, 0);
    while (my @some = splice @keys, 0, 100) {
        $c->send(join '', map { KV::Conn::request(HEAD => "/kv/$_") } @some);
        $found += grep { $c->response('HEAD')->{status} == 200 } @some;
    }
    return $found;
}


# ---- what the lines do

{
    my ($version, @r) = done(batch(
        line(key => 'a', value => 'one') . line(key => 'b', base64 => 'AP8K')
        . line(op => 'incr', key => 'n', by => 5)
        . line(op => 'delete', key => 'nothing')
        . line(op => 'incr', key => 'n', by => -7)
        . line(op => 'touch', key => 'a', ttl => 1000)
        . line(key => 'c', value => 'x', ttl => 2000)
        . line(op => 'incr', key => 'm', by => 1, ttl => 3000)), 8, 'a batch');

    is_value('a', 'one', 'text');
    is_value('b', "\0\xff\n", 'base64');
    is_value('n', '-2', 'two increments');
    is(version($_->[0]), $r[$_->[1]]{version}, "the version of $_->[0]")
        for ['a', 0], ['b', 1], ['n', 4], ['a', 5], ['c', 6], ['m', 7];
    is(version('m'), $version, 'the last is that of the batch');
    is_deeply([ map { $_->{value} } @r[2, 4, 7] ], [5, -2, 1], 'the sums');
    is_deeply($r[3], {}, 'of a delete there is nothing to say');

    my %age = map { $_ => $s->get($_)->{headers}{'cache-control'} } qw(a c m);
    like($age{a}, qr/max-age=(?:1000|99\d)/, 'a touch');
    like($age{c}, qr/max-age=(?:2000|199\d)/, 'a put that expires');
    like($age{m}, qr/max-age=(?:3000|299\d)/, 'a new counter that expires');
}

{
    my (undef, @r) = done(batch(
        line(op => 'delete', key => 'a', if_match => version('a'))
        . line(key => 'a', value => 'two', if_none_match => '*')
        . line(key => 'b', value => 'two', if_match => '*')
        . line(key => 'n', value => 'x', if_match => qq("@{[version('n')]}"))
        . line(key => 'n', value => 'y', if_none_match => version('n'))
        . line(op => 'touch', key => 'c', ttl => 0, if_match => version('c'))
        . line(op => 'incr', key => 'new', by => 1, if_none_match => '1-1')),
        7, 'conditions that are true');

    is_value('a', 'two', 'a put after a delete');
    is_value('n', 'y', 'another version by the batch itself');
    is($s->get('c')->{headers}{'cache-control'}, 'no-cache',
       'it does not expire any more');
    is($s->http(GET => '/keys')->{body}, "a\nb\nc\nm\nn\nnew\n", 'the list');
}

done(batch("\xef\xbb\xbf\r\n" . line(key => 'd', value => 'd') =~ s/\n/\r\n/r
           . " \n" . '{"key":"e","value":"e"}'), 2,
     'a mark of UTF-8, CRLF, empty lines, no newline at the end');
done(batch(line(key => 'short', value => 'x'), path => '/short-batch'), 1,
     'ttl= of a zone');
like($s->http(GET => '/short/short')->{headers}{'cache-control'},
     qr/max-age=\d+/, 'is that of its lines');
done(batch(line(key => 'e', value => 'e', expires => 10)), 1, 'long expired');
is_none('e', 'is deleted');

{
    my $body = join '', map { line(key => "k$_", value => "v$_") } 1 .. 1024;
    my (undef, @r) = done(batch($body), 1024, 'the most operations');
    is(present(map { "k$_" } 1 .. 1024), 1024, 'all are there');
    is(version("k$_"), $r[$_ - 1]{version}, "version $_") for 1, 500, 1024;
    done(batch(join '', map { line(op => 'delete', key => "k$_") } 1 .. 1024),
         1024, 'as many deletes');
    is(present(map { "k$_" } 1 .. 1024), 0, 'none is there');

    my $large = 'x' x 1_000_000;
    done(batch(join '', map { line(key => "l$_", value => $large) } 1 .. 4),
         4, 'large values');
    is_value("l$_", $large, "large value $_") for 1 .. 4;
    done(batch(join '', map { line(op => 'delete', key => "l$_") } 1 .. 4), 4,
         'they go');
}


# ---- what is refused

my $good = line(key => 'good', value => 'good');
my $keys = $s->http(GET => '/keys')->{body};

{
    $s->put('text', 'a text');
    $s->put('most', '9223372036854775807');
    my $text = version('text');

    for ([ 412, 'precondition failed',
           line(key => 'text', value => 'x', if_none_match => '*') ],
         [ 412, 'precondition failed',
           line(key => 'text', value => 'x', if_none_match => $text) ],
         [ 412, 'precondition failed',
           line(op => 'delete', key => 'none', if_match => '*') ],
         [ 412, 'precondition failed',
           line(key => 'text', value => 'x', if_match => '1-1') ],
         [ 412, 'precondition failed',
           line(key => 'none', value => 'x', if_match => $text) ],
         [ 412, 'precondition failed',
           line(key => 'good', value => 'x', if_none_match => '*') ],
         [ 409, 'value is not an integer',
           line(op => 'incr', key => 'text', by => 1) ],
         [ 409, 'value is not an integer',
           line(op => 'incr', key => 'good', by => 1) ],
         [ 409, 'integer overflow', line(op => 'incr', key => 'most',
                                         by => 1) ],
         [ 409, 'key not found', line(op => 'touch', key => 'none',
                                      ttl => 1) ],
         [ 400, 'invalid JSON at byte 1', "x\n" ],
         [ 400, 'op is not put, delete, incr or touch',
           line(op => 'get', key => 'a') ],
         [ 400, 'by is missing', line(op => 'incr', key => 'a') ],
         [ 400, 'invalid increment', line(op => 'incr', key => 'a',
                                          by => '1') ],
         [ 400, 'a number is out of range',
           qq({"op":"incr","key":"a","by":9223372036854775808}\n) ],
         [ 400, 'an incr takes no value',
           line(op => 'incr', key => 'a', by => 1, value => 'x') ],
         [ 400, 'a put takes no by', line(key => 'a', value => 'x', by => 1) ],
         [ 400, 'ttl is missing', line(op => 'touch', key => 'a') ],
         [ 400, 'invalid ttl', line(key => 'a', value => 'x', ttl => 0) ],
         [ 400, 'if_match is no * or version',
           line(key => 'a', value => 'x', if_match => 'abc') ],
         [ 400, 'if_none_match is no * or version',
           line(key => 'a', value => 'x', if_none_match => '1-2-3') ],
         [ 400, 'if_match and if_none_match exclude each other',
           line(key => 'a', value => 'x', if_match => '*',
                if_none_match => '*') ],
         [ 400, 'key contains invalid characters',
           line(key => 'a/b', value => 'x') ],
         [ 413, 'value too large', line(key => 'a', value => 'x' x 1048577) ])
    {
        my ($status, $error, $line) = @$_;
        my $said = substr $line, 0, 60;
        my $json = refused(batch("$good\n$line$good"), $status, 3, $error,
                           "$error: $said");
        is($json->{version}, $text, 'with the version that is there')
            if $status == 412 && $line =~ /"text"/;
        is($json->{version}, undef, 'but none that only the batch had made')
            if $line =~ /"good"/;
    }

    is(version('text'), $text, 'it is as it was');
    $s->del($_) for qw(text most);
    is($s->http(GET => '/keys')->{body}, $keys, 'nothing of it was done');
}

refused(batch("\n \n"), 400, 0, 'there is no operation', 'no operation');
refused(batch(''), 400, 0, 'there is no operation', 'no body');

{
    my $many = 'a batch has at most 1024 operations and 4194304 bytes';
    my $few = 'a batch has at most 3 operations and 200 bytes';
    refused(batch($good x 1025), 413, 1025, $many, 'too many');
    refused(batch('x' x 4194305), 413, 0, $many, 'too large');
    refused(batch(undef, chunks => [('x' x 100_000) x 43]), 413, 0, $many,
            'too large, chunked');
    refused(batch(line(key => 'a', value => 'x') x 4, path => '/small'), 413,
            4, $few, 'max_ops=');
    refused(batch($good . ' ' x 200, path => '/small'), 413, 0, $few,
            'max_size=');
    done(batch(line(key => 'd', value => 'd') x 3, path => '/small'), 3,
         'as many as it takes');
    is_none('good', 'nothing was done');

    # a batch is in one segment of the log, which begins with the state of a
    # replicated one

    my @line = map { line(key => "a$_", value => 'x' x 8000) } 1 .. 8;
    my $r = batch(join('', @line), path => '/tiny-batch');
    my ($most) = $r->{body} =~ /at most (61360|57128) bytes/;
    $most = 61360 unless $ENV{KV_TEST_CLUSTER};
    refused($r, 413, 8, "a batch takes at most $most bytes of the log: split "
                        . 'it, or make segment= larger', 'more than a segment');
    done(batch(join('', @line[0 .. 6]), path => '/tiny-batch'), 7,
         'as much as it takes');
}

for my $method (qw(GET PUT DELETE)) {
    my $r = $s->http($method => '/batch');
    is("$r->{status} $r->{body} $r->{headers}{allow}",
       "405 method not allowed\n POST", $method);
}

for ([ 400, "a batch takes no arguments\n", path => '/batch?ttl=1' ],
     [ 501, "the conditions of a batch are in its lines\n",
       headers => ['If-Match: *'] ],
     [ 500, "internal server error\n", path => '/mirrored' ])
{
    my ($status, $text, @o) = @$_;
    my $r = batch($good, @o);
    is("$r->{status} $r->{body}", "$status $text", "@o[0, 1]");
}

like($s->log, qr/read before "kv_batch" could take it/, 'the log tells of it');


# ---- in which shapes it comes

{
    my $body = join '', map { line(key => "shape$_", value => 'v') } 1 .. 40;
    done(batch(undef, chunks => [ unpack '(a7)*', $body ]), 40, 'chunked');

    my $c = $s->connect;
    $c->send("POST /batch HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
             . 'Content-Length: ' . length($body) . "\r\n\r\n");
    is($c->response->{status}, 100, '100-continue');
    $c->send($_) for unpack '(a100)*', $body;
    done($c->response, 40, 'and then');

    $c->send(join '', map { KV::Conn::request(POST => '/batch',
                                body => line(op => 'incr', key => 'pipe',
                                             by => 1)) } 1 .. 5);
    done($c->response, 1, 'pipelined') for 1 .. 5;
    is_value('pipe', '5', 'each was done once');
}


# ---- clients that leave

{
    my $used = $s->used;
    my $c = $s->connect;
    my $body = $good . line(key => 'good2', value => 'x' x 100_000);
    $c->send("POST /batch HTTP/1.1\r\nHost: x\r\nContent-Length: "
             . length($body) . "\r\n\r\n" . substr $body, 0, 100_000);
    is_none('good', 'half a batch is none');
    $c->reset;
    is_none('good', 'nor is it when its client has gone');

    # one that leaves when it has sent all

    $s->fault(hold => 1);
    $c = $s->written(POST => '/batch', body => $body);
    is(present(qw(good good2)), 0, 'it is not seen before');
    $c->reset;
    $s->fault(hold => undef);
    ok(wait_for(sub { present(qw(good good2)) == 2 }, 10),
       'it is done without its client');
    done(batch(line(op => 'delete', key => 'good')
               . line(op => 'delete', key => 'good2')), 2, 'deleted');
    ok(wait_for(sub { $s->del('x'); $s->used < $used + 100_000 }, 10, 0.05),
       'no memory is left behind');
}


# ---- of several for the same versions one is done, on whatever workers

for my $round (1 .. 20) {
    my %tag = map { my $r = $s->put("race$_", "$round");
                    $_ => version("race$_") } 0 .. 3;
    my @c = map { $s->connect } 1 .. 12;

    for my $i (0 .. $#c) {
        my @order = $i % 2 ? (0 .. 3) : (3, 2, 1, 0);
        $c[$i]->send(KV::Conn::request(POST => '/batch', body => join '',
            map { line(key => "race$_", value => "$round-$i",
                       if_match => $tag{$_}) } @order));
    }

    my @status = map { $_->response->{status} } @c;
    my @won = grep { $status[$_] == 200 } 0 .. $#c;
    my @lost = grep { $status[$_] == 412 } 0 .. $#c;
    ok(@won == 1 && @lost == $#c
       && 4 == grep { $s->get("race$_")->{body} eq "$round-$won[0]" } 0 .. 3,
       "round $round: one is done, with all keys") or diag("@status");
}


my $stats = $s->stats->{routes}{batch}{POST}{status};
cmp_ok($stats->{200}, '>', 20, 'statistics: done');
cmp_ok($stats->{412}, '>', 100, 'and not done');


# ---- reloads, stops and deaths while it is being synced

my $n = 0;

# Those of the other store, whose keys expire, are not held.

sub held_batch {
    my $round = ++$n;
    $s->fault(hold => '1 /data/');
    my $c = $s->connect;
    $c->send(KV::Conn::request(POST => '/batch', body => join '',
        map { line(key => "h$round-$_", value => 'v' x 1000) } 1 .. 50));
    ok($s->held, 'a batch is being synced');
    return ($c, map { "h$round-$_" } 1 .. 50);
}

# Whether there are none but new workers, or these and old ones.

sub reloaded {
    my ($old, %o) = @_;
    return wait_for(sub {
        my @now = $s->workers;
        my $left = grep { $old->{$_} } @now;
        return @now == 2 + $left && ($left > 0) == ($o{beside} // 0);
    }, 10);
}

# While their lines are being read, in turns: of each a worker has the first
# before it knows that it is to quit.

for my $round (1 .. 3) {
    my %old = map { $_ => 1 } $s->workers;
    my @c = map { $s->connect } 1 .. 12;
    my $request = KV::Conn::request(POST => '/batch', body => join '',
        map { line(key => "turn$_", value => 'v') } 1 .. 1000);
    $_->send(substr $request, 0, 200) for @c;
    $s->has_read;
    $_->send(substr $request, 200) for @c;
    kill('HUP', $s->{pid});
    is((grep { $_->response->{status} == 200 } @c) + 0, 12,
       'a reload between two turns: all are done');
    ok(reloaded(\%old), 'the old workers end');
}

{
    my %old = map { $_ => 1 } $s->workers;
    my ($c, @keys) = held_batch();
    kill('HUP', $s->{pid});
    ok(reloaded(\%old, beside => 1), 'a reload');
    $s->fault(hold => undef);
    done($c->response, 50, 'it is answered');
    is(present(@keys), 50, 'and done');
    ok(reloaded(\%old), 'the old workers end');
}

{
    my ($c, @keys) = held_batch();
    my $from = length $s->log;
    kill('TERM', $s->{pid});
    wait_for(sub { substr($s->log, $from) =~ /: exiting$/m }, 10);
    $s->fault(hold => undef);
    done($c->response, 50, 'SIGTERM: it is answered');
    is($s->wait_exit, 0, 'nginx ends');
    $s->start;
    is(present(@keys), 50, 'it is there');
}

for my $all (0, 1) {
    my ($c, @keys) = held_batch();
    $s->expect_log(qr/worker process \d+ exited on signal 9/);

    if ($all) {
        $s->stop('KILL');
        $s->fault(hold => undef);
        $s->start;

    } else {
        kill('KILL', $s->workers);
        $s->fault(hold => undef);
        ok(wait_for(sub { $s->put('back', 'x', soft => 1,
                                  timeout => 5)->{status} == 200 }, 10),
           'all workers die, and others come');
    }

    my $there = present(@keys);
    ok($there == 0 || $there == 50, "all or nothing: $there of 50");
}

$s->done;


# ---- the zone is full

$s = KV::Test->new(zone => '8m', kv => 'max_value=64k');
$s->start;

{
    my ($i, $value) = (0, 'v' x 10_000);
    $i++ while $i < 2000
               && $s->put("full$i", $value)->{status} == 200;
    cmp_ok($i, '>', 300, 'a full zone');
    my $used = $s->used;

    my $r = batch(line(op => 'delete', key => 'full0')
                  . join '', map { line(key => "more$_", value => $value) }
                                 1 .. 300);
    is("$r->{status} " . json($r)->{error}, '507 zone is full', 'no memory');
    is(present('full0', map { "more$_" } 1 .. 300), 1, 'nothing is done');
    ok(wait_for(sub { $s->del('x'); $s->used < $used + 100_000 }, 10, 0.05),
       'what it had is given back');

    done(batch(join '', map { line(op => 'delete', key => "full$_") }
                            0 .. 299), 300, 'deletes are always done');
    done(batch(join '', map { line(key => "more$_", value => $value) }
                            1 .. 200), 200, 'and then there is memory');
}

$s->done;


# ---- the disk is full

SKIP: {
    $s = KV::Test->new(kv => 'segment=1m max_value=64k snapshot=off');
    my $mnt = $s->mount(disk => 'size=10m')
        // skip('a full disk needs root, who may mount a tmpfs', 1);
    $s->{path} = "$mnt/data";
    $s->start;

    my $value = 'v' x 60_000;
    $s->fill_disk($mnt, sub { $s->put("d$_[0]", $value) });
    refused(batch(line(op => 'delete', key => 'd0')
                  . line(key => 'new', value => $value)), 507, 0,
            'disk is full', 'a full disk');
    is(present('d0', 'new'), 1, 'nothing is done');
    done(batch(line(op => 'delete', key => 'd0')
               . line(op => 'delete', key => 'd1')), 2,
         'a batch of deletes is done');
    is(present('d0', 'd1'), 0, 'all of it');
    $s->done;
}

done_testing();
