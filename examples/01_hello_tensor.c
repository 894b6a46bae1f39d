/* 01_hello_tensor - shapes, values and gradients.

   You learn: how a context is opened and closed, what a tensor is (a shape and plain floats that
   you may read and write), how ops are chained, where gradients appear, and how one check at
   the end is enough for all of it.

   Build: cc -O2 -fopenmp examples/01_hello_tensor.c -o hello_tensor -lm && ./hello_tensor

   Prints:
       x [2,3]
            1.0000   2.0000   3.0000
            4.0000   5.0000   6.0000
       w [3,2]
            0.1000   0.2000
            ...
       y = softmax(x w), rows sum to 1 [2,2]
            0.3543   0.6457
            0.1824   0.8176
       loss = mean of (y - target)^2 = 0.0610
       d loss / d w, as the tape has it [3,2]
           -0.2228   0.2228
            ...
       w times w: GLAM_ERR_SHAPE: matmul: ... */

#define GLAM_IMPLEMENTATION
#include "../glam.h"
#include <stdio.h>

// A tensor is transparent: data is row-major, so element (r,c) of [R,C] is data[r*C + c].
static void show(const char *title, const float *data, glam_shape shape)
{
    printf("%s [%d,%d]\n", title, shape.dim[0], shape.dim[1]);
    for (int r = 0; r < shape.dim[0]; r++) {
        printf("    ");
        for (int c = 0; c < shape.dim[1]; c++) printf(" %8.4f", data[r * shape.dim[1] + c]);
        printf("\n");
    }
}

int main(void)
{
    glam_ctx *ctx = glam_open(NULL);                     // NULL: malloc, every core, silent

    // An input is a constant of this step; its numbers are copied.
    const float six[6] = {1, 2, 3, 4, 5, 6};
    glam_tensor *x = glam_input(ctx, six, glam_dim2(2, 3));

    // A parameter stays, wants a gradient, and starts as zeros.
    glam_tensor *w = glam_param(ctx, "w", glam_dim2(3, 2));
    for (size_t i = 0; i < glam_size(w); i++) w->data[i] = 0.1f * (float)(i + 1);

    // Ops run at once: every value can be printed on the next line.
    const float goal[4] = {0.5f, 0.5f, 0.5f, 0.5f};
    glam_tensor *target = glam_input(ctx, goal, glam_dim2(2, 2));
    glam_tensor *y      = glam_softmax(ctx, glam_matmul(ctx, x, w));
    glam_tensor *loss   = glam_mse(ctx, y, target);

    // If anything went wrong so far, the pointers are NULL and the context knows the reason.
    if (glam_error(ctx) == GLAM_OK) {
        show("x", x->data, x->shape);
        show("w", w->data, w->shape);
        show("y = softmax(x w), rows sum to 1", y->data, y->shape);
        printf("loss = mean of (y - target)^2 = %.4f\n", loss->data[0]);
    }

    // Walks the tape from the last op to the first; parameters then have their gradient.
    if (glam_backward(ctx, loss) == GLAM_OK && w->grad)
        show("d loss / d w, as the tape has it", w->grad, w->shape);

    int failed = glam_error(ctx) != GLAM_OK;             // the first thing that went wrong, if any
    if (failed) fprintf(stderr, "%s\n", glam_error_text(ctx));

    glam_forget(ctx);                                    // the step ends: only parameters stay

    // A mistake on purpose.  The first message is kept, and what follows passes NULL on.
    glam_tensor *wrong = glam_matmul(ctx, w, w);         // [3,2] times [3,2] does not fit
    glam_tensor *later = glam_gelu(ctx, wrong);
    if (!later) printf("w times w: %s: %s\n", glam_status_name(glam_error(ctx)),
                       glam_error_text(ctx));
    glam_clear_error(ctx);                               // and the context works again

    glam_close(ctx);                                     // frees everything that came from ctx
    return failed;
}
