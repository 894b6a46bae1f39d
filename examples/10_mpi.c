/* 10_mpi - one model on many machines: experts, batch and weights shared out over a mesh of ranks.

   You learn: glam_comm_mpi, the mesh X x Y, what it holds per rank, what is the same on every
   number of ranks, and how a job ends when one rank fails.

   Build: mpicc -O2 -DGLAM_MPI examples/10_mpi.c -o mpi -lm && mpirun -n 2 ./mpi

   mpirun -n 4 ./mpi 2x2 200 README.md: two ranks share the experts and the batch (X), two the
   heads, widths and vocabulary (Y), for 200 steps.  "2x2s" splits the other weights over X as well.
   MPICH: mpicc.mpich and mpiexec.mpich -n 2.  More ranks than cores: mpirun --oversubscribe.

   Prints:
       mesh 2x1: 2 ranks, ... of ... million parameters held by each
       step   10  loss ...
       step   40  loss ...
       sent by rank 0 in a step: rows ... kB, gradients ... kB, in all ... kB
       saved mpi.safetensors: any mesh loads it, and one machine */

#define GLAM_IMPLEMENTATION
#include "../glam.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// The library ends no process: it says what went wrong, and the program ends the job.
static void or_abort(const glam_ctx *ctx, int rank)
{
    if (glam_error(ctx) == GLAM_OK) return;
    fprintf(stderr, "rank %d: %s\n", rank, glam_error_text(ctx));
    alarm(2);                       // an abort whose launcher is out of reach may never return
    MPI_Abort(MPI_COMM_WORLD, 75);
}

// Parameters whose values lie on this rank.
static double held(const glam_model *model)
{
    double sum = 0;
    const glam_tensor *t;
    for (int i = 0; (t = glam_model_tensor_at(model, i)) != NULL; i++) sum += (double)glam_size(t);
    return sum;
}

int main(int argc, char **argv)
{
    int level;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);   // glam calls MPI from one thread
    glam_comm comm = glam_comm_mpi(MPI_COMM_WORLD);

    glam_options options = glam_options_default();
    options.comm      = &comm;
    options.threads   = 1;                              // per rank; with -fopenmp there may be more
    options.mesh_x    = comm.size;                      // X: batch parts and experts
    options.mesh_y    = 1;                              // Y: heads, hidden widths, vocabulary
    if (argc > 1) sscanf(argv[1], "%dx%d", &options.mesh_x, &options.mesh_y);
    if (argc > 1) options.mesh_store = strchr(argv[1], 's') != NULL;
    glam_ctx *ctx = glam_open(&options);
    or_abort(ctx, comm.rank);

    // From here on every rank makes the same calls, with the same arguments.
    glam_text *text = glam_text_open(ctx, argc > 3 ? argv[3] : "README.md", NULL);
    glam_config size = glam_config_default();
    size.moe.experts = 8;                               // rank x holds 8 / X of them
    glam_model *model = glam_model_new(ctx, &size);

    glam_recipe recipe = glam_recipe_default();
    recipe.steps      = argc > 2 ? atoi(argv[2]) : 40;
    recipe.batch      = 16;
    recipe.accumulate = 8;                              // parts of the batch, shared out over X
    recipe.warmup     = 10;
    glam_trainer *trainer = glam_trainer_new(model, text, NULL, &recipe);
    or_abort(ctx, comm.rank);                           // what does not divide is named
    if (comm.rank == 0)
        printf("mesh %dx%d: %d ranks, %.2f of %.2f million parameters held by each\n",
               options.mesh_x, options.mesh_y, comm.size, held(model) / 1e6,
               (double)glam_model_count(model, NULL) / 1e6);

    glam_report now;
    glam_traffic before = glam_sent(ctx), after = before;
    while (glam_train_step(trainer, &now)) {            // reports are equal on all ranks
        if (now.step == 1) after = glam_sent(ctx);
        if (comm.rank == 0 && now.step % 10 == 0) {
            // with Y = 1 the loss of every step has the bits of one rank
            printf("step %4d  loss %.6f  %.0f tokens/s\n", now.step, now.loss,
                   now.tokens_per_second);
            fflush(stdout);
        }
    }
    or_abort(ctx, comm.rank);
    if (comm.rank == 0)
        printf("sent by rank 0 in a step: rows %.1f kB, gradients %.1f kB, in all %.1f kB\n",
               (double)(after.dispatch - before.dispatch) / 1e3,
               (double)(after.gradients - before.gradients) / 1e3,
               (double)(after.total - before.total) / 1e3);

    // One file, written by all ranks together; any mesh, or one machine, loads it.
    glam_save(model, "mpi.safetensors");
    or_abort(ctx, comm.rank);
    if (comm.rank == 0) printf("saved mpi.safetensors: any mesh loads it, and one machine\n");

    glam_close(ctx);
    comm.release(&comm);                                // the copy of MPI_COMM_WORLD
    MPI_Finalize();
    return 0;
}
