/* SPDX-License-Identifier: MIT */
/* What the tests of teachers, dumps and evaluations share: small datasets, and
 * networks with random weights. Functions of their arguments alone. */
#ifndef KD_TESTS_TEACH_FIXTURE_H
#define KD_TESTS_TEACH_FIXTURE_H

#include "cache_fixture.h"

#include "kd/dataset.h"
#include "kd/model.h"
#include "kd/npy.h"
#include "kd/teacher.h"
#include "kd/yaml.h"

#define FIXTURE_CLASSES  8
#define FIXTURE_CHANNELS 3
#define FIXTURE_SIDE     8
#define FIXTURE_SAMPLE   (FIXTURE_CHANNELS * FIXTURE_SIDE * FIXTURE_SIDE)

/* NAME.x.npy of random pixels and NAME.y.npy of labels; returns the DATASET. */
static inline const char *fixture_images(const char *name, size_t samples,
                                         uint64_t seed)
{
    static char dataset[16384 + 16];
    char x[8192], y[8192], file[256];
    uint8_t *pixels = calloc(samples, FIXTURE_SAMPLE);
    int32_t *labels = calloc(samples, sizeof *labels);

    snprintf(file, sizeof file, "%s.x.npy", name);
    snprintf(x, sizeof x, "%s", fixture_path(file));
    snprintf(file, sizeof file, "%s.y.npy", name);
    snprintf(y, sizeof y, "%s", fixture_path(file));
    for (size_t n = 0; n < samples; n++) {
        struct kd_random r = kd_random_at(seed, KD_RANDOM_TEST, n, 0);

        labels[n] = fixture_label(n, FIXTURE_CLASSES);
        for (size_t i = 0; i < FIXTURE_SAMPLE; i++)
            pixels[n * FIXTURE_SAMPLE + i] = (uint8_t)kd_random_below(&r, 256);
    }
    assert_int_equal(kd_npy_write(x, KD_U8, 4,
                                  (const uint64_t[]){samples, FIXTURE_CHANNELS,
                                                     FIXTURE_SIDE, FIXTURE_SIDE},
                                  pixels),
                     KD_OK);
    assert_int_equal(kd_npy_write(y, KD_I32, 1, (const uint64_t[]){samples}, labels),
                     KD_OK);
    free(pixels);
    free(labels);
    snprintf(dataset, sizeof dataset, "npy:%s,%s", x, y);
    return dataset;
}

/* Builds a network for the images, with weights drawn from `seed`. */
static inline struct kd_network *fixture_build(const char *arch, size_t classes,
                                               uint64_t seed, size_t batch)
{
    const struct kd_sizes sizes = {FIXTURE_CHANNELS, FIXTURE_SIDE, FIXTURE_SIDE,
                                   classes};
    struct kd_network *network = NULL;
    struct kd_yaml *yaml = NULL;
    struct kd_arch parsed;

    assert_int_equal(kd_yaml_parse(arch, "test", &yaml), KD_OK);
    assert_int_equal(kd_arch_parse(yaml, &parsed), KD_OK);
    kd_yaml_free(yaml);
    assert_int_equal(kd_network_build(&parsed, &sizes, batch, false, &network), KD_OK);
    assert_int_equal(kd_graph_initialise(network->graph, seed), KD_OK);
    return network;
}

static const double fixture_mean[3] = {0.4, 0.5, 0.6};
static const double fixture_deviation[3] = {0.25, 0.3, 0.2};

static inline void fixture_save(const struct kd_network *network, const char *path)
{
    struct kd_model model = {.arch = network->arch,
                             .sizes = network->sizes,
                             .num_normalize = FIXTURE_CHANNELS,
                             .epoch = 1};

    memcpy(model.mean, fixture_mean, sizeof fixture_mean);
    memcpy(model.deviation, fixture_deviation, sizeof fixture_deviation);
    assert_int_equal(kd_class_map_digest(NULL, (uint32_t)network->sizes.classes,
                                         &model.class_map_digest),
                     KD_OK);
    assert_int_equal(kd_model_save(path, &model, network->graph, "a test"), KD_OK);
}

/* Saves a network as `name` and returns "model:PATH". */
static inline const char *fixture_model(const char *name, const char *arch,
                                        size_t classes, uint64_t seed)
{
    static char teachers[8][8192];
    static unsigned next;
    char *teacher = teachers[next++ % 8];
    struct kd_network *network = fixture_build(arch, classes, seed, 1);

    fixture_save(network, fixture_path(name));
    kd_network_free(network);
    snprintf(teacher, sizeof teachers[0], "model:%s", fixture_path(name));
    return teacher;
}

/* A sample as the network wants it, from the formula. */
static inline void fixture_input(const uint8_t *pixels, float *input)
{
    const size_t plane = FIXTURE_SIDE * FIXTURE_SIDE;

    for (size_t i = 0; i < FIXTURE_SAMPLE; i++)
        input[i] = (float)((pixels[i] / 255.0 - fixture_mean[i / plane]) /
                           fixture_deviation[i / plane]);
}

#endif
