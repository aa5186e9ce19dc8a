/* SPDX-License-Identifier: MIT */
/*
 * Child processes as teachers, in three layers: a process with three pipes
 * (exec_process.c), what is said through them (exec_protocol.c), and a thread that
 * keeps them all busy (exec.c and what exec_pump_internal.h lists). teacher_exec.c puts
 * them together.
 */
#ifndef KD_TEACH_EXEC_INTERNAL_H
#define KD_TEACH_EXEC_INTERNAL_H

#include "kd/batch.h"
#include "kd/dataset.h"
#include "kd/export.h"
#include "kd/hash.h"
#include "kd/status.h"
#include "kd/type.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* -- a process -------------------------------------------------------------- */

struct kd_exec_process {
    pid_t pid;        /* 0: none */
    int in, out, err; /* this end of its pipes, which do not block; -1: closed */
};

/* Starts /bin/sh -c `command` in a process group of its own, which dies with the
 * calling thread. KD_EIO. */
enum kd_status kd_exec_start(const char *command,
                             struct kd_exec_process *process) KD_CHECKED;

/* Whether it has ended by itself; it stays to be reaped. */
bool kd_exec_has_ended(const struct kd_exec_process *process);

/* Kills what is left of its group. */
void kd_exec_kill(const struct kd_exec_process *process);

/* The same, waits for its end, closes the pipes. `how`: "exit code 1", "killed by
 * signal 11 (Segmentation fault)"; *clean: exit code 0. */
#define KD_EXEC_HOW 96
void kd_exec_reap(struct kd_exec_process *process, char how[KD_EXEC_HOW], bool *clean);

void kd_exec_close(int *fd);

/* Makes a pipe so small that it can be written to only when it is empty: whoever then
 * finds it writable again knows that the reader has taken what was written. False as
 * long as too much is in it. And as large as is sensible. */
bool kd_exec_narrow(int fd);
void kd_exec_widen(int fd);

/* Bytes that wait in a pipe. */
size_t kd_exec_waiting(int fd);

/* The last lines of what a child writes to stderr. */
#define KD_EXEC_LINE  240
#define KD_EXEC_LINES 8
struct kd_exec_words {
    char partial[KD_EXEC_LINE];
    size_t length; /* of it */
    char line[KD_EXEC_LINES][KD_EXEC_LINE];
    size_t count; /* lines so far; line i is at i % KD_EXEC_LINES */
};

/* Takes what has come through `fd`, and passes whole lines on to the log behind `who`.
 * False at its end. */
bool kd_exec_listen(struct kd_exec_words *words, int fd, const char *who);

/* "; its last words: 'one / two'", or nothing. */
#define KD_EXEC_LAST (KD_EXEC_LINES * KD_EXEC_LINE + 64)
void kd_exec_last_words(const struct kd_exec_words *words, char text[KD_EXEC_LAST]);

/* -- what is said ----------------------------------------------------------- */

/* What this process says of the samples. */
struct kd_exec_greeting {
    const struct kd_dataset_facts *data;
    bool differ;  /* images of different sizes */
    size_t batch; /* samples that are sent at a time, unless it wants another number */
};

/* What a child says of itself. */
struct kd_exec_answer {
    char *name; /* NULL: it does not say, and so on */
    uint32_t num_classes;
    enum kd_values values;
    bool deterministic;
    size_t batch;            /* 0: it does not say */
    size_t height, width;    /* 0: any */
    struct kd_input input;   /* as it says, whatever the samples' size */
    char **class_name;       /* [num_classes] and NULL, or NULL */
    struct kd_digest digest; /* of all that rows depend on: its own digest, or the
                                command; classes, values, input */
};

/* The line that greets it, with its end. On the heap. */
enum kd_status kd_exec_greet(const struct kd_exec_greeting *greeting,
                             char **line) KD_CHECKED;

/* Reads the line that it answers. KD_EDATA saying what is wrong with it. */
enum kd_status kd_exec_read_answer(const char *line, const char *command,
                                   const struct kd_exec_greeting *greeting,
                                   struct kd_exec_answer *answer) KD_CHECKED;
void kd_exec_answer_clear(struct kd_exec_answer *answer); /* one that is zero is fine */

/* Whether an array that begins with this header is [count][classes] of floats: KD_EDATA
 * otherwise. `size` bytes of it, at least KD_NPY_PREFIX, are there. *due: how many must
 * be there to go on; of the whole array, once the header is whole. */
enum kd_status kd_exec_check_header(const char *data, size_t size, size_t count,
                                    size_t classes, struct kd_array_info *info,
                                    size_t *due) KD_CHECKED;

/* Turns an array's values into logits. KD_EDATA naming row and class. */
enum kd_status kd_exec_convert(enum kd_values values, const struct kd_array_info *info,
                               const char *data, float *logits) KD_CHECKED;

/* -- the thread ------------------------------------------------------------- */

struct kd_exec;

/* Starts `jobs` children, greets them, and waits for their answers. `name` is for
 * messages. */
enum kd_status kd_exec_open(const char *name, const char *command, size_t jobs,
                            double timeout, const char *greeting,
                            struct kd_exec **exec) KD_CHECKED;
void kd_exec_free(struct kd_exec *exec); /* NULL is fine */

/* The line that a child answered. */
const char *kd_exec_line(const struct kd_exec *exec, size_t child);

/* What to expect from now on: before the first submission. Two batches a child may be
 * in flight, one that it works on and one that waits for it. */
struct kd_exec_terms {
    enum kd_type type; /* of samples */
    size_t rank;       /* of a batch of them */
    uint64_t shape[4]; /* of a batch; the first is set for each */
    size_t bytes;      /* of a sample */
    size_t classes;
    enum kd_values values;
};
void kd_exec_agree(struct kd_exec *exec, const struct kd_exec_terms *terms);
size_t kd_exec_in_flight(const struct kd_exec *exec);

/* Ends them all, since a child has said what cannot be: KD_EDATA with kd_error() as the
 * reason. */
enum kd_status kd_exec_complain(struct kd_exec *exec, size_t child);

/* As kd_teacher_submit and kd_teacher_collect. What goes wrong comes out when the batch
 * is collected that suffers from it. */
void kd_exec_submit(struct kd_exec *exec, const void *input, size_t count,
                    float *logits);
enum kd_status kd_exec_collect(struct kd_exec *exec) KD_CHECKED;

#endif
