# shellcheck shell=bash disable=SC2119,SC2120 # stdout_is may have no argument
# What the tests of the commands share: the programs in PATH, tiny inputs, and
# assertions that show what differed. Each test runs in a directory of its own.

root=$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd)
bin=$(cd "$root" && cd "${BUILD:-build}/bin" && pwd) ||
    { echo "build first: there is no ${BUILD:-build}/bin" && exit 1; }
PATH=$bin:$PATH
# Where real data may lie: KD_DATA, which for the programs is the --data that they
# are not given, so it is kept under another name.
export KD_TEST_DATASETS=${KD_TEST_DATASETS:-${KD_DATA:-$root/../shared/data}}
# shellcheck disable=SC2034 # for those who load this file
real_data=$KD_TEST_DATASETS

# What the user has set decides nothing here, but for KD_TEST_*.
for name in "${!KD_@}"; do
    [[ $name = KD_TEST_* ]] || unset "$name"
done
unset NO_COLOR name
export LC_ALL=C TERM=dumb

# One thread each: the networks are tiny, and the machine may be busy.
export KD_THREADS=1

data=hdf5:train.h5:/x,/y
net='{family: mlp, hidden: [16]}'

train() {
    kd-train -q --network "$net" --data "$data" --epochs 2 --batch 50 "$@"
}

dump() {
    kd-dump -q --data "$data" --shard-samples 128 "$@"
}

# In this directory: data, teachers a and b, their caches, the merged one.
make_all() {
    kd-synth -q -n 300 --seed 1 -o train.h5
    kd-synth -q -n 300 --seed 2 -o other.h5
    train --seed 1 -o a
    train --seed 2 -o b
    dump --teacher model:a/model.h5 -o cache-a
    dump --teacher model:b/model.h5 -o cache-b
    kd-merge -q --shard-samples 100 -o merged cache-a cache-b
}

# The same for every test of a file: made once, copied for each.
make_once() {
    mkdir "$BATS_FILE_TMPDIR/made"
    cd "$BATS_FILE_TMPDIR/made" || return 1
    make_all >/dev/null
}

enter_copy() {
    cp -a "$BATS_FILE_TMPDIR/made" "$BATS_TEST_TMPDIR/here"
    cd "$BATS_TEST_TMPDIR/here" || return 1
}

programs() {
    local path
    for path in "$bin"/kd-*; do
        echo "${path##*/}"
    done
}

# -- assertions ------------------------------------------------------------------

stdout=${BATS_TEST_TMPDIR:-${BATS_FILE_TMPDIR:-/tmp}}/stdout
stderr=${BATS_TEST_TMPDIR:-${BATS_FILE_TMPDIR:-/tmp}}/stderr
command=

complain() {
    echo "$1"
    echo "command: $command"
    local file
    for file in "$stdout" "$stderr"; do
        [ ! -e "$file" ] || { echo "${file##*/}:" && head -n 50 "$file" | sed 's/^/    /'; }
    done
    return 1
}

# expect CODE COMMAND...: runs it and insists on its exit code.
expect() {
    local wanted=$1 got=0
    shift
    command=$*
    "$@" >"$stdout" 2>"$stderr" || got=$?
    [ "$got" -eq "$wanted" ] || complain "exit code $got where $wanted is due"
}

# lines_are FILE LINE...: the file has exactly these lines; none: it is empty.
lines_are() {
    local file=$1
    shift
    if [ $# -eq 0 ]; then
        [ ! -s "$file" ] || complain "${file##*/} is not empty: $(head -n 5 "$file")"
    else
        diff -u --label due --label got <(printf '%s\n' "$@") "$file" ||
            complain "${file##*/} differs"
    fi
}
stdout_is() { lines_are "$stdout" "$@"; }
stderr_is() { lines_are "$stderr" "$@"; }

stdout_has() {
    grep -qF -- "$1" "$stdout" || complain "stdout lacks '$1'"
}

# The program that a command runs.
program_of() {
    local word
    for word; do
        case $word in
        train | dump | import | convert) echo "kd-$word" && return ;;
        kd-*) echo "$word" && return ;;
        esac
    done
}

# One line of an error, exactly; wrong usage has a hint behind it.
fails_with() {
    local code=$1 message=$2
    shift 2
    expect "$code" "$@"
    stdout_is
    local program
    program=$(program_of "$@")
    if [ "$code" -eq 64 ]; then
        stderr_is "$program: $message" "$program: try --help"
    else
        stderr_is "$program: $message"
    fi
}

# One line of an error that has all these words: fails_like CODE WORD... -- COMMAND...
fails_like() {
    local code=$1 words=()
    shift
    while [ "$1" != -- ]; do
        words+=("$1")
        shift
    done
    shift
    expect "$code" "$@"
    stdout_is
    local word lines=1
    [ "$code" -ne 64 ] || lines=2
    [ "$(wc -l <"$stderr")" -eq "$lines" ] || complain "stderr is not $lines lines long"
    head -n 1 "$stderr" | grep -q "^$(program_of "$@"): " || complain "stderr names no program"
    for word in "${words[@]}"; do
        head -n 1 "$stderr" | grep -qF -- "$word" || complain "stderr lacks '$word'"
    done
}

same_files() {
    local name
    for name in "${@:3}"; do
        cmp "$1/$name" "$2/$name" || return 1
    done
}

# Names, times and checksums of all files below.
snapshot() {
    find "$@" -type f -printf '%p %s %T@\n' | sort
    find "$@" -type f -exec sha256sum {} + | sort -k 2
}

# json FILE EXPRESSION: evaluates Python over `j`, the JSON in the file.
json() {
    /usr/bin/python3 -c '
import json, sys
j = json.load(open(sys.argv[1]))
print(eval(sys.argv[2]))' "$1" "$2"
}
