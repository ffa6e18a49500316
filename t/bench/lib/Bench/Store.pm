package Bench::Store;

# A data directory full of keys, made by the core itself (t/bench/core.c):
# keys of 16 bytes, their number in decimal with zeroes before it, and values of
# 100 bytes, in a snapshot with an empty log behind it.

use strict;
use warnings;

use File::Path qw(remove_tree);
use POSIX qw(ceil);

use Bench::Process;


sub new {
    my ($class, $bench, $name, $keys) = @_;
    my $self = bless { dir => "$bench->{dir}/store.$name", keys => $keys },
                     $class;

    $bench->{progress}->("a store of $keys keys");
    mkdir $self->{dir} or die "$self->{dir}: $!\n";
    my $out = run({ timeout => 120 + $keys / 40_000 },
                  "$bench->{bin}/core", 'recovery',
                  "keys=$keys", 'key=16', 'value=100', 'keep=snapshot',
                  "dir=$self->{dir}");
    ($self->{bytes}) = $out =~ /^recovery_bytes_per_key ([\d.]+)/m
        or die "core says nothing:\n$out";

    # nginx's workers are to own it
    my ($user, $group) = $bench->{user} =~ /^user (\S+?)(?: (\S+))?;/
        or return $self;
    my ($uid, $gid) = (getpwnam $user)[2, 3];
    $gid = getgrnam $group if $group;
    chown $uid, $gid, $self->{dir}, glob "$self->{dir}/*";

    return $self;
}


# A zone for its keys and `more` MiB besides.

sub zone_size {
    my ($self, $more) = @_;
    return ceil($self->{keys} * 1.5 * $self->{bytes} / 1_048_576 + $more) . 'm';
}


# Whether a snapshot of it is being written.

sub in_snapshot {
    my ($self) = @_;
    opendir(my $d, $self->{dir}) or die "$self->{dir}: $!\n";
    return scalar grep { /^snap-.*\.tmp$/ } readdir $d;
}


sub remove { my ($self) = @_; remove_tree($self->{dir}) }


1;
