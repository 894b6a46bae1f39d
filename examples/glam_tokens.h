/* glam_tokens.h - texts into tokens and back: the tokenizer of a run.  A part of
   glam.c. */

#ifndef GLAM_TOKENS_H
#define GLAM_TOKENS_H

// The bytes that tokens stand for; the caller frees them.
static char *tokens_text(const glam_tokenizer *t, const int32_t *tokens, int count, int *bytes)
{
    size_t n = glam_decode(t, tokens, (size_t)count, NULL, 0);
    char *text = (char *)need(n + 1);
    glam_decode(t, tokens, (size_t)count, text, n + 1);
    *bytes = (int)n;
    return text;
}

// Bytes that a token of this text has, in the mean: what bits per byte divide by.
static double bytes_per_token(const glam_text *text, const glam_tokenizer *t)
{
    enum { CHUNK = 4096 };
    int32_t ids[CHUNK];
    size_t length = glam_text_length(text), bytes = 0;
    if (!glam_tokenizer_vocabulary(t) || !length) return 1;
    for (size_t at = 0, n; at < length; at += n) {
        n = glam_text_read(text, at, CHUNK, ids);
        bytes += glam_decode(t, ids, n, NULL, 0);
    }
    return bytes ? (double)bytes / (double)length : 1;
}

// The texts as one, each without its last `fraction`: what a tokenizer may learn from.
static char *texts_to_learn(glam_ctx *ctx, char **paths, int count, double fraction, size_t *bytes)
{
    char *all = NULL;
    size_t held = 0;
    *bytes = 0;
    for (int i = 0; i < count; i++) {
        size_t n;
        if (kind_of(paths[i]) == FOLDER) {
            complain(FAILED, "%s is a folder; name the files in it, such as %s/*.txt", paths[i],
                     paths[i]);
            break;
        }
        if (kind_of(paths[i]) == OTHER) {
            complain(FAILED, "%s can be read only once, but a tokenizer that is learnt reads it "
                     "twice; put it into a file", paths[i]);
            break;
        }
        char *text = hub_read_file(ctx, paths[i], &n);
        if (failure(ctx)) break;
        held += n;
        n -= (size_t)((double)n * fraction);
        char *more = (char *)realloc(all, *bytes + n + 1);
        if (more) {
            all = more;
            memcpy(all + *bytes, text, n);
            all[*bytes + n] = '\n';
            *bytes += n + 1;
        }
        hub_free_file(text);
        if (!more) { complain(FAILED, "there is no memory for %s", paths[i]); break; }
        if (i + 1 < count) continue;
        if (held) return all;
        complain(FAILED, "there is nothing to learn from: every text is empty");
    }
    free(all);
    return NULL;
}

// What a tokenizer learnt from these texts; NULL: it has said why not.
static glam_tokenizer *learn_tokens(glam_ctx *ctx, char **paths, int count, double fraction,
                                    int size, glam_split split, int quiet)
{
    size_t bytes;
    double began = (double)clock();
    char *text = texts_to_learn(ctx, paths, count, fraction, &bytes);
    glam_tokenizer *t = text ? glam_tokenizer_train(ctx, text, bytes, size, split) : NULL;
    if (text && !failure(ctx) && !quiet) {
        size_t tokens = glam_encode(t, text, bytes, NULL, 0);
        printf("tokens    %s pieces learnt in %.1f s, %.2f bytes each%s\n",
               show_commas((uint64_t)glam_tokenizer_size(t)),
               ((double)clock() - began) / CLOCKS_PER_SEC, (double)bytes / (double)tokens,
               glam_tokenizer_size(t) < size ? "; the text has no more pairs that come twice" : "");
    }
    free(text);
    return t;
}

#endif
