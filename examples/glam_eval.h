/* glam_eval.h - the command eval: the loss of a text.  A part of glam.c. */

#ifndef GLAM_EVAL_H
#define GLAM_EVAL_H

static int run_eval(settings *s, char **words, int count)
{
    if (count != 2) return complain(USAGE, "eval wants a model and a text: %s eval "
                                    "model.safetensors book.txt", program);
    glam_ctx *ctx = open_context(s);
    glam_model *model = load_model(ctx, words[0]);
    glam_text *text = glam_text_open(ctx, words[1], NULL), *rest = NULL;
    if (GIVEN(val_fraction))
        glam_text_split(text, (float)s->val_fraction, &rest, &text);
    if (failure(ctx)) {
        glam_close(ctx);
        return FAILED;
    }
    int context = glam_model_config(model)->context, status;
    glam_perplexity_report p;
    if (glam_text_length(text) <= (size_t)context) {
        status = complain(FAILED, "%s: %s tokens are fewer than a context of %d and the next token",
                          words[1], show_commas(glam_text_length(text)), context);
    } else {
        glam_perplexity(model, text, 0, &p);
        status = failure(ctx);
        if (status == DONE && (p.tokens == 0 || !isfinite(p.loss)))
            status = complain(FAILED, "%s on %s: the loss is %g, which is no number to trust",
                              words[0], words[1], p.loss);
        if (status == DONE)
            printf("%s on %s%s: loss %.4f nats per token, perplexity %.3f, %.4f bits per byte, "
                   "%s tokens\n", words[0], rest ? "the last part of " : "", words[1], p.loss,
                   p.perplexity, p.bits_per_token, show_commas(p.tokens));
    }
    glam_close(ctx);
    return status;
}

#endif
