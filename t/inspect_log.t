# kv-inspect log: the records of a log, also while nginx writes it, recycles
# its segments, and dies.

use strict;
use warnings;

use List::Util qw(pairs);
use Test::More;
use Time::HiRes qw(time);

use KV::Inspect;
use KV::Test;

my $s = KV::Test->new(zone => '32m', fault => 1, location => 'kv_types *;',
                      kv => 'segment=128k max_value=16k snapshot=512k');
my $dir = $s->{path};

my $TIME = qr/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/;

sub records { return map { [ split ' ' ] } split /\n/, $_[0] }


# ---- what a line says

$s->start;
my $before = int(time * 1000);
$s->put('a', 'value');
$s->http(PUT => '/kv/b?ttl=1000', body => 'xy');
$s->http(POST => '/kv/b?ttl=0');
$s->del('a');
$s->clear;
is($s->http(POST => '/batch', body => join '', map
       { qq({"key":"batch$_","value":"x"}\n) } 1 .. 5)->{status}, 200, 'batch');
for (1, 9000) {
    $s->http(PUT => '/kv/b?ttl=1000', body => 'x' x $_);
    is($s->del('b', headers => [ 'Prefer: return=representation' ])->{status},
       200, 'a value is taken');
}
$s->put('t', 'x', headers => [ 'Content-Type: a/b; c="%"' ]);
$s->put('t', 'x', headers => [ 'Content-Type: a/b',
                               'Content-Encoding: gzip, br' ]);
$s->stop;

my ($rc, $out, $err) = inspect('log', $dir);
is($rc, 0, 'exit status');
is($err, '', 'no message');

my @records = records($out);
is_deeply([ map { $_->[0] } @records ], [ 1 .. 16 ], 'LSNs without gaps');
is(scalar(grep { $_->[1] =~ /^$TIME$/ } @records), 16, 'times');
is_deeply([ map { "@$_[3, 4, 5]" } @records[0 .. 4] ],
          [ 'put a 5', 'put b 2', 'touch b -', 'delete a -', 'clear - -' ],
          'operations, keys, bytes');
like($records[1][6], qr/^$TIME$/, 'when a key expires');
is($records[2][6], '-', 'a key that does so no longer');
is_deeply([ map { $_->[2] } @records[5 .. 9] ], [ ('6+5') x 5 ],
          'records of one batch');
is_deeply([ map { "@$_[3, 6]" } @records[11, 13] ], [ ('delete -') x 2 ],
          'what was taken did not expire');
is(scalar(grep { @$_ == 8 } @records), 16, 'eight fields');
is_deeply([ map { $_->[7] } @records ],
          [ ('-') x 14, 'a/b;%20c="%25"', 'a/b,gzip,%20br' ], 'types');

is_deeply([ map { $_->[0] } records((inspect('log', '--from', 4, $dir))[1]) ],
          [ 4 .. 16 ], '--from');
is((inspect('log', '--from=17', $dir))[1], '', '--from what is not there yet');

for my $from ('x', 0, -1, '', 1 << 48) {
    my ($rc, $out, $err) = inspect('log', '--from', $from, $dir);
    is($rc, 2, "--from '$from': exit status");
    like($err, $from eq '' ? qr/--from needs a value/
                           : qr/--from takes an LSN, .*, not "\Q$from\E"/,
         "--from '$from': says what it takes");
}

is((inspect('log', '--all', $dir))[0], 2, 'an option that there is not');


# ---- while it grows

$s->start;
my $run = inspect_begin('log', '--follow', $dir);

sub followed { return records(read_file($run->{out})) }

# Where it is stopped for long enough, on a busy machine, segments are written
# anew before it has read them: that it says.

sub gone {
    return map { ($_ => 1) } map { my ($from, $to) = @$_; $from .. $to }
           pairs(read_file($run->{err}) =~
               /the records from LSN (\d+) to (\d+) are not there any more/g);
}

sub follows {
    my ($name) = @_;
    my $last = $s->store->{log}{next_lsn} - 1;
    my $all = wait_for(sub {
        my @all = followed();
        @all && $all[-1][0] >= $last && \@all;
    }, 30);
    my %gone = gone();
    is_deeply([ map { $_->[0] } @{$all || []} ],
              [ grep { !$gone{$_} } 1 .. ($all ? $all->[-1][0] : 1) ], $name);
}

follows('what was there');
$s->put('more', 'x');
follows('one more');

# Through many segments, and snapshots that have old ones recycled.

for my $n (1 .. 200) {
    $s->put("n$n", 'x' x 12_000);
    next if $n % 20;
    my $last = $s->store->{log}{next_lsn} - 1;
    wait_for(sub { (followed())[-1][0] >= $last }, 30);
}
follows('segments later');

# A record is not shown while its sync has not ended.

$s->idle;
$s->fault(hold => 1);
my $c = $s->written(PUT => '/kv/held', body => 'x');
$s->held;
my $seen = (inspect('log', $dir))[1];
unlike($seen, qr/ put held /, 'in use: what is not durable is not shown');
unlike(read_file($run->{out}), qr/ put held /, 'nor by --follow');
$s->fault(hold => undef);
is($c->response->{status}, 200, 'it is acknowledged');
wait_for(sub { read_file($run->{out}) =~ / put held / }, 20);
follows('once it is durable');

# A death, and a new start.

$s->stop('KILL');
$s->start;
$s->put('again', 'x');
follows('after a kill');

# It was stopped for so long that records are gone.

kill STOP => $run->{pid};
my $first = $s->store->{log}{next_lsn};
wait_for(sub {
    $s->put("s$_", 'x' x 15_000) for 1 .. 50;
    my ($oldest) = sort grep { /^log-.*\.kvl$/ } keys %{list_dir($dir)};
    hex(($oldest =~ /log-(\w+)/)[0]) > $first + 60;
}, 60);
$s->idle;
kill CONT => $run->{pid};
my $last = $s->store->{log}{next_lsn} - 1;
wait_for(sub { (followed())[-1][0] == $last }, 20);

my ($status, undef, $said) = inspect_end($run, 'INT');
is($status, 'signal 2', 'SIGINT ends it');
my %gone = gone();
ok((grep { $_ > $first } keys %gone), 'it says what is gone') or diag($said);

my @all = map { $_->[0] } followed();
my %have = map { ($_ => 1) } @all;
is(scalar(grep { $all[$_] <= $all[$_ - 1] } 1 .. $#all), 0, 'in order, once');
is_deeply([ grep { !$have{$_} } 1 .. $last ],
          [ sort { $a <=> $b } keys %gone ],
          'and all that is not gone is there');


# ---- damage, and output that nobody takes

$s->stop;
my ($rc2, $full) = inspect('log', $dir);
is($rc2, 0, 'of a stopped server');

my @logs = sort grep { /^log-.*\.kvl$/ } keys %{list_dir($dir)};

SKIP: {
    skip 'one segment', 2 if @logs < 2;
    my $data = read_file("$dir/$logs[0]");
    my $copy = $data;
    substr($data, 4096 + 100, 1) ^= "\x01";
    write_file("$dir/$logs[0]", $data);
    my ($rc, $out, $err) = inspect('log', $dir);
    is($rc, 1, 'damage: exit status');
    like($err, qr/\Q$logs[0]\E:\ offset\ 4096:\ (?:no\ good\ batch\ with\ LSN
                  |the\ state\ of\ the\ replicated\ log)/x,
         'damage: says where');
    write_file("$dir/$logs[0]", $copy);
}

is((inspect_end(inspect_begin({ out => '/dev/full' }, 'log', $dir)))[0], 2,
   'a full output');

$s->done;
done_testing;
