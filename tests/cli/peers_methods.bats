#!/usr/bin/env bats
# shellcheck disable=SC2154 # helpers.bash sets them
# kd-peers: every method trains, goes on after it was killed, and takes its own options
# alone.

load helpers

small='{family: resnet, depth: 8, width: 4}'
peers=(kd-peers -q --data "$data" --batch 50)

setup_file() {
    mkdir "$BATS_FILE_TMPDIR/made"
    cd "$BATS_FILE_TMPDIR/made" || return 1
    kd-synth -q -n 200 --size 12 --seed 1 -o train.h5 >/dev/null
    kd-synth -q -n 100 --size 12 --seed 2 -o test.h5 >/dev/null
}
setup() { enter_copy; }

# paths RUN NAME...: stdout has these networks.
paths() {
    local run=$1 name
    shift
    local files=("${@/#/$run/}")
    stdout_is "${files[@]/%/.h5}"
    for name in "$@"; do
        [ -s "$run/$name.h5" ] || complain "no $name"
    done
}

# metric RUN EXPRESSION: of the last epoch.
metric() {
    tail -n 1 "$1/metrics.jsonl" >last.json
    json last.json "$2"
}

# goes_on OPTION...: a run that is killed ends with the bytes of one that is not.
goes_on() {
    local run=("${peers[@]}" --epochs 30 "$@")
    "${run[@]}" -o whole >/dev/null
    "${run[@]}" -o broken >/dev/null &
    local pid=$!
    for _ in $(seq 500); do
        [ ! -e broken/checkpoint.h5 ] || break
        sleep 0.01
    done
    kill -9 "$pid" || complain "it was done before it could be killed"
    wait "$pid" || true
    expect 0 "${run[@]}" -o broken
    local name
    for name in whole/*.h5; do
        same_files whole broken "${name#*/}" || complain "$name differs"
    done
    same_files whole broken metrics.jsonl recipe.txt
}

# -- one, cl-ilr ---------------------------------------------------------------------

@test "one: branches, and the gate's accuracy" {
    expect 0 "${peers[@]}" --method one --network "$small" --epochs 1 \
        --test hdf5:test.h5:/x,/y -o run
    paths run peer1 peer2 peer3
    [ "$(metric run "'test_accuracy' in j['gate'] and j['gate_loss'] > 0")" = True ]
    expect 0 kd-eval --json --data hdf5:test.h5:/x,/y run/peer2.h5
    a=$(json "$stdout" "round(j['predictors'][0]['accuracy'], 6)")
    b=$(metric run "round(j['peer2']['test_accuracy'], 6)")
    [ "$a" = "$b" ] || complain "kd-eval says $a, the run $b"
    goes_on --method one --network "$small"
}

@test "one: branches of one network, without exchange networks without a gate" {
    fails_like 78 "branches of one network" -- "${peers[@]}" --method one \
        --networks resnet8,resnet14 -o x
    expect 0 "${peers[@]}" --method one --network "$small" --epochs 1 --independent \
        --test hdf5:test.h5:/x,/y -o alone
    [ "$(metric alone "'gate' in j or 'gate_loss' in j")" = False ]
}

@test "cl-ilr: heads on a trunk" {
    expect 0 "${peers[@]}" --method cl-ilr --network "$small" --epochs 1 -o run
    paths run peer1 peer2 peer3 peer4
    goes_on --method cl-ilr --network "$small" --peers 2
}

# -- okddip --------------------------------------------------------------------------

@test "okddip: peers and their leader" {
    expect 0 "${peers[@]}" --method okddip --network "$small" --epochs 1 -o run
    paths run peer1 peer2 peer3 leader
    [ "$(metric run "0 < j['alpha_self'] < 1")" = True ]
    goes_on --method okddip --network "$small" --peers 3
}

@test "okddip: branches, and what the authors' code does" {
    expect 0 "${peers[@]}" --method okddip --network "$small" --epochs 1 \
        --okddip-branches --okddip-detach nothing --okddip-mix logits -o run
    paths run peer1 peer2 peer3 leader
    expect 0 "${peers[@]}" --method okddip --network "$small" --epochs 1 --peers 3 \
        --okddip-weights mean -o mean
    [ "$(metric mean "'alpha_self' in j")" = False ]
}

@test "okddip: what cannot be is refused" {
    fails_like 78 "okddip-branches" -- "${peers[@]}" --method okddip \
        --networks resnet8,resnet8,resnet14 --okddip-branches -o x
    fails_like 78 "at least 3" -- "${peers[@]}" --method okddip --networks mlp,mlp -o x
    fails_like 78 "okddip-detach: targets" -- "${peers[@]}" --method okddip \
        --network mlp --direction reverse -o x
    fails_like 78 "peer2 has features of 512 x 1 x 1" -- "${peers[@]}" --method okddip \
        --networks resnet8,vgg8,resnet8 -o x
    fails_like 64 "--okddip-detach" "predictions" -- "${peers[@]}" --method okddip \
        --network mlp --okddip-detach prediction -o x
    fails_like 78 "okddip-mix: an option of method okddip, not of one" -- \
        "${peers[@]}" --method one --network mlp --okddip-mix logits -o x
    [ ! -e x/checkpoint.h5 ]
}

# -- ffl -----------------------------------------------------------------------------

@test "ffl: branches, and the fused classifier's accuracy" {
    expect 0 "${peers[@]}" --method ffl --network "$small" --epochs 1 \
        --test hdf5:test.h5:/x,/y -o run
    paths run peer1 peer2
    [ "$(metric run "'test_accuracy' in j['fused'] and j['fused_loss'] > 0")" = True ]
    goes_on --method ffl --network "$small"
}

@test "ffl: whole networks, with maps of unlike sizes" {
    expect 0 "${peers[@]}" --method ffl --epochs 1 -o run \
        --networks "[$small, {family: vit, patch: 2, width: 16, depth: 3, heads: 2}]"
    paths run peer1 peer2
    expect 0 "${peers[@]}" --method ffl --epochs 1 --network "$small" --ffl-separate \
        --peers 3 -o apart
    paths apart peer1 peer2 peer3
}

@test "ffl: what cannot be is refused" {
    fails_like 78 "peer2 is an mlp" -- "${peers[@]}" --method ffl --networks resnet8,mlp \
        -o x
    fails_like 78 "feature maps of 3 x 3 (peer1) to 2 x 2" -- "${peers[@]}" \
        --method ffl -o x \
        --networks "[$small, {family: vit, patch: 6, width: 16, depth: 3, heads: 2}]"
    [ ! -e x/checkpoint.h5 ]
}

# -- afd, prokt, codistill -------------------------------------------------------------

@test "afd: maps of networks with other channels" {
    expect 0 "${peers[@]}" --method afd --epochs 1 -o run \
        --networks "[$small, {family: resnet, depth: 8, width: 2}]"
    paths run peer1 peer2
    [ "$(metric run "0 < j['critic_loss'] < 2 and 0 < j['feature_loss'] < 1")" = True ]
    expect 0 "${peers[@]}" --method afd --epochs 1 -o logits --network mlp \
        --no-adversarial
    fails_like 78 "peer1 has no feature map" -- "${peers[@]}" --method afd \
        --network mlp -o x
    [ ! -e x/checkpoint.h5 ]
}

@test "prokt: a teacher and its student, whatever is said beforehand" {
    prokt=(--method prokt --network "$small" --epochs 2 --prokt-dual)
    expect 0 "${peers[@]}" "${prokt[@]}" -o run
    paths run teacher student
    [ "$(metric run "j['beta'] < 1 and j['divergence'] > 0")" = True ]
    expect 0 kd-peers --data "$data" --batch 50 "${prokt[@]}" -o loud
    same_files run loud teacher.h5 student.h5 checkpoint.h5 metrics.jsonl
    fails_like 64 "--prokt-lambda" -- "${peers[@]}" --method prokt --network mlp \
        --prokt-lambda 1.5 -o x
    fails_like 78 "prokt has at most 2" -- "${peers[@]}" --method prokt --network mlp \
        --peers 3 -o x
}

@test "codistill: alone at first, then with what the others were" {
    expect 0 "${peers[@]}" --method codistill --network "$small" --epochs 2 \
        --exchange-every 3 --own-batches -o run
    paths run peer1 peer2
    head -n 1 run/metrics.jsonl >first.json
    [ "$(json first.json "'soft_loss' in j['peer1']")" = False ]
    [ "$(metric run "j['peer1']['soft_loss'] > 0")" = True ]
    fails_like 78 "burn-in: 2 epochs on the labels alone leave none of 2" -- \
        "${peers[@]}" --method codistill --network "$small" --epochs 2 --burn-in 2 -o none
    fails_like 64 "--exchange-every" -- "${peers[@]}" --method codistill \
        --network mlp --exchange-every 0 -o x
    fails_like 78 "burn-in: an option of method codistill, not of dml" -- \
        "${peers[@]}" --network mlp --burn-in 2 -o x
}

# -- hinton ----------------------------------------------------------------------------

# near KEY: in the first line of metrics the student of the run is that of kd-train.
near() {
    local a b
    head -n 1 run/metrics.jsonl >looped.json
    head -n 1 cached/metrics.jsonl >cached.json
    a=$(json looped.json "j['student']['$1']")
    b=$(json cached.json "j['$1']")
    python3 -c "import sys; sys.exit(abs($a - $b) > 2e-5 * abs($b))" ||
        complain "$1: $a in every step, $b cached"
}

@test "hinton: teachers in every step are what a cache of as many views holds" {
    local teachers=() caches=() seed test=hdf5:test.h5:/x,/y
    for seed in 1 2; do
        kd-train -q --network "$small" --data "$data" --epochs 2 --seed "$seed" \
            -o "teacher-$seed" >/dev/null
        kd-dump -q --teacher "model:teacher-$seed/model.h5" --data "$data" --temperature 4 \
            --augment crop2 --views 2 --seed 7 --dtype f32 -o "cache-$seed" >/dev/null
        teachers+=("teacher-$seed/model.h5")
        caches+=("cache-$seed")
    done
    kd-merge -q --policy mean-prob --dtype f32 -o merged "${caches[@]}" >/dev/null
    expect 0 kd-train -q --network "$small" --data "$data" --test "$test" --batch 50 \
        --epochs 2 --seed 7 --labels merged --hard 0.1 --soft 0.9 --temperature 4 -o cached
    expect 0 "${peers[@]}" --method hinton --network "$small" --test "$test" --epochs 2 \
        --seed 7 --augment crop2 --teachers "$(IFS=, && echo "${teachers[*]}")" -o run
    paths run student
    near loss
    near soft_loss
    near train_accuracy
    fails_like 78 "say which trained networks teach" -- "${peers[@]}" --method hinton \
        --network mlp -o x
    fails_like 65 "train.h5" -- "${peers[@]}" --method hinton --network mlp \
        --teachers train.h5 -o x
    [ ! -e x/checkpoint.h5 ]
}
