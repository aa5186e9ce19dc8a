# shellcheck shell=bash
# What the pipelines of networks that teach each other share. Sourced, not run.
# shellcheck disable=SC2154 # settings sets them

# shellcheck source=lib_methods.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib_methods.sh"

table_usage() {
    cat <<'TEXT'
The table has the test accuracy of the last epoch: `deployed` is that of the network which
users are given, the leader or the student where there is one, else the mean of all;
`mean ensemble` that of the mean of their probabilities; `own ensemble` that of the gate or
the fused classifier where the method has one. Seconds are those of all networks together.
In --ramp-epochs what they learn from each other gains its weight, where there is a ramp.
--augment LIST is that of all networks; unless it is given, crop4,flip for CIFAR-100 and
crop2 for the built-in dataset.
TEXT
}

# The flags that they have in common, with values of their own: lines for `settings`.
# The published ramp is 80 of 300 epochs. In batches of 64 a short run has twice the steps.
peer_settings() {
    cat <<'TABLE'
student     | resnet8 | resnet32
epochs      | 8       | 300
ramp-epochs | 2       | 80
batch       | 64      | 128
augment     |         |
TABLE
}

# publish_peers MILESTONES: at full scale the rate falls to a tenth at these epochs.
publish_peers() {
    [ "$scale" = full ] || return 0
    published=(--schedule multistep --milestones "$1" --lr 0.1 --warmup 0)
}

# team NAME METHOD SEED OPTION...: trains networks together into the directory NAME-SEED.
team() {
    local name=$1-$3 method=$2 seed=$3
    shift 3
    stage "$name" kd-peers -q --method "$method" --data "$train" --test "$test" \
        --batch "$batch" --epochs "$epochs" --augment "$augment" --seed "$seed" \
        "${published[@]}" "$@" -o "$name"
}

# peers NAME METHOD OPTION...: of every seed.
peers() {
    local name=$1 method=$2 seed
    shift 2
    for seed in $seeds; do
        team "$name" "$method" "$seed" "$@"
    done
}

# independent COUNT: the control that all have, as many networks that learn alone.
independent() {
    peers "independent-$1" dml --update simultaneous --independent --network "$student" \
        --peers "$1"
}

# figure RUN NAME: the last test accuracy of a member or an ensemble of a run.
figure() {
    tail -n 1 "$1/metrics.jsonl" | grep -oE "\"$2\":\{[^}]*\}" |
        sed -n 's/.*"test_accuracy":\([-0-9.e+]*\).*/\1/p'
}

# deployed RUN: the accuracy of the network that is given to users: the leader or the
# student where there is one, else the mean of all.
deployed() {
    local name
    for name in leader student; do
        [ ! -e "$1/$name.h5" ] || { figure "$1" "$name" && return; }
    done
    for name in "$1"/peer*.h5; do
        name=$(basename "$name" .h5)
        [[ $name == *-best ]] || figure "$1" "$name"
    done | awk '{ sum += $1 } END { print sum / NR }'
}

# figures COMMAND NAME: of the run NAME of every seed; `ensemble` and the like are names
# in the metrics.
figures() {
    local run
    for run in $(each "$2"); do
        case $1 in
        deployed) deployed "$run" ;;
        *) figure "$run" "$1" ;;
        esac
    done
}

peer_table() {
    local data=glyphs
    [ -z "$cifar100" ] || data=$(basename "$cifar100")
    say "done"
    printf '\n%s\n' "$1"
    printf '%s, seeds %s; last epoch, mean +- deviation\n' "$data" "$seeds"
    printf '%-36s %-16s %-16s %-16s %8s\n' 'test accuracy, %' deployed 'mean ensemble' \
        'own ensemble' seconds
}

# peer_row LABEL NAME [OWN]: OWN is the name of the method's own ensemble.
peer_row() {
    local own=-
    [ -z "${3:-}" ] || own=$(figures "$3" "$2" | percent)
    printf '%-36s %-16s %-16s %-16s %8s\n' "$1" "$(figures deployed "$2" | percent)" \
        "$(figures ensemble "$2" | percent)" "$own" "$(mean_seconds "$2")"
}

# mean_seconds NAME: what training took, all networks together.
mean_seconds() {
    local run
    for run in $(each "$1"); do
        head -n 1 "stages/$run"
    done | awk '{ sum += $1 } END { printf "%.0f", sum / NR }'
}
