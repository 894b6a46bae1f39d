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

// --- statistics ----------------------------------------------------------------------------------

enum { STAT_T = 300, STAT_E = 7, STAT_K = 3, STAT_V = 11, STAT_D = 4 };

// A pass made up by hand: any choices, drops, padding, weights.
typedef struct stat_pass {
    glam_routing r;
    int32_t expert[STAT_T * STAT_K], slot[STAT_T * STAT_K], kept[STAT_T * STAT_K];
    float   weight[STAT_T * STAT_K];
    int32_t token[STAT_T], text[STAT_T];
} stat_pass;

static void stat_make(stat_pass *p, uint64_t seed)
{
    memset(p, 0, sizeof *p);
    for (int t = 0; t < STAT_T; t++) {
        int e = (int)(glam_random(seed, 1, (uint64_t)t) * 4);
        int padding = glam_random(seed, 2, (uint64_t)t) < 0.1f;
        p->token[t] = (int32_t)(glam_random(seed, 3, (uint64_t)t) * STAT_V);
        p->text[t] = (int32_t)(glam_random(seed, 4, (uint64_t)t) * STAT_D);
        for (int i = 0; i < STAT_K; i++) {
            int at = t * STAT_K + i;
            float luck = glam_random(seed, 5, (uint64_t)at);
            p->expert[at] = padding ? -1 : (e + i * (1 + p->token[t] % 2)) % STAT_E;   // all differ
            p->kept[at] = !padding && luck < 0.8f;
            p->slot[at] = p->kept[at] ? t : -1;
            p->weight[at] = p->kept[at] ? luck : 0;
            p->r.dropped += !padding && !p->kept[at];
        }
    }
    p->r.tokens = STAT_T;
    p->r.experts = STAT_E;
    p->r.top_k = STAT_K;
    p->r.expert = p->expert;
    p->r.slot = p->slot;
    p->r.kept = p->kept;
    p->r.weight = p->weight;
    p->r.balance = 1 + (float)seed;
    p->r.entropy = 2 * (float)seed;
}

// Did token t choose e, at all or as number `order` (-1: any)?
static int stat_chose(const stat_pass *p, int t, int e, int order)
{
    for (int i = 0; i < STAT_K; i++)
        if (p->expert[t * STAT_K + i] == e && (order < 0 || order == i)) return 1;
    return 0;
}

static void router_stats_counts(void)
{
    stat_pass p[2];
    glam_options o = test_options();
    glam_ctx *ctx = glam_open(&o);
    glam_routing_stats *s = glam_stats_new(ctx, STAT_E, STAT_V, STAT_D);
    glam_routing_stats *half = glam_stats_new(ctx, STAT_E, STAT_V, STAT_D);
    int wrong = 0, dead = 0;
    double real = 0, balance = 0, entropy = 0, weight[2] = { 0, 0 }, most = 0, least = 1e9, hits = 0;
    for (int i = 0; i < 2; i++) {
        stat_make(&p[i], (uint64_t)i + 1);
        CHECK(glam_stats_add(ctx, i ? half : s, &p[i].r, p[i].token, p[i].text) == GLAM_OK);
    }
    CHECK(glam_stats_merge(ctx, s, half) == GLAM_OK);
    glam_stats_finish(s);
    for (int i = 0; i < 2; i++)
        for (int t = 0; t < STAT_T; t++) {
            if (p[i].expert[t * STAT_K] < 0) continue;
            real++;
            balance += (double)p[i].r.balance;
            entropy += (double)p[i].r.entropy;
            for (int j = 0; j < 2; j++) weight[j] += (double)p[i].weight[t * STAT_K + j];
        }
    for (int e = 0; e < STAT_E; e++) {
        uint64_t first = 0, chosen = 0, kept = 0;
        for (int i = 0; i < 2; i++)
            for (int t = 0; t < STAT_T; t++) {
                first += (uint64_t)stat_chose(&p[i], t, e, 0);
                chosen += (uint64_t)stat_chose(&p[i], t, e, -1);
                for (int j = 0; j < STAT_K; j++)
                    kept += p[i].expert[t * STAT_K + j] == e && p[i].kept[t * STAT_K + j];
            }
        wrong += s->first[e] != first || s->chosen[e] != chosen || s->kept[e] != kept;
        dead += (double)chosen < 0.01 * real * STAT_K / STAT_E;
        if ((double)first * STAT_E / real > most) most = (double)first * STAT_E / real;
        if ((double)first * STAT_E / real < least) least = (double)first * STAT_E / real;
        for (int f = 0; f < STAT_E; f++) {
            uint64_t both = 0;
            for (int i = 0; i < 2; i++)
                for (int t = 0; t < STAT_T; t++)
                    both += (uint64_t)(stat_chose(&p[i], t, e, -1) && stat_chose(&p[i], t, f, -1));
            wrong += s->together[e * STAT_E + f] != both;
        }
    }
    for (int v = 0; v < STAT_V; v++) {
        double best = 0;
        for (int e = 0; e < STAT_E; e++) {
            double n = 0;
            for (int i = 0; i < 2; i++)
                for (int t = 0; t < STAT_T; t++) n += p[i].token[t] == v && stat_chose(&p[i], t, e, 0);
            best = n > best ? n : best;
        }
        hits += best;
    }
    for (int d = 0; d < STAT_D; d++)
        for (int e = 0; e < STAT_E; e++) {
            double n = 0, all = 0;
            for (int i = 0; i < 2; i++)
                for (int t = 0; t < STAT_T; t++) {
                    if (p[i].text[t] != d || p[i].expert[t * STAT_K] < 0) continue;
                    n += stat_chose(&p[i], t, e, -1);
                    all += STAT_K;
                }
            wrong += fabs(s->text_load[d * STAT_E + e] - n / all * STAT_E) > 1e-12;
        }
    CHECK(wrong == 0);
    CHECK(s->tokens == (uint64_t)real && s->choices == (uint64_t)(real * STAT_K));
    CHECK(s->dead == dead && s->dropped == (uint64_t)(p[0].r.dropped + p[1].r.dropped));
    CHECK_NEAR(s->fullest, most, 1e-12);
    CHECK_NEAR(s->emptiest, least, 1e-12);
    CHECK_NEAR(s->dropped_share, (p[0].r.dropped + p[1].r.dropped) / (real * STAT_K), 1e-12);
    CHECK_NEAR(s->balance, balance / real, 1e-12);
    CHECK_NEAR(s->entropy, entropy / real, 1e-12);
    CHECK_NEAR(s->weight_first, weight[0] / real, 1e-12);
    CHECK_NEAR(s->weight_second, weight[1] / real, 1e-12);
    CHECK_NEAR(s->token_specialisation, hits / real, 1e-12);
    CHECK(s->kept_fullest >= 1 && s->kept_emptiest <= 1 && s->fullest > s->emptiest);
    CHECK(glam_error(ctx) == GLAM_OK);
    glam_close(ctx);
}

static void router_stats_agreement(void)
{
    stat_pass now, before;
    glam_options o = test_options();
    glam_ctx *ctx = glam_open(&o);
    double first = 0, same = 0, real = 0;
    stat_make(&now, 1);
    stat_make(&before, 1);
    for (int t = 0; t < STAT_T; t++) {             // before: every third token had other experts, every
        int32_t *e = &before.expert[t * STAT_K], x = e[0];     // other one another order
        if (e[0] < 0) continue;
        if (t % 3 == 0) for (int i = 0; i < STAT_K; i++) e[i] = (e[i] + 1) % STAT_E;
        else if (t % 2) { e[0] = e[1]; e[1] = x; }
    }
    for (int t = 0; t < STAT_T; t++)
        for (int i = 0; i < STAT_K && now.expert[t * STAT_K] >= 0; i++) {
            real += i == 0;
            first += i == 0 && before.expert[t * STAT_K] == now.expert[t * STAT_K];
            same += stat_chose(&before, t, now.expert[t * STAT_K + i], -1);
        }
    glam_routing_stats *s = glam_stats_new(ctx, STAT_E, 0, 0);
    CHECK(glam_stats_compare(ctx, s, &now.r, &before.r) == GLAM_OK);
    glam_stats_finish(s);
    CHECK_NEAR(s->agreement_first, first / real, 1e-12);
    CHECK_NEAR(s->agreement, same / (real * STAT_K), 1e-12);
    CHECK(first < real && same > first && same < real * STAT_K);
    CHECK(s->tokens == 0 && s->fullest == 0 && s->token_specialisation == 0);   // nothing added yet
    glam_close(ctx);
}

// Loads from 0.5 to 1.5 with a balance of 1: it proves nothing, and is not the least there is.
static void router_balance_is_no_proof(void)
{
    glam_options o = test_options();
    glam_ctx *ctx = glam_open(&o);
    glam_moe_config c = glam_moe_config_default();
    c.experts = 2;
    c.top_k = 1;
    c.hidden = 4;
    glam_moe_weights w = glam_moe_init(ctx, "w", 1, &c);
    w.router->data[0] = 1;
    w.router->data[1] = 0;
    // three of four tokens prefer expert 0, and only just; the last prefers expert 1 by a mile
    float x[4] = { 0.1f, 0.1f, 0.1f, -6 };
    glam_routing r;
    glam_moe(ctx, glam_input(ctx, x, glam_dim2(4, 1)), &w, &c, &r, NULL);
    glam_routing_stats *s = glam_stats_new(ctx, 2, 0, 0);
    glam_stats_add(ctx, s, &r, NULL, NULL);
    glam_stats_finish(s);
    CHECK_NEAR(s->fullest, 1.5, 1e-12);
    CHECK_NEAR(s->emptiest, 0.5, 1e-12);
    CHECK(s->balance < 0.95);
    CHECK_NEAR(s->balance, (double)r.balance, 1e-9);
    CHECK(glam_error(ctx) == GLAM_OK);
    glam_close(ctx);
}

static void router_stats_failures(void)
{
    stat_pass p;
    glam_options o = test_options();
    stat_make(&p, 1);
    for (int i = 0; i < 6; i++) {
        glam_ctx *ctx = glam_open(&o);
        glam_routing_stats *s = i == 0 ? glam_stats_new(ctx, 0, 0, 0) : glam_stats_new(ctx, 7, 11, 4);
        glam_routing_stats *other = i ? glam_stats_new(ctx, 7, 10, 4) : NULL;
        if (i == 1) CHECK(glam_stats_add(ctx, s, NULL, NULL, NULL) == GLAM_ERR_VALUE);
        if (i == 2) CHECK(glam_stats_merge(ctx, s, other) == GLAM_ERR_VALUE);
        if (i == 3) CHECK(glam_stats_add(ctx, other, &p.r, p.token, NULL) == GLAM_ERR_VALUE);
        if (i == 4) CHECK(glam_stats_compare(ctx, s, &p.r, NULL) == GLAM_ERR_VALUE);
        if (i == 5) CHECK(glam_stats_add(ctx, NULL, &p.r, NULL, NULL) == GLAM_ERR_VALUE);
        CHECK(glam_error(ctx) == GLAM_ERR_VALUE && strstr(glam_error_text(ctx), "stats: "));
        if (i == 3) CHECK(other->tokens == 0);         // all or nothing
        glam_close(ctx);
    }
    CHECK(!glam_stats_new(NULL, 1, 1, 1) && glam_stats_add(NULL, NULL, NULL, NULL, NULL) != GLAM_OK);
    glam_stats_finish(NULL);
}

static void test_routers(void)
{
    RUN(router_trace_training);
    RUN(router_trace_passes);
    RUN(router_two_records);
    RUN(router_stats_counts);
    RUN(router_stats_agreement);
    RUN(router_balance_is_no_proof);
    RUN(router_stats_failures);
}
