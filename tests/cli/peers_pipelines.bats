#!/usr/bin/env bats
# shellcheck disable=SC2154 # helpers.bash sets them
# The pipelines of networks that teach each other, on a few samples: each goes through,
# trains what its rows say, and has a figure where the method has one.

load helpers

setup() {
    cd "$BATS_TEST_TMPDIR" || return 1
    export KD_BIN=$bin
}

method() {
    local name=$1
    shift
    "$root/pipelines/$name.sh" --samples 130 --seeds '1 2' --epochs 2 --ramp-epochs 1 \
        --batch 65 --threads 1 -o out "$@"
}

# rows LABEL...: the table has these rows, each with an accuracy and its deviation.
# A label with @ before it is of a method that has an ensemble of its own, one with = of a
# single network's figure.
rows() {
    awk 'head && NF {
             label = substr($0, 1, 36)
             sub(/ *$/, "", label)
             n = gsub(/[0-9.]+ \+- [0-9.]+/, "", $0)
             print (n == 3 ? "@" : n == 1 ? "=" : n == 2 ? "" : "not 1 to 3 figures: ") label
         }
         /^test accuracy/ { head = 1 }' "$stdout" >labels
    lines_are labels "$@"
}

# trained NAME OPTION...: all seeds of it were trained with these options.
trained() {
    local name=$1 option
    shift
    for option; do
        for seed in 1 2; do
            grep -qF -- "$option" "out/stages/$name-$seed" ||
                complain "$name-$seed was not trained with '$option'"
        done
    done
}

# deploys LABEL NAME MEMBER...: the row's first figure is the mean over seeds and members
# of their last accuracy.
deploys() {
    local label=$1 name=$2 mean
    shift 2
    mean=$(/usr/bin/python3 - "out/$name" "$@" <<'PY'
import json
import sys
last = [json.loads(open("%s-%d/metrics.jsonl" % (sys.argv[1], seed)).readlines()[-1])
        for seed in (1, 2)]
members = sys.argv[2:]
print("%.2f" % (100 * sum(line[m]["test_accuracy"] for line in last for m in members) /
                2 / len(members)))
PY
    )
    grep -Eq "^$label +$mean \\+- " "$stdout" || complain "$label does not deploy $*: $mean"
}

# again NAME...: the method has nothing left to do.
again() {
    cp "$stdout" first
    expect 0 method "$@"
    diff first "$stdout" || complain "the table is another"
    [ "$(wc -l <"$stderr")" = 1 ] || complain "something was made again"
}

@test "dml: the orders of updates, and unlike networks" {
    expect 0 method dml --other plain2
    rows independent 'dml (gauss-seidel)' 'dml, simultaneous' 'dml, alternating batches' \
        '=independent, resnet8' '=dml resnet8 + plain2: the first' '=independent, plain2' \
        '=dml resnet8 + plain2: the other'
    trained dml --augment\ crop2 --peers\ 2
    trained dml-simultaneous --update\ simultaneous
    trained dml-alternating --update\ alternating
    trained unlike-independent --independent '[resnet8, plain2]'
    again dml --other plain2
}

@test "one: branches and their gate, cl-ilr" {
    expect 0 method one --branches 2
    rows 'independent, whole networks' @one cl-ilr
    trained one --peers\ 2 --ramp-epochs\ 1
}

@test "okddip: whole networks, branches, and what its attention does" {
    expect 0 method okddip --members 3
    rows independent 'okddip, whole networks' 'okddip, branches' \
        'mean instead of attention' 'attention that does not learn' "as the authors' code"
    trained okddip-mean --okddip-weights\ mean
    trained okddip-code --okddip-detach\ nothing --okddip-mix\ logits
    # What is deployed is the leader, and of others the mean of all.
    deploys 'okddip, whole networks' okddip leader
    deploys independent independent-3 peer1 peer2 peer3
}

@test "ffl: branches and whole networks, each with the fused classifier" {
    expect 0 method ffl
    rows 'independent, whole networks' '@ffl, branches' '@ffl, whole networks'
    trained ffl-separate --ffl-separate
}

@test "afd: with its critics and without" {
    expect 0 method afd
    rows independent afd 'without the adversarial term'
    trained afd-logits --no-adversarial
}

@test "prokt: student and teacher, alone, with lambda 0, dual" {
    expect 0 method prokt --elder plain2
    rows 'independent: student' '=independent: teacher' 'prokt: student' '=prokt: teacher' \
        'prokt-lambda-0: student' '=prokt-lambda-0: teacher' 'prokt-dual: student' \
        '=prokt-dual: teacher' 'kd by the independent teacher'
    trained prokt-kd 'hinton' 'prokt-alone-'
    trained prokt-lambda-0 --prokt-lambda\ 0 '[plain2, resnet8]'
}

@test "codistill-peers: an exchange at every step, and at each epoch" {
    expect 0 method codistill-peers --exchanges '1 epoch'
    churned=$(sed -n '/^retrains/,$p' "$stdout")
    sed -i '/^retrains/,$d' "$stdout"
    rows independent 'label smoothing 0.1' 'an exchange every 1 steps' \
        'an exchange every 2 steps'
    trained codistill-2 --exchange-every\ 2
    [ "$(grep -cE ' [0-9.]+ +0\.[0-9]+$' <<<"$churned")" = 4 ] || complain "$churned"
}

@test "peers-then-cache: networks become teachers, with augmentation and without" {
    local views
    for augment in crop2 none; do
        expect 0 method peers-then-cache --pupil mlp --augment "$augment"
        rows 'independent networks' dml '=mlp learns from: labels' \
            '=mlp learns from: independent-2' '=mlp learns from: dml'
        views=2
        [ "$augment" = crop2 ] || views=1
        expect 0 kd-info out/soft-dml-2
        grep -Eq "^ *views +$views$" "$stdout" || complain "not $views views"
        rm -r out
    done
}

@test "peers runs those it is told, in one directory" {
    expect 0 method peers --methods 'ffl afd'
    stdout_has 'ffl: 2 networks, resnet8, 2 epochs'
    stdout_has 'afd: 2 networks, resnet8, 2 epochs'
    stdout_has 'glyphs, seeds 1 2;'
    expect 64 method peers --methods 'ffl takd'
    stderr_is "peers.sh: --methods: there is no takd"
}
