# What the scripts beside this one share; they source it. Not run by itself.
# shellcheck shell=bash

# Where Debian keeps nginx; an ordinary user's PATH may lack it.
PATH=$PATH:/usr/sbin:/sbin

repo=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)


die()
{
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}


# next_argument OPTION [VALUE]...: the value of an option that needs one.
next_argument()
{
    [[ $# -gt 1 ]] || die "$1 needs a value (try --help)"
    printf '%s\n' "$2"
}


# listed MAKEFILE [VARIABLE=VALUE]: the programs' sources in its list, one a
# line.
listed()
{
    make -s -C "$repo" -f "scripts/$1" list "${@:2}" 2>/dev/null \
        || die "scripts/$1 has no list"
}


# usage_of FILE: prints the comment that opens the file, as its help.
usage_of()
{
    sed -n '2,/^$/s/^# \{0,1\}//p' "$1"
}


# need PACKAGE PROOF: the Debian package is wanted unless PROOF, a command or
# an absolute path, is there already (wherever it came from).
missing=()

need()
{
    have "$2" || missing+=("$1")
}


have()
{
    case $1 in
        /*) [[ -e $1 ]] ;;
        *)  command -v "$1" >/dev/null ;;
    esac
}


# install_missing LOG [OPTION]: installs what need() found wanting, if anything;
# the option is one of apt-install.sh.
install_missing()
{
    local log=$1 option=${2-} root=()

    if [[ ${#missing[@]} -eq 0 ]]; then
        return
    fi

    if ! have apt-get; then
        die "not a Debian system: install by hand what the Debian packages" \
            "${missing[*]} contain"
    fi

    if [[ $EUID -ne 0 ]]; then
        have sudo || die "run once as root:" \
            "${repo@Q}/scripts/apt-install.sh ${missing[*]}"
        root=(sudo)
    fi

    printf '%s: installing %s\n' "${0##*/}" "${missing[*]}" >&2

    # No standard input: a maintainer script that asks would wait for ever.
    if ! "${root[@]}" "$repo/scripts/apt-install.sh" \
         ${option:+"$option"} "${missing[@]}" >"$log" 2>&1 </dev/null
    then
        grep -E '^(E|W|dpkg)|sudo|apt-install\.sh:' "$log" | tail -n 5 >&2 \
            || true
        die "cannot install ${missing[*]}: see $log"
    fi

    missing=()
    hash -r
}


# raft_folder: where libraft is, as scripts/raft.sh finds or gets it; nothing
# where it cannot be had.
raft_folder()
{
    local said status=0

    said=$("$repo/scripts/raft.sh") || status=$?
    (( status != 0 )) || printf '%s\n' "$said"
    (( status == 0 || status == 77 ))
}


# port_is_taken PORT [IPV4_ADDRESS]: whether something listens there: on that
# address or on all or, without one, on any address.
port_is_taken()
{
    local tables=() table hex own=.

    for table in /proc/net/tcp /proc/net/tcp6; do
        [[ ! -r $table ]] || tables+=("$table")
    done

    if [[ ${2-} =~ ^([0-9]+)\.([0-9]+)\.([0-9]+)\.([0-9]+)$ ]]; then
        printf -v own '%02X%02X%02X%02X' "${BASH_REMATCH[4]}" \
            "${BASH_REMATCH[3]}" "${BASH_REMATCH[2]}" "${BASH_REMATCH[1]}"
        own="^(0+|$own):"
    fi

    # In these tables, 0A is the state of a listening socket.
    printf -v hex '%04X' "$1"
    [[ ${#tables[@]} -gt 0 ]] \
        && awk -v port=":$hex\$" -v own="$own" '
               $4 == "0A" && $2 ~ port && $2 ~ own { found = 1 }
               END { exit !found }' "${tables[@]}"
}


# quote STRING: as nginx's configuration takes it.
quote()
{
    local string=${1//\\/\\\\}

    printf '"%s"\n' "${string//\"/\\\"}"
}


# Only root can give its workers another user.
user_directive()
{
    if [[ $EUID -ne 0 ]]; then
        return
    fi

    if id www-data >/dev/null 2>&1; then
        echo "user www-data;"
    else
        echo "user nobody $(id -gn nobody);"
    fi
}


# Sanitizers of some compilers cannot run where the kernel scatters mappings
# widely: what to put before their programs; a container may forbid it.
without_aslr()
{
    if setarch -R true 2>/dev/null; then
        echo 'setarch -R'
    fi
}
