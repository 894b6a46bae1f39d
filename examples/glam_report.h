/* glam_report.h - the command report: what a model's routers did with a text, and how they came to,
   as one page that needs nothing else.  A part of glam.c. */

#ifndef GLAM_REPORT_H
#define GLAM_REPORT_H

#ifdef _WIN32
#include <direct.h>
#endif

static const char report_note[] =
    "Several texts: each is counted, and the page compares them; its letters are the first one's. "
    "A TEXT that is the name of a file: its last 65,536 tokens, of which training keeps the last "
    "tenth apart; -: standard input. --log and --dense-log are what train --log wrote; of a "
    "race's log the mixture and the dense model are both taken. The page needs no network and no "
    "other file.\nWith a capacity the letters are routed as in training, with their slots and "
    "drops; all else, as in use, drops nothing.";

// == a token by hand ========================================================================

// Rows of numbers: their name, then `count` of them, `digits` behind the point.
static void put_numbers(json_out *o, const char *name, const float *of, int count, int stride,
                        int digits)
{
    put_format(o, "<tr><th scope=\"row\">%s</th>", name);
    for (int i = 0; i < count; i++) {
        double value = (double)of[i * stride];
        if (fabs(value) < 0.5 * pow(10, -digits)) value = 0;         // no -0.0000
        put_format(o, "<td>%.*f</td>", digits, value);
    }
    put(o, "</tr>\n");
}

static void put_table(json_out *o, const char *corner, const char *before, int count)
{
    put_format(o, "<div class=\"scroll\" tabindex=\"0\"><table><tr><th scope=\"col\">%s</th>",
               corner);
    for (int i = 0; i < count; i++) put_format(o, "<th scope=\"col\">%s%d</th>", before, i);
    put(o, "</tr>\n");
}

static void end_table(json_out *o) { put(o, "</table></div>\n"); }

enum { HAND = 4,                                 // entries of a long vector that are shown
       MOST_ROWS = 12000 };                        // most numbers of vectors that are shown whole

static void put_hand_forward(report *r, const byhand *b)
{
    json_out *o = &r->page;
    int E = b->experts, M = b->width, some = M < HAND ? M : HAND;
    put_format(o, "<h4>1. Norm</h4><p>The token is %d numbers x; here are the first %d. Their "
               "mean square is %.5f, so n = x / &radic;(%.5f + %g) &times; gain, number by "
               "number.</p>\n",
               M, some, (double)b->mean, (double)b->mean, (double)r->config->norm_eps);
    put_table(o, "", "", some);
    put_numbers(o, "x", b->x, some, 1, 5);
    put_numbers(o, "n", b->n, some, 1, 5);
    end_table(o);
    put_format(o, "<h4>2. Logits and probabilities</h4><p>Expert e has the logit &Sigma; "
               "n<sub>m</sub> W<sub>me</sub> over all %d m%s. Take the largest away, raise e "
               "to the rest, divide by the sum, %.5f.</p>\n", M, r->config->moe.router_cap > 0
               ? ", capped by C tanh(l / C)" : "", (double)b->power_sum);
    put_table(o, "expert", "", E);
    for (int m = 0; m < some && m < 2; m++) {
        char name[60];
        snprintf(name, sizeof name, "n<sub>%d</sub> W<sub>%de</sub>", m, m);
        float *product = (float *)need((size_t)E * sizeof *product);
        for (int e = 0; e < E; e++) product[e] = b->n[m] * b->router[m * E + e];
        put_numbers(o, name, product, E, 1, 5);
        free(product);
    }
    put_numbers(o, "all: logit", b->logit, E, 1, 4);
    put_numbers(o, "e^(l &minus; max)", b->power, E, 1, 5);
    put_numbers(o, "p", b->p, E, 1, 5);
    end_table(o);
}

static void put_cell(json_out *o, double value, int digits)
{ put_format(o, "<td>%.*f</td>", digits, fabs(value) < 0.5 * pow(10, -digits) ? 0.0 : value); }

// All that the sums are over, for a spreadsheet: a row for each entry of the vectors.  Left out
// where it would be most of the page.
static void put_hand_all(report *r, const byhand *b)
{
    json_out *o = &r->page;
    int E = b->experts, M = b->width, k = b->top_k, mixtures = 0;
    for (int i = 0; i < r->config->layers; i++) mixtures += is_mixture(r->config, i);
    if ((3 + E + k) * M * mixtures > MOST_ROWS) return;
    put_format(o, "<details><summary>All %d rows, for a spreadsheet</summary>\n<p>Logits are the "
               "sums of n times W<sub>e</sub>, dL/dw those of g times f.</p>\n<div "
               "class=\"scroll\" tabindex=\"0\"><table class=\"all\"><tr><th "
               "scope=\"col\">m</th><th scope=\"col\">x</th><th scope=\"col\">n</th>", M);
    for (int e = 0; e < E; e++) put_format(o, "<th scope=\"col\">W<sub>%d</sub></th>", e);
    for (int i = 0; i < k; i++) put_format(o, "<th scope=\"col\">f of %d</th>", b->chosen[i]);
    put(o, "<th scope=\"col\">g</th></tr>\n");
    for (int m = 0; m < M; m++) {
        put_format(o, "<tr><th scope=\"row\">%d</th>", m);
        put_cell(o, (double)b->x[m], 5);
        put_cell(o, (double)b->n[m], 5);
        for (int e = 0; e < E; e++) put_cell(o, (double)b->router[m * E + e], 5);
        for (int i = 0; i < k; i++) put_cell(o, (double)b->f[i * M + m], 5);
        put_cell(o, (double)b->g[m], 6);
        put(o, "</tr>\n");
    }
    put(o, "</table></div></details>\n");
}

static void put_hand_sum(report *r, const byhand *b)
{
    json_out *o = &r->page;
    int M = b->width, some = M < HAND ? M : HAND;
    put(o, "<h4>3. The experts that work, and the sum</h4><p>The largest p: ");
    for (int i = 0; i < b->top_k; i++)
        put_format(o, "%sexpert %d with %.5f", i ? ", " : "", b->chosen[i],
                   (double)b->p[b->chosen[i]]);
    if (r->config->moe.normalise == GLAM_NORMALISE_NONE)
        put(o, ". The weights are these probabilities.");
    else
        put_format(o, ". Together %.5f; divided by that they are the weights.",
                   (double)b->chosen_sum);
    put(o, " Each makes a vector f of n; y = x + &Sigma; w f.</p>\n");
    put_table(o, "", "", some);
    put_numbers(o, "x", b->x, some, 1, 5);
    for (int i = 0; i < b->top_k; i++) {
        char name[60];
        snprintf(name, sizeof name, "f of %d, w %.5f", b->chosen[i], (double)b->w[i]);
        put_numbers(o, name, b->f + i * M, some, 1, 5);
    }
    put_numbers(o, "y", b->y, some, 1, 5);
    end_table(o);
}

static void put_hand_back(report *r, const byhand *b)
{
    json_out *o = &r->page;
    int M = b->width, E = b->experts, some = M < HAND ? M : HAND;
    put_format(o, "<h4>4. What the loss says</h4><p>The next token is ");
    char next[NAME];
    put(o, "<b>");
    put_escaped(o, token_name(r->read.tokenizer, b->next, next));
    put_format(o, "</b>; the model gave it %.2f %%, so the loss is &minus;ln %.5f = %.5f. From "
               "above comes g = dL/dy; the weight of an expert feels g &middot; f, all %d "
               "numbers of it:</p>\n", 100 * exp(-b->loss), exp(-b->loss), b->loss, M);
    put_table(o, "", "", some);
    put_numbers(o, "g", b->g, some, 1, 6);
    end_table(o);
    put(o, "<p>");
    for (int i = 0; i < b->top_k; i++)
        put_format(o, "%sdL/dw of expert %d = <b>%.6f</b>", i ? ", " : "", b->chosen[i],
                   (double)b->dw[i]);
    put(o, "</p>\n<h4>5. Back to the router</h4><p>");
    if (r->config->moe.normalise != GLAM_NORMALISE_NONE)
        put_format(o, "Of a chosen expert dp = (dw &minus; &Sigma; w dw) / %.5f, of the others "
                   "0. ", (double)b->chosen_sum);
    else put(o, "Of a chosen expert dp = dw, of the others 0. ");
    put_format(o, "Then dl = p (dp &minus; &Sigma; p dp), and the router's matrix gets "
               "n<sub>m</sub> dl<sub>e</sub>%s. Learning goes against the gradient: a "
               "negative dl makes an expert likelier here. The balance loss (weight %g) has a "
               "say of its own: of the window's first choices expert e has f<sub>e</sub>, "
               "and dp = %g &times; %d f<sub>e</sub> / tokens.</p>\n",
               r->config->moe.router_cap > 0 ? " (1 &minus; (l / C)&sup2;)" : "",
               (double)r->config->moe.aux_weight, (double)r->config->moe.aux_weight, E);
    put_table(o, "expert", "", E);
    put_numbers(o, "dp", b->dp, E, 1, 6);
    put_numbers(o, "dl", b->dlogit, E, 1, 6);
    for (int m = 0; m < some && m < 2; m++) {
        char name[60];
        snprintf(name, sizeof name, "dW<sub>%de</sub>", m);
        put_numbers(o, name, b->drouter + m * E, E, 1, 6);
    }
    put_numbers(o, "f of the window", b->first, E, 1, 4);
    put_numbers(o, "dl, balance loss", b->dbalance, E, 1, 7);
    end_table(o);
    put_format(o, "<p class=\"small\">The mixture as one op, in pieces, and in the model's own "
               "pass differ by %.1g at most.</p>\n", (double)b->difference);
}

static void put_hand(report *r, int layer)
{
    const byhand *b = &r->by[layer];
    json_out *o = &r->page;
    char name[NAME];
    if (!b->block || b->failed) {
        put(o, b->block || byhand_knows(&r->config->moe)
            ? "<p>This model has parts that are not taken apart here, or its text is too "
              "short.</p>\n"
            : "<p>The steps by hand are those of a router that takes the k best of a softmax; this "
              "model has another, or an expert beside it.</p>\n");
        return;
    }
    put(o, "<h3>The token <b>");
    put_escaped(o, token_name(r->read.tokenizer, r->read.ids[b->token], name));
    put_format(o, "</b>, number %d of the text, in layer %d</h3>\n", b->token, layer);
    put_hand_forward(r, b);
    put_hand_sum(r, b);
    put_hand_back(r, b);
    put_hand_all(r, b);
}

// A letter with one after it in its window, where the model was surprised and two experts share.
static void choose_hand(report *r)
{
    const look *k = &r->used;
    double best = -1;
    r->hand = -1;
    for (int t = 2; t + 1 < k->tokens; t++) {
        double loss = (double)k->loss[t + 1];
        if (!isfinite(loss)) continue;
        int kind = kind_of_token(k, t);
        if (GIVEN(token) ? t != r->s->token : kind > 2) continue;
        const float *w = k->of[r->layer].before + t * k->top_k;
        double value = (loss < 3 ? loss : 3) * (0.1 + (double)w[k->top_k - 1]);
        if (value <= best) continue;
        best = value;
        r->hand = t;
    }
}

static void run_hands(report *r)
{
    r->by = (byhand *)need((size_t)r->config->layers * sizeof *r->by);
    memset(r->by, 0, (size_t)r->config->layers * sizeof *r->by);
    if (!byhand_knows(&r->config->moe)) return;
    for (int layer = 0; layer < r->config->layers && r->hand >= 0; layer++) {
        if (!is_mixture(r->config, layer)) continue;
        byhand_open(&r->by[layer], r->config);
        if (byhand_run(&r->by[layer], r->model, &r->used, layer, r->hand) == GLAM_OK) continue;
        warn("a token by hand: %s", glam_error_text(r->ctx));
        glam_clear_error(r->ctx);
    }
}

// == the sections of the page ===============================================================

// What belongs to one layer: the page shows one at a time.
static void each_layer(report *r, void (*one)(report *r, int layer))
{
    for (int layer = 0; layer < r->config->layers; layer++) {
        if (!is_mixture(r->config, layer)) continue;
        put_format(&r->page, "<div data-layer=\"%d\">\n", layer);
        one(r, layer);
        put(&r->page, "</div>\n");
    }
}

static void put_heading(report *r, const char *id, const char *title, const char *words)
{
    put_format(&r->page, "<section id=\"%s\"><h2>%s</h2>\n<p>", id, title);
    put(&r->page, words);
    put(&r->page, "</p>\n");
}

static void put_head(report *r)
{
    json_out *o = &r->page;
    const glam_config *c = r->config;
    int mixtures = 0;
    uint64_t active, all = glam_model_count(r->model, &active), tokens = 0;
    for (int i = 0; i < c->layers; i++) mixtures += is_mixture(c, i);
    for (int i = 0; i < r->sources; i++) tokens += (uint64_t)r->source[i].counted.tokens;
    put(o, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta "
           "name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<meta "
           "http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
           "'unsafe-inline'; script-src 'unsafe-inline'\">\n<title>Who works on which token: ");
    put_escaped(o, name_of(r->path));
    put(o, "</title>\n<style>:root{");
    put(o, svg_colours);
    put(o, "}@media(prefers-color-scheme:dark){:root{");
    put(o, svg_dark);
    put(o, "}}\n");
    put(o, svg_rules);
    for (int i = 0; page_style[i]; i++) put(o, page_style[i]);
    put(o, "</style></head><body>\n<h1>Who works on which token</h1>\n<p><b>");
    put_escaped(o, name_of(r->path));
    put_format(o, "</b>: %d layers, %d of them mixtures of %d experts; %d work%s on each token. "
               "%s parameters, %s of them active for a token. Counted on %s tokens of <b>",
               c->layers, mixtures, c->moe.experts, c->moe.top_k, c->moe.top_k == 1 ? "s" : "",
               show_count((double)all), show_count((double)active), show_commas(tokens));
    put_escaped(o, name_of(r->source[0].name));
    if (r->sources > 1) put_format(o, "</b> and %d more<b>", r->sources - 1);
    put(o, "</b>, in windows of ");
    put_format(o, "%d.</p>\n<nav aria-label=\"sections\"><a href=\"#text\">text</a> <a "
               "href=\"#takes\">what experts take</a> <a href=\"#run\">training</a> <a "
               "href=\"#loads\">loads</a> <a href=\"#pairs\">pairs</a> <a href=\"#hand\">by "
               "hand</a></nav>\n<div class=\"bar top\" role=\"radiogroup\" "
               "aria-label=\"layer\" id=\"layers\"></div>\n", r->read.window);
}

static void put_layer_row(report *r, int layer)
{
    json_out *o = &r->page;
    const glam_routing_stats *s = tally_finish(&r->total, layer);
    put_format(o, "<tr><th scope=\"row\">%d</th><td>%.2f (%d)</td><td>%.2f "
               "(%d)</td><td>%d</td><td>%.3f of %.3f</td><td>%.3f</td><td>%.2f", layer,
               s->fullest, fullest_of(s), s->emptiest, emptiest_of(s), s->dead, s->entropy,
               log((double)s->experts), s->balance, s->weight_first);
    if (r->config->moe.top_k > 1) put_format(o, ", %.2f", s->weight_second);
    put_format(o, "</td><td>%.0f %%</td></tr>\n", 100 * s->token_specialisation);
}

static void put_glance(report *r)
{
    static const char *const columns[7] = {"fullest", "emptiest", "dead", "entropy, nats",
        "balance", "mean weights", "the token alone tells the first expert"};
    json_out *o = &r->page;
    put(o, "<p class=\"small\">First choices over an even share, and whose. Balance is E &Sigma; f "
        "P; near 1 is no proof of even loads: look at the fullest and the emptiest. Dead: chosen "
        "less than 0.01 as often as the mean.</p>\n<div class=\"scroll\" tabindex=\"0\"><table><tr>"
        "<th scope=\"col\">layer</th>");
    for (int i = 0; i < 7; i++) put_format(o, "<th scope=\"col\">%s</th>", columns[i]);
    put(o, "</tr>\n");
    for (int layer = 0; layer < r->config->layers; layer++)
        if (is_mixture(r->config, layer)) put_layer_row(r, layer);
    end_table(o);
}

static void put_text_section(report *r)
{
    json_out *o = &r->page;
    int slots = 0;
    for (int i = 0; i < r->read.layers; i++) slots |= r->read.of[i].capacity;
    put_heading(r, "text", "The text, one expert lit",
                "The darker the blue, the larger the weight of the expert; under each letter its "
                "weight in percent. Choose another expert, or all of them: then the number below "
                "is the first expert. Point or tap for the numbers of a letter. Keys: &larr; "
                "&rarr; letter, &uarr; &darr; layer, 0&ndash;9 expert, Esc all.");
    if (slots) put(o, "<p>Routed as in training: a choice for an expert without a free slot is "
                   "dropped, and marked &times;.</p>\n");
    put(o, "<div class=\"bar\" role=\"group\" aria-label=\"expert\" id=\"experts\"></div>\n<div "
           "class=\"read-and-side\"><div id=\"letters\" tabindex=\"0\" role=\"group\" "
           "aria-label=\"the text; arrow keys move through it\"></div><aside id=\"side\" "
           "aria-live=\"polite\"></aside></div>\n<details id=\"small\"><summary>The same text, a "
           "panel for each expert</summary><p>Underlined and blue where the expert works. Choose "
           "a panel to light its expert above.</p><div "
           "id=\"panels\"></div></details>\n</section>\n");
}

// Who takes which token ids, as words.
static void put_takes(report *r, int layer)
{
    json_out *o = &r->page;
    const glam_routing_stats *s = tally_finish(&r->total, layer);
    taken of[TAKES];
    char name[NAME];
    put(o, "<div class=\"takes\">\n");
    for (int i = 0; i < s->experts; i++) {
        int e = r->order[layer * s->experts + i];
        int count = takes_of(s, e, of);
        put_format(o, "<p><b class=\"who\">%d</b>", e);
        for (int j = 0; j < count && 200 * of[j].count >= s->first[e]; j++) {
            put(o, " <span class=\"chip\">");
            put_escaped(o, token_name(r->read.tokenizer, of[j].id, name));
            put_format(o, " <small>%.0f %%</small></span>",
                       100 * (double)of[j].count / (double)s->first[e]);
        }
        put(o, s->first[e] ? "</p>\n" : " nothing</p>\n");
    }
    put(o, "</div>\n");
}

static void put_takes_section(report *r)
{
    put_heading(r, "takes", "What each expert takes",
                "Each row is a kind of token: how many percent of it go to which expert first, "
                "and how many there were. Below, for each expert, the tokens that are the largest "
                "shares of its first choices; the most specialised first.");
    each_layer(r, put_kinds);
    each_layer(r, put_takes);
    if (r->sources > 1) {
        put(&r->page, "<h3>Text by text</h3>\n");
        each_layer(r, put_sources);
    }
    put(&r->page, "</section>\n");
}

static void put_run_section(report *r)
{
    put_heading(r, "run", "Learning", r->run.steps == 0 && r->dense.steps == 0
                ? "This needs the log of the run: train with --log run.jsonl, and give --log "
                  "run.jsonl here; --dense-log adds the dense twin."
                : "Each point is the mean of some steps. Dashed: the dense twin, which does the "
                  "same work for a token.");
    put(&r->page, "<div class=\"charts\">\n");
    for (int what = 0; what < 3; what++) put_run_chart(r, what);
    put(&r->page, "</div></section>\n");
}

static void put_loads_section(report *r)
{
    int here = 0, slots = 0;
    for (int i = 0; i < r->run.layers; i++) here |= r->run.of && r->run.of[i].here;
    for (int i = 0; here && i < r->run.layers; i++)
        slots |= r->run.of[i].here && r->run.of[i].slots[r->run.steps - 1] > 0;
    put_heading(r, "loads", "Who had how much to do, while it learned", !here
                ? "This needs the log of the run with loads in it: train --log run.jsonl."
                : slots ? "First choices of each expert over an even share. Above the line "
                          "\"slots\" first choices alone are more than there is room for."
                : "First choices of each expert over an even share, one panel for each layer.");
    put(&r->page, "<div class=\"charts\">\n");
    for (int i = 0; here && i < r->run.layers; i++)
        if (r->run.of[i].here) put_load_chart(r, i);
    for (int what = 0; here && what < 4; what++) put_layers_chart(r, what);
    put(&r->page, "</div></section>\n");
}

static void make_page(report *r)
{
    json_out *o = &r->page;
    put_head(r);
    put_glance(r);
    put_text_section(r);
    put_takes_section(r);
    put_run_section(r);
    put_loads_section(r);
    put_heading(r, "pairs", "Who works beside whom", r->config->moe.top_k > 1
                ? "Of the tokens that the row's expert works on, how many percent the column's "
                  "expert works on as well."
                : "Here one expert works on each token: there are no pairs.");
    if (r->config->moe.top_k > 1) each_layer(r, put_pairs);
    put(o, "</section>\n");
    put_heading(r, "hand", "One token by hand",
                "What one layer does with one token, in numbers to do again with a calculator, and "
                "how its router learns from it. Nothing is dropped here.");
    each_layer(r, put_hand);
    put(o, "</section>\n");
    put_letters(r);
    put(o, "<script>\n");
    for (int i = 0; page_script[i]; i++) put(o, page_script[i]);
    put(o, "</script>\n</body></html>\n");
}

// == the command ============================================================================

static int ends_line(const look *k, int t)
{
    char byte;
    int bytes;
    const char *piece = piece_of(k->tokenizer, k->ids[t], &byte, &bytes);
    return bytes > 0 && piece[bytes - 1] == '\n';
}

// The letters of the page: the first of what is counted, from the start of a line.
static void read_letters(report *r)
{
    const look *from = &r->source[0].counted;
    int mixtures = 0, begin = 0, each, most;
    for (int i = 0; i < r->config->layers; i++) mixtures += is_mixture(r->config, i);
    each = 8 + from->top_k * 16 + (from->experts <= PROBABILITIES ? from->experts * 4 : 0);
    most = READ_BYTES / each / mixtures;
    if (most > READ) most = READ;
    if (most > from->tokens) most = from->tokens;
    while (from->tokens > most && begin < 400 && begin + most < from->tokens &&
           (begin == 0 || !ends_line(from, begin - 1))) begin++;
    int32_t *ids = (int32_t *)need((size_t)most * sizeof *ids);
    memcpy(ids, from->ids + begin, (size_t)most * sizeof *ids);
    look_open(&r->read, r->model, ids, most, r->config->context, NULL);
    look_run(&r->read, r->model, r->config->moe.capacity > 0 || r->config->moe.capacity_factor > 0
             ? GLAM_TRAIN : GLAM_INFER);
    ids = (int32_t *)need((size_t)most * sizeof *ids);
    memcpy(ids, r->read.ids, (size_t)most * sizeof *ids);
    look_open(&r->used, r->model, ids, most, r->config->context, NULL);
    look_run(&r->used, r->model, GLAM_INFER);
}

static int count_sources(report *r, char **words, int count)
{
    for (int i = 0; i < count; i++) {
        counted_text *to = &r->source[r->sources];
        int tokens = 0;
        int32_t *ids = text_tokens(r->model, words[i], COUNTED, 1, &tokens);
        if (!ids || glam_error(r->ctx) != GLAM_OK) {
            free(ids);
            return failure(r->ctx);
        }
        to->name = kind_of(words[i]) != NOTHING ? words[i] : strcmp(words[i], "-") == 0
                 ? "standard input" : "a text of yours";
        r->sources++;
        look_open(&to->counted, r->model, ids, tokens, r->config->context, &r->total);
        to->counted.number = i;
        if (look_run(&to->counted, r->model, GLAM_INFER) != GLAM_OK) return failure(r->ctx);
    }
    return DONE;
}

// A log of train; of a race, its two sides.
static int read_logs(report *r)
{
    int status = DONE;
    if (GIVEN(run_log))
        status = history_read(&r->run, "log", r->s->run_log, "mixture", r->config);
    if (status == DONE && GIVEN(dense_log))
        status = history_read(&r->dense, "dense-log", r->s->dense_log, "dense", r->config);
    else if (status == DONE && r->run.other)
        status = history_read(&r->dense, "log", r->s->run_log, "dense", r->config);
    return status;
}

static int write_whole(const char *which, const char *path, int force, const json_out *text)
{
    outfile out;
    int status = outfile_open(&out, which, path, force);
    if (status != DONE) return status;
    status = outfile_write(&out, text->text, text->length);
    if (outfile_close(&out, status == DONE) != DONE) status = FAILED;
    end_reservations();                          // there may be more charts than a run has files
    return status;
}

static int write_report(report *r)
{
    make_page(r);
    int status = write_whole("out", r->s->page, r->s->force, &r->page);
    for (int i = 0; i < r->drawings && status == DONE; i++) {
        char *path = in_folder(r->folder, r->drawing[i].name);
        status = write_whole("svg", path, r->s->force, &r->drawing[i].svg);
        free(path);
    }
    if (status == DONE)
        printf("%s: %s, open it in a browser%s%s\n", r->s->page, show_bytes((double)r->page.length),
               r->folder ? "; each chart alone is in " : "", r->folder ? r->folder : "");
    return status;
}

static int check_report(const report *r)
{
    int layer = choose_layer(r->s, &r->source[0].counted, r->path);
    if (layer < 0) return FAILED;
    if (GIVEN(token) && r->s->token + 1 >= r->source[0].counted.tokens)
        return complain(FAILED, "--token %d: the text has tokens 0 to %d, and the last has none "
                        "after it", r->s->token, r->source[0].counted.tokens - 1);
    return DONE;
}

static int report_on(report *r, char **words, int count)
{
    int status = failure(r->ctx);
    if (status == DONE) tally_open(&r->total, r->ctx, r->config, r->config->vocab, count - 1);
    if (status == DONE) status = count_sources(r, words + 1, count - 1);
    if (status == DONE) status = check_report(r);
    if (status == DONE) status = read_logs(r);
    if (status != DONE) return status;
    find_order(r);
    if (GIVEN(expert)) r->expert = r->s->expert;
    read_letters(r);
    choose_hand(r);
    if (failure(r->ctx)) return FAILED;
    if (GIVEN(token) && r->hand < 0)
        return complain(FAILED, "--token %d is not among the letters of the page with one before "
                                "and one after it in its window of %d; those end at %d",
                        r->s->token,
                        r->read.window, r->read.tokens - 2);
    run_hands(r);
    return write_report(r);
}

static int run_report(settings *s, char **words, int count)
{
    static report r;
    if (count < 2)
        return complain(USAGE, "report wants a model and a text: %s report model.safetensors "
                        "book.txt --out report.html", program);
    if (count - 1 > SOURCES) return complain(USAGE, "report takes %d texts at most", SOURCES);
    if (!GIVEN(page)) s->page = "report.html";
    if (check_apart("out", s->page, words, count)) return USAGE;
    if (check_writable("out", s->page, s->force)) return FAILED;
    r.s = s;
    r.path = words[0];
    if (GIVEN(svg)) r.folder = s->svg;
    if (r.folder && make_folder("svg", r.folder)) return FAILED;
    r.ctx = open_context(s);
    r.model = load_model(r.ctx, words[0]);
    if (r.model) r.config = glam_model_config(r.model);
    int status = report_on(&r, words, count);
    for (int i = 0; i < r.sources; i++) look_close(&r.source[i].counted);
    for (int i = 0; r.by && i < r.config->layers; i++) byhand_close(&r.by[i]);
    look_close(&r.read);
    look_close(&r.used);
    tally_close(&r.total);
    history_close(&r.run);
    history_close(&r.dense);
    for (int i = 0; i < r.drawings; i++) free(r.drawing[i].svg.text);
    free(r.by);
    free(r.order);
    free(r.page.text);
    end_reservations();
    glam_close(r.ctx);
    return status;
}

#endif
