/* Room 04: random numbers.  Kinds: property. */

static void random_is_uniform(void)
{
    enum { N = 100000, BINS = 20 };
    int bin[BINS] = { 0 }, outside = 0;
    double mean = 0, lag = 0, before = 0;
    for (uint64_t i = 0; i < N; i++) {
        double u = (double)glam_random(7, 3, i);
        if (!(u >= 0 && u < 1)) outside++; else bin[(int)(u * BINS)]++;
        mean += u / N;
        lag += (u - 0.5) * (before - 0.5) / N;
        before = u;
    }
    double chi = 0;
    for (int b = 0; b < BINS; b++) chi += pow(bin[b] - N / BINS, 2) / (N / BINS);
    CHECK(outside == 0);
    CHECK_NEAR(mean, 0.5, 5 * 0.2887 / sqrt((double)N));
    CHECK_NEAR(lag, 0, 5 * (1.0 / 12) / sqrt((double)N));
    CHECK(chi < 55);                       // 19 degrees of freedom: beyond five deviations
}

static void random_is_normal(void)
{
    enum { N = 200000 };
    double m[5] = { 0 };
    int beyond = 0, finite = 1;
    for (uint64_t i = 0; i < N; i++) {
        double x = (double)glam_normal(11, 5, i);
        if (!(fabs(x) < 7)) finite = 0;
        for (int k = 1; k < 5; k++) m[k] += pow(x, k) / N;
        beyond += fabs(x) > 1.959964;
    }
    CHECK(finite);
    CHECK_NEAR(m[1], 0, 5 / sqrt((double)N));
    CHECK_NEAR(m[2], 1, 5 * sqrt(2.0 / N));
    CHECK_NEAR(m[3], 0, 5 * sqrt(15.0 / N));
    CHECK_NEAR(m[4], 3, 5 * sqrt(96.0 / N));
    CHECK_NEAR(beyond, 0.05 * N, 5 * sqrt(0.05 * 0.95 * N));
}

// The same place gives the same number; another seed, stream or index another one.
static void random_is_a_function_of_place(void)
{
    int same = 0, moved = 0;
    double product = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        float u = glam_random(1, 2, i);
        same += u == glam_random(1, 2, i) && glam_normal(1, 2, i) == glam_normal(1, 2, i);
        moved += u != glam_random(2, 2, i) && u != glam_random(1, 3, i) && u != glam_random(1, 2, i + 1);
        product += ((double)u - 0.5) * ((double)glam_random(1, 3, i) - 0.5);
    }
    CHECK(same == 1000 && moved > 990);
    CHECK_NEAR(product / 1000, 0, 5 * (1.0 / 12) / sqrt(1000.0));
    CHECK(glam_random(2, 1, 0) != glam_random(1, 2, 0));       // seed and stream are not the same
    CHECK(glam_random(UINT64_MAX, UINT64_MAX, UINT64_MAX) < 1);
    // large seeds differ in their high bits too
    CHECK(glam_random((uint64_t)1 << 60, 0, 0) != glam_random(0, 0, 0));
}

static void test_04_random(void)
{
    RUN(random_is_uniform);
    RUN(random_is_normal);
    RUN(random_is_a_function_of_place);
}
