/* Low-rank adapters, against the model into which they are merged: there the same loss has gradients of
   whole weights, dW, from which those of the adapters follow, dA = s dW B^T and dB = s A^T dW.
   Kinds: value (slow loops in double), property, failure. */

typedef struct lora_case {
    const char *what;
    int roles, dense_every, kv_heads, shared, sigmoid, threads, recompute;
    const char *simd;
    int rank;                      // 0: 3
} lora_case;

static const lora_case lora_cases[] = {
    { "attention", GLAM_ROLE_ATTENTION, 2, 0, 0, 0, 1, 0, NULL, 0 },
    { "attention of rotary groups", GLAM_ROLE_ATTENTION, 2, 2, 0, 0, 2, 0, NULL, 0 },
    { "experts", GLAM_ROLE_EXPERTS, 2, 0, 0, 0, 2, 0, NULL, 0 },
    { "experts, plain C", GLAM_ROLE_EXPERTS, 1, 0, 0, 0, 1, 0, "base", 0 },
    { "router", GLAM_ROLE_ROUTER, 1, 0, 0, 0, 1, 0, NULL, 0 },
    { "router with sigmoid scores", GLAM_ROLE_ROUTER, 1, 0, 0, 1, 2, 0, NULL, 0 },
    { "dense", GLAM_ROLE_DENSE, 2, 0, 0, 0, 2, 0, NULL, 0 },
    { "shared", GLAM_ROLE_SHARED, 1, 0, 1, 0, 1, 0, NULL, 0 },
    { "all", 31, 2, 2, 1, 0, 2, 0, NULL, 0 },
    { "all, blocks run again", 31, 2, 2, 1, 0, 1, 1, NULL, 0 },
    { "all, plain C", 31, 2, 0, 1, 0, 2, 0, "base", 0 },
    { "all, SSE2", 31, 2, 2, 1, 0, 2, 0, "sse2", 0 },
    { "more ranks than a block of terms", GLAM_ROLE_ATTENTION, 2, 2, 0, 0, 1, 0, NULL, GLAM__KC + 45 }
};
enum { LORA_CASES = (int)(sizeof lora_cases / sizeof lora_cases[0]), LORA_B = 3, LORA_S = 11 };

static glam_config lora_config(const lora_case *l)
{
    glam_config c = test_config();
    c.moe.every = l->dense_every;
    c.moe.shared = l->shared ? 6 : 0;
    if (l->sigmoid) c.moe.score = GLAM_SCORE_SIGMOID;
    if (l->kv_heads) test_family(&c, 2);
    c.moe.router_z_weight = l->sigmoid ? 0 : 1e-2f;
    c.moe.aux_weight = 0.1f;
    return c;
}

static glam_batch lora_batch(int32_t *tokens, int32_t *targets)
{
    glam_batch batch = { LORA_B, LORA_S, tokens, targets, NULL, NULL };
    test_ids(tokens, LORA_B * LORA_S, 3, 37);
    test_ids(targets, LORA_B * LORA_S, 4, 37);
    return batch;
}

static glam_ctx *lora_ctx(const lora_case *l)
{
    glam_options options = test_options();
    options.threads = l->threads;
    if (l->simd) options.simd = l->simd;
    return glam_open(&options);
}

// A model with adapters whose B is not zero.
static glam_model *lora_model(glam_ctx *ctx, const lora_case *l)
{
    glam_config c = lora_config(l);
    glam_lora lora = { l->roles, l->rank ? l->rank : 3, 5, 6, 0 };
    glam_model *model = glam_model_new(ctx, &c);
    CHECK(glam_model_adapt(model, &lora) == GLAM_OK);
    test_fill_adapters(model);
    return model;
}

// dA and dB of the adapter of a weight [slices,k,n] follow from dW, dW [slices,k,n]: the largest difference, in
// parts of the largest element.
static double lora_off(const glam_adapter *a, const glam_tensor *w, const float *dw)
{
    int d = w->shape.dims, k = w->shape.dim[d - 2], n = w->shape.dim[d - 1], r = a->b->shape.dim[d - 2];
    int slices = d == 3 ? w->shape.dim[0] : 1;
    double worst[2] = { 0, 0 }, top[2] = { 0, 0 };
    for (int s = 0; s < slices; s++) {
        const float *A = a->a->data + (size_t)s * k * r, *B = a->b->data + (size_t)s * r * n;
        const float *dA = a->a->grad + (size_t)s * k * r, *dB = a->b->grad + (size_t)s * r * n;
        const float *dW = dw + (size_t)s * k * n;
        for (int i = 0; i < k; i++)
            for (int j = 0; j < r; j++) {
                double sum = 0;
                for (int c = 0; c < n; c++) sum += (double)dW[i * n + c] * (double)B[j * n + c];
                sum *= (double)a->scale;
                worst[0] = fmax(worst[0], fabs(sum - (double)dA[i * r + j]));
                top[0] = fmax(top[0], fabs(sum));
            }
        for (int j = 0; j < r; j++)
            for (int c = 0; c < n; c++) {
                double sum = 0;
                for (int i = 0; i < k; i++) sum += (double)A[i * r + j] * (double)dW[i * n + c];
                sum *= (double)a->scale;
                worst[1] = fmax(worst[1], fabs(sum - (double)dB[j * n + c]));
                top[1] = fmax(top[1], fabs(sum));
            }
    }
    CHECK(top[0] > 0 && top[1] > 0);
    return fmax(worst[0] / top[0], worst[1] / top[1]);
}

static void lora_backward(glam_ctx *ctx, glam_model *model, const glam_batch *batch, int recompute,
                          double *loss)
{
    glam_tensor *l = NULL;
    if (recompute) {                               // as a trainer does it
        glam__run *run = (glam__run *)glam__take(ctx, &ctx->base.step, sizeof *run);
        CHECK(glam__run_begin(run, model, batch, GLAM_TRAIN) == GLAM_OK);
        run->recompute = 1;
        l = glam__run_loss(run, batch, NULL);
    } else {
        l = glam_loss(model, batch, GLAM_TRAIN, NULL);
    }
    if (!CHECK(l != NULL)) return;
    *loss = (double)l->data[0];
    CHECK(glam_backward(ctx, l) == GLAM_OK);
}

static void lora_gradients_of_merged(void)
{
    int narrow = test_options().arithmetic != GLAM_F32;    // W + s A B is rounded anew, and so are A and B alone
    double most = narrow ? 4e-2 : 2e-5;
    for (int i = 0; i < LORA_CASES; i++) {
        const lora_case *l = &lora_cases[i];
        int32_t tokens[LORA_B * LORA_S], targets[LORA_B * LORA_S];
        glam_batch batch = lora_batch(tokens, targets);
        glam_ctx *ctx = lora_ctx(l), *other = lora_ctx(l);
        if (glam_error(ctx)) {                     // no such instruction set here
            CHECK(l->simd != NULL);
            glam_close(ctx);
            glam_close(other);
            continue;
        }
        glam_model *model = lora_model(ctx, l), *merged = lora_model(other, l);
        double loss = 0, same = 0, worst = 0;
        int adapters = 0;
        CHECK(glam_model_merge(merged) == GLAM_OK);
        lora_backward(ctx, model, &batch, l->recompute, &loss);
        lora_backward(other, merged, &batch, 0, &same);
        CHECK_NEAR(loss, same, (narrow ? 2e-3 : 2e-6) * fabs(same));
        for (int w = 0; glam_model_tensor_at(merged, w); w++) {
            const glam_tensor *whole = glam_model_tensor_at(merged, w);
            glam_adapter a;
            CHECK(glam_model_tensor_at(model, w)->grad == NULL);       // frozen
            if (!glam_adapter_of(model, whole->name, &a)) continue;
            double off = lora_off(&a, whole, whole->grad);
            if (off > worst) worst = off;
            adapters++;
        }
        CHECK(adapters > 0);
        if (!CHECK(worst < most)) printf("  %s: off by %g\n", l->what, worst);
        CLOSE_CLEAN(ctx);
        CLOSE_CLEAN(other);
    }
}

// The same against finite differences, for one adapter of each kind.
typedef struct lora_probe { glam_model *model; glam_batch batch; } lora_probe;

static glam_tensor *lora_probe_loss(glam_ctx *ctx, void *arg)
{
    lora_probe *p = (lora_probe *)arg;
    (void)ctx;
    return glam_loss(p->model, &p->batch, GLAM_TRAIN, NULL);
}

static void lora_gradients_by_differences(void)
{
    int32_t tokens[LORA_B * LORA_S], targets[LORA_B * LORA_S];
    lora_case l = lora_cases[8];                   // all
    l.roles &= ~GLAM_ROLE_ROUTER;                  // a difference could move a choice
    glam_ctx *ctx = lora_ctx(&l);
    lora_probe p = { lora_model(ctx, &l), lora_batch(tokens, targets) };
    const char *const of[] = { "layers.0.attn.k", "layers.1.attn.o", "layers.1.moe.up", "layers.1.moe.down",
                               "layers.0.ffn.gate", "layers.0.ffn.down", "layers.1.moe.shared.up" };
    for (int i = 0; i < 7; i++) {
        glam_adapter a;
        if (!glam_adapter_of(p.model, of[i], &a)) {
            char name[40];                         // the mixture is the other layer
            snprintf(name, sizeof name, "layers.%c%s", of[i][7] == '0' ? '1' : '0', of[i] + 8);
            if (!CHECK(glam_adapter_of(p.model, name, &a))) continue;
        }
        glam_tensor *const wrt[2] = { a.a, a.b };
        double off = glam_check_grad(ctx, lora_probe_loss, &p, wrt, 2, 1e-2f);
        if (!CHECK(off >= 0 && off < 2e-2)) printf("  %s: off by %g\n", a.a->name, off);
    }
    CLOSE_CLEAN(ctx);
}

// B starts as zeros: the model says what it said, bit for bit; and again when adapters are not used.
static void lora_starts_as_nothing(void)
{
    int32_t tokens[LORA_B * LORA_S], targets[LORA_B * LORA_S];
    const lora_case *l = &lora_cases[8];
    glam_batch batch = lora_batch(tokens, targets);
    glam_config c = lora_config(l);
    static float before[LORA_B * LORA_S * 37], after[LORA_B * LORA_S * 37];
    glam_ctx *ctx = lora_ctx(l);
    glam_model *model = glam_model_new(ctx, &c);
    glam_lora lora = glam_lora_default();
    CHECK(lora.roles == GLAM_ROLE_ATTENTION && lora.rank == 8 && lora.alpha == 16);
    lora.roles = 31;
    memcpy(before, glam_forward(model, &batch, GLAM_INFER)->data, sizeof before);
    glam_forget(ctx);
    int weights = 0;
    while (glam_model_tensor_at(model, weights)) weights++;
    CHECK(glam_model_adapt(model, &lora) == GLAM_OK);
    memcpy(after, glam_forward(model, &batch, GLAM_INFER)->data, sizeof after);
    CHECK(!memcmp(before, after, sizeof before));
    for (int i = weights; glam_model_tensor_at(model, i); i++) {
        glam_tensor *t = glam_model_tensor_at(model, i);
        int half = strstr(t->name, ".lora_b") != NULL, k = t->shape.dim[t->shape.dims - 2];
        CHECK(half || strstr(t->name, ".lora_a"));
        CHECK(t->wants_grad);
        for (size_t at = 0; at < glam_size(t); at++)
            CHECK(half ? t->data[at] == 0 : fabs((double)t->data[at]) <= 1 / sqrt((double)k));
        test_fill(t->data, glam_size(t), (uint64_t)i, -0.2, 0.2);
    }
    glam_forget(ctx);
    memcpy(after, glam_forward(model, &batch, GLAM_INFER)->data, sizeof after);
    CHECK(memcmp(before, after, sizeof before));
    CHECK(glam_model_use_adapters(model, 0) == 1);
    glam_forget(ctx);
    memcpy(after, glam_forward(model, &batch, GLAM_INFER)->data, sizeof after);
    CHECK(!memcmp(before, after, sizeof before));
    CHECK(glam_model_use_adapters(model, 1) == 0);
    CLOSE_CLEAN(ctx);
}

static uint64_t lora_step_hash(int threads, int recompute, glam_arithmetic arithmetic)
{
    int32_t tokens[LORA_B * LORA_S], targets[LORA_B * LORA_S];
    lora_case l = lora_cases[8];
    glam_options options = test_options();
    glam_batch batch = lora_batch(tokens, targets);
    uint64_t hash = 1;
    double loss = 0;
    options.threads = threads;
    options.arithmetic = arithmetic;
    glam_ctx *ctx = glam_open(&options);
    glam_model *model = lora_model(ctx, &l);
    lora_backward(ctx, model, &batch, recompute, &loss);
    hash = test_hash(hash, &loss, sizeof loss);
    for (int i = 0; glam_model_tensor_at(model, i); i++) {
        const glam_tensor *t = glam_model_tensor_at(model, i);
        if (t->grad) hash = test_hash(hash, t->grad, glam_size(t) * sizeof(float));
    }
    CLOSE_CLEAN(ctx);
    return hash;
}

// Any number of threads, and blocks that are run again, give the same bits; in each arithmetic.
static void lora_same_bits(void)
{
    for (int a = GLAM_F32; a < GLAM_AUTO; a++) {
        glam_arithmetic arithmetic = (glam_arithmetic)a;
        uint64_t one = lora_step_hash(1, 0, arithmetic);
        CHECK(lora_step_hash(2, 0, arithmetic) == one);
        CHECK(lora_step_hash(5, 0, arithmetic) == one);
        CHECK(lora_step_hash(1, 1, arithmetic) == one);
        CHECK(lora_step_hash(3, 1, arithmetic) == one);
    }
}

// Writing token by token with the cache is the full pass: a row does not depend on the others.
static void lora_cached(void)
{
    int32_t tokens[LORA_B * LORA_S], targets[LORA_B * LORA_S];
    const lora_case *l = &lora_cases[8];
    glam_batch batch = lora_batch(tokens, targets);
    static float all[LORA_S * 37];
    glam_ctx *ctx = lora_ctx(l);
    glam_model *model = lora_model(ctx, l);
    batch.rows = 1;
    memcpy(all, glam_forward(model, &batch, GLAM_INFER)->data, sizeof all);
    glam_forget(ctx);
    glam_session *s = glam_session_new(model, LORA_S);
    for (int t = 0; t < LORA_S && CHECK(s != NULL); t++) {
        const float *logits = glam_next(s, tokens + t, 1);
        if (!CHECK(logits != NULL)) break;
        CHECK(!memcmp(logits, all + t * 37, 37 * sizeof(float)));
    }
    CLOSE_CLEAN(ctx);
}

// A trainer trains them alone, and its plan is what it takes.
static void lora_trains_alone(void)
{
    const lora_case *l = &lora_cases[8];
    glam_ctx *ctx = lora_ctx(l);
    glam_config c = lora_config(l);
    glam_recipe r = glam_recipe_default();
    glam_report report;
    char text[600];
    for (int i = 0; i < 600; i++) text[i] = (char)(i * i % 37);
    glam_text *data = glam_text_from(ctx, text, sizeof text, NULL);
    glam_model *model = glam_model_new(ctx, &c);
    uint64_t base = test_model_hash(model);
    glam_lora lora = { 31, 2, 3, 8, 1 };
    glam_adapter a;
    CHECK(glam_model_adapt(model, &lora) == GLAM_OK);
    CHECK(glam_adapter_of(model, "layers.0.attn.q", &a));
    CHECK_NEAR(a.scale, 8 / sqrt(2.0), 1e-6);
    r.batch = 2; r.context = 11; r.steps = 6; r.eval_every = 0; r.lr = 0.05;
    glam_trainer *t = glam_trainer_new(model, data, NULL, &r);
    if (!CHECK(t != NULL)) printf("%s\n", glam_error_text(ctx));
    CHECK(t && strstr(glam_trainer_summary(t), "adapters"));
    uint64_t before = glam_memory(ctx).allocations;
    for (int i = 0; i < 6 && t; i++) CHECK(glam_train_step(t, &report) == 1);
    CHECK(glam_memory(ctx).allocations == before);   // known before the first step
    // a frozen matrix counts twice, forward and for what is below it; the halves three times
    double work = 3 * 2.0 * c.layers * r.context * c.heads * c.d_head;
    for (int i = 0; glam_model_tensor_at(model, i); i++) {
        const glam_tensor *w = glam_model_tensor_at(model, i);
        double share = w->shape.dims == 3 ? 2.0 / 4 : 1;           // two of four experts
        if (w->shape.dims >= 2) work += 2 * (w->wants_grad ? 3 : 2) * (double)glam_size(w) * share;
    }
    CHECK_NEAR(report.flops, work * (double)report.tokens, 1e-9 * report.flops);
    CHECK(test_model_hash(model) != base);
    int i = 0;
    glam_ctx *other = lora_ctx(l);
    glam_model *fresh = glam_model_new(other, &c);
    for (; glam_model_tensor_at(fresh, i); i++)
        CHECK(!memcmp(glam_model_tensor_at(fresh, i)->data, glam_model_tensor_at(model, i)->data,
                      glam_size(glam_model_tensor_at(fresh, i)) * sizeof(float)));
    for (; glam_model_tensor_at(model, i); i++) {
        const glam_tensor *h = glam_model_tensor_at(model, i);
        double top = 0;
        for (size_t at = 0; at < glam_size(h) && strstr(h->name, ".lora_b"); at++)
            top = fmax(top, fabs((double)h->data[at]));
        CHECK(top > 0 || strstr(h->name, ".lora_a"));
    }
    CHECK(glam_model_merge(model) == GLAM_ERR_STATE);
    ERROR_IS(ctx, GLAM_ERR_STATE, "belongs to an optimizer");
    CLOSE_CLEAN(other);
    CLOSE_CLEAN(ctx);
}

// Adapters beside weights that train: a trainer, which saves in gradients that are not filled yet, has the
// gradients of one backward pass.  0: dense, 1: a mixture.
static void lora_beside_weights(void)
{
    for (int mixture = 0; mixture < 2; mixture++) {
        glam_ctx *ctx[2] = { test_ctx(), test_ctx() };
        glam_model *model[2];
        glam_text *text[2];
        glam_recipe r = glam_recipe_default();
        glam_report report;
        glam_batch batch;
        r.batch = 4; r.steps = 2; r.eval_every = 0; r.clip = 0;
        for (int i = 0; i < 2; i++) {
            glam_config c = glam_config_default();
            c.layers = 3; c.d_model = 32; c.heads = 2; c.d_head = 16; c.hidden = 96; c.context = 32;
            c.moe.experts = mixture ? 4 : 0;
            c.moe.hidden = 64;
            glam_lora lora = { mixture ? GLAM_ROLE_EXPERTS : GLAM_ROLE_DENSE, 3, 0, 6, 0 };
            model[i] = glam_model_new(ctx[i], &c);
            text[i] = test_text(ctx[i], 3000);
            CHECK(glam_model_adapt(model[i], &lora) == GLAM_OK);
            test_fill_adapters(model[i]);
            CHECK(glam_freeze(model[i], "*", 0) > 0);
        }
        glam_trainer *t = glam_trainer_new(model[0], text[0], NULL, &r);
        if (!CHECK(t && glam_train_step(t, &report))) printf("%s\n", glam_error_text(ctx[0]));
        CHECK(glam_next_batch(text[1], 4, 32, r.seed, 0, &batch) == GLAM_OK);
        CHECK(glam_backward(ctx[1], glam_loss(model[1], &batch, GLAM_TRAIN, NULL)) == GLAM_OK);
        for (int w = 0; glam_model_tensor_at(model[0], w); w++) {
            const glam_tensor *one = glam_model_tensor_at(model[0], w), *two = glam_model_tensor_at(model[1], w);
            double worst = 0, top = 0;
            if (!CHECK(one->grad && two->grad)) continue;
            for (size_t at = 0; at < glam_size(one); at++) {
                worst = fmax(worst, fabs((double)one->grad[at] - (double)two->grad[at]));
                top = fmax(top, fabs((double)two->grad[at]));
            }
            if (!CHECK(worst <= 1e-5 * top)) printf("  %s: off by %g of %g\n", one->name, worst, top);
        }
        CLOSE_CLEAN(ctx[0]);
        CLOSE_CLEAN(ctx[1]);
    }
}

// A step that is counted in a context that holds nothing asks for what a step that is done asks for: the
// tool tells memory by it.  0: as it is, 1: recomputed, 2: updated in backward, 3: both.
static void lora_counted(void)
{
    const lora_case *l = &lora_cases[8];
    glam_config c = lora_config(l);
    const glam_lora lora = { 31, 2, 3, 8, 1 };
    size_t step[2], life[2];
    char text[600];
    for (int i = 0; i < 600; i++) text[i] = (char)(i * i % 37);
    c.layers = 4;
    for (int kind = 0; kind < 4; kind++) {
        glam_recipe r = glam_recipe_default();
        r.batch = 2; r.context = 11; r.steps = 2; r.eval_every = 0;
        r.recompute = kind & 1;
        r.update_in_backward = kind / 2;
        if (r.update_in_backward) r.clip = 0;
        for (int counted = 0; counted < 2; counted++) {
            glam_ctx *ctx = lora_ctx(l);
            if (counted) CHECK(glam_measure(ctx, 1) == GLAM_OK);
            glam_model *model = glam_model_new(ctx, &c);
            CHECK(glam_model_adapt(model, &lora) == GLAM_OK);
            glam_text *data = counted ? NULL : glam_text_from(ctx, text, sizeof text, NULL);
            size_t before = glam_memory(ctx).life;
            glam_trainer *t = glam_trainer_new(model, data, NULL, &r);
            life[counted] = glam_memory(ctx).life - before;
            CHECK(glam_train_step(t, NULL) == 1 && glam_trainer_done(t) == !counted);
            step[counted] = glam_memory(ctx).step;
            CLOSE_CLEAN(ctx);
        }
        CHECK(life[0] == life[1] && step[0] == step[1]);
        if (step[0] != step[1]) printf("    %d: done %zu, counted %zu\n", kind, step[0], step[1]);
    }
}

static void lora_files(void)
{
    const lora_case *l = &lora_cases[8];
    glam_ctx *ctx = lora_ctx(l), *other = lora_ctx(l);
    glam_config c = lora_config(l), smaller = c;
    glam_model *model = lora_model(ctx, l);
    uint64_t hash = test_model_hash(model);
    CHECK(glam_save(model, test_path("test_lora_whole.tmp")) == GLAM_OK);
    CHECK(glam_save_adapter(model, test_path("test_lora_own.tmp")) == GLAM_OK);
    glam_model *whole = glam_load(other, test_path("test_lora_whole.tmp"));
    if (CHECK(whole != NULL)) CHECK(test_model_hash(whole) == hash);
    glam_adapter a, b;
    CHECK(glam_adapter_of(model, "layers.1.attn.v", &a) && glam_adapter_of(whole, "layers.1.attn.v", &b));
    CHECK(a.scale == b.scale && a.scale == 2);
    CHECK(!strcmp(glam_role_name(GLAM_ROLE_ATTENTION), "attention") && !glam_role_name(32) && !glam_role_name(3));
    glam_model *onto = glam_model_new(other, &c);
    CHECK(glam_load_adapter(onto, test_path("test_lora_own.tmp")) == GLAM_OK);
    CHECK(test_model_hash(onto) == hash);
    CHECK(glam_load_adapter(onto, test_path("test_lora_own.tmp")) == GLAM_ERR_STATE);
    ERROR_IS(other, GLAM_ERR_STATE, "has adapters already");
    // what does not fit leaves a model as it was
    smaller.d_model = 24;
    glam_model *small = glam_model_new(other, &smaller);
    size_t mark = glam_mark(other);
    CHECK(glam_load_adapter(small, test_path("test_lora_own.tmp")) == GLAM_ERR_SHAPE);
    ERROR_IS(other, GLAM_ERR_SHAPE, "do not fit");
    CHECK(glam_mark(other) == mark && !glam_adapter_of(small, "layers.0.attn.q", NULL));
    CHECK(glam_load(other, test_path("test_lora_own.tmp")) == NULL);
    ERROR_IS(other, GLAM_ERR_FORMAT, "not a model");
    CHECK(glam_save(small, test_path("test_lora_small.tmp")) == GLAM_OK);
    CHECK(glam_load_adapter(small, test_path("test_lora_small.tmp")) == GLAM_ERR_FORMAT);
    ERROR_IS(other, GLAM_ERR_FORMAT, "no file of adapters");
    CHECK(glam_save_adapter(small, test_path("test_lora_small.tmp")) == GLAM_ERR_STATE);
    ERROR_IS(other, GLAM_ERR_STATE, "no adapters");
    remove(test_path("test_lora_whole.tmp"));
    remove(test_path("test_lora_own.tmp"));
    remove(test_path("test_lora_small.tmp"));
    CLOSE_CLEAN(other);
    CLOSE_CLEAN(ctx);
}

// A run that is stopped and goes on ends with the bits of one that was not.
static void lora_resumes(void)
{
    const lora_case *l = &lora_cases[8];
    glam_config c = lora_config(l);
    glam_lora lora = { 31, 2, 0, 8, 0 };
    glam_recipe r = glam_recipe_default();
    char text[600];
    uint64_t whole = 0;
    for (int i = 0; i < 600; i++) text[i] = (char)(i * i % 37);
    r.batch = 2; r.context = 11; r.steps = 6; r.eval_every = 0;
    for (int stop = 0; stop < 2; stop++) {
        glam_ctx *ctx = lora_ctx(l);
        glam_text *data = glam_text_from(ctx, text, sizeof text, NULL);
        glam_model *model = glam_model_new(ctx, &c);
        glam_model_adapt(model, &lora);
        glam_trainer *t = glam_trainer_new(model, data, NULL, &r);
        for (int i = 0; i < (stop ? 3 : 6); i++) glam_train_step(t, NULL);
        if (stop) {
            CHECK(glam_save_checkpoint(t, test_path("test_lora_run.tmp")) == GLAM_OK);
            CLOSE_CLEAN(ctx);
            ctx = lora_ctx(l);
            data = glam_text_from(ctx, text, sizeof text, NULL);
            t = glam_load_checkpoint(ctx, test_path("test_lora_run.tmp"), data, NULL);
            if (!CHECK(t != NULL)) printf("%s\n", glam_error_text(ctx));
            while (t && glam_train_step(t, NULL)) continue;
            model = glam_trainer_model(t);
        }
        uint64_t hash = test_model_hash(model);
        if (stop) CHECK(hash == whole);
        whole = hash;
        CLOSE_CLEAN(ctx);
    }
    remove(test_path("test_lora_run.tmp"));
}

static void lora_borrowed_and_rewound(void)
{
    int32_t tokens[LORA_B * LORA_S], targets[LORA_B * LORA_S];
    const lora_case *l = &lora_cases[8];
    glam_batch batch = lora_batch(tokens, targets);
    static float own[LORA_B * LORA_S * 37];
    glam_ctx *ctx = lora_ctx(l), *other = lora_ctx(l);
    glam_model *model = lora_model(ctx, l), *lent = glam_model_borrow(other, model);
    memcpy(own, glam_forward(model, &batch, GLAM_INFER)->data, sizeof own);
    CHECK(!memcmp(own, glam_forward(lent, &batch, GLAM_INFER)->data, sizeof own));
    CHECK(glam_model_adapt(lent, NULL) == GLAM_ERR_STATE);
    ERROR_IS(other, GLAM_ERR_STATE, "of one's own");
    CLOSE_CLEAN(other);
    CLOSE_CLEAN(ctx);

    ctx = lora_ctx(l);
    glam_config c = lora_config(l);
    model = glam_model_new(ctx, &c);
    CHECK(glam_adapt(model, "layers.0.attn.q", 2, 0.5f) == GLAM_OK);
    size_t mark = glam_mark(ctx);
    CHECK(glam_adapt(model, "layers.0.attn.k", 4, 1) == GLAM_OK);
    glam_rewind(ctx, mark);
    CHECK(glam_adapter_of(model, "layers.0.attn.q", NULL));
    CHECK(!glam_adapter_of(model, "layers.0.attn.k", NULL));
    CHECK(glam_model_tensor(model, "layers.0.attn.q.lora_b") != NULL);
    CHECK(glam_model_tensor(model, "layers.0.attn.k.lora_b") == NULL);
    CHECK(glam_model_merge(model) == GLAM_OK);     // B is zero: nothing changed
    CHECK(!glam_adapter_of(model, "layers.0.attn.q", NULL));
    CHECK(glam_model_tensor(model, "embed")->wants_grad);
    CHECK(glam_upcycle(model, NULL) == NULL);
    glam_clear_error(ctx);
    CLOSE_CLEAN(ctx);
}

// Frozen experts keep their bits while the others train; so they do after a resume, and for adapters.
static void lora_single_experts(void)
{
    const unsigned char frozen[] = { 1, 0, 1, 0 };
    for (int kind = 0; kind < 4; kind++) {         // adapters or not; AdamW or Adafactor
        lora_case l = lora_cases[kind % 2 ? 3 : 2];
        l.dense_every = 1;
        glam_config c = lora_config(&l);
        glam_recipe r = glam_recipe_default();
        glam_ctx *ctx = lora_ctx(&l);
        char text[600];
        float *before[6] = { NULL, NULL, NULL, NULL, NULL, NULL };
        int adapted = kind / 2, moved = 0;
        for (int i = 0; i < 600; i++) text[i] = (char)(i * i % 37);
        glam_text *data = glam_text_from(ctx, text, sizeof text, NULL);
        glam_model *model = glam_model_new(ctx, &c);
        glam_lora lora = { GLAM_ROLE_EXPERTS, 2, 0, 8, 0 };
        if (adapted) CHECK(glam_model_adapt(model, &lora) == GLAM_OK);
        else glam_freeze(model, "*", 1), glam_freeze(model, "experts", 0);
        CHECK(glam_freeze_experts(model, 0, frozen) == GLAM_OK);
        r.batch = 2; r.context = 11; r.steps = 6; r.eval_every = 0; r.weight_decay = 0.5;
        r.optimizer = kind % 2 ? GLAM_ADAFACTOR : GLAM_ADAMW;
        glam_trainer *t = glam_trainer_new(model, data, NULL, &r);
        const char *const names[] = { "layers.0.moe.gate", "layers.0.moe.up", "layers.0.moe.down" };
        for (int pass = 0; pass < 2; pass++) {
            for (int i = 0; i < 6; i++) {
                char name[48];
                snprintf(name, sizeof name, "%s%s", names[i % 3], !adapted ? "" : i < 3 ? ".lora_a" : ".lora_b");
                const glam_tensor *w = glam_model_tensor(model, name);
                if (!CHECK(w != NULL)) continue;
                size_t n = glam_size(w) / 4;
                for (size_t e = 0; e < 4 && pass; e++) {
                    int same = !memcmp(before[i] + e * n, w->data + e * n, n * sizeof(float));
                    CHECK(same || !frozen[e]);
                    moved += !same;
                }
                if (pass) { free(before[i]); continue; }
                before[i] = (float *)malloc(glam_size(w) * sizeof(float));
                memcpy(before[i], w->data, glam_size(w) * sizeof(float));
            }
            if (pass) break;
            for (int i = 0; i < 3; i++) CHECK(glam_train_step(t, NULL));
            CHECK(glam_save_checkpoint(t, test_path("test_lora_esft.tmp")) == GLAM_OK);
            CHECK(glam_freeze_experts(model, 0, NULL) == GLAM_ERR_STATE);
            ERROR_IS(ctx, GLAM_ERR_STATE, "belongs to an optimizer");
            CLOSE_CLEAN(ctx);
            ctx = lora_ctx(&l);
            data = glam_text_from(ctx, text, sizeof text, NULL);
            t = glam_load_checkpoint(ctx, test_path("test_lora_esft.tmp"), data, NULL);
            if (!CHECK(t != NULL)) printf("%s\n", glam_error_text(ctx));
            model = glam_trainer_model(t);
            while (t && glam_train_step(t, NULL)) continue;
        }
        CHECK(moved >= 6);
        CHECK(glam_freeze_experts(model, 7, frozen) == GLAM_ERR_VALUE);
        ERROR_IS(ctx, GLAM_ERR_VALUE, "layer 7 is no mixture");
        CLOSE_CLEAN(ctx);
    }
    remove(test_path("test_lora_esft.tmp"));
}

static void lora_errors(void)
{
    const lora_case *l = &lora_cases[8];
    glam_config c = lora_config(l), dense = c;
    glam_ctx *ctx = lora_ctx(l);
    glam_model *model = glam_model_new(ctx, &c);
    dense.moe.experts = dense.moe.shared = 0;
    glam_model *plain = glam_model_new(ctx, &dense);
    glam_lora lora = { GLAM_ROLE_ATTENTION | GLAM_ROLE_EXPERTS, 4, 0, 8, 0 };
    CHECK(glam_model_adapt(plain, &lora) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "no weight of role experts");
    CHECK(!glam_adapter_of(plain, "layers.0.attn.q", NULL));
    CHECK(glam_model_tensor(plain, "layers.0.attn.q")->wants_grad);
    lora.rank = 0;
    CHECK(glam_model_adapt(model, &lora) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "rank is 0");
    lora.rank = 4;
    lora.roles = 32;
    CHECK(glam_model_adapt(model, &lora) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "roles are 32");
    lora.roles = 1;
    lora.alpha = (float)HUGE_VAL;
    CHECK(glam_model_adapt(model, &lora) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "scale inf");
    CHECK(glam_adapt(model, "embed", 4, 1) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "embed is no weight");
    CHECK(glam_adapt(model, NULL, 4, 1) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "NULL is no weight");
    CHECK(glam_adapt(model, "layers.0.attn.q", 4, 1) == GLAM_OK);
    CHECK(glam_adapt(model, "layers.0.attn.q", 4, 1) == GLAM_ERR_STATE);
    ERROR_IS(ctx, GLAM_ERR_STATE, "already");
    CHECK(glam_model_adapt(model, NULL) == GLAM_ERR_STATE);
    ERROR_IS(ctx, GLAM_ERR_STATE, "already");
    CHECK(glam_upcycle(plain, NULL) != NULL || glam_error(ctx));
    glam_clear_error(ctx);
    CHECK(glam_model_adapt(NULL, NULL) == GLAM_ERR_MEMORY && glam_adapt(NULL, "", 1, 1) == GLAM_ERR_MEMORY);
    CHECK(glam_model_merge(NULL) == GLAM_ERR_MEMORY && !glam_adapter_of(NULL, "", NULL));
    CHECK(glam_save_adapter(NULL, "") == GLAM_ERR_MEMORY && glam_load_adapter(NULL, "") == GLAM_ERR_MEMORY);
    CHECK(glam_model_use_adapters(NULL, 0) == 1);
    CLOSE_CLEAN(ctx);
}

static void test_lora(void)
{
    RUN(lora_gradients_of_merged);
    RUN(lora_gradients_by_differences);
    RUN(lora_starts_as_nothing);
    RUN(lora_same_bits);
    RUN(lora_cached);
    RUN(lora_trains_alone);
    RUN(lora_beside_weights);
    RUN(lora_counted);
    RUN(lora_files);
    RUN(lora_resumes);
    RUN(lora_borrowed_and_rewound);
    RUN(lora_single_experts);
    RUN(lora_errors);
}
