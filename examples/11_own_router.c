/* 11_own_router - a router of your own, on a page: as many experts as a token needs.

   You learn: what a router is (logits in, weights out, 0 where nothing is sent), that its choice
   has no gradient but its weights have one, and how to prove yours.  It takes experts, best first,
   until their probabilities reach 0.6 (Huang et al. 2024, "Harder Tasks Need More Experts"); a
   small loss on the entropy keeps it from being unsure of everything.  The library's own are rows
   of a table: glam_router in glam.h, train --router.

   Build: cc -O2 -fopenmp examples/11_own_router.c -o own_router -lm && ./own_router

   Prints:
       gradient of the router agrees with differences: 0.... % apart, right up to 1 %
       without the sum over all experts it does not: ... % apart
       step    1  loss ...
       ...
       loss 0.0..., 1.... experts per token: one, but more where two meet
       x = -3.50:  1.00  0.00 ...
       ... */

#define GLAM_IMPLEMENTATION
#include "../glam.h"
#include <math.h>
#include <stdio.h>

enum { T = 128, E = 4, H = 8 };
#define ENOUGH 0.6f

// -- the router: logits l [T,E] to weights w [T,E]
// p = softmax(l);  w_e = p_e for the best experts until they reach ENOUGH, else 0
// dl_e = p_e (dw_e [chosen] - sum over the chosen of p dw)
static glam_status router_shape(glam_ctx *ctx, glam_node *n)
{
    if (n->in[0]->shape.dims != 2 || n->in[0]->shape.dim[1] != E)
        return glam_fail(ctx, GLAM_ERR_SHAPE, "own router: logits are not [T,%d]", E);
    n->out_shape[0] = n->in[0]->shape;
    return GLAM_OK;
}

static void probabilities(const float *l, float *p)
{
    float sum = 0;                                          // logits stay small here
    for (int e = 0; e < E; e++) sum += p[e] = expf(l[e]);
    for (int e = 0; e < E; e++) p[e] /= sum;
}

static void router_forward(glam_ctx *ctx, glam_node *n)
{
    (void)ctx;
    for (int t = 0; t < n->in[0]->shape.dim[0]; t++) {
        float p[E], *w = n->out[0]->data + t * E, sum = 0;
        probabilities(n->in[0]->data + t * E, p);
        for (int e = 0; e < E; e++) w[e] = 0;
        while (sum < ENOUGH) {
            int best = 0;                                   // the sum of all is 1: it ends
            for (int e = 1; e < E; e++)
                if (w[best] > 0 || (w[e] <= 0 && p[e] > p[best])) best = e;
            sum += w[best] = p[best];
        }
    }
}

static void router_back(glam_node *n, int whole)
{
    for (int t = 0; t < n->in[0]->shape.dim[0] && n->in[0]->grad; t++) {
        const float *w = n->out[0]->data + t * E, *dw = n->out[0]->grad + t * E;
        float p[E], dot = 0, *dl = n->in[0]->grad + t * E;
        probabilities(n->in[0]->data + t * E, p);
        for (int e = 0; e < E; e++) dot += w[e] * dw[e];    // w is p, or 0
        for (int e = 0; e < E; e++)                         // who was not chosen learns too
            if (whole || w[e] > 0) dl[e] += w[e] * dw[e] - (whole ? p[e] * dot : 0);
    }
}

static void router_backward(glam_ctx *ctx, glam_node *n) { (void)ctx; router_back(n, 1); }
static void wrong_backward(glam_ctx *ctx, glam_node *n)  { (void)ctx; router_back(n, 0); }
static const glam_op router_op = {"own", 1, 0, router_shape, router_forward, router_backward};
static const glam_op wrong_op = {"wrong", 1, 0, router_shape, router_forward, wrong_backward};

// -- a mixture around it: y = sum over e of w_e expert_e(x)
typedef struct net {
    const glam_op *op;
    glam_tensor *router, *in[E], *out[E], *weights;
    float x[T * 2], y[T];
} net;

static glam_tensor *loss_of(glam_ctx *ctx, void *arg)
{
    net *n = (net *)arg;
    glam_tensor *x = glam_input(ctx, n->x, glam_dim2(T, 2)), *y = NULL;     // x and 1
    glam_tensor *l = glam_matmul(ctx, x, n->router), *p = glam_softmax(ctx, l);
    n->weights = glam_apply(ctx, n->op, &l, NULL, 0, NULL);
    glam_tensor *by_expert = glam_transpose(ctx, n->weights);               // [E,T]
    for (int e = 0; e < E; e++) {
        glam_tensor *h = glam_tanh(ctx, glam_matmul(ctx, x, n->in[e]));
        glam_tensor *of = glam_transpose(ctx, glam_matmul(ctx, h, n->out[e]));   // [1,T]
        of = glam_mul(ctx, of, glam_slice(ctx, by_expert, e, 1));
        y = y ? glam_add(ctx, y, of) : of;
    }
    glam_tensor *entropy = glam_scale(ctx, glam_mean(ctx, glam_mul(ctx, p, glam_log(ctx, p))), -E);
    y = glam_mse(ctx, y, glam_input(ctx, n->y, glam_dim2(1, T)));
    return glam_add(ctx, y, glam_scale(ctx, entropy, 0.01f));
}

int main(void)
{
    static net n;
    glam_ctx *ctx = glam_open(NULL);
    glam_tensor *all[1 + 2 * E] = {n.router = glam_param(ctx, "router", glam_dim2(2, E))};
    glam_fill_normal(n.router, 1, 0.5f);
    for (int e = 0; e < E; e++) {
        char in[] = "in.0", out[] = "out.0";
        in[3] = out[4] = (char)('0' + e);
        all[1 + 2 * e] = n.in[e] = glam_param(ctx, in, glam_dim2(2, H));
        all[2 + 2 * e] = n.out[e] = glam_param(ctx, out, glam_dim2(H, 1));
        glam_fill_normal(n.in[e], 1, 1);  glam_fill_normal(n.out[e], 1, 1);
    }
    for (int t = 0; t < T; t++) {                           // straight, then wild
        float x = n.x[2 * t] = -4 + 8 * (float)t / (T - 1);
        n.x[2 * t + 1] = 1;
        n.y[t] = x < 0 ? 0.5f * x : sinf(3 * x) + 0.3f * x;
    }
    n.op = &wrong_op;
    double wrong = 100 * glam_check_grad(ctx, loss_of, &n, all, 1 + 2 * E, 3e-4);
    n.op = &router_op;
    double apart = 100 * glam_check_grad(ctx, loss_of, &n, all, 1 + 2 * E, 3e-4);
    printf("gradient of the router %s with differences: %.2f %% apart, right up to 1 %%\n"
           "without the sum over all experts it does not: %.0f %% apart\n",
           apart >= 0 && apart < 1 ? "agrees" : "DISAGREES", apart, wrong);
    glam_recipe recipe = glam_recipe_default();
    recipe.optimizer = GLAM_ADAMW;  recipe.lr = 0.02;  recipe.steps = 1500;
    glam_optimizer *optimizer = glam_optimizer_new(ctx, all, 1 + 2 * E, &recipe);
    glam_report now;
    for (int i = 0; i < recipe.steps && !glam_error(ctx); i++) {
        glam_update(optimizer, loss_of(ctx, &n), &now);
        if (i % 500 == 0) printf("step %4d  loss %.3f\n", i + 1, now.total);
    }
    loss_of(ctx, &n);                                       // once more, to look at the weights
    const float *w = glam_error(ctx) ? NULL : n.weights->data;
    int used = 0;
    for (int i = 0; i < T * E && w; i++) used += w[i] > 0;
    printf("loss %.3f, %.2f experts per token: one, but more where two meet\n", now.total,
           (double)used / T);
    for (int t = 8; t < T && w; t += 16)
        printf("x = %5.2f:  %.2f  %.2f  %.2f  %.2f\n", (double)n.x[2 * t], (double)w[t * E],
               (double)w[t * E + 1], (double)w[t * E + 2], (double)w[t * E + 3]);
    int failed = glam_error(ctx) != GLAM_OK;
    if (failed) fprintf(stderr, "glam: %s\n", glam_error_text(ctx));
    glam_close(ctx);
    return failed;
}
