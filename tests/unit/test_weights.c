/* SPDX-License-Identifier: MIT */
/* Weights from every container, under all names and types that are promised. */
#include "kd/weights.h"

#include "data_fixture.h"

#include "kd/file.h"
#include "kd/half.h"
#include "kd/model.h"
#include "kd/safetensors.h"

#include <math.h>
#include <sys/stat.h>

/* A convolution of 3 to 4 channels with a batch norm, another without, a dense layer:
 * the arrays of its state_dict. */
struct item {
    const char *name;
    size_t rank;
    uint64_t shape[4];
};
static const struct item items[] = {
    {"bn1.bias", 1, {4}},
    {"bn1.running_mean", 1, {4}},
    {"bn1.running_var", 1, {4}},
    {"bn1.weight", 1, {4}},
    {"conv1.weight", 4, {4, 3, 3, 3}},
    {"conv2.weight", 4, {4, 4, 1, 1}},
    {"fc.bias", 1, {2}},
    {"fc.weight", 2, {2, 4}},
};
#define ITEMS (sizeof items / sizeof items[0])
#define MOST  108

static struct kd_graph *make_graph(bool training)
{
    struct kd_graph *g = NULL;
    struct kd_tensor *x;

    assert_ok(kd_graph_new(1, training, &g));
    x = kd_graph_input(g, 3, 4, 4);
    x = kd_graph_conv(g, x, "conv1", &(struct kd_conv){4, 3, 1, 1});
    x = kd_graph_batch_norm(g, x, NULL, true, "bn1");
    x = kd_graph_conv(g, x, "conv2", &(struct kd_conv){4, 1, 1, 0});
    x = kd_graph_dense(g, kd_graph_average_pool(g, x), "fc", 2);
    kd_graph_output(g, x);
    assert_ok(kd_graph_plan(g));
    return g;
}

static size_t count_of(const struct item *item)
{
    size_t count = 1;

    for (size_t i = 0; i < item->rank; i++)
        count *= (size_t)item->shape[i];
    return count;
}

/* Values that all types hold exactly: eighths from 1/8 to 27/8. */
static float value_of(size_t item, size_t i)
{
    return (float)((item * 5 + i * 7) % 27 + 1) / 8;
}

static void put(enum kd_type type, float value, void *to, size_t i)
{
    if (type == KD_F64)
        ((double *)to)[i] = value;
    else if (type == KD_F16)
        ((uint16_t *)to)[i] = kd_half_from_float_one(value);
    else if (type == KD_BF16)
        ((uint16_t *)to)[i] = kd_bf16_from_float_one(value);
    else
        ((float *)to)[i] = value;
}

/* The bytes of an item, of up to MOST values. */
static const void *bytes_of(size_t item, enum kd_type type)
{
    static double bytes[MOST];

    for (size_t i = 0; i < count_of(&items[item]); i++)
        put(type, value_of(item, i), bytes, i);
    return bytes;
}

/* -- sources -------------------------------------------------------------------- */

/* Each item is called prefix + its name. */
static void write_h5(const char *path, enum kd_type type, const char *prefix)
{
    struct kd_h5 *file = NULL;
    char name[128];

    assert_ok(kd_h5_create(path, &file));
    for (size_t i = 0; i < ITEMS; i++) {
        snprintf(name, sizeof name, "%s%s", prefix, items[i].name);
        assert_ok(kd_h5_write(file, name, type, items[i].rank, items[i].shape,
                              bytes_of(i, type), NULL));
    }
    assert_ok(kd_h5_finish(file));
}

static void write_npy(const char *directory, enum kd_type type, const char *prefix)
{
    char path[160];

    assert_ok(kd_make_directory(directory));
    for (size_t i = 0; i < ITEMS; i++) {
        snprintf(path, sizeof path, "%s/%s%s.npy", directory, prefix, items[i].name);
        assert_ok(
            kd_npy_write(path, type, items[i].rank, items[i].shape, bytes_of(i, type)));
    }
}

static void write_tensors(const char *path, enum kd_type type, const char *prefix)
{
    struct kd_safetensor tensors[ITEMS + 1] = {
        [ITEMS] = {.name = "bn1.num_batches_tracked", .info = {.type = KD_I64}}};
    struct kd_safetensors_writer *writer = NULL;
    const int64_t batches = 7;
    char names[ITEMS][64];

    for (size_t i = 0; i < ITEMS; i++) {
        snprintf(names[i], sizeof names[i], "%s%s", prefix, items[i].name);
        tensors[i].name = names[i];
        tensors[i].info.type = type;
        tensors[i].info.rank = items[i].rank;
        memcpy(tensors[i].info.shape, items[i].shape, sizeof items[i].shape);
    }
    unlink(path);
    assert_ok(kd_safetensors_create(path, tensors, ITEMS + 1, NULL, &writer));
    for (size_t i = 0; i < ITEMS; i++)
        assert_ok(kd_safetensors_append(writer, i, bytes_of(i, type),
                                        count_of(&items[i]) * kd_type_size(type)));
    assert_ok(kd_safetensors_append(writer, ITEMS, &batches, sizeof batches));
    assert_ok(kd_safetensors_commit(writer));
}

/* Adds an array to an HDF5 file. */
static void add(const char *path, const char *name, enum kd_type type, size_t rank,
                const uint64_t *shape, const void *data)
{
    struct kd_h5 *file = NULL;

    assert_ok(kd_h5_open_rw(path, &file));
    assert_ok(kd_h5_write(file, name, type, rank, shape, data, NULL));
    assert_ok(kd_h5_finish(file));
}

/* -- what comes of them ----------------------------------------------------------- */

static void get(const struct kd_graph *graph, const char *name, float *plain)
{
    for (size_t i = 0; i < kd_graph_num_parameters(graph); i++) {
        const struct kd_parameter *p = kd_graph_parameter(graph, i);
        if (strcmp(p->name, name) == 0)
            kd_parameter_get(p, p->value, plain);
    }
}

static void loads(const char *path, const char *renames)
{
    struct kd_graph *graph = make_graph(false);
    float plain[MOST];

    assert_ok(kd_weights_load(path, renames, graph));
    for (size_t i = 0; i < ITEMS; i++) {
        get(graph, items[i].name, plain);
        for (size_t k = 0; k < count_of(&items[i]); k++)
            if (plain[k] != value_of(i, k))
                fail_msg("%s: %s: element %zu is %g", path, items[i].name, k,
                         (double)plain[k]);
    }
    kd_graph_free(graph);
}

static void refuses(const char *path, const char *renames, enum kd_status why,
                    const char *message)
{
    struct kd_graph *graph = make_graph(false);

    assert_int_equal(kd_weights_load(path, renames, graph), why);
    if (strstr(kd_error(), message) == NULL)
        fail_msg("'%s' lacks '%s'", kd_error(), message);
    kd_graph_free(graph);
}

static void every_container_and_type_gives_the_same(void **state)
{
    static const enum kd_type types[] = {KD_F32, KD_F64, KD_F16, KD_BF16};

    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        char npy[32];
        write_tensors("x.safetensors", types[i], "");
        loads("x.safetensors", NULL);
        if (types[i] == KD_BF16)
            continue; /* NumPy has none */
        write_h5("x.h5", types[i], "");
        loads("x.h5", NULL);
        snprintf(npy, sizeof npy, "npy-%d", (int)types[i]);
        write_npy(npy, types[i], "");
        loads(npy, NULL);
    }
}

static void the_wrapper_of_data_parallel_is_taken_off(void **state)
{
    (void)state;
    write_tensors("module.safetensors", KD_F32, "module.");
    loads("module.safetensors", NULL);
    write_h5("module.h5", KD_F32, "module.");
    loads("module.h5", NULL);
    write_npy("module", KD_F32, "module.");
    loads("module", NULL);
}

static void a_group_of_a_file_is_chosen(void **state)
{
    const float other = 1;

    (void)state;
    write_h5("groups.h5", KD_F32, "run/best/");
    add("groups.h5", "lr", KD_F32, 0, NULL, &other);
    loads("groups.h5:/run/best", NULL);
    loads("groups.h5:/run/best/", NULL);
    refuses("groups.h5", NULL, KD_EDATA, "run.best.bn1.bias");
    refuses("groups.h5:/run", NULL, KD_EDATA, "best.bn1.bias");
    refuses("groups.h5:/run/last", NULL, KD_EDATA, "there is no group /run/last");
    refuses("x.safetensors:/run", NULL, KD_EDATA, "no HDF5 file");
    write_h5("slashes.h5", KD_F32, "state_dict/net/deep/");
    loads("slashes.h5", "net.deep=");
}

static void a_saved_network_is_a_source(void **state)
{
    const struct kd_arch arch = {.family = KD_FAMILY_RESNET, .depth = 8, .width = 4};
    const struct kd_model model = {.arch = arch, .sizes = {3, 8, 8, 2}};
    struct kd_network *from = NULL, *to = NULL;
    float a[MOST], b[MOST];

    (void)state;
    assert_ok(kd_network_build(&arch, &model.sizes, 1, true, &from));
    assert_ok(kd_graph_initialise(from->graph, 3));
    assert_ok(kd_model_save("model.h5", &model, from->graph, "a test"));
    assert_ok(kd_network_build(&arch, &model.sizes, 2, false, &to));
    assert_ok(kd_weights_load("model.h5", NULL, to->graph));
    get(from->graph, "conv1.weight", a);
    get(to->graph, "conv1.weight", b);
    assert_memory_equal(a, b, 4 * 3 * 9 * sizeof *a);
    kd_network_free(from);
    kd_network_free(to);
}

static void names_are_given_others(void **state)
{
    (void)state;
    write_h5("backbone.h5", KD_F32, "backbone.");
    loads("backbone.h5", "backbone=");
    loads("backbone.h5", "back=x,backbone.fc.bias=fc.bias,backbone=");
    refuses("backbone.h5", "back=", KD_EDATA, "backbone.bn1.bias");
    loads("backbone.h5", "backbone.conv1=conv1,backbone.conv2=conv2,"
                         "backbone.bn1=bn1,backbone.fc=fc");
    refuses("backbone.h5", "backbone.conv1=conv2,backbone=", KD_EDATA,
            "are both the array conv2.weight");
    refuses("backbone.h5", "backbone", KD_EUSAGE, "'backbone'");
    refuses("backbone.h5", "a=b,=c", KD_EUSAGE, "'=c'");
}

/* conv + bias, less (mean + bias), is what it was. */
static void check_folding(bool training, const float bias[4])
{
    struct kd_graph *graph = make_graph(training);
    float mean[4];

    assert_ok(kd_weights_load("bias.h5", NULL, graph));
    get(graph, "bn1.running_mean", mean);
    for (size_t i = 0; i < 4; i++)
        assert_true(mean[i] == value_of(1, i) - bias[i]);
    kd_graph_free(graph);
}

static void a_bias_before_a_batch_norm_is_folded(void **state)
{
    const uint64_t shape[] = {4}, five[] = {5};
    const float bias[] = {1, -2, 0.5F, 4, 0};

    (void)state;
    write_h5("bias.h5", KD_F32, "");
    add("bias.h5", "conv1.bias", KD_F32, 1, shape, bias);
    check_folding(false, bias);
    check_folding(true, bias);
    add("bias.h5", "conv2.bias", KD_F32, 1, shape, bias);
    refuses("bias.h5", NULL, KD_EDATA, "weights: unexpected conv2.bias");
    write_h5("bias.h5", KD_F32, "");
    add("bias.h5", "conv1.bias", KD_F32, 1, five, bias);
    refuses("bias.h5", NULL, KD_EDATA, "conv1.bias is [5], in the network it is [4]");
}

static void wrong_names_are_listed(void **state)
{
    const uint64_t shape[] = {1};
    const float value = 0;
    char name[16];

    (void)state;
    write_npy("few", KD_F32, "");
    assert_int_equal(remove("few/fc.bias.npy"), 0);
    refuses("few", NULL, KD_EDATA, "few: not this network's weights: missing fc.bias");
    assert_int_equal(rename("few/fc.weight.npy", "few/linear.weight.npy"), 0);
    refuses("few", NULL, KD_EDATA,
            "missing fc.weight, fc.bias; unexpected linear.weight (FROM=TO renames)");
    write_h5("many.h5", KD_F32, "");
    for (int i = 0; i < 6; i++) {
        snprintf(name, sizeof name, "aux%d", i);
        add("many.h5", name, KD_F32, 1, shape, &value);
    }
    refuses("many.h5", NULL, KD_EDATA,
            "weights: unexpected aux0, aux1, aux2, aux3 and 2 more");
}

static void wrong_arrays_are_refused(void **state)
{
    const uint64_t flat[] = {8}, turned[] = {4, 2}, pair[] = {2};
    const float eight[8] = {0};
    const int64_t whole[] = {1, 2};
    const double large[] = {1, 1e39}, nan[] = {(double)NAN, 1};

    (void)state;
    write_npy("bad", KD_F32, "");
    assert_ok(kd_npy_write("bad/fc.weight.npy", KD_F32, 2, turned, eight));
    refuses("bad", NULL, KD_EDATA,
            "bad: fc.weight is [4][2], in the network it is [2][4]");
    assert_ok(kd_npy_write("bad/fc.weight.npy", KD_F32, 1, flat, eight));
    refuses("bad", NULL, KD_EDATA, "fc.weight is [8], in the network it is [2][4]");
    assert_ok(kd_npy_write("bad/fc.weight.npy", KD_F32, 0, NULL, eight));
    refuses("bad", NULL, KD_EDATA, "fc.weight is a single value");
    assert_ok(kd_npy_write("bad/fc.weight.npy", KD_F32, 2, items[7].shape, eight));
    assert_ok(kd_npy_write("bad/fc.bias.npy", KD_I64, 1, pair, whole));
    refuses("bad", NULL, KD_EDATA, "fc.bias is int64, not floating-point");
    assert_ok(kd_npy_write("bad/fc.bias.npy", KD_F64, 1, pair, large));
    refuses("bad", NULL, KD_EDATA, "fc.bias: element 1 is not a finite float32");
    assert_ok(kd_npy_write("bad/fc.bias.npy", KD_F64, 1, pair, nan));
    refuses("bad", NULL, KD_EDATA, "fc.bias: element 0 is not a finite float32");
}

static void what_is_no_source_is_refused(void **state)
{
    (void)state;
    refuses("nowhere", NULL, KD_ENOINPUT, "nowhere: cannot open");
    refuses("nowhere.h5:/x", NULL, KD_ENOINPUT, "nowhere.h5: cannot open");
    assert_int_equal(mkdir("empty", 0700), 0);
    refuses("empty", NULL, KD_EDATA, "empty: there are no arrays");
    write_file("new.pt", "PK\3\4 and so on", 14);
    refuses("new.pt", NULL, KD_EDATA, "new.pt: a Python pickle");
    write_file("a.npz", "PK\3\4 and so on", 14);
    refuses("a.npz", NULL, KD_EDATA, "a.npz: neither .safetensors nor HDF5");
    write_file("old.pth", "\x80\2\x8a\nl\xfc\x9c", 7);
    refuses("old.pth", NULL, KD_EDATA, "old.pth: a Python pickle");
    write_file("text", "weights", 7);
    refuses("text", NULL, KD_EDATA, "text: neither .safetensors nor HDF5");
    write_file("nothing", "", 0);
    refuses("nothing", NULL, KD_EDATA, "nothing: neither .safetensors nor HDF5");
    write_file("cut.safetensors", "\1\0\0", 3);
    refuses("cut.safetensors", NULL, KD_EDATA, "cut.safetensors: ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_container_and_type_gives_the_same),
        cmocka_unit_test(the_wrapper_of_data_parallel_is_taken_off),
        cmocka_unit_test(a_group_of_a_file_is_chosen),
        cmocka_unit_test(a_saved_network_is_a_source),
        cmocka_unit_test(names_are_given_others),
        cmocka_unit_test(a_bias_before_a_batch_norm_is_folded),
        cmocka_unit_test(wrong_names_are_listed),
        cmocka_unit_test(wrong_arrays_are_refused),
        cmocka_unit_test(what_is_no_source_is_refused),
    };

    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
