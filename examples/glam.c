/* glam - train, use and look into a GLaM from the shell.

   Build:  cc -O2 -fopenmp examples/glam.c -o glam -lm      (without -fopenmp: one core)

   ./glam train book.txt --minutes 2        learns a text, shows how, saves model.safetensors
   ./glam generate model.safetensors --prompt "Once"
   ./glam race book.txt                     does the mixture learn more than a dense model?
   ./glam help

   On many machines: mpicc instead of cc with -DGLAM_MPI, and
   mpirun -n 8 ./glam train book.txt --mesh 4x2 --accumulate 4

   This is the one file to compile; each command has a file beside it, and what commands share is
   above them in the list of includes:

       glam_hub.h       folders of public models: weights, tokenizers; for other programs, too
       glam_options.h   the table of options: parsing, help, hints
       glam_show.h      numbers with units, text, colours, bars
       glam_files.h     files that will be written
       glam_tokens.h    texts into tokens and back
       glam_ranks.h     many machines
       glam_shape.h     options into configuration and recipe
       glam_energy.h    joules, counted or reckoned
       glam_log.h       lines of JSON
       glam_tally.h     how busy the experts are: counts and bars
       glam_stop.h      signals and closed pipes
       glam_jsonl.h     lines of JSON in and out
       glam_look.h      what the routers did with each token of a text
       glam_adapter.h   adapters beside a model: loaded, merged, written
       glam_run.h       a run that learns: texts, trainer, log
       glam_lora.h      training adapters: what they take, how far the routers came
       glam_keep.h      what a run must not lose
       glam_svg.h glam_history.h glam_byhand.h glam_page.h glam_charts.h: what a report is made of
       glam_curate.h    scores, near duplicates, overlap
       glam_documents.h documents from lines of JSON and plain text
       glam_turns.h     the turn formats of public models
       glam_rows.h      rows of JSON to fine-tune on: what is learnt of them, and what is not
       glam_texts.h     files as texts to learn from

   Everything goes through the public interface of glam.h.  Exit status: 0 done, 1 something is
   wrong with files or numbers, 2 with the command line, 128 + N stopped by signal N (130:
   Ctrl-C). */

#define _POSIX_C_SOURCE 200809L
#define GLAM_IMPLEMENTATION
#include "../glam.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#define HAVE_UNISTD 1
#endif
#ifdef _OPENMP
#include <omp.h>
#endif

#define GLAM_HUB_IMPLEMENTATION
#include "glam_hub.h"

#include "glam_options.h"
#include "glam_show.h"
#include "glam_files.h"
#include "glam_tokens.h"
#include "glam_ranks.h"
#include "glam_shape.h"
#include "glam_energy.h"
#include "glam_log.h"
#include "glam_tally.h"
#include "glam_stop.h"
#include "glam_jsonl.h"
#include "glam_curate.h"
#include "glam_documents.h"
#include "glam_turns.h"
#include "glam_rows.h"
#include "glam_texts.h"
#include "glam_look.h"
#include "glam_adapter.h"
#include "glam_run.h"
#include "glam_lora.h"
#include "glam_keep.h"

#include "glam_train.h"
#include "glam_race.h"
#include "glam_generate.h"
#include "glam_task.h"
#include "glam_eval.h"
#include "glam_route.h"
#include "glam_svg.h"
#include "glam_history.h"
#include "glam_byhand.h"
#include "glam_page.h"
#include "glam_charts.h"
#include "glam_report.h"
#include "glam_info.h"
#include "glam_tokenizer.h"
#include "glam_import.h"
#include "glam_chat.h"
#include "glam_data.h"
#include "glam_plan.h"
#include "glam_grow.h"

// == the table of commands ==================================================================

static const command commands[] = {
    {"train", "TEXT...", "learn from text files, or go on learning", TRAIN, run_train,
     "Ctrl-C, a closed terminal and kill save a checkpoint and say how to go on; a second Ctrl-C "
     "ends at once. When nobody reads the output any more (| head), the run goes on without it. A "
     "model that cannot be saved under its name is saved in the checkpoint's folder, in this one, "
     "in $TMPDIR or under another name, and the last words say where. An empty file among several "
     "texts is left out.\n"
     "Exit status: 0 done; 1 something went wrong, or is not where it was asked to be; 2 the "
     "command line; 128 + N stopped by signal N (130: Ctrl-C)."},
    {"race", "TEXT...", "a mixture against a dense model of the same work", RACE, run_race,
     "Both models see the same texts, recipe, seed and batches, in turns, and cost the same work "
     "per token. A race of 3 minutes takes 6 and some for evaluations; it says how much. When "
     "nobody reads the output any more, it ends, unless there is a --log. With --router twice, two "
     "mixtures that differ in their router alone run in place of the mixture and its twin."},
    {"generate", "MODEL", "write text", GENERATE, run_generate,
     "Into a file or a pipe go the prompt and the text, byte for byte. A terminal is spared what "
     "could upset it: controls are shown as \\x1b, bytes that are no UTF-8 as a sign."},
    {"eval", "MODEL TEXT|--task FILE", "the loss of a text, or the score of a task", EVAL, run_eval,
     "A row's options are scored as lm-evaluation-harness does; shots are drawn by --seed and the "
     "number of the row. A line of --out: {\"row\":0,\"option\":1,\"loglik\":-12.3,\"tokens\":9,"
     "\"chars\":9,\"bytes\":9,\"greedy\":false}, all of them of what follows the query, its "
     "delimiter included."},
    {"route", "MODEL TEXT|FILE|-", "which experts work on which token", ROUTE, run_route,
     route_note},
    {"report", "MODEL TEXT...", "a page that shows what every expert does", REPORT, run_report,
     report_note},
    {"tokenizer", "TEXT... | FILE", "learn pieces of words from texts", TOKENIZER, run_tokenizer,
     "The file is a tokenizer.json, which other programs read too; train --tokenizer takes it, and "
     "train --vocab N learns one on its own. It is stored with the model. With --show TEXT the "
     "file is a tokenizer.json, a tokenizer.model or a model, and nothing is learnt."},
    {"chat", "MODEL", "talk with a model that was trained to", CHAT, run_chat,
     "A line is a turn; the answer comes word by word and ends where the model ends it. What was said "
     "stays in the cache. Turns are written in the format whose marks the tokenizer has; marks in "
     "what you write are text, not marks. A system text that is not given is not invented."},
    {"upcycle", "MODEL", "a mixture grown from a dense model", UPCYCLE, run_upcycle,
     "Each expert is a copy of the dense layer and the router is new, so the loss stays what it was; "
     "train --from FILE goes on from there, at top-k times the work in those layers. The experts "
     "drift apart slowly: give it as many steps as the dense model had."},
    {"merge", "MODEL ADAPTER", "an adapter into the weights of its model", MERGE, run_merge,
     "The adapter is one of train --lora or a folder of PEFT. W becomes W + s A B, in f32, also where W "
     "was narrow; how far the logits of a text are from those before is printed."},
    {"import", "FOLDER", "a public model: llama, mixtral, olmoe ...", IMPORT, run_import,
     "Reads config.json, model.safetensors (whole or in shards; F32, F16, BF16) and tokenizer.json or "
     "tokenizer.model of the families llama, mistral, qwen3, mixtral, granitemoe, olmoe and "
     "qwen3_moe. A key of config.json that changes the mathematics and is not understood is "
     "refused by its name."},
    {"export", "MODEL", "write such a folder, for other programs", EXPORT, run_export,
     "Writes config.json, model.safetensors and tokenizer.json. Only models whose mathematics a "
     "public family has can be written: rotary positions, SwiGLU, no capacity. With --adapter the "
     "adapter alone is written: a folder that PEFT reads (experts one by one; of granitemoe, or where "
     "their ranks differ, stacked), or a file for llama.cpp."},
    {"info", "MODEL | --preset NAME", "sizes, memory and work, without loading", INFO, run_info,
     NULL},
    {"plan", "[PRESET | MODEL]", "what it would cost on which machine: memory, time, energy", PLAN,
     run_plan,
     "Without a model: the paper's table beside what is printed there, published systems beside "
     "what the formulas say, and the devices. Time is an interval: from everything sent while "
     "computing to nothing. A device of one's own is a file of lines \"flops 6e12\"; --calibrate "
     "writes one."},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static int unknown_command(const char *name)
{
    const char *best = NULL;
    int least = 100;
    for (int i = 0; i < COMMANDS; i++) nearer(name, commands[i].name, &best, &least);
    if (best) return complain(USAGE, "there is no command %s; did you mean %s?", name, best);
    return complain(USAGE, "there is no command %s; see %s help", name, program);
}

static int help(void)
{
    printf("glam %s: a mixture of experts that you can train on a laptop and look into\n\n",
           GLAM_VERSION);
    for (int i = 0; i < COMMANDS; i++)
        printf("    %s %-9s %-22s %s\n", program, commands[i].name, commands[i].words,
               commands[i].help);
    printf("    %s %-9s %-22s %s\n", program, "data", "VERB FILES...",
           "score, filter, mix, dedup, overlap: documents");
    printf("    %s help COMMAND                     its options\n\n", program);
    printf("Start with any text file:   %s train book.txt --minutes 2\n", program);
    return DONE;
}

// == main ===================================================================================

// Options are read where they stand; all other words move to the front of argv.
static int run_command(const command *c, int argc, char **argv)
{
    static settings s;
    int words = 0;
    for (int i = 2, used = 1, plain = 0; i < argc; i += used) {
        used = 1;
        if (!plain && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
            help_command(c);
            return DONE;
        }
        if (!plain && strcmp(argv[i], "--") == 0) plain = 1;
        else if (!plain && strncmp(argv[i], "--", 2) == 0) {
            if (read_option(c, &s, argv + i, argc - i, &used)) return USAGE;
        } else if (!plain && argv[i][0] == '-' && argv[i][1])
            return complain(USAGE, "there is no option %s; options begin with two dashes (a file "
                            "of that name: ./%s)", argv[i], argv[i]);
        else if (!*argv[i]) return complain(USAGE, "a word of the command line is empty");
        else argv[words++] = argv[i];
    }
    if (check_together(&s)) return USAGE;
    int status = c->run(&s, argv, words);
    end_reservations();
    return status;
}

// A file opened later must not get the number of a standard stream that is closed: what is
// printed would go into it.
static void fill_streams(void)
{
#ifdef HAVE_UNISTD
    for (int i = 0; i < 3; i++)
        if (fcntl(i, F_GETFD) < 0 && open("/dev/null", i == 1 ? O_RDONLY : O_RDWR) != i) return;
#endif
}

int main(int argc, char **argv)
{
    const command *c = NULL;
    program = argc > 0 && argv[0] ? argv[0] : program;
    fill_streams();
#ifdef HAVE_UNISTD
    show_begin(isatty(1));
#else
    show_begin(0);
#endif
    if (argc < 2) return finish_output(help());
    int asks = strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 ||
               strcmp(argv[1], "-h") == 0;
    if (strcmp(argv[1], "version") == 0 || strcmp(argv[1], "--version") == 0) {
        printf("glam %s\n", GLAM_VERSION);
        return finish_output(DONE);
    }
    if (strcmp(argv[asks && argc > 2 ? 2 : 1], "data") == 0)
        return finish_output(data_main(argc, argv, asks));
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(argv[asks && argc > 2 ? 2 : 1], commands[i].name) == 0) c = &commands[i];
    if (asks && argc < 3) return finish_output(help());
    if (!c) return unknown_command(argv[asks ? 2 : 1]);
    if (asks) help_command(c);
    return finish_output(asks ? DONE : run_command(c, argc, argv));
}
