/* SPDX-License-Identifier: MIT */
/* A dump's options: what follows from what a user says, and how it is said again. */
#include "kd/dump.h"

#include "kd/memory.h"
#include "kd/options.h"
#include "kd/version.h"

#include <stdlib.h>

void kd_dump_set_views(struct kd_dump_options *options, uint32_t views, bool clean)
{
    const bool drawn = kd_view_draws(&options->augment);

    options->first_view = drawn && !clean ? 1 : 0;
    options->views = views + (drawn && clean ? 1 : 0);
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
                         "--shard-samples %llu --views %llu --augment %s --seed %llu%s",
                         kd_version(), kd_teacher_facts(teacher)->name, temperature,
                         codec, (unsigned long long)options->samples_a_shard,
                         (unsigned long long)options->views - (clean ? 1 : 0), augment,
                         (unsigned long long)options->augment.seed,
                         clean ? " --clean" : "");
    free(codec);
    return text;
}
