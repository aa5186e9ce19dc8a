/* SPDX-License-Identifier: MIT */
/*
 * Checking a cache: what there is, what each shard turns out to be, and whether all of
 * it is what cache.json and the shards' identity promise.
 */
#include "kd/cache_check.h"

#include "cache/cache_check_internal.h"
#include "cache/cache_json_internal.h"
#include "kd/file.h"
#include "kd/memory.h"
#include "kd/progress.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What a child may take for a shard: far more than any that is whole needs. */
#define SHARD_SECONDS  10
#define BYTES_A_SECOND (16 << 20)
#define SHARD_MEMORY   ((uint64_t)1 << 30)
#define MEMORY_A_BYTE  2

enum kd_status kd_findings_add(struct kd_findings *findings, const char *path,
                               const char *format, ...)
{
    enum kd_status status = KD_EBUG;
    struct kd_finding finding = {0};
    char what[8192];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    KD_TRY(kd_grow(&findings->all, &findings->capacity, findings->count + 1,
                   sizeof finding));
    finding.path = kd_copy_string(path);
    finding.what = kd_copy_string(what);
    findings->all[findings->count++] = finding;
    status = finding.path != NULL && finding.what != NULL ? KD_OK : KD_EMEMORY;
out:
    return status;
}

#define FOUND(check, path, ...)                                                        \
    kd_findings_add(&(check)->report->findings, path, __VA_ARGS__)

/* Something is wrong with a shard, so that it must be made again. */
#define FOUND_BAD(check, shard, ...)                                                   \
    ((shard)->bad = true, FOUND(check, (shard)->path, __VA_ARGS__))

/* -- what there is ---------------------------------------------------------- */

/* Takes over `path`, which may be NULL for want of memory. */
static enum kd_status add_shard(struct kd_check *check, char *path,
                                const struct kd_cache_entry *entry)
{
    enum kd_status status = path != NULL ? KD_OK : KD_EMEMORY;
    struct kd_check_shard shard = {.path = path, .entry = entry};
    struct stat facts;

    if (status == KD_OK)
        status =
            kd_grow(&check->shards, &check->capacity, check->count + 1, sizeof shard);
    if (status != KD_OK) {
        free(path);
        return status;
    }
    shard.there = stat(path, &facts) == 0;
    shard.regular = shard.there && S_ISREG(facts.st_mode);
    shard.bytes = shard.regular ? (uint64_t)facts.st_size : 0;
    check->shards[check->count++] = shard;
    return KD_OK;
}

static enum kd_status add_leftover(struct kd_check *check, const char *name)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(kd_grow(&check->leftovers, &check->leftovers_capacity,
                   check->num_leftovers + 1, sizeof *check->leftovers));
    check->leftovers[check->num_leftovers] = kd_path_join(check->directory, name);
    status = check->leftovers[check->num_leftovers] != NULL ? KD_OK : KD_EMEMORY;
    check->num_leftovers += status == KD_OK;
out:
    return status;
}

static bool ends_in(const char *text, const char *end)
{
    const size_t length = strlen(text), size = strlen(end);

    return length >= size && strcmp(text + length - size, end) == 0;
}

static bool is_listed(const struct kd_check *check, const char *name)
{
    for (size_t i = 0; i < check->list.count; i++)
        if (strcmp(check->list.entries[i].name, name) == 0)
            return true;
    return false;
}

static enum kd_status add_name(struct kd_check *check, const char *name)
{
    /* Who repairs holds the lock himself. */
    if (ends_in(name, ".part") ||
        (strcmp(name, ".lock") == 0 && !check->options->repair))
        return add_leftover(check, name);
    if (strncmp(name, "shard-", 6) == 0 && ends_in(name, ".h5") &&
        !is_listed(check, name))
        return add_shard(check, kd_path_join(check->directory, name), NULL);
    return KD_OK;
}

static int compare_paths(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;

    return strcmp(*x, *y);
}

static int compare_shards(const void *a, const void *b)
{
    const struct kd_check_shard *x = a, *y = b;

    return strcmp(x->path, y->path);
}

/* What lies in the directory besides the shards that cache.json lists. */
static enum kd_status scan(struct kd_check *check)
{
    enum kd_status status = KD_OK;
    const size_t listed = check->count;
    DIR *directory = opendir(check->directory);
    const struct dirent *each = NULL;

    if (directory == NULL)
        return kd_fail_errno(KD_ENOINPUT, "%s: cannot open", check->directory);
    while (status == KD_OK && (errno = 0, each = readdir(directory)) != NULL)
        status = add_name(check, each->d_name);
    if (status == KD_OK && errno != 0)
        status = kd_fail_errno(KD_EIO, "%s: cannot read", check->directory);
    closedir(directory);
    if (check->count > listed)
        qsort(check->shards + listed, check->count - listed, sizeof *check->shards,
              compare_shards);
    if (check->num_leftovers > 0)
        qsort(check->leftovers, check->num_leftovers, sizeof *check->leftovers,
              compare_paths);
    return status;
}

/* A cache.json that cannot be read is told of, and counts as none. */
static enum kd_status read_list(struct kd_check *check)
{
    enum kd_status status = KD_EBUG;

    check->list_path = kd_path_join(check->directory, KD_CACHE_LIST);
    if (check->list_path == NULL)
        return KD_EMEMORY;
    check->list_there = access(check->list_path, F_OK) == 0;
    if (!check->list_there)
        return KD_OK;
    status = kd_cache_list_read(&check->list, check->directory);
    check->list_read = status == KD_OK;
    if (status != KD_EDATA && status != KD_ENOINPUT)
        return status;
    check->list_bad = true;
    return FOUND(check, check->list_path, "%s",
                 kd_without_path(kd_error(), check->list_path));
}

static enum kd_status open_directory(struct kd_check *check)
{
    enum kd_status status = KD_EBUG;

    KD_TRY(read_list(check));
    for (size_t i = 0; i < check->list.count; i++)
        KD_TRY(add_shard(check,
                         kd_path_join(check->directory, check->list.entries[i].name),
                         &check->list.entries[i]));
    KD_TRY(scan(check));
    if (!check->list_there && check->count == 0 && check->num_leftovers == 0)
        status = kd_fail(KD_EDATA,
                         "%s: not a cache: it has no " KD_CACHE_LIST " and no shards",
                         check->directory);
out:
    return status;
}

/* A shard, or paths of shards on a pipe. */
static enum kd_status open_stream(struct kd_check *check)
{
    enum kd_status status = KD_EBUG;
    struct kd_shard_stream *stream = NULL;
    const char *path = NULL;

    KD_TRY(kd_shard_stream_open(check->where, &stream));
    do {
        KD_TRY(kd_shard_stream_next(stream, &path));
        if (path != NULL)
            KD_TRY(add_shard(check, kd_copy_string(path), NULL));
    } while (path != NULL);
    if (check->count == 0)
        status = kd_fail(KD_EDATA, "%s: no shard came", check->where);
out:
    kd_shard_stream_close(stream);
    return status;
}

/* -- each shard ------------------------------------------------------------- */

static struct kd_child_limits limits_for(const struct kd_check *check)
{
    uint64_t largest = 0;

    for (size_t i = 0; i < check->count; i++)
        largest = check->shards[i].bytes > largest ? check->shards[i].bytes : largest;
    return (struct kd_child_limits){.seconds = SHARD_SECONDS + largest / BYTES_A_SECOND,
                                    .memory = SHARD_MEMORY + MEMORY_A_BYTE * largest};
}

static enum kd_status examine_in_child(void *context, size_t index,
                                       struct kd_child *child)
{
    const struct kd_check *check = context;
    const struct kd_check_shard *shard = &check->shards[index];

    if (!shard->regular) /* a pipe would be waited for */
        return KD_OK;
    return kd_examination_send(shard->path, check->options->quick, child);
}

static enum kd_status note(void *context, size_t index,
                           const struct kd_child_result *result)
{
    struct kd_check *check = context;
    struct kd_check_shard *shard = &check->shards[index];

    kd_progress_set(&check->progress, ++check->examined);
    shard->end = result->end;
    shard->signal = result->signal;
    shard->status = result->status;
    shard->error = kd_copy_string(result->error);
    if (shard->error == NULL)
        return KD_EMEMORY;
    return kd_examination_receive(result->data, result->size, &shard->exam);
}

static enum kd_status examine_all(struct kd_check *check)
{
    enum kd_status status = KD_EBUG;
    const struct kd_children children = {.what = check->where,
                                         .count = check->count,
                                         .limits = limits_for(check),
                                         .body = examine_in_child,
                                         .ended = note,
                                         .context = check};

    kd_progress_open(&check->progress, "checking", "shards", check->count);
    status = kd_children_run(&children);
    kd_progress_close(&check->progress);
    return status;
}

/* -- what is wrong with each ------------------------------------------------ */

/* How the child that examined the shard ended, where it did not end well. */
static enum kd_status judge_end(struct kd_check *check, struct kd_check_shard *shard)
{
    if (shard->end == KD_CHILD_SLOW)
        return FOUND_BAD(check, shard, "damaged: reading it does not come to an end");
    if (shard->end == KD_CHILD_CRASHED)
        return FOUND_BAD(check, shard,
                         "damaged: reading its HDF5 structure crashed (signal %d)",
                         shard->signal);
    if (shard->status == KD_EMEMORY)
        return FOUND_BAD(check, shard,
                         "damaged: reading it takes more memory than its size allows");
    if (shard->status != KD_OK)
        return FOUND_BAD(check, shard, "%s",
                         kd_without_path(shard->error, shard->path));
    return KD_OK;
}

/* Whether the file is the one that cache.json lists. */
static enum kd_status judge_entry(struct kd_check *check, struct kd_check_shard *shard)
{
    const struct kd_cache_entry *entry = shard->entry;
    const struct kd_examination *exam = &shard->exam;

    if (shard->bytes != entry->bytes)
        return FOUND_BAD(
            check, shard, "has %llu bytes, where " KD_CACHE_LIST " says %llu",
            (unsigned long long)shard->bytes, (unsigned long long)entry->bytes);
    if (exam->hashed && !kd_digest_equal(&exam->digest, &entry->digest))
        return FOUND_BAD(check, shard,
                         "altered: its digest is not the one in " KD_CACHE_LIST);
    if (exam->opened && exam->rows != entry->rows)
        return FOUND_BAD(
            check, shard, "has %llu rows, where " KD_CACHE_LIST " says %llu",
            (unsigned long long)exam->rows, (unsigned long long)entry->rows);
    return KD_OK;
}

static enum kd_status judge_rows(struct kd_check *check, struct kd_check_shard *shard)
{
    enum kd_status status = KD_OK;
    const struct kd_examination *exam = &shard->exam;
    uint64_t told = 0;

    for (size_t at = 0; at < exam->faults_size && status == KD_OK; told++) {
        status = FOUND_BAD(check, shard, "%s", exam->faults + at);
        at += strlen(exam->faults + at) + 1;
    }
    if (status == KD_OK && exam->damaged > told)
        status = FOUND_BAD(check, shard, "%llu more rows are damaged",
                           (unsigned long long)(exam->damaged - told));
    return status;
}

static enum kd_status judge_shard(struct kd_check *check, struct kd_check_shard *shard)
{
    enum kd_status status = KD_EBUG;

    if (!shard->there)
        return FOUND(check, shard->path, "not there, though %s",
                     shard->entry != NULL ? "listed in " KD_CACHE_LIST : "named");
    if (!shard->regular)
        return FOUND_BAD(check, shard, "not a regular file");
    if (shard->entry != NULL)
        KD_TRY(judge_entry(check, shard));
    else if (check->list_read) {
        check->list_bad = true;
        KD_TRY(FOUND(check, shard->path, "not listed in " KD_CACHE_LIST));
    }
    KD_TRY(judge_end(check, shard));
    KD_TRY(judge_rows(check, shard));
    status = KD_OK;
out:
    return status;
}

/* -- identity --------------------------------------------------------------- */

/* The identity that shards must have: the one that cache.json names or, where there is
 * none of it, that of the first shard. */
static void choose_identity(struct kd_check *check)
{
    const struct kd_check_shard *first = NULL;

    for (size_t i = 0; i < check->count; i++) {
        const struct kd_check_shard *shard = &check->shards[i];

        if (!shard->exam.opened)
            continue;
        first = first != NULL ? first : shard;
        if (check->list_read &&
            kd_digest_equal(&shard->exam.identity_digest, &check->list.identity)) {
            check->identity = &shard->exam.identity;
            return;
        }
    }
    if (first != NULL)
        check->identity = &first->exam.identity;
}

/* Shards that are all of one identity, which is not in cache.json, are not to blame;
 * nor can it be said without a cache.json which of two belong there. */
static enum kd_status judge_identities(struct kd_check *check)
{
    enum kd_status status = KD_OK;
    struct kd_digest digest;

    choose_identity(check);
    if (check->identity == NULL)
        return KD_OK;
    KD_TRY(kd_identity_digest(check->identity, &digest));
    if (check->list_read && !kd_digest_equal(&digest, &check->list.identity)) {
        check->list_bad = true;
        KD_TRY(FOUND(check, check->list_path,
                     "its identity_digest is none of its shards'"));
    }
    for (size_t i = 0; i < check->count; i++) {
        struct kd_check_shard *shard = &check->shards[i];

        if (!shard->exam.opened ||
            kd_identity_equal(&shard->exam.identity, check->identity) == KD_OK)
            continue;
        shard->stranger = true;
        shard->bad = shard->bad || (check->list_read && !check->list_bad);
        KD_TRY(FOUND(check, shard->path, "of another cache: %s", kd_error()));
    }
out:
    return status;
}

/* -- the cache -------------------------------------------------------------- */

/* With every shard as it should be, there is one text that cache.json can have. */
static enum kd_status judge_list(struct kd_check *check)
{
    enum kd_status status = KD_EBUG;
    char *due = NULL, *text = NULL;
    size_t size = 0;

    if (!check->list_read || check->report->findings.count > 0 ||
        check->identity == NULL)
        return KD_OK;
    KD_TRY(kd_cache_list_text(&check->list, check->identity, &due));
    KD_TRY(kd_file_read(check->list_path, KD_CACHE_LIST_MAX, &text, &size));
    if (size != strlen(due) || memcmp(text, due, size) != 0) {
        check->list_bad = true;
        status = FOUND(check, check->list_path,
                       "altered: it is not what its program wrote of these shards");
    }
out:
    free(due);
    free(text);
    return status;
}

static enum kd_status judge_directory(struct kd_check *check)
{
    enum kd_status status = KD_OK;

    if (check->writer != 0)
        return FOUND(check, check->directory, "process %ld is writing there",
                     check->writer);
    if (!check->list_there)
        KD_TRY(FOUND(check, check->directory,
                     "unfinished: it has no " KD_CACHE_LIST
                     "; run its program again to finish it"));
    for (size_t i = 0; i < check->num_leftovers; i++)
        KD_TRY(
            FOUND(check, check->leftovers[i], "left behind by a run that was killed"));
out:
    return status;
}

static enum kd_status judge(struct kd_check *check)
{
    enum kd_status status = KD_OK;

    if (check->directory != NULL)
        KD_TRY(judge_directory(check));
    for (size_t i = 0; i < check->count; i++)
        KD_TRY(judge_shard(check, &check->shards[i]));
    KD_TRY(judge_identities(check));
    KD_TRY(kd_check_rows(check));
    KD_TRY(judge_list(check));
out:
    return status;
}

static void sum_up(const struct kd_check *check)
{
    struct kd_check_report *report = check->report;

    for (size_t i = 0; i < check->count; i++) {
        const struct kd_check_shard *shard = &check->shards[i];

        report->shards += shard->exam.opened;
        report->archived += shard->exam.archived;
        report->rows += shard->exam.rows;
        report->labelled += shard->exam.labelled;
        report->agreeing += shard->exam.agreeing;
        report->bytes += shard->exam.opened ? shard->bytes : 0;
    }
    if (check->identity != NULL)
        report->promised = check->identity->num_samples * check->identity->views;
}

/* -- all of it -------------------------------------------------------------- */

static enum kd_status open_check(struct kd_check *check, struct kd_lock *lock)
{
    enum kd_status status = KD_EBUG;
    struct stat facts;
    const bool stream = strcmp(check->where, "-") == 0;

    if (!stream && stat(check->where, &facts) != 0)
        return kd_fail_errno(KD_ENOINPUT, "%s: cannot open", check->where);
    if (stream || !S_ISDIR(facts.st_mode)) {
        if (check->options->repair)
            return kd_fail(KD_EUSAGE, "%s: only a directory can be repaired",
                           check->where);
        return open_stream(check);
    }
    check->directory = check->where;
    if (check->options->repair)
        KD_TRY(kd_lock_open(lock, check->directory));
    check->writer = kd_lock_holder(check->directory);
    status = open_directory(check);
out:
    return status;
}

static void clear(struct kd_check *check)
{
    for (size_t i = 0; i < check->count; i++) {
        free(check->shards[i].path);
        free(check->shards[i].error);
        kd_examination_clear(&check->shards[i].exam);
    }
    for (size_t i = 0; i < check->num_leftovers; i++)
        free(check->leftovers[i]);
    free(check->shards);
    free(check->leftovers);
    free(check->list_path);
    kd_cache_list_clear(&check->list);
}

enum kd_status kd_cache_check(const char *where, const struct kd_check_options *options,
                              struct kd_check_report *report)
{
    enum kd_status status = KD_EBUG;
    struct kd_check check = {.where = where, .options = options, .report = report};
    struct kd_lock lock = {-1, NULL};
    bool whole = false;

    *report = (struct kd_check_report){.quick = options->quick};
    report->where = kd_copy_string(where);
    if (report->where == NULL)
        return KD_EMEMORY;
    KD_TRY(open_check(&check, &lock));
    KD_TRY(examine_all(&check));
    KD_TRY(judge(&check));
    sum_up(&check);
    whole = report->findings.count == 0;
    if (options->repair && !whole)
        KD_TRY(kd_check_repair(&check, &whole));
    status = whole ? KD_OK : KD_WANTING;
out:
    clear(&check);
    kd_lock_close(&lock);
    return status;
}
