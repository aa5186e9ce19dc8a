# shellcheck shell=bash disable=SC2154 # settings sets them
# What the pipelines of the published methods share: their flags, and stages that are done
# once. Sourced, not run.

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=lib_table.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib_table.sh"

# settings ARGUMENT...: the flags of a method's pipeline, the common ones and its own,
# which come on stdin, one a line, with their values at --scale small and at --scale full:
#
#     teachers | 3 | 3
#
# A function `check` of the script, if there is one, looks at them before anything is made.
# Goes into the directory of -o, and draws the built-in dataset there unless it is told
# where CIFAR-100 is.
settings() {
    local table column=2 i next
    for ((i = 1; i < $#; i++)); do
        next=$((i + 1))
        [ "${!i}" != --scale ] || [ "${!next}" != full ] || column=3
    done
    table=$( (common_settings && cat) | cut -d '|' -f "1,$column")
    augment='' # not the environment's
    flags "$@" <<<"$table"
    case $scale in small | full) ;; *) die "--scale: small or full" ;; esac
    [ -n "$output" ] || output=$(basename "$0" .sh)
    check_settings
    from=$PWD
    ! declare -F check >/dev/null || check
    enter
}

common_settings() {
    cat <<'TABLE'
output         |        |
scale          | small  | full
cifar100       |        |
samples        | 4000   | 4000
seeds          | 1 2 3  | 1 2 3
threads        |        |
student        | plain2 | resnet8x4
teacher        | resnet14 | resnet32x4
teachers       | 3      | 3
epochs         | 10     | 240
teacher-epochs | 20     | 240
footsteps      | 3      | 8
TABLE
}

method_usage() {
    cat <<'TEXT'

Flags of all methods:
  -o DIRECTORY          where all of it is kept (default: the method's name)
  --cifar100 DIRECTORY  has CIFAR-100's train.bin and test.bin; else the built-in
                        dataset is drawn
  --samples N           of the built-in dataset
  --scale small|full    full: sizes and epochs as they were published, or are usual
  --seeds '1 2 3'       of the students
  --student NET, --epochs N
  --teacher NET, --teacher-epochs N, --teachers N
  --footsteps N         networks that a teacher leaves on its way, evenly spaced
  --threads N
A method passes over the flags that it has no use for, so that one setting serves all.
Each stage that is done is skipped when it is run again. Methods in one directory share
teachers, caches and controls.
TEXT
}

table_usage() {
    cat <<'TEXT'
The table has the test accuracy of the last epoch, and the seconds that one student took:
of its teachers' training, of dumping and merging their soft labels, its own.
TEXT
}

# named FLAG...: networks by their names, after which files are called.
named() {
    local flag
    for flag; do
        [[ ${!flag} =~ ^[a-z0-9.-]+$ ]] ||
            die "--$flag: '${!flag}': a network by its name, such as plain2"
    done
}

check_settings() {
    local seed
    named student teacher
    count samples teachers epochs teacher_epochs footsteps
    for seed in $seeds; do
        [[ $seed =~ ^[1-9][0-9]*$ ]] || die "--seeds: '$seed' is no number from 1"
    done
    [ -n "$seeds" ] || die "--seeds: there are none"
    [ -z "$threads" ] || export KD_THREADS=$threads
}

enter() {
    if [ -n "$cifar100" ]; then
        cifar100=$(realpath "$cifar100")
        [ -e "$cifar100/train.bin" ] || die "--cifar100: there is no $cifar100/train.bin"
    fi
    mkdir -p "$output/stages"
    cd "$output" || exit
    if [ -n "$cifar100" ]; then
        train=cifar100:$cifar100/train.bin test=cifar100:$cifar100/test.bin
        augment=${augment:-crop4,flip}
    else
        train=hdf5:train.h5:/x,/y test=hdf5:test.h5:/x,/y
        augment=${augment:-crop2}
        stage train.h5 kd-synth -q -n "$samples" --seed 1 -o train.h5
        stage test.h5 kd-synth -q -n "$samples" --seed 2 -o test.h5
    fi
    # A method's published optimiser and schedule, where they are wanted.
    published=()
}

# check_methods: --methods are among `all`.
check_methods() {
    local method
    for method in $methods; do
        [[ " $all " == *" $method "* ]] || die "--methods: there is no $method"
    done
}

# run_methods ARGUMENT...: the pipelines of --methods, each with the other flags that this
# one was given, in its directory or, at full scale, in directories of their own below.
run_methods() {
    local method directory flags=() into=$PWD
    while [ $# -gt 0 ]; do
        [ "$1" = --methods ] || [ "$1" = -o ] || flags+=("$1" "$2")
        shift 2
    done
    cd "$from" || exit
    for method in $methods; do
        say "$method"
        directory=$into
        [ "$scale" = small ] || directory=$into/$method
        "$here/pipelines/$method.sh" "${flags[@]}" -o "$directory"
    done
}

# stage NAME COMMAND...: what makes NAME, unless that is done. stages/NAME keeps the
# seconds that it took, and the command, from which the table knows what NAME was made
# from. Of a training the seconds are those of its epochs, measuring left out, however
# often it was interrupted; what was left of another stage is begun anew, so that its
# seconds are those of all of it.
stage() {
    local name=$1 file=stages/$1 started command
    shift
    command=${*//"$here/"/}
    if [ -e "$file" ]; then
        [ "$(tail -n +2 "$file")" = "$command" ] ||
            die "$output/$name was made with other settings (stages/$name): choose another -o"
        return 0
    fi
    say "$name"
    case $1 in kd-train | kd-peers) ;; *) rm -rf -- "$name" ;; esac
    started=$EPOCHREALTIME
    "$@" >/dev/null
    {
        if [ "$1" = kd-train ] || [ "$1" = kd-peers ]; then
            awk -F '"seconds":' '/"epoch",/ { sum += $2 } END { print sum }' \
                "$name/run.jsonl"
        else
            awk -v a="$started" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }'
        fi
        printf '%s\n' "$command"
    } >"$file.new"
    mv "$file.new" "$file"
}

# recipe NAME: the option that takes a recipe of pipelines/recipes.
recipe() {
    printf -- '--config=%s/pipelines/recipes/%s.yaml' "$here" "$1"
}

# learn NAME RECIPE NETWORK EPOCHS SEED OPTION...: trains into the directory NAME.
learn() {
    local name=$1 how=$2 network=$3 length=$4 seed=$5
    shift 5
    stage "$name" kd-train -q "$(recipe "$how")" --data "$train" --test "$test" \
        --batch 128 --network "$network" --epochs "$length" --seed "$seed" \
        "${published[@]}" "$@" -o "$name"
}

# alone NETWORK SEED [OPTION...]: the control, which has the labels alone; into
# NETWORK-labels-SEED.
alone() {
    local network=$1 seed=$2
    shift 2
    learn "$network-labels-$seed" labels "$network" "$epochs" "$seed" \
        --augment "$augment" "$@"
}

# teach NUMBER: a teacher, into teacher-NUMBER, that leaves its footsteps there, and its
# first one.
teach() {
    learn "teacher-$1" labels "$teacher" "$teacher_epochs" "$1" --augment "$augment" \
        --keep-epochs "[$( (echo 1 && steps) | sort -nu | paste -sd ,)]"
}

# steps: the epochs of a teacher's footsteps, the last one its last.
steps() {
    local i
    for i in $(seq "$footsteps"); do
        echo $(((i * teacher_epochs + footsteps - 1) / footsteps))
    done
}

# footstep NUMBER EPOCH: the network that teacher-NUMBER was after that epoch.
footstep() {
    printf 'teacher-%d/epoch-%03d.h5' "$1" "$2"
}

# teacher_of SEED: which teacher's student the one of that seed is.
teacher_of() {
    echo $((($1 - 1) % teachers + 1))
}

# dump CACHE MODEL [OPTION...]: soft labels of the training set; without options in as
# many views as a student has epochs, where they differ. The rows are dense: they serve
# every temperature.
dump() {
    local cache=$1 model=$2
    shift 2
    if [ $# -eq 0 ] && [ "$augment" != none ]; then
        set -- --augment "$augment" --views "$epochs"
    fi
    stage "$cache" kd-dump -q --teacher "model:$model" --data "$train" --temperature 4 \
        "$@" -o "$cache"
}

# merge CACHE POLICY CACHE...
merge() {
    local to=$1 policy=$2
    shift 2
    stage "$to" kd-merge -q --policy "$policy" -o "$to" "$@"
}

# together NAME NETWORK...: the networks' mean probabilities on the test set, as a cache.
together() {
    local to=$1 network caches=()
    shift
    for network; do
        stage "test-$network" kd-dump -q --teacher "model:$network/model.h5" \
            --data "$test" --temperature 1 -o "test-$network"
        caches+=("test-$network")
    done
    merge "$to" mean-prob "${caches[@]}"
}

# At --scale full, the schedule of Annealing-KD's code: the rate falls to a tenth after a
# half and after three quarters of the epochs, of networks that learn in one phase
# (publish_halves EPOCHS) and of a stage (stage_halves EPOCHS, its keys).
halves() {
    printf '[%d, %d]' $(($1 / 2)) $(($1 * 3 / 4))
}
publish_halves() {
    [ "$scale" = small ] || [ "$1" -lt 4 ] ||
        published=(--schedule multistep --milestones "$(halves "$1")" --warmup 0
            --no-nesterov --weight-decay 1e-4)
}
stage_halves() {
    [ "$scale" = small ] || [ "$1" -lt 4 ] || printf ', milestones: %s' "$(halves "$1")"
}

# each PREFIX: PREFIX-SEED of every seed.
each() {
    local seed
    for seed in $seeds; do
        echo "$1-$seed"
    done
}
