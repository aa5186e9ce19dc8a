/* SPDX-License-Identifier: MIT */
/*
 * Children: work that may crash, hang or eat memory, done in processes of their own.
 *
 * HDF5 crashes on some damaged files. Who must open files that cannot be trusted does
 * so in a child, which sends home what it finds; if it dies, that is a result like
 * any other, and this process goes on.
 *
 *     static enum kd_status look(void *context, size_t index, struct kd_child *child)
 *     {
 *         ... in the child: open file number `index` ...
 *         return kd_child_send(child, &facts, sizeof facts);
 *     }
 *     static enum kd_status note(void *context, size_t index,
 *                                const struct kd_child_result *result)
 *     {
 *         ... in this process: result->end, ->status, ->data ...
 *     }
 *     const struct kd_children children = {
 *         .what = "looking", .count = files, .at_once = 2,
 *         .limits = {.seconds = 60, .memory = 1 << 30},
 *         .body = look, .ended = note, .context = &mine};
 *     KD_TRY(kd_children_run(&children));
 *
 * A child has one compute thread: a process that descends from one with a pool of
 * threads has none of them. It sees what this process had in memory; what it changes
 * there is its own.
 */
#ifndef KD_CHILD_H
#define KD_CHILD_H

#include "kd/status.h"

#include <stddef.h>
#include <stdint.h>

/* What a child may take before the system ends it; 0: as much as it likes. */
struct kd_child_limits {
    uint64_t seconds; /* of processor time; by the clock, ten times as many */
    uint64_t memory;  /* bytes of address space, besides what this process has */
};

/* How a child ended. */
enum kd_child_end {
    KD_CHILD_RETURNED, /* its body returned */
    KD_CHILD_CRASHED,  /* a signal ended it, or it left in some other way */
    KD_CHILD_SLOW      /* it took longer than it might */
};

struct kd_child_result {
    enum kd_child_end end;
    int signal;            /* that ended it; 0: none */
    enum kd_status status; /* returned: what its body returned */
    const char *error;     /* returned: the message of that status */
    const void *data;      /* what it sent until it ended, however that was */
    size_t size;
};

struct kd_child; /* a child's line home */

/* Sends bytes home; in bodies. KD_EIO where nobody listens any more. */
enum kd_status kd_child_send(struct kd_child *child, const void *data,
                             size_t size) KD_CHECKED;

struct kd_children {
    const char *what; /* "checking": for the message of an interruption */
    size_t count;     /* how many, with indices 0 to count-1 */
    size_t at_once;   /* how many at a time; 0: as many as there are compute threads */
    struct kd_child_limits limits;

    /* Runs in the child. */
    enum kd_status (*body)(void *context, size_t index, struct kd_child *child);

    /* Runs in this process as each ends, in whatever order that is; `result` lives as
     * long as the call. A failure ends the whole. */
    enum kd_status (*ended)(void *context, size_t index,
                            const struct kd_child_result *result);
    void *context;
};

/* Runs them all. KD_EINTERRUPTED if a signal asks to stop, KD_EIO where the system
 * gives no process or pipe; children that still run are killed then. */
enum kd_status kd_children_run(const struct kd_children *children) KD_CHECKED;

#endif
