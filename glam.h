/* glam.h - v0.1 - GLaM in one header: tensors, autograd and a mixture of experts you can read.

   Do this in ONE C or C++ file:                Everywhere else just:
       #define GLAM_IMPLEMENTATION                  #include "glam.h"
       #include "glam.h"

   Build:  cc -O2 app.c -lm            plain C99, no packages
           cc -O2 -fopenmp app.c -lm   all cores
           mpicc -DGLAM_MPI app.c -lm  many machines
   No -march flag is needed: kernels are chosen at run time (SSE2, AVX2, AVX-512, NEON).

   THE HOUSE.  Each room uses only the rooms above it.  Every room appears twice, under the
   same number: first its interface, then its implementation.  To jump:  search  "== 14"

   Ground floor - the machine
     00 config     options you may #define; compiler and CPU facts
     01 base       status codes, first-error message, allocator, arena
     02 threads    one parallel loop: OpenMP, or the host's own workers
     03 comm       the only room that knows MPI: glam_comm, ranks, exchange
     04 random     numbers that depend on where they are used, not on who asks first
     05 kernels    plain C on float arrays: the reference for everything below
     06 simd       the same kernels per instruction set, bf16 among them, and who picks them
     07 context    glam_open, glam_close: the front door, where the machine is put together
   First floor - numbers
     08 tensor     glam_tensor: a shape, its values, its gradient
     09 autograd   glam_op rows, the tape, glam_backward, glam_check_grad
   Second floor - layers
     10 products   C = A B in panels, blocks, chains: what every layer is made of
     11 ops        add, matmul, norm, embed, gelu, cross entropy, ...
     12 attention  causal attention: buckets, rotary positions, grouped queries; one fused op
     13 ffn        GLU-GELU feed-forward, one fused op
     14 moe        routers, capacity, experts, balance loss, traces and counts   <- start here
   Third floor - the language model
     15 model      glam_config, glam_model: forward, loss, glam_freeze, glam_model_tune, upcycling
     16 text       bytes or pieces as tokens: tokenizers, learnt or taken from public models
     17 generate   key/value cache, sampling, beam search, glam_complete
   Roof - using it
     18 data       texts, documents, batches, mixtures of sources, words, the quality filter
     19 train      Adafactor, AdamW, schedules, glam_train_step
     20 evaluate   perplexity, log-likelihood of continuations, multiple choice
     21 files      safetensors: glam_save, glam_load, checkpoints
     22 plan       parameters, memory, FLOPs and bytes sent, before you run

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
   A = heads*D, K = kv_heads*D, k experts per token, R rows that experts work on, X*Y the mesh of
   ranks: experts and batch along X, heads and widths along Y.  (GShard's S is "group" here.)

   SOURCES.  "Paper": GLaM, Du et al., ICML 2022.  "GShard": Lepikhin et al., 2020.  "The code":
   what the paper's authors published of the same models, praxis (layers/glam.py, gshard_utils.py,
   transformers.py, optimizers.py) and lingvo (core/gshard_builder.py, gshard_layers.py).  Where the
   paper is silent the code decides; README.md lists each such question.

   Licence: MIT-0, at the end of the file.  No warranty. */

#if defined(GLAM_IMPLEMENTATION) && defined(__STRICT_ANSI__) && !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L    // for fsync and clocks under -std=c99; before any system header
#endif
#if defined(GLAM_IMPLEMENTATION) && !defined(_FILE_OFFSET_BITS)
#define _FILE_OFFSET_BITS 64
#endif

#ifndef GLAM_H
#define GLAM_H

#include <stddef.h>
#include <stdint.h>
#ifdef GLAM_MPI
#include <mpi.h>
#endif

/* == 00 config : interface ================================================================

   Macros, all optional.  None changes a public struct, an enum value or a function's meaning.

   GLAM_IMPLEMENTATION   one file              emit the code here
   GLAM_STATIC           one file              everything static: a private copy for this file
   GLAM_ASSERT(c)        implementing file     internal invariants; default: nothing
   GLAM_NO_SIMD          implementing file     portable kernels only
   GLAM_NO_STDIO         implementing file     no files: their functions report GLAM_ERR_FILE,
                                               their in-memory twins stay
   GLAM_MPI              implementing file     include mpi.h; also where glam_comm_mpi is called */

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
    GLAM_ERR_NUMERIC = -8    // a result is not finite, or too many steps in a row were not
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
// peer these bytes; zero means no message".  MPI is one filling of it, yours may be another.
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

#ifdef GLAM_MPI
// The ranks of an MPI communicator, on a copy of it: all of them call this.  size 0: MPI refused.
GLAM_API glam_comm glam_comm_mpi(MPI_Comm comm);
#endif

/* == 04 random : interface ================================================================ */

// Stateless: the same (seed, stream, index) gives the same number, whoever asks first.
// glam_random is uniform in [0,1), glam_normal has mean 0 and standard deviation 1.
GLAM_API float glam_random(uint64_t seed, uint64_t stream, uint64_t index);
GLAM_API float glam_normal(uint64_t seed, uint64_t stream, uint64_t index);

/* == 05 kernels : interface ===============================================================
   Nothing public: the kernels are reached through the ops. */

/* == 06 simd : interface ================================================================== */

// The instruction set in use: "base", "sse2", "avx2", "avx512", "avx512bf16" (the same with
// VDPBF16PS; taken by itself where that is faster), "amx" (with TDPBF16PS; taken by itself where
// options.arithmetic has a use for it) or "neon".
GLAM_API const char *glam_simd_name(const glam_ctx *ctx);

/* == 07 context : interface =============================================================== */

struct glam_trace;             // what a mixture did with each token: room 14

// What products multiply: in bf16 their operands are rounded to 8 significant bits, to nearest, as
// they are copied for the kernels.  Sums are f32 in a fixed order, and so is all else: weights,
// gradients, the optimiser, norms, softmax, the router, losses.
typedef enum glam_arithmetic {
    GLAM_F32,
    GLAM_BF16,                     // the same sums everywhere
    GLAM_BF16_TILES,               // and other sums, those of Intel's AMX; without it slower
    GLAM_AUTO                      // what is fastest: BF16_TILES with AMX (which Linux is asked
                                   // for), BF16 with AMD's AVX512-BF16, else F32
} glam_arithmetic;

// How the big matrices of a model (of attention, layers, experts; the embedding; not the router's)
// are stored.  Narrow ones are read only: rounded once, to nearest, and frozen; gradients pass
// through them.  Every product sums in f32 over the values that they stand for, with the same bits
// as over f32 weights of those values.
typedef enum glam_type {
    GLAM_TYPE_F32,
    GLAM_TYPE_BF16,                // 8 significant bits
    GLAM_TYPE_Q8                   // whole numbers from -127 to 127, and for each 32 neighbours of
                                   // a row a scale in bf16: 8.5 bits
} glam_type;

typedef struct glam_options {
    glam_allocator allocator;  // default: malloc and free
    int         threads;       // worker count; default 0: what OpenMP reports, at most the quota
                               // of a container (Linux) unless OMP_NUM_THREADS is set; else 1
    // The host's own workers: must run body over [0,chunks) in any split, each part with a
    // worker number in [0,threads) that no other running part has, and return when all is done.
    void      (*parallel_for)(void *user, int chunks, glam_body *body, void *arg);
    void       *parallel_user;
    const char *simd;          // force what glam_simd_name gives; NULL: the best
    glam_arithmetic arithmetic;    // of products; default GLAM_F32
    glam_type   weights;       // of models made or loaded here, where a file has no narrower ones;
                               // default GLAM_TYPE_F32.  One rank alone so far
    size_t      pack_bytes;    // budget for packed copies of weights in passes without training;
                               // default 64 MiB, 0: none.  In bf16 what finds no room there is
                               // rounded in each pass anew: decoding is then slower than in f32
    uint64_t    seed;          // of the initialisers and of dropout; default 1
    void      (*log)(void *user, const char *line);   // one line at a time, no newline
    void       *log_user;
    // Sees what every mixture layer did, once for each pass and part of a batch, on each rank for
    // its own tokens; never for a block that is only recomputed.  NULL, the default, costs nothing.
    void      (*trace)(void *user, const struct glam_trace *trace);
    void       *trace_user;
    int       (*cancel)(void *user);                  // polled between layers; non-zero: stop
    void       *cancel_user;
    // Many ranks.  Every function on a model, trainer or file is then called by all of them.
    const glam_comm *comm;     // copied; NULL: one rank
    int         mesh_x, mesh_y;    // ranks = X * Y.  X: batch parts and experts; Y: heads, widths,
                               // vocabulary.  default 0, 0: all ranks on X
    int         mesh_store;    // 1: what X does not split is stored split over X as well, gathered
                               // before use (the paper's 2D sharding); default 0
    double      receive_factor;    // dropless: rows a rank takes for its experts / the mean, at
                               // most X; more is an error on all ranks; default 4
} glam_options;

// Bytes by lifetime.  life: parameters, optimiser, texts; step: tape, activations, gradients;
// scratch: inside one op; packed: weights in the kernels' own order.  peak is the largest sum
// seen.  allocations counts calls of the allocator since glam_open: a steady step makes none.
typedef struct glam_bytes {
    uint64_t life, step, scratch, packed, total, peak, allocations;
} glam_bytes;

// Payload bytes that this rank sent to others since glam_open, by purpose, headers apart:
// counts of routing; rows to experts and back; sums over Y; gradients over X; gathered weights
// (mesh_store); numbers of reports and the optimiser; checksums and such of files.
typedef struct glam_traffic {
    uint64_t routing, dispatch, model, gradients, weights, sums, files, total;
} glam_traffic;

GLAM_API glam_options glam_options_default(void);

// "f32", "bf16" or "bf16_tiles": the arithmetic in use.
GLAM_API const char *glam_arithmetic_name(const glam_ctx *ctx);

// Opens a context: NULL options mean the defaults.  Returns NULL only when there is no memory;
// options that make no sense give a context that is already in error.
GLAM_API glam_ctx *glam_open(const glam_options *options);
// Frees everything that came from ctx, and ctx.  NULL is fine.
GLAM_API void glam_close(glam_ctx *ctx);
// How many threads it works with: options.threads, or what was found for 0.
GLAM_API int glam_threads(const glam_ctx *ctx);

// The first failure since glam_open or glam_clear_error, and its sentence ("" when there is none).
GLAM_API glam_status glam_error(const glam_ctx *ctx);
GLAM_API const char *glam_error_text(const glam_ctx *ctx);
GLAM_API void        glam_clear_error(glam_ctx *ctx);

GLAM_API glam_bytes glam_memory(const glam_ctx *ctx);
GLAM_API glam_traffic glam_sent(const glam_ctx *ctx);

// Measure mode: ops check shapes and count bytes, nothing is computed or allocated for values
// (tensors have data == NULL).  Run your own model code in it to learn what it needs, and on a
// mesh from glam_sent what its ops would send; a trainer without texts counts its step, which then
// is not done, in glam_train_step.
// Only a fresh context may enter it.
GLAM_API glam_status glam_measure(glam_ctx *ctx, int on);

// Ends a step by hand: the tape and every tensor that is not a parameter are gone.
GLAM_API void glam_forget(glam_ctx *ctx);

// Inside an op's forward or backward: uninitialised memory, gone when it returns; at most the
// scratch_bytes of its node in all.
GLAM_API void *glam_scratch(glam_ctx *ctx, size_t bytes);

// Gives back everything made since the mark (models, texts, sessions, trainers).
GLAM_API size_t glam_mark(glam_ctx *ctx);
GLAM_API void   glam_rewind(glam_ctx *ctx, size_t mark);

/* == 08 tensor : interface ================================================================ */

typedef struct glam_shape {
    int dims;                  // 1 to 4
    int dim[4];                // unused ones are 1
} glam_shape;

// Row-major, contiguous, transparent; floats, but for the narrow weights of a model.
typedef struct glam_tensor {
    float      *data;          // NULL while measuring, and where type is narrow: see glam_read.
                               // Weights changed by hand are seen from the next glam_forget on
    float      *grad;          // same shape; NULL where no gradient is wanted or has flowed
    glam_shape  shape;
    const char *name;          // of parameters; "" otherwise
    int         wants_grad;    // backward computes a gradient for it
    int         flags;         // internal
    struct glam__pack *pack;   // internal: this weight in the kernels' order
    struct glam__split *split; // internal: which block of a whole tensor this is; NULL: all of it
    struct glam__low *low;     // internal: the low-rank adapter of this weight, or NULL
    glam_type   type;          // of its numbers
    void       *narrow;        // internal: they, where they are narrow
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
// Rows [row, row+rows) of all rows of the last dimension, as floats; and floats into them, rounded
// as its type wants.  GLAM_ERR_VALUE: no such rows; GLAM_ERR_STATE: it has no values.
GLAM_API glam_status glam_read(const glam_tensor *t, size_t row, size_t rows, float *out);
GLAM_API glam_status glam_write(glam_tensor *t, size_t row, size_t rows, const float *values);
GLAM_API void glam_fill(glam_tensor *t, float value);
// Element i becomes std * normal(seed, hash of the name, i).
GLAM_API void glam_fill_normal(glam_tensor *t, uint64_t seed, float std);

/* == 09 autograd : interface ============================================================== */

#define GLAM_MAX_INPUTS 12
#define GLAM_MAX_ADAPTERS 8    // two operands for each weight of an op that has an adapter

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
    glam_tensor   *in[GLAM_MAX_INPUTS + GLAM_MAX_ADAPTERS];    // the op's, then those of adapters
    int            inputs;         // of both kinds
    glam_tensor   *out[2];
    glam_shape     out_shape[2];   // set by shape(); dims 0: no second output
    const void    *config;         // the op's own copy of what the caller passed
    void          *saved;          // saved_bytes, kept from forward to backward
    uint64_t       saved_bytes;    // set by shape()
    uint64_t       scratch_bytes;  // set by shape(): the most that forward or backward take
    int            flags;          // internal
};

// Runs an op and, when an input wants a gradient, leaves a node on the tape.  config_bytes of
// config are copied.  second, when not NULL, receives the second output.  NULL among the first
// op->inputs operands, where the op does not allow it, makes the result NULL.
GLAM_API glam_tensor *glam_apply(glam_ctx *ctx, const glam_op *op, glam_tensor *const *in,
                                 const void *config, size_t config_bytes, glam_tensor **second);
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

/* == 10 products : interface ==============================================================
   Nothing public: glam_matmul and the layers are made of it. */

/* == 11 ops : interface ===================================================================

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
// x / sqrt(mean(x^2) + eps) * gain.  GLaM: no mean, no bias, gain starts at 1.
GLAM_API glam_tensor *glam_rmsnorm(glam_ctx *ctx, glam_tensor *x, glam_tensor *gain, float eps);
// Rows of table [V,M] picked by ids, as [count,M].  An id outside 0..V-1 is an error; where mask
// (NULL: none) is 0 the row is zeros and the id is not looked at.
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

/* == 12 attention : interface ============================================================= */

typedef enum glam_position {
    GLAM_POSITION_BUCKETS        = 0,   // a learned bias per head and distance bucket
    GLAM_POSITION_TRANSFORMER_XL = 1,   // Dai et al. 2019: u, v, and a projected sinusoid
    GLAM_POSITION_NONE           = 2,
    GLAM_POSITION_ROTARY         = 3    // Su et al. 2021: queries and keys turned by position,
                                        // element i with i + D/2 (Llama, Mixtral, Qwen, OLMoE)
} glam_position;

// How the angles of rotary positions are stretched, so that a model reads further than it was
// trained: as the config files of the public models say it.
typedef enum glam_rotary_scaling {
    GLAM_ROTARY_UNSCALED = 0,
    GLAM_ROTARY_LINEAR   = 1,      // all by factor (Chen et al. 2023)
    GLAM_ROTARY_LLAMA3   = 2,      // slow ones by factor, fast ones not, a ramp between (Llama 3.1)
    GLAM_ROTARY_YARN     = 3       // another ramp, and a temperature (Peng et al. 2023)
} glam_rotary_scaling;

typedef struct glam_rotary {
    float theta;                   // pair i turns by theta^(-2i/D) a position; 0: 10000
    glam_rotary_scaling scaling;
    float factor;                  // 0: 1
    int   context;                 // that it had before; 0: the model's own, in glam_attention S
    float low, high;               // turns of a pair within context.  llama3: up to low all is
                                   // stretched, from high on nothing (0: 1, 4); yarn: beta_slow
                                   // and beta_fast (0: 1, 32)
    float attention;               // yarn: factor of cos and sin; 0: 0.1 ln(factor) + 1, at least 1
} glam_rotary;

// RMS norm of queries and keys, before positions: of each head, or of the whole row.
typedef enum glam_qk_norm {
    GLAM_QK_NORM_NONE  = 0,
    GLAM_QK_NORM_HEAD  = 1,        // Qwen3
    GLAM_QK_NORM_WHOLE = 2         // OLMoE
} glam_qk_norm;

typedef struct glam_attention_config {
    int   heads, d_head;
    int   kv_heads;                // of keys and values; 0: heads.  Fewer: several heads of queries
                                   // look at one (grouped queries, Ainslie et al. 2023)
    glam_position position;
    int   buckets, max_distance;   // of GLAM_POSITION_BUCKETS; 32 and 128 in GLaM
    float scale;                   // of q.k; with Transformer-XL of the whole sum
    int   sink;                    // 1: one more logit, fixed at 0, in each softmax
    float norm_eps;
    float cap;                     // > 0: cap tanh(s / cap) of each score s = scale q.k, before the
                                   // buckets' bias and the mask; 0: off
    glam_qk_norm qk_norm;
    glam_rotary  rotary;           // of GLAM_POSITION_ROTARY
} glam_attention_config;

// [in, out], A = heads*D, K = kv_heads*D.  norm NULL: y = Attn(x).  norm given: y = x +
// Attn(RMS(x) * norm), the whole pre-norm sub-layer, which needs less memory than its pieces.
typedef struct glam_attention_weights {
    glam_tensor *norm;                 // [M] or NULL
    glam_tensor *q, *k, *v;            // [M,A] [M,K] [M,K]
    glam_tensor *o;                    // [A,M]
    glam_tensor *bias;                 // [heads,buckets]         buckets
    glam_tensor *r, *u, *v_bias;       // [M,A] [heads,D] [heads,D]   Transformer-XL
    glam_tensor *q_norm, *k_norm;      // [D] [D], or of the whole [A] [K]
} glam_attention_weights;

// Causal self-attention of x [B,S,M].  segments [B,S] (NULL: one text per row): position i sees
// j <= i iff segments are equal and not 0; a 0 is padding.
GLAM_API glam_tensor *glam_attention(glam_ctx *ctx, glam_tensor *x, const glam_attention_weights *w,
                                     const glam_attention_config *config, const int32_t *segments);
// The bucket of a key `distance` positions back (0 = itself): T5's, causal (praxis RelativeBias).
GLAM_API int glam_bucket(int distance, int buckets, int max_distance);

/* == 13 ffn : interface =================================================================== */

typedef enum glam_activation {
    GLAM_RELU          = 0,   // experts only: two matrices; the code's default
    GLAM_GELU_TANH     = 1,   // dense: gelu(x gate) * (x up); experts: gelu(x up)
    GLAM_GELU_ERF      = 2,   // the same with the error function
    GLAM_GEGLU         = 3,   // experts only: gelu(x gate) * (x up), three matrices
    GLAM_SWIGLU        = 4,   // silu(x gate) * (x up), three matrices
    GLAM_GEGLU_LITERAL = 5    // dense only: gelu((x gate) * (x up)), the paper's sentence read so
} glam_activation;

typedef struct glam_ffn_weights {
    glam_tensor *norm;         // [M] or NULL, as in glam_attention_weights
    glam_tensor *gate, *up;    // [M,H]; the activated branch is gate
    glam_tensor *down;         // [H,M]
} glam_ffn_weights;

// y = (f(x gate) * (x up)) down, f gelu or silu; paper section 4, Shazeer 2020.  x [...,M].
GLAM_API glam_tensor *glam_ffn(glam_ctx *ctx, glam_tensor *x, const glam_ffn_weights *w,
                               glam_activation activation, float norm_eps);

/* == 14 moe : interface =================================================================== */

typedef enum glam_normalise {
    GLAM_NORMALISE_BEFORE_DROP = 0,   // the k weights sum to 1 before capacity is applied
    GLAM_NORMALISE_AFTER_DROP  = 1,   // the kept ones do
    GLAM_NORMALISE_NONE        = 2    // the softmax's own probabilities
} glam_normalise;

// Who chooses.  Scores are made of the router's logits l = cap(x Wr) / temperature.  Draws are made
// while training alone, from (seed, step, layer, part, token): a block that is recomputed draws
// the same, and a model in use routes like top_k.
typedef enum glam_router {
    GLAM_ROUTER_TOP_K   = 0,   // the k best scores; GLaM, and GShard's policy "all"
    GLAM_ROUTER_SAMPLED = 1,   // the best, then k - 1 others drawn by score: the best of
                               // ln s + Gumbel noise (policy "sampling" of the code)
    GLAM_ROUTER_RANDOM  = 2,   // the k best, but all after the first are left out unless a draw is
                               // below weight / threshold (GShard 2.2, its threshold is 1/2)
    GLAM_ROUTER_NOISY   = 3,   // the k best of x Wr + normal * softplus(x Wn), a gradient for both
                               // (Shazeer et al. 2017, section 2.1)
    GLAM_ROUTER_HASH    = 4,   // a fixed draw for each (layer, token id), weights 1/k; no router to
                               // learn (Roller et al. 2021, Hash Layers, "random")
    GLAM_ROUTER_EXPERT_CHOICE = 5    // each expert takes the `capacity` tokens of a group (none
                               // set: its share, group * k / E, rounded up) that score it best,
                               // weight = score (Zhou et al. 2022).  Not causal: a token's experts
                               // depend on later tokens, so glam_session_new refuses it; one rank
                               // alone so far
} glam_router;

typedef enum glam_router_score {
    GLAM_SCORE_SOFTMAX = 0,    // over all experts; with normalise before_drop the weights are also
                               // a softmax of the k chosen logits
    GLAM_SCORE_SIGMOID = 1     // of each logit (DeepSeek-V3, 2.1.2); the balance loss and entropy
                               // are of s / sum s, and router_z_weight must be 0
} glam_router_score;

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
    float router_z_weight;     // of mean logsumexp^2 of the router's logits; default 0.  Both are
                               // means over real tokens: padding counts for nothing
    float router_cap;          // > 0: cap tanh(l / cap) of the router's logits; default 0: off
    glam_router router;        // default GLAM_ROUTER_TOP_K
    glam_router_score score;   // default GLAM_SCORE_SOFTMAX
    float temperature;         // of the router's logits; default 1
    float threshold;           // of GLAM_ROUTER_RANDOM; default 0.5; 0: nothing is left out
    float weight_scale;        // factor on the weights in the sum; default 1
    int   bias;                // 1: a term of each expert that is added to its score for the choice
                               // alone, learned from loads (glam_moe_bias); default 0.  Not with
                               // hash and expert_choice
    float bias_rate;           // its step; default 0.001
    int   shared;              // in a model: H of an expert that works on every token beside the
                               // chosen ones, of the form of a dense layer; default 0: none
} glam_moe_config;

typedef struct glam_moe_weights {
    glam_tensor *norm;         // [M] or NULL, as in glam_attention_weights
    glam_tensor *router;       // [M,E]
    glam_tensor *gate;         // [E,M,H], gated experts only
    glam_tensor *up, *down;    // [E,M,H], [E,H,M]
    glam_tensor *noise;        // [M,E], GLAM_ROUTER_NOISY only; there is no router with HASH
    glam_tensor *bias;         // [E] or NULL; no gradient: see glam_moe_bias
} glam_moe_weights;

// What one mixture did, as plain data; the arrays live until glam_forget or the next step.
typedef struct glam_routing {
    int tokens, experts;
    int top_k;                   // k, entries of a token; E where experts choose
    int capacity;                // slots per expert and group; 0: dropless
    int dropped;                 // choices without a slot
    int sent, received;          // on a mesh: choices of mine worked on elsewhere, and rows of
                                 // others that my experts worked on
    const int32_t *expert;       // [T,k] best first; -1: none (padding, or see slot)
    const int32_t *slot;         // [T,k] place within (group, expert); -1: no slot, or padding;
                                 // -2: left out by the router, or a weight of 0
    const int32_t *kept;         // [T,k] 1: the expert worked on it
    const int32_t *load;         // [E]   kept choices
    const float   *weight;       // [T,k] weight in the sum; 0 where dropped
    const float   *probability;  // [T,E] scores; of HASH 1/k for the chosen ones
    float balance;               // E * sum f P of a group's real tokens, mean over groups by their
                                 // real tokens.  1 when f or P is uniform, but 1 proves neither,
                                 // and it is not the least: look at loads (glam_routing_stats)
    float router_z;              // mean over real tokens of logsumexp^2
    float entropy;               // mean over real tokens of -sum p log p, in nats
} glam_routing;

typedef enum glam_pass {
    GLAM_PASS_TRAIN = 0, GLAM_PASS_EVALUATE = 1, GLAM_PASS_GENERATE = 2
} glam_pass;

typedef enum glam_fate {         // what became of a choice
    GLAM_FATE_PADDING = 0,       // the token is padding: there is no choice
    GLAM_FATE_KEPT    = 1,       // the expert worked on it
    GLAM_FATE_NO_SLOT = 2,       // the expert was full
    GLAM_FATE_SKIPPED = 3        // the router left it out, or its weight is 0
} glam_fate;

// What options.trace sees, valid until it returns.  Token t of T = rows * length is at place
// position + t % length of row t / length.
typedef struct glam_trace {
    int step;                    // updates before this pass: of the trainer, else of glam_update
    int layer;                   // -1: a mixture of one's own (glam_moe); then rows is T, length 1
    int part;                    // of the batch, see recipe.accumulate; 0 in other passes
    glam_pass pass;
    int rows, length, position;
    const int32_t *token;        // [T] ids; NULL: a mixture of one's own
    const float   *logit;        // [T,E] of the router, as the scores were made of them
    const float   *weight;       // [T,k] before drops; after them: routing->weight
    const int32_t *fate;         // [T,k] a glam_fate each
    const glam_routing *routing;
} glam_trace;

// Counts of one layer over any number of passes, and what follows from them (glam_stats_finish).
// A choice counts where the router made it, before drops, unless it says kept.  OLMoE: Muennighoff
// et al. 2024; what names no source is counted as it says.
typedef struct glam_routing_stats {
    int experts, vocab, texts;   // E, V, and D for texts here; without ids or texts V or D is 0
    uint64_t tokens;             // real ones
    uint64_t choices, dropped;   // choices of them, and those without a slot
    uint64_t *first;             // [E] tokens that chose it first
    uint64_t *chosen;            // [E] tokens that chose it at all
    uint64_t *kept;              // [E] tokens that it worked on
    uint64_t *together;          // [E,E] tokens that chose both (co-activation, OLMoE 5.2); the
                                 // diagonal is chosen
    uint64_t *by_token;          // [V,E] first choices of each token id
    uint64_t *by_text;           // [D,E] choices of each text's tokens
    uint64_t compared, same_first, same, of;   // see glam_stats_compare
    double   sums[4];            // balance, entropy, weight of the first choice, of the second
    // From here on of glam_stats_finish; 0 where nothing was counted.
    double fullest, emptiest;    // largest and smallest first[e] / (their mean); 1, 1: even
    double kept_fullest, kept_emptiest;    // the same of kept[e] / (their mean)
    int    dead;                 // experts that are chosen less than 1/100 as often as the mean
    double dropped_share;        // dropped / choices
    double balance;              // mean over tokens of glam_routing.balance (GShard 2.2)
    double entropy;              // the same of glam_routing.entropy, in nats: at most ln E
    double weight_first, weight_second;    // mean weights in the sum; a dropped one is 0
    // How much the id alone tells: the share of tokens whose first choice is the one that their id
    // makes most often.  1/E to 1 (vocabulary specialisation, OLMoE 5.4).
    double token_specialisation;
    double *text_load;           // [D,E] by_text / the mean of that text over experts; 1: even
                                 // (domain specialisation, OLMoE 5.3)
    double agreement_first;      // share of tokens with the same first choice as before
    double agreement;            // share of choices made before as well, in any order (router
                                 // saturation, OLMoE 5.1)
} glam_routing_stats;

// For a layer of so many experts; vocab and texts may be 0.  It lives as long as ctx.  Below,
// GLAM_ERR_VALUE says: another number of experts, or an id, text or pass that does not fit.
GLAM_API glam_routing_stats *glam_stats_new(glam_ctx *ctx, int experts, int vocab, int texts);
// Counts one pass, or when it fails nothing of it.  token [T] are ids (NULL: none), text [T] says
// which text each token is of, from 0 (NULL: none).
GLAM_API glam_status glam_stats_add(glam_ctx *ctx, glam_routing_stats *stats,
                                    const glam_routing *routing, const int32_t *token,
                                    const int32_t *text);
// Compares the choices of one pass with those of an earlier model for the same tokens.
GLAM_API glam_status glam_stats_compare(glam_ctx *ctx, glam_routing_stats *stats,
                                        const glam_routing *now, const glam_routing *before);
// Adds what another has counted (of other texts, ranks or layers of the same shape).
GLAM_API glam_status glam_stats_merge(glam_ctx *ctx, glam_routing_stats *stats,
                                      const glam_routing_stats *other);
// Fills what follows from the counts; it may go on counting afterwards.
GLAM_API void glam_stats_finish(glam_routing_stats *stats);

GLAM_API glam_moe_config glam_moe_config_default(void);
// Router, up, down (and gate) as parameters named name.router and so on, uniform by fan-in; noise
// and bias, where config has them, start at 0.  config.hidden must be set: here is no dense layer
// that it could follow, so NULL for config is GLAM_ERR_VALUE.
GLAM_API glam_moe_weights glam_moe_init(glam_ctx *ctx, const char *name, int d_model,
                                        const glam_moe_config *config);
// y = sum over a token's k experts of weight * expert(x), chosen as config.router says; hash needs
// ids, which a model alone has.  x [...,M].  routing and balance may be NULL; balance becomes a
// one-element tensor, aux_weight * balance loss + router_z_weight * router z-loss, to be added to
// your own loss.  GLAM_ERR_VALUE: config; GLAM_ERR_SHAPE: weights, or no multiple of config.group.
GLAM_API glam_tensor *glam_moe(glam_ctx *ctx, glam_tensor *x, const glam_moe_weights *w,
                               const glam_moe_config *config, glam_routing *routing,
                               glam_tensor **balance);
// The same where mask [T] marks padding with 0: not routed, not counted, output 0.
GLAM_API glam_tensor *glam_moe_masked(glam_ctx *ctx, glam_tensor *x, const int32_t *mask,
                                      const glam_moe_weights *w, const glam_moe_config *config,
                                      glam_routing *routing, glam_tensor **balance);
// Balancing without a loss: b_e += rate * sign(mean load - load_e), bias and load [E] (Wang et al.
// 2024, auxiliary-loss-free load balancing; DeepSeek-V3).  A trainer does it after each step.
GLAM_API void glam_moe_bias(glam_tensor *bias, const int32_t *load, float rate);

/* == 15 model : interface ================================================================= */

// Each field: default of glam_config_default(); the paper's value where it differs.
typedef struct glam_config {
    int   vocab;               // V; 256: bytes.  Paper 256000 (its tables count with 32000)
    int   context;             // trained length; 128.  Not a limit.  Paper 1024
    int   layers;              // L; 4
    int   d_model;             // M; 96
    int   heads;               // 2
    int   d_head;              // D; 0: d_model / heads
    int   kv_heads;            // of keys and values, see glam_attention_config; 0: heads
    int   hidden;              // H of a dense layer; 0: 4 * d_model
    glam_position position;    // buckets
    int   buckets, max_distance;   // 32, 128
    float attention_scale;     // 1: the scale lives in the query's initialisation
    int   attention_sink;      // 1: one more logit of 0 in each attention softmax
    float attention_cap;       // > 0: soft cap of the scores, see glam_attention_config; 0: off
    glam_qk_norm qk_norm;      // none
    glam_rotary  rotary;       // of position rotary; all 0: theta 10000, unscaled
    glam_activation activation;    // of dense layers; GLAM_GELU_TANH
    float norm_eps;            // 1e-6
    float embed_scale;         // of what is looked up in the embedding; 1
    float residual_scale;      // of what each sub-layer adds to the stream; 1
    int   tied;                // 1: the logits use the embedding
    float logit_scale;         // 0: d_model^-0.5
    float logit_cap;           // > 0: cap tanh(l / cap) of the logits; 0: off
    float z_loss;              // 1e-4 * mean logsumexp(logits)^2
    glam_moe_config moe;       // of every layer; paper: of every other
} glam_config;

typedef struct glam_model glam_model;

// Tokens and what to predict, [rows,length].  NULL where absent: targets are only needed for a
// loss, -1 is nothing to predict; mask 0 is padding; segments number packed texts from 1, 0 is
// padding.
typedef struct glam_batch {
    int rows, length;
    const int32_t *tokens, *targets, *mask, *segments;
} glam_batch;

// The parts of the loss.  xent is a mean over real tokens with something to predict, z one over all
// real tokens (with a z_loss of 0 over those of xent: no others have logits then); aux and router_z
// are sums over the mixture layers, unweighted.
// total = xent + z_loss z + aux_weight aux + router_z_weight router_z
typedef struct glam_losses { double xent, z, aux, router_z, total; } glam_losses;

typedef enum glam_mode {
    GLAM_INFER = 0,            // no token is dropped
    GLAM_TRAIN = 1             // capacity and drops as configured
} glam_mode;

GLAM_API glam_config glam_config_default(void);
// A row of the paper's table 4 by name ("0.1B", "0.1B/64E", ... "64B/64E") with the settings of
// the code: vocabulary 32000 (256000 for 64B/64E), context 1024, ReLU experts,
// capacity factor 2.0, group 1024.  GLAM_ERR_VALUE and *config untouched when there is no such row.
GLAM_API glam_status glam_config_preset(const char *name, glam_config *config);
// Names of the presets: index 0, 1, ...; NULL past the last.
GLAM_API const char *glam_config_preset_name(int index);

// A new model with initialised weights (as the code does; seed from options.seed).
GLAM_API glam_model *glam_model_new(glam_ctx *ctx, const glam_config *config);
// The resolved configuration: derived sizes are filled in.
GLAM_API const glam_config *glam_model_config(const glam_model *model);
GLAM_API glam_ctx *glam_model_ctx(const glam_model *model);
// Parameters in all, and per token (NULL: not wanted).
GLAM_API uint64_t glam_model_count(const glam_model *model, uint64_t *active);
// Logits [B,S,V], zero at padding.  (On a mesh with mesh_y above 1 they carry no gradient;
// glam_loss does.)
GLAM_API glam_tensor *glam_forward(glam_model *model, const glam_batch *batch, glam_mode mode);
// The total loss [1], ready for glam_backward or glam_update; losses may be NULL.  A batch cut
// into parts has the losses of its parts, each times its share of the tokens.  On a mesh the batch
// is this rank's part along X and the loss that share of it; so they add up over the ranks.
GLAM_API glam_tensor *glam_loss(glam_model *model, const glam_batch *batch, glam_mode mode,
                                glam_losses *losses);
// What the mixture of this layer did in the last pass, a trainer's or one of your own; NULL for a
// dense layer.  The two are kept apart: see glam_trainer_routing.
GLAM_API const glam_routing *glam_model_routing(const glam_model *model, int layer);
// The settings of the mixture of a layer as they are now; NULL for a dense layer.
GLAM_API const glam_moe_config *glam_model_moe(const glam_model *model, int layer);
// Other settings from the next pass on, while it trains or runs; layer -1: of all mixtures, and
// then a file has them too.  Which weights there are may not change with them, nor
// router_z_weight; with a larger top_k the next step takes more memory.  off [E]: 1 switches an
// expert off (it is never chosen, its score is 0); NULL: all are on.  The switches, and what a
// single layer was told, are in no file.  On a mesh all ranks do it alike.  GLAM_ERR_VALUE, and
// nothing changes: no mixture there, other weights, fewer than top_k experts left on.
GLAM_API glam_status glam_model_tune(glam_model *model, int layer, const glam_moe_config *now,
                                     const unsigned char *off);
// A parameter by name ("layers.0.moe.router"), or by index 0, 1, ...; NULL when there is none.
GLAM_API glam_tensor *glam_model_tensor(const glam_model *model, const char *name);
GLAM_API glam_tensor *glam_model_tensor_at(const glam_model *model, int index);
// A mixture grown from a dense model, in the same context: the layers that moe names get experts
// that are all copies of what the dense layer was, so with weights that sum to 1 the loss is the
// same, and a new router (sparse upcycling, Komatsuzaki et al. 2023); a shared expert gives zeros
// at first.  Of moe (NULL: the defaults) hidden and activation follow the dense model, whose own
// must be gelu_tanh or swiglu, else GLAM_ERR_VALUE.  One rank alone so far, else GLAM_ERR_STATE.
GLAM_API glam_model *glam_upcycle(const glam_model *dense, const glam_moe_config *moe);
// A copy with other experts: number e of layer l is a copy of number from[l * experts + e], with
// what the router knows of it.  Twice the same: it is duplicated; left out: it is dropped.  from
// is [layers,experts]; rows of dense layers do not count.  GLAM_ERR_VALUE: a number that no expert
// has.  One rank alone so far, else GLAM_ERR_STATE.
GLAM_API glam_model *glam_select_experts(const glam_model *model, const int32_t *from, int experts);
// The `keep` experts that were chosen most, in their order, as such a row [keep]; of equal ones the
// first.
GLAM_API glam_status glam_stats_most(glam_ctx *ctx, const glam_routing_stats *stats, int keep,
                                     int32_t *row);
// Another context, on another thread, reads the weights of this model; the owner must not train
// or close meanwhile.  The borrowed model cannot be trained.
GLAM_API glam_model *glam_model_borrow(glam_ctx *ctx, const glam_model *model);
// Stops (frozen = 1) or restarts the training of every tensor that pattern names: a glob over
// names ("layers.*.attn.*"), or one of the words experts router attention ffn embeddings norms,
// or layers.3; blanks around it do not count.  Returns how many matched; none is an error.  Do it
// before glam_trainer_new.
GLAM_API int glam_freeze(glam_model *model, const char *pattern, int frozen);
// The same for single experts of a layer, of those of its weights (or adapters) that train: frozen
// [E], 1: its part of them stays as it is, bit for bit, and they have no weight decay; NULL: all
// train.  Trains the experts alone that a task uses (ESFT, Wang et al. 2024).  GLAM_ERR_VALUE: no
// mixture there; GLAM_ERR_STATE: a mesh (one rank alone so far), or they belong to a trainer.
GLAM_API glam_status glam_freeze_experts(glam_model *model, int layer, const unsigned char *frozen);

// Low-rank adapters (LoRA, Hu et al. 2022): y = x W + s (x A) B, W [k,n] frozen, A [k,r] uniform in
// +-1/sqrt(k), B [r,n] zero; of experts a pair each, A [E,k,r] and B [E,r,n], and each row meets
// the pair of its own expert alone.  They are parameters, "layers.0.attn.q.lora_a" and "..._b",
// behind the weights of glam_model_tensor_at, and in files.  From the first adapter on a model
// trains them and nothing else, until glam_freeze says otherwise; before a trainer is made.
typedef enum glam_role {       // which weights, by what they do
    GLAM_ROLE_ATTENTION = 1,   // q, k, v, o
    GLAM_ROLE_EXPERTS   = 2,   // of mixtures: gate, up, down of each expert
    GLAM_ROLE_ROUTER    = 4,
    GLAM_ROLE_DENSE     = 8,   // of dense layers: gate, up, down
    GLAM_ROLE_SHARED    = 16   // the same of shared experts
} glam_role;

typedef struct glam_lora {
    int   roles;               // a sum of glam_role                  [GLAM_ROLE_ATTENTION]
    int   rank;                // r                                   [8]
    int   expert_rank;         // of experts; 0: rank                 [0]
    float alpha;               // s = alpha / r                       [16]
    int   rslora;              // 1: s = alpha / sqrt(r) (Kalajdzievski 2023)   [0]
} glam_lora;

// How weight W is adapted.
typedef struct glam_adapter { glam_tensor *a, *b; float scale; } glam_adapter;

GLAM_API glam_lora glam_lora_default(void);
// Its word: "attention", "experts", ...; NULL: it is none.
GLAM_API const char *glam_role_name(int role);
// Adapters for all weights of some roles (NULL: the defaults).  GLAM_ERR_VALUE, and none is added:
// a role that no weight of the model has, a rank below 1; GLAM_ERR_STATE: a mesh (one rank alone
// so far), a borrowed model, weights that have one or belong to a trainer.
GLAM_API glam_status glam_model_adapt(glam_model *model, const glam_lora *lora);
// One adapter, for a weight by name; fails in the same way.
GLAM_API glam_status glam_adapt(glam_model *model, const char *weight, int rank, float scale);
// 1 and *out: the adapter of this weight; 0: it has none.
GLAM_API int glam_adapter_of(const glam_model *model, const char *weight, glam_adapter *out);
// 0: passes go as if there were no adapters, until 1.  How it was before.
GLAM_API int glam_model_use_adapters(glam_model *model, int on);
// W += s A B, in float32; the adapters are gone, and all weights train.
GLAM_API glam_status glam_model_merge(glam_model *model);

/* == 16 text : interface ================================================================== */

typedef struct glam_tokenizer glam_tokenizer;

// How a text is cut into words, within which pieces are merged: the expressions that public
// models use, by the first who did.
typedef enum glam_split {
    GLAM_SPLIT_NONE,      // SentencePiece: blanks begin words
    GLAM_SPLIT_GPT2,      // 's 'll .. | ?letters | ?digits | ?others | blanks: gpt-2, OLMoE
    GLAM_SPLIT_DIGITS,    // each digit alone, then gpt-2's: starcoder, SmolLM, Granite 3
    GLAM_SPLIT_QWEN,      // any one sign before letters, each digit alone, lines end words: qwen2
    GLAM_SPLIT_LLAMA3,    // the same, up to three digits: llama-3, dbrx
    GLAM_SPLIT_MARKS,     // qwen's, and marks are letters: qwen3.5
    GLAM_SPLIT_O200K,     // words by case too: gpt-4o, gpt-oss, llama-4
    GLAM_SPLIT_DEEPSEEK,  // cased letters, signs, blanks at an end, Asian scripts, each digit alone
    GLAM_SPLIT_DEEPSEEK_CODER      // the same, with letters of any kind; blanks are not cut off
} glam_split;

typedef enum glam_piece_kind {
    GLAM_PIECE_NORMAL,
    GLAM_PIECE_ADDED,     // found in a text before it is cut
    GLAM_PIECE_CONTROL,   // never found in a text (unless asked for) and written as nothing
    GLAM_PIECE_BYTE,      // a byte of a character that no piece has
    GLAM_PIECE_UNUSED
} glam_piece_kind;

// Byte-pair encoding (Sennrich et al., 2016) as plain data.  Pieces are the bytes they stand for:
// a SentencePiece blank is a blank here.
typedef struct glam_vocabulary {
    int size;                      // ids are 0 .. size-1
    const char *bytes;             // of all pieces, one after the other
    const uint32_t *ends;          // [size] where each ends
    const uint8_t *kinds;          // [size] glam_piece_kind; NULL: all normal
    int merges;                    // pairs of ids that become one piece, the most urgent first
    const int32_t *merge;          // [merges][2]; merges 0:
    const float *score;            // [size] the highest of what two neighbours make is merged first
    glam_split split;
    int whole_words;               // 1: a word that is a piece is not merged ("ignore_merges")
    int blank_before;              // 1: a blank is put before a text
    int composed;                  // 1: texts are brought into Unicode's form C (NFC) first
    int32_t begin, end;            // ids before a text and at an end; -1: none
} glam_vocabulary;

// Bytes are tokens: 256 of them, any text, no table.  NULL means this one everywhere.
GLAM_API glam_tokenizer *glam_tokenizer_bytes(glam_ctx *ctx);
// Copies the vocabulary.  GLAM_ERR_VALUE: parts of it are NULL; GLAM_ERR_FORMAT: ids or ends that
// do not fit, a merge whose result is no piece, a letter without one.
GLAM_API glam_tokenizer *glam_tokenizer_new(glam_ctx *ctx, const glam_vocabulary *vocabulary);
// Learns size - 256 merges from a text (fewer where no pair comes twice): the most frequent pair of
// neighbours first, of equal ones that of smaller ids.  Ids below 256 are the bytes.
// GLAM_ERR_VALUE: size not from 256 to 2^24, or GLAM_SPLIT_NONE.
GLAM_API glam_tokenizer *glam_tokenizer_train(glam_ctx *ctx, const char *text, size_t bytes,
                                              int size, glam_split split);
GLAM_API int glam_tokenizer_size(const glam_tokenizer *tokenizer);
// NULL for bytes.
GLAM_API const glam_vocabulary *glam_tokenizer_vocabulary(const glam_tokenizer *tokenizer);
// The bytes of a piece, not terminated; NULL: there is no such id, or bytes are tokens.
GLAM_API const char *glam_tokenizer_piece(const glam_tokenizer *tokenizer, int32_t id, int *bytes);
// Writes up to `most` ids and returns how many the text has (call with most 0 to learn the number).
// No begin is put before the text, and control pieces are not looked for.  A byte that has no piece
// is left out.  0 and an error of the tokenizer's context: no memory for a word of more than 100
// characters, or for a text that is to be composed.
GLAM_API size_t glam_encode(const glam_tokenizer *tokenizer, const char *text, size_t bytes,
                            int32_t *ids, size_t most);
// The same for what a program writes between texts (the marks of a turn): control pieces are found.
GLAM_API size_t glam_encode_control(const glam_tokenizer *tokenizer, const char *text, size_t bytes,
                                    int32_t *ids, size_t most);
// Writes up to size-1 bytes and a terminating 0 (nothing at size 0); returns the bytes the ids
// have.  An id that is none becomes '?'.  blank_before's blank is there, so that texts can be
// decoded in parts: who wants the first one away drops it.
GLAM_API size_t glam_decode(const glam_tokenizer *tokenizer, const int32_t *ids, size_t count,
                            char *text, size_t size);
// How many of these bytes are whole characters of UTF-8: what may be shown while more is to come.
// Bytes that cannot become one count as whole.
GLAM_API size_t glam_whole_characters(const char *text, size_t bytes);
// A model's own tokenizer; NULL: bytes.  It is saved and loaded with the model.
GLAM_API const glam_tokenizer *glam_model_tokenizer(const glam_model *model);
// tokenizer NULL: bytes.  It is not copied: it must live as long as the model.  GLAM_ERR_VALUE: it
// has more pieces than the model's vocabulary.
GLAM_API glam_status glam_model_set_tokenizer(glam_model *model, const glam_tokenizer *tokenizer);

/* == 17 generate : interface ============================================================== */

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
// Forgets what was read; the room stays.  A borrowed model sees its owner's new weights from here.
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
// Continues a text, in tokens of the model's own: writes at most size-1 bytes of continuation and a
// 0.  Returns how many bytes were written, 0 on failure.  sampling NULL: the defaults.
GLAM_API int glam_complete(glam_model *model, const char *prompt, char *out, int size,
                           const glam_sampling *sampling);

typedef struct glam_beam {
    int    width;              // texts kept at each step; default 4, as in the paper; 1: greedy
    double length_power;       // a text is worth loglik / ((5 + tokens) / 6)^this, which favours
                               // longer ones; default 0.6, GPT-3's (the paper: none named)
    int  (*ends)(void *user, const int32_t *tokens, int count);    // is a text that ends with
    void  *ends_user;          // tokens[count-1] finished?  default NULL: none is before `most`
} glam_beam;

GLAM_API glam_beam glam_beam_default(void);
// Continues prompt by up to `most` tokens with the text worth most of those that a beam meets: of
// the 2 width likeliest next steps those that end a text are finished, and the first width others
// go on.  beam NULL: the defaults.  Returns its tokens, 0 on failure; *loglik (NULL: not wanted)
// becomes the log of its probability, in nats.  It holds 2 width key/value caches meanwhile.
GLAM_API int glam_beam_search(glam_model *model, const int32_t *prompt, int count, int32_t *out,
                              int most, const glam_beam *beam, double *loglik);

/* == 18 data : interface ================================================================== */

typedef struct glam_text glam_text;

// A file or pipe, read whole and tokenized (NULL: bytes).  An empty one is GLAM_ERR_VALUE.
GLAM_API glam_text *glam_text_open(glam_ctx *ctx, const char *path,
                                   const glam_tokenizer *tokenizer);
GLAM_API glam_text *glam_text_from(glam_ctx *ctx, const char *text, size_t bytes,
                                   const glam_tokenizer *tokenizer);
GLAM_API glam_text *glam_text_from_tokens(glam_ctx *ctx, const int32_t *tokens, size_t count);
// The bytes of a file as tokens, read where and when they are needed: it may be larger than memory.
// It must stay as it is until glam_close.  Batches have the bits that glam_text_open's have.
// GLAM_ERR_FILE: no plain file that can be read; GLAM_ERR_VALUE: an empty one.
GLAM_API glam_text *glam_text_file(glam_ctx *ctx, const char *path);
// Cuts a text into documents: each ends behind the separator (1 to 8 tokens), or behind several in
// a row.  From here on batches have segments (the documents of a row, from 1) and a mask: the last
// token of a document has no successor.  A split keeps documents whole.  Returns how many there
// are, 0 on failure (GLAM_ERR_VALUE: no such separator).  Mixtures and splits made before know
// nothing of it.
GLAM_API size_t glam_text_documents(glam_text *text, const int32_t *separator, int count);
GLAM_API size_t glam_text_length(const glam_text *text);                  // tokens
// Copies up to count tokens, from token `from` on, and returns how many there were.
GLAM_API size_t glam_text_read(const glam_text *text, size_t from, size_t count, int32_t *out);
// The last `fraction` of each text in it is for validation: *valid; the rest is *train.  Between
// documents, where there are any: so much and the start of the document that the cut fell into.
GLAM_API glam_status glam_text_split(glam_text *text, float fraction, glam_text **train,
                                     glam_text **valid);
// Tokens of which some are to be learnt: a question and its answer, say.
typedef struct glam_example {
    const int32_t *tokens;             // [count]
    const unsigned char *learn;        // [count] 1: to be predicted from those before it; NULL: all
    int count;                         // 2 or more; there is nothing before the first
} glam_example;
// Examples as a text, copied, in an order of chance that is always the same, so that what a split
// holds back is a fair sample.  A batch has windows of `length` tokens into which whole examples
// are packed as segments of their own, the loss of each is what it would be alone, and the targets
// of what is not to be learnt are -1.  What an example has past length + 1 tokens is cut off.
// Every window comes once before any comes again, in another order each time; in a mix, or cut
// from one, they are drawn like others.  GLAM_ERR_VALUE: an example of which nothing is learnt.
GLAM_API glam_text *glam_text_examples(glam_ctx *ctx, const glam_example *examples, int count,
                                       int length);
// How many windows of `length` tokens there are that do not overlap, and how many tokens all of
// them predict (NULL: not wanted).
GLAM_API size_t glam_text_windows(const glam_text *text, int length, uint64_t *predicted);
// Several texts as one; a window never crosses from one into the next.  A window is drawn from
// text i with probability weights[i] / sum; weights NULL: by length.
GLAM_API glam_text *glam_mix(glam_ctx *ctx, glam_text *const *texts, const float *weights,
                             int count);
// A source of the paper's training set (table 3): so many tokens (10^9), drawn with this weight.
typedef struct glam_source { const char *name; double tokens, weight; } glam_source;
GLAM_API const glam_source *glam_mix_preset(int index);       // 0 to 5, else NULL
// What steps [from, to) of glam_next_batch draw of each of the `count` texts that glam_mix was
// given, counted: epochs [count], tokens drawn / tokens there are.
GLAM_API glam_status glam_mix_epochs(const glam_text *mix, int rows, int length, uint64_t seed,
                                     uint64_t from, uint64_t to, double *epochs, int count);
// Fills batch with rows windows of length tokens and their next tokens.  Row r starts at a place
// that is a function of (seed, step, r); of examples, (seed, step * rows + r).  The arrays belong
// to the step (glam_forget).  GLAM_ERR_VALUE: examples that were packed for longer windows.
GLAM_API glam_status glam_next_batch(glam_text *text, int rows, int length, uint64_t seed,
                                     uint64_t step, glam_batch *batch);

// ---- documents, before they are a text

typedef struct glam_document { const char *text; size_t bytes; } glam_document;
// A hash, never 0, of the next word, from byte *at on, which moves behind it; 0: there is none.
// Words are runs of letters (A is a), digits and bytes above 127; with signs each other printable
// byte is one, too.
GLAM_API uint64_t glam_next_word(const glam_document *document, int signs, size_t *at);
typedef struct glam_filter glam_filter;

// The paper's quality filter (section 3): a linear classifier over hashed features, here words,
// signs and pairs of neighbours.  Feature i of a document weighs x_i = sqrt(its share of all), so
// x is a unit vector.  score = sigmoid(w.x + bias): the chance that the document is curated.
typedef struct glam_filter_config {
    int    bits;         // 2^bits weights, 8 to 24 [18]
    double lr;           // of AdaGrad, w -= lr g / sqrt(sum of g^2) [0.05]
} glam_filter_config;
GLAM_API glam_filter_config glam_filter_config_default(void);
GLAM_API glam_filter *glam_filter_new(glam_ctx *ctx, const glam_filter_config *config);
// [2^bits + 1], the last one is the bias.  For glam_save_tensors and glam_load_tensors.
GLAM_API glam_tensor *glam_filter_weights(const glam_filter *filter);
// One step for each document in turn, down the logistic loss.  labels [count]: 1 curated, 0 not;
// weights [count] (NULL: 1) multiply losses.  A stream is many calls; the bits do not depend on how
// it is cut, nor on threads.  *loss (NULL: not wanted): the weighted mean in nats, each before it
// was learnt.  GLAM_ERR_VALUE, and nothing is learnt: a label not from 0 to 1, a negative weight.
GLAM_API glam_status glam_filter_train(glam_filter *filter, const glam_document *documents,
                                       const float *labels, const float *weights, int count,
                                       double *loss);
// The score of each document, from 0 to 1, into scores [count].
GLAM_API glam_status glam_filter_score(glam_filter *filter, const glam_document *documents,
                                       int count, float *scores);
// Does document number index stay?  1 when a draw from the Pareto distribution of alpha (> 0; as
// numpy has it, from 0) exceeds 1 - score: with the chance (2 - score)^-alpha.  The paper names no
// alpha; 9 is that of GPT-3, which it cites.  0: it does not, or alpha or score is no such number.
GLAM_API int glam_filter_keep(double score, double alpha, uint64_t seed, uint64_t index);

/* == 19 train : interface ================================================================= */

typedef enum glam_optimizer_kind { GLAM_ADAFACTOR = 0, GLAM_ADAMW = 1 } glam_optimizer_kind;

typedef enum glam_schedule {
    GLAM_SCHEDULE_PAPER    = 0,   // lr / 0.01 / sqrt(max(step, 10000)): constant, then 1/sqrt
    GLAM_SCHEDULE_COSINE   = 1,   // linear warm-up, then a cosine from lr to lr * min_lr
    GLAM_SCHEDULE_CONSTANT = 2    // linear warm-up, then lr
} glam_schedule;

// A way to train.  In brackets: glam_recipe_default(), glam_recipe_paper().
typedef struct glam_recipe {
    glam_optimizer_kind optimizer;   // [Adafactor, Adafactor]
    glam_schedule schedule;      // [cosine, paper]
    double   lr;                 // Adafactor with parameter_scale: relative to the weights' RMS;
                                 // AdamW: absolute, 1e-3 to 3e-3 suit it [0.03, 0.01]
    double   embed_lr;           // factor on lr for embed and unembed [1, 1]
    double   bias_lr;            // the position buckets' steps are lr * bias_lr, relative to
                                 // nothing: what they add to is a logit, of size 1 and more.
                                 // 0: they are like any other tensor [10, 0]
    int      warmup;             // steps of linear warm-up [50, 0]
    double   min_lr;             // cosine ends at lr * min_lr [0.05, 0]
    int      steps;              // [2000, 2000]
    int      batch;              // sequences per optimiser step [16, 16]
    int      context;            // tokens per sequence; 0: the model's context
    int      accumulate;         // equal parts a batch is cut into; [1, 1]
    int      recompute;          // 1: blocks are run again in backward, for memory [0, 0]
    int      update_in_backward; // 1: a tensor is updated as soon as its gradient is whole, whose
                                 // memory then serves the next: weights and one layer's gradients
                                 // are held.  Needs clip 0 and accumulate 1 [0, 0]
    double   clip;               // global gradient norm; 0: none [1, 0]
    double   weight_decay;       // AdamW: tensors of rank two and more but those named embed,
                                 // unembed, bias, router, u, v_bias [0.1, 0]
    int      decay_all;          // 1: decay every tensor of rank two and more [0, 0]
    double   beta1, beta2, eps;  // AdamW [0.9, 0.99, 1e-8]
    int      factor_min;         // Adafactor factors where the second-largest dim has this [128]
    double   update_clip;        // Adafactor: RMS of an update; 1e10 and more: none [1.0]
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
    double   balance;            // mean over mixture layers of glam_routing.balance
    double   entropy;            // mean over mixture layers of the router's entropy, nats
    double   dropped;            // share of choices that found no slot
    double   load_min, load_max; // smallest and largest load of an expert / the even load
    double   grad_norm, lr;
    double   valid_loss;         // of the last validation; negative: none yet
    double   seconds;            // spent in training steps, validation left out
    double   tokens_per_second;  // read, padding too
    uint64_t tokens;             // predicted so far
    double   flops;              // of all steps, as glam_plan counts it; of all ranks
    uint64_t bytes;              // held by the context now
    int      skipped;            // this update was not finite and was left out
    int      torn;               // update_in_backward met an update that was not finite: what came
                                 // before it is updated, the rest is not; go back to a checkpoint
    int      bad_steps;          // skipped so far
    int      cancelled;          // stopped by options.cancel: everything is as before the step
    int      stopped;            // patience ran out
} glam_report;

typedef struct glam_optimizer glam_optimizer;
typedef struct glam_trainer glam_trainer;

GLAM_API glam_recipe glam_recipe_default(void);
GLAM_API glam_recipe glam_recipe_paper(void);      // Adafactor, 1/sqrt schedule, as in the paper
GLAM_API glam_recipe glam_recipe_finetune(void);   // lower rate, short warm-up, early stop
GLAM_API glam_recipe glam_recipe_quick(void);      // as far as 230,000 bytes can go, in seconds
// The learning rate of step t (counted from 0).
GLAM_API double glam_recipe_lr(const glam_recipe *recipe, int t);

// Trains whatever tensors you name.  Gradients and slots are allocated here, for those that want
// a gradient.  Of the recipe only the optimiser's fields, clip, schedule, update_in_backward and
// max_bad_steps count.
GLAM_API glam_optimizer *glam_optimizer_new(glam_ctx *ctx, glam_tensor *const *params, int count,
                                            const glam_recipe *recipe);
// backward, check, clip, step, forget.  A step that is not finite, or would leave a weight that is
// not, or has gradients whose squares no float holds, changes nothing: report says so.
GLAM_API glam_status glam_update(glam_optimizer *optimizer, glam_tensor *loss,
                                 glam_report *report);

// valid may be NULL.  recipe NULL: glam_recipe_default().
GLAM_API glam_trainer *glam_trainer_new(glam_model *model, glam_text *train, glam_text *valid,
                                        const glam_recipe *recipe);
// One optimiser step.  1: done, there may be more; 0: the run is over, was cancelled, or failed
// (glam_error tells).  report may be NULL; after the run it repeats the last step's.  After
// glam_clear_error the same call goes on with the bits of an undisturbed run; a step whose
// validation failed is done (glam_trainer_done counts it), and only its validation is repeated.
// max_bad_steps: the weights are those before the bad steps, and can be saved then.
GLAM_API int glam_train_step(glam_trainer *trainer, glam_report *report);
// Loss on the whole validation text now; negative when it failed or was cancelled.
GLAM_API double glam_validate(glam_trainer *trainer);
GLAM_API glam_model *glam_trainer_model(const glam_trainer *trainer);
GLAM_API const glam_recipe *glam_trainer_recipe(const glam_trainer *trainer);
GLAM_API int glam_trainer_done(const glam_trainer *trainer);              // steps so far
// The least loss of the validations of eval_every, in the checkpoint too; -1: none yet.
GLAM_API double glam_trainer_best(const glam_trainer *trainer);
// What the mixture of this layer did in the last training step (its last part); a pass of your own
// since then leaves it as it is, glam_forget does not.  NULL: a dense layer, or no step yet.
GLAM_API const glam_routing *glam_trainer_routing(const glam_trainer *trainer, int layer);
// A resumed run may be given another end.
GLAM_API glam_status glam_trainer_steps(glam_trainer *trainer, int steps);
// "trains 1.2 of 37.3 million parameters: attention, norms"
GLAM_API const char *glam_trainer_summary(const glam_trainer *trainer);

/* == 20 evaluate : interface ============================================================== */

typedef struct glam_perplexity_report {
    double   loss;             // nats per token; exp(loss) is the perplexity
    double   perplexity;
    double   bits_per_token;   // bits per byte when bytes are tokens
    uint64_t tokens;           // predicted
} glam_perplexity_report;

// The loss over the whole text in windows of `context` tokens (0: the model's) that do not
// overlap; the tail that fills no window is left out.  Nothing is dropped.  Cancelled: tokens 0.
GLAM_API glam_status glam_perplexity(glam_model *model, glam_text *text, int context,
                                     glam_perplexity_report *report);

// What the log-likelihoods of options are divided by before they are compared.
typedef enum glam_per { GLAM_PER_SUM, GLAM_PER_TOKEN, GLAM_PER_CHAR, GLAM_PER_BYTE } glam_per;

// A text to be scored and the text before it, both ended by 0.  The tokens [from,count) of a span.
typedef struct glam_query { const char *context, *continuation; } glam_query;
typedef struct glam_span { const int32_t *tokens; int count, from; } glam_span;

typedef struct glam_score {
    double loglik;             // sum of log p(token | what is before it), nats
    int    tokens;             // of the continuation
    int    chars, bytes;       // of the continuation, UTF-8, as it was given; 0 for spans
    int    greedy;             // 1: each of its tokens was the likeliest
    int    cut;                // tokens at the start of the context that had no room
} glam_score;

// Scores count continuations, as lm-evaluation-harness defines it: context and continuation are
// tokenized as one text, the tokenizer's begin before it; blanks at the end of the context go to
// the continuation.  Without a begin, an end or a new line stands for an empty context.  What is
// longer than the window (tokens; 0: the model's context) loses the start of its context.  A
// continuation longer than the window is rolled over: each token is scored once, in windows as full
// as may be.  The bits do not depend on what else is scored in the call.  Cancelled or failed: all
// zero.  GLAM_ERR_VALUE: a NULL or an empty continuation; GLAM_ERR_NUMERIC: a result that is not
// finite.  On a mesh every rank scores everything.
GLAM_API glam_status glam_loglikelihood(glam_model *model, const glam_query *queries, int count,
                                        int window, glam_score *scores);
// The same for tokens; from is 1 or more.
GLAM_API glam_status glam_loglikelihood_tokens(glam_model *model, const glam_span *spans, int count,
                                               int window, glam_score *scores);
// The option with the largest loglik / its tokens, chars or bytes, the first of equals; -1: none.
GLAM_API int glam_choose(const glam_score *options, int count, glam_per per);

/* == 21 files : interface =================================================================

   One format for all: safetensors.  __metadata__ holds format = "glam", glam.config (JSON, keys
   are the fields of glam_config) and glam.checksum.  A damaged file is refused before any weight
   is touched; who edits one puts the word none in place of its checksum.  A model's tokenizer is
   a tensor of bytes.  Narrow weights stand there as they are, BF16, or of q8 I8 and beside it the
   scales, <name>.scales [.., blocks of 32 of a row] in BF16; options.weights narrows others as
   they come.  A load holds at most twice the file, 256 KiB, some hundred bytes for each
   tensor in it, and for the tables of a tokenizer up to 80 times its bytes (mostly 10).
   A save writes a fresh file, of a name that nobody has, beside what the path means (links are
   followed, and stay), syncs it, and puts it in place: whoever looks, at whatever moment, finds the
   old file or the new one, whole.  Rights and owner stay; a file with several names is written
   over in place, from the finished fresh one.  Folders, pipes, devices and sockets are refused.
   Paths are UTF-8. */

GLAM_API glam_status glam_save(const glam_model *model, const char *path);
// The adapters of a model alone, and onto a model of the same shapes that has none: it fails, and
// nothing changes, where a weight is missing or is of another shape (GLAM_ERR_SHAPE).
GLAM_API glam_status glam_save_adapter(const glam_model *model, const char *path);
GLAM_API glam_status glam_load_adapter(glam_model *model, const char *path);
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
// checksums are compared.  What a step needs, which batch and context decide, its first step takes.
GLAM_API glam_status   glam_save_checkpoint(const glam_trainer *trainer, const char *path);
GLAM_API glam_trainer *glam_load_checkpoint(glam_ctx *ctx, const char *path, glam_text *train,
                                            glam_text *valid);
// Cuts a text (several: their glam_mix) as the run of a checkpoint had it cut by glam_text_split:
// what glam_load_checkpoint wants, *valid NULL where nothing was held back.  Of another text it is
// GLAM_ERR_VALUE.
GLAM_API glam_status glam_load_split(glam_text *text, const char *path, glam_text **train,
                                     glam_text **valid);
// The config of a file without its weights; for tools.
GLAM_API glam_status glam_load_config(glam_ctx *ctx, const char *path, glam_config *config);
// The recipe of a checkpoint: examples are packed for its context, where it is not 0.
GLAM_API glam_status glam_load_recipe(glam_ctx *ctx, const char *path, glam_recipe *recipe);
// The narrowest type of its weights as a load here would make them; F32 where it fails.
GLAM_API glam_type   glam_load_type(glam_ctx *ctx, const char *path);
// The arithmetic of a checkpoint, which options.arithmetic must be for the run to go on.
GLAM_API glam_arithmetic glam_load_arithmetic(glam_ctx *ctx, const char *path);
// The tokenizer of a model or checkpoint alone, to open texts with; NULL without an error: bytes.
GLAM_API glam_tokenizer *glam_load_tokenizer(glam_ctx *ctx, const char *path);

/* == 22 plan : interface ================================================================== */

// What a model costs, before any of it is made.  Bytes come from measure mode: they are those
// that a run will use.
typedef struct glam_plan {
    uint64_t parameters, active;       // in all; used by one token
    uint64_t trainable;                // all that is not narrow
    double   flops_forward;            // per token: 2 * active matrix parameters + attention
    double   flops_train;              // per token: three times that, four with recompute; less
                                       // where weights are frozen, whose gradient nobody makes
    uint64_t weights, packed, gradients, optimizer, activations;   // bytes of a step, each once;
                                       // with update_in_backward gradients are among activations
    uint64_t train_bytes;              // their sum, with everything else the run holds
    uint64_t run_bytes;                // to generate: weights, packed copies, cache of `context`
} glam_plan;

// recipe NULL: glam_recipe_default().  Works for models that no machine could hold.
GLAM_API glam_status glam_plan_for(glam_ctx *ctx, const glam_config *config,
                                   const glam_recipe *recipe, glam_plan *plan);
// On a mesh: the payload bytes, as glam_sent counts them, of one training step of this rank.
// sent, received [layers]: of each mixture layer, summed over the rounds (from glam_routing); NULL:
// rows to experts count as none.
GLAM_API glam_status glam_plan_traffic(const glam_trainer *trainer, const int *sent,
                                       const int *received, glam_traffic *plan);

#ifdef __cplusplus
}
#endif

#endif /* GLAM_H */

#ifdef GLAM_IMPLEMENTATION
#ifndef GLAM__IMPLEMENTED
#define GLAM__IMPLEMENTED

/* == 00 config : implementation ===========================================================
   What the compiler and the system offer, asked once.  Everything below speaks of these names
   and never of a compiler. */

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__unix__) || defined(__APPLE__) || defined(__wasi__)
#define GLAM__POSIX 1
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <unistd.h>
#else
#define GLAM__POSIX 0
#endif
#ifdef _WIN32
#include <fcntl.h>
#include <io.h>
#include <wchar.h>
#endif
#if (GLAM__POSIX || defined(_WIN32)) && !defined(GLAM_NO_STDIO)
#define GLAM__FILES 1
#else
#define GLAM__FILES 0
#endif

#ifdef _WIN32                      // as windows.h has them, which may come before or after
#ifdef __cplusplus
extern "C" {
#endif
union _LARGE_INTEGER;
__declspec(dllimport) int __stdcall QueryPerformanceCounter(union _LARGE_INTEGER *);
__declspec(dllimport) int __stdcall QueryPerformanceFrequency(union _LARGE_INTEGER *);
#ifdef __cplusplus
}
#endif
#endif

#ifndef GLAM_ASSERT
#define GLAM_ASSERT(c) ((void)0)
#endif

#if defined(__GNUC__)
#define GLAM__INLINE __inline__ __attribute__((always_inline, unused))
#define GLAM__UNUSED __attribute__((unused))
#define GLAM__APART __attribute__((noinline))
#define GLAM__FETCH(p) __builtin_prefetch(p, 0, 2)     // into the second cache
#define GLAM__RESTRICT __restrict__
#else
#define GLAM__INLINE inline
#define GLAM__UNUSED
#define GLAM__APART
#define GLAM__FETCH(p) ((void)(p))
#define GLAM__RESTRICT
#endif
// So many floats behind p, which may be past the end of what is there.
#define GLAM__FETCH_AHEAD(p, n) GLAM__FETCH((const void *)((uintptr_t)(p) + (n) * sizeof(float)))

// What takes long runs in the kernels of rooms 05 and 06.  All else is compiled for a short wait: a
// third less of it, no step measurably slower.  Who optimises for nothing, or for size, keeps that.
#if defined(__OPTIMIZE__) && !defined(__OPTIMIZE_SIZE__) && defined(__clang__)
#define GLAM__PLAIN_CODE \
    _Pragma("clang attribute push(__attribute__((minsize)), apply_to = function)")
#define GLAM__PLAIN_CODE_ENDS _Pragma("clang attribute pop")
#elif defined(__OPTIMIZE__) && !defined(__OPTIMIZE_SIZE__) && defined(__GNUC__)
#define GLAM__PLAIN_CODE _Pragma("GCC push_options") _Pragma("GCC optimize(\"O1\")")
#define GLAM__PLAIN_CODE_ENDS _Pragma("GCC pop_options")
#else
#define GLAM__PLAIN_CODE
#define GLAM__PLAIN_CODE_ENDS
#endif

#define GLAM__KC    256    // products add up in blocks of so many terms, at fixed multiples
#define GLAM__ALIGN 64     // bytes: one cache line, one AVX-512 register
#define GLAM__LINES 512    // longest message

/* == 01 base : implementation =============================================================
   The context's memory and its first error.  One arena type, a list of chunks that only grows
   until it is rewound; two of them: life (until glam_close) and step (until glam_forget).
   Invariants: every size passes glam__mul; every block is 64-byte aligned; measuring counts the
   bytes of values without having them, everything else is the same. */

GLAM__PLAIN_CODE

typedef struct glam__chunk {
    struct glam__chunk *before;
    void     *block;               // what the allocator gave
    char     *data;                // aligned
    size_t    block_bytes, bytes, used;
    uint64_t  base;                // bytes in the chunks before this one
} glam__chunk;

typedef struct glam__arena {
    glam__chunk *top;
    uint64_t measured, high;       // bytes of values only counted; most in use at once
} glam__arena;

typedef struct glam__place { uint64_t used, measured; } glam__place;

// What has to be undone when the life arena is rewound past the place where it was made.
typedef struct glam__undo {
    struct glam__undo *before;
    uint64_t at;
    void (*undo)(glam_ctx *ctx, void *arg);
    void *arg;
} glam__undo;

struct glam__kernels;
struct glam__record;
struct glam__mesh;

// glam_tensor.flags: whose it is, and the state of its gradient.
//
//          open           first writer, or settle      writers add
//    NONE ------> EMPTY ---------------------> SUM <--------------+
//     ^             ^                           |   +-------------+
//     |             +---- the optimiser's step -+   (OWNED)
//     +---- recycled after its last reader -----+   (TRANSIENT: the buffer serves the next), or
//           at the end of the step's loan           (LIFE, of no optimiser)
// EMPTY is garbage: who comes first writes instead of adding, or settles, that is zeroes it.
enum {
    GLAM__LIFE      = 1,     // a parameter
    GLAM__TRANSIENT = 2,     // its gradient may be recycled
    GLAM__OWNED     = 4,     // its gradient belongs to an optimiser
    GLAM__CONSTANT  = 32,    // never has one
    GLAM__PARTLY    = 64,    // a part of it is frozen: no weight decay
    GLAM__NONE      = 0, GLAM__EMPTY = 8, GLAM__SUM = 16, GLAM__STATE = 24
};

static int glam__grad_state(const glam_tensor *t) { return t->flags & GLAM__STATE; }
static void glam__grad_put(glam_tensor *t, int state)
{ t->flags = (t->flags & ~GLAM__STATE) | state; }

typedef struct glam__loan { struct glam__loan *before; glam_tensor *t; } glam__loan;
typedef struct glam__spare { struct glam__spare *before; uint64_t count; float *data; } glam__spare;

// Panels of a weight, one slice per expert; see the products of room 11.
typedef struct glam__pack {
    struct glam__pack *before; // of all that have panels
    int      exact;            // multiplied in f32 whatever options.arithmetic says
    int      uses;             // of this weight, that backward has yet to walk (ctx->train.whole)
    uint64_t grad_at;          // floats before its gradient in its optimiser's set of them
    uint64_t at;               // where in the life arena the weight is
    float   *data[2];          // [0] as it is, [1] transposed; NULL while measuring
    void    *block[2];
    size_t   bytes[2];         // 0: no panels
    uint64_t epoch[2];         // when they were made
} glam__pack;

// A trainer lets a forward pass save in the gradients of the blocks below: backward has used that
// up before it fills them.  Floats [at, end) of base are free; base is NULL while measuring.
typedef struct glam__lend { int on; float *base; uint64_t at, end; } glam__lend;
enum { GLAM__LEND_LEAST = 1024 };  // floats; what is smaller a report may read after backward

// A room's state is in the struct of its name; options, error and message are everyone's.
struct glam_ctx {
    glam_options options;          // resolved
    glam_status  error;
    char         message[GLAM__LINES];
    struct {                       // 01
        glam__arena life, step;
        glam__undo *undo;
        uint64_t held, peak, allocations;
        int      measuring;
    } base;
    struct glam__mesh *mesh;       // 03; NULL: one rank
    struct {                       // 06
        struct glam__kernels *kernels;
        const struct glam__kernels *products;  // kernels, or those on bf16: options.arithmetic
        int      plain;            // "base" was asked for by name
    } simd;
    struct {                       // 07: one block, the most that any op wanted
        char    *data;             // aligned
        void    *block;
        uint64_t bytes;            // while measuring it may be past any address
        size_t   used;
    } scratch;
    struct {                       // 08
        int      transient;        // gradients of new tensors may be recycled
        glam__loan  *loans;        // parameters whose gradient lives in the step arena
        glam__spare *spares;       // gradient buffers to use again
    } tensor;
    struct {                       // 09
        struct glam__record *tape;
        int      no_grad, done;    // done: backward has been
        int      again;            // a block is being recomputed
    } autograd;
    struct {                       // 10
        glam__pack *packs;         // weights that have panels
        uint64_t bytes, epoch;     // panels of an older epoch are stale
    } products;
    struct {                       // 19
        int      updates;          // steps of an optimiser so far
        glam__lend lend;
        void   (*whole)(void *arg, glam_tensor *t);    // a parameter's gradient is whole
        void    *whole_arg;
    } train;
};

GLAM_API const char *glam_status_name(glam_status status)
{
    static const char *const names[] = {
        "GLAM_OK", "GLAM_ERR_MEMORY", "GLAM_ERR_VALUE", "GLAM_ERR_SHAPE", "GLAM_ERR_STATE",
        "GLAM_ERR_FILE", "GLAM_ERR_FORMAT", "GLAM_ERR_COMM", "GLAM_ERR_NUMERIC" };
    int at = (int)status;
    return at <= 0 && at > -9 ? names[-at] : "unknown status";
}

GLAM_API glam_status glam_fail(glam_ctx *ctx, glam_status status, const char *format, ...)
{
    if (!ctx || ctx->error != GLAM_OK) return status;      // the first failure is the one to read
    va_list args;
    va_start(args, format);
    vsnprintf(ctx->message, sizeof ctx->message, format, args);
    va_end(args);
    ctx->error = status;
    return status;
}

static void glam__log(glam_ctx *ctx, const char *format, ...) GLAM_FORMAT(2, 3);
static void glam__log(glam_ctx *ctx, const char *format, ...)
{
    char line[GLAM__LINES];
    if (!ctx->options.log) return;
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    ctx->options.log(ctx->options.log_user, line);
}

static void *glam__default_alloc(void *user, size_t bytes) { (void)user; return malloc(bytes); }

static void glam__default_release(void *user, void *block, size_t bytes)
{
    (void)user; (void)bytes;
    free(block);
}

// By its bits: under -ffast-math x - x == 0 is true of everything.
static int glam__is_number(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits >> 52 & 0x7ff) != 0x7ff;
}

// A number from low to high: options must be, and comparisons alone take a NaN under -ffast-math.
static int glam__within(double x, double low, double high)
{ return glam__is_number(x) && x >= low && x <= high; }

// a * b, or UINT64_MAX when it does not fit: no memory is that large, so the allocation refuses.
static uint64_t glam__mul(uint64_t a, uint64_t b)
{
    if (a == UINT64_MAX || b == UINT64_MAX) return UINT64_MAX;
    return a && b > UINT64_MAX / a ? UINT64_MAX : a * b;
}

static uint64_t glam__align(uint64_t bytes)
{
    return bytes > UINT64_MAX - GLAM__ALIGN ? UINT64_MAX
                                            : (bytes + GLAM__ALIGN - 1) / GLAM__ALIGN * GLAM__ALIGN;
}

static uint64_t glam__floats(uint64_t count)
{ return glam__align(glam__mul(count, sizeof(float))); }

static uint64_t glam__larger(uint64_t a, uint64_t b) { return a > b ? a : b; }
static uint64_t glam__lesser(uint64_t a, uint64_t b) { return a < b ? a : b; }
static int glam__min(int a, int b) { return a < b ? a : b; }
static int glam__max(int a, int b) { return a > b ? a : b; }
static int glam__ceil_div(int n, int unit) { return n / unit + (n % unit != 0); }

static int glam__measuring(const glam_ctx *ctx) { return ctx->base.measuring; }

static void glam__count_peak(glam_ctx *ctx)
{
    uint64_t now = ctx->base.held + ctx->base.life.measured + ctx->base.step.measured;
    if (now > ctx->base.peak) ctx->base.peak = now;
}

// A block from the user's allocator; NULL and a latched error when there is none.
static void *glam__alloc(glam_ctx *ctx, size_t bytes)
{
    void *block = ctx->options.allocator.alloc(ctx->options.allocator.user, bytes ? bytes : 1);
    ctx->base.allocations++;
    if (!block)
        glam_fail(ctx, GLAM_ERR_MEMORY, "out of memory: %.1f MB more were wanted, %.1f MB are held",
                  (double)bytes / 1e6, (double)ctx->base.held / 1e6);
    else ctx->base.held += bytes;
    glam__count_peak(ctx);
    return block;
}

static void glam__free(glam_ctx *ctx, void *block, size_t bytes)
{
    if (!block) return;
    ctx->base.held -= bytes;
    ctx->options.allocator.release(ctx->options.allocator.user, block, bytes ? bytes : 1);
}

static char *glam__aligned(void *block)
{
    uintptr_t p = (uintptr_t)block;
    return (char *)block + (GLAM__ALIGN - p % GLAM__ALIGN) % GLAM__ALIGN;
}

static glam__place glam__arena_mark(const glam__arena *arena)
{
    glam__place place = { arena->top ? arena->top->base + arena->top->used : 0, arena->measured };
    return place;
}

static uint64_t glam__arena_used(const glam__arena *arena)
{ return arena->measured + glam__arena_mark(arena).used; }

static void glam__arena_high(glam__arena *arena)
{
    uint64_t used = glam__arena_used(arena);
    if (used > arena->high) arena->high = used;
}

static glam_status glam__arena_grow(glam_ctx *ctx, glam__arena *arena, uint64_t bytes)
{
    const uint64_t extra = glam__align(sizeof(glam__chunk)) + GLAM__ALIGN;
    if (bytes > SIZE_MAX - extra)
        return glam_fail(ctx, GLAM_ERR_MEMORY, "out of memory: %.1f GB do not fit the addresses "
                         "of this machine", (double)bytes / 1e9);
    void *block = glam__alloc(ctx, (size_t)(bytes + extra));
    if (!block) return ctx->error;
    glam__chunk *chunk = (glam__chunk *)(void *)glam__aligned(block);
    chunk->before = arena->top;
    chunk->block = block;  chunk->block_bytes = (size_t)(bytes + extra);
    chunk->data = (char *)chunk + glam__align(sizeof(glam__chunk));
    chunk->bytes = (size_t)bytes;  chunk->used = 0;
    chunk->base = glam__arena_mark(arena).used;
    arena->top = chunk;
    return GLAM_OK;
}

// Room for bytes at the end of an arena; large blocks get a chunk of their own size.
static char *glam__carve(glam_ctx *ctx, glam__arena *arena, uint64_t bytes, uint64_t chunk)
{
    if (!arena->top || bytes > arena->top->bytes - arena->top->used)
        if (glam__arena_grow(ctx, arena, bytes > chunk / 2 ? bytes : chunk) != GLAM_OK) return NULL;
    char *p = arena->top->data + arena->top->used;
    arena->top->used += (size_t)bytes;
    glam__arena_high(arena);
    return p;
}

// Bookkeeping memory: real also while measuring.  Zeroed.
static void *glam__take(glam_ctx *ctx, glam__arena *arena, uint64_t bytes)
{
    char *p = glam__carve(ctx, arena, glam__align(bytes), 65536);
    if (p) memset(p, 0, (size_t)bytes);
    return p;
}

// So many of a type, in the arena of a context that lives as long as it does, or as the step.
#define GLAM__NEW(ctx, arena, type, count)                                                   \
    ((type *)glam__take(ctx, &(ctx)->base.arena, glam__mul((uint64_t)(count), sizeof(type))))

// Memory for values: counted only, while measuring.  Not zeroed.
static float *glam__take_values(glam_ctx *ctx, glam__arena *arena, uint64_t count)
{
    uint64_t bytes = glam__floats(count);
    if (!ctx->base.measuring)
        return (float *)(void *)glam__carve(ctx, arena, bytes,
                                            arena == &ctx->base.step ? (uint64_t)1 << 20 : 65536);
    arena->measured += bytes;
    glam__arena_high(arena);
    glam__count_peak(ctx);
    return NULL;
}

// Memory for values of this step that nobody reads after backward, lent where possible.
static float *glam__take_lent(glam_ctx *ctx, uint64_t count)
{
    glam__lend *l = &ctx->train.lend;
    uint64_t n = glam__floats(count) / sizeof(float);
    if (n < GLAM__LEND_LEAST || n > l->end - l->at)
        return glam__take_values(ctx, &ctx->base.step, count);
    l->at += n;
    return l->base ? l->base + (l->at - n) : NULL;
}

static void glam__arena_drop(glam_ctx *ctx, glam__arena *arena)
{
    glam__chunk *gone = arena->top;
    arena->top = gone->before;
    glam__free(ctx, gone->block, gone->block_bytes);
}

// Back to a mark.  The chunk that holds it stays, for the next step.
static void glam__arena_rewind(glam_ctx *ctx, glam__arena *arena, glam__place place)
{
    arena->measured = place.measured;
    while (arena->top && (arena->top->base > place.used ||
                          (arena->top->base == place.used && arena->top->before)))
        glam__arena_drop(ctx, arena);
    if (arena->top) arena->top->used = (size_t)(place.used - arena->top->base);
}

static void glam__arena_release(glam_ctx *ctx, glam__arena *arena)
{
    while (arena->top) glam__arena_drop(ctx, arena);
    arena->measured = 0;
}

// Empties the arena; a step that needed more than one chunk gets one of the size of them all.
static void glam__arena_reset(glam_ctx *ctx, glam__arena *arena)
{
    const glam__place start = { 0, 0 };
    const glam__chunk *top = ctx->base.measuring ? NULL : arena->top;
    if (top && (top->before || top->bytes < arena->high)) {
        glam__arena_release(ctx, arena);
        if (glam__arena_grow(ctx, arena, glam__align(arena->high)) != GLAM_OK) return;
    }
    glam__arena_rewind(ctx, arena, start);
}

static void glam__on_rewind(glam_ctx *ctx, void (*undo)(glam_ctx *, void *), void *arg)
{
    uint64_t at = glam__arena_used(&ctx->base.life);
    glam__undo *u = GLAM__NEW(ctx, life, glam__undo, 1);
    if (!u) return;
    u->before = ctx->base.undo;  u->at = at;
    u->undo = undo;  u->arg = arg;
    ctx->base.undo = u;
}

/* == 02 threads : implementation ==========================================================
   The one parallel loop.  Chunks are taken as workers come free: a busy neighbour costs its share
   and no more.  Sums are cut by shapes alone; products also by the number of workers, for an
   element's bits do not depend on its block.  So nothing depends on who did what.  A loop with
   little to do is not worth waking anybody for.

   Inside of it numbers below 1.2e-38 are zero.  A trained attention has weights that small, and an
   x86 processor takes a hundred times as long for each product that they enter: steps become
   three times slower in the course of a run.  The mode is the thread's own and is put back. */

#ifndef GLAM__WORTH
#define GLAM__WORTH 200000     // operations that take about as long as waking the workers
#endif

// The processors of a quota, "50000 100000" (microseconds of each period), rounded up; 0: no quota.
static int GLAM__UNUSED glam__quota_cpus(const char *text)
{
    char *rest;
    double quota = (double)strtol(text, &rest, 10), period = (double)strtol(rest, NULL, 10);
    if (rest == text || quota <= 0 || period <= 0 || quota / period > 4096) return 0;
    return (int)ceil(quota / period);
}

#if defined(_OPENMP) && defined(__linux__) && !defined(GLAM_NO_STDIO)
// The first lines of one file, or of two, side by side.
static int glam__quota_of(const char *root, const char *group, const char *one, const char *two)
{
    const char *const names[2] = { one, two };
    char path[1024], text[128] = "";
    for (int i = 0; i < 2 && names[i]; i++) {
        size_t at = strlen(text);
        snprintf(path, sizeof path, "%s%s/%s", root, group, names[i]);
        FILE *f = fopen(path, "r");
        if (!f) return 0;
        if (!fgets(text + at, 60, f)) text[at] = 0;
        fclose(f);
        if (i == 0 && two) strcat(text, " ");
    }
    return glam__quota_cpus(text);
}

// A container may use less than the processors it sees: with more threads than its quota each waits
// for one that is not allowed to run.  The least quota of the process's group and those above it,
// in the files below top.
static int glam__quota(const char *top, int most)
{
    char line[768], root[256];
    snprintf(line, sizeof line, "%s/proc/self/cgroup", top);
    FILE *f = fopen(line, "r");
    while (f && fgets(line, sizeof line, f)) {
        char *group = strchr(line, ':'), *end;
        group = group ? strchr(group + 1, ':') : NULL;
        int second = !strncmp(line, "0::", 3);
        if (!group || (!second && !strstr(line, ":cpu,") && !strstr(line, ":cpu:") &&
                       !strstr(line, ",cpu:"))) continue;
        *group++ = 0;
        group[strcspn(group, "\n")] = 0;
        do {
            end = strrchr(group, '/');
            if (end && !end[1]) *end = 0;
            snprintf(root, sizeof root, "%s/sys/fs/cgroup%s", top, second ? "" : "/cpu");
            int cpus = second ? glam__quota_of(root, group, "cpu.max", NULL)
                              : glam__quota_of(root, group, "cpu.cfs_quota_us",
                                               "cpu.cfs_period_us");
            if (cpus && cpus < most) most = cpus;
            if ((end = strrchr(group, '/')) != NULL) *end = 0;
        } while (end);
    }
    if (f) fclose(f);
    return most;
}

// Where options.threads is 0.  Who says OMP_NUM_THREADS has thought about it.
static int glam__default_threads(void)
{ int n = omp_get_max_threads(); return getenv("OMP_NUM_THREADS") ? n : glam__quota("", n); }
#elif defined(_OPENMP)
static int glam__default_threads(void) { return omp_get_max_threads(); }
#else
static int glam__default_threads(void) { return 1; }
#endif
#if defined(__GNUC__) && !defined(__TINYC__) && defined(__SSE__)
#define GLAM__MODE() __builtin_ia32_stmxcsr()
#define GLAM__SET_MODE(m) __builtin_ia32_ldmxcsr(m)
#else
#define GLAM__MODE() 0u
#define GLAM__SET_MODE(m) ((void)(m))
#endif
enum { GLAM__FLUSH = 0x8040 };  // results, and operands, that are subnormal become zero

typedef struct glam__flushing { glam_body *body; void *arg; } glam__flushing;

static void glam__flush(void *arg, int begin, int end, int worker)
{
    const glam__flushing *f = (const glam__flushing *)arg;
    const unsigned mode = GLAM__MODE();
    GLAM__SET_MODE(mode | GLAM__FLUSH);
    f->body(f->arg, begin, end, worker);
    GLAM__SET_MODE(mode);
}

// work: about how many multiply-adds, or as long, the whole loop takes.
static void glam__parallel(glam_ctx *ctx, int chunks, double work, glam_body *inner, void *state)
{
    glam__flushing flushing = { inner, state };
    glam_body *body = glam__flush;
    void *arg = &flushing;
    if (chunks <= 0) return;
    if (ctx->options.threads == 1 || chunks == 1 || work < GLAM__WORTH) {
        body(arg, 0, chunks, 0);
    } else if (ctx->options.parallel_for) {
        ctx->options.parallel_for(ctx->options.parallel_user, chunks, body, arg);
    } else {
#ifdef _OPENMP
        int c, threads = ctx->options.threads;
        #pragma omp parallel for schedule(dynamic) num_threads(threads)
        for (c = 0; c < chunks; c++) body(arg, c, c + 1, omp_get_thread_num());
#else
        body(arg, 0, chunks, 0);
#endif
    }
}

// Seconds since some fixed moment.
static double glam__seconds(void)
{
#ifdef _OPENMP
    return omp_get_wtime();
#elif defined(_WIN32)
    int64_t now = 0, second = 1;
    QueryPerformanceCounter((union _LARGE_INTEGER *)(void *)&now);
    QueryPerformanceFrequency((union _LARGE_INTEGER *)(void *)&second);
    return (double)now / (double)second;
#elif GLAM__POSIX && defined(CLOCK_MONOTONIC)
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
#elif GLAM__POSIX
    struct timeval t;                               // strict C hides the better clock
    gettimeofday(&t, NULL);
    return (double)t.tv_sec + 1e-6 * (double)t.tv_usec;
#else
    return (double)time(NULL);
#endif
}

/* == 03 comm : implementation =============================================================
   Ranks lie on a mesh, rank = x * Y + y.  The x group of a rank are those with its y: they share
   out batch parts and experts.  The y group are those with its x: they share out heads, widths
   and vocabulary.  All that ranks say goes through exchange, in the orders written here: a sum is
   a binary tree over ranks with the lower rank on the left, so its bits depend on nothing else.
   Who communicates first agrees: a header goes round that says where each rank is and whether it
   failed.  A rank that failed, or is somewhere else, so becomes an error on all of them, which
   names it; a rank that does not answer becomes one when the time is up.  The sequence of calls
   never depends on data.  While measuring nothing is exchanged. */

enum { GLAM__BUCKET = 1 << 18, GLAM__PIECES = 64 };    // floats that move at once, of arrays

typedef struct glam__mesh {
    glam_comm world, x, y;
    int      X, Y, ix, iy;
    int      store;                // options.mesh_store
    int      layer;                // where we are, for headers and messages; -1: in no layer
    int      joined;               // x and y have been split off
    int      told;                 // all ranks know that this run has failed
    int      broken;               // an exchange failed: the ranks will not meet again
    uint32_t call;
    uint64_t config;               // hash of what must be equal on all ranks
    const char *operation;
    glam_traffic sent;             // while measuring: what would be
    const int *rows_out, *rows_in; // while measuring: of each mixture layer, to and from others
    const void **send;             // of an exchange, by peer; all zero between exchanges
    void   **recv;
    size_t  *send_bytes, *recv_bytes;
    float   *bucket, *work;        // [GLAM__BUCKET] each
    size_t   bytes;                // of all this
} glam__mesh;

typedef struct glam__header {
    uint64_t config;
    uint32_t call;
    int32_t  layer, rank, status, flag;
    char     operation[28], text[208];
} glam__header;

#ifdef GLAM_MPI
#if GLAM__POSIX
#include <sched.h>
#define GLAM__YIELD() sched_yield()
#else
#define GLAM__YIELD() ((void)0)
#endif

enum { GLAM__MPI_PEERS = 32, GLAM__MPI_TAG = 0x676c };
#define GLAM__MPI_MOST ((size_t)1 << 30)       // a count of MPI is an int

// A handle of MPI is an int or a pointer: it lies in the user pointer itself.
static MPI_Comm glam__mpi_of(const glam_comm *comm)
{
    MPI_Comm c;
    memcpy(&c, &comm->user, sizeof c);
    return c;
}

// Waits until all are done; -1, or the number of one that is not when the time is up.
static int glam__mpi_wait(const glam_comm *comm, MPI_Request *requests, int count)
{
    MPI_Status status[2 * GLAM__MPI_PEERS];        // not MPI_STATUSES_IGNORE: compilers warn of it
    double until = glam__seconds() + comm->timeout_s;
    int done = 0;
    for (int spin = 0; !done; spin++) {
        if (MPI_Testall(count, requests, &done, status) != MPI_SUCCESS) break;
        if (done || spin < 100) continue;
        GLAM__YIELD();                         // ranks may be more than cores
        if (glam__seconds() > until) break;
    }
    for (int i = 0; i < count && !done; i++) {
        int one = 0;
        if (MPI_Test(&requests[i], &one, status) != MPI_SUCCESS || !one) return i;
    }
    return -1;
}

// Peers at distance 1, 2, ..: all ranks go through them in the same order, some at a time, and a
// long message in pieces.
static int glam__mpi_exchange(glam_comm *comm, const void *const *send, const size_t *send_bytes,
                              void *const *recv, const size_t *recv_bytes)
{
    MPI_Request requests[2 * GLAM__MPI_PEERS];
    int who[2 * GLAM__MPI_PEERS];
    MPI_Comm c = glam__mpi_of(comm);
    for (int first = 1; first < comm->size; first += GLAM__MPI_PEERS)
        for (size_t at = 0;; at += GLAM__MPI_MOST) {
            int count = 0, wrong = 0;
            for (int d = first; d < first + GLAM__MPI_PEERS && d < comm->size; d++) {
                int from = (comm->rank - d + comm->size) % comm->size;
                int to = (comm->rank + d) % comm->size;
                size_t in = recv_bytes[from] > at ? recv_bytes[from] - at : 0;
                size_t out = send_bytes[to] > at ? send_bytes[to] - at : 0;
                if (in > GLAM__MPI_MOST) in = GLAM__MPI_MOST;
                if (out > GLAM__MPI_MOST) out = GLAM__MPI_MOST;
                if (in) {
                    who[count] = from;
                    wrong |= MPI_Irecv((char *)recv[from] + at, (int)in, MPI_BYTE, from,
                                       GLAM__MPI_TAG, c, &requests[count++]) != MPI_SUCCESS;
                }
                if (out) {
                    who[count] = to;
                    wrong |= MPI_Isend((const char *)send[to] + at, (int)out, MPI_BYTE, to,
                                       GLAM__MPI_TAG, c, &requests[count++]) != MPI_SUCCESS;
                }
                comm->peer = from;
                if (wrong) return 1;
            }
            if (!count) break;
            int late = glam__mpi_wait(comm, requests, count);
            if (late < 0) continue;
            comm->peer = who[late];
            return 1;
        }
    return 0;
}

static void glam__mpi_release(glam_comm *comm)
{
    MPI_Comm c = glam__mpi_of(comm);
    MPI_Comm_free(&c);
}

static int glam__mpi_split(glam_comm *comm, int color, int key, glam_comm *out);

// Names for a communicator that is ours to free.
static glam_comm glam__mpi_new(MPI_Comm c, double timeout_s)
{
    glam_comm comm;
    memset(&comm, 0, sizeof comm);
    memcpy(&comm.user, &c, sizeof c);
    comm.timeout_s = timeout_s;
    comm.exchange = glam__mpi_exchange;
    comm.split = glam__mpi_split;
    comm.release = glam__mpi_release;
    if (MPI_Comm_set_errhandler(c, MPI_ERRORS_RETURN) != MPI_SUCCESS ||
        MPI_Comm_rank(c, &comm.rank) != MPI_SUCCESS ||
        MPI_Comm_size(c, &comm.size) != MPI_SUCCESS) comm.size = 0;
    return comm;
}

static int glam__mpi_split(glam_comm *comm, int color, int key, glam_comm *out)
{
    MPI_Comm c;
    if (MPI_Comm_split(glam__mpi_of(comm), color, key, &c) != MPI_SUCCESS) return 1;
    *out = glam__mpi_new(c, comm->timeout_s);
    return out->size < 1;
}

GLAM_API glam_comm glam_comm_mpi(MPI_Comm comm)
{
    MPI_Comm c;
    glam_comm none;
    memset(&none, 0, sizeof none);
    return MPI_Comm_dup(comm, &c) == MPI_SUCCESS ? glam__mpi_new(c, 300) : none;
}

static int glam__mpi_threads_wrong(const glam_ctx *ctx, const glam_comm *comm)
{
    int level = MPI_THREAD_FUNNELED;
    if (comm->exchange == glam__mpi_exchange) MPI_Query_thread(&level);
    return ctx->options.threads > 1 && level < MPI_THREAD_FUNNELED;
}
#else
static int glam__mpi_threads_wrong(const glam_ctx *ctx, const glam_comm *comm)
{
    (void)ctx; (void)comm;
    return 0;
}
#endif

// X and Y from the options; zeros follow from the number of ranks.
static glam_status glam__mesh_shape(glam_ctx *ctx, int size, int *X, int *Y)
{
    const glam_options *o = &ctx->options;
    *X = o->mesh_x ? o->mesh_x : o->mesh_y ? size / o->mesh_y : size;
    *Y = o->mesh_y ? o->mesh_y : *X ? size / *X : 0;
    if ((int64_t)*X * *Y != size)
        return glam_fail(ctx, GLAM_ERR_VALUE, "options: a mesh of mesh_x %d by mesh_y %d needs %d "
                         "ranks, options.comm has %d", *X, *Y, *X * *Y, size);
    if (*X & (*X - 1))
        return glam_fail(ctx, GLAM_ERR_VALUE, "options: mesh_x is %d; it must be a power of two "
                         "(the other ranks may go on mesh_y)", *X);
    return GLAM_OK;
}

// Makes the mesh of a context.  Nothing is exchanged yet: that begins with the first agreement.
static void glam__mesh_open(glam_ctx *ctx)
{
    const glam_comm *comm = ctx->options.comm;
    int X, Y, size = comm ? comm->size : 1;
    if (size < 1 || (comm && (comm->rank < 0 || comm->rank >= size))) {
        glam_fail(ctx, GLAM_ERR_VALUE, "options.comm: rank %d of %d", comm ? comm->rank : 0, size);
        return;
    }
    if (glam__mesh_shape(ctx, size, &X, &Y) != GLAM_OK || size == 1) return;
    if (glam__mpi_threads_wrong(ctx, comm)) {
        glam_fail(ctx, GLAM_ERR_VALUE, "options.threads is %d, but MPI was started for one thread: "
                  "call MPI_Init_thread with MPI_THREAD_FUNNELED, or set options.threads to 1",
                  ctx->options.threads);
        return;
    }
    size_t head = (size_t)glam__align(sizeof(glam__mesh)), list = (size_t)size * sizeof(void *);
    size_t bytes = head + 4 * list + GLAM__ALIGN + 2 * GLAM__BUCKET * sizeof(float);
    glam__mesh *m = (glam__mesh *)glam__alloc(ctx, bytes);
    if (!m) return;
    memset(m, 0, head + 4 * list);
    m->bytes = bytes;
    m->world = *comm;
    if (!(m->world.timeout_s > 0)) m->world.timeout_s = 300;
    m->X = X;
    m->Y = Y;
    m->ix = comm->rank / Y;
    m->iy = comm->rank % Y;
    m->x.size = X; m->x.rank = m->ix;
    m->y.size = Y; m->y.rank = m->iy;
    m->store = ctx->options.mesh_store != 0;
    m->layer = -1;
    char *at = (char *)m + head;
    m->send = (const void **)(void *)at;
    m->recv = (void **)(void *)(at + list);
    m->send_bytes = (size_t *)(void *)(at + 2 * list);
    m->recv_bytes = (size_t *)(void *)(at + 3 * list);
    m->bucket = (float *)(void *)glam__aligned(at + 4 * list);
    m->work = m->bucket + GLAM__BUCKET;
    ctx->mesh = m;
    ctx->options.comm = &m->world;
    if (comm->rank) ctx->options.log = NULL;
}

static void glam__mesh_close(glam_ctx *ctx)
{
    glam__mesh *m = ctx->mesh;
    if (!m) return;
    if (m->joined && m->x.release) m->x.release(&m->x);
    if (m->joined && m->y.release) m->y.release(&m->y);
    ctx->mesh = NULL;
    glam__free(ctx, m, m->bytes);
}

// "moe dispatch, layer 2", for messages.
static const char *glam__where(const glam__mesh *m, char *text, size_t size)
{
    if (m->layer < 0) snprintf(text, size, "%s", m->operation);
    else snprintf(text, size, "%s, layer %d", m->operation, m->layer);
    return text;
}

// One exchange with the lists as they were set; counter counts what goes out (NULL: a header).
static int glam__exchange(glam_ctx *ctx, glam_comm *c, uint64_t *counter)
{
    glam__mesh *m = ctx->mesh;
    char where[64];
    for (int i = 0; i < c->size && counter; i++) *counter += m->send_bytes[i];
    c->peer = -1;
    int ok = c->exchange && c->exchange(c, m->send, m->send_bytes, m->recv, m->recv_bytes) == 0;
    memset(m->send_bytes, 0, (size_t)c->size * sizeof *m->send_bytes);
    memset(m->recv_bytes, 0, (size_t)c->size * sizeof *m->recv_bytes);
    if (ok) return 1;
    int peer = c->peer < 0 || c == &m->world ? c->peer : c == &m->x ? c->peer * m->Y + m->iy
                                                                 : m->ix * m->Y + c->peer;
    m->told = m->broken = 1;                   // whom could we still tell?
    if (!c->exchange)
        glam_fail(ctx, GLAM_ERR_COMM, "options.comm has no exchange: it can only be planned with");
    else if (peer < 0)
        glam_fail(ctx, GLAM_ERR_COMM, "%s: the exchange of rank %d failed",
                  glam__where(m, where, sizeof where), m->world.rank);
    else
        glam_fail(ctx, GLAM_ERR_COMM, "%s: rank %d did not answer rank %d within %g s",
                  glam__where(m, where, sizeof where), peer, m->world.rank, m->world.timeout_s);
    return 0;
}

static void glam__to(glam__mesh *m, int peer, const void *data, size_t bytes)
{
    m->send[peer] = data;
    m->send_bytes[peer] = bytes;
}

static void glam__from(glam__mesh *m, int peer, void *data, size_t bytes)
{
    m->recv[peer] = data;
    m->recv_bytes[peer] = bytes;
}

// What two headers say together: a failure, a difference, or that all is well.
static void glam__header_join(glam__header *a, const glam__header *b)
{
    int flag = a->flag | b->flag;
    if (a->status) return;
    if (b->status) {
        *a = *b;
    } else if (a->config != b->config) {
        a->status = GLAM_ERR_COMM;
        snprintf(a->text, sizeof a->text, "rank %d and rank %d have other configurations, recipes, "
                 "texts or options (AUTO arithmetic is each machine's own)", a->rank, b->rank);
    } else if (a->call != b->call || a->layer != b->layer || strcmp(a->operation, b->operation)) {
        a->status = GLAM_ERR_COMM;
        snprintf(a->text, sizeof a->text, "rank %d is in %s, layer %d, call %u, but rank %d in %s, "
                 "layer %d, call %u", a->rank, a->operation, (int)a->layer, (unsigned)a->call,
                 b->rank, b->operation, (int)b->layer, (unsigned)b->call);
    }
    a->flag = flag;
}

// The groups, once all ranks have said that they are there.
static void glam__mesh_join(glam_ctx *ctx)
{
    glam__mesh *m = ctx->mesh;
    if (!m->world.split || m->world.split(&m->world, m->iy, m->ix, &m->x) != 0 ||
        m->world.split(&m->world, m->ix, m->iy, &m->y) != 0) {
        m->told = m->broken = 1;
        glam_fail(ctx, GLAM_ERR_COMM, "options.comm: its split failed, a mesh of %d x %d needs one",
                  m->X, m->Y);
        return;
    }
    m->x.timeout_s = m->y.timeout_s = m->world.timeout_s;
    m->joined = 1;
}

// Are all ranks at this place, and well?  Returns the flags of all of them, or-ed; what went wrong
// is latched.  By dissemination: after round r a rank knows of 2^(r+1) others.
static int glam__agree(glam_ctx *ctx, const char *operation, int flag)
{
    glam__mesh *m = ctx->mesh;
    glam__header mine, other;
    char where[64];
    if (!m || ctx->base.measuring || m->told || m->broken) return flag;
    memset(&mine, 0, sizeof mine);
    m->operation = operation;
    mine.config = m->config;
    mine.call = ++m->call;
    mine.layer = m->layer;
    mine.rank = m->world.rank;
    mine.flag = flag;
    snprintf(mine.operation, sizeof mine.operation, "%s", operation);
    mine.status = ctx->error;
    if (ctx->error)
        snprintf(mine.text, sizeof mine.text, "rank %d failed: %.180s", m->world.rank,
                 ctx->message);
    for (int gap = 1, n = m->world.size; gap < n; gap *= 2) {
        glam__to(m, (m->world.rank + gap) % n, &mine, sizeof mine);
        glam__from(m, (m->world.rank - gap + n) % n, &other, sizeof other);
        if (!glam__exchange(ctx, &m->world, NULL)) return 0;
        glam__header_join(&mine, &other);
    }
    if (mine.status) {
        m->told = 1;
        glam_fail(ctx, GLAM_ERR_COMM, "%s: %s", glam__where(m, where, sizeof where), mine.text);
        return 0;
    }
    if (!m->joined) glam__mesh_join(ctx);
    return mine.flag;
}

// The last word of every function that all ranks call: a rank that failed alone says so, where
// the others will hear it, in the next header.
static glam_status glam__farewell(glam_ctx *ctx)
{
    if (ctx->mesh && ctx->error) glam__agree(ctx, "farewell", 0);
    return ctx->error;
}

// Places where the ranks of a group begin in n elements shared out evenly.
static size_t glam__share(size_t n, int rank, int size)
{ return (size_t)((uint64_t)n * (uint64_t)rank / (uint64_t)size); }

// Does this rank exchange anything here?  Measure mode only counts the bytes that it would send.
static int glam__talks(const glam_ctx *ctx, const glam_comm *c, uint64_t *counter, uint64_t bytes)
{
    if (ctx->base.measuring) *counter += bytes;
    return !ctx->error && !ctx->base.measuring && c->size > 1;
}

// Rows of n numbers, a stride apart, joined as a binary tree with the lower row on the left: the
// first row is the sum, and its bits depend on nothing but the number of rows.
#define GLAM__TREE(name, number)                                                             \
    static void name(number *x, int rows, size_t stride, size_t n)                           \
    {                                                                                        \
        for (int gap = 1; gap < rows; gap *= 2)                                              \
            for (int r = 0; r + gap < rows; r += 2 * gap)                                    \
                for (size_t i = 0; i < n; i++)                                               \
                    x[(size_t)r * stride + i] += x[(size_t)(r + gap) * stride + i];          \
    }
GLAM__TREE(glam__tree_floats, float)
GLAM__TREE(glam__tree_doubles, double)

// Each rank has its share of n elements in place; then each has all.
static void glam__all_gather(glam_ctx *ctx, glam_comm *c, uint64_t *counter, void *data, size_t n,
                             size_t element)
{
    char *p = (char *)data;
    size_t own = glam__share(n, c->rank, c->size), end = glam__share(n, c->rank + 1, c->size);
    if (!glam__talks(ctx, c, counter, (end - own) * element * (uint64_t)(c->size - 1))) return;
    for (int r = 0; r < c->size; r++) {
        size_t at = glam__share(n, r, c->size), next = glam__share(n, r + 1, c->size);
        if (r == c->rank) continue;
        glam__to(ctx->mesh, r, p + own * element, (end - own) * element);
        glam__from(ctx->mesh, r, p + at * element, (next - at) * element);
    }
    glam__exchange(ctx, c, counter);
}

// The rank's share of n times `unit` floats summed over the group, in place; the rest stays.
static void glam__reduce_scatter(glam_ctx *ctx, glam_comm *c, uint64_t *counter, float *data,
                                 size_t n, size_t unit)
{
    glam__mesh *m = ctx->mesh;
    size_t most = GLAM__BUCKET / (size_t)c->size;
    size_t longest = (n + (size_t)c->size - 1) / (size_t)c->size * unit;
    size_t own = glam__share(n, c->rank, c->size) * unit;
    size_t mine = glam__share(n, c->rank + 1, c->size) * unit - own;
    if (!glam__talks(ctx, c, counter, (n * unit - mine) * sizeof(float))) return;
    for (size_t from = 0; from < longest && !ctx->error; from += most) {
        size_t count = mine > from ? mine - from : 0;
        if (count > most) count = most;
        for (int r = 0; r < c->size; r++) {
            size_t at = glam__share(n, r, c->size) * unit + from;
            size_t end = glam__share(n, r + 1, c->size) * unit;
            size_t theirs = end > at ? end - at : 0;
            if (r == c->rank) continue;
            glam__to(m, r, data + at, ((size_t)glam__lesser(theirs, most)) * sizeof(float));
            glam__from(m, r, m->work + (size_t)r * most, count * sizeof(float));
        }
        if (!glam__exchange(ctx, c, counter)) return;
        if (!count) continue;
        memcpy(m->work + (size_t)c->rank * most, data + own + from, count * sizeof(float));
        glam__tree_floats(m->work, c->size, most, count);
        memcpy(data + own + from, m->work, count * sizeof(float));
    }
}

static void glam__all_reduce(glam_ctx *ctx, glam_comm *c, uint64_t *counter, float *data, size_t n)
{
    glam__reduce_scatter(ctx, c, counter, data, n, 1);
    glam__all_gather(ctx, c, counter, data, n, sizeof(float));
}

// Many arrays, as if they were one: gathered in buckets, so that small ones cost no message each.
typedef struct glam__bucket {
    glam_ctx *ctx;
    glam_comm *c;
    uint64_t *counter;
    size_t used;
    int pieces;
    struct { float *at; size_t count; } piece[GLAM__PIECES];
} glam__bucket;

static void glam__bucket_flush(glam__bucket *b)
{
    float *bucket = b->ctx->mesh->bucket;
    size_t at = 0;
    glam__all_reduce(b->ctx, b->c, b->counter, bucket, b->used);
    for (int i = 0; i < b->pieces && !b->ctx->base.measuring; at += b->piece[i++].count)
        memcpy(b->piece[i].at, bucket + at, b->piece[i].count * sizeof(float));
    b->used = 0;
    b->pieces = 0;
}

static void glam__bucket_add(glam__bucket *b, float *data, size_t n)
{
    int here = !b->ctx->base.measuring;                // then nothing is, and data is NULL
    for (size_t take; n && b->c->size > 1; n -= take) {
        take = (size_t)glam__lesser(GLAM__BUCKET - b->used, n);
        b->piece[b->pieces].at = data;
        if (here) memcpy(b->ctx->mesh->bucket + b->used, data, take * sizeof(float)), data += take;
        b->piece[b->pieces++].count = take;
        b->used += take;
        if (b->used == GLAM__BUCKET || b->pieces == GLAM__PIECES) glam__bucket_flush(b);
    }
}

/* == 04 random : implementation ===========================================================
   A number is a hash of where it is used.  No generator is carried along, so nothing depends on
   the order in which threads, layers or ranks ask. */

// The finalizer of splitmix64: every input bit reaches every output bit.
static uint64_t glam__mix64(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t glam__random64(uint64_t seed, uint64_t stream, uint64_t index)
{
    const uint64_t golden = 0x9e3779b97f4a7c15u;
    uint64_t key = glam__mix64(seed + golden) ^ glam__mix64(stream * 2 + 1);
    return glam__mix64(glam__mix64(key + index * golden) + key);
}

static double glam__random_double(uint64_t seed, uint64_t stream, uint64_t index)
{
    return (double)(glam__random64(seed, stream, index) >> 11) / 9007199254740992.0;   // 2^53
}

GLAM_API float glam_random(uint64_t seed, uint64_t stream, uint64_t index)
{
    return (float)(glam__random64(seed, stream, index) >> 40) / 16777216.0f;           // 2^24
}

// Box and Muller; both uniforms come from one hash of 64 bits.
GLAM_API float glam_normal(uint64_t seed, uint64_t stream, uint64_t index)
{
    uint64_t bits = glam__random64(seed, stream, index);
    double a = ((double)(bits >> 32) + 1.0) / 4294967296.0;             // (0,1]: log is finite
    double b = (double)(bits & 0xffffffffu) / 4294967296.0;
    return (float)(sqrt(-2.0 * log(a)) * cos(6.283185307179586 * b));
}

// FNV-1a of a name: what makes two tensors of one shape start differently.
static uint64_t glam__hash_name(const char *name)
{
    uint64_t h = 1469598103934665603u;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 1099511628211u;
    return h;
}

/* == 05 kernels : implementation ==========================================================
   Arithmetic on plain float arrays: the only code that touches numbers in bulk.  Everything
   above reaches it through one table, so that room 06 can offer the same rows per instruction
   set.  The one idea: each kernel is an inline body in plain C that compilers turn into vector
   code; a macro instantiates all of them once per instruction set.  Last stand the products of
   bf16, in pairs of terms, with the bits of the two instructions that processors have for them.
   Invariants.  A result's bits depend on its own operands only:
   - an element of a product is a chain of multiply-adds over p in order, in blocks of GLAM__KC
     terms (tiles: of 32) at fixed multiples, the block sums added in order.  The number of rows in
     the call, their place, the stride of an operand do not matter, nor do zeros appended to k
     (tiles: but for the sign of a zero).
   - a sum over a row has GLAM__LANES partial sums: element j goes to lane j % GLAM__LANES, the
     lanes are joined as a binary tree.  Zeros appended to the row do not matter.
   - the functions of one element work on blocks of GLAM__BLOCK; a tail is padded to a block, so
     that the last elements of a row take the same instructions as the first.
   No infinities as masks, no comparison that only a NaN would fail: -ffast-math is survived.
   Bodies that look at the bits of a float step aside where a float has more than four bytes (the
   gradient tests compile this file with double for float). */

GLAM__PLAIN_CODE_ENDS

#define GLAM__BLOCK 16     // elements that the functions of one element take at a time
#define GLAM__LANES 32     // partial sums of a reduction
#define GLAM__CHUNK 4096   // elements that are summed in float before doubles take over
#define GLAM__LOWEST (-3.0e38f)

// Flags belong to the user, speed to us: gcc compiles this region as with -O2 and vector loops,
// whatever the command line says; without errno for sqrtf, and without jump threading, which turns
// the selects of a vector loop back into branches.  clang takes hints instead.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("O2", "tree-vectorize", "vect-cost-model=dynamic", "no-fast-math", \
                     "fp-contract=fast", "no-math-errno", "no-trapping-math", "no-thread-jumps")
#define GLAM__VECTOR _Pragma("GCC ivdep")
#define GLAM__FUSED
#elif defined(__clang__)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wpass-failed"   // sanitizers keep a loop from being vectorised
#define GLAM__VECTOR _Pragma("clang loop vectorize(assume_safety)")
#define GLAM__FUSED _Pragma("clang fp contract(on) reassociate(off)")
#else
#define GLAM__VECTOR
#define GLAM__FUSED
#endif

// What an FFN does between its matrices, one row each: name, form, f with its slope.  The rows of
// glam_activation in room 13 choose among them.
#define GLAM__EACH_ACT(X) \
    X(RELU,          GLAM__ALONE,   glam__relu1) \
    X(GELU_TANH,     GLAM__ALONE,   glam__gelu1) \
    X(GELU_ERF,      GLAM__ALONE,   glam__gelu_erf1) \
    X(GEGLU_TANH,    GLAM__GATES,   glam__gelu1) \
    X(GEGLU_ERF,     GLAM__GATES,   glam__gelu_erf1) \
    X(SWIGLU,        GLAM__GATES,   glam__silu1) \
    X(GEGLU_LITERAL, GLAM__OF_BOTH, glam__gelu1)
enum { GLAM__ALONE, GLAM__GATES, GLAM__OF_BOTH };      // f(u), g is NULL; f(g) u; f(g u)
#define GLAM__ACT_NAME(name, form, f) GLAM__ACT_##name,
enum { GLAM__EACH_ACT(GLAM__ACT_NAME) GLAM__ACTS };
enum {
    GLAM__EXP, GLAM__LOG, GLAM__TANH, GLAM__SIGMOID, GLAM__RELU, GLAM__GELU, GLAM__GELU_ERF,
    GLAM__SILU
};

// The kernels that are one piece of C for every instruction set, each once: what comes back, name,
// parameters, arguments of the glam__row_ function that does it.
#define GLAM__ROW_KERNELS(X, isa, attr, NR) \
    /* out[p*nr + j] = b[p*ldb + j], where j < n; zeros up to nr.  pack_t: out[p*ldo + j] = \
       b[j*ldb + p] */ \
    X(isa, attr, void, , pack, (int k, int n, const float *b, size_t ldb, float *out), \
      (NR, k, n, b, ldb, out)) \
    X(isa, attr, void, , pack_t, (int k, int n, const float *b, size_t ldb, float *out, \
      size_t ldo), (NR, k, n, b, ldb, out, ldo)) \
    /* Operands in bf16: out[q] holds x[2q], in its lower half, and x[2q+1]; the same of rows; \
       panel and panel_t on such pairs, of which k terms make (k+1)/2. */ \
    X(isa, attr, void, , narrow, (int n, const float *x, float *out), (n, x, out)) \
    X(isa, attr, void, , narrow_rows, (int k, int n, const float *b, size_t ldb, float *out, \
      size_t ldo), (k, n, b, ldb, out, ldo)) \
    /* as narrow_rows, of rows that narrow has made; of an odd n one more column is written */ \
    X(isa, attr, void, , pair_rows, (int k, int n, const float *b, size_t ldb, float *out, \
      size_t ldo), (k, n, b, ldb, out, ldo)) \
    /* rows of n <= 32 narrow numbers, of one block each, as floats; scales NULL: of bf16 */ \
    X(isa, attr, void, , widen, (int rows, int n, const void *x, size_t ld, \
      const uint16_t *scales, size_t lds, float *out, size_t ldo), \
      (rows, n, x, ld, scales, lds, out, ldo)) \
    X(isa, attr, void, , pairs_by, (int m, int n, int k, const float *a, size_t ai, size_t ap, \
      const float *b, size_t ldb, float *c, size_t ldc, int add), \
      (NR, m, n, k, a, ai, ap, b, ldb, c, ldc, add)) \
    X(isa, attr, void, , pairs, (GLAM__PANEL_ARGS), \
      (glam__pairs_by_##isa, m, n, k, a, lda, b, ldb, c, ldc, add)) \
    X(isa, attr, void, , pairs_t, (GLAM__PANEL_ARGS), \
      (glam__pairs_by_##isa, m, n, k, a, lda, b, ldb, c, ldc, add)) \
    X(isa, attr, float, return, dot, (int n, const float *a, const float *b), (n, a, b)) \
    X(isa, attr, double, return, sum, (size_t n, const float *x), (n, x)) \
    X(isa, attr, double, return, sum_squares, (size_t n, const float *x), (n, x)) \
    /* y += x, y += x^2, y += alpha x, x *= alpha, y = exp(x - c) */ \
    X(isa, attr, void, , add, (int n, const float *x, float *y), (n, x, y)) \
    X(isa, attr, void, , add_squares, (int n, const float *x, float *y), (n, x, y)) \
    X(isa, attr, void, , axpy, (int n, float alpha, const float *x, float *y), (n, alpha, x, y)) \
    X(isa, attr, void, , scale, (int n, float alpha, float *x), (n, alpha, x)) \
    X(isa, attr, void, , exp_minus, (int n, float c, const float *x, float *y), (n, c, x, y)) \
    /* One row: r = 1/sqrt(mean(x^2) + eps), y = x r gain; returns r.  y may be x. */ \
    X(isa, attr, float, return, rmsnorm, \
      (int n, float eps, const float *x, const float *gain, float *y), (n, eps, x, gain, y)) \
    /* dx += r gain dy - x r^3/n dot(dy gain, x);  dgain += dy x r.  dx, dgain may be NULL. */ \
    X(isa, attr, void, , rmsnorm_back, (int n, float r, const float *x, const float *gain, \
      const float *dy, float *dx, float *dgain), (n, r, x, gain, dy, dx, dgain)) \
    /* Pairs (x[i], x[n+i]) turned by the angle with cos c[i] and sin s[i]; sign -1: back. */ \
    X(isa, attr, void, , rotate, (int n, float sign, const float *c, const float *s, float *x), \
      (n, sign, c, s, x)) \
    /* x becomes softmax(x), with sink over one more logit that is 0.  Returns the logsumexp, \
       sink included; GLAM__LOWEST for no logits at all. */ \
    X(isa, attr, float, return, softmax, (int n, float *x, int sink), (n, x, sink)) \
    X(isa, attr, float, return, logsumexp, (int n, const float *x), (n, x)) \
    X(isa, attr, void, , act, (int kind, int n, const float *g, const float *u, float *h), \
      (kind, n, g, u, h, glam__act_##isa)) \
    /* Writes h again, and dg (gated kinds only) and du.  dg may be g, du may be u. */ \
    X(isa, attr, void, , act_back, (int kind, int n, const float *g, const float *u, \
      const float *dh, float *h, float *dg, float *du), \
      (kind, n, g, u, dh, h, dg, du, glam__act_back_##isa)) \
    X(isa, attr, void, , unary, (int kind, size_t n, const float *x, float *y), \
      (kind, n, x, y, glam__unary_##isa)) \
    X(isa, attr, void, , unary_back, (int kind, size_t n, const float *x, const float *y, \
      const float *dy, float *dx), (kind, n, x, y, dy, dx, glam__unary_back_##isa)) \
    /* m = b1 m + (1-b1) s g, v = b2 v + (1-b2) (s g)^2, \
       w -= lr ((m c1)/(sqrt(v c2) + eps) + decay w).  s is the clip factor. */ \
    X(isa, attr, void, , adamw, (size_t n, float *w, const float *g, float *m, float *v, float s, \
      float b1, float b2, float c1, float c2, float eps, float lr, float decay), \
      (n, w, g, m, v, s, b1, b2, c1, c2, eps, lr, decay)) \
    /* Adafactor, unfactored: v = decay v + (1-decay) ((s g)^2 + eps1), u = s g / sqrt(v).  The \
       first returns sum(u^2), the second does w -= step u. */ \
    X(isa, attr, double, return, factor_none, (size_t n, const float *g, float *v, float s, \
      float decay, float eps1), (n, g, v, s, decay, eps1)) \
    X(isa, attr, void, , factor_none_step, (size_t n, float *w, const float *g, const float *v, \
      float s, float step), (n, w, g, v, s, step)) \
    /* One row of a factored matrix: u = s g row col. */ \
    X(isa, attr, double, return, factor_row, (int n, const float *g, const float *col, float row, \
      float s), (n, g, col, row, s)) \
    X(isa, attr, void, , factor_row_step, (int n, float *w, const float *g, const float *col, \
      float row, float s, float step), (n, w, g, col, row, s, step)) \
    /* 1 when every element is */ \
    X(isa, attr, int, return, finite, (size_t n, const float *x), (n, x))

#define GLAM__KERNEL_FIELD(isa, attr, type, give, name, params, args) type (*name) params;
#define GLAM__KERNEL_BODY(isa, attr, type, give, name, params, args) \
    attr static type glam__##name##_##isa params { give glam__row_##name args; }
#define GLAM__KERNEL_SET(isa, attr, type, give, name, params, args) t->name = glam__##name##_##isa;

#define GLAM__ONE_ARGS(type) \
    const float *a, const type *b, size_t ld, const uint16_t *scales, size_t lds
typedef void glam__one_fn(int T, int k, int n, GLAM__ONE_ARGS(void), float *c, int add);
#define GLAM__PANEL_ARGS \
    int m, int n, int k, const float *a, size_t lda, const float *b, size_t ldb, float *c, \
    size_t ldc, int add
typedef void glam__panel_fn(GLAM__PANEL_ARGS);
typedef struct glam__kernels {
    const char *name;
    int mr, nr;                // rows and columns of a tile
    int pair;                  // terms of k that one element of A and B holds: 1, or 2 of bf16
    int pairs_mr;              // mr of pairs
    int kc;                    // terms of k that a product's panels hold and its calls take
    glam_arithmetic native;    // what an instruction does, faster than f32

    // C [m,n] = (or, with add, +=) A [m,k] B, one panel of n <= nr columns.  a[i*lda + p]; every
    // row of B has nr readable columns (ldb == nr when it is packed); n columns of C are written.
    // panel_t: the same with A by columns, a[p*lda + i]: the product with a transposed matrix; NULL
    // for tiles, which take what glam__narrow_turned makes of it.
    glam__panel_fn *panel, *panel_t;
    glam__panel_fn *tiled;                 // panel of pairs in tiles, and what stands around a
    void (*hold)(int on);                  // task's calls of it; NULL: nothing does
    // One row of A times n columns of B as it lies, or (one_t) n rows of a turned B, with the bits
    // of panels of what B stands for.  k <= GLAM__KC, of a turned B a multiple of T; n: whole
    // panels, and blocks of one().  T: 1 floats, 2 bf16, 4 q8.  NULL: by way of panels.
    glam__one_fn *one, *one_t;
    GLAM__ROW_KERNELS(GLAM__KERNEL_FIELD, none, , 0)
} glam__kernels;

// ---- one element

// exp(x) = scale (1 + p), p returned: x = n ln 2 + r, scale = 2^n, p = exp(r) - 1.  Kept apart
// because exp(x) - 1 = scale p + (scale - 1) loses nothing near 0.  For -88 <= x <= 88; where n
// is -127 the bits of the scale are those of 0.
static GLAM__INLINE float glam__exp_parts(float x, float *scale)
{
    GLAM__FUSED
    // + 200 makes the number positive, where truncation rounds one way only
    float number = x > -100.0f ? x : -100.0f;   // a NaN has no integer; it goes on through r
    int32_t n = (int32_t)(number * 1.44269504f + 200.5f) - 200;
    uint32_t bits = (uint32_t)(n + 127) << 23;
    float f = (float)n, r, q;
    memcpy(scale, &bits, sizeof bits);
    r = x - f * 0.693359375f;                  // ln 2 in two parts: the first product is exact
    r = r + f * 2.12194440e-4f;
    q = 0.00138131611f;                        // minimax on |r| <= 0.35, relative error 3e-9
    q = q * r + 0.00836941134f;
    q = q * r + 0.0416684560f;
    q = q * r + 0.166665152f;
    q = q * r + 0.499999940f;
    return r + r * r * q;
}

// Relative error 2e-7.  Exactly 0 below -87.7, constant above 88; a NaN stays one.
static GLAM__INLINE float glam__exp1(float x)
{
    GLAM__FUSED
    if (sizeof(float) > 4) return (float)exp((double)x);
    float scale, t = x < -88.0f ? -88.0f : x;
    t = t > 88.0f ? 88.0f : t;
    float p = glam__exp_parts(t, &scale);
    return scale + scale * p;
}

// (e - 1)/(e + 1) with e = exp(2x); relative error 4e-7 however small x is.
static GLAM__INLINE float glam__tanh1(float x)
{
    GLAM__FUSED
    if (sizeof(float) > 4) return (float)tanh((double)x);
    float scale, t = x < -10.0f ? -10.0f : x;
    t = t > 10.0f ? 10.0f : t;
    float p = glam__exp_parts(t + t, &scale);
    p = (scale - 1.0f) + scale * p;
    return p / (p + 2.0f);
}

static GLAM__INLINE float glam__sigmoid1(float x) { return 1.0f / (1.0f + glam__exp1(-x)); }

// 1/sqrt(x): three Newton steps from a guess made of x's bits.  Compilers that keep errno for
// sqrtf cannot vectorise it.  x = 0 gives a large number, so that x * rsqrt(x) is right: 0.
static GLAM__INLINE float glam__rsqrt1(float x)
{
    GLAM__FUSED
    if (sizeof(float) > 4) return 1.0f / sqrtf(x);
    float y, t = x > 3.0e38f ? 3.0e38f : x, half = 0.5f * t;
    uint32_t bits;
    memcpy(&bits, &t, sizeof bits);
    bits = 0x5f375a86u - (bits >> 1);
    memcpy(&y, &bits, sizeof bits);
    y = y * (1.5f - half * y * y);
    y = y * (1.5f - half * y * y);
    return y * (1.5f - half * y * y);
}

// The activations: value returned, slope at z through the pointer.

// 0.5 z (1 + tanh(a/2)) = z sigmoid(a) with a = sqrt(8/pi) (z + 0.044715 z^3).
static GLAM__INLINE float glam__gelu1(float z, float *slope)
{
    GLAM__FUSED
    float z2 = z * z;
    z2 = z2 > 100.0f ? 100.0f : z2;            // by then the sigmoid is 0 or 1
    float e = glam__exp1(z * (-1.59576912f - 0.0713548163f * z2));    // exp(-a)
    float s = 1.0f / (1.0f + e);
    float da = 1.59576912f + 0.214064449f * z2;
    *slope = s + z * (e * s * s) * da;
    return z * s;
}

// z Phi(z), Phi(z) = 0.5 (1 + erf(z/sqrt 2)).  Abramowitz and Stegun 7.1.26, absolute error 1.5e-7.
static GLAM__INLINE float glam__gelu_erf1(float z, float *slope)
{
    GLAM__FUSED
    float e = glam__exp1(-0.5f * z * z), phi;
    if (sizeof(float) > 4) {
        phi = (float)(0.5 * erfc(-(double)z * 0.70710678118654752));
    } else {
        float x = (z < 0.0f ? -z : z) * 0.707106781f;
        float t = 1.0f / (1.0f + 0.3275911f * x), q = 0.5307027145f;
        q = q * t - 0.7265760135f;             // half of the coefficients of the book
        q = q * t + 0.7107068705f;
        q = q * t - 0.142248368f;
        q = q * t + 0.127414796f;
        q = q * t * e;
        phi = z < 0.0f ? q : 1.0f - q;
    }
    *slope = phi + z * (0.3989422804014327f * e);
    return z * phi;
}

static GLAM__INLINE float glam__silu1(float z, float *slope)
{
    GLAM__FUSED
    float e = glam__exp1(-z), s = 1.0f / (1.0f + e);
    *slope = s + z * (e * s) * s;
    return z * s;
}

static GLAM__INLINE float glam__relu1(float z, float *slope)
{
    *slope = z > 0.0f ? 1.0f : 0.0f;
    return z < 0.0f ? 0.0f : z;                // this way round a NaN stays visible
}

// ---- tails

// n < GLAM__BLOCK elements to a block of their own, and back.
static GLAM__INLINE void glam__pad(int n, const float *GLAM__RESTRICT x, float fill,
                                   float *GLAM__RESTRICT block)
{
    GLAM__VECTOR
    for (int j = 0; j < GLAM__BLOCK; j++) block[j] = j < n ? x[j] : fill;
}

static GLAM__INLINE void glam__unpad(int n, const float *GLAM__RESTRICT block,
                                     float *GLAM__RESTRICT x)
{
    GLAM__VECTOR
    for (int j = 0; j < GLAM__BLOCK; j++)
        if (j < n) x[j] = block[j];
}

// ---- reductions

static GLAM__INLINE float glam__join(float *lane, int lanes)
{
    for (int half = lanes / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++) lane[j] += lane[j + half];
    return lane[0];
}

static GLAM__INLINE float glam__row_dot(int n, const float *a, const float *b)
{
    GLAM__FUSED
    float lane[GLAM__LANES] = { 0 };
    int i = 0;
    for (; i + GLAM__LANES <= n; i += GLAM__LANES)
        for (int j = 0; j < GLAM__LANES; j++) lane[j] += a[i + j] * b[i + j];
    for (int j = 0; j < GLAM__LANES; j++)
        if (i + j < n) lane[j] += a[i + j] * b[i + j];
    return glam__join(lane, GLAM__LANES);
}

static GLAM__INLINE float glam__row_total(int n, const float *x)
{
    float lane[GLAM__LANES] = { 0 };
    int i = 0;
    for (; i + GLAM__LANES <= n; i += GLAM__LANES)
        for (int j = 0; j < GLAM__LANES; j++) lane[j] += x[i + j];
    for (int j = 0; j < GLAM__LANES; j++)
        if (i + j < n) lane[j] += x[i + j];
    return glam__join(lane, GLAM__LANES);
}

static GLAM__INLINE int glam__chunk_of(size_t left)
{ return left < GLAM__CHUNK ? (int)left : GLAM__CHUNK; }

// Float lanes within a chunk, doubles across: right to a few ulp for a billion elements.
static GLAM__INLINE double glam__row_sum(size_t n, const float *x)
{
    double s = 0;
    for (size_t i = 0; i < n; i += GLAM__CHUNK)
        s += (double)glam__row_total(glam__chunk_of(n - i), x + i);
    return s;
}

static GLAM__INLINE double glam__row_sum_squares(size_t n, const float *x)
{
    double s = 0;
    for (size_t i = 0; i < n; i += GLAM__CHUNK)
        s += (double)glam__row_dot(glam__chunk_of(n - i), x + i, x + i);
    return s;
}

// An exponent of all ones is an infinity or a NaN: adding one to it carries into the top bit.
static GLAM__INLINE int glam__row_finite(size_t n, const float *x)
{
    uint32_t bad = 0;
    if (sizeof(float) > 4) {
        for (size_t i = 0; i < n; i++) bad |= x[i] - x[i] == 0.0f ? 0u : 0x80000000u;
    } else {
        for (size_t i = 0; i < n; i++) {
            uint32_t bits;
            memcpy(&bits, &x[i], sizeof bits);
            bad |= (bits & 0x7fffffffu) + 0x00800000u;
        }
    }
    return !(bad >> 31);
}

// ---- simple rows

static GLAM__INLINE void glam__row_add(int n, const float *x, float *y)
{
    GLAM__VECTOR
    for (int i = 0; i < n; i++) y[i] += x[i];
}

static GLAM__INLINE void glam__row_add_squares(int n, const float *GLAM__RESTRICT x,
                                               float *GLAM__RESTRICT y)
{
    GLAM__FUSED
    for (int i = 0; i < n; i++) y[i] += x[i] * x[i];
}

static GLAM__INLINE void glam__row_axpy(int n, float alpha, const float *x, float *y)
{
    GLAM__FUSED
    GLAM__VECTOR
    for (int i = 0; i < n; i++) y[i] += alpha * x[i];
}

static GLAM__INLINE void glam__row_scale(int n, float alpha, float *x)
{
    GLAM__VECTOR
    for (int i = 0; i < n; i++) x[i] *= alpha;
}

static GLAM__INLINE float glam__row_rmsnorm(int n, float eps, const float *x, const float *gain,
                                            float *y)
{
    float r = 1.0f / sqrtf(glam__row_dot(n, x, x) / (float)n + eps);
    GLAM__VECTOR
    for (int i = 0; i < n; i++) y[i] = x[i] * r * gain[i];
    return r;
}

static GLAM__INLINE void glam__row_rmsnorm_back(int n, float r, const float *x, const float *gain,
                                                const float *dy, float *dx, float *dgain)
{
    GLAM__FUSED
    if (dgain) {
        GLAM__VECTOR
        for (int i = 0; i < n; i++) dgain[i] += dy[i] * (x[i] * r);
    }
    if (!dx) return;
    float lane[GLAM__LANES] = { 0 }, k;
    int b = 0;
    for (; b + GLAM__LANES <= n; b += GLAM__LANES)
        for (int j = 0; j < GLAM__LANES; j++) lane[j] += dy[b + j] * gain[b + j] * x[b + j];
    for (int j = 0; j < GLAM__LANES; j++)
        if (b + j < n) lane[j] += dy[b + j] * gain[b + j] * x[b + j];
    k = r * r * r / (float)n * glam__join(lane, GLAM__LANES);
    GLAM__VECTOR
    for (int i = 0; i < n; i++) dx[i] += (r * gain[i]) * dy[i] - k * x[i];
}

static GLAM__INLINE void glam__row_rotate(int n, float sign, const float *c, const float *s,
                                          float *x)
{
    GLAM__FUSED
    GLAM__VECTOR
    for (int i = 0; i < n; i++) {
        float a = x[i], b = x[n + i], sine = sign * s[i];
        x[i] = a * c[i] - b * sine;
        x[n + i] = b * c[i] + a * sine;
    }
}

// ---- rows of exp: whole blocks first, then the tail padded to one more

// A compiler may not reorder a float maximum, but one of integers: with the lower bits of the
// negative ones turned round, the bits of floats are integers in the same order.
static GLAM__INLINE float glam__row_max(int n, const float *x)
{
    float top = GLAM__LOWEST;
    if (sizeof(float) > 4) {
        for (int i = 0; i < n; i++) top = x[i] > top ? x[i] : top;
        return top;
    }
    int32_t most;
    memcpy(&most, &top, sizeof most);
    most ^= (most >> 31) & 0x7fffffff;
    for (int i = 0; i < n; i++) {
        int32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits ^= (bits >> 31) & 0x7fffffff;
        most = bits > most ? bits : most;
    }
    most ^= (most >> 31) & 0x7fffffff;
    memcpy(&top, &most, sizeof most);
    return top;
}

// One block: t = exp(x - c), added into the lanes.
static GLAM__INLINE void glam__block_exp(float c, const float *x, float *t, float *lane)
{
    GLAM__VECTOR
    for (int j = 0; j < GLAM__BLOCK; j++) {
        float e = glam__exp1(x[j] - c);
        t[j] = e;
        lane[j] += e;
    }
}

// Sum of exp(x - c); y, when there is one, receives the terms and may be x.
static GLAM__INLINE float glam__row_exp_sum(int n, float c, const float *x, float *y)
{
    float lane[GLAM__BLOCK] = { 0 }, t[GLAM__BLOCK];
    int i = 0;
    for (; i + GLAM__BLOCK <= n; i += GLAM__BLOCK) {
        glam__block_exp(c, x + i, t, lane);
        if (y) memcpy(y + i, t, sizeof t);
    }
    if (i < n) {
        glam__pad(n - i, x + i, GLAM__LOWEST, t);
        glam__block_exp(c, t, t, lane);
        if (y) glam__unpad(n - i, t, y + i);
    }
    return glam__join(lane, GLAM__BLOCK);
}

// 0, or with -ffast-math a NaN of the row, of which maximum and exponential make numbers there.
static GLAM__INLINE float glam__row_nan(int n GLAM__UNUSED, const float *x GLAM__UNUSED)
{
    float nan = 0;
#ifdef __FAST_MATH__
    for (int i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        if ((bits & 0x7fffffffu) > 0x7f800000u) memcpy(&nan, &bits, sizeof nan);
    }
#endif
    return nan;
}

static GLAM__INLINE float glam__row_softmax(int n, float *x, int sink)
{
    float top = glam__row_max(n, x), nan = glam__row_nan(n, x), s;
    if (sink) top = top > 0.0f ? top : 0.0f;
    if (n <= 0) return sink ? 0.0f : GLAM__LOWEST;
    s = glam__row_exp_sum(n, top, x, x) + nan; // exp(90) is already infinite, hence the maximum
    if (sink) s += glam__exp1(-top);
    glam__row_scale(n, 1.0f / s, x);
    return top + (float)log((double)s);
}

static GLAM__INLINE float glam__row_logsumexp(int n, const float *x)
{
    float top = glam__row_max(n, x), nan = glam__row_nan(n, x);
    return n > 0 ? top + nan + (float)log((double)glam__row_exp_sum(n, top, x, NULL))
                 : GLAM__LOWEST;
}

static GLAM__INLINE void glam__row_exp_minus(int n, float c, const float *x, float *y)
{ glam__row_exp_sum(n, c, x, y); }

// ---- activations and functions of one element

static GLAM__INLINE int glam__act_form(int kind)
{
#define GLAM__ACT_FORM(name, form, f) case GLAM__ACT_##name: return form;
    switch (kind) { GLAM__EACH_ACT(GLAM__ACT_FORM) }
    return GLAM__ALONE;
}

static GLAM__INLINE float glam__act_f(int kind, float z, float *slope)
{
#define GLAM__ACT_F(name, form, f) case GLAM__ACT_##name: return f(z, slope);
    switch (kind) { GLAM__EACH_ACT(GLAM__ACT_F) }
    return *slope = 0;
}

// Value of the activation `kind` on the pair, and its slopes.
static GLAM__INLINE float glam__act1(int kind, float g, float u, float *dg, float *du)
{
    float slope, f;
    int form = glam__act_form(kind);
    f = glam__act_f(kind, form == GLAM__ALONE ? u : form == GLAM__OF_BOTH ? g * u : g, &slope);
    *dg = slope * u;
    *du = form == GLAM__ALONE ? slope : form == GLAM__OF_BOTH ? slope * g : f;
    return form == GLAM__GATES ? f * u : f;
}

static GLAM__INLINE void glam__act_of(int kind, int n, const float *g, const float *u, float *h)
{
    int gated = glam__act_form(kind) != GLAM__ALONE;
    GLAM__VECTOR
    for (int i = 0; i < n; i++) {
        float dg, du;
        h[i] = glam__act1(kind, gated ? g[i] : 0.0f, u[i], &dg, &du);
    }
}

static GLAM__INLINE void glam__act_back_of(int kind, int n, const float *g, const float *u,
                                           const float *dh, float *h, float *dg, float *du)
{
    int gated = glam__act_form(kind) != GLAM__ALONE;
    GLAM__VECTOR
    for (int i = 0; i < n; i++) {
        float sg, su, d = dh[i];
        h[i] = glam__act1(kind, gated ? g[i] : 0.0f, u[i], &sg, &su);
        if (gated) dg[i] = d * sg;
        du[i] = d * su;
    }
}

static GLAM__INLINE float glam__unary1(int kind, float x)
{
    float slope;
    switch (kind) {
    case GLAM__EXP:      return glam__exp1(x);
    case GLAM__TANH:     return glam__tanh1(x);
    case GLAM__SIGMOID:  return glam__sigmoid1(x);
    case GLAM__RELU:     return glam__relu1(x, &slope);
    case GLAM__GELU:     return glam__gelu1(x, &slope);
    case GLAM__GELU_ERF: return glam__gelu_erf1(x, &slope);
    default:             return glam__silu1(x, &slope);
    }
}

// The slope of y = unary1(kind, x).
static GLAM__INLINE float glam__slope1(int kind, float x, float y)
{
    float slope = 0;
    switch (kind) {
    case GLAM__EXP:      return y;
    case GLAM__TANH:     return 1.0f - y * y;
    case GLAM__SIGMOID:  return y * (1.0f - y);
    case GLAM__RELU:     glam__relu1(x, &slope); break;
    case GLAM__GELU:     glam__gelu1(x, &slope); break;
    case GLAM__GELU_ERF: glam__gelu_erf1(x, &slope); break;
    default:             glam__silu1(x, &slope); break;
    }
    return slope;
}

static GLAM__INLINE void glam__unary_of(int kind, size_t n, const float *x, float *y)
{
    GLAM__VECTOR
    for (size_t i = 0; i < n; i++) y[i] = glam__unary1(kind, x[i]);
}

static GLAM__INLINE void glam__unary_back_of(int kind, size_t n, const float *x, const float *y,
                                             const float *dy, float *dx)
{
    GLAM__FUSED
    GLAM__VECTOR
    for (size_t i = 0; i < n; i++) dx[i] += dy[i] * glam__slope1(kind, x[i], y[i]);
}

// One copy of the loop per kind: a test inside it would keep it from being vectorised.
#define GLAM__CASE(kind, row, ...) case kind: row(kind, __VA_ARGS__); break;
#define GLAM__EACH_UNARY(row, ...) \
    switch (kind) { \
    GLAM__CASE(GLAM__EXP, row, __VA_ARGS__) GLAM__CASE(GLAM__TANH, row, __VA_ARGS__) \
    GLAM__CASE(GLAM__SIGMOID, row, __VA_ARGS__) GLAM__CASE(GLAM__RELU, row, __VA_ARGS__) \
    GLAM__CASE(GLAM__GELU, row, __VA_ARGS__) GLAM__CASE(GLAM__GELU_ERF, row, __VA_ARGS__) \
    default: row(GLAM__SILU, __VA_ARGS__); \
    }

// A tail is padded to one more block and handed to the function itself: twice the body would be
// twice the code, and a loop around it keeps gcc from vectorising.
static GLAM__INLINE void glam__row_act(int kind, int n, const float *g, const float *u, float *h,
                                       void (*self)(int, int, const float *, const float *,
                                                    float *))
{
    int whole = n & -GLAM__BLOCK, rest = n - whole;
    if (rest) {
        float tg[GLAM__BLOCK], tu[GLAM__BLOCK], th[GLAM__BLOCK];
        if (glam__act_form(kind) != GLAM__ALONE) glam__pad(rest, g + whole, 0.0f, tg);
        glam__pad(rest, u + whole, 0.0f, tu);
        self(kind, GLAM__BLOCK, tg, tu, th);
        glam__unpad(rest, th, h + whole);
    }
#define GLAM__ACT_LOOP(name, form, f) \
    case GLAM__ACT_##name: glam__act_of(GLAM__ACT_##name, whole, g, u, h); break;
    switch (kind) { GLAM__EACH_ACT(GLAM__ACT_LOOP) }
}

static GLAM__INLINE void glam__row_act_back(int kind, int n, const float *g, const float *u,
                                            const float *dh, float *h, float *dg, float *du,
                                            void (*self)(int, int, const float *, const float *,
                                                         const float *, float *, float *,
                                                         float *))
{
    int whole = n & -GLAM__BLOCK, rest = n - whole, gated = glam__act_form(kind);
    if (rest) {
        float tg[GLAM__BLOCK], tu[GLAM__BLOCK], td[GLAM__BLOCK], th[GLAM__BLOCK];
        if (gated) glam__pad(rest, g + whole, 0.0f, tg);
        glam__pad(rest, u + whole, 0.0f, tu);
        glam__pad(rest, dh + whole, 0.0f, td);
        self(kind, GLAM__BLOCK, tg, tu, td, th, tg, tu);
        glam__unpad(rest, th, h + whole);
        if (gated) glam__unpad(rest, tg, dg + whole);
        glam__unpad(rest, tu, du + whole);
    }
#define GLAM__ACT_BACK_LOOP(name, form, f) \
    case GLAM__ACT_##name: glam__act_back_of(GLAM__ACT_##name, whole, g, u, dh, h, dg, du); break;
    switch (kind) { GLAM__EACH_ACT(GLAM__ACT_BACK_LOOP) }
}

static GLAM__INLINE void glam__row_unary(int kind, size_t n, const float *x, float *y,
                                         void (*self)(int, size_t, const float *, float *))
{
    size_t whole = n & ~(size_t)(GLAM__BLOCK - 1);
    int rest = (int)(n - whole);
    if (kind == GLAM__LOG) {
        for (size_t i = 0; i < n; i++) y[i] = (float)log((double)x[i]);
        return;
    }
    if (rest) {
        float t[GLAM__BLOCK];
        glam__pad(rest, x + whole, 0.0f, t);
        self(kind, GLAM__BLOCK, t, t);
        glam__unpad(rest, t, y + whole);
    }
    GLAM__EACH_UNARY(glam__unary_of, whole, x, y)
}

static GLAM__INLINE void glam__row_unary_back(int kind, size_t n, const float *x, const float *y,
                                              const float *dy, float *dx,
                                              void (*self)(int, size_t, const float *,
                                                           const float *, const float *, float *))
{
    size_t whole = n & ~(size_t)(GLAM__BLOCK - 1);
    int rest = (int)(n - whole);
    if (kind == GLAM__LOG) {
        for (size_t i = 0; i < n; i++) dx[i] += dy[i] / x[i];
        return;
    }
    if (rest) {
        float tx[GLAM__BLOCK], ty[GLAM__BLOCK], td[GLAM__BLOCK], tg[GLAM__BLOCK];
        glam__pad(rest, x + whole, 0.0f, tx);
        glam__pad(rest, y + whole, 0.0f, ty);
        glam__pad(rest, dy + whole, 0.0f, td);
        glam__pad(rest, dx + whole, 0.0f, tg);
        self(kind, GLAM__BLOCK, tx, ty, td, tg);
        glam__unpad(rest, tg, dx + whole);
    }
    GLAM__EACH_UNARY(glam__unary_back_of, whole, x, y, dy, dx)
}

// ---- optimiser rows

static GLAM__INLINE void glam__row_adamw(size_t n, float *w, const float *g, float *m, float *v,
                                         float s, float b1, float b2, float c1, float c2,
                                         float eps, float lr, float decay)
{
    GLAM__FUSED
    float a1 = 1.0f - b1, a2 = 1.0f - b2;
    GLAM__VECTOR
    for (size_t i = 0; i < n; i++) {
        float d = s * g[i], mi = m[i] + a1 * (d - m[i]), vi = v[i] + a2 * (d * d - v[i]);
        float t = vi * c2;
        m[i] = mi;
        v[i] = vi;
        w[i] -= lr * (mi * c1 / (t * glam__rsqrt1(t) + eps) + decay * w[i]);
    }
}

static GLAM__INLINE float glam__factor_none_chunk(int n, const float *g, float *v, float s,
                                                  float decay, float eps1)
{
    GLAM__FUSED
    float lane[GLAM__LANES] = { 0 };
    for (int i = 0; i < n; i += GLAM__LANES) {
        int most = glam__min(n - i, GLAM__LANES);
        GLAM__VECTOR
        for (int j = 0; j < most; j++) {
            float d = s * g[i + j], u;
            float next = decay * v[i + j] + (1.0f - decay) * (d * d + eps1);
            v[i + j] = next;
            u = d * glam__rsqrt1(next);
            lane[j] += u * u;
        }
    }
    return glam__join(lane, GLAM__LANES);
}

static GLAM__INLINE double glam__row_factor_none(size_t n, const float *g, float *v, float s,
                                                 float decay, float eps1)
{
    double sum = 0;
    for (size_t i = 0; i < n; i += GLAM__CHUNK)
        sum += (double)glam__factor_none_chunk(glam__chunk_of(n - i), g + i, v + i, s, decay, eps1);
    return sum;
}

static GLAM__INLINE void glam__row_factor_none_step(size_t n, float *w, const float *g,
                                                    const float *v, float s, float step)
{
    GLAM__FUSED
    float by = step * s;
    GLAM__VECTOR
    for (size_t i = 0; i < n; i++) w[i] -= by * g[i] * glam__rsqrt1(v[i]);
}

static GLAM__INLINE double glam__row_factor_row(int n, const float *g, const float *col, float row,
                                                float s)
{
    GLAM__FUSED
    float lane[GLAM__LANES] = { 0 }, by = s * row;
    int i = 0;
    for (; i + GLAM__LANES <= n; i += GLAM__LANES)
        for (int j = 0; j < GLAM__LANES; j++) {
            float u = by * g[i + j] * col[i + j];
            lane[j] += u * u;
        }
    for (int j = 0; j < GLAM__LANES; j++) {
        float u = i + j < n ? by * g[i + j] * col[i + j] : 0.0f;
        lane[j] += u * u;
    }
    return (double)glam__join(lane, GLAM__LANES);
}

static GLAM__INLINE void glam__row_factor_row_step(int n, float *w, const float *g,
                                                   const float *col, float row, float s,
                                                   float step)
{
    GLAM__FUSED
    float by = step * s * row;
    GLAM__VECTOR
    for (int i = 0; i < n; i++) w[i] -= by * g[i] * col[i];
}

// ---- panels

static GLAM__INLINE void glam__row_pack(int nr, int k, int n, const float *b, size_t ldb,
                                        float *out)
{
    for (int p = 0; p < k; p++, b += ldb, out += nr) {
        if (n == nr) {
            memcpy(out, b, (size_t)nr * sizeof(float));
        } else {
            for (int j = 0; j < nr; j++) out[j] = j < n ? b[j] : 0.0f;
        }
    }
}

// By squares of 16 steps: that many reads of a row of B in turn use its cache line up.
static GLAM__INLINE void glam__row_pack_t(int nr, int k, int n, const float *b, size_t ldb,
                                          float *out, size_t ldo)
{
    for (int p = 0; p < k; p += 16, out += 16 * ldo) {
        int steps = k - p < 16 ? k - p : 16;
        for (int j = 0; j < nr; j++) {
            const float *from = b + (size_t)j * ldb + p;
            for (int q = 0; q < steps; q++) out[(size_t)q * ldo + j] = j < n ? from[q] : 0.0f;
        }
    }
}

// A float whose upper half is x, to nearest, to even where two are as near; a NaN stays one.
static GLAM__INLINE uint32_t glam__bf16(float x)
{
    uint32_t a;
    memcpy(&a, &x, sizeof a);
    return (a & 0x7fffffffu) > 0x7f800000u ? a | 0x00400000u : a + 0x7fffu + (a >> 16 & 1);
}

// What is below the normal numbers as 0, of its sign.
static GLAM__INLINE float glam__flush1(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits &= bits & 0x7f800000u ? 0xffffffffu : 0x80000000u;
    memcpy(&x, &bits, sizeof bits);
    return x;
}

// Two operands as a pair.  What their products take for 0 is 0 here, before it is rounded (Intel,
// VCVTNE2PS2BF16).
static GLAM__INLINE uint32_t glam__bf16_pair(float low, float high)
{
    return glam__bf16(glam__flush1(low)) >> 16 | (glam__bf16(glam__flush1(high)) & 0xffff0000u);
}

static GLAM__INLINE void glam__row_narrow(int n, const float *GLAM__RESTRICT x,
                                          float *GLAM__RESTRICT out)
{
    GLAM__VECTOR
    for (int q = 0; q < n / 2; q++) {
        uint32_t pair = glam__bf16_pair(x[2 * q], x[2 * q + 1]);
        memcpy(&out[q], &pair, sizeof pair);
    }
    if (n % 2) {
        uint32_t pair = glam__bf16_pair(x[n - 1], 0);
        memcpy(&out[n / 2], &pair, sizeof pair);
    }
}

// Of a row of B: what a panel soon to be made takes of it, whose rows lie pages apart.
#define GLAM__FETCH_PANEL(b, n) \
    for (int l = 0; l < (n) && (n) <= GLAM__LANES; l += 16) \
        GLAM__FETCH_AHEAD((b) + l, 3 * GLAM__LANES);

static GLAM__INLINE void glam__row_narrow_rows(int k, int n, const float *b, size_t ldb,
                                               float *GLAM__RESTRICT out, size_t ldo)
{
    for (int p = 0; p < k; p += 2, b += 2 * ldb, out += ldo) {
        const float *GLAM__RESTRICT low = b, *GLAM__RESTRICT high = p + 1 < k ? b + ldb : b;
        uint32_t both = p + 1 < k ? 0xffffffffu : 0x0000ffffu;
        GLAM__FETCH_PANEL(low, n)
        GLAM__FETCH_PANEL(high, n)
        GLAM__VECTOR
        for (int j = 0; j < n; j++) {
            uint32_t pair = glam__bf16_pair(low[j], high[j]) & both;
            memcpy(&out[j], &pair, sizeof pair);
        }
    }
}

static GLAM__INLINE void glam__row_pair_rows(int k, int n, const float *b, size_t ldb,
                                             float *GLAM__RESTRICT out, size_t ldo)
{
    for (int p = 0; p < k; p += 2, b += 2 * ldb, out += ldo) {
        const float *GLAM__RESTRICT low = b, *GLAM__RESTRICT high = p + 1 < k ? b + ldb : b;
        uint32_t both = p + 1 < k ? 0xffffffffu : 0x0000ffffu;
        GLAM__VECTOR
        for (int j = 0; j < (n + 1) / 2; j++) {
            uint32_t x, y;
            memcpy(&x, &low[j], sizeof x);
            memcpy(&y, &high[j], sizeof y);
            uint32_t even = ((x & 0xffffu) | y << 16) & both;
            uint32_t odd = (x >> 16 | (y & 0xffff0000u)) & both;
            memcpy(&out[2 * j], &even, sizeof even);
            memcpy(&out[2 * j + 1], &odd, sizeof odd);
        }
    }
}

// ---- narrow weights: bf16, and q8: whole numbers with a scale in bf16 for each block of a row.  A
// scale has 8 significant bits and a whole number 7: what they stand for is a float, exactly.

enum { GLAM__Q8_BLOCK = 32 };

static GLAM__INLINE float glam__widen1(uint16_t x)
{
    uint32_t bits = (uint32_t)x << 16;
    float wide = 0;
    memcpy(&wide, &bits, sizeof bits);
    return wide;
}

static GLAM__INLINE void glam__row_widen(int rows, int n, const void *x, size_t ld,
                                         const uint16_t *scales, size_t lds,
                                         float *GLAM__RESTRICT out, size_t ldo)
{
    for (int r = 0; r < rows; r++, out += ldo) {
        if (scales) {
            const int8_t *q = (const int8_t *)x + (size_t)r * ld;
            float scale = glam__widen1(scales[(size_t)r * lds]);
            GLAM__VECTOR
            for (int j = 0; j < n; j++) out[j] = scale * (float)q[j];
        } else {
            const uint16_t *b = (const uint16_t *)x + (size_t)r * ld;
            GLAM__VECTOR
            for (int j = 0; j < n; j++) out[j] = glam__widen1(b[j]);
        }
    }
}

// A row of n floats to bf16, or with scales to q8.  A block's scale is the largest value / 127,
// rounded up; of one that is not finite it is a NaN, and so are its values; of next to nothing 0.
static void glam__narrow_row(int n, const float *x, void *out, uint16_t *scales)
{
    for (int at = 0; at < n; at += GLAM__Q8_BLOCK) {
        int count = glam__min(n - at, GLAM__Q8_BLOCK);
        int8_t *q = (int8_t *)out + at;
        float most = 0;
        for (int j = 0; j < count && !scales; j++) {
            uint16_t one = (uint16_t)(glam__bf16(x[at + j]) >> 16);
            memcpy((uint16_t *)out + at + j, &one, sizeof one);
        }
        if (!scales) continue;
        for (int j = 0; j < count; j++) most = x[at + j] > most ? x[at + j]
                                             : -x[at + j] > most ? -x[at + j] : most;
        uint32_t bits;
        float scale = most / 127;
        memcpy(&bits, &scale, sizeof bits);
        bits = (bits + 0xffffu) >> 16;
        if (!glam__row_finite((size_t)count, x + at)) bits = 0x7fc0;
        if (most < 1e-30f && bits != 0x7fc0) bits = 0;
        scales[at / GLAM__Q8_BLOCK] = (uint16_t)bits;
        scale = glam__widen1((uint16_t)bits);
        for (int j = 0; j < count; j++) {
            float t = !bits || bits == 0x7fc0 ? 1.0f : x[at + j] / scale;
            q[j] = (int8_t)(t + (t < 0 ? -0.5f : 0.5f));
        }
    }
}

// Writes (or adds) n columns of a tile that was left in memory.
static GLAM__APART void glam__put(int rows, int n, const float *tile, int nr, float *c,
                                  size_t ldc, int add)
{
    for (int i = 0; i < rows; i++, tile += nr, c += ldc)
        for (int j = 0; j < n; j++) c[j] = add ? c[j] + tile[j] : tile[j];
}

// The plain tile multiplies, rounds and adds, also where the command line offers fused operations:
// gcc would fuse or not depending on how many sums a loop has, and a row's bits on its company.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off")
#endif
#ifdef __clang__
#define GLAM__ROUNDED _Pragma("clang fp contract(off) reassociate(off)")
#else
#define GLAM__ROUNDED
#endif

enum { GLAM__BASE_MR = 4, GLAM__BASE_NR = 8 };

// C[rows,n] = or += A B over k <= GLAM__KC terms; element (i,p) of A is a[i*ai + p*ap].
static GLAM__INLINE void glam__tile_base(int rows, int n, int k, const float *a, size_t ai,
                                         size_t ap, const float *b, size_t ldb, float *c,
                                         size_t ldc, int add)
{
    GLAM__ROUNDED
    float s[GLAM__BASE_MR * GLAM__BASE_NR] = { 0 }, x[GLAM__BASE_MR], y[GLAM__BASE_NR];
    for (int p = 0; p < k; p++, a += ap, b += ldb) {
        // copies, or gcc vectorises along p with shuffles: five times slower
        for (int i = 0; i < rows; i++) x[i] = a[(size_t)i * ai];
        memcpy(y, b, sizeof y);
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < GLAM__BASE_NR; j++) s[i * GLAM__BASE_NR + j] += x[i] * y[j];
    }
    glam__put(rows, n, s, GLAM__BASE_NR, c, ldc, add);
}

static GLAM__INLINE void glam__rows_base(int m, int n, int k, const float *a, size_t ai, size_t ap,
                                         const float *b, size_t ldb, float *c, size_t ldc, int add)
{
    for (int p = 0; p == 0 || p < k; p += GLAM__KC, add = 1) {
        int i = 0, terms = k - p < GLAM__KC ? k - p : GLAM__KC;
        const float *ab = a + (size_t)p * ap, *bb = b + (size_t)p * ldb;
        for (; i + GLAM__BASE_MR <= m; i += GLAM__BASE_MR)
            glam__tile_base(GLAM__BASE_MR, n, terms, ab + (size_t)i * ai, ai, ap, bb, ldb,
                            c + (size_t)i * ldc, ldc, add);
        for (; i < m; i++)
            glam__tile_base(1, n, terms, ab + (size_t)i * ai, ai, ap, bb, ldb,
                            c + (size_t)i * ldc, ldc, add);
    }
}

static void glam__panel_base(GLAM__PANEL_ARGS)
{ glam__rows_base(m, n, k, a, lda, 1, b, ldb, c, ldc, add); }
static void glam__panel_t_base(GLAM__PANEL_ARGS)
{ glam__rows_base(m, n, k, a, 1, lda, b, ldb, c, ldc, add); }

// Products of bf16, in pairs: what AVX512-BF16 does in one instruction, bit for bit.  An element is
// a chain over k as above, but within a pair the second term comes first.  A product is exact and
// each addition rounded once, to nearest: the exact sum and its double round to one float.  What is
// below the normal numbers counts as 0, and becomes 0 (Intel, VDPBF16PS).
static GLAM__INLINE float glam__half1(uint32_t bits)
{
    float x = 0;
    memcpy(&x, &bits, sizeof bits);
    return glam__flush1(x);
}

static GLAM__INLINE void glam__row_pairs_by(int nr, int m, int n, int k, const float *a, size_t ai,
                                            size_t ap, const float *b, size_t ldb, float *c,
                                            size_t ldc, int add)
{
    GLAM__ROUNDED
    for (int p = 0; p == 0 || p < k; p += GLAM__KC, add = 1) {
        int steps = ((k - p < GLAM__KC ? k - p : GLAM__KC) + 1) / 2;
        for (int i = 0; i < m; i++) {
            float s[GLAM__LANES] = { 0 };
            const float *x = a + (size_t)i * ai + (size_t)(p / 2) * ap;
            const float *y = b + (size_t)(p / 2) * ldb;
            for (int q = 0; q < steps; q++, x += ap, y += ldb) {
                uint32_t of;
                memcpy(&of, x, sizeof of);
                double first = glam__half1(of << 16), second = glam__half1(of & 0xffff0000u);
                GLAM__VECTOR
                for (int j = 0; j < nr; j++) {
                    uint32_t at;
                    memcpy(&at, y + j, sizeof at);
                    double t = (double)s[j] + second * (double)glam__half1(at & 0xffff0000u);
                    t = (double)glam__flush1((float)t) + first * (double)glam__half1(at << 16);
                    s[j] = glam__flush1((float)t);
                }
            }
            glam__put(1, n, s, nr, c + (size_t)i * ldc, ldc, add);
        }
    }
}

typedef void glam__pairs_fn(int m, int n, int k, const float *a, size_t ai, size_t ap,
                            const float *b, size_t ldb, float *c, size_t ldc, int add);
static GLAM__INLINE void glam__row_pairs(glam__pairs_fn *by, GLAM__PANEL_ARGS)
{ by(m, n, k, a, lda, 1, b, ldb, c, ldc, add); }
static GLAM__INLINE void glam__row_pairs_t(glam__pairs_fn *by, GLAM__PANEL_ARGS)
{ by(m, n, k, a, 1, lda, b, ldb, c, ldc, add); }

// Products of bf16 in tiles: what AMX does in one instruction, bit for bit.  Of 16 pairs, at fixed
// multiples, the first terms are a chain from zero and the second ones another, each addition
// rounded once; both together are added to C.  What is below the normal numbers counts as 0; what
// is so once it is rounded, as if there were no least exponent, becomes 0 (Intel, TDPBF16PS).
// Zeros appended to k change at most the sign of a zero.
enum { GLAM__TILE_PAIRS = 16 };

static GLAM__INLINE float glam__normal1(double x)
{
    const double least = (double)FLT_MIN * (1 - 1.0 / (1 << 25));
    uint64_t bits, bound;                      // as integers, for a NaN's sake
    memcpy(&bits, &x, sizeof bits);
    memcpy(&bound, &least, sizeof bound);
    return (float)(bits << 1 < bound << 1 ? x * (double)FLT_MIN : x);      // 0 keeps its sign
}

static void glam__tiled_base(GLAM__PANEL_ARGS)
{
    GLAM__ROUNDED
    for (int i = 0; i < m; i++, a += lda, c += ldc) {
        for (int j = 0; j < n; j++) c[j] = add ? c[j] : 0.0f;
        for (int q = 0; 2 * q < k; q += GLAM__TILE_PAIRS) {
            float first[GLAM__LANES] = { 0 }, second[GLAM__LANES] = { 0 };
            for (int r = q; r < q + GLAM__TILE_PAIRS; r++) {
                uint32_t of = 0, at = 0;           // zeros behind k: they take a sign from a zero
                if (2 * r < k) memcpy(&of, a + r, sizeof of);
                double low = glam__half1(of << 16), high = glam__half1(of & 0xffff0000u);
                for (int j = 0; j < n; j++) {
                    if (2 * r < k) memcpy(&at, b + (size_t)r * ldb + j, sizeof at);
                    double t = low * (double)glam__half1(at << 16);
                    double u = high * (double)glam__half1(at & 0xffff0000u);
                    first[j] = glam__normal1((double)first[j] + t);
                    second[j] = glam__normal1((double)second[j] + u);
                }
            }
            for (int j = 0; j < n; j++) {
                float both = glam__normal1((double)first[j] + (double)second[j]);
                c[j] = glam__normal1((double)glam__flush1(c[j]) + (double)both);
            }
        }
    }
}

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif

// ---- the table

// The kernels of one instruction set, and the function that fills a table with them.  attr is the
// compiler's word for the instruction set.
#define GLAM__ROWS(isa, attr, NR) \
    GLAM__ROW_KERNELS(GLAM__KERNEL_BODY, isa, attr, NR) \
    static void glam__rows_of_##isa(glam__kernels *t) \
    { GLAM__ROW_KERNELS(GLAM__KERNEL_SET, isa, attr, NR) }

#define GLAM__NO_ATTRIBUTE
GLAM__ROWS(base, GLAM__NO_ATTRIBUTE, GLAM__BASE_NR)

static void glam__table_base(glam__kernels *t)
{
    t->name = "base";
    t->mr = t->pairs_mr = GLAM__BASE_MR;
    t->nr = GLAM__BASE_NR;
    t->pair = 1;
    t->kc = GLAM__KC;
    t->native = GLAM_F32;
    t->one = t->one_t = NULL;
    t->panel = glam__panel_base;
    t->panel_t = glam__panel_t_base;
    t->tiled = glam__tiled_base;
    t->hold = NULL;
    glam__rows_of_base(t);
}

// The table of products whose operands are bf16.
static glam__kernels glam__kernels_narrow(const glam__kernels *k, int tiles)
{
    glam__kernels narrow = *k;
    narrow.mr = k->pairs_mr;
    if (tiles) narrow.mr = GLAM__TILE_PAIRS, narrow.kc = 2 * GLAM__KC;     // as many rows
    narrow.pair = 2;
    narrow.panel = tiles ? k->tiled : k->pairs;
    narrow.panel_t = tiles ? NULL : k->pairs_t;
    return narrow;
}

static void glam__hold(const glam__kernels *k, int on)
{ if (k->hold && k->panel == k->tiled) k->hold(on); }

static int glam__steps(const glam__kernels *k, int terms)
{ return glam__ceil_div(terms, k->pair); }

// Pairs of rows of floats; narrow 1: of rows that are operands in bf16 already.
static void glam__pair_up(const glam__kernels *t, int narrow, int k, int n, const float *b,
                          size_t ldb, float *out, size_t ldo)
{ (narrow ? t->pair_rows : t->narrow_rows)(k, n, b, ldb, out, ldo); }

// Panels for either: as pack and pack_t above, of steps(k) rows.
static void glam__pack_panel(const glam__kernels *t, int narrow, int k, int n, const float *b,
                             size_t ldb, float *out)
{
    if (t->pair == 1) {
        t->pack(k, n, b, ldb, out);
        return;
    }
    glam__pair_up(t, narrow, k, n, b, ldb, out, (size_t)t->nr);
    for (int q = 0; q < glam__steps(t, k) && n < t->nr; q++)
        memset(out + q * t->nr + n, 0, (size_t)(t->nr - n) * sizeof(float));
}

static void glam__pack_panel_t(const glam__kernels *t, int k, int n, const float *b, size_t ldb,
                               float *out)
{
    enum { STEPS = 32 };
    float some[GLAM__LANES * STEPS];       // no panel is wider
    if (t->pair == 1) {
        t->pack_t(k, n, b, ldb, out, (size_t)t->nr);
        return;
    }
    for (int p = 0; p < k; p += 2 * STEPS, out += STEPS * t->nr) {
        int terms = k - p < 2 * STEPS ? k - p : 2 * STEPS;
        for (int j = 0; j < n; j++) {
            const float *from = b + (size_t)j * ldb + p;
            for (size_t l = 0; l < 2 * STEPS; l += 16)     // rows lie pages apart
                GLAM__FETCH_AHEAD(from, 2 * STEPS + l);
            t->narrow(terms, from, some + j * STEPS);
        }
        t->pack_t(glam__steps(t, terms), n, some, STEPS, out, (size_t)t->nr);
    }
}

// A^T, as panels of tiles take it: row i of out holds the pairs of terms of column i of A [k,m],
// and zeros up to a multiple of nr.
static void glam__narrow_turned(const glam__kernels *t, int narrow, int k, int m, const float *a,
                                size_t lda, float *out, size_t ldo)
{
    float some[GLAM__LANES * GLAM__LANES];
    for (int p = 0; p < k; p += 2 * t->nr)
        for (int i = 0; i < m; i += GLAM__LANES) {
            int terms = glam__min(k - p, 2 * t->nr), n = glam__min(m - i, GLAM__LANES);
            glam__pair_up(t, narrow, terms, n, a + (size_t)p * lda + (i >> narrow), lda, some,
                          GLAM__LANES);
            t->pack_t(n, glam__steps(t, terms), some, GLAM__LANES, out + (size_t)i * ldo + p / 2,
                      ldo);
        }
}

// Terms at, at+1, .. of k, as many as an element holds at most, into the element that has them.
static void glam__put_terms(const glam__kernels *t, float *element, int at, int count,
                            const float *x)
{
    uint32_t was, is;
    if (t->pair == 1) {
        *element = *x;
        return;
    }
    memcpy(&was, element, sizeof was);
    is = at % 2 ? (was & 0xffffu) | glam__bf16_pair(0, *x)
                : glam__bf16_pair(*x, count > 1 ? x[1] : 0);
    memcpy(element, &is, sizeof is);
}

static void glam__narrow_block(const glam__kernels *k, int rows, int n, const float *x, size_t ldx,
                               float *out, size_t ld)
{ for (int i = 0; i < rows; i++) k->narrow(n, x + (size_t)i * ldx, out + (size_t)i * ld); }

// ---- the plain mixture

// The experts of a mixture token by token, one line per formula: what the fused op of room 14
// must agree with, and what runs when "base" is asked for by name.
typedef struct glam__plain_moe {
    int T, M, H, k, kind;
    float scale;                   // of every weight
    const int32_t *expert, *place; // [T,k]; place -1: not kept
    const float *x, *weight;       // [T,M] input, [T,k] gate weights
    const float *gate, *up, *down; // [E,M,H] [E,M,H] [E,H,M]; gate NULL for two-matrix experts
    float *g, *u, *h, *dh;         // [H] each
    float *y;                      // [T,M], added to
    const float *dy;               // [T,M]
    float *dx, *dweight;           // [T,M] added to; [rows] by place
    float *dgate, *dup, *ddown;    // added to; NULL where no gradient is wanted
} glam__plain_moe;

// u = x Wu_e,  g = x Wg_e,  h = f(g, u)
static void glam__plain_hidden(const glam__plain_moe *m, const glam__kernels *k, int t, int e)
{
    size_t at = (size_t)e * m->M * m->H;
    for (int n = 0; n < m->H; n++) m->u[n] = m->g[n] = 0;
    for (int j = 0; j < m->M; j++) {
        float x = m->x[(size_t)t * m->M + j];
        k->axpy(m->H, x, m->up + at + (size_t)j * m->H, m->u);
        if (m->gate) k->axpy(m->H, x, m->gate + at + (size_t)j * m->H, m->g);
    }
    k->act(m->kind, m->H, m->gate ? m->g : NULL, m->u, m->h);
}

// y_t += sum over kept choices of w_i h_i Wd_e
static void glam__plain_forward(const glam__plain_moe *m, const glam__kernels *k)
{
    for (int t = 0; t < m->T; t++)
        for (int i = 0; i < m->k; i++) {
            int e = m->expert[(size_t)t * m->k + i];
            if (m->place[(size_t)t * m->k + i] < 0) continue;
            glam__plain_hidden(m, k, t, e);
            for (int n = 0; n < m->H; n++)
                k->axpy(m->M, m->scale * m->weight[(size_t)t * m->k + i] * m->h[n],
                        m->down + ((size_t)e * m->H + n) * m->M, m->y + (size_t)t * m->M);
        }
}

static void glam__plain_backward(const glam__plain_moe *m, const glam__kernels *k)
{
    for (int t = 0; t < m->T; t++)
        for (int i = 0; i < m->k; i++) {
            size_t choice = (size_t)t * m->k + i, M = (size_t)m->M, H = (size_t)m->H;
            if (m->place[choice] < 0) continue;
            size_t e = (size_t)m->expert[choice], at = e * M * H;
            const float *x = m->x + t * M, *dy = m->dy + t * M, *down = m->down + at;
            float *dx = m->dx + t * M, w = m->scale * m->weight[choice];
            glam__plain_hidden(m, k, t, (int)e);
            for (size_t n = 0; n < H; n++) m->dh[n] = k->dot(m->M, dy, down + n * M);  // dy Wd^T
            m->dweight[m->place[choice]] = m->scale * k->dot(m->H, m->dh, m->h);       // dw = dh.h
            for (size_t n = 0; n < H && m->ddown; n++)                               // dWd = h^T dy
                k->axpy(m->M, w * m->h[n], dy, m->ddown + at + n * M);
            k->act_back(m->kind, m->H, m->gate ? m->g : NULL, m->u, m->dh, m->h, m->g, m->u);
            for (size_t j = 0; j < M; j++) {
                if (m->dup) k->axpy(m->H, w * x[j], m->u, m->dup + at + j * H);      // dWu = x^T du
                dx[j] += w * k->dot(m->H, m->u, m->up + at + j * H);                 // dx = du Wu^T
                if (!m->gate) continue;
                if (m->dgate) k->axpy(m->H, w * x[j], m->g, m->dgate + at + j * H);
                dx[j] += w * k->dot(m->H, m->g, m->gate + at + j * H);
            }
        }
}

/* == 06 simd : implementation =============================================================
   The same kernels per instruction set, and who picks them.  Rows are room 05's own bodies,
   compiled again for wider registers.  The matrix tile is written with GNU vectors of exactly
   one register, because no compiler finds it by itself: mr rows of A times two registers of B,
   all sums in registers, mr and nv constants at every call so that every loop over them is
   unrolled away.  The invariants are room 05's; a tile never sees an edge of B (rows are
   readable to nr) and leaves a ragged edge of C to glam__put.  Products of pairs have a tile with
   AVX512-BF16, with BFMLAL of Arm, and with the multiply-adds of AVX2, AVX-512 and NEON; elsewhere
   they are room 05's body.  All have the same bits, but for a sum between the least normal number
   and 2^-150 below it: whether that becomes 0 is the processor's to say.  Tiles of pairs are AMX's,
   or made of panels of floats with the multiply-adds of AVX2 and AVX-512, or room 05's.
   Vectors are never parameters or results of a function: those have no stable ABI. */

#if !defined(GLAM_NO_SIMD) && defined(__GNUC__) && !defined(__TINYC__)
#if defined(__x86_64__) || defined(__aarch64__)
#define GLAM__SIMD 1
#endif
#endif

#ifdef GLAM__SIMD

#ifdef __clang__
#define GLAM__UNROLL _Pragma("clang loop unroll(full)")
#define GLAM__BY_4 _Pragma("clang loop unroll_count(4)")
#else
#define GLAM__UNROLL _Pragma("GCC unroll 16")
#define GLAM__BY_4 _Pragma("GCC unroll 4")
#endif

// Panels of a transpose: two squares of 4 by 4 at a time turn in registers; edges as in room 05.
typedef float glam__v4 __attribute__((vector_size(16)));
typedef float glam__v8 __attribute__((vector_size(32)));
#if defined(__clang__) || __GNUC__ >= 12
#define GLAM__TURNS (sizeof(float) == 4)
#define GLAM__MIX(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else
#define GLAM__TURNS 0
#define GLAM__MIX(x, y, ...) none
#endif
static GLAM__INLINE void glam__turn(int nr, int k, const float *b, size_t ldb, float *out,
                                    size_t ldo)
{
    glam__v4 low, high;
    const glam__v8 none GLAM__UNUSED = { 0 };
    glam__v8 in[4], t[4], r[4];
    for (int p0 = 0; p0 + 4 <= k; p0 += 16)
        for (int j = 0; j < nr; j += 8) {
            const float *from = b + (size_t)j * ldb;
            for (int i = 0; i < 8; i++) GLAM__FETCH_AHEAD(from + (size_t)i * ldb + p0, 32);
            for (int p = p0; p + 4 <= k && p < p0 + 16; p += 4) {
                for (int i = 0; i < 4; i++) {              // rows i and 4 + i
                    memcpy(&low, from + (size_t)i * ldb + p, sizeof low);
                    memcpy(&high, from + (size_t)(4 + i) * ldb + p, sizeof high);
                    in[i] = GLAM__MIX(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
                }
                for (int i = 0; i < 4; i += 2) {
                    t[i] = GLAM__MIX(in[i], in[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
                    t[i + 1] = GLAM__MIX(in[i], in[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
                }
                for (int i = 0; i < 2; i++) {
                    r[2 * i] = GLAM__MIX(t[i], t[2 + i], 0, 1, 8, 9, 4, 5, 12, 13);
                    r[2 * i + 1] = GLAM__MIX(t[i], t[2 + i], 2, 3, 10, 11, 6, 7, 14, 15);
                }
                for (int i = 0; i < 4; i++)
                    memcpy(out + (size_t)(p + i) * ldo + j, &r[i], sizeof r[i]);
            }
        }
}

// The tile, the loop over rows and the two panel functions for registers of W floats.  A runs by
// strides, element (i,p) is a[i*ai + p*ap].  What is left of m takes tiles of 4, 2 and 1 rows: a
// single row costs a single row.  These are made once for both widths of B: compilers take their
// time with each.  MR is 8 at most: rows of A that are a power of two apart share one set of the
// first cache, and that has eight ways.  MT, for A by columns, may be more: each step then reads
// one or two lines of A.  The last row never goes with one register of B alone: tuned for some
// processors gcc does not fuse a loop of a single sum, and then the bits of a row would depend on
// its company.  What follows B in memory is what a product mostly takes next: whole tiles fetch it,
// a little at each step, the fewer they are the more of it.  Where B is a weight as it is, that is
// the panel beside this one.  Rows that make no whole tile wait for B, as a model that writes does:
// they fetch what they need 32 steps later.
#define GLAM__TILE(isa, attr, W, MR, MT, KIND) \
    typedef float glam__v_##isa __attribute__((vector_size(4 * W))); \
    typedef uint32_t glam__u_##isa __attribute__((vector_size(4 * W))); \
    attr static GLAM__INLINE void glam__tile_##isa( \
        const int mr, const int nv, const int turned, int n, int k, const float *a, size_t lda, \
        const float *b, size_t ldb, uintptr_t ahead, size_t step, float *c, size_t ldc, int add) \
    { \
        GLAM__FUSED \
        const size_t ap = turned ? lda : 1; \
        glam__v_##isa sum[MT][2], row[2], old; \
        const glam__v_##isa zero = { 0 }; \
        GLAM__UNROLL for (int i = 0; i < mr; i++) \
            GLAM__UNROLL for (int v = 0; v < nv; v++) \
                __builtin_prefetch(c + (size_t)i * ldc + v * W, 1); \
        GLAM__UNROLL for (int i = 0; i < mr; i++) \
            GLAM__UNROLL for (int v = 0; v < nv; v++) sum[i][v] = zero; \
        GLAM__OPEN_##KIND(isa, W, MT) \
        GLAM__BY_4 for (int p = 0; p < k; p++, a += ap, b += ldb, ahead += step) { \
            __builtin_prefetch((const void *)ahead, 0, 2); \
            if (mr < MR && nv > 1) \
                __builtin_prefetch((const void *)(ahead + sizeof old), 0, 2); \
            GLAM__UNROLL for (int pass = 0; pass < GLAM__PASSES_##KIND; pass++) { \
                GLAM__UNROLL for (int v = 0; v < nv; v++) { \
                    memcpy(&row[v], b + v * W, sizeof old); \
                    row[v] = GLAM__ROW_##KIND(isa, row[v], pass); \
                } \
                GLAM__UNROLL for (int i = 0; i < mr; i++) { \
                    GLAM__TAKE_##KIND(isa, x, i, pass) \
                    GLAM__UNROLL for (int v = 0; v < nv; v++) \
                        GLAM__ADD_##KIND(sum[i][v], row[v], x); \
                } \
            } \
        } \
        GLAM__CLOSE_##KIND \
        if (n < nv * W) { \
            float tile[MT * 2 * W]; \
            GLAM__UNROLL for (int i = 0; i < mr; i++) \
                GLAM__UNROLL for (int v = 0; v < nv; v++) \
                    memcpy(tile + (i * nv + v) * W, &sum[i][v], sizeof old); \
            glam__put(mr, n, tile, nv * W, c, ldc, add); \
            return; \
        } \
        GLAM__UNROLL for (int i = 0; i < mr; i++) \
            GLAM__UNROLL for (int v = 0; v < nv; v++) { \
                float *at = c + (size_t)i * ldc + v * W; \
                if (add) { \
                    memcpy(&old, at, sizeof old); \
                    sum[i][v] = old + sum[i][v]; \
                } \
                memcpy(at, &sum[i][v], sizeof old); \
            } \
    } \
    attr static GLAM__INLINE void glam__few_of_##isa( \
        const int turned, int m, int n, int k, const float *a, size_t lda, const float *b, \
        size_t ldb, uintptr_t ahead, size_t step, float *c, size_t ldc, int add) \
    { \
        const size_t ai = turned ? 1 : lda; \
        for (; MT > 4 && m >= 4; m -= 4, a += 4 * ai, c += 4 * ldc) \
            glam__tile_##isa(MT > 4 ? 4 : 1, 2, turned, n, k, a, lda, b, ldb, ahead, step, c, ldc, \
                             add); \
        if (m >= 2) { \
            glam__tile_##isa(2, 2, turned, n, k, a, lda, b, ldb, ahead, step, c, ldc, add); \
            m -= 2, a += 2 * ai, c += 2 * ldc; \
        } \
        if (m) \
            glam__tile_##isa(1, 2, turned, n, k, a, lda, b, ldb, ahead, step, c, ldc, add); \
    } \
    attr static GLAM__APART void glam__few_##isa( \
        int m, int n, int k, const float *a, size_t lda, const float *b, size_t ldb, \
        uintptr_t ahead, size_t step, float *c, size_t ldc, int add) \
    { glam__few_of_##isa(0, m, n, k, a, lda, b, ldb, ahead, step, c, ldc, add); } \
    attr static GLAM__APART void glam__few_t_##isa( \
        int m, int n, int k, const float *a, size_t lda, const float *b, size_t ldb, \
        uintptr_t ahead, size_t step, float *c, size_t ldc, int add) \
    { glam__few_of_##isa(1, m, n, k, a, lda, b, ldb, ahead, step, c, ldc, add); } \
    attr static GLAM__INLINE void glam__rows_##isa( \
        const int tall, const int nv, const int turned, int m, int n, int k, const float *a, \
        size_t lda, const float *b, size_t ldb, float *c, size_t ldc, int add) \
    { \
        const size_t ai = turned ? 1 : lda; \
        const size_t row = ldb * sizeof *b, wide = 2 * W * sizeof *b, all = (size_t)k * wide; \
        const int made = row == wide; \
        const uintptr_t next = (uintptr_t)b + (made ? all : wide); \
        const uintptr_t few = m >= tall ? (uintptr_t)b : made ? (uintptr_t)b + 32 * row : next; \
        uintptr_t ahead = next; \
        size_t step = made ? 16 : row; \
        while (made && step < 64 && (size_t)(m / tall) * step < wide) step *= 2; \
        for (; m >= tall; m -= tall, a += (size_t)tall * ai, c += (size_t)tall * ldc) { \
            glam__tile_##isa(tall, nv, turned, n, k, a, lda, b, ldb, ahead, step, c, ldc, add); \
            ahead += made ? (size_t)k * step : 64; \
            if (ahead - next >= (made ? all : wide)) ahead = (uintptr_t)b; \
        } \
        if (m && turned) glam__few_t_##isa(m, n, k, a, lda, b, ldb, few, row, c, ldc, add); \
        else if (m) glam__few_##isa(m, n, k, a, lda, b, ldb, few, row, c, ldc, add); \
    } \
    attr static GLAM__INLINE void glam__blocks_##isa( \
        const int tall, const int turned, int m, int n, int k, const float *a, size_t lda, \
        const float *b, size_t ldb, float *c, size_t ldc, int add) \
    { \
        for (int p = 0; p == 0 || p < k; p += GLAM__KC, add = 1) { \
            int steps = glam__ceil_div(k - p < GLAM__KC ? k - p : GLAM__KC, GLAM__TERMS_##KIND); \
            const float *ab = a + (size_t)(p / GLAM__TERMS_##KIND) * (turned ? lda : 1); \
            const float *bb = b + (size_t)(p / GLAM__TERMS_##KIND) * ldb; \
            if (n > W) \
                glam__rows_##isa(tall, 2, turned, m, n, steps, ab, lda, bb, ldb, c, ldc, add); \
            else glam__rows_##isa(tall, 1, turned, m, n, steps, ab, lda, bb, ldb, c, ldc, add); \
        } \
    } \
    attr static void glam__panel_##isa(GLAM__PANEL_ARGS) \
    { glam__blocks_##isa(MR, 0, m, n, k, a, lda, b, ldb, c, ldc, add); } \
    attr static void glam__panel_t_##isa(GLAM__PANEL_ARGS) \
    { glam__blocks_##isa(MT, 1, m, n, k, a, lda, b, ldb, c, ldc, add); }

// What a tile does with an element of A and of B, by kind: floats as they are.
enum { GLAM__TERMS_F32 = 1, GLAM__PASSES_F32 = 1 };
#define GLAM__OPEN_F32(isa, W, MT)
#define GLAM__CLOSE_F32
#define GLAM__ROW_F32(isa, row, pass) row
#define GLAM__TAKE_F32(isa, x, i, pass) const float x = a[turned ? (size_t)(i) : (size_t)(i) * lda];
#define GLAM__ADD_F32(sum, b, x) sum += b * x

// Pairs of bf16, each half widened to a float: the second, then the first.  Multiply-adds round
// once; while they last the processor takes for 0 what is below the normal numbers.  What a tile
// takes of A is widened before it begins, so that between two multiply-adds only B is.
enum { GLAM__TERMS_HALVES = 2, GLAM__PASSES_HALVES = 2, GLAM__HALVES_LD = GLAM__KC / 2 + 16 };
#define GLAM__HALF(isa, pair, pass) \
    (glam__v_##isa)((pass) ? (glam__u_##isa)(pair) << 16 : (glam__u_##isa)(pair) & 0xffff0000u)
#define GLAM__OPEN_HALVES(isa, W, MT) \
    float wide[GLAM__PASSES_HALVES * (MT < 16 ? 16 : MT) * GLAM__HALVES_LD]; \
    glam__widen_pairs_##isa(mr, turned, k, a, lda, wide); \
    const glam__modes modes = glam__flush_on();
#define GLAM__CLOSE_HALVES \
    GLAM__UNROLL for (int i = 0; i < mr; i++) \
        GLAM__UNROLL for (int v = 0; v < nv; v++) GLAM__DONE(sum[i][v]); \
    glam__flush_off(modes);
#define GLAM__ROW_HALVES(isa, row, pass) GLAM__HALF(isa, row, pass)
#define GLAM__TAKE_HALVES(isa, x, i, pass) \
    const float x = turned ? wide[(2 * p + (pass)) * 16 + (i)] \
                           : wide[(2 * (i) + (pass)) * GLAM__HALVES_LD + p];
#define GLAM__ADD_HALVES GLAM__ADD_F32
// mr rows of k pairs as floats: of a row the second ones, then the first; of A by columns those of
// all rows beside each other.
#define GLAM__WIDEN(type, from, second, first) { \
    type both, half; \
    memcpy(&both, from, sizeof both); \
    half = both & 0xffff0000u, both <<= 16; \
    memcpy(second, &half, sizeof half); \
    memcpy(first, &both, sizeof both); \
}
#define GLAM__WIDEN_PAIRS(isa, of_isa, attr, W) \
    attr static GLAM__INLINE void glam__widen_pairs_##isa(const int mr, const int turned, int k, \
                                                          const float *a, size_t lda, float *wide) \
    { \
        const int lines = turned ? k : mr, n = turned ? mr : k; \
        const size_t ld = turned ? 16 : GLAM__HALVES_LD; \
        for (int i = 0, j; i < lines; i++, a += lda, wide += 2 * ld) { \
            for (j = 0; j + W <= n; j += W) \
                GLAM__WIDEN(glam__u_##of_isa, a + j, wide + j, wide + ld + j) \
            for (; j < n; j++) GLAM__WIDEN(uint32_t, a + j, wide + j, wide + ld + j) \
        } \
    }
// Pairs of bf16 as they are, for instructions that take them.
enum { GLAM__TERMS_PAIRS = 2, GLAM__PASSES_PAIRS = 1 };
#define GLAM__ROW_PAIRS GLAM__ROW_F32
#define GLAM__TAKE_PAIRS(isa, x, i, pass) \
    uint32_t of_##x; \
    memcpy(&of_##x, a + (turned ? (size_t)(i) : (size_t)(i) * lda), sizeof of_##x); \
    const glam__u_##isa none_##x = { 0 }, x = none_##x + of_##x;

// One row of A times B as it lies: a model that writes reads each weight once a token, and nothing
// else should take time.  B comes in words of T numbers: floats, two of bf16, four of q8; a vector
// of them has every T-th column of T W (or T terms of W rows of a turned B): shifts part them.
enum { GLAM__ONE_COLS = 512 };     // sums that stay in the first cache
#define GLAM__NUMBER(isa, T, words, t, by) \
    ((T) == 1 ? (glam__v_##isa)(words) : \
     (T) == 2 ? (glam__v_##isa)((t) ? (words) & 0xffff0000u : (words) << 16) : \
     __builtin_convertvector((glam__i_##isa)((words) << (24 - 8 * (t))) >> 24, glam__v_##isa) * by)
#define GLAM__ONE(isa, attr, W) \
    typedef int32_t glam__i_##isa __attribute__((vector_size(4 * W))); \
    /* sums[] += `rows` rows of B, n vectors wide, each times its element of a */ \
    attr static GLAM__INLINE void glam__strip_##isa( \
        const int T, const int rows, int n, GLAM__ONE_ARGS(char), float *sums) \
    { \
        GLAM__FUSED \
        glam__v_##isa sum[4], scale = { 0 }; \
        glam__u_##isa words, pair = { 0 }, left = { 0 }; \
        for (int l = 0; l < 8; l++) left[l % W] = 16; \
        for (int j = 0; j < n; j++, sums += T * W) { \
            GLAM__UNROLL for (int t = 0; t < T; t++) memcpy(&sum[t], sums + t * W, sizeof scale); \
            GLAM__UNROLL for (int i = 0; i < rows; i++) { \
                const char *at = b + (size_t)i * ld + (size_t)j * sizeof words; \
                memcpy(&words, at, sizeof words); \
                __builtin_prefetch((const void *)((uintptr_t)at + 16 * ld), 0, 2); \
                uint32_t two = 0;              /* scales, of W / 8 blocks or half of one */ \
                if (T == 4) memcpy(&two, scales + (size_t)i * lds + j * W / 8, W > 8 ? 4 : 2); \
                scale = (glam__v_##isa)((pair + two) << left & 0xffff0000u); \
                GLAM__UNROLL for (int t = 0; t < T; t++) \
                    sum[t] += GLAM__NUMBER(isa, T, words, t, scale) * a[i]; \
            } \
            GLAM__UNROLL for (int t = 0; t < T; t++) memcpy(sums + t * W, &sum[t], sizeof scale); \
        } \
    } \
    attr static GLAM__INLINE void glam__one_of_##isa( \
        const int T, int k, int n, GLAM__ONE_ARGS(char), float *c, int add) \
    { \
        for (int cols = 0; n > 0; b += cols * 4 / T, c += cols, n -= cols) { \
            float sums[GLAM__ONE_COLS] = { 0 }; \
            const char *row = b; \
            const uint16_t *by = scales; \
            cols = n < GLAM__ONE_COLS ? n : GLAM__ONE_COLS; \
            int p = 0, wide = cols / (T * W); \
            for (; p + 4 <= k; p += 4, row += 4 * ld, by += 4 * lds) { \
                __builtin_prefetch((const void *)((uintptr_t)by + 128 * lds)); \
                glam__strip_##isa(T, 4, wide, a + p, row, ld, by, lds, sums); \
            } \
            for (; p < k; p++, row += ld, by += lds) \
                glam__strip_##isa(T, 1, wide, a + p, row, ld, by, lds, sums); \
            for (int j = 0; j < cols; j++) { \
                float x = sums[(j / (T * W) * T + j % T) * W + j / T % W]; \
                c[j] = add ? c[j] + x : x; \
            } \
            scales += T == 4 ? cols / GLAM__Q8_BLOCK : 0; \
        } \
    } \
    /* n rows of B, whole panels, as columns: turned by squares of 32 terms in the first cache */ \
    attr static GLAM__INLINE void glam__one_t_of_##isa( \
        const int T, int k, int n, GLAM__ONE_ARGS(char), float *c, int add) \
    { \
        GLAM__FUSED \
        enum { NR = 2 * W, TERMS = GLAM__Q8_BLOCK }; \
        float square[TERMS * NR], scale[NR]; \
        glam__u_##isa words; \
        glam__v_##isa sum[2], by; \
        const glam__v_##isa zero = { 0 }; \
        for (; n > 0; n -= NR, b += NR * ld, scales += NR * lds, c += NR) { \
            sum[0] = sum[1] = by = zero; \
            for (int p = 0; p < k; p += TERMS) { \
                int steps = (k - p < TERMS ? k - p : TERMS) / T; \
                const char *at = b + (size_t)p * 4 / T; \
                for (int j = 0; j < NR; j++) { \
                    uintptr_t ahead = (uintptr_t)at + (size_t)(NR + j) * ld; \
                    __builtin_prefetch((const void *)ahead, 0, 2); \
                    if (T == 1) __builtin_prefetch((const void *)(ahead + 64), 0, 2); \
                    if (T == 4) scale[j] = glam__widen1(scales[(size_t)j * lds + p / TERMS]); \
                } \
                glam__turn_##isa(steps, NR, (const float *)(const void *)at, ld / 4, square, \
                                 NR); \
                for (int q = 0; q < steps; q++) \
                    GLAM__UNROLL for (int v = 0; v < 2; v++) { \
                        memcpy(&words, square + q * NR + v * W, sizeof words); \
                        if (T == 4) memcpy(&by, scale + v * W, sizeof by); \
                        GLAM__UNROLL for (int t = 0; t < T; t++) \
                            sum[v] += GLAM__NUMBER(isa, T, words, t, by) * a[p + q * T + t]; \
                    } \
            } \
            memcpy(scale, sum, sizeof scale); \
            for (int j = 0; j < NR; j++) c[j] = add ? c[j] + scale[j] : scale[j]; \
        } \
    } \
    GLAM__ONE_TYPES(isa, attr, one) GLAM__ONE_TYPES(isa, attr, one_t)
#define GLAM__ONE_TYPES(isa, attr, name) \
    attr static void glam__##name##_##isa( \
        int T, int k, int n, GLAM__ONE_ARGS(void), float *c, int add) \
    { \
        const char *at = (const char *)b; \
        const uint16_t *none = (const uint16_t *)b; \
        if (T == 1) glam__##name##_of_##isa(1, k, n, a, at, 4 * ld, none, 0, c, add); \
        else if (T == 2) glam__##name##_of_##isa(2, k, n, a, at, 2 * ld, none, 0, c, add); \
        else glam__##name##_of_##isa(4, k, n, a, at, ld, scales, lds, c, add); \
    }
#if !defined(__clang__) ? __GNUC__ < 9 : __clang_major__ < 9     // nor __builtin_convertvector
#undef GLAM__ONE
#define GLAM__ONE(isa, attr, W) static glam__one_fn *const glam__one_##isa, \
                                                    *const glam__one_t_##isa;
#endif

#define GLAM__TILES(isa, attr, W, MR, MT) \
    GLAM__TILE(isa, attr, W, MR, MT, F32) \
    attr static void glam__turn_##isa(int k, int n, const float *b, size_t ldb, float *out, \
                                      size_t ldo) \
    { \
        int whole = GLAM__TURNS && n == 2 * W ? k & ~3 : 0; \
        glam__turn(2 * W, whole, b, ldb, out, ldo); \
        glam__row_pack_t(2 * W, k - whole, n, b + whole, ldb, out + (size_t)whole * ldo, ldo); \
    } \
    GLAM__ONE(isa, attr, W) \
    static void glam__table_##isa(glam__kernels *t) \
    { \
        t->name = #isa; \
        t->mr = t->pairs_mr = MR; \
        t->nr = 2 * W; \
        t->panel = glam__panel_##isa; \
        t->panel_t = glam__panel_t_##isa; \
        glam__rows_of_##isa(t); \
        t->pack_t = glam__turn_##isa; \
        t->one = glam__one_##isa; \
        t->one_t = glam__one_t_##isa; \
    }

#ifdef __x86_64__
typedef uint32_t glam__modes;
#define GLAM__DONE(sum) __asm__ volatile("" : "+x"(sum))
static GLAM__INLINE void glam__flush_off(glam__modes modes)
{ __asm__ volatile("ldmxcsr %0" : : "m"(modes) : "memory"); }
static GLAM__INLINE glam__modes glam__flush_on(void)
{
    glam__modes modes;
    __asm__ volatile("stmxcsr %0" : "=m"(modes));
    glam__flush_off(modes | 0x8040u);          // of results, of operands
    return modes;
}
#define GLAM__AVX2 __attribute__((target("avx2,fma")))
#ifdef __clang__
#define GLAM__AVX512 __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma")))
#else
#define GLAM__AVX512 \
    __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma,prefer-vector-width=512")))
#endif
#define glam__rows_of_sse2 glam__rows_of_base   // the compiler's own baseline
GLAM__TILES(sse2, GLAM__NO_ATTRIBUTE, 4, 4, 4)
GLAM__ROWS(avx2, GLAM__AVX2, 16)
GLAM__TILES(avx2, GLAM__AVX2, 8, 6, 6)
GLAM__ROWS(avx512, GLAM__AVX512, 32)
GLAM__TILES(avx512, GLAM__AVX512, 16, 8, 12)

GLAM__WIDEN_PAIRS(halves, avx2, GLAM__AVX2, 8)
GLAM__TILE(halves, GLAM__AVX2, 8, 6, 6, HALVES)
GLAM__WIDEN_PAIRS(halves_512, avx512, GLAM__AVX512, 16)
GLAM__TILE(halves_512, GLAM__AVX512, 16, 12, 12, HALVES)

// Compilers name the instruction each in its own way, assemblers agree.
#if !defined(__clang__) ? __GNUC__ >= 10 : __clang_major__ >= 9
#define GLAM__PAIRS_AVX512 1
#define GLAM__OPEN_PAIRS(isa, W, MT)
#define GLAM__CLOSE_PAIRS
#define GLAM__ADD_PAIRS(sum, b, x) \
    __asm__("{vdpbf16ps %2, %1, %0|vdpbf16ps %0, %1, %2}" : "+v"(sum) : "v"(b), "v"(x))
GLAM__TILE(pairs, GLAM__AVX512, 16, 12, 12, PAIRS)

// Two vectors rounded by one instruction, side by side; and the rows of glam__row_narrow_rows.
#define GLAM__ROUND(low, high) \
    __asm__("{vcvtne2ps2bf16 %0, %1, %0|vcvtne2ps2bf16 %0, %1, %0}" : "+v"(low) : "v"(high))
GLAM__AVX512 static void glam__narrow_rounded(int n, const float *GLAM__RESTRICT x,
                                              float *GLAM__RESTRICT out)
{
    glam__v_avx512 low, high;
    int j = 0;
    for (; j + 32 <= n; j += 32) {
        memcpy(&low, x + j, sizeof low);
        memcpy(&high, x + j + 16, sizeof high);
        GLAM__ROUND(low, high);
        memcpy(out + j / 2, &low, sizeof low);
    }
    glam__row_narrow(n - j, x + j, out + j / 2);
}

GLAM__AVX512 static void glam__narrow_rows_rounded(int k, int n, const float *b, size_t ldb,
                                                   float *GLAM__RESTRICT out, size_t ldo)
{
    uint16_t turns[32];                        // an element of each row in turn
    glam__v_avx512 low, high, turn;
    int whole = n / 16 * 16;
    for (int j = 0; j < 32; j++) turns[j] = (uint16_t)(j / 2 + j % 2 * 16);
    memcpy(&turn, turns, sizeof turn);
    if (whole < n) glam__row_narrow_rows(k, n - whole, b + whole, ldb, out + whole, ldo);
    for (int p = 0; p + 2 <= k; p += 2, b += 2 * ldb, out += ldo) {
        GLAM__FETCH_PANEL(b, n)
        GLAM__FETCH_PANEL(b + ldb, n)
        for (int j = 0; j < whole; j += 16) {
            memcpy(&low, b + j, sizeof low);
            memcpy(&high, b + ldb + j, sizeof high);
            GLAM__ROUND(low, high);
            __asm__("{vpermw %0, %1, %0|vpermw %0, %1, %0}" : "+v"(low) : "v"(turn));
            memcpy(out + j, &low, sizeof low);
        }
    }
    if (k % 2) glam__row_narrow_rows(1, whole, b, ldb, out, ldo);
}
#endif

// Tiles of pairs without AMX: the halves of 16 pairs as floats, a panel for the first, one for the
// second ones.
static void glam__tiled_fma(glam__panel_fn *panel, void (*plus)(int n, const float *x, float *y),
                            int nr, GLAM__PANEL_ARGS)
{
    enum { STEPS = GLAM__TILE_PAIRS, ROWS = 24 };
    float x[2][ROWS * STEPS], y[2][STEPS * GLAM__LANES];
    float sums[ROWS * GLAM__LANES], more[ROWS * GLAM__LANES];
    for (int i = 0; i < m; i += ROWS, a += ROWS * lda, c += ROWS * ldc) {
        int rows = glam__min(m - i, ROWS);
        memset(sums, 0, sizeof sums);
        for (int r = 0; r < rows && add; r++)
            memcpy(sums + r * nr, c + (size_t)r * ldc, (size_t)n * sizeof *c);
        for (int q = 0; 2 * q < k; q += STEPS) {
            int count = glam__min((k + 1) / 2 - q, STEPS);
            const float *at = b + (size_t)q * ldb;
            if (count < STEPS) memset(x, 0, sizeof x), memset(y, 0, sizeof y);
            for (int r = 0; r < rows; r++)
                for (int s = 0; s < count; s++)
                    GLAM__WIDEN(uint32_t, a + (size_t)r * lda + q + s, x[1] + r * STEPS + s,
                                x[0] + r * STEPS + s)
            for (int s = 0; s < count; s++)
                for (int j = 0; j < nr; j++)
                    GLAM__WIDEN(uint32_t, at + (size_t)s * ldb + j, y[1] + s * nr + j,
                                y[0] + s * nr + j)
            const glam__modes modes = glam__flush_on();
            for (int half = 0; half < 2; half++)
                panel(rows, nr, STEPS, x[half], STEPS, y[half], (size_t)nr, more, (size_t)nr,
                      half);
            plus(rows * nr, more, sums);
            glam__flush_off(modes);
        }
        glam__put(rows, n, sums, nr, c, ldc, 0);
    }
}
#define GLAM__TILED(isa, NR) \
    static void glam__tiled_##isa(GLAM__PANEL_ARGS) \
    { glam__tiled_fma(glam__panel_##isa, glam__add_##isa, NR, m, n, k, a, lda, b, ldb, c, ldc, \
                      add); }
GLAM__TILED(avx2, 16)
GLAM__TILED(avx512, 32)

// AMX: eight tiles of 16 rows of 64 bytes.  Two of A, 16 pairs of k wide, meet two of B, which are
// 16 rows of its panel, in four of C.  What is no whole tile is copied among zeros.
#if defined(__linux__) && !defined(__ILP32__) \
    && (!defined(__clang__) ? __GNUC__ >= 11 : __clang_major__ >= 12)
#define GLAM__AMX 1
#ifndef GLAM__AMX_FOUND
#define GLAM__AMX_FOUND(here) (here)       // the tests have it where they imitate it
#endif
// Whether there is AMX-BF16 and the system saves its registers, for this process too, once asked.
static int glam__amx_here(void)
{
    uint32_t a = 7, b, c = 0, d, low, high;
    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((d >> 22 & 5) != 5 || (low >> 17 & 3) != 3) return 0;
    long answer = 158;                     // arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)
    __asm__ volatile("syscall" : "+a"(answer) : "D"(0x1023L), "S"(18L) : "rcx", "r11", "memory");
    return answer == 0;
}

static void glam__amx_hold(int on)
{
    uint8_t shape[64] = { 1 };
    for (int t = 0; t < 8; t++) shape[16 + 2 * t] = 64, shape[48 + t] = 16;
    if (on) __asm__ volatile("ldtilecfg %0" : : "m"(shape));
    else __asm__ volatile("tilerelease");
}

#define GLAM__AMX_ZERO(t) __asm__ volatile("{tilezero %%tmm" #t "|tilezero tmm" #t "}" : :)
#define GLAM__AMX_LOAD(t, x, ld) \
    __asm__ volatile("{tileloadd (%0,%1,1), %%tmm" #t "|tileloadd tmm" #t ", [%0+%1*1]}" \
                     : : "r"(x), "r"((ld) * sizeof(float)) : "memory")
#define GLAM__AMX_STORE(t, x, ld) \
    __asm__ volatile("{tilestored %%tmm" #t ", (%0,%1,1)|tilestored [%0+%1*1], tmm" #t "}" \
                     : : "r"(x), "r"((ld) * sizeof(float)) : "memory")
#define GLAM__AMX_DOT(c, a, b) \
    __asm__ volatile("{tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c \
                     "|tdpbf16ps tmm" #c ", tmm" #a ", tmm" #b "}" : :)

// A tile of rows of n pairs, with zeros around it.
static GLAM__INLINE void glam__amx_copy(int rows, int n, const float *x, size_t ldx, float *out)
{
    enum { STEPS = GLAM__TILE_PAIRS };
    memset(out, 0, STEPS * STEPS * sizeof *out);
    for (int i = 0; i < rows; i++, x += ldx, out += STEPS) {
        if (n == STEPS) memcpy(out, x, STEPS * sizeof *out);       // of a known size: one move
        else memcpy(out, x, (size_t)n * sizeof *out);
    }
}

// At most 32 rows of C.  end: the last rows of B, where they make no tile.  next: the rows of C
// that mostly follow: they are asked for meanwhile, some at each step.
GLAM__AVX2 static GLAM__INLINE void glam__amx_rows(
    const int nr, int rows, int n, int steps, const float *a, size_t lda, const float *b,
    size_t ldb, const float *end, float *c, size_t ldc, int add, uintptr_t next)
{
    enum { STEPS = GLAM__TILE_PAIRS };
    float copy[2][STEPS * STEPS] __attribute__((aligned(64)));
    float sums[2 * STEPS * GLAM__LANES] __attribute__((aligned(64)));
    const int whole = n == nr && rows % STEPS == 0, two = rows > STEPS, wide = nr > STEPS;
    float *to = whole ? c : sums;
    size_t ldt = whole ? ldc : (size_t)nr;
    int fetch = glam__ceil_div(2 * STEPS, glam__max(glam__ceil_div(steps, STEPS), 1));
    if (!whole && add) glam__put(rows, n, c, (int)ldc, sums, (size_t)nr, 0);
    GLAM__AMX_ZERO(0);
    GLAM__AMX_ZERO(1);
    GLAM__AMX_ZERO(2);
    GLAM__AMX_ZERO(3);
    if (add) GLAM__AMX_LOAD(0, to, ldt);
    if (add && wide) GLAM__AMX_LOAD(1, to + STEPS, ldt);
    if (add && two) GLAM__AMX_LOAD(2, to + STEPS * ldt, ldt);
    if (add && two && wide) GLAM__AMX_LOAD(3, to + STEPS * ldt + STEPS, ldt);
    for (int q = 0; q < steps; q += STEPS, a += STEPS, b += STEPS * ldb) {
        int count = glam__min(steps - q, STEPS);
        const float *x = a, *y = count == STEPS ? b : end;
        size_t ldx = lda, ldy = count == STEPS ? ldb : (size_t)nr;
        for (int r = 0; r < fetch; r++, next += ldc * sizeof *c)
            for (int j = 0; j < nr; j += STEPS)
                __builtin_prefetch((const float *)next + j, 1, 3);
        if (count < STEPS || rows < STEPS) {
            glam__amx_copy(glam__min(rows, STEPS), count, a, lda, copy[0]);
            x = copy[0], ldx = STEPS;
        }
        GLAM__AMX_LOAD(4, x, ldx);
        GLAM__AMX_LOAD(6, y, ldy);
        GLAM__AMX_DOT(0, 4, 6);
        if (wide) {
            GLAM__AMX_LOAD(7, y + STEPS, ldy);
            GLAM__AMX_DOT(1, 4, 7);
        }
        if (!two) continue;
        x = a + STEPS * lda, ldx = lda;
        if (count < STEPS || rows < 2 * STEPS) {
            glam__amx_copy(rows - STEPS, count, x, lda, copy[1]);
            x = copy[1], ldx = STEPS;
        }
        GLAM__AMX_LOAD(5, x, ldx);
        GLAM__AMX_DOT(2, 5, 6);
        if (wide) GLAM__AMX_DOT(3, 5, 7);
    }
    GLAM__AMX_STORE(0, to, ldt);
    if (wide) GLAM__AMX_STORE(1, to + STEPS, ldt);
    if (two) GLAM__AMX_STORE(2, to + STEPS * ldt, ldt);
    if (two && wide) GLAM__AMX_STORE(3, to + STEPS * ldt + STEPS, ldt);
    if (!whole) glam__put(rows, n, sums, nr, c, ldc, 0);
}

GLAM__AVX2 static GLAM__INLINE void glam__amx_blocks(const int nr, GLAM__PANEL_ARGS)
{
    enum { STEPS = GLAM__TILE_PAIRS, ROWS = 2 * STEPS };
    float end[STEPS * GLAM__LANES] __attribute__((aligned(64)));
    int steps = (k + 1) / 2, rest = steps % STEPS;
    if (rest) {
        memset(end, 0, sizeof end);
        for (int q = 0; q < rest; q++)
            memcpy(end + q * nr, b + (size_t)(steps - rest + q) * ldb, (size_t)nr * sizeof *end);
    }
    const uintptr_t beside = (uintptr_t)c + (size_t)nr * sizeof *c, below = ROWS * ldc * sizeof *c;
    for (int i = 0; i < m; i += ROWS, a += ROWS * lda, c += ROWS * ldc)
        glam__amx_rows(nr, glam__min(m - i, ROWS), n, steps, a, lda, b, ldb, end, c, ldc, add,
                       i + ROWS < m ? (uintptr_t)c + below : beside);
}
#define GLAM__AMX_PANEL(NR) \
    GLAM__AVX2 static void glam__amx_##NR(GLAM__PANEL_ARGS) \
    { glam__amx_blocks(NR, m, n, k, a, lda, b, ldb, c, ldc, add); }
GLAM__AMX_PANEL(16)
GLAM__AMX_PANEL(32)
#endif
#else
typedef uint64_t glam__modes;
#define GLAM__DONE(sum) __asm__ volatile("" : "+w"(sum))
static GLAM__INLINE void glam__flush_off(glam__modes modes)
{ __asm__ volatile("msr fpcr, %0" : : "r"(modes) : "memory"); }
static GLAM__INLINE glam__modes glam__flush_on(void)
{
    glam__modes modes;
    __asm__ volatile("mrs %0, fpcr" : "=r"(modes));
    glam__flush_off(modes | 1u << 24);
    return modes;
}
#define glam__rows_of_neon glam__rows_of_base
GLAM__TILES(neon, GLAM__NO_ATTRIBUTE, 4, 8, 8)
GLAM__WIDEN_PAIRS(halves, neon, GLAM__NO_ATTRIBUTE, 4)
GLAM__TILE(halves, GLAM__NO_ATTRIBUTE, 4, 8, 8, HALVES)

// BFMLALT adds the second of each pair, BFMLALB the first: no faster than f32, but nothing needs to
// be widened.  (BFDOT and BFMMLA do two and four times as much, but add the products of a pair
// before they are rounded, and that to odd: other bits.)
#if defined(__linux__) && (!defined(__clang__) ? __GNUC__ >= 10 : __clang_major__ >= 11)
#include <sys/auxv.h>
#define GLAM__BFMLAL (getauxval(26) >> 14 & 1)     // AT_HWCAP2, HWCAP2_BF16
#define GLAM__OPEN_PAIRS(isa, W, MT) const glam__modes modes = glam__flush_on();
#define GLAM__CLOSE_PAIRS GLAM__CLOSE_HALVES
#define GLAM__ADD_PAIRS(sum, b, x) \
    __asm__("bfmlalt %0.4s, %1.8h, %2.8h\n\tbfmlalb %0.4s, %1.8h, %2.8h" \
            : "+w"(sum) : "w"(b), "w"(x))
#ifdef __clang__
GLAM__TILE(pairs, __attribute__((target("bf16"))), 4, 8, 8, PAIRS)
#else
GLAM__TILE(pairs, __attribute__((target("+bf16"))), 4, 8, 8, PAIRS)
#endif
#endif
#endif

#endif /* GLAM__SIMD */

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#elif defined(__clang__)
#pragma clang diagnostic pop
#endif

// Fills *out with the best table for this machine (name NULL) or with the named one; 0 when this
// machine or this build does not have it.
static int glam__kernels_pick(const char *name, glam__kernels *out)
{
    int found = !name || strcmp(name, "base") == 0;
    glam__table_base(out);
#if defined(GLAM__SIMD) && defined(__x86_64__)
    __builtin_cpu_init();
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")
              && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
    int rounds = 0, bf16 = 0, amx = 0;         // rows of avx512, or of avx2, and their own pairs
#ifdef GLAM__PAIRS_AVX512
    rounds = avx512 && __builtin_cpu_supports("avx512bf16") && sizeof(float) == 4;
    // Intel's are half as fast as multiply-adds, since that is AMX's work: by name alone.
    bf16 = rounds && (name ? strcmp(name, "avx512bf16") == 0 : __builtin_cpu_is("amd"));
#endif
#ifdef GLAM__AMX
    amx = avx2 && sizeof(float) == 4 && name && strcmp(name, "amx") == 0
       && GLAM__AMX_FOUND(glam__amx_here());
#endif
    if (!name || strcmp(name, "sse2") == 0) glam__table_sse2(out), found = 1;
    if (avx2 && (!name || amx || strcmp(name, "avx2") == 0)) {
        glam__table_avx2(out);
        out->pairs = glam__panel_halves;
        out->pairs_t = glam__panel_t_halves;
        out->tiled = glam__tiled_avx2;
        found = 1;
    }
    if (avx512 && (!name || amx || bf16 || strcmp(name, "avx512") == 0)) {
        glam__table_avx512(out);
        out->pairs = glam__panel_halves_512;
        out->pairs_t = glam__panel_t_halves_512;
        out->pairs_mr = 12;
        out->tiled = glam__tiled_avx512;
#ifdef GLAM__PAIRS_AVX512
        if (rounds) {
            out->narrow = glam__narrow_rounded;
            out->narrow_rows = glam__narrow_rows_rounded;
        }
#endif
        found = 1;
    }
#ifdef GLAM__PAIRS_AVX512
    if (bf16) {
        out->name = "avx512bf16";
        out->pairs = glam__panel_pairs;
        out->pairs_t = glam__panel_t_pairs;
        out->native = GLAM_BF16;
    }
#endif
#ifdef GLAM__AMX
    if (amx) {
        out->name = "amx";
        out->tiled = out->nr > 16 ? glam__amx_32 : glam__amx_16;
        out->hold = glam__amx_hold;
        out->native = GLAM_BF16_TILES;
    }
#endif
    (void)rounds, (void)bf16, (void)amx;
#elif defined(GLAM__SIMD)
    if (!name || strcmp(name, "neon") == 0) {
        glam__table_neon(out);
        out->pairs = glam__panel_halves;
        out->pairs_t = glam__panel_t_halves;
        found = 1;
#ifdef GLAM__BFMLAL
        if (GLAM__BFMLAL) out->pairs = glam__panel_pairs, out->pairs_t = glam__panel_t_pairs;
#endif
    }
#endif
    return found;
}

/* == 07 context : implementation ==========================================================
   The front door.  glam_open puts the machine together: allocator, workers, communicator, kernel
   table.  Only here are options read and judged. */

GLAM__PLAIN_CODE

static const char *glam__limits(const glam_options *o)
{
    if (!o->allocator.alloc || !o->allocator.release)
        return "options.allocator needs both alloc and release; start from glam_options_default()";
    if (o->threads < 0 || o->threads > 4096) return "options.threads must be between 0 and 4096";
    if (!glam__within(o->receive_factor, 1, DBL_MAX) || o->mesh_x < 0 || o->mesh_y < 0)
        return "options.receive_factor must be at least 1, mesh_x and mesh_y not negative; start "
               "from glam_options_default()";
    if (o->parallel_for && o->threads < 1)
        return "options.parallel_for needs options.threads, the number of its workers";
    if ((int)o->arithmetic < GLAM_F32 || (int)o->arithmetic > GLAM_AUTO)
        return "options.arithmetic must be GLAM_F32, GLAM_BF16, GLAM_BF16_TILES or GLAM_AUTO";
    if ((int)o->weights < GLAM_TYPE_F32 || (int)o->weights > GLAM_TYPE_Q8)
        return "options.weights must be GLAM_TYPE_F32, GLAM_TYPE_BF16 or GLAM_TYPE_Q8";
    if (o->weights && (sizeof(float) != 4 || (o->comm && o->comm->size > 1)))
        return "options.weights: narrow ones work on one rank alone so far";
    return NULL;
}

GLAM_API glam_options glam_options_default(void)
{
    glam_options o;
    memset(&o, 0, sizeof o);
    o.allocator.alloc = glam__default_alloc;
    o.allocator.release = glam__default_release;
    o.pack_bytes = (size_t)64 << 20;
    o.seed = 1;
    o.receive_factor = 4;
    return o;
}

GLAM_API glam_ctx *glam_open(const glam_options *options)
{
    const size_t bytes = sizeof(glam_ctx) + 2 * sizeof(glam__kernels);
    glam_options o = options ? *options : glam_options_default();
    const char *wrong = glam__limits(&o);
    if (!o.allocator.alloc || !o.allocator.release) o.allocator = glam_options_default().allocator;
    glam_ctx *ctx = (glam_ctx *)o.allocator.alloc(o.allocator.user, bytes);
    if (!ctx) return NULL;
    memset(ctx, 0, bytes);
    ctx->options = o;
    ctx->base.allocations = 1;
    ctx->base.held = ctx->base.peak = bytes;
    ctx->products.epoch = 1;
    ctx->simd.kernels = (glam__kernels *)(void *)(ctx + 1);
    ctx->simd.plain = o.simd && strcmp(o.simd, "base") == 0;
    if (wrong) glam_fail(ctx, GLAM_ERR_VALUE, "%s", wrong);
    if (ctx->options.threads <= 0) ctx->options.threads = glam__default_threads();
    int tiles = !o.simd && (o.arithmetic == GLAM_BF16_TILES || o.arithmetic == GLAM_AUTO);
    tiles = tiles && glam__kernels_pick("amx", ctx->simd.kernels);
    if (!tiles && !glam__kernels_pick(o.simd, ctx->simd.kernels)) {
        glam__kernels_pick("base", ctx->simd.kernels);
        glam_fail(ctx, GLAM_ERR_VALUE, "options.simd \"%s\" is not to be had here; NULL picks the "
                  "best of base, sse2, avx2, avx512, avx512bf16, amx, neon", o.simd ? o.simd : "");
    }
    ctx->simd.products = ctx->simd.kernels;
    if (ctx->options.arithmetic == GLAM_AUTO)
        ctx->options.arithmetic = ctx->simd.kernels->native;
    if (ctx->options.arithmetic != GLAM_F32 && sizeof(float) == 4) {
        ctx->simd.kernels[1] = glam__kernels_narrow(ctx->simd.kernels,
                                                    ctx->options.arithmetic == GLAM_BF16_TILES);
        ctx->simd.products = ctx->simd.kernels + 1;
        ctx->simd.plain = 0;                   // its sums have an order of their own
    }
    glam__mesh_open(ctx);
    return ctx;
}

static const char *glam__arithmetic_word(glam_arithmetic a)
{ return a == GLAM_BF16_TILES ? "bf16_tiles" : a == GLAM_BF16 ? "bf16" : "f32"; }

GLAM_API const char *glam_arithmetic_name(const glam_ctx *ctx)
{ return ctx ? glam__arithmetic_word(ctx->options.arithmetic) : ""; }

GLAM_API const char *glam_simd_name(const glam_ctx *ctx)
{ return ctx ? ctx->simd.kernels->name : ""; }
GLAM_API int glam_threads(const glam_ctx *ctx) { return ctx ? ctx->options.threads : 0; }

GLAM_API glam_status glam_error(const glam_ctx *ctx) { return ctx ? ctx->error : GLAM_ERR_MEMORY; }
GLAM_API const char *glam_error_text(const glam_ctx *ctx)
{ return ctx ? ctx->message : "no context: glam_open found no memory, or NULL was passed"; }

GLAM_API void glam_clear_error(glam_ctx *ctx)
{
    if (!ctx) return;
    ctx->error = GLAM_OK;
    ctx->message[0] = 0;
    if (ctx->mesh) ctx->mesh->told = 0;
}

GLAM_API glam_bytes glam_memory(const glam_ctx *ctx)
{
    glam_bytes b;
    memset(&b, 0, sizeof b);
    if (!ctx) return b;
    b.life = glam__arena_used(&ctx->base.life);
    b.step = ctx->base.step.high;
    b.scratch = ctx->scratch.bytes + (ctx->mesh ? ctx->mesh->bytes : 0);
    b.packed = ctx->products.bytes;
    b.total = b.life + b.step + b.scratch + b.packed;
    b.peak = ctx->base.measuring ? b.total : ctx->base.peak;
    b.allocations = ctx->base.allocations;
    return b;
}

GLAM_API glam_traffic glam_sent(const glam_ctx *ctx)
{
    glam_traffic t;
    memset(&t, 0, sizeof t);
    if (ctx && ctx->mesh) t = ctx->mesh->sent;
    t.total = t.routing + t.dispatch + t.model + t.gradients + t.weights + t.sums + t.files;
    return t;
}

GLAM_API glam_status glam_measure(glam_ctx *ctx, int on)
{
    if (!ctx || ctx->error) return glam_error(ctx);
    if (on && (ctx->base.life.top || ctx->base.step.top))
        return glam_fail(ctx, GLAM_ERR_STATE, "measure: this context already holds tensors; "
                         "measure in a fresh one");
    if (!on && ctx->base.measuring)
        return glam_fail(ctx, GLAM_ERR_STATE, "measure: a context that measured has no values; "
                         "close it and open another");
    ctx->base.measuring = on != 0;
    return GLAM_OK;
}

// Scratch is one block, grown between ops: inside an op nothing can fail any more.
static glam_status glam__reserve_scratch(glam_ctx *ctx, uint64_t bytes)
{
    bytes = glam__align(bytes);
    if (bytes <= ctx->scratch.bytes) return GLAM_OK;
    if (ctx->base.measuring) {
        ctx->scratch.bytes = bytes;
        return GLAM_OK;
    }
    GLAM_ASSERT(ctx->scratch.used == 0);
    if (bytes > SIZE_MAX - GLAM__ALIGN)
        return glam_fail(ctx, GLAM_ERR_MEMORY, "out of memory: %.1f GB of scratch",
                         (double)bytes / 1e9);
    glam__free(ctx, ctx->scratch.block, (size_t)ctx->scratch.bytes + GLAM__ALIGN);
    ctx->scratch.block = NULL;
    ctx->scratch.bytes = 0;
    ctx->scratch.block = glam__alloc(ctx, (size_t)bytes + GLAM__ALIGN);
    if (!ctx->scratch.block) return ctx->error;
    ctx->scratch.data = glam__aligned(ctx->scratch.block);
    ctx->scratch.bytes = bytes;
    return GLAM_OK;
}

GLAM_API void *glam_scratch(glam_ctx *ctx, size_t bytes)
{
    if (!ctx || !ctx->scratch.data) return NULL;
    char *p = ctx->scratch.data + ctx->scratch.used;
    ctx->scratch.used += (size_t)glam__align(bytes);
    GLAM_ASSERT(ctx->scratch.used <= ctx->scratch.bytes);
    return p;
}

static float *glam__scratch_floats(glam_ctx *ctx, size_t count)
{ return (float *)glam_scratch(ctx, count * sizeof(float)); }

// The arrays of an op are laid out by one function (rows), which sets pointers of its view (arg).
// Over nothing it counts, over memory it hands out: what is asked for and what is taken agree.
typedef struct glam__layout { char *at; uint64_t bytes; } glam__layout;
typedef void glam__lay_rows(void *arg, glam__layout *layout);

static void *glam__lay(glam__layout *l, uint64_t count, size_t size)
{
    char *p = l->at ? l->at + l->bytes : NULL;
    uint64_t bytes = glam__align(glam__mul(count, size));
    l->bytes = bytes > UINT64_MAX - l->bytes ? UINT64_MAX : l->bytes + bytes;
    return p;
}

static float *glam__lay_floats(glam__layout *l, uint64_t count)
{ return (float *)glam__lay(l, count, sizeof(float)); }
static int32_t *glam__lay_ints(glam__layout *l, uint64_t count)
{ return (int32_t *)glam__lay(l, count, sizeof(int32_t)); }

static uint64_t glam__lay_count(glam__lay_rows *rows, void *arg)
{
    glam__layout l = { NULL, 0 };
    rows(arg, &l);
    return l.bytes;
}

static void glam__lay_over(glam__lay_rows *rows, void *arg, void *memory)
{
    glam__layout l = { (char *)memory, 0 };
    if (memory) rows(arg, &l);
}

static void glam__lay_scratch(glam_ctx *ctx, glam__lay_rows *rows, void *arg)
{ glam__lay_over(rows, arg, glam_scratch(ctx, (size_t)glam__lay_count(rows, arg))); }

static void glam__loans_end(glam_ctx *ctx)
{
    for (glam__loan *l = ctx->tensor.loans; l; l = l->before) {
        l->t->grad = NULL;
        glam__grad_put(l->t, GLAM__NONE);
    }
    ctx->tensor.loans = NULL;
}

static void glam__undo_to(glam_ctx *ctx, uint64_t mark)
{
    while (ctx->base.undo && ctx->base.undo->at >= mark) {
        glam__undo *u = ctx->base.undo;
        ctx->base.undo = u->before;
        u->undo(ctx, u->arg);
    }
}

// Frees the panels of weights that lie at or past the mark.
static void glam__packs_to(glam_ctx *ctx, uint64_t mark)
{
    glam__pack **link = &ctx->products.packs;
    while (*link) {
        glam__pack *p = *link;
        if (p->at < mark) { link = &p->before; continue; }
        for (int i = 0; i < 2; i++) {
            glam__free(ctx, p->block[i], p->bytes[i] + GLAM__ALIGN);
            ctx->products.bytes -= p->bytes[i];
        }
        *link = p->before;
    }
}

GLAM_API void glam_close(glam_ctx *ctx)
{
    if (!ctx) return;
    glam__undo_to(ctx, 0);
    glam__packs_to(ctx, 0);
    glam__arena_release(ctx, &ctx->base.step);
    glam__arena_release(ctx, &ctx->base.life);
    glam__free(ctx, ctx->scratch.block, (size_t)ctx->scratch.bytes + GLAM__ALIGN);
    glam__mesh_close(ctx);
    glam_allocator a = ctx->options.allocator;
    a.release(a.user, ctx, sizeof(glam_ctx) + 2 * sizeof(glam__kernels));
}

// The step ends: tape and activations go, packed weights are made anew at their next use.
static void glam__end_step(glam_ctx *ctx)
{
    glam__loans_end(ctx);
    ctx->autograd.tape = NULL;
    ctx->tensor.spares = NULL;
    ctx->autograd.done = 0;
    ctx->products.epoch++;
    glam__arena_reset(ctx, &ctx->base.step);
}

GLAM_API void glam_forget(glam_ctx *ctx) { if (ctx) glam__end_step(ctx); }
GLAM_API size_t glam_mark(glam_ctx *ctx)
{ return ctx ? (size_t)glam__arena_mark(&ctx->base.life).used : 0; }

static void glam__life_back(glam_ctx *ctx, size_t mark)
{
    glam__place place = { mark, 0 };
    glam__undo_to(ctx, mark);
    glam__packs_to(ctx, mark);
    glam__arena_rewind(ctx, &ctx->base.life, place);
}

GLAM_API void glam_rewind(glam_ctx *ctx, size_t mark)
{
    if (!ctx || ctx->base.measuring) return;     // while measuring nothing is held
    if (mark > glam__arena_used(&ctx->base.life)) return;
    glam__end_step(ctx);
    glam__life_back(ctx, mark);
}

// What a constructor returns: when it failed, everything is as at its mark and can be tried again.
static void *glam__made(glam_ctx *ctx, size_t mark, void *made)
{
    if (!ctx->error) return made;
    if (!ctx->base.measuring) glam__life_back(ctx, mark);
    return NULL;
}

static int glam__cancelled(glam_ctx *ctx)
{ return ctx->options.cancel && ctx->options.cancel(ctx->options.cancel_user); }
static uint64_t *glam__seed(glam_ctx *ctx) { return &ctx->options.seed; }

/* == 08 tensor : implementation ===========================================================
   A shape, its values, its gradient.  Gradients are lent, not owned: backward opens one when the
   first contribution arrives and gives it back as soon as it has been used; see room 01. */

static glam_shape glam__shape(int dims, int a, int b, int c, int d)
{
    glam_shape s;
    s.dims = dims;
    s.dim[0] = a; s.dim[1] = b; s.dim[2] = c; s.dim[3] = d;
    return s;
}

GLAM_API glam_shape glam_dim1(int a) { return glam__shape(1, a, 1, 1, 1); }
GLAM_API glam_shape glam_dim2(int a, int b) { return glam__shape(2, a, b, 1, 1); }
GLAM_API glam_shape glam_dim3(int a, int b, int c) { return glam__shape(3, a, b, c, 1); }
GLAM_API glam_shape glam_dim4(int a, int b, int c, int d) { return glam__shape(4, a, b, c, d); }

// Elements of a shape; 0 for one that makes no sense.
static uint64_t glam__count(glam_shape s)
{
    uint64_t n = 1;
    if (s.dims < 1 || s.dims > 4) return 0;
    for (int i = 0; i < s.dims; i++) {
        if (s.dim[i] < 1) return 0;
        n = glam__mul(n, (uint64_t)s.dim[i]);
    }
    return n;
}

GLAM_API size_t glam_size(const glam_tensor *t) { return t ? (size_t)glam__count(t->shape) : 0; }
static int glam__same_shape(glam_shape a, glam_shape b)
{ return a.dims == b.dims && memcmp(a.dim, b.dim, (size_t)a.dims * sizeof a.dim[0]) == 0; }
static int glam__last(const glam_tensor *t) { return t->shape.dim[t->shape.dims - 1]; }

// Rows when all but the last dimension are one.
static size_t glam__rows(const glam_tensor *t)
{ return (size_t)(glam__count(t->shape) / (uint64_t)glam__last(t)); }

// Where the block that a rank has lies in the whole tensor, and who has the other blocks.
enum { GLAM__OVER_X = 1, GLAM__OVER_Y = 2, GLAM__OVER_EXPERTS = 4 };

typedef struct glam__split {
    glam_shape whole, mine;
    int at[4], over[4];            // of each dimension: where ours begins; which groups share it
    glam_tensor *shard;            // mesh_store: what is kept of it between uses (room 09)
} glam__split;

// A low-rank adapter of a weight W [k,n]: what is multiplied is W + scale A B, with A [k,r] and
// B [r,n]; of experts W [E,k,n] a pair each, A [E,k,r] and B [E,r,n].
typedef struct glam__low {
    glam_tensor *a, *b;
    float scale;
    int off;                       // see glam_model_use_adapters
} glam__low;

static const glam__low *glam__low_of(const glam_tensor *w)
{ return w->low && !w->low->off ? w->low : NULL; }

static int glam__low_rank(const glam_tensor *w)
{ return w && glam__low_of(w) ? w->low->b->shape.dim[w->low->b->shape.dims - 2] : 0; }

// The tensor that holds the values: itself, or its shard.
static glam_tensor *glam__kept(glam_tensor *t)
{ return t->split && t->split->shard ? t->split->shard : t; }

static glam_shape glam__whole(const glam_tensor *t)
{ return t->split ? t->split->whole : t->shape; }

// Is the tensor, or its dimension d (counted from the last, 1), split over these groups?
static int glam__is_over(const glam_tensor *t, int groups)
{
    int over = 0;
    for (int d = 0; t->split && d < 4; d++) over |= t->split->over[d];
    return over & groups;
}

static int glam__dim_over(const glam_tensor *t, int d)
{ return t->split ? t->split->over[t->shape.dims - d] : 0; }

// The place of element i of a block in the whole tensor: what initial values and files go by.
static uint64_t glam__whole_index(const glam__split *split, uint64_t i)
{
    uint64_t at = 0, stride = 1;
    if (!split) return i;
    for (int d = split->mine.dims - 1; d >= 0; d--) {
        at += (i % (uint64_t)split->mine.dim[d] + (uint64_t)split->at[d]) * stride;
        i /= (uint64_t)split->mine.dim[d];
        stride *= (uint64_t)split->whole.dim[d];
    }
    return at;
}

// Elements of a block that are neighbours in the whole as well.
static uint64_t glam__whole_run(const glam__split *split)
{
    uint64_t run = 1;
    for (int d = split->mine.dims - 1; d >= 0; d--) {
        run *= (uint64_t)split->mine.dim[d];
        if (split->mine.dim[d] != split->whole.dim[d]) break;
    }
    return run;
}

// A product with the rows of w that are here is a part of the sum where Y shares them out: adds up
// n floats over Y.  What else there is to add (a residual) belongs to the first rank alone.
static int glam__first_of_y(const glam_ctx *ctx, const glam_tensor *w)
{ return !glam__is_over(w, GLAM__OVER_Y) || ctx->mesh->iy == 0; }

static void glam__sum_over_y(glam_ctx *ctx, const glam_tensor *w, const char *operation,
                             float *data, size_t n)
{
    if (!glam__is_over(w, GLAM__OVER_Y)) return;
    glam__agree(ctx, operation, 0);
    glam__all_reduce(ctx, &ctx->mesh->y, &ctx->mesh->sent.model, data, n);
}

// The same while measuring, from shape(): counted, and no number is touched.
static void glam__count_sum_over_y(glam_ctx *ctx, const glam_tensor *w, uint64_t n)
{ if (ctx->base.measuring) glam__sum_over_y(ctx, w, "", NULL, (size_t)n); }

// "[12,64,128]", for messages.
typedef struct glam__words { char text[56]; } glam__words;

static glam__words glam__say(glam_shape s)
{
    glam__words w;
    int at = 1;
    w.text[0] = '[';
    for (int i = 0; i < s.dims && i < 4; i++)
        at += snprintf(w.text + at, sizeof w.text - (size_t)at, i ? ",%d" : "%d", s.dim[i]);
    snprintf(w.text + at, sizeof w.text - (size_t)at, "]");
    return w;
}

static const char *glam__copy_name(glam_ctx *ctx, glam__arena *arena, const char *name)
{
    size_t bytes = strlen(name) + 1;
    char *copy = (char *)glam__take(ctx, arena, bytes);
    if (copy) memcpy(copy, name, bytes);
    return copy;
}

// A tensor over values that exist already (or, while measuring, over none).
static glam_tensor *glam__tensor_over(glam_ctx *ctx, glam__arena *arena, glam_shape shape,
                                      const char *name, float *data)
{
    if (!glam__count(shape)) {
        glam_fail(ctx, GLAM_ERR_SHAPE, "tensor %s: shape %s; every one of 1 to 4 dimensions must "
                  "be at least 1", name, glam__say(shape).text);
        return NULL;
    }
    glam_tensor *t = (glam_tensor *)glam__take(ctx, arena, sizeof *t);
    if (!t) return NULL;
    t->data = data;
    t->shape = shape;
    for (int i = shape.dims; i < 4; i++) t->shape.dim[i] = 1;
    t->name = *name ? glam__copy_name(ctx, arena, name) : "";
    if (arena == &ctx->base.life) {
        t->flags = GLAM__LIFE;
        t->pack = (glam__pack *)glam__take(ctx, arena, sizeof *t->pack);
        if (t->pack) t->pack->at = glam__arena_used(arena);
    } else if (ctx->tensor.transient) {
        t->flags = GLAM__TRANSIENT;
    }
    return ctx->error ? NULL : t;
}

static glam_tensor *glam__tensor(glam_ctx *ctx, glam__arena *arena, glam_shape shape,
                                 const char *name)
{
    uint64_t n = glam__count(shape);               // 0: refused below
    int lent = arena == &ctx->base.step && ctx->tensor.transient;
    float *data = !n ? NULL : lent ? glam__take_lent(ctx, n) : glam__take_values(ctx, arena, n);
    return ctx->error ? NULL : glam__tensor_over(ctx, arena, shape, name, data);
}

GLAM_API glam_tensor *glam_param(glam_ctx *ctx, const char *name, glam_shape shape)
{
    if (!ctx || ctx->error) return NULL;
    glam_tensor *t = glam__tensor(ctx, &ctx->base.life, shape, name ? name : "");
    if (!t) return NULL;
    t->wants_grad = 1;
    glam_fill(t, 0);
    return t;
}

GLAM_API glam_tensor *glam_zeros(glam_ctx *ctx, glam_shape shape)
{
    if (!ctx || ctx->error) return NULL;
    glam_tensor *t = glam__tensor(ctx, &ctx->base.step, shape, "");
    glam_fill(t, 0);
    return t;
}

GLAM_API glam_tensor *glam_input(glam_ctx *ctx, const float *values, glam_shape shape)
{
    if (!ctx || ctx->error) return NULL;
    if (!values && !ctx->base.measuring) {
        glam_fail(ctx, GLAM_ERR_VALUE, "input: no values (NULL) for a tensor of shape %s",
                  glam__say(shape).text);
        return NULL;
    }
    glam_tensor *t = glam__tensor(ctx, &ctx->base.step, shape, "");
    if (t && t->data) memcpy(t->data, values, glam_size(t) * sizeof(float));
    return t;
}

static void glam__pack_stale(glam_tensor *t)
{ if (t->pack) t->pack->epoch[0] = t->pack->epoch[1] = 0; }

static const char *glam__type_name(int type)
{ return type == GLAM_TYPE_Q8 ? "q8" : type ? "bf16" : "f32"; }

// Narrow numbers [rows, n] lie as those of floats do; behind them, from a multiple of GLAM__ALIGN
// on, the scales of q8 [rows, blocks of n].
static int glam__blocks_of(int n) { return glam__ceil_div(n, GLAM__Q8_BLOCK); }

static uint64_t glam__value_bytes(glam_shape s, glam_type type)
{
    uint64_t n = glam__count(s), last = (uint64_t)s.dim[s.dims - 1];
    if (type != GLAM_TYPE_Q8) return glam__mul(n, type ? sizeof(uint16_t) : sizeof(float));
    uint64_t scales = n / last * (uint64_t)glam__blocks_of((int)last);
    return n > UINT64_MAX / 4 ? UINT64_MAX : glam__align(n) + scales * sizeof(uint16_t);
}

static uint16_t *glam__scales_of(const glam_tensor *t)
{
    return t->type != GLAM_TYPE_Q8 || !t->narrow ? NULL
         : (uint16_t *)(void *)((char *)t->narrow + glam__align(glam_size(t)));
}

// A row as floats.
static void glam__read_row(const glam__kernels *k, const glam_tensor *t, size_t row, float *out)
{
    int n = glam__last(t);
    const uint16_t *scales = glam__scales_of(t);
    for (int at = 0; at < n && t->narrow; at += GLAM__Q8_BLOCK) {
        size_t to = row * (size_t)n + (size_t)at;
        k->widen(1, glam__min(n - at, GLAM__Q8_BLOCK),
                 (const char *)t->narrow + (scales ? to : 2 * to), 0,
                 scales ? scales + row * (size_t)glam__blocks_of(n) + at / GLAM__Q8_BLOCK : NULL, 0,
                 out + at, 0);
    }
    if (!t->narrow) memcpy(out, t->data + row * (size_t)n, (size_t)n * sizeof(float));
}

static glam_status glam__rows_there(const glam_tensor *t, size_t row, size_t rows, const void *at)
{
    if (!t || !at || row > glam__rows(t) || rows > glam__rows(t) - row) return GLAM_ERR_VALUE;
    return t->data || t->narrow ? GLAM_OK : GLAM_ERR_STATE;
}

GLAM_API glam_status glam_read(const glam_tensor *t, size_t row, size_t rows, float *out)
{
    glam__kernels k;
    glam_status status = glam__rows_there(t, row, rows, out);
    glam__table_base(&k);
    for (size_t r = 0; r < rows && status == GLAM_OK; r++)
        glam__read_row(&k, t, row + r, out + r * (size_t)glam__last(t));
    return status;
}

// n floats into columns col.. of a row, col a multiple of a block.
static void glam__put_part(glam_tensor *t, size_t row, int col, int n, const float *x)
{
    size_t at = row * (size_t)glam__last(t) + (size_t)col;
    uint16_t *scales = glam__scales_of(t);
    if (scales) scales += row * (size_t)glam__blocks_of(glam__last(t)) + col / GLAM__Q8_BLOCK;
    if (t->data) memcpy(t->data + at, x, (size_t)n * sizeof *x);
    else glam__narrow_row(n, x, (char *)t->narrow + (scales ? at : 2 * at), scales);
}

GLAM_API glam_status glam_write(glam_tensor *t, size_t row, size_t rows, const float *values)
{
    glam_status status = glam__rows_there(t, row, rows, values);
    for (size_t r = 0; r < rows && status == GLAM_OK; r++)
        glam__put_part(t, row + r, 0, glam__last(t), values + r * (size_t)glam__last(t));
    if (status == GLAM_OK) glam__pack_stale(t);
    return status;
}

// Element i becomes value, or that times a number that hangs on its place in the whole.
enum { GLAM__CONSTANTLY, GLAM__NORMALLY, GLAM__UNIFORMLY };

static void glam__fill_as(glam_tensor *t, int how, uint64_t seed, float value)
{
    if (!t || (!t->data && !t->narrow)) return;
    uint64_t stream = how ? glam__hash_name(t->name) : 0, i = 0;
    size_t rows = glam__rows(t);
    int last = glam__last(t);
    for (size_t row = 0; row < rows; row++)
        for (int col = 0; col < last; col += GLAM__Q8_BLOCK) {
            float some[GLAM__Q8_BLOCK];
            int n = glam__min(last - col, GLAM__Q8_BLOCK);
            for (int j = 0; j < n; j++, i++) {
                uint64_t at = how ? glam__whole_index(t->split, i) : 0;
                some[j] = how == GLAM__NORMALLY ? value * glam_normal(seed, stream, at)
                        : how ? value * (2.0f * glam_random(seed, stream, at) - 1) : value;
            }
            glam__put_part(t, row, col, n, some);
        }
    glam__pack_stale(t);
}

GLAM_API void glam_fill(glam_tensor *t, float value)
{ glam__fill_as(t, GLAM__CONSTANTLY, 0, value); }
GLAM_API void glam_fill_normal(glam_tensor *t, uint64_t seed, float std)
{ glam__fill_as(t, GLAM__NORMALLY, seed, std); }

// A gradient buffer for t, recycled where one of its size is spare.  It holds garbage (EMPTY).
static glam_status glam__grad_open(glam_ctx *ctx, glam_tensor *t)
{
    if (glam__grad_state(t)) return GLAM_OK;
    uint64_t count = glam__count(t->shape);
    glam__spare *s = ctx->tensor.spares;
    while (s && s->count != count) s = s->before;
    t->grad = s ? s->data : glam__take_values(ctx, &ctx->base.step, count);
    if (ctx->error) return ctx->error;
    if (s) s->count = 0;
    glam__grad_put(t, GLAM__EMPTY);
    if (t->flags & GLAM__LIFE) {                    // no optimiser: lent for this step
        glam__loan *loan = GLAM__NEW(ctx, step, glam__loan, 1);
        if (!loan) return ctx->error;
        loan->before = ctx->tensor.loans;
        loan->t = t;
        ctx->tensor.loans = loan;
    }
    return GLAM_OK;
}

// The gradient of an inner tensor has been used: its buffer serves the next of its size.
static void glam__grad_recycle(glam_ctx *ctx, glam_tensor *t)
{
    glam__spare *s = ctx->tensor.spares;
    while (s && s->count) s = s->before;
    if (!s) {
        s = GLAM__NEW(ctx, step, glam__spare, 1);
        if (!s) return;
        s->before = ctx->tensor.spares;
        ctx->tensor.spares = s;
    }
    s->count = glam__count(t->shape);
    s->data = t->grad;
    t->grad = NULL;
    glam__grad_put(t, GLAM__NONE);
}

// 1: add to the gradient; 0: nothing is there yet, write all of it.
static int glam__grad_adds(glam_tensor *t)
{
    if (glam__grad_state(t) != GLAM__EMPTY) return 1;
    glam__grad_put(t, GLAM__SUM);
    return 0;
}

static void glam__grad_settle(glam_tensor *t)
{ if (!glam__grad_adds(t) && t->grad) memset(t->grad, 0, glam_size(t) * sizeof(float)); }

// The gradient to write or add to; NULL where none is wanted.
static float *glam__grad_of(glam_tensor *t, int *adds)
{
    if (!t || !t->wants_grad) return NULL;
    *adds = glam__grad_adds(t);
    return t->grad;
}

/* == 09 autograd : implementation =========================================================
   Ops run at once and leave a node on the tape; backward is one loop from the last node to the
   first.  A node is recorded only if some input wants a gradient.  Invariants: shape() may fail,
   forward() and backward() may not; a step's backward runs once, because ops may reuse what they
   saved. */

// Flags of built-in rows (glam_op.flags) and of nodes (glam_node.flags).
enum {
    GLAM__OP_FRESH    = 1,   // backward asks glam__grad_adds() itself
    GLAM__OP_OPTIONAL = 2,   // in[1..] may be NULL
    GLAM__OP_INSIDE   = 4,   // runs other ops: always recorded, also run while measuring
    GLAM__OP_NARROW   = 8    // times 2^i: in[i] may be narrow
};
enum {
    GLAM__NODE_RECORDED = 1, // backward will come
    GLAM__NODE_KEEP     = 2, // set by shape(): what is saved stays also without backward
    GLAM__NODE_RESIDUAL = 4, // set by shape(): out[0] = in[0] + ...
    GLAM__NODE_MOVED    = 8, // in[0]->grad is out[0]->grad's own buffer, dy already in it
    GLAM__NODE_WANTS    = 4  // from this bit on: in[i] wants a gradient; see glam__wants()
};

// Whether backward will make the gradient of in[i].  What nobody wants an op neither makes nor lays
// out, so that is settled when it is applied.
static int glam__wants(const glam_node *n, int i) { return n->flags >> (GLAM__NODE_WANTS + i) & 1; }

// The same of a weight or of its adapter.
static int glam__learns(const glam_node *n, int i)
{
    const glam__low *low = n->in[i] ? glam__low_of(n->in[i]) : NULL;
    int learns = glam__wants(n, i);
    for (int j = n->op->inputs; j < n->inputs && low; j++)
        learns |= (n->in[j] == low->a || n->in[j] == low->b) && glam__wants(n, j);
    return learns;
}

// A built-in op, written right after its three functions.
#define GLAM__OP(name, inputs, flags) \
    static const glam_op glam__op_##name = { #name, inputs, flags, glam__##name##_shape, \
                                             glam__##name##_forward, glam__##name##_backward }

typedef struct glam__record {
    glam_node node;
    struct glam__record *before;
    int layer;                     // on a mesh: for messages
} glam__record;

static glam_status glam__check_inputs(glam_ctx *ctx, const glam_op *op, glam_tensor *const *in)
{
    if (ctx->error) return ctx->error;
    if (op->inputs < 1 || op->inputs > GLAM_MAX_INPUTS)
        return glam_fail(ctx, GLAM_ERR_VALUE, "op %s: %d inputs; 1 to %d are possible", op->name,
                         op->inputs, GLAM_MAX_INPUTS);
    for (int i = 0; i < op->inputs; i++)
        if (!in[i] && !(i > 0 && op->flags & GLAM__OP_OPTIONAL))
            return glam_fail(ctx, GLAM_ERR_VALUE, "%s: operand %d is NULL", op->name, i + 1);
    for (int i = 0; i < op->inputs; i++) {
        if (!in[i] || !in[i]->type) continue;
        if (!(op->flags & GLAM__OP_NARROW << i))
            return glam_fail(ctx, GLAM_ERR_VALUE, "%s: operand %d (%s) is a narrow weight, which "
                             "this op does not read; glam_read gives its values", op->name, i + 1,
                             in[i]->name);
        if (in[i]->wants_grad)
            return glam_fail(ctx, GLAM_ERR_STATE, "%s: %s is narrow and stays frozen", op->name,
                             in[i]->name);
    }
    if (ctx->autograd.done && !ctx->autograd.no_grad)
        return glam_fail(ctx, GLAM_ERR_STATE, "%s: backward has used this step up; glam_forget or "
                         "glam_update starts the next", op->name);
    return GLAM_OK;
}

// ---- weights that are stored over X (mesh_store): whole only while an op runs, in its scratch

// Which dimension of t its shard is cut in: rows, or the columns of a table with few rows.
static int glam__shard_dim(const glam_tensor *t)
{ return t->split->shard->shape.dim[0] == t->shape.dim[0]; }

// Rows as they are to one block of columns for each rank, or back.
static void glam__shard_blocks(const glam__mesh *m, const glam_tensor *t, float *rows,
                               float *blocks, int back)
{
    size_t R = (size_t)t->shape.dim[0], C = (size_t)t->shape.dim[1];
    for (int x = 0; x < m->X; x++) {
        size_t at = glam__share(C, x, m->X), n = glam__share(C, x + 1, m->X) - at;
        for (size_t r = 0; r < R; r++) {
            float *a = rows + r * C + at, *b = blocks + R * at + r * n;
            memcpy(back ? a : b, back ? b : a, n * sizeof *a);
        }
    }
}

// What such inputs add to the scratch of a node.
static uint64_t glam__shard_bytes(const glam_node *n)
{
    uint64_t bytes = 0;
    for (int i = 0; i < n->inputs; i++) {
        const glam_tensor *t = n->in[i];
        if (!t || !t->split || !t->split->shard) continue;
        int arrays = 1 + glam__shard_dim(t) + (n->flags & GLAM__NODE_RECORDED && t->wants_grad);
        bytes += (uint64_t)arrays * glam__floats(glam__count(t->shape));
    }
    return bytes;
}

static void glam__shard_gather(glam_ctx *ctx, glam_tensor *t)
{
    glam__mesh *m = ctx->mesh;
    int d = glam__shard_dim(t);
    size_t n = (size_t)t->shape.dim[d], unit = glam_size(t) / n;
    t->data = glam__scratch_floats(ctx, n * unit);
    float *to = d ? glam__scratch_floats(ctx, n * unit) : t->data;
    memcpy(to + glam__share(n, m->ix, m->X) * unit, t->split->shard->data,
           glam_size(t->split->shard) * sizeof(float));
    glam__all_gather(ctx, &m->x, &m->sent.weights, to, n, unit * sizeof(float));
    if (d) glam__shard_blocks(m, t, t->data, to, 1);
}

// The gradient of one use: the sum over X, of which each rank keeps its share.
static void glam__shard_scatter(glam_ctx *ctx, glam_tensor *t)
{
    glam__mesh *m = ctx->mesh;
    glam_tensor *shard = t->split->shard;
    int d = glam__shard_dim(t);
    size_t n = (size_t)t->shape.dim[d], unit = glam_size(t) / n, own = glam_size(shard);
    float *from = t->grad;
    glam__grad_settle(t);
    if (d) glam__shard_blocks(m, t, t->grad, from = t->data, 0);   // whose values are used up
    glam__reduce_scatter(ctx, &m->x, &m->sent.gradients, from, n, unit);
    from += glam__share(n, m->ix, m->X) * unit;
    int adds = glam__grad_adds(shard);
    for (size_t i = 0; i < own; i++) shard->grad[i] = adds ? shard->grad[i] + from[i] : from[i];
}

// What a node's inputs of that kind will send, forward and, where it is recorded, backward.
static void glam__count_shards(glam_ctx *ctx, const glam_node *n)
{
    for (int i = 0; i < n->inputs && ctx->mesh && ctx->mesh->store; i++) {
        const glam_tensor *t = n->in[i];
        if (!t || !t->split || !t->split->shard) continue;
        glam__mesh *m = ctx->mesh;
        int recorded = n->flags & GLAM__NODE_RECORDED;
        size_t rows = (size_t)t->shape.dim[glam__shard_dim(t)], unit = glam_size(t) / rows;
        for (int pass = 0; pass < (recorded ? 2 : 1); pass++)
            glam__all_gather(ctx, &m->x, &m->sent.weights, NULL, rows, unit * sizeof(float));
        if (recorded && t->wants_grad)
            glam__reduce_scatter(ctx, &m->x, &m->sent.gradients, NULL, rows, unit);
    }
}

// Before a node runs (begin), and after it: forward, or with back backward.
static void glam__shards(glam_ctx *ctx, glam_node *n, int begin, int back)
{
    int agreed = 0;
    for (int i = 0; i < n->inputs && ctx->mesh && ctx->mesh->store; i++) {
        glam_tensor *t = n->in[i];
        if (!t || !t->split || !t->split->shard) continue;
        if (begin && !agreed++) glam__agree(ctx, "weights", 0);
        if (begin && !ctx->error) glam__shard_gather(ctx, t);
        if (back && t->wants_grad && begin && !ctx->error) {
            t->grad = glam__scratch_floats(ctx, glam_size(t));
            glam__grad_put(t, GLAM__EMPTY);
            if (!(n->op->flags & GLAM__OP_FRESH)) glam__grad_settle(t);
        }
        if (begin) continue;
        if (back && t->wants_grad && !ctx->error) glam__shard_scatter(ctx, t);
        t->data = t->grad = NULL;
        glam__grad_put(t, GLAM__NONE);
    }
}

// The operands of an op, and behind them what belongs to their adapters.
static void glam__take_inputs(glam_node *n, glam_tensor *const *in)
{
    n->inputs = n->op->inputs;
    for (int i = 0; i < n->op->inputs; i++) {
        const glam__low *low = in[i] ? glam__low_of(in[i]) : NULL;
        n->in[i] = in[i];
        if (!low) continue;
        GLAM_ASSERT(n->inputs + 2 <= GLAM_MAX_INPUTS + GLAM_MAX_ADAPTERS);
        n->in[n->inputs++] = low->a;
        n->in[n->inputs++] = low->b;
    }
}

// Outputs and saved bytes; everything that can fail before the arithmetic.
static glam_status glam__node_memory(glam_ctx *ctx, glam_node *n, int wants)
{
    for (int i = 0; i < 2; i++) {
        if (!n->out_shape[i].dims) continue;
        n->out[i] = glam__tensor(ctx, &ctx->base.step, n->out_shape[i], "");
        if (!n->out[i]) return ctx->error;
        n->out[i]->wants_grad = wants;
    }
    return glam__reserve_scratch(ctx, n->scratch_bytes);
}

GLAM_API glam_tensor *glam_apply(glam_ctx *ctx, const glam_op *op, glam_tensor *const *in,
                                 const void *config, size_t config_bytes, glam_tensor **second)
{
    int wants = 0;
    if (second) *second = NULL;
    if (ctx && (!op || !in)) glam_fail(ctx, GLAM_ERR_VALUE, "apply: no op or no operands (NULL)");
    if (!ctx || ctx->error || glam__check_inputs(ctx, op, in) != GLAM_OK) return NULL;
    glam__record *r = GLAM__NEW(ctx, step, glam__record, 1);
    void *copy = config_bytes ? glam__take(ctx, &ctx->base.step, config_bytes) : NULL;
    if (ctx->error) return NULL;
    glam_node *n = &r->node;
    r->layer = ctx->mesh ? ctx->mesh->layer : -1;
    n->op = op;
    glam__take_inputs(n, in);
    for (int i = 0; i < n->inputs; i++) {
        if (!n->in[i]) continue;
        n->in[i]->wants_grad = glam__kept(n->in[i])->wants_grad;
        wants |= n->in[i]->wants_grad;
    }
    wants = (wants || op->flags & GLAM__OP_INSIDE) && !ctx->autograd.no_grad;
    if (copy) memcpy(copy, config, config_bytes);
    n->config = copy;
    n->flags = wants ? GLAM__NODE_RECORDED : 0;
    for (int i = 0; i < n->inputs && wants; i++)
        if (n->in[i] && n->in[i]->wants_grad) n->flags |= 1 << (GLAM__NODE_WANTS + i);
    if (op->shape(ctx, n) != GLAM_OK || ctx->error) return NULL;
    n->scratch_bytes += glam__shard_bytes(n);
    if (glam__node_memory(ctx, n, wants) != GLAM_OK) return NULL;
    // without a tape nobody comes back for what was saved
    glam__place place = glam__arena_mark(&ctx->base.step);
    if (n->saved_bytes)
        n->saved = glam__take_lent(ctx, (n->saved_bytes + sizeof(float) - 1) / sizeof(float));
    if (ctx->error) return NULL;
    if (ctx->base.measuring) glam__count_shards(ctx, n);
    else glam__shards(ctx, n, 1, 0);
    if (!ctx->error && (!ctx->base.measuring || op->flags & GLAM__OP_INSIDE)) op->forward(ctx, n);
    if (!ctx->base.measuring) glam__shards(ctx, n, 0, 0);
    ctx->scratch.used = 0;
    if (ctx->error) return NULL;
    if (wants) {
        r->before = ctx->autograd.tape;
        ctx->autograd.tape = r;
    } else if (!(n->flags & GLAM__NODE_KEEP)) {
        glam__arena_rewind(ctx, &ctx->base.step, place);
    }
    if (second) *second = n->out[1];
    return n->out[0];
}

// The gradients of what was used since `stop`, and will not be again, may be lent: backward comes
// to them after all that is still to be recorded.  Those that lie in their set right behind what
// was lent before: behind a gap, as adapters lie, others may follow that backward fills earlier.
static void glam__lend_since(glam_ctx *ctx, const glam__record *stop)
{
    glam__lend *l = &ctx->train.lend;
    for (int first = !l->end; l->on; first = 0) {
        uint64_t next = UINT64_MAX, to = 0;
        for (const glam__record *r = ctx->autograd.tape; r != stop; r = r->before)
            for (int i = 0; i < r->node.inputs; i++) {
                const glam_tensor *t = r->node.in[i] ? glam__kept(r->node.in[i]) : NULL;
                uint64_t from = t && t->pack ? t->pack->grad_at : 0;
                if (!t || !(t->flags & GLAM__OWNED) || from < l->end || from >= next) continue;
                if (l->base && t->grad != l->base + from) continue;
                next = from;
                to = from + glam__floats(glam__count(t->shape)) / sizeof(float);
            }
        if (!to || (next != l->end && !first)) return;
        if (first) l->at = next;
        l->end = to;
    }
}

GLAM_API int glam_no_grad(glam_ctx *ctx, int on)
{
    if (!ctx) return 0;
    int before = ctx->autograd.no_grad;
    ctx->autograd.no_grad = on != 0;
    return before;
}

// Gradients of the inputs exist and are settled before backward() may add to them.
static glam_status glam__open_inputs(glam_ctx *ctx, glam_node *n)
{
    const int aware = n->op->flags & GLAM__OP_FRESH;
    glam_tensor *x = n->in[0], *y = n->out[0];
    if (n->flags & GLAM__NODE_RESIDUAL && x->wants_grad && !glam__grad_state(x) &&
        x->flags & GLAM__TRANSIENT && y->flags & GLAM__TRANSIENT) {
        x->grad = y->grad;                 // dx = dy + ...: what is there is the beginning
        glam__grad_put(x, GLAM__SUM);
        n->flags |= GLAM__NODE_MOVED;
    }
    for (int i = 0; i < n->inputs; i++) {
        if (!n->in[i] || !n->in[i]->wants_grad) continue;
        if (!glam__wants(n, i))
            return glam_fail(ctx, GLAM_ERR_STATE, "backward: operand %d of %s (%s) was frozen when "
                             "the forward pass ran; let it train before that", i + 1, n->op->name,
                             n->in[i]->name);
        if (glam__grad_open(ctx, glam__kept(n->in[i])) != GLAM_OK) return ctx->error;
        if (!aware && glam__kept(n->in[i]) == n->in[i]) glam__grad_settle(n->in[i]);
    }
    return GLAM_OK;
}

// What backward does to the state of gradients, without the numbers.
static void glam__measure_backward(glam_node *n)
{
    for (int i = 0; i < n->inputs; i++)
        if (n->in[i] && n->in[i]->wants_grad) glam__grad_adds(glam__kept(n->in[i]));
}

static glam_status glam__backward_node(glam_ctx *ctx, glam_node *n)
{
    int reached = 0;
    for (int i = 0; i < 2; i++) {
        glam_tensor *y = n->out[i];
        if (!y || !glam__grad_state(y)) continue;
        reached = 1;
        glam__grad_settle(y);
    }
    if (!reached) return GLAM_OK;          // the loss does not depend on it
    for (int i = 0; i < 2; i++) {          // the other output simply got no gradient
        glam_tensor *y = n->out[i];
        if (!y || glam__grad_state(y)) continue;
        if (glam__grad_open(ctx, y) != GLAM_OK) return ctx->error;
        glam__grad_settle(y);
    }
    if (glam__open_inputs(ctx, n) != GLAM_OK) return ctx->error;
    if (glam__reserve_scratch(ctx, n->scratch_bytes) != GLAM_OK) return ctx->error;
    if (!ctx->base.measuring) glam__shards(ctx, n, 1, 1);
    if (ctx->error) glam__measure_backward(n);
    else if (!ctx->base.measuring || n->op->flags & GLAM__OP_INSIDE) n->op->backward(ctx, n);
    else glam__measure_backward(n);
    if (!ctx->base.measuring) glam__shards(ctx, n, 0, 1);
    ctx->scratch.used = 0;
    for (int i = 0; i < 2; i++) {
        glam_tensor *y = n->out[i];
        if (!y || !(y->flags & GLAM__TRANSIENT)) continue;
        if (i == 0 && n->flags & GLAM__NODE_MOVED) {
            y->grad = NULL;
            glam__grad_put(y, GLAM__NONE);
        } else {
            glam__grad_recycle(ctx, y);
        }
    }
    return ctx->error;
}

// Counts the node's uses of parameters up or down; whoever asked (room 19) hears of the last one.
static void glam__count_uses(glam_ctx *ctx, const glam_node *n, int by)
{
    for (int i = 0; i < n->inputs; i++) {
        glam_tensor *t = n->in[i];
        if (!t || !t->wants_grad || !(t->flags & GLAM__LIFE)) continue;
        t->pack->uses += by;
        if (by < 0 && !t->pack->uses) ctx->train.whole(ctx->train.whole_arg, t);
    }
}

// The loop: newest node first, down to but without `stop`.
static glam_status glam__backward_to(glam_ctx *ctx, const glam__record *stop)
{
    glam__record *r;
    for (r = ctx->autograd.tape; r != stop && ctx->train.whole; r = r->before)
        glam__count_uses(ctx, &r->node, 1);
    for (r = ctx->autograd.tape; r != stop; r = r->before) {
        if (ctx->mesh) ctx->mesh->layer = r->layer;
        if (glam__backward_node(ctx, &r->node) != GLAM_OK) return ctx->error;
        if (ctx->train.whole) glam__count_uses(ctx, &r->node, -1);
    }
    return GLAM_OK;
}

GLAM_API glam_status glam_backward(glam_ctx *ctx, glam_tensor *loss)
{
    if (!ctx || ctx->error) return glam_error(ctx);
    if (!loss) return glam_fail(ctx, GLAM_ERR_VALUE, "backward: the loss is NULL");
    if (glam_size(loss) != 1)
        return glam_fail(ctx, GLAM_ERR_SHAPE, "backward: the loss is %s; one element is needed "
                         "(glam_mean or glam_sum make one)", glam__say(loss->shape).text);
    if (ctx->autograd.done)
        return glam_fail(ctx, GLAM_ERR_STATE, "backward: this step's tape has been used; add the "
                         "losses and call backward once, or glam_forget first");
    if (!loss->wants_grad)
        return glam_fail(ctx, GLAM_ERR_STATE, "backward: the loss depends on nothing that wants a "
                         "gradient");
    if (glam__grad_open(ctx, loss) != GLAM_OK) return ctx->error;
    glam__grad_put(loss, GLAM__SUM);
    if (loss->grad) loss->grad[0] = 1;
    ctx->autograd.done = 1;
    glam__backward_to(ctx, NULL);
    ctx->autograd.tape = NULL;
    if (ctx->mesh) ctx->mesh->layer = -1;
    return glam__farewell(ctx);
}

// Recompute: forward runs the block and keeps nothing but its result, backward runs it again.
typedef struct glam__again { glam_block *block; void *arg; int *has_extra; } glam__again;

static glam_status glam__recompute_shape(glam_ctx *ctx GLAM__UNUSED, glam_node *n)
{
    n->out_shape[0] = n->in[0]->shape;
    n->out_shape[1] = glam_dim1(1);
    return GLAM_OK;
}

static void glam__recompute_forward(glam_ctx *ctx, glam_node *n)
{
    const glam__again *a = (const glam__again *)n->config;
    glam_tensor *extra = NULL;
    int before = glam_no_grad(ctx, 1);
    glam__place place = glam__arena_mark(&ctx->base.step);
    glam_tensor *y = a->block(ctx, a->arg, n->in[0], &extra);
    glam_no_grad(ctx, before);
    if (!y) {
        glam_fail(ctx, GLAM_ERR_STATE, "recompute: the block returned NULL");
        return;
    }
    if (!glam__same_shape(y->shape, n->in[0]->shape)) {
        glam_fail(ctx, GLAM_ERR_SHAPE, "recompute: the block made %s out of %s; it must keep the "
                  "shape", glam__say(y->shape).text, glam__say(n->in[0]->shape).text);
        return;
    }
    *a->has_extra = extra != NULL;
    if (y->data) memcpy(n->out[0]->data, y->data, glam_size(y) * sizeof(float));
    if (n->out[1]->data) n->out[1]->data[0] = extra ? extra->data[0] : 0;
    glam__arena_rewind(ctx, &ctx->base.step, place);
}

// Lends the gradient buffer of one tensor to another of the same shape.
static void glam__grad_lend(glam_tensor *from, glam_tensor *to)
{
    if (!from || !to) return;
    to->grad = from->grad;
    to->flags &= ~GLAM__TRANSIENT;
    glam__grad_put(to, glam__grad_adds(from) ? GLAM__SUM : GLAM__EMPTY);
}

// The block again, with tape, on a stand-in for x whose gradient is x's; then its backward.
static void glam__recompute_run(glam_ctx *ctx, glam_node *n)
{
    const glam__again *a = (const glam__again *)n->config;
    glam__record *stop = ctx->autograd.tape;
    glam_tensor *x = n->in[0], *extra = NULL;
    glam_tensor *inner = glam__tensor_over(ctx, &ctx->base.step, x->shape, "", x->data);
    if (!inner) return;
    inner->wants_grad = x->wants_grad;
    glam_tensor *y = a->block(ctx, a->arg, inner, &extra);
    if (!y) return;
    if (inner->wants_grad) glam__grad_lend(x, inner);
    glam__grad_lend(n->out[0], y);
    glam__grad_lend(n->out[1], extra);
    glam__backward_to(ctx, stop);
    if (inner->wants_grad) glam__grad_settle(inner);
}

static void glam__recompute_backward(glam_ctx *ctx, glam_node *n)
{
    glam__record *tape = ctx->autograd.tape;
    glam__spare *spares = ctx->tensor.spares;
    glam__loan *loans = ctx->tensor.loans;
    glam__place place = glam__arena_mark(&ctx->base.step);
    int transient = ctx->tensor.transient, before = glam_no_grad(ctx, 0);
    ctx->tensor.spares = NULL;         // what the second run leaves behind goes with it
    ctx->tensor.transient = 1;
    ctx->autograd.done = 0;
    ctx->autograd.again++;
    glam__recompute_run(ctx, n);
    ctx->autograd.again--;
    ctx->autograd.tape = tape;
    ctx->tensor.spares = spares;
    ctx->tensor.transient = transient;
    ctx->autograd.done = 1;
    glam_no_grad(ctx, before);
    // gradients lent to parameters inside must outlive the block, unless they were used up there
    while (ctx->tensor.loans != loans && !glam__grad_state(ctx->tensor.loans->t))
        ctx->tensor.loans = ctx->tensor.loans->before;
    if (ctx->tensor.loans == loans) glam__arena_rewind(ctx, &ctx->base.step, place);
}

GLAM__OP(recompute, 1, GLAM__OP_FRESH | GLAM__OP_INSIDE);

GLAM_API glam_tensor *glam_recompute(glam_ctx *ctx, glam_block *block, void *arg, glam_tensor *x,
                                     glam_tensor **extra)
{
    glam_tensor *e = NULL, *y;
    int has_extra = 0;
    glam__again a = { block, arg, &has_extra };
    if (extra) *extra = NULL;
    if (ctx && !block) glam_fail(ctx, GLAM_ERR_VALUE, "recompute: no block (NULL)");
    if (!ctx || ctx->error || !x) return NULL;
    y = glam_apply(ctx, &glam__op_recompute, &x, &a, sizeof a, &e);
    if (extra && has_extra) *extra = e;
    return y;
}

// One central difference: the loss with element i of t moved by step either way.
static double glam__difference(glam_ctx *ctx, glam_tensor *(*loss)(glam_ctx *, void *), void *arg,
                               glam_tensor *t, size_t i, double step)
{
    double value[2] = { 0, 0 };
    float keep = t->data[i], moved[2];
    for (int side = 0; side < 2; side++) {
        moved[side] = (float)((double)keep + (side ? -step : step));
        t->data[i] = moved[side];
        glam_forget(ctx);
        glam_tensor *l = loss(ctx, arg);
        value[side] = l ? (double)l->data[0] : 0;
    }
    t->data[i] = keep;
    return (value[0] - value[1]) / ((double)moved[0] - (double)moved[1]);
}

static double glam__check_tensor(glam_ctx *ctx, glam_tensor *(*loss)(glam_ctx *, void *),
                                 void *arg, glam_tensor *t, double step)
{
    size_t n = glam_size(t), picks = n < 64 ? n : 64;
    float grad[64];
    double most = 1e-3, worst = 0;
    glam_forget(ctx);
    if (glam_backward(ctx, loss(ctx, arg)) != GLAM_OK) return 0;
    for (size_t i = 0; i < n && t->grad; i++) most = fmax(most, fabs((double)t->grad[i]));
    for (size_t p = 0; p < picks; p++) grad[p] = t->grad ? t->grad[n * p / picks] : 0;
    for (size_t p = 0; p < picks && !ctx->error; p++) {
        double slope = glam__difference(ctx, loss, arg, t, n * p / picks, step);
        worst = fmax(worst, fabs(slope - (double)grad[p]) / most);
    }
    glam_forget(ctx);
    return worst;
}

GLAM_API double glam_check_grad(glam_ctx *ctx, glam_tensor *(*loss)(glam_ctx *ctx, void *arg),
                                void *arg, glam_tensor *const *wrt, int count, double step)
{
    double worst = 0;
    if (!ctx || ctx->error) return (double)glam_error(ctx);
    if (!loss || !wrt || !glam__within((double)step, 1e-30, 1e30))
        return (double)glam_fail(ctx, GLAM_ERR_VALUE, "check_grad: needs a loss, tensors and a "
                                 "step above 0");
    for (int i = 0; i < count && !ctx->error; i++) {
        if (!wrt[i] || !(wrt[i]->flags & GLAM__LIFE))
            return (double)glam_fail(ctx, GLAM_ERR_VALUE, "check_grad: tensor %d is no parameter; "
                                     "glam_param makes one", i);
        worst = fmax(worst, glam__check_tensor(ctx, loss, arg, wrt[i], step));
    }
    return ctx->error ? (double)ctx->error : worst;
}

/* == 10 products : implementation =========================================================
   What every layer is made of.  C [m,n] = A [m,k] B, where B is a weight, is cut so:

               B [k,n]       panel: nr columns of B, KC rows of it at a time, each row's nr numbers
           +----+----+----+  side by side: a tile reads it from end to end
        KC | p0 | p1 | p2 |
           +----+----+----+  tile: mr rows of A times one panel; all its sums stay in registers
           |    |    |    |  (room 06)
           +----+----+----+
    A [m,k]    C [m,n]       block: rows that stay in the second cache while panels pass by
   +------+ +----+----+----+
   |block | |    :    :    | task: a block of rows, and all panels or a part of them; a task is
   |      | +----+----+----+ the only one to write what it writes
   +------+ |    :    :    |
   |      | +----+----+----+

   - Rows of A are taken as they are, or made on the way in (fill): normalised, gathered, activated.
   - Panels are made once an op where enough rows pay for it (glam__weights), else on the way, each
     by the task that needs it; in passes without training they are kept (options.pack_bytes).
   - A chain is some products that add to one C, KC terms of each in turn; a wide chain has a first
     product before them, which hands its columns over while they are near: a feed-forward.
   - Outer products C += A^T B are the gradients of weights; rows add up in their order.
   - Spans give each expert its own rows of A and C, and its own slice of B.
   - B may have an adapter: its two thin halves take the same way, C = A B + (s A B1) B2, the second
     as one more block of k after the last.
   - In bf16 (options.arithmetic) an element of panels and of copied rows holds two terms of k,
     rounded as they are written there.
   Invariants: a row of the result does not depend on the other rows, nor an element on how tasks
   are cut: it is a chain of multiply-adds over k in order, in blocks of KC (room 05). */

// B of a product: [k,n] row-major with row stride ld, or the transpose of [n,k]; slices are
// the experts.
typedef struct glam__operand {
    const glam__kernels *kernels;  // those that multiply: f32, or bf16
    const float *data, *panels;    // data NULL: narrow
    const void *narrow;            // numbers of bf16, or with scales of q8; laid out as data
    const uint16_t *scales;        // [.., R, blocks of C]
    size_t ld, slice, panel_slice;
    int k, n, transposed;
    const glam__low *low;          // its adapter, or NULL
    float *down;                   // of an adapter: scale A times its first half, [rows,r]
    int made;                      // that is there already
} glam__operand;

// Rows [row, row+rows) of A and C, which use slice number `slice` of B.
typedef struct glam__span { int row, rows, slice; } glam__span;

// C_i [m,n_i] = A [m,k] B_i, for up to three B of one A.
typedef struct glam__product glam__product;
struct glam__product {
    glam_ctx *ctx;
    int m, k;
    const float *a;                // rows as they are, or
    size_t lda;
    int narrow;                    // 1: they are what narrow makes of a row
    // columns [at, at+terms) of those rows, made on the fly
    void (*fill)(const glam__product *p, int row, int rows, int at, int terms, float *out,
                 size_t ld);
    // makes such a piece of a from what the first product of a chain hands over; or NULL
    void (*before)(const glam__product *p, int row, int rows, int at, int terms,
                   const float *handed, size_t ld);
    const void *arg;               // of fill and before
    int parts;
    glam__operand b[3];
    float *c[3];                   // NULL: handed over in a chain
    size_t ldc;
    int skip;                      // columns that C lacks on the left
    int add;                       // 1: C += A B
    const float *base;             // C = base + A B; base has the shape and stride of C
    const glam__span *spans;       // NULL: all rows use slice 0
    int span_count;
    int block, cols, panels;       // set by run: rows per task, column parts, panels in all
    size_t lds, worker_floats;
    float *scratch;
    glam__span whole;
};

static int glam__up(int n, int unit) { return glam__ceil_div(n, unit) * unit; }

static size_t glam__stride(int k)
{
    size_t ld = ((size_t)k + 15) / 16 * 16;
    return ld % 256 ? ld : ld + 16;        // rows a power of two apart fight for one cache set
}

// Rows of A that a task takes: each time around, all of B passes by.
static int glam__product_rows(int k)
{
    int rows = 294912 / glam__max(k, 1) / 48 * 48;
    return glam__max(48, glam__min(rows, 192));
}

static size_t glam__worker_floats(const glam_ctx *ctx, int k)
{
    size_t row = ctx->simd.products->pair > 1 ? glam__stride(k) : 0;  // before it is narrow
    return (size_t)glam__product_rows(k) * glam__stride(k) + row +
           (size_t)GLAM__KC * ctx->simd.kernels->nr;
}

// Scratch of a product with inner size k.
static uint64_t glam__product_bytes(const glam_ctx *ctx, int k)
{ return glam__floats((uint64_t)glam__worker_floats(ctx, k) * ctx->options.threads); }

static int glam__panels_of(const glam_ctx *ctx, int n)
{ return glam__ceil_div(n, ctx->simd.kernels->nr); }

// A weight [.., R, C] as the right operand: [R,C], or transposed [C,R].
static glam__operand glam__operand_of(const glam_ctx *ctx, const glam_tensor *w, int transposed)
{
    glam__operand b;
    int d = w->shape.dims, rows = w->shape.dim[d - 2], cols = w->shape.dim[d - 1];
    b.kernels = w->pack && w->pack->exact ? ctx->simd.kernels : ctx->simd.products;
    b.data = w->data;
    b.narrow = w->narrow;
    b.scales = glam__scales_of(w);
    b.ld = (size_t)cols;
    b.slice = (size_t)rows * cols;
    b.k = transposed ? cols : rows;
    b.n = transposed ? rows : cols;
    b.transposed = transposed;
    b.panel_slice = (size_t)glam__panels_of(ctx, b.n) * ctx->simd.kernels->nr *
                    glam__steps(b.kernels, b.k);
    int fresh = w->pack && w->pack->epoch[transposed] == ctx->products.epoch;
    b.panels = fresh ? w->pack->data[transposed] : NULL;
    b.low = glam__low_of(w);
    b.down = NULL;
    b.made = 0;
    return b;
}

// Weights whose panels are made in one parallel loop: `each` tasks for a slice.
typedef struct glam__packing {
    glam__operand b;
    float *out;
    int panels, each, tasks;
} glam__packing;
typedef struct glam__packings { const glam_ctx *ctx; glam__packing job[4]; } glam__packings;

// The part of B that a panel is made of: cols floats of each of some rows.
typedef struct glam__patch {
    const float *from;             // NULL: nothing
    size_t ld;
    int rows, cols, row, col;      // row, col: the cache line to ask for next
} glam__patch;

// For steps [p,p+terms) of panel j of slice s.
static glam__patch glam__panel_source(const glam__operand *b, int s, int j, int p, int terms)
{
    int nr = b->kernels->nr, col = j * nr, n = glam__min(b->n - col, nr);
    glam__patch of = { NULL, b->ld, b->transposed ? n : terms, b->transposed ? terms : n, 0, 0 };
    if (n > 0 && b->data)
        of.from = b->data + (size_t)s * b->slice +
                  (b->transposed ? (size_t)col * b->ld + p : (size_t)p * b->ld + col);
    return of;
}

// Rows of slice s of a narrow weight, from `row` on, as floats: up to 32 columns of one block.
static void glam__widen_rows(const glam__operand *b, int s, int row, int col, int rows, int cols,
                             float *out, size_t ldo)
{
    size_t from = (size_t)s * (b->slice / b->ld) + (size_t)row, at = from * b->ld + (size_t)col;
    size_t lds = (size_t)glam__blocks_of((int)b->ld);
    b->kernels->widen(rows, cols, (const char *)b->narrow + (b->scales ? at : 2 * at), b->ld,
                      b->scales ? b->scales + from * lds + col / GLAM__Q8_BLOCK : NULL, lds, out,
                      ldo);
}

static void glam__make_panel(const glam__operand *b, int s, int j, int p, int terms, float *out)
{
    glam__patch of = glam__panel_source(b, s, j, p, terms);
    enum { SOME = GLAM__Q8_BLOCK };
    float some[SOME * GLAM__LANES];        // no panel is wider, and a block has whole panels
    for (int q = 0, col = j * b->kernels->nr; q < terms && !b->data; q += SOME) {
        int n = glam__min(terms - q, SOME);
        if (b->transposed) glam__widen_rows(b, s, col, p + q, of.rows, n, some, SOME);
        else glam__widen_rows(b, s, p + q, col, n, of.cols, some, SOME);
        if (b->transposed) glam__pack_panel_t(b->kernels, n, of.rows, some, SOME, out);
        else glam__pack_panel(b->kernels, 0, n, of.cols, some, SOME, out);
        out += glam__steps(b->kernels, n) * b->kernels->nr;
    }
    if (!b->data) return;
    if (b->transposed) glam__pack_panel_t(b->kernels, terms, of.rows, of.from, of.ld, out);
    else glam__pack_panel(b->kernels, 0, terms, of.cols, of.from, of.ld, out);
}

// Where panels lie: by blocks of kc rows of B, in a block panel after panel, so that what follows
// one in memory is what a product takes next.
static size_t glam__panel_at(const glam__operand *b, int panels, int s, int j, int p0)
{
    const glam__kernels *k = b->kernels;
    int block = p0 / k->kc * k->kc, steps = glam__steps(k, glam__min(b->k - block, k->kc));
    size_t before = (size_t)(block / k->pair) * panels + (size_t)j * steps;
    return (size_t)s * b->panel_slice + (before + (size_t)((p0 - block) / k->pair)) * k->nr;
}

// Pairs of B as it lies are made some whole rows at a time, for all panels; else panel by panel: so
// memory is read from end to end.
enum { GLAM__PACKED_ROWS = 32 };

static int glam__packs_rows(const glam__operand *b)
{ return !b->transposed && b->kernels->pair > 1; }

static void glam__pack_unit(const glam__packing *job, int s, int unit)
{
    const glam__operand *b = &job->b;
    int rows = glam__packs_rows(b), most = rows ? GLAM__PACKED_ROWS : b->kernels->kc;
    int count = rows ? job->panels : glam__ceil_div(b->k, most);
    for (int i = 0; i < count; i++) {
        int j = rows ? i : unit, p = (rows ? unit : i) * most;
        glam__make_panel(b, s, j, p, glam__min(b->k - p, most),
                         job->out + glam__panel_at(b, job->panels, s, j, p));
    }
}

static void glam__packing_body(void *arg, int begin, int end, int worker GLAM__UNUSED)
{
    const glam__packings *all = (const glam__packings *)arg;
    for (int i = begin; i < end; i++) {
        const glam__packing *job = all->job;
        int task = i;
        for (; task >= job->tasks; job++) task -= job->tasks;
        glam__pack_unit(job, task / job->each, task % job->each);
    }
}

// A recorded pass uses each panel once between two updates and keeps none.  They live in scratch,
// from glam__weights() to the end of the op, where there are rows enough to pay for making them:
// of an expert, more than a task takes, which else makes its panels on the way.  Narrow ones may
// be twice as many bytes: without them every task makes its own.
enum { GLAM__PANEL_ROWS = 96, GLAM__PANEL_EXPERT_ROWS = 256, GLAM__PANEL_SCRATCH = 32 << 20 };

static int glam__panels_pass(const glam_tensor *w, const glam__operand *b, int rows, uint64_t bytes)
{
    int enough = w->shape.dims == 2 ? rows >= GLAM__PANEL_ROWS
                                    : rows / w->shape.dim[0] > GLAM__PANEL_EXPERT_ROWS;
    return enough && bytes <= (uint64_t)GLAM__PANEL_SCRATCH * (uint64_t)b->kernels->pair;
}

static uint64_t glam__panel_bytes(const glam_tensor *w, const glam__operand *b)
{
    uint64_t slices = w->shape.dims == 3 ? (uint64_t)w->shape.dim[0] : 1;
    return glam__floats(glam__mul(slices, b->panel_slice));
}

// In shape(): asks for panels of w, which the budget may refuse.  What they take of scratch.
static uint64_t glam__want_panels(glam_ctx *ctx, int training, const glam_tensor *w,
                                  int transposed, int rows)
{
    if (!w || w->shape.dims < 2) return 0;
    glam__operand b = glam__operand_of(ctx, w, transposed);
    glam__pack *p = w->pack;
    uint64_t bytes = glam__panel_bytes(w, &b);
    uint64_t scratch = glam__panels_pass(w, &b, rows, bytes) ? bytes : 0;
    if (!p || p->bytes[transposed] || training || w->type ||   // f32 would be read, and kept
        bytes > ctx->options.pack_bytes || ctx->products.bytes > ctx->options.pack_bytes - bytes)
        return scratch;
    if (!ctx->base.measuring) {
        p->block[transposed] = glam__alloc(ctx, (size_t)bytes + GLAM__ALIGN);
        if (!p->block[transposed]) return 0;
        p->data[transposed] = (float *)(void *)glam__aligned(p->block[transposed]);
    }
    if (!p->bytes[0] && !p->bytes[1]) {
        p->before = ctx->products.packs;
        ctx->products.packs = p;
    }
    p->bytes[transposed] = (size_t)bytes;
    p->epoch[transposed] = 0;
    ctx->products.bytes += bytes;
    return scratch;
}

// The same for inputs [first,first+count): as they are in forward, turned round in backward.
static glam_status glam__want_all(glam_ctx *ctx, glam_node *n, int first, int count, int rows)
{
    int training = n->flags & GLAM__NODE_RECORDED, widest = 0;
    uint64_t bytes[2] = { 0, 0 };
    for (int i = first; i < first + count; i++) {          // of adapters, around the products
        const glam_tensor *w = n->in[i];
        if (!w || !glam__low_of(w)) continue;
        for (int d = w->shape.dims - 2; d < w->shape.dims; d++)
            widest = glam__max(widest, w->shape.dim[d]);
    }
    if (widest) n->scratch_bytes += glam__product_bytes(ctx, widest);
    for (int back = 0; back <= training; back++)
        for (int i = first; i < first + count; i++)
            bytes[back] += glam__want_panels(ctx, training, n->in[i], back, rows);
    n->scratch_bytes += glam__larger(bytes[0], bytes[1]);
    return ctx->error;
}

// In forward() and backward() of an op over so many rows: the operands b[0..count) of up to four
// weights (NULL: none), with their panels up to date where they have any.
static void glam__weights(glam_ctx *ctx, glam_tensor *const *w, int count, int transposed,
                          int rows, glam__operand *b)
{
    glam__packings all;
    double work = 0;
    int tasks = 0, jobs = 0;
    all.ctx = ctx;
    for (int i = 0; i < count; i++) {
        glam__packing *job = &all.job[jobs];
        if (!w[i]) continue;
        glam__pack *p = w[i]->pack;
        int slices = w[i]->shape.dims == 3 ? w[i]->shape.dim[0] : 1;
        b[i] = glam__operand_of(ctx, w[i], transposed);
        int kept = p && p->bytes[transposed], fresh = b[i].panels != NULL;
        if (fresh || (!kept && !glam__panels_pass(w[i], &b[i], rows,
                                                  glam__panel_bytes(w[i], &b[i]))))
            continue;
        job->b = b[i];
        job->out = kept ? p->data[transposed]
                        : glam__scratch_floats(ctx, (size_t)slices * b[i].panel_slice);
        job->panels = glam__panels_of(ctx, b[i].n);
        job->each = glam__packs_rows(&b[i]) ? glam__ceil_div(b[i].k, GLAM__PACKED_ROWS)
                                            : job->panels;
        job->tasks = slices * job->each;
        if (kept) p->epoch[transposed] = ctx->products.epoch;
        b[i].panels = job->out;
        tasks += job->tasks;
        work += 4.0 * slices * (double)b[i].panel_slice;
        jobs++;
    }
    if (tasks) glam__parallel(ctx, tasks, work, glam__packing_body, &all);
}

// Asks for the next cache lines of what a panel will soon be made of, between the tiles of the
// panel before.
static void glam__fetch_lines(glam__patch *s, int lines)
{
    if (!s->from) return;
    for (; lines > 0 && s->row < s->rows; lines--) {
        GLAM__FETCH(s->from + (size_t)s->row * s->ld + s->col);
        s->col += 16;
        if (s->col < s->cols) continue;
        s->col = 0;
        s->row++;
    }
}

// The first half of an operand's adapter, or the second: A and B, or turned B^T and A^T.
static glam__operand glam__low_half(const glam_ctx *ctx, const glam__operand *b, int second)
{
    const glam__low *low = b->low;
    glam__operand half = glam__operand_of(ctx, second == b->transposed ? low->a : low->b,
                                          b->transposed);
    half.kernels = second ? ctx->simd.kernels : b->kernels;
    return half;
}

// C += what the first half made, times panel j of the second, always in f32.
static void glam__low_panel(const glam_ctx *ctx, const glam__operand *b, const glam__span *s, int j,
                            int n, float *c, size_t ldc, float *panel)
{
    glam__operand half = glam__low_half(ctx, b, 1);
    const glam__kernels *k = half.kernels;
    for (int p0 = 0; p0 < half.k; p0 += GLAM__KC) {
        int terms = glam__min(half.k - p0, GLAM__KC);
        glam__make_panel(&half, s->slice, j, p0, terms, panel);
        k->panel(s->rows, n, terms, b->down + (size_t)s->row * half.k + p0, (size_t)half.k, panel,
                 (size_t)k->nr, c, ldc, 1);
    }
}

// Panels that one() takes at a time: whole blocks of q8, whole vectors of words.
static int glam__one_unit(const glam__kernels *k) { return glam__max(GLAM__Q8_BLOCK / k->nr, 2); }

// Panels from number j on, of at most so many, that one row meets as B lies, and does here; or 0.
static int glam__one_panels(const glam__product *p, const glam__operand *b, const glam__span *s,
                            const float *a, int p0, int terms, int j, int most, float *c)
{
    const glam__kernels *k = b->kernels;
    int unit = b->transposed ? 1 : glam__one_unit(k), T = b->data ? 1 : b->scales ? 4 : 2;
    int panels = glam__min(b->n / k->nr - j, most) / unit * unit, col = j * k->nr;
    if (s->rows != 1 || b->panels || k->pair > 1 || !k->one || panels <= 0 || j % unit ||
        (b->transposed && b->k % T)) return 0;
    size_t row = (size_t)s->slice * (b->slice / b->ld) + (size_t)(b->transposed ? col : p0);
    size_t first = (size_t)(b->transposed ? p0 : col), at = (row * b->ld + first) * 4 / (size_t)T;
    size_t lds = (size_t)glam__blocks_of((int)b->ld);
    const uint16_t *scales = b->scales ? b->scales + row * lds + first / GLAM__Q8_BLOCK : NULL;
    const char *from = (b->data ? (const char *)b->data : (const char *)b->narrow) + at;
    if (p->base && p0 == 0)
        memcpy(c, p->base + (size_t)s->row * p->ldc + col, sizeof *c * (size_t)(panels * k->nr));
    (b->transposed ? k->one_t : k->one)(T, terms, panels * k->nr, a, from, b->ld, scales, lds, c,
                                        p->add || p->base || p0 > 0);
    return panels;
}

// Where part number `part` of all panels begins: where one row may come, with a unit of one().
static int glam__part_begins(const glam__product *p, int part, int parts)
{
    int at = (int)((int64_t)p->panels * part / parts), unit = glam__one_unit(p->b[0].kernels);
    return part < parts && p->m <= p->span_count ? at / unit * unit : at;
}

// Panels [from,to) of the parts laid side by side, for one block of rows and `terms` steps of k
// from p0 on.
static void glam__product_panels(const glam__product *p, const glam__span *s, const float *a,
                                 size_t lda, int p0, int terms, int from, int to, float *panel)
{
    const glam__kernels *k = p->b[0].kernels;
    int first = 0, base = p->base && p0 == 0;
    for (int i = 0; i < p->parts; i++) {
        const glam__operand *b = &p->b[i];
        int panels = glam__panels_of(p->ctx, b->n);
        for (int j = from > first ? from - first : 0; j < panels && first + j < to; j++) {
            int col = j * k->nr, n = glam__min(b->n - col, k->nr);
            float *c = p->c[i] + (size_t)s->row * p->ldc + (col - p->skip);
            const float *values = panel;
            size_t ldb = (size_t)k->nr;
            int most = glam__min(panels, to - first) - j;
            int done = glam__one_panels(p, b, s, a, p0, terms, j, most, c);
            for (int q = 0; q < done && b->low && p0 + terms == b->k; q++)
                glam__low_panel(p->ctx, b, s, j + q, k->nr, c + q * k->nr, p->ldc, panel);
            if (done) {
                j += done - 1;
                continue;
            }
            if (b->panels) {
                values = b->panels + glam__panel_at(b, panels, s->slice, j, p0);
            } else if (b->data && !b->transposed && n == k->nr && s->rows <= 2 * k->mr &&
                       k->pair == 1) {
                values = b->data + (size_t)s->slice * b->slice +    // too few rows to pay
                         (size_t)p0 * b->ld + col;                  // for packing
                ldb = b->ld;
            } else {
                glam__make_panel(b, s->slice, j, p0, terms, panel);
            }
            for (int r = 0; r < s->rows && base; r++)
                memcpy(c + (size_t)r * p->ldc, p->base + (size_t)(s->row + r) * p->ldc + col,
                       (size_t)n * sizeof(float));
            int some = b->panels || s->rows <= 2 * k->mr ? s->rows : 2 * k->mr;
            int lines = some < s->rows ? terms * k->nr / 16 * some / s->rows + 1 : 0;
            glam__patch soon = glam__panel_source(b, s->slice, j + 1, p0, terms);
            if (b->panels) soon.from = NULL;
            for (int r = 0; r < s->rows; r += some) {
                int rows = glam__min(s->rows - r, some);
                glam__fetch_lines(&soon, lines);
                k->panel(rows, n, terms, a + (size_t)r * lda, lda, values, ldb,
                         c + (size_t)r * p->ldc, p->ldc, p->add || p->base || p0 > 0);
            }
            if (b->low && p0 + terms == b->k)
                glam__low_panel(p->ctx, b, s, j, n, c, p->ldc, panel);
        }
        first += panels;
    }
}

// The rows of A that a task takes, as its kernels take them: as they are, or made in `rows`, where
// behind narrow ones is room for one as it was.
static const float *glam__product_take(const glam__product *p, const glam__span *s, float *rows,
                                       size_t *lda)
{
    const glam__kernels *k = p->b[0].kernels;
    float *one = rows + (size_t)p->block * p->lds;
    int made = p->fill || (k->pair > 1 && !p->narrow);
    *lda = made ? p->lds : p->lda;
    if (p->fill && k->pair == 1) p->fill(p, s->row, s->rows, 0, p->k, rows, p->lds);
    for (int r = s->row; r < s->row + s->rows && made && k->pair > 1; r++) {
        if (p->fill) p->fill(p, r, 1, 0, p->k, one, (size_t)p->k);
        k->narrow(p->k, p->fill ? one : p->a + (size_t)r * p->lda,
                  rows + (size_t)(r - s->row) * p->lds);
    }
    return made ? rows : p->a + (size_t)s->row * p->lda;
}

// The same for all of k: in blocks, so that one of A stays near while B passes by.
static void glam__product_block(const glam__product *p, const glam__span *s, int from, int to,
                                float *scratch)
{
    size_t lda;
    float *panel = scratch, *rows = scratch + (size_t)GLAM__KC * p->ctx->simd.kernels->nr;
    const float *a = glam__product_take(p, s, rows, &lda);
    int some = s->rows == 1 && p->b[0].transposed ? 1 : to - from;     // rows of B, end to end
    int kc = p->b[0].kernels->kc;
    for (; from < to; from += some)
        for (int p0 = 0; p0 == 0 || p0 < p->k; p0 += kc)
            glam__product_panels(p, s, a + p0 / p->b[0].kernels->pair, lda, p0,
                                 glam__min(p->k - p0, kc), from, from + some, panel);
}

// Spans are cut into blocks of at most p->block rows, as even as they can be.  Which block of which
// span is number t; rows 0 when there is none.
static glam__span glam__find_block(const glam__product *p, int t)
{
    glam__span found = { 0, 0, 0 };
    for (int i = 0; i < p->span_count; i++) {
        int rows = p->spans[i].rows, blocks = glam__ceil_div(rows, p->block), each;
        if (t >= blocks) {
            t -= blocks;
            continue;
        }
        each = glam__up(glam__ceil_div(rows, blocks), p->b[0].kernels->mr);
        found = p->spans[i];
        found.row += t * each;
        found.rows = glam__min(rows - t * each, each);
        GLAM_ASSERT(found.rows > 0);       // blocks are whole tiles
        break;
    }
    return found;
}

static void glam__product_body(void *arg, int begin, int end, int worker)
{
    const glam__product *p = (const glam__product *)arg;
    glam__hold(p->b[0].kernels, 1);
    for (int t = begin; t < end; t++) {
        int part = t % p->cols;
        glam__span s = glam__find_block(p, t / p->cols);
        int from = glam__part_begins(p, part, p->cols);
        int to = glam__part_begins(p, part + 1, p->cols);
        if (s.rows)
            glam__product_block(p, &s, from, to, p->scratch + (size_t)worker * p->worker_floats);
    }
    glam__hold(p->b[0].kernels, 0);
}

// fill() for rows whose stride would make them fight for one cache set.
static void glam__fill_copy(const glam__product *p, int row, int rows, int at, int terms,
                            float *out, size_t ld)
{
    for (int r = 0; r < rows; r++)
        memcpy(out + (size_t)r * ld, p->a + (size_t)(row + r) * p->lda + at,
               (size_t)terms * sizeof(float));
}

static void glam__product_ready(glam_ctx *ctx, glam__product *p)
{
    p->ctx = ctx;
    p->lds = glam__stride(glam__steps(p->b[0].kernels, p->k));
    p->worker_floats = glam__worker_floats(ctx, p->k);
    p->block = glam__product_rows(p->k);
    p->panels = 0;
    for (int i = 0; i < p->parts; i++) p->panels += glam__panels_of(ctx, p->b[i].n);
    if (p->span_count > 0 && p->spans != &p->whole) return;
    p->whole.rows = p->m;
    p->spans = &p->whole;
    p->span_count = 1;
}

static int glam__block_count(const glam__product *p)
{
    int blocks = 0;
    for (int i = 0; i < p->span_count; i++)
        blocks += glam__ceil_div(p->spans[i].rows, p->block);
    return blocks;
}

enum { GLAM__BLOCK_ROWS = 48 };        // fewer do not pay for a look at B

// All of B passes by for each block of rows: few blocks, but as many for every worker.
static void glam__cut_rows(const glam_ctx *ctx, glam__product *p, int most)
{
    int workers = ctx->options.threads, tasks = glam__up(glam__ceil_div(p->m, most), workers);
    p->block = p->m ? glam__up(glam__ceil_div(p->m, tasks), p->b[0].kernels->mr) : 0;
    if (p->block < GLAM__BLOCK_ROWS) p->block = GLAM__BLOCK_ROWS;
}

static void glam__low_make(glam_ctx *ctx, glam__product *p);

static void glam__product_run(glam_ctx *ctx, glam__product *p)
{
    size_t used = ctx->scratch.used;
    glam__low_make(ctx, p);
    glam__product_ready(ctx, p);
    p->scratch = glam__scratch_floats(ctx, p->worker_floats * (size_t)ctx->options.threads);
    int narrow = p->b[0].kernels->pair > 1;                // then A is copied by each task
    if (!p->fill && !narrow && p->lda % 1024 == 0 && p->m >= p->block) p->fill = glam__fill_copy;
    // panels made at each use: better each by one task, over all rows
    int apart = p->spans == &p->whole && !p->b[0].panels && !p->fill && !narrow &&
                p->m > p->block;
    if (apart) p->block = p->m;
    else glam__cut_rows(ctx, p, glam__min(p->block, 128));
    int blocks = glam__block_count(p), workers = ctx->options.threads;
    int each = narrow || p->m == 1 ? 2 : 8;
    p->cols = blocks && blocks < workers ? glam__ceil_div(each * workers, blocks) : 1;
    if (apart) p->cols = p->panels;
    if (p->cols > p->panels) p->cols = p->panels;
    glam__parallel(ctx, blocks * p->cols, (double)p->m * p->k * p->panels * ctx->simd.kernels->nr,
                   glam__product_body, p);
    ctx->scratch.used = used;
}

// A parallel loop over rows, in chunks of a fixed number.
typedef struct glam__each {
    void (*row)(void *arg, int row, int worker);
    void *arg;
    int rows, chunk;
} glam__each;

static void glam__each_body(void *arg, int begin, int end, int worker)
{
    const glam__each *e = (const glam__each *)arg;
    int last = glam__min(end * e->chunk, e->rows);
    for (int r = begin * e->chunk; r < last; r++) e->row(e->arg, r, worker);
}

// work: operations of one row.
static void glam__each_row(glam_ctx *ctx, int rows, double work, void (*row)(void *, int, int),
                           void *arg)
{
    glam__each e = { row, arg, rows, 32 };
    glam__parallel(ctx, glam__ceil_div(rows, e.chunk), work * rows, glam__each_body, &e);
}

// ---- the first half of adapters

// Of part i of a product whose rows of A are at hand: a product of its own, over as many columns as
// the adapter has ranks.
static glam__product glam__low_product(const glam_ctx *ctx, const glam__product *p, int i)
{
    glam__product q = *p;
    q.b[0] = glam__low_half(ctx, &p->b[i], 0);
    q.c[0] = p->b[i].down;
    q.ldc = (size_t)q.b[0].n;
    q.parts = 1;
    q.skip = q.add = 0;
    q.base = NULL;
    q.before = NULL;
    return q;
}

// Before the product itself, unless it is there already.
static void glam__low_make(glam_ctx *ctx, glam__product *p)
{
    for (int i = 0; i < p->parts; i++) {
        if (!p->b[i].low || p->b[i].made) continue;
        glam__product q = glam__low_product(ctx, p, i);
        glam__product_run(ctx, &q);
        for (int r = 0; r < p->m; r++)
            ctx->simd.kernels->scale(q.b[0].n, p->b[i].low->scale, q.c[0] + (size_t)r * q.ldc);
        p->b[i].made = 1;
    }
}

// Block by block of k, in a chain that makes its rows on the way.
static void glam__low_block(const glam__product *p, const glam__span *s, const float *a, size_t lda,
                            int p0, int terms, float *panel)
{
    if (!p->b[0].low || p->b[0].made) return;
    glam__product q = glam__low_product(p->ctx, p, 0);
    glam__product_panels(&q, s, a, lda, p0, terms, 0, glam__panels_of(p->ctx, q.b[0].n), panel);
    for (int r = s->row; r < s->row + s->rows && p0 + terms == p->k; r++)
        p->ctx->simd.kernels->scale(q.b[0].n, p->b[0].low->scale, q.c[0] + (size_t)r * q.ldc);
}

// Products over the same rows that add up to one C: C = A_1 B_1 + A_2 B_2 + ..., in blocks of
// GLAM__KC terms of each in turn.  A wide chain has a product before them, which makes such a
// block of columns at a time and hands them over while they are near: the layers of a feed-forward.
typedef struct glam__chain {
    const glam__product *p;
    int count, wide, cols;
    size_t floats, first;          // of a worker's share, of it for rows of the first product
    float *scratch;
} glam__chain;

enum { GLAM__HANDED_LD = GLAM__KC + 16 };

// Rows of a task: what it touches between two looks at a weight stays in L2.  More of them where
// panels are made on the way.
static int glam__chain_rows(int k, int n, int packed)
{
    int most = packed ? 128 : 256;
    int rows = (packed ? 294912 : 442368) / (k + n + 3 * GLAM__KC) / 24 * 24;
    return glam__max(48, glam__min(rows, most));
}

static size_t glam__chain_floats(const glam_ctx *ctx, int k)
{
    size_t rows = (size_t)glam__up(glam__chain_rows(k, k, 0), 48);
    size_t narrow = ctx->simd.products->pair > 1 ? rows * GLAM__HANDED_LD + glam__stride(k) : 0;
    return rows * (glam__stride(k) + GLAM__HANDED_LD) + (size_t)GLAM__KC * ctx->simd.kernels->nr +
           narrow;
}

// Scratch of a wide chain over T rows from width k to H and back, its short form included.
static uint64_t glam__chain_bytes(const glam_ctx *ctx, uint64_t T, int k, int H)
{
    uint64_t workers = (uint64_t)ctx->options.threads, few = GLAM__BLOCK_ROWS * workers;
    return glam__floats(glam__chain_floats(ctx, k) * workers) + glam__product_bytes(ctx, k) +
           glam__floats(glam__lesser(T, few) * (uint64_t)H);
}

static uint64_t glam__chain_apart_bytes(const glam_ctx *ctx, uint64_t T, int k, int H)
{ return glam__product_bytes(ctx, k) + glam__floats(glam__mul(T, (uint64_t)H)); }

// Columns [at, at+terms) of the first product, into `handed` unless it has a C of its own.
static void glam__chain_first(const glam__product *p, const glam__span *s, int at, int terms,
                              const float *a, size_t lda, float *handed, float *panel)
{
    glam__product piece = *p;
    glam__span here = *s;
    int panels = glam__panels_of(p->ctx, p->b[0].n), nr = p->ctx->simd.kernels->nr;
    int kc = p->b[0].kernels->kc;
    if (!p->c[0]) {
        piece.c[0] = handed;
        piece.ldc = GLAM__HANDED_LD;
        piece.skip = at;
        here.row = 0;
        if (p->b[0].down) piece.b[0].down += (size_t)s->row * glam__low_half(p->ctx, p->b, 0).n;
    }
    for (int i = 0; i < p->parts; i++)
        for (int p0 = 0; p0 < p->k; p0 += kc)
            glam__product_panels(&piece, &here, a + p0 / p->b[0].kernels->pair, lda, p0,
                                 glam__min(p->k - p0, kc), i * panels + at / nr,
                                 i * panels + glam__up(at + terms, nr) / nr, panel);
}

static void glam__chain_block(const glam__chain *c, const glam__span *s, int from, int to,
                              float *panel)
{
    const glam__product *p = c->p, *last = c->p + c->count;
    const glam__kernels *kernels = p->b[0].kernels;
    float *rows = panel + (size_t)GLAM__KC * p->ctx->simd.kernels->nr, *handed = rows + c->first;
    float *narrow = handed + (size_t)p->block * GLAM__HANDED_LD;
    int k = p[c->wide].k;
    size_t lda = 0, ld = GLAM__HANDED_LD;
    const float *a0 = c->wide ? glam__product_take(p, s, rows, &lda) : NULL;
    for (int at = 0; at < k; at += GLAM__KC) {
        int terms = glam__min(k - at, GLAM__KC);
        if (c->wide)
            glam__chain_first(p, s, at, terms, a0, lda, handed, panel);
        for (const glam__product *q = p + c->wide; q < last; q++) {
            if (at >= q->k) continue;                      // later ones may be less wide
            terms = glam__min(q->k - at, GLAM__KC);
            const float *a = q->fill ? handed
                                     : q->a + (size_t)s->row * q->lda + (at >> q->narrow);
            size_t step = q->fill ? ld : q->lda;
            if (q->before) q->before(q, s->row, s->rows, at, terms, handed, ld);
            if (q->fill) q->fill(q, s->row, s->rows, at, terms, handed, ld);
            if (kernels->pair > 1 && !q->narrow) {
                glam__narrow_block(kernels, s->rows, terms, a, step, narrow, ld);
                a = narrow;
                step = ld;
            }
            glam__low_block(q, s, a, step, at, terms, panel);
            glam__product_panels(q, s, a, step, at, terms, from, to, panel);
        }
    }
}

static void glam__chain_body(void *arg, int begin, int end, int worker)
{
    const glam__chain *c = (const glam__chain *)arg;
    const glam__product *last = &c->p[c->count - 1];
    glam__hold(c->p->b[0].kernels, 1);
    for (int t = begin; t < end; t++) {
        int part = t % c->cols;
        glam__span s = glam__find_block(c->p, t / c->cols);
        if (s.rows)
            glam__chain_block(c, &s, glam__part_begins(last, part, c->cols),
                              glam__part_begins(last, part + 1, c->cols),
                              c->scratch + (size_t)worker * c->floats);
    }
    glam__hold(c->p->b[0].kernels, 0);
}

// What lies between the first product and the others, row by row and for all columns.
typedef struct glam__between { const glam__product *next; float *made; } glam__between;

static void glam__between_row(void *arg, int row, int worker GLAM__UNUSED)
{
    const glam__between *b = (const glam__between *)arg;
    const glam__product *q = b->next;
    float *made = b->made + (size_t)row * q->k;
    for (int at = 0; at < q->k; at += GLAM__KC) {
        int terms = glam__min(q->k - at, GLAM__KC);
        if (q->before) q->before(q, row, 1, at, terms, made + at, (size_t)q->k);
        if (q->fill) q->fill(q, row, 1, at, terms, made + at, (size_t)q->k);
    }
}

// The first product by itself, cut by columns, and what lies behind it: for too few rows to give
// every worker some, and where nobody wants what the others would make.
static void glam__chain_apart(glam_ctx *ctx, glam__product *p)
{
    glam__product *q = p + 1;
    glam__between b = { q, glam__scratch_floats(ctx, (size_t)p->m * q->k) };
    if (!p->c[0]) {
        p->c[0] = b.made;
        p->ldc = (size_t)q->k;
    }
    glam__product_run(ctx, p);
    glam__each_row(ctx, p->m, 16.0 * q->k, glam__between_row, &b);
    if (q->fill) {
        q->a = b.made;
        q->lda = (size_t)q->k;
    }
    q->before = NULL;
    q->fill = NULL;
}

// p[0..count): the products of a chain; wide 1: the first makes what the others take.  A wide chain
// of one ends with what p[1] does before its product.
static void glam__chain_run(glam_ctx *ctx, glam__product *p, int count, int wide)
{
    size_t used = ctx->scratch.used;
    if (wide && count == 1) {
        glam__chain_apart(ctx, p);
        ctx->scratch.used = used;
        return;
    }
    int workers = ctx->options.threads;
    double work = 0;
    for (int i = 0; i < (wide ? 1 : count); i++) glam__low_make(ctx, &p[i]);
    for (int i = 0; i < count; i++) {
        glam__product_ready(ctx, &p[i]);
        work += (double)p[i].m * p[i].k * p[i].panels * ctx->simd.kernels->nr;
    }
    glam__cut_rows(ctx, p, glam__chain_rows(p->k, p[count - 1].b[0].n, p->b[0].panels != NULL));
    int blocks = glam__block_count(p);
    if (wide && (blocks < workers || p->m == 1) && p->block == GLAM__BLOCK_ROWS) {
        glam__chain_apart(ctx, p);
        p[1].block = p->block;
        p++, count--, wide = 0;
        for (int i = 0; i < count; i++) glam__low_make(ctx, &p[i]);
    }
    glam__chain c = { p, count, wide, 1, 0, 0, NULL };
    if (!wide && blocks) c.cols = glam__ceil_div(2 * workers, blocks);
    if (c.cols > p->panels) c.cols = p->panels;
    int narrow = p->b[0].kernels->pair > 1;
    c.first = wide && (p->fill || narrow) ? (size_t)p->block * p->lds : 0;
    if (wide && narrow) c.first += glam__stride(p->k);
    c.floats = c.first + (size_t)p->block * GLAM__HANDED_LD * (1 + narrow) +
               (size_t)GLAM__KC * ctx->simd.kernels->nr;
    c.scratch = glam__scratch_floats(ctx, c.floats * (size_t)workers);
    glam__parallel(ctx, blocks * c.cols, work, glam__chain_body, &c);
    ctx->scratch.used = used;
}

static glam__product glam__product_new(int m, int k)
{
    glam__product p;
    memset(&p, 0, sizeof p);
    p.m = m;
    p.k = k;
    return p;
}

// C [m,n] = or += A [m,k] B.
static glam__product glam__product_of(int m, const float *a, size_t lda, glam__operand b, float *c,
                                      size_t ldc, int add)
{
    glam__product p = glam__product_new(m, b.k);
    p.a = a; p.lda = lda;
    p.parts = 1;
    p.b[0] = b;
    p.c[0] = c; p.ldc = ldc;
    p.add = add;
    return p;
}

// C_s [m,n] = or += A_s^T B_s with A [rows,m], B [rows,n]: the gradient of a weight.  Rows add up
// in their order, whoever owns the element.
typedef struct glam__outer {
    int m, n;
    const float *a, *b;
    size_t lda, ldb;
    int narrow_a, narrow_b;        // 1: rows of it are what narrow makes of them
    float *c;                      // NULL: no gradient is wanted
    size_t ldc, slice;             // C's row stride, and elements from one expert to the next
    int add, exact;                // exact: see glam__pack
    const glam__span *spans;       // NULL: whole
    int span_count, panels, parts, cols;   // set by run: panels of B, and what tasks they make
    glam__span whole;
} glam__outer;

typedef struct glam__outers {
    const glam_ctx *ctx;
    const glam__outer *list;
    float *scratch;
    size_t worker_floats;
} glam__outers;

// Columns and rows of A that a task copies together, at most, and the stride of the copy: it stays
// in L2 while the panels of B pass by, where A's own rows lie pages apart.  Two blocks of
// GLAM__KC rows each: a panel of C is still near when the second adds to it.  How many rows of C a
// call of the kernel makes: whole tiles of every instruction set.  And for tiles the stride of the
// copy, turned: both blocks as pairs; and how many panels are made together.
enum { GLAM__OUTER_M = 512, GLAM__OUTER_LD = GLAM__OUTER_M + 16, GLAM__OUTER_ROWS = 2 * GLAM__KC,
       GLAM__OUTER_CALL = 24, GLAM__OUTER_TURNED_LD = GLAM__KC + 16, GLAM__OUTER_PANELS = 4 };

static size_t glam__outer_panel_floats(const glam__kernels *k)
{ return (size_t)GLAM__KC * k->nr * (k->panel_t ? 1 : GLAM__OUTER_PANELS); }

static size_t glam__outer_floats(const glam_ctx *ctx)
{
    return glam__outer_panel_floats(ctx->simd.products) +
           (size_t)GLAM__OUTER_ROWS * GLAM__OUTER_LD;
}

static uint64_t glam__outer_bytes(const glam_ctx *ctx)
{ return glam__floats((uint64_t)glam__outer_floats(ctx) * ctx->options.threads); }

// C (+)= A^T B for columns [first,last) of some rows, at most GLAM__OUTER_ROWS: m columns of A,
// copied.
static void glam__outer_panels(const glam__kernels *k, const glam__outer *o, size_t at, int rows,
                               const float *a, size_t lda, int m, int first, int last, float *c,
                               int add, float *panel)
{
    for (int j = first; j < last; j += k->nr)
        for (int r = 0; r < rows; r += GLAM__KC) {
            int n = glam__min(last - j, k->nr), some = glam__max(GLAM__OUTER_CALL, 2 * k->mr);
            int terms = glam__min(rows - r, GLAM__KC), more = r + terms < rows;
            const float *first_b = o->b + at * o->ldb + (j >> o->narrow_b);
            const float *b = first_b + (size_t)r * o->ldb;
            glam__patch soon = { NULL, o->ldb, terms, k->nr >> o->narrow_b, 0, 0 };
            if (more) soon.from = b + (size_t)terms * o->ldb;
            else if (j + k->nr < last) soon.from = first_b + soon.cols;
            const float *ar = a + (size_t)(r / k->pair) * lda;
            glam__pack_panel(k, o->narrow_b, terms, n, b, o->ldb, panel);
            for (int i = 0; i < m; i += some) {
                glam__fetch_lines(&soon, terms * k->nr / 16 * some / m + 1);
                k->panel_t(glam__min(m - i, some), n, terms, ar + i, lda, panel, (size_t)k->nr,
                           c + (size_t)i * o->ldc + j, o->ldc, add || r > 0);
            }
        }
}

// The same for tiles, A turned.  They are done before memory is: some panels are made together, 16
// rows at a time, while it is asked for the next 16.
static void glam__outer_tiles(const glam__kernels *k, const glam__outer *o, size_t at, int rows,
                              const float *a, size_t lda, int m, int first, int last, float *c,
                              int add, float *panel)
{
    enum { SOME = 16 };
    size_t nr = (size_t)k->nr, steps = (size_t)glam__steps(k, rows);
    for (int j = first; j < last; j += GLAM__OUTER_PANELS * k->nr) {
        int n = glam__min(last - j, GLAM__OUTER_PANELS * k->nr);
        const float *b = o->b + at * o->ldb + (j >> o->narrow_b);
        for (int r = 0; r < rows; r += SOME, b += SOME * o->ldb) {
            int terms = glam__min(rows - r, SOME), more = glam__min(rows - r - terms, SOME);
            glam__patch soon = { more ? b + SOME * o->ldb : NULL, o->ldb, more, n >> o->narrow_b,
                                 0, 0 };
            glam__fetch_lines(&soon, SOME * GLAM__OUTER_PANELS * GLAM__LANES / 16);
            for (int q = 0; q < n; q += k->nr)
                glam__pack_panel(k, o->narrow_b, terms, glam__min(n - q, k->nr),
                                 b + (q >> o->narrow_b), o->ldb,
                                 panel + (size_t)q * steps + (size_t)(r / k->pair) * nr);
        }
        for (int q = 0; q < n; q += k->nr)
            k->panel(m, glam__min(n - q, k->nr), rows, a, lda, panel + (size_t)q * steps, nr,
                     c + j + q, o->ldc, add);
    }
}

// The first column of A of part number `part`: where a pair begins.
static int glam__outer_begins(const glam__outer *o, int part)
{ return part < o->parts ? glam__up((int)((int64_t)o->m * part / o->parts), 2) : o->m; }

static void glam__outer_task(const glam__kernels *k, const glam__outer *o, int t, float *panel)
{
    const glam__span *s = &o->spans[t / (o->cols * o->parts)];
    float *copy = panel + glam__outer_panel_floats(k);
    int part = t / o->cols % o->parts, col = t % o->cols;
    int from = glam__outer_begins(o, part), m = glam__outer_begins(o, part + 1) - from;
    int first = (int)((int64_t)o->panels * col / o->cols) * k->nr;
    int last = (int)((int64_t)o->panels * (col + 1) / o->cols) * k->nr;
    float *c = o->c + (size_t)s->slice * o->slice + (size_t)from * o->ldc;
    if (last > o->n) last = o->n;
    for (int i = 0; i < m && !s->rows && !o->add; i++)
        memset(c + (size_t)i * o->ldc + first, 0, (size_t)(last - first) * sizeof(float));
    for (int r0 = 0; r0 < s->rows; r0 += GLAM__OUTER_ROWS) {
        int rows = glam__min(s->rows - r0, GLAM__OUTER_ROWS), add = o->add || r0 > 0;
        size_t at = (size_t)(s->row + r0), lda = o->lda;
        const float *a = o->a + at * lda + (from >> o->narrow_a);
        if (!k->panel_t) {
            glam__narrow_turned(k, o->narrow_a, rows, m, a, lda, copy, GLAM__OUTER_TURNED_LD);
            glam__outer_tiles(k, o, at, rows, copy, GLAM__OUTER_TURNED_LD, m, first, last, c, add,
                              panel);
            continue;
        }
        if (k->pair > 1) {
            glam__pair_up(k, o->narrow_a, rows, m, a, lda, copy, GLAM__OUTER_LD);
            a = copy;
            lda = GLAM__OUTER_LD;
        } else if (last - first > k->nr) {
            for (int i = 0; i < rows; i++)
                memcpy(copy + (size_t)i * GLAM__OUTER_LD, a + (size_t)i * lda,
                       (size_t)m * sizeof(float));
            a = copy;
            lda = GLAM__OUTER_LD;
        }
        glam__outer_panels(k, o, at, rows, a, lda, m, first, last, c, add, panel);
    }
}

static void glam__outer_body(void *arg, int begin, int end, int worker)
{
    const glam__outers *all = (const glam__outers *)arg;
    glam__hold(all->ctx->simd.products, 1);
    for (int t = begin; t < end; t++) {
        const glam__outer *o = all->list;
        int task = t;
        for (; task >= o->span_count * o->parts * o->cols; o++)
            task -= o->span_count * o->parts * o->cols;
        glam__outer_task(o->exact ? all->ctx->simd.kernels : all->ctx->simd.products, o, task,
                         all->scratch + (size_t)worker * all->worker_floats);
    }
    glam__hold(all->ctx->simd.products, 0);
}

// All in one parallel loop: single ones may be too small to share out.
static void glam__outer_run(glam_ctx *ctx, glam__outer *o, int count)
{
    size_t used = ctx->scratch.used;
    glam__outers all = { ctx, o, NULL, glam__outer_floats(ctx) };
    int tasks = 0;
    double work = 0;
    all.scratch = glam__scratch_floats(ctx, all.worker_floats * (size_t)ctx->options.threads);
    for (; count > 0; count--, o++) {
        if (!o->spans) o->spans = &o->whole;
        o->panels = glam__panels_of(ctx, o->n);
        o->parts = glam__ceil_div(o->m, GLAM__OUTER_M);
        o->cols = 1;
        while (o->c && o->span_count * o->parts * o->cols < 2 * ctx->options.threads) {
            int m = o->m / o->parts, n = o->n / o->cols;   // few: each copies its A and packs its B
            if (m >= n && m >= 256) o->parts *= 2;
            else if (n >= 256) o->cols *= 2;
            else break;
        }
        if (!o->c) o->parts = 0;
        tasks += o->span_count * o->parts * o->cols;
        for (int i = 0; i < o->span_count && o->c; i++)
            work += (double)o->spans[i].rows * o->m * o->n;
    }
    glam__parallel(ctx, tasks, work, glam__outer_body, &all);
    ctx->scratch.used = used;
}

// dW (+)= A^T B over rows 0..rows-1, for a weight [m,n].
static glam__outer glam__outer_of(glam_tensor *w, int rows, const float *a, size_t lda,
                                  const float *b, size_t ldb)
{
    glam__outer o;
    memset(&o, 0, sizeof o);
    o.c = w ? glam__grad_of(w, &o.add) : NULL;
    o.whole.rows = rows;
    o.exact = w && w->pack && w->pack->exact;
    o.m = w ? w->shape.dim[w->shape.dims - 2] : 0;
    o.n = w ? w->shape.dim[w->shape.dims - 1] : 0;
    o.a = a; o.lda = lda;
    o.b = b; o.ldb = ldb;
    o.ldc = (size_t)o.n;
    o.span_count = 1;
    return o;
}

// ---- linear maps: how the layers meet their weights

// Up to four weights over the same rows, y = x W, dx = dy W^T, dW = x^T dy: [k,n], or [E,k,n] where
// each span of rows has a slice of its own, an expert's.  turned: the operands are W^T, for
// backward, or where a weight lies the other way (the embedding, as the last layer).
typedef struct glam__linear {
    glam_ctx *ctx;
    glam_tensor *const *w;         // inputs of an op; NULL: not there
    int rows, span_count;
    const glam__span *spans;       // NULL: one slice for all rows
    glam__operand b[4];
    float *down[4];                // of adapters: s x A, made in forward    [rows,r]
} glam__linear;

static glam__linear glam__linear_of(glam_ctx *ctx, glam_tensor *const *w, int count, int turned,
                                    int rows)
{
    glam__linear l;
    memset(&l, 0, sizeof l);
    l.ctx = ctx;
    l.w = w;
    l.rows = rows;
    glam__weights(ctx, w, count, turned, rows, l.b);
    return l;
}

// Floats for what the adapters of some weights make of so many rows.
static uint64_t glam__low_floats(glam_tensor *const *w, int count, uint64_t rows)
{
    uint64_t ranks = 0;
    for (int i = 0; i < count; i++) ranks += (uint64_t)glam__low_rank(w[i]);
    return glam__mul(rows, ranks);
}

// Gives the adapters their memory: s x A, made in forward and read in backward; and there the same
// of dy, s dy B^T.
static void glam__linear_low(glam__linear *l, int count, int rows, float *down, float *back)
{
    for (int i = 0; i < count; i++) {
        size_t n = (size_t)rows * (size_t)glam__low_rank(l->w[i]);
        if (!n) continue;
        l->down[i] = down;
        l->b[i].down = back ? back : down;
        down += n;
        if (back) back += n;
    }
}

// C = or += A times operand i, rows side by side; for a product of its own or in a chain.
static glam__product glam__linear_times(const glam__linear *l, int i, const float *a, float *c,
                                        int add)
{
    const glam__operand *b = &l->b[i];
    glam__product p = glam__product_of(l->rows, a, (size_t)b->k, *b, c, (size_t)b->n, add);
    p.spans = l->spans;
    p.span_count = l->span_count;
    return p;
}

// The same rows of A times operand i as well.
static void glam__linear_beside(const glam__linear *l, int i, glam__product *p, float *c)
{
    p->b[p->parts] = l->b[i];
    p->c[p->parts++] = c;
}

static void glam__linear_run(const glam__linear *l, int i, const float *a, float *c, int add)
{
    glam__product p = glam__linear_times(l, i, a, c, add);
    glam__product_run(l->ctx, &p);
}

// dW_i (+)= x^T dy; none where it is not wanted.
static glam__outer glam__linear_outer(const glam__linear *l, int i, const float *x, const float *dy)
{
    glam_tensor *w = l->w[i];
    glam__outer o = glam__outer_of(w, l->rows, x, 0, dy, 0);
    o.lda = (size_t)o.m;
    o.ldb = (size_t)o.n;
    o.slice = (size_t)o.m * o.n;
    if (!l->spans) return o;
    o.spans = l->spans;
    o.span_count = l->span_count;
    return o;
}

// The same with stride ldy of dy (0: side by side), x or dy being narrow rows already, and those of
// its adapter: dB (+)= (s x A)^T dy, dA (+)= x^T (s dy B^T).  How many they are, of three at most.
enum { GLAM__NARROW_X = 1, GLAM__NARROW_DY = 2 };
static int glam__linear_outers(glam__linear *l, int i, const float *x, const float *dy, size_t ldy,
                               int narrow, glam__outer *o)
{
    const glam__low *low = l->w[i] ? glam__low_of(l->w[i]) : NULL;
    int count = 1;
    o[0] = glam__linear_outer(l, i, x, dy);
    if (low) {
        glam_tensor *half[2] = { low->b, low->a };
        glam__linear part = *l;
        part.w = half;
        o[1] = glam__linear_outer(&part, 0, l->down[i], dy);
        o[2] = glam__linear_outer(&part, 1, x, l->b[i].down);
        count = 3;
    }
    for (int j = 0; j < count; j++) {
        int takes_x = j != 1, takes_dy = j != 2;
        if (takes_dy && ldy) o[j].ldb = ldy;
        o[j].narrow_b = takes_dy && (narrow & GLAM__NARROW_DY);
        o[j].narrow_a = takes_x && (narrow & GLAM__NARROW_X);
        if (o[j].narrow_a) o[j].lda = (size_t)glam__steps(l->ctx->simd.products, o[j].m);
    }
    return count;
}

// Before them, where no product with W^T has made s dy B^T.
static void glam__linear_down(glam__linear *l, int i, const float *dy, size_t ldy, int narrow)
{
    if (!l->w[i] || !glam__low_of(l->w[i]) || l->b[i].made) return;
    glam__product p = glam__linear_times(l, i, dy, NULL, 0);
    if (ldy) p.lda = ldy;
    p.narrow = narrow;
    glam__low_make(l->ctx, &p);
    l->b[i].made = 1;
}

static void glam__add_all(const glam__kernels *k, size_t n, const float *from, float *to)
{
    const size_t most = (size_t)1 << 24;                 // kernels count in int
    for (size_t at = 0; at < n; at += most)
        k->add((int)glam__lesser(n - at, most), from + at, to + at);
}

/* == 11 ops : implementation ==============================================================
   The ops one by one: formula and derivative, shape, forward, backward, wrapper.  Last stand the
   pieces that several layers share: soft caps, norms on the way into a product, and the loss of a
   language model. */

// The public name of an op whose config is its kind: of one operand, of two.
#define GLAM__NAME_1(name, op, kind) \
    GLAM_API glam_tensor *glam_##name(glam_ctx *ctx, glam_tensor *x) \
    { const int k = kind; return glam_apply(ctx, &glam__op_##op, &x, &k, sizeof k, NULL); }
#define GLAM__NAME_2(name, op, kind) \
    GLAM_API glam_tensor *glam_##name(glam_ctx *ctx, glam_tensor *a, glam_tensor *b) \
    { \
        glam_tensor *in[] = { a, b }; \
        const int k = kind; \
        return glam_apply(ctx, &glam__op_##op, in, &k, sizeof k, NULL); \
    }

// ---- element-wise pairs: y = a op b, b repeated over the leading dimensions of a.
// da += dy * dop/da;  db += the same, summed over the repeats.

enum { GLAM__ADD, GLAM__SUB, GLAM__MUL, GLAM__DIV };

static const char *glam__pair_name(const glam_node *n)
{
    static const char *const names[] = { "add", "sub", "mul", "div" };
    return names[*(const int *)n->config];
}

static glam_status glam__pair_shape(glam_ctx *ctx, glam_node *n)
{
    glam_shape a = n->in[0]->shape, b = n->in[1]->shape;
    int fits = glam__count(b) == 1 || b.dims <= a.dims;
    for (int i = 1; fits && i <= b.dims && glam__count(b) > 1; i++)
        fits = a.dim[a.dims - i] == b.dim[b.dims - i];
    if (!fits)
        return glam_fail(ctx, GLAM_ERR_SHAPE, "%s: a is %s but b is %s; b must be the same, the "
                         "last dimensions of a, or one element", glam__pair_name(n),
                         glam__say(a).text, glam__say(b).text);
    n->out_shape[0] = a;
    return GLAM_OK;
}

static float glam__pair(int kind, float a, float b)
{
    return kind == GLAM__ADD ? a + b : kind == GLAM__SUB ? a - b : kind == GLAM__MUL ? a * b
                                                                                     : a / b;
}

static void glam__pair_forward(glam_ctx *ctx GLAM__UNUSED, glam_node *n)
{
    const float *a = n->in[0]->data, *b = n->in[1]->data;
    float *y = n->out[0]->data;
    size_t count = glam_size(n->in[0]), period = glam_size(n->in[1]);
    int kind = *(const int *)n->config;
    for (size_t r = 0; r < count; r += period)
        for (size_t i = 0; i < period; i++) y[r + i] = glam__pair(kind, a[r + i], b[i]);
}

static void glam__pair_backward(glam_ctx *ctx GLAM__UNUSED, glam_node *n)
{
    const float *a = n->in[0]->data, *b = n->in[1]->data, *dy = n->out[0]->grad;
    float *da = n->in[0]->wants_grad ? n->in[0]->grad : NULL;
    float *db = n->in[1]->wants_grad ? n->in[1]->grad : NULL;
    size_t count = glam_size(n->in[0]), period = glam_size(n->in[1]);
    int kind = *(const int *)n->config;
    for (size_t r = 0; r < count; r += period)
        for (size_t i = 0; i < period; i++) {
            float g = dy[r + i], bi = b[i];
            if (da) da[r + i] += kind == GLAM__MUL ? g * bi : kind == GLAM__DIV ? g / bi : g;
            if (!db) continue;
            db[i] += kind == GLAM__ADD ? g : kind == GLAM__SUB ? -g
                   : kind == GLAM__MUL ? g * a[r + i] : -g * a[r + i] / (bi * bi);
        }
}

GLAM__OP(pair, 2, 0);
GLAM__NAME_2(add, pair, GLAM__ADD)    GLAM__NAME_2(sub, pair, GLAM__SUB)
GLAM__NAME_2(mul, pair, GLAM__MUL)    GLAM__NAME_2(div, pair, GLAM__DIV)

// ---- scale: y = f x, dx += f dy, where f is c; with c = 1 and another shape it is a view.  Of
// dropout f is 0 with probability p, else c = 1 / (1-p)

typedef struct glam__scaling {
    float c, p;
    uint64_t key;                  // of the draws
    glam_shape shape;              // dims 0: that of x
} glam__scaling;

static glam_status glam__same_as_x(glam_ctx *ctx GLAM__UNUSED, glam_node *n)
{
    n->out_shape[0] = n->in[0]->shape;
    return GLAM_OK;
}

static glam_status glam__scale_shape(glam_ctx *ctx, glam_node *n)
{
    const glam_shape *to = &((const glam__scaling *)n->config)->shape;
    if (!to->dims) return glam__same_as_x(ctx, n);
    if (glam__count(*to) != glam__count(n->in[0]->shape))
        return glam_fail(ctx, GLAM_ERR_SHAPE, "view: %s has not the size of %s",
                         glam__say(*to).text, glam__say(n->in[0]->shape).text);
    n->out_shape[0] = *to;
    return GLAM_OK;
}

static float glam__factor(const glam_ctx *ctx, const glam__scaling *s, size_t i)
{ return s->p > 0 && glam_random(ctx->options.seed, s->key, i) < s->p ? 0.0f : s->c; }

static void glam__scale_forward(glam_ctx *ctx, glam_node *n)
{
    const glam__scaling s = *(const glam__scaling *)n->config;
    const float *x = n->in[0]->data;
    float *y = n->out[0]->data;
    size_t count = glam_size(n->in[0]);
    for (size_t i = 0; i < count; i++) y[i] = glam__factor(ctx, &s, i) * x[i];
}

static void glam__scale_backward(glam_ctx *ctx, glam_node *n)
{
    const glam__scaling s = *(const glam__scaling *)n->config;
    const float *dy = n->out[0]->grad;
    float *dx = n->in[0]->grad;
    size_t count = glam_size(n->in[0]);
    for (size_t i = 0; i < count; i++) dx[i] += glam__factor(ctx, &s, i) * dy[i];
}

static glam_status glam__dropout_shape(glam_ctx *ctx, glam_node *n)
{
    float p = ((const glam__scaling *)n->config)->p;
    if (!glam__within((double)p, 0, 1) || p >= 1)
        return glam_fail(ctx, GLAM_ERR_VALUE, "dropout: p is %g; it must be in [0,1)", (double)p);
    return glam__same_as_x(ctx, n);
}

#define glam__dropout_forward  glam__scale_forward
#define glam__dropout_backward glam__scale_backward
GLAM__OP(scale, 1, 0);
GLAM__OP(dropout, 1, 0);

GLAM_API glam_tensor *glam_scale(glam_ctx *ctx, glam_tensor *x, float factor)
{
    glam__scaling s = { factor, 0, 0, { 0, { 0, 0, 0, 0 } } };
    return glam_apply(ctx, &glam__op_scale, &x, &s, sizeof s, NULL);
}

GLAM_API glam_tensor *glam_view(glam_ctx *ctx, glam_tensor *t, glam_shape shape)
{
    glam__scaling s = { 1, 0, 0, shape };
    if (!shape.dims) s.shape.dims = -1;            // a shape that fits nothing
    return glam_apply(ctx, &glam__op_scale, &t, &s, sizeof s, NULL);
}

GLAM_API glam_tensor *glam_dropout(glam_ctx *ctx, glam_tensor *x, float p, uint64_t key)
{
    glam__scaling s = { 1.0f / (1.0f - p), p, key, { 0, { 0, 0, 0, 0 } } };
    return glam_apply(ctx, &glam__op_dropout, &x, &s, sizeof s, NULL);
}

// ---- matmul: y = x w;  dx += dy w^T,  dw += x^T dy.   transposed: y = x w^T;  dx += dy w,
// dw += dy^T x.

static glam_status glam__matmul_shape(glam_ctx *ctx, glam_node *n)
{
    const int transposed = *(const int *)n->config;
    glam_tensor *x = n->in[0], *w = n->in[1];
    int inner = w->shape.dims == 2 ? w->shape.dim[transposed] : 0;
    if (!inner || glam__last(x) != inner)
        return glam_fail(ctx, GLAM_ERR_SHAPE, "matmul%s: x is %s but w is %s; inner sizes must "
                         "agree, and w has two dimensions", transposed ? "_t" : "",
                         glam__say(x->shape).text, glam__say(w->shape).text);
    n->out_shape[0] = x->shape;
    n->out_shape[0].dim[x->shape.dims - 1] = w->shape.dim[!transposed];
    n->scratch_bytes = glam__product_bytes(ctx, w->shape.dim[0]) +
                       glam__product_bytes(ctx, w->shape.dim[1]) + glam__outer_bytes(ctx);
    int training = n->flags & GLAM__NODE_RECORDED, rows = (int)glam__rows(x);
    n->scratch_bytes += glam__want_panels(ctx, training, w, transposed, rows);
    if (x->wants_grad)
        n->scratch_bytes += glam__want_panels(ctx, training, w, !transposed, rows);
    return ctx->error;
}

static void glam__matmul_forward(glam_ctx *ctx, glam_node *n)
{
    const int transposed = *(const int *)n->config;
    glam_tensor *x = n->in[0], *y = n->out[0];
    glam__linear l = glam__linear_of(ctx, n->in + 1, 1, transposed, (int)glam__rows(x));
    glam__linear_run(&l, 0, x->data, y->data, 0);
}

static void glam__matmul_backward(glam_ctx *ctx, glam_node *n)
{
    const int transposed = *(const int *)n->config;
    glam_tensor *x = n->in[0], *y = n->out[0];
    int adds = 0;
    float *dx = glam__grad_of(x, &adds);
    glam__linear l = glam__linear_of(ctx, n->in + 1, dx != NULL, !transposed, (int)glam__rows(x));
    if (dx) glam__linear_run(&l, 0, y->grad, dx, adds);
    glam__outer o = transposed ? glam__linear_outer(&l, 0, y->grad, x->data)
                               : glam__linear_outer(&l, 0, x->data, y->grad);
    glam__outer_run(ctx, &o, 1);
}

GLAM__OP(matmul, 2, GLAM__OP_FRESH | GLAM__OP_NARROW << 1);
GLAM__NAME_2(matmul, matmul, 0)
GLAM__NAME_2(matmul_t, matmul, 1)

// ---- transpose: y[c][r] = x[r][c]

static glam_status glam__transpose_shape(glam_ctx *ctx, glam_node *n)
{
    glam_shape s = n->in[0]->shape;
    if (s.dims != 2)
        return glam_fail(ctx, GLAM_ERR_SHAPE, "transpose: x is %s; two dimensions are needed",
                         glam__say(s).text);
    n->out_shape[0] = glam_dim2(s.dim[1], s.dim[0]);
    return GLAM_OK;
}

static void glam__transpose_forward(glam_ctx *ctx GLAM__UNUSED, glam_node *n)
{
    int R = n->in[0]->shape.dim[0], C = n->in[0]->shape.dim[1];
    for (int r = 0; r < R; r++)
        for (int c = 0; c < C; c++)
            n->out[0]->data[(size_t)c * R + r] = n->in[0]->data[(size_t)r * C + c];
}

static void glam__transpose_backward(glam_ctx *ctx GLAM__UNUSED, glam_node *n)
{
    int R = n->in[0]->shape.dim[0], C = n->in[0]->shape.dim[1];
    for (int r = 0; r < R; r++)
        for (int c = 0; c < C; c++)
            n->in[0]->grad[(size_t)r * C + c] += n->out[0]->grad[(size_t)c * R + r];
}

GLAM__OP(transpose, 1, 0);

GLAM_API glam_tensor *glam_transpose(glam_ctx *ctx, glam_tensor *x)
{ return glam_apply(ctx, &glam__op_transpose, &x, NULL, 0, NULL); }

// ---- slice and concat, along the first dimension

static glam_status glam__slice_shape(glam_ctx *ctx, glam_node *n)
{
    const int *c = (const int *)n->config;             // begin, count
    glam_shape s = n->in[0]->shape;
    if (c[0] < 0 || c[1] < 1 || c[1] > s.dim[0] || c[0] > s.dim[0] - c[1])
        return glam_fail(ctx, GLAM_ERR_SHAPE, "slice: %d rows from row %d on are not in %s", c[1],
                         c[0], glam__say(s).text);
    n->out_shape[0] = s;
    n->out_shape[0].dim[0] = c[1];
    return GLAM_OK;
}

static void glam__slice_forward(glam_ctx *ctx GLAM__UNUSED, glam_node *n)
{
    size_t count = glam_size(n->out[0]), row = count / (size_t)n->out[0]->shape.dim[0];
    memcpy(n->out[0]->data, n->in[0]->data + row * (size_t)*(const int *)n->config,
           count * sizeof(float));
}

static void glam__slice_backward(glam_ctx *ctx GLAM__UNUSED, glam_node *n)
{
    size_t count = glam_size(n->out[0]), row = count / (size_t)n->out[0]->shape.dim[0];
    float *dx = n->in[0]->grad + row * (size_t)*(const int *)n->config;
    for (size_t i = 0; i < count; i++) dx[i] += n->out[0]->grad[i];
}

GLAM__OP(slice, 1, 0);

GLAM_API glam_tensor *glam_slice(glam_ctx *ctx, glam_tensor *x, int begin, int count)
{
    const int c[] = { begin, count };
    return glam_apply(ctx, &glam__op_slice, &x, c, sizeof c, NULL);
}

static glam_status glam__concat_shape(glam_ctx *ctx, glam_node *n)
{
    glam_shape a = n->in[0]->shape, b = n->in[1]->shape;
    n->out_shape[0] = a;
    n->out_shape[0].dim[0] = a.dim[0] + b.dim[0];
    b.dim[0] = a.dim[0];
    if (!glam__same_shape(a, b))
        return glam_fail(ctx, GLAM_ERR_SHAPE, "concat: a is %s but b is %s; all but the first "
                         "dimension must agree", glam__say(a).text,
                         glam__say(n->in[1]->shape).text);
    return GLAM_OK;
}

static void glam__concat_forward(glam_ctx *ctx GLAM__UNUSED, glam_node *n)
{
    size_t a = glam_size(n->in[0]), b = glam_size(n->in[1]);
    memcpy(n->out[0]->data, n->in[0]->data, a * sizeof(float));
    memcpy(n->out[0]->data + a, n->in[1]->data, b * sizeof(float));
}

static void glam__concat_backward(glam_ctx *ctx GLAM__UNUSED, glam_node *n)
{
    const float *dy = n->out[0]->grad;
    for (int p = 0; p < 2; p++) {
        size_t count = glam_size(n->in[p]);
        for (size_t i = 0; i < count && n->in[p]->wants_grad; i++) n->in[p]->grad[i] += dy[i];
        dy += count;
    }
}

GLAM__OP(concat, 2, 0);
GLAM__NAME_2(concat, concat, 0)

// ---- sum: y = c * sum x, dx += c dy; the mean has c = 1 / count

static glam_status glam__sum_shape(glam_ctx *ctx GLAM__UNUSED, glam_node *n)
{
    n->out_shape[0] = glam_dim1(1);
    return GLAM_OK;
}

static double glam__sum_factor(const glam_node *n)
{ return *(const int *)n->config ? 1.0 / (double)glam_size(n->in[0]) : 1.0; }

static void glam__sum_forward(glam_ctx *ctx, glam_node *n)
{
    double sum = ctx->simd.kernels->sum(glam_size(n->in[0]), n->in[0]->data);
    n->out[0]->data[0] = (float)(sum * glam__sum_factor(n));
}

static void glam__sum_backward(glam_ctx *ctx GLAM__UNUSED, glam_node *n)
{
    float g = (float)((double)n->out[0]->grad[0] * glam__sum_factor(n));
    size_t count = glam_size(n->in[0]);
    for (size_t i = 0; i < count; i++) n->in[0]->grad[i] += g;
}

GLAM__OP(sum, 1, 0);
GLAM__NAME_1(sum, sum, 0)
GLAM__NAME_1(mean, sum, 1)

// ---- functions of one element

#define glam__unary_shape glam__same_as_x

static void glam__unary_forward(glam_ctx *ctx, glam_node *n)
{
    ctx->simd.kernels->unary(*(const int *)n->config, glam_size(n->in[0]), n->in[0]->data,
                             n->out[0]->data);
}

static void glam__unary_backward(glam_ctx *ctx, glam_node *n)
{
    ctx->simd.kernels->unary_back(*(const int *)n->config, glam_size(n->in[0]), n->in[0]->data,
                                  n->out[0]->data, n->out[0]->grad, n->in[0]->grad);
}

GLAM__OP(unary, 1, 0);
GLAM__NAME_1(exp, unary, GLAM__EXP)      GLAM__NAME_1(log, unary, GLAM__LOG)
GLAM__NAME_1(tanh, unary, GLAM__TANH)    GLAM__NAME_1(sigmoid, unary, GLAM__SIGMOID)
GLAM__NAME_1(relu, unary, GLAM__RELU)    GLAM__NAME_1(silu, unary, GLAM__SILU)
GLAM__NAME_1(gelu, unary, GLAM__GELU)    GLAM__NAME_1(gelu_erf, unary, GLAM__GELU_ERF)

// ---- softmax over the last dimension: dx += y (dy - sum y dy)

#define glam__softmax_shape glam__same_as_x

static void glam__softmax_forward(glam_ctx *ctx, glam_node *n)
{
    int N = glam__last(n->in[0]), rows = (int)glam__rows(n->in[0]);
    memcpy(n->out[0]->data, n->in[0]->data, glam_size(n->in[0]) * sizeof(float));
    for (int r = 0; r < rows; r++)
        ctx->simd.kernels->softmax(N, n->out[0]->data + (size_t)r * N, 0);
}

static void glam__softmax_backward(glam_ctx *ctx, glam_node *n)
{
    int N = glam__last(n->in[0]), rows = (int)glam__rows(n->in[0]);
    for (int r = 0; r < rows; r++) {
        const float *y = n->out[0]->data + (size_t)r * N, *dy = n->out[0]->grad + (size_t)r * N;
        float *dx = n->in[0]->grad + (size_t)r * N, dot = ctx->simd.kernels->dot(N, y, dy);
        for (int i = 0; i < N; i++) dx[i] += y[i] * (dy[i] - dot);
    }
}

GLAM__OP(softmax, 1, 0);

GLAM_API glam_tensor *glam_softmax(glam_ctx *ctx, glam_tensor *x)
{ return glam_apply(ctx, &glam__op_softmax, &x, NULL, 0, NULL); }

// ---- layernorm: n = (x - mean) r, r = 1/sqrt(var + eps), y = n g + b
// dx += r (dn - mean(dn) - n mean(dn n)) with dn = dy g;  dg += dy n;  db += dy

static glam_status glam__norm_shape(glam_ctx *ctx, glam_node *n)
{
    int N = glam__last(n->in[0]), inputs = n->op->inputs;
    for (int i = 1; i < inputs; i++)
        if (n->in[i] && glam__count(n->in[i]->shape) != (uint64_t)N)
            return glam_fail(ctx, GLAM_ERR_SHAPE, "%s: x is %s but %s is %s; it needs [%d]",
                             n->op->name, glam__say(n->in[0]->shape).text,
                             i == 1 ? "gain" : "bias", glam__say(n->in[i]->shape).text, N);
    if (!n->in[1]) return glam_fail(ctx, GLAM_ERR_VALUE, "%s: the gain is NULL", n->op->name);
    // for each row r, and the mean where there may be a bias
    n->saved_bytes = glam__rows(n->in[0]) * (inputs == 3 ? 2 : 1) * sizeof(float);
    return glam__same_as_x(ctx, n);
}

#define glam__layernorm_shape glam__norm_shape
#define glam__rmsnorm_shape   glam__norm_shape

static void glam__layernorm_forward(glam_ctx *ctx, glam_node *n)
{
    int N = glam__last(n->in[0]), rows = (int)glam__rows(n->in[0]);
    const float *g = n->in[1]->data, *b = n->in[2] ? n->in[2]->data : NULL;
    float *stats = (float *)n->saved, eps = *(const float *)n->config;
    for (int t = 0; t < rows; t++) {
        const float *x = n->in[0]->data + (size_t)t * N;
        float *y = n->out[0]->data + (size_t)t * N;
        double mean = ctx->simd.kernels->sum((size_t)N, x) / N, var = 0;
        for (int i = 0; i < N; i++) var += ((double)x[i] - mean) * ((double)x[i] - mean);
        stats[2 * t] = (float)mean;
        stats[2 * t + 1] = (float)(1 / sqrt(var / N + (double)eps));
        for (int i = 0; i < N; i++)
            y[i] = (x[i] - stats[2 * t]) * stats[2 * t + 1] * g[i] + (b ? b[i] : 0);
    }
}

static void glam__layernorm_backward(glam_ctx *ctx GLAM__UNUSED, glam_node *n)
{
    int N = glam__last(n->in[0]), rows = (int)glam__rows(n->in[0]);
    const float *g = n->in[1]->data, *stats = (const float *)n->saved;
    float *dx = n->in[0]->wants_grad ? n->in[0]->grad : NULL;
    float *dg = n->in[1]->wants_grad ? n->in[1]->grad : NULL;
    float *db = n->in[2] && n->in[2]->wants_grad ? n->in[2]->grad : NULL;
    for (int t = 0; t < rows; t++) {
        const float *x = n->in[0]->data + (size_t)t * N, *dy = n->out[0]->grad + (size_t)t * N;
        float mean = stats[2 * t], r = stats[2 * t + 1];
        double sum = 0, dot = 0;
        for (int i = 0; i < N; i++) {
            float norm = (x[i] - mean) * r;
            sum += (double)(dy[i] * g[i]);
            dot += (double)(dy[i] * g[i] * norm);
            if (dg) dg[i] += dy[i] * norm;
            if (db) db[i] += dy[i];
        }
        for (int i = 0; i < N && dx; i++)
            dx[(size_t)t * N + i] += r * (dy[i] * g[i] - (float)(sum / N) -
                                          (x[i] - mean) * r * (float)(dot / N));
    }
}

GLAM__OP(layernorm, 3, GLAM__OP_OPTIONAL);

GLAM_API glam_tensor *glam_layernorm(glam_ctx *ctx, glam_tensor *x, glam_tensor *gain,
                                     glam_tensor *bias, float eps)
{
    glam_tensor *in[] = { x, gain, bias };
    return glam_apply(ctx, &glam__op_layernorm, in, &eps, sizeof eps, NULL);
}

// ---- rmsnorm: y = x r g, r = 1/sqrt(mean(x^2) + eps)   (lingvo RMSNorm)
// dx += r g dy - x r^3/N sum(dy g x);  dg += dy x r

static void glam__rmsnorm_forward(glam_ctx *ctx, glam_node *n)
{
    size_t N = (size_t)glam__last(n->in[0]), rows = glam__rows(n->in[0]);
    float *r = (float *)n->saved, eps = *(const float *)n->config;
    for (size_t t = 0; t < rows; t++)
        r[t] = ctx->simd.kernels->rmsnorm((int)N, eps, n->in[0]->data + t * N, n->in[1]->data,
                                          n->out[0]->data + t * N);
}

static void glam__rmsnorm_backward(glam_ctx *ctx, glam_node *n)
{
    size_t N = (size_t)glam__last(n->in[0]), rows = glam__rows(n->in[0]);
    const float *r = (const float *)n->saved;
    float *dx = n->in[0]->wants_grad ? n->in[0]->grad : NULL;
    float *dg = n->in[1]->wants_grad ? n->in[1]->grad : NULL;
    for (size_t t = 0; t < rows; t++)
        ctx->simd.kernels->rmsnorm_back((int)N, r[t], n->in[0]->data + t * N, n->in[1]->data,
                                        n->out[0]->grad + t * N, dx ? dx + t * N : NULL, dg);
}

GLAM__OP(rmsnorm, 2, 0);

GLAM_API glam_tensor *glam_rmsnorm(glam_ctx *ctx, glam_tensor *x, glam_tensor *gain, float eps)
{
    glam_tensor *in[] = { x, gain };
    return glam_apply(ctx, &glam__op_rmsnorm, in, &eps, sizeof eps, NULL);
}

// Integers of this step, copied (targets, masks, ids): the caller's may go away before backward.
static const int32_t *glam__keep_ints(glam_ctx *ctx, const int32_t *from, size_t count, int must)
{
    if (!from && must && ctx->base.measuring) glam__take_values(ctx, &ctx->base.step, count);
    int32_t *copy = from ? (int32_t *)glam__take(ctx, &ctx->base.step, count * sizeof *copy) : NULL;
    if (copy) memcpy(copy, from, count * sizeof *copy);
    return copy;
}

// ---- embed: y[t] = scale table[ids[t]];  dtable[ids[t]] += scale dy[t]

typedef struct glam__embed {
    const int32_t *ids, *mask;
    int count, rows;               // rows: of a batch, to shape the result [rows,S,M]; 0: [count,M]
    float scale;
} glam__embed;

static glam_status glam__embed_shape(glam_ctx *ctx, glam_node *n)
{
    const glam__embed *e = (const glam__embed *)n->config;
    glam_shape s = n->in[0]->shape;
    if (s.dims != 2 || e->count < 1)
        return glam_fail(ctx, GLAM_ERR_SHAPE, "embed: table is %s with %d ids; it needs [V,M] and "
                         "at least one", glam__say(s).text, e->count);
    for (int t = 0; t < e->count && e->ids; t++)
        if ((!e->mask || e->mask[t]) && (e->ids[t] < 0 ||
                                         e->ids[t] >= glam__whole(n->in[0]).dim[0]))
            return glam_fail(ctx, GLAM_ERR_VALUE, "embed: token %d has id %d; the table has 0 to "
                             "%d", t, (int)e->ids[t], glam__whole(n->in[0]).dim[0] - 1);
    n->out_shape[0] = e->rows ? glam_dim3(e->rows, e->count / e->rows, s.dim[1])
                              : glam_dim2(e->count, s.dim[1]);
    glam__count_sum_over_y(ctx, n->in[0], (uint64_t)e->count * (uint64_t)s.dim[1]);
    return GLAM_OK;
}

// The row of token t in the table that is here; -1: padding, or another rank has it.
static int glam__embed_row(const glam__embed *e, const glam_tensor *table, int t)
{
    int row = e->mask && !e->mask[t] ? -1 : e->ids[t] - (table->split ? table->split->at[0] : 0);
    return row < table->shape.dim[0] ? row : -1;
}

static void glam__embed_forward(glam_ctx *ctx, glam_node *n)
{
    const glam__embed *e = (const glam__embed *)n->config;
    size_t M = (size_t)glam__last(n->in[0]);
    for (int t = 0; t < e->count; t++) {
        float *y = n->out[0]->data + (size_t)t * M;
        int row = glam__embed_row(e, n->in[0], t);
        if (row < 0) memset(y, 0, M * sizeof(float));
        else glam__read_row(ctx->simd.kernels, n->in[0], (size_t)row, y);
        if (e->scale != 1) ctx->simd.kernels->scale((int)M, e->scale, y);
    }
    glam__sum_over_y(ctx, n->in[0], "embed", n->out[0]->data, (size_t)e->count * M);
}

static void glam__embed_backward(glam_ctx *ctx, glam_node *n)
{
    const glam__embed *e = (const glam__embed *)n->config;
    size_t M = (size_t)glam__last(n->in[0]);
    for (int t = 0; t < e->count; t++) {
        int row = glam__embed_row(e, n->in[0], t);
        if (row >= 0) ctx->simd.kernels->axpy((int)M, e->scale, n->out[0]->grad + (size_t)t * M,
                                              n->in[0]->grad + (size_t)row * M);
    }
}

GLAM__OP(embed, 1, GLAM__OP_NARROW);

GLAM_API glam_tensor *glam_embed(glam_ctx *ctx, glam_tensor *table, const int32_t *ids, int count,
                                 const int32_t *mask)
{
    const size_t tokens = (size_t)glam__max(count, 0);
    if (!ctx || ctx->error || !table) return NULL;
    glam__embed e = { glam__keep_ints(ctx, ids, tokens, 1), glam__keep_ints(ctx, mask, tokens, 0),
                      count, 0, 1 };
    if (!ids && !ctx->base.measuring) glam_fail(ctx, GLAM_ERR_VALUE, "embed: no ids (NULL)");
    return glam_apply(ctx, &glam__op_embed, &table, &e, sizeof e, NULL);
}

// ---- mse: y = mean (x - target)^2;  dx += 2 (x - target) / count * dy

static glam_status glam__mse_shape(glam_ctx *ctx, glam_node *n)
{
    if (!glam__same_shape(n->in[0]->shape, n->in[1]->shape))
        return glam_fail(ctx, GLAM_ERR_SHAPE, "mse: x is %s but the target is %s",
                         glam__say(n->in[0]->shape).text, glam__say(n->in[1]->shape).text);
    n->out_shape[0] = glam_dim1(1);
    return GLAM_OK;
}

static void glam__mse_forward(glam_ctx *ctx GLAM__UNUSED, glam_node *n)
{
    size_t count = glam_size(n->in[0]);
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        double d = (double)n->in[0]->data[i] - (double)n->in[1]->data[i];
        sum += d * d;
    }
    n->out[0]->data[0] = (float)(sum / (double)count);
}

static void glam__mse_backward(glam_ctx *ctx GLAM__UNUSED, glam_node *n)
{
    size_t count = glam_size(n->in[0]);
    float c = 2 * n->out[0]->grad[0] / (float)count;
    for (size_t i = 0; i < count; i++) {
        float g = c * (n->in[0]->data[i] - n->in[1]->data[i]);
        if (n->in[0]->wants_grad) n->in[0]->grad[i] += g;
        if (n->in[1]->wants_grad) n->in[1]->grad[i] -= g;
    }
}

GLAM__OP(mse, 2, 0);
GLAM__NAME_2(mse, mse, 0)

// ---- cross_entropy: y = mean over counted rows of logsumexp(x) - x[target]
// dx += (softmax(x) - [target]) / count * dy

typedef struct glam__picks { const int32_t *targets, *mask; int count; } glam__picks;

static glam_status glam__cross_entropy_shape(glam_ctx *ctx, glam_node *n)
{
    const glam__picks *c = (const glam__picks *)n->config;
    int V = glam__last(n->in[0]), rows = (int)glam__rows(n->in[0]);
    for (int t = 0; t < rows && c->targets; t++)
        if ((!c->mask || c->mask[t]) && (c->targets[t] < 0 || c->targets[t] >= V))
            return glam_fail(ctx, GLAM_ERR_VALUE, "cross_entropy: row %d has target %d; there are "
                             "0 to %d", t, (int)c->targets[t], V - 1);
    n->out_shape[0] = glam_dim1(1);
    n->saved_bytes = (size_t)rows * sizeof(float);                 // logsumexp
    n->scratch_bytes = (size_t)V * sizeof(float);
    return GLAM_OK;
}

static void glam__cross_entropy_forward(glam_ctx *ctx, glam_node *n)
{
    const glam__picks *c = (const glam__picks *)n->config;
    int V = glam__last(n->in[0]), rows = (int)glam__rows(n->in[0]);
    float *lse = (float *)n->saved;
    double sum = 0;
    for (int t = 0; t < rows; t++) {
        const float *x = n->in[0]->data + (size_t)t * V;
        lse[t] = ctx->simd.kernels->logsumexp(V, x);
        if (!c->mask || c->mask[t]) sum += (double)lse[t] - (double)x[c->targets[t]];
    }
    n->out[0]->data[0] = (float)(sum / c->count);
}

static void glam__cross_entropy_backward(glam_ctx *ctx, glam_node *n)
{
    const glam__picks *c = (const glam__picks *)n->config;
    int V = glam__last(n->in[0]), rows = (int)glam__rows(n->in[0]);
    float *lse = (float *)n->saved, g = n->out[0]->grad[0] / (float)c->count;
    float *p = glam__scratch_floats(ctx, (size_t)V);
    for (int t = 0; t < rows; t++) {
        float *dx = n->in[0]->grad + (size_t)t * V;
        if (c->mask && !c->mask[t]) continue;
        ctx->simd.kernels->exp_minus(V, lse[t], n->in[0]->data + (size_t)t * V, p);
        ctx->simd.kernels->axpy(V, g, p, dx);
        dx[c->targets[t]] -= g;
    }
}

GLAM__OP(cross_entropy, 1, 0);

GLAM_API glam_tensor *glam_cross_entropy(glam_ctx *ctx, glam_tensor *logits,
                                         const int32_t *targets, const int32_t *mask)
{
    glam__picks c;
    if (!ctx || ctx->error || !logits) return NULL;
    size_t rows = glam__rows(logits);
    if (!targets && !ctx->base.measuring)
        glam_fail(ctx, GLAM_ERR_VALUE, "cross_entropy: no targets (NULL)");
    c.targets = glam__keep_ints(ctx, targets, rows, 1);
    c.mask = glam__keep_ints(ctx, mask, rows, 0);
    c.count = 0;
    for (size_t t = 0; t < rows; t++) c.count += !mask || mask[t];
    if (!c.count) c.count = 1;
    return glam_apply(ctx, &glam__op_cross_entropy, &logits, &c, sizeof c, NULL);
}

// ---- a soft cap, of scores and logits

// 1 / cap must be a number, too.
static int glam__cap_fits(float cap)
{ return glam__within((double)cap, 0, 0) || glam__within((double)cap, 1e-30, 1e30); }

// x := cap tanh(x / cap)
static void glam__cap(const glam__kernels *k, float cap, int n, float *x)
{
    k->scale(n, 1 / cap, x);
    k->unary(GLAM__TANH, (size_t)n, x, x);
    k->scale(n, cap, x);
}

// From the capped y: dx *= 1 - (y / cap)^2.
static void glam__cap_back(float cap, int n, const float *y, float *dx)
{
    float r = 1 / cap;
    for (int i = 0; i < n; i++) dx[i] *= 1 - y[i] * r * (y[i] * r);
}

// x normalised on the way into a product: rows of RMS(x) * gain.
typedef struct glam__normed {
    const glam__kernels *kernels;
    const float *x, *gain;         // gain NULL: x as it is
    float eps, scale;              // scale multiplies the result
    int M;
} glam__normed;

static float glam__norm_one(const glam__normed *w, int row, float *out)
{
    const float *x = w->x + (size_t)row * w->M;
    float r = w->gain ? w->kernels->rmsnorm(w->M, w->eps, x, w->gain, out) : 1.0f;
    if (!w->gain) memcpy(out, x, (size_t)w->M * sizeof(float));
    if (w->scale != 1) w->kernels->scale(w->M, w->scale, out);
    return r;
}

static void glam__fill_normed(const glam__product *p, int row, int rows, int at GLAM__UNUSED,
                              int terms GLAM__UNUSED, float *out, size_t ld)
{
    for (int i = 0; i < rows; i++)
        glam__norm_one((const glam__normed *)p->arg, row + i, out + (size_t)i * ld);
}

static glam__normed glam__normed_of(const glam_ctx *ctx, const glam_tensor *x,
                                    const glam_tensor *norm, float eps)
{
    const float *gain = norm ? norm->data : NULL;
    glam__normed w = { ctx->simd.kernels, x->data, gain, eps, 1, glam__last(x) };
    return w;
}

// The same rows as an array [rows,M], with r = 1/rms of each; for backward.  A frozen weight
// needs no rows for its gradient: then there is one of them for each worker, to write over.
typedef struct glam__norm_rows { glam__normed w; float *out, *r; int all; } glam__norm_rows;

static void glam__norm_row(void *arg, int row, int worker)
{
    const glam__norm_rows *n = (const glam__norm_rows *)arg;
    n->r[row] = glam__norm_one(&n->w, row, n->out + (size_t)(n->all ? row : worker) * n->w.M);
}

static void glam__norm_all(glam_ctx *ctx, glam__normed w, int rows, float *out, float *r, int all)
{
    glam__norm_rows n = { w, out, r, all };
    glam__each_row(ctx, rows, 4.0 * w.M, glam__norm_row, &n);
}

// The last step of every sub-layer's backward: dx (+)= dy (residual) + backward of the norm of
// dn; the gain's gradient is summed within chunks of 64 rows, then over chunks in order.
typedef struct glam__norm_back {
    glam__normed w;
    const float *r, *dn, *dy;      // dy NULL: no residual, or already in dx
    float *dx, *partial;           // NULL where no gradient is wanted
    int adds, rows;
} glam__norm_back;

enum { GLAM__NORM_CHUNK = 64 };

static void glam__norm_back_body(void *arg, int begin, int end, int worker GLAM__UNUSED)
{
    const glam__norm_back *b = (const glam__norm_back *)arg;
    const glam__kernels *k = b->w.kernels;
    size_t M = (size_t)b->w.M;
    for (int c = begin; c < end; c++) {
        float *dgain = b->partial ? b->partial + (size_t)c * M : NULL;
        int last = (c + 1) * GLAM__NORM_CHUNK < b->rows ? (c + 1) * GLAM__NORM_CHUNK : b->rows;
        if (dgain) memset(dgain, 0, M * sizeof(float));
        for (int t = c * GLAM__NORM_CHUNK; t < last; t++) {
            size_t at = (size_t)t * M;
            float *dx = b->dx ? b->dx + at : NULL;
            if (dx && !b->adds && b->dy) memcpy(dx, b->dy + at, M * sizeof(float));
            else if (dx && !b->adds) memset(dx, 0, M * sizeof(float));
            else if (dx && b->dy) k->add(b->w.M, b->dy + at, dx);
            if (b->w.gain)
                k->rmsnorm_back(b->w.M, b->r[t], b->w.x + at, b->w.gain, b->dn + at, dx, dgain);
            else if (dx) k->add(b->w.M, b->dn + at, dx);
        }
    }
}

static size_t glam__norm_back_floats(int rows, int M)
{ return (size_t)glam__ceil_div(rows, GLAM__NORM_CHUNK) * (size_t)M; }
static uint64_t glam__norm_back_bytes(int rows, int M)
{ return glam__floats(glam__norm_back_floats(rows, M)); }

static void glam__norm_backward(glam_ctx *ctx, glam_node *n, glam_tensor *norm, glam__normed w,
                                int rows, const float *r, const float *dn)
{
    glam__norm_back b = { w, r, dn, NULL, NULL, NULL, 0, rows };
    glam_tensor *x = n->in[0];
    int chunks = glam__ceil_div(rows, GLAM__NORM_CHUNK), adds = 0;
    float *dgain = glam__grad_of(norm, &adds);
    b.dx = glam__grad_of(x, &b.adds);
    b.dy = n->flags & GLAM__NODE_RESIDUAL && !(n->flags & GLAM__NODE_MOVED) ? n->out[0]->grad
                                                                           : NULL;
    b.partial = dgain ? glam__scratch_floats(ctx, glam__norm_back_floats(rows, w.M)) : NULL;
    glam__parallel(ctx, chunks, 8.0 * rows * w.M, glam__norm_back_body, &b);
    if (!dgain) return;
    if (!adds) memset(dgain, 0, (size_t)w.M * sizeof(float));
    for (int c = 0; c < chunks; c++) w.kernels->add(w.M, b.partial + (size_t)c * w.M, dgain);
}

static glam_status glam__norm_fits(glam_ctx *ctx, const char *op, const glam_tensor *x,
                                   const glam_tensor *norm)
{
    if (norm && glam__count(norm->shape) != (uint64_t)glam__last(x))
        return glam_fail(ctx, GLAM_ERR_SHAPE, "%s: x is %s but norm is %s; it needs [%d]", op,
                         glam__say(x->shape).text, glam__say(norm->shape).text, glam__last(x));
    return GLAM_OK;
}

// ---- the loss: logits in chunks of tokens, never more than one T x V array
//   xent = mean(lse - logit[target]) over what is predicted, z = mean(lse^2) over what is real
//   y = xent + z_loss z,  share = predicted / real
//   dlogits = (p ([predicted] + 2 z_loss share lse) - [target]) / predicted * dy
//   dE += dlogits^T a,  da = dlogits E,  a = logit_scale RMS(x)
// Without a z_loss only what is predicted has logits: those rows of a lie side by side, and da goes
// back to where they were.  With a logit_cap, logit = cap(a E^T): dlogits go back through it first.

typedef struct glam__head {
    const int32_t *targets, *segments;
    float norm_eps, logit_scale, logit_cap, z_loss;
    double count, real;            // what xent and what z is divided by
    double *parts;                 // xent and z, for the report
} glam__head;

enum { GLAM__HEAD_BYTES = 64 << 20 };  // logits up to this size are kept for backward

static int glam__head_chunk(int T, int V)
{
    uint64_t most = GLAM__HEAD_BYTES / sizeof(float) / (uint64_t)V, rows = most / 96 * 96;
    if (rows < 96) rows = most = 96;
    return most < (uint64_t)T ? (int)rows : T;
}

static glam_status glam__lm_loss_shape(glam_ctx *ctx, glam_node *n)
{
    const glam__head *h = (const glam__head *)n->config;
    int T = (int)glam__rows(n->in[0]), M = glam__last(n->in[0]), V = n->in[2]->shape.dim[0];
    int all = glam__whole(n->in[2]).dim[0];
    for (int t = 0; t < T && h->targets; t++)
        if ((!h->segments || h->segments[t]) && (h->targets[t] < -1 || h->targets[t] >= all))
            return glam_fail(ctx, GLAM_ERR_VALUE, "loss: token %d has target %d; the vocabulary "
                             "has 0 to %d, and -1 predicts nothing", t, (int)h->targets[t],
                             all - 1);
    int chunk = glam__head_chunk(T, V), kept = chunk == T;
    uint64_t logits = glam__floats((uint64_t)chunk * V);
    n->out_shape[0] = glam_dim1(1);
    n->saved_bytes = (glam__floats((uint64_t)T) + (kept ? logits : 0));
    n->scratch_bytes = ((kept ? 0 : logits) + 2 * glam__floats((uint64_t)T * M) +
                                4 * glam__floats((uint64_t)T) + glam__product_bytes(ctx, M) +
                                glam__product_bytes(ctx, V) + glam__outer_bytes(ctx) +
                                glam__floats(glam__norm_back_floats(T, M)));
    int training = n->flags & GLAM__NODE_RECORDED;
    if (glam__is_over(n->in[2], GLAM__OVER_Y)) {
        n->scratch_bytes += glam__floats(2 * (uint64_t)ctx->mesh->Y * T);
        if (ctx->base.measuring)
            glam__all_gather(ctx, &ctx->mesh->y, &ctx->mesh->sent.model, NULL,
                             2 * (size_t)ctx->mesh->Y * T, sizeof(float));
        if (training) glam__count_sum_over_y(ctx, n->in[2], (uint64_t)T * (uint64_t)M);
    }
    n->scratch_bytes += glam__want_panels(ctx, training, n->in[2], 1, T);
    if (training) n->scratch_bytes += glam__want_panels(ctx, training, n->in[2], 0, T);
    return ctx->error;
}

// One chunk of logits and what its rows say.
typedef struct glam__head_rows {
    const glam__kernels *kernels;
    const glam__head *h;
    int V, row, T, *token;         // first row of the chunk; rows that have logits, and whose  [T]
    int from;                      // on a mesh: where our part of the vocabulary begins
    float *logits, *lse, *xent, scale, z_share;
    int again;                     // backward: logits were made again, and have no cap yet
} glam__head_rows;

static void glam__head_forward_row(void *arg, int i, int worker GLAM__UNUSED)
{
    const glam__head_rows *r = (const glam__head_rows *)arg;
    float *l = r->logits + (size_t)i * r->V;
    int t = r->row + i, of = r->token[t];
    r->lse[t] = r->xent[t] = 0;
    if (r->h->segments && !r->h->segments[of]) return;
    if (r->h->logit_cap > 0) glam__cap(r->kernels, r->h->logit_cap, r->V, l);
    int target = r->h->targets[of] - r->from;
    r->lse[t] = r->kernels->logsumexp(r->V, l);
    r->xent[t] = target >= 0 && target < r->V ? l[target] : 0;     // the logit, for now
}

// Over Y: of each token the logsumexp of all parts of the vocabulary, and the logit of its target,
// from the rank that has it.
static void glam__head_join(glam_ctx *ctx, const glam_tensor *w, glam__head_rows *r)
{
    glam__mesh *m = ctx->mesh;
    int T = r->T;
    if (!glam__is_over(w, GLAM__OVER_Y)) return;
    float *all = glam__scratch_floats(ctx, 2 * (size_t)m->Y * T);
    float *mine = all + 2 * m->iy * (size_t)T;
    memcpy(mine, r->lse, (size_t)T * sizeof *all);
    memcpy(mine + T, r->xent, (size_t)T * sizeof *all);
    glam__agree(ctx, "loss", 0);
    glam__all_gather(ctx, &m->y, &m->sent.model, all, 2 * (size_t)m->Y * T, sizeof *all);
    for (int t = 0; t < T; t++) {
        double most = -1e30, sum = 0;
        float logit = 0;
        if (r->h->segments && !r->h->segments[r->token[t]]) continue;
        for (int y = 0; y < m->Y; y++) most = fmax(most, (double)all[2 * y * (size_t)T + t]);
        for (int y = 0; y < m->Y; y++) {
            sum += exp((double)all[2 * y * (size_t)T + t] - most);
            logit += all[(2 * y + 1) * (size_t)T + t];
        }
        r->lse[t] = (float)(most + log(sum));
        r->xent[t] = logit;
    }
}

enum { GLAM__HEAD_STRIP = 512 };       // logits at a time, when their capped values are needed

static void glam__head_backward_row(void *arg, int i, int worker GLAM__UNUSED)
{
    const glam__head_rows *r = (const glam__head_rows *)arg;
    float *l = r->logits + (size_t)i * r->V, capped[GLAM__HEAD_STRIP], cap = r->h->logit_cap;
    int strip = cap > 0 ? GLAM__HEAD_STRIP : r->V;
    int of = r->token[r->row + i];
    if (r->h->segments && !r->h->segments[of]) {
        memset(l, 0, (size_t)r->V * sizeof(float));
        return;
    }
    int target = r->h->targets[of] - r->from;
    float lse = r->lse[r->row + i], z = 2 * r->h->z_loss * r->z_share * lse;
    float xent = r->h->targets[of] < 0 ? 0.0f : 1.0f;
    for (int v = 0; v < r->V; v += strip, l += strip, target -= strip) {
        int n = glam__min(r->V - v, strip);
        if (cap > 0 && r->again) glam__cap(r->kernels, cap, n, l);
        if (cap > 0) memcpy(capped, l, (size_t)n * sizeof *l);
        r->kernels->exp_minus(n, lse, l, l);
        r->kernels->scale(n, r->scale * (xent + z), l);
        if (target >= 0 && target < n) l[target] -= r->scale;
        if (cap > 0) glam__cap_back(cap, n, capped, l);
    }
}

static glam__normed glam__head_normed(const glam_ctx *ctx, const glam_node *n)
{
    const glam__head *h = (const glam__head *)n->config;
    glam__normed w = glam__normed_of(ctx, n->in[0], n->in[1], h->norm_eps);
    w.scale = h->logit_scale;
    return w;
}

// What forward and backward begin with: a = logit_scale RMS(x) of the rows that have logits, 1/rms
// of all, and where logits go.
static glam__head_rows glam__head_begin(glam_ctx *ctx, glam_node *n, int chunk, float **a,
                                        float **rms)
{
    int T = (int)glam__rows(n->in[0]);
    size_t M = (size_t)glam__last(n->in[0]);
    glam__head_rows r;
    memset(&r, 0, sizeof r);
    r.kernels = ctx->simd.kernels;
    r.h = (const glam__head *)n->config;
    r.V = n->in[2]->shape.dim[0];
    r.from = n->in[2]->split ? n->in[2]->split->at[0] : 0;
    r.lse = (float *)n->saved;
    r.logits = chunk == T ? r.lse + glam__floats((uint64_t)T) / sizeof(float)
                          : glam__scratch_floats(ctx, (size_t)chunk * r.V);
    *a = glam__scratch_floats(ctx, glam_size(n->in[0]));
    *rms = glam__scratch_floats(ctx, (size_t)T);
    glam__norm_all(ctx, glam__head_normed(ctx, n), T, *a, *rms, 1);
    r.token = (int *)glam_scratch(ctx, (size_t)T * sizeof(int));
    for (int t = 0; t < T; t++) {
        if (r.h->z_loss <= 0 && (r.h->targets[t] < 0 || (r.h->segments && !r.h->segments[t])))
            continue;
        if (r.T < t) memcpy(*a + (size_t)r.T * M, *a + (size_t)t * M, M * sizeof(float));
        r.token[r.T++] = t;
    }
    return r;
}

static void glam__lm_loss_forward(glam_ctx *ctx, glam_node *n)
{
    const glam__head *h = (const glam__head *)n->config;
    int T = (int)glam__rows(n->in[0]), chunk = glam__head_chunk(T, n->in[2]->shape.dim[0]);
    float *a, *rms;
    double xent = 0, z = 0;
    glam__head_rows r = glam__head_begin(ctx, n, chunk, &a, &rms);
    glam__linear embed = glam__linear_of(ctx, n->in + 2, 1, 1, T);
    size_t M = (size_t)glam__last(n->in[0]);
    r.xent = glam__scratch_floats(ctx, (size_t)T);
    for (r.row = 0; r.row < r.T; r.row += chunk) {
        embed.rows = glam__min(r.T - r.row, chunk);
        glam__linear_run(&embed, 0, a + (size_t)r.row * M, r.logits, 0);
        glam__each_row(ctx, embed.rows, 8.0 * r.V, glam__head_forward_row, &r);
    }
    glam__head_join(ctx, n->in[2], &r);
    for (int t = 0; t < r.T; t++) {
        r.xent[t] = h->targets[r.token[t]] < 0 ? 0 : r.lse[t] - r.xent[t];
        xent += (double)r.xent[t];
        z += (double)r.lse[t] * (double)r.lse[t];
    }
    h->parts[0] = xent / h->count;
    h->parts[1] = z / (h->z_loss > 0 ? h->real : h->count);
    n->out[0]->data[0] = (float)(h->parts[0] + (double)h->z_loss * h->parts[1]);
}

static void glam__lm_loss_backward(glam_ctx *ctx, glam_node *n)
{
    const glam__head *h = (const glam__head *)n->config;
    int T = (int)glam__rows(n->in[0]), V = n->in[2]->shape.dim[0], chunk = glam__head_chunk(T, V);
    size_t M = (size_t)glam__last(n->in[0]);
    glam__normed w = glam__head_normed(ctx, n);
    float *a, *rms, *da = glam__scratch_floats(ctx, (size_t)T * M);
    glam__head_rows r = glam__head_begin(ctx, n, chunk, &a, &rms);
    glam__linear back = glam__linear_of(ctx, n->in + 2, 1, 0, T), embed = back;
    if (chunk < T) embed = glam__linear_of(ctx, n->in + 2, 1, 1, T);
    r.scale = (float)((double)n->out[0]->grad[0] / h->count);
    r.z_share = (float)(h->count / h->real);
    r.again = chunk < T;
    for (r.row = 0; r.row == 0 || r.row < r.T; r.row += chunk) {   // of no rows dE is 0
        float *at = da + (size_t)r.row * M, *x = a + (size_t)r.row * M;
        back.rows = embed.rows = glam__min(r.T - r.row, chunk);
        if (chunk < T) glam__linear_run(&embed, 0, x, r.logits, 0);
        glam__each_row(ctx, back.rows, 10.0 * V, glam__head_backward_row, &r);
        glam__outer o = glam__linear_outer(&back, 0, r.logits, x);
        glam__outer_run(ctx, &o, 1);
        glam__linear_run(&back, 0, r.logits, at, 0);
        for (int i = 0; i < back.rows; i++)                  // back through the scale
            ctx->simd.kernels->scale((int)M, h->logit_scale, at + (size_t)i * M);
    }
    for (int t = T - 1, row = r.T; t >= 0 && row <= t; t--) {  // to their tokens; others have none
        int there = row > 0 && r.token[row - 1] == t;
        if (there) memcpy(da + (size_t)t * M, da + (size_t)--row * M, M * sizeof(float));
        else memset(da + (size_t)t * M, 0, M * sizeof(float));
    }
    w.scale = 1;
    glam__sum_over_y(ctx, n->in[2], "loss backward", da, (size_t)T * M);
    glam__norm_backward(ctx, n, n->in[1], w, T, rms, da);
}

GLAM__OP(lm_loss, 3, GLAM__OP_FRESH | GLAM__OP_NARROW << 2);

/* == 12 attention : implementation ========================================================
   One op from x to y: queries, keys and values, then head by head blocks of queries against all
   keys they may see, then the output product.  Nothing of size S x S is kept: a block's scores
   live in scratch, and backward makes them again from q, k and the saved logsumexp.  Keys and
   values are laid out as panels, in training for one (row, head) at a time, in generation as the
   cache itself, so that decoding runs the same arithmetic and gives the same bits.

     s[i][j] = cap(scale q_i.k_j) + bias[bucket(i-j)]        buckets (praxis RelativeBias)
     s[i][j] = cap(scale ((q_i+u).k_j + (q_i+v).r_{i-j}))    Dai et al. 2019
     cap(l) = cap tanh(l / cap), where there is one: in the code the bias comes in with
     the mask, after the cap, while the terms of Transformer-XL are part of the product itself
     s[i][j] = cap(scale R_i q_i . R_j k_j), R_i a turn by i times the angles  Su et al. 2021
     P = softmax over visible j (plus one logit 0),  o_i = sum_j P_ij v_j
     dv_j = sum_i P_ij do_i,  dP_ij = do_i.v_j,  dS_ij = P_ij (dP_ij - do_i.o_i) */

// Keys, values and projected sinusoids of one layer of a session, as panels; see room 17.
typedef struct glam__cache {
    float *k;                      // [kv_heads][panels of most][steps of D][nr]
    float *v;                      // [kv_heads][panels of D][steps of most][nr]
    float *r;                      // [heads], as k; distance most-1-c in column c
    int    most, length;
} glam__cache;

// Elements of panels over so many columns and k of a product.
static size_t glam__panel_floats(const glam_ctx *ctx, int columns, int k)
{
    return (size_t)glam__panels_of(ctx, columns) * ctx->simd.kernels->nr *
           glam__steps(ctx->simd.products, k);
}

typedef struct glam__attention {
    glam_attention_config c;
    const int32_t *segments;       // [T]
    glam__cache   *cache;
    const float   *turn;           // rotary: [S,D] of each position cosines, then sines
    float scale;                   // of what is added to x
} glam__attention;

enum { GLAM__AT_X, GLAM__AT_NORM, GLAM__AT_Q, GLAM__AT_K, GLAM__AT_V, GLAM__AT_O, GLAM__AT_BIAS,
       GLAM__AT_R, GLAM__AT_U, GLAM__AT_VBIAS, GLAM__AT_QNORM, GLAM__AT_KNORM, GLAM__AT_INPUTS };

// Everything that the loops over heads need.
typedef struct glam__heads {
    glam_ctx *ctx;
    const glam__kernels *kernels, *products;
    const glam__attention *at;
    glam_node *n;
    int B, S, T, M, A, heads, D, start, keys;   // keys = start + S
    int K, kv_heads, group;                     // K = kv_heads D; group: heads of queries to each
    int each;                                   // heads of queries that a task of forward takes
    int distances, block, key_panels, d_panels; // distances: columns of the position scores
    int xl, back, below, qkv, tables;           // positions; backward, and who wants a gradient
    size_t lds, ldr;                            // strides of scores and position scores
    size_t ld;                                  // of q, k, v: they lie side by side in a row
    float *q, *k, *v, *o, *lse;                 // [T,A] [T,K] [T,K], stride ld; [T,A] [T,heads]
    float *raw;                                 // q and k before their norm, where they have one
    float *once, *dgains;                       // [workers,A]; by chunks of rows, q's then k's
    float *r;                                   // [distances,A], column c is distances-1-c back
    float *bias;                                // [heads,keys], column c is keys-1-c back
    float *work;                                // worker slices
    size_t work_floats;
    float *dout, *dq, *dk, *dv;                 // backward: [T,A]; as q, k, v
    float *dbias, *dr, *duv;                    // [B,heads,keys] [B,distances,A] [B,2,A]
    int   *bucket;                              // [keys]
    float *dr_all, *sinusoid;                   // [distances,A] [distances,M]
    float *normed, *rms, *dn;                   // [norm_rows,M] [T] [T,M]
    float *down, *back_down;                    // of adapters; see glam__linear_low
    uint64_t down_floats;
    int   norm_rows;
} glam__heads;

GLAM_API int glam_bucket(int distance, int buckets, int max_distance)
{
    int exact = buckets / 2;
    if (distance < 0 || exact < 1) return 0;
    if (distance < exact) return distance;       // also keeps 0 away from the logarithm
    if (distance >= max_distance) return buckets - 1;
    double beyond = log((double)distance / exact) / log((double)max_distance / exact);
    int bucket = exact + (int)(beyond * (buckets - exact));
    return glam__min(bucket, buckets - 1);
}

static void glam__attention_saved(void *arg, glam__layout *l)
{
    glam__heads *h = (glam__heads *)arg;
    uint64_t T = (uint64_t)h->T;
    h->q = glam__lay_floats(l, T * h->ld);
    h->k = h->q ? h->q + h->A : NULL;
    h->v = h->q ? h->k + h->K : NULL;
    h->raw = h->q;
    h->o = glam__lay_floats(l, T * (uint64_t)h->A);
    h->lse = glam__lay_floats(l, T * (uint64_t)h->heads);
    h->down = glam__lay_floats(l, h->down_floats);
}

// Sizes that shape, forward and backward share.
static glam__heads glam__heads_of(glam_ctx *ctx, glam_node *n, int back)
{
    glam__heads h;
    memset(&h, 0, sizeof h);
    h.ctx = ctx;
    h.kernels = ctx->simd.kernels;
    h.products = ctx->simd.products;
    h.at = (const glam__attention *)n->config;
    h.n = n;
    glam_shape s = n->in[0]->shape;
    h.B = s.dim[0]; h.S = s.dim[1]; h.M = s.dim[2];
    h.T = (int)glam__rows(n->in[0]);
    h.heads = h.at->c.heads; h.D = h.at->c.d_head; h.A = h.heads * h.D;
    h.kv_heads = h.at->c.kv_heads ? h.at->c.kv_heads : h.heads;
    h.K = h.kv_heads * h.D;
    h.group = h.heads / h.kv_heads;
    h.each = h.B * h.kv_heads < 2 * ctx->options.threads ? 1 : h.group;
    h.ld = (size_t)h.A + 2 * (size_t)h.K;
    h.start = h.at->cache ? h.at->cache->length : 0;
    h.keys = h.start + h.S;
    h.distances = h.at->cache ? h.at->cache->most : h.keys;
    h.block = h.keys > 1024 ? 24 : 32;
    h.key_panels = glam__panels_of(ctx, h.keys);
    h.d_panels = glam__panels_of(ctx, h.D);
    h.lds = glam__stride(h.key_panels * ctx->simd.kernels->nr);
    h.ldr = glam__stride(glam__panels_of(ctx, h.distances) * ctx->simd.kernels->nr);
    h.xl = h.at->c.position == GLAM_POSITION_TRANSFORMER_XL;
    h.back = back;
    h.below = glam__wants(n, GLAM__AT_X) || glam__wants(n, GLAM__AT_NORM);
    for (int i = GLAM__AT_Q; i <= GLAM__AT_V; i++) h.qkv |= glam__learns(n, i);
    for (int i = GLAM__AT_BIAS; i < GLAM__AT_INPUTS; i++) h.tables |= glam__wants(n, i);
    h.norm_rows = h.qkv ? h.T : ctx->options.threads;
    h.down_floats = glam__low_floats(n->in + GLAM__AT_Q, 4, (uint64_t)h.T);
    glam__lay_over(glam__attention_saved, &h, n->saved);
    return h;
}

// Parts of a worker's slice; the last five are for backward.
typedef struct glam__slice {
    float *k, *v, *s, *rp, *raw, *q, *narrow, *kn, *ds, *pack, *dq, *capped;
} glam__slice;

static float *glam__cut(float *from, size_t *used, size_t count)
{
    float *p = from ? from + *used : NULL;
    *used += (count + 15) / 16 * 16;
    return p;
}

// The worker's slice laid out from `at` on (NULL: only its size is wanted).
static glam__slice glam__slice_of(const glam__heads *h, float *at, int back, size_t *total)
{
    glam__slice w;
    size_t nr = (size_t)h->kernels->nr, block = (size_t)h->block, *n = total;
    size_t key = (size_t)h->key_panels * nr * h->D, xl = (size_t)h->xl;
    size_t value = ((size_t)h->d_panels * nr * h->keys + 15) / 16 * 16, b = (size_t)(back != 0);
    *n = 0;
    w.k = glam__cut(at, n, key);
    w.v = glam__cut(at, n, back ? key : value);
    w.s = glam__cut(at, n, block * h->lds);
    w.rp = glam__cut(at, n, xl * (size_t)glam__panels_of(h->ctx, h->distances) * nr * h->D);
    w.raw = glam__cut(at, n, xl * block * h->ldr);
    w.q = glam__cut(at, n, xl * 2 * block * (size_t)glam__up(h->D, 16));
    size_t wide = (size_t)glam__larger(h->lds, xl * h->ldr);
    size_t narrow = block * glam__stride(glam__max((int)wide, h->D) / 2 + 1);
    if (back && !h->products->panel_t) narrow = (size_t)glam__larger(narrow, wide * GLAM__LANES);
    w.narrow = glam__cut(at, n, h->products->pair > 1 ? narrow : 0);
    w.kn = glam__cut(at, n, b * (value + xl * (size_t)h->d_panels * nr * h->distances));
    w.ds = glam__cut(at, n, b * block * h->lds);
    w.pack = glam__cut(at, n, b * block * nr);
    w.dq = glam__cut(at, n, b * xl * block * (size_t)h->D);
    w.capped = glam__cut(at, n, h->at->c.cap > 0 ? b * block * h->lds : 0);
    return w;
}

static size_t glam__slice_floats(const glam__heads *h, int back)
{
    size_t total;
    glam__slice_of(h, NULL, back, &total);
    return total;
}

static glam_status glam__attention_fits(glam_ctx *ctx, glam_node *n, int M)
{
    const glam_attention_config *c = &((const glam__attention *)n->config)->c;
    if (c->heads < 1 || c->d_head < 1 || (int64_t)c->heads * c->d_head > 1 << 24)
        return glam_fail(ctx, GLAM_ERR_VALUE, "attention: %d heads of d_head %d; at least 1 of "
                         "each and at most 2^24 in all", c->heads, c->d_head);
    int A = c->heads * c->d_head, xl = c->position == GLAM_POSITION_TRANSFORMER_XL;
    int K = (c->kv_heads ? c->kv_heads : c->heads) * c->d_head;
    int whole = c->qk_norm == GLAM_QK_NORM_WHOLE, normed = c->qk_norm != GLAM_QK_NORM_NONE;
    const struct { const char *name; int needed; glam_shape want; } input[] = {
        { "q", 1, glam_dim2(M, A) }, { "k", 1, glam_dim2(M, K) }, { "v", 1, glam_dim2(M, K) },
        { "o", 1, glam_dim2(A, M) },
        { "bias", c->position == GLAM_POSITION_BUCKETS, glam_dim2(c->heads, c->buckets) },
        { "r", xl, glam_dim2(M, A) }, { "u", xl, glam_dim2(c->heads, c->d_head) },
        { "v_bias", xl, glam_dim2(c->heads, c->d_head) },
        { "q_norm", normed, glam_dim1(whole ? A : c->d_head) },
        { "k_norm", normed, glam_dim1(whole ? K : c->d_head) } };
    for (int i = 0; i < 10; i++) {                     // in the order of the op's inputs
        const glam_tensor *w = n->in[GLAM__AT_Q + i];
        if (input[i].needed && (!w || !glam__same_shape(w->shape, input[i].want)))
            return glam_fail(ctx, GLAM_ERR_SHAPE, "attention: %s is %s; with x %s it must be %s",
                             input[i].name, w ? glam__say(w->shape).text : "NULL",
                             glam__say(n->in[0]->shape).text, glam__say(input[i].want).text);
    }
    if (xl && M % 2)
        return glam_fail(ctx, GLAM_ERR_SHAPE, "attention: the sinusoid of Transformer-XL needs an "
                         "even width, x has %d", M);
    return GLAM_OK;
}

// Scratch of forward, and with h->back of backward.
static void glam__attention_scratch(void *arg, glam__layout *l)
{
    glam__heads *h = (glam__heads *)arg;
    uint64_t B = (uint64_t)h->B, T = (uint64_t)h->T, A = (uint64_t)h->A, keys = (uint64_t)h->keys;
    uint64_t table = (uint64_t)h->distances * A, workers = (uint64_t)h->ctx->options.threads;
    h->work_floats = glam__slice_floats(h, h->back);
    int norms = h->at->c.qk_norm != GLAM_QK_NORM_NONE;
    if (norms) h->q = glam__lay_floats(l, T * h->ld);
    if (norms) h->k = h->q ? h->q + A : NULL;
    if (norms) h->once = glam__lay_floats(l, 2 * workers * A);
    h->bias = glam__lay_floats(l, (uint64_t)h->heads * keys);
    h->r = h->xl && !h->at->cache ? glam__lay_floats(l, table) : NULL;
    if (!h->back || h->below || h->qkv || h->tables)
        h->work = glam__lay_floats(l, workers * h->work_floats);
    if (!h->back) return;
    h->dout = glam__lay_floats(l, T * A);
    h->dq = glam__lay_floats(l, T * h->ld);
    h->dk = h->dq ? h->dq + A : NULL;
    h->dv = h->dq ? h->dk + h->K : NULL;
    if (glam__wants(h->n, GLAM__AT_BIAS)) {
        h->dbias = glam__lay_floats(l, B * h->heads * keys);
        h->bucket = (int *)glam__lay(l, keys, sizeof(int));
    }
    if (h->xl) h->duv = glam__lay_floats(l, B * 2 * A);
    if (h->xl && glam__wants(h->n, GLAM__AT_R)) {
        h->dr = glam__lay_floats(l, B * table);
        h->dr_all = glam__lay_floats(l, table);
        h->sinusoid = glam__lay_floats(l, (uint64_t)h->distances * h->M);
    }
    if (norms) h->dgains = glam__lay_floats(l, glam__norm_back_floats(h->T, h->A + h->K));
    h->normed = glam__lay_floats(l, (uint64_t)h->norm_rows * h->M);
    h->rms = glam__lay_floats(l, T);
    h->dn = h->below ? glam__lay_floats(l, T * (uint64_t)h->M) : NULL;
    h->back_down = glam__lay_floats(l, h->down_floats);
}

static uint64_t glam__attention_bytes(glam_ctx *ctx, glam_node *n, int back)
{
    glam__heads h = glam__heads_of(ctx, n, back);
    uint64_t most = glam__chain_bytes(ctx, 0, glam__max(h.M, h.A), 0);
    if (back) most = glam__larger(most, glam__outer_bytes(ctx));
    if (back) most = glam__larger(most, glam__norm_back_bytes(h.T, h.M));
    return most + glam__lay_count(glam__attention_scratch, &h);
}

// What an attention and the config of a model refuse in the same words.
static glam_status glam__heads_fit(glam_ctx *ctx, const char *who, int heads, int kv_heads, int D,
                                   glam_position position, const glam_rotary *r, glam_qk_norm norm)
{
    if (kv_heads < 0 || kv_heads > heads || (kv_heads && heads % kv_heads))
        return glam_fail(ctx, GLAM_ERR_VALUE, "%s: kv_heads is %d with %d heads; it must divide "
                         "them", who, kv_heads, heads);
    if ((int)norm < 0 || (int)norm > 2)
        return glam_fail(ctx, GLAM_ERR_VALUE, "%s: qk_norm is %d; none, head and whole are "
                         "possible", who, (int)norm);
    if (position != GLAM_POSITION_ROTARY) return GLAM_OK;
    if (D % 2)
        return glam_fail(ctx, GLAM_ERR_VALUE, "%s: rotary positions turn pairs, and d_head is %d; "
                         "choose an even one", who, D);
    if ((int)r->scaling < 0 || (int)r->scaling > 3)
        return glam_fail(ctx, GLAM_ERR_VALUE, "%s: rotary.scaling is %d; none, linear, llama3 and "
                         "yarn are possible", who, (int)r->scaling);
    if (!glam__within((double)r->theta, 1.001, 1e30) || r->context < 1 ||
        !glam__within((double)r->factor, 1e-6, 1e6) ||
        !glam__within((double)r->attention, 1e-6, 1e6) ||
        !glam__within((double)r->low, 1e-6, 1e6) || !glam__within((double)r->high, 1e-6, 1e6) ||
        (r->scaling > GLAM_ROTARY_LINEAR && r->low >= r->high))
        return glam_fail(ctx, GLAM_ERR_VALUE, "%s: rotary theta %g, factor %g, context %d, low %g, "
                         "high %g and attention %g must be above 0 (theta above 1), and low below "
                         "high; 0 everywhere is plain rotary", who, (double)r->theta,
                         (double)r->factor, r->context, (double)r->low, (double)r->high,
                         (double)r->attention);
    return GLAM_OK;
}

// Sums over Y, of measure mode: y, dx, and the gains of queries and keys.
static void glam__attention_count(const glam__heads *h)
{
    const glam_node *n = h->n;
    const glam_tensor *o = n->in[GLAM__AT_O];
    int whole = h->at->c.qk_norm == GLAM_QK_NORM_WHOLE;
    int below = glam__wants(n, GLAM__AT_X) || glam__wants(n, GLAM__AT_NORM);
    glam__count_sum_over_y(h->ctx, o, glam_size(n->in[0]));
    if (below) glam__count_sum_over_y(h->ctx, o, glam_size(n->in[0]));
    for (int side = 0; side < 2; side++)
        if (glam__wants(n, GLAM__AT_QNORM + side))
            glam__count_sum_over_y(h->ctx, o, (uint64_t)(!whole ? h->D : side ? h->K : h->A));
}

static glam_status glam__attention_shape(glam_ctx *ctx, glam_node *n)
{
    const glam_attention_config *c = &((const glam__attention *)n->config)->c;
    glam_shape s = n->in[0]->shape;
    if (s.dims != 3)
        return glam_fail(ctx, GLAM_ERR_SHAPE, "attention: x is %s; it must be [B,S,M]",
                         glam__say(s).text);
    if (c->heads < 1 || c->d_head < 1 ||
        (c->position == GLAM_POSITION_BUCKETS && (c->buckets < 2 ||
                                                  c->max_distance <= c->buckets / 2)))
        return glam_fail(ctx, GLAM_ERR_VALUE, "attention: %d heads of %d, %d buckets to distance "
                         "%d make no sense", c->heads, c->d_head, c->buckets, c->max_distance);
    if (glam__heads_fit(ctx, "attention", c->heads, c->kv_heads, c->d_head, c->position, &c->rotary,
                        c->qk_norm) != GLAM_OK) return ctx->error;
    if (!glam__cap_fits(c->cap))
        return glam_fail(ctx, GLAM_ERR_VALUE, "attention: cap is %g; it must be 0 (off), or from "
                         "1e-30 to 1e30", (double)c->cap);
    if (glam__norm_fits(ctx, "attention", n->in[0], n->in[GLAM__AT_NORM]) != GLAM_OK ||
        glam__attention_fits(ctx, n, s.dim[2]) != GLAM_OK) return ctx->error;
    glam__heads h = glam__heads_of(ctx, n, 0);
    n->out_shape[0] = s;
    n->saved_bytes = glam__lay_count(glam__attention_saved, &h);
    n->scratch_bytes = glam__attention_bytes(ctx, n, 0);
    if (n->flags & GLAM__NODE_RECORDED)
        n->scratch_bytes = glam__larger(n->scratch_bytes, glam__attention_bytes(ctx, n, 1));
    if (n->in[GLAM__AT_NORM]) n->flags |= GLAM__NODE_RESIDUAL;
    glam__attention_count(&h);
    return glam__want_all(ctx, n, GLAM__AT_Q, 4, (int)glam__rows(n->in[0]));
}

// ---- positions

// What stands at 0 gets its meaning.
static void glam__rotary_derive(glam_rotary *r, int context)
{
    int yarn = r->scaling == GLAM_ROTARY_YARN;
    if (r->theta == 0) r->theta = 10000;
    if (r->factor == 0) r->factor = 1;
    if (!r->context) r->context = context;
    if (r->low == 0) r->low = 1;
    if (r->high == 0) r->high = yarn ? 32.0f : 4.0f;
    if (r->attention == 0)
        r->attention = yarn && r->factor > 1 ? 0.1f * logf(r->factor) + 1 : 1.0f;
}

// Which pair of D/2 turns n times within the context.
static double glam__rotary_pair(const glam_rotary *r, int D, double n)
{ return D * log(r->context / (n * 6.283185307179586)) / (2 * log((double)r->theta)); }

// The angle of pair i for each position: as it is where ramp is 0, divided by factor where it is 1.
static double glam__rotary_angle(const glam_rotary *r, int D, int i)
{
    double angle = pow((double)r->theta, -2.0 * i / D), ramp = 0;
    if (r->scaling == GLAM_ROTARY_LINEAR) ramp = 1;
    if (r->scaling == GLAM_ROTARY_LLAMA3) {                // turns within the context
        double turns = r->context * angle / 6.283185307179586;
        ramp = ((double)r->high - turns) / ((double)r->high - (double)r->low);
    }
    if (r->scaling == GLAM_ROTARY_YARN) {
        double from = floor(glam__rotary_pair(r, D, (double)r->high));
        double to = ceil(glam__rotary_pair(r, D, (double)r->low));
        from = from > 0 ? from : 0;
        to = to < D - 1 ? to : D - 1;
        ramp = (i - from) / (to > from ? to - from : 0.001);
    }
    ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
    return angle * (1 - ramp) + angle / (double)r->factor * ramp;
}

// cos and sin [D/2] each of positions start, start + 1, ...; they live as long as the step.
static const float *glam__rotary_table(glam_ctx *ctx, const glam_rotary *r, int D, int start, int S)
{
    float *table = glam__take_values(ctx, &ctx->base.step, (uint64_t)S * (uint64_t)D);
    for (int i = 0; i < D / 2 && table && !ctx->base.measuring; i++) {
        double angle = glam__rotary_angle(r, D, i);
        for (int s = 0; s < S; s++) {
            double scale = r->scaling == GLAM_ROTARY_YARN ? (double)r->attention : 1;
            table[(size_t)s * D + i] = (float)(scale * cos((start + s) * angle));
            table[(size_t)s * D + D / 2 + i] = (float)(scale * sin((start + s) * angle));
        }
    }
    return table;
}

static void glam__turn_heads(const glam__heads *h, size_t t, float sign, float *x, int count)
{
    const float *c = h->at->turn + t % (size_t)h->S * (size_t)h->D;
    for (int i = 0; i < count; i++)
        h->kernels->rotate(h->D / 2, sign, c, c + h->D / 2, x + (size_t)i * h->D);
}

// Queries and keys of a row made ready: normalised, and turned to their position.
static void glam__ready_row(void *arg, int t, int worker GLAM__UNUSED)
{
    const glam__heads *h = (const glam__heads *)arg;
    int whole = h->at->c.qk_norm == GLAM_QK_NORM_WHOLE;
    for (int side = 0; side < 2; side++) {
        size_t at = (size_t)t * h->ld;
        const float *raw = h->raw + at + (side ? h->A : 0);
        const glam_tensor *gain = h->n->in[GLAM__AT_QNORM + side];
        float *x = (side ? h->k : h->q) + at;
        int heads = side ? h->kv_heads : h->heads, n = whole ? heads * h->D : h->D;
        for (int i = 0; i < heads * h->D && h->q != h->raw; i += n)
            h->kernels->rmsnorm(n, h->at->c.norm_eps, raw + i, gain->data, x + i);
        if (h->at->turn) glam__turn_heads(h, (size_t)t, 1, x, heads);
    }
}

static void glam__ready(glam__heads *h)
{
    if (h->q != h->raw || h->at->turn)
        glam__each_row(h->ctx, h->T, 4.0 * (double)h->ld, glam__ready_row, h);
}

// The same backward, in place in dq and dk, by chunks of rows; gradients of the gains by chunks.
static void glam__ready_back_body(void *arg, int begin, int end, int worker)
{
    const glam__heads *h = (const glam__heads *)arg;
    int whole = h->at->c.qk_norm == GLAM_QK_NORM_WHOLE;
    float *dy = h->once ? h->once + 2 * (size_t)worker * h->A : NULL;
    for (int t = begin * GLAM__NORM_CHUNK; t < glam__min(end * GLAM__NORM_CHUNK, h->T); t++)
        for (int side = 0; side < 2; side++) {
            size_t at = (size_t)t * h->ld;
            const float *raw = h->raw + at + (side ? h->A : 0);
            const glam_tensor *gain = h->n->in[GLAM__AT_QNORM + side];
            float *dx = (side ? h->dk : h->dq) + at;
            int heads = side ? h->kv_heads : h->heads, n = whole ? heads * h->D : h->D;
            if (h->at->turn) glam__turn_heads(h, (size_t)t, -1, dx, heads);
            if (!dy) continue;                             // no norms
            float *dgain = h->dgains + (size_t)(t / GLAM__NORM_CHUNK) * (h->A + h->K) +
                           (side ? h->A : 0);
            if (t % GLAM__NORM_CHUNK == 0) memset(dgain, 0, (size_t)n * sizeof(float));
            for (int i = 0; i < heads * h->D; i += n) {
                float r = h->kernels->rmsnorm(n, h->at->c.norm_eps, raw + i, gain->data,
                                              dy + h->A);
                memcpy(dy, dx + i, (size_t)n * sizeof(float));
                memset(dx + i, 0, (size_t)n * sizeof(float));
                h->kernels->rmsnorm_back(n, r, raw + i, gain->data, dy, dx + i, dgain);
            }
        }
}

static void glam__ready_back(glam__heads *h)
{
    int chunks = glam__ceil_div(h->T, GLAM__NORM_CHUNK);
    int whole = h->at->c.qk_norm == GLAM_QK_NORM_WHOLE;
    if (h->q == h->raw && !h->at->turn) return;
    glam__parallel(h->ctx, chunks, 8.0 * h->T * (double)h->ld, glam__ready_back_body, h);
    for (int side = 0; side < 2 && h->q != h->raw; side++) {
        glam_tensor *gain = h->n->in[GLAM__AT_QNORM + side];
        int adds = 0, n = !whole ? h->D : side ? h->K : h->A;
        float *dgain = glam__grad_of(gain, &adds), *part = h->dgains + (side ? h->A : 0);
        if (!dgain) continue;
        for (int c = 1; c < chunks; c++)
            h->kernels->add(n, part + (size_t)c * (h->A + h->K), part);
        glam__sum_over_y(h->ctx, h->n->in[GLAM__AT_O], "attention backward", part, (size_t)n);
        if (adds) h->kernels->add(n, part, dgain);
        else memcpy(dgain, part, (size_t)n * sizeof(float));
    }
}

// Bias of each head by distance, nearest last, so that a row of scores adds a run of it.
static void glam__bias_rows(const glam__heads *h)
{
    const glam_tensor *table = h->n->in[GLAM__AT_BIAS];
    const glam_attention_config *c = &h->at->c;
    for (int j = 0; j < h->keys; j++) {
        int bucket = glam_bucket(h->keys - 1 - j, c->buckets, c->max_distance);
        for (int i = 0; i < h->heads; i++)
            h->bias[(size_t)i * h->keys + j] = table->data[(size_t)i * c->buckets + bucket];
    }
}

// Row c of the sinusoid is that of distance p->m - 1 - c: sines, then cosines.
static void glam__fill_sinusoid(const glam__product *p, int row, int rows, int at GLAM__UNUSED,
                                int terms GLAM__UNUSED, float *out, size_t ld)
{
    int half = p->k / 2;
    for (int i = 0; i < rows; i++)
        for (int t = 0; t < half; t++) {
            double angle = (p->m - 1 - (row + i)) * pow(10000.0, -2.0 * t / p->k);
            out[(size_t)i * ld + t] = (float)sin(angle);
            out[(size_t)i * ld + half + t] = (float)cos(angle);
        }
}

// r [distances,A] = sinusoid Wr
static void glam__project_sinusoid(glam_ctx *ctx, const glam_tensor *w, int distances, float *r)
{
    glam__product p = glam__product_new(distances, w->shape.dim[0]);
    p.fill = glam__fill_sinusoid;
    p.parts = 1;
    p.b[0] = glam__operand_of(ctx, w, 0);
    p.c[0] = r;
    p.ldc = (size_t)p.b[0].n;
    glam__product_run(ctx, &p);
}

static void glam__attention_positions(const glam__heads *h)
{
    if (h->at->c.position == GLAM_POSITION_BUCKETS) glam__bias_rows(h);
    if (h->r) glam__project_sinusoid(h->ctx, h->n->in[GLAM__AT_R], h->distances, h->r);
}

// ---- one (row of the batch, head)

// Panels of rows [first, first+count) of x (stride ld) as columns: [panel][steps of D][nr].
static void glam__pack_columns(const glam__kernels *k, int count, int D, const float *x, size_t ld,
                               float *out)
{
    for (int j = 0; j < count; j += k->nr, out += (size_t)glam__steps(k, D) * k->nr)
        glam__pack_panel_t(k, D, glam__min(count - j, k->nr), x + (size_t)j * ld, ld, out);
}

// Panels of the columns of x [count,D]: [panel of D][steps of count][nr].
static void glam__pack_rows(const glam__kernels *k, int count, int D, const float *x, size_t ld,
                            float *out)
{
    for (int d = 0; d < D; d += k->nr, out += (size_t)glam__steps(k, count) * k->nr)
        glam__pack_panel(k, 0, count, glam__min(D - d, k->nr), x + d, ld, out);
}

// C [rows,n] = A [rows,k] B, of B's panels over k of length `length`.
static void glam__attend_times(const glam__heads *h, const glam__slice *w, int rows, int n, int k,
                               const float *a, size_t lda, const float *b, int length, float *c,
                               size_t ldc)
{
    const glam__kernels *t = h->products;
    if (t->pair > 1) {
        size_t ld = glam__stride(glam__steps(t, k));
        glam__narrow_block(t, rows, k, a, lda, w->narrow, ld);
        a = w->narrow;
        lda = ld;
    }
    for (int j = 0; j < n; j += t->nr, b += (size_t)glam__steps(t, length) * t->nr)
        t->panel(rows, glam__min(n - j, t->nr), k, a, lda, b, (size_t)t->nr, c + j, ldc, 0);
}

// New keys and values go into the cache, each to its own place.
static void glam__cache_append(void *arg, int begin, int end, int worker GLAM__UNUSED)
{
    const glam__heads *h = (const glam__heads *)arg;
    glam__cache *c = h->at->cache;
    const glam__kernels *t = h->products;
    int nr = t->nr, D = h->D;
    for (int kv = begin; kv < end; kv++) {
        float *k = c->k + (size_t)kv * glam__panel_floats(h->ctx, c->most, D);
        float *v = c->v + (size_t)kv * glam__panel_floats(h->ctx, D, c->most);
        for (int i = 0; i < h->S; i++) {
            const float *key = h->k + (size_t)i * h->ld + (size_t)kv * D;
            const float *value = h->v + (size_t)i * h->ld + (size_t)kv * D;
            int to = h->start + i, steps = glam__steps(t, c->most);
            float *column = k + (size_t)(to / nr) * nr * glam__steps(t, D) + to % nr;
            for (int d = 0; d < D; d += t->pair)
                glam__put_terms(t, column + (size_t)(d / t->pair) * nr, d,
                                glam__min(D - d, t->pair), key + d);
            for (int d = 0; d < D; d++)
                glam__put_terms(t, v + ((size_t)(d / nr) * steps + to / t->pair) * nr + d % nr, to,
                                1, value + d);
        }
    }
}

// Scores of queries [i0,i0+rows) of batch row b against keys 0..last: before the softmax.
static void glam__scores(const glam__heads *h, const glam__slice *w, int b, int head, int i0,
                         int rows)
{
    const float *q = h->q + ((size_t)b * h->S + i0) * h->ld + (size_t)head * h->D;
    size_t ldq = h->ld;
    int last = h->start + i0 + rows, nr = h->kernels->nr;
    if (h->xl) {
        const float *u = h->n->in[GLAM__AT_U]->data + (size_t)head * h->D;
        const float *v = h->n->in[GLAM__AT_VBIAS]->data + (size_t)head * h->D;
        size_t wide = (size_t)glam__up(h->D, 16);
        float *qv = w->q + (size_t)h->block * wide;
        for (int i = 0; i < rows; i++)
            for (int d = 0; d < h->D; d++) {
                w->q[i * wide + d] = q[i * ldq + d] + u[d];
                qv[i * wide + d] = q[i * ldq + d] + v[d];
            }
        int j = (h->distances - last) / nr * nr;
        glam__attend_times(h, w, rows, glam__up(h->distances - j, nr), h->D, qv, wide,
                           w->rp + (size_t)j * glam__steps(h->products, h->D), h->D, w->raw + j,
                           h->ldr);
        q = w->q;
        ldq = wide;
    }
    glam__attend_times(h, w, rows, glam__up(last, nr), h->D, q, ldq, w->k, h->D, w->s, h->lds);
}

// Scale, cap, position and mask of one row of scores; returns how many keys it may see, 0 at
// padding.  capped: NULL, or where backward finds what the cap made.
static int glam__score_row(const glam__heads *h, int b, int head, int i, float *s,
                           const float *raw, float *capped)
{
    const glam_attention_config *c = &h->at->c;
    int count = h->start + i + 1;
    const int32_t *segment = h->at->segments ? h->at->segments + (size_t)b * h->S : NULL;
    if (segment && !segment[i]) {
        if (capped && c->cap > 0) memset(capped, 0, (size_t)count * sizeof *s);
        return 0;
    }
    if (c->position == GLAM_POSITION_TRANSFORMER_XL)
        h->kernels->add(count, raw + h->distances - count, s);
    if (c->scale != 1) h->kernels->scale(count, c->scale, s);
    if (c->cap > 0) {
        glam__cap(h->kernels, c->cap, count, s);
        if (capped) memcpy(capped, s, (size_t)count * sizeof *s);
    }
    if (c->position == GLAM_POSITION_BUCKETS)
        h->kernels->add(count, h->bias + (size_t)head * h->keys + h->keys - count, s);
    for (int j = 0; j < count && segment; j++)
        if (segment[j] != segment[i]) s[j] = -1e30f;       // exp makes 0 of it
    return count;
}

static void glam__hide_keys(const glam__heads *h, int b, int i, float *s)
{
    const int32_t *segment = h->at->segments ? h->at->segments + (size_t)b * h->S : NULL;
    for (int j = 0; segment && j <= i; j++)
        if (segment[j] != segment[i]) s[j] = 0;
}

// The keys and values that a head of queries looks at, as panels.
static void glam__attend_keys(const glam__heads *h, glam__slice *w, int b, int kv)
{
    size_t at = (size_t)b * h->S * h->ld + (size_t)kv * h->D;
    const glam__cache *c = h->at->cache;
    if (c) {
        w->k = c->k + (size_t)kv * glam__panel_floats(h->ctx, c->most, h->D);
        w->v = c->v + (size_t)kv * glam__panel_floats(h->ctx, h->D, c->most);
        return;
    }
    glam__pack_columns(h->products, h->keys, h->D, h->k + at, h->ld, w->k);
    glam__pack_rows(h->products, h->keys, h->D, h->v + at, h->ld, w->v);
}

static void glam__attend(const glam__heads *h, glam__slice *w, int b, int head)
{
    const glam__kernels *kernels = h->kernels;
    const glam__cache *c = h->at->cache;
    int length = c ? c->most : h->keys;        // rows that the values have room for
    if (h->xl && c) w->rp = c->r + (size_t)head * glam__panel_floats(h->ctx, c->most, h->D);
    else if (h->xl)
        glam__pack_columns(h->products, h->distances, h->D, h->r + (size_t)head * h->D,
                           (size_t)h->A, w->rp);
    for (int i0 = 0; i0 < h->S; i0 += h->block) {
        int rows = glam__min(h->S - i0, h->block), last = h->start + i0 + rows;
        glam__scores(h, w, b, head, i0, rows);
        for (int i = 0; i < rows; i++) {
            float *s = w->s + (size_t)i * h->lds;
            size_t t = (size_t)b * h->S + i0 + i;
            int count = glam__score_row(h, b, head, i0 + i, s, w->raw + (size_t)i * h->ldr, NULL);
            h->lse[t * h->heads + head] = count ? kernels->softmax(count, s, h->at->c.sink) : 0;
            if (count) glam__hide_keys(h, b, i0 + i, s);
            memset(s + count, 0, (size_t)(last - count) * sizeof(float));
        }
        float *o = h->o + ((size_t)b * h->S + i0) * h->A + (size_t)head * h->D;
        glam__attend_times(h, w, rows, h->D, last, w->s, h->lds, w->v, length, o, (size_t)h->A);
        for (int i = 0; i < rows && h->at->scale != 1; i++)
            kernels->scale(h->D, h->at->scale, o + (size_t)i * h->A);
    }
}

static void glam__attend_body(void *arg, int begin, int end, int worker)
{
    const glam__heads *h = (const glam__heads *)arg;
    size_t total;
    glam__slice w = glam__slice_of(h, h->work + (size_t)worker * h->work_floats, 0, &total);
    glam__hold(h->products, 1);
    for (int t = begin * h->each; t < end * h->each; t++) {
        int b = t / h->heads, head = t % h->heads;
        if (t == begin * h->each || head % h->group == 0)
            glam__attend_keys(h, &w, b, head / h->group);
        glam__attend(h, &w, b, head);
    }
    glam__hold(h->products, 0);
}

static void glam__attention_forward(glam_ctx *ctx, glam_node *n)
{
    glam__heads h = glam__heads_of(ctx, n, 0);
    glam_tensor *x = n->in[0], *norm = n->in[GLAM__AT_NORM];
    glam__normed w = glam__normed_of(ctx, x, norm, h.at->c.norm_eps);
    glam__lay_scratch(ctx, glam__attention_scratch, &h);
    glam__linear l = glam__linear_of(ctx, n->in + GLAM__AT_Q, 4, 0, h.T);
    glam__linear_low(&l, 4, h.T, h.down, NULL);
    glam__product p = glam__linear_times(&l, 0, NULL, h.raw, 0);   // q, k, v = RMS(x) [Wq Wk Wv]
    glam__linear_beside(&l, 1, &p, h.raw + h.A);
    glam__linear_beside(&l, 2, &p, h.v);
    p.fill = glam__fill_normed;
    p.arg = &w;
    p.ldc = h.ld;
    glam__product_run(ctx, &p);

    glam__ready(&h);
    glam__attention_positions(&h);
    if (h.at->cache) glam__parallel(ctx, h.kv_heads, 2.0 * h.S * h.K, glam__cache_append, &h);
    glam__parallel(ctx, h.B * h.heads / h.each, 2.0 * h.T * h.keys * h.A, glam__attend_body, &h);
    if (h.at->cache) h.at->cache->length += h.S;

    glam__product out = glam__linear_times(&l, 3, h.o, n->out[0]->data, 0);       // y = x + o Wo
    out.base = norm && glam__first_of_y(ctx, n->in[GLAM__AT_O]) ? x->data : NULL;
    glam__product_run(ctx, &out);
    glam__sum_over_y(ctx, n->in[GLAM__AT_O], "attention", n->out[0]->data, glam_size(x));
}

// ---- backward of one (row, head)

// P and dS of a block, in w->s and w->ds; dS not yet scaled.
static void glam__attend_back_scores(const glam__heads *h, const glam__slice *w, int b, int head,
                                     int i0, int rows)
{
    const glam__kernels *kernels = h->kernels;
    int last = i0 + rows;
    float *dout = h->dout + ((size_t)b * h->S + i0) * h->A + (size_t)head * h->D;
    const float *o = h->o + ((size_t)b * h->S + i0) * h->A + (size_t)head * h->D;
    float scale = h->at->scale;                            // o was saved with it
    for (int i = 0; i < rows && scale != 1; i++)
        kernels->scale(h->D, scale, dout + (size_t)i * h->A);
    glam__scores(h, w, b, head, i0, rows);
    glam__attend_times(h, w, rows, glam__up(last, kernels->nr), h->D, dout, (size_t)h->A, w->v,
                       h->D, w->ds, h->lds);
    for (int i = 0; i < rows; i++) {
        float *s = w->s + (size_t)i * h->lds, *ds = w->ds + (size_t)i * h->lds;
        size_t t = (size_t)b * h->S + i0 + i;
        int count = glam__score_row(h, b, head, i0 + i, s, w->raw + (size_t)i * h->ldr,
                                    w->capped + (size_t)i * h->lds);
        kernels->exp_minus(count, h->lse[t * h->heads + head], s, s);
        if (count) glam__hide_keys(h, b, i0 + i, s);
        float delta = kernels->dot(h->D, dout + (size_t)i * h->A, o + (size_t)i * h->A) / scale;
        for (int j = 0; j < count; j++) ds[j] = s[j] * (ds[j] - delta);
        memset(s + count, 0, (size_t)(last - count) * sizeof(float));
        memset(ds + count, 0, (size_t)(last - count) * sizeof(float));
    }
}

// C [last,D] += S^T X over the block's rows, X [rows,D] with stride ldx.
static void glam__attend_outer(const glam__heads *h, const glam__slice *w, const float *s,
                               size_t lds, int m, int rows, const float *x, size_t ldx, float *c,
                               size_t ldc)
{
    const glam__kernels *kernels = h->products;
    glam__panel_fn *panel = kernels->panel_t ? kernels->panel_t : kernels->panel;
    if (!kernels->panel_t) {
        glam__narrow_turned(kernels, 0, rows, m, s, lds, w->narrow, GLAM__LANES);
        lds = GLAM__LANES;                                 // a block has no more pairs
    } else if (kernels->pair > 1) {
        kernels->narrow_rows(rows, m, s, lds, w->narrow, lds);
    }
    if (kernels->pair > 1) s = w->narrow;
    for (int d = 0; d < h->D; d += kernels->nr) {
        int n = glam__min(h->D - d, kernels->nr);
        glam__pack_panel(kernels, 0, rows, n, x + d, ldx, w->pack);
        panel(m, n, rows, s, lds, w->pack, (size_t)kernels->nr, c + d, ldc, 1);
    }
}

// Position gradients of a block, from its dS (scaled): dr, u, v, and the query's part of them.
static void glam__attend_back_xl(const glam__heads *h, const glam__slice *w, int b, int head,
                                 int i0, int rows, float *dq)
{
    const glam__kernels *kernels = h->kernels;
    int last = i0 + rows, from = h->distances - last;
    from -= from % h->products->pair;                    // pairs begin there
    size_t wide = (size_t)glam__up(h->D, 16);
    const float *qv = w->q + (size_t)h->block * wide;
    float *du = h->duv + ((size_t)b * 2) * h->A + (size_t)head * h->D, *dv = du + h->A;
    float *rn = w->kn + ((size_t)h->d_panels * kernels->nr * h->keys + 15) / 16 * 16;
    for (int i = 0; i < rows; i++) {                     // dS by distance instead of by key
        float *raw = w->raw + (size_t)i * h->ldr;
        memset(raw + from, 0, (size_t)(h->distances - from) * sizeof(float));
        memcpy(raw + h->distances - (i0 + i + 1), w->ds + (size_t)i * h->lds,
               (size_t)(i0 + i + 1) * sizeof(float));
        kernels->add(h->D, dq + (size_t)i * h->ld, du);        // dq holds dS K: the content part
    }
    glam__attend_times(h, w, rows, h->D, h->distances - from, w->raw + from, h->ldr,
                       rn + (size_t)(from / h->products->pair) * kernels->nr, h->distances, w->dq,
                       (size_t)h->D);
    for (int i = 0; i < rows; i++) {
        kernels->add(h->D, w->dq + (size_t)i * h->D, dv);
        kernels->add(h->D, w->dq + (size_t)i * h->D, dq + (size_t)i * h->ld);
    }
    if (!h->dr) return;
    glam__attend_outer(h, w, w->raw + from, h->ldr, h->distances - from, rows, qv, wide,
                       h->dr + ((size_t)b * h->distances + from) * h->A + (size_t)head * h->D,
                       (size_t)h->A);
}

// Of one head of queries: adds to the gradients of the keys and values that it looks at.
static void glam__attend_back(const glam__heads *h, const glam__slice *w, int b, int head)
{
    const glam__kernels *kernels = h->kernels;
    size_t ld = h->ld, wide = (size_t)glam__up(h->D, 16), row = (size_t)b * h->S * ld;
    size_t at = row + (size_t)head * h->D, at_kv = row + (size_t)(head / h->group) * h->D;
    const float *q = h->q + at;
    float *dq = h->dq + at, *dk = h->dk + at_kv, *dv = h->dv + at_kv, *dbias = NULL;
    if (h->dbias) {
        dbias = h->dbias + ((size_t)b * h->heads + head) * h->keys;
        memset(dbias, 0, (size_t)h->keys * sizeof(float));
    }
    if (h->xl) {
        const float *r = h->r + (size_t)head * h->D;
        glam__pack_columns(h->products, h->distances, h->D, r, (size_t)h->A, w->rp);
        glam__pack_rows(h->products, h->distances, h->D, r, (size_t)h->A,
                        w->kn + ((size_t)h->d_panels * kernels->nr * h->keys + 15) / 16 * 16);
    }
    for (int i0 = 0; i0 < h->S; i0 += h->block) {
        int rows = glam__min(h->S - i0, h->block), last = i0 + rows;
        const float *dout = h->dout + ((size_t)b * h->S + i0) * h->A + (size_t)head * h->D;
        glam__attend_back_scores(h, w, b, head, i0, rows);
        glam__attend_outer(h, w, w->s, h->lds, last, rows, dout, (size_t)h->A, dv, ld);
        for (int i = 0; i < rows; i++) {
            float *ds = w->ds + (size_t)i * h->lds;
            if (dbias) kernels->add(i0 + i + 1, ds, dbias + h->keys - (i0 + i + 1));
            if (h->at->c.cap > 0)
                glam__cap_back(h->at->c.cap, i0 + i + 1, w->capped + (size_t)i * h->lds, ds);
            if (h->at->c.scale != 1) kernels->scale(last, h->at->c.scale, ds);
        }
        glam__attend_times(h, w, rows, h->D, last, w->ds, h->lds, w->kn, h->keys,
                           dq + (size_t)i0 * ld, ld);
        if (h->xl) glam__attend_back_xl(h, w, b, head, i0, rows, dq + (size_t)i0 * ld);
        glam__attend_outer(h, w, w->ds, h->lds, last, rows, h->xl ? w->q : q + (size_t)i0 * ld,
                           h->xl ? wide : ld, dk, ld);
    }
}

static void glam__attend_back_body(void *arg, int begin, int end, int worker)
{
    const glam__heads *h = (const glam__heads *)arg;
    size_t total, bytes = (size_t)h->D * sizeof(float);
    glam__slice w = glam__slice_of(h, h->work + (size_t)worker * h->work_floats, 1, &total);
    glam__hold(h->products, 1);
    for (int t = begin; t < end; t++) {                    // heads of keys: each sums its own
        int b = t / h->kv_heads, kv = t % h->kv_heads;
        size_t at = (size_t)b * h->S * h->ld + (size_t)kv * h->D;
        glam__pack_columns(h->products, h->keys, h->D, h->k + at, h->ld, w.k);
        glam__pack_columns(h->products, h->keys, h->D, h->v + at, h->ld, w.v);
        glam__pack_rows(h->products, h->keys, h->D, h->k + at, h->ld, w.kn);
        for (int j = 0; j < h->keys; j++) {
            memset(h->dk + at + (size_t)j * h->ld, 0, bytes);
            memset(h->dv + at + (size_t)j * h->ld, 0, bytes);
        }
        for (int i = 0; i < h->group; i++) glam__attend_back(h, &w, b, kv * h->group + i);
    }
    glam__hold(h->products, 0);
}

// The tables' gradients: partial sums of the rows of the batch, added in their order.
static void glam__bias_grads(const glam__heads *h)
{
    const glam_attention_config *c = &h->at->c;
    glam_tensor *table = h->n->in[GLAM__AT_BIAS];
    glam__grad_settle(table);
    for (int j = 0; j < h->keys; j++)
        h->bucket[j] = glam_bucket(h->keys - 1 - j, c->buckets, c->max_distance);
    for (int b = 0; b < h->B; b++)
        for (int i = 0; i < h->heads; i++)
            for (int j = 0; j < h->keys; j++)
                table->grad[(size_t)i * c->buckets + h->bucket[j]] +=
                    h->dbias[((size_t)b * h->heads + i) * h->keys + j];
}

static void glam__sinusoid_grads(const glam__heads *h)
{
    size_t n = (size_t)h->distances * h->A;
    glam__product p = glam__product_new(h->distances, h->M);
    glam__fill_sinusoid(&p, 0, h->distances, 0, h->M, h->sinusoid, (size_t)h->M);
    memcpy(h->dr_all, h->dr, n * sizeof(float));
    for (int b = 1; b < h->B; b++) glam__add_all(h->kernels, n, h->dr + (size_t)b * n, h->dr_all);
    glam__outer o = glam__outer_of(h->n->in[GLAM__AT_R], h->distances, h->sinusoid, (size_t)h->M,
                                   h->dr_all, (size_t)h->A);
    glam__outer_run(h->ctx, &o, 1);
}

static void glam__attention_position_grads(const glam__heads *h)
{
    if (h->dbias) glam__bias_grads(h);
    for (int side = 0; side < 2; side++) {                 // u, v
        glam_tensor *t = h->n->in[GLAM__AT_U + side];
        if (!glam__wants(h->n, GLAM__AT_U + side) || !t->wants_grad) continue;
        glam__grad_settle(t);
        for (int b = 0; b < h->B && h->duv; b++)
            h->kernels->add(h->A, h->duv + ((size_t)b * 2 + side) * h->A, t->grad);
    }
    if (h->dr) glam__sinusoid_grads(h);
}

static void glam__attention_backward(glam_ctx *ctx, glam_node *n)
{
    glam__heads h = glam__heads_of(ctx, n, 1);
    glam_tensor **in = n->in, *norm = in[GLAM__AT_NORM];
    glam__normed w = glam__normed_of(ctx, in[0], norm, h.at->c.norm_eps);
    size_t T = (size_t)h.T, M = (size_t)h.M, A = (size_t)h.A;
    const float *dy = n->out[0]->grad;
    glam__product p[3];
    glam__outer o[12];
    int outers = 0;

    glam__lay_scratch(ctx, glam__attention_scratch, &h);
    float *dqkv[3] = { h.dq, h.dk, h.dv };
    int count = h.work || h.down_floats ? 4 : 0;
    glam__linear l = glam__linear_of(ctx, in + GLAM__AT_Q, count, 1, h.T);
    glam__linear_low(&l, 4, h.T, h.down, h.back_down);
    glam__linear_down(&l, 3, dy, 0, 0);
    if (h.work) {                                          // more than Wo trains
        glam__linear_run(&l, 3, dy, h.dout, 0);            // do = dy Wo^T
        if (h.q != h.raw) glam__ready(&h);                 // else they were turned in place
        glam__attention_positions(&h);
        if (h.dr) memset(h.dr, 0, (size_t)h.B * h.distances * A * sizeof(float));
        if (h.duv) memset(h.duv, 0, (size_t)h.B * 2 * A * sizeof(float));
        glam__parallel(ctx, h.B * h.kv_heads, 5.0 * (double)T * h.keys * h.A,
                       glam__attend_back_body, &h);
        glam__attention_position_grads(&h);
        glam__ready_back(&h);
    }

    glam__norm_all(ctx, w, h.T, h.normed, h.rms, h.qkv);
    for (int i = 0; i < 3 && h.work; i++) {
        glam__linear_down(&l, i, dqkv[i], h.ld, 0);
        outers += glam__linear_outers(&l, i, h.normed, dqkv[i], h.ld, 0, o + outers);
    }
    outers += glam__linear_outers(&l, 3, h.o, dy, 0, 0, o + outers);
    glam__outer_run(ctx, o, outers);
    if (!h.below) return;
    for (int i = 0; i < 3; i++) {
        p[i] = glam__linear_times(&l, i, dqkv[i], h.dn, i > 0);
        p[i].lda = h.ld;
    }
    glam__chain_run(ctx, p, 3, 0);
    glam__sum_over_y(ctx, in[GLAM__AT_O], "attention backward", h.dn, T * M);
    glam__norm_backward(ctx, n, norm, w, h.T, h.rms, h.dn);
}

GLAM__OP(attention, GLAM__AT_INPUTS, GLAM__OP_FRESH | GLAM__OP_OPTIONAL |
         GLAM__OP_NARROW << GLAM__AT_Q | GLAM__OP_NARROW << GLAM__AT_K |
         GLAM__OP_NARROW << GLAM__AT_V | GLAM__OP_NARROW << GLAM__AT_O |
         GLAM__OP_NARROW << GLAM__AT_R);

static glam_tensor *glam__attention_apply(glam_ctx *ctx, glam_tensor *x,
                                          const glam_attention_weights *w,
                                          const glam__attention *at)
{
    glam_tensor *in[GLAM__AT_INPUTS];
    in[GLAM__AT_X] = x; in[GLAM__AT_NORM] = w->norm;
    in[GLAM__AT_Q] = w->q; in[GLAM__AT_K] = w->k; in[GLAM__AT_V] = w->v; in[GLAM__AT_O] = w->o;
    in[GLAM__AT_BIAS] = at->c.position == GLAM_POSITION_BUCKETS ? w->bias : NULL;
    in[GLAM__AT_R] = w->r; in[GLAM__AT_U] = w->u; in[GLAM__AT_VBIAS] = w->v_bias;
    in[GLAM__AT_QNORM] = at->c.qk_norm ? w->q_norm : NULL;
    in[GLAM__AT_KNORM] = at->c.qk_norm ? w->k_norm : NULL;
    return glam_apply(ctx, &glam__op_attention, in, at, sizeof *at, NULL);
}

GLAM_API glam_tensor *glam_attention(glam_ctx *ctx, glam_tensor *x, const glam_attention_weights *w,
                                     const glam_attention_config *config, const int32_t *segments)
{
    glam__attention at;
    if (!ctx || ctx->error || !x) return NULL;
    if (!w || !config) {
        glam_fail(ctx, GLAM_ERR_VALUE, "attention: weights and config must not be NULL");
        return NULL;
    }
    memset(&at, 0, sizeof at);
    at.c = *config;
    at.scale = 1;
    at.segments = glam__keep_ints(ctx, segments, glam__rows(x), 0);
    glam__rotary_derive(&at.c.rotary, x->shape.dim[1]);
    if (at.c.position == GLAM_POSITION_ROTARY && at.c.d_head > 0 && w->q &&
        at.c.d_head <= glam__last(w->q))                   // else shape() refuses
        at.turn = glam__rotary_table(ctx, &at.c.rotary, at.c.d_head, 0, x->shape.dim[1]);
    return glam__attention_apply(ctx, x, w, &at);
}

/* == 13 ffn : implementation ==============================================================
   y = h Wd,  h = f(x Wg) * (x Wu); backward keeps the two products and makes h again.
     dh = dy Wd^T;  dWd = h^T dy;  dWg = x^T dg;  dWu = x^T du;  dx = dg Wg^T + du Wu^T
   with dg = dh u f'(g), du = dh f(g) (Shazeer 2020). */

// The activations that a config can name, one row each: what it is to the kernels in a dense layer,
// which has a gate, and in an expert; -1: not there.  Files know them by the same names.
#define GLAM__EACH_ACTIVATION(X) \
    X(GLAM_RELU,          "relu",          -1,                      GLAM__ACT_RELU) \
    X(GLAM_GELU_TANH,     "gelu_tanh",     GLAM__ACT_GEGLU_TANH,    GLAM__ACT_GELU_TANH) \
    X(GLAM_GELU_ERF,      "gelu_erf",      GLAM__ACT_GEGLU_ERF,     GLAM__ACT_GELU_ERF) \
    X(GLAM_GEGLU,         "geglu",         -1,                      GLAM__ACT_GEGLU_TANH) \
    X(GLAM_SWIGLU,        "swiglu",        GLAM__ACT_SWIGLU,        GLAM__ACT_SWIGLU) \
    X(GLAM_GEGLU_LITERAL, "geglu_literal", GLAM__ACT_GEGLU_LITERAL, -1)
#define GLAM__ACTIVATION_NAME(activation, name, dense, expert) "|" name
#define GLAM__ACTIVATIONS (&GLAM__EACH_ACTIVATION(GLAM__ACTIVATION_NAME)[1])

static int glam__act_kind(glam_activation a, int in_dense)
{
#define GLAM__ACTIVATION_KIND(activation, name, dense, expert) \
    case activation: return in_dense ? dense : expert;
    switch (a) { GLAM__EACH_ACTIVATION(GLAM__ACTIVATION_KIND) }
    return -1;
}

// Whether an expert of this kind has a third matrix.
static int glam__is_gated(glam_activation a)
{ return glam__act_form(glam__act_kind(a, 0)) != GLAM__ALONE; }

// A feed-forward over rows, all those of a dense layer or each expert's own: y = h Wd,
// h = scale f(x Wg) * (x Wu), or scale f(x Wu) without a gate.
typedef struct glam__glu {
    glam__linear l;                // gate, up, down
    int kind, H, first;            // first: of gate and up, whose part begins the sum of dx
    float *g, *u;                  // [rows,H] before the activation; g NULL: no gate
    float *h;                      // backward; NULL: nobody wants the gradient of Wd
    float scale;                   // of h
    const float *weight;           // of a row, the mixture's; NULL: 1
    float *dweight;                // its gradient, dh.h
} glam__glu;
enum { GLAM__GLU_GATE, GLAM__GLU_UP, GLAM__GLU_DOWN };

static void glam__fill_acted(const glam__product *p, int row, int rows, int at, int terms,
                             float *out, size_t ld)
{
    const glam__glu *f = (const glam__glu *)p->arg;
    for (int i = 0; i < rows; i++) {
        size_t from = (size_t)(row + i) * f->H + at;
        f->l.ctx->simd.kernels->act(f->kind, terms, f->g ? f->g + from : NULL, f->u + from,
                                    out + (size_t)i * ld);
        if (f->scale != 1) f->l.ctx->simd.kernels->scale(terms, f->scale, out + (size_t)i * ld);
    }
}

// Backward of it where dh is handed over: g and u become dg and du, h is written again; all scaled,
// and by the weight where there is one.  Only products read them: where these multiply bf16 they
// are written so, a row where it was, in half of the room.
static void glam__acted_back_rows(const glam__product *p, int row, int rows, int at, int terms,
                                  const float *dh, size_t ld)
{
    const glam__glu *f = (const glam__glu *)p->arg;
    const glam__kernels *k = f->l.ctx->simd.kernels;
    float made[3][GLAM__KC];
    int narrow = f->l.ctx->simd.products->pair > 1;
    size_t ldh = (size_t)glam__steps(f->l.ctx->simd.products, f->H);
    for (int t = row; t < row + rows; t++, dh += ld) {
        size_t from = (size_t)t * f->H, to = (size_t)at >> narrow;
        float *g = f->g ? f->g + from : NULL, *u = f->u + from;
        float *h = f->h ? f->h + (size_t)t * ldh : NULL;
        float *dg = !g ? NULL : narrow ? made[0] : g + at, *du = narrow ? made[1] : u + at;
        float *again = narrow || !h ? made[2] : h + at;
        for (int j = at; j < at + terms && t + 1 < row + rows; j += 16) {  // rows lie pages apart
            if (g) GLAM__FETCH(g + f->H + j);
            GLAM__FETCH(u + f->H + j);
        }
        k->act_back(f->kind, terms, g ? g + at : NULL, u + at, dh, again, dg, du);
        float w = f->weight ? f->scale * f->weight[t] : f->scale;
        if (f->weight)
            f->dweight[t] = (at ? f->dweight[t] : 0) + f->scale * k->dot(terms, dh, again);
        float *all[] = { dg, du, again };
        for (int i = !g; i < 3 && (f->weight || w != 1); i++) k->scale(terms, w, all[i]);
        if (!narrow) continue;
        if (g) k->narrow(terms, dg, g + to);
        k->narrow(terms, du, u + to);
        if (h) k->narrow(terms, again, h + to);
    }
}

// y = base + h Wd.  Rows of x as they are, or made by fill.
static void glam__glu_forward(glam__glu *f, const float *x,
                              void (*fill)(const glam__product *, int, int, int, int, float *,
                                           size_t),
                              const void *arg, float *y, const float *base)
{
    glam__product p[2];
    p[0] = glam__linear_times(&f->l, GLAM__GLU_UP, x, f->u, 0);        // g, u = x [Wg Wu]
    if (f->g) glam__linear_beside(&f->l, GLAM__GLU_GATE, &p[0], f->g);
    p[0].fill = fill;
    p[0].arg = arg;
    p[1] = glam__linear_times(&f->l, GLAM__GLU_DOWN, NULL, y, 0);      // y = (f(g) * u) Wd
    p[1].fill = glam__fill_acted;
    p[1].arg = f;
    p[1].base = base;
    glam__chain_run(f->l.ctx, p, 2, 1);
}

// dx = dg Wg^T + du Wu^T (NULL: nobody is below), and in o the gradients of the three weights and
// of their adapters; how many they are.
static int glam__glu_backward(glam__glu *f, const float *x, const float *dy, float *dx,
                              glam__outer o[9])
{
    int one = f->first, other = !one, narrow = f->l.ctx->simd.products->pair > 1;
    float *made[2] = { f->g, f->u };
    glam__product p[3];
    p[0] = glam__linear_times(&f->l, GLAM__GLU_DOWN, dy, NULL, 0);     // dh = dy Wd^T
    p[1] = glam__linear_times(&f->l, one, made[one], dx, 0);
    p[1].before = glam__acted_back_rows;                   // g, u become dg, du
    p[1].arg = f;
    if (f->g) p[2] = glam__linear_times(&f->l, other, made[other], dx, 1);
    p[1].narrow = p[2].narrow = narrow;
    glam__chain_run(f->l.ctx, p, !dx ? 1 : f->g ? 3 : 2, 1);
    for (int i = 0; i < 2 && !dx; i++) glam__linear_down(&f->l, i, made[i], 0, narrow);
    int rank = f->weight ? glam__low_rank(f->l.w[GLAM__GLU_DOWN]) : 0;
    float *down = f->l.down[GLAM__GLU_DOWN];
    for (int r = 0; r < f->l.rows && rank; r++, down += rank)          // as h was
        f->l.ctx->simd.kernels->scale(rank, f->weight[r], down);
    int by_x = narrow ? GLAM__NARROW_X : 0, by_dy = narrow ? GLAM__NARROW_DY : 0;
    int outers = glam__linear_outers(&f->l, GLAM__GLU_DOWN, f->h, dy, 0, by_x, o);
    outers += glam__linear_outers(&f->l, GLAM__GLU_GATE, x, f->g, 0, by_dy, o + outers);
    outers += glam__linear_outers(&f->l, GLAM__GLU_UP, x, f->u, 0, by_dy, o + outers);
    return outers;
}

typedef struct glam__ffn { int kind; float norm_eps, scale; } glam__ffn;
enum { GLAM__FF_X, GLAM__FF_NORM, GLAM__FF_GATE, GLAM__FF_UP, GLAM__FF_DOWN, GLAM__FF_INPUTS };

// Names for what one pass needs.
typedef struct glam__ffn_view {
    const glam__ffn *f;
    int T, M, H, norm_rows;
    size_t ldh;                    // of h
    int below, hidden, down;       // who wants a gradient: what is below, Wg or Wu, Wd
    float *g, *u;                  // saved: [T,H] before the activation
    float *h, *normed, *r, *dn;    // scratch of backward: [T,ldh] [norm_rows,M] [T] [T,M]
    uint64_t low;                  // floats of adapters; see glam__linear_low
    float *down_low, *back_low;    // saved; scratch of backward
} glam__ffn_view;

static void glam__ffn_saved(void *arg, glam__layout *l)
{
    glam__ffn_view *v = (glam__ffn_view *)arg;
    v->g = glam__lay_floats(l, (uint64_t)v->T * v->H);
    v->u = glam__lay_floats(l, (uint64_t)v->T * v->H);
    v->down_low = glam__lay_floats(l, v->low);
}

static void glam__ffn_scratch(void *arg, glam__layout *l)
{
    glam__ffn_view *v = (glam__ffn_view *)arg;
    v->h = v->down ? glam__lay_floats(l, (uint64_t)v->T * v->ldh) : NULL;
    v->normed = glam__lay_floats(l, (uint64_t)v->norm_rows * v->M);
    v->r = glam__lay_floats(l, (uint64_t)v->T);
    v->dn = v->below ? glam__lay_floats(l, (uint64_t)v->T * v->M) : NULL;
    v->back_low = glam__lay_floats(l, v->low);
}

static glam__ffn_view glam__ffn_view_of(const glam_ctx *ctx, const glam_node *n)
{
    glam__ffn_view v;
    memset(&v, 0, sizeof v);
    v.f = (const glam__ffn *)n->config;
    v.T = (int)glam__rows(n->in[0]);
    v.M = glam__last(n->in[0]);
    v.H = n->in[GLAM__FF_UP]->shape.dim[1];
    v.ldh = (size_t)glam__steps(ctx->simd.products, v.H);
    v.below = glam__wants(n, GLAM__FF_X) || glam__wants(n, GLAM__FF_NORM);
    v.hidden = glam__learns(n, GLAM__FF_GATE) || glam__learns(n, GLAM__FF_UP);
    v.down = glam__learns(n, GLAM__FF_DOWN);
    v.low = glam__low_floats(n->in + GLAM__FF_GATE, 3, (uint64_t)v.T);
    v.norm_rows = v.hidden ? v.T : ctx->options.threads;
    glam__lay_over(glam__ffn_saved, &v, n->saved);
    return v;
}

static glam_status glam__ffn_shape(glam_ctx *ctx, glam_node *n)
{
    const glam__ffn *f = (const glam__ffn *)n->config;
    glam_tensor *x = n->in[0], *gate = n->in[GLAM__FF_GATE], *up = n->in[GLAM__FF_UP],
                *down = n->in[GLAM__FF_DOWN];
    int M = glam__last(x);
    if (f->kind < 0)
        return glam_fail(ctx, GLAM_ERR_VALUE, "ffn: a dense layer takes gelu_tanh, gelu_erf, "
                         "swiglu or geglu_literal");
    if (!gate || !up || !down || up->shape.dims != 2 || up->shape.dim[0] != M ||
        !glam__same_shape(gate->shape, up->shape) ||
        !glam__same_shape(down->shape, glam_dim2(up->shape.dim[1], M)))
        return glam_fail(ctx, GLAM_ERR_SHAPE, "ffn: with x %s the gate is %s, up %s, down %s; they "
                         "must be [M,H], [M,H], [H,M]", glam__say(x->shape).text,
                         gate ? glam__say(gate->shape).text : "NULL",
                         up ? glam__say(up->shape).text : "NULL",
                         down ? glam__say(down->shape).text : "NULL");
    if (glam__norm_fits(ctx, "ffn", x, n->in[GLAM__FF_NORM]) != GLAM_OK) return ctx->error;
    glam__ffn_view v = glam__ffn_view_of(ctx, n);
    n->out_shape[0] = x->shape;
    n->saved_bytes = glam__lay_count(glam__ffn_saved, &v);
    n->scratch_bytes = glam__chain_bytes(ctx, (uint64_t)v.T, M, v.H);
    if (n->flags & GLAM__NODE_RECORDED) {      // one after the other: chain, outer products, norm
        uint64_t most = v.below ? n->scratch_bytes
                                : glam__chain_apart_bytes(ctx, (uint64_t)v.T, M, v.H);
        most = glam__larger(most, glam__outer_bytes(ctx));
        most = glam__larger(most, glam__norm_back_bytes(v.T, M));
        n->scratch_bytes = glam__larger(n->scratch_bytes,
                                        glam__lay_count(glam__ffn_scratch, &v) + most);
    }
    if (n->in[GLAM__FF_NORM]) n->flags |= GLAM__NODE_RESIDUAL;
    glam__count_sum_over_y(ctx, down, glam_size(x));
    if (v.below) glam__count_sum_over_y(ctx, down, glam_size(x));
    return glam__want_all(ctx, n, GLAM__FF_GATE, 3, v.T);
}

static glam__glu glam__ffn_glu(glam_ctx *ctx, const glam_node *n, const glam__ffn_view *v, int back)
{
    glam__glu f;
    memset(&f, 0, sizeof f);
    f.l = glam__linear_of(ctx, n->in + GLAM__FF_GATE, 3, back, v->T);
    glam__linear_low(&f.l, 3, v->T, v->down_low, back ? v->back_low : NULL);
    f.kind = v->f->kind;
    f.scale = v->f->scale;
    f.H = v->H;
    f.g = v->g; f.u = v->u; f.h = v->h;
    return f;
}

static void glam__ffn_forward(glam_ctx *ctx, glam_node *n)
{
    glam__ffn_view v = glam__ffn_view_of(ctx, n);
    glam_tensor *x = n->in[0], *y = n->out[0], *norm = n->in[GLAM__FF_NORM];
    glam__normed w = glam__normed_of(ctx, x, norm, v.f->norm_eps);
    glam__glu f = glam__ffn_glu(ctx, n, &v, 0);
    int base = norm && glam__first_of_y(ctx, n->in[GLAM__FF_DOWN]);
    glam__glu_forward(&f, NULL, glam__fill_normed, &w, y->data, base ? x->data : NULL);
    glam__sum_over_y(ctx, n->in[GLAM__FF_DOWN], "ffn", y->data, glam_size(x));
}

static void glam__ffn_backward(glam_ctx *ctx, glam_node *n)
{
    glam__ffn_view v = glam__ffn_view_of(ctx, n);
    glam_tensor **in = n->in;
    glam__normed w = glam__normed_of(ctx, in[0], in[GLAM__FF_NORM], v.f->norm_eps);
    glam__outer o[9];
    glam__lay_scratch(ctx, glam__ffn_scratch, &v);
    glam__glu f = glam__ffn_glu(ctx, n, &v, 1);
    glam__norm_all(ctx, w, v.T, v.normed, v.r, v.hidden);
    glam__outer_run(ctx, o, glam__glu_backward(&f, v.normed, n->out[0]->grad, v.dn, o));
    if (!v.below) return;
    glam__sum_over_y(ctx, in[GLAM__FF_DOWN], "ffn backward", v.dn, (size_t)v.T * v.M);
    glam__norm_backward(ctx, n, in[GLAM__FF_NORM], w, v.T, v.r, v.dn);
}

GLAM__OP(ffn, GLAM__FF_INPUTS, GLAM__OP_FRESH | GLAM__OP_OPTIONAL |
         GLAM__OP_NARROW << GLAM__FF_GATE | GLAM__OP_NARROW << GLAM__FF_UP |
         GLAM__OP_NARROW << GLAM__FF_DOWN);

static glam_tensor *glam__ffn_apply(glam_ctx *ctx, glam_tensor *x, const glam_ffn_weights *w,
                                    glam_activation activation, float norm_eps, float scale)
{
    glam_tensor *in[GLAM__FF_INPUTS];
    glam__ffn f = { glam__act_kind(activation, 1), norm_eps, scale };
    in[GLAM__FF_X] = x; in[GLAM__FF_NORM] = w->norm;
    in[GLAM__FF_GATE] = w->gate; in[GLAM__FF_UP] = w->up; in[GLAM__FF_DOWN] = w->down;
    return glam_apply(ctx, &glam__op_ffn, in, &f, sizeof f, NULL);
}

GLAM_API glam_tensor *glam_ffn(glam_ctx *ctx, glam_tensor *x, const glam_ffn_weights *w,
                               glam_activation activation, float norm_eps)
{
    if (!ctx || ctx->error || !x) return NULL;
    if (w) return glam__ffn_apply(ctx, x, w, activation, norm_eps, 1);
    glam_fail(ctx, GLAM_ERR_VALUE, "ffn: the weights are NULL");
    return NULL;
}

/* == 14 moe : implementation ==============================================================
   A router scores every expert for every token; the best k do the work, their outputs are mixed by
   the router's own weights (paper section 4; GShard algorithm 1).  So it is with top_k:

     p = softmax(cap(x Wr) / temperature), cap: room 12   scores     [T,E]
     e_1..e_k = the k best, w_i = p[e_i] / (sum + 1e-9)   route      [T,k]
     slot of each choice, first choices first; no slot left: dropped
     rows = tokens sorted by expert                       dispatch   [R,M], R <= T*k
     out = expert(rows)                                   experts    [R,M]
     y_t = sum over kept i of w_i out[place(t,i)]         combine    [T,M]
     aux = mean over real tokens of E sum_e f_e P_e       balance

   f_e is the share of first choices of the real tokens of a token's group, before capacity, and a
   constant; P_e is their mean of p.  Another router is another row of GLAM__EACH_ROUTER, with a
   chooser of its own; sigmoid scores, noise, a bias and switched-off experts change p or the
   choice, and all from the slots on is the same.  What was done is told in a glam_routing, seen
   choice by choice in options.trace, and counted by glam_stats, last in the room.

   Invariants: the sort is by (expert, token), so an expert's
   rows come in the same order however many workers there are; every buffer is sized by T*k, not by
   where tokens happen to go; padding is not routed and not counted, in no sum and no divisor.

   On a mesh x owns the experts [x E/X, (x+1) E/X).  Each rank tells the others how many rows it has
   for every expert; then rows go to the owners, what they make of them comes back, and backward
   does the same with gradients.  An expert's rows lie by rank, so by part of the batch; the
   gradients of its weights are made by part and joined as one rank would join its parts. */

GLAM_API glam_moe_config glam_moe_config_default(void)
{
    glam_moe_config c;
    memset(&c, 0, sizeof c);
    c.experts = 8;
    c.top_k = 2;
    c.every = 2;
    c.activation = GLAM_GEGLU;
    c.normalise = GLAM_NORMALISE_BEFORE_DROP;
    c.aux_weight = 0.01f;
    c.temperature = c.weight_scale = 1;
    c.threshold = 0.5f;
    c.bias_rate = 0.001f;
    return c;
}

// The routers, a row each: their word in files, who chooses for one token, and what is special.
// All else of a mixture is the same for all: scores, slots, weights, their gradients.
struct glam__moe;
enum { GLAM__LEARNS = 1,       // has a matrix, and by it a gradient
       GLAM__NOISE  = 2,       // a second matrix, for noise on the logits
       GLAM__SKIPS  = 4,       // may leave choices after the first out
       GLAM__AHEAD  = 8 };     // experts choose tokens; a token has up to E of them, and no balance
                               // loss is needed
#define GLAM__EACH_ROUTER(X) \
    X(GLAM_ROUTER_TOP_K,         "top_k",         glam__choose_best,    GLAM__LEARNS) \
    X(GLAM_ROUTER_SAMPLED,       "sampled",       glam__choose_sampled, GLAM__LEARNS) \
    X(GLAM_ROUTER_RANDOM,        "random",        glam__choose_best,    GLAM__LEARNS|GLAM__SKIPS) \
    X(GLAM_ROUTER_NOISY,         "noisy",         glam__choose_best,    GLAM__LEARNS|GLAM__NOISE) \
    X(GLAM_ROUTER_HASH,          "hash",          glam__choose_hash,    0) \
    X(GLAM_ROUTER_EXPERT_CHOICE, "expert_choice", NULL,                 GLAM__LEARNS|GLAM__AHEAD)
#define GLAM__ROUTER_NAME(router, name, choose, traits) "|" name
#define GLAM__ROUTERS (&GLAM__EACH_ROUTER(GLAM__ROUTER_NAME)[1])

static int glam__router_traits(glam_router router)
{
#define GLAM__ROUTER_TRAITS(router, name, choose, traits) case router: return traits;
    switch (router) { GLAM__EACH_ROUTER(GLAM__ROUTER_TRAITS) }
    return -1;
}

// Weight of the balance loss: none where load is even by itself, or nothing could learn from it.
static float glam__aux_weight(const glam_moe_config *c)
{
    int traits = glam__router_traits(c->router);
    return traits & GLAM__LEARNS && !(traits & GLAM__AHEAD) ? c->aux_weight : 0;
}

// Entries of a token.
static int glam__entries(const glam_moe_config *c)
{ return glam__router_traits(c->router) & GLAM__AHEAD ? c->experts : c->top_k; }

// A routing whose arrays can be written.
typedef struct glam__route {
    int32_t *expert, *slot, *kept, *load;
    float   *weight, *probability;
} glam__route;

// The pass that a mixture is part of: what its trace says.
typedef struct glam__pass {
    glam_pass kind;
    int step, layer, part, rows, length, position;
    const int32_t *tokens;         // [T], or NULL
} glam__pass;

typedef struct glam__moe_setup {
    glam_moe_config c;
    float norm_eps, part;          // part: share of the step's real tokens in this part of it
    float scale;                   // of what is added to x
    int infer, most;               // on a mesh: nothing is dropped; tokens that any rank may have
    const int32_t *mask;           // [T]
    const float *bias;             // [E] or NULL
    const unsigned char *off;      // [E] experts that are switched off, or NULL
    const unsigned char *frozen;   // [E] experts that do not train, or NULL
    glam__pass pass;
    glam__route route;             // lives longer than the op
    glam_routing *record;          // summary for the caller; may be NULL
} glam__moe_setup;

enum { GLAM__MO_X, GLAM__MO_NORM, GLAM__MO_ROUTER, GLAM__MO_GATE, GLAM__MO_UP, GLAM__MO_DOWN,
       GLAM__MO_NOISE, GLAM__MO_INPUTS };

// Names for what one pass needs.
typedef struct glam__moe {
    glam_ctx *ctx;
    glam_node *n;
    const glam__moe_setup *s;
    int T, M, H, E, k, group, groups, capacity, gated, kind;     // k: entries of a token
    int R, traits, draws;          // rows of my choices at most; see the routers; chance is at work
    float *g, *u;                  // [R,H] before the activation; g only where gated
    float *lse;                    // [T] logsumexp of the router's logits
    float *capped;                 // [T,E] those logits, where they have a cap
    float *slope;                  // [T,E] of noise: dl / d(x Wn)
    int32_t *place, *source;       // [T,k] row of an entry or -1; [R] entry of a row
    glam__span *spans;             // [E] rows of each expert
    int rows;                      // R: kept choices
    float *normed, *out;           // scratch: [T,M] [R,M]
    // Where the experts are: all here (X = 1), or E / X of them on each of X ranks
    int X, own, room;              // own: experts here; room: for so many rows
    int here, spans_here;          // rows that my experts work on, and in how many spans
    int plain;                     // token by token; see the plain mixture in room 05
    glam__span *at_work;           // those spans; X > 1: [X][own], by who sent them
    float *xr, *made;              // X > 1: [room,M] those rows; what experts made of them
    int32_t *loads;                // X > 1: [X,E+1] of all ranks, and their room
    int sent, received;
    // traced: logits, weights before drops, what became of each choice     [T,E] [T,k] [T,k]
    int traced;
    float *logit, *before;
    int32_t *fate;
    float *down, *back_down;       // of adapters: saved; scratch of backward, else NULL
} glam__moe;

// Floats for adapters, the router's first; see glam__linear_low.
static uint64_t glam__moe_low(const glam__moe *m)
{
    return glam__low_floats(m->n->in + GLAM__MO_ROUTER, 1, (uint64_t)m->T) +
           glam__low_floats(m->n->in + GLAM__MO_GATE, 3, (uint64_t)m->R);
}

static void glam__moe_saved(void *arg, glam__layout *l)
{
    glam__moe *m = (glam__moe *)arg;
    uint64_t T = (uint64_t)m->T, room = (uint64_t)m->room, E = (uint64_t)m->E;
    m->u = glam__lay_floats(l, glam__mul(room, (uint64_t)m->H));
    m->g = m->gated ? glam__lay_floats(l, glam__mul(room, (uint64_t)m->H)) : NULL;
    m->xr = m->X > 1 ? glam__lay_floats(l, glam__mul(room, (uint64_t)m->M)) : NULL;
    m->lse = glam__lay_floats(l, T);
    m->capped = m->s->c.router_cap > 0 ? glam__lay_floats(l, T * E) : NULL;
    m->spans = m->at_work = (glam__span *)glam__lay(l, E, sizeof(glam__span));
    if (m->X > 1) m->at_work = (glam__span *)glam__lay(l, E, sizeof(glam__span));
    m->slope = m->traits & GLAM__NOISE ? glam__lay_floats(l, T * E) : NULL;
    m->place = glam__lay_ints(l, T * (uint64_t)m->k);
    m->source = glam__lay_ints(l, (uint64_t)m->R);
    m->down = glam__lay_floats(l, glam__moe_low(m));
}

// Scratch of the forward pass, but for that of the products and of the balance loss.
static void glam__moe_scratch(void *arg, glam__layout *l)
{
    glam__moe *m = (glam__moe *)arg;
    uint64_t T = (uint64_t)m->T, M = (uint64_t)m->M;
    m->normed = glam__lay_floats(l, T * M);
    m->out = glam__lay_floats(l, (uint64_t)m->R * M);
    m->made = m->out;
    if (m->traced) {
        m->logit = glam__lay_floats(l, T * (uint64_t)m->E);
        m->before = glam__lay_floats(l, T * (uint64_t)m->k);
        m->fate = glam__lay_ints(l, T * (uint64_t)m->k);
    }
    if (m->X == 1) return;
    m->made = glam__lay_floats(l, glam__mul((uint64_t)m->room, M));
    m->loads = glam__lay_ints(l, (uint64_t)m->X * ((uint64_t)m->E + 1));
}

// Slots per expert and group (gshard_utils.top2_gating_on_logits); 0: dropless.
static int glam__capacity(const glam_moe_config *c, int group)
{
    if (c->capacity > 0) return c->capacity;
    if (c->capacity_factor <= 0) return 0;
    double kept = (double)group * (double)c->capacity_factor / c->experts;
    if (kept > 2e9) return 0;
    return kept < 1 ? 4 : glam__up((int)kept, 4);
}

// Rows that this rank may have to work on: its own choices where all experts are here; else what
// capacity lets through, or the mean times receive_factor, or in inference all that there is.
static int glam__moe_room(const glam__moe *m)
{
    double T = glam__max(m->s->most, m->T), all = m->X * T * m->k;
    double room = m->traits & GLAM__AHEAD ? m->R
                : m->X == 1 || m->s->infer ? all
                : m->capacity ? (double)m->groups * m->capacity * m->E
                : ceil(m->ctx->options.receive_factor * T * m->k);
    if (room > all) room = all;
    return room < 2e9 ? (int)room : 0;
}

static glam__moe glam__moe_view(glam_ctx *ctx, glam_node *n)
{
    glam__moe m;
    memset(&m, 0, sizeof m);
    m.ctx = ctx;
    m.n = n;
    m.s = (const glam__moe_setup *)n->config;
    m.T = (int)glam__rows(n->in[0]);
    m.M = glam__last(n->in[0]);
    m.E = m.s->c.experts;
    m.k = glam__entries(&m.s->c);
    m.traits = glam__router_traits(m.s->c.router);
    m.draws = !m.s->infer && m.s->pass.kind == GLAM_PASS_TRAIN;
    m.H = n->in[GLAM__MO_UP]->shape.dim[2];
    m.group = m.s->c.group ? m.s->c.group : m.T;
    m.groups = m.T / m.group;
    m.capacity = glam__capacity(&m.s->c, m.group);
    m.R = m.T * m.k;
    if (m.traits & GLAM__AHEAD) {
        int64_t even = ((int64_t)m.group * m.s->c.top_k + m.E - 1) / m.E;
        if (!m.capacity || m.capacity > m.group) m.capacity = m.capacity ? m.group : (int)even;
        m.R = m.groups * m.E * m.capacity;
    }
    m.gated = glam__is_gated(m.s->c.activation);
    m.kind = glam__act_kind(m.s->c.activation, 0);
    m.own = n->in[GLAM__MO_UP]->shape.dim[0];
    m.X = m.E / m.own;
    m.room = glam__moe_room(&m);
    m.spans_here = m.E;
    m.traced = ctx->options.trace != NULL;
    m.plain = ctx->simd.plain && !ctx->mesh && n->inputs == n->op->inputs && !m.s->frozen;
    for (int i = GLAM__MO_GATE; i <= GLAM__MO_DOWN; i++)   // it reads floats
        if (n->in[i] && n->in[i]->type) m.plain = 0;
    glam__lay_over(glam__moe_saved, &m, n->saved);
    return m;
}

// What backward adds to the view.
typedef struct glam__moe_grads {
    glam__moe m;
    // of my choices, sorted by expert: rows of dy and of x, the router's weights, their gradients
    float *dy_out, *weight_out, *dweight, *dxr;        // [R,M] [R] [R] [R,M]
    // of the rows that my experts work on: the same arrays where all experts are here
    float *dyr, *xr, *weight, *dweight_here, *dxr_here;
    float *h;                      // [here,H]
    float *dlogits, *dn, *dnoise;  // [T,E] [T,M] [T,E]
    float dbalance, aux, z;        // of the second output; what it gives to f P and to lse^2
    const int *first;              // [groups,E]
    float *rms;                    // [T]
    int   below, hidden, down;     // who wants a gradient: what is below; gate or up; down
} glam__moe_grads;

static void glam__moe_back_scratch(void *arg, glam__layout *l)
{
    glam__moe_grads *d = (glam__moe_grads *)arg;
    glam__moe *m = &d->m;
    uint64_t T = (uint64_t)m->T, M = (uint64_t)m->M, R = (uint64_t)m->R;
    uint64_t room = (uint64_t)m->room, remote = m->X > 1, plain = (uint64_t)m->plain;
    m->normed = glam__lay_floats(l, T * M);
    d->rms = glam__lay_floats(l, T);
    d->dlogits = glam__lay_floats(l, T * (uint64_t)m->E);
    d->dnoise = m->slope ? glam__lay_floats(l, T * (uint64_t)m->E) : NULL;
    d->dweight = d->dweight_here = glam__lay_floats(l, R);
    if (d->below) d->dn = glam__lay_floats(l, T * M);
    d->dyr = d->dy_out = glam__lay_floats(l, R * M);
    d->xr = remote ? m->xr : d->hidden && !plain ? glam__lay_floats(l, R * M) : NULL;
    uint64_t ldh = (uint64_t)glam__steps(m->ctx->simd.products, m->H);
    if (d->down) d->h = glam__lay_floats(l, glam__mul(room, ldh));
    d->weight = d->weight_out = glam__lay_floats(l, R);
    if (d->below) d->dxr = d->dxr_here = glam__lay_floats(l, R * M);
    m->back_down = glam__lay_floats(l, glam__moe_low(m));
    if (!remote) return;
    d->dyr = glam__lay_floats(l, glam__mul(room, M));
    d->weight = glam__lay_floats(l, room);
    d->dweight_here = glam__lay_floats(l, room);
    if (d->below) d->dxr_here = glam__lay_floats(l, glam__mul(room, M));
}

static glam__moe_grads glam__moe_grads_of(glam_ctx *ctx, glam_node *n)
{
    glam__moe_grads d;
    memset(&d, 0, sizeof d);
    d.m = glam__moe_view(ctx, n);
    d.below = glam__wants(n, GLAM__MO_X) || glam__wants(n, GLAM__MO_NORM);
    d.hidden = glam__learns(n, GLAM__MO_GATE) || glam__learns(n, GLAM__MO_UP);
    d.down = glam__learns(n, GLAM__MO_DOWN);
    return d;
}

// ---- on a mesh: rows go to the ranks that have their experts, and what became of them comes back

// Choices are sorted by expert, so those for one rank are neighbours: rows [*row, *row + result).
static int glam__moe_for(const glam__moe *m, int rank, int *row)
{
    const glam__span *first = &m->spans[rank * m->own], *last = &m->spans[(rank + 1) * m->own - 1];
    *row = first->row;
    return last->row + last->rows - first->row;
}

// The same of the rows that came from a rank.
static int glam__moe_from(const glam__moe *m, int rank, int *row)
{
    const glam__span *first = &m->at_work[rank * m->own];
    const glam__span *last = &m->at_work[(rank + 1) * m->own - 1];
    *row = first->row;
    return last->row + last->rows - first->row;
}

// Rows of `width` floats of my choices to where they are worked on, or with back the other way.
static void glam__moe_exchange(const glam__moe *m, float *mine, float *here, int width, int back)
{
    glam__mesh *mesh = m->ctx->mesh;
    size_t bytes = (size_t)width * sizeof(float);
    if (m->ctx->error) return;
    for (int r = 0; r < m->X; r++) {
        int row, from, count = glam__moe_for(m, r, &row), arrive = glam__moe_from(m, r, &from);
        float *a = mine + (size_t)row * width, *b = here + (size_t)from * width;
        if (r == mesh->ix) {
            memcpy(back ? a : b, back ? b : a, (size_t)count * bytes);
            continue;
        }
        glam__to(mesh, r, back ? b : a, (size_t)(back ? arrive : count) * bytes);
        glam__from(mesh, r, back ? a : b, (size_t)(back ? count : arrive) * bytes);
    }
    glam__exchange(m->ctx, &mesh->x, &mesh->sent.dispatch);
}

// From the loads of all ranks, [X] rows of E and of the room there is: where rows will arrive.
static int glam__moe_arrivals(glam__moe *m, const int32_t *loads)
{
    const int32_t *of;
    int E = m->E, ix = m->ctx->mesh->ix;
    for (int r = 0; r < m->X; r++) {
        int64_t rows = 0;
        for (int s = 0; s < m->X; s++)
            for (int e = r * m->own; e < (r + 1) * m->own; e++) rows += loads[s * (E + 1) + e];
        if (rows <= loads[r * (E + 1) + E]) continue;
        glam_fail(m->ctx, GLAM_ERR_MEMORY, "moe dispatch, layer %d: %lld rows for the experts of "
                  "x = %d, but options.receive_factor %g leaves room for %d there; raise it, or "
                  "set moe.capacity_factor", m->ctx->mesh->layer, (long long)rows, r,
                  m->ctx->options.receive_factor, (int)loads[r * (E + 1) + E]);
        return 0;
    }
    for (int s = 0; s < m->X; s++)
        for (int e = 0; e < m->own; e++) {
            glam__span *span = &m->at_work[s * m->own + e];
            of = loads + s * (E + 1) + ix * m->own;
            span->row = m->here;
            span->rows = of[e];
            span->slice = e;
            m->here += of[e];
        }
    return 1;
}

// Where all experts are here, rows stay where they are.
static int glam__moe_send(glam__moe *m)
{
    glam_ctx *ctx = m->ctx;
    glam__mesh *mesh = ctx->mesh;
    int32_t *loads = m->loads, *mine;
    int row;
    m->here = m->rows;
    if (m->X == 1) return 1;
    glam__agree(ctx, "moe dispatch", 0);
    mine = loads + mesh->ix * (m->E + 1);
    memcpy(mine, m->s->route.load, (size_t)m->E * sizeof *loads);
    mine[m->E] = m->room;
    m->here = 0;
    glam__all_gather(ctx, &mesh->x, &mesh->sent.routing, loads, (size_t)m->X * (m->E + 1),
                     sizeof *loads);
    if (ctx->error || !glam__moe_arrivals(m, loads)) return 0;
    for (int r = 0; r < m->rows; r++)
        memcpy(m->out + (size_t)r * m->M, m->normed + (size_t)(m->source[r] / m->k) * m->M,
               (size_t)m->M * sizeof(float));
    glam__moe_exchange(m, m->out, m->xr, m->M, 0);
    int own = glam__moe_for(m, mesh->ix, &row);
    m->sent = m->rows - own;
    m->received = m->here - own;
    return !ctx->error;
}

static void glam__moe_return(glam__moe *m)
{ if (m->X > 1) glam__moe_exchange(m, m->out, m->made, m->M, 1); }

// Matrices at once in a tree over X partial gradients.
static uint64_t glam__moe_levels(const glam__moe *m)
{
    uint64_t levels = 1;
    for (int r = 1; r < m->X; r *= 2) levels++;
    return levels;
}

// The gradient of the experts' weights: a partial one of each rank's rows, joined as a tree over
// ranks.  Those are parts of the batch, and one rank alone would join them so (room 19).
static void glam__moe_outer_tree(const glam__moe *m, glam__outer *o)
{
    size_t used = m->ctx->scratch.used, n = (size_t)o->m * o->n;
    float *stack, *all = o->c;
    int add = o->add;
    if (!all) return;
    stack = glam__scratch_floats(m->ctx, glam__moe_levels(m) * n);
    o->add = 0;
    o->span_count = 1;
    for (int e = 0; e < m->own; e++) {
        int depth = 0;
        for (int s = 0; s < m->X; s++) {
            glam__span span = m->at_work[s * m->own + e];
            span.slice = 0;
            o->spans = &span;
            o->c = stack + (size_t)depth++ * n;
            glam__outer_run(m->ctx, o, 1);
            for (int pairs = s; pairs & 1; pairs >>= 1, depth--)
                glam__add_all(m->ctx->simd.kernels, n, stack + (size_t)(depth - 1) * n,
                              stack + (size_t)(depth - 2) * n);
        }
        if (add) glam__add_all(m->ctx->simd.kernels, n, stack, all + (size_t)e * n);
        else memcpy(all + (size_t)e * n, stack, n * sizeof(float));
    }
    m->ctx->scratch.used = used;
}

// On a mesh: gradients of the outputs of my choices, with their weights, to their experts' ranks.
static int glam__moe_send_back(glam__moe_grads *d)
{
    const glam__moe *m = &d->m;
    if (m->X == 1) return 1;
    glam__agree(m->ctx, "moe backward", 0);
    if (m->ctx->error) return 0;
    glam__moe_exchange(m, d->dy_out, d->dyr, m->M, 0);
    if (!m->ctx->error) glam__moe_exchange(m, d->weight_out, d->weight, 1, 0);
    return !m->ctx->error;
}

static void glam__moe_return_back(glam__moe_grads *d)
{
    const glam__moe *m = &d->m;
    if (m->X == 1) return;
    glam__moe_exchange(m, d->dweight, d->dweight_here, 1, 1);
    if (d->below && !m->ctx->error) glam__moe_exchange(m, d->dxr, d->dxr_here, m->M, 1);
}

// dn_t += the gradients of its kept choices' rows, best first.
static void glam__moe_scatter_row(void *arg, int t, int worker GLAM__UNUSED)
{
    const glam__moe_grads *d = (const glam__moe_grads *)arg;
    size_t M = (size_t)d->m.M;
    for (int i = 0; i < d->m.k; i++) {
        int row = d->m.place[(size_t)t * d->m.k + i];
        if (row >= 0)
            d->m.ctx->simd.kernels->add(d->m.M, d->dxr + (size_t)row * M, d->dn + (size_t)t * M);
    }
}

// Over Y: the gradients of the weights, and of the inputs [T,M], for which dy_out has room.
static const float *glam__moe_sum_back(glam__moe_grads *d)
{
    const glam__moe *m = &d->m;
    const glam_tensor *w = m->n->in[GLAM__MO_DOWN];
    glam__moe_grads over = *d;
    size_t R = (size_t)m->R, n = (size_t)m->T * m->M;
    if (!glam__is_over(w, GLAM__OVER_Y)) return NULL;
    memset(d->dweight + m->rows, 0, (R - (size_t)m->rows) * sizeof(float));
    glam__sum_over_y(m->ctx, w, "moe backward", d->dweight, R);
    if (!d->below) return NULL;
    over.dn = d->dy_out;
    memset(over.dn, 0, n * sizeof(float));
    glam__each_row(m->ctx, m->T, (double)m->k * m->M, glam__moe_scatter_row, &over);
    glam__sum_over_y(m->ctx, w, "moe backward", over.dn, n);
    return over.dn;
}

// ---- forward, step by step

static int glam__real(const glam__moe *m, int t) { return !m->s->mask || m->s->mask[t]; }

// A draw for expert e of token t: the same whenever the block is run again.
static uint64_t glam__moe_stream(const glam__moe *m)
{
    const glam__pass *pass = &m->s->pass;
    return ((uint64_t)pass->step << 20) + (uint64_t)(pass->layer + 1) + 0x726f757400000000u;
}

static uint64_t glam__moe_draw(const glam__moe *m, int t, int e)
{
    uint64_t token = (uint64_t)m->s->pass.part * (uint64_t)m->T + (uint64_t)t;
    return token * (uint64_t)m->E + (uint64_t)e;
}

// l += normal * softplus(z), z = x Wn, which slope holds; then it holds dl/dz.
static void glam__moe_noise(const glam__moe *m, int t, float *l)
{
    float *z = m->slope + (size_t)t * m->E;
    for (int e = 0; e < m->E; e++) {
        float normal = glam_normal(m->ctx->options.seed, glam__moe_stream(m),
                                   glam__moe_draw(m, t, e));
        float soft = z[e] > 20 ? z[e] : (float)log1p(exp((double)z[e]));
        l[e] += normal * soft;
        z[e] = normal * glam__sigmoid1(z[e]);
    }
}

// p = softmax(cap(RMS(x) Wr)), in float32 as the code has it; or another score.
static void glam__moe_score(void *arg, int t, int worker GLAM__UNUSED)
{
    const glam__moe *m = (const glam__moe *)arg;
    const glam__kernels *k = m->ctx->simd.kernels;
    const glam_moe_config *c = &m->s->c;
    size_t at = (size_t)t * m->E;
    float *p = m->s->route.probability + at;
    if (m->slope && m->draws) glam__moe_noise(m, t, p);
    if (c->router_cap > 0) {
        glam__cap(k, c->router_cap, m->E, p);
        memcpy(m->capped + at, p, (size_t)m->E * sizeof *p);
    }
    for (int e = 0; e < m->E && c->temperature != 1; e++) p[e] /= c->temperature;
    if (m->traced) memcpy(m->logit + at, p, (size_t)m->E * sizeof *p);
    for (int e = 0; e < m->E && m->s->off; e++)
        if (m->s->off[e]) p[e] = -1e30f;
    if (c->score == GLAM_SCORE_SOFTMAX) m->lse[t] = k->softmax(m->E, p, 0);
    else for (int e = 0; e < m->E; e++) p[e] = glam__sigmoid1(p[e]);
    for (int e = 0; e < m->E && m->s->off; e++)
        if (m->s->off[e]) p[e] = 0;
}

// The map of the router, or that of its noise; turned for backward.
static glam__linear glam__moe_router_map(const glam__moe *m, int which, int turned)
{
    glam__linear l = glam__linear_of(m->ctx, m->n->in + which, 1, turned, 0);
    l.rows = m->T;                 // panels of so few columns do not pay
    if (which == GLAM__MO_ROUTER)
        glam__linear_low(&l, 1, m->T, m->down, turned ? m->back_down : NULL);
    return l;
}

static void glam__moe_scores(glam__moe *m)
{
    glam_ctx *ctx = m->ctx;
    glam_tensor **in = m->n->in;
    float *p = m->s->route.probability;
    float *r = glam__scratch_floats(ctx, (size_t)m->T);
    size_t n = (size_t)m->T * m->E;
    glam__norm_all(ctx, glam__normed_of(ctx, in[0], in[GLAM__MO_NORM], m->s->norm_eps), m->T,
                   m->normed, r, 1);
    if (m->traits & GLAM__LEARNS) {
        glam__linear l = glam__moe_router_map(m, GLAM__MO_ROUTER, 0);
        glam__linear_run(&l, 0, m->normed, p, 0);
    } else {
        memset(p, 0, n * sizeof *p);
        if (m->traced) memset(m->logit, 0, n * sizeof *p);
    }
    if (m->slope && m->draws) {
        glam__linear l = glam__moe_router_map(m, GLAM__MO_NOISE, 0);
        glam__linear_run(&l, 0, m->normed, m->slope, 0);
    } else if (m->slope) {
        memset(m->slope, 0, n * sizeof *p);
    }
    if (m->s->c.score != GLAM_SCORE_SOFTMAX || !(m->traits & GLAM__LEARNS))
        memset(m->lse, 0, (size_t)m->T * sizeof *p);
    if (m->traits & GLAM__LEARNS) glam__each_row(ctx, m->T, 40.0 * m->E, glam__moe_score, m);
}

static int glam__moe_is_off(const glam__moe *m, int e) { return m->s->off && m->s->off[e]; }

static int glam__moe_taken(const int32_t *expert, int chosen, int e)
{
    int taken = 0;
    for (int j = 0; j < chosen; j++) taken |= expert[j] == e;
    return taken;
}

// Choices [from,k) of a token: the best scores that are left, the lowest index wins a tie.
static void glam__choose_from(const glam__moe *m, int t, int from, int32_t *expert, int until)
{
    const float *p = m->s->route.probability + (size_t)t * m->E, *b = m->s->bias;
    for (int i = from; i < until; i++) {
        int best = -1;
        float most = 0;
        for (int e = 0; e < m->E; e++) {
            float key = p[e] + (b ? b[e] : 0);
            if (glam__moe_is_off(m, e) || glam__moe_taken(expert, i, e)) continue;
            if (best < 0 || key > most) { best = e;  most = key; }
        }
        expert[i] = best;
    }
}

static void glam__choose_best(const glam__moe *m, int t, int32_t *expert)
{ glam__choose_from(m, t, 0, expert, m->k); }

// The best, then the best of ln s + Gumbel noise: draws by s without putting back.
static void glam__choose_sampled(const glam__moe *m, int t, int32_t *expert)
{
    const float *p = m->s->route.probability + (size_t)t * m->E, *b = m->s->bias;
    glam__choose_from(m, t, 0, expert, m->draws ? 1 : m->k);
    for (int i = 1; i < m->k && m->draws; i++) {
        double most = 0;
        expert[i] = -1;
        for (int e = 0; e < m->E; e++) {
            if (glam__moe_is_off(m, e) || glam__moe_taken(expert, i, e)) continue;
            double u = glam__random_double(m->ctx->options.seed, glam__moe_stream(m),
                                           glam__moe_draw(m, t, e));
            double s = (double)p[e] + (b ? (double)b[e] : 0);
            double key = log(s > 1e-30 ? s : 1e-30) - log(-log(u > 1e-300 ? u : 1e-300));
            if (expert[i] < 0 || key > most) { expert[i] = e;  most = key; }
        }
    }
}

// By the token's id alone; the same in every run, for a file knows no seed.
static void glam__choose_hash(const glam__moe *m, int t, int32_t *expert)
{
    uint64_t id = (uint64_t)m->s->pass.tokens[t], stream = (uint64_t)(m->s->pass.layer + 1);
    int left = 0;
    for (int e = 0; e < m->E; e++) left += !glam__moe_is_off(m, e);
    for (int i = 0; i < m->k; i++, left--) {
        int skip = (int)(glam__random64(0x68617368, stream, id * (uint64_t)m->k + (uint64_t)i) %
                         (uint64_t)left), e = 0;
        while (glam__moe_is_off(m, e) || glam__moe_taken(expert, i, e) || skip-- > 0) e++;
        expert[i] = e;
        m->s->route.probability[(size_t)t * m->E + e] = 1 / (float)m->k;
    }
}

// Slots in one group: first choices before second ones, early tokens before late ones.  A choice
// past the capacity is dropped, but still counts for the places of later ones of its order.
static void glam__moe_slots(const glam__moe *m, int group, int *taken, int *seen)
{
    const glam__route *r = &m->s->route;
    memset(taken, 0, (size_t)m->E * sizeof *taken);
    for (int i = 0; i < m->k; i++) {
        memset(seen, 0, (size_t)m->E * sizeof *seen);
        for (int s = 0; s < m->group; s++) {
            size_t at = ((size_t)group * m->group + s) * m->k + i;
            int e = r->expert[at];
            if (e < 0 || !r->kept[at]) continue;
            int place = taken[e] + seen[e]++;
            r->kept[at] = !m->capacity || place < m->capacity;
            r->slot[at] = r->kept[at] ? place : -1;
        }
        for (int e = 0; e < m->E; e++) {
            taken[e] += seen[e];
            if (m->capacity && taken[e] > m->capacity) taken[e] = m->capacity;
        }
    }
}

typedef void glam__chooser(const glam__moe *m, int t, int32_t *expert);
#define GLAM__ROUTER_CHOOSER(router, name, choose, traits) choose,
static glam__chooser *const glam__choosers[] = { GLAM__EACH_ROUTER(GLAM__ROUTER_CHOOSER) };

static glam_normalise glam__moe_normalise(const glam__moe *m)
{ return m->traits & GLAM__AHEAD ? GLAM_NORMALISE_NONE : m->s->c.normalise; }

// Weights of one token's choices: scores, made to sum to 1 before or after the drops.
static void glam__moe_weights(const glam__moe *m, int t, int after)
{
    const glam__route *r = &m->s->route;
    size_t at = (size_t)t * m->k;
    float *w = r->weight + at, sum = 0, scale = m->s->c.weight_scale;
    const float *p = r->probability + (size_t)t * m->E;
    const int32_t *kept = r->kept + at, *expert = r->expert + at;
    glam_normalise how = glam__moe_normalise(m);
    for (int i = 0; i < m->k; i++) {
        if (!after) w[i] = expert[i] >= 0 ? p[expert[i]] : 0;
        else if (!kept[i]) w[i] = 0;
        sum += w[i];
    }
    if (!after && how == GLAM_NORMALISE_BEFORE_DROP)
        for (int i = 0; i < m->k; i++) w[i] /= sum + 1e-9f;
    if (!after) for (int i = 0; i < m->k; i++) w[i] *= scale;
    if (after && how == GLAM_NORMALISE_AFTER_DROP && sum > 0)
        for (int i = 0; i < m->k; i++) w[i] = w[i] / sum * scale;
}

// Choices of one token and their weights; of padding, none.
static void glam__moe_choices(void *arg, int t, int worker GLAM__UNUSED)
{
    const glam__moe *m = (const glam__moe *)arg;
    const glam__route *r = &m->s->route;
    const glam_moe_config *c = &m->s->c;
    size_t at = (size_t)t * m->k;
    int real = glam__real(m, t), ahead = m->traits & GLAM__AHEAD;
    for (int i = 0; i < m->k && (!real || ahead); i++) {
        r->expert[at + i] = -1;
        r->slot[at + i] = real ? -2 : -1;
        r->kept[at + i] = 0;
        r->weight[at + i] = 0;
    }
    if (!real || ahead) return;
    for (int i = 0; i < m->k; i++) r->kept[at + i] = 1;
    glam__choosers[c->router](m, t, r->expert + at);
    glam__moe_weights(m, t, 0);
    for (int i = 1; i < m->k && m->traits & GLAM__SKIPS && m->draws; i++) {
        double u = glam__random_double(m->ctx->options.seed, glam__moe_stream(m),
                                       glam__moe_draw(m, t, i));
        u *= (double)c->threshold * (double)c->weight_scale;
        if (u < (double)r->weight[at + i]) continue;
        r->kept[at + i] = 0;
        r->slot[at + i] = -2;
    }
}

// What the drops leave of them.
static void glam__moe_kept(void *arg, int t, int worker GLAM__UNUSED)
{
    const glam__moe *m = (const glam__moe *)arg;
    const glam__route *r = &m->s->route;
    if (!glam__real(m, t)) return;
    glam__moe_weights(m, t, 1);
    for (size_t at = (size_t)t * m->k; at < (size_t)(t + 1) * m->k; at++)
        if (r->kept[at] && glam__within((double)r->weight[at], 0, 0)) {
            r->kept[at] = 0;                   // a weight of 0 sends nothing anywhere
            r->slot[at] = -2;
        }
}

// ---- experts that choose

typedef struct glam__bid { float p; int32_t t; } glam__bid;

static int glam__by_bid(const void *a, const void *b)
{
    const glam__bid *x = (const glam__bid *)a, *y = (const glam__bid *)b;
    if (x->p != y->p) return x->p < y->p ? 1 : -1;
    return x->t - y->t;
}

// Expert e enters the list of token t, which is in the order of its scores.
static void glam__moe_enter(const glam__moe *m, int t, int e, int slot)
{
    const glam__route *r = &m->s->route;
    size_t at = (size_t)t * m->k;
    const float *p = r->probability + (size_t)t * m->E;
    int i = 0;
    while (r->expert[at + i] >= 0) i++;
    for (; i > 0 && p[r->expert[at + i - 1]] < p[e]; i--) {
        r->expert[at + i] = r->expert[at + i - 1];
        r->slot[at + i] = r->slot[at + i - 1];
    }
    r->expert[at + i] = e;
    r->slot[at + i] = slot;
}

// Each expert takes the tokens of a group that score it best; of equal ones, early ones.
static void glam__moe_take(const glam__moe *m, int group, glam__bid *bids)
{
    for (int e = 0; e < m->E; e++) {
        int count = 0;
        for (int t = group * m->group; t < (group + 1) * m->group; t++) {
            if (!glam__real(m, t) || glam__moe_is_off(m, e)) continue;
            bids[count].p = m->s->route.probability[(size_t)t * m->E + e];
            bids[count++].t = t;
        }
        if (count) qsort(bids, (size_t)count, sizeof *bids, glam__by_bid);
        for (int i = 0; i < count && i < m->capacity; i++) glam__moe_enter(m, bids[i].t, e, i);
    }
}

// What was taken is kept, and weighs what it scored.
static void glam__moe_entries_kept(void *arg, int t, int worker GLAM__UNUSED)
{
    const glam__moe *m = (const glam__moe *)arg;
    size_t at = (size_t)t * m->k;
    for (int i = 0; i < m->k; i++) m->s->route.kept[at + i] = m->s->route.expert[at + i] >= 0;
    glam__moe_weights(m, t, 0);
}

static void glam__moe_route(glam__moe *m)
{
    int *taken = (int *)glam_scratch(m->ctx, (size_t)m->E * sizeof(int));
    int *seen = (int *)glam_scratch(m->ctx, (size_t)m->E * sizeof(int));
    glam__each_row(m->ctx, m->T, 8.0 * m->k * m->E, glam__moe_choices, m);
    if (m->traits & GLAM__AHEAD) {
        size_t used = m->ctx->scratch.used;
        glam__bid *bids = (glam__bid *)glam_scratch(m->ctx, (size_t)m->group * sizeof *bids);
        for (int group = 0; group < m->groups; group++) glam__moe_take(m, group, bids);
        glam__each_row(m->ctx, m->T, 16.0 * m->k, glam__moe_entries_kept, m);
        m->ctx->scratch.used = used;
    }
    if (m->traced)
        memcpy(m->before, m->s->route.weight, (size_t)m->T * m->k * sizeof(float));
    for (int group = 0; group < m->groups && !(m->traits & GLAM__AHEAD); group++)
        glam__moe_slots(m, group, taken, seen);
    glam__each_row(m->ctx, m->T, 16.0 * m->k, glam__moe_kept, m);
}

// Counting sort of the kept choices by expert, tokens in their order.
static void glam__moe_dispatch(glam__moe *m)
{
    const glam__route *r = &m->s->route;
    size_t choices = (size_t)m->T * m->k;
    memset(r->load, 0, (size_t)m->E * sizeof *r->load);
    for (size_t at = 0; at < choices; at++)
        if (r->kept[at]) r->load[r->expert[at]]++;
    m->rows = 0;
    for (int e = 0; e < m->E; e++) {
        m->spans[e].row = m->rows;
        m->spans[e].rows = 0;
        m->spans[e].slice = e;
        m->rows += r->load[e];
    }
    for (size_t at = 0; at < choices; at++) {
        m->place[at] = -1;
        if (!r->kept[at]) continue;
        glam__span *s = &m->spans[r->expert[at]];
        m->place[at] = s->row + s->rows++;
        m->source[m->place[at]] = (int32_t)at;
    }
}

// Rows of [T,M] in the order of the experts.
typedef struct glam__gather { const float *x; const int32_t *source; int k, M; } glam__gather;

static void glam__fill_gathered(const glam__product *p, int row, int rows, int at GLAM__UNUSED,
                                int terms GLAM__UNUSED, float *out, size_t ld)
{
    const glam__gather *g = (const glam__gather *)p->arg;
    for (int i = 0; i < rows; i++)
        memcpy(out + (size_t)i * ld, g->x + (size_t)(g->source[row + i] / g->k) * g->M,
               (size_t)g->M * sizeof(float));
}

static glam__glu glam__moe_glu(const glam__moe *m, int back)
{
    glam__glu f;
    memset(&f, 0, sizeof f);
    f.l = glam__linear_of(m->ctx, m->n->in + GLAM__MO_GATE, 3, back, m->R);
    size_t router = (size_t)glam__low_floats(m->n->in + GLAM__MO_ROUTER, 1, (uint64_t)m->T);
    glam__linear_low(&f.l, 3, m->R, m->down ? m->down + router : NULL,
                     back && m->back_down ? m->back_down + router : NULL);
    f.l.rows = m->here;
    f.l.spans = m->at_work;
    f.l.span_count = m->spans_here;
    f.kind = m->kind;
    f.H = m->H;
    f.scale = m->s->scale;
    f.first = GLAM__GLU_UP;
    f.g = m->g; f.u = m->u;
    return f;
}

// Each expert's feed-forward on its rows.
static void glam__moe_experts(glam__moe *m)
{
    glam__gather rows = { m->normed, m->source, m->k, m->M };
    glam__glu f = glam__moe_glu(m, 0);
    glam__glu_forward(&f, m->xr, m->X == 1 ? glam__fill_gathered : NULL, &rows, m->made, NULL);
}

// y_t = x_t (residual) + sum of the kept choices, best first.
static void glam__moe_combine_row(void *arg, int t, int worker GLAM__UNUSED)
{
    const glam__moe *m = (const glam__moe *)arg;
    size_t M = (size_t)m->M, choice = (size_t)t * m->k;
    float *y = m->n->out[0]->data + (size_t)t * M;
    if (m->n->in[GLAM__MO_NORM] && glam__first_of_y(m->ctx, m->n->in[GLAM__MO_DOWN]))
        memcpy(y, m->n->in[0]->data + (size_t)t * M, M * sizeof(float));
    else memset(y, 0, M * sizeof(float));
    for (int i = 0; i < m->k; i++)
        if (m->place[choice + i] >= 0)
            m->ctx->simd.kernels->axpy(m->M, m->s->route.weight[choice + i],
                                       m->out + (size_t)m->place[choice + i] * M, y);
}

static void glam__moe_combine(glam__moe *m)
{
    glam__each_row(m->ctx, m->T, (m->k + 1.0) * m->M, glam__moe_combine_row, m);
    glam__sum_over_y(m->ctx, m->n->in[GLAM__MO_DOWN], "moe combine", m->n->out[0]->data,
                     (size_t)m->T * m->M);
}

// Experts and combine without the fused products: see the plain mixture in room 05.
static glam__plain_moe glam__moe_plain_view(const glam__moe *m)
{
    glam__plain_moe p;
    glam_tensor **in = m->n->in;
    memset(&p, 0, sizeof p);
    p.T = m->T; p.M = m->M; p.H = m->H; p.k = m->k;
    p.kind = m->kind;
    p.scale = m->s->scale;
    p.expert = m->s->route.expert;
    p.place = m->place;
    p.x = m->normed;
    p.weight = m->s->route.weight;
    p.gate = m->gated ? in[GLAM__MO_GATE]->data : NULL;
    p.up = in[GLAM__MO_UP]->data;
    p.down = in[GLAM__MO_DOWN]->data;
    p.g = glam__scratch_floats(m->ctx, 4 * (size_t)m->H);
    p.u = p.g + m->H;
    p.h = p.u + m->H;
    p.dh = p.h + m->H;
    p.y = m->n->out[0]->data;
    return p;
}

static void glam__moe_plain_forward(glam__moe *m)
{
    glam__plain_moe p = glam__moe_plain_view(m);
    size_t bytes = (size_t)m->T * m->M * sizeof(float);
    if (m->n->in[GLAM__MO_NORM]) memcpy(p.y, m->n->in[0]->data, bytes);
    else memset(p.y, 0, bytes);
    glam__plain_forward(&p, m->ctx->simd.kernels);
}

// f: how many real tokens of each group put an expert first, and how many there are, [groups,E+1].
static int *glam__moe_firsts(const glam__moe *m, int *real)
{
    size_t row = (size_t)m->E + 1, n = (size_t)m->groups * row;
    int *first = (int *)glam_scratch(m->ctx, n * sizeof(int));
    memset(first, 0, n * sizeof(int));
    *real = 0;
    for (int t = 0; t < m->T; t++) {
        int e = m->s->route.expert[(size_t)t * m->k], *f = first + (size_t)(t / m->group) * row;
        if (!glam__real(m, t)) continue;
        ++*real;
        if (e < 0) continue;
        f[e]++;
        f[m->E]++;
    }
    if (!*real) *real = 1;                     // padding alone: sums of nothing stay 0
    return first;
}

// The scores of a softmax are a distribution; others are divided by their sum to be one.
static double glam__moe_score_sum(const glam__moe *m, const float *p)
{
    double sum = 0;
    if (m->s->c.score == GLAM_SCORE_SOFTMAX) return 1;
    for (int e = 0; e < m->E; e++) sum += (double)p[e];
    return sum > 0 ? sum : 1;
}

// Of one real token: sum over experts of f p, and of p log p.
typedef struct glam__moe_sums { const glam__moe *m; const int *first; double *fp, *plogp; }
    glam__moe_sums;

static void glam__moe_token_sums(void *arg, int t, int worker GLAM__UNUSED)
{
    const glam__moe_sums *s = (const glam__moe_sums *)arg;
    const glam__moe *m = s->m;
    const float *p = m->s->route.probability + (size_t)t * m->E;
    const int *first = s->first + (size_t)(t / m->group) * (size_t)(m->E + 1);
    double fp = 0, plogp = 0, sum = glam__moe_score_sum(m, p);
    s->fp[t] = s->plogp[t] = 0;
    if (!glam__real(m, t)) return;
    for (int e = 0; e < m->E; e++) {
        double q = (double)p[e] / sum;
        fp += (double)first[e] * q;
        if (q > 0) plogp += q * log(q);
    }
    s->fp[t] = first[m->E] ? fp / first[m->E] : 0;
    s->plogp[t] = plogp;
}

// Balance loss, router z-loss and entropy; their weighted sum is the second output.
static void glam__moe_balance(glam__moe *m, glam_routing *record)
{
    const glam__moe_setup *s = m->s;
    int real;
    glam__moe_sums sums = { m, glam__moe_firsts(m, &real), NULL, NULL };
    double aux = 0, z = 0, entropy = 0;
    sums.fp = (double *)glam_scratch(m->ctx, 2 * (size_t)m->T * sizeof(double));
    sums.plogp = sums.fp + m->T;
    glam__each_row(m->ctx, m->T, 60.0 * m->E, glam__moe_token_sums, &sums);
    for (int t = 0; t < m->T; t++) {
        if (!glam__real(m, t)) continue;
        aux += sums.fp[t];
        z += (double)m->lse[t] * (double)m->lse[t];
        entropy -= sums.plogp[t];
    }
    aux *= (double)m->E / real;
    z /= real;
    m->n->out[1]->data[0] = (float)((double)s->part * ((double)glam__aux_weight(&s->c) * aux +
                                                       (double)s->c.router_z_weight * z));
    record->balance = (float)aux;
    record->router_z = (float)z;
    record->entropy = (float)(entropy / real);
}

static void glam__moe_record(const glam__moe *m, glam_routing *r)
{
    const glam__route *from = &m->s->route;
    r->tokens = m->T;
    r->experts = m->E;
    r->top_k = m->k;
    r->capacity = m->capacity;
    r->dropped = 0;
    for (size_t at = 0; at < (size_t)m->T * m->k; at++)
        r->dropped += from->expert[at] >= 0 && !from->kept[at] && from->slot[at] == -1;
    r->sent = m->sent;
    r->received = m->received;
    r->expert = from->expert;
    r->slot = from->slot;
    r->kept = from->kept;
    r->load = from->load;
    r->weight = from->weight;
    r->probability = from->probability;
}

// For whoever listens (options.trace).
static void glam__moe_trace(const glam__moe *m, const glam_routing *routing)
{
    const glam__route *r = &m->s->route;
    const glam__pass *pass = &m->s->pass;
    glam_trace t;
    for (size_t at = 0; at < (size_t)m->T * m->k; at++)
        m->fate[at] = r->kept[at] ? GLAM_FATE_KEPT : r->slot[at] == -2 ? GLAM_FATE_SKIPPED
                    : r->expert[at] < 0 ? GLAM_FATE_PADDING : GLAM_FATE_NO_SLOT;
    memset(&t, 0, sizeof t);
    t.step = pass->step; t.layer = pass->layer; t.part = pass->part; t.pass = pass->kind;
    t.rows = pass->rows; t.length = pass->length; t.position = pass->position;
    t.token = pass->tokens; t.logit = m->logit; t.weight = m->before; t.fate = m->fate;
    t.routing = routing;
    m->ctx->options.trace(m->ctx->options.trace_user, &t);
}

static void glam__moe_forward(glam_ctx *ctx, glam_node *n)
{
    glam__moe m = glam__moe_view(ctx, n);      // names for the saved arrays
    glam_routing own, *record = m.s->record ? m.s->record : &own;
    glam__lay_scratch(ctx, glam__moe_scratch, &m);
    glam__moe_scores(&m);                      // p, the scores of x Wr                 [T,E]
    glam__moe_route(&m);                       // best experts, their slots, drops      [T,k]
    glam__moe_dispatch(&m);                    // choices, sorted by expert             [R]
    if (!glam__moe_send(&m)) return;           // rows to the ranks that have their experts
    if (m.plain) {
        glam__moe_plain_forward(&m);
    } else {
        glam__moe_experts(&m);                 // each expert on its rows               [R,M]
        glam__moe_return(&m);                  // and back to the ranks of the tokens
        glam__moe_combine(&m);                 // weighted sum back into token order    [T,M]
    }
    glam__moe_balance(&m, record);             // auxiliary loss from load and p
    glam__moe_record(&m, record);
    if (m.traced && !ctx->autograd.again) glam__moe_trace(&m, record);
}

// ---- backward, the same steps in reverse

static void glam__moe_gather_row(void *arg, int row, int worker GLAM__UNUSED)
{
    glam__moe_grads *d = (glam__moe_grads *)arg;
    size_t M = (size_t)d->m.M, t = (size_t)(d->m.source[row] / d->m.k);
    memcpy(d->dy_out + (size_t)row * M, d->m.n->out[0]->grad + t * M, M * sizeof(float));
    if (d->m.X == 1 && d->xr)
        memcpy(d->xr + (size_t)row * M, d->m.normed + t * M, M * sizeof(float));
    d->weight_out[row] = d->m.s->route.weight[d->m.source[row]];
}

static void glam__moe_combine_back(glam__moe_grads *d)
{ glam__each_row(d->m.ctx, d->m.rows, 2.0 * d->m.M, glam__moe_gather_row, d); }

// Where some experts are frozen: the spans, with no rows for those.
static glam__span *glam__moe_trained(const glam__moe *m)
{
    if (!m->s->frozen) return NULL;
    glam__span *spans = (glam__span *)glam_scratch(m->ctx, (size_t)m->E * sizeof *spans);
    for (int e = 0; e < m->E; e++) {
        spans[e] = m->at_work[e];
        if (m->s->frozen[e]) spans[e].rows = 0;
    }
    return spans;
}

// dh = dy Wd^T; through the activation; the gradients of the experts and of their inputs.
static void glam__moe_experts_back(glam__moe_grads *d)
{
    const glam__moe *m = &d->m;
    glam__glu f = glam__moe_glu(m, 1);
    glam__outer o[9];
    f.h = d->h;
    f.weight = d->weight; f.dweight = d->dweight_here;
    int outers = glam__glu_backward(&f, d->xr, d->dyr, d->dxr_here, o);
    glam__span *trained = glam__moe_trained(m);
    for (int i = 0; i < outers && trained; i++) o[i].spans = trained;
    if (m->X == 1) glam__outer_run(m->ctx, o, outers);
    else for (int i = 0; i < outers; i++) glam__moe_outer_tree(m, &o[i]);
}

static float *glam__settled(glam_tensor *t)
{
    if (!t || !t->wants_grad) return NULL;
    glam__grad_settle(t);
    return t->grad;
}

// The same token by token.  Gives the gradients of the tokens' inputs [T,M], for which dy_out has
// room.
static const float *glam__moe_plain_backward(glam__moe_grads *d)
{
    const glam__moe *m = &d->m;
    glam_tensor **in = m->n->in;
    glam__plain_moe p = glam__moe_plain_view(m);
    p.dy = m->n->out[0]->grad;
    p.dweight = d->dweight;
    p.dx = d->dy_out;
    p.dgate = m->gated ? glam__settled(in[GLAM__MO_GATE]) : NULL;
    p.dup = glam__settled(in[GLAM__MO_UP]);
    p.ddown = glam__settled(in[GLAM__MO_DOWN]);
    memset(p.dx, 0, (size_t)m->T * m->M * sizeof(float));
    glam__plain_backward(&p, m->ctx->simd.kernels);
    return p.dx;
}

// From the weights of one token's choices to the scores, c = weight_scale:
//   before drops  w_i = c p_i / s:    dp_j = (c dw_j [kept] - sum_i dw_i w_i) / s
//   after drops   the same over the kept ones;   none: dp_j = c dw_j
static void glam__moe_weights_back(const glam__moe_grads *d, int t, float *dp)
{
    const glam__moe *m = &d->m;
    const glam__route *r = &m->s->route;
    size_t at = (size_t)t * m->k;
    const float *p = r->probability + (size_t)t * m->E;
    glam_normalise how = glam__moe_normalise(m);
    int after = how == GLAM_NORMALISE_AFTER_DROP;
    float sum = after ? 0 : 1e-9f, dot = 0, scale = m->s->c.weight_scale;
    for (int i = 0; i < m->k && r->expert[at + i] >= 0; i++) {
        int row = m->place[at + i];
        if (row >= 0 || !after) sum += p[r->expert[at + i]];
        if (row >= 0) dot += d->dweight[row] * r->weight[at + i];
    }
    for (int i = 0; i < m->k && r->expert[at + i] >= 0; i++) {
        int row = m->place[at + i];
        float dw = row >= 0 ? d->dweight[row] * scale : 0;
        if (how == GLAM_NORMALISE_NONE) dp[r->expert[at + i]] += dw;
        else if (row >= 0 || !after) dp[r->expert[at + i]] += (dw - dot) / sum;
    }
}

// Scores to logits.  Softmax: dl = p (dp - sum p dp) + z-loss; sigmoid: dl = p (1 - p) dp.
static void glam__moe_score_back(const glam__moe_grads *d, int t, const float *p, float *dl)
{
    const glam__moe *m = &d->m;
    const glam_moe_config *c = &m->s->c;
    if (c->score == GLAM_SCORE_SOFTMAX) {
        float dot = m->ctx->simd.kernels->dot(m->E, p, dl);
        for (int e = 0; e < m->E; e++) dl[e] = p[e] * (dl[e] - dot + d->z * m->lse[t]);
    } else {
        for (int e = 0; e < m->E; e++) dl[e] *= p[e] * (1 - p[e]);
    }
    for (int e = 0; e < m->E && c->temperature != 1; e++) dl[e] /= c->temperature;
    if (c->router_cap > 0)
        glam__cap_back(c->router_cap, m->E, m->capped + (size_t)t * m->E, dl);
}

// dlogits of one token;  dp from the weights and from the balance loss, whose P is of p / sum p.
static void glam__moe_router_back_row(void *arg, int t, int worker GLAM__UNUSED)
{
    const glam__moe_grads *d = (const glam__moe_grads *)arg;
    const glam__moe *m = &d->m;
    size_t at = (size_t)t * m->E;
    float *dl = d->dlogits + at;
    const float *p = m->s->route.probability + at;
    const int *first = d->first + (size_t)(t / m->group) * (size_t)(m->E + 1);
    memset(dl, 0, (size_t)m->E * sizeof(float));
    if (m->slope) memset(d->dnoise + at, 0, (size_t)m->E * sizeof(float));
    if (!glam__real(m, t)) return;
    float aux = first[m->E] ? d->aux / (float)first[m->E] : 0;
    for (int e = 0; e < m->E; e++) dl[e] = aux * (float)first[e];
    if (m->s->c.score != GLAM_SCORE_SOFTMAX) {
        float sum = (float)glam__moe_score_sum(m, p);
        float dot = m->ctx->simd.kernels->dot(m->E, p, dl) / sum;
        for (int e = 0; e < m->E; e++) dl[e] = (dl[e] - dot) / sum;
    }
    glam__moe_weights_back(d, t, dl);
    glam__moe_score_back(d, t, p, dl);
    for (int e = 0; e < m->E && m->slope; e++) d->dnoise[at + e] = dl[e] * m->slope[at + e];
}

static void glam__moe_router_back(glam__moe_grads *d)
{
    const glam__moe *m = &d->m;
    const glam_moe_config *c = &m->s->c;
    int real;
    d->dbalance = m->n->out[1]->grad[0];
    d->first = glam__moe_firsts(m, &real);
    d->aux = d->dbalance * m->s->part * glam__aux_weight(c) * (float)m->E / (float)real;
    d->z = d->dbalance * m->s->part * c->router_z_weight * 2 / (float)real;
    glam__each_row(m->ctx, m->T, 40.0 * m->E, glam__moe_router_back_row, d);
    glam__linear l = glam__moe_router_map(m, GLAM__MO_ROUTER, 1);
    glam__outer o[3];
    glam__linear_down(&l, 0, d->dlogits, 0, 0);
    glam__outer_run(m->ctx, o, glam__linear_outers(&l, 0, m->normed, d->dlogits, 0, 0, o));
    if (d->below) glam__linear_run(&l, 0, d->dlogits, d->dn, 0);
    if (!m->slope) return;
    l = glam__moe_router_map(m, GLAM__MO_NOISE, 1);
    o[0] = glam__linear_outer(&l, 0, m->normed, d->dnoise);
    glam__outer_run(m->ctx, o, 1);
    if (d->below) glam__linear_run(&l, 0, d->dnoise, d->dn, 1);
}

// dn += the rows' gradients, back in the order of the tokens.  whole: NULL, or where they have been
// summed already.
static void glam__moe_dispatch_back(glam__moe_grads *d, const float *whole)
{
    glam__moe *m = &d->m;
    glam_ctx *ctx = m->ctx;
    if (whole) glam__add_all(ctx->simd.kernels, (size_t)m->T * m->M, whole, d->dn);
    else glam__each_row(ctx, m->T, (double)m->k * m->M, glam__moe_scatter_row, d);
}

static void glam__moe_backward(glam_ctx *ctx, glam_node *n)
{
    glam__moe_grads d = glam__moe_grads_of(ctx, n);
    glam__moe *m = &d.m;
    glam_tensor *norm = n->in[GLAM__MO_NORM];
    glam__normed w = glam__normed_of(ctx, n->in[0], norm, m->s->norm_eps);
    const float *whole;
    glam__lay_scratch(ctx, glam__moe_back_scratch, &d);
    for (int e = 0; e < m->E; e++) {
        m->rows += m->spans[e].rows;
        m->here += m->at_work[e].rows;
    }
    glam__norm_all(ctx, w, m->T, m->normed, d.rms, 1);
    if (m->plain) {
        whole = glam__moe_plain_backward(&d);
    } else {
        glam__moe_combine_back(&d);            // dy of each row, and its weight         [R,M] [R]
        if (!glam__moe_send_back(&d)) return;
        glam__moe_experts_back(&d);            // dWd, dWu, dWg; dx of each row, dw      [R,M] [R]
        glam__moe_return_back(&d);
        whole = glam__moe_sum_back(&d);
    }
    if (m->traits & GLAM__LEARNS)
        glam__moe_router_back(&d);             // dlogits from dw, balance, z-loss; dWr; dn  [T,E]
    else if (d.below)
        memset(d.dn, 0, (size_t)m->T * m->M * sizeof *d.dn);
    if (!d.below) return;
    glam__moe_dispatch_back(&d, whole);        // dn: rows to tokens                         [T,M]
    glam__norm_backward(ctx, n, norm, w, m->T, d.rms, d.dn);
}

// ---- the row and its wrapper

// What belongs to the router.
static glam_status glam__router_check(glam_ctx *ctx, const glam_moe_config *c)
{
    int traits = glam__router_traits(c->router);
    if (traits < 0 || (int)c->score < 0 || (int)c->score > 1)
        return glam_fail(ctx, GLAM_ERR_VALUE, "moe: router %d with score %d; there are %s, and "
                         "softmax|sigmoid", (int)c->router, (int)c->score, GLAM__ROUTERS);
    if (!glam__within((double)c->temperature, 1e-30, 1e30) ||
        !glam__within((double)c->weight_scale, 1e-30, 1e30) ||
        !glam__within((double)c->threshold, 0, FLT_MAX) ||
        !glam__within((double)c->bias_rate, 0, FLT_MAX) || c->shared < 0 || c->shared > 1 << 24)
        return glam_fail(ctx, GLAM_ERR_VALUE, "moe: temperature %g and weight_scale %g must be "
                         "above 0, threshold %g, bias_rate %g and shared %d not below (shared at "
                         "most 2^24): start from glam_moe_config_default()",
                         (double)c->temperature, (double)c->weight_scale, (double)c->threshold,
                         (double)c->bias_rate, c->shared);
    if (c->score == GLAM_SCORE_SIGMOID && c->router_z_weight > 0)
        return glam_fail(ctx, GLAM_ERR_VALUE, "moe: the router z-loss is of softmax scores; set "
                         "router_z_weight to 0 with sigmoid");
    if (c->bias && (!(traits & GLAM__LEARNS) || traits & GLAM__AHEAD))
        return glam_fail(ctx, GLAM_ERR_VALUE, "moe: a bias means nothing to a router that is even "
                         "by itself (hash, expert_choice); set bias to 0");
    return GLAM_OK;
}

static glam_status glam__moe_config_check(glam_ctx *ctx, const glam_moe_config *c)
{
    if (c->experts < 1)
        return glam_fail(ctx, GLAM_ERR_VALUE, "moe: experts is %d: start from "
                         "glam_moe_config_default()", c->experts);
    if (c->top_k < 1 || c->top_k > c->experts)
        return glam_fail(ctx, GLAM_ERR_VALUE, "moe: top_k is %d with %d experts; it must be "
                         "between 1 and experts", c->top_k, c->experts);
    if (glam__act_kind(c->activation, 0) < 0)
        return glam_fail(ctx, GLAM_ERR_VALUE, "moe: activation %d is not one of experts: relu, "
                         "gelu_tanh, gelu_erf, geglu or swiglu", (int)c->activation);
    if ((int)c->normalise < 0 || (int)c->normalise > 2)
        return glam_fail(ctx, GLAM_ERR_VALUE, "moe: normalise is %d; before_drop, after_drop and "
                         "none are possible", (int)c->normalise);
    if (c->experts > 1 << 16 || c->hidden > 1 << 24)
        return glam_fail(ctx, GLAM_ERR_VALUE, "moe: %d experts of %d hidden; more than 2^16, or "
                         "2^24, are not supported", c->experts, c->hidden);
    if (!glam__within((double)c->capacity_factor, 0, FLT_MAX) || c->capacity < 0 ||
        c->group < 0 || c->hidden < 0)
        return glam_fail(ctx, GLAM_ERR_VALUE, "moe: capacity_factor %g, capacity %d, group %d and "
                         "hidden %d must not be negative", (double)c->capacity_factor, c->capacity,
                         c->group, c->hidden);
    if (!glam__within((double)c->aux_weight, 0, FLT_MAX) ||
        !glam__within((double)c->router_z_weight, 0, FLT_MAX))
        return glam_fail(ctx, GLAM_ERR_VALUE, "moe: aux_weight %g and router_z_weight %g must not "
                         "be negative", (double)c->aux_weight, (double)c->router_z_weight);
    if (!glam__cap_fits(c->router_cap))
        return glam_fail(ctx, GLAM_ERR_VALUE, "moe: router_cap is %g; it must be 0 (off), or from "
                         "1e-30 to 1e30", (double)c->router_cap);
    return glam__router_check(ctx, c);
}

static glam_status glam__moe_fits(glam_ctx *ctx, glam_node *n)
{
    const glam_moe_config *c = &((const glam__moe_setup *)n->config)->c;
    glam_tensor *router = n->in[GLAM__MO_ROUTER], *up = n->in[GLAM__MO_UP],
                *down = n->in[GLAM__MO_DOWN], *gate = n->in[GLAM__MO_GATE];
    int M = glam__last(n->in[0]), E = c->experts, T = (int)glam__rows(n->in[0]);
    int H = up && up->shape.dims == 3 ? up->shape.dim[2] : 0, own = E;
    const glam__moe_setup *s = (const glam__moe_setup *)n->config;
    int traits = glam__router_traits(c->router), on = 0;
    if (ctx->mesh && up && glam__dim_over(up, 3)) own /= ctx->mesh->X;     // a model's own share
    for (int e = 0; e < E; e++) on += !(s->off && s->off[e]);
    if (on < c->top_k)
        return glam_fail(ctx, GLAM_ERR_VALUE, "moe: %d of %d experts are switched off, but a token "
                         "needs %d", E - on, E, c->top_k);
    if (!(traits & GLAM__LEARNS) && !s->pass.tokens && !ctx->base.measuring)
        return glam_fail(ctx, GLAM_ERR_VALUE, "moe: the router hash goes by token ids, which a "
                         "model has and glam_moe has not");
    if (traits & GLAM__NOISE && (!n->in[GLAM__MO_NOISE] ||
        !glam__same_shape(n->in[GLAM__MO_NOISE]->shape, glam_dim2(M, E))))
        return glam_fail(ctx, GLAM_ERR_SHAPE, "moe: the router noisy needs noise [M,E], here [%d,"
                         "%d]", M, E);
    if ((!router && traits & GLAM__LEARNS) || !H || !down ||
        (router && !glam__same_shape(router->shape, glam_dim2(M, E))) ||
        !glam__same_shape(up->shape, glam_dim3(own, M, H)) ||
        !glam__same_shape(down->shape, glam_dim3(own, H, M)))
        return glam_fail(ctx, GLAM_ERR_SHAPE, "moe: with x %s and %d experts the router is %s, up "
                         "%s, down %s; they must be [M,E], [E,M,H], [E,H,M]",
                         glam__say(n->in[0]->shape).text, E,
                         router ? glam__say(router->shape).text : "NULL",
                         up ? glam__say(up->shape).text : "NULL",
                         down ? glam__say(down->shape).text : "NULL");
    if (glam__is_gated(c->activation) && (!gate || !glam__same_shape(gate->shape, up->shape)))
        return glam_fail(ctx, GLAM_ERR_SHAPE, "moe: gated experts need a gate of the shape of up, "
                         "%s", glam__say(up->shape).text);
    if (glam__norm_fits(ctx, "moe", n->in[0], n->in[GLAM__MO_NORM]) != GLAM_OK) return ctx->error;
    if (c->group && T % c->group)
        return glam_fail(ctx, GLAM_ERR_SHAPE, "moe: %d tokens do not split into groups of %d; "
                         "choose a group that divides batch * context / accumulate", T, c->group);
    return GLAM_OK;
}

// What steps take for themselves: products, routing, the balance loss, the tree over ranks.
static uint64_t glam__moe_inner_bytes(const glam__moe *m, int below)
{
    const glam_ctx *ctx = m->ctx;
    uint64_t T = (uint64_t)m->T, room = (uint64_t)m->room, E = (uint64_t)m->E;
    uint64_t steps = 2 * glam__align(E * sizeof(int)) + 2 * glam__floats(2 * T) +
                     (m->s->frozen ? glam__align(E * sizeof(glam__span)) : 0) +
                     glam__align((uint64_t)m->groups * (E + 1) * sizeof(int)) + glam__floats(T) +
                     glam__floats(4 * (uint64_t)m->H) +
                     (m->traits & GLAM__AHEAD ? glam__align((uint64_t)m->group * sizeof(glam__bid))
                                              : 0);
    uint64_t most = glam__larger(glam__chain_bytes(ctx, room, m->M, m->H),
                                 below ? 0 : glam__chain_apart_bytes(ctx, room, m->M, m->H));
    most = glam__larger(most, glam__product_bytes(ctx, m->E));
    most = glam__larger(most, glam__norm_back_bytes(m->T, m->M));
    most = glam__larger(most, glam__outer_bytes(ctx) + (m->X > 1 ?
                        glam__floats(glam__moe_levels(m) * (uint64_t)m->M * m->H) : 0));
    return steps + most;
}

// What measure mode counts: sums over Y; counts of routing, rows to experts and back, and backward
// their gradients with those of the weights.
static void glam__moe_count(glam_ctx *ctx, glam_node *n, const glam__moe *m)
{
    const glam_tensor *w = n->in[GLAM__MO_DOWN];
    glam__mesh *mesh = ctx->mesh;
    uint64_t M = (uint64_t)m->M, recorded = n->flags & GLAM__NODE_RECORDED;
    uint64_t below = recorded && glam__moe_grads_of(ctx, n).below;
    glam__count_sum_over_y(ctx, w, (uint64_t)m->T * M);
    if (recorded) glam__count_sum_over_y(ctx, w, (uint64_t)m->T * (uint64_t)m->k);
    if (below) glam__count_sum_over_y(ctx, w, (uint64_t)m->T * M);
    if (!ctx->base.measuring || m->X == 1) return;
    uint64_t out = mesh->rows_out ? (uint64_t)mesh->rows_out[mesh->layer] : 0;
    uint64_t in = mesh->rows_in ? (uint64_t)mesh->rows_in[mesh->layer] : 0;
    glam__all_gather(ctx, &mesh->x, &mesh->sent.routing, NULL, (size_t)m->X * (m->E + 1),
                     sizeof(float));
    mesh->sent.dispatch += 4 * M * (out + in);
    if (recorded) mesh->sent.dispatch += 4 * ((M + 1) * out + (1 + below * M) * in);
}

static glam_status glam__moe_shape(glam_ctx *ctx, glam_node *n)
{
    const glam__moe_setup *s = (const glam__moe_setup *)n->config;
    if (glam__moe_config_check(ctx, &s->c) != GLAM_OK || glam__moe_fits(ctx, n) != GLAM_OK)
        return ctx->error;
    if (glam__rows(n->in[0]) > (size_t)INT32_MAX / (size_t)glam__entries(&s->c))
        return glam_fail(ctx, GLAM_ERR_SHAPE, "moe: %.0f tokens times %d choices are too many at "
                         "once", (double)glam__rows(n->in[0]), glam__entries(&s->c));
    glam__moe m = glam__moe_view(ctx, n);
    if (!m.room)
        return glam_fail(ctx, GLAM_ERR_SHAPE, "moe: %d tokens on each of %d ranks are too many at "
                         "once; a larger recipe.accumulate makes smaller parts", m.T, m.X);
    n->out_shape[0] = n->in[0]->shape;
    n->out_shape[1] = glam_dim1(1);
    n->saved_bytes = glam__lay_count(glam__moe_saved, &m);
    n->scratch_bytes = glam__lay_count(glam__moe_scratch, &m) + glam__moe_inner_bytes(&m, 1);
    if (n->flags & GLAM__NODE_RECORDED) {
        glam__moe_grads d = glam__moe_grads_of(ctx, n);
        n->scratch_bytes = glam__larger(n->scratch_bytes,
                                        glam__lay_count(glam__moe_back_scratch, &d) +
                                        glam__moe_inner_bytes(&m, d.below));
    }
    if (n->in[GLAM__MO_NORM]) n->flags |= GLAM__NODE_RESIDUAL;
    glam__moe_count(ctx, n, &m);
    static const int exact[] = { GLAM__MO_ROUTER, GLAM__MO_NOISE };
    for (int i = 0; i < 2; i++) {      // choices hang on small differences: the router stays f32
        const glam_tensor *w = n->in[exact[i]];
        const glam__low *low = w ? glam__low_of(w) : NULL;
        if (w && w->pack) w->pack->exact = 1;
        if (low) low->a->pack->exact = low->b->pack->exact = 1;
    }
    glam__want_all(ctx, n, GLAM__MO_ROUTER, 1, 0);
    glam__want_all(ctx, n, GLAM__MO_NOISE, 1, 0);
    return glam__want_all(ctx, n, GLAM__MO_GATE, 3, m.R);
}

GLAM__OP(moe, GLAM__MO_INPUTS, GLAM__OP_FRESH | GLAM__OP_OPTIONAL |
         GLAM__OP_NARROW << GLAM__MO_GATE | GLAM__OP_NARROW << GLAM__MO_UP |
         GLAM__OP_NARROW << GLAM__MO_DOWN);

// Arrays for the routing of T tokens; they outlive the op, for whoever looks at the routing.
static glam__route glam__route_new(glam_ctx *ctx, const glam_moe_config *c, uint64_t T)
{
    glam__route r;
    uint64_t choices = glam__mul(T, (uint64_t)glam__entries(c));
    memset(&r, 0, sizeof r);
    r.expert = (int32_t *)(void *)glam__take_values(ctx, &ctx->base.step, choices);
    r.slot = (int32_t *)(void *)glam__take_values(ctx, &ctx->base.step, choices);
    r.kept = (int32_t *)(void *)glam__take_values(ctx, &ctx->base.step, choices);
    r.load = (int32_t *)(void *)glam__take_values(ctx, &ctx->base.step, (uint64_t)c->experts);
    r.weight = glam__take_values(ctx, &ctx->base.step, choices);
    r.probability = glam__take_values(ctx, &ctx->base.step, T * (uint64_t)c->experts);
    return r;
}

static glam_tensor *glam__moe_apply(glam_ctx *ctx, glam_tensor *x, const glam_moe_weights *w,
                                    const glam__moe_setup *s, glam_tensor **balance)
{
    glam_tensor *in[GLAM__MO_INPUTS];
    in[GLAM__MO_X] = x; in[GLAM__MO_NORM] = w->norm; in[GLAM__MO_ROUTER] = w->router;
    in[GLAM__MO_GATE] = w->gate; in[GLAM__MO_UP] = w->up; in[GLAM__MO_DOWN] = w->down;
    in[GLAM__MO_NOISE] = glam__router_traits(s->c.router) & GLAM__NOISE ? w->noise : NULL;
    return glam_apply(ctx, &glam__op_moe, in, s, sizeof *s, balance);
}

GLAM_API glam_tensor *glam_moe_masked(glam_ctx *ctx, glam_tensor *x, const int32_t *mask,
                                      const glam_moe_weights *w, const glam_moe_config *config,
                                      glam_routing *routing, glam_tensor **balance)
{
    glam__moe_setup s;
    if (balance) *balance = NULL;
    if (routing) memset(routing, 0, sizeof *routing);
    if (!ctx || ctx->error || !x) return NULL;
    if (!w || !config) {
        glam_fail(ctx, GLAM_ERR_VALUE, "moe: weights and config must not be NULL");
        return NULL;
    }
    if (glam__moe_config_check(ctx, config) != GLAM_OK) return NULL;
    memset(&s, 0, sizeof s);
    s.c = *config;
    s.norm_eps = 1e-6f;
    s.part = s.scale = 1;
    s.mask = glam__keep_ints(ctx, mask, glam__rows(x), 0);
    s.pass.step = ctx->train.updates;
    s.pass.layer = -1;
    s.pass.rows = (int)glam__rows(x);
    s.pass.length = 1;
    s.route = glam__route_new(ctx, config, glam__rows(x));
    s.record = routing;
    s.bias = w->bias ? w->bias->data : NULL;
    if (w->bias && !glam__same_shape(w->bias->shape, glam_dim1(config->experts)))
        glam_fail(ctx, GLAM_ERR_SHAPE, "moe: bias is %s; it must be [%d]",
                  glam__say(w->bias->shape).text, config->experts);
    return ctx->error ? NULL : glam__moe_apply(ctx, x, w, &s, balance);
}

GLAM_API glam_tensor *glam_moe(glam_ctx *ctx, glam_tensor *x, const glam_moe_weights *w,
                               const glam_moe_config *config, glam_routing *routing,
                               glam_tensor **balance)
{ return glam_moe_masked(ctx, x, NULL, w, config, routing, balance); }

GLAM_API void glam_moe_bias(glam_tensor *bias, const int32_t *load, float rate)
{
    double sum = 0;
    size_t E = glam_size(bias);
    if (!bias || !bias->data || !load) return;
    for (size_t e = 0; e < E; e++) sum += load[e];
    for (size_t e = 0; e < E; e++) {
        double over = (double)load[e] * (double)E - sum;
        bias->data[e] += over < 0 ? rate : over > 0 ? -rate : 0;
    }
}

static glam_tensor *glam__named_param(glam_ctx *ctx, const char *name, const char *part,
                                      glam_shape shape, uint64_t seed)
{
    char full[160];
    snprintf(full, sizeof full, "%s.%s", name, part);
    glam_tensor *t = glam_param(ctx, full, shape);
    if (t) glam__fill_as(t, GLAM__UNIFORMLY, seed, sqrtf(3.0f / (float)shape.dim[shape.dims - 2]));
    return t;
}

GLAM_API glam_moe_weights glam_moe_init(glam_ctx *ctx, const char *name, int d_model,
                                        const glam_moe_config *config)
{
    glam_moe_weights w;
    glam_moe_config c = config ? *config : glam_moe_config_default();
    memset(&w, 0, sizeof w);
    if (!ctx || ctx->error || glam__moe_config_check(ctx, &c) != GLAM_OK) return w;
    if (d_model < 1 || c.hidden < 1) {
        glam_fail(ctx, GLAM_ERR_VALUE, "moe_init: d_model is %d and hidden %d; both must be at "
                  "least 1 (hidden has no dense layer to follow here)", d_model, c.hidden);
        return w;
    }
    if (!name) name = "moe";
    uint64_t seed = ctx->options.seed;
    glam_shape in = glam_dim3(c.experts, d_model, c.hidden);
    if (glam__router_traits(c.router) & GLAM__LEARNS)
        w.router = glam__named_param(ctx, name, "router", glam_dim2(d_model, c.experts), seed);
    if (glam__router_traits(c.router) & GLAM__NOISE)
        glam_fill(w.noise = glam__named_param(ctx, name, "noise", w.router ? w.router->shape : in,
                                              seed), 0);
    if (c.bias) {
        w.bias = glam__named_param(ctx, name, "bias", glam_dim2(1, c.experts), seed);
        if (w.bias) w.bias->shape = glam_dim1(c.experts);
        if (w.bias) w.bias->wants_grad = 0;
        glam_fill(w.bias, 0);
    }
    if (glam__is_gated(c.activation)) w.gate = glam__named_param(ctx, name, "gate", in, seed);
    w.up = glam__named_param(ctx, name, "up", in, seed);
    w.down = glam__named_param(ctx, name, "down", glam_dim3(c.experts, c.hidden, d_model), seed);
    return w;
}

// ---- statistics

GLAM_API glam_routing_stats *glam_stats_new(glam_ctx *ctx, int experts, int vocab, int texts)
{
    if (!ctx || ctx->error) return NULL;
    if (experts < 1 || vocab < 0 || texts < 0) {
        glam_fail(ctx, GLAM_ERR_VALUE, "stats: %d experts, %d ids, %d texts; at least one expert, "
                  "and nothing below 0", experts, vocab, texts);
        return NULL;
    }
    uint64_t E = (uint64_t)experts, rows = 3 + E + (uint64_t)vocab + (uint64_t)texts;
    size_t mark = glam_mark(ctx);
    glam_routing_stats *s = GLAM__NEW(ctx, life, glam_routing_stats, 1);
    uint64_t *n = GLAM__NEW(ctx, life, uint64_t, rows * E);
    double *load = (double *)glam__take(ctx, &ctx->base.life,
                                       (uint64_t)texts * E * sizeof *load + 1);
    if (s && n && load) {
        s->experts = experts; s->vocab = vocab; s->texts = texts;
        s->first = n;
        s->chosen = s->first + E;
        s->kept = s->chosen + E;
        s->together = s->kept + E;
        s->by_token = s->together + E * E;
        s->by_text = s->by_token + (uint64_t)vocab * E;
        s->text_load = load;
    }
    return (glam_routing_stats *)glam__made(ctx, mark, s);
}

// Does a pass, or another's counts, have the experts that are counted here?
static glam_status glam__stats_fit(glam_ctx *ctx, const glam_routing_stats *s, int experts)
{
    if (!ctx || !s) return ctx ? glam_fail(ctx, GLAM_ERR_VALUE, "stats: nowhere to count (NULL)")
                               : GLAM_ERR_MEMORY;
    if (experts != s->experts)
        return glam_fail(ctx, GLAM_ERR_VALUE, "stats: made for %d experts, but the routing has %d "
                         "(0: there is none)", s->experts, experts);
    return ctx->error;
}

// A token's entries; -2 says that a real token has no further expert.
static int glam__routed(const glam_routing *r, int t)
{ return r->expert[(size_t)t * r->top_k] >= 0 || r->slot[(size_t)t * r->top_k] == -2; }

static void glam__stats_token(glam_routing_stats *s, const glam_routing *r, int t, int32_t text)
{
    const int32_t *e = r->expert + (size_t)t * r->top_k;
    const float *w = r->weight + (size_t)t * r->top_k;
    int E = s->experts;
    for (int i = 0; i < r->top_k && e[i] >= 0; i++) {
        s->choices++;
        s->chosen[e[i]]++;
        s->kept[e[i]] += r->kept[(size_t)t * r->top_k + i] != 0;
        if (text >= 0) s->by_text[(size_t)text * E + e[i]]++;
        if (i < 2) s->sums[2 + i] += (double)w[i];
        for (int j = 0; j < r->top_k && e[j] >= 0; j++) s->together[(size_t)e[i] * E + e[j]]++;
    }
}

GLAM_API glam_status glam_stats_add(glam_ctx *ctx, glam_routing_stats *stats,
                                    const glam_routing *routing, const int32_t *token,
                                    const int32_t *text)
{
    glam_routing_stats *s = stats;
    if (glam__stats_fit(ctx, s, routing ? routing->experts : 0) != GLAM_OK) return glam_error(ctx);
    for (int t = 0; t < routing->tokens; t++)      // all or nothing
        if ((token && (token[t] < 0 || token[t] >= s->vocab)) ||
            (text && (text[t] < 0 || text[t] >= s->texts)))
            return glam_fail(ctx, GLAM_ERR_VALUE, "stats: token %d has the id %d of %d, text %d "
                             "of %d", t, token ? (int)token[t] : 0, s->vocab,
                             text ? (int)text[t] : 0, s->texts);
    uint64_t real = 0;
    for (int t = 0; t < routing->tokens; t++) {
        int e = routing->expert[(size_t)t * routing->top_k];
        if (!glam__routed(routing, t)) continue;
        real++;
        if (e >= 0) s->first[e]++;
        if (e >= 0 && token) s->by_token[(size_t)token[t] * s->experts + e]++;
        glam__stats_token(s, routing, t, text ? text[t] : -1);
    }
    s->tokens += real;
    s->dropped += (uint64_t)routing->dropped;
    s->sums[0] += (double)routing->balance * (double)real;
    s->sums[1] += (double)routing->entropy * (double)real;
    return GLAM_OK;
}

GLAM_API glam_status glam_stats_compare(glam_ctx *ctx, glam_routing_stats *stats,
                                        const glam_routing *now, const glam_routing *before)
{
    if (glam__stats_fit(ctx, stats, now ? now->experts : 0) != GLAM_OK) return glam_error(ctx);
    if (!before || before->experts != now->experts || before->tokens != now->tokens)
        return glam_fail(ctx, GLAM_ERR_VALUE, "stats: a pass of %d tokens and %d experts cannot be "
                         "compared with one of %d and %d", now->tokens, now->experts,
                         before ? before->tokens : 0, before ? before->experts : 0);
    for (int t = 0; t < now->tokens; t++) {
        const int32_t *a = now->expert + (size_t)t * now->top_k;
        const int32_t *b = before->expert + (size_t)t * before->top_k;
        if (!glam__routed(now, t)) continue;
        stats->compared++;
        stats->same_first += a[0] == b[0];
        for (int i = 0; i < now->top_k && a[i] >= 0; i++, stats->of++)
            for (int j = 0; j < before->top_k; j++) stats->same += a[i] == b[j];
    }
    return GLAM_OK;
}

GLAM_API glam_status glam_stats_merge(glam_ctx *ctx, glam_routing_stats *stats,
                                      const glam_routing_stats *other)
{
    glam_routing_stats *s = stats;
    if (glam__stats_fit(ctx, s, other ? other->experts : 0) != GLAM_OK) return glam_error(ctx);
    if (s->vocab != other->vocab || s->texts != other->texts)
        return glam_fail(ctx, GLAM_ERR_VALUE, "stats: %d ids and %d texts here, %d and %d there",
                         s->vocab, s->texts, other->vocab, other->texts);
    uint64_t n = (uint64_t)s->experts * (3 + (uint64_t)s->experts + (uint64_t)s->vocab +
                                         (uint64_t)s->texts);
    for (uint64_t i = 0; i < n; i++) s->first[i] += other->first[i];       // all the arrays
    for (int i = 0; i < 4; i++) s->sums[i] += other->sums[i];
    s->tokens += other->tokens; s->choices += other->choices; s->dropped += other->dropped;
    s->compared += other->compared; s->same_first += other->same_first;
    s->same += other->same; s->of += other->of;
    return GLAM_OK;
}

// Largest and smallest of n counts over their mean.
static void glam__stats_range(const uint64_t *count, int n, double *most, double *least)
{
    uint64_t sum = 0, high = 0, low = UINT64_MAX;
    for (int e = 0; e < n; e++) {
        sum += count[e];
        if (count[e] > high) high = count[e];
        if (count[e] < low) low = count[e];
    }
    *most = sum ? (double)high * n / (double)sum : 0;
    *least = sum ? (double)low * n / (double)sum : 0;
}

static double glam__share_of(double part, uint64_t all) { return all ? part / (double)all : 0; }

GLAM_API void glam_stats_finish(glam_routing_stats *stats)
{
    glam_routing_stats *s = stats;
    uint64_t likely = 0, known = 0;
    if (!s) return;
    int E = s->experts;
    glam__stats_range(s->first, E, &s->fullest, &s->emptiest);
    glam__stats_range(s->kept, E, &s->kept_fullest, &s->kept_emptiest);
    s->dead = 0;
    for (int e = 0; e < E; e++)
        s->dead += s->choices && 100.0 * (double)s->chosen[e] * E < (double)s->choices;
    for (int v = 0; v < s->vocab; v++) {
        const uint64_t *row = s->by_token + (size_t)v * E;
        uint64_t most = 0;
        for (int e = 0; e < E; e++) {
            known += row[e];
            if (row[e] > most) most = row[e];
        }
        likely += most;
    }
    for (int d = 0; d < s->texts; d++) {
        const uint64_t *row = s->by_text + (size_t)d * E;
        uint64_t sum = 0;
        for (int e = 0; e < E; e++) sum += row[e];
        for (int e = 0; e < E; e++)
            s->text_load[(size_t)d * E + e] = glam__share_of((double)row[e] * E, sum);
    }
    s->token_specialisation = glam__share_of((double)likely, known);
    s->dropped_share = glam__share_of((double)s->dropped, s->choices);
    s->balance = glam__share_of(s->sums[0], s->tokens);
    s->entropy = glam__share_of(s->sums[1], s->tokens);
    s->weight_first = glam__share_of(s->sums[2], s->tokens);
    s->weight_second = glam__share_of(s->sums[3], s->tokens);
    s->agreement_first = glam__share_of((double)s->same_first, s->compared);
    s->agreement = glam__share_of((double)s->same, s->of);
}

/* == 15 model : implementation ============================================================
   Rows of parameters, and the order in which a forward pass happens.  A parameter is one row
   below: from it come its field, its name in files and messages, its shape, its start, and in
   which of the two flat blocks (shared, experts) its values lie. */

typedef struct glam__layer {
    int mixture;
    glam_attention_weights attention;
    glam_ffn_weights ffn;
    glam_moe_weights moe;
    glam_ffn_weights shared;       // its expert for all
    glam_moe_config tuned;         // see glam_model_tune
    unsigned char *off;            // [E] experts that are switched off, and the same as a choice
    unsigned char *frozen;         // [E] experts that do not train
    int some_off, some_frozen;
    glam_routing routing[2];       // of passes of one's own; of a trainer's
} glam__layer;

struct glam_model {
    glam_ctx *ctx;
    glam_config config;
    int count, borrowed;
    int latest;                    // whose routing is the last: 0 one's own, 1 a trainer's
    int tuned;                     // layers differ in the weight of their balance loss
    int weights;                   // of count: behind them are adapters
    glam_tensor **tensors;
    glam_tensor *embed, *unembed, *norm;
    glam__layer *layers;
    const struct glam_tokenizer *tokenizer;        // NULL: bytes
};

// When a row is there at all.
enum { GLAM__FIRST, GLAM__UNTIED, GLAM__LAYER, GLAM__BUCKETS, GLAM__XL, GLAM__QK_HEAD,
       GLAM__QK_WHOLE, GLAM__DENSE, GLAM__MIXTURE, GLAM__ROUTED, GLAM__GATED, GLAM__NOISY,
       GLAM__BIASED, GLAM__SHARED, GLAM__FINAL };
// How it starts (as in the code): zeros; ones; normal with a standard deviation; by fan-in.
enum { GLAM__ZEROS, GLAM__ONES, GLAM__UNIT, GLAM__PER_M, GLAM__PER_A, GLAM__QUERY, GLAM__TABLE,
       GLAM__SMALL, GLAM__FAN_IN };

typedef struct glam__row {
    int when;
    const char *name, *dims;       // dims: letters of the legend; h hidden of a dense layer, n
                                   // heads, b buckets, K kv_heads * D
    int start, expert;
    size_t field;                  // in glam_model, or in glam__layer for rows of a layer
} glam__row;

#define GLAM__IN_LAYER(part, name) \
    (offsetof(glam__layer, part) + offsetof(glam_##part##_weights, name))

#define GLAM__OF_ALL(name) (offsetof(glam__layer, shared) + offsetof(glam_ffn_weights, name))

static const glam__row glam__rows_of_model[] = {
    { GLAM__FIRST,   "embed",       "VM",  GLAM__UNIT,   0, offsetof(glam_model, embed) },
    { GLAM__UNTIED,  "unembed",     "VM",  GLAM__UNIT,   0, offsetof(glam_model, unembed) },
    { GLAM__LAYER,   "attn.norm",   "M",   GLAM__ONES,   0, GLAM__IN_LAYER(attention, norm) },
    { GLAM__LAYER,   "attn.q",      "MA",  GLAM__QUERY,  0, GLAM__IN_LAYER(attention, q) },
    { GLAM__LAYER,   "attn.k",      "MK",  GLAM__PER_M,  0, GLAM__IN_LAYER(attention, k) },
    { GLAM__LAYER,   "attn.v",      "MK",  GLAM__PER_M,  0, GLAM__IN_LAYER(attention, v) },
    { GLAM__LAYER,   "attn.o",      "AM",  GLAM__PER_A,  0, GLAM__IN_LAYER(attention, o) },
    { GLAM__BUCKETS, "attn.bias",   "nb",  GLAM__TABLE,  0, GLAM__IN_LAYER(attention, bias) },
    { GLAM__XL,      "attn.r",      "MA",  GLAM__PER_M,  0, GLAM__IN_LAYER(attention, r) },
    { GLAM__XL,      "attn.u",      "nD",  GLAM__SMALL,  0, GLAM__IN_LAYER(attention, u) },
    { GLAM__XL,      "attn.v_bias", "nD",  GLAM__SMALL,  0, GLAM__IN_LAYER(attention, v_bias) },
    { GLAM__QK_HEAD, "attn.q_norm", "D",   GLAM__ONES,   0, GLAM__IN_LAYER(attention, q_norm) },
    { GLAM__QK_HEAD, "attn.k_norm", "D",   GLAM__ONES,   0, GLAM__IN_LAYER(attention, k_norm) },
    { GLAM__QK_WHOLE, "attn.q_norm", "A",  GLAM__ONES,   0, GLAM__IN_LAYER(attention, q_norm) },
    { GLAM__QK_WHOLE, "attn.k_norm", "K",  GLAM__ONES,   0, GLAM__IN_LAYER(attention, k_norm) },
    { GLAM__DENSE,   "ffn.norm",    "M",   GLAM__ONES,   0, GLAM__IN_LAYER(ffn, norm) },
    { GLAM__DENSE,   "ffn.gate",    "Mh",  GLAM__FAN_IN, 0, GLAM__IN_LAYER(ffn, gate) },
    { GLAM__DENSE,   "ffn.up",      "Mh",  GLAM__FAN_IN, 0, GLAM__IN_LAYER(ffn, up) },
    { GLAM__DENSE,   "ffn.down",    "hM",  GLAM__FAN_IN, 0, GLAM__IN_LAYER(ffn, down) },
    { GLAM__MIXTURE, "moe.norm",    "M",   GLAM__ONES,   0, GLAM__IN_LAYER(moe, norm) },
    { GLAM__ROUTED,  "moe.router",  "ME",  GLAM__FAN_IN, 0, GLAM__IN_LAYER(moe, router) },
    { GLAM__GATED,   "moe.gate",    "EMH", GLAM__FAN_IN, 1, GLAM__IN_LAYER(moe, gate) },
    { GLAM__MIXTURE, "moe.up",      "EMH", GLAM__FAN_IN, 1, GLAM__IN_LAYER(moe, up) },
    { GLAM__MIXTURE, "moe.down",    "EHM", GLAM__FAN_IN, 1, GLAM__IN_LAYER(moe, down) },
    { GLAM__NOISY,   "moe.noise",   "ME",  GLAM__ZEROS,  0, GLAM__IN_LAYER(moe, noise) },
    { GLAM__BIASED,  "moe.bias",    "E",   GLAM__ZEROS,  0, GLAM__IN_LAYER(moe, bias) },
    { GLAM__SHARED,  "moe.shared.gate", "Ms", GLAM__FAN_IN, 0, GLAM__OF_ALL(gate) },
    { GLAM__SHARED,  "moe.shared.up",   "Ms", GLAM__FAN_IN, 0, GLAM__OF_ALL(up) },
    { GLAM__SHARED,  "moe.shared.down", "sM", GLAM__FAN_IN, 0, GLAM__OF_ALL(down) },
    { GLAM__FINAL,   "norm",        "M",   GLAM__ONES,   0, offsetof(glam_model, norm) }
};
// Which letters of the dims are shared out over Y; E is, over X, where a row is of experts.
#define GLAM__LETTERS_OF_Y "VAKhHns"
enum { GLAM__ROW_COUNT = (int)(sizeof glam__rows_of_model / sizeof glam__rows_of_model[0]) };

static int glam__is_mixture(const glam_config *c, int layer)
{ return c->moe.experts > 0 && layer % c->moe.every == c->moe.offset; }

// Is every token's output there before the next token is known?
static int glam__writes(const glam_config *c)
{ return !c->moe.experts || !(glam__router_traits(c->moe.router) & GLAM__AHEAD); }

static int glam__row_applies(const glam_config *c, const glam__row *row, int layer)
{
    int mixture = glam__is_mixture(c, layer);
    switch (row->when) {
    case GLAM__UNTIED:  return !c->tied;
    case GLAM__BUCKETS: return c->position == GLAM_POSITION_BUCKETS;
    case GLAM__XL:      return c->position == GLAM_POSITION_TRANSFORMER_XL;
    case GLAM__QK_HEAD: return c->qk_norm == GLAM_QK_NORM_HEAD;
    case GLAM__QK_WHOLE: return c->qk_norm == GLAM_QK_NORM_WHOLE;
    case GLAM__DENSE:   return !mixture;
    case GLAM__MIXTURE: return mixture;
    case GLAM__ROUTED:  return mixture && glam__router_traits(c->moe.router) & GLAM__LEARNS;
    case GLAM__GATED:   return mixture && glam__is_gated(c->moe.activation);
    case GLAM__NOISY:   return mixture && glam__router_traits(c->moe.router) & GLAM__NOISE;
    case GLAM__BIASED:  return mixture && c->moe.bias;
    case GLAM__SHARED:  return mixture && c->moe.shared;
    default:            return 1;
    }
}

// May its numbers be narrow?  Those of the big matrices; not the router's, which choices hang on.
static int glam__row_narrows(const glam__row *row)
{
    return row->dims[1] && strchr(row->dims, 'M') && row->when != GLAM__ROUTED &&
           row->when != GLAM__NOISY;
}

static int glam__row_in_layer(const glam__row *row)
{ return row->when != GLAM__FIRST && row->when != GLAM__UNTIED && row->when != GLAM__FINAL; }

static glam_shape glam__row_shape(const glam_config *c, const glam__row *row)
{
    glam_shape s = glam_dim1(1);
    s.dims = 0;
    for (const char *d = row->dims; *d; d++)
        s.dim[s.dims++] = *d == 'V' ? c->vocab : *d == 'M' ? c->d_model
                        : *d == 'A' ? c->heads * c->d_head : *d == 'D' ? c->d_head
                        : *d == 'K' ? c->kv_heads * c->d_head
                        : *d == 'n' ? c->heads : *d == 'b' ? c->buckets
                        : *d == 'h' ? c->hidden : *d == 'E' ? c->moe.experts
                        : *d == 's' ? c->moe.shared : c->moe.hidden;
    return s;
}

// One dimension of a split: this rank's share of what it has so far.
static void glam__split_dim(glam__split *split, glam_shape *mine, int d, int over, int rank,
                            int size)
{
    int n = mine->dim[d], from = (int)glam__share((size_t)n, rank, size);
    if (size == 1) return;
    split->at[d] += from;
    split->over[d] |= over;
    mine->dim[d] = (int)glam__share((size_t)n, rank + 1, size) - from;
}

// The block of a row's tensor that this rank has; the whole on one rank.  store: of what it keeps,
// else of what ops work with.
static glam_shape glam__row_mine(const glam_ctx *ctx, const glam_config *c, const glam__row *row,
                                 glam__split *split, int store)
{
    const glam__mesh *m = ctx->mesh;
    glam_shape mine = glam__row_shape(c, row);
    memset(split, 0, sizeof *split);
    split->whole = mine;
    for (int d = 0; m && d < mine.dims; d++) {
        if (strchr(GLAM__LETTERS_OF_Y, row->dims[d]))
            glam__split_dim(split, &mine, d, GLAM__OVER_Y, m->iy, m->Y);
        if (row->expert && row->dims[d] == 'E')
            glam__split_dim(split, &mine, d, GLAM__OVER_X, m->ix, m->X);
    }
    // rows; of the tables of heads columns.  What has less of them than X stays as it is.
    int d = *row->dims == 'n';
    if (m && store && m->store && !row->expert && row->when != GLAM__BIASED && mine.dim[d] >= m->X)
        glam__split_dim(split, &mine, d, GLAM__OVER_X, m->ix, m->X);
    split->mine = mine;
    return mine;
}

// Every row in the order of files: visit returns 0 to stop.
static void glam__each_param(const glam_config *c, int (*visit)(void *, const glam__row *, int),
                             void *arg)
{
    int at = 0, layer = -1;
    while (at < GLAM__ROW_COUNT) {
        const glam__row *row = &glam__rows_of_model[at];
        int in = glam__row_in_layer(row);
        if (in && layer < 0) layer = 0;
        if (glam__row_applies(c, row, in ? layer : 0) && !visit(arg, row, in ? layer : -1)) return;
        at++;
        // past the last row of a layer: once more for the next one
        if (in && at < GLAM__ROW_COUNT && !glam__row_in_layer(&glam__rows_of_model[at]) &&
            ++layer < c->layers)
            while (at > 0 && glam__row_in_layer(&glam__rows_of_model[at - 1])) at--;
    }
}

GLAM_API glam_config glam_config_default(void)
{
    glam_config c;
    memset(&c, 0, sizeof c);
    c.vocab = 256;
    c.context = 128;
    c.layers = 4;
    c.d_model = 96;
    c.heads = 2;
    c.position = GLAM_POSITION_BUCKETS;
    c.buckets = 32;
    c.max_distance = 128;
    c.attention_scale = 1;
    c.attention_sink = 1;
    c.activation = GLAM_GELU_TANH;
    c.norm_eps = 1e-6f;
    c.embed_scale = c.residual_scale = 1;
    c.tied = 1;
    c.z_loss = 1e-4f;
    c.moe = glam_moe_config_default();
    c.moe.every = 1;
    return c;
}

// Table 4 of the paper.
typedef struct glam__preset { const char *name; int L, M, H, heads, D, E, V; } glam__preset;
static const glam__preset glam__presets[] = {
    { "0.1B",      12,  768,  3072,  12,  64,   0,  32000 },
    { "0.1B/64E",  12,  768,  3072,  12,  64,  64,  32000 },
    { "1.7B",      24, 2048,  8192,  16, 128,   0,  32000 },
    { "1.7B/32E",  24, 2048,  8192,  16, 128,  32,  32000 },
    { "1.7B/64E",  24, 2048,  8192,  16, 128,  64,  32000 },
    { "1.7B/128E", 24, 2048,  8192,  16, 128, 128,  32000 },
    { "1.7B/256E", 24, 2048,  8192,  16, 128, 256,  32000 },
    { "8B",        32, 4096, 16384,  32, 128,   0,  32000 },
    { "8B/64E",    32, 4096, 16384,  32, 128,  64,  32000 },
    { "137B",      64, 8192, 65536, 128, 128,   0,  32000 },
    { "64B/64E",   64, 8192, 32768, 128, 128,  64, 256000 }
};
enum { GLAM__PRESET_COUNT = (int)(sizeof glam__presets / sizeof glam__presets[0]) };

GLAM_API const char *glam_config_preset_name(int index)
{ return index >= 0 && index < GLAM__PRESET_COUNT ? glam__presets[index].name : NULL; }

GLAM_API glam_status glam_config_preset(const char *name, glam_config *config)
{
    for (int i = 0; i < GLAM__PRESET_COUNT && name && config; i++) {
        const glam__preset *p = &glam__presets[i];
        if (strcmp(p->name, name)) continue;
        glam_config c = glam_config_default();
        c.vocab = p->V;
        c.context = 1024;
        c.layers = p->L;
        c.d_model = p->M;
        c.heads = p->heads;
        c.d_head = p->D;
        c.hidden = p->H;
        c.moe.experts = p->E;
        c.moe.every = 2;
        c.moe.hidden = p->H;
        c.moe.activation = GLAM_RELU;
        c.moe.capacity_factor = 2.0f;
        c.moe.group = 1024;
        *config = c;
        return GLAM_OK;
    }
    return GLAM_ERR_VALUE;
}

// Sizes that can never be zero follow from others where they are 0.
static void glam__config_derive(glam_config *c)
{
    if (!c->d_head && c->heads > 0 && c->d_model % c->heads == 0)
        c->d_head = c->d_model / c->heads;
    if (!c->kv_heads) c->kv_heads = c->heads;
    if (c->position == GLAM_POSITION_ROTARY) glam__rotary_derive(&c->rotary, c->context);
    if (!c->hidden && c->d_model > 0 && c->d_model <= INT32_MAX / 4) c->hidden = 4 * c->d_model;
    if (c->moe.experts > 0 && !c->moe.hidden)
        c->moe.hidden = glam__is_gated(c->moe.activation) ? c->hidden - c->hidden / 2 : c->hidden;
    if (c->logit_scale == 0 && c->d_model > 0)
        c->logit_scale = (float)(1 / sqrt((double)c->d_model));
}

static glam_status glam__config_sizes(glam_ctx *ctx, const glam_config *c)
{
    const char *const names[] = { "vocab", "context", "layers", "d_model", "heads", "d_head",
                                  "hidden" };
    const int values[] = { c->vocab, c->context, c->layers, c->d_model, c->heads, c->d_head,
                           c->hidden };
    if (!c->d_head && c->heads > 0 && c->d_model > 0)
        return glam_fail(ctx, GLAM_ERR_VALUE, "config: d_model %d does not split into %d heads; "
                         "choose other heads, or set d_head", c->d_model, c->heads);
    for (int i = 0; i < 7; i++) {
        if (values[i] < 1)
            return glam_fail(ctx, GLAM_ERR_VALUE, "config: %s is %d: start from "
                             "glam_config_default()", names[i], values[i]);
        int power = i == 2 ? 16 : 24;          // every layer is walked before memory says no
        if (values[i] > 1 << power)
            return glam_fail(ctx, GLAM_ERR_VALUE, "config: %s is %d; more than 2^%d is not "
                             "supported", names[i], values[i], power);
    }
    if ((int64_t)c->heads * c->d_head > 1 << 24)
        return glam_fail(ctx, GLAM_ERR_VALUE, "config: heads * d_head is too large (%d * %d)",
                         c->heads, c->d_head);
    return GLAM_OK;
}

static glam_status glam__config_check(glam_ctx *ctx, const glam_config *c)
{
    if (glam__config_sizes(ctx, c) != GLAM_OK) return ctx->error;
    if ((int)c->position < 0 || (int)c->position > 3)
        return glam_fail(ctx, GLAM_ERR_VALUE, "config: position is %d; buckets, transformer_xl, "
                         "none and rotary are possible", (int)c->position);
    if (glam__heads_fit(ctx, "config", c->heads, c->kv_heads, c->d_head, c->position, &c->rotary,
                        c->qk_norm) != GLAM_OK) return ctx->error;
    if (c->position == GLAM_POSITION_BUCKETS && (c->buckets < 2 ||
                                                 c->max_distance <= c->buckets / 2))
        return glam_fail(ctx, GLAM_ERR_VALUE, "config: %d buckets to distance %d; at least 2, and "
                         "max_distance above buckets / 2", c->buckets, c->max_distance);
    if (c->position == GLAM_POSITION_TRANSFORMER_XL && c->d_model % 2)
        return glam_fail(ctx, GLAM_ERR_VALUE, "config: transformer_xl needs an even d_model, not "
                         "%d", c->d_model);
    if (glam__act_kind(c->activation, 1) < 0)
        return glam_fail(ctx, GLAM_ERR_VALUE, "config: activation %d is not one of dense layers: "
                         "gelu_tanh, gelu_erf, swiglu or geglu_literal", (int)c->activation);
    if (!glam__within((double)c->norm_eps, FLT_MIN, FLT_MAX) ||
        !glam__within((double)c->attention_scale, FLT_MIN, FLT_MAX) ||
        !glam__within((double)c->z_loss, 0, FLT_MAX) ||
        !glam__within((double)c->logit_scale, FLT_MIN, FLT_MAX))
        return glam_fail(ctx, GLAM_ERR_VALUE, "config: norm_eps %g, attention_scale %g and "
                         "logit_scale %g must be above 0, z_loss %g not below: start from "
                         "glam_config_default()", (double)c->norm_eps, (double)c->attention_scale,
                         (double)c->logit_scale, (double)c->z_loss);
    if (!glam__within((double)c->embed_scale, 1e-30, 1e30) ||
        !glam__within((double)c->residual_scale, 1e-30, 1e30))
        return glam_fail(ctx, GLAM_ERR_VALUE, "config: embed_scale is %g and residual_scale %g; "
                         "each must be from 1e-30 to 1e30 (1: as it is)", (double)c->embed_scale,
                         (double)c->residual_scale);
    if (!glam__cap_fits(c->attention_cap) || !glam__cap_fits(c->logit_cap))
        return glam_fail(ctx, GLAM_ERR_VALUE, "config: attention_cap is %g and logit_cap %g; each "
                         "must be 0 (off), or from 1e-30 to 1e30", (double)c->attention_cap,
                         (double)c->logit_cap);
    if (!c->moe.experts) return GLAM_OK;
    if (c->moe.every < 1 || c->moe.offset < 0 || c->moe.offset >= c->moe.every)
        return glam_fail(ctx, GLAM_ERR_VALUE, "config: moe.every is %d and moe.offset %d; layer i "
                         "is a mixture when i %% every == offset", c->moe.every, c->moe.offset);
    return glam__moe_config_check(ctx, &c->moe);
}

static void glam__adapt_like(glam_model *model, const glam_model *like, int shared);

// ---- making one

typedef struct glam__making {
    glam_model *model;
    const glam_model *like;        // types of its tensors; or those; NULL: as the options say
    const unsigned char *types;
    int count, made;
    uint64_t floats[2];            // shared, experts
    float *block[2];
    size_t used[2];
} glam__making;

// The type of the next tensor.
static glam_type glam__row_type(const glam__making *m, const glam__row *row, int index)
{
    if (m->like || m->types)
        return m->like ? m->like->tensors[index]->type : (glam_type)m->types[index];
    return glam__row_narrows(row) ? m->model->ctx->options.weights : GLAM_TYPE_F32;
}

static int glam__count_row(void *arg, const glam__row *row, int layer GLAM__UNUSED)
{
    glam__making *m = (glam__making *)arg;
    glam__split split;
    glam_shape mine = glam__row_mine(m->model->ctx, &m->model->config, row, &split, 1);
    glam_type type = glam__row_type(m, row, m->count++);
    uint64_t n = glam__align(glam__value_bytes(mine, type)) / sizeof(float);
    m->floats[row->expert] = n > UINT64_MAX - m->floats[row->expert] ? UINT64_MAX
                                                                    : m->floats[row->expert] + n;
    return 1;
}

static void glam__row_name(const glam__row *row, int layer, char *name, size_t size)
{
    if (layer < 0) snprintf(name, size, "%s", row->name);
    else snprintf(name, size, "layers.%d.%s", layer, row->name);
}

static int glam__split_of(glam_ctx *ctx, glam_tensor *t, const glam__split *split)
{
    t->split = GLAM__NEW(ctx, life, glam__split, 1);
    if (t->split) *t->split = *split;
    return t->split != NULL;
}

static int glam__make_row(void *arg, const glam__row *row, int layer)
{
    glam__making *m = (glam__making *)arg;
    glam_model *model = m->model;
    char name[64];
    glam__split split;
    glam_shape shape = glam__row_mine(model->ctx, &model->config, row, &split, 1);
    float *data = m->block[row->expert] ? m->block[row->expert] + m->used[row->expert] : NULL;
    glam__row_name(row, layer, name, sizeof name);
    glam_type type = glam__row_type(m, row, m->made);
    m->used[row->expert] += (size_t)(glam__align(glam__value_bytes(shape, type)) / sizeof(float));
    glam_tensor *t = glam__tensor_over(model->ctx, &model->ctx->base.life, shape, name,
                                       type ? NULL : data);
    if (!t) return 0;
    t->type = type;
    t->narrow = type ? data : NULL;
    t->wants_grad = row->when != GLAM__BIASED && !type;
    if (!t->wants_grad) t->flags |= GLAM__CONSTANT;
    if (!glam__same_shape(shape, split.whole) && !glam__split_of(model->ctx, t, &split)) return 0;
    char *owner = layer < 0 ? (char *)model : (char *)&model->layers[layer];
    model->tensors[m->made++] = t;
    shape = glam__row_mine(model->ctx, &model->config, row, &split, 0);
    if (!glam__same_shape(shape, t->shape)) {          // ops see another tensor, which gathers it
        split.shard = t;
        t = GLAM__NEW(model->ctx, life, glam_tensor, 1);
        if (!t || !glam__split_of(model->ctx, t, &split)) return 0;
        t->shape = shape;
        t->name = split.shard->name;
    }
    *(glam_tensor **)(void *)(owner + row->field) = t;
    return 1;
}

// What does not divide is refused, with the number that can be changed.
static glam_status glam__mesh_fits(glam_ctx *ctx, const glam_config *c)
{
    static const char *const names[] = { "heads", "kv_heads", "hidden", "moe.hidden",
                                         "moe.shared" };
    const glam__mesh *m = ctx->mesh;
    const int sizes[] = { c->heads, c->kv_heads, c->hidden, c->moe.experts ? c->moe.hidden : m->Y,
                          c->moe.shared };
    if (c->qk_norm == GLAM_QK_NORM_WHOLE && m->Y > 1)
        return glam_fail(ctx, GLAM_ERR_VALUE, "config: a qk_norm of the whole row does not split "
                         "over mesh_y %d; use mesh_x alone", m->Y);
    if (!glam__writes(c))
        return glam_fail(ctx, GLAM_ERR_VALUE, "config: experts that choose tokens "
                         "(expert_choice) work on one rank alone so far");
    for (int i = 0; i < 5; i++)
        if (sizes[i] % m->Y)
            return glam_fail(ctx, GLAM_ERR_VALUE, "config: %s %d does not split over mesh_y %d; "
                             "change one of them", names[i], sizes[i], m->Y);
    if (c->vocab < m->Y)
        return glam_fail(ctx, GLAM_ERR_VALUE, "config: a vocab of %d has less than one token for "
                         "each of mesh_y %d ranks", c->vocab, m->Y);
    if (c->moe.experts % m->X)
        return glam_fail(ctx, GLAM_ERR_VALUE, "config: moe.experts %d do not split over mesh_x %d; "
                         "change one of them", c->moe.experts, m->X);
    return GLAM_OK;
}

static uint64_t glam__hash_bytes(uint64_t h, const void *data, size_t bytes)
{
    const unsigned char *p = (const unsigned char *)data;
    for (; bytes; bytes--) h = (h ^ *p++) * 1099511628211u;
    return h;
}

static glam_model *glam__model_frame(glam_ctx *ctx, const glam_config *config,
                                     const glam_model *like, const unsigned char *types,
                                     glam__making *m)
{
    glam_config c = config ? *config : glam_config_default();
    if (!ctx || ctx->error) return NULL;
    glam__config_derive(&c);
    if (glam__config_check(ctx, &c) != GLAM_OK) return NULL;
    if (ctx->mesh) {                               // glam_config has no holes between its fields
        if (glam__mesh_fits(ctx, &c) != GLAM_OK) return NULL;
        uint64_t h = glam__hash_bytes(ctx->mesh->config, &c, sizeof c);
        h = glam__hash_bytes(h, &ctx->mesh->X, sizeof ctx->mesh->X);
        h = glam__hash_bytes(h, &ctx->mesh->store, sizeof ctx->mesh->store);
        h = glam__hash_bytes(h, &ctx->options.arithmetic, sizeof ctx->options.arithmetic);
        ctx->mesh->config = glam__hash_bytes(h, &ctx->options.seed, sizeof ctx->options.seed);
    }
    glam_model *model = GLAM__NEW(ctx, life, glam_model, 1);
    if (!model) return NULL;
    memset(m, 0, sizeof *m);
    m->model = model;
    m->like = like;
    m->types = types;
    model->ctx = ctx;
    model->config = c;
    glam__each_param(&c, glam__count_row, m);
    model->count = model->weights = m->count;      // and room for an adapter of each
    model->tensors = GLAM__NEW(ctx, life, glam_tensor *, 3 * (uint64_t)m->count);
    model->layers = GLAM__NEW(ctx, life, glam__layer, c.layers);
    for (int i = 0; i < c.layers && model->layers; i++) {
        model->layers[i].mixture = glam__is_mixture(&c, i);
        model->layers[i].tuned = c.moe;
        model->layers[i].off = (unsigned char *)glam__take(ctx, &ctx->base.life,
                                                           (uint64_t)c.moe.experts + 1);
        model->layers[i].frozen = (unsigned char *)glam__take(ctx, &ctx->base.life,
                                                              (uint64_t)c.moe.experts + 1);
    }
    return ctx->error ? NULL : model;
}

// A model without initial values; the constructor of everything that loads.  like or types: types
// of its tensors; both NULL: as the options say.
static glam_model *glam__model_blank(glam_ctx *ctx, const glam_config *config,
                                     const glam_model *like, const unsigned char *types)
{
    glam__making m;
    size_t mark = glam_mark(ctx);
    uint64_t hash = ctx && ctx->mesh ? ctx->mesh->config : 0;
    glam_model *model = glam__model_frame(ctx, config, like, types, &m);
    for (int i = 0; i < 2 && model; i++)
        if (m.floats[i]) m.block[i] = glam__take_values(ctx, &ctx->base.life, m.floats[i]);
    if (model && !ctx->error) glam__each_param(&model->config, glam__make_row, &m);
    if (ctx && ctx->error && ctx->mesh) ctx->mesh->config = hash;
    return ctx ? (glam_model *)glam__made(ctx, mark, model) : NULL;
}

// The attention scale is folded into the query.
static int glam__init_row(void *arg, const glam__row *row, int layer)
{
    glam_model *model = (glam_model *)arg;
    const glam_config *c = &model->config;
    char *owner = layer < 0 ? (char *)model : (char *)&model->layers[layer];
    glam_tensor *t = glam__kept(*(glam_tensor **)(void *)(owner + row->field));
    double M = c->d_model, A = (double)c->heads * c->d_head, std = 1;
    if (row->start == GLAM__ONES || row->start == GLAM__ZEROS) {
        glam_fill(t, row->start == GLAM__ONES ? 1.0f : 0.0f);
        return 1;
    }
    if (row->start == GLAM__FAN_IN) {
        int fan = glam__whole(t).dim[t->shape.dims - 2];
        glam__fill_as(t, GLAM__UNIFORMLY, model->ctx->options.seed, (float)sqrt(3.0 / fan));
        return 1;
    }
    if (row->start == GLAM__PER_M) std = 1 / sqrt(M);
    if (row->start == GLAM__PER_A) std = 1 / sqrt(A);
    if (row->start == GLAM__QUERY) std = 1 / sqrt(M * c->d_head) / (double)c->attention_scale;
    if (row->start == GLAM__TABLE) std = 1 / sqrt((double)c->heads * c->buckets);
    if (row->start == GLAM__SMALL) std = 0.02;
    glam_fill_normal(t, model->ctx->options.seed, (float)std);
    return 1;
}

GLAM_API glam_model *glam_model_new(glam_ctx *ctx, const glam_config *config)
{
    glam_model *model = glam__model_blank(ctx, config, NULL, NULL);
    if (!model) {
        if (ctx) glam__farewell(ctx);
        return NULL;
    }
    if (!ctx->base.measuring) glam__each_param(&model->config, glam__init_row, model);
    if (model->config.moe.experts && model->config.moe.top_k == 1 &&
        model->config.moe.normalise != GLAM_NORMALISE_NONE)
        glam__log(ctx, "moe: with top_k 1 normalising makes every weight 1, and the router learns "
                  "from the balance loss alone; normalise none gives it a gradient");
    if (!glam__writes(&model->config))
        glam__log(ctx, "moe: experts that choose (expert_choice) look at later tokens: losses of "
                  "this model are better than it is, and it cannot write text");
    return model;
}

GLAM_API glam_model *glam_model_borrow(glam_ctx *ctx, const glam_model *from)
{
    glam__making m;
    if (ctx && (!from || from->ctx->base.measuring))
        glam_fail(ctx, GLAM_ERR_VALUE, "borrow: no model, or one that was only measured");
    if (!ctx || ctx->error) return NULL;
    size_t mark = glam_mark(ctx);
    uint64_t config = ctx->mesh ? ctx->mesh->config : 0;
    glam_model *model = glam__model_frame(ctx, &from->config, from, NULL, &m);
    if (model) glam__each_param(&model->config, glam__make_row, &m);
    for (int i = 0; model && i < m.made && !ctx->error; i++) {
        model->tensors[i]->data = from->tensors[i]->data;
        model->tensors[i]->narrow = from->tensors[i]->narrow;
        model->tensors[i]->wants_grad = 0;
    }
    if (model && !ctx->error) glam__adapt_like(model, from, 1);
    if (model) { model->borrowed = 1;  model->tokenizer = from->tokenizer; }
    if (ctx->error && ctx->mesh) ctx->mesh->config = config;
    return (glam_model *)glam__made(ctx, mark, model);
}

GLAM_API const glam_config *glam_model_config(const glam_model *model)
{ return model ? &model->config : NULL; }
GLAM_API glam_ctx *glam_model_ctx(const glam_model *model) { return model ? model->ctx : NULL; }

// Counting needs no weights.
typedef struct glam__counting { const glam_config *c; uint64_t all, active; } glam__counting;

static int glam__count_param(void *arg, const glam__row *row, int layer GLAM__UNUSED)
{
    glam__counting *n = (glam__counting *)arg;
    uint64_t count = glam__count(glam__row_shape(n->c, row));
    n->all += count;
    n->active += row->expert ? count / (uint64_t)n->c->moe.experts * (uint64_t)n->c->moe.top_k
                             : count;
    return 1;
}

static uint64_t glam__config_count(const glam_config *c, uint64_t *active)
{
    glam__counting n;
    n.c = c;
    n.all = n.active = 0;
    glam__each_param(c, glam__count_param, &n);
    if (active) *active = n.active;
    return n.all;
}

GLAM_API uint64_t glam_model_count(const glam_model *model, uint64_t *active)
{
    if (active) *active = 0;
    return model ? glam__config_count(&model->config, active) : 0;
}

static glam_type glam__narrowest(const glam_model *model)
{
    glam_type type = GLAM_TYPE_F32;
    for (int i = 0; i < model->count; i++)
        if (model->tensors[i]->type > type) type = model->tensors[i]->type;
    return type;
}

GLAM_API glam_tensor *glam_model_tensor_at(const glam_model *model, int index)
{ return model && index >= 0 && index < model->count ? model->tensors[index] : NULL; }

GLAM_API glam_tensor *glam_model_tensor(const glam_model *model, const char *name)
{
    for (int i = 0; model && name && i < model->count; i++)
        if (!strcmp(model->tensors[i]->name, name)) return model->tensors[i];
    return NULL;
}

static const glam_routing *glam__routing_of(const glam_model *model, int layer, int which)
{
    if (layer < 0 || layer >= model->config.layers || !model->layers[layer].mixture) return NULL;
    const glam_routing *r = &model->layers[layer].routing[which];
    return r->experts ? r : NULL;
}

GLAM_API const glam_routing *glam_model_routing(const glam_model *model, int layer)
{ return model ? glam__routing_of(model, layer, model->latest) : NULL; }

GLAM_API const glam_moe_config *glam_model_moe(const glam_model *model, int layer)
{
    if (!model || layer < 0 || layer >= model->config.layers || !model->layers[layer].mixture)
        return NULL;
    return &model->layers[layer].tuned;
}

// Would these settings do with the weights there are?
static glam_status glam__tune_check(glam_model *model, const glam_moe_config *now,
                                    const unsigned char *off)
{
    glam_ctx *ctx = model->ctx;
    const glam_moe_config *c = &model->config.moe;
    int on = 0;
    if (glam__moe_config_check(ctx, now) != GLAM_OK) return ctx->error;
    if (now->experts != c->experts || now->hidden != c->hidden || now->every != c->every ||
        now->offset != c->offset || now->activation != c->activation || now->bias != c->bias ||
        now->shared != c->shared ||
        (float)fabs((double)(now->router_z_weight - c->router_z_weight)) > 0 ||
        glam__router_traits(now->router) != glam__router_traits(c->router))
        return glam_fail(ctx, GLAM_ERR_VALUE, "tune: experts, hidden, every, offset, activation, "
                         "bias, shared, router_z_weight and what a router is made of belong to the "
                         "weights; start from glam_model_moe()");
    for (int e = 0; e < c->experts; e++) on += !(off && off[e]);
    if (on < now->top_k)
        return glam_fail(ctx, GLAM_ERR_VALUE, "tune: %d of %d experts are switched off, but a "
                         "token needs %d", c->experts - on, c->experts, now->top_k);
    return GLAM_OK;
}

GLAM_API glam_status glam_model_tune(glam_model *model, int layer, const glam_moe_config *now,
                                     const unsigned char *off)
{
    if (!model) return GLAM_ERR_MEMORY;
    glam_ctx *ctx = model->ctx;
    int E = model->config.moe.experts;
    if (ctx->error) return ctx->error;
    if (!now || !E || (layer != -1 && !glam_model_moe(model, layer)))
        return glam_fail(ctx, GLAM_ERR_VALUE, "tune: no settings, or layer %d is no mixture",
                         layer);
    if (glam__tune_check(model, now, off) != GLAM_OK) return ctx->error;
    for (int i = 0; i < model->config.layers; i++) {
        glam__layer *l = &model->layers[i];
        if (!l->mixture || (layer != -1 && layer != i)) continue;
        l->tuned = *now;
        l->some_off = 0;
        for (int e = 0; e < E; e++) l->some_off |= l->off[e] = off && off[e];
        model->tuned |= layer != -1;
        if (ctx->mesh) {
            ctx->mesh->config = glam__hash_bytes(ctx->mesh->config, now, sizeof *now);
            ctx->mesh->config = glam__hash_bytes(ctx->mesh->config, l->off, (size_t)E);
        }
    }
    if (layer == -1) {
        model->config.moe = *now;
        model->tuned = 0;
    }
    return GLAM_OK;
}

// ---- growing and pruning

// Rows of one tensor into another of the same width, widened and rounded where they differ in type.
static void glam__copy_rows(glam_ctx *ctx, glam_tensor *to, size_t at, const glam_tensor *from,
                            size_t row, size_t rows)
{
    size_t n = (size_t)glam__last(to), bytes = to->type == GLAM_TYPE_Q8 ? n : 2 * n;
    size_t blocks = (size_t)glam__blocks_of((int)n);
    if (to->type != from->type) {
        if (glam__reserve_scratch(ctx, glam__floats(n)) != GLAM_OK) return;
        float *one = glam__scratch_floats(ctx, n);
        for (size_t r = 0; r < rows; r++) {
            glam_read(from, row + r, 1, one);
            glam_write(to, at + r, 1, one);
        }
        ctx->scratch.used = 0;
        return;
    }
    if (!to->type)
        memcpy(to->data + at * n, from->data + row * n, rows * n * sizeof(float));
    else memcpy((char *)to->narrow + at * bytes, (char *)from->narrow + row * bytes, rows * bytes);
    if (to->type == GLAM_TYPE_Q8)
        memcpy(glam__scales_of(to) + at * blocks, glam__scales_of(from) + row * blocks,
               rows * blocks * sizeof(uint16_t));
}

// A model of this config in the context of another, with the values of all tensors that both have
// in one shape.
static glam_model *glam__model_like(const glam_model *from, const glam_config *config)
{
    glam_model *model = NULL;
    if (!from || from->ctx->error) return NULL;
    glam_options *o = &from->ctx->options;
    glam_type type = o->weights;
    if (from->ctx->mesh || from->ctx->base.measuring || from->count > from->weights)
        glam_fail(from->ctx, GLAM_ERR_STATE, "upcycle and select_experts work on one rank alone so "
                  "far, and on models with weights and without adapters (glam_model_merge)");
    o->weights = glam__narrowest(from);                    // the copy is as narrow
    model = from->ctx->error ? NULL : glam_model_new(from->ctx, config);
    o->weights = type;
    if (!model) return NULL;
    model->tokenizer = from->tokenizer;
    for (int i = 0; i < model->count; i++) {
        glam_tensor *to = model->tensors[i], *t = glam_model_tensor(from, to->name);
        if (t && glam__same_shape(t->shape, to->shape))
            glam__copy_rows(from->ctx, to, 0, t, 0, glam__rows(t));
    }
    return model;
}

// to[e] = from[which[e]]: slices of experts, or where each row has one number of each, columns.
static void glam__copy_experts(glam_ctx *ctx, glam_tensor *to, const glam_tensor *from,
                               const int32_t *which, int experts)
{
    if (!to || !from) return;
    if (to->shape.dims == 3) {
        size_t each = glam__rows(to) / (size_t)experts;
        for (int e = 0; e < experts; e++)
            glam__copy_rows(ctx, to, (size_t)e * each, from, (size_t)(which ? which[e] : 0) * each,
                            each);
        return;
    }
    size_t rows = glam_size(to) / (size_t)experts, old = glam_size(from) / rows;
    for (size_t r = 0; r < rows; r++)
        for (size_t e = 0; e < (size_t)experts; e++)
            to->data[r * (size_t)experts + e] = from->data[r * old + (size_t)which[e]];
}

GLAM_API glam_model *glam_upcycle(const glam_model *dense, const glam_moe_config *moe)
{
    if (!dense || dense->ctx->error) return NULL;
    glam_config c = dense->config;
    int a = 0, experts = c.moe.experts;
    c.moe = moe ? *moe : glam_moe_config_default();
    c.moe.hidden = c.hidden;
    int kind = glam__act_kind(c.activation, 1);
    while (a < 16 && glam__act_kind((glam_activation)a, 0) != kind) a++;
    c.moe.activation = (glam_activation)a;
    if (experts || a == 16) {
        glam_fail(dense->ctx, GLAM_ERR_VALUE, experts ? "upcycle: the model is a mixture already" :
                  "upcycle: experts cannot have the activation of these dense layers; gelu_tanh "
                  "and swiglu they can");
        return NULL;
    }
    glam_model *model = glam__model_like(dense, &c);
    for (int i = 0; model && i < c.layers; i++) {
        const glam_ffn_weights *from = &dense->layers[i].ffn;
        glam_moe_weights *to = &model->layers[i].moe;
        if (!model->layers[i].mixture) continue;
        memcpy(to->norm->data, from->norm->data, glam_size(to->norm) * sizeof(float));
        glam__copy_experts(dense->ctx, to->gate, from->gate, NULL, c.moe.experts);
        glam__copy_experts(dense->ctx, to->up, from->up, NULL, c.moe.experts);
        glam__copy_experts(dense->ctx, to->down, from->down, NULL, c.moe.experts);
        if (c.moe.shared) glam_fill(model->layers[i].shared.down, 0);
    }
    return model;
}

GLAM_API glam_model *glam_select_experts(const glam_model *model, const int32_t *from, int experts)
{
    if (!model || model->ctx->error) return NULL;
    glam_config c = model->config;
    int wrong = !from || !c.moe.experts || experts < 1 || experts > 1 << 16;
    for (int i = 0; i < c.layers && !wrong; i++)
        for (int e = 0; e < experts && model->layers[i].mixture; e++)
            wrong |= from[(size_t)i * experts + e] < 0 ||
                     from[(size_t)i * experts + e] >= c.moe.experts;
    if (wrong) {
        glam_fail(model->ctx, GLAM_ERR_VALUE, "select_experts: %d of the %d experts of each layer, "
                  "numbered from 0, are wanted; 65536 at most", experts, c.moe.experts);
        return NULL;
    }
    c.moe.experts = experts;
    glam_model *made = glam__model_like(model, &c);
    for (int i = 0; made && i < c.layers; i++) {
        const glam_moe_weights *old = &model->layers[i].moe;
        glam_moe_weights *now = &made->layers[i].moe;
        glam_tensor *const to[] = { now->router, now->noise, now->bias, now->gate, now->up,
                                    now->down };
        glam_tensor *const was[] = { old->router, old->noise, old->bias, old->gate, old->up,
                                     old->down };
        for (int j = 0; j < 6 && made->layers[i].mixture; j++)
            glam__copy_experts(model->ctx, to[j], was[j], from + (size_t)i * experts, experts);
    }
    return made;
}

GLAM_API glam_status glam_stats_most(glam_ctx *ctx, const glam_routing_stats *stats, int keep,
                                     int32_t *row)
{
    if (ctx && ctx->error) return ctx->error;
    if (!ctx || !stats || !row || keep < 1 || keep > stats->experts)
        return glam_fail(ctx, GLAM_ERR_VALUE, "stats: %d of %d experts cannot be kept", keep,
                         stats ? stats->experts : 0);
    for (int e = 0, kept = 0; e < stats->experts && kept < keep; e++) {
        int better = 0;
        for (int o = 0; o < stats->experts; o++)
            better += stats->chosen[o] > stats->chosen[e] ||
                      (o < e && stats->chosen[o] == stats->chosen[e]);
        if (better < keep) row[kept++] = e;
    }
    return GLAM_OK;
}

// ---- freezing

// Does the pattern, of so many bytes, name the text?  It goes back to the last star alone: what an
// earlier one took can stay as short as it is.
static int glam__glob(const char *pattern, size_t length, const char *text)
{
    const char *p = pattern, *end = pattern + length, *star = NULL, *from = text;
    while (*text) {
        if (p < end && *p == '*') {
            star = p++;
            from = text;
        } else if (p < end && (*p == '?' || *p == *text)) {
            p++;
            text++;
        } else if (star) {
            p = star + 1;
            text = ++from;
        } else {
            return 0;
        }
    }
    while (p < end && *p == '*') p++;
    return p == end;
}

// Is the name one of these, of which a blank is between two?
static int glam__globs(const char *globs, const char *name)
{
    for (size_t n; *globs; globs += n + (globs[n] == ' ')) {
        n = strcspn(globs, " ");
        if (glam__glob(globs, n, name)) return 1;
    }
    return 0;
}

// Words for parts of a model.
static const struct { const char *word, *globs; } glam__parts[] = {
    { "experts",    "layers.*.moe.up layers.*.moe.down layers.*.moe.gate" },
    { "router",     "layers.*.moe.router layers.*.moe.noise" },
    { "attention",  "layers.*.attn.*" },
    { "ffn",        "layers.*.ffn.* layers.*.moe.shared.*" },
    { "embeddings", "embed unembed" },      { "norms", "norm layers.*.norm" }
};
enum { GLAM__PARTS = (int)(sizeof glam__parts / sizeof glam__parts[0]) };

static int glam__pattern_names(const char *pattern, const char *name)
{
    while (*pattern == ' ' || *pattern == '\t') pattern++;
    size_t length = strlen(pattern);
    while (length && (pattern[length - 1] == ' ' || pattern[length - 1] == '\t')) length--;
    if (glam__glob(pattern, length, name)) return 1;
    for (int w = 0; w < GLAM__PARTS; w++) {
        const char *word = glam__parts[w].word;
        if (length != strlen(word) || strncmp(pattern, word, length)) continue;
        // the norm of an attention or ffn block belongs to "norms" alone
        return (!strcmp(word, "norms") || !glam__globs("*.norm", name)) &&
               glam__globs(glam__parts[w].globs, name);
    }
    return length && !strncmp(pattern, name, length) && name[length] == '.';      // layers.3
}

GLAM_API int glam_freeze(glam_model *model, const char *pattern, int frozen)
{
    int matched = 0;
    if (!model || model->ctx->error) return 0;
    if (!pattern) {
        glam_fail(model->ctx, GLAM_ERR_VALUE, "freeze: no pattern (NULL)");
        return 0;
    }
    for (int i = 0; i < model->count; i++) {
        if (!glam__pattern_names(pattern, model->tensors[i]->name)) continue;
        if (model->tensors[i]->flags & GLAM__OWNED) {
            glam_fail(model->ctx, GLAM_ERR_STATE, "freeze: %s belongs to an optimizer; freeze "
                      "before it is made, or glam_rewind to a mark from before it",
                      model->tensors[i]->name);
            return 0;
        }
        if (!frozen && model->tensors[i]->type) {
            glam_fail(model->ctx, GLAM_ERR_STATE, "freeze: %s is a narrow weight (%s), and stays "
                      "frozen", model->tensors[i]->name, glam__type_name(model->tensors[i]->type));
            return 0;
        }
        model->tensors[i]->wants_grad = !frozen && !(model->tensors[i]->flags & GLAM__CONSTANT);
        matched++;
    }
    if (!matched)
        glam_fail(model->ctx, GLAM_ERR_VALUE, "freeze: nothing is called \"%s\"; a glob over names "
                  "(layers.*.attn.*), or experts router attention ffn embeddings norms layers.3",
                  pattern);
    return matched;
}

GLAM_API glam_status glam_freeze_experts(glam_model *model, int layer, const unsigned char *frozen)
{
    if (!model) return GLAM_ERR_MEMORY;
    glam_ctx *ctx = model->ctx;
    int some = 0;
    if (ctx->error) return ctx->error;
    if (!glam_model_moe(model, layer))
        return glam_fail(ctx, GLAM_ERR_VALUE, "freeze_experts: layer %d is no mixture", layer);
    if (ctx->mesh)
        return glam_fail(ctx, GLAM_ERR_STATE, "freeze_experts: one rank alone so far");
    glam__layer *l = &model->layers[layer];
    glam_tensor *const weights[] = { l->moe.gate, l->moe.up, l->moe.down }, *of[9];
    int count = 0;
    for (int i = 0; i < 3; i++) {
        if (!weights[i]) continue;
        of[count++] = weights[i];
        if (!weights[i]->low) continue;
        of[count++] = weights[i]->low->a;
        of[count++] = weights[i]->low->b;
    }
    for (int i = 0; i < count; i++)
        if (of[i]->flags & GLAM__OWNED)
            return glam_fail(ctx, GLAM_ERR_STATE, "freeze_experts: %s belongs to an optimizer; "
                             "freeze before it is made", of[i]->name);
    for (int e = 0; e < model->config.moe.experts; e++)
        some |= l->frozen[e] = frozen && frozen[e];
    l->some_frozen = some;
    for (int i = 0; i < count; i++)
        of[i]->flags = some ? of[i]->flags | GLAM__PARTLY : of[i]->flags & ~GLAM__PARTLY;
    return GLAM_OK;
}

// ---- adapters

// Which weights have which role.
static const struct { int role; const char *name, *globs; } glam__roles[] = {
    { GLAM_ROLE_ATTENTION, "attention", "*.attn.q *.attn.k *.attn.v *.attn.o" },
    { GLAM_ROLE_EXPERTS, "experts", "*.moe.gate *.moe.up *.moe.down" },
    { GLAM_ROLE_ROUTER, "router", "*.moe.router" },
    { GLAM_ROLE_DENSE, "dense", "*.ffn.gate *.ffn.up *.ffn.down" },
    { GLAM_ROLE_SHARED, "shared", "*.moe.shared.gate *.moe.shared.up *.moe.shared.down" }
};
enum { GLAM__ROLES = (int)(sizeof glam__roles / sizeof glam__roles[0]) };

static int glam__role_of(const char *name)
{
    for (int i = 0; i < GLAM__ROLES; i++)
        if (glam__globs(glam__roles[i].globs, name)) return glam__roles[i].role;
    return 0;
}

GLAM_API const char *glam_role_name(int role)
{
    for (int i = 0; i < GLAM__ROLES; i++)
        if (glam__roles[i].role == role) return glam__roles[i].name;
    return NULL;
}

// Behind the weights their adapters, in the order of the weights whoever came first: what a run
// sums over them, and its file, do not depend on that.
static void glam__list_adapters(glam_model *model)
{
    model->count = model->weights;
    for (int i = 0; i < model->weights; i++) {
        const glam__low *low = model->tensors[i]->low;
        if (!low) continue;
        model->tensors[model->count++] = low->a;
        model->tensors[model->count++] = low->b;
    }
}

// Takes an adapter off its weight, when the context is rewound to before it.
typedef struct glam__adapting { glam_model *model; glam_tensor *w; glam__low *low; } glam__adapting;

static void glam__adapter_gone(glam_ctx *ctx GLAM__UNUSED, void *arg)
{
    const glam__adapting *g = (const glam__adapting *)arg;
    if (g->w->low != g->low) return;               // it has gone already
    g->w->low = NULL;
    glam__list_adapters(g->model);
}

// What both halves are: the weight's shape with its columns, or its rows, replaced by the rank.
static glam_shape glam__low_shape(const glam_tensor *w, int rank, int second)
{
    glam_shape s = w->shape;
    s.dim[second ? s.dims - 2 : s.dims - 1] = rank;
    return s;
}

// data: NULL, or where the values of A and B are.
static void glam__adapt_weight(glam_model *model, glam_tensor *w, int rank, float scale,
                               float *const *data)
{
    glam_ctx *ctx = model->ctx;
    glam_tensor *half[2] = { NULL, NULL };
    glam__low *low = GLAM__NEW(ctx, life, glam__low, 1);
    glam__adapting *gone = GLAM__NEW(ctx, life, glam__adapting, 1);
    size_t room = strlen(w->name) + sizeof ".lora_a";
    char *name = (char *)glam__take(ctx, &ctx->base.life, room);
    for (int i = 0; i < 2 && !ctx->error; i++) {
        glam_shape shape = glam__low_shape(w, rank, i);
        snprintf(name, room, "%s.lora_%c", w->name, "ab"[i]);
        half[i] = data ? glam__tensor_over(ctx, &ctx->base.life, shape, name, data[i])
                       : glam_param(ctx, name, shape);
    }
    if (ctx->error) return;
    for (int i = 0; i < 2; i++) half[i]->flags |= w->flags & GLAM__PARTLY;
    if (!data)
        glam__fill_as(half[0], GLAM__UNIFORMLY, ctx->options.seed,
                      (float)(1 / sqrt((double)w->shape.dim[w->shape.dims - 2])));
    gone->model = model;  gone->w = w;  gone->low = low;
    glam__on_rewind(ctx, glam__adapter_gone, gone);
    if (ctx->error) return;
    low->a = half[0];  low->b = half[1];  low->scale = scale;  low->off = 0;
    w->low = low;
    glam__list_adapters(model);
    for (int i = 0; i < model->weights; i++) model->tensors[i]->wants_grad = 0;
}

// The adapters of another model of this shape; shared: with its values.
static void glam__adapt_like(glam_model *model, const glam_model *like, int shared)
{
    for (int i = 0; i < like->weights && !model->ctx->error; i++) {
        const glam__low *low = like->tensors[i]->low;
        float *data[2];
        if (!low) continue;
        data[0] = low->a->data;  data[1] = low->b->data;
        glam__adapt_weight(model, model->tensors[i], low->b->shape.dim[low->b->shape.dims - 2],
                           low->scale, shared ? data : NULL);
        if (model->tensors[i]->low) model->tensors[i]->low->off = low->off;
    }
}

static glam_status glam__adapt_fits(const glam_model *model, int rank, float scale)
{
    glam_ctx *ctx = model->ctx;
    if (ctx->mesh || model->borrowed)
        return glam_fail(ctx, GLAM_ERR_STATE, "adapt: adapters are for a model of one's own, on "
                         "one rank alone so far");
    if (rank < 1 || rank > 1 << 16 || !glam__within((double)scale, -FLT_MAX, FLT_MAX))
        return glam_fail(ctx, GLAM_ERR_VALUE, "adapt: rank is %d and the scale %g; a rank is from "
                         "1 to 2^16", rank, (double)scale);
    for (int i = 0; i < model->count; i++)
        if (model->tensors[i]->flags & GLAM__OWNED)
            return glam_fail(ctx, GLAM_ERR_STATE, "adapt: %s belongs to an optimizer; adapt before "
                             "it is made, or glam_rewind to a mark from before it",
                             model->tensors[i]->name);
    return GLAM_OK;
}

GLAM_API glam_status glam_adapt(glam_model *model, const char *weight, int rank, float scale)
{
    glam_tensor *w = glam_model_tensor(model, weight);
    if (!model) return GLAM_ERR_MEMORY;
    if (model->ctx->error || glam__adapt_fits(model, rank, scale) != GLAM_OK)
        return model->ctx->error;
    if (!w || !glam__role_of(w->name))
        return glam_fail(model->ctx, GLAM_ERR_VALUE, "adapt: %s is no weight that can have an "
                         "adapter: those of attention (q k v o), experts, dense layers and shared "
                         "experts (gate up down) and the router can", weight ? weight : "NULL");
    if (w->low)
        return glam_fail(model->ctx, GLAM_ERR_STATE, "adapt: %s has an adapter already", w->name);
    size_t mark = glam_mark(model->ctx);
    glam__adapt_weight(model, w, rank, scale, NULL);
    glam__made(model->ctx, mark, model);
    return glam__farewell(model->ctx);
}

GLAM_API glam_lora glam_lora_default(void)
{
    glam_lora l;
    memset(&l, 0, sizeof l);
    l.roles = GLAM_ROLE_ATTENTION;
    l.rank = 8;
    l.alpha = 16;
    return l;
}

GLAM_API glam_status glam_model_adapt(glam_model *model, const glam_lora *lora)
{
    glam_lora l = lora ? *lora : glam_lora_default();
    if (!model) return GLAM_ERR_MEMORY;
    glam_ctx *ctx = model->ctx;
    int found = 0;
    if (!l.expert_rank) l.expert_rank = l.rank;
    if (ctx->error || glam__adapt_fits(model, l.rank, l.alpha) != GLAM_OK ||
        glam__adapt_fits(model, l.expert_rank, l.alpha) != GLAM_OK) return ctx->error;
    if (model->count > model->weights)
        return glam_fail(ctx, GLAM_ERR_STATE, "adapt: the model has adapters already; "
                         "glam_model_merge makes room for others");
    for (int i = 0; i < model->weights; i++) found |= glam__role_of(model->tensors[i]->name);
    for (int i = 0; i < GLAM__ROLES; i++)
        if (l.roles & glam__roles[i].role & ~found)
            return glam_fail(ctx, GLAM_ERR_VALUE, "adapt: the model has no weight of role %s",
                             glam__roles[i].name);
    if (!(l.roles & found) || l.roles & ~(2 * GLAM_ROLE_SHARED - 1))
        return glam_fail(ctx, GLAM_ERR_VALUE, "adapt: roles are %d; a sum of attention 1, experts "
                         "2, router 4, dense 8 and shared 16 is possible", l.roles);
    size_t mark = glam_mark(ctx);
    for (int i = 0; i < model->weights && !ctx->error; i++) {
        int role = glam__role_of(model->tensors[i]->name);
        int rank = role == GLAM_ROLE_EXPERTS ? l.expert_rank : l.rank;
        double by = l.rslora ? sqrt((double)rank) : (double)rank;
        if (l.roles & role)
            glam__adapt_weight(model, model->tensors[i], rank, (float)((double)l.alpha / by), NULL);
    }
    glam__made(ctx, mark, model);
    return glam__farewell(ctx);
}

GLAM_API int glam_adapter_of(const glam_model *model, const char *weight, glam_adapter *out)
{
    const glam_tensor *w = glam_model_tensor(model, weight);
    if (!w || !w->low) return 0;
    if (out) { out->a = w->low->a;  out->b = w->low->b;  out->scale = w->low->scale; }
    return 1;
}

GLAM_API int glam_model_use_adapters(glam_model *model, int on)
{
    int before = 1;
    for (int i = 0; model && i < model->weights; i++) {
        if (!model->tensors[i]->low) continue;
        before = !model->tensors[i]->low->off;
        model->tensors[i]->low->off = !on;
    }
    return before;
}

// A narrow weight as f32, in memory of its own, until the context is rewound to before that.
typedef struct glam__widened {
    glam_model *model;
    int index;
    glam_type type;
    void *narrow;
} glam__widened;

static void glam__narrow_again(glam_ctx *ctx GLAM__UNUSED, void *arg)
{
    const glam__widened *was = (const glam__widened *)arg;
    glam_tensor *w = was->model->tensors[was->index];
    w->data = NULL;
    w->narrow = was->narrow;
    w->type = was->type;
    w->wants_grad = 0;
    glam__pack_stale(w);
}

static int glam__widen_weight(glam_model *model, int i)
{
    glam_ctx *ctx = model->ctx;
    glam_tensor *w = model->tensors[i];
    glam__widened *was = GLAM__NEW(ctx, life, glam__widened, 1);
    if (!was) return 0;
    was->model = model;  was->index = i;  was->type = w->type;  was->narrow = w->narrow;
    glam__on_rewind(ctx, glam__narrow_again, was);
    float *data = glam__take_values(ctx, &ctx->base.life, glam_size(w));
    if (ctx->error) return 0;
    if (data) glam_read(w, 0, glam__rows(w), data);
    w->data = data;
    w->narrow = NULL;
    w->type = GLAM_TYPE_F32;
    return 1;
}

// W += s A B, slice by slice.
static void glam__merge_weight(const glam_ctx *ctx, glam_tensor *w)
{
    const glam__low *low = w->low;
    int k = w->shape.dim[w->shape.dims - 2], n = w->shape.dim[w->shape.dims - 1];
    int r = low->b->shape.dim[w->shape.dims - 2];
    size_t rows = glam_size(w) / (size_t)n;
    for (size_t i = 0; i < rows; i++)
        for (int j = 0; j < r; j++)
            ctx->simd.kernels->axpy(n, low->scale * low->a->data[i * (size_t)r + j],
                                    low->b->data + (i / (size_t)k * (size_t)r + j) * (size_t)n,
                               w->data + i * (size_t)n);
    glam__pack_stale(w);
}

GLAM_API glam_status glam_model_merge(glam_model *model)
{
    if (!model) return GLAM_ERR_MEMORY;
    if (model->ctx->error || glam__adapt_fits(model, 1, 1) != GLAM_OK) return model->ctx->error;
    for (int i = 0; i < model->weights; i++) {
        glam_tensor *w = model->tensors[i];
        if (w->low && w->type && !glam__widen_weight(model, i)) return model->ctx->error;
        if (w->low && !model->ctx->base.measuring) glam__merge_weight(model->ctx, w);
        w->low = NULL;
        w->wants_grad = !w->type && !(w->flags & GLAM__CONSTANT);
    }
    glam__list_adapters(model);
    return GLAM_OK;
}

// ---- one pass

typedef struct glam__run {
    glam_model *model;
    glam_mode mode;
    const int32_t *segments;       // [T] own copy; 0: padding; NULL: all real, one text a row
    glam__cache *caches;           // [layers], or NULL
    const float *turn;             // rotary: see glam__attention
    double real, count;            // real tokens: of this part of the batch; of the whole step
    double told, goal;             // those of them with something to predict: of both
    int recompute, cancelled, aux_off;
    int most;                      // on a mesh: tokens that any rank may have; 0: all the same
    int quiet;                     // leave the model's routing records alone
    int trained;                   // a trainer's pass: see glam__layer.routing
    glam__pass pass;
    glam_tensor *balance;          // sum over mixture layers so far
} glam__run;

typedef struct glam__block_arg { glam__run *run; int layer; glam__route route; } glam__block_arg;

static glam_attention_config glam__attention_config(const glam_config *c)
{
    glam_attention_config a;
    a.heads = c->heads;
    a.kv_heads = c->kv_heads;
    a.d_head = c->d_head;
    a.qk_norm = c->qk_norm;
    a.rotary = c->rotary;
    a.position = c->position;
    a.buckets = c->buckets;
    a.max_distance = c->max_distance;
    a.scale = c->attention_scale;
    a.sink = c->attention_sink != 0;
    a.norm_eps = c->norm_eps;
    a.cap = c->attention_cap;
    return a;
}

// x := x + Attn(RMS(x));  x := x + F(RMS(x)), F the mixture or the dense feed-forward.
static glam_tensor *glam__block(glam_ctx *ctx, void *arg, glam_tensor *x, glam_tensor **balance)
{
    const glam__block_arg *b = (const glam__block_arg *)arg;
    const glam__run *run = b->run;
    const glam_config *c = &run->model->config;
    glam__layer *layer = &run->model->layers[b->layer];
    glam__attention at;
    memset(&at, 0, sizeof at);
    at.c = glam__attention_config(c);
    if (ctx->mesh) at.c.heads /= ctx->mesh->Y;
    if (ctx->mesh) at.c.kv_heads /= ctx->mesh->Y;
    at.scale = c->residual_scale;
    at.turn = run->turn;
    at.segments = run->segments;
    at.cache = run->caches ? &run->caches[b->layer] : NULL;
    x = glam__attention_apply(ctx, x, &layer->attention, &at);
    if (!layer->mixture)
        return glam__ffn_apply(ctx, x, &layer->ffn, c->activation, c->norm_eps, c->residual_scale);
    glam__moe_setup s;
    memset(&s, 0, sizeof s);
    s.c = layer->tuned;
    if (run->mode == GLAM_INFER) {                 // inference drops nothing
        s.c.capacity_factor = 0;
        s.c.capacity = 0;
        s.c.group = 0;
    }
    s.infer = run->mode == GLAM_INFER;
    s.most = run->most;
    s.norm_eps = c->norm_eps;
    s.scale = c->residual_scale;
    s.part = (float)(run->real / run->count);
    s.mask = run->segments;
    s.route = b->route;
    s.bias = layer->moe.bias ? layer->moe.bias->data : NULL;
    s.off = layer->some_off ? layer->off : NULL;
    s.frozen = layer->some_frozen ? layer->frozen : NULL;
    s.pass = run->pass;
    s.pass.layer = b->layer;
    s.record = run->quiet ? NULL : &layer->routing[run->trained];
    if (run->aux_off) s.c.aux_weight = 0;
    if (!x) return NULL;
    glam_tensor *y = glam__moe_apply(ctx, x, &layer->moe, &s, balance);
    if (!c->moe.shared) return y;
    glam_tensor *normed = glam_rmsnorm(ctx, x, layer->moe.norm, c->norm_eps);
    glam_tensor *all = glam_ffn(ctx, normed, &layer->shared, c->activation, c->norm_eps);
    return glam_add(ctx, y, glam_scale(ctx, all, c->residual_scale));
}

static glam_status glam__batch_check(glam_ctx *ctx, const glam_batch *b)
{
    if (!b || b->rows < 1 || b->length < 1)
        return glam_fail(ctx, GLAM_ERR_VALUE, "batch: %d rows of %d tokens; at least one of each",
                         b ? b->rows : 0, b ? b->length : 0);
    if (!b->tokens && !ctx->base.measuring)
        return glam_fail(ctx, GLAM_ERR_VALUE, "batch: no tokens (NULL)");
    if ((int64_t)b->rows * b->length > INT32_MAX / 64)
        return glam_fail(ctx, GLAM_ERR_VALUE, "batch: %d rows of %d tokens are too many at once",
                         b->rows, b->length);
    return GLAM_OK;
}

// Mask and segments as one: 0 is padding.
static const int32_t *glam__batch_segments(glam_ctx *ctx, const glam_batch *b)
{
    size_t T = (size_t)b->rows * b->length;
    if (!b->mask && !b->segments) return NULL;
    int32_t *s = GLAM__NEW(ctx, step, int32_t, T);
    for (size_t t = 0; t < T && s; t++)
        s[t] = b->mask && !b->mask[t] ? 0 : b->segments ? b->segments[t] : 1;
    return s;
}

// The residual stream after the last layer [B,S,M]; NULL on failure or when cancelled.
static glam_tensor *glam__run_layers(glam__run *run, const glam_batch *batch)
{
    glam_model *model = run->model;
    glam_ctx *ctx = model->ctx;
    int T = batch->rows * batch->length, transient = ctx->tensor.transient;
    run->balance = NULL;
    glam__embed e = { glam__keep_ints(ctx, batch->tokens, (size_t)T, 1), run->segments, T,
                      batch->rows, model->config.embed_scale };
    if (model->config.position == GLAM_POSITION_ROTARY)
        run->turn = glam__rotary_table(ctx, &model->config.rotary, model->config.d_head,
                                       run->caches ? run->caches->length : 0, batch->length);
    run->pass.tokens = e.ids;
    if (!run->quiet) model->latest = run->trained;
    ctx->tensor.transient = 1;                     // nobody asks for gradients in here
    glam_tensor *x = glam_apply(ctx, &glam__op_embed, &model->embed, &e, sizeof e, NULL);
    for (int i = 0; i < model->config.layers && x; i++) {
        glam_tensor *balance = NULL;
        const glam__record *below = ctx->autograd.tape;
        glam__block_arg *b = GLAM__NEW(ctx, step, glam__block_arg, 1);
        if (ctx->mesh) ctx->mesh->layer = i;
        run->cancelled = glam__agree(ctx, "forward", glam__cancelled(ctx));
        if (run->cancelled || !b) {
            x = NULL;
            break;
        }
        b->run = run;
        b->layer = i;
        if (model->layers[i].mixture)
            b->route = glam__route_new(ctx, &model->layers[i].tuned, (uint64_t)T);
        x = run->recompute ? glam_recompute(ctx, glam__block, b, x, &balance)
                           : glam__block(ctx, b, x, &balance);
        glam__lend_since(ctx, below);
        if (balance && run->mode == GLAM_TRAIN)
            run->balance = run->balance ? glam_add(ctx, run->balance, balance) : balance;
    }
    ctx->tensor.transient = transient;
    if (ctx->mesh) ctx->mesh->layer = -1;
    return x;
}

static glam_status glam__run_begin(glam__run *run, glam_model *model, const glam_batch *batch,
                                   glam_mode mode)
{
    memset(run, 0, sizeof *run);
    run->model = model;
    run->mode = mode;
    if (glam__batch_check(model->ctx, batch) != GLAM_OK) return model->ctx->error;
    run->segments = glam__batch_segments(model->ctx, batch);
    run->real = run->segments ? 0 : (double)batch->rows * batch->length;
    for (int t = 0; t < batch->rows * batch->length && run->segments; t++)
        run->real += run->segments[t] != 0;
    run->count = run->real > 0 ? run->real : 1;
    run->told = batch->targets ? 0 : run->real;
    for (int t = 0; t < batch->rows * batch->length && batch->targets; t++)
        run->told += (!run->segments || run->segments[t]) && batch->targets[t] >= 0;
    run->goal = run->told > 0 ? run->told : 1;
    run->pass.kind = mode == GLAM_TRAIN ? GLAM_PASS_TRAIN : GLAM_PASS_EVALUATE;
    run->pass.step = model->ctx->train.updates;
    run->pass.part = model->ctx->mesh ? model->ctx->mesh->ix : 0;
    run->pass.rows = batch->rows;
    run->pass.length = batch->length;
    glam__agree(model->ctx, mode == GLAM_TRAIN ? "a pass of training" : "a pass of inference", 0);
    return model->ctx->error;
}

static glam_tensor *glam__unembed(const glam_model *model)
{ return model->config.tied ? model->embed : model->unembed; }

// On a mesh: logits [..,V] of all parts of the vocabulary.  No gradient flows through them.
static glam_tensor *glam__whole_logits(glam_model *model, glam_tensor *part)
{
    glam_ctx *ctx = model->ctx;
    glam__mesh *m = ctx->mesh;
    if (!part || !glam__is_over(glam__unembed(model), GLAM__OVER_Y)) return part;
    int V = model->config.vocab, mine = glam__last(part);
    size_t rows = glam__rows(part), from = (size_t)glam__unembed(model)->split->at[0];
    glam_shape shape = part->shape;
    shape.dim[shape.dims - 1] = V;
    float *all = glam__take_values(ctx, &ctx->base.step, rows * (size_t)V);
    glam_tensor *y = glam__tensor(ctx, &ctx->base.step, shape, "");
    glam__agree(ctx, "logits", 0);
    if (!y || !all || ctx->error) return ctx->error ? NULL : y;
    memcpy(all + rows * from, part->data, glam_size(part) * sizeof *all);
    for (int r = 0; r < m->Y; r++) {
        size_t at = glam__share((size_t)V, r, m->Y), n = glam__share((size_t)V, r + 1, m->Y) - at;
        if (r == m->iy) continue;
        glam__to(m, r, part->data, rows * (size_t)mine * sizeof *all);
        glam__from(m, r, all + rows * at, rows * n * sizeof *all);
    }
    if (!glam__exchange(ctx, &m->y, &m->sent.model)) return NULL;
    for (int r = 0; r < m->Y; r++) {
        size_t at = glam__share((size_t)V, r, m->Y), n = glam__share((size_t)V, r + 1, m->Y) - at;
        for (size_t i = 0; i < rows; i++)
            memcpy(y->data + i * (size_t)V + at, all + rows * at + i * n, n * sizeof *all);
    }
    return y;
}

// Logits of the residual stream: cap(logit_scale * RMS(x) E^T), the cap where there is one.
static glam_tensor *glam__logits(glam_model *model, glam_tensor *x)
{
    glam_ctx *ctx = model->ctx;
    float cap = model->config.logit_cap;
    if (!x) return NULL;                           // cancelled
    x = glam_rmsnorm(ctx, x, model->norm, model->config.norm_eps);
    x = glam_scale(ctx, x, model->config.logit_scale);
    x = glam_matmul_t(ctx, x, glam__unembed(model));
    if (cap > 0) x = glam_scale(ctx, glam_tanh(ctx, glam_scale(ctx, x, 1 / cap)), cap);
    return glam__whole_logits(model, x);
}

GLAM_API glam_tensor *glam_forward(glam_model *model, const glam_batch *batch, glam_mode mode)
{
    if (!model || model->ctx->error) return NULL;
    // a run is read again by backward when blocks are recomputed: it lives as long as the step
    glam__run *run = GLAM__NEW(model->ctx, step, glam__run, 1);
    glam_tensor *y = NULL;
    if (run && glam__run_begin(run, model, batch, mode) == GLAM_OK)
        y = glam__logits(model, glam__run_layers(run, batch));
    return glam__farewell(model->ctx) == GLAM_OK ? y : NULL;
}

static glam_tensor *glam__run_loss(glam__run *run, const glam_batch *batch, glam_losses *losses)
{
    glam_model *model = run->model;
    glam_ctx *ctx = model->ctx;
    const glam_config *c = &model->config;
    glam_tensor *in[3], *x = glam__run_layers(run, batch), *y;
    size_t T = (size_t)batch->rows * batch->length;
    double tuned = 0;
    glam__head h;
    if (losses) memset(losses, 0, sizeof *losses);
    if (!x) return NULL;
    if (!batch->targets && !ctx->base.measuring) {
        glam_fail(ctx, GLAM_ERR_VALUE, "loss: the batch has no targets (NULL)");
        return NULL;
    }
    memset(&h, 0, sizeof h);
    h.targets = glam__keep_ints(ctx, batch->targets, T, 1);
    h.segments = run->segments;
    h.norm_eps = c->norm_eps;
    h.logit_scale = c->logit_scale;
    h.logit_cap = c->logit_cap;
    h.z_loss = c->z_loss;
    h.count = run->goal;
    h.real = run->count;
    h.parts = GLAM__NEW(ctx, step, double, 2);
    in[0] = x; in[1] = model->norm; in[2] = glam__unembed(model);
    y = h.parts ? glam_apply(ctx, &glam__op_lm_loss, in, &h, sizeof h, NULL) : NULL;
    if (y && run->balance) y = glam_add(ctx, y, run->balance);
    if (!y || !losses || ctx->base.measuring) return y;
    losses->xent = h.parts[0];
    losses->z = h.parts[1];
    for (int i = 0; i < c->layers && !run->quiet; i++) {
        const glam_routing *r = glam__routing_of(model, i, run->trained);
        if (!r) continue;
        losses->aux += (double)r->balance * run->real / run->count;
        tuned += (double)glam__aux_weight(&model->layers[i].tuned) * (double)r->balance *
                 run->real / run->count;
        losses->router_z += (double)r->router_z * run->real / run->count;
    }
    losses->total = losses->xent + (double)c->z_loss * losses->z;
    if (run->mode == GLAM_TRAIN)
        losses->total += (model->tuned ? tuned : (double)glam__aux_weight(&c->moe) * losses->aux) +
                         (double)c->moe.router_z_weight * losses->router_z;
    return y;
}

// On a mesh: the tokens of the step are those of all ranks of X.
static void glam__count_real(glam__run *run)
{
    glam_ctx *ctx = run->model->ctx;
    glam__mesh *m = ctx->mesh;
    if (!m || m->X == 1 || ctx->base.measuring) return;
    double *all = (double *)(void *)m->work, real = 0, told = 0;
    all[2 * m->ix] = run->real;
    all[2 * m->ix + 1] = run->told;
    glam__all_gather(ctx, &m->x, &m->sent.sums, all, 2 * (size_t)m->X, sizeof *all);
    for (int x = 0; x < 2 * m->X; x += 2) {
        real += all[x];
        told += all[x + 1];
    }
    run->count = real > 0 ? real : 1;
    run->goal = told > 0 ? told : 1;
}

GLAM_API glam_tensor *glam_loss(glam_model *model, const glam_batch *batch, glam_mode mode,
                                glam_losses *losses)
{
    if (losses) memset(losses, 0, sizeof *losses);
    if (!model || model->ctx->error) return NULL;
    glam__run *run = GLAM__NEW(model->ctx, step, glam__run, 1);
    glam_tensor *y = NULL;
    if (run && glam__run_begin(run, model, batch, mode) == GLAM_OK) {
        glam__count_real(run);
        y = glam__run_loss(run, batch, losses);
    }
    return glam__farewell(model->ctx) == GLAM_OK ? y : NULL;
}

// Every row there is: what the gradient tests walk.
static const glam_op *const glam__ops[] GLAM__UNUSED = {
    &glam__op_recompute, &glam__op_pair, &glam__op_scale, &glam__op_matmul,
    &glam__op_transpose, &glam__op_slice, &glam__op_concat, &glam__op_sum, &glam__op_unary,
    &glam__op_softmax, &glam__op_layernorm, &glam__op_rmsnorm, &glam__op_embed,
    &glam__op_dropout, &glam__op_mse, &glam__op_cross_entropy, &glam__op_attention,
    &glam__op_ffn, &glam__op_moe, &glam__op_lm_loss };
enum { glam__ops_count = (int)(sizeof glam__ops / sizeof glam__ops[0]) };

/* == 16 text : implementation =============================================================
   Bytes as tokens, or byte-pair encoding, given or learnt, and kept with a model.  A text is cut
   into words (the scanners), a word into symbols: bytes, or characters where the vocabulary is
   SentencePiece's; then the most urgent pair of neighbours becomes one, again and again, until
   none is left that the vocabulary knows.  Words never look at each other, so a text may be cut
   anywhere between them.  Whether a piece comes out of its own bytes is known from the start: most
   words are looked up and never merged. */

typedef struct glam__couple { uint64_t pair; uint32_t rank; int32_t id; } glam__couple;  // 0: free
typedef struct glam__symbol { int32_t id, before, next, at; } glam__symbol;
// An entry of a heap: least key first, then least left, then least right.
typedef struct glam__urge { uint64_t key; int32_t left, right; } glam__urge;
typedef struct glam__ids { int32_t *ids; size_t most, count; } glam__ids;

// Classes of characters by Unicode's general category; two for runs of the Latin, Greek and
// Cyrillic blocks where large and small letters take turns.
enum {
    GLAM__OTHER, GLAM__UPPER, GLAM__LOWER, GLAM__LETTER, GLAM__MARK, GLAM__NUMBER,
    GLAM__EVEN_UPPER, GLAM__ODD_UPPER, GLAM__BLANK, GLAM__NOTHING,
    GLAM__LETTERS = 1 << GLAM__UPPER | 1 << GLAM__LOWER | 1 << GLAM__LETTER,
    GLAM__SIGNS = 1 << GLAM__OTHER | 1 << GLAM__MARK,
    GLAM__WORD = 100,           // symbols of a word that need no memory of their own
    GLAM__PLANE = 1 << 16
};
typedef struct glam__class_run { uint32_t at; int kind; } glam__class_run;
typedef struct glam__class_runs { const glam__class_run *at; int count; } glam__class_runs;
// What a character is made of: code = first, second (0: there is none).
typedef struct glam__form { uint32_t code, first, second; int again; } glam__form;

struct glam_tokenizer {
    glam_ctx *ctx;
    glam_vocabulary v;          // bytes NULL: bytes are tokens
    glam__couple *pairs;          // open addressing, as the next
    int32_t *places;             // 1 + id of a normal piece, by its bytes; 0: free
    uint64_t pair_mask, place_mask;
    int32_t byte_id[256];       // -1: none
    uint8_t *whole;             // [size] 1: its bytes, merged, are this piece
    int32_t *added;             // ids of added and control pieces, long ones first
    int added_count, blanks_cut;
    uint8_t first[256];         // bit 1: an added piece begins so, bit 2: a control piece
    glam__class_runs classes;   // of all characters, run by run
    glam__class_runs set;       // DeepSeek's: letters, or the coder's punctuation
    glam__class_runs marks;     // composed: 1 joins what is before, 2.. ranks of combining classes
    glam__form *forms;          // composed: by code
    int form_count;
    glam__couple *composites;   // composed: two characters that are one
    uint64_t composite_mask;
    uint8_t *plane;             // [GLAM__PLANE] classes of the characters that most texts are of
    int32_t single[256];        // normal pieces of one byte; -1: none
};

// Unicode 14's general categories.  A sign is 8 * length + class; length 10: + the next digit of
// base 90; 11: + the next three.  Where it ends, nothing is a letter.
static const char glam__categories[] =
    "mJr#Tn3Lo3mI&T0#%3(&#8#n0#Uo1#_sRt*sJS-,B$%4-<%,%45,%,RCB$%4C$-&$5>,%,%,t*s,%,B,sUN,%,-$"
    "%<ko_&o4p+;p%m'GT&#&m*y#$9B&#$%+&5#$L$#4#$#,%n*#fo<$-45s1=$%#$%,-nMoJs;#XsQt's|#n@+&LoC]"
    "qG#'#/#/#']p4;>m6q$DpEq.r#;.'p~#&X+P./#@.r#6+&m)&'p7q4+ptq$&m'r#p:i.;&+'+p/@&i&7&Hm+p27;"
    "p$Dp1#OeapDq1#q:pP7&q+&Xp#/+r##p)7#`+.+p/#W#&3>+'&X+/+7&]';.#6/+r#.+Q+&#'+7#O;.+p/#W#.#."
    "#.+'#H;/+73'T>#&Tr#/6'm$7#h#6#p/#W#.#G+'&a#7#7+&m(./+r#e&P#7#`+.+p/#W#.#G+'&X+/+7T7;.#6/"
    "+r##&Qm#'&#O36#>3.#&#.3.363p%;H37#@+&L'm'r&m&H`#6#p0#p)+'&X#7#@T/#6+&+./+r#]Y#&7#`#6#p0#"
    "p##G+'&X#7#@T/L.#./+r##.m&@h#6#pC/&X#7#@&D6'Y6/+r,#O#7#p+3p1#h#&+W3';P#'#aLr#+/m&pJ'.XDW"
    "a#r#mA.#&#G#p1#&#p#'.i&+G#&#P+r#+>m9&m0/Lr-#'#'#';/`#p=;q-#/Gq$#q=e'mSpEq-&r#LO@>7&7.X6@"
    "p&q%&'r#@+n@#$D$+oE#&5x#&`#>+W#&#>+pC#>+p:#>+W#&#>+p(#pS#>+p^+7er-3p)m)nq+N3x#)u+p*#p3Dp"
    "f38`Tp+@ep,7m$p+/m%p&#6#/m%pNq93&;&'+r#Lr#m*7#'r#LptTG/p;'&Dpam#p8#q%;q%m#r#p7+Gm$pF;p3L"
    "r$m>p0H;pOq##q6+'r#Lr#m&&]q8mKHpIq*`3r#m*im%7p7q&.r#pFq'm%p=q-]r#36r#p=+gTnE+4m)7#q.>'O'"
    ".7&DoFpYo&&o;p>qZ{#$a_s}_^N+M+_^_^N+M+_#$#$#$#$_^o'+_^_^_^F#-E#%35#-E3=+-<;_ED5#-Eu#$<(&"
    "+QD&r#Lp&mMq:m*$;$+%4-4%#$3EL$#$#$#<#%<%>%+-,D$=;%#rM$%Iu#+)rVmir/u#*#r7u#/XnJoJ$%4-[4%$"
    "-$N.4s~%LC7$%e(+o@#%D%+pRT&m('p0eW#W#W#W#W#W#W#W#q9mI&u#(6.(m2jP#G+8.;pq+/+6#pu#>DpE#py3"
    "Am#p9mJp)m9r#m7b#r(m9r#mAr(u#&Vx#n9mZx%g4m^pH+x#%~3p)r#.m-sH&@#q##&s5./par#/m>h+s'-sX&_K"
    "s#&+C&B-s.<%Es)4%$%D$%#%#Jm16$%6%W'6'>'p0H;'3Qm#pNm%/pLq+m#r#Lq+O3&#.'r#p5a+p0q&m%p63@pI"
    "q'm'&r#LG'p#r#G#pCq'e6'`/+r#Lp03&7pL'&7./G/&'&m16+p$H+6/m#O+O+OeW#W#oE#>g&Lokp<a#/+r#Lx$"
    "F/m%p0;pKu$&wx#')+x#$3m@Vm%FD&'p##p&#G#&#.#.#x#$5m:x#'&m+pZ+pPmBp%;q)m)q)mZG#x#$Qm,r#Tn3"
    "Lo3m$pt3O+O+O+6m<p%#p3#p,#.#p(+p'm;x#$Em%rGm%rSm*0u#$:'u#$Lp63pKm('r4;p9Aep-(`(Dp@HDp7+p"
    "=;`#ImDnBoBpi+r#Ln=;o=;pB]pNm%n$#n(#U#,#o$#o(#V#-m^x#&Mep/m#`m1O#pD#hm`O+&#pF#.3&+p0+bp0"
    "+Yp8]jmJp,#.DIp/Q;p3mapR;0.r)+rH&7#/D@>#6#p6+7;'jm0p60#p68m9`#p5/;Im)pPm#p/+bp,Dbp+m0Ymk"
    "pdmQnMm&oMTQp=@]r#u#&;r8#pD#/3.mip6r#&]p/q$Am4p+@mDp.Ym-p0e7pOq(m$r7'./&e@pGq$T'm&p2Tr#L"
    "7p=q'#r#;&/&]p<'+&e7pJq'>;@#/r#&#&;r-m$p+#p2q%L'm[W#&#>#p(#p#TpIq%Dr#L@#`+.+p/#W#.#G#/&X"
    "+/+7+&L'DG/+X3Hu#$UpOq+>Dr#;'6m7pJq-.#&]r#u#$qpIX+im0>/m;pJq*3&m$r#m@pEq&&Tr#mPp4+q(;r%;"
    "Wu#%(pFq(u#$.n9o9r,m%`+&+`#.#p1P#/+@&'&/m%r#ma`+pAX+X&#&'m4&q#pBX&@]']&q$pHq)3&m+pdu#%xh"
    "#p>a#a&m(r6Dp7+q/#q'mdW#.#p@P3'#/#X&']r#LO#.#p9H#/#H&Tr#u#&Lp,@u#%(&m(r.mEx#-9u#$/z#$8m*"
    "x#%3u#A=p|m(x#.vu#P~x#)Ou$(xx#)ATp8#r#Lpj#r#Lp7+Hm$pJXe>m%r##Y#p.Dp,u#*_n9o9r0u#$2pf;'&q"
    "QT@p&mZ.#&'m$/m'x#i3]x#0imDhu$,<>#W#.#x#&8mG6m*>]x#'Hu#<_x#$4Dp&3hTp#3/u#X<qH+q0u#)%H3P]"
    "a+Xm7@u#$_7u#$fr-u#$5r2u#$Qn3o3n3V#o+n3o3$#,+$+,+<#^=#%#V#o$n3o3,#<+^#U#o3,#<#E#$3U#o3n3"
    "o3n3o3n3o3n3o3n3o3n3o5+n2#o2#Nn2#o2#Nn2#o2#Nn2#o2#Nn2#o2#N$%+rLu#(cqQ;qL]'m''m/H#q(u#/;o"
    "#&o-u#%QX#q*+X#/#Hu#%EpG3XW+r#;&u#&Wp7'm*pF@r#u#0yW#>#.#p(#x#%4+jXmCn;o;X&;r#u#+lrU#8#Am"
    "grG#r(u#%1>#p4#.#&+&#p##>#&#&L&;&#&#&#6#.#&+&#&#&#&#&#.#&+>#W#>#>#&#p##p*D6#G#p*u#)Lr&u#"
    "B|r#u#.Lx(;am9x#R0Tx#%N+x#e%m'x#x&u#FOx#)%u#3gx#Ztu{Iku%#0y#%a";

static uint32_t glam__category_digit(const char **at)
{
    int c = (unsigned char)*(*at)++;
    return (uint32_t)(c - '#' - (c > '?') - (c > '\\'));
}

// How many runs there are; written to runs unless that is NULL.
static int glam__category_runs(const char *p, glam__class_run *runs)
{
    uint32_t at = 0;
    int n = 0;
    for (; *p; n++) {
        uint32_t sign = glam__category_digit(&p), length = sign / 8 + 1;
        if (runs) { runs[n].at = at; runs[n].kind = (int)(sign % 8); }
        if (length == 10) length += glam__category_digit(&p);
        else if (length == 11) {
            length = 0;
            for (int i = 0; i < 3; i++) length = length * 90 + glam__category_digit(&p);
        }
        at += length;
    }
    if (runs) { runs[n].at = at; runs[n].kind = GLAM__OTHER; }
    return n + 1;
}

// The tables below are numbers of one to four digits: below 65 as they are, the next 2160 in two.
static uint32_t glam__table_number(const char **at)
{
    uint32_t n = glam__category_digit(at);
    if (n < 65) return n;
    if (n < 89) return 65 + (n - 65) * 90 + glam__category_digit(at);
    n = 0;
    for (int i = 0; i < 3; i++) n = n * 90 + glam__category_digit(at);
    return n + 65 + 24 * 90;
}

static uint32_t glam__table_change(const char **at)
{
    uint32_t n = glam__table_number(at);
    return n & 1 ? ~(n >> 1) : n >> 1;
}

// The same from a table of gaps and lengths (less 1), each with a kind, or all of kind 1.
static int glam__table_runs(const char *p, int with_kind, glam__class_run *runs)
{
    uint32_t at = 0;
    int n = 1;
    if (runs) runs[0].at = 0, runs[0].kind = 0;
    for (; *p; n += 2) {
        uint32_t begin = at + glam__table_number(&p), kind = 1;
        at = begin + glam__table_number(&p) + 1;
        if (with_kind) kind = glam__table_number(&p);
        if (!runs) continue;
        runs[n].at = begin;
        runs[n].kind = (int)kind;
        runs[n + 1].at = at;
        runs[n + 1].kind = 0;
    }
    return n;
}

static int glam__run_kind(glam__class_runs runs, uint32_t c)
{
    int low = 0, high = runs.count;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (runs.at[middle].at <= c) low = middle;
        else high = middle;
    }
    return runs.at[low].kind;
}

static int glam__is_blank(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

static int glam__class(const glam_tokenizer *t, uint32_t c)
{
    if (c < GLAM__PLANE && t->plane[c] != GLAM__NOTHING) return t->plane[c];
    if (glam__is_blank(c)) return GLAM__BLANK;
    int kind = glam__run_kind(t->classes, c);
    if (kind == GLAM__EVEN_UPPER) return c % 2 ? GLAM__LOWER : GLAM__UPPER;
    if (kind == GLAM__ODD_UPPER) return c % 2 ? GLAM__UPPER : GLAM__LOWER;
    return kind;
}

// Bytes of the character at text; 1 and U+FFFD where it is none.  Overlong forms, surrogates and
// what is cut off are none.
static int glam__character(const char *text, size_t bytes, uint32_t *code)
{
    const unsigned char *p = (const unsigned char *)text;
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    int wrong = p[0] < 0xc2 || p[0] > 0xf4;
    int n = p[0] < 0x80 ? 1 : wrong ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    uint32_t c = n == 1 ? p[0] : n ? p[0] & (0x7fu >> n) : 0;
    *code = 0xfffd;
    if (!n || (size_t)n > bytes) return 1;
    for (int i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) return 1;
        c = c << 6 | (p[i] & 0x3f);
    }
    if (n > 1 && (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))) return 1;
    *code = c;
    return n;
}

// A character as UTF-8.  A zero, which would end a string of JSON, becomes two bytes that no other
// character has.
static char *glam__utf8_put(char *to, uint64_t c)
{
    int more = c && c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const unsigned char first[] = { 0, 0xc0, 0xe0, 0xf0 };
    *to++ = (char)(first[more] | c >> 6 * more);
    for (; more; more--) *to++ = (char)(0x80 | (c >> 6 * (more - 1) & 63));
    return to;
}

// ---- scanners: where the word ends that begins at `at`.  kind_at is GLAM__NOTHING at the end.

typedef struct glam__scan { const glam_tokenizer *t; const char *text; size_t end; } glam__scan;

static int glam__kind_at(const glam__scan *s, size_t at, int *bytes)
{
    uint32_t code;
    *bytes = 0;
    if (at >= s->end) return GLAM__NOTHING;
    *bytes = glam__character(s->text + at, s->end - at, &code);
    return glam__class(s->t, code);
}

static size_t glam__run_end(const glam__scan *s, size_t at, int kinds, int most)
{
    for (int bytes; most-- > 0 && kinds >> glam__kind_at(s, at, &bytes) & 1; ) at += (size_t)bytes;
    return at;
}

// 's 't 're 've 'm 'll 'd; 0 if there is none.
static size_t glam__short_form(const glam__scan *s, size_t at, int any_case)
{
    static const char *const forms[] = { "s", "t", "m", "d", "re", "ve", "ll" };
    if (at >= s->end || s->text[at] != '\'') return 0;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        size_t n = i < 4 ? 1 : 2, same = 0;
        while (same < n && at + 1 + same < s->end &&
               (s->text[at + 1 + same] | (any_case ? 32 : 0)) == forms[i][same]) same++;
        if (same == n) return n + 1;
    }
    return 0;
}

static int glam__is_line(char c) { return c == '\r' || c == '\n'; }

// \s*[\r\n]+ | \s+(?!\S) | \s+ : the last blank before a word is the word's.
static size_t glam__blanks_end(const glam__scan *s, size_t at, int lines, int before_digits)
{
    int bytes;
    size_t end = glam__run_end(s, at, 1 << GLAM__BLANK, INT32_MAX), last = end;
    for (size_t i = end; lines && i > at; i--)
        if (glam__is_line(s->text[i - 1])) return i;
    if (end == s->end) return end;
    if (before_digits && glam__kind_at(s, end, &bytes) == GLAM__NUMBER) return end;
    do last--; while (last > at && (s->text[last] & 0xc0) == 0x80);
    return last > at ? last : end;
}

static size_t glam__word_gpt2(const glam__scan *s, size_t at, int digits)
{
    size_t n = glam__short_form(s, at, 0), from = at + (s->text[at] == ' ');
    int bytes, kind = glam__kind_at(s, from, &bytes);
    if (n) return at + n;
    if (digits && kind == GLAM__NUMBER && from == at) return at + (size_t)bytes;
    if (kind == GLAM__BLANK || kind == GLAM__NOTHING || (digits && kind == GLAM__NUMBER))
        return glam__blanks_end(s, at, 0, digits);
    int kinds = GLAM__LETTERS >> kind & 1 ? GLAM__LETTERS
              : kind == GLAM__NUMBER ? 1 << GLAM__NUMBER : GLAM__SIGNS;
    return glam__run_end(s, from, kinds, INT32_MAX);
}

// Words by case: large letters, then small ones; letters without case and marks are both.  `at` if
// none begins here.
static size_t glam__word_cased(const glam__scan *s, size_t at)
{
    const int both = 1 << GLAM__LETTER | 1 << GLAM__MARK;
    size_t end = at, upper = glam__run_end(s, at, both | 1 << GLAM__UPPER, INT32_MAX);
    size_t lower = glam__run_end(s, upper, both | 1 << GLAM__LOWER, INT32_MAX);
    if (lower > upper) end = lower;
    for (size_t i = at, next; i < upper && lower == upper; i = next) {      // [Lu]*[Ll]+ goes back
        int bytes, kind = glam__kind_at(s, i, &bytes);
        next = i + (size_t)bytes;
        if (both >> kind & 1) end = next;
    }
    if (end == at) end = upper;
    return end;
}

static size_t glam__word_lines(const glam__scan *s, size_t at)
{
    const int split = s->t->v.split, cased = split == GLAM_SPLIT_O200K;
    const int letters = GLAM__LETTERS | (split == GLAM_SPLIT_MARKS ? 1 << GLAM__MARK : 0);
    size_t n = cased ? 0 : glam__short_form(s, at, 1), end = at;
    int bytes, next_bytes, kind = glam__kind_at(s, at, &bytes);
    if (n) return at + n;
    size_t next = at + (size_t)bytes;
    if (!(GLAM__LETTERS >> kind & 1) && kind != GLAM__NUMBER && !glam__is_line(s->text[at])) {
        end = cased ? glam__word_cased(s, next) : glam__run_end(s, next, letters, INT32_MAX);
        if (end == next) end = at;
    }
    if (end == at) end = cased ? glam__word_cased(s, at) : glam__run_end(s, at, letters, INT32_MAX);
    if (end > at) return end + (cased ? glam__short_form(s, end, 1) : 0);
    if (kind == GLAM__NUMBER)
        return glam__run_end(s, at, 1 << GLAM__NUMBER,
                             split == GLAM_SPLIT_LLAMA3 || cased ? 3 : 1);
    size_t from = at + (s->text[at] == ' ');
    if ((GLAM__SIGNS & ~letters) >> glam__kind_at(s, from, &next_bytes) & 1) {
        end = glam__run_end(s, from, GLAM__SIGNS & ~letters, INT32_MAX);
        while (end < s->end && (glam__is_line(s->text[end]) || (cased && s->text[end] == '/')))
            end++;
        return end;
    }
    return glam__blanks_end(s, at, 1, 0);
}

// DeepSeek's models cut by several expressions, each within the words that those before it left:
// lines, \s?letters, \s?signs, (\s+$), Asian scripts, digits.  So a cut is where any of them cuts,
// and that is seen from one character before it and three behind.
static const char glam__deepseek_letters[] =
    "f#<)<_#-9$B$gK$&'gX$=gI&%$&%$#)#$%$#$6$f4$fn+g-$I~#*FImGf7%(}`N%%eOd/$EfHhD%(%I%(%*$#$#$#$"
    "B%X$)$#&%$)&&%('/(%$)h3#'#%,$#&')#$#$#$&$('#%&(''#X$~#(+f_%fI)&&$~&V>Q5>fjf/$9&&p@f1~%7d)/"
    "'pi<)<rPf1fCG'Gz`V0V~#+Pd~)><f%";

static const char glam__punctuation[] =
    "E%$($&-$&$=%$#>#$#G#(#&#-$&#&#m*#+#jM(M$W#$#%#%#P$7$$$0#$%f,&fI#O0gs%Z1C#h3$-#fp#f[#f]#i[#"
    "/#iD#f<#-$g01$#I&f)#f,''$fR(g3#l*+f{#l3#P$f0%f)$g%%$%I-hi$gb$fd)$(g4)@$fa&`'c$e*.#nO:+6$/$"
    ".B$1$l@&A$qB0f1$C,ii8d&D$mi&$$fS#fsR$C%.iy%',%.3#/#fE#f<#~&G:$h;%fF#-#fV(iQ&f8$L%$#U$S#fD/"
    "3$f`&fb$3$h'#~%=Y$gY,9F$0$#'#$$fy%$($&-$&$=%$#>#$#$)ip%ld#T#it#mT#gP#C#h>+J#fS)f$)f;&m~#g/"
    "'P&gF)fP$$&fb&T$f1&'#0#$%f:(fN#iw'-$$#fK#h(9fL%@/f.#ff%h*#h6%g##f>*f5%$'it'N$lL$h4#qv'~#*z"
    "$~$W]$fi#f#'+#nf&hw#~%0U#~#aB'~#4K$";

enum { GLAM__IN_LETTERS = 1, GLAM__IN_SIGNS = 2, GLAM__IN_BLANKS = 4, GLAM__IN_LINES = 8,
       GLAM__IN_EAST = 16, GLAM__IN_DIGITS = 32 };

// What the character at `at` is to those expressions; 0 and no bytes at the end.
static int glam__deepseek_kinds(const glam__scan *s, size_t at, size_t *bytes)
{
    uint32_t c;
    *bytes = 0;
    if (at >= s->end) return 0;
    *bytes = (size_t)glam__character(s->text + at, s->end - at, &c);
    int kind = glam__class(s->t, c), in = glam__run_kind(s->t->set, c);
    int letter = in, sign = in;
    if (s->t->v.split == GLAM_SPLIT_DEEPSEEK_CODER) letter = GLAM__LETTERS >> kind & 1;
    else sign = (c >= '!' && c <= '/') || (c >= ':' && c <= '~') || (c >= 0x3000 && c <= 0x3002) ||
                (c >= 0x2018 && c <= 0x201f) || (c >= 0xff01 && c <= 0xff0f) ||
                (c >= 0xff1a && c <= 0xff5e);
    int east = (c >= 0x800 && c <= 0x9fa5) || (c >= 0xac00 && c <= 0xd7ff);
    return (letter ? GLAM__IN_LETTERS : 0) | (sign ? GLAM__IN_SIGNS : 0) |
           (kind == GLAM__BLANK ? GLAM__IN_BLANKS : 0) | (east ? GLAM__IN_EAST : 0) |
           (kind == GLAM__NUMBER ? GLAM__IN_DIGITS : 0) |
           (c == '\r' || c == '\n' ? GLAM__IN_LINES : 0);
}

// Whether \s?kind+ begins or ends between the first two; then_cut: it cannot go from b to c.
static int glam__cut_run(int kind, const int *k, int then_cut)
{
    if (k[0] & kind) return !(k[1] & kind);
    if (k[1] & kind) return !(k[0] & GLAM__IN_BLANKS);       // the blank is the run's
    return (k[1] & GLAM__IN_BLANKS) && (k[2] & kind) && !then_cut;
}

static int glam__cut_letters(const int *k)
{ return ((k[0] | k[1]) & GLAM__IN_LINES) || glam__cut_run(GLAM__IN_LETTERS, k, 0); }

static int glam__cut_signs(const int *k)
{
    return glam__cut_letters(k) || glam__cut_run(GLAM__IN_SIGNS, k, glam__cut_letters(k + 1));
}

// Moves on by one character; *ahead is where the next to be looked at begins.
static void glam__next_kinds(const glam__scan *s, int *k, size_t *sizes, size_t *ahead)
{
    for (int i = 0; i < 3; i++) { k[i] = k[i + 1]; sizes[i] = sizes[i + 1]; }
    k[3] = glam__deepseek_kinds(s, *ahead, &sizes[3]);
    *ahead += sizes[3];
}

// \s+$: blanks alone are left of the word, from the second character on.
static int glam__cut_end(const glam__scan *s, const int *now, const size_t *now_sizes, size_t ahead)
{
    int k[4];
    size_t sizes[4];
    if (now[0] & GLAM__IN_BLANKS) return 0;
    memcpy(k, now, sizeof k);
    memcpy(sizes, now_sizes, sizeof sizes);
    while (k[1] & GLAM__IN_BLANKS) {
        glam__next_kinds(s, k, sizes, &ahead);
        if (!sizes[1] || glam__cut_signs(k)) return 1;
    }
    return 0;
}

static size_t glam__word_deepseek(const glam__scan *s, size_t at)
{
    int k[4] = { 0 };
    size_t sizes[4] = { 0 }, ahead = at;
    for (int i = 0; i < 4; i++) glam__next_kinds(s, k, sizes, &ahead);
    for (at += sizes[0]; sizes[1]; at += sizes[0]) {
        if (((k[0] ^ k[1]) & GLAM__IN_EAST) || ((k[0] | k[1]) & GLAM__IN_DIGITS) ||
            glam__cut_signs(k) || (s->t->v.split == GLAM_SPLIT_DEEPSEEK &&
                                   glam__cut_end(s, k, sizes, ahead))) return at;
        glam__next_kinds(s, k, sizes, &ahead);
    }
    return at;
}

static size_t glam__word_end(const glam__scan *s, size_t at)
{
    if (s->t->v.split >= GLAM_SPLIT_DEEPSEEK) return glam__word_deepseek(s, at);
    if (s->t->v.split == GLAM_SPLIT_GPT2 || s->t->v.split == GLAM_SPLIT_DIGITS)
        return glam__word_gpt2(s, at, s->t->v.split == GLAM_SPLIT_DIGITS);
    if (s->t->v.split != GLAM_SPLIT_NONE) return glam__word_lines(s, at);
    if (!s->t->blanks_cut) return s->end;
    while (at < s->end && s->text[at] == ' ') at++;
    while (at < s->end && s->text[at] != ' ') at++;
    return at;
}

// ---- merging

static int glam__urge_before(const glam__urge *a, const glam__urge *b)
{
    if (a->key != b->key) return a->key < b->key;
    return a->left != b->left ? a->left < b->left : a->right < b->right;
}

static void glam__heap_push(glam__urge *heap, size_t *count, glam__urge j)
{
    size_t i = (*count)++;
    for (; i && glam__urge_before(&j, &heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = j;
}

static glam__urge glam__heap_pop(glam__urge *heap, size_t *count)
{
    glam__urge top = heap[0], last = heap[--*count];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < *count; i = child) {
        if (child + 1 < *count && glam__urge_before(&heap[child + 1], &heap[child])) child++;
        if (!glam__urge_before(&heap[child], &last)) break;
        heap[i] = heap[child];
    }
    heap[i] = last;
    return top;
}

static uint64_t glam__pair_of(int32_t left, int32_t right)
{ return ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) + 1; }

// Where this pair is, or the free place for it.
static glam__couple *glam__pair_find(glam__couple *pairs, uint64_t mask, uint64_t pair)
{
    uint64_t i = glam__mix64(pair) & mask;
    while (pairs[i].pair && pairs[i].pair != pair) i = (i + 1) & mask;
    return &pairs[i];
}

static uint64_t glam__hash_piece(const char *bytes, size_t count)
{
    uint64_t h = count, word;
    for (; count > 8; bytes += 8, count -= 8) {
        memcpy(&word, bytes, 8);
        h = glam__mix64(h ^ word);
    }
    word = 0;
    if (count) memcpy(&word, bytes, count);
    return glam__mix64(h ^ word);
}

static const char *glam__piece_of(const glam_tokenizer *t, int32_t id, size_t *bytes)
{
    size_t from = id ? t->v.ends[id - 1] : 0;
    *bytes = t->v.ends[id] - from;
    return t->v.bytes + from;
}

static int32_t *glam__piece_slot(const glam_tokenizer *t, const char *bytes, size_t count)
{
    uint64_t i = glam__hash_piece(bytes, count) & t->place_mask;
    for (;; i = (i + 1) & t->place_mask) {
        size_t n;
        if (!t->places[i]) return &t->places[i];
        const char *piece = glam__piece_of(t, t->places[i] - 1, &n);
        if (n == count && !memcmp(piece, bytes, n)) return &t->places[i];
    }
}

static void glam__emit(glam__ids *out, int32_t id)
{
    if (out->count < out->most) out->ids[out->count] = id;
    out->count++;
}

// The pair that begins at symbol a, if it is one.
static void glam__offer(const glam_tokenizer *t, const glam__symbol *s, int32_t a, glam__urge *heap,
                        size_t *count)
{
    if (a < 0 || s[a].next < 0 || s[a].id < 0 || s[s[a].next].id < 0) return;
    int32_t left = s[a].id, right = s[s[a].next].id;
    const glam__couple *p = glam__pair_find(t->pairs, t->pair_mask, glam__pair_of(left, right));
    glam__urge j = { (uint64_t)p->rank << 32 | (uint32_t)a, left, right };
    if (p->pair) glam__heap_push(heap, count, j);
}

static void glam__merge_symbols(const glam_tokenizer *t, glam__symbol *s, int32_t n,
                                glam__urge *heap)
{
    size_t count = 0;
    for (int32_t i = 0; i < n; i++) glam__offer(t, s, i, heap, &count);
    while (count) {
        glam__urge j = glam__heap_pop(heap, &count);
        int32_t a = (int32_t)(uint32_t)j.key, b = s[a].next;
        if (b < 0 || s[a].id != j.left || s[b].id != j.right) continue;   // one of them is gone
        s[a].id = glam__pair_find(t->pairs, t->pair_mask, glam__pair_of(j.left, j.right))->id;
        s[a].next = s[b].next;
        s[b].id = -1;
        if (s[a].next >= 0) s[s[a].next].before = a;
        glam__offer(t, s, s[a].before, heap, &count);
        glam__offer(t, s, a, heap, &count);
    }
}

// Symbols of a word, with a blank before it if lead; returns their number.  s NULL: counts, which
// of bytes is no work.
static int32_t glam__symbols(const glam_tokenizer *t, const char *word, size_t bytes, int lead,
                             glam__symbol *s)
{
    int32_t n = 0;
    if (!s && t->v.split != GLAM_SPLIT_NONE) return (int32_t)bytes + lead;
    for (size_t at = 0, step = 1; lead || at < bytes; n++) {
        const char *p = lead ? " " : word + at;
        uint32_t code;
        step = t->v.split != GLAM_SPLIT_NONE || lead
             ? 1 : (size_t)glam__character(p, bytes - at, &code);
        if (s) {
            glam__symbol made = { -1, n - 1, n + 1, (int32_t)at };
            int blank = step == 3 && !memcmp(p, "\xe2\x96\x81", 3);       // SentencePiece's own
            made.id = step == 1 || blank ? t->single[(unsigned char)(blank ? ' ' : *p)]
                                         : *glam__piece_slot(t, p, step) - 1;
            s[n] = made;
        }
        if (lead) lead = 0;
        else at += step;
    }
    if (s && n) s[n - 1].next = -1;
    return n;
}

// A word that no table has: its symbols merged.  0: no memory.
static int glam__merge_word(const glam_tokenizer *t, const char *word, size_t bytes, int lead,
                            glam__ids *out)
{
    const glam_allocator *a = &t->ctx->options.allocator;
    glam__symbol few[GLAM__WORD], *s = few;
    glam__urge few_joins[3 * GLAM__WORD], *heap = few_joins;
    if (bytes >= INT32_MAX) {
        glam_fail(t->ctx, GLAM_ERR_VALUE, "encode: a word of %.0f bytes; 2 GB are the most",
                  (double)bytes);
        return 0;
    }
    int32_t n = glam__symbols(t, word, bytes, lead, NULL);
    size_t one = sizeof *s + 3 * sizeof *heap, want = (size_t)glam__lesser(
        glam__mul((uint64_t)n, one), SIZE_MAX);
    void *block = n > GLAM__WORD ? a->alloc(a->user, want) : NULL;
    if (n > GLAM__WORD) {
        if (!block) {
            glam_fail(t->ctx, GLAM_ERR_MEMORY, "encode: a word of %d characters needs %.1f MB",
                      (int)n, (double)want / 1e6);
            return 0;
        }
        heap = (glam__urge *)block;
        s = (glam__symbol *)(void *)(heap + 3 * (size_t)n);
    }
    glam__symbols(t, word, bytes, lead, s);
    glam__merge_symbols(t, s, n, heap);
    for (int32_t i = n ? 0 : -1; i >= 0; i = s[i].next) {
        uint32_t code;
        if (s[i].id >= 0) glam__emit(out, s[i].id);
        else
            for (int b = 0, m = glam__character(word + s[i].at, bytes - (size_t)s[i].at, &code);
                 b < m; b++) {
                int32_t id = t->byte_id[(unsigned char)word[(size_t)s[i].at + (size_t)b]];
                if (id >= 0) glam__emit(out, id);
            }
    }
    if (block) a->release(a->user, block, want);
    return 1;
}

static int glam__encode_word(const glam_tokenizer *t, const char *word, size_t bytes, int lead,
                             glam__ids *out)
{
    char led[64];
    const char *key = word;
    size_t n = bytes + (size_t)lead;
    if (lead) {
        if (n > sizeof led) return glam__merge_word(t, word, bytes, lead, out);
        led[0] = ' ';
        memcpy(led + 1, word, bytes);
        key = led;
    }
    int32_t id = *glam__piece_slot(t, key, n) - 1;
    if (id < 0 || (!t->whole[id] && !t->v.whole_words))
        return glam__merge_word(t, word, bytes, lead, out);
    glam__emit(out, id);
    return 1;
}

// The first added piece from *at on, -1 if there is none; *at is where it begins, or the end.
static int32_t glam__next_added(const glam_tokenizer *t, const char *text, size_t bytes,
                                int control, size_t *at)
{
    for (; *at < bytes; ++*at) {
        if (!(t->first[(unsigned char)text[*at]] & (control ? 3 : 1))) continue;
        for (int i = 0; i < t->added_count; i++) {
            size_t n;
            const char *piece = glam__piece_of(t, t->added[i], &n);
            if (t->v.kinds[t->added[i]] == GLAM_PIECE_CONTROL && !control) continue;
            if (n <= bytes - *at && !memcmp(piece, text + *at, n)) return t->added[i];
        }
    }
    return -1;
}

// ---- Unicode's form C: characters are taken apart as far as they go, marks are put in the order
// of their classes, and what can be is put together again.  A character that joins nothing before
// it begins a part; most parts are one character, and stay.

static const char glam__marks[] =
    "mn7X##Y#&S##Y##Q#'S#$O#&S#$O#-S#'%#&S#*X##]##X#%S#%X#$S$%X#&S##X##Y#$S##X##Z#$[##Z#$[##Z#/"
    "XhB'Xh7#S#&X##S#%X##T##S#(X#(S#$X##S#$X##T##W##X##*##+##,##-##.##/##0##1##2#$3##4##5##6$#7"
    "$#8##9$#X##S$#2f**X##>##@##AT#;##<##=##>##@##A##B##C#$X#$S#'X##S#$X##S3#DfH)X%&X##S##X%$X$"
    "#S#$X##SG#EB#X##S#$X##S#$X#%S##X#$S##X##S#%X##S##X##S##X##S##X##S#$Xg()X##S##X,#S;&X$+X$%X"
    "$'XO%Sa#X#%S#&XN'X#'S#0X$#S#$X##S#$X##S#%X#%S##;##<##=#%X##S#$X#$S#'Xa#'3#)&#X##S#$XfJ#'$#"
    "$1#),#$J#Xb#'3#)fQ#'3#)fQ#'$#$1#)+$$fI#$1#),#$fG#'3#)*#F##GfH#'(#$-#)*$$fG$)$#$1#),#$fU#)'"
    "#$2#$f:$H##)0&IfO$J##)0&Kf.$S>#S$#S$#Q[#L##M##$##N##$'&M%#M##$#$X##)$$Xc#SfJ#$+#'$$)f4#Sg]"
    "7$V=$ip%Xon$)B#)g%#)-#XgT#Wfs#T##X##Sge#X##Sf)#)7*X%#ST'X#(S#$X##S$$S#$X#$S#'X##S#&XfH#'##"
    "$1#)J#X##S#)XZ$)_#'.$)f%#'f|%X$#%#'S#$X#&S##X$)%'#S)#X&$XgO$X##S#)X##S#$X##[##P##S##O#HX##"
    "Y#$W##S##R##X##Z##S##X##Sm<$X#$%#&X#%%#$X'#X&$%##X##S##X#$%#&S##X~#,G%Xfq#)fCCXkK#R##W##Y#"
    "#T#$UfL$(~&LK#X',XD$Xf2$XhC#)I#)f{#)>4X^%SI#)fB#'/#)gy#X$$X##S%$X($X$#XX#)h$#)~%7S#:mo)X#)"
    "S#$Xp+#Sgl#Sfy'Xw|#S$#XL#X##%##S'#)g-#X##Sk_&XiX$Xf}$S#%X##S##X#&SU#X##S##X##SgI#)M#)1#)^#"
    ")##'f'%XH#$.$)c#'f.#),#'fM#)##'g:#'##)f2$'$#$1#),#$1)X&'XgV#)&#':#Xf3#$,#$%#$'#)##'gu#$2#)"
    "##'fb#)fY#)##'fV#)h;#)##'h##$/$)'#'g$#)f5#)5#)f3#)i{#)h0#'$$)f3#)~%2<'%`)Xre$&~%0E#%~#FE$Q"
    "#%%&#V#'Q+*S%'X#$SB&Xfx%X~#1B)X$3X%)X$$X$'Xh3)XiL#Xb&Xu~)SfP(X##'";

static const char glam__pairs[] =
    "iUffvC##%##%##%##-##'%'_#'f/##%##%##/#+2##%##%##/%-,#%(##%##%##%##-'/2##%##%##/#+0'3$##%##"
    "%##%##-##'%'_#'f/##%##%##/#+2##%##%##/%-,#%(##%##%##%##-'/2##%##%##/#+0%#1#fR*#e##d'#e##df"
    "&#e##`f/#e##d%#e##d-#e##d-#e##b##e#'b2#e##d'#e##d%#e##df$#e##d[#e##`6#e##d+#e##d%#e##de#e#"
    "#bf+#e#'b%#e##d%#e##d'#e##df&#e##df#)%,#e##bf,#e#%bf-#e##df.#e##dY#e#+`8#e##df.#e##dY#e#)b"
    "2#e##d'#e##d-#e#'^6#e##df.#e##dY#e##b8#e##d%#e##df,#e##dY#e##bZ#e##dY#e#'b4#e##d%#e##d'#e#"
    "#d+#e##d%#e##d_#e##`f-#e##`##e##d/#%0#e##d/#e##d-#e#f$f7B#e#=W##e#]fJA#e##S##e##W##e##W##e"
    "##gW2#e##d(#e##d9#e##d:#e#%fR+#e##lK##%##m-##e#'hm3#e##[##e##[]#e##mdf)#%##fJ3#j0##qT#)f'8"
    "#e#'U$#e##g6%#e##b##e##>##e##iB@#e##d'#e##[&#e##d'#e##[&#e##d'#e##W&#e##d'#e##^&#e##d'#e##"
    "^&#e##d'#e##f%N#e##b##e#'f9W#e#/f/,#e##[e#e##glf'#e##f###e##h{)#e##o6(#%##oe##e#kBsp(fdrk#"
    "#up#%+##'##'#%/#%/##+##f$#VfD1#;##;0#+##'##'##H#VG1#;##.0#/##+#+5###1f8fj2##3%&0)<1+L0#&$#"
    "9/78#ce#P(.##3%&0)f(1+[0#&$#9/RfE5#%#fvgF4#e#=f-##e##d'#e#'Y&#e#'hv'#%##iZ##e##b##e#'b*#e#"
    "#d+#e##W##e#'i(##%##iL##e##f5*#e##d+#e##d)#e##[(#e#'[##e#krorx$##%#f$##f#%#f($hbhE#%K#DF#r"
    "UrWun13#')#f)`#$%#$%#$-#$-#$%#$5#$+#g`h`h2##VCf-Y$%#&=#g/h4h.(/#f'f%#$%#$-#(B#jMkYkU'#S##V"
    "Cf-Y$%#fOgjhffMfKU#%##$Vh$h.h,gxg|h,/1###%%#K#+Jh*h&g[#%##$VhIhUgp%#-#),#(Nm5m>oj67#,-#,-#"
    ",-#<Y&6fEfi&#'$ff;&%#4fg#Gf$fQ67#,-#,-#,-#<Y&gbhYg|~#I.~#I0~#J$%'#%'#%'#%'#)+#f2f4#%'#''##"
    "%#%)#tp~$Ju~$91#e##b`#e##d]#e##d@#e##gSfB#e##hu/#e##d]#e##d@#e##d6#e##d/#e##i0f;#%##$%#%##"
    "iqf:#e##d)#e##o>f5#%##p#%#e##b(#e##b)#e##d]#e##dY#e##dc#e##d1#e##b'#e##gUf@#e##hw##e##df&#"
    "e##d@#e##b>#e##~$Zhb#%##~$[Nf<#e##d*#e##bf9#e##d/#e##d]#e##b[#e##d]#e##d@#e##d*#e##gWf9#e#"
    "#d1#e##g62#%##$%#%##ju##e##d/#e##`##e##d]#e##~$[Ib#%##~$]/f<#e##bf5#e##d]#e##jI[#%##-##%##"
    "~$V<##%##~$];##e##d]#e##d@#e##d*#e##b4#e##d;#e##d(#e##jbf9#%##%1#%##kJ,#e##de#e##bf'#e##d%"
    "#e##d1#e##d$#e##d]#e##b[#e##d%#e##b$#e##b,#e##df$#e##d@#e##G##;f3#)'#'#%k,(+lB]#e##dW#e##g"
    "K2#e##d$#e##d5#e##d.#e##~$ZO$#%##~$Yk$#%##$$#%##$5#%##$.#%##~$Yh)#%##~$^}_#e##dW#e##d.#e##"
    "gS&#e##d$#e##d5#e##d.#e##~$Zp$#%##~$_J1#e##dX#e##W##e##dW#e##gS2#e##d$#e##d5#e##d.#e##~$[("
    "$#%##~$W9$#%##$$#%##$5#%##$.#%##$e#%##l_##e##dW#e##l:2#%##$$#%##$5#%##$.#%##$e#%##luf'#e##"
    "df(#e##dW#e##d.#e#/wYD##%#~$L^K#%##$%#%##$ff#%##~$MDf@##%#~$MSK#%##$%#%##$ff#%##~$Lgf@##%#"
    "~$LvK#%##$%#%#'~$M]H##%#~$MlK#%##$%#%#'~$M'H##%#~$M6K#%##$%#%##$ff#%##~$Myf@##%#~$N,K#%##$"
    "%#%##$ff#%##~$MDf@##%#~$MSK#%##$%#%##$ff#%##~$N9f@##%#~$NIK#%##$%#%##$ff#%##~$MXf@##%#~$Mh"
    "K#%##$%#%#'~$NNH##%#~$N^K#%##$%#%#'~$MmH##%#~$M|K#%##$%#%##$ff#%#%~$Ncf=%~$NtK%#%%#ff#~$N)"
    "f@##%#~$N8K#%##$%#%##$ff#%##~$N{f@##%#~$O.K#%##$%#%##$ff#%##~$N{fg%+#%'#%'#%/#%/#%+#)~$L,f"
    "n#%##%##%##%##%##%##%##%##%##%##%##%##%##%##%##F##%##%##%##%##%##%##%##%##%##%##%##%##%##%"
    "##%##fE##%##%##%##%##%##%##%##%##%##%##%##%##%##%##%##~$O+fa##&#~$O.ff#~$O-##,#%-(#~$Pb)#~"
    "$QFfa##&##*%#fn+uo(#~$aO)#~$O)##4#%5(#~$Pv)#~$Q_fm%'#%#fn#~$QMfm##%##ff#~$PcfZ##&#F*)Efh#F"
    "##fDfZ##&##*'~$Rn###%##ff#~$QofZ##&#/*%6J##%#+f>#/##f-fZ##&##*%*L#v3K+~$a`fn#~$Nq##-#%,(#~"
    "$QW)#~$RPfm%7#%#fnnM~$[G<#'#H'#af[##+##&#fKfE#+-#')#RT#%'#XR#'1#''#%)#P~$sy#%~$tQ#7K##~$t)"
    "##'##~$tU##%#'=##%#')##%#/)##%#'1##%#')##%#f&Z##/##%##'#fCf@##%##L##%#/e##%##%##%#~#7H~#8b"
    "#~#)4~#)2~%YK%'#%'#%'#%'#%'#%'#%'#%'#%'#%'#%'#')#%'#%'#/1###%%)$##%%)$##%%)$##%%)$##%PfL$5"
    "g6#=@#%'#%'#%'#%'#%'#%'#%'#%'#%'#%'#%'#')#%'#%'#/1###%%)$##%%)$##%%)$##%%)$##%PfL$'fv##%##"
    "%##%#)9#~/Q-~%Lc~%K=&V)847$#%$~284$$#%$~28g8$#%$#+$%#$%#$%#$%#$%#$%#&'#$%#$%#$%#$%#&'#&'#$"
    "%#&'#$%#&'#$%#$%#$%#$%#$M($*/$7#$5#~$)I~3XU~3Z,%'#@7#h2hGgd#%#q:q.q2##VmImQm2##6%#=jrjzj`#"
    "%#y,y,y6~.Ds~.Dl~.E6$%#$15$#%$#%$#%$#%g5g<<$%#$%5$%#$$%$%#";

static const char glam__singles[] =
    "nSvC#%$HTg;,sL+h&~#Zav,$%$%$%$_$%$%bfs%fI-fD$%*1*.*f.*f%%4#w1,wA$)$uR%~$dE#%hS~$RV&xJ#g~jy"
    "~%e0#%~)OR~(V(#~%*]#~%8v#pc#~$[g#~$kq#~#*d#~'R$###~'21#~&=d#~&T9#z^#~#;`#~$$[#~#>,#~#0U#md"
    "#lC#~#5M#~%1X#vv#zW#vM#~#iI#~#V8#~#:l#~'PH#~#&K#~$6>#~#2[#~#~M#~$8O#~&ny#~#v.#~$,j#yd#~%1u"
    "#~$b|#~#-~#~%BH#~#9Q#~#.:#~#)|#~$Zx#~&q_#qh#kp#~#r,#~#,h#~#3M#~#%n#~#>(#~#,S#g4#~#5E#~#>|#"
    "}G#sh#~%+5#jb#|j#~#-A#~#bx#~#LY#~#|-#~%tR#~#-8#~$X>#|d#~#[T#~#.f#~#}t#~#EC#~&_a#yI#~#Y2#zj"
    "#l0#~#[^#k0#~$9:#~&~-#~%[G#~%aq#C#~%;[#yz#~#-U#~#u[#~#IZ#~%=i#~#38#~$mx#~&V}#~#Y,#|~#~#z|#"
    "p0#~$ua#~%-p#~%Aq#~#fn#~#pL#~$a4#~#3{#~$6v#~%B]#~#$O#~$`W#~#Vp#~#.W#~$b;#~$~r#~$z;#~#AT#~$"
    "gj#~$d1#~#qE#~%2R#tn#gI#~$1S#~$$A#~#)h#~#9~#~#2&#~&co#lb#~#'n#~#)I#~#18#~#EK#~#>M#~$SO#~#%"
    "8#}&#fQ#~'Ti#~$#$#~#$|#~$~[#~%n]#v|#gj#t*#~#G6#qQ#wj#~#(2#||#sG#~#_~#~#EH#~#K&#w6#~&q3#hG#"
    "q8#~$Pn#~$8b#p.#~%Pu#kz#yA#~#8x#~#jQ#~#<9#~%&=#~#8:#~#&A#o`#rp#~#{d#iC#~#Jz#i,#~#r<#~#%C#g"
    ",#iv#~'@##~%F~#~$8z#~#&n#~&.V#~#tc#rS#~#J>#g*#~#@O#~##E#~#6^#~##[#~#`(#~#Ld#~#a~#~&A_#~%gC"
    "#~'#+#~$'K#gz#~#(M#l~#~#)0#lh#vh#~#$d#~$L[#~'5q#~#kY#~&%h#~'25#~#Tp#~#kz#~$oK#~%g3#o*#~#1,"
    "#~#LC#~$yE#~''3#p*#~#9d#~#BC#l<#l|#}G#~#2p#or#~#Ap#~#@G#H#~#=$#~#'6#~'#'#~$M[#~$Ha#~$Z8#u,"
    "#~#o2#~#k(#~#*f#r:#~&5B#~#-W#~#~d#~#2g#g2#mQ#~#C/#qR#~$IK#~&U}#~&&f#~%ny#fH#~#S*#}&#~$E:#~"
    "$om#~#pG#~#.i#~%<p#~#1e#~#Zz#~#Sq#~%J=#~#XP#~##t%t*$~#[Q%~$%F#~$od#yv#s4#f&#1#f6#~$Zb#~$HV"
    "#vA$~#.>$~#&0%~#(0#i`&~#7O#=#f:#~#$0#~#T=#~#+U#~'6F#l8#gU#mf#Z#gd#rC#g[#gM#oj#gY#zS#7#|t#i"
    "~#f.#gQ#xI#hU#i2#pG#~#&I#hv#k0#rC#iO#pM#~##Q#i.#9#$#3#/#1#fC#%#i8#ff#lE#qn#N#fS#l(#hU#p.#h"
    "G###ov#~#%0#h:#mC#fS#nG#fM#tS#h2#~#06#kY#f[#~&9V#~B7$#~@+_%~&#k#yS#f}#p-#oC#fY#lU#fI#t<#fs"
    "#fl#fv#sA#g:#hQ#D#k<#ib#z.#1#hO#fl#kx#gv#fo#h:#f=#hS#fh#n2#g8#fO#k(#k^#hv#+#fY#|n#ff#m|#nG"
    "#C#g6#jt#lh#~#-b#~#)9#g~#h$#lU#hY#fM#j>#'#i*#F#V#g4#6#n*#p(#k>#iK#j:#hb#l[#id#x(#hj#yI#oI#"
    "fn#D#kt#fU#f;#fO#(#E#f|#g*#mj#qf#l:#kp#j4#|2#gW#gp#h8#f*#;#fC#uK#~#$,#~;U4#.#~#M*#~CYe#~##"
    "j#f$#~E7h#~#G2#~$sj#~B&L#fz~2nS~'rs#,#5#~>6:#~>/s#g$#=#fr#gz#c#g$#S#~$Q_#~A1*#~>Bu#1#D#J#~"
    ">:[#~A*-#~$TK#f.#~>;2#~>:y#=#uL#u^#5#~H0$#~H.X#@#~$W'#~$X>#9#f:#-#~$XJ#~$Z6#'#Z#P#9#%#F#fG"
    "#3#5#V#7#'#####~>Lr#~<]5#~$T9#N#~>Q^#~>QD#/#N#h`#gT#D#e#fW#g0#X#fj#D#f$###N#H#3#B#lp#k@#kC"
    "#ia#f(#~##L#~#1U#ka#f.#V#h1#h~#$#h$#~>mG#~>ko#-#B#L#3#fd#~>sG#fh#~>qk#fA#;#g%#hK#~$|'#@#~%"
    "#C#fO###~>zY#~>w]#N#B#;#~>~&#~>}i#1#x(#wJ#~%&_#~%(&#@#g,#fH#~@.S#~@*N#~@*S#~@)V#(#F#gS#%#~"
    "%,g#~%-C#f8#N#f:#~%.Z#~B^t#~B^=#~%/[#)#)#L#~HK<#~HJ-#~@>l###~=+Z#~$x_###~%0N#~CdS#~%dI#~D9"
    "%#5#~%1N#~%2S#fI#7#f&#h>#~%5e#`#~%6n#~@KM#~@J@#h0#+#'#&#f>#L#f*#>#9#fA#L#+#X#9#fh#g0#f(#h&"
    "#~@Sv#~@T@#fe#gb#Z#gK#~@Ud#~@T@#gB#[#~%C9#~%GS#N#c#f-#~%FL#~%K:#_#~@e>#~@b_#kK#i1#~%L{#~%N"
    "W#~%Ny#f)#~$1>#)#~$*.#gP#~$EW#~&W@#~$zj#+#/#f^#8#~@o`#~C[3#~%US#gs#ip#fI#~@l^#~@lJ#gg#jf#~"
    "%Yw#~%Zz#gK#fr#iQ#~@m(#~@kw#~%b=#~%cr#~@up#~@tc#~%ck#~%dM#f<#Z#%#~@}6#~$Y/#~$[W#~@|D#~A*E#"
    "~A'q#@#gT#i2#f2#fU#fN#f2#B#=#~A%^#~A'J#jr#fb#~%pB#~%rI#*#~A(0#~A,e#mW#~A'W#fC#~A&a#gp#Y#(#"
    "~%wa#~%xf#fI#.#fO#~<=:#~<9s#~A.<#~A,B#~A3^#~A0R#=#Z#~A=*#~A<##N#~AC8#j8#~AC+#F#~&)'#~&)^#~"
    "&)D###~&,|#N#N#L#fn#~&-a#~&/b#~AQ0#~APV#~AR[#~AQP#~=l2#~=hZ#~A`C#R#hG#~E-Z#;#~&4f#~Abl#$#f"
    "0#X#~Ac;#%###f8#~&5T#~&6~#~&6c#g(#~EA*#~Am+#f`#fd#~&:B#~EJz#~Arm#~AuG#f8#~Au)#gA#~&@%#~&Ax"
    "#7#-#~B$:#kx###~B'D#~&A+#~Ed|#~B(B#)#~&E/#~Eht#~B'-#~&HB#~&Hp#,#_#~B7>#~B5+#~&IH#~&K^#fY#f"
    "j#~&M=#~F'*#c#~F&y#~F*4#~B<-#~B>E#~B=i#gS#9#~BEK#fv#~BE%#~BG~#~BG]#~>6W#~C'B#~&WS#g*#~&X-#"
    "~&YK#~%1P#~Dv^#@#~&$q#5#~>/##)#~#X`#~'O)#~&_p#.#H#~%hq#~%i>#'#7#f4#~BYE#~BYF#fS#fp#fx#hB#h"
    "d#f6#gj#k'#gx#'#D#~BYM#l0#hZ#~FY]#~&i*#'#f(#~B~Y#~B|q#~BbY#~Ffo#+#~Fid#kd#~Fou#~&oM#;#9#'#"
    "fd#f##h:#f9#h^#g)#fj#Z#~&sy#~&u|#e#~&uw#~&x&#)#~Bzb#~Bx+#1#~&yP#~&z.#~('T#~HFU#iE#~G=1#5#~"
    "'$:#f~#hj#il#~C+n#~C)u#P#g<#gA#~C3h#~*:5#~:]y#A#fK#~:a|#~:[u#gQ#~CPS#Z#~CIF#gC#e#~CMh#~CMR"
    "#k[#hn#%#g@#mh#]#~CWt#~COV#~'SH#~'TG#~CW(#~HDD#~'XU#~&Aw#~&D(#~Ce[#j$#~H[e#3#~'[b#~Cq2#~Hf"
    "7#~HiC#~Cs@###a#~Cy(#~Cty#~'^5#~'_l#h*#Z#f[#~'a)#~I,Y#~D+_#k~#iO#~'lJ#c#~'n,#~D>C#~IFw#~IH"
    "0#k2#h4#~DAm#~'s@#~'td#-#1#7#1#f,#~DRQ";

enum { GLAM__HANGUL = 0xac00, GLAM__HANGUL_END = 0xd7a4, GLAM__HANGUL_L = 0x1100,
       GLAM__HANGUL_V = 0x1161, GLAM__HANGUL_T = 0x11a7, GLAM__HANGUL_TS = 28, GLAM__HANGUL_VS = 21,
       GLAM__PART = 32, GLAM__RAW = 0x110000 };        // GLAM__RAW + a byte that is no character

// The rows of the tables of forms; written to forms unless that is NULL.
static int glam__form_rows(glam__form *forms)
{
    int n = 0;
    for (int alone = 0; alone < 2; alone++) {
        glam__form f = { 0, 0, 0, 0 };
        for (const char *p = alone ? glam__singles : glam__pairs; *p; n++, f.code++) {
            uint32_t gap = glam__table_number(&p);
            f.again = !alone && !(gap & 1);
            f.code += alone ? gap : gap >> 1;
            f.first += glam__table_change(&p);
            if (alone) f.second = 0;
            else f.second += glam__table_change(&p);
            if (!forms) continue;
            int at = n;
            for (; alone && at && forms[at - 1].code > f.code; at--) forms[at] = forms[at - 1];
            forms[at] = f;
        }
    }
    return n;
}

static const glam__form *glam__form_of(const glam_tokenizer *t, uint32_t c)
{
    int low = 0, high = c < 0xc0 ? 0 : t->form_count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (t->forms[middle].code < c) low = middle + 1;
        else high = middle;
    }
    return c >= 0xc0 && low < t->form_count && t->forms[low].code == c ? &t->forms[low] : NULL;
}

static int glam__mark_kind(const glam_tokenizer *t, uint32_t c)
{ return c < 0x300 ? 0 : glam__run_kind(t->marks, c); }

// Where the part that begins at `at` ends; *loose: it may have to be changed.
static size_t glam__part_end(const glam_tokenizer *t, const char *text, size_t bytes, size_t at,
                             int *loose)
{
    uint32_t c;
    size_t end = at + (size_t)glam__character(text + at, bytes - at, &c);
    const glam__form *f = glam__form_of(t, c);
    *loose = f && !f->again;
    while (end < bytes) {
        int n = glam__character(text + end, bytes - end, &c);
        if (!glam__mark_kind(t, c)) break;
        *loose = 1;
        end += (size_t)n;
    }
    return end;
}

// A character as code | rank << 24, or those it is made of; returns how many: 4 at most.
static int glam__take_apart(const glam_tokenizer *t, uint32_t c, uint32_t *to)
{
    const glam__form *f = glam__form_of(t, c);
    if (f) {
        int n = glam__take_apart(t, f->first, to);
        return f->second ? n + glam__take_apart(t, f->second, to + n) : n;
    }
    if (c >= GLAM__HANGUL && c < GLAM__HANGUL_END) {
        uint32_t v = (c - GLAM__HANGUL) / GLAM__HANGUL_TS;
        uint32_t last = (c - GLAM__HANGUL) % GLAM__HANGUL_TS;
        to[0] = GLAM__HANGUL_L + v / GLAM__HANGUL_VS;
        to[1] = GLAM__HANGUL_V + v % GLAM__HANGUL_VS;
        to[2] = GLAM__HANGUL_T + last;
        return last ? 3 : 2;
    }
    int kind = glam__mark_kind(t, c);
    to[0] = c | (uint32_t)(kind > 1 ? kind : 0) << 24;
    return 1;
}

// Runs of marks by rank, equal ones as they came; most are in order.
static void glam__order_marks(uint32_t *s, size_t n, uint32_t *other)
{
    for (size_t i = 0, end; i < n; i = end) {
        int ordered = 1;
        uint32_t most = 0;
        for (end = i + 1; end < n && s[end - 1] >> 24 && s[end] >> 24; end++)
            if (s[end] >> 24 < s[end - 1] >> 24) ordered = 0;
        for (size_t k = i; k < end && !ordered; k++) most = s[k] >> 24 > most ? s[k] >> 24 : most;
        size_t to = 0;
        for (uint32_t rank = 2; rank <= most; rank++)
            for (size_t k = i; k < end; k++) if (s[k] >> 24 == rank) other[to++] = s[k];
        memcpy(s + i, other, to * sizeof *s);
    }
}

// The character that two make; 0: none.
static uint32_t glam__two_as_one(const glam_tokenizer *t, uint32_t a, uint32_t b)
{
    if (a >= GLAM__HANGUL_L && a < GLAM__HANGUL_L + 19 && b >= GLAM__HANGUL_V &&
        b < GLAM__HANGUL_V + GLAM__HANGUL_VS)
        return GLAM__HANGUL + ((a - GLAM__HANGUL_L) * GLAM__HANGUL_VS + b - GLAM__HANGUL_V) *
                              GLAM__HANGUL_TS;
    if (a >= GLAM__HANGUL && a < GLAM__HANGUL_END && (a - GLAM__HANGUL) % GLAM__HANGUL_TS == 0 &&
        b > GLAM__HANGUL_T && b < GLAM__HANGUL_T + GLAM__HANGUL_TS) return a + b - GLAM__HANGUL_T;
    uint64_t pair = glam__pair_of((int32_t)a, (int32_t)b);
    return (uint32_t)glam__pair_find(t->composites, t->composite_mask, pair)->id;
}

static size_t glam__put_together(const glam_tokenizer *t, uint32_t *s, size_t n)
{
    const uint32_t code = 0xffffff;
    size_t to = 0, first = n;                      // first: the last one of no class, n: none yet
    int64_t before = -1;                           // rank of the last one kept behind it
    for (size_t i = 0; i < n; i++) {
        uint32_t rank = s[i] >> 24;
        uint32_t one = first < n && before < (int64_t)rank
                     ? glam__two_as_one(t, s[first] & code, s[i] & code) : 0;
        if (one) { s[first] = one; continue; }
        before = rank ? (int64_t)rank : -1;
        if (!rank) first = to;
        s[to++] = s[i];
    }
    return to;
}

// One part in form C, put to `to` unless that is NULL; returns its bytes, SIZE_MAX: no memory.
static size_t glam__compose_part(const glam_tokenizer *t, const char *text, size_t bytes, char *to)
{
    const glam_allocator *a = &t->ctx->options.allocator;
    uint32_t few[8 * GLAM__PART], *s = few;
    size_t n = 0, out = 0, want = (size_t)glam__lesser(glam__mul(bytes, 8 * sizeof *s), SIZE_MAX);
    if (bytes > GLAM__PART && (s = (uint32_t *)a->alloc(a->user, want)) == NULL) {
        glam_fail(t->ctx, GLAM_ERR_MEMORY, "encode: a character and marks of %.0f bytes need "
                  "%.1f MB to be composed", (double)bytes, (double)want / 1e6);
        return SIZE_MAX;
    }
    for (size_t at = 0; at < bytes; ) {
        uint32_t c;
        int m = glam__character(text + at, bytes - at, &c);
        if (m == 1 && (unsigned char)text[at] >= 0x80) c = GLAM__RAW + (unsigned char)text[at];
        at += (size_t)m;
        n += (size_t)glam__take_apart(t, c, s + n);
    }
    glam__order_marks(s, n, s + n);
    n = glam__put_together(t, s, n);
    for (size_t i = 0; i < n; i++) {
        char one[4];
        uint32_t c = s[i] & 0xffffff;
        one[0] = (char)(unsigned char)c;
        size_t m = c < 0x80 || c >= GLAM__RAW ? 1 : (size_t)(glam__utf8_put(one, c) - one);
        if (to) memcpy(to + out, one, m);
        out += m;
    }
    if (s != few) a->release(a->user, s, want);
    return out;
}

// The text in form C: itself, or a block of *bytes + 1 that the caller releases; NULL: no memory.
static const char *glam__compose(const glam_tokenizer *t, const char *text, size_t *bytes)
{
    const glam_allocator *a = &t->ctx->options.allocator;
    char *to = NULL;
    size_t n = *bytes, at = 0, out = 0, end;
    int loose = 0;
    while (at < n && (end = glam__part_end(t, text, n, at, &loose), !loose)) at = end;
    if (at == n) return text;
    for (int pass = 0; pass < 2; pass++) {
        for (at = out = 0; at < n; at = end) {
            end = glam__part_end(t, text, n, at, &loose);
            size_t m = end - at;
            if (loose) m = glam__compose_part(t, text + at, m, to ? to + out : NULL);
            else if (to) memcpy(to + out, text + at, m);
            if (m == SIZE_MAX) break;
            out += m;
        }
        if (at < n) break;
        if (!pass && (to = (char *)a->alloc(a->user, out + 1)) == NULL) {
            glam_fail(t->ctx, GLAM_ERR_MEMORY, "encode: a text of %.0f bytes needs %.1f MB to be "
                      "composed", (double)n, (double)out / 1e6);
            return NULL;
        }
        *bytes = out;
    }
    if (at == n) return to;
    if (to) a->release(a->user, to, *bytes + 1);
    return NULL;
}

static int glam__encode_plain(const glam_tokenizer *t, const char *text, size_t bytes, int lead,
                              glam__ids *out)
{
    glam__scan s = { t, text, bytes };
    if (lead && !bytes) return glam__encode_word(t, text, 0, 1, out);
    for (size_t at = 0, end; at < bytes; at = end, lead = 0) {
        end = glam__word_end(&s, at);
        if (!glam__encode_word(t, text + at, end - at, lead, out)) return 0;
    }
    return 1;
}

static size_t glam__encode(const glam_tokenizer *t, const char *text, size_t bytes, int control,
                           int32_t *ids, size_t most)
{
    const glam_allocator *a = &t->ctx->options.allocator;
    glam__ids out = { ids, ids ? most : 0, 0 };
    int lead = t->v.blank_before != 0;
    for (size_t at = 0, stop; at < bytes; at = stop) {
        stop = at;
        int32_t id = glam__next_added(t, text, bytes, control, &stop);
        size_t n = stop - at;
        const char *plain = t->forms ? glam__compose(t, text + at, &n) : text + at;
        int done = plain && glam__encode_plain(t, plain, n, lead, &out);
        if (plain && plain != text + at) a->release(a->user, (void *)(uintptr_t)plain, n + 1);
        if (!done) return 0;
        lead = 0;
        if (id >= 0) {
            glam__piece_of(t, id, &n);
            glam__emit(&out, id);
            stop += n;
        }
    }
    return out.count;
}

// ---- making one

static uint64_t glam__table_mask(uint64_t entries)
{
    uint64_t size = 16;
    while (size < 2 * entries) size *= 2;
    return size - 1;
}

static void *glam__copy(glam_ctx *ctx, const void *from, uint64_t bytes)
{
    void *copy = glam__take(ctx, &ctx->base.life, bytes ? bytes : 1);
    if (copy && bytes) memcpy(copy, from, (size_t)bytes);
    return copy;
}

static glam_status glam__vocabulary_check(glam_ctx *ctx, const glam_vocabulary *v)
{
    const char *wrong = NULL;
    uint32_t last = 0;
    if (!v || !v->bytes || !v->ends || v->size < 1 || v->merges < 0 || (v->merges && !v->merge))
        return glam_fail(ctx, GLAM_ERR_VALUE, "tokenizer: a vocabulary has bytes, ends, a size and "
                         "merges or scores");
    if ((int)v->split < 0 || v->split > GLAM_SPLIT_DEEPSEEK_CODER)
        wrong = "an unknown way of cutting";
    if (v->begin < -1 || v->begin >= v->size || v->end < -1 || v->end >= v->size)
        wrong = "a begin or an end that is no piece";
    for (int i = 0; i < v->size && !wrong; last = v->ends[i++]) {
        if (v->ends[i] < last) wrong = "pieces that overlap";
        if (v->kinds && v->kinds[i] > GLAM_PIECE_UNUSED) wrong = "a piece of no kind";
        if (v->kinds && v->kinds[i] == GLAM_PIECE_BYTE && v->ends[i] != last + 1)
            wrong = "a byte that is not one byte";
        if (!v->merges && v->score && !glam__is_number(v->score[i])) wrong = "a score of no value";
    }
    for (int i = 0; i < 2 * v->merges && !wrong; i++)
        if (v->merge[i] < 0 || v->merge[i] >= v->size) wrong = "a merge of what is no piece";
    return wrong ? glam_fail(ctx, GLAM_ERR_FORMAT, "tokenizer: the vocabulary of %d pieces has %s",
                             v->size, wrong) : GLAM_OK;
}

static int glam__kind_of(const glam_tokenizer *t, int32_t id)
{ return t->v.kinds ? t->v.kinds[id] : (int)GLAM_PIECE_NORMAL; }

static void glam__index_pieces(glam_tokenizer *t)
{
    for (int i = 0; i < 256; i++) t->byte_id[i] = t->single[i] = -1;
    for (int32_t id = 0; id < t->v.size; id++) {
        size_t n;
        const char *piece = glam__piece_of(t, id, &n);
        int kind = glam__kind_of(t, id);
        if (!n || kind == GLAM_PIECE_UNUSED) continue;
        if (kind == GLAM_PIECE_ADDED || kind == GLAM_PIECE_CONTROL) {
            int at = t->added_count++;
            for (size_t m; at && (glam__piece_of(t, t->added[at - 1], &m), m < n); at--)
                t->added[at] = t->added[at - 1];
            t->added[at] = id;
            t->first[(unsigned char)piece[0]] |= kind == GLAM_PIECE_ADDED ? 1 : 2;
        } else if (kind == GLAM_PIECE_BYTE) t->byte_id[(unsigned char)piece[0]] = id;
        else {
            int32_t *slot = glam__piece_slot(t, piece, n);
            if (!*slot) *slot = id + 1;
            if (n == 1) t->single[(unsigned char)piece[0]] = *slot - 1;
            if (n == 1 && t->byte_id[(unsigned char)piece[0]] < 0)
                t->byte_id[(unsigned char)piece[0]] = id;
            for (size_t i = 1; i < n; i++)
                if (piece[i] == ' ' && piece[i - 1] != ' ') t->blanks_cut = 0;
        }
    }
}

static void glam__pair_put(glam_tokenizer *t, int32_t left, int32_t right, uint32_t rank,
                           int32_t id)
{
    glam__couple *p = glam__pair_find(t->pairs, t->pair_mask, glam__pair_of(left, right));
    glam__couple made = { glam__pair_of(left, right), rank, id };
    if (!p->pair) *p = made;
}

// All ways to make a piece of two others, ranked by its score; returns how many there are, puts
// them when there is a table.
static uint64_t glam__pairs_by_score(glam_tokenizer *t)
{
    uint64_t count = 0;
    for (int32_t id = 0; id < t->v.size && t->v.score; id++) {
        size_t n;
        const char *piece = glam__piece_of(t, id, &n);
        float low = -t->v.score[id];
        uint32_t rank;
        memcpy(&rank, &low, sizeof rank);
        rank = rank >> 31 ? ~rank : rank | 0x80000000u;        // the order of floats as integers
        if (glam__kind_of(t, id) != GLAM_PIECE_NORMAL) continue;
        for (size_t cut = 1; cut < n; cut++) {
            if ((piece[cut] & 0xc0) == 0x80) continue;
            int32_t left = *glam__piece_slot(t, piece, cut);
            int32_t right = *glam__piece_slot(t, piece + cut, n - cut);
            if (!left || !right) continue;
            count++;
            if (t->pairs) glam__pair_put(t, left - 1, right - 1, rank, id);
        }
    }
    return count;
}

static glam_status glam__pairs_by_merge(glam_ctx *ctx, glam_tokenizer *t)
{
    glam__place start = glam__arena_mark(&ctx->base.life);
    char *both = (char *)glam__take(ctx, &ctx->base.life, (uint64_t)t->v.ends[t->v.size - 1] + 1);
    for (int i = 0; i < t->v.merges && both; i++) {
        size_t n, m;
        const int32_t *pair = t->v.merge + 2 * i;
        const char *left = glam__piece_of(t, pair[0], &n), *right = glam__piece_of(t, pair[1], &m);
        if (n + m > t->v.ends[t->v.size - 1]) n = m = 0;
        memcpy(both, left, n);
        memcpy(both + n, right, m);
        int32_t id = *glam__piece_slot(t, both, n + m) - 1;
        if (id < 0)
            return glam_fail(ctx, GLAM_ERR_FORMAT, "tokenizer: merge %d of the pieces %d and %d "
                             "makes what is no piece", i, (int)pair[0], (int)pair[1]);
        glam__pair_put(t, pair[0], pair[1], (uint32_t)i, id);
    }
    glam__arena_rewind(ctx, &ctx->base.life, start);
    return ctx->error;
}

static void glam__whole_pieces(glam_tokenizer *t)
{
    for (int32_t id = 0; id < t->v.size; id++) {
        size_t n;
        int32_t first = -1;
        const char *piece = glam__piece_of(t, id, &n);
        glam__ids out = { &first, 1, 0 };
        if (!n || glam__kind_of(t, id) != GLAM_PIECE_NORMAL) continue;
        if (!glam__merge_word(t, piece, n, 0, &out)) return;
        t->whole[id] = out.count == 1 && first == id;
    }
}

static glam__class_runs glam__runs_of(glam_ctx *ctx, const char *table, int with_kind)
{
    int categories = table == glam__categories;
    glam__class_runs runs = { NULL, categories ? glam__category_runs(table, NULL)
                                               : glam__table_runs(table, with_kind, NULL) };
    glam__class_run *at = GLAM__NEW(ctx, life, glam__class_run, runs.count);
    if (at && categories) glam__category_runs(table, at);
    else if (at) glam__table_runs(table, with_kind, at);
    runs.at = at;
    return runs;
}

// What the scanner and composing look up.
static void glam__character_tables(glam_ctx *ctx, glam_tokenizer *t)
{
    t->classes = glam__runs_of(ctx, glam__categories, 0);
    if (t->v.split >= GLAM_SPLIT_DEEPSEEK)
        t->set = glam__runs_of(ctx, t->v.split == GLAM_SPLIT_DEEPSEEK ? glam__deepseek_letters
                                                                      : glam__punctuation, 0);
    if (!t->v.composed) return;
    t->marks = glam__runs_of(ctx, glam__marks, 1);
    t->form_count = glam__form_rows(NULL);
    t->composite_mask = glam__table_mask((uint64_t)t->form_count);
    t->composites = GLAM__NEW(ctx, life, glam__couple, t->composite_mask + 1);
    t->forms = GLAM__NEW(ctx, life, glam__form, t->form_count);
    if (ctx->error) return;
    glam__form_rows(t->forms);
    for (int i = 0; i < t->form_count; i++) {
        const glam__form *f = &t->forms[i];
        uint64_t pair = glam__pair_of((int32_t)f->first, (int32_t)f->second);
        glam__couple made = { pair, 0, (int32_t)f->code };
        if (f->again) *glam__pair_find(t->composites, t->composite_mask, pair) = made;
    }
}

GLAM_API glam_tokenizer *glam_tokenizer_new(glam_ctx *ctx, const glam_vocabulary *v)
{
    if (!ctx || ctx->error || glam__vocabulary_check(ctx, v) != GLAM_OK) return NULL;
    glam_tokenizer *t = GLAM__NEW(ctx, life, glam_tokenizer, 1);
    if (!t) return NULL;
    uint64_t size = (uint64_t)v->size;
    t->ctx = ctx;
    t->v = *v;
    t->blanks_cut = 1;
    t->place_mask = glam__table_mask(size);
    t->v.bytes = (const char *)glam__copy(ctx, v->bytes, v->ends[v->size - 1]);
    t->v.ends = (const uint32_t *)glam__copy(ctx, v->ends, size * 4);
    if (v->kinds) t->v.kinds = (const uint8_t *)glam__copy(ctx, v->kinds, size);
    if (v->score) t->v.score = (const float *)glam__copy(ctx, v->score, size * 4);
    t->v.merge = (const int32_t *)glam__copy(ctx, v->merge, (uint64_t)v->merges * 8);
    t->places = (int32_t *)glam__take(ctx, &ctx->base.life, (t->place_mask + 1) * 4);
    t->whole = (uint8_t *)glam__take(ctx, &ctx->base.life, size);
    t->added = (int32_t *)glam__take(ctx, &ctx->base.life, size * 4);
    t->plane = (uint8_t *)glam__take(ctx, &ctx->base.life, GLAM__PLANE);
    glam__character_tables(ctx, t);
    if (ctx->error) return NULL;
    memset(t->plane, GLAM__NOTHING, GLAM__PLANE);
    for (uint32_t c = 0; c < GLAM__PLANE; c++) t->plane[c] = (uint8_t)glam__class(t, c);
    glam__index_pieces(t);
    for (int i = ' '; i <= '~'; i++)               // of the others public models lack some
        if (t->byte_id[i] < 0) {
            glam_fail(ctx, GLAM_ERR_FORMAT, "tokenizer: byte %d has no piece", i);
            return NULL;
        }
    if (v->blank_before && !*glam__piece_slot(t, " ", 1))
        glam_fail(ctx, GLAM_ERR_FORMAT, "tokenizer: a blank goes before a text, and has no piece");
    t->pair_mask = glam__table_mask(v->merges ? (uint64_t)v->merges : glam__pairs_by_score(t));
    t->pairs = GLAM__NEW(ctx, life, glam__couple, t->pair_mask + 1);
    if (ctx->error) return NULL;
    if (v->merges) glam__pairs_by_merge(ctx, t);
    else glam__pairs_by_score(t);
    if (!ctx->error) glam__whole_pieces(t);
    return ctx->error ? NULL : t;
}

// ---- learning one.  Words are counted once; then each merge visits only the words that have it.

typedef struct glam__word { size_t at; int32_t length, visited; uint64_t count; } glam__word;
typedef struct glam__use { int32_t word, next; } glam__use;      // of a pair: a list of words
typedef struct glam__learner {
    glam_ctx *ctx;
    glam__arena arena;
    glam__word *words;       int32_t word_count;
    int32_t    *symbols;     // of all words, each in its place
    glam__couple *pairs;       // rank: place in counts and lists
    uint64_t    pair_mask, pair_count;
    uint64_t   *counts;
    int32_t    *lists;       // first use; -1: none
    glam__use  *uses;        uint64_t use_count, use_room;
    glam__urge *heap;        size_t heap_count;  uint64_t heap_room;
} glam__learner;

// Twice the room of a list.  The old one stays in the arena: together at most as large as this one.
static void *glam__larger_list(glam__learner *l, const void *old, uint64_t *room, size_t each)
{
    uint64_t now = *room ? 2 * *room : 4096;
    void *list = now > INT32_MAX ? NULL : glam__take(l->ctx, &l->arena, now * each);
    if (!list && !l->ctx->error)
        glam_fail(l->ctx, GLAM_ERR_VALUE, "tokenizer: too long a text to learn from; take a part");
    if (!list) return NULL;
    if (*room) memcpy(list, old, (size_t)*room * each);
    *room = now;
    return list;
}

static int glam__learn_words(glam__learner *l, const glam_tokenizer *bytes_only, const char *text,
                             size_t bytes)
{
    glam__scan s = { bytes_only, text, bytes };
    uint64_t room = 0, mask = 0, letters = 0;
    int32_t *places = NULL;
    for (size_t at = 0, end; at < bytes; at = end) {
        end = glam__word_end(&s, at);
        if (end - at < 2) continue;
        if ((uint64_t)l->word_count == room) {
            l->words = (glam__word *)glam__larger_list(l, l->words, &room, sizeof *l->words);
            mask = glam__table_mask(room);
            places = l->words ? (int32_t *)glam__take(l->ctx, &l->arena, (mask + 1) * 4) : NULL;
            if (!places) return 0;
            for (int32_t w = 0; w < l->word_count; w++) {
                uint64_t i = glam__hash_piece(text + l->words[w].at, (size_t)l->words[w].length);
                while (places[i & mask]) i++;
                places[i & mask] = w + 1;
            }
        }
        uint64_t i = glam__hash_piece(text + at, end - at);
        for (; places[i & mask]; i++) {
            const glam__word *w = &l->words[places[i & mask] - 1];
            if ((size_t)w->length == end - at && !memcmp(text + w->at, text + at, end - at)) break;
        }
        if (!places[i & mask]) {
            glam__word made = { at, (int32_t)glam__lesser(end - at, INT32_MAX), -1, 0 };
            l->words[l->word_count++] = made;
            places[i & mask] = l->word_count;
            letters += end - at;
        }
        l->words[places[i & mask] - 1].count++;
    }
    l->symbols = (int32_t *)glam__take(l->ctx, &l->arena, glam__mul(letters + 1, 4));
    size_t to = 0;
    for (int32_t w = 0; w < l->word_count && l->symbols; w++) {
        size_t from = l->words[w].at;
        l->words[w].at = to;
        for (int32_t i = 0; i < l->words[w].length; i++)
            l->symbols[to++] = (unsigned char)text[from + (size_t)i];
    }
    return l->symbols != NULL;
}

// The place of a pair in counts and lists; -1: no memory.
static int64_t glam__learn_pair(glam__learner *l, int32_t left, int32_t right)
{
    if (2 * l->pair_count >= l->pair_mask) {
        glam__couple *old = l->pairs;
        uint64_t had = l->pair_mask + (old != NULL), counts = had, lists = had, room;
        l->counts = (uint64_t *)glam__larger_list(l, l->counts, &counts, sizeof *l->counts);
        l->lists = l->counts ? (int32_t *)glam__larger_list(l, l->lists, &lists, 4) : NULL;
        room = glam__mul(lists, sizeof *old);
        l->pairs = l->lists ? (glam__couple *)glam__take(l->ctx, &l->arena, room) : NULL;
        if (!l->pairs) return -1;
        l->pair_mask = lists - 1;
        for (uint64_t i = 0; i < had; i++)
            if (old[i].pair) *glam__pair_find(l->pairs, l->pair_mask, old[i].pair) = old[i];
    }
    glam__couple *p = glam__pair_find(l->pairs, l->pair_mask, glam__pair_of(left, right));
    if (!p->pair) {
        p->pair = glam__pair_of(left, right);
        p->rank = (uint32_t)l->pair_count;
        l->lists[l->pair_count++] = -1;
    }
    return p->rank;
}

// A pair of this word has come up: it is counted, and the word is in its list.
static int glam__learn_use(glam__learner *l, int32_t word, int32_t i)
{
    const glam__word *w = &l->words[word];
    const int32_t *s = l->symbols + w->at + i;
    int64_t at = glam__learn_pair(l, s[0], s[1]);
    if (at >= 0 && l->use_count == l->use_room)
        l->uses = (glam__use *)glam__larger_list(l, l->uses, &l->use_room, sizeof *l->uses);
    if (l->ctx->error) return 0;
    l->counts[at] += w->count;
    glam__use *head = l->lists[at] >= 0 ? &l->uses[l->lists[at]] : NULL;
    if (!head || head->word != word) {
        glam__use made = { word, l->lists[at] };
        l->uses[l->use_count] = made;
        l->lists[at] = (int32_t)l->use_count++;
    }
    return 1;
}

static void glam__learn_push(glam__learner *l, int32_t left, int32_t right)
{
    glam__couple *p = glam__pair_find(l->pairs, l->pair_mask, glam__pair_of(left, right));
    glam__urge j = { UINT64_MAX - l->counts[p->rank], left, right };
    if (l->heap_count == l->heap_room)
        l->heap = (glam__urge *)glam__larger_list(l, l->heap, &l->heap_room, sizeof *l->heap);
    if (!l->ctx->error) glam__heap_push(l->heap, &l->heap_count, j);
}

// In one word: left, right -> id.  Its pairs are no longer counted, those it has then are.
static void glam__learn_merge(glam__learner *l, int32_t word, int32_t left, int32_t right,
                              int32_t id)
{
    glam__word *w = &l->words[word];
    int32_t *s = l->symbols + w->at, n = 0, had = w->length;
    for (int32_t i = 0; i + 1 < had; i++)
        l->counts[glam__learn_pair(l, s[i], s[i + 1])] -= w->count;
    for (int32_t i = 0; i < had; n++) {
        int both = i + 1 < had && s[i] == left && s[i + 1] == right;
        s[n] = both ? id : s[i];
        i += 1 + both;
    }
    w->length = n;
    for (int32_t i = 0; i + 1 < n; i++)
        if (!glam__learn_use(l, word, i)) return;
    for (int32_t i = 0; i + 1 < n && !l->ctx->error; i++)
        if (s[i] == id || s[i + 1] == id) glam__learn_push(l, s[i], s[i + 1]);
}

static int32_t glam__learn_all(glam__learner *l, int32_t merges, int32_t *merge)
{
    int32_t done = 0;
    for (int32_t w = 0; w < l->word_count && !l->ctx->error; w++)
        for (int32_t i = 0; i + 1 < l->words[w].length; i++)
            if (!glam__learn_use(l, w, i)) return 0;
    for (uint64_t i = 0; l->pair_count && i <= l->pair_mask && !l->ctx->error; i++)
        if (l->pairs[i].pair)
            glam__learn_push(l, (int32_t)((l->pairs[i].pair - 1) >> 32),
                             (int32_t)(uint32_t)(l->pairs[i].pair - 1));
    while (done < merges && l->heap_count && !l->ctx->error) {
        glam__urge j = glam__heap_pop(l->heap, &l->heap_count);
        uint32_t at = glam__pair_find(l->pairs, l->pair_mask, glam__pair_of(j.left, j.right))->rank;
        if (UINT64_MAX - j.key != l->counts[at]) {       // an older count: it had more then
            if (UINT64_MAX - j.key > l->counts[at] && l->counts[at] > 1)
                glam__learn_push(l, j.left, j.right);
            continue;
        }
        if (l->counts[at] < 2) break;
        for (int32_t u = l->lists[at]; u >= 0 && !l->ctx->error; u = l->uses[u].next) {
            glam__word *w = &l->words[l->uses[u].word];
            if (w->visited == done) continue;
            w->visited = done;
            glam__learn_merge(l, l->uses[u].word, j.left, j.right, 256 + done);
        }
        merge[2 * done] = j.left;
        merge[2 * done++ + 1] = j.right;
    }
    return done;
}

// The bytes of what the merges make, behind the 256 single ones; v->bytes NULL: no memory.
static void glam__learned_pieces(glam__learner *l, uint32_t *ends, glam_vocabulary *v)
{
    char *all = NULL;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 256; i < v->size; i++) {
            uint32_t to = ends[i - 1];
            for (int half = 0; half < 2; half++) {
                int32_t id = v->merge[2 * (i - 256) + half];
                uint32_t from = id ? ends[id - 1] : 0, n = ends[id] - from;
                if (all) memcpy(all + to, all + from, n);
                to += n;
            }
            ends[i] = to;
        }
        if (pass) break;
        all = (char *)glam__take(l->ctx, &l->arena, ends[v->size - 1]);
        if (!all) return;
        memcpy(all, v->bytes, 256);
    }
    v->bytes = all;
}

static glam_tokenizer *glam__learn(glam__learner *l, const char *text, size_t bytes, int size,
                                   glam_split split)
{
    char single[256];
    glam_ctx *ctx = l->ctx;
    int32_t *merge = (int32_t *)glam__take(ctx, &l->arena, (uint64_t)size * 8);
    uint32_t *ends = (uint32_t *)glam__take(ctx, &l->arena, (uint64_t)size * 4);
    if (!merge || !ends) return NULL;
    for (int i = 0; i < 256; i++) {
        single[i] = (char)(unsigned char)i;
        ends[i] = (uint32_t)i + 1;
    }
    glam_vocabulary v = { 256, single, ends, NULL, 0, merge, NULL, split, 0, 0, 0, -1, -1 };
    glam__place start = glam__arena_mark(&ctx->base.life);
    glam_tokenizer *scanner = glam_tokenizer_new(ctx, &v);
    if (scanner && glam__learn_words(l, scanner, text, bytes))
        v.merges = glam__learn_all(l, size - 256, merge);
    if (ctx->error) return NULL;
    glam__arena_rewind(ctx, &ctx->base.life, start);
    v.size += v.merges;
    glam__learned_pieces(l, ends, &v);
    return glam_tokenizer_new(ctx, &v);
}

GLAM_API glam_tokenizer *glam_tokenizer_train(glam_ctx *ctx, const char *text, size_t bytes,
                                              int size, glam_split split)
{
    glam__learner l;
    if (!text || size < 256 || size > 1 << 24 || split <= GLAM_SPLIT_NONE ||
        split > GLAM_SPLIT_DEEPSEEK_CODER)
        glam_fail(ctx, GLAM_ERR_VALUE, "tokenizer: %d pieces from %s; a text, 256 to 16777216 and "
                  "a split by an expression are wanted", size, text ? "a text" : "nothing");
    if (!ctx || ctx->error) return NULL;
    memset(&l, 0, sizeof l);
    l.ctx = ctx;
    glam_tokenizer *t = glam__learn(&l, text, bytes, size, split);
    glam__arena_release(ctx, &l.arena);
    return t;
}

// ---- texts and ids

GLAM_API glam_tokenizer *glam_tokenizer_bytes(glam_ctx *ctx)
{
    if (!ctx || ctx->error) return NULL;
    glam_tokenizer *t = GLAM__NEW(ctx, life, glam_tokenizer, 1);
    if (t) t->v.size = 256;
    return t;
}

GLAM_API int glam_tokenizer_size(const glam_tokenizer *t) { return t ? t->v.size : 256; }

GLAM_API const glam_vocabulary *glam_tokenizer_vocabulary(const glam_tokenizer *t)
{ return t && t->v.bytes ? &t->v : NULL; }

GLAM_API const char *glam_tokenizer_piece(const glam_tokenizer *t, int32_t id, int *bytes)
{
    size_t n = 0;
    const char *piece = NULL;
    if (t && t->v.bytes && id >= 0 && id < t->v.size) piece = glam__piece_of(t, id, &n);
    if (bytes) *bytes = (int)n;
    return piece;
}

GLAM_API size_t glam_encode_control(const glam_tokenizer *t, const char *text, size_t bytes,
                                    int32_t *ids, size_t most)
{
    if (!text) return 0;
    if (t && t->v.bytes) return glam__encode(t, text, bytes, 1, ids, most);
    for (size_t i = 0; i < bytes && i < most && ids; i++) ids[i] = (unsigned char)text[i];
    return bytes;
}

GLAM_API size_t glam_encode(const glam_tokenizer *t, const char *text, size_t bytes, int32_t *ids,
                            size_t most)
{
    if (t && t->v.bytes && text) return glam__encode(t, text, bytes, 0, ids, most);
    return glam_encode_control(t, text, bytes, ids, most);
}

GLAM_API size_t glam_decode(const glam_tokenizer *t, const int32_t *ids, size_t count, char *text,
                            size_t size)
{
    size_t n = 0;
    if (!ids) count = 0;
    for (size_t i = 0; i < count; i++) {
        char byte = ids[i] >= 0 && ids[i] < 256 ? (char)(unsigned char)ids[i] : '?';
        const char *piece = &byte;               // an id that is no byte shows as one
        size_t bytes = 1;
        if (t && t->v.bytes && ids[i] >= 0 && ids[i] < t->v.size) {
            piece = glam__piece_of(t, ids[i], &bytes);
            if (glam__kind_of(t, ids[i]) == GLAM_PIECE_CONTROL) bytes = 0;
        } else if (t && t->v.bytes) byte = '?';
        for (size_t b = 0; b < bytes; b++, n++)
            if (text && n + 1 < size) text[n] = piece[b];
    }
    if (text && size) text[n < size ? n : size - 1] = 0;
    return n;
}

GLAM_API size_t glam_whole_characters(const char *text, size_t bytes)
{
    for (size_t back = 1; text && back <= 3 && back <= bytes; back++) {
        unsigned char c = (unsigned char)text[bytes - back];
        if (c < 0x80) break;
        if (c < 0xc0) continue;
        size_t wants = c < 0xc2 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 1;
        return wants > back ? bytes - back : bytes;
    }
    return text ? bytes : 0;
}

GLAM_API const glam_tokenizer *glam_model_tokenizer(const glam_model *model)
{ return model ? model->tokenizer : NULL; }

GLAM_API glam_status glam_model_set_tokenizer(glam_model *model, const glam_tokenizer *tokenizer)
{
    if (!model) return GLAM_ERR_MEMORY;
    if (glam_tokenizer_size(tokenizer) > model->config.vocab)
        return glam_fail(model->ctx, GLAM_ERR_VALUE, "tokenizer: it has %d pieces, but the model a "
                         "vocabulary of %d", glam_tokenizer_size(tokenizer), model->config.vocab);
    model->tokenizer = tokenizer;
    return model->ctx->error;
}

// ---- in a file: little-endian words, then the arrays.  Length, without scores, with them.

enum { GLAM__PACK_WORDS = 10 };

static uint64_t glam__tokenizer_length(uint64_t size, uint64_t merges, int scores, uint64_t bytes)
{ return 4 * GLAM__PACK_WORDS + (scores ? 9 : 5) * size + 8 * merges + bytes; }

static unsigned char *glam__put_words(unsigned char *to, const void *from, int count)
{
    for (const char *p = (const char *)from; count-- > 0; p += 4) {
        uint32_t word;
        memcpy(&word, p, 4);
        for (int i = 0; i < 4; i++) *to++ = (unsigned char)(word >> 8 * i);
    }
    return to;
}

static const unsigned char *glam__get_words(const unsigned char *from, void *to, uint64_t count)
{
    for (char *p = (char *)to; count-- > 0; p += 4, from += 4) {
        uint32_t word = from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 |
                        (uint32_t)from[3] << 24;
        memcpy(p, &word, 4);
    }
    return from;
}

// Writes it to `to` unless that is NULL; returns its bytes.
static uint64_t glam__tokenizer_pack(const glam_tokenizer *t, unsigned char *to)
{
    const glam_vocabulary *v = &t->v;
    const uint32_t bytes = v->ends[v->size - 1];
    const int32_t words[GLAM__PACK_WORDS] = { 1, v->size, v->merges, v->score != NULL,
        (int)v->split, v->whole_words, v->blank_before, v->composed, v->begin, v->end };
    if (to) {
        to = glam__put_words(to, words, GLAM__PACK_WORDS);
        to = glam__put_words(to, v->ends, v->size);
        to = glam__put_words(to, v->merge, 2 * v->merges);
        if (v->score) to = glam__put_words(to, v->score, v->size);
        for (int i = 0; i < v->size; i++) *to++ = (uint8_t)glam__kind_of(t, i);
        memcpy(to, v->bytes, bytes);
    }
    return glam__tokenizer_length((uint64_t)v->size, (uint64_t)v->merges, v->score != NULL, bytes);
}

// NULL without an error: it is damaged.  Scratch memory comes from `own`.
static glam_tokenizer *glam__tokenizer_unpack(glam_ctx *ctx, glam__arena *own,
                                              const unsigned char *from, uint64_t bytes)
{
    int32_t w[GLAM__PACK_WORDS];
    if (bytes < sizeof w) return NULL;
    from = glam__get_words(from, w, GLAM__PACK_WORDS);
    if (w[0] != 1 || w[1] < 1 || w[2] < 0 || w[3] < 0 || w[3] > 1 ||
        glam__tokenizer_length((uint64_t)w[1], (uint64_t)w[2], w[3], 0) > bytes) return NULL;
    uint64_t size = (uint64_t)w[1], merges = (uint64_t)w[2];
    uint32_t *ends = (uint32_t *)glam__take(ctx, own, 4 * size);
    int32_t *merge = (int32_t *)glam__take(ctx, own, 8 * merges + 1);
    float *score = w[3] ? (float *)glam__take(ctx, own, 4 * size) : NULL;
    if (!ends || !merge || (w[3] && !score)) return NULL;
    from = glam__get_words(from, ends, size);
    from = glam__get_words(from, merge, 2 * merges);
    if (score) from = glam__get_words(from, score, size);
    if (glam__tokenizer_length(size, merges, w[3], ends[size - 1]) != bytes) return NULL;
    glam_vocabulary v = { w[1], (const char *)from + size, ends, from, w[2], merge, score,
                          (glam_split)w[4], w[5], w[6], w[7], w[8], w[9] };
    return glam_tokenizer_new(ctx, &v);
}

/* == 17 generate : implementation =========================================================
   A session is the model run with a cache: each attention op appends its keys and values as
   panels and looks back over all of them, with the arithmetic of the full forward.  So the logits
   after token n are the bits of row n of glam_forward. */

struct glam_session {
    glam_model  *model;
    glam__cache *caches;           // [layers]
    float       *logits;           // [V]
    int          most;
};

GLAM_API glam_sampling glam_sampling_default(void)
{
    glam_sampling s;
    s.temperature = 0.8f;
    s.top_k = 0;  s.top_p = 1;  s.min_p = 0.02f;
    s.repetition_penalty = 1;  s.repetition_window = 64;
    s.seed = 1;
    return s;
}

// Projected sinusoids of all distances a session can see; they do not change while it talks.
static void glam__cache_sinusoids(glam_ctx *ctx, const glam__layer *layer, const glam_config *c,
                                  glam__cache *cache)
{
    glam_tensor *w = layer->attention.r;
    int stored = glam__kept(w) != w;
    int A = w->shape.dim[1], heads = A / c->d_head;
    if (glam__reserve_scratch(ctx, glam__product_bytes(ctx, c->d_model) +
                                   glam__floats((uint64_t)cache->most * A) +
                                   (stored ? glam__floats(glam_size(w)) : 0)) != GLAM_OK ||
        ctx->base.measuring) return;
    if (stored) glam__agree(ctx, "weights", 0);
    if (stored && !ctx->error) glam__shard_gather(ctx, w);
    if (ctx->error) return;
    float *r = glam__scratch_floats(ctx, (size_t)cache->most * A);
    glam__project_sinusoid(ctx, w, cache->most, r);
    for (int h = 0; h < heads; h++)
        glam__pack_columns(ctx->simd.products, cache->most, c->d_head, r + (size_t)h * c->d_head,
                           (size_t)A, cache->r + (size_t)h *
                           glam__panel_floats(ctx, cache->most, c->d_head));
    if (stored) w->data = NULL;
    ctx->scratch.used = 0;
}

// Heads of keys and values that a cache of this rank holds.
static int glam__cache_heads(const glam_ctx *ctx, const glam_config *c)
{ return ctx->mesh ? c->kv_heads / ctx->mesh->Y : c->kv_heads; }

GLAM_API glam_session *glam_session_new(glam_model *model, int most)
{
    if (!model) return NULL;
    glam_ctx *ctx = model->ctx;
    const glam_config *c = &model->config;
    if (most < 1) glam_fail(ctx, GLAM_ERR_VALUE, "session: room for %d tokens; at least 1", most);
    if (!glam__writes(c))
        glam_fail(ctx, GLAM_ERR_STATE, "session: this model's experts choose tokens "
                  "(expert_choice) and look at later ones, which do not exist yet; to write text "
                  "train one with another router");
    if (ctx->error) return NULL;
    uint64_t panels = glam__panel_floats(ctx, most, c->d_head);
    uint64_t heads = (uint64_t)glam__cache_heads(ctx, c), keys = heads * panels;
    uint64_t values = heads * glam__panel_floats(ctx, c->d_head, most);
    size_t mark = glam_mark(ctx);
    glam_session *s = GLAM__NEW(ctx, life, glam_session, 1);
    glam__cache *caches = GLAM__NEW(ctx, life, glam__cache, c->layers);
    if (!s || !caches) return (glam_session *)glam__made(ctx, mark, NULL);
    s->model = model;  s->most = most;  s->caches = caches;
    s->logits = glam__take_values(ctx, &ctx->base.life, (uint64_t)c->vocab);
    int xl = c->position == GLAM_POSITION_TRANSFORMER_XL;
    for (glam__cache *cache = caches; cache < caches + c->layers && !ctx->error; cache++) {
        cache->most = most;
        cache->k = glam__take_values(ctx, &ctx->base.life, keys);
        cache->v = glam__take_values(ctx, &ctx->base.life, values);
        if (xl)
            cache->r = glam__take_values(ctx, &ctx->base.life,
                                         heads * (uint64_t)(c->heads / c->kv_heads) * panels);
        if (ctx->error || ctx->base.measuring) continue;
        memset(cache->k, 0, (size_t)keys * sizeof(float));
        memset(cache->v, 0, (size_t)values * sizeof(float));
        if (xl) glam__cache_sinusoids(ctx, &model->layers[cache - caches], c, cache);
    }
    ctx->products.epoch++;                 // weights may have changed since panels were made
    return (glam_session *)glam__made(ctx, mark, s);
}

GLAM_API void glam_session_reset(glam_session *session)
{
    if (!session) return;
    for (int i = 0; i < session->model->config.layers; i++) session->caches[i].length = 0;
    if (session->model->borrowed)                  // its owner may have trained
        session->model->ctx->products.epoch++;
}

GLAM_API int glam_session_length(const glam_session *session)
{ return session ? session->caches[0].length : 0; }

// A place in the step arena to come back to; an empty arena comes back as one chunk.
static void glam__step_back(glam_ctx *ctx, glam__place place)
{
    if (place.used) glam__arena_rewind(ctx, &ctx->base.step, place);
    else glam__arena_reset(ctx, &ctx->base.step);
}

static glam_tensor *glam__session_run(glam_session *s, const int32_t *tokens, int count)
{
    glam_model *model = s->model;
    glam__run run;
    glam_batch batch = { 1, count, tokens, NULL, NULL, NULL };
    if (glam__run_begin(&run, model, &batch, GLAM_INFER) != GLAM_OK) return NULL;
    int before = s->caches[0].length;
    run.caches = s->caches;
    run.quiet = 1;
    run.pass.kind = GLAM_PASS_GENERATE;
    run.pass.position = before;
    glam_tensor *x = glam__run_layers(&run, &batch);
    for (int i = 0; i < model->config.layers && !x; i++) s->caches[i].length = before;
    if (!x) return NULL;                   // cancelled or failed half way: as before the call
    x = glam_view(model->ctx, x, glam_dim2(count, model->config.d_model));
    return glam__logits(model, glam_slice(model->ctx, x, count - 1, 1));
}

GLAM_API const float *glam_next(glam_session *session, const int32_t *tokens, int count)
{
    if (!session) return NULL;
    glam_ctx *ctx = session->model->ctx;
    int length = glam_session_length(session);
    if (count < 1 || (!tokens && !ctx->base.measuring))
        glam_fail(ctx, GLAM_ERR_VALUE, "next: %d tokens; at least one is needed", count);
    else if (count > session->most - length)
        glam_fail(ctx, GLAM_ERR_STATE, "next: the session has room for %d tokens and holds %d; %d "
                  "more do not fit: make a larger one with glam_session_new", session->most, length,
                  count);
    if (ctx->error) return NULL;
    int before = glam_no_grad(ctx, 1);
    glam__place place = glam__arena_mark(&ctx->base.step);
    glam_tensor *y = glam__session_run(session, tokens, count);
    size_t V = (size_t)session->model->config.vocab;
    if (y && y->data && !ctx->simd.kernels->finite(V, y->data)) {
        glam_fail(ctx, GLAM_ERR_NUMERIC, "next: the logits after token %d of the session are not "
                  "finite: the model is spoilt; load it again, or an earlier checkpoint",
                  length + count);
        for (int i = 0; i < session->model->config.layers; i++) session->caches[i].length = length;
    } else if (y && y->data) {
        memcpy(session->logits, y->data, V * sizeof(float));
    }
    glam__step_back(ctx, place);
    glam_no_grad(ctx, before);
    return glam__farewell(ctx) == GLAM_OK && y ? session->logits : NULL;
}

// weight: its chance, before dividing.
typedef struct glam__candidate { float logit; int32_t id; double weight; } glam__candidate;

static int glam__by_logit(const void *a, const void *b)
{
    const glam__candidate *x = (const glam__candidate *)a, *y = (const glam__candidate *)b;
    if (x->logit != y->logit) return x->logit < y->logit ? 1 : -1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static glam_status glam__sampling_check(glam_ctx *ctx, const glam_sampling *s)
{
    if (!glam__within((double)s->temperature, 0, FLT_MAX) || s->top_k < 0 ||
        !glam__within((double)s->top_p, 1e-30, FLT_MAX) ||
        !glam__within((double)s->min_p, 0, 1) || s->repetition_window < 0 ||
        !glam__within((double)s->repetition_penalty, 1e-30, 1e30))
        return glam_fail(ctx, GLAM_ERR_VALUE, "sampling: temperature %g, top_k %d, top_p %g, min_p "
                         "%g, repetition_penalty %g: start from glam_sampling_default()",
                         (double)s->temperature, s->top_k, (double)s->top_p, (double)s->min_p,
                         (double)s->repetition_penalty);
    return GLAM_OK;
}

// Recent tokens become less likely: their logits are divided, or multiplied where negative.
static void glam__penalise(glam__candidate *c, int vocab, const glam_sampling *s,
                           const int32_t *history, int count, const float *logits)
{
    int from = count > s->repetition_window ? count - s->repetition_window : 0;
    if (s->repetition_penalty == 1 || !history) return;
    for (int i = from; i < count; i++) {
        int32_t id = history[i];
        if (id < 0 || id >= vocab) continue;
        c[id].logit = logits[id] > 0 ? logits[id] / s->repetition_penalty
                                     : logits[id] * s->repetition_penalty;
    }
}

// Keeps what top_k, top_p and min_p leave, likeliest first; returns how many, and the sum of their
// weights.
static int glam__filter(glam__candidate *c, int count, const glam_sampling *s, double *kept)
{
    double sum = 0;
    qsort(c, (size_t)count, sizeof *c, glam__by_logit);
    if (s->top_k > 0 && s->top_k < count) count = s->top_k;
    for (int i = 0; i < count; i++)
        sum += c[i].weight = exp((double)(c[i].logit - c[0].logit) / (double)s->temperature);
    *kept = 0;
    for (int i = 0; i < count; *kept += c[i++].weight)
        if (i > 0 && (c[i].weight < (double)s->min_p || *kept >= (double)s->top_p * sum)) return i;
    return count;
}

GLAM_API int32_t glam_pick(glam_ctx *ctx, const float *logits, int vocab,
                           const glam_sampling *sampling, const int32_t *history, int count,
                           uint64_t index)
{
    glam_sampling s = sampling ? *sampling : glam_sampling_default();
    if (!logits || vocab < 1)
        glam_fail(ctx, GLAM_ERR_VALUE, "pick: no logits, or a vocabulary of %d", vocab);
    if (!ctx || ctx->error || glam__sampling_check(ctx, &s) != GLAM_OK) return -1;
    glam__place place = glam__arena_mark(&ctx->base.step);
    glam__candidate *c = GLAM__NEW(ctx, step, glam__candidate, vocab);
    if (!c) return -1;
    int best = 0;
    for (int i = 0; i < vocab; i++) { c[i].logit = logits[i];  c[i].id = i; }
    glam__penalise(c, vocab, &s, history, count, logits);
    for (int i = 1; i < vocab; i++) if (c[i].logit > c[best].logit) best = i;
    // minus infinity bars a token, if not all of them; anything else that is no number is a fault
    int bad = glam__is_number((double)c[best].logit) ? -1 : best;
    for (int i = 0; i < vocab; i++) {
        uint32_t bits;
        memcpy(&bits, &logits[i], sizeof bits);
        if ((bits & 0x7f800000u) == 0x7f800000u && bits != 0xff800000u) bad = i;
    }
    if (bad >= 0) {
        glam_fail(ctx, GLAM_ERR_NUMERIC, "pick: the logit of token %d is %g: there is nothing to "
                  "choose; the model is spoilt", bad, (double)logits[bad]);
        best = -1;
    } else if (s.temperature > 0) {
        double sum;
        int kept = glam__filter(c, vocab, &s, &sum);
        double at = glam__random_double(s.seed, 0x7069636b, index) * sum;
        for (best = 0; best + 1 < kept && (at -= c[best].weight) >= 0; best++) {}
        best = c[best].id;
    }
    glam__step_back(ctx, place);
    return best;
}

GLAM_API int glam_generate(glam_session *session, const int32_t *prompt, int count, int32_t *out,
                           int most, const glam_sampling *sampling)
{
    int made = 0;
    if (!session) return 0;
    glam_ctx *ctx = session->model->ctx;
    if (!out) glam_fail(ctx, GLAM_ERR_VALUE, "generate: nowhere to write to (NULL)");
    const float *logits = glam_next(session, prompt, count);
    while (logits && made < most) {
        // the penalty looks at what was written here; draws are numbered by position
        out[made] = glam_pick(ctx, logits, session->model->config.vocab, sampling, out, made,
                              (uint64_t)glam_session_length(session));
        if (out[made] < 0 || ++made == most || glam_session_length(session) == session->most)
            break;
        logits = glam_next(session, &out[made - 1], 1);
    }
    return made;
}

GLAM_API int glam_complete(glam_model *model, const char *prompt, char *out, int size,
                           const glam_sampling *sampling)
{
    if (out && size > 0) out[0] = 0;
    if (!model || !out || size < 2) return 0;
    glam_ctx *ctx = model->ctx;
    const glam_tokenizer *t = model->tokenizer;
    const glam_vocabulary *v = glam_tokenizer_vocabulary(t);
    size_t length = prompt ? strlen(prompt) : 0;
    if (model->config.vocab < glam_tokenizer_size(t) || length > (size_t)INT32_MAX / 4)
        glam_fail(ctx, GLAM_ERR_VALUE, "complete: texts are bytes and need a vocabulary of 256; "
                  "the model has %d (glam_generate takes ids)", model->config.vocab);
    if (ctx->error) return 0;
    int begins = v && v->begin >= 0, made = 0, wrote = 0;
    size = glam__min(size, INT32_MAX / 2);                        // with the prompt still an int
    if (!length && !begins) { prompt = "\n"; length = 1; }        // something to continue
    size_t mark = glam_mark(ctx), room = length + 2;              // blank_before, and a beginning
    int32_t *ids = (int32_t *)glam__take(ctx, &ctx->base.life, (room + (size_t)size) * sizeof *ids);
    if (ids) {
        if (begins) ids[0] = v->begin;
        room = (size_t)begins + glam_encode(t, prompt, length, ids + begins, room - (size_t)begins);
    }
    glam_session *s = ids ? glam_session_new(model, (int)room + size) : NULL;
    if (s) made = glam_generate(s, ids, (int)room, ids + room, size - 1, sampling);
    for (int i = 0; i < made && v && v->end >= 0; i++)
        if (ids[room + (size_t)i] == v->end) made = i;
    if (made) wrote = (int)glam_decode(t, ids + room, (size_t)made, out, (size_t)size);
    if (v && wrote >= size) wrote = (int)glam_whole_characters(out, (size_t)size - 1);
    out[wrote] = 0;
    glam_rewind(ctx, mark);
    return wrote;
}

// ---- beam search

GLAM_API glam_beam glam_beam_default(void)
{
    glam_beam b = { 4, 0.6, NULL, NULL };
    return b;
}

// A text that may go on, and a step that one of them may take.
typedef struct glam__ray { glam_session *session; int32_t *tokens; double loglik; } glam__ray;
typedef struct glam__step { int ray; int32_t token; double loglik; } glam__step;

// What `from` read behind token `first`; before it both hold the same.
static void glam__session_copy(glam_session *to, const glam_session *from, int first)
{
    const glam_config *c = &from->model->config;
    const glam_ctx *ctx = from->model->ctx;
    int heads = glam__cache_heads(ctx, c), nr = ctx->simd.kernels->nr;
    const glam__kernels *t = ctx->simd.products;
    size_t panels = (size_t)glam__panels_of(ctx, from->most);
    size_t block = (size_t)glam__steps(t, c->d_head) * nr;
    size_t wide = (size_t)glam__panels_of(ctx, c->d_head);
    size_t most = (size_t)glam__steps(t, from->most);
    for (int i = 0; i < c->layers; i++) {
        const glam__cache *a = &from->caches[i];
        glam__cache *b = &to->caches[i];
        size_t begin = (size_t)(first / nr), end = (size_t)glam__panels_of(ctx, a->length);
        b->length = a->length;
        for (size_t h = 0; h < (size_t)heads; h++)
            memcpy(b->k + (h * panels + begin) * block, a->k + (h * panels + begin) * block,
                   (end - begin) * block * sizeof *b->k);
        for (size_t h = 0; h < (size_t)heads * wide; h++) {
            int skip = first / t->pair;
            size_t at = (h * most + (size_t)skip) * (size_t)nr;
            memcpy(b->v + at, a->v + at, (size_t)(glam__steps(t, a->length) - skip) * (size_t)nr *
                                         sizeof *b->v);
        }
    }
}

// The likeliest next steps of all texts, best first, at most `most`; of equals the earlier text's
// and lower token.  Returns how many there are.
static int glam__beam_steps(const glam__ray *rays, int count, int most, glam__step *steps)
{
    const glam_model *model = rays[0].session->model;
    int found = 0, V = model->config.vocab;
    for (int r = 0; r < count; r++) {
        const float *logits = rays[r].session->logits;
        double lse = (double)model->ctx->simd.kernels->logsumexp(V, logits);
        for (int v = 0; v < V; v++) {
            glam__step s = { r, v, rays[r].loglik + ((double)logits[v] - lse) };
            if (found == most && s.loglik <= steps[most - 1].loglik) continue;
            int at = found < most ? found++ : most - 1;
            for (; at > 0 && steps[at - 1].loglik < s.loglik; at--) steps[at] = steps[at - 1];
            steps[at] = s;
        }
    }
    return found;
}

// rays[0] has read the prompt; next: as many more.  Returns the tokens of the best text.
static int glam__beam_run(const glam_beam *b, glam__ray *rays, glam__ray *next, glam__step *steps,
                          int prompt, int32_t *out, int most, double *loglik)
{
    int best = 0, live = 1;
    double worth = -DBL_MAX, longest = pow((5 + most) / 6.0, b->length_power);
    for (int n = 1; ; n++) {
        double power = pow((5 + n) / 6.0, b->length_power);
        int found = glam__beam_steps(rays, live, 2 * b->width, steps);
        live = 0;
        for (int i = 0; i < found && live < b->width; i++) {
            glam__ray *old = &rays[steps[i].ray], *ray = &next[live];
            memcpy(ray->tokens, old->tokens, (size_t)(n - 1) * sizeof *out);
            ray->tokens[n - 1] = steps[i].token;
            ray->loglik = steps[i].loglik;
            int ends = n == most || (b->ends && b->ends(b->ends_user, ray->tokens, n));
            if (ends && ray->loglik / power > worth) {
                worth = ray->loglik / power;
                *loglik = ray->loglik;
                memcpy(out, ray->tokens, (size_t)(best = n) * sizeof *out);
            }
            if (ends) continue;
            glam__session_copy(ray->session, old->session, prompt);
            live++;
        }
        // a longer text is no likelier, and its loglik is divided by no more than the longest's
        if (!live || next[0].loglik / longest <= worth) return best;
        for (int i = 0; i < live; i++)
            if (!glam_next(next[i].session, &next[i].tokens[n - 1], 1)) return 0;
        glam__ray *swap = rays;
        rays = next;
        next = swap;
    }
}

GLAM_API int glam_beam_search(glam_model *model, const int32_t *prompt, int count, int32_t *out,
                              int most, const glam_beam *beam, double *loglik)
{
    glam_beam b = beam ? *beam : glam_beam_default();
    double own;
    int made = 0;
    if (!loglik) loglik = &own;
    *loglik = 0;
    if (!model) return 0;
    glam_ctx *ctx = model->ctx;
    if (b.width < 1 || b.width > 1 << 20 || !glam__within(b.length_power, 0, 100))
        glam_fail(ctx, GLAM_ERR_VALUE, "beam: width %d, length_power %g: start from "
                  "glam_beam_default()", b.width, b.length_power);
    if (!prompt || count < 1 || !out || most < 1 || count > INT32_MAX - most)
        glam_fail(ctx, GLAM_ERR_VALUE, "beam: %d tokens behind a prompt of %d, or NULL; at least "
                  "one of each", most, count);
    if (ctx->error) return 0;
    size_t mark = glam_mark(ctx), W = (size_t)b.width;
    glam__ray *rays = GLAM__NEW(ctx, life, glam__ray, 2 * W);
    glam__step *steps = GLAM__NEW(ctx, life, glam__step, 2 * W);
    int32_t *tokens = (int32_t *)glam__take(ctx, &ctx->base.life,
                                            glam__mul(2 * W, (uint64_t)most * sizeof *tokens));
    for (size_t r = 0; r < 2 * W && !ctx->error; r++) {
        rays[r].tokens = tokens + r * (size_t)most;
        rays[r].loglik = 0;
        rays[r].session = glam_session_new(model, count + most);
    }
    if (!ctx->error && glam_next(rays[0].session, prompt, count)) {
        for (size_t r = 1; r < 2 * W; r++) glam__session_copy(rays[r].session, rays[0].session, 0);
        made = glam__beam_run(&b, rays, rays + W, steps, count, out, most, loglik);
    }
    glam_rewind(ctx, mark);
    return made;
}

/* == 18 data : implementation =============================================================
   A text is a list of pieces of tokens, one byte each where they are bytes, in memory or still in
   their file.  Where a row of a batch starts is a function of (seed, step, row) alone, so resuming
   needs no cursor.  Documents are ends kept beside a piece.  So are examples, whose windows are
   packed once; an epoch is a permutation of them that is computed, not kept.  Last stands what is
   done with documents before they are a text: their words, and the filter that learns to tell good
   ones. */

// Windows of examples: numbers of documents in `order`, those of window w from first[w] on.
typedef struct glam__packed {
    int     length;                // of a window
    size_t  windows;
    size_t *first, *order;         // [windows + 1], [examples]
} glam__packed;

typedef struct glam__piece {
    const void *tokens;            // bytes or int32_t; of glam_text_file: its glam__far
    size_t start, count;           // tokens [start, start + count)
    int    wide;                   // 1: int32_t, 2: the bytes of a file, 3: int32_t, and ~id where
                                   // it is not to be learnt
    int    source;                 // which of glam_mix's texts it is of
    double weight;                 // chance of a window to come from here, before dividing
    const size_t *ends;            // of documents: the tokens behind them, in order; NULL: no such
    size_t documents;              // ends that there are
    const glam__packed *packed;    // of examples; NULL: a window may be anywhere
} glam__piece;

typedef struct glam__far { glam_ctx *ctx; const char *path; int file; } glam__far;

struct glam_text {
    glam_ctx    *ctx;
    glam__piece *pieces;
    int          count;
    int32_t      largest;          // token, to compare with a vocabulary
    uint64_t    *sum;              // checksum; [1]: whether it is known
};

static glam_text *glam__text_new(glam_ctx *ctx, int pieces)
{
    glam_text *t = GLAM__NEW(ctx, life, glam_text, 1);
    glam__piece *p = GLAM__NEW(ctx, life, glam__piece, pieces);
    uint64_t *sum = GLAM__NEW(ctx, life, uint64_t, 2);
    if (!t || !p || !sum) return NULL;
    t->ctx = ctx;  t->pieces = p;  t->count = pieces;  t->sum = sum;
    return t;
}

static void glam__far_read(const glam__far *away, size_t at, size_t count, unsigned char *out);

// Copies tokens [from, from + count) of a piece as it has them.
static void glam__piece_raw(const glam__piece *p, size_t from, size_t count, int32_t *out)
{
    unsigned char block[16384];
    for (size_t n; count; from += n, out += n, count -= n) {
        const size_t at = p->start + from;
        const unsigned char *bytes = p->wide ? block : (const unsigned char *)p->tokens + at;
        n = count < sizeof block ? count : sizeof block;
        if (p->wide == 2) glam__far_read((const glam__far *)p->tokens, at, n, block);
        if (p->wide & 1) memcpy(out, (const int32_t *)p->tokens + at, n * sizeof *out);
        else for (size_t i = 0; i < n; i++) out[i] = bytes[i];
    }
}

static void glam__piece_read(const glam__piece *p, size_t from, size_t count, int32_t *out)
{
    glam__piece_raw(p, from, count, out);
    for (size_t i = 0; i < count && p->wide == 3; i++) if (out[i] < 0) out[i] = ~out[i];
}

static glam_text *glam__text_of(glam_ctx *ctx, const void *tokens, size_t count, int wide)
{
    if (!count || !tokens)
        glam_fail(ctx, GLAM_ERR_VALUE, "text: it is empty; there is nothing to learn from");
    if (!ctx || ctx->error) return NULL;
    uint64_t bytes = glam__mul(count, wide ? sizeof(int32_t) : 1);
    glam_text *t = glam__text_new(ctx, 1);
    void *copy = t ? glam__take(ctx, &ctx->base.life, bytes) : NULL;
    if (!copy) return NULL;
    memcpy(copy, tokens, (size_t)bytes);
    t->pieces[0].tokens = copy;  t->pieces[0].count = count;
    t->pieces[0].wide = wide;  t->pieces[0].weight = (double)count;
    for (size_t i = 0; i < count; i++) {
        int32_t id = wide ? ((int32_t *)copy)[i] : ((unsigned char *)copy)[i];
        if (id > t->largest) t->largest = id;
        if (id < 0)
            glam_fail(ctx, GLAM_ERR_VALUE, "text: token %.0f is %d; ids start at 0", (double)i,
                      (int)id);
    }
    return ctx->error ? NULL : t;
}

GLAM_API glam_text *glam_text_from(glam_ctx *ctx, const char *text, size_t bytes,
                                   const glam_tokenizer *tokenizer)
{
    if (!ctx || ctx->error || !text || !bytes || !glam_tokenizer_vocabulary(tokenizer))
        return glam__text_of(ctx, text, bytes, 0);
    glam__arena work;
    memset(&work, 0, sizeof work);
    size_t count = glam_encode(tokenizer, text, bytes, NULL, 0);
    int32_t *ids = (int32_t *)glam__take(ctx, &work, glam__mul(count, sizeof *ids));
    glam_text *t = ids ? glam__text_of(ctx, ids, glam_encode(tokenizer, text, bytes, ids, count), 1)
                       : NULL;
    glam__arena_release(ctx, &work);
    return t;
}

GLAM_API glam_text *glam_text_from_tokens(glam_ctx *ctx, const int32_t *tokens, size_t count)
{ return glam__text_of(ctx, tokens, count, 1); }

// ---- files: the system's own calls, which neither buffer nor guess; errno says what failed

#if GLAM__FILES
GLAM__PLAIN_CODE_ENDS              // of other people's functions
// Strict C hides these where a system header came before this file: declared once more they are
// the same.  (C++ compilers hide nothing on Linux.)
#if defined(__linux__) && !defined(__cplusplus)
int fsync(int), fchmod(int, mode_t), fchown(int, uid_t, gid_t);
ssize_t readlink(const char *, char *, size_t);
#endif
// Files past 2 GiB: where a system header came first, without _FILE_OFFSET_BITS, on 32 bits.
#if defined(__GLIBC__) && __WORDSIZE == 32 && !defined(__USE_FILE_OFFSET64)
#ifndef __cplusplus
int open64(const char *, int, ...);
long long lseek64(int, long long, int);
#endif
#define GLAM__OPEN_FILE open64
#define GLAM__LSEEK(f, at, from) lseek64(f, (long long)(at), from)
#elif GLAM__POSIX
#define GLAM__OPEN_FILE open
#define GLAM__LSEEK(f, at, from) lseek(f, (off_t)(at), from)
#endif
GLAM__PLAIN_CODE
// To read; to read what may be a pipe; made, never opened; to be written, by another rank; over.
enum { GLAM__READ, GLAM__STREAM, GLAM__MAKE, GLAM__CHANGE, GLAM__OVER };
#define GLAM__MOVE_MOST ((size_t)1 << 24)       // some systems refuse 2 GB at once

#ifdef _WIN32
#define GLAM__LSEEK(f, at, from) _lseeki64(f, (int64_t)(at), from)
#define GLAM__MOVE(f, p, n, writing) \
    (writing ? _write(f, p, (unsigned)(n)) : _read(f, p, (unsigned)(n)))
#define GLAM__CLOSE _close
#ifndef GLAM__FSYNC
#define GLAM__FSYNC _commit
#endif
enum { GLAM__WIDE = 4096 };
#ifdef __cplusplus
extern "C" {
#endif
__declspec(dllimport) int __stdcall MoveFileExW(const wchar_t *, const wchar_t *, unsigned long);
__declspec(dllimport) int __stdcall MultiByteToWideChar(unsigned, unsigned long, const char *, int,
                                                        wchar_t *, int);
__declspec(dllimport) unsigned long __stdcall GetCurrentProcessId(void);
__declspec(dllimport) unsigned long __stdcall GetLastError(void);
__declspec(dllimport) void __stdcall Sleep(unsigned long);
#ifdef __cplusplus
}
#endif

// A path is UTF-8, or else in the code page that main() got it in.
static wchar_t *glam__wide(const char *path, wchar_t wide[GLAM__WIDE])
{
    if (!MultiByteToWideChar(65001, 8, path, -1, wide, GLAM__WIDE) &&
        !MultiByteToWideChar(0, 0, path, -1, wide, GLAM__WIDE)) wide[0] = 0;
    return wide;
}
#else
#define GLAM__MOVE(f, p, n, writing) (writing ? write(f, p, n) : read(f, p, n))
#define GLAM__CLOSE close
#ifndef GLAM__FSYNC
#define GLAM__FSYNC fsync
#endif
#endif

// -1: it cannot be opened.  mine: a new file is for its owner alone.
static int glam__open_file(const char *path, int how, int mine GLAM__UNUSED)
{
#ifdef _WIN32
    static const int flags[] = { _O_RDONLY, _O_RDONLY, _O_RDWR | _O_CREAT | _O_EXCL, _O_RDWR,
                                 _O_WRONLY | _O_TRUNC };
    wchar_t wide[GLAM__WIDE];
    return _wopen(glam__wide(path, wide), flags[how] | _O_BINARY | _O_NOINHERIT, 0600);
#else
    static const int flags[] = { O_RDONLY | O_NONBLOCK, O_RDONLY, O_RDWR | O_CREAT | O_EXCL, O_RDWR,
                                 O_WRONLY | O_TRUNC };
    int f, more = flags[how];
#ifdef O_CLOEXEC
    more |= O_CLOEXEC;
#endif
    do f = GLAM__OPEN_FILE(path, more, mine ? 0600 : 0666);
    while (f < 0 && errno == EINTR);
    return f;
#endif
}

// Returns how many bytes went from the file to p, or from there into it: all, or less at the end
// of the file (errno is 0) or when something failed.
static size_t glam__move_bytes(int f, void *p, size_t bytes, int writing)
{
    size_t done = 0;
    errno = 0;
    while (done < bytes) {
        size_t n = bytes - done < GLAM__MOVE_MOST ? bytes - done : GLAM__MOVE_MOST;
        ptrdiff_t moved = GLAM__MOVE(f, (char *)p + done, n, writing);
        if (moved < 0 && errno == EINTR) errno = 0;
        else if (moved <= 0) break;
        else done += (size_t)moved;
    }
    return done;
}

#if GLAM__POSIX
// NULL for a file, else what it is.
static const char *glam__kind_of_file(const struct stat *s)
{
    return S_ISREG(s->st_mode) ? NULL : S_ISDIR(s->st_mode) ? "a folder"
         : S_ISFIFO(s->st_mode) ? "a pipe" : S_ISCHR(s->st_mode) || S_ISBLK(s->st_mode)
         ? "a device" : "a socket";
}
#endif

// Reads to the end into a block that doubles; its size and fill go to *room and *used.
static char *glam__read_all(glam_ctx *ctx, int f, size_t *room, size_t *used)
{
    *room = (size_t)1 << 16;
    *used = 0;
    char *block = (char *)glam__alloc(ctx, *room);
    while (block) {
        *used += glam__move_bytes(f, block + *used, *room - *used, 0);
        if (*used < *room) break;
        size_t twice = *room > SIZE_MAX / 2 ? SIZE_MAX : 2 * *room;
        char *larger = (char *)glam__alloc(ctx, twice);
        if (larger) memcpy(larger, block, *used);
        glam__free(ctx, block, *room);
        block = larger;
        *room = twice;
    }
    return block;
}
#endif

GLAM_API glam_text *glam_text_open(glam_ctx *ctx, const char *path, const glam_tokenizer *tokenizer)
{
    if (!path) glam_fail(ctx, GLAM_ERR_VALUE, "text: no path (NULL)");
    if (!ctx || ctx->error) return NULL;
#if !GLAM__FILES
    (void)tokenizer;
    glam_fail(ctx, GLAM_ERR_FILE, "text %s: this build has no files (GLAM_NO_STDIO); use "
              "glam_text_from", path);
    return NULL;
#else
    size_t room = 0, used = 0;
    const char *kind = NULL;
    int f = glam__open_file(path, GLAM__STREAM, 0), error = errno;
#if GLAM__POSIX
    struct stat s;
    // a pipe may be a text, and a terminal; other devices need not end
    if (f >= 0 && fstat(f, &s) == 0 && !S_ISFIFO(s.st_mode) && !isatty(f))
        kind = glam__kind_of_file(&s);
#endif
    char *block = f >= 0 && !kind ? glam__read_all(ctx, f, &room, &used) : NULL;
    if (block) error = errno;
    if (kind) glam_fail(ctx, GLAM_ERR_FILE, "text %s: is %s, and no text", path, kind);
    else if (f < 0 || (block && error))
        glam_fail(ctx, GLAM_ERR_FILE, "text %s: cannot be %s: %s", path, f < 0 ? "opened" : "read",
                  strerror(error));
    else if (block && !used) glam_fail(ctx, GLAM_ERR_VALUE, "text %s: the file is empty", path);
    if (f >= 0) GLAM__CLOSE(f);
    glam_text *t = block ? glam_text_from(ctx, block, used, tokenizer) : NULL;
    glam__free(ctx, block, room);
    return t;
#endif
}

// Bytes [at, at + count) of a file; zeros, and a failure, where they cannot be read.
static void glam__far_read(const glam__far *away, size_t at, size_t count, unsigned char *out)
{
    size_t got = 0;
    errno = 0;
#if GLAM__FILES
    if (GLAM__LSEEK(away->file, (int64_t)at, SEEK_SET) >= 0)
        got = glam__move_bytes(away->file, out, count, 0);
#endif
    if (got == count) return;
    memset(out + got, 0, count - got);
    glam_fail(away->ctx, GLAM_ERR_FILE, "text %s: its %.0f bytes from %.0f on cannot be read: %s",
              away->path, (double)count, (double)at, errno ? strerror(errno)
              : "the file has become shorter");
}

#if GLAM__FILES
static void glam__far_close(glam_ctx *ctx GLAM__UNUSED, void *arg)
{ GLAM__CLOSE(((glam__far *)arg)->file); }
#endif

GLAM_API glam_text *glam_text_file(glam_ctx *ctx, const char *path)
{
    if (!path) glam_fail(ctx, GLAM_ERR_VALUE, "text: no path (NULL)");
    if (!ctx || ctx->error) return NULL;
    int f = -1, error = 0;
    int64_t bytes = -1;
    const char *kind = NULL;
#if GLAM__FILES
    f = glam__open_file(path, GLAM__READ, 0);
    error = errno;
#if GLAM__POSIX
    struct stat s;
    if (f >= 0 && fstat(f, &s) == 0) kind = glam__kind_of_file(&s);
#endif
    if (f >= 0 && !kind) bytes = (int64_t)GLAM__LSEEK(f, 0, SEEK_END);
#endif
    glam_text *t = bytes > 0 && (uint64_t)bytes < SIZE_MAX ? glam__text_new(ctx, 1) : NULL;
    glam__far *away = GLAM__NEW(ctx, life, glam__far, 1);
    char *name = (char *)glam__take(ctx, &ctx->base.life, strlen(path) + 1);
    if (kind) glam_fail(ctx, GLAM_ERR_FILE, "text %s: is %s, and no file", path, kind);
    else if (bytes < 0)
        glam_fail(ctx, GLAM_ERR_FILE, "text %s: cannot be opened: %s", path, strerror(error));
    else if (!t) glam_fail(ctx, GLAM_ERR_VALUE, "text %s: the file %s", path, bytes ? "is larger "
                           "than the addresses of this machine" : "is empty");
#if GLAM__FILES
    if (f >= 0 && (ctx->error || !away || !name)) GLAM__CLOSE(f);
#endif
    if (!t || !away || !name || ctx->error) return NULL;
    memcpy(name, path, strlen(path) + 1);
    away->ctx = ctx;  away->path = name;  away->file = f;
    t->pieces[0].tokens = away;  t->pieces[0].wide = 2;
    t->pieces[0].count = (size_t)bytes;  t->pieces[0].weight = (double)bytes;
    t->largest = 255;
#if GLAM__FILES
    glam__on_rewind(ctx, glam__far_close, away);
#endif
    return ctx->error ? NULL : t;
}

GLAM_API size_t glam_text_length(const glam_text *text)
{
    size_t n = 0;
    for (int i = 0; text && i < text->count; i++) n += text->pieces[i].count;
    return n;
}

GLAM_API size_t glam_text_read(const glam_text *text, size_t from, size_t count, int32_t *out)
{
    size_t done = 0;
    for (int i = 0; text && out && i < text->count; i++) {
        const glam__piece *p = &text->pieces[i];
        size_t left = from < p->count ? p->count - from : 0;
        size_t n = left < count - done ? left : count - done;
        glam__piece_read(p, from, n, out + done);
        done += n;
        from = from + n - p->count;          // no more is read, or 0: all of it is
    }
    return done;
}

static uint64_t glam__text_checksum(const glam_text *text)
{
    uint64_t sum = 0, at = 0;
    int32_t block[4096];
    if (!text || text->sum[1]) return text ? text->sum[0] : 0;
    for (int i = 0; i < text->count; i++)
        for (size_t from = 0, left = text->pieces[i].count, n; left; from += n, left -= n) {
            n = (size_t)glam__lesser(left, 4096);
            glam__piece_raw(&text->pieces[i], from, n, block);
            for (size_t j = 0; j < n; j++, at++)
                sum += glam__mix64(((uint64_t)(uint32_t)block[j] << 40) + at);
        }
    text->sum[0] = sum;
    text->sum[1] = !text->ctx->error;
    return sum;
}

// How a text is cut into pieces, and how often each is drawn from.
static uint64_t glam__text_pieces(const glam_text *text)
{
    uint64_t sum = 0;
    for (int i = 0; text && i < text->count; i++) {
        float weight = (float)text->pieces[i].weight;
        uint32_t bits;
        memcpy(&bits, &weight, sizeof bits);
        sum = glam__mix64(sum + text->pieces[i].count) + bits;
        if (text->pieces[i].ends) sum = glam__mix64(sum + 1) + text->pieces[i].documents;
        if (text->pieces[i].packed) sum += (uint64_t)text->pieces[i].packed->length << 32;
    }
    return sum;
}

// The piece from token `from` on, `count` of them.
static glam__piece glam__piece_part(const glam__piece *p, size_t from, size_t count)
{
    glam__piece part = *p;
    part.start = p->start + from;
    part.count = count;
    part.weight = p->weight * ((double)count / (double)p->count);
    return part;
}

// How many documents end at or before token `at` of a piece.
static size_t glam__ends_before(const glam__piece *p, size_t at)
{
    size_t low = 0, high = p->documents;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (p->ends[middle] <= p->start + at) low = middle + 1;
        else high = middle;
    }
    return low;
}

// The ends of the documents of a piece into a block that doubles; *room and *used are its entries.
static size_t *glam__find_ends(glam_ctx *ctx, const glam__piece *p, const int32_t *separator,
                               size_t length, size_t *room, size_t *used)
{
    int32_t block[4096 + 8];                    // the last 8 tokens of before, and more
    size_t *ends = (size_t *)glam__alloc(ctx, (*room = 1024) * sizeof *ends), last = 0;
    *used = 0;
    for (size_t from = 0, n; from < p->count && ends && !ctx->error; from += n) {
        n = p->count - from < 4096 ? p->count - from : 4096;
        if (from) memmove(block, block + 4096, 8 * sizeof *block);
        glam__piece_read(p, from, n, block + 8);
        for (size_t i = 0; i < n; i++) {
            size_t end = from + i + 1;
            if (block[8 + i] != separator[length - 1] || end < last + length ||
                memcmp(block + 9 + i - length, separator, length * sizeof *block) != 0) continue;
            *used -= *used && last + length == end;         // one more behind the last one
            if (*used == *room) {
                size_t *more = (size_t *)glam__alloc(ctx, 2 * *room * sizeof *ends);
                if (more) memcpy(more, ends, *used * sizeof *ends);
                glam__free(ctx, ends, *room * sizeof *ends);
                ends = more;
                *room *= 2;
                if (!ends) return NULL;
            }
            ends[(*used)++] = p->start + (last = end);
        }
    }
    return ends;
}

GLAM_API size_t glam_text_documents(glam_text *text, const int32_t *separator, int count)
{
    size_t all = 0;
    if (!text || text->ctx->error) return 0;
    glam_ctx *ctx = text->ctx;
    if (!separator || count < 1 || count > 8)
        glam_fail(ctx, GLAM_ERR_VALUE, "documents: a separator of %d tokens; 1 to 8 are possible",
                  separator ? count : 0);
    for (int i = 0; i < text->count && !ctx->error; i++) {
        glam__piece *p = &text->pieces[i];
        if (p->packed) glam_fail(ctx, GLAM_ERR_VALUE, "documents: a text of examples has its own");
        if (ctx->error) break;
        size_t room, used, *ends = glam__find_ends(ctx, p, separator, (size_t)count, &room, &used);
        size_t *kept = GLAM__NEW(ctx, life, size_t, used + 1);
        if (kept && ends && used) memcpy(kept, ends, used * sizeof *kept);
        glam__free(ctx, ends, room * sizeof *ends);
        if (!kept || ctx->error) break;
        p->ends = kept;
        p->documents = used;
        all += used + (!used || kept[used - 1] < p->start + p->count);
    }
    return ctx->error ? 0 : all;
}

// Tokens of a piece that a fraction holds back for validation: whole documents, never the first.
static size_t glam__held_back(const glam__piece *p, float fraction)
{
    size_t last = (size_t)((double)p->count * (double)fraction), cut = p->count - last;
    if (!p->ends || !last) return last;
    size_t before = glam__ends_before(p, cut), none = glam__ends_before(p, 0);
    if (before == none && before == p->documents) return 0;
    cut = p->ends[before > none ? before - 1 : before] - p->start;
    return cut < p->count ? p->count - cut : 0;
}

// The fraction in [0,1) that holds back so many tokens in all; -1: none does.  Each part grows with
// the fraction, so all that hold back as many in all hold back the same ones: any of them will do.
static float glam__split_of_count(const glam_text *text, uint64_t tokens)
{
    uint32_t low = 0, high = 0x3f800000;        // the bits of 0 and of 1: floats in their order
    float fraction = 0;
    uint64_t held = 0;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        memcpy(&fraction, &middle, sizeof fraction);
        held = 0;
        for (int i = 0; i < text->count; i++) held += glam__held_back(&text->pieces[i], fraction);
        if (held == tokens) return fraction;
        if (held < tokens) low = middle + 1;
        else high = middle;
    }
    return -1;
}

// ---- examples

// Number i of n in an order of chance: a permutation of the next power of 4 (Luby and Rackoff
// 1988), followed until it comes back into range.
static size_t glam__shuffled(size_t i, size_t n, uint64_t key)
{
    int half = 1;
    uint64_t x = i;
    while ((uint64_t)1 << 2 * half < n) half++;
    const uint64_t mask = ((uint64_t)1 << half) - 1;
    do for (uint64_t round = 0; round < 4; round++) {
        uint64_t low = x & mask, mixed = glam__mix64(key + 4 * low + round + 1);
        x = low << half | ((x >> half ^ mixed) & mask);
    } while (x >= n);
    return (size_t)x;
}

static const int32_t *glam__example(const glam__piece *p, size_t number, size_t *places)
{
    size_t from = number ? p->ends[number - 1] : 0;
    *places = p->ends[number] - from - 1;       // the last token has nothing behind it
    return (const int32_t *)p->tokens + from;
}

// Packs the examples of a piece: the longest first, each into the fullest window that has room.
static glam__packed *glam__pack_examples(glam_ctx *ctx, const glam__piece *p, int window)
{
    const size_t none = glam__ends_before(p, 0), count = glam__ends_before(p, p->count) - none;
    const size_t length = (size_t)window, bytes = (3 * count + length + 1) * sizeof(size_t);
    glam__packed *k = GLAM__NEW(ctx, life, glam__packed, 1);
    size_t *kept = GLAM__NEW(ctx, life, size_t, 2 * count + 1), n;
    size_t *sorted = (size_t *)glam__alloc(ctx, bytes);
    if (!k || !kept || !sorted) {
        glam__free(ctx, sorted, bytes);
        return NULL;
    }
    size_t *of = sorted + count, *under = of + count;
    size_t *top = under + count;                // of the windows with so much room; under: the next
    k->length = window;  k->order = kept;  k->first = kept + count;
    memset(top, 0, (length + 1) * sizeof *top);
    for (size_t i = 0; i < count; i++) top[glam__example(p, none + i, &n) ? n : 0]++;
    for (size_t l = length + 1, at = 0; l-- > 0; at += n) { n = top[l];  top[l] = at; }
    for (size_t i = 0; i < count; i++) sorted[top[glam__example(p, none + i, &n) ? n : 0]++] = i;
    for (size_t l = 0; l <= length; l++) top[l] = SIZE_MAX;
    for (size_t i = 0, w; i < count; i++) {
        glam__example(p, none + sorted[i], &n);
        size_t room = n;
        while (room < length && top[room] == SIZE_MAX) room++;
        if (room == length) w = k->windows++;
        else { w = top[room];  top[room] = under[w]; }
        of[i] = w;
        k->first[w + 1]++;
        under[w] = top[room - n];
        top[room - n] = w;
    }
    for (size_t w = 0; w < k->windows; w++) under[w] = k->first[w + 1] += k->first[w];
    for (size_t i = count; i-- > 0; ) k->order[--under[of[i]]] = none + sorted[i];
    glam__free(ctx, sorted, bytes);
    return k;
}

GLAM_API glam_text *glam_text_examples(glam_ctx *ctx, const glam_example *examples, int count,
                                       int length)
{
    uint64_t all = 0;
    if (!ctx || ctx->error) return NULL;
    if (!examples || count < 1 || length < 1 || length > INT32_MAX / 64)
        glam_fail(ctx, GLAM_ERR_VALUE, "examples: %d of them (or NULL) for windows of %d tokens",
                  count, length);
    for (int i = 0; i < count && !ctx->error; i++) {
        const glam_example *e = &examples[i];
        int most = glam__min(e->count, length + 1), learnt = 0;
        for (int t = 0; t < most && e->tokens && !ctx->error; t++) {
            learnt += t && (!e->learn || e->learn[t]);
            if (e->tokens[t] < 0)
                glam_fail(ctx, GLAM_ERR_VALUE, "examples: token %d of example %d is %d; ids start "
                          "at 0", t, i, (int)e->tokens[t]);
        }
        if (!ctx->error && !learnt)
            glam_fail(ctx, GLAM_ERR_VALUE, "examples: of the %d tokens of example %d none behind "
                      "the first is to be learnt (or it is past the %d that a window has room for)",
                      e->count, i, length + 1);
        if (!ctx->error) all += (uint64_t)most;
    }
    glam_text *t = ctx->error ? NULL : glam__text_new(ctx, 1);
    int32_t *at = GLAM__NEW(ctx, life, int32_t, all);
    size_t end = 0;
    size_t *ends = GLAM__NEW(ctx, life, size_t, count);
    if (!t || !at || !ends) return NULL;
    glam__piece *p = t->pieces;
    p->tokens = at;  p->count = (size_t)all;  p->weight = (double)all;
    p->wide = 3;  p->ends = ends;  p->documents = (size_t)count;
    for (int i = 0; i < count; i++, ends[i - 1] = end) {
        const glam_example *e = &examples[glam__shuffled((size_t)i, (size_t)count, 1)];
        for (int k = 0; k < e->count && k <= length; k++, end++) {
            at[end] = k && (!e->learn || e->learn[k]) ? e->tokens[k] : ~e->tokens[k];
            if (e->tokens[k] > t->largest) t->largest = e->tokens[k];
        }
    }
    p->packed = glam__pack_examples(ctx, p, length);
    return p->packed ? t : NULL;
}

// Row `row` of a batch from glam__batch_new: a window of examples, and padding behind them.
static void glam__copy_examples(const glam__piece *p, size_t window, int row, glam_batch *batch)
{
    const size_t length = (size_t)batch->length, T = (size_t)batch->rows * length;
    int32_t *out = (int32_t *)batch->tokens + (size_t)row * length, *end = out + length;
    int32_t segment = 1;
    for (size_t e = p->packed->first[window]; e < p->packed->first[window + 1]; e++, segment++) {
        size_t places;
        const int32_t *t = glam__example(p, p->packed->order[e], &places);
        for (; places--; t++, out++) {
            out[0] = *t < 0 ? ~*t : *t;
            out[T] = t[1] < 0 ? -1 : t[1];
            out[2 * T] = 1;
            out[3 * T] = segment;
        }
    }
    for (; out < end; out++) { out[0] = out[2 * T] = out[3 * T] = 0;  out[T] = -1; }
}

static glam_status glam__windows_fit(glam_ctx *ctx, const glam_text *text, int length)
{
    for (int i = 0; text && i < text->count; i++)
        if (text->pieces[i].packed && text->pieces[i].packed->length > length)
            return glam_fail(ctx, GLAM_ERR_VALUE, "examples: they are packed for windows of %d "
                             "tokens, which %d have no room for: make both alike",
                             text->pieces[i].packed->length, length);
    return ctx->error;
}

GLAM_API glam_status glam_text_split(glam_text *text, float fraction, glam_text **train,
                                     glam_text **valid)
{
    if (train) *train = NULL;
    if (valid) *valid = NULL;
    if (!text || text->ctx->error) return text ? text->ctx->error : GLAM_ERR_MEMORY;
    glam_ctx *ctx = text->ctx;
    if (!glam__within((double)fraction, 0, 1) || fraction >= 1)
        return glam_fail(ctx, GLAM_ERR_VALUE, "split: the fraction %g must be in [0,1)",
                         (double)fraction);
    glam_text *a = glam__text_new(ctx, text->count), *b = glam__text_new(ctx, text->count);
    if (!a || !b) return ctx->error;
    a->count = b->count = 0;
    a->largest = b->largest = text->largest;
    for (int i = 0; i < text->count; i++) {
        const glam__piece *p = &text->pieces[i];
        size_t last = glam__held_back(p, fraction);
        if (last < p->count) a->pieces[a->count++] = glam__piece_part(p, 0, p->count - last);
        if (last) b->pieces[b->count++] = glam__piece_part(p, p->count - last, last);
        for (int side = 0; side < 2 && p->packed && last; side++) {
            glam__piece *part = side ? &b->pieces[b->count - 1] : &a->pieces[a->count - 1];
            part->packed = glam__pack_examples(ctx, part, p->packed->length);
            if (!part->packed) return ctx->error;
        }
    }
    if (train) *train = a;
    if (valid && b->count) *valid = b;
    return GLAM_OK;
}

GLAM_API glam_text *glam_mix(glam_ctx *ctx, glam_text *const *texts, const float *weights,
                             int count)
{
    int pieces = 0, at = 0;
    double total = 0;
    if (!ctx || ctx->error) return NULL;
    for (int i = 0; i < count && texts && !ctx->error; i++) {
        if (!texts[i] || (weights && !glam__within((double)weights[i], 0, 1e30)))
            glam_fail(ctx, GLAM_ERR_VALUE, "mix: text %d is NULL or has a negative or infinite "
                      "weight", i);
        else if (texts[i]->count > INT32_MAX - pieces)
            glam_fail(ctx, GLAM_ERR_VALUE, "mix: more than 2^31 - 1 pieces of text");
        else pieces += texts[i]->count;
        total += weights ? (double)weights[i] : 1;
    }
    if (!pieces) glam_fail(ctx, GLAM_ERR_VALUE, "mix: no texts");
    else if (!(total > 0)) glam_fail(ctx, GLAM_ERR_VALUE, "mix: all %d weights are 0", count);
    if (ctx->error) return NULL;
    glam_text *t = glam__text_new(ctx, pieces);
    for (int i = 0; i < count && t; i++) {
        double sum = 0;
        for (int p = 0; p < texts[i]->count; p++) sum += texts[i]->pieces[p].weight;
        for (int p = 0; p < texts[i]->count; p++, at++) {
            t->pieces[at] = texts[i]->pieces[p];
            t->pieces[at].source = i;
            if (weights) t->pieces[at].weight *= sum > 0 ? (double)weights[i] / sum : 0;
        }
        if (texts[i]->largest > t->largest) t->largest = texts[i]->largest;
    }
    return t;
}

// How many windows of `length` tokens and their successors a piece has that do not overlap.
static size_t glam__piece_windows(const glam__piece *p, size_t length)
{ return p->packed ? p->packed->windows : p->count ? (p->count - 1) / length : 0; }

// A piece that has windows, by its weight.
static const glam__piece *glam__draw_piece(const glam_text *text, size_t length, double u)
{
    const glam__piece *last = NULL;
    double sum = 0;
    for (int i = 0; i < text->count; i++)
        if (glam__piece_windows(&text->pieces[i], length)) sum += text->pieces[i].weight;
    u *= sum;
    for (int i = 0; i < text->count; i++) {
        if (!glam__piece_windows(&text->pieces[i], length) || !(text->pieces[i].weight > 0))
            continue;
        last = &text->pieces[i];
        u -= last->weight;
        if (u < 0) break;
    }
    return last;
}

// Does any piece know its documents?
static int glam__has_documents(const glam_text *text)
{
    for (int i = 0; text && i < text->count; i++) if (text->pieces[i].ends) return 1;
    return 0;
}

// `rows` rows of `length` tokens in the step arena, still to be filled; NULL without memory.
static int32_t *glam__batch_new(glam_ctx *ctx, int rows, int length, int documents,
                                glam_batch *batch)
{
    uint64_t T = glam__mul((uint64_t)rows, (uint64_t)length);
    int32_t *tokens = (int32_t *)glam__take(ctx, &ctx->base.step,
                                            glam__mul(T, (documents ? 4 : 2) * sizeof *tokens));
    memset(batch, 0, sizeof *batch);
    if (!tokens) return NULL;
    batch->rows = rows;  batch->length = length;
    batch->tokens = tokens;  batch->targets = tokens + T;
    if (documents) batch->mask = tokens + 2 * T;
    if (documents) batch->segments = tokens + 3 * T;
    return tokens;
}

// Row `row` of a batch from glam__batch_new: tokens of a piece from `from` on, as targets their
// successors, and which documents they are of.  The last token of a document predicts nothing.  Of
// examples `from` is the number of a window, here and below.
static void glam__copy_window(const glam__piece *p, size_t from, int row, glam_batch *batch)
{
    size_t length = (size_t)batch->length, T = (size_t)batch->rows * length, next = 0;
    int32_t *tokens = (int32_t *)batch->tokens + (size_t)row * length, segment = 1;
    if (p->packed) { glam__copy_examples(p, from, row, batch);  return; }
    glam__piece_read(p, from, length, tokens);
    memcpy(tokens + T, tokens + 1, (length - 1) * sizeof *tokens);
    glam__piece_read(p, from + length, 1, tokens + T + length - 1);
    if (!batch->mask) return;
    next = p->ends ? glam__ends_before(p, from) : 0;
    for (size_t i = 0; i < length; i++) {
        int last = next < p->documents && p->ends[next] == p->start + from + i + 1;
        tokens[2 * T + i] = !last;
        tokens[3 * T + i] = segment;
        segment += last;
        next += (size_t)last;
    }
}

// Adds up the tokens of `rows` windows of `length`, one behind the other: those that are real, and
// those that predict one of their own document.
static void glam__add_tokens(const glam__piece *p, size_t from, size_t rows, size_t length,
                             double *real, double *told)
{
    const glam__packed *k = p->packed;
    size_t end = from + rows * length, places;
    for (size_t e = k ? k->first[from] : 0; k && e < k->first[from + rows]; e++) {
        const int32_t *t = glam__example(p, k->order[e], &places);
        *real += (double)places;
        for (size_t i = 1; i <= places; i++) *told += t[i] >= 0;
    }
    if (k) return;
    if (p->ends) end -= glam__ends_before(p, end) - glam__ends_before(p, from);
    *real += (double)(end - from);
    *told += (double)(end - from);
}

// The piece that a row of a batch of `rows` is from (NULL: none is long enough), and where in it
// the row starts.
static const glam__piece *glam__row_place(const glam_text *text, int rows, int length,
                                          uint64_t seed, uint64_t step, int row, size_t *start)
{
    const double u = glam__random_double(seed, 2 * step + 1, (uint64_t)row);
    const glam__piece *p = glam__draw_piece(text, (size_t)length,
                                            glam__random_double(seed, 2 * step, (uint64_t)row));
    const size_t windows = p ? glam__piece_windows(p, (size_t)length) : 0;
    if (p && p->packed && text->count == 1) {
        uint64_t at = step * (uint64_t)rows + (uint64_t)row, epoch = at / windows;
        *start = glam__shuffled((size_t)(at % windows), windows, glam__random64(seed, 3, epoch));
    } else if (p) {
        *start = (size_t)(u * (double)(p->packed ? windows : p->count - (size_t)length));
    }
    return p;
}

// `rows` rows from row `first` on of the batch of a step, which has `all`.
static glam_status glam__batch_rows(glam_text *text, int first, int rows, int all, int length,
                                    uint64_t seed, uint64_t step, glam_batch *batch)
{
    glam_ctx *ctx = text->ctx;
    glam_batch made;
    if (!glam__batch_new(ctx, rows, length, glam__has_documents(text), &made)) return ctx->error;
    for (int r = 0; r < rows; r++) {
        size_t start;
        const glam__piece *p = glam__row_place(text, all, length, seed, step, first + r, &start);
        if (!p)
            return glam_fail(ctx, GLAM_ERR_VALUE, "text: no piece of it is longer than a window of "
                             "%d tokens; %.0f are needed: a longer text or a shorter context",
                             length, length + 1.0);
        glam__copy_window(p, start, r, &made);
    }
    if (!ctx->error) *batch = made;
    return ctx->error;
}

// How many tokens of a step are real, and how many predict something: what its losses are divided
// by.
static void glam__step_tokens(const glam_text *text, int rows, int length, uint64_t seed,
                              uint64_t step, double *real, double *told)
{
    *real = *told = glam__has_documents(text) ? 0 : (double)rows * length;
    for (int r = 0; r < rows && glam__has_documents(text); r++) {
        size_t start;
        const glam__piece *p = glam__row_place(text, rows, length, seed, step, r, &start);
        if (p) glam__add_tokens(p, start, 1, (size_t)length, real, told);
    }
    if (!(*real > 0)) *real = 1;
    if (!(*told > 0)) *told = 1;
}

GLAM_API size_t glam_text_windows(const glam_text *text, int length, uint64_t *predicted)
{
    size_t all = 0;
    double real = 0, told = 0;
    for (int i = 0; text && length > 0 && i < text->count; i++) {
        size_t windows = glam__piece_windows(&text->pieces[i], (size_t)length);
        glam__add_tokens(&text->pieces[i], 0, windows, (size_t)length, &real, &told);
        all += windows;
    }
    if (predicted) *predicted = (uint64_t)told;
    return all;
}

GLAM_API glam_status glam_mix_epochs(const glam_text *mix, int rows, int length, uint64_t seed,
                                     uint64_t from, uint64_t to, double *epochs, int count)
{
    if (!mix || !epochs || rows < 1 || length < 1 || count < 1)
        return mix ? glam_fail(mix->ctx, GLAM_ERR_VALUE, "epochs: of %d rows of %d tokens for %d "
                               "texts: nothing to count", rows, length, count) : GLAM_ERR_VALUE;
    for (int i = 0; i < count; i++) epochs[i] = 0;
    for (uint64_t step = from; step < to; step++)
        for (int r = 0; r < rows; r++) {
            size_t start;
            const glam__piece *p = glam__row_place(mix, rows, length, seed, step, r, &start);
            if (p && p->source < count)
                epochs[p->source] += p->packed ? (double)p->count / (double)p->packed->windows
                                               : length;
        }
    for (int i = 0; i < count; i++) {
        double tokens = 0;
        for (int k = 0; k < mix->count; k++)
            if (mix->pieces[k].source == i) tokens += (double)mix->pieces[k].count;
        epochs[i] = tokens > 0 ? epochs[i] / tokens : 0;
    }
    return mix->ctx->error;
}

GLAM_API const glam_source *glam_mix_preset(int index)
{
    static const glam_source sources[] = {
        { "web", 143, 0.42 }, { "wikipedia", 3, 0.06 }, { "conversations", 174, 0.28 },
        { "forums", 247, 0.02 }, { "books", 390, 0.20 }, { "news", 650, 0.02 } };
    return index >= 0 && index < 6 ? &sources[index] : NULL;
}

GLAM_API glam_status glam_next_batch(glam_text *text, int rows, int length, uint64_t seed,
                                     uint64_t step, glam_batch *batch)
{
    if (batch) memset(batch, 0, sizeof *batch);
    if (!text) return GLAM_ERR_MEMORY;
    if (!batch) glam_fail(text->ctx, GLAM_ERR_VALUE, "batch: nowhere to write to (NULL)");
    if (text->ctx->error) return text->ctx->error;
    if (rows < 1 || length < 1 || (int64_t)rows * length > INT32_MAX / 64)
        return glam_fail(text->ctx, GLAM_ERR_VALUE, "batch: %d rows of %d tokens make no batch",
                         rows, length);
    if (glam__windows_fit(text->ctx, text, length) != GLAM_OK) return text->ctx->error;
    return glam__batch_rows(text, 0, rows, rows, length, seed, step, batch);
}

static glam_status glam__vocab_fits(const glam_model *model, const glam_text *text)
{
    if (text->largest >= model->config.vocab)
        return glam_fail(model->ctx, GLAM_ERR_VALUE, "text: it has the token %d, the model's "
                         "vocabulary ends at %d", (int)text->largest, model->config.vocab - 1);
    return GLAM_OK;
}

// Sum of the loss over windows [first, first+rows) of a piece.
static double glam__windows_loss(glam_model *model, const glam__piece *p, size_t first, int rows,
                                 int length, int most)
{
    glam__run run;
    glam_batch batch;
    glam_losses losses;
    memset(&losses, 0, sizeof losses);
    if (!glam__batch_new(model->ctx, rows, length, p->ends != NULL, &batch)) return 0;
    for (int r = 0; r < rows; r++)
        glam__copy_window(p, (first + (size_t)r) * (p->packed ? 1 : (size_t)length), r, &batch);
    if (glam__run_begin(&run, model, &batch, GLAM_INFER) != GLAM_OK) return 0;
    run.quiet = 1;
    run.most = most;
    glam__run_loss(&run, &batch, &losses);
    return run.cancelled ? -1 : losses.xent * run.told;
}

// Group number `index` of the windows of a text, at most `most` at a time: its piece (NULL: there
// are no more), its first window, and how many.
static const glam__piece *glam__window_group(const glam_text *text, int length, size_t most,
                                             size_t index, size_t *first, int *rows)
{
    for (int i = 0; i < text->count; i++) {
        size_t windows = glam__piece_windows(&text->pieces[i], (size_t)length);
        size_t groups = (windows + most - 1) / most;
        if (index < groups) {
            *first = index * most;
            *rows = (int)(windows - *first < most ? windows - *first : most);
            return &text->pieces[i];
        }
        index -= groups;
    }
    return NULL;
}

// The loss over a text in windows that do not overlap, and how many tokens that was; -1: failed or
// cancelled.  On a mesh the groups of windows are dealt out over X; who has none in the last round
// repeats the last, and is not counted.
static double glam__text_loss(glam_model *model, const glam_text *text, int length,
                              uint64_t *tokens)
{
    glam_ctx *ctx = model->ctx;
    glam__mesh *mesh = ctx->mesh;
    double sum = 0, one = 0, real = 0, told = 0;
    size_t most = 2048 / length < 1 ? 1 : (size_t)(2048 / length), first, count = 0;
    int X = mesh ? mesh->X : 1, mine = mesh ? mesh->ix : 0, rows;
    *tokens = 0;
    if (glam__vocab_fits(model, text) != GLAM_OK) return -1;
    if (glam__windows_fit(ctx, text, length) != GLAM_OK) return -1;
    glam__agree(ctx, "validation", 0);
    int before = glam_no_grad(ctx, 1);
    while (glam__window_group(text, length, most, count, &first, &rows)) count++;
    for (size_t group = 0; group < count && !ctx->error && one >= 0; group += (size_t)X) {
        size_t at = group + (size_t)mine < count ? group + (size_t)mine : count - 1;
        const glam__piece *piece = glam__window_group(text, length, most, at, &first, &rows);
        glam__place place = glam__arena_mark(&ctx->base.step);
        one = glam__windows_loss(model, piece, first, rows, length, (int)most * length);
        glam__step_back(ctx, place);
        double *all = mesh ? (double *)(void *)mesh->work : &one;
        all[mine] = one;
        glam__agree(ctx, "validated", 0);
        if (mesh) glam__all_gather(ctx, &mesh->x, &mesh->sent.sums, all, (size_t)X, sizeof one);
        for (size_t r = 0; r < (size_t)X && group + r < count; r++) {
            piece = glam__window_group(text, length, most, group + r, &first, &rows);
            if (!glam__is_number(all[r]))
                glam_fail(ctx, GLAM_ERR_NUMERIC, "evaluation: the loss of %d windows of %d tokens, "
                          "from token %.0f, is not finite: the model is spoilt; load it again, or "
                          "an earlier checkpoint", rows, length, (double)first * length);
            if (ctx->error || one < 0) break;
            sum += all[r];
            glam__add_tokens(piece, first * (piece->packed ? 1 : (size_t)length), (size_t)rows,
                             (size_t)length, &real, &told);
        }
    }
    glam_no_grad(ctx, before);
    *tokens = (uint64_t)told;
    if (!*tokens && !ctx->error && one >= 0)
        glam_fail(ctx, GLAM_ERR_VALUE, "validation: the text has no window of %d tokens and the "
                  "one after; a longer text or a shorter context", length);
    return ctx->error || one < 0 ? -1 : sum / (double)*tokens;
}

// ---- words

// A byte of a word, in lower case; 0: of none.
static unsigned glam__word_byte(unsigned c)
{
    if ((c | 32) - 'a' < 26u) return c | 32;
    return c - '0' < 10u || c > 127 ? c : 0;
}

GLAM_API uint64_t glam_next_word(const glam_document *document, int signs, size_t *at)
{
    if (!document || !at) return 0;
    const unsigned char *t = (const unsigned char *)document->text;
    const size_t bytes = document->bytes;
    uint64_t h = 1469598103934665603u;          // FNV-1a
    size_t i = *at;
    unsigned c = 0;
    for (; i < bytes && (c = glam__word_byte(t[i])) == 0; i++)
        if (signs && t[i] > ' ') {
            *at = i + 1;
            return glam__mix64(h ^ t[i]) | 1;
        }
    if ((*at = i) >= bytes) return 0;
    do h = (h ^ c) * 1099511628211u;
    while (++i < bytes && (c = glam__word_byte(t[i])) != 0);
    *at = i;
    return glam__mix64(h) | 1;
}

static double glam__document_work(const glam_document *documents, int count)
{
    double bytes = 0;
    for (int i = 0; i < count; i++) bytes += (double)documents[i].bytes;
    return 8 * bytes;                           // multiply-adds that take about as long
}

static int glam__documents_fit(glam_ctx *ctx, const glam_document *documents, int count)
{
    if (!ctx->error && (count < 0 || (count && !documents)))
        glam_fail(ctx, GLAM_ERR_VALUE, "filter: %d documents at %s", count,
                  documents ? "an address" : "NULL");
    for (int i = 0; i < count && !ctx->error; i++)
        if (!documents[i].text && documents[i].bytes)
            glam_fail(ctx, GLAM_ERR_VALUE, "filter: document %d is NULL", i);
    return !ctx->error;
}

// ---- the quality filter

// The features of one document: how often each, and which.
typedef struct glam__bag { uint32_t *counts, *list, used; uint64_t total; } glam__bag;
typedef struct glam__feature { uint32_t index; float x; } glam__feature;

struct glam_filter {
    glam_ctx    *ctx;
    glam_filter_config config;
    glam_tensor *weights;
    float       *squares;          // AdaGrad's sums
    glam__bag   *bags;             // one per worker
};

enum { GLAM__FILTER_ROUND = 1024 };              // documents hashed at once

typedef struct glam__filter_job {
    const glam_filter   *filter;
    const glam_document *documents;
    float         *scores;                       // to score
    glam__feature *features;                     // to train
    size_t         at[GLAM__FILTER_ROUND];       // where in them a document's are, and how many
    uint32_t       used[GLAM__FILTER_ROUND];
} glam__filter_job;

GLAM_API glam_filter_config glam_filter_config_default(void)
{
    glam_filter_config config = { 18, 0.05 };
    return config;
}

GLAM_API glam_filter *glam_filter_new(glam_ctx *ctx, const glam_filter_config *config)
{
    glam_filter_config c = config ? *config : glam_filter_config_default();
    if (!ctx || ctx->error) return NULL;
    if (c.bits < 8 || c.bits > 24 || !glam__within(c.lr, 1e-9, 1e9)) {
        glam_fail(ctx, GLAM_ERR_VALUE, "filter: bits %d must be from 8 to 24 and lr %g positive",
                  c.bits, c.lr);
        return NULL;
    }
    uint64_t size = (uint64_t)1 << c.bits, workers = (uint64_t)ctx->options.threads;
    glam_filter *f = GLAM__NEW(ctx, life, glam_filter, 1);
    glam_tensor *weights = glam_param(ctx, "filter.weights", glam_dim1((int)size + 1));
    float *squares = GLAM__NEW(ctx, life, float, size + 1);
    glam__bag *bags = GLAM__NEW(ctx, life, glam__bag, workers);
    uint32_t *tables = GLAM__NEW(ctx, life, uint32_t, workers * 2 * size);
    if (!f || !weights || !squares || !bags || !tables) return NULL;
    for (uint64_t i = 0; i < workers; i++) {
        bags[i].counts = tables + 2 * size * i;
        bags[i].list = tables + 2 * size * i + size;
    }
    f->ctx = ctx;  f->config = c;  f->weights = weights;  f->squares = squares;  f->bags = bags;
    return f;
}

GLAM_API glam_tensor *glam_filter_weights(const glam_filter *filter)
{ return filter ? filter->weights : NULL; }

static void glam__bag_fill(const glam_filter *f, glam__bag *b, const glam_document *d)
{
    const int shift = 64 - f->config.bits;
    uint64_t before = 0, word;
    for (size_t at = 0; (word = glam_next_word(d, 1, &at)) != 0; before = word) {
        uint64_t pair = before ? glam__mix64(3 * before + word) : 0;
        if (!b->counts[word >> shift]++) b->list[b->used++] = (uint32_t)(word >> shift);
        if (pair && !b->counts[pair >> shift]++) b->list[b->used++] = (uint32_t)(pair >> shift);
        b->total += 1 + (pair != 0);
    }
}

// x of feature i of the list, whose count is forgotten.
static float glam__bag_take(glam__bag *b, uint32_t i)
{
    uint32_t *count = &b->counts[b->list[i]];
    float x = sqrtf((float)*count / (float)b->total);
    *count = 0;
    return x;
}

static void glam__filter_score_body(void *arg, int begin, int end, int worker)
{
    glam__filter_job *job = (glam__filter_job *)arg;
    const glam_filter *f = job->filter;
    const float *w = f->weights->data;
    glam__bag *b = &f->bags[worker];
    for (int d = begin; d < end; d++) {
        double z = w[(size_t)1 << f->config.bits];
        glam__bag_fill(f, b, &job->documents[d]);
        for (uint32_t i = 0; i < b->used; i++)
            z += (double)w[b->list[i]] * (double)glam__bag_take(b, i);
        b->total = b->used = 0;
        job->scores[d] = (float)(1 / (1 + exp(-z)));
    }
}

static void glam__filter_features_body(void *arg, int begin, int end, int worker)
{
    glam__filter_job *job = (glam__filter_job *)arg;
    glam__bag *b = &job->filter->bags[worker];
    for (int d = begin; d < end; d++) {
        glam__feature *to = job->features + job->at[d];
        glam__bag_fill(job->filter, b, &job->documents[d]);
        for (uint32_t i = 0; i < b->used; i++) {
            to[i].index = b->list[i];
            to[i].x = glam__bag_take(b, i);
        }
        job->used[d] = b->used;
        b->total = b->used = 0;
    }
}

// L = log(1 + e^z) - label z, z = w.x + bias; so dL/dz = sigmoid(z) - label and dL/dw = x dL/dz.
static double glam__filter_learn(glam_filter *f, const glam__feature *x, uint32_t used,
                                 double label, double weight)
{
    const size_t bias = (size_t)1 << f->config.bits;
    const float lr = (float)f->config.lr;
    float *w = f->weights->data, *s = f->squares;
    double z = w[bias];
    for (uint32_t i = 0; i < used; i++) z += (double)w[x[i].index] * (double)x[i].x;
    const float dz = (float)(weight * (1 / (1 + exp(-z)) - label));
    for (uint32_t i = 0; i <= used; i++) {
        size_t k = i < used ? x[i].index : bias;
        float g = i < used ? dz * x[i].x : dz;
        s[k] += g * g;
        if (s[k] > 0) w[k] -= lr * g / sqrtf(s[k]);
    }
    return weight * (log1p(exp(-fabs(z))) + (z > 0 ? z : 0) - label * z);
}

// A document has no more features than that.
static size_t glam__features_most(const glam_filter *f, const glam_document *d)
{
    const size_t all = (size_t)1 << f->config.bits;
    return d->bytes < all / 2 ? 2 * d->bytes : all;
}

GLAM_API glam_status glam_filter_train(glam_filter *filter, const glam_document *documents,
                                       const float *labels, const float *weights, int count,
                                       double *loss)
{
    if (loss) *loss = 0;
    if (!filter) return GLAM_ERR_MEMORY;
    glam_ctx *ctx = filter->ctx;
    glam__filter_job job;
    size_t room = (size_t)1 << 20;              // features of a round, or of one document
    double sum = 0, total = 0;
    if (!glam__documents_fit(ctx, documents, count)) return ctx->error;
    for (int i = 0; i < count; i++) {
        double weight = weights ? (double)weights[i] : 1;
        if (!labels || !glam__within((double)labels[i], 0, 1) || !glam__within(weight, 0, 1e30))
            return glam_fail(ctx, GLAM_ERR_VALUE, "filter: document %d needs a label from 0 to 1 "
                             "and a weight from 0 on", i);
        size_t most = glam__features_most(filter, &documents[i]);
        if (most > room) room = most;
    }
    glam__feature *features = (glam__feature *)glam__alloc(ctx, room * sizeof *features);
    if (!features) return ctx->error;
    for (int at = 0, n; at < count; at += n) {
        size_t used = 0;
        for (n = 0; at + n < count && n < GLAM__FILTER_ROUND; n++) {
            size_t most = glam__features_most(filter, &documents[at + n]);
            if (most > room - used) break;
            job.at[n] = used;
            used += most;
        }
        job.filter = filter;  job.documents = documents + at;  job.features = features;
        glam__parallel(ctx, n, glam__document_work(documents + at, n), glam__filter_features_body,
                       &job);
        for (int i = 0; i < n; i++) {           // the hashing was the work; the steps have an order
            double weight = weights ? (double)weights[at + i] : 1;
            sum += glam__filter_learn(filter, features + job.at[i], job.used[i],
                                      (double)labels[at + i], weight);
            total += weight;
        }
    }
    glam__free(ctx, features, room * sizeof *features);
    if (loss && total > 0) *loss = sum / total;
    return GLAM_OK;
}

GLAM_API glam_status glam_filter_score(glam_filter *filter, const glam_document *documents,
                                       int count, float *scores)
{
    if (!filter) return GLAM_ERR_MEMORY;
    glam_ctx *ctx = filter->ctx;
    glam__filter_job job;
    if (!glam__documents_fit(ctx, documents, count)) return ctx->error;
    if (!scores) return glam_fail(ctx, GLAM_ERR_VALUE, "filter: nowhere to write scores to (NULL)");
    job.filter = filter;  job.documents = documents;  job.scores = scores;
    glam__parallel(ctx, count, glam__document_work(documents, count), glam__filter_score_body,
                   &job);
    return ctx->error;
}

// x = u^(-1/alpha) - 1 with u in (0,1] is numpy's pareto(alpha).
GLAM_API int glam_filter_keep(double score, double alpha, uint64_t seed, uint64_t index)
{
    const uint64_t stream = 0x9a4e70;           // of its own
    if (!glam__within(alpha, DBL_MIN, DBL_MAX) || !glam__within(score, -DBL_MAX, DBL_MAX)) return 0;
    return pow(1 - glam__random_double(seed, stream, index), -1 / alpha) - 1 > 1 - score;
}

/* == 19 train : implementation ============================================================
   A step is batch, loss, update.  Gradients are summed, never averaged; the loss divides by the
   tokens of the whole step.  Parts of a batch are joined as a binary tree over part numbers, and
   sums over a tensor as a tree over chunks of a fixed size: no result knows how many workers
   there were.  A step that is not finite changes nothing, its counter included. */

GLAM_API glam_recipe glam_recipe_default(void)
{
    glam_recipe r;
    memset(&r, 0, sizeof r);
    r.optimizer = GLAM_ADAFACTOR;
    r.schedule = GLAM_SCHEDULE_COSINE;
    r.lr = 0.03;
    r.embed_lr = 1;
    r.bias_lr = 10;
    r.warmup = 50;
    r.min_lr = 0.05;
    r.steps = 2000;
    r.batch = 16;
    r.accumulate = 1;
    r.clip = 1;
    r.weight_decay = 0.1;
    r.beta1 = 0.9;
    r.beta2 = 0.99;
    r.eps = 1e-8;
    r.factor_min = 128;
    r.update_clip = 1;
    r.eps1 = 1e-30;
    r.eps2 = 1e-3;
    r.parameter_scale = 1;
    r.max_bad_steps = 10;
    r.seed = 1;
    return r;
}

GLAM_API glam_recipe glam_recipe_paper(void)
{
    glam_recipe r = glam_recipe_default();
    r.schedule = GLAM_SCHEDULE_PAPER;
    r.lr = 0.01;
    r.bias_lr = 0;
    r.warmup = 0;
    r.min_lr = 0;
    r.batch = 16;
    r.clip = 0;
    r.weight_decay = 0;
    return r;
}

GLAM_API glam_recipe glam_recipe_finetune(void)
{
    glam_recipe r = glam_recipe_default();
    r.lr = 0.004;
    r.warmup = 20;
    r.steps = 500;
    r.eval_every = 50;
    r.patience = 3;
    r.aux_off_when_frozen = 1;
    return r;
}

GLAM_API glam_recipe glam_recipe_quick(void)
{
    glam_recipe r = glam_recipe_default();
    r.lr = 0.06;
    r.warmup = 30;
    r.min_lr = 0;
    r.steps = 300;
    r.batch = 12;
    r.context = 64;
    return r;
}

GLAM_API double glam_recipe_lr(const glam_recipe *recipe, int t)
{
    const glam_recipe d = glam_recipe_default(), *r = recipe ? recipe : &d;
    if (r->schedule == GLAM_SCHEDULE_PAPER)        // 1/sqrt(max(t, 10000)) at 0.01, as in the paper
        return r->lr * 100 / sqrt(t > 10000 ? (double)t : 10000.0);
    if (t < r->warmup) return r->lr * (t + 1.0) / (r->warmup + 1.0);
    if (r->schedule == GLAM_SCHEDULE_CONSTANT) return r->lr;
    double span = r->steps > r->warmup ? (double)r->steps - r->warmup : 1;
    double x = ((double)t - r->warmup) / span;
    if (x > 1) x = 1;
    return r->lr * (r->min_lr + (1 - r->min_lr) * 0.5 * (1 + cos(3.141592653589793 * x)));
}

static glam_status glam__recipe_check(glam_ctx *ctx, const glam_recipe *r)
{
    if (!glam__within(r->lr, DBL_MIN, DBL_MAX) || !glam__within(r->embed_lr, 0, DBL_MAX) ||
        !glam__within(r->bias_lr, 0, DBL_MAX) || !glam__within(r->clip, 0, DBL_MAX) ||
        !glam__within(r->weight_decay, 0, FLT_MAX) || !glam__within(r->min_lr, 0, DBL_MAX) ||
        r->warmup < 0)
        return glam_fail(ctx, GLAM_ERR_VALUE, "recipe: lr %g must be above 0; embed_lr %g, "
                         "bias_lr %g, clip %g, weight_decay %g, min_lr %g, warmup %d not below: "
                         "start from glam_recipe_default()", r->lr, r->embed_lr, r->bias_lr,
                         r->clip, r->weight_decay, r->min_lr, r->warmup);
    if (!glam__within(r->beta1, 0, 1) || !glam__within(r->beta2, 0, 1) || r->beta1 >= 1 ||
        r->beta2 >= 1 || !glam__within(r->eps, FLT_MIN, FLT_MAX) ||
        !glam__within(r->update_clip, DBL_MIN, DBL_MAX) ||
        !glam__within(r->eps1, FLT_MIN, FLT_MAX) || !glam__within(r->eps2, DBL_MIN, DBL_MAX) ||
        r->factor_min < 1)
        return glam_fail(ctx, GLAM_ERR_VALUE, "recipe: beta1 %g and beta2 %g must be in [0,1), eps "
                         "%g, update_clip %g, eps1 %g, eps2 %g (in floats) and factor_min %d "
                         "above 0", r->beta1, r->beta2, r->eps, r->update_clip, r->eps1, r->eps2,
                         r->factor_min);
    if (r->update_in_backward && ctx->mesh)
        return glam_fail(ctx, GLAM_ERR_VALUE, "recipe: update_in_backward cannot wait for the "
                         "gradients of other ranks: set it to 0 on a mesh");
    if (r->update_in_backward && (r->clip > 0 || r->accumulate > 1))
        return glam_fail(ctx, GLAM_ERR_VALUE, "recipe: update_in_backward never has all gradients "
                         "at once: clip %g must be 0 and accumulate %d must be 1", r->clip,
                         r->accumulate);
    if ((int)r->optimizer < 0 || (int)r->optimizer > 1 || (int)r->schedule < 0 ||
        (int)r->schedule > 2 || r->max_bad_steps < 1)
        return glam_fail(ctx, GLAM_ERR_VALUE, "recipe: optimizer %d, schedule %d or max_bad_steps "
                         "%d make no sense", (int)r->optimizer, (int)r->schedule, r->max_bad_steps);
    return GLAM_OK;
}

// ---- sums over a tensor, in chunks of a fixed size joined as a tree

enum { GLAM__SUM_CHUNK = 8192 };

typedef struct glam__chunks {
    void (*chunk)(void *arg, size_t from, size_t count, double *sum);
    void *arg;
    size_t begin, n;
    double *sums;
} glam__chunks;

static void glam__chunks_body(void *arg, int begin, int end, int worker GLAM__UNUSED)
{
    const glam__chunks *c = (const glam__chunks *)arg;
    for (int i = begin; i < end; i++) {
        size_t from = (size_t)i * GLAM__SUM_CHUNK, left = c->n - from;
        c->chunk(c->arg, c->begin + from,
                 (size_t)glam__lesser(left, GLAM__SUM_CHUNK), &c->sums[i]);
    }
}

static double glam__tree(double *x, int n)
{
    glam__tree_doubles(x, n, 1, 1);
    return n > 0 ? x[0] : 0;
}

static double glam__each_chunk(glam_ctx *ctx, size_t begin, size_t n,
                               void (*chunk)(void *, size_t, size_t, double *), void *arg)
{
    size_t used = ctx->scratch.used;
    int count = (int)((n + GLAM__SUM_CHUNK - 1) / GLAM__SUM_CHUNK);
    if (ctx->base.measuring) return 0;
    double *sums = (double *)glam_scratch(ctx, (size_t)count * sizeof *sums);
    glam__chunks c = { chunk, arg, begin, n, sums };
    glam__parallel(ctx, count, 16.0 * (double)n, glam__chunks_body, &c);
    ctx->scratch.used = used;
    return glam__tree(c.sums, count);
}

// Experts of a tensor that are here: their sums are made apart, and joined as a tree over all.
static int glam__slices(const glam_tensor *t) { return t->shape.dims == 3 ? t->shape.dim[0] : 1; }

static void glam__each_slice(glam_ctx *ctx, const glam_tensor *t,
                             void (*chunk)(void *, size_t, size_t, double *), void *arg,
                             double *sums)
{
    size_t slices = (size_t)glam__slices(t), n = glam_size(t) / slices;
    for (size_t e = 0; e < slices; e++) sums[e] = glam__each_chunk(ctx, e * n, n, chunk, arg);
}

// ---- the optimiser

typedef struct glam__slot {
    const char *name;
    float *data;
    glam_shape shape;
    glam__split *split;            // as of its tensor
} glam__slot;

struct glam_optimizer {
    glam_ctx     *ctx;
    glam_recipe   recipe;
    glam_tensor **params;
    glam__slot (*state)[2];       // of each parameter; the second may be absent (data NULL)
    int count, step;               // steps taken
    int bad_row, bad_steps;        // not finite: in a row, in all
    double *squares;               // of each gradient's elements; negative: not summed yet
    double *weights;               // Adafactor: of each tensor's elements
    double *sums;                  // of the slices of all parameters; on a mesh: twice
    int *at;                       // slices of the parameters before each, and of all
    float *set;                    // all gradients, each at its pack->grad_at
    uint64_t floats;               // in a set
    int torn;                      // update_in_backward: one was not finite, nothing moves any more
    int tried;                     // an update was tried before it was made
};

// Adafactor's axes: the last two, never the experts; the largest is d0, of equal ones the later.
// 0: not factored.
static int glam__factored(const glam_recipe *r, glam_shape s)
{
    if (s.dims < 2) return 0;
    int a = s.dim[s.dims - 2], b = s.dim[s.dims - 1];
    return glam__min(a, b) >= r->factor_min;
}

// A slot that lacks dimension `without` of its tensor (-1: none) is split as the rest is.
static void glam__slot_split(glam_optimizer *o, int param, int which, int without)
{
    const glam__split *of = o->params[param]->split;
    glam__slot *s = &o->state[param][which];
    if (of) s->split = GLAM__NEW(o->ctx, life, glam__split, 1);
    if (!of || !s->split) return;
    *s->split = *of;
    if (without < 0) return;
    s->split->whole.dims--;
    s->split->mine.dims--;
    for (int d = without; d < 4; d++) {
        s->split->whole.dim[d] = d < 3 ? of->whole.dim[d + 1] : 1;
        s->split->mine.dim[d] = d < 3 ? of->mine.dim[d + 1] : 1;
        s->split->at[d] = d < 3 ? of->at[d + 1] : 0;
        s->split->over[d] = d < 3 ? of->over[d + 1] : 0;
    }
}

static glam_status glam__slot_new(glam_optimizer *o, int param, int which, const char *name,
                                  glam_shape shape, int without)
{
    glam__slot *s = &o->state[param][which];
    glam__slot_split(o, param, which, without);
    s->name = name;
    s->shape = shape;
    s->data = glam__take_values(o->ctx, &o->ctx->base.life, glam__count(shape));
    if (s->data) memset(s->data, 0, (size_t)glam__count(shape) * sizeof(float));
    return o->ctx->error;
}

static glam_status glam__slots_new(glam_optimizer *o, int param)
{
    const glam_tensor *t = o->params[param];
    glam_shape s = t->shape, whole = glam__whole(t), rows = s, cols = s;
    if (o->recipe.optimizer == GLAM_ADAMW) {
        if (glam__slot_new(o, param, 0, "m", s, -1) != GLAM_OK) return o->ctx->error;
        return glam__slot_new(o, param, 1, "v", s, -1);
    }
    if (!glam__factored(&o->recipe, whole)) return glam__slot_new(o, param, 0, "v", s, -1);
    int a = whole.dim[s.dims - 2], b = whole.dim[s.dims - 1];
    rows.dims = cols.dims = s.dims - 1;
    rows.dim[s.dims - 1] = cols.dim[s.dims - 1] = 1;
    cols.dim[s.dims - 2] = s.dim[s.dims - 1];          // rows keeps the statistics of rows
    // vr is the mean over d0, the larger axis; vc over the smaller
    int r = s.dims - 1, c = s.dims - 2;                // what is missing in rows, in cols
    if (glam__slot_new(o, param, 0, "vr", b >= a ? rows : cols, b >= a ? r : c) != GLAM_OK)
        return o->ctx->error;
    return glam__slot_new(o, param, 1, "vc", b >= a ? cols : rows, b >= a ? c : r);
}

static int glam__optimizer_slots(const glam_optimizer *o, int param, glam__slot out[2])
{
    out[0] = o->state[param][0];
    out[1] = o->state[param][1];
    return out[1].name ? 2 : 1;
}

// Gradients belong to the optimiser no longer: its memory goes.
static void glam__optimizer_gone(glam_ctx *ctx GLAM__UNUSED, void *arg)
{
    glam_optimizer *o = (glam_optimizer *)arg;
    for (int i = 0; i < o->count; i++) {
        o->params[i]->grad = NULL;
        o->params[i]->flags &= ~(GLAM__STATE | GLAM__OWNED);
    }
}

// Rows of a factored tensor that one task takes, and the scratch of one such update.
enum { GLAM__FACTOR_ROWS = 64 };

static uint64_t glam__update_scratch(const glam_recipe *r, const glam_tensor *t)
{
    uint64_t n = glam__count(t->shape);
    uint64_t bytes = glam__align((n / GLAM__SUM_CHUNK + 2) * sizeof(double));
    if (r->optimizer == GLAM_ADAMW || !glam__factored(r, glam__whole(t))) return 2 * bytes;
    const int *d = &t->shape.dim[t->shape.dims - 2];
    uint64_t a = (uint64_t)d[0], b = (uint64_t)d[1];
    uint64_t slices = n / (a * b), chunks = (a + GLAM__FACTOR_ROWS - 1) / GLAM__FACTOR_ROWS;
    return 2 * bytes + glam__floats(slices * chunks * b) + glam__floats(slices * a) +
           glam__floats(slices * b) + glam__align(slices * chunks * sizeof(double));
}

static float *glam__gradients_new(glam_optimizer *o)
{ return glam__take_values(o->ctx, &o->ctx->base.life, o->floats); }

// The gradients are those of this set, with nothing in them yet; none where backward updates.
static void glam__gradients_use(glam_optimizer *o, float *set)
{
    o->set = set;
    for (int i = 0; i < o->count && !o->recipe.update_in_backward; i++) {
        o->params[i]->grad = set ? set + o->params[i]->pack->grad_at : NULL;
        glam__grad_put(o->params[i], GLAM__EMPTY);
    }
}

GLAM_API glam_optimizer *glam_optimizer_new(glam_ctx *ctx, glam_tensor *const *params, int count,
                                            const glam_recipe *recipe)
{
    glam_recipe r = recipe ? *recipe : glam_recipe_default();
    uint64_t scratch = 0, room = (uint64_t)glam__max(count, 1);
    if (!ctx || ctx->error || glam__recipe_check(ctx, &r) != GLAM_OK) return NULL;
    size_t mark = glam_mark(ctx);
    glam_optimizer *o = GLAM__NEW(ctx, life, glam_optimizer, 1);
    if (!o) return NULL;
    o->ctx = ctx;
    o->recipe = r;
    o->params = GLAM__NEW(ctx, life, glam_tensor *, room);
    o->state = (glam__slot (*)[2])glam__take(ctx, &ctx->base.life, room * sizeof *o->state);
    o->at = GLAM__NEW(ctx, life, int, room + 1);
    o->squares = GLAM__NEW(ctx, life, double, 2 * room);
    o->weights = o->squares + room;
    if (ctx->error) return (glam_optimizer *)glam__made(ctx, mark, NULL);
    glam__on_rewind(ctx, glam__optimizer_gone, o);
    for (int i = 0; i < count && params && !ctx->error; i++) {
        glam_tensor *t = params[i];
        if (!t || !(t->flags & GLAM__LIFE)) {
            glam_fail(ctx, GLAM_ERR_VALUE, "optimizer: tensor %d is no parameter; glam_param makes "
                      "one", i);
        } else if (t->wants_grad && t->flags & GLAM__OWNED) {
            glam_fail(ctx, GLAM_ERR_STATE, "optimizer: %s is trained by another one; "
                      "glam_rewind to a mark from before it gives it back", t->name);
        } else if (t->wants_grad) {
            t->flags |= GLAM__OWNED;
            t->pack->grad_at = o->floats;
            o->floats += glam__floats(glam__count(t->shape)) / sizeof(float);
            o->params[o->count++] = t;
            o->at[o->count] = o->at[o->count - 1] + glam__slices(t);
            glam__slots_new(o, o->count - 1);
            if (glam__update_scratch(&r, t) > scratch) scratch = glam__update_scratch(&r, t);
        }
    }
    if (!o->count)
        glam_fail(ctx, GLAM_ERR_VALUE, "optimizer: none of the %d tensors wants a gradient; is "
                  "everything frozen?", count);
    if (!r.update_in_backward && !ctx->error) glam__gradients_use(o, glam__gradients_new(o));
    uint64_t sums = (uint64_t)(ctx->mesh ? 2 : 1) * (uint64_t)o->at[o->count] + 1;
    o->sums = GLAM__NEW(ctx, life, double, sums);
    glam__reserve_scratch(ctx, scratch);
    return (glam_optimizer *)glam__made(ctx, mark, o);
}

// ---- sums over tensors that are split over ranks

// The sum over a group of each of n doubles, as a tree over ranks; all ranks have it.
static void glam__group_sums(glam_ctx *ctx, glam_comm *c, double *values, size_t n)
{
    glam__mesh *m = ctx->mesh;
    double *all = (double *)(void *)m->work;           // room for GLAM__BUCKET / 2
    size_t most = GLAM__BUCKET / 2 / (size_t)c->size;
    for (size_t from = 0, count; c->size > 1 && from < n && !ctx->error; from += count) {
        count = (size_t)glam__lesser(n - from, most);
        memcpy(all + (size_t)c->rank * count, values + from, count * sizeof *all);
        glam__all_gather(ctx, c, &m->sent.sums, all, (size_t)c->size * count, sizeof *all);
        glam__tree_doubles(all, c->size, count, count);
        memcpy(values + from, all, count * sizeof *all);
    }
}

// Where the sums of parameter i lie, behind those of parameter `first`.
static double *glam__sums_of(const glam_optimizer *o, int first, int i, double *sums)
{ return sums + (o->at[i] - o->at[first]); }

static int glam__experts_over(const glam_tensor *t)
{ return t->shape.dims > 2 && glam__dim_over(t, 3); }

// Over what ranks sums are made: those that share a tensor's matrices, X those that share experts.
static int glam__sums_over(const glam_tensor *t)
{
    int over = glam__dim_over(t, 1) | (t->shape.dims > 1 ? glam__dim_over(t, 2) : 0);
    return glam__experts_over(t) ? over | GLAM__OVER_EXPERTS : over;
}

// The sums of the tensors that are over a group, one after the other to `moved`, or back; how many.
static size_t glam__sums_move(glam_optimizer *o, int first, int count, double *sums, int group,
                              double *moved, int back)
{
    size_t n = 0;
    for (int i = first; i < first + count; i++) {
        if (!(glam__sums_over(o->params[i]) & group)) continue;
        double *at = glam__sums_of(o, first, i, sums), *with = moved + n;
        size_t slices = (size_t)glam__slices(o->params[i]);
        memcpy(back ? at : with, back ? with : at, slices * sizeof *at);
        n += slices;
    }
    return n;
}

// Totals of tensors whose experts lie on X ranks: a tree over all experts, in their order.
static void glam__totals_of_experts(glam_optimizer *o, int first, int count, double *sums,
                                    double *totals)
{
    glam__mesh *m = o->ctx->mesh;
    double *all = (double *)(void *)m->work, *tree = (double *)(void *)m->bucket;
    size_t n = glam__sums_move(o, first, count, sums, GLAM__OVER_EXPERTS, tree, 0), from = 0;
    if (!n) return;
    memcpy(all + (size_t)m->ix * n, tree, n * sizeof *all);
    glam__all_gather(o->ctx, &m->x, &m->sent.sums, all, (size_t)m->X * n, sizeof *all);
    for (int i = first; i < first + count; i++) {
        size_t slices = (size_t)glam__slices(o->params[i]);
        if (!glam__experts_over(o->params[i])) continue;
        for (size_t x = 0; x < (size_t)m->X; x++)
            memcpy(tree + x * slices, all + x * n + from, slices * sizeof *all);
        totals[i - first] = glam__tree(tree, (int)slices * m->X);
        from += slices;
    }
}

// From the sums of the slices that are here, one tensor after the other, to those of the whole
// tensors.  What sums held is used up.
static void glam__totals(glam_optimizer *o, int first, int count, double *sums, double *totals)
{
    glam__mesh *m = o->ctx->mesh;
    size_t n = (size_t)(o->at[first + count] - o->at[first]);
    if (m && count > 1 && n * (size_t)m->X > GLAM__BUCKET / 2) {       // more than moves at once
        for (int i = 0; i < count; i++)
            glam__totals(o, first + i, 1, glam__sums_of(o, first, first + i, sums), totals + i);
        return;
    }
    for (int group = m ? GLAM__OVER_Y : 0; group; group /= 2) {        // then X
        double *moved = (double *)(void *)m->bucket;
        n = glam__sums_move(o, first, count, sums, group, moved, 0);
        glam__group_sums(o->ctx, group == GLAM__OVER_Y ? &m->y : &m->x, moved, n);
        glam__sums_move(o, first, count, sums, group, moved, 1);
    }
    if (m) glam__totals_of_experts(o, first, count, sums, totals);
    for (int i = first; i < first + count; i++)
        if (!glam__experts_over(o->params[i]))
            totals[i - first] = glam__tree(glam__sums_of(o, first, i, sums),
                                           glam__slices(o->params[i]));
}

// What one tensor's update needs.
typedef struct glam__updating {
    glam_optimizer *o;
    const glam__kernels *kernels;
    glam_tensor *t;
    glam__slot *state;
    double lr, decay2;             // rate of this tensor; Adafactor's decay of this step
    const float *squared;          // whose squares are summed
    float s;                       // clip factor on the gradient
    float step;                    // Adafactor: factor on u
    int dry;                       // AdamW: only count what would not be finite
    int rows, cols, chunks;        // of one expert's matrix; row chunks of it
    int all_rows, all_cols, wide;  // of the whole; wide: vr are the rows' statistics
    int sums_of_rows;              // columns are split: the means of rows come later
    float *partial, *row, *col;    // scratch of the factored form
    double *sums;
} glam__updating;

static void glam__squares_chunk(void *arg, size_t from, size_t count, double *sum)
{
    const glam__updating *u = (const glam__updating *)arg;
    *sum = u->kernels->sum_squares(count, u->squared + from);
    if (!u->kernels->finite(count, u->squared + from)) *sum = 1e301;    // also under -ffast-math
}

// 1 when the last part of a tensor's name is one of the words: "layers.0.moe.router" is "router".
static int glam__called(const char *name, const char *words)
{
    const char *dot = strrchr(name, '.');
    return glam__globs(words, dot ? dot + 1 : name);
}

// Weight decay pulls matrices; tables that are looked up and the router are left alone.
static int glam__decays(const glam_recipe *r, const glam_tensor *t)
{
    return t->shape.dims >= 2 && !(t->flags & GLAM__PARTLY) &&
           (r->decay_all || !glam__called(t->name, "embed unembed bias router u v_bias"));
}

// The position buckets, where their steps are not relative to their size.
static int glam__own_rate(const glam_recipe *r, const glam_tensor *t)
{ return r->bias_lr > 0 && glam__called(t->name, "bias"); }

// Decoupled weight decay and bias correction (Loshchilov and Hutter 2019).
static void glam__adamw_chunk(void *arg, size_t from, size_t count, double *sum)
{
    const glam__updating *u = (const glam__updating *)arg;
    const glam_recipe *r = &u->o->recipe;
    int t = u->o->step + 1;
    float *w = u->t->data + from, *m = u->state[0].data + from, *v = u->state[1].data + from;
    float held[3][256];
    size_t n = u->dry ? 256 : count;
    *sum = 0;
    for (size_t at = 0; at < count; at += n) {
        float *to[3] = { w + at, m + at, v + at };
        if (n > count - at) n = count - at;
        for (int i = 0; i < 3 && u->dry; i++)
            to[i] = (float *)memcpy(held[i], to[i], n * sizeof(float));
        u->kernels->adamw(n, to[0], u->t->grad + from + at, to[1], to[2], u->s, (float)r->beta1,
                          (float)r->beta2, (float)(1 / (1 - pow(r->beta1, t))),
                          (float)(1 / (1 - pow(r->beta2, t))), (float)r->eps, (float)u->lr,
                          glam__decays(r, u->t) ? (float)r->weight_decay : 0.0f);
        for (int i = 0; i < 3 && u->dry; i++) *sum += !u->kernels->finite(n, to[i]);
    }
}

static void glam__none_chunk(void *arg, size_t from, size_t count, double *sum)
{
    const glam__updating *u = (const glam__updating *)arg;
    *sum = u->kernels->factor_none(count, u->t->grad + from, u->state[0].data + from, u->s,
                                   (float)u->decay2, (float)u->o->recipe.eps1);
}

static void glam__none_step_chunk(void *arg, size_t from, size_t count, double *sum)
{
    const glam__updating *u = (const glam__updating *)arg;
    *sum = 0;
    u->kernels->factor_none_step(count, u->t->data + from, u->t->grad + from,
                                 u->state[0].data + from, u->s, u->step);
}

// Rows [r0,r1) of slice e in chunk number i.
static int glam__factor_rows(const glam__updating *u, int i, int *r0, int *r1)
{
    *r0 = i % u->chunks * GLAM__FACTOR_ROWS;
    *r1 = glam__min(*r0 + GLAM__FACTOR_ROWS, u->rows);
    return i / u->chunks;
}

// Means of s = g^2 + eps1 over the rows, and sums for the columns by chunk of rows.
static void glam__factor_stats_body(void *arg, int begin, int end, int worker GLAM__UNUSED)
{
    const glam__updating *u = (const glam__updating *)arg;
    int r0, r1;
    for (int i = begin; i < end; i++) {
        int e = glam__factor_rows(u, i, &r0, &r1);
        float *cols = u->partial + (size_t)i * u->cols;
        memset(cols, 0, (size_t)u->cols * sizeof(float));
        for (int r = r0; r < r1; r++) {
            const float *g = u->t->grad + ((size_t)e * u->rows + r) * u->cols;
            double sum = u->kernels->sum_squares((size_t)u->cols, g) * (double)u->s * (double)u->s;
            u->row[(size_t)e * u->rows + r] = (float)(u->sums_of_rows ? sum
                                                      : sum / u->cols + u->o->recipe.eps1);
            u->kernels->add_squares(u->cols, g, cols);
        }
    }
}

// v = decay v + (1-decay) now, elementwise.
static void glam__blend(float *v, const float *now, size_t n, double decay)
{
    for (size_t i = 0; i < n; i++)
        v[i] = (float)(decay * (double)v[i] + (1 - decay) * (double)now[i]);
}

// From statistics to factors: 1/sqrt(vr / mean(vr)) and 1/sqrt(vc), per expert; sum: of vr.
static void glam__factor_roots(const glam__updating *u, int e, double sum)
{
    const float *vr = u->state[0].data, *vc = u->state[1].data;
    const float *row = (u->wide ? vr : vc) + (size_t)e * u->rows;
    const float *col = (u->wide ? vc : vr) + (size_t)e * u->cols;
    double mean = sum / (u->wide ? u->all_rows : u->all_cols);
    double over_rows = u->wide ? mean : 1, over_cols = u->wide ? 1 : mean;
    for (int i = 0; i < u->rows; i++)
        u->row[(size_t)e * u->rows + i] = (float)sqrt(over_rows / (double)row[i]);
    for (int i = 0; i < u->cols; i++)
        u->col[(size_t)e * u->cols + i] = (float)sqrt(over_cols / (double)col[i]);
}

static void glam__factor_norm_body(void *arg, int begin, int end, int worker GLAM__UNUSED)
{
    const glam__updating *u = (const glam__updating *)arg;
    int r0, r1;
    for (int i = begin; i < end; i++) {
        int e = glam__factor_rows(u, i, &r0, &r1);
        u->sums[i] = 0;
        for (int r = r0; r < r1; r++)
            u->sums[i] += u->kernels->factor_row(
                u->cols, u->t->grad + ((size_t)e * u->rows + r) * u->cols,
                u->col + (size_t)e * u->cols, u->row[(size_t)e * u->rows + r], u->s);
    }
}

static void glam__factor_step_body(void *arg, int begin, int end, int worker GLAM__UNUSED)
{
    const glam__updating *u = (const glam__updating *)arg;
    int r0, r1;
    for (int i = begin; i < end; i++) {
        int e = glam__factor_rows(u, i, &r0, &r1);
        for (int r = r0; r < r1; r++) {
            size_t at = ((size_t)e * u->rows + r) * u->cols;
            u->kernels->factor_row_step(u->cols, u->t->data + at, u->t->grad + at,
                                        u->col + (size_t)e * u->cols,
                                        u->row[(size_t)e * u->rows + r], u->s, u->step);
        }
    }
}

// Statistics whose sums were over a part of the rows or columns become the means of the whole.
static void glam__factor_whole(const glam__updating *u, float *v, size_t n, int over, int count)
{
    glam_ctx *ctx = u->o->ctx;
    if (!over) return;
    if (over & GLAM__OVER_Y) glam__all_reduce(ctx, &ctx->mesh->y, &ctx->mesh->sent.sums, v, n);
    if (over & GLAM__OVER_X) glam__all_reduce(ctx, &ctx->mesh->x, &ctx->mesh->sent.sums, v, n);
    for (size_t i = 0; i < n && !ctx->base.measuring; i++)
        v[i] = (float)((double)v[i] / count + u->o->recipe.eps1);
}

// Sums for the columns, from those of the chunks of rows; means, unless others have more rows.
static void glam__factor_columns(const glam__updating *u, int slices, int over)
{
    double square = (double)u->s * (double)u->s;
    for (int e = 0; e < slices; e++)
        for (int c = 0; c < u->cols; c++) {
            double sum = 0;
            for (int i = 0; i < u->chunks; i++)
                sum += (double)u->partial[((size_t)e * u->chunks + i) * u->cols + c];
            u->col[(size_t)e * u->cols + c] = (float)(over ? sum * square
                                              : sum * square / u->rows + u->o->recipe.eps1);
        }
}

// Statistics, factors, and the sums of u^2 by slice in o->sums; returns the tasks of the step.
// While measuring nothing is here, and only what is sent is counted.
static int glam__factor_prepare(glam_ctx *ctx, glam__updating *u)
{
    glam_shape s = u->t->shape, whole = glam__whole(u->t);
    int slices = glam__slices(u->t), over_rows = glam__dim_over(u->t, 2);
    int over_cols = glam__dim_over(u->t, 1), here = ctx->base.measuring ? 0 : slices;
    u->rows = s.dim[s.dims - 2];
    u->cols = s.dim[s.dims - 1];
    u->all_rows = whole.dim[s.dims - 2];
    u->all_cols = whole.dim[s.dims - 1];
    u->wide = u->all_cols >= u->all_rows;
    u->sums_of_rows = over_cols;
    u->chunks = glam__ceil_div(u->rows, GLAM__FACTOR_ROWS);
    int tasks = here * u->chunks;
    u->partial = glam__scratch_floats(ctx, (size_t)tasks * u->cols);
    u->row = glam__scratch_floats(ctx, (size_t)slices * u->rows);
    u->col = glam__scratch_floats(ctx, (size_t)slices * u->cols);
    u->sums = (double *)glam_scratch(ctx, (size_t)tasks * sizeof(double));
    double work = 3.0 * (double)glam_size(u->t), *means = u->o->sums;
    size_t rows = (size_t)slices * u->rows, cols = (size_t)slices * u->cols;
    glam__parallel(ctx, tasks, work, glam__factor_stats_body, u);
    glam__factor_columns(u, here, over_rows);
    glam__factor_whole(u, u->row, rows, over_cols, u->all_cols);
    glam__factor_whole(u, u->col, cols, over_rows, u->all_rows);
    glam__blend(u->state[u->wide ? 0 : 1].data, u->row, here ? rows : 0, u->decay2);
    glam__blend(u->state[u->wide ? 1 : 0].data, u->col, here ? cols : 0, u->decay2);
    int count = u->wide ? u->rows : u->cols, over = u->wide ? over_rows : over_cols;
    for (int e = 0; e < here; e++) {
        means[e] = 0;
        for (int i = 0; i < count; i++)
            means[e] += (double)u->state[0].data[(size_t)e * count + i];
    }
    if (over & GLAM__OVER_Y) glam__group_sums(ctx, &ctx->mesh->y, means, (size_t)slices);
    if (over & GLAM__OVER_X) glam__group_sums(ctx, &ctx->mesh->x, means, (size_t)slices);
    for (int e = 0; e < here; e++) glam__factor_roots(u, e, means[e]);
    glam__parallel(ctx, tasks, work, glam__factor_norm_body, u);
    for (int e = 0; e < here; e++)
        u->o->sums[e] = glam__tree(u->sums + (size_t)e * u->chunks, u->chunks);
    return tasks;
}

static double glam__update_clip(const glam_recipe *r)
{ return r->update_clip < 1e10 ? r->update_clip : 1e10; }

// Adafactor's steps are relative to the RMS of the weights.
static double glam__factor_scale(const glam_optimizer *o, int param)
{
    const glam_recipe *r = &o->recipe;
    const glam_tensor *t = o->params[param];
    double weights = sqrt(o->weights[param] / (double)glam__count(glam__whole(t)));
    if (!r->parameter_scale || glam__own_rate(r, t)) return 1;
    return weights > r->eps2 ? weights : r->eps2;
}

// Adafactor (Shazeer and Stern 2018): u clipped by its RMS, the step relative to the weights' RMS.
static void glam__adafactor(glam_ctx *ctx, glam__updating *u, int param)
{
    glam_optimizer *o = u->o;
    const glam_recipe *r = &o->recipe;
    double n = (double)glam__count(glam__whole(u->t)), squares;
    int factored = glam__factored(r, glam__whole(u->t)), tasks = 0;
    u->decay2 = 1 - pow(o->step + 1, -0.8);
    if (factored) tasks = glam__factor_prepare(ctx, u);
    else glam__each_slice(ctx, u->t, glam__none_chunk, u, o->sums);
    glam__totals(o, param, 1, o->sums, &squares);
    double rms = sqrt(squares / n) / glam__update_clip(r);
    u->step = (float)(u->lr * glam__factor_scale(o, param) / (rms > 1 ? rms : 1));
    if (factored) glam__parallel(ctx, tasks, 4.0 * (double)glam_size(u->t),
                                 glam__factor_step_body, u);
    else glam__each_chunk(ctx, 0, glam_size(u->t), glam__none_step_chunk, u);
}

static int glam__finite(double x) { return glam__within(x, -1e300, 1e300); }

// Sums of the squares of one gradient (or of the weights), by slice; beyond any number when an
// element is not finite.
static void glam__squares_of(glam_optimizer *o, int i, int weights, double *sums)
{
    glam__updating u;
    memset(&u, 0, sizeof u);
    u.kernels = o->ctx->simd.kernels;
    glam_tensor *t = o->params[i];
    if (!weights && !o->ctx->base.measuring) glam__grad_settle(t);
    u.squared = weights ? t->data : t->grad;
    glam__each_slice(o->ctx, t, glam__squares_chunk, &u, sums);
}

// Both of one tensor, on one rank; returns those of the gradient.
static double glam__tensor_squares(glam_optimizer *o, int i)
{
    int slices = glam__slices(o->params[i]);
    glam__squares_of(o, i, 0, o->sums);
    o->squares[i] = glam__tree(o->sums, slices);
    if (o->recipe.optimizer == GLAM_ADAMW) return o->squares[i];
    glam__squares_of(o, i, 1, o->sums);
    o->weights[i] = glam__tree(o->sums, slices);
    return o->squares[i];
}

// On a mesh: of all gradients and weights, all at once.
static void glam__mesh_squares(glam_optimizer *o)
{
    for (int weights = 0; weights < (o->recipe.optimizer == GLAM_ADAMW ? 1 : 2); weights++) {
        for (int i = 0; i < o->count; i++)
            glam__squares_of(o, i, weights, glam__sums_of(o, 0, i, o->sums));
        glam__totals(o, 0, o->count, o->sums, weights ? o->weights : o->squares);
    }
}

static glam__updating glam__updating_of(glam_optimizer *o, int i, double s)
{
    glam__updating u;
    memset(&u, 0, sizeof u);
    u.o = o;
    u.kernels = o->ctx->simd.kernels;
    u.t = o->params[i];
    u.state = o->state[i];
    u.s = (float)s;
    u.lr = glam_recipe_lr(&o->recipe, o->step) *
           (glam__called(u.t->name, "embed unembed") ? o->recipe.embed_lr :
            glam__own_rate(&o->recipe, u.t) ? o->recipe.bias_lr : 1);
    return u;
}

// Gradients whose squares floats hold; an update of less than FLT_MAX / 2^25 changes no weight
// into an infinity.  Numbers at hand say so of every healthy step, and nothing is paid for it; an
// AdamW whose rate, decay or eps is out of all proportion is tried before anything is written.
static int glam__update_fits(glam_optimizer *o, int i, double squares, double s)
{
    const glam_recipe *r = &o->recipe;
    glam__updating u = glam__updating_of(o, i, s);
    double n = (double)glam__count(glam__whole(u.t));
    if (!glam__finite(squares) || !(squares * s * s < 1e36)) return 0;
    if (r->optimizer != GLAM_ADAMW)
        return glam__within(u.lr * glam__factor_scale(o, i) * glam__update_clip(r) * sqrt(n), 0,
                            1e31);
    if (u.lr * r->weight_decay <= 1 && u.lr * 1e18 / r->eps < 1e31) return 1;
    u.dry = o->tried = 1;
    return glam__each_chunk(o->ctx, 0, glam_size(u.t), glam__adamw_chunk, &u) <= 0;
}

// One tensor's step; s scales its gradient.
static void glam__update_tensor(glam_optimizer *o, int i, double s)
{
    glam__updating u = glam__updating_of(o, i, s);
    if (o->recipe.optimizer == GLAM_ADAMW)
        glam__each_chunk(o->ctx, 0, glam_size(u.t), glam__adamw_chunk, &u);
    else glam__adafactor(o->ctx, &u, i);
    o->ctx->scratch.used = 0;
}

// Backward has walked the last use of t: its step runs now, its gradient's memory is free.
static void glam__update_whole(void *arg, glam_tensor *t)
{
    glam_optimizer *o = (glam_optimizer *)arg;
    int i = 0;
    while (i < o->count && o->params[i] != t) i++;
    if (i == o->count) return;                         // somebody else's
    if (o->squares[i] >= 0)
        glam_fail(o->ctx, GLAM_ERR_STATE, "update_in_backward: %s is used by two recomputed "
                  "blocks; the first had updated it when the second wanted it", t->name);
    glam__grad_open(o->ctx, t);                        // of a tensor that no gradient reached
    o->squares[i] = 0;
    if (!o->ctx->base.measuring && !o->ctx->error && !o->torn) {
        o->torn = !glam__update_fits(o, i, glam__tensor_squares(o, i), 1);
        if (!o->torn) glam__update_tensor(o, i, 1);
    }
    glam__grad_recycle(o->ctx, t);
}

// On a mesh: the sum over X of every gradient whose tensor X does not split.
static void glam__reduce_gradients(glam_optimizer *o)
{
    glam_ctx *ctx = o->ctx;
    if (!ctx->mesh || ctx->mesh->X == 1) return;
    glam__bucket b = { ctx, &ctx->mesh->x, &ctx->mesh->sent.gradients, 0, 0, { { NULL, 0 } } };
    glam__agree(ctx, "gradients", 0);
    for (int i = 0; i < o->count && !ctx->error; i++) {
        if (glam__is_over(o->params[i], GLAM__OVER_X)) continue;
        if (!ctx->base.measuring) glam__grad_settle(o->params[i]);
        glam__bucket_add(&b, o->params[i]->grad, glam_size(o->params[i]));
    }
    if (b.used) glam__bucket_flush(&b);
}

// Gradients of a loss for an optimiser.  A loss that is not finite updates nothing.
static glam_status glam__optimizer_backward(glam_optimizer *o, glam_tensor *loss)
{
    glam_ctx *ctx = o->ctx;
    for (int i = 0; i < o->count; i++) o->squares[i] = -1;
    o->torn = 0;
    if (!o->recipe.update_in_backward) {
        glam_backward(ctx, loss);
        glam__reduce_gradients(o);
        return ctx->error;
    }
    if (loss && loss->data && !ctx->simd.kernels->finite(1, loss->data)) return GLAM_OK;
    for (int i = 0; i < o->count; i++) o->params[i]->pack->uses = 0;
    ctx->train.whole = glam__update_whole;
    ctx->train.whole_arg = o;
    glam_backward(ctx, loss);
    for (int i = 0; i < o->count && !ctx->error; i++)
        if (o->squares[i] < 0) glam__update_whole(o, o->params[i]);
    ctx->train.whole = NULL;
    return ctx->error;
}

static void glam__skip(glam_optimizer *o, glam_report *report)
{
    report->skipped = 1;
    o->bad_steps++;
    if (++o->bad_row >= o->recipe.max_bad_steps)
        glam_fail(o->ctx, GLAM_ERR_NUMERIC, "training: %d steps in a row were not finite; go back "
                  "to a checkpoint, or lower the learning rate", o->bad_row);
}

// Check, clip, step: the gradients are there, or have been used.  finite_loss 0 skips the step.
static glam_status glam__optimizer_step(glam_optimizer *o, int finite_loss, glam_report *report)
{
    const int before = o->recipe.update_in_backward;
    glam_ctx *ctx = o->ctx;
    double sum = 0;
    report->lr = glam_recipe_lr(&o->recipe, o->step);
    finite_loss = !glam__agree(ctx, "update", !finite_loss);
    if (ctx->error || (ctx->base.measuring && !ctx->mesh)) return ctx->error;
    if (ctx->mesh) glam__mesh_squares(o);
    if (ctx->error) return ctx->error;
    for (int i = 0; i < o->count; i++) {
        sum += before || ctx->mesh ? o->squares[i] : glam__tensor_squares(o, i);
    }
    report->grad_norm = sqrt(sum);
    report->torn = before && finite_loss && o->torn;
    if (report->torn)
        glam__log(ctx, "training: an update was not finite when part of the weights had moved; "
                  "go back to a checkpoint");
    double s = o->recipe.clip > 0 && report->grad_norm > o->recipe.clip
             ? o->recipe.clip / report->grad_norm : 1;
    int fits = finite_loss && !o->torn && glam__finite(sum);
    o->tried = 0;
    for (int i = 0; i < o->count && !before && fits; i++)
        fits = glam__update_fits(o, i, sum, s);
    // ranks have other parts of a tensor that is tried, and must do the same
    if (o->tried) fits = !glam__agree(ctx, "update tried", !fits);
    if (ctx->error) return ctx->error;
    if (!fits) {
        glam__skip(o, report);
    } else {
        for (int i = 0; i < o->count && !before; i++) glam__update_tensor(o, i, s);
        o->bad_row = 0;
        o->step++;
    }
    ctx->products.epoch++;                     // panels of the old weights are stale
    report->bad_steps = o->bad_steps;
    glam__gradients_use(o, o->set);
    return ctx->error;
}

GLAM_API glam_status glam_update(glam_optimizer *optimizer, glam_tensor *loss, glam_report *report)
{
    glam_report own, *r = report ? report : &own;
    memset(r, 0, sizeof *r);
    r->valid_loss = -1;
    if (!optimizer) return GLAM_ERR_MEMORY;
    glam_ctx *ctx = optimizer->ctx;
    if (glam__optimizer_backward(optimizer, loss) != GLAM_OK) return glam__farewell(ctx);
    int finite = ctx->base.measuring || ctx->simd.kernels->finite(1, loss->data);
    r->loss = r->total = ctx->base.measuring ? 0 : (double)loss->data[0];
    glam__optimizer_step(optimizer, finite, r);
    r->step = optimizer->step;
    r->steps = optimizer->recipe.steps;
    r->bytes = ctx->base.held;
    ctx->train.updates++;
    glam__end_step(ctx);
    return glam__farewell(ctx);
}

// ---- the trainer

struct glam_trainer {
    glam_model     *model;
    glam_text      *train, *valid;
    glam_optimizer *optimizer;
    glam_recipe     recipe;
    int      step, bad_evals, stopped, aux_off;
    int      documents;            // the text knows its documents
    int      owed;                 // the step is done, its validation failed and can be repeated
    uint64_t tokens;
    double   told;                 // tokens that this step predicts
    double   best_valid, valid_loss, seconds, work;   // work: FLOPs of a token
    float   *first, **saved;       // its set; [levels] sets of gradients, of earlier parts
    int      levels, rounds;       // rounds: parts that each rank does of a step
    char    *round;                // [X] what the ranks say of their parts, see glam__round_sums
    int     *load, *starved, *crowded;   // [layers*E] of this step; in a row
    double   sums[8];              // of the parts of this step: see glam__part_sums
    char     summary[256];
    glam_report last;
};

enum { GLAM__SUM_XENT, GLAM__SUM_Z, GLAM__SUM_AUX, GLAM__SUM_ROUTER_Z, GLAM__SUM_ENTROPY,
       GLAM__SUM_DROPPED, GLAM__SUM_CHOICES, GLAM__SUM_TUNED, GLAM__SUM_COUNT };

static glam_status glam__trainer_check(glam_model *model, const glam_text *train,
                                       const glam_recipe *r)
{
    glam_ctx *ctx = model->ctx;
    if (glam__recipe_check(ctx, r) != GLAM_OK) return ctx->error;
    if (model->borrowed)
        return glam_fail(ctx, GLAM_ERR_STATE, "trainer: a borrowed model is read only; train it in "
                         "the context that owns it");
    if (r->steps < 1 || r->batch < 1 || r->accumulate < 1 || r->context < 1)
        return glam_fail(ctx, GLAM_ERR_VALUE, "recipe: steps %d, batch %d, context %d and "
                         "accumulate %d must be at least 1", r->steps, r->batch, r->context,
                         r->accumulate);
    if (r->batch % r->accumulate)
        return glam_fail(ctx, GLAM_ERR_VALUE, "recipe: a batch of %d does not split into %d equal "
                         "parts", r->batch, r->accumulate);
    if (ctx->mesh && r->accumulate % ctx->mesh->X)
        return glam_fail(ctx, GLAM_ERR_VALUE, "recipe: accumulate %d is no multiple of mesh_x %d: "
                         "every rank needs as many parts of a batch", r->accumulate, ctx->mesh->X);
    if (r->eval_every < 0 || r->patience < 0)
        return glam_fail(ctx, GLAM_ERR_VALUE, "recipe: eval_every %d and patience %d must not be "
                         "negative", r->eval_every, r->patience);
    if (train && !glam__draw_piece(train, (size_t)r->context, 0))
        return glam_fail(ctx, GLAM_ERR_VALUE, "trainer: the text has %.0f tokens, none of its "
                         "pieces has the %.0f that a context of %d needs: a longer text or a "
                         "shorter context", (double)glam_text_length(train), r->context + 1.0,
                         r->context);
    if (glam__windows_fit(ctx, train, r->context) != GLAM_OK) return ctx->error;
    return train ? glam__vocab_fits(model, train) : GLAM_OK;
}

// Back to a mark from before the buffers below: the next step takes others.
static void glam__levels_gone(glam_ctx *ctx GLAM__UNUSED, void *arg)
{
    glam_trainer *t = (glam_trainer *)arg;
    t->levels = 0;
    glam__gradients_use(t->optimizer, t->first);
}

// Buffers for the gradients of earlier parts, one per level of the tree, where there are none yet:
// how many says the recipe of a checkpoint, which its length does not explain.
static glam_status glam__trainer_levels(glam_trainer *t)
{
    glam_ctx *ctx = t->model->ctx;
    int levels = 0;
    for (int64_t rounds = 1; rounds < t->rounds; rounds *= 2) levels++;
    if (t->levels == levels) return ctx->error;
    size_t mark = glam_mark(ctx);
    t->first = t->optimizer->set;
    t->saved = GLAM__NEW(ctx, life, float *, levels);
    glam__on_rewind(ctx, glam__levels_gone, t);
    for (int l = 0; l < levels && !ctx->error; l++) t->saved[l] = glam__gradients_new(t->optimizer);
    if (ctx->error) glam_rewind(ctx, mark);
    else t->levels = levels;
    return ctx->error;
}

// "trains 1.2 of 37.3 million parameters: attention, norms"
static void glam__trainer_summarise(glam_trainer *t)
{
    const glam_model *m = t->model;
    uint64_t all = 0, trained = 0;
    int seen = 0, most = (int)sizeof t->summary;
    for (int i = 0; i < m->count; i++) {
        uint64_t n = glam__count(glam__whole(m->tensors[i]));
        all += n;
        if (m->tensors[i]->wants_grad) trained += n;
    }
    const char *unit = all >= 1000000 ? "million" : "thousand";
    double scale = all >= 1000000 ? 1e-6 : 1e-3;
    int at = snprintf(t->summary, sizeof t->summary, "trains %.1f of %.1f %s parameters",
                      (double)trained * scale, (double)all * scale, unit);
    if (trained == all) return;
    for (int w = 0; w < GLAM__PARTS && at < most; w++) {
        int some = 0;
        for (int i = 0; i < m->count; i++)
            some |= m->tensors[i]->wants_grad &&
                    glam__pattern_names(glam__parts[w].word, m->tensors[i]->name);
        if (!some) continue;
        at += snprintf(t->summary + at, (size_t)(most - at), "%s %s", seen++ ? "," : ":",
                       glam__parts[w].word);
    }
    if (m->count > m->weights && at < most)
        snprintf(t->summary + at, (size_t)(most - at), "%s adapters", seen ? "," : ":");
}

static int glam__trains(const glam_model *m, const char *word)
{
    for (int i = 0; i < m->count; i++)
        if (m->tensors[i]->wants_grad && glam__pattern_names(word, m->tensors[i]->name)) return 1;
    return 0;
}

// What one rank says of its part of the batch: sums, and loads of all experts.
static size_t glam__round_bytes(const glam_trainer *t)
{
    size_t cells = (size_t)t->model->config.layers * (size_t)(t->model->config.moe.experts + 1);
    return (size_t)glam__align(sizeof t->sums + cells * sizeof *t->load);
}

// On a mesh: what a run depends on, for the headers that ranks compare.
static void glam__hash_run(const glam_trainer *t)
{
    const glam_recipe *r = &t->recipe;
    uint64_t *h = &t->model->ctx->mesh->config, what[14];
    memset(what, 0, sizeof what);
    what[0] = (uint64_t)r->optimizer; what[1] = (uint64_t)r->schedule;
    what[2] = (uint64_t)r->batch; what[3] = (uint64_t)r->context;
    what[4] = (uint64_t)r->accumulate; what[5] = (uint64_t)r->recompute;
    what[6] = (uint64_t)r->eval_every; what[7] = r->seed;
    memcpy(&what[8], &r->lr, sizeof r->lr);
    memcpy(&what[9], &r->clip, sizeof r->clip);
    what[10] = glam_text_length(t->train); what[11] = glam_text_length(t->valid);
    what[12] = t->train ? glam__text_checksum(t->train) : 0;
    what[13] = (uint64_t)r->steps;
    *h = glam__hash_bytes(*h, what, sizeof what);
}

// Multiply-adds of one token, forward: matrices it meets, and half of a context of attention.
// backward: with dx = dy W^T for all of them, and dW = x^T dy for those that train.
typedef struct glam__flops {
    const glam_config *c;
    const glam_model *model;       // NULL: all train, and there are no adapters
    double matrices, backward;
} glam__flops;

static int glam__count_flops(void *arg, const glam__row *row, int layer)
{
    glam__flops *f = (glam__flops *)arg;
    const char *owner = !f->model ? NULL : layer < 0 ? (const char *)f->model
                                                     : (const char *)&f->model->layers[layer];
    const glam_tensor *w = owner ? glam__kept(*(glam_tensor *const *)(const void *)
                                              (owner + row->field)) : NULL;
    glam_shape s = glam__row_shape(f->c, row);
    double n = (double)glam__count(s);
    if (s.dims < 2 || row->start == GLAM__TABLE || row->start == GLAM__SMALL) return 1;
    if (row->when == GLAM__FIRST && !f->c->tied) return 1;       // looked up, not multiplied
    double share = row->expert ? (double)f->c->moe.top_k / f->c->moe.experts : 1;
    double low = w ? (double)glam__low_rank(w) * (n / s.dim[s.dims - 1] + n / s.dim[s.dims - 2])
                   : 0;
    f->matrices += (n + low) * share;
    f->backward += (n * (w && !w->wants_grad ? 1 : 2) + 2 * low) * share;
    return 1;
}

// Of one token; *backward (NULL: not wanted): what comes on top when it trains.
static double glam__forward_flops(const glam_config *c, int context, const glam_model *model,
                                  double *backward)
{
    glam__flops f = { c, model, 0, 0 };
    double attention = 2.0 * c->layers * context * c->heads * c->d_head;
    glam__each_param(c, glam__count_flops, &f);
    if (backward) *backward = 2 * f.backward + 2 * attention;
    return 2 * f.matrices + attention;
}

// A trainer without its first memory; texts may be NULL while measuring.
static glam_trainer *glam__trainer_frame(glam_model *model, glam_text *train, glam_text *valid,
                                         const glam_recipe *recipe)
{
    glam_ctx *ctx = model->ctx;
    glam_trainer *t = GLAM__NEW(ctx, life, glam_trainer, 1);
    if (!t) return NULL;
    t->recipe = recipe ? *recipe : glam_recipe_default();
    if (!t->recipe.context) t->recipe.context = model->config.context;
    if (glam__trainer_check(model, train, &t->recipe) != GLAM_OK) return NULL;
    t->model = model;
    t->train = train;
    t->documents = glam__has_documents(train);
    t->valid = valid;
    t->valid_loss = t->best_valid = t->last.valid_loss = -1;
    t->rounds = t->recipe.accumulate / (ctx->mesh ? ctx->mesh->X : 1);
    double backward, forward = glam__forward_flops(&model->config, t->recipe.context, model,
                                                   &backward);
    t->work = (t->recipe.recompute ? 2 : 1) * forward + backward;
    t->optimizer = glam_optimizer_new(ctx, model->tensors, model->count, &t->recipe);
    if (!t->optimizer) return NULL;
    uint64_t cells = (uint64_t)model->config.layers * (model->config.moe.experts + 1);
    t->load = GLAM__NEW(ctx, life, int, 3 * cells);
    if (!t->load) return NULL;
    t->starved = t->load + cells;
    t->crowded = t->starved + cells;
    if (ctx->mesh) {
        glam__hash_run(t);
        t->round = (char *)glam__take(ctx, &ctx->base.life,
                                      (uint64_t)ctx->mesh->X * glam__round_bytes(t));
    }
    t->aux_off = t->recipe.aux_off_when_frozen && !glam__trains(model, "experts") &&
                 !glam__trains(model, "router");
    glam__trainer_summarise(t);
    return t;
}

// ---- one step

// The tape and activations of a part go, the weights' panels stay.
static void glam__end_part(glam_ctx *ctx)
{
    uint64_t epoch = ctx->products.epoch;
    glam__end_step(ctx);
    ctx->products.epoch = epoch;
}

// What a part adds to the report.
static void glam__part_sums(const glam_trainer *t, const glam__run *run,
                            const glam_losses *losses, double *sums, int *load)
{
    const glam_model *model = t->model;
    double share = run->real / run->count;
    memset(sums, 0, GLAM__SUM_COUNT * sizeof *sums);
    sums[GLAM__SUM_XENT] = losses->xent;
    sums[GLAM__SUM_Z] = losses->z;
    sums[GLAM__SUM_AUX] = losses->aux;
    sums[GLAM__SUM_ROUTER_Z] = losses->router_z;
    for (int i = 0; i < model->config.layers; i++) {
        const glam_routing *r = glam_model_routing(model, i);
        if (!r) continue;
        sums[GLAM__SUM_ENTROPY] += (double)r->entropy * share;
        sums[GLAM__SUM_TUNED] += (double)glam__aux_weight(&model->layers[i].tuned) *
                                 (double)r->balance * share;
        sums[GLAM__SUM_DROPPED] += r->dropped;
        sums[GLAM__SUM_CHOICES] += run->real * r->top_k;
        for (int e = 0; e < r->experts; e++) load[i * r->experts + e] += r->load[e];
    }
}

// Forward and backward of one part of the batch; 0: cancelled or failed.
static int glam__train_part(glam_trainer *t, int part)
{
    glam_model *model = t->model;
    glam_ctx *ctx = model->ctx;
    glam_batch batch;
    glam_losses losses;
    int parts = t->recipe.accumulate, rows = t->recipe.batch / parts;
    memset(&batch, 0, sizeof batch);
    if (ctx->base.measuring) {
        batch.rows = rows;
        batch.length = t->recipe.context;
        glam__take_values(ctx, &ctx->base.step, (t->documents ? 5 : 2) *
                          (uint64_t)rows * batch.length);
    } else if (glam__batch_rows(t->train, part * rows, rows, t->recipe.batch, t->recipe.context,
                                t->recipe.seed, (uint64_t)t->step, &batch) != GLAM_OK) {
        return 0;
    }
    glam__run *run = GLAM__NEW(ctx, step, glam__run, 1);
    if (!run || glam__run_begin(run, model, &batch, GLAM_TRAIN) != GLAM_OK) return 0;
    glam__step_tokens(t->train, t->recipe.batch, t->recipe.context, t->recipe.seed,
                      (uint64_t)t->step, &run->count, &run->goal);
    t->told = run->goal;
    run->recompute = t->recipe.recompute;
    run->trained = 1;
    run->pass.part = part;
    run->aux_off = t->aux_off;
    ctx->train.lend.on = !t->recipe.update_in_backward;  // tensors are in the order of their blocks
    ctx->train.lend.base = t->optimizer->set;
    glam_tensor *loss = glam__run_loss(run, &batch, &losses);
    memset(&ctx->train.lend, 0, sizeof ctx->train.lend);  // nothing more of it is free in backward
    if (!loss || glam__optimizer_backward(t->optimizer, loss) != GLAM_OK) return 0;
    glam__mesh *mesh = ctx->mesh;
    size_t bytes = glam__round_bytes(t);
    if (ctx->base.measuring) {
        if (mesh) glam__all_gather(ctx, &mesh->x, &mesh->sent.sums, NULL, mesh->X * bytes, 1);
        return 1;
    }
    if (!mesh) {
        double sums[GLAM__SUM_COUNT];
        glam__part_sums(t, run, &losses, sums, t->load);
        for (int i = 0; i < GLAM__SUM_COUNT; i++) t->sums[i] += sums[i];
        return 1;
    }
    char *mine = t->round + (size_t)mesh->ix * bytes;
    memset(mine, 0, bytes);
    glam__part_sums(t, run, &losses, (double *)(void *)mine,
                    (int *)(void *)(mine + sizeof t->sums));
    glam__all_gather(ctx, &mesh->x, &mesh->sent.sums, t->round, (size_t)mesh->X * bytes, 1);
    for (int x = 0; x < mesh->X; x++) {                // in the order of the parts
        const double *sums = (const double *)(void *)(t->round + (size_t)x * bytes);
        const int *load = (const int *)(const void *)(sums + sizeof t->sums / sizeof *sums);
        for (int i = 0; i < GLAM__SUM_COUNT; i++) t->sums[i] += sums[i];
        for (int i = 0; i < model->config.layers * model->config.moe.experts; i++)
            t->load[i] += load[i];
    }
    return !ctx->error;
}

// Gradients of part `part` join those before it: a binary tree over part numbers.  Like a binary
// counter, level l holds the sum of 2^l parts; the last part collects what is there.  On a mesh
// these are rounds: the X parts of a round, neighbours in the tree, have been joined over ranks.
static void glam__join_part(glam_trainer *t, int part)
{
    glam_optimizer *o = t->optimizer;
    int last = part + 1 == t->rounds, level = 0;
    float *sum = o->set;
    if (!t->levels || t->model->ctx->base.measuring) return;
    for (int i = 0; i < o->count; i++) glam__grad_settle(o->params[i]);
    for (; part >> level && (last || part >> level & 1); level++)
        if (part >> level & 1)
            glam__add_all(t->model->ctx->simd.kernels, (size_t)o->floats, t->saved[level], sum);
    if (last) return;
    glam__gradients_use(o, t->saved[level]);
    t->saved[level] = sum;
}

static void glam__report_fill(const glam_trainer *t, glam_report *r)
{
    const glam_config *c = &t->model->config;
    const double *s = t->sums;
    int mixtures = 0, E = c->moe.experts;
    for (int i = 0; i < c->layers; i++) mixtures += t->model->layers[i].mixture;
    r->loss = s[GLAM__SUM_XENT];
    r->z_loss = (double)c->z_loss * s[GLAM__SUM_Z];
    r->aux_loss = t->aux_off ? 0 : (double)glam__aux_weight(&c->moe) * s[GLAM__SUM_AUX];
    if (t->model->tuned) r->aux_loss = t->aux_off ? 0 : s[GLAM__SUM_TUNED];
    r->router_z_loss = (double)c->moe.router_z_weight * s[GLAM__SUM_ROUTER_Z];
    r->total = r->loss + r->z_loss + r->aux_loss + r->router_z_loss;
    r->load_min = r->load_max = 0;
    if (!mixtures) return;
    r->balance = s[GLAM__SUM_AUX] / mixtures;
    r->entropy = s[GLAM__SUM_ENTROPY] / mixtures;
    r->dropped = s[GLAM__SUM_CHOICES] > 0 ? s[GLAM__SUM_DROPPED] / s[GLAM__SUM_CHOICES] : 0;
    r->load_min = 1e30;
    for (int i = 0; i < c->layers; i++) {
        double sum = 0;
        for (int e = 0; e < E; e++) sum += t->load[i * E + e];
        for (int e = 0; e < E && t->model->layers[i].mixture; e++) {
            double load = sum > 0 ? t->load[i * E + e] * E / sum : 0;
            if (load < r->load_min) r->load_min = load;
            if (load > r->load_max) r->load_max = load;
        }
    }
}

// An expert that starves, or one that takes most tokens, for many steps: said once each time.
static void glam__watch_collapse(glam_trainer *t)
{
    const glam_config *c = &t->model->config;
    int E = c->moe.experts;
    double tokens = (double)t->recipe.batch * t->recipe.context;
    for (int i = 0; i < c->layers; i++)
        for (int e = 0; e < E && E > 1 && t->model->layers[i].mixture; e++) {
            int at = i * E + e;
            double share = t->load[at] / tokens, even = (double)c->moe.top_k / E;
            t->starved[at] = share < 0.02 * even ? t->starved[at] + 1 : 0;
            t->crowded[at] = share > 0.8 && even < 0.6 ? t->crowded[at] + 1 : 0;
            if (t->starved[at] == 100)
                glam__log(t->model->ctx, "layer %d: expert %d has had almost no tokens for 100 "
                          "steps; a larger moe.aux_weight spreads them", i, e);
            if (t->crowded[at] == 100)
                glam__log(t->model->ctx, "layer %d: expert %d has had %.0f %% of the tokens for "
                          "100 steps; a larger moe.aux_weight spreads them", i, e, 100 * share);
        }
}

// The biases of all mixtures, by the loads of the whole step.
static void glam__bias_step(glam_model *model, const int *load)
{
    for (int i = 0; i < model->config.layers; i++) {
        glam__layer *l = &model->layers[i];
        if (l->mixture && l->moe.bias && glam__kept(l->moe.router)->wants_grad)
            glam_moe_bias(l->moe.bias, load + (size_t)i * model->config.moe.experts,
                          l->tuned.bias_rate);
    }
}

static void glam__trainer_evaluate(glam_trainer *t)
{
    double loss = glam_validate(t);
    if (loss < 0) return;                      // failed, or cancelled
    if (t->best_valid < 0 || loss < t->best_valid) {
        t->best_valid = loss;
        t->bad_evals = 0;
    } else if (++t->bad_evals >= t->recipe.patience && t->recipe.patience) {
        t->stopped = 1;
    }
}

// All parts; 0: cancelled or failed.
static int glam__train_parts(glam_trainer *t)
{
    glam_ctx *ctx = t->model->ctx;
    uint64_t cells = (uint64_t)t->model->config.layers * (t->model->config.moe.experts + 1);
    memset(t->sums, 0, sizeof t->sums);
    memset(t->load, 0, (size_t)cells * sizeof *t->load);
    glam__end_step(ctx);
    glam__trainer_levels(t);
    ctx->train.updates = t->step;
    glam__agree(ctx, "train step", 0);
    int rounds = ctx->base.measuring ? glam__min(t->rounds, 2) : t->rounds;     // the rest alike
    for (int round = 0; round < rounds && !ctx->error; round++) {
        if (round) glam__end_part(ctx);
        int part = ctx->mesh ? round * ctx->mesh->X + ctx->mesh->ix : round;
        if (!glam__train_part(t, part)) return 0;
        glam__join_part(t, round);
    }
    return !ctx->error;
}

// The end of a step.  A validation that failed for want of memory or of another rank is owed: the
// next call makes up for it and takes no other step.
static int glam__train_validated(glam_trainer *t, glam_report *r)
{
    glam_ctx *ctx = t->model->ctx;
    int due = t->recipe.eval_every && t->valid && !(t->step % t->recipe.eval_every);
    r->step = t->step;
    r->tokens = t->tokens;
    r->flops = t->work * ((double)t->recipe.batch * t->recipe.context * t->step);
    t->owed = 0;
    if (due && !ctx->error) {
        glam__trainer_evaluate(t);
        t->owed = ctx->error == GLAM_ERR_MEMORY || ctx->error == GLAM_ERR_COMM;
    }
    r->valid_loss = t->valid_loss;
    r->stopped = t->stopped;
    r->bytes = ctx->base.held;
    return !ctx->error;
}

// Batch, loss, update; 1: done, 0: cancelled or failed.
static int glam__train_one(glam_trainer *t, glam_report *r)
{
    glam_ctx *ctx = t->model->ctx;
    double begin = glam__seconds(), took;
    if (t->owed) return glam__train_validated(t, r);
    if (!glam__train_parts(t)) {
        r->cancelled = !ctx->error;            // no error: the host said stop
        glam__gradients_use(t->optimizer, t->optimizer->set);
        glam__end_step(ctx);
        return 0;
    }
    r->skipped = r->torn = 0;
    if (ctx->base.measuring) return 1;         // counted, and not done
    glam__report_fill(t, r);
    glam__optimizer_step(t->optimizer, glam__finite(r->total), r);
    ctx->train.updates = ++t->step;
    t->tokens += (uint64_t)t->told;
    took = glam__seconds() - begin;
    t->seconds += took;
    if (!r->skipped && !r->torn) glam__bias_step(t->model, t->load);
    glam__watch_collapse(t);
    r->seconds = t->seconds;
    r->tokens_per_second = took > 0 ? t->recipe.batch * (double)t->recipe.context / took : 0;
    return glam__train_validated(t, r);
}

GLAM_API int glam_train_step(glam_trainer *trainer, glam_report *report)
{
    int more = 0;
    if (trainer) {
        glam_trainer *t = trainer;
        t->last.steps = t->recipe.steps;
        t->last.cancelled = 0;
        if (!t->model->ctx->error && ((t->step < t->recipe.steps && !t->stopped) || t->owed))
            more = glam__train_one(t, &t->last);
        if (glam__farewell(t->model->ctx) != GLAM_OK) more = 0;
    }
    if (report && trainer) *report = trainer->last;     // once the run is over: of its last step
    else if (report) memset(report, 0, sizeof *report);
    return more;
}

// A context in which nothing is held, with the options of another.
static glam_ctx *glam__measure_open(const glam_ctx *like)
{
    glam_options o = like->options;
    o.log = NULL;
    o.cancel = NULL;
    glam_ctx *ctx = glam_open(&o);
    glam_measure(ctx, 1);
    return ctx;
}

// One step in measure mode: what it will take, byte by byte.
static glam_trainer *glam__measure_step(glam_ctx *measure, const glam_model *like,
                                        const glam_config *config, const glam_recipe *recipe,
                                        int documents)
{
    glam_model *model = glam__model_blank(measure, config, like, NULL);
    if (model && like) glam__adapt_like(model, like, 0);
    for (int i = 0; model && like && i < model->config.layers; i++)
        if (like->layers[i].some_frozen) glam_freeze_experts(model, i, like->layers[i].frozen);
    for (int i = 0; model && like && !measure->error && i < model->count; i++)
        model->tensors[i]->wants_grad = like->tensors[i]->wants_grad;
    glam_trainer *t = model ? glam__trainer_frame(model, NULL, NULL, recipe) : NULL;
    if (t) t->documents = documents;
    return t && glam__train_parts(t) ? t : NULL;
}

// The memory of a step is known before the first: one block of exactly that size.
static void glam__trainer_memory(glam_trainer *t)
{
    glam_ctx *ctx = t->model->ctx;
    glam__end_step(ctx);
    glam_ctx *measure = glam__measure_open(ctx);
    if (measure && !measure->error &&
        glam__measure_step(measure, t->model, &t->model->config, &t->recipe, t->documents)) {
        glam__arena_release(ctx, &ctx->base.step);
        glam__reserve_scratch(ctx, measure->scratch.bytes);
        glam__arena_grow(ctx, &ctx->base.step, measure->base.step.high);
    } else if (measure) {
        glam_fail(ctx, measure->error, "%s", measure->message);
    } else {
        glam_fail(ctx, GLAM_ERR_MEMORY, "out of memory for a trainer");
    }
    glam_close(measure);
}

GLAM_API glam_trainer *glam_trainer_new(glam_model *model, glam_text *train, glam_text *valid,
                                        const glam_recipe *recipe)
{
    if (!model) return NULL;
    glam_ctx *ctx = model->ctx;
    if (!train && !ctx->base.measuring)
        glam_fail(ctx, GLAM_ERR_VALUE, "trainer: no text to train on (NULL)");
    size_t mark = glam_mark(ctx);
    uint64_t config = ctx->mesh ? ctx->mesh->config : 0;
    glam_trainer *t = ctx->error ? NULL : glam__trainer_frame(model, train, valid, recipe);
    if (t && glam__trainer_levels(t) == GLAM_OK && !ctx->base.measuring) glam__trainer_memory(t);
    if (glam__farewell(ctx) != GLAM_OK && ctx->mesh) ctx->mesh->config = config;
    return (glam_trainer *)glam__made(ctx, mark, t);
}

GLAM_API double glam_validate(glam_trainer *trainer)
{
    uint64_t tokens;
    if (!trainer || glam__farewell(trainer->model->ctx) != GLAM_OK) return -1;
    if (!trainer->valid) {
        glam_fail(trainer->model->ctx, GLAM_ERR_STATE, "validate: the trainer was given no "
                  "validation text");
        return -1;
    }
    trainer->model->ctx->products.epoch++;     // weights may have been written by hand
    double loss = glam__text_loss(trainer->model, trainer->valid, trainer->recipe.context, &tokens);
    glam__farewell(trainer->model->ctx);
    return loss < 0 ? loss : (trainer->valid_loss = loss);
}

GLAM_API glam_model *glam_trainer_model(const glam_trainer *trainer)
{ return trainer ? trainer->model : NULL; }
GLAM_API const glam_recipe *glam_trainer_recipe(const glam_trainer *trainer)
{ return trainer ? &trainer->recipe : NULL; }
GLAM_API int glam_trainer_done(const glam_trainer *trainer) { return trainer ? trainer->step : 0; }
GLAM_API double glam_trainer_best(const glam_trainer *trainer)
{ return trainer ? trainer->best_valid : -1; }
GLAM_API const glam_routing *glam_trainer_routing(const glam_trainer *trainer, int layer)
{ return trainer ? glam__routing_of(trainer->model, layer, 1) : NULL; }
GLAM_API const char *glam_trainer_summary(const glam_trainer *trainer)
{ return trainer ? trainer->summary : ""; }

GLAM_API glam_status glam_trainer_steps(glam_trainer *trainer, int steps)
{
    if (!trainer) return GLAM_ERR_MEMORY;
    if (steps < 1)
        return glam_fail(trainer->model->ctx, GLAM_ERR_VALUE, "trainer: %d steps; at least 1",
                         steps);
    trainer->recipe.steps = trainer->optimizer->recipe.steps = steps;
    return GLAM_OK;
}

/* == 20 evaluate : implementation =========================================================
   How well a model predicts a text, without drops and without overlap; and how likely it finds
   continuations.  These are cut into windows, sorted by length and scored in batches, whose rows
   know nothing of each other; each adds its windows up in an order of its own. */

GLAM_API glam_status glam_perplexity(glam_model *model, glam_text *text, int context,
                                     glam_perplexity_report *report)
{
    glam_perplexity_report own, *r = report ? report : &own;
    memset(r, 0, sizeof *r);
    if (!model || glam__farewell(model->ctx) != GLAM_OK)
        return model ? model->ctx->error : GLAM_ERR_MEMORY;
    if (!text || context < 0)
        return glam_fail(model->ctx, GLAM_ERR_VALUE, "perplexity: no text, or context %d below 0",
                         context);
    model->ctx->products.epoch++;
    r->loss = glam__text_loss(model, text, context ? context : model->config.context, &r->tokens);
    if (r->loss < 0) { r->loss = 0; r->tokens = 0; }
    if (glam__farewell(model->ctx) != GLAM_OK) return model->ctx->error;
    r->perplexity = exp(r->loss);
    r->bits_per_token = r->loss / 0.6931471805599453;
    return GLAM_OK;
}

// ---- log-likelihood: spans are cut into windows, windows of like length share a batch, and logits
// are made at the scored places alone.  A row's bits know nothing of the others in its batch.

// Inputs [from,end-1) of a span predict its tokens [scored,end).
typedef struct glam__window { int span, from, scored, end, hits; double loglik; } glam__window;

// All windows of all spans into w (NULL: only their number).  Rolled over, the first one has as
// much context as fits and the tokens that fit behind it; every later one is full.
static size_t glam__cut_windows(const glam_span *spans, int count, int size, glam__window *w)
{
    size_t n = 0;
    for (int i = 0; i < count; i++) {
        const glam_span *s = &spans[i];
        for (int done = s->from, end; done < s->count; done = end, n++) {
            int left = s->count - done, from = s->from > size ? s->from - size : 0;
            end = left <= size ? s->count : done == s->from ? from + size + 1 : done + size;
            glam__window next = { i, end - 1 > size ? end - 1 - size : 0, done, end, 0, 0 };
            if (w) w[n] = next;
        }
    }
    return n;
}

// The longest first; those of one span stand in an order that is theirs alone.
static int glam__by_length(const void *a, const void *b)
{
    const glam__window *x = (const glam__window *)a, *y = (const glam__window *)b;
    int m = x->end - x->from, n = y->end - y->from;
    return m != n ? (m < n ? 1 : -1) : x->span != y->span ? (x->span < y->span ? -1 : 1)
                  : x->scored < y->scored ? -1 : x->scored > y->scored;
}

typedef struct glam__scored {
    const glam__kernels *kernels;
    const float *logits;           // [rows,V]
    const int32_t *targets;
    double *loglik;                // [rows]
    int32_t *hit;
    int V;
} glam__scored;

static void glam__score_place(void *arg, int i, int worker GLAM__UNUSED)
{
    const glam__scored *s = (const glam__scored *)arg;
    const float *l = s->logits + (size_t)i * s->V;
    int32_t target = s->targets[i], best = 0;
    for (int v = 1; v < s->V; v++) if (l[v] > l[best]) best = v;
    s->loglik[i] = (double)l[target] - (double)s->kernels->logsumexp(s->V, l);
    s->hit[i] = best == target;
}

// Logits of the scored places alone, some rows at a time.  x: [rows,length,M].
static void glam__score_places(glam_model *model, const glam_tensor *x, const glam_span *spans,
                               glam__window *windows, int rows, int length)
{
    glam_ctx *ctx = model->ctx;
    int M = model->config.d_model, places = 0, n = 0;
    for (int r = 0; r < rows; r++) places += windows[r].end - windows[r].scored;
    glam_tensor *picked = glam__tensor(ctx, &ctx->base.step, glam_dim2(places, M), "");
    glam__scored s = { ctx->simd.kernels, NULL, NULL, NULL, NULL, model->config.vocab };
    int32_t *targets = GLAM__NEW(ctx, step, int32_t, places);
    s.loglik = GLAM__NEW(ctx, step, double, places);
    s.hit = GLAM__NEW(ctx, step, int32_t, places);
    for (int r = 0; r < rows && !ctx->error; r++)
        for (int t = windows[r].scored; t < windows[r].end; t++, n++) {
            targets[n] = spans[windows[r].span].tokens[t];
            memcpy(picked->data + (size_t)n * M,
                   x->data + ((size_t)r * length + (t - 1 - windows[r].from)) * M,
                   (size_t)M * sizeof(float));
        }
    int chunk = glam__head_chunk(places, s.V);
    for (int from = 0; from < places && !ctx->error; from += chunk) {
        int some = glam__min(chunk, places - from);
        glam__scored part = s;
        glam__place place = glam__arena_mark(&ctx->base.step);
        glam_tensor *logits = glam__logits(model, glam_slice(ctx, picked, from, some));
        part.logits = logits ? logits->data : NULL;
        part.targets = targets + from;  part.loglik += from;  part.hit += from;
        if (logits) glam__each_row(ctx, some, 8.0 * s.V, glam__score_place, &part);
        glam__step_back(ctx, place);
    }
    for (int r = 0, at = 0; r < rows && !ctx->error; r++)
        for (int t = windows[r].scored; t < windows[r].end; t++, at++) {
            windows[r].loglik += s.loglik[at];
            windows[r].hits += s.hit[at];
        }
}

// Scores windows of unequal length, the longest first, as rows of one batch; -1 when cancelled.
static int glam__score_batch(glam_model *model, const glam_span *spans,
                             glam__window *windows, int rows)
{
    int length = windows[0].end - 1 - windows[0].from;
    glam_ctx *ctx = model->ctx;
    glam__run run;
    glam_batch batch = { rows, length, NULL, NULL, NULL, NULL };
    size_t T = (size_t)rows * (size_t)length;
    int32_t *tokens = GLAM__NEW(ctx, step, int32_t, 2 * T);
    if (!tokens) return 0;
    memset(tokens, 0, 2 * T * sizeof *tokens);
    for (int r = 0; r < rows; r++)
        for (int t = windows[r].from, at = r * length; t < windows[r].end - 1; t++, at++) {
            tokens[at] = spans[windows[r].span].tokens[t];
            tokens[T + (size_t)at] = 1;
        }
    batch.tokens = tokens;
    batch.mask = tokens + T;
    if (glam__run_begin(&run, model, &batch, GLAM_INFER) != GLAM_OK) return 0;
    run.quiet = 1;
    glam_tensor *x = glam__run_layers(&run, &batch);
    if (x && x->data) glam__score_places(model, x, spans, windows, rows, length);
    return run.cancelled ? -1 : 0;
}

static void glam__span_check(const glam_model *model, const glam_span *s, int i)
{
    if (!s->tokens || s->from < 1 || s->from >= s->count)
        glam_fail(model->ctx, GLAM_ERR_VALUE, "loglikelihood: span %d: tokens %d to %d are to be "
                  "scored; at least one, with one before it", i, s->from,
                  glam__max(s->count, 0) - 1);
    for (int t = 0; t < s->count && !model->ctx->error; t++)
        if (s->tokens[t] < 0 || s->tokens[t] >= model->config.vocab)
            glam_fail(model->ctx, GLAM_ERR_VALUE, "loglikelihood: span %d: token %d is %d; the "
                      "vocabulary ends at %d", i, t, (int)s->tokens[t], model->config.vocab - 1);
}

GLAM_API glam_status glam_loglikelihood_tokens(glam_model *model, const glam_span *spans, int count,
                                               int window, glam_score *scores)
{
    int going = 0;
    if (scores && count > 0) memset(scores, 0, (size_t)count * sizeof *scores);
    if (!model || glam__farewell(model->ctx) != GLAM_OK)
        return model ? model->ctx->error : GLAM_ERR_MEMORY;
    glam_ctx *ctx = model->ctx;
    if (count < 1 || !spans || !scores || window < 0)
        glam_fail(ctx, GLAM_ERR_VALUE, "loglikelihood: %d spans (or NULL), window %d", count,
                  window);
    for (int i = 0; i < count && !ctx->error; i++) glam__span_check(model, &spans[i], i);
    if (ctx->error) return glam__farewell(ctx);
    if (!window) window = model->config.context;
    size_t mark = glam_mark(ctx), n = glam__cut_windows(spans, count, window, NULL);
    glam__window *all = GLAM__NEW(ctx, life, glam__window, n);
    if (all) {
        glam__cut_windows(spans, count, window, all);
        qsort(all, n, sizeof *all, glam__by_length);
    }
    ctx->products.epoch++;                         // weights may have been written by hand
    int before = glam_no_grad(ctx, 1);
    for (size_t i = 0; i < n && !ctx->error && going == 0; ) {
        int fit = 2048 / (all[i].end - all[i].from), rows = fit < 1 ? 1 : glam__min(fit, 64);
        glam__place place = glam__arena_mark(&ctx->base.step);
        if ((size_t)rows > n - i) rows = (int)(n - i);
        going = glam__score_batch(model, spans, all + i, rows);
        glam__step_back(ctx, place);
        i += (size_t)rows;
    }
    glam_no_grad(ctx, before);
    for (size_t i = 0; i < n && !ctx->error && going == 0; i++) {
        glam_score *s = &scores[all[i].span];
        if (!glam__is_number(all[i].loglik))
            glam_fail(ctx, GLAM_ERR_NUMERIC, "loglikelihood: span %d: it is not finite: the model "
                      "is spoilt; load it again, or an earlier checkpoint", all[i].span);
        if (all[i].scored == spans[all[i].span].from) s->cut = all[i].from;
        s->loglik += all[i].loglik;
        s->tokens += all[i].end - all[i].scored;
        s->greedy += all[i].hits;
    }
    for (int i = 0; i < count; i++) scores[i].greedy = scores[i].greedy == scores[i].tokens;
    glam_rewind(ctx, mark);
    if (ctx->error || going) memset(scores, 0, (size_t)count * sizeof *scores);
    return glam__farewell(ctx);
}

// Context and continuation as tokens.  The context is tokenized alone to know where it ends, and
// what the whole text has behind that many tokens is the continuation.
static glam_span glam__query_span(const glam_model *model, const glam_query *q)
{
    const glam_tokenizer *tokens = glam_model_tokenizer(model);
    const glam_vocabulary *v = glam_tokenizer_vocabulary(tokens);
    glam_span span = { NULL, 0, 0 };
    glam_ctx *ctx = model->ctx;
    size_t bytes = strlen(q->context), all = bytes + strlen(q->continuation), before = 0;
    char *text = (char *)glam__take(ctx, &ctx->base.life, all + 1);
    if (!text) return span;
    memcpy(text, q->context, bytes);
    strcpy(text + bytes, q->continuation);
    while (bytes && strchr(" \t\n\v\f\r", text[bytes - 1])) bytes--;
    size_t first = (v && v->begin >= 0) || !bytes, n = glam_encode(tokens, text, all, NULL, 0);
    if (bytes) before = glam_encode(tokens, text, bytes, NULL, 0);
    int32_t *ids = GLAM__NEW(ctx, life, int32_t, n + 1);
    if (!ids || !n || n > INT32_MAX / 4) return span;
    ids[0] = 0;
    if (v && v->begin >= 0) ids[0] = v->begin;
    else if (v && v->end >= 0) ids[0] = v->end;
    else glam_encode(tokens, "\n", 1, ids, 1);
    if (before >= n) before = n - 1;                       // the last token at least is scored
    glam_encode(tokens, text, all, ids + first, n);
    if (bytes) glam_encode(tokens, text, bytes, ids + first, before);
    span.tokens = ids;
    span.count = (int)(n + first);
    span.from = (int)(first + before);
    return span;
}

GLAM_API glam_status glam_loglikelihood(glam_model *model, const glam_query *queries, int count,
                                        int window, glam_score *scores)
{
    if (scores && count > 0) memset(scores, 0, (size_t)count * sizeof *scores);
    if (!model || glam__farewell(model->ctx) != GLAM_OK)
        return model ? model->ctx->error : GLAM_ERR_MEMORY;
    glam_ctx *ctx = model->ctx;
    size_t mark = glam_mark(ctx);
    if (count < 1 || !queries || !scores)
        glam_fail(ctx, GLAM_ERR_VALUE, "loglikelihood: %d queries (or NULL)", count);
    if (ctx->error) return glam__farewell(ctx);
    glam_span *spans = GLAM__NEW(ctx, life, glam_span, count);
    for (int i = 0; i < count && !ctx->error; i++) {
        if (!queries[i].context || !queries[i].continuation || !*queries[i].continuation)
            glam_fail(ctx, GLAM_ERR_VALUE, "loglikelihood: query %d has no context or no "
                      "continuation", i);
        else spans[i] = glam__query_span(model, &queries[i]);
    }
    if (!ctx->error) glam_loglikelihood_tokens(model, spans, count, window, scores);
    for (int i = 0; i < count && scores[i].tokens; i++)
        for (const char *c = queries[i].continuation; *c; c++) {
            scores[i].bytes++;
            scores[i].chars += (*c & 0xc0) != 0x80;
        }
    glam_rewind(ctx, mark);
    return glam__farewell(ctx);
}

GLAM_API int glam_choose(const glam_score *options, int count, glam_per per)
{
    int best = -1;
    double most = 0;
    for (int i = 0; options && i < count; i++) {
        const glam_score *s = &options[i];
        int by = per == GLAM_PER_TOKEN ? s->tokens : per == GLAM_PER_CHAR ? s->chars
                 : per == GLAM_PER_BYTE ? s->bytes : 1;
        double worth = s->loglik / (by > 0 ? by : 1);
        if (best < 0 || worth > most) { best = i;  most = worth; }
    }
    return best;
}

/* == 21 files : implementation ============================================================
   safetensors: eight bytes with the length of a header, the header (JSON: for each tensor its
   shape and place), the numbers.  The one idea: one list of items (name, shape, values) drives
   writing, checking and reading, and one table of rows (key, type, place in a struct) drives the
   writer and the parser of each JSON object, so that no fact stands here twice.
   Invariants: the same content gives the same bytes; a file is checked whole (rules of the
   format, checksum, config, names, shapes) before the first weight is written; memory that a
   file asks for is first compared with the bytes that it really has, and all of it goes with the
   arena of that file; little endian on every machine. */

#include <float.h>

#define GLAM__HEADER_MOST ((size_t)100000000)   // safetensors' own
#define GLAM__FILE_CHUNK  ((size_t)32768)

// --- JSON: the writer ---

// Counts always and writes while there is room: run once to measure, once to fill.
typedef struct glam__json_out {
    char *data;                    // NULL: measure only
    size_t room, size;
    int    quoted;                 // how many strings we are in: JSON may stand in a string
} glam__json_out;

static void glam__json_char(glam__json_out *out, char c)
{
    if (out->quoted && (c == '"' || c == '\\' || (unsigned char)c < 0x20)) {
        char escape[8];
        snprintf(escape, sizeof escape, (unsigned char)c < 0x20 ? "\\u%04x" : "\\%c", c);
        out->quoted--;                          // which the string around us may escape again
        for (const char *p = escape; *p; p++) glam__json_char(out, *p);
        out->quoted++;
        return;
    }
    if (out->data && out->size < out->room) out->data[out->size] = c;
    out->size++;
}

// For short things; never with %f or %g, whose decimal point changes with the locale.
static void glam__json_print(glam__json_out *out, const char *format, ...)
{
    char text[160];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (const char *p = text; *p; p++) glam__json_char(out, *p);
}

static void glam__json_text(glam__json_out *out, const char *text)
{
    glam__json_char(out, '"');
    out->quoted++;
    for (; *text; text++) glam__json_char(out, *text);
    out->quoted--;
    glam__json_char(out, '"');
}

// The fewest digits that read back as v, a double, or as the float that v was.
static void glam__json_real(glam__json_out *out, double v, int single)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    if ((bits >> 52 & 2047) == 2047) {          // JSON has no word for these: strings
        glam__json_print(out, bits << 12 ? "\"nan\"" : bits >> 63 ? "\"-inf\"" : "\"inf\"");
        return;
    }
    char text[40];
    for (int digits = 1; digits <= 17; digits++) {             // 17 tell every double
        snprintf(text, sizeof text, "%.*g", digits, v);
        if ((single ? (double)strtof(text, NULL) : strtod(text, NULL)) == v) break;
    }
    if (fabs(v) < 1e15 && v == floor(v)) snprintf(text, sizeof text, "%.0f", v);
    char *exponent = strchr(text, 'e'), *point = text + strspn(text, "-0123456789");
    if (exponent) *exponent++ = 0;
    int before = (int)(point - text), wide = (int)strcspn(point, "0123456789");
    // whatever the locale's decimal point is, and e-06, as ours
    glam__json_print(out, "%.*s%s%s", before, text, *point ? "." : "", point + wide);
    if (exponent) glam__json_print(out, "e%d", atoi(exponent));
}

// --- JSON: the reader ---

// Strings are decoded where they stand, so the text must be ours to write; at its end is a 0, which
// is no character of JSON and so stops everything.
typedef struct glam__json {
    glam_ctx   *ctx;
    const char *path, *part;       // for messages: which file, which text in it
    char       *start, *at, *end;
    const char **keys;             // unknown ones of an object: to find one that is there twice
    size_t      key_room, key_count;
} glam__json;

static int glam__json_wrong(glam__json *j, const char *what)
{
    glam_fail(j->ctx, GLAM_ERR_FORMAT, "load %s: %s, byte %lu: expected %s", j->path, j->part,
              (unsigned long)(j->at - j->start), what);
    return 0;
}

// The next character that is not white space; 0 at the end.
static char glam__json_peek(glam__json *j) { return *(j->at += strspn(j->at, " \n\t\r")); }
static int glam__json_take(glam__json *j, char c) { return glam__json_peek(j) == c && j->at++; }
static int glam__json_need(glam__json *j, char c, const char *what)
{ return glam__json_take(j, c) || glam__json_wrong(j, what); }
static int glam__json_end(glam__json *j)
{ return (!glam__json_peek(j) && j->at == j->end) || glam__json_wrong(j, "nothing but spaces"); }

// Before each member of an object or array; 0: it is closed, or wrong.
static int glam__json_more(glam__json *j, char close, int *count)
{
    if (glam_error(j->ctx) != GLAM_OK || glam__json_take(j, close)) return 0;
    return !(*count)++ || glam__json_need(j, ',', "a comma or the closing bracket");
}

// So many hexadecimal digits.  Those of a checksum have lower case: it has one spelling.
static int glam__hex_read(const char *text, int digits, const char *known, uint64_t *n)
{
    char copy[20];
    snprintf(copy, sizeof copy, "%.*s", digits, text);
    *n = strtoull(copy, NULL, 16);
    return strspn(copy, known) == (size_t)digits;
}

#define GLAM__HEX "0123456789abcdef"

// Bytes of the UTF-8 character there; 0: it is none (too long a form, a surrogate, past the last).
static int glam__utf8(const char *text)
{
    const unsigned char *p = (const unsigned char *)text;
    int n = *p < 0x80 ? 1 : *p < 0xc2 ? 0 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : *p < 0xf5 ? 4 : 0;
    for (int i = 1; i < n; i++) if ((p[i] & 0xc0) != 0x80) return 0;
    return (*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) ||
           (*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] > 0x8f) ? 0 : n;
}

static int glam__is_utf8(const char *text)
{
    for (int n; *text; text += n) if (!(n = glam__utf8(text))) return 0;
    return 1;
}

// \uXXXX, or two of them that are one character; NULL, or what should have been there.
static const char *glam__json_escape(glam__json *j, char **to)
{
    static const char digits[] = GLAM__HEX "ABCDEF";
    uint64_t c, low = 0;
    if (j->at[1] != 'u' || !glam__hex_read(j->at + 2, 4, digits, &c)) return "an escape of JSON";
    j->at += 6;
    if (c >> 10 == 0xd800 >> 10 && j->at[0] == '\\' && j->at[1] == 'u' &&
        glam__hex_read(j->at + 2, 4, digits, &low) && low >> 10 == 0xdc00 >> 10) {
        c = 0x10000 + ((c & 1023) << 10) + (low & 1023);
        j->at += 6;
    }
    if (c >> 11 == 0xd800 >> 11) return "both halves of a surrogate pair";
    *to = glam__utf8_put(*to, c);
    return NULL;
}

// A string, decoded in place and closed with a 0; NULL when it is none.
static char *glam__json_string(glam__json *j)
{
    static const char plain[] = "\"\\/bfnrt", meaning[] = "\"\\/\b\f\n\r\t";
    const char *wrong = NULL;
    if (!glam__json_need(j, '"', "a string")) return NULL;
    char *begin = j->at, *to = j->at;
    while (!wrong && (unsigned char)*j->at >= 0x20) {
        if (*j->at == '"') {
            *to = 0;
            j->at++;
            return begin;
        }
        int n = glam__utf8(j->at);
        const char *known = *j->at == '\\' && j->at[1] ? strchr(plain, j->at[1]) : NULL;
        if (known) {
            *to++ = meaning[known - plain];
            j->at += 2;
        } else if (*j->at == '\\') wrong = glam__json_escape(j, &to);
        else if (!n) wrong = "a character in UTF-8";
        else while (n--) *to++ = *j->at++;
    }
    glam__json_wrong(j, wrong ? wrong : "the end of a string");
    return NULL;
}

// The key of the next member of an object, past its colon; NULL: it is closed, or wrong.
static char *glam__json_key(glam__json *j, int *count)
{
    char *key = glam__json_more(j, '}', count) ? glam__json_string(j) : NULL;
    return key && glam__json_need(j, ':', "a colon") ? key : NULL;
}

// A whole number of up to 64 bits; *minus: it has a sign (NULL: not allowed).
static int glam__json_whole(glam__json *j, uint64_t *n, int *minus)
{
    int sign = glam__json_take(j, '-');
    if (minus) *minus = sign;
    else if (sign) return glam__json_wrong(j, "a whole number that is not negative");
    const char *end = j->at + strspn(j->at, "0123456789");
    if (end == j->at || (*j->at == '0' && end - j->at > 1))
        return glam__json_wrong(j, "a whole number");
    for (*n = 0; j->at < end; j->at++) {
        unsigned digit = (unsigned)(*j->at - '0');
        if (*n > (UINT64_MAX - digit) / 10) return glam__json_wrong(j, "a smaller number");
        *n = *n * 10 + digit;
    }
    // 2.5 and 1e3 are numbers, but not here
    return !strspn(end, ".eE") || glam__json_wrong(j, "a whole number");
}

// The numbers of a config are finite; of a run's others JSON has no word, but a string.
static int glam__json_number(glam__json *j, int single, double *value)
{
    char text[72], point[8], *end;
    if (glam__json_peek(j) == '"' && !single) {
        const char *word = glam__json_string(j);
        if (!word) return 0;
        *value = strcmp(word, "nan") == 0 ? (double)NAN : HUGE_VAL * (*word == '-' ? -1 : 1);
        return *value != *value || strcmp(word + (*word == '-'), "inf") == 0 ||
               glam__json_wrong(j, "a number");
    }
    const char *first = j->at + (*j->at == '-');
    size_t digits = strspn(first, "0123456789");
    if (!digits || (*first == '0' && digits > 1) ||
        (first[digits] == '.' && !strspn(first + digits + 1, "0123456789")))
        return glam__json_wrong(j, "a digit");
    int length = (int)strspn(j->at, "+-.0123456789eE"), whole = (int)strcspn(j->at, ".");
    if (length > 64) return glam__json_wrong(j, "the end of a number");
    if (whole > length) whole = length;
    // strtod wants the locale's decimal point
    int dot = snprintf(point, sizeof point, "%.1f", 0.5) - 2, more = length - whole - 1;
    snprintf(text, sizeof text, "%.*s%.*s%.*s", whole, j->at, more < 0 ? 0 : dot, point + 1,
             more < 0 ? 0 : more, j->at + whole + 1);
    j->at += length;
    *value = single ? (double)strtof(text, &end) : strtod(text, &end);
    if (*end) return glam__json_wrong(j, "the end of a number");
    return fabs(*value) <= DBL_MAX || glam__json_wrong(j, "a smaller number");
}

// --- fields: one table per object, for the writer and for the parser ---

typedef enum glam__field_kind {
    GLAM__FIELD_INT, GLAM__FIELD_FLAG, GLAM__FIELD_FLOAT, GLAM__FIELD_DOUBLE, GLAM__FIELD_U64,
    GLAM__FIELD_DIGITS, GLAM__FIELD_ENUM, GLAM__FIELD_TEXT, GLAM__FIELD_OBJECT, GLAM__FIELD_SHAPE,
    GLAM__FIELD_SPAN,
    // the last row: a missing key keeps what the struct has, and an unknown one is an error; or
    // all must be there; or unknown texts are skipped
    GLAM__FIELD_END, GLAM__FIELD_END_ALL, GLAM__FIELD_END_OPEN
} glam__field_kind;

typedef struct glam__field {
    const char *key;
    glam__field_kind kind;
    size_t      at, bytes;         // the place in the struct
    const char *words;             // ENUM: spellings of 0, 1, ...
    const struct glam__field *rows;   // OBJECT; TEXT: an object as a string, whose place
                                      // has the struct (NULL: none) and, once read, the string
} glam__field;

// What stands in that place.
typedef union glam__value {
    int         i;                 // also an enum
    float       f;
    double      d;
    uint64_t    u, span[2];        // span: where a tensor begins and ends
    const char *text;
    glam_shape  shape;
} glam__value;

#define GLAM__PLACE(kind, key, field, words, rows) \
    { key, GLAM__FIELD_##kind, offsetof(GLAM__OF, field), sizeof ((GLAM__OF *)0)->field, \
      words, rows }
#define GLAM__FIELD(kind, field)  GLAM__PLACE(kind, #field, field, NULL, NULL)
#define GLAM__ENUM(field, words)  GLAM__PLACE(ENUM, #field, field, words, NULL)
#define GLAM__ONLY(key, word)     { key, GLAM__FIELD_ENUM, 0, 0, word, NULL }  // no place: word 0
#define GLAM__INT(field)          GLAM__FIELD(INT, field)
#define GLAM__FLOAT(field)        GLAM__FIELD(FLOAT, field)
#define GLAM__DOUBLE(field)       GLAM__FIELD(DOUBLE, field)
#define GLAM__LAST(kind)          { NULL, GLAM__FIELD_##kind, 0, 0, NULL, NULL }

#define GLAM__OF glam_moe_config
static const glam__field glam__moe_rows[] = {
    GLAM__INT(experts), GLAM__INT(top_k), GLAM__INT(every), GLAM__INT(offset), GLAM__INT(hidden),
    GLAM__ENUM(activation, GLAM__ACTIVATIONS), GLAM__ONLY("second_policy", "all"),
    GLAM__FLOAT(capacity_factor), GLAM__INT(capacity), GLAM__INT(group),
    GLAM__ENUM(normalise, "before_drop|after_drop|none"),
    GLAM__FLOAT(aux_weight), GLAM__FLOAT(router_z_weight), GLAM__FLOAT(router_cap),
    GLAM__ENUM(router, GLAM__ROUTERS), GLAM__ENUM(score, "softmax|sigmoid"),
    GLAM__FLOAT(temperature), GLAM__FLOAT(threshold), GLAM__FLOAT(weight_scale), GLAM__INT(bias),
    GLAM__FLOAT(bias_rate), GLAM__INT(shared),
    GLAM__LAST(END)
};
#undef GLAM__OF

#define GLAM__OF glam_rotary
static const glam__field glam__rotary_rows[] = {
    GLAM__FLOAT(theta), GLAM__ENUM(scaling, "none|linear|llama3|yarn"), GLAM__FLOAT(factor),
    GLAM__INT(context), GLAM__FLOAT(low), GLAM__FLOAT(high), GLAM__FLOAT(attention),
    GLAM__LAST(END)
};
#undef GLAM__OF

#define GLAM__OF glam_config
static const glam__field glam__config_rows[] = {
    GLAM__INT(vocab), GLAM__INT(context), GLAM__INT(layers), GLAM__INT(d_model), GLAM__INT(heads),
    GLAM__INT(d_head), GLAM__INT(kv_heads), GLAM__INT(hidden),
    GLAM__ENUM(position, "buckets|transformer_xl|none|rotary"),
    GLAM__INT(buckets), GLAM__INT(max_distance), GLAM__FLOAT(attention_scale),
    GLAM__FIELD(FLAG, attention_sink), GLAM__FLOAT(attention_cap),
    GLAM__ENUM(qk_norm, "none|head|whole"),
    { "rotary", GLAM__FIELD_OBJECT, offsetof(glam_config, rotary), 0, NULL, glam__rotary_rows },
    GLAM__FLOAT(embed_scale), GLAM__FLOAT(residual_scale),
    GLAM__ENUM(activation, GLAM__ACTIVATIONS), GLAM__FLOAT(norm_eps), GLAM__FIELD(FLAG, tied),
    GLAM__FLOAT(logit_scale), GLAM__FLOAT(logit_cap), GLAM__FLOAT(z_loss),
    { "moe", GLAM__FIELD_OBJECT, offsetof(glam_config, moe), 0, NULL, glam__moe_rows },
    GLAM__LAST(END)
};
#undef GLAM__OF

// What a key that is missing there means; what is missing here too is zero, or the first word.
// These belong to the format, and stay when glam_config_default() finds better ones.
#define GLAM__CONFIG_MISSING \
    "{\"context\":64,\"position\":\"buckets\",\"buckets\":32,\"max_distance\":128," \
    "\"attention_scale\":1,\"attention_sink\":true,\"activation\":\"gelu_tanh\"," \
    "\"embed_scale\":1,\"residual_scale\":1," \
    "\"norm_eps\":1e-6,\"tied\":true,\"z_loss\":1e-4,\"moe\":{\"top_k\":2,\"every\":2," \
    "\"activation\":\"relu\",\"normalise\":\"before_drop\",\"aux_weight\":0.01,\"temperature\":1," \
    "\"threshold\":0.5,\"weight_scale\":1,\"bias_rate\":0.001}}"

#define GLAM__OF glam_recipe
static const glam__field glam__recipe_rows[] = {
    GLAM__ENUM(optimizer, "adafactor|adamw"), GLAM__ENUM(schedule, "paper|cosine|constant"),
    GLAM__DOUBLE(lr), GLAM__DOUBLE(embed_lr), GLAM__DOUBLE(bias_lr), GLAM__INT(warmup),
    GLAM__DOUBLE(min_lr), GLAM__INT(steps), GLAM__INT(batch), GLAM__INT(context),
    GLAM__INT(accumulate), GLAM__INT(recompute), GLAM__INT(update_in_backward), GLAM__DOUBLE(clip),
    GLAM__DOUBLE(weight_decay), GLAM__INT(decay_all), GLAM__DOUBLE(beta1), GLAM__DOUBLE(beta2),
    GLAM__DOUBLE(eps), GLAM__INT(factor_min), GLAM__DOUBLE(update_clip), GLAM__DOUBLE(eps1),
    GLAM__DOUBLE(eps2), GLAM__INT(parameter_scale), GLAM__INT(aux_off_when_frozen),
    GLAM__INT(max_bad_steps), GLAM__INT(eval_every), GLAM__INT(patience),
    GLAM__FIELD(U64, seed), GLAM__LAST(END)
};
#undef GLAM__OF

// Where a run stands, as far as it lives in a trainer t, and where there.
#define GLAM__STATE_OF_TRAINER(ROW) \
    ROW(int,      INT,    step,           t->step) \
    ROW(uint64_t, U64,    tokens,         t->tokens) \
    ROW(int,      INT,    bad_steps,      t->optimizer->bad_steps) \
    ROW(int,      INT,    bad_row,        t->optimizer->bad_row) \
    ROW(uint64_t, U64,    seed,           *glam__seed(t->model->ctx)) \
    ROW(double,   DOUBLE, best_valid,     t->best_valid) \
    ROW(int,      INT,    bad_evals,      t->bad_evals) \
    ROW(int,      INT,    optimizer_step, t->optimizer->step) \
    ROW(int,      INT,    stopped,        t->stopped) \
    ROW(double,   DOUBLE, valid_loss,     t->valid_loss) \
    ROW(int,      INT,    owed,           t->owed)
#define GLAM__STATE_FIELD(type, kind, field, place) type field;
#define GLAM__STATE_ROW(type, kind, field, place)   GLAM__FIELD(kind, field),
#define GLAM__STATE_SAVE(type, kind, field, place)  s->field = place;
#define GLAM__STATE_LOAD(type, kind, field, place)  place = s->field;

typedef struct glam__file_state {
    GLAM__STATE_OF_TRAINER(GLAM__STATE_FIELD)
    uint64_t train_tokens, valid_tokens, train_checksum, valid_checksum, pieces;
    const char *frozen;            // for each tensor of the model '1' (frozen) or '0'
    const char *frozen_experts;    // NULL: none; or such for those of each layer in turn
    glam_arithmetic arithmetic;    // of an older file: f32
} glam__file_state;

#define GLAM__OF glam__file_state
static const glam__field glam__state_rows[] = {
    GLAM__STATE_OF_TRAINER(GLAM__STATE_ROW)
    GLAM__FIELD(U64, train_tokens), GLAM__FIELD(U64, valid_tokens),
    GLAM__FIELD(DIGITS, train_checksum), GLAM__FIELD(DIGITS, valid_checksum),
    GLAM__FIELD(DIGITS, pieces), GLAM__FIELD(TEXT, frozen),
    GLAM__FIELD(TEXT, frozen_experts),
    GLAM__ENUM(arithmetic, "f32|bf16|bf16_tiles"),
    GLAM__LAST(END)
};
#undef GLAM__OF

// What a header says of the file, and of a tensor.
typedef struct glam__meta {
    const char *format, *checksum;
    const void *config, *recipe, *state;
} glam__meta;

#define GLAM__OF glam__meta
static const glam__field glam__meta_rows[] = {
    GLAM__FIELD(TEXT, format), GLAM__PLACE(TEXT, "glam.checksum", checksum, NULL, NULL),
    GLAM__PLACE(TEXT, "glam.config", config, NULL, glam__config_rows),
    GLAM__PLACE(TEXT, "glam.recipe", recipe, NULL, glam__recipe_rows),
    GLAM__PLACE(TEXT, "glam.state", state, NULL, glam__state_rows),
    GLAM__LAST(END_OPEN)           // other programs leave notes there
};
#undef GLAM__OF

// What a tensor of a file is made of: the weights, in the order of glam_type (the scales of one of
// q8, in bf16, are a tensor of their own), and the tokenizer's bytes.
enum { GLAM__F32, GLAM__B16, GLAM__I8, GLAM__U8 };
static const int glam__type_bytes[] = { 4, 2, 1, 1 };

typedef struct glam__entry { glam_shape shape; uint64_t span[2]; int type; } glam__entry;

#define GLAM__OF glam__entry
static const glam__field glam__entry_rows[] = {
    GLAM__PLACE(ENUM, "dtype", type, "F32|BF16|I8|U8", NULL), GLAM__FIELD(SHAPE, shape),
    GLAM__PLACE(SPAN, "data_offsets", span, NULL, NULL), GLAM__LAST(END_ALL)
};
#undef GLAM__OF

// Word number `index` of "a|b|c" and what follows it; "": there are fewer.
static const char *glam__field_word(const char *words, int index)
{
    for (; index > 0 && *words; index--) {
        words += strcspn(words, "|");
        words += *words == '|';
    }
    return words;
}

static void glam__fields_put(glam__json_out *out, const glam__field *rows, const void *base)
{
    for (const glam__field *r = rows; r->key; r++) {
        const char *place = (const char *)base + r->at, *word;
        glam__value v;
        memset(&v, 0, sizeof v);
        memcpy(&v, place, r->bytes);
        if (r->kind == GLAM__FIELD_TEXT && !v.text) continue;
        glam__json_print(out, "%c\"%s\":", r == rows ? '{' : ',', r->key);
        switch (r->kind) {
        case GLAM__FIELD_INT:    glam__json_print(out, "%d", v.i); break;
        case GLAM__FIELD_FLAG:   glam__json_print(out, v.i ? "true" : "false"); break;
        case GLAM__FIELD_FLOAT:  glam__json_real(out, (double)v.f, 1); break;
        case GLAM__FIELD_DOUBLE: glam__json_real(out, v.d, 0); break;
        case GLAM__FIELD_U64:    glam__json_print(out, "%llu", (unsigned long long)v.u); break;
        case GLAM__FIELD_DIGITS:
            glam__json_print(out, "\"%016llx\"", (unsigned long long)v.u);
            break;
        case GLAM__FIELD_ENUM:
            word = glam__field_word(r->words, v.i);
            glam__json_print(out, "\"%.*s\"", (int)strcspn(word, "|"), word);
            break;
        case GLAM__FIELD_SHAPE:  glam__json_print(out, "%s", glam__say(v.shape).text); break;
        case GLAM__FIELD_SPAN:
            glam__json_print(out, "[%llu,%llu]", (unsigned long long)v.span[0],
                             (unsigned long long)v.span[1]);
            break;
        case GLAM__FIELD_OBJECT: glam__fields_put(out, r->rows, place); break;
        default:
            if (!r->rows) { glam__json_text(out, v.text); break; }
            glam__json_char(out, '"');
            out->quoted++;
            glam__fields_put(out, r->rows, v.text);
            out->quoted--;
            glam__json_char(out, '"');
        }
    }
    glam__json_char(out, '}');
}

static int glam__field_wrong(glam__json *j, const char *what, const char *key)
{
    glam_fail(j->ctx, GLAM_ERR_FORMAT, "load %s: %s %s \"%s\"", j->path, j->part, what, key);
    return 0;
}

static int glam__field_enum(glam__json *j, const glam__field *r, int *index)
{
    const char *text = glam__json_string(j), *word;
    if (!text) return 0;
    for (*index = 0; *(word = glam__field_word(r->words, *index)); ++*index)
        if (strlen(text) == strcspn(word, "|") && !strncmp(text, word, strlen(text))) return 1;
    glam_fail(j->ctx, GLAM_ERR_FORMAT, "load %s: %s: %s is \"%s\", but must be one of %s", j->path,
              j->part, r->key, text, r->words);
    return 0;
}

// A list of whole numbers: a shape, or a span.
static int glam__field_list(glam__json *j, glam__field_kind kind, glam__value *v)
{
    uint64_t n[5] = { 1, 1, 1, 1, 1 };
    int count = 0;
    if (!glam__json_need(j, '[', "a list")) return 0;
    while (glam__json_more(j, ']', &count))
        if (!glam__json_whole(j, &n[count <= 4 ? count - 1 : 4], NULL)) return 0;
    if (kind == GLAM__FIELD_SPAN) {
        memcpy(v->span, n, sizeof v->span);
        return count == 2 ||
               glam__json_wrong(j, count > 2 ? "no more than two offsets" : "two offsets");
    }
    v->shape.dims = count;
    for (int i = 0; i < 4; i++) {
        if (count < 1 || count > 4 || n[i] < 1 || n[i] > 2147483647u)
            return glam__json_wrong(j, "1 to 4 dimensions from 1 to 2^31 - 1");
        v->shape.dim[i] = (int)n[i];
    }
    return 1;
}

// The value of one row.
static int glam__field_read(glam__json *j, const glam__field *r, glam__value *v)
{
    const char *text;
    double d = 0;
    int minus;
    switch (r->kind) {
    case GLAM__FIELD_INT:
        if (!glam__json_whole(j, &v->u, &minus)) return 0;
        if (v->u > 2147483647u) return glam__json_wrong(j, "a number of 32 bits");
        v->i = minus ? -(int)v->u : (int)v->u;
        return 1;
    case GLAM__FIELD_FLAG:
        v->i = glam__json_peek(j) == 't';
        for (text = v->i ? "true" : "false"; *text; text++, j->at++)
            if (*j->at != *text) return glam__json_wrong(j, "true or false");
        return 1;
    case GLAM__FIELD_FLOAT:
        if (!glam__json_number(j, 1, &d)) return 0;
        v->f = (float)d;
        return 1;
    case GLAM__FIELD_DOUBLE: return glam__json_number(j, 0, &v->d);
    case GLAM__FIELD_U64:    return glam__json_whole(j, &v->u, NULL);
    case GLAM__FIELD_DIGITS:
        text = glam__json_string(j);
        return text && ((strlen(text) == 16 && glam__hex_read(text, 16, GLAM__HEX, &v->u)) ||
                        glam__json_wrong(j, "16 hexadecimal digits"));
    case GLAM__FIELD_ENUM:   return glam__field_enum(j, r, &v->i);
    case GLAM__FIELD_SHAPE: case GLAM__FIELD_SPAN: return glam__field_list(j, r->kind, v);
    default:
        v->text = glam__json_string(j);
        return v->text != NULL;
    }
}

static int glam__by_text(const void *a, const void *b)
{ return strcmp(*(const char *const *)a, *(const char *const *)b); }

// Is any of the unknown keys there twice?  There is room for as many as can differ.
static int glam__json_keys_differ(glam__json *j)
{
    size_t count = j->key_count < j->key_room ? j->key_count : j->key_room;
    if (count) qsort(j->keys, count, sizeof *j->keys, glam__by_text);
    for (size_t i = 1; i < count; i++)
        if (!strcmp(j->keys[i - 1], j->keys[i]))
            return glam__field_wrong(j, "has the same key twice:", j->keys[i]);
    return 1;
}

// An object into base, which holds the defaults.  The only recursion, and the tables bound it.
static int glam__fields_read(glam__json *j, const glam__field *rows, void *base)
{
    const glam__field *last = rows;
    uint64_t seen = 0;
    int count = 0;
    while (last->key) last++;
    if (!glam__json_need(j, '{', "an object")) return 0;
    for (const char *key; (key = glam__json_key(j, &count)) != NULL;) {
        const glam__field *r = rows;
        glam__value v;
        while (r < last && strcmp(r->key, key) != 0) r++;
        if (r == last && last->kind != GLAM__FIELD_END_OPEN)
            return glam__field_wrong(j, "has an unknown key", key);
        if (r < last && (seen >> (r - rows) & 1))
            return glam__field_wrong(j, "has the same key twice:", key);
        if (r == last && j->key_count++ < j->key_room) j->keys[j->key_count - 1] = key;
        seen |= (uint64_t)1 << (r - rows);
        char *place = (char *)base + r->at;
        if (r->kind == GLAM__FIELD_OBJECT) {
            if (!glam__fields_read(j, r->rows, place)) return 0;
        } else {
            if (!glam__field_read(j, r, &v)) return 0;
            memcpy(place, &v, r->bytes);
        }
    }
    for (const glam__field *r = rows; last->kind == GLAM__FIELD_END_ALL && r < last; r++)
        if (!(seen >> (r - rows) & 1)) return glam__field_wrong(j, "lacks its", r->key);
    return glam_error(j->ctx) == GLAM_OK &&
           (last->kind != GLAM__FIELD_END_OPEN || glam__json_keys_differ(j));
}

// --- the checksum: a sum over words, so that slices of a file may be added in any order ---

typedef struct glam__file_sum {
    uint64_t sum, at, word;        // at: bytes so far; word: those of an unfinished eight
} glam__file_sum;

// Eight bytes, little endian; compilers make it one load.
static uint64_t glam__file_word(const unsigned char *p)
{
    return (uint64_t)p[0]       | (uint64_t)p[1] << 8  | (uint64_t)p[2] << 16 |
           (uint64_t)p[3] << 24 | (uint64_t)p[4] << 32 | (uint64_t)p[5] << 40 |
           (uint64_t)p[6] << 48 | (uint64_t)p[7] << 56;
}

static void glam__file_sum_add(glam__file_sum *sum, const void *data, size_t bytes)
{
    const unsigned char *p = (const unsigned char *)data, *end = p + bytes;
    glam__file_sum s = *sum;
    while (p < end) {
        unsigned n = s.at % 8 == 0 && end - p >= 8 ? 8 : 1;
        s.word |= n == 8 ? glam__file_word(p) : (uint64_t)*p << 8 * (s.at % 8);
        s.at += n;
        p += n;
        if (s.at % 8) continue;
        // for one place a permutation: damage inside a single word is always seen
        s.sum += glam__mix64(s.word + s.at / 8 * 0x9e3779b97f4a7c15u);
        s.word = 0;
    }
    *sum = s;
}

static uint64_t glam__file_sum_end(const glam__file_sum *s)
{
    glam__file_sum whole = *s;
    glam__file_sum_add(&whole, "\0\0\0\0\0\0\0", (8 - s->at % 8) % 8);
    return whole.sum + glam__mix64(s->at ^ 0x676c616dull << 32);        // the length, and "glam"
}

// --- a file: on disk or in memory, being written or read ---

// One tensor: to be written, wanted from a file, or found in it.
typedef struct glam__file_item {
    const char *name;
    void       *data;              // NULL: found
    uint64_t    begin;             // from the start of the numbers
    glam_shape  shape;             // of the whole
    short       type, wanted;      // wanted: found, and asked for
} glam__file_item;

static uint64_t glam__item_bytes(const glam__file_item *t)
{ return glam__mul(glam__count(t->shape), (uint64_t)glam__type_bytes[t->type]); }

typedef struct glam__file {
    glam_ctx   *ctx;
    const char *path, *verb;       // verb: "save" or "load", for messages
    int         handle;            // of the system; -1: memory
    char       *memory;
    uint64_t    length, at;        // bytes in all; where the handle stands
    char       *goal, *temporary;  // what path means, links followed; the file beside it
    uint64_t    number;            // of the temporary file's name
    int         there, links;      // the goal exists, under so many names
    glam__file_sum sum;
    glam__arena own;               // has what follows, until glam__file_end
    char       *header;
    size_t      header_bytes;
    glam__meta  meta;
    glam__file_item *items, *found;              // to be written, or wanted; what a file has
    const glam__split **splits;                  // of the items
    glam_tensor **into;                          // items that become narrow; NULL: none
    int         item_count, found_count;
    unsigned char *types;          // a model's: of each of its tensors, in their order
#if GLAM__POSIX
    struct stat was;               // the goal
#endif
} glam__file;

// Says which file it was; 0, so that it can be returned.
static int glam__file_fail(const glam__file *f, glam_status status, const char *format, ...)
{
    char text[GLAM__LINES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    glam_fail(f->ctx, status, "%s %s: %s", f->verb, f->path, text);
    return 0;
}

static int glam__file_wrong(const glam__file *f, const char *name, const char *what)
{ return glam__file_fail(f, GLAM_ERR_FORMAT, "%s %s", name, what); }

// May this context save or load now?
static int glam__file_begin(glam__file *f, glam_ctx *ctx, const char *path, const char *verb)
{
    memset(f, 0, sizeof *f);
    f->ctx = ctx;  f->path = path;  f->verb = verb;  f->handle = -1;
    if (glam_error(ctx) != GLAM_OK) return 0;
    if (!path) return !glam_fail(ctx, GLAM_ERR_VALUE, "%s: the path or the data is NULL", verb);
    return !glam__measuring(ctx) ||
           glam__file_fail(f, GLAM_ERR_STATE, "a context that measures has no values");
}

static int glam__file_close(glam__file *f)
{
    int ok = 1;
#if GLAM__FILES
    if (f->handle >= 0) ok = GLAM__CLOSE(f->handle) == 0;
#endif
    f->handle = -1;
    return ok;
}

static glam_status glam__file_end(glam__file *f)
{
    glam__file_close(f);
    glam__arena_release(f->ctx, &f->own);
    return f->ctx ? glam__farewell(f->ctx) : GLAM_ERR_MEMORY;
}

// Bytes from p into the file at a place, or from there to p.
static int glam__file_move(glam__file *f, uint64_t at, void *data, size_t bytes, int writing)
{
#if GLAM__FILES
    if (f->handle >= 0) {
        if (at != f->at && GLAM__LSEEK(f->handle, at, SEEK_SET) < 0) return 0;
        f->at = at + bytes;
        return glam__move_bytes(f->handle, data, bytes, writing) == bytes;
    }
#endif
    if (bytes && writing) memcpy(f->memory + at, data, bytes);
    else if (bytes) memcpy(data, f->memory + at, bytes);
    return 1;
}

static int glam__file_get(glam__file *f, uint64_t at, void *to, size_t bytes)
{
    return glam__file_move(f, at, to, bytes, 0) ||
           glam__file_fail(f, GLAM_ERR_FILE, "cannot read it: %s", errno ? strerror(errno)
                                                               : "it became shorter meanwhile");
}

// At the end of what was written so far.
static int glam__file_put(glam__file *f, const void *data, size_t bytes)
{
    uint64_t at = f->sum.at;
    glam__file_sum_add(&f->sum, data, bytes);
    return glam__file_move(f, at, (void *)data, bytes, 1);
}

// Shares of a checksum: sums over words, so those of the ranks add up in any order.  Only the last
// rank may have an unfinished word.
static int glam__file_sum_join(glam__file *f, int *plain)
{
    glam__mesh *m = f->ctx->mesh;
    uint64_t *all = (uint64_t *)(void *)m->work;
    size_t size = (size_t)m->world.size;
    *plain = !glam__agree(f->ctx, f->verb, !*plain);
    all[2 * m->world.rank] = f->sum.sum;
    all[2 * m->world.rank + 1] = f->sum.word;
    glam__all_gather(f->ctx, &m->world, &m->sent.files, all, 2 * size, sizeof *all);
    f->sum.sum = 0;
    for (size_t r = 0; r < size; r++) f->sum.sum += all[2 * r];
    f->sum.word = all[2 * size - 1];
    f->sum.at = f->length;
    return !f->ctx->error;
}

// The bytes of each number between little endian and the machine's order, either way.
static void glam__file_turn(void *to, const void *from, size_t count, int type)
{
    const unsigned char *b = (const unsigned char *)from;
    unsigned char *t = (unsigned char *)to;
    if (glam__type_bytes[type] == 1 && to != from) memcpy(to, from, count);
    for (; count && type == GLAM__B16; count--, b += 2, t += 2) {
        uint16_t word = (uint16_t)(b[0] | b[1] << 8);
        memcpy(t, &word, 2);
    }
    for (; count && type == GLAM__F32; count--, b += 4, t += 4) {
        uint32_t word = b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
        memcpy(t, &word, 4);
    }
}

// A file once through the checksum, its own digits (spelled plainly, else *plain is 0) taken as
// zeros.  On a mesh each rank reads its share of it.
static int glam__file_sum_all(glam__file *f, const char *checksum, int *plain)
{
    glam__mesh *m = f->ctx->mesh;
    uint64_t digits = 8 + (uint64_t)(checksum - f->header), words = f->length / 8, end = f->length;
    char *chunk = (char *)glam__take(f->ctx, &f->own, GLAM__FILE_CHUNK);
    if (!chunk) return 0;
    memset(&f->sum, 0, sizeof f->sum);
    if (m) {
        f->sum.at = 8 * glam__share((size_t)words, m->world.rank, m->world.size);
        if (m->world.rank + 1 < m->world.size)
            end = 8 * glam__share((size_t)words, m->world.rank + 1, m->world.size);
    }
    for (size_t n; f->sum.at < end;) {
        uint64_t at = f->sum.at, left = end - at;
        n = left < GLAM__FILE_CHUNK ? (size_t)left : GLAM__FILE_CHUNK;
        if (!glam__file_get(f, at, chunk, n)) return 0;
        for (uint64_t i = 0; i < 16; i++) {
            if (digits + i < at || digits + i >= at + n) continue;
            *plain &= chunk[digits + i - at] == checksum[i];
            chunk[digits + i - at] = '0';
        }
        glam__file_sum_add(&f->sum, chunk, n);
    }
    return !m || glam__file_sum_join(f, plain);
}

// --- the tensors of a model, an optimiser or a caller ---

static int glam__found_by_name(const void *a, const void *b)
{ return strcmp(((const glam__file_item *)a)->name, ((const glam__file_item *)b)->name); }

// An entry of the file by its name; NULL: there is none.
static glam__file_item *glam__file_entry(const glam__file *f, const char *name)
{
    const glam__file_item t = { name, NULL, 0, { 0, { 0 } }, 0, 0 };
    return (glam__file_item *)bsearch(&t, f->found, (size_t)f->found_count, sizeof t,
                                      glam__found_by_name);
}

// The scales of an item of q8, <name>.scales: one for each block of its rows.
static int glam__file_scales(glam__file *f, const glam__file_item *of, glam__file_item *scales)
{
    size_t bytes = strlen(of->name) + sizeof ".scales";
    char *name = (char *)glam__take(f->ctx, &f->own, bytes);
    *scales = *of;
    scales->name = name;
    scales->type = GLAM__B16;
    int *last = &scales->shape.dim[scales->shape.dims - 1];
    *last = glam__blocks_of(*last);
    if (name) snprintf(name, bytes, "%s.scales", of->name);
    return name != NULL;
}

// Once the file to be read has been found, each is of the type that it has there.
// optimizer: NULL, or its slots are listed too, as optimizer.<name>.<slot>.
static int glam__file_list(glam__file *f, glam_tensor *const *tensors, int count,
                           const glam_optimizer *optimizer)
{
    glam__slot slot[2];
    int params = optimizer ? optimizer->count : 0;
    size_t most = 2 * (size_t)count + 2 * (size_t)params + 1;  // scales, a tokenizer may follow
    for (int i = 0; i < count; i++) most += tensors[i]->type == GLAM_TYPE_Q8;
    f->item_count = 0;
    f->into = NULL;
    f->items = (glam__file_item *)glam__take(f->ctx, &f->own, most * sizeof *f->items);
    f->splits = (const glam__split **)glam__take(f->ctx, &f->own, most * sizeof *f->splits);
    if (!f->items || !f->splits) return 0;
    for (int i = 0; i < count; i++) {
        glam_tensor *t = tensors[i];
        const glam__file_item *e = f->found ? glam__file_entry(f, t->name) : NULL;
        glam__file_item item = { t->name, t->type ? t->narrow : t->data, 0, glam__whole(t),
                                 (short)t->type, 0 };
        if (e && e->type < item.type) {                    // it becomes narrow as it comes
            item.type = e->type;
            if (!f->into) f->into = (glam_tensor **)glam__take(f->ctx, &f->own, most * sizeof t);
            if (!f->into) return 0;
            f->into[f->item_count] = t;
        }
        f->splits[f->item_count] = t->split;
        f->items[f->item_count++] = item;
        if (item.type != GLAM__I8) continue;
        if (!glam__file_scales(f, &item, &f->items[f->item_count])) return 0;
        f->items[f->item_count].data = glam__scales_of(t);
        f->splits[f->item_count++] = NULL;
    }
    for (int i = 0; i < params; i++) {
        int kept = glam__optimizer_slots(optimizer, i, slot);
        for (int k = 0; k < kept; k++) {
            const char *of = optimizer->params[i]->name;
            size_t bytes = strlen(of) + strlen(slot[k].name) + sizeof "optimizer..";
            char *name = (char *)glam__take(f->ctx, &f->own, bytes);
            if (!name) return 0;
            snprintf(name, bytes, "optimizer.%s.%s", of, slot[k].name);
            const glam__slot *s = &slot[k];
            glam__file_item item = { name, s->data, 0, s->split ? s->split->whole : s->shape,
                                     GLAM__F32, 0 };
            f->splits[f->item_count] = s->split;
            f->items[f->item_count++] = item;
        }
    }
    return 1;
}

// The scales of adapters, as tensors of one number.
static int glam__file_list_scales(glam__file *f, const glam_model *model)
{
    for (int i = 0; i < model->weights; i++) {
        const glam_tensor *w = model->tensors[i];
        if (!w->low) continue;
        size_t bytes = strlen(w->name) + sizeof ".lora_scale";
        char *name = (char *)glam__take(f->ctx, &f->own, bytes);
        if (!name) return 0;
        snprintf(name, bytes, "%s.lora_scale", w->name);
        glam__file_item item = { name, &w->low->scale, 0, glam_dim1(1), GLAM__F32, 0 };
        f->splits[f->item_count] = NULL;
        f->items[f->item_count++] = item;
    }
    return 1;
}

// The tensors of a model, from number `first` on.
static int glam__file_list_tensors(glam__file *f, const glam_model *model, int first,
                                   const glam_optimizer *optimizer)
{
    return glam__file_list(f, model->tensors + first, model->count - first, optimizer) &&
           glam__file_list_scales(f, model);
}

// A model with all that belongs to it.
static int glam__file_list_model(glam__file *f, const glam_model *model,
                                 const glam_optimizer *optimizer)
{
    if (!glam__file_list_tensors(f, model, 0, optimizer)) return 0;
    if (!glam_tokenizer_vocabulary(model->tokenizer)) return 1;
    uint64_t bytes = glam__tokenizer_pack(model->tokenizer, NULL);
    unsigned char *packed = (unsigned char *)glam__take(f->ctx, &f->own, bytes);
    if (!packed) return 0;
    if (bytes > INT32_MAX) return glam__file_fail(f, GLAM_ERR_VALUE, "its tokenizer has over 2 GB");
    glam__tokenizer_pack(model->tokenizer, packed);
    glam__file_item item = { "tokenizer", packed, 0, glam_dim1((int)bytes), GLAM__U8, 0 };
    f->splits[f->item_count] = NULL;
    f->items[f->item_count++] = item;
    return 1;
}

// The tensors of a caller, each with values and a name of its own.
static int glam__file_list_given(glam__file *f, glam_tensor *const *tensors, int count)
{
    if (count < 0 || (count > 0 && !tensors))
        return glam__file_fail(f, GLAM_ERR_VALUE, "%d tensors at %s", count,
                               tensors ? "an array" : "NULL");
    for (int i = 0; i < count; i++) {
        const glam_tensor *t = tensors[i];
        const char *wrong = !t ? "is NULL" : !t->data && !t->narrow ? "has no values" :
            !t->name || !*t->name ||
            strcmp(t->name, "__metadata__") == 0 ? "has no name; make it with glam_param" :
            !glam__is_utf8(t->name) ? "has a name that is not UTF-8" : NULL;
        for (int k = 0; !wrong && k < i; k++)
            if (strcmp(tensors[k]->name, t->name) == 0) wrong = "has the name of another one";
        if (wrong)
            return glam__file_fail(f, GLAM_ERR_VALUE, "tensor %d of %d %s", i, count, wrong);
    }
    return glam__file_list(f, tensors, count, NULL);
}

// --- writing ---

// For each expert of each layer '1' (frozen) or '0'; NULL: none is.
static char *glam__file_frozen_experts(glam__file *f, const glam_model *model)
{
    int layers = model->config.layers, E = model->config.moe.experts, some = 0;
    for (int i = 0; i < layers; i++) some |= model->layers[i].some_frozen;
    if (!some) return NULL;
    char *text = (char *)glam__take(f->ctx, &f->own, (uint64_t)layers * (uint64_t)E + 1);
    char *to = text;
    for (int i = 0; i < layers && text; i++)
        for (int e = 0; e < E; e++) *to++ = model->layers[i].frozen[e] ? '1' : '0';
    return text;
}

// The other way; 0: it does not fit the model.
static int glam__file_freeze_experts(glam_model *model, const char *text)
{
    size_t E = (size_t)model->config.moe.experts, all = E * (size_t)model->config.layers;
    if (!text) return 1;
    if (strlen(text) != all || strspn(text, "01") != all) return 0;
    for (int i = 0; i < model->config.layers; i++, text += E) {
        unsigned char *row = model->layers[i].frozen;
        for (size_t e = 0; e < E; e++) row[e] = text[e] == '1';
        if (model->layers[i].mixture) glam_freeze_experts(model, i, row);
    }
    return 1;
}

// What a checkpoint says of where its run stands; NULL without memory.
static glam__file_state *glam__file_state_of(glam__file *f, const glam_trainer *t)
{
    const glam_model *model = t->model;
    glam__file_state *s = (glam__file_state *)glam__take(f->ctx, &f->own, sizeof *s);
    char *frozen = (char *)glam__take(f->ctx, &f->own, (uint64_t)model->count + 1);
    if (!s || !frozen) return NULL;
    for (int i = 0; i < model->count; i++) frozen[i] = model->tensors[i]->wants_grad ? '0' : '1';
    GLAM__STATE_OF_TRAINER(GLAM__STATE_SAVE)
    s->train_tokens = glam_text_length(t->train);
    s->train_checksum = glam__text_checksum(t->train);
    s->valid_tokens = glam_text_length(t->valid);
    s->valid_checksum = glam__text_checksum(t->valid);
    s->pieces = glam__text_pieces(t->train) ^ glam__mix64(glam__text_pieces(t->valid));
    s->arithmetic = f->ctx->options.arithmetic;
    s->frozen = frozen;
    s->frozen_experts = glam__file_frozen_experts(f, model);
    return f->ctx->error ? NULL : s;
}

// config and trainer are NULL where there is none.  The checksum stays zero.
static int glam__file_header(glam__file *f, const glam_config *config, const glam_trainer *trainer)
{
    glam__json_out out;
    memset(&out, 0, sizeof out);
    f->meta.format = "glam";  f->meta.checksum = "0000000000000000";
    f->meta.config = config;
    f->meta.recipe = trainer ? &trainer->recipe : NULL;
    f->meta.state = trainer ? glam__file_state_of(f, trainer) : NULL;
    if (trainer && !f->meta.state) return 0;
    for (int pass = 0; pass < 2; pass++) {      // first without room, to measure
        uint64_t at = 0;
        out.size = 0;
        glam__json_print(&out, "{\"__metadata__\":");
        glam__fields_put(&out, glam__meta_rows, &f->meta);
        for (int i = 0; i < f->item_count; i++) {
            const glam__file_item *t = &f->items[i];
            glam__entry e = { t->shape, { at, at + glam__item_bytes(t) }, t->type };
            f->items[i].begin = at;
            glam__json_char(&out, ',');
            glam__json_text(&out, t->name);
            glam__json_char(&out, ':');
            glam__fields_put(&out, glam__entry_rows, &e);
            at = e.span[1];
        }
        glam__json_char(&out, '}');
        while (out.size % 8) glam__json_char(&out, ' ');
        if (out.size > GLAM__HEADER_MOST)
            return glam__file_fail(f, GLAM_ERR_VALUE, "%lu bytes of names, but a header has at "
                                   "most %lu", (unsigned long)out.size,
                                   (unsigned long)GLAM__HEADER_MOST);
        f->length = 8 + out.size + at;
        if (out.data) break;
        f->header_bytes = out.room = out.size;
        f->header = out.data = (char *)glam__take(f->ctx, &f->own, out.size + 1);
        if (!f->header) return 0;
    }
    f->meta.checksum = strstr(f->header, f->meta.checksum);
    return 1;
}

// In one pass: the checksum is of the file with zeros for its digits, which come last.
static int glam__file_put_all(glam__file *f)
{
    unsigned char length[8];
    char digits[17];
    float *turned = (float *)glam__take(f->ctx, &f->own, GLAM__FILE_CHUNK);
    if (!turned) return 0;
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)f->header_bytes >> 8 * i);
    if (!glam__file_put(f, length, 8) || !glam__file_put(f, f->header, f->header_bytes)) return 0;
    for (int i = 0; i < f->item_count; i++) {
        const glam__file_item *t = &f->items[i];
        size_t bytes = (size_t)glam__item_bytes(t);
        for (size_t n, at = 0; at < bytes; at += n) {
            n = bytes - at < GLAM__FILE_CHUNK ? bytes - at : GLAM__FILE_CHUNK;
            glam__file_turn(turned, (const char *)t->data + at,
                            n / (size_t)glam__type_bytes[t->type], t->type);
            if (!glam__file_put(f, turned, n)) return 0;
        }
    }
    snprintf(digits, sizeof digits, "%016llx", (unsigned long long)glam__file_sum_end(&f->sum));
    return glam__file_move(f, 8 + (uint64_t)(f->meta.checksum - f->header), digits, 16, 1);
}

#if GLAM__FILES
// ---- where a save goes

// Syncs the folder of a path, and cuts the path to it.  One that cannot be opened, or belongs to a
// system that does not sync folders, is no failure of ours.
static int glam__sync_folder(char *path GLAM__UNUSED)
{
    int ok = 1;
#if GLAM__POSIX
    char *slash = strrchr(path, '/');
    if (slash) slash[slash == path] = 0;        // "/x" lies in "/"
    int f = glam__open_file(slash ? path : ".", GLAM__READ, 0);
    if (f < 0) return 1;
    ok = GLAM__FSYNC(f) == 0 || errno == EINVAL || errno == ENOTSUP || errno == EROFS;
    int error = errno;
    close(f);
    errno = error;
#endif
    return ok;
}

// Follows the links that the path ends in, as an editor does: what they mean is replaced, and they
// stay.  Anything there but a file is refused before a byte is written.
static int glam__file_goal(glam__file *f)
{
    size_t room = strlen(f->path) + 1;
    f->goal = (char *)glam__take(f->ctx, &f->own, room);
    if (!f->goal) return 0;
    memcpy(f->goal, f->path, room);
#if GLAM__POSIX
    enum { LONGEST = 4096, MOST = 40 };
    for (int links = 0; ; links++) {
        const char *slash = strrchr(f->goal, '/');
        size_t folder = slash ? (size_t)(slash - f->goal) + 1 : 0;
        char *next = (char *)glam__take(f->ctx, &f->own, folder + LONGEST + 1);
        if (!next) return 0;
        ssize_t n = readlink(f->goal, next + folder, LONGEST);
        if (n < 0 && errno != EIO) break;       // no link: EINVAL; or nothing there, yet
        if (n < 0 || n == LONGEST || links == MOST)
            return glam__file_fail(f, GLAM_ERR_FILE, n < 0 ? "its link cannot be read"
                                                           : "its links lead in a circle");
        memcpy(next, f->goal, folder);
        f->goal = next[folder] == '/' ? next + folder : next;
    }
    f->there = stat(f->goal, &f->was) == 0;
    const char *kind = f->there ? glam__kind_of_file(&f->was) : NULL;
    if (kind) return glam__file_fail(f, GLAM_ERR_FILE, "it is %s: name a file", kind);
    if (f->there ? access(f->goal, W_OK) != 0 : errno != ENOENT)
        return glam__file_fail(f, GLAM_ERR_FILE, "cannot write to it: %s", strerror(errno));
    f->links = f->there ? (int)f->was.st_nlink : 0;
#endif
    return 1;
}

// Beside the goal, so that it can take its place: a name that nobody has, or can guess.
static int glam__file_name(glam__file *f)
{
    const char *base = f->goal + strlen(f->goal);
    while (base > f->goal && base[-1] != '/' && !(base[-1] == '\\' && !GLAM__POSIX)) base--;
    size_t keep = strlen(base) < 200 ? strlen(base) : 200;
    while (keep && ((unsigned char)base[keep] & 0xc0) == 0x80) keep--;   // whole characters
    size_t all = (size_t)(base - f->goal) + keep, room = all + sizeof ".0123456789abcdef.tmp";
    if (!f->temporary) f->temporary = (char *)glam__take(f->ctx, &f->own, room);
    if (!f->temporary) return 0;
    snprintf(f->temporary, room, "%.*s.%016llx.tmp", (int)all, f->goal,
             (unsigned long long)f->number);
    return 1;
}

// Makes it: exclusively, so that no link is followed and nobody's file is touched.
static int glam__file_make(glam__file *f)
{
    double now = glam__seconds();
    memcpy(&f->number, &now, sizeof f->number);
#ifdef _WIN32
    f->number += (uint64_t)GetCurrentProcessId() << 40;
#else
    f->number += (uint64_t)getpid() << 40;
#endif
    f->number = glam__mix64(f->number) + f->ctx->base.allocations + (uint64_t)(uintptr_t)f->ctx;
    for (int tries = 0; tries < 100; tries++) {
        f->number = glam__mix64(f->number + (uint64_t)time(NULL));
        if (!glam__file_name(f)) return 0;
        f->handle = glam__open_file(f->temporary, GLAM__MAKE, f->there);
        if (f->handle >= 0 || errno != EEXIST) break;
    }
    return f->handle >= 0;
}

static int glam__file_sync(const glam__file *f)     // so that it outlives a power cut
{ return GLAM__FSYNC(f->handle) == 0; }

static void glam__file_remove(const char *path)
{
#ifdef _WIN32
    wchar_t wide[GLAM__WIDE];
    _wunlink(glam__wide(path, wide));
#else
    unlink(path);
#endif
}

// The rights of the file that was there.  Where its group cannot be given, that group's rights are
// those of all others.
static int glam__file_rights(const glam__file *f)
{
#if GLAM__POSIX && !defined(__wasi__)
    unsigned rights = f->was.st_mode & 07777u;
    if (!f->there) return 1;
    if (fchown(f->handle, f->was.st_uid, f->was.st_gid) != 0 &&
        fchown(f->handle, (uid_t)-1, f->was.st_gid) != 0)
        rights = (rights & 0707u) | (rights & 07u) << 3;
    return fchmod(f->handle, (mode_t)rights) == 0 || errno == EPERM || errno == ENOTSUP;
#else
    return f->handle >= 0;
#endif
}

// What has several names keeps them, and what cannot be renamed over (a file mounted by itself) is
// written over: the whole work is in the temporary file meanwhile.
static int glam__file_copy_over(glam__file *f)
{
    char *chunk = (char *)glam__take(f->ctx, &f->own, GLAM__FILE_CHUNK);
    int from = chunk ? glam__open_file(f->temporary, GLAM__READ, 0) : -1, error;
    size_t n = GLAM__FILE_CHUNK;
    f->handle = from < 0 ? -1 : glam__open_file(f->goal, GLAM__OVER, 0);
    int ok = f->handle >= 0;
    while (ok && n == GLAM__FILE_CHUNK) {
        n = glam__move_bytes(from, chunk, GLAM__FILE_CHUNK, 0);
        ok = (n == GLAM__FILE_CHUNK || !errno) && glam__move_bytes(f->handle, chunk, n, 1) == n;
    }
    ok = ok && glam__file_sync(f) && glam__file_close(f);
    error = errno;
    if (from >= 0) GLAM__CLOSE(from);
    if (ok) glam__file_remove(f->temporary);
    else glam__file_fail(f, GLAM_ERR_FILE, "cannot write over it: %s; all of it is in %s",
                         strerror(error), f->temporary);
    return ok;
}

// The finished temporary file takes the place of the goal; 0: it has not, and is still there.
static int glam__file_replace(glam__file *f)
{
#ifdef _WIN32
    wchar_t from[GLAM__WIDE], to[GLAM__WIDE];
    glam__wide(f->temporary, from);
    glam__wide(f->goal, to);
    for (int tries = 0; tries < 200; tries++) {     // who reads the old file holds it for a moment
        if (MoveFileExW(from, to, 1 | 8)) return 1;                     // replace, write through
        unsigned long why = GetLastError();
        errno = why == 112 ? ENOSPC : EACCES;
        if (why != 5 && why != 32) break;
        Sleep(10);
    }
    return 0;
#else
    return f->links < 2 && rename(f->temporary, f->goal) == 0;
#endif
}

// The end of a save, ok or not; error: of what failed.
static void glam__file_finish(glam__file *f, const char *failed, int error)
{
    if (!failed && !glam__file_replace(f)) {
        if (f->links > 1 || errno == EBUSY) {
            if (!glam__file_copy_over(f)) return;
        } else {
            failed = "rename";
            error = errno;
        }
    }
    if (failed) {
        glam__file_close(f);
        if (f->temporary) glam__file_remove(f->temporary);
        glam__file_fail(f, GLAM_ERR_FILE, "cannot %s %s: %s", failed,
                        f->temporary ? f->temporary : "it", strerror(error));
    } else if (!glam__sync_folder(f->goal)) {
        glam__file_fail(f, GLAM_ERR_FILE, "written, but cannot sync its folder: %s",
                        strerror(errno));
    }
}

// On a mesh: the blocks of this rank at their places, those that others have too by the first of
// them; rank 0 has made the file and writes its header.
static int glam__file_put_mine(glam__file *f)
{
    const glam__mesh *m = f->ctx->mesh;
    unsigned char length[8];
    float turned[1024];
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)f->header_bytes >> 8 * i);
    if (!m->world.rank && (!glam__file_move(f, 0, length, 8, 1) ||
                           !glam__file_move(f, 8, f->header, f->header_bytes, 1))) return 0;
    for (int i = 0; i < f->item_count; i++) {
        const glam__file_item *t = &f->items[i];
        const glam__split *split = f->splits[i];
        uint64_t count = glam__count(split ? split->mine : t->shape), n;
        uint64_t run = split ? glam__whole_run(split) : count;
        int over = 0;
        for (int d = 0; d < 4 && split; d++) over |= split->over[d];
        if ((m->ix && !(over & GLAM__OVER_X)) || (m->iy && !(over & GLAM__OVER_Y))) continue;
        if (t->type == GLAM__U8 && !glam__file_move(f, 8 + f->header_bytes + t->begin, t->data,
                                                    (size_t)count, 1)) return 0;
        for (uint64_t at = 0; at < count && t->type == GLAM__F32; at += n) {
            n = run - at % run < 1024 ? run - at % run : 1024;
            uint64_t place = t->begin + 4 * glam__whole_index(split, at);
            glam__file_turn(turned, (const float *)t->data + at, (size_t)n, GLAM__F32);
            if (!glam__file_move(f, 8 + f->header_bytes + place, turned, (size_t)n * 4, 1))
                return 0;
        }
    }
    return 1;
}

// Says on this rank what failed; 0 when something failed on any.
static int glam__file_well(glam__file *f, int ok, const char *what)
{
    if (!ok) glam__file_fail(f, GLAM_ERR_FILE, "cannot %s %s: %s", what,
                             f->temporary ? f->temporary : f->path, strerror(errno));
    glam__agree(f->ctx, f->verb, 0);
    return !f->ctx->error;
}

// Rank 0 makes the file and says its name, all write, all have written, all sum, rank 0 puts it in
// its place.
static int glam__file_write_mesh(glam__file *f)
{
    glam__mesh *m = f->ctx->mesh;
    uint64_t *all = (uint64_t *)(void *)m->work;
    char digits[17];
    int first = m->world.rank == 0, plain = 1;
    int ok = glam__file_goal(f) && (!first || glam__file_make(f));
    if (!glam__file_well(f, ok, "create")) return 0;
    all[m->world.rank] = f->number;
    glam__all_gather(f->ctx, &m->world, &m->sent.files, all, (size_t)m->world.size, sizeof *all);
    f->number = all[0];
    if (!first && glam__file_name(f)) f->handle = glam__open_file(f->temporary, GLAM__CHANGE, 0);
    f->at = 0;
    ok = f->handle >= 0 && glam__file_put_mine(f) && glam__file_sync(f);
    if (!glam__file_well(f, ok, "write")) return 0;
    if (!glam__file_sum_all(f, f->meta.checksum, &plain)) return 0;
    if (!first) glam__file_close(f);
    snprintf(digits, sizeof digits, "%016llx", (unsigned long long)glam__file_sum_end(&f->sum));
    uint64_t place = 8 + (uint64_t)(f->meta.checksum - f->header);
    ok = !first || (glam__file_move(f, place, digits, 16, 1) && glam__file_rights(f) &&
                    glam__file_sync(f) && glam__file_close(f));
    return glam__file_well(f, ok, "finish");
}
#endif

// A temporary file, synced, takes the place of what was there: at every moment either the old file
// or the new one is there, whole.
static void glam__file_write(glam__file *f)
{
#if !GLAM__FILES
    glam__file_fail(f, GLAM_ERR_FILE, "this build has no files (GLAM_NO_STDIO); use "
                    "glam_save_memory");
#else
    const char *failed = NULL;
    int error = 0;
    if (f->ctx->mesh) {
        int well = glam__file_write_mesh(f);
        if (f->ctx->mesh->world.rank == 0) glam__file_finish(f, well ? NULL : "write", errno);
        glam__agree(f->ctx, f->verb, 0);
        return;
    }
    if (!glam__file_goal(f)) return;
    // a full disk may show only in the sync, or when the file is closed
    if (!glam__file_make(f)) failed = "create";
    else if (!glam__file_put_all(f)) failed = "write";
    else if (!glam__file_rights(f)) failed = "set the rights of";
    else if (!glam__file_sync(f)) failed = "sync";
    else if (!glam__file_close(f)) failed = "close";
    error = errno;
    glam__file_finish(f, failed, error);
#endif
}

static glam_status glam__file_save_model(const glam_model *model, const glam_trainer *trainer,
                                         const char *path)
{
    glam__file f;
    if (glam__file_begin(&f, model->ctx, path, "save") &&
        glam__file_list_model(&f, model, trainer ? trainer->optimizer : NULL) &&
        glam__file_header(&f, &model->config, trainer)) glam__file_write(&f);
    return glam__file_end(&f);
}

GLAM_API glam_status glam_save(const glam_model *model, const char *path)
{ return model ? glam__file_save_model(model, NULL, path) : GLAM_ERR_MEMORY; }

GLAM_API glam_status glam_save_checkpoint(const glam_trainer *trainer, const char *path)
{ return trainer ? glam__file_save_model(trainer->model, trainer, path) : GLAM_ERR_MEMORY; }

GLAM_API glam_status glam_save_adapter(const glam_model *model, const char *path)
{
    glam__file f;
    if (!model) return GLAM_ERR_MEMORY;
    if (model->count == model->weights)
        return glam_fail(model->ctx, GLAM_ERR_STATE, "save_adapter: the model has no adapters");
    if (glam__file_begin(&f, model->ctx, path, "save") &&
        glam__file_list_tensors(&f, model, model->weights, NULL) &&
        glam__file_header(&f, NULL, NULL)) glam__file_write(&f);
    return glam__file_end(&f);
}

GLAM_API size_t glam_save_memory(const glam_model *model, void *buffer, size_t size)
{
    glam__file f;
    if (!model) return 0;
    if (model->ctx->mesh)
        glam_fail(model->ctx, GLAM_ERR_STATE, "save_memory: no rank of a mesh has the whole model; "
                  "glam_save writes one file from all");
    if (glam__file_begin(&f, model->ctx, "(memory)", "save") &&
        glam__file_list_model(&f, model, NULL) && glam__file_header(&f, &model->config, NULL)) {
        f.memory = (char *)buffer;
        if (f.length > SIZE_MAX)
            glam__file_fail(&f, GLAM_ERR_MEMORY, "%.1f GB do not fit the addresses of this machine",
                            (double)f.length / 1e9);
        else if (buffer && size >= f.length)
            glam__file_put_all(&f);
    }
    return glam__file_end(&f) == GLAM_OK ? (size_t)f.length : 0;
}

GLAM_API glam_status glam_save_tensors(glam_ctx *ctx, const char *path,
                                       glam_tensor *const *tensors, int count)
{
    glam__file f;
    if (glam__file_begin(&f, ctx, path, "save") && glam__file_list_given(&f, tensors, count) &&
        glam__file_header(&f, NULL, NULL)) glam__file_write(&f);
    return glam__file_end(&f);
}

// --- reading ---

static int glam__found_by_begin(const void *a, const void *b)
{
    uint64_t x = ((const glam__file_item *)a)->begin, y = ((const glam__file_item *)b)->begin;
    return x < y ? -1 : x > y;
}

// The numbers are covered once each: no holes, no overlap, nothing behind.  Sorts by name.
static int glam__file_cover(glam__file *f)
{
    size_t count = (size_t)f->found_count;
    uint64_t at = 0, have = f->length - 8 - f->header_bytes;
    qsort(f->found, count, sizeof *f->found, glam__found_by_begin);
    for (size_t i = 0; i < count; i++) {
        const glam__file_item *e = &f->found[i];
        if (e->begin != at)
            return glam__file_wrong(f, e->name, e->begin < at ? "overlaps the tensor before it"
                                                             : "leaves a hole before it");
        at += glam__item_bytes(e);
    }
    qsort(f->found, count, sizeof *f->found, glam__found_by_name);
    for (size_t i = 1; i < count; i++)
        if (strcmp(f->found[i - 1].name, f->found[i].name) == 0)
            return glam__file_wrong(f, f->found[i].name, "is there twice");
    return at == have ||
           glam__file_fail(f, GLAM_ERR_FORMAT, "%s: the header promises %.0f bytes of tensors, "
                           "the file has %.0f", at > have ? "truncated" : "bytes behind the last "
                           "tensor", (double)at, (double)have);
}

static int glam__file_parse(glam__file *f)
{
    glam__json j = { f->ctx, f->path, "header", f->header, f->header, f->header + f->header_bytes,
                     NULL, 0, 0 };
    int members = 0, metadata = 0;
    size_t most = f->header_bytes / 48;         // the shortest entry has 50 bytes
    f->found = (glam__file_item *)glam__take(f->ctx, &f->own, (most + 4) * sizeof *f->found);
    if (!f->found) return 0;
    if (*j.at++ != '{') return glam__json_wrong(&j, "an object");
    for (const char *key; (key = glam__json_key(&j, &members)) != NULL; j.part = "header") {
        glam__entry e;
        int meta = strcmp(key, "__metadata__") == 0;
        if (meta && metadata++) return glam__file_wrong(f, key, "is there twice");
        if (!meta && (size_t)f->found_count >= most) return glam__json_wrong(&j, "fewer entries");
        j.part = key;
        // keys that nobody knows lie for a while where entries will: they take no more room, but
        // for a few of one letter
        j.keys = (const char **)(void *)(f->found + f->found_count);
        j.key_room = (most + 4 - (size_t)f->found_count) * sizeof *f->found / sizeof *j.keys;
        if (!glam__fields_read(&j, meta ? glam__meta_rows : glam__entry_rows,
                               meta ? (void *)&f->meta : (void *)&e)) return 0;
        if (meta) continue;
        glam__file_item found = { key, NULL, e.span[0], e.shape, (short)e.type, 0 };
        uint64_t bytes = glam__item_bytes(&found);
        if (bytes == UINT64_MAX || e.span[1] < e.span[0] || e.span[1] - e.span[0] != bytes)
            return glam__file_fail(f, GLAM_ERR_FORMAT, "%s is %s, but its offsets do not span the "
                                   "bytes of that", key, glam__say(e.shape).text);
        f->found[f->found_count++] = found;
    }
    return glam_error(f->ctx) == GLAM_OK && glam__json_end(&j) && glam__file_cover(f);
}

static int glam__file_verify(glam__file *f)
{
    const char *checksum = f->meta.checksum;
    uint64_t want;
    int plain = 1;
    if (!checksum && f->meta.config)
        return glam__file_wrong(f, "glam.checksum", "is missing; a writer without one puts none");
    if (!checksum || strcmp(checksum, "none") == 0) return 1;
    if (strlen(checksum) != 16 || !glam__hex_read(checksum, 16, GLAM__HEX, &want))
        return glam__file_wrong(f, "glam.checksum", "must be 16 lower-case hex digits or none");
    if (!glam__file_sum_all(f, checksum, &plain)) return 0;
    return (plain && glam__file_sum_end(&f->sum) == want) ||
           glam__file_wrong(f, "the checksum", "does not match: the file is damaged, or was edited "
                            "by a program that kept the old one (none is right in its place)");
}

static int glam__file_find(glam__file *f)
{
#if !GLAM__FILES
    return glam__file_fail(f, GLAM_ERR_FILE, "this build has no files (GLAM_NO_STDIO); use "
                           "glam_load_memory");
#else
    f->handle = glam__open_file(f->path, GLAM__READ, 0);
#if GLAM__POSIX
    const char *kind = f->handle >= 0 && fstat(f->handle, &f->was) == 0
                     ? glam__kind_of_file(&f->was) : NULL;
    if (kind) return glam__file_fail(f, GLAM_ERR_FILE, "it is %s, and no model's file", kind);
#endif
    int64_t end = f->handle < 0 ? -1 : (int64_t)GLAM__LSEEK(f->handle, 0, SEEK_END);
    f->length = f->at = end < 0 ? 0 : (uint64_t)end;
    return end >= 0 || glam__file_fail(f, GLAM_ERR_FILE, "cannot %s it: %s",
                                       f->handle < 0 ? "open" : "seek in", strerror(errno));
#endif
}

// Opens a file (memory NULL) or a block, reads its header, and judges all of it but the weights'
// names.  Follow with glam__file_end, also after a failure.
static int glam__file_open(glam__file *f, glam_ctx *ctx, const char *path, const void *memory,
                           size_t bytes)
{
    unsigned char raw[8];
    if (!glam__file_begin(f, ctx, path, "load")) return 0;
    f->memory = (char *)memory;                 // only read
    f->length = bytes;
    if (!memory && !glam__file_find(f)) return 0;
    if (f->length < 8) return glam__file_wrong(f, "is", "truncated: not even a header's length");
    if (!glam__file_get(f, 0, raw, 8)) return 0;
    uint64_t length = glam__file_word(raw);
    if (length > GLAM__HEADER_MOST || length > f->length - 8)
        return glam__file_fail(f, GLAM_ERR_FORMAT, "no safetensors file, or truncated: a header of "
                               "%.0f bytes in a file of %.0f", (double)length, (double)f->length);
    f->header_bytes = (size_t)length;
    f->header = (char *)glam__take(ctx, &f->own, length + 1);
    return f->header && glam__file_get(f, 8, f->header, f->header_bytes) &&
           glam__file_parse(f) && glam__file_verify(f);
}

// An item is there with its shape; whose names the file's config or the caller's.
static int glam__file_match_one(glam__file *f, glam__file_item *t, const char *whose)
{
    glam__file_item *e = glam__file_entry(f, t->name);
    if (!e)
        return glam__file_fail(f, GLAM_ERR_FORMAT, "%s %s is not in the file, but %s asks for it",
                               t->name, glam__say(t->shape).text, whose);
    if (!glam__same_shape(e->shape, t->shape))
        return glam__file_fail(f, GLAM_ERR_SHAPE, "%s is %s in the file but %s says %s", e->name,
                               glam__say(e->shape).text, whose, glam__say(t->shape).text);
    if (e->type != t->type) return glam__file_wrong(f, e->name, "is of another type of numbers");
    t->begin = e->begin;
    e->wanted = 1;
    return 1;
}

// Each listed item is there once.
// Nothing else is there, but a model's tokenizer, and an optimizer where ignore_optimizer says so.
static int glam__file_match(glam__file *f, const char *whose, int ignore_optimizer)
{
    for (int i = 0; i < f->found_count; i++) f->found[i].wanted = 0;
    for (int i = 0; i < f->item_count; i++)
        if (!glam__file_match_one(f, &f->items[i], whose)) return 0;
    for (int i = 0; i < f->found_count; i++) {
        const glam__file_item *e = &f->found[i];
        if (!e->wanted && !(ignore_optimizer && strncmp(e->name, "optimizer.", 10) == 0) &&
            !(f->meta.config && strcmp(e->name, "tokenizer") == 0))
            return glam__file_fail(f, GLAM_ERR_FORMAT, "%s %s is in the file, but %s has no such "
                                   "tensor", e->name, glam__say(e->shape).text, whose);
    }
    return 1;
}

// Values that become narrower as they come, some columns of a row at a time.
static void glam__file_narrow(glam__file *f, const glam__file_item *t, glam_tensor *into)
{
    enum { MOST = 1024 };
    float x[MOST];
    uint16_t raw[MOST];
    int last = glam__last(into), wide = t->type == GLAM__F32;
    uint64_t at = 8 + f->header_bytes + t->begin, rows = glam__rows(into);
    for (uint64_t row = 0; row < rows; row++)
        for (int col = 0; col < last && !f->ctx->error; col += MOST) {
            int n = glam__min(last - col, MOST);
            size_t bytes = (size_t)n * (size_t)glam__type_bytes[t->type];
            void *to = wide ? (void *)x : (void *)raw;
            if (!glam__file_get(f, at, to, bytes)) return;
            at += bytes;
            glam__file_turn(to, to, (size_t)n, t->type);
            for (int i = 0; i < n && !wide; i++) x[i] = glam__widen1(raw[i]);
            glam__put_part(into, (size_t)row, col, n, x);
        }
}

// The values of the matched items; on a mesh those of this rank's blocks.
static int glam__file_fill(glam__file *f)
{
    for (int i = 0; i < f->item_count && !f->ctx->error; i++) {
        const glam__file_item *t = &f->items[i];
        const glam__split *split = f->splits[i];
        uint64_t count = glam__count(split ? split->mine : t->shape);
        uint64_t run = split ? glam__whole_run(split) : count;
        uint64_t size = (uint64_t)glam__type_bytes[t->type];
        glam_tensor *into = f->into ? f->into[i] : NULL;
        if (into) glam__file_narrow(f, t, into);
        for (uint64_t at = 0; at < count && !into && !f->ctx->error; at += run)
            glam__file_get(f, 8 + f->header_bytes + t->begin +
                           size * glam__whole_index(split, at), (char *)t->data + size * at,
                           (size_t)(run * size));
        if (!f->ctx->error && !into)
            glam__file_turn(t->data, t->data, (size_t)count, t->type);
    }
    glam__agree(f->ctx, "load", 0);
    return !f->ctx->error;
}

static int glam__file_rows(glam__file *f, const char *part, const void *text,
                           const glam__field *rows, void *base)
{
    char *start = (char *)text;                 // in our copy of the header
    glam__json j = { f->ctx, f->path, part, start, start, start + strlen(start), NULL, 0, 0 };
    return glam__fields_read(&j, rows, base) && glam__json_end(&j);
}

typedef struct glam__explained { glam__file *f; const glam_config *config; int rows; }
    glam__explained;

static int glam__file_explains_row(void *arg, const glam__row *row, int layer)
{
    glam__explained *e = (glam__explained *)arg;
    glam__file *f = e->f;
    char name[64];
    glam__file_item t = { name, NULL, 0, glam__row_shape(e->config, row), GLAM__F32, 0 };
    glam__file_item scales;
    int narrows = glam__row_narrows(row), wanted = narrows ? (int)f->ctx->options.weights : 0;
    glam__row_name(row, layer, name, sizeof name);
    const glam__file_item *found = glam__file_entry(f, name);
    if (found && narrows && found->type <= GLAM__I8) t.type = found->type;
    if (!glam__file_match_one(f, &t, "the config")) return 0;
    if (t.type && f->ctx->mesh)
        return glam__file_fail(f, GLAM_ERR_STATE, "%s is a narrow weight (%s); they work on one "
                               "rank alone so far", name, glam__type_name(t.type));
    f->types[e->rows++] = (unsigned char)glam__max(t.type, wanted);
    return t.type != GLAM__I8 || (glam__file_scales(f, &t, &scales) &&
                                  glam__file_match_one(f, &scales, "the config"));
}

// A config of ten bytes can ask for terabytes, or a billion layers: before anything is made of it
// each of its tensors is looked up in the file, up to the first that is not there.
static int glam__file_explains(glam__file *f, glam_config config)
{
    glam__explained e = { f, &config, 0 };
    glam_ctx *ctx = f->ctx;
    glam__config_derive(&config);
    if (glam__config_check(ctx, &config) != GLAM_OK) {
        char why[GLAM__LINES];
        glam_status status = ctx->error;
        snprintf(why, sizeof why, "%s", ctx->message);
        ctx->error = GLAM_OK;                   // the sentence is to begin with the file
        return glam__file_fail(f, status, "the config makes no model: %s", why);
    }
    f->types = (unsigned char *)glam__take(ctx, &f->own, (uint64_t)f->found_count + 1);
    if (!f->types) return 0;
    glam__each_param(&config, glam__file_explains_row, &e);
    return ctx->error == GLAM_OK;
}

static int glam__file_config(glam__file *f, glam_config *config)
{
    char missing[] = GLAM__CONFIG_MISSING;
    memset(config, 0, sizeof *config);
    if (!f->meta.format || strcmp(f->meta.format, "glam") != 0)
        return glam__file_wrong(f, "format", "is not glam: another program wrote this file");
    if (!f->meta.config)
        return glam__file_wrong(f, "glam.config", "is missing: tensors, but not a model");
    return glam__file_rows(f, "glam.config", missing, glam__config_rows, config) &&
           glam__file_rows(f, "glam.config", f->meta.config, glam__config_rows, config) &&
           glam__file_explains(f, *config);
}

// NULL and no error: the file has none.
static glam_tokenizer *glam__file_tokenizer(glam__file *f)
{
    const glam__file_item *e = glam__file_entry(f, "tokenizer");
    if (!e) return NULL;
    uint64_t bytes = glam__item_bytes(e);
    unsigned char *packed = (unsigned char *)glam__take(f->ctx, &f->own, bytes + 1);
    if (!packed || !glam__file_get(f, 8 + f->header_bytes + e->begin, packed, (size_t)bytes))
        return NULL;
    glam_tokenizer *made = e->type == GLAM__U8 && e->shape.dims == 1
                         ? glam__tokenizer_unpack(f->ctx, &f->own, packed, bytes) : NULL;
    if (!made && !f->ctx->error) glam__file_wrong(f, e->name, "is damaged");
    return made;
}

static int glam__file_own_tokenizer(glam__file *f, glam_model *model)
{
    glam_tokenizer *t = model->ctx == f->ctx ? glam__file_tokenizer(f) : NULL;
    return !f->ctx->error && (!t || glam_model_set_tokenizer(model, t) == GLAM_OK);
}

// Gives a model the adapters that the file has, their values still to be filled.
static int glam__file_adapters(glam__file *f, glam_model *model)
{
    for (int i = 0; i < model->weights && !f->ctx->error; i++) {
        const glam_tensor *w = model->tensors[i];
        size_t room = strlen(w->name) + sizeof ".lora_a";
        char *name = (char *)glam__take(f->ctx, &f->own, room);
        if (!name) return 0;
        snprintf(name, room, "%s.lora_a", w->name);
        const glam__file_item *a = glam__file_entry(f, name), *b;
        if (!a) continue;
        name[room - 2] = 'b';
        b = glam__file_entry(f, name);
        int rank = a->shape.dim[a->shape.dims - 1];
        if (!b || w->shape.dims < 2 || !glam__same_shape(a->shape, glam__low_shape(w, rank, 0)) ||
            !glam__same_shape(b->shape, glam__low_shape(w, rank, 1)))
            return glam__file_fail(f, GLAM_ERR_SHAPE, "%s %s and its other half do not fit %s, %s",
                                   a->name, glam__say(a->shape).text, w->name,
                                   glam__say(w->shape).text);
        glam_adapt(model, w->name, rank, 1);
        if (model->ctx->error && model->ctx != f->ctx)
            glam__file_fail(f, model->ctx->error, "%s", model->ctx->message);
    }
    return !f->ctx->error;
}

// A model whose weights are still to be filled.
static int glam__file_model(glam__file *f, const glam_config *config, glam_model **model)
{
    *model = glam__model_blank(f->ctx, config, NULL, f->types);
    return *model && glam__file_adapters(f, *model) &&
           glam__file_list_tensors(f, *model, 0, NULL) && glam__file_match(f, "the config", 1) &&
           glam__file_own_tokenizer(f, *model);
}

static glam_model *glam__file_load_model(glam_ctx *ctx, const char *path, const void *memory,
                                         size_t bytes)
{
    glam__file f;
    glam_config config;
    glam_model *model = NULL;
    size_t mark = glam_mark(ctx);
    int ok = glam__file_open(&f, ctx, path, memory, bytes) && glam__file_config(&f, &config) &&
             glam__file_model(&f, &config, &model) && glam__file_fill(&f);
    if (!ok) glam_rewind(ctx, mark);
    glam__file_end(&f);
    return ok ? model : NULL;
}

GLAM_API glam_model *glam_load(glam_ctx *ctx, const char *path)
{ return glam__file_load_model(ctx, path, NULL, 0); }

GLAM_API glam_status glam_load_adapter(glam_model *model, const char *path)
{
    glam__file f;
    if (!model) return GLAM_ERR_MEMORY;
    if (model->ctx->error || glam__adapt_fits(model, 1, 1) != GLAM_OK) return model->ctx->error;
    if (model->count > model->weights)
        return glam_fail(model->ctx, GLAM_ERR_STATE, "load_adapter: the model has adapters "
                         "already; glam_model_merge makes room for others");
    size_t mark = glam_mark(model->ctx);
    int ok = glam__file_open(&f, model->ctx, path, NULL, 0) && glam__file_adapters(&f, model);
    if (ok && model->count == model->weights)
        ok = glam__file_wrong(&f, "is", "no file of adapters: no tensor is called *.lora_a");
    ok = ok && glam__file_list_tensors(&f, model, model->weights, NULL) &&
         glam__file_match(&f, "the model", 0) && glam__file_fill(&f);
    if (!ok) glam_rewind(model->ctx, mark);
    return glam__file_end(&f);
}

GLAM_API glam_model *glam_load_memory(glam_ctx *ctx, const void *data, size_t bytes)
{ return glam__file_load_model(ctx, data ? "(memory)" : NULL, data, bytes); }

GLAM_API glam_status glam_load_config(glam_ctx *ctx, const char *path, glam_config *config)
{
    glam__file f;
    glam_config found = glam_config_default();
    if (config) *config = found;
    if (glam_error(ctx) != GLAM_OK) return ctx ? glam__farewell(ctx) : GLAM_ERR_MEMORY;
    if (!config) return glam_fail(ctx, GLAM_ERR_VALUE, "load_config: the config is NULL");
    if (glam__file_open(&f, ctx, path, NULL, 0) && glam__file_config(&f, &found)) *config = found;
    return glam__file_end(&f);
}

GLAM_API glam_type glam_load_type(glam_ctx *ctx, const char *path)
{
    glam__file f;
    glam_config config;
    int type = GLAM_TYPE_F32;
    if (glam__file_open(&f, ctx, path, NULL, 0) && glam__file_config(&f, &config))
        for (int i = 0; i < f.found_count; i++)
            if (f.types[i] > type) type = f.types[i];
    return glam__file_end(&f) == GLAM_OK ? (glam_type)type : GLAM_TYPE_F32;
}

GLAM_API glam_tokenizer *glam_load_tokenizer(glam_ctx *ctx, const char *path)
{
    glam__file f;
    glam_tokenizer *t = NULL;
    if (glam__file_open(&f, ctx, path, NULL, 0)) t = glam__file_tokenizer(&f);
    return glam__file_end(&f) == GLAM_OK ? t : NULL;
}

GLAM_API glam_status glam_load_tensors(glam_ctx *ctx, const char *path,
                                       glam_tensor *const *tensors, int count)
{
    glam__file f;
    if (glam__file_open(&f, ctx, path, NULL, 0) && glam__file_list_given(&f, tensors, count) &&
        glam__file_match(&f, "the caller", 0)) {
        glam__file_fill(&f);
        for (int i = 0; i < count; i++) glam__pack_stale(tensors[i]);
    }
    return glam__file_end(&f);
}

static int glam__file_same_text(const glam__file *f, const char *what, const glam_text *text,
                                uint64_t tokens, uint64_t checksum)
{
    uint64_t have = glam_text_length(text);
    if (have != tokens)
        return glam__file_fail(f, GLAM_ERR_VALUE, "the run had a %s text of %.0f tokens, this one "
                               "has %.0f; give it the same texts (0: none)", what, (double)tokens,
                               (double)have);
    return !text || glam__text_checksum(text) == checksum ||
           glam__file_fail(f, GLAM_ERR_VALUE, "the %s text has the %.0f tokens of the run, but "
                           "they are other ones", what, (double)tokens);
}

// Where a run stands, and that it trains on these texts.
static int glam__file_read_state(glam__file *f, glam__file_state *s)
{
    memset(s, 0, sizeof *s);
    s->best_valid = s->valid_loss = -1;         // none yet
    s->frozen = "";
    if (!f->meta.recipe || !f->meta.state)
        return glam__file_wrong(f, "has", "no glam.recipe and glam.state: a model; use glam_load");
    return glam__file_rows(f, "glam.state", f->meta.state, glam__state_rows, s);
}

static int glam__file_same_texts(const glam__file *f, const glam__file_state *s,
                                 const glam_text *train, const glam_text *valid)
{
    uint64_t pieces = glam__text_pieces(train) ^ glam__mix64(glam__text_pieces(valid));
    return glam__file_same_text(f, "training", train, s->train_tokens, s->train_checksum) &&
           glam__file_same_text(f, "validation", valid, s->valid_tokens, s->valid_checksum) &&
           (!s->pieces || s->pieces == pieces ||             // 0: of an older file
            glam__file_fail(f, GLAM_ERR_VALUE, "the texts have the tokens of the run, but it had "
                            "them in other pieces, or with other weights"));
}

GLAM_API glam_arithmetic glam_load_arithmetic(glam_ctx *ctx, const char *path)
{
    glam__file f;
    glam__file_state state;
    int read = glam__file_open(&f, ctx, path, NULL, 0) && glam__file_read_state(&f, &state);
    return glam__file_end(&f) == GLAM_OK && read ? state.arithmetic : GLAM_F32;
}

GLAM_API glam_status glam_load_recipe(glam_ctx *ctx, const char *path, glam_recipe *recipe)
{
    glam__file f;
    glam__file_state state;
    glam_recipe found = glam_recipe_default();
    if (recipe) *recipe = found;
    if (glam_error(ctx) != GLAM_OK) return ctx ? glam__farewell(ctx) : GLAM_ERR_MEMORY;
    if (!recipe) return glam_fail(ctx, GLAM_ERR_VALUE, "load_recipe: the recipe is NULL");
    if (glam__file_open(&f, ctx, path, NULL, 0) && glam__file_read_state(&f, &state) &&
        glam__file_rows(&f, "glam.recipe", f.meta.recipe, glam__recipe_rows, &found))
        *recipe = found;
    return glam__file_end(&f);
}

GLAM_API glam_status glam_load_split(glam_text *text, const char *path, glam_text **train,
                                     glam_text **valid)
{
    glam__file f;
    glam__file_state state;
    glam_text *a = NULL, *b = NULL;
    if (train) *train = NULL;
    if (valid) *valid = NULL;
    if (!text) return GLAM_ERR_MEMORY;
    size_t mark = glam_mark(text->ctx);
    int ok = glam__file_open(&f, text->ctx, path, NULL, 0) && glam__file_read_state(&f, &state);
    if (ok) {
        float fraction = glam__split_of_count(text, state.valid_tokens);
        ok = fraction < 0 ? glam__file_fail(&f, GLAM_ERR_VALUE, "the run validated on %.0f tokens; "
                                            "no fraction of this text of %.0f leaves that many: "
                                            "it is another text", (double)state.valid_tokens,
                                            (double)glam_text_length(text))
                          : glam_text_split(text, fraction, &a, &b) == GLAM_OK &&
                            glam__file_same_texts(&f, &state, a, b);
    }
    if (!ok) glam_rewind(text->ctx, mark);
    if (ok && train) *train = a;
    if (ok && valid) *valid = b;
    return glam__file_end(&f);
}

// A trainer as the file has it, its values still to be filled.
static glam_trainer *glam__file_frame(glam__file *f, glam_ctx *ctx, const glam_config *config,
                                      const glam__file_state *s, glam_text *train, glam_text *valid,
                                      const glam_recipe *recipe)
{
    glam_model *model = glam__model_blank(ctx, config, NULL, f->types);
    if (!model || !glam__file_adapters(f, model)) return NULL;
    size_t count = (size_t)model->count;
    if (strlen(s->frozen) != count || strspn(s->frozen, "01") != count ||
        !glam__file_freeze_experts(model, s->frozen_experts)) {
        glam__file_wrong(f, "glam.state", "has a frozen that does not fit the model");
        return NULL;
    }
    for (size_t i = 0; i < count; i++)
        model->tensors[i]->wants_grad = s->frozen[i] == '0' && !model->tensors[i]->type;
    glam_trainer *t = glam__trainer_frame(model, train, valid, recipe);
    return t && glam__file_list_tensors(f, model, 0, t->optimizer) &&
           glam__file_match(f, "the recipe", 0) && glam__file_own_tokenizer(f, model) ? t : NULL;
}

static int glam__file_trainer(glam__file *f, glam_text *train, glam_text *valid,
                              glam_trainer **trainer)
{
    glam_config config;
    glam_recipe recipe = glam_recipe_default();
    glam__file_state state, *s = &state;
    if (!glam__file_config(f, &config) || !glam__file_read_state(f, s) ||
        !glam__file_rows(f, "glam.recipe", f->meta.recipe, glam__recipe_rows, &recipe) ||
        !glam__file_same_texts(f, s, train, valid)) return 0;
    if (!train) return glam__file_fail(f, GLAM_ERR_VALUE, "no text to train on (NULL)");
    if (s->arithmetic != f->ctx->options.arithmetic)
        return glam__file_fail(f, GLAM_ERR_VALUE, "the run multiplies in %s, this context in %s; "
                               "it goes on where options.arithmetic is the same",
                               glam__arithmetic_word(s->arithmetic),
                               glam_arithmetic_name(f->ctx));
    if (glam__mul((uint64_t)config.layers, 12 * ((uint64_t)config.moe.experts + 1)) > 2 * f->length)
        return glam__file_wrong(f, "the config", "has more experts in all than the file explains");
    // first in a context that measures: does the file have what the recipe's optimiser keeps?
    glam_ctx *measure = glam__measure_open(f->ctx);
    glam__place place = glam__arena_mark(&f->own);
    int ok = glam__file_frame(f, measure, &config, s, NULL, NULL, &recipe) != NULL;
    if (!ok && glam_error(measure) != GLAM_OK)
        glam__file_fail(f, glam_error(measure), "%s", glam_error_text(measure));
    glam_close(measure);
    glam__arena_rewind(f->ctx, &f->own, place);
    glam__end_step(f->ctx);
    // what a step takes depends on batch and context, which no file explains: taken by the first
    glam_trainer *t = ok ? glam__file_frame(f, f->ctx, &config, s, train, valid, &recipe) : NULL;
    if (!t || !glam__file_fill(f)) return 0;
    *trainer = t;
    GLAM__STATE_OF_TRAINER(GLAM__STATE_LOAD)
    return 1;
}

GLAM_API glam_trainer *glam_load_checkpoint(glam_ctx *ctx, const char *path, glam_text *train,
                                            glam_text *valid)
{
    glam__file f;
    size_t mark = glam_mark(ctx);
    glam_trainer *trainer = NULL;
    int ok = glam__file_open(&f, ctx, path, NULL, 0) &&
             glam__file_trainer(&f, train, valid, &trainer);
    if (!ok) glam_rewind(ctx, mark);
    glam__file_end(&f);
    return ok ? trainer : NULL;
}

/* == 22 plan : implementation =============================================================
   A plan is the run itself in measure mode: the code that will allocate says what it would, and on
   a mesh the code that will send says how much. */

static uint64_t glam__slot_bytes(const glam_optimizer *o)
{
    uint64_t bytes = 0;
    for (int i = 0; i < o->count; i++) {
        glam__slot s[2];
        int n = glam__optimizer_slots(o, i, s);
        for (int k = 0; k < n; k++) bytes += glam__floats(glam__count(s[k].shape));
    }
    return bytes;
}

static glam_status glam__plan_train(glam_ctx *ctx, const glam_config *config,
                                    const glam_recipe *recipe, glam_plan *plan)
{
    glam_ctx *m = glam__measure_open(ctx);
    glam_trainer *t = m ? glam__measure_step(m, NULL, config, recipe, 0) : NULL;
    if (!t) {
        glam_fail(ctx, m ? m->error : GLAM_ERR_MEMORY, "%s", glam_error_text(m));
        glam_close(m);
        return ctx->error;
    }
    const glam_config *c = &t->model->config;
    glam_bytes b = glam_memory(m);
    for (int i = 0; i < t->model->count; i++)
        plan->weights += glam__align(glam__value_bytes(t->model->tensors[i]->shape,
                                                       t->model->tensors[i]->type));
    if (!t->recipe.update_in_backward)
        plan->gradients = t->optimizer->floats * sizeof(float) * (uint64_t)(1 + t->levels);
    plan->trainable = plan->parameters = glam__config_count(c, &plan->active);
    for (int i = 0; i < t->model->count; i++)
        if (t->model->tensors[i]->type) plan->trainable -= glam_size(t->model->tensors[i]);
    plan->packed = b.packed;
    plan->optimizer = glam__slot_bytes(t->optimizer);
    plan->activations = b.step + b.scratch;
    plan->train_bytes = b.total;
    plan->flops_forward = glam__forward_flops(c, t->recipe.context, NULL, NULL);
    plan->flops_train = t->work;
    glam_close(m);
    return GLAM_OK;
}

GLAM_API glam_status glam_plan_for(glam_ctx *ctx, const glam_config *config,
                                   const glam_recipe *recipe, glam_plan *plan)
{
    if (plan) memset(plan, 0, sizeof *plan);
    if (!ctx) return GLAM_ERR_MEMORY;
    if (!plan) return glam_fail(ctx, GLAM_ERR_VALUE, "plan: nowhere to write to (NULL)");
    if (ctx->error || glam__plan_train(ctx, config, recipe, plan) != GLAM_OK) return ctx->error;
    glam_ctx *m = glam__measure_open(ctx);
    glam_model *model = m ? glam__model_blank(m, config, NULL, NULL) : NULL;
    glam_session *s = model ? glam_session_new(model, model->config.context) : NULL;
    const int32_t token = 0;
    if (s) glam_next(s, &token, 1);
    if (model && !glam__writes(&model->config)) plan->run_bytes = 0;   // it generates nothing
    else if (s && !m->error) plan->run_bytes = glam_memory(m).total;
    else glam_fail(ctx, m ? m->error : GLAM_ERR_MEMORY, "%s", glam_error_text(m));
    glam_close(m);
    return ctx->error;
}

// ---- what a step of a mesh sends

// Counted by a step in measure mode; sent and received are of all its rounds together, all else is
// the same in each.
GLAM_API glam_status glam_plan_traffic(const glam_trainer *trainer, const int *sent,
                                       const int *received, glam_traffic *plan)
{
    if (plan) memset(plan, 0, sizeof *plan);
    if (!trainer || !plan) return GLAM_ERR_VALUE;
    const glam_model *model = trainer->model;
    if (!model->ctx->mesh) return GLAM_OK;             // one rank sends nothing
    glam_ctx *m = glam__measure_open(model->ctx);
    if (m && m->mesh) {
        m->mesh->rows_out = sent;
        m->mesh->rows_in = received;
    }
    glam_trainer *step = m ? glam__measure_step(m, model, &model->config, &trainer->recipe,
                                                trainer->documents) : NULL;
    glam_status status = step ? GLAM_OK : m ? m->error : GLAM_ERR_MEMORY;
    if (step) {
        uint64_t ran = (uint64_t)glam__min(trainer->rounds, 2);
        uint64_t all = (uint64_t)trainer->rounds, sums = m->mesh->sent.sums;
        const glam_traffic *s = &m->mesh->sent;
        glam_report report;
        glam__optimizer_step(step->optimizer, 1, &report);
        plan->routing = s->routing / ran * all;
        plan->dispatch = s->dispatch / ran;
        plan->model = s->model / ran * all;
        plan->weights = s->weights / ran * all;
        plan->gradients = s->gradients / ran * all;
        plan->sums = sums / ran * all + s->sums - sums;
        plan->total = plan->routing + plan->dispatch + plan->model + plan->gradients +
                      plan->weights + plan->sums;
    }
    glam_close(m);
    return status;
}

GLAM__PLAIN_CODE_ENDS

#endif /* GLAM__IMPLEMENTED */
#endif /* GLAM_IMPLEMENTATION */

/* Changes, newest first.

   v0.1  ADDED   low-rank adapters (glam_model_adapt), of experts too; glam_freeze_experts.
         ADDED   narrow frozen weights, bf16 and q8 (options.weights, glam_read, glam_write).
         ADDED   examples of which some tokens are learnt (glam_text_examples); targets of -1.
         ADDED   routers beside top-k, sigmoid scores, a bias in place of the balance loss, a shared
                 expert; options.trace, glam_routing_stats; glam_model_tune, glam_upcycle,
                 glam_select_experts.
         CHANGED glam_routing.gate is called weight; its probability and entropy follow the score.
         ADDED   byte-pair tokenizers, learnt or taken over, stored with a model; texts in form C.
         ADDED   products in bf16, also in tiles as AMX: options.arithmetic, glam_load_arithmetic.
         ADDED   log-likelihoods of continuations, glam_choose, beam search.
         ADDED   what other families have: rotary positions, kv_heads, qk_norm, embed_scale,
                 residual_scale, swiglu in dense layers.
         ADDED   a quality filter; texts that stay in their file; documents, packed into rows with
                 segments and split whole; the paper's sources, epochs of a mixture.
         ADDED   glam_report.flops: what a run has computed so far.
         CHANGED the products have a room of their own, 10; those after it moved up by one.
         CHANGED balance loss and router z-loss are means over real tokens, not over padding.
         CHANGED a NaN in a model is GLAM_ERR_NUMERIC where it writes or is evaluated; an update
                 that would overflow is skipped.  The default threads follow a container's quota.
         FIXED   frozen weights cost no gradients of their inputs, rows or scratch any more.
         CHANGED saving goes through a file of a fresh name, follows links and keeps rights; loading
                 takes what the file's length explains; paths are UTF-8 on Windows too.
         ADDED   glam_load_split: texts cut as a checkpoint says.
         ADDED   a mesh of ranks: batch parts, experts, heads, widths, vocabulary and stored weights
                 shared out over MPI or any other glam_comm; glam_sent, glam_plan_traffic.
         ADDED   glam_recipe_quick, and bias_lr: the position buckets have a rate of their own.
         CHANGED the default model: every layer a mixture, 96 wide, context 128; the default recipe:
                 16 sequences, 50 steps of warm-up.
         ADDED   the single-machine library.

   Licence: MIT-0 (MIT No Attribution)

   Copyright (c) 2026 the glam.h authors

   Permission is hereby granted, free of charge, to any person obtaining a copy of this
   software and associated documentation files (the "Software"), to deal in the Software
   without restriction, including without limitation the rights to use, copy, modify,
   merge, publish, distribute, sublicense, and/or sell copies of the Software, and to
   permit persons to whom the Software is furnished to do so.

   THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED,
   INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A
   PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT
   HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF
   CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR
   THE USE OR OTHER DEALINGS IN THE SOFTWARE. */
