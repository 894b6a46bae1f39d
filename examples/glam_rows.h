/* glam_rows.h - lines of JSON to fine-tune on, a row each:

       {"text": "..."}                                      all of it is learnt
       {"prompt": "...", "completion": "..."}               the completion is, and the end behind it
       {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}
                                                            what the assistant says is, and the mark
                                                            that ends its turn
   What is learnt is known by where it stands, never by which token it is.  A part of glam.c. */

#ifndef GLAM_ROWS_H
#define GLAM_ROWS_H

typedef struct row_set {
    const settings       *s;
    const glam_tokenizer *tokens;
    const chat_format    *format;
    int           context;                       // tokens of a window; a row has room for one more
    glam_example *list;
    int           count, room;
    chat_tokens   ids;                           // of this row
    unsigned char *learn;                        // for each of them
    size_t        learn_room;
    int           cut, left_out;                 // rows that were too long
    uint64_t      learnt, all;                   // tokens
} row_set;

enum { SHOWN_ROWS = 5 };

static const char *const long_ways[] = { "cut", "skip", "refuse", NULL };

// Is a file one of rows?  1 when --documents rows says so, or its first line has a prompt or
// messages.  (A file of texts alone is one of documents, which may be longer than a window.)
static int is_rows(const char *path, const char *documents)
{
    jsonl in;
    int found = documents && strcmp(documents, "rows") == 0, length = (int)strlen(path);
    if (found || length < 6 || strcmp(path + length - 6, ".jsonl") != 0) return found;
    if (kind_of(path) != PLAIN || jsonl_open(&in, path)) return 0;
    in.quiet = 1;                                // who reads it as texts says what is wrong
    found = jsonl_next(&in) == 1 && (json_find(&in, "prompt") || json_find(&in, "messages") ||
                                     json_find(&in, "completion"));
    jsonl_close(&in);
    return found;
}

static void row_learn(row_set *r, size_t from, int learn)
{
    if (r->ids.count > r->learn_room) {
        r->learn_room = 2 * r->ids.count;
        unsigned char *larger = (unsigned char *)need(r->learn_room);
        if (from) memcpy(larger, r->learn, from);
        free(r->learn);
        r->learn = larger;
    }
    if (r->ids.count > from) memset(r->learn + from, learn, r->ids.count - from);
}

// The tokens of a text behind those of this row.
static void row_encode(row_set *r, const char *text, size_t bytes)
{
    chat_tokens *c = &r->ids;
    chat_room(c, bytes + 8);
    c->count += glam_encode(r->tokens, text, bytes, c->ids + c->count, c->room - c->count);
}

static void row_put_end(row_set *r)
{
    const glam_vocabulary *v = glam_tokenizer_vocabulary(r->tokens);
    chat_room(&r->ids, 1);
    if (v && v->end >= 0) r->ids.ids[r->ids.count++] = v->end;
}

// An answer to what the row has from `asked` on: cut into tokens as one text with that, where its
// tokens begin with those that the question has alone, else for itself.
static void row_answer(row_set *r, size_t asked, const char *question, const char *answer)
{
    size_t n = r->ids.count - asked, bytes = strlen(question) + strlen(answer), count;
    char *both = joined("%s%s", question, answer);
    int32_t *ids = (int32_t *)need((bytes + 8) * sizeof *ids);
    count = glam_encode(r->tokens, both, bytes, ids, bytes + 8);
    if (count >= n && (n == 0 || memcmp(ids, r->ids.ids + asked, n * sizeof *ids) == 0)) {
        chat_room(&r->ids, count - n);
        memcpy(r->ids.ids + r->ids.count, ids + n, (count - n) * sizeof *ids);
        r->ids.count += count - n;
    } else row_encode(r, answer, strlen(answer));
    free(ids);
    free(both);
}

// A string of JSON as text that C can read; 0: it has a byte 0 in it, which is told.
static int plain_text(jsonl *in, const char *name, json_text text)
{
    if (!memchr(text.text, 0, text.length)) return 1;
    jsonl_wrong(in, "the field \"%s\" has a character 0", name);
    return 0;
}

static int row_pair(row_set *r, jsonl *in)
{
    json_text prompt, completion;
    int got = json_string(in, "prompt", &prompt);
    if (got == 0) jsonl_wrong(in, "there is a \"completion\", and no \"prompt\"");
    if (got < 1) return 0;
    got = json_string(in, "completion", &completion);
    if (got == 0) jsonl_wrong(in, "there is a \"prompt\", and no \"completion\"");
    if (got < 1 || !plain_text(in, "prompt", prompt) || !plain_text(in, "completion", completion))
        return 0;
    size_t asked = r->ids.count, from;
    row_encode(r, prompt.text, prompt.length);
    row_learn(r, asked, 0);
    from = r->ids.count;
    row_answer(r, asked, prompt.text, completion.text);
    row_put_end(r);
    row_learn(r, from, 1);
    return 1;
}

// One turn; glued: what stands before a user's text where the format has no turns of a system.
static void row_turn(row_set *r, chat_role role, const char *glued, const char *content)
{
    const chat_format *f = r->format;
    size_t from = r->ids.count;
    if (role != ASSISTANT) {
        char *text = joined("%s%s", glued, content);
        chat_turn(&r->ids, r->tokens, f->prefix[role], text, f->suffix[role]);
        free(text);
        row_learn(r, from, 0);
        return;
    }
    chat_turn(&r->ids, r->tokens, f->prefix[role], "", "");      // what chat gives the model
    row_learn(r, from, 0);
    const char *plain = chat_plain(r->tokens, f->prefix[role]), *suffix = f->suffix[role];
    size_t begin = r->ids.count, marks = (size_t)(plain - f->prefix[role]);
    row_answer(r, from + glam_encode_control(r->tokens, f->prefix[role], marks, NULL, 0), plain,
               content);
    size_t bytes = strlen(suffix), mark = bytes - (bytes && suffix[bytes - 1] == '\n');
    chat_room(&r->ids, 2 * bytes + 8);
    size_t ends = glam_encode_control(r->tokens, suffix, mark, r->ids.ids + r->ids.count,
                                      r->ids.room - r->ids.count);
    row_learn(r, begin, 1);
    r->ids.count += ends;
    row_learn(r, r->ids.count - ends, 1);
    from = r->ids.count;
    if (mark < bytes)
        r->ids.count += glam_encode_control(r->tokens, suffix + mark, bytes - mark,
                                            r->ids.ids + from, r->ids.room - from);
    row_learn(r, from, 0);
}

// The {"role": ..., "content": ...} of a turn; 0: wrong, which is told.
static int read_message(jsonl *in, const hub_json *m, int number, json_text *role, json_text *content)
{
    static const char *const names[] = { "role", "content" };
    if (m->type != HUB_OBJECT) {
        jsonl_wrong(in, "message %d is no object with a role and its content", number);
        return 0;
    }
    for (int i = 0; i < 2; i++) {
        const hub_json *of = hub_get(m, names[i]);
        if (!of) jsonl_wrong(in, "message %d has no %s", number, names[i]);
        else if (of->type != HUB_STRING)
            jsonl_wrong(in, "message %d: its %s is %s; a string is wanted", number, names[i],
                        json_kind_name(of->type));
        if (!of || of->type != HUB_STRING) return 0;
        *(i ? content : role) = json_text_of(of);
    }
    return 1;
}

static int row_messages(row_set *r, jsonl *in)
{
    static const char *const names[] = { "system", "user", "assistant" };
    const hub_json *list;
    json_text role = { "", 0 }, content = { "", 0 };
    if (json_of_kind(in, "messages", HUB_ARRAY, &list) < 1) return 0;
    if (!r->format) {
        jsonl_wrong(in, "messages: the model's tokenizer has no marks of turns; --format says "
                    "which to write");
        return 0;
    }
    const chat_format *f = r->format;
    char *glued = joined("%s", "");
    int good = 1, number = 1;
    r->ids.count = 0;
    chat_room(&r->ids, 64);
    r->ids.count = glam_encode_control(r->tokens, f->begin, strlen(f->begin), r->ids.ids, 64);
    row_learn(r, 0, 0);
    for (const hub_json *m = list->first; m && good; m = m->next, number++) {
        int who = 0;
        good = read_message(in, m, number, &role, &content);
        while (good && who < 3 && strcmp(names[who], role.text) != 0) who++;
        if (who == 3)
            good = jsonl_wrong(in, "message %d: there is no role \"%s\"; system, user and assistant "
                               "are known", number, role.text) > 0;
        else if (good && who != USER && *glued)
            good = jsonl_wrong(in, "message %d: the %s format puts the system's words into the "
                               "user's turn, which must come next", number, f->name) > 0;
        if (!good || !(good = plain_text(in, "content", content))) break;
        if (who == SYSTEM && !f->prefix[SYSTEM]) {
            free(glued);
            glued = joined("%s\n\n", content.text);
            continue;
        }
        row_turn(r, (chat_role)who, glued, content.text);
        free(glued);
        glued = joined("%s", "");
    }
    free(glued);
    return good;
}

// The tokens of a row into r->ids; 0: something is wrong with it, which is told.
static int row_tokens(row_set *r, jsonl *in)
{
    const glam_vocabulary *v = glam_tokenizer_vocabulary(r->tokens);
    json_text text;
    r->ids.count = 0;
    chat_room(&r->ids, 1);
    if (v && v->begin >= 0) r->ids.ids[r->ids.count++] = v->begin;
    row_learn(r, 0, 0);
    int kinds = (json_find(in, "text") != NULL) + (json_find(in, "messages") != NULL) +
                (json_find(in, "prompt") || json_find(in, "completion"));
    if (kinds != 1) {
        jsonl_wrong(in, "a row has %s \"text\", \"prompt\" and \"completion\", or \"messages\"",
                    kinds ? "one of" : "none of");
        return 0;
    }
    if (json_find(in, "messages")) return row_messages(r, in);
    if (!json_find(in, "text")) return row_pair(r, in);
    if (json_string(in, "text", &text) < 1) return 0;
    size_t from = r->ids.count;
    row_encode(r, text.text, text.length);
    row_put_end(r);
    row_learn(r, from, 1);
    return 1;
}

// A row into the list, cut to what a window has room for; 0: wrong, which is told.
static int row_keep(row_set *r, jsonl *in)
{
    const settings *s = r->s;
    size_t n = r->ids.count, most = (size_t)r->context + 1;
    int longer = n > most, learnt = 0;
    if (longer && GIVEN(long_rows) && strcmp(s->long_rows, "refuse") == 0) {
        jsonl_wrong(in, "the row has %.0f tokens, a context of %d has room for %.0f",
                    (double)n, r->context, (double)most);
        return 0;
    }
    if (longer && GIVEN(long_rows) && strcmp(s->long_rows, "skip") == 0) {
        r->left_out++;
        return 1;
    }
    if (longer) n = most;
    while (n > 1 && !r->learn[n - 1]) n--;       // what nothing is learnt behind
    for (size_t i = 1; i < n; i++) learnt += r->learn[i];
    if (!learnt) {
        jsonl_wrong(in, longer ? "the row has %.0f tokens, of which a context of %d cuts off all "
                    "that are to be learnt; --long skip leaves such rows out"
                    : "nothing of the row's %.0f tokens is to be learnt (context %d)",
                    (double)r->ids.count, r->context);
        return 0;
    }
    if (r->count == r->room) {
        r->room = 2 * r->room + 64;
        glam_example *larger = (glam_example *)need((size_t)r->room * sizeof *larger);
        if (r->count) memcpy(larger, r->list, (size_t)r->count * sizeof *larger);
        free(r->list);
        r->list = larger;
    }
    int32_t *ids = (int32_t *)need(n * sizeof *ids);
    unsigned char *learn = (unsigned char *)need(n);
    memcpy(ids, r->ids.ids, n * sizeof *ids);
    memcpy(learn, r->learn, n);
    glam_example one = { ids, learn, (int)n };
    r->list[r->count++] = one;
    r->cut += longer;
    r->learnt += (uint64_t)learnt;
    r->all += n;
    return 1;
}

// The first rows, what is learnt of them in colour, or between [ and ].
static void show_mask(const row_set *r)
{
    for (int i = 0; i < r->count && i < SHOWN_ROWS; i++) {
        const glam_example *e = &r->list[i];
        int learnt = 0;
        for (int t = 1; t < e->count; t++) learnt += e->learn[t];
        printf("%srow %d: %d tokens, %d of them learnt\n", i ? "\n" : "", i + 1, e->count, learnt);
        for (int from = 0, to; from < e->count; from = to) {
            int bytes, on = from > 0 && e->learn[from];
            for (to = from + 1; to < e->count && (to > 0 && e->learn[to]) == on; ) to++;
            fputs(!on ? "" : show_colour ? "\033[1;32m" : "[", stdout);
            for (int t = from; t < to; t++) {
                int size = 0;
                const char *piece = glam_tokenizer_piece(r->tokens, e->tokens[t], &size);
                char *text = piece ? NULL : tokens_text(r->tokens, &e->tokens[t], 1, &bytes);
                fwrite(piece ? piece : text, 1, (size_t)(piece ? size : bytes), stdout);
                free(text);
            }
            fputs(!on ? "" : show_colour ? "\033[0m" : "]", stdout);
        }
        printf("\n");
    }
}

// Files of rows as one text of examples; NULL: *told says whether why has been told.
static glam_text *open_rows(glam_ctx *ctx, const settings *s, char **paths, int count,
                            const glam_tokenizer *tokens, int context, int *told)
{
    row_set r;
    glam_text *text = NULL;
    memset(&r, 0, sizeof r);
    r.s = s;
    r.tokens = tokens;
    r.context = context;
    *told = choose_format(s, tokens, &r.format) != DONE;
    for (int i = 0; i < count && !*told; i++) {
        jsonl in;
        int got;
        if (jsonl_open(&in, paths[i])) { *told = 1; break; }
        while ((got = jsonl_next(&in)) > 0 && row_tokens(&r, &in) && row_keep(&r, &in)) {}
        *told = got != 0;
        jsonl_close(&in);
    }
    if (!*told && !r.count)
        *told = complain(FAILED, "%s: there is no row to learn from%s", paths[0],
                         r.left_out ? "; all are longer than the context" : "") != DONE;
    if (!*told && GIVEN(show_mask)) show_mask(&r);
    if (!*told && (!s->quiet || GIVEN(show_mask))) {
        printf("%srows      %s, %s of their %s tokens to be learnt", GIVEN(show_mask) ? "\n" : "",
               show_commas((uint64_t)r.count), show_commas(r.learnt), show_commas(r.all));
        if (r.cut) printf(";\n          %d longer than %d tokens, cut at the end", r.cut,
                          context + 1);
        if (r.left_out) printf(";\n          %d longer than %d tokens, left out", r.left_out,
                               context + 1);
        printf("\n");
    }
    *told |= GIVEN(show_mask);
    if (!*told) text = glam_text_examples(ctx, r.list, r.count, context);
    for (int i = 0; i < r.count; i++) {
        free((void *)(uintptr_t)r.list[i].tokens);
        free((void *)(uintptr_t)r.list[i].learn);
    }
    free(r.list);
    free(r.learn);
    free(r.ids.ids);
    return text;
}

#endif
