#!/bin/bash
# Usage: scripts/package.sh [--lint] [--output DIR]
#
# Builds the Debian packages libnginx-mod-http-kv and, for who uses kv_get in
# stream{}, libnginx-mod-stream-kv, for the Debian that this runs on, as
# .build/NAME_VERSION_ARCHITECTURE.deb, and installs first what is missing for
# that through apt-get, as root or by sudo.
#
#   --lint        has lintian look at them, and fails if that finds anything
#   --output DIR  puts them there instead of into .build
#
# The module has the cluster if libraft can be had, which scripts/raft.sh looks
# for; KV_RAFT=no in the environment does without it.
#
# Of the same sources, on the same Debian, the same files come out. The version
# is that of src/CHANGES.md; what is not finished is older than what will be
# (0.4~pre), and what is built for one Debian older than for the next. Needs no
# git: the folder may come from an archive. What is not committed is packaged,
# too.

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

name=libnginx-mod-http-kv
names=("$name" libnginx-mod-stream-kv)
output=$repo/.build
lint=
tmp=
raft=

# Of the package: its version, and when that was made.
version=
date=


main()
{
    parse_arguments "$@"
    mkdir -p "$repo/.build/logs" "$output" 2>/dev/null \
        || die "cannot write to $output"
    output=$(cd -- "$output" && pwd -P)
    log=$repo/.build/logs/package.log

    require_packages
    raft=$(raft_folder) || exit
    [[ $raft ]] || echo "without the cluster: $("$repo/scripts/raft.sh")" >&2
    read_version

    # The way there must hold nothing that a makefile takes for its own, and no
    # ".c" or ".S", of which nginx's ./configure makes ".o".
    tmp=$(mktemp -d --tmpdir package-XXXXXXXXXX)
    trap 'rm -rf -- "$tmp"' EXIT
    trap 'exit 1' INT TERM HUP

    copy_sources
    build
    [[ ! $lint ]] || look_at_it
    publish
}


parse_arguments()
{
    while [[ $# -gt 0 ]]; do
        case $1 in
            --help|-h)  usage_of "$0"; exit ;;
            --lint)     lint=yes ;;
            --output)   output=$(next_argument "$@"); shift ;;
            --output=*) output=${1#*=} ;;
            *)          die "unknown argument: $1 (try --help)" ;;
        esac
        shift
    done
}


# What debian/control names, and of build-essential what is used of it. Who
# builds a package here may install it here, and wants nginx to start with the
# machine.
require_packages()
{
    need gcc "${CC:-cc}"
    need libc6-dev /usr/include/stdio.h
    need make make
    need dpkg-dev dpkg-buildpackage
    need debhelper dh
    need dh-sequence-nginx dh_nginx
    need libhiredis-dev /usr/include/hiredis/hiredis.h
    need libjansson-dev /usr/include/jansson.h
    need libnginx-mod-stream /usr/lib/nginx/modules/ngx_stream_module.so
    need libssl-dev /usr/include/openssl/evp.h
    [[ ! $lint ]] || need lintian lintian
    install_missing "$repo/.build/logs/apt.log" --keep-services
}


# The newest version in src/CHANGES.md, and its date, which is the date of all
# that is in the package. One that is not finished has the date of the one
# before it.
read_version()
{
    local heading title finished

    heading='^## Changes with ngx_http_kv_module ([0-9.]+) \((.*)\)$'
    title=$(grep -E -m 1 "$heading" "$repo/src/CHANGES.md" || true)
    finished=$(grep -E "$heading" "$repo/src/CHANGES.md" \
               | grep -v -m 1 '(not finished)$' || true)

    [[ $title =~ $heading && $finished ]] \
        || die "src/CHANGES.md names no finished version"
    version=${BASH_REMATCH[1]}
    [[ $title == "$finished" ]] || version+=~pre

    [[ $finished =~ $heading ]]
    date=$(LC_ALL=C date -u -R -d "${BASH_REMATCH[2]}") \
        || die "src/CHANGES.md has no date: $finished"

    # shellcheck source=/dev/null
    version+=-1~$(. /etc/os-release && printf '%s\n' "$ID${VERSION_ID-}")
}


# What the package is made of, as Debian wants it: in a folder with debian/ at
# its top.
copy_sources()
{
    local top=$tmp/$name

    mkdir -p "$top/scripts"
    cp -R "$repo"/{config,ngx_http_kv_module.c,src,LICENSE,README.md} "$top"
    cp -R "$repo/scripts"/{tool.mk,common.mk,prometheus,README.md} \
        "$top/scripts"
    (cd "$repo" && cp -R --parents t/README.md t/bench "$top")
    cp -R "$repo/scripts/package/debian" "$top"
    own_library
    chmod -R u=rwX,go=rX "$top"
    chmod a+x "$top/debian/rules"

    # Newer ones of lintian do not know that tag any more, and say so.
    [[ $version == *~debian12 ]] || rm "$top/debian/lintian-overrides"

    cat >"$top/debian/changelog" <<END
$name ($version) unstable; urgency=medium

  * What users of the module see is in changelog.gz.

 -- $(sed -n 's/^Maintainer: //p' "$top/debian/control")  $date
END

    {
        cat <<END
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: ngx_http_kv_module
${raft:+Comment:
 The module is linked statically with the library libraft 0.22.1, of
 https://github.com/cowsql/raft, which is not changed. Copyright 2019 Canonical
 Ltd., 2023 Free Ekanayaka; its license is version 3 of the GNU Lesser General
 Public License, with an exception that allows what is linked with it to be
 given away without what is needed to link it anew. That license is in
 /usr/share/common-licenses/LGPL-3, and the GNU General Public License, which
 it is an addition to, in /usr/share/common-licenses/GPL-3.
}
Files: *
Copyright: $(sed -n '1s/^Copyright (c) //p' "$repo/LICENSE")
License: BSD-2-Clause
END
        sed '1,2d; s/^/ /; s/^ $/ ./' "$repo/LICENSE" | sed 1d
    } >"$top/debian/copyright"
}


# Where it is not the system's it comes along, so that the way to it is the same
# for all who build this.
own_library()
{
    [[ $raft && $raft != /usr ]] || return 0
    mkdir -p "$tmp/$name/obj-libraft"
    cp -R "$raft"/{include,lib} "$tmp/$name/obj-libraft"
    raft=$tmp/$name/obj-libraft
}


build()
{
    if ! (cd "$tmp/$name" && export KV_RAFT="${raft:-no}" LC_ALL=C \
             && dpkg-buildpackage -J"$(nproc)" -d -b \
             -us -uc) \
         >"$log" 2>&1
    then
        grep -iE '(^|[^-\w])error: | \*\*\* ' "$log" | tail -n 20 >&2 || true
        die "the build failed: see $log"
    fi
}


look_at_it()
{
    lintian --display-info --fail-on=error,warning,info "$tmp"/*.changes >&2 \
        || die "lintian found something"
}


# Only the newest stays, so that NAME_*.deb names one.
publish()
{
    local file one

    for one in "${names[@]}"; do
        rm -f "$output/$one"_*.deb "$output/$one-dbgsym"_*.deb
    done

    for file in "$tmp"/*.deb; do
        mv "$file" "$output"
    done

    for one in "${names[@]}"; do
        printf 'built %s\n' "$output/$one"_*.deb
    done
}


main "$@"
