/* Room 11: the small ops.  Kinds: value (slow double loops), property, failure. */

typedef glam_tensor *ops_pair(glam_ctx *, glam_tensor *, glam_tensor *);
typedef glam_tensor *ops_unary(glam_ctx *, glam_tensor *);

static double ops_slow_pair(int kind, double a, double b)
{
    return kind == 0 ? a + b : kind == 1 ? a - b : kind == 2 ? a * b : a / b;
}

static void ops_pairs(void)
{
    static ops_pair *const kinds[4] = { glam_add, glam_sub, glam_mul, glam_div };
    glam_ctx *ctx = test_ctx();
    float *a = test_floats(210, 1, -2, 2), *b = test_floats(210, 2, 0.5, 2);
    glam_shape shapes[5];
    shapes[0] = glam_dim3(5, 6, 7);
    shapes[1] = glam_dim2(6, 7);
    shapes[2] = glam_dim1(7);
    shapes[3] = glam_dim1(1);
    shapes[4] = glam_dim3(1, 1, 1);
    for (int kind = 0; kind < 4; kind++) {
        for (int s = 0; s < 5; s++) {
            glam_tensor *x = glam_input(ctx, a, shapes[0]), *y = glam_input(ctx, b, shapes[s]);
            glam_tensor *z = kinds[kind](ctx, x, y);
            size_t n = glam_size(y), wrong = 0;
            if (!CHECK(z && z->shape.dims == 3)) { glam_clear_error(ctx); continue; }
            for (size_t i = 0; i < 210; i++) {
                double want = ops_slow_pair(kind, (double)a[i], (double)b[i % n]);
                wrong += !(fabs((double)z->data[i] - want) <= 1e-6 * (1 + fabs(want)));
            }
            CHECK(wrong == 0);
        }
    }
    free(a);
    free(b);
    CLOSE_CLEAN(ctx);
}

static double ops_slow_unary(int kind, double x)
{
    switch (kind) {
    case 0:  return exp(x);
    case 1:  return log(x);
    case 2:  return tanh(x);
    case 3:  return 1 / (1 + exp(-x));
    case 4:  return x > 0 ? x : 0;
    case 5:  return slow_gelu(x);
    case 6:  return slow_gelu_erf(x);
    default: return slow_silu(x);
    }
}

static void ops_unaries(void)
{
    static ops_unary *const kinds[8] = { glam_exp, glam_log, glam_tanh, glam_sigmoid, glam_relu,
                                         glam_gelu, glam_gelu_erf, glam_silu };
    for (int kind = 0; kind < 8; kind++) {
        glam_ctx *ctx = test_ctx();
        float *x = test_floats(20000, 3, kind == 1 ? 0.01 : -8, 8);
        glam_tensor *y = kinds[kind](ctx, glam_input(ctx, x, glam_dim3(4, 50, 100)));
        int wrong = 0;
        for (int i = 0; y && i < 20000; i++) {
            double want = ops_slow_unary(kind, (double)x[i]);
            wrong += !(fabs((double)y->data[i] - want) <= 1e-6 * fabs(want) + 4e-7);
        }
        CHECK(y && wrong == 0);
        free(x);
        CLOSE_CLEAN(ctx);
    }
}

static void ops_gelu_of_one(void)
{
    glam_ctx *ctx = test_ctx();
    float one = 1;
    glam_tensor *x = glam_input(ctx, &one, glam_dim1(1));
    CHECK_NEAR(glam_gelu(ctx, x)->data[0], 0.841192, 1e-6);
    CHECK_NEAR(glam_gelu_erf(ctx, x)->data[0], 0.841345, 1e-6);
    CLOSE_CLEAN(ctx);
}

static void ops_products(void)
{
    static const int sizes[12][3] = { { 1, 1, 1 }, { 2, 3, 4 }, { 5, 7, 9 }, { 13, 17, 31 },
        { 16, 16, 16 }, { 33, 40, 65 }, { 64, 100, 33 }, { 1, 600, 50 }, { 70, 1, 70 },
        { 7, 1030, 7 }, { 130, 64, 130 }, { 257, 33, 129 } };
    for (int i = 0; i < 12; i++) {
        int R = sizes[i][0], K = sizes[i][1], N = sizes[i][2];
        glam_ctx *ctx = test_ctx();
        float *x = test_floats((size_t)(R * K), 1, -1, 1), *w = test_floats((size_t)(K * N), 2, -1, 1);
        float *t = test_floats((size_t)(K * N), 0, 0, 0);
        double *want = (double *)calloc((size_t)(R * N), sizeof(double));
        for (int k = 0; k < K; k++) for (int n = 0; n < N; n++) t[n * K + k] = w[k * N + n];
        slow_matmul(want, x, w, R, K, N);
        glam_tensor *in = glam_input(ctx, x, glam_dim2(R, K));
        glam_tensor *y = glam_matmul(ctx, in, glam_input(ctx, w, glam_dim2(K, N)));
        glam_tensor *z = glam_matmul_t(ctx, in, glam_input(ctx, t, glam_dim2(N, K)));
        if (CHECK(y && z)) {
            CHECK(test_off(y->data, want, (size_t)(R * N)) < 3e-6);
            CHECK(test_off(z->data, want, (size_t)(R * N)) < 3e-6);
            CHECK(y->shape.dim[0] == R && y->shape.dim[1] == N);
        }
        // weights as parameters go through packed copies
        glam_tensor *p = glam_param(ctx, "w", glam_dim2(K, N));
        memcpy(p->data, w, (size_t)(K * N) * sizeof(float));
        for (int pass = 0; pass < 2; pass++) {
            y = glam_matmul(ctx, glam_input(ctx, x, glam_dim2(R, K)), p);
            if (CHECK(y != NULL)) CHECK(test_off(y->data, want, (size_t)(R * N)) < 3e-6);
            glam_forget(ctx);
        }
        free(x);
        free(w);
        free(t);
        free(want);
        CLOSE_CLEAN(ctx);
    }
}

// A weight that is changed by hand between steps is seen: nothing stale is multiplied.
static void ops_changed_weight(void)
{
    glam_ctx *ctx = test_ctx();
    float one[3] = { 1, 1, 1 };
    glam_tensor *w = glam_param(ctx, "w", glam_dim2(3, 2));
    for (int i = 1; i < 5; i++) {
        for (int e = 0; e < 6; e++) w->data[e] = (float)i;
        glam_tensor *y = glam_matmul(ctx, glam_input(ctx, one, glam_dim2(1, 3)), w);
        CHECK(y && y->data[0] == (float)(3 * i));
        glam_forget(ctx);
        glam_fill(w, (float)(10 * i));
        y = glam_matmul(ctx, glam_input(ctx, one, glam_dim2(1, 3)), w);
        CHECK(y && y->data[0] == (float)(30 * i));
        glam_fill(w, (float)(20 * i));             // also within a step
        y = glam_matmul(ctx, glam_input(ctx, one, glam_dim2(1, 3)), w);
        CHECK(y && y->data[0] == (float)(60 * i));
        glam_forget(ctx);
    }
    CLOSE_CLEAN(ctx);
}

static void ops_moving(void)
{
    glam_ctx *ctx = test_ctx();
    float v[24];
    for (int i = 0; i < 24; i++) v[i] = (float)i;
    glam_tensor *x = glam_input(ctx, v, glam_dim2(4, 6)), *y = glam_transpose(ctx, x);
    CHECK(y && y->shape.dim[0] == 6 && y->shape.dim[1] == 4);
    for (int i = 0; y && i < 24; i++) CHECK(y->data[i] == v[i % 4 * 6 + i / 4]);
    y = glam_slice(ctx, x, 1, 2);
    CHECK(y && y->shape.dim[0] == 2 && y->data[0] == 6 && y->data[11] == 17);
    y = glam_concat(ctx, y, x);
    CHECK(y && y->shape.dim[0] == 6 && y->data[0] == 6 && y->data[12] == 0 && y->data[35] == 23);
    y = glam_scale(ctx, x, -0.5f);
    CHECK(y && y->data[4] == -2);
    CHECK_NEAR(glam_sum(ctx, x)->data[0], 276, 1e-4);
    CHECK_NEAR(glam_mean(ctx, x)->data[0], 11.5, 1e-5);
    CLOSE_CLEAN(ctx);
}

static void ops_rows(void)
{
    glam_ctx *ctx = test_ctx();
    float *x = test_floats(5 * 37, 4, -3, 3), *g = test_floats(37, 5, 0.5, 1.5), *b = test_floats(37, 6, -1, 1);
    double soft[185], layer[185], rms[185];
    for (int r = 0; r < 5; r++) {
        const float *row = x + r * 37;
        double mean = 0, var = 0, lse = slow_logsumexp(row, 37);
        for (int i = 0; i < 37; i++) mean += (double)row[i] / 37;
        for (int i = 0; i < 37; i++) var += ((double)row[i] - mean) * ((double)row[i] - mean) / 37;
        for (int i = 0; i < 37; i++) {
            soft[r * 37 + i] = exp((double)row[i] - lse);
            layer[r * 37 + i] = ((double)row[i] - mean) / sqrt(var + 1e-5) * (double)g[i] + (double)b[i];
        }
    }
    slow_rmsnorm(rms, x, g, 5, 37, 1e-6);
    glam_tensor *in = glam_input(ctx, x, glam_dim2(5, 37)), *gain = glam_input(ctx, g, glam_dim1(37));
    glam_tensor *y = glam_softmax(ctx, in);
    CHECK(y && test_off(y->data, soft, 185) < 2e-6);
    y = glam_layernorm(ctx, in, gain, glam_input(ctx, b, glam_dim1(37)), 1e-5f);
    CHECK(y && test_off(y->data, layer, 185) < 2e-6);
    y = glam_layernorm(ctx, in, gain, NULL, 1e-5f);
    CHECK(y != NULL);
    for (int i = 0; y && i < 185; i++) CHECK_NEAR(y->data[i], layer[i] - (double)b[i % 37], 3e-6);
    y = glam_rmsnorm(ctx, in, gain, 1e-6f);
    CHECK(y && test_off(y->data, rms, 185) < 2e-6);
    free(x);
    free(g);
    free(b);
    CLOSE_CLEAN(ctx);
}

// Extreme rows: exp(1000) is infinite, exp(-1000) is nothing.
static void ops_softmax_extremes(void)
{
    glam_ctx *ctx = test_ctx();
    float v[6] = { 1000, 1001, 999, -1000, -1001, -1000 };
    glam_tensor *y = glam_softmax(ctx, glam_input(ctx, v, glam_dim2(2, 3)));
    if (CHECK(y != NULL)) {
        CHECK_NEAR(y->data[1], 0.66524096, 1e-5);
        CHECK_NEAR(y->data[3], 0.42231879, 1e-5);
        CHECK_NEAR(y->data[0] + y->data[1] + y->data[2], 1, 1e-6);
    }
    static const int32_t target[2] = { 2, 1 };
    y = glam_cross_entropy(ctx, glam_input(ctx, v, glam_dim2(2, 3)), target, NULL);
    if (y) CHECK_NEAR(y->data[0], (2.40760596 + 1.86199480) / 2, 1e-5);
    CHECK(y != NULL);
    CLOSE_CLEAN(ctx);
}

static void ops_embed(void)
{
    glam_ctx *ctx = test_ctx();
    float table[12];
    int32_t ids[4] = { 2, 0, 77, 2 }, mask[4] = { 1, 1, 0, 1 };
    for (int i = 0; i < 12; i++) table[i] = (float)i;
    glam_tensor *t = glam_input(ctx, table, glam_dim2(4, 3));
    glam_tensor *y = glam_embed(ctx, t, ids, 4, mask);
    if (CHECK(y && y->shape.dim[0] == 4 && y->shape.dim[1] == 3)) {
        CHECK(y->data[0] == 6 && y->data[5] == 2 && y->data[6] == 0 && y->data[8] == 0 && y->data[11] == 8);
    }
    CHECK(glam_embed(ctx, t, ids, 4, NULL) == NULL);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "77");
    ids[2] = -1;
    CHECK(glam_embed(ctx, t, ids, 4, NULL) == NULL);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "-1");
    ids[2] = 3;
    CHECK(glam_embed(ctx, t, ids, 4, NULL) != NULL);
    CLOSE_CLEAN(ctx);
}

static void ops_dropout(void)
{
    glam_options options = test_options();
    glam_ctx *ctx = glam_open(&options);
    options.seed = 9;
    glam_ctx *other = glam_open(&options);
    glam_tensor *one = glam_zeros(ctx, glam_dim1(50000)), *two = glam_zeros(other, glam_dim1(50000));
    glam_fill(one, 1);
    glam_fill(two, 1);
    glam_tensor *y = glam_dropout(ctx, one, 0.3f, 5), *again = glam_dropout(ctx, one, 0.3f, 5);
    glam_tensor *key = glam_dropout(ctx, one, 0.3f, 6), *seed = glam_dropout(other, two, 0.3f, 5);
    glam_tensor *none = glam_dropout(ctx, one, 0, 5);
    int zeros = 0, wrong = 0;
    if (CHECK(y && again && key && seed && none)) {
        for (int i = 0; i < 50000; i++) {
            zeros += y->data[i] == 0;
            wrong += y->data[i] != 0 && fabs((double)y->data[i] - 1 / 0.7) > 1e-6;
            wrong += none->data[i] != 1;
        }
        CHECK(wrong == 0);
        CHECK_NEAR(zeros, 15000, 5 * sqrt(50000 * 0.3 * 0.7));
        CHECK(!memcmp(y->data, again->data, 200000));
        CHECK(memcmp(y->data, key->data, 200000) && memcmp(y->data, seed->data, 200000));
    }
    CHECK(glam_dropout(ctx, one, 1, 5) == NULL);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "dropout");
    CLOSE_CLEAN(ctx);
    CLOSE_CLEAN(other);
}

static void ops_losses(void)
{
    glam_ctx *ctx = test_ctx();
    float *x = test_floats(60, 4, -3, 3), *t = test_floats(60, 5, -3, 3);
    int32_t target[6] = { 0, 9, 4, -5, 99, 7 }, mask[6] = { 1, 1, 1, 0, 0, 1 };
    double mse = 0, xent = 0;
    for (int i = 0; i < 60; i++) mse += pow((double)x[i] - (double)t[i], 2) / 60;
    for (int r = 0; r < 6; r++) {
        if (mask[r]) xent += (slow_logsumexp(x + r * 10, 10) - (double)x[r * 10 + target[r]]) / 4;
    }
    glam_tensor *in = glam_input(ctx, x, glam_dim2(6, 10));
    glam_tensor *y = glam_mse(ctx, in, glam_input(ctx, t, glam_dim2(6, 10)));
    CHECK(y && glam_size(y) == 1);
    if (y) CHECK_NEAR(y->data[0], mse, 1e-5);
    y = glam_cross_entropy(ctx, in, target, mask);
    if (y) CHECK_NEAR(y->data[0], xent, 1e-5);
    CHECK(y != NULL);
    CHECK(glam_cross_entropy(ctx, in, target, NULL) == NULL);
    CHECK(glam_error(ctx) == GLAM_ERR_VALUE && strstr(glam_error_text(ctx), "-5"));
    glam_clear_error(ctx);
    memset(mask, 0, sizeof mask);                  // no token at all: 0, not a division by 0
    y = glam_cross_entropy(ctx, in, target, mask);
    CHECK(y && y->data[0] == 0);
    free(x);
    free(t);
    CLOSE_CLEAN(ctx);
}

#define OPS_SHAPE(call, part) do { CHECK((call) == NULL); ERROR_IS(ctx, GLAM_ERR_SHAPE, part); } while (0)

static void ops_failures(void)
{
    glam_ctx *ctx = test_ctx();
    glam_tensor *a = glam_zeros(ctx, glam_dim2(4, 6)), *b = glam_zeros(ctx, glam_dim2(5, 6));
    glam_tensor *v = glam_zeros(ctx, glam_dim1(5)), *c = glam_zeros(ctx, glam_dim3(2, 2, 6));
    OPS_SHAPE(glam_add(ctx, a, b), "add");
    OPS_SHAPE(glam_sub(ctx, a, v), "sub");
    OPS_SHAPE(glam_mul(ctx, v, a), "mul");
    OPS_SHAPE(glam_div(ctx, a, c), "div");
    OPS_SHAPE(glam_matmul(ctx, a, b), "matmul: x is [4,6] but w is [5,6]");
    OPS_SHAPE(glam_matmul_t(ctx, a, c), "matmul_t");
    OPS_SHAPE(glam_transpose(ctx, c), "transpose");
    OPS_SHAPE(glam_concat(ctx, a, c), "concat");
    OPS_SHAPE(glam_layernorm(ctx, a, v, NULL, 1e-6f), "layernorm");
    OPS_SHAPE(glam_rmsnorm(ctx, a, v, 1e-6f), "rmsnorm");
    OPS_SHAPE(glam_mse(ctx, a, b), "mse");
    CHECK(glam_slice(ctx, a, 3, 2) == NULL && glam_error(ctx) != GLAM_OK);
    CHECK(strstr(glam_error_text(ctx), "slice") != NULL);
    glam_clear_error(ctx);
    CHECK(glam_slice(ctx, a, -1, 2) == NULL && glam_error(ctx) != GLAM_OK);
    glam_clear_error(ctx);
    CHECK(glam_slice(ctx, a, 1, INT_MAX) == NULL && glam_error(ctx) != GLAM_OK);
    glam_clear_error(ctx);
    CLOSE_CLEAN(ctx);
}

// Every op takes NULL, for the context and for each operand.
static void ops_null(void)
{
    glam_ctx *ctx = test_ctx();
    for (int i = 0; i < 2; i++) {
        glam_ctx *c = i ? ctx : NULL;
        int32_t id = 0;
        CHECK(!glam_add(c, NULL, NULL) && !glam_sub(c, NULL, NULL) && !glam_mul(c, NULL, NULL));
        CHECK(!glam_div(c, NULL, NULL) && !glam_scale(c, NULL, 1) && !glam_matmul(c, NULL, NULL));
        CHECK(!glam_matmul_t(c, NULL, NULL) && !glam_transpose(c, NULL) && !glam_slice(c, NULL, 0, 1));
        CHECK(!glam_concat(c, NULL, NULL) && !glam_sum(c, NULL) && !glam_mean(c, NULL));
        CHECK(!glam_exp(c, NULL) && !glam_log(c, NULL) && !glam_tanh(c, NULL) && !glam_sigmoid(c, NULL));
        CHECK(!glam_relu(c, NULL) && !glam_gelu(c, NULL) && !glam_gelu_erf(c, NULL) && !glam_silu(c, NULL));
        CHECK(!glam_softmax(c, NULL) && !glam_layernorm(c, NULL, NULL, NULL, 0));
        CHECK(!glam_rmsnorm(c, NULL, NULL, 0) && !glam_embed(c, NULL, &id, 1, NULL));
        CHECK(!glam_dropout(c, NULL, 0, 0) && !glam_mse(c, NULL, NULL));
        CHECK(!glam_cross_entropy(c, NULL, &id, NULL) && !glam_view(c, NULL, glam_dim1(1)));
        CHECK(!glam_attention(c, NULL, NULL, NULL, NULL) && !glam_ffn(c, NULL, NULL, GLAM_RELU, 0));
    }
    glam_clear_error(ctx);
    CLOSE_CLEAN(ctx);
}

static void test_11_ops(void)
{
    RUN(ops_pairs);
    RUN(ops_unaries);
    RUN(ops_gelu_of_one);
    RUN(ops_products);
    RUN(ops_changed_weight);
    RUN(ops_moving);
    RUN(ops_rows);
    RUN(ops_softmax_extremes);
    RUN(ops_embed);
    RUN(ops_dropout);
    RUN(ops_losses);
    RUN(ops_failures);
    RUN(ops_null);
}
