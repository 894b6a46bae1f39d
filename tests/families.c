/* The models in tests/families, read by examples/glam_hub.h: logits and gradients are those of transformers
   (tests/families.py), whatever the threads; what is written back has the same bits; broken folders are
   refused with one sentence.  The same with an adapter of PEFT on each.

       cc -O2 -fopenmp tests/families.c -o families -lm && ./families      from the top of the repository */

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GLAM_IMPLEMENTATION
#include "../glam.h"
#define GLAM_HUB_IMPLEMENTATION
#include "../examples/glam_hub.h"
#include "test.h"

static const char *folder = "tests/families";
static const char *const names[] = { "llama", "llama3", "mistral", "qwen3", "mixtral", "granitemoe", "olmoe",
                                     "qwen3_moe" };
enum { FAMILIES = sizeof names / sizeof *names, TOKENS = 24, VOCAB = 40 };

// expected.safetensors of a family, by the same reader.
static int open_expected(hub_folder *f, glam_ctx *ctx, const char *path)
{
    memset(f, 0, sizeof *f);
    f->ctx = ctx;
    f->path = path;
    f->chunk = (unsigned char *)malloc(HUB_CHUNK);
    if (!hub_shard_open(f, "expected.safetensors")) return 0;
    qsort(f->entries, (size_t)f->entry_count, sizeof *f->entries, hub_by_name);
    return 1;
}

static const hub_entry *find(const hub_folder *f, const char *name)
{
    hub_entry key;
    key.name = name;
    return (const hub_entry *)bsearch(&key, f->entries, (size_t)f->entry_count, sizeof key, hub_by_name);
}

static void values(hub_folder *f, const char *name, float *to)
{
    const hub_entry *e = find(f, name);
    uint64_t n = 1;
    for (int d = 0; e && d < e->dims; d++) n *= e->size[d];
    CHECK(e && hub_rows(f, e, 0, 1, n, 0, to));
}

static double difference(const float *a, const float *b, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= most)) most = d;
    }
    return most;
}

// The largest difference of all gradients to the expected ones.
static double gradients(hub_folder *f, const hub_family *y, const glam_model *model)
{
    glam_tensor *t;
    double most = 0;
    for (int i = 0; (t = glam_model_tensor_at(model, i)) != NULL; i++) {
        hub_place p;
        float *want = (float *)malloc(glam_size(t) * sizeof *want);
        for (uint64_t e = 0, experts = 1; e < experts; e++) {
            if (!CHECK(hub_find_place(y, t, (int)e, &p))) break;
            experts = p.experts;
            const hub_entry *found = find(f, p.name);
            uint64_t rows = p.rows * (uint64_t)p.parts;
            if (!found) printf("    no gradient is expected of %s\n", p.name);
            if (!CHECK(found && hub_rows(f, found, p.stacked ? e * rows + (uint64_t)p.part * p.rows : 0, p.rows,
                                         p.columns, p.turned, want + e * p.rows * p.columns))) break;
        }
        double d = t->grad ? difference(t->grad, want, glam_size(t)) : 1;
        if (!(d < 1e-5)) printf("    %s: gradients differ by %.1e\n", t->name, d);
        if (!(d <= most)) most = d;
        free(want);
    }
    return most;
}

static const hub_family *family_of(const char *name)
{
    for (int i = 0; i < HUB_FAMILIES; i++) if (strcmp(hub_families[i].name, name) == 0) return &hub_families[i];
    return strcmp(name, "llama3") == 0 ? &hub_families[0] : NULL;
}

static void families_like_transformers(void)
{
    for (int i = 0; i < FAMILIES * 2; i++) {
        char path[512];
        float logits[TOKENS * VOCAB], ids[TOKENS], loss;
        int32_t tokens[TOKENS], given[22], next[22];
        glam_options options = glam_options_default();
        options.threads = 1 + i / FAMILIES;
        glam_ctx *ctx = glam_open(&options);
        hub_folder f;
        snprintf(path, sizeof path, "%s/%s", folder, names[i % FAMILIES]);
        glam_model *model = hub_import(ctx, path, NULL, NULL);
        if (!model) printf("    %s\n", glam_error_text(ctx));
        if (!CHECK(model && open_expected(&f, ctx, path))) { glam_close(ctx); continue; }
        values(&f, "ids", ids);
        values(&f, "logits", logits);
        values(&f, "loss", &loss);
        for (int k = 0; k < TOKENS; k++) tokens[k] = (int32_t)ids[k];
        for (int k = 0; k < 22; k++) {                   // two rows of 11 and what follows each
            given[k] = tokens[k + k / 11];
            next[k] = tokens[k + k / 11 + 1];
        }
        const glam_batch all = { 2, 12, tokens, NULL, NULL, NULL }, batch = { 2, 11, given, next, NULL, NULL };
        glam_tensor *out = glam_forward(model, &all, GLAM_INFER);
        double worst = out ? difference(out->data, logits, TOKENS * VOCAB) : 1;
        CHECK(worst < 1e-5);
        glam_forget(ctx);
        // what a session reads one by one has the logits of the last row
        glam_session *session = glam_session_new(model, 16);
        const float *last = NULL;
        for (int k = 12; k < 24; k++) last = glam_next(session, tokens + k, 1);
        CHECK(last && difference(last, logits + 23 * VOCAB, VOCAB) < 1e-5);
        glam_moe_config moe = glam_model_config(model)->moe;
        moe.aux_weight = 0;                              // transformers adds none, unless asked
        if (moe.experts) CHECK(glam_model_tune(model, -1, &moe, NULL) == GLAM_OK);
        glam_losses losses;
        glam_backward(ctx, glam_loss(model, &batch, GLAM_TRAIN, &losses));
        double grads = gradients(&f, family_of(names[i % FAMILIES]), model);
        printf("    %-10s %d threads: logits within %.1e, gradients within %.1e\n", names[i % FAMILIES],
               options.threads, worst, grads);
        CHECK_NEAR(losses.xent, loss, 1e-5);
        CHECK(grads < 1e-5);
        hub_folder_close(&f);
        CHECK(glam_error(ctx) == GLAM_OK);
        glam_close(ctx);
    }
}

// Written and read again: the same bits.
static void families_round_trip(void)
{
    for (int i = 0; i < FAMILIES; i++) {
        char path[512], back[64] = "/tmp/glam_families.XXXXXX";
        glam_ctx *ctx = glam_open(NULL);
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        glam_model *a = hub_import(ctx, path, NULL, NULL), *b = NULL;
        if (!CHECK(a != NULL)) { glam_close(ctx); continue; }
        CHECK(mkdtemp(back) != NULL && hub_export(a, back) == GLAM_OK);
        b = hub_import(ctx, back, NULL, NULL);
        if (!b) printf("    %s\n", glam_error_text(ctx));
        CHECK(b != NULL);
        for (int k = 0; b && glam_model_tensor_at(a, k); k++) {
            glam_tensor *t = glam_model_tensor_at(a, k), *u = glam_model_tensor_at(b, k);
            CHECK(u && glam_size(t) == glam_size(u) && !memcmp(t->data, u->data, glam_size(t) * sizeof(float)));
        }
        const glam_config *c = glam_model_config(a), *d = b ? glam_model_config(b) : c;
        CHECK(fabsf(c->attention_scale - d->attention_scale) < 1e-6f && c->rotary.theta == d->rotary.theta &&
              c->rotary.scaling == d->rotary.scaling && c->moe.normalise == d->moe.normalise);
        char name[128];
        static const char *const files[] = { "config.json", "model.safetensors" };
        for (int k = 0; k < 2; k++) {
            snprintf(name, sizeof name, "%s/%s", back, files[k]);
            remove(name);
        }
        CHECK(rmdir(back) == 0 && glam_error(ctx) == GLAM_OK);
        glam_close(ctx);
    }
}

static char *whole(const char *path, size_t *bytes)
{
    FILE *f = fopen(path, "rb");
    char *text = (char *)malloc(1 << 18);
    *bytes = f && text ? fread(text, 1, (1 << 18) - 1, f) : 0;
    if (f) fclose(f);
    if (text) text[*bytes] = 0;
    return text;
}

static void put(const char *dir, const char *name, const char *text, size_t bytes)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(text, 1, bytes, f) == bytes && fclose(f) == 0);
}

// A copy of a family's folder, into dir, which is made; what the caller does to it is then refused by a
// sentence that has `says` in it, and the copy goes.
static void copy_family(const char *family, char *dir)
{
    char command[700];
    CHECK(mkdtemp(dir) != NULL);
    snprintf(command, sizeof command, "find %s/%s -maxdepth 1 -type f -exec cp {} %s/ \\;", folder, family, dir);
    CHECK(system(command) == 0);
}

static void is_refused(const char *dir, const char *says)
{
    char command[700];
    glam_ctx *ctx = glam_open(NULL);
    CHECK(!hub_import(ctx, dir, NULL, NULL) && glam_error(ctx) == GLAM_ERR_FORMAT);
    if (!strstr(glam_error_text(ctx), says)) printf("    %s: %s\n", says, glam_error_text(ctx));
    CHECK(strstr(glam_error_text(ctx), says) != NULL);
    glam_close(ctx);
    snprintf(command, sizeof command, "rm -r %s", dir);
    CHECK(system(command) == 0);
}

// A folder with config.json edited, or its weights cut: each refused by a sentence that names what.
static void families_refused(void)
{
    static const struct { const char *family, *from, *to, *says; } rows[] = {
        {"mixtral", "\"silu\"", "\"relu\"", "hidden_act relu"},
        {"mixtral", "\"mixtral\"", "\"mamba\"", "family is not known"},
        {"mixtral", "\"hidden_size\": 16", "\"hidden_size\": 24", "does not fit config.json"},
        {"mixtral", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "no tensor model.layers.2"},
        {"mixtral", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1", "no place for the tensor"},
        {"mixtral", "\"num_key_value_heads\": 2", "\"kv\": 2", "num_key_value_heads"},
        {"mixtral", "\"use_cache\": true", "\"clip_qkv\": 8.0", "not understood: clip_qkv"},
        {"mixtral", "\"hidden_size\": 16", "\"hidden_size\": \"x\"", "a number is wanted"},
        {"mixtral", "{", "{,", "is no JSON"},
        {"llama3", "\"llama3\"", "\"dynamic\"", "rope type dynamic"},
        {"qwen3", "\"full_attention\"", "\"linear_attention\"", "layer type linear_attention"},
        {"llama", "\"attention_bias\": false", "\"attention_bias\": true", "attention_bias"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char path[512], dir[64] = "/tmp/glam_families.XXXXXX";
        size_t bytes;
        copy_family(rows[i].family, dir);
        snprintf(path, sizeof path, "%s/config.json", dir);
        char *text = whole(path, &bytes), *at = strstr(text, rows[i].from), *edited = (char *)malloc(bytes + 200);
        if (!at) printf("    %s has no %s\n", rows[i].family, rows[i].from);
        if (CHECK(at != NULL)) {
            snprintf(edited, bytes + 200, "%.*s%s%s", (int)(at - text), text, rows[i].to, at + strlen(rows[i].from));
            put(dir, "config.json", edited, strlen(edited));
        }
        is_refused(dir, rows[i].says);
        free(text);
        free(edited);
    }
}

static void families_damaged(void)
{
    static const struct { const char *family, *file, *command, *says; } rows[] = {
        {"mixtral", "model-00002-of-*", "rm", "there is no model-00002"},
        {"llama", "model.safetensors", "rm", "there is no model.safetensors"},
        {"llama", "model.safetensors", "truncate -s 900", "cut off, or no safetensors"},
        {"llama", "model.safetensors", "truncate -s 9000", "offsets do not fit"},
        {"llama", "config.json", "rm", "there is no config.json"},
        {"mixtral", "model.safetensors.index.json", "sed -i s,model-00001,../model-00001,", "outside the folder"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char dir[64] = "/tmp/glam_families.XXXXXX", command[700];
        copy_family(rows[i].family, dir);
        snprintf(command, sizeof command, "%s %s/%s", rows[i].command, dir, rows[i].file);
        CHECK(system(command) == 0);
        is_refused(dir, rows[i].says);
    }
}

// ---- adapters

static glam_model *with_adapter(glam_ctx *ctx, const char *family, const char *dir)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, family);
    glam_model *model = hub_import(ctx, path, NULL, NULL);
    if (!dir) snprintf(path, sizeof path, "%s/%s/adapter", folder, family);
    if (model) hub_import_adapter(model, dir ? dir : path);
    if (glam_error(ctx)) printf("    %s: %s\n", family, glam_error_text(ctx));
    return glam_error(ctx) ? NULL : model;
}

// The largest difference of the gradients of A and B to those of PEFT, which are an adapter of their own.
// Where gate and up of experts share one A, it has the sum of both.
static double adapter_gradients(const glam_model *model, const glam_model *want)
{
    const glam_tensor *w;
    glam_adapter a, b, up;
    double worst = 0;
    for (int i = 0; (w = glam_model_tensor_at(model, i)) != NULL; i++) {
        if (!glam_adapter_of(model, w->name, &a)) continue;
        if (!CHECK(glam_adapter_of(want, w->name, &b) && a.a->grad && a.b->grad)) return 1;
        int gate = strstr(w->name, "moe.gate") != NULL, sum = 0;
        if ((gate && hub_beside(model, w->name, "up", &up)) ||
            (strstr(w->name, "moe.up") && hub_beside(model, w->name, "gate", &up)))
            sum = memcmp(a.a->data, up.a->data, glam_size(a.a) * sizeof(float)) == 0;
        for (size_t k = 0; k < glam_size(a.a) && sum && gate; k++) a.a->grad[k] = up.a->grad[k] += a.a->grad[k];
        // one by one here, two blocks of one rank there: gate's is the first
        size_t r = hub_rank_of(&a), R = hub_rank_of(&b), from = R == r || gate ? 0 : r, n = (size_t)
            w->shape.dim[w->shape.dims - 1];
        double d = !CHECK(R == r || R == 2 * r), e = d;
        for (size_t k = 0; k < glam_size(a.a); k++) {
            double x = fabs((double)a.a->grad[k] - (double)b.a->data[k / r * R + from + k % r]);
            if (!(x <= d)) d = x;
        }
        for (size_t k = 0; k < glam_size(a.b); k++) {
            size_t row = k / n / r * R + from + k / n % r;
            double x = fabs((double)a.b->grad[k] - (double)b.b->data[row * n + k % n]);
            if (!(x <= e)) e = x;
        }
        if (!(d < 1e-5) || !(e < 1e-5)) printf("    %s: gradients of A, B differ by %.1e, %.1e\n", w->name, d, e);
        if (!(d <= worst)) worst = d;
        if (!(e <= worst)) worst = e;
    }
    return worst;
}

static double logits_from(glam_model *model, const int32_t *ids, const float *want)
{
    const glam_batch all = { 2, 12, ids, NULL, NULL, NULL };
    glam_tensor *out = model ? glam_forward(model, &all, GLAM_INFER) : NULL;
    double d = out ? difference(out->data, want, TOKENS * VOCAB) : 1;
    if (model) glam_forget(glam_model_ctx(model));
    return d;
}

static void adapters_like_peft(void)
{
    for (int i = 0; i < FAMILIES * 2; i++) {
        const char *name = names[i % FAMILIES];
        char path[512], back[64] = "/tmp/glam_families.XXXXXX", gguf[128];
        float logits[TOKENS * VOCAB], loss;
        int32_t ids[TOKENS], given[22], next[22];
        glam_options options = glam_options_default();
        options.threads = 1 + i / FAMILIES;
        glam_ctx *ctx = glam_open(&options);
        hub_folder f;
        for (int k = 0; k < TOKENS; k++) ids[k] = k * 37 % VOCAB;
        for (int k = 0; k < 22; k++) {
            given[k] = ids[k + k / 11];
            next[k] = ids[k + k / 11 + 1];
        }
        snprintf(path, sizeof path, "%s/%s/adapter", folder, name);
        glam_model *model = with_adapter(ctx, name, NULL);
        if (!CHECK(model && open_expected(&f, ctx, path))) { glam_close(ctx); continue; }
        values(&f, "logits", logits);
        values(&f, "loss", &loss);
        hub_folder_close(&f);
        snprintf(path, sizeof path, "%s/%s", folder, name);
        glam_model *base = hub_import(ctx, path, NULL, NULL);
        CHECK(logits_from(base, ids, logits) > 0.1);         // it is the adapter that makes them
        double worst = logits_from(model, ids, logits);
        snprintf(path, sizeof path, "%s/%s/adapter/gradients", folder, name);
        glam_model *want = with_adapter(ctx, name, path);
        glam_moe_config moe = glam_model_config(model)->moe;
        moe.aux_weight = 0;
        if (moe.experts) CHECK(glam_model_tune(model, -1, &moe, NULL) == GLAM_OK);
        const glam_batch batch = { 2, 11, given, next, NULL, NULL };
        glam_losses losses;
        glam_backward(ctx, glam_loss(model, &batch, GLAM_TRAIN, &losses));
        double grads = want ? adapter_gradients(model, want) : 1;
        glam_forget(ctx);
        // written, and read again
        snprintf(gguf, sizeof gguf, "%s.gguf", mkdtemp(back) ? back : "?");
        CHECK(hub_export_adapter(model, back) == GLAM_OK && hub_export_gguf_adapter(model, gguf) == GLAM_OK);
        double again = logits_from(with_adapter(ctx, name, back), ids, logits);
        CHECK(glam_model_merge(model) == GLAM_OK);
        double merged = logits_from(model, ids, logits);
        printf("    %-10s %d threads: logits within %.1e (written and read %.1e, merged %.1e), gradients within "
               "%.1e\n", name, options.threads, worst, again, merged, grads);
        CHECK_NEAR(losses.xent, loss, 1e-5);
        CHECK(worst < 1e-5 && again < 1e-5 && merged < 1e-5 && grads < 1e-5);
        snprintf(path, sizeof path, "rm -r %s %s", back, gguf);
        CHECK(system(path) == 0 && glam_error(ctx) == GLAM_OK);
        glam_close(ctx);
    }
}

// What is done to a copy of an adapter; it is then refused by a sentence, and the model stays as it was.
static void adapters_refused(void)
{
    static const struct { const char *model, *family, *command, *says; } rows[] = {
        {"llama", "llama", "sed -i 's/\"use_dora\": false/\"use_dora\": true/' adapter_config.json", "understood: use_dora"},
        {"llama", "llama", "sed -i 's/\"lora_bias\": false/\"lora_bias\": true/' adapter_config.json", "lora_bias"},
        {"llama", "llama", "sed -i 's/\"modules_to_save\": null/\"modules_to_save\": [\"lm_head\"]/' adapter_config.json",
         "modules_to_save"},
        {"llama", "llama", "sed -i 's/\"LORA\"/\"IA3\"/' adapter_config.json", "this is IA3"},
        {"llama", "llama", "sed -i 's/\"bias\": \"none\"/\"bias\": \"all\"/' adapter_config.json", "bias all"},
        {"llama", "llama", "sed -i 's/\"init_lora_weights\": true/\"init_lora_weights\": \"pissa\"/' adapter_config.json",
         "init_lora_weights pissa"},
        {"llama", "llama", "sed -i 's/\"r\": 2/\"r\": 4/' adapter_config.json", "another rank than the tensors"},
        {"llama", "llama", "sed -i 's/\"r\": 2/\"r\": \"two\"/' adapter_config.json", "a number is wanted in adapter_config"},
        {"llama", "llama", "sed -i 's/\"q_proj\": 3/\"(?!x)q\": 3/' adapter_config.json", "is the pattern (?!x)q"},
        {"llama", "llama", "sed -i 's/0.self_attn.k_proj.lora_B/0.self_attn.k_proj.lora_X/' adapter_model.safetensors",
         "is missing of the module model.layers.0.self_attn.k_proj"},
        {"llama", "llama", "sed -i 's/layers.0.self_attn.k_proj/layers.7.self_attn.k_proj/g' adapter_model.safetensors",
         "for the tensor base_model.model.model.layers.7"},
        {"llama", "llama", "rm adapter_model.safetensors", "there is no adapter_model"},
        {"llama", "llama", "rm adapter_config.json", "there is no adapter_config"},
        {"llama", "llama", "truncate -s 900 adapter_model.safetensors", "cut off"},
        {"qwen3", "llama", "true", "shapes do not fit the model"},
        {"llama", "mixtral", "true", "has no place"},
        {"mixtral", "mixtral", "sed -i 's/0.mlp.experts.lora_A/0.mlp.experts.lora_X/' adapter_model.safetensors",
         "is missing of the module model.layers.0.mlp.experts"},
        {"granitemoe", "mixtral", "true", "has no place"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char dir[64] = "/tmp/glam_families.XXXXXX", command[700], path[200];
        glam_ctx *ctx = glam_open(NULL);
        glam_adapter a;
        CHECK(mkdtemp(dir) != NULL);
        snprintf(command, sizeof command, "cp %s/%s/adapter/adapter_* %s/ && cd %s && %s", folder, rows[i].family, dir,
                 dir, rows[i].command);
        CHECK(system(command) == 0);
        snprintf(path, sizeof path, "%s/%s", folder, rows[i].model);
        glam_model *model = hub_import(ctx, path, NULL, NULL);
        CHECK(model && hub_import_adapter(model, dir) == GLAM_ERR_FORMAT);
        if (!strstr(glam_error_text(ctx), rows[i].says)) printf("    %s: %s\n", rows[i].says, glam_error_text(ctx));
        CHECK(strstr(glam_error_text(ctx), rows[i].says) != NULL);
        glam_clear_error(ctx);
        for (int k = 0; glam_model_tensor_at(model, k); k++)
            CHECK(!glam_adapter_of(model, glam_model_tensor_at(model, k)->name, &a));
        glam_close(ctx);
        snprintf(command, sizeof command, "rm -r %s", dir);
        CHECK(system(command) == 0);
    }
}

// Expressions as PEFT matches them: the end of a name, from a dot on.
static void adapters_patterns(void)
{
    static const struct { const char *pattern, *name; int found; } rows[] = {
        {"q_proj", "layers.1.self_attn.q_proj", 1}, {"proj", "layers.1.self_attn.q_proj", 0},
        {"self_attn.q_proj", "layers.1.self_attn.q_proj", 1}, {".*\\.gate_up_proj", "a.b.gate_up_proj", 1},
        {".*\\.gate_up_proj", "gate_up_proj", 0}, {"layers.[02].*", "model.layers.1.x", 0},
        {"layers.[0-2].*", "model.layers.1.x", 1}, {"(q|k)_proj", "a.k_proj", 1}, {"(q|k)_proj", "a.v_proj", 0},
        {"x|y", "a.y", 1}, {"^layers.1", "model.layers.1", 0}, {"^model.layers.\\d+", "model.layers.12", 1},
        {"layers.1+", "layers.111", 1}, {"layers.1?2", "layers.2", 1}, {"q_proj$", "a.q_proj", 1},
        {"a{2}", "aa", -1}, {"(?:q)", "q", -1}, {"\\w+", "q", -1}, {"(q)?", "q", -1}, {"[^q]", "p", -1},
        {"(a|b)(c|d)(e|f)", "x.bce", 1}, {"(a|b)(c|d)(e|f)(g|h)", "x.bceg", -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int found = hub_matches(rows[i].pattern, rows[i].name);
        if (found != rows[i].found) printf("    %s on %s: %d\n", rows[i].pattern, rows[i].name, found);
        CHECK(found == rows[i].found);
    }
}

// families write DIR: adapters of ours on all that a family has, gate and up with an A of their own, for
// PEFT (tests/families.py check), and the logits with them.
static int write_adapters(const char *dir)
{
    int failed = 0;
    for (int i = 0; i < FAMILIES; i++) {
        char path[512];
        int32_t ids[TOKENS];
        const glam_batch all = { 2, 12, ids, NULL, NULL, NULL };
        glam_ctx *ctx = glam_open(NULL);
        glam_tensor *t;
        glam_lora l = glam_lora_default();
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        glam_model *model = hub_import(ctx, path, NULL, NULL);
        l.rank = 3;
        l.alpha = 5;
        l.rslora = 1;
        for (int role = 1; role <= GLAM_ROLE_DENSE && model; role *= 2) {
            l.roles = role;
            if (glam_model_adapt(model, &l)) glam_clear_error(ctx);        // a role that it lacks
            if (role == GLAM_ROLE_ATTENTION) l.rank = 2;
        }
        for (int k = 0; (t = glam_model_tensor_at(model, k)) != NULL; k++)
            for (size_t e = 0; strstr(t->name, ".lora_b") && e < glam_size(t); e++)
                t->data[e] = 0.2f * sinf((float)(7 * e + 3 * (size_t)k));
        for (int k = 0; k < TOKENS; k++) ids[k] = k * 37 % VOCAB;
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        mkdir(path, 0777);
        hub_export_adapter(model, path);
        snprintf(path, sizeof path, "%s/%s/logits", dir, names[i]);
        glam_tensor *y = glam_forward(model, &all, GLAM_INFER);
        FILE *f = y ? fopen(path, "wb") : NULL;
        failed += !f || fwrite(y->data, sizeof(float), glam_size(y), f) != TOKENS * VOCAB;
        if (f) fclose(f);
        if (glam_error(ctx)) printf("%s: %s\n", names[i], glam_error_text(ctx));
        glam_close(ctx);
    }
    return failed > 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "write") == 0) return write_adapters(argv[2]);
    test__open(argc, argv);
    RUN(families_like_transformers);
    RUN(families_round_trip);
    RUN(families_refused);
    RUN(families_damaged);
    RUN(adapters_like_peft);
    RUN(adapters_refused);
    RUN(adapters_patterns);
    return test__close();
}
