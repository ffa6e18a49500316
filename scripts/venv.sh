#!/bin/bash
# Usage: scripts/venv.sh
#
# Makes .build/venv, where it is not there yet: a Python with the packages that
# t/openapi.t needs, in the versions, and with the checksums, that
# t/lib/requirements.txt has. They come from PyPI, or from where pip is told to
# look; python3-venv from Debian.
#
# The status is 77 if they cannot be reached, which is no fault of ours.

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

venv=$repo/.build/venv
list=$repo/t/lib/requirements.txt
log=$repo/.build/logs/venv.log


main()
{
    case ${1-} in
        '') ;;
        *)  usage_of "$0"; exit ;;
    esac

    mkdir -p "$repo/.build/logs"

    # One at a time: a test may come while another run makes it.
    exec 9>"$venv.lock"
    flock 9

    if is_there; then
        return
    fi

    require_python
    printf '%s: installing the packages of t/lib/requirements.txt\n' \
        "${0##*/}" >&2
    make_venv >"$log" 2>&1 9>&- || failed
}


# The list is copied there last.
is_there()
{
    cmp -s "$list" "$venv/requirements.txt" && "$venv/bin/python" -c ''
}


# Debian's own Python, if there is one: the list is for that of its releases.
require_python()
{
    PATH=/usr/bin:$PATH
    need python3 python3

    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        missing+=(python3-venv)
    fi

    install_missing "$repo/.build/logs/apt.log"
}


# All is a wheel of one file, so nothing is built here, and nothing of a package
# runs; what a package needs is in the list, too.
make_venv()
{
    rm -rf "$venv" || return
    python3 -m venv "$venv" || return
    "$venv/bin/python" -m pip --no-input --disable-pip-version-check install \
        --quiet --require-hashes --only-binary :all: --no-deps --no-compile \
        --retries 2 --timeout 20 --requirement "$list" || return
    cp "$list" "$venv/"
}


failed()
{
    local unreachable='NewConnectionError|Name or service not known'
    unreachable+='|[Tt]emporary failure in name resolution|timed out'
    unreachable+='|ConnectTimeout|ReadTimeout|ProxyError|ConnectionReset'
    unreachable+='|Network is unreachable|Connection (refused|broken)'

    rm -f "$venv/requirements.txt"

    if grep -qE "$unreachable" "$log"; then
        printf '%s: PyPI cannot be reached\n' "${0##*/}" >&2
        exit 77
    fi

    tail -n 5 "$log" >&2
    die "cannot install the packages of t/lib/requirements.txt: see $log"
}


main "$@"
