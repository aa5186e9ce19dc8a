#!/usr/bin/env bash
# The whole way in a few minutes, on the built-in dataset: draw it, train three
# teachers, cache and merge their soft labels while they run, train a student with
# and without them, print one table.
#
#     pipelines/demo.sh [-o DIRECTORY]
#
# Run it again to see what is kept: every stage that is done is skipped.
# shellcheck disable=SC2154 # flags sets them
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

flags "$@" </dev/null
output=${output:-demo}
mkdir -p "$output"
cd "$output"

seeds="1 2 3"
temperature=2
train=hdf5:train.h5:/x,/y
test=hdf5:test.h5:/x,/y

say "drawing the dataset"
kd-synth -n 4000 --seed 1 -o train.h5 >/dev/null
kd-synth -n 4000 --seed 2 -o test.h5 >/dev/null

for seed in $seeds; do
    say "training teacher $seed"
    kd-train -q --network plain4 --data $train --test $test --epochs 20 \
        --augment crop2 --seed "$seed" -o "teacher$seed" >/dev/null
done

say "caching the teachers' soft labels, and merging them as they come"
dump() {
    kd-dump -q --teacher "model:teacher$1/model.h5" --data $train \
        --temperature $temperature --augment crop2 --views 20 --shard-samples 1000 \
        -o "cache$1"
}
kd-merge -q --policy mean-prob -o merged <(dump 1) <(dump 2) <(dump 3) >/dev/null

student() {
    kd-train -q --network '{family: plain, layers: 2, set: cifar10}' --data $train \
        --test $test --epochs 20 "$@" >/dev/null
}
for seed in $seeds; do
    say "training student $seed, with and without soft labels"
    student --seed "$seed" --augment crop2 -o "hard$seed"
    student --seed "$seed" --labels merged --temperature $temperature -o "soft$seed"
done

say "measuring the ensemble"
ensemble $test $temperature teacher{1,2,3} >ensemble.txt
accuracy hard{1,2,3} >hard.txt
accuracy soft{1,2,3} >soft.txt
say "done"
echo
echo "test accuracy, %                        mean +- deviation over seeds $seeds"
echo "teachers, plain4                        $(accuracy teacher{1,2,3} | percent)"
echo "their ensemble                          $(percent <ensemble.txt)"
echo "student, plain2, labels alone           $(percent <hard.txt)"
echo "student, plain2, merged soft labels     $(percent <soft.txt)"
echo "gain                                    $(gains hard.txt soft.txt)"
