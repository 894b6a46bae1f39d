/* Room 07: the front door.  Kinds: failure (sticky errors, NULL everywhere, every allocation refused
   once), steady (no allocation from the second equal step on), property (measure mode, marks). */

static void context_defaults(void)
{
    glam_options o = glam_options_default();
    CHECK(o.allocator.alloc && o.allocator.release && o.threads == 0 && o.parallel_for == NULL);
    CHECK(o.simd == NULL && o.pack_bytes == (size_t)64 << 20 && o.seed == 1);
    CHECK(o.log == NULL && o.cancel == NULL && o.comm == NULL);
    glam_ctx *ctx = glam_open(NULL);
    CHECK(ctx != NULL && glam_error(ctx) == GLAM_OK);
    CHECK(!strcmp(glam_error_text(ctx), ""));
    CHECK(glam_memory(ctx).peak > 0 && glam_memory(ctx).allocations > 0);
    CHECK(glam_threads(ctx) == glam__default_threads() && glam_threads(ctx) >= 1);
    CLOSE_CLEAN(ctx);
    o.threads = 3;
    ctx = glam_open(&o);
    CHECK(glam_threads(ctx) == 3);
    CLOSE_CLEAN(ctx);
    glam_close(NULL);
}

// The first failure is kept, with its sentence; everything after it does nothing.
static void context_errors_stick(void)
{
    glam_ctx *ctx = test_ctx();
    glam_tensor *a = glam_zeros(ctx, glam_dim2(64, 512)), *b = glam_zeros(ctx, glam_dim2(256, 512));
    CHECK(a && b && glam_matmul(ctx, a, b) == NULL);
    CHECK(glam_error(ctx) == GLAM_ERR_SHAPE);
    CHECK(strstr(glam_error_text(ctx), "[64,512]") && strstr(glam_error_text(ctx), "[256,512]"));
    char first[600];
    snprintf(first, sizeof first, "%s", glam_error_text(ctx));
    uint64_t calls = glam_memory(ctx).allocations;
    CHECK(glam_param(ctx, "p", glam_dim1(100000)) == NULL);
    CHECK(glam_zeros(ctx, glam_dim1(3)) == NULL && glam_add(ctx, a, a) == NULL);
    CHECK(glam_model_new(ctx, NULL) == NULL && glam_text_from(ctx, "abc", 3, NULL) == NULL);
    CHECK(glam_config_preset("nonsense", NULL) != GLAM_OK);
    CHECK(glam_backward(ctx, NULL) == GLAM_ERR_SHAPE);       // the status that is latched
    CHECK(glam_fail(ctx, GLAM_ERR_FILE, "another %d", 7) != GLAM_OK);
    CHECK(glam_error(ctx) == GLAM_ERR_SHAPE && !strcmp(first, glam_error_text(ctx)));
    CHECK(glam_memory(ctx).allocations == calls);
    glam_clear_error(ctx);
    CHECK(glam_error(ctx) == GLAM_OK && !strcmp(glam_error_text(ctx), ""));
    CHECK(glam_add(ctx, a, a) != NULL);
    CHECK(glam_fail(ctx, GLAM_ERR_FILE, "another %d", 7) == GLAM_ERR_FILE);
    CHECK(!strcmp(glam_error_text(ctx), "another 7"));
    glam_clear_error(ctx);
    CLOSE_CLEAN(ctx);
}

// A long chain after a failure: NULL passes through, one check at the end is enough.
static void context_chains_pass_null(void)
{
    glam_ctx *ctx = test_ctx();
    glam_tensor *x = glam_add(ctx, glam_zeros(ctx, glam_dim2(2, 3)), glam_zeros(ctx, glam_dim2(3, 3)));
    CHECK(x == NULL);
    for (int i = 0; i < 20; i++) x = glam_gelu(ctx, glam_add(ctx, x, x));
    x = glam_mean(ctx, glam_matmul(ctx, x, x));
    CHECK(x == NULL && glam_backward(ctx, x) == GLAM_ERR_SHAPE);
    ERROR_IS(ctx, GLAM_ERR_SHAPE, "add");
    CLOSE_CLEAN(ctx);
}

static void context_bad_option(const char *part, const glam_options *options)
{
    glam_ctx *ctx = glam_open(options);
    if (!CHECK(ctx != NULL)) return;
    CHECK(glam_zeros(ctx, glam_dim1(1)) == NULL);
    ERROR_IS(ctx, GLAM_ERR_VALUE, part);
    glam_close(ctx);
}

static void context_bad_options(void)
{
    glam_comm comm;
    glam_options o = glam_options_default();
    memset(&comm, 0, sizeof comm);
    comm.size = 3;
    o.threads = -1;
    context_bad_option("threads", &o);
    o = glam_options_default();
    o.simd = "mmx";
    context_bad_option("mmx", &o);
    o = glam_options_default();
    o.comm = &comm;
    context_bad_option("mesh_x", &o);
    memset(&o, 0, sizeof o);
    context_bad_option("glam_options_default", &o);
    comm.size = 1;
    o = glam_options_default();
    o.comm = &comm;
    glam_ctx *ctx = glam_open(&o);
    CLOSE_CLEAN(ctx);
}

// --- NULL everywhere -----------------------------------------------------------------------------

static void context_null_values(void)
{
    glam_shape one = glam_dim1(1);
    glam_config config = glam_config_default();
    glam_plan plan;
    glam_batch batch;
    glam_text *a = (glam_text *)&batch, *b = a;
    glam_perplexity_report perplexity;
    glam_moe_config moe = glam_moe_config_default();
    glam_moe_weights moe_weights;
    glam_ffn_weights ffn_weights;
    glam_attention_weights attention_weights;
    glam_attention_config attention_config;
    glam_tensor *second = (glam_tensor *)&batch;
    memset(&moe_weights, 0, sizeof moe_weights);
    memset(&ffn_weights, 0, sizeof ffn_weights);
    memset(&attention_weights, 0, sizeof attention_weights);
    memset(&attention_config, 0, sizeof attention_config);
    CHECK(glam_error(NULL) == GLAM_ERR_MEMORY && glam_error_text(NULL)[0] != 0);
    CHECK(glam_fail(NULL, GLAM_ERR_VALUE, "x") == GLAM_ERR_VALUE);
    CHECK(glam_simd_name(NULL) != NULL);
    glam_clear_error(NULL);
    CHECK(glam_memory(NULL).total == 0);
    CHECK(glam_measure(NULL, 1) != GLAM_OK);
    glam_forget(NULL);
    CHECK(glam_mark(NULL) == 0);
    glam_rewind(NULL, 0);
    CHECK(glam_size(NULL) == 0);
    CHECK(!glam_param(NULL, "p", one) && !glam_input(NULL, NULL, one) && !glam_zeros(NULL, one));
    CHECK(!glam_view(NULL, NULL, one));
    glam_fill(NULL, 1);
    glam_fill_normal(NULL, 1, 1);
    CHECK(!glam_apply(NULL, NULL, NULL, NULL, 0, NULL) && !glam_scratch(NULL, 1));
    CHECK(glam_backward(NULL, NULL) != GLAM_OK);
    glam_no_grad(NULL, 0);
    CHECK(!glam_recompute(NULL, NULL, NULL, NULL, &second) && second == NULL);
    CHECK(glam_check_grad(NULL, NULL, NULL, NULL, 0, 1e-3) < 0);
    CHECK(!glam_attention(NULL, NULL, NULL, NULL, NULL) && !glam_ffn(NULL, NULL, NULL, GLAM_RELU, 0));
    CHECK(!glam_attention(NULL, NULL, &attention_weights, &attention_config, NULL));
    CHECK(!glam_ffn(NULL, NULL, &ffn_weights, GLAM_GELU_TANH, 0));
    second = (glam_tensor *)&batch;
    CHECK(!glam_moe(NULL, NULL, NULL, NULL, NULL, &second) && second == NULL);
    CHECK(!glam_moe(NULL, NULL, &moe_weights, &moe, NULL, NULL));
    CHECK(!glam_moe_masked(NULL, NULL, NULL, NULL, NULL, NULL, NULL));
    CHECK(!glam_moe_init(NULL, "m", 3, NULL).router);
    CHECK(glam_threads(NULL) == 0);
    CHECK(!glam_model_new(NULL, NULL) && !glam_model_config(NULL) && !glam_model_ctx(NULL));
    CHECK(glam_model_count(NULL, NULL) == 0);
    CHECK(!glam_forward(NULL, NULL, GLAM_INFER) && !glam_loss(NULL, NULL, GLAM_TRAIN, NULL));
    CHECK(!glam_model_routing(NULL, 0) && !glam_model_tensor(NULL, "embed"));
    CHECK(!glam_model_tensor_at(NULL, 0) && !glam_model_borrow(NULL, NULL));
    CHECK(glam_freeze(NULL, "*", 1) <= 0);
    CHECK(!glam_tokenizer_bytes(NULL) && glam_tokenizer_size(NULL) == 256);
    CHECK(glam_encode(NULL, NULL, 0, NULL, 0) == 0 && glam_decode(NULL, NULL, 0, NULL, 0) == 0);
    CHECK(!glam_session_new(NULL, 4) && glam_session_length(NULL) == 0);
    glam_session_reset(NULL);
    CHECK(!glam_next(NULL, NULL, 0) && glam_pick(NULL, NULL, 0, NULL, NULL, 0, 0) <= 0);
    CHECK(glam_generate(NULL, NULL, 0, NULL, 0, NULL) == 0);
    CHECK(glam_complete(NULL, NULL, NULL, 0, NULL) == 0);
    CHECK(!glam_text_open(NULL, NULL, NULL) && !glam_text_from(NULL, NULL, 0, NULL));
    CHECK(!glam_text_from_tokens(NULL, NULL, 0) && glam_text_length(NULL) == 0);
    CHECK(glam_text_split(NULL, 0.1f, &a, &b) != GLAM_OK);
    CHECK(a == NULL && b == NULL);                  // written on every return
    CHECK(!glam_mix(NULL, NULL, NULL, 0));
    memset(&batch, 0x55, sizeof batch);
    CHECK(glam_next_batch(NULL, 1, 1, 1, 1, &batch) != GLAM_OK && batch.tokens == NULL);
    CHECK(glam_recipe_lr(NULL, 0) == 0 || glam_recipe_lr(NULL, 0) > 0);
    CHECK(!glam_optimizer_new(NULL, NULL, 0, NULL) && glam_update(NULL, NULL, NULL) != GLAM_OK);
    CHECK(!glam_trainer_new(NULL, NULL, NULL, NULL) && glam_train_step(NULL, NULL) == 0);
    CHECK(glam_validate(NULL) < 0 && !glam_trainer_model(NULL) && !glam_trainer_recipe(NULL));
    CHECK(glam_trainer_done(NULL) == 0 && glam_trainer_steps(NULL, 1) != GLAM_OK);
    CHECK(glam_trainer_summary(NULL) != NULL);
    memset(&perplexity, 0x55, sizeof perplexity);
    CHECK(glam_perplexity(NULL, NULL, 0, &perplexity) != GLAM_OK && perplexity.tokens == 0);
    CHECK(glam_loglikelihood(NULL, NULL, 0, 0, NULL) != GLAM_OK);
    CHECK(glam_loglikelihood_tokens(NULL, NULL, 0, 0, NULL) != GLAM_OK);
    CHECK(glam_choose(NULL, 0, GLAM_PER_SUM) < 0);
    CHECK(glam_beam_search(NULL, NULL, 0, NULL, 0, NULL, NULL) == 0);
    CHECK(glam_save(NULL, NULL) != GLAM_OK && !glam_load(NULL, NULL));
    CHECK(glam_save_memory(NULL, NULL, 0) == 0 && !glam_load_memory(NULL, NULL, 0));
    CHECK(glam_save_tensors(NULL, NULL, NULL, 0) != GLAM_OK);
    CHECK(glam_load_tensors(NULL, NULL, NULL, 0) != GLAM_OK);
    CHECK(glam_save_checkpoint(NULL, NULL) != GLAM_OK && !glam_load_checkpoint(NULL, NULL, NULL, NULL));
    CHECK(glam_load_config(NULL, NULL, &config) != GLAM_OK);
    memset(&plan, 0x55, sizeof plan);
    CHECK(glam_plan_for(NULL, &config, NULL, &plan) != GLAM_OK && plan.parameters == 0);
    CHECK(glam_model_borrow(NULL, NULL) == NULL);
}

// The same with a good context and the other arguments NULL: an error, never a crash.
#define MUST_FAIL(call) do { \
        call; \
        if (!CHECK(glam_error(ctx) != GLAM_OK)) printf("  no error: %s\n", #call); \
        if (glam_error(ctx) != GLAM_OK) CHECK(glam_error_text(ctx)[0] != 0); \
        glam_clear_error(ctx); \
    } while (0)

static void context_null_arguments(void)
{
    glam_ctx *ctx = test_ctx();
    glam_shape one = glam_dim1(1);
    glam_config c = test_config();
    glam_model *model = glam_model_new(ctx, &c);
    glam_text *text = test_text(ctx, 500), *train, *valid;
    glam_session *session = glam_session_new(model, 4);
    glam_batch batch;
    glam_plan plan;
    glam_sampling s = glam_sampling_default();
    float logits[3] = { 0, 1, 2 };
    int32_t id = 1;
    MUST_FAIL(glam_input(ctx, NULL, one));
    MUST_FAIL(glam_apply(ctx, NULL, NULL, NULL, 0, NULL));
    MUST_FAIL(glam_backward(ctx, NULL));
    MUST_FAIL(glam_recompute(ctx, NULL, NULL, glam_zeros(ctx, one), NULL));
    MUST_FAIL(glam_check_grad(ctx, NULL, NULL, NULL, 1, 1e-3));
    MUST_FAIL(glam_add(ctx, glam_zeros(ctx, one), NULL));
    MUST_FAIL(glam_rmsnorm(ctx, glam_zeros(ctx, one), NULL, 1e-6f));
    MUST_FAIL(glam_embed(ctx, glam_zeros(ctx, glam_dim2(2, 2)), NULL, 1, NULL));
    MUST_FAIL(glam_cross_entropy(ctx, glam_zeros(ctx, glam_dim2(1, 2)), NULL, NULL));
    MUST_FAIL(glam_attention(ctx, glam_zeros(ctx, glam_dim3(1, 1, 2)), NULL, NULL, NULL));
    MUST_FAIL(glam_ffn(ctx, glam_zeros(ctx, one), NULL, GLAM_GELU_TANH, 1e-6f));
    MUST_FAIL(glam_moe(ctx, glam_zeros(ctx, glam_dim2(1, 2)), NULL, NULL, NULL, NULL));
    MUST_FAIL(glam_moe_init(ctx, NULL, 3, NULL));
    MUST_FAIL(glam_forward(model, NULL, GLAM_INFER));
    MUST_FAIL(glam_loss(model, NULL, GLAM_TRAIN, NULL));
    MUST_FAIL(glam_freeze(model, NULL, 1));
    MUST_FAIL(glam_model_borrow(ctx, NULL));
    MUST_FAIL(glam_session_new(NULL, 4); glam_next(session, NULL, 2));
    MUST_FAIL(glam_pick(ctx, NULL, 3, &s, NULL, 0, 0));
    MUST_FAIL(glam_pick(ctx, logits, 0, &s, NULL, 0, 0));
    MUST_FAIL(glam_generate(session, NULL, 3, &id, 1, &s));
    MUST_FAIL(glam_generate(session, &id, 1, NULL, 1, &s));
    MUST_FAIL(glam_text_open(ctx, NULL, NULL));
    MUST_FAIL(glam_text_from(ctx, NULL, 3, NULL));
    MUST_FAIL(glam_text_from_tokens(ctx, NULL, 3));
    MUST_FAIL(glam_text_split(text, 2.0f, &train, &valid));
    MUST_FAIL(glam_mix(ctx, NULL, NULL, 2));
    MUST_FAIL(glam_next_batch(text, 0, 4, 1, 1, &batch));
    MUST_FAIL(glam_optimizer_new(ctx, NULL, 1, NULL));
    MUST_FAIL(glam_trainer_new(model, NULL, NULL, NULL));
    MUST_FAIL(glam_perplexity(model, NULL, 0, NULL));
    MUST_FAIL(glam_loglikelihood(model, NULL, 1, 0, NULL));
    MUST_FAIL(glam_loglikelihood_tokens(model, NULL, 1, 0, NULL));
    MUST_FAIL(glam_beam_search(model, NULL, 1, NULL, 1, NULL, NULL));
    MUST_FAIL(glam_save(model, NULL));
    MUST_FAIL(glam_load(ctx, NULL));
    MUST_FAIL(glam_load_memory(ctx, NULL, 10));
    MUST_FAIL(glam_save_tensors(ctx, "x", NULL, 1));
    MUST_FAIL(glam_load_tensors(ctx, NULL, NULL, 1));
    MUST_FAIL(glam_load_checkpoint(ctx, NULL, text, NULL));
    MUST_FAIL(glam_load_config(ctx, NULL, &c));
    MUST_FAIL(glam_plan_for(ctx, NULL, NULL, NULL));
    CHECK(glam_plan_for(ctx, NULL, NULL, &plan) == GLAM_OK && plan.parameters > 0);   // the defaults
    CHECK(glam_pick(ctx, logits, 3, NULL, NULL, 0, 0) >= 0);
    CLOSE_CLEAN(ctx);
}

static void context_statuses_have_names(void)
{
    static const char *const names[9] = {
        "GLAM_OK", "GLAM_ERR_MEMORY", "GLAM_ERR_VALUE", "GLAM_ERR_SHAPE", "GLAM_ERR_STATE",
        "GLAM_ERR_FILE", "GLAM_ERR_FORMAT", "GLAM_ERR_COMM", "GLAM_ERR_NUMERIC" };
    for (int i = 0; i < 9; i++) CHECK(!strcmp(glam_status_name((glam_status)-i), names[i]));
    CHECK(glam_status_name((glam_status)5) != NULL && glam_status_name((glam_status)-99) != NULL);
}

// --- memory --------------------------------------------------------------------------------------

static void context_steady_training(void)
{
    for (int kind = 0; kind < 9; kind++) {             // the last three: other families
        glam_options options = test_options();
        test_heap heap;
        test_heap_into(&heap, &options);
        glam_ctx *ctx = glam_open(&options);
        glam_config c = train_config();
        glam_recipe recipe = train_recipe(8);
        if (kind > 5) test_family(&c, kind - 6);
        recipe.update_in_backward = kind > 3;
        if (kind > 3) recipe.clip = 0;
        recipe.accumulate = kind == 1 ? 2 : 1;
        recipe.recompute = kind == 2 || kind == 5;
        recipe.optimizer = kind >= 3 ? GLAM_ADAFACTOR : GLAM_ADAMW;
        c.moe.capacity_factor = kind == 3 ? 2.0f : 0;
        glam_trainer *trainer = glam_trainer_new(glam_model_new(ctx, &c), test_text(ctx, 2000), NULL,
                                                 &recipe);
        CHECK(glam_train_step(trainer, NULL) == 1);
        long calls = heap.calls;
        uint64_t bytes = glam_memory(ctx).total;
        while (glam_train_step(trainer, NULL)) { }
        CHECK(glam_trainer_done(trainer) == 8);
        CHECK(heap.calls == calls);
        CHECK(glam_memory(ctx).total == bytes);
        CHECK(glam_memory(ctx).allocations <= (uint64_t)heap.calls);     // measuring has a context of its own
        CHECK(glam_memory(ctx).peak <= heap.peak && glam_memory(ctx).total <= heap.bytes);   // heap: of both
        CLOSE_CLEAN(ctx);
        CHECK(heap.live == 0 && heap.bytes == 0 && heap.wrong == 0);
    }
}

// A net of one's own, with glam_forget by hand.
static void context_steady_by_hand(void)
{
    glam_options options = test_options();
    test_heap heap;
    test_heap_into(&heap, &options);
    glam_ctx *ctx = glam_open(&options);
    glam_tensor *w = glam_param(ctx, "w", glam_dim2(70, 90));
    long calls = 0;
    float *x = test_floats(500 * 70, 3, -1, 1);
    for (int step = 0; step < 6; step++) {
        glam_tensor *y = glam_tanh(ctx, glam_matmul(ctx, glam_input(ctx, x, glam_dim2(500, 70)), w));
        CHECK(glam_backward(ctx, glam_sum(ctx, glam_mul(ctx, y, y))) == GLAM_OK);
        glam_forget(ctx);
        if (step == 1) calls = heap.calls;
    }
    CHECK(heap.calls == calls);
    free(x);
    CLOSE_CLEAN(ctx);
    CHECK(heap.live == 0 && heap.wrong == 0);
}

static glam_bytes context_step_bytes(int measure, int kind)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = train_config();
    glam_recipe recipe = train_recipe(4);
    int32_t tokens[4 * 16], mask[4 * 16];
    glam_tensor *params[64];
    int n = 0;
    test_ids(tokens, 64, 3, 256);
    for (int i = 0; i < 64; i++) mask[i] = i % 16 < 14;
    if (measure) CHECK(glam_measure(ctx, 1) == GLAM_OK);
    c.position = (glam_position)(kind % 3);
    c.moe.capacity_factor = kind % 2 ? 2.0f : 0;
    recipe.optimizer = kind % 2 ? GLAM_ADAFACTOR : GLAM_ADAMW;
    glam_model *model = glam_model_new(ctx, &c);
    while (n < 64 && glam_model_tensor_at(model, n)) {
        params[n] = glam_model_tensor_at(model, n);
        CHECK((params[n]->data == NULL) == measure);
        n++;
    }
    glam_optimizer *opt = glam_optimizer_new(ctx, params, n, &recipe);
    glam_batch batch = { 4, 16, tokens, tokens, kind > 2 ? mask : NULL, NULL };
    for (int step = 0; step < 2; step++) {
        glam_tensor *loss = glam_loss(model, &batch, GLAM_TRAIN, NULL);
        CHECK(loss && (loss->data == NULL) == measure);
        CHECK(glam_update(opt, loss, NULL) == GLAM_OK);
    }
    glam_bytes bytes = glam_memory(ctx);
    CLOSE_CLEAN(ctx);
    return bytes;
}

// What measuring says is what a run takes, byte for byte.
static void context_measured_is_used(void)
{
    for (int kind = 0; kind < 6; kind++) {
        glam_bytes said = context_step_bytes(1, kind), used = context_step_bytes(0, kind);
        CHECK(said.life == used.life);
        CHECK(said.step == used.step);
        CHECK(said.scratch == used.scratch);
        CHECK(said.packed == used.packed);
        CHECK(said.total == used.total);
        CHECK(used.step > 0 && used.life > 0);
        if (test__now.bad) {
            printf("  kind %d: life %.0f/%.0f step %.0f/%.0f scratch %.0f/%.0f packed %.0f/%.0f "
                   "total %.0f/%.0f\n", kind, (double)said.life, (double)used.life, (double)said.step,
                   (double)used.step, (double)said.scratch, (double)used.scratch,
                   (double)said.packed, (double)used.packed, (double)said.total, (double)used.total);
        }
    }
}

static void context_measure_needs_fresh(void)
{
    glam_ctx *ctx = test_ctx();
    glam_param(ctx, "p", glam_dim1(4));
    CHECK(glam_measure(ctx, 1) == GLAM_ERR_STATE);
    ERROR_IS(ctx, GLAM_ERR_STATE, "measure");
    CLOSE_CLEAN(ctx);
}

// Measuring 64B/64E: 4.6 TB of weights that nobody has to own.
static void context_measures_the_largest(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c;
    CHECK(glam_config_preset("64B/64E", &c) == GLAM_OK);
    CHECK(glam_measure(ctx, 1) == GLAM_OK);
    glam_model *model = glam_model_new(ctx, &c);
    CHECK(model != NULL && glam_model_count(model, NULL) == 1161756418048u);
    CHECK(glam_memory(ctx).life >= 4u * (uint64_t)1161756418048u);
    CLOSE_CLEAN(ctx);
}

static void context_marks(void)
{
    glam_options options = test_options();
    test_heap heap;
    test_heap_into(&heap, &options);
    glam_ctx *ctx = glam_open(&options);
    glam_config c = train_config();
    glam_model *model = glam_model_new(ctx, &c);
    uint64_t hash = test_model_hash(model);
    size_t mark = glam_mark(ctx), bytes = 0;
    for (int i = 0; i < 5; i++) {
        glam_recipe recipe = train_recipe(2);
        char out[30];
        glam_model *second = glam_model_new(ctx, &c);
        glam_trainer *trainer = glam_trainer_new(second, test_text(ctx, 2000), NULL, &recipe);
        while (glam_train_step(trainer, NULL)) { }
        CHECK(glam_complete(second, "one two", out, 30, NULL) > 0);
        glam_rewind(ctx, mark);
        CHECK(glam_mark(ctx) == mark);
        if (i == 1) bytes = heap.bytes;
        if (i > 1) CHECK(heap.bytes == bytes);
    }
    CHECK(glam_error(ctx) == GLAM_OK && hash == test_model_hash(model));
    char out[30];
    CHECK(glam_complete(model, "one two", out, 30, NULL) > 0);
    CLOSE_CLEAN(ctx);
    CHECK(heap.live == 0 && heap.wrong == 0);
}

static void context_undone(glam_ctx *ctx, void *arg) { (void)ctx; ++*(int *)arg; }

// What was made right at the mark is undone with it, what was made before is not; and every call of the
// allocator is counted, the context's own too.
static void context_marks_exactly(void)
{
    glam_options options = test_options();
    test_heap heap;
    int before = 0, at = 0;
    test_heap_into(&heap, &options);
    glam_ctx *ctx = glam_open(&options);
    CHECK(glam_memory(ctx).allocations == (uint64_t)heap.calls);
    glam__on_rewind(ctx, context_undone, &before);
    size_t mark = glam_mark(ctx);
    glam__on_rewind(ctx, context_undone, &at);
    glam_param(ctx, "p", glam_dim2(200, 200));
    CHECK(glam_memory(ctx).allocations == (uint64_t)heap.calls && heap.calls > 1);
    glam_rewind(ctx, mark);
    CHECK(at == 1 && before == 0);
    CLOSE_CLEAN(ctx);
    CHECK(at == 1 && before == 1);
}

// --- every allocation refused --------------------------------------------------------------------

// Init, forward, backward, step, save, load, generate, evaluate: everything that allocates.
static void context_whole_life(glam_ctx *ctx)
{
    glam_config c = train_config();
    glam_recipe recipe = train_recipe(2);
    glam_text *train = NULL, *valid = NULL;
    char out[12];
    recipe.recompute = 1;
    recipe.accumulate = 2;
    glam_model *model = glam_model_new(ctx, &c);
    glam_text_split(test_text(ctx, 600), 0.2f, &train, &valid);
    glam_trainer *trainer = glam_trainer_new(model, train, valid, &recipe);
    while (glam_train_step(trainer, NULL)) { }
    glam_validate(trainer);
    size_t size = glam_save_memory(model, NULL, 0);
    char *file = (char *)malloc(size + 1);
    size_t wrote = glam_save_memory(model, file, size);
    glam_model *again = glam_load_memory(ctx, file, wrote);
    free(file);
    glam_complete(again, "one", out, 12, NULL);
    glam_session *session = glam_session_new(again, 8);
    int32_t token = 7;
    glam_next(session, &token, 1);
    glam_text *both[2];
    both[0] = train;
    both[1] = valid;
    glam_mix(ctx, both, NULL, 2);
    float one = 1;
    glam_tensor *x = glam_input(ctx, &one, glam_dim1(1));
    glam_backward(ctx, glam_sum(ctx, glam_mul(ctx, glam_param(ctx, "p", glam_dim1(1)), x)));
    glam_forget(ctx);
}

static void context_refused(int from_on)
{
    long k = 1;
    for (; k < 3000; k++) {
        glam_options options = test_options();
        test_heap heap;
        test_heap_into(&heap, &options);
        heap.fail_at = k;
        heap.from_on = from_on;
        glam_ctx *ctx = glam_open(&options);
        if (ctx) context_whole_life(ctx);
        glam_status status = ctx ? glam_error(ctx) : GLAM_ERR_MEMORY;
        int refused = heap.calls >= k;
        if (refused && status != GLAM_ERR_MEMORY) {
            printf("  allocation %ld refused, but %s: %s\n", k, glam_status_name(status),
                   glam_error_text(ctx));
        }
        CHECK(status == (refused ? GLAM_ERR_MEMORY : GLAM_OK));
        CHECK(!ctx || status == GLAM_OK || glam_error_text(ctx)[0]);
        glam_close(ctx);
        if (!CHECK(heap.live == 0 && heap.wrong == 0)) printf("  allocation %ld refused: leak\n", k);
        if (!refused) break;
        if (test__now.bad > 10) break;
    }
    CHECK(k > 5 && k < 3000);
}

static void context_refused_once(void) { context_refused(0); }
static void context_refused_from_on(void) { context_refused(1); }

// After a refusal in the middle of a run the weights are those of the last good step, and going on
// gives the bits of a run that never met one.
static void context_refused_then_retried(void)
{
    uint64_t want = 0;
    for (long k = 0; k < 400; k++) {
        glam_options options = test_options();
        test_heap heap;
        test_heap_into(&heap, &options);
        glam_ctx *ctx = glam_open(&options);
        glam_config c = train_config();
        glam_recipe recipe = train_recipe(3);
        glam_model *model = glam_model_new(ctx, &c);
        glam_trainer *trainer = glam_trainer_new(model, test_text(ctx, 600), NULL, &recipe);
        heap.fail_at = k ? heap.calls + k : 0;
        int tries = 0;
        while (glam_trainer_done(trainer) < 3 && tries++ < 10) {
            uint64_t hash = test_model_hash(model);
            int done = glam_trainer_done(trainer);
            glam_train_step(trainer, NULL);
            if (glam_error(ctx) == GLAM_OK) continue;
            CHECK(glam_error(ctx) == GLAM_ERR_MEMORY);
            CHECK(glam_trainer_done(trainer) > done || hash == test_model_hash(model));
            glam_clear_error(ctx);
        }
        if (k == 0) want = test_model_hash(model);
        if (!CHECK(want == test_model_hash(model))) printf("  allocation %ld of training\n", k);
        int refused = k == 0 || heap.calls >= heap.fail_at;
        CLOSE_CLEAN(ctx);
        if (!refused || test__now.bad > 5) break;
    }
}

// --- other options -------------------------------------------------------------------------------

static void context_log(void *user, const char *line)
{
    int *lines = (int *)user;
    CHECK(line != NULL && strchr(line, '\n') == NULL);
    ++*lines;
}

// Top-1 with normalised weights starves the router: obeyed, but not in silence.
static void context_logs_warnings(void)
{
    glam_options options = test_options();
    int lines = 0;
    options.log = context_log;
    options.log_user = &lines;
    glam_ctx *ctx = glam_open(&options);
    glam_config c = train_config();
    c.moe.top_k = 1;
    c.moe.normalise = GLAM_NORMALISE_BEFORE_DROP;
    lines = 0;
    CHECK(glam_model_new(ctx, &c) != NULL && lines > 0);
    CLOSE_CLEAN(ctx);
}

// No budget for packed weights: the same bits, and no bytes for them.
static void context_pack_budget(void)
{
    uint64_t hash[3] = { 0, 0, 0 };
    for (int i = 0; i < 3; i++) {
        glam_options options = test_options();
        options.pack_bytes = i == 0 ? (size_t)64 << 20 : i == 1 ? 0 : 4000;
        glam_ctx *ctx = glam_open(&options);
        glam_config c = train_config();
        glam_recipe recipe = train_recipe(3);
        glam_model *model = glam_model_new(ctx, &c);
        glam_trainer *trainer = glam_trainer_new(model, test_text(ctx, 2000), NULL, &recipe);
        while (glam_train_step(trainer, NULL)) CHECK(glam_memory(ctx).packed <= options.pack_bytes);
        if (i == 1) CHECK(glam_memory(ctx).packed == 0);
        hash[i] = test_model_hash(model);
        CLOSE_CLEAN(ctx);
    }
    CHECK(hash[0] == hash[1] && hash[0] == hash[2]);
}

static void test_07_context(void)
{
    RUN(context_defaults);
    RUN(context_errors_stick);
    RUN(context_chains_pass_null);
    RUN(context_bad_options);
    RUN(context_null_values);
    RUN(context_null_arguments);
    RUN(context_statuses_have_names);
    RUN(context_steady_training);
    RUN(context_steady_by_hand);
    RUN(context_measured_is_used);
    RUN(context_measure_needs_fresh);
    RUN(context_measures_the_largest);
    RUN(context_marks);
    RUN(context_marks_exactly);
    RUN(context_refused_once);
    RUN(context_refused_from_on);
    RUN(context_refused_then_retried);
    RUN(context_logs_warnings);
    RUN(context_pack_budget);
}
