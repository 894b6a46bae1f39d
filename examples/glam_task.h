/* glam_task.h - rows of a task: what is asked, what may be answered, which is right; solved rows
   put before them; answers written by a beam and compared.  A part of glam.c.

   A row is an object in one of these forms, all strings but gold and the lists:

       {"query", "choices", "gold"}                   which choice follows the query best?
       {"context_options", "continuation", "gold"}    after which context does it follow best?
       {"context", "continuation"}                    would the model write just this?
       {"context", "answers"}                         what does it write?  also "answer", "aliases"

   or has fields of its own, of which a suite's template makes a query. */

#ifndef GLAM_TASK_H
#define GLAM_TASK_H

typedef enum row_kind { CHOICES, CONTEXTS, GREEDY, ANSWERS } row_kind;

typedef struct task_row {
    row_kind kind;
    char    *query;                              // NULL with CONTEXTS
    char   **options;                            // choices, contexts or answers
    char    *continuation;                       // of CONTEXTS and GREEDY
    int      count, gold;                        // of options; with GREEDY 0
} task_row;

typedef struct task_rows { task_row *row; int count, room; } task_rows;

typedef enum metric { ACCURACY, F1A, EXACT, F1 } metric;
static const char *const metric_names[] = {"accuracy", "f1a", "exact", "f1", NULL};
static const char *const per_names[]    = {"sum", "tokens", "chars", "bytes", NULL};

// A task as a line of a suite has it, or as options say it.
typedef struct eval_task {
    char    *name, *kind;                        // kind: NLG or NLU
    char    *file, *shots_from;                  // shots_from NULL: the file itself
    char    *pattern, *gold;                     // the query's, NULL: none; the field of the gold
    char    *delimiter;
    char    *list;                               // the field of the choices; NULL: "choices"
    char   **choices;                            // the same for all rows; count 0: each row's own
    char   **stops;                              // strings that end an answer; count 0: a new line
    char   **labels;                             // what the gold calls them; count 0: nothing
    int      choice_count, label_count, stop_count, shots, most;    // most: tokens of an answer
    metric   metric;
    glam_per per;
} eval_task;

// == reading ================================================================================

static char *copy_text(const json_text *t)
{
    return joined("%.*s", (int)t->length, t->text);
}

static char **copy_texts(const json_text *list, int count)
{
    char **out = (char **)need((size_t)count * sizeof *out);
    for (int i = 0; i < count; i++) out[i] = copy_text(&list[i]);
    return out;
}

static void free_texts(char **list, int count)
{
    for (int i = 0; i < count; i++) free(list[i]);
    free(list);
}

static void free_rows(task_rows *rows)
{
    for (int i = 0; i < rows->count; i++) {
        free(rows->row[i].query);
        free(rows->row[i].continuation);
        free_texts(rows->row[i].options, rows->row[i].count);
    }
    free(rows->row);
    memset(rows, 0, sizeof *rows);
}

// A pattern with each {name} replaced by that field of the line; NULL when a field is not there.
static char *fill_pattern(jsonl *in, const char *pattern)
{
    char *out = joined("%s", "");
    for (const char *p = pattern; *p; ) {
        json_text field = {"{", 1};
        const char *end = *p == '{' ? strchr(p, '}') : NULL;
        size_t plain = *p == '{' ? 1 : strcspn(p, "{");
        if (end) {
            char *name = joined("%.*s", (int)(end - p - 1), p + 1);
            const hub_json *there = json_find(in, name);
            int text = there && there->type == HUB_STRING;
            if (text) field = json_text_of(there);
            free(name);
            if (!text) {
                free(out);
                return NULL;
            }
        }
        char *more = end ? joined("%s%.*s", out, (int)field.length, field.text)
                         : joined("%s%.*s", out, (int)plain, p);
        free(out);
        out = more;
        p = end ? end + 1 : p + plain;
    }
    return out;
}

// The number of the right option: a number, true or false, the option's text, label or letter.
static int read_gold(jsonl *in, const eval_task *t, task_row *row)
{
    const char *name = json_find(in, "gold") ? "gold" : t->gold;
    const hub_json *f = json_find(in, name);
    double number = -1;
    json_text text;
    if (!f) return jsonl_wrong(in, "there is no field \"%s\", which says what is right", name);
    if (f->type == HUB_NUMBER) number = f->number;
    else if (f->type == HUB_TRUE || f->type == HUB_FALSE) number = f->type == HUB_TRUE;
    else if (json_string(in, name, &text) > 0) {
        if (text.length == 1) number = text.text[0] - 'A';
        for (int i = 0; i < row->count; i++)
            if (strcmp(row->options[i], text.text) == 0 ||
                (i < t->label_count && strcmp(t->labels[i], text.text) == 0)) number = i;
    } else return -1;
    if (!(number >= 0) || number >= row->count || number > floor(number))
        return jsonl_wrong(in, "\"%s\" is none of the %d options, which are numbered from 0", name,
                           row->count);
    row->gold = (int)number;
    return 1;
}

// Lists and single strings that are right answers; how many, or -1.
static int read_answers(jsonl *in, task_row *row)
{
    static const char *const lists[] = {"answers", "aliases"};
    json_text one, *list;
    int count, got = json_find(in, "answer") ? json_string(in, "answer", &one) : 0;
    row->options = (char **)need(sizeof(char *));
    if (got < 0) return -1;
    if (got) row->options[row->count++] = copy_text(&one);
    for (int i = 0; i < 2; i++) {
        got = json_strings(in, lists[i], &list, &count);
        if (got < 0) return -1;
        if (got == 0) continue;
        char **more = (char **)need((size_t)(row->count + count + 1) * sizeof *more);
        for (int k = 0; k < row->count; k++) more[k] = row->options[k];
        for (int k = 0; k < count; k++) more[row->count + k] = copy_text(&list[k]);
        free(row->options);
        row->options = more;
        row->count += count;
    }
    return row->count;
}

static int read_options(jsonl *in, const eval_task *t, task_row *row)
{
    json_text *list;
    const char *from = row->kind == CONTEXTS ? "context_options"
                       : t->list && json_find(in, t->list) ? t->list : "choices";
    int got = json_strings(in, from, &list, &row->count);
    if (got < 0) return -1;
    if (got) row->options = copy_texts(list, row->count);
    else {
        row->options = (char **)need((size_t)t->choice_count * sizeof(char *));
        for (int i = 0; i < t->choice_count; i++, row->count++) {
            row->options[i] = fill_pattern(in, t->choices[i]);
            if (!row->options[i])
                return jsonl_wrong(in, "it has not the fields of the choice %s", t->choices[i]);
        }
    }
    if (row->count < 2)
        return jsonl_wrong(in, "%d to choose from; two at least are wanted", row->count);
    for (int i = 0; i < row->count; i++)
        if (!row->options[i][0] && row->kind == CHOICES)
            return jsonl_wrong(in, "choice %d is empty", i);
    return read_gold(in, t, row);
}

// One line into a row; -1: wrong, which is told.
static int read_row(jsonl *in, const eval_task *t, task_row *row)
{
    json_text text;
    memset(row, 0, sizeof *row);
    int chosen = json_find(in, "choices") || t->choice_count || (t->list && json_find(in, t->list));
    int answered = json_find(in, "answer") || json_find(in, "answers") || json_find(in, "aliases");
    row->kind = json_find(in, "context_options") ? CONTEXTS : chosen ? CHOICES
                : json_find(in, "continuation") ? GREEDY : ANSWERS;
    if (row->kind == ANSWERS && !answered)
        return jsonl_wrong(in, "no row of a task: choices, context_options, continuation or "
                           "answers are wanted");
    if (row->kind != CONTEXTS) {
        const char *from = json_find(in, "query") ? "query" : "context";
        row->query = t->pattern ? fill_pattern(in, t->pattern) : NULL;
        int got = row->query ? 1 : json_string(in, from, &text);
        if (got < 0) return -1;
        if (got == 0) return jsonl_wrong(in, "there is no query and no context");
        if (!row->query) row->query = copy_text(&text);
    }
    if (row->kind == CONTEXTS || row->kind == GREEDY) {
        int got = json_string(in, "continuation", &text);
        if (got < 0) return -1;
        if (got == 0 || !text.length) return jsonl_wrong(in, "there is no continuation");
        row->continuation = copy_text(&text);
    }
    if (row->kind == GREEDY) return 1;
    if (row->kind != ANSWERS) return read_options(in, t, row);
    int answers = read_answers(in, row);
    return answers ? answers : jsonl_wrong(in, "its list of answers is empty");
}

static int read_rows(const char *path, const eval_task *t, task_rows *rows)
{
    jsonl in;
    int got;
    memset(rows, 0, sizeof *rows);
    if (jsonl_open(&in, path)) return FAILED;
    while ((got = jsonl_next(&in)) > 0) {
        if (rows->count == rows->room) {
            rows->room = 2 * rows->room + 64;
            task_row *more = (task_row *)need((size_t)rows->room * sizeof *more);
            if (rows->count) memcpy(more, rows->row, (size_t)rows->count * sizeof *more);
            free(rows->row);
            rows->row = more;
        }
        task_row *row = &rows->row[rows->count++];
        got = strstr(in.in.text, "\\u0000") ? jsonl_wrong(&in, "texts end at a \\u0000") : 1;
        memset(row, 0, sizeof *row);
        if (got < 0 || (got = read_row(&in, t, row)) < 0) break;
        if (row->kind == rows->row[0].kind) continue;
        got = jsonl_wrong(&in, "it has another form than the first row");
        break;
    }
    jsonl_close(&in);
    if (got == 0 && rows->count == 0) got = complain(FAILED, "%s has no rows", path);
    if (got == 0) return DONE;
    free_rows(rows);
    return FAILED;
}

// == texts of a row =========================================================================

// What stands between a context and what follows it, if neither has a blank there.
static const char *between(const char *context, const char *next, const char *delimiter)
{
    size_t length = strlen(context);
    int blank = !length || strchr(" \t\n\r", context[length - 1]) || strchr(" \t\n\r", *next);
    return blank ? "" : delimiter;
}

// A row with its answer, as it stands before another.
static char *solved(const task_row *r, const char *delimiter)
{
    const char *context = r->kind == CONTEXTS ? r->options[r->gold] : r->query;
    const char *next = r->continuation ? r->continuation : r->options[r->gold];
    return joined("%s%s%s", context, between(context, next, delimiter), next);
}

// Solved rows before row number `index`, drawn without repetition by (seed, index), each with two
// new lines behind it.  same: they come from the task itself, so the row is not one of them.
static char *draw_shots(const task_rows *from, int same, int index, int shots, uint64_t seed,
                        const char *delimiter)
{
    char *out = joined("%s", "");
    int *drawn = (int *)need((size_t)shots * sizeof *drawn), have = 0;
    for (uint64_t i = 0; have < shots; i++) {
        double at = (double)glam_random(seed, 0x73686f74u + (uint64_t)index, i);
        int row = (int)(at * from->count), again = same && row == index;
        for (int k = 0; k < have; k++) again |= drawn[k] == row;
        if (again) continue;
        drawn[have++] = row;
        char *one = solved(&from->row[row], delimiter);
        char *more = joined("%s%s\n\n", out, one);
        free(one);
        free(out);
        out = more;
    }
    free(drawn);
    return out;
}

// == answers ================================================================================

// Where the first stop string of the task begins; `bytes` when there is none.
static size_t find_stop(const char *text, size_t bytes, const eval_task *t)
{
    for (size_t at = 0; at < bytes; at++) {
        if (!t->stop_count && text[at] == '\n') return at;
        for (int i = 0; i < t->stop_count; i++) {
            size_t length = strlen(t->stops[i]);
            if (length && length <= bytes - at && memcmp(text + at, t->stops[i], length) == 0)
                return at;
        }
    }
    return bytes;
}

typedef struct answer_end { const glam_tokenizer *tokens; const eval_task *task; } answer_end;

// For glam_beam: do these tokens end with the tokenizer's end, or hold a stop string?
static int ends_answer(void *user, const int32_t *tokens, int count)
{
    const answer_end *end = (const answer_end *)user;
    const glam_vocabulary *v = glam_tokenizer_vocabulary(end->tokens);
    int bytes;
    if (v && tokens[count - 1] == v->end) return 1;
    char *text = tokens_text(end->tokens, tokens, count, &bytes);
    int ends = find_stop(text, (size_t)bytes, end->task) < (size_t)bytes;
    free(text);
    return ends;
}

// What the model writes behind a prompt until a stop string, found by a beam.  The caller frees it;
// NULL: the context has the error.
static char *write_answer(glam_model *model, const eval_task *task, const char *prompt, int window,
                          int width, double *loglik)
{
    const glam_tokenizer *t = glam_model_tokenizer(model);
    const glam_vocabulary *v = glam_tokenizer_vocabulary(t);
    glam_beam beam = glam_beam_default();
    answer_end end = {t, task};
    int most = task->most, begins = v && v->begin >= 0, bytes;
    if (!*prompt) prompt = "\n";                         // something to continue
    int count = begins + (int)glam_encode(t, prompt, strlen(prompt), NULL, 0);
    int room = window > most ? window - most : 1, from = count > room ? count - room : 0;
    int32_t *ids = (int32_t *)need(((size_t)count + (size_t)most) * sizeof *ids);
    if (begins) ids[0] = v->begin;
    glam_encode(t, prompt, strlen(prompt), ids + begins, (size_t)(count - begins));
    if (width) beam.width = width;
    beam.ends = ends_answer;
    beam.ends_user = &end;
    int made = glam_beam_search(model, ids + from, count - from, ids + count, most, &beam, loglik);
    char *text = tokens_text(t, ids + count, made, &bytes);
    text[find_stop(text, (size_t)bytes, task)] = 0;
    free(ids);
    if (made) return text;
    free(text);
    return NULL;
}

// The words of an answer as SQuAD compares them: lower case, without punctuation and articles (of
// ASCII).  The caller frees them with their list.
static int compared_words(const char *text, char ***out)
{
    int count = 0;
    char **words = (char **)need((strlen(text) / 2 + 1) * sizeof *words);
    while (*text) {
        size_t length = 0;
        while (*text && isspace((unsigned char)*text)) text++;
        char *word = (char *)need(strlen(text) + 1);
        for (; *text && !isspace((unsigned char)*text); text++)
            if (!ispunct((unsigned char)*text))
                word[length++] = (char)tolower((unsigned char)*text);
        word[length] = 0;
        int article = !strcmp(word, "a") || !strcmp(word, "an") || !strcmp(word, "the");
        if (length && !article) words[count++] = word;
        else free(word);
    }
    *out = words;
    return count;
}

// F1 of the words that an answer and the right one have in common; *exact: they are the same.
static double compare_answers(const char *answer, const char *right, int *exact)
{
    char **a, **b;
    int n = compared_words(answer, &a), m = compared_words(right, &b), common = 0;
    *exact = n == m;
    for (int i = 0; i < n && i < m; i++) *exact &= strcmp(a[i], b[i]) == 0;
    for (int i = 0; i < n; i++)                          // each word of b is found once
        for (int j = 0; j < m; j++) {
            if (!b[j] || strcmp(a[i], b[j]) != 0) continue;
            free(b[j]);
            b[j] = NULL;
            common++;
            break;
        }
    free_texts(a, n);
    free_texts(b, m);
    if (!n || !m) return n == m;                         // no words: right when both have none
    return 2.0 * common / (n + m);
}

#endif
