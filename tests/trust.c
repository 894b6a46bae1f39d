/* The long forms of the tests: everything fails once, at every place.  trust.sh runs them and run.sh full
   runs `quick`; each part prints its figures, and the last line is "N passed, N failed".

       cc -O1 tests/trust.c -o trust -lm
       ./trust quick | alloc [EVERY] | files | damage [MUTATIONS] | kill [TRIALS] | nan | soak [SECONDS] ...

   alloc    every allocation k of a whole program refused, once and from k on: an error with a sentence, nothing
            lost, weights untouched, and the call repeated gives the bits of a run that was never disturbed
   files    every call of the operating system for files fails once, with EIO, ENOSPC or half of the bytes: the
            file of that name is the old or the new one, whole, and nothing lies beside it
   damage   every prefix, every bit and many random changes of a file are refused; changes with the checksum
            made to fit are refused or load, in no time
   kill     a process that saves is killed at random moments: its file loads, is not older than what was
            acknowledged, and has the bits of the run that was never stopped
   nan      numbers that are not finite in activations, gradients, on one rank only, or after an update
   soak     hours of small work: the memory that the system counts does not grow */

#if !defined(_WIN32) && !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif
#define _FILE_OFFSET_BITS 64
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// == file calls that can be told to fail ====================================================

static struct trust_calls {
    long made, fail_at;                // call number fail_at (from 1; 0: none) fails
    int  error, half, from_on, hit;    // half: of the bytes arrive
    const char *which;                 // that failed first
} trust_call;

static int trust_fails(const char *which)
{
    trust_call.made++;
    // half of the bytes: the first call is short, and with ENOSPC the one after it fails
    long last = trust_call.fail_at + (trust_call.half && trust_call.error == ENOSPC);
    if (!trust_call.fail_at || trust_call.made < trust_call.fail_at ||
        (trust_call.made > last && !trust_call.from_on)) return 0;
    if (!trust_call.hit++) trust_call.which = which;
    errno = trust_call.error;
    return 1;
}

// Removing is never refused: what cannot be removed stays, and that is no fault of the library.
static int trust_open(const char *path, int flags, int mode)
{ return trust_fails("open") ? -1 : open(path, flags, (mode_t)mode); }
static off_t trust_lseek(int f, off_t at, int whence)
{ return trust_fails("lseek") ? -1 : lseek(f, at, whence); }
static ssize_t trust_readlink(const char *path, char *to, size_t room)
{ return trust_fails("readlink") ? -1 : readlink(path, to, room); }
static int trust_access(const char *path, int how) { return trust_fails("access") ? -1 : access(path, how); }
static int trust_fsync(int f) { return trust_fails("fsync") ? -1 : fsync(f); }
static int trust_fstat(int f, struct stat *s) { return trust_fails("fstat") ? -1 : fstat(f, s); }
static int trust_stat(const char *path, struct stat *s) { return trust_fails("stat") ? -1 : stat(path, s); }
static int trust_fchmod(int f, mode_t mode) { return trust_fails("fchmod") ? -1 : fchmod(f, mode); }
static int trust_fchown(int f, uid_t user, gid_t group)
{ return trust_fails("fchown") ? -1 : fchown(f, user, group); }
static int trust_rename(const char *from, const char *to)
{ return trust_fails("rename") ? -1 : rename(from, to); }

// The file is closed even where closing fails.
static int trust_close(int f)
{
    int fails = trust_fails("close"), error = errno, result = close(f);
    if (!fails) return result;
    errno = error;
    return -1;
}

static ssize_t trust_read_some(int f, void *to, size_t count)
{
    if (!trust_fails("read")) return read(f, to, count);
    return trust_call.half && trust_call.hit < 2 && count > 1 ? read(f, to, count / 2) : -1;
}

static ssize_t trust_write_some(int f, const void *from, size_t count)
{
    if (!trust_fails("write")) return write(f, from, count);
    return trust_call.half && trust_call.hit < 2 && count > 1 ? write(f, from, count / 2) : -1;
}

#define trust_open_3(path, flags, mode, ...)  trust_open(path, flags, (int)(mode))
#define open(...)              trust_open_3(__VA_ARGS__, 0, 0)
#define lseek(f, at, whence)   trust_lseek(f, at, whence)
#define fsync(f)               trust_fsync(f)
#define fstat(f, s)            trust_fstat(f, s)
#define stat(path, s)          trust_stat(path, s)
#define fchmod(f, mode)        trust_fchmod(f, mode)
#define fchown(f, u, g)        trust_fchown(f, u, g)
#define rename(from, to)       trust_rename(from, to)
#define readlink(path, to, n)  trust_readlink(path, to, n)
#define access(path, how)      trust_access(path, how)
#define close(f)               trust_close(f)
#define read(f, to, n)         trust_read_some(f, to, n)
#define write(f, from, n)      trust_write_some(f, from, n)
#define GLAM__FSYNC(f)         trust_fsync(f)
#define GLAM_IMPLEMENTATION
#include "../glam.h"
#undef open
#undef lseek
#undef fsync
#undef fstat
#undef stat
#undef fchmod
#undef fchown
#undef rename
#undef readlink
#undef access
#undef close
#undef read
#undef write

#include "test.h"
#include "helpers.h"
#include "threads_comm.h"
#include "mesh.h"

static int  trust_quick;
static long trust_number;              // the number after the name of a part; 0: none
static char trust_folder[300];

static const char *trust_path(const char *name)
{
    static char path[6][400];
    static int next;
    next = (next + 1) % 6;
    snprintf(path[next], sizeof path[next], "%s/%s", trust_folder, name);
    return path[next];
}

typedef struct trust_block { unsigned char *data; size_t size; } trust_block;

static trust_block trust_read(const char *path)
{
    trust_block b = { (unsigned char *)malloc(1 << 20), 0 };
    FILE *file = fopen(path, "rb");
    if (!b.data) abort();
    if (!file) return b;
    b.size = fread(b.data, 1, 1 << 20, file);
    fclose(file);
    return b;
}

static void trust_write(const char *path, trust_block b)
{
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(b.data, 1, b.size, file) != b.size || fclose(file)) abort();
}

static int trust_is(const char *path, trust_block b)
{
    trust_block have = trust_read(path);
    int same = have.size == b.size && memcmp(have.data, b.data, b.size) == 0;
    free(have.data);
    return same;
}

// Entries of a folder that are no dots.
static int trust_entries(const char *path)
{
    DIR *folder = opendir(path);
    int count = 0;
    if (!folder) return -1;
    for (struct dirent *e; (e = readdir(folder)) != NULL;) count += e->d_name[0] != '.' || strlen(e->d_name) > 2;
    closedir(folder);
    return count;
}

static double trust_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// == alloc ==================================================================================

// Bits of what changes from variant to variant of the programs below, of which the second is for what a
// model is fine-tuned and measured with.
enum { TRUST_ADAMW = 1, TRUST_PARTS = 2, TRUST_OTHER = 4, TRUST_EARLY = 8, TRUST_VALID = 16, TRUST_VARIANTS = 32,
       TRUST_SECOND = 32, TRUST_BF16 = 64 };

static struct trust_world {
    int variant;
    glam_ctx *ctx;
    glam_text *text, *train, *valid, *file, *mix;
    glam_model *model, *loaded, *borrowed;
    glam_trainer *trainer, *resumed;
    glam_session *session;
    glam_optimizer *optimizer;
    glam_tensor *w, *b;
    glam_tokenizer *tokenizer;
    glam_text *examples;
    glam_model *dense;
    glam_filter *filter;
    glam_routing_stats *stats;
    void  *memory;
    size_t bytes;
    uint64_t out;                      // what the call gave, as a hash
} trust_w;
static test_heap trust_heap;

static uint64_t trust_hash(const void *data, size_t bytes) { return test_hash(1469598103934665603u, data, bytes); }

static int trust_open_ctx(void)
{
    glam_options o = test_options();
    o.allocator.alloc = test_heap_alloc;
    o.allocator.release = test_heap_release;
    o.allocator.user = &trust_heap;
    if (trust_w.variant & TRUST_BF16) o.arithmetic = GLAM_BF16;
    return (trust_w.ctx = glam_open(&o)) != NULL;
}

static void trust_rhyme(char *all, int bytes)
{ for (int i = 0; i < bytes; i++) all[i] = test_rhyme[i % (int)(sizeof test_rhyme - 1)]; }

static int trust_text(void)
{
    char all[4000];
    trust_rhyme(all, 4000);
    return (trust_w.text = glam_text_from(trust_w.ctx, all, 4000, NULL)) != NULL;
}

static int trust_split(void)
{
    return glam_text_split(trust_w.text, 0.1f, &trust_w.train, &trust_w.valid) == GLAM_OK &&
           trust_w.train && trust_w.valid;
}

static int trust_text_open(void)
{
    trust_w.file = glam_text_open(trust_w.ctx, trust_path("text"), NULL);
    trust_w.out = glam_text_length(trust_w.file);
    return trust_w.file != NULL;
}

static int trust_mix(void)
{
    glam_text *parts[2] = { trust_w.train, trust_w.valid };
    float weights[2] = { 1, 2 };
    trust_w.mix = glam_mix(trust_w.ctx, parts, weights, 2);
    trust_w.out = glam_text_length(trust_w.mix);
    return trust_w.mix != NULL;
}

static glam_config trust_config(void)
{
    glam_config c = train_config();
    if (trust_w.variant & TRUST_OTHER) {
        c.moe.activation = GLAM_GEGLU;
        c.moe.capacity_factor = 1.5f;
        c.position = GLAM_POSITION_TRANSFORMER_XL;
        c.d_head = 4;
        c.tied = 0;
    }
    if (trust_w.variant & TRUST_SECOND) c.vocab = 320;
    return c;
}

static glam_recipe trust_recipe(void)
{
    glam_recipe r = train_recipe(50);
    r.factor_min = 8;
    if (trust_w.variant & TRUST_ADAMW) r.optimizer = GLAM_ADAMW;
    if (trust_w.variant & TRUST_PARTS) r.accumulate = 2, r.recompute = 1;
    if (trust_w.variant & TRUST_EARLY) r.update_in_backward = 1, r.clip = 0, r.accumulate = 1;
    if (trust_w.variant & TRUST_VALID) r.eval_every = 2;
    return r;
}

static int trust_model(void)
{
    glam_config c = trust_config();
    trust_w.model = glam_model_new(trust_w.ctx, &c);
    trust_w.out = trust_w.model ? test_model_hash(trust_w.model) : 0;
    return trust_w.model != NULL;
}

static int trust_forward(void)
{
    glam_batch b;
    glam_next_batch(trust_w.train, 2, 16, 7, 3, &b);
    glam_tensor *t = glam_forward(trust_w.model, &b, GLAM_TRAIN);
    if (t) trust_w.out = trust_hash(t->data, glam_size(t) * sizeof(float));
    glam_forget(trust_w.ctx);
    return t != NULL;
}

static int trust_backward(void)
{
    glam_batch b;
    glam_losses l;
    uint64_t hash = 1;
    glam_next_batch(trust_w.train, 2, 16, 7, 3, &b);
    glam_tensor *t = glam_loss(trust_w.model, &b, GLAM_TRAIN, &l), *p;
    int ok = t && glam_backward(trust_w.ctx, t) == GLAM_OK;
    for (int i = 0; ok && (p = glam_model_tensor_at(trust_w.model, i)) != NULL; i++)
        if (p->grad) hash = test_hash(hash, p->grad, glam_size(p) * sizeof(float));
    trust_w.out = hash;
    glam_forget(trust_w.ctx);
    return ok;
}

static glam_tensor *trust_block_of(glam_ctx *ctx, void *arg, glam_tensor *x, glam_tensor **extra)
{
    (void)arg;
    (void)extra;
    return glam_tanh(ctx, glam_matmul(ctx, x, trust_w.w));
}

static glam_tensor *trust_own_loss(glam_ctx *ctx, void *arg)
{
    float v[32];
    (void)arg;
    for (int i = 0; i < 32; i++) v[i] = 0.1f * (float)i;
    glam_tensor *x = glam_input(ctx, v, glam_dim2(4, 8));
    glam_tensor *y = glam_recompute(ctx, trust_block_of, NULL, x, NULL);
    return glam_mean(ctx, glam_mul(ctx, glam_add(ctx, y, trust_w.b), y));
}

static int trust_param(void)
{
    if (!trust_w.w && (trust_w.w = glam_param(trust_w.ctx, "w", glam_dim2(8, 8))) != NULL)
        glam_fill_normal(trust_w.w, 3, 0.5f);
    if (!trust_w.b) trust_w.b = glam_param(trust_w.ctx, "b", glam_dim1(8));
    return trust_w.w && trust_w.b;
}

static int trust_check_grad(void)
{
    glam_tensor *both[2] = { trust_w.w, trust_w.b };
    double worst = glam_check_grad(trust_w.ctx, trust_own_loss, NULL, both, 2, 1e-2);
    trust_w.out = trust_hash(&worst, sizeof worst);
    return worst >= 0;
}

static int trust_optimizer(void)
{
    glam_tensor *both[2] = { trust_w.w, trust_w.b };
    glam_recipe r = trust_recipe();
    r.update_in_backward = 0;
    return (trust_w.optimizer = glam_optimizer_new(trust_w.ctx, both, 2, &r)) != NULL;
}

static int trust_update(void)
{
    glam_report report;
    glam_status s = glam_update(trust_w.optimizer, trust_own_loss(trust_w.ctx, NULL), &report);
    trust_w.out = trust_hash(trust_w.w->data, 64 * sizeof(float));
    return s == GLAM_OK;
}

static int trust_trainer(void)
{
    glam_recipe r = trust_recipe();
    return (trust_w.trainer = glam_trainer_new(trust_w.model, trust_w.train, trust_w.valid, &r)) != NULL;
}

static int trust_step_of(glam_trainer *t)
{
    glam_report r;
    memset(&r, 0, sizeof r);
    int ok = glam_train_step(t, &r) && glam_error(trust_w.ctx) == GLAM_OK;
    double losses[2] = { r.loss, r.valid_loss };
    trust_w.out = test_hash(test_model_hash(glam_trainer_model(t)), losses, sizeof losses);
    return ok;
}

static int trust_step(void) { return trust_step_of(trust_w.trainer); }
static int trust_step_resumed(void) { return trust_step_of(trust_w.resumed); }

static int trust_validate(void)
{
    double d = glam_validate(trust_w.trainer);
    trust_w.out = trust_hash(&d, sizeof d);
    return d >= 0;
}

static int trust_save(void) { return glam_save(trust_w.model, trust_path("model")) == GLAM_OK; }
static int trust_checkpoint(void)
{ return glam_save_checkpoint(trust_w.trainer, trust_path("run")) == GLAM_OK; }

static int trust_load(void)
{
    trust_w.loaded = glam_load(trust_w.ctx, trust_path("model"));
    trust_w.out = trust_w.loaded ? test_model_hash(trust_w.loaded) : 0;
    return trust_w.loaded != NULL;
}

static int trust_resume(void)
{
    trust_w.resumed = glam_load_checkpoint(trust_w.ctx, trust_path("run"), trust_w.train, trust_w.valid);
    trust_w.out = trust_w.resumed ? test_model_hash(glam_trainer_model(trust_w.resumed)) : 0;
    return trust_w.resumed != NULL;
}

static int trust_save_memory(void)
{
    trust_w.bytes = glam_save_memory(trust_w.model, NULL, 0);
    if (!trust_w.bytes) return 0;
    if (!trust_w.memory) trust_w.memory = malloc(trust_w.bytes);
    if (!trust_w.memory) abort();
    size_t n = glam_save_memory(trust_w.model, trust_w.memory, trust_w.bytes);
    trust_w.out = n ? trust_hash(trust_w.memory, n) : 0;
    return n == trust_w.bytes;
}

static int trust_load_memory(void)
{
    glam_model *m = glam_load_memory(trust_w.ctx, trust_w.memory, trust_w.bytes);
    trust_w.out = m ? test_model_hash(m) : 0;
    return m != NULL;
}

static int trust_load_config(void)
{
    glam_config c;
    glam_status s = glam_load_config(trust_w.ctx, trust_path("model"), &c);
    trust_w.out = (uint64_t)c.vocab;
    return s == GLAM_OK;
}

static int trust_save_tensors(void)
{
    glam_tensor *both[2] = { trust_w.w, trust_w.b };
    return glam_save_tensors(trust_w.ctx, trust_path("tensors"), both, 2) == GLAM_OK;
}

static int trust_load_tensors(void)
{
    glam_tensor *both[2] = { trust_w.w, trust_w.b };
    return glam_load_tensors(trust_w.ctx, trust_path("tensors"), both, 2) == GLAM_OK;
}

static int trust_session(void) { return (trust_w.session = glam_session_new(trust_w.model, 64)) != NULL; }

static int trust_generate(void)
{
    int32_t prompt[3] = { 65, 66, 67 }, out[20];
    memset(out, 0, sizeof out);
    glam_session_reset(trust_w.session);
    int n = glam_generate(trust_w.session, prompt, 3, out, 20, NULL);
    trust_w.out = trust_hash(out, sizeof out);
    return n == 20;
}

static int trust_complete(void)
{
    char out[30];
    memset(out, 0, sizeof out);
    int n = glam_complete(trust_w.model, "one two", out, sizeof out, NULL);
    trust_w.out = trust_hash(out, sizeof out);
    return n > 0;
}

static int trust_perplexity(void)
{
    glam_perplexity_report r;
    glam_status s = glam_perplexity(trust_w.model, trust_w.valid, 0, &r);
    trust_w.out = trust_hash(&r.loss, sizeof r.loss);
    return s == GLAM_OK;
}

static int trust_plan(void)
{
    glam_plan p;
    glam_config c = trust_config();
    glam_recipe r = trust_recipe();
    glam_status s = glam_plan_for(trust_w.ctx, &c, &r, &p);
    trust_w.out = s == GLAM_OK ? p.train_bytes : 0;
    return s == GLAM_OK;
}

static int trust_borrow(void)
{
    trust_w.borrowed = glam_model_borrow(trust_w.ctx, trust_w.model);
    trust_w.out = trust_w.borrowed ? test_model_hash(trust_w.borrowed) : 0;
    return trust_w.borrowed != NULL;
}

static int trust_tokenizer(void)
{
    char all[4000];
    trust_rhyme(all, 4000);
    trust_w.tokenizer = glam_tokenizer_train(trust_w.ctx, all, 4000, 320, GLAM_SPLIT_GPT2);
    trust_w.out = (uint64_t)glam_tokenizer_size(trust_w.tokenizer);
    return trust_w.tokenizer != NULL;
}

// A word of more letters than are merged without memory.
static int trust_encode(void)
{
    char all[500];
    int32_t ids[500];
    memset(ids, 0, sizeof ids);
    trust_rhyme(all, 500);
    for (int i = 100; i < 300; i++) all[i] = (char)('a' + i * i % 23);
    size_t n = glam_encode(trust_w.tokenizer, all, sizeof all, ids, 500);
    trust_w.out = trust_hash(ids, sizeof ids);
    return n > 0 && n < 500;
}

static int trust_pieces(void)
{
    char all[4000];
    trust_rhyme(all, 4000);
    trust_w.text = glam_text_from(trust_w.ctx, all, 4000, trust_w.tokenizer);
    trust_w.out = glam_text_length(trust_w.text);
    return trust_w.text != NULL;
}

static int trust_documents(void)
{
    const int32_t point = '.';
    trust_w.out = glam_text_documents(trust_w.text, &point, 1);
    return trust_w.out > 0;
}

static int trust_examples(void)
{
    int32_t ids[3][20];
    unsigned char learn[20] = { 0 };
    glam_example e[3];
    for (int i = 0; i < 3; i++) {
        for (int t = 0; t < 20; t++) ids[i][t] = 97 + (t * 5 + i) % 20, learn[t] = t > 7;
        e[i].tokens = ids[i];
        e[i].learn = i ? learn : NULL;
        e[i].count = 20 - i;
    }
    trust_w.examples = glam_text_examples(trust_w.ctx, e, 3, 16);
    trust_w.out = glam_text_windows(trust_w.examples, 16, NULL);
    return trust_w.examples != NULL;
}

static int trust_mix_epochs(void)
{
    double epochs[2] = { 0, 0 };
    glam_status s = glam_mix_epochs(trust_w.mix, 2, 16, 7, 0, 9, epochs, 2);
    trust_w.out = trust_hash(epochs, sizeof epochs);
    return s == GLAM_OK;
}

static int trust_set_tokenizer(void) { return glam_model_set_tokenizer(trust_w.model, trust_w.tokenizer) == GLAM_OK; }

static int trust_mixture(const glam_model *m) { return glam_model_moe(m, 0) ? 0 : 1; }

static int trust_stats(void)
{
    int32_t most[2] = { 0, 0 }, tokens[32];
    glam_batch b;
    glam_next_batch(trust_w.train, 2, 16, 7, 3, &b);
    glam_tensor *t = glam_forward(trust_w.model, &b, GLAM_INFER);
    const glam_routing *r = t ? glam_model_routing(trust_w.model, trust_mixture(trust_w.model)) : NULL;
    for (int i = 0; i < 32; i++) tokens[i] = i * 9 % 320;
    int ok = r && (trust_w.stats = glam_stats_new(trust_w.ctx, r->experts, 320, 0)) != NULL &&
             glam_stats_add(trust_w.ctx, trust_w.stats, r, tokens, NULL) == GLAM_OK &&
             glam_stats_compare(trust_w.ctx, trust_w.stats, r, r) == GLAM_OK &&
             glam_stats_most(trust_w.ctx, trust_w.stats, 2, most) == GLAM_OK;
    trust_w.out = ok ? trust_hash(most, sizeof most) + trust_w.stats->choices : 0;
    glam_forget(trust_w.ctx);
    return ok;
}

static int trust_tune(void)
{
    static const unsigned char off[8] = { 0, 1 };
    glam_moe_config now = *glam_model_moe(trust_w.model, trust_mixture(trust_w.model));
    now.aux_weight = 0.02f;
    return glam_model_tune(trust_w.model, -1, &now, off) == GLAM_OK &&
           glam_model_tune(trust_w.model, -1, &now, NULL) == GLAM_OK;
}

static int trust_select(void)
{
    static const int32_t from[2 * 5] = { 0, 1, 2, 3, 1, 0, 1, 2, 3, 1 };
    glam_model *m = glam_select_experts(trust_w.model, from, 5);
    trust_w.out = m ? test_model_hash(m) : 0;
    return m != NULL;
}

static int trust_dense(void)
{
    glam_config c = trust_config();
    c.moe.experts = 0;
    return (trust_w.dense = glam_model_new(trust_w.ctx, &c)) != NULL;
}

static int trust_upcycle(void)
{
    glam_moe_config moe = glam_moe_config_default();
    moe.experts = 4;
    glam_model *m = glam_upcycle(trust_w.dense, &moe);
    trust_w.out = m ? test_model_hash(m) : 0;
    return m != NULL;
}

static int trust_adapt(void)
{
    glam_model *m = trust_w.model;
    glam_lora lora = { GLAM_ROLE_ATTENTION | GLAM_ROLE_EXPERTS | GLAM_ROLE_DENSE, 3, 2, 6, 0 };
    if (glam_model_adapt(m, &lora) != GLAM_OK) return 0;
    test_fill_adapters(m);
    trust_w.out = test_model_hash(m);
    return 1;
}

static int trust_freeze_experts(void)
{
    static const unsigned char frozen[4] = { 1, 0, 0, 1 };
    return glam_freeze_experts(trust_w.model, trust_mixture(trust_w.model), frozen) == GLAM_OK;
}

static int trust_tuner(void)
{
    glam_recipe r = trust_recipe();
    return (trust_w.trainer = glam_trainer_new(trust_w.model, trust_w.examples, NULL, &r)) != NULL;
}

static int trust_retune(void)
{
    trust_w.resumed = glam_load_checkpoint(trust_w.ctx, trust_path("run"), trust_w.examples, NULL);
    trust_w.out = trust_w.resumed ? test_model_hash(glam_trainer_model(trust_w.resumed)) : 0;
    return trust_w.resumed != NULL;
}

static int trust_save_adapter(void) { return glam_save_adapter(trust_w.model, trust_path("tensors")) == GLAM_OK; }

static int trust_load_adapter(void)
{
    glam_status s = glam_load_adapter(trust_w.borrowed, trust_path("tensors"));
    trust_w.out = s == GLAM_OK ? test_model_hash(trust_w.borrowed) : 0;
    return s == GLAM_OK;
}

static int trust_merge(void)
{
    glam_status s = glam_model_merge(trust_w.borrowed);
    trust_w.out = s == GLAM_OK ? test_model_hash(trust_w.borrowed) : 0;
    return s == GLAM_OK;
}

static int trust_fresh(void)               // another model of this shape, for the adapters
{
    glam_config c = trust_config();
    return (trust_w.borrowed = glam_model_new(trust_w.ctx, &c)) != NULL;
}

static int trust_load_tokenizer(void)
{
    const glam_tokenizer *t = glam_load_tokenizer(trust_w.ctx, trust_path("model"));
    trust_w.out = (uint64_t)glam_tokenizer_size(t);
    return t != NULL;
}

static int trust_load_facts(void)
{
    glam_recipe r;
    glam_status s = glam_load_recipe(trust_w.ctx, trust_path("run"), &r);
    int type = glam_load_type(trust_w.ctx, trust_path("model"));
    trust_w.out = (uint64_t)type + 3 * (uint64_t)glam_load_arithmetic(trust_w.ctx, trust_path("run"));
    return s == GLAM_OK && glam_error(trust_w.ctx) == GLAM_OK;
}

static int trust_loglikelihood(void)
{
    static const glam_query q[2] = { { "one two", " three four" }, { "", "five" } };
    glam_score s[2];
    memset(s, 0, sizeof s);
    glam_status status = glam_loglikelihood(trust_w.model, q, 2, 0, s);
    trust_w.out = trust_hash(&s[0].loglik, sizeof s[0].loglik) + (uint64_t)s[1].tokens;
    return status == GLAM_OK;
}

static int trust_beam(void)
{
    int32_t prompt[3] = { 65, 66, 67 }, out[6] = { 0 };
    double loglik = 0;
    int n = glam_beam_search(trust_w.model, prompt, 3, out, 6, NULL, &loglik);
    trust_w.out = trust_hash(out, sizeof out) + trust_hash(&loglik, sizeof loglik);
    return n == 6;
}

static int trust_filter(void)
{
    glam_filter_config c = glam_filter_config_default();
    c.bits = 8;
    return (trust_w.filter = glam_filter_new(trust_w.ctx, &c)) != NULL;
}

static int trust_filter_score(void)
{
    glam_document d[2] = { { "one two three", 13 }, { "BUY!! now", 9 } };
    float labels[2] = { 1, 0 }, scores[2] = { 0, 0 };
    double loss = 0;
    int ok = glam_filter_train(trust_w.filter, d, labels, NULL, 2, &loss) == GLAM_OK &&
             glam_filter_score(trust_w.filter, d, 2, scores) == GLAM_OK;
    return ok && scores[0] > scores[1];
}

static int trust_file_text(void)
{
    trust_w.file = glam_text_file(trust_w.ctx, trust_path("text"));
    trust_w.out = glam_text_length(trust_w.file);
    return trust_w.file != NULL;
}

#define TRUST_OP(name) { #name, trust_##name }
static const struct trust_op { const char *name; int (*run)(void); } trust_ops[] = {
    TRUST_OP(open_ctx), TRUST_OP(text), TRUST_OP(split), TRUST_OP(text_open), TRUST_OP(mix), TRUST_OP(model),
    TRUST_OP(forward), TRUST_OP(backward), TRUST_OP(param), TRUST_OP(check_grad), TRUST_OP(optimizer),
    TRUST_OP(update), TRUST_OP(trainer), TRUST_OP(step), TRUST_OP(step), TRUST_OP(step), TRUST_OP(validate),
    TRUST_OP(save), TRUST_OP(checkpoint), TRUST_OP(load), TRUST_OP(resume), TRUST_OP(step_resumed),
    TRUST_OP(save_memory), TRUST_OP(load_memory), TRUST_OP(load_config), TRUST_OP(save_tensors),
    TRUST_OP(load_tensors), TRUST_OP(session), TRUST_OP(generate), TRUST_OP(complete), TRUST_OP(perplexity),
    TRUST_OP(plan), TRUST_OP(borrow), TRUST_OP(step),
};
enum { TRUST_OPS = sizeof trust_ops / sizeof trust_ops[0] };

static const struct trust_op trust_second[] = {
    TRUST_OP(open_ctx), TRUST_OP(tokenizer), TRUST_OP(encode), TRUST_OP(pieces), TRUST_OP(documents), TRUST_OP(split),
    TRUST_OP(examples), TRUST_OP(mix), TRUST_OP(mix_epochs), TRUST_OP(file_text), TRUST_OP(model),
    TRUST_OP(set_tokenizer), TRUST_OP(stats), TRUST_OP(tune), TRUST_OP(select), TRUST_OP(dense), TRUST_OP(upcycle),
    TRUST_OP(adapt), TRUST_OP(freeze_experts), TRUST_OP(tuner), TRUST_OP(step), TRUST_OP(step), TRUST_OP(save),
    TRUST_OP(load), TRUST_OP(load_tokenizer), TRUST_OP(checkpoint), TRUST_OP(load_facts), TRUST_OP(retune),
    TRUST_OP(step_resumed), TRUST_OP(save_adapter), TRUST_OP(fresh), TRUST_OP(load_adapter), TRUST_OP(merge),
    TRUST_OP(loglikelihood), TRUST_OP(beam), TRUST_OP(filter), TRUST_OP(filter_score),
};
enum { TRUST_SECONDS = sizeof trust_second / sizeof trust_second[0], TRUST_MOST = 64 };

static void trust_say(const char *op, const char *what)
{
    printf("  variant %d, allocation %ld%s, %s: %s\n", trust_w.variant, trust_heap.fail_at,
           trust_heap.from_on ? " and later" : "", op, what);
    CHECK(!"as promised");
}

// One call that may meet the refused allocation; 0: nothing more can be done in this life.
static int trust_call_op(const struct trust_op *op, long fail_at, const uint64_t *wanted)
{
    uint64_t weights = trust_w.model ? test_model_hash(trust_w.model) : 0;
    trust_w.out = 0;
    int ok = op->run(), hit = fail_at && trust_heap.calls >= fail_at;
    glam_ctx *ctx = trust_w.ctx;
    // forgetting what was never made leaves the error of its making
    if (ok && ctx && glam_error(ctx) != GLAM_OK) ok = 0;
    if (!ok) {
        if (!hit || !trust_heap.fail_at) {
            trust_say(op->name, ctx ? glam_error_text(ctx) : "failed, and nothing was refused");
            return 0;
        }
        if (ctx && (glam_error(ctx) != GLAM_ERR_MEMORY || !*glam_error_text(ctx)))
            trust_say(op->name, glam_error_text(ctx));
        // a step whose validation had no memory is done; the next call makes up for that alone
        if (trust_w.model && weights && op->run != trust_step && op->run != trust_step_resumed &&
            test_model_hash(trust_w.model) != weights)
            trust_say(op->name, "the weights changed though the call failed");
        trust_heap.fail_at = 0;                    // there is memory again
        if (ctx) glam_clear_error(ctx);
        trust_w.out = 0;
        if (!op->run()) {
            trust_heap.fail_at = fail_at;
            trust_say(op->name, trust_w.ctx ? glam_error_text(trust_w.ctx) : "failed again");
            return 0;
        }
    }
    if (wanted && trust_w.out != *wanted) {
        trust_heap.fail_at = fail_at;
        trust_say(op->name, ok ? "other bits later" : "the call repeated gave other bits");
        return 0;
    }
    if (hit) trust_heap.fail_at = 0;
    return 1;
}

// A whole program, in which allocation number k is refused; returns its allocations.
static long trust_life(int variant, long k, int from_on, uint64_t *wanted, int record)
{
    memset(&trust_w, 0, sizeof trust_w);
    memset(&trust_heap, 0, sizeof trust_heap);
    trust_w.variant = variant;
    trust_heap.fail_at = k;
    trust_heap.from_on = from_on;
    const struct trust_op *ops = variant & TRUST_SECOND ? trust_second : trust_ops;
    for (int i = 0; i < (ops == trust_ops ? (int)TRUST_OPS : (int)TRUST_SECONDS); i++) {
        if (!trust_call_op(&ops[i], k, record ? NULL : &wanted[i])) break;
        if (record) wanted[i] = trust_w.out;
    }
    glam_close(trust_w.ctx);
    if (trust_heap.live || trust_heap.wrong) trust_say("close", "not all memory came back");
    free(trust_w.memory);
    return trust_heap.calls;
}

static void trust_alloc(void)
{
    static const int few[] = { 0, TRUST_ADAMW | TRUST_PARTS | TRUST_OTHER | TRUST_VALID, TRUST_EARLY,
                               TRUST_SECOND, TRUST_SECOND | TRUST_BF16 | TRUST_ADAMW | TRUST_PARTS };
    enum { FEW = sizeof few / sizeof few[0] };
    uint64_t wanted[TRUST_MOST];
    char text[5000];
    long lives = 0, step = trust_quick ? 3 : trust_number ? trust_number : 1;
    memset(text, 'x', sizeof text);
    trust_write(trust_path("text"), (trust_block){ (unsigned char *)text, sizeof text });
    for (int i = 0; i < (trust_quick ? (int)FEW : TRUST_VARIANTS + 2); i++) {
        int variant = trust_quick ? few[i] : i < TRUST_VARIANTS ? i : few[i - TRUST_VARIANTS + FEW - 2];
        if ((variant & TRUST_EARLY) && (variant & TRUST_PARTS)) continue;
        long calls = trust_life(variant, 0, 0, wanted, 1);
        for (long k = 1; k <= calls; k += step) {
            trust_life(variant, k, 0, wanted, 0);
            trust_life(variant, k, 1, wanted, 0);
            lives += 2;
        }
        CHECK(calls > 50);
    }
    printf("alloc: %ld programs, each with one allocation refused, once or from there on\n", lives);
}

// == files ==================================================================================

static struct trust_things {
    glam_ctx *ctx;
    glam_text *text;
    glam_model *model;
    glam_trainer *trainer;
    glam_tensor *tensor;
    trust_block old[3];                // of the model, the run, the tensors
} trust_t;
static const char *const trust_names[3] = { "model", "run", "tensors" };

static void trust_things_make(void)
{
    char all[5000];
    glam_config c = trust_config();
    glam_recipe r = train_recipe(100);
    trust_rhyme(all, 5000);
    trust_write(trust_path("text"), (trust_block){ (unsigned char *)all, sizeof all });
    trust_t.ctx = test_ctx();
    trust_t.text = glam_text_from(trust_t.ctx, all, 5000, NULL);
    trust_t.model = glam_model_new(trust_t.ctx, &c);
    trust_t.trainer = glam_trainer_new(trust_t.model, trust_t.text, NULL, &r);
    trust_t.tensor = glam_param(trust_t.ctx, "p", glam_dim2(100, 100));
    glam_fill_normal(trust_t.tensor, 1, 1);
    glam_train_step(trust_t.trainer, NULL);
    glam_save(trust_t.model, trust_path("model"));
    glam_save_checkpoint(trust_t.trainer, trust_path("run"));
    glam_save_tensors(trust_t.ctx, trust_path("tensors"), &trust_t.tensor, 1);
    for (int i = 0; i < 3; i++) trust_t.old[i] = trust_read(trust_path(trust_names[i]));
    glam_train_step(trust_t.trainer, NULL);        // what is saved from now on is new
    trust_t.tensor->data[0] += 1;
    CHECK(glam_error(trust_t.ctx) == GLAM_OK && trust_entries(trust_folder) == 4);
}

enum { TRUST_FILE_OPS = 8 };
static int trust_file_op(int op)
{
    glam_config c;
    switch (op) {
    case 0: return glam_save(trust_t.model, trust_path("model")) == GLAM_OK;
    case 1: return glam_save_checkpoint(trust_t.trainer, trust_path("run")) == GLAM_OK;
    case 2: return glam_save_tensors(trust_t.ctx, trust_path("tensors"), &trust_t.tensor, 1) == GLAM_OK;
    case 3: return glam_load(trust_t.ctx, trust_path("model")) != NULL;
    case 4: return glam_load_checkpoint(trust_t.ctx, trust_path("run"), trust_t.text, NULL) != NULL;
    case 5: return glam_load_config(trust_t.ctx, trust_path("model"), &c) == GLAM_OK;
    case 6: return glam_load_tensors(trust_t.ctx, trust_path("tensors"), &trust_t.tensor, 1) == GLAM_OK;
    default: return glam_text_open(trust_t.ctx, trust_path("text"), NULL) != NULL;
    }
}

static void trust_file_wrong(int op, long k, const char *what)
{
    printf("  operation %d, call %ld (%s, error %d%s): %s; %s\n", op, k, trust_call.which, trust_call.error,
           trust_call.half ? ", half" : "", what, glam_error_text(trust_t.ctx));
    CHECK(!"as promised");
}

// One failure; 0: there are no more calls to fail.
static int trust_file_fault(int op, int mode, long k, const trust_block *fresh)
{
    static const int errors[] = { EIO, ENOSPC, EDQUOT, EIO, ENOSPC, EIO };
    size_t mark = glam_mark(trust_t.ctx);
    int streams = trust_entries("/proc/self/fd");
    for (int i = 0; i < 3; i++) trust_write(trust_path(trust_names[i]), trust_t.old[i]);
    memset(&trust_call, 0, sizeof trust_call);
    trust_call.fail_at = k;
    trust_call.error = errors[mode];
    trust_call.half = mode == 3 || mode == 4;
    trust_call.from_on = mode == 5;
    int ok = trust_file_op(op), hit = trust_call.hit;
    trust_call.fail_at = 0;
    if (!hit && !ok) trust_file_wrong(op, k, "failed undisturbed");
    if (hit && !ok && (glam_error(trust_t.ctx) != GLAM_ERR_FILE || !*glam_error_text(trust_t.ctx)))
        trust_file_wrong(op, k, "another error");
    if (ok && glam_error(trust_t.ctx) != GLAM_OK) trust_file_wrong(op, k, "fine, with an error");
    glam_clear_error(trust_t.ctx);
    if (trust_entries(trust_folder) != 4) trust_file_wrong(op, k, "something is left behind");
    if (trust_entries("/proc/self/fd") != streams) trust_file_wrong(op, k, "a file is left open");
    if (op < 3) {
        int old = trust_is(trust_path(trust_names[op]), trust_t.old[op]);
        int whole = trust_is(trust_path(trust_names[op]), fresh[op]);
        if (!old && !whole) trust_file_wrong(op, k, "the file is neither the old nor the new one");
        if (ok && !whole) trust_file_wrong(op, k, "said to be saved, and is not");
    }
    glam_rewind(trust_t.ctx, mark);
    return hit;
}

// A save through a link: it stays, whatever fails, and what it means is the old or the new file.
static long trust_link_faults(trust_block fresh)
{
    char link[600];
    long k = 0;
    struct stat s;
    snprintf(link, sizeof link, "%s", trust_path("link"));
    CHECK(symlink(trust_path("model"), link) == 0);
    do {
        trust_write(trust_path("model"), trust_t.old[0]);
        memset(&trust_call, 0, sizeof trust_call);
        trust_call.fail_at = ++k;
        trust_call.error = EIO;
        int ok = glam_save(trust_t.model, link) == GLAM_OK, whole = trust_is(trust_path("model"), fresh);
        trust_call.fail_at = 0;
        CHECK(lstat(link, &s) == 0 && S_ISLNK(s.st_mode));
        if (!CHECK(whole || (!ok && trust_is(trust_path("model"), trust_t.old[0]))))
            printf("  through a link, call %ld (%s)\n", k, trust_call.which);
        glam_clear_error(trust_t.ctx);
    } while (trust_call.hit && k < 5000);
    CHECK(k > 5 && unlink(link) == 0);
    return k - 1;
}

static void trust_files(void)
{
    trust_block fresh[3];
    long faults = 0;
    trust_things_make();
    for (int i = 0; i < 3; i++) {
        CHECK(trust_file_op(i));
        fresh[i] = trust_read(trust_path(trust_names[i]));
    }
    for (int op = 0; op < TRUST_FILE_OPS; op++)
        for (int mode = 0; mode < 6; mode++)
            for (long k = 1; k < 5000 && trust_file_fault(op, mode, k, fresh); k++) faults++;
    CHECK(faults > 200);
    faults += trust_link_faults(fresh[0]);
    printf("files: %ld calls failed in 8 functions\n", faults);
    for (int i = 0; i < 3; i++) {
        free(fresh[i].data);
        free(trust_t.old[i].data);
    }
    CLOSE_CLEAN(trust_t.ctx);
}

// == damage =================================================================================

enum { TRUST_ROOM = 256 << 10 };      // bytes that loading may take beyond twice the file
static struct { double slowest; size_t most; long silent; } trust_damage_of;

// Whether this block, in a copy of its exact size, loads.
static int trust_loads(const unsigned char *data, size_t size)
{
    glam_options o = test_options();
    test_heap heap;
    unsigned char *copy = (unsigned char *)malloc(size ? size : 1);
    test_heap_into(&heap, &o);
    o.threads = 1;
    if (!copy) abort();
    memcpy(copy, data, size);
    glam_ctx *ctx = glam_open(&o);
    size_t held = heap.peak = heap.bytes;
    double begin = trust_seconds();
    glam_model *m = glam_load_memory(ctx, copy, size);
    double took = trust_seconds() - begin;
    size_t most = heap.peak - held > 2 * size ? heap.peak - held - 2 * size : 0;
    int loads = m != NULL;
    if (took > trust_damage_of.slowest) trust_damage_of.slowest = took;
    if (most > trust_damage_of.most) trust_damage_of.most = most;
    trust_damage_of.silent += !loads && !*glam_error_text(ctx);
    glam_close(ctx);
    CHECK(heap.live == 0 && heap.wrong == 0);
    free(copy);
    return loads;
}

static size_t trust_header(trust_block b)
{
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--) length = length << 8 | b.data[i];
    return (size_t)length;
}

// Changes a few bytes, mostly of the header; the new size.
static size_t trust_change(unsigned char *data, size_t size, size_t header, uint64_t *state)
{
    static const char odd[] = "0123456789,:{}[]\"-.eE\\ ";
    for (uint64_t n = 1 + test_next(state) % 4; n; n--) {
        uint64_t r = test_next(state);
        size_t at = (size_t)(r >> 8) % (r % 3 ? header + 8 : size), from = (size_t)(r >> 20) % size;
        switch (r >> 60 & 7) {
        case 0: data[at] = (unsigned char)(r >> 40); break;
        case 1: data[at] = (unsigned char)odd[(r >> 40) % (sizeof odd - 1)]; break;
        case 2:
            memmove(data + at + 1, data + at, size++ - at);
            data[at] = (unsigned char)odd[(r >> 40) % (sizeof odd - 1)];
            break;
        case 3: memmove(data + at, data + at + 1, --size - at); break;
        case 4: if (at + 8 < size && from + 8 < size) memmove(data + at, data + from, 8); break;
        default: data[at] ^= (unsigned char)(1 << (r >> 50 & 7));
        }
    }
    return size;
}

// The checksum of what is there now, into its place.
static void trust_repair(unsigned char *data, size_t size)
{
    static const char key[] = "glam.checksum\":\"";
    glam__file_sum sum = { 0, 0, 0 };
    char digits[17];
    for (size_t i = 8; i + sizeof key + 16 < size; i++) {
        if (memcmp(data + i, key, sizeof key - 1) != 0) continue;
        memset(data + i + sizeof key - 1, '0', 16);
        glam__file_sum_add(&sum, data, size);
        snprintf(digits, sizeof digits, "%016llx", (unsigned long long)glam__file_sum_end(&sum));
        memcpy(data + i + sizeof key - 1, digits, 16);
        return;
    }
}

static void trust_damage(void)
{
    glam_ctx *ctx = test_ctx();
    glam_config c = test_config();
    long prefixes = 0, flips = 0, changes = 0, fitted = 0, most = trust_number ? trust_number : 1000000;
    uint64_t state = test_seed(3);
    c.vocab = 5;
    c.d_model = 4;
    c.heads = 1;
    c.d_head = c.buckets = c.moe.experts = c.moe.hidden = 2;
    c.max_distance = 4;
    c.hidden = 3;
    glam_model *m = glam_model_new(ctx, &c);
    trust_block good = { NULL, glam_save_memory(m, NULL, 0) };
    good.data = (unsigned char *)malloc(good.size);
    unsigned char *bad = (unsigned char *)malloc(good.size + 64);
    if (!good.data || !bad) abort();
    glam_save_memory(m, good.data, good.size);
    CHECK(trust_loads(good.data, good.size));
    memset(&trust_damage_of, 0, sizeof trust_damage_of);
    for (size_t n = 0; n < good.size; n++) prefixes += trust_loads(good.data, n);
    CHECK(prefixes == 0);
    memcpy(bad, good.data, good.size);
    for (size_t bit = 0; bit < 8 * good.size; bit++) {
        bad[bit / 8] ^= (unsigned char)(1 << bit % 8);
        flips += trust_loads(bad, good.size);
        bad[bit / 8] = good.data[bit / 8];
    }
    CHECK(flips == 0);
    for (long i = 0; i < most; i++) {
        memcpy(bad, good.data, good.size);
        size_t size = trust_change(bad, good.size, trust_header(good), &state);
        if (size == good.size && memcmp(bad, good.data, size) == 0) continue;
        changes += trust_loads(bad, size);
        trust_repair(bad, size);
        fitted += trust_loads(bad, size);
    }
    CHECK(changes == 0);
    CHECK(trust_damage_of.slowest < 1 && trust_damage_of.most <= TRUST_ROOM && trust_damage_of.silent == 0);
    printf("damage: of a file of %lu bytes %ld prefixes, %ld of %lu bit flips, %ld of %ld changes accepted; "
           "with the checksum made to fit %ld load; slowest %.4f s, %lu bytes beyond twice the file\n",
           (unsigned long)good.size, prefixes, flips, 8 * (unsigned long)good.size, changes, most, fitted,
           trust_damage_of.slowest, (unsigned long)trust_damage_of.most);
    free(good.data);
    free(bad);
    CLOSE_CLEAN(ctx);
}

// == kill ===================================================================================

enum { TRUST_STEPS = 4000 };

static glam_trainer *trust_runner(glam_ctx *ctx, int resume)
{
    glam_config c = train_config();
    glam_recipe r = train_recipe(100000);
    glam_text *text = test_text(ctx, 4000);
    c.context = 8;
    r.batch = 1;
    if (resume) return glam_load_checkpoint(ctx, trust_path("run"), text, NULL);
    return glam_trainer_new(glam_model_new(ctx, &c), text, NULL, &r);
}

// The child: trains and saves for ever, and writes the number of each step that is safe.
static void trust_saver(int acknowledge, int resume)
{
    glam_ctx *ctx = test_ctx();
    glam_trainer *t = trust_runner(ctx, resume);
    while (t && glam_train_step(t, NULL)) {
        int done = glam_trainer_done(t);
        if (glam_save_checkpoint(t, trust_path("run")) != GLAM_OK) break;
        if (write(acknowledge, &done, sizeof done) != (ssize_t)sizeof done) break;
    }
    _exit(9);
}

// Kills one child; returns the last step it had acknowledged.
static int trust_kill_one(uint64_t *state, int have)
{
    int ends[2], done, last = have, status;
    struct timespec nap = { 0, (long)(1500000 + test_next(state) % 25000000) };
    if (pipe(ends)) abort();
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) trust_saver(ends[1], have > 0);
    close(ends[1]);
    nanosleep(&nap, NULL);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    while (read(ends[0], &done, sizeof done) == (ssize_t)sizeof done) last = done;
    close(ends[0]);
    CHECK(WIFSIGNALED(status));
    return last;
}

static void trust_kill(void)
{
    static uint64_t hash[TRUST_STEPS + 1];
    long trials = trust_number ? trust_number : trust_quick ? 60 : 1000;
    int have = 0, known = 0, saved = 0, unreadable = 0, lost = 0, other = 0, strays = 0;
    uint64_t state = test_seed(7);
    glam_ctx *ctx = test_ctx();
    glam_trainer *whole = trust_runner(ctx, 0);
    for (long i = 0; i < trials && have < TRUST_STEPS; i++) {
        int last = trust_kill_one(&state, have);
        glam_ctx *own = test_ctx();
        glam_trainer *t = access(trust_path("run"), F_OK) ? NULL : trust_runner(own, 1);
        if (!t) {
            unreadable += last > 0 || glam_error(own) != GLAM_OK;
        } else {
            int done = glam_trainer_done(t);
            lost += done < last;
            saved += done > have;
            have = done;
            for (; known < done && known < TRUST_STEPS; hash[known] = test_model_hash(glam_trainer_model(whole))) {
                glam_train_step(whole, NULL);
                known = glam_trainer_done(whole);
            }
            other += done <= TRUST_STEPS && hash[done] != test_model_hash(glam_trainer_model(t));
        }
        glam_close(own);
        if (i == trials / 2) strays = trust_entries(trust_folder);
    }
    strays = trust_entries(trust_folder) - strays;
    CHECK(unreadable == 0 && lost == 0 && other == 0 && saved > 0);
    printf("kill: %ld kills, %d saves survived, %d unreadable, %d lost, %d with other bits; step %d\n", trials,
           saved, unreadable, lost, other, have);
    CLOSE_CLEAN(ctx);
}

// == nan ====================================================================================

static float trust_bad(int which)
{
    static const float values[3] = { NAN, INFINITY, -INFINITY };
    return values[which];
}

static int trust_finite(const glam_model *m)
{
    const glam_tensor *t;
    for (int i = 0; (t = glam_model_tensor_at(m, i)) != NULL; i++)
        for (size_t k = 0; k < glam_size(t); k++) if (!(fabsf(t->data[k]) <= FLT_MAX)) return 0;
    return 1;
}

// By way of a weight: what comes out of it is an activation that is not finite.
static void trust_nan_weights(void)
{
    int tried = 0, skipped = 0;
    for (int kind = 0; kind < 2; kind++) {
        glam_ctx *ctx = test_ctx();
        glam_config c = train_config();
        glam_recipe r = train_recipe(1000);
        glam_report p;
        glam_tensor *w;
        r.optimizer = (glam_optimizer_kind)kind;
        r.max_bad_steps = 1000;
        glam_model *m = glam_model_new(ctx, &c);
        glam_trainer *t = glam_trainer_new(m, test_text(ctx, 4000), NULL, &r);
        for (int i = 0; (w = glam_model_tensor_at(m, i)) != NULL; i++) {
            // of the embedding a row that every batch has; of an expert or a bucket one may be unused
            size_t at = strcmp(w->name, "embed") ? 0 : (size_t)' ' * (size_t)c.d_model;
            for (int bad = 0; bad < 3; bad++) {
                float was = w->data[at];
                w->data[at] = trust_bad(bad);
                uint64_t before = test_model_hash(m);
                glam_train_step(t, &p);
                tried++;
                skipped += p.skipped;
                if (p.skipped) CHECK(test_model_hash(m) == before);
                else printf("  %s: not seen\n", w->name);
                w->data[at] = was;
                if (!CHECK(trust_finite(m))) return;
            }
        }
        for (int i = 0; i < 20; i++) glam_train_step(t, &p);
        CHECK(p.loss < 6 && !p.skipped && trust_finite(m) && p.bad_steps > 0);
        CLOSE_CLEAN(ctx);
    }
    CHECK(skipped >= tried - tried / 10);
    printf("nan: %d weights made not finite, %d steps skipped with no weight changed\n", tried, skipped);
}

// An op of the caller: nothing forward, and a gradient that is not finite when told so.
static struct { int now; float value; } trust_poison;

static glam_status trust_poison_shape(glam_ctx *ctx, glam_node *n)
{
    (void)ctx;
    n->out_shape[0] = n->in[0]->shape;
    return GLAM_OK;
}

static void trust_poison_forward(glam_ctx *ctx, glam_node *n)
{
    (void)ctx;
    memcpy(n->out[0]->data, n->in[0]->data, glam_size(n->in[0]) * sizeof(float));
}

static void trust_poison_backward(glam_ctx *ctx, glam_node *n)
{
    (void)ctx;
    if (!n->in[0]->grad) return;
    for (size_t i = 0; i < glam_size(n->in[0]); i++) n->in[0]->grad[i] += n->out[0]->grad[i];
    if (trust_poison.now) n->in[0]->grad[0] = trust_poison.value;
}

static const glam_op trust_poison_op = { "poison", 1, 0, trust_poison_shape, trust_poison_forward,
                                         trust_poison_backward };

static void trust_nan_gradients(void)
{
    int skipped = 0, changed = 0;
    for (int trial = 0; trial < 6; trial++) {
        glam_ctx *ctx = test_ctx();
        glam_recipe r = train_recipe(1000);
        glam_tensor *w = glam_param(ctx, "w", glam_dim2(8, 8));
        float in[16], out[16], was[64];
        double first = 0, last = 0;
        r.optimizer = (glam_optimizer_kind)(trial % 2);
        r.lr = trial % 2 ? 0.01 : 0.05;
        glam_fill_normal(w, 1, 0.5f);
        glam_optimizer *o = glam_optimizer_new(ctx, &w, 1, &r);
        trust_poison.value = trust_bad(trial / 2);
        for (int step = 0; step < 1000; step++) {
            glam_report p;
            for (int i = 0; i < 16; i++) in[i] = sinf((float)(i + step % 7));
            for (int i = 0; i < 16; i++) out[i] = 0.3f * in[(i + 1) % 16];
            trust_poison.now = step % 10 == 5;
            glam_tensor *y = glam_matmul(ctx, glam_input(ctx, in, glam_dim2(2, 8)),
                                         glam_apply(ctx, &trust_poison_op, &w, NULL, 0, NULL));
            glam_tensor *loss = glam_mse(ctx, y, glam_input(ctx, out, glam_dim2(2, 8)));
            memcpy(was, w->data, sizeof was);
            last = loss ? (double)loss->data[0] : NAN;
            if (!step) first = last;
            glam_update(o, loss, &p);
            if (!trust_poison.now) continue;
            skipped += p.skipped;
            changed += memcmp(was, w->data, sizeof was) != 0;
        }
        CHECK(last < first / 2);
        CLOSE_CLEAN(ctx);
    }
    CHECK(skipped == 600 && changed == 0);
    printf("nan: of 6 x 1000 steps 600 had a gradient that is not finite, %d skipped, %d changed a weight\n",
           skipped, changed);
}

// A finite gradient whose update is none: the weights must stay what they were, or the call must say so.
static void trust_nan_updates(void)
{
    for (int kind = 0; kind < 2; kind++) {
        glam_ctx *ctx = test_ctx();
        glam_recipe r = train_recipe(10);
        glam_tensor *w = glam_param(ctx, "w", glam_dim2(2, 2));
        r.optimizer = (glam_optimizer_kind)kind;
        r.schedule = GLAM_SCHEDULE_CONSTANT;
        r.lr = 1e39;
        r.warmup = 0;
        r.clip = 0;
        r.update_clip = 1e30;
        for (int i = 0; i < 4; i++) w->data[i] = 1;
        glam_optimizer *o = glam_optimizer_new(ctx, &w, 1, &r);
        for (int step = 0; o && step < 2; step++) {
            glam_report p;
            memset(&p, 0, sizeof p);
            glam_status s = glam_update(o, glam_mean(ctx, glam_mul(ctx, w, w)), &p);
            int finite = fabsf(w->data[0]) <= FLT_MAX;
            if (!CHECK(finite || p.skipped || s != GLAM_OK))
                printf("  kind %d: weight %g, skipped %d\n", kind, (double)w->data[0], p.skipped);
        }
        glam_close(ctx);
    }
}

#ifdef THREADS_COMM
enum { TRUST_RANKS = 4 };
static struct { uint64_t before[TRUST_RANKS], after[TRUST_RANKS]; int skipped[TRUST_RANKS], bad[TRUST_RANKS]; } trust_rank;

// One rank of four has a weight that is not finite, in its own copy.
static void trust_nan_rank(glam_comm *comm, void *arg)
{
    const mesh_case *of = mesh_case_of("balanced");
    glam_options o = mesh_options(comm, *(mesh_size *)arg, 8);
    glam_config c = mesh_config(of);
    glam_recipe r = mesh_recipe(of, 8, 40);
    int me = comm->rank;
    glam_report p;
    glam_ctx *ctx = glam_open(&o);
    glam_model *m = glam_model_new(ctx, &c);
    glam_trainer *t = glam_trainer_new(m, mesh_text(ctx), NULL, &r);
    glam_train_step(t, &p);
    glam_tensor *w = glam_model_tensor(m, "layers.0.attn.q");
    float was = w ? w->data[0] : 0;
    if (w && me == 1) w->data[0] = NAN;
    trust_rank.before[me] = test_model_hash(m);
    glam_train_step(t, &p);
    trust_rank.after[me] = test_model_hash(m);
    trust_rank.skipped[me] = p.skipped;
    trust_rank.bad[me] = glam_error(ctx) != GLAM_OK || !w;
    if (w) w->data[0] = was;
    glam_close(ctx);
}

static void trust_nan_ranks(void)
{
    mesh_size m = mesh_read("4x1");
    threads_world world = threads_world_of(TRUST_RANKS);
    threads_run(&world, trust_nan_rank, &m);
    for (int i = 0; i < TRUST_RANKS; i++)
        CHECK(trust_rank.skipped[i] && !trust_rank.bad[i] && trust_rank.before[i] == trust_rank.after[i]);
    printf("nan: one rank of 4 not finite: skipped on all, no weight changed\n");
}
#else
static void trust_nan_ranks(void) { CHECK(1); }
#endif

static void trust_nan(void)
{
    trust_nan_weights();
    trust_nan_gradients();
    trust_nan_updates();
    trust_nan_ranks();
}

// == soak ===================================================================================

// Kilobytes that the system counts for this process; 0 where it does not say.
static long trust_resident(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    long all = 0, here = 0;
    if (file && fscanf(file, "%ld %ld", &all, &here) != 2) here = 0;
    if (file) fclose(file);
    return here * (sysconf(_SC_PAGESIZE) / 1024);
}

// Lives of small programs, one after the other: each opens, trains, saves, resumes, writes, closes.
static void trust_soak(void)
{
    double seconds = trust_number ? (double)trust_number : 60, begin = trust_seconds(), warm = 0;
    long lives = 0, early = 0, late = 0;
    uint64_t first = 0;
    while (trust_seconds() - begin < seconds) {
        glam_ctx *ctx = test_ctx();
        glam_config c = train_config();
        glam_recipe r = train_recipe(50);
        glam_report p;
        char out[40];
        glam_text *text = test_text(ctx, 4000);
        glam_model *m = glam_model_new(ctx, &c);
        glam_trainer *t = glam_trainer_new(m, text, NULL, &r);
        for (int i = 0; i < 10; i++) glam_train_step(t, &p);
        glam_save_checkpoint(t, trust_path("run"));
        t = glam_load_checkpoint(ctx, trust_path("run"), text, NULL);
        for (int i = 0; i < 10; i++) glam_train_step(t, &p);
        glam_complete(glam_trainer_model(t), "one", out, sizeof out, NULL);
        uint64_t hash = test_hash(test_model_hash(glam_trainer_model(t)), &p.loss, sizeof p.loss);
        if (!lives++) first = hash;
        if (!CHECK(hash == first)) return;
        CLOSE_CLEAN(ctx);
        if (!early && trust_seconds() - begin > seconds / 4) early = trust_resident(), warm = trust_seconds();
    }
    late = trust_resident();
    double grown = early ? (double)(late - early) / ((trust_seconds() - warm) / 3600) : 0;
    printf("soak: %ld lives in %.0f s with the same bits; %ld KB resident after a quarter, %ld at the end (%.0f KB/h)\n",
           lives, seconds, early, late, grown);
    CHECK(late - early < 512);
}

int main(int argc, char **argv)
{
    static char *all[] = { "", "trust_alloc", "trust_files", "trust_damage", "trust_kill", "trust_nan" };
    char name[40], *one[] = { "", name };
    const char *folder = getenv("TMPDIR");
    if (argc < 2) {
        printf("trust: what is to be done?  See the head of tests/trust.c\n0 passed, 1 failed\n");
        return 1;
    }
    snprintf(trust_folder, sizeof trust_folder, "%s/glam_trust.%ld", folder && strlen(folder) < 200 ? folder : "/tmp",
             (long)getpid());
    if (mkdir(trust_folder, 0700)) return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    trust_quick = strcmp(argv[1], "quick") == 0;
    trust_number = argc > 2 ? atol(argv[2]) : trust_quick ? 20000 : 0;
    snprintf(name, sizeof name, "trust_%.30s", argv[1]);
    test__open(trust_quick ? 6 : 2, trust_quick ? all : one);
    RUN(trust_alloc);
    RUN(trust_files);
    RUN(trust_damage);
    if (trust_quick) trust_number = 0;
    RUN(trust_kill);
    RUN(trust_nan);
    RUN(trust_soak);
    for (DIR *d = opendir(trust_folder); d; d = NULL) {
        for (struct dirent *e; (e = readdir(d)) != NULL;)
            if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) remove(trust_path(e->d_name));
        closedir(d);
    }
    rmdir(trust_folder);
    return test__close();
}
