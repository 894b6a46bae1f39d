/* glam_mix.h - the command data mix: documents of several sources, each as often as its weight
   says.  A part of glam.c.

   Weights are shares of the bytes: a source of long documents is drawn from less often.  Draw
   number k comes from a source that (seed, k) decides; the j-th draw of a source is document
   j mod n of its j / n-th pass, in the order of that pass, a permutation of (seed, source, pass)
   that needs no memory. */

#ifndef GLAM_MIX_H
#define GLAM_MIX_H

enum { MIX_SOURCES = 64 };

typedef struct mix_source {
    char       *name, *path;
    double      weight, chance;
    lines       in;                              // to read documents again
    cutting     cut;
    uint64_t   *at;                              // [count + 1] where each document begins
    uint64_t    count, room, bytes;              // bytes of the file
    uint64_t    drawn, drawn_bytes;
} mix_source;

static void note_place(mix_source *m, uint64_t at)
{
    if (m->count == m->room) {
        m->room = 2 * m->room + 1024;
        uint64_t *larger = (uint64_t *)need((m->room + 1) * sizeof *larger);
        if (m->count) memcpy(larger, m->at, m->count * sizeof *larger);
        free(m->at);
        m->at = larger;
    }
    m->at[m->count++] = at;
}

// Where the documents of a file begin.
static int index_source(mix_source *m, cutting ask)
{
    int got, inside = 0;
    uint64_t before = 0;
    if (strcmp(m->path, "-") == 0 || kind_of(m->path) == OTHER)
        return complain(FAILED, "%s: sources are read at many places; no pipes", m->path);
    if (lines_open(&m->in, m->path) || lines_fill(&m->in) < 0) return FAILED;
    m->cut = has_ending(m->path, ".jsonl") ? AT_LINES : ask != BY_NAME ? ask
           : m->in.block[0] == '{' ? AT_LINES : AT_BLANKS;
    while ((got = lines_next(&m->in)) > 0) {
        int blank = m->cut != AT_FILES && is_blank(m->in.text, m->in.length);
        if (!blank && (!inside || m->cut == AT_LINES)) note_place(m, before);
        inside = !blank;
        before = m->in.read;
    }
    if (got < 0) return FAILED;
    if (!m->count) return complain(FAILED, "%s: there are no documents in it", m->path);
    m->at[m->count] = m->bytes = before;
    return DONE;
}

// A permutation of [0, n) by four rounds of Feistel on 2 * half bits, walked until it is inside.
static uint64_t permuted(uint64_t i, uint64_t n, uint64_t key)
{
    int half = 1;
    while (half < 31 && (uint64_t)1 << 2 * half < n) half++;
    const uint64_t mask = ((uint64_t)1 << half) - 1;
    do {
        uint64_t left = i >> half, right = i & mask;
        for (uint64_t round = 0; round < 4; round++) {
            uint64_t next = left ^ (mixed(key + round * 0x9e3779b97f4a7c15u + right) & mask);
            left = right;
            right = next;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}

// The file's bytes of one document as a line of JSON, or plain.
static int put_source(mix_source *m, uint64_t document, int as_json, json_out *out)
{
    size_t bytes = (size_t)(m->at[document + 1] - m->at[document]);
    char *raw = (char *)need(bytes + 1);
#ifdef HAVE_UNISTD
    int bad = fseeko(m->in.file, (off_t)m->at[document], SEEK_SET) != 0;
#else
    int bad = fseek(m->in.file, (long)m->at[document], SEEK_SET) != 0;
#endif
    bad = bad || fread(raw, 1, bytes, m->in.file) != bytes;
    if (bad) {
        free(raw);
        return complain(FAILED, "%s: its byte %.0f cannot be read: %s", m->path,
                        (double)m->at[document], errno ? strerror(errno) : "it became shorter");
    }
    while (bytes && strchr(" \t\r\n", raw[bytes - 1]) && raw[bytes - 1]) bytes--;
    raw[bytes] = 0;
    char *source = NULL;
    json_out quoted;
    memset(&quoted, 0, sizeof quoted);
    json_put_text(&quoted, m->name, strlen(m->name));
    source = quoted.text;
    int status = DONE;
    if (m->cut != AT_LINES && as_json) {
        json_put(out, "{\"text\":", 8);
        json_put_text(out, raw, bytes);
        json_printf(out, ",\"source\":");
        json_put(out, source, strlen(source));
        json_put(out, "}\n", 2);
    } else if (m->cut != AT_LINES) {
        json_put(out, raw, bytes);
        json_put(out, "\n\n", 2);
    } else {
        jsonl line;
        json_text text;
        memset(&line, 0, sizeof line);
        line.in.name = m->path;
        line.in.number = document + 1;           // of its documents: lines are not counted again
        line.in.text = raw;
        line.in.length = bytes;
        if (!json_object(&line)) status = FAILED;
        else if (as_json) {
            json_put_line_with(out, &line, "source", source);
            json_put(out, "\n", 1);
        } else if (json_string(&line, "text", &text) == 1) {
            json_put(out, text.text, text.length);
            json_put(out, "\n\n", 2);
        } else status = complain(FAILED, "%s: document %.0f has no \"text\"", m->path,
                                 (double)document + 1);
        jsonl_close(&line);
    }
    free(raw);
    free(source);
    return status;
}

// FILE=WEIGHT or FILE, or with a preset NAME=FILE.
static int read_source(char *word, mix_source *m)
{
    char *equals = strrchr(word, '=');
    memset(m, 0, sizeof *m);
    m->weight = -1;                              // by its bytes
    if (GIVEN(preset)) {
        const glam_source *row = NULL;
        for (int i = 0; equals && (row = glam_mix_preset(i)) != NULL; i++)
            if (strlen(row->name) == (size_t)(equals - word) &&
                strncmp(row->name, word, (size_t)(equals - word)) == 0) break;
        if (!row)
            return complain(USAGE, "%s: the preset wants NAME=FILE with web, wikipedia, "
                            "conversations, forums, books or news", word);
        m->weight = row->weight;
        m->path = joined("%s", equals + 1);
        m->name = joined("%s", row->name);
        return DONE;
    }
    if (equals && !read_real(equals + 1, &m->weight))
        return complain(USAGE, "%s: a weight is wanted behind the =, such as %.*s=0.42", word,
                        (int)(equals - word), word);
    m->path = joined("%.*s", equals ? (int)(equals - word) : (int)strlen(word), word);
    m->name = joined("%s", name_of(m->path));
    return DONE;
}

static void print_mix(FILE *f, const mix_source *m, int count, uint64_t draws, const settings *s)
{
    double bytes = 0;
    for (int i = 0; i < count; i++) bytes += (double)m[i].drawn_bytes;
    fprintf(f, "source                    weight   of bytes   documents   there are   epochs%s\n",
            GIVEN(preset) ? "   paper, 600e9 tokens" : "");
    for (int i = 0; i < count; i++) {
        fprintf(f, "%-24s  %6.3f   %8.3f   %9s   %9s   %6.2f", m[i].name, m[i].weight,
                (double)m[i].drawn_bytes / (bytes > 0 ? bytes : 1), show_commas(m[i].drawn),
                show_commas(m[i].count), (double)m[i].drawn / (double)m[i].count);
        for (int p = 0; GIVEN(preset) && glam_mix_preset(p); p++) {
            const glam_source *row = glam_mix_preset(p);
            if (strcmp(row->name, m[i].name) == 0)
                fprintf(f, "   %.3f", row->weight * 600 / row->tokens);
        }
        fprintf(f, "\n");
    }
    fprintf(f, "%s documents, %s, seed %" PRIu64 "; go on with --start %" PRIu64 "\n",
            show_commas(draws - s->start), show_bytes(bytes), s->seed, draws);
}

// Draws until there is enough; the first --start of them are only counted.
static int draw_documents(const settings *s, mix_source *m, int count, outfile *o, uint64_t *draws)
{
    json_out out;
    uint64_t bytes = 0;
    int status = DONE;
    memset(&out, 0, sizeof out);
    int as_json = !GIVEN(data_out) || !has_ending(s->data_out, ".txt");
    for (*draws = 0; status == DONE; ++*draws) {
        int wanted = *draws >= s->start, i = 0;
        if (wanted && GIVEN(draws) && *draws - s->start >= (uint64_t)s->draws) break;
        if (wanted && !GIVEN(draws) && (double)bytes >= s->megabytes * 1e6) break;
        double u = (double)glam_random(s->seed, 0x312, *draws);
        for (; i + 1 < count && u >= m[i].chance; i++) u -= m[i].chance;
        while (i > 0 && !(m[i].chance > 0)) i--;
        mix_source *from = &m[i];
        uint64_t pass = from->drawn / from->count;
        uint64_t key = mixed(mixed(s->seed * 131 + (uint64_t)i) + pass);
        uint64_t document = permuted(from->drawn++ % from->count, from->count, key);
        uint64_t length = from->at[document + 1] - from->at[document];
        if (!wanted) continue;
        out.length = 0;
        status = put_source(from, document, as_json, &out);
        if (status == DONE) status = outfile_write(o, out.text, out.length);
        from->drawn_bytes += length;
        bytes += length;
    }
    free(out.text);
    return status;
}

static int run_data_mix(settings *s, char **words, int count)
{
    static mix_source m[MIX_SOURCES];
    outfile o;
    cutting cut;
    uint64_t draws = 0;
    double total = 0, sum = 0;
    int status = count < 1 || count > MIX_SOURCES
        ? complain(USAGE, "data mix wants 1 to %d sources: %s data mix web.jsonl=0.7 books.txt=0.3 "
                   "--megabytes 10 --out mix.jsonl", MIX_SOURCES, program) : DONE;
    if (!GIVEN(seed)) s->seed = 1;
    if (status == DONE && GIVEN(preset) && strcmp(s->preset, "paper") != 0)
        status = complain(USAGE, "--preset %s: the preset of a mixture is paper", s->preset);
    if (status == DONE && GIVEN(draws) + GIVEN(megabytes) != 1)
        status = complain(USAGE, "how much? --megabytes M or --draws N, one of them");
    if (status == DONE) status = read_cutting(GIVEN(documents) ? s->documents : NULL, &cut);
    for (int i = 0; i < count && status == DONE; i++) {
        status = read_source(words[i], &m[i]);
        if (status == DONE && GIVEN(data_out) && same_file(m[i].path, s->data_out))
            status = complain(USAGE, "--out %s is one of the files to read", s->data_out);
        if (status == DONE) status = index_source(&m[i], cut);
        if (status == DONE && m[i].weight < 0) m[i].weight = (double)m[i].bytes;
        total += m[i].weight;
    }
    if (status == DONE && !(total > 0)) status = complain(USAGE, "all weights are 0");
    for (int i = 0; i < count && status == DONE; i++) {
        m[i].weight /= total;
        m[i].chance = m[i].weight * (double)m[i].count / (double)m[i].bytes;
        sum += m[i].chance;
    }
    for (int i = 0; i < count && status == DONE; i++) m[i].chance /= sum;
    memset(&o, 0, sizeof o);
    if (status == DONE)
        status = outfile_open(&o, "out", GIVEN(data_out) ? s->data_out : NULL, s->force);
    if (status == DONE) status = draw_documents(s, m, count, &o, &draws);
    FILE *f = summary_of(&o);
    if (o.path || status == DONE) {
        int closed = outfile_close(&o, status == DONE);
        if (status == DONE) status = closed;
    }
    if (status == DONE) print_mix(f, m, count, draws, s);
    for (int i = 0; i < count && i < MIX_SOURCES; i++) {
        lines_close(&m[i].in);
        free(m[i].name);
        free(m[i].path);
        free(m[i].at);
    }
    end_reservations();
    return status;
}

#endif
