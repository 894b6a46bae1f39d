/* Room 17: generation.  Kinds: same bits (cache against full forward, alone against batch), value
   (sampling against a slow filter), property, failure. */

// kind: the position, plus 3 where everything that can have a cap has one; from 6 on other families, last
// grouped heads with the old positions.
static glam_model *generate_model(glam_ctx *ctx, int kind)
{
    glam_config c = test_config();
    c.position = (glam_position)(kind % 3);
    if (kind > 2 && kind < 8) {
        c.attention_cap = 0.5f;
        c.moe.router_cap = 0.75f;
        c.logit_cap = 1.5f;
    }
    if (kind > 5 && kind < 10) test_family(&c, kind - 6);
    if (kind > 9) c.kv_heads = 1;
    c.layers = 4;
    c.moe.capacity_factor = 1;             // must not matter: inference drops nothing
    return glam_model_new(ctx, &c);
}

// Whatever the pieces in which a prompt is read, the logits have the bits of the full forward.
static void generate_cache_has_full_bits(void)
{
    static const int pieces[5][6] = { { 50 }, { 1, 1, 1, 47 }, { 3, 17, 1, 29 }, { 16, 16, 18 },
                                      { 49, 1 } };
    for (int kind = 0; kind < 12; kind++) {
        glam_ctx *ctx = test_ctx();
        glam_model *model = generate_model(ctx, kind);
        int32_t tokens[50];
        int V = 37;
        test_ids(tokens, 50, 8, V);
        glam_batch batch = { 1, 50, tokens, NULL, NULL, NULL };
        glam_tensor *full = glam_forward(model, &batch, GLAM_INFER);
        float *want = test_floats(50 * 37, 0, 0, 0);
        if (CHECK(full != NULL)) memcpy(want, full->data, 50 * 37 * sizeof(float));
        glam_forget(ctx);
        glam_session *session = glam_session_new(model, 64);
        for (int i = 0; full && i < 5; i++) {
            int at = 0;
            glam_session_reset(session);
            CHECK(glam_session_length(session) == 0);
            for (int p = 0; at < 50 && p < 6; p++) {
                const float *logits = glam_next(session, tokens + at, pieces[i][p]);
                at += pieces[i][p];
                if (!CHECK(logits != NULL)) break;
                CHECK(!memcmp(logits, want + (at - 1) * V, (size_t)V * sizeof(float)));
                CHECK(glam_session_length(session) == at);
            }
        }
        // one token at a time
        glam_session_reset(session);
        for (int s = 0; full && s < 50; s++) {
            const float *logits = glam_next(session, tokens + s, 1);
            if (!CHECK(logits && !memcmp(logits, want + s * V, (size_t)V * sizeof(float)))) break;
        }
        free(want);
        CLOSE_CLEAN(ctx);
    }
}

static void generate_alone_is_in_batch(void)
{
    for (int kind = 0; kind < 6; kind++) {
        glam_ctx *ctx = test_ctx();
        glam_model *model = generate_model(ctx, kind);
        int32_t tokens[7 * 13];
        test_ids(tokens, 7 * 13, 8, 37);
        glam_batch all = { 7, 13, tokens, NULL, NULL, NULL };
        glam_tensor *a = glam_forward(model, &all, GLAM_INFER);
        for (int r = 0; a && r < 7; r++) {
            glam_batch one = { 1, 13, tokens + r * 13, NULL, NULL, NULL };
            glam_tensor *b = glam_forward(model, &one, GLAM_INFER);
            CHECK(b && !memcmp(b->data, a->data + r * 13 * 37, 13 * 37 * sizeof(float)));
        }
        CHECK(a != NULL);
        CLOSE_CLEAN(ctx);
    }
}

// Two sessions of one model, in turns: each has the bits of a conversation of its own.
static void generate_sessions_are_apart(void)
{
    glam_ctx *ctx = test_ctx();
    glam_model *model = generate_model(ctx, 0);
    int32_t a[20], b[20];
    float alone[37];
    test_ids(a, 20, 1, 37);
    test_ids(b, 20, 2, 37);
    glam_session *s = glam_session_new(model, 20), *t = glam_session_new(model, 20);
    const float *logits = glam_next(s, a, 20);
    if (CHECK(logits != NULL)) memcpy(alone, logits, sizeof alone);
    glam_session_reset(s);
    for (int i = 0; i < 20; i++) {
        logits = glam_next(s, a + i, 1);
        if (i < 19) glam_next(t, b + i, 1);
    }
    CHECK(logits && !memcmp(alone, logits, sizeof alone));
    CLOSE_CLEAN(ctx);
}

// A session goes on with changed weights: of a model of its own after glam_forget, of a borrowed one
// after a reset, for its owner may have trained meanwhile.
static void generate_with_changed_weights(void)
{
    glam_ctx *ctx = test_ctx(), *other = test_ctx();
    glam_model *model = generate_model(ctx, 0), *borrowed = glam_model_borrow(other, model);
    int32_t ids[20];
    float before[37];
    test_ids(ids, 20, 1, 37);
    glam_session *own = glam_session_new(model, 20), *guest = glam_session_new(borrowed, 20);
    const float *logits = glam_next(own, ids, 20);
    if (CHECK(logits != NULL)) memcpy(before, logits, sizeof before);
    logits = glam_next(guest, ids, 20);
    CHECK(logits && !memcmp(before, logits, sizeof before));
    glam_tensor *q = glam_model_tensor(model, "layers.0.attn.q");
    for (size_t i = 0; CHECK(q != NULL) && i < glam_size(q); i++) q->data[i] += 0.5f;
    glam_forget(ctx);
    glam_session_reset(own);
    glam_session_reset(guest);
    logits = glam_next(own, ids, 20);
    CHECK(logits && memcmp(before, logits, sizeof before) != 0);
    if (logits) memcpy(before, logits, sizeof before);
    logits = glam_next(guest, ids, 20);
    CHECK(logits && !memcmp(before, logits, sizeof before));
    logits = glam_next(glam_session_new(model, 20), ids, 20);
    CHECK(logits && !memcmp(before, logits, sizeof before));
    CLOSE_CLEAN(other);
    CLOSE_CLEAN(ctx);
}

// --- sampling ------------------------------------------------------------------------------------

static glam_sampling sampling_plain(void)
{
    glam_sampling s = glam_sampling_default();
    s.temperature = 1;
    s.top_k = 0;
    s.top_p = 1;
    s.min_p = 0;
    s.repetition_penalty = 1;
    return s;
}

// The distribution that one filter leaves, slowly: sort, keep, renormalise.
static void slow_filter(double *p, const float *logits, int n, const glam_sampling *s)
{
    int order[64], keep = n;
    double sum = 0, reached = 0;
    for (int i = 0; i < n; i++) {
        p[i] = exp((double)logits[i] / (double)s->temperature);
        sum += p[i];
        order[i] = i;
    }
    for (int i = 0; i < n; i++) p[i] /= sum;
    for (int i = 0; i < n; i++) {
        for (int j = i + 1; j < n; j++) {
            if (p[order[j]] > p[order[i]]) { int o = order[i]; order[i] = order[j]; order[j] = o; }
        }
    }
    if (s->top_k && s->top_k < keep) keep = s->top_k;
    if (s->top_p < 1) {
        int count = 0;
        while (count < keep && reached < (double)s->top_p) reached += p[order[count++]];
        keep = count;
    }
    if (s->min_p > 0) {
        int count = 0;
        while (count < keep && p[order[count]] >= (double)s->min_p * p[order[0]]) count++;
        keep = count;
    }
    for (int i = keep; i < n; i++) p[order[i]] = 0;
    sum = 0;
    for (int i = 0; i < n; i++) sum += p[i];
    for (int i = 0; i < n; i++) p[i] /= sum;
}

// 20000 draws: nothing outside the filter, and each share within five deviations.
static void sampling_case(const glam_sampling *s)
{
    enum { N = 11, DRAWS = 20000 };
    glam_ctx *ctx = test_ctx();
    float logits[N] = { 0.3f, 2.1f, -1, 1.7f, 0, 2.4f, -3, 0.9f, 1.1f, -0.5f, 1.3f };
    double p[N];
    int count[N] = { 0 }, outside = 0;
    slow_filter(p, logits, N, s);
    for (int i = 0; i < DRAWS; i++) {
        int32_t token = glam_pick(ctx, logits, N, s, NULL, 0, (uint64_t)i);
        if (token < 0 || token >= N) outside++; else count[token]++;
    }
    CHECK(outside == 0);
    for (int i = 0; i < N; i++) {
        if (p[i] == 0) CHECK(count[i] == 0);
        else CHECK_NEAR(count[i], DRAWS * p[i], 5 * sqrt(DRAWS * p[i] * (1 - p[i])) + 1);
    }
    CLOSE_CLEAN(ctx);
}

static void sampling_filters(void)
{
    glam_sampling s = sampling_plain();
    sampling_case(&s);
    s.temperature = 0.5f;
    sampling_case(&s);
    s.temperature = 2;
    sampling_case(&s);
    s = sampling_plain();
    for (s.top_k = 1; s.top_k < 12; s.top_k += 3) sampling_case(&s);
    s = sampling_plain();
    for (int i = 1; i < 10; i += 2) { s.top_p = 0.1f * (float)i; sampling_case(&s); }
    s = sampling_plain();
    for (int i = 1; i < 10; i += 2) { s.min_p = 0.1f * (float)i; sampling_case(&s); }
    s.seed = 77;
    s.min_p = 0.02f;
    s.temperature = 0.8f;
    sampling_case(&s);
}

static void sampling_greedy_and_penalty(void)
{
    glam_ctx *ctx = test_ctx();
    float logits[4] = { 1, 4, 3, 2 };
    int32_t history[5] = { 1, 1, 0, 0, 0 };
    glam_sampling s = sampling_plain();
    s.temperature = 0;
    CHECK(glam_pick(ctx, logits, 4, &s, NULL, 0, 0) == 1);
    CHECK(glam_pick(ctx, logits, 4, &s, history, 5, 9) == 1);          // penalty 1: none
    s.repetition_penalty = 2;
    CHECK(glam_pick(ctx, logits, 4, &s, history, 5, 0) == 2);          // 4 / 2 is less than 3
    CHECK(glam_pick(ctx, logits, 4, &s, NULL, 0, 0) == 1);
    s.repetition_window = 3;                                           // the ones are too far back
    CHECK(glam_pick(ctx, logits, 4, &s, history, 5, 0) == 1);
    CHECK(logits[1] == 4);                                             // not changed
    logits[0] = logits[3] = logits[2] = 4;
    CHECK(glam_pick(ctx, logits, 4, &s, NULL, 0, 0) == 0);             // the lowest of equals
    CLOSE_CLEAN(ctx);
}

static void sampling_is_a_function_of_index(void)
{
    glam_ctx *ctx = test_ctx();
    float *logits = test_floats(50, 3, -1, 1);
    glam_sampling s = sampling_plain(), other = s;
    int same = 0, moved = 0;
    other.seed = s.seed + 1;
    for (uint64_t i = 0; i < 200; i++) {
        int32_t a = glam_pick(ctx, logits, 50, &s, NULL, 0, i);
        same += a == glam_pick(ctx, logits, 50, &s, NULL, 0, i);
        moved += a != glam_pick(ctx, logits, 50, &other, NULL, 0, i);
    }
    CHECK(same == 200 && moved > 150);
    free(logits);
    CLOSE_CLEAN(ctx);
}

// --- generate and complete -----------------------------------------------------------------------

static void generate_greedy(void)
{
    glam_ctx *ctx = test_ctx();
    glam_model *model = generate_model(ctx, 0);
    int32_t prompt[5] = { 1, 30, 7, 7, 2 }, a[20], b[20];
    glam_sampling s = glam_sampling_default();
    s.temperature = 0;
    s.min_p = 0;
    glam_session *session = glam_session_new(model, 25);
    CHECK(glam_generate(session, prompt, 5, a, 20, &s) == 20);
    glam_session_reset(session);
    s.seed = 99;
    CHECK(glam_generate(session, prompt, 5, b, 20, &s) == 20);
    CHECK(!memcmp(a, b, sizeof a));
    // Each token is the largest logit of the full forward over what stands before it.
    int32_t row[25];
    memcpy(row, prompt, sizeof prompt);
    memcpy(row + 5, a, sizeof a);
    glam_batch batch = { 1, 25, row, NULL, NULL, NULL };
    glam_tensor *logits = glam_forward(model, &batch, GLAM_INFER);
    for (int i = 5; logits && i < 25; i++) {
        int best = 0;
        for (int v = 1; v < 37; v++) {
            if (logits->data[(i - 1) * 37 + v] > logits->data[(i - 1) * 37 + best]) best = v;
        }
        CHECK(best == row[i]);
    }
    CHECK(logits != NULL);
    CLOSE_CLEAN(ctx);
}

static void generate_seeded(void)
{
    glam_ctx *ctx = test_ctx();
    glam_model *model = generate_model(ctx, 1);
    int32_t prompt[2] = { 3, 4 }, a[30], b[30], c[30];
    glam_sampling s = sampling_plain();
    glam_session *session = glam_session_new(model, 40);
    CHECK(glam_generate(session, prompt, 2, a, 30, &s) == 30);
    glam_session_reset(session);
    CHECK(glam_generate(session, prompt, 2, b, 30, &s) == 30);
    glam_session_reset(session);
    s.seed = 2;
    CHECK(glam_generate(session, prompt, 2, c, 30, &s) == 30);
    CHECK(!memcmp(a, b, sizeof a) && memcmp(a, c, sizeof a) != 0);
    CLOSE_CLEAN(ctx);
}

static void generate_complete(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = test_config();
    char out[40], again[40];
    c.vocab = 256;
    glam_model *model = glam_model_new(ctx, &c);
    memset(out, 'x', sizeof out);
    int n = glam_complete(model, "hello", out, 20, NULL);
    CHECK(n == 19 && out[19] == 0 && out[20] == 'x');
    CHECK(glam_complete(model, "hello", again, 20, NULL) == n && !memcmp(out, again, 20));
    CHECK(glam_complete(model, "hello", out, 1, NULL) == 0 && out[0] == 0);
    CHECK(glam_error(ctx) == GLAM_OK);
    glam_clear_error(ctx);
    glam_config small = test_config();
    glam_model *other = glam_model_new(ctx, &small);         // 37 tokens are not bytes
    strcpy(out, "not written");
    CHECK(glam_complete(other, "hello", out, 20, NULL) == 0);
    CHECK(out[0] == 0);
    CHECK(glam_error(ctx) == GLAM_ERR_VALUE && strstr(glam_error_text(ctx), "37"));
    glam_clear_error(ctx);
    CLOSE_CLEAN(ctx);
}

static void generate_failures(void)
{
    glam_ctx *ctx = test_ctx();
    glam_model *model = generate_model(ctx, 0);
    glam_session *session = glam_session_new(model, 6);
    int32_t tokens[8] = { 1, 2, 3, 4, 5, 6, 7, 8 }, out[8];
    glam_sampling s = sampling_plain();
    CHECK(glam_session_new(model, 0) == NULL);
    CHECK(glam_error(ctx) == GLAM_ERR_VALUE);
    glam_clear_error(ctx);
    CHECK(glam_next(session, tokens, 7) == NULL);
    CHECK(glam_error(ctx) != GLAM_OK && strstr(glam_error_text(ctx), "6"));
    glam_clear_error(ctx);
    CHECK(glam_session_length(session) == 0);
    tokens[1] = 37;
    CHECK(glam_next(session, tokens, 3) == NULL);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "37");
    tokens[1] = 2;
    CHECK(glam_next(session, tokens, 0) == NULL);
    CHECK(glam_error(ctx) != GLAM_OK);
    glam_clear_error(ctx);
    CHECK(glam_next(session, tokens, 4) && !glam_next(session, tokens, 3));        // 4 and 3 are more than 6
    ERROR_IS(ctx, GLAM_ERR_STATE, "holds 4; 3");
    CHECK(glam_next(session, tokens, 2) && !glam_next(session, tokens, 1));
    ERROR_IS(ctx, GLAM_ERR_STATE, "holds 6; 1");
    glam_session_reset(session);
    // A cache that fills up ends the continuation; what was written counts.
    int n = glam_generate(session, tokens, 3, out, 8, &s);
    CHECK(n >= 0 && n <= 4);
    glam_clear_error(ctx);
    glam_session_reset(session);
    s.temperature = -1;
    CHECK(glam_generate(session, tokens, 3, out, 2, &s) == 0);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "temperature");
    s = sampling_plain();
    s.repetition_penalty = 0;
    float logits[4] = { 0, 1, 2, 3 };
    int32_t token = glam_pick(ctx, logits, 4, &s, NULL, 0, 0);
    CHECK(token <= 0);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "repetition_penalty");
    s = sampling_plain();
    s.top_p = 0;
    glam_pick(ctx, logits, 4, &s, NULL, 0, 0);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "top_p");
    CLOSE_CLEAN(ctx);
}

// Between which layers the host says stop: at its 6th poll, the second layer of the second token.
static int generate_cancel_sixth(void *user)
{ return ++*(int *)user == 6; }

// A token that was cancelled is no failure and was never read: the next call has the bits of one that
// nothing interrupted.
static void generate_cancelled(void)
{
    int32_t tokens[2] = { 3, 5 };
    int polls = -100;
    glam_options options = glam_options_default();
    options.cancel = generate_cancel_sixth;
    options.cancel_user = &polls;
    glam_ctx *ctx = glam_open(&options);
    glam_model *model = generate_model(ctx, 0);
    float want[37];
    for (int i = 0; i < 2; i++) {
        glam_session *session = glam_session_new(model, 8);
        const float *logits = glam_next(session, tokens, 1);
        CHECK(logits != NULL);
        if (i) {
            CHECK(glam_next(session, tokens + 1, 1) == NULL && glam_error(ctx) == GLAM_OK);
            CHECK(polls == 6 && glam_session_length(session) == 1);
        }
        logits = glam_next(session, tokens + 1, 1);
        if (CHECK(logits != NULL) && !i) memcpy(want, logits, sizeof want);
        else if (logits) CHECK(memcmp(logits, want, sizeof want) == 0);
        polls = 0;
    }
    CLOSE_CLEAN(ctx);
}

// A model with a NaN or an infinity writes nothing, and says which token could not be told.
static void generate_spoilt(void)
{
    static const char *const names[] = { "norm", "layers.0.moe.router", "layers.0.attn.norm",
        "layers.0.attn.q", "layers.0.attn.k", "layers.0.attn.v", "layers.0.attn.o",
        "layers.1.ffn.up", "norm" };
    for (int i = 0; i < 9; i++) {
        glam_ctx *ctx = test_ctx();
        glam_config c = train_config();
        glam_model *model = glam_model_new(ctx, &c);
        glam_tensor *t = glam_model_tensor(model, names[i]);
        glam_session *session = glam_session_new(model, 9);
        int32_t ids[4] = { 65, 66, 67, 68 }, out[4];
        char text[9];
        if (!CHECK(t != NULL)) printf("  %s\n", names[i]);
        if (!t) return;
        CHECK(glam_next(session, ids, 2) != NULL);
        t->data[1] = i == 8 ? (float)HUGE_VAL : (float)NAN;
        glam_forget(ctx);
        glam_session_reset(session);
        glam_perplexity_report r;
        CHECK(glam_next(session, ids, 3) == NULL && glam_session_length(session) == 0);
        ERROR_IS(ctx, GLAM_ERR_NUMERIC, "after token 3");
        CHECK(glam_generate(session, ids, 3, out, 4, NULL) == 0);
        ERROR_IS(ctx, GLAM_ERR_NUMERIC, "not finite");
        CHECK(glam_complete(model, "so", text, 9, NULL) == 0 && !text[0]);
        ERROR_IS(ctx, GLAM_ERR_NUMERIC, "not finite");
        CHECK(glam_perplexity(model, test_text(ctx, 400), 0, &r) == GLAM_ERR_NUMERIC && r.tokens == 0);
        ERROR_IS(ctx, GLAM_ERR_NUMERIC, "token 0, is not finite");
        CLOSE_CLEAN(ctx);
    }
}

// Of equal logits the lower id comes first, wherever it lies; and what the limits of sampling are.
static void generate_ties_and_limits(void)
{
    glam_ctx *ctx = test_ctx();
    const glam__candidate low = { 1, 3, 0 }, high = { 1, 7, 0 }, best = { 2, 9, 0 };
    CHECK(glam__by_logit(&low, &high) < 0 && glam__by_logit(&high, &low) > 0);
    CHECK(glam__by_logit(&low, &low) == 0 && glam__by_logit(&best, &low) < 0 && glam__by_logit(&low, &best) > 0);
    float same[9] = { 0, 1, 0, 1, 1, 1, 0, 1, 1 };
    for (uint64_t i = 0; i < 40; i++) {
        glam_sampling s = sampling_plain();
        s.temperature = 1;
        s.top_k = 2;
        int32_t id = glam_pick(ctx, same, 9, &s, NULL, 0, i);
        CHECK(id == 1 || id == 3);
    }
    for (int i = 0; i < 10; i++) {
        glam_sampling s = sampling_plain();
        int good = i % 2;
        if (i / 2 == 0) s.min_p = good ? 1 : 1.0001f;
        if (i / 2 == 1) s.top_k = good ? 0 : -1;
        if (i / 2 == 2) s.repetition_window = good ? 0 : -1;
        if (i / 2 == 3) s.temperature = good ? 0 : -1e-3f;
        if (i / 2 == 4) s.min_p = good ? 0 : -1e-3f;
        CHECK((glam_pick(ctx, same, 9, &s, NULL, 0, 0) >= 0) == good);
        CHECK((glam_error(ctx) == GLAM_OK) == good);
        glam_clear_error(ctx);
    }
    CLOSE_CLEAN(ctx);
}

// Minus infinity bars a token; nothing else that is no number is picked from.
static void generate_pick_not_finite(void)
{
    glam_ctx *ctx = test_ctx();
    float low = (float)-HUGE_VAL;
    for (int greedy = 0; greedy < 2; greedy++) {
        glam_sampling s = sampling_plain();
        float good[4] = { low, 1, low, 0.5f }, all[2] = { low, low };
        s.temperature = greedy ? 0 : 5.0f;
        int seen[4] = { 0 };
        for (uint64_t i = 0; i < 60; i++) {
            int32_t id = glam_pick(ctx, good, 4, &s, NULL, 0, i);
            if (CHECK(id == 1 || id == 3)) seen[id]++;
        }
        CHECK(seen[1] && (seen[3] > 0) == !greedy);
        CHECK(glam_pick(ctx, all, 2, &s, NULL, 0, 0) == -1);
        ERROR_IS(ctx, GLAM_ERR_NUMERIC, "token 0");
        for (int i = 0; i < 3; i++) {
            float bad[3] = { 1, 2, 3 };
            bad[i] = i == 1 ? (float)HUGE_VAL : (float)NAN;
            CHECK(glam_pick(ctx, bad, 3, &s, NULL, 0, 0) == -1);
            char where[20];
            sprintf(where, "token %d is", i);
            ERROR_IS(ctx, GLAM_ERR_NUMERIC, where);
        }
    }
    CLOSE_CLEAN(ctx);
}

// Reading costs no allocation once the first call has been made.
static void generate_steady(void)
{
    glam_options options = test_options();
    test_heap heap;
    test_heap_into(&heap, &options);
    glam_ctx *ctx = glam_open(&options);
    glam_model *model = generate_model(ctx, 0);
    glam_session *session = glam_session_new(model, 64);
    int32_t token = 3;
    glam_next(session, &token, 1);
    long before = heap.calls;
    for (int i = 0; i < 40; i++) CHECK(glam_next(session, &token, 1) != NULL);
    CHECK(heap.calls == before);
    CLOSE_CLEAN(ctx);
    CHECK(heap.live == 0 && heap.wrong == 0);
}

// ---- beam search

enum { BEAM_VOCAB = 3, BEAM_MOST = 4, BEAM_ENDS = 2 };

static glam_model *beam_model(glam_ctx *ctx, int kind)
{
    glam_config c = test_config();
    c.vocab = BEAM_VOCAB;
    c.position = (glam_position)(kind % 3);
    glam_model *model = glam_model_new(ctx, &c);
    for (int i = 0; i < glam_model_tensor_at(model, 0)->shape.dim[0] * 12; i++)
        glam_model_tensor_at(model, 0)->data[i] *= 3;      // sharper: texts differ more
    return model;
}

static int beam_ends(void *user, const int32_t *tokens, int count)
{
    int *calls = (int *)user;
    *calls += 1;
    return tokens[count - 1] == BEAM_ENDS;
}

// log p of tokens behind a prompt, from one full forward.
static double beam_slow(glam_model *model, const int32_t *prompt, int count, const int32_t *tokens,
                        int n)
{
    int32_t all[32];
    double sum = 0;
    glam_batch batch = { 1, count + n - 1, all, NULL, NULL, NULL };
    memcpy(all, prompt, (size_t)count * sizeof *all);
    memcpy(all + count, tokens, (size_t)n * sizeof *all);
    glam_tensor *y = glam_forward(model, &batch, GLAM_INFER);
    for (int t = 0; y && t < n; t++) {
        const float *row = y->data + (count - 1 + t) * BEAM_VOCAB;
        sum += (double)row[tokens[t]] - slow_logsumexp(row, BEAM_VOCAB);
    }
    glam_forget(glam_model_ctx(model));
    return sum;
}

// Every text of at most BEAM_MOST tokens, one after another: the best by loglik / length^power.
static double beam_exhaustive(glam_model *model, const int32_t *prompt, int count, double power,
                              int32_t *best, int *length)
{
    double most = -1e300, loglik = 0;
    for (int n = 1; n <= BEAM_MOST; n++) {
        int texts = (int)(pow((double)BEAM_VOCAB, n) + 0.5);
        for (int i = 0; i < texts; i++) {
            int32_t tokens[BEAM_MOST];
            int rest = i, early = 0;
            for (int t = 0; t < n; t++, rest /= BEAM_VOCAB) tokens[t] = rest % BEAM_VOCAB;
            for (int t = 0; t + 1 < n; t++) early |= tokens[t] == BEAM_ENDS;
            if (early || (n < BEAM_MOST && tokens[n - 1] != BEAM_ENDS)) continue;
            double sum = beam_slow(model, prompt, count, tokens, n);
            if (sum / pow((5 + n) / 6.0, power) <= most) continue;
            most = sum / pow((5 + n) / 6.0, power);
            loglik = sum;
            *length = n;
            memcpy(best, tokens, (size_t)n * sizeof *best);
        }
    }
    return loglik;
}

// As wide as there are texts, it finds the best of all; at width 1 it takes the likeliest token.
static void beam_against_all_texts(void)
{
    static const double powers[3] = { 0, 0.6, 2 };
    int lengths[BEAM_MOST + 1] = { 0 };
    for (int kind = 0; kind < 3; kind++) {
        glam_ctx *ctx = test_ctx();
        glam_model *model = beam_model(ctx, kind);
        for (int i = 0; i < 9; i++) {
            int32_t prompt[9], best[BEAM_MOST], out[BEAM_MOST];
            int count = 1 + i, length = 0, calls = 0;
            double loglik;
            glam_beam beam = glam_beam_default();
            test_ids(prompt, 9, (uint64_t)(40 + i), BEAM_VOCAB);
            beam.length_power = powers[i % 3];
            beam.ends = beam_ends;
            beam.ends_user = &calls;
            beam.width = 27;
            double want = beam_exhaustive(model, prompt, count, beam.length_power, best, &length);
            CHECK(glam_beam_search(model, prompt, count, out, BEAM_MOST, &beam, &loglik) == length);
            CHECK(memcmp(out, best, (size_t)length * sizeof *out) == 0);
            CHECK_NEAR(loglik, want, 1e-5);
            CHECK(calls > 0);
            lengths[length]++;
        }
        CLOSE_CLEAN(ctx);
    }
    CHECK(lengths[1] > 0 && lengths[BEAM_MOST] > 0);       // short and long ones were best
}

// A beam by hand: texts are scored by full forwards, nothing is cached.
static int beam_by_hand(glam_model *model, const int32_t *prompt, int count, int width,
                        double power, int32_t *best)
{
    int32_t texts[8][BEAM_MOST], next[8][BEAM_MOST];
    int live = 1, length = 0;
    double most = -1e300, loglik[24];
    for (int n = 1; n <= BEAM_MOST && live; n++) {
        int steps = live * BEAM_VOCAB, taken = 0, used[24] = { 0 };
        for (int i = 0; i < steps; i++) {
            texts[i / BEAM_VOCAB][n - 1] = i % BEAM_VOCAB;
            loglik[i] = beam_slow(model, prompt, count, texts[i / BEAM_VOCAB], n);
        }
        for (int turn = 0; turn < 2 * width && turn < steps && taken < width; turn++) {
            int at = -1;
            for (int i = 0; i < steps; i++)
                if (!used[i] && (at < 0 || loglik[i] > loglik[at])) at = i;
            used[at] = 1;
            texts[at / BEAM_VOCAB][n - 1] = at % BEAM_VOCAB;
            double worth = loglik[at] / pow((5 + n) / 6.0, power);
            int ends = at % BEAM_VOCAB == BEAM_ENDS || n == BEAM_MOST;
            if (ends && worth > most) {
                most = worth;
                length = n;
                memcpy(best, texts[at / BEAM_VOCAB], (size_t)n * sizeof *best);
            }
            if (!ends) memcpy(next[taken++], texts[at / BEAM_VOCAB], sizeof next[0]);
        }
        memcpy(texts, next, sizeof texts);
        live = taken;
    }
    return length;
}

static void beam_against_hand(void)
{
    for (int kind = 0; kind < 3; kind++) {
        glam_ctx *ctx = test_ctx();
        glam_model *model = beam_model(ctx, kind);
        for (int i = 0; i < 12; i++) {
            int32_t prompt[20], best[BEAM_MOST], out[BEAM_MOST];
            int count = 1 + i * 3 % 20, calls = 0, width = 1 + i % 4;
            glam_beam beam = glam_beam_default();
            test_ids(prompt, 20, (uint64_t)(60 + i), BEAM_VOCAB);
            beam.width = width;
            beam.ends = beam_ends;
            beam.ends_user = &calls;
            int want = beam_by_hand(model, prompt, count, width, 0.6, best);
            CHECK(glam_beam_search(model, prompt, count, out, BEAM_MOST, &beam, NULL) == want);
            CHECK(memcmp(out, best, (size_t)want * sizeof *out) == 0);
        }
        CLOSE_CLEAN(ctx);
    }
}

// Width 1 without an end is greedy; the search leaves nothing behind.
static void beam_greedy(void)
{
    glam_ctx *ctx = test_ctx();
    glam_model *model = generate_model(ctx, 0);
    glam_beam beam = glam_beam_default();
    glam_sampling greedy = glam_sampling_default();
    int32_t prompt[3] = { 4, 9, 30 }, a[40], b[40];
    greedy.temperature = 0;
    beam.width = 1;
    uint64_t life = glam_memory(ctx).life;
    CHECK(glam_beam_search(model, prompt, 3, a, 40, &beam, NULL) == 40);
    CHECK(glam_memory(ctx).life == life);
    CHECK(glam_generate(glam_session_new(model, 43), prompt, 3, b, 40, &greedy) == 40);
    CHECK(memcmp(a, b, sizeof a) == 0);
    CLOSE_CLEAN(ctx);
}

static void beam_failures(void)
{
    glam_ctx *ctx = test_ctx();
    glam_model *model = generate_model(ctx, 0);
    glam_beam beam = glam_beam_default();
    int32_t prompt[2] = { 1, 2 }, out[4];
    double loglik = 7;
    CHECK(beam.width == 4 && beam.length_power == 0.6 && !beam.ends);
    CHECK(glam_beam_search(NULL, prompt, 2, out, 4, NULL, &loglik) == 0 && loglik == 0);
    CHECK(glam_beam_search(model, prompt, 0, out, 4, NULL, NULL) == 0);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "a prompt of 0");
    CHECK(glam_beam_search(model, NULL, 2, out, 4, NULL, NULL) == 0);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "NULL");
    CHECK(glam_beam_search(model, prompt, 2, out, 0, NULL, NULL) == 0);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "0 tokens behind");
    beam.width = 0;
    CHECK(glam_beam_search(model, prompt, 2, out, 4, &beam, NULL) == 0);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "glam_beam_default");
    beam = glam_beam_default();
    beam.length_power = (double)NAN;
    CHECK(glam_beam_search(model, prompt, 2, out, 4, &beam, NULL) == 0);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "length_power");
    prompt[1] = 37;
    CHECK(glam_beam_search(model, prompt, 2, out, 4, NULL, NULL) == 0);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "37");
    prompt[1] = 36;
    CHECK(glam_beam_search(model, prompt, 2, out, 4, NULL, NULL) == 4);
    glam_model_tensor(model, "norm")->data[0] = (float)NAN;
    CHECK(glam_beam_search(model, prompt, 2, out, 4, NULL, NULL) == 0);
    ERROR_IS(ctx, GLAM_ERR_NUMERIC, "not finite");
    CLOSE_CLEAN(ctx);
}

static void test_17_generate(void)
{
    RUN(generate_cache_has_full_bits);
    RUN(generate_alone_is_in_batch);
    RUN(generate_sessions_are_apart);
    RUN(generate_with_changed_weights);
    RUN(sampling_filters);
    RUN(sampling_greedy_and_penalty);
    RUN(sampling_is_a_function_of_index);
    RUN(generate_greedy);
    RUN(generate_seeded);
    RUN(generate_complete);
    RUN(generate_failures);
    RUN(generate_cancelled);
    RUN(generate_spoilt);
    RUN(generate_ties_and_limits);
    RUN(generate_pick_not_finite);
    RUN(generate_steady);
    RUN(beam_against_all_texts);
    RUN(beam_against_hand);
    RUN(beam_greedy);
    RUN(beam_failures);
}
