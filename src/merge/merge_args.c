/* SPDX-License-Identifier: MIT */
/* From the command line to a merge. */
#include "kd/merge.h"

static bool any_map(const struct kd_class_map_args *args)
{
    return args->table != NULL || args->names != NULL || args->sources != NULL;
}

enum kd_status kd_merge_from_args(const struct kd_merge_args *args, size_t teachers,
                                  struct kd_merge_plan *plan,
                                  struct kd_class_maps *classes,
                                  struct kd_merge_options *options)
{
    enum kd_status status = KD_EBUG;

    options->temperature = args->temperature;
    options->missing = (enum kd_merge_missing)args->missing;
    KD_TRY(kd_merge_plan_from_args(&args->policy, teachers, plan));
    if (any_map(&args->classes)) {
        KD_TRY(kd_class_maps_load(&args->classes, teachers, classes));
        options->classes = classes;
    }
    status = KD_OK;
out:
    return status;
}
