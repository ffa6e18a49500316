package KV::Batches;

# The batches of a log file, of a plain log or a replicated one, as
# src/disk/kv_format.h has them.

use strict;
use warnings;

use Exporter 'import';

use KV::Util;

our @EXPORT = qw(batches records);

use constant { FIRST => 4096, HEADER => 80, MAGIC => 0x4254564b };


# All of them, in their order, as { offset, length, lsn, count, type }.  The
# last one may be a mark: it has no records and no type.

sub batches {
    my ($file) = @_;
    my $data = read_file($file);
    my $salt = substr $data, 32, 8;
    my ($at, @batches) = (FIRST);

    while ($at + HEADER <= length $data) {
        my ($magic, $len, $count, $lsn, $mine, $type) =
            unpack 'V x4 V V Q< x8 a8 x32 V', substr $data, $at, HEADER;
        last if $magic != MAGIC || $mine ne $salt;
        push @batches, { offset => $at, length => HEADER + $len, lsn => $lsn,
                         count => $count, type => $type };
        last if !$count && !$type;
        $at += HEADER + $len + -$len % 8;
    }

    return @batches;
}


# Those that have records.

sub records { return grep { $_->{count} } batches(@_) }


1;
