/* What rooms 14 to 22 refuse: bad arguments of every public function, one at a time, with its sentence, and
   nothing changed; an error that is there already, which stays the first; and rare values that are allowed. */

// A context in which something of another kind has failed; what comes next may not talk over it.
static void refused_fail(glam_ctx *ctx) { glam_fail(ctx, GLAM_ERR_NUMERIC, "the first"); }
static int refused_first(const glam_ctx *ctx)
{ return glam_error(ctx) == GLAM_ERR_NUMERIC && !strcmp(glam_error_text(ctx), "the first"); }

// A routing by hand: three tokens, two choices each of four experts.
typedef struct refused_pass {
    glam_routing r;
    int32_t expert[6], slot[6], kept[6];
    float weight[6];
} refused_pass;

// Token 0 has two experts, token 1 is real and nobody took it (experts chose), token 2 has one.
static void refused_pass_make(refused_pass *p)
{
    static const int32_t expert[6] = { 1, 0, -1, -1, 2, -1 }, slot[6] = { 0, 0, -2, -2, 0, -2 };
    static const int32_t kept[6] = { 1, 0, 0, 0, 1, 0 };
    static const float weight[6] = { 0.75f, 0.25f, 0, 0, 0.5f, 0 };
    memset(p, 0, sizeof *p);
    memcpy(p->expert, expert, sizeof expert);
    memcpy(p->slot, slot, sizeof slot);
    memcpy(p->kept, kept, sizeof kept);
    memcpy(p->weight, weight, sizeof weight);
    p->r.tokens = 3;
    p->r.experts = 4;
    p->r.top_k = 2;
    p->r.expert = p->expert;
    p->r.slot = p->slot;
    p->r.kept = p->kept;
    p->r.weight = p->weight;
}

static void refused_statistics(void)
{
    glam_ctx *ctx = test_ctx();
    refused_pass p, q;
    int32_t row[4] = { 7, 7, 7, 7 };
    refused_pass_make(&p);
    refused_pass_make(&q);
    CHECK(!glam_stats_new(ctx, -1, 0, 0));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "stats: -1 experts, 0 ids, 0 texts");
    CHECK(!glam_stats_new(ctx, 4, -1, 0));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "4 experts, -1 ids");
    CHECK(!glam_stats_new(ctx, 4, 0, -2));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "-2 texts");
    CHECK(!glam_stats_new(ctx, INT_MAX, INT_MAX, INT_MAX));
    ERROR_IS(ctx, GLAM_ERR_MEMORY, "");
    glam_routing_stats *s = glam_stats_new(ctx, 4, 5, 2), *five = glam_stats_new(ctx, 5, 5, 2);
    glam_routing_stats *texts = glam_stats_new(ctx, 4, 5, 3), *ids = glam_stats_new(ctx, 4, 6, 2);
    if (!CHECK(s && five && texts && ids)) return;
    // an id or a text that is none, in the last token: nothing of the first two is counted either
    for (int i = 0; i < 4; i++) {
        int32_t token[3] = { 0, 1, i == 0 ? -1 : i == 1 ? 5 : 2 }, text[3] = { 0, 1, i == 2 ? -1 : i == 3 ? 2 : 0 };
        static const char *const said[4] = { "token 2 has the id -1 of 5", "token 2 has the id 5 of 5", "text -1 of 2",
                                             "text 2 of 2" };
        CHECK(glam_stats_add(ctx, s, &p.r, i < 2 ? token : NULL, i < 2 ? NULL : text) == GLAM_ERR_VALUE);
        ERROR_IS(ctx, GLAM_ERR_VALUE, said[i]);
        CHECK(s->tokens == 0 && s->choices == 0 && s->first[1] == 0 && s->chosen[1] == 0);
    }
    CHECK(glam_stats_add(ctx, five, &p.r, NULL, NULL) == GLAM_ERR_VALUE && five->tokens == 0);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "made for 5 experts, but the routing has 4");
    CHECK(glam_stats_compare(ctx, NULL, &p.r, &q.r) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "nowhere to count");
    CHECK(glam_stats_compare(ctx, s, NULL, &q.r) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "the routing has 0 (0: there is none)");
    q.r.experts = 5;
    CHECK(glam_stats_compare(ctx, s, &p.r, &q.r) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "3 tokens and 4 experts cannot be compared with one of 3 and 5");
    q.r.experts = 4;
    q.r.tokens = 2;
    CHECK(glam_stats_compare(ctx, s, &p.r, &q.r) == GLAM_ERR_VALUE && s->compared == 0 && s->of == 0);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "with one of 2 and 4");
    CHECK(glam_stats_merge(ctx, s, NULL) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "there is none");
    CHECK(glam_stats_merge(ctx, s, five) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "made for 4 experts, but the routing has 5");
    CHECK(glam_stats_merge(ctx, s, texts) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "5 ids and 2 texts here, 5 and 3 there");
    CHECK(glam_stats_merge(ctx, s, ids) == GLAM_ERR_VALUE && s->tokens == 0);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "here, 6 and 2 there");
    CHECK(glam_stats_merge(NULL, s, ids) != GLAM_OK && glam_stats_compare(NULL, s, &p.r, &p.r) != GLAM_OK);
    CHECK(glam_stats_most(NULL, s, 2, row) != GLAM_OK);
    CHECK(glam_stats_most(ctx, NULL, 2, row) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "2 of 0 experts cannot be kept");
    CHECK(glam_stats_most(ctx, s, 2, NULL) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "cannot be kept");
    CHECK(glam_stats_most(ctx, s, 0, row) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "0 of 4 experts");
    CHECK(glam_stats_most(ctx, s, 5, row) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "5 of 4 experts");
    CHECK(row[0] == 7 && row[3] == 7);
    CLOSE_CLEAN(ctx);
}

// Tokens that no expert took, and entries behind a token's last choice.
static void refused_fewer_choices(void)
{
    static const int32_t token[3] = { 4, 3, 4 }, text[3] = { 0, 1, 1 };
    glam_ctx *ctx = test_ctx();
    glam_routing_stats *s = glam_stats_new(ctx, 4, 5, 2);
    refused_pass p, before;
    refused_pass_make(&p);
    refused_pass_make(&before);
    if (!CHECK(s && glam_stats_add(ctx, s, &p.r, token, text) == GLAM_OK)) return;
    CHECK(s->tokens == 3 && s->choices == 3);
    CHECK(s->first[0] == 0 && s->first[1] == 1 && s->first[2] == 1 && s->first[3] == 0);
    CHECK(s->chosen[0] == 1 && s->chosen[1] == 1 && s->chosen[2] == 1 && s->kept[0] == 0 && s->kept[1] == 1);
    CHECK(s->together[0 * 4 + 1] == 1 && s->together[1 * 4 + 0] == 1 && s->together[2 * 4 + 1] == 0);
    CHECK(s->by_token[4 * 4 + 1] == 1 && s->by_token[4 * 4 + 2] == 1 && s->by_text[0 * 4 + 0] == 1);
    CHECK(s->by_text[1 * 4 + 2] == 1 && s->by_text[1 * 4 + 0] == 0);
    for (int e = 0; e < 4; e++) CHECK(s->by_token[3 * 4 + e] == 0);        // nobody took that token
    before.expert[0] = 0;                          // the same two, in another order; token 2 had another one
    before.expert[1] = 1;
    before.expert[4] = 3;
    CHECK(glam_stats_compare(ctx, s, &p.r, &before.r) == GLAM_OK);
    CHECK(s->compared == 3 && s->of == 3 && s->same == 2);
    CLOSE_CLEAN(ctx);
}

// Every function with a context that has failed: it fails too, and the error stays the first.
static void refused_after_an_error(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = train_config(), d = train_config();
    d.moe.experts = 0;
    glam_model *m = glam_model_new(ctx, &c), *dense = glam_model_new(ctx, &d);
    glam_tensor *w = glam_param(ctx, "w", glam_dim1(3)), *x = glam_zeros(ctx, glam_dim2(2, 4));
    glam_recipe r = train_recipe(3);
    glam_text *text = test_text(ctx, 900);
    glam_routing_stats *s = glam_stats_new(ctx, 4, 0, 0), *other = glam_stats_new(ctx, 4, 0, 0);
    glam_moe_config e = glam_moe_config_default();
    int32_t from[8] = { 0, 1, 2, 3, 0, 1, 2, 3 }, ids[5] = { 1, 2, 3, 4, 5 }, out[4] = { 9, 9, 9, 9 };
    glam_batch batch = { 1, 4, ids, ids + 1, NULL, NULL };
    glam_losses losses;
    glam_query query = { "ab", "c" };
    glam_span span = { ids, 4, 1 };
    glam_score score;
    glam_perplexity_report perplexity;
    glam_plan plan;
    refused_pass p;
    double loglik = 5;
    char said[8] = "before";
    e.hidden = 3;
    refused_pass_make(&p);
    glam_moe_weights weights = glam_moe_init(ctx, "m", 4, &e);
    if (!CHECK(m && dense && w && text && s && other && weights.up)) return;
    uint64_t hash = test_model_hash(m);
    glam_moe_config now = *glam_model_moe(m, 0), more = now;
    more.top_k = 1;
    size_t mark = glam_mark(ctx);
    refused_fail(ctx);
    CHECK(!glam_stats_new(ctx, 4, 0, 0) && refused_first(ctx));
    CHECK(glam_stats_add(ctx, s, &p.r, NULL, NULL) == GLAM_ERR_NUMERIC && refused_first(ctx) && s->tokens == 0);
    CHECK(glam_stats_compare(ctx, s, &p.r, &p.r) == GLAM_ERR_NUMERIC && refused_first(ctx) && s->compared == 0);
    CHECK(glam_stats_merge(ctx, s, other) == GLAM_ERR_NUMERIC && refused_first(ctx));
    int32_t row[2] = { -9, -9 };
    CHECK(glam_stats_most(ctx, s, 2, row) == GLAM_ERR_NUMERIC && refused_first(ctx) && row[0] == -9 && row[1] == -9);
    CHECK(glam_stats_add(ctx, NULL, NULL, NULL, NULL) < 0 && refused_first(ctx));
    CHECK(glam_model_tune(m, -1, &more, NULL) == GLAM_ERR_NUMERIC && glam_model_moe(m, 0)->top_k == now.top_k);
    CHECK(!glam_upcycle(dense, &e) && refused_first(ctx) && !glam_select_experts(m, from, 4) && refused_first(ctx));
    CHECK(!glam_model_borrow(ctx, m) && refused_first(ctx) && !glam_model_new(ctx, &c) && refused_first(ctx));
    CHECK(glam_freeze_experts(m, 0, NULL) == GLAM_ERR_NUMERIC && glam_freeze(m, "*", 1) == 0 && refused_first(ctx));
    CHECK(glam_model_adapt(m, NULL) == GLAM_ERR_NUMERIC && refused_first(ctx));
    CHECK(glam_adapt(m, "layers.0.attn.q", 2, 1) == GLAM_ERR_NUMERIC && refused_first(ctx));
    CHECK(glam_model_merge(m) == GLAM_ERR_NUMERIC && refused_first(ctx) && glam_model_tensor(m, "embed")->wants_grad);
    CHECK(!glam_moe_init(ctx, "n", 4, &e).up && !glam_moe(ctx, x, &weights, &e, NULL, NULL) && refused_first(ctx));
    CHECK(!glam_optimizer_new(ctx, &w, 1, &r) && refused_first(ctx) && !glam_trainer_new(m, text, NULL, &r));
    losses.total = 5;
    CHECK(!glam_forward(m, &batch, GLAM_INFER) && !glam_loss(m, &batch, GLAM_TRAIN, &losses) && losses.total == 0);
    CHECK(!glam_session_new(m, 9) && glam_complete(m, "on", said, 8, NULL) == 0 && !said[0] && refused_first(ctx));
    CHECK(glam_beam_search(m, ids, 3, out, 4, NULL, &loglik) == 0 && loglik == 0 && out[0] == 9 && refused_first(ctx));
    score.bytes = 5;
    CHECK(glam_loglikelihood(m, &query, 1, 0, &score) == GLAM_ERR_NUMERIC && score.bytes == 0 && refused_first(ctx));
    score.bytes = 5;
    CHECK(glam_loglikelihood_tokens(m, &span, 1, 0, &score) == GLAM_ERR_NUMERIC && score.bytes == 0);
    perplexity.tokens = 5;
    CHECK(glam_perplexity(m, text, 0, &perplexity) == GLAM_ERR_NUMERIC && perplexity.tokens == 0 && refused_first(ctx));
    plan.parameters = 5;
    CHECK(glam_plan_for(ctx, &c, &r, &plan) == GLAM_ERR_NUMERIC && plan.parameters == 0 && refused_first(ctx));
    CHECK(glam_model_set_tokenizer(m, NULL) <= 0 && refused_first(ctx) && glam_mark(ctx) == mark);
    // and the same calls go well once it is cleared: nothing had changed
    glam_clear_error(ctx);
    CHECK(test_model_hash(m) == hash && glam_stats_add(ctx, s, &p.r, NULL, NULL) == GLAM_OK && s->tokens == 3);
    CHECK(glam_stats_merge(ctx, other, s) == GLAM_OK && other->tokens == 3);
    CHECK(glam_upcycle(dense, &e) && glam_select_experts(m, from, 4) && glam_optimizer_new(ctx, &w, 1, &r));
    CHECK(glam_loglikelihood(m, &query, 1, 0, &score) == GLAM_OK && score.bytes == 1);
    CHECK(glam_model_adapt(m, NULL) == GLAM_OK && glam_adapter_of(m, "layers.0.attn.q", NULL));
    CLOSE_CLEAN(ctx);
}

// Each field that belongs to the weights, one at a time.
static void refused_tuning(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = train_config();
    glam_model *m = glam_model_new(ctx, &c);
    unsigned char off[4] = { 1, 1, 1, 0 };
    if (!CHECK(m)) return;
    const glam_moe_config *is = glam_model_moe(m, 0);
    glam_moe_config was = *is;
    for (int i = 0; i < 10; i++) {
        glam_moe_config now = was;
        if (i == 0) now.experts = 5;
        if (i == 1) now.hidden++;
        if (i == 2) now.every = 1;
        if (i == 3) now.offset = 1;
        if (i == 4) now.activation = GLAM_GELU_TANH;
        if (i == 5) now.bias = 1;
        if (i == 6) now.shared = 4;
        if (i == 7) now.router_z_weight = 0.5f;
        if (i == 8) now.router = GLAM_ROUTER_NOISY;
        if (i == 9) now.router = GLAM_ROUTER_EXPERT_CHOICE;
        for (int layer = -1; layer < 1; layer++) {
            if (!CHECK(glam_model_tune(m, layer, &now, NULL) == GLAM_ERR_VALUE)) printf("  field %d\n", i);
            ERROR_IS(ctx, GLAM_ERR_VALUE, "belong to the weights");
        }
    }
    glam_moe_config now = was;
    now.capacity = 7;
    CHECK(glam_model_tune(m, -1, &now, off) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "3 of 4 experts are switched off, but a token needs 2");
    CHECK(glam_model_tune(m, 2, &now, NULL) == GLAM_ERR_VALUE && glam_model_tune(m, -2, &now, NULL) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "layer 2 is no mixture");
    CHECK(glam_model_tune(m, -1, NULL, NULL) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "no settings");
    now.temperature = 0;
    CHECK(glam_model_tune(m, 0, &now, NULL) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "temperature 0");
    CHECK(is->capacity == was.capacity && is->temperature == was.temperature && is->experts == 4 &&
          is->hidden == was.hidden);
    // a dense model has nothing to tune, not even with settings that are its own
    c.moe.experts = 0;
    glam_model *dense = glam_model_new(ctx, &c);
    CHECK(dense && glam_model_tune(dense, -1, &was, NULL) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "no mixture");
    CLOSE_CLEAN(ctx);
}

static void refused_growing(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = train_config();
    glam_model *m = glam_model_new(ctx, &c);
    int32_t from[8] = { 0, 1, 9, 9, 9, 9, 9, 9 };
    c.moe.experts = 0;
    glam_model *dense = glam_model_new(ctx, &c);
    if (!CHECK(m && dense)) return;
    size_t mark = glam_mark(ctx);
    for (int i = 0; i < 6; i++) {
        if (i == 4) from[1] = -1;
        if (i == 5) from[1] = 4;
        CHECK(!glam_select_experts(i == 1 ? dense : m, i == 0 ? NULL : from, i == 2 ? 0 : i == 3 ? 65537 : 2));
        ERROR_IS(ctx, GLAM_ERR_VALUE, i == 1 ? "the 0 experts of each layer" : "the 4 experts of each layer");
    }
    from[1] = 1;
    glam_model *two = glam_select_experts(m, from, 2);           // the row of the dense layer does not count
    CHECK(two && glam_model_config(two)->moe.experts == 2 && glam_model_moe(two, 0) && !glam_model_moe(two, 1));
    glam_rewind(ctx, mark);
    // upcycle: its own config is checked, and what follows from the dense model is not asked for
    glam_moe_config e = glam_moe_config_default();
    e.top_k = 9;
    CHECK(!glam_upcycle(dense, &e) && glam_mark(ctx) == mark);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "top_k is 9 with 8 experts");
    e = glam_moe_config_default();
    e.hidden = -3;
    e.activation = (glam_activation)77;
    glam_model *grown = glam_upcycle(dense, &e);
    CHECK(grown && glam_model_config(grown)->moe.hidden == c.hidden &&
          glam_model_config(grown)->moe.activation == GLAM_GEGLU);
    glam_rewind(ctx, mark);
    // weights with adapters are not copied without them
    CHECK(glam_adapt(m, "layers.0.attn.q", 1, 1) == GLAM_OK && glam_adapt(dense, "layers.0.attn.q", 1, 1) == GLAM_OK);
    CHECK(!glam_select_experts(m, from, 2));
    ERROR_IS(ctx, GLAM_ERR_STATE, "without adapters (glam_model_merge)");
    CHECK(!glam_upcycle(dense, NULL));
    ERROR_IS(ctx, GLAM_ERR_STATE, "without adapters");
    CHECK(glam_model_merge(m) == GLAM_OK && glam_select_experts(m, from, 2));
    CLOSE_CLEAN(ctx);
    // a model that was only measured has nothing to copy, and nobody can borrow it
    glam_ctx *measure = test_ctx();
    glam_ctx *other = test_ctx();
    CHECK(glam_measure(measure, 1) == GLAM_OK);
    c = train_config();
    m = glam_model_new(measure, &c);
    if (!CHECK(m)) return;
    CHECK(!glam_select_experts(m, from, 2));
    ERROR_IS(measure, GLAM_ERR_STATE, "models with weights");
    CHECK(!glam_model_borrow(other, m));
    ERROR_IS(other, GLAM_ERR_VALUE, "only measured");
    CLOSE_CLEAN(other);
    CLOSE_CLEAN(measure);
}

static void refused_adapters(void)
{
    glam_ctx *ctx = test_ctx(), *other = test_ctx();
    glam_config c = train_config();
    glam_model *m = glam_model_new(ctx, &c), *lent = glam_model_borrow(other, m);
    glam_lora l = glam_lora_default();
    glam_adapter a;
    if (!CHECK(m && lent)) return;
    CHECK(glam_model_adapt(NULL, &l) < 0 && glam_adapt(NULL, "embed", 1, 1) < 0 && glam_model_merge(NULL) < 0);
    CHECK(!glam_adapter_of(NULL, "layers.0.attn.q", &a) && !glam_adapter_of(m, NULL, &a));
    CHECK(glam_model_use_adapters(NULL, 0) == 1 && glam_model_use_adapters(m, 0) == 1);
    CHECK(glam_model_adapt(lent, &l) == GLAM_ERR_STATE);
    ERROR_IS(other, GLAM_ERR_STATE, "a model of one's own");
    CHECK(glam_adapt(lent, "layers.0.attn.q", 1, 1) == GLAM_ERR_STATE);
    ERROR_IS(other, GLAM_ERR_STATE, "a model of one's own");
    CHECK(glam_model_merge(lent) == GLAM_ERR_STATE);
    ERROR_IS(other, GLAM_ERR_STATE, "a model of one's own");
    for (int i = 0; i < 11; i++) {
        static const char *const said[11] = { "rank is 0", "rank is -1", "rank is 65537", "a rank is from",
                                              "a rank is from", "roles are 0", "roles are 33", "role dense",
                                              "role shared", "rank is 65537", "rank is 65537" };
        l = glam_lora_default();
        if (i == 0) l.rank = 0;
        if (i == 1) l.expert_rank = -1;
        if (i == 2) l.rank = 65537;
        if (i == 3) l.alpha = NAN;
        if (i == 4) l.alpha = HUGE_VALF;
        if (i == 5) l.roles = 0;
        if (i == 6) l.roles = 33;
        if (i == 7) l.roles = GLAM_ROLE_DENSE | 32;
        if (i == 8) l.roles = GLAM_ROLE_SHARED;
        if (i == 9) l.rank = 65537, l.expert_rank = 1;
        if (i == 10) l.expert_rank = 65537;
        glam_config all = c;
        if (i == 7) all.moe.every = 1;                       // mixtures alone: no dense layer
        size_t mark = glam_mark(ctx);
        glam_model *to = i == 7 ? glam_model_new(ctx, &all) : m;
        CHECK(glam_model_adapt(to, &l) == GLAM_ERR_VALUE);
        ERROR_IS(ctx, GLAM_ERR_VALUE, said[i]);
        CHECK(!glam_model_tensor(to, "layers.0.attn.q.lora_a") && glam_model_tensor(to, "embed")->wants_grad);
        if (i == 7) glam_rewind(ctx, mark);
        CHECK(glam_mark(ctx) == mark);
    }
    CHECK(glam_adapt(m, "layers.0.attn.q", 65537, 1) == GLAM_ERR_VALUE && glam_adapt(m, NULL, 1, 1) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "rank is 65537");
    CHECK(glam_adapt(m, "layers.0.attn.q", 1, NAN) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "a rank is from");
    CHECK(glam_adapt(m, NULL, 1, 1) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "NULL is no weight");
    CHECK(glam_adapt(m, "layers.0.attn.q", 1, 1) == GLAM_OK &&
          glam_adapt(m, "layers.0.attn.q", 1, 1) == GLAM_ERR_STATE);
    ERROR_IS(ctx, GLAM_ERR_STATE, "has an adapter already");
    CHECK(glam_model_adapt(m, NULL) == GLAM_ERR_STATE);
    ERROR_IS(ctx, GLAM_ERR_STATE, "adapters already");
    CHECK(glam_model_use_adapters(m, 0) == 1 && glam_model_use_adapters(m, 1) == 0);
    glam_recipe r = train_recipe(3);
    CHECK(glam_trainer_new(m, test_text(ctx, 900), NULL, &r) != NULL);
    CHECK(glam_adapt(m, "layers.0.attn.k", 1, 1) == GLAM_ERR_STATE);
    ERROR_IS(ctx, GLAM_ERR_STATE, "layers.0.attn.q.lora_a belongs to an optimizer");
    CHECK(glam_model_merge(m) == GLAM_ERR_STATE && glam_adapter_of(m, "layers.0.attn.q", &a) && a.scale == 1);
    ERROR_IS(ctx, GLAM_ERR_STATE, "belongs to an optimizer");
    CLOSE_CLEAN(other);
    CLOSE_CLEAN(ctx);
}

// A borrowed model has its owner's adapters, on or off as they were; measured ones can be merged as well.
static void refused_adapters_elsewhere(void)
{
    glam_options o = test_options();
    glam_config c = train_config();
    int32_t ids[5] = { 1, 2, 3, 4, 5 };
    glam_batch batch = { 1, 4, ids, ids + 1, NULL, NULL };
    glam_ctx *ctx = test_ctx();
    glam_model *m = glam_model_new(ctx, &c);
    if (!CHECK(m && glam_model_adapt(m, NULL) == GLAM_OK)) return;
    glam_adapter a;
    CHECK(glam_adapter_of(m, "layers.1.attn.v", &a));
    glam_fill(a.b, 0.5f);
    for (int on = 0; on < 2; on++) {
        glam_ctx *other = test_ctx();
        glam_losses mine, theirs;
        glam_model_use_adapters(m, on);
        glam_model *lent = glam_model_borrow(other, m);
        CHECK(lent && glam_model_use_adapters(lent, on) == on);
        CHECK(glam_loss(m, &batch, GLAM_INFER, &mine) && glam_loss(lent, &batch, GLAM_INFER, &theirs));
        CHECK(mine.xent == theirs.xent);
        CLOSE_CLEAN(other);
    }
    CLOSE_CLEAN(ctx);
    o.weights = GLAM_TYPE_BF16;                        // what is merged becomes f32, measured or not
    ctx = glam_open(&o);
    CHECK(glam_measure(ctx, 1) == GLAM_OK);
    m = glam_model_new(ctx, &c);
    CHECK(m && glam_model_adapt(m, NULL) == GLAM_OK && glam_model_tensor(m, "layers.0.attn.q")->type == GLAM_TYPE_BF16);
    size_t before = glam_memory(ctx).total;
    CHECK(glam_model_merge(m) == GLAM_OK && glam_model_tensor(m, "layers.0.attn.q")->type == GLAM_TYPE_F32);
    CHECK(!glam_adapter_of(m, "layers.0.attn.q", NULL) && glam_memory(ctx).total > before);
    CHECK(glam_model_tensor(m, "layers.0.moe.up")->type == GLAM_TYPE_BF16 &&
          !glam_model_tensor(m, "layers.0.moe.up")->wants_grad);
    CLOSE_CLEAN(ctx);
    // a model of which one weight is f32 again is copied all narrow: that weight is rounded as others are
    ctx = glam_open(&o);
    m = glam_model_new(ctx, &c);
    CHECK(m && glam_adapt(m, "layers.0.moe.up", 1, 1) == GLAM_OK && glam_adapter_of(m, "layers.0.moe.up", &a));
    glam_fill_normal(a.b, 3, 0.1f);
    CHECK(glam_model_merge(m) == GLAM_OK && glam_model_tensor(m, "layers.0.moe.up")->type == GLAM_TYPE_F32);
    int32_t from[6] = { 3, 1, 2, 0, 0, 0 };
    glam_model *some = glam_select_experts(m, from, 3);
    glam_tensor *was = glam_model_tensor(m, "layers.0.moe.up"), *is = glam_model_tensor(some, "layers.0.moe.up");
    if (CHECK(some && is && is->type == GLAM_TYPE_BF16 && is->shape.dim[0] == 3 && is->shape.dim[2] == 7)) {
        float x[7], y[7];
        for (size_t e = 0; e < 3; e++) {
            for (size_t row = 0; row < 12; row++) {
                CHECK(glam_read(was, (size_t)from[e] * 12 + row, 1, x) == GLAM_OK);
                CHECK(glam_read(is, e * 12 + row, 1, y) == GLAM_OK);
                for (int i = 0; i < 7; i++) CHECK(fabs((double)(x[i] - y[i])) <= fabs((double)x[i]) / 256);
            }
        }
    }
    CLOSE_CLEAN(ctx);
}

static void refused_freezing(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = train_config();
    glam_model *m = glam_model_new(ctx, &c);
    const unsigned char frozen[4] = { 1, 0, 0, 1 };
    if (!CHECK(m)) return;
    CHECK(glam_freeze_experts(NULL, 0, frozen) < 0);
    static const int layers[4] = { -1, 1, 2, 1 << 20 };
    for (int i = 0; i < 4; i++) {
        CHECK(glam_freeze_experts(m, layers[i], frozen) == GLAM_ERR_VALUE);
        ERROR_IS(ctx, GLAM_ERR_VALUE, "is no mixture");
    }
    CHECK(glam_freeze(m, NULL, 1) == 0);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "no pattern");
    glam_recipe r = train_recipe(2);
    CHECK(glam_freeze_experts(m, 0, frozen) == GLAM_OK && glam_freeze_experts(m, 0, NULL) == GLAM_OK);
    glam_trainer *t = glam_trainer_new(m, test_text(ctx, 900), NULL, &r);
    glam_tensor *up = glam_model_tensor(m, "layers.0.moe.up");
    size_t each = glam_size(up) / 4;
    float *before = (float *)malloc(4 * each * sizeof(float));
    if (!CHECK(t && before)) return;
    memcpy(before, up->data, 4 * each * sizeof(float));
    CHECK(glam_freeze_experts(m, 0, frozen) == GLAM_ERR_STATE);
    ERROR_IS(ctx, GLAM_ERR_STATE, "belongs to an optimizer");
    CHECK(glam_train_step(t, NULL) == 1);              // and none is frozen: the first one moves
    CHECK(memcmp(before, up->data, each * sizeof(float)) != 0);
    free(before);
    CLOSE_CLEAN(ctx);
}

// Settings of a mixture, each outside on its own: init and glam_moe both refuse, in the same words.
static void refused_settings(void)
{
    static const char *const said[] = {
        "experts is -1", "experts is 0", "top_k is 0", "top_k is 9", "activation -1", "normalise is -1",
        "normalise is 3",
        "65537 experts", "of 16777217 hidden", "capacity_factor -1", "capacity -1", "group -1", "hidden -1",
        "aux_weight -1",
        "router_z_weight -1", "router_cap is -1", "router -1", "router 6", "score -1", "score 2", "temperature 0",
        "weight_scale 0", "threshold -1", "bias_rate -1", "shared -1", "shared 16777217",
        "the router z-loss is of softmax",
        "a bias means nothing", "a bias means nothing",
    };
    glam_ctx *ctx = test_ctx();
    glam_tensor *x = glam_zeros(ctx, glam_dim2(2, 4));
    glam_moe_config ok = glam_moe_config_default();
    ok.hidden = 3;
    glam_moe_weights w = glam_moe_init(ctx, "ok", 4, &ok);
    for (int i = 0; i < (int)(sizeof said / sizeof *said); i++) {
        glam_moe_config e = ok;
        if (i == 0) e.experts = -1;
        if (i == 1) e.experts = 0;
        if (i == 2) e.top_k = 0;
        if (i == 3) e.top_k = 9;
        if (i == 4) e.activation = (glam_activation)-1;
        if (i == 5) e.normalise = (glam_normalise)-1;
        if (i == 6) e.normalise = (glam_normalise)3;
        if (i == 7) e.experts = 65537;
        if (i == 8) e.hidden = (1 << 24) + 1;
        if (i == 9) e.capacity_factor = -1;
        if (i == 10) e.capacity = -1;
        if (i == 11) e.group = -1;
        if (i == 12) e.hidden = -1;
        if (i == 13) e.aux_weight = -1;
        if (i == 14) e.router_z_weight = -1;
        if (i == 15) e.router_cap = -1;
        if (i == 16) e.router = (glam_router)-1;
        if (i == 17) e.router = (glam_router)6;
        if (i == 18) e.score = (glam_router_score)-1;
        if (i == 19) e.score = (glam_router_score)2;
        if (i == 20) e.temperature = 0;
        if (i == 21) e.weight_scale = 0;
        if (i == 22) e.threshold = -1;
        if (i == 23) e.bias_rate = -1;
        if (i == 24) e.shared = -1;
        if (i == 25) e.shared = (1 << 24) + 1;
        if (i == 26) { e.score = GLAM_SCORE_SIGMOID; e.router_z_weight = 0.1f; }
        if (i == 27) { e.router = GLAM_ROUTER_HASH; e.bias = 1; }
        if (i == 28) { e.router = GLAM_ROUTER_EXPERT_CHOICE; e.bias = 1; }
        size_t mark = glam_mark(ctx);
        glam_moe_weights none = glam_moe_init(ctx, "no", 4, &e);
        if (!CHECK(!none.up && !none.router && !none.bias)) printf("  setting %d\n", i);
        ERROR_IS(ctx, GLAM_ERR_VALUE, said[i]);
        glam_routing routing;
        glam_tensor *balance = x;
        routing.experts = 5;
        CHECK(!glam_moe(ctx, x, &w, &e, &routing, &balance) && !balance && routing.experts == 0);
        ERROR_IS(ctx, GLAM_ERR_VALUE, said[i]);
        CHECK(glam_mark(ctx) == mark);
    }
    CHECK(!glam_moe_init(ctx, "no", 4, NULL).up);      // NULL has no hidden
    ERROR_IS(ctx, GLAM_ERR_VALUE, "hidden 0");
    CHECK(!glam_moe_init(NULL, "no", 4, &ok).up && !glam_moe(NULL, x, &w, &ok, NULL, NULL));
    glam_moe_bias(NULL, NULL, 1);
    // a bias with nothing to go by stays
    ok.bias = 1;
    const int32_t load[8] = { 0, 1, 2, 3, 4, 5, 6, 7 };
    w = glam_moe_init(ctx, "biased", 4, &ok);
    if (CHECK(w.bias && w.bias->shape.dims == 1 && !w.bias->wants_grad)) {
        glam_moe_bias(w.bias, NULL, 1);
        CHECK(w.bias->data[0] == 0 && w.bias->data[7] == 0);
        glam_moe_bias(w.bias, load, 0.5f);
        CHECK(w.bias->data[0] == 0.5f && w.bias->data[7] == -0.5f);
    }
    ok.bias = 0;
    ok.router = GLAM_ROUTER_HASH;
    w = glam_moe_init(ctx, "hash", 4, &ok);
    CHECK(w.up && !w.router && !w.noise && !w.bias);
    CHECK(!glam_moe(ctx, x, &w, &ok, NULL, NULL));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "goes by token ids");
    CLOSE_CLEAN(ctx);
    ctx = test_ctx();                                  // values that are not there yet are left alone
    ok.router = GLAM_ROUTER_TOP_K;
    ok.bias = 1;
    CHECK(glam_measure(ctx, 1) == GLAM_OK);
    w = glam_moe_init(ctx, "m", 4, &ok);
    CHECK(w.bias && !w.bias->data);
    glam_moe_bias(w.bias, load, 0.5f);
    CHECK(!w.bias->data && glam_moe(ctx, glam_zeros(ctx, glam_dim2(2, 4)), &w, &ok, NULL, NULL) != NULL);
    CLOSE_CLEAN(ctx);
}

// Weights of a mixture that do not fit, one at a time; more tokens than can be counted.
static void refused_mixtures(void)
{
    glam_ctx *ctx = test_ctx();
    glam_tensor *x = glam_zeros(ctx, glam_dim2(6, 4));
    glam_moe_config e = glam_moe_config_default();
    e.hidden = 3;
    e.router = GLAM_ROUTER_NOISY;
    e.bias = 1;
    glam_moe_weights w = glam_moe_init(ctx, "m", 4, &e);
    CHECK(glam_moe(ctx, x, &w, &e, NULL, NULL) != NULL);
    for (int i = 0; i < 12; i++) {
        static const char *const said[12] = { "needs noise [M,E], here [4,8]", "needs noise", "bias is [7]",
            "bias is [1, 8]",
            "up NULL", "up [4, 3]", "up [7, 4, 3]", "up [8, 5, 3]", "down NULL", "down [8, 4, 3]",
            "gate of the shape of up",
            "groups of 4" };
        glam_moe_weights v = w;
        glam_moe_config c = e;
        if (i == 0) v.noise = NULL;
        if (i == 1) v.noise = glam_param(ctx, "a", glam_dim2(4, 7));
        if (i == 2) v.bias = glam_param(ctx, "b", glam_dim1(7));
        if (i == 3) v.bias = glam_param(ctx, "c", glam_dim2(1, 8));
        if (i == 4) v.up = NULL;
        if (i == 5) v.up = glam_param(ctx, "d", glam_dim2(4, 3));
        if (i == 6) v.up = glam_param(ctx, "e", glam_dim3(7, 4, 3));
        if (i == 7) v.up = glam_param(ctx, "f", glam_dim3(8, 5, 3));
        if (i == 8) v.down = NULL;
        if (i == 9) v.down = glam_param(ctx, "g", glam_dim3(8, 4, 3));
        if (i == 10) v.gate = NULL;
        if (i == 11) c.group = 4;
        char text[300];
        CHECK(!glam_moe(ctx, x, &v, &c, NULL, NULL));
        snprintf(text, sizeof text, "%s", glam_error_text(ctx));
        for (char *from = text, *to = text; (*to = *from) != 0; from++) to += *to != ' ';      // blanks do not count
        char want[60];
        snprintf(want, sizeof want, "%s", said[i]);
        for (char *from = want, *to = want; (*to = *from) != 0; from++) to += *to != ' ';
        if (!CHECK(glam_error(ctx) == GLAM_ERR_SHAPE && strstr(text, want)))
            printf("  %d: %s\n", i, glam_error_text(ctx));
        glam_clear_error(ctx);
    }
    CLOSE_CLEAN(ctx);
    ctx = test_ctx();
    CHECK(glam_measure(ctx, 1) == GLAM_OK);
    e = glam_moe_config_default();
    e.experts = e.top_k = 1 << 16;
    e.hidden = 1;
    w = glam_moe_init(ctx, "m", 1, &e);
    CHECK(!glam_moe(ctx, glam_zeros(ctx, glam_dim2(40000, 1)), &w, &e, NULL, NULL));
    ERROR_IS(ctx, GLAM_ERR_SHAPE, "40000 tokens times 65536 choices are too many at once");
    CHECK(!glam_moe(ctx, glam_zeros(ctx, glam_dim2(32767, 1)), &w, &e, NULL, NULL));
    ERROR_IS(ctx, GLAM_ERR_SHAPE, "32767 tokens on each of 1 ranks are too many at once");
    CLOSE_CLEAN(ctx);
}

static void refused_models(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = train_config();
    CHECK(!glam_model_new(NULL, &c) && !glam_model_borrow(NULL, NULL));
    c.position = (glam_position)-1;
    CHECK(!glam_model_new(ctx, &c));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "position is -1");
    c = train_config();
    c.d_model = INT_MAX;                               // four times that is no number for the hidden size
    c.hidden = 0;
    CHECK(!glam_model_new(ctx, &c));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "config: d_model is 2147483647; more than 2^24");
    // more than can be counted is no little model
    c = train_config();
    c.layers = 40;
    c.d_model = c.moe.hidden = 1 << 24;
    c.moe.experts = 1 << 16;
    c.moe.every = 1;
    CHECK(!glam_model_new(ctx, &c));
    ERROR_IS(ctx, GLAM_ERR_MEMORY, "");
    // tokens that no vocabulary has, in a session: it is as it was
    c = test_config();
    glam_model *m = glam_model_new(ctx, &c);
    glam_session *s = glam_session_new(m, 9);
    int32_t ids[3] = { 1, 37, 2 };
    if (!CHECK(s && glam_next(s, ids, 1) && glam_session_length(s) == 1)) return;
    CHECK(!glam_next(s, ids, 3) && glam_session_length(s) == 1);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "37");
    ids[1] = -1;
    CHECK(!glam_next(s, ids, 3) && glam_session_length(s) == 1);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "-1");
    CLOSE_CLEAN(ctx);
    ctx = test_ctx();                                  // to measure needs no tokens
    CHECK(glam_measure(ctx, 1) == GLAM_OK);
    s = glam_session_new(glam_model_new(ctx, &c), 9);
    size_t before = glam_memory(ctx).step;
    CHECK(s && !glam_next(s, NULL, 5) && glam_memory(ctx).step > before);
    CHECK(!glam_next(s, NULL, 0));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "0 tokens");
    CLOSE_CLEAN(ctx);
}

static void refused_optimizers(void)
{
    glam_ctx *ctx = test_ctx();
    glam_tensor *w = glam_param(ctx, "w", glam_dim1(2)), *two[2] = { w, w }, *step = glam_zeros(ctx, glam_dim1(2));
    glam_tensor *none = NULL, *u = glam_param(ctx, "u", glam_dim1(2));
    glam_recipe r = train_recipe(3), bad = r;
    glam_report report;
    r.optimizer = GLAM_ADAMW;
    r.clip = 0;
    bad.lr = -1;
    w->data[0] = w->data[1] = 1;
    u->data[0] = u->data[1] = 3;
    size_t mark = glam_mark(ctx);
    CHECK(!glam_optimizer_new(NULL, &w, 1, &r));
    CHECK(!glam_optimizer_new(ctx, &w, 1, &bad));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "lr -1 must be above 0");
    CHECK(!glam_optimizer_new(ctx, NULL, 1, &r));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "none of the 1 tensors wants a gradient");
    CHECK(!glam_optimizer_new(ctx, &w, 0, &r));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "none of the 0 tensors");
    CHECK(!glam_optimizer_new(ctx, &w, -5, &r));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "none of the -5 tensors");
    CHECK(!glam_optimizer_new(ctx, &none, 1, &r));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "tensor 0 is no parameter");
    CHECK(!glam_optimizer_new(ctx, &step, 1, &r));
    ERROR_IS(ctx, GLAM_ERR_VALUE, "tensor 0 is no parameter");
    CHECK(!glam_optimizer_new(ctx, two, 2, &r));
    ERROR_IS(ctx, GLAM_ERR_STATE, "w is trained by another one");
    CHECK(glam_mark(ctx) == mark);                     // what failed holds nothing, w is free again
    // with the update in backward only what is the optimiser's own moves, though another wants a gradient too
    float moved[2] = { 0, 0 };
    for (int early = 0; early < 2; early++) {
        w->data[0] = w->data[1] = 1;
        r.update_in_backward = early;
        glam_optimizer *o = glam_optimizer_new(ctx, &w, 1, &r);
        if (!CHECK(o && glam_update(o, glam_sum(ctx, glam_mul(ctx, w, u)), &report) == GLAM_OK)) return;
        CHECK(!report.skipped && report.step == 1 && w->data[0] != 1 && u->data[0] == 3 && u->data[1] == 3);
        if (early) CHECK(w->data[0] == moved[0] && w->data[1] == moved[1]);
        moved[0] = w->data[0];
        moved[1] = w->data[1];
        CHECK(glam_update(o, NULL, &report) < 0 && report.step == 0 && w->data[0] == moved[0]);
        ERROR_IS(ctx, GLAM_ERR_VALUE, "");
        refused_fail(ctx);
        CHECK(glam_update(o, NULL, &report) == GLAM_ERR_NUMERIC && refused_first(ctx) && w->data[1] == moved[1]);
        glam_clear_error(ctx);
        glam_forget(ctx);
        CHECK(glam_update(o, glam_sum(ctx, glam_mul(ctx, w, u)), &report) == GLAM_OK && report.step == 2);
        glam_rewind(ctx, mark);
    }
    CHECK(glam_update(NULL, NULL, NULL) < 0);
    CLOSE_CLEAN(ctx);
}

static void refused_scores(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = train_config();
    glam_model *m = glam_model_new(ctx, &c);
    int32_t ids[4] = { 1, 2, 3, 4 }, below[4] = { 1, 2, -1, 4 }, above[4] = { 256, 2, 3, 4 };
    glam_score score[2];
    if (!CHECK(m)) return;
    for (int i = 0; i < 11; i++) {
        static const char *const said[11] = { "0 spans", "(or NULL)", "(or NULL)", "window -1", "span 1",
            "span 1: tokens 0 to 3",
            "span 1: tokens 4 to 3", "span 1: tokens 1 to -1", "token 2 is -1",
            "token 0 is 256; the vocabulary ends at 255", "-3 spans" };
        glam_span spans[2] = { { ids, 4, 1 }, { ids, 4, 1 } };
        if (i == 4) spans[1].tokens = NULL;
        if (i == 5) spans[1].from = 0;
        if (i == 6) spans[1].from = 4;
        if (i == 7) spans[1].count = -2;
        if (i == 8) spans[1].tokens = below;
        if (i == 9) spans[1].tokens = above;
        memset(score, 1, sizeof score);
        CHECK(glam_loglikelihood_tokens(m, i == 1 ? NULL : spans, i == 0 ? 0 : i == 10 ? -3 : 2, i == 3 ? -1 : 0,
                                        i == 2 ? NULL : score) == GLAM_ERR_VALUE);
        ERROR_IS(ctx, GLAM_ERR_VALUE, said[i]);
        if (i && i != 2 && i != 10) CHECK(score[0].loglik == 0 && score[1].tokens == 0 && score[0].greedy == 0);
    }
    for (int i = 0; i < 7; i++) {
        static const char *const said[7] = { "0 queries", "(or NULL)", "(or NULL)", "query 1", "query 1", "query 1",
            "window -1" };
        glam_query queries[2] = { { "ab", "c" }, { "ab", "c" } };
        if (i == 3) queries[1].context = NULL;
        if (i == 4) queries[1].continuation = NULL;
        if (i == 5) queries[1].continuation = "";
        size_t mark = glam_mark(ctx);
        memset(score, 1, sizeof score);
        CHECK(glam_loglikelihood(m, i == 1 ? NULL : queries, i == 0 ? 0 : 2, i == 6 ? -1 : 0, i == 2 ? NULL : score) ==
              GLAM_ERR_VALUE);
        ERROR_IS(ctx, GLAM_ERR_VALUE, said[i]);
        if (i && i != 2) CHECK(score[0].loglik == 0 && score[0].bytes == 0 && score[1].chars == 0);
        CHECK(glam_mark(ctx) == mark);
    }
    glam_perplexity_report report;
    CHECK(glam_perplexity(NULL, NULL, 0, &report) < 0 && report.tokens == 0);
    CHECK(glam_perplexity(m, NULL, 0, NULL) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "no text");
    CHECK(glam_perplexity(m, test_text(ctx, 90), -1, NULL) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "context -1 below 0");
    CHECK(glam_choose(NULL, 3, GLAM_PER_SUM) == -1 && glam_choose(score, 0, GLAM_PER_SUM) == -1);
    CLOSE_CLEAN(ctx);
    // a window of more than 2048 tokens is a batch of its own, and scores what a loss over all of it says
    enum { LONG = 2100 };
    ctx = test_ctx();
    c = test_config();
    c.layers = c.heads = 1;
    c.d_model = c.d_head = c.hidden = 4;
    c.moe.experts = 0;
    c.z_loss = 0;
    m = glam_model_new(ctx, &c);
    int32_t *many = (int32_t *)malloc((LONG + 1) * sizeof *many);
    if (!CHECK(m && many)) return;
    test_ids(many, LONG + 1, 5, c.vocab);
    glam_span span = { many, LONG + 1, 1 };
    glam_batch batch = { 1, LONG, many, many + 1, NULL, NULL };
    glam_losses losses;
    CHECK(glam_loglikelihood_tokens(m, &span, 1, LONG + 1, score) == GLAM_OK && score[0].tokens == LONG &&
          !score[0].cut);
    CHECK(glam_loss(m, &batch, GLAM_INFER, &losses) != NULL);
    CHECK_NEAR(-score[0].loglik / LONG, losses.xent, 1e-5);
    free(many);
    CLOSE_CLEAN(ctx);
}

// Polled between layers; says stop at the call that was asked for.
static int refused_cancel(void *user)
{
    int *left = (int *)user;
    return *left > 0 && --*left == 0;
}

static void refused_beam(void)
{
    int left = 0;
    glam_options o = test_options();
    o.cancel = refused_cancel;
    o.cancel_user = &left;
    glam_ctx *ctx = glam_open(&o);
    glam_config c = test_config();
    glam_model *m = glam_model_new(ctx, &c);
    int32_t prompt[3] = { 1, 2, 3 }, out[6], again[6];
    double loglik = 5;
    if (!CHECK(m)) return;
    CHECK(glam_beam_search(NULL, prompt, 3, out, 5, NULL, &loglik) == 0 && loglik == 0);
    for (int i = 0; i < 11; i++) {
        static const char *const said[11] = { "width 0", "width 1048577", "length_power -1", "length_power 101",
            "length_power",
            "or NULL", "prompt of 0", "prompt of -1", "or NULL", "0 tokens behind", "prompt of 2147483647" };
        glam_beam b = glam_beam_default();
        if (i == 0) b.width = 0;
        if (i == 1) b.width = (1 << 20) + 1;
        if (i == 2) b.length_power = -1;
        if (i == 3) b.length_power = 101;
        if (i == 4) b.length_power = NAN;
        size_t mark = glam_mark(ctx);
        out[0] = 99;
        loglik = 5;
        CHECK(glam_beam_search(m, i == 5 ? NULL : prompt, i == 6 ? 0 : i == 7 ? -1 : i == 10 ? INT_MAX : 3,
                               i == 8 ? NULL : out, i == 9 ? 0 : 5, &b, &loglik) == 0);
        ERROR_IS(ctx, GLAM_ERR_VALUE, said[i]);
        CHECK(out[0] == 99 && loglik == 0 && glam_mark(ctx) == mark);
    }
    // told to stop while the prompt is read, and further on: 0 and no error; then as if nothing had been
    int n = glam_beam_search(m, prompt, 3, out, 5, NULL, &loglik);
    double was = loglik;
    CHECK(n > 0);
    for (int at = 1; at < 8; at++) {
        left = at;
        CHECK(glam_beam_search(m, prompt, 3, again, 5, NULL, NULL) == 0 && left == 0 && glam_error(ctx) == GLAM_OK);
    }
    CHECK(glam_beam_search(m, prompt, 3, again, 5, NULL, &loglik) == n && loglik == was);
    CHECK(!memcmp(out, again, (size_t)n * sizeof *out));
    CHECK(glam_generate(glam_session_new(m, 9), prompt, 3, NULL, 4, NULL) == 0);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "nowhere to write");
    CLOSE_CLEAN(ctx);
}

// A vocabulary with ids before a text and at its end: what glam_complete writes is what glam_generate makes of
// them, up to the end.  And a text of which no piece is known.
static void refused_ends(void)
{
    static test_pieces p;
    glam_ctx *ctx = test_ctx();
    glam_config c = test_config();
    memset(&p, 0, sizeof p);
    p.v.bytes = p.bytes;
    p.v.ends = p.ends;
    p.v.kinds = p.kinds;
    p.v.split = GLAM_SPLIT_GPT2;
    pieces_add(&p, "<s>", GLAM_PIECE_CONTROL);
    pieces_add(&p, "</s>", GLAM_PIECE_CONTROL);
    for (char one[2] = " "; one[0] <= '~'; one[0]++) pieces_add(&p, one, GLAM_PIECE_NORMAL);
    p.v.begin = 0;
    p.v.end = 1;
    c.vocab = p.v.size;
    glam_model *m = glam_model_new(ctx, &c);
    glam_tokenizer *t = glam_tokenizer_new(ctx, &p.v);
    if (!CHECK(m && t && glam_model_set_tokenizer(m, t) == GLAM_OK)) return;
    glam_sampling s = glam_sampling_default();
    s.temperature = 2;
    int early = 0;
    for (s.seed = 1; s.seed < 30; s.seed++) {
        for (int with = 0; with < 2; with++) {
            int32_t prompt[3] = { 0, 'a' - ' ' + 2, 'b' - ' ' + 2 }, ids[19];
            char text[20], wanted[20];
            size_t mark = glam_mark(ctx);
            int n = glam_generate(glam_session_new(m, 40), prompt, with ? 3 : 1, ids, 19, &s), until = 0;
            while (until < n && ids[until] != 1) until++;
            early += until < n;
            size_t bytes = glam_decode(t, ids, (size_t)until, wanted, sizeof wanted);
            CHECK(glam_complete(m, with ? "ab" : NULL, text, 20, &s) == (int)bytes && !memcmp(text, wanted, bytes + 1));
            glam_rewind(ctx, mark);
        }
    }
    CHECK(early > 0 && early < 58);
    glam_query queries[2] = { { "\001", "\002" }, { "a", "b" } };
    glam_score none[2];
    size_t mark = glam_mark(ctx);
    memset(none, 1, sizeof none);
    CHECK(glam_loglikelihood(m, queries, 2, 0, none) == GLAM_ERR_VALUE && none[0].bytes == 0 && none[1].bytes == 0);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "span 0");
    CHECK(glam_mark(ctx) == mark);
    queries[0].context = NULL;                         // the second is not looked at
    CHECK(glam_loglikelihood(m, queries, 2, 0, none) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "query 0");
    queries[0].context = "";
    queries[0].continuation = "ab";
    CHECK(glam_loglikelihood(m, queries, 2, 0, none) == GLAM_OK && none[0].tokens == 2 && none[1].bytes == 1);
    CLOSE_CLEAN(ctx);
}

// Stopped between two batches of scores: none at all, and no error.
static void refused_stopped_scores(void)
{
    enum { MANY = 150 };
    int left = 0, zero = 0;
    glam_options o = test_options();
    o.cancel = refused_cancel;
    o.cancel_user = &left;
    glam_ctx *ctx = glam_open(&o);
    glam_config c = test_config();
    glam_model *m = glam_model_new(ctx, &c);
    int32_t ids[3] = { 1, 2, 3 };
    glam_span spans[MANY];
    glam_score score[MANY];
    if (!CHECK(m)) return;
    for (int i = 0; i < MANY; i++) { spans[i].tokens = ids; spans[i].count = 3; spans[i].from = 1; }
    left = 2 * c.layers;                               // in the second of three
    CHECK(glam_loglikelihood_tokens(m, spans, MANY, 0, score) == GLAM_OK && left == 0);
    for (int i = 0; i < MANY; i++) zero += score[i].loglik == 0 && score[i].tokens == 0 && score[i].greedy == 0;
    CHECK(zero == MANY);
    CHECK(glam_loglikelihood_tokens(m, spans, MANY, 0, score) == GLAM_OK && score[0].tokens == 2 &&
          score[0].loglik < 0);
    CHECK(score[MANY - 1].loglik == score[0].loglik);
    CLOSE_CLEAN(ctx);
}

// --- rare values -------------------------------------------------------------------------------------

// What was heard of the last pass of a mixture of at most this size.
typedef struct refused_ear { int calls, tokens, experts, k; float logit[64]; int32_t fate[64]; } refused_ear;

static void refused_hear(void *user, const glam_trace *t)
{
    refused_ear *ear = (refused_ear *)user;
    const glam_routing *r = t->routing;
    ear->calls++;
    ear->tokens = r->tokens;
    ear->experts = r->experts;
    ear->k = r->top_k;
    for (int i = 0; i < 64 && i < r->tokens * r->experts; i++) ear->logit[i] = t->logit[i];
    for (int i = 0; i < 64 && i < r->tokens * r->top_k; i++) ear->fate[i] = t->fate[i];
}

// Experts that choose: as many as they like, fewer than there are, of a group that is padding alone.
static void refused_expert_choice(void)
{
    enum { T = 6, M = 4, E = 4 };
    static const int capacity[4] = { 0, 2, 3, 9 };
    static const int32_t mask[T] = { 1, 0, 0, 0, 0, 0 };       // one real token in the first group, none in the second
    float y[4][T * M];
    for (int masked = 0; masked < 2; masked++) {
        for (int i = 0; i < 4; i++) {
            glam_ctx *ctx = test_ctx();
            glam_moe_config e = glam_moe_config_default();
            glam_routing r;
            glam_tensor *balance;
            e.experts = E;
            e.top_k = 2;
            e.hidden = 3;
            e.group = 3;
            e.router = GLAM_ROUTER_EXPERT_CHOICE;
            e.capacity = capacity[i];
            glam_moe_weights w = glam_moe_init(ctx, "m", M, &e);
            glam_tensor *x = glam_param(ctx, "x", glam_dim2(T, M));
            glam_fill_normal(x, 3, 1);
            glam_tensor *out = glam_moe_masked(ctx, x, masked ? mask : NULL, &w, &e, &r, &balance);
            if (!CHECK(out && balance)) return;
            memcpy(y[i], out->data, sizeof y[i]);
            int each = masked ? 1 : 2 * (capacity[i] < 2 ? 2 : capacity[i] > 3 ? 3 : capacity[i]);
            for (int k = 0; k < E; k++) CHECK(r.load[k] == each);
            CHECK(glam_backward(ctx, glam_add(ctx, glam_sum(ctx, out), balance)) == GLAM_OK);
            double router = 0;
            for (int k = 0; k < M * E; k++) router += fabs((double)w.router->grad[k]);
            CHECK(router > 0 && router < 1e9);
            for (int k = M; masked && k < T * M; k++) CHECK(y[i][k] == 0 && x->grad[k] == 0);
            CLOSE_CLEAN(ctx);
        }
        CHECK(!memcmp(y[0], y[1], sizeof y[0]) && !memcmp(y[2], y[3], sizeof y[2]));   // the share; all there are
        CHECK(masked || memcmp(y[1], y[2], sizeof y[1]));
    }
}

// Experts that are switched off, with every router: nobody goes there, all others keep what they have to.
static void refused_switched_off(void)
{
    static const unsigned char off[4] = { 0, 1, 0, 0 };
    int32_t ids[33];
    glam_batch batch = { 4, 8, ids, ids + 1, NULL, NULL };
    for (int router = 0; router < 6; router++) {
        for (int mode = 0; mode < 2; mode++) {
            refused_ear ear;
            glam_options o = test_options();
            o.trace = refused_hear;
            o.trace_user = &ear;
            glam_ctx *ctx = glam_open(&o);
            glam_config c = test_config();
            c.moe.router = (glam_router)router;
            c.moe.threshold = 0;                       // nothing is left out
            c.moe.score = router % 2 ? GLAM_SCORE_SIGMOID : GLAM_SCORE_SOFTMAX;
            glam_model *m = glam_model_new(ctx, &c);
            memset(&ear, 0, sizeof ear);
            test_ids(ids, 33, 5, c.vocab);
            if (!CHECK(m && glam_model_tune(m, -1, glam_model_moe(m, 0), off) == GLAM_OK)) return;
            CHECK(glam_forward(m, &batch, mode ? GLAM_TRAIN : GLAM_INFER) != NULL);
            const glam_routing *r = glam_model_routing(m, 0);
            if (!CHECK(r && r->tokens == 32 && ear.calls == 1)) return;
            CHECK(r->load[1] == 0 && r->load[0] + r->load[2] + r->load[3] == (router == 5 ? 3 * 16 : 64));
            for (int i = 0; i < 32 * r->top_k; i++) CHECK(r->expert[i] != 1);
            for (int i = 0; router < 5 && i < 32; i++) CHECK(r->expert[2 * i] != r->expert[2 * i + 1]);
            // a hash has no logits; others have those of all experts
            double sum = 0;
            for (int i = 0; i < 64; i++) sum += fabs((double)ear.logit[i]);
            CHECK((sum > 0) == (router != GLAM_ROUTER_HASH));
            CLOSE_CLEAN(ctx);
        }
    }
}

// What the second choice is worth nothing to is left out, and the trace says so; noise of a large scale is that
// scale; scores that are all 0 in float32 are no reason for a NaN.
static void refused_rare_scores(void)
{
    enum { T = 3, M = 4, E = 5 };
    refused_ear ear;
    float first[T * E];
    for (int kind = 0; kind < 4; kind++) {
        glam_options o = test_options();
        o.trace = refused_hear;
        o.trace_user = &ear;
        glam_ctx *ctx = glam_open(&o);
        glam_moe_config e = glam_moe_config_default();
        glam_routing r;
        glam_tensor *balance;
        e.experts = E;
        e.hidden = 3;
        e.router = kind == 0 ? GLAM_ROUTER_RANDOM : kind == 3 ? GLAM_ROUTER_TOP_K : GLAM_ROUTER_NOISY;
        if (kind == 0) e.threshold = 1e30f;
        if (kind == 3) e.score = GLAM_SCORE_SIGMOID;
        glam_moe_weights w = glam_moe_init(ctx, "m", M, &e);
        glam_tensor *x = glam_param(ctx, "x", glam_dim2(T, M));
        glam_fill(x, 1);
        if (kind) glam_fill(w.router, kind == 3 ? -100.0f : 0.0f);
        if (w.noise) glam_fill(w.noise, kind == 1 ? 7.5f : 15.0f);         // a scale of 30, and of 60
        memset(&ear, 0, sizeof ear);
        glam_tensor *y = glam_moe(ctx, x, &w, &e, &r, &balance);
        if (!CHECK(y && balance && ear.calls == 1 && ear.tokens == T && ear.k == 2)) return;
        for (int t = 0; t < T && kind == 0; t++) {
            CHECK(ear.fate[2 * t] == GLAM_FATE_KEPT && ear.fate[2 * t + 1] == GLAM_FATE_SKIPPED);
            CHECK(r.slot[2 * t + 1] == -2 && !r.kept[2 * t + 1] && r.weight[2 * t + 1] == 0);
        }
        for (int i = 0; i < T * E && kind == 1; i++) first[i] = ear.logit[i];
        for (int i = 0; i < T * E && kind == 2; i++) CHECK_NEAR(ear.logit[i], 2 * (double)first[i], 1e-4);
        CHECK(glam_backward(ctx, glam_add(ctx, glam_sum(ctx, y), balance)) == GLAM_OK);
        for (int i = 0; i < T * M; i++) CHECK(fabs((double)y->data[i]) < 1e9 && fabs((double)x->grad[i]) < 1e9);
        for (int i = 0; i < M * E; i++) CHECK(fabs((double)w.router->grad[i]) < 1e9);
        CHECK(fabs((double)balance->data[0]) < 1e9 && r.entropy >= 0 && fabs((double)r.balance) < 1e9);
        CLOSE_CLEAN(ctx);
    }
}

// --- training ----------------------------------------------------------------------------------------

static glam_trainer *refused_trainer(glam_ctx *ctx, const glam_config *c, const glam_recipe *r, glam_model **model)
{
    *model = glam_model_new(ctx, c);
    return glam_trainer_new(*model, test_text(ctx, 900), test_text(ctx, 100), r);
}

// A run that gains nothing goes on without patience, and ends when its patience does.
static void refused_patience(void)
{
    for (int patience = 0; patience < 3; patience++) {
        glam_ctx *ctx = test_ctx();
        glam_config c = train_config();
        glam_recipe r = train_recipe(5);
        glam_model *m;
        glam_report report;
        int steps = 0;
        r.lr = 1e-30;                                  // no weight moves
        r.eval_every = 1;
        r.patience = patience;
        glam_trainer *t = refused_trainer(ctx, &c, &r, &m);
        if (!CHECK(t)) return;
        while (glam_train_step(t, &report) && steps < 9) steps++;
        CHECK(steps == (patience ? patience + 1 : 5) && report.stopped == (patience > 0));
        CHECK(glam_trainer_best(t) == report.valid_loss && report.valid_loss > 0);
        CLOSE_CLEAN(ctx);
    }
}

// A step that is the last bad one that is borne: an error, and no validation of that model.
static void refused_bad_step(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = train_config();
    glam_recipe r = train_recipe(5);
    glam_model *m;
    glam_report report;
    r.eval_every = r.max_bad_steps = 1;
    glam_trainer *t = refused_trainer(ctx, &c, &r, &m);
    if (!CHECK(t)) return;
    float *embed = glam_model_tensor(m, "embed")->data, was = embed[0];
    embed[0] = NAN;
    uint64_t hash = test_model_hash(m);
    CHECK(glam_train_step(t, &report) == 0 && report.skipped == 1 && report.valid_loss == -1);
    CHECK(glam_trainer_best(t) == -1 && test_model_hash(m) == hash);
    CHECK(glam_train_step(t, &report) == 0 && glam_trainer_done(t) == report.step && glam_validate(t) < 0);
    ERROR_IS(ctx, GLAM_ERR_NUMERIC, "1 steps in a row were not finite");
    embed[0] = was;
    CHECK(glam_train_step(t, &report) == 1 && !report.skipped && report.valid_loss > 0);
    CLOSE_CLEAN(ctx);
}

// What is frozen has no part in balancing: neither its bias nor, where nothing of a mixture trains, a loss.
static void refused_frozen_routers(void)
{
    for (int frozen = 0; frozen < 3; frozen++) {
        for (int tuned = 0; tuned < 2; tuned++) {
            glam_ctx *ctx = test_ctx();
            glam_config c = train_config();
            glam_recipe r = train_recipe(5);
            glam_report report;
            int moved = 0;
            c.moe.bias = 1;
            r.aux_off_when_frozen = 1;
            glam_model *m = glam_model_new(ctx, &c);
            const glam_tensor *bias = glam_model_tensor(m, "layers.0.moe.bias");
            if (!CHECK(m && bias && !bias->wants_grad)) return;
            if (frozen > 0) CHECK(glam_freeze(m, "experts", 1) > 0);
            if (frozen > 1) CHECK(glam_freeze(m, "router", 1) > 0);
            CHECK(glam_freeze(m, "layers.0.moe.bias", 0) == 1 && !bias->wants_grad);     // it never has a gradient
            glam_moe_config now = *glam_model_moe(m, 0);
            now.aux_weight = 0.5f;
            if (tuned) CHECK(glam_model_tune(m, 0, &now, NULL) == GLAM_OK);
            glam_trainer *t = glam_trainer_new(m, test_text(ctx, 900), NULL, &r);
            if (!CHECK(t && glam_train_step(t, &report) == 1)) return;
            double weight = tuned ? 0.5 : (double)c.moe.aux_weight;
            CHECK_NEAR(report.aux_loss, frozen == 2 ? 0 : weight * report.balance, 1e-5);
            for (int e = 0; e < 4; e++) moved += bias->data[e] < 0 || bias->data[e] > 0;
            CHECK(frozen == 2 ? moved == 0 : moved > 0);
            CLOSE_CLEAN(ctx);
        }
    }
}

// One expert has all there is; a model that names mixtures and has none reports none.
static void refused_few_experts(void)
{
    for (int kind = 0; kind < 2; kind++) {
        glam_ctx *ctx = test_ctx();
        glam_config c = train_config();
        glam_recipe r = train_recipe(5);
        glam_model *m;
        glam_report report;
        if (kind == 0) c.moe.experts = c.moe.top_k = 1;
        else { c.moe.every = 9; c.moe.offset = 5; }
        glam_trainer *t = refused_trainer(ctx, &c, &r, &m);
        if (!CHECK(t && glam_train_step(t, &report) == 1)) return;
        CHECK(report.dropped == 0 && report.entropy == 0 && !report.skipped && report.loss > 0);
        CHECK(report.load_min == (kind ? 0 : 1) && report.load_max == (kind ? 0 : 1));
        CHECK_NEAR(report.balance, kind ? 0 : 1, 1e-6);
        CLOSE_CLEAN(ctx);
    }
}

// A gradient whose square no float holds: the step changes nothing, whoever makes it.
static void refused_vast_gradients(void)
{
    for (int kind = 0; kind < 4; kind++) {
        glam_ctx *ctx = test_ctx();
        glam_recipe r = train_recipe(3);
        glam_report report;
        float vast[2] = { 1e19f, 1 };
        glam_tensor *w = glam_param(ctx, "w", glam_dim1(2));
        glam_fill(w, 1);
        r.optimizer = kind % 2 ? GLAM_ADAMW : GLAM_ADAFACTOR;
        r.clip = 0;
        r.update_in_backward = kind / 2;
        glam_optimizer *o = glam_optimizer_new(ctx, &w, 1, &r);
        if (!CHECK(o)) return;
        CHECK(glam_update(o, glam_sum(ctx, glam_mul(ctx, w, glam_input(ctx, vast, glam_dim1(2)))), &report) == GLAM_OK);
        CHECK(report.skipped == 1 && report.bad_steps == 1 && w->data[0] == 1 && w->data[1] == 1);
        vast[0] = 1;
        CHECK(glam_update(o, glam_sum(ctx, glam_mul(ctx, w, glam_input(ctx, vast, glam_dim1(2)))), &report) == GLAM_OK);
        CHECK(!report.skipped && w->data[0] < 1 && w->data[1] < 1);
        CLOSE_CLEAN(ctx);
    }
}

static void refused_plans(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = train_config();
    glam_recipe r = train_recipe(3);
    glam_plan plan;
    glam_traffic traffic;
    CHECK(glam_plan_for(NULL, &c, &r, &plan) == GLAM_ERR_MEMORY && plan.parameters == 0);
    CHECK(glam_plan_for(ctx, &c, &r, NULL) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "nowhere to write");
    c.vocab = 0;
    plan.parameters = 5;
    CHECK(glam_plan_for(ctx, &c, &r, &plan) == GLAM_ERR_VALUE && plan.parameters == 0);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "vocab is 0");
    c = train_config();
    CHECK(glam_plan_for(ctx, &c, NULL, &plan) == GLAM_OK && plan.run_bytes > 0);
    c.moe.router = GLAM_ROUTER_EXPERT_CHOICE;          // it trains, and generates nothing
    CHECK(glam_plan_for(ctx, &c, &r, &plan) == GLAM_OK && plan.train_bytes > 0 && plan.run_bytes == 0);
    glam_model *m = glam_model_new(ctx, &c);
    glam_trainer *t = glam_trainer_new(m, test_text(ctx, 900), NULL, &r);
    traffic.total = 5;
    CHECK(glam_plan_traffic(NULL, NULL, NULL, &traffic) == GLAM_ERR_VALUE && traffic.total == 0);
    CHECK(glam_plan_traffic(t, NULL, NULL, NULL) == GLAM_ERR_VALUE);
    traffic.total = 5;
    CHECK(glam_plan_traffic(t, NULL, NULL, &traffic) == GLAM_OK && traffic.total == 0);      // one rank sends nothing
    CHECK(!glam_session_new(m, 5));
    ERROR_IS(ctx, GLAM_ERR_STATE, "expert_choice");
    CLOSE_CLEAN(ctx);
}

// The last validation of a run wants memory that is not there: the step is done, and the next call makes up for
// the validation alone, with the loss of an undisturbed run.
static void refused_last_validation(void)
{
    double wanted = 0;
    int owed = 0;
    for (long at = 0; at < 5; at++) {
        test_heap heap;
        glam_options o = test_options();
        o.threads = 1;
        test_heap_into(&heap, &o);
        glam_ctx *ctx = glam_open(&o);
        glam_config c = train_config();
        glam_recipe r = train_recipe(1);
        glam_report report;
        r.eval_every = r.batch = 1;                    // a step is small, a validation takes more
        r.context = 8;
        glam_model *m = glam_model_new(ctx, &c);
        glam_trainer *t = glam_trainer_new(m, test_text(ctx, 900), test_text(ctx, 600), &r);
        if (!CHECK(t)) return;
        if (at) heap.fail_at = heap.calls + at;
        int more = glam_train_step(t, &report);
        if (glam_error(ctx) == GLAM_ERR_MEMORY && glam_trainer_done(t) == 1) {
            owed++;
            uint64_t hash = test_model_hash(m);
            CHECK(!more && report.valid_loss == -1 && glam_trainer_best(t) == -1);
            glam_clear_error(ctx);
            CHECK(glam_train_step(t, &report) == 1 && glam_trainer_done(t) == 1 && test_model_hash(m) == hash);
            CHECK(report.valid_loss == wanted && glam_train_step(t, &report) == 0);
        } else if (glam_error(ctx) == GLAM_OK) {
            if (!at) wanted = report.valid_loss;
            CHECK(more && report.valid_loss == wanted && wanted > 0);
        }
        glam_clear_error(ctx);
        CLOSE_CLEAN(ctx);
    }
    CHECK(owed > 0);
}

// A text whose file has lost its bytes: no step is taken, and once they are back the run goes on as if they had
// never been away.
static void refused_lost_text(void)
{
    char path[1100], bytes[600];
    uint64_t hash[2] = { 0, 0 };
    snprintf(path, sizeof path, "%s", test_path("lost"));
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = test_rhyme[i % (sizeof test_rhyme - 1)];
    for (int lost = 0; lost < 2; lost++) {
        glam_ctx *ctx = test_ctx();
        glam_config c = train_config();
        glam_recipe r = train_recipe(3);
        glam_report report;
        FILE *f = fopen(path, "wb");
        if (!CHECK(f && fwrite(bytes, 1, sizeof bytes, f) == sizeof bytes)) return;
        fclose(f);
        glam_model *m = glam_model_new(ctx, &c);
        glam_trainer *t = glam_trainer_new(m, glam_text_file(ctx, path), NULL, &r);
        if (!CHECK(t && glam_train_step(t, NULL) == 1)) return;
        if (lost) {
            uint64_t was = test_model_hash(m);
            f = fopen(path, "wb");
            if (!CHECK(f)) return;
            fclose(f);
            CHECK(glam_train_step(t, &report) == 0 && !report.cancelled && glam_trainer_done(t) == 1);
            CHECK(test_model_hash(m) == was);
            ERROR_IS(ctx, GLAM_ERR_FILE, "");
            f = fopen(path, "wb");
            if (!CHECK(f && fwrite(bytes, 1, sizeof bytes, f) == sizeof bytes)) return;
            fclose(f);
        }
        CHECK(glam_train_step(t, NULL) == 1 && glam_train_step(t, NULL) == 1 && glam_train_step(t, NULL) == 0);
        hash[lost] = test_model_hash(m);
        CLOSE_CLEAN(ctx);
    }
    CHECK(hash[0] == hash[1]);
    remove(path);
}

// What follows from a size is not computed from one that is none.
static void refused_derived(void)
{
    static const int sizes[4] = { INT_MIN, INT_MIN / 4 - 1, -1, INT_MAX };
    for (int i = 0; i < 4; i++) {
        glam_ctx *ctx = test_ctx();
        glam_config c = glam_config_default();
        c.d_model = sizes[i];
        c.hidden = 0;
        CHECK(!glam_model_new(ctx, &c));
        ERROR_IS(ctx, GLAM_ERR_VALUE, "d_model");
        CLOSE_CLEAN(ctx);
    }
}

static void test_refused(void)
{
    RUN(refused_derived);
    RUN(refused_statistics);
    RUN(refused_fewer_choices);
    RUN(refused_after_an_error);
    RUN(refused_tuning);
    RUN(refused_growing);
    RUN(refused_adapters);
    RUN(refused_adapters_elsewhere);
    RUN(refused_freezing);
    RUN(refused_settings);
    RUN(refused_mixtures);
    RUN(refused_models);
    RUN(refused_optimizers);
    RUN(refused_scores);
    RUN(refused_beam);
    RUN(refused_ends);
    RUN(refused_plans);
    RUN(refused_stopped_scores);
    RUN(refused_expert_choice);
    RUN(refused_switched_off);
    RUN(refused_rare_scores);
    RUN(refused_patience);
    RUN(refused_bad_step);
    RUN(refused_frozen_routers);
    RUN(refused_few_experts);
    RUN(refused_vast_gradients);
    RUN(refused_last_validation);
    RUN(refused_lost_text);
}
