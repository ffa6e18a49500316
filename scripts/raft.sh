#!/bin/bash
# Usage: scripts/raft.sh
#
# Gets the library libraft, Debian's package libraft-dev 0.22.1, and prints
# where its headers and archive are: a folder like /usr. Debian 13 has it, and
# it is installed through apt-get, as root or by sudo. Debian 12 has it among
# its backports: it is unpacked below .build, and the machine's package sources
# stay as they are; so it is where it cannot be installed.
#
# KV_RAFT in the environment names the folder instead; with KV_RAFT=no there is
# none.
#
# The status is 77, and the reason is printed, where it cannot be had; which is
# tried again after an hour.

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

build=$repo/.build
own=$build/libraft
tried=$build/libraft.tried
log=$build/logs/libraft.log


main()
{
    case ${1-} in
        --help|-h) usage_of "$0"; exit ;;
        '')        ;;
        *)         die "unknown argument: $1 (try --help)" ;;
    esac

    mkdir -p "$build/logs"

    if [[ ${KV_RAFT-} == no ]]; then
        none "KV_RAFT is no"
    elif [[ ${KV_RAFT-} ]]; then
        ! is_right "$KV_RAFT" || found "$KV_RAFT"
        die "no libraft 0.22.1 in $KV_RAFT, which KV_RAFT names"
    fi

    exec 9>"$build/libraft.lock"
    flock 9

    look
    [[ $(find "$tried" -mmin -60 2>/dev/null) ]] || get
    look
    none "no libraft-dev 0.22.1: see $log (tried again in an hour: $tried)"
}


look()
{
    ! is_right /usr || found /usr
    ! is_right "$own/usr" || found "$own/usr"
}


get()
{
    # shellcheck source=/dev/null
    case $(. /etc/os-release && echo "${VERSION_CODENAME-}") in
        bookworm) (unpack_package bookworm bookworm-backports) ;;
        trixie)   (install_package) || (unpack_package trixie trixie) ;;
        *)        echo "neither Debian 12 nor 13" ;;
    esac >"$log" 2>&1 </dev/null || true

    touch "$tried"
}


none()
{
    printf '%s\n' "$1"
    exit 77
}


found()
{
    printf '%s\n' "$1"
    exit
}


# is_right FOLDER: whether the library is there, in the version that src/raft
# is written for.
is_right()
{
    [[ -f $1/include/raft.h ]] \
        && grep -q '^#define RAFT_VERSION_MINOR 22$' "$1/include/raft.h" \
        && grep -q '^#define RAFT_VERSION_RELEASE 1$' "$1/include/raft.h" \
        && [[ $(find "$1/lib" -maxdepth 2 -name libraft.a -print -quit) ]]
}


install_package()
{
    need libraft-dev /usr/include/raft.h
    install_missing "$build/logs/apt.log"
}


# unpack_package RELEASE SUITE: with lists and a configuration of its own, which
# name nothing but that suite, on the mirror that this machine, of the release,
# has for all else.
unpack_package()
{
    local mirror dir options

    # shellcheck disable=SC2016
    mirror=$(apt-get indextargets 'Created-By: Packages' "Codename: $1" \
             'Origin: Debian' --format '$(REPO_URI)' | head -n 1)
    dir=$(mktemp -d)
    # shellcheck disable=SC2064
    trap "rm -rf -- '$dir'" EXIT
    mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"

    printf 'deb [signed-by=%s] %s %s main\n' \
        /usr/share/keyrings/debian-archive-keyring.gpg \
        "${mirror:-http://deb.debian.org/debian}" "$2" >"$dir/sources.list"

    options=(-q -o "Dir::Etc::SourceList=$dir/sources.list"
             -o Dir::Etc::SourceParts=/dev/null
             -o "Dir::State::Lists=$dir/lists" -o "Dir::Cache=$dir/cache"
             -o APT::Sandbox::User=root -o Acquire::Retries=3)

    apt-get "${options[@]}" update
    (cd "$dir" && apt-get "${options[@]}" download libraft-dev)

    rm -rf "$own.new" "$own"
    dpkg-deb -x "$dir"/libraft-dev_*.deb "$own.new"
    mv "$own.new" "$own"
}


main "$@"
