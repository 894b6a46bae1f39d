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

       glam_options.h   the table of options: parsing, help, hints
       glam_show.h      numbers with units, text, colours, bars
       glam_files.h     files that will be written
       glam_ranks.h     many machines
       glam_shape.h     options into configuration and recipe
       glam_log.h       lines of JSON
       glam_look.h      which expert takes which token
       glam_run.h       a run that learns: texts, trainer, log

   Everything goes through the public interface of glam.h.  Exit status: 0 done, 1 something is
   wrong with files or numbers, 2 with the command line, 130 stopped by Ctrl-C. */

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

#include "glam_options.h"
#include "glam_show.h"
#include "glam_files.h"
#include "glam_ranks.h"
#include "glam_shape.h"
#include "glam_log.h"
#include "glam_look.h"
#include "glam_run.h"

#include "glam_train.h"
#include "glam_race.h"
#include "glam_generate.h"
#include "glam_eval.h"
#include "glam_route.h"
#include "glam_info.h"

// == the table of commands ==================================================================

static const command commands[] = {
    {"train", "TEXT...", "learn from text files, or go on learning", TRAIN, run_train},
    {"race", "TEXT...", "a mixture against a dense model of the same work", RACE, run_race},
    {"generate", "MODEL", "write text", GENERATE, run_generate},
    {"eval", "MODEL TEXT", "loss and bits per byte of a text", EVAL, run_eval},
    {"route", "MODEL \"text\"", "which experts work on which token", ROUTE, run_route},
    {"info", "MODEL | --preset NAME", "sizes, memory and work, without loading", INFO, run_info},
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
        printf("    %s %-8s %-22s %s\n", program, commands[i].name, commands[i].words,
               commands[i].help);
    printf("    %s help COMMAND                   its options\n\n", program);
    printf("Start with any text file:   %s train book.txt --minutes 2\n", program);
    return DONE;
}

// == main ===================================================================================

int main(int argc, char **argv)
{
    static settings s;
    int words = 0;
    program = argc > 0 && argv[0] ? argv[0] : program;
#ifdef HAVE_UNISTD
    show_begin(isatty(1));
#else
    show_begin(0);
#endif
    if (argc < 2) return help();
    int asks = strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 ||
               strcmp(argv[1], "-h") == 0;
    const command *c = NULL;
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(argv[asks && argc > 2 ? 2 : 1], commands[i].name) == 0) c = &commands[i];
    if (asks && argc < 3) return help();
    if (!c) return unknown_command(argv[asks ? 2 : 1]);
    if (asks) {
        help_command(c);
        return DONE;
    }
    // Options are read where they stand; all other words move to the front of argv.
    for (int i = 2, used = 1, plain = 0; i < argc; i += used) {
        used = 1;
        if (!plain && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
            help_command(c);
            return DONE;
        }
        if (!plain && strcmp(argv[i], "--") == 0) plain = 1;
        else if (!plain && strncmp(argv[i], "--", 2) == 0) {
            if (read_option(c, &s, argv + i, argc - i, &used)) return USAGE;
        } else argv[words++] = argv[i];
    }
    return c->run(&s, argv, words);
}
