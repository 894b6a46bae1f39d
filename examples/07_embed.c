/* 07_embed - the library inside a C program that has its own rules.

   You learn: your own allocator (here: one that counts and has a limit), your own worker threads
   through options.parallel_for, GLAM_NO_STDIO, a model that comes from memory and not from a
   file, log lines that go where you want them, and the header in two files: this one carries
   the implementation, 07_embed_model.c only includes it.  The library prints nothing.

   Build: cc -O2 examples/07_embed.c examples/07_embed_model.c -o embed -lm -pthread && ./embed

   Prints:
       model: 0.1 million parameters from ... bytes in memory
       3 workers wrote:  brown fox jumps over the lazy dog and the quick ...
       allocator: peak ... bytes in ... blocks, all given back: yes */

#define _POSIX_C_SOURCE 200809L
#define GLAM_NO_STDIO
#define GLAM_IMPLEMENTATION
#include "../glam.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

glam_model *embedded_model(glam_ctx *ctx, size_t *bytes);       // 07_embed_model.c

// -- an allocator ---------------------------------------------------------------------------

typedef struct pool { size_t used, peak, limit, blocks; } pool;

static void *pool_alloc(void *user, size_t bytes)
{
    pool *p = (pool *)user;
    if (bytes > p->limit - p->used) return NULL;                // the library copes and says so
    void *block = malloc(bytes);
    if (!block) return NULL;
    p->used += bytes;
    p->blocks++;
    if (p->used > p->peak) p->peak = p->used;
    return block;
}

static void pool_release(void *user, void *block, size_t bytes)
{
    pool *p = (pool *)user;
    p->used -= bytes;
    free(block);
}

// -- workers --------------------------------------------------------------------------------
// They sleep until there is a loop, take chunks one by one, and report when none is left.

enum { WORKERS = 3 };                                           // the calling thread is one of them

static struct crew {
    pthread_mutex_t lock;
    pthread_cond_t  wake, idle;
    glam_body *body;
    void *arg;
    int next, chunks, busy, round, quit;
} crew = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER,
          NULL, NULL, 0, 0, 0, 0, 0};

static void take_chunks(int worker)                             // called with the lock held
{
    while (crew.next < crew.chunks) {
        int chunk = crew.next++;
        pthread_mutex_unlock(&crew.lock);
        crew.body(crew.arg, chunk, chunk + 1, worker);
        pthread_mutex_lock(&crew.lock);
    }
}

static void *work(void *number)
{
    int worker = *(const int *)number, seen = 0;
    pthread_mutex_lock(&crew.lock);
    while (!crew.quit) {
        if (seen == crew.round) {
            pthread_cond_wait(&crew.wake, &crew.lock);
            continue;
        }
        seen = crew.round;
        take_chunks(worker);
        if (--crew.busy == 0) pthread_cond_signal(&crew.idle);
    }
    pthread_mutex_unlock(&crew.lock);
    return NULL;
}

static void parallel_for(void *user, int chunks, glam_body *body, void *arg)
{
    (void)user;
    pthread_mutex_lock(&crew.lock);
    crew.body   = body;
    crew.arg    = arg;
    crew.next   = 0;
    crew.chunks = chunks;
    crew.busy   = WORKERS - 1;
    crew.round++;
    pthread_cond_broadcast(&crew.wake);
    take_chunks(0);
    while (crew.busy > 0) pthread_cond_wait(&crew.idle, &crew.lock);
    pthread_mutex_unlock(&crew.lock);
}

// -- the program ----------------------------------------------------------------------------

static void keep_line(void *user, const char *line)
{
    snprintf((char *)user, 200, "%s", line);                    // to a log file, a window, ...
}

int main(void)
{
    static const int number[WORKERS] = {0, 1, 2};
    pthread_t thread[WORKERS];
    for (int i = 1; i < WORKERS; i++) pthread_create(&thread[i], NULL, work, (void *)&number[i]);

    pool memory = {0, 0, (size_t)256 << 20, 0};
    char last_line[200] = "", text[50];
    glam_options options = glam_options_default();
    options.allocator.alloc   = pool_alloc;
    options.allocator.release = pool_release;
    options.allocator.user    = &memory;
    options.parallel_for = parallel_for;
    options.threads      = WORKERS;
    options.log          = keep_line;
    options.log_user     = last_line;

    glam_ctx *ctx = glam_open(&options);
    size_t bytes = 0;
    glam_model *model = embedded_model(ctx, &bytes);
    printf("model: %.1f million parameters from %lu bytes in memory\n",
           (double)glam_model_count(model, NULL) / 1e6, (unsigned long)bytes);
    glam_sampling sampling = glam_sampling_default();
    sampling.temperature = 0;
    if (glam_complete(model, "the quick", text, sizeof text, &sampling))
        printf("%d workers wrote: %s...\n", WORKERS, text);
    int failed = glam_error(ctx) != GLAM_OK;
    if (failed) fprintf(stderr, "%s\n", glam_error_text(ctx));
    glam_close(ctx);
    printf("allocator: peak %lu bytes in %lu blocks, all given back: %s\n",
           (unsigned long)memory.peak, (unsigned long)memory.blocks, memory.used ? "no" : "yes");

    pthread_mutex_lock(&crew.lock);
    crew.quit = 1;
    pthread_cond_broadcast(&crew.wake);
    pthread_mutex_unlock(&crew.lock);
    for (int i = 1; i < WORKERS; i++) pthread_join(thread[i], NULL);
    return failed;
}
