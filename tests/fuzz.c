/* Fuzzers: hostile input for everything that takes bytes from outside.  Targets:

       load       the bytes of a model or checkpoint, as a block and as a file
       step       the same; what loads must work: a loss, a few tokens, one step of training
       options    every option of a model, a recipe, a batch and a sampler
       metadata   the header of a file as text; length and checksum are made to fit
       tool       the command line of examples/glam.c
       text       texts, tokens, splits, mixtures, patterns of names

   Asserted in each: the allocator never has to give more than the length of the input explains,
   gets all of it back with the right sizes, a failure has a sentence, and nothing takes long.

   Alone, with any C compiler (a loop of mutations that starts from valid input):
       cc -O1 tests/fuzz.c -o fuzz -lm
       ./fuzz TARGET SECONDS [SEED]      the input that fails is left in the file fuzz_TARGET_found
       ./fuzz again TARGET FILE...       runs those inputs
       ./fuzz seeds FOLDER               valid input as FOLDER/TARGET/N, for the engines below
   libFuzzer and AFL++:
       clang -O1 -g -fsanitize=fuzzer,address,undefined -DFUZZ_ENGINE tests/fuzz.c -o fuzz -lm
       GLAM_FUZZ=TARGET ./fuzz -max_len=20000 FOLDER/TARGET
       afl-clang-fast -O1 -fsanitize=fuzzer -DFUZZ_ENGINE tests/fuzz.c -o fuzz -lm
       GLAM_FUZZ=TARGET afl-fuzz -i FOLDER/TARGET -o out ./fuzz */

#if !defined(_WIN32) && !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define GLAM_IMPLEMENTATION
#include "../glam.h"

// The tool's complaints are formatted, and not shown.
static char fuzz_said[2000];
#undef fputs
#undef printf
#undef vfprintf
#undef fprintf
#define fputs(text, stream)        ((void)(text))
#define vfprintf(stream, form, a)  vsnprintf(fuzz_said, sizeof fuzz_said, form, a)
#define fprintf(stream, ...)       snprintf(fuzz_said, sizeof fuzz_said, __VA_ARGS__)
#define printf(...)                snprintf(fuzz_said, sizeof fuzz_said, __VA_ARGS__)
#include "../examples/glam_options.h"
#undef fputs
#undef printf
#undef vfprintf
#undef fprintf

// The parser knows a command by its bit alone.
static const command commands[] = {
    { "train", "TEXT...", "", TRAIN, NULL, NULL }, { "race", "TEXT...", "", RACE, NULL, NULL },
    { "generate", "MODEL", "", GENERATE, NULL, NULL }, { "eval", "MODEL TEXT", "", EVAL, NULL, NULL },
    { "route", "MODEL TEXT", "", ROUTE, NULL, NULL }, { "info", "MODEL", "", INFO, NULL, NULL },
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

enum {
    FUZZ_ROOM    = 256 << 10,          // bytes that loading may take beyond twice the file
    FUZZ_HEAP    = 64 << 20,           // all that there is
    FUZZ_SECONDS = 4,                  // of processor time for one input, sanitizers included
    FUZZ_SEEDS   = 24, FUZZ_MODELS = 6,
    FUZZ_TEXT    = 3000
};

typedef struct fuzz_block { uint8_t *data; size_t size; } fuzz_block;

static char       fuzz_text[FUZZ_TEXT + 1], fuzz_path[300];
static fuzz_block fuzz_seed[FUZZ_SEEDS];       // of the target
static int        fuzz_seeds;
static fuzz_block fuzz_saved[2 * FUZZ_MODELS]; // models, then checkpoints

// Both engines and the loop count an abort as a find.
static void fuzz_fail(const char *what, double a, double b)
{
    fprintf(stderr, "fuzz: %s (%.0f, %.0f)\n", what, a, b);
    abort();
}

// == the allocator ==========================================================================

static struct { size_t held, peak; long live; } fuzz_heap;

static void *fuzz_alloc(void *user, size_t bytes)
{
    (void)user;
    if (bytes > FUZZ_HEAP - fuzz_heap.held) return NULL;
    char *block = (char *)malloc(bytes + 64);
    if (!block) return NULL;
    memcpy(block, &bytes, sizeof bytes);
    fuzz_heap.live++;
    fuzz_heap.held += bytes;
    if (fuzz_heap.held > fuzz_heap.peak) fuzz_heap.peak = fuzz_heap.held;
    return block + 64;
}

static void fuzz_release(void *user, void *block, size_t bytes)
{
    size_t was;
    (void)user;
    memcpy(&was, (char *)block - 64, sizeof was);
    if (was != bytes) fuzz_fail("released with another size", (double)was, (double)bytes);
    fuzz_heap.live--;
    fuzz_heap.held -= was;
    free((char *)block - 64);
}

static glam_ctx *fuzz_open(void)
{
    glam_options o = glam_options_default();
    o.allocator.alloc = fuzz_alloc;
    o.allocator.release = fuzz_release;
    o.threads = 1;
    o.pack_bytes = 1 << 20;
    return glam_open(&o);
}

static void fuzz_close(glam_ctx *ctx)
{
    glam_close(ctx);
    if (fuzz_heap.live || fuzz_heap.held)
        fuzz_fail("not given back", (double)fuzz_heap.live, (double)fuzz_heap.held);
}

// An error has a sentence, and success has none.
static void fuzz_said_why(glam_ctx *ctx, int failed)
{
    if ((glam_error(ctx) != GLAM_OK) != (*glam_error_text(ctx) != 0))
        fuzz_fail("an error and no sentence, or a sentence and no error", glam_error(ctx), failed);
    if (failed && glam_error(ctx) == GLAM_OK) fuzz_fail("failed, and no error", failed, 0);
    glam_clear_error(ctx);
}

static void fuzz_bound(size_t before, size_t bytes)
{
    if (fuzz_heap.peak > before + 2 * bytes + FUZZ_ROOM)
        fuzz_fail("memory beyond twice the file", (double)(fuzz_heap.peak - before), (double)bytes);
    fuzz_heap.peak = fuzz_heap.held;
}

// == what is done with a model ==============================================================

static int fuzz_small(const glam_model *m)
{
    const glam_config *c = glam_model_config(m);
    return glam_model_count(m, NULL) < 200000 && c->vocab < 5000 && c->layers <= 8 &&
           c->d_model <= 512 && c->hidden < 5000 && (double)c->heads * c->d_head < 2000;
}

static void fuzz_tokens_are_of(const int32_t *token, int count, int vocab)
{
    for (int i = 0; i < count; i++)
        if (token[i] < 0 || token[i] >= vocab) fuzz_fail("a token that is none", token[i], vocab);
}

static void fuzz_use(glam_model *m)
{
    glam_ctx *ctx = glam_model_ctx(m);
    if (!fuzz_small(m)) return;
    int vocab = glam_model_config(m)->vocab, got;
    int32_t token[8], out[6];
    for (int i = 0; i < 8; i++) token[i] = (i * 37) % vocab;
    glam_batch b = { 1, 7, token, token + 1, NULL, NULL };
    glam_tensor *loss = glam_loss(m, &b, GLAM_TRAIN, NULL);
    if (loss) glam_backward(ctx, loss);
    fuzz_said_why(ctx, !loss);
    glam_forget(ctx);
    glam_session *s = glam_session_new(m, 16);
    got = s ? glam_generate(s, token, 3, out, 6, NULL) : 0;
    fuzz_tokens_are_of(out, got, vocab);
    fuzz_said_why(ctx, got == 0);
    glam_text *text = glam_text_from(ctx, fuzz_text, FUZZ_TEXT, NULL);
    glam_recipe r = glam_recipe_default();
    r.batch = 1;
    r.context = 8;
    r.steps = 3;
    glam_trainer *t = glam_trainer_new(m, text, NULL, &r);
    if (t) glam_train_step(t, NULL);
    fuzz_said_why(ctx, !t);
}

static void fuzz_write(const uint8_t *data, size_t size)
{
    FILE *file = fopen(fuzz_path, "wb");
    if (!file || fwrite(data, 1, size, file) != size || fclose(file)) {
        fprintf(stderr, "fuzz: cannot write %s\n", fuzz_path);
        exit(2);
    }
}

// All readers of files.
static void fuzz_file(const uint8_t *data, size_t size, int use)
{
    glam_ctx *ctx = fuzz_open();
    glam_text *text = glam_text_from(ctx, fuzz_text, FUZZ_TEXT, NULL);
    uint8_t *copy = (uint8_t *)malloc(size ? size : 1);        // so that one byte more is seen
    glam_config config;
    size_t held = fuzz_heap.held, mark = glam_mark(ctx);
    fuzz_heap.peak = held;
    if (!copy) return;
    memcpy(copy, data, size);
    glam_model *m = glam_load_memory(ctx, copy, size);
    free(copy);
    fuzz_said_why(ctx, !m);
    fuzz_bound(held, size);
    if (m && use) fuzz_use(m);
    glam_rewind(ctx, mark);
    held = fuzz_heap.peak = fuzz_heap.held;
    fuzz_write(data, size);
    fuzz_said_why(ctx, glam_load_config(ctx, fuzz_path, &config) != GLAM_OK);
    glam_tensor *of_mine = glam_param(ctx, "embed", glam_dim2(2, 2));
    fuzz_said_why(ctx, glam_load_tensors(ctx, fuzz_path, &of_mine, 1) != GLAM_OK);
    fuzz_bound(held, size);
    glam_trainer *t = glam_load_checkpoint(ctx, fuzz_path, text, NULL);
    fuzz_said_why(ctx, !t);
    // what a run of these numbers takes is its own matter, once the file has been believed
    if (!t) fuzz_bound(held, size);
    const glam_recipe *r = t ? glam_trainer_recipe(t) : NULL;
    if (t && use && fuzz_small(glam_trainer_model(t)) && r->batch <= 64 && r->context <= 64 &&
        r->accumulate <= 64) {
        glam_train_step(t, NULL);
        fuzz_said_why(ctx, 0);
    }
    fuzz_close(ctx);
}

// == targets ================================================================================

static void fuzz_load(const uint8_t *data, size_t size) { fuzz_file(data, size, 0); }
static void fuzz_step(const uint8_t *data, size_t size) { fuzz_file(data, size, 1); }

static size_t fuzz_header_size(fuzz_block file)
{
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--) length = length << 8 | file.data[i];
    return (size_t)length;
}

// The first byte says whose numbers follow the header; the rest is the header.
static void fuzz_metadata(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 100000) return;
    fuzz_block of = fuzz_saved[data[0] % (2 * FUZZ_MODELS)];
    size_t header = fuzz_header_size(of), numbers = of.size - 8 - header, bytes = --size + 8 + numbers;
    uint8_t *file = (uint8_t *)malloc(bytes);
    static const char key[] = "glam.checksum\":\"";
    if (!file) return;
    for (int i = 0; i < 8; i++) file[i] = (uint8_t)((uint64_t)size >> 8 * i);
    memcpy(file + 8, data + 1, size);
    memcpy(file + 8 + size, of.data + 8 + header, numbers);
    for (size_t i = 8; i + sizeof key + 16 < 8 + size; i++) {
        char digits[17];
        glam__file_sum sum = { 0, 0, 0 };
        if (memcmp(file + i, key, sizeof key - 1) != 0) continue;
        if (memcmp(file + i + sizeof key - 1, "none", 4) == 0) break;
        memset(file + i + sizeof key - 1, '0', 16);
        glam__file_sum_add(&sum, file, bytes);
        snprintf(digits, sizeof digits, "%016llx", (unsigned long long)glam__file_sum_end(&sum));
        memcpy(file + i + sizeof key - 1, digits, 16);
        break;
    }
    fuzz_file(file, bytes, 1);
    free(file);
}

// Numbers from bytes: most of them small, some of them extreme.  Past the end all are 0.
typedef struct fuzz_in { const uint8_t *at, *end; } fuzz_in;

static int fuzz_byte(fuzz_in *in) { return in->at < in->end ? *in->at++ : 0; }

static int fuzz_int(fuzz_in *in, int below)
{
    static const int odd[] = { INT_MAX, INT_MIN, -1, 0, 65536, INT_MAX - 1, 1 << 24 };
    int b = fuzz_byte(in);
    return b >= 249 ? odd[b - 249] : b % below;
}

static float fuzz_real(fuzz_in *in)
{
    static const float odd[] = { NAN, INFINITY, -INFINITY, -1.0f, 1e30f, 1e-30f, -0.0f, 1e-45f };
    int b = fuzz_byte(in);
    return b >= 248 ? odd[b - 248] : (float)b / 16.0f;
}

static glam_config fuzz_config(fuzz_in *in)
{
    glam_config c = glam_config_default();
    c.vocab = fuzz_int(in, 300);
    c.context = fuzz_int(in, 40);
    c.layers = fuzz_int(in, 5);
    c.d_model = fuzz_int(in, 40);
    c.heads = fuzz_int(in, 6);
    c.d_head = fuzz_int(in, 12);
    c.hidden = fuzz_int(in, 40);
    c.position = (glam_position)(fuzz_byte(in) % 5);
    c.buckets = fuzz_int(in, 40);
    c.max_distance = fuzz_int(in, 200);
    c.attention_scale = fuzz_real(in);
    c.attention_sink = fuzz_int(in, 3);
    c.attention_cap = fuzz_real(in);
    c.activation = (glam_activation)(fuzz_byte(in) % 7);
    c.norm_eps = fuzz_real(in) * 1e-6f;
    c.tied = fuzz_int(in, 2);
    c.logit_scale = fuzz_real(in);
    c.logit_cap = fuzz_real(in);
    c.z_loss = fuzz_real(in);
    c.moe.experts = fuzz_int(in, 9);
    c.moe.top_k = fuzz_int(in, 5);
    c.moe.every = fuzz_int(in, 4);
    c.moe.offset = fuzz_int(in, 4);
    c.moe.hidden = fuzz_int(in, 20);
    c.moe.activation = (glam_activation)(fuzz_byte(in) % 7);
    c.moe.normalise = (glam_normalise)(fuzz_byte(in) % 4);
    c.moe.capacity_factor = fuzz_real(in);
    c.moe.capacity = fuzz_int(in, 20);
    c.moe.group = fuzz_int(in, 20);
    c.moe.aux_weight = fuzz_real(in);
    c.moe.router_z_weight = fuzz_real(in);
    c.moe.router_cap = fuzz_real(in);
    c.kv_heads = fuzz_int(in, 5);
    c.qk_norm = (glam_qk_norm)(fuzz_byte(in) % 4);
    c.embed_scale = fuzz_real(in);
    c.residual_scale = fuzz_real(in);
    c.rotary.scaling = (glam_rotary_scaling)(fuzz_byte(in) % 5);
    float *r[] = { &c.rotary.theta, &c.rotary.factor, &c.rotary.low, &c.rotary.high, &c.rotary.attention };
    for (int i = 0; i < 5; i++) *r[i] = fuzz_byte(in) % 2 ? fuzz_real(in) : 0;
    c.rotary.context = fuzz_int(in, 50);
    return c;
}

static glam_recipe fuzz_recipe(fuzz_in *in)
{
    glam_recipe r = glam_recipe_default();
    r.optimizer = (glam_optimizer_kind)(fuzz_byte(in) % 3);
    r.schedule = (glam_schedule)(fuzz_byte(in) % 4);
    r.lr = (double)fuzz_real(in);
    r.embed_lr = (double)fuzz_real(in);
    r.bias_lr = (double)fuzz_real(in);
    r.warmup = fuzz_int(in, 5);
    r.min_lr = (double)fuzz_real(in);
    r.steps = fuzz_int(in, 4);
    r.batch = fuzz_int(in, 5);
    r.context = fuzz_int(in, 9);
    r.accumulate = fuzz_int(in, 4);
    r.recompute = fuzz_int(in, 2);
    r.update_in_backward = fuzz_int(in, 2);
    r.clip = (double)fuzz_real(in);
    r.weight_decay = (double)fuzz_real(in);
    r.decay_all = fuzz_int(in, 2);
    r.beta1 = (double)fuzz_real(in) / 16;
    r.beta2 = (double)fuzz_real(in) / 16;
    r.eps = (double)fuzz_real(in) * 1e-6;
    r.factor_min = fuzz_int(in, 9);
    r.update_clip = (double)fuzz_real(in);
    r.eps1 = (double)fuzz_real(in) * 1e-30;
    r.eps2 = (double)fuzz_real(in) * 1e-3;
    r.parameter_scale = fuzz_int(in, 2);
    r.aux_off_when_frozen = fuzz_int(in, 2);
    r.max_bad_steps = fuzz_int(in, 4);
    r.eval_every = fuzz_int(in, 3);
    r.patience = fuzz_int(in, 2);
    r.seed = (uint64_t)fuzz_int(in, 9);
    return r;
}

// A batch whose tokens, targets and segments may be anything.
static void fuzz_batch(fuzz_in *in, glam_model *m)
{
    glam_ctx *ctx = glam_model_ctx(m);
    int vocab = glam_model_config(m)->vocab;
    int32_t token[36], target[36], mask[36], segment[36];
    int rows = fuzz_int(in, 5), length = fuzz_int(in, 10);
    if (rows > 0 && length > 0 && (rows > 4 || length > 9)) rows = 4, length = 9;
    for (int i = 0; i < 36; i++) {
        int odd = fuzz_byte(in);
        token[i] = odd % 8 == 7 ? odd - 128 : (i * 7) % vocab;
        target[i] = odd % 16 == 6 ? odd - 128 : (i * 5) % vocab;
        mask[i] = odd % 3;
        segment[i] = odd % 5 - (odd > 250);
    }
    glam_batch b = { rows, length, token, fuzz_byte(in) % 8 == 7 ? NULL : target,
                     fuzz_byte(in) % 2 ? mask : NULL, fuzz_byte(in) % 2 ? segment : NULL };
    glam_mode mode = fuzz_byte(in) % 2 ? GLAM_TRAIN : GLAM_INFER;
    glam_losses losses;
    glam_tensor *loss = glam_loss(m, &b, mode, &losses);
    if (loss) glam_backward(ctx, loss);
    fuzz_said_why(ctx, !loss);
    glam_forget(ctx);
    glam_forward(m, &b, mode);
    fuzz_said_why(ctx, 0);
    glam_forget(ctx);
}

static void fuzz_generate(fuzz_in *in, glam_model *m)
{
    glam_ctx *ctx = glam_model_ctx(m);
    glam_sampling s = glam_sampling_default();
    int vocab = glam_model_config(m)->vocab;
    int32_t prompt[8], out[12];
    s.temperature = fuzz_real(in);
    s.top_k = fuzz_int(in, 20);
    s.top_p = fuzz_real(in);
    s.min_p = fuzz_real(in);
    s.repetition_penalty = fuzz_real(in);
    s.repetition_window = fuzz_int(in, 40);
    int most = fuzz_int(in, 30), count = fuzz_int(in, 9), wanted = fuzz_int(in, 13);
    if (most > 1 << 24) most = 1 << 16;                // the heap is for other things
    if (count > 8) count = 8;
    if (wanted > 12) wanted = 12;
    for (int i = 0; i < 8; i++) {
        int b = fuzz_byte(in);
        prompt[i] = b > 240 ? b - 250 : b % vocab;
    }
    glam_session *session = glam_session_new(m, most);
    fuzz_said_why(ctx, !session);
    int got = session ? glam_generate(session, prompt, count, out, wanted, &s) : 0;
    fuzz_tokens_are_of(out, got, vocab);
    fuzz_said_why(ctx, 0);
}

static void fuzz_options(const uint8_t *data, size_t size)
{
    fuzz_in in = { data, data + size };
    glam_ctx *ctx = fuzz_open();
    glam_config c = fuzz_config(&in);
    glam_recipe r = fuzz_recipe(&in);
    glam_model *m = glam_model_new(ctx, &c);
    fuzz_said_why(ctx, !m);
    if (m && fuzz_small(m)) {
        glam_plan plan;
        fuzz_generate(&in, m);
        fuzz_batch(&in, m);
        glam_plan_for(ctx, &c, &r, &plan);
        fuzz_said_why(ctx, 0);
        for (int t = 0; t < 3; t++) glam_recipe_lr(&r, fuzz_int(&in, 100));
        glam_text *text = glam_text_from(ctx, fuzz_text, FUZZ_TEXT, NULL);
        r.accumulate = r.accumulate > 64 ? 64 : r.accumulate;   // millions of parts are legal, and take their time
        r.batch = r.batch > 4096 ? 4096 : r.batch;
        glam_text *valid = fuzz_byte(&in) % 2 ? glam_text_from(ctx, fuzz_text, 300, NULL) : NULL;
        glam_trainer *t = glam_trainer_new(m, text, valid, &r);
        fuzz_said_why(ctx, !t);
        for (int i = 0; i < 2 && t; i++) glam_train_step(t, NULL);
        fuzz_said_why(ctx, 0);
    }
    fuzz_close(ctx);
}

// Words of a command line, separated by zeros.
static void fuzz_tool(const uint8_t *data, size_t size)
{
    char *copy = (char *)malloc(size + 1), *word[64];
    static settings s;
    const command *c = &commands[size ? data[0] % COMMANDS : 0];
    int count = 0, used;
    if (!copy) return;
    memcpy(copy, data, size);
    copy[size] = 0;
    memset(&s, 0, sizeof s);
    memset(given, 0, sizeof given);
    for (size_t at = 1; at < size && count < 64; at += strlen(copy + at) + 1)
        word[count++] = copy + at;
    for (int i = 0; i < count; i += used) {
        used = 1;
        if (strncmp(word[i], "--", 2) == 0) {
            if (read_option(c, &s, word + i, count - i, &used)) break;
        } else {
            unknown_preset(word[i]);
        }
    }
    check_together(&s);
    if (s.steps < 0 || !(s.lr >= 0) || !(s.minutes >= 0)) fuzz_fail("a number that is none", s.steps, s.lr);
    free(copy);
}

static void fuzz_texts(const uint8_t *data, size_t size)
{
    glam_config small = glam_config_default();
    small.context = 8;
    small.layers = 2;
    small.d_model = 4;
    small.heads = 1;
    small.d_head = 2;
    small.hidden = 3;
    small.buckets = 4;
    small.max_distance = 8;
    small.moe.experts = 2;
    small.moe.hidden = 2;
    small.moe.activation = GLAM_RELU;
    fuzz_in in = { data, data + (size < 16 ? size : 16) };
    const char *bytes = (const char *)in.end;
    size_t count = size - (size_t)(in.end - data);
    glam_ctx *ctx = fuzz_open();
    glam_text *text, *train = NULL, *valid = NULL;
    glam_batch b;
    float weight[2];
    int32_t ids[64];
    char back[65], *word = (char *)malloc(count + 1);
    if (!word) return;
    memcpy(word, bytes, count);
    word[count < 300 ? count : 300] = 0;               // as a prompt and a pattern: not longer
    fuzz_write((const uint8_t *)bytes, count);
    text = glam_text_open(ctx, fuzz_path, NULL);
    fuzz_said_why(ctx, !text);
    glam_text_split(text, fuzz_real(&in), &train, &valid);
    fuzz_said_why(ctx, 0);
    weight[0] = fuzz_real(&in);
    weight[1] = fuzz_real(&in);
    glam_text *parts[2] = { text, train };
    glam_text *mix = glam_mix(ctx, parts, weight, fuzz_int(&in, 3) % 3);
    fuzz_said_why(ctx, 0);
    if (glam_next_batch(mix ? mix : text, fuzz_int(&in, 5) & 3, fuzz_int(&in, 9), 1, 2, &b) == GLAM_OK)
        fuzz_tokens_are_of(b.tokens, b.rows * b.length, 256);
    fuzz_said_why(ctx, 0);
    glam_text_read(text, (size_t)fuzz_int(&in, 99), 64, ids);
    size_t n = glam_encode(NULL, bytes, count, ids, 64);
    if (n != count) fuzz_fail("tokens are not bytes", (double)n, (double)count);
    glam_decode(NULL, ids, n < 64 ? n : 64, back, sizeof back);
    if (memcmp(back, bytes, n < 64 ? n : 64)) fuzz_fail("bytes did not come back", (double)n, 0);
    glam_model *m = glam_model_new(ctx, &small);
    if (!m) fuzz_fail("no model", glam_error(ctx), 0);
    glam_freeze(m, word, 1);
    fuzz_said_why(ctx, 0);
    glam_model_tensor(m, word);
    glam_config_preset(word, &(glam_config){ 0 });
    glam_complete(m, word, back, fuzz_int(&in, 20) & 31, NULL);
    fuzz_said_why(ctx, 0);
    free(word);
    fuzz_close(ctx);
}

// == valid input ============================================================================

static void fuzz_add(const void *data, size_t size)
{
    fuzz_block b = { (uint8_t *)malloc(size + 1), size };
    if (!b.data || fuzz_seeds == FUZZ_SEEDS) exit(2);
    memcpy(b.data, data, size);
    fuzz_seed[fuzz_seeds++] = b;
}

static glam_config fuzz_tiny(int v)
{
    glam_config c = glam_config_default();
    c.vocab = v == 5 ? 256 : 128;
    c.context = 8;
    c.layers = v % 2 + 1;
    c.d_model = 4;
    c.heads = 1;
    c.d_head = 2;
    c.hidden = 3;
    c.buckets = 4;
    c.max_distance = 8;
    c.moe.experts = v == 1 ? 0 : 2;
    c.moe.hidden = 2;
    c.moe.every = v == 2 ? 1 : 2;
    if (v == 3) c.position = GLAM_POSITION_TRANSFORMER_XL;
    if (v == 4) {
        c.position = GLAM_POSITION_NONE;
        c.tied = 0;
        c.moe.activation = GLAM_RELU;
        c.moe.capacity_factor = 2;
    }
    return c;
}

// A small file of each kind: dense, every layer mixed, every position, both optimisers.
static void fuzz_save(int v)
{
    glam_ctx *ctx = glam_open(NULL);
    glam_config c = fuzz_tiny(v);
    glam_model *m = glam_model_new(ctx, &c);
    glam_text *text = glam_text_from(ctx, fuzz_text, FUZZ_TEXT, NULL);
    glam_recipe r = glam_recipe_default();
    r.batch = 2;
    r.steps = 9;
    r.optimizer = v % 2 ? GLAM_ADAMW : GLAM_ADAFACTOR;
    glam_trainer *t = glam_trainer_new(m, text, NULL, &r);
    glam_train_step(t, NULL);
    glam_save_checkpoint(t, fuzz_path);
    fuzz_block model = { NULL, glam_save_memory(m, NULL, 0) }, run = { NULL, 0 };
    model.data = (uint8_t *)malloc(model.size);
    run.data = (uint8_t *)malloc(1 << 17);
    FILE *file = fopen(fuzz_path, "rb");
    if (!file || !run.data || !model.data || glam_error(ctx) != GLAM_OK) {
        fprintf(stderr, "fuzz: no seed: %s\n", glam_error_text(ctx));
        exit(2);
    }
    glam_save_memory(m, model.data, model.size);
    run.size = fread(run.data, 1, 1 << 17, file);
    fclose(file);
    fuzz_saved[v] = model;
    fuzz_saved[FUZZ_MODELS + v] = run;
    glam_close(ctx);
}

// Whose checksum says "none", so that damage comes to the parser.
static void fuzz_add_unsummed(fuzz_block b)
{
    static const char key[] = "glam.checksum\":\"";
    fuzz_add(b.data, b.size);
    uint8_t *data = fuzz_seed[fuzz_seeds - 1].data, *end = data + 8 + fuzz_header_size(b);
    for (uint8_t *p = data + 8; p + sizeof key < end; p++) {
        if (memcmp(p, key, sizeof key - 1) != 0) continue;
        p += sizeof key - 1;
        memmove(p + 4, p + 16, (size_t)(end - p - 16));
        memcpy(p, "none", 4);
        memset(end - 12, ' ', 12);
        return;
    }
}

static void fuzz_seed_files(void)
{
    for (int i = 0; i < 2 * FUZZ_MODELS; i++) fuzz_add_unsummed(fuzz_saved[i]);
    fuzz_add(fuzz_saved[0].data, fuzz_saved[0].size);
}

static void fuzz_seed_headers(void)
{
    for (int i = 0; i < 2 * FUZZ_MODELS; i++) {
        size_t size = fuzz_header_size(fuzz_saved[i]);
        fuzz_add(fuzz_saved[i].data + 7, size + 1);
        fuzz_seed[fuzz_seeds - 1].data[0] = (uint8_t)i;
    }
}

static void fuzz_seed_options(void)
{
    for (int i = 0; i < FUZZ_SEEDS; i++) {
        uint8_t b[220];
        uint64_t s = (uint64_t)i * 77 + 5;
        for (size_t k = 0; k < sizeof b; k++) {
            s = s * 6364136223846793005u + 1442695040888963407u;
            b[k] = (uint8_t)(s >> 33) % 240;
        }
        for (int k = 0; k < 8; k++) b[k] |= 4;          // sizes that make a model
        fuzz_add(b, sizeof b);
    }
}

static void fuzz_seed_words(void)
{
    static const char *const line[] = {
        "0--steps\0" "100\0--lr=0.02\0--batch\0" "16\0book.txt\0",
        "0--resume\0run.checkpoint\0--threads\0" "2\0a\0",
        "1--minutes\0" "0.5\0--quiet\0--seed\0" "18446744073709551615\0t\0",
        "2--prompt\0\0--tokens\0" "40\0--top-p=0.9\0m\0", "5--preset=0.1B/64E\0--mesh\0" "2x2\0",
        "0--from\0m\0--freeze\0experts,router\0--layers\0" "4\0b\0--\0--b\0", "3m\0some text\0",
    };
    static const int size[] = { 44, 45, 49, 43, 34, 60, 14 };
    for (int i = 0; i < 7; i++) {
        fuzz_add(line[i], (size_t)size[i]);
        fuzz_seed[fuzz_seeds - 1].data[0] -= '0';
    }
}

static void fuzz_seed_texts(void)
{
    static const char *const text[] = {
        "0123456789abcdefone two three", "\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17\20layers.*.attn.*",
        "@@@@@@@@@@@@@@@@caf\xc3\xa9 \xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x98\x80 \xff\xfe\r\n",
        "!!!!!!!!!!!!!!!!layers.3", "................experts", "00000000000000000.1B/64E",
        "****************layers.*****?*.[a-z]**z"
    };
    for (int i = 0; i < 7; i++) fuzz_add(text[i], strlen(text[i]));
    fuzz_add(fuzz_text, FUZZ_TEXT);
}

static const struct fuzz_target {
    const char *name;
    void (*run)(const uint8_t *data, size_t size);
    void (*seeds)(void);
} fuzz_targets[] = {
    { "load", fuzz_load, fuzz_seed_files },         { "step", fuzz_step, fuzz_seed_files },
    { "options", fuzz_options, fuzz_seed_options }, { "metadata", fuzz_metadata, fuzz_seed_headers },
    { "tool", fuzz_tool, fuzz_seed_words },         { "text", fuzz_texts, fuzz_seed_texts },
};
enum { FUZZ_TARGETS = sizeof fuzz_targets / sizeof fuzz_targets[0] };

static const struct fuzz_target *fuzz_now;

static const struct fuzz_target *fuzz_find(const char *name)
{
    for (int i = 0; i < FUZZ_TARGETS; i++)
        if (name && strcmp(fuzz_targets[i].name, name) == 0) return &fuzz_targets[i];
    fprintf(stderr, "fuzz: the targets are load, step, options, metadata, tool and text\n");
    exit(2);
}

static void fuzz_remove(void) { remove(fuzz_path); }

static void fuzz_begin(void)
{
    static const char words[] = "one two three four five, once I caught a fish alive, ";
    const char *folder = getenv("TMPDIR");
    if (!folder || !*folder || strlen(folder) > 200) folder = access("/dev/shm", W_OK) ? "." : "/dev/shm";
    snprintf(fuzz_path, sizeof fuzz_path, "%s/glam_fuzz_%ld", folder, (long)getpid());
    atexit(fuzz_remove);
    for (int i = 0; i < FUZZ_TEXT; i++) fuzz_text[i] = words[i % (int)(sizeof words - 1)];
    for (int v = 0; v < FUZZ_MODELS; v++) fuzz_save(v);
}

static void fuzz_one(const uint8_t *data, size_t size)
{
    clock_t begin = clock();
    fuzz_now->run(data, size);
    double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
    if (seconds > FUZZ_SECONDS) fuzz_fail("too slow; milliseconds", 1000 * seconds, (double)size);
}

// == mutations ==============================================================================

static uint64_t fuzz_state = 88172645463325252u;

static uint32_t fuzz_random(uint32_t below)
{
    fuzz_state ^= fuzz_state << 13;
    fuzz_state ^= fuzz_state >> 7;
    fuzz_state ^= fuzz_state << 17;
    return (uint32_t)((fuzz_state >> 20) % below);
}

// Replaces data[at, at + old) by so many new bytes, as far as there is room.
static size_t fuzz_replace(uint8_t *data, size_t size, size_t most, size_t at, size_t old,
                           const void *with, size_t bytes)
{
    if (old > size - at) old = size - at;
    if (size - old + bytes > most) return size;
    memmove(data + at + bytes, data + at + old, size - at - old);
    memcpy(data + at, with, bytes);
    return size - old + bytes;
}

// For JSON: numbers at the edges, members doubled, dropped and moved, strings with escapes.
static size_t fuzz_mutate_json(uint8_t *data, size_t size, size_t most)
{
    static const char *const number[] = {
        "0", "1", "-1", "2", "3", "255", "256", "65536", "2147483647", "2147483648", "-2147483648",
        "4294967295", "4294967296", "4611686018427387904", "9223372036854775807",
        "18446744073709551615", "18446744073709551616", "1e308", "1e999", "1e-320", "0.1", "-0",
        "00", "1.", "\\\"nan\\\"", "\\\"inf\\\"", "null", "true", "1e3", "1000000", "16777216" };
    static const char *const piece[] = {
        "\\u0041", "\\ud800", "\\ud83d\\ude00", "\\\\", "\xff", "\xc3\xa9", "\\n", "\x01", "*", ".",
        "{", "}", "[", "]", ",", ":", "\"", " ", "\n", "embed", "layers.0.", "F16", "BF16" };
    char span[200];
    size_t at = 1 + fuzz_random((uint32_t)size), end, other;
    if (at >= size) at = size - 1;
    switch (fuzz_random(4)) {
    case 0: {                                          // the next number
        while (at < size && (data[at] < '0' || data[at] > '9')) at++;
        for (end = at; end < size && strchr("0123456789.eE+-", data[end]) && data[end]; ) end++;
        if (at == size) return size;
        const char *n = number[fuzz_random(sizeof number / sizeof *number)];
        return fuzz_replace(data, size, most, at, end - at, n, strlen(n));
    }
    case 1: {
        const char *p = piece[fuzz_random(sizeof piece / sizeof *piece)];
        return fuzz_replace(data, size, most, at, fuzz_random(3), p, strlen(p));
    }
    default:                                           // from one comma to the next
        while (at < size && data[at] != ',') at++;
        for (end = at + 1; end < size && data[end] != ',' && end - at < sizeof span; ) end++;
        if (at >= size || end > size) return size;
        memcpy(span, data + at, end - at);
        other = end - at;
        if (fuzz_random(2)) size = fuzz_replace(data, size, most, at, other, "", 0);
        at = 1 + fuzz_random((uint32_t)size);
        while (at < size && data[at] != ',' && data[at] != '}') at++;
        return at < size && fuzz_random(4) ? fuzz_replace(data, size, most, at, 0, span, other) : size;
    }
}

static size_t fuzz_mutate(uint8_t *data, size_t size, size_t most)
{
    static const uint8_t odd[] = { 0, 1, 0x7f, 0x80, 0xff, '"', '\\', '{', '}', ',', '-', '9', '0', '*' };
    size_t at = size ? fuzz_random((uint32_t)size) : 0;
    uint8_t byte = (uint8_t)fuzz_random(256), chunk[64];
    if (size > 600 && fuzz_random(3)) at %= 600;       // most of what is parsed stands in front
    if (!size) return fuzz_replace(data, size, most, 0, 0, &byte, 1);
    switch (fuzz_random(7)) {
    case 0: data[at] ^= (uint8_t)(1 << fuzz_random(8)); return size;
    case 1: data[at] = byte; return size;
    case 2: data[at] = odd[fuzz_random(sizeof odd)]; return size;
    case 3: return fuzz_replace(data, size, most, at, 0, &odd[fuzz_random(sizeof odd)], 1);
    case 4: return fuzz_replace(data, size, most, at, 1 + fuzz_random(8), "", 0);
    case 5: return fuzz_random(8) ? size : at;         // cut off
    default: {
        size_t from = fuzz_random((uint32_t)size), bytes = 1 + fuzz_random(sizeof chunk);
        if (bytes > size - from) bytes = size - from;
        memcpy(chunk, data + from, bytes);
        return fuzz_replace(data, size, most, at, fuzz_random(2) ? bytes : 0, chunk, bytes);
    }
    }
}

static int fuzz_is_json(void) { return fuzz_now->run == fuzz_metadata; }

#ifdef FUZZ_ENGINE

// == for the engines ========================================================================

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    fuzz_now = fuzz_find(getenv("GLAM_FUZZ"));
    fuzz_begin();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_one(data, size);
    return 0;
}

#ifndef __AFL_COMPILER
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    fuzz_state = seed * 0x9e3779b97f4a7c15u + 1;
    if (fuzz_is_json() && size > 1 && seed % 3) return fuzz_mutate_json(data, size, most);
    if (fuzz_now->run == fuzz_options && seed % 3 == 0) return fuzz_mutate(data, size, most);
    return LLVMFuzzerMutate(data, size, most);
}
#endif

#else

// == alone ==================================================================================

enum { FUZZ_MOST = 1 << 17 };
static uint8_t fuzz_input[FUZZ_MOST];
static size_t  fuzz_input_size;
static char    fuzz_found[60];

// What the program was at when it failed goes into a file, whatever state it is in.
static void fuzz_caught(int number)
{
    FILE *file = fopen(fuzz_found, "wb");
    if (file) {
        fwrite(fuzz_input, 1, fuzz_input_size, file);
        fclose(file);
    }
    remove(fuzz_path);
    signal(number, SIG_DFL);
    raise(number);
}

static void fuzz_watch(void)
{
    static const int numbers[] = { SIGABRT, SIGSEGV, SIGFPE, SIGILL, SIGTERM };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) signal(numbers[i], fuzz_caught);
#ifdef SIGALRM
    signal(SIGALRM, fuzz_caught);
#endif
}

static int fuzz_loop(double seconds, uint64_t seed)
{
    time_t end = time(NULL) + (time_t)seconds;
    long runs = 0;
    for (int i = 0; i < fuzz_seeds; i++) {
        memcpy(fuzz_input, fuzz_seed[i].data, fuzz_input_size = fuzz_seed[i].size);
        fuzz_one(fuzz_input, fuzz_input_size);
    }
    fuzz_state = seed * 0x9e3779b97f4a7c15u + 88172645463325252u;
    while (time(NULL) < end) {
        const fuzz_block *s = &fuzz_seed[fuzz_random((uint32_t)fuzz_seeds)];
        memcpy(fuzz_input, s->data, fuzz_input_size = s->size);
        for (uint32_t n = 1 + fuzz_random(6); n; n--)
            fuzz_input_size = fuzz_is_json() && fuzz_input_size > 1 && fuzz_random(4)
                ? fuzz_mutate_json(fuzz_input, fuzz_input_size, FUZZ_MOST)
                : fuzz_mutate(fuzz_input, fuzz_input_size, FUZZ_MOST);
#ifdef SIGALRM
        alarm(4 * FUZZ_SECONDS);
#endif
        fuzz_one(fuzz_input, fuzz_input_size);
        runs++;
    }
    printf("%s: %ld inputs in %.0f seconds, nothing found\n", fuzz_now->name, runs, seconds);
    printf("1 passed, 0 failed\n");
    return 0;
}

static int fuzz_again(int count, char **files)
{
    for (int i = 0; i < count; i++) {
        FILE *file = fopen(files[i], "rb");
        if (!file) { fprintf(stderr, "fuzz: cannot open %s\n", files[i]); return 1; }
        fuzz_input_size = fread(fuzz_input, 1, FUZZ_MOST, file);
        fclose(file);
        fuzz_one(fuzz_input, fuzz_input_size);
    }
    printf("%d inputs, nothing found\n", count);
    return 0;
}

static int fuzz_write_seeds(const char *folder)
{
    char path[600];
    for (int t = 0; t < FUZZ_TARGETS; t++) {
        fuzz_seeds = 0;
        fuzz_targets[t].seeds();
        for (int i = 0; i < fuzz_seeds; i++) {
            snprintf(path, sizeof path, "%s/%s/%d", folder, fuzz_targets[t].name, i);
            FILE *file = fopen(path, "wb");
            if (!file) { fprintf(stderr, "fuzz: cannot write %s\n", path); return 1; }
            fwrite(fuzz_seed[i].data, 1, fuzz_seed[i].size, file);
            fclose(file);
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    int again = argc > 3 && strcmp(argv[1], "again") == 0;
    fuzz_begin();
    if (argc == 3 && strcmp(argv[1], "seeds") == 0) return fuzz_write_seeds(argv[2]);
    if (argc < 3) return fuzz_find(NULL) != NULL;
    fuzz_now = fuzz_find(argv[1 + again]);
    if (again) return fuzz_again(argc - 3, argv + 3);
    snprintf(fuzz_found, sizeof fuzz_found, "fuzz_%.20s_found", fuzz_now->name);
    fuzz_watch();
    fuzz_now->seeds();
    return fuzz_loop(atof(argv[2]), argc > 3 ? strtoull(argv[3], NULL, 10) : 1);
}
#endif
