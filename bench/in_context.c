/* in_context.c - texts that can only be understood from examples, for bench/in_context.sh.

   Build:  cc -O2 bench/in_context.c -o in_context -lm
   Run:    ./in_context FOLDER [SEED]

   writes into FOLDER: train.txt (4 MB), suite.jsonl, and for each of its tasks
   NAME.jsonl (100 rows to be tested) and NAME_shots.jsonl (100 solved rows of the same rule).
   The same seed gives the same bytes.

   train.txt is a row of episodes.  Each has a rule of its own and twelve examples of it;
   nothing says which rule it is.  There are three families:

       letters   bad>efg      a code for the six letters; training draws any of the 720 codes but the
                              shifts, which are tested
       places    bad~dab      an order for three places; training draws any of six but the reversal,
                              which is tested
       sums      3#2=5        a sign that means +, |a-b|, the first or the second: six signs times
                              four meanings, four of these pairs are tested, the others trained

   So no tested rule is ever trained.  The options of a tested row are what four rules of its family
   make of it: without an example all are as likely, chance is a quarter. */

#define GLAM_IMPLEMENTATION
#include "../glam.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LETTERS, PLACES, SUMS, FAMILIES };
enum { ALPHABET = 6, WORD = 3, ORDERS = 6, SIGNS = 6, MEANINGS = 4, EXAMPLES = 12, ROWS = 100,
       TRAIN_BYTES = 4000000 };

typedef struct rule { int family, code[ALPHABET], sign, meaning; } rule;
typedef struct example { char query[16], answer[16]; } example;
typedef struct task { const char *name; int family, number, sign; } task;

// number: the shift; the order as an index of lexical order; the meaning.
static const task tasks[] = {
    {"shift_1", LETTERS, 1, 0}, {"shift_2", LETTERS, 2, 0}, {"shift_3", LETTERS, 3, 0},
    {"shift_4", LETTERS, 4, 0}, {"reverse", PLACES, 5, 0},  {"sum", SUMS, 0, 0},
    {"difference", SUMS, 1, 1}, {"first", SUMS, 2, 2},      {"second", SUMS, 3, 3}
};
enum { TASKS = sizeof tasks / sizeof tasks[0] };
static const char signs[] = "#%&$@^";

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

// The order of this number among all six, in lexical order.
static void order_of(int number, int *out)
{
    int left[WORD] = {0, 1, 2}, block = ORDERS;
    for (int i = 0; i < WORD; i++) {
        block /= WORD - i;
        int at = number / block;
        number %= block;
        out[i] = left[at];
        for (; at + 1 < WORD; at++) left[at] = left[at + 1];
    }
}

static rule rule_of(int family, int number, int sign)
{
    rule r;
    memset(&r, 0, sizeof r);
    r.family = family;
    r.sign = sign;
    r.meaning = number;
    if (family == PLACES) order_of(number, r.code);
    for (int i = 0; i < ALPHABET && family == LETTERS; i++) r.code[i] = (i + number) % ALPHABET;
    return r;
}

static int is_shift(const rule *r)
{
    for (int i = 1; i < ALPHABET; i++)
        if ((r->code[i] - r->code[0] - i) % ALPHABET) return 0;
    return 1;
}

static int is_tested(int family, int number, int sign)
{
    for (int t = 0; t < TASKS; t++)
        if (tasks[t].family == family && tasks[t].number == number &&
            (family != SUMS || tasks[t].sign == sign)) return 1;
    return 0;
}

static rule trained_rule(chance *c)
{
    int family = draw(c, FAMILIES), number = 0, sign = 0;
    rule r = rule_of(LETTERS, 0, 0);
    while (family == LETTERS && is_shift(&r)) shuffle(c, r.code, ALPHABET);
    if (family == LETTERS) return r;
    do {
        number = draw(c, family == PLACES ? ORDERS : MEANINGS);
        sign = draw(c, SIGNS);
    } while (is_tested(family, number, sign));
    return rule_of(family, number, sign);
}

static int meaning_of(int meaning, int a, int b)
{ return meaning == 0 ? a + b : meaning == 1 ? abs(a - b) : meaning == 2 ? a : b; }

// Answers of a row: of its rule first, then of the others, so that all can be told apart.
typedef struct question { int letters[ALPHABET], a, b; } question;

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
    int n = 0;
    memset(&e, 0, sizeof e);
    if (r->family == SUMS) {
        snprintf(e.query, sizeof e.query, "%d%c%d=", q->a, signs[r->sign], q->b);
        snprintf(e.answer, sizeof e.answer, "%d", meaning_of(r->meaning, q->a, q->b));
        return e;
    }
    for (; n < WORD; n++) {
        int from = r->family == PLACES ? q->letters[r->code[n]] : r->code[q->letters[n]];
        e.query[n] = (char)('a' + q->letters[n]);
        e.answer[n] = (char)('a' + from);
    }
    strcpy(e.query + WORD, r->family == PLACES ? "~" : ">");
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

// Three other rules of the family.
static rule other_rule(chance *c, const task *t, int *used)
{
    int all = t->family == LETTERS ? ALPHABET : t->family == PLACES ? ORDERS : MEANINGS, number;
    do number = draw(c, all);
    while (used[number] || (t->family == LETTERS && number == 0));
    used[number] = 1;
    return rule_of(t->family, number, t->sign);
}

static void write_task(FILE *f, const task *t, uint64_t seed, uint64_t stream)
{
    for (int row = 0; row < ROWS; row++) {
        chance c = {seed, stream, (uint64_t)row << 20};
        question q = ask(&c);
        int used[ORDERS] = {0}, place[4] = {0, 1, 2, 3}, gold = 0;
        example e[4];
        rule r = rule_of(t->family, t->number, t->sign);
        used[t->number] = 1;
        for (int i = 0; i < 4; i++) {
            e[i] = solve(&q, &r);
            r = i < 3 ? other_rule(&c, t, used) : r;
        }
        shuffle(&c, place, 4);
        fprintf(f, "{\"query\":\"%s\",\"choices\":[", e[0].query);
        for (int i = 0; i < 4; i++) {
            fprintf(f, "%s\"%s\"", i ? "," : "", e[place[i]].answer);
            if (place[i] == 0) gold = i;
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
    for (int t = 0; t < TASKS; t++) {
        const char *name = tasks[t].name;
        f = begin(argv[1], name, ".jsonl");
        write_task(f, &tasks[t], seed, (uint64_t)(10 + 2 * t));
        end(f);
        f = begin(argv[1], name, "_shots.jsonl");
        write_task(f, &tasks[t], seed, (uint64_t)(11 + 2 * t));
        end(f);
        fprintf(suite, "{\"task\":\"%s\",\"kind\":\"NLU\",\"metric\":\"accuracy\",\"normalise\":"
                "\"tokens\",\"file\":\"%s.jsonl\",\"shots_from\":\"%s_shots.jsonl\",\"shots\":8,\"delimiter\":\"\"}\n",
                name, name, name);
    }
    end(suite);
    return 0;
}
