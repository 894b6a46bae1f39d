/* 09_mixture_in_your_network - glam_moe as a layer of a network that is no language model.

   You learn: to put a mixture into your own regression network, to add its balance loss to your
   own loss, to train whatever tensors you name with glam_optimizer_new and glam_update, to run
   two models in one loop, and to see experts divide a problem.  The function to be learnt has
   another rule in each of four quarters of the plane: each expert gets about one of them.

   Build: cc -O2 -fopenmp examples/09_mixture_in_your_network.c -o mixture -lm && ./mixture

   Prints:
       step    1  mixture loss 1.7...  balance 1.8...  plain loss 1.3...
       ...
       step 2000  mixture loss 0.0...  balance ...  plain loss 0.0...
       the first expert of each place in the square:
         ...: 1 1 1 3 3 3 3 3 above, 2 2 2 2 2 2 2 2 below, or other numbers, one for a quarter
       on new points: mixture 0.00..., plain 0.0... */

#define GLAM_IMPLEMENTATION
#include "../glam.h"
#include <math.h>
#include <stdio.h>

enum { ROWS = 128, WIDTH = 16, STEPS = 2000 };

// [rows,2] to [rows,1]: in, a layer between, out.  The layer is a mixture or a plain GLU.
typedef struct net {
    glam_tensor *in, *in_bias, *out;
    glam_moe_weights moe;
    glam_ffn_weights plain;
} net;

static glam_moe_config mixture_config(void)
{
    glam_moe_config config = glam_moe_config_default();
    config.experts = 4;
    config.top_k   = 1;                                  // one rule per place: one expert each
    config.hidden  = 24;
    config.normalise = GLAM_NORMALISE_NONE;              // or the weight is 1 whatever it learns
    return config;
}

static glam_tensor *weight(glam_ctx *ctx, const char *name, int rows, int cols, float std)
{
    glam_tensor *t = glam_param(ctx, name, glam_dim2(rows, cols));
    glam_fill_normal(t, 3, std);
    return t;
}

static net net_new(glam_ctx *ctx, int mixture)
{
    net n = {NULL, NULL, NULL, {NULL, NULL, NULL, NULL, NULL, NULL, NULL}, {NULL, NULL, NULL, NULL}};
    glam_moe_config config = mixture_config();
    n.in      = weight(ctx, mixture ? "a.in" : "b.in", 2, WIDTH, 1.0f);
    n.in_bias = weight(ctx, mixture ? "a.bias" : "b.bias", 1, WIDTH, 1.0f);
    n.out     = weight(ctx, mixture ? "a.out" : "b.out", WIDTH, 1, 0.2f);
    if (mixture) {
        n.moe = glam_moe_init(ctx, "a.moe", WIDTH, &config);
    } else {                                             // as much work per point as one expert
        n.plain.gate = weight(ctx, "b.gate", WIDTH, config.hidden, 0.25f);
        n.plain.up   = weight(ctx, "b.up", WIDTH, config.hidden, 0.25f);
        n.plain.down = weight(ctx, "b.down", config.hidden, WIDTH, 0.2f);
    }
    return n;
}

static glam_tensor *forward(glam_ctx *ctx, const net *n, const float *x, int rows,
                            glam_routing *routing, glam_tensor **balance)
{
    glam_moe_config config = mixture_config();
    glam_tensor *h = glam_matmul(ctx, glam_input(ctx, x, glam_dim2(rows, 2)), n->in);
    h = glam_tanh(ctx, glam_add(ctx, h, glam_view(ctx, n->in_bias, glam_dim1(WIDTH))));
    glam_tensor *f = n->moe.router ? glam_moe(ctx, h, &n->moe, &config, routing, balance)
                                   : glam_ffn(ctx, h, &n->plain, GLAM_GELU_TANH, 1e-6f);
    return glam_matmul(ctx, glam_add(ctx, h, f), n->out);
}

// Another rule in each quarter.
static float truth(float a, float b)
{
    if (a > 0) return b > 0 ? sinf(6 * a) : 4 * a * b;
    return b > 0 ? -b : cosf(5 * b) - 1;
}

static void draw(uint64_t step, float *x, float *y)
{
    for (int i = 0; i < ROWS; i++) {
        x[2 * i]     = 2 * glam_random(5, step, (uint64_t)(2 * i)) - 1;
        x[2 * i + 1] = 2 * glam_random(5, step, (uint64_t)(2 * i + 1)) - 1;
        y[i] = truth(x[2 * i], x[2 * i + 1]);
    }
}

static void show_square(glam_ctx *ctx, const net *mixture)
{
    float grid[8 * 8 * 2];
    glam_routing r;
    for (int i = 0; i < 64; i++) {
        grid[2 * i] = ((float)(i % 8) - 3.5f) / 4;
        grid[2 * i + 1] = (3.5f - (float)(i / 8)) / 4;
    }
    if (!forward(ctx, mixture, grid, 64, &r, NULL)) return;
    printf("the first expert of each place in the square:\n");
    for (int i = 0; i < 64; i++)
        printf("%s%d%s", i % 8 ? " " : "  ", r.expert[i * r.top_k], i % 8 == 7 ? "\n" : "");
}

int main(void)
{
    glam_ctx *ctx = glam_open(NULL);
    net a = net_new(ctx, 1), b = net_new(ctx, 0);
    glam_tensor *in_a[] = {a.in, a.in_bias, a.out, a.moe.router, a.moe.gate, a.moe.up, a.moe.down};
    glam_tensor *in_b[] = {b.in, b.in_bias, b.out, b.plain.gate, b.plain.up, b.plain.down};
    glam_recipe recipe = glam_recipe_default();
    recipe.optimizer = GLAM_ADAMW;
    recipe.lr        = 0.01;
    recipe.steps     = STEPS;
    glam_optimizer *train_a = glam_optimizer_new(ctx, in_a, 7, &recipe);
    glam_optimizer *train_b = glam_optimizer_new(ctx, in_b, 6, &recipe);

    float x[2 * ROWS], y[ROWS];
    for (int step = 1; step <= STEPS; step++) {
        glam_report now_a, now_b;
        glam_routing r;
        glam_tensor *balance;
        draw((uint64_t)step, x, y);
        glam_tensor *guess = forward(ctx, &a, x, ROWS, &r, &balance);
        glam_tensor *task  = glam_mse(ctx, guess, glam_input(ctx, y, glam_dim2(ROWS, 1)));
        double loss = task ? (double)task->data[0] : 0, even = (double)r.balance;
        // glam_update ends the step, so what is to be printed is read before.
        if (glam_update(train_a, glam_add(ctx, task, balance), &now_a) != GLAM_OK) break;
        guess = forward(ctx, &b, x, ROWS, NULL, NULL);
        task  = glam_mse(ctx, guess, glam_input(ctx, y, glam_dim2(ROWS, 1)));
        if (glam_update(train_b, task, &now_b) != GLAM_OK) break;
        if (step == 1 || step % 400 == 0)
            printf("step %4d  mixture loss %.4f  balance %.2f  plain loss %.4f\n", step, loss,
                   even, now_b.total);
    }

    show_square(ctx, &a);
    draw(1000000, x, y);                                 // points that no step has seen
    glam_tensor *goal = glam_input(ctx, y, glam_dim2(ROWS, 1));
    glam_tensor *ea = glam_mse(ctx, forward(ctx, &a, x, ROWS, NULL, NULL), goal);
    glam_tensor *eb = glam_mse(ctx, forward(ctx, &b, x, ROWS, NULL, NULL), goal);
    if (ea && eb) printf("on new points: mixture %.4f, plain %.4f\n", ea->data[0], eb->data[0]);
    int failed = glam_error(ctx) != GLAM_OK;
    if (failed) fprintf(stderr, "%s\n", glam_error_text(ctx));
    glam_close(ctx);
    return failed;
}
