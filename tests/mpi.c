/* The tests of the mesh under MPI; tests/mpi.sh runs it and judges what it prints.

       mpi hash XxY[s]                  hashes of every case, as "all --mesh XxY" prints them
       mpi first FROM LATER MODEL       one rank: a checkpoint, ten steps later, the model
       mpi again XxY[s] FROM SAVE LATER MODEL   the same from the checkpoint, on a mesh
       mpi trouble XxY[s] KIND SAVE     rank 1 is killed (kill), leaves (leave), sleeps (sleep), has another
                                        recipe (recipe), calls what nobody else does (skip, other), is
                                        killed while all save (saving); or its cable is cut (link)
       mpi load FILE                    one rank: how many steps this checkpoint has */

#if !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE      // usleep
#endif
#include <float.h>
#include <math.h>
#include <mpi.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/time.h>
#include <unistd.h>

#define GLAM_IMPLEMENTATION
#include "../glam.h"

#include "test.h"
#include "helpers.h"
#include "mesh.h"

#define MPI_DEADLINE 3.0               // seconds, where something is to go wrong

static double mpi_now(void)
{
    return MPI_Wtime();
}

// The library ends no process; this program ends the job.  MPICH's abort waits for its launcher, which
// nobody reaches when the cable is cut: the alarm ends this process then.
static void mpi_or_abort(glam_status error, const char *text, int rank, double since)
{
    if (error == GLAM_OK) return;
    printf("rank %d after %.1f s: %s\n", rank, mpi_now() - since, text);
    fflush(stdout);
    signal(SIGALRM, SIG_DFL);
    alarm(1);
    MPI_Abort(MPI_COMM_WORLD, 75);
}

static void mpi_hash(glam_comm *comm, mesh_size m)
{
    for (int i = 0; i < MESH_CASES; i++) {
        static mesh_job j;
        mesh_job_init(&j, &mesh_cases[i], m, 8, MESH_HASH_STEPS);
        mesh_train(comm, &j);
        if (comm->rank == 0) mesh_print_hash(&j);
        mesh_job_free(&j);
    }
}

// paths: from, save, later, model; comm NULL: make the first three of them.
static void mpi_files(glam_comm *comm, mesh_size m, char **path)
{
    static mesh_file_job j;
    int rank = comm ? comm->rank : 0;
    j.mesh = m;
    j.first = comm ? 0 : 3;
    j.from = comm ? path[0] : NULL;
    j.save = comm ? path[1] : path[0];
    j.later = path[comm ? 2 : 1];
    j.model = path[comm ? 3 : 2];
    mesh_file_rank(comm, &j);
    mpi_or_abort(j.out[rank].error, j.out[rank].text, rank, mpi_now());
    if (rank == 0) printf("%d steps\n", j.out[0].steps);
}

typedef struct mpi_host { const char *kind; int polls; } mpi_host;

// Polled between layers: in the middle of a step something happens to this process.
static int mpi_poll(void *user)
{
    mpi_host *h = (mpi_host *)user;
    if (!h->polls || --h->polls) return 0;
    if (!strcmp(h->kind, "kill")) raise(SIGKILL);
    if (!strcmp(h->kind, "leave")) _exit(7);
    if (!strcmp(h->kind, "sleep")) for (;;) pause();
    return 0;
}

static void mpi_die(int number)
{
    (void)number;
    raise(SIGKILL);
}

// From now on within a few milliseconds, whatever this rank does then.
static void mpi_die_soon(void)
{
    struct itimerval t;
    memset(&t, 0, sizeof t);
    t.it_value.tv_usec = 1 + (suseconds_t)((unsigned)getpid() * 2654435761u % 30000);
    signal(SIGALRM, mpi_die);
    setitimer(ITIMER_REAL, &t, NULL);
}

static void mpi_trouble(glam_comm *comm, mesh_size m, const char *kind, const char *path)
{
    int odd = comm->rank == 1;
    const mesh_case *of = mesh_case_of("balanced");
    mpi_host host = { kind, 0 };
    glam_options options = mesh_options(comm, m, 8);
    glam_config c = mesh_config(of);
    int link = strcmp(kind, "link") == 0, saving = strcmp(kind, "saving") == 0;
    glam_recipe recipe = mesh_recipe(of, 8, link || saving ? 100000 : 40);
    double since = mpi_now();
    if (odd && !strcmp(kind, "recipe")) recipe.lr *= 2;
    options.cancel = mpi_poll;
    options.cancel_user = &host;
    glam_ctx *ctx = glam_open(&options);
    glam_text *text = mesh_text(ctx), *train = NULL, *valid = NULL;
    glam_text_split(text, 0.2f, &train, &valid);
    glam_trainer *t = glam_trainer_new(glam_model_new(ctx, &c), train, valid, &recipe);
    for (int step = 0; glam_train_step(t, NULL); step++) {
        if (step == 2 || (saving && step > 3)) glam_save_checkpoint(t, path);
        if (step == 3 && odd && saving) mpi_die_soon();
        if (step == 3 && odd && !strcmp(kind, "other")) glam_save_checkpoint(t, path);
        if (link && step >= 3) {                   // until somebody cuts the cable
            if (step == 3 && !comm->rank) printf("the link may go\n");
            fflush(stdout);
            usleep(5000);
        }
        if (step == 3 && odd) host.polls = 3;
        if (step == 3 && odd && !strcmp(kind, "skip")) glam_validate(t);   // where nobody else is
        since = mpi_now();
    }
    mpi_or_abort(glam_error(ctx), glam_error_text(ctx), comm->rank, since);
    glam_close(ctx);
}

static void mpi_load(const char *path)
{
    glam_ctx *ctx = glam_open(NULL);
    glam_text *text = mesh_text(ctx), *train = NULL, *valid = NULL;
    glam_text_split(text, 0.2f, &train, &valid);
    glam_trainer *t = glam_load_checkpoint(ctx, path, train, valid);
    if (t) printf("checkpoint of step %d\n", glam_trainer_done(t));
    else printf("%s\n", glam_error_text(ctx));
    glam_close(ctx);
}

int main(int argc, char **argv)
{
    int level;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
    glam_comm comm = glam_comm_mpi(MPI_COMM_WORLD);
    const char *what = argc > 2 ? argv[1] : "";
    if (!strcmp(what, "hash")) mpi_hash(&comm, mesh_read(argv[2]));
    else if (!strcmp(what, "first") && argc == 5) mpi_files(NULL, mesh_read("1x1"), argv + 2);
    else if (!strcmp(what, "again") && argc == 7) mpi_files(&comm, mesh_read(argv[2]), argv + 3);
    else if (!strcmp(what, "load")) mpi_load(argv[2]);
    else if (!strcmp(what, "trouble") && argc == 5) {
        comm.timeout_s = MPI_DEADLINE;
        mpi_trouble(&comm, mesh_read(argv[2]), argv[3], argv[4]);
    } else {
        printf("mpi: what is to be done?  See the head of tests/mpi.c\n");
    }
    comm.release(&comm);
    MPI_Finalize();
    return 0;
}
