/* Room 09: ops, tape, backward.  Kinds: gradient (a float smoke version; the full walk in double is
   test_gradient.c), property, failure. */

typedef struct autograd_world {
    glam_tensor *p[12];
    int          count, which;
} autograd_world;

enum { AUTOGRAD_WALKS = 17 };

// One loss per kind of op, over parameters p[0], p[1]: [4,6] and p[2], p[3]: [6,4], p[4]: [6].
static glam_tensor *autograd_loss(glam_ctx *ctx, void *arg)
{
    autograd_world *w = (autograd_world *)arg;
    static const int32_t ids[5] = { 3, 1, 1, 0, 2 };
    glam_tensor *a = w->p[0], *b = w->p[1], *c = w->p[2], *g = w->p[4], *y = NULL;
    switch (w->which) {
    case 0:  y = glam_add(ctx, glam_mul(ctx, a, b), glam_sub(ctx, a, g)); break;
    case 1:  y = glam_div(ctx, a, glam_add(ctx, glam_mul(ctx, b, b), glam_exp(ctx, g))); break;
    case 2:  y = glam_matmul(ctx, a, c); break;
    case 3:  y = glam_matmul_t(ctx, a, b); break;
    case 4:  y = glam_transpose(ctx, glam_scale(ctx, a, 3)); break;
    case 5:  y = glam_concat(ctx, glam_slice(ctx, a, 1, 2), b); break;
    case 6:  y = glam_tanh(ctx, glam_sigmoid(ctx, a)); break;
    case 7:  y = glam_gelu(ctx, glam_silu(ctx, a)); break;
    case 8:  y = glam_gelu_erf(ctx, a); break;
    case 9:  y = glam_softmax(ctx, glam_scale(ctx, a, 3)); break;
    case 10: y = glam_layernorm(ctx, a, g, w->p[5], 1e-5f); break;
    case 11: y = glam_rmsnorm(ctx, a, g, 1e-5f); break;
    case 12: y = glam_embed(ctx, a, ids, 5, NULL); break;
    case 13: y = glam_dropout(ctx, a, 0.4f, 3); break;
    case 14: return glam_mse(ctx, a, b);
    case 15: return glam_cross_entropy(ctx, glam_scale(ctx, a, 4), ids, NULL);
    default: y = glam_log(ctx, glam_view(ctx, glam_exp(ctx, a), glam_dim3(2, 2, 6))); break;
    }
    return glam_mean(ctx, glam_mul(ctx, y, y));
}

static glam_ctx *autograd_open(autograd_world *w)
{
    static const int dims[6][2] = { { 4, 6 }, { 4, 6 }, { 6, 4 }, { 6, 4 }, { 6, 0 }, { 6, 0 } };
    glam_ctx *ctx = test_ctx();
    memset(w, 0, sizeof *w);
    for (int i = 0; i < 6; i++) {
        glam_shape s = dims[i][1] ? glam_dim2(dims[i][0], dims[i][1]) : glam_dim1(dims[i][0]);
        w->p[i] = glam_param(ctx, "p", s);
        test_fill(w->p[i]->data, glam_size(w->p[i]), 20 + (uint64_t)i, -1, 1);
    }
    w->count = 6;
    return ctx;
}

static void autograd_smoke(void)
{
    for (int which = 0; which < AUTOGRAD_WALKS; which++) {
        autograd_world w;
        glam_ctx *ctx = autograd_open(&w);
        w.which = which;
        double off = glam_check_grad(ctx, autograd_loss, &w, w.p, w.count, 1e-2);
        if (!CHECK(off >= 0 && off < 1e-2)) {
            printf("  case %d: off by %g %s\n", which, off, glam_error_text(ctx));
        }
        CLOSE_CLEAN(ctx);
    }
}

// --- an op of one's own --------------------------------------------------------------------------

static int autograd_slope = 2;             // 2: the right derivative of x^2

static glam_status square_shape(glam_ctx *ctx, glam_node *n)
{
    if (n->in[0]->shape.dims > 2) return glam_fail(ctx, GLAM_ERR_SHAPE, "square: too many dims");
    n->out_shape[0] = n->in[0]->shape;
    n->saved_bytes = glam_size(n->in[0]) * sizeof(float);
    n->scratch_bytes = n->saved_bytes;
    return GLAM_OK;
}
static void square_forward(glam_ctx *ctx, glam_node *n)
{
    float *scratch = (float *)glam_scratch(ctx, glam_size(n->in[0]) * sizeof(float));
    for (size_t i = 0; i < glam_size(n->in[0]); i++) {
        scratch[i] = n->in[0]->data[i];
        ((float *)n->saved)[i] = scratch[i];
        n->out[0]->data[i] = scratch[i] * scratch[i] * *(const float *)n->config;
    }
}
static void square_backward(glam_ctx *ctx, glam_node *n)
{
    (void)ctx;
    if (!n->in[0]->grad) return;
    for (size_t i = 0; i < glam_size(n->in[0]); i++) {
        n->in[0]->grad[i] += (float)autograd_slope * ((float *)n->saved)[i] * n->out[0]->grad[i] *
                             *(const float *)n->config;
    }
}
static const glam_op square_op = { "square", 1, 0, square_shape, square_forward, square_backward };

static glam_tensor *autograd_square(glam_ctx *ctx, glam_tensor *x)
{
    float factor = 1.5f;
    return glam_apply(ctx, &square_op, &x, &factor, sizeof factor, NULL);
}

static glam_tensor *autograd_square_loss(glam_ctx *ctx, void *arg)
{
    return glam_sum(ctx, autograd_square(ctx, (glam_tensor *)arg));
}

static void autograd_own_op(void)
{
    autograd_world w;
    glam_ctx *ctx = autograd_open(&w);
    double off = glam_check_grad(ctx, autograd_square_loss, w.p[0], w.p, 1, 1e-2);
    CHECK(off >= 0 && off < 1e-3);
    autograd_slope = 3;                    // wrong on purpose: check_grad must notice
    CHECK(glam_check_grad(ctx, autograd_square_loss, w.p[0], w.p, 1, 1e-2) > 0.3);
    autograd_slope = 2;
    glam_forget(ctx);
    CHECK(autograd_square(ctx, glam_zeros(ctx, glam_dim3(1, 2, 3))) == NULL);
    ERROR_IS(ctx, GLAM_ERR_SHAPE, "square");
    CLOSE_CLEAN(ctx);
}

// --- the tape ------------------------------------------------------------------------------------

static void autograd_accumulates(void)
{
    glam_ctx *ctx = test_ctx();
    float c[3] = { 1, -2, 3 };
    glam_tensor *x = glam_param(ctx, "x", glam_dim1(3));
    // x used three times in one loss
    glam_tensor *k = glam_input(ctx, c, glam_dim1(3));
    glam_tensor *y = glam_add(ctx, glam_mul(ctx, x, k), glam_add(ctx, x, x));
    CHECK(glam_backward(ctx, glam_sum(ctx, y)) == GLAM_OK);
    for (int i = 0; x->grad && i < 3; i++) CHECK_NEAR(x->grad[i], c[i] + 2, 1e-6);
    CHECK(x->grad != NULL && k->grad == NULL);
    glam_forget(ctx);
    CHECK(x->grad == NULL);                // no optimiser owns it
    CLOSE_CLEAN(ctx);
}

static void autograd_rules(void)
{
    glam_ctx *ctx = test_ctx();
    glam_tensor *x = glam_param(ctx, "x", glam_dim1(3));
    glam_tensor *loss = glam_sum(ctx, glam_mul(ctx, x, x));
    CHECK(glam_backward(ctx, loss) == GLAM_OK);
    CHECK(glam_backward(ctx, loss) == GLAM_ERR_STATE);
    ERROR_IS(ctx, GLAM_ERR_STATE, "backward");
    glam_forget(ctx);
    CHECK(glam_backward(ctx, glam_mul(ctx, x, x)) == GLAM_ERR_SHAPE);
    ERROR_IS(ctx, GLAM_ERR_SHAPE, "[3]");
    glam_forget(ctx);
    CHECK(glam_backward(ctx, glam_sum(ctx, glam_zeros(ctx, glam_dim1(2)))) == GLAM_ERR_STATE);
    ERROR_IS(ctx, GLAM_ERR_STATE, "gradient");
    glam_forget(ctx);
    CHECK(glam_no_grad(ctx, 1) == 0 && glam_no_grad(ctx, 1) == 1);
    loss = glam_sum(ctx, glam_mul(ctx, x, x));
    CHECK(loss && !loss->wants_grad);
    CHECK(glam_no_grad(ctx, 0) == 1);
    glam_forget(ctx);
    x->wants_grad = 0;
    glam_tensor *y = glam_param(ctx, "y", glam_dim1(3));
    CHECK(glam_backward(ctx, glam_sum(ctx, glam_mul(ctx, x, y))) == GLAM_OK);
    CHECK(x->grad == NULL && y->grad != NULL);
    CLOSE_CLEAN(ctx);
}

// What does not lead to the loss gets no gradient, and costs nothing.
static void autograd_side_branch(void)
{
    glam_ctx *ctx = test_ctx();
    glam_tensor *x = glam_param(ctx, "x", glam_dim1(3)), *z = glam_param(ctx, "z", glam_dim1(3));
    glam_fill(x, 2);
    glam_fill(z, 2);
    glam_tensor *side = glam_exp(ctx, glam_mul(ctx, x, z));
    glam_tensor *loss = glam_sum(ctx, glam_mul(ctx, x, x));
    glam_tensor *later = glam_exp(ctx, loss);
    CHECK(side && later && glam_backward(ctx, loss) == GLAM_OK);
    CHECK(z->grad == NULL || z->grad[0] == 0);
    for (int i = 0; x->grad && i < 3; i++) CHECK(x->grad[i] == 4);
    CHECK(x->grad != NULL);
    CLOSE_CLEAN(ctx);
}

// A chain of a thousand ops: the tape and the arena hold it, the result is right.
static void autograd_long_chain(void)
{
    glam_ctx *ctx = test_ctx();
    glam_tensor *x = glam_param(ctx, "x", glam_dim1(100)), *y = x;
    glam_fill(x, 1);
    for (int i = 0; i < 1000; i++) y = glam_scale(ctx, y, i % 2 ? 2.0f : 0.5f);
    CHECK(glam_backward(ctx, glam_sum(ctx, y)) == GLAM_OK);
    for (int i = 0; x->grad && i < 100; i++) CHECK(x->grad[i] == 1);
    CHECK(x->grad != NULL);
    CLOSE_CLEAN(ctx);
}

static glam_tensor *autograd_block(glam_ctx *ctx, void *arg, glam_tensor *x, glam_tensor **extra)
{
    glam_tensor **w = (glam_tensor **)arg;
    glam_tensor *y = glam_gelu(ctx, glam_matmul(ctx, x, w[0]));
    y = glam_dropout(ctx, glam_matmul(ctx, y, w[1]), 0.2f, 77);
    if (extra) *extra = glam_mean(ctx, glam_mul(ctx, y, y));
    return glam_add(ctx, x, y);
}

// Recomputation on or off: the same bits of result and gradient, with dropout inside.
static void autograd_recompute_bits(void)
{
    static float grads[2][3][1000], out[2][500];
    for (int again = 0; again < 2; again++) {
        glam_ctx *ctx = test_ctx();
        glam_tensor *w[3], *extra = NULL, *more = NULL;
        w[0] = glam_param(ctx, "a", glam_dim2(10, 31));
        w[1] = glam_param(ctx, "b", glam_dim2(31, 10));
        w[2] = glam_param(ctx, "x", glam_dim2(50, 10));
        for (int i = 0; i < 3; i++) glam_fill_normal(w[i], 1, 0.3f);
        glam_tensor *x = glam_tanh(ctx, w[2]), *y;
        y = again ? glam_recompute(ctx, autograd_block, w, x, &extra)
                  : autograd_block(ctx, w, x, &extra);
        y = again ? glam_recompute(ctx, autograd_block, w, y, &more)
                  : autograd_block(ctx, w, y, &more);
        if (!CHECK(y && extra && more)) { glam_close(ctx); return; }
        memcpy(out[again], y->data, sizeof out[0]);
        glam_tensor *loss = glam_add(ctx, glam_mean(ctx, glam_mul(ctx, y, y)), glam_add(ctx, extra, more));
        glam_no_grad(ctx, 1);                          // backward records its second run, and puts this back
        CHECK(glam_backward(ctx, loss) == GLAM_OK && glam_no_grad(ctx, 0) == 1);
        for (int i = 0; i < 3; i++) {
            CHECK(w[i]->grad != NULL);
            if (w[i]->grad) memcpy(grads[again][i], w[i]->grad, glam_size(w[i]) * sizeof(float));
        }
        CLOSE_CLEAN(ctx);
    }
    CHECK(!memcmp(out[0], out[1], sizeof out[0]));
    CHECK(!memcmp(grads[0], grads[1], sizeof grads[0]));
}

// Recomputing takes less memory for the step.
static void autograd_recompute_saves(void)
{
    uint64_t bytes[2];
    for (int again = 0; again < 2; again++) {
        glam_ctx *ctx = test_ctx();
        glam_tensor *w[2];
        w[0] = glam_param(ctx, "a", glam_dim2(16, 300));
        w[1] = glam_param(ctx, "b", glam_dim2(300, 16));
        glam_tensor *y = glam_zeros(ctx, glam_dim2(400, 16));
        for (int i = 0; i < 8; i++) {
            y = again ? glam_recompute(ctx, autograd_block, w, y, NULL)
                      : autograd_block(ctx, w, y, NULL);
        }
        CHECK(glam_backward(ctx, glam_sum(ctx, y)) == GLAM_OK);
        bytes[again] = glam_memory(ctx).step;
        CLOSE_CLEAN(ctx);
    }
    CHECK(bytes[1] * 2 < bytes[0]);
}

static glam_tensor *autograd_bad_block(glam_ctx *ctx, void *arg, glam_tensor *x, glam_tensor **extra)
{
    (void)extra;
    return arg ? NULL : glam_transpose(ctx, x);
}

static void autograd_failures(void)
{
    glam_ctx *ctx = test_ctx();
    glam_tensor *x = glam_param(ctx, "x", glam_dim2(2, 3));
    CHECK(glam_recompute(ctx, autograd_bad_block, NULL, x, NULL) == NULL);
    ERROR_IS(ctx, GLAM_ERR_SHAPE, "block");
    // a block that gives nothing back, without an error of its own
    CHECK(glam_recompute(ctx, autograd_bad_block, x, x, NULL) == NULL);
    CHECK(glam_error(ctx) != GLAM_OK);
    glam_clear_error(ctx);
    CHECK(glam_check_grad(ctx, autograd_square_loss, x, &x, 1, 0) < 0);
    CHECK(glam_error(ctx) == GLAM_ERR_VALUE);
    glam_clear_error(ctx);
    CLOSE_CLEAN(ctx);
}

static void test_09_autograd(void)
{
    RUN(autograd_smoke);
    RUN(autograd_own_op);
    RUN(autograd_accumulates);
    RUN(autograd_rules);
    RUN(autograd_side_branch);
    RUN(autograd_long_chain);
    RUN(autograd_recompute_bits);
    RUN(autograd_recompute_saves);
    RUN(autograd_failures);
}
