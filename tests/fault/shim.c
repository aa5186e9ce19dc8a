/* SPDX-License-Identifier: MIT */
/*
 * A library to be loaded before libc (LD_PRELOAD), by which calls that store something
 * fail at a chosen moment. Calls are counted if they concern files in or below the
 * directory KD_FAULT_UNDER (an absolute path without symbolic links). KD_FAULT says
 * what happens:
 *
 *     CALL:N:ERROR   the N-th call of that name fails, each if N is 0: open, write,
 *                    truncate, sync, rename, mkdir, unlink, close, mmap; any: of those
 *                    that change something, whichever it is. "write:5:ENOSPC"
 *     short:N        the N-th write takes half of what it was given; 0: each does
 *     enospc:BYTES   once so many bytes were written, nothing more can be
 *
 * write stands for write, pwrite, writev and for fclose of a stream, which writes what
 * it holds; sync for fsync and fdatasync. If KD_FAULT_LOG names a file, a line "CALL
 * FILE" is added to it for each call that was made to fail, and at the end a line
 * "counted N" with how many there were of the calls that KD_FAULT names, or with
 * enospc, how many bytes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_FILES 1024

/* The function of that name in the libraries behind this one. */
#define REAL(name) (__extension__(__typeof__(&name)) real(#name))

static void *real(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);

    if (function == NULL)
        abort();
    return function;
}

/* -- what shall fail -------------------------------------------------------- */

static const struct {
    const char *name;
    int number;
} errors[] = {{"EACCES", EACCES}, {"EDQUOT", EDQUOT}, {"EINTR", EINTR},
              {"EIO", EIO},       {"EMFILE", EMFILE}, {"ENOMEM", ENOMEM},
              {"ENOSPC", ENOSPC}, {"EROFS", EROFS}};

static char call[16];         /* of KD_FAULT */
static long long wanted = -1; /* N or BYTES; -1: no fault at all */
static int error_number;      /* of ERROR */
static const char *under;     /* KD_FAULT_UNDER */
static size_t under_length;
static atomic_llong counted;
static atomic_llong written; /* bytes */

/* What is open below the directory, by descriptor. */
static struct {
    atomic_bool ours, writable;
} files[MAX_FILES];

static void complain(const char *what)
{
    dprintf(STDERR_FILENO, "shim: %s\n", what);
    _exit(99);
}

__attribute__((constructor)) static void begin(void)
{
    const char *text = getenv("KD_FAULT");
    char name[16] = "";

    under = getenv("KD_FAULT_UNDER");
    if (text == NULL || under == NULL)
        return;
    under_length = strlen(under);
    if (sscanf(text, "%15[a-z]:%lld:%15[A-Z]", call, &wanted, name) < 2 || wanted < 0)
        complain("KD_FAULT is not CALL:N:ERROR");
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (strcmp(errors[i].name, name) == 0)
            error_number = errors[i].number;
    if (error_number == 0 && strcmp(call, "short") != 0 && strcmp(call, "enospc") != 0)
        complain("KD_FAULT names no error that is known");
}

/* Adds a line to the log. */
static void tell(const char *name, const char *text)
{
    const char *log = getenv("KD_FAULT_LOG");
    const int fd =
        log == NULL ? -1 : REAL(open)(log, O_WRONLY | O_CREAT | O_APPEND, 0666);
    char line[PATH_MAX + 32];
    const int length = snprintf(line, sizeof line, "%s %s\n", name, text);

    if (fd < 0)
        return;
    if (REAL(write)(fd, line, (size_t)length) != length)
        complain("cannot write its log");
    REAL(close)(fd);
}

__attribute__((destructor)) static void end(void)
{
    char text[32];

    snprintf(text, sizeof text, "%lld",
             strcmp(call, "enospc") == 0 ? atomic_load(&written)
                                         : atomic_load(&counted));
    if (wanted >= 0)
        tell("counted", text);
}

static bool is_under(const char *path)
{
    char whole[2 * PATH_MAX];

    if (wanted < 0)
        return false;
    if (path[0] != '/') {
        if (getcwd(whole, PATH_MAX) == NULL)
            return false;
        strcat(whole, "/");
        strncat(whole, path, PATH_MAX - 1);
        path = whole;
    }
    return strncmp(path, under, under_length) == 0 &&
           (path[under_length] == '/' || path[under_length] == '\0');
}

static bool is_ours(int fd)
{
    return fd >= 0 && fd < MAX_FILES && files[fd].ours;
}

static void tell_fd(const char *name, int fd)
{
    char link[64], path[PATH_MAX] = "?";
    ssize_t length = 0;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = '\0';
    tell(name, path);
}

/* Counts a call; whether it is the one that fails. */
static bool strikes(const char *name, bool changes)
{
    if (strcmp(call, name) != 0 && !(changes && strcmp(call, "any") == 0))
        return false;
    const long long number = atomic_fetch_add(&counted, 1) + 1;
    return wanted == 0 || number == wanted;
}

static bool strikes_path(const char *name, const char *path, bool changes)
{
    if (!is_under(path) || !strikes(name, changes))
        return false;
    tell(name, path);
    errno = error_number;
    return true;
}

static bool strikes_fd(const char *name, int fd, bool changes)
{
    if (!is_ours(fd) || !strikes(name, changes))
        return false;
    tell_fd(name, fd);
    errno = error_number;
    return true;
}

/* How many of `size` bytes a write takes; -1 with errno set: it fails. */
static ssize_t allowed(int fd, size_t size)
{
    if (!is_ours(fd))
        return (ssize_t)size;
    if (strikes_fd("write", fd, true))
        return -1;
    if (strcmp(call, "short") == 0 && size > 1 &&
        (wanted == 0 || atomic_fetch_add(&counted, 1) + 1 == wanted)) {
        tell_fd("short", fd);
        return (ssize_t)(size / 2);
    }
    if (strcmp(call, "enospc") == 0) {
        const long long room = wanted - atomic_fetch_add(&written, (long long)size);

        if (room >= (long long)size)
            return (ssize_t)size;
        tell_fd("enospc", fd);
        errno = ENOSPC;
        return room > 0 ? (ssize_t)room : -1;
    }
    return (ssize_t)size;
}

/* -- opening and closing ---------------------------------------------------- */

static bool is_writing(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT) != 0;
}

static int opened(int fd, const char *path, int flags)
{
    if (fd >= 0 && fd < MAX_FILES) {
        files[fd].ours = is_under(path);
        files[fd].writable = is_writing(flags);
    }
    return fd;
}

static mode_t mode_of(int flags, va_list arguments)
{
    return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
}

#define OPEN(name)                                                                     \
    int name(const char *path, int flags, ...)                                         \
    {                                                                                  \
        va_list arguments;                                                             \
                                                                                       \
        va_start(arguments, flags);                                                    \
        const mode_t mode = mode_of(flags, arguments);                                 \
        va_end(arguments);                                                             \
        if (strikes_path("open", path, is_writing(flags)))                             \
            return -1;                                                                 \
        return opened(REAL(name)(path, flags, mode), path, flags);                     \
    }

OPEN(open)
OPEN(open64)

FILE *fopen(const char *path, const char *mode)
{
    const int flags = mode[0] == 'r' ? O_RDONLY : O_WRONLY | O_CREAT;
    FILE *file = NULL;

    if (strikes_path("open", path, is_writing(flags)))
        return NULL;
    file = REAL(fopen)(path, mode);
    if (file != NULL)
        opened(fileno(file), path, flags);
    return file;
}

int fclose(FILE *file)
{
    const int fd = fileno(file);
    const size_t size = __fpending(file);
    const bool whole = !is_ours(fd) || size == 0 || strcmp(call, "short") == 0 ||
                       allowed(fd, size) == (ssize_t)size;

    if (!whole) {
        const int cause = errno;

        __fpurge(file);
        files[fd].ours = false;
        REAL(fclose)(file);
        errno = cause;
        return EOF;
    }
    if (fd >= 0 && fd < MAX_FILES)
        files[fd].ours = false;
    return REAL(fclose)(file);
}

/* Closed it is in any case, as on a network file system that tells of a full disk. */
int close(int fd)
{
    const bool fails =
        is_ours(fd) && files[fd].writable && strikes_fd("close", fd, true);

    if (fd >= 0 && fd < MAX_FILES)
        files[fd].ours = false;
    if (REAL(close)(fd) != 0)
        return -1;
    errno = fails ? error_number : errno;
    return fails ? -1 : 0;
}

/* -- writing ---------------------------------------------------------------- */

ssize_t write(int fd, const void *data, size_t size)
{
    const ssize_t room = allowed(fd, size);

    return room < 0 ? -1 : REAL(write)(fd, data, (size_t)room);
}

#define PWRITE(name, offset_type)                                                      \
    ssize_t name(int fd, const void *data, size_t size, offset_type offset)            \
    {                                                                                  \
        const ssize_t room = allowed(fd, size);                                        \
                                                                                       \
        return room < 0 ? -1 : REAL(name)(fd, data, (size_t)room, offset);             \
    }

PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

/* A short one writes its first part alone. */
ssize_t writev(int fd, const struct iovec *parts, int count)
{
    size_t size = 0;
    ssize_t room = 0;

    for (int i = 0; i < count; i++)
        size += parts[i].iov_len;
    room = allowed(fd, size);
    if (room < 0 || room == (ssize_t)size)
        return room < 0 ? -1 : REAL(writev)(fd, parts, count);
    if ((size_t)room > parts[0].iov_len)
        room = (ssize_t)parts[0].iov_len;
    return REAL(write)(fd, parts[0].iov_base, (size_t)room);
}

#define TRUNCATE(name, offset_type)                                                    \
    int name(int fd, offset_type size)                                                 \
    {                                                                                  \
        return strikes_fd("truncate", fd, true) ? -1 : REAL(name)(fd, size);           \
    }

TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

int fsync(int fd)
{
    return strikes_fd("sync", fd, true) ? -1 : REAL(fsync)(fd);
}

int fdatasync(int fd)
{
    return strikes_fd("sync", fd, true) ? -1 : REAL(fdatasync)(fd);
}

/* -- names and maps --------------------------------------------------------- */

int rename(const char *from, const char *to)
{
    return strikes_path("rename", to, true) ? -1 : REAL(rename)(from, to);
}

int mkdir(const char *path, mode_t mode)
{
    return strikes_path("mkdir", path, true) ? -1 : REAL(mkdir)(path, mode);
}

int unlink(const char *path)
{
    return strikes_path("unlink", path, true) ? -1 : REAL(unlink)(path);
}

#define MMAP(name, offset_type)                                                        \
    void *name(void *at, size_t size, int access, int flags, int fd,                   \
               offset_type offset)                                                     \
    {                                                                                  \
        if (strikes_fd("mmap", fd, false))                                             \
            return MAP_FAILED;                                                         \
        return REAL(name)(at, size, access, flags, fd, offset);                        \
    }

MMAP(mmap, off_t)
MMAP(mmap64, off64_t)
