#!/bin/bash
# Usage: scripts/soak.sh [--minutes N] [PART]...
#
# Runs for long what scripts/test.sh runs for seconds, one part after the
# other, and prints what each came to. The parts, all of them if none is named:
#
#   load      t/soak/load.t: mixed load at three quarters of the zone, while
#             workers die and configurations are reloaded; then no write is
#             lost, and no memory of the zone or the workers
#   fuzz      t/fuzz/fuzz_*.c: what reads files and requests
#   power     t/unit/test_power.c: power cuts
#   raft      t/raft/test_sim.c: the cluster's simulator
#   workers   t/workers.t: workers that die
#   restart   t/restart.t: servers that die
#   linear    t/linear.t: histories are linearizable
#   watch     t/watch_deaths.t: watches, while servers die and are reloaded
#   requests  t/fuzz.t: malformed requests
#
#   --minutes N  how long all of it takes, without building (default: 10)
#
# Each part has its share of the time, the load the largest. The last five run
# at least once, so with few minutes they take longer than that; what takes very
# much longer is ended. What the parts print is in .build/logs/soak-PART.log.
# The status is 0 if nothing failed.

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

build=$repo/.build
logs=$build/logs
minutes=10
parts=()

# Shares of the time, and the rounds that a test has if nothing is said.
declare -A weight=([load]=40 [fuzz]=16 [power]=14 [raft]=6 [workers]=8
                   [restart]=6 [linear]=8 [watch]=8 [requests]=8)
declare -A rounds=([workers]=20 [restart]=12 [linear]=1 [watch]=60
                   [requests]=1)

# What runs now, and what the part came to.
child=
remark=


main()
{
    local part all=0 status=0 ok began

    parse_arguments "$@"
    cd "$repo"
    mkdir -p "$logs"
    trap end_child EXIT
    trap 'exit 1' INT TERM HUP
    prepare

    for part in "${parts[@]}"; do
        all=$(( all + weight[$part] ))
    done

    printf '%-9s %7s  %-7s %s\n' part seconds result totals

    for part in "${parts[@]}"; do
        began=$SECONDS
        remark=
        ok=ok
        : >"$logs/soak-$part.log"
        "soak_$part" $(( minutes * 60 * weight[$part] / all )) || ok=FAILED
        printf '%-9s %7d  %-7s %s\n' "$part" $(( SECONDS - began )) $ok \
            "$remark"

        if [[ $ok == FAILED ]]; then
            status=1
            show_failures "$logs/soak-$part.log"
        fi
    done

    return $status
}


parse_arguments()
{
    while [[ $# -gt 0 ]]; do
        case $1 in
            --help|-h)    usage_of "$0"; exit ;;
            --minutes)    minutes=$(next_argument "$@"); shift ;;
            --minutes=*)  minutes=${1#*=} ;;
            *)            [[ $1 && ${weight[$1]-} ]] \
                              || die "unknown argument: $1 (try --help)"
                          parts+=("$1") ;;
        esac
        shift
    done

    [[ $minutes =~ ^[1-9][0-9]{0,3}$ ]] \
        || die "not a number of minutes: $minutes"

    [[ ${#parts[@]} -gt 0 ]] \
        || parts=(load fuzz power raft workers restart linear watch requests)
}


prepare()
{
    need make make
    need libcmocka-dev /usr/include/cmocka.h
    need perl prove
    need procps ps
    install_missing "$logs/apt.log"

    "$repo/scripts/build.sh" --quiet >&2
    export KV_MODULE=$build/ngx_http_kv_module.so KV_NGINX
    KV_NGINX=$(command -v nginx)
}


# bounded PART SECONDS COMMAND...: ended by force when it takes much longer
# than it should.
bounded()
{
    local part=$1 limit=$(( $2 * 2 + 180 )) status=0
    shift 2

    # The tests of a real nginx have an alarm of their own, which goes first.
    KV_TIMEOUT=$(( limit - 30 )) timeout -k 15 $limit "$@" \
        >>"$logs/soak-$part.log" 2>&1 </dev/null &
    child=$!
    wait $child || status=$?
    child=
    (( status != 124 )) \
        || echo "ended after $limit seconds" >>"$logs/soak-$part.log"
    return $status
}


end_child()
{
    if [[ $child ]]; then
        kill -TERM "$child" 2>/dev/null || true
        wait "$child" || true
    fi
}


# Those whose plan was not kept, too, and what the sanitizers say.
show_failures()
{
    grep -E -A 12 '^not ok|^FAILED|ERROR: |: error:|^Test Summary|ended after' \
        "$1" | cut -c -200 | head -n 60 || true
    printf 'all of it: %s\n' "$1"
}


# ---- the parts


# They need a start and an end besides the load itself.
soak_load()
{
    local status=0 seconds=$(( $1 > 60 ? $1 - 15 : 45 ))

    KV_SECONDS=$seconds bounded load "$1" prove -v -It/lib t/soak/load.t \
        || status=1
    remark=$(sed -n 's/^# total \([a-z]*\) \([0-9]*\)$/\2 \1/p' \
             "$logs/soak-load.log" | paste -sd , | sed 's/,/, /g')
    return $status
}


soak_fuzz()
{
    local status=0 n log=$logs/soak-fuzz.log

    # Two targets run at a time.
    n=$(listed fuzz.mk RAFT="$(raft_folder)" | wc -l)
    n=$(( $1 / ((n + 1) / 2) ))

    bounded fuzz "$1" scripts/fuzz.sh --seconds $(( n > 0 ? n : 1 )) \
        || status=$?
    remark=$(tail -n 1 "$log")
    (( status != 77 )) || remark="skipped: $remark"
    (( status == 0 || status == 77 ))
}


# As many images as fill the time, by what the first ones took.
soak_power()
{
    local began images=5000 sum=0 left log=$logs/soak-power.log

    make -s -j "$(nproc)" -f scripts/unit.mk DIR=.build/unit-asan \
        SANITIZE=address,undefined TESTS=test_power RAFT="$(raft_folder)" \
        >"$log" 2>&1 || return

    while :; do
        began=$SECONDS
        KIT_IMAGES=$images bounded power "$1" .build/unit-asan/test_power \
            || return
        left=$(( $1 - (SECONDS - began) ))
        sum=$(( sum + images ))
        remark="$sum images"
        (( images == 5000 && left > 10 )) || return 0
        images=$(( images * left / (SECONDS - began + 1) + 1 ))
    done
}


# Steps for as long as there is time, by what the first ones took; other worlds
# each time.
soak_raft()
{
    local began raft first=$(( (RANDOM << 15 | RANDOM) * 1000 ))
    local steps=1000000 sum=0 left log=$logs/soak-raft.log

    if ! raft=$(scripts/raft.sh); then
        remark="skipped: $raft"
        return
    fi

    make -s -j "$(nproc)" -f scripts/raft.mk DIR=.build/unit-raft \
        RAFT="$raft" TESTS=test_sim >"$log" 2>&1 || return

    while :; do
        began=$SECONDS
        KIT_FIRST=$first KIT_STEPS=$steps bounded raft "$1" \
            .build/unit-raft/test_sim || return
        left=$(( $1 - (SECONDS - began) ))
        sum=$(( sum + steps ))
        first=$(( first + steps ))
        remark="$sum steps"
        (( steps == 1000000 && left > 10 )) || return 0
        steps=$(( steps * left / (SECONDS - began + 1) + 1 ))
    done
}


soak_workers()
{
    soak_test workers t/workers.t "$1"
}


soak_restart()
{
    soak_test restart t/restart.t "$1"
}


soak_linear()
{
    soak_test linear t/linear.t "$1"
}


soak_watch()
{
    soak_test watch t/watch_deaths.t "$1"
}


soak_requests()
{
    soak_test requests t/fuzz.t "$1"
}


# soak_test PART FILE SECONDS: once as it is, then once more with as many
# rounds as there is time left for.
soak_test()
{
    local began=$SECONDS took left n=${rounds[$1]} sum

    KV_ROUNDS=$n bounded "$1" "$3" prove -v -It/lib "$2" || return
    took=$(( SECONDS - began + 1 ))
    left=$(( $3 - took ))
    sum=$n

    if (( left >= took )); then
        n=$(( n * left / took ))
        KV_ROUNDS=$n bounded "$1" "$3" prove -v -It/lib "$2" || return
        sum=$(( sum + n ))
    fi

    remark="$sum rounds"
}


main "$@"
