#!/bin/bash
# Usage: scripts/build.sh [--quiet] [--poison] [--build-dir DIR]
#        scripts/build.sh --with-nginx TREE [--quiet] [--build-dir DIR]
#
# Builds the module for the nginx of this Debian machine, as
# .build/ngx_http_kv_module.so, that of stream{} beside it, as
# .build/ngx_stream_kv_module.so, and the command-line tool, .build/kv-inspect,
# and installs first what is missing for that (nginx, nginx-dev, a compiler)
# through apt-get, as root or by sudo. When nothing changed it only looks, in a
# fraction of a second.
#
#   --poison           in .build/poison a module for tests, which poisons what
#                      it frees in the zone, and has the failpoints
#   --build-dir DIR    build there instead of in .build
#   --with-nginx TREE  link both into an nginx of its own instead, built from a
#                      copy of the source tree TREE, as
#                      .build/nginx-static/nginx
#   --quiet            print nothing unless it fails
#
# How each source is compiled is then in .build/compile_commands.json, for
# editors and tools (clangd, clang-tidy).
#
# The module has the cluster if libraft can be had, which scripts/raft.sh looks
# for; KV_RAFT=no in the environment does without it.
#
# KV_CFLAGS in the environment adds compiler flags (KV_CFLAGS=-DNAME). With them
# it is a build for tests, without the tool, and sooner made: before them it has
# -O1 -g1.
#
# To build into an nginx of your own, no script is needed: in its source tree,
# give ./configure the options --with-threads and --add-dynamic-module=DIR (or
# --add-module=DIR), where DIR is the folder of this project.

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

sdk=/usr/share/nginx/src

build=$repo/.build
tree=
quiet=
raft=
cflags=${KV_CFLAGS-}


main()
{
    parse_arguments "$@"
    mkdir -p "$build/logs" 2>/dev/null || die "cannot write to $build"
    build=$(cd -- "$build" && pwd -P)
    log=$build/logs/build.log

    # Several scripts may find the module out of date at once.
    exec 9>"$build/.lock" || die "cannot write to $build"
    flock 9

    require_packages
    raft=$(raft_folder) || exit
    [[ $raft || $quiet ]] \
        || echo "without the cluster: $("$repo/scripts/raft.sh")" >&2

    if [[ $tree ]]; then
        build_static
    else
        build_dynamic
    fi

    [[ $cflags ]] || build_tool
}


parse_arguments()
{
    while [[ $# -gt 0 ]]; do
        case $1 in
            --help|-h)      usage_of "$0"; exit ;;
            --quiet)        quiet=yes ;;
            --poison)       build=$repo/.build/poison
                            cflags+=" -DKV_POISON -DKV_TEST_FAILPOINTS" ;;
            --build-dir)    build=$(next_argument "$@"); shift ;;
            --build-dir=*)  build=${1#*=} ;;
            --with-nginx)   tree=$(next_argument "$@"); shift ;;
            --with-nginx=*) tree=${1#*=} ;;
            *)              die "unknown argument: $1 (try --help)" ;;
        esac
        shift
    done

    if [[ $tree ]]; then
        [[ -f $tree/auto/modules && -f $tree/src/core/nginx.c ]] \
            || die "not an nginx source tree: $tree"
        tree=$(cd -- "$tree" && pwd -P)
    fi

    cflags=${cflags:+-O1 -g1 $cflags}
}


# nginx-dev depends on the libraries that nginx's ./configure looks for. With
# an nginx of one's own, they come one by one.
require_packages()
{
    need gcc "${CC:-cc}"
    need libc6-dev /usr/include/stdio.h
    need make make
    need libjansson-dev /usr/include/jansson.h
    need libssl-dev /usr/include/openssl/evp.h
    need libhiredis-dev /usr/include/hiredis/hiredis.h

    if [[ $tree ]]; then
        need libpcre2-dev /usr/include/pcre2.h
        need zlib1g-dev /usr/include/zlib.h
    else
        need nginx nginx
        need nginx-dev $sdk/conf_flags
    fi

    install_missing "$build/logs/apt.log"
}


build_dynamic()
{
    local dir=$build/nginx-src module
    local modules=(ngx_http_kv_module.so ngx_stream_kv_module.so)

    # A module and its nginx must be of one version: nginx refuses it else.
    if ! grep -q "NGINX_VERSION *\"$(nginx_version)\"" $sdk/src/core/nginx.h
    then
        die "$sdk (nginx-dev) is of another version than $(command -v nginx)"
    fi

    # Sets NGX_CONF_FLAGS, the configuration that Debian's nginx has.
    # shellcheck source=/dev/null
    . $sdk/conf_flags

    # Debian's stream is a module of its own, whose sources are not there: ours
    # are made one by one.
    configure $sdk "$dir" --add-dynamic-module "${NGX_CONF_FLAGS[@]}" \
        --with-stream=dynamic
    compile "$dir" "${modules[@]/#/objs/}"
    write_commands "$dir" "${modules[@]/#/objs/}"

    for module in "${modules[@]}"; do
        publish "$dir/objs/$module" "$build/$module"
    done
}


build_static()
{
    local dir=$build/nginx-static

    # What is said before the configuration is read goes where Debian sends it.
    configure "$tree" "$dir" --add-module --with-threads --with-debug \
        --with-http_ssl_module --with-http_v2_module --with-stream \
        --with-stream_ssl_module --error-log-path=stderr
    compile "$dir" binary
    write_commands "$dir" binary
    publish "$dir/objs/nginx" "$dir/nginx"
}


build_tool()
{
    local dir=$build/tool

    mkdir -p "$dir"

    if ! make -s -C "$repo" -f scripts/tool.mk -j "$(nproc)" DIR="$dir" \
         >"$log" 2>&1
    then
        grep -v '^make' "$log" | head -n 60 >&2
        die "the build of kv-inspect failed: see $log"
    fi

    publish "$dir/kv-inspect" "$build/kv-inspect"
}


nginx_version()
{
    nginx -v 2>&1 | sed -n 's#^nginx version: [^/]*/\([0-9.]*\).*#\1#p'
}


# configure SOURCE DIR HOW OPTION...: makes DIR a configured copy of SOURCE,
# with our module added as the option HOW says, unless it is that already.
configure()
{
    local source=$1 dir=$2 how=$3 addon key stamp=$2.configured
    local script=./configure library=no
    shift 3
    addon=$(path_from "$dir" "$repo")
    [[ ! $raft ]] || library=$(path_from "$dir" "$raft")

    # Releases have the script at the top, nginx's repository has it in auto/.
    [[ -x $source/configure ]] || script=auto/configure

    # nginx's own flags are -W (which is -Wextra), -Wall, -Werror and -O; the
    # hardening is what Debian builds nginx with.
    set -- "$@" "$how=$addon" --with-ld-opt='-Wl,-z,relro -Wl,-z,now' \
        --with-cc-opt="-O2 -Wformat -Werror=format-security \
-fstack-protector-strong -D_FORTIFY_SOURCE=2 \
-ffile-prefix-map=$addon/= $cflags"

    # Everything that the result depends on, except what make looks after: the
    # contents of our sources.
    key=$(
        {
            printf '%s\n' "$repo" "$source" "$library" "$@"
            stat -L -c '%n %Y %s' "$source/$script" "$source"/auto/* \
                "$(command -v "${CC:-cc}")"
            [[ ! $raft ]] || stat -c '%n %Y %s' "$raft"/lib/*/libraft.a
            [[ $tree ]] || nginx -V 2>&1
            cat "$repo/config"
        } | sha256sum
    )

    if [[ -f $stamp && $(<"$stamp") == "$key" && ! -e $dir.compiling ]]; then
        return
    fi

    rm -rf "$dir" "$stamp" "$dir.compiling"
    mkdir -p "$dir"
    cp -R "$source/." "$dir"
    rm -rf "$dir/objs" "$dir/Makefile"

    if ! (cd "$dir" && KV_RAFT=$library $script "$@") >"$log" 2>&1; then
        grep -E 'error' "$log" | tail -n 3 >&2 || true
        die "nginx's ./configure failed: see $log"
    fi

    printf '%s\n' "$key" >"$stamp"
}


# path_from DIR PATH: the way from DIR to what is in this project, for nginx's
# makefile, which cannot quote. From .build it is made of dots; an absolute path
# may hold anything.
path_from()
{
    local path=$2

    if [[ $1 == "$repo"/.build/* && $2/ == "$repo"/* ]]; then
        path=$(realpath -m --relative-to="$1" "$2")
    fi

    if [[ $path == *[!A-Za-z0-9_./+,@%:-]* ]]; then
        die "nginx's makefile cannot take this path, move the project: $path"
    fi

    printf '%s\n' "$path"
}


# compile DIR TARGET...: prints what the compiler says only if it fails. The
# file DIR.compiling stays if make is killed, or this script: objects may be cut
# off then, which make would take for done. A make that fails cleans up after
# itself; its status is at most 2.
compile()
{
    local dir=$1 jobs status=0
    shift

    jobs=$(nproc)
    : >"$dir.compiling"

    # -s: the log holds messages, not commands.
    make -s -C "$dir" -f objs/Makefile -j "$jobs" -O "$@" >"$log" 2>&1 \
        || status=$?

    (( status > 2 )) || rm "$dir.compiling"

    if (( status != 0 )); then
        grep -v '^make' "$log" | sed 's#\.\./\.\./##g' | head -n 60 >&2
        die "the build failed: see $log"
    fi
}


# write_commands DIR TARGET...: what make would do for our sources, anew.
write_commands()
{
    local dir=$1 file=$build/compile_commands.json
    shift

    if [[ $file -nt $dir/objs/Makefile ]]; then
        return
    fi

    make -s -n -B -C "$dir" -f objs/Makefile "$@" 2>/dev/null \
        | awk -v dir="$dir" -f "$repo/scripts/commands.awk" >"$file.new"
    mv "$file.new" "$file"
}


# publish FILE PRODUCT: by rename, since a running nginx may have the old
# product mapped.
publish()
{
    if [[ $1 -nt $2 ]] || ! cmp -s "$1" "$2"; then
        cp "$1" "$2.new"
        mv "$2.new" "$2"
        [[ $quiet ]] || printf 'built %s\n' "$2"
    else
        [[ $quiet ]] || printf 'up to date: %s\n' "$2"
    fi
}


main "$@"
