/* glam_chat.h - the command chat: a conversation in the terminal, and the turn formats of public
   models.  A part of glam.c. */

#ifndef GLAM_CHAT_H
#define GLAM_CHAT_H

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

// Marks are found only in what the format writes, never in what somebody says; what stands between
// the prefix's last mark and the suffix is cut as one text, as the model's own template does.
static void chat_turn(chat_tokens *c, const glam_tokenizer *t, const char *prefix, const char *text,
                      const char *suffix)
{
    const glam_vocabulary *v = glam_tokenizer_vocabulary(t);
    const char *plain = prefix;
    for (const char *p = prefix; *p; p++)            // behind the last mark of the prefix
        for (int32_t i = 0; v && i < v->size && v->kinds; i++) {
            int bytes;
            if (v->kinds[i] != GLAM_PIECE_CONTROL) continue;
            const char *piece = glam_tokenizer_piece(t, i, &bytes);
            if (strncmp(p, piece, (size_t)bytes) == 0) plain = p + bytes;
        }
    size_t marks = (size_t)(plain - prefix), n = marks + strlen(plain) + strlen(text) + strlen(suffix);
    chat_room(c, 2 * n + 8);
    c->count += glam_encode_control(t, prefix, marks, c->ids + c->count, c->room - c->count);
    char *between = joined("%s%s", plain, text);
    c->count += glam_encode(t, between, strlen(between), c->ids + c->count, c->room - c->count);
    free(between);
    c->count += glam_encode_control(t, suffix, strlen(suffix), c->ids + c->count, c->room - c->count);
}

typedef struct chat {
    settings      *s;
    glam_model    *model;
    glam_session  *session;
    const glam_tokenizer *t;
    const chat_format *format;
    glam_sampling  sampling;
    chat_tokens    said;             // not yet read by the session
    int32_t        end;              // of a turn
    int            most;
} chat;

// The answer, word by word; 0: the room of the conversation is used up.
static int chat_answer(chat *c)
{
    glam_ctx *ctx = glam_model_ctx(c->model);
    const glam_vocabulary *v = glam_tokenizer_vocabulary(c->t);
    show_stream out = {{0}, 0};
    int left = c->most - glam_session_length(c->session) - (int)c->said.count;
    const float *logits = left > 1 ? glam_next(c->session, c->said.ids, (int)c->said.count) : NULL;
    c->said.count = 0;
    for (int made = 0, shown = 0; logits && made < left - 1; made++) {
        int bytes, place = glam_session_length(c->session);
        int32_t id = glam_pick(ctx, logits, glam_model_config(c->model)->vocab, &c->sampling, NULL, 0,
                               (uint64_t)place);
        if (id < 0) return 0;
        chat_room(&c->said, 1);
        if (id == c->end || (v && id == v->end) || interrupted) {
            c->said.ids[0] = c->end >= 0 ? c->end : id;    // the end of the turn is read with the next
            c->said.count = c->end >= 0;
            show_more(&out, NULL, 0, 1);
            printf("\n");
            return 1;
        }
        char *text = tokens_text(c->t, &id, 1, &bytes);
        const char *from = !shown && bytes && *text == ' ' ? text + 1 : text;
        show_more(&out, from, bytes - (int)(from - text), 0);
        shown += bytes > 0;
        fflush(stdout);
        free(text);
        logits = glam_next(c->session, &id, 1);
    }
    show_more(&out, NULL, 0, 1);
    printf("\n");
    return 0;
}

// A line from the terminal, of any length; NULL at the end.  The caller frees it.
static char *chat_line(void)
{
    size_t room = 256, used = 0;
    char *line = (char *)need(room);
    int c;
    while ((c = getchar()) != EOF && c != '\n') {
        if (used + 2 > room) {
            char *larger = (char *)need(room * 2);
            memcpy(larger, line, used);
            free(line);
            line = larger;
            room *= 2;
        }
        line[used++] = (char)c;
    }
    line[used] = 0;
    if (c != EOF || used) return line;
    free(line);
    return NULL;
}

static void chat_begin(chat *c)
{
    const chat_format *f = c->format;
    c->said.count = 0;
    chat_room(&c->said, 64);
    c->said.count = glam_encode_control(c->t, f->begin, strlen(f->begin), c->said.ids, c->said.room);
    const settings *s = c->s;
    if (GIVEN(system) && f->prefix[SYSTEM])
        chat_turn(&c->said, c->t, f->prefix[SYSTEM], s->system, f->suffix[SYSTEM]);
}

static int run_chat_turns(chat *c)
{
    const settings *s = c->s;
    const chat_format *f = c->format;
    char *glued = GIVEN(system) && !f->prefix[SYSTEM] ? joined("%s\n\n", s->system) : joined("%s", "");
    char *line;
    int first = 1;
    chat_begin(c);
    while (show_terminal ? printf("> ") && fflush(stdout) == 0 : 1) {
        if (!(line = chat_line())) break;
        if (strcmp(line, "/quit") == 0) { free(line); break; }
        if (*line && strcmp(line, "/new") != 0) {
            char *text = joined("%s%s", first ? glued : "", line);
            chat_turn(&c->said, c->t, f->prefix[USER], text, f->suffix[USER]);
            free(text);
            chat_turn(&c->said, c->t, f->prefix[ASSISTANT], "", "");
            first = 0;
            if (!chat_answer(c)) {
                if (glam_error(glam_model_ctx(c->model))) { free(line); break; }
                printf("(the %d tokens of this conversation are used up; a new one begins)\n", c->most);
                first = 1;
            }
        } else if (*line) first = 1;
        if (first) {
            glam_session_reset(c->session);
            chat_begin(c);
        }
        free(line);
    }
    free(glued);
    free(c->said.ids);
    return failure(glam_model_ctx(c->model));
}

static int run_chat(settings *s, char **words, int count)
{
    chat c;
    memset(&c, 0, sizeof c);
    if (count != 1)
        return complain(USAGE, "chat wants one model: %s chat model.safetensors", program);
    glam_ctx *ctx = open_context(s);
    c.s = s;
    c.model = load_adapted(ctx, words[0], s);
    c.t = glam_model_tokenizer(c.model);
    c.sampling = glam_sampling_default();
    if (GIVEN(temperature)) c.sampling.temperature = (float)s->temperature;
    if (GIVEN(seed)) c.sampling.seed = s->seed;
    int status = failure(ctx);
    for (int i = 0; i < CHAT_FORMATS && status == DONE; i++)
        if (GIVEN(format) ? strcmp(s->format, chat_formats[i].name) == 0
                          : !c.format && piece_named(c.t, chat_formats[i].mark) >= 0)
            c.format = &chat_formats[i];
    if (status == DONE && GIVEN(format) && !c.format)
        status = complain(USAGE, "--format %s: chatml, granite, llama3, mistral or olmoe is wanted",
                          s->format);
    if (status == DONE && !c.format)
        status = complain(FAILED, "%s: its tokenizer has no marks of turns; was it trained to talk? "
                          "--format says which it knows, generate goes on with a text", words[0]);
    if (status == DONE) {
        char *mark = joined("%s", c.format->suffix[ASSISTANT]);
        size_t length = strlen(mark);
        if (length && mark[length - 1] == '\n') mark[length - 1] = 0;
        c.end = piece_named(c.t, mark);
        free(mark);
        c.most = GIVEN(room) ? s->room : 2048;
        c.session = glam_session_new(c.model, c.most);
        status = failure(ctx);
    }
    if (status == DONE) {
        if (show_terminal)
            printf("turns as in %s; /new begins again, /quit or Ctrl-D ends\n", c.format->name);
        status = run_chat_turns(&c);
    }
    glam_close(ctx);
    return status;
}

#endif
