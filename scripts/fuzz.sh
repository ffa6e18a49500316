#!/bin/bash
# Usage: scripts/fuzz.sh [--seconds N] [--seed N] [--keep] [TARGET]...
#        scripts/fuzz.sh --build [TARGET]...
#
# Fuzzes what reads bytes that others may have written: t/fuzz/fuzz_TARGET.c
# under libFuzzer and sanitizers, all that fuzz.mk lists if none is named. Each
# starts with its corpus, t/fuzz/corpus/TARGET, then makes inputs of its own.
# Installs clang through apt-get if it is missing.
#
#   --seconds N  how long each target runs (default: 5)
#   --seed N     for the inputs that are made (default: another each time)
#   --keep       what a target found that is new goes into its corpus, which is
#                made as small as it can be
#   --build      compiles them, no more
#
# The last line tells targets, failures and executions. Inputs that fail are
# kept in .build/fuzz/failed; the rest is in .build/logs. The status is 0 if
# nothing failed, and 77, with one line that says why, if this machine cannot
# fuzz.

set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

build=$repo/.build
logs=$build/logs
dir=.build/fuzz
seconds=5
seed=
keep=
build_only=
targets=()

# The most bytes of an input, and the time and memory that it may take.
export KV_FUZZ_LIMITS="-max_len=8192 -timeout=20 -rss_limit_mb=512 \
-malloc_limit_mb=64"

# Freed blocks are soon enough used again, so that the limit above means them.
export ASAN_OPTIONS=quarantine_size_mb=16 UBSAN_OPTIONS=print_stacktrace=1


main()
{
    local target status=0

    parse_arguments "$@"
    cd "$repo"
    mkdir -p "$logs" "$dir/failed"
    require_packages
    build_targets
    [[ -z $build_only ]] || return 0

    # Two at a time, as everywhere in these scripts.
    export -f run_target
    printf '%s\0' "${targets[@]}" \
        | xargs -0 -P 2 -I {} bash -c 'run_target "$@"' run_target \
            {} "$dir" "$logs/fuzz" "$seconds" "$seed" "$(without_aslr)" \
        || status=1

    if [[ $keep && $status -eq 0 ]]; then
        for target in "${targets[@]}"; do
            keep_corpus "$target"
        done
    fi

    print_totals
    return $status
}


parse_arguments()
{
    while [[ $# -gt 0 ]]; do
        case $1 in
            --help|-h)    usage_of "$0"; exit ;;
            --seconds)    seconds=$(next_argument "$@"); shift ;;
            --seconds=*)  seconds=${1#*=} ;;
            --seed)       seed=$(next_argument "$@"); shift ;;
            --seed=*)     seed=${1#*=} ;;
            --keep)       keep=yes ;;
            --build)      build_only=yes ;;
            -*)           die "unknown argument: $1 (try --help)" ;;
            *)            targets+=("$1") ;;
        esac
        shift
    done

    [[ $seconds =~ ^[1-9][0-9]{0,4}$ ]] || die "not a number: $seconds"

    # libFuzzer takes 0 for none given.
    seed=${seed:-$(( RANDOM * 32768 + RANDOM + 1 ))}
    [[ $seed =~ ^[1-9][0-9]*$ ]] || die "not a seed: $seed"

    local file

    if [[ ${#targets[@]} -eq 0 ]]; then
        mapfile -t targets < <(listed fuzz.mk RAFT="$(raft_folder)")
        targets=("${targets[@]#t/fuzz/fuzz_}")
        targets=("${targets[@]%.c}")
        [[ ${#targets[@]} -gt 0 ]] || die "no targets in scripts/fuzz.mk"
    fi

    for file in "${targets[@]}"; do
        [[ -f $repo/t/fuzz/fuzz_$file.c ]] || die "no such target: $file"
    done
}


require_packages()
{
    local said

    need make make
    need libcmocka-dev /usr/include/cmocka.h
    links_a_target || missing+=(clang libclang-rt-dev)

    if ! said=$(install_missing "$logs/apt.log" 2>&1); then
        echo "${said##*: cannot}" | sed '1s/^/cannot/; q'
        exit 77
    fi

    missing=()
    hash -r

    if ! links_a_target; then
        echo "clang is here, but not its libFuzzer"
        exit 77
    fi
}


links_a_target()
{
    echo 'int LLVMFuzzerTestOneInput(void *p, long n)
          { return p == (void *) n; }' \
        | clang -x c -fsanitize=fuzzer,address,undefined -o "$dir/probe" - \
          2>/dev/null
}


# The configured tree in which the module is built has the headers of nginx.
build_targets()
{
    "$repo/scripts/build.sh" --quiet >&2

    if ! make -s -j "$(nproc)" -f scripts/fuzz.mk DIR=$dir \
         TARGETS="${targets[*]/#/fuzz_}" RAFT="$(raft_folder)" \
         >"$logs/fuzz.log" 2>&1
    then
        head -n 60 "$logs/fuzz.log"
        die "the fuzz targets do not compile: see $logs/fuzz.log"
    fi
}


# run_target NAME DIR LOG_PREFIX SECONDS SEED [COMMAND]
run_target()
{
    local name=$1 dir=$2 log=$3-$1.log seconds=$4 seed=$5 status=0
    local corpus=t/fuzz/corpus/$1 found=$2/found/$1 input

    rm -rf "$found"
    mkdir -p "$found" "$corpus"

    # shellcheck disable=SC2086
    timeout --foreground -k 5 $(( 2 * seconds + 60 )) $6 "$dir/fuzz_$name" \
        -seed="$seed" -max_total_time="$seconds" $KV_FUZZ_LIMITS \
        -print_final_stats=1 -artifact_prefix="$dir/failed/$name-" \
        "$found" "$corpus" \
        >"$log" 2>&1 </dev/null || status=$?

    (( status != 0 )) || return 0
    (( status != 124 )) || echo "ended by force" >>"$log"

    printf 'FAILED: %s, status %d, seed %s: %s\n' "$name" $status "$seed" \
        "$log"
    grep -v -E '^(#[0-9]|INFO:|[[:space:]]*NEW_FUNC)| in fuzzer::' "$log" \
        | cut -c -300 | head -n 40 || true
    input=$(sed -n 's/^.*Test unit written to //p' "$log" | tail -n 1)
    [[ -z $input ]] || printf 'again: %s %s\n' "$dir/fuzz_$name" "$input"
    return 1
}


# One input for each edge that is reached, not for each count of it: a corpus
# is to be small. Inputs whose names are no hashes stay.
keep_corpus()
{
    local corpus=t/fuzz/corpus/$1 found=$dir/found/$1 kept=$dir/kept

    rm -rf "$kept"
    mkdir -p "$kept"
    find "$corpus" -type f -name '*[!0-9a-f]*' -exec cp -t "$kept" {} +

    # shellcheck disable=SC2046,SC2086
    $(without_aslr) "$dir/fuzz_$1" -merge=1 -use_counters=0 $KV_FUZZ_LIMITS \
        "$kept" "$corpus" "$found" >"$logs/fuzz-$1.merge.log" 2>&1 </dev/null
    rm -rf "$corpus"
    mv "$kept" "$corpus"
}


print_totals()
{
    local name failed=0 executions=0 n

    for name in "${targets[@]}"; do
        n=$(sed -n 's/^stat::number_of_executed_units: *//p' \
            "$logs/fuzz-$name.log")
        executions=$(( executions + ${n:-0} ))
        [[ $n ]] && grep -q '^Done ' "$logs/fuzz-$name.log" \
            || failed=$(( failed + 1 ))
    done

    printf '%d targets, %d failed, %d executions\n' ${#targets[@]} $failed \
        $executions
}


main "$@"
