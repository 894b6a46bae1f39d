/* Room 19: training.  Kinds: golden (learning-rate and decay values), value (optimisers against slow
   ones in double), same bits (threads, host's workers, recomputation, resume), steady, learning,
   failure. */

static double slow_rms(const double *x, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += x[i] * x[i];
    return sqrt(sum / n);
}

// Runs to the end; *last is the report of the last step that was done.  Returns how many there were.
static int train_run(glam_trainer *trainer, glam_report *last)
{
    glam_report now;
    int steps = 0;
    memset(last, 0, sizeof *last);
    while (steps < 10000 && glam_train_step(trainer, &now)) {
        *last = now;
        steps++;
    }
    return steps;
}

// --- schedules -----------------------------------------------------------------------------------

static void train_paper_rate(void)
{
    glam_recipe r = glam_recipe_paper();
    CHECK(r.optimizer == GLAM_ADAFACTOR && r.schedule == GLAM_SCHEDULE_PAPER);
    CHECK(r.clip == 0 && r.warmup == 0 && r.factor_min == 128 && r.parameter_scale == 1);
    CHECK(r.eps1 == 1e-30 && r.eps2 == 1e-3 && r.update_clip == 1);
    CHECK_NEAR(glam_recipe_lr(&r, 0), 0.01, 1e-12);
    CHECK_NEAR(glam_recipe_lr(&r, 9999), 0.01, 1e-12);
    CHECK_NEAR(glam_recipe_lr(&r, 10000), 0.01, 1e-12);
    CHECK_NEAR(glam_recipe_lr(&r, 40000), 0.005, 1e-12);
    CHECK_NEAR(glam_recipe_lr(&r, 1000000), 0.001, 1e-12);
}

static void train_cosine_rate(void)
{
    glam_recipe r = glam_recipe_default();
    r.schedule = GLAM_SCHEDULE_COSINE;
    r.lr = 0.02;
    r.warmup = 50;
    r.steps = 1000;
    r.min_lr = 0.1;
    CHECK(glam_recipe_lr(&r, 0) > 0);               // else the first step would do nothing
    double slope = glam_recipe_lr(&r, 1) - glam_recipe_lr(&r, 0);
    CHECK_NEAR(slope, 0.02 / 50, 1e-5);
    for (int t = 1; t < 49; t++) {
        CHECK_NEAR(glam_recipe_lr(&r, t + 1) - glam_recipe_lr(&r, t), slope, 1e-9);
    }
    CHECK_NEAR(glam_recipe_lr(&r, 50), 0.02, 1e-6);
    for (int t = 50; t < 999; t++) CHECK(glam_recipe_lr(&r, t + 1) <= glam_recipe_lr(&r, t));
    CHECK_NEAR(glam_recipe_lr(&r, 999), 0.002, 1e-6);
    CHECK_NEAR(glam_recipe_lr(&r, 1000), 0.002, 1e-6);
    CHECK_NEAR(glam_recipe_lr(&r, 50000), 0.002, 1e-6);
    CHECK_NEAR(glam_recipe_lr(&r, 525), 0.002 + 0.018 * 0.5, 2e-4);    // half way down
    CHECK_NEAR(glam_recipe_lr(&r, 287), 0.002 + 0.018 * 0.5 * (1 + cos(3.14159265 * 0.2494)), 2e-4);
    r.schedule = GLAM_SCHEDULE_CONSTANT;
    CHECK(glam_recipe_lr(&r, 10) < 0.01 && glam_recipe_lr(&r, 60) == 0.02);
    CHECK(glam_recipe_lr(&r, 99999) == 0.02);
}

// --- optimisers against slow ones ----------------------------------------------------------------

enum { OPT_E = 3, OPT_M = 10, OPT_H = 12, OPT_N = OPT_E * OPT_M * OPT_H };

static glam_recipe plain_recipe(glam_optimizer_kind kind)
{
    glam_recipe r = glam_recipe_paper();
    r.optimizer = kind;
    r.schedule = GLAM_SCHEDULE_CONSTANT;
    r.lr = 0.01;
    r.warmup = 0;
    r.clip = 0;
    r.weight_decay = 0;
    return r;
}

// loss = sum(x * c): the gradient is c, whatever x is.
static glam_status opt_step(glam_ctx *ctx, glam_optimizer *opt, glam_tensor *x, const float *c,
                            glam_report *report)
{
    glam_tensor *loss = glam_sum(ctx, glam_mul(ctx, x, glam_input(ctx, c, x->shape)));
    return glam_update(opt, loss, report);
}

// One Adafactor step of reference 3.2, on E matrices of [M,H] (E = 1: a matrix), factored or not.
static void slow_adafactor(double *x, const float *g, double *v, double *vr, double *vc, int E,
                           int M, int H, int factored, int t, double lr)
{
    static double u[OPT_N], s[OPT_N];
    double decay = 1 - pow(t + 1.0, -0.8);
    int n = E * M * H;
    for (int i = 0; i < n; i++) s[i] = (double)g[i] * (double)g[i] + 1e-30;
    for (int i = 0; i < n && !factored; i++) {
        v[i] = decay * v[i] + (1 - decay) * s[i];
        u[i] = (double)g[i] / sqrt(v[i]);
    }
    for (int e = 0; e < E && factored; e++) {
        // H > M: d0 = H is the largest; vr loses it and is [M], vc loses M and is [H]
        double mean = 0;
        for (int m = 0; m < M; m++) {
            double sum = 0;
            for (int h = 0; h < H; h++) sum += s[(e * M + m) * H + h] / H;
            vr[e * M + m] = decay * vr[e * M + m] + (1 - decay) * sum;
            mean += vr[e * M + m] / M;
        }
        for (int h = 0; h < H; h++) {
            double sum = 0;
            for (int m = 0; m < M; m++) sum += s[(e * M + m) * H + h] / M;
            vc[e * H + h] = decay * vc[e * H + h] + (1 - decay) * sum;
        }
        for (int m = 0; m < M; m++) {
            for (int h = 0; h < H; h++) {
                int at = (e * M + m) * H + h;
                u[at] = (double)g[at] / sqrt(vr[e * M + m] / mean) / sqrt(vc[e * H + h]);
            }
        }
    }
    double clip = slow_rms(u, n) > 1 ? slow_rms(u, n) : 1, scale = slow_rms(x, n);
    if (scale < 1e-3) scale = 1e-3;
    for (int i = 0; i < n; i++) x[i] -= lr * scale * u[i] / clip;
}

static void opt_adafactor(glam_shape shape, int E, int M, int H, int factor_min)
{
    static double want[OPT_N], v[OPT_N], vr[OPT_N], vc[OPT_N];
    glam_ctx *ctx = test_ctx();
    glam_recipe recipe = plain_recipe(GLAM_ADAFACTOR);
    glam_report report;
    glam_tensor *x = glam_param(ctx, "x", shape);
    int n = E * M * H;
    recipe.factor_min = factor_min;
    test_fill(x->data, (size_t)n, 3, -1, 1);
    for (int i = 0; i < n; i++) {
        want[i] = (double)x->data[i];
        v[i] = vr[i] = vc[i] = 0;
    }
    glam_optimizer *opt = glam_optimizer_new(ctx, &x, 1, &recipe);
    for (int t = 0; t < 12; t++) {
        float *g = test_floats((size_t)n, 50 + (uint64_t)t, -1, 1);
        for (int i = 0; i < n; i++) g[i] *= t == 5 ? 30.0f : 0.1f + 0.05f * (float)(i % 9);
        CHECK(opt_step(ctx, opt, x, g, &report) == GLAM_OK);
        slow_adafactor(want, g, v, vr, vc, E, M, H, M >= factor_min, t, 0.01);
        CHECK(test_off(x->data, want, (size_t)n) < 3e-6);
        CHECK(report.step == t + 1 && report.skipped == 0);
        free(g);
    }
    CLOSE_CLEAN(ctx);
}

static void train_adafactor_values(void)
{
    opt_adafactor(glam_dim1(12), 1, 1, 12, 128);
    opt_adafactor(glam_dim2(10, 12), 1, 10, 12, 128);          // below factor_min
    opt_adafactor(glam_dim2(10, 12), 1, 10, 12, 10);           // factored
    opt_adafactor(glam_dim2(10, 12), 1, 10, 12, 11);           // second-largest is 10
    opt_adafactor(glam_dim3(3, 10, 12), 3, 10, 12, 5);         // experts keep their own statistics
}

// First step: decay 0, so u = sign(g), RMS 1, no clipping: every weight moves by lr * RMS(X).
static void train_adafactor_first_step(void)
{
    glam_ctx *ctx = test_ctx();
    glam_recipe recipe = plain_recipe(GLAM_ADAFACTOR);
    glam_tensor *x = glam_param(ctx, "x", glam_dim1(6));
    float g[6] = { 1e-6f, -3, 0.2f, -1e4f, 7, -0.5f };
    glam_fill(x, 2);
    x->data[1] = -2;
    glam_optimizer *opt = glam_optimizer_new(ctx, &x, 1, &recipe);
    CHECK(opt_step(ctx, opt, x, g, NULL) == GLAM_OK);
    for (int i = 0; i < 6; i++) {
        CHECK_NEAR(x->data[i], (i == 1 ? -2 : 2) - 0.01 * 2 * (g[i] > 0 ? 1 : -1), 1e-6);
    }
    CLOSE_CLEAN(ctx);
}

// A table of position buckets: its first step is lr * bias_lr whatever its size, and relative to
// it, like that of any other tensor, where bias_lr is 0.
static void train_bias_rate(void)
{
    for (int i = 0; i < 4; i++) {
        glam_ctx *ctx = test_ctx();
        glam_recipe recipe = plain_recipe(i < 2 ? GLAM_ADAFACTOR : GLAM_ADAMW);
        glam_tensor *x = glam_param(ctx, "layers.0.attn.bias", glam_dim1(4));
        float g[4] = { 1e-3f, -3, 0.2f, 7 };
        recipe.bias_lr = i % 2 ? 10 : 0;
        glam_fill(x, 0.5f);
        glam_optimizer *opt = glam_optimizer_new(ctx, &x, 1, &recipe);
        CHECK(opt_step(ctx, opt, x, g, NULL) == GLAM_OK);
        double step = i % 2 ? 0.01 * 10 : i == 0 ? 0.01 * 0.5 : 0.01;
        for (int k = 0; k < 4; k++)
            CHECK_NEAR(x->data[k], 0.5 - step * (g[k] > 0 ? 1 : -1), 1e-5);
        CLOSE_CLEAN(ctx);
    }
}

static void train_adamw_values(void)
{
    for (int all = 0; all < 2; all++) {
        glam_ctx *ctx = test_ctx();
        glam_recipe recipe = plain_recipe(GLAM_ADAMW);
        static double w[2][40], m[2][40], v[2][40];
        glam_tensor *p[2];
        glam_report report;
        recipe.beta1 = 0.9;
        recipe.beta2 = 0.97;
        recipe.eps = 1e-6;
        recipe.weight_decay = 0.3;
        recipe.decay_all = all;
        p[0] = glam_param(ctx, "table", glam_dim2(8, 5));
        p[1] = glam_param(ctx, "gain", glam_dim1(40));
        for (int k = 0; k < 2; k++) {
            test_fill(p[k]->data, 40, 3 + (uint64_t)k, -1, 1);
            for (int i = 0; i < 40; i++) {
                w[k][i] = (double)p[k]->data[i];
                m[k][i] = v[k][i] = 0;
            }
        }
        glam_optimizer *opt = glam_optimizer_new(ctx, p, 2, &recipe);
        for (int t = 0; t < 9; t++) {
            float *g = test_floats(80, 90 + (uint64_t)t, -1, 1);
            glam_tensor *a = glam_sum(ctx, glam_mul(ctx, p[0], glam_input(ctx, g, glam_dim2(8, 5))));
            glam_tensor *b = glam_sum(ctx, glam_mul(ctx, p[1], glam_input(ctx, g + 40, glam_dim1(40))));
            CHECK(glam_update(opt, glam_add(ctx, a, b), &report) == GLAM_OK);
            double norm = 0;
            for (int i = 0; i < 80; i++) {
                double *ww = &w[i / 40][i % 40], *mm = &m[i / 40][i % 40], *vv = &v[i / 40][i % 40];
                double gg = (double)g[i];
                *mm = 0.9 * *mm + 0.1 * gg;
                *vv = 0.97 * *vv + 0.03 * gg * gg;
                double mh = *mm / (1 - pow(0.9, t + 1)), vh = *vv / (1 - pow(0.97, t + 1));
                double decay = i < 40 ? 0.3 : 0;       // rank one is never decayed
                *ww -= 0.01 * (mh / (sqrt(vh) + 1e-6) + decay * *ww);
                norm += gg * gg;
            }
            CHECK(test_off(p[0]->data, w[0], 40) < 2e-6);
            CHECK(test_off(p[1]->data, w[1], 40) < 2e-6);
            CHECK_NEAR(report.grad_norm, sqrt(norm), 1e-5 * sqrt(norm));
            CHECK_NEAR(report.lr, 0.01, 1e-9);
            free(g);
        }
        CLOSE_CLEAN(ctx);
    }
}

// Over all tensors of a model, with a gradient of one everywhere (times gradient).
static glam_model *train_model_step(glam_ctx *ctx, const glam_recipe *recipe, float gradient)
{
    glam_config c = test_config();
    glam_tensor *p[64], *loss = NULL;
    int n = 0;
    c.tied = 0;
    glam_model *model = glam_model_new(ctx, &c);
    for (; n < 64 && glam_model_tensor_at(model, n); n++) p[n] = glam_model_tensor_at(model, n);
    glam_optimizer *opt = glam_optimizer_new(ctx, p, n, recipe);
    for (int i = 0; i < n; i++) {
        glam_fill(p[i], 1);
        glam_tensor *sum = glam_scale(ctx, glam_sum(ctx, p[i]), gradient);
        loss = loss ? glam_add(ctx, loss, sum) : sum;
    }
    CHECK(glam_update(opt, loss, NULL) == GLAM_OK);
    return model;
}

// Without decay_all embed, tables and router do not decay; norms, of rank one, never do.
static void train_decay_by_name(void)
{
    for (int all = 0; all < 2; all++) {
        glam_ctx *ctx = test_ctx();
        glam_recipe recipe = plain_recipe(GLAM_ADAMW);
        recipe.weight_decay = 0.5;
        recipe.decay_all = all;
        glam_model *model = train_model_step(ctx, &recipe, 0);
        for (int i = 0; glam_model_tensor_at(model, i); i++) {
            glam_tensor *t = glam_model_tensor_at(model, i);
            int never = t->shape.dims < 2;
            int listed = strstr(t->name, "embed") || strstr(t->name, "router") || strstr(t->name, "bias");
            double want = never || (listed && !all) ? 1 : 1 - 0.01 * 0.5;
            if (!CHECK_NEAR(t->data[3], want, 1e-7)) printf("  %s\n", t->name);
        }
        CLOSE_CLEAN(ctx);
    }
}

// The rate of embed and unembed is their own; the first step of AdamW is lr times the sign.
static void train_embed_rate(void)
{
    glam_ctx *ctx = test_ctx();
    glam_recipe recipe = plain_recipe(GLAM_ADAMW);
    recipe.embed_lr = 3;
    glam_model *model = train_model_step(ctx, &recipe, 0.5f);
    for (int i = 0; glam_model_tensor_at(model, i); i++) {
        glam_tensor *t = glam_model_tensor_at(model, i);
        if (!CHECK_NEAR(t->data[3], strstr(t->name, "embed") ? 0.97 : 0.99, 1e-6)) printf("  %s\n", t->name);
    }
    CLOSE_CLEAN(ctx);
}

// With a huge eps AdamW is plain descent, w -= g: that shows the clipped gradient itself.
static glam_recipe descent_recipe(void)
{
    glam_recipe r = plain_recipe(GLAM_ADAMW);
    r.eps = r.lr = 1e12;
    r.embed_lr = 1;
    return r;
}

static void train_clip(void)
{
    for (int i = 0; i < 3; i++) {
        static const double clip[3] = { 0, 1, 10 };
        glam_ctx *ctx = test_ctx();
        glam_recipe recipe = descent_recipe();
        glam_tensor *x = glam_param(ctx, "x", glam_dim1(2));
        glam_report report;
        float g[2] = { 3, -4 };
        recipe.clip = clip[i];
        glam_optimizer *opt = glam_optimizer_new(ctx, &x, 1, &recipe);
        CHECK(opt_step(ctx, opt, x, g, &report) == GLAM_OK);
        double scale = i == 1 ? 0.2 : 1;
        CHECK_NEAR(x->data[0], -3 * scale, 1e-5);
        CHECK_NEAR(x->data[1], 4 * scale, 1e-5);
        CHECK_NEAR(report.grad_norm, 5, 1e-5);
        CLOSE_CLEAN(ctx);
    }
}

// --- parts, frozen parts -------------------------------------------------------------------------

// One step of plain descent from the same start; deltas of all weights in out.  Returns how many.
static size_t train_gradient(int accumulate, int recompute, float *out, glam_report *report)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = train_config();
    size_t n = 0;
    c.moe.group = 16;                       // groups lie inside a row, so parts do not cut them
    c.moe.capacity_factor = 1;
    glam_model *model = glam_model_new(ctx, &c);
    glam_recipe recipe = descent_recipe();
    recipe.steps = 1;
    recipe.batch = 8;
    recipe.accumulate = accumulate;
    recipe.recompute = recompute;
    glam_trainer *trainer = glam_trainer_new(model, test_text(ctx, 3000), NULL, &recipe);
    for (int sign = 0; sign < 2; sign++) {
        size_t at = 0;
        if (sign) glam_train_step(trainer, report);
        for (int i = 0; glam_model_tensor_at(model, i); i++) {
            glam_tensor *t = glam_model_tensor_at(model, i);
            for (size_t e = 0; e < glam_size(t); e++, at++) out[at] = t->data[e] - (sign ? out[at] : 0);
        }
        n = at;
    }
    CLOSE_CLEAN(ctx);
    return n;
}

static void train_parts_equal_one_batch(void)
{
    float *one = test_floats(60000, 0, 0, 0), *cut = test_floats(60000, 0, 0, 0);
    glam_report a, b;
    memset(&a, 0, sizeof a);
    size_t n = train_gradient(1, 0, one, &a);
    for (int parts = 2; parts <= 8; parts *= 2) {
        double worst = 0, top = 0;
        memset(&b, 0, sizeof b);
        CHECK(train_gradient(parts, 0, cut, &b) == n);
        for (size_t i = 0; i < n; i++) {
            double off = fabs((double)one[i] - (double)cut[i]);
            if (off > worst) worst = off;
            if (fabs((double)one[i]) > top) top = fabs((double)one[i]);
        }
        CHECK(top > 1e-3 && worst <= 1e-6 * (top > 1 ? top : 1));
        CHECK_NEAR(a.loss, b.loss, 1e-6);
        CHECK_NEAR(a.grad_norm, b.grad_norm, 1e-5 * a.grad_norm);
        CHECK_NEAR(a.aux_loss, b.aux_loss, 1e-6);
        CHECK_NEAR(a.dropped, b.dropped, 1e-9);
        CHECK(a.tokens == 128 && b.tokens == 128);
    }
    free(one);
    free(cut);
}

static void train_frozen(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = train_config();
    glam_model *model = glam_model_new(ctx, &c), *twin = glam_model_new(ctx, &c);
    glam_recipe recipe = train_recipe(5);
    glam_report report;
    CHECK(glam_freeze(model, "experts", 1) > 0 && glam_freeze(model, "layers.1", 1) > 0);
    CHECK(glam_freeze(model, "norm", 1) == 1);
    glam_trainer *trainer = glam_trainer_new(model, test_text(ctx, 2000), NULL, &recipe);
    const char *summary = glam_trainer_summary(trainer);
    CHECK(summary && strstr(summary, "trains") && strstr(summary, "attention"));
    CHECK(summary && !strstr(summary, "experts") && strstr(summary, "router"));
    while (glam_train_step(trainer, &report)) { }
    for (int i = 0; glam_model_tensor_at(model, i); i++) {
        glam_tensor *t = glam_model_tensor_at(model, i), *u = glam_model_tensor(twin, t->name);
        int same = !memcmp(t->data, u->data, glam_size(t) * sizeof(float));
        CHECK(same == !t->wants_grad);
        if (!t->wants_grad) CHECK(t->grad == NULL);
    }
    CHECK(glam_trainer_done(trainer) == 5 && glam_trainer_model(trainer) == model);
    CHECK(glam_trainer_recipe(trainer)->steps == 5);
    CLOSE_CLEAN(ctx);
}

static void train_aux_off_when_frozen(void)
{
    for (int off = 0; off < 2; off++) {
        glam_ctx *ctx = test_ctx();
        glam_config c = train_config();
        glam_model *model = glam_model_new(ctx, &c);
        glam_recipe recipe = train_recipe(1);
        glam_report report;
        recipe.aux_off_when_frozen = off;
        glam_freeze(model, "experts", 1);
        glam_freeze(model, "router", 1);
        glam_trainer *trainer = glam_trainer_new(model, test_text(ctx, 2000), NULL, &recipe);
        glam_train_step(trainer, &report);
        CHECK((report.aux_loss == 0) == off);
        CHECK(report.balance > 0.5);
        CLOSE_CLEAN(ctx);
    }
    CHECK(glam_recipe_finetune().aux_off_when_frozen == 1);
    CHECK(glam_recipe_finetune().lr < glam_recipe_default().lr);
    CHECK(glam_recipe_finetune().patience > 0);
    CHECK(glam_recipe_quick().steps < glam_recipe_default().steps);
    CHECK_NEAR(glam_recipe_lr(NULL, 0), glam_recipe_default().lr / (glam_recipe_default().warmup + 1), 1e-12);
}

// --- steps that are not finite, cancelling -------------------------------------------------------

static void train_skips_nan(void)
{
    for (int kind = 0; kind < 2; kind++) {
        glam_ctx *ctx = test_ctx();
        glam_recipe recipe = plain_recipe(kind ? GLAM_ADAMW : GLAM_ADAFACTOR);
        glam_tensor *x = glam_param(ctx, "x", glam_dim1(5)), *y = glam_param(ctx, "y", glam_dim1(5));
        float good[5] = { 1, -2, 3, -4, 5 }, bad[5] = { 1, 2, 3, 4, 5 }, before[5], after[5];
        glam_report report;
        recipe.max_bad_steps = 3;
        glam_fill(x, 1);
        glam_fill(y, 1);
        bad[3] = (float)NAN;
        glam_optimizer *opt = glam_optimizer_new(ctx, &x, 1, &recipe);
        glam_optimizer *twin = glam_optimizer_new(ctx, &y, 1, &recipe);
        for (int step = 0; step < 6; step++) {
            CHECK(opt_step(ctx, opt, x, good, &report) == GLAM_OK && !report.skipped);
            CHECK(opt_step(ctx, twin, y, good, NULL) == GLAM_OK);
            memcpy(before, x->data, sizeof before);
            CHECK(opt_step(ctx, opt, x, bad, &report) == GLAM_OK);
            CHECK(report.skipped == 1 && report.bad_steps == step + 1);
            CHECK(!memcmp(before, x->data, sizeof before));
        }
        // The skipped steps left no trace in the optimiser either.
        CHECK(!memcmp(x->data, y->data, sizeof after));
        CHECK(opt_step(ctx, opt, x, bad, &report) == GLAM_OK);         // the second in a row
        CHECK(opt_step(ctx, opt, x, bad, &report) == GLAM_ERR_NUMERIC);
        CHECK(strstr(glam_error_text(ctx), "3") != NULL);
        CHECK(!memcmp(x->data, y->data, sizeof after));
        ERROR_IS(ctx, GLAM_ERR_NUMERIC, "finite");
        CLOSE_CLEAN(ctx);
    }
}

// A finite loss whose gradient is infinite: log at 1e-39, and an overflow in the sum of squares.
static void train_skips_infinite_gradient(void)
{
    glam_ctx *ctx = test_ctx();
    glam_recipe recipe = plain_recipe(GLAM_ADAMW);
    glam_tensor *x = glam_param(ctx, "x", glam_dim1(1));
    glam_report report;
    x->data[0] = 1e-39f;
    glam_optimizer *opt = glam_optimizer_new(ctx, &x, 1, &recipe);
    CHECK(glam_update(opt, glam_log(ctx, x), &report) == GLAM_OK);
    CHECK(report.skipped == 1 && x->data[0] == 1e-39f);
    CLOSE_CLEAN(ctx);
}

// An update that floats cannot hold changes nothing, not even a tensor before it or a slot: the
// steps around it have the bits of a twin that never met it.  early: within backward.
static void train_skips_overflow(void)
{
    for (int i = 0; i < 6; i++) {
        int early = i % 2, adamw = i / 2 != 0, gradient = i / 2 == 2;
        glam_ctx *ctx = test_ctx();
        glam_recipe recipe = plain_recipe(adamw ? GLAM_ADAMW : GLAM_ADAFACTOR);
        glam_tensor *p[2], *q[2];
        glam_report report;
        float kept;
        recipe.update_in_backward = early;
        recipe.lr = adamw && !gradient ? 5e37 : 0.01;
        for (int k = 0; k < 2; k++) {
            p[k] = glam_param(ctx, k ? "b" : "a", glam_dim1(3));
            q[k] = glam_param(ctx, k ? "b" : "a", glam_dim1(3));
            glam_fill(p[k], 1);
            glam_fill(q[k], 1);
        }
        glam_optimizer *opt = glam_optimizer_new(ctx, p, 2, &recipe);
        glam_optimizer *twin = glam_optimizer_new(ctx, q, 2, &recipe);
        for (int step = 0; step < 4; step++) {
            glam_tensor *sum = glam_add(ctx, glam_scale(ctx, p[1], -1e-3f), glam_scale(ctx, p[0], 5e-4f));
            CHECK(glam_update(opt, glam_sum(ctx, sum), &report) == GLAM_OK && !report.skipped);
            sum = glam_add(ctx, glam_scale(ctx, q[1], -1e-3f), glam_scale(ctx, q[0], 5e-4f));
            CHECK(glam_update(twin, glam_sum(ctx, sum), NULL) == GLAM_OK);
            CHECK(report.step == step + 1);
            // now with b[2] near the largest float, or with a gradient whose square is beyond it; b's
            // backward comes first
            kept = p[1]->data[2];
            if (!gradient) p[1]->data[2] = 3.2e38f;
            sum = glam_scale(ctx, p[0], 5e-4f);
            sum = glam_add(ctx, sum, glam_scale(ctx, p[1], gradient ? -2e19f : -1e-3f));
            CHECK(glam_update(opt, glam_sum(ctx, sum), &report) == GLAM_OK);
            CHECK(report.skipped == 1 && report.bad_steps == step + 1 && report.step == step + 1);
            CHECK(report.torn == early);
            CHECK(gradient || p[1]->data[2] == 3.2e38f);
            p[1]->data[2] = kept;
            if (!CHECK(!memcmp(p[0]->data, q[0]->data, 3 * sizeof(float))) ||
                !CHECK(!memcmp(p[1]->data, q[1]->data, 3 * sizeof(float)))) printf("  case %d\n", i);
        }
        CLOSE_CLEAN(ctx);
    }
}

// A large decay or a tiny eps are tried before they are refused: what fits is done.
static void train_tries_what_looks_large(void)
{
    for (int i = 0; i < 2; i++) {
        glam_ctx *ctx = test_ctx();
        glam_recipe recipe = plain_recipe(GLAM_ADAMW);
        glam_report report;
        glam_tensor *x = glam_param(ctx, "x", glam_dim2(30, 20));
        float *g = test_floats(600, 3, 0.5, 1);
        recipe.eps = i ? 1e-30 : 1e-8;
        recipe.lr = i ? 0.01 : 1e30;
        glam_fill(x, 1);
        glam_optimizer *opt = glam_optimizer_new(ctx, &x, 1, &recipe);
        CHECK(opt_step(ctx, opt, x, g, &report) == GLAM_OK && !report.skipped);
        for (int k = 0; k < 600; k++) CHECK_NEAR(x->data[k], 1 - recipe.lr, 1e-5 * recipe.lr);
        free(g);
        CLOSE_CLEAN(ctx);
    }
}

// A model whose weight is not finite: train steps are skipped, counted, and latch at the end.
static void train_bad_model(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = train_config();
    glam_model *model = glam_model_new(ctx, &c);
    glam_recipe recipe = train_recipe(50);
    glam_report report;
    int steps = 0;
    recipe.max_bad_steps = 4;
    glam_trainer *trainer = glam_trainer_new(model, test_text(ctx, 2000), NULL, &recipe);
    CHECK(glam_train_step(trainer, &report) == 1);
    glam_tensor *t = glam_model_tensor(model, "norm");
    t->data[2] = (float)INFINITY;
    uint64_t hash = test_model_hash(model);
    while (glam_train_step(trainer, &report)) {
        CHECK(report.skipped == 1);
        if (++steps > 10) break;
    }
    CHECK(steps == 3);                              // the fourth latches
    CHECK(hash == test_model_hash(model));
    CHECK(report.bad_steps == 4);
    // Nothing can be done with the model while the error stands; then it is saved as it was.
    CHECK(glam_save_memory(model, NULL, 0) == 0);
    ERROR_IS(ctx, GLAM_ERR_NUMERIC, "finite");
    t->data[2] = 1;
    hash = test_model_hash(model);
    size_t bytes = glam_save_memory(model, NULL, 0);
    void *file = malloc(bytes + 1);
    CHECK(bytes > 0 && glam_save_memory(model, file, bytes) == bytes);
    CHECK(test_model_hash(glam_load_memory(ctx, file, bytes)) == hash);
    CHECK(glam_train_step(trainer, &report) == 1 && !report.skipped);      // and on it goes
    free(file);
    CLOSE_CLEAN(ctx);
}

// A NaN or an infinity in any tensor goes through every activation behind it: the step is skipped and
// nothing else has moved.
static void train_bad_anywhere(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = train_config();
    glam_recipe recipe = train_recipe(500);
    glam_report report;
    glam_model *model = glam_model_new(ctx, &c);
    glam_trainer *trainer = glam_trainer_new(model, test_text(ctx, 2000), NULL, &recipe);
    glam_tensor *t;
    for (int p = 0; (t = glam_model_tensor_at(model, p)) != NULL; p++)
        for (int kind = 0; kind < 2; kind++) {
            float kept = t->data[0];
            CHECK(glam_train_step(trainer, &report) == 1 && !report.skipped);
            kept = t->data[0];
            t->data[0] = kind ? (float)HUGE_VAL : (float)NAN;
            uint64_t hash = test_model_hash(model);
            CHECK(glam_train_step(trainer, &report) == 1);
            if (!CHECK(report.skipped == 1)) printf("  %s\n", t->name);
            CHECK(hash == test_model_hash(model));
            t->data[0] = kept;
        }
    CLOSE_CLEAN(ctx);
}

static void train_note_collapse(void *user, const char *line)
{
    int *count = (int *)user;
    count[0] += strstr(line, "layer 0: expert 0 has had almost no tokens for 100 steps") != NULL;
    count[1] += strstr(line, "layer 0: expert 1 has had 94 % of the tokens for 100 steps") != NULL;
    count[2]++;
}

// A starving expert and a crowded one are told of once, after a hundred steps in a row of it.
static void train_collapse(void)
{
    int count[3] = { 0, 0, 0 };
    glam_options options = test_options();
    options.log = train_note_collapse;
    options.log_user = count;
    glam_ctx *ctx = glam_open(&options);
    glam_config c = train_config();
    glam_recipe recipe = train_recipe(2);
    glam_trainer *t = glam_trainer_new(glam_model_new(ctx, &c), test_text(ctx, 2000), NULL, &recipe);
    count[2] = 0;
    for (int step = 1; step <= 250; step++) {
        for (int e = 0; e < 4; e++) t->load[e] = e == 0 ? step == 30 : e == 1 ? 60 : 34;
        glam__watch_collapse(t);
        CHECK(count[0] == (step >= 130) && count[1] == (step >= 100));
    }
    CHECK(count[2] == 2);
    CLOSE_CLEAN(ctx);
}

// Every allocation of a trainer's life refused once: the call says so, and after glam_clear_error the
// same call goes on; in the end everything has the bits of a life without trouble.
static uint64_t train_life(long fail_at, int early, long *calls, double *valid_loss)
{
    glam_options options = test_options();
    test_heap heap;
    options.threads = 1;
    test_heap_into(&heap, &options);
    heap.fail_at = fail_at;
    glam_ctx *ctx = glam_open(&options);
    uint64_t hash = 0;
    *valid_loss = -1;
    if (ctx) {
        glam_config c = train_config();
        glam_recipe recipe = train_recipe(4);
        glam_text *all = NULL, *train = NULL, *valid = NULL;
        glam_model *model = NULL;
        glam_trainer *trainer = NULL;
        glam_report report;
        int done = 0, failed = 0;
        recipe.eval_every = 2;
        recipe.update_in_backward = early;
        if (early) recipe.clip = 0;
        glam_clear_error(ctx);
        while (!all && failed < 2) if (!(all = test_text(ctx, 6000))) { failed++; glam_clear_error(ctx); }
        while (!valid && failed < 2)
            if (glam_text_split(all, 0.4f, &train, &valid) != GLAM_OK) { failed++; glam_clear_error(ctx); }
        while (!model && failed < 2) {
            size_t mark = glam_mark(ctx);
            if ((model = glam_model_new(ctx, &c)) != NULL) break;
            CHECK(glam_error(ctx) == GLAM_ERR_MEMORY && glam_mark(ctx) == mark);
            failed++;
            glam_clear_error(ctx);
        }
        while (!trainer && failed < 2) {
            size_t mark = glam_mark(ctx);
            if ((trainer = glam_trainer_new(model, train, valid, &recipe)) != NULL) break;
            CHECK(glam_error(ctx) == GLAM_ERR_MEMORY && glam_mark(ctx) == mark);
            failed++;
            glam_clear_error(ctx);
        }
        while (trainer && failed < 2 && done < 4) {
            int before = glam_trainer_done(trainer);
            if (glam_train_step(trainer, &report)) {
                CHECK(report.step == ++done);
                continue;
            }
            CHECK(glam_error(ctx) == GLAM_ERR_MEMORY);
            CHECK(glam_trainer_done(trainer) == before || report.step == before + 1);
            failed++;
            glam_clear_error(ctx);
        }
        CHECK(failed < 2 && done == 4 && glam_train_step(trainer, NULL) == 0);
        if (failed < 2) hash = test_model_hash(model);
        if (failed < 2) *valid_loss = report.valid_loss;
        CHECK(glam_error(ctx) == GLAM_OK);
    }
    glam_close(ctx);
    CHECK(heap.live == 0 && heap.wrong == 0);
    *calls = heap.calls;
    return hash;
}

static void train_every_allocation(void)
{
    for (int early = 0; early < 2; early++) {
        long calls, ignored;
        double valid, other;
        uint64_t want = train_life(0, early, &calls, &valid);
        CHECK(calls > 10 && valid > 0);
        for (long k = 2; k <= calls; k++)
            if (!CHECK(train_life(k, early, &ignored, &other) == want && other == valid))
                printf("  allocation %ld of %ld\n", k, calls);
    }
}

static int train_cancel_now(void *user)
{
    int *calls = (int *)user;
    return *calls > 0 && --*calls == 0;
}

static void train_cancel(void)
{
    uint64_t want = 0;
    for (int cancelled = 0; cancelled < 3; cancelled++) {
        glam_options options = test_options();
        int calls = 0, stops = 0;
        options.cancel = train_cancel_now;
        options.cancel_user = &calls;
        glam_ctx *ctx = glam_open(&options);
        glam_config c = train_config();
        glam_model *model = glam_model_new(ctx, &c);
        glam_recipe recipe = train_recipe(6);
        glam_report report;
        glam_trainer *trainer = glam_trainer_new(model, test_text(ctx, 2000), NULL, &recipe);
        for (int i = 0; i < 3; i++) CHECK(glam_train_step(trainer, &report) == 1);
        uint64_t hash = test_model_hash(model);
        calls = cancelled;                          // the first or second poll says stop
        if (cancelled) {
            CHECK(glam_train_step(trainer, &report) == 0);
            CHECK(report.cancelled == 1);
            CHECK(hash == test_model_hash(model) && glam_trainer_done(trainer) == 3);
            CHECK(glam_error(ctx) == GLAM_OK);
            CHECK(glam_save_memory(model, NULL, 0) > 0);
            stops++;
        }
        while (glam_train_step(trainer, &report)) CHECK(!report.cancelled);
        CHECK(glam_trainer_done(trainer) == 6);
        if (!cancelled) want = test_model_hash(model);
        CHECK(want == test_model_hash(model));      // as if it had never been cancelled
        CLOSE_CLEAN(ctx);
    }
}

// A validation that was cancelled has no result: what the last one found stands.
static void train_cancel_validation(void)
{
    glam_options options = test_options();
    int calls = 0;
    options.cancel = train_cancel_now;
    options.cancel_user = &calls;
    glam_ctx *ctx = glam_open(&options);
    glam_config c = train_config();
    glam_recipe recipe = train_recipe(3);
    glam_report report;
    glam_perplexity_report all;
    glam_text *text = test_text(ctx, 6000);
    glam_trainer *trainer = glam_trainer_new(glam_model_new(ctx, &c), text, text, &recipe);
    glam_train_step(trainer, &report);
    double want = glam_validate(trainer);
    calls = 2;
    CHECK(want > 0 && glam_validate(trainer) < 0 && calls == 0);
    glam_train_step(trainer, &report);
    CHECK(report.valid_loss == want);
    calls = 2;
    CHECK(glam_perplexity(glam_trainer_model(trainer), text, 0, &all) == GLAM_OK);
    CHECK(all.tokens == 0 && all.loss == 0);
    CLOSE_CLEAN(ctx);
}

// --- same bits -----------------------------------------------------------------------------------

// Hands the chunks out backwards, in pieces of odd sizes, under changing worker numbers.
static void train_host_workers(void *user, int chunks, glam_body *body, void *arg)
{
    int *calls = (int *)user, worker = 0;
    ++*calls;
    for (int end = chunks; end > 0; ) {
        int begin = end - 1 - (end + *calls) % 3;
        if (begin < 0) begin = 0;
        body(arg, begin, end, worker);
        worker = (worker + 1) % 5;
        end = begin;
    }
}

static uint64_t train_hash(int threads, int host, int recompute, int kind, double *loss)
{
    glam_options options = test_options();
    int calls = 0;
    options.threads = host ? 5 : threads;
    if (host) {
        options.parallel_for = train_host_workers;
        options.parallel_user = &calls;
    }
    glam_ctx *ctx = glam_open(&options);
    glam_config c = train_config();
    c.layers = 4;
    c.d_model = 32;
    c.heads = 2;
    c.d_head = 16;
    c.hidden = 70;
    c.moe.hidden = 40;
    c.context = 40;
    c.position = kind % 2 ? GLAM_POSITION_TRANSFORMER_XL : GLAM_POSITION_BUCKETS;
    c.moe.capacity_factor = kind / 2 % 2 ? 2.0f : 0;
    if (kind > 3) {
        c.attention_cap = 0.5f;
        c.moe.router_cap = 0.75f;
        c.logit_cap = 1.5f;
    }
    if (kind > 7) test_family(&c, kind - 8);
    glam_model *model = glam_model_new(ctx, &c);
    glam_recipe recipe = train_recipe(10);
    glam_report report;
    recipe.batch = 6;
    recipe.accumulate = 1 + kind % 2;
    recipe.recompute = recompute;
    if (kind >= 2) recipe.optimizer = GLAM_ADAFACTOR;
    if (kind >= 2) recipe.lr = 0.01;
    recipe.factor_min = 16;
    glam_trainer *trainer = glam_trainer_new(model, test_text(ctx, 4000), NULL, &recipe);
    train_run(trainer, &report);
    uint64_t hash = test_model_hash(model);
    CHECK(report.step == 10 && report.skipped == 0);
    CHECK(!host || calls > 0);
    if (loss) *loss = report.loss;
    CLOSE_CLEAN(ctx);
    return hash;
}

static void train_threads_same_bits(void)
{
    static const int threads[5] = { 1, 2, 3, 4, 7 };
    for (int kind = 0; kind < 9; kind += kind == 5 ? 3 : 1) {          // 8: another family
        uint64_t want = train_hash(1, 0, 0, kind, NULL);
        for (int i = 1; i < 5; i++) CHECK(train_hash(threads[i], 0, 0, kind, NULL) == want);
        CHECK(train_hash(0, 1, 0, kind, NULL) == want);
    }
    CHECK(train_hash(1, 0, 0, 0, NULL) != train_hash(1, 0, 0, 1, NULL));
    CHECK(train_hash(1, 0, 0, 2, NULL) != train_hash(1, 0, 0, 6, NULL));      // caps do something
}

static void train_recompute_same_bits(void)
{
    for (int kind = 0; kind < 10; kind++) {
        CHECK(train_hash(2, 0, 0, kind, NULL) == train_hash(2, 0, 1, kind, NULL));
    }
}

// --- update in backward ----------------------------------------------------------------------

// Ten steps; how many bytes they took in *bytes, the last gradient's norm in *norm.
static uint64_t train_early(int early, int kind, uint64_t *bytes, double *norm)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = train_config();
    c.layers = 4;
    c.d_model = 32;
    c.heads = 2;
    c.d_head = 16;
    c.tied = kind != 2;
    c.position = kind % 2 ? GLAM_POSITION_TRANSFORMER_XL : GLAM_POSITION_BUCKETS;
    glam_model *model = glam_model_new(ctx, &c);
    glam_recipe recipe = train_recipe(10);
    glam_report report;
    recipe.optimizer = kind < 2 ? GLAM_ADAFACTOR : GLAM_ADAMW;
    recipe.lr = kind < 2 ? 0.02 : 2e-3;
    recipe.factor_min = 16;
    recipe.clip = 0;
    recipe.batch = 1;                    // gradients outweigh what a forward pass saves
    recipe.recompute = kind % 2;
    recipe.update_in_backward = early;
    if (kind == 3) CHECK(glam_freeze(model, "attention", 1) > 0 && glam_freeze(model, "layers.3", 1) > 0);
    glam_trainer *trainer = glam_trainer_new(model, test_text(ctx, 4000), NULL, &recipe);
    train_run(trainer, &report);
    CHECK(report.step == 10 && report.skipped == 0 && report.torn == 0);
    *norm = report.grad_norm;
    *bytes = glam_memory(ctx).total;
    for (int i = 0; early && glam_model_tensor_at(model, i); i++)
        CHECK(glam_model_tensor_at(model, i)->grad == NULL);
    uint64_t hash = test_model_hash(model);
    CLOSE_CLEAN(ctx);
    return hash;
}

// The bits of the ordinary path, in less memory.
static void train_early_same_bits(void)
{
    for (int kind = 0; kind < 4; kind++) {
        uint64_t bytes[2], hash[2];
        double norm[2];
        for (int early = 0; early < 2; early++)
            hash[early] = train_early(early, kind, &bytes[early], &norm[early]);
        CHECK(hash[0] == hash[1] && norm[0] == norm[1] && norm[0] > 0);
        CHECK(bytes[1] < bytes[0]);
    }
}

// A parameter that the loss does not reach decays like any other.
static void train_early_unreached(void)
{
    float got[2];
    for (int early = 0; early < 2; early++) {
        glam_ctx *ctx = test_ctx();
        glam_recipe recipe = plain_recipe(GLAM_ADAMW);
        glam_tensor *p[2] = { glam_param(ctx, "x", glam_dim1(3)), glam_param(ctx, "w", glam_dim2(2, 2)) };
        recipe.weight_decay = 0.5;
        recipe.update_in_backward = early;
        glam_fill(p[0], 1);
        glam_fill(p[1], 1);
        glam_optimizer *opt = glam_optimizer_new(ctx, p, 2, &recipe);
        CHECK(glam_update(opt, glam_sum(ctx, glam_mul(ctx, p[0], p[0])), NULL) == GLAM_OK);
        got[early] = p[1]->data[3];
        CLOSE_CLEAN(ctx);
    }
    CHECK(got[0] == got[1] && got[0] < 1);
}

// One gradient of two is not finite: what came before it in backward has moved, nothing else has;
// a loss that is not finite moves nothing at all.
static void train_early_torn(void)
{
    for (int kind = 0; kind < 2; kind++) {
        glam_ctx *ctx = test_ctx();
        glam_recipe recipe = plain_recipe(GLAM_ADAMW);
        glam_report report;
        glam_tensor *p[3];
        recipe.update_in_backward = 1;
        for (int i = 0; i < 3; i++) {
            p[i] = glam_param(ctx, i ? i == 1 ? "b" : "c" : "a", glam_dim1(1));
            p[i]->data[0] = i == 1 ? kind ? -1 : 1e-39f : 2;
        }
        glam_optimizer *opt = glam_optimizer_new(ctx, p, 3, &recipe);
        glam_tensor *a = glam_mul(ctx, p[0], p[0]), *b = glam_log(ctx, p[1]);
        glam_tensor *loss = glam_mul(ctx, glam_add(ctx, a, b), p[2]);      // backward: c, b, a
        CHECK(glam_update(opt, loss, &report) == GLAM_OK);
        CHECK(report.skipped == 1 && report.torn == !kind && report.bad_steps == 1);
        CHECK((p[2]->data[0] != 2) == !kind);
        CHECK(p[0]->data[0] == 2 && p[1]->data[0] == (kind ? -1 : 1e-39f));
        p[1]->data[0] = 3;                                                 // and it goes on
        loss = glam_mul(ctx, glam_add(ctx, glam_mul(ctx, p[0], p[0]), glam_log(ctx, p[1])), p[2]);
        CHECK(glam_update(opt, loss, &report) == GLAM_OK && !report.skipped && !report.torn);
        CHECK(p[0]->data[0] != 2 && p[1]->data[0] != 3);
        CLOSE_CLEAN(ctx);
    }
}

static glam_tensor *train_shared_block(glam_ctx *ctx, void *arg, glam_tensor *x, glam_tensor **extra)
{
    (void)extra;
    return glam_mul(ctx, x, (glam_tensor *)arg);
}

static void train_early_failures(void)
{
    glam_ctx *ctx = test_ctx();
    glam_recipe recipe = plain_recipe(GLAM_ADAMW);
    glam_tensor *x = glam_param(ctx, "shared", glam_dim1(4));
    recipe.update_in_backward = 1;
    glam_optimizer *opt = glam_optimizer_new(ctx, &x, 1, &recipe);
    glam_tensor *y = glam_zeros(ctx, glam_dim1(4));
    y = glam_recompute(ctx, train_shared_block, x, y, NULL);
    y = glam_recompute(ctx, train_shared_block, x, y, NULL);
    CHECK(glam_update(opt, glam_sum(ctx, y), NULL) == GLAM_ERR_STATE);
    ERROR_IS(ctx, GLAM_ERR_STATE, "shared is used by two recomputed blocks");
    CLOSE_CLEAN(ctx);
}

// Stopped after 7 of 12 steps and resumed in a fresh context: the same weights and reports.
static void train_resume_same_bits(void)
{
    for (int kind = 0; kind < 2; kind++) {
        uint64_t want = 0;
        double loss = 0;
        char path[1024];
        snprintf(path, sizeof path, "%s", test_path("resume.safetensors"));
        for (int part = 0; part < 3; part++) {
            glam_ctx *ctx = test_ctx();
            glam_config c = train_config();
            glam_recipe recipe = train_recipe(12);
            glam_report report;
            glam_text *text = test_text(ctx, 3000);
            glam_trainer *trainer;
            memset(&report, 0, sizeof report);
            recipe.optimizer = kind ? GLAM_ADAFACTOR : GLAM_ADAMW;
            recipe.factor_min = kind ? 7 : 128;
            if (part < 2) trainer = glam_trainer_new(glam_model_new(ctx, &c), text, NULL, &recipe);
            else trainer = glam_load_checkpoint(ctx, path, text, NULL);
            if (part == 1) {
                for (int i = 0; i < 7; i++) glam_train_step(trainer, NULL);
                CHECK(glam_save_checkpoint(trainer, path) == GLAM_OK);
            } else train_run(trainer, &report);
            uint64_t hash = test_model_hash(glam_trainer_model(trainer));
            if (part == 0) { want = hash; loss = report.loss; }
            if (part == 2) {
                CHECK(hash == want && report.loss == loss);
                CHECK(glam_trainer_done(trainer) == 12 && report.tokens == 12 * 4 * 16);
            }
            CLOSE_CLEAN(ctx);
        }
        remove(path);
    }
}

// A resumed run may be given another end.
static void train_more_steps(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = train_config();
    glam_recipe recipe = train_recipe(3);
    glam_trainer *trainer = glam_trainer_new(glam_model_new(ctx, &c), test_text(ctx, 2000), NULL,
                                             &recipe);
    while (glam_train_step(trainer, NULL)) { }
    CHECK(glam_trainer_done(trainer) == 3);
    CHECK(glam_trainer_steps(trainer, 5) == GLAM_OK);
    while (glam_train_step(trainer, NULL)) { }
    CHECK(glam_trainer_done(trainer) == 5);
    CHECK(glam_trainer_steps(trainer, -2) == GLAM_ERR_VALUE);
    glam_clear_error(ctx);
    CLOSE_CLEAN(ctx);
}

// --- learning ------------------------------------------------------------------------------------

static double train_learn(const glam_recipe *base, int dense, glam_report *report)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = glam_config_default();
    glam_recipe recipe = *base;
    c.layers = 2;
    c.d_model = 32;
    c.heads = 2;
    c.d_head = c.hidden = c.moe.hidden = 0;
    c.context = 32;
    c.moe.experts = dense ? 0 : 4;
    recipe.steps = 150;
    recipe.batch = 8;
    if (recipe.warmup > 10) recipe.warmup = 10;
    recipe.eval_every = 0;
    glam_text *train = NULL, *valid = NULL;
    glam_text_split(test_text(ctx, 6000), 0.2f, &train, &valid);
    glam_trainer *trainer = glam_trainer_new(glam_model_new(ctx, &c), train, valid, &recipe);
    train_run(trainer, report);
    double valid_loss = glam_validate(trainer);
    CLOSE_CLEAN(ctx);
    return valid_loss;
}

// The rhyme repeats every 105 bytes and is known by heart after 150 steps.
static void train_learns(void)
{
    glam_report report;
    glam_recipe recipe = glam_recipe_default();
    double loss = train_learn(&recipe, 0, &report);
    CHECK(loss > 0 && loss < 0.7);
    CHECK(report.step == 150 && report.steps == 150 && report.tokens == 150 * 8 * 32);
    CHECK(report.balance > 0.9 && report.balance < 4 && report.entropy > 0);
    CHECK(report.load_min <= 1 && report.load_max >= 1 && report.dropped == 0);
    CHECK(report.seconds > 0 && report.tokens_per_second > 0 && report.bytes > 0);
    loss = train_learn(&recipe, 1, &report);
    CHECK(loss > 0 && loss < 0.7);
}

static void train_learns_as_the_paper(void)
{
    glam_report report;
    glam_recipe recipe = glam_recipe_paper();
    double loss = train_learn(&recipe, 0, &report);
    CHECK(loss > 0 && loss < 1.5);
    CHECK_NEAR(report.lr, 0.01, 1e-9);
}

static void train_stops_early(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = train_config();
    glam_recipe recipe = train_recipe(100);
    glam_report report;
    recipe.lr = 1e-30;                              // nothing is learnt
    recipe.eval_every = 2;
    recipe.patience = 3;
    glam_text *train = NULL, *valid = NULL;
    glam_text_split(test_text(ctx, 4000), 0.2f, &train, &valid);
    glam_trainer *trainer = glam_trainer_new(glam_model_new(ctx, &c), train, valid, &recipe);
    glam_report now;
    int stopped = 0;
    double least = -1;
    memset(&report, 0, sizeof report);
    for (int more = 1; more; ) {
        CHECK(glam_trainer_best(trainer) == least);
        more = glam_train_step(trainer, &now);
        stopped |= now.stopped;
        if (more) report = now;
        if (more && now.step % 2 == 0 && (least < 0 || now.valid_loss < least)) least = now.valid_loss;
    }
    CHECK(glam_trainer_best(trainer) == least && least > 0);
    CHECK(glam_save_checkpoint(trainer, test_path("best")) == GLAM_OK);
    trainer = glam_load_checkpoint(ctx, test_path("best"), train, valid);
    CHECK(glam_trainer_best(trainer) == least && glam_trainer_best(NULL) == -1);
    remove(test_path("best"));
    CHECK(stopped == 1 && report.valid_loss > 0);
    CHECK(glam_trainer_done(trainer) >= 6 && glam_trainer_done(trainer) <= 10);
    CLOSE_CLEAN(ctx);
}

// --- any network, failures -----------------------------------------------------------------------

// Two optimisers over parts of one small net; each moves only its own.
static void train_own_network(void)
{
    glam_ctx *ctx = test_ctx();
    glam_recipe recipe = plain_recipe(GLAM_ADAMW);
    glam_tensor *w[2];
    float in[12], out[6];
    double first = 0, last = 0;
    w[0] = glam_param(ctx, "w0", glam_dim2(2, 16));
    w[1] = glam_param(ctx, "w1", glam_dim2(16, 1));
    glam_fill_normal(w[0], 1, 0.7f);
    glam_fill_normal(w[1], 1, 0.3f);
    for (int i = 0; i < 6; i++) {
        in[2 * i] = (float)(i % 2);
        in[2 * i + 1] = (float)(i / 2 % 2);
        out[i] = (float)(i % 2 != i / 2 % 2);
    }
    glam_optimizer *opt = glam_optimizer_new(ctx, w, 2, &recipe);
    for (int step = 0; step < 400; step++) {
        glam_report report;
        glam_tensor *x = glam_input(ctx, in, glam_dim2(6, 2));
        glam_tensor *y = glam_matmul(ctx, glam_gelu(ctx, glam_matmul(ctx, x, w[0])), w[1]);
        glam_tensor *loss = glam_mse(ctx, y, glam_input(ctx, out, glam_dim2(6, 1)));
        if (!CHECK(glam_update(opt, loss, &report) == GLAM_OK)) break;
        if (step == 0) first = report.total;
        last = report.total;
    }
    CHECK(first > 0.1 && last < 0.01);
    CLOSE_CLEAN(ctx);
}

static void train_refuses(const char *part, void (*change)(glam_recipe *r))
{
    glam_ctx *ctx = test_ctx();
    glam_config c = train_config();
    glam_recipe r = train_recipe(5);
    change(&r);
    CHECK(glam_trainer_new(glam_model_new(ctx, &c), test_text(ctx, 2000), NULL, &r) == NULL);
    ERROR_IS(ctx, GLAM_ERR_VALUE, part);
    CLOSE_CLEAN(ctx);
}

static void train_bad_zero(glam_recipe *r)  { memset(r, 0, sizeof *r); }
static void train_bad_batch(glam_recipe *r) { r->batch = 0; }
static void train_bad_steps(glam_recipe *r) { r->steps = 0; }
static void train_bad_parts(glam_recipe *r) { r->accumulate = 3; }
static void train_bad_lr(glam_recipe *r)    { r->lr = -1; }
static void train_bad_beta(glam_recipe *r)  { r->beta2 = 1.5; }
static void train_bad_kind(glam_recipe *r)  { r->optimizer = (glam_optimizer_kind)7; }
static void train_bad_early(glam_recipe *r) { r->update_in_backward = 1; }
static void train_bad_early_parts(glam_recipe *r)
{ r->update_in_backward = 1; r->clip = 0; r->accumulate = 2; }
static void train_bad_shape(glam_recipe *r) { r->schedule = (glam_schedule)7; }

static void train_failures(void)
{
    train_refuses("glam_recipe_default", train_bad_zero);
    train_refuses("batch", train_bad_batch);
    train_refuses("steps", train_bad_steps);
    train_refuses("3 equal parts", train_bad_parts);
    train_refuses("lr", train_bad_lr);
    train_refuses("beta2", train_bad_beta);
    train_refuses("optimizer", train_bad_kind);
    train_refuses("schedule", train_bad_shape);
    train_refuses("clip 1 must be 0", train_bad_early);
    train_refuses("accumulate 2 must be 1", train_bad_early_parts);
    glam_ctx *ctx = test_ctx();
    glam_config c = train_config();
    glam_model *model = glam_model_new(ctx, &c);
    glam_recipe r = train_recipe(5);
    // 17 tokens make one window of 16 and its targets; 16 do not.
    CHECK(glam_trainer_new(model, glam_text_from(ctx, "sixteen letters.", 16, NULL), NULL, &r) == NULL);
    CHECK(glam_error(ctx) == GLAM_ERR_VALUE && strstr(glam_error_text(ctx), "16"));
    glam_clear_error(ctx);
    CHECK(glam_trainer_new(model, glam_text_from(ctx, "seventeen letters", 17, NULL), NULL, &r) != NULL);
    CHECK(glam_trainer_new(model, NULL, NULL, &r) == NULL);
    CHECK(glam_error(ctx) != GLAM_OK);
    glam_clear_error(ctx);
    c.vocab = 90;                                   // the text has larger ids
    model = glam_model_new(ctx, &c);
    CHECK(glam_trainer_new(model, test_text(ctx, 2000), NULL, &r) == NULL);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "89");
    glam_freeze(model, "*", 1);
    CHECK(glam_trainer_new(model, test_text(ctx, 2000), NULL, &r) == NULL);
    CHECK(glam_error(ctx) == GLAM_ERR_VALUE || glam_error(ctx) == GLAM_ERR_STATE);
    glam_clear_error(ctx);
    glam_report report;
    memset(&report, 0x55, sizeof report);
    CHECK(glam_train_step(NULL, &report) == 0 && report.step == 0 && report.loss == 0);
    CLOSE_CLEAN(ctx);
}

// Two trainers would divide a model's gradients between them: the second is refused, and told the way
// out, after which it trains the weights as the first has left them.
static void train_second_trainer(void)
{
    glam_options o = test_options();
    glam_ctx *ctx = glam_open(&o);
    glam_config c = glam_config_default();
    c.layers = 1;
    c.d_model = 16;
    c.context = 16;
    glam_text *text = test_text(ctx, 2000);
    glam_model *model = glam_model_new(ctx, &c);
    glam_recipe r = glam_recipe_default();
    r.batch = 2;
    r.steps = 3;
    size_t mark = glam_mark(ctx);
    glam_trainer *first = glam_trainer_new(model, text, NULL, &r);
    CHECK(glam_train_step(first, NULL) == 1);
    uint64_t learnt = test_model_hash(model);
    CHECK(glam_trainer_new(model, text, NULL, &r) == NULL);
    ERROR_IS(ctx, GLAM_ERR_STATE, "glam_rewind to a mark from before it gives it back");
    CHECK(glam_train_step(first, NULL) == 1);              // the first goes on
    CHECK(test_model_hash(model) != learnt);
    learnt = test_model_hash(model);
    glam_rewind(ctx, mark);
    CHECK(test_model_hash(model) == learnt);
    glam_trainer *second = glam_trainer_new(model, text, NULL, &r);
    CHECK(second && glam_train_step(second, NULL) == 1 && glam_trainer_done(second) == 1);
    CHECK(test_model_hash(model) != learnt);
    CLOSE_CLEAN(ctx);
}

static void test_19_train(void)
{
    RUN(train_paper_rate);
    RUN(train_cosine_rate);
    RUN(train_adafactor_values);
    RUN(train_adafactor_first_step);
    RUN(train_bias_rate);
    RUN(train_adamw_values);
    RUN(train_decay_by_name);
    RUN(train_embed_rate);
    RUN(train_clip);
    RUN(train_parts_equal_one_batch);
    RUN(train_frozen);
    RUN(train_aux_off_when_frozen);
    RUN(train_skips_nan);
    RUN(train_skips_infinite_gradient);
    RUN(train_skips_overflow);
    RUN(train_tries_what_looks_large);
    RUN(train_bad_model);
    RUN(train_every_allocation);
    RUN(train_bad_anywhere);
    RUN(train_collapse);
    RUN(train_cancel);
    RUN(train_cancel_validation);
    RUN(train_threads_same_bits);
    RUN(train_recompute_same_bits);
    RUN(train_early_same_bits);
    RUN(train_early_unreached);
    RUN(train_early_torn);
    RUN(train_early_failures);
    RUN(train_resume_same_bits);
    RUN(train_more_steps);
    RUN(train_learns);
    RUN(train_learns_as_the_paper);
    RUN(train_stops_early);
    RUN(train_own_network);
    RUN(train_second_trainer);
    RUN(train_failures);
}
