/* glam_curate.h - what is done with documents before they are a text, besides the quality filter of
   glam.h: how good scores are, near duplicates, overlap with an evaluation set.  A part of glam.c;
   it needs glam.h and a function need(bytes), and prints nothing, so that tests can use it too.

   Results depend on the documents and their order alone: not on threads, nor on how a stream is
   cut into calls. */

#ifndef GLAM_CURATE_H
#define GLAM_CURATE_H

static int curate_threads = 1;                   // of the loops below, where there is OpenMP

// == how good scores are ====================================================================

typedef struct judgement {
    double   auc;                                // chance that a curated document scores higher
    double   precision, recall;                  // of "curated" where the score is 1/2 and more
    uint64_t documents, kept;
    uint64_t tenth[10], tenth_kept[10];          // tenths of the documents, lowest scores first
    float    tenth_from[10];                     // the lowest score in each
} judgement;

typedef struct judged { float score, label; size_t index; } judged;

static int by_score(const void *a, const void *b)
{
    const judged *x = (const judged *)a, *y = (const judged *)b;
    if (x->score < y->score || x->score > y->score) return x->score < y->score ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

// AUC from the sum over positives of their ranks, where equal scores share a mean one (Mann and
// Whitney).
static void judge_labels(const judged *d, size_t count, judgement *out)
{
    double places = 0, good = 0, said = 0, both = 0;
    for (size_t i = 0, end; i < count; i = end) {
        for (end = i + 1; end < count && d[end].score <= d[i].score;) end++;
        for (size_t k = i; k < end; k++) {
            double label = d[k].label > 0.5f, high = d[k].score >= 0.5f;
            places += label * ((double)(i + end + 1) / 2);
            good += label;
            said += high;
            both += label * high;
        }
    }
    double bad = (double)count - good;
    if (good > 0 && bad > 0) out->auc = (places - good * (good + 1) / 2) / (good * bad);
    if (said > 0) out->precision = both / said;
    if (good > 0) out->recall = both / good;
}

// labels NULL: only tenths.  Document i is number i to glam_filter_keep.
static void judge_scores(const float *scores, const float *labels, size_t count, double alpha,
                  uint64_t seed, judgement *out)
{
    judged *d = (judged *)need(count * sizeof *d);
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < count; i++) {
        d[i].score = scores[i];
        d[i].label = labels ? labels[i] : 0;
        d[i].index = i;
    }
    qsort(d, count, sizeof *d, by_score);
    for (size_t i = count; i-- > 0;) {
        int tenth = (int)((double)i * 10 / (double)count);
        int keep = glam_filter_keep((double)d[i].score, alpha, seed, d[i].index);
        out->tenth[tenth]++;
        out->tenth_kept[tenth] += (uint64_t)keep;
        out->tenth_from[tenth] = d[i].score;
        out->kept += (uint64_t)keep;
    }
    out->documents = count;
    if (labels) judge_labels(d, count, out);
    free(d);
}

// == n words in a row =======================================================================

enum { NGRAM_MOST = 64 };

// Rolls over a document: hash = sum of word[t - k] P^k over k < n.
typedef struct ngrams {
    const glam_document *document;
    int      n, slot;
    size_t   at, words;
    uint64_t power, hash, ring[NGRAM_MOST];
} ngrams;

static uint64_t mixed(uint64_t x)                // the finalizer of splitmix64
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static void ngrams_begin(ngrams *g, const glam_document *document, int n)
{
    memset(g, 0, sizeof *g);
    g->document = document;
    g->n = n;
    g->power = 1;
    for (int i = 0; i < n; i++) g->power *= 0x9e3779b97f4a7c15u;
}

// The hash of the next n words; 0: there are no more.
static uint64_t ngrams_next(ngrams *g)
{
    do {
        uint64_t word = glam_next_word(g->document, 0, &g->at);
        if (!word) return 0;
        g->hash = g->hash * 0x9e3779b97f4a7c15u + word - g->ring[g->slot] * g->power;
        g->ring[g->slot] = word;
        if (++g->slot == g->n) g->slot = 0;
    } while (++g->words < (size_t)g->n);
    return mixed(g->hash) | 1;
}

// == near duplicates ========================================================================
// MinHash (Broder 1997), by one permutation whose empty bins borrow (Shrivastava 2017): two
// signatures agree in about the Jaccard similarity of the documents' sets of shingles.

enum { HASHES_MOST = 1024, ROUND = 1024, NEAR_MOST = 64 };

static void minhash(const glam_document *document, int shingle, int hashes, uint32_t *signature)
{
    ngrams g;
    unsigned char filled[HASHES_MOST] = { 0 };
    int some = 0;
    for (int i = 0; i < hashes; i++) signature[i] = UINT32_MAX;
    ngrams_begin(&g, document, shingle);
    for (;;) {
        uint64_t h = ngrams_next(&g);
        int short_one = !h && g.words && !some;  // all its words are one shingle
        if (short_one) h = mixed(g.hash);
        if (!h) break;
        int bin = (int)((h >> 32) * (uint64_t)hashes >> 32);
        if ((uint32_t)h < signature[bin]) signature[bin] = (uint32_t)h;
        some = filled[bin] = 1;
    }
    for (int i = 0; i < hashes && some; i++) {   // an empty bin takes the value of another, in
        uint64_t bin = (uint64_t)i;              // every document the same one's
        for (uint64_t k = 1; !filled[bin]; k++)
            bin = (mixed(((uint64_t)i << 32) + k) >> 32) * (uint64_t)hashes >> 32;
        signature[i] = signature[bin];
    }
}

typedef struct near_entry { uint32_t document, tag; } near_entry;      // document 0: free

typedef struct dedup {
    int         shingle, hashes, bands;          // words; of a signature; of it, compared whole
    double      threshold;                       // share of equal hashes of what is near
    uint16_t   *signatures;                      // [room, hashes] of those remembered, 16 bits
    uint64_t   *numbers;                         // [room]
    near_entry *table;                           // [slots], bands for each, at most half full
    uint64_t    used, room, slots, seen;
} dedup;

// Two of similarity s share a band of `rows` hashes with the chance 1 - (1 - s^rows)^bands.  The
// most rows with which nine in ten at the threshold do: 128 hashes and 0.8 give 16 bands of 8.
static void dedup_begin(dedup *d, int shingle, int hashes, double threshold)
{
    memset(d, 0, sizeof *d);
    d->shingle = shingle;
    d->hashes = d->bands = hashes;
    d->threshold = threshold;
    for (int rows = 1; rows <= hashes; rows++) {
        if (hashes % rows) continue;
        double found = 1 - pow(1 - pow(threshold, rows), hashes / rows);
        if (rows > 1 && found < 0.9) break;
        d->bands = hashes / rows;
    }
}

static void dedup_end(dedup *d)
{
    free(d->signatures);
    free(d->numbers);
    free(d->table);
    memset(d, 0, sizeof *d);
}

static uint64_t band_key(const dedup *d, const uint16_t *signature, int band)
{
    uint64_t key = (uint64_t)band + 1;
    int rows = d->hashes / d->bands;
    for (int i = 0; i < rows; i++) key = mixed(key * 65599 + signature[band * rows + i]);
    return key;
}

// The next of those remembered with this key, from slot *at on; NULL: no more, *at is free.
static near_entry *dedup_probe(const dedup *d, uint64_t key, uint64_t *at)
{
    for (; d->table[*at].document; *at = (*at + 1) & (d->slots - 1))
        if (d->table[*at].tag == (uint32_t)(key >> 32)) return &d->table[*at];
    return NULL;
}

// No more than NEAR_MOST of one band: boilerplate must not cost the square of its length.
static void dedup_insert(dedup *d, uint64_t document)
{
    const uint16_t *signature = d->signatures + document * (uint64_t)d->hashes;
    for (int band = 0; band < d->bands; band++) {
        uint64_t key = band_key(d, signature, band), at = key & (d->slots - 1);
        int same = 0;
        for (; same < NEAR_MOST && dedup_probe(d, key, &at); same++)
            at = (at + 1) & (d->slots - 1);
        if (same == NEAR_MOST) continue;
        d->table[at].document = (uint32_t)document + 1;
        d->table[at].tag = (uint32_t)(key >> 32);
    }
}

// Room for one more document: everything doubles.
static void dedup_grow(dedup *d)
{
    dedup more = *d;
    size_t hashes = (size_t)d->hashes;
    if (d->used < d->room) return;
    more.room = d->room ? 2 * d->room : 256;
    for (more.slots = 1; more.slots < 2 * (uint64_t)d->bands * more.room;) more.slots *= 2;
    more.signatures = (uint16_t *)need(more.room * hashes * sizeof *more.signatures);
    more.numbers = (uint64_t *)need(more.room * sizeof *more.numbers);
    more.table = (near_entry *)need(more.slots * sizeof *more.table);
    memset(more.table, 0, more.slots * sizeof *more.table);
    if (d->used) memcpy(more.signatures, d->signatures, d->used * hashes * sizeof *d->signatures);
    if (d->used) memcpy(more.numbers, d->numbers, d->used * sizeof *d->numbers);
    dedup_end(d);
    *d = more;
    for (uint64_t i = 0; i < d->used; i++) dedup_insert(d, i);
}

// The number of the remembered document that agrees best, if in enough; -1: none does.
static int64_t dedup_find(const dedup *d, const uint16_t *signature)
{
    int most = (int)ceil(d->threshold * d->hashes - 1e-9) - 1;
    int64_t twin = -1;
    for (int band = 0; band < d->bands && d->slots; band++) {
        uint64_t key = band_key(d, signature, band), at = key & (d->slots - 1);
        const near_entry *found;
        for (; (found = dedup_probe(d, key, &at)) != NULL; at = (at + 1) & (d->slots - 1)) {
            size_t place = found->document - 1;
            const uint16_t *other = d->signatures + place * (size_t)d->hashes;
            int equal = 0;
            for (int i = 0; i < d->hashes; i++) equal += signature[i] == other[i];
            if (equal <= most) continue;
            most = equal;
            twin = (int64_t)d->numbers[place];
        }
    }
    return twin;
}

// twins [count]: -1, it is new and remembered from here on, or the number (from 0, over all calls)
// of an earlier document that it is near.
static void dedup_add(dedup *d, const glam_document *documents, int count, int64_t *twins)
{
    size_t hashes = (size_t)d->hashes;
    uint16_t *signatures = (uint16_t *)need((size_t)count * hashes * sizeof *signatures);
    int i;
#ifdef _OPENMP
    #pragma omp parallel for schedule(dynamic, 8) num_threads(curate_threads)
#endif
    for (i = 0; i < count; i++) {
        uint32_t signature[HASHES_MOST];
        minhash(&documents[i], d->shingle, d->hashes, signature);
        for (size_t k = 0; k < hashes; k++)
            signatures[(size_t)i * hashes + k] = (uint16_t)signature[k];
    }
    for (i = 0; i < count; i++, d->seen++) {
        const uint16_t *signature = signatures + (size_t)i * hashes;
        twins[i] = dedup_find(d, signature);
        if (twins[i] >= 0) continue;
        dedup_grow(d);
        memcpy(d->signatures + d->used * hashes, signature, hashes * sizeof *signature);
        d->numbers[d->used] = d->seen;
        dedup_insert(d, d->used++);
    }
    free(signatures);
}

// == overlap with an evaluation set =========================================================
// As the paper's appendix does after GPT-3: a row overlaps when any n words of it in a row occur
// in the training text; n is the length in words that 95 % of the rows reach, from 8 to 13.

typedef struct overlap {
    int       n, rows;
    uint64_t *keys;                              // [slots] hashes of n-grams, 0: free
    uint32_t *ids, *grams;                       // [slots]; the n-grams of the rows, row after row
    size_t   *ends;                              // [rows] in grams
    uint64_t *first;                             // [threads, distinct] number of the first document
    size_t    slots, distinct;
    uint64_t  documents;
    int       threads;
} overlap;

static int by_int(const void *a, const void *b)
{
    return *(const int *)a < *(const int *)b ? -1 : *(const int *)a > *(const int *)b;
}

static size_t overlap_slot(const overlap *o, uint64_t key)
{
    size_t at = (size_t)(key >> 8) & (o->slots - 1);
    while (o->keys[at] && o->keys[at] != key) at = (at + 1) & (o->slots - 1);
    return at;
}

// Words of each row, and from them n; returns how many n-grams there are.
static size_t overlap_measure(overlap *o, const glam_document *rows)
{
    size_t grams = 0;
    int *words = (int *)need((size_t)o->rows * sizeof *words);
    for (int i = 0; i < o->rows; i++) {
        words[i] = 0;
        for (size_t at = 0; glam_next_word(&rows[i], 0, &at);) words[i]++;
    }
    qsort(words, (size_t)o->rows, sizeof *words, by_int);
    int reach = words[o->rows / 20];
    if (!o->n) o->n = reach < 8 ? 8 : reach > 13 ? 13 : reach;
    for (int i = 0; i < o->rows; i++)
        if (words[i] >= o->n) grams += (size_t)(words[i] - o->n + 1);
    free(words);
    return grams;
}

// n 0: by the rule above.
static void overlap_begin(overlap *o, const glam_document *rows, int count, int n)
{
    memset(o, 0, sizeof *o);
    o->rows = count;
    o->n = n;
    o->threads = curate_threads;
    size_t all = overlap_measure(o, rows), grams = 0;
    for (o->slots = 16; o->slots < 2 * all;) o->slots *= 2;
    o->keys = (uint64_t *)need(o->slots * sizeof *o->keys);
    o->ids = (uint32_t *)need(o->slots * sizeof *o->ids);
    o->grams = (uint32_t *)need(all * sizeof *o->grams);
    o->ends = (size_t *)need((size_t)count * sizeof *o->ends);
    memset(o->keys, 0, o->slots * sizeof *o->keys);
    for (int i = 0; i < count; i++) {
        ngrams g;
        ngrams_begin(&g, &rows[i], o->n);
        for (uint64_t key; (key = ngrams_next(&g)) != 0; grams++) {
            size_t slot = overlap_slot(o, key);
            if (!o->keys[slot]) o->ids[slot] = (uint32_t)o->distinct++;
            o->keys[slot] = key;
            o->grams[grams] = o->ids[slot];
        }
        o->ends[i] = grams;
    }
    size_t bytes = (size_t)o->threads * o->distinct * sizeof *o->first;
    o->first = (uint64_t *)need(bytes);
    memset(o->first, 0xff, bytes);
}

static void overlap_end(overlap *o)
{
    free(o->keys);
    free(o->ids);
    free(o->grams);
    free(o->ends);
    free(o->first);
    memset(o, 0, sizeof *o);
}

static void overlap_document(const overlap *o, const glam_document *d, uint64_t number,
                             uint64_t *first)
{
    ngrams g;
    ngrams_begin(&g, d, o->n);
    for (uint64_t key; (key = ngrams_next(&g)) != 0;) {
        size_t slot = overlap_slot(o, key);
        if (o->keys[slot] && number < first[o->ids[slot]]) first[o->ids[slot]] = number;
    }
}

static void overlap_add(overlap *o, const glam_document *documents, int count)
{
    int i;
#ifdef _OPENMP
    #pragma omp parallel for schedule(dynamic, 8) num_threads(o->threads)
#endif
    for (i = 0; i < count; i++) {
#ifdef _OPENMP
        size_t worker = (size_t)omp_get_thread_num();
#else
        size_t worker = 0;
#endif
        overlap_document(o, &documents[i], o->documents + (uint64_t)i,
                         o->first + worker * o->distinct);
    }
    o->documents += (uint64_t)count;
}

// Returns how many n-grams of a row were met, *all how many it has (0: it is shorter than n), and
// *where the number of the first document that has one; -1: none.
static int overlap_row(const overlap *o, int row, int *all, int64_t *where)
{
    size_t from = row ? o->ends[row - 1] : 0, to = o->ends[row];
    uint64_t least = UINT64_MAX;
    int met = 0;
    for (size_t i = from; i < to; i++) {
        uint64_t first = UINT64_MAX;
        for (size_t w = 0; w < (size_t)o->threads; w++) {
            uint64_t one = o->first[w * o->distinct + o->grams[i]];
            if (one < first) first = one;
        }
        met += first != UINT64_MAX;
        if (first < least) least = first;
    }
    *all = (int)(to - from);
    *where = met ? (int64_t)least : -1;
    return met;
}

#endif
