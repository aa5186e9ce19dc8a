#!/usr/bin/env bash
# Born-again networks (BAN, Furlanello et al. 2018): generations of one architecture,
# each learning from the one before, and the ensemble of all generations. Controls: the
# labels alone (generation 0), the first generation with labels too, and an ensemble of
# as many networks that had the labels alone.
#
#     pipelines/born-again.sh [--generations N] [--cifar100 DIRECTORY] [-o DIRECTORY] ...
#
# --help lists the flags.
# shellcheck disable=SC2154 # settings sets them
set -euo pipefail
# shellcheck source=lib_methods.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib_methods.sh"

check() {
    count generations
}
settings "$@" <<'TABLE'
generations | 2      | 3
student     | plain2 | densenet-40-12
epochs      | 10     | 300
TABLE
if [ "$scale" = full ]; then # as DenseNets were trained first
    published=(--schedule multistep --milestones '[150, 225]' --warmup 0 --weight-decay 1e-4
        --batch 64)
fi

# Seeds of later generations are their own: another start, as the paper has it.
for seed in $seeds; do
    alone "$student" "$seed"
    before=$student-labels-$seed family=("$before") rivals=("$before")
    for g in $(seq "$generations"); do
        dump "cache-$before" "$before/model.h5"
        learn "$student-born-$g-$seed" born-again "$student" "$epochs" \
            $((1000 * g + seed)) --labels "cache-$before"
        [ "$g" -gt 1 ] || learn "$student-born-labels-$seed" born-again "$student" \
            "$epochs" $((1000 + seed)) --labels "cache-$before" --hard 0.5 --soft 0.5
        alone "$student" $((1000 * g + seed))
        before=$student-born-$g-$seed
        family+=("$before")
        rivals+=("$student-labels-$((1000 * g + seed))")
    done
    together "$student-family-$seed" "${family[@]}"
    together "$student-rivals-$seed" "${rivals[@]}"
done

# alone_like GENERATION: gains are over the labels alone from the same first weights.
alone_like() {
    local seed
    base=()
    for seed in $seeds; do
        base+=("$student-labels-$((1000 * $1 + seed))")
    done
}

table "born-again: $student, $epochs epochs a generation"
# shellcheck disable=SC2046 # names
{
    mapfile -t base < <(each "$student-labels")
    row 'generation 0: labels alone' - "${base[@]}"
    alone_like 1
    row 'generation 1, labels too' - $(each "$student-born-labels")
    for g in $(seq "$generations"); do
        alone_like "$g"
        row "generation $g" - $(each "$student-born-$g")
    done
    mapfile -t base < <(each "$student-labels")
    row "ensemble of generations 0 to $generations" - $(each "$student-family")
    row "ensemble of $((generations + 1)), labels alone" - $(each "$student-rivals")
}
