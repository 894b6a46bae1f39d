/* Room 01: status codes, allocator, arena.  Kinds: failure, property. */

static void base_alignment(void)
{
    glam_ctx *ctx = test_ctx();
    for (int i = 1; i < 200; i += 7) {
        glam_tensor *a = glam_param(ctx, "p", glam_dim1(i)), *b = glam_zeros(ctx, glam_dim1(i));
        if (!CHECK(a && b)) break;
        CHECK((uintptr_t)a->data % 64 == 0 && (uintptr_t)b->data % 64 == 0);
    }
    CLOSE_CLEAN(ctx);
}

// Tensors keep out of each other's way, over many chunks.
static void base_arena_blocks_are_apart(void)
{
    glam_ctx *ctx = test_ctx();
    glam_tensor *t[120];
    for (int i = 0; i < 120; i++) {
        t[i] = i % 2 ? glam_param(ctx, "p", glam_dim1(1 + i * i * 3))
                     : glam_zeros(ctx, glam_dim1(1 + i * i * 3));
        glam_fill(t[i], (float)i);
    }
    int wrong = 0;
    for (int i = 0; i < 120; i++) {
        for (size_t e = 0; e < glam_size(t[i]); e++) wrong += t[i]->data[e] != (float)i;
    }
    CHECK(wrong == 0);
    CLOSE_CLEAN(ctx);
}

static void base_sizes_do_not_wrap(void)
{
    static const glam_shape shapes[3] = { { 4, { INT_MAX, INT_MAX, INT_MAX, INT_MAX } },
                                          { 3, { INT_MAX, INT_MAX, 4, 1 } },
                                          { 2, { 1 << 30, 1 << 30, 1, 1 } } };
    for (int i = 0; i < 3; i++) {
        glam_ctx *ctx = test_ctx();
        CHECK(glam_zeros(ctx, shapes[i]) == NULL);
        CHECK(glam_error(ctx) == GLAM_ERR_MEMORY || glam_error(ctx) == GLAM_ERR_SHAPE);
        glam_clear_error(ctx);
        CHECK(glam_param(ctx, "big", shapes[i]) == NULL);
        CHECK(glam_error(ctx) == GLAM_ERR_MEMORY || glam_error(ctx) == GLAM_ERR_SHAPE);
        glam_clear_error(ctx);
        CHECK(glam_zeros(ctx, glam_dim1(8)) != NULL);
        CLOSE_CLEAN(ctx);
    }
}

// Where addresses have 32 bits, what needs more is refused with a sentence, before any memory is asked for.
static void base_beyond_the_addresses(void)
{
    glam_ctx *ctx = test_ctx();
    if (sizeof(size_t) == 4) {
        CHECK(glam_zeros(ctx, glam_dim2(40000, 40000)) == NULL);
        ERROR_IS(ctx, GLAM_ERR_MEMORY, "6.4 GB do not fit the addresses of this machine");
        glam_clear_error(ctx);
        CHECK(glam__reserve_scratch(ctx, 5000000000u) == GLAM_ERR_MEMORY);
        ERROR_IS(ctx, GLAM_ERR_MEMORY, "5.0 GB of scratch");
        glam_clear_error(ctx);
    }
    CLOSE_CLEAN(ctx);
}

// Shapes of too many dimensions, or of none.
static void base_dimensions(void)
{
    static const int dims[] = { -1, 0, 5, 6, INT_MAX, INT_MIN };
    for (int i = 0; i < 6; i++) {
        glam_shape s[2] = { { dims[i], { 1, 1, 1, 1 } }, { 1, { 1, 1, 1, 1 } } };
        glam_ctx *ctx = test_ctx();
        CHECK(glam_zeros(ctx, s[0]) == NULL && glam__count(s[0]) == 0);
        ERROR_IS(ctx, GLAM_ERR_SHAPE, "1 to 4 dimensions");
        glam_tensor *t = (glam_clear_error(ctx), glam_zeros(ctx, glam_dim1(8)));
        t->shape.dims = dims[i];
        CHECK(glam_size(t) == 0);
        t->shape.dims = 1;
        CLOSE_CLEAN(ctx);
    }
}

// glam_fail formats, cuts what is too long, and never writes past its buffer.
static void base_long_messages(void)
{
    glam_ctx *ctx = test_ctx();
    char name[3000];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    CHECK(glam_fail(ctx, GLAM_ERR_STATE, "%s", name) == GLAM_ERR_STATE);
    CHECK(strlen(glam_error_text(ctx)) > 100 && strlen(glam_error_text(ctx)) < 3000);
    ERROR_IS(ctx, GLAM_ERR_STATE, "nnnn");
    CHECK(glam_param(ctx, name, glam_dim1(2)) != NULL);
    CLOSE_CLEAN(ctx);
}

static void test_01_base(void)
{
    RUN(base_alignment);
    RUN(base_arena_blocks_are_apart);
    RUN(base_sizes_do_not_wrap);
    RUN(base_beyond_the_addresses);
    RUN(base_dimensions);
    RUN(base_long_messages);
}
