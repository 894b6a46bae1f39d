/* Room 03: what ranks say to each other, over ranks as threads.  Kinds: value (sums against a tree
   written here), same bits (on 1, 2, 4, 8 ranks), failure (each with its own words). */

static void comm_one_rank(void)
{
    glam_options options = test_options();
    glam_comm comm;
    memset(&comm, 0, sizeof comm);
    comm.size = 1;
    options.comm = &comm;
    glam_ctx *ctx = glam_open(&options);
    comm.size = 9;                         // it was copied
    CHECK(glam_zeros(ctx, glam_dim1(2)) != NULL);
    CHECK(ctx->mesh == NULL);              // one rank has no mesh and pays for none
    CHECK(glam_sent(ctx).total == 0);
    CLOSE_CLEAN(ctx);
}

static void comm_refuses(int size, int rank, int X, int Y, double factor, const char *part)
{
    glam_options options = test_options();
    glam_comm comm;
    memset(&comm, 0, sizeof comm);
    comm.size = size;
    comm.rank = rank;
    options.comm = size ? &comm : NULL;
    options.mesh_x = X;
    options.mesh_y = Y;
    options.receive_factor = factor;
    glam_ctx *ctx = glam_open(&options);
    ERROR_IS(ctx, GLAM_ERR_VALUE, part);
    glam_close(ctx);
}

static void comm_refusals(void)
{
    comm_refuses(4, 4, 0, 0, 4, "rank 4 of 4");
    comm_refuses(4, -1, 0, 0, 4, "rank -1 of 4");
    comm_refuses(4, 0, 4, 2, 4, "mesh_x 4 by mesh_y 2 needs 8 ranks");
    comm_refuses(4, 0, 0, 3, 4, "mesh_y 3");
    comm_refuses(0, 0, 2, 1, 4, "mesh_x 2");
    comm_refuses(6, 0, 6, 1, 4, "mesh_x is 6; it must be a power of two");
    comm_refuses(3, 0, 0, 0, 4, "power of two");
    comm_refuses(2, 0, -2, -1, 4, "not negative");
    comm_refuses(2, 0, 2, 1, 0.5, "receive_factor must be at least 1");
    comm_refuses(2, 0, 2, 1, HUGE_VAL - HUGE_VAL, "receive_factor must be at least 1");
}

#ifdef THREADS_COMM

// Results of ranks; CHECK looks at them when all threads are gone.
typedef struct comm_job {
    int    kind, n, parts;
    float *all;                        // [parts,n] what is to be added up
    float *out[THREADS_MOST];          // of each rank
    int    good[THREADS_MOST];
    glam_status error[THREADS_MOST];
    char   text[THREADS_MOST][512];
    double seconds[THREADS_MOST];
} comm_job;

static glam_ctx *comm_open(glam_comm *comm)
{
    glam_options options = test_options();
    options.comm = comm;
    options.threads = 1;
    if (comm->size & (comm->size - 1)) options.mesh_x = 1;
    return glam_open(&options);
}

static void comm_note(comm_job *j, int rank, glam_ctx *ctx)
{
    j->error[rank] = glam_error(ctx);
    snprintf(j->text[rank], sizeof j->text[rank], "%s", glam_error_text(ctx));
    glam_close(ctx);
}

// --- the transport itself ------------------------------------------------------------------------

// Rank a sends (a * size + b) % 5 bytes to rank b, so that some send nothing; many times over.
static int comm_talk(glam_comm *c, int round)
{
    unsigned char out[THREADS_MOST][8], in[THREADS_MOST][8];
    const void *send[THREADS_MOST];
    void *recv[THREADS_MOST];
    size_t to[THREADS_MOST], from[THREADS_MOST];
    int good = 1;
    for (int p = 0; p < c->size; p++) {
        memset(out[p], 16 * c->rank + p + round, 8);
        send[p] = out[p];
        recv[p] = in[p];
        to[p] = (size_t)((c->rank * c->size + p + round) % 5);
        from[p] = (size_t)((p * c->size + c->rank + round) % 5);
    }
    if (c->exchange(c, send, to, recv, from)) return 0;
    for (int p = 0; p < c->size; p++)
        for (size_t i = 0; i < from[p]; i++)
            good &= in[p][i] == (unsigned char)(16 * p + c->rank + round);
    return good;
}

static void comm_transport_rank(glam_comm *comm, void *arg)
{
    comm_job *j = (comm_job *)arg;
    glam_comm rows, columns;
    int good = 1, half = comm->rank / 2;
    for (int round = 0; round < 20; round++) good &= comm_talk(comm, round);
    good &= comm->split(comm, half, -comm->rank, &rows) == 0;          // the higher rank comes first
    good &= comm->split(comm, comm->rank % 2, comm->rank, &columns) == 0;
    good &= rows.size == 2 && rows.rank == 1 - comm->rank % 2;
    good &= columns.size == comm->size / 2 && columns.rank == half;
    for (int round = 0; round < 20; round++) good &= comm_talk(&rows, round) && comm_talk(&columns, round);
    rows.release(&rows);
    columns.release(&columns);
    j->good[comm->rank] = good;
}

static void comm_transport(void)
{
    for (int size = 2; size <= 8; size *= 2) {
        static comm_job j;
        threads_world w = threads_world_of(size);
        memset(&j, 0, sizeof j);
        threads_run(&w, comm_transport_rank, &j);
        for (int r = 0; r < size; r++) CHECK(j.good[r]);
        CHECK(w.splits == 2 * size && w.releases == 2 * size);
    }
}

static void comm_lonely_rank(glam_comm *comm, void *arg)
{
    comm_job *j = (comm_job *)arg;
    int failed = 0;
    for (int round = 0; round < 5 && !failed; round++) failed = !comm_talk(comm, round);
    j->good[comm->rank] = failed;
    j->error[comm->rank] = (glam_status)comm->peer;
}

// Who dies is missed within the deadline; who is slow is waited for.
static void comm_transport_faults(void)
{
    static const threads_fault fault[3] = { THREADS_DIE, THREADS_SKIP, THREADS_SLOW };
    for (int i = 0; i < 3; i++) {
        static comm_job j;
        threads_world w = threads_world_of(2);
        memset(&j, 0, sizeof j);
        w.timeout_s = 0.4;
        w.fault = fault[i];
        w.fault_rank = 1;
        w.fault_at = 3;
        w.fault_s = 0.1;
        double took = threads_run(&w, comm_lonely_rank, &j);      // a busy machine may take long
        CHECK(j.good[0] == (i < 2) && (i == 2 || (int)j.error[0] == 1));
        CHECK(took > (i < 2 ? 0.3 : 0.09));
    }
}

// --- sums ----------------------------------------------------------------------------------------

// The sum of rows [from,to) as a binary tree, the lower half on the left; to - from is a power of two.
static void comm_tree(const float *all, int n, int from, int to, float *out)
{
    if (to - from == 1) {
        memcpy(out, all + (size_t)from * (size_t)n, (size_t)n * sizeof(float));
        return;
    }
    float *right = (float *)malloc((size_t)n * sizeof(float) + 1);
    comm_tree(all, n, from, (from + to) / 2, out);
    comm_tree(all, n, (from + to) / 2, to, right);
    for (int i = 0; i < n; i++) out[i] += right[i];
    free(right);
}

enum { COMM_ALL_REDUCE, COMM_REDUCE_SCATTER, COMM_ROWS, COMM_BUCKET, COMM_KINDS };
enum { COMM_WIDTH = 3 };               // of the rows that COMM_ROWS shares out whole

static void comm_sum_rank(glam_comm *comm, void *arg)
{
    comm_job *j = (comm_job *)arg;
    glam_ctx *ctx = comm_open(comm);
    int r = comm->rank, own = j->parts / comm->size, unit = j->kind == COMM_ROWS ? COMM_WIDTH : 1;
    uint64_t counter = 0;
    float *x = j->out[r];
    comm_tree(j->all, j->n, r * own, (r + 1) * own, x);
    glam__agree(ctx, "test", 0);
    if (j->kind == COMM_ALL_REDUCE && ctx->mesh) {
        glam__all_reduce(ctx, &ctx->mesh->world, &counter, x, (size_t)j->n);
    } else if (j->kind != COMM_BUCKET && ctx->mesh) {
        glam__reduce_scatter(ctx, &ctx->mesh->world, &counter, x, (size_t)(j->n / unit), (size_t)unit);
    } else if (ctx->mesh) {
        glam__bucket b;
        memset(&b, 0, sizeof b);
        b.ctx = ctx;
        b.c = &ctx->mesh->world;
        b.counter = &counter;
        int at = 0;
        for (int piece = 1; at < j->n; at += piece++)        // 1, 2, 3, .. elements
            glam__bucket_add(&b, x + at, (size_t)(piece < j->n - at ? piece : j->n - at));
        glam__bucket_flush(&b);
    }
    // each sends its slice of the others, and then, but for reduce_scatter, its own to all
    size_t rows = (size_t)(j->n / unit);
    size_t mine = (glam__share(rows, r + 1, comm->size) - glam__share(rows, r, comm->size)) * (size_t)unit;
    size_t want = ((size_t)j->n - mine + (j->kind ? 0 : mine * (size_t)(comm->size - 1))) * sizeof(float);
    j->good[r] = j->kind == COMM_BUCKET || counter == want;
    comm_note(j, r, ctx);
}

static void comm_sum(int size, int parts, int n, int kind)
{
    static comm_job j;
    threads_world w = threads_world_of(size);
    int scatters = kind == COMM_REDUCE_SCATTER || kind == COMM_ROWS;
    int unit = kind == COMM_ROWS ? COMM_WIDTH : 1;
    n *= unit;
    memset(&j, 0, sizeof j);
    j.kind = kind;
    j.n = n;
    j.parts = parts;
    j.all = test_floats((size_t)(parts * n), (uint64_t)(n + parts), -1, 1);
    float *want = test_floats((size_t)n, 0, 0, 0), *before = test_floats((size_t)n, 0, 0, 0);
    for (int r = 0; r < size; r++) j.out[r] = test_floats((size_t)n, 0, 0, 0);
    comm_tree(j.all, n, 0, parts, want);
    threads_run(&w, comm_sum_rank, &j);
    for (int r = 0; r < size; r++) {
        int from = 0, to = n;
        if (scatters) {
            from = unit * (int)((long)(n / unit) * r / size);
            to = unit * (int)((long)(n / unit) * (r + 1) / size);
            comm_tree(j.all, n, r * (parts / size), (r + 1) * (parts / size), before);
        }
        size_t bytes = sizeof(float);
        if (!CHECK(j.error[r] == GLAM_OK && j.good[r]))
            printf("  kind %d, %d floats, rank %d of %d: \"%s\"\n", kind, n, r, size, j.text[r]);
        CHECK(!memcmp(j.out[r] + from, want + from, (size_t)(to - from) * bytes));
        if (scatters) {
            CHECK(!memcmp(j.out[r], before, (size_t)from * bytes));
            CHECK(!memcmp(j.out[r] + to, before + to, (size_t)(n - to) * bytes));
        }
        free(j.out[r]);
    }
    free(j.all);
    free(want);
    free(before);
}

// Eight leaves on 1, 2, 4 or 8 ranks: always the bits of one tree.
static void comm_sums_are_trees(void)
{
    static const int n[5] = { 1, 7, 8, 1000, GLAM__BUCKET + 77 };
    for (int size = 1; size <= 8; size *= 2)
        for (int i = 0; i < 5; i++)
            for (int kind = 0; kind < COMM_KINDS; kind++) comm_sum(size, 8, n[i], kind);
}

// A group of another size has a tree too: ((0 1) (2 3)) (4 5).
static void comm_odd_rank(glam_comm *comm, void *arg)
{
    comm_job *j = (comm_job *)arg;
    glam_ctx *ctx = comm_open(comm);
    uint64_t counter = 0;
    memcpy(j->out[comm->rank], j->all + comm->rank * j->n, (size_t)j->n * sizeof(float));
    glam__agree(ctx, "test", 0);
    glam__all_reduce(ctx, &ctx->mesh->world, &counter, j->out[comm->rank], (size_t)j->n);
    comm_note(j, comm->rank, ctx);
}

static void comm_odd_groups(void)
{
    static comm_job j;
    threads_world w = threads_world_of(6);
    memset(&j, 0, sizeof j);
    j.n = 11;
    j.all = test_floats(66, 9, -1, 1);
    for (int r = 0; r < 6; r++) j.out[r] = test_floats(11, 0, 0, 0);
    threads_run(&w, comm_odd_rank, &j);
    for (int i = 0; i < 11; i++) {
        const float *x = j.all + i;
        float left = (x[0] + x[11]) + (x[22] + x[33]), right = x[44] + x[55], want = left + right;
        for (int r = 0; r < 6; r++) CHECK(memcmp(&j.out[r][i], &want, sizeof want) == 0);
    }
    for (int r = 0; r < 6; r++) {
        CHECK(j.error[r] == GLAM_OK);
        free(j.out[r]);
    }
    free(j.all);
}

static void comm_gather_rank(glam_comm *comm, void *arg)
{
    comm_job *j = (comm_job *)arg;
    glam_ctx *ctx = comm_open(comm);
    int good = 1;
    glam__agree(ctx, "test", 0);
    for (size_t element = 1; element <= 8; element *= 2)
        for (size_t n = 0; n < 20; n++) {
            unsigned char data[160];
            uint64_t counter = 0;
            size_t from = glam__share(n, comm->rank, comm->size) * element;
            size_t to = glam__share(n, comm->rank + 1, comm->size) * element;
            memset(data, 255, sizeof data);
            for (size_t i = from; i < to; i++) data[i] = (unsigned char)(i + n);
            glam__all_gather(ctx, &ctx->mesh->world, &counter, data, n, element);
            for (size_t i = 0; i < sizeof data; i++)
                good &= data[i] == (i < n * element ? (unsigned char)(i + n) : 255);
            good &= counter == (to - from) * (size_t)(comm->size - 1);
        }
    j->good[comm->rank] = good;
    comm_note(j, comm->rank, ctx);
}

static void comm_all_gather(void)
{
    for (int size = 2; size <= 8; size *= 2) {
        static comm_job j;
        threads_world w = threads_world_of(size);
        memset(&j, 0, sizeof j);
        threads_run(&w, comm_gather_rank, &j);
        for (int r = 0; r < size; r++) CHECK(j.good[r] && j.error[r] == GLAM_OK);
    }
}

// --- agreement -----------------------------------------------------------------------------------

enum { COMM_WELL, COMM_FLAG, COMM_OPERATION, COMM_LAYER, COMM_SKIP, COMM_CONFIG, COMM_FAILED,
       COMM_SILENT };

// Rank 2 does something else than the others.
static void comm_agree_rank(glam_comm *comm, void *arg)
{
    comm_job *j = (comm_job *)arg;
    glam_ctx *ctx = comm_open(comm);
    int odd = comm->rank == 2;
    double begin = threads_now();
    j->good[comm->rank] = glam__agree(ctx, "one", 0) == 0;
    ctx->mesh->layer = j->kind == COMM_LAYER && odd ? 4 : 3;
    if (odd && j->kind == COMM_CONFIG) ctx->mesh->config ^= 1;
    if (odd && j->kind == COMM_FAILED) glam_fail(ctx, GLAM_ERR_SHAPE, "two by three");
    if (!odd || (j->kind != COMM_SKIP && j->kind != COMM_SILENT)) {
        int flag = glam__agree(ctx, odd && j->kind == COMM_OPERATION ? "other" : "two",
                               odd && j->kind == COMM_FLAG ? 6 : 0);
        j->good[comm->rank] &= flag == (j->kind == COMM_FLAG ? 6 : 0);
    }
    if (!odd || j->kind != COMM_SILENT) glam__agree(ctx, "three", 0);
    j->seconds[comm->rank] = threads_now() - begin;
    comm_note(j, comm->rank, ctx);
}

static void comm_agree_case(int kind, int size, const char *part, const char *also)
{
    static comm_job j;
    threads_world w = threads_world_of(size);
    memset(&j, 0, sizeof j);
    j.kind = kind;
    w.timeout_s = 0.5;
    threads_run(&w, comm_agree_rank, &j);
    for (int r = 0; r < size; r++) {
        int silent = kind == COMM_SILENT && r == 2, own = kind == COMM_FAILED && r == 2;
        glam_status want = part && !silent ? own ? GLAM_ERR_SHAPE : GLAM_ERR_COMM : GLAM_OK;
        int ok = j.error[r] == want && j.good[r];
        if (want == GLAM_ERR_COMM) ok &= strstr(j.text[r], part) && strstr(j.text[r], also);
        if (!CHECK(ok)) printf("  case %d, rank %d: %d, \"%s\"\n", kind, r, (int)j.error[r], j.text[r]);
        CHECK(j.seconds[r] < 2.5);
    }
}

static void comm_agree(void)
{
    for (int size = 3; size <= 8; size += size == 3 ? 1 : 4) {
        comm_agree_case(COMM_WELL, size, NULL, NULL);
        comm_agree_case(COMM_FLAG, size, NULL, NULL);
        comm_agree_case(COMM_OPERATION, size, "rank 2", "other");
        comm_agree_case(COMM_LAYER, size, "rank 2", "layer 4");
        comm_agree_case(COMM_SKIP, size, "rank 2", "two, layer 3");
        comm_agree_case(COMM_CONFIG, size, "rank 2", "configuration");
        comm_agree_case(COMM_FAILED, size, "rank 2 failed", "two by three");
        comm_agree_case(COMM_SILENT, size, "did not answer", "two, layer 3");
    }
}

// A communicator that cannot talk may be planned with, and says so when it is used.
static void comm_without_exchange(void)
{
    glam_options options = test_options();
    glam_comm comm;
    memset(&comm, 0, sizeof comm);
    comm.size = 2;
    options.comm = &comm;
    glam_ctx *ctx = glam_open(&options);
    glam__agree(ctx, "test", 0);
    ERROR_IS(ctx, GLAM_ERR_COMM, "options.comm has no exchange");
    glam_close(ctx);
}

#endif

static void test_03_comm(void)
{
    RUN(comm_one_rank);
    RUN(comm_refusals);
#ifdef THREADS_COMM
    RUN(comm_transport);
    RUN(comm_transport_faults);
    RUN(comm_sums_are_trees);
    RUN(comm_odd_groups);
    RUN(comm_all_gather);
    RUN(comm_agree);
    RUN(comm_without_exchange);
#endif
}
