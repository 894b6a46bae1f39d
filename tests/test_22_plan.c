/* Room 22: what a model costs.  Kinds: golden (in test_14: the counts), value, property. */

// 2 * active matrix parameters + attention, per token: checked against a count of one's own for a
// dense model without mixture, where every product can be written down.
static void plan_flops(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = test_config();
    glam_plan plan;
    glam_recipe recipe = glam_recipe_default();
    c.moe.experts = 0;
    CHECK(glam_plan_for(ctx, &c, &recipe, &plan) == GLAM_OK);
    double M = 12, A = 15, H = 19, V = 37, matrices = 2 * (4 * M * A + 3 * M * H) + V * M;
    // attention: q.k and p.v of a causal row, between the half and the full square
    CHECK(plan.flops_forward > 2 * matrices);
    CHECK(plan.flops_forward <= 2 * matrices + 2 * 2 * (2 * 11 * A) + 1);
    recipe.recompute = 0;
    CHECK(glam_plan_for(ctx, &c, &recipe, &plan) == GLAM_OK);
    CHECK_NEAR(plan.flops_train, 3 * plan.flops_forward, 1e-3);
    recipe.recompute = 1;
    CHECK(glam_plan_for(ctx, &c, &recipe, &plan) == GLAM_OK);
    CHECK_NEAR(plan.flops_train, 4 * plan.flops_forward, 1e-3);
    CHECK(plan.trainable == plan.parameters && plan.active == plan.parameters);
    CLOSE_CLEAN(ctx);
}

// What the plan says is what a run holds.
static void plan_is_the_run(void)
{
    for (int kind = 0; kind < 8; kind++) {
        glam_ctx *ctx = test_ctx(), *run = test_ctx();
        glam_config c = train_config();
        glam_recipe recipe = train_recipe(3);
        glam_plan plan;
        recipe.optimizer = kind % 2 ? GLAM_ADAFACTOR : GLAM_ADAMW;
        recipe.recompute = kind / 2 % 2;
        recipe.update_in_backward = kind / 4;
        if (kind / 4) recipe.clip = 0;
        recipe.factor_min = 8;
        CHECK(glam_plan_for(ctx, &c, &recipe, &plan) == GLAM_OK);
        CHECK(glam_error(ctx) == GLAM_OK && glam_zeros(ctx, glam_dim1(3)) != NULL);
        glam_model *model = glam_model_new(run, &c);
        CHECK(plan.parameters == glam_model_count(model, NULL));
        CHECK(plan.weights >= 4 * plan.parameters && plan.weights < 4 * plan.parameters + 64 * 64);
        uint64_t life = glam_memory(run).life;
        glam_trainer *trainer = glam_trainer_new(model, test_text(run, 2000), NULL, &recipe);
        while (glam_train_step(trainer, NULL)) { }
        glam_bytes used = glam_memory(run);
        CHECK(plan.activations <= used.step + used.scratch);
        CHECK(plan.activations + 1024 >= used.step + used.scratch);
        CHECK(plan.gradients + plan.optimizer <= used.life - life + 4096);
        CHECK(plan.packed == used.packed);
        // the text (2000 bytes) and the batch (512) are not in the plan
        double off = (double)used.total - (double)plan.train_bytes;
        if (!CHECK(off >= 0 && off < 4096)) {
            printf("  plan %.0f, run %.0f\n", (double)plan.train_bytes, (double)used.total);
        }
        CLOSE_CLEAN(run);
        CLOSE_CLEAN(ctx);
    }
}

// A forward pass saves in the gradients of the blocks below: where a block has more weights than it
// saves, eight layers more want no more activations, but for their bookkeeping.
static void plan_saves_in_gradients(void)
{
    const double T = 16, A = 64, heads = 4, H = 256, kept = 4 * (T * (4 * A + heads) + 2 * T * H);
    for (int kind = 0; kind < 4; kind++) {
        glam_ctx *ctx = test_ctx();
        glam_config c = train_config();
        glam_recipe recipe = train_recipe(3);
        glam_plan plan[2];
        c.d_model = (int)A;
        c.heads = (int)heads;
        c.d_head = 0;
        c.hidden = (int)H;
        c.moe.experts = 0;
        c.context = recipe.context = (int)T;
        recipe.batch = 1;
        if (kind == 1) recipe.batch = recipe.accumulate = 4;       // sets of gradients change places
        if (kind == 2) recipe.optimizer = GLAM_ADAMW;
        if (kind == 3) {                                           // there are none to save in
            recipe.update_in_backward = 1;
            recipe.clip = 0;
        }
        for (int deep = 0; deep < 2; deep++) {
            c.layers = deep ? 10 : 2;
            CHECK(glam_plan_for(ctx, &c, &recipe, &plan[deep]) == GLAM_OK);
        }
        double more = (double)plan[1].activations - (double)plan[0].activations;
        CHECK(kind == 3 ? more > 8 * kept : more < 0.15 * 8 * kept);
        CLOSE_CLEAN(ctx);
    }
}

static void plan_of_giants(void)
{
    glam_ctx *ctx = test_ctx();
    for (int i = 0; glam_config_preset_name(i); i++) {
        glam_config c;
        glam_plan plan;
        CHECK(glam_config_preset(glam_config_preset_name(i), &c) == GLAM_OK);
        CHECK(glam_plan_for(ctx, &c, NULL, &plan) == GLAM_OK);
        CHECK(plan.weights >= 4 * plan.parameters && plan.train_bytes > 2 * plan.weights);
        CHECK(plan.run_bytes >= plan.weights && plan.run_bytes < plan.train_bytes);
        CHECK(plan.flops_forward >= 1.9 * (double)plan.active);
        CHECK(plan.flops_forward < 2.6 * (double)plan.active);
    }
    CLOSE_CLEAN(ctx);
}

// Whatever is asked for, a plan takes neither the memory nor the time of it.
static void plan_of_absurd_recipes(void)
{
    static const struct { int batch, accumulate, context; } rows[] = {
        { 33000, 1, 1000 }, { 1 << 30, 1 << 30, 16 }, { 1 << 20, 1 << 4, 500 }, { 8, 2, 4000000 } };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        test_heap heap;
        glam_options options = test_options();
        test_heap_into(&heap, &options);
        glam_ctx *ctx = glam_open(&options);
        glam_config c = train_config();
        glam_recipe recipe = train_recipe(3);
        glam_plan plan;
        recipe.batch = rows[i].batch;
        recipe.accumulate = rows[i].accumulate;
        recipe.context = rows[i].context;
        CHECK(glam_plan_for(ctx, &c, &recipe, &plan) == GLAM_OK);
        CHECK(plan.activations > 0 && plan.gradients > 0);
        if (!CHECK(heap.peak < (size_t)600 << 10)) printf("  row %d: %.0f bytes\n", (int)i, (double)heap.peak);
        CLOSE_CLEAN(ctx);
        CHECK(heap.live == 0 && heap.wrong == 0);
    }
}

static void plan_failures(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = test_config();
    glam_plan plan;
    memset(&plan, 0x55, sizeof plan);
    c.moe.top_k = 9;
    CHECK(glam_plan_for(ctx, &c, NULL, &plan) == GLAM_ERR_VALUE);
    CHECK(plan.parameters == 0 && plan.train_bytes == 0);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "top_k");
    CLOSE_CLEAN(ctx);
}

static void test_22_plan(void)
{
    RUN(plan_flops);
    RUN(plan_is_the_run);
    RUN(plan_saves_in_gradients);
    RUN(plan_of_giants);
    RUN(plan_of_absurd_recipes);
    RUN(plan_failures);
}
