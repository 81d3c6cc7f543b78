/* pool.c - the tasks of a large job, shared by the threads of one run.
 *
 * The threads start with the first job and end with the run. They sleep between jobs and take tasks one at a time, as
 * the caller does; the caller waits only for tasks that have been taken, so a thread that the system does not
 * schedule costs nothing. Tasks of a job touch no common memory that one of them writes: which thread runs a task
 * changes no result. Where there is one CPU, no pthreads or no memory for them, the caller does it all. So it does in
 * the child of a fork, which has no other threads: a run that goes on there leaves the pool alone.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sched_getaffinity */
#endif
#include "eval/machine.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <signal.h>
#include <unistd.h>
#ifdef __linux__
#include <sched.h>
#endif

enum { MAX_THREADS = 3 }; /* besides the caller: a job has few tasks */

struct Pool {
    pthread_mutex_t lock;     /* of all that follows */
    pthread_cond_t work, done;
    pthread_t thread[MAX_THREADS];
    int nthreads;
    pid_t process;            /* that has the threads */
    TaskFn *fn;
    void *env;
    int next, count;          /* tasks of the job: the next to be taken, all */
    int busy;                 /* taken and not finished */
    bool stop;
};

static int
cpus(void)
{
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        return CPU_COUNT(&set);
#endif
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

/* Runs tasks while there are any; called and left with the lock held. */
static void
take_tasks(Pool *p)
{
    while (p->next < p->count) {
        int task = p->next++;
        p->busy++;
        pthread_mutex_unlock(&p->lock);
        p->fn(p->env, task);
        pthread_mutex_lock(&p->lock);
        p->busy--;
    }
    if (!p->busy)
        pthread_cond_signal(&p->done);
}

static void *
thread_main(void *arg)
{
    Pool *p = arg;
    pthread_mutex_lock(&p->lock);
    while (!p->stop) {
        if (p->next < p->count)
            take_tasks(p);
        else
            pthread_cond_wait(&p->work, &p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* Signals stay with the threads of the caller. */
static void
start_threads(Pool *p, int most)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (p->nthreads < most && pthread_create(&p->thread[p->nthreads], NULL, thread_main, p) == 0)
        p->nthreads++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static Pool *
pool_start(Mem *mem)
{
    int most = MIN(cpus() - 1, MAX_THREADS);
    Pool *p = most > 0 ? mem_alloc(mem, sizeof(*p)) : NULL;
    if (!p)
        return NULL;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->done, NULL);
    p->process = getpid();
    start_threads(p, most);
    return p;
}

void
pool_run(Machine *m, int count, TaskFn *fn, void *env)
{
    if (!m->pool_tried)
        m->pool = pool_start(&m->cx->mem);
    m->pool_tried = true;
    Pool *p = m->pool;
    if (!p || p->process != getpid()) {
        for (int i = 0; i < count; i++)
            fn(env, i);
        return;
    }
    pthread_mutex_lock(&p->lock);
    p->fn = fn;
    p->env = env;
    p->next = 0;
    p->count = count;
    pthread_cond_broadcast(&p->work);
    take_tasks(p);
    while (p->busy)
        pthread_cond_wait(&p->done, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

void
pool_free(Machine *m)
{
    Pool *p = m->pool;
    m->pool = NULL;
    if (!p || p->process != getpid())
        return; /* in a child the memory stays: its mutex may be held */
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->nthreads; i++)
        pthread_join(p->thread[i], NULL);
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    mem_free(&m->cx->mem, p);
}

#else

void
pool_run(Machine *m, int count, TaskFn *fn, void *env)
{
    (void)m;
    for (int i = 0; i < count; i++)
        fn(env, i);
}

void
pool_free(Machine *m)
{
    (void)m;
}

#endif
