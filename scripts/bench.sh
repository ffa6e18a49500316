#!/bin/bash
# Usage: scripts/bench.sh [--quick] [--only PART,...] [--rounds N] [--markdown]
#        scripts/bench.sh --plots [DIR] [--quick] [--most KEYS] [--redraw]
#
# Measures the module on this machine, side by side with nginx's own answers,
# with Redis (every write synced) by its own protocol and behind the HTTP bridge
# webdis, and with what the disk can do. Prints four tables: the project's
# targets, each with the ratio to its peer; a survey of methods, sizes,
# connections and workers; what goes beyond GET and PUT (conditions, counters,
# batches, lists, bulk loads), with how that grows; and the tools of both. It
# takes twenty minutes. A fifth, of watches, is there for the asking.
#
# Whatever is compared runs in turn, A B B A, so that what else the machine does
# meets all alike; a ratio is taken within each round, and its median and range
# are printed. All servers run on loopback; their data is below .build, on the
# project's own disk, and is removed at the end. wrk, Redis and webdis, and for
# watches etcd and nchan, are installed from Debian where they are missing; rows
# of what cannot be installed are left out.
#
# This is a report, not a test: its status is 0 if it could measure, and an
# error under load is the end of it.
#
#   --quick      everything once and briefly, to see that it works
#   --only PART  some of these, separated by commas:
#                  rates    requests a second, 100 bytes; bytes logged
#                  latency  a lone write; writes during a snapshot
#                  large    values of 1 MiB; readers that do not read
#                  start    a start with many keys; memory per key
#                  core     the store without nginx
#                  counting what kv_incr costs requests
#                  variables what kv_get costs, beside map; and beside Lua and
#                           njs, where libnginx-mod-http-lua and -js are there
#                  cluster  what cluster= costs writes
#                  matrix   the survey
#                  api      conditions, counters, expiry, batches, lists, bulk
#                           loads
#                  tools    load, check, dump, backup, restore of many keys
#                  watch    10,000 idle watchers, and 100 of what is written,
#                           beside nchan and etcd; seven minutes, and no part
#                           of a whole run
#                  targets  all but the survey, api, tools and watch
#   --rounds N   rounds of the targets (default: 5), or of plots (default: 3)
#   --markdown   print tables as in a README
#   --plots DIR  measure instead how cost grows with the number of keys, and
#                draw it with gnuplot, which is installed where it is missing:
#                DIR/growth.dat and DIR/growth-*.svg (default: t/bench). It
#                needs up to 7 GB of memory, or stops at fewer keys, and takes
#                about two minutes on a machine that has nothing else to do
#   --most KEYS  no more keys than that (default: 10000000)
#   --redraw     draw what DIR/growth.dat has from before

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

build=$repo/.build
bin=$build/bench

# No run takes so long, in seconds, but one that hangs.
limit=1800

# What else the machine was doing before.
read -r load _ </proc/loadavg

# Workers of a master that is root stay root: the project may be where no other
# user can go, and WebDAV opens its files by their path.
user=
[[ $EUID -ne 0 ]] || user='user root;'

# Those that are there to compare with.
peers=()

# Where plots go, if they are wanted, and what else was said of them.
plots=
plot_arguments=()

# Whether watches are among what is measured.
watches=


main()
{
    case ${1-} in
        --help|-h) usage_of "$0"; exit ;;
    esac

    command="scripts/bench.sh $*"
    check_arguments "$@"
    mkdir -p "$build/logs" "$bin"
    [[ ! $plots ]] || draw_plots
    "$repo/scripts/build.sh" --quiet >&2

    need wrk wrk
    need make make
    need perl prove
    need curl curl
    install_missing "$build/logs/apt.log"
    install_peers

    compile

    BENCH_BIN=$bin BENCH_MODULE=$build/ngx_http_kv_module.so \
    BENCH_TOOL=$build/kv-inspect \
    BENCH_USER=$user BENCH_PEERS=${peers[*]} BENCH_LOAD=$load \
        exec timeout --foreground -k 30 "$limit" \
        perl "$repo/t/bench/bench.pl" "$@"
}


check_arguments()
{
    local only_plots='' only_tables=''

    while [[ $# -gt 0 ]]; do
        case $1 in
            --quick)    plot_arguments+=("$1") ;;
            --markdown) only_tables=$1 ;;
            --only)     check_parts "$(next_argument "$@")"
                        only_tables=$1; shift ;;
            --only=*)   check_parts "${1#*=}"; only_tables=${1%%=*} ;;
            --rounds)   check_rounds "$(next_argument "$@")"; shift ;;
            --rounds=*) check_rounds "${1#*=}" ;;
            --plots)    plots=$repo/t/bench
                        if [[ ${2-} && $2 != -* ]]; then
                            plots=$2; shift
                        fi ;;
            --plots=*)  plots=${1#*=} ;;
            --most)     check_most "$(next_argument "$@")"
                        only_plots=$1; shift ;;
            --most=*)   check_most "${1#*=}"; only_plots=${1%%=*} ;;
            --redraw)   plot_arguments+=("$1"); only_plots=$1 ;;
            *)          die "unknown argument: $1 (try --help)" ;;
        esac
        shift
    done

    if [[ $plots ]]; then
        [[ ! $only_tables ]] || die "$only_tables does not go with --plots"
        [[ -d $plots ]] || die "not a directory: $plots"
    else
        [[ ! $only_plots ]] || die "$only_plots needs --plots"
    fi
}


check_most()
{
    [[ $1 =~ ^[1-9][0-9]{0,9}$ ]] || die "not a number of keys: $1"
    plot_arguments+=("--most=$1")
}


check_rounds()
{
    [[ $1 =~ ^[1-9][0-9]?$ ]] || die "not a number of rounds: $1"
    plot_arguments+=("--rounds=$1")
}


# Draws plots, and ends.
draw_plots()
{
    need gcc "${CC:-cc}"
    need make make
    need perl prove
    need gnuplot-nox gnuplot
    install_missing "$build/logs/apt.log"
    compile

    BENCH_BIN=$bin BENCH_LOAD=$load BENCH_COMMIT=$(commit_name) \
    BENCH_COMMAND=$command \
        exec timeout --foreground -k 30 "$limit" \
        perl "$repo/t/bench/growth.pl" "${plot_arguments[@]}" "$plots"
}


compile()
{
    make -s -C "$repo" -f scripts/bench.mk DIR="$bin" RAFT="$(raft_folder)" \
        ${CC:+"CC=$CC"} >"$build/logs/bench.log" 2>&1 \
        || die "t/bench cannot be compiled: see $build/logs/bench.log"
}


# What is measured; drawings of an earlier state change nothing in it.
commit_name()
{
    local name

    if ! name=$(git -C "$repo" rev-parse --short=12 HEAD 2>/dev/null); then
        echo unknown
    elif git -C "$repo" diff --quiet HEAD -- src t/bench/core; then
        echo "$name"
    else
        echo "$name, with changes"
    fi
}


check_parts()
{
    local part

    for part in ${1//,/ }; do
        case $part in
            watch) watches=yes ;;
            rates|latency|large|start|core|counting|variables|cluster|matrix|\
                api|tools|targets) ;;
            *) die "no such part: $part (try --help)" ;;
        esac
    done
}


# What cannot be installed, in a sandbox without a network say, is left out.
install_peers()
{
    if can_install redis-server redis-server \
       && can_install redis-tools redis-benchmark
    then
        peers+=(redis)

        if can_install webdis webdis; then
            peers+=(webdis)
        fi
    fi

    [[ ! $watches ]] || install_watched
}


# nchan is found where nginx has its modules.
install_watched()
{
    local modules

    if can_install etcd-server etcd; then
        peers+=(etcd)
    fi

    modules=$(nginx -V 2>&1 | grep -o 'modules-path=[^ ]*' || true)
    can_install libnginx-mod-nchan \
        "${modules#modules-path=}/ngx_nchan_module.so" || true
}


# can_install PACKAGE COMMAND: whether it is there, or now is.
can_install()
{
    (need "$1" "$2"; install_missing "$build/logs/apt.log")
}


main "$@"
