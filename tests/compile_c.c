/* The implementation as C, nothing else: run.sh compiles this with every warning as an error. */
#define GLAM_IMPLEMENTATION
#include "../glam.h"

// GLAM_STATIC makes a private copy; some function of it must be used.
int glam_compile_c(void);
int glam_compile_c(void)
{
    glam_ctx *ctx = glam_open(NULL);
    int failed = glam_error(ctx) != GLAM_OK;
    glam_close(ctx);
    return failed;
}
