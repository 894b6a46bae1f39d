/* What many tests need: contexts, small models, numbers that look random, slow formulas. */
#ifndef GLAM_TEST_HELPERS_H
#define GLAM_TEST_HELPERS_H

// The environment can force an instruction set or a number of threads on every test:
// GLAM_TEST_SIMD=base, GLAM_TEST_THREADS=3.
static glam_options test_options(void)
{
    glam_options options = glam_options_default();
    const char *simd = getenv("GLAM_TEST_SIMD"), *threads = getenv("GLAM_TEST_THREADS");
#ifndef WITHOUT_ARITHMETIC         // same_bits.sh, with an older header
    const char *arithmetic = getenv("GLAM_TEST_ARITHMETIC");
    if (arithmetic && !strcmp(arithmetic, "bf16")) options.arithmetic = GLAM_BF16;
#ifndef WITHOUT_TILES
    if (arithmetic && !strcmp(arithmetic, "bf16_tiles")) options.arithmetic = GLAM_BF16_TILES;
#endif
#endif
    if (simd && *simd) options.simd = simd;
    if (threads && *threads) options.threads = atoi(threads);
    return options;
}

static glam_ctx *test_ctx(void)
{
    glam_options options = test_options();
    return glam_open(&options);
}

// Closes ctx after checking that nothing went wrong in it.
static void test_close_clean(glam_ctx *ctx, const char *file, int line)
{
    if (glam_error(ctx) != GLAM_OK) printf("%s:%d: %s\n", file, line, glam_error_text(ctx));
    test__check(glam_error(ctx) == GLAM_OK, file, line, "the context has no error");
    glam_close(ctx);
}
#define CLOSE_CLEAN(ctx) test_close_clean(ctx, __FILE__, __LINE__)

// The error must be this one and its sentence must hold this part; then it is cleared.
static int test_error_is(glam_ctx *ctx, glam_status status, const char *part,
                         const char *file, int line)
{
    int ok = glam_error(ctx) == status && strstr(glam_error_text(ctx), part) != NULL;
    if (!ok) {
        printf("%s:%d: wanted %s with \"%s\", got %s: \"%s\"\n", file, line,
               glam_status_name(status), part, glam_status_name(glam_error(ctx)),
               glam_error_text(ctx));
    }
    test__check(ok, file, line, "the right error");
    glam_clear_error(ctx);
    return ok;
}
#define ERROR_IS(ctx, status, part) test_error_is(ctx, status, part, __FILE__, __LINE__)

// A generator of the tests' own (xorshift), so that no test leans on room 04.
static uint64_t test_next(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

static uint64_t test_seed(uint64_t seed)
{
    uint64_t state = seed * 0x9E3779B97F4A7C15ull + 0x1234567ull;
    for (int i = 0; i < 8; i++) test_next(&state);
    return state;
}

static double test_uniform(uint64_t *state, double low, double high)
{
    return low + (high - low) * (double)(test_next(state) >> 11) / 9007199254740992.0;
}

static void test_fill(float *x, size_t n, uint64_t seed, double low, double high)
{
    uint64_t state = test_seed(seed);
    for (size_t i = 0; i < n; i++) x[i] = (float)test_uniform(&state, low, high);
}

static float *test_floats(size_t n, uint64_t seed, double low, double high)
{
    float *x = (float *)malloc((n ? n : 1) * sizeof(float));
    if (x) test_fill(x, n, seed, low, high);
    return x;
}

static void test_ids(int32_t *ids, size_t n, uint64_t seed, int vocab)
{
    uint64_t state = test_seed(seed);
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)(test_next(&state) % (uint64_t)vocab);
}

// |a - b| / largest |b|, the measure of the golden cases; infinite when a is not a number.
static double test_off(const float *a, const double *b, size_t n)
{
    double worst = 0, top = 0;
    for (size_t i = 0; i < n; i++) {
        double off = fabs((double)a[i] - b[i]);
        if (!(off <= DBL_MAX)) return HUGE_VAL;
        if (off > worst) worst = off;
        if (fabs(b[i]) > top) top = fabs(b[i]);
    }
    return top > 0 ? worst / top : worst;
}

static uint64_t test_hash(uint64_t hash, const void *data, size_t bytes)
{
    const unsigned char *p = (const unsigned char *)data;
    for (size_t i = 0; i < bytes; i++) hash = (hash ^ p[i]) * 1099511628211ull;
    return hash;
}

// One number for all weights of a model.
static uint64_t test_model_hash(const glam_model *model)
{
    uint64_t hash = 14695981039346656037ull;
    for (int i = 0; ; i++) {
        const glam_tensor *t = glam_model_tensor_at(model, i);
        if (!t) return hash;
        hash = test_hash(hash, t->data, glam_size(t) * sizeof(float));
    }
}

// A model of a few thousand weights with everything in it: a mixture and a dense layer.
static glam_config test_config(void)
{
    glam_config c = glam_config_default();
    c.vocab = 37;
    c.context = 11;
    c.layers = 2;
    c.d_model = 12;
    c.heads = 3;
    c.d_head = 5;
    c.hidden = 19;
    c.moe.experts = 4;
    c.moe.every = 2;
    c.moe.hidden = 7;
    return c;
}

#ifndef MESH_WITHOUT_ROTARY
// What models other than GLaM have: rotary positions, heads in groups, norms of queries and keys, scales, a
// gated dense layer.  kind 0 to 3: each scaling; 0 and 2 have the norm by head, 1 of the whole row.
static void test_family(glam_config *c, int kind)
{
    c->heads = 4;
    c->d_head = 6;
    c->kv_heads = kind % 2 ? 1 : 2;
    c->position = GLAM_POSITION_ROTARY;
    c->rotary.theta = 300;
    c->rotary.scaling = (glam_rotary_scaling)kind;
    c->rotary.factor = kind ? 2.5f : 0;
    c->qk_norm = kind == 3 ? GLAM_QK_NORM_NONE : kind == 1 ? GLAM_QK_NORM_WHOLE : GLAM_QK_NORM_HEAD;
    c->attention_scale = 0.4f;
    c->attention_sink = 0;
    c->embed_scale = 1.5f;
    c->residual_scale = 0.3f;
    c->activation = GLAM_SWIGLU;
}
#endif

// The same for bytes as tokens.
static glam_config train_config(void)
{
    glam_config c = test_config();
    c.vocab = 256;
    c.context = 16;
    c.moe.activation = GLAM_RELU;
    return c;
}

static glam_recipe train_recipe(int steps)
{
    glam_recipe r = glam_recipe_default();
    r.steps = steps;
    r.batch = 4;
    r.warmup = 2;
    r.eval_every = 0;
    return r;
}

// Second halves of adapters, which begin as zeros, with numbers.
static void test_fill_adapters(glam_model *model)
{
    for (int i = 0; glam_model_tensor_at(model, i); i++) {
        glam_tensor *t = glam_model_tensor_at(model, i);
        if (strstr(t->name, ".lora_b")) test_fill(t->data, glam_size(t), (uint64_t)i, -0.2, 0.2);
    }
}

// A path for a file of a test, in the folder that run.sh removes afterwards.
static const char *test_path(const char *name)
{
    static char path[1024];
    const char *folder = getenv("GLAM_TEST_DIR");
    snprintf(path, sizeof path, "%s/glam_test_%s", folder && *folder ? folder : ".", name);
    return path;
}

// As long as it is repeated, a text that a tiny model learns quickly.
static const char test_rhyme[] =
    "one two three four five, once I caught a fish alive, six seven eight nine ten, "
    "then I let it go again. ";

static glam_text *test_text(glam_ctx *ctx, size_t bytes)
{
    char *all = (char *)malloc(bytes + 1);
    if (!all) return NULL;
    for (size_t i = 0; i < bytes; i++) all[i] = test_rhyme[i % (sizeof test_rhyme - 1)];
    glam_text *text = glam_text_from(ctx, all, bytes, NULL);
    free(all);
    return text;
}

// An allocator that counts, and refuses call number fail_at (from 1; 0: none), and with
// from_on every call after it too.
typedef struct test_heap {
    long   calls, fail_at, live;
    int    from_on;
    size_t bytes, peak;
    int    wrong;                  // a release whose size is not that of its allocation
} test_heap;

static void *test_heap_alloc(void *user, size_t bytes)
{
    test_heap *heap = (test_heap *)user;
    heap->calls++;
    if (heap->fail_at && (heap->calls == heap->fail_at ||
                          (heap->from_on && heap->calls > heap->fail_at))) return NULL;
    // The size travels in front of the block; 64 keeps the alignment that malloc gives.
    char *block = (char *)malloc(bytes + 64);
    if (!block) return NULL;
    memcpy(block, &bytes, sizeof bytes);
    heap->live++;
    heap->bytes += bytes;
    if (heap->bytes > heap->peak) heap->peak = heap->bytes;
    return block + 64;
}

static void test_heap_release(void *user, void *block, size_t bytes)
{
    test_heap *heap = (test_heap *)user;
    size_t was;
    if (!block) return;
    memcpy(&was, (char *)block - 64, sizeof was);
    if (was != bytes) heap->wrong++;
    heap->live--;
    heap->bytes -= was;
    memset(block, 0xdd, was);      // who still reads it sees nonsense
    free((char *)block - 64);
}

static void test_heap_into(test_heap *heap, glam_options *options)
{
    memset(heap, 0, sizeof *heap);
    options->allocator.alloc = test_heap_alloc;
    options->allocator.release = test_heap_release;
    options->allocator.user = heap;
}

// Slow formulas in double, each written from the reference and from nothing else.

static double slow_gelu(double z)
{
    return 0.5 * z * (1 + tanh(0.79788456080286535588 * (z + 0.044715 * z * z * z)));
}

static double slow_gelu_erf(double z)
{
    return 0.5 * z * (1 + erf(z * 0.70710678118654752440));
}

static double slow_silu(double z)
{
    return z / (1 + exp(-z));
}

// y [R,N] = x [R,K] w [K,N]
static void slow_matmul(double *y, const float *x, const float *w, int R, int K, int N)
{
    for (int r = 0; r < R; r++) {
        for (int n = 0; n < N; n++) {
            double sum = 0;
            for (int k = 0; k < K; k++) {
                sum += (double)x[(size_t)r * (size_t)K + (size_t)k] *
                       (double)w[(size_t)k * (size_t)N + (size_t)n];
            }
            y[(size_t)r * (size_t)N + (size_t)n] = sum;
        }
    }
}

static void slow_rmsnorm(double *y, const float *x, const float *gain, int rows, int N, double eps)
{
    for (int r = 0; r < rows; r++) {
        double sum = 0;
        for (int n = 0; n < N; n++) sum += (double)x[r * N + n] * (double)x[r * N + n];
        double inverse = 1 / sqrt(sum / N + eps);
        for (int n = 0; n < N; n++) {
            y[r * N + n] = (double)x[r * N + n] * inverse * (gain ? (double)gain[n] : 1.0);
        }
    }
}

static double slow_logsumexp(const float *x, int n)
{
    double top = (double)x[0], sum = 0;
    for (int i = 1; i < n; i++) if ((double)x[i] > top) top = (double)x[i];
    for (int i = 0; i < n; i++) sum += exp((double)x[i] - top);
    return top + log(sum);
}

#endif
