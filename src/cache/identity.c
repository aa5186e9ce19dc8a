/* SPDX-License-Identifier: MIT */
/*
 * Identities. One table says what fields there are; comparing, hashing, saving,
 * loading and printing all go through it, so a new field is a new line.
 */
#include "kd/shard.h"

#include "cache/identity_internal.h"
#include "kd/h5.h"
#include "kd/json.h"
#include "kd/options.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum field_type {
    FIELD_KIND,       /* enum kd_cache_kind */
    FIELD_VALUE_KIND, /* enum kd_value_kind */
    FIELD_ENCODING,   /* enum kd_encoding */
    FIELD_TYPE,       /* enum kd_type */
    FIELD_U32,
    FIELD_U64,
    FIELD_F64,
    FIELD_DIGEST,
    FIELD_TEXT
};

/* Which caches have it. */
enum field_where { EVERYWHERE, IF_MERGED, IF_TOP_P, IF_SPARSE };

struct field {
    const char *name;
    enum field_type type;
    size_t offset, size; /* in struct kd_identity */
    enum field_where where;
};

#define FIELD_AT(name, member, type, where)                                            \
    {                                                                                  \
        name, type, offsetof(struct kd_identity, member),                              \
            sizeof(((struct kd_identity *)0)->member), where                           \
    }
#define FIELD(name, type, where) FIELD_AT(#name, name, type, where)
#define CODEC(name, type, where) FIELD_AT(#name, codec.name, type, where)

/* In the order of comparison: what says most comes first. */
static const struct field fields[] = {
    FIELD(kind, FIELD_KIND, EVERYWHERE),
    FIELD(dataset_digest, FIELD_DIGEST, EVERYWHERE),
    FIELD(num_classes, FIELD_U32, EVERYWHERE),
    FIELD(class_map_digest, FIELD_DIGEST, EVERYWHERE),
    FIELD(temperature, FIELD_F64, EVERYWHERE),
    FIELD(value_kind, FIELD_VALUE_KIND, EVERYWHERE),
    CODEC(encoding, FIELD_ENCODING, EVERYWHERE),
    CODEC(dtype, FIELD_TYPE, EVERYWHERE),
    CODEC(k, FIELD_U32, EVERYWHERE),
    CODEC(mass, FIELD_F64, IF_TOP_P),
    CODEC(also_temperatures, FIELD_TEXT, IF_SPARSE),
    FIELD(first_id, FIELD_U64, EVERYWHERE),
    FIELD(num_samples, FIELD_U64, EVERYWHERE),
    FIELD(first_view, FIELD_U32, EVERYWHERE),
    FIELD(views, FIELD_U32, EVERYWHERE),
    FIELD(augment, FIELD_TEXT, EVERYWHERE),
    FIELD(seed, FIELD_U64, EVERYWHERE),
    FIELD(policy, FIELD_TEXT, IF_MERGED),
    FIELD(policy_parameters, FIELD_TEXT, IF_MERGED),
    FIELD(parents, FIELD_TEXT, IF_MERGED),
    FIELD(teacher_name, FIELD_TEXT, EVERYWHERE),
    FIELD(normalize, FIELD_TEXT, EVERYWHERE),
    FIELD(bn_mode, FIELD_TEXT, EVERYWHERE),
    FIELD(teacher_digest, FIELD_DIGEST, EVERYWHERE),
};

#define NUM_FIELDS (sizeof fields / sizeof fields[0])

static const char *const kind_names[] = {"teacher", "merged", NULL};
static const char *const value_kind_names[] = {"logits", "logprobs", NULL};
#define TYPE_NAME(type, text, bytes) [type] = text,
static const char *const type_names[] = {KD_TYPE_TABLE(TYPE_NAME) NULL};
#undef TYPE_NAME

/* The names that an enum field's values have; NULL for other fields. */
static const char *const *names_of(const struct field *field)
{
    switch (field->type) {
    case FIELD_KIND:
        return kind_names;
    case FIELD_VALUE_KIND:
        return value_kind_names;
    case FIELD_ENCODING:
        return kd_encoding_names;
    case FIELD_TYPE:
        return type_names;
    default:
        return NULL;
    }
}

static const char *field_bytes(const struct kd_identity *identity,
                               const struct field *field)
{
    return (const char *)identity + field->offset;
}

static bool has_field(const struct kd_identity *identity, const struct field *field)
{
    switch (field->where) {
    case IF_MERGED:
        return identity->kind == KD_KIND_MERGED;
    case IF_TOP_P:
        return identity->codec.encoding == KD_TOP_P;
    case IF_SPARSE:
        return kd_codec_is_sparse(&identity->codec);
    default:
        return true;
    }
}

/* A field of any integral or enum type. */
static uint64_t get_u64(const struct kd_identity *identity, const struct field *field)
{
    const char *from = field_bytes(identity, field);
    uint64_t wide = 0;
    uint32_t narrow = 0;

    if (field->size == sizeof wide) {
        memcpy(&wide, from, sizeof wide);
        return wide;
    }
    memcpy(&narrow, from, sizeof narrow);
    return narrow;
}

static void put_u64(struct kd_identity *identity, const struct field *field,
                    uint64_t value)
{
    char *to = (char *)identity + field->offset;
    uint32_t narrow = (uint32_t)value;

    if (field->size == sizeof value)
        memcpy(to, &value, sizeof value);
    else
        memcpy(to, &narrow, sizeof narrow);
}

static double get_f64(const struct kd_identity *identity, const struct field *field)
{
    double value = 0;

    memcpy(&value, field_bytes(identity, field), sizeof value);
    return value;
}

_Static_assert(sizeof(enum kd_cache_kind) == 4 && sizeof(enum kd_value_kind) == 4 &&
                   sizeof(enum kd_encoding) == 4 && sizeof(enum kd_type) == 4,
               "enum fields are copied as 32 bits");

static void field_text(const struct kd_identity *identity, const struct field *field,
                       char text[KD_FIELD_SIZE])
{
    char number[KD_TEXT_F64] = "";

    switch (field->type) {
    case FIELD_KIND:
    case FIELD_VALUE_KIND:
    case FIELD_ENCODING:
    case FIELD_TYPE:
        snprintf(text, KD_FIELD_SIZE, "%s", names_of(field)[get_u64(identity, field)]);
        break;
    case FIELD_U32:
    case FIELD_U64:
        snprintf(text, KD_FIELD_SIZE, "%llu",
                 (unsigned long long)get_u64(identity, field));
        break;
    case FIELD_F64:
        kd_text_f64(get_f64(identity, field), number);
        snprintf(text, KD_FIELD_SIZE, "%s", number);
        break;
    case FIELD_DIGEST:
    case FIELD_TEXT:
        snprintf(text, KD_FIELD_SIZE, "%.*s", (int)field->size - 1,
                 field_bytes(identity, field));
        break;
    }
}

const char *kd_identity_field(const struct kd_identity *identity, size_t index,
                              char text[KD_FIELD_SIZE])
{
    size_t seen = 0;

    for (size_t i = 0; i < NUM_FIELDS; i++) {
        if (!has_field(identity, &fields[i]) || seen++ != index)
            continue;
        field_text(identity, &fields[i], text);
        return fields[i].name;
    }
    return NULL;
}

static int compare_names(const void *a, const void *b)
{
    const struct field *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

void kd_identity_json(const struct kd_identity *identity, struct kd_json *json)
{
    const struct field *sorted[NUM_FIELDS];
    char text[KD_FIELD_SIZE];

    for (size_t i = 0; i < NUM_FIELDS; i++)
        sorted[i] = &fields[i];
    qsort(sorted, NUM_FIELDS, sizeof sorted[0], compare_names);
    for (size_t i = 0; i < NUM_FIELDS; i++) {
        const struct field *field = sorted[i];

        if (!has_field(identity, field))
            continue;
        if (field->type == FIELD_U32 || field->type == FIELD_U64) {
            kd_json_u64(json, field->name, get_u64(identity, field));
        } else if (field->type == FIELD_F64) {
            kd_json_f64(json, field->name, get_f64(identity, field));
        } else {
            field_text(identity, field, text);
            kd_json_string(json, field->name, text);
        }
    }
}

/* Two texts of any length in one line. */
static enum kd_status fail_differs(const char *name, const char *is, const char *other)
{
    return kd_fail(KD_EDATA, "%s is '%.80s'%s, not '%.80s'%s", name, is,
                   strlen(is) > 80 ? "..." : "", other,
                   strlen(other) > 80 ? "..." : "");
}

static enum kd_status compare_field(const struct kd_identity *a,
                                    const struct kd_identity *b,
                                    const struct field *field)
{
    char is[KD_FIELD_SIZE], other[KD_FIELD_SIZE];

    field_text(a, field, is);
    field_text(b, field, other);
    if (strcmp(is, other) == 0)
        return KD_OK;
    if (field->type == FIELD_TEXT)
        return fail_differs(field->name, is, other);
    return kd_fail(KD_EDATA, "%s is %s, not %s", field->name, is, other);
}

enum kd_status kd_identity_equal(const struct kd_identity *a,
                                 const struct kd_identity *b)
{
    enum kd_status status = KD_OK;

    for (size_t i = 0; i < NUM_FIELDS && status == KD_OK; i++)
        status = compare_field(a, b, &fields[i]);
    return status;
}

static void hash_field(const struct kd_identity *identity, const struct field *field,
                       struct kd_hash *hash)
{
    char text[KD_FIELD_SIZE];

    field_text(identity, field, text);
    kd_hash_add_string(hash, field->name);
    kd_hash_add_string(hash, text);
}

enum kd_status kd_identity_digest(const struct kd_identity *identity,
                                  struct kd_digest *digest)
{
    enum kd_status status = KD_EBUG;
    struct kd_hash *hash = NULL;

    KD_TRY(kd_hash_new(&hash));
    for (size_t i = 0; i < NUM_FIELDS; i++)
        if (has_field(identity, &fields[i]))
            hash_field(identity, &fields[i], hash);
    kd_hash_digest(hash, digest);
    status = KD_OK;
out:
    kd_hash_free(hash);
    return status;
}

/* Printable ASCII that ends within its field; digests: 32 hexadecimal digits. */
static enum kd_status check_text(const struct kd_identity *identity,
                                 const struct field *field)
{
    const char *text = field_bytes(identity, field);
    size_t length = strnlen(text, field->size);

    if (length == field->size)
        return kd_fail(KD_EDATA, "%s is too long: at most %zu characters", field->name,
                       field->size - 1);
    for (size_t i = 0; i < length; i++)
        if (text[i] < ' ' || text[i] > '~')
            return kd_fail(KD_EDATA, "%s has a character that is not printable ASCII",
                           field->name);
    if (field->type == FIELD_DIGEST &&
        (length != 32 || strspn(text, "0123456789abcdef") != 32))
        return kd_fail(KD_EDATA, "%s is '%s': must be 32 hexadecimal digits",
                       field->name, text);
    return KD_OK;
}

static enum kd_status check_texts(const struct kd_identity *identity)
{
    enum kd_status status = KD_OK;

    for (size_t i = 0; i < NUM_FIELDS && status == KD_OK; i++)
        if (fields[i].type == FIELD_TEXT || fields[i].type == FIELD_DIGEST)
            status = check_text(identity, &fields[i]);
    return status;
}

static enum kd_status check_extent(const struct kd_identity *identity)
{
    if (identity->num_classes < 2 || identity->num_classes > INT32_MAX)
        return kd_fail(KD_EDATA, "num_classes is %u: must be from 2 to %d",
                       (unsigned)identity->num_classes, INT32_MAX);
    if (identity->num_samples < 1 ||
        identity->first_id > UINT64_MAX - identity->num_samples)
        return kd_fail(KD_EDATA, "num_samples is %llu from first_id %llu on: %s",
                       (unsigned long long)identity->num_samples,
                       (unsigned long long)identity->first_id,
                       identity->num_samples < 1 ? "must be at least 1"
                                                 : "ids do not fit 64 bits");
    if (identity->views < 1 || identity->first_view > UINT32_MAX - identity->views)
        return kd_fail(KD_EDATA, "views is %u from first_view %u on: %s",
                       (unsigned)identity->views, (unsigned)identity->first_view,
                       identity->views < 1 ? "must be at least 1"
                                           : "they do not fit 32 bits");
    if (identity->num_samples > UINT64_MAX / 2 / identity->views)
        return kd_fail(KD_EDATA, "num_samples times views does not fit 63 bits");
    return KD_OK;
}

static enum kd_status check_merged(const struct kd_identity *identity)
{
    bool merged = identity->kind == KD_KIND_MERGED;

    if (merged != (identity->policy[0] != '\0') ||
        merged != (identity->parents[0] != '\0') ||
        (!merged && identity->policy_parameters[0] != '\0'))
        return kd_fail(KD_EDATA, "policy and parents belong to merged caches, and only "
                                 "to them");
    return KD_OK;
}

static enum kd_status check_choices(const struct kd_identity *identity)
{
    const char *bn = identity->bn_mode;

    if ((unsigned)identity->kind > KD_KIND_MERGED ||
        (unsigned)identity->value_kind > KD_VALUE_LOGPROBS)
        return kd_fail(KD_EDATA, "kind or value_kind is none that is known");
    if (!isfinite(identity->temperature) || identity->temperature <= 0)
        return kd_fail(KD_EDATA, "temperature is %g: must be above 0",
                       identity->temperature);
    if (strcmp(bn, "eval") != 0 && strcmp(bn, "train") != 0 &&
        strcmp(bn, "none") != 0 &&
        (strcmp(bn, "mixed") != 0 || identity->kind != KD_KIND_MERGED))
        return kd_fail(KD_EDATA, "bn_mode is '%s': must be eval, train or none", bn);
    return KD_OK;
}

/* As kd_codec_check leaves it, with every field filled in. */
static enum kd_status check_codec(const struct kd_identity *identity)
{
    struct kd_codec whole = identity->codec;

    if (kd_codec_check(&whole, identity->num_classes) != KD_OK)
        return kd_fail(KD_EDATA, "%s", kd_error());
    if (whole.k != identity->codec.k)
        return kd_fail(KD_EDATA, "k is %u: must be %u", (unsigned)identity->codec.k,
                       (unsigned)whole.k);
    return KD_OK;
}

enum kd_status kd_identity_check(const struct kd_identity *identity)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(check_texts(identity));
    KD_TRY(check_choices(identity));
    KD_TRY(check_extent(identity));
    KD_TRY(check_codec(identity));
    KD_TRY(check_merged(identity));
out:
    return status;
}

static enum kd_status save_field(const struct kd_identity *identity,
                                 const struct field *field, struct kd_h5 *file)
{
    char text[KD_FIELD_SIZE];

    if (field->type == FIELD_U32 || field->type == FIELD_U64)
        return kd_h5_set_u64(file, field->name, get_u64(identity, field));
    if (field->type == FIELD_F64)
        return kd_h5_set_f64(file, field->name, get_f64(identity, field));
    field_text(identity, field, text);
    return kd_h5_set_string(file, field->name, text);
}

enum kd_status kd_identity_save(const struct kd_identity *identity, struct kd_h5 *file)
{
    enum kd_status status = KD_EBUG;
    struct kd_digest digest;

    for (size_t i = 0; i < NUM_FIELDS; i++)
        if (has_field(identity, &fields[i]))
            KD_TRY(save_field(identity, &fields[i], file));
    KD_TRY(kd_identity_digest(identity, &digest));
    KD_TRY(kd_h5_set_string(file, "identity_digest", digest.hex));
out:
    return status;
}

static enum kd_status load_number(struct kd_identity *identity,
                                  const struct field *field, struct kd_h5 *file)
{
    enum kd_status status = KD_EBUG;
    uint64_t value = 0;

    KD_TRY(kd_h5_get_u64(file, field->name, &value));
    if (field->type == FIELD_U32 && value > UINT32_MAX)
        return kd_fail(KD_EDATA, "%s: %s is %llu: does not fit 32 bits",
                       kd_h5_path(file), field->name, (unsigned long long)value);
    put_u64(identity, field, value);
out:
    return status;
}

static enum kd_status load_f64(struct kd_identity *identity, const struct field *field,
                               struct kd_h5 *file)
{
    double value = 0;
    enum kd_status status = kd_h5_get_f64(file, field->name, &value);

    memcpy((char *)identity + field->offset, &value, sizeof value);
    return status;
}

/* Puts a text into its field, or the value that it names. */
static enum kd_status parse_text(struct kd_identity *identity,
                                 const struct field *field, const char *text)
{
    const char *const *names = names_of(field);
    size_t length = strlen(text);

    if (names == NULL && length >= field->size)
        return kd_fail(KD_EDATA, "%s is too long: at most %zu characters", field->name,
                       field->size - 1);
    if (names == NULL) {
        memcpy((char *)identity + field->offset, text, length + 1);
        return KD_OK;
    }
    for (size_t i = 0; names[i] != NULL; i++) {
        if (length > 0 && strcmp(text, names[i]) == 0) {
            put_u64(identity, field, i);
            return KD_OK;
        }
    }
    return kd_fail(KD_EDATA, "%s is '%.80s', which is none that is known", field->name,
                   text);
}

static enum kd_status load_text(struct kd_identity *identity, const struct field *field,
                                struct kd_h5 *file)
{
    enum kd_status status = KD_EBUG;
    char *text = NULL;

    KD_TRY(kd_h5_get_string(file, field->name, &text));
    status = parse_text(identity, field, text);
    if (status != KD_OK)
        kd_error_prefix("%s", kd_h5_path(file));
out:
    free(text);
    return status;
}

static enum kd_status load_field(struct kd_identity *identity,
                                 const struct field *field, struct kd_h5 *file)
{
    if (field->type == FIELD_U32 || field->type == FIELD_U64)
        return load_number(identity, field, file);
    if (field->type == FIELD_F64)
        return load_f64(identity, field, file);
    return load_text(identity, field, file);
}

/* The old HDF5 format has no checksums over attributes, so here is one. */
static enum kd_status check_digest(const struct kd_identity *identity,
                                   struct kd_h5 *file)
{
    enum kd_status status = KD_EBUG;
    struct kd_digest digest;
    char *stored = NULL;

    KD_TRY(kd_h5_get_string(file, "identity_digest", &stored));
    KD_TRY(kd_identity_digest(identity, &digest));
    if (strcmp(stored, digest.hex) != 0)
        status = kd_fail(KD_EDATA,
                         "%s: damaged: its attributes do not have the digest "
                         "that was stored with them",
                         kd_h5_path(file));
out:
    free(stored);
    return status;
}

enum kd_status kd_identity_load(struct kd_identity *identity, struct kd_h5 *file)
{
    enum kd_status status = KD_EBUG;

    memset(identity, 0, sizeof *identity);
    for (size_t i = 0; i < NUM_FIELDS; i++)
        if (has_field(identity, &fields[i])) /* by those that come before it */
            KD_TRY(load_field(identity, &fields[i], file));
    status = kd_identity_check(identity);
    if (status != KD_OK) {
        kd_error_prefix("%s", kd_h5_path(file));
        goto out;
    }
    status = check_digest(identity, file);
out:
    return status;
}
