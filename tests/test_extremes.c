/* Public functions with the ends of what their arguments can be: 0, 1, -1, the smallest and largest
   int, NaN, infinities, in every argument that is a number and every field of every struct of options.
   Kind: failure.  Nothing here looks at results: a call works or fails with a sentence.  The sanitizers
   say whether it did anything undefined; the allocator refuses what no test should need. */

static const int extreme_ints[] = { 0, 1, -1, 2, 7, INT_MAX, INT_MAX - 1, INT_MAX / 2 + 1, 1 << 24, INT_MIN,
                                    INT_MIN + 1 };
enum { EXTREME_INTS = (int)(sizeof extreme_ints / sizeof extreme_ints[0]) };

static const double extreme_doubles[] = { 0, -0.0, 1, -1, 1e-45, 1e-300, 3.4e38, 1e39, 1e300, -1e300, 0.999999999 };
enum { EXTREME_DOUBLES = (int)(sizeof extreme_doubles / sizeof extreme_doubles[0]) + 3 };

static double extreme_double(int i)
{
    int known = EXTREME_DOUBLES - 3;
    return i < known ? extreme_doubles[i] : i == known ? (double)NAN : i == known + 1 ? HUGE_VAL : -HUGE_VAL;
}

// A double that a float cannot hold is undefined to convert: what a float can be.
static float extreme_float(int i)
{
    double x = extreme_double(i);
    return x - x == 0 && fabs(x) > (double)FLT_MAX ? (x > 0 ? FLT_MAX : -FLT_MAX) : (float)x;
}

// 64 MB and no more.
static void *extreme_alloc(void *user, size_t bytes)
{
    test_heap *heap = (test_heap *)user;
    return bytes > ((size_t)64 << 20) - heap->bytes ? NULL : test_heap_alloc(user, bytes);
}

static glam_ctx *extreme_ctx(test_heap *heap)
{
    glam_options options = test_options();
    test_heap_into(heap, &options);
    options.allocator.alloc = extreme_alloc;
    options.threads = 1;
    return glam_open(&options);
}

// A call that failed left a sentence; then the next one begins afresh.
static void extreme_said(glam_ctx *ctx, const char *what, int i)
{
    if (!CHECK(glam_error(ctx) == GLAM_OK || glam_error_text(ctx)[0])) printf("  %s %d\n", what, i);
    glam_clear_error(ctx);
    glam_forget(ctx);
}

typedef struct extreme_field { const char *name; size_t at; char kind; } extreme_field;   // i, f, d
#define FIELD(type, name, kind) { #name, offsetof(type, name), kind }

static const extreme_field extreme_config[] = {
    FIELD(glam_config, vocab, 'i'), FIELD(glam_config, context, 'i'), FIELD(glam_config, layers, 'i'),
    FIELD(glam_config, d_model, 'i'), FIELD(glam_config, heads, 'i'), FIELD(glam_config, d_head, 'i'),
    FIELD(glam_config, hidden, 'i'), FIELD(glam_config, buckets, 'i'), FIELD(glam_config, max_distance, 'i'),
    FIELD(glam_config, attention_scale, 'f'), FIELD(glam_config, attention_sink, 'i'),
    FIELD(glam_config, kv_heads, 'i'), FIELD(glam_config, qk_norm, 'i'), FIELD(glam_config, rotary.theta, 'f'),
    FIELD(glam_config, rotary.scaling, 'i'), FIELD(glam_config, rotary.factor, 'f'),
    FIELD(glam_config, rotary.context, 'i'), FIELD(glam_config, rotary.low, 'f'),
    FIELD(glam_config, rotary.high, 'f'), FIELD(glam_config, rotary.attention, 'f'),
    FIELD(glam_config, embed_scale, 'f'), FIELD(glam_config, residual_scale, 'f'),
    FIELD(glam_config, attention_cap, 'f'), FIELD(glam_config, norm_eps, 'f'), FIELD(glam_config, tied, 'i'),
    FIELD(glam_config, logit_scale, 'f'), FIELD(glam_config, logit_cap, 'f'), FIELD(glam_config, z_loss, 'f'),
    FIELD(glam_config, moe.experts, 'i'), FIELD(glam_config, moe.top_k, 'i'), FIELD(glam_config, moe.every, 'i'),
    FIELD(glam_config, moe.offset, 'i'), FIELD(glam_config, moe.hidden, 'i'),
    FIELD(glam_config, moe.capacity_factor, 'f'), FIELD(glam_config, moe.capacity, 'i'),
    FIELD(glam_config, moe.group, 'i'), FIELD(glam_config, moe.aux_weight, 'f'),
    FIELD(glam_config, moe.router_z_weight, 'f'), FIELD(glam_config, moe.router_cap, 'f'),
    FIELD(glam_config, moe.temperature, 'f'), FIELD(glam_config, moe.threshold, 'f'),
    FIELD(glam_config, moe.weight_scale, 'f'), FIELD(glam_config, moe.bias, 'i'),
    FIELD(glam_config, moe.bias_rate, 'f'), FIELD(glam_config, moe.shared, 'i'), { NULL, 0, 0 } };

static const extreme_field extreme_recipe[] = {
    FIELD(glam_recipe, lr, 'd'), FIELD(glam_recipe, embed_lr, 'd'), FIELD(glam_recipe, bias_lr, 'd'),
    FIELD(glam_recipe, warmup, 'i'), FIELD(glam_recipe, min_lr, 'd'), FIELD(glam_recipe, steps, 'i'),
    FIELD(glam_recipe, batch, 'i'), FIELD(glam_recipe, context, 'i'), FIELD(glam_recipe, accumulate, 'i'),
    FIELD(glam_recipe, recompute, 'i'), FIELD(glam_recipe, update_in_backward, 'i'),
    FIELD(glam_recipe, clip, 'd'), FIELD(glam_recipe, weight_decay, 'd'), FIELD(glam_recipe, decay_all, 'i'),
    FIELD(glam_recipe, beta1, 'd'), FIELD(glam_recipe, beta2, 'd'), FIELD(glam_recipe, eps, 'd'),
    FIELD(glam_recipe, factor_min, 'i'), FIELD(glam_recipe, update_clip, 'd'), FIELD(glam_recipe, eps1, 'd'),
    FIELD(glam_recipe, eps2, 'd'), FIELD(glam_recipe, parameter_scale, 'i'),
    FIELD(glam_recipe, aux_off_when_frozen, 'i'), FIELD(glam_recipe, max_bad_steps, 'i'),
    FIELD(glam_recipe, eval_every, 'i'), FIELD(glam_recipe, patience, 'i'), { NULL, 0, 0 } };

static const extreme_field extreme_sampling[] = {
    FIELD(glam_sampling, temperature, 'f'), FIELD(glam_sampling, top_k, 'i'), FIELD(glam_sampling, top_p, 'f'),
    FIELD(glam_sampling, min_p, 'f'), FIELD(glam_sampling, repetition_penalty, 'f'),
    FIELD(glam_sampling, repetition_window, 'i'), { NULL, 0, 0 } };

static const extreme_field extreme_options[] = {
    FIELD(glam_options, threads, 'i'), FIELD(glam_options, mesh_x, 'i'), FIELD(glam_options, mesh_y, 'i'),
    FIELD(glam_options, mesh_store, 'i'), FIELD(glam_options, receive_factor, 'd'), { NULL, 0, 0 } };

static const extreme_field extreme_attention[] = {
    FIELD(glam_attention_config, heads, 'i'), FIELD(glam_attention_config, d_head, 'i'),
    FIELD(glam_attention_config, buckets, 'i'), FIELD(glam_attention_config, max_distance, 'i'),
    FIELD(glam_attention_config, scale, 'f'), FIELD(glam_attention_config, sink, 'i'),
    FIELD(glam_attention_config, kv_heads, 'i'), FIELD(glam_attention_config, qk_norm, 'i'),
    FIELD(glam_attention_config, rotary.theta, 'f'), FIELD(glam_attention_config, rotary.scaling, 'i'),
    FIELD(glam_attention_config, rotary.factor, 'f'), FIELD(glam_attention_config, rotary.context, 'i'),
    FIELD(glam_attention_config, rotary.low, 'f'), FIELD(glam_attention_config, rotary.high, 'f'),
    FIELD(glam_attention_config, rotary.attention, 'f'),
    FIELD(glam_attention_config, norm_eps, 'f'), FIELD(glam_attention_config, cap, 'f'), { NULL, 0, 0 } };

// Puts extreme value number i into a field; 0: there are no more.
static int extreme_set(void *of, const extreme_field *f, int i)
{
    char *at = (char *)of + f->at;
    double d = i < EXTREME_DOUBLES ? extreme_double(i) : 0;
    float x = i < EXTREME_DOUBLES ? extreme_float(i) : 0;
    if (i >= (f->kind == 'i' ? (int)EXTREME_INTS : (int)EXTREME_DOUBLES)) return 0;
    if (f->kind == 'i') memcpy(at, &extreme_ints[i], sizeof(int));
    else if (f->kind == 'f') memcpy(at, &x, sizeof x);
    else memcpy(at, &d, sizeof d);
    return 1;
}

static void extremes_plain(void)
{
    volatile double sum = 0;
    for (int i = 0; i < EXTREME_INTS; i++) {
        int a = extreme_ints[i];
        CHECK(glam_status_name((glam_status)a)[0] != 0);
        glam_config_preset_name(a);
        glam_dim1(a);
        glam_dim2(a, a);
        glam_dim3(a, a, a);
        glam_dim4(a, a, a, a);
        for (int j = 0; j < EXTREME_INTS; j++)
            for (int k = 0; k < EXTREME_INTS; k++) {
                int b = glam_bucket(a, extreme_ints[j], extreme_ints[k]);
                CHECK(b >= 0 && (b == 0 || b < extreme_ints[j]));
            }
        for (const extreme_field *f = extreme_recipe; f->name; f++) {
            glam_recipe r = glam_recipe_default();
            for (int s = 0; s < 6; s++)
                for (int v = 0; extreme_set(&r, f, v); v++) {
                    r.schedule = (glam_schedule)(s % 3);
                    if (s > 2) r.warmup = INT_MAX;
                    sum += glam_recipe_lr(&r, a) > 0;
                }
        }
    }
    CHECK(sum > 0);
}

static void extremes_tensors(void)
{
    test_heap heap;
    glam_ctx *ctx = extreme_ctx(&heap);
    float values[8] = { 0 };
    int32_t ids[8] = { 0, INT32_MAX, INT32_MIN, -1, 1, 0, 0, 0 };
    size_t mark = glam_mark(ctx);
    for (int i = 0; i < EXTREME_INTS; i++) {
        int a = extreme_ints[i];
        for (int j = 0; j < EXTREME_INTS; j++) {
            int b = extreme_ints[j];
            glam_shape s = glam_dim3(a, b, 1);
            glam_param(ctx, "p", s);
            extreme_said(ctx, "param", i);
            s.dims = b;
            glam_zeros(ctx, s);
            extreme_said(ctx, "zeros", i);
            glam_zeros(ctx, glam_dim4(a, b, a, b));
            extreme_said(ctx, "zeros", i);
            glam_view(ctx, glam_zeros(ctx, glam_dim1(8)), glam_dim2(a, b));
            extreme_said(ctx, "view", i);
            glam_view(ctx, glam_zeros(ctx, glam_dim1(8)), s);
            extreme_said(ctx, "view", i);
            glam_slice(ctx, glam_zeros(ctx, glam_dim2(7, 2)), a, b);
            extreme_said(ctx, "slice", i);
            glam_rewind(ctx, mark);
        }
        glam_tensor *table = glam_param(ctx, "table", glam_dim2(2, 3));
        for (int n = 0; n < 2; n++) {              // more ids than memory has are the caller's fault
            if (a < 8) glam_embed(ctx, table, ids + n, a, NULL);
            extreme_said(ctx, "embed", i);
        }
        glam_optimizer_new(ctx, &table, a < 2 ? a : 1, NULL);
        extreme_said(ctx, "optimizer", i);
        glam_model_tensor_at(NULL, a);
        glam_rewind(ctx, mark);
    }
    for (int i = 0; i < EXTREME_DOUBLES; i++) {
        float f = extreme_float(i);
        glam_tensor *x = glam_input(ctx, values, glam_dim2(2, 4)), *gain = glam_param(ctx, "g", glam_dim1(4));
        glam_fill(gain, f);
        glam_dropout(ctx, x, f, 1);
        extreme_said(ctx, "dropout", i);
        x = glam_input(ctx, values, glam_dim2(2, 4));
        glam_backward(ctx, glam_sum(ctx, glam_layernorm(ctx, glam_scale(ctx, x, f), gain, gain, f)));
        extreme_said(ctx, "layernorm", i);
        x = glam_input(ctx, values, glam_dim2(2, 4));
        glam_backward(ctx, glam_sum(ctx, glam_rmsnorm(ctx, glam_add(ctx, x, gain), gain, f)));
        extreme_said(ctx, "rmsnorm", i);
        glam_tensor *(*unary[])(glam_ctx *, glam_tensor *) = { glam_exp, glam_log, glam_tanh, glam_sigmoid,
            glam_relu, glam_gelu, glam_gelu_erf, glam_silu, glam_softmax };
        for (int u = 0; u < 9; u++) {
            glam_backward(ctx, glam_sum(ctx, unary[u](ctx, glam_add(ctx, gain, gain))));
            extreme_said(ctx, "unary", u);
        }
        glam_fill_normal(gain, 1, f);
        ids[0] = extreme_ints[i % EXTREME_INTS];
        glam_cross_entropy(ctx, glam_zeros(ctx, glam_dim2(2, 3)), ids, NULL);
        extreme_said(ctx, "cross_entropy", i);
        glam_rewind(ctx, mark);
    }
    glam_close(ctx);
    CHECK(heap.live == 0);
}

static void extremes_opening(void)
{
    for (const extreme_field *f = extreme_options; f->name; f++)
        for (int i = 0; ; i++) {
            glam_options o = test_options();
            if (!extreme_set(&o, f, i)) break;
            if (!strcmp(f->name, "threads") && o.threads > 7) continue;    // as many as are asked for
            glam_ctx *ctx = glam_open(&o);
            glam_tensor *x = glam_zeros(ctx, glam_dim1(3));
            CHECK(!ctx || (x != NULL) == (glam_error(ctx) == GLAM_OK));
            if (ctx) extreme_said(ctx, f->name, i);
            glam_close(ctx);
        }
}

static void extremes_attention(void)
{
    test_heap heap;
    glam_ctx *ctx = extreme_ctx(&heap);
    for (int position = 0; position < 4; position++)
        for (const extreme_field *f = extreme_attention; f->name; f++)
            for (int i = 0; ; i++) {
                size_t mark = glam_mark(ctx);
                glam_attention_config c;
                glam_attention_weights w;
                memset(&c, 0, sizeof c);
                c.heads = 1;
                c.d_head = 2;
                c.buckets = 4;
                c.max_distance = 8;
                c.scale = 1;
                c.sink = 1;
                c.norm_eps = 1e-6f;
                memset(&w, 0, sizeof w);
                c.position = (glam_position)position;
                w.q = w.k = w.v = w.o = glam_param(ctx, "q", glam_dim2(2, 2));
                w.r = w.q;
                w.q_norm = w.k_norm = glam_param(ctx, "norm", glam_dim1(2));
                w.bias = glam_param(ctx, "bias", glam_dim2(1, 4));
                w.u = w.v_bias = glam_param(ctx, "u", glam_dim2(1, 2));
                if (!extreme_set(&c, f, i)) break;
                glam_tensor *x = glam_zeros(ctx, glam_dim3(1, 3, 2));
                glam_backward(ctx, glam_sum(ctx, glam_attention(ctx, x, &w, &c, NULL)));
                extreme_said(ctx, f->name, i);
                glam_rewind(ctx, mark);
            }
    glam_close(ctx);
    CHECK(heap.live == 0);
}

// Every field of a model's config: made, run, trained for a step, planned.
static void extremes_model(void)
{
    int made = 0;
    for (const extreme_field *f = extreme_config; f->name; f++)
        for (int i = 0; ; i++) {
            test_heap heap;
            glam_ctx *ctx = extreme_ctx(&heap);
            glam_config c = train_config();
            glam_plan plan;
            int32_t ids[10] = { 0 };
            int more = extreme_set(&c, f, i);
            if (!more) { glam_close(ctx); break; }
            glam_model *model = glam_model_new(ctx, &c);
            made += model != NULL;
            glam_batch b = { 2, 5, ids, ids, NULL, NULL };
            glam_backward(ctx, glam_loss(model, &b, GLAM_TRAIN, NULL));
            extreme_said(ctx, f->name, i);
            glam_next(glam_session_new(model, 4), ids, 3);
            extreme_said(ctx, f->name, i);
            if (glam_plan_for(ctx, &c, NULL, &plan) == GLAM_OK) CHECK(plan.train_bytes >= plan.weights);
            extreme_said(ctx, f->name, i);
            glam_moe_config moe = c.moe;
            glam_moe_init(ctx, "m", c.d_model, &moe);
            extreme_said(ctx, f->name, i);
            glam_close(ctx);
            CHECK(heap.live == 0);
        }
    CHECK(made > 50);
}

// Every field of a recipe, with both optimisers.
static void extremes_recipe(void)
{
    int steps = 0;
    for (int kind = 0; kind < 2; kind++)
        for (const extreme_field *f = extreme_recipe; f->name; f++) {
            test_heap heap;
            glam_ctx *ctx = extreme_ctx(&heap);
            glam_config c = train_config();
            c.layers = 1;
            glam_text *text = test_text(ctx, 400);
            size_t mark = glam_mark(ctx);
            for (int i = 0; ; i++) {
                glam_recipe r = train_recipe(2);
                glam_plan plan;
                r.optimizer = (glam_optimizer_kind)kind;
                if (!extreme_set(&r, f, i)) break;
                glam_trainer *t = glam_trainer_new(glam_model_new(ctx, &c), text, text, &r);
                steps += glam_train_step(t, NULL);
                glam_trainer_steps(t, extreme_ints[i % EXTREME_INTS]);
                extreme_said(ctx, f->name, i);
                glam_plan_for(ctx, &c, &r, &plan);
                extreme_said(ctx, f->name, i);
                glam_rewind(ctx, mark);
            }
            glam_close(ctx);
            CHECK(heap.live == 0);
        }
    CHECK(steps > 100);
}

static void extremes_use(void)
{
    test_heap heap;
    glam_ctx *ctx = extreme_ctx(&heap);
    glam_config c = train_config();
    glam_model *model = glam_model_new(ctx, &c);
    glam_text *text = test_text(ctx, 400);
    float logits[5] = { 1, 2, 3, 4, 5 };
    int32_t ids[64] = { 0 };
    char out[8];
    for (const extreme_field *f = extreme_sampling; f->name; f++)
        for (int i = 0; ; i++) {
            glam_sampling s = glam_sampling_default();
            if (!extreme_set(&s, f, i)) break;
            int32_t id = glam_pick(ctx, logits, 5, &s, ids, 3, (uint64_t)-1);
            CHECK(id < 5 && (id >= 0) == (glam_error(ctx) == GLAM_OK));
            extreme_said(ctx, f->name, i);
            glam_pick(ctx, logits, 5, &s, ids, extreme_ints[i % EXTREME_INTS] < 4 ? extreme_ints[i % EXTREME_INTS] : 4,
                      0);
            extreme_said(ctx, f->name, i);
        }
    for (int i = 0; i < EXTREME_INTS; i++) {
        int a = extreme_ints[i];
        size_t mark = glam_mark(ctx);
        glam_batch b = { a, 5, ids, ids, NULL, NULL };
        glam_session *s = glam_session_new(model, a);
        extreme_said(ctx, "session", i);
        s = glam_session_new(model, 6);
        if (a < 64) glam_next(s, ids, a);
        extreme_said(ctx, "next", i);
        if (a < 64) glam_generate(s, ids, 1, ids, a, NULL);
        extreme_said(ctx, "generate", i);
        if (a < 9) glam_complete(model, "a", out, a, NULL);
        extreme_said(ctx, "complete", i);
        if (a < 9) glam_loss(model, &b, GLAM_TRAIN, NULL);
        extreme_said(ctx, "rows", i);
        b.rows = 5;
        b.length = a;
        if (a < 9) glam_forward(model, &b, (glam_mode)(a & 1));
        extreme_said(ctx, "length", i);
        b.rows = b.length = INT_MAX;
        glam_forward(model, &b, GLAM_INFER);
        extreme_said(ctx, "both", i);
        glam_next_batch(text, a, 5, 1, 1, &b);
        extreme_said(ctx, "next_batch", i);
        glam_next_batch(text, 5, a, (uint64_t)-1, (uint64_t)-1, &b);
        extreme_said(ctx, "next_batch", i);
        glam_perplexity(model, text, a, NULL);
        extreme_said(ctx, "perplexity", i);
        static const int32_t ids[6] = { 1, 2, 3, 1, 2, 3 };
        const glam_span whole = { ids, 6, 1 }, from = { ids, 6, a }, count = { ids, a < 7 ? a : 6, 1 };
        glam_score score;
        glam_loglikelihood_tokens(model, &whole, 1, a, &score);
        extreme_said(ctx, "window", i);
        glam_loglikelihood_tokens(model, &from, 1, 4, &score);
        extreme_said(ctx, "from", i);
        glam_loglikelihood_tokens(model, &count, 1, 4, &score);
        extreme_said(ctx, "count", i);
        int32_t written[8];
        glam_beam beam = glam_beam_default();
        beam.width = a;
        if (a < 9) glam_beam_search(model, ids, 6, written, 3, &beam, NULL);
        extreme_said(ctx, "width", i);
        if (a < 9) glam_beam_search(model, ids, 6, written, a, NULL, NULL);
        extreme_said(ctx, "beam", i);
        glam_beam_search(model, ids, a < 7 ? a : INT_MAX, written, 8, NULL, NULL);
        extreme_said(ctx, "prompt", i);
        glam_model_tensor_at(model, a);
        glam_model_routing(model, a);
        glam_freeze(model, "router", a);
        extreme_said(ctx, "freeze", i);
        glam_rewind(ctx, mark);
    }
    glam_close(ctx);
    CHECK(heap.live == 0);
}

static void test_extremes(void)
{
    RUN(extremes_plain);
    RUN(extremes_tensors);
    RUN(extremes_opening);
    RUN(extremes_attention);
    RUN(extremes_model);
    RUN(extremes_recipe);
    RUN(extremes_use);
}
