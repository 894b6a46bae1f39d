/* glam_data.h - the command data: which documents are worth learning, what is there twice, what of
   an evaluation set is in a text, how sources are mixed.  A part of glam.c. */

#ifndef GLAM_DATA_H
#define GLAM_DATA_H

static int run_command(const command *c, int argc, char **argv);

static const char *rate(double bytes, double seconds)
{
    return show_bytes(bytes / (seconds > 0 ? seconds : 1));
}

// Summaries go where the documents do not.
static FILE *summary_of(const outfile *o) { return o->path ? stdout : stderr; }

// What kind of file the documents go into: by its name, else as they came.
static int writes_json(const settings *s, const document_stream *d, int i)
{
    if (GIVEN(data_out) && has_ending(s->data_out, ".jsonl")) return 1;
    if (GIVEN(data_out) && has_ending(s->data_out, ".txt")) return 0;
    return d->places[i].line_bytes > 0;
}

static int data_words(const settings *s, char **words, int count, const char *verb, cutting *cut)
{
    int pipes = 0;
    for (int i = 0; i < count; i++) {
        pipes += strcmp(words[i], "-") == 0;
        if (GIVEN(data_out) && same_file(words[i], s->data_out))
            return complain(USAGE, "--out %s is one of the files to read", s->data_out);
    }
    if (count < 1)
        return complain(USAGE, "data %s wants files of documents: %s data %s RAW.jsonl (- is "
                        "standard input)", verb, program, verb);
    if (pipes > 1) return complain(USAGE, "standard input (-) can be read once");
    curate_threads = threads_of(s);
    return read_cutting(GIVEN(documents) ? s->documents : NULL, cut);
}

static glam_ctx *data_context(const settings *s)
{
    glam_options options = glam_options_default();
    options.threads = threads_of(s);
    return glam_open(&options);
}

// == the quality filter =====================================================================

enum { HELD_MOST = 5000 };                       // documents of each kind, held out to judge by
static const uint64_t held_stream = 0x4e1d;      // of random numbers: who is held out

// Documents that are not learnt, and what is said of them afterwards.
typedef struct held_out {
    char   *text[2 * HELD_MOST];
    size_t  bytes[2 * HELD_MOST];
    float   labels[2 * HELD_MOST];
    int     count, of[2];
} held_out;

typedef struct quality {
    glam_ctx    *ctx;
    glam_filter *filter;
    held_out    *held;
    uint64_t     learnt[2], bytes;               // documents: raw, curated
    double       seconds;
    judgement    judged;
} quality;

static void hold_out(held_out *h, const glam_document *d, int label)
{
    h->text[h->count] = (char *)need(d->bytes + 1);
    memcpy(h->text[h->count], d->text, d->bytes);
    h->bytes[h->count] = d->bytes;
    h->labels[h->count++] = (float)label;
    h->of[label]++;
}

// Documents of both kinds in the order in which they will be learnt.
typedef struct lesson {
    glam_document documents[BATCH_DOCUMENTS];
    float         labels[BATCH_DOCUMENTS], weights[BATCH_DOCUMENTS];
    int           count;
} lesson;

static int learn_now(quality *q, lesson *l)
{
    glam_filter_train(q->filter, l->documents, l->labels, l->weights, l->count, NULL);
    l->count = 0;
    return failure(q->ctx);
}

// The next document of a kind: one in ten is held out, the others are learnt, with weights that make
// both kinds count the same.
static void learn_document(quality *q, const settings *s, lesson *l, const glam_document *d,
                           uint64_t number, int label)
{
    q->bytes += d->bytes;
    if (glam_random(s->seed + (uint64_t)label, held_stream, number) < 0.1f &&
        q->held->of[label] < HELD_MOST) {
        hold_out(q->held, d, label);
        return;
    }
    double mine = (double)++q->learnt[label];
    double both = (double)q->learnt[0] + (double)q->learnt[1];
    l->labels[l->count] = (float)label;
    l->weights[l->count] = (float)(both / (2 * mine));
    l->documents[l->count++] = *d;
}

static double share_read(const document_stream *d)
{
    uint64_t read = d->read + (d->open ? d->in.in.read : 0);
    return d->all ? (double)read / (double)d->all : 0;
}

// One pass over both kinds in step, document by document: whoever has given the smaller share of
// its bytes is next, so that neither comes in a lump.
static int learn_both(quality *q, const settings *s, document_stream *both[2], lesson *l)
{
    int at[2] = {0, 0}, over[2] = {0, 0}, status = DONE;
    double begin[2] = {0, 0}, end[2] = {0, 0};   // shares where the batches begin and end
    while (status == DONE && !(over[0] && over[1])) {
        double share[2];
        for (int k = 0; k < 2; k++) {
            double part = both[k]->held ? (double)at[k] / both[k]->held : 1;
            share[k] = over[k] ? 2 : begin[k] + (end[k] - begin[k]) * part;
        }
        int next = share[1] <= share[0];
        document_stream *d = both[next];
        if (at[next] < d->held && !over[next]) {
            uint64_t number = d->given - (uint64_t)(d->held - at[next]);
            learn_document(q, s, l, &d->documents[at[next]++], number, next);
            if (l->count == BATCH_DOCUMENTS) status = learn_now(q, l);
            continue;
        }
        status = learn_now(q, l);                // before its documents make room for others
        begin[next] = share_read(d);
        int got = status == DONE ? documents_next(d) : 0;
        end[next] = share_read(d);
        at[next] = 0;
        over[next] = got == 0;
        if (got < 0) status = FAILED;
        documents_show(both[0], "learning", 0);
    }
    documents_show(both[0], "learning", 1);
    return status == DONE ? learn_now(q, l) : status;
}

static int learn_quality(quality *q, const settings *s, document_stream *raw)
{
    document_stream good, *both[2];
    char *path = joined("%s", s->curated);
    lesson *l = (lesson *)need(sizeof *l);
    l->count = 0;
    documents_begin(&good, &path, 1, BY_NAME);
    both[0] = raw;
    both[1] = &good;
    q->held = (held_out *)need(sizeof *q->held);
    memset(q->held, 0, sizeof *q->held);
    double began = now_seconds();
    int status = learn_both(q, s, both, l);
    q->seconds = now_seconds() - began;
    documents_end(&good);
    free(path);
    free(l);
    for (int i = 0; i < 2 && status == DONE; i++)
        if (!q->learnt[i])
            status = complain(FAILED, "%s: there are no documents in it to learn from",
                              i ? s->curated : raw->paths[0]);
    return status;
}

// What the classifier says of documents that it has not seen.
static void judge_held(quality *q, const settings *s)
{
    held_out *h = q->held;
    glam_document *d = (glam_document *)need((size_t)h->count * sizeof *d);
    float *scores = (float *)need((size_t)h->count * sizeof *scores);
    for (int i = 0; i < h->count; i++) {
        d[i].text = h->text[i];
        d[i].bytes = h->bytes[i];
    }
    glam_filter_score(q->filter, d, h->count, scores);
    judge_scores(scores, h->labels, (size_t)h->count, s->alpha, s->seed, &q->judged);
    free(d);
    free(scores);
}

// A classifier: learnt, or read from a file.
static int open_quality(quality *q, settings *s, document_stream *raw)
{
    memset(q, 0, sizeof *q);
    if (!GIVEN(alpha)) s->alpha = 9;
    if (!GIVEN(seed)) s->seed = 1;
    if (GIVEN(alpha) && s->alpha <= 0) return complain(USAGE, "--alpha must be more than 0");
    if (GIVEN(curated) && GIVEN(classifier))
        return complain(USAGE, "--curated and --classifier: one of them, please");
    if (GIVEN(hash_bits) && s->hash_bits < 8)
        return complain(USAGE, "--hash-bits %d: a whole number from 8 to 24 is wanted", s->hash_bits);
    if (GIVEN(rate) && s->rate <= 0) return complain(USAGE, "--rate must be more than 0");
    if (!GIVEN(curated) && !GIVEN(classifier))
        return complain(USAGE, "good documents to learn from are wanted (--curated GOOD.txt), or a "
                        "classifier that has (--classifier FILE)");
    if (GIVEN(save_classifier) && check_writable("save-classifier", s->save_classifier, s->force))
        return FAILED;
    glam_filter_config config = glam_filter_config_default();
    if (GIVEN(hash_bits)) config.bits = s->hash_bits;
    if (GIVEN(rate)) config.lr = s->rate;
    q->ctx = data_context(s);
    q->filter = glam_filter_new(q->ctx, &config);
    glam_tensor *weights = glam_filter_weights(q->filter);
    if (failure(q->ctx)) return FAILED;
    if (GIVEN(classifier)) {
        glam_load_tensors(q->ctx, s->classifier, &weights, 1);
        return failure(q->ctx);
    }
    if (documents_keep_input(raw) || learn_quality(q, s, raw)) return FAILED;
    judge_held(q, s);
    if (GIVEN(save_classifier))
        glam_save_tensors(q->ctx, s->save_classifier, &weights, 1);
    return failure(q->ctx);
}

static void close_quality(quality *q)
{
    for (int i = 0; q->held && i < q->held->count; i++) free(q->held->text[i]);
    free(q->held);
    glam_close(q->ctx);
}

static void print_quality(FILE *f, const quality *q, const settings *s, const judgement *all,
                          int filtered)
{
    if (q->held) {
        fprintf(f, "learnt    %s curated and %s raw documents, %s in %s (%s/s)\n",
                show_commas(q->learnt[1]), show_commas(q->learnt[0]),
                show_bytes((double)q->bytes), show_time(q->seconds),
                rate((double)q->bytes, q->seconds));
        fprintf(f, "held out  %d curated and %d raw: AUC %.4f; from score 1/2 on precision %.3f, "
                "recall %.3f\n", q->held->of[1], q->held->of[0], q->judged.auc,
                q->judged.precision, q->judged.recall);
    }
    if (!all->documents) return;
    fprintf(f, "\n  tenth   scores from   documents");
    fprintf(f, filtered ? "        kept   share\n" : "   would be kept\n");
    for (int i = 0; i < 10; i++) {
        uint64_t of = all->tenth[i], kept = all->tenth_kept[i];
        double share = of ? 100 * (double)kept / (double)of : 0;
        fprintf(f, "  %5d   %11.4f   %9s", i + 1, (double)all->tenth_from[i], show_commas(of));
        if (filtered) fprintf(f, "   %9s   %.1f %%\n", show_commas(kept), share);
        else fprintf(f, "   %.1f %%\n", share);
    }
    fprintf(f, "\n%s %s of %s documents (%.1f %%), alpha %g, seed %" PRIu64 "\n",
            filtered ? "kept" : "a filter would keep", show_commas(all->kept),
            show_commas(all->documents),
            100 * (double)all->kept / (double)all->documents, s->alpha, s->seed);
}

// A growing list of the scores of all documents.
typedef struct score_list { float *score; size_t count, room; } score_list;

static float *more_scores(score_list *l, int count)
{
    if (l->count + (size_t)count > l->room) {
        l->room = 2 * l->room + (size_t)count;
        float *larger = (float *)need(l->room * sizeof *larger);
        if (l->count) memcpy(larger, l->score, l->count * sizeof *larger);
        free(l->score);
        l->score = larger;
    }
    l->count += (size_t)count;
    return l->score + l->count - count;
}

// Writes all documents of a batch with their quality, or those that are kept.
static int write_scored(outfile *o, json_out *out, const settings *s, const document_stream *d,
                        const float *scores, int filtered, uint64_t *bytes)
{
    out->length = 0;
    for (int i = 0; i < d->held; i++) {
        char value[40];
        uint64_t number = d->given - (uint64_t)(d->held - i);
        snprintf(value, sizeof value, "%.6g", (double)scores[i]);
        if (filtered && !glam_filter_keep((double)scores[i], s->alpha, s->seed, number)) continue;
        document_put(out, d, i, !filtered || writes_json(s, d, i), filtered ? NULL : value);
        *bytes += d->documents[i].bytes;
    }
    return outfile_write(o, out->text, out->length);
}

static int score_or_filter(settings *s, char **words, int count, int filtered)
{
    document_stream raw, again;
    quality q;
    outfile o;
    score_list scores;
    json_out out;
    cutting cut;
    uint64_t bytes = 0;
    int got = 0, status = data_words(s, words, count, filtered ? "filter" : "score", &cut);
    if (status != DONE) return status;
    memset(&scores, 0, sizeof scores);
    memset(&out, 0, sizeof out);
    documents_begin(&raw, words, count, cut);
    documents_begin(&again, words, count, cut);
    memset(&o, 0, sizeof o);
    status = outfile_open(&o, "out", GIVEN(data_out) ? s->data_out : NULL, s->force);
    memset(&q, 0, sizeof q);
    if (status == DONE) status = open_quality(&q, s, &raw);
    again.copy = raw.copy;
    again.all = raw.all;
    again.field = filtered ? NULL : "quality";
    double began = now_seconds();
    again.began = began;
    while (status == DONE && (got = documents_next(&again)) > 0) {
        float *of = more_scores(&scores, got);
        glam_filter_score(q.filter, again.documents, got, of);
        status = failure(q.ctx);
        if (status == DONE) status = write_scored(&o, &out, s, &again, of, filtered, &bytes);
        documents_show(&again, filtered ? "filtering" : "scoring", 0);
    }
    documents_show(&again, filtered ? "filtering" : "scoring", 1);
    if (got < 0) status = FAILED;
    FILE *f = summary_of(&o);
    int closed = outfile_close(&o, status == DONE);
    if (status == DONE) status = closed;
    if (status == DONE) {
        judgement all;
        double seconds = now_seconds() - began;
        judge_scores(scores.score, NULL, scores.count, s->alpha, s->seed, &all);
        print_quality(f, &q, s, &all, filtered);
        fprintf(f, "%s of %s in %s (%s/s)\n", show_bytes((double)bytes),
                show_bytes((double)again.given_bytes), show_time(seconds),
                rate((double)again.given_bytes, seconds));
    }
    if (raw.copy) fclose(raw.copy);
    close_quality(&q);
    documents_end(&raw);
    documents_end(&again);
    free(scores.score);
    free(out.text);
    end_reservations();
    return status;
}

static int run_data_score(settings *s, char **words, int count)
{
    return score_or_filter(s, words, count, 0);
}

static int run_data_filter(settings *s, char **words, int count)
{
    return score_or_filter(s, words, count, 1);
}

// == near duplicates ========================================================================

static int run_data_dedup(settings *s, char **words, int count)
{
    document_stream in;
    dedup all;
    outfile o, removed;
    json_out out, pairs;
    cutting cut;
    uint64_t gone = 0, gone_bytes = 0;
    static int64_t twins[BATCH_DOCUMENTS];
    int got = 0, status = data_words(s, words, count, "dedup", &cut);
    if (status == DONE && GIVEN(shingle) && (s->shingle < 1 || s->shingle > NGRAM_MOST))
        status = complain(USAGE, "--shingle %d: 1 to %d words", s->shingle, NGRAM_MOST);
    if (status == DONE && GIVEN(threshold) && s->threshold <= 0)
        status = complain(USAGE, "--threshold must be more than 0");
    if (status != DONE) return status;
    memset(&out, 0, sizeof out);
    memset(&pairs, 0, sizeof pairs);
    memset(&removed, 0, sizeof removed);
    dedup_begin(&all, GIVEN(shingle) ? s->shingle : 5, 128, GIVEN(threshold) ? s->threshold : 0.8);
    documents_begin(&in, words, count, cut);
    status = outfile_open(&o, "out", GIVEN(data_out) ? s->data_out : NULL, s->force);
    if (status == DONE && GIVEN(removed))
        status = outfile_open(&removed, "removed", s->removed, s->force);
    while (status == DONE && (got = documents_next(&in)) > 0) {
        uint64_t before = in.given - (uint64_t)got;
        dedup_add(&all, in.documents, got, twins);
        out.length = pairs.length = 0;
        for (int i = 0; i < got; i++) {
            if (twins[i] < 0) document_put(&out, &in, i, writes_json(s, &in, i), NULL);
            if (twins[i] < 0) continue;
            gone++;
            gone_bytes += in.documents[i].bytes;
            json_printf(&pairs, "{\"document\":%" PRIu64 ",\"twin\":%" PRId64 "}\n",
                        before + (uint64_t)i + 1, twins[i] + 1);
        }
        status = outfile_write(&o, out.text, out.length);
        if (status == DONE && removed.path)
            status = outfile_write(&removed, pairs.text, pairs.length);
        documents_show(&in, "comparing", 0);
    }
    documents_show(&in, "comparing", 1);
    if (got < 0) status = FAILED;
    FILE *f = summary_of(&o);
    int closed = outfile_close(&o, status == DONE);
    if (removed.path) closed |= outfile_close(&removed, status == DONE);
    if (status == DONE) status = closed;
    double seconds = now_seconds() - in.began;
    if (status == DONE)
        fprintf(f, "removed %s of %s documents, %s of %s: their signatures agree in %g of 128 "
                "places or more with an earlier one's\n%d bands of %d hashes, %d words in a row; "
                "%s (%s/s)\n", show_commas(gone), show_commas(in.given),
                show_bytes((double)gone_bytes), show_bytes((double)in.given_bytes),
                ceil(all.threshold * 128 - 1e-9), all.bands, all.hashes / all.bands, all.shingle,
                show_time(seconds), rate((double)in.given_bytes, seconds));
    dedup_end(&all);
    documents_end(&in);
    free(out.text);
    free(pairs.text);
    end_reservations();
    return status;
}

// == overlap with evaluation sets ===========================================================

enum { SETS = 32, NAMED = 10 };

// One evaluation file: its rows as text, and the lines they are in.
typedef struct eval_set {
    char          *path;
    glam_document *rows;
    uint64_t      *lines;
    int            count, room;
    overlap        met;
} eval_set;

static void add_text(json_out *o, json_text text)
{
    if (o->length) json_put(o, " ", 1);
    json_put(o, text.text, text.length);
}

// A row as it would stand in a text: its query or context, and the right one of its choices; else
// all its strings.
static int row_text(jsonl *j, json_out *o)
{
    static const char *const parts[] = {"context_options", "query", "context", "text", "choices",
                                        "continuation"};
    double gold = -1;
    o->length = 0;
    const hub_json *right = json_find(j, "gold");
    if (right && right->type == HUB_NUMBER) gold = right->number;
    for (int i = 0; i < 6; i++) {
        const hub_json *f = json_find(j, parts[i]);
        json_text *list;
        int count;
        if (f && f->type == HUB_STRING) add_text(o, json_text_of(f));
        if (!f || f->type != HUB_ARRAY) continue;
        if (json_strings(j, parts[i], &list, &count) < 0) return FAILED;
        if (gold >= 0 && gold < count) add_text(o, list[(int)gold]);
    }
    for (const hub_json *f = j->line->first; f && !o->length; f = f->next)
        if (f->type == HUB_STRING) add_text(o, json_text_of(f));
    return DONE;
}

static int read_set(eval_set *e, const char *path, int n)
{
    jsonl in;
    json_out row;
    int got;
    memset(e, 0, sizeof *e);
    memset(&row, 0, sizeof row);
    if (jsonl_open(&in, path)) return FAILED;
    e->path = joined("%s", path);
    while ((got = jsonl_next(&in)) > 0) {
        if (row_text(&in, &row)) {
            got = -1;
            break;
        }
        if (e->count == e->room) {
            int room = 2 * e->room + 256;
            glam_document *rows = (glam_document *)need((size_t)room * sizeof *rows);
            uint64_t *numbers = (uint64_t *)need((size_t)room * sizeof *numbers);
            if (e->count) memcpy(rows, e->rows, (size_t)e->count * sizeof *rows);
            if (e->count) memcpy(numbers, e->lines, (size_t)e->count * sizeof *numbers);
            free(e->rows);
            free(e->lines);
            e->rows = rows;
            e->lines = numbers;
            e->room = room;
        }
        char *text = (char *)need(row.length);
        if (row.length) memcpy(text, row.text, row.length);
        e->rows[e->count].text = text;
        e->rows[e->count].bytes = row.length;
        e->lines[e->count++] = in.in.number;
    }
    jsonl_close(&in);
    free(row.text);
    if (got == 0 && !e->count) return complain(FAILED, "%s: there are no rows in it", path);
    if (got == 0) overlap_begin(&e->met, e->rows, e->count, n);
    return got < 0 ? FAILED : DONE;
}

static void close_set(eval_set *e)
{
    for (int i = 0; i < e->count; i++) free((void *)(uintptr_t)e->rows[i].text);
    overlap_end(&e->met);
    free(e->rows);
    free(e->lines);
    free(e->path);
}

// One line for the set, some of its rows by name, and all of them into the file.
static int print_set(const eval_set *e, FILE *f, outfile *o)
{
    json_out line;
    int met = 0, few = 0, status = DONE;
    memset(&line, 0, sizeof line);
    for (int r = 0; r < e->count; r++) {
        int all, found;
        int64_t where;
        found = overlap_row(&e->met, r, &all, &where);
        few += all == 0;
        met += found > 0;
    }
    fprintf(f, "%s: %d of %d rows overlap (%.1f %%) in %d words or more; %d are shorter\n", e->path,
            met, e->count, 100.0 * met / e->count, e->met.n, few);
    for (int r = 0, named = 0; r < e->count && status == DONE; r++) {
        int all, found;
        int64_t where;
        found = overlap_row(&e->met, r, &all, &where);
        if (!found) continue;
        if (named++ < NAMED)
            fprintf(f, "    %s:%" PRIu64 "  %d of %d %d-grams, first in document %" PRId64 "\n",
                    e->path, e->lines[r], found, all, e->met.n, where + 1);
        else if (named == NAMED + 1 && !o->path) fprintf(f, "    ... --out FILE names all\n");
        if (!o->path) continue;
        line.length = 0;
        json_put(&line, "{\"file\":", 8);
        json_put_text(&line, e->path, strlen(e->path));
        json_printf(&line, ",\"line\":%" PRIu64 ",\"n\":%d,\"ngrams\":%d,\"met\":%d,\"document\":%"
                    PRId64 "}\n", e->lines[r], e->met.n, all, found, where + 1);
        status = outfile_write(o, line.text, line.length);
    }
    free(line.text);
    return status;
}

static int run_data_overlap(settings *s, char **words, int count)
{
    static eval_set sets[SETS];
    document_stream in;
    outfile o;
    cutting cut;
    int got = 0, n = 0, status = data_words(s, words, count, "overlap", &cut);
    if (status == DONE && !GIVEN(eval))
        status = complain(USAGE, "an evaluation set is wanted: --eval arc_easy.jsonl,copa.jsonl");
    if (status == DONE && GIVEN(ngram) && (s->ngram < 1 || s->ngram > NGRAM_MOST))
        status = complain(USAGE, "--ngram %d: 1 to %d words", s->ngram, NGRAM_MOST);
    if (status != DONE) return status;
    memset(&o, 0, sizeof o);
    if (GIVEN(data_out)) status = outfile_open(&o, "out", s->data_out, s->force);
    for (const char *list = s->eval; status == DONE && *list && n < SETS;) {
        char *path = joined("%.*s", (int)strcspn(list, ","), list);
        if (*path) status = read_set(&sets[n++], path, GIVEN(ngram) ? s->ngram : 0);
        list += strlen(path) + (list[strlen(path)] == ',');
        free(path);
        if (n == SETS && *list) status = complain(USAGE, "--eval names more than %d files", SETS);
    }
    documents_begin(&in, words, count, cut);
    while (status == DONE && (got = documents_next(&in)) > 0) {
        for (int i = 0; i < n; i++) overlap_add(&sets[i].met, in.documents, got);
        documents_show(&in, "looking", 0);
    }
    documents_show(&in, "looking", 1);
    if (got < 0) status = FAILED;
    double seconds = now_seconds() - in.began;
    for (int i = 0; i < n && status == DONE; i++) status = print_set(&sets[i], stdout, &o);
    if (o.path) {
        int closed = outfile_close(&o, status == DONE);
        if (status == DONE) status = closed;
    }
    if (status == DONE)
        printf("%s documents, %s in %s (%s/s)\n", show_commas(in.given),
               show_bytes((double)in.given_bytes), show_time(seconds),
               rate((double)in.given_bytes, seconds));
    for (int i = 0; i < n; i++) close_set(&sets[i]);
    documents_end(&in);
    end_reservations();
    return status;
}

#include "glam_mix.h"

// == the table of its verbs =================================================================

static const char data_note[] =
    "RAW are files of lines of JSON with a field \"text\", or plain text, whose documents are "
    "separated by blank lines (--documents file: one document a file). - is standard input: "
    "zcat raw.jsonl.gz | glam data ... -\nWithout --out documents go to standard output, and the "
    "summary to standard error. A name that ends in .jsonl gets lines of JSON, .txt plain text. A "
    "file appears when it is whole.";

static const command data_commands[] = {
    {"data score", "RAW... --curated GOOD.txt", "add to each document its quality",
     DATA_SCORE, run_data_score, data_note},
    {"data filter", "RAW... --curated GOOD.txt", "keep documents by their quality",
     DATA_FILTER, run_data_filter, data_note},
    {"data mix", "FILE=WEIGHT...", "draw documents of several sources by weight",
     DATA_MIX, run_data_mix, "Which document is drawn when is a function of the seed and its "
     "number: --start N goes on behind the first N with what would have come. A source that is "
     "used up begins again, in another order. --preset paper wants NAME=FILE for web, wikipedia, "
     "conversations, forums, books, news."},
    {"data dedup", "RAW...", "leave out near duplicates", DATA_DEDUP, run_data_dedup, data_note},
    {"data overlap", "TEXT... --eval SET.jsonl", "rows of evaluation sets that are in a text",
     DATA_OVERLAP, run_data_overlap, "A row overlaps when any n words of it in a row are in a "
     "document, case and signs apart; n is the length that 95 % of the rows reach, from 8 to 13."},
};
enum { DATA_COMMANDS = sizeof data_commands / sizeof data_commands[0] };

static int help_data(void)
{
    printf("%s data VERB ...\n    what to do with documents before they are a text\n\n", program);
    for (int i = 0; i < DATA_COMMANDS; i++)
        printf("    %s %-12s %-26s %s\n", program, data_commands[i].name, data_commands[i].words,
               data_commands[i].help);
    printf("    %s help data VERB                        its options\n", program);
    return DONE;
}

// argv[1] is "data", or "help" and argv[2] is.
static int data_main(int argc, char **argv, int asks)
{
    int at = asks ? 3 : 2;
    if (argc <= at || strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0)
        return help_data();
    if (strcmp(argv[at], "help") == 0 && ++at && (asks = 1) && argc <= at) return help_data();
    for (int i = 0; i < DATA_COMMANDS; i++) {
        if (strcmp(argv[at], data_commands[i].name + 5) != 0) continue;
        if (!asks) return run_command(&data_commands[i], argc - 1, argv + 1);
        help_command(&data_commands[i]);
        return DONE;
    }
    const char *best = NULL;
    int least = 100;
    for (int i = 0; i < DATA_COMMANDS; i++)
        nearer(argv[at], data_commands[i].name + 5, &best, &least);
    if (best) return complain(USAGE, "data has no verb %s; did you mean %s?", argv[at], best);
    return complain(USAGE, "data has no verb %s; see %s help data", argv[at], program);
}

#endif
