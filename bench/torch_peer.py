#!/usr/bin/env python3
"""torch_peer.py - the model of glam.h in PyTorch, as fast as PyTorch runs it on a CPU: the opponent to measure against.

Usage: torch_peer.py MODE CONFIG [options]     (--help lists them; CONFIG is not needed by layer)
  train   one optimizer step after the other on a synthetic stream: tokens_per_s, ms_per_step, peak_rss_mb
  gen     greedy decoding of one sequence with a key/value cache: tokens_per_s, prefill_ms of 16 tokens
  curve   validation loss on the last tenth of --data FILE (bytes) against seconds of training; --recipe nanogpt is
          nanoGPT's documented CPU run (its own model and settings; CONFIG is ignored)
  layer   a mixture of two-matrix ReLU experts against the dense layer with twice the hidden width, forward + backward
--serve: print "ready" after the warm-up; then each line of the standard input, "2.5" (seconds) or "20 steps", runs that
long and prints one line of JSON; "quit" ends. A driver can so alternate between two programs without paying their start.
--bf16: products and attention in bfloat16 under torch.autocast, weights, gradients and optimizer in float32 (decoding:
everything in bfloat16).
"""
import argparse, ctypes, inspect, json, math, os, resource, shutil, statistics, sys, time

CONFIGS = {  # L layers, M width, H hidden, N heads, S context, B batch, V vocabulary, E experts in every other layer (0: dense)
    "nano": (4, 128, 512, 4, 64, 12, 256, 0), "nano-moe": (4, 128, 512, 4, 64, 12, 256, 8),
    "small": (6, 384, 1536, 6, 256, 8, 256, 0), "small-moe8": (6, 384, 1536, 6, 256, 8, 256, 8),
    "small-moe32": (6, 384, 1536, 6, 256, 8, 256, 32),
    "base": (12, 768, 3072, 12, 256, 2, 32000, 0), "base-moe4": (12, 768, 3072, 12, 256, 2, 32000, 4),
    "large": (24, 1024, 4096, 16, 256, 1, 32000, 0),
}

def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("mode", choices=["train", "gen", "curve", "layer"])
    p.add_argument("config", nargs="?", default="nano", choices=list(CONFIGS))
    p.add_argument("--variant", default="best", choices=["eager", "compile", "best"], help="best: compile if g++ is there")
    for name, value in dict(threads=2, seconds=10.0, seed=1337, iters=2000, every=250, lr=1e-3, tokens=2048, width=384,
                            hidden=1536).items():
        p.add_argument("--" + name, type=type(value), default=value)
    p.add_argument("--experts", type=int, help="instead of the configuration's; 0: dense")
    p.add_argument("--batch", type=int, help="instead of the configuration's")
    p.add_argument("--data", help="curve: the text")
    p.add_argument("--recipe", choices=["nanogpt"])
    p.add_argument("--bf16", action="store_true", help="torch.autocast to bfloat16")
    p.add_argument("--json", action="store_true", help="a result is one line of JSON")
    p.add_argument("--serve", action="store_true")
    args = p.parse_args()
    if args.mode == "curve" and not args.data:
        p.error("curve needs --data FILE")
    if args.variant == "best":      # compiled code won every training and decoding run
        args.variant = "compile" if shutil.which("g++") else "eager"
    return args

args = arguments()
os.environ["OMP_NUM_THREADS"] = str(args.threads)
try:
    import torch
    import torch.nn.functional as F
    from torch import nn
except ImportError:
    sys.exit("torch_peer.py needs PyTorch: pip install torch==2.13.0")
torch.set_flush_denormal(True)      # before the first parallel region: its threads inherit the mode
torch.set_num_threads(args.threads)
torch.manual_seed(args.seed)

def autocast():
    return torch.autocast("cpu", torch.bfloat16, enabled=args.bf16)

def narrow(t):      # autocast does not look into operations of our own: their operands are cast before, once
    return t.bfloat16() if args.bf16 else t

class Config:
    def __init__(self, row):
        self.L, self.M, self.H, self.N, self.S, self.B, self.V, self.E = row
        self.E = self.E if args.experts is None else args.experts
        self.B = args.batch or self.B

# ---- two operations that torch.compile calls as they are: attention and the mixture ----

def operation(name, outputs, forward, shapes, backward=None, gradients=None, count=4):
    """A custom operation on tensors. backward(gradient of output 0, inputs, other outputs) makes the inputs' gradients."""
    def register(name, function, outputs, shapes):
        tensors = ", ".join(f"Tensor {n}" for n in inspect.signature(function).parameters)
        schema = f"({tensors}) -> ({', '.join(['Tensor'] * outputs)})"
        op = torch.library.custom_op("peer::" + name, function, mutates_args=(), schema=schema)
        op.register_fake(shapes)
        return op

    def gradient(ctx, dy, *unused):
        made = back(dy.contiguous(), *ctx.saved_tensors)
        made = iter((made,) if count == 1 else made)
        return tuple(next(made) if needed else None for needed in ctx.differentiable)

    def save(ctx, inputs, output):
        ctx.differentiable = [t.is_floating_point() for t in inputs]
        ctx.save_for_backward(*inputs, *(output[1:] if outputs > 1 else ()))
    op = register(name, forward, outputs, shapes)
    if backward:
        back = register(name + "_back", backward, count, gradients)
        op.register_autograd(gradient, setup_context=save)
    return op

def blocks(q, size=64):     # of queries: rows, the keys up to the last of them, and the probabilities' place in one buffer
    (n, S, _), first = q.shape, 0
    for i in range(0, S, size):
        end = min(i + size, S)
        shape = n, end - i, end + 1         # key 0 is the extra logit of the softmax
        yield slice(i, end), slice(0, end + 1), slice(first, first + math.prod(shape)), shape
        first += math.prod(shape)

def room(q):
    return q.new_empty(max(place.stop for _, _, place, _ in blocks(q)))

def attention(q, k, v, line):       # q [B*N, S, D]; k, v [B*N, 1+S, D]; line [N, 2S-1]: the bias of key - query + S-1
    y, p, N, bias = torch.empty_like(q), room(q), len(line), line.unfold(1, q.shape[1], 1).flip(1)
    for rows, keys, place, shape in blocks(q):
        logits = torch.bmm(q[:, rows], k[:, keys].transpose(1, 2))
        logits.view(-1, N, *shape[1:])[..., 1:].add_(bias[:, rows, :keys.stop - 1])
        y[:, rows] = torch.bmm(torch.softmax(logits, -1, out=p[place].view(shape)), v[:, keys])
    return y, p

def attention_back(dy, q, k, v, line, p):
    N, S = len(line), q.shape[1]
    dq, dk, dv, dbias = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v), q.new_zeros(N, S, 2 * S)
    for rows, keys, place, shape in blocks(q):
        probability = p[place].view(shape)
        dv[:, keys] += torch.bmm(probability.transpose(1, 2), dy[:, rows])
        d = torch.bmm(dy[:, rows], v[:, keys].transpose(1, 2))
        d = torch.ops.aten._softmax_backward_data(d, probability, -1, d.dtype)
        dbias[:, rows, :keys.stop - 1] = d.view(-1, N, *shape[1:]).sum(0)[..., 1:]
        dq[:, rows] = torch.bmm(d, k[:, keys])
        dk[:, keys] += torch.bmm(d.transpose(1, 2), q[:, rows])
    # sheared, so that a column is a distance
    return dq, dk, dv, dbias.flip(1).view(N, -1)[:, :S * (2 * S - 1)].view(N, S, 2 * S - 1).sum(1)

# The bias of distances S-1 .. 0, then of the future.  As an operation of its own, because the code that torch.compile
# makes for its gradient writes past its buffers with two threads and S = 256.
def line_of(table, bucket):
    return F.pad(table[bucket].flip(0).t(), (0, len(bucket) - 1), value=-1e9).contiguous()

def line_back(dline, table, bucket):
    return torch.zeros_like(table).index_add_(0, bucket, dline[:, :len(bucket)].flip(1).t())

def expert_rows(count):
    first = 0
    for e, n in enumerate(count.tolist()):
        yield e, slice(first, first + n)
        first += n

# oneDNN, which has bf16, makes code for every new shape: there an expert's rows are filled up to a multiple, with copies
# of a token that get no weight.
MULTIPLE = 32 if args.bf16 else 1

def mixture_rows(T, E):
    return 2 * T + E * (MULTIPLE - 1)

def mixture(x, weight, choice, up, down):
    T, M = x.shape
    order, place = choice.view(-1).argsort(stable=True), torch.arange(2 * T)
    count = torch.bincount(choice.view(-1), minlength=len(up))
    if MULTIPLE > 1:
        real, count = count, (count + MULTIPLE - 1) // MULTIPLE * MULTIPLE
        place += ((count - real).cumsum(0) - (count - real)).repeat_interleave(real)
    slot = torch.empty_like(order).index_copy_(0, order, place)     # 2 * token + rank of the choice -> row of the sorted copy
    if MULTIPLE > 1:
        order = order.new_zeros(mixture_rows(T, len(up))).index_copy_(0, place, order)
    xs = x.index_select(0, order // 2)                      # there and back, rows move by gathers only
    h, ys = x.new_empty(len(xs), up.shape[1]), torch.empty_like(xs)
    for e, rows in expert_rows(count):
        torch.mm(xs[rows], up[e].t(), out=h[rows]).relu_()
        torch.mm(h[rows], down[e].t(), out=ys[rows])
    y = torch.bmm(weight.view(T, 1, 2), ys.index_select(0, slot).view(T, 2, M)).view(T, M)
    return y, order, slot, count, xs, h, ys

def mixture_back(dy, x, weight, choice, up, down, order, slot, count, xs, h, ys):
    T, M = dy.shape
    dweight = torch.bmm(ys.index_select(0, slot).view(T, 2, M), dy.view(T, M, 1)).view(T, 2)
    dys = dy.index_select(0, order // 2).mul_(weight.new_zeros(len(xs)).index_copy_(0, slot, weight.view(-1))[:, None])
    dup, ddown, dxs = torch.empty_like(up), torch.empty_like(down), torch.empty_like(xs)
    for e, rows in expert_rows(count):
        torch.mm(dys[rows].t(), h[rows], out=ddown[e])      # an expert without rows gets zeros
        dh = torch.ops.aten.threshold_backward(torch.mm(dys[rows], down[e]), h[rows], 0)
        torch.mm(dh.t(), xs[rows], out=dup[e])
        torch.mm(dh, up[e], out=dxs[rows])
    return dxs.index_select(0, slot).view(T, 2, M).sum(1), dweight, dup, ddown

def mixture_shapes(x, weight, choice, up, down):
    rows, flat = mixture_rows(len(x), len(up)), choice.new_empty
    return (torch.empty_like(x), flat(rows), flat(2 * len(x)), flat(len(up)), x.new_empty(rows, x.shape[1]),
            x.new_empty(rows, up.shape[1]), x.new_empty(rows, x.shape[1]))

def one_token(x, weight, choice, up, down):
    return weight @ torch.stack([torch.mv(down[e], torch.mv(up[e], x[0]).relu_()) for e in choice[0].tolist()])

def like(*tensors):
    return tuple(torch.empty_like(t) for t in tensors)

attend = operation("attention", 2, attention, lambda q, k, v, line: (torch.empty_like(q), room(q)),
                   attention_back, lambda dy, q, k, v, line, p: like(q, k, v, line))
bias_line = operation("line", 1, line_of, lambda table, bucket: table.new_empty(table.shape[1], 2 * len(bucket) - 1),
                      line_back, lambda dline, table, bucket: torch.empty_like(table), 1)
mix = operation("mixture", 7, mixture, mixture_shapes,
                mixture_back, lambda dy, x, weight, choice, up, down, *_: like(x, weight, up, down))
mix_one = operation("one_token", 1, one_token, lambda x, weight, choice, up, down: torch.empty_like(x))

# ---- the model ----

def parameter(*shape, std=None, fan=None):
    t = torch.empty(shape)
    return nn.Parameter(t.normal_(0, std) if std else t.uniform_(-math.sqrt(3 / fan), math.sqrt(3 / fan)))

def rms_norm(x, gain):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * gain

class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.N, self.D = c.N, c.M // c.N
        self.qkv = parameter(3 * c.M, c.M, std=c.M ** -0.5)
        with torch.no_grad():
            self.qkv[:c.M] *= self.D ** -0.5        # logits are not scaled: the queries' weights begin smaller
        self.out = parameter(c.M, c.M, std=c.M ** -0.5)
        self.table = parameter(32, c.N, std=(32 * c.N) ** -0.5)
        d = torch.arange(c.S)
        far = 16 + (torch.log(d.clamp(min=1) / 16) / math.log(8) * 16).long().clamp(max=15)
        self.register_buffer("bucket", torch.where(d < 16, d, far), persistent=False)

    def line(self, S):
        return bias_line(self.table, self.bucket[:S])

    def forward(self, x, cache=None, at=None):
        B, S, M = x.shape
        q, k, v = F.linear(x, self.qkv).view(B, S, 3, self.N, self.D).permute(2, 0, 3, 1, 4)
        if cache:
            keys, values, bias = cache
            keys.index_copy_(2, at + 1, k), values.index_copy_(2, at + 1, v)
            y = F.scaled_dot_product_attention(q, keys, values, attn_mask=bias.index_select(2, at), scale=1.0)
        else:
            k, v = (F.pad(t, (0, 0, 1, 0)).reshape(B * self.N, S + 1, self.D) for t in (k, v))
            y = attend(q.reshape(B * self.N, S, self.D), k, v, narrow(self.line(S)))[0].view(B, self.N, S, self.D)
        return F.linear(y.transpose(1, 2).reshape(B, S, M), self.out)

    def cache(self, S):     # keys, values, biases; place 0 stays zero: the extra logit
        bias = F.pad(self.line(S).unfold(1, S, 1).flip(1), (1, 0))[None].contiguous()
        keys = bias.new_zeros(1, self.N, S + 1, self.D)
        return keys, torch.zeros_like(keys), bias

class Dense(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.up, self.down = parameter(2 * c.H, c.M, fan=c.M), parameter(c.M, c.H, fan=c.H)

    def forward(self, x):
        gate, up = F.linear(x, self.up).chunk(2, -1)
        return F.linear(F.gelu(gate) * up, self.down), 0.0      # by erf: PyTorch's tanh form is slower

class Mixture(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.router = parameter(c.E, c.M, fan=c.M)
        self.up, self.down = parameter(c.E, c.H, c.M, fan=c.M), parameter(c.E, c.M, c.H, fan=c.H)

    def forward(self, x):
        rows, E = narrow(x.reshape(-1, x.shape[-1])), len(self.router)
        p = F.softmax(F.linear(rows, self.router), -1, dtype=torch.float)
        weight, choice = p.topk(2, -1)
        weight = narrow(weight / (weight.sum(-1, keepdim=True) + 1e-9))
        if len(rows) == 1:
            return mix_one(rows, weight, choice, narrow(self.up), narrow(self.down)).view(x.shape), 0.0
        y = mix(rows, weight, choice, narrow(self.up), narrow(self.down))[0]
        first = (choice[:, :1] == torch.arange(E)).float().mean(0)
        return y.view(x.shape), E * (p.mean(0) * first).sum()

class GLaM(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c, self.embed = c, parameter(c.V, c.M, std=1)
        self.attention = nn.ModuleList(Attention(c) for _ in range(c.L))
        self.ffn = nn.ModuleList(Mixture(c) if c.E and i % 2 == 0 else Dense(c) for i in range(c.L))
        self.gain = nn.ParameterList(torch.ones(c.M) for _ in range(2 * c.L + 1))

    def forward(self, ids, caches=None, at=None):
        x, aux = F.embedding(ids, self.embed), 0.0
        for i in range(self.c.L):
            x = x + self.attention[i](rms_norm(x, self.gain[2 * i]), caches and caches[i], at)
            y, extra = self.ffn[i](rms_norm(x, self.gain[2 * i + 1]))
            x, aux = x + y, aux + extra
        return rms_norm(x, self.gain[-1]) * self.c.M ** -0.5, aux

    def logits(self, x):
        return F.linear(x, self.embed)

    def loss(self, ids, targets):
        x, aux = self(ids)
        logits = self.logits(x).view(-1, self.c.V).float()
        lse = torch.logsumexp(logits, -1)
        picked = logits.gather(1, targets.reshape(-1, 1))[:, 0]
        return (lse - picked + 1e-4 * lse.square()).mean() + 0.01 * aux

    def next(self, ids, caches, at):        # greedy
        return self.logits(self(ids, caches, at)[0][:, -1]).argmax(-1, keepdim=True)

class GPT(GLaM):        # nanoGPT's: LayerNorm, GELU, learned positions, scaled attention; no biases
    def __init__(self, c):
        nn.Module.__init__(self)
        self.c, out = c, 0.02 / math.sqrt(2 * c.L)
        self.embed, self.position = parameter(c.V, c.M, std=0.02), parameter(c.S, c.M, std=0.02)
        shapes = (3 * c.M, c.M, 0.02), (c.M, c.M, out), (c.H, c.M, 0.02), (c.M, c.H, out)
        self.weight = nn.ParameterList(parameter(m, n, std=std) for _ in range(c.L) for m, n, std in shapes)
        self.gain = nn.ParameterList(torch.ones(c.M) for _ in range(2 * c.L + 1))

    def forward(self, ids):
        (B, S), c = ids.shape, self.c
        norm = lambda x, i: F.layer_norm(x, (c.M,), self.gain[i])
        x = F.embedding(ids, self.embed) + self.position[:S]
        for i in range(c.L):
            qkv, out, up, down = self.weight[4 * i:4 * i + 4]
            q, k, v = F.linear(norm(x, 2 * i), qkv).view(B, S, 3, c.N, c.M // c.N).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + F.linear(y.transpose(1, 2).reshape(B, S, c.M), out)
            x = x + F.linear(F.gelu(F.linear(norm(x, 2 * i + 1), up)), down)
        return norm(x, -1), 0.0

    def loss(self, ids, targets):
        return F.cross_entropy(self.logits(self(ids)[0]).view(-1, self.c.V).float(), targets.reshape(-1))

# ---- modes: each makes a function that does one unit of work and returns its tokens and its seconds ----

def say(**result):
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result = dict(mode=args.mode, config=args.config, variant=args.variant, threads=args.threads,
                  arithmetic="bf16" if args.bf16 else "f32", **result)
    result["peak_rss_mb"] = round(rss)
    print(json.dumps(result) if args.json or args.serve else " ".join(f"{k}={v}" for k, v in result.items()), flush=True)

def compiled(f):
    f = f if args.variant == "eager" else torch.compile(f, dynamic=False, fullgraph=True)
    return autocast()(f) if args.bf16 else f

class Trainer:
    def __init__(self, model, decay=0.0):
        self.parameters, self.loss = list(model.parameters()), compiled(model.loss)
        groups = [dict(params=[p for p in self.parameters if p.dim() > 1], weight_decay=decay),
                  dict(params=[p for p in self.parameters if p.dim() < 2], weight_decay=0.0)]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=True)

    def step(self, ids, targets):
        loss = self.loss(ids, targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        # the clip to norm 1 is done inside of the fused update, as the division that mixed precision has there
        norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None], foreach=True)
        self.optimizer.grad_scale, self.optimizer.found_inf = norm.clamp(min=1), torch.zeros(())
        self.optimizer.step()
        return loss.item()

def zipf(c, n):
    return torch.multinomial(1.0 / torch.arange(1, c.V + 1, dtype=torch.double), n, replacement=True)

def train(c):
    trainer, T, data, count = Trainer(GLaM(c)), c.B * c.S, zipf(c, 64 * c.B * c.S + 1), 0

    def unit():
        nonlocal count
        first, count = count % 63 * T, count + 1
        start = time.perf_counter()
        trainer.step(data[first:first + T].view(c.B, c.S), data[first + 1:first + T + 1].view(c.B, c.S))
        return T, time.perf_counter() - start
    return unit, {}

def gen(c):
    model, data, prefill, extra = GLaM(c).eval(), zipf(c, 16)[None], [], {}
    if args.bf16:       # nothing is trained, so weights, too: autocast would cast them for every token
        model.bfloat16()
    step, ids, caches, at = compiled(model.next), None, [], c.S

    @torch.inference_mode()
    def unit():                                 # 16 tokens; a full context begins again with the prompt
        nonlocal at, ids, caches
        if at + 16 > c.S:
            caches, at = [a.cache(c.S) for a in model.attention], 16
            for _ in range(2):                  # the first may compile; both write the same places
                start = time.perf_counter()
                ids = step(data, caches, torch.arange(16))
            prefill.append(time.perf_counter() - start)
            extra["prefill_ms"] = round(1e3 * statistics.median(prefill), 3)
        start = time.perf_counter()
        for i in range(at, at + 16):
            ids = step(ids, caches, torch.tensor([i]))
        at += 16
        return 16, time.perf_counter() - start
    return unit, extra

def layer(c):
    T, M, H, E = args.tokens, args.width, args.hidden, args.experts or 8
    c.M, c.H, c.E = M, H, E
    libc = ctypes.CDLL(None)
    libc.mallopt(-4, 0), libc.mallopt(-1, 2 ** 31 - 1)      # glibc keeps freed pages: new gradients do not fault
    moe, up, down = Mixture(c), parameter(2 * H, M, fan=M), parameter(M, 2 * H, fan=2 * H)
    x, dy = torch.randn(T, M, requires_grad=True), torch.randn(T, M)
    times, extra = ([], []), dict(tokens=T, width=M, hidden=H, experts=E)
    layers = (compiled(lambda: F.linear(F.relu(F.linear(x, up)), down)), compiled(lambda: moe(x)[0]))

    def unit():
        for f, t in zip(layers, times):
            for p in (x, up, down, *moe.parameters()):
                p.grad = None
            start = time.perf_counter()
            f().backward(dy)
            t.append(time.perf_counter() - start)
        dense, mix = (statistics.median(t) for t in times)
        extra.update(dense_ms=round(1e3 * dense, 3), ratio=round(mix / dense, 3))
        return T, times[1][-1]
    return unit, extra

def measure(unit, extra, seconds=math.inf, steps=math.inf):
    work, stop = [], time.perf_counter() + seconds
    while len(work) < steps and (not work or time.perf_counter() < stop):
        work.append(unit())
    ms = 1e3 * statistics.median(t for _, t in work)
    say(tokens_per_s=round(1e3 * work[0][0] / ms, 1), ms_per_step=round(ms, 3), steps=len(work), **extra)

def curve(c):
    text = torch.frombuffer(bytearray(open(args.data, "rb").read()), dtype=torch.uint8).long()
    nano = args.recipe == "nanogpt"
    if nano:
        args.config = "nanogpt"
        values, text = text.unique(return_inverse=True)
        c = Config((4, 128, 512, 4, 64, 12, len(values), 0))
    cut = len(text) * 9 // 10
    text, valid = text[:cut], text[cut:]
    model = (GPT if nano else GLaM)(c)
    trainer, seconds, rows = Trainer(model, 0.1 if nano else 0.0), 0.0, (len(valid) - 1) // c.S
    sample = text[:c.B * c.S].view(c.B, c.S)
    trainer.loss(sample, sample.clone()).backward()     # compiles; the first step clears these gradients
    inputs, targets = (valid[i:i + rows * c.S].view(rows, c.S) for i in (0, 1))

    @torch.inference_mode()
    @autocast()
    def validate():
        model.eval()
        total = sum(F.cross_entropy(model.logits(model(x)[0]).view(-1, c.V).float(), y.reshape(-1), reduction="sum").item()
                    for x, y in zip(inputs.split(32), targets.split(32)))
        model.train()
        return round(total / (rows * c.S), 4)

    for i in range(args.iters):
        if i % args.every == 0:
            say(step=i, valid_nats=validate(), train_seconds=round(seconds, 3), seed=args.seed)
        start = time.perf_counter()
        rate = (i + 1) / 101 if i < 100 else 0.55 + 0.45 * math.cos(math.pi * (i - 100) / (args.iters - 100))
        for group in trainer.optimizer.param_groups:
            group["lr"] = args.lr * rate
        place = torch.randint(len(text) - c.S, (c.B, 1)) + torch.arange(c.S)
        trainer.step(text[place], text[place + 1])
        seconds += time.perf_counter() - start
    say(step=args.iters, valid_nats=validate(), train_seconds=round(seconds, 3), seed=args.seed)

def main():
    c = Config(CONFIGS[args.config])
    if args.mode == "curve":
        return curve(c)
    unit, extra = dict(train=train, gen=gen, layer=layer)[args.mode](c)
    for _ in range(3):
        unit()
    if not args.serve:
        return measure(unit, extra, args.seconds)
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "quit":
            break
        amount, *steps = line.split()
        measure(unit, extra, **({"steps": int(amount)} if steps else {"seconds": float(amount)}))

main()
