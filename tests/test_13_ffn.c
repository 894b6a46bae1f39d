/* Room 13: the feed-forward.  Kinds: value, failure. */

static void slow_ffn(double *y, const double *x, const glam_ffn_weights *w, int rows, int M, int H,
                     glam_activation kind)
{
    for (int r = 0; r < rows; r++) {
        for (int m = 0; m < M; m++) y[r * M + m] = 0;
        for (int h = 0; h < H; h++) {
            double gate = 0, up = 0, f;
            for (int m = 0; m < M; m++) {
                gate += x[r * M + m] * (double)w->gate->data[m * H + h];
                up += x[r * M + m] * (double)w->up->data[m * H + h];
            }
            if (kind == GLAM_GELU_TANH) f = slow_gelu(gate) * up;
            else if (kind == GLAM_GELU_ERF) f = slow_gelu_erf(gate) * up;
            else if (kind == GLAM_SWIGLU) f = slow_silu(gate) * up;
            else f = slow_gelu(gate * up);
            for (int m = 0; m < M; m++) y[r * M + m] += f * (double)w->down->data[h * M + m];
        }
    }
}

static void ffn_value(int rows, int M, int H, glam_activation kind, int norm)
{
    glam_ctx *ctx = test_ctx();
    glam_ffn_weights w;
    size_t n = (size_t)rows * (size_t)M;
    float *x = test_floats(n, 3, -1, 1), *gain = test_floats((size_t)M, 4, 0.5, 1.5);
    double *in = (double *)calloc(n, sizeof(double)), *want = (double *)calloc(n, sizeof(double));
    memset(&w, 0, sizeof w);
    w.gate = glam_param(ctx, "g", glam_dim2(M, H));
    w.up = glam_param(ctx, "u", glam_dim2(M, H));
    w.down = glam_param(ctx, "d", glam_dim2(H, M));
    if (norm) w.norm = glam_input(ctx, gain, glam_dim1(M));
    glam_fill_normal(w.gate, 1, 0.5f);
    glam_fill_normal(w.up, 2, 0.5f);
    glam_fill_normal(w.down, 3, 0.3f);
    slow_rmsnorm(in, x, gain, rows, M, 1e-6);
    for (size_t i = 0; i < n && !norm; i++) in[i] = (double)x[i];
    slow_ffn(want, in, &w, rows, M, H, kind);
    for (size_t i = 0; i < n && norm; i++) want[i] += (double)x[i];
    glam_tensor *y = glam_ffn(ctx, glam_input(ctx, x, glam_dim2(rows, M)), &w, kind, 1e-6f);
    if (CHECK(y != NULL)) CHECK(test_off(y->data, want, n) < 1e-5);
    else printf("%s\n", glam_error_text(ctx));
    free(x);
    free(gain);
    free(in);
    free(want);
    CLOSE_CLEAN(ctx);
}

static void ffn_values(void)
{
    static const glam_activation kinds[4] = { GLAM_GELU_TANH, GLAM_GELU_ERF, GLAM_SWIGLU, GLAM_GEGLU_LITERAL };
    static const int sizes[6][3] = { { 1, 1, 1 }, { 3, 5, 7 }, { 17, 16, 33 }, { 65, 24, 48 },
                                     { 100, 33, 129 }, { 7, 64, 600 } };
    for (int i = 0; i < 48; i++) {
        const int *s = sizes[i / 8];
        ffn_value(s[0], s[1], s[2], kinds[i % 4], i / 4 % 2);
    }
}

// The gradients in bf16, by slow loops that round the operands: each way of a matrix in parts, more rows than are
// copied at once, odd sizes.
static double slow_rounded(double x)
{
    int e = 0;
    double m = frexp((double)(float)x, &e);
    return ldexp(nearbyint(ldexp(m, 8)), e - 8);
}

static double *slow_times(const double *a, int ai, int ap, const double *b, int bp, int bj, int m, int k, int n)
{
    double *c = (double *)calloc((size_t)m * (size_t)n, sizeof *c);
    for (int i = 0; i < m; i++)
        for (int p = 0; p < k; p++) {
            double x = slow_rounded(a[i * ai + p * ap]);
            for (int j = 0; j < n; j++) c[i * n + j] += x * slow_rounded(b[p * bp + j * bj]);
        }
    return c;
}

static double *slow_doubles(const float *x, size_t n)
{
    double *d = (double *)calloc(n, sizeof *d);
    for (size_t i = 0; i < n; i++) d[i] = (double)x[i];
    return d;
}

static void ffn_narrow_case(glam_arithmetic arithmetic, int T, int M, int H)
{
    glam_options options = test_options();
    options.arithmetic = arithmetic;
    glam_ctx *ctx = glam_open(&options);
    glam_ffn_weights w;
    memset(&w, 0, sizeof w);
    glam_tensor *x = glam_param(ctx, "x", glam_dim2(T, M)), *dy = glam_zeros(ctx, glam_dim2(T, M));
    w.gate = glam_param(ctx, "g", glam_dim2(M, H));
    w.up = glam_param(ctx, "u", glam_dim2(M, H));
    w.down = glam_param(ctx, "d", glam_dim2(H, M));
    glam_fill_normal(x, 1, 1);
    glam_fill_normal(dy, 2, 1);
    glam_fill_normal(w.gate, 3, 0.5f);
    glam_fill_normal(w.up, 4, 0.5f);
    glam_fill_normal(w.down, 5, 0.3f);
    double *xs = slow_doubles(x->data, glam_size(x)), *dys = slow_doubles(dy->data, glam_size(dy));
    double *gate = slow_doubles(w.gate->data, glam_size(w.gate)), *up = slow_doubles(w.up->data, glam_size(w.up));
    double *down = slow_doubles(w.down->data, glam_size(w.down));
    double *g = slow_times(xs, M, 1, gate, H, 1, T, M, H), *u = slow_times(xs, M, 1, up, H, 1, T, M, H);
    double *dh = slow_times(dys, M, 1, down, 1, M, T, M, H), *h = (double *)calloc((size_t)T * (size_t)H, sizeof *h);
    for (int i = 0; i < T * H; i++) {                      // d silu(g) = s (1 + g (1 - s)),  s = 1/(1 + exp(-g))
        double s = 1 / (1 + exp(-g[i])), f = g[i] * s, slope = s * (1 + g[i] * (1 - s));
        h[i] = f * u[i];
        g[i] = dh[i] * u[i] * slope;
        u[i] = dh[i] * f;
    }
    double *want[5] = { slow_times(xs, 1, M, g, H, 1, M, T, H), slow_times(xs, 1, M, u, H, 1, M, T, H),
                        slow_times(h, 1, H, dys, M, 1, H, T, M), slow_times(g, H, 1, gate, 1, H, T, H, M),
                        slow_times(u, H, 1, up, 1, H, T, H, M) };
    for (int i = 0; i < T * M; i++) want[3][i] += want[4][i];
    glam_tensor *y = glam_ffn(ctx, x, &w, GLAM_SWIGLU, 1e-6f), *of[4] = { w.gate, w.up, w.down, x };
    CHECK(glam_backward(ctx, glam_sum(ctx, glam_mul(ctx, y, dy))) == GLAM_OK);
    for (int i = 0; i < 4; i++) {                          // a sum in f32 may round to the operand beside
        double off = test_off(of[i]->grad, want[i], glam_size(of[i]));
        if (!CHECK(off < 4e-3)) printf("  %d x %d x %d, gradient %d: off by %g\n", T, M, H, i, off);
    }
    double *all[] = { xs, dys, gate, up, down, g, u, dh, h, want[0], want[1], want[2], want[3], want[4] };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    CLOSE_CLEAN(ctx);
}

static void ffn_narrow(void)
{
    static const int sizes[4][3] = { { 1, 1, 1 }, { 3, 5, 7 }, { 530, 6, 1101 }, { 70, 33, 130 } };
    for (int i = 0; i < 4; i++)
        for (int a = GLAM_BF16; a <= GLAM_BF16_TILES; a++)
            ffn_narrow_case((glam_arithmetic)a, sizes[i][0], sizes[i][1], sizes[i][2]);
}

// gelu(1) by both forms, through a network of one unit.
static void ffn_two_gelus(void)
{
    for (int erf_form = 0; erf_form < 2; erf_form++) {
        glam_ctx *ctx = test_ctx();
        glam_ffn_weights w;
        float one = 1;
        memset(&w, 0, sizeof w);
        w.gate = glam_input(ctx, &one, glam_dim2(1, 1));
        w.up = glam_input(ctx, &one, glam_dim2(1, 1));
        w.down = glam_input(ctx, &one, glam_dim2(1, 1));
        glam_tensor *y = glam_ffn(ctx, glam_input(ctx, &one, glam_dim2(1, 1)), &w,
                                  erf_form ? GLAM_GELU_ERF : GLAM_GELU_TANH, 1e-6f);
        CHECK(y != NULL);
        if (y) CHECK_NEAR(y->data[0], erf_form ? 0.841345 : 0.841192, 1e-6);
        CLOSE_CLEAN(ctx);
    }
}

static void ffn_failures(void)
{
    glam_ctx *ctx = test_ctx();
    glam_ffn_weights w;
    memset(&w, 0, sizeof w);
    glam_tensor *x = glam_zeros(ctx, glam_dim2(4, 6));
    w.gate = glam_zeros(ctx, glam_dim2(6, 9));
    w.up = glam_zeros(ctx, glam_dim2(6, 8));
    w.down = glam_zeros(ctx, glam_dim2(9, 6));
    CHECK(glam_ffn(ctx, x, &w, GLAM_GELU_TANH, 1e-6f) == NULL);
    ERROR_IS(ctx, GLAM_ERR_SHAPE, "[6,8]");
    w.up = glam_zeros(ctx, glam_dim2(6, 9));
    CHECK(glam_ffn(ctx, x, &w, GLAM_GEGLU, 1e-6f) == NULL);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "geglu_literal");
    w.norm = glam_zeros(ctx, glam_dim1(5));
    CHECK(glam_ffn(ctx, x, &w, GLAM_GELU_TANH, 1e-6f) == NULL);
    ERROR_IS(ctx, GLAM_ERR_SHAPE, "norm");
    CLOSE_CLEAN(ctx);
}

static void test_13_ffn(void)
{
    RUN(ffn_values);
    RUN(ffn_narrow);
    RUN(ffn_two_gelus);
    RUN(ffn_failures);
}
