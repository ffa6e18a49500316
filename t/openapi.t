# src/http/openapi.yaml: it is valid, and has all that the sources and the pages
# say; schemathesis, which makes requests of it, finds nothing that a server
# does otherwise, and does find what others do wrong.

# long

use strict;
use warnings;

use JSON::PP ();
use Test::More;

use KV::Test;

my $ROOT = Cwd::getcwd();
my $FILE = "$ROOT/src/http/openapi.yaml";
my $PYTHON = "$ROOT/.build/venv/bin/python";

system('scripts/venv.sh');
plan(skip_all => 'schemathesis is not installed, and PyPI cannot be reached')
    if $? >> 8 == 77;
BAIL_OUT('schemathesis cannot be installed') if $?;


# ---- the document

my ($valid, $json) = split /\n/, qx($PYTHON t/lib/openapi.py $FILE);

is($valid, 'valid', 'it is an OpenAPI document');

my $doc = JSON::PP::decode_json($json);
my (%responses, %texts);

# What a reference stands for.

sub here {
    my ($at) = @_;

    while (ref $at eq 'HASH' && $at->{'$ref'}) {
        my $path = $at->{'$ref'} =~ s{^#/}{}r;
        $at = $doc;
        $at = $at->{$_} for split m{/}, $path;
    }

    return $at // BAIL_OUT('a reference to nothing');
}

for my $path (keys %{$doc->{paths}}) {
    for my $method (qw(get head put post delete)) {
        my $all = ($doc->{paths}{$path}{$method} // next)->{responses};

        for my $status (keys %$all) {
            my $response = here($all->{$status});
            my $schema = here($response->{content}{'text/plain'}{schema} // {});

            $responses{uc($method) . " $path"}{$status} = 1;
            $texts{"$status $_"} = 1
                for map { s/\n\z//r } grep { /\n\z/ }
                    $schema->{const} // (), @{$schema->{enum} || []};
        }
    }
}


# the contract: each request, and what it may get

my $READ = '400 403 404 412 414 500 503';
my $WRITE = '200 400 403 404 412 414 500 503 507';
my %contract = (
    'GET /kv/{key}' => "200 206 304 416 $READ",
    'HEAD /kv/{key}' => "200 206 304 416 $READ",
    'PUT /kv/{key}' => '200 400 403 408 412 413 414 428 500 503 507',
    'POST /kv/{key}' => "$WRITE 405 409 428",
    'DELETE /kv/{key}' => "$WRITE 428",
    'GET /keys' => '200 400 403 500 503',
    'HEAD /keys' => '200 400 403 500 503',
    'DELETE /keys' => '200 400 403 409 428 500 501 503 507',
    'POST /bulk' => '200 400 403 408 413 428 500 501 503 507',
    'POST /batch' => '200 400 403 408 409 412 413 428 500 501 503 507',
    'GET /backup' => '200 400 500 503',
    'HEAD /backup' => '200 400 500 503',
    'GET /watch' => '200 400 403 410 500 503',
    'HEAD /watch' => '200 400 403 410 500 503',
    'DELETE /clear' => '200 400 428 500 501 503 507',
    'GET /health' => '200 500 503',
    'HEAD /health' => '200 500 503',
    'GET /stats' => '200 500',
    'HEAD /stats' => '200 500',
    'GET /metrics' => '200 400 500',
    'HEAD /metrics' => '200 400 500',
    'GET /cluster/info' => '200 500',
    'HEAD /cluster/info' => '200 500',
    'GET /dashboard' => '200 500',
    'HEAD /dashboard' => '200 500',
);

is_deeply({ map { $_ => join ' ', sort keys %{$responses{$_}} }
            keys %responses },
          { map { $_ => join ' ', sort split / /, $contract{$_} }
            keys %contract },
          'it has each request, and each status');


# the directives, and the requests of the README

my %paths = map { $_ => 1 } keys %{$doc->{paths}};
my ($commands) = read_file('ngx_http_kv_module.c')
                 =~ /^static ngx_command_t(.*?)^};/ms;
is_deeply([ sort keys %paths ],
          [ sort '/kv/{key}', map { s{^/cluster\z}{/cluster/info}r }
            map { "/$_" }
            $commands =~ /ngx_string\("kv_(\w+)"\),\s*NGX_HTTP_LOC_CONF\b/g ],
          'it has a path for each directive of a location alone');

my ($table) = read_file('README.md')
              =~ /^## The HTTP interface\n.*?\n\|---.*?\n(.*?)\n\n/ms;
my %told = map { $_ => 1 }
           map { /`([A-Z]+ \/[^`?]*)[`?]/g }
           map { (split / \| /)[0] } split /\n/, $table;
is_deeply([ sort keys %told ], [ sort keys %responses ],
          'it has the requests of the README, and no other');


# the texts of errors

my %said;
for my $file (grep { !/dashboard_page/ } glob 'src/http/*.c') {
    my $code = read_file($file) =~ s/"\s*\n\s*"//gr;
    $said{$1} = 1 while $code =~ /"([A-Za-z][^"\\%]*)\\n"/g;
    $said{$1} = 1 while $code =~ /\*wrong = "([^"\\]+[^"\\n])";/g;
}
{
    my $code = read_file('src/base/kv_key.c');
    $said{$1} = 1 while $code =~ /(?:return|[?:]) "([^"\\]+)"/g;
}
is_deeply([ sort keys %{{ map { s/^\d+ //r => 1 } keys %texts }} ],
          [ sort keys %said ], 'it has each text of the sources');

my $page = read_file('src/http/README.md') =~ s/\n {2}/ /gr;
my %explained = map { $_ => 1 } map { s/`//gr }
                $page =~ /\b([45]\d\d `[A-Za-z][^`{]*`)/g;
is_deeply([ sort keys %texts ], [ sort keys %explained ],
          'it has the errors of the page, each with its status');


# ---- a server

my $s = KV::Test->new(zone => '64m', kv => 'list=on feed=64k ' .
                                           'cluster=127.0.0.1:%%port%%',
                      wrong => free_port(),
                      server => 'large_client_header_buffers 4 32k;
                          location = /keys { kv_keys main; }
                          location = /watch { kv_watch main; }
                          location = /cluster/info { kv_cluster main; }
                          location = /dashboard { kv_dashboard; }',
                      servers => q(server {
                          listen 127.0.0.1:%%wrong%%;
                          large_client_header_buffers 4 32k;
                          location / {
                              proxy_pass http://127.0.0.1:%%port%%;
                              proxy_hide_header ETag;
                              proxy_intercept_errors on;
                              error_page 404 = @none;
                          }
                          location @none {
                              default_type text/plain;
                              add_header Cache-Control no-cache always;
                              return 404 "nothing here\n";
                          }
                          location = /health { return 204; }
                          location = /stats {
                              proxy_pass http://127.0.0.1:%%port%%;
                              proxy_hide_header Content-Type;
                              add_header Content-Type text/html;
                          }
                          location = /keys {
                              default_type application/json;
                              return 200 '{"keys":[]}';
                          }
                          location = /clear {
                              default_type text/plain;
                              add_header Cache-Control no-cache;
                              return 200;
                          }
                      }));

# Without libraft there are no clusters.

my @without;
if (($s->test_config)[1] =~ /"cluster=" needs the library libraft/) {
    @without = ('--exclude-path', '/cluster/info');
    $s->{kv} =~ s/ cluster=.*//;
    $s->{server} =~ s/location \S+ \S+ \{ kv_cluster.*?\}//;
}

$s->start;


# Runs schemathesis on a port: its status, and what it says. It reads JSON in
# less time than YAML.

write_file("$s->{dir}/openapi.json", $json);

sub schemathesis {
    my ($port, @options) = @_;
    my $file = "$s->{dir}/schemathesis";
    my $pid = fork // die "fork: $!";

    if ($pid == 0) {
        alarm(0);
        delete @ENV{grep { /^SCHEMATHESIS/ } keys %ENV};
        $ENV{SCHEMATHESIS_HOOKS} = "$ROOT/t/lib/openapi_hooks.py";
        chdir $s->{dir};
        open(STDOUT, '>', $file);
        open(STDERR, '>&', \*STDOUT);
        { exec 'timeout', 500, $PYTHON, '-m', 'schemathesis.cli',
               '--config-file', "$ROOT/t/lib/schemathesis.toml",
               'run', "$s->{dir}/openapi.json",
               '--url', "http://127.0.0.1:$port", @options }
        POSIX::_exit(127);
    }

    waitpid($pid, 0);
    return ($? >> 8, read_file($file));
}


my ($status, $out) = schemathesis($s->{port}, @without);
is($status, 0, 'schemathesis finds nothing') or diag($out);


# it has seen much of it

my %seen = %{$s->stats->{routes}};
for (['kv', GET => qw(400 404)], ['kv', HEAD => qw(400 404)],
     ['kv', PUT => qw(200 400)], ['kv', POST => 400],
     ['kv', DELETE => qw(200 400)], ['keys', GET => qw(200 400)],
     ['bulk', POST => qw(200 400)], ['batch', POST => qw(200 400)],
     ['backup', GET => 200], ['clear', DELETE => 200],
     ['health', GET => 200], ['stats', GET => 200])
{
    my ($route, $method, @statuses) = @$_;
    is_deeply([ grep { !$seen{$route}{$method}{status}{$_} } @statuses ], [],
              "it has seen $method of $route: @statuses");
}


# ---- servers that do something else

my @wrong = (
    ['GET /health', 'another status', qr/Undocumented status code/],
    ['GET /stats', 'another type', qr/Undocumented Content-Type/],
    ['GET /kv/{key}', 'no ETag', qr/Missing required .* headers.*`ETag`/s],
    ['GET /kv/{key}', 'another text', qr/Response violates schema/],
    ['GET /keys', 'another body', qr/Response violates schema/],
    ['GET /keys', 'what is wrong is taken', qr/-violating request accepted/],
    ['DELETE /clear', 'another method', qr/Wrong response to undeclared/],
);

# those that the hooks ask for

$s->put($_, 'a value') for qw(greeting n:1 n:2);

($status, $out) = schemathesis($s->{wrong}, '--phases', 'coverage',
                               map { ('--include-name', $_) }
                               keys %{{ map { $_->[0] => 1 } @wrong }});
is($status, 1, 'it finds what is wrong');

# What is said of a request, or of another method on its path.

for (@wrong) {
    my ($request, $what, $finding) = @$_;
    my $path = $request =~ s/^\S+ //r;
    my $found = join '', $out =~ /^_+ \S+ \Q$path\E _+\n(.*?)(?=^[_=]{5})/msg;
    like($found, $finding, "it finds $request: $what");
}

$s->done;

done_testing();
