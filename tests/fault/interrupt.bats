#!/usr/bin/env bats
# shellcheck disable=SC2154 # helpers.bash sets them
# Programs are interrupted at random moments, and started again until they are done.
# Whatever the moment: a file that has its final name is the one that an uninterrupted
# run writes, byte by byte, and in the end all of them are there and nothing else.
#
# KD_TEST_INTERRUPTIONS: how many each program takes of each signal (50).
# KD_TEST_SEED: which moments (1).

interruptions=${KD_TEST_INTERRUPTIONS:-50}
seed=${KD_TEST_SEED:-1}

load ../cli/helpers
load helpers

setup_file() {
    mkdir "$BATS_FILE_TMPDIR/made"
    cd "$BATS_FILE_TMPDIR/made" || return 1
    kd-synth -q -n 1200 -o train.h5 >/dev/null
    kd-train -q --network "$net" --data "$data" --epochs 1 --seed 1 -o a >/dev/null
    kd-train -q --network "$net" --data "$data" --epochs 1 --seed 2 -o b >/dev/null
    local views=(--augment crop2 --views 40)
    kd-dump -q --teacher model:a/model.h5 --data "$data" "${views[@]}" -o cache-a >/dev/null
    kd-dump -q --teacher model:b/model.h5 --data "$data" "${views[@]}" -o cache-b >/dev/null
}

setup() {
    mkdir "$BATS_TEST_TMPDIR/here"
    cd "$BATS_TEST_TMPDIR/here" || return 1
    ln -s "$BATS_FILE_TMPDIR/made/"* .
    RANDOM=$seed
}

# Sleeps for $1 microseconds, in the shell itself.
nap() {
    local text
    printf -v text '%d.%06d' $(($1 / 1000000)) $(($1 % 1000000))
    read -rt "$text" -u "$never" || true
}

# Waits until process $1 is one of the programs, with its signal handlers installed;
# false if it ended first.
wait_until_ready() {
    local key value
    while kill -0 "$1" 2>/dev/null; do
        while read -r key value _; do
            [ "$key" != Name: ] || [[ $value = kd-* ]] || break
            [ "$key" != SigCgt: ] || (((0x$value & 0x4000) == 0)) || return 0
        done 2>/dev/null <"/proc/$1/status"
        nap 2000
    done
    return 1
}

check_partial() {
    if [ "$1" = KILL ]; then
        check_names yes
        return
    fi
    check_names no
    [[ $(wc -l <"$stderr") -eq 1 && $(<"$stderr") = \
        kd-*": interrupted; run the same command again to go on" ]] ||
        complain "the message"
}

# Whether a part of the work was done, and only a part.
is_halfway() {
    local -a shards=(out/shard-*.h5)
    [ ! -e out/cache.json ] && [ ! -e out/model.h5 ] &&
        { [ -s out/metrics.jsonl ] || [ -e "${shards[0]}" ]; }
}

# storm SIGNAL COMMAND...: the command writes to the directory out. The moment is drawn
# from a span that shrinks when a run came to its end before its signal, and grows when
# it did not, so that most hit, however busy the machine is.
storm() {
    local signal=$1 attempts=0 hits=0 halfway=0 runs=1 took pid code
    shift
    exec {never}<> <(:)
    run_undisturbed "$@"
    took=$span
    span=$((span / 3))
    while [ "$hits" -lt "$interruptions" ]; do
        attempts=$((attempts + 1))
        [ "$attempts" -le $((interruptions * 3)) ] || complain "too few interruptions hit"
        "$@" >"$stdout" 2>"$stderr" 3>&- &
        pid=$!
        if wait_until_ready "$pid"; then
            nap $(((RANDOM * 32768 + RANDOM) % span))
            kill "-$signal" "$pid" 2>/dev/null || true
        fi
        code=0
        wait "$pid" 2>/dev/null || code=$?
        case $signal,$code in
        *,0)
            check_whole
            rm -r out
            runs=$((runs + 1)) span=$((span * 3 / 5 + 1))
            continue
            ;;
        TERM,75 | KILL,137) hits=$((hits + 1)) span=$((span * 21 / 20 + 1)) ;;
        *) complain "exit code $code after SIG$signal" ;;
        esac
        check_partial "$signal"
        ! is_halfway || halfway=$((halfway + 1))
    done
    expect 0 "$@"
    check_whole
    echo "# $1: $hits of $attempts SIG$signal hit it, $halfway halfway through the work;" \
        "$runs runs came to their end; undisturbed, one takes $((took / 1000)) ms" >&3
    [ $((hits * 2)) -gt "$attempts" ] || complain "most interruptions came too late"
    [ $((halfway * 10)) -ge "$hits" ] || complain "hardly any came halfway"
}

train_storm() {
    storm "$1" kd-train -q --network "$net" --data "$data" --test "$data@0:200" \
        --labels cache-a --epochs 40 --batch 20 -o out
    /usr/bin/python3 -c '
import json
events = [json.loads(line)["event"] for line in open("out/run.jsonl")]
assert events[0] == "start" and events[-1] == "done", events'
}

dump_storm() {
    storm "$1" kd-dump -q --teacher model:a/model.h5 --data "$data" --augment crop2 \
        --views 30 --shard-samples 60 -o out
}

merge_storm() {
    storm "$1" kd-merge -q --shard-samples 60 -o out cache-a cache-b
}

@test "kd-train, stopped by SIGTERM, goes on to the same bytes" { train_storm TERM; }
@test "kd-train, killed by SIGKILL, goes on to the same bytes" { train_storm KILL; }
@test "kd-dump, stopped by SIGTERM, goes on to the same bytes" { dump_storm TERM; }
@test "kd-dump, killed by SIGKILL, goes on to the same bytes" { dump_storm KILL; }
@test "kd-merge, stopped by SIGTERM, goes on to the same bytes" { merge_storm TERM; }
@test "kd-merge, killed by SIGKILL, goes on to the same bytes" { merge_storm KILL; }
