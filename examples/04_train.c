/* 04_train - a language model from any text file, in forty lines.

   You learn: text, size, recipe, trainer, the training loop, how to look at the routing while it
   learns, saving, and writing text.

   "aux" is the balance loss that is added to the loss: aux_weight (0.01) times E * sum of f_e P_e
   for each mixture layer, f_e the share of first choices and P_e the mean probability of expert e.
   Two such layers give about 0.02.  That is no proof of even loads: they stand in the lines below.

   Build: cc -O2 -fopenmp examples/04_train.c -o train -lm && ./train

   ./train BOOK.txt 2000 trains on your own text, as long as you like.

   Prints:
       step   30  loss ...  aux 0.02..  ... tokens/s
         layer 0: 2048 tokens, 0 dropped, load ...
         layer 2: 2048 tokens, 0 dropped, load ...
       ...
       step   90  loss ...
       Once upon a time... */

#define GLAM_IMPLEMENTATION
#include "../glam.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

// Where did the last batch go?  A healthy mixture spreads its load.
static void show_routing(const glam_model *model, int layers)
{
    for (int layer = 0; layer < layers; layer++) {
        const glam_routing *r = glam_model_routing(model, layer);
        if (!r) continue;                               // a dense layer routes nothing
        printf("  layer %d: %d tokens, %d dropped, load", layer, r->tokens, r->dropped);
        for (int e = 0; e < r->experts; e++) printf(" %d", r->load[e]);
        printf("\n");
    }
}

int main(int argc, char **argv)
{
    glam_ctx  *ctx  = glam_open(NULL);                  // NULL: malloc, every core, silent
    glam_text *text = glam_text_open(ctx, argc > 1 ? argv[1] : "glam.h", NULL);   // NULL: bytes

    glam_config size = glam_config_default();
    size.d_model     = 128;
    size.layers      = 4;
    size.moe.every   = 2;                               // every second layer is a mixture
    size.moe.experts = 8;                               // each token visits two of them
    glam_model *model = glam_model_new(ctx, &size);

    glam_recipe recipe = glam_recipe_default();
    recipe.steps = argc > 2 ? atoi(argv[2]) : 90;       // enough to see words appear
    recipe.batch = 16;
    glam_trainer *trainer = glam_trainer_new(model, text, NULL, &recipe);   // no validation text

    glam_report now;
    while (glam_train_step(trainer, &now)) {            // 0 when done, or when something failed
        if (now.step % (recipe.steps < 1000 ? 30 : 100)) continue;
        printf("step %4d  loss %.3f  aux %.4f  %.0f tokens/s\n",
               now.step, now.loss, now.aux_loss, now.tokens_per_second);
        show_routing(model, size.layers);
    }

    char story[400];
    glam_save(model, "book.safetensors");
    int length = glam_complete(model, "Once upon a time", story, sizeof story, NULL);
    while (length > 0 && isspace((unsigned char)story[length - 1])) story[--length] = 0;
    if (length > 0) printf("Once upon a time%s\n", story);   // blanks at its end are not shown

    int failed = glam_error(ctx) != GLAM_OK;            // the first thing that went wrong, if any
    if (failed) fprintf(stderr, "glam: %s\n", glam_error_text(ctx));
    glam_close(ctx);                                    // frees everything that came from ctx
    return failed;
}
