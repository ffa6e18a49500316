#!/bin/bash
# Usage: scripts/test.sh [--with-nginx TREE|--poison|--cluster] [PART|FILE]...
#        scripts/test.sh --fast|--ahead
#
# Runs the tests, after installing through apt-get what they need. The parts,
# all of them if none is named:
#
#   lint   scripts/lint.sh: what breaks a rule of the house
#   build  the module, with this machine's nginx; what ./configure refuses;
#          whether t/bench compiles
#   unit   the programs of unit.mk: the store core, under sanitizers
#   raft   the programs of raft.mk: the cluster's simulator, where libraft can
#          be had
#   fuzz   the targets of fuzz.mk, some seconds each: what reads files and
#          requests
#   http   t/*.t: a real nginx with the module
#   lc     the LittleClusters tool's own stages, if lc is in PATH
#
# FILE is one of t/*.t, t/unit/test_*.c or t/raft/test_*.c, to run that alone,
# with all it says.
#
#   --with-nginx TREE  the parts build and http only, on an nginx built from
#                      this source tree with the module linked in
#   --fast             in a minute: lint without cppcheck, the module, a few
#                      of t/*.t, and the tests that belong to what changed,
#                      by their names, since this branch left the main one,
#                      there since the last commit
#   --poison           the part http, with a module that fills what it frees in
#                      the zone, and checks that no later write changed it. All
#                      but t/lint.t and t/run.t, which do not load it, and the
#                      files that always do, as it has the failpoints
#   --cluster          the part http, with that module, and each store has
#                      cluster= (KV_TEST_CLUSTER=1): all but t/lint.t and
#                      t/run.t
#   --ahead            no tests, but all that they need: packages are installed,
#                      programs compiled. What fails is tried again, and told,
#                      when it is tested
#
# Each part says one line when it passes, and what went wrong when it does not;
# the rest is in .build/logs. The status is 0 if nothing failed.

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

build=$repo/.build
logs=$build/logs
parts=()
files=()
tree=
poison=

# A sanitizer's programs and a whole run of t/*.t, in seconds, are ended after
# these: a test that hangs is a failure, not a run without an end.
unit_limit=900
fuzz_seconds=2
http_limit=1200
lc_limit=200

passed=0
failed=0
skipped=0

# Whether the module was built: yes, no, or not tried yet.
built=

# What runs now, and what is made meanwhile: process groups that are to end with
# this script.
group=
ahead=


main()
{
    parse_arguments "$@"
    mkdir -p "$logs" 2>/dev/null || die "cannot write to $build"
    cd "$repo"
    require_packages
    trap end_groups EXIT
    trap 'exit 1' INT TERM HUP

    # Of the parts before it, some wait for others or for the network.
    ! wants unit || begin_ahead make_units

    local part

    for part in "${parts[@]}"; do
        "test_$part"
    done

    printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
    (( failed == 0 ))
}


parse_arguments()
{
    while [[ $# -gt 0 ]]; do
        case $1 in
            --help|-h)           usage_of "$0"; exit ;;
            --with-nginx)        tree=$(next_argument "$@"); shift ;;
            --with-nginx=*)      tree=${1#*=} ;;
            --poison)            poison=yes ;;
            --cluster)           poison=yes; export KV_TEST_CLUSTER=1 ;;
            --fast)              parts=(fast) ;;
            --ahead)             parts=(ahead) ;;
            lint|build|unit|raft|fuzz|http|lc) parts+=("$1") ;;
            *.t|*test_*.c)       files+=("$(in_repo "$1")") ;;
            *)                   die "unknown argument: $1 (try --help)" ;;
        esac
        shift
    done

    # The tests run at the top of the project, wherever this was called.
    [[ -z $tree ]] || tree=$(realpath -- "$tree")
    [[ -z $tree || -z $poison ]] || die "not both --with-nginx and --poison"

    if [[ ${#files[@]} -gt 0 ]]; then
        [[ ${#parts[@]} -eq 0 ]] || die "give parts or files, not both"
        parts=(files)
    elif [[ $tree && ${#parts[@]} -eq 0 ]]; then
        parts=(build http)
    elif [[ $poison && ${#parts[@]} -eq 0 ]]; then
        parts=(http)
    elif [[ ${#parts[@]} -eq 0 ]]; then
        parts=(lint build unit raft fuzz http lc)
    fi
}


# in_repo FILE: its path from the top of the project.
in_repo()
{
    [[ -f $1 ]] || die "no such file: $1"
    realpath --relative-to="$repo" -- "$1"
}


require_packages()
{
    need gcc "${CC:-cc}"
    need libc6-dev /usr/include/stdio.h
    need make make
    need libcmocka-dev /usr/include/cmocka.h
    need libjansson-dev /usr/include/jansson.h
    need libssl-dev /usr/include/openssl/evp.h
    need perl prove
    need curl curl
    need procps ps
    install_missing "$logs/apt.log"
}


# in_group COMMAND...: as a process group of its own, without standard input.
# A signal to this script ends it, too: bash would let it run on, or wait.
in_group()
{
    local status=0

    set -m
    "$@" </dev/null &
    group=$!
    set +m
    wait $group || status=$?
    group=
    return $status
}


# begin_ahead COMMAND...: makes what comes later needs, while something else
# runs that leaves some of the processors' time. What cannot be made is tried
# again when it is needed, which tells why.
begin_ahead()
{
    finish_ahead
    set -m
    run_ahead "$@" >"$logs/ahead.log" 2>&1 </dev/null &
    ahead=$!
    set +m
    renice -n 19 -g "$ahead" >/dev/null 2>&1 || true
}


run_ahead()
{
    local command

    for command in "$@"; do
        "$command" || true
    done
}


# Now it is needed: root can let it run as fast as all else.
finish_ahead()
{
    [[ $ahead ]] || return 0
    renice -n "$(nice)" -g "$ahead" >/dev/null 2>&1 || true
    wait "$ahead" || true
    ahead=
}


end_groups()
{
    local one

    for one in $group $ahead; do
        kill -TERM -- "-$one" 2>/dev/null || true
        wait "$one" || true
    done
}


# wants PART: whether it is one of those to be run.
wants()
{
    [[ " ${parts[*]} " == *" $1 "* ]]
}


# report NAME PASSED FAILED SKIPPED REMARK: counts, and says the part's line.
report()
{
    passed=$(( passed + $2 ))
    failed=$(( failed + $3 ))
    skipped=$(( skipped + $4 ))

    printf '%-6s %d passed' "$1:" "$2"
    (( $3 == 0 )) || printf ', %d FAILED' "$3"
    (( $4 == 0 )) || printf ', %d skipped' "$4"
    printf '%s\n' "${5:+ ($5)}"
}


# ---- lint


# test_lint [OPTION]...
test_lint()
{
    local log=$logs/lint.log

    if in_group "$repo/scripts/lint.sh" "$@" >"$log" 2>&1; then
        report lint 1 0 0 "no findings"
    else
        cat "$log"
        report lint 0 1 0 ""
    fi
}


# ---- build


test_build()
{
    local failures=0 checks=0 check

    for check in build_module refuses_no_threads refuses_old_nginx \
        refuses_no_jansson refuses_no_libcrypto does_without_libraft \
        hides_libraft refuses_clusters outlives_a_kill compiles_benchmarks
    do
        checks=$(( checks + 1 ))

        if ! $check; then
            printf 'FAILED: %s\n' "$check"
            failures=$(( failures + 1 ))
        fi
    done

    report build $(( checks - failures )) $failures 0 "$(tested_nginx)"
}


# Tells the tests by KV_NGINX and KV_MODULE which nginx to start, and what
# module to load into it. If that cannot be built, it says why only once.
build_module()
{
    if [[ -z $built ]]; then
        built=no

        if [[ $tree ]]; then
            "$repo/scripts/build.sh" --quiet --with-nginx "$tree" || return
            export KV_MODULE='' KV_NGINX=$build/nginx-static/nginx
        elif [[ $poison ]]; then
            "$repo/scripts/build.sh" --quiet --poison || return
            export KV_MODULE=$build/poison/ngx_http_kv_module.so KV_NGINX
            KV_NGINX=$(command -v nginx)
        else
            "$repo/scripts/build.sh" --quiet || return
            export KV_MODULE=$build/ngx_http_kv_module.so KV_NGINX
            KV_NGINX=$(command -v nginx)
        fi

        built=yes
    fi

    [[ $built == yes ]]
}


# What no other test runs.
compiles_benchmarks()
{
    local script

    make -s -j "$(nproc)" -f scripts/bench.mk DIR="$build/bench" KV_CFLAGS= \
        ${CC:+"CC=$CC"} own || return

    for script in t/bench/*.pl; do
        perl -It/lib -It/bench/lib -c "$script" 2>"$logs/perl.log" \
            || { cat "$logs/perl.log"; return 1; }
    done
}


# The addon's config is sourced by nginx's ./configure, from a script like this
# one, once for a dynamic and once for a static module.

refuses_no_threads()
{
    configure_says 1022001 NO '--with-threads' \
        && configure_says 1022001 YES '' \
        && STREAM=NO configure_says 1022001 YES ''
}


refuses_old_nginx()
{
    configure_says 1021006 YES 'nginx 1.22'
}


refuses_no_jansson()
{
    missing=jansson configure_says 1022001 YES 'libjansson-dev'
}


refuses_no_libcrypto()
{
    missing=libcrypto configure_says 1022001 YES 'libssl-dev'
}


# But not without the one that it is told of.
does_without_libraft()
{
    KV_RAFT='' missing=libraft configure_says 1022001 YES '' \
        && KV_RAFT=no missing=libraft configure_says 1022001 YES '' \
        && KV_RAFT=/a missing=libraft configure_says 1022001 YES 'KV_RAFT=no'
}


# Where libraft can be had it is in the module; but other modules see nothing of
# it, and the module needs no library for it.
hides_libraft()
{
    local module=${KV_MODULE:-$KV_NGINX}

    ! nm -D "$module" | grep -E ' (__wrap|raft|uv)_' \
        && ! readelf -d "$module" | grep -E 'NEEDED.*lib(lz4|raft|uv)' \
        || return

    [[ ! $KV_MODULE ]] || ! nm -D --defined-only "$module" \
        | grep -vE ' (kv|ngx)_[a-z0-9_]+$' || return

    [[ -z $(raft_folder) || $(nm "$module") == *' t raft_step'* ]]
}


# A module that was built without libraft refuses cluster=. Here that is the one
# file that knows, compiled anew in a copy of what was built: all of them would
# take a minute.
refuses_clusters()
{
    local dir=$build/no-libraft module=$KV_MODULE said

    [[ $module ]] || return 0

    if [[ $(raft_folder) ]]; then
        rm -rf "$dir"
        cp -a "$build/nginx-src" "$dir"
        rm "$dir/objs/addon/http/ngx_http_kv_conf_cluster.o"
        sed -i 's/ -DKV_HAVE_RAFT=1//' "$dir/objs/Makefile"
        make -s -C "$dir" -f objs/Makefile objs/ngx_http_kv_module.so || return
        module=$dir/objs/ngx_http_kv_module.so
    fi

    echo "load_module \"$module\"; error_log stderr; events {}
          http { kv_zone zone=a:4m path=a cluster=127.0.0.1:80; }" \
        >"$logs/cluster.conf"
    ! said=$("$KV_NGINX" -t -p "$logs" -c "$logs/cluster.conf" 2>&1) \
        && [[ $said == *'"cluster=" needs the library libraft '* ]]
}


# configure_says VERSION USE_THREADS WORDS: whether the addon's config refuses
# such an nginx with one line that has these words or, without words, takes it;
# where the variable `missing` names a library, without that one.
configure_says()
{
    local dir=$build/configure lines

    rm -rf "$dir"
    mkdir -p "$dir/auto" "$dir/src/core"
    echo "#define nginx_version      $1" >"$dir/src/core/nginx.h"
    # shellcheck disable=SC2016
    echo 'case $ngx_feature in *${missing:-none}*) ngx_found=no ;;
          *) ngx_found=yes ;; esac' >"$dir/auto/feature"
    # shellcheck disable=SC2016
    echo 'echo "$ngx_module_type $ngx_module_name"' >"$dir/auto/module"

    lines=$(cd "$dir" && USE_THREADS=$2 ngx_addon_dir=$repo \
            sh -c '. "$ngx_addon_dir/config"' ./configure 2>&1) || true

    if [[ $3 ]]; then
        [[ $lines == *"$3"* && $lines != *$'\n'* ]]
    else
        [[ $lines == "HTTP_FILTER ngx_http_kv_module" ]]
    fi
}


# A build that was killed leaves an object that is cut off, and that make takes
# for done. In place of nginx there is a tree whose makefile does just that.
outlives_a_kill()
{
    local dir=$build/killed tree=$build/killed/tree
    local again=(scripts/build.sh --quiet --build-dir "$dir"
                 --with-nginx "$tree")

    rm -rf "$dir"
    mkdir -p "$tree/auto" "$tree/src/core"
    touch "$tree/auto/modules" "$tree/src/core/nginx.c"

    cat >"$tree/configure" <<'END'
#!/bin/sh
mkdir objs
printf 'binary: objs/nginx\nobjs/nginx: objs/a\n\tcp objs/a $@\n' \
    >objs/Makefile
printf 'objs/a:\n\t>$@; test ! -e ../kill || { kill -9 $$PPID; exit; }; ' \
    >>objs/Makefile
printf 'echo whole >$@\n' \
    >>objs/Makefile
END
    chmod +x "$tree/configure"
    touch "$dir/kill"

    ! "${again[@]}" 2>/dev/null && [[ -e $dir/nginx-static/objs/a ]] \
        && rm "$dir/kill" && "${again[@]}" \
        && [[ $(<"$dir/nginx-static/nginx") == whole ]]
}


# ---- unit


test_unit()
{
    local all=() threaded=() clustered=()

    finish_ahead
    list_units

    # The other programs are compiled while the first ones run.
    begin_ahead make_threaded make_raft make_fuzz
    run_units asan address,undefined "${all[@]}"

    begin_ahead make_http
    run_clustered "${clustered[@]}"
    [[ ${#threaded[@]} -eq 0 ]] || run_units tsan thread "${threaded[@]}"
    finish_ahead
}


# run_clustered [FILE]...: those whose stores are once more nodes of a cluster,
# where it can be had, and if not all are by KV_TEST_CLUSTER=1.
run_clustered()
{
    [[ $# -gt 0 && -z ${KV_TEST_CLUSTER-} && $(raft_folder) ]] || return 0
    KV_TEST_CLUSTER=1 run_units asan address,undefined "$@"
}


# Sets the caller's `all`; `threaded`, those that have threads worth watching
# and say so; and `clustered`, those that say so.
list_units()
{
    mapfile -t all < <(listed unit.mk)
    [[ ${#all[@]} -gt 0 ]] || die "no tests in scripts/unit.mk"

    mapfile -t all < <(long_first "${all[@]}")
    mapfile -t threaded < <(grep -lF '/* tsan */' "${all[@]}")
    mapfile -t clustered < <(grep -lxF '/* cluster */' "${all[@]}")
}


make_units()
{
    local all threaded clustered

    list_units
    compile_units asan address,undefined "${all[@]}"
}


make_threaded()
{
    local all threaded clustered

    list_units
    compile_units tsan thread "${threaded[@]}"
}


# long_first FILE...: those that say so come first, so that none of them is
# still busy when the others have long been ready.
long_first()
{
    [[ $# -gt 0 ]] || return 0
    grep -lxE '/\* long \*/|# long' "$@" || true
    grep -LxE '/\* long \*/|# long' "$@" || true
}


# compile_units KIND SANITIZERS FILE...
compile_units()
{
    local kind=$1 sanitizers=$2 names makefile=unit.mk
    shift 2

    names=("${@##*/}")
    [[ $kind != raft ]] || makefile=raft.mk
    make -s -j "$(nproc)" -f "scripts/$makefile" DIR=".build/unit-$kind" \
        SANITIZE="$sanitizers" TESTS="${names[*]%.c}" RAFT="$(raft_folder)" \
        >"$logs/unit-$kind.log" 2>&1
}


# run_units KIND SANITIZERS FILE...
run_units()
{
    local kind=$1 sanitizers=$2 dir=$build/unit-$1 names=() file name
    local log i counts=(0 0 0) sum=(0 0 0) mode=${KV_TEST_CLUSTER:+-cluster}
    shift 2

    for file in "$@"; do
        name=${file##*/}
        names+=("${name%.c}")
    done

    log=$logs/unit-$kind.log

    if ! in_group compile_units "$kind" "$sanitizers" "$@"; then
        head -n 60 "$log"
        [[ $kind == raft ]] || kind=unit
        report "$kind" 0 1 0 "does not compile with -fsanitize=$sanitizers"
        return
    fi

    export -f run_unit
    printf '%s\0' "${names[@]}" >"$logs/unit-$kind.names"
    in_group xargs -0 -P 2 -a "$logs/unit-$kind.names" -I {} \
        bash -c 'run_unit "$@"' run_unit \
            {} "$dir" "$logs/unit-$kind$mode" "$unit_limit" "$(without_aslr)"

    for name in "${names[@]}"; do
        log=$logs/unit-$kind$mode-$name.log
        read -ra counts < <(count_cmocka "$log")

        # It may have died before or after cmocka said its last word.
        if [[ $(<"$log.status") != 0 ]]; then
            (( counts[1] > 0 )) || counts[1]=1
            printf 'FAILED: %s, status %s: %s\n' \
                "$name${mode:+ in a cluster} under $sanitizers" \
                "$(<"$log.status")" "$log"
            grep -v -E '^\[ +(RUN|OK) +\]' "$log" | head -n 60 || true
        fi

        for i in 0 1 2; do
            sum[i]=$(( sum[i] + counts[i] ))
        done
    done

    [[ $kind == raft ]] || kind=unit
    report "$kind" "${sum[@]}" \
        "${#names[@]} programs${mode:+ in a cluster}, -fsanitize=$sanitizers"
}


# run_unit NAME DIR LOG_PREFIX LIMIT [COMMAND]: in a place for its files that
# goes, however it ends. What is freed is held back for less long than usual:
# all that is allocated meanwhile is new memory, which takes a kernel's time; as
# do the sanitizer's notes of a zone, if they are new ones for each store.
run_unit()
{
    local log=$3-$1.log status=0 tmp pid
    local options=quarantine_size_mb=16:clear_shadow_mmap_threshold=33554432

    tmp=$(mktemp -d)
    chmod 755 "$tmp"                          # other users play in it, too
    # shellcheck disable=SC2086
    TMPDIR=$tmp ASAN_OPTIONS=$options:${ASAN_OPTIONS-} \
        timeout -k 5 "$4" $5 "$2/$1" >"$log" 2>&1 </dev/null &
    pid=$!
    trap 'kill $pid; wait $pid; rm -rf -- "$tmp"; exit 1' TERM
    wait $pid || status=$?
    rm -rf -- "$tmp"
    [[ $status -ne 124 ]] || echo "ended after $4 seconds" >>"$log"
    echo $status >"$log.status"
}


# count_cmocka LOG: tests passed, failed and skipped, over all its groups.
count_cmocka()
{
    awk '/^\[ +[A-Z]+ +\] [0-9]+ test/ { n[$2] += $4 }
         END { print n["PASSED"] + 0, n["FAILED"] + 0, n["SKIPPED"] + 0 }' "$1"
}


# ---- raft


make_raft()
{
    local all

    if wants raft && "$repo/scripts/raft.sh"; then
        mapfile -t all < <(listed raft.mk)
        compile_units raft address,undefined "${all[@]}"
    fi
}


# test_raft [FILE]...: where libraft cannot be had, there is nothing to test.
test_raft()
{
    local all=() raft

    if ! raft=$("$repo/scripts/raft.sh"); then
        skipped=$(( skipped + 1 ))
        printf 'raft:  skipped: %s\n' "$(tail -n 1 <<<"$raft")"
        return
    fi

    all=("$@")
    [[ $# -gt 0 ]] || mapfile -t all < <(listed raft.mk)
    run_units raft address,undefined "${all[@]}"
}


# ---- fuzz


make_fuzz()
{
    ! wants fuzz || "$repo/scripts/fuzz.sh" --build
}


test_fuzz()
{
    local log=$logs/fuzz.out status=0 counts

    in_group "$repo/scripts/fuzz.sh" --seconds $fuzz_seconds >"$log" 2>&1 \
        || status=$?

    if (( status == 77 )); then
        skipped=$(( skipped + 1 ))
        printf 'fuzz:  skipped: %s\n' "$(tail -n 1 "$log")"
        return
    fi

    # "5 targets, 0 failed, 1234 executions"
    counts=$(tail -n 1 "$log")

    if (( status == 0 )) && [[ $counts =~ ^([0-9]+)\ targets,\ (0)\ failed, ]]
    then
        report fuzz "${BASH_REMATCH[1]}" 0 0 "${counts##*, }"
    else
        cat "$log"
        report fuzz 0 1 0 ""
    fi
}


# ---- http


# What of the tests need besides the module.
make_http()
{
    if wants http && build_module; then
        "$repo/scripts/build.sh" --quiet --poison
        mkdir -p "$build/tool-asan"
        flock "$build/tool-asan/.lock" make -s -f scripts/tool.mk \
            DIR="$build/tool-asan" SANITIZE=address,undefined
        "$repo/scripts/venv.sh"
        require_http3
        require_redis
        require_browser
        require_prometheus
        require_stream
    fi
}


test_http()
{
    local tests=(t/*.t)

    if [[ ! -e ${tests[0]} ]]; then
        report http 0 0 0 "no tests in t"
        return
    fi

    # t/lint.t and t/run.t load no module, or that of .build. What has the
    # failpoints is poisoned whenever it runs.
    if [[ $poison ]]; then
        mapfile -t tests < <(grep -LE 'scripts/(lint|run)\.sh' "${tests[@]}")

        [[ ${KV_TEST_CLUSTER-} ]] || mapfile -t tests < <(grep -LF \
            'KV::Test::with_failpoints()' "${tests[@]}")
    fi

    mapfile -t tests < <(long_first "${tests[@]}")
    run_prove "${tests[@]}"
}


# run_prove FILE... [--verbose]
run_prove()
{
    local status=0 tap=$logs/tap counts=() shown=$logs/http.log

    if ! build_module; then
        report http 0 1 0 "nothing to test"
        return
    fi

    [[ ${*: -1} != --verbose ]] || shown=/dev/stdout
    [[ " $* " != *' t/h3.t '* ]] || require_http3
    [[ " $* " != *' t/openapi.t '* ]] || require_schemathesis
    [[ " $* " != *' t/inspect_import.t '* ]] || require_redis
    [[ " $* " != *'browser.t '* ]] || require_browser
    [[ " $* " != *' t/metrics.t '* ]] || require_prometheus
    [[ " $* " != *' t/stream.t '* ]] || require_stream

    # prove leaves there what each test printed, to be counted. Some at a time:
    # much of a test is to wait for a disk that hangs, or a time to be over.
    rm -rf "$tap"
    mkdir -p "$tap"
    PERL_TEST_HARNESS_DUMP_TAP=$tap in_group timeout -k 15 "$http_limit" \
        prove -It/lib -j4 "$@" >"$shown" 2>&1 || status=$?

    read -ra counts < <(count_tap "$tap")

    # A test can also fail by its status alone, or by having no plan.
    if (( status != 0 )); then
        (( counts[1] > 0 )) || counts[1]=1
        (( status != 124 )) || echo "ended after $http_limit seconds"
        [[ $shown == /dev/stdout ]] || show_failures "$shown"
    fi

    report http "${counts[@]}" "$(tested_nginx)"
}


# What t/h3.t needs where nginx speaks HTTP/3: a client, and openssl to make a
# certificate. Where they cannot be installed that test is skipped: the module
# needs neither, and the other tests are worth their run.
require_http3()
{
    if [[ $("$KV_NGINX" -V 2>&1) != *--with-http_v3_module* ]]; then
        return 0
    fi

    (
        need openssl openssl

        if ! python3 -c 'import aioquic' 2>/dev/null; then
            need python3-aioquic /usr/lib/python3/dist-packages/aioquic
            apt-cache show python3-aioquic >/dev/null 2>&1 || exit 1
        fi

        install_missing "$logs/apt.log"
    ) || echo "http:  t/h3.t is skipped: no python3-aioquic, or no openssl"
}


# What a part of t/inspect_import.t needs: a Redis to import from.
require_redis()
{
    (
        need redis-server redis-server
        install_missing "$logs/apt.log"
    ) || echo "http:  a part of t/inspect_import.t is skipped: no redis-server"
}


# What t/openapi.t needs, here so that the test does not wait for it. That one
# says what is wrong.
require_schemathesis()
{
    "$repo/scripts/venv.sh" \
        || echo "http:  t/openapi.t has no schemathesis: $logs/venv.log"
}


# What t/*browser.t need: axe-core, from npm, and Chromium. They are installed
# where npm is, as on a machine of developers: on a bare Debian, both together
# are 1 GB, for a page that has the same bytes on every release.
require_browser()
{
    (
        "$repo/scripts/npm.sh" || exit
        need chromium chromium
        install_missing "$logs/apt.log"
    ) || echo "http:  t/*browser.t are skipped: no npm, or no Chromium"
}


# What t/metrics.t needs, which says so where it cannot be installed.
require_prometheus()
{
    (
        need prometheus /usr/bin/prometheus
        install_missing "$logs/apt.log"
    ) || echo "http:  t/metrics.t has no prometheus: $logs/apt.log"
}


# What t/stream.t needs, where nginx has no stream of its own: that test says so
# where it cannot be installed.
require_stream()
{
    if [[ $("${KV_NGINX:-nginx}" -V 2>&1) =~ --with-stream( |$) ]]; then
        return 0
    fi

    (
        need libnginx-mod-stream /usr/lib/nginx/modules/ngx_stream_module.so
        install_missing "$logs/apt.log"
    ) || echo "http:  t/stream.t has no stream: $logs/apt.log"
}


# show_failures LOG: what prove says of failed tests, and their list.
show_failures()
{
    awk -v most=100 '
        /^Test Summary Report/         { summary = 1 }
        !summary && /\.\. (ok|skipped)/ { next }
        ++lines <= most || summary     { print; next }
        !cut                           { cut = 1; print "..." }
        ' "$1"
    printf 'all of it: %s\n' "$1"
}


tested_nginx()
{
    "${KV_NGINX:-nginx}" -v 2>&1 | sed 's/^nginx version: //'
}


# count_tap DIR: tests passed, failed and skipped. A test file that was skipped
# as a whole counts as one.
count_tap()
{
    find "$1" -type f -exec cat {} + | awk '
        /^ok .*# *[Ss][Kk][Ii][Pp]/     { skipped++; next }
        /^1\.\.0 *# *[Ss][Kk][Ii][Pp]/  { skipped++; next }
        /^not ok .*# *[Tt][Oo][Dd][Oo]/ { skipped++; next }
        /^not ok/                       { failed++ }
        /^ok/                           { passed++ }
        END                             { print passed + 0, failed + 0,
                                                skipped + 0 }'
}


# ---- lc


test_lc()
{
    local stages=(http-api persistence crash-recovery) stage good=0 bad=0

    if ! have lc; then
        skipped=$(( skipped + ${#stages[@]} ))

        if have clstr; then
            echo "lc:    skipped: clstr needs Docker and an image"
        else
            echo "lc:    skipped: neither lc nor clstr is in PATH"
        fi

        return
    fi

    if ! build_module; then
        report lc 0 1 0 "nothing to test"
        return
    fi

    prepare_lc_folder

    for stage in "${stages[@]}"; do
        if (cd "$build/lc" && timeout -k 15 $lc_limit lc test "$stage") \
           >"$logs/lc-$stage.log" 2>&1 </dev/null
        then
            good=$(( good + 1 ))
        else
            bad=$(( bad + 1 ))
            printf 'FAILED: lc test %s\n' "$stage"
            tail -n 40 "$logs/lc-$stage.log"
            stop_lc_servers
        fi
    done

    report lc $good $bad 0 "${stages[*]}"
}


# lc leaves its servers' data and logs in the folder that it is run in.
prepare_lc_folder()
{
    rm -rf "$build/lc"
    mkdir -p "$build/lc"
    cp "$repo/scripts/lc/lc.state" "$build/lc/"
    ln -s ../../scripts/lc/run.sh "$build/lc/run.sh"
}


# lc can give up without stopping the server that it started.
stop_lc_servers()
{
    local file pid

    for file in "$build"/lc/.lc/run-*/nginx.pid; do
        if [[ -r $file ]] && read -r pid <"$file" \
           && grep -qF "$build/lc/" "/proc/$pid/cmdline" 2>/dev/null
        then
            kill -KILL -- "-$pid" || true
        fi
    done
}


# ---- all that tests need


test_ahead()
{
    parts=(lint build unit raft fuzz http)
    in_group run_ahead look_ahead build_module make_units make_threaded \
        make_raft make_fuzz make_http >"$logs/ahead.log" 2>&1
    exit
}


# Of lint, the part that does not look again at what it has seen.
look_ahead()
{
    "$repo/scripts/lint.sh" cppcheck
}


# ---- what changed


# Beside what changed itself, those few that would notice most.
test_fast()
{
    local units=() tests=(t/contract.t t/restart.t) all=() file name test
    local raft=

    mapfile -t all < <(listed unit.mk)

    while IFS= read -r file; do
        name=${file##*/}

        case $file in
            t/lint.t)        [[ -f $file ]] && tests+=("$file") ;;
            t/contract.t|t/restart.t) ;;
            t/*/*.t)         ;;
            t/*.t)           [[ ! -f $file ]] || tests+=("$file") ;;
            t/unit/test_*.c) [[ ! -f $file ]] || units+=("$file") ;;
            scripts/lint*)   tests+=(t/lint.t) ;;
            src/raft/*|t/raft/*) raft=yes ;;
            src/*/kv_*)
                name=${name#kv_}
                name=${name%%[_.]*}

                for test in "${all[@]}"; do
                    [[ $test != t/unit/test_"$name"* ]] || units+=("$test")
                done ;;
        esac
    done < <(changed_files)

    test_lint --quick

    if [[ ${#units[@]} -gt 0 ]]; then
        mapfile -t units < <(printf '%s\n' "${units[@]}" | sort -u)
        run_units asan address,undefined "${units[@]}"
    fi

    [[ -z $raft ]] || test_raft
    mapfile -t tests < <(printf '%s\n' "${tests[@]}" | sort -u)
    run_prove "${tests[@]}"
}


# Since the branch left origin's main one or ours; if it did not, by the last
# commit and after it.
changed_files()
{
    local base='' main

    for main in origin/HEAD origin/main main; do
        base=$(git merge-base HEAD "$main" 2>/dev/null) && break
    done

    if [[ -z $base || $base == "$(git rev-parse HEAD)" ]]; then
        base=HEAD~1
    fi

    git diff --name-only "$base" --
    git ls-files --others --exclude-standard
}


# ---- single files


test_files()
{
    local file units=() rafts=() tests=()

    for file in "${files[@]}"; do
        case $file in
            *.t)      tests+=("$file") ;;
            t/raft/*) rafts+=("$file") ;;
            *)        units+=("$file") ;;
        esac
    done

    if [[ ${#units[@]} -gt 0 ]]; then
        run_units asan address,undefined "${units[@]}"

        for file in "${units[@]}"; do
            file=${file##*/}
            cat "$logs/unit-asan${KV_TEST_CLUSTER:+-cluster}-${file%.c}.log"
        done

        for file in "${units[@]}"; do
            if grep -qxF '/* cluster */' "$file"; then
                run_clustered "$file"
            fi

            if grep -qF '/* tsan */' "$file"; then
                run_units tsan thread "$file"
            fi
        done
    fi

    [[ ${#rafts[@]} -eq 0 ]] || test_raft "${rafts[@]}"

    if [[ ${#tests[@]} -gt 0 ]]; then
        run_prove "${tests[@]}" --verbose
    fi
}


main "$@"
