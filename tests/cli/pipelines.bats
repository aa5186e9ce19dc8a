#!/usr/bin/env bats
# shellcheck disable=SC2154 # helpers.bash sets them
# The pipelines of published methods, on a few samples: each goes through and prints its
# table, with a row for the method and for each control; run again it does nothing and
# prints the same.

load helpers

setup() {
    cd "$BATS_TEST_TMPDIR" || return 1
    export KD_BIN=$bin
    tiny=(--samples 300 --seeds '1 2' --student mlp --teacher mlp --teachers 2 --epochs 2
        --teacher-epochs 2 --threads 1)
}

# cifar/train.bin and cifar/test.bin, of 190 samples. A record: coarse label, fine label,
# 3072 pixels.
make_cifar() {
    mkdir cifar
    for ((i = 0; i < 190; i++)); do
        if ((i % 2)); then printf '\0\1'; else printf '\0\0'; fi
        head -c 3072 /dev/zero | tr '\0' "\\$((100 + i % 60))"
    done >cifar/train.bin
    cp cifar/train.bin cifar/test.bin
}

# All methods that share `out` in a test have these settings.
method() {
    local name=$1
    shift
    "$root/pipelines/$name.sh" "${tiny[@]}" -o out "$@"
}

# rows LABEL...: the table has these rows, each with an accuracy, and no others.
rows() {
    awk 'head && NF { print substr($0, 1, 34) } /^test accuracy/ { head = 1 }' "$stdout" |
        sed 's/ *$//' >labels
    lines_are labels "$@"
    awk 'head && NF && substr($0, 36) !~ /^[0-9.]+/ { exit 1 }
         /^test accuracy/ { head = 1 }' "$stdout" || complain "a row has no accuracy"
}

# again NAME...: the method has nothing left to do.
again() {
    cp "$stdout" first
    snapshot out >before
    expect 0 method "$@"
    diff first "$stdout" || complain "the table is another"
    snapshot out | diff before - || complain "something was made again"
}

@test "ensemble: one teacher, all, in turn, drawn" {
    expect 0 method ensemble
    rows teachers 'their ensemble' 'labels alone' 'hinton: one teacher' 'ensemble: merged' \
        'ensemble, at equal passes' 'sequential: 1 2' 'sequential: 2 1' \
        'in turn, batch by batch' 'a teacher drawn for each batch' \
        'random-teacher, for each row'
    grep -Eq '^ensemble: merged .* 4$' "$stdout"
    grep -Eq '^ensemble, at equal passes .* 2$' "$stdout"
    again ensemble
}

@test "takd: each assistant and the full path" {
    expect 0 method takd --assistants 'plain2 vgg8' --teachers 1
    rows 'teacher, mlp' 'assistant, plain2' 'assistant, vgg8' 'mlp, labels alone' \
        'KD, by the teacher itself' 'TAKD, assistant plain2' 'TAKD, assistant vgg8' \
        'TAKD, full path'
    grep -Eq '^TAKD, full path .* mlp < vgg8 < plain2 < mlp$' "$stdout"
    grep -qF 'reduction elemmean' out/stages/mlp-by-mlp-1 && complain "not batchmean"
    again takd --assistants 'plain2 vgg8' --teachers 1
}

@test "born-again: generations and their ensemble, beside as many rivals" {
    expect 0 method born-again
    rows 'generation 0: labels alone' 'generation 1, labels too' 'generation 1' \
        'generation 2' 'ensemble of generations 0 to 2' 'ensemble of 3, labels alone'
    again born-again
}

@test "tf-kd: self, virtual, reversed, defective, and what they are measured by" {
    expect 0 method tf-kd --seeds 1 --teacher plain2
    rows 'mlp, labels alone' 'label smoothing 0.1' 'labels times 0.05' self self \
        'virtual, softmax of prob.' 'virtual, power' 'virtual, softmax of prob.' \
        'De-KD: plain2 of one epoch' 'KD: plain2' 'plain2, labels alone' \
        'Re-KD: plain2, by mlp'
    again tf-kd --seeds 1 --teacher plain2
}

@test "annealing-kd and pro-kd share a directory" {
    expect 0 method annealing-kd --epochs 8
    rows 'labels alone' KD 'annealing-kd, 5 steps' 'annealing-kd, 5 steps' 'no annealing'
    again annealing-kd --epochs 8
    expect 0 method pro-kd --epochs 8
    rows 'labels alone' prokd_reconstructed 'no factor' 'no factor, reverse order' \
        'one footstep alone' 'one footstep alone' 'KD, the last alone' 'RCO: KD in order'
    grep -Eq '^no factor, reverse order .* 2 1$' "$stdout"
    again pro-kd --epochs 8
}

@test "codistill: rounds, their staleness, and churn" {
    local rounds='codistill:1 dml-stale:2 prokt-rounds:1'
    expect 0 method codistill --methods "$rounds" --epochs 3 --burn-in 1
    rows 'independent, rounds of 1' 'their ensembles' 'label smoothing 0.1' \
        'their ensembles' 'independent, rounds of 2' 'their ensembles' \
        'label smoothing 0.1' 'their ensembles' \
        'codistill, rounds of 1' 'dml-stale, rounds of 2' 'prokt-rounds of 1, student' \
        'prokt-rounds of 1, teacher'
    grep -Eq '^codistill, rounds of 1 .* [0-9.]+ +[0-9.]+  1/2$' "$stdout"
    grep -Eq '^dml-stale, rounds of 2 .* [0-9.]+ +[0-9.]+  2/4$' "$stdout"
    again codistill --methods "$rounds" --epochs 3 --burn-in 1
}

@test "codistill on disjoint data: the others are run on each one's part" {
    local split=(--data-split disjoint --networks 3 --methods codistill:1 --burn-in 1)
    expect 0 method codistill "${split[@]}" --samples 450 --seeds 1
    rows 'independent, rounds of 1' 'their ensembles' 'label smoothing 0.1' \
        'their ensembles' 'codistill, rounds of 1'
    grep -q 'train.h5:/x,/y@150:300 ' out/stages/cache-codistill-1-of-3-apart-1-*-for-2-*
}

@test "saved: students with teachers in the loop and without" {
    expect 0 method saved --students '1 3'
    stdout_has 'saved: 2 teachers, mlp; students, mlp, 2 epochs'
    grep -Eq '^in all, 3 students +[0-9.]+ +[0-9.]+ +[0-9.]+$' "$stdout"
    again saved --students '1 3'
}

@test "methods runs those it is told, in one directory, on CIFAR-100 too" {
    make_cifar
    expect 0 method methods --methods 'annealing-kd saved' --seeds 1 --cifar100 cifar
    stdout_has 'annealing-kd: mlp by mlp'
    stdout_has 'cifar, seeds 1;'
    stdout_has 'saved: 2 teachers, mlp'
    expect 64 method methods --methods 'saved peers'
    stderr_is "methods.sh: --methods: there is no peers"
}

@test "a finished stage of other settings is not taken for this one" {
    expect 0 method saved --seeds 1
    expect 64 method saved --seeds 1 --epochs 3
    grep -q 'was made with other settings (stages/cache-1): choose another -o$' "$stderr"
}

@test "bad flags" {
    for flag in '--nothing 1' '--seeds x' '--epochs 0' '--scale large' '--teachers' \
        '--student {family:mlp}' '--cifar100 nowhere'; do
        # shellcheck disable=SC2086 # a flag and its value
        expect 64 method ensemble $flag
        grep -q -- "^ensemble.sh: ${flag%% *}\|^ensemble.sh: unknown option" "$stderr"
        stdout_is
    done
    expect 64 method takd --reduction mean
    stderr_is "takd.sh: --reduction: batchmean or elemmean"
    expect 64 method codistill --methods dml:1
    expect 64 "$root/pipelines/ensemble.sh" here
    [ ! -e out ]
    expect 64 method ensemble --teachers 1
    expect 0 method takd --help
    stdout_has --assistants
    stdout_has --teacher-epochs
}

@test "every pipeline says what it is for, and what its flags are" {
    local script
    for script in "$root"/pipelines/*.sh; do
        [[ $script != */lib*.sh ]] || continue
        expect 0 "$script" --help
        grep -q "pipelines/$(basename "$script")" "$stdout" || complain "not how it is run"
        [ "$(grep -c shellcheck "$stdout")" = 0 ] || complain "what is not for users"
        expect 64 "$script" --nonsense 1
        stderr_is "$(basename "$script"): unknown option --nonsense: try --help"
    done
    expect 0 "$root/pipelines/one.sh" --help
    stdout_has "--branches 3"
    stdout_has "--student resnet8"
}

# -- pipelines that compare -------------------------------------------------------------

@test "cifar100: teachers, their merged cache, students with it and without" {
    make_cifar
    local whole=("$root/pipelines/cifar100.sh" --train cifar/train.bin --test cifar/test.bin
        --teacher mlp --teachers 2 --teacher-epochs 1 --students mlp --student-epochs 1
        --views 1 --seeds '1 2' -o out)
    expect 0 "${whole[@]}"
    grep -Eq '^student, mlp +[0-9.]+ \+- [0-9.]+ +[0-9.]+ \+- [0-9.]+ +[-0-9.]+ \+- [0-9.]+$' \
        "$stdout" || complain "no student"
    expect 64 "$root/pipelines/cifar100.sh" --train cifar/train.bin -o out
    stderr_is "cifar100.sh: --test is missing: try --help"
    expect 64 "${whole[@]}" --train nowhere
    stderr_is "cifar100.sh: --train: there is no nowhere"
    expect 64 "${whole[@]}" --views 0
    stderr_is "cifar100.sh: --views: '0' is no number from 1"
}

@test "policies: every policy has a row" {
    make_cifar
    local whole=("$root/pipelines/policies.sh" --train cifar/train.bin --test cifar/test.bin
        --teachers 'mlp plain2 resnet8' --teacher-epochs 1 --student mlp --epochs 1 --views 1
        --known 140 --fit 30 --seeds 1 -o out)
    expect 0 "${whole[@]}"
    [ "$(grep -cE '^[a-z0-9-]+ +[0-9.]+ +([0-9.]+|inf) +[0-9.]+ +[0-9.]+$' "$stdout")" = 23 ] ||
        complain "not 3 teachers and 20 policies"
    grep -Eq '^none +- +- +- +[0-9.]+$' "$stdout" || complain "no labels alone"
    expect 64 "${whole[@]}" --fit 50
    stderr_is "policies.sh: --known, --fit: of 190 samples none is left to judge by"
}

@test "encodings: every encoding has a row" {
    make_cifar
    kd-train -q --network mlp --data cifar100:cifar/train.bin --epochs 1 -o teacher >/dev/null
    expect 0 "$root/pipelines/encodings.sh" --teacher teacher/model.h5 \
        --data "cifar100:$PWD/cifar/train.bin" --test "cifar100:$PWD/cifar/test.bin" \
        --student mlp --epochs 1 --views 1 --seeds 1 --others 1 -o out
    for name in f32 f16 bf16 top-50 top-10 top-p-0.9; do
        grep -Eq "^$name +[0-9.]+ +[0-9.]+( +[-0-9.e]+){4}$" "$stdout" ||
            complain "no $name"
    done
    grep -Eq '^sampled-50 ' "$stdout" || complain "no sampled-50"
}
