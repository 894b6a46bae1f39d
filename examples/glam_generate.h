/* glam_generate.h - the command generate: text from a model.  A part of glam.c. */

#ifndef GLAM_GENERATE_H
#define GLAM_GENERATE_H

static int run_generate(settings *s, char **words, int count)
{
    if (count != 1) return complain(USAGE, "generate wants one model: %s generate "
                                    "model.safetensors", program);
    glam_sampling sampling = glam_sampling_default();
    if (GIVEN(temperature)) sampling.temperature = (float)s->temperature;
    if (GIVEN(pick_top_k))  sampling.top_k = s->pick_top_k;
    if (GIVEN(top_p))       sampling.top_p = (float)s->top_p;
    if (GIVEN(min_p))       sampling.min_p = (float)s->min_p;
    if (GIVEN(seed))        sampling.seed = s->seed;
    const char *prompt = GIVEN(prompt) && *s->prompt ? s->prompt : "\n";
    int most = GIVEN(tokens) ? s->tokens : 400;
    if (strlen(prompt) > (size_t)(INT_MAX - 1 - most))
        return complain(USAGE, "--prompt: %.0f bytes and --tokens %d are more than %d",
                        (double)strlen(prompt), most, INT_MAX);

    glam_ctx *ctx = open_context(s);
    glam_model *model = load_adapted(ctx, words[0], s);
    const glam_tokenizer *t = glam_model_tokenizer(model);
    const glam_vocabulary *v = glam_tokenizer_vocabulary(t);
    int begins = v && v->begin >= 0;
    int length = begins + (int)glam_encode(t, prompt, strlen(prompt), NULL, 0);
    glam_session *session = glam_session_new(model, length + most + 1);
    int32_t *tokens = session ? (int32_t *)malloc(((size_t)length + (size_t)most + 1) *
                                                  sizeof *tokens) : NULL;
    show_stream out = {{0}, 0};
    if (tokens) {
        if (begins) tokens[0] = v->begin;
        glam_encode(t, prompt, strlen(prompt), tokens + begins, (size_t)length);
        if (GIVEN(prompt)) show_more(&out, prompt, (int)strlen(prompt), 0);
        const float *logits = glam_next(session, tokens, length);
        for (int i = length; logits && i < length + most; i++) {
            int bytes;
            tokens[i] = glam_pick(ctx, logits, glam_model_config(model)->vocab, &sampling, tokens,
                                  i, (uint64_t)i);
            if (glam_error(ctx) != GLAM_OK || (v && tokens[i] == v->end)) break;
            char *text = tokens_text(t, &tokens[i], 1, &bytes);
            show_more(&out, text, bytes, 0);
            if (show_terminal || memchr(text, '\n', (size_t)bytes)) fflush(stdout);  // as it comes
            free(text);
            if (ferror(stdout)) break;
            logits = i + 1 < length + most ? glam_next(session, &tokens[i], 1) : NULL;
        }
        show_more(&out, NULL, 0, 1);
        if (show_terminal) printf("\n");                 // a file has the text and nothing else
    }
    int status = failure(ctx);
    if (status == DONE && !tokens) status = complain(FAILED, "there is no memory");
    free(tokens);
    glam_close(ctx);
    return status;
}

#endif
