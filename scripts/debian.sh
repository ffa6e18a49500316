#!/bin/bash
# Usage: scripts/debian.sh [--keep|--kept] RELEASE [COMMAND [ARGUMENT]...]
#
# Runs a command (scripts/test.sh if none is named) on a bare Debian of that
# release, such as bookworm or trixie: in a copy of this project, as root, in a
# chroot that has nothing but what debootstrap's smallest variant installs.
# Needs root, and a network that reaches this machine's own Debian mirror.
#
# The bare system is made once, in .build/debian, in half a minute. Every run
# gets a new copy of it, with mounts and processes of its own: what was started
# in there ends with the command, or with this script, and nothing that the
# command does is seen outside, except on the network, which is shared.
#
#   --keep  leaves the copy as the command left it, for one
#   --kept  that runs there instead of in a new one
#
# What was copied of this project is then that of the first of the two.
#
# Where CCACHE_DIR names a folder, ccache is used, if the command installs it,
# with a part of that folder that is the release's.

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

store=$repo/.build/debian
inside=/root/ngx_http_kv_module
release=
command=()
keep=
kept=

# Its name, and the directories of this machine's mirror.
codename=
mirror=
security=


main()
{
    parse_arguments "$@"
    [[ $EUID -eq 0 ]] || die "needs root, to mount and to make devices"
    mkdir -p "$repo/.build/logs" "$store"

    # One run of a release at a time: they have a place in common.
    exec 9>"$store/$release.lock"
    flock 9

    need debootstrap debootstrap
    install_missing "$repo/.build/logs/apt.log"

    if [[ $kept ]]; then
        [[ -d $store/$release.run ]] || die "no $release was kept"
    else
        [[ -d $store/$release ]] || make_system
        copy_system
    fi

    run_command
}


parse_arguments()
{
    case ${1-} in
        --keep) keep=yes; shift ;;
        --kept) kept=yes; shift ;;
    esac

    case ${1-} in
        ''|--help|-h) usage_of "$0"; exit ;;
        *[!a-z]*)     die "not a release of Debian: $1 (try --help)" ;;
    esac

    release=$1
    shift
    command=("$@")
    [[ $# -gt 0 ]] || command=(scripts/test.sh)
}


# The system is there as a whole or not at all: it gets its name last.
make_system()
{
    local new=$store/$release.new log=$repo/.build/logs/debootstrap.log
    local options=(--variant=minbase)

    find_mirror
    [[ $mirror != https:* ]] || options+=(--include=ca-certificates)
    rm -rf --one-file-system "$new"

    # No file of it is worth a wait for the disk.
    mkdir -p "$new/etc/dpkg/dpkg.cfg.d"
    echo force-unsafe-io >"$new/etc/dpkg/dpkg.cfg.d/90host"

    printf '%s: making a bare %s from %s\n' "${0##*/}" "$release" "$mirror" >&2

    # What it mounts there goes with it, also if it is killed.
    if ! unshare --mount debootstrap "${options[@]}" "$release" "$new" \
         "$mirror" >"$log" 2>&1
    then
        grep -E '^E:|rror' "$log" | tail -n 5 >&2 || true
        die "debootstrap cannot make a $release: see $log"
    fi

    {
        echo "deb $mirror $release main"
        echo "deb $mirror $release-updates main"
        [[ -z $security ]] || echo "deb $security $release-security main"
    } >"$new/etc/apt/sources.list"

    # What this machine needs to reach the mirror, a proxy for instance. Nobody
    # reads descriptions there.
    {
        apt-config dump | grep -E '^Acquire::(https?|Check|Retries)' || true
        echo 'Acquire::Languages "none";'
    } >"$new/etc/apt/apt.conf.d/90host"

    # Nor is an index of manual pages, which man-db makes anew and anew.
    echo 'man-db man-db/auto-update boolean false' \
        | chroot "$new" debconf-set-selections

    rm -f "$new"/var/cache/apt/archives/*.deb
    mv "$new" "$store/$release"
}


# Where this machine gets its own packages from. A machine of containers often
# has no lists of them yet; and scripts/apt-install.sh, which has this lock, may
# be renewing them.
find_mirror()
{
    local try

    exec 8>/run/ngx-http-kv-apt.lock
    flock 8

    for try in 1 2; do
        read_mirrors
        [[ -z $mirror ]] || break
        (( try == 2 )) || apt-get -q update >"$repo/.build/logs/apt.log" 2>&1 \
            || true
    done

    exec 8>&-
    [[ $mirror ]] \
        || die "no Debian mirror in this machine's package sources (/etc/apt)"
}


read_mirrors()
{
    local uri label suite name

    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && printf '%s\n' "${VERSION_CODENAME-}")

    # shellcheck disable=SC2016
    while read -r uri suite label; do
        case $suite:$label in
            "$codename:Debian")                   mirror=${uri%/} ;;
            "$codename-security:Debian-Security") security=${uri%/} ;;
        esac
    done < <(apt-get indextargets 'Created-By: Packages' 'Origin: Debian' \
             --format '$(REPO_URI) $(CODENAME) $(LABEL)')
}


copy_system()
{
    local top=$store/$release.run

    rm -rf "$top"
    cp -a --reflink=auto "$store/$release" "$top"
    cp -L /etc/resolv.conf "$top/etc/resolv.conf"
    cp /etc/hosts "$top/etc/hosts"

    mkdir -p "$top$inside"
    tar -C "$repo" --exclude=./.build --exclude=./data --exclude=./.git \
        --exclude=./scripts/lc/.lc -cf - . \
        | tar -C "$top$inside" --no-same-owner -xf -
}


# In namespaces of its own for mounts and processes. The shell that mounts is
# the first process there: it lives until the command ends, and everything with
# it. A shell that dies takes unshare along, and that the rest.
run_command()
{
    local top=$store/$release.run status=0 name variables=() cache=
    local path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

    for name in http_proxy https_proxy no_proxy PIP_INDEX_URL TERM "${!KV_@}" \
        "${!KIT_@}"
    do
        [[ -z ${!name-} ]] || variables+=("$name=${!name}")
    done

    if [[ -d ${CCACHE_DIR-} ]]; then
        cache=$(realpath -- "$CCACHE_DIR")/debian/$release
        mkdir -p "$cache" "$top/var/cache/ccache"
        variables+=(CCACHE_DIR=/var/cache/ccache)
        path=/usr/lib/ccache:$path
    fi

    # Whom this machine trusts to give it the packages of PyPI.
    if [[ -f ${PIP_CERT-} ]]; then
        cp -L "$PIP_CERT" "$top/etc/pip.crt"
        variables+=(PIP_CERT=/etc/pip.crt)
    fi

    variables+=("PATH=$path")

    # shellcheck disable=SC2016
    setpriv --pdeathsig KILL \
        unshare --mount --pid --fork --kill-child bash -c '
        set -e
        top=$1 inside=$2 cache=$3
        shift 3
        mount --bind "$top" "$top"
        [[ ! $cache ]] || mount --bind "$cache" "$top/var/cache/ccache"
        mount -t proc proc "$top/proc"
        mount -t devpts -o newinstance,ptmxmode=0666,mode=620 pts "$top/dev/pts"
        mount -t tmpfs -o mode=1777 shm "$top/dev/shm"
        mount -t tmpfs -o mode=755 run "$top/run"
        ln -sf pts/ptmx "$top/dev/ptmx"
        chroot "$top" /usr/bin/env -i HOME=/root "${@:2:$1}" /bin/bash -c \
            "cd $inside && exec \"\$@\"" bash \
            "${@:2+$1}" || exit
        ' bash "$top" "$inside" "$cache" "${#variables[@]}" \
        "${variables[@]}" "${command[@]}" 9>&- || status=$?

    [[ $keep ]] || rm -rf "$top"
    return $status
}


main "$@"
