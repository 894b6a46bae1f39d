/* moe_step_by_step.c - reads what examples/03_moe_step_by_step prints and recomputes it.

   It knows nothing of glam.h: from x, the router, one expert's matrices and the experts' outputs it
   derives logits, probabilities, choices, weights, slots, drops, load, losses, that expert, outputs
   and both gradients of the router in double precision, by the formulas of the paper.

       examples/03_moe_step_by_step | tests/moe_step_by_step          exit status 0: all agree */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 64 };                                    // tokens, experts and widths are small

typedef double grid[MOST][MOST];

static char text[1 << 20];
static int  passed, failed;

// The table "== name" as numbers, without its line of column names; returns its rows.
static int table(const char *name, int skip, grid out)
{
    char title[64];
    snprintf(title, sizeof title, "== %s\n", name);
    char *at = strstr(text, title);
    int rows = 0;
    if (!at) {
        printf("there is no table %s\n", name);
        failed++;
        return 0;
    }
    at = strchr(at + strlen(title), '\n');
    while (at && at[1] != '\n' && at[1] && rows < MOST) {
        char *line = at + 1, *end = strchr(line, '\n');
        int cols = 0;
        for (char *p = line; p < end && cols < MOST + skip;) {
            char *next;
            double value = strtod(p, &next);
            if (next == p) break;
            if (cols >= skip) out[rows][cols - skip] = value;
            cols++;
            p = next;
        }
        rows++;
        at = end;
    }
    return rows;
}

static double named(const char *name)                  // a line "name value"
{
    char key[64];
    snprintf(key, sizeof key, "\n%s ", name);
    char *at = strstr(text, key);
    return at ? strtod(at + strlen(key), NULL) : NAN;
}

static void agree(const char *what, double printed, double computed, double tolerance)
{
    if (fabs(printed - computed) <= tolerance * (1 + fabs(computed))) passed++;
    else {
        printf("%s: printed %.7f, computed %.7f\n", what, printed, computed);
        failed++;
    }
}

static void agree_grids(const char *what, grid printed, grid computed, int rows, int cols,
                        double tolerance)
{
    char name[80];
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < cols; c++) {
            snprintf(name, sizeof name, "%s of row %d, column %d", what, r, c);
            agree(name, printed[r][c], computed[r][c], tolerance);
        }
}

static grid x, router, logits, p, choices, load, out, expert_out[MOST];
static grid got, want, dlogits;
static int  T, E, K, C, M, H;
static double aux, f[MOST], P[MOST];
static int    chosen[MOST][MOST], slot[MOST][MOST];
static double gate[MOST][MOST], picked[MOST];          // picked: sum of the chosen probabilities

static void read_all(void)
{
    grid sizes;
    table("sizes", 0, sizes);
    T = (int)sizes[0][0];
    E = (int)sizes[0][1];
    K = (int)sizes[0][2];
    C = (int)sizes[0][3];
    M = (int)sizes[0][4];
    H = (int)sizes[0][5];
    aux = sizes[0][6];
    if (T < 1 || T > MOST || E < 1 || E > MOST || K < 1 || K > E || M < 1 || M > MOST || H < 1 || H > MOST) {
        printf("the sizes make no sense\n");
        exit(1);
    }
    agree("rows of x", table("x", 1, x), T, 0);
    agree("rows of router", table("router", 1, router), M, 0);
    agree("rows of logits", table("logits", 1, logits), T, 0);
    agree("rows of probabilities", table("probabilities", 1, p), T, 0);
    agree("rows of choices", table("choices", 0, choices), T * K, 0);
    agree("rows of load", table("load", 1, load), E, 0);
    agree("rows of output", table("output", 1, out), T, 0);
    for (int e = 0; e < E; e++) {
        char name[24];
        snprintf(name, sizeof name, "expert_%d", e);
        agree(name, table(name, 1, expert_out[e]), T, 0);
    }
}

// logits = x router, p = softmax(logits)
static void check_gate(void)
{
    for (int t = 0; t < T; t++)
        for (int e = 0; e < E; e++) {
            want[t][e] = 0;
            for (int m = 0; m < M; m++) want[t][e] += x[t][m] * router[m][e];
        }
    agree_grids("logit", logits, want, T, E, 2e-6);
    for (int t = 0; t < T; t++) {
        double sum = 0;
        for (int e = 0; e < E; e++) sum += exp(logits[t][e]);
        for (int e = 0; e < E; e++) want[t][e] = exp(logits[t][e]) / sum;
    }
    agree_grids("probability", p, want, T, E, 2e-6);
}

// The K largest probabilities; first choices take their places before all second ones; a place
// beyond C is none, and the weights were normalised before that.
static void check_choices(void)
{
    int queue[MOST] = {0}, drops = 0;
    for (int t = 0; t < T; t++) {
        int taken[MOST] = {0};
        picked[t] = 0;
        for (int k = 0; k < K; k++) {
            int best = -1;
            for (int e = 0; e < E; e++)
                if (!taken[e] && (best < 0 || p[t][e] > p[t][best])) best = e;
            taken[best] = 1;
            chosen[t][k] = best;
            picked[t] += p[t][best];
        }
    }
    for (int k = 0; k < K; k++) {
        int kept[MOST] = {0};
        for (int t = 0; t < T; t++) {
            int e = chosen[t][k], place = queue[e]++;
            slot[t][k] = place < C ? place : -1;
            kept[e] += place < C;
            gate[t][k] = place < C ? p[t][e] / (picked[t] + 1e-9) : 0;
            drops += place >= C;
        }
        for (int e = 0; e < E; e++) {                  // only kept ones stand before the next
            if (k == 0) queue[e] = kept[e];
            else if (queue[e] > C) queue[e] = C;
        }
    }
    for (int t = 0; t < T; t++)
        for (int k = 0; k < K; k++) {
            const double *row = choices[t * K + k];
            agree("token", row[0], t, 0);
            agree("choice", row[1], k, 0);
            agree("expert", row[2], chosen[t][k], 0);
            agree("weight before drops", row[3], p[t][chosen[t][k]] / picked[t], 2e-6);
            agree("slot", row[4], slot[t][k], 0);
            agree("kept", row[5], slot[t][k] >= 0, 0);
            agree("weight", row[6], gate[t][k], 2e-6);
        }
    agree("dropped", named("dropped"), drops, 0);
    agree("something is dropped", drops > 0, 1, 0);
}

static double gelu(double v)
{
    return 0.5 * v * (1 + tanh(sqrt(2 / acos(-1.0)) * (v + 0.044715 * v * v * v)));
}

// y = (gelu(x gate) * (x up)) down, from the matrices of the expert that is shown from inside
static void check_expert(void)
{
    static grid w[2], down, open, hidden, full;
    agree("rows of gate", table("expert_2_gate", 1, w[0]), M, 0);
    agree("rows of up", table("expert_2_up", 1, w[1]), M, 0);
    agree("rows of down", table("expert_2_down", 1, down), H, 0);
    agree("rows of open", table("expert_2_open", 1, got), T, 0);
    for (int t = 0; t < T; t++)
        for (int h = 0; h < H; h++) {
            double sum[2] = {0, 0};
            for (int i = 0; i < 2 * M; i++) sum[i % 2] += x[t][i / 2] * w[i % 2][i / 2][h];
            open[t][h]   = gelu(sum[0]);
            hidden[t][h] = open[t][h] * sum[1];
            for (int m = 0; m < M; m++)
                full[t][m] = (h ? full[t][m] : 0) + hidden[t][h] * down[h][m];
        }
    agree_grids("what expert 2 opens", got, open, T, H, 5e-6);
    agree("rows of hidden", table("expert_2_hidden", 1, got), T, 0);
    agree_grids("what expert 2 lets through", got, hidden, T, H, 5e-6);
    agree_grids("output of expert 2", expert_out[2], full, T, M, 5e-6);
}

static void check_load_and_losses(void)
{
    double balance = 0, entropy = 0, z = 0, task = 0;
    for (int e = 0; e < E; e++) {
        int kept = 0, first = 0;
        P[e] = 0;
        for (int t = 0; t < T; t++) {
            first += chosen[t][0] == e;
            P[e] += p[t][e] / T;
            for (int k = 0; k < K; k++) kept += chosen[t][k] == e && slot[t][k] >= 0;
        }
        f[e] = (double)first / T;
        balance += E * f[e] * P[e];
        agree("load", load[e][0], kept, 0);
        agree("first choices", load[e][1], first, 0);
        agree("mean probability", load[e][2], P[e], 2e-6);
    }
    for (int t = 0; t < T; t++) {
        double sum = 0;
        for (int e = 0; e < E; e++) {
            entropy -= p[t][e] * log(p[t][e]) / T;
            sum += exp(logits[t][e]);
        }
        z += log(sum) * log(sum) / T;
        for (int m = 0; m < M; m++) {
            want[t][m] = 0;
            for (int k = 0; k < K; k++) want[t][m] += gate[t][k] * expert_out[chosen[t][k]][t][m];
            task += (out[t][m] - x[t][m]) * (out[t][m] - x[t][m]) / (T * M);
        }
    }
    agree_grids("output", out, want, T, M, 5e-6);
    agree("balance", named("balance"), balance, 5e-6);
    agree("entropy", named("entropy"), entropy, 5e-6);
    agree("router_z", named("router_z"), z, 5e-6);
    agree("task_loss", named("task_loss"), task, 5e-6);
    agree("balance_loss", named("balance_loss"), aux * balance, 5e-6);
    agree("total_loss", named("total_loss"), task + aux * balance, 5e-6);
}

static void times_x(grid d, grid gradient)             // d loss / d router = x^T d loss / d logits
{
    for (int m = 0; m < M; m++)
        for (int e = 0; e < E; e++) {
            gradient[m][e] = 0;
            for (int t = 0; t < T; t++) gradient[m][e] += x[t][m] * d[t][e];
        }
}

static void check_gradients(void)
{
    for (int t = 0; t < T; t++) {                      // balance: f is a constant, P is not
        double mean = 0;
        for (int e = 0; e < E; e++) mean += f[e] * p[t][e];
        for (int e = 0; e < E; e++) dlogits[t][e] = aux * E / T * p[t][e] * (f[e] - mean);
    }
    times_x(dlogits, want);
    agree("rows", table("router_gradient_of_balance", 1, got), M, 0);
    agree_grids("router gradient of the balance loss", got, want, M, E, 2e-6);

    for (int t = 0; t < T; t++) {                      // task: through the weights of kept choices
        double dp[MOST] = {0}, mean = 0;
        for (int k = 0; k < K; k++) {
            double dgate = 0;
            if (slot[t][k] < 0) continue;
            for (int m = 0; m < M; m++)
                dgate += 2 * (out[t][m] - x[t][m]) / (T * M) * expert_out[chosen[t][k]][t][m];
            dp[chosen[t][k]] += dgate / picked[t];
            for (int i = 0; i < K; i++)
                dp[chosen[t][i]] -= dgate * p[t][chosen[t][k]] / (picked[t] * picked[t]);
        }
        for (int e = 0; e < E; e++) mean += dp[e] * p[t][e];
        for (int e = 0; e < E; e++) dlogits[t][e] += p[t][e] * (dp[e] - mean);
    }
    times_x(dlogits, want);
    agree("rows", table("router_gradient", 1, got), M, 0);
    agree_grids("router gradient", got, want, M, E, 5e-6);
}

int main(void)
{
    size_t size = fread(text, 1, sizeof text - 1, stdin);
    text[size] = 0;
    read_all();
    check_gate();
    check_choices();
    check_expert();
    check_load_and_losses();
    check_gradients();
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0 || passed == 0;
}
