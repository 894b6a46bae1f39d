/* Room 15: the language model.  Kinds: golden (the exact integers of reference 4.2 and 4.3), value,
   property (causality, padding, initialisation), same bits, failure. */

static uint64_t model_count(const char *preset, int vocab, uint64_t *active)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = glam_config_default();
    glam_plan plan;
    memset(&plan, 0, sizeof plan);
    CHECK(glam_config_preset(preset, &c) == GLAM_OK);
    if (vocab) c.vocab = vocab;
    if (glam_plan_for(ctx, &c, NULL, &plan) != GLAM_OK) {
        CHECK(!"a plan for the preset");
        printf("%s: %s\n", preset, glam_error_text(ctx));
    }
    glam_close(ctx);
    *active = plan.active;
    return plan.parameters;
}

static void model_counts_of_presets(void)
{
    static const struct { const char *name; int vocab; uint64_t all, active; } rows[] = {
        { "0.1B",      32000, 137846016u, 137846016u },
        { "0.1B/64E",  32000, 1907612928u, 152296704u },
        { "1.7B",      32000, 1676261376u, 1676261376u },
        { "1.7B/32E",  32000, 13957969920u, 1878374400u },
        { "1.7B/64E",  32000, 26843658240u, 1879160832u },
        { "1.7B/128E", 32000, 52615034880u, 1880733696u },
        { "1.7B/256E", 32000, 104157788160u, 1883879424u },
        { "8B",        32000, 8721305600u, 8721305600u },
        { "8B/64E",    32000, 142943227904u, 9799241728u },
        { "137B",      32000, 137702416384u, 137702416384u },
        { "64B/64E",   32000, 1159921410048u, 94769520640u },
        { "0.1B",      256000, 309878016u, 309878016u },
        { "0.1B/64E",  256000, 2079644928u, 324328704u },
        { "1.7B",      256000, 2135013376u, 2135013376u },
        { "8B",        256000, 9638809600u, 9638809600u },
        { "8B/64E",    256000, 143860731904u, 10716745728u },
        { "137B",      256000, 139537424384u, 139537424384u },
        { "64B/64E",   256000, 1161756418048u, 96604528640u } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t active, all = model_count(rows[i].name, rows[i].vocab, &active);
        CHECK(all == rows[i].all);
        CHECK(active == rows[i].active);
    }
    // Untouched, the presets count with 32000, and the largest with 256000.
    uint64_t active;
    CHECK(model_count("8B/64E", 0, &active) == 142943227904u);
    CHECK(model_count("64B/64E", 0, &active) == 1161756418048u && active == 96604528640u);
}

// DenseLm1T of reference 4.2.
static void model_counts_dense_1t(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c;
    glam_plan plan;
    CHECK(glam_config_preset("137B", &c) == GLAM_OK);
    c.vocab = 32000;
    c.d_model = 16384;
    c.hidden = 131072;
    c.heads = 256;
    c.d_head = 128;
    c.layers = 128;
    c.logit_scale = 0;
    CHECK(glam_plan_for(ctx, &c, NULL, &plan) == GLAM_OK);
    CHECK(plan.parameters == 1100041175040u);
    CLOSE_CLEAN(ctx);
}

static void model_presets_listed(void)
{
    int n = 0;
    glam_config c = glam_config_default(), before;
    while (glam_config_preset_name(n)) {
        glam_config row = glam_config_default();
        CHECK(glam_config_preset(glam_config_preset_name(n), &row) == GLAM_OK);
        CHECK(row.context == 1024);
        if (row.moe.experts) {
            CHECK(row.moe.activation == GLAM_RELU && row.moe.top_k == 2 && row.moe.group == 1024);
            CHECK(row.moe.capacity_factor == 2 && row.moe.every == 2 && row.moe.offset == 0);
        }
        n++;
    }
    CHECK(n == 11);
    CHECK(glam_config_preset_name(-1) == NULL);
    before = c;
    CHECK(glam_config_preset("no such model", &c) == GLAM_ERR_VALUE);
    CHECK(!memcmp(&before, &c, sizeof c));
    CHECK(glam_config_preset(NULL, &c) == GLAM_ERR_VALUE);
    CHECK(glam_config_preset("8B", NULL) == GLAM_ERR_VALUE);
}

// Counted from the tensors themselves, for every option that changes a count.
static void model_counts_of_tensors(void)
{
    for (int i = 0; i < 16; i++) {
        glam_ctx *ctx = test_ctx();
        glam_config c = test_config();
        uint64_t sum = 0, active = 0, skipped = 0;
        c.layers = 3;
        c.position = (glam_position)(i % 3);
        if (i > 11) test_family(&c, i - 12);
        c.tied = i % 2;
        c.moe.every = 1 + i % 3;
        c.moe.activation = i % 4 ? GLAM_GEGLU : GLAM_RELU;
        glam_model *model = glam_model_new(ctx, &c);
        for (int t = 0; glam_model_tensor_at(model, t); t++) {
            glam_tensor *p = glam_model_tensor_at(model, t);
            sum += glam_size(p);
            CHECK(glam_model_tensor(model, p->name) == p);
            if (strstr(p->name, ".moe.") && p->shape.dims == 3) skipped += glam_size(p) / 2;
        }
        CHECK(sum > 0 && glam_model_count(model, &active) == sum);
        CHECK(active == sum - skipped);                       // two of four experts
        CHECK(glam_model_count(model, NULL) == sum);
        CHECK(!glam_model_tensor(model, "unembed") == !!c.tied);
        int norm = c.qk_norm == GLAM_QK_NORM_HEAD ? c.d_head : !c.qk_norm ? 0 : c.heads * c.d_head;
        CHECK((int)glam_size(glam_model_tensor(model, "layers.2.attn.q_norm")) == norm);
        if (norm > c.d_head) norm = c.kv_heads * c.d_head;
        CHECK((int)glam_size(glam_model_tensor(model, "layers.2.attn.k_norm")) == norm);
        int kv = c.kv_heads ? c.kv_heads : c.heads;
        CHECK((int)glam_size(glam_model_tensor(model, "layers.1.attn.v")) == c.d_model * kv * c.d_head);
        CHECK(!glam_model_tensor(model, "layers.0.attn.bias") == (c.position != 0));
        CHECK(!glam_model_tensor(model, "layers.1.attn.v_bias") == (c.position != 1));
        CHECK(!glam_model_tensor(model, "layers.0.moe.gate") == (c.moe.activation == GLAM_RELU));
        CHECK(!glam_model_tensor(model, "layers.1.moe.router") == (c.moe.every != 1));
        CHECK(glam_model_tensor(model, "layers.9.moe.router") == NULL);
        CHECK(glam_model_tensor_at(model, -1) == NULL);
        CLOSE_CLEAN(ctx);
    }
}

// The resolved copy has its derived sizes filled in.
static void model_config_resolved(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = glam_config_default();
    c.layers = 2;
    c.d_model = 24;
    c.heads = 3;
    c.d_head = c.hidden = c.moe.hidden = 0;
    c.logit_scale = 0;
    glam_model *model = glam_model_new(ctx, &c);
    const glam_config *r = glam_model_config(model);
    if (CHECK(r != NULL)) {
        CHECK(r->d_head == 8 && r->hidden == 96 && r->moe.hidden == 48);     // gated: half
        CHECK_NEAR(r->logit_scale, 1 / sqrt(24.0), 1e-7);
        CHECK(glam_model_ctx(model) == ctx);
    }
    c.moe.activation = GLAM_RELU;
    r = glam_model_config(glam_model_new(ctx, &c));
    CHECK(r && r->moe.hidden == 96);
    CLOSE_CLEAN(ctx);
}

// --- initialisation ------------------------------------------------------------------------------

static void model_stats(const glam_tensor *t, double *mean, double *std, double *top)
{
    size_t n = glam_size(t);
    *mean = *std = *top = 0;
    for (size_t i = 0; i < n; i++) *mean += (double)t->data[i] / (double)n;
    for (size_t i = 0; i < n; i++) {
        double x = (double)t->data[i];
        *std += (x - *mean) * (x - *mean) / (double)n;
        if (fabs(x) > *top) *top = fabs(x);
    }
    *std = sqrt(*std);
}

// A normal has values beyond 2 sigma but hardly beyond 6; a uniform stays within its bound.
static void model_check_init(const glam_model *model, const char *name, double std, int uniform)
{
    const glam_tensor *t = glam_model_tensor(model, name);
    double mean, got, top;
    if (!CHECK(t != NULL)) { printf("%s\n", name); return; }
    model_stats(t, &mean, &got, &top);
    double n = (double)glam_size(t), sloppy = 5 * std / sqrt(n);
    int ok = CHECK_NEAR(mean, 0, sloppy) & CHECK_NEAR(got, std, sloppy);
    if (uniform) ok &= CHECK(top <= std * sqrt(3.0) * 1.00001 && top > std * sqrt(3.0) * 0.98);
    else ok &= CHECK(top > 2.5 * std && top < 6.5 * std);
    if (!ok) printf("%s: mean %g std %g top %g, wanted std %g\n", name, mean, got, top, std);
}

static void model_init_statistics(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = glam_config_default();
    c.vocab = 300;
    c.layers = 2;
    c.d_model = 64;
    c.heads = 6;
    c.d_head = 16;
    c.hidden = 200;
    c.moe.experts = 8;
    c.moe.every = 2;
    c.moe.hidden = 80;
    c.moe.activation = GLAM_SWIGLU;
    glam_model *model = glam_model_new(ctx, &c);
    model_check_init(model, "embed", 1, 0);
    model_check_init(model, "layers.0.attn.q", pow(64 * 16, -0.5), 0);
    model_check_init(model, "layers.0.attn.k", pow(64, -0.5), 0);
    model_check_init(model, "layers.1.attn.v", pow(64, -0.5), 0);
    model_check_init(model, "layers.1.attn.o", pow(96, -0.5), 0);
    model_check_init(model, "layers.0.attn.bias", pow(6 * 32, -0.5), 0);
    model_check_init(model, "layers.0.moe.router", pow(64, -0.5), 1);
    model_check_init(model, "layers.0.moe.up", pow(64, -0.5), 1);
    model_check_init(model, "layers.0.moe.gate", pow(64, -0.5), 1);
    model_check_init(model, "layers.0.moe.down", pow(80, -0.5), 1);
    model_check_init(model, "layers.1.ffn.gate", pow(64, -0.5), 1);
    model_check_init(model, "layers.1.ffn.up", pow(64, -0.5), 1);
    model_check_init(model, "layers.1.ffn.down", pow(200, -0.5), 1);
    static const char *const ones[5] = { "norm", "layers.0.attn.norm", "layers.0.moe.norm",
                                         "layers.1.attn.norm", "layers.1.ffn.norm" };
    for (int i = 0; i < 5; i++) {
        glam_tensor *t = glam_model_tensor(model, ones[i]);
        CHECK(t && t->shape.dims == 1 && t->data[0] == 1 && t->data[63] == 1);
    }
    CLOSE_CLEAN(ctx);
}

static void model_init_other_positions(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = glam_config_default();
    c.layers = 1;
    c.d_model = 64;
    c.heads = 8;
    c.d_head = 16;
    c.position = GLAM_POSITION_TRANSFORMER_XL;
    c.attention_scale = 0.25f;
    c.tied = 0;
    c.moe.experts = 0;
    glam_model *model = glam_model_new(ctx, &c);
    model_check_init(model, "unembed", 1, 0);
    model_check_init(model, "layers.0.attn.q", pow(64 * 16, -0.5) / 0.25, 0);
    model_check_init(model, "layers.0.attn.r", pow(64, -0.5), 0);
    model_check_init(model, "layers.0.attn.u", 0.02, 0);
    model_check_init(model, "layers.0.attn.v_bias", 0.02, 0);
    CLOSE_CLEAN(ctx);
}

// The weights are a function of (seed, name, element), not of what was made before them.
static void model_init_is_keyed(void)
{
    glam_options options = test_options();
    glam_config c = test_config();
    glam_ctx *a = glam_open(&options), *b = glam_open(&options), *d;
    options.seed = 2;
    d = glam_open(&options);
    glam_model *ma = glam_model_new(a, &c), *md = glam_model_new(d, &c);
    glam_param(b, "something before", glam_dim1(1000));
    c.layers = 4;
    glam_model *mb = glam_model_new(b, &c);
    for (int i = 0; glam_model_tensor_at(ma, i); i++) {
        glam_tensor *t = glam_model_tensor_at(ma, i), *u = glam_model_tensor(mb, t->name);
        glam_tensor *o = glam_model_tensor(md, t->name);
        size_t bytes = glam_size(t) * sizeof(float);
        if (!CHECK(u && o)) break;
        CHECK(!memcmp(t->data, u->data, bytes));
        CHECK(strstr(t->name, "norm") || memcmp(t->data, o->data, bytes) != 0);
    }
    glam_tensor *q0 = glam_model_tensor(ma, "layers.0.attn.q"), *q1 = glam_model_tensor(ma, "layers.1.attn.q");
    CHECK(q0 && q1 && q0->data[0] != q1->data[0]);
    CLOSE_CLEAN(a);
    CLOSE_CLEAN(b);
    CLOSE_CLEAN(d);
}

// --- forward and loss ----------------------------------------------------------------------------

// The parts of the loss from the logits, in double.
static void model_loss_parts(void)
{
    for (int i = 0; i < 8; i++) {
        glam_ctx *ctx = test_ctx();
        glam_config c = test_config();
        int32_t tokens[33], targets[33], mask[33];
        test_ids(tokens, 33, 1, c.vocab);
        test_ids(targets, 33, 2, c.vocab);
        for (int t = 0; t < 33; t++) mask[t] = t % 11 < 7 + t / 11;
        c.tied = i % 2;
        c.z_loss = 0.01f;
        c.logit_cap = i / 4 ? 0.75f : 0;
        c.moe.router_z_weight = 0.02f;
        glam_model *model = glam_model_new(ctx, &c);
        glam_batch batch = { 3, 11, tokens, targets, i / 2 % 2 ? mask : NULL, NULL };
        glam_losses losses;
        double xent = 0, z = 0, real = 0;
        glam_tensor *logits = glam_forward(model, &batch, GLAM_TRAIN);
        for (int t = 0; logits && t < 33; t++) {
            const float *row = logits->data + t * c.vocab;
            if (batch.mask && !mask[t]) {
                for (int v = 0; v < c.vocab; v++) CHECK(row[v] == 0);
                continue;
            }
            double lse = slow_logsumexp(row, c.vocab);
            xent += lse - (double)row[targets[t]];
            z += lse * lse;
            real++;
        }
        glam_tensor *loss = glam_loss(model, &batch, GLAM_TRAIN, &losses);
        const glam_routing *r = glam_model_routing(model, 0);
        if (CHECK(loss && r)) {
            CHECK_NEAR(losses.xent, xent / real, 2e-6 * xent / real);
            CHECK_NEAR(losses.z, z / real, 1e-5 * z / real);
            CHECK_NEAR(losses.aux, r->balance, 1e-6);
            CHECK_NEAR(losses.router_z, r->router_z, 1e-6);
            double total = losses.xent + 0.01 * losses.z + (double)c.moe.aux_weight * losses.aux +
                           0.02 * losses.router_z;
            CHECK_NEAR(losses.total, total, 1e-5);
            CHECK_NEAR(loss->data[0], total, 1e-5);
            CHECK(glam_model_routing(model, 1) == NULL && glam_model_routing(model, 2) == NULL);
            CHECK(glam_model_routing(model, -1) == NULL);
        }
        CLOSE_CLEAN(ctx);
    }
}

static int model_slow_glob(const char *pattern, const char *text)
{
    if (!*pattern) return !*text;
    if (*pattern == '*') return model_slow_glob(pattern + 1, text) || (*text && model_slow_glob(pattern, text + 1));
    return *text && (*pattern == '?' || *pattern == *text) && model_slow_glob(pattern + 1, text + 1);
}

// Patterns of stars against a plain recursion, and one that would take the recursion for ever.
static void model_patterns(void)
{
    uint64_t state = test_seed(3);
    int matched = 0;
    for (int i = 0; i < 20000; i++) {
        char pattern[9] = "", text[9] = "";
        for (uint64_t n = test_next(&state) % 8; n; n--) pattern[n - 1] = "*?ab*"[test_next(&state) % 5];
        for (uint64_t n = test_next(&state) % 8; n; n--) text[n - 1] = "ab"[test_next(&state) % 2];
        int want = model_slow_glob(pattern, text);
        if (!CHECK(glam__glob(pattern, strlen(pattern), text) == want)) printf("  %s %s\n", pattern, text);
        matched += want;
    }
    CHECK(matched > 1000);
    glam_ctx *ctx = test_ctx();
    glam_config c = test_config();
    glam_model *model = glam_model_new(ctx, &c);
    char stars[202];
    for (int i = 0; i < 200; i++) stars[i] = i % 2 ? '*' : i % 4 ? 'l' : '*';
    stars[200] = 'z';
    stars[201] = 0;
    CHECK(glam_freeze(model, stars, 1) == 0);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "nothing is called");
    int routers = glam_freeze(model, "router", 1);
    CHECK(routers > 0 && glam_freeze(model, " router\t", 0) == routers);
    CHECK(glam_freeze(model, "  layers.0 ", 1) == glam_freeze(model, "layers.0", 0));
    CHECK(glam_freeze(model, " *.moe.router ", 1) == routers);
    CHECK(glam_freeze(model, "  ", 1) == 0);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "nothing is called");
    CLOSE_CLEAN(ctx);
}

// A batch whose rows are padded unevenly (one is padding alone), cut into parts: the loss, its parts
// and every gradient are those of the whole, whether the caller weighs the parts by their real tokens
// or the pass knows those of the step; and run again in backward, with the same bits.
static void model_padded_parts(void)
{
    enum { ROWS = 4, S = 11, REAL = 11 + 3 + 7 };
    static const int length[ROWS] = { 11, 3, 0, 7 };
    int32_t tokens[ROWS * S], targets[ROWS * S], mask[ROWS * S];
    test_ids(tokens, ROWS * S, 1, 37);
    test_ids(targets, ROWS * S, 2, 37);
    for (int t = 0; t < ROWS * S; t++) mask[t] = t % S < length[t / S];
    glam_losses want;
    double *grads = NULL, norm = 0;
    memset(&want, 0, sizeof want);
    for (int i = 0; i < 7; i++) {
        int parts = i < 1 ? 1 : 1 << (i - 1) % 3, weighed = i < 4, rows = ROWS / parts;
        glam_config c = test_config();
        c.moe.group = S;
        c.moe.aux_weight = 0.5f;
        c.moe.router_z_weight = 0.25f;
        glam_ctx *ctx = test_ctx();
        glam_model *model = glam_model_new(ctx, &c);
        glam_tensor *sum = NULL, *t;
        glam_losses all, one;
        glam__run run[ROWS];
        memset(&all, 0, sizeof all);
        for (int p = 0; p < parts; p++) {
            size_t at = (size_t)(p * rows * S);
            int real = 0;
            for (int r = p * rows; r < (p + 1) * rows; r++) real += length[r];
            float share = (float)real / REAL;
            glam_batch b = { rows, S, tokens + at, targets + at, mask + at, NULL };
            if (weighed) {
                t = glam_scale(ctx, glam_loss(model, &b, GLAM_TRAIN, &one), share);
            } else {
                CHECK(glam__run_begin(&run[p], model, &b, GLAM_TRAIN) == GLAM_OK);
                CHECK(run[p].real == real);
                run[p].count = run[p].goal = REAL;
                run[p].recompute = 1;
                t = glam__run_loss(&run[p], &b, &one);
                share = 1;
            }
            all.xent += share * one.xent;
            all.aux += share * one.aux;
            all.router_z += share * one.router_z;
            all.total += share * one.total;
            sum = sum ? glam_add(ctx, sum, t) : t;
        }
        if (!CHECK(sum && glam_backward(ctx, sum) == GLAM_OK)) printf("%s\n", glam_error_text(ctx));
        size_t n = (size_t)glam_model_count(model, NULL), at = 0;
        float *g = test_floats(n, 1, 0, 0);
        for (int p = 0; (t = glam_model_tensor_at(model, p)) != NULL; at += glam_size(t), p++)
            if (t->grad) memcpy(g + at, t->grad, glam_size(t) * sizeof(float));
        if (!grads) {
            want = all;
            grads = (double *)calloc(n, sizeof(double));
            for (size_t k = 0; k < n; k++) norm += fabs(grads[k] = (double)g[k]);
        }
        CHECK_NEAR(all.xent, want.xent, 1e-6 * want.xent);
        CHECK_NEAR(all.aux, want.aux, 1e-6 * want.aux);
        CHECK_NEAR(all.router_z, want.router_z, 1e-6 * want.router_z);
        CHECK_NEAR(all.total, want.total, 1e-6 * want.total);
        CHECK(test_off(g, grads, n) < 2e-6);
        free(g);
        CLOSE_CLEAN(ctx);
    }
    CHECK(norm > 1 && want.aux > 0.9);
    free(grads);
}

// A target outside the vocabulary is refused; behind a mask it is not looked at.
static void model_targets_in_range(void)
{
    for (int i = 0; i < 6; i++) {
        static const int32_t ids[3] = { 37, -2, INT32_MAX };
        int32_t tokens[22] = { 0 }, targets[22] = { 0 }, mask[22];
        glam_ctx *ctx = test_ctx();
        glam_config c = test_config();
        glam_model *model = glam_model_new(ctx, &c);
        for (int t = 0; t < 22; t++) mask[t] = t != 9;
        targets[9] = ids[i % 3];
        glam_batch b = { 2, 11, tokens, targets, i > 2 ? mask : NULL, NULL };
        glam_tensor *y = glam_loss(model, &b, GLAM_TRAIN, NULL);
        CHECK((y != NULL) == (i > 2));
        if (!y) ERROR_IS(ctx, GLAM_ERR_VALUE, "target");
        CLOSE_CLEAN(ctx);
    }
}

// Where the target is -1 nothing is predicted: the cross-entropy is that of the logits of the others,
// by another op with its own gradient, and z a mean over all that is real; in parts, too.
static void model_predicts_some(void)
{
    enum { T = 22, V = 37 };
    int32_t tokens[T], targets[T], mask[T], counted[T];
    test_ids(tokens, T, 1, V);
    test_ids(targets, T, 2, V);
    int real = 0, told = 0;
    for (int t = 0; t < T; t++) {
        mask[t] = t % 11 < 9;
        if (t % 3 == 1 || t == 8) targets[t] = -1;
        counted[t] = mask[t] && targets[t] >= 0;
        real += mask[t];
        told += counted[t];
    }
    CHECK(told > 5 && told < real && real < T);
    glam_config c = test_config();
    c.moe.aux_weight = 0;
    c.z_loss = 0;
    double *want = NULL;
    for (int i = 0; i < 3; i++) {
        if (i == 2) c.z_loss = 0.01f;
        glam_ctx *ctx = test_ctx();
        glam_model *model = glam_model_new(ctx, &c);
        glam_batch b = { 2, 11, tokens, i ? targets : NULL, mask, NULL };
        glam_losses l;
        glam_tensor *logits = glam_forward(model, &b, GLAM_TRAIN), *t;
        double xent = 0, z = 0, told_z = 0;
        for (int k = 0; k < T && logits; k++) {
            double sum = 0;
            for (int v = 0; v < V; v++) sum += exp((double)logits->data[k * V + v]);
            if (mask[k]) z += log(sum) * log(sum);
            if (counted[k]) told_z += log(sum) * log(sum);
            if (counted[k]) xent += log(sum) - (double)logits->data[k * V + targets[k]];
        }
        int32_t safe[T];
        for (int k = 0; k < T; k++) safe[k] = targets[k] < 0 ? 0 : targets[k];
        t = i ? glam_loss(model, &b, GLAM_TRAIN, &l) : glam_cross_entropy(ctx, logits, safe, counted);
        CHECK(t && glam_backward(ctx, t) == GLAM_OK);
        if (i) CHECK_NEAR(l.xent, xent / told, 1e-5);
        if (i) CHECK_NEAR(l.z, (i == 1 ? told_z / told : z / real), 1e-4);
        if (i) CHECK_NEAR(l.total, xent / told + (double)c.z_loss * z / real, 1e-5);
        size_t n = (size_t)glam_model_count(model, NULL), at = 0;
        float *g = test_floats(n, 1, 0, 0);
        for (int p = 0; (t = glam_model_tensor_at(model, p)) != NULL; at += glam_size(t), p++)
            if (t->grad) memcpy(g + at, t->grad, glam_size(t) * sizeof(float));
        if (!i) want = (double *)calloc(n, sizeof(double));
        for (size_t k = 0; k < n && !i; k++) want[k] = (double)g[k];
        if (i == 1) CHECK(test_off(g, want, n) < 1e-5);
        if (i == 2) CHECK(test_off(g, want, n) > 1e-4);          // z has a gradient of its own
        free(g);
        CLOSE_CLEAN(ctx);
    }
    free(want);
    for (int t = 0; t < T; t++) targets[t] = -1;                 // nothing at all: no NaN
    glam_ctx *ctx = test_ctx();
    glam_batch b = { 2, 11, tokens, targets, mask, NULL };
    glam_losses l;
    glam_tensor *y = glam_loss(glam_model_new(ctx, &c), &b, GLAM_TRAIN, &l);
    CHECK(y && l.xent == 0 && l.z > 0 && l.total > 0 && glam_backward(ctx, y) == GLAM_OK);
    CLOSE_CLEAN(ctx);
    ctx = test_ctx();
    c.z_loss = 0;                                                // and no row has logits
    glam_model *model = glam_model_new(ctx, &c);
    y = glam_loss(model, &b, GLAM_TRAIN, &l);
    CHECK(y && l.total == 0 && l.z == 0 && glam_backward(ctx, y) == GLAM_OK);
    const glam_tensor *t;
    int zero = 1;
    for (int p = 0; (t = glam_model_tensor_at(model, p)) != NULL; p++)
        for (size_t k = 0; t->grad && k < glam_size(t); k++) zero &= t->grad[k] >= 0 && t->grad[k] <= 0;
    CHECK(zero && glam_model_tensor(model, "embed")->grad);
    CLOSE_CLEAN(ctx);
}

// Where logits come in chunks, as with large vocabularies: rows that are predicted, scattered over more
// than one chunk, have the bits of loss and of gradient below the head that they have with a z_loss so
// small that it changes nothing, which wants the logits of every row.
static void model_gathers_predicted(void)
{
    enum { T = 200, V = 120000 };
    static int32_t tokens[T], targets[T];
    test_ids(tokens, T, 1, 60);
    test_ids(targets, T, 2, V);
    int told = 0;
    for (int t = 0; t < T; t++) told += (targets[t] = t % 5 && t > 30 ? targets[t] : -1) >= 0;
    CHECK(told > 96 && told < T - 50);
    glam_config c = test_config();
    c.vocab = V;
    c.context = T;
    c.layers = 2;
    c.moe.aux_weight = 0;
    float *want = NULL;
    double loss = 0;
    for (int i = 0; i < 2; i++) {
        c.z_loss = i ? 0 : 1e-30f;
        glam_ctx *ctx = test_ctx();
        glam_model *model = glam_model_new(ctx, &c);
        glam_freeze(model, "embed", 1);
        glam_batch b = { 1, T, tokens, targets, NULL, NULL };
        glam_losses l;
        CHECK(glam_backward(ctx, glam_loss(model, &b, GLAM_TRAIN, &l)) == GLAM_OK);
        CHECK(l.xent > 0 && (!i || fabs(l.xent - loss) <= 0));
        loss = l.xent;
        glam_tensor *t;
        size_t n = (size_t)glam_model_count(model, NULL), at = 0;
        float *g = test_floats(n, 1, 0, 0);
        memset(g, 0, n * sizeof *g);
        for (int p = 0; (t = glam_model_tensor_at(model, p)) != NULL; at += glam_size(t), p++)
            if (t->grad) memcpy(g + at, t->grad, glam_size(t) * sizeof(float));
        if (i) CHECK(memcmp(g, want, n * sizeof *g) == 0);
        if (i) free(g);
        else want = g;
        CLOSE_CLEAN(ctx);
    }
    free(want);
}

// A batch of padding alone has no loss and no gradient, and no NaN.
static void model_only_padding(void)
{
    int32_t tokens[22] = { 0 }, mask[22] = { 0 };
    glam_ctx *ctx = test_ctx();
    glam_config c = test_config();
    glam_model *model = glam_model_new(ctx, &c);
    glam_batch b = { 2, 11, tokens, tokens, mask, NULL };
    glam_losses l;
    glam_tensor *y = glam_loss(model, &b, GLAM_TRAIN, &l), *t;
    CHECK(y && y->data[0] == 0 && l.xent == 0 && l.aux == 0 && l.router_z == 0 && l.total == 0);
    CHECK(glam_backward(ctx, y) == GLAM_OK);
    for (int p = 0; (t = glam_model_tensor_at(model, p)) != NULL; p++)
        for (size_t k = 0; t->grad && k < glam_size(t); k++) CHECK(t->grad[k] == 0);
    CLOSE_CLEAN(ctx);
}

// With a cap the logits are cap tanh(l / cap) of those without.
static void model_logits_capped(void)
{
    for (int i = 0; i < 4; i++) {
        glam_ctx *ctx = test_ctx();
        glam_config c = test_config();
        float cap = i / 2 ? 0.5f : 20;
        int32_t tokens[22];
        double want[22 * 37];
        c.tied = i % 2;
        test_ids(tokens, 22, 1, c.vocab);
        glam_batch batch = { 2, 11, tokens, NULL, NULL, NULL };
        glam_tensor *l = glam_forward(glam_model_new(ctx, &c), &batch, GLAM_INFER);
        c.logit_cap = cap;
        glam_tensor *y = glam_forward(glam_model_new(ctx, &c), &batch, GLAM_INFER);
        if (CHECK(l && y)) {
            for (int v = 0; v < 22 * 37; v++)
                want[v] = (double)cap * tanh((double)l->data[v] / (double)cap);
            CHECK(test_off(y->data, want, 22 * 37) < 1e-6);
            CHECK(memcmp(l->data, y->data, glam_size(y) * sizeof(float)) != 0);
        }
        CLOSE_CLEAN(ctx);
    }
}

// Backward of the loss against the ops that glam_forward and the cross-entropy are made of, over a
// vocabulary of several strips and a piece.
static void model_loss_capped(void)
{
    for (int i = 0; i < 4; i++) {
        glam_ctx *ctx = test_ctx();
        glam_config c = test_config();
        int32_t tokens[22], targets[22];
        c.vocab = 1300;
        c.tied = i % 2;
        c.z_loss = 0;
        c.logit_cap = i / 2 ? 0.75f : 4;
        c.moe.aux_weight = 0;
        test_ids(tokens, 22, 1, c.vocab);
        test_ids(targets, 22, 2, c.vocab);
        glam_model *model = glam_model_new(ctx, &c);
        glam_batch batch = { 2, 11, tokens, targets, NULL, NULL };
        glam_tensor *t = glam_loss(model, &batch, GLAM_TRAIN, NULL);
        size_t n = (size_t)glam_model_count(model, NULL), at = 0;
        double *want = (double *)calloc(n, sizeof(double));
        float *got = test_floats(n, 1, 0, 0);
        double loss = t ? (double)t->data[0] : NAN;
        glam_backward(ctx, t);
        for (int p = 0; (t = glam_model_tensor_at(model, p)) != NULL; at += glam_size(t), p++)
            if (t->grad) memcpy(got + at, t->grad, glam_size(t) * sizeof(float));
        glam_forget(ctx);
        t = glam_forward(model, &batch, GLAM_TRAIN);
        t = glam_cross_entropy(ctx, glam_view(ctx, t, glam_dim2(22, c.vocab)), targets, NULL);
        if (CHECK(t != NULL)) CHECK_NEAR(loss, t->data[0], 1e-5);
        glam_backward(ctx, t);
        at = 0;
        for (int p = 0; (t = glam_model_tensor_at(model, p)) != NULL; at += glam_size(t), p++)
            for (size_t e = 0; t->grad && e < glam_size(t); e++) want[at + e] = (double)t->grad[e];
        CHECK(test_off(got, want, n) < 1e-5);
        double sum = 0;
        for (size_t e = 0; e < n; e++) sum += fabs(want[e]);
        CHECK(sum > 1e-2);
        free(want);
        free(got);
        CLOSE_CLEAN(ctx);
    }
}

// Gradient of `mean over rows` times their number, for rows [from, from + rows) of one token each.
static double model_row_grads(glam_model *model, const int32_t *tokens, int from, int rows, double *sum)
{
    glam_ctx *ctx = glam_model_ctx(model);
    glam_batch batch = { rows, 1, tokens + from, tokens + from + 1, NULL, NULL };
    glam_tensor *loss = glam_loss(model, &batch, GLAM_TRAIN, NULL), *t;
    double value = loss ? (double)loss->data[0] * rows : NAN;
    glam_backward(ctx, loss);
    for (int i = 0; (t = glam_model_tensor_at(model, i)) != NULL; sum += glam_size(t), i++)
        for (size_t e = 0; t->grad && e < glam_size(t); e++) sum[e] += rows * (double)t->grad[e];
    glam_forget(ctx);
    return value;
}

// A vocabulary so large that the loss makes its logits in two chunks, and again in backward; with a
// cap and without it agrees with two batches of one chunk each.
static void model_loss_in_chunks(void)
{
    enum { V = 180000, T = 98 };
    for (int i = 0; i < 2; i++) {
        glam_ctx *ctx = test_ctx();
        glam_config c = test_config();
        int32_t tokens[T + 1];
        c.vocab = V;
        c.layers = 1;
        c.d_model = 4;
        c.heads = 1;
        c.moe.experts = 0;
        c.z_loss = 0.01f;
        c.logit_cap = i ? 1 : 0;
        test_ids(tokens, T + 1, 3, V);
        glam_model *model = glam_model_new(ctx, &c);
        if (!CHECK(model != NULL)) { glam_close(ctx); return; }
        CHECK(glam__head_chunk(T, V) < T && glam__head_chunk(T / 2, V) == T / 2);
        size_t n = (size_t)glam_model_count(model, NULL);
        double *one = (double *)calloc(2 * n, sizeof(double)), *two = one + n;
        double whole = model_row_grads(model, tokens, 0, T, one);
        double parts = model_row_grads(model, tokens, 0, T / 2, two);
        parts += model_row_grads(model, tokens, T / 2, T / 2, two);
        double top = 0, off = 0;
        for (size_t e = 0; e < n; e++) {
            if (fabs(two[e]) > top) top = fabs(two[e]);
            if (!(fabs(one[e] - two[e]) <= off)) off = fabs(one[e] - two[e]);
        }
        CHECK_NEAR(whole, parts, 1e-5 * parts);
        CHECK(top > 1e-2 && off < 1e-5 * top);
        free(one);
        CLOSE_CLEAN(ctx);
    }
}

static void model_is_causal(void)
{
    for (int position = 0; position < 3; position++) {
        glam_ctx *ctx = test_ctx();
        glam_config c = test_config();
        int32_t tokens[40];
        float *before;
        c.position = (glam_position)position;
        c.layers = 4;
        glam_model *model = glam_model_new(ctx, &c);
        glam_batch batch = { 1, 40, tokens, NULL, NULL, NULL };
        test_ids(tokens, 40, 4, c.vocab);
        glam_tensor *logits = glam_forward(model, &batch, GLAM_INFER);
        if (!CHECK(logits != NULL)) { glam_close(ctx); return; }
        before = test_floats(glam_size(logits), 0, 0, 0);
        memcpy(before, logits->data, glam_size(logits) * sizeof(float));
        for (int i = 23; i < 40; i++) tokens[i] = (tokens[i] + 1) % c.vocab;
        logits = glam_forward(model, &batch, GLAM_INFER);
        if (CHECK(logits != NULL)) {
            size_t same = (size_t)(23 * c.vocab);
            CHECK(!memcmp(before, logits->data, same * sizeof(float)));
            CHECK(memcmp(before + same, logits->data + same, (size_t)c.vocab * sizeof(float)) != 0);
        }
        free(before);
        CLOSE_CLEAN(ctx);
    }
}

// A row padded to a longer length, beside another row, has the bits that it has alone.
static void model_padding_and_batch(void)
{
    for (int position = 0; position < 3; position++) {
        glam_ctx *ctx = test_ctx();
        glam_config c = test_config();
        int32_t alone[9], tokens[34], mask[34];
        c.position = (glam_position)position;
        glam_model *model = glam_model_new(ctx, &c);
        test_ids(tokens, 34, 4, c.vocab);
        memcpy(alone, tokens + 17, sizeof alone);
        for (int i = 0; i < 34; i++) mask[i] = i < 17 + 9;
        for (int i = 26; i < 34; i++) tokens[i] = -77;      // never looked at
        glam_batch one = { 1, 9, alone, NULL, NULL, NULL }, two = { 2, 17, tokens, NULL, mask, NULL };
        glam_tensor *a = glam_forward(model, &one, GLAM_INFER);
        glam_tensor *b = glam_forward(model, &two, GLAM_INFER);
        if (CHECK(a && b)) {
            CHECK(!memcmp(a->data, b->data + 17 * c.vocab, glam_size(a) * sizeof(float)));
            for (int i = 26 * c.vocab; i < 34 * c.vocab; i++) CHECK(b->data[i] == 0);
        }
        CLOSE_CLEAN(ctx);
    }
}

// Two packed texts in a row are two texts.
static void model_segments(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = test_config();
    int32_t tokens[20], segments[20];
    c.position = GLAM_POSITION_BUCKETS;
    glam_model *model = glam_model_new(ctx, &c);
    test_ids(tokens, 20, 4, c.vocab);
    for (int i = 0; i < 20; i++) segments[i] = i < 8 ? 1 : 2;
    glam_batch both = { 1, 20, tokens, NULL, NULL, segments };
    glam_batch second = { 1, 12, tokens + 8, NULL, NULL, NULL };
    glam_tensor *a = glam_forward(model, &both, GLAM_INFER);
    glam_tensor *b = glam_forward(model, &second, GLAM_INFER);
    for (int i = 0; a && b && i < 12 * c.vocab; i++) {
        if (!CHECK_NEAR(a->data[8 * c.vocab + i], b->data[i], 1e-5)) break;
    }
    CLOSE_CLEAN(ctx);
}

static void model_borrowed(void)
{
    glam_ctx *ctx = test_ctx(), *other = test_ctx();
    glam_config c = test_config();
    int32_t tokens[10];
    glam_model *model = glam_model_new(ctx, &c), *loan = glam_model_borrow(other, model);
    glam_batch batch = { 1, 10, tokens, tokens, NULL, NULL };
    test_ids(tokens, 10, 4, c.vocab);
    glam_tensor *a = glam_forward(model, &batch, GLAM_INFER);
    glam_tensor *b = glam_forward(loan, &batch, GLAM_INFER);
    if (CHECK(a && b)) CHECK(!memcmp(a->data, b->data, glam_size(a) * sizeof(float)));
    CHECK(glam_model_tensor_at(loan, 0)->data == glam_model_tensor_at(model, 0)->data);
    CHECK(glam_trainer_new(loan, test_text(other, 500), NULL, NULL) == NULL);
    CHECK(glam_error(other) != GLAM_OK && strstr(glam_error_text(other), "borrow"));
    glam_close(other);
    CLOSE_CLEAN(ctx);
}

static void model_freezing(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = test_config();
    glam_model *model = glam_model_new(ctx, &c);
    int all = 0;
    while (glam_model_tensor_at(model, all)) all++;
    CHECK(glam_freeze(model, "*", 1) == all);
    CHECK(glam_freeze(model, "*", 0) == all);
    CHECK(glam_freeze(model, "experts", 1) == 3);            // gate, up, down of layer 0
    CHECK(glam_model_tensor(model, "layers.0.moe.up")->wants_grad == 0);
    CHECK(glam_model_tensor(model, "layers.0.moe.router")->wants_grad != 0);
    CHECK(glam_freeze(model, "router", 1) == 1);
    CHECK(glam_freeze(model, "attention", 1) >= 2 * 5);
    CHECK(glam_freeze(model, "ffn", 1) >= 3);
    CHECK(glam_freeze(model, "embeddings", 1) == 1);
    CHECK(glam_freeze(model, "norms", 1) == 5);
    CHECK(glam_freeze(model, "layers.1", 1) >= 9);
    CHECK(glam_freeze(model, "layers.*.attn.q", 1) == 2);
    CHECK(glam_freeze(model, "layers.?.attn.[qk]", 1) >= 0);
    glam_clear_error(ctx);
    CHECK(glam_freeze(model, "nothing.like.this", 1) <= 0);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "nothing.like.this");
    CLOSE_CLEAN(ctx);
}

// --- failures ------------------------------------------------------------------------------------

static void model_refuses(const char *part, void (*change)(glam_config *c))
{
    glam_ctx *ctx = test_ctx();
    glam_config c = test_config();
    change(&c);
    if (!CHECK(glam_model_new(ctx, &c) == NULL)) printf("accepted: %s\n", part);
    ERROR_IS(ctx, GLAM_ERR_VALUE, part);
    CLOSE_CLEAN(ctx);
}

static void model_bad_zero(glam_config *c)     { memset(c, 0, sizeof *c); }
static void model_bad_vocab(glam_config *c)    { c->vocab = 0; }
static void model_bad_layers(glam_config *c)   { c->layers = -1; }
static void model_bad_width(glam_config *c)    { c->d_model = 0; }
static void model_bad_heads(glam_config *c)    { c->heads = 0; }
static void model_bad_d_head(glam_config *c)   { c->d_head = -3; }
static void model_bad_split(glam_config *c)    { c->d_head = 0; c->heads = 5; }
static void model_bad_hidden(glam_config *c)   { c->hidden = -1; }
static void model_bad_buckets(glam_config *c)  { c->buckets = 0; }
static void model_bad_distance(glam_config *c) { c->max_distance = 2; }
static void model_bad_top_k(glam_config *c)    { c->moe.top_k = 5; }
static void model_bad_experts(glam_config *c)  { c->moe.experts = -2; }
static void model_bad_every(glam_config *c)    { c->moe.every = 0; }
static void model_bad_factor(glam_config *c)   { c->moe.capacity_factor = -1; }
static void model_bad_act(glam_config *c)      { c->activation = GLAM_RELU; }
static void model_bad_kv_heads(glam_config *c) { c->kv_heads = 2; }
static void model_bad_qk_norm(glam_config *c)  { c->qk_norm = (glam_qk_norm)7; }
static void model_bad_rotary(glam_config *c)   { c->position = GLAM_POSITION_ROTARY; }
static void model_bad_theta(glam_config *c)    { test_family(c, 0); c->rotary.theta = -1; }
static void model_bad_residual(glam_config *c) { c->residual_scale = 0; }
static void model_bad_embed(glam_config *c)    { c->embed_scale = NAN; }
static void model_bad_moe_act(glam_config *c)  { c->moe.activation = GLAM_GEGLU_LITERAL; }
static void model_bad_context(glam_config *c)  { c->context = 0; }
static void model_bad_eps(glam_config *c)      { c->norm_eps = -1; }
static void model_bad_position(glam_config *c) { c->position = (glam_position)9; }
static void model_bad_cap_1(glam_config *c)    { c->attention_cap = -1; }
static void model_bad_cap_2(glam_config *c)    { c->logit_cap = INFINITY; }
static void model_bad_cap_3(glam_config *c)    { c->moe.router_cap = NAN; }
static void model_bad_odd_xl(glam_config *c)
{
    c->position = GLAM_POSITION_TRANSFORMER_XL;
    c->d_model = 13;
}

static void model_bad_configs(void)
{
    model_refuses("glam_config_default", model_bad_zero);
    model_refuses("vocab", model_bad_vocab);
    model_refuses("layers", model_bad_layers);
    model_refuses("d_model", model_bad_width);
    model_refuses("heads", model_bad_heads);
    model_refuses("d_head", model_bad_d_head);
    model_refuses("heads", model_bad_split);
    model_refuses("hidden", model_bad_hidden);
    model_refuses("buckets", model_bad_buckets);
    model_refuses("max_distance", model_bad_distance);
    model_refuses("top_k", model_bad_top_k);
    model_refuses("experts", model_bad_experts);
    model_refuses("every", model_bad_every);
    model_refuses("capacity_factor", model_bad_factor);
    model_refuses("activation", model_bad_act);
    model_refuses("kv_heads is 2 with 3 heads", model_bad_kv_heads);
    model_refuses("qk_norm is 7", model_bad_qk_norm);
    model_refuses("d_head is 5", model_bad_rotary);
    model_refuses("theta -1", model_bad_theta);
    model_refuses("residual_scale 0", model_bad_residual);
    model_refuses("embed_scale is nan", model_bad_embed);
    model_refuses("activation", model_bad_moe_act);
    model_refuses("context", model_bad_context);
    model_refuses("norm_eps", model_bad_eps);
    model_refuses("position", model_bad_position);
    model_refuses("d_model", model_bad_odd_xl);
    model_refuses("attention_cap is -1", model_bad_cap_1);
    model_refuses("logit_cap inf", model_bad_cap_2);
    model_refuses("router_cap", model_bad_cap_3);
}

static int model_cancel_now(void *user) { (void)user; return 1; }

static void model_cancelled(void)          // no result, and no failure either
{
    glam_options options = test_options();
    options.cancel = model_cancel_now;
    glam_ctx *ctx = glam_open(&options);
    glam_model *model = glam_model_new(ctx, NULL);
    int32_t tokens[2] = { 1, 2 };
    glam_batch batch = { 1, 2, tokens, tokens, NULL, NULL };
    CHECK(glam_forward(model, &batch, GLAM_INFER) == NULL);
    CHECK(glam_loss(model, &batch, GLAM_INFER, NULL) == NULL);
    CHECK(glam_error(ctx) == GLAM_OK);
    glam_close(ctx);
}

static void model_bad_batches(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = test_config();
    glam_model *model = glam_model_new(ctx, &c);
    int32_t tokens[6] = { 0, 1, 2, 3, 4, 5 };
    glam_batch batch = { 2, 3, tokens, NULL, NULL, NULL };
    glam_losses losses;
    memset(&losses, 0x7f, sizeof losses);
    CHECK(glam_loss(model, &batch, GLAM_TRAIN, &losses) == NULL);
    CHECK(losses.total == 0 || losses.total != losses.total);     // written also on failure
    CHECK(glam_error(ctx) == GLAM_ERR_VALUE && strstr(glam_error_text(ctx), "targets"));
    glam_clear_error(ctx);
    tokens[4] = 37;
    CHECK(glam_forward(model, &batch, GLAM_TRAIN) == NULL);
    CHECK(glam_error(ctx) == GLAM_ERR_VALUE && strstr(glam_error_text(ctx), "37"));
    glam_clear_error(ctx);
    tokens[4] = -1;
    CHECK(glam_forward(model, &batch, GLAM_INFER) == NULL);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "-1");
    tokens[4] = 1;
    batch.targets = tokens;
    batch.rows = 0;
    CHECK(glam_loss(model, &batch, GLAM_TRAIN, NULL) == NULL);
    CHECK(glam_error(ctx) != GLAM_OK);
    glam_clear_error(ctx);
    batch.rows = 2;
    batch.tokens = NULL;
    CHECK(glam_forward(model, &batch, GLAM_TRAIN) == NULL);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "tokens");
    CHECK(glam_forward(model, NULL, GLAM_TRAIN) == NULL);
    CHECK(glam_error(ctx) != GLAM_OK);
    glam_clear_error(ctx);
    CLOSE_CLEAN(ctx);
}

// Gradients of one step with everything frozen but `only` (NULL: nothing is), into out; what the step took.
static uint64_t frozen_step(glam_position position, const char *simd, const char *only, float *out,
                            size_t *sizes)
{
    glam_options options = test_options();
    glam_config c = test_config();
    int32_t tokens[22], targets[22];
    glam_batch batch = { 2, 11, tokens, targets, NULL, NULL };
    size_t at = 0;
    c.position = position;
    if (position == GLAM_POSITION_ROTARY) test_family(&c, 1);
    c.attention_cap = 5;
    c.moe.router_z_weight = 1e-3f;
    if (simd) options.simd = simd;
    test_ids(tokens, 22, 3, c.vocab);
    test_ids(targets, 22, 4, c.vocab);
    glam_ctx *ctx = glam_open(&options);
    glam_model *model = glam_model_new(ctx, &c);
    if (only) {
        glam_freeze(model, "*", 1);
        glam_freeze(model, only, 0);
    }
    glam_backward(ctx, glam_loss(model, &batch, GLAM_TRAIN, NULL));
    for (int i = 0; glam_model_tensor_at(model, i); i++) {
        const glam_tensor *t = glam_model_tensor_at(model, i);
        sizes[i] = glam_size(t);
        if (only && t->wants_grad) CHECK(t->grad != NULL);
        if (t->grad) memcpy(out + at, t->grad, glam_size(t) * sizeof(float));
        at += glam_size(t);
    }
    uint64_t bytes = glam_memory(ctx).scratch;
    CLOSE_CLEAN(ctx);
    return bytes;
}

// What is frozen changes no bit of the gradient of what is not, and asks for no more memory.
static void model_frozen_same_gradients(void)
{
    static float all[16384], one[16384];
    size_t sizes[64];
    for (int k = 0; k < 8; k++) {
        const char *simd = k % 2 ? "base" : NULL;
        glam_position position = (glam_position)(k / 2);
        glam_ctx *ctx = test_ctx();
        glam_config c = test_config();
        c.position = position;
        if (position == GLAM_POSITION_ROTARY) test_family(&c, 1);
        glam_model *model = glam_model_new(ctx, &c);
        uint64_t most = frozen_step(position, simd, NULL, all, sizes);
        size_t at = 0;
        for (int i = 0; glam_model_tensor_at(model, i); at += sizes[i++]) {
            const char *name = glam_model_tensor_at(model, i)->name;
            memset(one, 0, sizeof one);
            CHECK(frozen_step(position, simd, name, one, sizes) <= most);
            if (!CHECK(!memcmp(all + at, one + at, sizes[i] * sizeof(float))))
                printf("  %s, position %d, %s\n", name, (int)position, simd ? simd : "best");
        }
        CLOSE_CLEAN(ctx);
    }
}

// An op lays out what was wanted when it ran: who is let train after that is told so.
static void model_unfrozen_too_late(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = test_config();
    glam_model *model = glam_model_new(ctx, &c);
    int32_t tokens[4] = { 1, 2, 3, 4 };
    glam_batch batch = { 1, 4, tokens, tokens, NULL, NULL };
    glam_freeze(model, "experts", 1);
    glam_tensor *loss = glam_loss(model, &batch, GLAM_TRAIN, NULL);
    glam_freeze(model, "experts", 0);
    CHECK(glam_backward(ctx, loss) == GLAM_ERR_STATE);
    ERROR_IS(ctx, GLAM_ERR_STATE, "frozen when the forward pass ran");
    glam_forget(ctx);
    CHECK(glam_backward(ctx, glam_loss(model, &batch, GLAM_TRAIN, NULL)) == GLAM_OK);
    CLOSE_CLEAN(ctx);
}

static void test_15_model(void)
{
    RUN(model_counts_of_presets);
    RUN(model_counts_dense_1t);
    RUN(model_presets_listed);
    RUN(model_counts_of_tensors);
    RUN(model_config_resolved);
    RUN(model_init_statistics);
    RUN(model_init_other_positions);
    RUN(model_init_is_keyed);
    RUN(model_loss_parts);
    RUN(model_logits_capped);
    RUN(model_loss_capped);
    RUN(model_loss_in_chunks);
    RUN(model_is_causal);
    RUN(model_padding_and_batch);
    RUN(model_segments);
    RUN(model_predicts_some);
    RUN(model_gathers_predicted);
    RUN(model_padded_parts);
    RUN(model_patterns);
    RUN(model_only_padding);
    RUN(model_targets_in_range);
    RUN(model_borrowed);
    RUN(model_freezing);
    RUN(model_frozen_same_gradients);
    RUN(model_unfrozen_too_late);
    RUN(model_bad_configs);
    RUN(model_bad_batches);
    RUN(model_cancelled);
}
