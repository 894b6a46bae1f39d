/* What examples/glam_curate.h does with documents: how good scores are, near duplicates, overlap with
   an evaluation set.  Kinds: value, property. */

static void *need(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);
    if (!p) abort();
    return p;
}

#include "../examples/glam_curate.h"

// AUC is the share of pairs in which the curated one is ahead, a tie counting half; precision and
// recall by counting; tenths by rank; kept by asking document by document.
static void curate_judge(void)
{
    enum { N = 501 };
    float scores[N], labels[N];
    uint64_t s = test_seed(1);
    judgement j;
    for (int coarse = 0; coarse < 2; coarse++) {
        double pairs = 0, ahead = 0, said = 0, both = 0, good = 0;
        uint64_t kept = 0, all = 0;
        for (int i = 0; i < N; i++) {
            labels[i] = (float)(test_next(&s) % 3 == 0);
            scores[i] = (float)test_uniform(&s, 0, 0.7) + 0.3f * labels[i];
            if (coarse) scores[i] = floorf(scores[i] * 8) / 8;
            said += scores[i] >= 0.5f;
            good += labels[i] > 0;
            both += scores[i] >= 0.5f && labels[i] > 0;
            kept += (uint64_t)glam_filter_keep((double)scores[i], 2, 5, (uint64_t)i);
        }
        for (int i = 0; i < N; i++)
            for (int k = 0; k < N; k++) {
                if (labels[i] < 0.5f || labels[k] > 0.5f) continue;
                pairs++;
                ahead += scores[i] > scores[k] ? 1 : scores[i] < scores[k] ? 0 : 0.5;
            }
        judge_scores(scores, labels, N, 2, 5, &j);
        CHECK_NEAR(j.auc, ahead / pairs, 1e-12);
        CHECK_NEAR(j.precision, both / said, 1e-12);
        CHECK_NEAR(j.recall, both / good, 1e-12);
        CHECK(j.kept == kept && j.documents == N);
        for (int t = 0; t < 10; t++) {
            int below = 0;
            for (int i = 0; i < N; i++) below += scores[i] < j.tenth_from[t];
            CHECK(j.tenth[t] == 50 + (uint64_t)(t == 0) && j.tenth_kept[t] <= j.tenth[t]);
            CHECK((uint64_t)below <= all);
            all += j.tenth[t];
            kept -= j.tenth_kept[t];
        }
        CHECK(kept == 0 && all == N);
    }
    judge_scores(scores, NULL, 0, 9, 1, &j);
    CHECK(j.documents == 0 && j.kept == 0);
}

enum { CURATE_WORDS = 300 };

// A document of numbered words into text; returns its bytes.
static size_t curate_text(char *text, const int *word, int count)
{
    size_t at = 0;
    for (int i = 0; i < count; i++) at += (size_t)sprintf(text + at, "%s%d", i ? " " : "w", word[i]);
    return at;
}

// The true Jaccard similarity of the sets of n words in a row.
static double curate_jaccard(const int *a, int na, const int *b, int nb, int n)
{
    int both = 0, alone = 0;
    for (int side = 0; side < 2; side++) {
        const int *x = side ? b : a, *y = side ? a : b;
        int nx = side ? nb : na, ny = side ? na : nb;
        for (int i = 0; i + n <= nx; i++) {
            int twice = 0, found = 0;
            for (int k = 0; k < i; k++) twice |= !memcmp(x + k, x + i, (size_t)n * sizeof *x);
            for (int k = 0; k + n <= ny; k++) found |= !memcmp(y + k, x + i, (size_t)n * sizeof *x);
            if (twice) continue;
            both += found && !side;
            alone += !found;
        }
    }
    return (double)both / (both + alone);
}

// Signatures agree as the sets do: each pair within four deviations of 128 draws, all of them together
// with no bias; short documents, whose bins borrow, too.
static void curate_minhash(void)
{
    static char text[2][CURATE_WORDS * 8];
    uint64_t s = test_seed(2);
    double bias = 0;
    enum { PAIRS = 200 };
    for (int pair = 0; pair < PAIRS; pair++) {
        int word[2][CURATE_WORDS], n = pair % 2 ? CURATE_WORDS : 40, shingle = 1 + pair % 5, equal = 0;
        uint32_t signature[2][128];
        for (int i = 0; i < n; i++) {
            word[0][i] = word[1][i] = (int)(test_next(&s) % 5000);
            if (test_next(&s) % 40 < (unsigned)pair % 7) word[1][i] = (int)(test_next(&s) % 5000);
        }
        for (int k = 0; k < 2; k++) {
            glam_document d = { text[k], 0 };
            d.bytes = curate_text(text[k], word[k], n);
            minhash(&d, shingle, 128, signature[k]);
        }
        // the first word has a w before it in both
        double true_one = curate_jaccard(word[0], n, word[1], n, shingle);
        for (int i = 0; i < 128; i++) equal += signature[0][i] == signature[1][i];
        double few = n < 128 ? 2 : 1;            // fewer shingles than bins say less
        CHECK_NEAR(equal / 128.0, true_one, 4.5 * few * sqrt(true_one * (1 - true_one) / 128) + 1e-9);
        bias += (equal / 128.0 - true_one) / PAIRS;
    }
    CHECK_NEAR(bias, 0, 0.01);
}

// Planted near copies are found, each with its original, and nothing else is; the same whatever the
// threads and the calls.
static void curate_dedup(void)
{
    enum { N = 400 };
    static char text[N][CURATE_WORDS * 8];
    static int word[N][CURATE_WORDS];
    glam_document d[N];
    int64_t twins[N], again[N];
    uint64_t s = test_seed(3);
    for (int i = 0; i < N; i++) {
        int copy = i >= 100 && i % 4 == 0;       // of the document 100 before, one word of it changed
        for (int k = 0; k < CURATE_WORDS; k++) word[i][k] = copy ? word[i - 100][k] : (int)(test_next(&s) % 3000);
        if (copy) word[i][100 + i % 50] = 9999;
        d[i].text = text[i];
        d[i].bytes = curate_text(text[i], word[i], CURATE_WORDS);
    }
    for (int run = 0; run < 3; run++) {
        dedup all;
        int step = run == 1 ? 7 : N;
        dedup_begin(&all, 5, 128, 0.8);
        CHECK(all.bands == 16);
        curate_threads = run == 2 ? 3 : 1;
        for (int at = 0; at < N; at += step)
            dedup_add(&all, d + at, N - at < step ? N - at : step, (run ? again : twins) + at);
        CHECK(all.seen == N && all.used == 325);
        for (int i = 0; i < N; i++) {
            int first = i;
            while (first >= 100 && first % 4 == 0) first -= 100;
            CHECK(run ? again[i] == twins[i] : twins[i] == (first == i ? -1 : first));
        }
        dedup_end(&all);
    }
    curate_threads = 1;
    glam_document empty[3] = { { "", 0 }, { " .,", 3 }, { "two words", 9 } };
    dedup few;
    dedup_begin(&few, 5, 128, 0.8);
    dedup_add(&few, empty, 3, twins);
    CHECK(twins[0] == -1 && twins[1] == 0 && twins[2] == -1);
    dedup_end(&few);
}

// Against looking for each n-gram word by word.
static void curate_overlap(void)
{
    enum { ROWS = 60, DOCS = 50, MOST = 60 };
    static char text[ROWS + DOCS][MOST * 8];
    static int word[ROWS + DOCS][MOST], count[ROWS + DOCS];
    glam_document d[ROWS + DOCS];
    uint64_t s = test_seed(4);
    for (int i = 0; i < ROWS + DOCS; i++) {
        count[i] = i < ROWS ? 6 + (int)(test_next(&s) % 20) : MOST;
        for (int k = 0; k < count[i]; k++) word[i][k] = (int)(test_next(&s) % 500);
        if (i >= ROWS && i % 2) {                // a part of a row is in the document
            int row = (int)(test_next(&s) % ROWS), n = 5 + (int)(test_next(&s) % 20);
            memcpy(&word[i][3], word[row], (size_t)(n < count[row] ? n : count[row]) * sizeof(int));
        }
        d[i].text = text[i];
        size_t at = 0;
        for (int k = 0; k < count[i]; k++)       // case and signs do not count
            at += (size_t)sprintf(text[i] + at, "%s%d%s", i < ROWS ? "W" : "w", word[i][k], i % 3 ? " " : ", ");
        d[i].bytes = at;
    }
    int length[ROWS], met_rows = 0;
    memcpy(length, count, sizeof length);
    qsort(length, ROWS, sizeof *length, by_int);
    for (int n = 0; n <= 10; n += 5) {
        overlap o;
        curate_threads = n == 5 ? 3 : 1;
        overlap_begin(&o, d, ROWS, n);
        CHECK(o.n == (n ? n : length[3] < 8 ? 8 : length[3]));
        overlap_add(&o, d + ROWS, 20);
        overlap_add(&o, d + ROWS + 20, DOCS - 20);
        for (int r = 0; r < ROWS; r++) {
            int all, want = 0, grams = count[r] >= o.n ? count[r] - o.n + 1 : 0;
            int64_t where, first = -1;
            for (int g = 0; g < grams; g++) {
                int found = 0;
                for (int k = ROWS + DOCS - 1; k >= ROWS; k--)
                    for (int at = 0; at + o.n <= count[k]; at++)
                        if (!memcmp(&word[k][at], &word[r][g], (size_t)o.n * sizeof(int))) {
                            found = 1;
                            if (first < 0 || k - ROWS < first) first = k - ROWS;
                        }
                want += found;
            }
            CHECK(overlap_row(&o, r, &all, &where) == want && all == grams && where == first);
            met_rows += want > 0;
        }
        overlap_end(&o);
    }
    CHECK(met_rows > 20);
    curate_threads = 1;
}

static void test_curate(void)
{
    RUN(curate_judge);
    RUN(curate_minhash);
    RUN(curate_dedup);
    RUN(curate_overlap);
}
