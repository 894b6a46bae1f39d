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

static void simd_finite(float *pairs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, pairs + i, sizeof bits);
        bits &= 0xffffbfffu;
        memcpy(pairs + i, &bits, sizeof bits);
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
            if (f->pair > 1) {                 // halves of a float: keep the lower one finite
                simd_finite(a, (size_t)m * lda);
                simd_finite(b, (size_t)k * nr);
            }
            f->panel(m, f->nr, k, a, lda, b, nr, c, nr, 0);
            for (int i = 0; i < m; i++) {
                for (int p = 0; p < k; p++) t[p * m + i] = a[(size_t)i * lda + (size_t)p];
                f->panel(1, f->nr, k, a + (size_t)i * lda, (size_t)k, b, nr, one, nr, 0);
                wrong += memcmp(one, c + (size_t)i * nr, nr * sizeof(float)) != 0;
                f->panel(1, f->nr - 1, k, a + (size_t)i * lda, (size_t)k, b, nr, one, nr, 0);
                wrong += memcmp(one, c + (size_t)i * nr, (nr - 1) * sizeof(float)) != 0;
            }
            if (f->panel_t) f->panel_t(m, f->nr, k, t, (size_t)m, b, nr, d, nr, 0);
            wrong += f->panel_t && memcmp(c, d, (size_t)m * nr * sizeof(float)) != 0;
            CHECK(wrong == 0);
            free(a);
            free(b);
            free(c);
            free(d);
            free(t);
        }
    }
}

// One row times a B as it lies, straight and turned, f32, bf16 and q8, has the bits of panels of what B stands for.
static void simd_one(const glam__kernels *f)
{
    const int depths[] = { 1, 3, 4, 8, 30, 31, 32, 33, 60, 64, 68, 129, 252, 255, 256 };
    const int unit = f->nr > 16 ? 2 * f->nr : 32;
    enum { EXTRA = 96 };
    for (int i = 0; f->one && i < 15 * 3 * 2; i++) {
        int k = depths[i % 15], T = 1 << i / 15 % 3, turned = i / 45, wrong = 0;
        if (turned && k % T) continue;
        for (int n = turned ? f->nr : unit; n <= 1152; n += n < 3 * unit ? (turned ? f->nr : unit) : 512) {
            // B [rows,cols] and what lies beside it
            int rows = turned ? n : k, cols = (turned ? (k + 31) / 32 * 32 : n) + EXTRA, blocks = cols / 32;
            float *wide = test_floats((size_t)(rows * cols), 5, -1, 1), *a = test_floats((size_t)k, 6, -1, 1);
            float *c = test_floats((size_t)n, 7, -1, 1), *d = test_floats((size_t)n, 7, -1, 1);
            float *pack = test_floats((size_t)(k * f->nr), 0, 0, 0);
            void *narrow = malloc((size_t)(rows * cols) * 2);
            uint16_t *scales = (uint16_t *)malloc((size_t)(rows * blocks) * 2);
            for (int r = 0; r < rows && T > 1; r++) {
                char *row = (char *)narrow + (size_t)(r * cols) * (T == 4 ? 1 : 2);
                glam__narrow_row(cols, wide + r * cols, row, T == 4 ? scales + r * blocks : NULL);
                for (int at = 0; at < cols; at += 32)
                    f->widen(1, 32, row + at * (T == 4 ? 1 : 2), 0, T == 4 ? scales + r * blocks + at / 32 : NULL, 0,
                             wide + r * cols + at, 0);
            }
            (turned ? f->one_t : f->one)(T, k, n, a, T == 1 ? (void *)wide : narrow, (size_t)cols,
                                         T == 4 ? scales : NULL, (size_t)blocks, c, i % 2);
            for (int j = 0; j < n; j += f->nr) {
                if (turned) f->pack_t(k, f->nr, wide + j * cols, (size_t)cols, pack, (size_t)f->nr);
                else f->pack(k, f->nr, wide + j, (size_t)cols, pack);
                f->panel(1, f->nr, k, a, (size_t)k, pack, (size_t)f->nr, d + j, (size_t)f->nr, i % 2);
            }
            wrong += memcmp(c, d, (size_t)n * sizeof *c) != 0;
            free(wide);
            free(a);
            free(c);
            free(d);
            free(pack);
            free(narrow);
            free(scales);
        }
        CHECK(!wrong);
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
static void simd_one_row(void)  { kernel_for_each(simd_one); }
static void simd_rows_are_alone(void)  { kernel_for_each(simd_batch_invariance); }
static void simd_tails_are_equal(void) { kernel_for_each(simd_tails); }

// Whether this build has a set and this processor its instructions, asked by their names.
static int simd_had(const char *set)
{
    if (!strcmp(set, "base")) return 1;
#if defined(GLAM__SIMD) && defined(__x86_64__)
    __builtin_cpu_init();
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                 __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
    if (!strcmp(set, "sse2")) return 1;
    if (!strcmp(set, "avx2")) return avx2;
    if (!strcmp(set, "avx512")) return avx512;
#ifdef GLAM__PAIRS_AVX512
    if (!strcmp(set, "avx512bf16")) return avx512 && __builtin_cpu_supports("avx512bf16");
#endif
#if defined(GLAM__AMX) && defined(TEST_AMX)
    if (!strcmp(set, "amx")) return avx2 && (amx_imitated() || amx_listed());
#endif
#elif defined(GLAM__SIMD)
    if (!strcmp(set, "neon")) return 1;
#endif
    return 0;
}

// What was asked for is what is used, if it is there; what is not there is an error, not another set.
static void simd_choice(void)
{
    int named = 0;
    for (int i = 0; i < KERNEL_SETS; i++) {
        glam_options options = glam_options_default();
        glam__kernels table;
        options.simd = kernel_sets[i];
        glam_ctx *ctx = glam_open(&options);
        CHECK(!glam__kernels_pick(kernel_sets[i], &table) == !simd_had(kernel_sets[i]));
        if (simd_had(kernel_sets[i])) {
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
    for (int i = 0; i < KERNEL_SETS; i++) {
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

// ---- pairs of bf16

static float simd_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static float simd_normal(float x) { return fabsf(x) < 1.17549435e-38f ? copysignf(0, x) : x; }

// What Intel says of VDPBF16PS: the second of a pair first, each product added with one rounding, what
// is not normal counts as zero and becomes it.
static float simd_pair_sum(float s, uint32_t a, uint32_t b)
{
    s = simd_normal(fmaf(simd_normal(simd_bits(a & 0xffff0000u)), simd_normal(simd_bits(b & 0xffff0000u)), s));
    return simd_normal(fmaf(simd_normal(simd_bits(a << 16)), simd_normal(simd_bits(b << 16)), s));
}

// Any bits at all, or, where sums matter, numbers whose exponents are near `middle`.
static uint32_t simd_operand(uint64_t stream, uint64_t i, int middle)
{
    uint32_t bits = 0;
    for (int half = 0; half < 2; half++) {
        uint32_t h = (uint32_t)(glam_random(7, stream, 2 * i + (uint64_t)half) * 65535.5f) & 0xffffu;
        if (middle) h = (h & 0x807fu) | ((uint32_t)(middle + (int)(h >> 7 & 15) - 8) << 7);
        bits |= h << (16 * half);
    }
    return bits;
}

// Each set, with its instruction or without, has the bits of that formula: for ordinary numbers, for
// sums on the edge of what is normal, on the edge of what is finite, and for anything.
static void simd_pairs_of(const glam__kernels *f)
{
    static const int middle[] = { 127, 63, 64, 190, 0 };
    glam__kernels narrow = glam__kernels_narrow(f, 0);
    int wrong = 0, cases = 0;
    for (int i = 0; i < 60; i++) {
        int m = 1 + i * 5 % 27, k = 1 + i * 37 % 600, n = 1 + i * 7 % f->nr, steps = (k + 1) / 2, nr = f->nr;
        float *a = test_floats((size_t)(m * steps), 0, 0, 0), *b = test_floats((size_t)(steps * nr), 0, 0, 0);
        float *c = test_floats((size_t)(m * n), 3, -1, 1), *d = test_floats((size_t)(m * n), 3, -1, 1);
        for (int j = 0; j < m * steps; j++) {
            uint32_t bits = simd_operand(1, (uint64_t)(j + i * 99991), middle[i % 5]);
            memcpy(a + j, &bits, sizeof bits);
        }
        for (int j = 0; j < steps * nr; j++) {
            uint32_t bits = simd_operand(2, (uint64_t)(j + i * 99991), middle[i % 5]);
            memcpy(b + j, &bits, sizeof bits);
        }
        (i % 2 ? narrow.panel_t : narrow.panel)(m, n, k, a, (size_t)(i % 2 ? m : steps), b, (size_t)nr, c,
                                                (size_t)n, i % 3 == 0);
        for (int r = 0; r < m; r++)
            for (int j = 0; j < n; j++) {
                for (int p = 0; p < steps; p += 128) {
                    float sum = 0;
                    for (int q = p; q < steps && q < p + 128; q++) {
                        uint32_t x, y;
                        memcpy(&x, a + (i % 2 ? q * m + r : r * steps + q), sizeof x);
                        memcpy(&y, b + q * nr + j, sizeof y);
                        sum = simd_pair_sum(sum, x, y);
                    }
                    d[r * n + j] = p || i % 3 == 0 ? d[r * n + j] + sum : sum;
                }
                float got = c[r * n + j], want = d[r * n + j];
                wrong += got != want && (got == got || want == want);
                cases++;
            }
        free(a);
        free(b);
        free(c);
        free(d);
    }
    CHECK(wrong == 0 && cases > 1000);
}

// Operands are the nearest of the numbers with eight bits, the even one of two; panels of either kind
// hold the same pairs.
static void simd_narrow_of(const glam__kernels *f)
{
    glam__kernels narrow = glam__kernels_narrow(f, 0);
    int nr = f->nr, wrong = 0;
    for (int k = 1; k < 150; k += 12) {
        int n = 1 + k % nr, steps = (k + 1) / 2;
        float *b = test_floats((size_t)(k * n), 1, -3, 3), *t = test_floats((size_t)(k * n), 0, 0, 0);
        float *one = test_floats((size_t)(steps * nr), 5, -1, 1), *two = test_floats((size_t)(steps * nr), 6, -1, 1);
        for (int i = 0; i < k * n; i += 3) b[i] = simd_bits(0x3f808000u + ((uint32_t)i << 15));   // halfway
        for (int p = 0; p < k; p++)
            for (int j = 0; j < n; j++) t[j * k + p] = b[p * n + j];
        glam__pack_panel(&narrow, 0, k, n, b, (size_t)n, one);
        glam__pack_panel_t(&narrow, k, n, t, (size_t)k, two);
        wrong += memcmp(one, two, (size_t)(steps * nr) * sizeof(float)) != 0;
        for (int p = 0; p < k; p++) f->narrow(n, b + p * n, t + p * ((n + 1) / 2));
        memset(two, 0xff, (size_t)(steps * nr) * sizeof(float));
        glam__pack_panel(&narrow, 1, k, n, t, (size_t)((n + 1) / 2), two);     // of rows that are narrow
        wrong += memcmp(one, two, (size_t)(steps * nr) * sizeof(float)) != 0;
        for (int p = 0; p < 2 * steps; p++)
            for (int j = 0; j < nr; j++) {
                uint32_t pair;
                int e = 0;
                memcpy(&pair, one + p / 2 * nr + j, sizeof pair);
                double x = p < k && j < n ? (double)b[p * n + j] : 0, m = frexp(x, &e);
                wrong += (double)simd_bits(p % 2 ? pair & 0xffff0000u : pair << 16) !=
                         ldexp(nearbyint(ldexp(m, 8)), e - 8);
            }
        free(b);
        free(t);
        free(one);
        free(two);
    }
    CHECK(wrong == 0);
    // What is below the normal numbers becomes 0 of its sign before it is rounded up to them (Intel,
    // VCVTNE2PS2BF16); in whole vectors and in what is left of them.
    static const uint32_t odd[][2] = {
        { 0x7f800000, 0x7f80 }, { 0x7f7fffff, 0x7f80 }, { 0x80000000, 0x8000 }, { 0x007fffff, 0 },
        { 0x807f8000, 0x8000 }, { 0x00000001, 0 }, { 0x00800000, 0x0080 },
        { 0x80808000, 0x8080 }, { 0x00818000, 0x0082 }, { 0x7f800001, 0x7fc0 }, { 0xffc10000, 0xffc1 },
        { 0x7fc00000, 0x7fc0 }, { 0x7f7fc99e, 0x7f80 } };      // NaN, and 3.4e38
    enum { MANY = sizeof odd / sizeof *odd, N = 75 };
    float x[2 * N], row[N + 1], rows[N];
    uint32_t pair;
    for (int i = 0; i < 2 * N; i++) memcpy(x + i, odd[i % MANY], sizeof *x);
    f->narrow(2 * N, x, row);
    f->narrow_rows(2, N, x, N, rows, N);
    for (int j = 0; j < N; j++) {
        memcpy(&pair, row + j, sizeof pair);
        CHECK(pair == (odd[2 * j % MANY][1] | odd[(2 * j + 1) % MANY][1] << 16));
        memcpy(&pair, rows + j, sizeof pair);
        CHECK(pair == (odd[j % MANY][1] | odd[(N + j) % MANY][1] << 16));
    }
}

static void simd_pairs(void)  { kernel_for_each(simd_pairs_of); }
static void simd_narrow(void) { kernel_for_each(simd_narrow_of); }

// A row's bits depend on the row alone, in pairs as well.
static void simd_pairs_alone_of(const glam__kernels *f)
{
    glam__kernels narrow = glam__kernels_narrow(f, 0);
    simd_batch_invariance(&narrow);
}
static void simd_pairs_are_alone(void) { kernel_for_each(simd_pairs_alone_of); }

// ---- tiles of pairs

// What Intel says of TDPBF16PS, with one sum of 16 pairs at a time: the product of two bf16 and its sum with
// a float, in double, are near enough to the truth to see whether it is tiny once rounded.
static float simd_tile_add(float s, float a, float b)
{
    float x = fmaf(a, b, s);
    double t = (double)a * (double)b + (double)s;
    return fabs(t) < ldexp(1, -126) - ldexp(1, -151) ? copysignf(0, x) : x;
}

// Zeros make the last pairs 16: they take the sign from a zero.
static float simd_tile_sum(float sum, int steps, const float *a, const float *b, size_t ldb)
{
    for (int q = 0; q < steps; q += 16) {
        float part[2] = { 0, 0 };
        for (int t = q; t < q + 16; t++) {
            uint32_t x = 0, y = 0;
            if (t < steps) memcpy(&x, a + t, sizeof x);
            if (t < steps) memcpy(&y, b + (size_t)t * ldb, sizeof y);
            for (int half = 0; half < 2; half++, x >>= 16, y >>= 16)
                part[half] = simd_tile_add(part[half], simd_normal(simd_bits(x << 16)), simd_normal(simd_bits(y << 16)));
        }
        sum = simd_tile_add(simd_normal(sum), simd_tile_add(part[0], 1, part[1]), 1);
    }
    return sum;
}

// One product of random operands, by itself or added to numbers of which some are denormal or -0; returns how many
// elements differ from that formula, or from `twin`.
static int simd_tiles_case(const glam__kernels *f, const glam__kernels *twin, int m, int n, int k, int middle, int add)
{
    int steps = (k + 1) / 2, nr = f->nr, wrong = 0;
    size_t lda = (size_t)steps + 3, ldc = (size_t)n + 1;
    float *a = test_floats(lda * (size_t)m, 0, 0, 0), *b = test_floats((size_t)(steps * nr), 0, 0, 0);
    guarded c = guarded_new(ldc * (size_t)m, 3, -1, 1), d = guarded_new(ldc * (size_t)m, 3, -1, 1);
    for (int j = 0; j < (int)lda * m; j++) {
        uint32_t bits = simd_operand(1, (uint64_t)(j + k * 99991), middle);
        memcpy(a + j, &bits, sizeof bits);
    }
    for (int j = 0; j < steps * nr; j++) {
        uint32_t bits = simd_operand(2, (uint64_t)(j + k * 99991), middle);
        memcpy(b + j, &bits, sizeof bits);
    }
    for (size_t i = 0; i < ldc * (size_t)m; i += 5) c.x[i] = d.x[i] = i % 2 ? -1e-39f : -0.0f;
    glam__hold(f, 1);
    f->panel(m, n, k, a, lda, b, (size_t)nr, c.x, ldc, add);
    glam__hold(f, 0);
    if (twin) {
        twin->tiled(m, n, k, a, lda, b, (size_t)nr, d.x, ldc, add);
    } else {
        for (int r = 0; r < m; r++)
            for (int j = 0; j < n; j++) {
                float *to = d.x + (size_t)r * ldc + j;
                *to = simd_tile_sum(add ? *to : 0, steps, a + (size_t)r * lda, b + j, (size_t)nr);
            }
    }
    for (size_t i = 0; i < ldc * (size_t)m; i++)
        wrong += memcmp(c.x + i, d.x + i, sizeof(float)) != 0 && (c.x[i] == c.x[i] || d.x[i] == d.x[i]);
    guarded_free(&c);
    guarded_free(&d);
    free(a);
    free(b);
    return wrong;
}

// Each set has the bits of the formula: ordinary numbers, the edges of what is normal and of what is finite,
// and anything.  AMX itself, or its imitation, also those of room 05 for every tail of m, n and k.
static void simd_tiles_of(const glam__kernels *f)
{
    static const int middle[] = { 127, 63, 64, 190, 0 };
    glam__kernels tiles = glam__kernels_narrow(f, 1), base;
    glam__kernels_pick("base", &base);
    int wrong = 0;
    for (int i = 0; i < 60; i++)
        wrong += simd_tiles_case(&tiles, NULL, 1 + i * 5 % 51, 1 + i * 7 % f->nr, 1 + i * 37 % 600, middle[i % 5],
                                 i % 3 == 0);
    CHECK(wrong == 0);
    if (!f->hold) return;
    for (int m = 1; m <= 49; m++) wrong += simd_tiles_case(&tiles, &base, m, f->nr, 40 + m, middle[m % 5], m % 3);
    for (int n = 1; n <= f->nr; n++) wrong += simd_tiles_case(&tiles, &base, 17, n, 50, middle[n % 5], n % 3);
    for (int k = 1; k <= 290; k++) wrong += simd_tiles_case(&tiles, &base, 18, f->nr, k, middle[k % 5], k % 3);
    CHECK(wrong == 0);
}

// What is below the least normal number and rounds to it stays, what is further below becomes 0.
static void simd_tiles_tiny_of(const glam__kernels *f)
{
    glam__kernels tiles = glam__kernels_narrow(f, 1);
    float b[2 * 64] = { 0 }, c = 1;
    for (int i = 0; i < 3; i++) {                          // 2^-126 - (5/8, 3/4, 1/2) 2^-150
        static const uint32_t a[] = { 0x2000, 0x9a20, 0x2000, 0x9a40, 0x2000, 0x9a00 };
        const uint32_t one[2] = { 0x2000, 0x1980 };        // 2^-63, 2^-76
        float x[2];
        memcpy(x, a + 2 * i, sizeof x);
        memcpy(b, one, sizeof *b);
        memcpy(b + f->nr, one + 1, sizeof *b);
        glam__hold(&tiles, 1);
        tiles.panel(1, 1, 4, x, 2, b, (size_t)f->nr, &c, 1, 0);
        glam__hold(&tiles, 0);
        CHECK(c == (i < 2 ? 0.0f : FLT_MIN));
    }
}

// Columns become rows of pairs, with zeros up to a multiple of nr behind them.
static void simd_turned_of(const glam__kernels *f)
{
    glam__kernels tiles = glam__kernels_narrow(f, 1);
    for (int i = 0; i < 24; i++) {
        int k = 1 + i * 29 % 131, m = 1 + i * 13 % 77, wrong = 0;
        size_t lda = (size_t)m + 2, ldo = (size_t)glam__up((k + 1) / 2, f->nr) + 3;
        float *a = test_floats((size_t)k * lda, 1, -1, 1);
        float *rows = test_floats((size_t)k * lda, 1, -1, 1);
        guarded out = guarded_new((size_t)m * ldo, 2, 1, 2);
        for (int p = 0; p < k; p++) f->narrow(m, a + (size_t)p * lda, rows + (size_t)p * lda);
        glam__narrow_turned(&tiles, i % 2, k, m, i % 2 ? rows : a, lda, out.x, ldo);
        for (int r = 0; r < m; r++)
            for (int q = 0; q < (int)ldo; q++) {
                float low = 2 * q < k ? a[(size_t)(2 * q) * lda + r] : 0;
                float high = 2 * q + 1 < k ? a[(size_t)(2 * q + 1) * lda + r] : 0;
                uint32_t got, want = glam__bf16_pair(low, high);
                memcpy(&got, out.x + (size_t)r * ldo + q, sizeof got);
                wrong += q < (int)ldo - 3 ? got != want : out.x[(size_t)r * ldo + q] < 1;
            }
        CHECK(wrong == 0);
        guarded_free(&out);
        free(rows);
        free(a);
    }
}
static void simd_turned(void) { kernel_for_each(simd_turned_of); }

static void simd_tiles_alone_of(const glam__kernels *f)
{
    glam__kernels tiles = glam__kernels_narrow(f, 1);
    glam__hold(&tiles, 1);
    simd_batch_invariance(&tiles);
    glam__hold(&tiles, 0);
}

// For these tests AMX is imitated where it is not.
static void simd_tiles_for_each(void (*check)(const glam__kernels *))
{
#ifdef TEST_AMX
    int before = amx_wanted;
    amx_wanted = 1;
    kernel_for_each(check);
    amx_wanted = before;
#else
    kernel_for_each(check);
#endif
}

static void simd_tiles(void)           { simd_tiles_for_each(simd_tiles_of); }
static void simd_tiles_tiny(void)      { simd_tiles_for_each(simd_tiles_tiny_of); }
static void simd_tiles_are_alone(void) { simd_tiles_for_each(simd_tiles_alone_of); }

static void simd_plain(int m, int n, int k, const float *a, size_t lda, const float *b, size_t nr, float *c,
                       size_t ldc, int add)
{ glam__row_pairs_by((int)nr, m, n, k, a, lda, 1, b, nr, c, ldc, add); }
static void simd_plain_t(int m, int n, int k, const float *a, size_t lda, const float *b, size_t nr, float *c,
                         size_t ldc, int add)
{ glam__row_pairs_by((int)nr, m, n, k, a, 1, lda, b, nr, c, ldc, add); }

// Loss and gradients of a model, one after the other, at most 1 << 16 numbers; plain: pairs without an
// instruction for them.  Returns how many.
static size_t simd_gradients(glam_arithmetic arithmetic, int threads, int plain, int experts, float *out)
{
    glam_options options = test_options();
    options.arithmetic = arithmetic;
    options.threads = threads;
    glam_ctx *ctx = glam_open(&options);
    CHECK(!strcmp(glam_arithmetic_name(ctx), arithmetic == GLAM_F32 ? "f32" : arithmetic == GLAM_BF16 ? "bf16" :
                                             "bf16_tiles"));
    if (plain) {
        int tiles = arithmetic == GLAM_BF16_TILES;
        ctx->simd.kernels[1].panel = tiles ? glam__tiled_base : simd_plain;
        ctx->simd.kernels[1].panel_t = tiles ? NULL : simd_plain_t;
    }
    glam_config c = test_config();
    c.moe.experts = experts;
    int32_t tokens[66];
    test_ids(tokens, 66, 3, 37);
    glam_model *model = glam_model_new(ctx, &c);
    glam_batch batch = { 2, 33, tokens, tokens, NULL, NULL };
    glam_tensor *loss = glam_loss(model, &batch, GLAM_TRAIN, NULL);
    size_t n = 0;
    out[n++] = loss ? loss->data[0] : 0;
    CHECK(glam_backward(ctx, loss) == GLAM_OK);
    for (int i = 0; glam_model_tensor_at(model, i); i++) {
        const glam_tensor *t = glam_model_tensor_at(model, i);
        if (!CHECK(t->grad && n + glam_size(t) <= 1 << 16)) break;
        memcpy(out + n, t->grad, glam_size(t) * sizeof(float));
        n += glam_size(t);
    }
    CLOSE_CLEAN(ctx);
    return n;
}

// A step in bf16 has the same bits for any number of threads and without the instruction.  Its loss and
// its gradients are those of f32 but for the rounding of operands, 2^-8 of each at most, 2^-9.2 in the
// mean square, of which a gradient has passed 39 products (see golden_rounding): 1.5 % of its length.
static void simd_bf16_case(glam_arithmetic arithmetic)
{
    float *want = test_floats(1 << 16, 0, 0, 0), *got = test_floats(1 << 16, 0, 0, 0);
    for (int experts = 0; experts <= 4; experts += 4) {
        size_t n = simd_gradients(arithmetic, 1, 0, experts, want);
        for (int i = 0; i < 3; i++) {
            CHECK(simd_gradients(arithmetic, i ? 3 : 1, i != 1, experts, got) == n);
            CHECK(!memcmp(want, got, n * sizeof(float)));
        }
        if (experts) continue;                 // there a choice may turn, and then much is different
        simd_gradients(GLAM_F32, 2, 0, experts, got);
        double off = 0, all = 0;
        for (size_t i = 1; i < n; i++) {
            off += ((double)want[i] - (double)got[i]) * ((double)want[i] - (double)got[i]);
            all += (double)got[i] * (double)got[i];
        }
        CHECK_NEAR(want[0], got[0], 0.005 * (double)got[0]);
        CHECK(off > 0 && sqrt(off) < 0.015 * sqrt(all));
    }
    free(want);
    free(got);
}

static void simd_bf16_model(void)       { simd_bf16_case(GLAM_BF16); }
static void simd_bf16_tiles_model(void) { simd_bf16_case(GLAM_BF16_TILES); }

// What is asked for is used, and AUTO is what the chip does best; nobody asks for AMX in vain or unasked.
static void simd_bf16_choice(void)
{
    glam_options options = test_options();
    options.arithmetic = GLAM_AUTO;
    glam_ctx *ctx = glam_open(&options);
    glam_arithmetic best = ctx->simd.kernels->native;
    CHECK(!strcmp(glam_arithmetic_name(ctx), best == GLAM_F32 ? "f32" : best == GLAM_BF16 ? "bf16" : "bf16_tiles"));
    CLOSE_CLEAN(ctx);
#ifdef TEST_AMX
    glam__kernels table;
    int before = amx_wanted;
    amx_wanted = 1;
    options.simd = NULL;
    for (int i = GLAM_F32; i <= GLAM_AUTO && glam__kernels_pick("amx", &table); i++) {
        options.arithmetic = (glam_arithmetic)i;
        ctx = glam_open(&options);
        CHECK(!strcmp(glam_simd_name(ctx), "amx") == (i >= GLAM_BF16_TILES));
        CHECK(!strcmp(glam_arithmetic_name(ctx), "bf16_tiles") == (i >= GLAM_BF16_TILES));
        CLOSE_CLEAN(ctx);
    }
    amx_wanted = before;
#endif
    options.arithmetic = (glam_arithmetic)7;
    ctx = glam_open(&options);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "options.arithmetic");
    glam_close(ctx);
    CHECK(!strcmp(glam_arithmetic_name(NULL), ""));
}

static void test_06_simd(void)
{
    RUN(simd_choice);
    RUN(simd_twins);
    RUN(simd_rows_are_alone);
    RUN(simd_one_row);
    RUN(simd_tails_are_equal);
    RUN(simd_models_agree);
    RUN(simd_pairs);
    RUN(simd_narrow);
    RUN(simd_pairs_are_alone);
    RUN(simd_tiles);
    RUN(simd_tiles_tiny);
    RUN(simd_turned);
    RUN(simd_tiles_are_alone);
    RUN(simd_bf16_model);
    RUN(simd_bf16_tiles_model);
    RUN(simd_bf16_choice);
}
