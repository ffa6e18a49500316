# The life of the package: it serves, is upgraded under load together with
# nginx and by itself, removed, installed again, purged; the data stays.
#
# On a machine that may be thrown away, as root, after the commands that
# README.md gives for the package: .ci/package runs it there.

use strict;
use warnings;

use Test::More;

use KV::Conn;
use KV::Load;
use KV::Util;

plan(skip_all => 'for a machine that may be thrown away')
    unless $ENV{KV_THROWAWAY};

my $NAME = 'libnginx-mod-http-kv';
my $DATA = '/var/lib/nginx-kv';
my $SITE = '/etc/nginx/sites-enabled/kv';
my $AVAILABLE = '/etc/nginx/sites-available/kv';
my $MODULE = '/etc/nginx/modules-enabled/50-mod-http-kv.conf';
my $PORT = 8080;
my $SECOND = 8079;

my ($DEB) = glob ".build/${NAME}_*.deb";
my ($STREAM) = glob '.build/libnginx-mod-stream-kv_*.deb';
my $server = { port => $PORT };
my $ledger = KV::Ledger->new;

alarm(600);
$ENV{DEBIAN_FRONTEND} = 'noninteractive';


# What a command says; it must succeed.

sub says {
    my ($command) = @_;
    my $said = qx(($command) 2>&1 </dev/null);
    is($?, 0, $command) or diag($said);
    return $said;
}


sub apt {
    my ($what) = @_;
    return says("apt-get -y -q -o Dpkg::Use-Pty=0 $what");
}


# The status and the body, or nothing if the port is closed.

sub http {
    my ($method, $path, $body) = @_;
    my $c = KV::Conn->new(port => $PORT, soft => 1) or return;
    $c->send(KV::Conn::request($method, $path, body => $body));
    return $c->response($method);
}


sub master {
    my $pid = eval { read_file('/run/nginx.pid') } // return 0;
    return $pid =~ /^(\d+)$/ && -d "/proc/$1" ? $1 : 0;
}


sub serves {
    my ($what) = @_;
    ok(wait_for(sub { (http(GET => '/health') // { status => 0 })->{status}
                      == 200 }, 10), "$what: it serves");
}


# All that was ever acknowledged is there.

sub has_all {
    my ($what) = @_;
    my $found;
    my @lost = KV::Load->verify($server, $ledger, \$found);
    is("@lost", '', "$what: nothing acknowledged is lost");
    cmp_ok($found, '>', 0, "$what: there are values");
}


# Whether clients write: so many writes more are seen, in a server that serves.

sub writes_on {
    my $first;

    return wait_for(sub {
        my $r = http(GET => '/stats') or return;
        my ($next) = $r->{body} =~ /"next_lsn":(\d+)/ or return;
        $first //= $next;
        return $next >= $first + 200;
    }, 20);
}


# Runs the code while clients write; what was lost, and the longest time for
# which nothing was served, which must be at most so many seconds.

my $loads = 0;

sub under_load {
    my ($what, $most, $code) = @_;
    my $name = 'load' . $loads++;
    my @writers = map {
        KV::Load->writers($server, name => "$name-$_", connections => 4,
                          pause => 0.005)
    } 1 .. 2;

    ok(writes_on(), "$what: clients write");
    $code->();
    ok(writes_on(), "$what: they do so at the end");

    my @results = map { $_->stop } @writers;
    $ledger = KV::Ledger->merge($ledger, map { $_->{ledger} } @results);
    is(join("\n", map { @{$_->{errors}} } @results), '',
       "$what: answers are right");
    my ($gap) = sort { $b <=> $a } map { $_->{gap} } @results;
    cmp_ok($gap, '<', $most * slowness(), "$what: without service for so long");
    diag(sprintf '%s: %.2f s without service', $what, $gap);
    has_all($what);
}


# ---- as README.md left it: on

serves('installed');
is(readlink $MODULE, '/usr/share/nginx/modules-available/mod-http-kv.conf',
   'the module is loaded');
is(scalar(() = glob('/etc/rc2.d/S??nginx')), 1, 'it starts with the machine');
like(says('nginx -t'), qr/\A.*syntax is ok\n.*is successful\n\z/,
     'nothing is wrong with the configuration');
is(says("stat -c '%a %U' $DATA"), "700 www-data\n", 'whose data it is');
is(http(PUT => '/kv/a', 'x')->{status}, 200, 'PUT');
is(http(GET => '/kv/a')->{body}, 'x', 'GET');
is(http(DELETE => '/clear')->{status}, 200, '/clear, from this machine');

my $listening = says('ss -Hnlt sport = :8080');
unlike($listening, qr/(?:0\.0\.0\.0|\*|\[::\]):8080/,
       'other machines do not reach it');

# its pages, whose links lead to what is there

{
    my $doc = "/usr/share/doc/$NAME";
    my @pages = split /\n/, says("find $doc -name '*.md'");
    my %nowhere;

    for my $page (@pages) {
        my $dir = $page =~ s{[^/]*\z}{}r;
        $nowhere{$_} = 1 for grep { !-e } map { "$dir$_" }
            read_file($page) =~ /\]\(([^()\s#:]+)(?:#[^()\s]*)?\)/g;
    }

    ok((grep { $_ eq "$doc/README.md" } @pages), 'its pages');
    is(join(' ', sort keys %nowhere), '',
       'their links lead to what is there');
}

# nginx of another interface for modules cannot be installed beside it

my ($abi) = says("dpkg-query -f '\${Depends}' -W $NAME")
            =~ /\b(nginx-abi-[\w.-]+)/;
like(says("dpkg-query -f '\${Provides}' -W nginx"), qr/\Q$abi\E/,
     'it belongs to the interface of this nginx');


# ---- upgrades

{
    my $before = master();
    under_load('nginx is upgraded', 6,
               sub { apt('install --reinstall nginx') });
    isnt(master(), $before, 'nginx is upgraded: another master');

    $before = master();
    under_load('the module is upgraded', 6,
               sub { apt("install --reinstall ./$DEB") });
    isnt(master(), $before, 'the module is upgraded: another master');
    ok(read_file('/proc/' . master() . '/maps') !~ /_module\.so \(deleted\)/,
       'the module is upgraded: the new one is loaded');
}


# ---- removed, and installed again

unlike(apt("remove $NAME"), qr/will not start/, 'removed: nothing uses it');
ok(wait_for(sub { !http(GET => '/health') }, 10), 'removed: the site is off');
ok(!-e $SITE && -f $AVAILABLE, 'removed: but it is there');
says('nginx -t');
ok(master(), 'removed: nginx goes on');
ok(-d $DATA, 'removed: the data is there');

apt("install ./$DEB ./$STREAM");
serves('installed again');
ok(-l $SITE && !-l "$AVAILABLE.removed", 'installed again: the site is on');
has_all('installed again');

# what else uses it is not switched off: who removes it is told; and stream{}

{
    my $mine = '/etc/nginx/conf.d/mine.conf';
    my $conf = '/etc/nginx/nginx.conf';
    my $before = read_file($conf);

    write_file($mine, "kv_zone zone=mine:8m path=$DATA-mine;\n");
    write_file($conf, $before . 'stream { kv_get stream $v zone=main '
                      . "default=none; server { listen 127.0.0.1:$SECOND; "
                      . "return \$v; } }\n");
    says('service nginx restart');
    serves('a file of mine');

    ok(-l '/etc/nginx/modules-enabled/70-mod-stream-kv.conf',
       'stream: its module is loaded behind the others');
    is(streamed(), 'none', 'stream: a default');
    http(PUT => '/kv/stream', 'a value');
    is(streamed(), 'a value', 'stream: a value');
    http(DELETE => '/kv/stream');

    like(apt("remove $NAME"), qr/will not start .*:\n\Q$mine\E\n/,
         'removed: which file is in the way');
    ok(master(), 'removed: nginx goes on with what it has loaded');
    unlink $mine;
    write_file($conf, $before);
}


# What the server of stream{} sends.

sub streamed {
    my $c = KV::Conn->new(port => $SECOND);
    $c->closed(5);
    return $c->{in};
}


# ---- purged

like(apt("purge $NAME libnginx-mod-stream-kv"), qr/data .* stays/,
     'purged: it says what stays');
ok(!-e $AVAILABLE && !-l "$AVAILABLE.removed" && !-l $MODULE
   && !-l "$MODULE.removed", 'purged: the rest is gone');
ok(-d $DATA && -d "$DATA-mine", 'purged: the data is there');
says('service nginx restart');
ok(master(), 'purged: nginx starts');

# while nginx does not run

says('service nginx stop');
apt("install ./$DEB");
ok(!master(), 'nginx was stopped, and stays so');
ok(!-e $SITE && -f $AVAILABLE, 'the site is off');
says('nginx -t');
says("kv-inspect check $DATA");
ok(-f '/usr/share/man/man1/kv-inspect.1.gz', 'its manual page');

says("ln -s ../sites-available/kv $SITE");
says('service nginx start');
serves('after a purge');
has_all('after a purge');

# even without nginx

apt("purge $NAME nginx nginx-common");
ok(!master(), 'nginx is gone');
ok(-d $DATA, 'the data is there');

done_testing();
