#!/usr/bin/env bats
# shellcheck disable=SC2154 # helpers.bash sets them
# Children that are teachers, and misbehave: whatever they do and whenever, kd-dump says
# so and ends, leaves no process behind, and stores no row that is not right.
#
# KD_TEST_RUNS: how many (40). KD_TEST_SEED: which moments (1).

load ../cli/helpers

setup() {
    cd "$BATS_TEST_TMPDIR" || return 1
    kd-synth -q -n 300 --seed 1 -o train.h5 >/dev/null
    child="exec /usr/bin/python3 -S -E $root/tests/fault/exec_child.py"
}

@test "a child that misbehaves in any way, at any moment" {
    PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 "$root/tests/fault/exec_storm.py" \
        "${KD_TEST_RUNS:-40}" "${KD_TEST_SEED:-1}" >storm.txt
    cat storm.txt >&3
}

# children_of MARK: processes that have it in their environment.
children_of() {
    grep -lazx "KD_TEST_MARK=$1" /proc/[0-9]*/environ 2>/dev/null || true
}

# stopped_by SIGNAL KIND COUNT: kd-dump is stopped while its children do nothing, and
# there are COUNT processes; its exit code is in $code.
stopped_by() {
    local pid
    KD_TEST_MARK=$1$$ kd-dump -q --teacher "exec:$child $2 2" --jobs 2 --data "$data" \
        -o out >"$stdout" 2>"$stderr" 3>&- &
    pid=$!
    while [ "$(children_of "$1$$" | wc -l)" -lt "$3" ]; do sleep 0.02; done
    kill "-$1" "$pid"
    code=0
    wait "$pid" 2>/dev/null || code=$?
}

@test "SIGTERM while children hang: 75 at once, and none is left" {
    local code
    stopped_by TERM company 5 # that have started others
    [ "$code" -eq 75 ] || complain "exit code $code"
    stderr_is "kd-dump: exec:$child company 2: interrupted; run the same command again to go on"
    [ -z "$(children_of "TERM$$")" ] || complain "left: $(children_of "TERM$$")"
}

@test "SIGKILL: the children go as well" {
    local code
    stopped_by KILL hang 3
    [ "$code" -eq 137 ] || complain "exit code $code"
    for ((i = 0; i < 100; i++)); do
        [ -n "$(children_of "KILL$$")" ] || return 0
        sleep 0.05
    done
    complain "left: $(children_of "KILL$$")"
}
