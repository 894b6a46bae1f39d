/* glam_turns.h - the turn formats of public models: who says what, in tokens.  A part of glam.c. */

#ifndef GLAM_TURNS_H
#define GLAM_TURNS_H

// A turn is a role's prefix, the text and its suffix.  A model's format is the first whose mark its
// tokenizer has as a piece.
typedef enum chat_role { SYSTEM, USER, ASSISTANT } chat_role;
typedef struct chat_format {
    const char *name, *mark;
    const char *begin;                            // once, before all
    const char *prefix[3], *suffix[3];            // by role; system NULL: glued to the next turn
} chat_format;

static const chat_format chat_formats[] = {
    {"chatml", "<|im_start|>", "",
     {"<|im_start|>system\n", "<|im_start|>user\n", "<|im_start|>assistant\n"},
     {"<|im_end|>\n", "<|im_end|>\n", "<|im_end|>\n"}},
    {"granite", "<|start_of_role|>", "",
     {"<|start_of_role|>system<|end_of_role|>", "<|start_of_role|>user<|end_of_role|>",
      "<|start_of_role|>assistant<|end_of_role|>"},
     {"<|end_of_text|>\n", "<|end_of_text|>\n", "<|end_of_text|>\n"}},
    {"llama3", "<|start_header_id|>", "<|begin_of_text|>",
     {"<|start_header_id|>system<|end_header_id|>\n\n", "<|start_header_id|>user<|end_header_id|>\n\n",
      "<|start_header_id|>assistant<|end_header_id|>\n\n"},
     {"<|eot_id|>", "<|eot_id|>", "<|eot_id|>"}},
    {"mistral", "[INST]", "<s>", {NULL, "[INST]", ""}, {NULL, "[/INST]", "</s>"}},
    {"olmoe", "|||IP_ADDRESS|||", "<|endoftext|>",
     {"<|system|>\n", "<|user|>\n", "<|assistant|>\n"}, {"\n", "\n", "<|endoftext|>\n"}},
};
enum { CHAT_FORMATS = sizeof chat_formats / sizeof *chat_formats };

static int32_t piece_named(const glam_tokenizer *t, const char *name)
{
    const glam_vocabulary *v = glam_tokenizer_vocabulary(t);
    size_t length = strlen(name);
    for (int32_t i = 0; v && i < v->size; i++) {
        int bytes;
        const char *piece = glam_tokenizer_piece(t, i, &bytes);
        if ((size_t)bytes == length && memcmp(piece, name, length) == 0) return i;
    }
    return -1;
}

// What is said so far, in tokens.
typedef struct chat_tokens { int32_t *ids; size_t count, room; } chat_tokens;

static void chat_room(chat_tokens *c, size_t more)
{
    if (c->count + more <= c->room) return;
    size_t room = 2 * (c->count + more);
    int32_t *ids = (int32_t *)need(room * sizeof *ids);
    if (c->count) memcpy(ids, c->ids, c->count * sizeof *ids);
    free(c->ids);
    c->ids = ids;
    c->room = room;
}

// Behind the last mark of a prefix.
static const char *chat_plain(const glam_tokenizer *t, const char *prefix)
{
    const glam_vocabulary *v = glam_tokenizer_vocabulary(t);
    const char *plain = prefix;
    for (const char *p = prefix; *p; p++)
        for (int32_t i = 0; v && i < v->size && v->kinds; i++) {
            int bytes;
            if (v->kinds[i] != GLAM_PIECE_CONTROL) continue;
            const char *piece = glam_tokenizer_piece(t, i, &bytes);
            if (strncmp(p, piece, (size_t)bytes) == 0) plain = p + bytes;
        }
    return plain;
}

// Marks are found only in what the format writes, never in what somebody says; what stands between
// the prefix's last mark and the suffix is cut as one text, as the model's own template does.
static void chat_turn(chat_tokens *c, const glam_tokenizer *t, const char *prefix, const char *text,
                      const char *suffix)
{
    const char *plain = chat_plain(t, prefix);
    size_t marks = (size_t)(plain - prefix), n = marks + strlen(plain) + strlen(text) + strlen(suffix);
    chat_room(c, 2 * n + 8);
    c->count += glam_encode_control(t, prefix, marks, c->ids + c->count, c->room - c->count);
    char *between = joined("%s%s", plain, text);
    c->count += glam_encode(t, between, strlen(between), c->ids + c->count, c->room - c->count);
    free(between);
    c->count += glam_encode_control(t, suffix, strlen(suffix), c->ids + c->count, c->room - c->count);
}

// The format that --format names, else the one whose marks the tokenizer has; NULL: it has none.
static int choose_format(const settings *s, const glam_tokenizer *t, const chat_format **format)
{
    *format = NULL;
    for (int i = 0; i < CHAT_FORMATS; i++)
        if (GIVEN(format) ? strcmp(s->format, chat_formats[i].name) == 0
                          : !*format && piece_named(t, chat_formats[i].mark) >= 0)
            *format = &chat_formats[i];
    if (!GIVEN(format) || *format) return DONE;
    return complain(USAGE, "--format %s: chatml, granite, llama3, mistral or olmoe is wanted",
                    s->format);
}

#endif
