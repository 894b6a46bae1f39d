/* 02_autograd - a small network of your own on the tensor ops, trained by hand.

   You learn: to build a network from ops, to let the tape find its gradients, to take a step of
   gradient descent yourself, to end a step with glam_forget, and to check gradients against
   differences.  The network tells points inside a ring from points outside of it.

   Build: cc -O2 -fopenmp examples/02_autograd.c -o autograd -lm && ./autograd

   Prints:
       step    1  loss 0.7...
       step  400  loss 0...
       ...
       step 2000  loss 0.0...
       gradients agree with differences: 0... % apart at most, right up to 2 %
       right on 3.. of 400 new points
       . . . . . . . . . . .
       ... */

#define GLAM_IMPLEMENTATION
#include "../glam.h"
#include <stdio.h>

enum { POINTS = 400, HIDDEN = 24, STEPS = 2000 };

typedef struct net {
    glam_tensor *w1, *b1, *w2, *b2;
} net;

// Points in the square [-1,1]^2; class 1 lies in the ring 0.35 < r < 0.8.
static void draw_points(uint64_t seed, float *x, int32_t *label)
{
    for (int i = 0; i < POINTS; i++) {
        float a = 2 * glam_random(seed, 0, (uint64_t)i) - 1;
        float b = 2 * glam_random(seed, 1, (uint64_t)i) - 1;
        float square = a * a + b * b;
        x[2 * i] = a;
        x[2 * i + 1] = b;
        label[i] = square > 0.35f * 0.35f && square < 0.8f * 0.8f;
    }
}

// logits [count,2] = tanh(x w1 + b1) w2 + b2.  A bias [N] is added to every row of [T,N].
static glam_tensor *forward(glam_ctx *ctx, const net *n, const float *x, int count)
{
    glam_tensor *in     = glam_input(ctx, x, glam_dim2(count, 2));
    glam_tensor *hidden = glam_tanh(ctx, glam_add(ctx, glam_matmul(ctx, in, n->w1), n->b1));
    return glam_add(ctx, glam_matmul(ctx, hidden, n->w2), n->b2);
}

// What glam_check_grad wants to call: a function that builds the loss again.
typedef struct problem { net n; float x[2 * POINTS]; int32_t label[POINTS]; } problem;

static glam_tensor *loss_of(glam_ctx *ctx, void *arg)
{
    problem *p = (problem *)arg;
    return glam_cross_entropy(ctx, forward(ctx, &p->n, p->x, POINTS), p->label, NULL);
}

// Plain descent: against the gradient, a fixed rate, every element.
static void descend(glam_tensor *t, float rate)
{
    for (size_t i = 0; t && t->grad && i < glam_size(t); i++) t->data[i] -= rate * t->grad[i];
}

static void picture(glam_ctx *ctx, const net *n)
{
    float grid[11 * 11 * 2];
    for (int i = 0; i < 121; i++) {
        grid[2 * i]     = (float)(i % 11 - 5) / 5;
        grid[2 * i + 1] = (float)(i / 11 - 5) / 5;
    }
    glam_tensor *logits = forward(ctx, n, grid, 121);
    for (int i = 0; logits && i < 121; i++)
        printf("%c%c", logits->data[2 * i + 1] > logits->data[2 * i] ? '#' : '.',
               i % 11 == 10 ? '\n' : ' ');
}

static problem training, fresh;

int main(void)
{
    glam_ctx *ctx = glam_open(NULL);
    net n;
    n.w1 = glam_param(ctx, "w1", glam_dim2(2, HIDDEN));
    n.b1 = glam_param(ctx, "b1", glam_dim1(HIDDEN));
    n.w2 = glam_param(ctx, "w2", glam_dim2(HIDDEN, 2));
    n.b2 = glam_param(ctx, "b2", glam_dim1(2));
    glam_fill_normal(n.w1, 1, 2.0f);
    glam_fill_normal(n.b1, 1, 1.0f);
    glam_fill_normal(n.w2, 1, 0.2f);
    training.n = fresh.n = n;
    draw_points(1, training.x, training.label);
    draw_points(2, fresh.x, fresh.label);

    for (int step = 1; step <= STEPS; step++) {
        glam_tensor *loss = loss_of(ctx, &training);
        if (glam_backward(ctx, loss) != GLAM_OK) break;
        if (step == 1 || step % 400 == 0) printf("step %4d  loss %.4f\n", step, loss->data[0]);
        descend(n.w1, 1.0f);
        descend(n.b1, 1.0f);
        descend(n.w2, 1.0f);
        descend(n.b2, 1.0f);
        glam_forget(ctx);                    // the step's tensors go, gradients start at 0 again
    }

    glam_tensor *all[4] = {n.w1, n.b1, n.w2, n.b2};
    double apart = 100 * glam_check_grad(ctx, loss_of, &training, all, 4, 3e-3);
    printf("gradients %s with differences: %.2f %% apart at most, right up to 2 %%\n",
           apart >= 0 && apart < 2 ? "agree" : "DISAGREE", apart);

    int right = 0;
    glam_no_grad(ctx, 1);                    // no tape for what is only looked at
    glam_tensor *logits = forward(ctx, &n, fresh.x, POINTS);
    for (int i = 0; logits && i < POINTS; i++)
        right += (logits->data[2 * i + 1] > logits->data[2 * i]) == fresh.label[i];
    printf("right on %d of %d new points\n", right, POINTS);
    picture(ctx, &n);

    int failed = glam_error(ctx) != GLAM_OK;
    if (failed) fprintf(stderr, "%s\n", glam_error_text(ctx));
    glam_close(ctx);
    return failed;
}
