/* measure.h - rows of entrants, timed in turn.  Used by bench.c, after glam.h.

   A row is one question ("how fast is this product?"), its entrants are the answers to be compared
   (ours and the peers, or ours at several sizes).  A round takes one sample of each entrant, one
   after another, so that a machine whose speed moves moves it for all of them; what counts is the
   median over the rounds.  A sample repeats an entrant for at least so many seconds and is the
   mean time of one run in it. */

#ifndef MEASURE_H
#define MEASURE_H

enum { ENTRANTS = 32, ROUNDS = 64, KEPT = 256 };

typedef struct entrant {
    char   name[32];
    void (*run)(void *state);
    void  *state;
    double flops, moved, items;    // of one run: operations, bytes read and written, tokens
    double held;                   // bytes of memory; 0: not told
    double least;                  // shortest sample in seconds; 0: what the command line says
    void (*enter)(void *state);    // around a sample, not timed; NULL: nothing
    void (*leave)(void *state);
    int    burst;                  // runs between two looks at the clock
    int    taken;
    double sample[ROUNDS];
} entrant;

struct row;

typedef struct bench {
    const struct row *row;
    int     threads, rounds, full;
    double  seconds;
    const char *asked, *simd, *program;    // asked for (NULL: the best), had
    glam_arithmetic arithmetic;
    char    shape[96];
    char    facts[400];            // further numbers of the row: , "name": value
    entrant list[ENTRANTS];
    int     count;
    void   *kept[KEPT];            // freed when the row is over
    glam_ctx *contexts[ENTRANTS];
    int     keeps, opened;
} bench;

typedef struct row {
    const char *group, *name;
    int  quick;                    // 1: part of the short form
    void (*open)(bench *b, const int *p);
    int  p[8];
} row;

static void die(const char *what)
{
    fprintf(stderr, "bench: %s\n", what);
    exit(1);
}

static void *keep(bench *b, size_t bytes)
{
    void *block = NULL;
    bytes = bytes ? (bytes + 63) / 64 * 64 : 64;
    if (b->keeps == KEPT || posix_memalign(&block, 4096, bytes)) die("out of memory");
    memset(block, 0, bytes);
    return b->kept[b->keeps++] = block;
}

// Floats between -1 and 1.
static float *noise(bench *b, size_t count)
{
    float *x = (float *)keep(b, count * sizeof(float));
    for (size_t i = 0; i < count; i++) x[i] = 2 * glam_random(1, (uint64_t)b->keeps, i) - 1;
    return x;
}

static glam_ctx *open_context(bench *b, int threads)
{
    glam_options options = glam_options_default();
    options.threads = threads;
    options.simd = b->asked;
    options.arithmetic = b->arithmetic;
    glam_ctx *ctx = glam_open(&options);
    if (!ctx || b->opened == ENTRANTS) die("no context");
    if (glam_error(ctx)) die(glam_error_text(ctx));
    return b->contexts[b->opened++] = ctx;
}

static entrant *enter(bench *b, const char *name, void (*run)(void *), void *state)
{
    if (b->count == ENTRANTS) die("too many entrants");
    entrant *e = &b->list[b->count++];
    memset(e, 0, sizeof *e);
    snprintf(e->name, sizeof e->name, "%s", name);
    e->run = run;
    e->state = state;
    return e;
}

static void fact(bench *b, const char *name, double value)
{
    size_t n = strlen(b->facts);
    snprintf(b->facts + n, sizeof b->facts - n, ", \"%s\": %.10g", name, value);
}

// Seconds of one run.
static double sample(entrant *e, double seconds)
{
    double from, now;
    long runs = 0;
    if (seconds < e->least) seconds = e->least;
    if (e->enter) e->enter(e->state);
    from = glam__seconds();
    do {
        for (int i = 0; i < e->burst; i++) e->run(e->state);
        runs += e->burst;
        now = glam__seconds();
    } while (now - from < seconds);
    if (e->leave) e->leave(e->state);
    return (now - from) / (double)runs;
}

// Two runs before anything counts: memory touched, weights packed, workers awake.
static void warm_up(bench *b)
{
    for (int i = 0; i < b->count; i++) {
        entrant *e = &b->list[i];
        e->run(e->state);
        double t = glam__seconds();
        e->run(e->state);
        t = glam__seconds() - t;
        e->burst = t < 50e-6 ? (int)(50e-6 / (t + 1e-9)) + 1 : 1;
    }
}

static void take_round(bench *b, double seconds)
{
    for (int i = 0; i < b->count; i++) {
        entrant *e = &b->list[i];
        e->sample[e->taken++ % ROUNDS] = sample(e, seconds);
    }
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *from, int n)
{
    double v[ROUNDS];
    memcpy(v, from, (size_t)n * sizeof *v);
    qsort(v, (size_t)n, sizeof *v, by_size);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static double peak_rss_mb(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
#ifdef __APPLE__
    return (double)u.ru_maxrss / 1048576;
#else
    return (double)u.ru_maxrss / 1024;
#endif
}

static const char *const arithmetics[] = { "f32", "bf16", "bf16_tiles", "auto" };

// One line of JSON.  last: the last sample only, else medians.
static void say_json(const bench *b, int last)
{
    printf("{\"row\": \"%s\", \"group\": \"%s\", \"shape\": \"%s\", \"threads\": %d, "
           "\"simd\": \"%s\", \"arithmetic\": \"%s\", \"rss_mb\": %.1f%s", b->row->name,
           b->row->group, b->shape, b->threads, b->simd, arithmetics[b->arithmetic],
           peak_rss_mb(), b->facts);
    for (int i = 0; i < b->count; i++) {
        const entrant *e = &b->list[i];
        int n = e->taken < ROUNDS ? e->taken : ROUNDS;
        double s = last ? e->sample[(e->taken - 1) % ROUNDS] : median(e->sample, n);
        if (!i && e->items > 0) printf(", \"tokens_per_s\": %.2f", e->items / s);
        printf("%s{\"name\": \"%s\", \"seconds\": %.9g, \"flops\": %.10g, \"moved\": %.10g, "
               "\"items\": %.10g, \"held\": %.10g}", i ? ", " : ", \"entrants\": [", e->name, s,
               e->flops, e->moved, e->items, e->held);
    }
    printf("]}\n");
    fflush(stdout);
}

static void say_number(double value, int wanted)
{
    if (wanted) printf(value < 10 ? " %.2f |" : value < 1000 ? " %.1f |" : " %.0f |", value);
    else printf("  |");
}

static void say_title(void)
{
    printf("| row | shape | threads | entrant | ms | GFLOP/s | GB/s | items/s | MB |\n"
           "|---|---|---:|---|---:|---:|---:|---:|---:|\n");
}

static void say_table(const bench *b)
{
    for (int i = 0; i < b->count; i++) {
        const entrant *e = &b->list[i];
        double s = median(e->sample, e->taken < ROUNDS ? e->taken : ROUNDS);
        printf("| %s | %s | %d | %s | %.4g |", b->row->name, b->shape, b->threads, e->name,
               s * 1e3);
        say_number(e->flops / s * 1e-9, e->flops > 0);
        say_number(e->moved / s * 1e-9, e->moved > 0);
        say_number(e->items / s, e->items > 0);
        say_number(e->held / 1e6, e->held > 0);
        printf("\n");
    }
    fflush(stdout);
}

#endif
