/* Room 05: kernels on float arrays.  Kind: value, against slow double loops, for every instruction
   set of this machine (room 06 compiles the same rows again), over ragged sizes.  The checks take
   the table, so that test_06 can use them too. */

enum { KERNEL_SETS = 7 };
static const char *const kernel_sets[KERNEL_SETS] = { "base", "sse2", "avx2", "avx512", "avx512bf16", "amx", "neon" };

enum { KERNEL_MOST = 70 };

// Numbers with a guard zone behind them: what a kernel writes past its end shows.
typedef struct guarded { float *x; size_t n; } guarded;

static guarded guarded_new(size_t n, uint64_t seed, double low, double high)
{
    guarded g;
    g.n = n;
    g.x = test_floats(n + 64, seed, low, high);
    for (size_t i = 0; i < 64; i++) g.x[n + i] = 12345;
    return g;
}

static void guarded_free(guarded *g)
{
    int wrong = 0;
    for (size_t i = 0; i < 64; i++) wrong += g->x[g->n + i] != 12345;
    CHECK(wrong == 0);
    free(g->x);
}

// Largest error of sums: |difference| / (1 + largest |value|).
static double kernel_off(const float *a, const double *b, size_t n)
{
    double worst = 0, top = 1;
    for (size_t i = 0; i < n; i++) {
        double off = fabs((double)a[i] - b[i]);
        if (!(off <= DBL_MAX)) return HUGE_VAL;
        if (off > worst) worst = off;
        if (fabs(b[i]) > top) top = fabs(b[i]);
    }
    return worst / top;
}

// One panel: m rows, n of nr columns, k terms; by rows (t = 0) or columns (t = 1) of A.
static void kernel_panel(const glam__kernels *f, int m, int n, int k, int t, int add)
{
    size_t lda = (size_t)(t ? m : k) + 3, ldb = (size_t)f->nr, ldc = (size_t)f->nr + 1;
    guarded a = guarded_new(lda * (size_t)(t ? k : m), 1, -1, 1);
    guarded b = guarded_new(ldb * (size_t)k, 2, -1, 1), c = guarded_new(ldc * (size_t)m, 3, -1, 1);
    double *want = (double *)calloc(ldc * (size_t)m, sizeof(double));
    for (int i = 0; i < m; i++) {
        for (size_t j = 0; j < ldc; j++) {
            double sum = (double)c.x[(size_t)i * ldc + j];
            if (j < (size_t)n) {
                if (!add) sum = 0;
                for (int p = 0; p < k; p++) {
                    size_t at = t ? (size_t)p * lda + (size_t)i : (size_t)i * lda + (size_t)p;
                    sum += (double)a.x[at] * (double)b.x[(size_t)p * ldb + j];
                }
            }
            want[(size_t)i * ldc + j] = sum;
        }
    }
    (t ? f->panel_t : f->panel)(m, n, k, a.x, lda, b.x, ldb, c.x, ldc, add);
    CHECK(kernel_off(c.x, want, ldc * (size_t)m) < 2e-6 * (1 + k / 64));
    free(want);
    guarded_free(&a);
    guarded_free(&b);
    guarded_free(&c);
}

static void kernel_panels(const glam__kernels *f)
{
    for (int m = 1; m <= 2 * f->mr + 1; m++) {
        for (int n = 1; n <= f->nr; n += n < 4 || n > f->nr - 3 ? 1 : 3) {
            kernel_panel(f, m, n, 1 + (m * 7 + n) % 23, m % 2, n % 2);
            kernel_panel(f, m, n, 1 + (m * 5 + n) % 19, 1 - m % 2, n % 2);
        }
    }
    // Past the blocks of terms.
    static const int terms[5] = { GLAM__KC - 1, GLAM__KC, GLAM__KC + 1, 2 * GLAM__KC, 2 * GLAM__KC + 5 };
    for (int i = 0; i < 10; i++) kernel_panel(f, f->mr + 1, f->nr - i % 2, terms[i / 2], i % 2, i % 3 == 0);
}

static void kernel_packs(const glam__kernels *f)
{
    for (int k = 1; k < 40; k += 3) {
        for (int n = 1; n <= f->nr; n++) {
            size_t ld = 50;
            guarded b = guarded_new(ld * 50, 4, -1, 1), out = guarded_new((size_t)(k * f->nr), 5, 0, 1);
            int wrong = 0;
            f->pack(k, n, b.x, ld, out.x);
            for (int p = 0; p < k; p++) {
                for (int j = 0; j < f->nr; j++) {
                    float want = j < n ? b.x[(size_t)p * ld + (size_t)j] : 0;
                    wrong += out.x[p * f->nr + j] != want;
                }
            }
            f->pack_t(k, n, b.x, ld, out.x, (size_t)f->nr);
            for (int p = 0; p < k; p++) {
                for (int j = 0; j < f->nr; j++) {
                    float want = j < n ? b.x[(size_t)j * ld + (size_t)p] : 0;
                    wrong += out.x[p * f->nr + j] != want;
                }
            }
            CHECK(wrong == 0);
            guarded_free(&b);
            guarded_free(&out);
        }
    }
}

static void kernel_sums(const glam__kernels *f)
{
    for (int n = 0; n <= KERNEL_MOST; n++) {
        guarded x = guarded_new((size_t)n, 6, -1, 1), y = guarded_new((size_t)n, 7, -1, 1);
        double want[KERNEL_MOST + 1], dot = 0, sum = 0, squares = 0;
        for (int i = 0; i < n; i++) {
            dot += (double)x.x[i] * (double)y.x[i];
            sum += (double)x.x[i];
            squares += (double)x.x[i] * (double)x.x[i];
        }
        CHECK_NEAR(f->dot(n, x.x, y.x), dot, 3e-6);
        CHECK_NEAR(f->sum((size_t)n, x.x), sum, 3e-6);
        CHECK_NEAR(f->sum_squares((size_t)n, x.x), squares, 3e-6);
        for (int i = 0; i < n; i++) want[i] = (double)y.x[i] + (double)x.x[i];
        f->add(n, x.x, y.x);
        CHECK(kernel_off(y.x, want, (size_t)n) < 1e-6);
        for (int i = 0; i < n; i++) want[i] = (double)y.x[i] - 1.7 * (double)x.x[i];
        f->axpy(n, -1.7f, x.x, y.x);
        CHECK(kernel_off(y.x, want, (size_t)n) < 1e-6);
        for (int i = 0; i < n; i++) want[i] = 0.3 * (double)y.x[i];
        f->scale(n, 0.3f, y.x);
        CHECK(kernel_off(y.x, want, (size_t)n) < 1e-6);
        guarded_free(&x);
        guarded_free(&y);
    }
    // Long sums stay right: a million terms, to a few units in the last place.
    float *many = test_floats(1000003, 8, 0, 1);
    double sum = 0, squares = 0;
    for (int i = 0; i < 1000003; i++) {
        sum += (double)many[i];
        squares += (double)many[i] * (double)many[i];
    }
    CHECK_NEAR(f->sum(1000003, many), sum, 1e-6 * sum);
    CHECK_NEAR(f->sum_squares(1000003, many), squares, 1e-6 * squares);
    free(many);
}

static void kernel_norms(const glam__kernels *f)
{
    for (int n = 1; n <= KERNEL_MOST; n++) {
        guarded x = guarded_new((size_t)n, 6, -2, 2), g = guarded_new((size_t)n, 7, 0.5, 1.5);
        guarded y = guarded_new((size_t)n, 8, 0, 0), dy = guarded_new((size_t)n, 9, -1, 1);
        guarded dx = guarded_new((size_t)n, 10, -1, 1), dg = guarded_new((size_t)n, 11, -1, 1);
        double want[KERNEL_MOST], back[KERNEL_MOST], gain[KERNEL_MOST], sum = 0, dot = 0;
        for (int i = 0; i < n; i++) sum += (double)x.x[i] * (double)x.x[i];
        double r = 1 / sqrt(sum / n + 1e-6);
        for (int i = 0; i < n; i++) dot += (double)dy.x[i] * (double)g.x[i] * (double)x.x[i];
        for (int i = 0; i < n; i++) {
            double xi = (double)x.x[i], gi = (double)g.x[i], di = (double)dy.x[i];
            want[i] = xi * r * gi;
            back[i] = (double)dx.x[i] + r * gi * di - xi * r * r * r / n * dot;
            gain[i] = (double)dg.x[i] + di * xi * r;
        }
        CHECK_NEAR(f->rmsnorm(n, 1e-6f, x.x, g.x, y.x), r, 1e-6 * r);
        CHECK(kernel_off(y.x, want, (size_t)n) < 1e-6);
        f->rmsnorm_back(n, (float)r, x.x, g.x, dy.x, dx.x, dg.x);
        CHECK(kernel_off(dx.x, back, (size_t)n) < 3e-6);
        CHECK(kernel_off(dg.x, gain, (size_t)n) < 3e-6);
        f->rmsnorm_back(n, (float)r, x.x, g.x, dy.x, NULL, NULL);
        f->rmsnorm(n, 1e-6f, x.x, g.x, x.x);           // in place
        CHECK(kernel_off(x.x, want, (size_t)n) < 1e-6);
        guarded_free(&x);
        guarded_free(&g);
        guarded_free(&y);
        guarded_free(&dy);
        guarded_free(&dx);
        guarded_free(&dg);
    }
}

static void kernel_softmaxes(const glam__kernels *f)
{
    for (int n = 1; n <= KERNEL_MOST; n++) {
        for (int kind = 0; kind < 6; kind++) {
            int sink = kind % 2;
            double middle = kind / 2 == 0 ? 0 : kind / 2 == 1 ? 300 : -300, want[KERNEL_MOST];
            guarded x = guarded_new((size_t)n, (uint64_t)(n * 6 + kind), middle - 9, middle + 9);
            guarded y = guarded_new((size_t)n, 3, 0, 0);
            double top = sink ? 0 : -1e300, sum = 0;
            for (int i = 0; i < n; i++) if ((double)x.x[i] > top) top = (double)x.x[i];
            for (int i = 0; i < n; i++) sum += exp((double)x.x[i] - top);
            double all = sum + (sink ? exp(-top) : 0);
            for (int i = 0; i < n; i++) want[i] = exp((double)x.x[i] - top) / all;
            if (!sink) CHECK_NEAR(f->logsumexp(n, x.x), top + log(sum), 2e-6 * (1 + fabs(top)));
            float *copy = test_floats((size_t)n, 0, 0, 0);
            memcpy(copy, x.x, (size_t)n * sizeof(float));
            CHECK_NEAR(f->softmax(n, x.x, sink), top + log(all), 2e-6 * (1 + fabs(top)));
            // far below the sink everything is nothing, and float has no smaller numbers
            if (all > 1e30 || sum < 1e-30) CHECK(kernel_off(x.x, want, (size_t)n) < 1e-9);
            else CHECK(test_off(x.x, want, (size_t)n) < 2e-6);
            f->exp_minus(n, (float)middle, copy, y.x);
            for (int i = 0; i < n; i++) want[i] = exp((double)copy[i] - middle);
            CHECK(test_off(y.x, want, (size_t)n) < 2e-6);
            free(copy);
            guarded_free(&x);
            guarded_free(&y);
        }
    }
    CHECK(f->logsumexp(0, NULL) <= -1e30f && f->softmax(0, NULL, 0) <= -1e30f);
    CHECK(f->softmax(0, NULL, 1) == 0);
}

static double kernel_act_value(int kind, double g, double u)
{
    switch (kind) {
    case GLAM__ACT_RELU:       return u > 0 ? u : 0;
    case GLAM__ACT_GELU_TANH:  return slow_gelu(u);
    case GLAM__ACT_GELU_ERF:   return slow_gelu_erf(u);
    case GLAM__ACT_GEGLU_TANH: return slow_gelu(g) * u;
    case GLAM__ACT_GEGLU_ERF:  return slow_gelu_erf(g) * u;
    case GLAM__ACT_SWIGLU:     return slow_silu(g) * u;
    case GLAM__ACT_GEGLU_LITERAL: return slow_gelu(g * u);
    default:                   return NAN;         // a row without a slow form here fails
    }
}

static void kernel_activations(const glam__kernels *f)
{
    for (int kind = 0; kind < GLAM__ACTS; kind++) {
        int gated = glam__act_form(kind) != GLAM__ALONE;
        for (int n = 1; n <= KERNEL_MOST; n += n < 36 ? 1 : 5) {
            guarded g = guarded_new((size_t)n, 6, -4, 4), u = guarded_new((size_t)n, 7, -4, 4);
            guarded d = guarded_new((size_t)n, 8, -1, 1), h = guarded_new((size_t)n, 9, 0, 0);
            guarded dg = guarded_new((size_t)n, 10, 0, 0), du = guarded_new((size_t)n, 11, 0, 0);
            double want[KERNEL_MOST], wg[KERNEL_MOST], wu[KERNEL_MOST], e = 1e-5;
            for (int i = 0; i < n; i++) {
                double gi = (double)g.x[i], ui = (double)u.x[i], di = (double)d.x[i];
                want[i] = kernel_act_value(kind, gi, ui);
                wg[i] = di * (kernel_act_value(kind, gi + e, ui) - kernel_act_value(kind, gi - e, ui)) / (2 * e);
                wu[i] = di * (kernel_act_value(kind, gi, ui + e) - kernel_act_value(kind, gi, ui - e)) / (2 * e);
            }
            f->act(kind, n, gated ? g.x : NULL, u.x, h.x);
            CHECK(kernel_off(h.x, want, (size_t)n) < 1e-6);
            memset(h.x, 0, (size_t)n * sizeof(float));
            f->act_back(kind, n, gated ? g.x : NULL, u.x, d.x, h.x, gated ? dg.x : NULL, du.x);
            CHECK(kernel_off(h.x, want, (size_t)n) < 1e-6);
            CHECK(kernel_off(du.x, wu, (size_t)n) < 3e-6);
            if (gated) CHECK(kernel_off(dg.x, wg, (size_t)n) < 3e-6);
            f->act_back(kind, n, gated ? g.x : NULL, u.x, d.x, h.x, gated ? g.x : NULL, u.x);
            CHECK(kernel_off(u.x, wu, (size_t)n) < 3e-6);      // over its own operands
            if (gated) CHECK(kernel_off(g.x, wg, (size_t)n) < 3e-6);
            guarded_free(&g);
            guarded_free(&u);
            guarded_free(&d);
            guarded_free(&h);
            guarded_free(&dg);
            guarded_free(&du);
        }
    }
}

static double kernel_unary_value(int kind, double x)
{
    switch (kind) {
    case GLAM__EXP:      return exp(x);
    case GLAM__LOG:      return log(x);
    case GLAM__TANH:     return tanh(x);
    case GLAM__SIGMOID:  return 1 / (1 + exp(-x));
    case GLAM__RELU:     return x > 0 ? x : 0;
    case GLAM__GELU:     return slow_gelu(x);
    case GLAM__GELU_ERF: return slow_gelu_erf(x);
    default:             return slow_silu(x);
    }
}

static void kernel_unaries(const glam__kernels *f)
{
    for (int kind = 0; kind < 8; kind++) {
        double low = kind == GLAM__LOG ? 0.05 : -9;
        for (int n = 1; n <= KERNEL_MOST; n += n < 36 ? 1 : 5) {
            guarded x = guarded_new((size_t)n, 6 + (uint64_t)n, low, 9), y = guarded_new((size_t)n, 7, 0, 0);
            guarded d = guarded_new((size_t)n, 8, -1, 1), dx = guarded_new((size_t)n, 9, -1, 1);
            double back[KERNEL_MOST], e = 1e-5;
            int wrong = 0;
            f->unary(kind, (size_t)n, x.x, y.x);
            for (int i = 0; i < n; i++) {
                double at = (double)x.x[i], want = kernel_unary_value(kind, at);
                double slope = (kernel_unary_value(kind, at + e) - kernel_unary_value(kind, at - e)) / (2 * e);
                wrong += !(fabs((double)y.x[i] - want) <= 1e-6 * fabs(want) + 4e-7);
                back[i] = (double)dx.x[i] + (double)d.x[i] * slope;
            }
            CHECK(wrong == 0);
            f->unary_back(kind, (size_t)n, x.x, y.x, d.x, dx.x);
            CHECK(kernel_off(dx.x, back, (size_t)n) < 3e-6);
            guarded_free(&x);
            guarded_free(&y);
            guarded_free(&d);
            guarded_free(&dx);
        }
    }
}

// Relative accuracy far out, and what happens beyond: no infinity where none is due.
static void kernel_extremes(const glam__kernels *f)
{
    float x[8] = { -200, -88, -1e-6f, 1e-6f, 80, 87, -3e38f, 0 }, y[8];
    f->unary(GLAM__EXP, 8, x, y);
    CHECK(y[0] == 0 && y[6] == 0 && y[7] == 1);
    CHECK_NEAR(y[4] / exp(80.0), 1, 1e-6);
    CHECK_NEAR(y[5] / exp(87.0), 1, 1e-6);
    CHECK_NEAR(y[2], 1 - 1e-6, 1e-7);
    f->unary(GLAM__TANH, 8, x, y);
    CHECK(y[0] == -1 && y[4] == 1 && y[7] == 0);
    CHECK_NEAR(y[2] * 1e6, -1, 1e-6);                  // small arguments keep their digits
    f->unary(GLAM__SIGMOID, 8, x, y);
    CHECK(y[0] >= 0 && y[0] < 1e-30f && y[4] == 1 && y[7] == 0.5f);
    f->unary(GLAM__GELU, 8, x, y);
    CHECK(fabs((double)y[0]) < 1e-30 && y[4] == 80 && y[7] == 0);
    f->unary(GLAM__SILU, 8, x, y);
    CHECK(fabs((double)y[0]) < 1e-20 && y[4] == 80);
}

static void kernel_finite(const glam__kernels *f)
{
    for (int n = 1; n <= KERNEL_MOST; n++) {
        float *x = test_floats((size_t)n, 6, -1, 1);
        x[n / 2] = 3.4e38f;
        CHECK(f->finite((size_t)n, x) == 1);
        for (int i = 0; i < n; i++) {
            float keep = x[i];
            x[i] = (float)(i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -INFINITY);
            CHECK(f->finite((size_t)n, x) == 0);
            x[i] = keep;
        }
        free(x);
    }
    CHECK(f->finite(0, NULL) == 1);
}

// AdamW and Adafactor rows; the optimisers as a whole are tested in test_18.
static void kernel_optimisers(const glam__kernels *f)
{
    for (int n = 1; n <= KERNEL_MOST; n += n < 36 ? 1 : 5) {
        guarded w = guarded_new((size_t)n, 1, -1, 1), g = guarded_new((size_t)n, 2, -1, 1);
        guarded m = guarded_new((size_t)n, 3, -1, 1), v = guarded_new((size_t)n, 4, 0.1, 1);
        guarded col = guarded_new((size_t)n, 5, 0.5, 2);
        double ww[KERNEL_MOST], mm[KERNEL_MOST], vv[KERNEL_MOST], u[KERNEL_MOST], sum = 0;
        for (int i = 0; i < n; i++) {
            double s = 0.5 * (double)g.x[i];
            mm[i] = 0.9 * (double)m.x[i] + 0.1 * s;
            vv[i] = 0.8 * (double)v.x[i] + 0.2 * s * s;
            ww[i] = (double)w.x[i] - 0.01 * (mm[i] * 1.3 / (sqrt(vv[i] * 1.7) + 1e-3) + 0.2 * (double)w.x[i]);
        }
        f->adamw((size_t)n, w.x, g.x, m.x, v.x, 0.5f, 0.9f, 0.8f, 1.3f, 1.7f, 1e-3f, 0.01f, 0.2f);
        CHECK(kernel_off(w.x, ww, (size_t)n) < 1e-6 && kernel_off(m.x, mm, (size_t)n) < 1e-6);
        CHECK(kernel_off(v.x, vv, (size_t)n) < 1e-6);
        for (int i = 0; i < n; i++) {
            double s = 0.5 * (double)g.x[i];
            vv[i] = 0.7 * (double)v.x[i] + 0.3 * (s * s + 1e-30);
            u[i] = s / sqrt(vv[i]);
            sum += u[i] * u[i];
            ww[i] = (double)w.x[i] - 0.02 * u[i];
        }
        CHECK_NEAR(f->factor_none((size_t)n, g.x, v.x, 0.5f, 0.7f, 1e-30f), sum, 3e-6 * (1 + sum));
        f->factor_none_step((size_t)n, w.x, g.x, v.x, 0.5f, 0.02f);
        CHECK(kernel_off(w.x, ww, (size_t)n) < 1e-6 && kernel_off(v.x, vv, (size_t)n) < 1e-6);
        sum = 0;
        for (int i = 0; i < n; i++) {
            u[i] = 0.5 * (double)g.x[i] * 1.9 * (double)col.x[i];
            sum += u[i] * u[i];
            ww[i] = (double)w.x[i] - 0.03 * u[i];
        }
        CHECK_NEAR(f->factor_row(n, g.x, col.x, 1.9f, 0.5f), sum, 3e-6 * (1 + sum));
        f->factor_row_step(n, w.x, g.x, col.x, 1.9f, 0.5f, 0.03f);
        CHECK(kernel_off(w.x, ww, (size_t)n) < 1e-6);
        guarded_free(&w);
        guarded_free(&g);
        guarded_free(&m);
        guarded_free(&v);
        guarded_free(&col);
    }
}

static void kernel_for_each(void (*check)(const glam__kernels *))
{
    for (int i = 0; i < KERNEL_SETS; i++) {
        glam__kernels table;
        if (!glam__kernels_pick(kernel_sets[i], &table)) continue;
        int before = test__now.bad;
        CHECK(!strcmp(table.name, kernel_sets[i]));
        check(&table);
        if (test__now.bad > before) printf("  instruction set: %s\n", kernel_sets[i]);
    }
}

static void kernels_panels(void)      { kernel_for_each(kernel_panels); }
static void kernels_packs(void)       { kernel_for_each(kernel_packs); }
static void kernels_sums(void)        { kernel_for_each(kernel_sums); }
// Pairs turned, and turned back.
static void kernel_rotate(const glam__kernels *f)
{
    for (int n = 1; n <= KERNEL_MOST / 2; n++) {
        guarded x = guarded_new((size_t)n * 2, 6, -2, 2), c = guarded_new((size_t)n, 7, -1, 1);
        guarded s = guarded_new((size_t)n, 8, -1, 1);
        double want[KERNEL_MOST], back[KERNEL_MOST];
        for (int i = 0; i < n; i++) {
            double a = (double)x.x[i], b = (double)x.x[n + i], ci = (double)c.x[i], si = (double)s.x[i];
            want[i] = a * ci - b * si;
            want[n + i] = b * ci + a * si;
            back[i] = a * (ci * ci + si * si);
            back[n + i] = b * (ci * ci + si * si);
        }
        f->rotate(n, 1, c.x, s.x, x.x);
        CHECK(kernel_off(x.x, want, (size_t)n * 2) < 1e-6);
        f->rotate(n, -1, c.x, s.x, x.x);
        CHECK(kernel_off(x.x, back, (size_t)n * 2) < 2e-6);
        guarded_free(&x);
        guarded_free(&c);
        guarded_free(&s);
    }
}

static void kernels_rotate(void)      { kernel_for_each(kernel_rotate); }
static void kernels_norms(void)       { kernel_for_each(kernel_norms); }
static void kernels_softmaxes(void)   { kernel_for_each(kernel_softmaxes); }
static void kernels_activations(void) { kernel_for_each(kernel_activations); }
static void kernels_unaries(void)     { kernel_for_each(kernel_unaries); }
static void kernels_extremes(void)    { kernel_for_each(kernel_extremes); }
static void kernels_finite(void)      { kernel_for_each(kernel_finite); }
static void kernels_optimisers(void)  { kernel_for_each(kernel_optimisers); }

static void test_05_kernels(void)
{
    RUN(kernels_panels);
    RUN(kernels_packs);
    RUN(kernels_sums);
    RUN(kernels_norms);
    RUN(kernels_rotate);
    RUN(kernels_softmaxes);
    RUN(kernels_activations);
    RUN(kernels_unaries);
    RUN(kernels_extremes);
    RUN(kernels_finite);
    RUN(kernels_optimisers);
}
