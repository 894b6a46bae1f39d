/* The models in tests/families, read by examples/glam_hub.h: logits and gradients are those of transformers
   (tests/families.py), whatever the threads; what is written back has the same bits; broken folders are
   refused with one sentence.

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
    snprintf(command, sizeof command, "cp %s/%s/* %s/", folder, family, dir);
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

int main(int argc, char **argv)
{
    test__open(argc, argv);
    RUN(families_like_transformers);
    RUN(families_round_trip);
    RUN(families_refused);
    RUN(families_damaged);
    return test__close();
}
