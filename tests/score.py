"""Scores a task's options in float64 with numpy alone, and compares with the lines of glam eval.

    python3 tests/score.py MODEL TASK.jsonl LINES.jsonl [CONTEXT]

MODEL is a file of glam (bytes as tokens), LINES what `glam eval MODEL --task TASK.jsonl --out LINES.jsonl`
wrote, CONTEXT the --context of that command.  Nothing here comes from glam.h: the model is written down
once more from its formulas, and options are cut as lm-evaluation-harness cuts them.  The last line is
"options N, largest difference D, choices that differ C"; the exit status is 0 when D is at most 1e-4, and
C is 0 under each of the four normalisations.
"""
import json, math, struct, sys
import numpy as np


def read_model(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    config = json.loads(header.pop("__metadata__")["glam.config"])
    tensors = {}
    for name, entry in header.items():
        assert entry["dtype"] == "F32", name + " is " + entry["dtype"]
        begin, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(data[begin:end], "<f4").astype(np.float64).reshape(entry["shape"])
    moe = config["moe"]
    known = (config["position"] in ("buckets", "none") and config["logit_cap"] == config["attention_cap"] == 0
             and config["activation"] == "gelu_tanh" and (moe["experts"] == 0 or moe["router_cap"] == 0 and
             moe["activation"] in ("relu", "gelu_tanh", "geglu", "swiglu") and moe["normalise"] != "none"))
    assert known, "a model of another kind than this script knows"
    return config, tensors


def gelu(z):
    return 0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z ** 3)))


def norm(x, gain, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * gain


def bucket(distance, buckets, furthest):
    exact = buckets // 2
    if distance < exact:
        return distance
    far = math.log(distance / exact) / math.log(furthest / exact) * (buckets - exact)
    return min(buckets - 1, exact + int(far))


def attend(c, w, at, x):
    S, heads, D = len(x), c["heads"], c["d_head"]
    q, k, v = ((x @ w[at + n]).reshape(S, heads, D).transpose(1, 0, 2) for n in "qkv")
    logits = c["attention_scale"] * (q @ k.transpose(0, 2, 1))
    distance = np.arange(S)[:, None] - np.arange(S)[None]
    if c["position"] == "buckets":
        of = np.array([bucket(d, c["buckets"], c["max_distance"]) for d in range(S)])
        logits = logits + w[at + "bias"][:, of[np.maximum(distance, 0)]]
    e = np.where(distance >= 0, np.exp(logits), 0)
    p = e / (e.sum(-1, keepdims=True) + bool(c["attention_sink"]))
    return (p @ v).transpose(1, 0, 2).reshape(S, heads * D) @ w[at + "o"]


def mixture(m, w, at, x):
    logits = x @ w[at + "router"]
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    best = np.argsort(-p, -1, kind="stable")[:, :m["top_k"]]
    y = np.zeros_like(x)
    for t, chosen in enumerate(best):
        weights = p[t, chosen] / (p[t, chosen].sum() + 1e-9)
        for e, weight in zip(chosen, weights):
            h = x[t] @ w[at + "up"][e]
            if m["activation"] == "relu":
                h = np.maximum(h, 0)
            elif m["activation"] == "gelu_tanh":
                h = gelu(h)
            else:
                g = x[t] @ w[at + "gate"][e]
                h = h * (gelu(g) if m["activation"] == "geglu" else g / (1 + np.exp(-g)))
            y[t] += weight * (h @ w[at + "down"][e])
    return y


def log_softmax(c, w, ids):
    """[S,V]: the log-probabilities of the token after each."""
    eps, x = c["norm_eps"], w["embed"][ids]
    for i in range(c["layers"]):
        at = "layers.%d." % i
        x = x + attend(c, w, at + "attn.", norm(x, w[at + "attn.norm"], eps))
        if at + "moe.router" in w:
            x = x + mixture(c["moe"], w, at + "moe.", norm(x, w[at + "moe.norm"], eps))
        else:
            a = norm(x, w[at + "ffn.norm"], eps)
            x = x + (gelu(a @ w[at + "ffn.gate"]) * (a @ w[at + "ffn.up"])) @ w[at + "ffn.down"]
    logits = c["logit_scale"] * norm(x, w["norm"], eps) @ w["embed" if c["tied"] else "unembed"].T
    top = logits.max(-1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))


def score(c, w, context, continuation, window):
    blanks = len(context) - len(context.rstrip(" \t\n\v\f\r"))
    if blanks:
        context, continuation = context[:-blanks], context[-blanks:] + continuation
    given, asked = list(context.encode()) or [10], list(continuation.encode())
    assert len(asked) <= window, "a continuation longer than the context: not in this script"
    ids = (given + asked)[-(window + 1):]
    lp = log_softmax(c, w, np.array(ids[:-1]))[-len(asked):]
    return sum(float(lp[i, t]) for i, t in enumerate(asked)), bool((lp.argmax(-1) == np.array(asked)).all())


def options(row):
    """(context, continuation) of each, the blank between them added where there is none."""
    if "context_options" in row:
        pairs = [(context, row["continuation"]) for context in row["context_options"]]
    elif "choices" in row:
        pairs = [(row["query"], choice) for choice in row["choices"]]
    else:
        pairs = [(row["context"], row["continuation"])]
    for context, after in pairs:
        blank = not context or context[-1] in " \t\r\n" or after[0] in " \t\r\n"
        yield context, after if blank else " " + after


def main(model, task, lines, context=None):
    c, w = read_model(model)
    window, worst, differ, n = int(context or c["context"]), 0.0, 0, 0
    out = [json.loads(line) for line in open(lines, encoding="utf-8")]
    rows = [text for text in open(task, encoding="utf-8") if text.strip()]
    for number, text in enumerate(rows):
        mine, theirs, lengths = [], [], []
        for i, (before, after) in enumerate(options(json.loads(text))):
            line, (loglik, greedy) = out[n], score(c, w, before, after, window)
            n += 1
            assert (line["row"], line["option"]) == (number, i), line
            counts = [1, len(after.encode()), len(after), len(after.encode())]
            counts[1] += len(before) - len(before.rstrip(" \t\n\v\f\r"))
            assert [line["tokens"], line["chars"], line["bytes"]] == counts[1:], (line, counts)
            assert line["greedy"] == greedy, line
            worst = max(worst, abs(line["loglik"] - loglik))
            mine.append(loglik), theirs.append(line["loglik"]), lengths.append(counts)
        for per in range(4):
            chosen = [int(np.argmax([s / l[per] for s, l in zip(side, lengths)])) for side in (mine, theirs)]
            differ += chosen[0] != chosen[1]
    assert n == len(out), "%d lines, %d options" % (len(out), n)
    print("options %d, largest difference %.2g, choices that differ %d" % (n, worst, differ))
    return worst > 1e-4 or differ > 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
