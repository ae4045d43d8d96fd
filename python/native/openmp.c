/* The functions of OpenMP that FAISS calls, for one thread. They take the place of libgomp in the wheel.
 *
 * lowland calls FAISS from several threads, and FAISS must not start threads itself. So a parallel region runs
 * on the thread that calls it. Several callers can be in such a region at the same time, so critical sections
 * and locks must exclude each other.
 */
#include <pthread.h>
#include <stdbool.h>

static pthread_mutex_t critical = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t atomic = PTHREAD_MUTEX_INITIALIZER;

void GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags) {
    (void)threads;
    (void)flags;
    body(data);
}

void GOMP_barrier(void) {}
bool GOMP_single_start(void) { return true; }
void GOMP_critical_start(void) { pthread_mutex_lock(&critical); }
void GOMP_critical_end(void) { pthread_mutex_unlock(&critical); }
void GOMP_atomic_start(void) { pthread_mutex_lock(&atomic); }
void GOMP_atomic_end(void) { pthread_mutex_unlock(&atomic); }

/* Gives the whole loop to the calling thread, as one chunk. */
static bool whole(long start, long end, long step, long *first, long *last) {
    *first = start;
    *last = end;
    return step > 0 ? start < end : start > end;
}

bool GOMP_loop_nonmonotonic_dynamic_start(long start, long end, long step, long chunk, long *first, long *last) {
    (void)chunk;
    return whole(start, end, step, first, last);
}

bool GOMP_loop_nonmonotonic_dynamic_next(long *first, long *last) {
    (void)first;
    (void)last;
    return false;
}

bool GOMP_loop_nonmonotonic_guided_start(long start, long end, long step, long chunk, long *first, long *last) {
    (void)chunk;
    return whole(start, end, step, first, last);
}

bool GOMP_loop_nonmonotonic_guided_next(long *first, long *last) {
    (void)first;
    (void)last;
    return false;
}

void GOMP_loop_end(void) {}
void GOMP_loop_end_nowait(void) {}

int omp_get_max_threads(void) { return 1; }
int omp_get_num_threads(void) { return 1; }
int omp_get_thread_num(void) { return 0; }
int omp_get_nested(void) { return 0; }
int omp_in_parallel(void) { return 0; }
void omp_set_nested(int nested) { (void)nested; }
void omp_set_num_threads(int threads) { (void)threads; }

/* The caller allocates a lock as `omp_lock_t` of omp.h, which is at least as large as this. */
typedef struct {
    volatile int held;
} lock;

void omp_init_lock(lock *of) { of->held = 0; }
void omp_destroy_lock(lock *of) { (void)of; }
void omp_set_lock(lock *of) {
    while (__sync_lock_test_and_set(&of->held, 1)) {
    }
}
void omp_unset_lock(lock *of) { __sync_lock_release(&of->held); }
