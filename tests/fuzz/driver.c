/* SPDX-License-Identifier: MIT */
/* Seeds and scratch files of fuzz targets; and where there is no libFuzzer, a main() in
 * its place. */
#include "fuzz.h"

#include "kd/random.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_SEEDS 64
#define MAX_SIZE  65536

static void give_up(const char *what)
{
    perror(what);
    exit(1);
}

/* -- scratch files ---------------------------------------------------------- */

static char scratch[PATH_MAX - 256];

static void remove_scratch(void)
{
    DIR *directory = opendir(scratch);
    const struct dirent *each = NULL;
    char path[PATH_MAX];

    while (directory != NULL && (each = readdir(directory)) != NULL) {
        snprintf(path, sizeof path, "%s/%s", scratch, each->d_name);
        unlink(path);
    }
    if (directory != NULL)
        closedir(directory);
    rmdir(scratch);
}

static void make_scratch(void)
{
    const char *base = getenv("TMPDIR");

    if (scratch[0] != '\0')
        return;
    snprintf(scratch, sizeof scratch, "%s/kd-fuzz-XXXXXX",
             base != NULL ? base : "/tmp");
    if (mkdtemp(scratch) == NULL)
        give_up(scratch);
    atexit(remove_scratch);
}

/* One of a few, in turns. */
const char *kd_fuzz_path(const char *name)
{
    static char paths[8][PATH_MAX];
    static unsigned next;
    char *path = paths[next++ % 8];

    make_scratch();
    snprintf(path, PATH_MAX, "%s/%s", scratch, name);
    return path;
}

static void write_file(const char *path, const void *data, size_t size)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);

    if (fd < 0 || (size > 0 && write(fd, data, size) != (ssize_t)size))
        give_up(path);
    close(fd);
}

const char *kd_fuzz_file(const char *name, const void *data, size_t size)
{
    const char *path = kd_fuzz_path(name);

    write_file(path, data, size);
    return path;
}

void kd_fuzz_expect(int fine, const char *what)
{
    if (fine)
        return;
    fprintf(stderr, "not as it should be: %s\n", what);
    abort();
}

/* -- seeds ------------------------------------------------------------------ */

static struct {
    uint8_t *data;
    size_t size;
} seeds[MAX_SEEDS];
static size_t num_seeds;

void kd_fuzz_seed(const void *data, size_t size)
{
    if (num_seeds == MAX_SEEDS || size > MAX_SIZE) {
        fprintf(stderr, "too many seeds, or too large a one\n");
        exit(1);
    }
    seeds[num_seeds].data = malloc(size + 1);
    if (seeds[num_seeds].data == NULL)
        give_up("a seed");
    if (size > 0)
        memcpy(seeds[num_seeds].data, data, size);
    seeds[num_seeds++].size = size;
}

static void free_seeds(void)
{
    while (num_seeds > 0)
        free(seeds[--num_seeds].data);
}

static void take_seeds(void)
{
    const char *directory = getenv("KD_FUZZ_SEEDS");
    char path[PATH_MAX];

    kd_fuzz_seeds();
    atexit(free_seeds);
    for (size_t i = 0; i < num_seeds && directory != NULL; i++) {
        snprintf(path, sizeof path, "%s/seed-%02zu", directory, i);
        write_file(path, seeds[i].data, seeds[i].size);
    }
}

#ifdef KD_LIBFUZZER

int LLVMFuzzerInitialize(int *argc, char ***argv);

/* libFuzzer calls it before it looks into its directories. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    take_seeds();
    return 0;
}

#else

/* -- mutation --------------------------------------------------------------- */

struct input {
    uint8_t data[2 * MAX_SIZE];
    size_t size;
};

static size_t below(struct kd_random *r, size_t n)
{
    return n > 0 ? kd_random_below(r, (uint32_t)n) : 0;
}

/* A number that readers of sizes stumble over, in either order of bytes. */
static void put_number(struct kd_random *r, uint8_t *to, size_t bytes)
{
    static const uint64_t numbers[] = {0,
                                       1,
                                       0x7f,
                                       0x80,
                                       0xff,
                                       0x7fff,
                                       0xffff,
                                       0x10000,
                                       0x7fffffff,
                                       0x80000000,
                                       0xffffffff,
                                       0x100000000,
                                       0x7fffffffffffffff,
                                       0xffffffffffffffff};
    const uint64_t number = numbers[below(r, sizeof numbers / sizeof *numbers)];
    const size_t flip = below(r, 2) * (bytes - 1);

    for (size_t i = 0; i < bytes; i++)
        to[i ^ flip] = (uint8_t)(number >> 8 * i);
}

/* Puts a piece of another seed into the input. */
static void splice(struct kd_random *r, struct input *input)
{
    const size_t other = below(r, num_seeds);
    const size_t from = below(r, seeds[other].size + 1);
    const size_t size = below(r, seeds[other].size - from + 1);
    const size_t at = below(r, input->size + 1);

    if (input->size + size > MAX_SIZE)
        return;
    memmove(input->data + at + size, input->data + at, input->size - at);
    memcpy(input->data + at, seeds[other].data + from, size);
    input->size += size;
}

static void remove_block(struct kd_random *r, struct input *input)
{
    const size_t at = below(r, input->size);
    const size_t size = below(r, input->size - at) + 1;

    memmove(input->data + at, input->data + at + size, input->size - at - size);
    input->size -= size;
}

static void mutate(struct kd_random *r, struct input *input)
{
    const size_t at = below(r, input->size), bytes = (size_t)1 << below(r, 4);

    if (input->size == 0) {
        splice(r, input);
        return;
    }
    switch (below(r, 6)) {
    case 0:
        input->data[at] ^= (uint8_t)(1 << below(r, 8));
        break;
    case 1:
        input->data[at] = (uint8_t)below(r, 256);
        break;
    case 2:
        if (input->size - at >= bytes)
            put_number(r, input->data + at, bytes);
        break;
    case 3:
        splice(r, input);
        break;
    case 4:
        remove_block(r, input);
        break;
    default:
        input->size = below(r, 8) == 0 ? at : input->size;
    }
}

static void make_input(uint64_t seed, uint64_t run, struct input *input)
{
    struct kd_random r = kd_random_at(seed, KD_RANDOM_TEST, run, 0);
    const size_t from = below(&r, num_seeds);

    memcpy(input->data, seeds[from].data, seeds[from].size);
    input->size = seeds[from].size;
    if (run < num_seeds) { /* each seed once as it is */
        memcpy(input->data, seeds[run].data, seeds[run].size);
        input->size = seeds[run].size;
        return;
    }
    for (size_t i = below(&r, 5) + 1; i > 0; i--)
        mutate(&r, input);
}

/* -- running ---------------------------------------------------------------- */

static struct {
    uint64_t runs, seconds, seed;
} args = {.runs = 10000, .seed = 1};

/* The input that is being tried, in case it is the last one: see `keep`. */
static void try_input(const struct input *input, const char *keep)
{
    uint8_t *exact = malloc(input->size > 0 ? input->size : 1);

    if (exact == NULL)
        give_up("an input");
    write_file(keep, input->data, input->size);
    /* Without a byte to spare, so that checkers of memory see who reads beyond. */
    memcpy(exact, input->data, input->size);
    alarm(20);
    LLVMFuzzerTestOneInput(exact, input->size);
    alarm(0);
    free(exact);
}

static void try_file(const char *path, struct input *input)
{
    const int fd = open(path, O_RDONLY);
    const ssize_t size = fd >= 0 ? read(fd, input->data, sizeof input->data) : -1;

    if (size < 0)
        give_up(path);
    close(fd);
    input->size = (size_t)size;
    try_input(input, kd_fuzz_path("input"));
}

static void run(const char *name, struct input *input)
{
    const time_t end = time(NULL) + (time_t)args.seconds;
    char keep[PATH_MAX];
    uint64_t i = 0;

    snprintf(keep, sizeof keep, "%s", kd_fuzz_path("input"));
    fprintf(stderr, "# %s: if it dies, of the input in %s\n", name, keep);
    take_seeds();
    for (; i < args.runs && (args.seconds == 0 || time(NULL) < end); i++) {
        make_input(args.seed, i, input);
        try_input(input, keep);
    }
    fprintf(stderr, "1..1\nok 1 - %s: %llu inputs\n", name, (unsigned long long)i);
}

static int parse(int argc, char **argv)
{
    int option = 0;

    while ((option = getopt(argc, argv, "n:t:s:")) != -1) {
        const uint64_t value = strtoull(optarg != NULL ? optarg : "", NULL, 10);

        if (option == 'n')
            args.runs = value;
        else if (option == 's')
            args.seed = value;
        else if (option == 't')
            args.seconds = value, args.runs = UINT64_MAX;
        else
            exit(64);
    }
    return optind;
}

int main(int argc, char **argv)
{
    static struct input input;
    const char *name = strrchr(argv[0], '/');
    int next = parse(argc, argv);

    if (next == argc)
        run(name != NULL ? name + 1 : argv[0], &input);
    for (; next < argc; next++)
        try_file(argv[next], &input);
    return 0;
}

#endif
