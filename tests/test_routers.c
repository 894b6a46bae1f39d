/* What routers do and what can be seen of it: traces, statistics, the rows of the router table, knobs,
   growing and pruning.  Kinds: value (slow loops in double), property, failure. */

// --- traces --------------------------------------------------------------------------------------

// What a listener saw, judged on the spot: its arrays are gone when it returns.
typedef struct router_ear {
    int calls, wrong, train, evaluate, generate, parts, last_step, positions, padding, dropped;
    const float *x, *router;               // of a mixture of one's own, [T,4] and [4,E]
    int logits;                            // of it, that were done again
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
    for (int i = 0; i < r->tokens * r->experts && t->layer < 0 && ear->x; i++, ear->logits++) {
        double l = 0;                      // the logits themselves: a softmax forgets a constant
        for (int m = 0; m < 4; m++)
            l += (double)ear->x[i / r->experts * 4 + m] *
                 (double)ear->router[m * r->experts + i % r->experts];
        ear->wrong += !router_is((double)t->logit[i], l);
    }
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
    o.threads = 1;
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
    ear.x = x;
    ear.router = w.router->data;
    glam_moe(ctx, glam_input(ctx, x, glam_dim2(5, 4)), &w, &moe, NULL, NULL);
    CHECK(ear.calls == 7 && ear.train == 1 && ear.wrong == 0 && ear.logits == 5 * 3);
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
    double kept_most = 0, kept_least = 1e9, kept_all = 0;
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
        kept_all += (double)kept;
        kept_most = (double)kept > kept_most ? (double)kept : kept_most;
        kept_least = (double)kept < kept_least ? (double)kept : kept_least;
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
    CHECK_NEAR(s->kept_fullest, kept_most * STAT_E / kept_all, 1e-12);
    CHECK_NEAR(s->kept_emptiest, kept_least * STAT_E / kept_all, 1e-12);
    CHECK(kept_most > kept_least && s->fullest > s->emptiest);
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

// Dead is less than a hundredth of the mean: of 4 in 800 choices by two experts one is not, of 3 one is.
static void router_stats_dead(void)
{
    glam_options o = test_options();
    glam_ctx *ctx = glam_open(&o);
    for (uint64_t few = 3; few <= 4; few++) {
        glam_routing_stats *s = glam_stats_new(ctx, 2, 0, 0);
        s->tokens = s->choices = 800;
        s->first[0] = s->chosen[0] = 800 - few;
        s->first[1] = s->chosen[1] = few;
        glam_stats_finish(s);
        CHECK(s->dead == (few < 4));
        CHECK_NEAR(s->emptiest, (double)few / 400, 1e-12);
    }
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

// --- the rows of the router table ----------------------------------------------------------------

typedef struct router_case { glam_ctx *ctx; glam_moe_config c; glam_moe_weights w; glam_tensor *x; int T; }
    router_case;

// T tokens of 5 numbers, all the same where `same`.
static router_case router_new(glam_router router, int T, int same, int E, int k)
{
    router_case r;
    glam_options o = test_options();
    memset(&r, 0, sizeof r);
    r.ctx = glam_open(&o);
    r.c = glam_moe_config_default();
    r.c.router = router;
    r.c.experts = E;
    r.c.top_k = k;
    r.c.hidden = 6;
    r.T = T;
    r.w = glam_moe_init(r.ctx, "w", 5, &r.c);
    float *x = (float *)malloc((size_t)T * 5 * sizeof *x);
    for (int i = 0; i < T * 5; i++) x[i] = glam_normal(3, 1, (uint64_t)(same ? i % 5 : i));
    r.x = glam_input(r.ctx, x, glam_dim2(T, 5));
    free(x);
    return r;
}

static glam_routing router_run(router_case *r)
{
    glam_routing routing;
    glam_moe(r->ctx, r->x, &r->w, &r->c, &routing, NULL);
    CHECK(glam_error(r->ctx) == GLAM_OK);
    return routing;
}

// The others are drawn without putting back, by their share of what the first leaves.
static void router_sampled_shares(void)
{
    router_case c = router_new(GLAM_ROUTER_SAMPLED, 20000, 1, 4, 2);
    glam_routing r = router_run(&c);
    double count[4] = { 0 }, first = (double)r.probability[r.expert[0]];
    int wrong = 0;
    for (int t = 0; t < c.T; t++) {
        wrong += r.expert[2 * t] != r.expert[0] || r.expert[2 * t + 1] == r.expert[0];
        count[r.expert[2 * t + 1]]++;
    }
    CHECK(wrong == 0);
    for (int e = 0; e < 4; e++)
        if (e != r.expert[0]) {
            double share = (double)r.probability[e] / (1 - first);
            CHECK_NEAR(count[e] / c.T, share, 5 * sqrt(share * (1 - share) / c.T));   // five sigmas
            CHECK(count[e] > 0);
        }
    glam_close(c.ctx);
}

// The second stays with probability weight / threshold; who stays keeps the weight.
static void router_random_shares(void)
{
    for (int i = 0; i < 2; i++) {
        router_case c = router_new(GLAM_ROUTER_RANDOM, 20000, 1, 4, 2);
        c.c.threshold = i ? 0.2f : 0.8f;
        glam_routing r = router_run(&c);
        double second = (double)r.probability[r.expert[1]], kept = 0;
        int wrong = 0;
        second /= second + (double)r.probability[r.expert[0]];
        for (int t = 0; t < c.T; t++) {
            int at = 2 * t + 1;
            kept += r.kept[at];
            wrong += !r.kept[at - 1] || (!r.kept[at] && (r.slot[at] != -2 || r.weight[at] != 0));
            wrong += r.kept[at] && !router_is((double)r.weight[at], second);
        }
        double share = second / (double)c.c.threshold < 1 ? second / (double)c.c.threshold : 1;
        CHECK(wrong == 0 && r.dropped == 0);
        CHECK_NEAR(kept / c.T, share, 5 * sqrt(share * (1 - share) / c.T));
        CHECK(i == 1 || share < 1);
        glam_close(c.ctx);
    }
}

// Logits are x Wr plus normal noise of softplus(x Wn).
typedef struct router_moments { double sum[4], square[4]; int T; } router_moments;

static void router_hear_moments(void *user, const glam_trace *t)
{
    router_moments *m = (router_moments *)user;
    m->T = t->routing->tokens;
    for (int i = 0; i < m->T * 4; i++) {
        m->sum[i % 4] += (double)t->logit[i];
        m->square[i % 4] += (double)t->logit[i] * (double)t->logit[i];
    }
}

static void router_noisy_moments(void)
{
    router_moments m;
    router_case c = router_new(GLAM_ROUTER_NOISY, 20000, 1, 4, 2);
    memset(&m, 0, sizeof m);
    c.ctx->options.trace = router_hear_moments;
    c.ctx->options.trace_user = &m;
    CHECK(c.w.noise && c.w.noise->data[7] == 0);           // it starts at softplus(0) = ln 2 for all
    for (int i = 0; i < 20; i++) c.w.noise->data[i] = 0.3f * (float)(i % 4);
    router_run(&c);
    for (int e = 0; e < 4; e++) {
        double l = 0, z = 0, mean = m.sum[e] / m.T;
        for (int i = 0; i < 5; i++) {
            l += (double)c.x->data[i] * (double)c.w.router->data[i * 4 + e];
            z += (double)c.x->data[i] * (double)c.w.noise->data[i * 4 + e];
        }
        double sigma = log(1 + exp(z)), var = m.square[e] / m.T - mean * mean;
        CHECK_NEAR(mean, l, 5 * sigma / sqrt(m.T));
        CHECK_NEAR(var / (sigma * sigma), 1, 5 * sqrt(2.0 / m.T));
    }
    glam_close(c.ctx);
}

// Each expert's best tokens, by a loop over all of them; the sum in double.
static void router_expert_choice_values(void)
{
    for (int i = 0; i < 4; i++) {
        enum { T = 24, E = 5 };
        int group = i % 2 ? 8 : T, C = i / 2 ? 3 : (group * 2 + E - 1) / E, wrong = 0;
        int32_t mask[T];
        router_case c = router_new(GLAM_ROUTER_EXPERT_CHOICE, T, 0, E, 2);
        glam_routing r;
        c.c.group = group;
        c.c.capacity = i / 2 ? 3 : 0;
        for (int t = 0; t < T; t++) mask[t] = i != 1 || t % 5 != 2;
        glam_tensor *balance, *y = glam_moe_masked(c.ctx, c.x, mask, &c.w, &c.c, &r, &balance);
        CHECK(r.top_k == E && r.capacity == C && r.dropped == 0);
        for (int t = 0; t < T; t++) {
            int count = 0;
            double out[5] = { 0 };
            for (int e = 0; e < E; e++) {
                int before = 0, has = 0, from = t / group * group;
                float p = r.probability[t * E + e];
                for (int o = from; o < from + group; o++) {
                    float q = r.probability[o * E + e];
                    before += mask[o] && (q > p || (q == p && o < t));
                }
                int takes = mask[t] && before < C;
                count += takes;
                for (int j = 0; j < E; j++)
                    if (r.expert[t * E + j] == e) {
                        has++;
                        wrong += r.slot[t * E + j] != before || !r.kept[t * E + j];
                        wrong += r.weight[t * E + j] != p;
                    }
                wrong += has != takes;
                for (int h = 0; h < 6 && takes; h++) {
                    double g = 0, u = 0;
                    for (int m = 0; m < 5; m++) {
                        g += (double)c.x->data[t * 5 + m] * (double)c.w.gate->data[(e * 5 + m) * 6 + h];
                        u += (double)c.x->data[t * 5 + m] * (double)c.w.up->data[(e * 5 + m) * 6 + h];
                    }
                    double v = (double)p * slow_act(c.c.activation, g, u);
                    for (int m = 0; m < 5; m++) out[m] += v * (double)c.w.down->data[(e * 6 + h) * 5 + m];
                }
            }
            for (int j = count; j < E; j++)
                wrong += r.expert[t * E + j] != -1 || r.slot[t * E + j] != (mask[t] ? -2 : -1);
            for (int j = 1; j < count; j++)                // best first
                wrong += r.probability[t * E + r.expert[t * E + j - 1]] <
                         r.probability[t * E + r.expert[t * E + j]];
            for (int m = 0; m < 5; m++) wrong += !router_is((double)y->data[t * 5 + m], out[m]);
        }
        CHECK(wrong == 0);
        CHECK(balance && balance->data[0] == 0);           // there is nothing left to balance
        CHECK(glam_error(c.ctx) == GLAM_OK);
        glam_close(c.ctx);
    }
}

// Sigmoid scores, a bias for the choice alone, a scale of the weights.
static void router_sigmoid_and_bias(void)
{
    for (int i = 0; i < 4; i++) {
        enum { T = 40, E = 6, K = 3 };
        static const float shift[E] = { 0.4f, -0.3f, 0, 0.2f, -0.1f, 0.6f };
        int sigmoid = i % 2, wrong = 0, moved = 0;
        router_case c = router_new(GLAM_ROUTER_TOP_K, T, 0, E, K);
        c.c.score = sigmoid ? GLAM_SCORE_SIGMOID : GLAM_SCORE_SOFTMAX;
        c.c.weight_scale = i / 2 ? 2.5f : 1;
        c.c.temperature = i / 2 ? 0.7f : 1;
        c.w.bias = glam_input(c.ctx, shift, glam_dim1(E));
        glam_routing r = router_run(&c);
        double balance = 0, entropy = 0;
        for (int t = 0; t < T; t++) {
            double s[E], sum = 0, chosen = 0, top = -1e9, q = 0;
            for (int e = 0; e < E; e++) {
                s[e] = 0;
                for (int m = 0; m < 5; m++)
                    s[e] += (double)c.x->data[t * 5 + m] * (double)c.w.router->data[m * E + e];
                s[e] /= (double)c.c.temperature;
                top = s[e] > top ? s[e] : top;
            }
            for (int e = 0; e < E; e++) s[e] = sigmoid ? 1 / (1 + exp(-s[e])) : exp(s[e] - top);
            for (int e = 0; e < E; e++) sum += s[e];
            for (int e = 0; e < E && !sigmoid; e++) s[e] /= sum;
            if (!sigmoid) sum = 1;
            for (int j = 0; j < K; j++) {
                int e = r.expert[t * K + j], better = 0, plain = 0;
                for (int o = 0; o < E; o++) {
                    better += s[o] + (double)shift[o] > s[e] + (double)shift[e] + 1e-6;
                    plain += s[o] > s[e];
                }
                wrong += better > j;
                moved += plain != j;
                chosen += s[e];
            }
            for (int j = 0; j < K; j++)
                wrong += !router_is((double)r.weight[t * K + j],
                                    s[r.expert[t * K + j]] / chosen * (double)c.c.weight_scale);
            for (int e = 0; e < E; e++) {
                double f = 0;
                for (int o = 0; o < T; o++) f += r.expert[o * K] == e;
                q = s[e] / sum;
                balance += E * f / T * q / T;
                entropy -= q * log(q) / T;
            }
        }
        CHECK(wrong == 0 && moved > 0);                    // the bias did change choices
        CHECK_NEAR(r.balance, balance, 1e-5);
        CHECK_NEAR(r.entropy, entropy, 1e-5);
        glam_close(c.ctx);
    }
}

// What granitemoe and gpt_oss do, a softmax of the k chosen logits, is before_drop.
static void router_softmax_of_the_chosen(void)
{
    router_case c = router_new(GLAM_ROUTER_TOP_K, 50, 0, 8, 3);
    glam_routing r = router_run(&c);
    int wrong = 0;
    for (int t = 0; t < 50; t++) {
        double l[3], sum = 0;
        for (int j = 0; j < 3; j++) {
            l[j] = 0;
            for (int m = 0; m < 5; m++)
                l[j] += (double)c.x->data[t * 5 + m] *
                        (double)c.w.router->data[m * 8 + r.expert[t * 3 + j]];
            sum += exp(l[j]);
        }
        for (int j = 0; j < 3; j++) wrong += fabs((double)r.weight[t * 3 + j] - exp(l[j]) / sum) > 1e-6;
    }
    CHECK(wrong == 0);
    glam_close(c.ctx);
}

static void router_bias_steps(void)
{
    router_case c = router_new(GLAM_ROUTER_TOP_K, 4, 0, 4, 2);
    float start[4] = { 1, 1, 1, 1 };
    int32_t load[4] = { 10, 2, 4, 0 };                     // the mean is 4
    glam_tensor *b = glam_input(c.ctx, start, glam_dim1(4));
    glam_moe_bias(b, load, 0.25f);
    CHECK(b->data[0] == 0.75f && b->data[1] == 1.25f && b->data[2] == 1 && b->data[3] == 1.25f);
    glam_moe_bias(NULL, load, 1);
    glam_moe_bias(b, NULL, 1);
    CHECK(b->data[0] == 0.75f);
    glam_close(c.ctx);
}

// --- routers in models: training, recomputing, files, generation ----------------------------------

static const char router_text[] = "the quick brown fox jumps over the lazy dog, again and again. ";

static glam_config router_model_config(int row)
{
    glam_config c = router_config(2);
    c.moe.router = (glam_router)(row % 6);
    c.moe.experts = 5;
    if (row >= 6) {                                        // what goes with any of them
        c.moe.score = GLAM_SCORE_SIGMOID;
        c.moe.shared = 12;
        c.moe.weight_scale = 1.5f;
        c.moe.bias = row % 6 < 4;
        c.moe.bias_rate = 0.01f;
    }
    return c;
}

// Four steps, cut into so many parts, recomputed or not, on so many threads; the weights' hash, and the
// file where there is room for one.
static uint64_t router_four_steps(const glam_config *c, int recompute, int threads, char **file, size_t *n)
{
    glam_options o = test_options();
    o.threads = threads;
    glam_ctx *ctx = glam_open(&o);
    glam_text *text = test_text(ctx, 3000);
    glam_model *model = glam_model_new(ctx, c);
    glam_recipe recipe = router_recipe(4);
    recipe.accumulate = 2;
    recipe.recompute = recompute;
    glam_trainer *trainer = glam_trainer_new(model, text, NULL, &recipe);
    glam_report report;
    double first = 0;
    while (glam_train_step(trainer, &report)) first = first > 0 ? first : report.loss;
    CHECK(report.loss < first && !report.skipped);
    uint64_t hash = test_model_hash(model);
    if (c->moe.bias) {
        const float *b = glam_model_tensor(model, "layers.1.moe.bias")->data;
        double moved = 0;
        for (int e = 0; e < c->moe.experts; e++) moved += fabs((double)b[e]);
        CHECK(moved > 0.02 && moved < 4 * 0.01 * 5 + 1e-6);    // steps of 0.01, four of them
    }
    if (file) {
        *n = glam_save_memory(model, NULL, 0);
        *file = (char *)malloc(*n);
        CHECK(glam_save_memory(model, *file, *n) == *n);
    }
    if (glam_error(ctx) != GLAM_OK) printf("%s\n", glam_error_text(ctx));
    CHECK(glam_error(ctx) == GLAM_OK);
    glam_close(ctx);
    return hash;
}

static void router_rows_train(void)
{
    for (int row = 0; row < 12; row++) {
        glam_config c = router_model_config(row);
        char *file = NULL;
        size_t bytes = 0;
        uint64_t hash = router_four_steps(&c, 0, 1, &file, &bytes);
        CHECK(hash == router_four_steps(&c, 1, 3, NULL, NULL));    // draws the same numbers again
        glam_options o = test_options();
        o.seed = 99;                                       // a model in use knows no seed
        glam_ctx *ctx = glam_open(&o);
        glam_model *model = glam_load_memory(ctx, file, bytes);
        CHECK(model && test_model_hash(model) == hash);
        CHECK(glam_model_config(model)->moe.router == c.moe.router);
        CHECK(!glam_model_tensor(model, "layers.0.moe.router") == (c.moe.router == GLAM_ROUTER_HASH));
        CHECK(!glam_model_tensor(model, "layers.0.moe.noise") == (c.moe.router != GLAM_ROUTER_NOISY));
        int32_t ids[20];
        glam_encode(NULL, router_text, 20, ids, 20);
        glam_batch batch = { 1, 20, ids, NULL, NULL, NULL };
        glam_tensor *y = glam_forward(model, &batch, GLAM_INFER);
        CHECK(y != NULL);
        glam_session *s = glam_session_new(model, 20);
        if (c.moe.router == GLAM_ROUTER_EXPERT_CHOICE) {
            CHECK(!s && glam_error(ctx) == GLAM_ERR_STATE && strstr(glam_error_text(ctx), "later"));
        } else {
            glam_next(s, ids, 13);
            const float *logits = glam_next(s, ids + 13, 7);
            CHECK(logits && y && !memcmp(logits, y->data + 19 * 256, 256 * sizeof(float)));
        }
        free(file);
        glam_close(ctx);
    }
}

// Hash: the same experts for the same id, wherever and with whatever seed; all experts are in use.
static void router_hash_by_id(void)
{
    int32_t seen[2][256][2];
    int used[8] = { 0 };
    for (int run = 0; run < 2; run++) {
        glam_options o = test_options();
        o.seed = 5 + (uint64_t)run;
        glam_ctx *ctx = glam_open(&o);
        glam_config c = router_config(2);
        c.moe.router = GLAM_ROUTER_HASH;
        c.moe.experts = 8;
        glam_model *model = glam_model_new(ctx, &c);
        int32_t ids[512];
        for (int i = 0; i < 512; i++) ids[i] = run ? 255 - i % 256 : i % 256;
        glam_batch batch = { 1, 512, ids, NULL, NULL, NULL };
        glam_forward(model, &batch, GLAM_TRAIN);
        const glam_routing *a = glam_model_routing(model, 0), *b = glam_model_routing(model, 1);
        int wrong = 0, differ = 0;
        for (int i = 0; i < 512; i++) {
            const int32_t *e = a->expert + 2 * i;
            if (i < 256) memcpy(seen[run][ids[i]], e, sizeof seen[0][0]);
            else wrong += memcmp(seen[run][ids[i]], e, sizeof seen[0][0]) != 0;
            wrong += e[0] == e[1] || a->weight[2 * i] != 0.5f || a->weight[2 * i + 1] != 0.5f;
            differ += e[0] != b->expert[2 * i];
            used[e[0]]++;
        }
        CHECK(wrong == 0 && differ > 300);                 // layers hash apart
        CHECK(glam_error(ctx) == GLAM_OK);
        glam_close(ctx);
    }
    CHECK(memcmp(seen[0], seen[1], sizeof seen[0]) == 0);
    for (int e = 0; e < 8; e++) CHECK(used[e] > 2 * 512 / 8 / 2 && used[e] < 2 * 512 / 8 * 2);
}

// A shared expert: with experts that give nothing the mixture is a dense layer; one that gives nothing
// leaves the mixture as it is.
static void router_shared_is_dense(void)
{
    glam_options o = test_options();
    double loss[4];
    for (int i = 0; i < 4; i++) {
        glam_ctx *ctx = glam_open(&o);
        glam_config c = router_config(1);
        if (i == 1) c.moe.experts = 0;
        c.hidden = 30;
        c.moe.shared = i == 0 || i == 2 ? 30 : 0;
        glam_model *model = glam_model_new(ctx, &c);
        static const char *const part[3] = { "gate", "up", "down" };
        for (int j = 0; j < 3 && i < 2; j++) {             // the same numbers in both
            char name[64];
            sprintf(name, i ? "layers.0.ffn.%s" : "layers.0.moe.shared.%s", part[j]);
            glam_tensor *t = glam_model_tensor(model, name);
            for (size_t k = 0; k < glam_size(t); k++) t->data[k] = 0.2f * glam_normal(7, (uint64_t)j, k);
        }
        if (i == 0) glam_fill(glam_model_tensor(model, "layers.0.moe.down"), 0);
        if (i == 2) glam_fill(glam_model_tensor(model, "layers.0.moe.shared.down"), 0);
        int32_t ids[20];
        glam_encode(NULL, router_text, 20, ids, 20);
        glam_batch batch = { 1, 19, ids, ids + 1, NULL, NULL };
        glam_losses l;
        glam_loss(model, &batch, GLAM_INFER, &l);
        loss[i] = l.xent;
        CHECK(glam_error(ctx) == GLAM_OK);
        glam_close(ctx);
    }
    CHECK_NEAR(loss[0], loss[1], 1e-5);
    CHECK_NEAR(loss[2], loss[3], 1e-6);
    CHECK(fabs(loss[0] - loss[2]) > 1e-3);
}

static void router_failures(void)
{
    static const char *const word[8] = { "router", "temperature", "weight_scale", "z-loss", "bias means",
                                         "noise", "token ids", "bias is" };
    for (int i = 0; i < 8; i++) {
        router_case c = router_new(GLAM_ROUTER_TOP_K, 4, 0, 4, 2);
        float one[3] = { 0, 0, 0 };
        if (i == 0) c.c.router = (glam_router)6;
        if (i == 1) c.c.temperature = 0;
        if (i == 2) c.c.weight_scale = -1;
        if (i == 3) { c.c.score = GLAM_SCORE_SIGMOID; c.c.router_z_weight = 0.1f; }
        if (i == 4) { c.c.router = GLAM_ROUTER_EXPERT_CHOICE; c.c.bias = 1; }
        if (i == 5) c.c.router = GLAM_ROUTER_NOISY;
        if (i == 6) c.c.router = GLAM_ROUTER_HASH;
        if (i == 7) c.w.bias = glam_input(c.ctx, one, glam_dim1(3));
        CHECK(!glam_moe(c.ctx, c.x, &c.w, &c.c, NULL, NULL));
        CHECK(glam_error(c.ctx) != GLAM_OK && strstr(glam_error_text(c.ctx), word[i]));
        glam_close(c.ctx);
    }
}

// --- knobs ---------------------------------------------------------------------------------------

static void router_tuned(void)
{
    static const unsigned char off[6] = { 0, 1, 0, 0, 1, 0 };
    glam_options o = test_options();
    glam_ctx *ctx = glam_open(&o);
    glam_text *text = test_text(ctx, 3000);
    glam_config c = router_config(3);
    glam_model *model = glam_model_new(ctx, &c);
    glam_recipe recipe = router_recipe(9);
    glam_trainer *trainer = glam_trainer_new(model, text, NULL, &recipe);
    glam_report report;
    glam_train_step(trainer, &report);
    double even = report.balance;
    CHECK_NEAR(report.aux_loss, 3 * 0.01 * even, 1e-9);
    glam_moe_config now = *glam_model_moe(model, 1);
    now.aux_weight = 0.5f;
    now.top_k = 4;
    now.temperature = 10;
    CHECK(glam_model_tune(model, 1, &now, off) == GLAM_OK);
    CHECK(glam_model_moe(model, 1)->top_k == 4 && glam_model_moe(model, 0)->top_k == 2);
    CHECK(glam_model_config(model)->moe.top_k == 2);
    glam_train_step(trainer, &report);
    const glam_routing *r = glam_trainer_routing(trainer, 1), *other = glam_trainer_routing(trainer, 0);
    CHECK(r->top_k == 4 && other->top_k == 2);
    CHECK(r->load[1] == 0 && r->load[4] == 0 && r->load[0] == 128 && r->load[5] == 128);
    CHECK(other->load[1] + other->load[4] > 0);
    CHECK(r->probability[1] == 0 && r->entropy > 1.3f);        // four experts, nearly even: ln 4
    CHECK_NEAR(report.aux_loss, 0.01 * (double)(other->balance + glam_trainer_routing(trainer, 2)->balance) +
               0.5 * (double)r->balance, 1e-6);
    CHECK_NEAR(report.total, report.loss + report.z_loss + report.aux_loss, 1e-12);
    now.capacity = 4;                                      // now all layers: 4 slots, top-1
    now.top_k = 1;
    now.normalise = GLAM_NORMALISE_NONE;
    CHECK(glam_model_tune(model, -1, &now, NULL) == GLAM_OK);
    CHECK(glam_model_config(model)->moe.top_k == 1);
    glam_train_step(trainer, &report);
    for (int i = 0; i < 3; i++) {
        r = glam_trainer_routing(trainer, i);
        CHECK(r->top_k == 1 && r->capacity == 4 && r->dropped >= 128 - 6 * 4);
    }
    CHECK(glam_error(ctx) == GLAM_OK);
    uint64_t held = glam_memory(ctx).allocations;
    for (int i = 0; i < 3; i++) glam_train_step(trainer, NULL);
    CHECK(held == glam_memory(ctx).allocations);           // steady again
    glam_close(ctx);
}

static void router_tune_failures(void)
{
    static const unsigned char off[6] = { 1, 1, 1, 1, 1, 0 };
    static const char *const word[6] = { "no mixture", "no mixture", "belong", "switched off", "top_k", "made of" };
    for (int i = 0; i < 6; i++) {
        glam_options o = test_options();
        glam_ctx *ctx = glam_open(&o);
        glam_config c = router_config(2);
        c.moe.every = 2;
        glam_model *model = glam_model_new(ctx, &c);
        glam_moe_config now = *glam_model_moe(model, 0);
        if (i == 2) now.hidden = 3;
        if (i == 4) now.top_k = 7;
        if (i == 5) now.router = GLAM_ROUTER_HASH;
        CHECK(glam_model_tune(model, i == 0, i == 1 ? NULL : &now, i == 3 ? off : NULL) == GLAM_ERR_VALUE);
        CHECK(strstr(glam_error_text(ctx), word[i]) != NULL);
        CHECK(!glam_model_moe(model, 1) && !glam_model_moe(NULL, 0) && !glam_model_moe(model, -1));
        glam_close(ctx);
    }
    CHECK(glam_model_tune(NULL, 0, NULL, NULL) != GLAM_OK);
}

// --- growing and pruning -------------------------------------------------------------------------

static double router_loss(glam_model *model)
{
    int32_t ids[49];
    glam_losses l;
    glam_encode(NULL, router_text, 49, ids, 49);
    glam_batch batch = { 2, 24, ids, ids + 1, NULL, NULL };
    glam_forget(glam_model_ctx(model));
    glam_loss(model, &batch, GLAM_INFER, &l);
    return l.xent;
}

static void router_upcycled(void)
{
    for (int i = 0; i < 2; i++) {
        glam_options o = test_options();
        o.threads = 1;
        glam_ctx *ctx = glam_open(&o);
        glam_text *text = test_text(ctx, 3000);
        glam_config c = router_config(4);
        c.moe.experts = 0;
        c.activation = i ? GLAM_SWIGLU : GLAM_GELU_TANH;
        glam_model *dense = glam_model_new(ctx, &c);
        glam_recipe recipe = router_recipe(20);
        glam_trainer *trainer = glam_trainer_new(dense, text, NULL, &recipe);
        while (glam_train_step(trainer, NULL)) {}
        glam_moe_config moe = glam_moe_config_default();
        moe.experts = 5;
        moe.top_k = 3;
        moe.every = 2;
        moe.shared = i ? 7 : 0;                                // gives zeros at first
        glam_model *model = glam_upcycle(dense, &moe);
        CHECK(model && glam_model_config(model)->moe.activation == (i ? GLAM_SWIGLU : GLAM_GEGLU));
        CHECK(glam_model_moe(model, 0) && !glam_model_moe(model, 1) && glam_model_moe(model, 2));
        double before = router_loss(dense);
        CHECK_NEAR(router_loss(model), before, 1e-5);          // equal loss is the test
        // twice the experts, then those of old again: the loss of what was there
        glam_trainer *more = glam_trainer_new(model, text, NULL, &recipe);
        while (glam_train_step(more, NULL)) {}
        CHECK(fabs(router_loss(model) - before) > 1e-3);       // the copies have learnt
        int32_t twice[40], again[20];
        for (int e = 0; e < 40; e++) twice[e] = e % 10 % 5;
        for (int e = 0; e < 20; e++) again[e] = 5 + e % 5;
        glam_model *wide = glam_select_experts(model, twice, 10);
        glam_model *back = glam_select_experts(wide, again, 5);
        CHECK(wide && glam_model_config(wide)->moe.experts == 10 && back);
        CHECK(test_model_hash(back) == test_model_hash(model));
        CHECK(glam_error(ctx) == GLAM_OK);
        glam_close(ctx);
    }
}

// What nobody chooses can go: with the rest the loss is what it was.
static void router_pruned(void)
{
    glam_options o = test_options();
    glam_ctx *ctx = glam_open(&o);
    glam_config c = router_config(2);
    glam_model *model = glam_model_new(ctx, &c);
    static const unsigned char off[6] = { 0, 1, 0, 0, 1, 0 };
    int32_t ids[48], row[2 * 4], *at = row;
    glam_encode(NULL, router_text, 48, ids, 48);
    glam_batch batch = { 2, 24, ids, NULL, NULL, NULL };
    CHECK(glam_model_tune(model, -1, glam_model_moe(model, 0), off) == GLAM_OK);
    double loss = router_loss(model);
    glam_forget(ctx);
    glam_forward(model, &batch, GLAM_INFER);
    for (int layer = 0; layer < 2; layer++, at += 4) {
        glam_routing_stats *s = glam_stats_new(ctx, 6, 0, 0);
        glam_stats_add(ctx, s, glam_model_routing(model, layer), NULL, NULL);
        CHECK(glam_stats_most(ctx, s, 4, at) == GLAM_OK);
        CHECK(at[0] == 0 && at[1] == 2 && at[2] == 3 && at[3] == 5);
        CHECK(s->chosen[1] == 0 && s->chosen[4] == 0);
        glam_stats_finish(s);
        CHECK(s->dead >= 2 && s->emptiest == 0);           // those that are off
    }
    glam_model *small = glam_select_experts(model, row, 4);
    CHECK(small && glam_model_count(small, NULL) < glam_model_count(model, NULL));
    CHECK_NEAR(router_loss(small), loss, 1e-6);
    CHECK(glam_error(ctx) == GLAM_OK);
    glam_close(ctx);
}

static void router_growing_failures(void)
{
    static const char *const word[5] = { "already", "activation", "top_k", "select_experts", "cannot be kept" };
    for (int i = 0; i < 5; i++) {
        glam_options o = test_options();
        glam_ctx *ctx = glam_open(&o);
        glam_config c = router_config(2);
        int32_t from[12] = { 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, i == 3 ? 6 : 5 };
        if (i == 1) { c.moe.experts = 0; c.activation = GLAM_GEGLU_LITERAL; }
        glam_model *model = glam_model_new(ctx, &c);
        if (i < 2) CHECK(!glam_upcycle(model, NULL));
        if (i == 2) CHECK(!glam_select_experts(model, from, 1));
        if (i == 3) CHECK(!glam_select_experts(model, from, 6));
        if (i == 4) CHECK(glam_stats_most(ctx, glam_stats_new(ctx, 3, 0, 0), 4, from) == GLAM_ERR_VALUE);
        CHECK(glam_error(ctx) == GLAM_ERR_VALUE && strstr(glam_error_text(ctx), word[i]));
        glam_close(ctx);
    }
    CHECK(!glam_upcycle(NULL, NULL) && !glam_select_experts(NULL, NULL, 1));
}

static void test_routers(void)
{
    RUN(router_trace_training);
    RUN(router_trace_passes);
    RUN(router_two_records);
    RUN(router_stats_counts);
    RUN(router_stats_agreement);
    RUN(router_stats_dead);
    RUN(router_balance_is_no_proof);
    RUN(router_stats_failures);
    RUN(router_sampled_shares);
    RUN(router_random_shares);
    RUN(router_noisy_moments);
    RUN(router_expert_choice_values);
    RUN(router_sigmoid_and_bias);
    RUN(router_softmax_of_the_chosen);
    RUN(router_bias_steps);
    RUN(router_rows_train);
    RUN(router_hash_by_id);
    RUN(router_shared_is_dense);
    RUN(router_failures);
    RUN(router_tuned);
    RUN(router_tune_failures);
    RUN(router_upcycled);
    RUN(router_pruned);
    RUN(router_growing_failures);
}
