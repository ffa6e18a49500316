#!/bin/bash
# Usage: scripts/bench.sh [--quick] [--rounds N] [--workers N]
#
# Measures the module on this machine against what the machine itself can do,
# and prints it as a table:
#
#   - one PUT of 100 bytes at a time, against one GET and one sync of the disk
#   - PUTs from 256 connections, against syncs of the disk one after the other
#   - GETs of 100 bytes, against nginx's own "return 200" with the same body
#
# All run in turn, in several rounds, so that whatever else the machine does
# meets all alike; the table gives the median of the rounds and their range.
# The data is under .build, on the project's own disk. This is a report, not a
# test: its status is 0 if it could measure.
#
#   --rounds N   (default: 5)
#   --workers N  nginx worker processes (default: 2)
#   --quick      two short rounds, to see that it works

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

build=$repo/.build
bin=$build/bench
rounds=5
turns=5
workers=2

# Set once the server runs.
dir=
pid=
port=

# What else the machine was doing before the first round.
load=

# By name: all samples, in one string.
declare -A samples


main()
{
    local round

    parse_arguments "$@"
    prepare
    read -r load _ </proc/loadavg
    trap clean_up EXIT
    trap 'exit 1' INT TERM HUP
    start_server
    warm_up

    for (( round = 1; round <= rounds; round++ )); do
        [[ ! -t 2 ]] || printf '\rround %d of %d ' $round "$rounds" >&2
        measure_round
    done

    [[ ! -t 2 ]] || printf '\r\033[K' >&2
    print_report
}


parse_arguments()
{
    while [[ $# -gt 0 ]]; do
        case $1 in
            --help|-h)   usage_of "$0"; exit ;;
            --quick)     rounds=2 turns=1 ;;
            --rounds)    rounds=$(next_argument "$@"); shift ;;
            --rounds=*)  rounds=${1#*=} ;;
            --workers)   workers=$(next_argument "$@"); shift ;;
            --workers=*) workers=${1#*=} ;;
            *)           die "unknown argument: $1 (try --help)" ;;
        esac
        shift
    done

    [[ $rounds =~ ^[1-9][0-9]?$ ]] || die "not a number of rounds: $rounds"
    [[ $workers =~ ^[1-9][0-9]?$ ]] || die "not a number of workers: $workers"
}


prepare()
{
    local name

    mkdir -p "$build/logs" "$bin"
    "$repo/scripts/build.sh" --quiet >&2

    need wrk wrk
    need curl curl
    install_missing "$build/logs/apt.log"

    for name in syncprobe httplat; do
        "${CC:-cc}" -O2 -Wall -Wextra -Werror -o "$bin/$name" \
            "$repo/t/bench/$name.c"
    done
}


start_server()
{
    local body

    dir=$(mktemp -d "$bin/run.XXXXXX")
    mkdir "$dir/tmp"
    printf -v body '%0100d' 0

    port=18000
    while port_is_taken $port; do
        port=$(( port + 1 ))
    done

    cat >"$dir/nginx.conf" <<END
load_module $(quote "$build/ngx_http_kv_module.so");

daemon off;
$(user_directive)
pid $(quote "$dir/nginx.pid");
error_log $(quote "$dir/error.log") notice;
worker_processes $workers;

events {
    worker_connections 2048;
}

http {
    access_log off;
    default_type text/plain;
    keepalive_requests 1000000000;
    client_body_temp_path $(quote "$dir/tmp/body");
    proxy_temp_path $(quote "$dir/tmp/proxy");
    fastcgi_temp_path $(quote "$dir/tmp/fastcgi");
    uwsgi_temp_path $(quote "$dir/tmp/uwsgi");
    scgi_temp_path $(quote "$dir/tmp/scgi");

    kv_zone zone=main:256m $(quote "path=$dir/kv") sync=always;

    server {
        listen 127.0.0.1:$port backlog=4096;

        location /kv/ {
            kv main;
        }

        location = /health {
            kv_health main;
        }

        location = /return {
            return 200 "$body";
        }
    }
}
END

    nginx -e stderr -p "$dir/" -c "$dir/nginx.conf" 2>"$dir/stderr" &
    pid=$!

    for _ in {1..100}; do
        if curl -sf -o /dev/null "http://127.0.0.1:$port/health"; then
            return
        fi

        kill -0 $pid 2>/dev/null || break
        sleep 0.1
    done

    cat "$dir/stderr" "$dir/error.log" >&2 2>/dev/null || true
    die "nginx does not start"
}


clean_up()
{
    if [[ $pid ]]; then
        kill -TERM "$pid" 2>/dev/null || true
        wait "$pid" || true
    fi

    [[ -z $dir ]] || rm -rf "$dir"
}


# The key that is read, as many keys as are written, and clocks up to speed.
warm_up()
{
    "$bin/httplat" "$port" PUT /kv/lone 1000 100 >/dev/null
    "$bin/httplat" "$port" GET /kv/lone 1000 >/dev/null
    run_wrk 256 1 /kv/ -s "$repo/t/bench/put.lua" >/dev/null
    run_wrk 64 1 /return >/dev/null
}


# In short turns: what else the machine does, and how the clients happen to be
# shared out between the workers, can weigh more than what is compared here.
measure_round()
{
    local turn one two put=0 get=0 sync=0 puts=0 syncs=0 gets=0 returns=0

    for (( turn = 0; turn < turns; turn++ )); do
        { read -r one _; read -r two _; } \
            < <("$bin/httplat" "$port" PUT,GET /kv/lone 500 100)
        put+=+$one
        get+=+$two
        sync+=+$(first "$bin/syncprobe" "$dir" 500)
    done

    for (( turn = 0; turn < turns; turn++ )); do
        puts+=+$(run_wrk 256 1 /kv/ -s "$repo/t/bench/put.lua")
        syncs+=+$(third "$bin/syncprobe" "$dir" 2000)
    done

    for (( turn = 0; turn < turns; turn++ )); do
        gets+=+$(run_wrk 64 1 /kv/lone0)
        returns+=+$(run_wrk 64 1 /return)
    done

    add lone_put "($put) / $turns"
    add lone_get "($get) / $turns"
    add sync_us "($sync) / $turns"
    add lone_ratio "($put) / ($get + $sync)"
    add puts "($puts) / $turns"
    add syncs "($syncs) / $turns"
    add puts_ratio "($puts) / ($syncs)"
    add gets "($gets) / $turns"
    add returns "($returns) / $turns"
    add gets_ratio "($gets) / ($returns)"
}


# add NAME EXPRESSION: one more sample.
add()
{
    samples[$1]+="$(awk "BEGIN { printf \"%.4f\", $2 }") "
}


# The first, or third, of the numbers that a command prints.

first()
{
    "$@" | awk '{ print $1 }'
}


third()
{
    "$@" | awk '{ print $3 }'
}


# run_wrk CONNECTIONS SECONDS PATH [OPTION...]: prints requests a second.
run_wrk()
{
    local connections=$1 time=$2 path=$3 out
    shift 3

    out=$(wrk -t 2 -c "$connections" -d "${time}s" "$@" \
          "http://127.0.0.1:$port$path")

    # A server that refuses is quick: no number is better than such a one.
    if grep -E 'Non-2xx|Socket errors' <<<"$out" >&2; then
        die "errors under load: $path with $connections connections"
    fi

    awk '$1 == "Requests/sec:" { print $2 }' <<<"$out"
}


print_report()
{
    printf '%s, %d cores, Linux %s\n' "$(cpu_name)" "$(nproc)" "$(uname -r)"
    printf '%s, %d workers; data on %s\n' "$(nginx -v 2>&1)" "$workers" \
        "$(df --output=source,fstype "$dir" | awk 'NR == 2 { print $1, $2 }')"
    printf 'load average %s before; %d rounds: median (least .. greatest)\n\n' \
        "$load" "$rounds"

    line 'lone PUT, 100 bytes' lone_put %.0f us
    line 'lone GET, 100 bytes' lone_get %.0f us
    line 'write and sync of 200 bytes' sync_us %.0f us
    line 'PUT / (GET + sync)' lone_ratio %.2f x '<= 1.3'
    echo
    line 'PUT, 256 connections' puts %.0f /s
    line 'syncs, one after the other' syncs %.0f /s
    line 'PUT / syncs' puts_ratio %.2f x '>= 4'
    echo
    line 'GET, 64 connections' gets %.0f /s
    line 'return 200, 64 connections' returns %.0f /s
    line 'GET / return 200' gets_ratio %.2f x '>= 0.9'
}


cpu_name()
{
    awk -F ': *' '/^model name/ { print $2; exit }' /proc/cpuinfo
}


# line TITLE NAME FORMAT UNIT [TARGET]
line()
{
    tr ' ' '\n' <<<"${samples[$2]}" | sed '/^$/d' | sort -n \
        | awk -v title="$1" -v format="$3" -v unit="$4" -v target="${5-}" '
            { v[NR] = $1 }
            END {
                h = int((NR + 1) / 2)
                median = (v[h] + v[NR + 1 - h]) / 2
                line = sprintf("%-28s %10s %-2s  (" format " .. " format ")",
                               title, sprintf(format, median), unit,
                               v[1], v[NR])
                if (target) {
                    split(target, t, " ")
                    ok = (t[1] == "<=" ? median <= t[2] : median >= t[2])
                    line = sprintf("%-64s target %s: %s", line, target,
                                   ok ? "met" : "MISSED")
                }
                print line
            }'
}


main "$@"
