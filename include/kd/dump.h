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

#include "kd/dataset.h"
#include "kd/shard.h"
#include "kd/status.h"
#include "kd/teacher.h"
#include "kd/view.h"

#include <stdint.h>

struct kd_dump_options {
    double temperature;          /* T > 0 */
    struct kd_codec codec;       /* how rows are stored */
    uint64_t samples_a_shard;    /* S: shard n holds ids n*S to (n+1)*S-1 */
    struct kd_view_spec augment; /* how views above 0 are drawn */
    uint32_t first_view, views;  /* first_view to first_view + views - 1 */
    const char *history;         /* the line for people in each shard */
    /* Called with each finished shard's path, in the order of ids; may be NULL. */
    enum kd_status (*finished)(void *context, const char *path);
    void *context;
};

/* Sets first_view and views, of a user's words: views 1 to `views` are drawn, and the
 * clean view 0 comes along where it is asked for; without an augmentation there is only
 * that. Set options->augment before. */
void kd_dump_set_views(struct kd_dump_options *options, uint32_t views, bool clean);

/* The command, but for what may vary between equal runs: where things lie. On the
 * heap; NULL where there is no memory. */
char *kd_dump_history(const struct kd_teacher *teacher,
                      const struct kd_dump_options *options) KD_CHECKED;

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
