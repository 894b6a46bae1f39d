/* glam_chat.h - the command chat: a conversation in the terminal.  A part of glam.c. */

#ifndef GLAM_CHAT_H
#define GLAM_CHAT_H

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
    if (status == DONE) status = choose_format(s, c.t, &c.format);
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
