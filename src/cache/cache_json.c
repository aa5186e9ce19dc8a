/* SPDX-License-Identifier: MIT */
/* cache.json: the list of a finished cache's shards. */
#include "kd/cache.h"

#include "cache/cache_json_internal.h"
#include "kd/file.h"
#include "kd/json.h"
#include "kd/memory.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIST_FORMAT  "kdcache-list"
#define LIST_VERSION 1

void kd_cache_list_clear(struct kd_cache_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->entries[i].name);
    free(list->entries);
    *list = (struct kd_cache_list){0};
}

/* The member of that name; its text. */
static enum kd_status get_text(const cJSON *object, const char *name, const char **text)
{
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(object, name);

    if (!cJSON_IsString(member) || member->valuestring == NULL)
        return kd_fail(KD_EDATA, "\"%s\" is missing, or is not a string", name);
    *text = member->valuestring;
    return KD_OK;
}

static enum kd_status get_number(const cJSON *object, const char *name, uint64_t *value)
{
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(object, name);
    const double limit = 9007199254740992.0; /* 2^53: exact in a double up to here */

    if (!cJSON_IsNumber(member) || !(member->valuedouble >= 0) ||
        !(member->valuedouble <= limit) ||
        member->valuedouble != (double)(uint64_t)member->valuedouble)
        return kd_fail(KD_EDATA, "\"%s\" is missing, or is not a whole number", name);
    *value = (uint64_t)member->valuedouble;
    return KD_OK;
}

static enum kd_status get_digest(const cJSON *object, const char *name,
                                 struct kd_digest *digest)
{
    const char *text = NULL;

    if (get_text(object, name, &text) != KD_OK)
        return KD_EDATA;
    if (strlen(text) != 32 || strspn(text, "0123456789abcdef") != 32)
        return kd_fail(KD_EDATA, "\"%s\" is not 32 hexadecimal digits", name);
    memcpy(digest->hex, text, 33);
    return KD_OK;
}

/* A name must stay in its directory, and on its line. */
static enum kd_status check_name(const char *name)
{
    bool fine = name[0] != '\0' && strlen(name) <= 255 && strcmp(name, ".") != 0 &&
                strcmp(name, "..") != 0;

    for (const char *c = name; *c != '\0' && fine; c++)
        fine = *c != '/' && (unsigned char)*c >= ' ' && *c != 0x7f;
    if (!fine)
        return kd_fail(KD_EDATA, "\"%.80s\" is no name of a shard in this directory",
                       name);
    return KD_OK;
}

static enum kd_status parse_entry(const cJSON *object, struct kd_cache_list *list)
{
    enum kd_status status = KD_EBUG;
    struct kd_cache_entry entry = {0};
    const char *name = NULL;

    KD_TRY(get_text(object, "name", &name));
    KD_TRY(check_name(name));
    KD_TRY(get_number(object, "rows", &entry.rows));
    KD_TRY(get_number(object, "bytes", &entry.bytes));
    KD_TRY(get_digest(object, "xxh3_128", &entry.digest));
    entry.name = kd_copy_string(name);
    if (entry.name == NULL)
        return KD_EMEMORY;
    list->entries[list->count++] = entry;
out:
    return status;
}

static enum kd_status parse_list(const cJSON *root, struct kd_cache_list *list)
{
    enum kd_status status = KD_EBUG;
    const cJSON *shards = cJSON_GetObjectItemCaseSensitive(root, "shards");
    const cJSON *each = NULL;
    const char *format = NULL;
    uint64_t version = 0;

    KD_TRY(get_text(root, "format", &format));
    if (strcmp(format, LIST_FORMAT) != 0)
        return kd_fail(KD_EDATA, "not the list of a cache: \"format\" is \"%.80s\"",
                       format);
    KD_TRY(get_number(root, "format_version", &version));
    if (version != LIST_VERSION)
        return kd_fail(KD_EDATA, "made by another version of the programs");
    KD_TRY(get_digest(root, "identity_digest", &list->identity));
    if (!cJSON_IsArray(shards) || shards->child == NULL)
        return kd_fail(KD_EDATA, "\"shards\" is missing or empty");
    KD_TRY(KD_NEW(list->entries, (size_t)cJSON_GetArraySize(shards)));
    cJSON_ArrayForEach(each, shards) KD_TRY(parse_entry(each, list));
out:
    return status;
}

static enum kd_status parse_text(const char *text, size_t size,
                                 struct kd_cache_list *list)
{
    enum kd_status status = KD_EBUG;
    const char *end = NULL;
    cJSON *root = NULL;

    if (strlen(text) != size)
        return kd_fail(KD_EDATA, "not JSON: it holds a zero byte");
    root = cJSON_ParseWithLengthOpts(text, size + 1, &end, true);
    if (root == NULL)
        status = kd_fail(KD_EDATA, "not JSON, or cut off: at byte %zu",
                         end != NULL ? (size_t)(end - text) : 0);
    else
        status = parse_list(root, list);
    cJSON_Delete(root);
    return status;
}

static enum kd_status read_list(struct kd_cache_list *list, const char *path)
{
    enum kd_status status = KD_EBUG;
    char *text = NULL;
    size_t size = 0;

    KD_TRY(kd_file_read(path, KD_CACHE_LIST_MAX, &text, &size));
    status = parse_text(text, size, list);
    if (status != KD_OK)
        kd_error_prefix("%s", path);
out:
    free(text);
    return status;
}

/* Whether a directory has a shard, finished or begun. */
static bool has_shards(const char *directory)
{
    static const char begin[] = "shard-";
    const struct dirent *entry = NULL;
    DIR *open = opendir(directory);
    bool found = false;

    while (open != NULL && !found && (entry = readdir(open)) != NULL)
        found = strncmp(entry->d_name, begin, strlen(begin)) == 0;
    if (open != NULL)
        closedir(open);
    return found;
}

static enum kd_status fail_unlisted(const char *directory)
{
    char *model = NULL;
    bool network = false;

    if (has_shards(directory))
        return kd_fail(KD_EDATA,
                       "%s: an unfinished cache: it has no " KD_CACHE_LIST
                       "; run its program again to finish it",
                       directory);
    model = kd_path_join(directory, "model.h5");
    network = model != NULL && access(model, F_OK) == 0;
    free(model);
    return kd_fail(KD_EDATA, "%s: is no cache: there are no shards in it%s", directory,
                   network ? "; with its model.h5 it is a network's directory" : "");
}

enum kd_status kd_cache_list_read(struct kd_cache_list *list, const char *directory)
{
    enum kd_status status = KD_EBUG;
    char *path = kd_path_join(directory, KD_CACHE_LIST);
    struct stat facts;

    *list = (struct kd_cache_list){0};
    if (path == NULL)
        return KD_EMEMORY;
    if (stat(directory, &facts) == 0 && stat(path, &facts) != 0 && errno == ENOENT)
        status = fail_unlisted(directory);
    else
        status = read_list(list, path);
    if (status != KD_OK)
        kd_cache_list_clear(list);
    free(path);
    return status;
}

char *kd_cache_shard_path(const char *directory, uint64_t index)
{
    char *name = kd_format("shard-%06llu.h5", (unsigned long long)index);
    char *path = name != NULL ? kd_path_join(directory, name) : NULL;

    free(name);
    return path;
}

/* What is being sealed. */
struct seal {
    const char *directory;
    struct kd_identity identity;
    struct kd_cache_list old;   /* what cache.json says now; empty if nothing */
    struct timespec old_time;   /* when it was written */
    struct kd_cache_list fresh; /* what it should say */
    const struct kd_digest *const *digests; /* of the shards; NULL, all or one: not
                                               known */
    uint64_t last_id;                       /* of the shard before */
    uint32_t last_view;
};

/* A missing or broken cache.json is as good as none: it will be written anew. */
static enum kd_status read_old(struct seal *seal)
{
    char *path = kd_path_join(seal->directory, KD_CACHE_LIST);
    struct stat facts;

    if (path == NULL)
        return KD_EMEMORY;
    if (stat(path, &facts) == 0) {
        seal->old_time = facts.st_mtim;
        if (kd_cache_list_read(&seal->old, seal->directory) != KD_OK)
            seal->old = (struct kd_cache_list){0};
    }
    free(path);
    return KD_OK;
}

static bool is_before(struct timespec a, struct timespec b)
{
    return a.tv_sec < b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec < b.tv_nsec);
}

/* The digest of a shard that is at hand, or that cache.json has if the shard was not
 * touched since; NULL where it has to be taken anew. */
static const struct kd_digest *known_digest(const struct seal *seal, size_t index,
                                            const struct kd_cache_entry *entry,
                                            const struct stat *facts)
{
    const struct kd_cache_entry *old = NULL;

    if (seal->digests != NULL && seal->digests[index] != NULL)
        return seal->digests[index];
    if (index >= seal->old.count || !is_before(facts->st_mtim, seal->old_time))
        return NULL;
    old = &seal->old.entries[index];
    if (strcmp(old->name, entry->name) != 0 || old->rows != entry->rows ||
        old->bytes != (uint64_t)facts->st_size)
        return NULL;
    return &old->digest;
}

static enum kd_status hash_shard(const struct seal *seal, size_t index,
                                 const char *path, struct kd_cache_entry *entry)
{
    const struct kd_digest *known = NULL;
    struct stat facts;

    if (stat(path, &facts) != 0)
        return kd_fail_errno(KD_EIO, "%s: cannot ask for its size", path);
    known = known_digest(seal, index, entry, &facts);
    if (known == NULL)
        return kd_hash_file(path, &entry->digest, &entry->bytes);
    entry->digest = *known;
    entry->bytes = (uint64_t)facts.st_size;
    return KD_OK;
}

/* Whether the shard belongs behind the ones before. */
static enum kd_status check_place(struct seal *seal, size_t index,
                                  const struct kd_shard *shard)
{
    enum kd_status status = KD_OK;
    const uint64_t *ids = kd_shard_ids(shard);
    const uint32_t *views = kd_shard_views(shard);
    uint64_t last = kd_shard_rows(shard) - 1;

    if (index == 0)
        seal->identity = *kd_shard_identity(shard);
    else if (ids[0] < seal->last_id ||
             (ids[0] == seal->last_id && views[0] <= seal->last_view))
        status = kd_fail(KD_EDATA, "its ids are not behind those of the shard before");
    else
        status = kd_identity_equal(kd_shard_identity(shard), &seal->identity);
    if (status != KD_OK)
        kd_error_prefix("%s", kd_shard_path(shard));
    seal->last_id = ids[last];
    seal->last_view = views[last];
    return status;
}

static enum kd_status add_shard(struct seal *seal, size_t index, const char *path)
{
    enum kd_status status = KD_EBUG;
    struct kd_shard *shard = NULL;
    struct kd_cache_entry *entry = &seal->fresh.entries[index];

    KD_TRY(kd_shard_open(path, &shard));
    KD_TRY(check_place(seal, index, shard));
    entry->rows = kd_shard_rows(shard);
    entry->name = kd_copy_string(kd_path_base(path));
    seal->fresh.count++;
    if (entry->name == NULL)
        status = KD_EMEMORY;
    else
        status = hash_shard(seal, index, path, entry);
out:
    kd_shard_close(shard);
    return status;
}

static void write_entries(const struct kd_cache_list *list, struct kd_json *json)
{
    kd_json_begin(json, "shards", '[');
    for (size_t i = 0; i < list->count; i++) {
        const struct kd_cache_entry *entry = &list->entries[i];

        kd_json_begin(json, NULL, '{');
        kd_json_u64(json, "bytes", entry->bytes);
        kd_json_string(json, "name", entry->name);
        kd_json_u64(json, "rows", entry->rows);
        kd_json_string(json, "xxh3_128", entry->digest.hex);
        kd_json_end(json);
    }
    kd_json_end(json);
}

static void write_json(const struct kd_cache_list *list,
                       const struct kd_identity *identity, struct kd_json *json)
{
    uint64_t rows = 0, bytes = 0;

    for (size_t i = 0; i < list->count; i++) {
        rows += list->entries[i].rows;
        bytes += list->entries[i].bytes;
    }
    kd_json_pretty(json);
    kd_json_begin(json, NULL, '{');
    kd_json_u64(json, "bytes", bytes);
    kd_json_string(json, "format", LIST_FORMAT);
    kd_json_u64(json, "format_version", LIST_VERSION);
    kd_json_begin(json, "identity", '{');
    kd_identity_json(identity, json);
    kd_json_end(json);
    kd_json_string(json, "identity_digest", list->identity.hex);
    kd_json_u64(json, "rows", rows);
    write_entries(list, json);
    kd_json_end(json);
}

/* Whether `path` holds exactly this text. */
static bool holds(const char *path, const char *text, size_t size)
{
    char *old = NULL;
    size_t old_size = 0;
    struct stat facts;
    bool same = false;

    if (stat(path, &facts) == 0 &&
        kd_file_read(path, KD_CACHE_LIST_MAX, &old, &old_size) == KD_OK)
        same = old_size == size && memcmp(old, text, size) == 0;
    free(old);
    return same;
}

enum kd_status kd_cache_list_text(const struct kd_cache_list *list,
                                  const struct kd_identity *identity, char **text)
{
    enum kd_status status = KD_EBUG;
    struct kd_json *json = NULL;
    const char *bare = NULL;

    *text = NULL;
    KD_TRY(kd_json_new(&json));
    write_json(list, identity, json);
    KD_TRY(kd_json_text(json, &bare));
    *text = kd_format("%s\n", bare);
    status = *text != NULL ? KD_OK : KD_EMEMORY;
out:
    kd_json_free(json);
    return status;
}

static enum kd_status store(const struct seal *seal)
{
    enum kd_status status = KD_EBUG;
    char *path = kd_path_join(seal->directory, KD_CACHE_LIST), *text = NULL;

    if (path == NULL)
        return KD_EMEMORY;
    KD_TRY(kd_cache_list_text(&seal->fresh, &seal->identity, &text));
    if (!holds(path, text, strlen(text)))
        status = kd_file_write(path, text, strlen(text));
out:
    free(text);
    free(path);
    return status;
}

enum kd_status kd_cache_seal(const char *directory, char *const *paths, size_t count)
{
    return kd_cache_seal_hashed(directory, paths, NULL, count);
}

enum kd_status kd_cache_seal_hashed(const char *directory, char *const *paths,
                                    const struct kd_digest *const *digests,
                                    size_t count)
{
    enum kd_status status = KD_EBUG;
    struct seal *seal = NULL;

    if (count == 0)
        return kd_fail(KD_EDATA, "%s: a cache must have shards", directory);
    KD_TRY(KD_NEW(seal, 1));
    seal->directory = directory;
    seal->digests = digests;
    KD_TRY(KD_NEW(seal->fresh.entries, count));
    KD_TRY(read_old(seal));
    for (size_t i = 0; i < count; i++)
        KD_TRY(add_shard(seal, i, paths[i]));
    KD_TRY(kd_identity_digest(&seal->identity, &seal->fresh.identity));
    KD_TRY(store(seal));
out:
    if (seal != NULL) {
        kd_cache_list_clear(&seal->old);
        kd_cache_list_clear(&seal->fresh);
    }
    free(seal);
    return status;
}
