/* Narrow frozen weights: bf16 and q8.  Kinds: value (slow loops over what the numbers stand for), same bits
   (against f32 weights of those values), files, failure. */

// --- what the numbers stand for ------------------------------------------------------------------

// The nearest number with so many significant bits.
static double narrow_round(double x, int bits)
{
    int e;
    if (x == 0) return 0;
    double m = frexp(x, &e) * ldexp(1, bits), down = floor(m);
    if (m - down > 0.5 || (m - down == 0.5 && fmod(down, 2) != 0)) down += 1;
    return ldexp(down, e - bits);
}

// A narrow twin of t, made by hand: it lives as long as ctx.
static glam_tensor *narrow_twin(glam_ctx *ctx, const glam_tensor *t, glam_type type)
{
    glam_tensor *n = glam_param(ctx, "twin", t->shape);
    if (!n) return NULL;
    n->type = type;
    n->narrow = glam__take(ctx, &ctx->base.life, glam__value_bytes(t->shape, type));
    n->data = NULL;
    n->wants_grad = 0;
    glam_write(n, 0, glam__rows(t), t->data);
    return n;
}

static void narrow_values(void)
{
    glam_ctx *ctx = test_ctx();
    const int sizes[] = { 1, 31, 32, 33, 70, 256 };
    for (int i = 0; i < 6; i++) {
        int N = sizes[i], rows = 5;
        glam_tensor *t = glam_param(ctx, "t", glam_dim2(rows, N));
        test_fill(t->data, glam_size(t), (uint64_t)i + 1, -3, 3);
        for (int j = 0; j < N; j++) t->data[N + j] = 0;                  // a row of zeros
        t->data[2 * N] = 1e30f;                                          // and one of far apart numbers
        float wide[5 * 256];
        glam_tensor *b = narrow_twin(ctx, t, GLAM_TYPE_BF16), *q = narrow_twin(ctx, t, GLAM_TYPE_Q8);
        CHECK(glam_read(b, 0, (size_t)rows, wide) == GLAM_OK);
        for (int j = 0; j < rows * N; j++)
            CHECK((double)wide[j] == narrow_round((double)t->data[j], 8));
        CHECK(glam_read(q, 0, (size_t)rows, wide) == GLAM_OK);
        for (int r = 0; r < rows; r++)
            for (int at = 0; at < N; at += 32) {
                int n = N - at < 32 ? N - at : 32;
                double most = 0, off = 0;
                for (int j = at; j < at + n; j++) {
                    double x = (double)t->data[r * N + j];
                    most = fabs(x) > most ? fabs(x) : most;
                    off = fmax(off, fabs(x - (double)wide[r * N + j]));
                }
                CHECK(off <= most / 127 * (1 + 1.0 / 128) / 2);          // half a step
            }
        float one[256];
        CHECK(glam_read(q, 3, 1, one) == GLAM_OK);
        CHECK(!memcmp(one, wide + 3 * N, (size_t)N * sizeof *one));
        CHECK(glam_read(q, 4, 2, one) == GLAM_ERR_VALUE && glam_read(q, 6, 0, one) == GLAM_ERR_VALUE);
        CHECK(glam_read(t, 3, 1, one) == GLAM_OK && one[0] == t->data[3 * N]);
        glam_fill(q, 0.5f);
        CHECK(glam_read(q, 4, 1, one) == GLAM_OK);
        CHECK_NEAR((double)one[N - 1], 0.5, 0.002);
    }
    // what is no number stays none, and tiny numbers are 0
    glam_tensor *t = glam_param(ctx, "t", glam_dim2(1, 64));
    t->data[3] = (float)HUGE_VAL;
    t->data[40] = 1e-38f;
    float wide[64];
    glam_read(narrow_twin(ctx, t, GLAM_TYPE_Q8), 0, 1, wide);
    CHECK(wide[0] != wide[0] && wide[31] != wide[31] && wide[32] == 0 && wide[40] == 0);
    CHECK(glam_write(NULL, 0, 1, wide) == GLAM_ERR_VALUE && glam_read(t, 0, 1, NULL) == GLAM_ERR_VALUE);
    CLOSE_CLEAN(ctx);
    ctx = glam_open(NULL);
    glam_measure(ctx, 1);
    CHECK(glam_read(glam_param(ctx, "t", glam_dim2(1, 64)), 0, 1, wide) == GLAM_ERR_STATE);
    CLOSE_CLEAN(ctx);
}

// --- products ------------------------------------------------------------------------------------

static const char *const narrow_sets[] = { "base", "sse2", "avx2", "avx512", "avx512bf16", "neon" };

// A context of each instruction set and arithmetic there is; NULL: not here.
static glam_ctx *narrow_ctx(int set, glam_type weights)
{
    glam_options o = test_options();
    o.simd = narrow_sets[set % 5];
    o.arithmetic = (glam_arithmetic)(set / 5);
    o.weights = weights;
    glam_ctx *ctx = glam_open(&o);
    if (glam_error(ctx) == GLAM_OK) return ctx;
    glam_close(ctx);
    return NULL;
}

// y = x w and x w^T, and dx, with a narrow w: near a slow loop over its values, and with the bits of an f32 w.
static void narrow_product(glam_ctx *ctx, glam_type type, int m, int k, int n, int turned)
{
    glam_tensor *x = glam_param(ctx, "x", glam_dim2(m, turned ? n : k));
    glam_tensor *w = glam_param(ctx, "w", glam_dim2(k, n));
    test_fill(x->data, glam_size(x), 7, -1, 1);
    test_fill(w->data, glam_size(w), 8, -1, 1);
    glam_tensor *q = narrow_twin(ctx, w, type);
    glam_read(q, 0, (size_t)k, w->data);
    int in = turned ? n : k, out = turned ? k : n, wrong = 0;
    float *dx = (float *)malloc(glam_size(x) * sizeof *dx), *y = (float *)malloc((size_t)(m * out) * sizeof *y);
    for (int which = 0; which < 2; which++) {
        glam_tensor *r = turned ? glam_matmul_t(ctx, x, which ? q : w) : glam_matmul(ctx, x, which ? q : w);
        glam_backward(ctx, glam_sum(ctx, glam_mul(ctx, r, r)));
        if (!CHECK(r != NULL)) return;
        if (which) {
            wrong += memcmp(y, r->data, (size_t)(m * out) * sizeof *y) != 0;
            wrong += memcmp(dx, x->grad, glam_size(x) * sizeof *dx) != 0;
        }
        memcpy(y, r->data, (size_t)(m * out) * sizeof *y);
        memcpy(dx, x->grad, glam_size(x) * sizeof *dx);
        glam_forget(ctx);
    }
    CHECK(!wrong);
    // a row by itself, which meets w as it lies, is a row in company, which meets panels
    for (int which = 0; which < 2 && m > 1; which++) {
        glam_tensor *one = glam_zeros(ctx, glam_dim2(1, in));
        memcpy(one->data, x->data + (m - 1) * in, (size_t)in * sizeof *y);
        glam_tensor *r = turned ? glam_matmul_t(ctx, one, which ? q : w) : glam_matmul(ctx, one, which ? q : w);
        CHECK(r && !memcmp(r->data, y + (m - 1) * out, (size_t)out * sizeof *y));
        glam_forget(ctx);
    }
    double most = ctx->simd.products->pair > 1 ? 2e-2 : 1e-5;
    for (int i = 0; i < m; i++)
        for (int j = 0; j < out; j++) {
            double sum = 0;
            for (int p = 0; p < in; p++)
                sum += (double)x->data[i * in + p] * (double)w->data[turned ? j * n + p : p * n + j];
            wrong += fabs(sum - (double)y[i * out + j]) > most * sqrt((double)in);
        }
    CHECK(!wrong);
    free(y);
    free(dx);
}

static void narrow_products(void)
{
    const int sizes[][3] = { { 1, 64, 96 }, { 1, 300, 33 }, { 2, 513, 70 }, { 9, 40, 31 }, { 30, 270, 64 },
                             { 1, 1, 1 }, { 120, 33, 129 }, { 1, 576, 200 }, { 2, 4, 64 }, { 3, 256, 600 },
                             { 50, 516, 64 }, { 2, 96, 1100 }, { 2, 777, 288 } };
    const int count = (int)(sizeof sizes / sizeof *sizes);
    for (int set = 0; set < 15; set++)
        for (int type = GLAM_TYPE_BF16; type <= GLAM_TYPE_Q8; type++) {
            glam_ctx *ctx = narrow_ctx(set, GLAM_TYPE_F32);
            for (int i = 0; ctx && i < count; i++)
                for (int turned = 0; turned < 2; turned++)
                    narrow_product(ctx, (glam_type)type, sizes[i][0], sizes[i][1], sizes[i][2], turned);
            if (ctx) CLOSE_CLEAN(ctx);
        }
}

// --- models --------------------------------------------------------------------------------------

enum { NARROW_MODELS = 4 };
static glam_config narrow_config(int which)
{
    glam_config c = glam_config_default();
    c.vocab = 80;
    c.context = 32;
    c.layers = 2;
    c.d_model = 48;
    c.d_head = 16;
    c.heads = 4;
    c.moe.experts = which == 0 ? 0 : 4;
    c.moe.hidden = 40;
    c.position = which == 1 ? GLAM_POSITION_TRANSFORMER_XL : which == 2 ? GLAM_POSITION_ROTARY : GLAM_POSITION_BUCKETS;
    c.kv_heads = which == 2 ? 2 : 0;
    c.activation = which == 2 ? GLAM_SWIGLU : GLAM_GELU_TANH;
    c.moe.activation = which == 1 ? GLAM_RELU : GLAM_GEGLU;
    c.moe.shared = which == 3 ? 24 : 0;
    c.tied = which != 2;
    return c;
}

// A file of an f32 model, to be freed.
static void *narrow_file(int which, size_t *bytes)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = narrow_config(which);
    glam_model *model = glam_model_new(ctx, &c);
    *bytes = glam_save_memory(model, NULL, 0);
    void *file = malloc(*bytes);
    CHECK(glam_save_memory(model, file, *bytes) == *bytes);
    CLOSE_CLEAN(ctx);
    return file;
}

// Loss, logits, the gradients of all that is trained in both, and what it writes.
typedef struct narrow_seen { double loss; float logits[2 * 12 * 80], next[80]; uint64_t gradients; } narrow_seen;

static void narrow_look(glam_model *model, narrow_seen *seen)
{
    glam_ctx *ctx = glam_model_ctx(model);
    int32_t tokens[24];
    for (int i = 0; i < 24; i++) tokens[i] = (i * 37 + i / 5) % 80;
    glam_batch b = { 2, 12, tokens, tokens, NULL, NULL };
    glam_losses losses;
    memset(seen, 0, sizeof *seen);
    glam_tensor *loss = glam_loss(model, &b, GLAM_TRAIN, &losses);
    glam_backward(ctx, loss);
    seen->loss = losses.total;
    glam_tensor *t;
    for (int i = 0; (t = glam_model_tensor_at(model, i)) != NULL; i++)
        if (!strstr(t->name, "embed") && (strstr(t->name, "norm") || strstr(t->name, "router")) && t->grad)
            seen->gradients = glam__hash_bytes(seen->gradients, t->grad, glam_size(t) * sizeof(float));
    glam_forget(ctx);
    glam_tensor *y = glam_forward(model, &b, GLAM_INFER);
    if (CHECK(y != NULL)) memcpy(seen->logits, y->data, sizeof seen->logits);
    glam_forget(ctx);
    glam_session *s = glam_session_new(model, 16);
    const float *l = NULL;
    for (int i = 0; i < 12; i++) l = glam_next(s, tokens + 12 + i, 1);
    if (CHECK(l != NULL)) memcpy(seen->next, l, sizeof seen->next);
}

// A model loaded narrow, and an f32 one of what its weights stand for: every bit.  One token at a time too.
static void narrow_model_is(int which, int set, glam_type type)
{
    size_t bytes;
    void *file = narrow_file(which, &bytes);
    glam_ctx *ctx = narrow_ctx(set, type), *plain = ctx ? narrow_ctx(set, GLAM_TYPE_F32) : NULL;
    static narrow_seen a, b;
    if (plain) {
        glam_model *narrow = glam_load_memory(ctx, file, bytes), *wide = glam_load_memory(plain, file, bytes);
        glam_tensor *t;
        int some = 0;
        for (int i = 0; (t = glam_model_tensor_at(narrow, i)) != NULL; i++) {
            glam_tensor *to = glam_model_tensor_at(wide, i);
            int big = t->shape.dims > 1 && !strstr(t->name, "router") && !strstr(t->name, "bias") &&
                      !strstr(t->name, "attn.u");
            some += big;
            CHECK(t->type == (big ? type : GLAM_TYPE_F32) && (t->data == NULL) == big && t->wants_grad == !big);
            CHECK(glam_read(t, 0, glam__rows(t), to->data) == GLAM_OK);
            if (big) to->wants_grad = 0;
        }
        CHECK(some > 5);
        narrow_look(narrow, &a);
        narrow_look(wide, &b);
        if (set % 5) {
            CHECK(a.loss == b.loss && a.gradients == b.gradients && a.gradients);
            CHECK(!memcmp(a.logits, b.logits, sizeof a.logits) && !memcmp(a.next, b.next, sizeof a.next));
        } else {                                     // base by name: the plain mixture has sums of its own
            CHECK_NEAR(a.loss, b.loss, 1e-5);
            for (int i = 0; i < 80; i++) CHECK_NEAR((double)a.next[i], (double)b.next[i], 1e-4);
        }
        if (ctx->simd.products->pair == 1)           // the cache has the bits of the whole pass
            CHECK(!memcmp(a.next, a.logits + 23 * 80, sizeof a.next));
        // smaller, and what a plan says of it
        glam_config c = narrow_config(which);
        glam_plan plan, wider;
        glam_plan_for(ctx, &c, NULL, &plan);
        glam_plan_for(plain, &c, NULL, &wider);
        CHECK(plan.weights < wider.weights * (type == GLAM_TYPE_Q8 ? 5 : 7) / 10);
        CHECK(plan.trainable < plan.parameters / 4 && wider.trainable == wider.parameters);
        CHECK(plan.parameters == wider.parameters && plan.train_bytes < wider.train_bytes);
        CHECK(glam_memory(ctx).life < glam_memory(plain).life);
    }
    if (plain) CLOSE_CLEAN(plain);
    if (ctx) CLOSE_CLEAN(ctx);
    free(file);
}

static void narrow_models(void)
{
    for (int which = 0; which < NARROW_MODELS; which++)
        for (int set = 0; set < 10; set++) {
            narrow_model_is(which, set, GLAM_TYPE_BF16);
            narrow_model_is(which, set, GLAM_TYPE_Q8);
        }
}

// Adapters over narrow weights speak in a row by itself as they do in company.
static void narrow_adapted(void)
{
    int32_t tokens[12];
    for (int i = 0; i < 12; i++) tokens[i] = (i * 37 + 5) % 80;
    for (int set = 0; set < 10; set++)
        for (int type = GLAM_TYPE_F32; type <= GLAM_TYPE_Q8; type++) {
            glam_ctx *ctx = narrow_ctx(set, (glam_type)type);
            if (!ctx) continue;
            glam_config c = narrow_config(2);
            c.d_model = 64;
            c.moe.hidden = 320;
            glam_model *model = glam_model_new(ctx, &c);
            glam_lora lora = glam_lora_default();
            lora.roles = GLAM_ROLE_ATTENTION | GLAM_ROLE_EXPERTS;
            CHECK(glam_model_adapt(model, &lora) == GLAM_OK);
            glam_adapter a;
            glam_tensor *t;
            for (int i = 0, n = 0; (t = glam_model_tensor_at(model, i)) != NULL; i++)
                if (glam_adapter_of(model, t->name, &a)) test_fill(a.b->data, glam_size(a.b), (uint64_t)++n, -1, 1);
            glam_session *s = glam_session_new(model, 16);
            glam_batch b = { 1, 12, tokens, NULL, NULL, NULL };
            const float *next = NULL;
            float all[80];
            glam_tensor *y = glam_forward(model, &b, GLAM_INFER);
            if (CHECK(y != NULL)) memcpy(all, y->data + 11 * 80, sizeof all);
            glam_forget(ctx);
            for (int i = 0; i < 12; i++) next = glam_next(s, tokens + i, 1);
            CHECK(next && (ctx->simd.products->pair > 1 || !memcmp(next, all, sizeof all)));
            if (set % 5 == 0 && next) for (int i = 0; i < 80; i++) CHECK_NEAR((double)next[i], (double)all[i], 1e-4);
            CLOSE_CLEAN(ctx);
        }
}

// --- files ---------------------------------------------------------------------------------------

static int narrow_same(const glam_model *a, const glam_model *b)
{
    glam_tensor *x, *y;
    int same = 1;
    for (int i = 0; (x = glam_model_tensor_at(a, i)) != NULL; i++) {
        y = glam_model_tensor_at(b, i);
        same &= y && x->type == y->type &&
                !memcmp(x->type ? x->narrow : x->data, y->type ? y->narrow : y->data,
                        x->type == GLAM_TYPE_Q8 ? glam_size(x) : glam_size(x) * (x->type ? 2 : 4));
        if (x->type == GLAM_TYPE_Q8)
            same &= !memcmp(glam__scales_of(x), glam__scales_of(y),
                            glam__rows(x) * (size_t)((glam__last(x) + 31) / 32) * 2);
    }
    return same;
}

static void narrow_files(void)
{
    for (int which = 0; which < NARROW_MODELS; which++)
        for (int type = GLAM_TYPE_BF16; type <= GLAM_TYPE_Q8; type++) {
            size_t bytes, fewer;
            void *file = narrow_file(which, &bytes);
            glam_ctx *ctx = narrow_ctx(3, (glam_type)type), *plain = glam_open(NULL);
            if (!ctx) ctx = narrow_ctx(0, (glam_type)type);
            glam_model *model = glam_load_memory(ctx, file, bytes);
            fewer = glam_save_memory(model, NULL, 0);
            CHECK(fewer < bytes * (type == GLAM_TYPE_Q8 ? 5 : 7) / 10);
            void *small = malloc(fewer);
            CHECK(glam_save_memory(model, small, fewer) == fewer);
            glam_model *again = glam_load_memory(plain, small, fewer);
            CHECK(narrow_same(model, again));
            // a wider file and its options, or a file narrower than they say
            glam_ctx *q = narrow_ctx(3, GLAM_TYPE_Q8), *b = glam_open(NULL);
            b->options.weights = GLAM_TYPE_BF16;
            if (!q) q = narrow_ctx(0, GLAM_TYPE_Q8);
            glam_model *as_q = glam_load_memory(q, small, fewer), *as_b = glam_load_memory(b, small, fewer);
            CHECK(glam__narrowest(as_q) == GLAM_TYPE_Q8 && glam__narrowest(as_b) == (glam_type)type);
            if (type == GLAM_TYPE_Q8) CHECK(narrow_same(model, as_q));
            else CHECK(narrow_same(model, as_b));
            // each byte of the header's end, and of the scales, counts
            ((unsigned char *)small)[fewer - 1] ^= 1;
            CHECK(!glam_load_memory(b, small, fewer));
            ERROR_IS(b, GLAM_ERR_FORMAT, "checksum");
            CHECK(!glam_load_memory(b, small, fewer - 8));
            ERROR_IS(b, GLAM_ERR_FORMAT, "truncated");
            // who reads the weights of another context reads them narrow
            glam_model *borrowed = glam_model_borrow(plain, model);
            CHECK(narrow_same(model, borrowed));
            CLOSE_CLEAN(q);
            CLOSE_CLEAN(b);
            CLOSE_CLEAN(plain);
            CLOSE_CLEAN(ctx);
            free(small);
            free(file);
        }
}

// Nothing is written past the end of a row, and nothing behind it is looked at.
static void narrow_ends(void)
{
    static const int sizes[] = { 1, 2, 31, 32, 33, 64, 70 };
    glam_ctx *ctx = test_ctx();
    for (int i = 0; i < 7; i++) {
        int n = sizes[i], blocks = (n + 31) / 32;
        float x[80], back[80];
        uint16_t half[80], scales[2][5];
        signed char q[2][80];
        test_fill(x, 80, (uint64_t)i + 1, -3, 3);
        for (int j = 0; j < 80; j++) half[j] = 0xabcd;
        glam__narrow_row(n, x, half, NULL);
        for (int j = n; j < 80; j++) CHECK(half[j] == 0xabcd);
        for (int far = 0; far < 2; far++) {
            memset(q[far], 77, sizeof q[far]);
            memset(scales[far], 0x55, sizeof scales[far]);
            for (int j = n; j < 80; j++) x[j] = far ? 1e20f : 0;
            glam__narrow_row(n, x, q[far], scales[far]);
            for (int j = n; j < 80; j++) CHECK(q[far][j] == 77);
            for (int j = blocks; j < 5; j++) CHECK(scales[far][j] == 0x5555);
        }
        CHECK(!memcmp(q[0], q[1], sizeof q[0]) && !memcmp(scales[0], scales[1], sizeof scales[0]));
        glam_tensor *t = glam_param(ctx, "t", glam_dim2(2, n));
        memcpy(t->data, x, (size_t)n * sizeof *x);
        for (int type = 0; type < 2; type++) {
            glam_tensor *narrow = narrow_twin(ctx, t, type ? GLAM_TYPE_Q8 : GLAM_TYPE_BF16);
            for (int j = 0; j < 80; j++) back[j] = 5;
            CHECK(glam_read(narrow, 0, 1, back) == GLAM_OK);
            for (int j = n; j < 80; j++) CHECK(back[j] == 5);
        }
    }
    CLOSE_CLEAN(ctx);
}

// A run over a narrow model trains what is left, and its checkpoint goes on with the same bits.
static void narrow_checkpoint(void)
{
    const char *path = test_path("narrow.safetensors");
    glam_options o = test_options();
    o.weights = GLAM_TYPE_Q8;
    float last[2];
    for (int stop = 0; stop < 2; stop++) {
        glam_ctx *ctx = glam_open(&o);
        glam_config c = narrow_config(3);
        glam_model *model = glam_model_new(ctx, &c);
        char text[2000];
        for (int i = 0; i < 2000; i++) text[i] = (char)(i * i % 80);
        glam_text *train = glam_text_from(ctx, text, sizeof text, NULL);
        glam_recipe r = glam_recipe_default();
        r.steps = 8;
        r.batch = 2;
        r.context = 16;
        glam_trainer *t = glam_trainer_new(model, train, NULL, &r);
        glam_report now;
        while (glam_train_step(t, &now) && !(stop && now.step == 4)) {}
        if (stop) {
            CHECK(glam_save_checkpoint(t, path) == GLAM_OK);
            CHECK(glam_load_type(ctx, path) == GLAM_TYPE_Q8);
            t = glam_load_checkpoint(ctx, path, train, NULL);
            while (glam_train_step(t, &now)) {}
        }
        last[stop] = (float)now.loss;
        CLOSE_CLEAN(ctx);
    }
    CHECK(last[0] == last[1]);
    remove(path);
}

// A merge makes f32 of what it merges, and a rewind to before it undoes both.
static void narrow_merged(void)
{
    glam_options options = test_options();
    glam_config c = test_config();
    float before[12 * 15], after[12 * 15];
    options.weights = GLAM_TYPE_Q8;
    glam_ctx *ctx = glam_open(&options);
    glam_model *model = glam_model_new(ctx, &c);
    const glam_tensor *w = glam_model_tensor(model, "layers.0.attn.q");
    CHECK(glam_read(w, 0, 12, before) == GLAM_OK);
    CHECK(glam_adapt(model, "layers.0.attn.q", 2, 0.5f) == GLAM_OK);
    glam_adapter a;
    CHECK(glam_adapter_of(model, "layers.0.attn.q", &a));
    test_fill(a.b->data, glam_size(a.b), 3, -1, 1);
    size_t mark = glam_mark(ctx);
    CHECK(glam_model_merge(model) == GLAM_OK);
    CHECK(w->type == GLAM_TYPE_F32 && w->data != NULL);
    for (int i = 0; i < 12 && w->data; i++)
        for (int j = 0; j < 15; j++) {
            double low = 0;
            for (int r = 0; r < 2; r++)
                low += (double)a.a->data[i * 2 + r] * (double)a.b->data[r * 15 + j];
            CHECK_NEAR(w->data[i * 15 + j], (double)before[i * 15 + j] + 0.5 * low, 1e-6);
        }
    CHECK(glam_model_tensor(model, "layers.1.attn.q")->type == GLAM_TYPE_Q8);
    glam_rewind(ctx, mark);
    CHECK(w->type == GLAM_TYPE_Q8 && w->data == NULL && !w->wants_grad);
    CHECK(glam_read(w, 0, 12, after) == GLAM_OK && !memcmp(before, after, sizeof before));
    CLOSE_CLEAN(ctx);
}

static void narrow_refuses(void)
{
    glam_options o = test_options();
    o.weights = GLAM_TYPE_Q8;
    glam_ctx *ctx = glam_open(&o);
    glam_config c = narrow_config(3);
    glam_model *model = glam_model_new(ctx, &c);
    glam_tensor *q = glam_model_tensor(model, "layers.0.attn.q"), *norm = glam_model_tensor(model, "norm");
    CHECK(!q->data && q->type == GLAM_TYPE_Q8 && !norm->type);
    CHECK(!glam_freeze(model, "attention", 0));
    ERROR_IS(ctx, GLAM_ERR_STATE, "stays frozen");
    CHECK(glam_freeze(model, "attention", 1) > 0 && glam_freeze(model, "norms", 0) > 0);
    CHECK(!glam_add(ctx, q, q));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "glam_read gives its values");
    CHECK(!glam_matmul(ctx, q, q));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "operand 1 (layers.0.attn.q)");
    CHECK(!glam_view(ctx, q, glam_dim1(48 * 64)));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "narrow weight");
    q->wants_grad = 1;
    glam_tensor *x = glam_zeros(ctx, glam_dim2(1, 48));
    CHECK(!glam_matmul(ctx, x, q));
    ERROR_IS(ctx, GLAM_ERR_STATE, "stays frozen");
    q->wants_grad = 0;
    CHECK(glam_matmul(ctx, x, q) != NULL);
    // copies are as narrow: grown, and pruned
    int32_t from[8] = { 3, 3, 0, 0, 2, 1, 0, 0 };
    glam_model *fewer = glam_select_experts(model, from, 2);
    glam_tensor *a = glam_model_tensor(fewer, "layers.0.moe.up"), *b = glam_model_tensor(model, "layers.0.moe.up");
    CHECK(a->type == GLAM_TYPE_Q8 && !memcmp((char *)a->narrow + 48 * 40, (char *)b->narrow + 3 * 48 * 40, 48 * 40));
    CHECK(!memcmp(glam__scales_of(a) + 48 * 2, glam__scales_of(b) + 3 * 48 * 2, 48 * 2 * 2));
    CLOSE_CLEAN(ctx);
    o.weights = (glam_type)3;
    ctx = glam_open(&o);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "options.weights");
    glam_close(ctx);
}

static void test_narrow(void)
{
    RUN(narrow_values);
    RUN(narrow_products);
    RUN(narrow_models);
    RUN(narrow_adapted);
    RUN(narrow_files);
    RUN(narrow_ends);
    RUN(narrow_checkpoint);
    RUN(narrow_merged);
    RUN(narrow_refuses);
}
