/* SPDX-License-Identifier: MIT */
/*
 * Damage: every byte of a small shard altered in turn (one bit of it), and 2,000
 * mutations of all kinds, for each encoding. What is examined must be found out, or be
 * harmless: the identity and every row read back bit by bit as they were. It may
 * neither pass as good data otherwise, nor end or hold up this process. Of a cache with
 * its cache.json, every alteration is found out, by the digest.
 */
#define _DEFAULT_SOURCE /* setitimer */
#include "../unit/cache_fixture.h"

#include "cache/cache_check_internal.h"
#include "kd/cache_check.h"
#include "kd/child.h"

#include <signal.h>
#include <sys/time.h>

#define ROWS        6
#define CLASSES     4
#define RANDOM_ONES 2000
#define CHILD_ONES  250 /* mutants that one child looks at, if none ends it */

/* Far more than a mutant needs, of processor time. */
#define MUTANT_MS 100

/* What becomes of a mutant. */
enum verdict {
    FOUND_OUT = 'f',
    HARMLESS = 'h',
    CRASHED = 'c',  /* its child, which is a finding */
    SLOW = 's',     /* likewise */
    PASSES = '!',   /* as other data than was written */
    UNLISTED = '?', /* not found out although cache.json has its digest */
};

struct scene {
    const char *path; /* of the shard as it was written */
    char *bytes;
    size_t size;
    struct kd_digest digest, content;
    size_t mutants;
    char *verdicts; /* [mutants]; 0: none yet */
    size_t *first;  /* [..] of mutants without a verdict, where a child begins */
    size_t chunks;
};

/* -- content ---------------------------------------------------------------- */

static void hash_row(const struct kd_row *row, size_t also, struct kd_hash *hash)
{
    kd_hash_add_u64(hash, row->id);
    kd_hash_add_u64(hash, row->view);
    kd_hash_add_u64(hash, (uint64_t)row->label);
    kd_hash_add_u64(hash, row->size);
    kd_hash_add(hash, row->values, row->size * sizeof *row->values);
    kd_hash_add(hash, row->index, row->size * sizeof *row->index);
    if (row->draws != NULL)
        kd_hash_add(hash, row->draws, row->size * sizeof *row->draws);
    kd_hash_add(hash, &row->row_max, sizeof row->row_max);
    kd_hash_add(hash, &row->log_z, sizeof row->log_z);
    kd_hash_add(hash, &row->log_tail, sizeof row->log_tail);
    if (also > 0) {
        kd_hash_add(hash, row->log_z_also, also * sizeof(float));
        kd_hash_add(hash, row->log_tail_also, also * sizeof(float));
    }
}

/* A digest of the identity and every bit of every row, as readers see them. */
static enum kd_status hash_content(const struct kd_shard *shard,
                                   struct kd_digest *digest)
{
    enum kd_status status = KD_EBUG;
    struct kd_hash *hash = NULL;
    float values[CLASSES];
    uint32_t index[CLASSES];
    double also[KD_MAX_ALSO];
    struct kd_digest identity;

    KD_TRY(kd_hash_new(&hash));
    KD_TRY(kd_identity_digest(kd_shard_identity(shard), &identity));
    kd_hash_add_string(hash, identity.hex);
    kd_hash_add_u64(hash, kd_shard_rows(shard));
    for (uint64_t i = 0; i < kd_shard_rows(shard); i++) {
        struct kd_row row = {.values = values, .index = index};

        memset(index, 0, sizeof index);
        KD_TRY(kd_shard_row(shard, i, &row));
        hash_row(&row, kd_codec_also(&kd_shard_identity(shard)->codec, also), hash);
    }
    kd_hash_digest(hash, digest);
    status = KD_OK;
out:
    kd_hash_free(hash);
    return status;
}

/* -- mutants ---------------------------------------------------------------- */

static size_t below(struct kd_random *r, size_t n)
{
    return kd_random_below(r, (uint32_t)n);
}

static void alter(struct kd_random *r, char *byte)
{
    *byte = (char)(*byte ^ (char)(1 + below(r, 255)));
}

/* One of seven kinds of mutation; `bytes` has room for 4096 more. */
static void mutate(struct kd_random *r, char *bytes, size_t *size)
{
    const size_t length = 1 + below(r, below(r, 2) == 0 ? 16 : 1024);
    const size_t at = below(r, *size - length), other = below(r, *size - length);
    char block[1024];

    switch (below(r, 7)) {
    case 0: /* some bytes */
        for (size_t i = 1 + below(r, 8); i > 0; i--)
            alter(r, &bytes[below(r, *size)]);
        break;
    case 1:
        *size = below(r, *size);
        break;
    case 2: /* something behind the end */
        for (size_t i = 0; i < length; i++)
            bytes[*size + i] = (char)below(r, 256);
        *size += length;
        break;
    case 3:
        memset(bytes + at, 0, length);
        break;
    case 4: /* two blocks change places; they may overlap */
        memcpy(block, bytes + at, length);
        memmove(bytes + at, bytes + other, length);
        memcpy(bytes + other, block, length);
        break;
    case 5: /* a block is where another should be */
        memmove(bytes + at, bytes + other, length);
        break;
    default: /* some bytes are lost on the way */
        memmove(bytes + at, bytes + at + length, *size - at - length);
        *size -= length;
    }
}

/* Mutant number `index` of a shard: of a byte, or a random one. */
static void make_mutant(const struct scene *scene, size_t index, char *bytes,
                        size_t *size)
{
    struct kd_random r = kd_random_at(1, KD_RANDOM_TEST, index, 0);

    *size = scene->size;
    memcpy(bytes, scene->bytes, *size);
    if (index < scene->size)
        bytes[index] = (char)(bytes[index] ^ (1 << below(&r, 8)));
    else
        mutate(&r, bytes, size);
    if (*size == scene->size && memcmp(bytes, scene->bytes, *size) == 0)
        alter(&r, &bytes[below(&r, *size)]);
}

static void write_file(const char *path, const char *bytes, size_t size)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* Whether kd-check would find the shard wanting; if not, whether its content is what
 * it was. */
static enum verdict judge_content(const struct scene *scene, const char *path)
{
    enum verdict verdict = FOUND_OUT;
    struct kd_examination exam = {0};
    struct kd_shard *shard = NULL;
    struct kd_digest content;

    if (kd_shard_open(path, &shard) == KD_OK &&
        kd_shard_examine(shard, false, &exam) == KD_OK && exam.damaged == 0) {
        verdict = PASSES;
        if (kd_shard_kept(shard) <= CLASSES && hash_content(shard, &content) == KD_OK &&
            kd_digest_equal(&content, &scene->content))
            verdict = HARMLESS;
    }
    kd_examination_clear(&exam);
    kd_shard_close(shard);
    return verdict;
}

static enum verdict judge(const struct scene *scene, const char *path)
{
    struct kd_digest digest;

    if (kd_hash_file(path, &digest, NULL) != KD_OK ||
        kd_digest_equal(&digest, &scene->digest))
        return UNLISTED;
    return judge_content(scene, path);
}

/* -- in children ------------------------------------------------------------ */

static void set_timer(long ms)
{
    const struct itimerval timer = {.it_value = {ms / 1000, ms % 1000 * 1000}};

    assert_int_equal(setitimer(ITIMER_VIRTUAL, &timer, NULL), 0);
}

/* Sends a verdict on each mutant from where its chunk begins. */
static enum kd_status look(void *context, size_t index, struct kd_child *child)
{
    enum kd_status status = KD_EBUG;
    const struct scene *scene = context;
    const size_t first = scene->first[index];
    char *bytes = malloc(scene->size + 4096), *path = NULL;

    path = kd_format("%s.%zu", scene->path, index);
    KD_TRY(path != NULL && bytes != NULL ? KD_OK : KD_EMEMORY);
    for (size_t i = first;
         i < scene->mutants && i < first + CHILD_ONES && scene->verdicts[i] == 0; i++) {
        size_t size = 0;
        char verdict = 0;

        make_mutant(scene, i, bytes, &size);
        write_file(path, bytes, size);
        set_timer(MUTANT_MS);
        verdict = (char)judge(scene, path);
        set_timer(0);
        KD_TRY(kd_child_send(child, &verdict, 1));
    }
    status = KD_OK;
out:
    free(bytes);
    free(path);
    return status;
}

/* Where a child has died, that was the verdict on its next one. */
static enum kd_status note(void *context, size_t index,
                           const struct kd_child_result *result)
{
    struct scene *scene = context;
    char *at = scene->verdicts + scene->first[index];

    if (result->size > 0)
        memcpy(at, result->data, result->size);
    if (result->end == KD_CHILD_RETURNED && result->status == KD_OK)
        return KD_OK;
    assert_int_not_equal(result->end, KD_CHILD_RETURNED);
    at[result->size] = result->signal == SIGVTALRM ? SLOW : CRASHED;
    return KD_OK;
}

/* A child for every so many mutants that have no verdict; false if all have one. */
static bool divide(struct scene *scene)
{
    scene->chunks = 0;
    for (size_t i = 0; i < scene->mutants; i++) {
        const bool begins = i == 0 || scene->verdicts[i - 1] != 0 ||
                            i == scene->first[scene->chunks - 1] + CHILD_ONES;

        if (scene->verdicts[i] == 0 && begins)
            scene->first[scene->chunks++] = i;
    }
    return scene->chunks > 0;
}

static size_t count(const struct scene *scene, enum verdict verdict)
{
    size_t n = 0;

    for (size_t i = 0; i < scene->mutants; i++)
        n += scene->verdicts[i] == (char)verdict;
    return n;
}

static void damage(const char *name, const struct kd_identity *of)
{
    struct scene scene = {.path = fixture_path(name)};
    struct kd_shard *shard = NULL;
    const struct kd_children children = {.what = "a test",
                                         .limits = {60, (uint64_t)1 << 30},
                                         .body = look,
                                         .ended = note,
                                         .context = &scene};

    fixture_shard(scene.path, of, 1, 0, ROWS);
    scene.bytes = fixture_bytes(scene.path, &scene.size);
    assert_int_equal(kd_hash_file(scene.path, &scene.digest, NULL), KD_OK);
    assert_int_equal(kd_shard_open(scene.path, &shard), KD_OK);
    assert_int_equal(hash_content(shard, &scene.content), KD_OK);
    kd_shard_close(shard);
    scene.mutants = scene.size + RANDOM_ONES;
    scene.verdicts = calloc(scene.mutants, 1);
    scene.first = calloc(scene.mutants, sizeof *scene.first);
    while (divide(&scene)) {
        struct kd_children round = children;

        round.count = scene.chunks;
        assert_int_equal(kd_children_run(&round), KD_OK);
    }
    print_message(
        "# kd-check, %s: of %zu mutants (%zu bytes one by one), %zu found out, "
        "%zu by a crash, %zu by a hang, %zu harmless\n",
        name, scene.mutants, scene.size, count(&scene, FOUND_OUT),
        count(&scene, CRASHED), count(&scene, SLOW), count(&scene, HARMLESS));
    for (size_t i = 0; i < scene.mutants; i++)
        if (scene.verdicts[i] == PASSES || scene.verdicts[i] == UNLISTED)
            fail_msg("%s: mutant %zu: %c", name, i, scene.verdicts[i]);
    free(scene.bytes);
    free(scene.verdicts);
    free(scene.first);
}

static struct kd_identity identity(enum kd_encoding encoding, enum kd_type dtype,
                                   uint32_t k, double mass)
{
    struct kd_identity of = fixture_identity(CLASSES, ROWS, 1, dtype);

    of.codec = (struct kd_codec){encoding, dtype, k, mass, ""};
    return of;
}

static void a_dense_shard(void **state)
{
    const struct kd_identity of = identity(KD_DENSE, KD_F16, CLASSES, 0);

    (void)state;
    damage("dense", &of);
}

static void a_top_k_shard(void **state)
{
    struct kd_identity of = identity(KD_TOP_K, KD_F32, 2, 0);

    (void)state;
    snprintf(of.codec.also_temperatures, sizeof of.codec.also_temperatures, "1,8");
    damage("top-k", &of);
}

static void a_top_p_shard(void **state)
{
    const struct kd_identity of = identity(KD_TOP_P, KD_BF16, 3, 0.9);

    (void)state;
    damage("top-p", &of);
}

static void a_sampled_shard(void **state)
{
    const struct kd_identity of = identity(KD_SAMPLED, KD_F16, 5, 0);

    (void)state;
    damage("sampled", &of);
}

/* Each byte of a cache.json: its text is a function of the shards. */
static void a_list(void **state)
{
    const struct kd_identity of = fixture_identity(CLASSES, ROWS, 1, KD_F16);
    const struct kd_check_options options = {0};
    const char *directory = fixture_path("listed");
    const char *path = fixture_path("listed/cache.json");
    size_t size = 0;
    char *bytes = NULL;

    (void)state;
    fixture_cache(directory, &of, 1, ROWS);
    bytes = fixture_bytes(path, &size);
    for (size_t i = 0; i < size; i++) {
        struct kd_random r = kd_random_at(2, KD_RANDOM_TEST, i, 0);
        const char was = bytes[i];
        struct kd_check_report report;

        alter(&r, &bytes[i]);
        write_file(path, bytes, size);
        if (kd_cache_check(directory, &options, &report) != KD_WANTING)
            fail_msg("cache.json: byte %zu made %d passes", i, bytes[i]);
        kd_check_report_clear(&report);
        bytes[i] = was;
    }
    print_message("# kd-check, cache.json: each of %zu bytes, altered, is found out\n",
                  size);
    free(bytes);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dense_shard), cmocka_unit_test(a_top_k_shard),
        cmocka_unit_test(a_top_p_shard), cmocka_unit_test(a_sampled_shard),
        cmocka_unit_test(a_list),
    };

    if (argc == 2)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
