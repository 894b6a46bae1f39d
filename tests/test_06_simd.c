/* Room 06: the same kernels per instruction set.  Kinds: twin (each set against room 05's base over
   ragged sizes), same bits (a row alone is a row in a batch; zeros appended change nothing). */

static double simd_far(const float *a, const float *b, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double off = fabs((double)a[i] - (double)b[i]) / (1 + fabs((double)b[i]));
        if (!(off <= worst)) worst = off;
    }
    return worst;
}

// The base is the oracle: every product of a set against it.
static void simd_twin_panels(const glam__kernels *f)
{
    glam__kernels base;
    glam__kernels_pick("base", &base);
    for (int i = 0; i < 60; i++) {
        int m = 1 + i * 5 % 27, k = 1 + i * 37 % 700, n = 1 + i * 7 % f->nr;
        float *a = test_floats((size_t)(m * k), 1, -1, 1), *b = test_floats((size_t)(k * n), 2, -1, 1);
        float *c = test_floats((size_t)(m * n), 3, -1, 1), *d = test_floats((size_t)(m * n), 3, -1, 1);
        float *pack = test_floats((size_t)(k * f->nr), 0, 0, 0);
        f->pack(k, n, b, (size_t)n, pack);
        (i % 2 ? f->panel_t : f->panel)(m, n, k, a, (size_t)(i % 2 ? m : k), pack, (size_t)f->nr, c,
                                        (size_t)n, i % 3 == 0);
        for (int j = 0; j < n; j += base.nr) {
            int part = n - j < base.nr ? n - j : base.nr;
            float *small = test_floats((size_t)(k * base.nr), 0, 0, 0);
            base.pack(k, part, b + j, (size_t)n, small);
            (i % 2 ? base.panel_t : base.panel)(m, part, k, a, (size_t)(i % 2 ? m : k), small,
                                                (size_t)base.nr, d + j, (size_t)n, i % 3 == 0);
            free(small);
        }
        CHECK(simd_far(c, d, (size_t)(m * n)) < 1e-5);
        free(a);
        free(b);
        free(c);
        free(d);
        free(pack);
    }
}

static void simd_twin_rows(const glam__kernels *f)
{
    glam__kernels base;
    glam__kernels_pick("base", &base);
    for (int n = 1; n < 140; n += 3) {
        size_t size = (size_t)n;
        float *x = test_floats(size, 1, -5, 5), *u = test_floats(size, 2, -3, 3);
        float *a = test_floats(size, 3, -1, 1), *b = test_floats(size, 3, -1, 1);
        CHECK_NEAR(f->dot(n, x, u), base.dot(n, x, u), 1e-5 * sqrt((double)n));
        for (int kind = 0; kind < 7; kind++) {
            f->act(kind, n, x, u, a);
            base.act(kind, n, x, u, b);
            CHECK(simd_far(a, b, size) < 1e-6);
        }
        for (int kind = 0; kind < 8; kind++) {
            if (kind == GLAM__LOG) continue;
            f->unary(kind, size, x, a);
            base.unary(kind, size, x, b);
            CHECK(simd_far(a, b, size) < 1e-6);
        }
        memcpy(a, x, size * sizeof(float));
        memcpy(b, x, size * sizeof(float));
        CHECK_NEAR(f->softmax(n, a, n % 2), base.softmax(n, b, n % 2), 1e-5);
        CHECK(simd_far(a, b, size) < 1e-6);
        free(x);
        free(u);
        free(a);
        free(b);
    }
}

// Row i of an m-row product has the bits of the one-row product, wherever it stands, at any stride.
static void simd_batch_invariance(const glam__kernels *f)
{
    for (int k = 1; k < 1200; k = k * 3 + 2) {
        for (int m = 1; m <= 2 * f->mr + 3; m++) {
            size_t lda = (size_t)k + 5, nr = (size_t)f->nr;
            float *a = test_floats((size_t)m * lda, 1, -1, 1), *b = test_floats((size_t)k * nr, 2, -1, 1);
            float *c = test_floats((size_t)m * nr, 0, 0, 0), *t = test_floats((size_t)(m * k), 0, 0, 0);
            float *d = test_floats((size_t)m * nr, 0, 0, 0), one[64];
            int wrong = 0;
            f->panel(m, f->nr, k, a, lda, b, nr, c, nr, 0);
            for (int i = 0; i < m; i++) {
                for (int p = 0; p < k; p++) t[p * m + i] = a[(size_t)i * lda + (size_t)p];
                f->panel(1, f->nr, k, a + (size_t)i * lda, (size_t)k, b, nr, one, nr, 0);
                wrong += memcmp(one, c + (size_t)i * nr, nr * sizeof(float)) != 0;
                f->panel(1, f->nr - 1, k, a + (size_t)i * lda, (size_t)k, b, nr, one, nr, 0);
                wrong += memcmp(one, c + (size_t)i * nr, (nr - 1) * sizeof(float)) != 0;
            }
            f->panel_t(m, f->nr, k, t, (size_t)m, b, nr, d, nr, 0);
            wrong += memcmp(c, d, (size_t)m * nr * sizeof(float)) != 0;
            CHECK(wrong == 0);
            free(a);
            free(b);
            free(c);
            free(d);
            free(t);
        }
    }
}

// The last element of a row takes the same instructions as the first; zeros appended to k or to a
// sum change no bit.
static void simd_tails(const glam__kernels *f)
{
    float *x = test_floats(200, 1, -3, 3), *u = test_floats(200, 2, -3, 3), all[200], some[200];
    float zeros[400] = { 0 };
    int wrong = 0;
    for (int kind = 0; kind < 7; kind++) {
        f->act(kind, 200, x, u, all);
        for (int n = 1; n < 200; n += 11) {
            f->act(kind, n, x, u, some);
            wrong += memcmp(all, some, (size_t)n * sizeof(float)) != 0;
            f->act(kind, n, x + 200 - n, u + 200 - n, some);
            wrong += memcmp(all + 200 - n, some, (size_t)n * sizeof(float)) != 0;
        }
    }
    for (int kind = 0; kind < 8; kind++) {
        if (kind == GLAM__LOG) continue;
        f->unary(kind, 200, x, all);
        for (int n = 1; n < 200; n += 11) {
            f->unary(kind, (size_t)n, x + 200 - n, some);
            wrong += memcmp(all + 200 - n, some, (size_t)n * sizeof(float)) != 0;
        }
    }
    CHECK(wrong == 0);
    memcpy(zeros, x, 133 * sizeof(float));
    for (int n = 133; n < 400; n += 13) {
        CHECK(f->dot(n, zeros, zeros) == f->dot(133, zeros, zeros));
        CHECK(f->sum((size_t)n, zeros) == f->sum(133, zeros));
    }
    float b[KERNEL_MOST * 32], c[32], d[32];
    test_fill(b, sizeof b / sizeof *b, 4, -1, 1);
    memset(x + 40, 0, 160 * sizeof(float));
    f->panel(1, f->nr, 40, x, 200, b, (size_t)f->nr, c, 32, 0);
    f->panel(1, f->nr, 70, x, 200, b, (size_t)f->nr, d, 32, 0);
    CHECK(!memcmp(c, d, (size_t)f->nr * sizeof(float)));
    free(x);
    free(u);
}

static void simd_twins(void)           { kernel_for_each(simd_twin_panels); kernel_for_each(simd_twin_rows); }
static void simd_rows_are_alone(void)  { kernel_for_each(simd_batch_invariance); }
static void simd_tails_are_equal(void) { kernel_for_each(simd_tails); }

// What was asked for is what is used; what is not there is an error, not another set.
static void simd_choice(void)
{
    int named = 0;
    for (int i = 0; i < 5; i++) {
        glam_options options = glam_options_default();
        glam__kernels table;
        options.simd = kernel_sets[i];
        glam_ctx *ctx = glam_open(&options);
        if (glam__kernels_pick(kernel_sets[i], &table)) {
            CHECK(glam_error(ctx) == GLAM_OK && !strcmp(glam_simd_name(ctx), kernel_sets[i]));
            named++;
        } else ERROR_IS(ctx, GLAM_ERR_VALUE, kernel_sets[i]);
        glam_close(ctx);
    }
    CHECK(named >= 1);
    glam_ctx *ctx = glam_open(NULL);
    CHECK(glam_simd_name(ctx)[0] != 0);
    CLOSE_CLEAN(ctx);
}

// A whole model agrees between sets to float accuracy: logits and gradients.
static void simd_model_agrees(int family)
{
    float *base_logits = NULL, *base_grad = NULL;
    for (int i = 0; i < 5; i++) {
        glam_options options = glam_options_default();
        glam__kernels table;
        if (!glam__kernels_pick(kernel_sets[i], &table)) continue;
        options.simd = kernel_sets[i];
        glam_ctx *ctx = glam_open(&options);
        glam_config c = test_config();
        if (family >= 0) test_family(&c, family);
        int32_t tokens[44];
        test_ids(tokens, 44, 3, 37);
        glam_model *model = glam_model_new(ctx, &c);
        glam_batch batch = { 4, 11, tokens, tokens, NULL, NULL };
        glam_tensor *logits = glam_forward(model, &batch, GLAM_TRAIN);
        if (!CHECK(logits != NULL)) { glam_close(ctx); break; }
        size_t n = glam_size(logits);
        if (!base_logits) {
            base_logits = test_floats(n, 0, 0, 0);
            memcpy(base_logits, logits->data, n * sizeof(float));
        }
        CHECK(simd_far(logits->data, base_logits, n) < 2e-5);
        glam_forget(ctx);
        CHECK(glam_backward(ctx, glam_loss(model, &batch, GLAM_TRAIN, NULL)) == GLAM_OK);
        glam_tensor *q = glam_model_tensor(model, "layers.0.attn.q");
        if (CHECK(q && q->grad)) {
            if (!base_grad) {
                base_grad = test_floats(glam_size(q), 0, 0, 0);
                memcpy(base_grad, q->grad, glam_size(q) * sizeof(float));
            }
            CHECK(simd_far(q->grad, base_grad, glam_size(q)) < 2e-5);
        }
        CLOSE_CLEAN(ctx);
    }
    free(base_logits);
    free(base_grad);
}

static void simd_models_agree(void)
{
    for (int family = -1; family < 4; family++) simd_model_agrees(family);
}

static void test_06_simd(void)
{
    RUN(simd_choice);
    RUN(simd_twins);
    RUN(simd_rows_are_alone);
    RUN(simd_tails_are_equal);
    RUN(simd_models_agree);
}
