package KV::Inspect;

# kv-inspect, built with sanitizers, and what a test does with it:
#
#     my ($rc, $out, $err) = inspect('check', $dir);
#     my ($rc, $out, $err) = inspect_with($lines, 'load', $dir);
#     my $run = inspect_begin('log', '--follow', $dir);
#     ... $run->{out}: a file that grows ...
#     my ($rc, $out, $err) = inspect_end($run, 'INT');

use strict;
use warnings;

use Cwd ();
use Exporter 'import';
use File::Temp ();
use POSIX qw(:sys_wait_h);

use KV::Util;

our @EXPORT = qw(inspect inspect_with inspect_begin inspect_end);

my $ROOT = Cwd::getcwd();
my $DIR = "$ROOT/.build/tool-asan";
my $PLAIN = "$ROOT/.build/tool";
my $tmp = File::Temp::tempdir('kvinspectXXXXXX', TMPDIR => 1, CLEANUP => 1);
my $n = 0;
my $owner = $$;
my %running;

# Sanitizers of some compilers cannot run where mappings are scattered widely.
my @before = system('setarch -R true 2>/dev/null') == 0 ? qw(setarch -R) : ();


# Built once for all tests, of which some may run beside one another.

sub program {
    our $built ||= build($DIR, 'SANITIZE=address,undefined');
    return (@before, "$DIR/kv-inspect");
}

# One without sanitizers, which dies at a call that the test says.

sub mortal {
    our $mortal ||= do {
        build($PLAIN);
        system(split(' ', $ENV{CC} || 'cc'), qw(-O1 -shared -fPIC -o),
               "$tmp/die.so", "$ROOT/t/lib/die.c", '-ldl') == 0
            or die "die.c cannot be compiled\n";
        1;
    };
    return "$PLAIN/kv-inspect";
}

sub build {
    my ($dir, @flags) = @_;
    delete local $ENV{KV_CFLAGS};           # which are the module's
    mkdir "$ROOT/.build";
    mkdir $dir;
    system('flock', "$dir/.lock", qw(make -s -j2 -f scripts/tool.mk),
           "DIR=$dir", @flags) == 0
        or die "kv-inspect cannot be built\n";
    return 1;
}


# The exit status, "signal N" if one ended it, and what it wrote.

sub inspect { return inspect_with('', @_) }

sub inspect_with {
    my ($input, @args) = @_;
    write_file("$tmp/in", $input);
    return inspect_end(inspect_begin({ in => "$tmp/in" }, @args));
}


# The first argument may be { in => file, out => file, user => uid, die => n },
# die meaning: at the n-th call that changes a directory or a file.

sub inspect_begin {
    my %o = ref $_[0] ? %{ +shift } : ();
    my @args = @_;
    my @program = $o{die} ? mortal() : program();
    my $run = { out => $o{out} // "$tmp/out" . ++$n, err => "$tmp/err" . ++$n };

    # they are there as soon as it runs
    write_file($_, '') for grep { !-e } $run->{out}, $run->{err};

    defined(my $pid = fork) or die "fork: $!";

    if ($pid == 0) {
        open STDIN, '<', $o{in} // '/dev/null' or POSIX::_exit(99);
        open STDOUT, '>', $run->{out} or POSIX::_exit(99);
        open STDERR, '>', $run->{err} or POSIX::_exit(99);
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE);

        if ($o{die}) {
            $ENV{LD_PRELOAD} = "$tmp/die.so";
            $ENV{KV_DIE} = $o{die};
        }

        # who may have no right to walk to the project
        if (defined $o{user}) {
            chmod 0755, $tmp;
            system('cp', $program[-1], "$tmp/kv-inspect");
            $program[-1] = "$tmp/kv-inspect";
            POSIX::setgid($o{user});
            POSIX::setuid($o{user});
        }

        exec { $program[0] } @program, @args or POSIX::_exit(99);
    }

    $run->{pid} = $pid;
    $running{$pid} = 1;
    return $run;
}


sub inspect_end {
    my ($run, $signal) = @_;

    kill $signal, $run->{pid} if $signal;

    wait_for(sub { waitpid($run->{pid}, WNOHANG) == $run->{pid} }, 60)
        or die "kv-inspect does not end\n";
    my $status = $?;
    delete $running{$run->{pid}};

    my $rc = $status & 127 ? 'signal ' . ($status & 127) : $status >> 8;
    return ($rc, map { -f $_ ? read_file($_) : '' } $run->{out}, $run->{err});
}


END {
    my $status = $?;
    kill KILL => keys %running if $$ == $owner;
    $? = $status;
}

1;
