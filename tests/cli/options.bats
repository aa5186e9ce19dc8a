#!/usr/bin/env bats
# shellcheck disable=SC2154 # helpers.bash sets them
# The one grammar of options that every program keeps.

load helpers

setup_file() { make_once; }
setup() { enter_copy; }

@test "--help goes to stdout and lists the options and the exit codes" {
    for program in $(programs); do
        expect 0 "$program" --help
        stderr_is
        head -n 1 "$stdout" | grep -q "^Usage: $program \[OPTION\]" || complain "usage"
        for option in --print-config --quiet --verbose --help --version; do
            grep -qE "^ .*$option( |\$)" "$stdout" || complain "lacks $option"
        done
        diff - <(sed -n '/^Exit status:$/,/^$/p' "$stdout") <<'CODES'
Exit status:
   0  done
   1  checked and found wanting
  64  wrong usage
  65  bad data
  66  no such input
  70  a bug in the program
  71  out of memory
  73  cannot create an output
  74  input or output failed
  75  interrupted; run the same command again to go on
  78  bad recipe or configuration

CODES
        awk 'length > 80 { print; bad = 1 } END { exit bad }' "$stdout" ||
            complain "a line is wider than 80 columns"
    done
}

@test "what must be given has no default in --help, and what is worked out has words" {
    expect 0 kd-merge --help
    grep -A1 -e '--noise-scale S' "$stdout" | grep -q default && complain "it has one"
    grep -A1 -e '--trim N' "$stdout" | grep -qF '(default: 1)'
    grep -A3 -e '--encoding HOW' "$stdout" | grep -qF '(default: that of the caches'
}

@test "-h is --help, and asking for it beats wrong values and missing operands" {
    for program in $(programs); do
        "$program" --help >due
        expect 0 "$program" -h
        cmp "$stdout" due
        expect 0 "$program" --quiet=maybe one two three --help
        cmp "$stdout" due
    done
}

@test "--help shows the defaults that hold, whatever flag asked for it" {
    for program in $(programs); do
        expect 0 "$program" --help
        grep -E '^ .*--help' "$stdout" | grep -vE 'no-|default' || complain "--help's own line"
    done
    expect 0 kd-dump --help
    stdout_has '-T, --temperature T         divide logits by T (default: 4)'
    expect 0 kd-train --help
    stdout_has '--[no-]nesterov'
}

@test "--help shows keys, a variable that there is, and what a DATASET can be" {
    for program in $(programs); do
        expect 0 "$program" --help
        example=$(tr '\n' ' ' <"$stdout" | grep -oE '\(KD_[A-Z_]+ for --[a-z-]+\)')
        flag=${example##*for } flag=${flag%)}
        grep -qE "^ .* ($flag|--\[no-\]${flag#--})( |\$)" "$stdout" ||
            complain "there is no $flag"
        name=${flag#--} name=KD_${name//-/_}
        [ "${example%% *}" = "(${name^^}" ] || complain "$flag is not of $example"
        grep -q ' DATASET ' "$stdout" || continue
        stdout_has 'A DATASET is one of'
        stdout_has 'resizeS or'
    done
    expect 0 kd-train --help
    stdout_has 'with --dry-run: answer in JSON'
    tr -s '\n ' ' ' <"$stdout" >words
    grep -qF 'soft labels (default: 0.9) [loss.soft]' words || complain "--soft"
    grep -qF 'labels: 0.1 beside soft labels, 1 without [loss.hard]' words || complain "--hard"
    expect 0 kd-train --print-config
    stdout_has '# hard: null  # default'
    expect 0 kd-peers --help
    stdout_has 'with --dry-run: answer in JSON'
}

@test "--version is one line, and all programs are of one version" {
    for program in $(programs); do
        expect 0 "$program" --version
        stderr_is
        [ "$(wc -l <"$stdout")" -eq 1 ] || complain "not one line"
        grep -qE "^$program \(kdcache\) [^ ]+$" "$stdout" || complain "form"
        sed 's/.* //' "$stdout" >>versions
    done
    [ "$(sort -u versions | wc -l)" -eq 1 ]
}

@test "an unknown option is 64 and names the nearest known one" {
    for program in $(programs); do
        fails_with 64 "unknown option --quite; did you mean --quiet?" "$program" --quite
        fails_with 64 "unknown option --versoin; did you mean --version?" \
            "$program" --versoin
        fails_with 64 "unknown option --verbos; did you mean --verbose?" \
            "$program" --verbos=1
    done
    fails_with 64 "unknown option --temprature; did you mean --temperature?" \
        kd-dump --temprature 3
    fails_with 64 "unknown option --polcy; did you mean --policy?" \
        kd-merge --polcy=mean-prob
}

@test "an unknown option far from all others comes without a guess" {
    for program in $(programs); do
        fails_with 64 "unknown option --xyzzyplugh" "$program" --xyzzyplugh
    done
}

@test "an unknown key in a recipe is 78 and names file, line, column and the nearest" {
    printf 'quiet: true\nverbos: true\n' >r.yaml
    for program in $(programs); do
        "$program" --help | grep -q -- --config || continue
        fails_with 78 "r.yaml:2:1: unknown key 'verbos'; did you mean 'verbose'?" \
            "$program" --config r.yaml
    done
    printf '# a recipe\nepoks: 3\n' >r.yaml
    fails_with 78 "r.yaml:2:1: unknown key 'epoks'; did you mean 'epochs'?" \
        kd-train --config r.yaml
    printf 'epochs: 3\noptimizer:\n    momentun: 0.5\n' >r.yaml
    fails_with 78 "r.yaml:3:5: unknown key 'optimizer.momentun'; did you mean \
'optimizer.momentum'?" kd-train --config r.yaml
    printf 'temperature: 2\n' >r.yaml
    fails_with 78 "r.yaml:1:1: unknown key 'temperature'; did you mean \
'loss.temperature'?" kd-train --config r.yaml
    printf 'tail: renorm\n' >r.yaml
    fails_with 78 "r.yaml:1:1: unknown key 'tail'; did you mean 'loss.tail'?" \
        kd-train --config r.yaml
    printf 'lr: 0.5\n' >r.yaml
    fails_with 78 "r.yaml:1:1: unknown key 'lr'; did you mean 'optimizer.lr'?" \
        kd-train --config r.yaml
}

@test "a recipe that is none is 78 with its place" {
    printf 'epochs: [3\n' >r.yaml
    fails_like 78 r.yaml:2: -- kd-train --config r.yaml
    printf 'epochs: three\n' >r.yaml
    fails_like 78 r.yaml:1:9: epochs three -- kd-train --config r.yaml
    printf 'epochs: 3\nepochs: 4\n' >r.yaml
    fails_like 78 r.yaml:2: epochs -- kd-train --config r.yaml
    printf -- '- epochs\n' >r.yaml
    fails_like 78 r.yaml:1:1: "expected a mapping" -- kd-train --config r.yaml
    fails_like 66 none.yaml -- kd-train --config none.yaml
}

@test "a value is the command line's, else KD_*, else the recipe's, else the default" {
    unset KD_THREADS
    printf '# mine\ntemperature: 2\nviews: 7\naugment: crop4\nseed: 9\n' >r.yaml
    export KD_TEMPERATURE=3 KD_SHARD_SAMPLES=10 KD_SEED=
    expect 0 kd-dump --config r.yaml -T 5 --views=8 --clean --print-config
    stderr_is
    stdout_is \
        "# teacher: null  # default" \
        "# data: null  # default" \
        "temperature: 5  # from command line" \
        "# encoding: dense  # default" \
        "# dtype: f16  # default" \
        "# k: null  # default" \
        "# mass: null  # default" \
        "# also-temperature: null  # default" \
        "shard-samples: 10  # from KD_SHARD_SAMPLES" \
        "augment: crop4  # from r.yaml:4" \
        "views: 8  # from command line" \
        "clean: true  # from command line" \
        "seed: 9  # from r.yaml:5" \
        "# other-classes: false  # default" \
        "# jobs: 1  # default" \
        "# teacher-timeout: 300  # default" \
        "# output: null  # default" \
        "# threads: 0  # default" \
        "# quiet: false  # default" \
        "# verbose: false  # default"
    expect 0 kd-dump --config r.yaml --print-config
    stdout_has "temperature: 3  # from KD_TEMPERATURE"
    stdout_has "views: 7  # from r.yaml:3"
    unset KD_TEMPERATURE
    expect 0 kd-dump --config r.yaml --print-config
    stdout_has "temperature: 2  # from r.yaml:2"
}

@test "the environment decides what is written, not only what is shown" {
    KD_TEMPERATURE=2 expect 0 dump --teacher model:a/model.h5 -o t2
    expect 0 kd-info --json t2
    [ "$(json "$stdout" 'j["identity"]["temperature"]')" = 2 ]
    KD_TEMPERATURE=2 expect 0 dump --teacher model:a/model.h5 -T 3 -o t3
    expect 0 kd-info --json t3
    [ "$(json "$stdout" 'j["identity"]["temperature"]')" = 3 ]
}

@test "what --print-config prints is a recipe with the same values" {
    expect 0 kd-train --network "$net" --data "$data" --lr 0.02 --no-nesterov \
        --schedule multistep --milestones '[1, 2]' --hard 0.25 --augment 'crop2,flip' -o 'a b: #c' --print-config
    cp "$stdout" r.yaml
    [ "$(grep -c '^[^#]*beta1' r.yaml)" = 0 ] # it would be refused, with SGD
    expect 0 kd-train --config r.yaml --dry-run
    expect 0 kd-train --config r.yaml --print-config
    diff <(sed 's/ *# [a-z].*//' r.yaml) <(sed 's/ *# [a-z].*//' "$stdout")
    grep -q '^output: .*a b: #c.* # from r.yaml:' "$stdout" || complain "output"
}

@test "--print-config does nothing else" {
    expect 0 train -o never --print-config
    [ ! -e never ]
}

@test "options can be written in every way that GNU programs take them" {
    expect 0 kd-dump -T2 --print-config
    stdout_has "temperature: 2  # from command line"
    expect 0 kd-dump --temperature=2 -T 3 --print-config
    stdout_has "temperature: 3  # from command line"
    expect 0 kd-dump -qv -onowhere --no-clean --print-config
    stdout_has "output: nowhere  # from command line"
    stdout_has "quiet: true  # from command line"
    stdout_has "verbose: true  # from command line"
    stdout_has "clean: false  # from command line"
    expect 0 kd-info cache-a --json
    cp "$stdout" due
    expect 0 kd-info --json -- cache-a
    cmp "$stdout" due
    mv cache-a ./-x
    fails_like 66 ./--y -- kd-info -- ./--y
    expect 0 kd-info -- -x
}

@test "a missing operand, or one too many, is 64" {
    fails_with 64 "an operand is missing: expected CACHE..." kd-merge -o x
    fails_with 64 "an operand is missing: expected FILE..." kd-info
    fails_with 64 "an operand is missing: expected PREDICTOR..." kd-eval
    fails_with 64 "'x': expected no operand" kd-dump x
    fails_with 64 "'x': expected no operand" kd-train x
    fails_with 64 "'x': expected no operand" kd-synth x
    fails_with 64 "--output: a value is missing" kd-merge cache-a -o
    fails_with 64 "--no-quiet: takes no value" kd-merge --no-quiet=1
}

@test "what a program cannot do without is asked for" {
    fails_like 64 -o -- kd-train --network "$net" --data "$data"
    fails_like 64 --network -- kd-train --data "$data" -o x
    fails_like 64 --data -- kd-train --network "$net" -o x
    fails_like 64 --teacher -- kd-dump --data "$data" -o x
    fails_like 64 --data -- kd-dump --teacher model:a/model.h5 -o x
    fails_like 64 -o -- kd-dump --teacher model:a/model.h5 --data "$data"
    fails_like 64 -o -- kd-merge cache-a
    fails_like 64 --data -- kd-eval a/model.h5
    fails_like 64 -o -- kd-synth -n 10
    [ ! -e x ]
}

@test "wrong values are 64 and name the option, the value and what is expected" {
    fails_like 64 --temperature "'0'" -- kd-dump -T 0
    fails_like 64 --temperature "'hot'" -- kd-dump --temperature=hot
    fails_like 64 --temperature "'nan'" -- kd-dump -T nan
    fails_like 64 --temperature "'inf'" -- kd-dump -T inf
    fails_like 64 --views "'0'" -- kd-dump --views 0
    fails_like 64 --views "'-1'" -- kd-dump --views -1
    fails_like 64 --views "'3x'" -- kd-dump --views 3x
    fails_like 64 --views "''" -- kd-dump --views=
    fails_like 64 --seed "'18446744073709551616'" -- kd-dump --seed 18446744073709551616
    fails_like 64 --dtype "'f61'" f16 f32 -- kd-dump --dtype f61
    fails_like 64 --policy "'mean'" mean-prob mean-logit -- kd-merge --policy mean
    fails_like 64 --threads "'many'" -- kd-merge --threads many
    fails_like 64 --quiet "'maybe'" -- kd-merge --quiet=maybe
    fails_like 64 KD_VIEWS "'none'" -- env KD_VIEWS=none kd-dump
    fails_like 64 weights "the 2 teachers" -- kd-merge --weights 1,2,3 -o x cache-a cache-b
    fails_like 64 weights "'b'" -- kd-merge --weights 1,b -o x cache-a cache-b
    fails_like 64 weights -- kd-merge --weights 0,0 -o x cache-a cache-b
    fails_like 64 weights "'-1'" -- kd-merge --weights 2,-1 -o x cache-a cache-b
    fails_like 64 --augment "'blur'" crop4,flip -- \
        kd-dump --teacher model:a/model.h5 --data "$data" --augment blur -o x
    [ ! -e x ]
}

@test "a network that is none is refused with what there is" {
    fails_like 78 resnet5000 -- kd-train --network resnet5000x --data "$data" -o x
    fails_like 78 lenet resnet20 -- kd-train --network lenet --data "$data" -o x
    fails_like 78 hiden hidden -- \
        kd-train --network '{family: mlp, hiden: [3]}' --data "$data" -o x
    [ ! -e x ]
}

@test "a full disk behind stdout is 74, with or without the rest done" {
    full() { "$@" >/dev/full; }
    for program in $(programs); do
        expect 74 full "$program" --help
        stderr_is "$program: standard output: cannot write: No space left on device"
        expect 74 full "$program" --version
        expect 74 full "$program" --print-config
    done
    for run in "kd-info merged" "kd-info --json merged" "kd-eval merged" \
        "kd-eval --json merged" "dump --teacher model:a/model.h5 -o new" \
        "kd-merge -q -o new2 cache-a" "train -o new3" "kd-synth -q -n 10 -o new4"; do
        # shellcheck disable=SC2086 # words
        expect 74 full $run
        grep -qE '^kd-[a-z]+: (standard output|stdout): cannot write: No space' "$stderr" ||
            complain "$run"
    done
    expect 0 dump --teacher model:a/model.h5 -o new
    expect 0 kd-info new
}

@test "a closed stdout is 74, and never some file that is written" {
    closed() { "$@" >&-; }
    for program in $(programs); do
        expect 74 closed "$program" --help
    done
    expect 74 closed kd-merge -q -o new cache-a
    expect 0 kd-merge -q -o new cache-a
    expect 0 kd-info new
}

@test "-q says nothing, -v says more, and nothing of it goes to stdout" {
    expect 0 kd-dump -q --teacher model:a/model.h5 --data "$data" -o q
    stderr_is
    cp "$stdout" due
    expect 0 kd-dump --teacher model:a/model.h5 --data "$data" -o q
    stdout_is q/shard-000000.h5
    expect 0 kd-dump -v --teacher model:a/model.h5 --data "$data" -o v
    stdout_is v/shard-000000.h5
    [ "$(wc -l <"$stderr")" -ge 2 ] || complain "-v says no more"
    [ "$(grep -vc '^kd-dump: ' "$stderr")" -eq 0 ] || complain "lines without a name"
}
