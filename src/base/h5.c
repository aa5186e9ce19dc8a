/* SPDX-License-Identifier: MIT */
/* HDF5 files: opening, closing, and the library's stack of errors as a sentence. */
#include "kd/h5.h"

#include "base/h5_internal.h"
#include "kd/memory.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ALIGNMENT 4096

void kd_h5_quieten(void)
{
    static _Thread_local bool quiet; /* the stack of errors is the thread's own */

    if (quiet)
        return;
    /* At exit the library would close once more what a full disk has kept from
     * being closed, and crash. Our files are closed by then. */
    H5dont_atexit();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5PLset_loading_state(0);
    quiet = true;
}

struct cause {
    bool found;
    bool storage; /* a system call failed, for no fault of the file's content */
    char text[256];
};

/* Whether the system call that the record tells of was asked for something possible;
 * else addresses in a damaged file made it fail. */
static bool is_storage(const char *text)
{
    static const char mark[] = "errno = ";
    const char *at = strstr(text, mark);
    const long number = at != NULL ? strtol(at + sizeof mark - 1, NULL, 10) : EINVAL;

    return number != EINVAL && number != EFBIG && number != EOVERFLOW;
}

/* Keeps the first record, which is the innermost. Of a failed system call the
 * library tells addresses and sizes as well; its reason is all that matters. */
static herr_t keep_cause(unsigned n, const H5E_error2_t *record, void *context)
{
    static const char mark[] = "error message = '";
    struct cause *cause = context;
    const char *from = record->desc != NULL ? record->desc : "";
    const char *reason = strstr(from, mark);
    size_t length = strlen(from);

    if (n != 0 || length == 0)
        return 0;
    if (reason != NULL) {
        cause->storage = is_storage(from);
        from = reason + sizeof mark - 1;
        length = strcspn(from, "'");
    }
    if (length >= sizeof cause->text)
        length = sizeof cause->text - 1;
    memcpy(cause->text, from, length);
    cause->text[length] = '\0';
    cause->found = true;
    return 0;
}

static struct cause innermost_cause(void)
{
    struct cause cause = {.found = false};

    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_cause, &cause);
    H5Eclear2(H5E_DEFAULT);
    if (!cause.found)
        snprintf(cause.text, sizeof cause.text, "HDF5 does not say why");
    return cause;
}

enum kd_status kd_h5_fail(enum kd_status status, const struct kd_h5 *file,
                          const char *format, ...)
{
    struct cause cause = innermost_cause();
    char what[1536];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    if (status == KD_EDATA && cause.storage)
        status = KD_EIO;
    return kd_fail(status, "%s: %s: %s", file->path, what, cause.text);
}

/*
 * How files are accessed: no locks, as a shard is not changed once it has its
 * name; no sieve buffer, which makes small reads several times slower; datasets
 * of a page and more on a page; handles that are still open at the close are
 * an error. -1 on failure.
 */
static hid_t access_list(void)
{
    hid_t list = H5Pcreate(H5P_FILE_ACCESS);

    if (list >= 0 && (H5Pset_fclose_degree(list, H5F_CLOSE_SEMI) < 0 ||
                      H5Pset_file_locking(list, false, true) < 0 ||
                      H5Pset_sieve_buf_size(list, 0) < 0 ||
                      H5Pset_alignment(list, ALIGNMENT, ALIGNMENT) < 0)) {
        H5Pclose(list);
        return H5I_INVALID_HID;
    }
    return list;
}

/* A file that is not open yet. */
static enum kd_status new_file(const char *path, struct kd_h5 **file)
{
    struct kd_h5 *made = NULL;

    kd_h5_quieten();
    *file = NULL;
    if (KD_NEW(made, 1) != KD_OK)
        return KD_EMEMORY;
    made->id = H5I_INVALID_HID;
    made->size = UINT64_MAX;
    made->path = kd_copy_string(path);
    if (made->path == NULL) {
        free(made);
        return KD_EMEMORY;
    }
    *file = made;
    return KD_OK;
}

static void free_file(struct kd_h5 *file)
{
    free(file->path);
    free(file);
}

/* That there is a regular file to read, and how large it is. */
static enum kd_status check_there(const char *path, uint64_t *size)
{
    struct stat facts;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return kd_fail_errno(KD_ENOINPUT, "%s: cannot open", path);
    int failed = fstat(fd, &facts);
    close(fd);
    if (failed != 0 || !S_ISREG(facts.st_mode))
        return kd_fail(KD_EDATA, "%s: not a regular file, as HDF5 files must be", path);
    if (facts.st_size == 0) /* which the library would take for a new one */
        return kd_fail(KD_EDATA, "%s: not an HDF5 file: it is empty", path);
    *size = (uint64_t)facts.st_size;
    return KD_OK;
}

static enum kd_status open_file(const char *path, unsigned flags, struct kd_h5 **file)
{
    enum kd_status status = KD_EBUG;
    hid_t access = H5I_INVALID_HID;
    struct kd_h5 *made = NULL;
    uint64_t size = 0;

    KD_TRY(new_file(path, &made));
    KD_TRY(check_there(path, &size));
    access = access_list();
    made->id = H5Fopen(path, flags, access);
    if (made->id < 0) {
        status = kd_h5_fail(KD_EDATA, made,
                            flags == H5F_ACC_RDONLY ? "not a readable HDF5 file"
                                                    : "cannot open to write");
        goto out;
    }
    if (flags == H5F_ACC_RDONLY)
        made->size = size;
    *file = made;
    made = NULL;
    status = KD_OK;
out:
    if (access >= 0)
        H5Pclose(access);
    if (made != NULL)
        free_file(made);
    return status;
}

enum kd_status kd_h5_open(const char *path, struct kd_h5 **file)
{
    *file = NULL;
    kd_h5_quieten(); /* the library's constants start the library */
    return open_file(path, H5F_ACC_RDONLY, file);
}

enum kd_status kd_h5_open_rw(const char *path, struct kd_h5 **file)
{
    *file = NULL;
    kd_h5_quieten();
    return open_file(path, H5F_ACC_RDWR, file);
}

enum kd_status kd_h5_create(const char *path, struct kd_h5 **file)
{
    enum kd_status status = KD_EBUG;
    hid_t access = H5I_INVALID_HID, creation = H5I_INVALID_HID;
    struct kd_h5 *made = NULL;

    *file = NULL;
    KD_TRY(new_file(path, &made));
    access = access_list();
    creation = H5Pcreate(H5P_FILE_CREATE);
    if (H5Pset_obj_track_times(creation, false) >= 0)
        made->id = H5Fcreate(path, H5F_ACC_TRUNC, creation, access);
    if (made->id < 0) {
        status = kd_h5_fail(KD_ECREATE, made, "cannot create");
        goto out;
    }
    *file = made;
    made = NULL;
    status = KD_OK;
out:
    if (creation >= 0)
        H5Pclose(creation);
    if (access >= 0)
        H5Pclose(access);
    if (made != NULL)
        free_file(made);
    return status;
}

enum kd_status kd_h5_finish(struct kd_h5 *file)
{
    enum kd_status status = KD_OK;

    kd_h5_quieten();
    if (H5Fflush(file->id, H5F_SCOPE_GLOBAL) < 0)
        status = kd_h5_fail(KD_EIO, file, "cannot write");
    if (H5Fclose(file->id) < 0 && status == KD_OK)
        status = kd_h5_fail(KD_EIO, file, "cannot close");
    free_file(file);
    return status;
}

void kd_h5_close(struct kd_h5 *file)
{
    if (file == NULL)
        return;
    kd_h5_quieten();
    /* A handle of ours left open makes the close fail; so does a full disk. */
    bool closed = H5Fclose(file->id) >= 0;
    assert(closed || file->size == UINT64_MAX);
    (void)closed;
    free_file(file);
}

enum kd_status kd_h5_check_finite(const struct kd_h5 *file, const char *name,
                                  const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return kd_fail(KD_EDATA, "%s: %s: element %zu is not a finite number",
                           kd_h5_path(file), name, i);
    return KD_OK;
}

const char *kd_h5_path(const struct kd_h5 *file)
{
    return file->path;
}

/* The library has no half before 1.14, and no bfloat16: a float32 made smaller. */
static hid_t short_type(size_t exponent_bits, size_t bias)
{
    const size_t fraction_bits = 15 - exponent_bits;
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);

    if (type >= 0 &&
        (H5Tset_fields(type, 15, fraction_bits, exponent_bits, 0, fraction_bits) < 0 ||
         H5Tset_size(type, 2) < 0 || H5Tset_ebias(type, bias) < 0)) {
        H5Tclose(type);
        return H5I_INVALID_HID;
    }
    return type;
}

hid_t kd_h5_type(enum kd_type type)
{
    const hid_t types[KD_TYPE_COUNT] = {
        [KD_U8] = H5T_STD_U8LE,    [KD_I8] = H5T_STD_I8LE,   [KD_U16] = H5T_STD_U16LE,
        [KD_I16] = H5T_STD_I16LE,  [KD_U32] = H5T_STD_U32LE, [KD_I32] = H5T_STD_I32LE,
        [KD_U64] = H5T_STD_U64LE,  [KD_I64] = H5T_STD_I64LE, [KD_F32] = H5T_IEEE_F32LE,
        [KD_F64] = H5T_IEEE_F64LE,
    };

    if (type == KD_F16)
        return short_type(5, 15);
    if (type == KD_BF16)
        return short_type(8, 127);
    return H5Tcopy(types[type]);
}

/* Whether `stored` is that element type in that byte order. */
static bool type_is(hid_t stored, enum kd_type type, H5T_order_t order)
{
    hid_t known = kd_h5_type(type);
    bool equal =
        known >= 0 && H5Tset_order(known, order) >= 0 && H5Tequal(stored, known) > 0;

    if (known >= 0)
        H5Tclose(known);
    return equal;
}

bool kd_h5_recognize(hid_t stored, enum kd_type *type, bool *little)
{
    for (int i = 0; i < KD_TYPE_COUNT; i++) {
        *type = (enum kd_type)i;
        *little = type_is(stored, *type, H5T_ORDER_LE);
        if (*little || type_is(stored, *type, H5T_ORDER_BE))
            return true;
    }
    return false;
}
