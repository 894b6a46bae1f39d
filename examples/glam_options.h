/* glam_options.h - the command line of the tool: one table of options from which parsing, help and
   the hint for a misspelt name all come.  Used by glam.c alone. */

#ifndef GLAM_OPTIONS_H
#define GLAM_OPTIONS_H

#include "../glam.h"
#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH = 1024, BYTES = 256 };                  // BYTES: the vocabulary of bytes
enum { DONE = 0, FAILED = 1, USAGE = 2, STOPPED = 130 };      // exit status

// == the table of options ===================================================================

enum { TRAIN = 1, GENERATE = 2, EVAL = 4, ROUTE = 8, INFO = 16, RACE = 32,      // commands
       NEW = TRAIN | RACE,
       RESUME = 1 << 29,    // may be given with --resume, which takes all else from the file
       SHAPE = 1 << 30 };   // describes a new model, so it cannot go with --from

// One row for each option: its field in the settings, name, what it takes, commands, kind, help.
#define OPTION_ROWS(TITLE, ROW) \
    TITLE(TRAIN, "what to make of it") \
    ROW(out, "out", "FILE", TRAIN | RESUME, WORD, \
        "the model; else model.safetensors, model-2 ...") \
    ROW(force, "force", "", NEW | RESUME, FLAG, "overwrite files that exist") \
    ROW(from, "from", "MODEL", TRAIN, WORD, "fine-tune this model instead of making a new one") \
    ROW(freeze, "freeze", "LIST", TRAIN, WORD, \
        "what stays as it is: experts,router,attention,ffn,embeddings,norms,layers.3,GLOB") \
    ROW(checkpoint, "checkpoint", "FILE", TRAIN | RESUME, WORD, "all that is needed to go on") \
    ROW(checkpoint_every, "checkpoint-every", "N", TRAIN | RESUME, WHOLE, "steps between them") \
    ROW(resume, "resume", "FILE", TRAIN | RESUME, WORD, \
        "go on from a checkpoint, with the same texts; the rest comes from the file") \
    TITLE(NEW, "how long") \
    ROW(steps, "steps", "N", NEW | RESUME, WHOLE, \
        "optimiser steps; in a race of each model, in place of equal time") \
    ROW(minutes, "minutes", "M", NEW, REAL, \
        "times a few steps, then fixes their number; in a race the training time of EACH model, " \
        "3 if unset") \
    TITLE(NEW, "the model (unset: a laptop-sized mixture)") \
    ROW(preset, "preset", "NAME", NEW | INFO | SHAPE, WORD, \
        "a row of the paper's table, such as 0.1B/64E, with the paper's recipe") \
    ROW(vocab, "vocab", "N", NEW | SHAPE, WHOLE, "tokens; bytes need 256") \
    ROW(layers, "layers", "N", NEW | SHAPE, WHOLE, "blocks of attention and feed-forward") \
    ROW(d_model, "d-model", "N", NEW | SHAPE, WHOLE, "width") \
    ROW(heads, "heads", "N", NEW | SHAPE, WHOLE, "attention heads") \
    ROW(d_head, "d-head", "N", NEW | SHAPE, WHOLE, "width of one; else d-model / heads") \
    ROW(hidden, "hidden", "N", NEW | SHAPE, WHOLE, "of a dense layer; else 4 d-model") \
    ROW(position, "position", "KIND", NEW | SHAPE, WORD, "buckets, transformer_xl or none") \
    ROW(experts, "experts", "N", NEW | SHAPE, WHOLE, "per mixture layer; 0: all layers dense") \
    ROW(top_k, "top-k", "N", NEW | SHAPE, WHOLE, "experts that work on a token") \
    ROW(moe_every, "moe-every", "N", NEW | SHAPE, WHOLE, "every Nth layer is a mixture") \
    ROW(moe_hidden, "moe-hidden", "N", NEW | SHAPE, WHOLE, "of one expert") \
    ROW(activation, "expert-activation", "KIND", NEW | SHAPE, WORD, \
        "relu, gelu_tanh, gelu_erf, geglu or swiglu") \
    ROW(normalise, "normalise", "KIND", NEW | SHAPE, WORD, "before_drop, after_drop or none") \
    ROW(capacity, "capacity", "F", NEW | SHAPE, REAL, \
        "slots: group * F / experts (2: balanced top-2); 0: none dropped") \
    ROW(group, "group", "N", NEW | SHAPE, WHOLE, "tokens that share slots; 0: all of a part") \
    ROW(aux, "aux", "W", NEW | SHAPE, REAL, "weight of the balance loss") \
    ROW(attention_cap, "attention-cap", "C", NEW | SHAPE, REAL, \
        "scores s of attention become C tanh(s / C); 0: as they are") \
    ROW(router_cap, "router-cap", "C", NEW | SHAPE, REAL, "the same for the router's logits") \
    ROW(logit_cap, "logit-cap", "C", NEW | SHAPE, REAL, "the same for the output's logits") \
    ROW(dense, "dense", "", TRAIN | SHAPE, FLAG, "the dense twin: the same work per token") \
    TITLE(NEW, "the recipe") \
    ROW(batch, "batch", "N", NEW, WHOLE, "sequences per step") \
    ROW(context, "context", "N", NEW, WHOLE, "tokens per sequence") \
    ROW(accumulate, "accumulate", "N", NEW, WHOLE, "parts a batch is cut into, for memory") \
    ROW(recompute, "recompute", "", NEW, FLAG, "run blocks twice, for memory") \
    ROW(update_in_backward, "update-in-backward", "", NEW, FLAG, \
        "hold one layer's gradient at a time, for memory; without --clip") \
    ROW(pack, "pack", "MB", NEW | RESUME, REAL, \
        "for copies of weights in the kernels' order; 64") \
    ROW(recipe, "recipe", "NAME", NEW, WORD, "default, paper, finetune, or quick: 300 steps") \
    ROW(optimizer, "optimizer", "KIND", NEW, WORD, "adafactor or adamw") \
    ROW(lr, "lr", "R", NEW, REAL, "highest learning rate") \
    ROW(warmup, "warmup", "N", NEW, WHOLE, "steps until it is reached") \
    ROW(min_lr, "min-lr", "R", NEW, REAL, "where it ends, relative to --lr") \
    ROW(weight_decay, "weight-decay", "R", NEW, REAL, "of AdamW") \
    ROW(clip, "clip", "R", NEW, REAL, "largest gradient norm; 0: any") \
    TITLE(NEW, "the run") \
    ROW(seed, "seed", "N", NEW | GENERATE, SEED, "another seed, other random numbers") \
    ROW(threads, "threads", "N", NEW | RESUME, WHOLE, "else every core; of each rank, else 1") \
    ROW(simd, "simd", "NAME", NEW, WORD, "base, sse2, avx2, avx512 or neon; else the best") \
    ROW(eval_every, "eval-every", "N", TRAIN, WHOLE, "steps between validations; 0: at the end") \
    ROW(val_fraction, "val-fraction", "F", NEW | EVAL, REAL, \
        "the last F of each text validates (train, race: 0.1)") \
    ROW(log, "log", "FILE", NEW | RESUME, WORD, "one JSON object per line") \
    ROW(quiet, "quiet", "", NEW | RESUME, FLAG, "errors and the last line only") \
    TITLE(TRAIN, "many machines (built with mpicc -DGLAM_MPI, started by mpirun)") \
    TITLE(INFO, "bytes of each rank of many machines") \
    ROW(mesh, "mesh", "XxY", TRAIN | RESUME | INFO, WORD, \
        "X * Y ranks: X share batch and experts, Y heads and widths") \
    ROW(mesh_store, "mesh-store", "", TRAIN | RESUME | INFO, FLAG, \
        "split the other weights over X as well, for memory") \
    ROW(prompt, "prompt", "TEXT", GENERATE, WORD, "where it begins") \
    ROW(tokens, "tokens", "N", GENERATE, WHOLE, "how many to write; 400") \
    ROW(temperature, "temperature", "T", GENERATE, REAL, "0: always the likeliest; 0.8") \
    ROW(pick_top_k, "top-k", "N", GENERATE, WHOLE, "only the N likeliest; 0: all") \
    ROW(top_p, "top-p", "P", GENERATE, REAL, "the likeliest until they reach P; 1") \
    ROW(min_p, "min-p", "P", GENERATE, REAL, "those with at least P of the best; 0.02")

// From the rows: the settings, the number of each option, and the table.
#define TYPE_FLAG  int
#define TYPE_WHOLE int
#define TYPE_REAL  double
#define TYPE_SEED  uint64_t
#define TYPE_WORD  const char *

#define NO_TITLE(where, help)
#define FIELD(field, name, value, where, kind, help) TYPE_##kind field;
typedef struct settings { OPTION_ROWS(NO_TITLE, FIELD) } settings;
#undef FIELD

typedef enum value_kind { HEADING, FLAG, WHOLE, REAL, SEED, WORD } value_kind;

typedef struct option {
    const char *name, *value;
    unsigned    where;
    value_kind  kind;
    size_t      at;
    const char *help;
} option;

#define TITLE(where, help) {"", "", where, HEADING, 0, help},
#define ROW(field, name, value, where, kind, help) \
    {name, value, where, kind, offsetof(settings, field), help},
static const option option_rows[] = { OPTION_ROWS(TITLE, ROW) };
enum { OPTIONS = sizeof option_rows / sizeof option_rows[0] };
#undef TITLE
#undef ROW

typedef struct command {
    const char *name, *words, *help;
    unsigned    bit;
    int       (*run)(settings *s, char **words, int count);
} command;

static const char *program = "glam";
static unsigned char given[OPTIONS];                // by row of the table

#define GIVEN(field) was_given(offsetof(settings, field))
static int was_given(size_t at)
{
    for (int i = 0; i < OPTIONS; i++)
        if (given[i] && option_rows[i].at == at) return 1;
    return 0;
}

// == messages and the command line ==========================================================

static int rank = -1;                               // of this process among many; -1: alone

static int complain(int status, const char *format, ...) GLAM_FORMAT(2, 3);
static int complain(int status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("glam: ", stderr);
    if (rank >= 0) fprintf(stderr, "rank %d: ", rank);
    vfprintf(stderr, format, args);
    fputs("\n", stderr);
    va_end(args);
    return status;
}

// Prints the first failure of the context, if there is one.
static int failure(const glam_ctx *ctx)
{
    if (glam_error(ctx) == GLAM_OK) return DONE;
    return complain(FAILED, "%s", glam_error_text(ctx));
}

// How many letters one would have to insert, drop or replace to get from a to b.
static int distance(const char *a, const char *b)
{
    int row[64], length = (int)strlen(b) < 63 ? (int)strlen(b) : 63;
    for (int j = 0; j <= length; j++) row[j] = j;
    for (int i = 0; a[i]; i++) {
        int corner = row[0];
        row[0] = i + 1;
        for (int j = 1; j <= length; j++) {
            int best = corner + (a[i] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            corner = row[j];
            row[j] = best;
        }
    }
    return row[length];
}

// Keeps the candidate that is nearest to the word, if it is near at all.
static void nearer(const char *word, const char *candidate, const char **best, int *least)
{
    int d = distance(word, candidate);
    if (d < *least && d <= 1 + (int)strlen(candidate) / 3) {
        *least = d;
        *best = candidate;
    }
}

static int unknown_option(const command *c, const char *name)
{
    const char *best = NULL;
    int least = 100;
    for (int i = 0; i < OPTIONS; i++)
        if (option_rows[i].where & c->bit && option_rows[i].kind != HEADING)
            nearer(name, option_rows[i].name, &best, &least);
    if (best) return complain(USAGE, "%s knows no option --%s; did you mean --%s?", c->name, name,
                              best);
    return complain(USAGE, "%s knows no option --%s; see %s help %s", c->name, name, program,
                    c->name);
}

static int unknown_preset(const char *name)
{
    const char *best = NULL, *row;
    char all[400] = "";
    int least = 100;
    for (int i = 0; (row = glam_config_preset_name(i)) != NULL; i++) {
        nearer(name, row, &best, &least);
        snprintf(all + strlen(all), sizeof all - strlen(all), " %s", row);
    }
    return complain(FAILED, "there is no preset %s;%s%s%s there are%s", name,
                    best ? " did you mean " : "", best ? best : "", best ? "?" : "", all);
}

static void help_command(const command *c)
{
    printf("%s %s %s%s\n    %s\n%s", program, c->name, c->words,
           c->bit == ROUTE ? "" : " [options]", c->help,
           c->bit & NEW ? "" : "\n");
    for (int i = 0; i < OPTIONS; i++) {
        const option *o = &option_rows[i];
        char left[40];
        if (!(o->where & c->bit)) continue;
        snprintf(left, sizeof left, "--%s %s", o->name, o->value);
        if (o->kind == HEADING) printf("\n  %s\n", o->help);
        else printf("    %-26s %s\n", left, o->help);
    }
    if (c->bit == TRAIN)
        printf("\nWith --resume only --steps --out --force --log --checkpoint --checkpoint-every"
               "\n--threads --quiet --pack --mesh --mesh-store may be given.\n");
    if (c->bit == RACE)
        printf("\nBoth models see the same texts, recipe, seed and batches, in turns, and cost the"
               "\nsame work per token.  A race of 3 minutes takes 6, and some for evaluations.\n");
}

// The text of one option into its field of the settings.
static int read_value(settings *s, const option *o, const char *text)
{
    char *field = (char *)s + o->at, *end = NULL;
    if (o->kind == WORD) {
        memcpy(field, &text, sizeof text);
        return *text || o->at == offsetof(settings, prompt) ? DONE
               : complain(USAGE, "--%s is empty", o->name);
    }
    if (o->kind == REAL) {
        double value = strtod(text, &end);
        if (end == text || *end || !(value >= 0 && value < 1e30))
            return complain(USAGE, "--%s %s: a number, 0 or more, is wanted", o->name, text);
        memcpy(field, &value, sizeof value);
        return DONE;
    }
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || (o->kind == WHOLE && value > INT_MAX))
        return complain(USAGE, "--%s %s: a whole number is wanted", o->name, text);
    int whole = (int)value;
    uint64_t wide = value;
    if (o->kind == SEED) memcpy(field, &wide, sizeof wide);
    else memcpy(field, &whole, sizeof whole);
    return DONE;
}

// One --name, --name value or --name=value; *used becomes the words that it took.
static int read_option(const command *c, settings *s, char **words, int left, int *used)
{
    char name[40];
    const char *equals = strchr(words[0], '=');
    size_t length = equals ? (size_t)(equals - words[0]) - 2 : strlen(words[0]) - 2;
    snprintf(name, sizeof name, "%.*s", (int)(length < 39 ? length : 39), words[0] + 2);
    for (int i = 0; i < OPTIONS; i++) {
        const option *o = &option_rows[i];
        if (o->kind == HEADING || !(o->where & c->bit) || strcmp(o->name, name) != 0) continue;
        given[i] = 1;
        *used = o->kind == FLAG || equals ? 1 : 2;
        if (o->kind == FLAG) {
            int on = 1;
            memcpy((char *)s + o->at, &on, sizeof on);
            return equals ? complain(USAGE, "--%s takes no value", name) : DONE;
        }
        if (!equals && left < 2) return complain(USAGE, "--%s wants a value: %s", name, o->value);
        return read_value(s, o, equals ? equals + 1 : words[1]);
    }
    return unknown_option(c, name);
}

// Options that do not go together, told in the words of the user.
static int check_together(void)
{
    for (int i = 0; i < OPTIONS; i++) {
        if (given[i] && GIVEN(resume) && !(option_rows[i].where & RESUME))
            return complain(USAGE, "--%s cannot go with --resume: everything comes from the file",
                            option_rows[i].name);
        if (given[i] && GIVEN(from) && (option_rows[i].where & SHAPE))
            return complain(USAGE, "--%s cannot go with --from: the model's shape comes from the "
                            "file", option_rows[i].name);
    }
    if (GIVEN(steps) && GIVEN(minutes))
        return complain(USAGE, "--steps and --minutes: one of them, please");
    if (GIVEN(mesh) && GIVEN(minutes))
        return complain(USAGE, "--minutes cannot go with --mesh: each rank has its own clock; "
                        "--steps, please");
    return DONE;
}

#endif
