#!/bin/bash
# Usage: scripts/apt-install.sh PACKAGE...
#
# Installs Debian packages without a question, as root. The scripts beside
# this one call it for what is missing; there is no need to run it by hand.
# Where it brings nginx itself, nginx's own service is left stopped and
# disabled: the packages are wanted for the program, and port 80 is not ours.

set -euo pipefail

policy=/usr/sbin/policy-rc.d
saved=$policy.before-kv
export DEBIAN_FRONTEND=noninteractive


main()
{
    case ${1-} in
        ''|-*) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit ;;
    esac

    # One at a time: two runs would restore each other's policy file.
    exec 9>/run/lock/ngx-http-kv-apt
    flock 9

    # A list that cannot be had (a third party's, say) is no reason to stop:
    # what matters is whether the packages can be installed.
    apt_get update || true

    if [[ -x /usr/sbin/nginx ]]; then
        apt_get install "$@"
        return
    fi

    forbid_service
    trap allow_service EXIT
    trap 'exit 1' INT TERM HUP
    apt_get install "$@"
    disable_service
}


apt_get()
{
    # A fresh machine may be busy with its first unattended upgrade.
    apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 \
        -o Acquire::Retries=3 "$@"
}


# Debian's way to say that a service must not start: the exit status of
# policy-rc.d. Other services keep the answer that they had.
forbid_service()
{
    if [[ -e $policy && ! -e $saved ]]; then
        mv "$policy" "$saved"
    fi

    cat >"$policy" <<END
#!/bin/sh
# For the time of one apt-get run: nginx is not started by its package.
for arg in "\$@"; do
    case \$arg in
        --*) ;;
        nginx|nginx.service) exit 101 ;;
        *) break ;;
    esac
done
[ ! -x $saved ] || exec $saved "\$@"
END
    chmod 755 "$policy"
}


allow_service()
{
    if [[ -e $saved ]]; then
        mv "$saved" "$policy"
    else
        rm -f "$policy"
    fi
}


# The package also sets the service to start with the machine.
disable_service()
{
    if [[ -x /usr/sbin/nginx && -d /run/systemd/system ]]; then
        systemctl --quiet disable nginx.service || true
    elif [[ -x /usr/sbin/nginx ]]; then
        update-rc.d nginx disable || true
    fi
}


main "$@"
