/* SPDX-License-Identifier: MIT */
/*
 * The engine alone: steps on one batch of 3 x 32 x 32 images and 100 classes that is
 * there already, and forward passes of the same network in inference. A step is the
 * pass forward, the loss of distillation, the pass back, and one of SGD with momentum.
 *
 *     bench_train NETWORK BATCH THREADS [STEPS]      "train N" and "infer N", images/s
 *     bench_train --by-operation NETWORK BATCH THREADS
 *     bench_train --peak THREADS                     "peak N", GFLOP/s
 *
 * NETWORK as in a recipe. By operation: the fastest of 20 steps, layer by layer, the
 * share of all, and, of convolutions, GFLOP/s of the direct method's operations. The
 * peak is that of independent products and sums in registers, on all threads at once.
 */
#include "kd/loss.h"
#include "kd/memory.h"
#include "kd/network.h"
#include "kd/optimizer.h"
#include "kd/progress.h"
#include "kd/random.h"
#include "kd/thread.h"
#include "kd/vector.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLASSES 100
#define WARM_UP 3
#define ROUNDS  20

struct bench {
    struct kd_network *train, *infer;
    struct kd_optimizer *optimizer;
    float *pixels, *soft, *logits, *gradient;
    int32_t *label;
    size_t batch;
    double loss_seconds, optimizer_seconds, copy_seconds; /* of the last step */
};

static void clear(struct bench *b)
{
    kd_optimizer_free(b->optimizer);
    kd_network_free(b->train);
    kd_network_free(b->infer);
    free(b->pixels);
    free(b->soft);
    free(b->logits);
    free(b->gradient);
    free(b->label);
}

static enum kd_status draw(struct bench *b)
{
    const size_t pixels = b->batch * 3 * 32 * 32, logits = b->batch * CLASSES;
    struct kd_random random = kd_random_at(1, KD_RANDOM_TEST, 0, 0);
    enum kd_status status = KD_EBUG;

    KD_TRY(KD_NEW(b->pixels, pixels));
    KD_TRY(KD_NEW(b->soft, logits));
    KD_TRY(KD_NEW(b->logits, logits));
    KD_TRY(KD_NEW(b->gradient, logits));
    KD_TRY(KD_NEW(b->label, b->batch));
    for (size_t i = 0; i < pixels; i++)
        b->pixels[i] = (float)kd_random_normal(&random);
    for (size_t i = 0; i < logits; i++)
        b->soft[i] = (float)kd_random_normal(&random);
    for (size_t n = 0; n < b->batch; n++) {
        kd_softmax(b->soft + n * CLASSES, CLASSES, 1, b->soft + n * CLASSES);
        b->label[n] = (int32_t)kd_random_below(&random, CLASSES);
    }
    status = KD_OK;
out:
    return status;
}

static enum kd_status build(struct bench *b, const char *text)
{
    const struct kd_sizes sizes = {3, 32, 32, CLASSES};
    const struct kd_sgd sgd = {.momentum = 0.9, .weight_decay = 5e-4};
    struct kd_yaml *yaml = NULL;
    struct kd_arch arch;
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_yaml_parse(text, "NETWORK", &yaml));
    KD_TRY(kd_arch_parse(yaml, &arch));
    KD_TRY(kd_network_build(&arch, &sizes, b->batch, true, &b->train));
    KD_TRY(
        kd_network_build(&arch, &sizes, kd_network_piece(b->batch), false, &b->infer));
    KD_TRY(kd_graph_initialise(b->train->graph, 1));
    KD_TRY(kd_optimizer_new(b->train->graph, &sgd, &b->optimizer));
    KD_TRY(draw(b));
    status = KD_OK;
out:
    kd_yaml_free(yaml);
    return status;
}

static enum kd_status step(struct bench *b)
{
    const struct kd_loss loss = {.hard = 0.1,
                                 .soft = 0.9,
                                 .temperature = 4,
                                 .kind = KD_LOSS_KL,
                                 .direction = KD_FORWARD,
                                 .reduction = KD_BATCHMEAN,
                                 .t_squared = true};
    const struct kd_targets targets = {.label = b->label, .soft = b->soft};
    struct kd_loss_sums sums = {0};
    enum kd_status status = KD_EBUG;
    double started = kd_seconds();

    kd_tensor_set(b->train->input, b->pixels, b->batch);
    b->copy_seconds = kd_seconds() - started;
    KD_TRY(kd_graph_forward(b->train->graph));
    started = kd_seconds();
    kd_tensor_get(b->train->logits, b->logits, b->batch);
    KD_TRY(kd_loss_batch(&loss, b->batch, CLASSES, b->logits, &targets, b->gradient,
                         &sums));
    kd_tensor_set_gradient(b->train->logits, b->gradient);
    b->loss_seconds = kd_seconds() - started;
    KD_TRY(kd_graph_backward(b->train->graph));
    started = kd_seconds();
    kd_optimizer_step(b->optimizer, 0.01);
    b->optimizer_seconds = kd_seconds() - started;
    status = KD_OK;
out:
    return status;
}

static enum kd_status infer(struct bench *b)
{
    const size_t piece = kd_graph_batch(b->infer->graph);
    enum kd_status status = KD_EBUG;

    for (size_t at = 0, count; at < b->batch; at += count) {
        count = b->batch - at < piece ? b->batch - at : piece;
        kd_tensor_set(b->infer->input, b->pixels + at * 3 * 32 * 32, count);
        KD_TRY(kd_graph_forward(b->infer->graph));
        kd_tensor_get(b->infer->logits, b->logits + at * CLASSES, count);
    }
    status = KD_OK;
out:
    return status;
}

static enum kd_status time_runs(struct bench *b, enum kd_status (*run)(struct bench *),
                                size_t steps, double *seconds)
{
    enum kd_status status = KD_EBUG;

    for (size_t i = 0; i < WARM_UP; i++)
        KD_TRY(run(b));
    *seconds = -kd_seconds();
    for (size_t i = 0; i < steps; i++)
        KD_TRY(run(b));
    *seconds += kd_seconds();
    status = KD_OK;
out:
    return status;
}

static enum kd_status report_speed(struct bench *b, size_t steps)
{
    const double images = (double)(steps * b->batch);
    double train = 0, inference = 0;
    enum kd_status status = KD_EBUG;

    KD_TRY(time_runs(b, step, steps, &train));
    KD_TRY(kd_graph_copy_parameters(b->infer->graph, b->train->graph));
    KD_TRY(time_runs(b, infer, steps, &inference));
    printf("train %.0f\ninfer %.0f\n", images / train, images / inference);
    printf("memory %.1f\n", (double)kd_graph_memory(b->train->graph) / 1048576);
    status = KD_OK;
out:
    return status;
}

/* -- by operation ------------------------------------------------------- */

/* The fastest run of every layer and pass, by which other work on the machine counts
 * least. */
struct fastest {
    size_t layers;
    double (*seconds)[KD_NUM_PASSES]; /* [layers] */
    double input, loss, optimizer;
};

static double less(double a, double b)
{
    return a < b ? a : b;
}

static enum kd_status time_layers(struct bench *b, const struct kd_graph *graph,
                                  enum kd_status (*run)(struct bench *),
                                  struct fastest *f)
{
    enum kd_status status = KD_EBUG;

    f->layers = kd_graph_num_layers(graph);
    f->input = f->loss = f->optimizer = 1e9;
    KD_TRY(KD_NEW(f->seconds, f->layers));
    for (size_t round = 0; round < ROUNDS; round++) {
        KD_TRY(run(b));
        for (size_t i = 0; i < f->layers; i++)
            for (int p = 0; p < KD_NUM_PASSES; p++) {
                const double now = kd_graph_seconds(graph, i, (enum kd_pass)p);
                f->seconds[i][p] = round == 0 ? now : less(now, f->seconds[i][p]);
            }
        f->input = less(b->copy_seconds, f->input);
        f->loss = less(b->loss_seconds, f->loss);
        f->optimizer = less(b->optimizer_seconds, f->optimizer);
    }
    status = KD_OK;
out:
    return status;
}

static void write_line(const char *kind, const char *pass, double seconds, double all,
                       double operations)
{
    printf("%-14s %-22s %9.1f us %5.1f %%", kind, pass, 1e6 * seconds,
           100 * seconds / all);
    if (operations > 0)
        printf(" %8.1f GFLOP/s", 1e-9 * operations / seconds);
    putchar('\n');
}

/* One line for a pass of all layers of the kind that layer `first` is the first of. */
static void write_kind(const struct kd_graph *graph, const struct fastest *f,
                       size_t first, double all)
{
    static const char *const passes[KD_NUM_PASSES] = {
        "forward", "backward", "gradient of weights", "copies of weights"};
    struct kd_layer_facts kind, facts;

    kd_graph_layer(graph, first, &kind);
    for (int p = 0; p < KD_NUM_PASSES; p++) {
        double seconds = 0, operations = 0;
        for (size_t i = first; i < f->layers; i++) {
            kd_graph_layer(graph, i, &facts);
            if (strcmp(kind.kind, facts.kind) != 0 || f->seconds[i][p] <= 0)
                continue;
            seconds += f->seconds[i][p];
            if (p != KD_PASS_COPIES && strcmp(kind.kind, "convolution") == 0)
                operations +=
                    2.0 * (double)facts.multiply_adds * (double)kd_graph_batch(graph);
        }
        if (seconds > 0)
            write_line(kind.kind, passes[p], seconds, all, operations);
    }
}

static bool is_first_of_kind(const struct kd_graph *graph, size_t index)
{
    struct kd_layer_facts facts, earlier;

    kd_graph_layer(graph, index, &facts);
    for (size_t i = 0; i < index; i++) {
        kd_graph_layer(graph, i, &earlier);
        if (strcmp(earlier.kind, facts.kind) == 0)
            return false;
    }
    return true;
}

static void write_table(const struct kd_graph *graph, const struct fastest *f,
                        bool training)
{
    double all = training ? f->input + f->loss + f->optimizer : 0;

    for (size_t i = 0; i < f->layers; i++)
        for (int p = 0; p < KD_NUM_PASSES; p++)
            all += f->seconds[i][p];
    for (size_t i = 0; i < f->layers; i++)
        if (is_first_of_kind(graph, i))
            write_kind(graph, f, i, all);
    if (training) {
        write_line("input", "", f->input, all, 0);
        write_line("loss", "", f->loss, all, 0);
        write_line("optimiser", "", f->optimizer, all, 0);
    }
    write_line("in all", "", all, all, 0);
}

static enum kd_status report_operations(struct bench *b)
{
    struct fastest training = {0}, inference = {0};
    enum kd_status status = KD_EBUG;

    KD_TRY(time_layers(b, b->train->graph, step, &training));
    printf("a step of training\n");
    write_table(b->train->graph, &training, true);
    KD_TRY(kd_graph_copy_parameters(b->infer->graph, b->train->graph));
    KD_TRY(time_layers(b, b->infer->graph, infer, &inference));
    printf("inference, %zu at a time\n", kd_graph_batch(b->infer->graph));
    write_table(b->infer->graph, &inference, false);
    status = KD_OK;
out:
    free(training.seconds);
    free(inference.seconds);
    return status;
}

/* -- the machine's peak ------------------------------------------------- */

#define SUMS  12
#define TURNS 400000

/* Twelve chains of products and sums, of as many lanes as a register has: more than two
 * units with a latency of four have in flight. */
#define CHAINS(bytes)                                                                  \
    typedef float lanes __attribute__((vector_size(bytes)));                           \
    lanes sum[SUMS], factor = (lanes){0} + x;                                          \
    for (size_t i = 0; i < SUMS; i++)                                                  \
        sum[i] = (lanes){0} + (float)i;                                                \
    for (size_t turn = 0; turn < TURNS; turn++)                                        \
        _Pragma("GCC unroll 12") for (size_t i = 0; i < SUMS; i++) sum[i] =            \
            sum[i] * factor + factor;                                                  \
    for (size_t i = 1; i < SUMS; i++)                                                  \
        sum[0] += sum[i];                                                              \
    return sum[0][0];

/* A product and its sum in one instruction. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("fp-contract=fast")
#endif
__attribute__((target("avx512f"))) static float chains_64(float x)
{
    CHAINS(64)
}

__attribute__((target("avx2,fma"))) static float chains_32(float x)
{
    CHAINS(32)
}

static float chains_16(float x)
{
    CHAINS(16)
}

static double peak(size_t threads)
{
    float (*chains)(float) = chains_16;
    double lanes = 4, seconds = 1e9;
    float sink = 0;

    if (__builtin_cpu_supports("avx512f"))
        chains = chains_64, lanes = 16;
    else if (__builtin_cpu_supports("fma"))
        chains = chains_32, lanes = 8;
    for (int i = 0; i < 100; i++) {
        double started = kd_seconds();
#pragma omp parallel for reduction(+ : sink) num_threads((int)threads)
        for (size_t t = 0; t < threads; t++)
            sink += chains(0.5F + (float)t / 1024);
        started = kd_seconds() - started;
        seconds = started < seconds ? started : seconds;
    }
    if (sink == 0)
        putchar(' ');
    return 2.0 * lanes * SUMS * TURNS * (double)threads / seconds;
}

int main(int argc, char **argv)
{
    const bool by_operation = argc == 5 && strcmp(argv[1], "--by-operation") == 0;
    struct bench b = {0};
    enum kd_status status;

    kd_threads_share(argv);
    if (argc == 3 && strcmp(argv[1], "--peak") == 0) {
        printf("peak %.1f\n", 1e-9 * peak(strtoul(argv[2], NULL, 10)));
        return 0;
    }
    if (argc < 4 || argc > 5) {
        fprintf(stderr, "usage: bench_train [--by-operation] NETWORK BATCH THREADS "
                        "[STEPS]\n");
        return 64;
    }
    argv += by_operation ? 2 : 1;
    b.batch = (size_t)strtoul(argv[1], NULL, 10);
    kd_threads_set((size_t)strtoul(argv[2], NULL, 10));
    status = build(&b, argv[0]);
    if (status == KD_OK)
        status = by_operation
                     ? report_operations(&b)
                     : report_speed(&b, argc == 5 ? strtoul(argv[3], NULL, 10) : 10);
    if (status != KD_OK)
        fprintf(stderr, "bench_train: %s\n", kd_error());
    clear(&b);
    return status == KD_OK ? 0 : 1;
}
