/* What routers do and what can be seen of it: traces, statistics, the rows of the router table, knobs,
   growing and pruning.  Kinds: value (slow loops in double), property, failure. */

// --- traces --------------------------------------------------------------------------------------

// What a listener saw, judged on the spot: its arrays are gone when it returns.
typedef struct router_ear {
    int calls, wrong, train, evaluate, generate, parts, last_step, positions, padding, dropped;
    const glam_model *model;
} router_ear;

static int router_is(double a, double b) { return fabs(a - b) < 1e-5; }

// A token's choices against its own logits: softmax, the k best, weights before and after drops.
static int router_token_wrong(const glam_trace *t, int at)
{
    const glam_routing *r = t->routing;
    int E = r->experts, k = r->top_k, wrong = 0;
    const float *l = t->logit + at * E, *p = r->probability + at * E;
    double top = -1e300, sum = 0, chosen = 0;
    for (int e = 0; e < E; e++) top = (double)l[e] > top ? (double)l[e] : top;
    for (int e = 0; e < E; e++) sum += exp((double)l[e] - top);
    for (int e = 0; e < E; e++) wrong += !router_is((double)p[e], exp((double)l[e] - top) / sum);
    for (int i = 0; i < k; i++) chosen += (double)p[r->expert[at * k + i]];
    for (int i = 0; i < k; i++) {
        int j = at * k + i, e = r->expert[j], better = 0;
        for (int o = 0; o < E; o++) better += p[o] > p[e] || (p[o] == p[e] && o < e);
        wrong += better != i;
        wrong += !router_is((double)t->weight[j], (double)p[e] / chosen);
        wrong += !router_is((double)r->weight[j], r->kept[j] ? (double)t->weight[j] : 0);
        wrong += t->fate[j] != (r->kept[j] ? GLAM_FATE_KEPT : GLAM_FATE_NO_SLOT);
        wrong += (r->slot[j] >= 0) != r->kept[j];
    }
    return wrong;
}

static void router_hear(void *user, const glam_trace *t)
{
    router_ear *ear = (router_ear *)user;
    const glam_routing *r = t->routing;
    int lost = 0;
    ear->calls++;
    ear->train += t->pass == GLAM_PASS_TRAIN;
    ear->evaluate += t->pass == GLAM_PASS_EVALUATE;
    ear->generate += t->pass == GLAM_PASS_GENERATE;
    ear->parts |= 1 << t->part;
    ear->last_step = t->step;
    ear->positions += t->position;
    ear->wrong += t->rows * t->length != r->tokens;
    for (int i = 0; i < r->tokens; i++) {
        if (r->expert[i * r->top_k] < 0) {
            ear->padding++;
            ear->wrong += t->fate[i * r->top_k] != GLAM_FATE_PADDING;
            continue;
        }
        ear->wrong += router_token_wrong(t, i);
        ear->wrong += t->token && (t->token[i] < 0 || t->token[i] > 255);
        for (int j = 0; j < r->top_k; j++) lost += t->fate[i * r->top_k + j] == GLAM_FATE_NO_SLOT;
    }
    ear->dropped += lost;
    ear->wrong += lost != r->dropped;
}

static glam_config router_config(int layers)
{
    glam_config c = glam_config_default();
    c.layers = layers;
    c.d_model = 24;
    c.context = 16;
    c.moe.experts = 6;
    c.moe.hidden = 20;
    return c;
}

static glam_recipe router_recipe(int steps)
{
    glam_recipe r = glam_recipe_default();
    r.steps = steps;
    r.batch = 8;
    r.warmup = 1;
    return r;
}

// A training of `steps` with or without an ear; its weights as a hash.
static uint64_t router_train(router_ear *ear, const glam_config *config, const glam_recipe *recipe)
{
    glam_options o = test_options();
    if (ear) {
        o.trace = router_hear;
        o.trace_user = ear;
    }
    glam_ctx *ctx = glam_open(&o);
    glam_text *text = test_text(ctx, 3000);
    glam_model *model = glam_model_new(ctx, config);
    glam_trainer *trainer = glam_trainer_new(model, text, NULL, recipe);
    while (glam_train_step(trainer, NULL)) {}
    uint64_t hash = test_model_hash(model);
    CHECK(glam_error(ctx) == GLAM_OK);
    glam_close(ctx);
    return hash;
}

static void router_trace_training(void)
{
    glam_config c = router_config(3);
    c.moe.capacity_factor = 1.5f;
    for (int recompute = 0; recompute < 2; recompute++) {
        glam_recipe recipe = router_recipe(3);
        router_ear ear;
        memset(&ear, 0, sizeof ear);
        recipe.accumulate = 2;
        recipe.recompute = recompute;
        uint64_t heard = router_train(&ear, &c, &recipe);
        CHECK(heard == router_train(NULL, &c, &recipe));       // who listens changes nothing
        CHECK(ear.wrong == 0 && ear.dropped > 0);
        CHECK(ear.calls == 3 * 2 * 3 && ear.train == ear.calls);   // once, recomputed or not
        CHECK(ear.parts == 3 && ear.last_step == 2);
    }
}

static void router_trace_passes(void)
{
    router_ear ear;
    glam_options o = test_options();
    memset(&ear, 0, sizeof ear);
    o.trace = router_hear;
    o.trace_user = &ear;
    glam_ctx *ctx = glam_open(&o);
    glam_config c = router_config(2);
    glam_model *model = glam_model_new(ctx, &c);
    int32_t tokens[] = { 'o', 'n', 'e', 0, 't', 'w', 'o', 0 }, mask[] = { 1, 1, 1, 0, 1, 1, 1, 0 };
    glam_batch batch = { 2, 4, tokens, NULL, mask, NULL };
    glam_forward(model, &batch, GLAM_INFER);
    CHECK(ear.evaluate == 2 && ear.padding == 4);
    glam_session *session = glam_session_new(model, 8);
    glam_next(session, tokens, 3);
    glam_next(session, tokens + 4, 2);
    CHECK(ear.generate == 4 && ear.positions == 2 * 3 && ear.calls == 6);
    glam_moe_config moe = glam_moe_config_default();
    moe.experts = 3;
    moe.hidden = 5;
    glam_moe_weights w = glam_moe_init(ctx, "own", 4, &moe);
    float x[20];
    for (int i = 0; i < 20; i++) x[i] = (float)sin(i);
    glam_moe(ctx, glam_input(ctx, x, glam_dim2(5, 4)), &w, &moe, NULL, NULL);
    CHECK(ear.calls == 7 && ear.train == 1 && ear.wrong == 0);
    CHECK(glam_error(ctx) == GLAM_OK);
    glam_close(ctx);
}

// A pass of one's own between two steps leaves what the step recorded.
static void router_two_records(void)
{
    glam_options o = test_options();
    glam_ctx *ctx = glam_open(&o);
    glam_text *text = test_text(ctx, 3000);
    glam_config c = router_config(2);
    c.moe.every = 2;
    glam_model *model = glam_model_new(ctx, &c);
    glam_recipe recipe = router_recipe(3);
    glam_trainer *trainer = glam_trainer_new(model, text, NULL, &recipe);
    CHECK(!glam_model_routing(model, 0) && !glam_trainer_routing(trainer, 0));
    CHECK(!glam_trainer_routing(NULL, 0) && !glam_trainer_routing(trainer, 2));
    glam_train_step(trainer, NULL);
    const glam_routing *step = glam_model_routing(model, 0);
    CHECK(step && step == glam_trainer_routing(trainer, 0) && step->tokens == 8 * 16);
    CHECK(!glam_trainer_routing(trainer, 1));
    uint64_t before = test_hash(1, step->probability, 8 * 16 * 6 * sizeof(float));
    int32_t tokens[] = { 1, 2, 3 };
    glam_batch batch = { 1, 3, tokens, NULL, NULL, NULL };
    glam_no_grad(ctx, 1);
    glam_forward(model, &batch, GLAM_INFER);
    glam_no_grad(ctx, 0);
    const glam_routing *mine = glam_model_routing(model, 0);
    CHECK(mine && mine != step && mine->tokens == 3);
    CHECK(step->tokens == 8 * 16 && step == glam_trainer_routing(trainer, 0));
    CHECK(before == test_hash(1, step->probability, 8 * 16 * 6 * sizeof(float)));
    glam_train_step(trainer, NULL);
    CHECK(glam_model_routing(model, 0) == step);
    CHECK(glam_error(ctx) == GLAM_OK);
    glam_close(ctx);
}

static void test_routers(void)
{
    RUN(router_trace_training);
    RUN(router_trace_passes);
    RUN(router_two_records);
}
