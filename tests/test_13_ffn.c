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
    RUN(ffn_two_gelus);
    RUN(ffn_failures);
}
