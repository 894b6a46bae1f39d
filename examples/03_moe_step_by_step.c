/* 03_moe_step_by_step - every number of one mixture pass.

   You learn: what a mixture of experts does with eight tokens, step by step: router logits,
   probabilities, the two choices, places in each expert's queue, drops when a queue is full,
   weights, load, balance loss, outputs, and the gradient that teaches the router.

   The tables are made to be parsed: "== name", a line of column names, rows, an empty line.
   tests/moe_step_by_step.c reads them and recomputes everything from x, the router and the
   experts' outputs.

   Build: cc -O2 -fopenmp examples/03_moe_step_by_step.c -o moe_steps -lm && ./moe_steps

   Prints:
       == sizes
       tokens experts top_k capacity width aux_weight
       8 4 2 4 6 0.100000

       == x
       token x0 x1 x2 x3 x4 x5
       0 ...

       == logits
       token e0 e1 e2 e3
       ...
       == choices
       token choice expert slot kept gate
       0 0 ...
       ...
       == load
       expert kept first_choices mean_probability
       ... */

#define GLAM_IMPLEMENTATION
#include "../glam.h"
#include <stdio.h>

enum { T = 8, M = 6, H = 10, E = 4, K = 2, C = 4 };   // balanced would be T * K / E = 4 per expert

// One table with a row per token (or per row of a weight): name, column letter, values [rows,cols].
static void table(const char *name, const char *row, char column, const float *values, int rows,
                  int cols)
{
    printf("== %s\n%s", name, row);
    for (int c = 0; c < cols; c++) printf(" %c%d", column, c);
    for (int r = 0; r < rows; r++) {
        printf("\n%d", r);
        for (int c = 0; c < cols; c++) printf(" %.7f", values[r * cols + c]);
    }
    printf("\n\n");
}

// y_e = (gelu(x gate_e) * (x up_e)) down_e for all tokens: expert e as a layer of its own.
static glam_tensor *expert_alone(glam_ctx *ctx, glam_tensor *x, const glam_moe_weights *w, int e)
{
    glam_ffn_weights one = {NULL, NULL, NULL, NULL};
    one.gate = glam_view(ctx, glam_slice(ctx, w->gate, e, 1), glam_dim2(M, H));
    one.up   = glam_view(ctx, glam_slice(ctx, w->up,   e, 1), glam_dim2(M, H));
    one.down = glam_view(ctx, glam_slice(ctx, w->down, e, 1), glam_dim2(H, M));
    return glam_ffn(ctx, x, &one, GLAM_GELU_TANH, 1e-6f);
}

static void show_routing(const glam_routing *r)
{
    table("probabilities", "token", 'e', r->probability, T, E);
    printf("== choices\ntoken choice expert slot kept gate\n");
    for (int i = 0; i < T * K; i++)            // choice 0 is the best; slot -1: the queue was full
        printf("%d %d %d %d %d %.7f\n", i / K, i % K, r->expert[i], r->slot[i], r->kept[i],
               (double)r->weight[i]);
    printf("\n== load\nexpert kept first_choices mean_probability\n");
    for (int e = 0; e < E; e++) {
        int first = 0;
        float mean = 0;
        for (int t = 0; t < T; t++) {
            first += r->expert[t * K] == e;
            mean  += r->probability[t * E + e] / T;
        }
        printf("%d %d %d %.7f\n", e, r->load[e], first, (double)mean);
    }
    printf("\n== totals\nname value\ndropped %d\nbalance %.7f\nentropy %.7f\nrouter_z %.7f\n",
           r->dropped, (double)r->balance, (double)r->entropy, (double)r->router_z);
}

// One pass.  what: 0 the whole loss, 1 the balance loss alone.
static void pass(glam_ctx *ctx, const glam_moe_config *config, const glam_moe_weights *w,
                 const float *values, int what)
{
    glam_routing r;
    glam_tensor *balance;
    glam_tensor *x      = glam_input(ctx, values, glam_dim2(T, M));
    glam_tensor *logits = glam_matmul(ctx, x, w->router);   // the mixture computes the same inside
    glam_tensor *y      = glam_moe(ctx, x, w, config, &r, &balance);
    glam_tensor *task   = glam_mse(ctx, y, x);              // a stand-in: learn to copy x
    glam_tensor *loss   = what == 0 ? glam_add(ctx, task, balance) : balance;
    glam_tensor *alone[E];
    for (int e = 0; e < E; e++) alone[e] = expert_alone(ctx, x, w, e);
    if (glam_error(ctx) != GLAM_OK) return;

    if (what == 0) {
        printf("== sizes\ntokens experts top_k capacity width aux_weight\n%d %d %d %d %d %.7f\n\n",
               r.tokens, r.experts, r.top_k, r.capacity, M, (double)config->aux_weight);
        table("x", "token", 'x', x->data, T, M);
        table("router", "input", 'e', w->router->data, M, E);
        table("logits", "token", 'e', logits->data, T, E);
        show_routing(&r);
        printf("task_loss %.7f\nbalance_loss %.7f\ntotal_loss %.7f\n\n", (double)task->data[0],
               (double)balance->data[0], (double)loss->data[0]);
        for (int e = 0; e < E; e++) {
            char name[24];
            sprintf(name, "expert_%d", e);
            table(name, "token", 'y', alone[e]->data, T, M);
        }
        table("output", "token", 'y', y->data, T, M);
    }
    glam_backward(ctx, loss);
    if (w->router->grad)
        table(what == 0 ? "router_gradient" : "router_gradient_of_balance", "input", 'e',
              w->router->grad, M, E);
    glam_forget(ctx);
}

int main(void)
{
    glam_ctx *ctx = glam_open(NULL);
    glam_moe_config config = glam_moe_config_default();
    config.experts    = E;
    config.top_k      = K;
    config.hidden     = H;
    config.capacity   = C;                     // exact slots per expert: the ninth guest is dropped
    config.aux_weight = 0.1f;                  // ten times the paper's, so that its gradient shows
    glam_moe_weights w = glam_moe_init(ctx, "moe", M, &config);

    float values[T * M];                       // eight tokens that lean to one side, so that
    for (int i = 0; i < T * M; i++)            // some expert gets more than it has slots for
        values[i] = glam_normal(7, 0, (uint64_t)i) + (i % M == 0 ? 1.0f : 0.0f);

    pass(ctx, &config, &w, values, 0);
    pass(ctx, &config, &w, values, 1);

    int failed = glam_error(ctx) != GLAM_OK;
    if (failed) fprintf(stderr, "%s\n", glam_error_text(ctx));
    glam_close(ctx);
    return failed;
}
