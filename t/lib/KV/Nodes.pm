package KV::Nodes;

# The nodes of a cluster, each an nginx in a network namespace of its own, with
# an IP of its own, as if on a machine of its own:
#
#     my $nodes = KV::Nodes->new(n => 5);         # skips a test where it cannot
#     $nodes->start;
#     $nodes->node(2)->put('a', 'value');         # a KV::Test; the first is 1
#     $nodes->part([1, 2], [3, 4, 5]);
#     $nodes->heal;
#     $nodes->done;
#
# The namespaces hang on a bridge, in one that this process enters for good:
# clients are in that one, and nothing that is done between the nodes touches
# their way.  All of it goes with the processes, however they end.
#
# Two nodes are cut off from each other by the addresses of their network cards:
# what is sent to a card that nobody has is lost without a word, and each way is
# on its own.
#
# All that nodes say of the cluster is remembered: done() fails if one's term
# went back, or a term had two leaders.

use strict;
use warnings;

use File::Temp ();
use JSON::PP ();
use POSIX ();
use Test::More ();

use KV::Test;
use KV::Util;

my $CLONE_NEWNET = 0x40000000;
my %CALLS = (x86_64 => { unshare => 272, setns => 308 },
             aarch64 => { unshare => 97, setns => 268 });
my $CALL = $CALLS{(POSIX::uname())[4]};

my $NETWORK = '10.0.42';
my $PORT = 8080;
my $NOBODY = '02:00:00:00:ff:ff';


# Options, besides those of KV::Test for each node:
#
#   n      how many nodes (5)
#   alone  each is a cluster of its own

sub new {
    my ($class, %o) = (shift, n => 5, @_);
    my ($n, $alone) = delete @o{qw(n alone)};
    my $self = bless { n => $n, alone => $alone, owner => $$, nodes => [],
                       cut => {}, terms => {}, leaders => {},
                       wrong => [] }, $class;
    my $reason = enter();

    Test::More::plan(skip_all => $reason) if $reason;
    $self->join_network($_) for 1 .. $n;
    $self->neighbours;

    for my $i (1 .. $n) {
        my @peers = map { address($_) } grep { $_ != $i } 1 .. $n;
        my $kv = 'cluster=' . address($i);
        $kv .= ' peers=' . join ',', @peers if @peers && !$alone;
        push @{$self->{nodes}}, KV::Test->new(
            zone => '16m', %o, host => ip_of($i), port => $PORT,
            inside => [ 'nsenter', '-t', $self->{holders}[$i], '-n', '--' ],
            kv => "segment=1m max_value=256k $kv " . ($o{kv} // ''),
            server => 'location = /cluster/info { kv_cluster main; } '
                      . ($o{server} // ''));
    }

    my (undef, $said) = $self->node(1)->test_config;
    Test::More::plan(skip_all => 'no libraft')
        if $said =~ /come with a later version|needs the library libraft/;
    return $self;
}

sub ip_of { my ($i) = @_; return "$NETWORK." . (100 + $i) }
sub address { my ($i) = @_; return ip_of($i) . ":$PORT" }
sub card_of { my ($i) = @_; return sprintf '02:00:00:00:00:%02x', $i }

sub node { my ($self, $i) = @_; return $self->{nodes}[$i - 1] }
sub all { my ($self) = @_; return 1 .. $self->{n} }


# ---- the network


# This process, and all that it starts, goes into a namespace, with a bridge.
# Returns the reason if it cannot.

my $entered;

sub enter {
    return if $entered;
    return 'no number of unshare() for this machine' if !$CALL;

    $ENV{PATH} .= ':/usr/sbin:/sbin';

    for my $tool (qw(ip nsenter)) {
        return "no $tool in PATH"
            if !grep { -x "$_/$tool" } split /:/, $ENV{PATH};
    }

    return 'only root may make network namespaces' if $> != 0;
    return "no network namespaces: $!" if !own_namespace();

    my $failed = commands(undef, 'link set lo up', 'link add br0 type bridge',
                          "addr add $NETWORK.1/24 dev br0", 'link set br0 up');
    return "no bridge: $failed" if $failed;

    $entered = 1;
    return;
}


sub own_namespace { return syscall($CALL->{unshare}, $CLONE_NEWNET) == 0 }


# What the code returns in the namespace of a node: the sockets that it makes
# are there for good.

sub within {
    my ($self, $i, $code) = @_;
    my @ns = map {
        open(my $ns, '<', "/proc/$_/ns/net") or die "namespace: $!";
        $ns;
    } 'self', $self->{holders}[$i];

    syscall($CALL->{setns}, fileno $ns[1], $CLONE_NEWNET) == 0
        or die "setns: $!";
    my $result = eval { $code->() };
    my $why = $@;
    syscall($CALL->{setns}, fileno $ns[0], $CLONE_NEWNET) == 0
        or die "setns: $!";
    die $why if $why;
    return $result;
}


# Runs these commands of ip(8), in the namespace of a process if one is given:
# what it says if it cannot.

sub commands {
    my ($pid, @lines) = @_;
    my @inside = $pid ? ('nsenter', '-t', $pid, '-n', '--') : ();
    my ($file, $name) = File::Temp::tempfile('kvtestXXXXXX', TMPDIR => 1,
                                             UNLINK => 1);
    print $file map { "$_\n" } @lines;
    close $file or die "$name: $!";

    my $said = qx(@inside ip -batch $name 2>&1);
    unlink $name;
    return $? == 0 ? undef : $said || 'no ip';
}


# A namespace is there as long as a process is in it, and this one ends when its
# parent does.

sub join_network {
    my ($self, $i) = @_;
    pipe(my $ready, my $is_ready) or die "pipe: $!";
    pipe(my $lives, my $life) or die "pipe: $!";
    my $pid = fork // die "fork: $!";

    if ($pid == 0) {
        $SIG{$_} = 'IGNORE' for qw(INT TERM HUP);
        alarm(0);
        close $life;
        close $_ for @{$self->{lives} || []};
        own_namespace() && syswrite($is_ready, 'x') or POSIX::_exit(1);
        sysread($lives, my $never, 1);
        POSIX::_exit(0);
    }

    close $is_ready;
    sysread($ready, my $x, 1) or die "no network namespace\n";
    push @{$self->{lives}}, $life;
    $self->{holders}[$i] = $pid;

    my ($ip, $card) = (ip_of($i), card_of($i));
    my $failed = commands(undef,
        "link add v$i type veth peer name eth0 address $card netns $pid",
        "link set v$i master br0 up")
        || commands($pid, 'link set lo up', "addr add $ip/24 dev eth0",
                    'link set eth0 up');
    die "node $i has no network: $failed" if $failed;
}


# What each node knows of the others' cards.

sub neighbours {
    my ($self) = @_;

    for my $i ($self->all) {
        my @lines = map {
            my $card = $self->{cut}{"$i $_"} ? $NOBODY : card_of($_);
            "neigh replace ${\ip_of($_)} lladdr $card dev eth0 nud permanent"
        } grep { $_ != $i } $self->all;

        next if !@lines || ($self->{known}[$i] // '') eq "@lines";
        my $failed = commands($self->{holders}[$i], @lines);
        die "node $i: $failed" if $failed;
        $self->{known}[$i] = "@lines";
    }
}


# Nothing that one of @$from sends arrives at any of @$to; the other way is as
# it was.

sub cut {
    my ($self, $from, $to) = @_;

    for my $i (@$from) {
        $self->{cut}{"$i $_"} = 1 for grep { $_ != $i } @$to;
    }

    $self->neighbours;
}


# Those of different groups cannot reach each other, those of one can.

sub part {
    my ($self, @groups) = @_;
    $self->{cut} = {};

    for my $group (@groups) {
        my %inside = map { $_ => 1 } @$group;
        $self->cut($group, [ grep { !$inside{$_} } map { @$_ } @groups ]);
    }
}

sub heal {
    my ($self) = @_;
    $self->{cut} = {};
    $self->neighbours;
}


# ---- the nodes


# Starts those, or all, and waits until they answer.

sub start {
    my ($self, @which) = @_;
    my @nodes = map { $self->node($_) } @which ? @which : $self->all;

    $_->launch for @nodes;
    $_->started for @nodes;
    return $self;
}


# Stops them, as a machine that hangs; lets them go on.

sub freeze {
    my ($self, @which) = @_;

    for my $node (map { $self->node($_) } @which) {
        kill('STOP', -$node->{pgid});
        wait_for(sub {
            !grep { (eval { read_file("/proc/$_/stat") } // 'T) T ')
                    !~ /\) T / } $node->{pid}, $node->processes
        }, 20) or die "a node does not stop\n";
    }
}

sub thaw {
    my ($self, @which) = @_;
    kill('CONT', -$self->node($_)->{pgid}) for @which;
}


# What a node says of the cluster, or nothing if it does not answer in time.

sub info {
    my ($self, $i, $seconds) = @_;
    my $r = $self->node($i)->http(GET => '/cluster/info', soft => 1,
                                  timeout => $seconds || 2);
    return if $r->{status} != 200;

    my $info = JSON::PP::decode_json($r->{body});
    $self->remember($i, $info);
    return $info;
}


# A node that has just been started does not know its term yet.

sub remember {
    my ($self, $i, $info) = @_;
    my ($term, $leader) = @$info{qw(term leader)};
    my $known = $self->{terms}{$i} // 0;

    return if $self->{alone};
    push @{$self->{wrong}}, "node $i: term $term after $known"
        if $term && $term < $known;
    $self->{terms}{$i} = $term if $term;

    return if !defined $leader;
    my $before = $self->{leaders}{$term} //= $leader;
    push @{$self->{wrong}}, "term $term: leaders $before and $leader"
        if $before ne $leader;
}


# The node that all of these say leads, itself included, and its term; nothing
# if they do not, or not all in one term.

sub leader {
    my ($self, @of) = @_;
    my @said = map { $self->info($_) // return } @of;
    my %said = map { ($_->{leader} // return) . " $_->{term}" => 1 } @said;

    return if keys %said != 1;
    my ($i) = grep { $said[$_]{role} eq 'leader' } 0 .. $#said;
    return if !defined $i || $said[$i]{id} ne $said[$i]{leader};
    return ($of[$i], $said[$i]{term});
}


# The same of these, or of all, once they have elected one, in a later term than
# this one, if that is so wanted.

sub elected {
    my ($self, $of, $after) = @_;
    my ($leader, $term);

    wait_for(sub {
        ($leader, $term) = $self->leader($of ? @$of : $self->all);
        return $leader && $term > ($after // 0);
    }, 20, 0.03) or die "no leader is elected\n";

    return ($leader, $term);
}


# What a client hears there: whether the node leads, whom it takes for the
# leader, and the statuses of a read and of writes, which are 0 if no answer
# came in time.

my $IDLE = 'none none 503 503 503';

sub hears {
    my ($self, $i) = @_;
    my $info = $self->info($i) // { role => 'silent' };

    return join ' ', $info->{role} eq 'leader' ? 'leads' : 'none',
        $info->{leader} // 'none',
        map { $self->node($i)->http($_ => '/kv/some', body => 'x', soft => 1,
                                    timeout => 2)->{status} }
        qw(GET PUT DELETE);
}

sub idle { my ($self, $i) = @_; return $self->hears($i) eq $IDLE }


# A request to a node, sent on to where an answer says: the last answer, whose
# status is 0 if none came in a second.

sub ask {
    my ($self, $i, $method, $path, %o) = @_;
    my $r;

    for (1 .. 5) {
        $r = $self->node($i)->http($method => $path, %o, soft => 1,
                                   timeout => 1);
        last if $r->{status} != 307;
        ($i) = grep {
            $r->{headers}{location} eq 'http://' . address($_) . $path
        } $self->all or die "sent to $r->{headers}{location}\n";
    }

    return $r;
}


# A client that writes all the time, w1, w2 and so on, to one node after the
# other, until this object goes.

sub write_on {
    my ($self) = @_;
    my ($acked, $name) = File::Temp::tempfile('kvtestXXXXXX', TMPDIR => 1,
                                              UNLINK => 1);
    my $pid = fork // die "fork: $!";

    if ($pid == 0) {
        alarm(0);
        $SIG{TERM} = 'DEFAULT';

        for (my $n = 1; getppid == $self->{owner}; $n++) {
            my $r = eval {
                $self->ask(1 + $n % $self->{n}, PUT => "/kv/w$n",
                           body => "v$n");
            } or print STDERR $@;
            syswrite($acked, "w$n ") if $r && $r->{status} == 200;
            select(undef, undef, undef, 0.02);
        }

        POSIX::_exit(0);
    }

    $self->{writer} = { pid => $pid, acked => $name };
}


# The keys of what was answered with 200: only once there are more than the last
# time, or none.

sub acknowledged {
    my ($self) = @_;
    my $writer = $self->{writer};
    my $before = $writer->{seen} // 0;
    my @keys;

    wait_for(sub {
        return (@keys = split ' ', read_file($writer->{acked})) > $before + 4;
    }, 20) or return;

    $writer->{seen} = @keys;
    return @keys;
}


# The first few of them that are missing, or have another value, by way of one
# node after the other.

sub missing {
    my ($self, @keys) = @_;
    my ($i, @missing) = (0);

    for my $key (@keys) {
        my ($node, $value) = (1 + $i++ % $self->{n}, $key =~ s/w/v/r);

        push @missing, $key if !wait_for(sub {
            return $self->ask($node, GET => "/kv/$key")->{body} eq $value;
        }, 5);
        last if @missing > 2;
    }

    return @missing;
}


# The end of a test: clean exits, clean logs.

sub done {
    my ($self) = @_;
    my @run = grep { $_->{pid} } @{$self->{nodes}};

    kill('TERM', -$_->{pgid}) for @run;
    Test::More::is($_->wait_exit, 0, 'nginx stops with status 0') for @run;
    $_->check_log for @{$self->{nodes}};
    Test::More::is_deeply($self->{wrong}, [], 'terms grow, with a leader each');
}


# The servers end before what holds their namespaces.

sub DESTROY {
    my ($self) = @_;
    return if $$ != $self->{owner};
    local ($?, $!, $@);

    my $writer = ($self->{writer} // {})->{pid};
    my @others = grep { $_ } $writer, @{$self->{holders}};

    kill('KILL', $writer) if $writer;
    $self->{nodes} = [];
    kill('KILL', @others);
    waitpid($_, 0) for @others;
}


1;
