#!/bin/bash
# Usage: scripts/coverage.sh [--missing FILE]... [TEST]...
#
# Measures what the unit tests (those named, as in test_map_growth, or all that
# unit.mk lists) reach of the store core, src/ without src/http: builds them
# in .build/coverage for gcov, runs them, and prints lines and branches reached,
# for each file and in all. What a child reached that leaves by _exit(), or
# kills itself at a failpoint, counts as well. Takes some minutes.
#
#   --missing FILE  print also the branches of this source, as in kv_map.c,
#                   that no test took; without a run if there was one
#
# A branch is a way that the program may go at a condition, as gcc compiles it
# without optimisation: two for each operand of && and ||. Left out are
#
#   - those of lines with an assertion: their other way ends the process, and
#     a test that takes it has found a bug;
#   - files of src/base that are test equipment: failpoints.
#
# t/README.md states the figures.

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

dir=.build/coverage
log=$repo/.build/logs/coverage.log
limit=900
missing_of=()
tests=()


main()
{
    parse_arguments "$@"
    cd "$repo"
    mkdir -p .build/logs "$dir"
    require_packages

    if [[ ${#missing_of[@]} -eq 0 || ! -e $dir/done ]]; then
        build_tests
        run_tests
    fi

    perl scripts/lint/coverage.pl "$dir" "${missing_of[@]}"
}


parse_arguments()
{
    while [[ $# -gt 0 ]]; do
        case $1 in
            --help|-h)   usage_of "$0"; exit ;;
            --missing)   missing_of+=("$(next_argument "$@")"); shift ;;
            --missing=*) missing_of+=("${1#*=}") ;;
            test_*)      tests+=("$1") ;;
            *)           die "unknown argument: $1 (try --help)" ;;
        esac
        shift
    done
}


require_packages()
{
    need gcc gcc
    need gcc gcov
    need libc6-dev /usr/include/stdio.h
    need make make
    need libcmocka-dev /usr/include/cmocka.h
    need perl perl
    install_missing "$repo/.build/logs/apt.log"
}


build_tests()
{
    local wrap=-Wl,--wrap=_exit,--wrap=kill

    if [[ ${#tests[@]} -eq 0 ]]; then
        mapfile -t tests < <(listed unit.mk)
        tests=("${tests[@]##*/}")
        tests=("${tests[@]%.c}")
        [[ ${#tests[@]} -gt 0 ]] || die "no tests in scripts/unit.mk"
    fi

    make -s -j "$(nproc)" -f scripts/unit.mk DIR=$dir SANITIZE= CC=gcc \
        KV_CFLAGS='-O0 --coverage' KV_LDFLAGS="t/lib/coverage.c $wrap" \
        TESTS="${tests[*]}" RAFT="$(raft_folder)" >"$log" 2>&1 \
        || die "does not compile: see $log"
}


# What earlier runs counted is of other sources. A test's child that has become
# another user counts in the files that its parent made.
run_tests()
{
    local name status tmp

    find $dir -name '*.gcda' -delete
    rm -f $dir/done
    umask 0

    for name in "${tests[@]}"; do
        status=0
        tmp=$(mktemp -d)
        chmod 755 "$tmp"
        TMPDIR=$tmp timeout -k 5 $limit $dir/"$name" >>"$log" 2>&1 </dev/null \
            || status=$?
        rm -rf -- "$tmp"
        (( status == 0 )) || printf '%s: status %d: see %s\n' "$name" \
            "$status" "$log" >&2
    done

    : >$dir/done
}


main "$@"
