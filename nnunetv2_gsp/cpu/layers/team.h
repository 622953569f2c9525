// Threads that do one job together, and meet after each of its parts. What the job is, they do not know.
#pragma once
#include "instructions.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

enum { PAUSES = 4000 };  // about a tenth of a millisecond

typedef struct Team Team;
typedef void Work(Team *team, void *job, int32_t member);  // `member` counts from 0

struct Team {
    Work *work;
    void *job;
    pthread_mutex_t mutex;
    pthread_cond_t released;
    int32_t waiting;
    atomic_int threads, joined;  // how many there are is known from the first meeting on
    atomic_uint round;
};

// Waits for all threads, awake at first, for small parts take less time than waking up. Returns 1 to the last one,
// which may finish what all of them did before it lets the others go on with `release`; to them it returns 0.
static inline int meet(Team *team) {
    pthread_mutex_lock(&team->mutex);
    const unsigned round = atomic_load(&team->round);
    if (++team->waiting == team->threads) return 1;  // and holds the mutex until `release`
    pthread_mutex_unlock(&team->mutex);
    for (int i = 0; i < PAUSES; i++) {
        if (atomic_load(&team->round) != round) return 0;
        pause_a_little();
    }
    pthread_mutex_lock(&team->mutex);
    while (atomic_load(&team->round) == round) pthread_cond_wait(&team->released, &team->mutex);
    pthread_mutex_unlock(&team->mutex);
    return 0;
}

static inline void release(Team *team) {
    team->waiting = 0;
    atomic_fetch_add(&team->round, 1);
    pthread_cond_broadcast(&team->released);
    pthread_mutex_unlock(&team->mutex);
}

static inline void join(Team *team) { team->work(team, team->job, atomic_fetch_add(&team->joined, 1)); }

// PyTorch's OpenMP threads stay awake for milliseconds after each of its operators, and others would have to share the
// cores with them. So they do the work where the process has them; a forked child has lost them. ThreadSanitizer does
// not see how they wait for each other, and would call it a race.
#if defined(__linux__) && !defined(__SANITIZE_THREAD__)
extern void GOMP_parallel(void (*function)(void *), void *data, unsigned threads, unsigned flags)
    __attribute__((weak));
extern int omp_get_num_threads(void) __attribute__((weak));

static int is_forked;
static void after_fork(void) { is_forked = 1; }
__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(NULL, NULL, after_fork); }

static inline void join_from_openmp(void *argument) {
    Team *team = argument;
    atomic_store(&team->threads, omp_get_num_threads());  // the same for all of them
    join(team);
}

static inline int work_in_openmp(Team *team, int32_t threads) {
    if (!GOMP_parallel || !omp_get_num_threads || is_forked) return 0;
    GOMP_parallel(join_from_openmp, team, threads, 0);
    return 1;
}
#else
static inline int work_in_openmp(Team *team, int32_t threads) { return (void)team, (void)threads, 0; }
#endif

static inline void *join_from_thread(void *team) {
    join(team);
    return NULL;
}

static inline void work_in_threads(Team *team, int32_t threads) {
    pthread_t *started = calloc(threads, sizeof *started);
    int32_t n_started = 0;
    // held until it is known how many threads there are; nobody meets before that
    pthread_mutex_lock(&team->mutex);
    while (started && n_started < threads - 1 && !pthread_create(&started[n_started], NULL, join_from_thread, team))
        n_started++;
    atomic_store(&team->threads, n_started + 1);
    pthread_mutex_unlock(&team->mutex);
    join(team);
    for (int32_t i = 0; i < n_started; i++) pthread_join(started[i], NULL);
    free(started);
}

// Returns when all members have done their work. Where not so many threads are to be had, fewer do it, but at least
// this one.
static inline void work_together(Work *work, void *job, int32_t threads) {
    Team team = {.work = work, .job = job, .mutex = PTHREAD_MUTEX_INITIALIZER, .released = PTHREAD_COND_INITIALIZER};
    if (!work_in_openmp(&team, threads)) work_in_threads(&team, threads);
    pthread_mutex_destroy(&team.mutex);
    pthread_cond_destroy(&team.released);
}
