#!/bin/bash
# Usage: scripts/dashboard.sh [--check] [--root DIR]
#
# Makes the page of kv_dashboard, src/http/ngx_http_kv_dashboard_page.c, of
# src/http/dashboard, of the tables of states and alerts in our pages, and of
# uPlot, which draws the charts. To be run when one of these has changed; who
# compiles the module needs nothing of it.
#
# uPlot comes from npm (scripts/npm.sh); while its checksums are those that
# stand here, it is taken from the file that is there, without npm.
#
#   --check     change nothing; the status is 1 if the file is not what would be
#               made
#   --root DIR  look at the tree DIR instead of this project

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

# Of the library, and of its two parts of the page: its licence, and a file.
library='uPlot 1.6.32'
style_sha256=vH1j3HtbAKyvVRiSKIVWFrUobZ1BYvKheRCjZyPCyG4=
script_sha256=rrWWbMy4yc49RW+yOTEk5YaEEEo3q2DCDA+aoSdnmmA=

top=$repo
page=
check=
tmp=


main()
{
    parse_arguments "$@"
    page=$top/src/http/ngx_http_kv_dashboard_page.c
    need perl perl
    install_missing "$repo/.build/logs/apt.log"

    tmp=$(mktemp -d)
    trap 'rm -rf -- "$tmp"' EXIT

    make_page

    if cmp -s "$tmp/page.c" "$page"; then
        return
    fi

    [[ -z $check ]] || die "is not what it is made of: run scripts/dashboard.sh"
    cp "$tmp/page.c" "$page"
}


parse_arguments()
{
    while [[ $# -gt 0 ]]; do
        case $1 in
            --help|-h) usage_of "$0"; exit ;;
            --check)   check=yes ;;
            --root)    top=$(next_argument "$@"); shift ;;
            *)         die "unknown argument: $1 (try --help)" ;;
        esac
        shift
    done
}


make_page()
{
    if assemble 2>"$tmp/said"; then
        return
    fi

    [[ -z $check ]] || die "$(<"$tmp/said")"

    "$repo/scripts/npm.sh" || die "needs npm, for $library"
    assemble "$repo/.build/npm/node_modules/uplot"
}


# assemble [PACKAGE]
assemble()
{
    printf '%s\n' "$library" "$style_sha256" "$script_sha256" \
        | perl "$repo/scripts/dashboard.pl" "$top" "$@" >"$tmp/page.c"
}


main "$@"
