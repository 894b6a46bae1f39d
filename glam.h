/* glam.h - v0.1 - GLaM in one header: tensors, autograd and a mixture of experts you can read.

   Do this in ONE C or C++ file:                Everywhere else just:
       #define GLAM_IMPLEMENTATION                  #include "glam.h"
       #include "glam.h"

   Build:  cc -O2 app.c -lm            plain C99, no packages
           cc -O2 -fopenmp app.c -lm   all cores
   No -march flag is needed: kernels are chosen at run time (SSE2, AVX2, AVX-512, NEON).

   THE HOUSE.  Each room uses only the rooms above it.  Every room appears twice, under the
   same number: first its interface, then its implementation.  To jump:  search  "== 13"

   Ground floor - the machine
     00 config     options you may #define; compiler and CPU facts
     01 base       status codes, first-error message, allocator, arena
     02 threads    one parallel loop: OpenMP, or the host's own workers
     03 comm       the seam to other machines: glam_comm
     04 random     numbers that depend on where they are used, not on who asks first
     05 kernels    plain C on float arrays: the reference for everything below
     06 simd       the same kernels per instruction set, and who picks them
     07 context    glam_open, glam_close: the front door, where the machine is put together
   First floor - numbers
     08 tensor     glam_tensor: a shape, its values, its gradient
     09 autograd   glam_op rows, the tape, glam_backward, glam_check_grad
   Second floor - layers
     10 ops        add, matmul, norm, embed, gelu, cross entropy, ...
     11 attention  causal attention with relative position bias, one fused op
     12 ffn        GLU-GELU feed-forward, one fused op
     13 moe        gate, top-2, capacity, experts, combine, auxiliary loss   <- start here
   Third floor - the language model
     14 model      glam_config, glam_model: blocks, forward, loss, routing
     15 text       bytes and tokens
     16 generate   key/value cache, sampling, glam_complete
   Roof - using it
     17 data       texts, train/validation split, mixtures of texts, batches
     18 train      Adafactor, AdamW, schedules, freezing, glam_train_step
     19 evaluate   validation loss and perplexity of a text
     20 files      safetensors: glam_save, glam_load, checkpoints
     21 plan       parameters, memory and FLOPs before you run

   QUICK START
       glam_ctx     *ctx     = glam_open(NULL);                        // malloc, every core, silent
       glam_text    *text    = glam_text_open(ctx, "book.txt", NULL);  // bytes are tokens
       glam_model   *model   = glam_model_new(ctx, NULL);              // a laptop-sized GLaM
       glam_trainer *trainer = glam_trainer_new(model, text, NULL, NULL);
       while (glam_train_step(trainer, NULL)) {}
       glam_save(model, "book.safetensors");  glam_close(ctx);

   THREE RULES explain most of the interface:
   - What comes from a context belongs to it; glam_close frees it all.
   - When something fails, the function returns NULL or a negative status, the context keeps the
     FIRST message, and every later call on it does nothing.  So check once, at the end.
   - Every options struct comes from its own _default() function; NULL means those defaults.

   LETTERS in shapes are the paper's: B batch, S sequence, M model width, H hidden width,
   E experts, L layers, N devices.  Ours: T = B*S tokens, C capacity, V vocabulary, D head width,
   A = heads*D, k experts per token.  (GShard's S, the tokens of a group, is called "group".)
   "Paper" is GLaM, Du et al., ICML 2022; "GShard" is Lepikhin et al., 2020.

   Licence: MIT-0, at the end of the file.  No warranty. */

#ifndef GLAM_H
#define GLAM_H

#include <stddef.h>
#include <stdint.h>

/* == 00 config : interface ================================================================

   Macros, all optional.  None changes a public struct, an enum value or a function's meaning.

   GLAM_IMPLEMENTATION   one file              emit the code here
   GLAM_STATIC           one file              everything static: a private copy for this file
   GLAM_ASSERT(c)        implementing file     internal invariants; default: nothing
   GLAM_NO_SIMD          implementing file     portable kernels only
   GLAM_NO_STDIO         implementing file     no FILE: file functions report GLAM_ERR_FILE,
                                               their in-memory twins stay */

#define GLAM_VERSION "0.1"

#ifdef GLAM_STATIC
#define GLAM_API static
#else
#define GLAM_API extern
#endif

#if defined(__GNUC__)
#define GLAM_FORMAT(f, a) __attribute__((format(printf, f, a)))
#else
#define GLAM_FORMAT(f, a)
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* == 01 base : interface ================================================================== */

typedef struct glam_ctx glam_ctx;

typedef enum glam_status {
    GLAM_OK          =  0,
    GLAM_ERR_MEMORY  = -1,   // the allocator refused
    GLAM_ERR_VALUE   = -2,   // an option or argument makes no sense
    GLAM_ERR_SHAPE   = -3,   // tensors that do not fit together
    GLAM_ERR_STATE   = -4,   // right call, wrong moment
    GLAM_ERR_FILE    = -5,   // the operating system said no
    GLAM_ERR_FORMAT  = -6,   // the file is not ours, or is damaged
    GLAM_ERR_COMM    = -7,   // the communicator failed
    GLAM_ERR_NUMERIC = -8    // too many steps in a row were not finite
} glam_status;

// "GLAM_ERR_SHAPE" for -3, and so on; never NULL.
GLAM_API const char *glam_status_name(glam_status status);

// Where memory comes from.  alloc returns NULL when it has none; release gets the size back.
// Blocks must be aligned as malloc aligns them.
typedef struct glam_allocator {
    void *(*alloc)(void *user, size_t bytes);
    void  (*release)(void *user, void *block, size_t bytes);
    void  *user;
} glam_allocator;

// Latches a failure of your own (in an op that you add, say): the first one is kept.
// Returns status, so that "return glam_fail(ctx, GLAM_ERR_SHAPE, ...)" reads well.
GLAM_API glam_status glam_fail(glam_ctx *ctx, glam_status status, const char *format, ...)
    GLAM_FORMAT(3, 4);

/* == 02 threads : interface =============================================================== */

// A loop body: do the chunks [begin,end).  worker < options.threads picks the scratch slice.
typedef void glam_body(void *arg, int begin, int end, int worker);

/* == 03 comm : interface ================================================================== */

// How ranks talk.  Everything follows from one exchange: "to each peer these bytes, from each
// peer these bytes; zero means no message".  This version runs on one rank: glam_open accepts
// NULL or a communicator of size 1, and says so otherwise.
typedef struct glam_comm {
    void  *user;
    int    rank, size;
    double timeout_s;         // every wait ends; default 300
    int    peer;              // set by a failed exchange: who was waited for
    int  (*exchange)(struct glam_comm *comm, const void *const *send, const size_t *send_bytes,
                     void *const *recv, const size_t *recv_bytes);              // 0 = ok
    int  (*split)(struct glam_comm *comm, int color, int key, struct glam_comm *out);
    void (*release)(struct glam_comm *comm);
} glam_comm;

/* == 04 random : interface ================================================================ */

// Stateless: the same (seed, stream, index) gives the same number, whoever asks first.
// glam_random is uniform in [0,1), glam_normal has mean 0 and standard deviation 1.
GLAM_API float glam_random(uint64_t seed, uint64_t stream, uint64_t index);
GLAM_API float glam_normal(uint64_t seed, uint64_t stream, uint64_t index);

/* == 05 kernels : interface ===============================================================
   Nothing public: the kernels are reached through the ops. */

/* == 06 simd : interface ================================================================== */

// The instruction set in use: "base", "sse2", "avx2", "avx512" or "neon".
GLAM_API const char *glam_simd_name(const glam_ctx *ctx);

/* == 07 context : interface =============================================================== */

typedef struct glam_options {
    glam_allocator allocator;  // default: malloc and free
    int         threads;       // worker count; default 0: what OpenMP reports, else 1
    // The host's own workers: must run body over [0,chunks) in any split, each part with a
    // worker number in [0,threads) that no other running part has, and return when all is done.
    void      (*parallel_for)(void *user, int chunks, glam_body *body, void *arg);
    void       *parallel_user;
    const char *simd;          // force "base", "sse2", "avx2", "avx512", "neon"; NULL: the best
    size_t      pack_bytes;    // budget for packed copies of weights; default 64 MiB, 0: none
    uint64_t    seed;          // of the initialisers and of dropout; default 1
    void      (*log)(void *user, const char *line);   // one line at a time, no newline
    void       *log_user;
    int       (*cancel)(void *user);                  // polled between layers; non-zero: stop
    void       *cancel_user;
    const glam_comm *comm;     // copied; NULL: one rank
} glam_options;

// Bytes by lifetime.  life: parameters, optimiser, texts; step: tape, activations, gradients;
// scratch: inside one op; packed: weights in the kernels' own order.  peak is the largest sum
// seen.  allocations counts calls of the allocator since glam_open: a steady step makes none.
typedef struct glam_bytes {
    uint64_t life, step, scratch, packed, total, peak, allocations;
} glam_bytes;

GLAM_API glam_options glam_options_default(void);

// Opens a context: NULL options mean the defaults.  Returns NULL only when there is no memory;
// options that make no sense give a context that is already in error.
GLAM_API glam_ctx *glam_open(const glam_options *options);
// Frees everything that came from ctx, and ctx.  NULL is fine.
GLAM_API void glam_close(glam_ctx *ctx);

// The first failure since glam_open or glam_clear_error, and its sentence ("" when there is none).
GLAM_API glam_status glam_error(const glam_ctx *ctx);
GLAM_API const char *glam_error_text(const glam_ctx *ctx);
GLAM_API void        glam_clear_error(glam_ctx *ctx);

GLAM_API glam_bytes glam_memory(const glam_ctx *ctx);

// Measure mode: ops check shapes and count bytes, nothing is computed or allocated for values
// (tensors have data == NULL).  Run your own model code in it to learn what it needs.
// Only a fresh context may enter it.
GLAM_API glam_status glam_measure(glam_ctx *ctx, int on);

// Ends a step by hand: the tape and every tensor that is not a parameter are gone.
GLAM_API void glam_forget(glam_ctx *ctx);

// Gives back everything made since the mark (models, texts, sessions, trainers).
GLAM_API size_t glam_mark(glam_ctx *ctx);
GLAM_API void   glam_rewind(glam_ctx *ctx, size_t mark);

/* == 08 tensor : interface ================================================================ */

typedef struct glam_shape {
    int dims;                  // 1 to 4
    int dim[4];                // unused ones are 1
} glam_shape;

// Row-major, contiguous, float, transparent.
typedef struct glam_tensor {
    float      *data;          // NULL while measuring
    float      *grad;          // same shape; NULL where no gradient is wanted or has flowed
    glam_shape  shape;
    const char *name;          // of parameters; "" otherwise
    int         wants_grad;    // backward computes a gradient for it
    int         flags;         // internal
    struct glam__pack *pack;   // internal: this weight in the kernels' order
} glam_tensor;

GLAM_API glam_shape glam_dim1(int a);
GLAM_API glam_shape glam_dim2(int a, int b);
GLAM_API glam_shape glam_dim3(int a, int b, int c);
GLAM_API glam_shape glam_dim4(int a, int b, int c, int d);
GLAM_API size_t     glam_size(const glam_tensor *t);           // number of elements; 0 for NULL

// A parameter: lives until glam_close, wants a gradient, starts as zeros.  The name is copied.
GLAM_API glam_tensor *glam_param(glam_ctx *ctx, const char *name, glam_shape shape);
// A constant of this step, copied from values; lives until glam_forget or the next update.
GLAM_API glam_tensor *glam_input(glam_ctx *ctx, const float *values, glam_shape shape);
GLAM_API glam_tensor *glam_zeros(glam_ctx *ctx, glam_shape shape);
// The same numbers under another shape of equal size.
GLAM_API glam_tensor *glam_view(glam_ctx *ctx, glam_tensor *t, glam_shape shape);
GLAM_API void glam_fill(glam_tensor *t, float value);
// Element i becomes std * normal(seed, hash of the name, i).
GLAM_API void glam_fill_normal(glam_tensor *t, uint64_t seed, float std);

/* == 09 autograd : interface ============================================================== */

#define GLAM_MAX_INPUTS 12

typedef struct glam_node glam_node;

// One op is one row.  shape() does every check and says what memory it wants; forward() and
// backward() are arithmetic only and cannot fail.
typedef struct glam_op {
    const char *name;
    int         inputs;        // how many; entries of glam_node.in past the required may be NULL
    int         flags;         // 0 for your own ops
    glam_status (*shape)   (glam_ctx *ctx, glam_node *n);  // sets out_shape, saved_bytes, ...
    void        (*forward) (glam_ctx *ctx, glam_node *n);  // in[]->data to out[]->data
    void        (*backward)(glam_ctx *ctx, glam_node *n);  // adds into in[i]->grad unless NULL
} glam_op;

// One op that ran.  Filled by glam_apply; shape() sets the sizes.
struct glam_node {
    const glam_op *op;
    glam_tensor   *in[GLAM_MAX_INPUTS];
    glam_tensor   *out[2];
    glam_shape     out_shape[2];   // set by shape(); dims 0: no second output
    const void    *config;         // the op's own copy of what the caller passed
    void          *saved;          // saved_bytes, kept from forward to backward
    size_t         saved_bytes;    // set by shape()
    size_t         scratch_bytes;  // set by shape(): the most that forward or backward take
    int            flags;          // internal
};

// Runs an op and, when an input wants a gradient, leaves a node on the tape.  config_bytes of
// config are copied.  second, when not NULL, receives the second output.  NULL among the first
// op->inputs operands, where the op does not allow it, makes the result NULL.
GLAM_API glam_tensor *glam_apply(glam_ctx *ctx, const glam_op *op, glam_tensor *const *in,
                                 const void *config, size_t config_bytes, glam_tensor **second);
// Scratch inside forward or backward: uninitialised, gone when it returns.
GLAM_API void *glam_scratch(glam_ctx *ctx, size_t bytes);

// Fills the gradients of everything that loss (one element) depends on, and uses the tape up:
// a second call for the same step is GLAM_ERR_STATE.  Gradients of parameters add up until the
// optimiser has stepped, or until glam_forget where no optimiser owns them.
GLAM_API glam_status glam_backward(glam_ctx *ctx, glam_tensor *loss);

// on = 1: ops leave nothing on the tape.  Returns the setting before.
GLAM_API int glam_no_grad(glam_ctx *ctx, int on);

// Activations for time: block(ctx, arg, x, extra) runs once now without tape and again in
// backward with it; only x is kept.  The result has the same bits.  A block may hand out a
// second, one-element tensor (a balance loss) through *extra; *extra is NULL on entry.
typedef glam_tensor *glam_block(glam_ctx *ctx, void *arg, glam_tensor *x, glam_tensor **extra);
GLAM_API glam_tensor *glam_recompute(glam_ctx *ctx, glam_block *block, void *arg, glam_tensor *x,
                                     glam_tensor **extra);

// Compares backward with central differences of the given step for up to 64 elements of each
// tensor in wrt.  loss() builds and returns a one-element tensor.  Returns the largest
// |difference| / max(largest |gradient| of that tensor, 1e-3), or a negative status.
GLAM_API double glam_check_grad(glam_ctx *ctx, glam_tensor *(*loss)(glam_ctx *ctx, void *arg),
                                void *arg, glam_tensor *const *wrt, int count, double step);

/* == 10 ops : interface ===================================================================

   Element-wise pairs take equal shapes, or a second operand whose shape is a suffix of the
   first's ([N] with [T,N]), or one element.  Unless said otherwise x is [...,N] and an op works
   on its last dimension, row by row. */

GLAM_API glam_tensor *glam_add(glam_ctx *ctx, glam_tensor *a, glam_tensor *b);
GLAM_API glam_tensor *glam_sub(glam_ctx *ctx, glam_tensor *a, glam_tensor *b);
GLAM_API glam_tensor *glam_mul(glam_ctx *ctx, glam_tensor *a, glam_tensor *b);
GLAM_API glam_tensor *glam_div(glam_ctx *ctx, glam_tensor *a, glam_tensor *b);
GLAM_API glam_tensor *glam_scale(glam_ctx *ctx, glam_tensor *x, float factor);
// x [...,K] times w [K,N]; glam_matmul_t: x [...,K] times the transpose of w [N,K].
GLAM_API glam_tensor *glam_matmul(glam_ctx *ctx, glam_tensor *x, glam_tensor *w);
GLAM_API glam_tensor *glam_matmul_t(glam_ctx *ctx, glam_tensor *x, glam_tensor *w);
GLAM_API glam_tensor *glam_transpose(glam_ctx *ctx, glam_tensor *x);            // [R,C] to [C,R]
// Rows begin..begin+count-1 of the first dimension; concat joins along the first dimension.
GLAM_API glam_tensor *glam_slice(glam_ctx *ctx, glam_tensor *x, int begin, int count);
GLAM_API glam_tensor *glam_concat(glam_ctx *ctx, glam_tensor *a, glam_tensor *b);
GLAM_API glam_tensor *glam_sum(glam_ctx *ctx, glam_tensor *x);                  // all, to [1]
GLAM_API glam_tensor *glam_mean(glam_ctx *ctx, glam_tensor *x);
GLAM_API glam_tensor *glam_exp(glam_ctx *ctx, glam_tensor *x);
GLAM_API glam_tensor *glam_log(glam_ctx *ctx, glam_tensor *x);
GLAM_API glam_tensor *glam_tanh(glam_ctx *ctx, glam_tensor *x);
GLAM_API glam_tensor *glam_sigmoid(glam_ctx *ctx, glam_tensor *x);
GLAM_API glam_tensor *glam_relu(glam_ctx *ctx, glam_tensor *x);
GLAM_API glam_tensor *glam_gelu(glam_ctx *ctx, glam_tensor *x);                 // tanh form
GLAM_API glam_tensor *glam_gelu_erf(glam_ctx *ctx, glam_tensor *x);
GLAM_API glam_tensor *glam_silu(glam_ctx *ctx, glam_tensor *x);
GLAM_API glam_tensor *glam_softmax(glam_ctx *ctx, glam_tensor *x);
// (x - mean) / sqrt(variance + eps) * gain + bias; bias may be NULL.  gain, bias [N].
GLAM_API glam_tensor *glam_layernorm(glam_ctx *ctx, glam_tensor *x, glam_tensor *gain,
                                     glam_tensor *bias, float eps);
// x / sqrt(mean(x^2) + eps) * gain.  Reference: no mean, no bias, gain starts at 1.
GLAM_API glam_tensor *glam_rmsnorm(glam_ctx *ctx, glam_tensor *x, glam_tensor *gain, float eps);
// Rows of table [V,M] picked by ids; the result has shape [count,M].  An id outside 0..V-1 is an error;
// where mask (NULL: none) is 0 the row is zeros and the id is not looked at.
GLAM_API glam_tensor *glam_embed(glam_ctx *ctx, glam_tensor *table, const int32_t *ids, int count,
                                 const int32_t *mask);
// Zeroes each element with probability p and scales the rest by 1/(1-p).  The pattern depends on
// (options.seed, key, element) alone.
GLAM_API glam_tensor *glam_dropout(glam_ctx *ctx, glam_tensor *x, float p, uint64_t key);
GLAM_API glam_tensor *glam_mse(glam_ctx *ctx, glam_tensor *x, glam_tensor *target);   // mean, [1]
// Mean over the T rows of logits [T,V] of -log softmax at the target, to [1].  A row whose mask
// is 0 counts for nothing; mask NULL: all count.
GLAM_API glam_tensor *glam_cross_entropy(glam_ctx *ctx, glam_tensor *logits,
                                         const int32_t *targets, const int32_t *mask);

/* == 11 attention : interface ============================================================= */

typedef enum glam_position {
    GLAM_POSITION_BUCKETS        = 0,   // a learned bias per head and distance bucket
    GLAM_POSITION_TRANSFORMER_XL = 1,   // Dai et al. 2019: u, v, and a projected sinusoid
    GLAM_POSITION_NONE           = 2
} glam_position;

typedef struct glam_attention_config {
    int   heads, d_head;
    glam_position position;
    int   buckets, max_distance;   // of GLAM_POSITION_BUCKETS; 32 and 128 in GLaM
    float scale;                   // of q.k; with Transformer-XL of the whole sum
    int   sink;                    // 1: one more logit, fixed at 0, in each softmax
    float norm_eps;
} glam_attention_config;

// [in, out], A = heads*D.  norm NULL: y = Attn(x).  norm given: y = x + Attn(RMS(x) * norm),
// the whole pre-norm sub-layer, which needs less memory than its pieces.
typedef struct glam_attention_weights {
    glam_tensor *norm;                 // [M] or NULL
    glam_tensor *q, *k, *v;            // [M,A]
    glam_tensor *o;                    // [A,M]
    glam_tensor *bias;                 // [heads,buckets]         buckets
    glam_tensor *r, *u, *v_bias;       // [M,A] [heads,D] [heads,D]   Transformer-XL
} glam_attention_weights;

// Causal self-attention of x [B,S,M].  segments [B,S] (NULL: one text per row): position i sees
// j <= i iff segments are equal and not 0; a 0 is padding.
GLAM_API glam_tensor *glam_attention(glam_ctx *ctx, glam_tensor *x, const glam_attention_weights *w,
                                     const glam_attention_config *config, const int32_t *segments);
// The bucket of a key `distance` positions back (0 = itself), reference 1.5 A, causal form.
GLAM_API int glam_bucket(int distance, int buckets, int max_distance);

/* == 12 ffn : interface =================================================================== */

typedef enum glam_activation {
    GLAM_RELU          = 0,   // experts only: two matrices, the code of record
    GLAM_GELU_TANH     = 1,   // dense: gelu(x gate) * (x up); experts: gelu(x up)
    GLAM_GELU_ERF      = 2,   // the same with the error function
    GLAM_GEGLU         = 3,   // experts only: gelu(x gate) * (x up), three matrices
    GLAM_SWIGLU        = 4,   // experts only: silu(x gate) * (x up), three matrices
    GLAM_GEGLU_LITERAL = 5    // dense only: gelu((x gate) * (x up)), the paper's sentence read so
} glam_activation;

typedef struct glam_ffn_weights {
    glam_tensor *norm;         // [M] or NULL, as in glam_attention_weights
    glam_tensor *gate, *up;    // [M,H]; the activated branch is gate
    glam_tensor *down;         // [H,M]
} glam_ffn_weights;

// y = (gelu(x gate) * (x up)) down, paper section 4 and reference 1.6.  x [...,M].
GLAM_API glam_tensor *glam_ffn(glam_ctx *ctx, glam_tensor *x, const glam_ffn_weights *w,
                               glam_activation activation, float norm_eps);

/* == 13 moe : interface =================================================================== */

typedef enum glam_normalise {
    GLAM_NORMALISE_BEFORE_DROP = 0,   // the k weights sum to 1 before capacity is applied
    GLAM_NORMALISE_AFTER_DROP  = 1,   // the kept ones do
    GLAM_NORMALISE_NONE        = 2    // the softmax's own probabilities
} glam_normalise;

typedef struct glam_moe_config {
    int   experts;             // E; default 8.  0 in a model: every layer is dense
    int   top_k;               // experts per token, 1..E; default 2, as in the paper
    int   every, offset;       // in a model: layer i is a mixture iff i % every == offset;
                               // default 2, 0: the first of each pair
    int   hidden;              // H of one expert; 0: the dense hidden, halved for gated experts,
                               // so that two of them cost what a dense layer costs
    glam_activation activation;   // default GLAM_GEGLU (laptop); the paper's code: GLAM_RELU
    glam_normalise  normalise;    // default before drops.  With top_k 1 it makes every weight 1
                                  // and the router learns nothing but balance: use NONE there
    float capacity_factor;     // slots = group * factor / E, truncated, then up to a multiple of
                               // 4; includes the k (2.0: balanced top-2).  default 0: dropless
    int   capacity;            // exact slots per expert and group; 0: from the factor
    int   group;               // tokens that compete for slots and share a balance loss; 0: all
                               // tokens of a batch part
    float aux_weight;          // of the balance loss E * sum f P; default 0.01
    float router_z_weight;     // of mean logsumexp^2 of the router's logits; default 0
} glam_moe_config;

typedef struct glam_moe_weights {
    glam_tensor *norm;         // [M] or NULL, as in glam_attention_weights
    glam_tensor *router;       // [M,E]
    glam_tensor *gate;         // [E,M,H], gated experts only
    glam_tensor *up, *down;    // [E,M,H], [E,H,M]
} glam_moe_weights;

// What one mixture did, as plain data; the arrays live until glam_forget or the next step.
typedef struct glam_routing {
    int tokens, experts, top_k;
    int capacity;                // slots per expert and group; 0: dropless
    int dropped;                 // choices without a slot
    const int32_t *expert;       // [T,k] best first; -1: padding
    const int32_t *slot;         // [T,k] place within (group, expert); -1: dropped or padding
    const int32_t *kept;         // [T,k] 1: the expert worked on it
    const int32_t *load;         // [E]   kept choices
    const float   *gate;         // [T,k] weight in the sum; 0 where dropped
    const float   *probability;  // [T,E] softmax of the router
    float balance;               // E * sum f P, mean over groups: 1.0 when uniform
    float router_z;              // mean over tokens of logsumexp^2 (sum over real ones / T)
    float entropy;               // mean over real tokens of -sum p log p, in nats
} glam_routing;

GLAM_API glam_moe_config glam_moe_config_default(void);
// Router, up, down (and gate) as parameters named name.router and so on, reference 3.6.
GLAM_API glam_moe_weights glam_moe_init(glam_ctx *ctx, const char *name, int d_model,
                                        const glam_moe_config *config);
// y = sum over the k best experts of gate * expert(x).  x [...,M].  routing and balance may be
// NULL; balance becomes a one-element tensor, aux_weight * balance loss + router_z_weight *
// router z-loss, to be added to your own loss.
GLAM_API glam_tensor *glam_moe(glam_ctx *ctx, glam_tensor *x, const glam_moe_weights *w,
                               const glam_moe_config *config, glam_routing *routing,
                               glam_tensor **balance);
// The same where mask [T] marks padding with 0: not routed, not counted, output 0.
GLAM_API glam_tensor *glam_moe_masked(glam_ctx *ctx, glam_tensor *x, const int32_t *mask,
                                      const glam_moe_weights *w, const glam_moe_config *config,
                                      glam_routing *routing, glam_tensor **balance);

/* == 14 model : interface ================================================================= */

// Each field: default of glam_config_default(); the paper's value where it differs.
typedef struct glam_config {
    int   vocab;               // V; 256: bytes.  Paper 256000 (its tables count with 32000)
    int   context;             // trained length; 64.  Not a limit.  Paper 1024
    int   layers;              // L; 4
    int   d_model;             // M; 128
    int   heads;               // 4
    int   d_head;              // D; 0: d_model / heads
    int   hidden;              // H of a dense layer; 0: 4 * d_model
    glam_position position;    // buckets
    int   buckets, max_distance;   // 32, 128
    float attention_scale;     // 1: the scale lives in the query's initialisation
    int   attention_sink;      // 1: one more logit of 0 in each attention softmax
    glam_activation activation;    // of dense layers; GLAM_GELU_TANH
    float norm_eps;            // 1e-6
    int   tied;                // 1: the logits use the embedding
    float logit_scale;         // 0: d_model^-0.5
    float z_loss;              // 1e-4 * mean logsumexp(logits)^2
    glam_moe_config moe;
} glam_config;

typedef struct glam_model glam_model;

// Tokens and what to predict, [rows,length].  NULL where absent: targets are only needed for a
// loss; mask 0 is padding; segments number packed texts from 1, 0 is padding.
typedef struct glam_batch {
    int rows, length;
    const int32_t *tokens, *targets, *mask, *segments;
} glam_batch;

// The parts of the loss.  xent and z are means over real tokens; aux and router_z are sums over
// the mixture layers, unweighted; total = xent + z_loss z + aux_weight aux + router_z_weight router_z.
typedef struct glam_losses { double xent, z, aux, router_z, total; } glam_losses;

typedef enum glam_mode {
    GLAM_INFER = 0,            // no token is dropped
    GLAM_TRAIN = 1             // capacity and drops as configured
} glam_mode;

GLAM_API glam_config glam_config_default(void);
// A row of the paper's table 4 by name ("0.1B", "0.1B/64E", ... "64B/64E") with the settings of
// the code of record: vocabulary 32000 (256000 for 64B/64E), context 1024, ReLU experts,
// capacity factor 2.0, group 1024.  GLAM_ERR_VALUE and *config untouched when there is no such row.
GLAM_API glam_status glam_config_preset(const char *name, glam_config *config);
// Names of the presets: index 0, 1, ...; NULL past the last.
GLAM_API const char *glam_config_preset_name(int index);

// A new model with initialised weights (reference 3.6; seed from options.seed).
GLAM_API glam_model *glam_model_new(glam_ctx *ctx, const glam_config *config);
// The resolved configuration: derived sizes are filled in.
GLAM_API const glam_config *glam_model_config(const glam_model *model);
GLAM_API glam_ctx *glam_model_ctx(const glam_model *model);
// Parameters in all, and per token (NULL: not wanted).
GLAM_API uint64_t glam_model_count(const glam_model *model, uint64_t *active);
// Logits [B,S,V], zero at padding.
GLAM_API glam_tensor *glam_forward(glam_model *model, const glam_batch *batch, glam_mode mode);
// The total loss [1], ready for glam_backward or glam_update; losses may be NULL.
GLAM_API glam_tensor *glam_loss(glam_model *model, const glam_batch *batch, glam_mode mode,
                                glam_losses *losses);
// What the mixture of this layer did in the last forward; NULL for a dense layer.
GLAM_API const glam_routing *glam_model_routing(const glam_model *model, int layer);
// A parameter by name ("layers.0.moe.router"), or by index 0, 1, ...; NULL when there is none.
GLAM_API glam_tensor *glam_model_tensor(const glam_model *model, const char *name);
GLAM_API glam_tensor *glam_model_tensor_at(const glam_model *model, int index);
// Another context, on another thread, reads the weights of this model; the owner must not train
// or close meanwhile.  The borrowed model cannot be trained.
GLAM_API glam_model *glam_model_borrow(glam_ctx *ctx, const glam_model *model);
// Stops (frozen = 1) or restarts the training of every tensor that pattern names: a glob over
// names ("layers.*.attn.*"), or one of the words experts router attention ffn embeddings norms,
// or layers.3.  Returns how many matched; none is an error.  Do it before glam_trainer_new.
GLAM_API int glam_freeze(glam_model *model, const char *pattern, int frozen);

/* == 15 text : interface ================================================================== */

typedef struct glam_tokenizer glam_tokenizer;

// Bytes are tokens: 256 of them, any text, no table.  NULL means this one everywhere.
GLAM_API glam_tokenizer *glam_tokenizer_bytes(glam_ctx *ctx);
GLAM_API int glam_tokenizer_size(const glam_tokenizer *tokenizer);
// Writes up to `most` ids and returns how many the text has (call with most 0 to learn the number).
GLAM_API size_t glam_encode(const glam_tokenizer *tokenizer, const char *text, size_t bytes,
                            int32_t *ids, size_t most);
// Writes up to size-1 bytes and a terminating 0 (nothing at size 0); returns the bytes the ids have.
GLAM_API size_t glam_decode(const glam_tokenizer *tokenizer, const int32_t *ids, size_t count,
                            char *text, size_t size);

/* == 16 generate : interface ============================================================== */

typedef struct glam_sampling {
    float    temperature;          // default 0.8; 0: always the most likely token
    int      top_k;                // keep the k most likely; default 0: all
    float    top_p;                // keep the likeliest until they reach p; default 1: all
    float    min_p;                // keep those with at least min_p of the best; default 0.02
    float    repetition_penalty;   // divides the logits of recent tokens (> 0); default 1: none
    int      repetition_window;    // how far back; default 64
    uint64_t seed;                 // default 1
} glam_sampling;

typedef struct glam_session glam_session;

GLAM_API glam_sampling glam_sampling_default(void);
// One conversation with a key/value cache of `most` tokens.
GLAM_API glam_session *glam_session_new(glam_model *model, int most);
GLAM_API void glam_session_reset(glam_session *session);
GLAM_API int  glam_session_length(const glam_session *session);
// Reads count tokens and returns the logits [V] after the last one; they have the bits of the
// full forward and live until the next call.
GLAM_API const float *glam_next(glam_session *session, const int32_t *tokens, int count);
// Picks a token from logits [V]; history (count tokens, NULL: none) is for the penalty; draw
// number `index` of the seed.
GLAM_API int32_t glam_pick(glam_ctx *ctx, const float *logits, int vocab,
                           const glam_sampling *sampling, const int32_t *history, int count,
                           uint64_t index);
// Continues prompt by up to `most` tokens; returns how many were written, 0 on failure.
GLAM_API int glam_generate(glam_session *session, const int32_t *prompt, int count, int32_t *out,
                           int most, const glam_sampling *sampling);
// Continues a text (bytes as tokens): writes at most size-1 bytes of continuation and a 0.
// Returns how many bytes were written, 0 on failure.  sampling NULL: the defaults.
GLAM_API int glam_complete(glam_model *model, const char *prompt, char *out, int size,
                           const glam_sampling *sampling);

/* == 17 data : interface ================================================================== */

typedef struct glam_text glam_text;

// A file, read whole and tokenized (NULL: bytes).  An empty file is GLAM_ERR_VALUE.
GLAM_API glam_text *glam_text_open(glam_ctx *ctx, const char *path,
                                   const glam_tokenizer *tokenizer);
GLAM_API glam_text *glam_text_from(glam_ctx *ctx, const char *text, size_t bytes,
                                   const glam_tokenizer *tokenizer);
GLAM_API glam_text *glam_text_from_tokens(glam_ctx *ctx, const int32_t *tokens, size_t count);
GLAM_API size_t glam_text_length(const glam_text *text);                  // tokens
GLAM_API const int32_t *glam_text_tokens(const glam_text *text);          // of an unmixed text
// The last `fraction` of each text in it is for validation: *valid; the rest is *train.
GLAM_API glam_status glam_text_split(glam_text *text, float fraction, glam_text **train,
                                     glam_text **valid);
// Several texts as one; a window never crosses from one into the next.  A window is drawn from
// text i with probability weights[i] / sum; weights NULL: by length.
GLAM_API glam_text *glam_mix(glam_ctx *ctx, glam_text *const *texts, const float *weights,
                             int count);
// Fills batch with rows windows of length tokens and their next tokens.  Row r starts at a place
// that is a function of (seed, step, r).  The arrays belong to the step (glam_forget).
GLAM_API glam_status glam_next_batch(glam_text *text, int rows, int length, uint64_t seed,
                                     uint64_t step, glam_batch *batch);

/* == 18 train : interface ================================================================= */

typedef enum glam_optimizer_kind { GLAM_ADAFACTOR = 0, GLAM_ADAMW = 1 } glam_optimizer_kind;

typedef enum glam_schedule {
    GLAM_SCHEDULE_PAPER    = 0,   // lr / 0.01 / sqrt(max(step, 10000)): constant, then 1/sqrt
    GLAM_SCHEDULE_COSINE   = 1,   // linear warm-up, then a cosine from lr to lr * min_lr
    GLAM_SCHEDULE_CONSTANT = 2    // linear warm-up, then lr
} glam_schedule;

// A way to train.  In brackets: glam_recipe_default(), then glam_recipe_paper().
typedef struct glam_recipe {
    glam_optimizer_kind optimizer;
    glam_schedule schedule;
    double   lr;                 // Adafactor with parameter_scale: relative to the weights' RMS
    double   embed_lr;           // factor on lr for embed and unembed [ , 1]
    int      warmup;             // steps of linear warm-up [100, 0]
    double   min_lr;             // cosine ends at lr * min_lr
    int      steps;              // [2000, 2000]
    int      batch;              // sequences per optimiser step [12, 16]
    int      context;            // tokens per sequence; 0: the model's context
    int      accumulate;         // equal parts a batch is cut into; [1, 1]
    int      recompute;          // 1: blocks are run again in backward, for memory [0, 0]
    double   clip;               // global gradient norm; 0: none [1, 0]
    double   weight_decay;       // AdamW, tensors of rank two and more but embed, tables, router
    int      decay_all;          // 1: decay every tensor of rank two and more [0, 0]
    double   beta1, beta2, eps;  // AdamW [0.9, 0.99, 1e-8]
    int      factor_min;         // Adafactor factors where the second-largest dim has this [128]
    double   update_clip;        // Adafactor: RMS of an update [1.0]
    double   eps1, eps2;         // Adafactor [1e-30, 1e-3]
    int      parameter_scale;    // Adafactor: steps are relative to the weights' RMS [1]
    int      aux_off_when_frozen;// 1: no balance loss when no router and no expert trains [0, 0]
    int      max_bad_steps;      // this many steps in a row that are not finite: an error [10]
    int      eval_every;         // validate every so many steps, 0: never [0]
    int      patience;           // stop after so many validations without a gain, 0: never [0]
    uint64_t seed;               // of the batches [1]
} glam_recipe;

// What a step did.
typedef struct glam_report {
    int      step, steps;        // this one, counted from 1; how many in all
    double   loss;               // cross-entropy alone, nats per token
    double   z_loss, aux_loss, router_z_loss;   // weighted parts of the total
    double   total;
    double   balance;            // mean over mixture layers of E * sum f P; 1.0 when uniform
    double   entropy;            // mean over mixture layers of the router's entropy, nats
    double   dropped;            // share of choices that found no slot
    double   load_min, load_max; // smallest and largest load of an expert / the even load
    double   grad_norm, lr;
    double   valid_loss;         // of the last validation; negative: none yet
    double   seconds;            // spent in training steps, validation left out
    double   tokens_per_second;
    uint64_t tokens;             // trained on so far
    uint64_t bytes;              // held by the context now
    int      skipped;            // this update was not finite and was left out
    int      bad_steps;          // skipped so far
    int      cancelled;          // stopped by options.cancel: everything is as before the step
    int      stopped;            // patience ran out
} glam_report;

typedef struct glam_optimizer glam_optimizer;
typedef struct glam_trainer glam_trainer;

GLAM_API glam_recipe glam_recipe_default(void);
GLAM_API glam_recipe glam_recipe_paper(void);      // Adafactor, 1/sqrt schedule, reference 3.2, 3.3
GLAM_API glam_recipe glam_recipe_finetune(void);   // lower rate, short warm-up, early stop
// The learning rate of step t (counted from 0).
GLAM_API double glam_recipe_lr(const glam_recipe *recipe, int t);

// Trains whatever tensors you name.  Gradients and slots are allocated here, for those that want
// a gradient.  Of the recipe only the optimiser's fields, clip, schedule and max_bad_steps count.
GLAM_API glam_optimizer *glam_optimizer_new(glam_ctx *ctx, glam_tensor *const *params, int count,
                                            const glam_recipe *recipe);
// backward, check, clip, step, forget.  A step that is not finite is skipped: report says so.
GLAM_API glam_status glam_update(glam_optimizer *optimizer, glam_tensor *loss,
                                 glam_report *report);

// valid may be NULL.  recipe NULL: glam_recipe_default().
GLAM_API glam_trainer *glam_trainer_new(glam_model *model, glam_text *train, glam_text *valid,
                                        const glam_recipe *recipe);
// One optimiser step.  1: done, there may be more; 0: the run is over, was cancelled, or failed
// (glam_error tells).  report may be NULL.
GLAM_API int glam_train_step(glam_trainer *trainer, glam_report *report);
// Loss on the whole validation text now; negative on failure.
GLAM_API double glam_validate(glam_trainer *trainer);
GLAM_API glam_model *glam_trainer_model(const glam_trainer *trainer);
GLAM_API const glam_recipe *glam_trainer_recipe(const glam_trainer *trainer);
GLAM_API int glam_trainer_done(const glam_trainer *trainer);              // steps so far
// A resumed run may be given another end.
GLAM_API glam_status glam_trainer_steps(glam_trainer *trainer, int steps);
// "trains 1.2 of 37.3 million parameters: attention, norms"
GLAM_API const char *glam_trainer_summary(const glam_trainer *trainer);

/* == 19 evaluate : interface ============================================================== */

typedef struct glam_perplexity_report {
    double   loss;             // nats per token; exp(loss) is the perplexity
    double   perplexity;
    double   bits_per_token;   // bits per byte when bytes are tokens
    uint64_t tokens;           // predicted
} glam_perplexity_report;

// The loss over the whole text in windows of `context` tokens (0: the model's) that do not
// overlap; the tail that fills no window is left out.  Nothing is dropped.
GLAM_API glam_status glam_perplexity(glam_model *model, glam_text *text, int context,
                                     glam_perplexity_report *report);

/* == 20 files : interface =================================================================

   One format for all: safetensors.  __metadata__ holds format = "glam", glam.config (JSON, keys
   are the fields of glam_config) and glam.checksum.  A damaged file is refused before any weight
   is touched.  Writing is crash-safe where the system allows: temporary file, flush, fsync,
   rename, fsync of the folder; elsewhere flush and rename. */

GLAM_API glam_status glam_save(const glam_model *model, const char *path);
GLAM_API glam_model *glam_load(glam_ctx *ctx, const char *path);
// The same in memory.  Returns the bytes that the file has; writes them when buffer is not NULL
// and size is enough.  0 on failure.
GLAM_API size_t      glam_save_memory(const glam_model *model, void *buffer, size_t size);
GLAM_API glam_model *glam_load_memory(glam_ctx *ctx, const void *data, size_t bytes);
// Any named tensors (parameters).  Loading fills each tensor from the entry of its name; names
// and shapes must match one to one.
GLAM_API glam_status glam_save_tensors(glam_ctx *ctx, const char *path,
                                       glam_tensor *const *tensors, int count);
GLAM_API glam_status glam_load_tensors(glam_ctx *ctx, const char *path,
                                       glam_tensor *const *tensors, int count);
// A checkpoint: weights, optimiser, step, seed, recipe, data position.  The run goes on from it
// with the bits of one that was never stopped.  The texts must be the same: their lengths and
// checksums are compared.
GLAM_API glam_status   glam_save_checkpoint(const glam_trainer *trainer, const char *path);
GLAM_API glam_trainer *glam_load_checkpoint(glam_ctx *ctx, const char *path, glam_text *train,
                                            glam_text *valid);
// The config of a file without its weights; for tools.
GLAM_API glam_status glam_load_config(glam_ctx *ctx, const char *path, glam_config *config);

/* == 21 plan : interface ================================================================== */

// What a model costs, before any of it is made.  Bytes come from measure mode: they are those
// that a run will use.
typedef struct glam_plan {
    uint64_t parameters, active;       // in all; used by one token
    uint64_t trainable;                // with nothing frozen: all
    double   flops_forward;            // per token: 2 * active matrix parameters + attention
    double   flops_train;              // per token: three times that, four with recompute
    uint64_t weights, packed, gradients, optimizer, activations;   // bytes of a training step
    uint64_t train_bytes;              // their sum, with everything else the run holds
    uint64_t run_bytes;                // to generate: weights, packed copies, cache of `context`
} glam_plan;

// recipe NULL: glam_recipe_default().  Works for models that no machine could hold.
GLAM_API glam_status glam_plan_for(glam_ctx *ctx, const glam_config *config,
                                   const glam_recipe *recipe, glam_plan *plan);

#ifdef __cplusplus
}
#endif

#endif /* GLAM_H */
