/* SPDX-License-Identifier: MIT */
/* Imports of arrays: .npy files, and the tensors of .safetensors. */
#include "teach/import_internal.h"

#include "kd/half.h"
#include "kd/memory.h"
#include "kd/npy.h"
#include "kd/options.h"
#include "kd/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* An array in a map; its bytes may be unaligned. */
struct array {
    char *name; /* for messages; NULL: it is not there */
    struct kd_array_info info;
    const uint8_t *data;
    struct kd_map map; /* of a file of its own */
};

struct arrays {
    struct array values, id, view, label;
    size_t views;      /* V of [N,V,C]; 1 of [N,C] */
    uint64_t first_id; /* of rows without ids */
    struct kd_safetensors *file;
};

static void array_clear(struct array *array)
{
    kd_map_close(&array->map);
    free(array->name);
}

static void arrays_close(struct kd_import_source *source)
{
    struct arrays *in = source->inside;

    array_clear(&in->values);
    array_clear(&in->id);
    array_clear(&in->view);
    array_clear(&in->label);
    kd_safetensors_close(in->file);
    free(in);
}

/* -- elements --------------------------------------------------------------- */

static bool is_float(enum kd_type type)
{
    return type == KD_F16 || type == KD_BF16 || type == KD_F32 || type == KD_F64;
}

/* An element of an array of integers, as two's complement; `negative` if it is. */
static uint64_t integer_at(const struct array *array, uint64_t at, bool *negative)
{
    const size_t size = kd_type_size(array->info.type);
    const bool has_sign = array->info.type == KD_I8 || array->info.type == KD_I16 ||
                          array->info.type == KD_I32 || array->info.type == KD_I64;
    uint64_t value = 0;

    memcpy(&value, array->data + at * size, size);
    *negative = has_sign && (value >> (8 * size - 1) & 1) != 0;
    if (*negative && size < 8)
        value |= ~UINT64_C(0) << 8 * size;
    return value;
}

/* The same where it must be from 0 to `most`. */
static enum kd_status take_integer(const struct array *array, uint64_t at,
                                   uint64_t most, uint64_t *value)
{
    bool negative = false;

    *value = integer_at(array, at, &negative);
    if (negative || *value > most)
        return kd_fail(KD_EDATA, "%s: element %llu is %lld: must be from 0 to %llu",
                       array->name, (unsigned long long)at, (long long)*value,
                       (unsigned long long)most);
    return KD_OK;
}

/* `count` floats from element `at` on, which may be unaligned. */
static void take_floats(const struct array *array, uint64_t at, size_t count,
                        double *values)
{
    const size_t size = kd_type_size(array->info.type);
    const uint8_t *from = array->data + at * size;
    uint16_t halves[256];
    float singles[256];

    if (array->info.type == KD_F64) {
        memcpy(values, from, count * size);
        return;
    }
    for (size_t n = 0; count > 0; count -= n, from += n * size, values += n) {
        n = count < 256 ? count : 256;
        memcpy(array->info.type == KD_F32 ? (void *)singles : halves, from, n * size);
        if (array->info.type == KD_F16)
            kd_half_to_float(halves, singles, n);
        else if (array->info.type == KD_BF16)
            kd_bf16_to_float(halves, singles, n);
        for (size_t i = 0; i < n; i++)
            values[i] = singles[i];
    }
}

/* -- rows ------------------------------------------------------------------- */

static enum kd_status arrays_walk(struct kd_import_source *source, uint64_t place,
                                  struct kd_import_key *key, uint64_t *next)
{
    enum kd_status status = KD_EBUG;
    const struct arrays *in = source->inside;
    const uint64_t sample = place / in->views;
    uint64_t value = 0;
    bool negative = false;

    *next = place + 1;
    *key = (struct kd_import_key){in->first_id + sample, (uint32_t)(place % in->views),
                                  KD_LABEL_UNKNOWN};
    if (in->id.name != NULL)
        KD_TRY(take_integer(&in->id, sample, UINT64_MAX - 1, &key->id));
    if (in->view.name != NULL) {
        KD_TRY(take_integer(&in->view, sample, UINT32_MAX - 1, &value));
        key->view = (uint32_t)value;
    }
    if (in->label.name != NULL) {
        value = integer_at(&in->label, sample, &negative);
        key->label = negative || value > INT32_MAX ? KD_LABEL_UNKNOWN : (int32_t)value;
    }
    status = KD_OK;
out:
    return status;
}

static enum kd_status arrays_read(const struct kd_import_source *source, uint64_t place,
                                  double *values, uint32_t *index)
{
    const struct arrays *in = source->inside;

    (void)index;
    take_floats(&in->values, place * source->classes, source->classes, values);
    return KD_OK;
}

static void arrays_describe(const struct kd_import_source *source, uint64_t place,
                            char *text, size_t size)
{
    const struct arrays *in = source->inside;

    snprintf(text, size, "%s: row %llu", in->values.name,
             (unsigned long long)(place / in->views));
}

/* -- opening ---------------------------------------------------------------- */

static enum kd_status check_column(const struct array *array, uint64_t rows)
{
    if (array->name == NULL)
        return KD_OK;
    if (is_float(array->info.type))
        return kd_fail(KD_EDATA, "%s: is of %s: must be integers", array->name,
                       kd_type_name(array->info.type));
    if (array->info.rank != 1 || array->info.shape[0] != rows)
        return kd_fail(KD_EDATA, "%s: must be one integer for each of the %llu rows",
                       array->name, (unsigned long long)rows);
    return KD_OK;
}

/* Rows without ids are the dataset's in order: its slice's, or all of them. */
static enum kd_status number_rows(struct arrays *in,
                                  const struct kd_dataset_facts *data)
{
    const uint64_t rows = in->values.info.shape[0], slice = data->end - data->first;

    if (rows == slice)
        in->first_id = data->first;
    else if (rows != data->total)
        return kd_fail(KD_EDATA,
                       "%s: has %llu rows, %s has %llu samples: give the rows' ids, or "
                       "the slice that they are, as --data ...@A:B",
                       in->values.name, (unsigned long long)rows, data->name,
                       (unsigned long long)slice);
    return KD_OK;
}

/* What the arrays are together. */
static enum kd_status arrays_finish(struct kd_import_source *source,
                                    const struct kd_dataset_facts *data)
{
    enum kd_status status = KD_EBUG;
    struct arrays *in = source->inside;
    const struct kd_array_info *info = &in->values.info;
    const char *name = in->values.name;

    if (!is_float(info->type))
        return kd_fail(KD_EDATA, "%s: is of %s: must be floats of 16, 32 or 64 bits",
                       name, kd_type_name(info->type));
    if (info->rank < 2 || info->rank > 3 || info->count == 0)
        return kd_fail(KD_EDATA,
                       "%s: must be [N,C], or [N,V,C] of several views, and not empty",
                       name);
    in->views = info->rank == 3 ? (size_t)info->shape[1] : 1;
    if (info->shape[info->rank - 1] > INT32_MAX || in->views > UINT32_MAX / 2)
        return kd_fail(KD_EDATA, "%s: has more classes or views than can be", name);
    if (in->view.name != NULL && info->rank == 3)
        return kd_fail(KD_EDATA, "%s: only for [N,C]; %s is [N,V,C]", in->view.name,
                       name);
    KD_TRY(check_column(&in->id, info->shape[0]));
    KD_TRY(check_column(&in->view, info->shape[0]));
    KD_TRY(check_column(&in->label, info->shape[0]));
    if (in->id.name == NULL)
        KD_TRY(number_rows(in, data));
    source->classes = (uint32_t)info->shape[info->rank - 1];
    source->type = info->type;
    source->end = info->shape[0] * in->views;
    source->says_view = in->view.name != NULL;
    source->num_views = (uint32_t)in->views;
    source->walk = arrays_walk;
    source->read = arrays_read;
    source->describe = arrays_describe;
    status = KD_OK;
out:
    return status;
}

static enum kd_status arrays_new(struct kd_import_source *source, struct arrays **in)
{
    if (KD_NEW(*in, 1) != KD_OK)
        return KD_EMEMORY;
    source->inside = *in;
    source->close = arrays_close;
    return KD_OK;
}

/* Maps an .npy file. */
static enum kd_status load_npy(struct kd_import_source *source, const char *path,
                               struct array *array)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_npy_info(path, &array->info));
    KD_TRY(kd_map_open(&array->map, path));
    array->data = array->map.data + array->info.offset;
    array->name = kd_copy_string(path);
    KD_TRY(array->name != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(kd_import_hash(source, path));
out:
    return status;
}

/* The file of that name in a directory; one that is not there is left out. */
static enum kd_status load_beside(struct kd_import_source *source, const char *name,
                                  struct array *array)
{
    enum kd_status status = KD_OK;
    char *path = kd_path_join(source->name, name);

    if (path == NULL)
        return KD_EMEMORY;
    if (access(path, F_OK) == 0)
        status = load_npy(source, path, array);
    free(path);
    return status;
}

static enum kd_status load_directory(struct kd_import_source *source,
                                     enum kd_values values, struct arrays *in)
{
    enum kd_status status = KD_EBUG;
    char *file = kd_format("%s.npy", kd_values_names[values]), *path = NULL;

    KD_TRY(file != NULL ? KD_OK : KD_EMEMORY);
    path = kd_path_join(source->name, file);
    KD_TRY(path != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(load_npy(source, path, &in->values));
    KD_TRY(load_beside(source, "id.npy", &in->id));
    KD_TRY(load_beside(source, "view.npy", &in->view));
    KD_TRY(load_beside(source, "label.npy", &in->label));
out:
    free(file);
    free(path);
    return status;
}

enum kd_status kd_import_open_npy(const struct kd_import_options *options,
                                  const struct kd_dataset_facts *data,
                                  struct kd_import_source *source)
{
    enum kd_status status = KD_EBUG;
    struct arrays *in = NULL;

    KD_TRY(arrays_new(source, &in));
    if (kd_is_directory(options->from))
        KD_TRY(load_directory(source, options->values, in));
    else
        KD_TRY(load_npy(source, options->from, &in->values));
    if (options->ids != NULL) {
        if (in->id.name != NULL)
            return kd_fail(KD_EUSAGE, "%s: has its ids in %s: leave --ids out",
                           options->from, in->id.name);
        KD_TRY(load_npy(source, options->ids, &in->id));
    }
    KD_TRY(arrays_finish(source, data));
out:
    return status;
}

/* The tensor of that name; *array stays as it is where there is none. */
static enum kd_status load_tensor(const struct kd_import_source *source,
                                  const struct arrays *in, const char *name,
                                  struct array *array)
{
    const struct kd_safetensor *found = kd_safetensors_find(in->file, name);

    if (found == NULL)
        return KD_OK;
    array->info = found->info;
    array->data = found->data;
    array->name = kd_format("%s: '%s'", source->name, name);
    return array->name != NULL ? KD_OK : KD_EMEMORY;
}

/* A file that says what it holds is believed. */
static enum kd_status check_kind(const struct kd_import_options *options,
                                 const struct kd_safetensors *file)
{
    const char *values = kd_safetensors_metadata(file, "values");
    const char *text = kd_safetensors_metadata(file, "temperature");
    double temperature = 0;

    if (values != NULL && strcmp(values, kd_values_names[options->values]) != 0)
        return kd_fail(KD_EDATA, "%s: says that it holds %.20s, not %s", options->from,
                       values, kd_values_names[options->values]);
    if (options->values != KD_LOGITS && text != NULL &&
        kd_parse_f64(text, 0, 1e9, &temperature) && temperature != options->temperature)
        return kd_fail(KD_EDATA, "%s: says that its temperature is %g, not %g",
                       options->from, temperature, options->temperature);
    return KD_OK;
}

enum kd_status kd_import_open_safetensors(const struct kd_import_options *options,
                                          const struct kd_dataset_facts *data,
                                          struct kd_import_source *source)
{
    enum kd_status status = KD_EBUG;
    struct arrays *in = NULL;
    const char *name =
        options->tensor != NULL ? options->tensor : kd_values_names[options->values];

    KD_TRY(arrays_new(source, &in));
    KD_TRY(kd_safetensors_open(options->from, &in->file));
    KD_TRY(kd_import_hash(source, options->from));
    KD_TRY(check_kind(options, in->file));
    KD_TRY(load_tensor(source, in, name, &in->values));
    if (in->values.name == NULL)
        return kd_fail(KD_EDATA, "%s: has no tensor '%s': name one with --tensor",
                       options->from, name);
    KD_TRY(load_tensor(source, in, "id", &in->id));
    KD_TRY(load_tensor(source, in, "view", &in->view));
    KD_TRY(load_tensor(source, in, "label", &in->label));
    KD_TRY(arrays_finish(source, data));
out:
    return status;
}
