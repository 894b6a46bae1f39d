/* Corners: sides of conditions that no other test takes.  Every argument at its edges, NULL where a pointer
   may be forgotten, options that make no sense one at a time; and what seeded faults survived elsewhere. */

static int corners_refused(glam_ctx *ctx, glam_status status, int line)
{
    int ok = glam_error(ctx) == status && *glam_error_text(ctx);
    if (!ok) printf("corners, line %d: %s \"%s\"\n", line, glam_status_name(glam_error(ctx)), glam_error_text(ctx));
    glam_clear_error(ctx);
    return ok;
}
// What was asked for is not there, and the error says why.
#define REFUSED(what, ctx, status) CHECK(!(what) && corners_refused(ctx, status, __LINE__))
#define SHAPE_NO GLAM_ERR_SHAPE
#define VALUE_NO GLAM_ERR_VALUE

static void corners_options(void)
{
    glam_options o = test_options();
    o.allocator.release = NULL;
    glam_ctx *ctx = glam_open(&o);
    CHECK(glam_error(ctx) == VALUE_NO);
    glam_close(ctx);
    o = test_options();
    o.threads = 1 << 20;
    ctx = glam_open(&o);
    CHECK(glam_error(ctx) == VALUE_NO);
    glam_close(ctx);
    ctx = test_ctx();
    CHECK(glam_measure(ctx, 0) == GLAM_OK);            // it did not measure
    glam_rewind(ctx, (size_t)-1);                      // a mark that never was
    glam_fail(ctx, GLAM_ERR_NUMERIC, "over");
    CHECK(glam_measure(ctx, 1) == GLAM_ERR_NUMERIC);
    CHECK(glam_no_grad(ctx, 0) == 0 && !glam_scratch(ctx, 10));
    glam_clear_error(ctx);
    CHECK(!glam_scratch(ctx, (size_t)-1));
    glam_clear_error(ctx);
    CLOSE_CLEAN(ctx);
}

static void corners_tensors(void)
{
    glam_ctx *ctx = test_ctx();
    float x[6] = { 1, 2, 3, 4, 5, 6 };
    REFUSED(glam_input(ctx, NULL, glam_dim1(3)), ctx, VALUE_NO);
    glam_fill(NULL, 1);
    glam_fill_normal(NULL, 1, 1);
    CHECK(glam_size(NULL) == 0);
    glam_tensor *a = glam_input(ctx, x, glam_dim2(2, 3)), *w = glam_param(ctx, "w", glam_dim2(3, 3));
    REFUSED(glam_dropout(ctx, a, -0.5f, 1), ctx, VALUE_NO);
    REFUSED(glam_dropout(ctx, a, NAN, 1), ctx, VALUE_NO);
    REFUSED(glam_dropout(ctx, a, 1, 1), ctx, VALUE_NO);
    REFUSED(glam_rmsnorm(ctx, a, NULL, 1e-6f), ctx, VALUE_NO);
    REFUSED(glam_layernorm(ctx, a, NULL, NULL, 1e-6f), ctx, VALUE_NO);
    REFUSED(glam_layernorm(ctx, a, glam_param(ctx, "g", glam_dim1(3)), glam_param(ctx, "b", glam_dim1(2)), 1e-6f), ctx, SHAPE_NO);
    int32_t ids[3] = { 0, 2, 1 }, far_off[3] = { 0, 3, 1 }, mask[3] = { 1, 0, 1 };
    REFUSED(glam_embed(ctx, w, NULL, 3, NULL), ctx, VALUE_NO);
    CHECK(!glam_embed(ctx, w, ids, -1, mask));
    glam_clear_error(ctx);
    CHECK(!glam_embed(ctx, NULL, ids, 3, NULL) && !glam_cross_entropy(ctx, NULL, ids, NULL));
    glam_clear_error(ctx);
    glam_tensor *logits = glam_input(ctx, x, glam_dim2(3, 2));
    REFUSED(glam_cross_entropy(ctx, logits, far_off, NULL), ctx, VALUE_NO);
    REFUSED(glam_cross_entropy(ctx, logits, NULL, NULL), ctx, VALUE_NO);
    int32_t last[3] = { 0, 2, 1 };                     // of two: just past the end
    REFUSED(glam_cross_entropy(ctx, logits, last, NULL), ctx, VALUE_NO);
    CHECK(glam_cross_entropy(ctx, logits, far_off, mask) != NULL);     // what is masked is not looked at
    CHECK(glam_embed(ctx, w, far_off, 3, mask) != NULL);
    glam_view(ctx, NULL, glam_dim1(3));
    glam_clear_error(ctx);
    CLOSE_CLEAN(ctx);
}

// Which of x, gain and bias want a gradient: every combination gives those gradients and no others.
static double corners_norm_kind(int layer, int who, glam_ctx *ctx, int with_bias)
{
    float x[12], up[12];
    test_fill(x, 12, 5, -1, 1);
    test_fill(up, 12, 6, -1, 1);
    glam_tensor *t[3];
    t[0] = glam_param(ctx, "x", glam_dim2(3, 4));
    t[1] = glam_param(ctx, "gain", glam_dim1(4));
    t[2] = with_bias ? glam_param(ctx, "bias", glam_dim1(4)) : NULL;
    memcpy(t[0]->data, x, sizeof x);
    for (int i = 0; i < 3; i++) {
        if (!t[i]) continue;
        if (i) glam_fill_normal(t[i], (uint64_t)i + 3, 1);
        t[i]->wants_grad = who >> i & 1;
    }
    glam_tensor *y = layer ? glam_layernorm(ctx, t[0], t[1], t[2], 1e-5f) : glam_rmsnorm(ctx, t[0], t[1], 1e-5f);
    glam_tensor *loss = glam_sum(ctx, glam_mul(ctx, y, glam_input(ctx, up, glam_dim2(3, 4))));
    if (who) CHECK(glam_backward(ctx, loss) == GLAM_OK);
    double sum = 0;
    for (int i = 0; i < 3; i++) {
        if (!t[i]) continue;
        CHECK((t[i]->grad != NULL) == (who >> i & 1));
        for (size_t k = 0; t[i]->grad && k < glam_size(t[i]); k++) sum += (double)t[i]->grad[k] * (double)(k + 1) * (i + 1);
    }
    return sum;
}

static void corners_norms(void)
{
    for (int layer = 0; layer < 2; layer++) {
        for (int bias = 0; bias <= layer; bias++) {
            double part[3] = { 0, 0, 0 };
            int most = layer && bias ? 8 : 4;
            for (int who = 1; who < most; who++) {
                glam_ctx *ctx = test_ctx();
                double sum = corners_norm_kind(layer, who, ctx, bias), wanted = 0;
                for (int i = 0; i < 3; i++) {
                    if (who == 1 << i) part[i] = sum;
                    if (who >> i & 1) wanted += part[i];
                }
                CHECK_NEAR(sum, wanted, 1e-4);
                CLOSE_CLEAN(ctx);
            }
        }
    }
}

static void corners_layers(void)
{
    glam_ctx *ctx = test_ctx();
    glam_ffn_weights f;
    glam_moe_weights m;
    glam_attention_weights a;
    glam_attention_config c;
    memset(&f, 0, sizeof f);
    memset(&a, 0, sizeof a);
    memset(&c, 0, sizeof c);
    glam_tensor *x = glam_zeros(ctx, glam_dim3(1, 2, 4));
    f.gate = glam_param(ctx, "g", glam_dim2(4, 6));
    f.up = glam_param(ctx, "u", glam_dim2(4, 6));
    f.down = glam_param(ctx, "d", glam_dim2(6, 4));
    CHECK(glam_ffn(ctx, x, &f, GLAM_GELU_TANH, 1e-6f) != NULL);
    REFUSED(glam_ffn(ctx, x, &f, GLAM_RELU, 1e-6f), ctx, VALUE_NO);
    REFUSED(glam_ffn(ctx, x, &f, GLAM_GEGLU, 1e-6f), ctx, VALUE_NO);
    REFUSED(glam_ffn(ctx, x, NULL, GLAM_GELU_TANH, 1e-6f), ctx, VALUE_NO);
    CHECK(!glam_ffn(ctx, NULL, &f, GLAM_GELU_TANH, 1e-6f));
    glam_clear_error(ctx);
    for (int i = 0; i < 6; i++) {
        glam_ffn_weights g = f;
        if (i == 0) g.gate = NULL;
        if (i == 1) g.up = NULL;
        if (i == 2) g.down = NULL;
        if (i == 3) g.up = g.gate = glam_param(ctx, "u1", glam_dim1(4));
        if (i == 4) g.up = g.gate = glam_param(ctx, "u2", glam_dim2(3, 6));
        if (i == 5) g.down = glam_param(ctx, "d2", glam_dim2(4, 6));
        REFUSED(glam_ffn(ctx, x, &g, GLAM_GELU_TANH, 1e-6f), ctx, SHAPE_NO);
    }
    glam_moe_config e = glam_moe_config_default();
    e.hidden = 3;
    m = glam_moe_init(ctx, NULL, 4, &e);
    CHECK(m.up && m.router && strncmp(m.up->name, "moe", 3) == 0);
    CHECK(glam_moe(ctx, x, &m, &e, NULL, NULL) != NULL);
    REFUSED(glam_moe_init(ctx, "a", 0, &e).up, ctx, VALUE_NO);
    REFUSED(glam_moe(ctx, x, &m, NULL, NULL, NULL), ctx, VALUE_NO);
    REFUSED(glam_moe(ctx, x, NULL, &e, NULL, NULL), ctx, VALUE_NO);
    CHECK(!glam_moe(ctx, NULL, &m, &e, NULL, NULL));
    glam_clear_error(ctx);
    for (int i = 0; i < 4; i++) {
        glam_moe_weights w = m;
        if (i == 0) w.gate = NULL;
        if (i == 1) w.router = NULL;
        if (i == 2) w.up = NULL;
        if (i == 3) w.gate = m.down;
        CHECK(!glam_moe(ctx, x, &w, &e, NULL, NULL) && corners_refused(ctx, SHAPE_NO, __LINE__));
    }
    e.normalise = (glam_normalise)3;
    REFUSED(glam_moe(ctx, x, &m, &e, NULL, NULL), ctx, VALUE_NO);
    REFUSED(glam_attention(ctx, x, &a, NULL, NULL), ctx, VALUE_NO);
    c.heads = 1;
    REFUSED(glam_attention(ctx, x, &a, &c, NULL), ctx, VALUE_NO);
    CHECK(glam_bucket(-3, 32, 128) == 0);
    CLOSE_CLEAN(ctx);
}

// Gradients of weights alone: what comes in wants none.
static void corners_constant_input(void)
{
    for (int norm = 0; norm < 2; norm++) {
        for (int kind = 0; kind < 3; kind++) {
            glam_ctx *ctx = test_ctx();
            float x[24];
            test_fill(x, 24, 9, -1, 1);
            glam_tensor *in = glam_input(ctx, x, glam_dim3(2, 3, 4)), *y = NULL, *look = NULL;
            glam_tensor *gain = norm ? glam_param(ctx, "n", glam_dim1(4)) : NULL;
            if (gain) {
                glam_fill(gain, 1);
                gain->wants_grad = 0;
            }
            if (kind == 0) {
                glam_ffn_weights f;
                f.norm = gain;
                f.gate = glam_param(ctx, "g", glam_dim2(4, 6));
                f.up = glam_param(ctx, "u", glam_dim2(4, 6));
                f.down = look = glam_param(ctx, "d", glam_dim2(6, 4));
                glam_fill_normal(f.gate, 1, 1);
                glam_fill_normal(f.up, 2, 1);
                y = glam_ffn(ctx, in, &f, GLAM_GELU_TANH, 1e-6f);
            } else if (kind == 1) {
                glam_moe_config e = glam_moe_config_default();
                e.hidden = 3;
                glam_moe_weights m = glam_moe_init(ctx, "m", 4, &e);
                m.norm = gain;
                look = m.down;
                y = glam_moe(ctx, in, &m, &e, NULL, NULL);
            } else {
                glam_attention_weights a;
                glam_attention_config c;
                memset(&a, 0, sizeof a);
                memset(&c, 0, sizeof c);
                c.heads = 2;
                c.d_head = 2;
                c.position = GLAM_POSITION_NONE;
                c.scale = 1;
                c.norm_eps = 1e-6f;
                a.norm = gain;
                a.q = glam_param(ctx, "q", glam_dim2(4, 4));
                a.k = glam_param(ctx, "k", glam_dim2(4, 4));
                a.v = glam_param(ctx, "v", glam_dim2(4, 4));
                a.o = look = glam_param(ctx, "o", glam_dim2(4, 4));
                glam_fill_normal(a.v, 1, 1);
                y = glam_attention(ctx, in, &a, &c, NULL);
            }
            double sum = 0;
            if (CHECK(y) && CHECK(glam_backward(ctx, glam_sum(ctx, y)) == GLAM_OK) && CHECK(look->grad)) {
                for (size_t i = 0; i < glam_size(look); i++) sum += fabs((double)look->grad[i]);
                CHECK(sum > 0 && !in->grad);
            }
            CLOSE_CLEAN(ctx);
        }
    }
}

// Relative positions over several blocks of queries: what a short text never reaches.
static glam_tensor *corners_long_loss(glam_ctx *ctx, void *arg)
{
    glam_model *m = (glam_model *)arg;
    int32_t ids[150];
    test_ids(ids, 150, 3, glam_model_config(m)->vocab);
    glam_batch b = { 1, 149, ids, ids + 1, NULL, NULL };
    (void)ctx;
    return glam_loss(m, &b, GLAM_TRAIN, NULL);
}

static void corners_long_positions(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = test_config();
    c.position = GLAM_POSITION_TRANSFORMER_XL;
    c.layers = 1;
    c.moe.experts = 0;
    glam_model *m = glam_model_new(ctx, &c);
    static const char *const names[] = { "layers.0.attn.r", "layers.0.attn.u", "layers.0.attn.v_bias", "layers.0.attn.q" };
    for (int i = 0; i < 4; i++) {
        glam_tensor *t = glam_model_tensor(m, names[i]);
        if (CHECK(t)) CHECK_NEAR(glam_check_grad(ctx, corners_long_loss, m, &t, 1, 1e-2), 0, 0.02);
    }
    CLOSE_CLEAN(ctx);
}

static glam_tensor *corners_no_loss(glam_ctx *ctx, void *arg)
{
    (void)arg;
    return glam_sum(ctx, NULL);
}

static glam_tensor *corners_square(glam_ctx *ctx, void *arg)
{
    glam_tensor *w = (glam_tensor *)arg;
    return glam_sum(ctx, glam_mul(ctx, w, w));
}

static void corners_check_grad(void)
{
    glam_ctx *ctx = test_ctx();
    glam_tensor *w = glam_param(ctx, "w", glam_dim2(10, 10)), *none = NULL, *step = glam_zeros(ctx, glam_dim1(2));
    glam_fill_normal(w, 1, 1);
    CHECK_NEAR(glam_check_grad(ctx, corners_square, w, &w, 1, 1e-2), 0, 1e-2);     // of 100 elements 64
    CHECK(glam_check_grad(ctx, NULL, w, &w, 1, 1e-2) < 0 && corners_refused(ctx, VALUE_NO, __LINE__));
    CHECK(glam_check_grad(ctx, corners_square, w, NULL, 1, 1e-2) < 0 && corners_refused(ctx, VALUE_NO, __LINE__));
    CHECK(glam_check_grad(ctx, corners_square, w, &w, 1, 0) < 0 && corners_refused(ctx, VALUE_NO, __LINE__));
    CHECK(glam_check_grad(ctx, corners_square, w, &w, 1, NAN) < 0 && corners_refused(ctx, VALUE_NO, __LINE__));
    CHECK(glam_check_grad(ctx, corners_square, w, &none, 1, 1e-2) < 0);
    glam_clear_error(ctx);
    CHECK(glam_check_grad(ctx, corners_square, w, &step, 1, 1e-2) < 0);
    glam_clear_error(ctx);
    CHECK(!(glam_check_grad(ctx, corners_no_loss, w, &w, 1, 1e-2) > 0));
    glam_clear_error(ctx);
    glam_fail(ctx, GLAM_ERR_NUMERIC, "over");
    CHECK(glam_check_grad(ctx, corners_square, w, &w, 1, 1e-2) < 0);
    CHECK(glam_backward(ctx, NULL) == GLAM_ERR_NUMERIC);
    glam_clear_error(ctx);
    CLOSE_CLEAN(ctx);
}

// A number in one field of a struct, by its place.
typedef struct corners_field { size_t at; int whole; double value; } corners_field;

static void corners_set(void *base, const corners_field *f, size_t bytes)
{
    int i = f->whole ? (int)f->value : 0;
    float s = bytes == sizeof(float) ? (float)f->value : 0;
    double d = f->value;
    memcpy((char *)base + f->at, f->whole ? (const void *)&i : bytes == sizeof(float) ? (const void *)&s : (const void *)&d,
           f->whole ? sizeof i : bytes);
}

#define C_INT(field, v)  { offsetof(glam_config, field), 1, v }
#define C_REAL(field, v) { offsetof(glam_config, field), 0, v }

static void corners_configs(void)
{
    static const corners_field bad[] = {
        C_INT(vocab, 0), C_INT(layers, -1), C_INT(d_model, -5), C_INT(d_model, 1 << 30), C_INT(heads, 0), C_INT(heads, 1 << 23),
        C_INT(d_head, 1 << 23), C_INT(hidden, -1), C_INT(context, 0), C_INT(position, 4), C_INT(activation, GLAM_GEGLU),
        C_INT(max_distance, 16), C_INT(buckets, 1), C_REAL(attention_scale, 0), C_REAL(attention_scale, NAN),
        C_REAL(z_loss, -1), C_REAL(z_loss, NAN), C_REAL(logit_scale, -1), C_REAL(norm_eps, 0), C_REAL(logit_cap, -1),
        C_INT(kv_heads, 2), C_INT(kv_heads, -3), C_INT(kv_heads, 6), C_INT(qk_norm, 3), C_INT(qk_norm, -1),
        C_REAL(embed_scale, 0), C_REAL(residual_scale, -1), C_REAL(residual_scale, NAN),
        C_REAL(attention_cap, -1), C_INT(moe.offset, -1), C_INT(moe.offset, 2), C_INT(moe.every, 0), C_INT(moe.top_k, 0),
        C_INT(moe.top_k, 5), C_INT(moe.experts, -1), C_INT(moe.normalise, 3), C_INT(moe.group, -1), C_INT(moe.capacity, -1),
        C_REAL(moe.capacity_factor, -1), C_REAL(moe.capacity_factor, NAN), C_REAL(moe.aux_weight, -1),
        C_REAL(moe.router_z_weight, -1), C_REAL(moe.router_cap, -1), C_INT(moe.activation, 5), C_INT(moe.hidden, -1),
        C_INT(moe.router, 6), C_INT(moe.router, -1), C_INT(moe.score, 2), C_REAL(moe.temperature, 0),
        C_REAL(moe.temperature, NAN), C_REAL(moe.threshold, -1), C_REAL(moe.weight_scale, 0),
        C_REAL(moe.bias_rate, -1), C_INT(moe.shared, -1),
    };
    glam_ctx *ctx = test_ctx();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        glam_config c = test_config();
        size_t mark = glam_mark(ctx);
        corners_set(&c, &bad[i], sizeof(float));
        if (!CHECK(!glam_model_new(ctx, &c) && corners_refused(ctx, VALUE_NO, __LINE__))) printf("  config %d\n", (int)i);
        glam_rewind(ctx, mark);
    }
    CLOSE_CLEAN(ctx);
}

#define R_INT(field, v)  { offsetof(glam_recipe, field), 1, v }
#define R_REAL(field, v) { offsetof(glam_recipe, field), 0, v }

static void corners_recipes(void)
{
    static const corners_field bad[] = {
        R_REAL(lr, 0), R_REAL(lr, NAN), R_REAL(embed_lr, -1), R_REAL(bias_lr, -1), R_REAL(clip, -1), R_REAL(weight_decay, -1),
        R_REAL(min_lr, -1), R_INT(warmup, -1), R_REAL(beta1, -1), R_REAL(beta1, 1), R_REAL(beta2, -1), R_REAL(beta2, 1),
        R_REAL(eps, 0), R_REAL(eps1, 0), R_REAL(eps2, 0), R_REAL(update_clip, 0), R_INT(factor_min, 0), R_INT(optimizer, 2),
        R_INT(optimizer, -1), R_INT(schedule, -1), R_INT(schedule, 3), R_INT(max_bad_steps, 0), R_INT(steps, 0),
        R_INT(batch, 0), R_INT(accumulate, 0), R_INT(accumulate, 3), R_INT(context, -1), R_INT(eval_every, -1),
        R_INT(patience, -1),
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        glam_ctx *ctx = test_ctx();
        glam_config c = train_config();
        glam_recipe r = train_recipe(9);
        glam_plan plan;
        corners_set(&r, &bad[i], sizeof(double));
        glam_trainer *t = glam_trainer_new(glam_model_new(ctx, &c), test_text(ctx, 900), NULL, &r);
        if (!CHECK(!t && corners_refused(ctx, VALUE_NO, __LINE__))) printf("  recipe %d\n", (int)i);
        CHECK(glam_plan_for(ctx, &c, &r, &plan) != GLAM_OK);
        glam_close(ctx);
    }
}

static void corners_sampling(void)
{
    static const float logits[5] = { -1, 2, -3, 2, 0.5f };
    glam_ctx *ctx = test_ctx();
    glam_sampling ok = glam_sampling_default();
    int32_t history[4] = { 1, -7, 99, 2 };
    for (int i = 0; i < 9; i++) {
        glam_sampling s = ok;
        if (i == 0) s.temperature = -1;
        if (i == 1) s.top_k = -1;
        if (i == 2) s.top_p = 0;
        if (i == 3) s.min_p = -1;
        if (i == 4) s.min_p = 1.5f;
        if (i == 5) s.repetition_penalty = 0;
        if (i == 6) s.repetition_window = -1;
        if (i == 7) s.temperature = NAN;
        if (i == 8) s.top_p = NAN;
        CHECK(glam_pick(ctx, logits, 5, &s, NULL, 0, 0) < 0 && corners_refused(ctx, VALUE_NO, __LINE__));
    }
    glam_sampling s = ok;
    s.temperature = 0;
    CHECK(glam_pick(ctx, logits, 5, &s, NULL, 0, 0) == 1);             // of equals the first
    s.repetition_penalty = 100;
    CHECK(glam_pick(ctx, logits, 5, &s, history, 4, 0) == 3);          // history of no token is passed over
    s.repetition_window = 1;
    CHECK(glam_pick(ctx, logits, 5, &s, history, 4, 0) == 1);          // only the last counts
    s = ok;
    s.temperature = 1;
    s.min_p = 0;
    for (int k = 1; k < 9; k++) {
        int seen[5] = { 0, 0, 0, 0, 0 }, kinds = 0;
        s.top_k = k;
        for (uint64_t i = 0; i < 4000; i++) seen[glam_pick(ctx, logits, 5, &s, NULL, 0, i)]++;
        for (int i = 0; i < 5; i++) kinds += seen[i] > 0;
        CHECK(kinds == (k < 5 ? k : 5) && seen[1] > 0);
    }
    CHECK(glam_pick(ctx, NULL, 5, &ok, NULL, 0, 0) < 0);
    glam_clear_error(ctx);
    CHECK(glam_pick(ctx, logits, 0, &ok, NULL, 0, 0) < 0);
    glam_clear_error(ctx);
    CLOSE_CLEAN(ctx);
}

static void corners_generate(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = train_config();
    glam_model *m = glam_model_new(ctx, &c);
    char out[20], one[1] = { 'x' };
    int32_t prompt[4] = { 'o', 'n', 'e', 10 }, ids[19];
    if (!CHECK(m)) return;
    // a text continued is the same tokens
    glam_session *s = glam_session_new(m, 40);
    int n = glam_generate(s, prompt, 3, ids, 19, NULL), made = glam_complete(m, "one", out, 20, NULL);
    CHECK(n == 19 && made == 19 && out[19] == 0);
    for (int i = 0; i < made; i++) CHECK((unsigned char)out[i] == (ids[i] < 256 ? ids[i] : '?'));
    CHECK(glam_complete(m, NULL, out, 5, NULL) == 4 && glam_complete(m, "", out, 5, NULL) == 4);
    CHECK(glam_complete(m, "one", NULL, 5, NULL) == 0 && glam_complete(m, "one", out, 0, NULL) == 0);
    CHECK(glam_complete(m, "one", one, 1, NULL) == 0 && one[0] == 0);
    CHECK(glam_complete(NULL, "one", out, 20, NULL) == 0 && out[0] == 0);
    glam_clear_error(ctx);
    CHECK(!glam_next(s, prompt, 0));
    glam_clear_error(ctx);
    CHECK(!glam_next(s, NULL, 2));
    glam_clear_error(ctx);
    CHECK(!glam_next(NULL, prompt, 2) && !glam_session_new(NULL, 5));
    CHECK(glam_generate(NULL, prompt, 3, ids, 5, NULL) == 0 && glam_session_length(NULL) == 0);
    glam_session_reset(s);
    CHECK(glam_generate(s, prompt, 3, ids, 0, NULL) == 0);
    glam_clear_error(ctx);
    REFUSED(glam_session_new(m, 0), ctx, VALUE_NO);
    CLOSE_CLEAN(ctx);
}

static void corners_texts(void)
{
    glam_ctx *ctx = test_ctx();
    glam_text *text = test_text(ctx, 1000), *train = NULL, *valid = NULL, *pair[2];
    glam_batch b;
    int32_t ids[9] = { 0, 0, 0, 0, 0, 0, 0, 0, 0 };
    float weights[2] = { 0, 3 };
    CHECK(glam_text_split(text, 0.25f, NULL, NULL) == GLAM_OK);
    CHECK(glam_text_split(text, 0.25f, &train, &valid) == GLAM_OK && glam_text_length(valid) == 250);
    CHECK(glam_text_split(text, 0, &train, &valid) == GLAM_OK && glam_text_length(train) == 1000 && !valid);
    CHECK(glam_text_split(NULL, 0.5f, &train, &valid) != GLAM_OK && !train && !valid);
    glam_clear_error(ctx);
    CHECK(glam_text_split(text, -1, &train, &valid) == VALUE_NO && glam_text_split(text, NAN, &train, &valid) != GLAM_OK);
    glam_clear_error(ctx);
    CHECK(glam_next_batch(NULL, 1, 8, 1, 1, &b) != GLAM_OK && !b.tokens);
    glam_clear_error(ctx);
    CHECK(glam_next_batch(text, 0, 8, 1, 1, &b) == VALUE_NO);
    glam_clear_error(ctx);
    CHECK(glam_next_batch(text, 1, 0, 1, 1, &b) == VALUE_NO);
    glam_clear_error(ctx);
    CHECK(glam_next_batch(text, 1 << 20, 1 << 20, 1, 1, &b) == VALUE_NO && !b.tokens);
    glam_clear_error(ctx);
    pair[0] = text;
    pair[1] = glam_text_from(ctx, "abcdefghijklmnopqrstuvwxyz", 26, NULL);
    glam_text *mix = glam_mix(ctx, pair, weights, 2);
    CHECK(glam_next_batch(mix, 4, 5, 1, 1, &b) == GLAM_OK);
    for (int i = 0; i < 20; i++) CHECK(b.targets[i] == b.tokens[i] + 1);           // of the alphabet alone
    weights[1] = 0;
    CHECK(!glam_mix(ctx, pair, weights, 2));
    glam_clear_error(ctx);
    pair[1] = NULL;
    CHECK(!glam_mix(ctx, pair, NULL, 2) && !glam_mix(ctx, NULL, NULL, 2) && !glam_mix(ctx, pair, NULL, 0));
    glam_clear_error(ctx);
    CHECK(glam_text_read(text, 999, 5, ids) == 1 && glam_text_read(text, 1000, 5, ids) == 0);
    CHECK(glam_text_read(NULL, 0, 5, ids) == 0 && glam_text_length(NULL) == 0);
    CHECK(glam_encode(NULL, NULL, 5, ids, 9) == 0 && ids[1] == 0 && glam_encode(NULL, "abc", 3, NULL, 9) == 3);
    CHECK(!glam_tokenizer_bytes(NULL) && glam_tokenizer_size(glam_tokenizer_bytes(ctx)) == 256);
    CHECK(!glam_text_open(ctx, "/no/such/text", NULL));
    glam_clear_error(ctx);
    CLOSE_CLEAN(ctx);
}

// A file of more than 64 KiB is read in pieces that grow: every byte is where it was.
static void corners_large_text(void)
{
    static const size_t sizes[] = { 65535, 65536, 65537, 131072, 131073, 300000 };
    glam_ctx *ctx = test_ctx();
    char path[1100];
    snprintf(path, sizeof path, "%s", test_path("large"));
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        FILE *file = fopen(path, "wb");
        int32_t ids[1000];
        size_t at = 0;
        if (!CHECK(file)) return;
        for (size_t i = 0; i < sizes[s]; i++) fputc((int)(i * 31 + i / 251) & 255, file);
        fclose(file);
        glam_text *text = glam_text_open(ctx, path, NULL);
        CHECK(text && glam_text_length(text) == sizes[s]);
        for (size_t n, wrong = 0; (n = glam_text_read(text, at, 1000, ids)) > 0; at += n) {
            for (size_t i = 0; i < n; i++) wrong += ids[i] != (int32_t)(((at + i) * 31 + (at + i) / 251) & 255);
            if (!CHECK(wrong == 0)) break;
        }
        CHECK(at == sizes[s]);
    }
    remove(path);
    CLOSE_CLEAN(ctx);
}

// Numbers that JSON has no word for: a recipe may hold them, its checkpoint too.
static glam__json corners_json_of(glam_ctx *ctx, char *text)
{
    glam__json j;
    memset(&j, 0, sizeof j);
    j.ctx = ctx;
    j.path = "test";
    j.part = j.start = j.at = text;
    j.end = text + strlen(text);
    return j;
}

static void corners_json(void)
{
    static const char *const bad[] = { "\"nam\"", "\"-nan\"", "1e400", "-1e400", "1.5.5", "1e", "--1", ".5", "+1", "\"\\u00zz\"",
        "\"\\", "\"inf", "1234567890123456789012345678901234567890123456789012345678901234567890" };
    static const char *const good[] = { "\"nan\"", "\"inf\"", "\"-inf\"", "-0.5e-3" };
    static const char *const longs[] = { "-1", "1.5", "1e3", "18446744073709551616", "01", "", "x" };
    glam_ctx *ctx = test_ctx();
    double v = 0;
    uint64_t n = 0;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[100];
        snprintf(text, sizeof text, "%s", bad[i]);
        glam__json j = corners_json_of(ctx, text);
        if (!CHECK(!glam__json_number(&j, 0, &v) || !glam__json_end(&j))) printf("  %s\n", bad[i]);
        CHECK(glam_error(ctx) == GLAM_ERR_FORMAT);
        glam_clear_error(ctx);
    }
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        for (int single = 0; single < 2; single++) {
            char text[100];
            glam__json_out out;
            snprintf(text, sizeof text, "%s", good[i]);
            glam__json j = corners_json_of(ctx, text);
            int read = glam__json_number(&j, single, &v) && glam__json_end(&j);
            CHECK(read == (i == 3 || !single));            // a config has numbers; only a report's may be none
            glam_clear_error(ctx);
            if (!read) continue;
            if (i == 3) { CHECK_NEAR(v, -0.0005, 1e-9); continue; }
            CHECK(i == 0 ? v != v : v == (i == 1 ? HUGE_VAL : -HUGE_VAL));
            memset(&out, 0, sizeof out);
            out.data = text;
            out.room = sizeof text - 1;
            glam__json_real(&out, v, single);
            text[out.size] = 0;
            CHECK(strcmp(text, good[i]) == 0);
        }
    }
    for (size_t i = 0; i < sizeof longs / sizeof *longs; i++) {
        char text[100];
        snprintf(text, sizeof text, "%s", longs[i]);
        glam__json j = corners_json_of(ctx, text);
        if (!CHECK(!glam__json_whole(&j, &n, NULL) || !glam__json_end(&j))) printf("  %s\n", longs[i]);
        glam_clear_error(ctx);
    }
    CLOSE_CLEAN(ctx);
}

// Checkpoints that say of a run what does not fit it.
static void corners_checkpoints(void)
{
    static const char *const edits[][2] = {
        { "\\\"frozen\\\":\\\"0", "\\\"frozen\\\":\\\"" }, { "\\\"frozen\\\":\\\"0", "\\\"frozen\\\":\\\"2" },
        { "\\\"train_tokens\\\":", "\\\"train_tokens\\\":1" }, { "\\\"train_checksum\\\":\\\"", "\\\"train_checksum\\\":\\\"g" },
        { "\\\"train_checksum\\\":\\\"", "\\\"train_checksum\\\":\\\"0" }, { "\\\"step\\\":", "\\\"step\\\":-9999999999" },
        { "\\\"optimizer\\\":\\\"adafactor", "\\\"optimizer\\\":\\\"adamw" }, { "\\\"tokens\\\":", "\\\"tokens\\\":-" },
        { "\\\"lr\\\":", "\\\"lr\\\":-" }, { "\\\"batch\\\":4", "\\\"batch\\\":0" }, { "glam.state", "glam.stat" },
        { "glam.recipe", "glam.recip" }, { "\\\"lr\\\":", "\\\"lr\\\":\\\"nan\\\",\\\"lq\\\":" },
        { "\"format\":\"glam\",", "" },
    };
    glam_ctx *ctx = test_ctx();
    glam_config c = files_tiny();
    glam_recipe r = train_recipe(9);
    c.vocab = 256;
    char path[1100];
    snprintf(path, sizeof path, "%s", test_path("corners"));
    glam_text *text = test_text(ctx, 900);
    glam_trainer *t = glam_trainer_new(glam_model_new(ctx, &c), text, NULL, &r);
    CHECK(glam_train_step(t, NULL) && glam_save_checkpoint(t, path) == GLAM_OK);
    files_block good = files_read(path);
    size_t mark = glam_mark(ctx);
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        files_block bad = files_edit(good, edits[i][0], edits[i][1]);
        FILE *file = fopen(path, "wb");
        if (!CHECK(bad.data && file)) return;
        fwrite(bad.data, 1, bad.size, file);
        fclose(file);
        if (!CHECK(!glam_load_checkpoint(ctx, path, text, NULL))) printf("  edit %d\n", (int)i);
        CHECK(glam_error(ctx) != GLAM_OK && *glam_error_text(ctx) && glam_mark(ctx) == mark);
        glam_clear_error(ctx);
        free(bad.data);
    }
    free(good.data);
    CHECK(glam_save_checkpoint(t, path) == GLAM_OK);
    glam_config read;
    CHECK(glam_load_config(ctx, path, NULL) == VALUE_NO && glam_load_config(ctx, NULL, &read) == GLAM_OK + VALUE_NO);
    glam_clear_error(ctx);
    glam_text *other = glam_text_from(ctx, "other", 5, NULL);
    CHECK(!glam_load_checkpoint(ctx, path, other, NULL) && !glam_load_checkpoint(ctx, path, NULL, NULL));
    glam_clear_error(ctx);
    CHECK(!glam_load_checkpoint(ctx, path, text, other));
    glam_clear_error(ctx);
    char same[900];                                    // as many tokens, but others
    memset(same, 'x', sizeof same);
    CHECK(!glam_load_checkpoint(ctx, path, glam_text_from(ctx, same, sizeof same, NULL), NULL));
    glam_clear_error(ctx);
    CHECK(glam_load(ctx, path) != NULL);               // a checkpoint has a model in it
    remove(path);
    CLOSE_CLEAN(ctx);
}

static void corners_tensor_files(void)
{
    glam_ctx *ctx = test_ctx();
    char path[1100], *name = (char *)malloc(17u << 20);
    glam_tensor *a = glam_param(ctx, "a", glam_dim1(2)), *meta = glam_param(ctx, "__metadata__", glam_dim1(2));
    glam_tensor *blank = glam_param(ctx, "", glam_dim1(2)), *step = glam_zeros(ctx, glam_dim1(2));
    snprintf(path, sizeof path, "%s", test_path("tensors"));
    CHECK(glam_save_tensors(ctx, path, &a, -1) == VALUE_NO && corners_refused(ctx, VALUE_NO, __LINE__));
    CHECK(glam_save_tensors(ctx, path, NULL, 2) == VALUE_NO && corners_refused(ctx, VALUE_NO, __LINE__));
    CHECK(glam_save_tensors(ctx, path, &meta, 1) == VALUE_NO && corners_refused(ctx, VALUE_NO, __LINE__));
    CHECK(glam_save_tensors(ctx, path, &blank, 1) == VALUE_NO && corners_refused(ctx, VALUE_NO, __LINE__));
    CHECK(glam_save_tensors(ctx, path, &step, 1) == VALUE_NO && corners_refused(ctx, VALUE_NO, __LINE__));
    CHECK(glam_save_tensors(NULL, path, &a, 1) < 0 && glam_load_tensors(NULL, path, &a, 1) < 0);
    CHECK(glam_save_tensors(ctx, path, &a, 1) == GLAM_OK);
    CHECK(glam_load_tensors(ctx, path, &a, -1) < 0 && corners_refused(ctx, VALUE_NO, __LINE__));
    if (CHECK(name)) {
        memset(name, 'n', (17u << 20) - 1);
        name[(17u << 20) - 1] = 0;
        glam_tensor *wordy = glam_param(ctx, name, glam_dim1(1));
        // either it fits a header, or it is refused; nothing is left behind
        if (glam_save_tensors(ctx, path, &wordy, 1) != GLAM_OK) CHECK(corners_refused(ctx, VALUE_NO, __LINE__));
        CHECK(!files_exists(path, ".tmp"));
        free(name);
    }
    remove(path);
    CLOSE_CLEAN(ctx);
}

static void corners_models(void)
{
    glam_ctx *ctx = test_ctx(), *other = test_ctx();
    glam_config c = train_config();
    glam_model *m = glam_model_new(ctx, &c);
    int32_t ids[4] = { 1, 2, 3, 4 };
    glam_batch none = { 1, 0, ids, ids, NULL, NULL }, vast = { 1 << 20, 1 << 20, ids, ids, NULL, NULL };
    glam_batch blind = { 1, 3, ids, NULL, NULL, NULL }, empty = { 1, 3, NULL, ids, NULL, NULL };
    CHECK(!glam_model_tensor_at(NULL, 0) && !glam_model_tensor_at(m, -1) && !glam_model_tensor_at(m, 1 << 20));
    CHECK(!glam_model_tensor(NULL, "embed") && !glam_model_tensor(m, NULL) && !glam_model_tensor(m, "embe"));
    REFUSED(glam_forward(m, &none, GLAM_INFER), ctx, VALUE_NO);
    REFUSED(glam_forward(m, &vast, GLAM_INFER), ctx, VALUE_NO);
    REFUSED(glam_forward(m, NULL, GLAM_INFER), ctx, VALUE_NO);
    REFUSED(glam_loss(m, NULL, GLAM_INFER, NULL), ctx, VALUE_NO);
    REFUSED(glam_loss(m, &blind, GLAM_INFER, NULL), ctx, VALUE_NO);
    REFUSED(glam_forward(m, &empty, GLAM_INFER), ctx, VALUE_NO);
    CHECK(!glam_forward(NULL, &none, GLAM_INFER) && !glam_loss(NULL, &none, GLAM_INFER, NULL));
    CHECK(!glam_model_borrow(other, NULL));
    glam_clear_error(other);
    CHECK(glam_freeze(NULL, "*", 1) == 0);
    CHECK(glam_freeze(m, "layers.0", 1) > 0 && glam_model_tensor(m, "layers.1.attn.q")->wants_grad);
    CHECK(!glam_model_tensor(m, "layers.0.attn.q")->wants_grad && glam_freeze(m, "layers.0", 0) > 0);
    CHECK(glam_freeze(m, "layers.00", 1) == 0 && corners_refused(ctx, VALUE_NO, __LINE__));
    glam_recipe r = train_recipe(3);
    glam_trainer *t = glam_trainer_new(m, test_text(ctx, 900), NULL, &r);
    CHECK(t && glam_freeze(m, "embed", 1) == 0 && corners_refused(ctx, GLAM_ERR_STATE, __LINE__));
    CHECK(!glam_trainer_new(m, test_text(ctx, 900), NULL, &r));        // it has one
    glam_clear_error(ctx);
    CHECK(glam_plan_traffic(NULL, NULL, NULL, NULL) != GLAM_OK);
    glam_fail(ctx, GLAM_ERR_NUMERIC, "over");
    glam_plan plan;
    CHECK(glam_plan_for(ctx, &c, &r, &plan) == GLAM_ERR_NUMERIC && !glam_forward(m, &blind, GLAM_INFER));
    CHECK(glam_freeze(m, "*", 1) == 0 && !glam_session_new(m, 5) && !glam_train_step(t, NULL));
    glam_clear_error(ctx);
    glam_close(other);
    CLOSE_CLEAN(ctx);
}

// A vocabulary of one; no memory for the candidates.
static void corners_pick(void)
{
    static float many[1 << 18];
    const float one = -3;
    test_heap heap;
    glam_options options = test_options();
    test_heap_into(&heap, &options);
    glam_ctx *ctx = glam_open(&options);
    CHECK(glam_pick(ctx, &one, 1, NULL, NULL, 0, 0) == 0);
    heap.fail_at = heap.calls + 1;
    CHECK(glam_pick(ctx, many, 1 << 18, NULL, NULL, 0, 0) == -1);
    ERROR_IS(ctx, GLAM_ERR_MEMORY, "");
    CLOSE_CLEAN(ctx);
}

// Where a score could not be made there is none of the last time, be there one or many.
static void corners_scores(void)
{
    const glam_query query = { "ab", "c" };
    const int32_t ids[2] = { 1, 2 };
    const glam_span span = { ids, 2, 1 };
    for (int spans = 0; spans < 2; spans++)
        for (int count = 1; count < 3; count++) {
            glam_score score[2];
            memset(score, 1, sizeof score);
            CHECK((spans ? glam_loglikelihood_tokens(NULL, &span, count, 0, score)
                         : glam_loglikelihood(NULL, &query, count, 0, score)) != GLAM_OK);
            for (int i = 0; i < count; i++) CHECK(score[i].loglik == 0 && score[i].tokens == 0 && score[i].bytes == 0);
            if (count == 1) CHECK(score[1].tokens != 0);
        }
}

// A text that stays in its file: its name is a copy of any length, and has any byte; the shortest windows.
static void corners_far_text(void)
{
    glam_ctx *ctx = test_ctx();
    const char *path = test_path("name.txt");
    char longer[1400];
    FILE *f = fopen(path, "wb");
    if (!CHECK(f && fputs("ten bytes.", f) >= 0)) return;
    fclose(f);
    for (int more = 0; more < 40; more++) {
        const char *slash = strrchr(path, '/');
        int folder = (int)(slash - path) + 1, n = snprintf(longer, sizeof longer, "%.*s", folder, path);
        for (int i = 0; i < more; i++) n += snprintf(longer + n, sizeof longer - (size_t)n, i % 2 ? "./" : "././/");
        snprintf(longer + n, sizeof longer - (size_t)n, "%s", slash + 1);
        glam_text *t = glam_text_file(ctx, longer);
        if (!CHECK(t)) break;
        const glam__far *away = (const glam__far *)t->pieces[0].tokens;
        char *next = (char *)glam__take(ctx, &ctx->base.life, 64);
        if (next) memset(next, 'x', 64);
        CHECK(!strcmp(away->path, longer));
        CHECK(glam_text_windows(t, 1, NULL) == 9 && glam_text_windows(t, 9, NULL) == 1 && glam_text_windows(t, 10, NULL) == 0);
        CHECK(glam_text_windows(t, 0, NULL) == 0 && glam_text_windows(NULL, 1, NULL) == 0);
    }
    glam_config c = train_config();
    glam_perplexity_report report;
    for (int vocab = 255; vocab < 257; vocab++) {        // what bytes a file has nobody has looked
        c.vocab = vocab;
        glam_model *model = glam_model_new(ctx, &c);
        CHECK((glam_perplexity(model, glam_text_file(ctx, longer), 4, &report) == GLAM_OK) == (vocab == 256));
        glam_clear_error(ctx);
    }
    glam_close(ctx);
    remove(path);
}

// Rows whose stride is a multiple of 4 KB are copied for a block of rows, not for a single one; the bits are the same.
static void corners_wide_strides(void)
{
    enum { M = 300, K = 1024, N = 24 };
    glam_ctx *ctx = test_ctx();
    float *x = test_floats((size_t)M * K, 3, -1, 1), *w = test_floats((size_t)K * N, 4, -1, 1);
    const glam_tensor *y = glam_matmul(ctx, glam_input(ctx, x, glam_dim2(M, K)), glam_input(ctx, w, glam_dim2(K, N)));
    for (int r = 0; r < M; r += 23) {
        const glam_tensor *one = glam_matmul(ctx, glam_input(ctx, x + (size_t)r * K, glam_dim2(1, K)),
                                             glam_input(ctx, w, glam_dim2(K, N)));
        double sum = 0;
        for (int k = 0; k < K; k++) sum += (double)x[(size_t)r * K + (size_t)k] * (double)w[k * N];
        if (!CHECK(y && one && !memcmp(y->data + (size_t)r * N, one->data, N * sizeof(float)))) break;
        CHECK_NEAR(one->data[0], sum, 1e-3);
    }
    free(x);
    free(w);
    CLOSE_CLEAN(ctx);
}

// A recipe by name is what its comments and the README's figures are of.
static void corners_named_recipes(void)
{
    glam_recipe q = glam_recipe_quick(), f = glam_recipe_finetune(), d = glam_recipe_default(), a = glam_recipe_paper();
    CHECK(q.warmup == 30 && q.steps == 300 && q.batch == 12 && q.context == 64 && q.min_lr == 0 && q.lr == 0.06);
    CHECK(f.warmup == 20 && f.steps == 500 && f.eval_every == 50 && f.patience == 3 && f.lr == 0.004);
    CHECK(d.warmup == 50 && d.min_lr == 0.05 && d.steps == 2000 && d.batch == 16 && d.context == 0 && d.clip == 1);
    CHECK(d.accumulate == 1 && a.accumulate == 1 && a.batch == 16 && a.steps == 2000 && a.warmup == 0 && a.weight_decay == 0 && a.clip == 0);
}

// Every default, as the comments beside the fields promise it.
static void corners_defaults_of_models(void)
{
    glam_moe_config m = glam_moe_config_default();
    CHECK(m.experts == 8 && m.top_k == 2 && m.every == 2 && m.offset == 0 && m.hidden == 0);
    CHECK(m.activation == GLAM_GEGLU && m.normalise == GLAM_NORMALISE_BEFORE_DROP);
    CHECK(m.capacity_factor == 0 && m.capacity == 0 && m.group == 0);
    CHECK(m.aux_weight == 0.01f && m.router_z_weight == 0 && m.router_cap == 0);
    CHECK(m.router == GLAM_ROUTER_TOP_K && m.score == GLAM_SCORE_SOFTMAX && m.temperature == 1);
    CHECK(m.threshold == 0.5f && m.weight_scale == 1 && m.bias == 0 && m.bias_rate == 0.001f && m.shared == 0);
    glam_config c = glam_config_default();
    CHECK(c.vocab == 256 && c.context == 128 && c.layers == 4 && c.d_model == 96 && c.heads == 2 && c.d_head == 0);
    CHECK(c.kv_heads == 0 && c.hidden == 0 && c.position == GLAM_POSITION_BUCKETS && c.buckets == 32);
    CHECK(c.max_distance == 128 && c.attention_scale == 1 && c.attention_sink == 1 && c.attention_cap == 0);
    CHECK(c.qk_norm == GLAM_QK_NORM_NONE && c.rotary.theta == 0 && c.activation == GLAM_GELU_TANH);
    CHECK(c.norm_eps == 1e-6f && c.embed_scale == 1 && c.residual_scale == 1 && c.tied == 1);
    CHECK(c.logit_scale == 0 && c.logit_cap == 0 && c.z_loss == 1e-4f && c.moe.experts == 8);
    glam_sampling s = glam_sampling_default();
    CHECK(s.temperature == 0.8f && s.top_k == 0 && s.top_p == 1 && s.min_p == 0.02f);
    CHECK(s.repetition_penalty == 1 && s.repetition_window == 64 && s.seed == 1);
    glam_options o = glam_options_default();
    CHECK(o.allocator.alloc && o.allocator.release && o.threads == 0 && !o.simd && o.arithmetic == GLAM_F32);
    CHECK(o.weights == GLAM_TYPE_F32 && o.pack_bytes == (size_t)64 << 20 && o.seed == 1 && o.receive_factor == 4);
}

// The first number of each pair is that of glam_recipe_default, the second that of the paper.
static void corners_defaults_of_recipes(void)
{
    for (int paper = 0; paper < 2; paper++) {
        glam_recipe r = paper ? glam_recipe_paper() : glam_recipe_default();
        CHECK(r.optimizer == GLAM_ADAFACTOR && r.schedule == (paper ? GLAM_SCHEDULE_PAPER : GLAM_SCHEDULE_COSINE));
        CHECK(r.lr == (paper ? 0.01 : 0.03) && r.embed_lr == 1 && r.bias_lr == (paper ? 0 : 10));
        CHECK(r.warmup == (paper ? 0 : 50) && r.min_lr == (paper ? 0 : 0.05) && r.steps == 2000 && r.batch == 16);
        CHECK(r.context == 0 && r.accumulate == 1 && r.recompute == 0 && r.update_in_backward == 0);
        CHECK(r.clip == (paper ? 0 : 1) && r.weight_decay == (paper ? 0 : 0.1) && r.decay_all == 0);
        CHECK(r.beta1 == 0.9 && r.beta2 == 0.99 && r.eps == 1e-8 && r.factor_min == 128 && r.update_clip == 1);
        CHECK(r.eps1 == 1e-30 && r.eps2 == 1e-3 && r.parameter_scale == 1 && r.aux_off_when_frozen == 0);
        CHECK(r.max_bad_steps == 10 && r.eval_every == 0 && r.patience == 0 && r.seed == 1);
    }
}

// The largest that is taken, and one more.
static void corners_largest(void)
{
    static const char *const names[] = { "vocab", "context", "layers", "d_model", "heads", "d_head", "hidden" };
    for (int i = 0; i < 14; i++) {
        glam_ctx *ctx = test_ctx();
        glam_config c = glam_config_default();
        int *const fields[] = { &c.vocab, &c.context, &c.layers, &c.d_model, &c.heads, &c.d_head, &c.hidden };
        char what[40];
        c.heads = 1;
        c.d_head = 1;
        *fields[i / 2] = (1 << (i / 2 == 2 ? 16 : 24)) + i % 2;
        sprintf(what, "%s is %d; more", names[i / 2], *fields[i / 2]);
        CHECK(glam_measure(ctx, 1) == GLAM_OK);
        glam_model *model = glam_model_new(ctx, &c);
        if (i % 2) CHECK(!model && glam_error(ctx) == VALUE_NO && strstr(glam_error_text(ctx), what));
        else CHECK(!strstr(glam_error_text(ctx), what));
        glam_close(ctx);
    }
}

static void test_corners(void)
{
    RUN(corners_defaults_of_models);
    RUN(corners_defaults_of_recipes);
    RUN(corners_largest);
    RUN(corners_options);
    RUN(corners_tensors);
    RUN(corners_norms);
    RUN(corners_layers);
    RUN(corners_constant_input);
    RUN(corners_long_positions);
    RUN(corners_check_grad);
    RUN(corners_configs);
    RUN(corners_recipes);
    RUN(corners_sampling);
    RUN(corners_generate);
    RUN(corners_texts);
    RUN(corners_large_text);
    RUN(corners_json);
    RUN(corners_checkpoints);
    RUN(corners_tensor_files);
    RUN(corners_models);
    RUN(corners_pick);
    RUN(corners_scores);
    RUN(corners_far_text);
    RUN(corners_wide_strides);
    RUN(corners_named_recipes);
}
