/* glam_grow.h - the command upcycle: a dense model becomes a mixture with the same loss.  A part of
   glam.c. */

#ifndef GLAM_GROW_H
#define GLAM_GROW_H

// How far the mixture's logits of a text are from those of what it grew from.
static void tell_growth(glam_model *dense, glam_model *model)
{
    int32_t ids[sizeof probe_text];
    int count = probe_ids(dense, ids), of = glam_model_config(model)->vocab;
    float *before = probe(dense, ids, count), *after = before ? probe(model, ids, count) : NULL;
    double largest = 0, apart = after ? logits_apart(before, after, (size_t)count * (size_t)of, &largest) : 0;
    if (after)
        printf("on a text of %d tokens logits differ by at most %.2g from the dense model's (they reach "
               "%.3g)\n", count, apart, largest);
    free(before);
    free(after);
}

static int run_upcycle(settings *s, char **words, int count)
{
    if (count != 1)
        return complain(USAGE, "upcycle wants a dense model: %s upcycle model.safetensors --experts "
                        "4 --every 2 --out grown.safetensors", program);
    const char *out = GIVEN(grown_out) ? s->grown_out : "grown.safetensors";
    if (check_apart("out", out, words, 1)) return USAGE;
    if ((GIVEN(grown_experts) && !s->grown_experts) || (GIVEN(grown_every) && !s->grown_every))
        return complain(USAGE, "--experts and --every: 1 at least");
    catch_and_leave_nothing();
    if (check_writable("out", out, s->force)) return FAILED;
    glam_ctx *ctx = open_context(s);
    glam_model *dense = load_model(ctx, words[0]), *model = NULL;
    glam_moe_config moe = glam_moe_config_default();
    moe.every = GIVEN(grown_every) ? s->grown_every : 1;
    if (GIVEN(grown_experts)) moe.experts = s->grown_experts;
    if (GIVEN(grown_top_k)) moe.top_k = s->grown_top_k;
    if (dense) model = glam_upcycle(dense, &moe);
    if (model) save_whole(model, out);
    if (model && !glam_error(ctx)) {
        int mixtures = 0;
        for (int i = 0; i < glam_model_config(model)->layers; i++)
            mixtures += glam_model_moe(model, i) != NULL;
        printf("%d of %d layers are mixtures of %d copies of what they were, top %d;\n"
               "%s parameters instead of %s, the same loss until they learn apart\n",
               mixtures, glam_model_config(model)->layers, moe.experts, moe.top_k,
               show_commas(glam_model_count(model, NULL)),
               show_commas(glam_model_count(dense, NULL)));
        tell_growth(dense, model);
    }
    return end_saving(ctx, out);
}

#endif
