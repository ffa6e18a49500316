#!/bin/bash
# Usage: scripts/lint.sh [--quick] [--root DIR] [CHECK]...
#
# Looks for what breaks a rule of the house, after installing through apt-get
# what that needs. Each finding is one line: file:line: what. The checks, all of
# them if none is named:
#
#   top       at the top stand what the house has there, and dot-files
#   columns   80 columns at most, 104 in pages; no tabs, no blanks at the end
#   lengths   functions of at most 70 lines, 100 in tests; at most five
#             exceptions, in scripts/lint/long-functions
#   layers    what a folder of src/ includes and calls: http -> store ->
#             index, feed, raft -> memory, disk, net -> base; nginx only
#             in http
#   circles   no file calls another that calls it back, by whatever way
#   lists     what is built is listed, once and in order: src/ in config, the
#             tool and the programs of t/ in the makefiles
#   headers   each header compiles alone
#   links     links, anchors and paths that pages and comments name
#   readme    README.md has 250 to 350 lines
#   counts    numbers of things that pages state
#   dashboard its C file is what scripts/dashboard.sh makes
#   shell     shellcheck
#   cppcheck  cppcheck, on the module
#
#   --quick     all but cppcheck, in some seconds
#   --root DIR  look at the tree DIR instead of this project
#
# The status is 0 if there are no findings.

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

all=(top columns lengths layers circles lists headers links readme counts
     dashboard shell cppcheck)

# What may stand at the top.
house=(LICENSE README.md config ngx_http_kv_module.c scripts src t)

build=$repo/.build
top=$repo
quick=
wanted=()


main()
{
    parse_arguments "$@"
    mkdir -p "$build/logs" "$build/cppcheck" 2>/dev/null \
        || die "cannot write to $build"
    require_packages
    cd "$top"

    tmp=$(mktemp -d)
    trap 'rm -rf -- "$tmp"' EXIT
    list_files >"$tmp/files"

    make_headers
    run_checks
    show_findings
}


parse_arguments()
{
    while [[ $# -gt 0 ]]; do
        case $1 in
            --help|-h) usage_of "$0"; exit ;;
            --quick)   quick=yes ;;
            --root)    top=$(next_argument "$@"); shift ;;
            --root=*)  top=${1#*=} ;;
            *)         is_check "$1" || die "unknown check: $1 (try --help)"
                       wanted+=("$1") ;;
        esac
        shift
    done

    top=$(realpath -- "$top")
    [[ ${#wanted[@]} -gt 0 ]] || wanted=("${all[@]}")
    [[ -z $quick ]] || wanted=("${wanted[@]/cppcheck/}")
}


is_check()
{
    [[ " ${all[*]} " == *" $1 "* ]]
}


wants()
{
    [[ " ${wanted[*]} " == *" $1 "* ]]
}


require_packages()
{
    need perl perl

    if wants headers; then
        need gcc "${CC:-cc}"
        need libc6-dev /usr/include/stdio.h
        need libcmocka-dev /usr/include/cmocka.h
    fi

    ! wants shell || need shellcheck shellcheck
    ! wants cppcheck || need cppcheck cppcheck
    install_missing "$build/logs/apt.log"
}


# What belongs to the project: not what is built or written in its folder.
list_files()
{
    if [[ -e .git ]]; then
        git ls-files --cached --others --exclude-standard
    else
        find . -type d '(' -name .build -o -path ./data -o -name .lc ')' \
            -prune -o -type f -printf '%P\n'
    fi | LC_ALL=C sort
}


# nginx's headers are in a tree that scripts/build.sh configures. It says what
# it installs for that, which is no finding.
make_headers()
{
    if wants headers && grep -q '^src/http/.*\.h$' "$tmp/files"; then
        [[ -f $build/nginx-src/objs/Makefile ]] \
            || "$repo/scripts/build.sh" --quiet
    fi
}


# files PATTERN: their paths, each ended by a zero.
files()
{
    { grep -P "$1" "$tmp/files" || true; } | tr '\n' '\0'
}


# cppcheck takes longest and begins first; the others follow one another.
run_checks()
{
    local check pid=

    if wants cppcheck; then
        run_check cppcheck &
        pid=$!
    fi

    for check in "${wanted[@]}"; do
        [[ -z $check || $check == cppcheck ]] || run_check "$check"
    done

    [[ -z $pid ]] || wait "$pid"
}


# A check that could not be made is a finding, too.
run_check()
{
    local status=0

    "check_$1" >"$tmp/$1" 2>"$tmp/$1.err" || status=$?

    if (( status != 0 )) || [[ -s $tmp/$1.err ]]; then
        printf 'scripts/lint.sh:1: %s: status %d: %s\n' "$1" "$status" \
            "$(head -n 3 "$tmp/$1.err" | tr '\n' ' ')" >>"$tmp/$1"
    fi
}


show_findings()
{
    local check n sum=0

    for check in "${wanted[@]}"; do
        [[ $check ]] || continue
        n=$(wc -l <"$tmp/$check")
        cat "$tmp/$check"
        sum=$(( sum + n ))
    done

    (( sum == 0 )) || die "$sum findings"
}


# ---- the checks: each prints its findings

check_columns() { perl "$repo/scripts/lint/sources.pl" columns <"$tmp/files"; }
check_lengths() { perl "$repo/scripts/lint/sources.pl" lengths <"$tmp/files"; }
check_layers()  { perl "$repo/scripts/lint/sources.pl" layers <"$tmp/files"; }
check_circles() { perl "$repo/scripts/lint/sources.pl" circles <"$tmp/files"; }
check_lists()   { perl "$repo/scripts/lint/sources.pl" lists <"$tmp/files"; }
check_links()   { perl "$repo/scripts/lint/pages.pl" links <"$tmp/files"; }
check_readme()  { perl "$repo/scripts/lint/pages.pl" readme <"$tmp/files"; }
check_counts()  { perl "$repo/scripts/lint/pages.pl" counts <"$tmp/files"; }


# One finding for each name, and not for each file below it.
check_top()
{
    local names=${house[*]}

    files "^(${names// /|})(/|$)|^\." | tr '\0' '\n' >"$tmp/house"
    LC_ALL=C comm -23 "$tmp/files" "$tmp/house" | cut -d / -f 1 | uniq \
        | sed 's|$|:1: may not stand at the top|'
}


check_dashboard()
{
    [[ ! -d src/http/dashboard ]] \
        || "$repo/scripts/dashboard.sh" --check --root "$top" 2>&1 \
        | sed 's|^[^:]*: |src/http/ngx_http_kv_dashboard_page.c:1: |' || true
}


# Those of src/http, and the fuzzers' stand-in for nginx, include nginx's
# headers; those of src/raft the library's, where it can be had.
check_headers()
{
    local nginx raft which='^(src|t)/.*\.h$'

    nginx=$(nginx_includes "$build/nginx-src")

    if raft=$("$repo/scripts/raft.sh"); then
        nginx+=" -isystem $raft/include"
    else
        which='^(src|t)/(?!raft/).*\.h$'
    fi

    export -f check_header
    files "$which" \
        | xargs -0 -r -P "$(nproc)" -n 4 bash -c 'check_header "$@"' \
            check_header "$nginx"
}


# check_header FLAGS HEADER...
check_header()
{
    local flags=$1 header
    shift

    for header in "$@"; do
        # shellcheck disable=SC2086
        printf '#include "%s"\n' "$header" \
            | "${CC:-cc}" -std=gnu11 -fsyntax-only -Wall -Isrc -It/unit \
                -It/fuzz -It/raft $flags -x c -I. - 2>&1 \
            | sed -n "s|^\([^<: ][^: ]*:[0-9]*\):[0-9]*: .*error: \(.*\)|\
\1: \2 ($header alone)|p" | head -n 1
    done
}


# The folders that nginx itself is compiled with.
nginx_includes()
{
    [[ ! -f $1/objs/Makefile ]] \
        || sed -n '/^ALL_INCS/,/[^\\]$/{ s/^.*-I *//; s/ *\\$//
                   s,^[^/],'"$1"'/&,; s/^/-isystem /; p }' "$1/objs/Makefile"
}


check_shell()
{
    local scripts=() file

    while IFS= read -r file; do
        [[ -f $file ]] || continue

        case $file in
            *.sh)         scripts+=("$file") ;;
            .ci/*|*/hooks/*) ! head -n 1 "$file" | grep -q '^#!.*sh' \
                          || scripts+=("$file") ;;
        esac
    done <"$tmp/files"

    [[ ${#scripts[@]} -eq 0 ]] \
        || shellcheck --format=gcc "${scripts[@]}" || (( $? == 1 ))
}


# Warnings that were looked at and are none are in the list, with the reason.
# What it has seen unchanged it does not look at again. It looks at a file once
# for each macro that a header asks for; under ThreadSanitizer all that differs
# is one line of kv_base.h.
check_cppcheck()
{
    local jobs list=$repo/scripts/lint/cppcheck

    jobs=$(nproc)
    files '^(src/.*|ngx_http_kv_module)\.c$' | tr '\0' '\n' >"$tmp/sources"
    [[ -s $tmp/sources ]] || return 0

    sed 's/ *#.*//; /^$/d' "$list" >"$tmp/suppressed"
    cppcheck --quiet -j "$jobs" --std=c11 --file-list="$tmp/sources" -Isrc \
        -U__SANITIZE_THREAD__ \
        --enable=warning,performance,portability \
        --suppress=missingInclude --suppress=unmatchedSuppression \
        --suppressions-list="$tmp/suppressed" \
        --cppcheck-build-dir="$build/cppcheck" \
        --template='{file}:{line}: {message} [{id}]' \
        --template-location='' 2>&1 | sed '/^$/d'
}


main "$@"
