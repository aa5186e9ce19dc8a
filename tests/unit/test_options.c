/* SPDX-License-Identifier: MIT */
/* Options: a small program is run in a child process with arguments, environment
 * and recipe, and its output, messages and exit code are looked at. */
#include "kd/options.h"

#include "kd/log.h"
#include "kd/memory.h"
#include "kd/thread.h"

#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char directory[] = "/tmp/kd-test-options-XXXXXX";

static int enter(void **state)
{
    (void)state;
    return mkdtemp(directory) != NULL && chdir(directory) == 0 ? 0 : -1;
}

static int leave(void **state)
{
    (void)state;
    unlink("r.yaml");
    unlink("out");
    unlink("err");
    return chdir("/") == 0 && rmdir(directory) == 0 ? 0 : -1;
}

/* What the last run printed, and how it ended. */
static char out[16384], err[16384];
static int code;

struct args {
    double temperature, bias, rates[2];
    uint64_t batch;
    int policy;
    bool shuffle, resume;
    char *data;
    struct kd_yaml *network;
};

static enum kd_status show(const struct args *args, const struct kd_program *program)
{
    char *network = args->network != NULL ? kd_yaml_text(args->network) : NULL;

    printf("T=%g bias=%g batch=%" PRIu64 " policy=%d shuffle=%d resume=%d data=%s "
           "network=%s out=%s json=%d threads=%zu",
           args->temperature, args->bias, args->batch, args->policy, args->shuffle,
           args->resume, args->data != NULL ? args->data : "-",
           network != NULL ? network : "-",
           program->output != NULL ? program->output : "-", program->json,
           kd_threads());
    for (size_t i = 0; i < program->num_operands; i++)
        printf(" [%s]", program->operand[i]);
    printf("\n");
    free(network);
    return KD_OK;
}

/* What the program does once it has its options. */
typedef enum kd_status action(const struct args *args,
                              const struct kd_program *program);

static int program_main(int argc, char **argv, action *act)
{
    static const char *const policies[] = {"mean-prob", "mean-logit", "vote", NULL};
    struct args args = {
        .temperature = 4, .rates = {-1, -1}, .batch = 128, .shuffle = true};
    char data[] = "none";
    const struct kd_option options[] = {
        {.name = "temperature",
         .letter = 'T',
         .type = KD_OPTION_F64,
         .value = &args.temperature,
         .min = 0.01,
         .max = 1000,
         .metavar = "T",
         .help = "divide logits by T"},
        {.name = "bias",
         .key = "head.bias",
         .type = KD_OPTION_F64,
         .value = &args.bias,
         .help = "add to logits"},
        {.name = "tail-rate",
         .key = "tail.rate",
         .type = KD_OPTION_F64,
         .value = &args.rates[1],
         .min = 0,
         .max = 1,
         .help = "of the tail",
         .usual = "the head's"},
        {.name = "rate",
         .key = "head.rate",
         .type = KD_OPTION_F64,
         .value = &args.rates[0],
         .min = 0,
         .max = 1,
         .help = "of the head"},
        {.name = "batch-size",
         .key = "loader.batch",
         .type = KD_OPTION_U64,
         .value = &args.batch,
         .min = 1,
         .help = "samples a step"},
        {.name = "policy",
         .type = KD_OPTION_CHOICE,
         .value = &args.policy,
         .choices = policies,
         .help = "how caches become one"},
        {.name = "shuffle",
         .key = "loader.shuffle",
         .letter = 's',
         .type = KD_OPTION_FLAG,
         .value = &args.shuffle,
         .help = "draw samples in a new order every epoch, which is a help text that "
                 "is so long that it is broken"},
        {.name = "resume",
         .letter = 'r',
         .type = KD_OPTION_FLAG,
         .value = &args.resume,
         .help = "go on"},
        {.name = "data",
         .letter = 'd',
         .type = KD_OPTION_STRING,
         .value = &args.data,
         .metavar = "DATASET",
         .help = "the samples"},
        {.name = "network",
         .type = KD_OPTION_YAML,
         .value = &args.network,
         .help = "the layers"},
        {0}};
    struct kd_program program = {.name = "kd-x",
                                 .summary = "Shows what it was given.",
                                 .operands = "CACHE...",
                                 .notes = "Examples:\n  kd-x a b",
                                 .max_operands = 3,
                                 .options = options,
                                 .common = KD_COMMON_ALL};

    args.data = data;
    enum kd_status status = kd_program_parse(&program, argc, argv);
    if (status == KD_OK && !program.done)
        status = act(&args, &program);
    int exit_code = kd_program_finish(&program, status);
    if (strcmp(args.data, "none") != 0 || args.network != NULL)
        return 99; /* finish puts defaults back where it has freed */
    return exit_code;
}

static void redirect(const char *path, int fd)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);

    if (file < 0 || dup2(file, fd) < 0)
        _exit(98);
    close(file);
}

static void read_back(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "r");

    assert_non_null(file);
    size_t length = fread(text, 1, size - 1, file);
    text[length] = '\0';
    fclose(file);
}

/* Runs it with arguments split at blanks; `stdout_path` "" closes stdout. */
static void run_action(const char *arguments, action *act, const char *stdout_path)
{
    char *argv[32] = {(char *)(uintptr_t) "kd-x"};
    char line[512];
    int argc = 1, status = 0;

    snprintf(line, sizeof line, "%s", arguments);
    for (char *part = strtok(line, " "); part != NULL; part = strtok(NULL, " "))
        argv[argc++] = part;
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        redirect("err", STDERR_FILENO);
        if (*stdout_path == '\0')
            close(STDOUT_FILENO);
        else
            redirect(stdout_path, STDOUT_FILENO);
        exit(program_main(argc, argv, act));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    code = WEXITSTATUS(status);
    read_back("err", err, sizeof err);
    out[0] = '\0';
    if (strcmp(stdout_path, "out") == 0)
        read_back("out", out, sizeof out);
}

static void run(const char *arguments)
{
    run_action(arguments, show, "out");
}

static void write_recipe(const char *text)
{
    FILE *file = fopen("r.yaml", "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("expected \"%s\" in:\n%s", part, text);
}

static void assert_lacks(const char *text, const char *part)
{
    if (strstr(text, part) != NULL)
        fail_msg("did not expect \"%s\" in:\n%s", part, text);
}

static void assert_fails(const char *arguments, int expected, const char *message)
{
    run(arguments);
    if (strstr(err, message) != err || err[strlen(message)] != '\n')
        fail_msg("expected \"%s\", not \"%s\"", message, err);
    assert_int_equal(code, expected);
    assert_string_equal(out, "");
    if (expected == KD_EUSAGE)
        assert_has(err, "\nkd-x: try --help\n");
    else
        assert_lacks(err, "--help");
}

static void defaults_hold_where_nothing_is_given(void **state)
{
    (void)state;
    run("--threads 1");
    assert_string_equal(out, "T=4 bias=0 batch=128 policy=0 shuffle=1 resume=0 "
                             "data=none network=- out=- json=0 threads=1\n");
    assert_string_equal(err, "");
    assert_int_equal(code, 0);
}

static void the_command_line_takes_every_form(void **state)
{
    (void)state;
    run("-T2.5 --batch-size=50_000 --policy vote --no-shuffle -rqd x -o y --json "
        "--network=[a,{b}] --bias -3 --threads 2");
    assert_string_equal(out,
                        "T=2.5 bias=-3 batch=50000 policy=2 shuffle=0 resume=1 data=x "
                        "network=[a, {b: null}] out=y json=1 threads=2\n");
}

static void the_last_of_two_wins(void **state)
{
    (void)state;
    run("-T 2 -T 3 -d a --data b --network [1] --network [2] -r --no-resume "
        "--shuffle=false");
    assert_has(out, "T=3 ");
    assert_has(out, "data=b ");
    assert_has(out, "network=[2] ");
    assert_has(out, "shuffle=0 resume=0 ");
}

static void operands_may_stand_anywhere(void **state)
{
    (void)state;
    run("a -T 2 - -- -T");
    assert_has(out, "T=2 ");
    assert_has(out, " [a] [-] [-T]\n");
    assert_fails("a b c d", 64, "kd-x: 'd': one operand too many: expected CACHE...");
}

static void wrong_usage_is_refused_with_a_remedy(void **state)
{
    (void)state;
    assert_fails("--tempreture 4", 64,
                 "kd-x: unknown option --tempreture; did you mean --temperature?");
    assert_fails("--tempreture=4", 64,
                 "kd-x: unknown option --tempreture; did you mean --temperature?");
    assert_fails("-temperature 4", 64,
                 "kd-x: unknown option -temperature; did you mean --temperature?");
    assert_fails("--xyzzy", 64, "kd-x: unknown option --xyzzy");
    assert_fails("-rz", 64, "kd-x: unknown option -z");
    assert_fails("--no-data", 64, "kd-x: unknown option --no-data");
    assert_fails("--no-resume=true", 64, "kd-x: --no-resume: takes no value");
    assert_fails("-T", 64, "kd-x: --temperature: a value is missing");
    assert_fails("--data", 64, "kd-x: --data: a value is missing");
    assert_fails("-T 0", 64,
                 "kd-x: --temperature: '0': expected a number from 0.01 to 1000");
    assert_fails("-T nan", 64,
                 "kd-x: --temperature: 'nan': expected a number from 0.01 to 1000");
    assert_fails("--bias=", 64, "kd-x: --bias: '': expected a number");
    assert_fails("--batch-size 0", 64,
                 "kd-x: --batch-size: '0': expected a whole number of at least 1");
    assert_fails("--threads 5000", 64,
                 "kd-x: --threads: '5000': expected a whole number from 0 to 4096");
    assert_fails("--policy mean-prop", 64,
                 "kd-x: --policy: 'mean-prop': expected one of mean-prob, mean-logit, "
                 "vote; did you mean mean-prob?");
    assert_fails("--shuffle=1", 64, "kd-x: --shuffle: '1': expected true or false");
    run("--network {a");
    assert_has(err, "kd-x: --network:");
    assert_int_equal(code, 64);
}

static void the_command_line_beats_environment_beats_recipe(void **state)
{
    (void)state;
    write_recipe("temperature: 2\nloader:\n  batch: 3\nhead: {bias: 1}\nthreads: 1\n"
                 "data: from-recipe\nnetwork:\n  kind: mlp\n  sizes: [1, 2]\n"
                 "quiet: true\noutput: null\nresume:\n");
    setenv("KD_BATCH_SIZE", "5", 1);
    setenv("KD_TEMPERATURE", "3", 1);
    setenv("KD_DATA", "", 1);
    setenv("KD_JSON", "true", 1);
    run("--config r.yaml -T 6");
    assert_string_equal(out, "T=6 bias=1 batch=5 policy=0 shuffle=1 resume=0 "
                             "data=from-recipe network={kind: mlp, sizes: [1, 2]} "
                             "out=- json=1 threads=1\n");
    setenv("KD_BATCH_SIZE", "0", 1);
    assert_fails("", 64,
                 "kd-x: KD_BATCH_SIZE: '0': expected a whole number of at least 1");
    unsetenv("KD_BATCH_SIZE");
    unsetenv("KD_TEMPERATURE");
    unsetenv("KD_DATA");
    unsetenv("KD_JSON");
}

static void assert_recipe_fails(const char *recipe, const char *message)
{
    write_recipe(recipe);
    assert_fails("--config r.yaml", 78, message);
}

static void wrong_recipes_are_refused_with_their_place(void **state)
{
    (void)state;
    assert_recipe_fails("a: 1\n", "kd-x: r.yaml:1:1: unknown key 'a'");
    assert_recipe_fails("\ntempreture: 1\n",
                        "kd-x: r.yaml:2:1: unknown key 'tempreture'; did you mean "
                        "'temperature'?");
    assert_recipe_fails("loader:\n  bach: 1\n",
                        "kd-x: r.yaml:2:3: unknown key 'loader.bach'; did you mean "
                        "'loader.batch'?");
    assert_recipe_fails("lodaer: {batch: 1}\n",
                        "kd-x: r.yaml:1:1: unknown key 'lodaer'; did you mean "
                        "'loader'?");
    assert_recipe_fails("batch: 1\n", "kd-x: r.yaml:1:1: unknown key 'batch'; did you "
                                      "mean 'loader.batch'?");
    assert_recipe_fails("batch-size: 1\n",
                        "kd-x: r.yaml:1:1: unknown key "
                        "'batch-size'; did you mean 'loader.batch'?");
    assert_recipe_fails("rate: 1\n", "kd-x: r.yaml:1:1: unknown key 'rate'; did you "
                                     "mean 'head.rate'?"); /* not tail.rate */
    assert_recipe_fails("loader: {bias: 1}\n",
                        "kd-x: r.yaml:1:10: unknown key 'loader.bias'; did you mean "
                        "'head.bias'?");
    assert_recipe_fails("data: [a, {b: c}]\n",
                        "kd-x: r.yaml:1:11: expected one value for each item of the "
                        "list");
    assert_recipe_fails("temperature: [1, 2]\n",
                        "kd-x: r.yaml:1:14: temperature: expected one value, not a "
                        "list");
    assert_recipe_fails("loader: 3\n", "kd-x: r.yaml:1:9: loader: expected a mapping, "
                                       "with keys like 'batch'");
    assert_recipe_fails("temperature: {a: 1}\n",
                        "kd-x: r.yaml:1:14: temperature: expected one value, not a "
                        "mapping");
    assert_recipe_fails("loader: {batch: 0}\n",
                        "kd-x: r.yaml:1:17: loader.batch: '0': expected a whole number "
                        "of at least 1");
    assert_recipe_fails("loader.batch: 1\nloader: {batch: 2}\n",
                        "kd-x: r.yaml:2:17: 'loader.batch' stands twice: it is in line "
                        "1 already");
    assert_recipe_fails("- 1\n", "kd-x: r.yaml:1:1: expected a mapping of options");
    assert_recipe_fails("config: other.yaml\n",
                        "kd-x: r.yaml:1:1: unknown key 'config'");
    assert_recipe_fails("version: 1\n", "kd-x: r.yaml:1:1: unknown key 'version'");
    unlink("r.yaml");
    assert_fails("--config r.yaml", 66,
                 "kd-x: r.yaml: cannot open: No such file or directory");
}

static void trees_in_a_recipe_are_taken_whole(void **state)
{
    (void)state;
    write_recipe("network: {anything: {goes: [here]}}\n");
    run("--config r.yaml");
    assert_has(out, "network={anything: {goes: [here]}} ");
}

static void a_list_in_a_recipe_is_a_text_with_commas(void **state)
{
    (void)state;
    write_recipe("data:\n  - a\n  - 'null'\n  - 7\n");
    run("--config r.yaml");
    assert_has(out, "data=a,null,7 ");
    run("--config r.yaml --print-config");
    assert_has(out, "data: 'a,null,7'  # from r.yaml:2\n");
}

static enum kd_status show_overrides(const struct args *args,
                                     const struct kd_program *program)
{
    (void)args;
    printf(
        "%d%d%d%d %d%d%d%d\n", kd_program_given(program, "temperature"),
        kd_program_given(program, "bias"), kd_program_given(program, "policy"),
        kd_program_given(program, "data"), kd_program_overrides(program, "temperature"),
        kd_program_overrides(program, "bias"), kd_program_overrides(program, "policy"),
        kd_program_overrides(program, "data"));
    return KD_OK;
}

static void what_a_recipe_gives_is_given_and_overrides_nothing(void **state)
{
    (void)state;
    write_recipe("policy: vote\n");
    setenv("KD_BIAS", "1", 1);
    run_action("-T 2 --config r.yaml", show_overrides, "out");
    unsetenv("KD_BIAS");
    assert_string_equal(out, "1110 1100\n");
}

static void print_config_says_where_values_come_from(void **state)
{
    (void)state;
    write_recipe("policy: vote\n\nnetwork:\n  kind: mlp\n  sizes: [1]\ndata: '7'\n");
    setenv("KD_BIAS", "-1e-9", 1);
    run("--batch-size 9 --config r.yaml --print-config a b c d e");
    unsetenv("KD_BIAS");
    assert_string_equal(out, "# temperature: 4  # default\n"
                             "head:\n"
                             "  bias: -1e-09  # from KD_BIAS\n"
                             "  # rate: null  # default\n"
                             "# tail:\n"
                             "  # rate: null  # default\n"
                             "loader:\n"
                             "  batch: 9  # from command line\n"
                             "  # shuffle: true  # default\n"
                             "policy: vote  # from r.yaml:1\n"
                             "# resume: false  # default\n"
                             "data: '7'  # from r.yaml:6\n"
                             "network:  # from r.yaml:4\n"
                             "  kind: mlp\n"
                             "  sizes:\n"
                             "    - 1\n"
                             "# output: null  # default\n"
                             "# threads: 0  # default\n"
                             "# json: false  # default\n"
                             "# quiet: false  # default\n"
                             "# verbose: false  # default\n");
    assert_int_equal(code, 0);
}

static void a_printed_config_is_a_recipe_again(void **state)
{
    char first[sizeof out];

    (void)state;
    run("-T 0.1 --network [{a},b,[]] --no-shuffle -d 1e3");
    memcpy(first, out, sizeof first);
    run("-T 0.1 --network [{a},b,[]] --no-shuffle -d 1e3 --print-config");
    write_recipe(out);
    run("--config r.yaml");
    assert_string_equal(out, first);
    run("--print-config");
    write_recipe(out); /* comments alone */
    run("--config r.yaml");
    assert_int_equal(code, 0);
}

static void help_is_made_from_the_tables(void **state)
{
    (void)state;
    run("-T 9 --resume --help --config nowhere");
    assert_int_equal(code, 0);
    assert_string_equal(err, "");
    assert_has(out, "Usage: kd-x [OPTION]... CACHE...\nShows what it was given.\n");
    assert_has(out, "  -T, --temperature T         divide logits by T (default: 4)\n");
    assert_has(out, "      --bias X                add to logits (default: 0) "
                    "[head.bias]\n");
    assert_has(out, "      --rate X                of the head [head.rate]\n");
    assert_has(out, "      --batch-size N          samples a step (default: 128) "
                    "[loader.batch]\n");
    assert_has(out, "(KD_TAIL_RATE\nfor --tail-rate)");
    assert_has(out, "where there is a key in");
    assert_has(out, "compute on N threads (default: every processor)\n");
    assert_has(out, "of the tail (default: the head's) [tail.rate]\n");
    assert_has(out, "      --policy NAME           how caches become one: mean-prob, "
                    "mean-logit,\n                              vote (default: "
                    "mean-prob)\n");
    assert_has(out, "  -s, --[no-]shuffle          draw samples");
    assert_has(out, "  -r, --resume                go on\n");
    assert_has(out, "  -d, --data DATASET          the samples (default: none)\n");
    assert_has(out, "      --network YAML          the layers\n");
    assert_has(out, "  -o, --output PATH  ");
    assert_has(out, "  -h, --help                  print this help\n");
    assert_has(out, "\nExit status:\n   0  done\n   1  checked and found wanting\n");
    assert_has(out, "  78  bad recipe or configuration\n");
    assert_has(out, "\nExamples:\n  kd-x a b\n");
    for (const char *line = out; *line != '\0'; line += strcspn(line, "\n") + 1)
        assert_in_range(strcspn(line, "\n"), 0, 79);
}

static void version_names_program_and_build(void **state)
{
    (void)state;
    run("--version");
    assert_memory_equal(out, "kd-x (kdcache) ", 15);
    assert_int_equal(code, 0);
}

static enum kd_status fail_without_words(const struct args *args,
                                         const struct kd_program *program)
{
    (void)args;
    (void)program;
    return KD_WANTING;
}

static enum kd_status fail_with_words(const struct args *args,
                                      const struct kd_program *program)
{
    (void)args;
    (void)program;
    printf("half a result\n");
    return kd_fail(KD_EDATA, "a.h5: truncated");
}

static void a_failure_is_printed_once_and_is_the_exit_code(void **state)
{
    (void)state;
    run_action("", fail_without_words, "out");
    assert_string_equal(err, "kd-x: checked and found wanting\n");
    assert_int_equal(code, 1);
    run_action("-q", fail_with_words, "out");
    assert_string_equal(err, "kd-x: a.h5: truncated\n");
    assert_string_equal(out, "half a result\n");
    assert_int_equal(code, 65);
}

static void output_that_cannot_be_written_is_a_failure(void **state)
{
    (void)state;
    run_action("", show, "/dev/full");
    assert_string_equal(
        err, "kd-x: standard output: cannot write: No space left on device\n");
    assert_int_equal(code, 74);
    run_action("", fail_without_words, "/dev/full"); /* wrote nothing */
    assert_int_equal(code, 1);
    run_action("", fail_with_words, "/dev/full");
    assert_int_equal(code, 65);
    run_action("", show, "");
    assert_has(err, "standard output: cannot write");
    assert_int_equal(code, 74);
}

static enum kd_status print_early(const struct args *args,
                                  const struct kd_program *program)
{
    (void)args;
    (void)program;
    setvbuf(stdout, NULL, _IONBF, 0);
    printf("lost\n");
    return KD_OK;
}

static void a_write_that_failed_earlier_is_not_forgotten(void **state)
{
    (void)state;
    run_action("", print_early, "/dev/full");
    assert_has(err, "kd-x: standard output: cannot write");
    assert_int_equal(code, 74);
}

static enum kd_status open_a_file(const struct args *args,
                                  const struct kd_program *program)
{
    int fd = open("/dev/null", O_WRONLY);

    (void)args;
    (void)program;
    return fd > STDERR_FILENO ? KD_OK : kd_fail(KD_EBUG, "it is number %d", fd);
}

static void no_file_takes_the_place_of_a_closed_stream(void **state)
{
    (void)state;
    run_action("", open_a_file, "");
    assert_string_equal(err, "");
    assert_int_equal(code, 0);
}

static enum kd_status talk(const struct args *args, const struct kd_program *program)
{
    (void)args;
    printf("given: %d%d%d\n", kd_program_given(program, "temperature"),
           kd_program_given(program, "bias"), kd_program_given(program, "nothing"));
    kd_log(KD_LOG_WARNING, "a\nwarning");
    kd_log(KD_LOG_DETAIL, "a detail");
    return KD_OK;
}

static void the_log_is_as_talkative_as_asked(void **state)
{
    (void)state;
    run_action("-T 4", talk, "out");
    assert_string_equal(out, "given: 100\n");
    assert_string_equal(err, "kd-x: a warning\n");
    run_action("-v", talk, "out");
    assert_string_equal(out, "given: 000\n");
    assert_string_equal(err, "kd-x: a warning\nkd-x: a detail\n");
    run_action("-q", talk, "out");
    assert_string_equal(err, "");
}

static void operands_are_counted(void **state)
{
    char name[] = "kd-y", one[] = "x", quiet[] = "--quiet=true";
    char *argv[] = {name, one, quiet, NULL};
    struct kd_program least = {
        .name = "kd-y", .operands = "A B", .min_operands = 2, .max_operands = 2};
    struct kd_program none = {.name = "kd-y"};

    (void)state;
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) { /* signals and the log are this process's own business */
        bool right = kd_program_parse(&least, 3, argv) == KD_EUSAGE &&
                     strcmp(kd_error(), "an operand is missing: expected A B") == 0 &&
                     kd_program_parse(&none, 3, argv) == KD_EUSAGE &&
                     strcmp(kd_error(), "'x': expected no operand") == 0 &&
                     none.quiet &&
                     strcmp(quiet, "--quiet=true") == 0; /* arguments are not altered */
        _exit(right ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void the_nearest_word_is_near(void **state)
{
    static const char *const words[] = {"temperature", "policy", "lr", "o", NULL};

    (void)state;
    assert_string_equal(kd_nearest_word("tempreture", words), "temperature");
    assert_string_equal(kd_nearest_word("polciy", words), "policy");
    assert_string_equal(kd_nearest_word("plicy", words), "policy");
    assert_string_equal(kd_nearest_word("lrr", words), "lr");
    assert_string_equal(kd_nearest_word("rl", words), "lr"); /* one slip, not two */
    assert_null(kd_nearest_word("banana", words));
    assert_null(kd_nearest_word("x", words));
    assert_null(kd_nearest_word("", words));
    assert_null(kd_nearest_word("a word that is so long that it is compared with none "
                                "of the words",
                                words));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_hold_where_nothing_is_given),
        cmocka_unit_test(the_command_line_takes_every_form),
        cmocka_unit_test(the_last_of_two_wins),
        cmocka_unit_test(operands_may_stand_anywhere),
        cmocka_unit_test(wrong_usage_is_refused_with_a_remedy),
        cmocka_unit_test(the_command_line_beats_environment_beats_recipe),
        cmocka_unit_test(wrong_recipes_are_refused_with_their_place),
        cmocka_unit_test(trees_in_a_recipe_are_taken_whole),
        cmocka_unit_test(a_list_in_a_recipe_is_a_text_with_commas),
        cmocka_unit_test(what_a_recipe_gives_is_given_and_overrides_nothing),
        cmocka_unit_test(print_config_says_where_values_come_from),
        cmocka_unit_test(a_printed_config_is_a_recipe_again),
        cmocka_unit_test(help_is_made_from_the_tables),
        cmocka_unit_test(version_names_program_and_build),
        cmocka_unit_test(a_failure_is_printed_once_and_is_the_exit_code),
        cmocka_unit_test(output_that_cannot_be_written_is_a_failure),
        cmocka_unit_test(a_write_that_failed_earlier_is_not_forgotten),
        cmocka_unit_test(no_file_takes_the_place_of_a_closed_stream),
        cmocka_unit_test(the_log_is_as_talkative_as_asked),
        cmocka_unit_test(operands_are_counted),
        cmocka_unit_test(the_nearest_word_is_near),
    };

    return cmocka_run_group_tests(tests, enter, leave);
}
