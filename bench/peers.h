/* peers.h - products by the BLAS libraries that happen to be installed: OpenBLAS, BLIS and oneDNN
   (Debian: libopenblas0-openmp libblis4-openmp libdnnl2), loaded at run time, never linked.
   Used by bench.c.  All are row-major here.

   A weak opponent is worth nothing: on virtual machines the model of an Intel processor is often
   hidden, and then OpenBLAS falls back to SSE and BLIS to AVX2.  Unless the environment already
   says otherwise they are told which kernels this machine deserves. */

#ifndef PEERS_H
#define PEERS_H

#include <dlfcn.h>

typedef void peer_cblas(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a,
                        int lda, const float *b, int ldb, float beta, float *c, int ldc);
typedef int peer_dnnl(char ta, char tb, int64_t m, int64_t n, int64_t k, float alpha,
                      const float *a, int64_t lda, const float *b, int64_t ldb, float beta,
                      float *c, int64_t ldc);

typedef struct peer {
    const char *name, *file, *symbol;
    peer_cblas *cblas;
    peer_dnnl  *dnnl;
} peer;

static peer peers[] = {
    { "openblas", "libopenblas.so.0", "cblas_sgemm", NULL, NULL },
    { "blis",     "libblis.so.4",     "cblas_sgemm", NULL, NULL },
    { "onednn",   "libdnnl.so.2",     "dnnl_sgemm",  NULL, NULL },
    { "onednn3",  "libdnnl.so.3",     "dnnl_sgemm",  NULL, NULL },
};
enum { PEERS = (int)(sizeof peers / sizeof peers[0]) };

static void peers_name_the_core(void)
{
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_cpu_init();
    if (!__builtin_cpu_is("intel")) return;
    if (__builtin_cpu_supports("avx512bw")) {
        setenv("OPENBLAS_CORETYPE", "SKYLAKEX", 0);
        setenv("BLIS_ARCH_TYPE", "0", 0);          // skx, in BLIS 0.9
    } else if (__builtin_cpu_supports("avx2")) {
        setenv("OPENBLAS_CORETYPE", "HASWELL", 0);
    }
#endif
}

// Loads what is there.  The number of threads has to be in the environment before.
static void peers_open(int threads)
{
    static const char *const names[] = { "OMP_NUM_THREADS", "BLIS_NUM_THREADS",
                                         "OPENBLAS_NUM_THREADS" };
    static int done;
    char text[16];
    int flags = RTLD_NOW | RTLD_LOCAL;
#ifdef RTLD_DEEPBIND
    flags |= RTLD_DEEPBIND;
#endif
    if (done++) return;
    peers_name_the_core();
    snprintf(text, sizeof text, "%d", threads);
    for (int i = 0; i < 3; i++) setenv(names[i], text, 1);
#ifdef _OPENMP
    omp_set_num_threads(threads);
#endif
    for (int i = 0; i < PEERS; i++) {
        void *library = dlopen(peers[i].file, flags);
        void *symbol = library ? dlsym(library, peers[i].symbol) : NULL;
        if (!symbol) continue;
        if (peers[i].symbol[0] == 'c') memcpy(&peers[i].cblas, &symbol, sizeof symbol);
        else memcpy(&peers[i].dnnl, &symbol, sizeof symbol);
    }
}

static int peer_here(const peer *p) { return p->cblas || p->dnnl; }

// C [m,n] = A B, with A [m,k] or, when ta, [k,m] transposed, and B likewise.
static void peer_gemm(const peer *p, int ta, int tb, int m, int n, int k, const float *a, int lda,
                      const float *b, int ldb, float *c, int ldc)
{
    if (p->cblas)
        p->cblas(101, ta ? 112 : 111, tb ? 112 : 111, m, n, k, 1, a, lda, b, ldb, 0, c, ldc);
    else p->dnnl(ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, 1, a, lda, b, ldb, 0, c, ldc);
}

#endif
