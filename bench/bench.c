/* bench.c - the speed of glam.h: products, layers, steps, decoding, growth, costs, as shares of
   what this machine can do and beside the peers that are installed.

   Build: cc -O2 -fopenmp bench/bench.c -o bench -lm -ldl       (POSIX; bench/run.sh does it all)
   Run:   ./bench [ROW|GROUP ...] [--threads N] [--seconds S] [--rounds R] [--simd NAME]
                  [--arithmetic NAME] [--full] [--json] [--serve] [--list]
     ROW, GROUP   what --list shows; none: the short form, --full: everything
     --seconds    shortest time of one sample (default 0.1); --rounds: samples of each (default 5)
     --simd       base, sse2, avx2, avx512, amx or neon instead of the best
     --arithmetic f32, bf16, bf16_tiles or auto: what products multiply (default f32)
     --json       a line of JSON for each row instead of a table
     --serve      of one row: prints "ready", then for every line with a number of seconds takes
                  one sample of each entrant and prints it as a line of JSON, until "quit": so a
                  driver (report.py) can take turns between this program and others.

   A row is measured as measure.h tells.  Nothing here decides anything: it is no test. */

#define _DEFAULT_SOURCE
#define GLAM_IMPLEMENTATION
#include "../glam.h"
#include <signal.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <unistd.h>
#include "measure.h"
#include "machine.h"
#include "peers.h"
#include "products.h"
#include "models.h"

// ---- the machine itself

typedef struct limit {
    glam_ctx *ctx;
    const machine *machine;
    int kind, threads;
    size_t count;                  // floats of one array and thread
    long repeat;
    float *memory;
    size_t stride;                 // floats from one thread's memory to the next
    float out[256];
} limit;

enum { PEAK, READ, TRIAD, EXPS, REGION };

static void limit_one(limit *l, int t)
{
    float *x = l->memory + (size_t)t * l->stride, out = 0;
    if (l->kind == PEAK) l->machine->peak(l->repeat, &out);
    for (long r = 0; r < l->repeat; r++) {
        if (l->kind == READ) l->machine->read(l->count, x, &out);
        if (l->kind == TRIAD) l->machine->triad(l->count, x, x + l->count, x + 2 * l->count);
        if (l->kind == EXPS) l->ctx->simd.kernels->exp_minus((int)l->count, 0, x, x + l->count);
        if (l->kind == PEAK) break;
    }
    l->out[t % 256] = out;
}

static void limit_nothing(void *arg, int begin, int end, int worker)
{ (void)arg; (void)begin; (void)end; (void)worker; }

static void limit_run(void *state)
{
    limit *l = (limit *)state;
    int t;
    if (l->kind == REGION) {
        glam__parallel(l->ctx, l->threads, 1e9, limit_nothing, NULL);
        return;
    }
#ifdef _OPENMP
    #pragma omp parallel for schedule(static, 1) num_threads(l->threads)
#endif
    for (t = 0; t < l->threads; t++) limit_one(l, t);
}

static entrant *enter_limit(bench *b, const char *name, const limit *from, int kind,
                            const machine *m, size_t count, long repeat)
{
    limit *l = (limit *)keep(b, sizeof *l);
    *l = *from;
    l->kind = kind;
    l->machine = m;
    l->count = count;
    l->repeat = repeat;
    return enter(b, name, limit_run, l);
}

static void enter_bandwidth(bench *b, const limit *l, const machine *m, size_t bytes)
{
    static const char *const names[] = { "read", "triad" };
    for (int i = 0; i < 2; i++) {                  // `bytes` is the whole working set
        char name[32];
        size_t count = bytes / sizeof(float) / (size_t)l->threads / (i ? 3 : 1) / 128 * 128;
        long repeat = (long)(2e7 / (double)(count * (i ? 12 : 4))) + 1;
        snprintf(name, sizeof name, "%s %lu", names[i], (unsigned long)bytes);
        entrant *e = enter_limit(b, name, l, i ? TRIAD : READ, m, count, repeat);
        e->moved = (i ? 12.0 : 4.0) * (double)count * (double)repeat * l->threads;
    }
}

static void enter_peak(bench *b, const limit *l, const machine *m)
{
    long n = 300000;
    char name[32];
    snprintf(name, sizeof name, "peak %s", m->name);
    entrant *e = enter_limit(b, name, l, PEAK, m, 0, n);
    e->flops = 2.0 * (double)n * MACHINE_CHAINS * m->width * l->threads;
}

#ifndef _SC_PHYS_PAGES
#define MEMORY_BYTES 4e9
#else
#define MEMORY_BYTES ((double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE))
#endif

static void open_machine(bench *b, const int *v)
{
    limit l;
    size_t most = (size_t)1 << 30;
    (void)v;
    memset(&l, 0, sizeof l);
    while ((double)most > MEMORY_BYTES / 6) most /= 2;
    l.ctx = open_context(b, b->threads);
    l.threads = b->threads;
    l.stride = most / sizeof(float) / (size_t)l.threads / 1024 * 1024;
    l.memory = (float *)keep(b, most);
    const machine *m = machine_of(glam_simd_name(l.ctx));
    snprintf(b->shape, sizeof b->shape, "%s of this machine", "limits");
    for (int i = 0; i < MACHINES; i++) {
        glam__kernels k;
        if (glam__kernels_pick(machines[i]->name, &k)) enter_peak(b, &l, machines[i]);
    }
    entrant *e = enter_limit(b, "exp", &l, EXPS, m, 2048, 100);
    e->items = 2048.0 * 100 * l.threads;
    enter_limit(b, "parallel region", &l, REGION, m, 0, 1);
    // in finer steps where the last cache ends: weights that nearly fit are read at either speed
    for (size_t bytes = (size_t)16384 * (size_t)l.threads; bytes <= most;
         bytes *= bytes < (size_t)16 << 20 ? 4 : 2)
        enter_bandwidth(b, &l, m, bytes);
#ifdef _SC_LEVEL1_DCACHE_SIZE
    fact(b, "l1", (double)sysconf(_SC_LEVEL1_DCACHE_SIZE));
    fact(b, "l2", (double)sysconf(_SC_LEVEL2_CACHE_SIZE));
    fact(b, "l3", (double)sysconf(_SC_LEVEL3_CACHE_SIZE));
#endif
}

// ---- the rows

#define PRODUCT(name, quick, ...) { "products", name, quick, open_product, { __VA_ARGS__ } }
#define INNER(name, quick, B, S, D) \
    { "products", "attention-" name, quick, open_inner, { B, S, 8, D, 0 } }, \
    { "products", "attention-" name "-back", quick, open_inner, { B, S, 8, D, 1 } }
#define SQUARE(n, quick) \
    PRODUCT("nn-" #n, quick, NN, n, n, n), PRODUCT("nt-" #n, quick, NT, n, n, n), \
    PRODUCT("tn-" #n, quick, TN, n, n, n)
#define EXPERT(M, H, quick)        /* 64 tokens, the weight packed once for many calls */ \
    PRODUCT("t64-" #M "-up", quick, NN, 64, H, M, 1), \
    PRODUCT("t64-" #M "-dx", quick, NT, 64, M, H, 1), \
    PRODUCT("t64-" #M "-dw", quick, TN, M, H, 64)
#define GEMV(M, H, quick) \
    PRODUCT("gemv-" #M "-up", quick, NN, 1, H, M, 1), \
    PRODUCT("gemv-" #M "-down", quick, NN, 1, M, H, 1)

//                     L   M    heads H     S    B  V      E
#define NANO           4,  128, 4,    512,  64,  12, 256,  0
#define NANO_MOE       4,  128, 4,    512,  64,  12, 256,  8
#define SMALL          6,  384, 6,    1536, 256, 8,  256,  0
#define SMALL_MOE8     6,  384, 6,    1536, 256, 8,  256,  8
#define SMALL_MOE32    6,  384, 6,    1536, 256, 8,  256,  32
#define BASE           12, 768, 12,   3072, 256, 2,  32000, 0
#define BASE_MOE4      12, 768, 12,   3072, 256, 2,  32000, 4
#define LARGE          24, 1024, 16,  4096, 256, 1,  32000, 0

static const row rows[] = {
    { "machine", "machine", 1, open_machine, { 0 } },
    { "steps", "nano",        1, open_step, { NANO } },
    { "steps", "nano-moe",    1, open_step, { NANO_MOE } },
    { "steps", "small",       1, open_step, { SMALL } },
    { "steps", "small-moe8",  1, open_step, { SMALL_MOE8 } },
    { "steps", "small-moe32", 0, open_step, { SMALL_MOE32 } },
    { "steps", "base",        0, open_step, { BASE } },
    { "steps", "base-moe4",   0, open_step, { BASE_MOE4 } },
    { "layers", "layer-768",  1, open_layer, { 768, 128, 512 } },
    { "layers", "layer-2048", 1, open_layer, { 2048, 384, 1536 } },
    SQUARE(256, 1), SQUARE(384, 0), SQUARE(512, 0), SQUARE(768, 0), SQUARE(1024, 1),
    SQUARE(2048, 0),
    PRODUCT("nn-768-2048-512", 0, NN, 768, 2048, 512),
    PRODUCT("nt-768-512-2048", 0, NT, 768, 512, 2048),
    PRODUCT("tn-512-2048-768", 0, TN, 512, 2048, 768),
    { "products", "matmul-768",  1, open_matmul, { 768, 512, 128 } },
    { "products", "matmul-2048", 0, open_matmul, { 2048, 1536, 384 } },
    EXPERT(128, 512, 1), EXPERT(256, 1024, 0), EXPERT(512, 2048, 0), EXPERT(768, 3072, 1),
    GEMV(128, 512, 0), GEMV(256, 1024, 0), GEMV(512, 2048, 1), GEMV(768, 3072, 0),
    INNER("64-32", 1, 12, 64, 32), INNER("64-64", 0, 12, 64, 64),
    INNER("256-32", 0, 4, 256, 32), INNER("256-64", 1, 4, 256, 64),
    INNER("512-64", 0, 2, 512, 64),
    INNER("1024-32", 0, 1, 1024, 32), INNER("1024-64", 1, 1, 1024, 64),
    { "decode", "decode-small",       1, open_decode, { SMALL } },
    { "decode", "decode-small-moe8",  1, open_decode, { SMALL_MOE8 } },
    { "decode", "decode-small-moe32", 0, open_decode, { SMALL_MOE32 } },
    { "decode", "decode-base",        0, open_decode, { BASE } },
    { "decode", "decode-large",       0, open_decode, { LARGE } },
    { "growth", "context", 1, open_growth, { 4, 128, 4, 512, 64, 64, 256, 0 } },
    { "growth", "experts", 1, open_growth, { NANO_MOE } },
    { "growth", "batch",   1, open_growth, { NANO_MOE } },
    { "growth", "vocab",   1, open_growth, { NANO } },
    { "costs", "ordered-dot",     1, open_sums, { 4096, 0 } },
    { "costs", "ordered-norm",    1, open_sums, { 1 << 24, 1 } },
    { "costs", "neighbour-nano",  1, open_neighbour, { NANO } },
    { "costs", "neighbour-small", 0, open_neighbour, { SMALL } },
    { "costs", "recompute",       1, open_recompute, { SMALL } },
    { "costs", "start",           1, open_start, { 0 } },
    { "costs", "compile",         0, open_compile, { 0 } },
};
enum { ROWS = (int)(sizeof rows / sizeof rows[0]) };

// ---- the command line

static void row_open(bench *b, const row *r)
{
    b->row = r;
    b->shape[0] = b->facts[0] = 0;
    b->count = b->keeps = b->opened = 0;
    neighbour = 0;
    r->open(b, r->p);
    warm_up(b);
}

static void row_close(bench *b)
{
    if (neighbour) {
        kill(neighbour, SIGKILL);
        kill(neighbour, SIGCONT);
    }
    for (int i = 0; i < b->opened; i++) glam_close(b->contexts[i]);
    for (int i = 0; i < b->keeps; i++) free(b->kept[i]);
}

static void row_run(bench *b, const row *r, int json)
{
    row_open(b, r);
    for (int i = 0; i < b->rounds; i++) take_round(b, b->seconds);
    if (json) say_json(b, 0);
    else say_table(b);
    row_close(b);
}

static void serve(bench *b, const row *r)
{
    char line[64];
    row_open(b, r);
    printf("ready\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) && strncmp(line, "quit", 4)) {
        take_round(b, atof(line));
        say_json(b, 1);
    }
    row_close(b);
}

// One step of a configuration and out, for the row "start".
static void first_step(bench *b, const char *name)
{
    for (int i = 0; i < ROWS; i++)
        if (!strcmp(rows[i].group, "steps") && !strcmp(rows[i].name, name)) {
            lm_step(lm_new(b, rows[i].p, b->threads, 0));
            exit(0);
        }
    die("--first: no such configuration");
}

static int usage(void)
{
    fprintf(stderr, "usage: bench [ROW|GROUP ...] [--threads N] [--seconds S] [--rounds R]\n"
            "             [--simd NAME] [--arithmetic f32|bf16|bf16_tiles|auto] [--full] [--json] [--serve]\n"
            "             [--list]\n");
    return 2;
}

// group name quick parameters
static void say_row(const row *r)
{
    printf("%s %s %d", r->group, r->name, r->quick);
    for (int i = 0; i < 8; i++) printf(" %d", r->p[i]);
    printf("\n");
}

static int wanted(const row *r, char *const *names, int count, int full)
{
    if (!count) return full || r->quick;
    for (int i = 0; i < count; i++) {
        if (!strcmp(names[i], r->name)) return 1;
        if (!strcmp(names[i], r->group) && (full || r->quick)) return 1;
    }
    return 0;
}

// By its word; 0: there is none of that name.
static int arithmetic_of(bench *b, const char *name)
{
    for (int i = 0; i <= GLAM_AUTO; i++)
        if (!strcmp(name, arithmetics[i])) return b->arithmetic = (glam_arithmetic)i, 1;
    return 0;
}

// What is had of what was asked for: a context chooses.
static void choose(bench *b)
{
    glam_options options = glam_options_default();
    options.simd = b->asked;
    options.arithmetic = b->arithmetic;
    glam_ctx *ctx = glam_open(&options);
    if (glam_error(ctx)) die(glam_error_text(ctx));
    b->simd = glam_simd_name(ctx);                 // a constant
    arithmetic_of(b, glam_arithmetic_name(ctx));
    glam_close(ctx);
}

int main(int argc, char **argv)
{
    static bench b;
    const char *first = NULL;
    int json = 0, served = 0, list = 0, names = 0, found = 0;
    b.program = argv[0];
    b.rounds = 5;
    b.seconds = 0.1;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(a, "--json")) json = 1;
        else if (!strcmp(a, "--serve")) served = 1;
        else if (!strcmp(a, "--list")) list = 1;
        else if (!strcmp(a, "--full")) b.full = 1;
        else if (!strcmp(a, "--threads") && v) b.threads = atoi(argv[++i]);
        else if (!strcmp(a, "--seconds") && v) b.seconds = atof(argv[++i]);
        else if (!strcmp(a, "--rounds") && v) b.rounds = atoi(argv[++i]);
        else if (!strcmp(a, "--simd") && v) b.asked = argv[++i];
        else if (!strcmp(a, "--arithmetic") && v && arithmetic_of(&b, v)) i++;
        else if (!strcmp(a, "--first") && v) first = argv[++i];
        else if (a[0] == '-') return usage();
        else argv[names++] = argv[i];              // the names move to the front
    }
    if (b.threads <= 0) b.threads = glam__default_threads();
    if (b.rounds < 1 || b.rounds > ROUNDS || b.threads > 256) return usage();
    choose(&b);
    if (first) first_step(&b, first);
    if (!json && !served && !list) say_title();
    for (int i = 0; i < ROWS; i++) {
        if (!wanted(&rows[i], argv, names, b.full)) continue;
        found++;
        if (list) say_row(&rows[i]);
        else if (served) serve(&b, &rows[i]);
        else row_run(&b, &rows[i], json);
    }
    if (!found) fprintf(stderr, "bench: no such row; --list shows them\n");
    return !found;
}
