# GET /backup: what was answered before is in it, also under load; it is told
# from a file that was cut off or changed; it can be restored; and no client,
# however slow, and no death, keeps the log or the worker for it.

use strict;
use warnings;

use POSIX ();
use Test::More;
use Time::HiRes qw(time sleep);

use KV::Frames;
use KV::Inspect;
use KV::Test;
use KV::Util qw(free_port);


my $s = KV::Test->new(zone => '96m', slow => free_port(), h2 => free_port(),
                      kv => 'segment=1m snapshot=1m max_value=512k',
                      main => 'error_log %%dir%%/info.log info;',
                      servers => 'server {
                          listen 127.0.0.1:%%slow%% sndbuf=32k;
                          location = /backup { kv_backup main hold=8m; }
                          location = /limited { kv_backup main;
                                                limit_rate 200k; }
                          location = /soon { kv_backup main;
                                             send_timeout 3s; }
                      }
                      server {
                          listen 127.0.0.1:%%h2%% http2 sndbuf=32k;
                          location = /backup { kv_backup main; }
                      }');
$s->expect_log(qr/worker process \d+ exited on signal 9/);
$s->start;

my $file = "$s->{dir}/backup.kvb";
my $n = 0;


# A whole backup, in the file.

sub backup {
    my $r = $s->http(GET => '/backup');
    write_file($file, $r->{body});
    return $r;
}

# A server that has what is restored from the file.

sub restored {
    my $dir = "$s->{dir}/restored" . ++$n;
    my ($status, undef, $said) = inspect('restore', $file, $dir);
    is($status, 0, 'it is restored') or diag($said);
    my $other = KV::Test->new(zone => '96m', path => $dir,
                              kv => 'max_value=512k');
    return $other->start;
}

sub under_way { $s->store->{backups}{running} }

# A client that reads nothing of a backup, which has begun, and is larger than
# what the kernel takes of it.

sub reads_nothing {
    my $c = KV::Conn->new(port => $s->{slow});
    $c->send(KV::Conn::request(GET => '/backup'));
    $c->ready(0, 20) or die "no backup in time\n";
    return $c;
}

# What comes of it, to its end: how much is missing.

sub missing {
    my ($c) = @_;
    $c->fill while !$c->{eof} && $c->ready(0, 10);
    my ($head) = $c->{in} =~ m{\A(HTTP/1.1 200 .*?\r\n\r\n)}s or die $c->{in};
    my ($len) = $head =~ /Content-Length: (\d+)/ or die $head;
    return $len + length($head) - length $c->{in};
}


# ---- the request

is($s->http(PUT => '/backup', body => 'x')->{status}, 405, 'PUT is refused');
is($s->http(DELETE => '/backup')->{headers}{allow}, 'GET, HEAD',
   'it says which methods there are');
is($s->http(GET => '/backup?all=1')->{body}, "a backup takes no arguments\n",
   'arguments are refused');
is($s->http(HEAD => '/backup')->{status}, 200, 'HEAD makes none');
is($s->store->{backups}{completed} + $s->store->{backups}{failed}, 0,
   'none was made by these');

for (['hold=512k', qr/takes hold=, from 1m on/],
     ['hold=x', qr/takes hold=/], ['keep=1m', qr/takes hold=/])
{
    my ($option, $re) = @$_;
    my $bad = KV::Test->new(server => "location = /b { kv_backup main "
                                      . "$option; }");
    like($bad->test_config, $re, "$option is refused");
}


# ---- what is in it

is($s->put('a', 'first')->{status}, 200, 'a value');
my $r = backup();
my $lsn = sprintf '%016x', $s->store->{log}{next_lsn} - 1;
is($r->{status}, 200, 'a backup of it');
is($r->{headers}{'content-type'}, 'application/octet-stream', 'is no text');
like($r->{headers}{'content-disposition'},
     qr/^attachment; filename="main-$lsn-\d{8}T\d{6}Z\.kvb"$/,
     'its name has LSN and time');
like($r->{headers}{'kv-version'}, qr/^1-[0-9a-f]+$/, 'and its version');
is($s->store->{backups}{completed}, 1, 'it is counted');
is((inspect('check', $file))[0], 0, 'it is good');

{
    my $other = restored();
    is($other->get('a')->{body}, 'first', 'the value is there');
    isnt($other->get('a')->{headers}{etag}, $s->get('a')->{headers}{etag},
         'versions begin anew');
    is($other->put('b', 'second')->{status}, 200, 'it can be written to');
    $other->stop('KILL');
    $other->start;
    is($other->get('b')->{body}, 'second', 'and that stays');
    $other->done;
}


# a file that is not as it was sent

for my $change (['cut off', sub { substr $_[0], 0, -1 }],
                ['cut in half', sub { substr $_[0], 0, length($_[0]) / 2 }],
                ['empty', sub { '' }],
                ['longer', sub { "$_[0]\0" }],
                ['changed', sub { my $at = length($_[0]) - 100;
                                  substr($_[0], $at, 1) ^= "\1"; $_[0] }])
{
    my ($what, $how) = @$change;
    write_file("$file.bad", $how->($r->{body}));
    my ($status, undef, $said) = inspect('check', "$file.bad");
    isnt($status, 0, "one that is $what is refused");
    is(() = $said =~ /\Q$file.bad\E/g, 1, 'by its name');
    ($status, undef, $said) = inspect('restore', "$file.bad", "$s->{dir}/none");
    isnt($status, 0, 'and not restored');
    is(() = $said =~ /\Q$file.bad\E/g, 1, 'by its name');
    ok(!-e "$s->{dir}/none", 'there is nothing of it');
}

my ($status, undef, $said) = inspect('restore', $file, $s->{path});
isnt($status, 0, 'a directory that is not empty is refused');
like($said, qr/not empty/, 'as such');


# ---- under load

# Writers, each of keys of its own, one after the other, again and again.  What
# was answered is in a file.

my ($WRITERS, $KEYS) = (4, 150);
my @writers;

for my $w (1 .. $WRITERS) {
    my $pid = fork // die "fork: $!";
    push @writers, $pid;
    next if $pid;

    my $stop;
    local $SIG{TERM} = sub { $stop = 1 };
    my $c = $s->connect;
    open(my $told, '>', "$s->{dir}/told$w") or POSIX::_exit(1);
    $told->autoflush;

    for (my $i = 1; !$stop; $i++) {
        my $key = "w$w:" . $i % $KEYS;
        my $len = $i % 20 ? 100 + $i % 3000 : 100_000;
        $c->send(KV::Conn::request(PUT => "/kv/$key",
                                   body => KV::Util::value($key, $i, $len)));
        my $answer = eval { $c->response };
        POSIX::_exit(2) if !$stop && (!$answer || $answer->{status} != 200);
        print $told "$i\n" if $answer;
    }

    POSIX::_exit(0);
}

# The last of its writes that was answered.

sub told {
    my ($w) = @_;
    my @told = split /\n/, eval { read_file("$s->{dir}/told$w") } // '';
    pop @told if @told && $told[-1] eq '';
    return $told[-1] // 0;
}

# What is wrong with the keys of a writer, that did `least` writes before: they
# are to be what its first writes left, of whatever number.

sub wrong {
    my ($other, $w, $least) = @_;
    my $c = $other->connect;
    my @seq;

    for my $k (0 .. $KEYS - 1) {
        $c->send(KV::Conn::request(GET => "/kv/w$w:$k"));
        my $r = $c->response;
        $seq[$k] = $r->{status} == 200
                   ? KV::Util::check_value("w$w:$k", $r->{body}) // -1 : 0;
        return "key $k is torn" if $seq[$k] < 0;
    }

    my ($last) = sort { $b <=> $a } @seq;
    return "the last is $last, not $least" if $last < $least;

    for my $k (0 .. $KEYS - 1) {
        my $is = $last - ($last - $k) % $KEYS;
        $is = 0 if $is < 0;
        return "of $last, key $k is $seq[$k], not $is" if $seq[$k] != $is;
    }

    return;
}

for my $round (1 .. 2) {
    my $snapshots = $s->store->{snapshots}{completed};
    wait_for(sub { $s->store->{snapshots}{completed} > $snapshots
                   && !grep { told($_) < 2 * $KEYS } 1 .. $WRITERS }, 60)
        or die "no load\n";

    my @before = map { told($_) } 1 .. $WRITERS;
    is(backup()->{status}, 200, "a backup under load, $round");
    is((inspect('check', $file))[0], 0, 'it is good');

    my $other = restored();
    is_deeply([ map { wrong($other, $_, $before[$_ - 1]) } 1 .. $WRITERS ], [],
              'it has all that was answered before, and nothing half');
    $other->done;
}

my $refused = 0;
kill('TERM', $_) for @writers;
waitpid($_, 0) == $_ && $? && $refused++ for @writers;
is($refused, 0, 'no write was refused');


# ---- clients

# Values that fill what is sent at a time, and the kernel's buffers.

my $noise = join '', map { chr int rand 256 } 1 .. 400_000;

sub fill {
    my ($round) = @_;

    for (1 .. 40) {
        $s->put("big$_", "$round $_ $noise")->{status} == 200
            or die "no space for it\n";
    }
}

fill(0);

# one that is limited

{
    my $c = KV::Conn->new(port => $s->{slow});
    $c->send(KV::Conn::request(GET => '/limited'));
    wait_for(sub { under_way() == 1 }, 10);
    wait_for(sub { $c->fill; length $c->{in} > 250_000 }, 20);
    cmp_ok(length $c->{in}, '<', 3_000_000, 'limit_rate slows it down');
    is(under_way(), 1, 'it goes on');
    $c->close;
    ok(wait_for(sub { under_way() == 0 }, 10), 'a client that leaves ends it');
}

# one that takes it drop by drop, each in time, and so would never end

{
    my $failed = $s->store->{backups}{failed};
    my $pid = fork // die "fork: $!";

    if ($pid == 0) {
        my ($c, $n, $got) = (KV::Conn->new(port => $s->{slow}), 0, 1);
        $c->{sock}->blocking(1);
        $c->send(KV::Conn::request(GET => '/soon'));
        while ($n < 3_000_000
               && ($got = sysread($c->{sock}, my $drop, 1200)))
        {
            $n += $got;
            sleep(0.02);
        }
        POSIX::_exit($got ? 1 : 0);
    }

    ok(wait_for(sub { $s->store->{backups}{failed} > $failed }, 20),
       'a client that drips is cut off');
    waitpid($pid, 0);
    is($?, 0, 'and sees it, before the end');
    ok(wait_for(sub { under_way() == 0 }, 20), 'it is over');
}

# too many

my @slow = map { reads_nothing() } 1 .. 4;
is(under_way(), 4, 'four at a time');
$r = $s->http(GET => '/backup');
is($r->{status}, 503, 'a fifth one is refused');
is($r->{body}, "too many backups at a time\n", 'as such');
is($r->{headers}{'retry-after'}, 1, 'it may come again');
$_->reset for splice @slow, 1;
ok(wait_for(sub { under_way() == 1 }, 20), 'three have left');

# too slow: the log goes on without it

my $failed = $s->store->{backups}{failed};
fill($_) for 1 .. 3;
ok(wait_for(sub { fill(4); $s->log =~ /a backup was cut short/
                  || missing($slow[0]) }, 60),
   'a client that reads too slowly');
cmp_ok(missing($slow[0]), '>', 0, 'is cut off before the end');
ok(wait_for(sub { under_way() == 0 }, 20), 'it is over');
like($s->log, qr/a backup was cut short: its client was so slow/,
     'the log says why');
cmp_ok($s->store->{backups}{failed}, '>', $failed, 'it is counted');
my @segments;
ok(wait_for(sub { (@segments = glob("$s->{path}/log-*.kvl")) < 100 }, 20),
   'the log was given up as ever') or diag(scalar @segments, ' segments');
is(backup()->{status}, 200, 'another one');
is((inspect('check', $file))[0], 0, 'is whole');

# over HTTP/2

SKIP: {
    skip 'this nginx does not speak HTTP/2', 2
        if qx(@{[ KV::Test::nginx() ]} -V 2>&1) !~ /http_v2_module/;
    skip 'this curl does not speak HTTP/2', 2 if qx(curl -V) !~ /HTTP2/;

    system('curl', '-sf', '--http2-prior-knowledge', '-o', $file,
           "http://127.0.0.1:$s->{h2}/backup");
    is($?, 0, 'over HTTP/2');
    is((inspect('check', $file))[0], 0, 'it is whole, too');
}


# ---- deaths

# a worker

{
    my $c = reads_nothing();
    kill('KILL', $s->workers);
    cmp_ok(missing($c), '>', 0, 'a worker dies: the client sees it');
    ok(wait_for(sub { $s->put('x', 'y', soft => 1)->{status} == 200
                      && under_way() == 0 }, 20), 'nothing is held for it');
    is(backup()->{status}, 200, 'the next one');
    is((inspect('check', $file))[0], 0, 'is whole');
}

# a reload

{
    my $c = reads_nothing();
    ok(defined $s->reload, 'a reload ends it: the old workers are gone');
    cmp_ok(missing($c), '>', 0, 'the client sees it');
    ok(wait_for(sub { under_way() == 0 }, 20), 'nothing is held for it');
}

# a reload, while a client takes its time for the answer that there is none: of
# a log in which the disk forgot something, and knew it again

{
    my $other = KV::Test->new(zone => '32m',
                              kv => 'segment=1m max_value=512k',
                              server => 'location = /dripped {
                                             kv_backup main; limit_rate 1; }');
    $other->start;
    $other->put('lost', 'what the disk forgets');

    my ($segment) = glob("$other->{path}/log-*.kvl");
    my $at = index read_file($segment), 'forgets';
    open(my $f, '+<', $segment) or die "$segment: $!";
    sysseek($f, $at, 0) && syswrite($f, 'FORGETS') or die "$segment: $!";

    my $c = $other->connect;
    $c->send(KV::Conn::request(GET => '/dripped'));
    $other->expect_log(qr/there is no backup/);
    ok(wait_for(sub { $other->log =~ /there is no backup/ }, 20),
       'a damaged log is refused');
    sysseek($f, $at, 0) && syswrite($f, 'forgets') or die "$segment: $!";

    # the one that serves it stays; the others are gone at once

    my @old = $other->workers;
    kill('HUP', $other->{pid});
    ok(wait_for(sub { grep { (eval { read_file("/proc/$_/cmdline") } // '')
                             =~ /shutting down/ } @old }, 20),
       'the worker is to go');
    $c->close;
    ok(wait_for(sub { !grep { kill(0, $_) } @old }, 20),
       'it goes with its client');
    $other->done;
}

# a stop

{
    my $c = reads_nothing();
    is($s->stop('QUIT'), 0, 'a quit ends it');
    cmp_ok(missing($c), '>', 0, 'the client sees it');
}

$s->start;
my $last = reads_nothing();
$s->done;
cmp_ok(missing($last), '>', 0, 'so does a stop');

done_testing();
