/* SPDX-License-Identifier: MIT */
/* What imports share: a source of rows whatever its container, where each row is, and
 * what its values mean. */
#ifndef KD_TEACH_IMPORT_INTERNAL_H
#define KD_TEACH_IMPORT_INTERNAL_H

#include "kd/dataset.h"
#include "kd/file.h"
#include "kd/hash.h"
#include "kd/import.h"
#include "kd/type.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KD_LABEL_UNKNOWN (-1)

/* Which row it is. */
struct kd_import_key {
    uint64_t id;
    uint32_t view; /* where the source does not say views: 0 to num_views - 1 */
    int32_t label; /* KD_LABEL_UNKNOWN where the source has none */
};

/*
 * A source has rows at places, numbers that mean something to it alone. They are walked
 * through in order, from `begin` until `end`, to learn their keys, and then read in any
 * order, by several threads at once.
 */
struct kd_import_source {
    char *name;           /* of the file or directory, for messages */
    uint32_t classes;     /* C; 0: it does not say */
    size_t kept;          /* K of sparse rows; 0: they are dense */
    enum kd_type type;    /* of the values, for what rounding has done to them */
    uint64_t begin, end;  /* the first place; behind the last */
    bool says_view;       /* keys have the rows' own views */
    uint32_t num_views;   /* where not: so many a sample */
    char *names_text;     /* what `names` points into, if it is of a file of names */
    const char **names;   /* [classes] as the source calls them, or NULL */
    struct kd_hash *hash; /* of its files' digests */
    void *inside;

    /* The key of the row at `place`, and where the next one is; messages say where. */
    enum kd_status (*walk)(struct kd_import_source *source, uint64_t place,
                           struct kd_import_key *key, uint64_t *next);
    /* Its values [classes]; or [kept], of the classes index [kept]. Who calls it puts
     * the described place in front of its message. */
    enum kd_status (*read)(const struct kd_import_source *source, uint64_t place,
                           double *values, uint32_t *index);
    /* "x.npy: row 7", for messages. */
    void (*describe)(const struct kd_import_source *source, uint64_t place, char *text,
                     size_t size);
    void (*close)(struct kd_import_source *source);
};

#define KD_IMPORT_PLACE 512 /* bytes of a described place, cut if it is longer */

/* Opens what the options name. Rows without ids are those of the slice, or of the whole
 * dataset, whichever has as many samples. */
enum kd_status kd_import_open(const struct kd_import_options *options,
                              const struct kd_dataset_facts *data,
                              struct kd_import_source *source) KD_CHECKED;
void kd_import_close(struct kd_import_source *source); /* one that is zero is fine */

/* Adds a file to what the source is. */
enum kd_status kd_import_hash(struct kd_import_source *source,
                              const char *path) KD_CHECKED;

/* The containers. */
enum kd_status kd_import_open_npy(const struct kd_import_options *options,
                                  const struct kd_dataset_facts *data,
                                  struct kd_import_source *source) KD_CHECKED;
enum kd_status kd_import_open_safetensors(const struct kd_import_options *options,
                                          const struct kd_dataset_facts *data,
                                          struct kd_import_source *source) KD_CHECKED;
enum kd_status kd_import_open_csv(const struct kd_import_options *options,
                                  struct kd_import_source *source) KD_CHECKED;
enum kd_status kd_import_open_tinyvit(const struct kd_import_options *options,
                                      struct kd_import_source *source) KD_CHECKED;

/* The same of a CSV's bytes, which must stay until it is closed. */
enum kd_status kd_import_parse_csv(const char *bytes, size_t size,
                                   struct kd_import_source *source) KD_CHECKED;

/* Where the row of each id and view is. */
struct kd_import_index {
    uint64_t first_id, samples;
    uint32_t first_view, views;
    uint64_t *place; /* [samples][views] */
};

/* Walks through the source. `first_view` is that of a source which does not say views.
 * KD_EDATA for a row that is there twice or missing, or whose label is not the
 * dataset's. */
enum kd_status kd_import_index_make(struct kd_import_source *source,
                                    const struct kd_dataset *data, uint32_t first_view,
                                    struct kd_import_index *index) KD_CHECKED;
void kd_import_index_clear(struct kd_import_index *index);

/* What values mean. */
struct kd_import_rule {
    enum kd_values values;
    double temperature;
    enum kd_type type;
};

/* Turns `count` values (all classes; or some, of sparse probabilities, whose rest goes
 * to *log_rest) into what a shard takes: z/T, or log-probabilities of sum 1. KD_EDATA
 * saying what is wrong with which class; `index` names the classes, NULL: 0 on. */
enum kd_status kd_import_convert(const struct kd_import_rule *rule, double *values,
                                 const uint32_t *index, size_t count, float *scaled,
                                 float *log_rest) KD_CHECKED;

#endif
