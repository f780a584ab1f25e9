/* Loaded with LD_PRELOAD: how much CPU time each thread spends without the GIL.
 *
 * Every thread that releases the GIL or takes it again does so through one of the six functions
 * below. Between the two, its CPU clock runs for code that holds no GIL; the rest of its CPU time
 * was spent holding it. Counting CPU time, not wall time, makes the figure independent of other
 * load on the machine.
 *
 * Blind spots: calls inside a Python that was linked so that they bypass this library (a static
 * Python's own modules: sockets, locks, sleeping); there, some of the CPU time without the GIL
 * counts as time with it. The interpreter may also switch threads between two of its own
 * instructions without these functions: the little CPU time of that switch counts as held. Each
 * pair of calls costs two readings of the clock, one of which counts as held.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MAX_THREADS 4096
#define HELD (-1)
#define GIL_STATE_UNLOCKED 1 /* PyGILState_UNLOCKED of pystate.h */

typedef struct {
    atomic_long thread_id;
    atomic_llong released_ns; /* CPU time without the GIL, up to the last time it was taken */
    atomic_llong taking_ns;   /* CPU time spent waiting for it and taking it */
    atomic_llong releases;
    atomic_llong released_at; /* the thread's CPU clock when it was released, or HELD */
} Account;

static Account accounts[MAX_THREADS];
static atomic_int account_count;
static __thread Account *mine;

static long long cpu_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static Account *account(long long released_at)
{
    if (!mine) {
        int number = atomic_fetch_add(&account_count, 1);
        /* Threads beyond the table share its last entry; no worker has that many. */
        mine = &accounts[number < MAX_THREADS ? number : MAX_THREADS - 1];
        atomic_store(&mine->released_at, released_at);
        atomic_store(&mine->thread_id, syscall(SYS_gettid));
    }
    return mine;
}

static void releases_gil(void)
{
    Account *own = account(HELD);
    if (atomic_load(&own->released_at) == HELD)
        atomic_store(&own->released_at, cpu_ns());
}

/* Returns the clock, or HELD where the thread has the GIL already (one function calls another). */
static long long takes_gil(void)
{
    /* A thread that Python did not start comes here first: it never held the GIL before. */
    Account *own = account(0);
    long long since = atomic_load(&own->released_at), now;
    if (since == HELD)
        return HELD;
    now = cpu_ns();
    atomic_fetch_add(&own->released_ns, now - since);
    atomic_fetch_add(&own->releases, 1);
    atomic_store(&own->released_at, HELD);
    return now;
}

static void has_taken_gil(long long began)
{
    if (began != HELD)
        atomic_fetch_add(&mine->taking_ns, cpu_ns() - began);
}

#define REAL(function) \
    static __typeof__(&function) real; \
    if (!real) \
        real = (__typeof__(&function))dlsym(RTLD_NEXT, #function)

void *PyEval_SaveThread(void)
{
    REAL(PyEval_SaveThread);
    releases_gil();
    return real();
}

void PyEval_RestoreThread(void *state)
{
    REAL(PyEval_RestoreThread);
    long long began = takes_gil();
    real(state);
    has_taken_gil(began);
}

void PyEval_ReleaseThread(void *state)
{
    REAL(PyEval_ReleaseThread);
    releases_gil();
    real(state);
}

void PyEval_AcquireThread(void *state)
{
    REAL(PyEval_AcquireThread);
    long long began = takes_gil();
    real(state);
    has_taken_gil(began);
}

int PyGILState_Ensure(void)
{
    REAL(PyGILState_Ensure);
    long long began = takes_gil();
    int before = real();
    has_taken_gil(began);
    return before;
}

void PyGILState_Release(int before)
{
    REAL(PyGILState_Release);
    real(before);
    if (before == GIL_STATE_UNLOCKED)
        releases_gil();
}

/* The calling thread's CPU time with the GIL, in nanoseconds. To be called with the GIL held. */
long long gil_own_held_ns(void)
{
    return cpu_ns() - atomic_load(&account(HELD)->released_ns);
}

/* How often the calling thread has released the GIL and taken it again. */
long long gil_own_releases(void)
{
    return atomic_load(&account(HELD)->releases);
}

/* Fills rows of (thread id, released, taking, releases, released_at) and returns how many. */
int gil_accounts(long long *rows, int max_rows)
{
    int count = atomic_load(&account_count), number;
    if (count > MAX_THREADS)
        count = MAX_THREADS;
    if (count > max_rows)
        count = max_rows;
    for (number = 0; number < count; number++, rows += 5) {
        rows[0] = atomic_load(&accounts[number].thread_id);
        rows[1] = atomic_load(&accounts[number].released_ns);
        rows[2] = atomic_load(&accounts[number].taking_ns);
        rows[3] = atomic_load(&accounts[number].releases);
        rows[4] = atomic_load(&accounts[number].released_at);
    }
    return count;
}
