/* SPDX-License-Identifier: MIT */
/* kd-plan: what a cache will cost, and when it will have paid for itself. */
#include "kd/codec.h"
#include "kd/dataset.h"
#include "kd/dump.h"
#include "kd/json.h"
#include "kd/memory.h"
#include "kd/options.h"
#include "kd/plan.h"
#include "kd/teacher.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    char *data;
    uint64_t samples, classes, epochs, runs;
    double seconds;
    struct kd_dump_args dump;
} args = {.epochs = 60, .runs = 5, .seconds = 3, .dump = KD_DUMP_DEFAULTS};

/* What a cache of so many samples and classes would call itself. */
static enum kd_status invent(struct kd_identity *identity)
{
    struct kd_digest none;

    if (args.samples == 0 || args.classes == 0)
        return kd_fail(KD_EUSAGE, "how large? name a teacher and --data, or give "
                                  "--samples and --classes");
    memset(none.hex, '0', 32);
    none.hex[32] = '\0';
    *identity = (struct kd_identity){.num_classes = (uint32_t)args.classes,
                                     .temperature = args.dump.temperature,
                                     .class_map_digest = none,
                                     .dataset_digest = none,
                                     .num_samples = args.samples,
                                     .views = (uint32_t)args.dump.views,
                                     .augment = "none",
                                     .teacher_name = "model.h5",
                                     .teacher_digest = none,
                                     .bn_mode = "eval"};
    return kd_codec_from_args(&args.dump.codec, identity->num_classes,
                              &identity->codec);
}

/* Tries a teacher; fills in the outlook's next line, and its cache's size. */
static enum kd_status try_teacher(const char *name, struct kd_dataset **data,
                                  struct kd_outlook *outlook)
{
    enum kd_status status = KD_EBUG;
    struct kd_teacher *teacher = NULL;
    struct kd_plan_speed *speed = &outlook->speed[outlook->teachers];
    struct kd_dump_options options;
    struct kd_identity identity;
    char *history = NULL;

    KD_TRY(kd_teacher_open_over(name, NULL, data, &teacher));
    KD_TRY(kd_dump_from_args(&args.dump, *data, teacher, &options));
    KD_TRY(kd_dump_identity(*data, teacher, &options, &identity));
    history = kd_dump_history(teacher, &options);
    KD_TRY(history != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(
        kd_plan_time(teacher, *data, &options.augment, &identity, args.seconds, speed));
    KD_TRY(
        kd_plan_bytes(&(struct kd_plan_ask){.identity = &identity,
                                            .samples_a_shard = args.dump.shard_samples,
                                            .history = history,
                                            .kept = speed->kept},
                      &outlook->plan));
    outlook->name[outlook->teachers++] = name;
    outlook->samples = identity.num_samples;
    outlook->views = identity.views;
    status = KD_OK;
out:
    free(history);
    kd_teacher_close(teacher);
    return status;
}

static enum kd_status try_teachers(const struct kd_program *program,
                                   struct kd_outlook *outlook)
{
    enum kd_status status = KD_EBUG;
    struct kd_dataset *data = NULL;

    if (args.data == NULL)
        return kd_fail(KD_EUSAGE, "on which samples? give --data DATASET");
    if (args.samples > 0 || args.classes > 0)
        return kd_fail(KD_EUSAGE, "with teachers, leave out --samples and --classes: "
                                  "they are the dataset's and the teachers'");
    KD_TRY(kd_dataset_open(args.data, &data));
    for (size_t i = 0; i < program->num_operands; i++)
        KD_TRY(try_teacher(program->operand[i], &data, outlook));
    status = KD_OK;
out:
    kd_dataset_close(data);
    return status;
}

static enum kd_status plan_without(struct kd_outlook *outlook)
{
    enum kd_status status = KD_EBUG;
    struct kd_identity identity;

    KD_TRY(invent(&identity));
    KD_TRY(
        kd_plan_bytes(&(struct kd_plan_ask){.identity = &identity,
                                            .samples_a_shard = args.dump.shard_samples,
                                            .history = "kd-plan",
                                            .kept = identity.codec.k},
                      &outlook->plan));
    outlook->samples = identity.num_samples;
    outlook->views = identity.views;
    status = KD_OK;
out:
    return status;
}

static enum kd_status run(const struct kd_program *program)
{
    enum kd_status status = KD_EBUG;
    static struct kd_outlook outlook;
    struct kd_json *json = NULL;

    outlook.epochs = args.epochs;
    outlook.runs = args.runs;
    if (program->num_operands > 0)
        KD_TRY(try_teachers(program, &outlook));
    else
        KD_TRY(plan_without(&outlook));
    if (program->json) {
        KD_TRY(kd_json_new(&json));
        kd_json_pretty(json);
        kd_json_begin(json, NULL, '{');
    }
    kd_plan_report(&outlook, json, stdout);
    if (json != NULL) {
        kd_json_end(json);
        KD_TRY(kd_json_write(json, stdout));
    }
    status = KD_OK;
out:
    kd_json_free(json);
    return status;
}

static const struct kd_option options[] = {
    KD_DATA_OPTION(args.data,
                   "the samples that the teachers are tried on; NAME@A:B takes "
                   "ids A to B-1"),
    {.name = "samples",
     .type = KD_OPTION_U64,
     .value = &args.samples,
     .min = 0,
     .max = 1e15,
     .metavar = "N",
     .help = "without teachers: how many samples"},
    {.name = "classes",
     .type = KD_OPTION_U64,
     .value = &args.classes,
     .min = 0,
     .max = KD_MAX_CLASSES,
     .metavar = "C",
     .help = "without teachers: how many classes"},
    KD_DUMP_OPTIONS(args.dump),
    KD_OTHER_CLASSES_OPTION(args.dump.other_classes),
    {.name = "epochs",
     .type = KD_OPTION_U64,
     .value = &args.epochs,
     .min = 1,
     .max = 1e9,
     .metavar = "N",
     .help = "epochs of a student's run"},
    {.name = "runs",
     .type = KD_OPTION_U64,
     .value = &args.runs,
     .min = 1,
     .max = 1e9,
     .metavar = "N",
     .help = "students that will be trained"},
    {.name = "seconds",
     .type = KD_OPTION_F64,
     .value = &args.seconds,
     .min = 0.01,
     .max = 3600,
     .metavar = "S",
     .help = "how long to try each teacher"},
    {0}};

static const char notes[] =
    "Bytes are exact; of rows of varying length (top-p, sampled) they are by the\n"
    "mean length that the teacher was found to have. A cache of V views has paid\n"
    "for itself after V student epochs: by then the teacher would have run V times.\n"
    "A TEACHER is model:FILE, model:DIR or exec:COMMAND.\n"
    "\n" KD_DATASET_NOTES "\n"
    "Examples:\n"
    "  kd-plan --samples 1281167 --classes 1000 --views 300 --encoding top-k -k 10\n"
    "  kd-plan --data cifar100:train.bin --augment crop4,flip --views 15 model:a.h5\n";

int main(int argc, char **argv)
{
    struct kd_program program = {
        .name = "kd-plan",
        .summary = "Predicts a cache's bytes, the time that teachers will take for it, "
                   "and when it will have paid for itself.",
        .operands = "[TEACHER...]",
        .notes = notes,
        .max_operands = KD_PLAN_TEACHERS,
        .options = options,
        .common = KD_COMMON_CONFIG | KD_COMMON_THREADS | KD_COMMON_JSON};
    enum kd_status status = kd_program_parse(&program, argc, argv);

    if (status == KD_OK && !program.done)
        status = run(&program);
    return kd_program_finish(&program, status);
}
