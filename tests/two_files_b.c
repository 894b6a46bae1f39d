/* The other half: see two_files_a.c. */
#ifdef GLAM_STATIC
#define GLAM_IMPLEMENTATION
#endif
#include "../glam.h"

#ifdef __cplusplus
extern "C"
#endif
int two_files_b(void);

int two_files_b(void)
{
    glam_ctx *ctx = glam_open(NULL);
    glam_tensor *x = glam_zeros(ctx, glam_dim1(3));
    glam_fill(x, 2);
    glam_tensor *y = glam_sum(ctx, glam_mul(ctx, x, x));
    int result = y ? (int)y->data[0] : -1;
    glam_close(ctx);
    return result;
}
