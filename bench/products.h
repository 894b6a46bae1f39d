/* products.h - rows of products and of attention's inner loops: ours through the library's own
   entries (rooms 11 and 12), the peers' through peers.h.  Used by bench.c.

   Peers get no handicap: a product is one call of theirs; in attention they are given the heads
   side by side, one per thread, and no softmax at all, but compute the full square, as they must.
   FLOPs are those of the causal half for everybody. */

#ifndef PRODUCTS_H
#define PRODUCTS_H

enum { NN, NT, TN };

// C [m,n] = A B.  NN: A [m,k], B [k,n].  NT: B [n,k].  TN: A [k,m].
typedef struct product {
    glam_ctx *ctx;
    int kind, m, n, k;
    const float *a, *b;
    float *c;
    glam_tensor *w;                // B; packed: its panels are kept
    const peer *with;              // NULL: ours
} product;

static void product_ours(void *state)
{
    const product *p = (const product *)state;
    if (p->kind != TN) {                   // what glam_matmul and glam_matmul_t do
        size_t used = p->ctx->scratch.used;
        glam_tensor *w = p->w;
        glam__linear l = glam__linear_of(p->ctx, &w, 1, p->kind == NT, p->m);
        glam__linear_run(&l, 0, p->a, p->c, 0);
        p->ctx->scratch.used = used;
        return;
    }
    glam__outer o;
    glam__span all = { 0, p->k, 0 };
    memset(&o, 0, sizeof o);
    o.m = p->m; o.n = p->n;
    o.a = p->a; o.lda = (size_t)p->m;
    o.b = p->b; o.ldb = (size_t)p->n;
    o.c = p->c; o.ldc = (size_t)p->n;
    o.spans = &all;
    o.span_count = 1;
    glam__outer_run(p->ctx, &o, 1);
}

static void product_peer(void *state)
{
    const product *p = (const product *)state;
    peer_gemm(p->with, p->kind == TN, p->kind == NT, p->m, p->n, p->k, p->a,
              p->kind == TN ? p->m : p->k, p->b, p->kind == NT ? p->k : p->n, p->c, p->n);
}

// Everybody must compute the same thing.
static void product_agree(const product *ours, product *theirs)
{
    float *c = ours->c, far = 0;
    size_t count = (size_t)ours->m * ours->n;
    float *first = (float *)malloc(count * sizeof *first);
    if (!first) die("out of memory");
    product_ours((void *)(uintptr_t)ours);
    memcpy(first, c, count * sizeof *c);
    product_peer(theirs);
    for (size_t i = 0; i < count; i++)
        if (fabsf(c[i] - first[i]) > far) far = fabsf(c[i] - first[i]);
    free(first);
    // two operands of up to 1, each rounded to 8 bits
    float wide = ours->ctx->simd.products == ours->ctx->simd.kernels ? 1e-3f : 8e-3f;
    if (far > wide * sqrtf((float)ours->k))
        fprintf(stderr, "bench: %s disagrees by %g\n", theirs->with->name, (double)far);
}

// p: kind, m, n, k, packed
static void open_product(bench *b, const int *v)
{
    static const char *const kinds[] = { "NN", "NT", "TN" };
    product p, *ours = (product *)keep(b, sizeof p);
    memset(&p, 0, sizeof p);
    p.kind = v[0]; p.m = v[1]; p.n = v[2]; p.k = v[3];
    p.ctx = open_context(b, b->threads);
    p.ctx->options.pack_bytes = v[4] ? (size_t)1 << 30 : 0;
    p.a = noise(b, (size_t)p.m * p.k);
    p.b = noise(b, (size_t)p.k * p.n + 64);
    p.c = (float *)keep(b, (size_t)p.m * p.n * sizeof(float));
    snprintf(b->shape, sizeof b->shape, "%s %d x %d x %d%s", kinds[p.kind], p.m, p.n, p.k,
             v[4] ? ", packed" : "");
    p.w = glam_param(p.ctx, "w", p.kind == NT ? glam_dim2(p.n, p.k) : glam_dim2(p.k, p.n));
    memcpy(p.w->data, p.b, glam_size(p.w) * sizeof(float));
    glam__reserve_scratch(p.ctx, glam__product_bytes(p.ctx, p.k) + glam__outer_bytes(p.ctx) +
                                 glam__want_panels(p.ctx, 0, p.w, p.kind == NT, p.m));
    *ours = p;
    enter(b, "glam", product_ours, ours);
    peers_open(b->threads);
    for (int i = 0; i < PEERS; i++) {
        if (!peer_here(&peers[i])) continue;
        product *theirs = (product *)keep(b, sizeof p);
        *theirs = p;
        theirs->with = &peers[i];
        product_agree(ours, theirs);
        enter(b, peers[i].name, product_peer, theirs);
    }
    for (int i = 0; i < b->count; i++) b->list[i].flops = 2.0 * p.m * p.n * p.k;
}

// ---- glam_matmul, forward and backward: three products, the weight packed anew in each step

// An op that hands a fixed gradient to x: the end of every chain that is timed.
static glam_status probe_shape(glam_ctx *ctx, glam_node *n)
{
    (void)ctx;
    n->out_shape[0] = glam_dim1(1);
    return GLAM_OK;
}

static void probe_forward(glam_ctx *ctx, glam_node *n)
{
    (void)ctx;
    n->out[0]->data[0] = 0;
}

static void probe_backward(glam_ctx *ctx, glam_node *n)
{
    const float *gradient = *(const float *const *)n->config;
    if (n->in[0]->grad) ctx->simd.kernels->add((int)glam_size(n->in[0]), gradient, n->in[0]->grad);
}

static const glam_op probe_op = { "probe", 1, 0, probe_shape, probe_forward, probe_backward };

static glam_tensor *probe(glam_ctx *ctx, glam_tensor *x, const float *gradient)
{ return glam_apply(ctx, &probe_op, &x, &gradient, sizeof gradient, NULL); }

typedef struct matmul {
    glam_ctx *ctx;
    glam_tensor *x, *w;
    const float *dy;
    product nn, nt, tn;            // the peers' three
} matmul;

static void matmul_ours(void *state)
{
    matmul *s = (matmul *)state;
    glam_backward(s->ctx, probe(s->ctx, glam_matmul(s->ctx, s->x, s->w), s->dy));
    glam_forget(s->ctx);
    if (glam_error(s->ctx)) die(glam_error_text(s->ctx));
}

static void matmul_peer(void *state)
{
    matmul *s = (matmul *)state;
    product_peer(&s->nn);
    product_peer(&s->nt);
    product_peer(&s->tn);
}

// p: m, n, k
static void open_matmul(bench *b, const int *v)
{
    int m = v[0], n = v[1], k = v[2];
    matmul s, *ours = (matmul *)keep(b, sizeof s);
    memset(&s, 0, sizeof s);
    s.ctx = open_context(b, b->threads);
    float *x = noise(b, (size_t)m * k), *w = noise(b, (size_t)k * n), *dy = noise(b, (size_t)m * n);
    s.dy = dy;
    s.x = glam_param(s.ctx, "x", glam_dim2(m, k));
    s.w = glam_param(s.ctx, "w", glam_dim2(k, n));
    if (!s.w) die(glam_error_text(s.ctx));
    memcpy(s.x->data, x, (size_t)m * k * sizeof *x);
    memcpy(s.w->data, w, (size_t)k * n * sizeof *w);
    *ours = s;
    snprintf(b->shape, sizeof b->shape, "%d x %d x %d, forward + backward", m, n, k);
    enter(b, "glam", matmul_ours, ours);
    s.nn.kind = NN; s.nn.m = m; s.nn.n = n; s.nn.k = k; s.nn.a = x; s.nn.b = w;
    s.nt.kind = NT; s.nt.m = m; s.nt.n = k; s.nt.k = n; s.nt.a = dy; s.nt.b = w;
    s.tn.kind = TN; s.tn.m = k; s.tn.n = n; s.tn.k = m; s.tn.a = x; s.tn.b = dy;
    s.nn.c = (float *)keep(b, (size_t)m * n * sizeof(float));
    s.nt.c = (float *)keep(b, (size_t)m * k * sizeof(float));
    s.tn.c = (float *)keep(b, (size_t)k * n * sizeof(float));
    peers_open(b->threads);
    for (int i = 0; i < PEERS; i++) {
        if (!peer_here(&peers[i])) continue;
        matmul *theirs = (matmul *)keep(b, sizeof s);
        *theirs = s;
        theirs->nn.with = theirs->nt.with = theirs->tn.with = &peers[i];
        enter(b, peers[i].name, matmul_peer, theirs);
    }
    for (int i = 0; i < b->count; i++) b->list[i].flops = 6.0 * m * n * k;
}

// ---- attention's inner loops: between the projections

typedef struct inner {
    glam__heads h;
    glam__attention at;
    glam_node node;
    glam_tensor x;
    int back;
    const peer *with;
    float *square[2];              // peers: S x S for each row and head
} inner;

static void inner_ours(void *state)
{
    inner *s = (inner *)state;
    glam__parallel(s->h.ctx, s->h.B * s->h.heads, 1e9,
                   s->back ? glam__attend_back_body : glam__attend_body, &s->h);
}

// Forward: S = Q K^T, O = S V.  Backward: dP = dO V^T, dV = P^T dO, dQ = dS K, dK = dS^T Q.
static void inner_peer_head(const inner *s, int t)
{
    const glam__heads *h = &s->h;
    int S = h->S, D = h->D, A = h->A, b = t / h->heads;
    size_t at = (size_t)b * S, col = (size_t)(t % h->heads) * D, sq = (size_t)t * S * S;
    int ld = (int)h->ld;
    const float *q = h->q + at * h->ld + col, *k = h->k + at * h->ld + col, *v = h->v + at * h->ld + col;
    float *p = s->square[0] + sq, *ds = s->square[1] + sq, *o = h->o + at * A + col;
    if (!s->back) {
        peer_gemm(s->with, 0, 1, S, S, D, q, ld, k, ld, p, S);
        peer_gemm(s->with, 0, 0, S, D, S, p, S, v, ld, o, A);
        return;
    }
    const float *dout = h->dout + at * A + col;
    peer_gemm(s->with, 0, 1, S, S, D, dout, A, v, ld, ds, S);
    peer_gemm(s->with, 1, 0, S, D, S, p, S, dout, A, h->dv + at * h->ld + col, ld);
    peer_gemm(s->with, 0, 0, S, D, S, ds, S, k, ld, h->dq + at * h->ld + col, ld);
    peer_gemm(s->with, 1, 0, S, D, S, ds, S, q, ld, h->dk + at * h->ld + col, ld);
}

// dq, dk and dv side by side, as q, k and v are.
static void inner_grads(bench *b, glam__heads *h)
{
    h->dq = (float *)keep(b, (size_t)h->T * h->ld * sizeof(float));
    h->dk = h->dq + h->A;
    h->dv = h->dk + h->A;
}

static void inner_peer(void *state)
{
    const inner *s = (const inner *)state;
    int t, tasks = s->h.B * s->h.heads;
#ifdef _OPENMP
    #pragma omp parallel for schedule(dynamic) num_threads(s->h.ctx->options.threads)
#endif
    for (t = 0; t < tasks; t++) inner_peer_head(s, t);
}

// p: B, S, heads, D, back
static void open_inner(bench *b, const int *v)
{
    int B = v[0], S = v[1], heads = v[2], D = v[3], A = heads * D, threads = b->threads;
    size_t T = (size_t)B * S;
    inner *s = (inner *)keep(b, sizeof *s);
    glam_ctx *ctx = open_context(b, threads);
    s->back = v[4];
    s->at.c.heads = heads;
    s->at.c.d_head = D;
    s->at.c.position = GLAM_POSITION_NONE;
    s->at.c.scale = 1 / sqrtf((float)D);
    s->at.scale = 1;
    s->x.shape = glam_dim3(B, S, A);
    s->node.in[0] = &s->x;
    s->node.config = &s->at;
    s->h = glam__heads_of(ctx, &s->node, 1);
    s->node.saved = noise(b, glam__lay_count(glam__attention_saved, &s->h) / sizeof(float));
    glam__lay_over(glam__attention_saved, &s->h, s->node.saved);
    s->h.work_floats = glam__slice_floats(&s->h, 1);
    s->h.work = (float *)keep(b, s->h.work_floats * threads * sizeof(float));
    s->h.dout = noise(b, T * A);
    inner_grads(b, &s->h);
    s->h.dbias = (float *)keep(b, (size_t)B * heads * S * sizeof(float));
    snprintf(b->shape, sizeof b->shape, "%d x %d heads, S %d, d %d, %s", B, heads, S, D,
             s->back ? "backward" : "forward");
    s->back = 0;
    inner_ours(s);                                 // logsumexp and o, for backward
    s->back = v[4];
    enter(b, "glam", inner_ours, s);
    peers_open(threads);
    float *square = (float *)keep(b, 2 * T * S * heads * sizeof(float));
    for (int i = 0; i < PEERS; i++) {
        if (!peer_here(&peers[i])) continue;
        inner *theirs = (inner *)keep(b, sizeof *s);
        *theirs = *s;
        theirs->h.o = (float *)keep(b, T * A * sizeof(float));
        inner_grads(b, &theirs->h);
        theirs->with = &peers[i];
        theirs->square[0] = square;
        theirs->square[1] = square + T * S * heads;
        enter(b, peers[i].name, inner_peer, theirs);
    }
    for (int i = 0; i < b->count; i++)
        b->list[i].flops = (s->back ? 4.0 : 2.0) * (double)T * (S + 1) * A;
}

#endif
