# An EventSource in a browser, by the example of src/http/README.md as it stands
# there: workers die, nginx dies, is reloaded and refuses for a while, and
# clients write all the time.  The page sees each change once, in the order of
# the log, but for those before a list that a 410 made it take, and ends with
# the state that a list has.

use strict;
use warnings;

use JSON::PP ();
use Test::More;

use KV::Browser;
use KV::Changes;
use KV::Pages;
use KV::Test;

plan(skip_all => 'Chromium is not installed') if !KV::Browser::program();

my $SEED = $ENV{KV_SEED} || 1 + int rand 1_000_000;

srand($SEED);

my $s = KV::Test->new(kv => 'list=on feed=256k',
                      server => 'location = /keys { kv_keys main; }
                                 location = /watch {
                                     kv_watch main;
                                     if (-f %%dir%%/refuse) { return 503; }
                                 }
                                 location /page/ { root %%dir%%; }');
$s->expect_log(qr/worker process \d+ exited on signal 9/);
$s->start;

# All that the page is told, and what its EventSources meet.

mkdir "$s->{dir}/page";
write_file("$s->{dir}/page/follow.js",
           page_block('src/http/README.md', 'js', 'EventSource'));
write_file("$s->{dir}/page/index.html", <<'END');
<!DOCTYPE html>
<title>follows</title>
<link rel="icon" href="data:,">
<script>
const told = [], sources = { opened: 0, broken: 0, closed: 0 };

window.EventSource = class extends EventSource {
    constructor(address) {
        super(address);
        this.addEventListener('open', () => sources.opened++);
        this.addEventListener('error', () => {
            if (this.readyState === EventSource.CLOSED) sources.closed++;
            else sources.broken++;
        });
    }
};
</script>
<script src="follow.js"></script>
<script>
const copy = follow('a:', (event, entry) => {
    told.push([event, entry ? entry.version : undefined,
               entry ? entry.key : undefined]);
});
</script>
END


my $browser = KV::Browser->new;
my $marks = 0;

sub page { return JSON::PP::decode_json($browser->js("JSON.stringify($_[0])")) }

# Something is written that the page is then told of, or has from a list.

sub is_followed {
    my ($what) = @_;
    my $follows = wait_for(sub {
        my $mark = 'a:mark' . ++$marks;
        $s->put($mark, 'x', soft => 1)->{status} == 200 or return;
        return $browser->until("copy.has('$mark') || "
                               . "told.some((t) => t[2] === '$mark')", 0.9);
    }, 20);

    ok($follows, "$what: the page goes on")
        or diag("seed $SEED: ", $browser->js('JSON.stringify(sources)'));
}

sub lists { return page('told.filter((t) => t[0] === "list").length') }

# So many errors of this kind are seen more than there were.

sub see {
    my ($kind, $n, $seconds) = @_;
    return $browser->until("sources.$kind > $n", $seconds);
}

sub all_there { return wait_for(sub { $s->workers == 2 && $s->healthy }, 20) }


my $log = KV::Changes::follow($s->{path});
$s->put("a:$_", "before $_") for 1 .. 50;
my @clients = map { KV::Changes::client($s, $_, $SEED, 0.015) } 1, 2;
$browser->open("http://127.0.0.1:$s->{port}/page/index.html");
is_followed('at first');


# one worker dies: that which has the stream

{
    my ($before, $found) = page('sources')->{broken};

    for my $worker ($s->workers) {
        kill('KILL', $worker);
        last if $found = see('broken', $before, 0.3);
        all_there();
    }
    ok($found || see('broken', $before, 10),
       'a worker dies: its stream breaks');
    ok(all_there(), 'a worker dies: another comes');
    is_followed('a worker dies');
}


# all of nginx dies, so that it cannot be connected to for a while

{
    my $before = page('sources')->{broken};
    $s->stop('KILL');
    ok(see('broken', $before, 10), 'nginx dies: the stream breaks');
    $s->start;
    is_followed('nginx dies');
}


# The workers die, and it is refused for a while: the browser gives up.

{
    my $lists = lists();
    my $before = page('sources')->{closed};
    write_file("$s->{dir}/refuse", '');
    kill('KILL', $s->workers);
    ok(see('closed', $before, 20), 'refused: the browser gives up');
    ok(all_there(), 'refused: nginx is there');
    unlink "$s->{dir}/refuse";
    is_followed('refused');
    is(lists(), $lists,
       'refused: without another list');
}


# A reload, which ends the stream; before the browser connects again, as it does
# after a second, what it has is not in the feed any more: so it is stopped.

{
    my $lists = lists();
    my $before = page('sources')->{broken};
    my @old = $s->workers;
    my $many = join '', map {
        qq({"key":"c:$_@{[ 'x' x 500 ]}","value":"x"}\n)
    } 1 .. 600;

    $browser->stop;
    kill('HUP', $s->{pid});
    ok(wait_for(sub {
        my %is = map { $_ => 1 } $s->workers;
        return !grep { $is{$_} } @old;
    }, 20), 'a reload: the old workers end, and do not wait for the page');
    is($s->http(POST => '/bulk', body => $many)->{status}, 200,
       'a reload: there are more changes than the feed has');
    $browser->go_on;

    ok(see('broken', $before, 10), 'a reload: the stream has ended');
    is_followed('a reload');
    cmp_ok(lists(), '>', $lists, 'a reload: it lists what it has missed');
}


# The end: clients stop, and all that expires has.

$_->stop for @clients;
ok(wait_for(sub { $s->store->{expiring} == 0 }, 20), 'nothing is to expire');
is_followed('the end');

my $is = page('[...copy.values()].map((e) => [e.key, e.value]).sort()');
my $list = JSON::PP::decode_json($s->http(GET => '/keys?prefix=a:&values=1'
                                                 . '&format=json')->{body});
is_deeply($is, [ sort { $a->[0] cmp $b->[0] }
                 map { [ @$_{qw(key value)} ] } @{$list->{keys}} ],
          'it has what a list has');

my $end = $s->store->{log}{next_lsn} - 1;
my @told = @{page('told')};
my $sources = page('sources');
is_deeply([ grep { !/ERR_|50[0-9]|410/ } $browser->said ], [],
          'no other error');
undef $browser;
$s->done;


# Each change once, in the order of the log, behind the version of each list.

my @log = grep { !defined $_->[2] || $_->[2] =~ /^a:/ }
               KV::Changes::until($log, $end);
my ($next, $lists, $seen, @wrong) = (0, 0, 0);

for my $t (@told) {
    my ($what, $version, $key) = @$t;
    my $lsn = hex $version =~ s/-.*//r;

    if ($what eq 'list') {
        $lists++;
        push @wrong, "a list of $lsn behind $log[$next - 1][0]"
            if $next && $log[$next - 1][0] > $lsn;
        $next++ while $next < @log && $log[$next][0] <= $lsn;
        next;
    }

    my ($is, $expected) = map { join ' ', map { $_ // '-' } @$_[0 .. 2] }
                          [ $lsn, $what, $key ], $log[$next++] // [ 'none' ];
    push @wrong, "$is, not $expected" if $is ne $expected;
    $seen++;
}

is($next, @log, 'it has seen all');
is(scalar @wrong, 0, 'each change once, in the order of the log')
    or diag("seed $SEED: ", join "\n", splice @wrong, 0, 10);
cmp_ok($seen, '>', 300, 'there were many');
for my $what (qw(put delete expire clear)) {
    ok((grep { $_->[1] eq $what } @log), "there was: $what");
}
note("seed $SEED: $seen changes seen, $lists lists, ",
     join ', ', map { "$_ $sources->{$_}" } sort keys %$sources);

done_testing();
