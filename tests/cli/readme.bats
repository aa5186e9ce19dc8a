#!/usr/bin/env bats
# shellcheck disable=SC2154 # helpers.bash sets them
# The README keeps its word. Its blocks fenced as "sh test" are run in their order, in
# one directory.

load helpers

readme=$root/README.md

# Writes the blocks to block-1.sh, block-2.sh, ...
extract() {
    awk '/^```sh test$/ { inside = 1; n++; next }
         /^```/ { inside = 0 }
         inside { print >("block-" n ".sh") }' "$readme"
}

@test "what the README shows runs as it stands there" {
    [ -e "$readme" ] || skip "there is no README.md"
    mkdir "$BATS_TEST_TMPDIR/here" "$BATS_TEST_TMPDIR/blocks"
    cd "$BATS_TEST_TMPDIR/blocks"
    extract
    [ -e block-1.sh ] || skip "README.md has no block fenced as sh test"
    cd ../here
    local number=1
    while [ -e "../blocks/block-$number.sh" ]; do
        expect 0 bash -euo pipefail "../blocks/block-$number.sh" ||
            { cat "../blocks/block-$number.sh" && return 1; }
        grep -v '^kd-[a-z]*: ' "$stderr" && complain "stderr has more than log lines"
        ! grep -i 'warning' "$stderr" || complain "a warning"
        number=$((number + 1))
    done
    echo "$((number - 1)) blocks"
}

@test "the programs and options that the README names exist" {
    [ -e "$readme" ] || skip "there is no README.md"
    cd "$BATS_TEST_TMPDIR" || return 1
    programs | sort >known
    grep -oE '\bkd-[a-z]+\b' "$readme" | sort -u >named
    [ -s named ]
    comm -23 named known >unknown
    lines_are unknown
    # shellcheck disable=SC2013 # words
    for program in $(cat known); do
        "$program" --help
    done | grep -oE -- '--(\[no-\])?[a-z][a-z0-9-]*' |
        sed 's/--\[no-\]\(.*\)/--\1\n--no-\1/' >options
    # A pipeline's table of flags: name | value, or name | value | value.
    grep -ohE "(^|')[a-z][a-z0-9-]* *\|" "$root"/pipelines/*.sh | tr -d "' |" |
        sed 's/^/--/' >>options
    sort -u -o options options
    # Options stand in commands of ours, behind their continuation, or between backticks.
    grep -E 'kd-|^ +--|`--' "$readme" | grep -oE -- '(^|[ `(])--[a-z][a-z0-9-]*' |
        grep -oE -- '--[a-z].*' | sort -u >named
    [ -s named ]
    comm -23 named options >unknown
    lines_are unknown
}
