/* SPDX-License-Identifier: MIT */
/* A dump's options: what follows from what a user says, and how it is said again. */
#include "kd/dump.h"

#include "kd/memory.h"
#include "kd/options.h"
#include "kd/version.h"

#include <stdlib.h>

/* Views 1 to V are drawn, and the clean view 0 comes along where it is asked for;
 * without an augmentation there is only that. */
static void set_views(const struct kd_dump_args *args, struct kd_dump_options *options)
{
    const bool drawn = kd_view_draws(&options->augment);

    options->first_view = drawn && !args->clean ? 1 : 0;
    options->views = (uint32_t)args->views + (drawn && args->clean ? 1 : 0);
}

enum kd_status kd_dump_from_args(const struct kd_dump_args *args,
                                 const struct kd_dataset *data,
                                 const struct kd_teacher *teacher,
                                 struct kd_dump_options *options)
{
    const char *augment = args->augment != NULL ? args->augment : "none";
    enum kd_status status = KD_EBUG;

    *options = (struct kd_dump_options){.temperature = args->temperature,
                                        .samples_a_shard = args->shard_samples,
                                        .other_classes = args->other_classes};
    status = kd_view_parse(augment, args->seed, &options->augment);
    if (status == KD_OK)
        status = kd_view_settle(&options->augment, kd_dataset_facts(data));
    if (status != KD_OK) {
        kd_error_prefix("--augment");
        return status;
    }
    set_views(args, options);
    return kd_codec_from_args(&args->codec, kd_teacher_facts(teacher)->num_classes,
                              &options->codec);
}

char *kd_dump_history(const struct kd_teacher *teacher,
                      const struct kd_dump_options *options)
{
    const bool clean = kd_view_draws(&options->augment) && options->first_view == 0;
    char temperature[KD_TEXT_F64], augment[64];
    char *codec = kd_codec_text(&options->codec), *text = NULL;

    kd_text_f64(options->temperature, temperature);
    kd_view_text(&options->augment, augment);
    if (codec != NULL)
        text = kd_format("kd-dump %s: --teacher %s --temperature %s %s "
                         "--shard-samples %llu --views %llu --augment %s --seed "
                         "%llu%s%s",
                         kd_version(), kd_teacher_facts(teacher)->name, temperature,
                         codec, (unsigned long long)options->samples_a_shard,
                         (unsigned long long)options->views - (clean ? 1 : 0), augment,
                         (unsigned long long)options->augment.seed,
                         clean ? " --clean" : "",
                         options->other_classes ? " --other-classes" : "");
    free(codec);
    return text;
}
