/* SPDX-License-Identifier: MIT */
/* Datasets: names and slices, arrays and CIFAR files, and all that is refused. The
 * folders have a test of their own. */
#include "kd/dataset.h"

#include "data_fixture.h"
#include "kd/h5.h"
#include "kd/memory.h"

#include <hdf5.h>
#include <math.h>
#include <zlib.h>

#define RECORD 3073

/* -- CIFAR ---------------------------------------------------------------- */

/* `count` records of labels first, first+1, ... (two label bytes for CIFAR-100). */
static void write_cifar(const char *path, size_t labels, size_t count, uint8_t first)
{
    size_t record = labels + 3072;
    uint8_t *bytes = malloc(count * record);

    assert_non_null(bytes);
    for (size_t i = 0; i < count; i++) {
        uint8_t *at = bytes + i * record;
        at[0] = labels == 2 ? 1 : (uint8_t)(first + i);
        at[labels - 1] = (uint8_t)(first + i);
        for (size_t j = 0; j < 3072; j++)
            at[labels + j] = (uint8_t)(first + i + j / 1024 * 50 + j % 7);
    }
    write_file(path, bytes, count * record);
    free(bytes);
}

static void cifar10_files_are_joined_in_order(void **state)
{
    uint8_t pixels[3072];
    int32_t label = -2;

    (void)state;
    write_cifar("a.bin", 1, 4, 0);
    write_cifar("b.bin", 1, 3, 4);
    struct kd_dataset *data = open_dataset("cifar10:a.bin,b.bin");
    const struct kd_dataset_facts *facts = kd_dataset_facts(data);
    assert_int_equal(facts->total, 7);
    assert_int_equal(facts->first, 0);
    assert_int_equal(facts->end, 7);
    assert_int_equal(facts->num_classes, 10);
    assert_int_equal(facts->type, KD_U8);
    assert_int_equal(kd_shape_size(facts->shape), 3072);
    assert_int_equal(facts->shape.channels, 3);
    assert_null(facts->class_names);
    assert_string_equal(facts->name, "cifar10:a.bin,b.bin");
    for (int32_t id = 0; id < 7; id++) {
        assert_ok(kd_dataset_read(data, (uint64_t)id, pixels, &label));
        assert_int_equal(label, id);
        assert_int_equal(kd_dataset_label(data, (uint64_t)id), id);
        for (int j = 0; j < 3072; j++)
            assert_int_equal(pixels[j], id + j / 1024 * 50 + j % 7);
    }
    kd_dataset_close(data);
}

static void cifar100_labels_are_the_fine_ones(void **state)
{
    (void)state;
    write_cifar("c.bin", 2, 5, 60);
    struct kd_dataset *data = open_dataset("cifar100:c.bin");
    assert_int_equal(kd_dataset_facts(data)->num_classes, 100);
    assert_int_equal(kd_dataset_label(data, 4), 64);
    kd_dataset_close(data);
}

static void damaged_cifar_files_are_refused(void **state)
{
    uint8_t record[2 * RECORD] = {0};

    (void)state;
    write_file("empty.bin", "", 0);
    write_file("cut.bin", record, RECORD - 1);
    assert_refused("cifar10:empty.bin", KD_EDATA, "empty.bin: 0 bytes", "truncated");
    assert_refused("cifar10:cut.bin", KD_EDATA, "cut.bin", "3073");
    record[RECORD] = 10;
    write_file("label.bin", record, 2 * RECORD);
    assert_refused("cifar10:label.bin", KD_EDATA, "record 1 has label 10", "below 10");
    write_cifar("c.bin", 2, 5, 60);
    assert_refused("cifar10:c.bin", KD_EDATA, "c.bin", "cifar100");
    write_cifar("high.bin", 2, 5, 98);
    assert_refused("cifar100:high.bin", KD_EDATA, "record 2 has label 100",
                   "below 100");
    assert_refused("cifar10:missing.bin", KD_ENOINPUT, "missing.bin", "No such file");
    assert_refused("cifar10:", KD_EUSAGE, "cifar10:FILE,...", "");
    assert_refused("cifar10:a.bin,,b.bin", KD_EDATA, "empty", "");
    assert_refused("cifar10:.", KD_EDATA, "regular file", "");
}

/* -- names and slices ----------------------------------------------------- */

static void unknown_names_are_refused_with_the_known_ones(void **state)
{
    (void)state;
    assert_refused("cifar:a.bin", KD_EUSAGE, "cifar10:FILE", "folder:DIR");
    assert_refused("", KD_EUSAGE, "npy:X.npy[,Y.npy]", "hdf5:FILE:/x[,/y]");
    assert_refused("npy", KD_EUSAGE, "known are", "idx:IMAGES");
    assert_refused("npy:", KD_EUSAGE, "name it as npy:X.npy[,Y.npy]", "");
    assert_refused("npy:a,b,c", KD_EUSAGE, "name it as npy:X.npy[,Y.npy]", "");
    assert_refused("idx:", KD_EUSAGE, "name it as idx:", "");
    assert_refused("folder:", KD_EUSAGE, "name it as folder:DIR", "");
    assert_refused("hdf5:a.h5", KD_EUSAGE, "name it as hdf5:FILE:/x[,/y]", "");
    assert_refused("hdf5::/x", KD_EUSAGE, "name it as hdf5:FILE:/x[,/y]", "");
}

static void assert_slice(const char *name, uint64_t first, uint64_t end)
{
    struct kd_dataset *data = open_dataset(name);
    const struct kd_dataset_facts *facts = kd_dataset_facts(data);

    assert_int_equal(facts->first, first);
    assert_int_equal(facts->end, end);
    assert_int_equal(facts->total, 9);
    assert_string_equal(facts->name, name);
    kd_dataset_close(data);
}

static void slices_take_ids_a_to_b(void **state)
{
    (void)state;
    write_cifar("s.bin", 1, 9, 0);
    assert_slice("cifar10:s.bin@2:5", 2, 5);
    assert_slice("cifar10:s.bin@2:", 2, 9);
    assert_slice("cifar10:s.bin@:5", 0, 5);
    assert_slice("cifar10:s.bin@:", 0, 9);
    assert_slice("cifar10:s.bin@8:9", 8, 9);
}

static void ids_are_positions_in_the_whole_and_stay_in_the_slice(void **state)
{
    uint8_t pixels[3072];
    int32_t label = -2;

    (void)state;
    write_cifar("s.bin", 1, 9, 0);
    struct kd_dataset *data = open_dataset("cifar10:s.bin@2:5");
    assert_ok(kd_dataset_read(data, 4, pixels, &label));
    assert_int_equal(label, 4);
    assert_int_equal(pixels[0], 4);
    assert_int_equal(kd_dataset_read(data, 5, pixels, &label), KD_EDATA);
    assert_non_null(strstr(kd_error(), "no sample 5 in it, but 2 to 4"));
    assert_int_equal(kd_dataset_read(data, 1, pixels, &label), KD_EDATA);
    assert_int_equal(kd_dataset_read(data, UINT64_MAX, pixels, &label), KD_EDATA);
    assert_int_equal(kd_dataset_label(data, 5), -1);
    kd_dataset_close(data);
}

static void any_sample_of_the_whole_can_be_had(void **state)
{
    struct kd_dataset *whole = open_dataset("cifar10:s.bin");
    struct kd_dataset *slice = open_dataset("cifar10:s.bin@2:5");
    uint8_t one[3072], other[3072];
    int32_t label = -7;

    (void)state;
    for (uint64_t id = 0; id < 9; id++) {
        assert_ok(kd_dataset_read(whole, id, one, NULL));
        assert_ok(kd_dataset_read_any(slice, id, other, &label));
        assert_memory_equal(one, other, sizeof one);
        assert_int_equal(label, kd_dataset_label(whole, id));
    }
    assert_int_equal(kd_dataset_read_any(slice, 9, other, NULL), KD_EDATA);
    assert_non_null(strstr(kd_error(), "no sample 9 in it, but 0 to 8"));
    kd_dataset_close(whole);
    kd_dataset_close(slice);
}

static void slices_that_hold_nothing_are_refused(void **state)
{
    (void)state;
    write_cifar("s.bin", 1, 9, 0);
    assert_refused("cifar10:s.bin@0:10", KD_EUSAGE, "9 samples", "beyond");
    assert_refused("cifar10:s.bin@10:", KD_EUSAGE, "9 samples", "beyond");
    assert_refused("cifar10:s.bin@9:", KD_EUSAGE, "empty", "9");
    assert_refused("cifar10:s.bin@5:5", KD_EUSAGE, "empty", "9");
    assert_refused("cifar10:s.bin@5:4", KD_EUSAGE, "empty", "9");
    assert_refused("cifar10:s.bin@0:99999999999999999999", KD_EUSAGE, "too large", "");
}

static void an_at_sign_may_be_part_of_a_file_name(void **state)
{
    (void)state;
    write_cifar("s@2x.bin", 1, 9, 0);
    assert_slice("cifar10:s@2x.bin", 0, 9);
    assert_slice("cifar10:s@2x.bin@1:2", 1, 2);
    assert_refused("cifar10:s@2x.bin@1", KD_ENOINPUT, "s@2x.bin@1", "");
}

/* -- digests -------------------------------------------------------------- */

static struct kd_dataset_facts facts_of(const char *name)
{
    struct kd_dataset *data = open_dataset(name);
    struct kd_dataset_facts facts = *kd_dataset_facts(data);

    kd_dataset_close(data);
    facts.name = NULL;
    facts.class_names = NULL;
    return facts;
}

static bool same_data(const char *a, const char *b)
{
    struct kd_dataset_facts x = facts_of(a), y = facts_of(b);

    return kd_digest_equal(&x.digest, &y.digest);
}

static void the_digest_is_of_content_alone(void **state)
{
    uint8_t x[24] = {1, 2, 3}, labels[6] = {0, 1, 2, 3, 4, 5};
    const uint64_t shape[4] = {6, 1, 2, 2}, flat[2] = {6, 4};

    (void)state;
    assert_ok(kd_npy_write("d.npy", KD_U8, 4, shape, x));
    assert_ok(kd_npy_write("copy.npy", KD_U8, 4, shape, x));
    assert_ok(kd_npy_write("flat.npy", KD_U8, 2, flat, x));
    assert_ok(kd_npy_write("dy.npy", KD_U8, 1, shape, labels));
    assert_true(same_data("npy:d.npy", "npy:copy.npy"));
    assert_true(same_data("npy:d.npy", "npy:d.npy@1:2"));
    assert_false(same_data("npy:d.npy", "npy:flat.npy"));
    assert_false(same_data("npy:d.npy", "npy:d.npy,dy.npy"));
    x[23]++;
    assert_ok(kd_npy_write("other.npy", KD_U8, 4, shape, x));
    assert_false(same_data("npy:d.npy", "npy:other.npy"));
    labels[5] = 4;
    assert_ok(kd_npy_write("oy.npy", KD_U8, 1, shape, labels));
    assert_false(same_data("npy:d.npy,dy.npy", "npy:d.npy,oy.npy"));
}

static void cifar_in_another_container_is_the_same_data(void **state)
{
    uint8_t *records = malloc(4 * RECORD), *x = malloc(4 * 3072);
    const uint64_t shape[4] = {4, 3, 32, 32};

    (void)state;
    assert_non_null(records);
    assert_non_null(x);
    write_cifar("k.bin", 1, 4, 3);
    FILE *file = fopen("k.bin", "rb");
    assert_non_null(file);
    assert_int_equal(fread(records, RECORD, 4, file), 4);
    fclose(file);
    for (int i = 0; i < 4; i++)
        memcpy(x + i * 3072, records + i * RECORD + 1, 3072);
    assert_ok(kd_npy_write("k.npy", KD_U8, 4, shape, x));
    assert_ok(kd_npy_write("ky.npy", KD_I64, 1, shape, (const int64_t[]){3, 4, 5, 6}));
    assert_true(same_data("cifar10:k.bin", "npy:k.npy,ky.npy"));
    free(records);
    free(x);
}

static void the_class_map_is_that_of_names_or_numbers(void **state)
{
    char texts[1200][16];
    const char *numbers[1200];
    static const char *const split[] = {"ab", "c"}, *const other[] = {"a", "bc"};
    struct kd_digest a, b;

    (void)state;
    for (int i = 0; i < 1200; i++) {
        snprintf(texts[i], sizeof texts[i], "%d", i);
        numbers[i] = texts[i];
    }
    assert_ok(kd_class_map_digest(NULL, 1200, &a));
    assert_ok(kd_class_map_digest(numbers, 1200, &b));
    assert_true(kd_digest_equal(&a, &b));
    assert_ok(kd_class_map_digest(NULL, 2, &b));
    assert_false(kd_digest_equal(&a, &b));
    assert_ok(kd_class_map_digest(split, 2, &a));
    assert_ok(kd_class_map_digest(other, 2, &b));
    assert_false(kd_digest_equal(&a, &b));
}

/* -- npy ------------------------------------------------------------------ */

static void assert_shape(const char *name, size_t channels, size_t height, size_t width)
{
    struct kd_dataset_facts facts = facts_of(name);

    assert_int_equal(facts.shape.channels, channels);
    assert_int_equal(facts.shape.height, height);
    assert_int_equal(facts.shape.width, width);
    assert_int_equal(facts.num_classes, 0);
}

static void npy_arrays_of_rank_2_to_4_are_samples(void **state)
{
    static const uint8_t x[48] = {0};

    (void)state;
    assert_ok(kd_npy_write("r2.npy", KD_U8, 2, (const uint64_t[]){4, 12}, x));
    assert_ok(kd_npy_write("r3.npy", KD_U8, 3, (const uint64_t[]){4, 3, 4}, x));
    assert_ok(kd_npy_write("r4.npy", KD_U8, 4, (const uint64_t[]){2, 6, 2, 2}, x));
    assert_shape("npy:r2.npy", 12, 1, 1);
    assert_shape("npy:r3.npy", 1, 3, 4);
    assert_shape("npy:r4.npy", 6, 2, 2);
}

static void other_shapes_and_types_are_refused(void **state)
{
    static const uint8_t x[2048] = {0};

    (void)state;
    assert_ok(kd_npy_write("r1.npy", KD_U8, 1, (const uint64_t[]){48}, x));
    assert_ok(kd_npy_write("r5.npy", KD_U8, 5, (const uint64_t[]){1, 2, 2, 2, 6}, x));
    assert_ok(kd_npy_write("f64.npy", KD_F64, 2, (const uint64_t[]){4, 4}, x));
    assert_ok(kd_npy_write("none.npy", KD_U8, 2, (const uint64_t[]){0, 4}, x));
    assert_ok(kd_npy_write("thin.npy", KD_U8, 2, (const uint64_t[]){4, 0}, x));
    assert_refused("npy:r1.npy", KD_EDATA, "r1.npy", "[N,C,H,W]");
    assert_refused("npy:r5.npy", KD_EDATA, "r5.npy", "5 dimensions");
    assert_refused("npy:f64.npy", KD_EDATA, "float64", "astype('float32')");
    assert_refused("npy:none.npy", KD_EDATA, "none.npy", "no samples");
    assert_refused("npy:thin.npy", KD_EDATA, "thin.npy", "no samples");
    assert_refused("npy:missing.npy", KD_ENOINPUT, "missing.npy", "No such file");
    write_file("foreign.npy", "PK\3\4 this is something else", 28);
    assert_refused("npy:foreign.npy", KD_EDATA, "foreign.npy", "");
}

static void channels_last_are_refused_with_the_remedy(void **state)
{
    static const uint8_t x[400] = {0};

    (void)state;
    assert_ok(kd_npy_write("rgb.npy", KD_U8, 4, (const uint64_t[]){2, 8, 8, 3}, x));
    assert_ok(kd_npy_write("gray.npy", KD_U8, 4, (const uint64_t[]){2, 8, 8, 1}, x));
    assert_ok(kd_npy_write("row.npy", KD_U8, 4, (const uint64_t[]){2, 64, 1, 1}, x));
    assert_ok(kd_npy_write("tiny.npy", KD_U8, 4, (const uint64_t[]){2, 3, 4, 3}, x));
    assert_refused("npy:rgb.npy", KD_EDATA, "samples must be [N,C,H,W]",
                   "transpose with x.transpose(0,3,1,2)");
    assert_refused("npy:gray.npy", KD_EDATA, "gray.npy", "x.transpose(0,3,1,2)");
    assert_shape("npy:row.npy", 64, 1, 1);
    assert_shape("npy:tiny.npy", 3, 4, 3);
}

static void labels_of_any_integer_type_are_read(void **state)
{
    static const uint8_t x[3] = {0};
    const int8_t i8[3] = {-1, 3, 1};
    const uint16_t u16[3] = {0, 3, 300};
    const int16_t i16[3] = {-1, 3, 300};
    const uint32_t u32[3] = {0, 3, 70000};
    const int32_t i32[3] = {-1, 3, 70000};
    const uint64_t u64[3] = {0, 3, KD_MAX_CLASSES - 1};
    const int64_t i64[3] = {-1, 3, 5};
    const struct {
        enum kd_type type;
        const void *values;
        int32_t first, last;
    } cases[] = {{KD_U8, x, 0, 0},           {KD_I8, i8, -1, 1},
                 {KD_U16, u16, 0, 300},      {KD_I16, i16, -1, 300},
                 {KD_U32, u32, 0, 70000},    {KD_I32, i32, -1, 70000},
                 {KD_U64, u64, 0, 16777215}, {KD_I64, i64, -1, 5}};

    (void)state;
    assert_ok(kd_npy_write("l.npy", KD_U8, 2, (const uint64_t[]){3, 1}, x));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        /* one dimension, or a column */
        assert_ok(kd_npy_write("ly.npy", cases[i].type, 1 + i % 2,
                               (const uint64_t[]){3, 1}, cases[i].values));
        struct kd_dataset *data = open_dataset("npy:l.npy,ly.npy");
        assert_int_equal(kd_dataset_label(data, 0), cases[i].first);
        assert_int_equal(kd_dataset_label(data, 2), cases[i].last);
        int32_t largest = cases[i].last > 3 || i == 0 ? cases[i].last : 3;
        assert_int_equal(kd_dataset_facts(data)->num_classes, largest + 1);
        kd_dataset_close(data);
    }
}

static void assert_label_refused(enum kd_type type, const void *labels, const char *why)
{
    assert_ok(kd_npy_write("by.npy", type, 1, (const uint64_t[]){3}, labels));
    assert_refused("npy:l.npy,by.npy", KD_EDATA, "by.npy", why);
}

static void labels_that_are_none_are_refused(void **state)
{
    static const uint8_t x[3] = {0};

    (void)state;
    assert_ok(kd_npy_write("l.npy", KD_U8, 2, (const uint64_t[]){3, 1}, x));
    assert_label_refused(KD_I32, (const int32_t[]){0, -2, 0}, "sample 1 has label -2");
    assert_label_refused(KD_I64, (const int64_t[]){0, 0, INT64_C(1) << 31},
                         "sample 2 has label 2147483648");
    assert_label_refused(KD_U64, (const uint64_t[]){UINT64_MAX, 0, 0},
                         "sample 0 has label");
    assert_label_refused(KD_U32, (const uint32_t[]){0, KD_MAX_CLASSES, 0},
                         "label 16777216");
    assert_label_refused(KD_F32, (const float[]){0, 1, 2}, "y.astype('int32')");
    assert_ok(kd_npy_write("by.npy", KD_U8, 1, (const uint64_t[]){2}, x));
    assert_refused("npy:l.npy,by.npy", KD_EDATA, "2 labels for 3 samples", "by.npy");
    assert_ok(kd_npy_write("by.npy", KD_U8, 2, (const uint64_t[]){1, 3}, x));
    assert_refused("npy:l.npy,by.npy", KD_EDATA, "argmax", "by.npy");
}

static void without_any_label_there_are_no_classes(void **state)
{
    static const int8_t none[3] = {-1, -1, -1};

    (void)state;
    assert_ok(kd_npy_write("l.npy", KD_U8, 2, (const uint64_t[]){3, 1}, none));
    assert_ok(kd_npy_write("ny.npy", KD_I8, 1, (const uint64_t[]){3}, none));
    assert_int_equal(facts_of("npy:l.npy,ny.npy").num_classes, 0);
}

static void floats_must_be_finite(void **state)
{
    float x[400] = {0};
    const struct {
        size_t at;
        float value;
        const char *message;
    } cases[] = {{0, NAN, "sample 0 has a NaN"},
                 {399, INFINITY, "sample 199 has a NaN or infinite"},
                 {101, -INFINITY, "sample 50 has"}};

    (void)state;
    x[7] = 3.4e38f;
    assert_ok(kd_npy_write("n.npy", KD_F32, 2, (const uint64_t[]){200, 2}, x));
    struct kd_dataset *data = open_dataset("npy:n.npy");
    float pair[2];
    assert_ok(kd_dataset_read(data, 3, pair, NULL));
    assert_true(pair[1] == 3.4e38f);
    kd_dataset_close(data);
    for (size_t i = 0; i < 3; i++) {
        float kept = x[cases[i].at];
        x[cases[i].at] = cases[i].value;
        assert_ok(kd_npy_write("n.npy", KD_F32, 2, (const uint64_t[]){200, 2}, x));
        assert_refused("npy:n.npy", KD_EDATA, cases[i].message, "n.npy");
        x[cases[i].at] = kept;
    }
}

/* -- hdf5 ----------------------------------------------------------------- */

static void write_h5(const char *path, enum kd_type type, size_t rank,
                     const uint64_t *shape, const void *x, const int32_t *y,
                     const char *names)
{
    struct kd_h5 *file = NULL;

    assert_ok(kd_h5_create(path, &file));
    assert_ok(kd_h5_write(file, "x", type, rank, shape, x, NULL));
    if (y != NULL)
        assert_ok(kd_h5_write(file, "set/y", KD_I32, 1, shape, y, NULL));
    if (names != NULL)
        assert_ok(kd_h5_set_string(file, "class_names", names));
    assert_ok(kd_h5_finish(file));
}

static void hdf5_datasets_are_samples_and_labels(void **state)
{
    static const float x[6] = {1, 2, 3, 4, 5, 6};
    static const int32_t y[3] = {2, 0, -1};
    float pair[2];
    int32_t label = -2;

    (void)state;
    write_h5("a:b.h5", KD_F32, 2, (const uint64_t[]){3, 2}, x, y, "cat,dog,cow,hen");
    struct kd_dataset *data = open_dataset("hdf5:a:b.h5:/x,/set/y@1:");
    const struct kd_dataset_facts *facts = kd_dataset_facts(data);
    assert_int_equal(facts->num_classes, 4);
    assert_string_equal(facts->class_names[3], "hen");
    assert_int_equal(facts->first, 1);
    assert_int_equal(facts->type, KD_F32);
    assert_ok(kd_dataset_read(data, 2, pair, &label));
    assert_true(pair[0] == 5 && pair[1] == 6);
    assert_int_equal(label, -1);
    kd_dataset_close(data);
}

static void class_names_bound_the_labels(void **state)
{
    static const uint8_t x[3] = {0};
    static const int32_t y[3] = {0, 2, 1};

    (void)state;
    write_h5("n.h5", KD_U8, 2, (const uint64_t[]){3, 1}, x, y, "cat,dog");
    assert_refused("hdf5:n.h5:/x,/set/y", KD_EDATA, "sample 1 has label 2",
                   "2 class names");
    write_h5("n.h5", KD_U8, 2, (const uint64_t[]){3, 1}, x, y, "cat,,dog");
    assert_refused("hdf5:n.h5:/x,/set/y", KD_EDATA, "n.h5", "empty");
    write_h5("n.h5", KD_U8, 2, (const uint64_t[]){3, 1}, x, NULL, "cat,dog");
    assert_int_equal(facts_of("hdf5:n.h5:/x").num_classes, 2);
}

static void hdf5_files_that_lack_something_are_refused(void **state)
{
    static const uint8_t x[3] = {0};

    (void)state;
    write_h5("m.h5", KD_U8, 2, (const uint64_t[]){3, 1}, x, NULL, NULL);
    assert_refused("hdf5:m.h5:/z", KD_EDATA, "m.h5", "'z'");
    assert_refused("hdf5:m.h5:/x,/y", KD_EDATA, "m.h5", "'y'");
    assert_refused("hdf5:missing.h5:/x", KD_ENOINPUT, "missing.h5", "");
    write_file("foreign.h5", "not HDF5 at all", 15);
    assert_refused("hdf5:foreign.h5:/x", KD_EDATA, "foreign.h5", "not a readable HDF5");
    write_h5("m.h5", KD_U16, 2, (const uint64_t[]){1, 1}, x, NULL, NULL);
    assert_refused("hdf5:m.h5:/x", KD_EDATA, "uint16", "uint8 or float32");
}

static void truncated_hdf5_files_are_refused(void **state)
{
    uint8_t *x = calloc(1, 100000);

    (void)state;
    assert_non_null(x);
    write_h5("t.h5", KD_U8, 2, (const uint64_t[]){1000, 100}, x, NULL, NULL);
    assert_int_equal(truncate("t.h5", 60000), 0);
    assert_refused("hdf5:t.h5:/x", KD_EDATA, "t.h5", "truncated");
    free(x);
}

/* A chunked and compressed dataset "x" of bytes; without data where x is NULL. */
static void write_chunked(const char *path, hsize_t rows, hsize_t columns,
                          const uint8_t *x)
{
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t space = H5Screate_simple(2, (const hsize_t[]){rows, columns}, NULL);
    hid_t list = H5Pcreate(H5P_DATASET_CREATE);

    assert_true(H5Pset_chunk(list, 2, (const hsize_t[]){16, columns}) >= 0);
    assert_true(H5Pset_deflate(list, 5) >= 0);
    hid_t set =
        H5Dcreate2(file, "x", H5T_STD_U8LE, space, H5P_DEFAULT, list, H5P_DEFAULT);
    assert_true(set >= 0);
    if (x != NULL)
        assert_true(H5Dwrite(set, H5T_STD_U8LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, x) >= 0);
    H5Dclose(set);
    H5Pclose(list);
    H5Sclose(space);
    H5Fclose(file);
}

static void compressed_hdf5_is_the_same_data(void **state)
{
    uint8_t *x = write_random_bytes("z.npy", 100, (struct kd_shape){20, 1, 1});

    (void)state;
    write_chunked("z.h5", 100, 20, x);

    assert_ok(kd_npy_write("z.npy", KD_U8, 2, (const uint64_t[]){100, 20}, x));
    assert_true(same_data("hdf5:z.h5:/x", "npy:z.npy"));
    free(x);
}

static void hdf5_that_was_never_written_takes_no_memory(void **state)
{
    (void)state;
    write_chunked("bomb.h5", UINT64_C(1) << 36, 100, NULL);
    assert_refused("hdf5:bomb.h5:/x", KD_EDATA, "bomb.h5", "cannot come out of");
}

/* -- idx ------------------------------------------------------------------ */

/* An IDX file of `count` samples of 2 x 3 (or of labels), gzip or not. */
static size_t make_idx(uint8_t *bytes, uint8_t rank, uint8_t count)
{
    const uint8_t head[16] = {0, 0, 8, rank, 0, 0, 0, count, 0, 0, 0, 2, 0, 0, 0, 3};
    size_t start = rank == 3 ? 16 : 8, size = rank == 3 ? 6 : 1;

    memcpy(bytes, head, start);
    for (size_t i = 0; i < count * size; i++)
        bytes[start + i] = (uint8_t)i;
    return start + count * size;
}

static void write_gzip(const char *path, const uint8_t *bytes, size_t size)
{
    gzFile file = gzopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(gzwrite(file, bytes, (unsigned)size), size);
    assert_int_equal(gzclose(file), Z_OK);
}

static void idx_files_are_read_compressed_or_not(void **state)
{
    uint8_t bytes[256], pixels[6];
    int32_t label = -2;

    (void)state;
    size_t size = make_idx(bytes, 3, 5);
    write_file("i.idx", bytes, size);
    write_gzip("i.gz", bytes, size);
    size = make_idx(bytes, 1, 5);
    write_file("l.idx", bytes, size);
    write_gzip("l.gz", bytes, size);
    struct kd_dataset *data = open_dataset("idx:i.gz,l.idx");
    assert_ok(kd_dataset_read(data, 4, pixels, &label));
    assert_int_equal(label, 4);
    assert_int_equal(pixels[5], 29);
    assert_int_equal(kd_dataset_facts(data)->shape.channels, 1);
    assert_int_equal(kd_dataset_facts(data)->shape.height, 2);
    assert_int_equal(kd_dataset_facts(data)->shape.width, 3);
    assert_int_equal(kd_dataset_facts(data)->num_classes, 5);
    kd_dataset_close(data);
    assert_true(same_data("idx:i.gz,l.gz", "idx:i.idx,l.idx"));
    assert_int_equal(facts_of("idx:i.idx").num_classes, 0);
}

static void damaged_idx_files_are_refused(void **state)
{
    uint8_t bytes[256] = {0};
    size_t size = make_idx(bytes, 3, 5);

    (void)state;
    write_file("short.idx", bytes, size - 1);
    write_file("long.idx", bytes, size + 1);
    write_file("head.idx", bytes, 9);
    write_file("empty.idx", bytes, 0);
    write_file("foreign.idx", "GIF89a", 6);
    assert_refused("idx:short.idx", KD_EDATA, "short.idx: truncated", "46");
    assert_refused("idx:long.idx", KD_EDATA, "long.idx", "more data");
    assert_refused("idx:head.idx", KD_EDATA, "head.idx: truncated", "header");
    assert_refused("idx:empty.idx", KD_EDATA, "empty.idx", "not an IDX file");
    assert_refused("idx:foreign.idx", KD_EDATA, "foreign.idx", "not an IDX file");
    bytes[2] = 13;
    write_file("float.idx", bytes, size);
    assert_refused("idx:float.idx", KD_EDATA, "float32", ".npy");
    bytes[2] = 8;
    bytes[3] = 7;
    write_file("rank.idx", bytes, size);
    assert_refused("idx:rank.idx", KD_EDATA, "7 dimensions", "rank.idx");
    size = make_idx(bytes, 3, 0);
    write_file("none.idx", bytes, size);
    assert_refused("idx:none.idx", KD_EDATA, "none.idx", "no samples");
}

static void damaged_gzip_files_are_refused(void **state)
{
    uint8_t bytes[256] = {0}, packed[256];
    size_t size = make_idx(bytes, 3, 5);

    (void)state;
    write_gzip("g.gz", bytes, size + 1);
    assert_refused("idx:g.gz", KD_EDATA, "g.gz", "more data");
    write_gzip("g.gz", bytes, size - 1);
    assert_refused("idx:g.gz", KD_EDATA, "g.gz: truncated", "");
    write_gzip("g.gz", bytes, size);
    FILE *file = fopen("g.gz", "rb");
    assert_non_null(file);
    size = fread(packed, 1, sizeof packed, file);
    fclose(file);
    for (size_t cut = 3; cut < size; cut++) {
        write_file("cut.gz", packed, cut);
        assert_refused("idx:cut.gz", KD_EDATA, "cut.gz", "");
    }
    packed[size - 8] ^= 1; /* of the checksum */
    write_file("crc.gz", packed, size);
    assert_refused("idx:crc.gz", KD_EDATA, "crc.gz", "check");
}

static void gzip_bombs_are_refused_before_they_are_inflated(void **state)
{
    uint8_t bytes[64] = {0, 0, 8,    3,    0x7f, 0xff, 0xff, 0xff,
                         0, 0, 0xff, 0xff, 0,    0,    0,    9};

    (void)state;
    write_gzip("bomb.gz", bytes, sizeof bytes);
    assert_refused("idx:bomb.gz", KD_EDATA, "bomb.gz", "cannot come out of");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cifar10_files_are_joined_in_order),
        cmocka_unit_test(cifar100_labels_are_the_fine_ones),
        cmocka_unit_test(damaged_cifar_files_are_refused),
        cmocka_unit_test(unknown_names_are_refused_with_the_known_ones),
        cmocka_unit_test(slices_take_ids_a_to_b),
        cmocka_unit_test(ids_are_positions_in_the_whole_and_stay_in_the_slice),
        cmocka_unit_test(any_sample_of_the_whole_can_be_had),
        cmocka_unit_test(slices_that_hold_nothing_are_refused),
        cmocka_unit_test(an_at_sign_may_be_part_of_a_file_name),
        cmocka_unit_test(the_digest_is_of_content_alone),
        cmocka_unit_test(cifar_in_another_container_is_the_same_data),
        cmocka_unit_test(the_class_map_is_that_of_names_or_numbers),
        cmocka_unit_test(npy_arrays_of_rank_2_to_4_are_samples),
        cmocka_unit_test(other_shapes_and_types_are_refused),
        cmocka_unit_test(channels_last_are_refused_with_the_remedy),
        cmocka_unit_test(labels_of_any_integer_type_are_read),
        cmocka_unit_test(labels_that_are_none_are_refused),
        cmocka_unit_test(without_any_label_there_are_no_classes),
        cmocka_unit_test(floats_must_be_finite),
        cmocka_unit_test(hdf5_datasets_are_samples_and_labels),
        cmocka_unit_test(class_names_bound_the_labels),
        cmocka_unit_test(hdf5_files_that_lack_something_are_refused),
        cmocka_unit_test(truncated_hdf5_files_are_refused),
        cmocka_unit_test(compressed_hdf5_is_the_same_data),
        cmocka_unit_test(hdf5_that_was_never_written_takes_no_memory),
        cmocka_unit_test(idx_files_are_read_compressed_or_not),
        cmocka_unit_test(damaged_idx_files_are_refused),
        cmocka_unit_test(damaged_gzip_files_are_refused),
        cmocka_unit_test(gzip_bombs_are_refused_before_they_are_inflated),
    };

    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
