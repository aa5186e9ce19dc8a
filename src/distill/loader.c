/* SPDX-License-Identifier: MIT */
/* The thread that makes batches ready, and its two slots. */
#include "kd/loader.h"

#include "kd/memory.h"
#include "kd/thread.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct kd_loader {
    struct kd_loader_spec spec;
    pthread_t thread;
    bool running; /* the thread was started */

    pthread_mutex_t lock; /* of all below */
    pthread_cond_t changed;
    bool ends; /* the thread shall return */
    bool busy; /* it is in `fill` */
    uint64_t epoch, steps;
    uint64_t ready; /* steps that were filled */
    uint64_t taken; /* of them, those that were handed out */
    uint64_t back;  /* of them, those whose slots may be filled again */
    enum kd_status failure;
    char *message; /* of the failure */
};

/* -- the thread ------------------------------------------------------------- */

static bool has_work(const struct kd_loader *l)
{
    return l->failure == KD_OK && l->ready < l->steps && l->ready - l->back < 2;
}

/* Fills the next slot; the lock is held but for the filling itself. */
static void work(struct kd_loader *l)
{
    const uint64_t epoch = l->epoch, step = l->ready;
    enum kd_status status;

    l->busy = true;
    pthread_mutex_unlock(&l->lock);
    status = l->spec.fill(l->spec.context, l->spec.slot[step % 2], epoch, step);
    pthread_mutex_lock(&l->lock);
    l->busy = false;
    if (status != KD_OK) {
        free(l->message);
        l->message = kd_copy_string(kd_error());
        l->failure = status;
    } else {
        l->ready++;
    }
    pthread_cond_broadcast(&l->changed);
}

static void *run_thread(void *context)
{
    struct kd_loader *l = context;

    kd_threads_alone();
    pthread_mutex_lock(&l->lock);
    while (!l->ends) {
        if (has_work(l))
            work(l);
        else
            pthread_cond_wait(&l->changed, &l->lock);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* Signals are the other threads' business. */
static enum kd_status start(struct kd_loader *l)
{
    sigset_t all, before;
    int error;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&l->thread, NULL, run_thread, l);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        return kd_fail(KD_EIO, "cannot start a thread: %s", strerror(error));
    l->running = true;
    return KD_OK;
}

/* -- its user --------------------------------------------------------------- */

enum kd_status kd_loader_open(const struct kd_loader_spec *spec,
                              struct kd_loader **loader)
{
    struct kd_loader *l = NULL;
    enum kd_status status = KD_NEW(l, 1);

    if (status != KD_OK)
        return status;
    l->spec = *spec;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    if (spec->threaded)
        status = start(l);
    if (status == KD_OK)
        *loader = l;
    else
        kd_loader_close(l);
    return status;
}

void kd_loader_close(struct kd_loader *loader)
{
    if (loader == NULL)
        return;
    if (loader->running) {
        pthread_mutex_lock(&loader->lock);
        loader->ends = true;
        pthread_cond_broadcast(&loader->changed);
        pthread_mutex_unlock(&loader->lock);
        pthread_join(loader->thread, NULL);
    }
    pthread_cond_destroy(&loader->changed);
    pthread_mutex_destroy(&loader->lock);
    free(loader->message);
    free(loader);
}

void kd_loader_begin(struct kd_loader *loader, uint64_t epoch, uint64_t steps)
{
    struct kd_loader *l = loader;

    pthread_mutex_lock(&l->lock);
    l->steps = 0; /* nothing more of the epoch before */
    while (l->busy)
        pthread_cond_wait(&l->changed, &l->lock);
    l->epoch = epoch;
    l->steps = steps;
    l->ready = l->taken = l->back = 0;
    l->failure = KD_OK;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

/* Waits until the step is ready, or will never be. */
static enum kd_status await_step(struct kd_loader *l, void **slot)
{
    enum kd_status status = KD_OK;

    pthread_mutex_lock(&l->lock);
    l->back = l->taken;
    pthread_cond_broadcast(&l->changed);
    while (l->ready == l->taken && l->failure == KD_OK)
        pthread_cond_wait(&l->changed, &l->lock);
    if (l->ready > l->taken)
        *slot = l->spec.slot[l->taken++ % 2];
    else
        status = kd_fail(l->failure, "%s", l->message != NULL ? l->message : "");
    pthread_mutex_unlock(&l->lock);
    return status;
}

enum kd_status kd_loader_next(struct kd_loader *loader, void **slot)
{
    const uint64_t step = loader->taken; /* no other thread changes it */

    assert(step < loader->steps);
    if (loader->running)
        return await_step(loader, slot);
    *slot = loader->spec.slot[0];
    loader->taken++;
    return loader->spec.fill(loader->spec.context, *slot, loader->epoch, step);
}
