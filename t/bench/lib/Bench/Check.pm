package Bench::Check;

# One request of each kind to what Bench::Field compares, which tells whether
# all do the same work.

use strict;
use warnings;

use HTTP::Tiny ();

use constant MIB => 1_048_576;


# What a target gives is what it took, in each of these sizes.

sub values {
    my ($target, @sizes) = @_;
    my $http = HTTP::Tiny->new(timeout => 30);

    for my $size (@sizes) {
        next if $target->{name} eq 'return' && $size >= MIB;

        if ($target->{put}) {
            my $r = $http->put(url($target, 'put', $size),
                               { content => 'x' x $size });
            die "$target->{name}: PUT of $size bytes: $r->{status}\n"
                unless $r->{status} =~ /^20[014]$/;
        }

        if ($target->{get}) {
            my $r = $http->get(url($target, 'get', $size));
            die "$target->{name}: GET does not give back $size bytes\n"
                unless $r->{status} == 200 && $r->{content} eq 'x' x $size;
        }
    }
}


# What nginx answers by itself has the very headers of our answers: neither
# side sends more bytes, but for some digits of the tag.

sub heads {
    my ($ours, $peer) = @_;
    my $op = $peer->{put} ? 'put' : 'get';
    my @heads = map { head($_, $op) } $ours, $peer;

    die "answers differ:\n$heads[0]\n\n$heads[1]\n" if $heads[0] ne $heads[1];
}


sub head {
    my ($target, $op) = @_;
    my $body = $op eq 'put' ? { content => 'x' x 100 } : {};
    my $r = HTTP::Tiny->new(timeout => 30)
        ->request(uc $op, url($target, $op, 100), $body);
    my $h = $r->{headers};

    $h->{etag} =~ s/^"[0-9a-f]+-[0-9a-f]+"$/a tag/ if $h->{etag};

    return join "\n", $r->{status}, map { $_ eq 'date' ? $_ : "$_: $h->{$_}" }
                                    sort keys %$h;
}


sub url {
    my ($target, $op, $size) = @_;
    my $path = $target->{$op} =~ s/SIZE/$size/r =~ s/%d/0/r;
    return "http://127.0.0.1:$target->{port}$path";
}


1;
