# A body that another part of nginx has read, and changes while the write of it
# waits for memory: what is stored is the value that was sent, or nothing.
#
# No module of nginx's own does that, but others may (lua-nginx-module has
# ngx.req.set_body_data()): here it is t/lib/change.c.

use strict;
use warnings;

use Digest::SHA qw(sha256_base64);
use Test::More;
use Time::HiRes qw(sleep);

use KV::Test;

my $module = $ENV{KV_MODULE} // '.build/ngx_http_kv_module.so';
my ($tree) = $module =~ m{^(.*)/}s ? "$1/nginx-src" : '';
plan(skip_all => 'no module of another can be built for this nginx')
    if !-e "$tree/objs/ngx_auto_config.h";

my $s = KV::Test->new(fault => 1, workers => 1, zone => '16m',
                      kv => 'segment=2m max_value=1m',
                      main => 'load_module %%dir%%/change.so;',
                      server => 'client_body_buffer_size 1m;
                                 location = /held { mirror /kv/copy;
                                                    change_held; }
                                 location = /now { change_now; }');

system($ENV{CC} || 'cc', qw(-O1 -shared -fPIC), "-I$tree/objs",
       (map { "-I$_" } grep { -d } glob "$tree/src/* $tree/src/*/*"),
       '-o', "$s->{dir}/change.so", 't/lib/change.c') == 0
    or die "change.c cannot be compiled\n";
$s->start;

# Full but for some pages, and for what one key has, which goes.

my $value = value('copy', 1, 600_000);
is($s->put('big', value('big', 1, 900_000))->{status}, 200, 'one large value');
my $n = 0;
$n++ while $s->put("k$n", 'x' x 100_000)->{status} == 200;
$s->del("k$_") for 0, 1;       # that it is full is not remembered

# A write that waits for memory for some seconds gets a 507, or at once if there
# was none for another just before: on a machine that stood still for so long,
# it is done once more.

for my $changed (0, 1) {
    my $name = $changed ? 'changed' : 'not changed';
    my $full = sub { $s->store->{zone}{refused} };
    my $said = sub { $s->log =~ /the request body was changed/ };

    for my $try (1 .. 5) {
        my $before = $full->();
        my $asked = $s->store->{commit}{reserves};

        $s->fault(hold => 1);
        my $delete = $s->written(DELETE => '/kv/big');

        my $held = $s->connect;
        $held->send(KV::Conn::request(PUT => '/held', body => $value,
            headers => [ 'Content-Digest: sha-256=:'
                         . sha256_base64($value) . '=:' ]));
        ok($s->has_read && $s->healthy, "$name: a body was read");
        is($s->http(GET => '/now')->{status}, 204, "$name: it is cut in half")
            if $changed;
        is($s->get('copy')->{status}, 404, "$name: its write waits");
        $s->fault(hold => undef);

        is($delete->response('DELETE')->{status}, 200,
           "$name: there is memory");
        ok(wait_for(sub { $full->() > $before || $changed && $said->()
                          || $s->get('copy')->{status} == 200 }, 10),
           "$name: the write ends");
        my $late = $full->() > $before;

        if (!$late && $changed) {
            ok($said->(), "$name: it is refused, and the log says so");
            is($s->get('copy')->{status}, 404, "$name: nothing is stored");
        } elsif (!$late) {
            ok($s->get('copy')->{body} eq $value, "$name: it is stored whole");
        }

        is($s->http(GET => '/now')->{status}, 204, "$name: and answered")
            if !$changed;
        is($held->response('PUT')->{status}, 204, "$name: both are answered");
        cmp_ok($s->store->{commit}{reserves}, '>', $asked,
               "$name: it did wait") if !$late;

        $s->del('copy');
        is($s->put('big', value('big', 1, 900_000))->{status}, 200,
           "$name: the large value is back");
        last if !$late;

        # for a second it is remembered that there was no memory

        sleep(1.5);
        fail("$name: it waited for too long, 5 times") if $try == 5;
    }
}

# ---- a body that is changed while it is read

# Half of a batch is a batch.

{
    my $half = qq({"key":"half","value":"v"}\n);
    my $r = $s->http(POST => '/batch', body => $half x 2,
                     headers => ['Change: 1']);
    is("$r->{status} $r->{body}", "400 invalid request body\n",
       'half of a batch is refused');
    $s->put('other', 'x');
    is($s->get('half')->{status}, 404, 'and not done');

    $r = $s->http(PUT => '/kv/half', body => $half x 2,
                  headers => ['Change: 1']);
    is("$r->{status} $r->{body}", "400 invalid request body\n",
       'half of a value is refused');
    is($s->get('half')->{status}, 404, 'and not stored');
}

$s->done;
done_testing();
