/* glam_options.h - the command line of the tool: one table of options from which the settings,
   parsing, help and the hint for a misspelt name all come.  A part of glam.c. */

#ifndef GLAM_OPTIONS_H
#define GLAM_OPTIONS_H

#include "../glam.h"
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES = 256 };                               // the vocabulary of bytes
enum { DONE = 0, FAILED = 1, USAGE = 2 };           // exit status; a signal's: 128 and its number

// == the table of options ===================================================================

enum { TRAIN = 1, GENERATE = 2, EVAL = 4, ROUTE = 8, INFO = 16, RACE = 32,      // commands
       REPORT = 1 << 12, TOKENIZER = 1 << 13, IMPORT = 1 << 14, EXPORT = 1 << 15, PLAN = 1 << 21,
       CHAT = 1 << 22, UPCYCLE = 1 << 25, MERGE = 1 << 27,
       DATA_SCORE = 1 << 16, DATA_FILTER = 1 << 17, DATA_MIX = 1 << 18, DATA_DEDUP = 1 << 19,
       DATA_OVERLAP = 1 << 20, DATA_QUALITY = DATA_SCORE | DATA_FILTER,
       DATA = DATA_QUALITY | DATA_MIX | DATA_DEDUP | DATA_OVERLAP,
       NEW = TRAIN | RACE,
       RESUME = 1 << 29,    // may be given with --resume, which takes all else from the file
       SHAPE = 1 << 30 };   // describes a new model, so it cannot go with --from

#define MANY 1e9                 // steps
#define SIZE 16777216            // widths and the like

// One row for each option: its field in the settings, its name, what it takes, the commands that
// know it, its kind, the largest number, its help.
#define OPTION_ROWS(TITLE, ROW) \
    TITLE(TRAIN, "what to make of it") \
    ROW(out, "out", "FILE", TRAIN | RESUME, WORD, 0, \
        "the model; else model.safetensors, model-2 ...: a name that no other run has") \
    ROW(force, "force", "", NEW | RESUME | REPORT | TOKENIZER | DATA | EVAL | PLAN | \
        IMPORT | EXPORT | UPCYCLE | MERGE, FLAG, 0, \
        "overwrite files that exist; train: even the model of --from") \
    ROW(from, "from", "MODEL", TRAIN, WORD, 0, \
        "fine-tune this model instead of making a new one") \
    ROW(freeze, "freeze", "LIST", TRAIN, WORD, 0, \
        "what stays as it is: experts,router,attention,ffn,embeddings,norms,layers.3,GLOB") \
    ROW(checkpoint, "checkpoint", "FILE", TRAIN | RESUME, WORD, 0, \
        "all that is needed to go on") \
    ROW(checkpoint_every, "checkpoint-every", "N", TRAIN | RESUME, WHOLE, MANY, \
        "steps between them") \
    ROW(resume, "resume", "FILE", TRAIN | RESUME, WORD, 0, \
        "go on from a checkpoint, with the same texts; the rest comes from the file") \
    TITLE(TRAIN, "adapters (LoRA) beside the weights of --from, which stay as they are") \
    ROW(lora, "lora", "LIST", TRAIN, WORD, 0, \
        "of which: attention,experts,router,dense,shared; --out then holds them alone") \
    ROW(lora_rank, "rank", "N", TRAIN, WHOLE, SIZE, "of each; 8") \
    ROW(expert_rank, "expert-rank", "N", TRAIN, WHOLE, SIZE, "of each expert's; else --rank") \
    ROW(lora_alpha, "alpha", "A", TRAIN, REAL, 1e6, "their product is times A / rank; 16") \
    ROW(rslora, "rslora", "", TRAIN, FLAG, 0, "times A / sqrt(rank) instead") \
    ROW(by_load, "experts-by-load", "TEXT", TRAIN, WORD, 0, \
        "of experts only those that this text uses most") \
    ROW(load_share, "share", "F", TRAIN, SHARE, 1, \
        "so many as take this share of a layer's choices; 0.2") \
    TITLE(NEW, "how long") \
    ROW(steps, "steps", "N", NEW | RESUME, WHOLE, MANY, \
        "optimiser steps; in a race of each model, in place of equal time") \
    ROW(minutes, "minutes", "M", NEW, REAL, 1e7, \
        "times a few steps, then fixes their number; in a race the training time of EACH " \
        "model, 3 if unset") \
    TITLE(NEW, "the model (unset: a laptop-sized mixture)") \
    ROW(preset, "preset", "NAME", NEW | INFO | SHAPE | DATA_MIX, WORD, 0, \
        "a row of the paper's table, such as 0.1B/64E, with the paper's recipe") \
    ROW(family, "family", "NAME", NEW | SHAPE, WORD, 0, \
        "a public one that export writes: llama, qwen3, mixtral, granitemoe, olmoe or qwen3_moe") \
    ROW(vocab, "vocab", "N", NEW | SHAPE, WHOLE, SIZE, "tokens; 256: bytes; more: pieces of words, learnt from the texts") \
    ROW(tokenizer, "tokenizer", "FILE", NEW | SHAPE, WORD, 0, \
        "a tokenizer.json or tokenizer.model to use") \
    ROW(layers, "layers", "N", NEW | SHAPE, WHOLE, SIZE, "blocks of attention and feed-forward") \
    ROW(d_model, "d-model", "N", NEW | SHAPE, WHOLE, SIZE, "width") \
    ROW(heads, "heads", "N", NEW | SHAPE, WHOLE, SIZE, "attention heads") \
    ROW(d_head, "d-head", "N", NEW | SHAPE, WHOLE, SIZE, "width of one; else d-model / heads") \
    ROW(kv_heads, "kv-heads", "N", NEW | SHAPE, WHOLE, SIZE, \
        "of keys and values, which heads share; else as many as heads") \
    ROW(hidden, "hidden", "N", NEW | SHAPE, WHOLE, SIZE, "of a dense layer; else 4 d-model") \
    ROW(position, "position", "KIND", NEW | SHAPE, WORD, 0, "buckets, transformer_xl, rotary or none") \
    ROW(qk_norm, "qk-norm", "KIND", NEW | SHAPE, WORD, 0, \
        "of queries and keys: none, head or whole") \
    ROW(experts, "experts", "N", NEW | SHAPE, WHOLE, SIZE, \
        "per mixture layer; 0: all layers dense") \
    ROW(top_k, "top-k", "N", NEW | SHAPE, WHOLE, SIZE, "experts that work on a token") \
    ROW(moe_every, "moe-every", "N", NEW | SHAPE, WHOLE, SIZE, "every Nth layer is a mixture") \
    ROW(moe_hidden, "moe-hidden", "N", NEW | SHAPE, WHOLE, SIZE, "of one expert") \
    ROW(activation, "expert-activation", "KIND", NEW | SHAPE, WORD, 0, \
        "relu, gelu_tanh, gelu_erf, geglu or swiglu") \
    ROW(normalise, "normalise", "KIND", NEW | SHAPE, WORD, 0, "before_drop, after_drop or none") \
    ROW(router, "router", "KIND", NEW | SHAPE, WORD, 0, \
        "who chooses: top_k, sampled, random, noisy, hash or expert_choice") \
    ROW(rival, "router", "KIND", RACE, WORD, 0, \
        "a second one: in place of the dense twin the same mixture with this router") \
    ROW(score, "score", "KIND", NEW | SHAPE, WORD, 0, "of the router: softmax or sigmoid") \
    ROW(bias, "bias", "", NEW | SHAPE, FLAG, 0, \
        "balance by a bias on the choice, learned from loads; goes well with --aux 0") \
    ROW(shared, "shared", "N", NEW | SHAPE, WHOLE, SIZE, \
        "hidden of one more expert that works on every token; 0: none") \
    ROW(capacity, "capacity", "F", NEW | SHAPE, REAL, 1e6, \
        "slots: group * F / experts (2: balanced top-2); 0: none dropped") \
    ROW(group, "group", "N", NEW | SHAPE, WHOLE, SIZE, \
        "tokens that share slots; 0: all of a part") \
    ROW(aux, "aux", "W", NEW | SHAPE, REAL, 1e6, "weight of the balance loss") \
    ROW(attention_cap, "attention-cap", "C", NEW | SHAPE, REAL, 1e30, \
        "scores s of attention become C tanh(s / C); 0: as they are") \
    ROW(router_cap, "router-cap", "C", NEW | SHAPE, REAL, 1e30, \
        "the same for the router's logits") \
    ROW(logit_cap, "logit-cap", "C", NEW | SHAPE, REAL, 1e30, \
        "the same for the output's logits") \
    ROW(dense, "dense", "", TRAIN | SHAPE, FLAG, 0, "the dense twin: the same work per token") \
    TITLE(NEW, "the recipe") \
    ROW(batch, "batch", "N", NEW | PLAN, WHOLE, SIZE, "sequences per step") \
    ROW(context, "context", "N", NEW | PLAN, WHOLE, SIZE, "tokens per sequence") \
    ROW(accumulate, "accumulate", "N", NEW, WHOLE, SIZE, \
        "parts a batch is cut into, for memory") \
    ROW(recompute, "recompute", "", NEW | PLAN, FLAG, 0, "run blocks twice, for memory") \
    ROW(update_in_backward, "update-in-backward", "", NEW, FLAG, 0, \
        "hold one layer's gradient at a time, for memory; without --clip") \
    ROW(pack, "pack", "MB", NEW | RESUME, REAL, 1e9, \
        "for copies of weights in the kernels' order; 64") \
    ROW(recipe, "recipe", "NAME", NEW, WORD, 0, "default, paper, finetune, or quick: 300 steps") \
    ROW(optimizer, "optimizer", "KIND", NEW | PLAN, WORD, 0, "adafactor or adamw") \
    ROW(lr, "lr", "R", NEW, REAL, 1e6, "highest learning rate") \
    ROW(warmup, "warmup", "N", NEW, WHOLE, MANY, "steps until it is reached") \
    ROW(min_lr, "min-lr", "R", NEW, REAL, 1e6, "where it ends, relative to --lr") \
    ROW(weight_decay, "weight-decay", "R", NEW, REAL, 1e6, "of AdamW") \
    ROW(clip, "clip", "R", NEW, REAL, 1e30, "largest gradient norm; 0: any") \
    TITLE(NEW, "the run") \
    ROW(seed, "seed", "N", NEW | GENERATE | CHAT | EVAL | DATA_QUALITY | DATA_MIX, SEED, 0, \
        "another seed, other random numbers") \
    ROW(threads, "threads", "N", NEW | RESUME | GENERATE | EVAL | ROUTE | REPORT | DATA | \
        PLAN | CHAT, WHOLE, 1024, \
        "else every core; of each rank, else 1") \
    ROW(simd, "simd", "NAME", NEW | GENERATE | EVAL | ROUTE | REPORT | PLAN, WORD, 0, \
        "base, sse2, avx2, avx512, avx512bf16, amx or neon; else the best for --arithmetic") \
    ROW(arithmetic, "arithmetic", "NAME", NEW | RESUME | GENERATE | EVAL, WORD, 0, \
        "of products: f32, bf16, bf16_tiles (of AMX), or auto: what the chip is fastest at; " \
        "else auto in train and race, resumed: as before, f32 elsewhere") \
    ROW(eval_every, "eval-every", "N", TRAIN, WHOLE, MANY, \
        "steps between validations; 0: at the end") \
    ROW(val_fraction, "val-fraction", "F", NEW | EVAL, SHARE, 1, \
        "the last F of each text validates (train, race: 0.1)") \
    ROW(log, "log", "FILE", NEW | RESUME, WORD, 0, \
        "one JSON object per line; a book of that name is not overwritten without --force") \
    ROW(keep, "keep", "WHICH", TRAIN | RESUME, WORD, 0, \
        "weights to save: best (of the validations on the way) or last; best") \
    ROW(powercap, "powercap", "FOLDER", NEW | RESUME, WORD, 0, \
        "counters of energy (RAPL); /sys/class/powercap") \
    ROW(joules_per_gflop, "joules-per-gflop", "J", NEW | RESUME, REAL, 1e9, \
        "energy where nothing counts it: FLOPs times this; 0.1") \
    ROW(quiet, "quiet", "", NEW | RESUME, FLAG, 0, "errors and the last line only") \
    ROW(page, "out", "FILE", REPORT, WORD, 0, "the page; report.html") \
    ROW(svg, "svg", "FOLDER", REPORT, WORD, 0, "each chart alone into this folder, made if need " \
                                               "be") \
    ROW(run_log, "log", "FILE", REPORT, WORD, 0, "the log of the run that made the model") \
    ROW(dense_log, "dense-log", "FILE", REPORT, WORD, 0, "that of its dense twin, to compare") \
    ROW(token, "token", "N", REPORT, WHOLE, MANY, "the letter that is done by hand") \
    ROW(layer, "layer", "L", ROUTE | REPORT, WHOLE, SIZE, \
        "this layer; else route: the last mixture, report: the most specialised") \
    ROW(expert, "expert", "E", ROUTE | REPORT, WHOLE, SIZE, \
        "this expert alone; report: the one that is lit when the page opens") \
    ROW(json, "json", "", ROUTE, FLAG, 0, "all of it as one JSON object") \
    ROW(documents, "documents", "HOW", DATA | NEW | RESUME | EVAL, WORD, 0, \
        "what is not .jsonl: lines (of JSON), blank (lines between) or file; train: rows, each " \
        "packed whole; else by its start") \
    ROW(weights, "weights", "LIST", NEW | RESUME, WORD, 0, \
        "how often the texts are drawn from, such as 0.7,0.3; else by length") \
    TITLE(TRAIN, "many machines (built with mpicc -DGLAM_MPI, started by mpirun)") \
    TITLE(INFO, "bytes of each rank of many machines") \
    ROW(mesh, "mesh", "XxY", TRAIN | RESUME | INFO | PLAN, WORD, 0, \
        "X * Y ranks: X share batch and experts, Y heads and widths") \
    ROW(mesh_store, "mesh-store", "", TRAIN | RESUME | INFO | PLAN, FLAG, 0, \
        "split the other weights over X as well, for memory") \
    ROW(import_out, "out", "FILE", IMPORT, WORD, 0, "where to; model.safetensors") \
    ROW(narrow, "weights", "FORM", IMPORT, WORD, 0, \
        "of the large matrices: f32, bf16, or q8 (8.5 bits a weight); narrow ones are frozen; f32") \
    ROW(probe, "text", "FILE", IMPORT, WORD, 0, \
        "on which the loss of a narrow form is compared with f32's; else a few sentences") \
    ROW(adapter, "adapter", "FILE", GENERATE | EVAL | ROUTE | CHAT | EXPORT, WORD, 0, \
        "an adapter for the model: of train --lora, or a folder of PEFT") \
    ROW(as, "as", "KIND", EXPORT, WORD, 0, \
        "with --adapter: peft, or gguf, a file for llama.cpp; peft") \
    ROW(merged_out, "out", "FILE", MERGE, WORD, 0, "where to; merged.safetensors") \
    ROW(grown_experts, "experts", "N", UPCYCLE, WHOLE, SIZE, "copies in each mixture; 8") \
    ROW(grown_every, "every", "N", UPCYCLE, WHOLE, SIZE, "every Nth layer becomes a mixture; 1") \
    ROW(grown_top_k, "top-k", "N", UPCYCLE, WHOLE, SIZE, "of them work on a token; 2") \
    ROW(grown_out, "out", "FILE", UPCYCLE, WORD, 0, "where to; grown.safetensors") \
    ROW(folder_out, "out", "FOLDER", EXPORT, WORD, 0, "made if it is not there; of gguf a file") \
    ROW(pieces, "vocab", "N", TOKENIZER, WHOLE, SIZE, "how many pieces to learn; 2048") \
    ROW(tokens_out, "out", "FILE", TOKENIZER, WORD, 0, "where to; tokenizer.json") \
    ROW(split, "split", "NAME", TOKENIZER, WORD, 0, \
        "how words are cut: gpt2, digits, qwen, llama3, o200k, deepseek, deepseek-coder; gpt2") \
    ROW(show, "show", "TEXT", TOKENIZER, WORD, 0, "learns nothing: what a text becomes") \
    TITLE(EVAL, "a task in place of a text") \
    ROW(task, "task", "FILE", EVAL, WORD, 0, \
        "rows of JSON: query, choices, gold; context_options, continuation, gold; context, " \
        "continuation; or context, answers") \
    ROW(shots, "shots", "K", EVAL, WHOLE, 1e4, \
        "solved rows before each; in a suite at most each task's own number; 0") \
    ROW(shots_from, "shots-from", "FILE", EVAL, WORD, 0, \
        "where they are drawn from; else the task itself, never the row that is asked") \
    ROW(per, "normalise", "KIND", EVAL, WORD, 0, \
        "log-likelihoods are divided by: sum (nothing), tokens (the paper's), chars or bytes; " \
        "tokens") \
    ROW(delimiter, "delimiter", "TEXT", EVAL, WORD, 0, \
        "before a choice, where it and its query have no blank there; a blank") \
    ROW(beam, "beam", "N", EVAL, WHOLE, 1000, "width of the search for an answer; 4") \
    ROW(answer, "answer", "N", EVAL, WHOLE, SIZE, "tokens of an answer at most; 32") \
    ROW(stop, "stop", "TEXT", EVAL, WORD, 0, "what ends an answer; a new line") \
    ROW(window, "context", "N", EVAL, WHOLE, SIZE, \
        "tokens that the model looks at; else what it was trained with") \
    ROW(lines_out, "out", "FILE", EVAL, WORD, 0, "a line of JSON for each option") \
    TITLE(EVAL, "many tasks, or ids") \
    ROW(suite, "suite", "FILE", EVAL, WORD, 0, \
        "a list of tasks, such as examples/glam_suite.jsonl, with the paper's averages") \
    ROW(data, "data", "FOLDER", EVAL, WORD, 0, "where the files of a suite are; else beside it") \
    ROW(ids, "tokens", "FILE", EVAL, WORD, 0, \
        "the loss on ids written as numbers, one sequence a line") \
    ROW(device, "device", "NAME", PLAN, WORD, 0, \
        "laptop, server, a100, h100, tpuv3, tpuv4, or a file") \
    ROW(calibrate, "calibrate", "FILE", PLAN, WORD, 0, \
        "measure this machine, some ten seconds, and write it as a device") \
    ROW(prompt, "prompt", "TEXT", GENERATE, WORD, 0, "where it begins") \
    ROW(tokens, "tokens", "N", GENERATE, WHOLE, 1e8, "how many to write; 400") \
    ROW(system, "system", "TEXT", CHAT, WORD, 0, "what the model is told before all") \
    ROW(long_rows, "long", "WAY", TRAIN | RESUME, WORD, 0, \
        "rows longer than the context: cut (the end), skip or refuse; cut") \
    ROW(show_mask, "show-mask", "", TRAIN, FLAG, 0, \
        "only shows the first rows, in colour (or in [ ]) what is learnt of them") \
    ROW(format, "format", "NAME", CHAT | TRAIN | RESUME, WORD, 0, \
        "of turns: chatml, granite, llama3, mistral or olmoe; else by the tokenizer's marks") \
    ROW(room, "tokens", "N", CHAT, WHOLE, 1e8, "of a conversation; 2048") \
    ROW(temperature, "temperature", "T", GENERATE | CHAT, REAL, 1e6, "0: always the likeliest; 0.8") \
    ROW(pick_top_k, "top-k", "N", GENERATE, WHOLE, SIZE, "only the N likeliest; 0: all") \
    ROW(top_p, "top-p", "P", GENERATE, REAL, 1, "the likeliest until they reach P; 1") \
    ROW(min_p, "min-p", "P", GENERATE, REAL, 1, "those with at least P of the best; 0.02") \
    ROW(curated, "curated", "FILE", DATA_QUALITY, WORD, 0, \
        "good documents; the classifier learns to tell them from RAW") \
    ROW(classifier, "classifier", "FILE", DATA_QUALITY, WORD, 0, \
        "one that --save-classifier has saved, in place of --curated") \
    ROW(save_classifier, "save-classifier", "FILE", DATA_QUALITY, WORD, 0, "for another time") \
    ROW(hash_bits, "hash-bits", "N", DATA_QUALITY, WHOLE, 24, "it has 2^N weights; 18") \
    ROW(rate, "rate", "R", DATA_QUALITY, REAL, 1e6, "of its learning; 0.05") \
    ROW(alpha, "alpha", "A", DATA_QUALITY, REAL, 1e6, \
        "kept with the chance (2 - quality)^-A; 9") \
    ROW(threshold, "threshold", "J", DATA_DEDUP, REAL, 1, \
        "similarity (Jaccard) of what is there twice; 0.8") \
    ROW(shingle, "shingle", "N", DATA_DEDUP, WHOLE, 64, "words in a row that are compared; 5") \
    ROW(removed, "removed", "FILE", DATA_DEDUP, WORD, 0, \
        "lines of JSON: numbers of a document that is left out and of its twin") \
    ROW(eval, "eval", "LIST", DATA_OVERLAP, WORD, 0, \
        "evaluation sets in lines of JSON, with commas between them") \
    ROW(ngram, "ngram", "N", DATA_OVERLAP, WHOLE, 64, "words in a row; else the paper's rule") \
    ROW(megabytes, "megabytes", "M", DATA_MIX, REAL, 1e9, "write so much, or more by a document") \
    ROW(draws, "draws", "N", DATA_MIX, WHOLE, MANY, "write so many documents") \
    ROW(start, "start", "N", DATA_MIX, SEED, 0, "go on behind the first N documents") \
    ROW(data_out, "out", "FILE", DATA, WORD, 0, "what comes out of it; else standard output")

// From the rows: the settings, the number of each option, and the table.
#define TYPE_FLAG  int
#define TYPE_WHOLE int
#define TYPE_REAL  double
#define TYPE_SHARE double
#define TYPE_SEED  uint64_t
#define TYPE_WORD  const char *

#define NO_TITLE(where, help)
#define FIELD(field, name, value, where, kind, most, help) TYPE_##kind field;
typedef struct settings { OPTION_ROWS(NO_TITLE, FIELD) } settings;
#undef FIELD

typedef enum value_kind { HEADING, FLAG, WHOLE, REAL, SHARE, SEED, WORD } value_kind;

typedef struct option {
    const char *name, *value;
    unsigned    where;
    value_kind  kind;
    double      most;
    size_t      at;
    const char *help;
} option;

#define TITLE(where, help) {"", "", where, HEADING, 0, 0, help},
#define ROW(field, name, value, where, kind, most, help) \
    {name, value, where, kind, most, offsetof(settings, field), help},
static const option option_rows[] = { OPTION_ROWS(TITLE, ROW) };
enum { OPTIONS = sizeof option_rows / sizeof option_rows[0] };
#undef TITLE
#undef ROW

typedef struct command {
    const char *name, *words, *help;
    unsigned    bit;
    int       (*run)(settings *s, char **words, int count);
    const char *note;                               // what else its help says; NULL: nothing
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

// Something is not as it was asked, but the work goes on.
static void warn(const char *format, ...) GLAM_FORMAT(1, 2);
static void warn(const char *format, ...)
{
    va_list args;
    if (rank > 0) return;                           // all ranks would say the same
    va_start(args, format);
    fputs("warning: ", stderr);
    vfprintf(stderr, format, args);
    fputs("\n", stderr);
    va_end(args);
}

// Memory for words and names: without it nothing can go on.
static void *need(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);
    if (!p) exit(complain(FAILED, "there is no memory for %.0f bytes", (double)bytes));
    return p;
}

// What printf would print, as long as it is.  The caller frees it.
static char *joined(const char *format, ...) GLAM_FORMAT(1, 2);
static char *joined(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *out = (char *)need((size_t)(length < 0 ? 0 : length) + 1);
    *out = 0;
    va_start(args, format);
    if (length >= 0) vsnprintf(out, (size_t)length + 1, format, args);
    va_end(args);
    return out;
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
    if (d < *least && d <= 1 + (int)strlen(candidate) / 3 && 2 * d <= (int)strlen(word)) {
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
    char *all = joined("there are");
    int least = 100;
    for (int i = 0; (row = glam_config_preset_name(i)) != NULL; i++) {
        char *more = joined("%s %s", all, row);
        free(all);
        all = more;
        nearer(name, row, &best, &least);
    }
    if (best) complain(USAGE, "there is no preset %s; did you mean %s? %s", name, best, all);
    else complain(USAGE, "there is no preset %s; %s", name, all);
    free(all);
    return USAGE;
}

// A text from a column on, broken between words before column 80.
static void print_wrapped(const char *text, int column)
{
    int at = column;
    while (*text) {
        int word = (int)strcspn(text, " \n");
        if (at > column && at + 1 + word > 79) {
            printf("\n%*s", column, "");
            at = column;
        } else if (at > column) at += printf(" ");
        at += printf("%.*s", word, text);
        text += word;
        if (*text == '\n') {
            printf("\n%*s", column, "");
            at = column;
        }
        text += *text != 0;
    }
    printf("\n");
}

static void help_command(const command *c)
{
    printf("%s %s %s [options]\n    %s\n", program, c->name, c->words, c->help);
    for (int i = 0, rows = 0; i < OPTIONS; i++) {
        const option *o = &option_rows[i];
        char left[40];
        if (!(o->where & c->bit)) continue;
        if (o->kind == HEADING) printf("\n  %s\n", o->help);
        else if (rows++ == 0 && !(c->bit & NEW)) printf("\n");
        if (o->kind == HEADING) continue;
        snprintf(left, sizeof left, "--%s %s", o->name, o->value);
        printf("    %-26s ", left);
        print_wrapped(o->help, 31);
    }
    if (c->bit == TRAIN) {
        char *list = joined("With --resume only these may be given:");
        for (int i = 0; i < OPTIONS; i++) {
            if (!(option_rows[i].where & RESUME)) continue;
            char *more = joined("%s --%s", list, option_rows[i].name);
            free(list);
            list = more;
        }
        printf("\n");
        print_wrapped(list, 0);
        free(list);
    }
    if (!c->note) return;
    printf("\n");
    print_wrapped(c->note, 0);
}

// Digits alone, up to most; returns where they end, NULL: no such number.
static const char *read_whole(const char *text, uint64_t most, uint64_t *value)
{
    *value = 0;
    if (*text < '0' || *text > '9') return NULL;
    for (; *text >= '0' && *text <= '9'; text++) {
        uint64_t digit = (uint64_t)(*text - '0');
        if (*value > most / 10 || *value * 10 > most - digit) return NULL;
        *value = *value * 10 + digit;
    }
    return text;
}

// A decimal number, 0 or more: no inf, nan or hexadecimal, nothing behind it, no overflow.
static int read_real(const char *text, double *value)
{
    char *end = NULL;
    if (strspn(text, "0123456789.eE+-") != strlen(text)) return 0;
    errno = 0;
    *value = strtod(text, &end);
    return end != text && !*end && !errno && *value >= 0;
}

// The text of one option into its field of the settings.
static int read_value(settings *s, const option *o, const char *text)
{
    char *field = (char *)s + o->at;
    if (o->kind == WORD) {
        memcpy(field, &text, sizeof text);
        return *text || o->at == offsetof(settings, prompt) ||
               o->at == offsetof(settings, delimiter) ? DONE
               : complain(USAGE, "--%s is empty", o->name);
    }
    if (o->kind == REAL || o->kind == SHARE) {
        double value;
        int share = o->kind == SHARE;
        if (!read_real(text, &value) || value > o->most || (share && value >= 1))
            return complain(USAGE, "--%s %s: a number from 0 to %s%g is wanted", o->name, text,
                            share ? "less than " : "", o->most);
        memcpy(field, &value, sizeof value);
        return DONE;
    }
    uint64_t value, most = o->kind == SEED ? UINT64_MAX : (uint64_t)o->most;
    const char *end = read_whole(text, most, &value);
    if (!end || *end)
        return complain(USAGE, "--%s %s: a whole number from 0 to %" PRIu64 " is wanted", o->name,
                        text, most);
    int whole = (int)value;
    if (o->kind == SEED) memcpy(field, &value, sizeof value);
    else memcpy(field, &whole, sizeof whole);
    return DONE;
}

// One --name, --name value or --name=value; *used becomes the words that it took.
static int read_option(const command *c, settings *s, char **words, int left, int *used)
{
    const char *name = words[0] + 2, *equals = strchr(words[0], '=');
    size_t length = equals ? (size_t)(equals - name) : strlen(name);
    for (int i = 0; i < OPTIONS; i++) {
        const option *o = &option_rows[i];
        if (o->kind == HEADING || !(o->where & c->bit)) continue;
        if (strlen(o->name) != length || memcmp(o->name, name, length) != 0) continue;
        if (given[i] && o->at == offsetof(settings, router) && (c->bit & RACE)) continue;   // rival
        *used = o->kind == FLAG || equals ? 1 : 2;
        if (o->kind == FLAG) {
            int on = 1;
            given[i] = 1;
            memcpy((char *)s + o->at, &on, sizeof on);
            return equals ? complain(USAGE, "--%s takes no value", o->name) : DONE;
        }
        if (!equals && left < 2)
            return complain(USAGE, "--%s wants a value: %s", o->name, o->value);
        int status = read_value(s, o, equals ? equals + 1 : words[1]);
        given[i] |= status == DONE;
        return status;
    }
    char *unknown = joined("%.*s", (int)(length < 1000 ? length : 1000), name);
    unknown_option(c, unknown);
    free(unknown);
    return USAGE;
}

static const char *const arithmetics[] = { "f32", "bf16", "bf16_tiles", "auto" };   // glam_arithmetic

// Options that do not go together, told in the words of the user.
static int check_together(const settings *s)
{
    int named = !GIVEN(arithmetic);
    for (int i = 0; i <= GLAM_AUTO && !named; i++) named = strcmp(s->arithmetic, arithmetics[i]) == 0;
    if (!named)
        return complain(USAGE, "--arithmetic %s: f32, bf16, bf16_tiles or auto is wanted", s->arithmetic);
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
    if (GIVEN(mesh) && GIVEN(keep) && strcmp(s->keep, "best") == 0)
        return complain(USAGE, "--keep best cannot go with --mesh: no rank has room for a copy of "
                        "what all hold");
    if (GIVEN(mesh) && GIVEN(minutes))
        return complain(USAGE, "--minutes cannot go with --mesh: each rank has its own clock; "
                        "--steps, please");
    return DONE;
}

#endif
