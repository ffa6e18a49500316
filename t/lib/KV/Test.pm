package KV::Test;

# A real nginx with the module, on a port and in a directory of its own, and
# what a test asks of it:
#
#     my $s = KV::Test->new(zone => '16m', kv => 'segment=1m max_value=256k');
#     $s->start;
#     is($s->put('a', 'value')->{status}, 200);
#     $s->stop('KILL'); $s->start;
#     is($s->get('a')->{body}, 'value');
#     $s->done;                      # stops it, looks into the error log
#
# Everything that was started is killed, by process group, when the object
# goes; its directory is removed.  Raw requests go through KV::Conn, load
# through KV::Load; KV::Util's functions are exported from here too.

use strict;
use warnings;

use Cwd ();
use Exporter 'import';
use File::Path ();
use File::Temp ();
use JSON::PP ();
use List::Util qw(min shuffle uniq);
use POSIX qw(:sys_wait_h);
use Test::More ();
use Time::HiRes qw(time sleep);

use KV::Conn;
use KV::Util;

our @EXPORT = @KV::Util::EXPORT;

my $ROOT = Cwd::getcwd();

$SIG{PIPE} = 'IGNORE';
$SIG{$_} = sub { exit 1 } for qw(INT TERM HUP);
$SIG{ALRM} = sub { die "this test takes too long\n" };

my $LIMIT = $ENV{KV_TIMEOUT} || 1000;
alarm($LIMIT);


# A module with the failpoints (src/base/kv_failpoint.h) compiled in, which
# also poisons what it frees in the zone: that of scripts/test.sh --poison.  It
# is for the servers that are made from now on.  Skips a test whose nginx has
# the module linked in.

sub with_failpoints {
    Test::More::plan(skip_all => 'the module is linked into this nginx')
        if ($ENV{KV_MODULE} // 'x') eq '';

    my $module = "$ROOT/.build/poison/ngx_http_kv_module.so";
    return if ($ENV{KV_MODULE} // '') eq $module;

    system("$ROOT/scripts/build.sh", '--quiet', '--poison') == 0
        or Test::More::BAIL_OUT('the test build of the module failed');
    $ENV{KV_MODULE} = $module;
    alarm($LIMIT);
}


# ---- the server


# Options, which may also be changed in the object before a start or reload:
#
#   workers      worker_processes (2)
#   zone         size of the zone (32m)
#   path         data directory (data, in the object's own {dir})
#   kv           further parameters of kv_zone
#   main, http, server, location, servers
#                lines for these contexts (the location is /kv/)
#   connections  worker_connections (2048)
#   files        worker_rlimit_nofile (enough)
#   user         the workers' user, where the test is root (root)
#   conf         all but the first lines of the configuration; %%name%% in it
#                becomes the object's {name}
#   fault        the disk is faulty on demand: see fault()
#   limit        the largest file that nginx may make, in 512 bytes
#   host         the IP that it listens on (127.0.0.1)
#   inside       a command that nginx is started by

sub new {
    my ($class, %o) = @_;
    my $dir = File::Temp::tempdir('kvtestXXXXXX', TMPDIR => 1);
    my $self = bless {
        workers => 2, zone => '32m', kv => '', path => "$dir/data",
        main => '', http => '', server => '', location => '', servers => '',
        connections => 2048, port => free_port(), owner => $$, user => 'root',
        host => '127.0.0.1', inside => [],
        expected => [], %o, dir => $dir,
    }, $class;

    mkdir "$dir/tmp";
    mkdir "$dir/fault";
    chmod 0777, "$dir/fault";
    if ($self->{fault}) {
        symlink(fault_library(), "$dir/fault.so") or die "$dir/fault.so: $!";
    }

    return $self;
}


# What makes a disk faulty, compiled once for all servers of all tests.  Some of
# them may come at the same time: it gets its name last.

sub fault_library {
    my $source = "$ROOT/t/lib/fault.c";
    my $library = "$ROOT/.build/fault.so";

    if (((stat $library)[9] // 0) <= (stat $source)[9]) {
        mkdir "$ROOT/.build";
        system(split(' ', $ENV{CC} || 'cc'), qw(-O1 -shared -fPIC -o),
               "$library.$$", $source, qw(-ldl -lrt)) == 0
            or die "fault.c cannot be compiled\n";
        rename("$library.$$", $library) or die "$library: $!";
    }

    return $library;
}


# A server whose data are on a disk in memory, where one can be mounted: its
# syncs take no time.

sub in_memory {
    my ($class, %o) = @_;
    my $self = $class->new(%o);
    my $disk = $self->mount('disk', 'size=512m');

    $self->{path} = "$disk/data" if $disk;
    return $self;
}


sub config {
    my ($self) = @_;
    my %o = %$self;
    my $module = $ENV{KV_MODULE} // "$ROOT/.build/ngx_http_kv_module.so";
    my $fds = $self->{files} // $o{connections} + 500;
    my $temp = join '', map { "${_}_temp_path $o{dir}/tmp/$_;\n" }
                        qw(client_body proxy fastcgi uwsgi scgi);

    $o{conf} //= <<"END";
%%main%%
events { worker_connections %%connections%%; }
http {
    access_log off;
    %%temp%%
    kv_zone zone=main:%%zone%% path=%%path%% %%kv%%;
    %%http%%
    server {
        listen %%host%%:%%port%% backlog=4096;
        keepalive_requests 1000000;
        %%server%%
        location /kv/ { kv main; %%location%% }
        location = /clear { kv_clear main; }
        location = /health { kv_health main; }
        location = /stats { kv_stats main; }
        location = /metrics { kv_metrics; }
        location = /bulk { kv_bulk main; }
        location = /batch { kv_batch main; }
        location = /backup { kv_backup main; }
    }
    %%servers%%
}
END

    my $text = <<"END";
@{[ $module eq '' ? '' : 'load_module "' . Cwd::abs_path($module) . '";' ]}
@{[ $> == 0 ? "user $o{user};" : '' ]}
daemon off;
worker_processes %%workers%%;
worker_rlimit_nofile $fds;
pid %%dir%%/nginx.pid;
error_log %%dir%%/error.log notice;
$o{conf}
END

    $o{temp} = $temp;
    1 while $text =~ s{%%(\w+)%%}{$o{$1}}g;
    $text =~ s{^([^#\n]*\bkv_zone\s(?![^;]*\scluster=)[^;]*);}
              {$1 cluster=127.0.0.1:$o{port};}mg if $ENV{KV_TEST_CLUSTER};
    return $text;
}


sub nginx {
    my ($nginx) = grep { -x } map { "$_/nginx" }
                  split(/:/, $ENV{PATH} // ''), '/usr/sbin';
    return $ENV{KV_NGINX} || $nginx || die "no nginx; KV_NGINX may name one\n";
}


# Starts nginx in a process group of its own and does not wait.

sub launch {
    my ($self) = @_;
    my $dir = $self->{dir};

    $self->stop('KILL') if $self->{pid};
    write_file("$dir/nginx.conf", $self->config);

    my $pid = fork // die "fork: $!";
    if ($pid == 0) {
        alarm(0);
        setpgrp(0, 0);
        open(STDIN, '<', '/dev/null');
        open(STDOUT, '>', "$dir/output");
        open(STDERR, '>&', \*STDOUT);
        if ($self->{fault}) {
            $ENV{LD_PRELOAD} = "$dir/fault.so";
            $ENV{KV_FAULT_DIR} = "$dir/fault";
        }
        my @limit = $self->{limit}
            ? ('sh', '-c', "ulimit -f $self->{limit} && exec \"\$@\"", 'sh')
            : ();
        my @nginx = (nginx(), '-p', $dir, '-c', "$dir/nginx.conf");
        { exec @{$self->{inside}}, @limit, @nginx }
        POSIX::_exit(127);
    }

    setpgrp($pid, $pid);
    $self->{pid} = $self->{pgid} = $pid;
    $self->{still} //= time - running;
    return $self;
}


# Starts it and waits until it takes writes; dies with what it said if not.

sub start {
    my ($self, $seconds) = @_;

    $self->launch;
    return $self->started($seconds);
}

sub started {
    my ($self, $seconds) = @_;

    wait_for(sub { $self->exited || $self->healthy }, $seconds || 30);
    wait_for(sub { $self->helpers }, 10) if $ENV{KV_TEST_CLUSTER};

    die "nginx did not start:\n" . $self->output . $self->log
        if $self->exited || !$self->healthy;

    return $self;
}


# The same, with a parent that goes then: nginx takes SIGUSR2 only if its first
# one is gone, and this process is to be the second.  False where it cannot be.

sub start_alone {
    my ($self) = @_;
    my $prctl = { x86_64 => 157, aarch64 => 167 }->{(POSIX::uname())[4]};
    return unless $prctl && syscall($prctl, 36, 1, 0, 0, 0) == 0;

    my $child = fork // die "fork: $!";
    if ($child == 0) {
        $self->launch;
        wait_for(sub { -s "$self->{dir}/nginx.pid" }, 10);
        POSIX::_exit(0);
    }

    waitpid($child, 0);
    ($self->{pid}) = (eval { read_file("$self->{dir}/nginx.pid") } // '')
                     =~ /(\d+)/ or die "nginx did not start\n";
    $self->{pgid} = $self->{pid};
    return wait_for(sub { $self->healthy }, 10);
}


# Starts it when it should refuse to: returns its exit status and what it
# said, or nothing if it runs.

sub refused {
    my ($self) = @_;
    my $from = length $self->log;

    $self->launch;
    wait_for(sub { $self->exited || $self->healthy }, 15);
    return unless $self->exited;

    return ($self->{status} >> 8, $self->output . substr($self->log, $from));
}


# nginx -t with the configuration: exit status (or 128 + signal) and output.

sub test_config {
    my ($self) = @_;
    my $file = "$self->{dir}/t.conf";
    write_file($file, $self->config);
    my $nginx = join ' ', @{$self->{inside}}, nginx();
    my $out = qx($nginx -t -p $self->{dir} -c $file 2>&1);
    return ($? & 127 ? 128 + ($? & 127) : $? >> 8, $out);
}


sub healthy {
    my ($self) = @_;
    return $self->http(GET => '/health', soft => 1)->{status} == 200;
}


# Whether the master is gone; {status} is then what waitpid() gave.

sub exited {
    my ($self) = @_;
    if ($self->{pid} && waitpid($self->{pid}, WNOHANG) == $self->{pid}) {
        $self->{status} = $?;
        delete $self->{pid};
    }
    return !$self->{pid};
}


# Its workers, and the process that commits for zones with cluster= (one, but
# for a moment after a reload), as their titles tell.

sub workers {
    my ($self) = @_;
    return grep { title($_) !~ /: cache/ } $self->processes;
}

sub helpers {
    my ($self) = @_;
    return grep { title($_) =~ /: cache manager/ } $self->processes;
}

# The processes any of which may write the log.

sub committers {
    my ($self) = @_;
    return $ENV{KV_TEST_CLUSTER} ? $self->helpers : $self->workers;
}

sub title {
    my ($pid) = @_;
    open(my $f, '<', "/proc/$pid/cmdline") or return '';
    return readline($f) // '';
}


# Processes of the server but the master; zombies whose threads still hang in a
# sync, and hold the lock of the directory, are among them.

sub processes {
    my ($self) = @_;
    my @pids;

    for ($self->descendants) {
        open(my $f, '<', "/proc/$_/stat") or next;
        my ($pid, $state, $pgrp) =
            (readline($f) // '') =~ /^(\d+) \(.*\) (\S) \d+ (\d+)/ or next;
        next if $pgrp != $self->{pgid} || $pid == ($self->{pid} || 0);
        next if $state =~ /[ZX]/ && 1 >= (() = glob "/proc/$pid/task/*");
        push @pids, $pid;
    }

    return @pids;
}


# Whom processes() looks at.  It is asked very often, and a machine has many
# processes: they are those below the master and, only if it has none any more,
# all that there are, for as long as there are any in the group.

sub descendants {
    my ($self) = @_;
    my @found;
    my @parents = $self->{pid} || ();

    while (defined(my $pid = shift @parents)) {
        open(my $f, '<', "/proc/$pid/task/$pid/children") or next;
        my @children = split ' ', readline($f) // '';
        push @found, @children;
        push @parents, @children;
    }

    return @found if @found || !kill(0, -$self->{pgid}) && $! == POSIX::ESRCH();
    return map { m{(\d+)} } glob '/proc/[0-9]*';
}


# Sends the signal to the whole group, as lc does, and waits.  Returns the
# exit status (or 128 + signal); nothing if a process is still there then.

sub stop {
    my ($self, $signal, $seconds) = @_;
    return $self->end(-$self->{pgid}, $signal || 'TERM', $seconds);
}


# To the master alone: QUIT is graceful.

sub quit {
    my ($self, $signal) = @_;
    return $self->end($self->{pid}, $signal || 'QUIT');
}


sub end {
    my ($self, $pid, $signal, $seconds) = @_;
    kill($signal, $pid);
    return $self->wait_exit($seconds);
}


sub wait_exit {
    my ($self, $seconds) = @_;

    wait_for(sub { $self->exited && !$self->processes }, $seconds || 15)
        or return;
    my $st = $self->{status};
    return WIFSIGNALED($st) ? 128 + WTERMSIG($st) : WEXITSTATUS($st);
}


# Reloads the configuration, written anew.  Waits until the old workers are
# gone or, if it should be refused, until the error log matches the pattern.
# Returns what the log says since, or nothing if that did not happen.

sub reload {
    my ($self, $refused) = @_;
    my %old = map { $_ => 1 } $self->workers;
    my $from = length $self->log;

    write_file("$self->{dir}/nginx.conf", $self->config);
    kill('HUP', $self->{pid});

    wait_for(sub {
        return substr($self->log, $from) =~ $refused if $refused;
        my @now = $self->workers;
        return @now == $self->{workers} && !grep { $old{$_} } @now;
    }, 15) or return;

    return substr($self->log, $from);
}


# ---- requests


# A new connection.  With soft => 1 a refused one gives nothing.

sub connect {
    my ($self, %o) = @_;
    return KV::Conn->new(host => $self->{host}, port => $self->{port}, %o);
}


# A new connection to that worker, which may have no processor for a while.  The
# server has "add_header Worker $pid always".

sub connect_to {
    my ($self, $worker) = @_;
    my $c;

    wait_for(sub {
        $c = $self->connect;
        $c->send(KV::Conn::request(GET => '/health'));
        return $c->response->{headers}{worker} == $worker;
    }, 10, 0.0005) or die "worker $worker takes no connection\n";

    return $c;
}


# What the code returns while no worker runs but the one that it is given, for
# each of them: what all said, or "several: ..."; "not all workers" if some are
# missing.

sub on_each {
    my ($self, $code) = @_;
    my @workers = $self->workers;
    my @said;

    for my $worker (@workers) {
        my @others = grep { $_ != $worker } @workers;
        kill('STOP', @others);
        wait_for(sub {
            !grep { read_file("/proc/$_/stat") !~ /\) T / } @others
        }, 20) or die "a worker does not stop\n";
        push @said, eval { $code->($worker) } // "died: $@";
        kill('CONT', @others);
    }

    my @all = uniq @said;
    return @workers != $self->{workers} ? 'not all workers'
           : @all == 1 ? $all[0] : "several: @all";
}


# One request on a connection of its own: the answer, see KV::Conn::parse().
# With soft => 1 the status is 0 if none came.

sub http {
    my ($self, $method, $path, %o) = @_;
    my $none = { status => 0, headers => {}, body => '' };
    my $c = $self->connect(%o) or return $none;
    my @headers = (@{$o{headers} || []}, 'Connection: close');
    $c->send(KV::Conn::request($method, $path, %o, headers => \@headers));
    my $r = eval { $c->response($method, $o{timeout}) };
    if ((my $why = $@) && !$o{soft}) {
        Test::More::diag($self->symptoms($c)) if !$self->{unwell}++;
        die $why;
    }

    return $r || $none;
}


sub put { my ($s, $k, @o) = @_; $s->http(PUT => "/kv/$k", body => @o) }
sub get { my ($s, $k, @o) = @_; $s->http(GET => "/kv/$k", @o) }
sub del { my ($s, $k, @o) = @_; $s->http(DELETE => "/kv/$k", @o) }
sub clear { my ($s, @o) = @_; $s->http(DELETE => '/clear', @o) }

# A worker that is killed just then answers nothing: another one is asked.

sub stats {
    my ($self, $path) = @_;
    my $r;

    wait_for(sub { ($r = $self->http(GET => $path || '/stats'))->{status} },
             10);
    return JSON::PP::decode_json($r->{body});
}

sub store { $_[0]->stats->{store} }
sub used { $_[0]->store->{zone}{used} }


# Sends a write on a connection of its own, which it gives back when the write
# is in the log, and waits for its sync.  Before the first write of a server the
# log is opened, which also takes syncs.

sub written {
    my ($self, @request) = @_;
    my $lsn = sub { $self->store->{log}{next_lsn} };
    my $before = $lsn->();
    my $c = $self->connect;

    $c->send(KV::Conn::request(@request));
    wait_for(sub { $lsn->() > $before }, 10) or die "not written\n";
    return $c;
}


# Waits until the workers have read all that was sent to the port: before that
# they know nothing of it, and a signal may come first.

sub has_read {
    my ($self) = @_;
    my $port = sprintf '%04X', $self->{port};

    return wait_for(sub {
        for (split /\n/, read_file('/proc/net/tcp')) {
            my ($local, $remote, $sent, $got) =
                /^ *\d+: \S+:(\S+) \S+:(\S+) \S+ (\S+):(\S+)/ or next;
            return if $local eq $port && hex $got
                   || $remote eq $port && hex $sent;
        }
        return 1;
    }, 10, 0.002);
}


# Waits until all threads of the processes sleep: then what a committer does
# behind its answers is over.

sub idle {
    my ($self) = @_;
    return wait_for(sub {
        return !grep { (eval { read_file($_) } // '') =~ /\) [^S] / }
               map { glob "/proc/$_/task/*/stat" } $self->processes;
    }, 10, 0.002);
}


# What there is to see of a server that does not do what it should, for diag():
# how many connections wait for a worker, and where the given one is; what its
# processes do, with the system call of each main thread; its figures; the end
# of its log.

sub symptoms {
    my ($self, $c) = @_;
    my @said = map { "$_\n" } $self->sockets($c);

    for my $pid ($self->{pid} // (), $self->workers) {
        my %threads;
        for my $task (glob "/proc/$pid/task/*") {
            my ($state) = seen("$task/stat") =~ /\) (\S)/ or next;
            $threads{"$state " . seen("$task/wchan")}++;
        }
        push @said, "process $pid: ",
            join(', ', map { "$threads{$_} $_" } sort keys %threads),
            '; cpu ', cpu_time($pid), ' s; ', seen("/proc/$pid/syscall"), "\n";
    }

    my @log = split /^/, $self->log;
    my $stats = eval { $self->http(GET => '/stats', timeout => 5)->{body} };
    return (@said, $stats // "no figures: $@", splice @log, -min(40, 0 + @log));
}

sub sockets {
    my ($self, $c) = @_;
    my $port = sprintf ':%04X', $self->{port};
    my $own = $c ? sprintf(':%04X', $c->{sock}->sockport) : 'none';

    return grep { / \S+$port \S+ 0A / || /$own / && !/^ *\S+ \S+ \S+ 06 / }
           split /\n/, seen('/proc/net/tcp');
}

sub seen { my ($file) = @_; return eval { read_file($file) } // '' }


# ---- faults


# Breaks the disk (see fault.c: fdatasync => 1, write => 1 or an errno, open =>
# the same, slow => ms, hold => 1, die => us), or repairs it (fdatasync =>
# undef).  With hold => "1 /a /b" only syncs of such files are held; fdatasync,
# slow and open take parts of paths, too.

sub fault {
    my ($self, $what, $value) = @_;
    my $file = "$self->{dir}/fault/$what";

    return unlink $file unless defined $value;

    unlink "$self->{dir}/fault/held" if $what eq 'hold';
    write_file("$file.new", $value);
    rename("$file.new", $file) or die "$file: $!";
}


# Waits until a sync is held, since the last hold => ... : the process.

sub held {
    my ($self) = @_;
    my $file = "$self->{dir}/fault/held";
    return wait_for(sub { -s $file && 0 + read_file($file) }, 10, 0.002);
}


# A worker dies, or all do: killed at any time, some of them in a slow sync, or
# behind a sync.  What back() says then.  The server is one with fault => 1.

sub some_die {
    my ($self) = @_;
    my $dice = int rand 4;

    if ($dice == 0) {
        $self->dies_behind_sync(2);
        return $self->back;
    }

    my @workers = shuffle($self->workers);
    splice @workers, 1 if rand() < 0.77;
    $self->fault(slow => 10) if $dice == 1;
    sleep(0.02);
    kill('KILL', @workers);
    $self->fault(slow => undef);
    return $self->back(@workers);
}


# The next process that syncs, if one does in so many seconds, dies some
# microseconds behind that, mostly few.

sub dies_behind_sync {
    my ($self, $seconds) = @_;
    return $self->dies_by("$self->{dir}/fault/die", int rand rand 400,
                          $seconds);
}


# Makes the file by which a process is to die: that of a fault, or of failpoints
# (src/base/kv_failpoint.h), {dir}/point.  True when one is gone, which a busy
# machine makes later than the file; false if none took it in so many seconds.

sub dies_by {
    my ($self, $file, $text, $seconds) = @_;
    my @before = $self->processes;

    write_file("$file.new", $text);
    rename("$file.new", $file) or die "$file: $!";
    return if !wait_for(sub { !-e $file }, $seconds, 0.001) && unlink $file;

    return wait_for(sub {
        my %there = map { $_ => 1 } $self->processes;
        return grep { !$there{$_} } @before;
    }, 10, 0.001);
}


# After deaths: waits until these are gone, all workers are there again, and a
# write is answered.  By then it is known what they have left half done; a read
# may be answered before, and then get 503.

sub back {
    my ($self, @dead) = @_;

    return wait_for(sub {
        my %there = map { $_ => 1 } $self->processes;
        return !grep({ $there{$_} } @dead)
               && $self->workers == $self->{workers}
               && $self->del('none', soft => 1, timeout => 5)->{status} == 200;
    }, 20);
}


# A tmpfs at {dir}/name until the object goes: its path, or nothing where none
# can be mounted.

sub mount {
    my ($self, $name, $options) = @_;
    my $path = "$self->{dir}/$name";

    mkdir $path;
    return if $> != 0
        || system("mount -t tmpfs -o $options kvtest $path 2>/dev/null") != 0;
    push @{$self->{mounts}}, $path;
    return $path;
}


# Writes to the store, whose directory is in `mnt`, until no segment of 1 MiB
# fits there: `put->(n)` writes for the (n + 1)th time and returns an answer.
# How many were taken, and the last answer. A refusal alone does not tell: for
# as long as a file that is being made has the last space, the next write may be
# taken.

sub fill_disk {
    my ($self, $mnt, $put) = @_;
    my $n = 0;

    for (1 .. 20_000) {
        my $r = $put->($n);
        if ($r->{status} == 200) { $n++; next }
        my @made = glob("$self->{path}/{spare-*,*.tmp}");
        return ($n, $r)
            if $r->{status} != 507 || !@made && disk_free($mnt) < 1 << 20;
    }
}

sub disk_free {
    my ($mnt) = @_;
    return (split ' ', `df --output=avail -B1 $mnt`)[1];
}


# Also when a process that is to be killed still has files open there.

sub unmount {
    my ($self) = @_;
    system('umount', '-l', $_) for splice @{$self->{mounts} || []};
}


# ---- the error log


sub log { my ($self) = @_; eval { read_file("$self->{dir}/error.log") } // '' }
sub output { my ($self) = @_; eval { read_file("$self->{dir}/output") } // '' }


# Alarming lines that match one of these are no failure.

sub expect_log { my ($self, @re) = @_; push @{$self->{expected}}, @re }


# A master kills what is still there 3 seconds after a SIGTERM.  That is no
# fault of workers, nor of the process that commits, which ends after them, if
# the machine stood still, or they had no processor.

sub check_log {
    my ($self) = @_;
    my $log = $self->log . $self->output;
    my $killed = qr/(?:worker|cache manager) process \d+ exited on signal 9/;
    my @bad;

    $log =~ s/cache manager (?=process \d+ exited)/worker /g
        if $ENV{KV_TEST_CLUSTER};

    $self->expect_log($killed)
        if $log =~ $killed
           && (slowness() > 4 || defined $self->{still}
                                 && time - running - $self->{still} > 0.25);

    for my $line (split /\n/, $log) {
        push @bad, $line
            if $line =~ /\[(?:alert|emerg)\]|exited on signal|Sanitizer
                         |freed\ memory/x
               && !grep { $line =~ $_ } @{$self->{expected}};
    }

    Test::More::is(scalar @bad, 0, 'nothing alarming in the error log')
        or Test::More::diag(join "\n", splice @bad, 0, 10);
}


# The end of a test: a clean exit, and a clean log.

sub done {
    my ($self) = @_;
    Test::More::is($self->stop, 0, 'nginx stops with status 0')
        if $self->{pid};
    $self->check_log;
}


sub DESTROY {
    my ($self) = @_;
    return if $$ != $self->{owner};
    local ($?, $!, $@);

    if ($self->{pgid} && ($self->{pid} || $self->processes)) {
        kill('KILL', -$self->{pgid});
        $self->wait_exit(5);
    }

    $self->unmount;
    return Test::More::diag("kept: $self->{dir}") if $ENV{KV_KEEP};
    File::Path::remove_tree($self->{dir});
}


1;
