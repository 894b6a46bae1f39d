/* Every test in one translation unit, so that private functions can be looked at too.
   Compiles as C99 and as C++11.  Usage: all [PREFIX...]   for example: all moe attention */

// ctime, dirent and fork-free POSIX; before any system header, so that -std=c99 shows them too.
#if !defined(_WIN32) && !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif

#include <errno.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>
#ifdef _WIN32
#include <io.h>
#endif

// The sync of a file or folder number test_sync_at (from 1; 0: none) fails so.
static int test_sync_at, test_sync_errno;

static int test_sync(int file)
{
    if (test_sync_at && --test_sync_at == 0) {
        errno = test_sync_errno;
        return -1;
    }
#ifdef _WIN32
    return _commit(file);
#else
    return fsync(file);
#endif
}
#define GLAM__FSYNC test_sync
#define GLAM__WORTH 0      // small loops too run on all workers here
#ifndef GLAM_ASSERT
#define GLAM_ASSERT(c) ((c) ? (void)0 : abort())
#endif
#include "amx.h"
#define GLAM_IMPLEMENTATION
#include "../glam.h"

#include "test.h"
#include "helpers.h"
#include "threads_comm.h"

#include "test_01_base.c"
#include "test_02_threads.c"
#include "test_03_comm.c"
#include "test_04_random.c"
#include "test_05_kernels.c"
#include "test_06_simd.c"
#include "test_07_context.c"
#include "test_08_tensor.c"
#include "test_09_autograd.c"
#include "test_11_ops.c"
#include "test_12_attention.c"
#include "test_13_ffn.c"
#include "test_14_moe.c"
#include "test_15_model.c"
#include "test_16_text.c"
#include "test_17_generate.c"
#include "test_18_data.c"
#include "test_19_train.c"
#include "test_20_evaluate.c"
#include "test_21_files.c"
#include "test_22_plan.c"
#include "test_curate.c"
#include "test_places.c"
#include "test_extremes.c"
#include "test_golden.c"
#include "test_mesh.c"
#include "test_routers.c"
#include "test_lora.c"
#include "test_narrow.c"
#include "test_corners.c"
#include "test_refused.c"
#include "test_odd_input.c"

// For run.sh and mpi.sh: the hash of a short training run, to compare builds with each other; hashes of
// runs on a mesh of threads; and whether an instruction set can be had here.
static int all_ask(int argc, char **argv)
{
    if (!strcmp(argv[1], "--hash")) {
        printf("%016llx\n", (unsigned long long)train_hash(0, 0, 0, 0, NULL));
        return 0;
    }
    if (!strcmp(argv[1], "--mesh")) return mesh_print_hashes(argc > 2 ? argv[2] : "1x1");
    glam_options options = glam_options_default();
    options.simd = argc > 2 ? argv[2] : "";
    glam_ctx *ctx = glam_open(&options);
    int missing = glam_error(ctx) != GLAM_OK;
    glam_close(ctx);
    return missing;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strncmp(argv[1], "--", 2)) return all_ask(argc, argv);
    test__open(argc, argv);
    test_01_base();
    test_02_threads();
    test_03_comm();
    test_04_random();
    test_05_kernels();
    test_06_simd();
    test_07_context();
    test_08_tensor();
    test_09_autograd();
    test_11_ops();
    test_12_attention();
    test_13_ffn();
    test_14_moe();
    test_15_model();
    test_16_text();
    test_17_generate();
    test_18_data();
    test_19_train();
    test_20_evaluate();
    test_21_files();
    test_22_plan();
    test_curate();
    test_places();
    test_extremes();
    test_golden();
    test_mesh();
    test_routers();
    test_lora();
    test_narrow();
    test_corners();
    test_refused();
    test_odd_input();
    return test__close();
}
