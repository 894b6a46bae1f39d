/* Ranks as threads of one process: a glam_comm for tests, without MPI.  A message waits at its
   sender until the receiver has copied it, every wait has a deadline, and nobody spins.  Faults are
   part of it: a rank may die, leave out one exchange, or be slow. */
#ifndef GLAM_TEST_THREADS_COMM_H
#define GLAM_TEST_THREADS_COMM_H

#include <errno.h>
#include <unistd.h>
#if defined(_POSIX_THREADS) && _POSIX_THREADS > 0 && !defined(GLAM_TEST_NO_PTHREADS)
#define THREADS_COMM 1
#include <pthread.h>

enum { THREADS_MOST = 16 };            // ranks of a world

typedef enum threads_fault {
    THREADS_WELL = 0,
    THREADS_DIE,                       // from exchange fault_at on it answers nobody
    THREADS_SKIP,                      // it does not take part in exchange fault_at: zeros arrive
    THREADS_SLOW                       // it sleeps fault_s seconds before exchange fault_at
} threads_fault;

typedef struct threads_group threads_group;

typedef struct threads_world {
    int    size;
    double timeout_s;
    int    fault_rank;                 // who has the fault below
    threads_fault fault;
    long   fault_at;                   // number of the exchange, counted from 1 on that rank
    double fault_s;
    long     calls[THREADS_MOST];      // exchanges of each rank so far, of all groups
    uint64_t bytes[THREADS_MOST];      // that each rank sent to others
    int    splits, releases;
    pthread_mutex_t lock;              // over everything here and in the groups
    pthread_cond_t  moved[THREADS_MOST];   // something happened that this rank may wait for
    threads_group  *groups;
} threads_world;

typedef struct threads_post { const void *data; size_t bytes; int full; } threads_post;

struct threads_group {
    threads_world *world;
    threads_group *next;
    int size, member[THREADS_MOST];    // ranks in the world
    threads_post post[THREADS_MOST][THREADS_MOST];     // [from][to]
    int asked, round, color[THREADS_MOST], key[THREADS_MOST];   // of a split under way
    threads_group *part[THREADS_MOST];
};

static double threads_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void threads_sleep(double seconds)
{
    struct timespec t;
    t.tv_sec = (time_t)seconds;
    t.tv_nsec = (long)(1e9 * (seconds - (double)t.tv_sec));
    nanosleep(&t, NULL);
}

// Sleeps until something moved for this rank of the world; 0 once the deadline is past.
static int threads_wait(threads_world *w, int rank, double deadline)
{
    struct timespec t;
    t.tv_sec = (time_t)deadline;
    t.tv_nsec = (long)(1e9 * (deadline - (double)t.tv_sec));
    return pthread_cond_timedwait(&w->moved[rank], &w->lock, &t) != ETIMEDOUT;
}

static double threads_deadline(const glam_comm *c)
{
    return threads_now() + (c->timeout_s > 0 ? c->timeout_s : 300);
}

// Takes what has arrived for me.  Returns how many messages are under way, in either direction, and
// one of their peers; -1: a message has another size than was agreed.
static int threads_deliver(threads_group *g, int me, void *const *recv, const size_t *recv_bytes,
                           char *got, int *peer)
{
    int open = 0;
    for (int p = g->size - 1; p >= 0; p--) {
        threads_post *in = &g->post[p][me];
        if (p == me) continue;
        if (recv_bytes[p] && !got[p] && in->full) {
            *peer = p;
            if (in->bytes != recv_bytes[p]) return -1;
            memcpy(recv[p], in->data, in->bytes);
            in->full = 0;
            got[p] = 1;
            pthread_cond_signal(&g->world->moved[g->member[p]]);
        }
        if (g->post[me][p].full || (recv_bytes[p] && !got[p])) {
            open++;
            *peer = p;
        }
    }
    return open;
}

// Whether this exchange is to be left out, with the result that it then has.
static int threads_faulty(threads_world *w, int rank, glam_comm *c, int *result)
{
    long call = ++w->calls[rank];
    if (w->fault == THREADS_WELL || rank != w->fault_rank || call < w->fault_at) return 0;
    if (w->fault == THREADS_SLOW && call == w->fault_at) threads_sleep(w->fault_s);
    c->peer = c->rank;
    *result = w->fault == THREADS_DIE;
    return w->fault == THREADS_DIE || (w->fault == THREADS_SKIP && call == w->fault_at);
}

static int threads_exchange(glam_comm *c, const void *const *send, const size_t *send_bytes,
                            void *const *recv, const size_t *recv_bytes)
{
    threads_group *g = (threads_group *)c->user;
    threads_world *w = g->world;
    int me = c->rank, self = g->member[me], open = 0, peer = me, result = 0;
    char got[THREADS_MOST] = { 0 };
    if (threads_faulty(w, self, c, &result)) {
        for (int p = 0; p < g->size; p++) if (recv_bytes[p]) memset(recv[p], 0, recv_bytes[p]);
        return result;
    }
    double deadline = threads_deadline(c);
    if (send_bytes[me] && send_bytes[me] == recv_bytes[me])
        memmove(recv[me], send[me], send_bytes[me]);
    pthread_mutex_lock(&w->lock);
    for (int p = 0; p < g->size; p++) {
        if (p == me || !send_bytes[p]) continue;
        g->post[me][p].data = send[p];
        g->post[me][p].bytes = send_bytes[p];
        g->post[me][p].full = 1;
        w->bytes[self] += send_bytes[p];
        pthread_cond_signal(&w->moved[g->member[p]]);
    }
    while ((open = threads_deliver(g, me, recv, recv_bytes, got, &peer)) > 0)
        if (!threads_wait(w, self, deadline) && threads_now() >= deadline) break;
    if (open) open = threads_deliver(g, me, recv, recv_bytes, got, &peer);
    for (int p = 0; p < g->size; p++) g->post[me][p].full = 0;   // the buffers are the caller's
    pthread_mutex_unlock(&w->lock);
    c->peer = peer;
    return open != 0 || send_bytes[me] != recv_bytes[me];
}

static threads_group *threads_group_new(threads_world *w)
{
    threads_group *g = (threads_group *)calloc(1, sizeof *g);
    if (!g) abort();
    g->world = w;
    g->next = w->groups;
    w->groups = g;
    return g;
}

// The last rank that asks makes the groups: members of one colour in the order of key, then rank.
static void threads_part(threads_group *g)
{
    for (int r = 0; r < g->size; r++) g->part[r] = NULL;
    for (int first = 0; first < g->size; first++) {
        if (g->part[first]) continue;
        threads_group *part = threads_group_new(g->world);
        for (;;) {
            int next = -1;
            for (int r = g->size - 1; r >= 0; r--)
                if (!g->part[r] && g->color[r] == g->color[first] &&
                    (next < 0 || g->key[r] <= g->key[next])) next = r;
            if (next < 0) break;
            g->part[next] = part;
            part->member[part->size++] = g->member[next];
        }
    }
    g->asked = 0;
    g->round++;
    for (int r = 0; r < g->size; r++) pthread_cond_signal(&g->world->moved[g->member[r]]);
}

static void threads_release(glam_comm *c)
{
    threads_world *w = ((threads_group *)c->user)->world;
    pthread_mutex_lock(&w->lock);
    w->releases++;
    pthread_mutex_unlock(&w->lock);
}

static int threads_split(glam_comm *c, int color, int key, glam_comm *out)
{
    threads_group *g = (threads_group *)c->user;
    threads_world *w = g->world;
    int me = c->rank, self = g->member[me], done;
    double deadline = threads_deadline(c);
    pthread_mutex_lock(&w->lock);
    int round = g->round;
    g->color[me] = color;
    g->key[me] = key;
    if (++g->asked == g->size) threads_part(g);
    while (g->round == round)
        if (!threads_wait(w, self, deadline) && threads_now() >= deadline) break;
    done = g->round != round;
    if (done) {
        *out = *c;
        out->user = g->part[me];
        out->size = g->part[me]->size;
        for (int r = 0; r < out->size; r++) if (g->part[me]->member[r] == self) out->rank = r;
        w->splits++;
    } else {
        g->asked--;
    }
    pthread_mutex_unlock(&w->lock);
    return !done;
}

typedef struct threads_rank {
    glam_comm comm;
    void    (*body)(glam_comm *comm, void *arg);
    void     *arg;
} threads_rank;

static void *threads_main(void *arg)
{
    threads_rank *r = (threads_rank *)arg;
    r->body(&r->comm, r->arg);
    return NULL;
}

static threads_world threads_world_of(int size)
{
    threads_world w;
    memset(&w, 0, sizeof w);
    w.size = size;
    w.timeout_s = 60;
    return w;
}

// Runs body on every rank of the world and returns the seconds that it took.  Tests look at results
// afterwards: CHECK is for one thread.
static double threads_run(threads_world *w, void (*body)(glam_comm *comm, void *arg), void *arg)
{
    threads_rank rank[THREADS_MOST];
    pthread_t thread[THREADS_MOST];
    double begin = threads_now();
    pthread_mutex_init(&w->lock, NULL);
    threads_group *all = threads_group_new(w);
    all->size = w->size;
    for (int r = 0; r < w->size; r++) {
        pthread_cond_init(&w->moved[r], NULL);
        all->member[r] = r;
        memset(&rank[r], 0, sizeof rank[r]);
        rank[r].comm.user = all;
        rank[r].comm.rank = r;
        rank[r].comm.size = w->size;
        rank[r].comm.timeout_s = w->timeout_s;
        rank[r].comm.exchange = threads_exchange;
        rank[r].comm.split = threads_split;
        rank[r].comm.release = threads_release;
        rank[r].body = body;
        rank[r].arg = arg;
    }
    for (int r = 0; r < w->size; r++)
        if (pthread_create(&thread[r], NULL, threads_main, &rank[r])) abort();
    for (int r = 0; r < w->size; r++) pthread_join(thread[r], NULL);
    while (w->groups) {
        threads_group *g = w->groups;
        w->groups = g->next;
        free(g);
    }
    for (int r = 0; r < w->size; r++) pthread_cond_destroy(&w->moved[r]);
    pthread_mutex_destroy(&w->lock);
    return threads_now() - begin;
}

#endif   // THREADS_COMM
#endif
