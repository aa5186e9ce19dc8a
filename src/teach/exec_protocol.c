/* SPDX-License-Identifier: MIT */
/* What this process and a child say to each other: a line of JSON each, then arrays. */
#include "teach/exec_internal.h"

#include "kd/half.h"
#include "kd/json.h"
#include "kd/memory.h"
#include "kd/npy.h"
#include "kd/options.h"
#include "teach/import_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#define VERSION 1

/* A child may want larger batches than it is offered, up to this. */
#define MOST_BATCH 65536

/* -- the greeting ----------------------------------------------------------- */

static void write_shape(struct kd_json *json, const struct kd_exec_greeting *greeting)
{
    const struct kd_shape shape = greeting->data->shape;

    kd_json_begin(json, "shape", '[');
    kd_json_u64(json, NULL, shape.channels);
    if (greeting->differ) {
        kd_json_string(json, NULL, NULL);
        kd_json_string(json, NULL, NULL);
    } else {
        kd_json_u64(json, NULL, shape.height);
        kd_json_u64(json, NULL, shape.width);
    }
    kd_json_end(json);
}

static void write_greeting(struct kd_json *json,
                           const struct kd_exec_greeting *greeting)
{
    const struct kd_dataset_facts *data = greeting->data;

    kd_json_begin(json, NULL, '{');
    kd_json_u64(json, "kd_teacher", VERSION);
    kd_json_begin(json, "samples", '{');
    kd_json_string(json, "dtype", kd_type_name(data->type));
    write_shape(json, greeting);
    kd_json_end(json);
    if (data->num_classes > 0)
        kd_json_u64(json, "num_classes", data->num_classes);
    else
        kd_json_string(json, "num_classes", NULL);
    if (data->class_names != NULL) {
        kd_json_begin(json, "class_names", '[');
        for (uint32_t c = 0; c < data->num_classes; c++)
            kd_json_string(json, NULL, data->class_names[c]);
        kd_json_end(json);
    }
    kd_json_u64(json, "batch", greeting->batch);
    kd_json_end(json);
}

enum kd_status kd_exec_greet(const struct kd_exec_greeting *greeting, char **line)
{
    enum kd_status status = KD_EBUG;
    struct kd_json *json = NULL;
    const char *text = NULL;

    *line = NULL;
    KD_TRY(kd_json_new(&json));
    write_greeting(json, greeting);
    KD_TRY(kd_json_text(json, &text));
    *line = kd_format("%s\n", text);
    status = *line != NULL ? KD_OK : KD_EMEMORY;
out:
    kd_json_free(json);
    return status;
}

/* -- the answer ------------------------------------------------------------- */

static const char *const answer_keys[] = {
    "kd_teacher", "name",          "num_classes", "class_names", "values",
    "digest",     "deterministic", "batch",       "input",       NULL};
static const char *const input_keys[] = {"dtype", "layout",    "size", "resize",
                                         "mean",  "deviation", NULL};

static bool is_among(const char *word, const char *const *words)
{
    while (*words != NULL && strcmp(word, *words) != 0)
        words++;
    return *words != NULL;
}

/* A word that is mistyped must not be taken for one that was left out. */
static enum kd_status check_keys(const cJSON *object, const char *const *keys)
{
    const cJSON *each = NULL;

    cJSON_ArrayForEach(each, object)
    {
        const char *nearest = NULL;

        if (is_among(each->string, keys))
            continue;
        nearest = kd_nearest_word(each->string, keys);
        return kd_fail(KD_EDATA, "the key '%.40s' is not known%s%s%s", each->string,
                       nearest != NULL ? "; is '" : "", nearest != NULL ? nearest : "",
                       nearest != NULL ? "' meant?" : "");
    }
    return KD_OK;
}

/* A member that is not there, or null, is NULL. */
static const cJSON *get(const cJSON *object, const char *key)
{
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(object, key);

    return cJSON_IsNull(member) ? NULL : member;
}

static enum kd_status get_whole(const cJSON *number, const char *key, uint64_t most,
                                size_t *value)
{
    if (!cJSON_IsNumber(number) || !(number->valuedouble >= 1) ||
        number->valuedouble > (double)most ||
        floor(number->valuedouble) != number->valuedouble)
        return kd_fail(KD_EDATA, "'%s' must be a whole number from 1 to %llu", key,
                       (unsigned long long)most);
    *value = (size_t)number->valuedouble;
    return KD_OK;
}

/* One of some words; one that is not there is the first. */
static enum kd_status get_choice(const cJSON *object, const char *key,
                                 const char *const *words, int *choice)
{
    const cJSON *member = get(object, key);

    *choice = 0;
    if (member == NULL)
        return KD_OK;
    for (int i = 0; cJSON_IsString(member) && words[i] != NULL; i++)
        if (strcmp(member->valuestring, words[i]) == 0) {
            *choice = i;
            return KD_OK;
        }
    return kd_fail(KD_EDATA, "'%s' must be '%s', '%s'%s%s%s", key, words[0], words[1],
                   words[2] != NULL ? " or '" : "", words[2] != NULL ? words[2] : "",
                   words[2] != NULL ? "'" : "");
}

/* [height, width] */
static enum kd_status get_size(const cJSON *pair, const char *key, size_t *height,
                               size_t *width)
{
    enum kd_status status = KD_EBUG;

    if (!cJSON_IsArray(pair) || cJSON_GetArraySize(pair) != 2)
        return kd_fail(KD_EDATA, "'%s' must be [height, width]", key);
    KD_TRY(get_whole(pair->child, key, KD_RESIZE_LIMIT, height));
    KD_TRY(get_whole(pair->child->next, key, KD_RESIZE_LIMIT, width));
out:
    return status;
}

/* How samples get their size: by default the whole of them is stretched to it. */
static enum kd_status read_size(const cJSON *object, struct kd_exec_answer *answer)
{
    enum kd_status status = KD_EBUG;
    const cJSON *size = get(object, "size"), *resize = get(object, "resize");
    struct kd_resize *how = &answer->input.resize;
    struct kd_shape shape = {.channels = 1};

    if (size == NULL)
        return resize == NULL ? KD_OK
                              : kd_fail(KD_EDATA, "'resize' is there without 'size'");
    KD_TRY(get_size(size, "size", &answer->height, &answer->width));
    if (resize == NULL) {
        how->height = answer->height;
        how->width = answer->width;
        return KD_OK;
    }
    if (cJSON_IsArray(resize))
        KD_TRY(get_size(resize, "resize", &how->height, &how->width));
    else
        KD_TRY(get_whole(resize, "resize", KD_RESIZE_LIMIT, &how->side));
    how->crop_height = answer->height;
    how->crop_width = answer->width;
    shape.height = how->height;
    shape.width = how->width;
    if (how->side == 0)
        KD_TRY(kd_resize_shape(how, shape, &shape));
    status = KD_OK;
out:
    return status;
}

static enum kd_status get_numbers(const cJSON *object, const char *key, size_t channels,
                                  double *values, size_t *count)
{
    const cJSON *list = get(object, key), *each = NULL;
    const int size = cJSON_GetArraySize(list);

    *count = 0;
    if (list == NULL)
        return KD_OK;
    if (!cJSON_IsArray(list) || size > KD_MAX_CHANNELS ||
        (size != 1 && (size_t)size != channels))
        return kd_fail(KD_EDATA, "'%s' must be a list of 1 or %zu numbers", key,
                       channels);
    cJSON_ArrayForEach(each, list)
    {
        if (!cJSON_IsNumber(each) || !isfinite(each->valuedouble))
            return kd_fail(KD_EDATA, "'%s' has something that is no number", key);
        values[(*count)++] = each->valuedouble;
    }
    return KD_OK;
}

static enum kd_status read_normalize(const cJSON *object, size_t channels,
                                     struct kd_normalize *normalize)
{
    enum kd_status status = KD_EBUG;
    size_t means = 0, deviations = 0;

    KD_TRY(get_numbers(object, "mean", channels, normalize->mean, &means));
    KD_TRY(
        get_numbers(object, "deviation", channels, normalize->deviation, &deviations));
    if (means != deviations)
        return kd_fail(KD_EDATA, "'mean' and 'deviation' must have as many numbers");
    normalize->count = means;
    for (size_t c = 0; c < deviations; c++)
        if (!(normalize->deviation[c] > 0))
            return kd_fail(KD_EDATA, "'deviation' has something that is not above 0");
    status = KD_OK;
out:
    return status;
}

static enum kd_status read_input(const cJSON *object,
                                 const struct kd_exec_greeting *greeting,
                                 struct kd_exec_answer *answer)
{
    static const char *const types[] = {"float32", "uint8", NULL};
    static const char *const layouts[] = {"nchw", "nhwc", NULL};
    enum kd_status status = KD_EBUG;
    int type = 0, layout = 0;

    answer->input.type = KD_F32;
    if (object == NULL)
        return KD_OK;
    if (!cJSON_IsObject(object))
        return kd_fail(KD_EDATA, "'input' must be an object");
    KD_TRY(check_keys(object, input_keys));
    KD_TRY(get_choice(object, "dtype", types, &type));
    KD_TRY(get_choice(object, "layout", layouts, &layout));
    answer->input.type = type == 1 ? KD_U8 : KD_F32;
    answer->input.channels_last = layout == 1;
    if (type == 1 && greeting->data->type != KD_U8)
        return kd_fail(KD_EDATA, "'input' wants uint8, and samples are %s",
                       kd_type_name(greeting->data->type));
    KD_TRY(read_size(object, answer));
    KD_TRY(read_normalize(object, greeting->data->shape.channels,
                          &answer->input.normalize));
    if (type == 1 && answer->input.normalize.count > 0)
        return kd_fail(KD_EDATA, "'mean' and 'deviation' are for float32, not uint8");
    status = KD_OK;
out:
    return status;
}

static enum kd_status read_class_names(const cJSON *list, struct kd_exec_answer *answer)
{
    enum kd_status status = KD_EBUG;
    const cJSON *each = NULL;
    size_t count = 0;

    if (list == NULL)
        return KD_OK;
    if (!cJSON_IsArray(list) || (size_t)cJSON_GetArraySize(list) != answer->num_classes)
        return kd_fail(KD_EDATA, "'class_names' must be a list of %u names",
                       answer->num_classes);
    KD_TRY(KD_NEW(answer->class_name, answer->num_classes + 1));
    cJSON_ArrayForEach(each, list)
    {
        if (!cJSON_IsString(each))
            return kd_fail(KD_EDATA, "'class_names' has something that is no text");
        answer->class_name[count] = kd_copy_string(each->valuestring);
        KD_TRY(answer->class_name[count++] != NULL ? KD_OK : KD_EMEMORY);
    }
    status = KD_OK;
out:
    return status;
}

static enum kd_status get_text(const cJSON *object, const char *key, const char **text)
{
    const cJSON *member = get(object, key);

    *text = NULL;
    if (member == NULL)
        return KD_OK;
    if (!cJSON_IsString(member) || member->valuestring[0] == '\0')
        return kd_fail(KD_EDATA, "'%s' must be a text", key);
    *text = member->valuestring;
    return KD_OK;
}

static void hash_f64(struct kd_hash *hash, double value)
{
    uint64_t bits = 0;

    memcpy(&bits, &value, sizeof bits);
    kd_hash_add_u64(hash, bits);
}

static enum kd_status digest_answer(const char *what, struct kd_exec_answer *answer)
{
    const struct kd_normalize *normalize = &answer->input.normalize;
    struct kd_hash *hash = NULL;
    char words[KD_RESIZE_TEXT];

    if (kd_hash_new(&hash) != KD_OK)
        return KD_EMEMORY;
    kd_resize_text(&answer->input.resize, words);
    kd_hash_add_string(hash, what);
    kd_hash_add_u64(hash, answer->num_classes);
    kd_hash_add_string(hash, kd_values_names[answer->values]);
    kd_hash_add_string(hash, kd_type_name(answer->input.type));
    kd_hash_add_u64(hash, answer->input.channels_last);
    kd_hash_add_string(hash, words);
    for (size_t c = 0; c < normalize->count; c++) {
        hash_f64(hash, normalize->mean[c]);
        hash_f64(hash, normalize->deviation[c]);
    }
    kd_hash_digest(hash, &answer->digest);
    kd_hash_free(hash);
    return KD_OK;
}

static enum kd_status read_members(const cJSON *root, const char *command,
                                   const struct kd_exec_greeting *greeting,
                                   struct kd_exec_answer *answer)
{
    enum kd_status status = KD_EBUG;
    const cJSON *deterministic = get(root, "deterministic");
    const char *name = NULL, *digest = NULL;
    size_t classes = 0;
    int values = 0;

    KD_TRY(check_keys(root, answer_keys));
    KD_TRY(
        get_whole(get(root, "num_classes"), "num_classes", KD_MAX_CLASSES, &classes));
    if (get(root, "values") == NULL)
        return kd_fail(KD_EDATA, "'values' is missing: logits, logprobs or probs");
    KD_TRY(get_choice(root, "values", kd_values_names, &values));
    KD_TRY(get_text(root, "name", &name));
    KD_TRY(get_text(root, "digest", &digest));
    if (deterministic != NULL && !cJSON_IsBool(deterministic))
        return kd_fail(KD_EDATA, "'deterministic' must be true or false");
    if (get(root, "batch") != NULL)
        KD_TRY(get_whole(get(root, "batch"), "batch", MOST_BATCH, &answer->batch));
    answer->num_classes = (uint32_t)classes;
    answer->values = (enum kd_values)values;
    answer->deterministic = !cJSON_IsFalse(deterministic);
    KD_TRY(read_class_names(get(root, "class_names"), answer));
    KD_TRY(read_input(get(root, "input"), greeting, answer));
    answer->name = name != NULL ? kd_copy_string(name) : NULL;
    KD_TRY(name == NULL || answer->name != NULL ? KD_OK : KD_EMEMORY);
    KD_TRY(digest_answer(digest != NULL ? digest : command, answer));
out:
    return status;
}

enum kd_status kd_exec_read_answer(const char *line, const char *command,
                                   const struct kd_exec_greeting *greeting,
                                   struct kd_exec_answer *answer)
{
    enum kd_status status = KD_EBUG;
    cJSON *root = cJSON_ParseWithOpts(line, NULL, true);
    size_t version = 0;

    *answer = (struct kd_exec_answer){.name = NULL};
    if (!cJSON_IsObject(root)) {
        status = kd_fail(KD_EDATA,
                         "wrote '%.80s' where one line of JSON is due: what is "
                         "for people belongs on stderr",
                         line);
        goto out;
    }
    KD_TRY(get_whole(get(root, "kd_teacher"), "kd_teacher", UINT32_MAX, &version));
    if (version != VERSION) {
        status = kd_fail(KD_EDATA, "speaks version %zu of the protocol, not %d",
                         version, VERSION);
        goto out;
    }
    KD_TRY(read_members(root, command, greeting, answer));
out:
    if (status == KD_EDATA && cJSON_IsObject(root))
        kd_error_prefix("answered the greeting wrongly");
    if (status != KD_OK)
        kd_exec_answer_clear(answer);
    cJSON_Delete(root);
    return status;
}

void kd_exec_answer_clear(struct kd_exec_answer *answer)
{
    free(answer->name);
    for (size_t i = 0; answer->class_name != NULL && answer->class_name[i] != NULL; i++)
        free(answer->class_name[i]);
    free(answer->class_name);
    *answer = (struct kd_exec_answer){.name = NULL};
}

/* -- arrays ----------------------------------------------------------------- */

enum kd_status kd_exec_check_header(const char *data, size_t size, size_t count,
                                    size_t classes, struct kd_array_info *info,
                                    size_t *due)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_npy_header_size(data, "answered no proper array", due));
    if (size < *due)
        return KD_OK;
    KD_TRY(kd_npy_parse(data, size, "answered no proper array", info));
    if (info->type != KD_F16 && info->type != KD_F32 && info->type != KD_F64)
        return kd_fail(KD_EDATA, "answered %s values, not float16, float32 or float64",
                       kd_type_name(info->type));
    if (info->rank != 2)
        return kd_fail(KD_EDATA,
                       "answered an array of %zu dimensions, not [rows, classes]",
                       info->rank);
    if (info->shape[0] != count)
        return kd_fail(KD_EDATA, "answered %llu rows, where a batch of %zu was sent",
                       (unsigned long long)info->shape[0], count);
    if (info->shape[1] != classes)
        return kd_fail(KD_EDATA, "answered rows of %llu classes, having said %zu",
                       (unsigned long long)info->shape[1], classes);
    *due = (size_t)info->offset + (size_t)info->bytes;
out:
    return status;
}

static void widen(enum kd_type type, const char *from, size_t count, double *to)
{
    const size_t size = kd_type_size(type);

    for (size_t i = 0; i < count; i++) {
        uint16_t half = 0;
        float single = 0;

        if (type == KD_F64) {
            memcpy(&to[i], from + i * size, size);
        } else if (type == KD_F32) {
            memcpy(&single, from + i * size, size);
            to[i] = (double)single;
        } else {
            memcpy(&half, from + i * size, size);
            to[i] = (double)kd_half_to_float_one(half);
        }
    }
}

/* Log-probabilities at temperature 1 are logits but for a constant. */
enum kd_status kd_exec_convert(enum kd_values values, const struct kd_array_info *info,
                               const char *data, float *logits)
{
    const struct kd_import_rule rule = {
        .values = values, .temperature = 1, .type = info->type};
    const size_t classes = (size_t)info->shape[1],
                 row_bytes = classes * kd_type_size(info->type);
    double *row = NULL;
    enum kd_status status = KD_NEW(row, classes);

    for (size_t r = 0; r < info->shape[0] && status == KD_OK; r++) {
        widen(info->type, data + r * row_bytes, classes, row);
        status =
            kd_import_convert(&rule, row, NULL, classes, logits + r * classes, NULL);
        if (status != KD_OK)
            kd_error_prefix("answered what cannot be: row %zu of a batch of %llu", r,
                            (unsigned long long)info->shape[0]);
    }
    free(row);
    return status;
}
