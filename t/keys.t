# Lists of keys: GET /keys with all its arguments, over pages, beside writers,
# and after what can happen to a server.

use strict;
use warnings;

use JSON::PP ();
use MIME::Base64 qw(decode_base64);
use POSIX ();
use Test::More;

use KV::Test;
use KV::Util qw(wait_for);

my $s = KV::Test->new(zone => '64m', kv => 'list=on segment=16m sync=off',
                      server => 'large_client_header_buffers 4 32k;
                                 location = /keys { kv_keys main; }
                                 rewrite ^/list/(.*)$ /keys?prefix=$1 last;');
$s->start;

sub list { my ($args, @o) = @_; $s->http(GET => "/keys$args", @o) }
sub keys_of { [ split /\n/, list(@_)->{body} ] }
sub json { JSON::PP::decode_json(list(@_)->{body}) }

# What the store should have; a value each.

my %have;

sub put {
    my ($key, $value) = @_;
    $have{$key} = $value // "value of $key";
    return $s->put($key, $have{$key})->{status};
}

# Many of them, by one request.

sub put_all {
    my $lines = join '', map { qq({"key":"$_","value":"value of $_"}\n) } @_;
    $have{$_} = "value of $_" for @_;
    return $s->http(POST => '/bulk', body => $lines)->{status};
}

sub del { my ($key) = @_; delete $have{$key}; return $s->del($key)->{status} }

sub has { my ($re) = @_; return [ sort grep { /^$re/ } keys %have ] }

# All pages of a list, by their links; each of at most so many keys.

sub pages {
    my ($args, $limit) = @_;
    my ($path, @keys) = ("/keys$args", ());

    while (defined $path) {
        my $r = $s->http(GET => $path);
        my @page = split /\n/, $r->{body};
        return "status $r->{status}" if $r->{status} != 200;
        return 'a page of ' . @page if @page > $limit;
        push @keys, @page;
        ($path) = ($r->{headers}{link} // '') =~ /^<(.*)>; rel="next"$/;
    }

    return \@keys;
}


# A worker serves others before a page is complete; one that is to quit ends
# with an answer, not in the middle of a page.

sub in_steps {
    my $page = '/keys?limit=10000';
    my ($long, $short) = ($s->connect, $s->connect);
    my ($first, $whole) = (0, 1);

    for (1 .. 200) {
        $long->send(KV::Conn::request(GET => "$page&values=1"));
        $short->send(KV::Conn::request(GET => '/kv/a'));
        is($short->response->{status}, 200, 'a value beside a page')
            if $_ == 1;
        $short->response if $_ > 1;
        $first = $long->silent(0);
        $long->response;
        last if $first;
    }
    ok($first, 'the worker sends a value before a page that is longer');

    my @old = $s->workers;
    $long->send(KV::Conn::request(GET => $page)) for 1 .. 20;
    kill('HUP', $s->{pid});
    while (my $r = $long->response) {
        $whole = 0 if @{[ split /\n/, $r->{body} ]} != keys %have;
        last if $r->{headers}{connection} eq 'close';
        $long->send(KV::Conn::request(GET => $page));
    }
    ok($whole, 'pages during a reload are complete');
    $_->close for $long, $short;
    ok(wait_for(sub { "@{[$s->workers]}" !~ /\b$old[0]\b/ }, 15),
       '... the old worker ends');
    unlike($s->log, qr/open socket #\d+ left/, '... not before its page does');
}


# ---- an empty store, and a few keys

my $empty = list('');
is($empty->{status}, 200, 'no key: 200');
is($empty->{body}, '', '... and an empty list');
is($empty->{headers}{'content-type'}, 'text/plain', '... of text');
is($empty->{headers}{link}, undef, '... without a next page');
is_deeply(json('?format=json'), { keys => [], more => JSON::PP::false },
          '... in JSON, too');

put($_) for qw(b a C a:1 a:2:x a:2:y a:10 a.b ab A-1 _z 0);

is_deeply(keys_of(''), has(''), 'all keys, in the order of their bytes');
is_deeply(keys_of('?prefix=a:'), has('a:'), 'those with a prefix');
is_deeply(keys_of('?prefix=a%3A1'), has('a:1'), 'a prefix may be encoded');
is_deeply(keys_of('?prefix=zz'), [], 'a prefix without keys');
is_deeply(keys_of('?after=a'), [ grep { $_ gt 'a' } @{has('')} ],
          'those behind a key');
is_deeply(keys_of('?after=a:15'), [ grep { $_ gt 'a:15' } @{has('')} ],
          '... which need not be there');
is_deeply(keys_of('?prefix=a:&after=a:2:x'), ['a:2:y'], 'both');
is_deeply(keys_of('?prefix=b&after=a'), ['b'], 'a prefix behind it');
is_deeply(keys_of('?prefix=a&after=b'), [], 'a prefix before it');

del('a:1');
is_deeply(keys_of('?prefix=a:'), has('a:'), 'a deleted key is not listed');
put('a:1');
is_deeply(keys_of('?prefix=a:'), has('a:'), '... and is, once it is back');

# ---- what groups of keys have in common

is_deeply(keys_of('?prefix=a&delimiter=:'), [qw(a a.b a: ab)],
          'keys with a delimiter are one line');
is_deeply(keys_of('?prefix=a:&delimiter=:'), [qw(a:1 a:10 a:2:)],
          '... behind the prefix');
is_deeply(pages('?delimiter=:&limit=1', 1),
          [qw(0 A-1 C _z a a.b a: ab b)], '... and one entry of a page');

my $grouped = json('?prefix=a&delimiter=:&format=json');
is_deeply([ map { $_->{key} } @{$grouped->{keys}} ], [qw(a a.b ab)],
          'JSON has the keys');
is_deeply($grouped->{prefixes}, ['a:'], '... and the prefixes');

# ---- pages

my $page = list('?limit=2');
is_deeply([ split /\n/, $page->{body} ], [ @{has('')}[0, 1] ], 'a page');
is($page->{headers}{link}, '</keys?limit=2&after=A-1>; rel="next"',
   '... and the address of the next');
is(list('?after=0&&limit=1&prefix=%61:&after')->{status}, 400,
   'an argument that is there twice, once without a value');
is(list('?&limit=1&&prefix=a%3a&after=a%3a1&format=text')->{headers}{link},
   '</keys?limit=1&prefix=a%3a&format=text&after=a%3A10>; rel="next"',
   'the address has the arguments as they were sent');
is($s->http(GET => '/list/a:?limit=1')->{headers}{link},
   '</list/a:?limit=1&after=a%3A1>; rel="next"',
   '... but not what a rewrite added');
is_deeply(pages('/../list/a:?limit=2', 2), has('a:'), '... so all pages come');
is(list('?limit=1&format=text&prefix=a&delimiter=>')->{headers}{link},
   '</keys?limit=1&format=text&prefix=a&delimiter=%3e&after=a>; rel="next"',
   'nor a bracket');
is_deeply(pages('?limit=2', 2), has(''), 'all pages');
is_deeply(pages('?limit=3&prefix=a', 3), has('a'), '... of a prefix');
is(list('?limit=' . keys %have)->{headers}{link}, undef,
   'no page follows the last key');

# ---- JSON and values

my $e = json('?prefix=a:1&format=json&limit=1');
my $etag = $s->get('a:1')->{headers}{etag};
is_deeply($e, { more => JSON::PP::true, next => 'a:1',
                keys => [{ key => 'a:1', size => length $have{'a:1'},
                           version => $etag =~ s/"//gr }] },
          'an entry has its size and its version');
is(list('', headers => ['Accept: application/json'])
       ->{headers}{'content-type'}, 'application/json', 'JSON by Accept');

put('v:utf8', "\xc3\xa4 \"quoted\" \\ \n \x01 end");
put('v:bytes', join '', map { chr } 0 .. 255);
put('v:overlong', "\xc0\xaf");
put('v:surrogate', "\xed\xa0\x80");
put('v:odd2', "I\xd2\xf1k");
put('v:odd3', "\xe2\x82\xff\xe2\xc2\x80");
put('v:odd4', "\xf1\xc0\x80\x80 \xf1\x80\x80\xc0");
put('v:odd1', "\xf8\x88\x80\x80");
put('v:controls', "\x01\x02" x 100_000);
put('v:large', join '', map { chr(32 + $_ % 90) } 1 .. 300_000);
put("v:many$_", 'x' x 90_000) for 1 .. 30;

sub values_of {
    my %got;
    for my $e (@_) {
        my $raw = exists $e->{value} ? $e->{value} : undef;
        utf8::encode($raw) if defined $raw;
        $got{$e->{key}} = $raw // decode_base64($e->{base64});
    }
    return \%got;
}

my ($args, %all) = '?prefix=v:&values=1&format=json';
my $pages = 0;
for (my $after = ''; defined $after; $pages++) {
    my $list = json($args . $after);
    %all = (%all, %{values_of(@{$list->{keys}})});
    $after = defined $list->{next} ? "&after=$list->{next}" : undef;
}
is_deeply(\%all, { map { $_ => $have{$_} } @{has('v:')} },
          'values come back byte for byte');
cmp_ok($pages, '>', 2, '... in pages of limited size');
ok(exists json("$args&after=v:surrogate")->{keys}[0]{value},
   'a value that is UTF-8 is a string');
ok(exists json("$args&after=v:many9")->{keys}[0]{base64},
   '... and one that is none is not');
ok(exists json("$args&after=v:controlr")->{keys}[0]{base64},
   '... nor one that would take six times its bytes');

my $lines = list('?prefix=v:utf8&values=1');
is($lines->{headers}{'content-type'}, 'application/x-ndjson', 'lines of JSON');
is($lines->{headers}{'x-content-type-options'}, 'nosniff',
   '... which must not run as a page');
is_deeply(values_of(map { JSON::PP::decode_json($_) }
                    split /\n/, $lines->{body}),
          { 'v:utf8' => $have{'v:utf8'} }, '... with values');

# lines are what a bulk load takes, also of keys that expire

is($s->put('v:expires?ttl=1000', 'x')->{status}, 200, 'a key that expires');

for (my $path = '/keys?prefix=v:&values=1'; defined $path; ) {
    my $r = $s->http(GET => $path);
    my @keys = map { JSON::PP::decode_json($_)->{key} } split /\n/, $r->{body};
    ($path) = ($r->{headers}{link} // '') =~ /^<(.*)>; rel="next"$/;
    $s->del($_) for @keys;
    my $n = @keys;
    is($s->http(POST => '/bulk', body => $r->{body})->{body},
       qq({"lines":$n,"applied":$n}\n), "a page of $n is posted");
    is((grep { $_ eq 'v:expires'
               ? $s->get($_)->{headers}{'cache-control'} =~ /max-age=\d{3}/
               : $s->get($_)->{body} eq $have{$_} } @keys) + 0, $n,
       '... and all is as it was');
}

$s->del('v:expires');
del($_) for @{has('v:')};

# ---- what is refused

my @wrong = (['?limit=0', 'limit'], ['?limit=10001', 'limit'],
             ['?limit=x', 'limit'], ['?limit=', 'limit'],
             ['?what=1', 'unknown argument'], ['?prefix=a&prefix=b', 'twice'],
             ['?values=2', 'values'], ['?format=xml', 'format'],
             ['?values=1&format=text', 'values'], ['?delimiter=', 'delimiter'],
             ['?prefix=' . 'a' x 16385, 'longer than a key'],
             ['?after=' . 'a' x 16385, 'longer than a key']);
for (@wrong) {
    my $r = list($_->[0]);
    is($r->{status}, 400, substr($_->[0], 0, 30) . ': 400');
    like($r->{body}, qr/\A.*$_->[1].*\n\z/, '... with a line that says why');
}
for (['Content-Length', body => 'x'], ['chunked', chunks => ['x']]) {
    my ($what, @body) = @$_;
    my $c = $s->connect;
    $c->send(KV::Conn::request(GET => '/keys?limit=1', @body)
             . KV::Conn::request(GET => '/keys?limit=1'));
    my $r = $c->response;
    is("$r->{status} $r->{body}", "400 a list takes no body\n",
       "a body, $what: 400");
    is($c->response->{status}, 200, '... and the connection goes on');
}
my $post = $s->http(POST => '/keys', body => 'x');
is($post->{status}, 405, 'POST: 405');
is($post->{headers}{allow}, 'GET, HEAD, DELETE',
   '... with what is allowed');
my $head = $s->http(HEAD => '/keys');
is($head->{status}, 200, 'HEAD: 200');
is($head->{headers}{'content-length'}, length list('')->{body},
   '... and the length of the list');

# ---- the state that a list shows, while no key expires: that is a write, too

my ($lsn) = list('')->{headers}{'kv-version'} =~ /^([0-9a-f]+)-[0-9a-f]+$/;
my ($put) = $s->put('state', 'x')->{headers}{etag} =~ /^"([0-9a-f]+)-/;
my ($then) = list('')->{headers}{'kv-version'} =~ /^([0-9a-f]+)-/;
is(hex $put, hex($lsn) + 1, 'KV-Version is of the last write');
is($then, $put, '... before the list');
$s->del('state');

# ---- keys that expire

$s->http(PUT => '/kv/ttl:long?ttl=3600', body => 'x');
$s->http(PUT => '/kv/ttl:short?ttl=1', body => 'x');
$s->put('ttl:none', 'x');
my ($long, $none) = @{json('?prefix=ttl:&format=json')->{keys}}[0, 1];
ok(abs($long->{expires} - time - 3600) < 30, 'a list says when a key expires');
ok(!exists $none->{expires}, '... if it does');
ok(wait_for(sub { "@{keys_of('?prefix=ttl:')}" eq 'ttl:long ttl:none' }, 10),
   'a key that has expired is not listed');
ok(wait_for(sub { $s->store->{expired} == 1 }, 10), '... and is deleted');
$s->del("ttl:$_") for qw(long none);

# ---- many keys, and what can happen to them

is(put_all(map { sprintf 'many:%05d', $_ * 7919 % 5000 } 1 .. 3000), 200,
   'many keys');
is_deeply(pages('?prefix=many:&limit=999', 999), has('many:'),
          '3,000 keys over pages');
is(scalar @{keys_of('?prefix=many:')}, 1000, '1,000 on a page by default');
is(scalar @{keys_of('?prefix=many:&limit=10000')}, 3000,
   '... and more by limit');

$s->reload;
is_deeply(pages('?limit=10000', 10000), has(''), 'a reload changes no list');

for my $signal (qw(KILL TERM)) {
    $s->stop($signal);
    $s->{workers} = $signal eq 'KILL' ? 1 : 2;
    $s->start;
    is_deeply(pages('?limit=10000', 10000), has(''), "nor a restart ($signal)");
    in_steps() if $s->{workers} == 1;
}

$s->{kv} = 'list=off segment=16m sync=off';
$s->{server} = '';
my $said = $s->reload(qr/was made with list=on: a reload cannot change/);
ok($said, 'a reload that changes list= is refused');
$s->expect_log(qr/a reload cannot change/);
is_deeply(pages('?limit=10000', 10000), has(''), '... and all goes on');
$s->{kv} = 'list=on segment=16m sync=off';
$s->{server} = 'location = /keys { kv_keys main; }';
ok($s->reload, 'and the next reload is done');

my $index = $s->store->{zone}{index};
cmp_ok($index, '>', keys(%have) * 4, '/stats has the bytes of the index');
cmp_ok($index, '<', keys(%have) * 24, '... which are few');
is($s->clear->{status}, 200, 'after a clear');
%have = ();
is_deeply(keys_of(''), [], '... the list is empty');
ok(wait_for(sub { $s->del('none'); $s->store->{zone}{index} == 0 }, 10),
   '... and has no bytes');
put('again');
is_deeply(keys_of(''), ['again'], '... and filled again');

# a directory that was written without lists has them as soon as it may

$s->stop;
$s->{kv} = 'list=off segment=16m sync=off';
$s->{server} = '';
$s->start;
put("off:$_") for 1 .. 100;
$s->stop;
$s->{kv} = 'list=on segment=16m sync=off';
$s->{server} = 'location = /keys { kv_keys main; }';
$s->start;
is_deeply(keys_of(''), has(''), 'what was written with list=off is listed');

# ---- all keys that begin alike, deleted at once

sub delete_all { my ($args, @o) = @_; $s->http(DELETE => "/keys$args", @o) }

for (['', 'prefix'], ['?prefix=', 'prefix'], ['?max=5', 'prefix'],
     ['?prefix=a&max=0', 'max'], ['?prefix=a&max=1025', 'max'],
     ['?prefix=a&max=x', 'max'], ['?prefix=a&limit=1', 'unknown argument'],
     ['?prefix=a&prefix=b', 'twice'])
{
    my $r = delete_all($_->[0]);
    is($r->{status}, 400, "DELETE $_->[0]: 400");
    like($r->{body}, qr/\A.*$_->[1].*\n\z/, '... with a line that says why');
}
is(delete_all('?prefix=a', body => 'x')->{status}, 400, 'with a body: 400');
is(delete_all('?prefix=a', headers => ['If-Match: *'])->{status}, 501,
   'with a condition: 501');
is_deeply(pages('?limit=10000', 10000), has(''), '... and nothing is deleted');

is(put_all(map { sprintf 'del:%04d', $_ } 1 .. 1025), 200, 'many alike');
put("dem$_") for 1 .. 3;
my $over = delete_all('?prefix=del:');
is($over->{status}, 409, 'more than 1,000: 409');
like($over->{body}, qr/\Amore keys than max .*\n\z/, '... with the reason');
is(delete_all('?prefix=del:&max=1024')->{status}, 409, '1,025 of 1,024: 409');
is(delete_all('?prefix=del:00&max=98')->{status}, 409, '99 of 98: 409');
is_deeply(pages('?prefix=de&limit=10000', 10000), has('de'),
          '... and nothing is deleted');

sub deletes {
    my ($args, $prefix, $name) = @_;
    my $n = @{has($prefix)};
    my $r = delete_all($args);
    is("$r->{status} $r->{body}", "200 $n", $name);
    delete $have{$_} for @{has($prefix)};
    is_deeply(pages('?limit=10000', 10000), has(''), '... and no other key');
    return $r;
}

my ($before) = list('')->{headers}{'kv-version'} =~ /^([0-9a-f]+)-/;
my $some = deletes('?prefix=del:00&max=99', 'del:00', '99 of 99 are deleted');
my ($version) = $some->{headers}{'kv-version'} =~ /^([0-9a-f]+)-/;
is(hex $version, hex($before) + 99, '... whose last version is told');
deletes('?prefix=del%3A&max=1024', 'del:', 'and the rest');
deletes('?prefix=del:', 'del:', 'none');
$s->http(PUT => '/kv/ttl:1?ttl=1', body => 'x');
put('ttl:2');
ok(wait_for(sub { $s->get('ttl:1')->{status} == 404 }, 10), 'a key expires');
deletes('?prefix=ttl:', 'ttl:', '... and is not counted');
$s->stop('KILL');
$s->start;
is_deeply(pages('?limit=10000', 10000), has(''), 'a restart brings none back');

# Two clients delete the same ten keys at once, in every other round while one
# of these is overwritten, and workers die: a list has all of them or none, and
# each is counted once.

my ($rounds, $answered, $torn, $twice, $listed) = (0, 0, 0, 0, 0);
my @soft = (soft => 1);

for my $round (1 .. 40) {
    my $prefix = "race:$round:";
    my @ten = map { "$prefix$_" } 0 .. 9;
    my $over = $round % 2;
    for my $key (@ten) {
        wait_for(sub { $s->put($key, 'x', @soft)->{status} == 200 }, 15)
            or die "no PUT is answered\n";
    }

    # each on a connection of its own, so on any worker

    my %c = map { $_ => $s->connect(@soft) } qw(one two put list);
    next if grep { !$_ } values %c;
    my $delete = KV::Conn::request(DELETE => "/keys?prefix=$prefix");
    $c{one}->send($delete);
    $c{put}->send(KV::Conn::request(PUT => "/kv/$ten[5]", body => 'y'))
        if $over;
    $c{two}->send($delete);
    $c{list}->send(KV::Conn::request(GET => "/keys?prefix=$prefix") x 20);
    if ($round % 8 == 4) {
        my ($worker) = $s->workers;
        kill('KILL', $worker) if $worker;
    }
    kill('HUP', $s->{pid}) if $round == 30;

    my $left = 10;
    while (defined(my $r = $c{list}->response)) {
        last if ++$listed && $r->{status} != 200;
        my @keys = split /\n/, $r->{body};
        my $alone = $over && "@keys" eq $ten[5];
        $torn++ if @keys && "@keys" ne "@ten" && !$alone;
        $torn++ if @keys > $left;
        $left = $over && !@keys ? 1 : @keys;
        last if --$c{lists} == -20;
    }
    my @n = map { $c{$_}->response // { status => 0 } } qw(one two);
    my @good = grep { $_->{status} == 200 } @n;
    my $sum = 0;
    $sum += $_->{body} for @good;
    $twice++ if $sum > 10 + $over || (@good == 2 && $sum < 10);
    $answered += @good;
    $rounds++;
    $_->close for grep { ref } values %c;
}
$s->expect_log(qr/exited on signal 9/);
cmp_ok($rounds, '>', 20, 'two delete the same keys at once');
cmp_ok($answered, '>', 20, '... and are answered');
cmp_ok($listed, '>', 200, '... while others list them');
is($torn, 0, '... who see all or none');
is($twice, 0, 'each key is counted once');
ok(wait_for(sub { delete_all('?prefix=race:', @soft)->{status} == 200 }, 15),
   'and what is left can be deleted');

# ---- beside writers, workers that die among them

is(put_all(map { sprintf 'stay:%04d', $_ } 1 .. 500), 200, 'keys that stay');
my $stay = has('stay:');

my $parent = $$;
my $writer = fork // die "fork: $!";
if ($writer == 0) {
    for (my $i = 0; getppid == $parent; $i++) {
        $s->put("stay:$_$i", 'x', soft => 1) for 'a' .. 'c';
        $s->del(sprintf('stay:a%d', $i - 10), soft => 1);
    }
    POSIX::_exit(0);
}

my ($lists, $wrong) = (0, 0);
for my $round (1 .. 60) {
    my ($worker) = $s->workers;
    kill('KILL', $worker) if $round % 20 == 10 && $worker;
    my $r;
    wait_for(sub { $r = list('?prefix=stay:&limit=10000', soft => 1);
                   return $r->{status} == 200 }, 10) or last;
    my @keys = split /\n/, $r->{body};
    my @sorted = sort @keys;
    my %seen;
    $lists++;
    $wrong++ if "@keys" ne "@sorted" || grep { $seen{$_}++ } @keys;
    $wrong++ if "@{[ grep { /^stay:\d{4}$/ } @keys ]}" ne "@$stay";
}
kill('KILL', $writer);
waitpid($writer, 0);
$s->expect_log(qr/exited on signal 9/);

is($lists, 60, 'lists beside a writer');
is($wrong, 0, '... have every key that stays, once, in order');

$s->done;

# ---- clients that ask for large pages, and do not read them

$s = KV::Test->new(workers => 1, zone => '64m', kv => 'list=on segment=16m',
                   server => 'location = /keys { kv_keys main; }');
$s->start;
is($s->put('large', "\xff" x 9_000_000)->{status}, 200, 'a large value');

{
    my @c = map { $s->connect } 1 .. 20;
    my %said;

    for my $c (@c) {
        $c->send(KV::Conn::request(GET => '/keys?values=1'));
        $c->ready(0, 30);
        $c->fill;
        $said{$1}++ if $c->{in} =~ m{^HTTP/1.1 (\d+)};
    }

    my ($worker) = $s->workers;
    my ($rss) = read_file("/proc/$worker/status") =~ /RssAnon:\s+(\d+)/;
    cmp_ok($said{200}, '>', 3, 'some get a page, and do not read it');
    cmp_ok($rss, '<', 150_000, 'which takes a limited amount of memory')
        or diag(join ' ', %said);

    ok(wait_for(sub { list('?values=1')->{status} == 200 }, 20, 0.2),
       'others are given up in time');
}

$s->done;

done_testing();
