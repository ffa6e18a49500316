package KV::Pages;

# The examples of a page, as they stand there.

use strict;
use warnings;

use Exporter 'import';

use KV::Test ();
use KV::Util;

our @EXPORT = qw(page_block with_location);


# The only block of code of a page that has this: of the language `nginx`, `sh`
# and so on.

sub page_block {
    my ($page, $language, $what) = @_;
    my @found = grep { /$what/ }
                read_file($page) =~ /^```$language\n(.*?)^```\n/msg;

    die scalar(@found) . " blocks of $language in $page have $what\n"
        if @found != 1;
    return $found[0];
}


# A server that is not started, with these locations alone beside /health.
# Options as of KV::Test.

sub with_location {
    my ($text, %o) = @_;
    my $s = KV::Test->new(text => $text, %o);
    $s->{conf} = <<'END';
events { }
http {
    access_log off;
    %%temp%%
    kv_zone zone=main:%%zone%% path=%%path%% %%kv%%;
    %%http%%
    server {
        listen 127.0.0.1:%%port%%;
        location = /health { kv_health main; }
        %%text%%
    }
}
END
    return $s;
}


1;
