/* 08_custom_op - an op of your own, without touching the header.

   You learn: that an op is one row of three functions, to write them, and to let
   glam_check_grad prove the backward one before you trust it: it finds the mistake in a second
   row, which forgets that a stands in two places.  The op is "snake", x + sin(a x)^2 / a with a
   learnt a (Ziyin et al. 2020): an activation that can go on with a rhythm beyond the data, where
   tanh and ReLU cannot.  (How far it goes on is luck: the loss sees nothing of what is there.)

   Build: cc -O2 -fopenmp examples/08_custom_op.c -o custom_op -lm && ./custom_op

   Prints:
       gradient of snake agrees with differences: 0.0... % apart, right up to 1 %
       the wrong one does not: 9... % apart, for its da lacks - sin(a x)^2 / a^2
       step    1  loss ...
       step  500  loss ...
       ...
       learnt a = ...
       x = 2.50 inside the data :  0.59...
       x = 5.50 beyond the data : -0..., should be -0.706 */

#define GLAM_IMPLEMENTATION
#include "../glam.h"
#include <math.h>
#include <stdio.h>

// -- the op ---------------------------------------------------------------------------------
// y = x + sin(a x)^2 / a     dy/dx = 1 + sin(2 a x)     dy/da = x sin(2 a x) / a - sin(a x)^2 / a^2

static glam_status snake_shape(glam_ctx *ctx, glam_node *n)
{
    if (glam_size(n->in[1]) != 1)
        return glam_fail(ctx, GLAM_ERR_SHAPE, "snake: a has %lu elements but should have 1",
                         (unsigned long)glam_size(n->in[1]));
    n->out_shape[0] = n->in[0]->shape;
    return GLAM_OK;
}

static void snake_forward(glam_ctx *ctx, glam_node *n)
{
    (void)ctx;
    const float *x = n->in[0]->data, a = n->in[1]->data[0];
    for (size_t i = 0; i < glam_size(n->out[0]); i++) {
        float s = sinf(a * x[i]);
        n->out[0]->data[i] = x[i] + s * s / a;
    }
}

static void snake_backward(glam_ctx *ctx, glam_node *n)
{
    (void)ctx;
    const float *x = n->in[0]->data, *dy = n->out[0]->grad, a = n->in[1]->data[0];
    float *dx = n->in[0]->grad, *da = n->in[1]->grad;        // NULL where nobody wants them
    for (size_t i = 0; i < glam_size(n->out[0]); i++) {
        float s = sinf(a * x[i]), s2 = sinf(2 * a * x[i]);
        if (dx) dx[i] += dy[i] * (1 + s2);                   // always add: x may have other uses
        if (da) da[0] += dy[i] * (x[i] * s2 / a - s * s / (a * a));
    }
}

// The mistake that is easily made: a under the sine is seen, a under the line is not.
static void wrong_backward(glam_ctx *ctx, glam_node *n)
{
    const float *x = n->in[0]->data, *dy = n->out[0]->grad, a = n->in[1]->data[0];
    float before = n->in[1]->grad ? n->in[1]->grad[0] : 0;
    snake_backward(ctx, n);
    if (n->in[1]->grad) n->in[1]->grad[0] = before;
    for (size_t i = 0; n->in[1]->grad && i < glam_size(n->out[0]); i++)
        n->in[1]->grad[0] += dy[i] * x[i] * sinf(2 * a * x[i]) / a;
}

static const glam_op snake_op = {"snake", 2, 0, snake_shape, snake_forward, snake_backward};
static const glam_op wrong_op = {"wrong", 2, 0, snake_shape, snake_forward, wrong_backward};

// -- and its use: learn sin(x) between -4 and 4 ----------------------------------------------

enum { POINTS = 64, HIDDEN = 16 };

typedef struct net {
    const glam_op *snake;
    glam_tensor *w1, *b1, *a, *w2;
    float x[POINTS], y[POINTS];
} net;

static glam_tensor *forward(glam_ctx *ctx, net *n, const float *x, int count)
{
    glam_tensor *in = glam_input(ctx, x, glam_dim2(count, 1));
    glam_tensor *h[2] = {glam_add(ctx, glam_matmul(ctx, in, n->w1), n->b1), n->a};
    return glam_matmul(ctx, glam_apply(ctx, n->snake, h, NULL, 0, NULL), n->w2);
}

static glam_tensor *loss_of(glam_ctx *ctx, void *arg)
{
    net *n = (net *)arg;
    return glam_mse(ctx, forward(ctx, n, n->x, POINTS), glam_input(ctx, n->y,
                                                                   glam_dim2(POINTS, 1)));
}

int main(void)
{
    static net n;
    glam_ctx *ctx = glam_open(NULL);
    n.w1 = glam_param(ctx, "w1", glam_dim2(1, HIDDEN));
    n.b1 = glam_param(ctx, "b1", glam_dim1(HIDDEN));
    n.a  = glam_param(ctx, "a", glam_dim1(1));
    n.w2 = glam_param(ctx, "w2", glam_dim2(HIDDEN, 1));
    glam_fill_normal(n.w1, 1, 1.0f);
    glam_fill_normal(n.w2, 1, 0.2f);
    glam_fill(n.a, 0.5f);
    for (int i = 0; i < POINTS; i++) {
        n.x[i] = -4.0f + 8.0f * (float)i / (POINTS - 1);
        n.y[i] = sinf(n.x[i]);
    }

    glam_tensor *all[4] = {n.w1, n.b1, n.a, n.w2};
    n.snake = &wrong_op;
    double wrong = 100 * glam_check_grad(ctx, loss_of, &n, all, 4, 1e-3);
    n.snake = &snake_op;
    double apart = 100 * glam_check_grad(ctx, loss_of, &n, all, 4, 1e-3);
    printf("gradient of snake %s with differences: %.2f %% apart, right up to 1 %%\n",
           apart >= 0 && apart < 1 ? "agrees" : "DISAGREES", apart);
    printf("the wrong one does not: %.0f %% apart, for its da lacks - sin(a x)^2 / a^2\n", wrong);

    glam_recipe recipe = glam_recipe_default();
    recipe.optimizer = GLAM_ADAMW;
    recipe.schedule  = GLAM_SCHEDULE_COSINE;
    recipe.lr        = 0.01;
    recipe.warmup    = 20;
    recipe.steps     = 2000;
    glam_optimizer *optimizer = glam_optimizer_new(ctx, all, 4, &recipe);
    glam_report now;
    for (int step = 1; step <= recipe.steps; step++) {
        if (glam_update(optimizer, loss_of(ctx, &n), &now) != GLAM_OK) break;
        if (step == 1 || step % 500 == 0) printf("step %4d  loss %.6f\n", step, now.total);
    }

    const float at[2] = {2.5f, 5.5f};
    glam_tensor *y = forward(ctx, &n, at, 2);
    if (y) printf("learnt a = %.3f\n", (double)n.a->data[0]);
    for (int i = 0; y && i < 2; i++)
        printf("x = %.2f %s the data : %6.3f should be %.3f\n", (double)at[i],
               i ? "beyond" : "inside", (double)y->data[i], sin((double)at[i]));

    int failed = glam_error(ctx) != GLAM_OK;
    if (failed) fprintf(stderr, "%s\n", glam_error_text(ctx));
    glam_close(ctx);
    return failed;
}
