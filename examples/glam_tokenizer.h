/* glam_tokenizer.h - the command tokenizer: learns one, or shows what a text becomes.  A part of
   glam.c. */

#ifndef GLAM_TOKENIZER_H
#define GLAM_TOKENIZER_H

static const struct { const char *name; glam_split split; } split_names[] = {
    {"gpt2", GLAM_SPLIT_GPT2}, {"digits", GLAM_SPLIT_DIGITS}, {"qwen", GLAM_SPLIT_QWEN},
    {"llama3", GLAM_SPLIT_LLAMA3}, {"o200k", GLAM_SPLIT_O200K}, {"deepseek", GLAM_SPLIT_DEEPSEEK},
    {"deepseek-coder", GLAM_SPLIT_DEEPSEEK_CODER} };

// What a text becomes, piece by piece.
static void show_pieces(const glam_tokenizer *t, const char *text)
{
    size_t n = glam_encode(t, text, strlen(text), NULL, 0);
    int32_t *ids = (int32_t *)need((n + 1) * sizeof *ids);
    glam_encode(t, text, strlen(text), ids, n);
    for (size_t i = 0; i < n; i++) {
        int bytes;
        const char *piece = glam_tokenizer_piece(t, ids[i], &bytes);
        printf("%7d  ", (int)ids[i]);
        show_line(stdout, piece, bytes, 60);
        printf("\n");
    }
    printf("%s tokens for %s bytes\n", show_commas(n), show_commas(strlen(text)));
    free(ids);
}

// A file of weights, by its begin: the length of a header in eight bytes, and the header.
static int is_safetensors(const char *path)
{
    unsigned char begin[9];
    FILE *f = kind_of(path) == PLAIN ? fopen(path, "rb") : NULL;
    size_t got = f ? fread(begin, 1, sizeof begin, f) : 0;
    if (f) fclose(f);
    return got == sizeof begin && !begin[7] && begin[8] == '{';
}

static int run_tokenizer(settings *s, char **words, int count)
{
    glam_split split = GLAM_SPLIT_GPT2;
    if (count < 1) return complain(USAGE, "tokenizer wants texts to learn from, or with --show a "
                                   "tokenizer.json or a model: %s tokenizer book.txt", program);
    for (size_t i = 0; GIVEN(split) && i < sizeof split_names / sizeof *split_names; i++)
        if (strcmp(s->split, split_names[i].name) == 0) split = split_names[i].split;
    if (GIVEN(split) && split == GLAM_SPLIT_GPT2 && strcmp(s->split, "gpt2") != 0)
        return complain(USAGE, "--split %s: gpt2, digits, qwen, llama3, o200k, deepseek or deepseek-coder "
                        "is wanted", s->split);
    if (GIVEN(pieces) && s->pieces <= BYTES)
        return complain(USAGE, "--vocab %d: more than the 256 of the bytes are wanted", s->pieces);
    if (GIVEN(show) && (count > 1 || GIVEN(tokens_out) || GIVEN(pieces) || GIVEN(split)))
        return complain(USAGE, "--show learns nothing: it goes with one file, without --out, --vocab "
                        "and --split");
    const char *out = GIVEN(tokens_out) ? s->tokens_out : "tokenizer.json";
    if (!GIVEN(show) && check_apart("out", out, words, count)) return USAGE;
    glam_ctx *ctx = open_context(s);
    int status = DONE;
    if (GIVEN(show)) {
        const glam_tokenizer *t = is_safetensors(words[0]) ? glam_load_tokenizer(ctx, words[0])
                                                           : hub_tokenizer_open(ctx, words[0]);
        status = failure(ctx);
        if (status == DONE && !t) status = complain(FAILED, "%s: its tokens are bytes", words[0]);
        if (status == DONE) show_pieces(t, s->show);
    } else if (check_writable("out", out, s->force)) status = FAILED;
    else {
        glam_tokenizer *t = learn_tokens(ctx, words, count, 0, GIVEN(pieces) ? s->pieces : 2048,
                                         split, 0);
        if (t) hub_tokenizer_save(ctx, t, out);
        if (t) return end_saving(ctx, out);
        status = FAILED;
    }
    glam_close(ctx);
    return status;
}

#endif
