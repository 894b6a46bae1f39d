/* The runner.  A test is a function; RUN(name) runs it when a word of the command line is a
   prefix of its name (no words: always).  A test passes when it made at least one check and none
   failed.  CHECK and CHECK_NEAR print the place of a failure and return whether the check held, so
   that "if (!CHECK(model)) return;" stops a test that has nothing left to look at. */
#ifndef GLAM_TEST_H
#define GLAM_TEST_H

#include <math.h>
#include <stdio.h>
#include <string.h>

static struct test__state {
    const char *name;              // of the test that runs now
    char      **words;             // filters
    int         word_count;
    int         checks, bad;       // of this test
    int         passed, failed;    // tests so far
} test__now;

// A test that fails a thousand times has said enough after twenty.
enum { TEST__LINES = 20 };

static int test__check(int ok, const char *file, int line, const char *text)
{
    test__now.checks++;
    if (ok) return 1;
    if (test__now.bad++ < TEST__LINES) printf("%s:%d: %s\n", file, line, text);
    return 0;
}

// Written so that a NaN on either side fails.
static int test__near(double a, double b, double most, const char *file, int line, const char *text)
{
    double off = a > b ? a - b : b - a;
    int ok = off <= most;
    if (!ok && test__now.bad < TEST__LINES) {
        printf("%s:%d: %.9g is not %.9g (off by %.3g, allowed %.3g)\n", file, line, a, b, off, most);
    }
    return test__check(ok, file, line, text);
}

static int test__wanted(const char *name)
{
    for (int i = 0; i < test__now.word_count; i++) {
        if (!strncmp(name, test__now.words[i], strlen(test__now.words[i]))) return 1;
    }
    return test__now.word_count == 0;
}

static void test__begin(const char *name)
{
    test__now.name = name;
    test__now.checks = test__now.bad = 0;
}

static void test__end(void)
{
    int ok = test__now.bad == 0 && test__now.checks > 0;
    if (ok) test__now.passed++; else test__now.failed++;
    if (!ok) printf("FAILED %s: %d of %d checks\n", test__now.name, test__now.bad, test__now.checks);
    fflush(stdout);
}

static void test__run(void (*test)(void), const char *name)
{
    if (!test__wanted(name)) return;
    test__begin(name);
    test();
    test__end();
}

static void test__open(int argc, char **argv)
{
    test__now.words = argv + 1;
    test__now.word_count = argc - 1;
}

// A filter that selects nothing is a mistake in the filter, not a success.
static int test__close(void)
{
    printf("%d passed, %d failed\n", test__now.passed, test__now.failed);
    return test__now.failed != 0 || test__now.passed == 0;
}

#define CHECK(c) test__check((c) ? 1 : 0, __FILE__, __LINE__, #c)
#define CHECK_NEAR(a, b, most) \
    test__near((double)(a), (double)(b), (double)(most), __FILE__, __LINE__, #a " near " #b)
#define RUN(test) test__run(test, #test)

#endif
