/* glam_ranks.h - the tool on many machines: train --mesh XxY under mpirun.  All ranks run the same
   program and print the same lines, of which those of rank 0 are seen.  A part of glam.c. */

#ifndef GLAM_RANKS_H
#define GLAM_RANKS_H

enum { MOST_RANKS = 1 << 24 };
static glam_comm ranks;                             // size 0: alone

// "4x2" into X and Y.
static int read_mesh(const settings *s, int *X, int *Y)
{
    uint64_t x = 0, y = 0;
    const char *end = read_whole(s->mesh, MOST_RANKS, &x);
    if (end && *end == 'x') end = read_whole(end + 1, MOST_RANKS, &y);
    *X = (int)x;
    *Y = (int)y;
    if (end && !*end && x > 0 && y > 0 && x * y <= MOST_RANKS) return DONE;
    return complain(USAGE, "--mesh %s: XxY is wanted, such as 4x2 for 8 ranks, and at most %d "
                    "ranks", s->mesh, MOST_RANKS);
}

// A mesh that is only planned: bytes of rank 0, and nobody to talk to.
static int plan_ranks(const settings *s, glam_options *o)
{
    if (GIVEN(mesh_store) && !GIVEN(mesh))
        return complain(USAGE, "--mesh-store wants a --mesh");
    if (!GIVEN(mesh)) return DONE;
    if (read_mesh(s, &o->mesh_x, &o->mesh_y)) return USAGE;
    ranks.size = o->mesh_x * o->mesh_y;
    o->comm = &ranks;
    o->mesh_store = s->mesh_store;
    return DONE;
}

#ifdef GLAM_MPI
// mpirun without --mesh would train the same model many times over, into the same files.
static int forgot_mesh(void)
{
    const char *open_mpi = getenv("OMPI_COMM_WORLD_SIZE"), *mpich = getenv("PMI_SIZE");
    int size = atoi(open_mpi ? open_mpi : mpich ? mpich : "1");
    if (size < 2) return DONE;
    return complain(USAGE, "mpirun started %d processes: --mesh %dx1 lets them share the work",
                    size, size);
}

static int join_ranks(const settings *s, glam_options *o)
{
    int level, status = plan_ranks(s, o);
    if (status != DONE || !GIVEN(mesh)) return status != DONE ? status : forgot_mesh();
    MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level);
    ranks = glam_comm_mpi(MPI_COMM_WORLD);
    rank = ranks.rank;
    if (rank > 0 && !freopen("/dev/null", "w", stdout)) return FAILED;
    if (o->mesh_x * o->mesh_y == ranks.size) return DONE;
    return complain(USAGE, "--mesh %s wants %d ranks, but there are %d: mpirun -n %d", s->mesh,
                    o->mesh_x * o->mesh_y, ranks.size, o->mesh_x * o->mesh_y);
}

// When something is wrong here the others must not wait for it.
static void abort_ranks(int status)
{
    fflush(stdout);
    fflush(stderr);
    if (rank < 0 || status == DONE || status >= 128) return;
#ifdef HAVE_UNISTD
    signal(SIGALRM, SIG_DFL);          // MPICH's abort never returns where its launcher is out of
    alarm(2);                          // reach: then this ends the rank
#endif
    MPI_Abort(MPI_COMM_WORLD, status);
}

static void leave_ranks(void)
{
    if (rank < 0) return;
    ranks.release(&ranks);
    MPI_Finalize();
}
#else
static int join_ranks(const settings *s, glam_options *o)
{
    int status = plan_ranks(s, o);
    if (status != DONE || !GIVEN(mesh)) return status;
    return complain(USAGE, "--mesh: this program was built without MPI; build it with\n"
                    "  mpicc -O2 -fopenmp -DGLAM_MPI examples/glam.c -o glam -lm\n"
                    "and start it with mpirun -n %d", ranks.size);
}

static void abort_ranks(int status) { (void)status; }
static void leave_ranks(void) {}
#endif

#endif
