/* machine.h - what this machine can do: multiply-adds and bytes per second, for each instruction
   set that glam.h may choose.  Used by bench.c, after glam.h.

   One macro writes three loops with vectors of exactly one register:
     peak_ISA    12 independent chains s = s x + y, none of which ever touches memory.  Without
                 fused operations (base, sse2) that is one multiplication and one addition.
     read_ISA    the sum of an array: bytes read per second.
     triad_ISA   a = b + x c: two arrays read, one written (3 x 4 bytes an element).
     dot_ISA     a dot product in whatever order is fastest, for the cost of ordered sums. */

#ifndef MACHINE_H
#define MACHINE_H

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=fast", "no-tree-loop-distribute-patterns")
#endif

#ifndef GLAM__SIMD
#define GLAM__UNROLL
#endif

enum { MACHINE_CHAINS = 12, MACHINE_SUMS = 8 };    // latency 4, two units: 8 chains are enough

typedef struct machine {
    const char *name;
    void (*peak)(long n, float *out);
    void (*read)(size_t n, const float *a, float *out);
    void (*triad)(size_t n, float *a, const float *b, const float *c);
    float (*dot)(size_t n, const float *a, const float *b);
    int width;
} machine;

#define MACHINE(isa, attr, W) \
    typedef float machine_v_##isa __attribute__((vector_size(4 * W))); \
    attr static void peak_##isa(long n, float *out) \
    { \
        GLAM__FUSED \
        volatile float half = 0.5f; \
        float h = half; \
        machine_v_##isa s[MACHINE_CHAINS], x, zero = { 0 }; \
        x = zero + h; \
        GLAM__UNROLL for (int i = 0; i < MACHINE_CHAINS; i++) s[i] = zero + (float)i; \
        for (long r = 0; r < n; r++) { \
            GLAM__UNROLL for (int i = 0; i < MACHINE_CHAINS; i++) s[i] = s[i] * x + x; \
        } \
        GLAM__UNROLL for (int i = 1; i < MACHINE_CHAINS; i++) s[0] += s[i]; \
        *out = s[0][0]; \
    } \
    attr static void read_##isa(size_t n, const float *a, float *out) \
    { \
        const machine_v_##isa *v = (const machine_v_##isa *)(const void *)a; \
        machine_v_##isa s[MACHINE_SUMS], zero = { 0 }; \
        GLAM__UNROLL for (int i = 0; i < MACHINE_SUMS; i++) s[i] = zero; \
        for (size_t p = 0; p + MACHINE_SUMS <= n / W; p += MACHINE_SUMS) { \
            GLAM__UNROLL for (int i = 0; i < MACHINE_SUMS; i++) s[i] += v[p + (size_t)i]; \
        } \
        GLAM__UNROLL for (int i = 1; i < MACHINE_SUMS; i++) s[0] += s[i]; \
        *out = s[0][0]; \
    } \
    attr static void triad_##isa(size_t n, float *a, const float *b, const float *c) \
    { \
        const machine_v_##isa *vb = (const machine_v_##isa *)(const void *)b; \
        const machine_v_##isa *vc = (const machine_v_##isa *)(const void *)c; \
        machine_v_##isa *va = (machine_v_##isa *)(void *)a; \
        for (size_t p = 0; p < n / W; p++) va[p] = vb[p] + 0.5f * vc[p]; \
    } \
    attr static float dot_##isa(size_t n, const float *a, const float *b) \
    { \
        GLAM__FUSED \
        const machine_v_##isa *va = (const machine_v_##isa *)(const void *)a; \
        const machine_v_##isa *vb = (const machine_v_##isa *)(const void *)b; \
        machine_v_##isa s[MACHINE_SUMS], zero = { 0 }; \
        float sum = 0; \
        GLAM__UNROLL for (int i = 0; i < MACHINE_SUMS; i++) s[i] = zero; \
        for (size_t p = 0; p + MACHINE_SUMS <= n / W; p += MACHINE_SUMS) { \
            GLAM__UNROLL for (int i = 0; i < MACHINE_SUMS; i++) \
                s[i] += va[p + (size_t)i] * vb[p + (size_t)i]; \
        } \
        GLAM__UNROLL for (int i = 1; i < MACHINE_SUMS; i++) s[0] += s[i]; \
        for (int j = 0; j < W; j++) sum += s[0][j]; \
        return sum; \
    } \
    static const machine machine_##isa = \
        { #isa, peak_##isa, read_##isa, triad_##isa, dot_##isa, W };

MACHINE(base, , 4)
#if defined(GLAM__SIMD) && defined(__x86_64__)
MACHINE(sse2, , 4)
MACHINE(avx2, GLAM__AVX2, 8)
MACHINE(avx512, GLAM__AVX512, 16)
#ifdef GLAM__PAIRS_AVX512
// Multiply-adds of pairs of bf16, by the instruction that glam.h uses.
GLAM__AVX512 static void peak_avx512bf16(long n, float *out)
{
    volatile int halves = 0x3f003f00;              // 0.5, 0.5
    machine_v_avx512 s[MACHINE_CHAINS], zero = { 0 };
    typedef int32_t pairs __attribute__((vector_size(64)));
    const pairs none = { 0 }, x = none + halves;
    GLAM__UNROLL for (int i = 0; i < MACHINE_CHAINS; i++) s[i] = zero + (float)i;
    for (long r = 0; r < n; r++) {
        GLAM__UNROLL for (int i = 0; i < MACHINE_CHAINS; i++) GLAM__ADD_PAIRS(s[i], x, x);
    }
    GLAM__UNROLL for (int i = 1; i < MACHINE_CHAINS; i++) s[0] += s[i];
    *out = s[0][0];
}
static const machine machine_avx512bf16 =
    { "avx512bf16", peak_avx512bf16, read_avx512, triad_avx512, dot_avx512, 32 };
#endif
#ifdef GLAM__AMX
// Tiles of bf16, four of them in turn: 16 x 16 x 32 multiply-adds each.
static void peak_amx(long n, float *out)
{
    int32_t halves[16];                            // 0.5, 0.5
    float tile[256];
    for (int j = 0; j < 16; j++) halves[j] = 0x3f003f00;
    glam__amx_hold(1);
    GLAM__AMX_LOAD(4, halves, (size_t)0);          // one row, again and again
    GLAM__AMX_LOAD(5, halves, (size_t)0);
    GLAM__AMX_ZERO(0);
    GLAM__AMX_ZERO(1);
    GLAM__AMX_ZERO(2);
    GLAM__AMX_ZERO(3);
    for (long r = 0; r < n; r++) {
        GLAM__UNROLL for (int i = 0; i < MACHINE_CHAINS; i += 4) {
            GLAM__AMX_DOT(0, 4, 5);
            GLAM__AMX_DOT(1, 4, 5);
            GLAM__AMX_DOT(2, 4, 5);
            GLAM__AMX_DOT(3, 4, 5);
        }
    }
    GLAM__AMX_STORE(0, tile, (size_t)16);
    glam__amx_hold(0);
    *out = tile[0];
}
static const machine machine_amx =
    { "amx", peak_amx, read_avx512, triad_avx512, dot_avx512, 16 * 16 * 32 };
#endif
static const machine *const machines[] = { &machine_base, &machine_sse2, &machine_avx2,
                                           &machine_avx512,
#ifdef GLAM__PAIRS_AVX512
                                           &machine_avx512bf16,
#endif
#ifdef GLAM__AMX
                                           &machine_amx,
#endif
                                         };
#elif defined(GLAM__SIMD)
MACHINE(neon, , 4)
static const machine *const machines[] = { &machine_base, &machine_neon };
#else
static const machine *const machines[] = { &machine_base };
#endif
enum { MACHINES = (int)(sizeof machines / sizeof machines[0]) };

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif

#endif
