/* 03_moe_step_by_step - every number of one mixture pass.

   You learn: what a mixture of experts does with eight tokens, step by step: router logits,
   probabilities, the two choices, their weights, places in each expert's queue, drops when a queue
   is full, load, balance loss, an expert from inside, outputs, and the gradient that teaches the
   router.  tests/moe_step_by_step.c reads the tables ("== name", names of columns, rows, an empty
   line) and recomputes everything from x, the router, one expert's matrices and the outputs.

   Build: cc -O2 -fopenmp examples/03_moe_step_by_step.c -o moe_steps -lm && ./moe_steps

   Prints:
       == sizes
       tokens experts top_k capacity width hidden aux_weight
       8 4 2 4 6 10 0.1000000
       ...
       == choices
       token choice expert before slot kept weight
       0 0 2 0.54.. 0 1 0.54..
       0 1 3 0.45.. -1 0 0.0000000
       ...
       == load
       expert kept first_choices mean_probability
       ...
       == expert_2_down ... */

#define GLAM_IMPLEMENTATION
#include "../glam.h"
#include <stdio.h>

enum { T = 8, M = 6, H = 10, E = 4, K = 2, C = 4 };   // balanced would be T * K / E = 4 per expert

// One table: its name, what a row is, the letter of its columns, values [rows,cols].
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

// y = (gelu(x gate) * (x up)) down: expert e alone, for all tokens.  Half of what enters it decides
// how much of the other half comes through; the one that is shown has its steps printed.
static glam_tensor *expert_alone(glam_ctx *ctx, glam_tensor *x, const glam_moe_weights *w, int e,
                                 int show)
{
    glam_tensor *gate = glam_view(ctx, glam_slice(ctx, w->gate, e, 1), glam_dim2(M, H));
    glam_tensor *up   = glam_view(ctx, glam_slice(ctx, w->up,   e, 1), glam_dim2(M, H));
    glam_tensor *down = glam_view(ctx, glam_slice(ctx, w->down, e, 1), glam_dim2(H, M));
    glam_tensor *open = glam_gelu(ctx, glam_matmul(ctx, x, gate));
    glam_tensor *hidden = glam_mul(ctx, open, glam_matmul(ctx, x, up));
    if (show && hidden && down) {
        table("expert_2_gate", "input", 'h', gate->data, M, H);
        table("expert_2_up", "input", 'h', up->data, M, H);
        table("expert_2_open", "token", 'h', open->data, T, H);
        table("expert_2_hidden", "token", 'h', hidden->data, T, H);
        table("expert_2_down", "hidden", 'y', down->data, H, M);
    }
    return glam_matmul(ctx, hidden, down);
}

static void show_routing(const glam_routing *r)
{
    table("probabilities", "token", 'e', r->probability, T, E);
    printf("== choices\ntoken choice expert before slot kept weight\n");
    for (int i = 0; i < T * K; i++) {          // choice 0 is the best; slot -1: the queue was full
        const float *p = r->probability + i / K * E;
        float both = p[r->expert[i / K * K]] + p[r->expert[i / K * K + 1]];
        printf("%d %d %d %.7f %d %d %.7f\n", i / K, i % K, r->expert[i],
               (double)(p[r->expert[i]] / both),    // its weight before a drop; after it: 0
               r->slot[i], r->kept[i], (double)r->weight[i]);
    }
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
    if (glam_error(ctx) != GLAM_OK) return;

    if (what == 0) {
        printf("== sizes\ntokens experts top_k capacity width hidden aux_weight\n");
        printf("%d %d %d %d %d %d %.7f\n\n", r.tokens, r.experts, r.top_k, r.capacity, M, H,
               (double)config->aux_weight);
        table("x", "token", 'x', x->data, T, M);
        table("router", "input", 'e', w->router->data, M, E);
        table("logits", "token", 'e', logits->data, T, E);
        show_routing(&r);
        printf("task_loss %.7f\nbalance_loss %.7f\ntotal_loss %.7f\n\n", (double)task->data[0],
               (double)balance->data[0], (double)loss->data[0]);
        for (int e = 0; e < E; e++) {
            char name[24];
            sprintf(name, "expert_%d", e);
            glam_tensor *alone = expert_alone(ctx, x, w, e, e == 2);
            if (alone) table(name, "token", 'y', alone->data, T, M);
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
