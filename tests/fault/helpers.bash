# shellcheck shell=bash disable=SC2154,SC2034 # cli/helpers.bash sets them; those who
# load this file use them
# What the tests of interruptions and of failing storage share: a command that writes to
# the directory out, run once undisturbed and then disturbed. Whatever happened, a file
# that has its final name is the one that the undisturbed run wrote.

# What of a run must be the same always: names and checksums; not its diary, which
# tells of the disturbances.
sums() {
    (cd "$1" && find . -maxdepth 1 -type f ! -name run.jsonl -exec sha256sum {} +)
}

declare -gA due_sums=()

# Microseconds of the clock.
now_us() { echo "${EPOCHREALTIME/[.,]/}"; }

# Runs the command; what it writes is in due, what it prints in due_paths, how many
# microseconds it takes in span.
run_undisturbed() {
    local began
    began=$(now_us)
    expect 0 "$@"
    span=$(($(now_us) - began))
    mapfile -t due_paths <"$stdout"
    mv out due
    due_sums=()
    while read -r line; do
        due_sums[$line]=yes
    done < <(sums due)
}

# What may lie about in out after a disturbance. $1: whether temporary files may.
check_names() {
    local name line
    [ ! -d out ] || while read -r line; do
        name=${line#*./}
        case $name in
        *.part | .lock) [ "$1" = yes ] || complain "$name is left" ;;
        checkpoint.h5) ;; # the next run opens it
        metrics.jsonl)
            [[ "$(<due/metrics.jsonl)" = "$(<out/metrics.jsonl)"* ]] ||
                complain "metrics.jsonl has other lines"
            [ -z "$(tail -c 1 out/metrics.jsonl)" ] || complain "metrics.jsonl is cut off"
            ;;
        events.out.tfevents.kd) # grows; its readers wait for the end of a record
            cmp -s -n "$(stat -c %s "out/$name")" "out/$name" "due/$name" ||
                complain "$name has other events"
            ;;
        *)
            [ -n "${due_sums[$line]:-}" ] ||
                complain "$name has its final name, and not its final bytes"
            ;;
        esac
    done < <(sums out)
    while read -r name; do
        [ -s "$name" ] || complain "$name was printed and is not there"
    done <"$stdout"
}

# Everything is there, and nothing else.
check_whole() {
    diff -u --label due --label got <(sums due | sort -k 2) <(sums out | sort -k 2) ||
        complain "ends otherwise"
    lines_are "$stdout" "${due_paths[@]}"
    stderr_is
}
