/* glam_eval.h - the command eval: the loss of a text or of ids; tasks, alone or as a suite.  A part
   of glam.c. */

#ifndef GLAM_EVAL_H
#define GLAM_EVAL_H

// == texts and ids ==========================================================================

static int eval_text(settings *s, glam_ctx *ctx, glam_model *model, char **words)
{
    const glam_tokenizer *tokens = glam_model_tokenizer(model);
    int told;
    glam_text *text = open_training_text(ctx, words[1], tokens, s->documents, &told), *rest = NULL;
    if (told) return FAILED;
    if (GIVEN(val_fraction))
        glam_text_split(text, (float)s->val_fraction, &rest, &text);
    if (failure(ctx)) return FAILED;
    int context = GIVEN(window) ? s->window : glam_model_config(model)->context;
    glam_perplexity_report p;
    if (glam_text_length(text) <= (size_t)context)
        return complain(FAILED, "%s: %s tokens are fewer than a context of %d and the next token",
                        words[1], show_commas(glam_text_length(text)), context);
    glam_perplexity(model, text, context, &p);
    if (failure(ctx)) return FAILED;
    if (p.tokens == 0 || !isfinite(p.loss))
        return complain(FAILED, "%s on %s: the loss is %g, which is no number to trust", words[0],
                        words[1], p.loss);
    printf("%s on %s%s: loss %.4f nats per token, perplexity %.3f, %.4f bits per byte, "
           "%s tokens\n", words[0], rest ? "the last part of " : "", words[1], p.loss,
           p.perplexity, p.bits_per_token / bytes_per_token(text, tokens), show_commas(p.tokens));
    return DONE;
}

// One line of ids, apart by anything that is no digit; -1: wrong, which is told.
static int read_ids(const lines *in, int vocab, int32_t **ids)
{
    const char *c = in->text;
    int count = 0;
    int32_t *out = (int32_t *)need((in->length / 2 + 2) * sizeof *out);
    *ids = out;
    while (*c) {
        uint64_t value;
        c += strspn(c, " \t\r,[]");
        if (!*c) break;
        const char *end = read_whole(c, (uint64_t)INT32_MAX, &value);
        if (!end || (*end && !strchr(" \t\r,[]", *end)))
            complain(FAILED, "%s:%" PRIu64 ": an id is wanted, not %.20s", in->name, in->number, c);
        else if (value >= (uint64_t)vocab)
            complain(FAILED, "%s:%" PRIu64 ": the id %" PRIu64 " is beyond the vocabulary of %d",
                     in->name, in->number, value, vocab);
        else {
            out[count++] = (int32_t)value;
            c = end;
            continue;
        }
        return -1;
    }
    if (count != 1) return count;
    complain(FAILED, "%s:%" PRIu64 ": one id alone predicts nothing", in->name, in->number);
    return -1;
}

// The first id of a line is given, the others are predicted.
static int eval_ids(settings *s, glam_ctx *ctx, glam_model *model, const char *name)
{
    lines in;
    double loss = 0, tokens = 0;
    int got, sequences = 0;
    if (lines_open(&in, s->ids)) return FAILED;
    while ((got = lines_next(&in)) > 0) {
        int32_t *ids;
        glam_score score;
        int count = read_ids(&in, glam_model_config(model)->vocab, &ids);
        glam_span span = {ids, count, 1};
        if (count > 0)
            glam_loglikelihood_tokens(model, &span, 1, GIVEN(window) ? s->window : 0, &score);
        free(ids);
        if (count < 0 || failure(ctx)) got = -1;
        if (got < 0) break;
        if (!count) continue;
        loss -= score.loglik;
        tokens += score.tokens;
        sequences++;
    }
    lines_close(&in);
    if (got < 0) return FAILED;
    if (!sequences) return complain(FAILED, "%s holds no ids", s->ids);
    loss /= tokens;
    printf("%s on %s: loss %.6f nats per token, perplexity %.4f, %s tokens predicted in %d "
           "sequences\n", name, s->ids, loss, exp(loss), show_commas((uint64_t)tokens), sequences);
    return DONE;
}

// == a task =================================================================================

// What came out.  sum and squares: of the task's metric over rows.
typedef struct outcome {
    int      rows, cut, shots;
    double   right[4], sum, squares, chance, loglik, tokens, f1;
    double   hit, said, real;                    // F1 over all answers of F1A
    row_kind kind;
} outcome;

typedef struct evaluation {
    settings   *s;
    glam_ctx   *ctx;
    glam_model *model;
    outfile     out;
    FILE       *say;                             // results; standard error when lines go to stdout
    int         suite;                           // lines name their task
    double      told, started;                   // seconds
} evaluation;

static double eval_clock(void)
{
#ifdef HAVE_UNISTD
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
#else
    return (double)time(NULL);
#endif
}

// Where the work stands, on the terminal each second, elsewhere every half minute.
static void tell_progress(evaluation *e, const char *name, int done, int all)
{
#ifdef HAVE_UNISTD
    int terminal = isatty(2);
#else
    int terminal = 0;
#endif
    double now = eval_clock(), gone = now - e->started;
    int last = done == all;
    if (last ? !terminal || e->told <= e->started : now - e->told < (terminal ? 1 : 30)) return;
    e->told = now;
    if (last) fprintf(stderr, "\r%78s\r", "");
    else fprintf(stderr, "%s%s: %d of %d rows, %.0f s to go  %s", terminal ? "\r" : "", name, done,
                 all, done ? gone / done * (all - done) : 0, terminal ? "" : "\n");
}

static void add_value(outcome *o, double value)
{
    o->sum += value;
    o->squares += value * value;
}

// The brace, and the task's name where there are several.
static void begin_line(const evaluation *e, const eval_task *t, json_out *line)
{
    json_put(line, "{", 1);
    if (!e->suite) return;
    json_printf(line, "\"task\":");
    json_put_text(line, t->name, strlen(t->name));
    json_put(line, ",", 1);
}

static void write_lines(evaluation *e, const eval_task *t, int row, const glam_score *scores, int n)
{
    json_out line = {NULL, 0, 0};
    if (!GIVEN(lines_out)) return;
    for (int i = 0; i < n; i++) {
        begin_line(e, t, &line);
        json_printf(&line, "\"row\":%d,\"option\":%d,\"loglik\":%.9g,\"tokens\":%d,\"chars\":%d,"
                    "\"bytes\":%d,\"greedy\":%s}\n", row, i, scores[i].loglik, scores[i].tokens,
                    scores[i].chars, scores[i].bytes, scores[i].greedy ? "true" : "false");
    }
    outfile_write(&e->out, line.text, line.length);
    free(line.text);
}

static void write_answer_line(evaluation *e, const eval_task *t, int row, const char *answer,
                              double loglik, int exact, double f1)
{
    json_out line = {NULL, 0, 0};
    if (!GIVEN(lines_out)) return;
    begin_line(e, t, &line);
    json_printf(&line, "\"row\":%d,\"answer\":", row);
    json_put_text(&line, answer, strlen(answer));
    json_printf(&line, ",\"loglik\":%.9g,\"exact\":%s,\"f1\":%.9g}\n", loglik,
                exact ? "true" : "false", f1);
    outfile_write(&e->out, line.text, line.length);
    free(line.text);
}

static void judge_row(const eval_task *t, const task_row *r, const glam_score *scores,
                         outcome *o)
{
    int n = r->kind == GREEDY ? 1 : r->count;
    for (int i = 0; i < n; i++) o->cut += scores[i].cut > 0;
    if (r->kind == GREEDY) {
        o->loglik += scores[0].loglik;
        o->tokens += scores[0].tokens;
        add_value(o, scores[0].greedy);
        return;
    }
    for (int per = 0; per < 4; per++)
        o->right[per] += glam_choose(scores, n, (glam_per)per) == r->gold;
    int chosen = glam_choose(scores, n, t->per);
    o->chance += 1.0 / n;
    o->hit += chosen > 0 && chosen == r->gold;           // F1A: the first option is "not so"
    o->said += chosen > 0;
    o->real += r->gold > 0;
    add_value(o, chosen == r->gold);
}

// Scores rows [from,to) in one call, so that options of like length share a batch.
static int score_rows(evaluation *e, const eval_task *t, const task_rows *rows, char **shots,
                      int from, int to, outcome *o)
{
    int n = 0, at = 0, all = 0;
    for (int r = from; r < to; r++) all += rows->row[r].kind == GREEDY ? 1 : rows->row[r].count;
    glam_query *queries = (glam_query *)need((size_t)all * sizeof *queries);
    glam_score *scores = (glam_score *)need((size_t)all * sizeof *scores);
    char **texts = (char **)need(2 * (size_t)all * sizeof *texts);
    for (int r = from; r < to; r++) {
        const task_row *row = &rows->row[r];
        int options = row->kind == GREEDY ? 1 : row->count;
        for (int i = 0; i < options; i++, n++) {
            const char *context = row->kind == CONTEXTS ? row->options[i] : row->query;
            const char *next = row->kind == CHOICES ? row->options[i] : row->continuation;
            texts[2 * n] = joined("%s%s", shots[r - from], context);
            texts[2 * n + 1] = joined("%s%s", between(context, next, t->delimiter), next);
            queries[n].context = texts[2 * n];
            queries[n].continuation = texts[2 * n + 1];
        }
    }
    glam_loglikelihood(e->model, queries, all, e->s->window, scores);
    for (int r = from; r < to && glam_error(e->ctx) == GLAM_OK; r++) {
        const task_row *row = &rows->row[r];
        int options = row->kind == GREEDY ? 1 : row->count;
        write_lines(e, t, r, scores + at, options);
        judge_row(t, row, scores + at, o);
        at += options;
    }
    free_texts(texts, 2 * all);
    free(queries);
    free(scores);
    return failure(e->ctx);
}

static int answer_row(evaluation *e, const eval_task *t, const task_row *r, int index,
                      const char *shots, outcome *o)
{
    double loglik = 0, best = 0;
    int exact = 0;
    char *ending = joined("%s%s", shots, r->query);
    int window = e->s->window ? e->s->window : glam_model_config(e->model)->context;
    size_t length = strlen(ending);                      // blanks at its end are the answer's
    while (length && strchr(" \t", ending[length - 1])) ending[--length] = 0;
    char *answer = write_answer(e->model, t, ending, window, e->s->beam, &loglik);
    for (int i = 0; answer && i < r->count; i++) {
        int same;
        double f1 = compare_answers(answer, r->options[i], &same);
        if (f1 > best) best = f1;
        exact |= same;
    }
    if (answer) write_answer_line(e, t, index, answer, loglik, exact, best);
    o->f1 += best;
    add_value(o, t->metric == F1 ? best : exact);
    free(answer);
    free(ending);
    return failure(e->ctx);
}

static int run_rows(evaluation *e, const eval_task *t, const task_rows *rows, const task_rows *from,
                    int same, outcome *o)
{
    enum { TOGETHER = 256 };                             // rows, and about as many options
    int status = DONE;
    o->kind = rows->row[0].kind;
    for (int r = 0, to; r < rows->count && status == DONE; r = to) {
        char *shots[TOGETHER];
        int options = 0;
        for (to = r; to < rows->count && options < (o->kind == ANSWERS ? 1 : TOGETHER); to++) {
            shots[to - r] = draw_shots(from, same, to, o->shots, GIVEN(seed) ? e->s->seed : 1,
                                       t->delimiter);
            options += o->kind == GREEDY ? 1 : rows->row[to].count;
        }
        status = o->kind == ANSWERS ? answer_row(e, t, &rows->row[r], r, shots[0], o)
                                    : score_rows(e, t, rows, shots, r, to, o);
        for (int i = r; i < to; i++) free(shots[i - r]);
        o->rows = to;
        tell_progress(e, t->name, to, rows->count);
    }
    return status;
}

// The task's own number, from 0 to 1, and its standard error over rows (negative: there is none).
static double outcome_value(const eval_task *t, const outcome *o, double *error)
{
    double n = o->rows, mean = o->sum / n;
    *error = n > 1 ? sqrt(fmax(0, o->squares / n - mean * mean) / (n - 1)) : -1;
    if (t->metric != F1A || o->kind == ANSWERS) return mean;
    *error = -1;
    return o->said + o->real > 0 ? 2 * o->hit / (o->said + o->real) : 0;
}

// path in a folder, unless it has a place of its own.  Where NAME.jsonl is not there, an excerpt of
// it may be: NAME_small.jsonl.
static char *data_path(const char *folder, const char *path)
{
    char *whole = *path == '/' || !folder ? joined("%s", path) : in_folder(folder, path);
    size_t length = strlen(whole), ending = strlen(".jsonl");
    if (!folder || kind_of(whole) != NOTHING || length < ending) return whole;
    char *some = joined("%.*s_small.jsonl", (int)(length - ending), whole);
    int there = kind_of(some) != NOTHING;
    free(there ? whole : some);
    return there ? some : whole;
}

// Reads the rows and the shots, and runs them.  most_shots: of --shots; a suite's own are fewer.
static int run_task(evaluation *e, const eval_task *t, const char *folder, outcome *o)
{
    task_rows rows, more;
    char *path = data_path(folder, t->file);
    char *from = t->shots_from ? data_path(folder, t->shots_from) : joined("%s", path);
    if (t->shots_from && kind_of(from) == NOTHING && e->suite) {
        free(from);
        from = joined("%s", path);                       // a suite falls back on the task itself
    }
    int same = same_file(path, from), status = read_rows(path, t, &rows);
    memset(o, 0, sizeof *o);
    memset(&more, 0, sizeof more);
    o->shots = e->s->shots;
    if (e->suite && o->shots > t->shots) o->shots = t->shots;
    if (status == DONE && !same && o->shots) status = read_rows(from, t, &more);
    const task_rows *drawn = same ? &rows : &more;
    if (status == DONE && o->shots > drawn->count - same)
        status = complain(FAILED, "%s has %d rows to draw from; --shots %d are too many", from,
                          drawn->count - same, o->shots);
    e->told = e->started = eval_clock();
    if (status == DONE) status = run_rows(e, t, &rows, drawn, same, o);
    free_rows(&rows);
    free_rows(&more);
    free(path);
    free(from);
    return status;
}

static void tell_task(FILE *f, const eval_task *t, const outcome *o)
{
    double error, value = outcome_value(t, o, &error);
    fprintf(f, "%s: %s %.1f %%", t->file, o->kind == ANSWERS && t->metric != F1 ? "exact match"
           : metric_names[t->metric], 100 * value);
    if (error >= 0) fprintf(f, " +- %.1f", 100 * error);
    if (o->chance > 0) fprintf(f, ", chance %.1f %%", 100 * o->chance / o->rows);
    if (o->kind == GREEDY) fprintf(f, " (all its tokens the likeliest), chance 0");
    if (o->kind == ANSWERS) fprintf(f, ", F1 %.1f %%", 100 * o->f1 / o->rows);
    fprintf(f, "; %d row%s, %d shot%s", o->rows, o->rows == 1 ? "" : "s", o->shots,
           o->shots == 1 ? "" : "s");
    if (o->chance > 0) {
        fprintf(f, ", normalised by %s\n   ", per_names[t->per]);
        for (int i = 0; i < 4; i++)
            fprintf(f, "%s %s %.1f %%", i ? "," : " by", per_names[i], 100 * o->right[i] / o->rows);
    }
    if (o->kind == GREEDY)
        fprintf(f, "\n    loss %.4f nats per token, perplexity of a continuation %.4g",
               -o->loglik / o->tokens, exp(-o->loglik / o->rows));
    fprintf(f, "\n");
    if (o->cut) fprintf(f, "    %d of the contexts were too long and lost their begin\n", o->cut);
}

// == a suite ================================================================================

static void free_task(eval_task *t)
{
    free(t->name);
    free(t->kind);
    free(t->file);
    free(t->shots_from);
    free(t->pattern);
    free(t->gold);
    free(t->delimiter);
    free(t->list);
    free_texts(t->labels, t->label_count);
    free_texts(t->stops, t->stop_count);
    free_texts(t->choices, t->choice_count);
    memset(t, 0, sizeof *t);
}

// A string of the line into *out, or the default.  -1: wrong, which is told.
static int suite_text(jsonl *in, const char *name, const char *otherwise, char **out)
{
    json_text text;
    int got = json_string(in, name, &text);
    if (got > 0) *out = copy_text(&text);
    else if (got == 0) *out = otherwise ? joined("%s", otherwise) : NULL;
    return got;
}

static int suite_word(jsonl *in, const char *name, const char *const *list, int *out)
{
    json_text text;
    int got = json_string(in, name, &text);
    for (int i = 0; got > 0 && list[i]; i++)
        if (strcmp(list[i], text.text) == 0) {
            *out = i;
            return 1;
        }
    return got < 1 ? got : jsonl_wrong(in, "\"%s\": there is no %s", name, text.text);
}

static int suite_number(jsonl *in, const char *name, int *out)
{
    double value = -1;
    int got = json_number(in, name, &value);
    if (got < 1) return got;
    if (value >= 0 && value <= 1e6) {
        *out = (int)value;
        return 1;
    }
    return jsonl_wrong(in, "\"%s\": a number from 0 to a million is wanted", name);
}

static int suite_list(jsonl *in, const char *name, char ***out, int *count)
{
    json_text *list;
    int got = json_strings(in, name, &list, count);
    if (got > 0) *out = copy_texts(list, *count);
    return got;
}

static int read_suite_line(jsonl *in, eval_task *t)
{
    int number = ACCURACY, per = GLAM_PER_TOKEN;
    memset(t, 0, sizeof *t);
    t->most = 32;
    if (suite_text(in, "task", NULL, &t->name) < 0 || suite_text(in, "kind", "", &t->kind) < 0 ||
        suite_text(in, "file", NULL, &t->file) < 0 ||
        suite_text(in, "shots_from", NULL, &t->shots_from) < 0 ||
        suite_text(in, "template", NULL, &t->pattern) < 0 ||
        suite_text(in, "gold", "gold", &t->gold) < 0 ||
        suite_text(in, "delimiter", " ", &t->delimiter) < 0 ||
        suite_text(in, "choices_from", NULL, &t->list) < 0 ||
        suite_word(in, "metric", metric_names, &number) < 0 ||
        suite_word(in, "normalise", per_names, &per) < 0 ||
        suite_number(in, "shots", &t->shots) < 0 || suite_number(in, "most", &t->most) < 0)
        return -1;
    t->metric = (metric)number;
    t->per = (glam_per)per;
    if (suite_list(in, "choices", &t->choices, &t->choice_count) < 0 ||
        suite_list(in, "labels", &t->labels, &t->label_count) < 0 ||
        suite_list(in, "stops", &t->stops, &t->stop_count) < 0) return -1;
    if (t->name && t->file) return 1;
    return jsonl_wrong(in, "a task has a name \"task\" and a \"file\"");
}

// Of the paper's two kinds and of all: how many tasks there are, how many have data, their sum.
typedef struct averages { int all[3], there[3]; double sum[3]; } averages;

static void add_to_averages(averages *a, const eval_task *t, int there, double value)
{
    int belongs[3] = {strcmp(t->kind, "NLG") == 0, strcmp(t->kind, "NLU") == 0, 1};
    for (int i = 0; i < 3; i++) {
        a->all[i] += belongs[i];
        a->there[i] += belongs[i] && there;
        a->sum[i] += belongs[i] ? value : 0;
    }
}

static void tell_suite_task(FILE *f, const eval_task *t, const outcome *o, averages *a)
{
    double error, value = outcome_value(t, o, &error);
    const char *by = o->kind == GREEDY ? "greedy" : metric_names[t->metric];
    fprintf(f, "  %-18s %-4s %-9s %6d %6d %7.1f", t->name, t->kind, by, o->shots, o->rows,
           100 * value);
    if (error >= 0) fprintf(f, " %6.1f", 100 * error);
    else fprintf(f, " %6s", "");
    if (o->chance > 0) fprintf(f, " %7.1f", 100 * o->chance / o->rows);
    fprintf(f, "\n");
    fflush(f);
    add_to_averages(a, t, 1, 100 * value);
}

static void tell_averages(FILE *f, const averages *a, const char *missing)
{
    static const char *const names[] = {"NLG", "NLU", "all"};
    fprintf(f, "averages:");
    for (int i = 0; i < 3; i++) {
        fprintf(f, "%s %s ", i ? "," : "", names[i]);
        if (a->there[i]) fprintf(f, "%.1f", a->sum[i] / a->there[i]);
        else fprintf(f, "none");
        fprintf(f, " (%d of %d tasks)", a->there[i], a->all[i]);
    }
    fprintf(f, "\n");
    if (*missing) fprintf(f, "no data for %s\n", missing);
}

static int run_suite(evaluation *e)
{
    jsonl in;
    averages a;
    int got, status = DONE;
    char *missing = joined("%s", ""), *beside = folder_of(e->s->suite);
    const char *folder = GIVEN(data) ? e->s->data : beside;
    memset(&a, 0, sizeof a);
    if (jsonl_open(&in, e->s->suite)) status = FAILED;
    else fprintf(e->say, "  %-18s %-4s %-9s %6s %6s %7s %6s %7s\n", "task", "kind", "metric",
                 "shots", "rows", "score", "+-", "chance");
    while (status == DONE && (got = jsonl_next(&in)) != 0) {
        eval_task t;
        outcome o;
        memset(&t, 0, sizeof t);
        status = got < 0 || read_suite_line(&in, &t) < 0 ? FAILED : DONE;
        if (GIVEN(per) && status == DONE) t.per = (glam_per)find_word("normalise", e->s->per,
                                                                      per_names);
        char *path = status == DONE ? data_path(folder, t.file) : NULL;
        if (path && kind_of(path) == NOTHING) {
            char *more = joined("%s%s%s (%s)", missing, *missing ? ", " : "", t.name, t.file);
            free(missing);
            missing = more;
            add_to_averages(&a, &t, 0, 0);
        } else if (path && (status = run_task(e, &t, folder, &o)) == DONE)
            tell_suite_task(e->say, &t, &o, &a);
        free(path);
        free_task(&t);
    }
    jsonl_close(&in);
    if (status == DONE && !a.all[2])
        status = complain(FAILED, "%s has no tasks", e->s->suite);
    if (status == DONE) tell_averages(e->say, &a, missing);
    free(missing);
    free(beside);
    return status;
}

// == the command ============================================================================

static int run_one_task(evaluation *e)
{
    eval_task t;
    outcome o;
    memset(&t, 0, sizeof t);
    t.name = joined("%s", e->s->task);
    t.file = joined("%s", e->s->task);
    t.shots_from = GIVEN(shots_from) ? joined("%s", e->s->shots_from) : NULL;
    t.delimiter = joined("%s", GIVEN(delimiter) ? e->s->delimiter : " ");
    t.gold = joined("gold");
    t.most = GIVEN(answer) ? e->s->answer : 32;
    if (GIVEN(stop)) {
        t.stops = (char **)need(sizeof *t.stops);
        t.stops[t.stop_count++] = joined("%s", e->s->stop);
    }
    t.metric = ACCURACY;
    t.per = GIVEN(per) ? (glam_per)find_word("normalise", e->s->per, per_names) : GLAM_PER_TOKEN;
    int status = run_task(e, &t, NULL, &o);
    if (status == DONE) tell_task(e->say, &t, &o);
    free_task(&t);
    return status;
}

static int check_eval(const settings *s, int words)
{
    int ways = GIVEN(task) + GIVEN(suite) + GIVEN(ids), wanted = ways ? 1 : 2;
    if (ways > 1) return complain(USAGE, "--task, --suite, --tokens: one of them, please");
    if (words != wanted)
        return complain(USAGE, ways ? "eval wants one model beside its task: %s eval "
                        "model.safetensors --task copa.jsonl" : "eval wants a model and a text: %s "
                        "eval model.safetensors book.txt", program);
    if ((GIVEN(shots) || GIVEN(shots_from) || GIVEN(lines_out) || GIVEN(per) || GIVEN(delimiter) ||
         GIVEN(beam) || GIVEN(answer) || GIVEN(stop)) && !GIVEN(task) && !GIVEN(suite))
        return complain(USAGE, "--shots, --shots-from, --normalise, --delimiter, --beam, --answer, "
                        "--stop and --out are about a --task or a --suite");
    if (GIVEN(suite) && (GIVEN(shots_from) || GIVEN(delimiter) || GIVEN(answer) || GIVEN(stop)))
        return complain(USAGE, "--shots-from, --delimiter, --answer and --stop stand in the lines "
                        "of a suite");
    if (GIVEN(data) && !GIVEN(suite)) return complain(USAGE, "--data is about a --suite");
    if (GIVEN(val_fraction) && ways) return complain(USAGE, "--val-fraction is about a text");
    if (GIVEN(shots_from) && !GIVEN(shots))
        return complain(USAGE, "--shots-from wants --shots, how many to draw");
    if ((GIVEN(beam) && s->beam < 1) || (GIVEN(answer) && s->answer < 1) ||
        (GIVEN(window) && s->window < 1))
        return complain(USAGE, "--beam, --answer and --context: 1 at least");
    return GIVEN(per) && find_word("normalise", s->per, per_names) < 0 ? USAGE : DONE;
}

static int run_eval(settings *s, char **words, int count)
{
    evaluation e;
    int status = check_eval(s, count), opened = 0;
    if (status != DONE) return status;
    memset(&e, 0, sizeof e);
    e.s = s;
    e.suite = GIVEN(suite);
    e.say = GIVEN(lines_out) && strcmp(s->lines_out, "-") == 0 ? stderr : stdout;
    e.ctx = open_context(s);
    e.model = load_adapted(e.ctx, words[0], s);
    status = failure(e.ctx);
    int vocab = status == DONE ? glam_model_config(e.model)->vocab : BYTES;
    if ((GIVEN(task) || GIVEN(suite)) && vocab < BYTES && !glam_model_tokenizer(e.model))
        status = complain(FAILED, "%s: tasks are bytes and need a vocabulary of 256; the model has "
                          "%d", words[0], vocab);
    if (status == DONE && GIVEN(lines_out)) {
        status = outfile_open(&e.out, "out", s->lines_out, s->force);
        opened = status == DONE;
    }
    if (status == DONE)
        status = GIVEN(task) ? run_one_task(&e) : GIVEN(suite) ? run_suite(&e)
                 : GIVEN(ids) ? eval_ids(s, e.ctx, e.model, words[0])
                 : eval_text(s, e.ctx, e.model, words);
    if (opened && outfile_close(&e.out, status == DONE) != DONE) status = FAILED;
    end_reservations();
    glam_close(e.ctx);
    return status;
}

#endif
