/* SPDX-License-Identifier: MIT */
/* Sources of imports: which container it is, and where each row of it belongs. */
#include "teach/import_internal.h"

#include "kd/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAMES_LIMIT ((size_t)1 << 28)

static bool has_suffix(const char *path, const char *suffix)
{
    const size_t length = strlen(path), end = strlen(suffix);

    return length > end && strcmp(path + length - end, suffix) == 0;
}

enum kd_status kd_import_recognize(const char *from, enum kd_container *container)
{
    char *ids = NULL;

    if (access(from, F_OK) != 0)
        return kd_fail_errno(KD_ENOINPUT, "%s: cannot open", from);
    if (kd_is_directory(from)) {
        ids = kd_path_join(from, "id.npy");
        if (ids == NULL)
            return KD_EMEMORY;
        *container = access(ids, F_OK) == 0 ? KD_NPY : KD_TINYVIT;
        free(ids);
    } else if (has_suffix(from, ".npy")) {
        *container = KD_NPY;
    } else if (has_suffix(from, ".safetensors")) {
        *container = KD_SAFETENSORS;
    } else if (has_suffix(from, ".csv") || has_suffix(from, ".tsv")) {
        *container = KD_CSV;
    } else {
        return kd_fail(KD_EUSAGE, "%s: its name does not say what it is: give --format",
                       from);
    }
    return KD_OK;
}

enum kd_status kd_import_hash(struct kd_import_source *source, const char *path)
{
    struct kd_digest digest;
    const enum kd_status status = kd_hash_file(path, &digest, NULL);

    if (status == KD_OK)
        kd_hash_add_string(source->hash, digest.hex);
    return status;
}

/* An option that belongs to another container. */
static enum kd_status check_options(const struct kd_import_options *options)
{
    if (options->ids != NULL && options->container != KD_NPY)
        return kd_fail(KD_EUSAGE, "--ids: only with --format npy");
    if (options->tensor != NULL && options->container != KD_SAFETENSORS)
        return kd_fail(KD_EUSAGE, "--tensor: only with --format safetensors");
    if (options->keys != NULL && options->container != KD_TINYVIT)
        return kd_fail(KD_EUSAGE, "--keys: only with --format tinyvit");
    return KD_OK;
}

/* Reads the names of classes, a line each. */
static enum kd_status load_names(struct kd_import_source *source, const char *path)
{
    enum kd_status status = KD_EBUG;
    size_t size = 0, count = 0, capacity = 0;

    free(source->names);
    source->names = NULL;
    KD_TRY(kd_file_read(path, NAMES_LIMIT, &source->names_text, &size));
    for (char *at = source->names_text, *end = NULL; *at != '\0'; at = end) {
        end = at + strcspn(at, "\n");
        if (*end != '\0')
            *end++ = '\0';
        at[strcspn(at, "\r")] = '\0';
        KD_TRY(kd_grow(&source->names, &capacity, count + 1, sizeof *source->names));
        source->names[count++] = at;
    }
    if (source->classes == 0)
        source->classes = (uint32_t)count;
    if (count != source->classes)
        return kd_fail(KD_EDATA, "%s: has %zu names, %s has %u classes", path, count,
                       source->name, (unsigned)source->classes);
    status = KD_OK;
out:
    return status;
}

enum kd_status kd_import_open(const struct kd_import_options *options,
                              const struct kd_dataset_facts *data,
                              struct kd_import_source *source)
{
    enum kd_status status = KD_EBUG;

    *source = (struct kd_import_source){0};
    KD_TRY(check_options(options));
    source->name = kd_copy_string(options->from);
    KD_TRY(source->name != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(kd_hash_new(&source->hash));
    kd_hash_add_string(source->hash, "kd-import");
    switch (options->container) {
    case KD_NPY:
        status = kd_import_open_npy(options, data, source);
        break;
    case KD_SAFETENSORS:
        status = kd_import_open_safetensors(options, data, source);
        break;
    case KD_CSV:
        status = kd_import_open_csv(options, source);
        break;
    case KD_TINYVIT:
        status = kd_import_open_tinyvit(options, source);
        break;
    }
    if (status == KD_OK && options->classes != NULL)
        status = load_names(source, options->classes);
out:
    if (status != KD_OK)
        kd_import_close(source);
    return status;
}

void kd_import_close(struct kd_import_source *source)
{
    if (source->close != NULL)
        source->close(source);
    kd_hash_free(source->hash);
    free(source->names);
    free(source->names_text);
    free(source->name);
    *source = (struct kd_import_source){0};
}

/* -- the index -------------------------------------------------------------- */

#define NOWHERE UINT64_MAX

/* Calls `visit` with each row, in the order of the source. */
static enum kd_status walk(struct kd_import_source *source,
                           enum kd_status (*visit)(void *context, uint64_t place,
                                                   const struct kd_import_key *key),
                           void *context)
{
    enum kd_status status = KD_OK;
    struct kd_import_key key;

    for (uint64_t place = source->begin, next = 0;
         place < source->end && status == KD_OK; place = next) {
        status = source->walk(source, place, &key, &next);
        if (status == KD_OK)
            status = visit(context, place, &key);
    }
    return status;
}

/* What the rows of the slice are, as far as one walk tells. */
struct survey {
    const struct kd_dataset_facts *data;
    uint64_t rows;
    uint32_t least_view, most_view;
};

static enum kd_status survey_row(void *context, uint64_t place,
                                 const struct kd_import_key *key)
{
    struct survey *survey = context;

    (void)place;
    if (key->id < survey->data->first || key->id >= survey->data->end)
        return KD_OK;
    if (survey->rows++ == 0)
        survey->least_view = survey->most_view = key->view;
    if (key->view < survey->least_view)
        survey->least_view = key->view;
    if (key->view > survey->most_view)
        survey->most_view = key->view;
    return KD_OK;
}

struct filing {
    const struct kd_import_source *source;
    const struct kd_dataset *data;
    const struct kd_dataset_facts *facts;
    struct kd_import_index *index;
    uint32_t shift; /* of views that the source does not say */
};

static enum kd_status fail_row(const struct filing *filing, uint64_t place,
                               const struct kd_import_key *key, const char *format, ...)
    KD_PRINTF(4, 5);

static enum kd_status fail_row(const struct filing *filing, uint64_t place,
                               const struct kd_import_key *key, const char *format, ...)
{
    char where[KD_IMPORT_PLACE], what[256];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    filing->source->describe(filing->source, place, where, sizeof where);
    return kd_fail(KD_EDATA, "%s: sample %llu, view %u: %s", where,
                   (unsigned long long)key->id, (unsigned)(key->view + filing->shift),
                   what);
}

static enum kd_status file_row(void *context, uint64_t place,
                               const struct kd_import_key *key)
{
    const struct filing *f = context;
    const int32_t label = kd_dataset_label(f->data, key->id);
    char other[KD_IMPORT_PLACE];
    uint64_t *slot = NULL;

    if (key->id >= f->facts->total)
        return fail_row(f, place, key, "the dataset has ids 0 to %llu",
                        (unsigned long long)f->facts->total - 1);
    if (key->id < f->facts->first || key->id >= f->facts->end)
        return KD_OK;
    slot = &f->index->place[(key->id - f->index->first_id) * f->index->views +
                            key->view + f->shift - f->index->first_view];
    if (*slot != NOWHERE) {
        f->source->describe(f->source, *slot, other, sizeof other);
        return fail_row(f, place, key, "is there already: %s", other);
    }
    if (label >= 0 && key->label >= 0 && label != key->label)
        return fail_row(f, place, key,
                        "its label is %d, the dataset's is %d: it is not of this "
                        "sample",
                        (int)key->label, (int)label);
    *slot = place;
    return KD_OK;
}

static enum kd_status find_holes(const struct kd_import_source *source,
                                 const struct kd_import_index *index)
{
    const uint64_t count = index->samples * index->views;
    uint64_t missing = 0, first = 0;

    for (uint64_t i = count; i > 0; i--) {
        if (index->place[i - 1] == NOWHERE) {
            missing++;
            first = i - 1;
        }
    }
    if (missing == 0)
        return KD_OK;
    return kd_fail(KD_EDATA,
                   "%s: there is no row of sample %llu, view %u, and %llu more are "
                   "missing: if ids A to B-1 are all there should be, give them as "
                   "--data ...@A:B",
                   source->name,
                   (unsigned long long)(index->first_id + first / index->views),
                   (unsigned)(index->first_view + first % index->views),
                   (unsigned long long)missing - 1);
}

/* Sizes the index by what the survey has found, in bounds of the rows there are. */
static enum kd_status index_size(const struct kd_import_source *source,
                                 const struct survey *survey,
                                 struct kd_import_index *index)
{
    const uint64_t views = (uint64_t)survey->most_view - survey->least_view + 1;

    if (survey->rows == 0)
        return kd_fail(KD_EDATA, "%s: has no row of ids %llu to %llu", source->name,
                       (unsigned long long)survey->data->first,
                       (unsigned long long)survey->data->end - 1);
    if (views > 2 * survey->rows || index->samples > 4 * survey->rows / views + 1)
        return kd_fail(KD_EDATA,
                       "%s: has %llu rows, where %llu samples of views %u to %u are "
                       "due: if ids A to B-1 are all there should be, give them as "
                       "--data ...@A:B",
                       source->name, (unsigned long long)survey->rows,
                       (unsigned long long)index->samples, (unsigned)survey->least_view,
                       (unsigned)survey->most_view);
    index->views = (uint32_t)views;
    return KD_OK;
}

enum kd_status kd_import_index_make(struct kd_import_source *source,
                                    const struct kd_dataset *data, uint32_t first_view,
                                    struct kd_import_index *index)
{
    enum kd_status status = KD_EBUG;
    struct survey survey = {.data = kd_dataset_facts(data)};
    struct filing filing = {source, data, survey.data, index, 0};

    *index = (struct kd_import_index){.first_id = survey.data->first,
                                      .samples = survey.data->end - survey.data->first};
    KD_TRY(walk(source, survey_row, &survey));
    KD_TRY(index_size(source, &survey, index));
    filing.shift = source->says_view ? 0 : first_view;
    index->first_view = survey.least_view + filing.shift;
    KD_TRY(KD_NEW(index->place, (size_t)(index->samples * index->views)));
    memset(index->place, 0xff,
           (size_t)(index->samples * index->views) * sizeof *index->place);
    KD_TRY(walk(source, file_row, &filing));
    KD_TRY(find_holes(source, index));
out:
    return status;
}

void kd_import_index_clear(struct kd_import_index *index)
{
    free(index->place);
    *index = (struct kd_import_index){0};
}
