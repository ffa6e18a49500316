# The dashboard in a browser: figures move, each state shows with what to do
# about it, values are text whatever they are, it can be used by keyboard, and
# axe-core finds nothing, in light and dark and on a phone.

use strict;
use warnings;

use JSON::PP ();
use Test::More;

use KV::Browser;
use KV::Test;

system('scripts/npm.sh');
plan(skip_all => 'axe-core is not installed') if $? >> 8 == 77;
BAIL_OUT('axe-core cannot be installed') if $?;
plan(skip_all => 'Chromium is not installed') if !KV::Browser::program();
plan(skip_all => 'this needs root, to mount') if $> != 0;

KV::Test::with_failpoints();

my $shots = $ENV{KV_SCREENSHOTS};
my $s = KV::Test->new(fault => 1, http => 'kv_zone zone=second:8m
                          path=%%dir%%/second archive=%%dir%%/small/archive
                          segment=64k max_value=16k snapshot=off;',
                      kv => 'list=on segment=1m max_value=256k snapshot=1000m',
                      location => 'kv_key_chars any;',
                      server => 'location = /keys { kv_keys main; }
                                 location = /dashboard { kv_dashboard; }
                                 location /second-kv/ { kv second; }
                                 location = /second {
                                     kv_stats second;
                                     if (-f %%dir%%/locked) { return 403; }
                                 }');
my $disk = $s->mount('disk', 'size=2g');      # of which it takes little
plan(skip_all => 'nothing can be mounted here')
    if !$disk || !$s->mount('small', 'size=128k');

$s->{path} = "$disk/data";
$ENV{KV_FAILPOINT_DIR} = $s->{dir};
$s->expect_log(qr/exited on signal 9/, qr/writes are disabled until nginx/,
               qr/cannot be rebuilt/, qr/archive/);
$s->start;

my $b = KV::Browser->new;
my $url = "http://127.0.0.1:$s->{port}/dashboard";


sub text { return $b->js("document.getElementById('$_[0]').textContent") }

# What a picture shows is looked at by a person.

sub shot {
    my ($name) = @_;
    return if !$shots;
    $b->js('scrollTo(0, 0)');
    $b->screenshot("$shots/$name.png");
}


# ---- what the manual says of a state

my %told;
my ($rows) = read_file('src/store/README.md')
             =~ /^\| `state` \|.*?\n\|---.*?\n((?:\|.*\n)*)/m;

for my $row (split /\n/, $rows) {
    my ($state, undef, undef, $health, undef, $first) =
        map { s/`//gr } (split /\s*\|\s*/, $row)[1 .. 6];
    $told{$state =~ s/:.*//r} = { health => $health, first => $first };
}
is(scalar keys %told, 6, 'the states of the manual');


my %shown;

sub shows {
    my ($state, $level) = @_;
    my $texts = $b->until(<<"END", 10) // '["", "", "", ""]';
document.getElementById("state-name").textContent === "$state"
&& document.title.startsWith("$state: ")
&& JSON.stringify([document.title, document.getElementById("state").className,
    document.getElementById("state-first").textContent,
    document.getElementById("state-facts").textContent])
END
    my ($title, $class, $first, $facts) = @{JSON::PP::decode_json($texts)};

    is($title, "$state: main - kv", "it shows: $state")
        or diag(text('state-name'), ': ', text('state-why'));
    is($class, "state $level", "$state: as $level as it is");
    shot($state =~ s/ /-/r);

    my $told = $told{$state} or return;
    is($first, "Do first: $told->{first}", "$state: what to do first");
    like($facts, qr{/health\Q$told->{health}\E},
         "$state: what /health says");
    $shown{$state} = 1;
}


# ---- a store at rest, and under load

my @page = map { sprintf 'user:%03d', $_ } 1 .. 120;
my $hostile = '<img src=x onerror="window.hacked = 1"><script>window.hacked'
              . ' = 1</script>';

$s->put($_, "value of $_") for @page;
$s->put('html', $hostile);
$s->put('bytes', join '', map { chr } 0 .. 255);
$s->put('cut', ('x' x 65_535) . "\xc3\xbc" . 'y' x 100_000);
$s->put('spy', "a\x{e2}\x{80}\x{ae}b\x07");

$b->open($url);
shows('ready', 'good');
is(text('warnings'), 'None.', 'no warnings');
is($b->js('document.querySelectorAll("nav button").length'), 2, 'two stores');


# The numbers under a chart, by what they are.

sub now {
    my ($title) = @_;
    my $json = $b->js(<<"END");
JSON.stringify([...document.querySelectorAll("#charts > section")]
    .filter((s) => s.querySelector("h3").textContent.startsWith("$title"))
    .flatMap((s) => [...s.querySelectorAll(".now div")])
    .map((d) => [d.firstChild.textContent, d.lastChild.textContent]))
END
    return { map { @$_ } @{JSON::PP::decode_json($json)} };
}

sub load {
    my $c = $s->connect;
    for my $n (1 .. 20) {
        $c->send(KV::Conn::request(PUT => "/kv/load$n", body => 'x' x 1000));
        $c->response;
        $c->send(KV::Conn::request(GET => '/kv/' . ('none', "load$n")[$n % 2]));
        $c->response;
    }
}

for (['Requests', '2xx, 3xx', qr/^[1-9]/], ['Requests', '4xx', qr/^[1-9]/],
     ['Time of a request', 'read p50', qr/^[1-9].* .s$/],
     ['Time of a request', 'write p99', qr/^[1-9].* .s$/],
     ['Time of a sync', 'p50', qr/^[1-9].* .s$/],
     ['Writes in a batch', 'mean', qr/^[1-9]/],
     ['Log', 'written', qr/^[1-9].* [KM]iB$/], ['Keys', 'keys', qr/^144$/])
{
    my ($chart, $figure, $is) = @$_;
    ok(wait_for(sub { load(); now($chart)->{$figure} =~ $is }, 10),
       "$chart, $figure: moves under load") or diag(now($chart)->{$figure});
}

like($b->js('document.querySelector("#charts [role=img]")'
            . '.getAttribute("aria-label")'),
     qr/^Requests a second: 2xx, 3xx \S+, 4xx \S+, 5xx /,
     'a chart says what it shows');

# a line in the color of its figures

ok($b->until(<<'END', 10), 'and is drawn');
(() => {
    const canvas = document.querySelector("#charts canvas");
    const copy = canvas.cloneNode().getContext("2d",
                                               { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
    let n = 0;
    for (let i = 0; i < data.length; i += 4) {
        n += data[i] === 26 && data[i + 1] === 127 && data[i + 2] === 55;
    }
    return n > 20;
})()
END

like($b->js('document.getElementById("requests").textContent'),
     qr/PUT kv.*200: \d/, 'a table has all requests');


# ---- by keyboard alone

# Goes on with Tab until this is true of the element that has the focus; where
# that is shown.

sub tab_to {
    my ($what) = @_;
    my $hidden = 0;

    for my $n (1 .. 60) {
        $b->key('Tab');
        my $at = $b->js('((e) => (getComputedStyle(e).outlineStyle === "none" '
                        . "? 'hidden ' : '') + (($what) ? 'there' : ''))"
                        . '(document.activeElement)');
        $hidden++ if $at =~ /hidden/;
        next if $at !~ /there/;
        is($hidden, 0, "the focus can be seen up to $what");
        return;
    }

    fail("no Tab leads to $what");
}

tab_to('e.id === "prefix"');
$b->type('user:');
$b->key('Enter');
ok($b->until('document.getElementById("keys").children.length === 100', 10),
   'keys are listed');
like(text('keys-said'), qr/^100 shown, and there are more/, 'a page of them');
tab_to('e.id === "more"');
$b->key('Enter');
ok($b->until('document.getElementById("keys").children.length === 120', 10),
   'and the next page');
is($b->js('[...document.querySelectorAll("#keys button")]'
          . '.map((b) => b.firstChild.textContent).join(" ")'), "@page",
   'all of them, in order');

$b->js('document.querySelector("h1").scrollIntoView();'
       . 'document.getElementById("list").focus()');
tab_to('e.closest("#keys")');
$b->key($_) for qw(ArrowDown ArrowDown ArrowUp End Home ArrowDown Enter);
ok($b->until('document.getElementById("value-text").textContent'
             . ' === "value of user:002"', 10), 'a value is shown');
tab_to('e.id === "value-text"');
like(text('value-said'), qr/^17 B\. Version "[0-9a-f-]+"\.$/, 'and its size');

sub look_at {
    my ($key) = @_;
    $b->js("document.getElementById('prefix').value = '$key';"
           . "document.getElementById('look').click()");
    $b->until('document.getElementById("value-said").textContent', 10)
        or fail("$key: nothing is said of it");
    return text('value-text');
}

$b->js('document.getElementById("delimiter").value = ":";'
       . 'document.getElementById("prefix").value = "";'
       . 'document.getElementById("list").click()');
ok($b->until('[...document.querySelectorAll("#keys button")].some((b) => '
             . 'b.textContent === "user:all of these")', 10),
   'keys that begin alike are one entry');


# ---- keys of any characters

my @odd = ('a+b c', 'a/%2F?#', 'e"<b>', "\xe2\x80\xae", "\xff/\xfe");
my $encoded = sub { $_[0] =~ s/([^a-z])/sprintf '%%%02X', ord $1/ger };

$s->http(PUT => '/kv/odd:' . $encoded->($_), body => "of $_") for @odd;
$b->js('document.getElementById("delimiter").value = "";'
       . 'document.getElementById("prefix").value = "odd:";'
       . 'document.getElementById("list").click()');
ok($b->until('document.getElementById("keys").children.length === '
             . scalar(@odd), 10), 'keys of any characters are listed');
is_deeply([ sort split /\n/,
            $b->js('[...document.querySelectorAll("#keys button")]'
                   . '.map((b) => b.firstChild.textContent).join("\n")') ],
          [ sort 'odd:a+b c', 'odd:a/%2F?#', 'odd:e"<b>', 'odd:<U+202e>',
                 'odd%3A%FF%2F%FE' ], 'as they are');

for my $i (0 .. $#odd) {
    $b->js("document.querySelectorAll('#keys button')[$i].click()");
    $b->until('document.getElementById("value-said").textContent', 10);
    like(text('value-said'), qr/^\d+ B\. Version/, "a value is shown: $i");
    $b->js('document.getElementById("value-said").textContent = ""');
}
$s->http(DELETE => '/keys?prefix=odd:');


# ---- values are not what they seem

is(look_at('html'), $hostile, 'HTML is shown as text');
is($b->js('document.images.length'), 0, 'and makes no image');
is($b->js('window.hacked'), undef, 'and runs not');
is(look_at('spy'), "a<U+202e>b\x{2407}", 'what is invisible is shown');
like(look_at('bytes'), qr/^000000  00 01 02 .* 0f +\.{16}\n000010 /,
     'bytes that are no text are shown as bytes');
is($b->js('document.querySelector("#value input[value=text]").disabled'),
   JSON::PP::true, 'and cannot be shown as text');

$b->asked;
is(look_at('cut'), 'x' x 65_535, 'of a large value the first 64 KiB are shown');
like(text('value-said'), qr/^The first 64\.0 KiB of 162 KiB\./,
     'which is said');
my ($asked) = grep { $_->{url} =~ /cut/ } $b->asked;
is($asked->{headers}{Range}, 'bytes=0-65535', 'and no more is asked for');
is(look_at('none'), '', 'a key that is not there has no value');
is(text('value-said'), 'No value: 404 key not found', 'which is said, too');


# ---- axe-core, and what does not fit

$b->js(read_file('.build/npm/node_modules/axe-core/axe.min.js'));

sub good_to_read {
    my ($what, $part) = @_;

    is($b->js('document.documentElement.scrollWidth'
              . ' - document.documentElement.clientWidth'), 0,
       "$what: nothing is wider than the window");
    $part //= 'document';
    my $found = $b->js("axe.run($part)" . '.then((r) => r.violations.map((v) =>'
        . ' v.id + ": " + v.nodes.map((n) => n.target + " " + n.failureSummary)'
        . '.join("; ")).join("\n"))');
    is($found, '', "$what: axe-core finds nothing");
}

$b->js('document.querySelectorAll("details").forEach((d) => d.open = true)');
look_at('user:001');

for (['light', width => 1280, height => 1600, dark => 0],
     ['dark', width => 1280, height => 1600, dark => 1],
     ['a phone', width => 375, height => 1600, dark => 1],
     ['a small phone', width => 320, height => 600, dark => 0])
{
    my ($what, %window) = @$_;
    $b->look(%window);
    good_to_read($what);
    shot($what =~ s/ /-/gr);
}

$b->look(width => 1280, height => 900, dark => 0);
is_deeply([ grep { !/404/ } $b->said ], [],
          'nothing was refused by its policy, and no error');
is_deeply([ grep { !m{^http://127\.0\.0\.1:$s->{port}/|^data:,$} }
            map { $_->{url} } $b->asked ], [], 'nothing was asked elsewhere');


# ---- what may happen to a store

# The disk has little space, none, and much again.

system('mount', '-o', 'remount,size=12m', $disk);
ok(wait_for(sub { text('warnings') =~ /^the disk has [\d.]+ MiB left/ }, 20),
   'that little is left is said') or diag(text('warnings'));

my ($n) = $s->fill_disk($disk, sub { $s->put("full$_[0]", 'x' x 200_000) });
cmp_ok($n, '>', 3, 'the disk gets full');
shows('disk full', 'warn');
good_to_read('disk full', '"#state"');
system('mount', '-o', 'remount,size=2g', $disk);
ok(wait_for(sub { $s->healthy }, 20), 'it has space again');
shows('ready', 'good');
ok(wait_for(sub { text('warnings') !~ /the disk/ }, 20), 'and much of it')
    or diag(text('warnings'));

# Descriptors lack, and do not any more.

$s->fault(open => 24);
ok((grep { $s->put("more$_", 'x' x 200_000)->{status} == 503 } 1 .. 40),
   'a write is refused');
shows('refusing', 'warn');
$s->fault(open => undef);
ok(wait_for(sub { $s->healthy }, 20), 'it is not refused any more');
shows('ready', 'good');

# A worker dies in the middle of a change, while no file can be opened.

sub die_at {
    my ($point) = @_;
    write_file("$s->{dir}/point.new", "$point 1\n");
    rename("$s->{dir}/point.new", "$s->{dir}/point") or die;
    $s->put('dies', 'x' x 100, soft => 1);
}

$s->fault(open => 24);
die_at('HEAP_ALLOC');
shows('recovering', 'warn');
$s->fault(open => undef);
ok(wait_for(sub { $s->healthy }, 20), 'it is rebuilt');
shows('ready', 'good');
like(text('warnings'), qr/1 time the zone was rebuilt.*workers die in the/,
     'which it warns of, in the words of the manual');

# The other store, which is well, and has nothing to list.

$b->js('document.querySelectorAll("nav button")[1].click()');
ok($b->until('document.getElementById("state-store").textContent === "second"',
             10), 'another store');
ok($b->js('document.getElementById("list").disabled'), 'has no list');
like(text('keys-off'), qr/list=on/, 'and says why');
is(text('warnings'), 'None.', 'it is well');
ok(wait_for(sub {
    $s->http(PUT => '/second-kv/a', body => 'x' x 15_000);
    return text('warnings') =~ /^\d+ tr(?:y|ies) to archive failed, since/;
}, 20), 'its archive has no space, which is warned of')
    or diag(text('warnings'));
like(text('warnings'), qr/the archive's disk is full/, 'with what that means');
write_file("$s->{dir}/locked", '');
ok($b->until('document.title === "not allowed: second - kv"', 10),
   'it may not be read any more');
like(text('state-why'), qr{^/second is answered with 403: this browser may not},
     'which is said');
unlink "$s->{dir}/locked";
$b->js('document.querySelectorAll("nav button")[0].click()');
shows('ready', 'good');

# A sync fails: this lasts.

$s->fault(fdatasync => 1);
is($s->put('a', 'x')->{status}, 503, 'a sync fails');
$s->fault(fdatasync => undef);
shows('read-only', 'bad');
good_to_read('read-only', '"#state"');
$b->look(width => 375, height => 800);
shot('read-only-on-a-phone');
$b->look(width => 1280, height => 900);

# nginx is down, and is back.

$s->stop;
shows('no answer', 'bad');
like(text('state-why'), qr{^/stats is not answered}, 'it says what it saw');
$s->start;
shows('ready', 'good');
isnt(now('Requests')->{'2xx, 3xx'}, undef, 'the charts go on');

# The log is gone when a worker dies.

unlink glob "$s->{path}/{log,snap,spare}-*";
die_at('HEAP_ALLOC');
shows('failed', 'bad');

is_deeply([ sort keys %shown ], [ sort keys %told ], 'each state was shown');
is_deeply([ grep { !/40[34]|503|ERR_CONNECTION/ } $b->said ], [],
          'no other error');

undef $b;
$s->done;

done_testing();
