/* in_context.c - texts that can only be understood from examples, for bench/in_context.sh.

   Build:  cc -O2 bench/in_context.c -o in_context -lm
   Run:    ./in_context FOLDER [SEED]

   writes into FOLDER: train.jsonl (12 MB), suite.jsonl, for each of its 24 tasks NAME.jsonl (ROWS to be
   answered) and NAME_shots.jsonl (as many solved rows of the same rule), and ideal.txt.  The same seed
   gives the same bytes.

   A line of train.jsonl is an episode: twelve examples of one rule.  The sign # means what the rule
   says, and nothing but the examples tells the rule.  A rule has two parts, one for each place of the
   answer, of six that its family has:

       letters   cf#dh    the letter in this place one or two on, one or two back, or the one that it
                          is swapped with among ab cd ef gh, or among ac bd eg fh
       lists     dbg#bd   the first, second or third of the list; the earliest, middle or latest letter
       sums      3#2=51   the sum, the difference, the first, the second, the larger, the smaller

   Parts agree on some inputs (c and d: one on, or swapped?  first, or earliest?), so one example leaves
   a rule open that a few settle.  Of the 36 rules of a family eight, drawn by the seed, never occur in
   training, and only these are asked for: their parts were seen, never together.  The options of a row
   are what four of these eight make of it, all different, so chance is a quarter.

   ideal.txt has lines "family shots accuracy": what the best guess gets that knows all 36 rules and
   takes each for as likely, from this many examples, over ROWS x DRAWS rows of each rule. */

#define GLAM_IMPLEMENTATION
#include "../glam.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LETTERS, LISTS, SUMS, FAMILIES };
enum { ALPHABET = 8, PARTS = 6, RULES = PARTS * PARTS, HELD = 8, OPTIONS = 4, EXAMPLES = 12,
       ROWS = 40, DRAWS = 10, MOST_SHOTS = 7, TRAIN_BYTES = 12000000 };

typedef struct question { int x[3]; } question;        // letters of the alphabet, or numbers
typedef struct rules { int held[FAMILIES][HELD], is_held[FAMILIES][RULES]; } rules;

static const char *const names[] = {"letters", "lists", "sums"};

// A stream of random numbers: which one it is depends on the seed and on how many came before.
typedef struct chance { uint64_t seed, stream, index; } chance;

static int draw(chance *c, int n)
{ return (int)((double)glam_random(c->seed, c->stream, c->index++) * n); }

static void shuffle(chance *c, int *x, int n)
{
    for (int i = n - 1; i > 0; i--) {
        int j = draw(c, i + 1), t = x[i];
        x[i] = x[j];
        x[j] = t;
    }
}

// A part is held back at most twice in a place, so that training has it there four times at least.
static rules draw_rules(uint64_t seed)
{
    rules r;
    chance c = {seed, 1, 0};
    memset(&r, 0, sizeof r);
    for (int f = 0; f < FAMILIES; f++) {
        int all[RULES], used[2][PARTS], n = 0;
        for (int i = 0; i < RULES; i++) all[i] = i;
        while (n < HELD) {                             // a few orders lead nowhere
            shuffle(&c, all, RULES);
            memset(used, 0, sizeof used);
            n = 0;
            for (int i = 0; i < RULES && n < HELD; i++) {
                int *first = &used[0][all[i] / PARTS], *second = &used[1][all[i] % PARTS];
                if (*first == 2 || *second == 2) continue;
                ++*first;
                ++*second;
                r.held[f][n++] = all[i];
            }
        }
        for (int i = 0; i < HELD; i++) r.is_held[f][r.held[f][i]] = 1;
    }
    return r;
}

// Letters of a query differ, numbers too, and no sum has two digits.
static question ask(chance *c, int family)
{
    question q;
    int letters[ALPHABET];
    for (int i = 0; i < ALPHABET; i++) letters[i] = i;
    shuffle(c, letters, ALPHABET);
    for (int i = 0; i < 3; i++) q.x[i] = letters[i];
    while (family == SUMS) {
        q.x[0] = 1 + draw(c, 8);
        q.x[1] = 1 + draw(c, 8);
        if (q.x[0] != q.x[1] && q.x[0] + q.x[1] < 10) break;
    }
    return q;
}

static int letter_of(int x, int part)
{
    static const int moves[] = {1, ALPHABET - 1, 2, ALPHABET - 2};
    return part < 4 ? (x + moves[part]) % ALPHABET : x ^ (part - 3);
}

static int place_of(const int *x, int part)
{
    int low = x[0], high = x[0];
    if (part < 3) return x[part];
    for (int i = 1; i < 3; i++) {
        if (x[i] < low) low = x[i];
        if (x[i] > high) high = x[i];
    }
    return part == 3 ? low : part == 5 ? high : x[0] + x[1] + x[2] - low - high;
}

static int sum_of(int a, int b, int part)
{
    int low = a < b ? a : b, high = a < b ? b : a;
    return part == 0 ? a + b : part == 1 ? high - low : part == 2 ? a : part == 3 ? b
           : part == 4 ? high : low;
}

// The answer as one number, so that two of them can be compared.
static int solve(const question *q, int family, int rule, char *text)
{
    int out[2], part[2] = {rule / PARTS, rule % PARTS};
    for (int i = 0; i < 2; i++) {
        out[i] = family == LETTERS ? letter_of(q->x[i], part[i])
                 : family == LISTS ? place_of(q->x, part[i]) : sum_of(q->x[0], q->x[1], part[i]);
        text[i] = (char)((family == SUMS ? '0' : 'a') + out[i]);
    }
    text[2] = 0;
    return out[0] * 10 + out[1];
}

static const char *query(const question *q, int family, char *text)
{
    const int *x = q->x;
    if (family == SUMS) sprintf(text, "%d#%d=", x[0], x[1]);
    else if (family == LETTERS) sprintf(text, "%c%c#", 'a' + x[0], 'a' + x[1]);
    else sprintf(text, "%c%c%c#", 'a' + x[0], 'a' + x[1], 'a' + x[2]);
    return text;
}

static void write_training(FILE *f, const rules *held, uint64_t seed)
{
    char asked[16], answer[16];
    long bytes = 0;
    for (uint64_t episode = 0; bytes < TRAIN_BYTES; episode++) {
        chance c = {seed, 2, episode << 20};
        int family = draw(&c, FAMILIES), rule;
        do rule = draw(&c, RULES); while (held->is_held[family][rule]);
        fprintf(f, "{\"text\":\"");
        for (int i = 0; i < EXAMPLES; i++) {
            question q = ask(&c, family);
            solve(&q, family, rule, answer);
            bytes += fprintf(f, "%s%s\\n\\n", query(&q, family, asked), answer) - 2;
        }
        fprintf(f, "\"}\n");
    }
}

// A question and four different answers to it, of held-out rules; the first is the rule's own.
static question choose(chance *c, const rules *held, int family, int rule, char (*options)[16])
{
    for (;;) {
        question q = ask(c, family);
        int order[HELD], value[OPTIONS], n = 1;
        memcpy(order, held->held[family], sizeof order);
        shuffle(c, order, HELD);
        value[0] = solve(&q, family, rule, options[0]);
        for (int i = 0; i < HELD && n < OPTIONS; i++) {
            int same = 0;
            value[n] = solve(&q, family, order[i], options[n]);
            for (int k = 0; k < n; k++) same |= value[k] == value[n];
            n += !same;
        }
        if (n == OPTIONS) return q;
    }
}

static void write_task(FILE *f, const rules *held, int family, int rule, uint64_t seed,
                       uint64_t stream)
{
    char options[OPTIONS][16], asked[16];
    for (int row = 0; row < ROWS; row++) {
        chance c = {seed, stream, (uint64_t)row << 20};
        question q = choose(&c, held, family, rule, options);
        int order[OPTIONS] = {0, 1, 2, 3}, gold = 0;
        shuffle(&c, order, OPTIONS);
        fprintf(f, "{\"query\":\"%s\",\"choices\":[", query(&q, family, asked));
        for (int i = 0; i < OPTIONS; i++) {
            if (order[i] == 0) gold = i;
            fprintf(f, "%s\"%s\"", i ? "," : "", options[order[i]]);
        }
        fprintf(f, "],\"gold\":%d}\n", gold);
    }
}

// Of the rules that agree with the examples each votes for its answer; equal votes share the point.
static double ideal_row(chance *c, const rules *held, int family, int rule, int shots)
{
    char options[OPTIONS][16], answer[16];
    int open[RULES], votes[OPTIONS] = {0}, most = 0, level = 0;
    for (int r = 0; r < RULES; r++) open[r] = 1;
    for (int i = 0; i < shots; i++) {
        question q = choose(c, held, family, rule, options);
        int made = solve(&q, family, rule, answer);
        for (int r = 0; r < RULES; r++) open[r] &= solve(&q, family, r, answer) == made;
    }
    question q = choose(c, held, family, rule, options);
    for (int r = 0; r < RULES; r++)
        for (int i = 0; i < OPTIONS; i++) {
            solve(&q, family, r, answer);
            votes[i] += open[r] && !strcmp(answer, options[i]);
        }
    for (int i = 0; i < OPTIONS; i++) if (votes[i] > most) most = votes[i];
    for (int i = 0; i < OPTIONS; i++) level += votes[i] == most;
    return votes[0] == most ? 1.0 / level : 0;
}

static void write_ideal(FILE *f, const rules *held, uint64_t seed)
{
    for (int family = 0; family < FAMILIES; family++)
        for (int shots = 0; shots <= MOST_SHOTS; shots++) {
            chance c = {seed, 3, ((uint64_t)family << 50) + ((uint64_t)shots << 40)};
            double right = 0;
            for (int i = 0; i < HELD * ROWS * DRAWS; i++)
                right += ideal_row(&c, held, family, held->held[family][i % HELD], shots);
            fprintf(f, "%s %d %.2f\n", names[family], shots, 100 * right / (HELD * ROWS * DRAWS));
        }
}

static FILE *begin(const char *folder, const char *name, const char *ending)
{
    char path[4000];
    snprintf(path, sizeof path, "%s/%s%s", folder, name, ending);
    FILE *f = fopen(path, "wb");
    if (!f) {
        perror(path);
        exit(1);
    }
    return f;
}

static void end(FILE *f)
{
    if (fclose(f) == 0) return;
    perror("in_context");
    exit(1);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "in_context FOLDER [SEED]\n");
        return 2;
    }
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    rules held = draw_rules(seed);
    FILE *f = begin(argv[1], "train", ".jsonl");
    write_training(f, &held, seed);
    end(f);
    f = begin(argv[1], "ideal", ".txt");
    write_ideal(f, &held, seed);
    end(f);
    FILE *suite = begin(argv[1], "suite", ".jsonl");
    for (int t = 0; t < FAMILIES * HELD; t++) {
        int family = t / HELD, rule = held.held[family][t % HELD];
        char name[64];
        snprintf(name, sizeof name, "%s_%d_%d", names[family], rule / PARTS, rule % PARTS);
        f = begin(argv[1], name, ".jsonl");
        write_task(f, &held, family, rule, seed, (uint64_t)(10 + 2 * t));
        end(f);
        f = begin(argv[1], name, "_shots.jsonl");
        write_task(f, &held, family, rule, seed, (uint64_t)(11 + 2 * t));
        end(f);
        fprintf(suite, "{\"task\":\"%s\",\"kind\":\"NLU\",\"file\":\"%s.jsonl\",\"shots_from\":"
                "\"%s_shots.jsonl\",\"shots\":%d,\"delimiter\":\"\"}\n", name, name, name, MOST_SHOTS);
    }
    end(suite);
    return 0;
}
