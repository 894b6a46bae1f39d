/* Room 02: the parallel loop.  Kinds: property, same bits. */

typedef struct threads_count { int chunk[1000]; int wrong, threads; } threads_count;

static void threads_body(void *arg, int begin, int end, int worker)
{
    threads_count *count = (threads_count *)arg;
    if (worker < 0 || worker >= count->threads || begin >= end) count->wrong++;
    for (int i = begin; i < end; i++) count->chunk[i]++;
}

// Every chunk exactly once, whatever the numbers.
static void threads_each_chunk_once(void)
{
    static const int threads[4] = { 1, 2, 3, 7 }, chunks[6] = { 1, 2, 7, 64, 999, 1000 };
    for (int t = 0; t < 4; t++) {
        glam_options options = test_options();
        options.threads = threads[t];
        glam_ctx *ctx = glam_open(&options);
        for (int c = 0; c < 6; c++) {
            static threads_count count;
            memset(&count, 0, sizeof count);
            count.threads = threads[t];
            glam__parallel(ctx, chunks[c], 1e9, threads_body, &count);
            for (int i = 0; i < 1000; i++) count.wrong += count.chunk[i] != (i < chunks[c]);
            CHECK(count.wrong == 0);
        }
        glam__parallel(ctx, 0, 1e9, threads_body, NULL);
        CLOSE_CLEAN(ctx);
    }
}

static void threads_host(void *user, int chunks, glam_body *body, void *arg)
{
    ++*(int *)user;
    for (int i = chunks - 1; i >= 0; i--) body(arg, i, i + 1, i % 3);
}

// The host's own workers are used when given, and need their number.
static void threads_of_the_host(void)
{
    glam_options options = test_options();
    int calls = 0;
    options.parallel_for = threads_host;
    options.parallel_user = &calls;
    options.threads = 0;
    glam_ctx *ctx = glam_open(&options);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "parallel_for");
    glam_close(ctx);
    options.threads = 3;
    ctx = glam_open(&options);
    static threads_count count;
    memset(&count, 0, sizeof count);
    count.threads = 3;
    glam__parallel(ctx, 20, 1e9, threads_body, &count);
    CHECK(calls == 1 && count.wrong == 0 && count.chunk[19] == 1);
    float *x = test_floats(200 * 150, 1, -1, 1);
    glam_tensor *a = glam_input(ctx, x, glam_dim2(200, 150)), *b = glam_input(ctx, x, glam_dim2(150, 200));
    glam_tensor *y = glam_matmul(ctx, a, b);
    CHECK(y != NULL && calls > 1);
    glam_ctx *plain = test_ctx();
    glam_tensor *z = glam_matmul(plain, glam_input(plain, x, glam_dim2(200, 150)),
                                 glam_input(plain, x, glam_dim2(150, 200)));
    CHECK(y && z && !memcmp(y->data, z->data, 200 * 200 * sizeof(float)));
    free(x);
    CLOSE_CLEAN(plain);
    CLOSE_CLEAN(ctx);
}

// 1e-40 where subnormal numbers are kept, 0 where they are not
static float threads_small(void)
{
    volatile float a = 1e-30f, b = 1e-10f;
    return a * b;
}

typedef struct threads_smalls { float inside[8]; int kept; } threads_smalls;

static void threads_small_body(void *arg, int begin, int end, int worker GLAM__UNUSED)
{ for (int i = begin; i < end; i++) ((threads_smalls *)arg)->inside[i] = threads_small(); }

static void threads_small_host(void *user, int chunks, glam_body *body, void *arg)
{
    for (int i = 0; i < chunks; i++) {
        body(arg, i, i + 1, 0);
        ((threads_smalls *)user)->kept += threads_small() > 0;
    }
}

// Subnormal numbers are zero inside of the loop where the processor offers it; a thread of the
// host has its own mode back as soon as the body returns.
static void threads_flush(void)
{
    const unsigned mode = GLAM__MODE();
    GLAM__SET_MODE(mode | GLAM__FLUSH);
    const float expected = threads_small();
    GLAM__SET_MODE(mode);
    for (int host = 0; host < 2; host++) {
        threads_smalls smalls;
        glam_options options = test_options();
        memset(&smalls, 0, sizeof smalls);
        options.threads = 2;
        if (host) {
            options.parallel_for = threads_small_host;
            options.parallel_user = &smalls;
        }
        glam_ctx *ctx = glam_open(&options);
        glam__parallel(ctx, 8, 1e9, threads_small_body, &smalls);
        for (int i = 0; i < 8; i++) CHECK(smalls.inside[i] == expected);
        CHECK(threads_small() > 0 && (!host || smalls.kept == 8));
        CLOSE_CLEAN(ctx);
    }
}

// cpu.max of cgroup v2, and quota and period of v1 side by side.
static void threads_quota(void)
{
    static const struct { const char *text; int cpus; } rows[] = {
        { "max 100000\n", 0 }, { "50000 100000\n", 1 }, { "100000 100000\n", 1 }, { "150000 100000\n", 2 },
        { "400000 100000", 4 }, { "-1\n 100000\n", 0 }, { "200000\n 100000\n", 2 }, { "1000 100000\n", 1 },
        { "", 0 }, { "max", 0 }, { "50000", 0 }, { "50000 0\n", 0 }, { "0 100000\n", 0 }, { "x 3", 0 },
        { "99999999999999999999 1", 0 } };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (!CHECK(glam__quota_cpus(rows[i].text) == rows[i].cpus)) printf("  %s\n", rows[i].text);
    glam_ctx *ctx = glam_open(NULL);
    CHECK(ctx && ctx->options.threads >= 1);
    glam_close(ctx);
}

#if defined(_OPENMP) && defined(__linux__) && !defined(GLAM_NO_STDIO)
#include <dirent.h>

static void threads_put(const char *top, const char *name, const char *text)
{
    char path[1400];
    snprintf(path, sizeof path, "%s/%s", top, name);
    for (char *at = path + strlen(top) + 1; (at = strchr(at, '/')) != NULL; *at++ = '/') {
        *at = 0;
        mkdir(path, 0777);
    }
    FILE *f = fopen(path, "w");
    if (CHECK(f != NULL)) fputs(text, f);
    if (f) fclose(f);
}

// A folder and all in it; a file.
static void threads_drop(const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        char below[1400];
        snprintf(below, sizeof below, "%.1000s/%.300s", path, e->d_name);
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) threads_drop(below);
    }
    if (d) closedir(d);
    CHECK(remove(path) == 0);
}

// Of the process's group and all above it the least counts, in both trees of files.
static void threads_quota_of_groups(void)
{
    char top[1100];
    snprintf(top, sizeof top, "%s", test_path("quota"));
    mkdir(top, 0777);
    if (!CHECK(strlen(top) < 200)) return;
    threads_put(top, "proc/self/cgroup", "");
    threads_put(top, "sys/fs/cgroup/cpu.max", "max 100000\n");
    threads_put(top, "sys/fs/cgroup/a/cpu.max", "max 100000\n");
    threads_put(top, "sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    CHECK(glam__quota(top, 9) == 9 && glam__quota("/nowhere", 9) == 9);
    threads_put(top, "proc/self/cgroup", "0::/a/b/\n");
    CHECK(glam__quota(top, 9) == 9);
    threads_put(top, "sys/fs/cgroup/a/cpu.max", "250000 100000\n");
    CHECK(glam__quota(top, 9) == 3 && glam__quota(top, 2) == 2);
    threads_put(top, "sys/fs/cgroup/a/b/cpu.max", "500000 100000\n");
    CHECK(glam__quota(top, 9) == 3);
    threads_put(top, "sys/fs/cgroup/cpu.max", "150000 100000\n");
    CHECK(glam__quota(top, 9) == 2);
    threads_put(top, "sys/fs/cgroup/cpu/c/cpu.cfs_quota_us", "100000\n");
    threads_put(top, "sys/fs/cgroup/cpu/c/cpu.cfs_period_us", "50000\n");
    threads_put(top, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
    threads_put(top, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "50000\n");
    threads_put(top, "proc/self/cgroup", "5:memory:/a\n4:cpu,cpuacct:/c\n0::/\n");
    threads_put(top, "sys/fs/cgroup/cpu.max", "max 100000\n");
    CHECK(glam__quota(top, 9) == 2);
    threads_put(top, "proc/self/cgroup", "3:cpuset:/c\n4:cpuacct,cpu:/c/d\n");
    CHECK(glam__quota(top, 9) == 2);
    threads_put(top, "proc/self/cgroup", "nonsense\n3:cpuset:/c\n");
    CHECK(glam__quota(top, 9) == 9);
    threads_drop(top);
}
#endif

static void test_02_threads(void)
{
#if defined(_OPENMP) && defined(__linux__) && !defined(GLAM_NO_STDIO)
    RUN(threads_quota_of_groups);
#endif
    RUN(threads_quota);
    RUN(threads_each_chunk_once);
    RUN(threads_of_the_host);
    RUN(threads_flush);
}
