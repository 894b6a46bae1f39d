/* Room 03: the seam to other machines.  Kinds: failure, property. */

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
    CLOSE_CLEAN(ctx);
}

static void comm_two_ranks(void)
{
    glam_options options = test_options();
    glam_comm comm;
    memset(&comm, 0, sizeof comm);
    comm.size = 2;
    options.comm = &comm;
    glam_ctx *ctx = glam_open(&options);
    ERROR_IS(ctx, GLAM_ERR_VALUE, "2 ranks");
    glam_close(ctx);
}

static void test_03_comm(void)
{
    RUN(comm_one_rank);
    RUN(comm_two_ranks);
}
