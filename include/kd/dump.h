/* SPDX-License-Identifier: MIT */
/*
 * Dumps: a teacher run once over a dataset and its views, into a cache.
 *
 *     struct kd_dump_options options = {
 *         .temperature = 4, .codec = {.dtype = KD_F16}, .samples_a_shard = 8192,
 *         .first_view = 1, .views = 4, .history = "kd-dump 1.0: ..."};
 *     KD_TRY(kd_view_parse("crop4,flip", seed, &options.augment));
 *     KD_TRY(kd_dump_run(data, teacher, "soft-labels", &options));
 *
 * Rows go from the dataset through view, teacher and temperature into the shard in
 * the order of ids, and of views within an id. The bytes of a shard are a function of
 * the teacher, the dataset, the options, the machine's arithmetic and the number of
 * threads (matrix products round by how they are cut up); where the run was
 * interrupted does not matter.
 */
#ifndef KD_DUMP_H
#define KD_DUMP_H

#include "kd/codec.h"
#include "kd/dataset.h"
#include "kd/options.h"
#include "kd/shard.h"
#include "kd/status.h"
#include "kd/teacher.h"
#include "kd/view.h"

#include <stdbool.h>
#include <stdint.h>

struct kd_dump_options {
    double temperature;          /* T > 0 */
    struct kd_codec codec;       /* how rows are stored */
    uint64_t samples_a_shard;    /* S: shard n holds ids n*S to (n+1)*S-1 */
    struct kd_view_spec augment; /* how views above 0 are drawn */
    uint32_t first_view, views;  /* first_view to first_view + views - 1 */
    bool other_classes;  /* the teacher's are not the labels': rows have none (-1), and
                            kd/class_map.h brings them together with others' */
    const char *history; /* the line for people in each shard */
    /* Called with each finished shard's path, in the order of ids; may be NULL. */
    enum kd_status (*finished)(void *context, const char *path);
    void *context;
};

/* The command, but for what may vary between equal runs: where things lie. On the
 * heap; NULL where there is no memory. */
char *kd_dump_history(const struct kd_teacher *teacher,
                      const struct kd_dump_options *options) KD_CHECKED;

/* What the command line says of a dump; programs that make or plan one declare it with
 * KD_DUMP_OPTIONS, start from KD_DUMP_DEFAULTS, and end in kd_dump_from_args. */
struct kd_dump_args {
    double temperature;
    struct kd_codec_args codec;
    char *augment; /* NULL: none */
    uint64_t shard_samples, views, seed;
    bool clean, other_classes;
};

#define KD_DUMP_DEFAULTS                                                               \
    {                                                                                  \
        .temperature = 4, .shard_samples = 8192, .views = 1                            \
    }

/* The line --other-classes of a table of options of a program that makes caches. */
#define KD_OTHER_CLASSES_OPTION(variable)                                              \
    {                                                                                  \
        .name = "other-classes", .type = KD_OPTION_FLAG, .value = &(variable),         \
        .help = "the teacher's classes are not those of the labels, which are left "   \
                "out: for kd-merge --class-map"                                        \
    }

/* Fills in everything but history and finished. KD_EUSAGE. */
enum kd_status kd_dump_from_args(const struct kd_dump_args *args,
                                 const struct kd_dataset *data,
                                 const struct kd_teacher *teacher,
                                 struct kd_dump_options *options) KD_CHECKED;

/* Lines of a table of options, for `args` of type struct kd_dump_args. */
#define KD_DUMP_OPTIONS(args)                                                          \
    KD_TEMPERATURE_OPTION((args).temperature, "divide logits by T"),                   \
        KD_CODEC_OPTIONS((args).codec, NULL),                                          \
        KD_SHARD_SAMPLES_OPTION((args).shard_samples, 1, NULL),                        \
        {.name = "augment",                                                            \
         .type = KD_OPTION_STRING,                                                     \
         .value = &(args).augment,                                                     \
         .metavar = "LIST",                                                            \
         .help = "how views are drawn: cropN, flip, mixupA and cutmixA, by commas"},   \
        {.name = "views",                                                              \
         .type = KD_OPTION_U64,                                                        \
         .value = &(args).views,                                                       \
         .min = 1,                                                                     \
         .max = 1000000,                                                               \
         .metavar = "V",                                                               \
         .help = "views a sample: with --augment the drawn views 1 to V"},             \
        {.name = "clean",                                                              \
         .type = KD_OPTION_FLAG,                                                       \
         .value = &(args).clean,                                                       \
         .help = "with --augment the clean view 0 as well"},                           \
    {                                                                                  \
        .name = "seed", .type = KD_OPTION_U64, .value = &(args).seed, .metavar = "N",  \
        .help = "seed of the drawn views"                                              \
    }

/* What the cache calls itself. KD_EDATA where the samples or classes are not the
 * teacher's, KD_EUSAGE where the options do not make sense. */
enum kd_status kd_dump_identity(const struct kd_dataset *data,
                                const struct kd_teacher *teacher,
                                const struct kd_dump_options *options,
                                struct kd_identity *identity) KD_CHECKED;

/* Dumps the dataset's slice into `directory`, which is made if need be and locked
 * meanwhile. Finished shards of the same dump are kept, and reported in their turn;
 * those of another one are KD_EDATA, before anything is written: "PATH: temperature
 * is 4, not 2; ...". A logit that is NaN or infinite is KD_EDATA naming sample, view
 * and class. KD_EINTERRUPTED between two batches if a signal asks to stop: finished
 * shards stay, the unfinished one goes. Writes cache.json at the end. */
enum kd_status kd_dump_run(const struct kd_dataset *data, struct kd_teacher *teacher,
                           const char *directory,
                           const struct kd_dump_options *options) KD_CHECKED;

#endif
