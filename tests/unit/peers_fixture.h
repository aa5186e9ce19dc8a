/* SPDX-License-Identifier: MIT */
/* Networks that learn together, opened in this process, step by step. */
#ifndef PEERS_FIXTURE_H
#define PEERS_FIXTURE_H

#include "train_fixture.h"

#include "kd/peers.h"

#include "peers/engine_internal.h"

struct bench {
    struct kd_peers_recipe recipe;
    struct kd_option options[KD_PEERS_OPTIONS];
    struct kd_program program;
    struct kd_peers_private own;
    struct kd_peers p;
};

/* Parses and checks: what kd-peers does before a run. To be closed, also after a
 * failure. */
static inline enum kd_status parse_bench(struct bench *b, const char *const *arguments)
{
    char *argv[MAX_ARGUMENTS + 1] = {NULL};
    enum kd_status status;

    *b = (struct bench){0};
    b->program = (struct kd_program){.name = "kd-peers",
                                     .summary = "",
                                     .operands = "",
                                     .options = b->options,
                                     .common = KD_COMMON_ALL};
    kd_peers_recipe_init(&b->recipe);
    kd_peers_recipe_options(&b->recipe, b->options);
    status = kd_program_parse(&b->program, copy_arguments(arguments, argv), argv);
    return status == KD_OK ? kd_peers_recipe_check(&b->recipe, &b->program) : status;
}

#define PEERS         "kd-peers", "--quiet", "--threads=1", "--batch=16"
#define PARSE(b, ...) parse_bench((b), (const char *const[]){PEERS, __VA_ARGS__, NULL})

/* Opens what was parsed: the teams have their first weights. */
static inline enum kd_status try_bench(struct bench *b)
{
    b->p = (struct kd_peers){.recipe = &b->recipe, .private = &b->own};
    b->own.directory = fixture_directory;
    return kd_peers_open(&b->p);
}

static inline void open_bench(struct bench *b)
{
    if (try_bench(b) != KD_OK)
        fail_msg("%s", kd_error());
}

#define OPEN(b, ...)                                                                   \
    do {                                                                               \
        if (PARSE(b, __VA_ARGS__) != KD_OK)                                            \
            fail_msg("%s", kd_error());                                                \
        open_bench(b);                                                                 \
    } while (0)

static inline void close_bench(struct bench *b)
{
    if (b->p.private != NULL)
        kd_peers_close(&b->p);
    kd_options_close(&b->program);
}

static inline void take_step(struct bench *b, uint64_t step)
{
    assert_int_equal(kd_peers_begin_step(&b->p, step), KD_OK);
    if (b->recipe.chosen->step(&b->p) != KD_OK)
        fail_msg("%s", kd_error());
}

static inline void take_epochs(struct bench *b, int count)
{
    for (int epoch = 0; epoch < count; epoch++) {
        kd_peers_begin_epoch(&b->p);
        for (uint64_t step = 0; step < b->p.steps; step++)
            take_step(b, step);
        b->own.done++;
    }
}

/* What was refused with that status and those words. */
static inline void assert_refused(enum kd_status due, const char *words,
                                  struct bench *b, enum kd_status got)
{
    if (got != due || strstr(kd_error(), words) == NULL)
        fail_msg("status %d, '%s', where '%s' is due", (int)got, kd_error(), words);
    close_bench(b);
}

#define REFUSED(status, words, ...)                                                    \
    do {                                                                               \
        struct bench bench;                                                            \
        const enum kd_status got = PARSE(&bench, __VA_ARGS__);                         \
        assert_refused((status), (words), &bench, got);                                \
    } while (0)

/* A recipe that is one, whose networks cannot be built. */
#define NOT_OPENED(status, words, ...)                                                 \
    do {                                                                               \
        struct bench bench;                                                            \
        assert_int_equal(PARSE(&bench, __VA_ARGS__), KD_OK);                           \
        assert_refused((status), (words), &bench, try_bench(&bench));                  \
    } while (0)

/* Every value of a graph's parameters, plain, one behind the other. */
static inline float *weights_of(const struct kd_graph *graph, size_t *count)
{
    float *all;

    *count = 0;
    for (size_t i = 0; i < kd_graph_num_parameters(graph); i++)
        *count += kd_graph_parameter(graph, i)->count;
    all = kd_alloc(*count, sizeof *all);
    assert_non_null(all);
    *count = 0;
    for (size_t i = 0; i < kd_graph_num_parameters(graph); i++) {
        const struct kd_parameter *p = kd_graph_parameter(graph, i);
        kd_parameter_get(p, p->value, all + *count);
        *count += p->count;
    }
    return all;
}

static inline void assert_same_weights(const struct kd_graph *a,
                                       const struct kd_graph *b)
{
    size_t n = 0, m = 0;
    float *x = weights_of(a, &n), *y = weights_of(b, &m);

    assert_int_equal(n, m);
    assert_memory_equal(x, y, n * sizeof *x);
    free(x);
    free(y);
}

#endif
