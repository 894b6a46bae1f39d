"""torch_product.py - PyTorch's matrix products and attention, as one of report.py's entrants.

    torch_product.py --threads N [--bf16]

Prints "ready", then answers lines until "quit":
    product KIND M N K SECONDS               KIND 0 NN, 1 NT, 2 TN, as in bench/products.h
    matmul M N K SECONDS                     forward and backward of x @ w
    attention B S HEADS D BACK SECONDS       scaled_dot_product_attention, causal; BACK 1: backward
with {"seconds": mean seconds of one run}.  --bf16: operands and results are bfloat16.
"""
import json
import os
import sys
import time

threads = int(sys.argv[sys.argv.index("--threads") + 1])
os.environ["OMP_NUM_THREADS"] = str(threads)
import torch
import torch.nn.functional as F

torch.set_num_threads(threads)
if "--bf16" in sys.argv:
    torch.set_default_dtype(torch.bfloat16)
made = {}


def product(kind, m, n, k):
    a = torch.randn(k, m).t() if kind == 2 else torch.randn(m, k)
    b = torch.randn(n, k).t() if kind == 1 else torch.randn(k, n)
    c = torch.empty(m, n)
    return lambda: torch.mm(a, b, out=c)


def matmul(m, n, k):
    x = torch.randn(m, k, requires_grad=True)
    w = torch.randn(k, n, requires_grad=True)
    dy = torch.randn(m, n)

    def run():
        x.grad = w.grad = None
        (x @ w).backward(dy)
    return run


def attention(B, S, heads, D, back):
    qkv = [torch.randn(B, S, heads, D).transpose(1, 2) for _ in range(3)]
    if not back:
        def forward():
            with torch.inference_mode():
                F.scaled_dot_product_attention(*qkv, is_causal=True)
        return forward
    qkv = [t.detach().requires_grad_() for t in qkv]
    y = F.scaled_dot_product_attention(*qkv, is_causal=True)
    dy = torch.randn(B, S, heads, D).transpose(1, 2)
    return lambda: torch.autograd.grad(y, qkv, dy, retain_graph=True)


def sample(run, seconds):
    runs, start = 0, time.perf_counter()
    while True:
        run()
        runs += 1
        took = time.perf_counter() - start
        if took >= seconds:
            return took / runs


print("ready", flush=True)
for line in sys.stdin:
    kind, *rest = line.split()
    if kind == "quit":
        break
    key = (kind, *rest[:-1])
    if key not in made:
        made.clear()
        made[key] = globals()[kind](*(int(v) for v in rest[:-1]))
        made[key]()
        made[key]()
    print(json.dumps({"seconds": sample(made[key], float(rest[-1]))}), flush=True)
