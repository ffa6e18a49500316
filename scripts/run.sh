#!/bin/bash
# Usage: scripts/run.sh [--listen ADDRESS[:PORT]] [--port 8080]
#                       [--working-dir ./data] [--workers N] [--zone SIZE]
#
# Runs a key-value server in the foreground: nginx with this module, built
# first if need be. Ctrl-C, or SIGTERM, ends it.
#
#   --listen ADDRESS[:PORT]
#                      listen there: on an IPv4 address, an IPv6 address in
#                      brackets, or * for every address of the machine
#                      (default: $ADDR, else loopback alone). A client that
#                      reaches the port can read, write and clear everything
#   --port N           the port (default: that of --listen or $ADDR, else 8080)
#   --working-dir DIR  keep the data there, and the nginx configuration that is
#                      written at every start (default: $DATA_DIR, else ./data)
#   --workers N        worker processes (default: one a core, at least 2)
#   --zone SIZE        shared memory for all keys and values, as in 512m or 2g
#                      (default: a quarter of the memory, from 256m to 1g; it
#                      takes only what is in use)
#
# --port=N and the like mean the same.
#
# If $PEERS is set, the store is a node of a cluster, whose address is $ADDR,
# and has /cluster/info. It lists the addresses of the other nodes, with commas
# between them. Clusters of several nodes come later: it must be empty.

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

module=$repo/.build/ngx_http_kv_module.so

# What a worker must hold at once: 10,000 clients and then some. An idle place
# for a connection costs a worker some 400 bytes.
connections=16384
# A connection takes one file; the rest is for the listening sockets, the log
# and the like.
spare_files=512

listen=
port=
dir=${DATA_DIR:-./data}
workers=
zone=
cluster=


main()
{
    parse_arguments "$@"
    check_listen
    check_port
    check_workers
    check_zone
    build_module
    check_cluster
    prepare_directory
    await_port
    raise_file_limit
    write_configuration

    # In this process's place: a signal to its group reaches nginx directly.
    exec nginx -e stderr -p "$dir/" -c "$dir/nginx.conf"
}


parse_arguments()
{
    local name value

    while [[ $# -gt 0 ]]; do
        name=${1%%=*}

        case $name in
            --help|-h)
                usage_of "$0"
                exit
                ;;
            --listen|--port|--working-dir|--workers|--zone)
                if [[ $1 == *=* ]]; then
                    value=${1#*=}
                elif [[ $# -gt 1 ]]; then
                    value=$2
                    shift
                else
                    die "$name needs a value (try --help)"
                fi
                ;;
            *)
                die "unknown argument: $1 (try --help)"
                ;;
        esac

        case $name in
            --listen)      listen=${value:- } ;;
            --port)        port=$value ;;
            --working-dir) dir=$value ;;
            --workers)     workers=$value ;;
            --zone)        zone=$value ;;
        esac

        shift
    done
}


# Splits what was given: listen becomes an address as nginx takes it, or nothing
# for loopback; port that which comes with it, unless it has an option.
check_listen()
{
    local given=${listen:-${ADDR-}} ipv6='\[[0-9A-Fa-f:.]+\]' octet
    local wrong="not an IPv4 address, an IPv6 address in brackets, or *"

    [[ $given =~ ^($ipv6|[^]:[]*)(:([^:]+))?$ ]] \
        || die "$wrong, with :PORT or without: ${given@Q}"

    listen=${BASH_REMATCH[1]}
    port=${port:-${BASH_REMATCH[3]}}

    case $listen in
        '')           listen=${given:+*}; return ;;
        localhost)    listen=; return ;;
        \*|0.0.0.0)   listen='*'; return ;;
        \[*)          return ;;
    esac

    [[ $listen =~ ^([0-9]{1,3}\.){3}[0-9]{1,3}$ ]] || die "$wrong: ${given@Q}"

    for octet in ${listen//./ }; do
        (( 10#$octet <= 255 )) || die "$wrong: ${given@Q}"
    done
}


check_port()
{
    port=${port:-8080}

    if ! [[ $port =~ ^0*([0-9]{1,5})$ ]] \
       || (( BASH_REMATCH[1] < 1 || BASH_REMATCH[1] > 65535 ))
    then
        die "not a port from 1 to 65535: $port"
    fi

    port=${BASH_REMATCH[1]}
}


check_workers()
{
    local cores

    if [[ -z $workers ]]; then
        cores=$(nproc)
        workers=$(( cores > 2 ? cores : 2 ))
    fi

    if ! [[ $workers =~ ^[1-9][0-9]{0,3}$ ]]; then
        die "not a number of workers: $workers"
    fi
}


# Sets zone to a number of megabytes, which every nginx directive takes.
check_zone()
{
    local megabytes

    if [[ -z $zone ]]; then
        megabytes=$(( $(memory_kilobytes) / 1024 / 4 ))
        megabytes=$(( megabytes < 256 ? 256 : megabytes ))
        megabytes=$(( megabytes > 1024 ? 1024 : megabytes ))

    elif [[ $zone =~ ^([1-9][0-9]{0,8})([mM]|[gG])$ ]]; then
        megabytes=${BASH_REMATCH[1]}
        [[ ${BASH_REMATCH[2]} == [mM] ]] || megabytes=$(( megabytes * 1024 ))

    else
        die "not a size such as 512m or 2g: $zone"
    fi

    zone=${megabytes}m
}


# The machine's memory, or what this container may use of it.
memory_kilobytes()
{
    local total limit=max

    total=$(awk '$1 == "MemTotal:" { print $2 }' /proc/meminfo)

    if [[ -r /sys/fs/cgroup/memory.max ]]; then
        limit=$(</sys/fs/cgroup/memory.max)
    fi

    if [[ $limit != max ]] && (( limit / 1024 < total )); then
        total=$(( limit / 1024 ))
    fi

    printf '%s\n' "$total"
}


build_module()
{
    # A user who cannot build (a service account, a read-only disk) runs what
    # there is.
    if [[ -e $module && ! -w $repo/.build ]]; then
        return
    fi

    "$repo/scripts/build.sh" --quiet >&2
}


# Sets cluster to what kv_zone gets, or to nothing: the store is a plain one.
check_cluster()
{
    local addr=${ADDR-} ip='(\[[0-9A-Fa-f:.]+\]|[0-9]{1,3}(\.[0-9]{1,3}){3})'

    [[ -v PEERS ]] || return 0

    if ! [[ $addr =~ ^$ip:[0-9]+$ ]] || [[ $addr == 0.0.0.0:* ]]; then
        die "PEERS needs ADDR, this node's address, as in" \
            "192.0.2.1:8080: ${addr@Q}"
    fi

    if [[ $PEERS ]]; then
        [[ $PEERS =~ ^[][0-9A-Fa-f:.,@]+$ ]] \
            || die "PEERS is no list of addresses: ${PEERS@Q}"

        cluster="cluster=$addr peers=$PEERS"

    # The words of a message: a build without libraft has none of a cluster.
    elif grep -qF 'is a cluster of its own' "$module"; then
        cluster="cluster=$addr"

    else
        printf '%s: there is no libraft: the store is no node of a cluster\n' \
            "${0##*/}" >&2
    fi
}


prepare_directory()
{
    local given=$dir error

    # nginx takes every other character between quotes.
    if [[ -z $dir || $dir == *[[:cntrl:]]* ]]; then
        die "unusable working directory: $(printf '%q' "$dir")"
    fi

    dir=$(realpath -m -- "$dir")

    if ! error=$({ mkdir -p -- "$dir/tmp" && : >"$dir/nginx.conf.new"; } 2>&1)
    then
        die "unusable working directory $given: ${error##*: }"
    fi

    rm -f -- "$dir/nginx.conf.new"
}


# nginx would try five times for an occupied port, with two lines each time.
# A server that was just killed may still be giving its port back.
await_port()
{
    local pid tries

    for tries in {1..20}; do
        pid=$(running_server)

        if [[ -z $pid ]] && ! port_is_taken "$port" "${listen:-127.0.0.1}"
        then
            return
        fi

        (( tries == 20 )) || sleep 0.1
    done

    # Before its nginx.conf is written over.
    if [[ $pid ]]; then
        die "a server is running on $dir already: process $pid"
    fi

    die "port $port is in use"
}


# The master process that runs on this directory, if any. A number left behind
# by a killed server may have gone to another process since.
running_server()
{
    local pid=

    if [[ -r $dir/nginx.pid ]]; then
        read -r pid <"$dir/nginx.pid" || true
    fi

    if [[ $pid =~ ^[0-9]+$ ]] \
       && tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" \
          | grep -qF -- "-c $dir/nginx.conf"
    then
        printf '%s\n' "$pid"
    fi
}


# Workers inherit the limit. The hard one can be raised by root only, and not in
# every container.
raise_file_limit()
{
    local files wanted=$(( connections + spare_files ))

    files=$(ulimit -n)

    if [[ $files == unlimited ]] || (( files >= wanted )); then
        return
    fi

    ulimit -Sn $wanted 2>/dev/null || ulimit -n $wanted 2>/dev/null \
        || ulimit -Sn "$(ulimit -Hn)"

    files=$(ulimit -n)

    if (( files < wanted )); then
        connections=$(( files > 2 * spare_files ? files - spare_files
                                                : files / 2 ))
        printf '%s: only %d open files allowed, so %d connections a worker\n' \
            "${0##*/}" "$files" $connections >&2
    fi
}


# write_configuration: by rename, as a reader may come at any time.
#
# There is no reuseport: with it, a second server on the port would take a
# share of the connections instead of failing, each with its own data.
write_configuration()
{
    local tmp=$dir/tmp

    cat >"$dir/nginx.conf.new" <<END
# Written by scripts/run.sh at every start: what is changed here is lost.

load_module $(quote "$module");

daemon off;
$(user_directive)
pid $(quote "$dir/nginx.pid");
error_log stderr notice;

worker_processes $workers;

events {
    worker_connections $connections;
    multi_accept on;
}

http {
    access_log off;
    server_tokens off;
    default_type text/plain;
    charset utf-8;
    keepalive_requests 1000000;
    large_client_header_buffers 4 32k;

    client_body_temp_path $(quote "$tmp/body");
    proxy_temp_path $(quote "$tmp/proxy");
    fastcgi_temp_path $(quote "$tmp/fastcgi");
    uwsgi_temp_path $(quote "$tmp/uwsgi");
    scgi_temp_path $(quote "$tmp/scgi");

    kv_zone zone=main:$zone $(quote "path=$dir/kv") list=on feed=16m
            $cluster;

    server {
$(listen_directives)

        location /kv/ {
            kv main;
        }

        location = /clear {
            kv_clear main;
        }

        location = /health {
            kv_health main;
        }

        location = /stats {
            kv_stats main;
        }

        location = /dashboard {
            kv_dashboard;
        }

        location = /metrics {
            kv_metrics;
        }

        location = /bulk {
            kv_bulk main;
        }

        location = /batch {
            kv_batch main;
        }

        location = /keys {
            kv_keys main;
        }

        location = /backup {
            kv_backup main;
        }

        location = /watch {
            kv_watch main;
        }

        ${cluster:+location = /cluster/info { kv_cluster main; \}}

        location / {
            return 404 "not found\n";
        }
    }
}
END

    mv -- "$dir/nginx.conf.new" "$dir/nginx.conf"
}


# The backlog is for many clients that come at once; the kernel cuts it to its
# net.core.somaxconn.
listen_directives()
{
    local addresses=("$listen") address

    case $listen in
        '')  addresses=(127.0.0.1); ! has_ipv6 '0*1 ' || addresses+=('[::1]') ;;
        \*) ! has_ipv6 || addresses+=('[::]') ;;
    esac

    for address in "${addresses[@]}"; do
        echo "        listen $address:$port backlog=4096;"
    done
}


# has_ipv6 [PATTERN]: whether the machine has an IPv6 address, or one such. The
# table is empty, or not there, where IPv6 is turned off.
has_ipv6()
{
    grep -q "^${1-.}" /proc/net/if_inet6 2>/dev/null
}


main "$@"
