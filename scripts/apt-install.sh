#!/bin/bash
# Usage: scripts/apt-install.sh [--keep-services] PACKAGE...
#
# Installs Debian packages without a question, as root. The scripts beside
# this one call it for what is missing; there is no need to run it by hand.
# Where it brings nginx itself, Redis, webdis, etcd or Prometheus, their own
# services are left stopped and disabled: the packages are wanted for the
# programs, and their ports are not ours.
#
#   --keep-services  not disabled, only stopped: they start with the machine

set -euo pipefail

policy=/usr/sbin/policy-rc.d
saved=$policy.before-kv

# By its time: when this script had apt's lists renewed.
updated=/run/ngx-http-kv-apt.updated

# Services of packages, and by what their being there already shows.
declare -A programs=(
    [etcd]=/usr/bin/etcd
    [nginx]=/usr/sbin/nginx
    [prometheus]=/usr/bin/prometheus
    [redis-server]=/usr/bin/redis-server
    [webdis]=/usr/bin/webdis
)

# Those that are not there yet.
absent=()

export DEBIAN_FRONTEND=noninteractive


main()
{
    local keep=

    if [[ ${1-} == --keep-services ]]; then
        keep=yes
        shift
    fi

    case ${1-} in
        ''|-*) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit ;;
    esac

    # One at a time: two runs would restore each other's policy file. Not in
    # /run/lock, which a container may lack, and where others may write.
    mkdir -p /run
    exec 9>/run/ngx-http-kv-apt.lock
    flock 9

    update
    find_absent

    if [[ ${#absent[@]} -eq 0 ]]; then
        install "$@"
        return
    fi

    forbid_services
    trap allow_services EXIT
    trap 'exit 1' INT TERM HUP
    install "$@"
    [[ $keep ]] || disable_services
}


# A list that cannot be had (a third party's, say) is no reason to stop: what
# matters is whether the packages can be installed. Some scripts install one
# thing after the other, for which lists of this hour do.
update()
{
    [[ $(find "$updated" -mmin -60 2>/dev/null) ]] \
        || { apt_get update && touch $updated; } || true
}


# Lists that another has deleted, or that name what is gone, are no good.
install()
{
    apt_get install "$@" && return

    rm -f $updated
    update
    apt_get install "$@"
}


find_absent()
{
    local service

    for service in "${!programs[@]}"; do
        [[ -x ${programs[$service]} ]] || absent+=("$service")
    done
}


apt_get()
{
    # A fresh machine may be busy with its first unattended upgrade.
    apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 \
        -o Acquire::Retries=3 "$@"
}


# Debian's way to say that a service must not start: the exit status of
# policy-rc.d. Other services keep the answer that they had.
forbid_services()
{
    local names

    names=$(printf '%s|' "${absent[@]}" "${absent[@]/%/.service}")

    if [[ -e $policy && ! -e $saved ]]; then
        mv "$policy" "$saved"
    fi

    cat >"$policy" <<END
#!/bin/sh
# For the time of one apt-get run: these are not started by their packages.
for arg in "\$@"; do
    case \$arg in
        --*) ;;
        ${names%|}) exit 101 ;;
        *) break ;;
    esac
done
[ ! -x $saved ] || exec $saved "\$@"
END
    chmod 755 "$policy"
}


allow_services()
{
    if [[ -e $saved ]]; then
        mv "$saved" "$policy"
    else
        rm -f "$policy"
    fi
}


# The packages also set their services to start with the machine.
disable_services()
{
    local service

    for service in "${absent[@]}"; do
        if [[ ! -x ${programs[$service]} ]]; then
            continue
        elif [[ -d /run/systemd/system ]]; then
            systemctl --quiet disable "$service.service" || true
        else
            update-rc.d "$service" disable || true
        fi
    done
}


main "$@"
