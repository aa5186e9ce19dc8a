# shellcheck shell=bash
# What the pipelines share. Sourced, not run.

# Programs: those beside this checkout, unless KD_BIN names another place or they
# are installed.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PATH=$(realpath -m "${KD_BIN:-$here/build/bin}"):$PATH
export LC_ALL=C

die() {
    echo "$(basename "$0"): $*" >&2
    exit 64
}

# say TEXT: a heading on stderr, with the time since the start.
say() {
    printf '%4d s  %s\n' "$SECONDS" "$*" >&2
}

# last_metric RUN KEY: KEY in the last line of a run's metrics.jsonl.
last_metric() {
    tail -n 1 "$1/metrics.jsonl" | sed -n "s/.*\"$2\":\([-0-9.e+]*\).*/\1/p"
}

# percent: shares on stdin, one a line, as "mean +- deviation" in percent.
percent() {
    awk '{ n++; x[n] = 100 * $1; sum += x[n] }
         END {
             mean = sum / n
             for (i = 1; i <= n; i++) square += (x[i] - mean) ^ 2
             if (n > 1) printf "%.2f +- %.2f\n", mean, sqrt(square / (n - 1))
             else printf "%.2f\n", mean
         }'
}

# gains A B: differences of paired shares in two files, as "mean +- deviation".
gains() {
    paste "$1" "$2" | awk '{ print $2 - $1 }' | percent
}

# accuracies RUN...: the last test accuracy of each run, one a line.
accuracies() {
    local run
    for run; do
        last_metric "$run" test_accuracy
    done
}

# ensemble DATASET TEMPERATURE TEACHER...: the accuracy of the teachers' mean
# probabilities on a test set, merged as the soft labels are.
ensemble() {
    local data=$1 temperature=$2 teacher caches=()
    shift 2
    for teacher; do
        kd-dump -q --teacher "model:$teacher/model.h5" --data "$data" \
            --temperature "$temperature" -o "test-$teacher" >/dev/null
        caches+=("test-$teacher")
    done
    kd-merge -q --policy mean-prob -o test-merged "${caches[@]}" >/dev/null
    kd-eval --json test-merged | sed -n '/"accuracy"/{s/.*: \([0-9.]*\).*/\1/p;q}'
}
