/* Room 08: tensors.  Kinds: property, failure. */

static void tensor_shapes(void)
{
    glam_shape s = glam_dim4(2, 3, 4, 5);
    CHECK(s.dims == 4 && s.dim[0] == 2 && s.dim[3] == 5);
    s = glam_dim1(7);
    CHECK(s.dims == 1 && s.dim[0] == 7 && s.dim[1] == 1 && s.dim[3] == 1);
    s = glam_dim2(7, 8);
    CHECK(s.dims == 2 && s.dim[1] == 8 && s.dim[2] == 1);
    s = glam_dim3(7, 8, 9);
    CHECK(s.dims == 3 && s.dim[2] == 9 && s.dim[3] == 1);
    CHECK(glam_size(NULL) == 0);
}

static void tensor_kinds(void)
{
    glam_ctx *ctx = test_ctx();
    float values[6] = { 1, 2, 3, 4, 5, 6 };
    char name[] = "weights";
    glam_tensor *p = glam_param(ctx, name, glam_dim2(2, 3));
    name[0] = 'X';                                 // the name was copied
    CHECK(p && !strcmp(p->name, "weights") && p->wants_grad && glam_size(p) == 6 && !p->grad);
    for (int i = 0; i < 6; i++) CHECK(p->data[i] == 0);
    glam_tensor *x = glam_input(ctx, values, glam_dim2(2, 3));
    values[0] = 9;                                 // so were the values
    CHECK(x && x->data[0] == 1 && x->data[5] == 6 && !x->wants_grad && !strcmp(x->name, ""));
    glam_tensor *z = glam_zeros(ctx, glam_dim3(1, 2, 3));
    for (int i = 0; i < 6; i++) CHECK(z->data[i] == 0);
    glam_fill(z, 2.5f);
    for (int i = 0; i < 6; i++) CHECK(z->data[i] == 2.5f);
    glam_tensor *v = glam_view(ctx, x, glam_dim1(6));
    CHECK(v && v->shape.dims == 1 && v->data[4] == 5);
    glam_fill_normal(p, 5, 2);
    float keep[6];
    memcpy(keep, p->data, sizeof keep);
    glam_fill_normal(p, 6, 2);
    CHECK(memcmp(keep, p->data, sizeof keep) != 0);
    glam_fill_normal(p, 5, 2);
    CHECK(!memcmp(keep, p->data, sizeof keep));
    glam_fill_normal(p, 5, 1);
    for (int i = 0; i < 6; i++) CHECK_NEAR(keep[i], 2 * (double)p->data[i], 1e-6);
    glam_forget(ctx);
    CHECK(p->data[0] == keep[0] / 2 && !strcmp(p->name, "weights"));   // a parameter stays
    CLOSE_CLEAN(ctx);
}

static void tensor_failures(void)
{
    glam_ctx *ctx = test_ctx();
    glam_shape none;
    memset(&none, 0, sizeof none);
    CHECK(glam_zeros(ctx, none) == NULL);
    ERROR_IS(ctx, GLAM_ERR_SHAPE, "dimension");
    CHECK(glam_zeros(ctx, glam_dim2(3, 0)) == NULL);
    ERROR_IS(ctx, GLAM_ERR_SHAPE, "[3,0]");
    CHECK(glam_param(ctx, "p", glam_dim2(-1, 4)) == NULL);
    ERROR_IS(ctx, GLAM_ERR_SHAPE, "[-1,4]");
    CHECK(glam_view(ctx, glam_zeros(ctx, glam_dim2(3, 4)), glam_dim1(11)) == NULL);
    ERROR_IS(ctx, GLAM_ERR_SHAPE, "[3,4]");
    CLOSE_CLEAN(ctx);
}

static void test_08_tensor(void)
{
    RUN(tensor_shapes);
    RUN(tensor_kinds);
    RUN(tensor_failures);
}
