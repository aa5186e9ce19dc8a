#!/usr/bin/env bats
# shellcheck disable=SC2154,SC2030,SC2031 # helpers.bash sets them
# Storage that fails: each program is run while one call that stores something fails
# (tests/fault/shim.c), now this one, now that one, from the first to the last. It says
# so in one line, leaves no file under its final name that is not whole, and the next
# run goes on to the bytes of an undisturbed one.
#
# KD_TEST_FAULTS: how many calls of each program fail in turn with each error (6); 0:
# every single one.

faults=${KD_TEST_FAULTS:-6}

load ../cli/helpers
load helpers

shim=${BUILD:-build}/tests/fault/shim.so
[[ $shim = /* ]] || shim=$root/$shim

setup_file() {
    mkdir "$BATS_FILE_TMPDIR/made"
    cd "$BATS_FILE_TMPDIR/made" || return 1
    kd-synth -q -n 60 -o train.h5 >/dev/null
    for name in a b; do
        kd-train -q --network "$net" --data "$data" --epochs 1 --batch 20 -o "$name"
        dump_with "$name" -o "cache-$name"
    done >/dev/null
}

setup() {
    ! grep -q __asan_init "$bin/kd-dump" || skip "the programs have a sanitizer"
    mkdir "$BATS_TEST_TMPDIR/here"
    cd "$BATS_TEST_TMPDIR/here" || return 1
    ln -s "$BATS_FILE_TMPDIR/made/"* .
    struck=$BATS_TEST_TMPDIR/struck
}

dump_with() {
    kd-dump -q --teacher "model:$1/model.h5" --data "$data" --shard-samples 25 "${@:2}"
}

# -- the programs, writing to the directory out ------------------------------------

synth() {
    mkdir -p out
    in_shim kd-synth -q -n 60 -o out/train.h5
}

dump_out() { in_shim dump_with a -o out; }

merge() { in_shim kd-merge -q --shard-samples 25 -o out cache-a cache-b; }

train_out() {
    in_shim kd-train -q --network "$net" --data "$data" --test "$data@0:20" \
        --labels cache-a --epochs 2 --batch 20 -o out
}

# -- faults ------------------------------------------------------------------------

# Runs a command under the shim, where $fault says so.
in_shim() {
    if [ -z "${fault:-}" ]; then
        "$@"
    else
        (
            export LD_PRELOAD=$shim KD_FAULT=$fault KD_FAULT_LOG=$struck
            KD_FAULT_UNDER=$(pwd -P)/out
            export KD_FAULT_UNDER
            "$@"
        )
    fi
}

# strike FAULT COMMAND: its exit code is in $code, and in the file $struck what failed.
strike() {
    local fault=$1
    shift
    command="$fault: $*"
    code=0
    rm -f "$struck"
    "$@" >"$stdout" 2>"$stderr" || code=$?
}

# What the command did after a strike that it could not get over.
check_failure() {
    local reason=$1 temporary=no
    case $code in
    73 | 74) ;;
    *) complain "exit code $code: $(<"$struck")" ;;
    esac
    [[ $(wc -l <"$stderr") -eq 1 && $(<"$stderr") = kd-*": "*": $reason" ]] ||
        complain "not one line that ends in '$reason': $(<"$struck")"
    ! grep -q '^unlink' "$struck" || temporary=yes
    check_names "$temporary"
    local -a shards=(out/shard-*.h5)
    [ ! -e "${shards[0]}" ] || kd-check "${shards[@]}" >"$stdout" 2>"$stderr" ||
        complain "a shard that is there is not whole"
}

# Calls whose failure the program may get over: the removal of a lock, a close behind a
# flush, an opening that is tried in another way, a directory that is there already.
is_harmless() { grep -qE '^(unlink|close|open|mkdir)' "$struck"; }

# How many calls of the command store something.
count_calls() {
    strike any:999999:EIO "$@"
    [ "$code" -eq 0 ] || complain "exit code $code"
    sed -n 's/^counted //p' "$struck"
}

# sweep ERROR REASON COMMAND
sweep() {
    local error=$1 reason=$2 code calls n hits=0
    shift 2
    rm -rf out
    calls=$(count_calls "$@")
    [ "$calls" -gt 5 ] || complain "only $calls calls"
    [ "$faults" -gt 0 ] && [ "$faults" -lt "$calls" ] || faults=$calls
    for ((i = 0; i < faults; i++)); do
        n=$((1 + (2 * i + 1) * calls / (2 * faults)))
        rm -rf out
        strike "any:$n:$error" "$@"
        grep -qv '^counted' "$struck" || continue
        hits=$((hits + 1))
        if [ "$code" -ne 0 ] || ! is_harmless; then
            check_failure "$reason"
            expect 0 "$@"
        fi
        check_whole_but_lock
    done
    echo "# kd-$1: $hits of $calls calls failed with $error" >&3
    [ $((hits * 10)) -ge $((faults * 9)) ] || complain "few calls failed"
}

# A lock that could not be removed stays, and hinders nobody.
check_whole_but_lock() {
    ! grep -q '/.lock$' "$struck" || rm -f out/.lock
    check_whole
}

sweep_errors() {
    run_undisturbed "$1"
    sweep ENOSPC "No space left on device" "$1"
    sweep EIO "Input/output error" "$1"
}

@test "kd-synth gets over every call that fails" { sweep_errors synth; }
@test "kd-dump gets over every call that fails" { sweep_errors dump_out; }
@test "kd-merge gets over every call that fails" { sweep_errors merge; }
@test "kd-train gets over every call that fails" { sweep_errors train_out; }

# A cache with a damaged shard, and a file that a killed run left; repaired.
repair() {
    [ -d out ] || {
        cp -rL cache-a out
        printf '\x55' | dd of=out/shard-000001.h5 bs=1 seek=4100 conv=notrunc status=none
        echo half >out/shard-000002.h5.part
    }
    in_shim kd-check -q --repair out
}

# It has what the repaired one has, and kd-dump makes the rest of it.
check_repaired() {
    [ "$(ls -A out)" = "$(ls -A repaired)" ] || complain "repaired otherwise"
    expect 0 dump_out
    rm out/*.damaged
    diff -r out cache-a || complain "made again otherwise"
    expect 0 kd-check out
}

@test "kd-check --repair gets over every call that fails" {
    local code calls n hits=0
    expect 1 repair
    mv out repaired
    [ "$(ls -A repaired)" = "$(printf '%s\n' shard-000000.h5 shard-000001.h5.damaged \
        shard-000002.h5)" ]
    strike any:999999:EIO repair
    calls=$(sed -n 's/^counted //p' "$struck")
    for ((n = 1; n <= calls; n++)); do
        rm -rf out
        strike "any:$n:EIO" repair
        grep -qv '^counted' "$struck" || complain "nothing was struck"
        if [ "$code" -ne 1 ]; then
            hits=$((hits + 1))
            [[ "$code" = 7[34] && $(wc -l <"$stderr") -eq 1 &&
                $(<"$stderr") = kd-check:*": Input/output error" ]] ||
                complain "exit code $code, or the message"
            expect 1 repair
        fi
        rm -f out/.lock
        check_repaired
    done
    echo "# kd-check: $hits of $calls calls failed with EIO" >&3
    [ "$hits" -ge 3 ]
}

# fill COMMAND: the disk is full after so many bytes.
fill() {
    local code bytes total
    run_undisturbed "$1"
    rm -rf out
    strike enospc:999999999 "$1"
    total=$(sed -n 's/^counted //p' "$struck")
    for bytes in 0 100 5000 $((total / 2)) $((total - 100)); do
        rm -rf out
        strike "enospc:$bytes" "$1"
        check_failure "No space left on device"
        expect 0 "$1"
        check_whole
    done
}

@test "a disk that fills up costs no more than the next run" {
    for command in synth dump_out merge train_out; do
        rm -rf due out
        fill "$command"
    done
}

# persist COMMAND: writes that take only a part, or are interrupted, are gone on with.
persist() {
    local code spec
    run_undisturbed "$1"
    for spec in short:0 short:3 write:1:EINTR write:7:EINTR; do
        rm -rf out
        strike "$spec" "$1"
        [ "$code" -eq 0 ] || complain "exit code $code"
        [ -s "$struck" ] || complain "nothing was struck"
        check_whole
    done
}

@test "short and interrupted writes are continued" {
    for command in synth dump_out merge train_out; do
        rm -rf due out
        persist "$command"
    done
}

@test "a directory without permission is 73, in one line" {
    local code fault
    for program in synth dump_out merge train_out; do
        for fault in mkdir:0:EACCES open:0:EACCES any:0:EROFS; do
            rm -rf out
            [ "$program" != synth ] || [ "${fault%%:*}" != mkdir ] || continue
            [ "${fault%%:*}" != open ] || mkdir out
            strike "$fault" "$program"
            [ "$code" -eq 73 ] || complain "exit code $code"
            [[ $(wc -l <"$stderr") -eq 1 && $(<"$stderr") = kd-*": out"*": "* ]] ||
                complain "the message"
            [ ! -d out ] || [ -z "$(find out -type f)" ] || complain "files are left"
        done
    done
}

@test "a directory of somebody else is 73, in one line" {
    [ "$(id -u)" -ne 0 ] || skip "root may write everywhere"
    mkdir -m 555 out
    expect 73 kd-synth -q -n 60 -o out/train.h5
    for program in dump_out merge train_out; do
        expect 73 "$program"
        [[ $(wc -l <"$stderr") -eq 1 && $(<"$stderr") = kd-*": out/"*": Permission denied" ]] ||
            complain "the message"
    done
}

@test "of two dumps into one directory the second waits for nothing and harms nothing" {
    local pid
    slow() { kd-dump -q --teacher model:a/model.h5 --data "$data" --augment crop2 \
        --views 400 --shard-samples 5 -o out; }
    run_undisturbed slow
    # The function would be a shell of its own, which is not who holds the lock.
    kd-dump -q --teacher model:a/model.h5 --data "$data" --augment crop2 \
        --views 400 --shard-samples 5 -o out >first 3>&- &
    pid=$!
    until compgen -G 'out/shard-*.h5' >/dev/null; do
        kill -0 "$pid" || complain "the first one ended"
    done
    kill -STOP "$pid"
    [ ! -e out/cache.json ] || complain "the first one was too quick"
    fails_with 73 "out: process $pid is writing there: wait for it, or end it" \
        kd-dump -q --teacher model:a/model.h5 --data "$data" -o out
    if command -v kd-check >/dev/null; then
        expect 1 kd-check out
        grep -qx "out: process $pid is writing there" "$stdout" || complain "kd-check"
        fails_like 73 "process $pid" -- kd-check --repair out
    fi
    kill -CONT "$pid"
    wait "$pid"
    expect 0 slow
    check_whole
}
