/* Half of a program: this file has the implementation, two_files_b.c only the interface.  With
   GLAM_STATIC each file has a private copy.  Compiles as C and as C++. */
#define GLAM_IMPLEMENTATION
#include "../glam.h"
#include "../glam.h"

#include <stdio.h>
#include <string.h>

#ifdef __cplusplus
extern "C"
#endif
int two_files_b(void);

int main(void)
{
    glam_ctx *ctx = glam_open(NULL);
    glam_tensor *x = glam_param(ctx, "x", glam_dim1(3));
    glam_fill(x, 3);
    glam_tensor *y = glam_sum(ctx, glam_mul(ctx, x, x));
    int failed = !y || y->data[0] != 27 || two_files_b() != 12;
    failed |= glam_error(ctx) != GLAM_OK;
    glam_close(ctx);
    printf("%d passed, %d failed\n", !failed, failed);
    return failed;
}
