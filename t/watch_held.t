# Watches that come while the zone cannot be read: no browser's stream ends for
# good because of that.

use strict;
use warnings;

use Errno qw(EMFILE);
use Test::More;

use KV::Stream;
use KV::Test;

KV::Test::with_failpoints();

my $s = KV::Test->new(zone => '32m', fault => 1,
                      kv => 'feed=64k segment=1m max_value=256k snapshot=off',
                      server => 'location = /watch { kv_watch main; }');

$ENV{KV_FAILPOINT_DIR} = $s->{dir};
$s->expect_log(qr/exited on signal 9|cannot be rebuilt/);
$s->start;

sub version { my $v = $_[0]{headers}{etag} // ''; $v =~ s/"//g; return $v }

# The committer dies, and no file can be opened for a rebuild.

sub breaks {
    my ($key) = @_;
    my $c = $s->connect;

    $s->fault(hold => '1 /log-');
    $c->send(KV::Conn::request(PUT => "/kv/$key", body => 'x'));
    $s->held or die "it is not synced\n";
    $s->fault(open => EMFILE);
    write_file("$s->{dir}/point.new", "APPLYING 1\n");
    rename("$s->{dir}/point.new", "$s->{dir}/point") or die;
    $s->fault(hold => undef);
    ok(wait_for(sub { (eval { $s->store->{state} } // '') eq 'recovering'
                      && $s->workers == 2 }, 10), "$key: the zone breaks");
}

# Watches that come now, on each worker; some go on behind a version.

sub come {
    my ($id) = @_;
    my @w = map { KV::Stream->new($s, later => 1, id => $_ % 2 ? $id : undef) }
                0 .. 9;

    ok($s->has_read && $s->idle, 'watches come');
    return \@w;
}

sub statuses {
    my ($w) = @_;
    my @got = map { my $got = $_; join ' ', map { $w->[$_]->status }
                    grep { $_ % 2 == $got } 0 .. 9 } 0, 1;
    return "now: $got[0], go on: $got[1]";
}

my $ok = join ' ', (200) x 5;
my $refused = join ' ', (503) x 5;


# until it is rebuilt

my $id = version($s->put('a', 'x'));
breaks('b');
my $w = come($id);
$s->fault(open => undef);
is(statuses($w), "now: $ok, go on: $ok", 'they begin when it is rebuilt');
$s->put('c', 'x');
is($w->[0]->take(1), 'put c', 'now');
is($w->[1]->take(2), 'put b, put c', 'behind the version');
my $is;
ok(wait_for(sub { ($is = $s->store->{watching}) == 10 }, 10), 'ten watch')
    or diag($is);


# until the workers are to end

$w = undef;
breaks('d');
$w = come($id);
my @old = $s->workers;
kill('QUIT', @old);
is(statuses($w), "now: $refused, go on: $ok", 'the workers quit');
is($w->[1]{r}{body}, ": not yet\nretry: 1000\n\n", 'they connect again');
is($w->[1]{r}{headers}{'content-type'}, 'text/event-stream', 'its type');

ok(wait_for(sub { my %is = map { $_ => 1 } $s->workers;
                  keys %is == 2 && !grep { $is{$_} } @old }, 20),
   'others take their places');
$w = come($id);
splice @$w, 0, 2;
$s->fault(open => undef);
ok(wait_for(sub { ($is = $s->store->{watching}) == 8 }, 10),
   'those that have left do not watch') or diag($is);


# if it has failed

$w = undef;
breaks('e');
$w = come($id);
my ($segment) = sort glob "$s->{path}/log-*.kvl";
open(my $f, '+<:raw', $segment) or die "$segment: $!";
seek($f, 0, 0);
print $f 'x' x 4096;
close $f or die;
$s->fault(open => undef);
is(statuses($w), "now: $refused, go on: $refused", 'if it cannot be rebuilt');
is(KV::Stream->new($s, id => $id)->status, 503, 'nor later');
is($s->store->{state}, 'failed', 'it has failed');

$s->done;

done_testing();
