/* SPDX-License-Identifier: MIT */
/*
 * Children and their batches, as the files see them that keep the children busy:
 *
 *     exec.c          opens, submits, collects and closes, for the caller
 *     exec_pump.c     the thread: waits for the pipes, minds deadlines
 *     exec_send.c     a greeting or a batch on its way to a child
 *     exec_receive.c  an answer on its way back
 *     exec_fail.c     what a child did wrong, said once, and the end of all of them
 *
 * While the thread runs it alone touches the pipes; what it shares with the caller is
 * under one lock, which all the functions below are called with.
 */
#ifndef KD_TEACH_EXEC_PUMP_INTERNAL_H
#define KD_TEACH_EXEC_PUMP_INTERNAL_H

#include "teach/exec_internal.h"

#include <poll.h>
#include <pthread.h>

#define KD_EXEC_POLLS 3 /* descriptors of a child */

enum kd_exec_job_state { JOB_WAITS, JOB_ASKED, JOB_DONE };

struct kd_exec_job {
    enum kd_exec_job_state state;
    const void *input;
    size_t count;
    float *logits;
    size_t child;              /* who has it */
    char *answer;              /* an array, header and all */
    size_t capacity;           /* of it */
    struct kd_array_info info; /* of it */
};

enum kd_exec_phase {
    CHILD_GREETED, /* its answer is awaited */
    CHILD_IDLE,
    CHILD_GATE,  /* the pipe must become empty */
    CHILD_FIRST, /* the first bytes have to be read */
    CHILD_ASKED  /* the rest is sent; the answer may come */
};

struct kd_exec_child {
    struct kd_exec_process process;
    char who[32]; /* "child", "child 2" */
    enum kd_exec_phase phase;
    struct kd_exec_job *job; /* NULL: none */
    double deadline;         /* unless it is idle */
    struct kd_exec_words words;

    /* What it is sent: two pieces, of which so much is sent. */
    const char *head, *body;
    size_t head_size, body_size, sent;
    char header[256];

    /* The answer to the greeting. */
    char *line;
    size_t length, capacity;

    size_t received, due; /* bytes of the answer to a batch; due as far as is known */
};

struct kd_exec {
    const char *name;
    struct kd_exec_child *child; /* [children] */
    size_t children;
    double timeout;
    struct kd_exec_terms terms;
    bool agreed;          /* the terms are set */
    struct pollfd *polls; /* [1 + KD_EXEC_POLLS * children] */

    pthread_t thread;
    bool running; /* the thread */
    int wake[2];  /* a pipe that ends its sleep */

    pthread_mutex_t lock; /* of all that follows, and of what children and jobs share */
    pthread_cond_t news;
    struct kd_exec_job *job; /* [jobs], a ring */
    size_t jobs, first, count;
    size_t greeted; /* children that have answered the greeting */
    bool changed;   /* something that the caller may wait for */
    bool stop;
    enum kd_status failure; /* KD_OK: none; then no child is left */
    char message[4096];
};

/* -- the thread (exec_pump.c) ----------------------------------------------- */

/* Starts it; kd_exec_wake ends its sleep when there is something new for it. */
enum kd_status kd_exec_start_thread(struct kd_exec *exec) KD_CHECKED;
void kd_exec_wake(struct kd_exec *exec);

/* -- sending (exec_send.c) -------------------------------------------------- */

/* Sets what a child is sent, in two pieces; the pushes send it. */
void kd_exec_send(struct kd_exec_child *child, const void *head, size_t head_size,
                  const void *body, size_t body_size);
bool kd_exec_all_sent(const struct kd_exec_child *child);

/* Writes up to byte `end` of what it is sent, as much as goes. */
void kd_exec_push(struct kd_exec *exec, struct kd_exec_child *child, size_t end);

/* Sends what can be sent now, the oldest batch that waits if the child is idle;
 * `writable` says the pipe. */
void kd_exec_send_more(struct kd_exec *exec, struct kd_exec_child *child,
                       bool writable);

/* -- receiving (exec_receive.c) --------------------------------------------- */

/* Reads what has come, and no more than is due. */
void kd_exec_receive(struct kd_exec *exec, struct kd_exec_child *child);

/* Whether all of an answer is there, and all of the batch was sent: then the batch is
 * done and the child idle. */
void kd_exec_finish_job(struct kd_exec *exec, struct kd_exec_child *child);

/* -- failures (exec_fail.c) ------------------------------------------------- */

/* Keeps the first failure: what a child did, how it ended if it has, what it said
 * last. Ends all of them. */
void kd_exec_fail_child(struct kd_exec *exec, struct kd_exec_child *child,
                        enum kd_status status, const char *format, ...) KD_PRINTF(4, 5);

/* A pipe of it is closed: it is dead, or about to die. */
void kd_exec_fail_closed(struct kd_exec *exec, struct kd_exec_child *child,
                         const char *what);

/* It wrote what nobody had asked for; some of it is quoted. */
void kd_exec_fail_noise(struct kd_exec *exec, struct kd_exec_child *child,
                        const char *bytes, size_t size);

/* Takes what is left of a child's talk: what is there, and what comes within
 * `seconds`. */
void kd_exec_hear_out(struct kd_exec_child *child, double seconds);

/* Kills and reaps what is left of them. */
void kd_exec_end_all(struct kd_exec *exec);

#endif
