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

# accuracy NAME...: of networks (that of the last epoch) and of caches of the test set,
# one a line.
accuracy() {
    local name
    for name; do
        if [ -e "$name/metrics.jsonl" ]; then
            last_metric "$name" test_accuracy
        else
            kd-eval -q --json "$name" | sed -n '/"accuracy"/{s/.*: \([0-9.]*\).*/\1/p;q}'
        fi
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
    accuracy test-merged
}

# -- flags ---------------------------------------------------------------------------

trim() {
    local text=$1
    text=${text#"${text%%[! ]*}"}
    printf '%s' "${text%"${text##*[! ]}"}"
}

# flags ARGUMENT...: the flags of a pipeline, each a shell variable of its name with _
# for -, and `output` for -o. They come on stdin, one a line, with their values where
# they are not given:
#
#     epochs | 10
flags() {
    local name value flag
    local -A known=()
    output=''
    while IFS='|' read -r name value; do # the last of a name counts
        name=$(trim "$name") value=$(trim "$value")
        known[$name]=$value
        declare -g "${name//-/_}=$value"
    done
    while [ $# -gt 0 ]; do
        flag=${1#--}
        case $1 in
        -h | --help) usage ;; # sees `known`
        -o) flag=output ;;
        --*) [ -n "${known[$flag]+there}" ] || die "unknown option $1: try --help" ;;
        *) die "unknown argument $1: try --help" ;;
        esac
        [ $# -ge 2 ] || die "$1 needs a value"
        declare -g "${flag//-/_}=$2"
        shift 2
    done
}

# The comment on top of the script, the flags that all methods have where it is one, and
# what flags are where they are not given.
usage() {
    sed -n '2,/^[^#]/{/^# shellcheck/d;s/^# \{0,1\}//p}' "$0"
    if declare -F method_usage >/dev/null; then
        method_usage
        table_usage
    fi
    local name value
    for name in "${!known[@]}"; do
        value=${known[$name]}
        [[ $value != *' '* ]] || value="'$value'"
        [ -z "$value" ] || echo "--$name $value"
    done | sort | awk 'NR == 1 { line = "\nUnless they are given:" }
        { if (length(line " " $0) > 80) { print line; line = " " }; line = line " " $0 }
        END { if (NR) print line }'
    exit 0
}

# needed NAME...: flags that must be given.
needed() {
    local name
    for name; do
        [ -n "${!name:-}" ] || die "--$name is missing: try --help"
    done
    [ -n "${output:-}" ] || die "say where all of it is kept: -o DIRECTORY"
}

# given_file NAME...: flags that name files; made absolute.
given_file() {
    local name
    for name; do
        [ -e "${!name}" ] || die "--$name: there is no ${!name}"
        declare -g "$name=$(realpath "${!name}")"
    done
}

# records FILE: how many samples a binary file of CIFAR-100 has.
records() {
    echo $(($(stat -Lc %s "$1") / 3074))
}

# count NAME...: each must be a number from 1.
count() {
    local name
    for name; do
        [[ ${!name} =~ ^[1-9][0-9]*$ ]] || die "--${name//_/-}: '${!name}' is no number from 1"
    done
}
