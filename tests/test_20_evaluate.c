/* Room 20: evaluation.  Kinds: value, property, failure. */

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

static void test_20_evaluate(void)
{
    RUN(evaluate_spoilt);
    RUN(evaluate_value);
    RUN(evaluate_is_validation);
    RUN(evaluate_failures);
}
