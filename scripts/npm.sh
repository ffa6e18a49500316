#!/bin/bash
# Usage: scripts/npm.sh
#
# Makes .build/npm, where it is not there yet: the packages of scripts/npm, in
# the versions and with the checksums of its package-lock.json: uPlot, which
# scripts/dashboard.sh builds into the dashboard, and axe-core, with which
# t/browser.t looks at that. Nothing of a package is run.
#
# The status is 77 where npm is not installed, or cannot reach its registry,
# which is no fault of ours.

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

list=$repo/scripts/npm/package-lock.json
dir=$repo/.build/npm
log=$repo/.build/logs/npm.log


main()
{
    case ${1-} in
        '') ;;
        *)  usage_of "$0"; exit ;;
    esac

    mkdir -p "$repo/.build/logs"

    # One at a time: a test may come while another run makes it.
    exec 9>"$dir.lock"
    flock 9

    # The list is copied there last.
    if cmp -s "$list" "$dir/list"; then
        return
    fi

    if ! have npm; then
        printf '%s: there is no npm\n' "${0##*/}" >&2
        exit 77
    fi

    printf '%s: installing the packages of scripts/npm\n' "${0##*/}" >&2
    install_packages >"$log" 2>&1 9>&- || failed
}


install_packages()
{
    rm -rf "$dir" || return
    mkdir "$dir" || return
    cp "$list" "$repo/scripts/npm/package.json" "$dir" || return
    (cd "$dir" && npm ci --ignore-scripts --no-audit --no-fund) || return
    cp "$list" "$dir/list"
}


failed()
{
    if grep -qE 'E(AI_AGAIN|CONNREFUSED|CONNRESET|TIMEDOUT|NETUNREACH)|\
ENOTFOUND|network' "$log"
    then
        printf '%s: the registry cannot be reached\n' "${0##*/}" >&2
        exit 77
    fi

    tail -n 5 "$log" >&2
    die "cannot install the packages of scripts/npm: see $log"
}


main "$@"
