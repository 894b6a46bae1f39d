/* glam_texts.h - a file as a text to learn from: plain bytes or pieces of words, whole or as
   documents, in memory or, when it is large, where it is.  A part of glam.c. */

#ifndef GLAM_TEXTS_H
#define GLAM_TEXTS_H

enum { LARGE_TEXT = 1 << 28 };                   // bytes from which on a file is not held in memory

// The token behind each document: the vocabulary's end, else the byte 0.
static int32_t document_token(const glam_tokenizer *tokens)
{
    const glam_vocabulary *v = tokens ? glam_tokenizer_vocabulary(tokens) : NULL;
    int32_t id = 0;
    if (v && v->end >= 0) return v->end;
    if (v && glam_encode(tokens, "\0", 1, &id, 1) != 1) return 0;
    return id;
}

// All documents of a file, one behind the other, each with its token behind it.
static glam_text *open_documents(glam_ctx *ctx, const char *path, const glam_tokenizer *tokens,
                                 cutting cut)
{
    document_stream d;
    int32_t end = document_token(tokens), *ids = NULL;
    size_t used = 0, room = 0;
    int got;
    char *one = joined("%s", path);
    int wide = tokens && glam_tokenizer_vocabulary(tokens);
    json_out bytes;
    memset(&bytes, 0, sizeof bytes);
    documents_begin(&d, &one, 1, cut);
    while ((got = documents_next(&d)) > 0) {
        for (int i = 0; i < got; i++) {
            const glam_document *doc = &d.documents[i];
            if (!wide) {
                json_put(&bytes, doc->text, doc->bytes);
                json_put(&bytes, "\0", 1);
                continue;
            }
            // a token has a byte, but for a first blank; form C has three times the bytes at most
            size_t most = doc->bytes * (glam_tokenizer_vocabulary(tokens)->composed ? 3 : 1) + 2;
            if (room - used < most) {
                room = 2 * room + most;
                int32_t *larger = (int32_t *)need(room * sizeof *larger);
                if (used) memcpy(larger, ids, used * sizeof *larger);
                free(ids);
                ids = larger;
            }
            used += glam_encode(tokens, doc->text, doc->bytes, ids + used, room - used - 1);
            ids[used++] = end;
        }
    }
    documents_end(&d);
    free(one);
    glam_text *text = NULL;
    if (got == 0) {
        text = wide ? glam_text_from_tokens(ctx, ids, used)
                    : glam_text_from(ctx, bytes.text, bytes.length, NULL);
        glam_text_documents(text, &end, 1);
    }
    free(ids);
    free(bytes.text);
    return text;
}

// NULL: *told says whether why has been told; else the context knows.
static glam_text *open_training_text(glam_ctx *ctx, const char *path, const glam_tokenizer *tokens,
                                     const char *documents, int *told)
{
    static const int32_t blank_line[2] = {'\n', '\n'};
    struct stat at;
    cutting cut = BY_NAME;
    *told = 0;
    if (read_cutting(documents, &cut)) {
        *told = 1;
        return NULL;
    }
    int wide = tokens && glam_tokenizer_vocabulary(tokens);
    if (has_ending(path, ".jsonl")) cut = AT_LINES;
    if (cut == AT_LINES || (cut == AT_BLANKS && wide)) {
        glam_text *text = open_documents(ctx, path, tokens, cut);
        *told = !text && !glam_error(ctx);
        return text;
    }
    int large = !wide && stat(path, &at) == 0 && (at.st_mode & S_IFMT) == S_IFREG &&
                at.st_size > LARGE_TEXT;
    glam_text *text = large ? glam_text_file(ctx, path) : glam_text_open(ctx, path, tokens);
    if (text && cut == AT_BLANKS) glam_text_documents(text, blank_line, 2);
    return text;
}

enum { NO_WEIGHT = -1, NO_MORE_WEIGHTS = -2 };

// The weight of text number i in a list such as 0.42,0.06, or why there is none.
static double listed_weight(const char *list, int i)
{
    double weight = NO_WEIGHT;
    for (; list && i > 0; i--) list = strchr(list, ',') ? strchr(list, ',') + 1 : NULL;
    if (!list) return NO_MORE_WEIGHTS;
    char *one = joined("%.*s", (int)strcspn(list, ","), list);
    if (!read_real(one, &weight)) weight = NO_WEIGHT;
    free(one);
    return weight;
}

#endif
