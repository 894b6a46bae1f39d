/* The gradient walk: every op row of the library, compiled in double, against central
   differences.  Kind of test: gradient.

   A translation unit of its own: after the system headers "float" becomes "double", so that the
   public types stay as they are written and all arithmetic is double.  With a step of 1e-5 the
   differences are then good to about 1e-10, and the bound of 1e-6 sees any wrong term.

   The walk goes over glam__ops[], so a new op without a case here fails.  Inputs stay away from
   places without a derivative: relu inputs keep |x| >= 0.1, and for the mixture the first seed is
   taken with which no routing decision is closer than 1e-3 to a tie and no ReLU input of an expert
   closer than 1e-3 to zero (case_moe_seed).

   With -DGRADIENT_BF16 the same cases run in float, in f32 and in bf16, and the two gradients are
   compared: differences of a function that rounds say nothing of its slope.  What bounds them stands at
   BF16_ROUNDING; a case without products must have the same bits. */

#if !defined(_WIN32) && !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#ifndef GRADIENT_BF16
#define float  double
#define expf   exp
#define logf   log
#define sqrtf  sqrt
#define tanhf  tanh
#define erff   erf
#define cosf   cos
#define sinf   sin
#define powf   pow
#define fabsf  fabs
#define floorf floor
#define roundf round
#undef FLT_MAX
#define FLT_MAX DBL_MAX
#define GLAM_NO_SIMD
#endif
#define GLAM__WORTH 0      // small loops too run on all workers here
#define GLAM_IMPLEMENTATION
#include "../glam.h"

#include "test.h"

static const double STEP GLAM__UNUSED = 1e-5, BOUND GLAM__UNUSED = 1e-6;
#ifdef GRADIENT_BF16
static glam_arithmetic arithmetic;
static const double NARROW = 30;       // inputs of ReLU and of a router must be so much farther from a tie
#else
static const double NARROW = 1;
#endif
enum { MOST_PARAMS = 32, MOST_LOOKED_AT = 150 };

// --- a world: the parameters and constants of one case -------------------------------------------

typedef struct world {
    glam_ctx    *ctx;
    glam_tensor *param[MOST_PARAMS];
    int          count, next, constants;
    uint64_t     seed;
    int          variant;          // which form of the case, where it has several
    const void  *more;
    double       margin;           // distance to the nearest tie, when a case knows it
} world;

typedef glam_tensor *grad_case(world *w);

static double number(uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t x = a * 0x9E3779B97F4A7C15ull ^ (b + 77) * 0xC2B2AE3D27D4EB4Full ^ (c + 1) * 0x165667B19E3779F9ull;
    for (int i = 0; i < 4; i++) {
        x ^= x >> 31;
        x *= 0xD6E8FEB86659FD93ull;
    }
    return (double)(x >> 11) / 9007199254740992.0 * 2 - 1;        // [-1, 1)
}

// The next parameter of the case: made at the first call of the loss, found again later.
static glam_tensor *par(world *w, glam_shape shape, double middle, double spread)
{
    if (w->next == w->count && w->count < MOST_PARAMS) {
        char name[16];
        sprintf(name, "p%d", w->count);
        glam_tensor *t = glam_param(w->ctx, name, shape);
        for (size_t i = 0; t && i < glam_size(t); i++) {
            t->data[i] = middle + spread * number(w->seed, (uint64_t)w->count, i);
        }
        w->param[w->count++] = t;
    }
    return w->param[w->next++];
}

// The same with a hole around zero.
static glam_tensor *par_off_zero(world *w, glam_shape shape)
{
    int fresh = w->next == w->count;
    glam_tensor *t = par(w, shape, 0, 1);
    for (size_t i = 0; fresh && t && i < glam_size(t); i++) {
        t->data[i] += t->data[i] < 0 ? -0.1 : 0.1;
    }
    return t;
}

// A constant: the same numbers at every call.
static glam_tensor *con(world *w, glam_shape shape)
{
    size_t n = 1;
    for (int d = 0; d < shape.dims; d++) n *= (size_t)shape.dim[d];
    float *values = (float *)malloc(n * sizeof(float));
    for (size_t i = 0; values && i < n; i++) {
        values[i] = number(w->seed + 1000, (uint64_t)w->constants, i) + 0.25;
    }
    w->constants++;
    glam_tensor *t = glam_input(w->ctx, values, shape);
    free(values);
    return t;
}

// sum(y * constant): every element of y has a say of its own in the loss.
static glam_tensor *dot(world *w, glam_tensor *y)
{
    if (!y) return NULL;
    return glam_sum(w->ctx, glam_mul(w->ctx, y, con(w, y->shape)));
}

static double world_loss(world *w, grad_case *make, int tape)
{
    int before = glam_no_grad(w->ctx, !tape);
    w->next = w->constants = 0;
    glam_tensor *loss = make(w);
    double value = loss && loss->data ? loss->data[0] : NAN;
    if (tape) glam_backward(w->ctx, loss);
    glam_no_grad(w->ctx, before);
    return value;
}

static glam_ctx *world_ctx(void)
{
    glam_options options = glam_options_default();
    options.pack_bytes = 0;            // the weights are changed behind the library's back
    options.threads = 1;
#ifdef GRADIENT_BF16
    options.arithmetic = arithmetic;
#endif
    return glam_open(&options);
}

#ifdef GRADIENT_BF16

// An operand is off by 2^-8 of itself at most and by 2^-9.2 in the mean square over all significands, a
// product of two, and a sum of such products of random signs, by sqrt(2) of that.  n products in a row
// add their errors by squares.  A gradient has passed those of the forward pass, and two for each on its
// way back.  That is the mean square over many elements: half of all tensors must keep to it, one of a
// few elements, or of sums that almost cancel, to BF16_FEW times as much.
#define BF16_ROUNDING (0.00235 * sqrt(3.0 * bf16_products))
enum { BF16_FEW = 8 };
static int bf16_products;              // forward, of the case that runs
static double bf16_ratio[1 << 14];     // of all tensors so far: error / BF16_ROUNDING
static int bf16_ratios;

static void bf16_tensor(const char *what, int i, const float *wide, const float *narrow, size_t n)
{
    double off = 0, all = 0;
    for (size_t e = 0; e < n; e++) {
        off += ((double)wide[e] - (double)narrow[e]) * ((double)wide[e] - (double)narrow[e]);
        all += (double)wide[e] * (double)wide[e];
    }
    if (!bf16_products || all < 1e-12 * (double)n) {       // nothing was multiplied, or nothing flows
        if (!CHECK(off <= 1e-12 * all || off < 1e-14 * (double)n)) printf("  %s: %d has other bits\n", what, i);
        return;
    }
    double ratio = sqrt(off / all) / BF16_ROUNDING;
    if (bf16_ratios < 1 << 14) bf16_ratio[bf16_ratios++] = ratio;
    if (!CHECK(ratio <= BF16_FEW)) printf("  %s: %d is off by %.3g of its size, %.3g times what rounding explains\n",
                                          what, i, sqrt(off / all), ratio);
}

static int bf16_less(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// After some cases: half of their tensors keep to the bound; nor is nothing rounded.
static void bf16_half(void)
{
    qsort(bf16_ratio, (size_t)bf16_ratios, sizeof *bf16_ratio, bf16_less);
    double median = bf16_ratios ? bf16_ratio[bf16_ratios / 2] : 0;
    if (!CHECK(bf16_ratios > 20 && median <= 1 && median > 1.0 / 16))
        printf("  %s: the median of %d tensors is %.3g times what rounding explains\n", test__now.name, bf16_ratios,
               median);
    if (getenv("GLAM_TEST_SHOW")) printf("%s: %d tensors, median %.3f, worst %.3f\n", test__now.name, bf16_ratios,
                                         median, bf16_ratios ? bf16_ratio[bf16_ratios - 1] : 0);
    bf16_ratios = 0;
}

// Checks one case: its gradients in bf16 beside those in f32.  Returns the largest gradient seen.
static double world_check(grad_case *make, const char *what, int variant, const void *more,
                          uint64_t seed)
{
    world w[2];
    double largest = 0;
    for (int i = 0; i < 2; i++) {
        memset(&w[i], 0, sizeof w[i]);
        arithmetic = i ? GLAM_BF16 : GLAM_F32;
        w[i].ctx = world_ctx();
        w[i].seed = seed;
        w[i].variant = variant;
        w[i].more = more;
        double value = world_loss(&w[i], make, 1);
        if (!CHECK(glam_error(w[i].ctx) == GLAM_OK && value == value))
            printf("  %s: %s\n", what, glam_error_text(w[i].ctx));
    }
    arithmetic = GLAM_F32;
    for (int p = 0; p < w[0].count && CHECK(w[1].count == w[0].count); p++) {
        const glam_tensor *a = w[0].param[p], *b = w[1].param[p];
        if (!CHECK(!a->grad == !b->grad) || !a->grad) continue;
        for (size_t i = 0; i < glam_size(a); i++) largest = fmax(largest, fabs((double)a->grad[i]));
        bf16_tensor(what, p, a->grad, b->grad, glam_size(a));
    }
    for (int i = 0; i < 2; i++) glam_close(w[i].ctx);
    return largest;
}

#else

// Largest |difference| / largest |gradient| of each tensor; elements are looked at evenly spread.
static double world_check_tensor(world *w, grad_case *make, glam_tensor *t, const float *grad)
{
    size_t n = glam_size(t), stride = n / MOST_LOOKED_AT + 1;
    double worst = 0, top = 1e-3;
    for (size_t i = 0; i < n; i++) if (fabs(grad[i]) > top) top = fabs(grad[i]);
    for (size_t i = 0; i < n; i += stride) {
        double was = t->data[i];
        t->data[i] = was + STEP;
        double up = world_loss(w, make, 0);
        glam_forget(w->ctx);
        t->data[i] = was - STEP;
        double down = world_loss(w, make, 0);
        glam_forget(w->ctx);
        t->data[i] = was;
        double off = fabs((up - down) / (2 * STEP) - grad[i]) / top;
        if (!(off <= worst)) worst = off;
    }
    return worst;
}

// Checks one case; what names it in a failure.  Returns the largest gradient seen.
static double world_check(grad_case *make, const char *what, int variant, const void *more,
                          uint64_t seed)
{
    world w;
    double largest = 0;
    memset(&w, 0, sizeof w);
    w.ctx = world_ctx();
    w.seed = seed;
    w.variant = variant;
    w.more = more;
    double value = world_loss(&w, make, 1);
    if (!CHECK(glam_error(w.ctx) == GLAM_OK && value == value)) {
        printf("  %s: %s\n", what, glam_error_text(w.ctx));
        glam_close(w.ctx);
        return 0;
    }
    float *grads[MOST_PARAMS];
    for (int p = 0; p < w.count; p++) {
        size_t n = glam_size(w.param[p]);
        grads[p] = (float *)calloc(n, sizeof(float));
        if (w.param[p]->grad) memcpy(grads[p], w.param[p]->grad, n * sizeof(float));
        for (size_t i = 0; i < n; i++) if (fabs(grads[p][i]) > largest) largest = fabs(grads[p][i]);
    }
    glam_forget(w.ctx);
    for (int p = 0; p < w.count; p++) {
        double off = world_check_tensor(&w, make, w.param[p], grads[p]);
        if (!CHECK(off <= BOUND)) printf("  %s: parameter %d is off by %.3g\n", what, p, off);
        free(grads[p]);
    }
    if (!CHECK(glam_error(w.ctx) == GLAM_OK)) printf("  %s: %s\n", what, glam_error_text(w.ctx));
    glam_close(w.ctx);
    return largest;
}

#endif

// --- small ops -----------------------------------------------------------------------------------

// Element-wise pairs: variant 0 equal shapes, 1 and 4 a suffix, 2 one element, 3 the same tensor
// on both sides (through exp where x op x is constant).
static glam_tensor *pair(world *w, glam_tensor *(*op)(glam_ctx *, glam_tensor *, glam_tensor *))
{
    glam_tensor *a = par(w, glam_dim3(2, 3, 5), 1.5, 1);
    glam_tensor *b = a;
    if (w->variant == 0) b = par(w, glam_dim3(2, 3, 5), 2, 0.7);
    if (w->variant == 1) b = par(w, glam_dim1(5), 2, 0.7);
    if (w->variant == 2) b = par(w, glam_dim1(1), 2, 0.7);
    if (w->variant == 3 && (op == glam_sub || op == glam_div)) b = glam_exp(w->ctx, a);
    if (w->variant == 4) b = par(w, glam_dim2(3, 5), 2, 0.7);
    return dot(w, op(w->ctx, a, b));
}

static glam_tensor *case_add(world *w) { return pair(w, glam_add); }
static glam_tensor *case_sub(world *w) { return pair(w, glam_sub); }
static glam_tensor *case_mul(world *w) { return pair(w, glam_mul); }
static glam_tensor *case_div(world *w) { return pair(w, glam_div); }

static glam_tensor *unary(world *w, glam_tensor *(*op)(glam_ctx *, glam_tensor *), double middle,
                          double spread)
{
    return dot(w, op(w->ctx, par(w, glam_dim2(3, 7), middle, spread)));
}

static glam_tensor *case_exp(world *w)      { return unary(w, glam_exp, 0, 2); }
static glam_tensor *case_log(world *w)      { return unary(w, glam_log, 2, 1.5); }
static glam_tensor *case_tanh(world *w)     { return unary(w, glam_tanh, 0, 3); }
static glam_tensor *case_sigmoid(world *w)  { return unary(w, glam_sigmoid, 0, 4); }
static glam_tensor *case_gelu(world *w)     { return unary(w, glam_gelu, 0, 3); }
static glam_tensor *case_gelu_erf(world *w) { return unary(w, glam_gelu_erf, 0, 3); }
static glam_tensor *case_silu(world *w)     { return unary(w, glam_silu, 0, 4); }
static glam_tensor *case_softmax(world *w)  { return unary(w, glam_softmax, 0, 3); }
static glam_tensor *case_relu(world *w)
{
    return dot(w, glam_relu(w->ctx, par_off_zero(w, glam_dim2(3, 7))));
}
static glam_tensor *case_scale(world *w)
{
    return dot(w, glam_scale(w->ctx, par(w, glam_dim2(3, 7), 0, 1), -1.75));
}
static glam_tensor *case_transpose(world *w) { return unary(w, glam_transpose, 0, 1); }
static glam_tensor *case_sum(world *w)
{
    glam_tensor *s = glam_sum(w->ctx, par(w, glam_dim2(3, 7), 0.3, 1));
    return glam_mul(w->ctx, s, s);
}
static glam_tensor *case_mean(world *w)
{
    glam_tensor *s = glam_mean(w->ctx, par(w, glam_dim2(3, 7), 0.3, 1));
    return glam_mul(w->ctx, s, s);
}
static glam_tensor *case_view(world *w)
{
    glam_tensor *x = par(w, glam_dim2(3, 8), 0, 1);
    return dot(w, glam_exp(w->ctx, glam_view(w->ctx, glam_tanh(w->ctx, x), glam_dim3(2, 2, 6))));
}
static glam_tensor *case_slice(world *w)
{
    glam_tensor *x = par(w, glam_dim3(5, 2, 3), 0, 1);
    return glam_add(w->ctx, dot(w, glam_slice(w->ctx, x, 1, 3)),
                    dot(w, glam_slice(w->ctx, x, 3, 2)));
}
static glam_tensor *case_concat(world *w)
{
    glam_tensor *a = par(w, glam_dim3(2, 2, 3), 0, 1), *b = par(w, glam_dim3(3, 2, 3), 0, 1);
    return dot(w, glam_concat(w->ctx, a, w->variant ? a : b));
}

// Sizes just past the tiles of the kernels.
static glam_tensor *case_matmul(world *w)
{
    static const int sizes[3][3] = { { 3, 5, 7 }, { 1, 1, 1 }, { 17, 9, 33 } };
    const int *n = sizes[w->variant];
    glam_tensor *x = par(w, glam_dim3(2, n[0], n[1]), 0, 1), *k = par(w, glam_dim2(n[1], n[2]), 0, 1);
    return dot(w, glam_matmul(w->ctx, x, k));
}
static glam_tensor *case_matmul_t(world *w)
{
    static const int sizes[3][3] = { { 3, 5, 7 }, { 1, 1, 1 }, { 17, 9, 33 } };
    const int *n = sizes[w->variant];
    glam_tensor *x = par(w, glam_dim3(2, n[0], n[1]), 0, 1), *k = par(w, glam_dim2(n[2], n[1]), 0, 1);
    return dot(w, glam_matmul_t(w->ctx, x, k));
}
// One tensor as both operands: the two gradients meet in one buffer.
static glam_tensor *case_matmul_self(world *w)
{
    glam_tensor *x = par(w, glam_dim2(5, 5), 0, 1);
    return dot(w, w->variant ? glam_matmul_t(w->ctx, x, x) : glam_matmul(w->ctx, x, x));
}

static glam_tensor *case_layernorm(world *w)
{
    glam_tensor *x = par(w, glam_dim3(2, 3, 7), 0.2, 1), *g = par(w, glam_dim1(7), 1, 0.5);
    glam_tensor *b = w->variant ? NULL : par(w, glam_dim1(7), 0, 0.5);
    return dot(w, glam_layernorm(w->ctx, x, g, b, 1e-5));
}
static glam_tensor *case_rmsnorm(world *w)
{
    glam_tensor *x = par(w, glam_dim3(2, 3, 7), 0.2, 1), *g = par(w, glam_dim1(7), 1, 0.5);
    return dot(w, glam_rmsnorm(w->ctx, x, g, w->variant ? 0.1 : 1e-6));
}
static glam_tensor *case_embed(world *w)
{
    static const int32_t ids[7] = { 3, 0, 3, 4, 1, 3, 0 }, mask[7] = { 1, 1, 0, 1, 1, 1, 0 };
    static const int32_t wild[7] = { 3, 0, 99, 4, 1, 3, -5 };
    glam_tensor *table = par(w, glam_dim2(5, 3), 0, 1);
    return dot(w, glam_embed(w->ctx, table, w->variant ? wild : ids, 7, w->variant ? mask : NULL));
}
static glam_tensor *case_dropout(world *w)
{
    return dot(w, glam_dropout(w->ctx, par(w, glam_dim2(9, 7), 0, 1), 0.3, 42));
}
static glam_tensor *case_mse(world *w)
{
    glam_tensor *x = par(w, glam_dim2(3, 7), 0, 1);
    return glam_mse(w->ctx, x, w->variant ? con(w, glam_dim2(3, 7)) : par(w, glam_dim2(3, 7), 0, 1));
}
static glam_tensor *case_cross_entropy(world *w)
{
    static const int32_t targets[6] = { 0, 8, 3, 3, 1, 7 }, mask[6] = { 1, 0, 1, 1, 0, 1 };
    static const int32_t wild[6] = { 0, 99, 3, 3, -1, 7 };
    glam_tensor *x = par(w, glam_dim2(6, 9), 0, 3);
    glam_tensor *c = glam_cross_entropy(w->ctx, x, w->variant ? wild : targets, w->variant ? mask : NULL);
    return glam_mul(w->ctx, c, c);
}

// --- attention -----------------------------------------------------------------------------------

typedef struct attention_variant {
    int position, sink, norm, segments, S, heads, D;
    double cap;
    int kv_heads, qk_norm, scaling;
} attention_variant;

static glam_tensor *case_attention(world *w)
{
    const attention_variant *a = (const attention_variant *)w->more;
    static const int32_t packed[10] = { 1, 1, 2, 2, 2, 0, 3, 3, 0, 1 };
    int M = 6, A = a->heads * a->D, K = a->kv_heads ? a->kv_heads * a->D : A, rows = a->segments ? 2 : (a->S > 20 ? 1 : 2);
    glam_attention_config c;
    glam_attention_weights t;
    memset(&c, 0, sizeof c);
    memset(&t, 0, sizeof t);
    c.heads = a->heads;
    c.d_head = a->D;
    c.position = (glam_position)a->position;
    c.buckets = 6;
    c.max_distance = 40;
    c.scale = 0.6;
    c.sink = a->sink;
    c.norm_eps = 1e-6;
    c.cap = a->cap;
    c.kv_heads = a->kv_heads;
    c.qk_norm = (glam_qk_norm)a->qk_norm;
    c.rotary.theta = 50;
    c.rotary.scaling = (glam_rotary_scaling)a->scaling;
    c.rotary.factor = 3;
    glam_tensor *x = par(w, glam_dim3(rows, a->S, M), 0.1, 1);
    if (a->norm) t.norm = par(w, glam_dim1(M), 1, 0.4);
    t.q = par(w, glam_dim2(M, A), 0, 0.7);
    t.k = par(w, glam_dim2(M, K), 0, 0.7);
    t.v = par(w, glam_dim2(M, K), 0, 0.7);
    if (a->qk_norm) {
        t.q_norm = par(w, glam_dim1(a->qk_norm == 2 ? A : a->D), 1, 0.4);
        t.k_norm = par(w, glam_dim1(a->qk_norm == 2 ? K : a->D), 1, 0.4);
    }
    t.o = par(w, glam_dim2(A, M), 0, 0.7);
    if (a->position == 0) t.bias = par(w, glam_dim2(a->heads, 6), 0, 0.5);
    if (a->position == 1) {
        t.r = par(w, glam_dim2(M, A), 0, 0.5);
        t.u = par(w, glam_dim2(a->heads, a->D), 0, 0.5);
        t.v_bias = par(w, glam_dim2(a->heads, a->D), 0, 0.5);
    }
    return dot(w, glam_attention(w->ctx, x, &t, &c, a->segments ? packed : NULL));
}

static void check_attention(void)
{
    char what[96];
    for (int i = 0; i < 48; i++) {
        attention_variant a = { i % 3, i / 3 % 2, i / 6 % 2, i / 12 % 2, 5, 2, 3, i / 24 ? 0.8 : 0,
                                0, 0, 0 };
        sprintf(what, "attention position %d sink %d norm %d segments %d cap %g", a.position, a.sink,
                a.norm, a.segments, a.cap);
        CHECK(world_check(case_attention, what, 0, &a, 3 + (uint64_t)i) > 1e-3);
    }
    // Rotary with each scaling, grouped heads, norms of queries and keys, with other positions too; 70 tokens: two
    // chunks of rows.
    for (int i = 0; i < 24; i++) {
        attention_variant a = { i % 6 < 4 ? 3 : i % 3, i % 2, i / 2 % 2, i / 3 % 2, i % 8 ? 5 : 70, 4, 4,
                                i % 5 ? 0 : 0.8, i % 3 == 0 ? 0 : i % 3, (i / 2 + i / 6 + 1) % 3, i % 4 };
        if (a.S > 10) a.segments = 0;
        sprintf(what, "attention position %d kv_heads %d qk_norm %d scaling %d S %d", a.position, a.kv_heads,
                a.qk_norm, a.scaling, a.S);
        CHECK(world_check(case_attention, what, 0, &a, 60 + (uint64_t)i) > 1e-3);
    }
    // Longer than any tile of queries or keys is likely to be.
    for (int i = 0; i < 6; i++) {
        attention_variant a = { i % 3, 1, 1, 0, 71, 3, 5, i / 3 ? 1.2 : 0, 0, 0, 0 };
        sprintf(what, "long attention position %d cap %g", a.position, a.cap);
        CHECK(world_check(case_attention, what, 0, &a, 31) > 1e-3);
    }
    // Heads of more columns than a panel, the last panel not full.
    for (int position = 0; position < 4; position++) {
        attention_variant a = { position, 0, 0, 0, 4, 2, 2 * GLAM__BASE_NR + 2, 0, 1, 1, 0 };
        sprintf(what, "wide attention position %d", position);
        CHECK(world_check(case_attention, what, 0, &a, 91) > 1e-3);
    }
}

// --- feed-forward --------------------------------------------------------------------------------

static glam_tensor *case_ffn(world *w)
{
    static const glam_activation kinds[4] = { GLAM_GELU_TANH, GLAM_GELU_ERF, GLAM_GEGLU_LITERAL,
                                             GLAM_SWIGLU };
    glam_ffn_weights t;
    memset(&t, 0, sizeof t);
    glam_tensor *x = par(w, glam_dim3(2, 3, 5), 0.1, 1);
    if (w->variant % 2) t.norm = par(w, glam_dim1(5), 1, 0.4);
    t.gate = par(w, glam_dim2(5, 7), 0, 1);
    t.up = par(w, glam_dim2(5, 7), 0, 1);
    t.down = par(w, glam_dim2(7, 5), 0, 1);
    return dot(w, glam_ffn(w->ctx, x, &t, kinds[w->variant / 2], 1e-6));
}

// --- the mixture ---------------------------------------------------------------------------------

typedef struct moe_variant {
    int k, activation, normalise, drops, group, norm, mask;
    double aux, z;
    int only_balance;
    double cap;
    int router, score, bias;
    double temperature, weight_scale;      // 0: 1
} moe_variant;

enum { MOE_T = 12, MOE_M = 5, MOE_H = 3, MOE_E = 4 };

static const int32_t moe_mask[MOE_T] = { 1, 1, 0, 1, 1, 1, 1, 0, 1, 1, 1, 0 };

// The smallest gap that decides anything: between neighbours of the best k+1 probabilities of a
// token, and between an expert's hidden value and the kink of ReLU.
static double moe_margin(const glam_tensor *x, const glam_moe_weights *t, const glam_routing *r,
                         const moe_variant *v)
{
    double margin = 1;
    for (int i = 0; i < MOE_T; i++) {
        double p[MOE_E];
        for (int e = 0; e < MOE_E; e++) p[e] = r->probability[i * MOE_E + e];
        for (int a = 0; a < MOE_E; a++) {
            for (int b = a + 1; b < MOE_E; b++) {
                if (p[b] > p[a]) { double s = p[a]; p[a] = p[b]; p[b] = s; }
            }
        }
        for (int a = 0; a < v->k && a + 1 < MOE_E; a++) {
            if (p[a] - p[a + 1] < margin) margin = p[a] - p[a + 1];
        }
        double sum = 0, row[MOE_M];
        for (int m = 0; m < MOE_M; m++) sum += x->data[i * MOE_M + m] * x->data[i * MOE_M + m];
        for (int m = 0; m < MOE_M; m++) {
            row[m] = x->data[i * MOE_M + m];
            if (t->norm) row[m] *= t->norm->data[m] / sqrt(sum / MOE_M + 1e-6);
        }
        for (int e = 0; v->activation == GLAM_RELU && e < MOE_E; e++) {
            for (int h = 0; h < MOE_H; h++) {
                double up = 0;
                for (int m = 0; m < MOE_M; m++) {
                    up += row[m] * t->up->data[(e * MOE_M + m) * MOE_H + h];
                }
                if (fabs(up) / NARROW < margin) margin = fabs(up) / NARROW;
            }
        }
    }
    return margin;
}

static glam_tensor *case_moe(world *w)
{
    const moe_variant *v = (const moe_variant *)w->more;
    glam_moe_config c = glam_moe_config_default();
    glam_moe_weights t;
    glam_routing r;
    glam_tensor *balance = NULL;
    memset(&t, 0, sizeof t);
    c.experts = MOE_E;
    c.top_k = v->k;
    c.hidden = MOE_H;
    c.activation = (glam_activation)v->activation;
    c.normalise = (glam_normalise)v->normalise;
    c.capacity_factor = 0;
    c.capacity = v->drops ? (v->group ? 1 : 2) * v->k : 0;
    c.group = v->group;
    c.aux_weight = v->aux;
    c.router_z_weight = v->z;
    c.router_cap = v->cap;
    c.router = (glam_router)v->router;
    c.score = (glam_router_score)v->score;
    if (v->temperature > 0) c.temperature = v->temperature;
    if (v->weight_scale > 0) c.weight_scale = v->weight_scale;
    glam_tensor *x = par(w, glam_dim3(2, MOE_T / 2, MOE_M), 0.2, 1);
    if (v->norm) t.norm = par(w, glam_dim1(MOE_M), 1, 0.4);
    t.router = par(w, glam_dim2(MOE_M, MOE_E), 0, 1);
    if (v->router == GLAM_ROUTER_NOISY) t.noise = par(w, glam_dim2(MOE_M, MOE_E), 0.1, 0.7);
    float shift[MOE_E] = { 0.3, -0.2, 0.1, 0 };
    if (v->bias) t.bias = glam_input(w->ctx, shift, glam_dim1(MOE_E));
    t.up = par(w, glam_dim3(MOE_E, MOE_M, MOE_H), 0, 1);
    t.down = par(w, glam_dim3(MOE_E, MOE_H, MOE_M), 0, 1);
    if (v->activation == GLAM_GEGLU || v->activation == GLAM_SWIGLU) {
        t.gate = par(w, glam_dim3(MOE_E, MOE_M, MOE_H), 0, 1);
    }
    glam_tensor *y = v->mask
        ? glam_moe_masked(w->ctx, x, moe_mask, &t, &c, &r, &balance)
        : glam_moe(w->ctx, x, &t, &c, &r, &balance);
    // what is drawn or taken has gaps of its own; with these seeds nothing is close to a tie
    if (y) w->margin = v->router || v->bias ? 1 : moe_margin(x, &t, &r, v);
    if (y && v->router == GLAM_ROUTER_RANDOM && v->k > 1) {
        int skipped = 0;
        for (int i = 0; i < MOE_T * v->k; i++) skipped += r.slot[i] == -2;
        if (!skipped) w->margin = 0;
    }
    // A case that is meant to drop must.
    if (y && v->drops && r.dropped == 0) w->margin = 0;
    if (v->only_balance) return glam_mul(w->ctx, balance, balance);
    return glam_add(w->ctx, dot(w, y), glam_scale(w->ctx, balance, 3));
}

static uint64_t case_moe_seed(const moe_variant *v)
{
    for (uint64_t seed = 1; seed < 5000; seed++) {
        world w;
        memset(&w, 0, sizeof w);
        w.ctx = world_ctx();
        w.seed = seed;
        w.more = v;
        world_loss(&w, case_moe, 0);
        int bad = glam_error(w.ctx) != GLAM_OK;
        if (bad) printf("  mixture: %s\n", glam_error_text(w.ctx));
        glam_close(w.ctx);
        if (bad) return 0;
        if (w.margin >= 1e-3) return seed;
    }
    return 0;
}

static double check_moe_variant(const moe_variant *v)
{
    char what[160];
    sprintf(what, "moe k %d act %d normalise %d drops %d group %d norm %d mask %d aux %g z %g cap %g "
            "router %d score %d bias %d", v->k, v->activation, v->normalise, v->drops, v->group, v->norm,
            v->mask, v->aux, v->z, v->cap, v->router, v->score, v->bias);
    uint64_t seed = case_moe_seed(v);
    if (!CHECK(seed != 0)) {
        printf("  no fair seed for %s\n", what);
        return 0;
    }
    return world_check(case_moe, what, 0, v, seed);
}

static void check_moe(void)
{
    static const int kinds[5] = { GLAM_RELU, GLAM_GELU_TANH, GLAM_GEGLU, GLAM_SWIGLU, GLAM_GELU_ERF };
    for (int normalise = 0; normalise < 3; normalise++) {
        for (int drops = 0; drops < 2; drops++) {
            for (int k = 1; k <= 3; k++) {
                for (int a = 0; a < 5; a++) {
                    moe_variant v = { k, kinds[a], normalise, drops, 0, (k + a) % 2, 0, 0.3, 0.2, 0, 0 };
                    CHECK(check_moe_variant(&v) > 1e-3);
                }
            }
        }
    }
    // Top-k equal to the number of experts; groups; masks; both.
    for (int i = 0; i < 12; i++) {
        moe_variant v = { 2, kinds[i % 4], i % 3, i / 6, i % 2 ? 6 : 4, i / 3 % 2, i % 4 != 0, 0.3, 0.2, 0, 0 };
        CHECK(check_moe_variant(&v) > 1e-3);
    }
    moe_variant every = { MOE_E, GLAM_GEGLU, 0, 0, 0, 1, 0, 0.3, 0.2, 0, 0 };
    CHECK(check_moe_variant(&every) > 1e-3);
    // A cap on the router: every way to normalise, dropless and with drops, with groups and a mask.
    for (int i = 0; i < 12; i++) {
        moe_variant v = { 1 + i % 2, GLAM_GEGLU, i % 3, i / 3 % 2, i / 6 ? 6 : 0, i % 2, i / 6, 0.3, 0.2,
                          0, 0.7 };
        CHECK(check_moe_variant(&v) > 1e-3);
    }
}

// Every row of the router table that has a gradient, both scores, all ways to normalise, with drops, with
// groups and a mask; a bias, a temperature, a scale of the weights, a cap.
static void check_routers(void)
{
    static const int routers[] = { GLAM_ROUTER_TOP_K, GLAM_ROUTER_SAMPLED, GLAM_ROUTER_RANDOM,
                                   GLAM_ROUTER_NOISY, GLAM_ROUTER_EXPERT_CHOICE };
    for (int i = 0; i < 30; i++) {
        int ahead = routers[i % 5] == GLAM_ROUTER_EXPERT_CHOICE, sigmoid = i / 5 % 2;
        moe_variant v = { 2, GLAM_GEGLU, i % 3, i / 10 == 1 && !ahead, i / 10 == 2 ? 6 : 0, i % 2,
                          i / 10 == 2, 0.3, sigmoid ? 0 : 0.2, 0, i % 4 ? 0 : 0.7, routers[i % 5],
                          sigmoid, !ahead && i % 2, i % 3 ? 0 : 1.7, i % 3 == 1 ? 2.5 : 0 };
        CHECK(check_moe_variant(&v) > 1e-3);
    }
    for (int sigmoid = 0; sigmoid < 2; sigmoid++) {            // the balance loss alone, of q = s / sum s
        moe_variant v = { 2, GLAM_GEGLU, 0, 0, 4, 1, 1, 1, 0, 1, 0, 0, sigmoid, 0, 1.3, 0 };
        CHECK(check_moe_variant(&v) > 1e-3);
    }
}

// The balance loss alone, the router's z-loss alone, each with mask and groups.
static void check_balance(void)
{
    for (int i = 0; i < 16; i++) {
        moe_variant v = { 2, GLAM_GEGLU, 0, i / 4 % 2, i % 2 ? 4 : 0, 1, i / 2 % 2, 1, 0, 1,
                          i / 8 ? 0.9 : 0 };
        CHECK(check_moe_variant(&v) > 1e-3);
        v.aux = 0;
        v.z = 1;
        CHECK(check_moe_variant(&v) > 1e-3);
    }
}

// --- recomputation -------------------------------------------------------------------------------

static glam_tensor *again_block(glam_ctx *ctx, void *arg, glam_tensor *x, glam_tensor **extra)
{
    world *w = (world *)arg;
    glam_moe_config c = glam_moe_config_default();
    glam_moe_weights t;
    memset(&t, 0, sizeof t);
    c.experts = 3;
    c.hidden = 3;
    c.activation = GLAM_GEGLU;
    c.aux_weight = 0.5;
    int next = w->next;
    t.norm = par(w, glam_dim1(5), 1, 0.4);
    t.router = par(w, glam_dim2(5, 3), 0, 2);
    t.up = par(w, glam_dim3(3, 5, 3), 0, 1);
    t.down = par(w, glam_dim3(3, 3, 5), 0, 1);
    t.gate = par(w, glam_dim3(3, 5, 3), 0, 1);
    if (w->variant == 2) extra = NULL;
    glam_tensor *y = glam_moe(ctx, glam_tanh(ctx, x), &t, &c, NULL, extra);
    w->next = next;                                   // the block runs more than once per loss
    return y;
}

static glam_tensor *case_recompute(world *w)
{
    glam_tensor *x = par(w, glam_dim2(7, 5), 0, 1), *extra = NULL, *more = NULL;
    glam_tensor *hot = glam_exp(w->ctx, x), *y;
    if (w->variant == 3) y = again_block(w->ctx, w, hot, &extra);
    else y = glam_recompute(w->ctx, again_block, w, hot, &extra);
    if (w->variant == 1) y = glam_recompute(w->ctx, again_block, w, y, &more);
    glam_tensor *loss = dot(w, y);
    if (extra) loss = glam_add(w->ctx, loss, extra);
    if (more) loss = glam_add(w->ctx, loss, more);
    return loss;
}

// --- a whole model -------------------------------------------------------------------------------

typedef struct model_variant {
    int position, tied, activation, k, normalise, capacity, packed, capped, family;
} model_variant;

typedef struct model_world { glam_model *model; glam_batch batch; const model_variant *v; } model_world;

static double model_loss(model_world *m, int tape)
{
    glam_ctx *ctx = glam_model_ctx(m->model);
    int before = glam_no_grad(ctx, !tape);
    glam_losses losses;
    glam_tensor *loss = glam_loss(m->model, &m->batch, GLAM_TRAIN, &losses);
    double value = loss ? loss->data[0] : NAN;
    if (tape) glam_backward(ctx, loss);
    glam_no_grad(ctx, before);
    return value;
}

static glam_model *model_make(const model_variant *v, uint64_t seed)
{
    glam_options options = glam_options_default();
    options.pack_bytes = 0;
    options.seed = seed;
#ifdef GRADIENT_BF16
    options.arithmetic = arithmetic;
#endif
    glam_ctx *ctx = glam_open(&options);
    glam_config c = glam_config_default();
    c.vocab = 11;
    c.context = 7;
    c.layers = 2;
    c.d_model = 6;
    c.heads = 2;
    c.d_head = 5;
    c.hidden = 7;
    c.position = (glam_position)v->position;
    c.buckets = 4;
    c.max_distance = 9;
    c.tied = v->tied;
    c.attention_sink = v->tied;
    c.z_loss = 0.05;
    c.moe.experts = 3;
    c.moe.hidden = 5;
    c.moe.top_k = v->k;
    c.moe.activation = (glam_activation)v->activation;
    c.moe.normalise = (glam_normalise)v->normalise;
    c.moe.capacity = v->capacity;
    c.moe.group = v->capacity ? 7 : 0;
    c.moe.aux_weight = 0.1;
    c.moe.router_z_weight = 0.05;
    if (v->capped) {
        c.attention_cap = 0.6;
        c.moe.router_cap = 0.9;
        c.logit_cap = 0.8;
    }
    if (v->family) {                       // heads in groups, norms, scales, a gated dense layer
        c.heads = 4;
        c.d_head = 4;
        c.kv_heads = v->family == 2 ? 4 : 2;
        c.qk_norm = v->family == 2 ? GLAM_QK_NORM_WHOLE : GLAM_QK_NORM_HEAD;
        c.embed_scale = 1.7;
        c.residual_scale = 0.4;
        c.activation = GLAM_SWIGLU;
        c.rotary.scaling = GLAM_ROTARY_YARN;
        c.rotary.factor = 2;
    }
    glam_model *model = glam_model_new(ctx, &c);
    if (!CHECK(model != NULL)) {
        printf("  model: %s\n", glam_error_text(ctx));
        glam_close(ctx);
    }
    return model;
}

static double model_margin(glam_model *model)
{
    const glam_routing *r = glam_model_routing(model, 0);
    double margin = 1;
    for (int t = 0; r && t < r->tokens; t++) {
        const float *p = r->probability + t * 3;
        if (r->expert[t * r->top_k] < 0) continue;
        for (int i = 0; i < 3; i++) {
            double gap = fabs(p[i] - p[(i + 1) % 3]);
            if (gap < margin) margin = gap;
        }
    }
    return r ? margin : 0;
}

static void model_check(const model_variant *v, const char *what)
{
    static const int32_t tokens[14] = { 1, 2, 3, 4, 5, 6, 7, 10, 9, 8, 3, 3, 0, 1 };
    static const int32_t targets[14] = { 2, 3, 4, 5, 6, 7, 0, 9, 8, 3, 3, 0, 1, 10 };
    static const int32_t some[14] = { 2, 3, -1, 5, 6, -1, -1, 9, 8, -1, 3, 0, 1, 10 };
    static const int32_t mask[14] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 0 };
    static const int32_t segments[14] = { 1, 1, 1, 2, 2, 2, 2, 1, 1, 1, 1, 1, 3, 3 };
    model_world m;
    memset(&m, 0, sizeof m);
    m.batch.rows = 2;
    m.batch.length = 7;
    m.batch.tokens = tokens;
    m.batch.targets = targets;
    if (v->packed) {
        m.batch.targets = some;
        m.batch.mask = mask;
        m.batch.segments = segments;
    }
    // The first seed with which no routing decision is near a tie.
    uint64_t seed = 1;
    for (; seed < 500; seed++) {
        m.model = model_make(v, seed);
        if (!m.model) return;
        if (model_loss(&m, 0) == 0) printf("  a loss of exactly zero\n");
        double margin = model_margin(m.model);
        glam_forget(glam_model_ctx(m.model));
        if (margin >= 1e-3 * NARROW) break;
        glam_close(glam_model_ctx(m.model));
        m.model = NULL;
    }
    if (!CHECK(m.model != NULL)) return;
    glam_ctx *ctx = glam_model_ctx(m.model);
    model_loss(&m, 1);
    float *grads[128];
    int count = 0;
    for (; count < 128 && glam_model_tensor_at(m.model, count); count++) {
        glam_tensor *t = glam_model_tensor_at(m.model, count);
        grads[count] = (float *)calloc(glam_size(t), sizeof(float));
        if (t->grad) memcpy(grads[count], t->grad, glam_size(t) * sizeof(float));
    }
    glam_forget(ctx);
#ifdef GRADIENT_BF16
    model_world again = m;
    arithmetic = GLAM_BF16;
    again.model = model_make(v, seed);
    arithmetic = GLAM_F32;
    model_loss(&again, 1);
    for (int i = 0; i < count; i++) {
        const glam_tensor *t = glam_model_tensor_at(again.model, i);
        if (t->grad) bf16_tensor(what, i, grads[i], t->grad, glam_size(t));
        free(grads[i]);
    }
    count = 0;                                         // no differences
    glam_close(glam_model_ctx(again.model));
#endif
    for (int i = 0; i < count; i++) {
        glam_tensor *t = glam_model_tensor_at(m.model, i);
        size_t n = glam_size(t), stride = n / MOST_LOOKED_AT + 1;
        double top = 1e-3, worst = 0;
        for (size_t e = 0; e < n; e++) if (fabs(grads[i][e]) > top) top = fabs(grads[i][e]);
        for (size_t e = 0; e < n; e += stride) {
            double was = t->data[e], up, down;
            t->data[e] = was + STEP;
            up = model_loss(&m, 0);
            glam_forget(ctx);
            t->data[e] = was - STEP;
            down = model_loss(&m, 0);
            glam_forget(ctx);
            t->data[e] = was;
            double off = fabs((up - down) / (2 * STEP) - grads[i][e]) / top;
            if (!(off <= worst)) worst = off;
        }
        if (!CHECK(worst <= BOUND)) printf("  %s: %s is off by %.3g\n", what, t->name, worst);
        free(grads[i]);
    }
    if (!CHECK(glam_error(ctx) == GLAM_OK)) printf("  %s: %s\n", what, glam_error_text(ctx));
    glam_close(ctx);
}

static void gradient_model(void)
{
    for (int i = 0; i < 16; i++) {                         // the last four: other families
        model_variant v = { i < 12 ? i % 3 : 3, i % 2, i % 2 ? GLAM_SWIGLU : GLAM_GEGLU, 1 + i % 3, i % 3,
                            i % 6 < 3 ? 0 : 2, i / 2 % 2, i / 6 % 2, i < 12 ? 0 : 1 + i % 2 };
        char what[64];
        sprintf(what, "model %d", i);
        model_check(&v, what);
    }
}

// --- the table -----------------------------------------------------------------------------------

// One row per way to reach an op.  The names are those of the rows in glam__ops.
static const struct grad_row { const char *op, *what; grad_case *make; int variants; } grad_rows[] = {
    { "pair", "add", case_add, 5 },              { "pair", "sub", case_sub, 5 },
    { "pair", "mul", case_mul, 5 },              { "pair", "div", case_div, 5 },
    { "unary", "exp", case_exp, 1 },             { "unary", "log", case_log, 1 },
    { "unary", "tanh", case_tanh, 1 },           { "unary", "sigmoid", case_sigmoid, 1 },
    { "unary", "relu", case_relu, 1 },           { "unary", "gelu", case_gelu, 1 },
    { "unary", "gelu_erf", case_gelu_erf, 1 },   { "unary", "silu", case_silu, 1 },
    { "scale", "scale", case_scale, 1 },         { "scale", "view", case_view, 1 },
    { "matmul", "matmul", case_matmul, 3 },      { "matmul", "matmul x x", case_matmul_self, 2 },
    { "matmul", "matmul_t", case_matmul_t, 3 },  { "transpose", "transpose", case_transpose, 1 },
    { "slice", "slice", case_slice, 1 },         { "concat", "concat", case_concat, 2 },
    { "sum", "sum", case_sum, 1 },               { "sum", "mean", case_mean, 1 },
    { "softmax", "softmax", case_softmax, 1 },   { "layernorm", "layernorm", case_layernorm, 2 },
    { "rmsnorm", "rmsnorm", case_rmsnorm, 2 },   { "embed", "embed", case_embed, 2 },
    { "dropout", "dropout", case_dropout, 1 },   { "mse", "mse", case_mse, 2 },
    { "cross_entropy", "cross_entropy", case_cross_entropy, 2 },
    { "ffn", "ffn", case_ffn, 8 },               { "recompute", "recompute", case_recompute, 4 },
    { "attention", "gradient_attention", NULL, 0 }, { "lm_loss", "gradient_model", NULL, 0 },
    { "moe", "gradient_moe and gradient_balance", NULL, 0 } };

static int grad_has_op(const char *name)
{
    for (int i = 0; i < glam__ops_count; i++) if (!strcmp(glam__ops[i]->name, name)) return 1;
    return 0;
}

// Both ways: every op has a case, and every case names an op that exists.
static void gradient_ops(void)
{
    const size_t rows = sizeof grad_rows / sizeof *grad_rows;
    for (int i = 0; i < glam__ops_count; i++) {
        int found = 0;
        for (size_t r = 0; r < rows; r++) found |= !strcmp(grad_rows[r].op, glam__ops[i]->name);
        if (!CHECK(found)) printf("  op \"%s\" has no gradient case\n", glam__ops[i]->name);
    }
    for (size_t r = 0; r < rows; r++) {
        const struct grad_row *row = &grad_rows[r];
        if (!CHECK(grad_has_op(row->op))) printf("  there is no op \"%s\"\n", row->op);
        for (int variant = 0; variant < row->variants; variant++) {
#ifdef GRADIENT_BF16
            bf16_products = !strcmp(row->op, "matmul") ? 1 : !strcmp(row->op, "ffn") ? 2
                          : !strcmp(row->op, "recompute") ? 4 : 0;
#endif
            double top = world_check(row->make, row->what, variant, NULL, 5);
            // a case whose gradients are all zero checks nothing
            if (!CHECK(top > 1e-3)) printf("  %s %d: largest gradient %g\n", row->what, variant, top);
        }
    }
}

static void gradient_attention(void) { check_attention(); }
static void gradient_moe(void) { check_moe(); }
static void gradient_routers(void) { check_routers(); }
static void gradient_balance(void) { check_balance(); }

#ifdef GRADIENT_BF16

static void bf16_gradient_ops(void)
{
    gradient_ops();
    bf16_half();
}
static void bf16_gradient_attention(void)
{
    bf16_products = 4;                                 // queries and keys, scores, values, output
    gradient_attention();
    bf16_half();
}
static void bf16_gradient_moe(void)
{
    bf16_products = 2;
    gradient_moe();
    gradient_routers();
    bf16_half();
}
// The router is in f32 whatever the arithmetic is.
static void bf16_gradient_balance(void)
{
    bf16_products = 0;
    gradient_balance();
}
static void bf16_gradient_model(void)
{
    bf16_products = 13;                                // six in each of two layers, the head
    gradient_model();
    bf16_half();
}

int main(int argc, char **argv)
{
    test__open(argc, argv);
    RUN(bf16_gradient_ops);
    RUN(bf16_gradient_attention);
    RUN(bf16_gradient_moe);
    RUN(bf16_gradient_balance);
    RUN(bf16_gradient_model);
    return test__close();
}

#else

// The test of the test: an op whose derivative is wrong by 1e-5 must be found out.
static glam_status wrong_shape(glam_ctx *ctx, glam_node *n)
{
    (void)ctx;
    n->out_shape[0] = n->in[0]->shape;
    return GLAM_OK;
}
static void wrong_forward(glam_ctx *ctx, glam_node *n)
{
    (void)ctx;
    for (size_t i = 0; i < glam_size(n->in[0]); i++) n->out[0]->data[i] = 2 * n->in[0]->data[i];
}
static void wrong_backward(glam_ctx *ctx, glam_node *n)
{
    (void)ctx;
    if (!n->in[0]->grad) return;
    for (size_t i = 0; i < glam_size(n->in[0]); i++) {
        n->in[0]->grad[i] += 2.00002 * n->out[0]->grad[i];
    }
}
static const glam_op wrong_op = { "wrong", 1, 0, wrong_shape, wrong_forward, wrong_backward };

static glam_tensor *case_wrong(world *w)
{
    glam_tensor *in[1];
    in[0] = par(w, glam_dim2(3, 7), 0, 1);
    return dot(w, glam_apply(w->ctx, &wrong_op, in, NULL, 0, NULL));
}

static void gradient_notices(void)
{
    world w;
    memset(&w, 0, sizeof w);
    w.ctx = world_ctx();
    w.seed = 5;
    world_loss(&w, case_wrong, 1);
    float grad[21];
    if (!CHECK(w.count == 1 && w.param[0]->grad)) return;
    memcpy(grad, w.param[0]->grad, sizeof grad);
    glam_forget(w.ctx);
    double off = world_check_tensor(&w, case_wrong, w.param[0], grad);
    CHECK(off > BOUND && off < 1e-4);
    glam_close(w.ctx);
}

int main(int argc, char **argv)
{
    test__open(argc, argv);
    RUN(gradient_notices);
    RUN(gradient_ops);
    RUN(gradient_attention);
    RUN(gradient_moe);
    RUN(gradient_routers);
    RUN(gradient_balance);
    RUN(gradient_model);
    return test__close();
}

#endif
