/* SPDX-License-Identifier: MIT */
/* The loader: steps in order, one ahead and no more, and what happens at its ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kd/loader.h"

#include "kd/thread.h"

#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#define STEPS 50

struct slot {
    uint64_t epoch, step;
    uint64_t values[64];
};

/* What the fillings do and note. */
struct world {
    struct slot slots[2];
    sem_t begun;   /* posted when a filling begins */
    sem_t may_end; /* waited for at its end, if `held` */
    bool held;
    uint64_t fails; /* the step that fails; UINT64_MAX: none */
    _Atomic uint64_t filled;
    atomic_size_t threads; /* that a filling may compute on */
    atomic_bool signals;   /* whether it could be interrupted */
};

static void world_init(struct world *w)
{
    memset(w, 0, sizeof *w);
    sem_init(&w->begun, 0, 0);
    sem_init(&w->may_end, 0, 0);
    w->fails = UINT64_MAX;
}

static enum kd_status fill(void *context, void *slot, uint64_t epoch, uint64_t step)
{
    struct world *w = context;
    struct slot *s = slot;
    sigset_t blocked;

    sem_post(&w->begun);
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    w->signals = sigismember(&blocked, SIGTERM) == 0;
    w->threads = kd_threads();
    s->epoch = epoch;
    s->step = step;
    for (size_t i = 0; i < 64; i++)
        s->values[i] = epoch * 1000 + step;
    if (w->held)
        sem_wait(&w->may_end);
    if (step == w->fails)
        return kd_fail(KD_EDATA, "a.h5: row %d is damaged", (int)step);
    w->filled++;
    return KD_OK;
}

static struct kd_loader *open_loader(struct world *w, bool threaded)
{
    const struct kd_loader_spec spec = {
        fill, w, {&w->slots[0], &w->slots[1]}, threaded};
    struct kd_loader *loader = NULL;

    assert_int_equal(kd_loader_open(&spec, &loader), KD_OK);
    return loader;
}

static const struct slot *next(struct kd_loader *loader)
{
    void *slot = NULL;

    if (kd_loader_next(loader, &slot) != KD_OK)
        fail_msg("%s", kd_error());
    return slot;
}

static void assert_slot(const struct slot *s, uint64_t epoch, uint64_t step)
{
    assert_int_equal(s->epoch, epoch);
    assert_int_equal(s->step, step);
    for (size_t i = 0; i < 64; i++)
        assert_int_equal(s->values[i], epoch * 1000 + step);
}

static void doze(void)
{
    nanosleep(&(struct timespec){0, 2000000}, NULL);
}

/* -- steps ------------------------------------------------------------------- */

static void check_order(bool threaded)
{
    struct world w;

    world_init(&w);
    struct kd_loader *loader = open_loader(&w, threaded);
    for (uint64_t epoch = 1; epoch <= 3; epoch++) {
        kd_loader_begin(loader, epoch, STEPS);
        for (uint64_t step = 0; step < STEPS; step++) {
            const struct slot *s = next(loader);
            if (step % 16 == 3)
                doze(); /* it must not be filled again meanwhile */
            assert_slot(s, epoch, step);
        }
    }
    kd_loader_close(loader);
    assert_int_equal(w.filled, 3 * STEPS);
}

static void steps_come_in_order_with_and_without_a_thread(void **state)
{
    (void)state;
    check_order(true);
    check_order(false);
}

static void the_next_step_is_made_ready_meanwhile_and_no_more(void **state)
{
    struct world w;

    (void)state;
    world_init(&w);
    struct kd_loader *loader = open_loader(&w, true);
    kd_loader_begin(loader, 1, STEPS);
    sem_wait(&w.begun);
    for (uint64_t step = 0; step < 5; step++) {
        assert_slot(next(loader), 1, step);
        sem_wait(&w.begun); /* the next one begins while this one is in use */
        doze();
        assert_true(w.filled <= step + 2);
    }
    kd_loader_close(loader);
}

static void a_thread_of_the_loader_computes_alone_and_takes_no_signals(void **state)
{
    struct world w;

    (void)state;
    kd_threads_set(3);
    world_init(&w);
    struct kd_loader *loader = open_loader(&w, true);
    kd_loader_begin(loader, 1, 1);
    (void)next(loader);
    kd_loader_close(loader);
    assert_int_equal(w.threads, 1);
    assert_false(w.signals);
    loader = open_loader(&w, false);
    kd_loader_begin(loader, 1, 1);
    (void)next(loader);
    kd_loader_close(loader);
    assert_int_equal(w.threads, 3);
    assert_true(w.signals);
    assert_int_equal(kd_threads(), 3);
    kd_threads_set(0);
}

/* -- failures and ends ------------------------------------------------------- */

static void check_failure(bool threaded)
{
    struct world w;
    void *slot = NULL;

    world_init(&w);
    w.fails = 3;
    struct kd_loader *loader = open_loader(&w, threaded);
    kd_loader_begin(loader, 1, STEPS);
    for (uint64_t step = 0; step < 3; step++)
        assert_slot(next(loader), 1, step);
    (void)kd_fail(KD_EBUG, "something else");
    assert_int_equal(kd_loader_next(loader, &slot), KD_EDATA);
    assert_string_equal(kd_error(), "a.h5: row 3 is damaged");
    w.fails = UINT64_MAX;
    kd_loader_begin(loader, 2, 2);
    assert_slot(next(loader), 2, 0);
    assert_slot(next(loader), 2, 1);
    kd_loader_close(loader);
}

static void a_failure_comes_with_its_step_and_its_message(void **state)
{
    (void)state;
    check_failure(true);
    check_failure(false);
}

static void an_epoch_may_be_broken_off_while_a_batch_is_filled(void **state)
{
    struct world w;

    (void)state;
    world_init(&w);
    struct kd_loader *loader = open_loader(&w, true);
    for (uint64_t epoch = 1; epoch <= 20; epoch++) {
        kd_loader_begin(loader, epoch, STEPS);
        for (uint64_t step = 0; step < epoch % 4; step++)
            assert_slot(next(loader), epoch, step);
    }
    kd_loader_close(loader);
}

static void closing_waits_for_the_batch_in_hand(void **state)
{
    struct world w;

    (void)state;
    world_init(&w);
    w.held = true;
    struct kd_loader *loader = open_loader(&w, true);
    kd_loader_begin(loader, 1, STEPS);
    sem_wait(&w.begun);
    assert_int_equal(w.filled, 0);
    sem_post(&w.may_end);
    sem_post(&w.may_end); /* it may have begun another one */
    kd_loader_close(loader);
    assert_true(w.filled >= 1 && w.filled <= 2);
}

static void a_loader_that_was_never_used_closes(void **state)
{
    struct world w;

    (void)state;
    world_init(&w);
    kd_loader_close(open_loader(&w, true));
    kd_loader_close(open_loader(&w, false));
    kd_loader_close(NULL);
    assert_int_equal(w.filled, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_come_in_order_with_and_without_a_thread),
        cmocka_unit_test(the_next_step_is_made_ready_meanwhile_and_no_more),
        cmocka_unit_test(a_thread_of_the_loader_computes_alone_and_takes_no_signals),
        cmocka_unit_test(a_failure_comes_with_its_step_and_its_message),
        cmocka_unit_test(an_epoch_may_be_broken_off_while_a_batch_is_filled),
        cmocka_unit_test(closing_waits_for_the_batch_in_hand),
        cmocka_unit_test(a_loader_that_was_never_used_closes),
    };

    return cmocka_run_group_tests_name("loader", tests, NULL, NULL);
}
