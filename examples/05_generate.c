/* 05_generate - from a model to text, four ways.

   You learn: to load a model, to let glam_complete write, to take the likeliest token or to draw
   with temperature, top-k, top-p, min-p and repetition penalty, to go token by token with a
   session of your own (streaming, stopping where you like), and to read probabilities.

   Build: cc -O2 -fopenmp examples/05_generate.c -o generate -lm && ./generate

   ./generate MODEL.safetensors "prompt" uses your own model; without one, a small model first
   learns from glam.h for some seconds.

   Prints:
       (no model given: learning from glam.h first)
       the likeliest     |...
       temperature 0.8   |...
       top-k 5           |...
       top-p 0.9, 1.2    |...
       no repetition     |...
       line by line      |...
       after "static int": ' ' 0..., ... */

#define GLAM_IMPLEMENTATION
#include "../glam.h"
#include <stdio.h>
#include <string.h>

// A model that has read glam.h for a moment: better than noise, worse than a book.
static glam_model *learn(glam_ctx *ctx)
{
    printf("(no model given: learning from glam.h first)\n");
    glam_config size = glam_config_default();
    size.layers  = 2;
    size.d_model = 64;
    size.hidden  = 192;
    glam_recipe recipe = glam_recipe_default();
    recipe.steps  = 400;
    recipe.warmup = 40;
    glam_model   *model   = glam_model_new(ctx, &size);
    glam_text    *text    = glam_text_open(ctx, "glam.h", NULL);
    glam_trainer *trainer = glam_trainer_new(model, text, NULL, &recipe);
    while (glam_train_step(trainer, NULL)) {}
    return model;
}

// One line of text with its line ends made visible.
static void show(const char *title, const char *text, int bytes)
{
    printf("%-18s|", title);
    for (int i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '\n') fputs("\\n", stdout);
        else putchar(c < 32 || c > 126 ? '?' : c);
    }
    printf("\n");
}

static void complete(glam_model *model, const char *title, const char *prompt,
                     const glam_sampling *sampling)
{
    char text[70];
    show(title, text, glam_complete(model, prompt, text, sizeof text, sampling));
}

// Token by token: logits in, a token out.  Stops at the end of a line; could as well stream,
// ban words, or ask a user in between.
static void one_line(glam_ctx *ctx, glam_session *session, const char *prompt)
{
    glam_sampling sampling = glam_sampling_default();
    int32_t tokens[256];
    char text[257];
    int count = (int)glam_encode(NULL, prompt, strlen(prompt), tokens, 64);
    const float *logits = glam_next(session, tokens, count);
    int first = count;
    while (logits && count < 200) {
        tokens[count] = glam_pick(ctx, logits, 256, &sampling, tokens, count, (uint64_t)count);
        if (tokens[count++] == '\n') break;
        logits = glam_next(session, &tokens[count - 1], 1);     // the cache holds all before
    }
    glam_decode(NULL, tokens + first, (size_t)(count - first), text, sizeof text);
    show("line by line", text, count - first);
}

// The likeliest next bytes: the softmax of the logits, as an op like any other.
static void probabilities(glam_ctx *ctx, glam_session *session, const char *prompt)
{
    int32_t tokens[64];
    int count = (int)glam_encode(NULL, prompt, strlen(prompt), tokens, 64);
    glam_session_reset(session);
    const float *logits = glam_next(session, tokens, count);
    glam_tensor *p = logits ? glam_softmax(ctx, glam_input(ctx, logits, glam_dim1(256))) : NULL;
    printf("after \"%s\":", prompt);
    for (int k = 0; p && k < 5; k++) {
        int best = 0;
        for (int v = 1; v < 256; v++) if (p->data[v] > p->data[best]) best = v;
        printf(best < 32 || best > 126 ? "%s byte %d %.3f" : "%s '%c' %.3f", k ? "," : "", best,
               (double)p->data[best]);
        p->data[best] = -1;
    }
    printf("\n");
}

int main(int argc, char **argv)
{
    glam_ctx   *ctx    = glam_open(NULL);
    glam_model *model  = argc > 1 ? glam_load(ctx, argv[1]) : learn(ctx);
    const char *prompt = argc > 2 ? argv[2] : "static int";

    glam_sampling greedy = glam_sampling_default();
    greedy.temperature = 0;                              // always the likeliest: soon repeats
    complete(model, "the likeliest", prompt, &greedy);
    complete(model, "temperature 0.8", prompt, NULL);    // NULL: the defaults

    glam_sampling few = glam_sampling_default();
    few.top_k = 5;                                       // never beyond the five best
    complete(model, "top-k 5", prompt, &few);

    glam_sampling bold = glam_sampling_default();
    bold.temperature = 1.2f;                             // flatter than learnt ...
    bold.top_p = 0.9f;                                   // ... but without the unlikely tail
    complete(model, "top-p 0.9, 1.2", prompt, &bold);

    glam_sampling fresh = glam_sampling_default();
    fresh.repetition_penalty = 1.3f;                     // what was just said becomes less likely
    complete(model, "no repetition", prompt, &fresh);

    glam_session *session = glam_session_new(model, 256);
    one_line(ctx, session, prompt);
    probabilities(ctx, session, prompt);

    int failed = glam_error(ctx) != GLAM_OK;
    if (failed) fprintf(stderr, "%s\n", glam_error_text(ctx));
    glam_close(ctx);
    return failed;
}
