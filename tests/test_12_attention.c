/* Room 12: attention.  Kinds: value (a slow attention in double), golden (the bucket table and the
   extra logit of the reference), property, failure. */

typedef struct slow_attention_case {
    int rows, S, M, heads, D, position, sink, buckets, max_distance;
    double scale, eps, cap;
    int kv_heads, qk_norm, scaling;                // 0: heads, none, none
} slow_attention_case;

// Turns of one pair a position, in the words of the configs of public models (transformers'
// modeling_rope_utils): wavelengths for llama3, dimensions for yarn.
static double slow_rotary(int scaling, int D, int i, double *attention)
{
    const double pi = 3.14159265358979323846, theta = 500.0, factor = 4, old = 16;
    double inverse = pow(theta, -2.0 * i / D), wavelength = 2 * pi / inverse;
    *attention = 1;
    if (scaling == 1) return inverse / factor;
    if (scaling == 2) {
        double low = 1.5, high = 5;
        if (wavelength > old / low) return inverse / factor;
        if (wavelength < old / high) return inverse;
        double smooth = (old / wavelength - low) / (high - low);
        return (1 - smooth) * inverse / factor + smooth * inverse;
    }
    if (scaling == 3) {
        double low = floor(D * log(old / (6 * 2 * pi)) / (2 * log(theta)));
        double high = ceil(D * log(old / (0.5 * 2 * pi)) / (2 * log(theta)));
        low = fmax(low, 0);
        high = fmin(high, D - 1);
        double ramp = fmin(fmax((i - low) / (high - low), 0), 1);
        *attention = 0.1 * log(factor) + 1;
        return inverse / factor * ramp + inverse * (1 - ramp);
    }
    return inverse;
}

static glam_rotary slow_rotary_config(int scaling)
{
    glam_rotary r = { 500, (glam_rotary_scaling)scaling, 4, 16, 0, 0, 0 };
    if (scaling == 2) { r.low = 1.5f; r.high = 5; }
    if (scaling == 3) { r.low = 0.5f; r.high = 6; }
    return r;
}

// Norm and turn of x [S,heads*D] in place.
static void slow_ready(const slow_attention_case *a, double *x, int heads, const glam_tensor *gain)
{
    int D = a->D, n = a->qk_norm == 2 ? heads * D : D;
    for (int i = 0; gain && i < a->S * heads * D; i += n) {
        double sum = 0;
        for (int d = 0; d < n; d++) sum += x[i + d] * x[i + d];
        for (int d = 0; d < n; d++) x[i + d] *= (double)gain->data[d] / sqrt(sum / n + a->eps);
    }
    for (int i = 0; i < a->S * heads && a->position == 3; i++)
        for (int d = 0; d < D / 2; d++) {
            double attention, angle = i / heads * slow_rotary(a->scaling, D, d, &attention);
            double c = attention * cos(angle), s = attention * sin(angle);
            double *p = &x[i * D + d], *q = p + D / 2, was = *p;
            *p = was * c - *q * s;
            *q = *q * c + was * s;
        }
}

// From reference 1.5 A, in double and without the shortcuts of the library.
static int slow_bucket(int n, int buckets, int max_distance)
{
    int exact = buckets / 2;
    if (n < exact) return n;
    int far = (int)(log((double)n / exact) / log((double)max_distance / exact) * (buckets - exact));
    return exact + far < buckets - 1 ? exact + far : buckets - 1;
}

// score of query i and key j of one head, before the mask.
static double slow_score(const slow_attention_case *a, const double *q, const double *k,
                         const glam_attention_weights *w, int head, int i, int j)
{
    int D = a->D, A = a->heads * D, kv = a->kv_heads ? a->kv_heads : a->heads;
    double sum = 0;
    for (int d = 0; d < D; d++) {
        double qd = q[i * A + head * D + d], kd = k[(j * kv + head * kv / a->heads) * D + d];
        if (a->position == GLAM_POSITION_TRANSFORMER_XL) {
            double r = 0;
            for (int m = 0; m < a->M; m++) {
                int half = a->M / 2, t = m % half;
                double angle = (i - j) * pow(10000.0, -2.0 * t / a->M);
                r += (m < half ? sin(angle) : cos(angle)) * (double)w->r->data[m * A + head * D + d];
            }
            sum += (qd + (double)w->u->data[head * D + d]) * kd;
            sum += (qd + (double)w->v_bias->data[head * D + d]) * r;
        } else sum += qd * kd;
    }
    sum *= a->scale;
    if (a->cap > 0) sum = a->cap * tanh(sum / a->cap);    // before the bias, as in 1.4
    if (a->position == GLAM_POSITION_BUCKETS) {
        int bucket = slow_bucket(i - j, a->buckets, a->max_distance);
        sum += (double)w->bias->data[head * a->buckets + bucket];
    }
    return sum;
}

// One row of the batch: y [S,M] = Attn(x), no norm, no residual.
static void slow_attention(double *y, const float *x, const glam_attention_weights *w,
                           const slow_attention_case *a, const int32_t *segments)
{
    int S = a->S, A = a->heads * a->D, kv = a->kv_heads ? a->kv_heads : a->heads, K = kv * a->D;
    size_t size = (size_t)S * (size_t)A;
    double *all = (double *)calloc(4 * size, sizeof(double));
    double *q = all, *k = all + size, *v = all + 2 * size, *z = all + 3 * size;
    double *score = (double *)calloc((size_t)S, sizeof(double));
    slow_matmul(q, x, w->q->data, S, a->M, A);
    slow_matmul(k, x, w->k->data, S, a->M, K);
    slow_matmul(v, x, w->v->data, S, a->M, K);
    slow_ready(a, q, a->heads, w->q_norm);
    slow_ready(a, k, kv, w->k_norm);
    for (int h = 0; h < a->heads; h++) {
        for (int i = 0; i < S; i++) {
            double top = a->sink ? 0 : -1e300, total = 0;
            for (int j = 0; j <= i; j++) {
                if (segments && (segments[i] == 0 || segments[i] != segments[j])) continue;
                score[j] = slow_score(a, q, k, w, h, i, j);
                if (score[j] > top) top = score[j];
            }
            if (a->sink) total = exp(0 - top);
            for (int pass = 0; pass < 2; pass++) {
                for (int j = 0; j <= i; j++) {
                    if (segments && (segments[i] == 0 || segments[i] != segments[j])) continue;
                    double p = exp(score[j] - top);
                    if (pass == 0) total += p;
                    else for (int d = 0; d < a->D; d++) {
                        z[i * A + h * a->D + d] += p / total * v[j * K + h * kv / a->heads * a->D + d];
                    }
                }
            }
        }
    }
    for (int i = 0; i < S; i++) {
        for (int m = 0; m < a->M; m++) {
            double sum = 0;
            for (int c = 0; c < A; c++) sum += z[i * A + c] * (double)w->o->data[c * a->M + m];
            y[i * a->M + m] = sum;
        }
    }
    free(all);
    free(score);
}

static glam_attention_config attention_config(const slow_attention_case *a)
{
    glam_attention_config c;
    memset(&c, 0, sizeof c);
    c.heads = a->heads;
    c.d_head = a->D;
    c.position = (glam_position)a->position;
    c.buckets = a->buckets;
    c.max_distance = a->max_distance;
    c.scale = (float)a->scale;
    c.sink = a->sink;
    c.norm_eps = (float)a->eps;
    c.cap = (float)a->cap;
    c.kv_heads = a->kv_heads;
    c.qk_norm = (glam_qk_norm)a->qk_norm;
    if (a->position == 3) c.rotary = slow_rotary_config(a->scaling);
    return c;
}

static glam_tensor *attention_param(glam_ctx *ctx, const char *name, glam_shape shape, double spread)
{
    glam_tensor *t = glam_param(ctx, name, shape);
    if (t) test_fill(t->data, glam_size(t), (uint64_t)name[0] * 7 + (uint64_t)name[1], -spread, spread);
    return t;
}

static glam_attention_weights attention_weights(glam_ctx *ctx, const slow_attention_case *a)
{
    glam_attention_weights w;
    int A = a->heads * a->D, K = (a->kv_heads ? a->kv_heads : a->heads) * a->D;
    memset(&w, 0, sizeof w);
    w.q = attention_param(ctx, "q", glam_dim2(a->M, A), 0.5);
    w.k = attention_param(ctx, "k", glam_dim2(a->M, K), 0.5);
    w.v = attention_param(ctx, "v", glam_dim2(a->M, K), 0.5);
    if (a->qk_norm) w.q_norm = attention_param(ctx, "qn", glam_dim1(a->qk_norm == 2 ? A : a->D), 2);
    if (a->qk_norm) w.k_norm = attention_param(ctx, "kn", glam_dim1(a->qk_norm == 2 ? K : a->D), 2);
    w.o = attention_param(ctx, "o", glam_dim2(A, a->M), 0.5);
    if (a->position == 0) w.bias = attention_param(ctx, "bias", glam_dim2(a->heads, a->buckets), 1);
    if (a->position == 1) {
        w.r = attention_param(ctx, "r", glam_dim2(a->M, A), 0.4);
        w.u = attention_param(ctx, "u", glam_dim2(a->heads, a->D), 0.5);
        w.v_bias = attention_param(ctx, "vb", glam_dim2(a->heads, a->D), 0.5);
    }
    return w;
}

static void attention_value(const slow_attention_case *a, const int32_t *segments)
{
    glam_ctx *ctx = test_ctx();
    glam_attention_config c = attention_config(a);
    glam_attention_weights w = attention_weights(ctx, a);
    size_t n = (size_t)a->rows * (size_t)a->S * (size_t)a->M, row = (size_t)a->S * (size_t)a->M;
    float *x = test_floats(n, 77, -1, 1);
    double *want = (double *)calloc(n, sizeof(double));
    glam_tensor *y = glam_attention(ctx, glam_input(ctx, x, glam_dim3(a->rows, a->S, a->M)), &w, &c,
                                    segments);
    for (int r = 0; r < a->rows; r++) {
        slow_attention(want + (size_t)r * row, x + (size_t)r * row, &w, a,
                       segments ? segments + r * a->S : NULL);
    }
    if (CHECK(y != NULL)) CHECK(test_off(y->data, want, n) < 1e-5);
    else printf("%s\n", glam_error_text(ctx));
    free(x);
    free(want);
    CLOSE_CLEAN(ctx);
}

static void attention_values(void)
{
    static const int lengths[8] = { 1, 2, 15, 16, 17, 33, 65, 131 };
    for (int position = 0; position < 3; position++) {
        for (int i = 0; i < 8; i++) {
            slow_attention_case a = { 2, lengths[i], 10, 1 + i % 3, 3 + i * 2, position, i % 2, 32, 128,
                                      i % 3 ? 1 : 0.4, 1e-6, 0 };
            attention_value(&a, NULL);
        }
    }
}

// Rotary positions with each scaling, grouped heads and norms of queries and keys, alone and together.
static void attention_families(void)
{
    static const int kv_heads[5] = { 0, 1, 2, 3, 6 };
    int32_t segments[80];
    for (int i = 0; i < 80; i++) segments[i] = i % 40 < 13 ? 1 : i % 40 < 25 ? 2 : i % 40 < 37 ? 5 : 0;
    for (int i = 0; i < 60; i++) {
        slow_attention_case a = { 2, i % 2 ? 40 : 67, 10, 6, 4 + i % 3 * 6, i % 5 ? 3 : i % 3, i / 2 % 2, 8, 20,
                                  i % 3 ? 0.5 : 1.0, i % 4 ? 1e-6 : 0.3, i % 7 ? 0 : 1.5,
                                  kv_heads[i % 5], i / 5 % 3, i / 4 % 4 };
        attention_value(&a, i % 2 ? segments : NULL);
    }
}

static void attention_refuses(const char *what, const glam_attention_config *c, glam_status status)
{
    glam_ctx *ctx = test_ctx();
    slow_attention_case a = { 1, 5, 6, 4, 6, 3, 1, 8, 20, 1, 1e-6, 0, 2, 1, 0 };
    glam_attention_weights w = attention_weights(ctx, &a);
    CHECK(glam_attention(ctx, glam_zeros(ctx, glam_dim3(1, 5, 6)), &w, c, NULL) == NULL);
    ERROR_IS(ctx, status, what);
    CLOSE_CLEAN(ctx);
}

static void attention_families_refused(void)
{
    slow_attention_case a = { 1, 5, 6, 4, 6, 3, 1, 8, 20, 1, 1e-6, 0, 2, 1, 0 };
    for (int i = 0; i < 13; i++) {
        glam_attention_config c = attention_config(&a);
        if (i == 0) c.kv_heads = 3;
        if (i == 1) c.kv_heads = -1;
        if (i == 2) c.qk_norm = (glam_qk_norm)3;
        if (i == 3) c.d_head = 5;
        if (i == 4) c.rotary.scaling = (glam_rotary_scaling)4;
        if (i == 5) c.rotary.theta = 1;
        if (i == 6) c.rotary.factor = -2;
        if (i == 7) { c.rotary.scaling = GLAM_ROTARY_LLAMA3; c.rotary.low = 9; }
        if (i == 8) c.rotary.context = -1;
        if (i == 9) { c.heads = c.kv_heads = 1; c.d_head = (1 << 24) + 2; }
        if (i == 10) c.kv_heads = 1;                       // the weights have two
        if (i == 11) c.qk_norm = GLAM_QK_NORM_WHOLE;
        if (i == 12) { c.heads = c.kv_heads = 1; c.d_head = 1 << 24; }     // as wide as can be
        attention_refuses(i < 2 ? "kv_heads" : i == 2 ? "qk_norm" : i == 3 ? "even" : i == 4 ? "scaling" :
                          i < 9 ? "rotary" : i == 9 ? "2^24 in all" : i == 10 ? "k is [6,12]" :
                          i == 11 ? "q_norm is [6]" : "q is [6,24]", &c,
                          i < 10 ? GLAM_ERR_VALUE : GLAM_ERR_SHAPE);
    }
}

static void attention_packed(void)
{
    int32_t segments[80];
    for (int i = 0; i < 80; i++) segments[i] = i % 40 < 13 ? 1 : i % 40 < 25 ? 2 : i % 40 < 37 ? 5 : 0;
    segments[3] = 0;                               // a hole in the middle of a text
    segments[70] = 0;
    for (int i = 0; i < 6; i++) {
        slow_attention_case a = { 2, 40, 8, 2, 4, i % 3, i / 3, 8, 20, 1, 1e-6, 0 };
        attention_value(&a, segments);
    }
}

// Caps that bend everything, a part, and next to nothing; with packed texts as well.
static void attention_capped(void)
{
    static const double caps[4] = { 0.25, 1.5, 50, 1e6 };
    int32_t segments[80];
    for (int i = 0; i < 80; i++) segments[i] = i % 40 < 13 ? 1 : i % 40 < 25 ? 2 : i % 40 < 37 ? 5 : 0;
    for (int i = 0; i < 24; i++) {
        slow_attention_case a = { 2, i % 2 ? 40 : 67, 8, 2, 5, i % 3, i / 3 % 2, 8, 20,
                                  i % 2 ? 1.0 : 3.0, 1e-6, caps[i / 6] };
        attention_value(&a, i % 2 ? segments : NULL);
    }
}

// Backward of a capped row reads nothing that was not written: scratch is full of NaN before it.
static void attention_capped_padding(void)
{
    int32_t segments[60];
    for (int i = 0; i < 60; i++) segments[i] = i % 9 < 6 ? 1 + i / 30 : 0;
    for (int position = 0; position < 3; position++) {
        slow_attention_case a = { 2, 30, 8, 2, 5, position, 1, 8, 20, 1, 1e-6, 0.5 };
        glam_ctx *ctx = test_ctx();
        glam_attention_config c = attention_config(&a);
        glam_attention_weights w = attention_weights(ctx, &a);
        float *x = test_floats(60 * 8, 5, -1, 1);
        glam_tensor *y = glam_attention(ctx, glam_input(ctx, x, glam_dim3(2, 30, 8)), &w, &c, segments);
        y = glam_sum(ctx, glam_mul(ctx, y, y));
        memset(ctx->scratch.data, 0xff, (size_t)ctx->scratch.bytes);
        glam_backward(ctx, y);
        double sum = 0;
        for (size_t i = 0; CHECK(w.q->grad && w.k->grad) && i < glam_size(w.q); i++)
            sum += fabs((double)w.q->grad[i]) + fabs((double)w.k->grad[i]);
        CHECK(sum > 0 && sum < 1e6);
        free(x);
        CLOSE_CLEAN(ctx);
    }
}

// Large scores: the maximum must be subtracted, also where it is far below or above the sink.
static void attention_extreme_scores(void)
{
    for (int i = 0; i < 4; i++) {
        slow_attention_case a = { 1, 19, 6, 2, 4, 2, i % 2, 8, 20, i < 2 ? 200.0 : -200.0, 1e-6, 0 };
        attention_value(&a, NULL);
    }
}

// Logits 1, 0, -1 and the extra 0: .534447 .196612 .072329; without it .665241 .244728 .090031.
// One head of width 1, v counts the key: k = (1, 0, -1), q = 1, v row = unit vectors through o.
static void attention_sink_example(void)
{
    static const double with[3] = { .534447, .196612, .072329 };
    static const double without[3] = { .665241, .244728, .090031 };
    for (int sink = 0; sink < 2; sink++) {
        for (int key = 0; key < 3; key++) {
            glam_ctx *ctx = test_ctx();
            glam_attention_config c;
            glam_attention_weights w;
            float x[9] = { 1, 0, 0, 0, 1, 0, 0, 0, 1 };
            memset(&c, 0, sizeof c);
            memset(&w, 0, sizeof w);
            c.heads = c.d_head = 1;
            c.position = GLAM_POSITION_NONE;
            c.scale = 1;
            c.sink = sink;
            c.norm_eps = 1e-6f;
            w.q = glam_param(ctx, "q", glam_dim2(3, 1));
            w.k = glam_param(ctx, "k", glam_dim2(3, 1));
            w.v = glam_param(ctx, "v", glam_dim2(3, 1));
            w.o = glam_param(ctx, "o", glam_dim2(1, 3));
            glam_fill(w.q, 1);
            w.k->data[0] = 1;
            w.k->data[2] = -1;
            w.v->data[key] = 1;
            glam_fill(w.o, 1);
            glam_tensor *y = glam_attention(ctx, glam_input(ctx, x, glam_dim3(1, 3, 3)), &w, &c, NULL);
            if (CHECK(y != NULL)) CHECK_NEAR(y->data[6], sink ? with[key] : without[key], 1e-6);
            CLOSE_CLEAN(ctx);
        }
    }
}

static void attention_buckets(void)
{
    static const int first[16] = { 16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113 };
    for (int d = 0; d < 16; d++) CHECK(glam_bucket(d, 32, 128) == d);
    for (int b = 0; b < 16; b++) {
        CHECK(glam_bucket(first[b], 32, 128) == 16 + b);
        CHECK(glam_bucket(first[b] - 1, 32, 128) == 15 + b);
    }
    CHECK(glam_bucket(127, 32, 128) == 31 && glam_bucket(128, 32, 128) == 31);
    CHECK(glam_bucket(1000000, 32, 128) == 31 && glam_bucket(INT_MAX, 32, 128) == 31);
    int wrong = 0;
    for (int d = 0; d < 5000; d++) {
        wrong += glam_bucket(d, 32, 128) != slow_bucket(d, 32, 128);
        wrong += glam_bucket(d, 12, 33) != slow_bucket(d, 12, 33);
        wrong += glam_bucket(d, 8, 20) != slow_bucket(d, 8, 20);
    }
    CHECK(wrong == 0);
}

// A later token changes no earlier output, bit for bit.
static void attention_is_causal(void)
{
    for (int position = 0; position < 3; position++) {
        slow_attention_case a = { 1, 70, 6, 2, 4, position, 1, 8, 20, 1, 1e-6, 0 };
        glam_ctx *ctx = test_ctx();
        glam_attention_config c = attention_config(&a);
        glam_attention_weights w = attention_weights(ctx, &a);
        float *x = test_floats(70 * 6, 5, -1, 1);
        glam_tensor *y = glam_attention(ctx, glam_input(ctx, x, glam_dim3(1, 70, 6)), &w, &c, NULL);
        for (int i = 41 * 6; i < 70 * 6; i++) x[i] = 9;
        glam_tensor *z = glam_attention(ctx, glam_input(ctx, x, glam_dim3(1, 70, 6)), &w, &c, NULL);
        if (CHECK(y && z)) {
            CHECK(!memcmp(y->data, z->data, 41 * 6 * sizeof(float)));
            CHECK(memcmp(y->data + 41 * 6, z->data + 41 * 6, 6 * sizeof(float)) != 0);
        }
        free(x);
        CLOSE_CLEAN(ctx);
    }
}

// The sub-layer form: y = x + Attn(rmsnorm(x)).
static void attention_with_norm(void)
{
    slow_attention_case a = { 2, 21, 6, 2, 4, 0, 1, 8, 20, 1, 1e-6, 0 };
    glam_ctx *ctx = test_ctx();
    glam_attention_config c = attention_config(&a);
    glam_attention_weights w = attention_weights(ctx, &a);
    float *x = test_floats(42 * 6, 5, -1, 1), *gain = test_floats(6, 6, 0.5, 1.5);
    glam_tensor *in = glam_input(ctx, x, glam_dim3(2, 21, 6)), *g = glam_input(ctx, gain, glam_dim1(6));
    glam_tensor *y = glam_attention(ctx, glam_rmsnorm(ctx, in, g, 1e-6f), &w, &c, NULL);
    y = glam_add(ctx, in, y);
    w.norm = g;
    glam_tensor *z = glam_attention(ctx, in, &w, &c, NULL);
    if (CHECK(y && z)) for (int i = 0; i < 42 * 6; i++) CHECK_NEAR(y->data[i], z->data[i], 1e-5);
    free(x);
    free(gain);
    CLOSE_CLEAN(ctx);
}

static void attention_failures(void)
{
    slow_attention_case a = { 1, 5, 6, 2, 4, 0, 1, 8, 20, 1, 1e-6, 0 };
    glam_ctx *ctx = test_ctx();
    glam_attention_config c = attention_config(&a), bad;
    glam_attention_weights w = attention_weights(ctx, &a), w2;
    glam_tensor *x = glam_zeros(ctx, glam_dim3(1, 5, 6));
    CHECK(glam_attention(ctx, glam_zeros(ctx, glam_dim2(5, 6)), &w, &c, NULL) == NULL);
    ERROR_IS(ctx, GLAM_ERR_SHAPE, "attention");
    w2 = w;
    w2.k = glam_zeros(ctx, glam_dim2(6, 7));
    CHECK(glam_attention(ctx, x, &w2, &c, NULL) == NULL);
    ERROR_IS(ctx, GLAM_ERR_SHAPE, "[6,7]");
    w2 = w;
    w2.bias = NULL;
    CHECK(glam_attention(ctx, x, &w2, &c, NULL) == NULL);
    CHECK(glam_error(ctx) != GLAM_OK && strstr(glam_error_text(ctx), "bias"));
    glam_clear_error(ctx);
    w2 = w;
    w2.norm = glam_zeros(ctx, glam_dim1(5));
    CHECK(glam_attention(ctx, x, &w2, &c, NULL) == NULL);
    ERROR_IS(ctx, GLAM_ERR_SHAPE, "norm");
    bad = c;
    bad.heads = 0;
    CHECK(glam_attention(ctx, x, &w, &bad, NULL) == NULL);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "heads");
    static const float caps[4] = { -1, NAN, INFINITY, 1e-35f };
    for (int i = 0; i < 4; i++) {
        bad = c;
        bad.cap = caps[i];
        CHECK(glam_attention(ctx, x, &w, &bad, NULL) == NULL);
        ERROR_IS(ctx, GLAM_ERR_VALUE, "attention: cap is");
    }
    CHECK(glam_attention(ctx, NULL, &w, &c, NULL) == NULL);
    glam_clear_error(ctx);
    CLOSE_CLEAN(ctx);
}

static void test_12_attention(void)
{
    RUN(attention_buckets);
    RUN(attention_sink_example);
    RUN(attention_values);
    RUN(attention_packed);
    RUN(attention_families);
    RUN(attention_families_refused);
    RUN(attention_capped);
    RUN(attention_capped_padding);
    RUN(attention_extreme_scores);
    RUN(attention_is_causal);
    RUN(attention_with_norm);
    RUN(attention_failures);
}
