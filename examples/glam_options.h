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

enum { DONE = 0, FAILED = 1, USAGE = 2, STOPPED = 130 };      // exit status

// == settings and options ===================================================================

typedef struct settings {
    const char *from, *freeze, *out, *checkpoint, *resume, *preset, *log, *simd;
    const char *recipe, *optimizer, *activation, *normalise, *position, *prompt, *mesh;
    int    checkpoint_every, steps, batch, context, accumulate, recompute, warmup;
    int    update_in_backward, mesh_store;
    int    threads, eval_every, quiet, force, dense;
    int    vocab, layers, d_model, heads, d_head, hidden, experts, top_k, moe_every, moe_hidden;
    int    group, tokens, pick_top_k;
    double minutes, lr, min_lr, weight_decay, clip, val_fraction, capacity, aux, pack;
    double attention_cap, router_cap, logit_cap;
    double temperature, top_p, min_p;
    uint64_t seed;
} settings;

enum { TRAIN = 1, GENERATE = 2, EVAL = 4, ROUTE = 8, INFO = 16,       // commands
       RESUME = 32,         // may be given with --resume, which takes all else from the file
       RACE = 128, NEW = TRAIN | RACE,
       SHAPE = 64 };        // describes a new model, so it cannot go with --from

typedef enum value_kind { HEADING, FLAG, WHOLE, REAL, SEED, WORD } value_kind;

typedef struct option {
    const char *name, *value;
    unsigned    where;
    value_kind  kind;
    size_t      at;
    const char *help;
} option;

#define ROW(name, value, where, kind, field, help) \
    {name, value, where, kind, offsetof(settings, field), help}
#define TITLE(where, help) {"", "", where, HEADING, 0, help}

static const option option_rows[] = {
    TITLE(TRAIN, "what to make of it"),
    ROW("out", "FILE", TRAIN | RESUME, WORD, out, "the model; else model.safetensors, model-2 ..."),
    ROW("force", "", TRAIN | RESUME, FLAG, force, "overwrite files that exist"),
    ROW("from", "MODEL", TRAIN, WORD, from, "fine-tune this model instead of making a new one"),
    ROW("freeze", "LIST", TRAIN, WORD, freeze,
        "what stays as it is: experts,router,attention,ffn,embeddings,norms,layers.3,GLOB"),
    ROW("checkpoint", "FILE", TRAIN | RESUME, WORD, checkpoint, "all that is needed to go on"),
    ROW("checkpoint-every", "N", TRAIN | RESUME, WHOLE, checkpoint_every, "steps between them"),
    ROW("resume", "FILE", TRAIN | RESUME, WORD, resume,
        "go on from a checkpoint, with the same texts; the rest comes from the file"),
    TITLE(TRAIN, "how long"),
    ROW("steps", "N", TRAIN | RESUME, WHOLE, steps, "optimiser steps"),
    ROW("minutes", "M", TRAIN, REAL, minutes, "times a few steps, then fixes their number"),
    TITLE(RACE, "how long"),
    ROW("minutes", "M", RACE, REAL, minutes,
        "training time of EACH model, 3 if unset; evaluation comes on top"),
    ROW("steps", "N", RACE, WHOLE, steps, "of each model instead: equal tokens, not equal time"),
    TITLE(NEW, "the model (unset: a laptop-sized mixture)"),
    ROW("preset", "NAME", NEW | INFO | SHAPE, WORD, preset,
        "a row of the paper's table, such as 0.1B/64E, with the paper's recipe"),
    ROW("vocab", "N", NEW | SHAPE, WHOLE, vocab, "tokens; bytes need 256"),
    ROW("layers", "N", NEW | SHAPE, WHOLE, layers, "blocks of attention and feed-forward"),
    ROW("d-model", "N", NEW | SHAPE, WHOLE, d_model, "width"),
    ROW("heads", "N", NEW | SHAPE, WHOLE, heads, "attention heads"),
    ROW("d-head", "N", NEW | SHAPE, WHOLE, d_head, "width of one; else d-model / heads"),
    ROW("hidden", "N", NEW | SHAPE, WHOLE, hidden, "of a dense layer; else 4 d-model"),
    ROW("position", "KIND", NEW | SHAPE, WORD, position, "buckets, transformer_xl or none"),
    ROW("experts", "N", NEW | SHAPE, WHOLE, experts, "per mixture layer; 0: all layers dense"),
    ROW("top-k", "N", NEW | SHAPE, WHOLE, top_k, "experts that work on a token"),
    ROW("moe-every", "N", NEW | SHAPE, WHOLE, moe_every, "every Nth layer is a mixture"),
    ROW("moe-hidden", "N", NEW | SHAPE, WHOLE, moe_hidden, "of one expert"),
    ROW("expert-activation", "KIND", NEW | SHAPE, WORD, activation,
        "relu, gelu_tanh, gelu_erf, geglu or swiglu"),
    ROW("normalise", "KIND", NEW | SHAPE, WORD, normalise, "before_drop, after_drop or none"),
    ROW("capacity", "F", NEW | SHAPE, REAL, capacity,
        "slots: group * F / experts (2: balanced top-2); 0: none dropped"),
    ROW("group", "N", NEW | SHAPE, WHOLE, group, "tokens that share slots; 0: all of a part"),
    ROW("aux", "W", NEW | SHAPE, REAL, aux, "weight of the balance loss"),
    ROW("attention-cap", "C", NEW | SHAPE, REAL, attention_cap,
        "scores s of attention become C tanh(s / C); 0: as they are"),
    ROW("router-cap", "C", NEW | SHAPE, REAL, router_cap, "the same for the router's logits"),
    ROW("logit-cap", "C", NEW | SHAPE, REAL, logit_cap, "the same for the output's logits"),
    ROW("dense", "", TRAIN | SHAPE, FLAG, dense, "the dense twin: the same work per token"),
    TITLE(NEW, "the recipe"),
    ROW("batch", "N", NEW, WHOLE, batch, "sequences per step"),
    ROW("context", "N", NEW, WHOLE, context, "tokens per sequence"),
    ROW("accumulate", "N", NEW, WHOLE, accumulate, "parts a batch is cut into, for memory"),
    ROW("recompute", "", NEW, FLAG, recompute, "run blocks twice, for memory"),
    ROW("update-in-backward", "", NEW, FLAG, update_in_backward,
        "hold one layer's gradient at a time, for memory; without --clip"),
    ROW("pack", "MB", NEW | RESUME, REAL, pack, "for copies of weights in the kernels' order; 64"),
    ROW("recipe", "NAME", NEW, WORD, recipe, "default, paper, finetune, or quick: 300 steps"),
    ROW("optimizer", "KIND", NEW, WORD, optimizer, "adafactor or adamw"),
    ROW("lr", "R", NEW, REAL, lr, "highest learning rate"),
    ROW("warmup", "N", NEW, WHOLE, warmup, "steps until it is reached"),
    ROW("min-lr", "R", NEW, REAL, min_lr, "where it ends, relative to --lr"),
    ROW("weight-decay", "R", NEW, REAL, weight_decay, "of AdamW"),
    ROW("clip", "R", NEW, REAL, clip, "largest gradient norm; 0: any"),
    TITLE(NEW, "the run"),
    ROW("seed", "N", NEW | GENERATE, SEED, seed, "another seed, other random numbers"),
    ROW("threads", "N", NEW | RESUME, WHOLE, threads, "else every core; of each rank, else 1"),
    ROW("simd", "NAME", NEW, WORD, simd, "base, sse2, avx2, avx512 or neon; else the best"),
    ROW("eval-every", "N", TRAIN, WHOLE, eval_every, "steps between validations; 0: at the end"),
    ROW("val-fraction", "F", NEW | EVAL, REAL, val_fraction,
        "the last F of each text validates (train, race: 0.1)"),
    ROW("log", "FILE", NEW | RESUME, WORD, log, "one JSON object per line"),
    ROW("force", "", RACE, FLAG, force, "overwrite a --log that exists and is no log"),
    ROW("quiet", "", NEW | RESUME, FLAG, quiet, "errors and the last line only"),
    TITLE(TRAIN, "many machines (built with mpicc -DGLAM_MPI, started by mpirun)"),
    TITLE(INFO, "bytes of each rank of many machines"),
    ROW("mesh", "XxY", TRAIN | RESUME | INFO, WORD, mesh,
        "X * Y ranks: X share batch and experts, Y heads and widths"),
    ROW("mesh-store", "", TRAIN | RESUME | INFO, FLAG, mesh_store,
        "split the other weights over X as well, for memory"),
    ROW("prompt", "TEXT", GENERATE, WORD, prompt, "where it begins"),
    ROW("tokens", "N", GENERATE, WHOLE, tokens, "how many to write; 400"),
    ROW("temperature", "T", GENERATE, REAL, temperature, "0: always the likeliest; 0.8"),
    ROW("top-k", "N", GENERATE, WHOLE, pick_top_k, "only the N likeliest; 0: all"),
    ROW("top-p", "P", GENERATE, REAL, top_p, "the likeliest until they reach P; 1"),
    ROW("min-p", "P", GENERATE, REAL, min_p, "those with at least P of the best; 0.02"),
};
enum { OPTIONS = sizeof option_rows / sizeof option_rows[0] };

typedef struct command {
    const char *name, *words, *help;
    unsigned    bit;
    int       (*run)(settings *s, char **words, int count);
} command;

static int run_train(settings *s, char **words, int count);
static int run_race(settings *s, char **words, int count);
static int run_generate(settings *s, char **words, int count);
static int run_eval(settings *s, char **words, int count);
static int run_route(settings *s, char **words, int count);
static int run_info(settings *s, char **words, int count);

static const command commands[] = {
    {"train", "TEXT...", "learn from text files, or go on learning", TRAIN, run_train},
    {"race", "TEXT...", "a mixture against a dense model of the same work", RACE, run_race},
    {"generate", "MODEL", "write text", GENERATE, run_generate},
    {"eval", "MODEL TEXT", "loss and bits per byte of a text", EVAL, run_eval},
    {"route", "MODEL \"text\"", "which experts work on which token", ROUTE, run_route},
    {"info", "MODEL | --preset NAME", "sizes, memory and work, without loading", INFO, run_info},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

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

static int unknown_command(const char *name)
{
    const char *best = NULL;
    int least = 100;
    for (int i = 0; i < COMMANDS; i++) nearer(name, commands[i].name, &best, &least);
    if (best) return complain(USAGE, "there is no command %s; did you mean %s?", name, best);
    return complain(USAGE, "there is no command %s; see %s help", name, program);
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

static int help(void)
{
    printf("glam %s: a mixture of experts that you can train on a laptop and look into\n\n",
           GLAM_VERSION);
    for (int i = 0; i < COMMANDS; i++)
        printf("    %s %-8s %-22s %s\n", program, commands[i].name, commands[i].words,
               commands[i].help);
    printf("    %s help COMMAND                   its options\n\n", program);
    printf("Start with any text file:   %s train book.txt --minutes 2\n", program);
    return DONE;
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
