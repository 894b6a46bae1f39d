/* in_context.c - texts that can only be understood from examples, for bench/in_context.sh.

   Build:  cc -O2 bench/in_context.c -o in_context -lm
   Run:    ./in_context FOLDER [SEED]

   writes into FOLDER: train.txt (6 MB), suite.jsonl, and for each of its twelve tasks NAME.jsonl (100
   rows to be answered) and NAME_shots.jsonl (100 solved rows of the same rule).  The same seed gives
   the same bytes.

   train.txt is a row of episodes, eight examples each of one rule.  A rule is a sign and what it means
   in this episode, one of four things in three families:

       letters   bad#efg      each letter is moved on by 1, 2, 3 or 4 of eight
       places    bad#dab      backwards, first to the end, last to the front, or the first two swapped
       sums      3#2=5        the sum, the difference, the first or the second

   There are eight signs.  Two of them never stand for anything of a family in training (though they do
   in the other two), and these are tested there: so no tested rule was ever seen, the sign tells
   nothing, and only the examples do.  The options of a row are what the four meanings make of it:
   chance is a quarter. */

#define GLAM_IMPLEMENTATION
#include "../glam.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LETTERS, PLACES, SUMS, FAMILIES };
enum { ALPHABET = 8, WORD = 3, SIGNS = 8, MEANINGS = 4, EXAMPLES = 8, ROWS = 100,
       TRAIN_BYTES = 6000000 };

typedef struct rule { int family, sign, meaning; } rule;
typedef struct question { int letters[ALPHABET], a, b; } question;
typedef struct example { char query[16], answer[16]; } example;

static const char signs[] = "#%&$@^+*";
static const char *const names[FAMILIES][MEANINGS] = {
    {"shift_1", "shift_2", "shift_3", "shift_4"},
    {"reverse", "first_to_end", "last_to_front", "swap"},
    {"sum", "difference", "first", "second"}};
static const int orders[MEANINGS][WORD] = {{2, 1, 0}, {1, 2, 0}, {2, 0, 1}, {1, 0, 2}};

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

static int is_tested(const rule *r) { return r->sign / 2 == r->family; }

static rule trained_rule(chance *c)
{
    rule r;
    do {
        r.family = draw(c, FAMILIES);
        r.sign = draw(c, SIGNS);
        r.meaning = draw(c, MEANINGS);
    } while (is_tested(&r));
    return r;
}

// Three different letters; two numbers of which all four meanings differ.
static question ask(chance *c)
{
    question q;
    for (int i = 0; i < ALPHABET; i++) q.letters[i] = i;
    shuffle(c, q.letters, ALPHABET);
    do {
        q.a = 1 + draw(c, 5);
        q.b = 1 + draw(c, 4);
    } while (q.a == q.b || q.a == 2 * q.b || q.b == 2 * q.a);
    return q;
}

static example solve(const question *q, const rule *r)
{
    example e;
    char sign = signs[r->sign];
    memset(&e, 0, sizeof e);
    if (r->family == SUMS) {
        int made = r->meaning == 0 ? q->a + q->b : r->meaning == 1 ? abs(q->a - q->b)
                   : r->meaning == 2 ? q->a : q->b;
        snprintf(e.query, sizeof e.query, "%d%c%d=", q->a, sign, q->b);
        snprintf(e.answer, sizeof e.answer, "%d", made);
        return e;
    }
    for (int i = 0; i < WORD; i++) {
        int letter = r->family == PLACES ? q->letters[orders[r->meaning][i]]
                                         : (q->letters[i] + 1 + r->meaning) % ALPHABET;
        e.query[i] = (char)('a' + q->letters[i]);
        e.answer[i] = (char)('a' + letter);
    }
    e.query[WORD] = sign;
    return e;
}

static void write_training(FILE *f, uint64_t seed)
{
    long bytes = 0;
    for (uint64_t episode = 0; bytes < TRAIN_BYTES; episode++) {
        chance c = {seed, 1, episode << 20};
        rule r = trained_rule(&c);
        for (int i = 0; i < EXAMPLES; i++) {
            question q = ask(&c);
            example e = solve(&q, &r);
            bytes += fprintf(f, "%s%s\n\n", e.query, e.answer);
        }
        bytes += fprintf(f, "\n");
    }
}

static void write_task(FILE *f, rule r, uint64_t seed, uint64_t stream)
{
    for (int row = 0; row < ROWS; row++) {
        chance c = {seed, stream, (uint64_t)row << 20};
        question q = ask(&c);
        int means[MEANINGS] = {0, 1, 2, 3}, gold = 0;
        shuffle(&c, means, MEANINGS);
        fprintf(f, "{\"query\":\"%s\",\"choices\":[", solve(&q, &r).query);
        for (int i = 0; i < MEANINGS; i++) {
            rule other = r;
            other.meaning = means[i];
            if (means[i] == r.meaning) gold = i;
            fprintf(f, "%s\"%s\"", i ? "," : "", solve(&q, &other).answer);
        }
        fprintf(f, "],\"gold\":%d}\n", gold);
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
    FILE *f = begin(argv[1], "train", ".txt");
    write_training(f, seed);
    end(f);
    FILE *suite = begin(argv[1], "suite", ".jsonl");
    for (int t = 0; t < FAMILIES * MEANINGS; t++) {
        rule r = {t / MEANINGS, 2 * (t / MEANINGS) + t % 2, t % MEANINGS};
        const char *name = names[r.family][r.meaning];
        f = begin(argv[1], name, ".jsonl");
        write_task(f, r, seed, (uint64_t)(10 + 2 * t));
        end(f);
        f = begin(argv[1], name, "_shots.jsonl");
        write_task(f, r, seed, (uint64_t)(11 + 2 * t));
        end(f);
        fprintf(suite, "{\"task\":\"%s\",\"kind\":\"NLU\",\"file\":\"%s.jsonl\",\"shots_from\":"
                "\"%s_shots.jsonl\",\"shots\":7,\"delimiter\":\"\"}\n", name, name, name);
    }
    end(suite);
    return 0;
}
