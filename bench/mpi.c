/* mpi.c - training on processes of one machine, and sums over them.  bench/mpi.sh builds and runs it.

   mpi step EXPERTS PARTS SECONDS    tokens per second of the shape small-moe8 (or 32 experts)
   mpi sum FLOATS                    microseconds of the ordered all-reduce and of MPI_Allreduce
   Rank 0 prints one line. */

#define GLAM_IMPLEMENTATION
#include "../glam.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void die(const char *why)
{
    fprintf(stderr, "mpi: %s\n", why);
    MPI_Abort(MPI_COMM_WORLD, 1);
}

static glam_ctx *open_ranks(const glam_comm *comm)
{
    glam_options options = glam_options_default();
    options.comm = comm;
    options.threads = 1;
    glam_ctx *ctx = glam_open(&options);
    if (glam_error(ctx)) die(glam_error_text(ctx));
    return ctx;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void step(const glam_comm *comm, int experts, int parts, double seconds)
{
    enum { MOST = 1000 };
    static double took[MOST];
    glam_ctx *ctx = open_ranks(comm);
    glam_config c = glam_config_default();
    glam_recipe recipe = glam_recipe_default();
    glam_report now;
    int n = 0;
    c.layers = 6;
    c.d_model = 384;
    c.heads = 6;
    c.hidden = 1536;
    c.context = 256;
    c.moe.experts = experts;
    c.moe.hidden = 1536;
    c.moe.activation = GLAM_RELU;
    recipe.batch = 8;
    recipe.accumulate = parts;
    recipe.steps = MOST;
    glam_text *text = glam_text_open(ctx, "README.md", NULL);
    glam_trainer *t = glam_trainer_new(glam_model_new(ctx, &c), text, NULL, &recipe);
    for (int more = 1; more && glam_train_step(t, &now); ) {
        if (now.step > 2) took[n++] = recipe.batch * c.context / now.tokens_per_second;
        double spent = now.seconds;               // every rank goes by the clock of the first
        MPI_Bcast(&spent, 1, MPI_DOUBLE, 0, MPI_COMM_WORLD);
        more = spent < seconds || n < 3;
    }
    if (glam_error(ctx)) die(glam_error_text(ctx));
    qsort(took, (size_t)n, sizeof *took, by_size);
    if (comm->rank == 0)
        printf("%.1f\n", recipe.batch * c.context / took[n / 2]);
    glam_close(ctx);
}

static void sum(const glam_comm *comm, size_t n)
{
    enum { TIMES = 31 };
    double ours[TIMES], theirs[TIMES];
    glam_ctx *ctx = open_ranks(comm);
    uint64_t counter = 0;
    float *x = (float *)calloc(n, sizeof *x), *y = (float *)calloc(n, sizeof *y);
    if (!x || !y || !ctx->mesh) die("two ranks are wanted, and some memory");
    glam__agree(ctx, "bench", 0);
    for (int i = 0; i < TIMES; i++) {              // in turns
        MPI_Barrier(MPI_COMM_WORLD);
        double begin = MPI_Wtime();
        glam__all_reduce(ctx, &ctx->mesh->world, &counter, x, n);
        ours[i] = MPI_Wtime() - begin;
        MPI_Barrier(MPI_COMM_WORLD);
        begin = MPI_Wtime();
        MPI_Allreduce(MPI_IN_PLACE, y, (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
        theirs[i] = MPI_Wtime() - begin;
    }
    qsort(ours, TIMES, sizeof *ours, by_size);
    qsort(theirs, TIMES, sizeof *theirs, by_size);
    if (comm->rank == 0) printf("%.1f %.1f\n", 1e6 * ours[TIMES / 2], 1e6 * theirs[TIMES / 2]);
    free(x);
    free(y);
    glam_close(ctx);
}

int main(int argc, char **argv)
{
    int level;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
    glam_comm comm = glam_comm_mpi(MPI_COMM_WORLD);
    if (argc == 5 && !strcmp(argv[1], "step"))
        step(&comm, atoi(argv[2]), atoi(argv[3]), atof(argv[4]));
    else if (argc == 3 && !strcmp(argv[1], "sum"))
        sum(&comm, (size_t)atol(argv[2]));
    else die("see the head of bench/mpi.c");
    comm.release(&comm);
    MPI_Finalize();
    return 0;
}
