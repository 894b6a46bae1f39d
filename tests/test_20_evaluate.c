/* Room 20: evaluation.  Kinds: value (log-likelihoods against a double sum of log softmax), same bits
   (a batch against one by one), property, failure. */

// The mean loss of all whole windows, from the logits, in double.
static void evaluate_value(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = test_config();
    int32_t ids[64];
    test_ids(ids, 64, 5, c.vocab);
    c.moe.capacity_factor = 0.5f;                  // evaluation drops nothing
    glam_model *model = glam_model_new(ctx, &c);
    glam_text *text = glam_text_from_tokens(ctx, ids, 64);
    static const int contexts[4] = { 0, 5, 9, 63 };
    for (int i = 0; i < 4; i++) {
        int S = contexts[i] ? contexts[i] : 11, windows = 63 / S;
        double sum = 0;
        glam_perplexity_report r;
        for (int w = 0; w < windows; w++) {
            glam_batch batch = { 1, S, ids + w * S, NULL, NULL, NULL };
            glam_tensor *logits = glam_forward(model, &batch, GLAM_INFER);
            for (int s = 0; logits && s < S; s++) {
                const float *row = logits->data + s * c.vocab;
                sum += slow_logsumexp(row, c.vocab) - (double)row[ids[w * S + s + 1]];
            }
        }
        glam_forget(ctx);
        sum /= windows * S;
        CHECK(glam_perplexity(model, text, contexts[i], &r) == GLAM_OK);
        CHECK(r.tokens == (uint64_t)(windows * S));
        CHECK_NEAR(r.loss, sum, 2e-6 * sum);
        CHECK_NEAR(r.perplexity, exp(sum), 1e-5 * exp(sum));
        CHECK_NEAR(r.bits_per_token, sum / log(2.0), 1e-5 * sum);
    }
    CLOSE_CLEAN(ctx);
}

static void evaluate_is_validation(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = train_config();
    glam_recipe recipe = train_recipe(2);
    glam_text *train, *valid;
    glam_perplexity_report r;
    glam_text_split(test_text(ctx, 2000), 0.3f, &train, &valid);
    glam_model *model = glam_model_new(ctx, &c);
    glam_trainer *trainer = glam_trainer_new(model, train, valid, &recipe);
    glam_train_step(trainer, NULL);
    double loss = glam_validate(trainer);
    CHECK(glam_perplexity(model, valid, 0, &r) == GLAM_OK);
    CHECK(loss > 0 && loss == r.loss);
    CLOSE_CLEAN(ctx);
}

static void evaluate_failures(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = test_config();
    glam_model *model = glam_model_new(ctx, &c);
    glam_perplexity_report r;
    int32_t ids[12] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 };
    memset(&r, 0x55, sizeof r);
    CHECK(glam_perplexity(model, glam_text_from_tokens(ctx, ids, 11), 0, &r) == GLAM_ERR_VALUE);
    CHECK(r.tokens == 0);
    CHECK(strstr(glam_error_text(ctx), "11") != NULL);
    glam_clear_error(ctx);
    CHECK(glam_perplexity(model, glam_text_from_tokens(ctx, ids, 12), 0, &r) == GLAM_OK && r.tokens == 11);
    CHECK(glam_perplexity(model, glam_text_from_tokens(ctx, ids, 12), -1, &r) == GLAM_ERR_VALUE);
    glam_clear_error(ctx);
    ids[3] = 37;
    CHECK(glam_perplexity(model, glam_text_from_tokens(ctx, ids, 12), 0, &r) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "37");
    glam_recipe recipe = train_recipe(2);
    c = train_config();
    glam_trainer *trainer = glam_trainer_new(glam_model_new(ctx, &c), test_text(ctx, 900), NULL, &recipe);
    CHECK(glam_validate(trainer) < 0);             // there is no validation text
    ERROR_IS(ctx, GLAM_ERR_STATE, "valid");
    CLOSE_CLEAN(ctx);
}

// A model that is spoilt has no loss, neither here nor in a trainer's validation.
static void evaluate_spoilt(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = train_config();
    glam_recipe recipe = train_recipe(4);
    glam_perplexity_report r;
    glam_text *train, *valid;
    glam_model *model = glam_model_new(ctx, &c);
    glam_text_split(test_text(ctx, 3000), 0.3f, &train, &valid);
    glam_trainer *trainer = glam_trainer_new(model, train, valid, &recipe);
    double loss = glam_validate(trainer);
    CHECK(loss > 0);
    glam_model_tensor(model, "layers.1.ffn.up")->data[3] = (float)NAN;
    CHECK(glam_validate(trainer) < 0);
    ERROR_IS(ctx, GLAM_ERR_NUMERIC, "not finite");
    memset(&r, 0x55, sizeof r);
    CHECK(glam_perplexity(model, valid, 0, &r) == GLAM_ERR_NUMERIC);
    CHECK(r.tokens == 0 && r.loss == 0 && r.perplexity == 0);
    ERROR_IS(ctx, GLAM_ERR_NUMERIC, "not finite");
    CLOSE_CLEAN(ctx);
}

// ---- log-likelihood

enum { SCORE_SPANS = 70, SCORE_MOST = 40 };         // more than the 64 that go together

static glam_model *score_model(glam_ctx *ctx, int kind)
{
    glam_config c = test_config();
    c.position = (glam_position)(kind % 3);
    c.moe.capacity_factor = 0.5f;                  // evaluation drops nothing
    if (kind == 3) c.moe.experts = 0;
    if (kind == 4) { c.tied = 0;  c.logit_cap = 2; }
    return glam_model_new(ctx, &c);
}

// Spans of 2 to SCORE_MOST tokens, cut anywhere.
static void score_spans(int32_t (*ids)[SCORE_MOST], glam_span *spans, int vocab)
{
    uint64_t state = test_seed(77);
    for (int i = 0; i < SCORE_SPANS; i++) {
        test_ids(ids[i], SCORE_MOST, (uint64_t)i, vocab);
        spans[i].tokens = ids[i];
        spans[i].count = 2 + (int)(test_next(&state) % (SCORE_MOST - 1));
        spans[i].from = 1 + (int)(test_next(&state) % (uint64_t)(spans[i].count - 1));
    }
}

// sum of log softmax of tokens [scored,end) when the model reads [from,end-1), in double.
static double score_slow(glam_model *model, const int32_t *ids, int from, int scored, int end,
                         int *greedy)
{
    int V = glam_model_config(model)->vocab;
    double sum = 0;
    glam_batch batch = { 1, end - 1 - from, ids + from, NULL, NULL, NULL };
    glam_tensor *y = glam_forward(model, &batch, GLAM_INFER);
    for (int t = scored; y && t < end; t++) {
        const float *row = y->data + (t - 1 - from) * V;
        sum += (double)row[ids[t]] - slow_logsumexp(row, V);
        for (int v = 0; v < V; v++) if (row[v] > row[ids[t]]) *greedy = 0;
    }
    glam_forget(glam_model_ctx(model));
    return sum;
}

static void evaluate_loglikelihood(void)
{
    int32_t ids[SCORE_SPANS][SCORE_MOST];
    for (int kind = 0; kind < 5; kind++) {
        glam_ctx *ctx = test_ctx();
        glam_model *model = score_model(ctx, kind);
        glam_span spans[SCORE_SPANS];
        glam_score scores[SCORE_SPANS];
        int greedy_ones = 0;
        score_spans(ids, spans, 37);
        // what the model itself would write is greedy, to the token before the last
        int32_t *own = ids[3];
        glam_sampling sampling = glam_sampling_default();
        sampling.temperature = 0;
        CHECK(glam_generate(glam_session_new(model, 20), own, 3, own + 3, 9, &sampling) == 9);
        spans[3].count = 12;
        spans[3].from = 3;
        memcpy(ids[4], own, sizeof ids[4]);
        ids[4][11] = (own[11] + 1) % 37;
        spans[4] = spans[3];
        spans[4].tokens = ids[4];
        CHECK(glam_loglikelihood_tokens(model, spans, SCORE_SPANS, SCORE_MOST, scores) == GLAM_OK);
        for (int i = 0; i < SCORE_SPANS; i++) {
            const glam_span *s = &spans[i];
            int greedy = 1;
            double want = score_slow(model, s->tokens, 0, s->from, s->count, &greedy);
            CHECK_NEAR(scores[i].loglik, want, 2e-6 * (1 + fabs(want)));
            CHECK(scores[i].tokens == s->count - s->from && scores[i].greedy == greedy);
            CHECK(scores[i].cut == 0 && scores[i].chars == 0 && scores[i].bytes == 0);
            greedy_ones += greedy;
        }
        CHECK(scores[3].greedy && !scores[4].greedy && greedy_ones < SCORE_SPANS / 2);
        CLOSE_CLEAN(ctx);
    }
}

// What is too long: the begin of the context goes; a long continuation is rolled over.
static void evaluate_windows(void)
{
    glam_ctx *ctx = test_ctx();
    glam_model *model = score_model(ctx, 0);
    int32_t ids[SCORE_MOST];
    glam_score s;
    test_ids(ids, SCORE_MOST, 9, 37);
    for (int window = 1; window <= 12; window++)
        for (int from = 1; from < SCORE_MOST; from += 3) {
            int count = from + 1 + (window * 7 + from) % (SCORE_MOST - from);
            glam_span span = { ids, count, from };
            int greedy = 1, done = from, end, cut = -1;
            double want = 0;
            for (; done < count; done = end) {
                int first = done == from && count - from > window;
                end = done + window < count ? done + window : count;
                if (first) end = from < window ? window + 1 : from + 1;   // its context comes along
                int begin = end - 1 - window > 0 ? end - 1 - window : 0;
                if (cut < 0) cut = begin;
                CHECK(end - 1 - begin <= window);
                want += score_slow(model, ids, begin, done, end, &greedy);
            }
            CHECK(glam_loglikelihood_tokens(model, &span, 1, window, &s) == GLAM_OK);
            CHECK_NEAR(s.loglik, want, 2e-6 * (1 + fabs(want)));
            CHECK(s.tokens == count - from && s.cut == cut && s.greedy == greedy);
        }
    glam_span span = { ids, SCORE_MOST, SCORE_MOST - 2 };
    CHECK(glam_loglikelihood_tokens(model, &span, 1, 0, &s) == GLAM_OK);   // 0: the model's context
    CHECK(s.cut == SCORE_MOST - 1 - 11);
    CLOSE_CLEAN(ctx);
}

// In a call of many, in any order, on any number of threads: the bits of one at a time.
static void evaluate_batch_has_single_bits(void)
{
    int32_t ids[SCORE_SPANS][SCORE_MOST];
    for (int kind = 0; kind < 5; kind++) {
        glam_span spans[SCORE_SPANS], turned[SCORE_SPANS];
        glam_score all[SCORE_SPANS], back[SCORE_SPANS], many[SCORE_SPANS], one;
        glam_options options = test_options();
        options.threads = 3;
        glam_ctx *ctx = test_ctx(), *wide = glam_open(&options);
        glam_model *model = score_model(ctx, kind), *other = glam_model_borrow(wide, model);
        score_spans(ids, spans, 37);
        for (int i = 0; i < SCORE_SPANS; i++) turned[i] = spans[SCORE_SPANS - 1 - i];
        CHECK(glam_loglikelihood_tokens(model, spans, SCORE_SPANS, 15, all) == GLAM_OK);
        CHECK(glam_loglikelihood_tokens(model, turned, SCORE_SPANS, 15, back) == GLAM_OK);
        CHECK(glam_loglikelihood_tokens(other, spans, SCORE_SPANS, 15, many) == GLAM_OK);
        for (int i = 0; i < SCORE_SPANS; i++) {
            CHECK(glam_loglikelihood_tokens(model, &spans[i], 1, 15, &one) == GLAM_OK);
            CHECK(one.loglik == all[i].loglik && one.greedy == all[i].greedy);
            CHECK(one.loglik == back[SCORE_SPANS - 1 - i].loglik);
            CHECK(one.loglik == many[i].loglik);
        }
        CLOSE_CLEAN(wide);
        CLOSE_CLEAN(ctx);
    }
}

// Texts: blanks at the end of the context are the continuation's, no context is a new line.
static void evaluate_queries(void)
{
    static const struct { const char *context, *continuation, *joined; int from, chars; } rows[] = {
        { "ab", " cd", "ab cd", 2, 3 }, { "ab ", "cd", "ab cd", 2, 2 },
        { "ab \n\t", "cd", "ab \n\tcd", 2, 2 }, { "", "cd", "\ncd", 1, 2 },
        { "  ", "cd", "\n  cd", 1, 2 }, { "a\xc3\xa4", "\xc3\xb6\xe2\x82\xac!", "a\xc3\xa4"
          "\xc3\xb6\xe2\x82\xac!", 3, 3 }, { "a\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80",
          "a\xf0\x9f\x98\x80\xf0\x9f\x98\x80", 5, 1 } };
    enum { N = sizeof rows / sizeof rows[0] };
    glam_ctx *ctx = test_ctx();
    glam_config c = train_config();
    glam_model *model = glam_model_new(ctx, &c);
    glam_query queries[N];
    glam_score scores[N], want;
    uint64_t life = glam_memory(ctx).life;
    for (int i = 0; i < N; i++) {
        queries[i].context = rows[i].context;
        queries[i].continuation = rows[i].continuation;
    }
    CHECK(glam_loglikelihood(model, queries, N, 0, scores) == GLAM_OK);
    CHECK(glam_memory(ctx).life == life);
    for (int i = 0; i < N; i++) {
        int32_t ids[32];
        int count = (int)strlen(rows[i].joined);
        glam_span span = { ids, count, rows[i].from };
        for (int t = 0; t < count; t++) ids[t] = (unsigned char)rows[i].joined[t];
        CHECK(glam_loglikelihood_tokens(model, &span, 1, 0, &want) == GLAM_OK);
        CHECK(scores[i].loglik == want.loglik && scores[i].tokens == count - rows[i].from);
        CHECK(scores[i].bytes == (int)strlen(rows[i].continuation));
        CHECK(scores[i].chars == rows[i].chars);
    }
    CHECK(glam_loglikelihood(model, queries + 3, 1, 1, scores) == GLAM_OK);      // a window of one
    int32_t ids[3] = { '\n', 'c', 'd' };
    glam_span span = { ids, 3, 1 };
    CHECK(glam_loglikelihood_tokens(model, &span, 1, 1, &want) == GLAM_OK);
    CHECK(scores[0].loglik == want.loglik);
    CLOSE_CLEAN(ctx);
}

// With pieces: the context is what it is alone, the continuation what the whole has behind as many
// tokens; here a piece "b " joins the two.  The tokenizer's begin comes before all, else its end
// where there is no context.
static void evaluate_queries_in_pieces(void)
{
    static const int32_t merge[2] = { 'b', ' ' };
    static const glam_query queries[3] = { { "ab", " cd" }, { "ab ", "cd" }, { "", "cd" } };
    static const int32_t ids[3][5] = { { 258, 'a', 'b', 'c', 'd' }, { 258, 'a', 'b', 'c', 'd' },
                                       { 258, 'c', 'd' } };
    test_pieces *p = (test_pieces *)malloc(sizeof *p);
    for (int begins = 0; p && begins < 2; begins++) {
        glam_ctx *ctx = test_ctx();
        glam_config c = train_config();
        c.vocab = 260;
        glam_model *model = glam_model_new(ctx, &c);
        glam_score scores[3], want;
        pieces_of_bytes(p, GLAM_SPLIT_NONE);
        pieces_add(p, "b ", GLAM_PIECE_NORMAL);
        pieces_add(p, "<end>", GLAM_PIECE_CONTROL);
        pieces_add(p, "<begin>", GLAM_PIECE_CONTROL);
        p->v.merges = 1;
        p->v.merge = merge;
        p->v.end = 257;
        if (begins) p->v.begin = 258;
        CHECK(glam_model_set_tokenizer(model, glam_tokenizer_new(ctx, &p->v)) == GLAM_OK);
        CHECK(glam_loglikelihood(model, queries, 3, 0, scores) == GLAM_OK);
        for (int i = 0; i < 3; i++) {
            int32_t own[5];
            glam_span span = { own, i < 2 ? 5 : 3, i < 2 ? 3 : 1 };
            memcpy(own, ids[i], sizeof own);
            own[0] = begins ? 258 : 257;
            if (!begins && i < 2) { span.tokens++;  span.count--;  span.from--; }
            CHECK(glam_loglikelihood_tokens(model, &span, 1, 0, &want) == GLAM_OK);
            CHECK(scores[i].loglik == want.loglik && scores[i].tokens == 2);
            CHECK(scores[i].bytes == (int)strlen(queries[i].continuation));
        }
        // a continuation that adds no token: the last one is its
        const glam_query joined = { "ab", " " };
        int32_t own[3] = { 258, 'a', 256 };
        glam_span span = { own + !begins, 2 + begins, 1 + begins };
        CHECK(glam_loglikelihood(model, &joined, 1, 0, scores) == GLAM_OK);
        CHECK(glam_loglikelihood_tokens(model, &span, 1, 0, &want) == GLAM_OK);
        CHECK(scores[0].loglik == want.loglik && scores[0].tokens == 1);
        CLOSE_CLEAN(ctx);
    }
    free(p);
}

// Four ways to compare, by hand; each prefers another option.
static void evaluate_choices(void)
{
    const glam_score options[4] = { { -9, 6, 9, 30, 0, 0 },         // -1.5   -1     -0.3
                                    { -10, 10, 8, 20, 0, 0 },       // -1     -1.25  -0.5
                                    { -8, 2, 4, 16, 0, 0 },         // -4     -2     -0.5
                                    { -9, 5, 10, 18, 1, 3 } };      // -1.8   -0.9   -0.5
    CHECK(glam_choose(options, 4, GLAM_PER_SUM) == 2);
    CHECK(glam_choose(options, 4, GLAM_PER_TOKEN) == 1);
    CHECK(glam_choose(options, 4, GLAM_PER_CHAR) == 3);
    CHECK(glam_choose(options, 4, GLAM_PER_BYTE) == 0);
    CHECK(glam_choose(options + 3, 1, GLAM_PER_BYTE) == 0);
    const glam_score equal[3] = { { -4, 2, 2, 2, 0, 0 }, { -2, 1, 1, 1, 0, 0 }, { -1, 0, 0, 0, 0, 0 } };
    CHECK(glam_choose(equal, 2, GLAM_PER_TOKEN) == 0);     // the first of equals
    CHECK(glam_choose(equal, 3, GLAM_PER_TOKEN) == 2);     // of no length: as it is
    CHECK(glam_choose(NULL, 3, GLAM_PER_SUM) == -1 && glam_choose(equal, 0, GLAM_PER_SUM) == -1);
}

// The loss of a text, window by window, is what glam_perplexity says.
static void evaluate_loglikelihood_is_perplexity(void)
{
    glam_ctx *ctx = test_ctx();
    glam_model *model = score_model(ctx, 1);
    int32_t ids[56];
    glam_span spans[5];
    glam_score scores[5];
    glam_perplexity_report r;
    double sum = 0;
    test_ids(ids, 56, 3, 37);
    for (int i = 0; i < 5; i++) {
        glam_span span = { ids + 11 * i, 12, 1 };
        spans[i] = span;
    }
    CHECK(glam_loglikelihood_tokens(model, spans, 5, 0, scores) == GLAM_OK);
    for (int i = 0; i < 5; i++) sum -= scores[i].loglik;
    CHECK(glam_perplexity(model, glam_text_from_tokens(ctx, ids, 56), 0, &r) == GLAM_OK);
    CHECK(r.tokens == 55);
    CHECK_NEAR(sum / 55, r.loss, 1e-6 * r.loss);
    CLOSE_CLEAN(ctx);
}

// Each allocation refused in turn: an error and no scores, or the scores; nothing leaks.  A second
// call of the same sizes allocates nothing.
static void evaluate_without_memory(void)
{
    static const glam_query queries[2] = { { "a context", " and more" }, { "", "none" } };
    static const int32_t prompt[3] = { 1, 2, 3 };
    glam_score good[2], scores[2];
    int32_t out[4];
    int done = 0;
    for (long fail = 0; fail < 400 && !done; fail++) {
        test_heap heap;
        glam_options options = test_options();
        test_heap_into(&heap, &options);
        glam_config c = train_config();
        glam_ctx *ctx = glam_open(&options);
        glam_model *model = glam_model_new(ctx, &c);
        heap.fail_at = fail ? heap.calls + fail : 0;
        long before = heap.calls;
        glam_status status = glam_loglikelihood(model, queries, 2, 0, scores);
        int made = glam_beam_search(model, prompt, 3, out, 4, NULL, NULL);
        if (!fail) {
            memcpy(good, scores, sizeof good);
            before = heap.calls;
            CHECK(glam_loglikelihood(model, queries, 2, 0, scores) == GLAM_OK);
            CHECK(heap.calls == before);
        } else if (heap.calls < heap.fail_at) {
            done = 1;                              // all of them were refused
            CHECK(fail > 3 && status == GLAM_OK && made == 4);
        } else {
            CHECK(glam_error(ctx) == GLAM_ERR_MEMORY && made == 0);
            CHECK(status == GLAM_OK ? scores[0].loglik == good[0].loglik : scores[0].tokens == 0);
        }
        glam_close(ctx);
        CHECK(heap.live == 0 && heap.wrong == 0);
    }
    CHECK(done);
}

static int score_cancel(void *user) { return *(int *)user; }

static void evaluate_loglikelihood_failures(void)
{
    int stop = 0;
    glam_options options = test_options();
    options.cancel = score_cancel;
    options.cancel_user = &stop;
    glam_ctx *ctx = glam_open(&options);
    glam_model *model = score_model(ctx, 0);
    int32_t ids[4] = { 1, 2, 3, 4 };
    glam_span good = { ids, 4, 2 }, bad = good;
    glam_score s;
    memset(&s, 0x55, sizeof s);
    CHECK(glam_loglikelihood_tokens(NULL, &good, 1, 0, &s) == GLAM_ERR_MEMORY && s.tokens == 0);
    CHECK(glam_loglikelihood_tokens(model, NULL, 1, 0, &s) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "NULL");
    CHECK(glam_loglikelihood_tokens(model, &good, 1, -1, &s) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "window -1");
    CHECK(glam_loglikelihood_tokens(model, &good, 0, 0, &s) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "0 spans");
    CHECK(glam_loglikelihood_tokens(model, &good, 1, 0, NULL) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "NULL");
    bad.from = 0;
    CHECK(glam_loglikelihood_tokens(model, &bad, 1, 0, &s) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "tokens 0 to 3");
    bad.from = 4;
    CHECK(glam_loglikelihood_tokens(model, &bad, 1, 0, &s) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "at least one");
    ids[3] = 37;
    CHECK(glam_loglikelihood_tokens(model, &good, 1, 0, &s) == GLAM_ERR_VALUE && s.tokens == 0);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "token 3 is 37");
    ids[3] = 4;
    stop = 1;
    memset(&s, 0x55, sizeof s);
    CHECK(glam_loglikelihood_tokens(model, &good, 1, 0, &s) == GLAM_OK);
    CHECK(s.tokens == 0 && s.loglik == 0 && s.greedy == 0);
    stop = 0;
    glam_ctx *plan = test_ctx();                   // counting bytes alone
    glam_config c = test_config();
    CHECK(glam_measure(plan, 1) == GLAM_OK);
    glam_model *counted = glam_model_new(plan, &c);
    CHECK(glam_loglikelihood_tokens(counted, &good, 1, 0, &s) == GLAM_OK && s.loglik == 0);
    CHECK(glam_beam_search(counted, ids, 4, ids, 1, NULL, NULL) == 0);
    CLOSE_CLEAN(plan);
    CHECK(glam_loglikelihood_tokens(model, &good, 1, 0, &s) == GLAM_OK && s.tokens == 2);
    glam_query query = { "a", NULL };
    CHECK(glam_loglikelihood(NULL, &query, 1, 0, &s) == GLAM_ERR_MEMORY);
    CHECK(glam_loglikelihood(model, &query, 1, 0, &s) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "query 0");
    CHECK(glam_loglikelihood(model, NULL, 1, 0, &s) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "NULL");
    query.continuation = "b";
    CHECK(glam_loglikelihood(model, &query, 1, 0, &s) == GLAM_ERR_VALUE);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "is 97");        // bytes and a vocabulary of 37
    glam_model_tensor(model, "layers.1.ffn.up")->data[3] = (float)NAN;
    memset(&s, 0x55, sizeof s);
    CHECK(glam_loglikelihood_tokens(model, &good, 1, 0, &s) == GLAM_ERR_NUMERIC && s.tokens == 0);
    ERROR_IS(ctx, GLAM_ERR_NUMERIC, "not finite");
    CLOSE_CLEAN(ctx);
}

static void test_20_evaluate(void)
{
    RUN(evaluate_spoilt);
    RUN(evaluate_value);
    RUN(evaluate_is_validation);
    RUN(evaluate_failures);
    RUN(evaluate_loglikelihood);
    RUN(evaluate_windows);
    RUN(evaluate_batch_has_single_bits);
    RUN(evaluate_queries);
    RUN(evaluate_queries_in_pieces);
    RUN(evaluate_choices);
    RUN(evaluate_loglikelihood_is_perplexity);
    RUN(evaluate_loglikelihood_failures);
    RUN(evaluate_without_memory);
}
