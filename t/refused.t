# A start or a reload that is refused, whoever refuses it, leaves nothing on the
# disk that was not there.

use strict;
use warnings;

use Test::More;

use KV::Test;

# What refuses it once the first zone has been made: an address that this
# machine does not have; and the zone after it, whose directory is an archive.

my %REFUSED = (
    'an address'   => [ 'server { listen 192.0.2.1:1; }', '',
                        qr/192\.0\.2\.1/ ],
    'another zone' => [ '', 'kv_zone zone=last:4m path=%%dir%%/last;',
                        qr/is the archive of a store/ ],
);

sub server {
    my $s = KV::Test->new(zone => '4m', kv => 'segment=256k max_value=64k', @_);
    mkdir "$s->{dir}/last";
    write_file("$s->{dir}/last/archive", '');
    return $s;
}

sub refuse { my ($s, $how) = @_; @$s{qw(servers http)} = @$how; return $s }
sub is_gone { my ($path) = @_; return wait_for(sub { !-e $path }, 10) }
sub mode_of { return sprintf('%04o', (stat $_[0])[2] & 07777) }
sub files { return join ' ', sort keys %{list_dir($_[0])} }


for my $name (sort keys %REFUSED) {
    my @how = @{$REFUSED{$name}};
    my $why = pop @how;
    my $s = server();
    $s->{kv} .= ' archive=%%dir%%/archive';

    # a first start; it makes no directory, and leaves one as it was

    my ($rc, $out) = refuse($s, \@how)->refused;
    ok($rc, "$name: a first start is refused") or next;
    like($out, qr/\[emerg\].*$why/, "$name: it says why");
    ok(!-e $s->{path}, "$name: no directory is left");
    ok(!-e "$s->{dir}/archive", "$name: nor one of an archive");
    is(files("$s->{dir}/last"), 'archive', "$name: nor a file in another one");

    mkdir($s->{path}, 0755);
    ($rc) = $s->refused;
    is(files($s->{path}), '', "$name: an empty directory stays empty");
    is(mode_of($s->{path}), '0755', "$name: and has its mode");

    # a store that is there

    refuse($s, [ '', '' ])->start;
    $s->put('a', 'b');
    is($s->stop('TERM'), 0, "$name: without that it starts");
    my $files = files($s->{path});
    ($rc) = refuse($s, \@how)->refused;
    ok($rc, "$name: refused again");
    is(files($s->{path}), $files, "$name: the files of a store stay");

    # a reload with a new zone

    refuse($s, [ '', '' ])->start;
    is($s->get('a')->{body}, 'b', "$name: and what is in them");
    my $new = 'kv_zone zone=new:4m path=%%dir%%/new segment=256k
                       max_value=64k archive=%%dir%%/more;';
    $s->expect_log(qr/\[emerg\]/);
    ok(defined refuse($s, [ $how[0], "$new $how[1]" ])->reload($why),
       "$name: a reload is refused");
    ok(is_gone("$s->{dir}/new"), "$name: its new zone leaves no directory");
    ok(is_gone("$s->{dir}/more"), "$name: nor one of an archive");
    is($s->put('a', 'c')->{status}, 200, "$name: the old zone is in use");

    ok(defined refuse($s, [ '', $new ])->reload, "$name: without that it goes");
    ok(-e "$s->{dir}/new/kv.lock" && -e "$s->{dir}/more/archive",
       "$name: and the new zone has its directories");
    $s->done;
    ok(-e "$s->{dir}/new/kv.lock", "$name: also when nginx has ended");
}


# nginx -t makes nothing

{
    my $s = server();
    my ($rc, $out) = $s->test_config;
    is($rc, 0, 'nginx -t') or diag($out);
    ok(!-e $s->{path}, 'nginx -t: no directory is made');
}

done_testing;
