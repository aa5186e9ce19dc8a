# shellcheck shell=bash disable=SC2154 # settings sets them
# What the published methods gave, in a table: accuracy, gain and what it cost. Sourced by
# lib_methods.sh.

# churn NAME...: of retrains, networks or caches of the test set: the percentage of samples
# that two of them say different classes of, and their mean |p - q|.
churn() {
    local name models=()
    [ $# -ge 2 ] || { echo - && return; }
    for name; do
        [ ! -e "$name/model.h5" ] || name=$name/model.h5
        models+=("$name")
    done
    kd-eval -q --churn --json --data "$test" "${models[@]}" |
        awk -F '[:,]' '/"churn_mean"/ { c = 100 * $2 } /"difference_mean"/ { d = $2 }
                       END { printf "%6.2f %7.4f", c, d }'
}

# costs NAME...: the seconds of teachers, dumps, merges and the student that one of these
# needs, in the mean, by what their commands name: teachers are all networks but the last
# one, and its earlier rounds (--start). Of a teacher that is wanted as it was after an
# epoch on its way, the epochs until then are.
costs() {
    awk -v names="$*" '
        FNR == 1 { name = FILENAME; sub(".*/", "", name); seconds[name] = $1; next }
        { command[name] = $0 }
        function share(name, file,    all) { # of a network, by a file of its run
            if (file !~ /^epoch-[0-9]+\.h5$/) return 1
            all = command[name]
            if (!sub(".* --epochs ", "", all)) return 1
            return substr(file, 7, 3) / (all + 0)
        }
        function walk(name, student, wanted,    word, n, i, kind) {
            kind = command[name]
            sub(" .*", "", kind)
            if (kind == "kd-train" && student) kind = "student"
            if (wanted <= had[name]) return
            sum[kind] += (wanted - had[name]) * seconds[name]
            had[name] = wanted
            n = split(command[name], word, /[^-A-Za-z0-9_.]+/)
            for (i = 2; i <= n; i++)
                if (word[i] in seconds && word[i] != name)
                    walk(word[i], student && word[i - 1] == "--start",
                         share(word[i], word[i + 1]))
        }
        function column(kind) {
            printf " %8s", sum[kind] ? sprintf("%.1f", sum[kind] / n) : "-"
        }
        END {
            n = split(names, name_of, " ")
            for (k = 1; k <= n; k++) {
                delete had
                walk(name_of[k], 1, 1)
            }
            column("kd-train"); column("kd-dump"); column("kd-merge"); column("student")
        }' stages/*
}

# table TITLE [NOTE]: the head of a method's table; NOTE is over its last column.
table() {
    local data=glyphs
    [ -z "$cifar100" ] || data=$(basename "$cifar100")
    say "done"
    printf '\n%s\n' "$1"
    printf '%s, seeds %s; last epoch, mean +- deviation; teachers in eval mode\n' \
        "$data" "$seeds"
    printf '%-34s %-16s %-16s %8s %8s %8s %8s  %s\n' 'test accuracy, %' '' gain \
        teachers dump merge student "${2:-}"
}

# row LABEL NOTE NAME...: of networks or caches of the test set, one a seed. The gain is
# that over `base`, a list of as many.
base=()
row() {
    local label=$1 note=$2 gain=-
    shift 2
    if [ $# -eq ${#base[@]} ] && [ "$*" != "${base[*]}" ]; then
        gain=$(gains <(accuracy "${base[@]}") <(accuracy "$@"))
    fi
    printf '%-34s %-16s %-16s%s  %s\n' "$label" "$(accuracy "$@" | percent)" "$gain" \
        "$(costs "$@")" "$note" | sed 's/ *$//'
}
