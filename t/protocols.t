# HTTP/2 and TLS are nginx's, and must simply work: checked with curl.

use strict;
use warnings;

use Test::More;

use KV::Test;
use KV::Util qw(free_port);

my $curl = qx(curl --version 2>&1);
plan(skip_all => 'no curl') if $? != 0;
plan(skip_all => 'this curl does not speak HTTP/2') if $curl !~ /\bHTTP2\b/;

my $s = KV::Test->new(zone => '64m', kv => 'max_value=4m');
my $nginx = $s->nginx;
plan(skip_all => 'this nginx does not speak HTTP/2')
    if qx($nginx -V 2>&1) !~ /http_v2_module/;

my %url;
my ($dir, $h2, $tls) = ($s->{dir}, free_port(), free_port());
my $locations = <<'END';
        location /kv/ { kv main; }
        location = /clear { kv_clear main; }
        location = /stats { kv_stats main; }
END

$url{'h2'} = "http://127.0.0.1:$h2";
$s->{servers} = "server { listen 127.0.0.1:$h2 http2; $locations }\n";

system("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 "
       . "-nodes -days 2 -subj /CN=localhost -keyout $dir/key.pem "
       . "-out $dir/cert.pem >/dev/null 2>&1");

if ($? == 0) {
    $url{'https'} = $url{'h2 over TLS'} = "https://127.0.0.1:$tls";
    $s->{servers} .= <<"END";
    server {
        listen 127.0.0.1:$tls ssl http2;
        ssl_certificate $dir/cert.pem;
        ssl_certificate_key $dir/key.pem;
        $locations
    }
END
}

$s->start;


# curl's answer: "status version type", and the body.

my %options = ('h2' => '--http2-prior-knowledge', 'https' => '--http1.1',
               'h2 over TLS' => '--http2');

my $failed;

sub curl {
    my ($how, $path, @args) = @_;
    my @command = ('curl', '-s', '-k', '-m', 30, $options{$how},
                   '-o', "$dir/out", '-w', '%{http_code} %{http_version} '
                   . '%{content_type}', @args, "$url{$how}$path");

    unlink "$dir/out";
    open(my $p, '-|', @command) or die "curl: $!";
    my $line = do { local $/; <$p> };
    close $p;
    $failed = $?;
    return ($line, -e "$dir/out" ? read_file("$dir/out") : '');
}


# The same where the answer comes before the body was sent.  nginx then ends
# the stream, and curl may see that first and know nothing, or not all, of the
# answer, of any server: so it is asked again.

sub curl_early {
    my @answer;
    my @args = @_;
    wait_for(sub { @answer = curl(@args); !$failed }, 20);
    return @answer;
}


for my $how (sort keys %url) {
    my $version = $how eq 'https' ? '1.1' : '2';

    for my $len (1, 1000, 16_384, 70_000, 1_000_000, 4 << 20) {
        my $value = substr(value('h', 1, $len), 0, $len);
        write_file("$dir/in", $value);

        is_deeply([ curl($how, '/kv/h', '-T', "$dir/in") ],
                  [ "200 $version text/plain", '' ], "$how: PUT of $len");

        my ($line, $body) = curl($how, '/kv/h');
        is($line, "200 $version text/plain", "$how: GET of $len");
        ok($body eq $value, "$how: the value");

        # without a length: chunked, or just frames

        $value = substr(value('h', 2, $len), 0, $len);
        write_file("$dir/in", $value);
        is_deeply([ curl($how, '/kv/h', '-T', "$dir/in", '-H',
                         'Transfer-Encoding: chunked') ],
                  [ "200 $version text/plain", '' ],
                  "$how: PUT of $len, length unknown");
        ok((curl($how, '/kv/h'))[1] eq $value, "$how: the value");
    }

    my ($line, $head) = curl($how, '/kv/h', '-I');
    is($line, "200 $version text/plain", "$how: HEAD");
    is(join(' ', $head =~ /^cache-control: (.*)\r$/mgi), 'no-cache',
       "$how: caches are told");

    is_deeply([ curl($how, '/kv/h', '-X', 'DELETE') ],
              [ "200 $version text/plain", '' ], "$how: DELETE");
    is_deeply([ curl($how, '/kv/h') ],
              [ "404 $version text/plain", "key not found\n" ], "$how: 404");
    is_deeply([ curl($how, '/kv/') ],
              [ "400 $version text/plain", "key cannot be empty\n" ],
              "$how: empty key");
    is_deeply([ curl($how, '/kv//a') ],
              [ "400 $version text/plain",
                "key contains invalid characters\n" ], "$how: invalid key");
    is_deeply([ curl_early($how, '/kv/h', '-X', 'POST', '-d', 'value') ],
              [ "405 $version text/plain", "method not allowed\n" ],
              "$how: 405");

    write_file("$dir/in", '');
    is_deeply([ curl($how, '/kv/h', '-X', 'PUT', '--data-binary',
                     "\@$dir/in") ],
              [ "400 $version text/plain", "value cannot be empty\n" ],
              "$how: PUT of nothing");

    write_file("$dir/in", 'x' x ((4 << 20) + 1));
    is_deeply([ curl_early($how, '/kv/h', '-T', "$dir/in") ],
              [ "413 $version text/plain", "value too large\n" ],
              "$how: too large");
    is_deeply([ curl_early($how, '/kv/h', '-T', "$dir/in", '-H',
                           'Transfer-Encoding: chunked') ],
              [ "413 $version text/plain", "value too large\n" ],
              "$how: too large, length unknown");

    is_deeply([ curl($how, '/clear', '-X', 'DELETE') ],
              [ "200 $version text/plain", '' ], "$how: clear");

    # cut off: nothing stays

    my $before = $s->used;
    write_file("$dir/in", 'x' x 3_000_000);
    qx(curl -s -k -m 1 --limit-rate 500k $options{$how} -T $dir/in \\
           $url{$how}/kv/h);
    is((curl($how, '/kv/h'))[1], "key not found\n",
       "$how: cut off, nothing is stored");
    my $used;
    ok(wait_for(sub { ($used = $s->used) <= $before }, 20, 0.05),
       "$how: cut off, the memory is freed") or diag("$before, now $used");
}

# many streams of one connection

SKIP: {
    skip('no TLS: curl mixes up parallel streams without it', 2)
        unless $url{'h2 over TLS'};
    write_file("$dir/in", value('m', 1, 100_000));
    my $out = qx(curl -s -k -m 30 --http2 -Z --parallel-max 30 -T $dir/in \\
                     -w '%{http_code}' '$url{"h2 over TLS"}/kv/m[1-30]' \\
                     2>/dev/null);
    is($out, '200' x 30, '30 PUTs at once on one connection');
    is(scalar(grep { $s->get("m$_")->{body} eq value('m', 1, 100_000) }
              1 .. 30),
       30, 'and all of them can be read');
}

$s->done;
done_testing();
