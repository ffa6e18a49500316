# What has come of lines, of batches and bulk loads: it is never done if the
# client stops half way, and all of it together takes a bounded share of the
# worker's memory, however short it is.

use strict;
use warnings;

use MIME::Base64 qw(encode_base64);
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep);

use KV::Frames;
use KV::Test;

# as many open files as we may have

if (POSIX::sysconf(POSIX::_SC_OPEN_MAX()) < 3600) {
    plan(skip_all => 'needs more than 3,600 open files; see ulimit -Hn')
        if $ENV{KV_RAISED}++;
    exec('sh', '-c', 'ulimit -n $(ulimit -Hn); exec "$@"', 'sh', $^X,
         '-It/lib', $0);
}

my $s = KV::Test->new(workers => 1, zone => '32m', kv => 'max_value=1m',
                      connections => 4096,
                      servers => 'server { listen 127.0.0.1:%%h2%% http2;
                          location = /batch { kv_batch main; }
                          location = /bulk { kv_bulk main; } }');
$s->{h2} = free_port();
$s->start;

my $line = qq({"key":"cut","value":"v"}\n);


# ---- clients that stop half way

# What comes is good as it is: a whole line, without which the rest is one, too.

sub is_none {
    my ($name) = @_;
    $s->put('other', 'x');
    is($s->get('cut')->{status}, 404, $name);
}

for my $how (qw(close shutdown reset)) {
    for my $head ('Content-Length: ' . 2 * length $line,
                  'Transfer-Encoding: chunked')
    {
        my $c = $s->connect;
        my $body = $head =~ /chunked/ ? sprintf "%x\r\n%s\r\n", length $line,
                                                $line : $line;
        $c->send("POST /batch HTTP/1.1\r\nHost: x\r\n$head\r\n\r\n$body");
        ok($s->has_read, "$how: half a body, $head");

        if ($how eq 'shutdown') {
            shutdown($c->{sock}, 1);
            my $r = eval { $c->response };
            isnt($r && $r->{status}, 200, 'it is not answered as if it were '
                 . 'whole');

        } else {
            $c->$how;
        }

        is_none('nothing of it is done');
    }
}

for my $how (qw(end reset)) {
    for my $length (2 * length $line, undef) {
        next if $how eq 'end' && !$length;
        my $h2 = KV::Frames->new(port => $s->{h2});
        my $status = 0;
        $h2->headers(0, 1, POST => '/batch',
                     $length ? ('content-length' => $length) : ());
        $h2->data(1, $line, $how eq 'end' ? KV::Frames::END_STREAM : 0);
        $h2->reset_stream(1) if $how eq 'reset';
        $h2->headers(0, 3, POST => '/batch');
        $h2->data(3, qq({"key":"second","value":"v"}\n),
                  KV::Frames::END_STREAM);
        $h2->read_until(sub {
            my ($f) = @_;
            $status = KV::Frames::status($f->{payload})
                if $f->{type} == KV::Frames::HEADERS && $f->{stream} == 3;
            return $f->{flags} & KV::Frames::END_STREAM && $f->{stream} == 3;
        });
        is($status, 200, "HTTP/2, $how: another stream is done");
        is_none('nothing of the one that was cut');
    }
}


# ---- many that are short

# Each takes less than counts as long; all of them would take 100 MB.

{
    my @half = map { "POST $_ HTTP/1.1\r\nHost: x\r\nContent-Length: 100000"
                     . "\r\n\r\n" . '{"key":"' . 'x' x 34_000 }
                   qw(/batch /bulk);
    my @c = map { $s->connect } 1 .. 2000;
    $c[$_]->send($half[$_ % 2]) for 0 .. $#c;
    ok($s->has_read, 'many short texts');
    sleep(1.1);              # none is too slow within a second
    push @c, map { $s->connect } 1 .. 1000;
    $c[$_]->send($half[$_ % 2]) for 2000 .. $#c;
    ok($s->has_read, 'and some more');

    my (%n, %slow);
    for (0 .. $#c) {
        next if !$c[$_]->ready(0, 0);
        my $status = $c[$_]->response->{status};
        $n{$status}++;
        $slow{$_ % 2}++ if $status == 408;
    }

    cmp_ok($n{408} // 0, '>', 100, 'of those that are slow some are given up');
    cmp_ok($n{408} // 0, '<', 1200, 'but not all');
    is(join(' ', sort keys %slow), '0 1', 'batches and loads');
    is(join(' ', grep { $_ != 408 } keys %n), '', 'and no other');
    is($s->http(POST => $_, body => $line)->{status}, 200,
       'one that is whole is done') for qw(/batch /bulk);
}

$s->done;


# ---- a batch that waits for memory reads its lines once more

# Their strings, which are long, are as they were sent; in the first, what is
# left of it when it is decoded is a string, too.

$s = KV::Test->new(fault => 1, workers => 1, zone => '8m',
                   kv => 'max_value=64k');
$s->start;

my @bytes = (join('/', 1 .. 100), "\"lines\"\n" x 100,
             join '', map { chr $_ % 256 } 1 .. 9_000);
my @text = ($bytes[0] =~ s{/}{\\/}gr,
            $bytes[1] =~ s/"/\\"/gr =~ s/\n/\\n/gr,
            encode_base64($bytes[2], ''));
my $value = 'v' x 10_000;
my $body = qq({"key":"k0","value":"$text[0]"}\n)
           . qq({"key":"k1","value":"$text[1]"}\n)
           . qq({"key":"k2","base64":"$text[2]"}\n)
           . join '', map { qq({"key":"x$_","value":"$value"}\n) } 1 .. 9;

# A batch goes on waiting if what is deleted at first is enough for one of its
# lines.  One that waits for some seconds gets a 507: where the machine stood
# still for so long, it is sent once more.

for my $try (1 .. 5) {
    my $n = 0;
    $s->put('large', 'v' x 60_000);
    $n++ while $s->put("f$n", $value)->{status} == 200;
    sleep(1.1);              # that it is full is remembered for a second

    $s->fault(hold => 1);
    my @c = $s->written(DELETE => '/kv/large');
    my $asked = $s->store->{commit}{reserves};
    push @c, $s->connect;
    $c[1]->send(KV::Conn::request(POST => '/batch', body => $body));
    ok($s->has_read, 'a batch has no memory');

    for my $i (0 .. 12) {
        push @c, $s->connect;
        $c[-1]->send(KV::Conn::request(DELETE => "/kv/f$i"));
    }

    ok($s->has_read, 'others delete');
    $s->fault(hold => undef);
    my $status = $c[1]->response->{status};
    $_->response for @c[0, 2 .. $#c];
    next if $status == 507 && $try < 5;

    is($status, 200, 'it is done');
    cmp_ok($s->store->{commit}{reserves}, '>', $asked, 'it did wait');
    ok($s->get("k$_")->{body} eq $bytes[$_], "k$_ is what was sent") for 0 .. 2;
    last;
}

$s->done;
done_testing();
