package Bench::Variables;

# What a variable of kv_get costs a request: a location that answers with a
# value, beside the same with nginx's map, and with what Debian's Lua and njs
# keep in memory, where they are installed (libnginx-mod-http-lua,
# libnginx-mod-http-js; njs shares a dictionary from 0.8 on).  One key for
# all requests, as of a flag, beside a map to a constant; or 10,000, of which
# each request has the next, beside such a map and one of as many keys.

use strict;
use warnings;

use Bench::Load;
use Bench::Nginx;
use Bench::Process;
use Bench::Report;

use constant { CONNECTIONS => 64, KEYS => 10_000, SIZE => 100 };


sub measure {
    my ($bench) = @_;
    my ($value, $last) = (value(), KEYS - 1);
    my %peer = peers($bench);
    my $nginx = Bench::Nginx->new(bench => $bench, name => 'variables',
        workers => 2, zones => [[values => '256m', '']],
        top => join('', map { $_->{top} } values %peer),
        block => <<"END" . join('', map { $_->{block} } values %peer),
    map_hash_max_size 65536;
    map \$arg_k \$all { include all.map; }
    map \$arg_k \$constant { default $value; }
    map flag \$same { default $value; }
    kv_get \$arg_k \$value zone=values;
    kv_get 0 \$flag zone=values;
END
        locations => <<'END' . join('', map { $_->{location} } values %peer));
location = /all { return 200 $all; }
        location = /map { return 200 $constant; }
        location = /get { return 200 $value; }
        location = /same { return 200 $same; }
        location = /flag { return 200 $flag; }
END

    write_to("$nginx->{dir}/all.map", join '', map { "$_ $value;\n" }
             0 .. $last);

    for my $peer (values %peer) {
        my %file = %{$peer->{files} || {}};
        write_to("$nginx->{dir}/$_", $file{$_}) for sort keys %file;
    }

    $nginx->start;
    $nginx->request(POST => '/values.bulk', join '', map {
        qq({"key":"$_","value":"$value"}\n)
    } 0 .. $last);
    $nginx->request(GET => $_) for grep { $_ } map { $_->{fill} } values %peer;

    my @names = (qw(all map get same flag), sort keys %peer);
    for my $path (map { ("/$_?k=0", "/$_?k=$last") } @names) {
        my $answer = $nginx->request(GET => $path);
        die "$path: $answer->{status} $answer->{content}\n"
            if $answer->{content} ne $value;
    }

    my $sent = 0;
    my @pairs = ([qw(flag same)], [qw(get map)], [qw(get all)],
                 map { [ get => $_ ] } sort keys %peer);
    my %rates = turns($bench, $bench->{rounds} * 4, map {
        my ($ours, $other) = @$_;
        $other => sub { asked($bench, $nginx, \$sent, $ours, $other) };
    } @pairs);
    $nginx->stop;

    return (row('kv_get of one key, against map', $rates{same}, '>= 0.97'),
            row('kv_get of ' . number(KEYS) . ' keys, against it',
                $rates{map}),
            row('  against map of as many', $rates{all}),
            map { row("  against $peer{$_}{name}", $rates{$_}) }
            sort keys %peer);
}


# Those that are installed: a name, lines for the configuration, and files of
# nginx's directory.

sub peers {
    my ($bench) = @_;
    my ($modules) = qx("$bench->{nginx}" -V 2>&1) =~ /--modules-path=(\S+)/;
    my %peer;

    return if !$modules;

    $peer{lua} = lua($modules) if -e "$modules/ngx_http_lua_module.so";

    # what Debian 12's njs keeps cannot change, but by a reload

    my $js = "$modules/ngx_http_js_module.so";
    my $has = sub { -e $js && system('grep', '-q', $_[0], $js) == 0 };

    $peer{njs} = $has->('js_shared_dict_zone') ? njs($js)
                 : $has->('js_preload_object') ? old_njs($js) : undef;
    delete $peer{njs} if !$peer{njs};

    return %peer;
}


sub lua {
    my ($modules) = @_;
    my ($value, $last) = (value(), KEYS - 1);

    return {
        name => "Lua's shared dict",
        top => "load_module $modules/ndk_http_module.so;\n"
               . "load_module $modules/ngx_http_lua_module.so;\n",
        block => <<"END",
    lua_shared_dict dict 64m;
    init_by_lua_block {
        for i = 0, $last do ngx.shared.dict:set(tostring(i), "$value") end
    }
END
        location => <<'END',
        location = /lua {
            set_by_lua_block $lua {
                return ngx.shared.dict:get(ngx.var.arg_k)
            }
            return 200 $lua;
        }
END
    };
}


sub njs {
    my ($js) = @_;
    my ($value, $last) = (value(), KEYS - 1);

    return {
        name => "njs's shared dict",
        top => "load_module $js;\n",
        block => <<'END',
    js_shared_dict_zone zone=all:64m;
    js_import values.js;
    js_set $njs values.value;
END
        location => <<'END',
        location = /njs { return 200 $njs; }
        location = /fill { js_content values.fill; }
END
        files => { 'values.js' => <<"END" },
function value(r) {
    return ngx.shared.all.get(r.variables.arg_k);
}
function fill(r) {
    for (var i = 0; i <= $last; i++) ngx.shared.all.set('' + i, '$value');
    r.return(200);
}
export default { value, fill };
END
        fill => '/fill',
    };
}


sub old_njs {
    my ($js) = @_;
    my $value = value();

    return {
        name => "njs's preloaded object",
        top => "load_module $js;\n",
        block => <<'END',
    js_import values.js;
    js_preload_object all from all.json;
    js_set $njs values.value;
END
        location => <<'END',
        location = /njs { return 200 $njs; }
END
        files => {
            'values.js' => <<'END',
function value(r) {
    return all[r.variables.arg_k];
}
export default { value };
END
            'all.json' => '{' . join(',', map { qq("$_":"$value") }
                                          0 .. KEYS - 1) . '}',
        },
    };
}


sub value { return 'v' x SIZE }


sub write_to {
    my ($name, $text) = @_;
    open(my $f, '>', $name) or die "$name: $!\n";
    print $f $text;
    close $f;
}


# The rates of both, which take turns on the same connections: how these are
# spread over the workers makes more of a difference than a variable.

sub asked {
    my ($bench, $nginx, $sent, $ours, $other) = @_;
    return httpload($bench, port => $nginx->{port}, method => 'GET',
                    connections => CONNECTIONS, seconds => $bench->{look},
                    path => "/$ours?k=%lu", other => "/$other?k=%lu",
                    keys => KEYS, counter => $sent);
}


sub row {
    my ($name, $rates, $target) = @_;
    my ($ours, $peer) = map { my $i = $_; [ map { $_->[$i] } @$rates ] } 0, 1;
    return { name => $name, unit => '/s', ours => $ours, peer => $peer,
             $target ? (target => $target) : (),
             ratio => ratios($ours, $peer) };
}


1;
