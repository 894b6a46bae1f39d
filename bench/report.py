#!/usr/bin/env python3
"""report.py - drives the benchmark: takes turns between our program and its peers, and writes
Markdown tables (stdout and OUT/report.md), plots (OUT/*.svg) and raw samples (OUT/samples.jsonl).

    report.py quick|full --bench PROGRAM --out DIR [--threads N] [--arithmetic NAME]
              [ROW|GROUP|bf16 ...]
                                                                (bench/run.sh calls it)

Needs the standard library alone.  With torch in this python, PyTorch takes part: through
torch_product.py (products, attention) and torch_peer.py (steps, layers, decoding).  Every process
speaks the same protocol: it prints "ready", then for each line on its input takes one sample and
answers with one line of JSON.  A B A B ...: all take turns, medians count, and ratios are medians
of the ratios within a turn.  Shares are of the limits measured at the start of the same run.
"""
import bisect
import importlib.util
import json
import math
import os
import select
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
FULL = "full" in sys.argv[1:2]
OUT = sys.argv[sys.argv.index("--out") + 1]
BENCH = sys.argv[sys.argv.index("--bench") + 1]
WANTED = [a for i, a in enumerate(sys.argv) if i > 1 and not a.startswith("--")
          and sys.argv[i - 1] not in ("--out", "--bench", "--threads", "--arithmetic")]
ARITHMETIC, NARROW = "f32", "bf16"             # NARROW: ours in rows of bf16
if "--arithmetic" in sys.argv:
    ARITHMETIC = sys.argv[sys.argv.index("--arithmetic") + 1]
LOAD = os.getloadavg()[0]
TORCH = importlib.util.find_spec("torch") is not None
THREADS = sorted({1, 2, os.cpu_count() or 1} & set(range(1, (os.cpu_count() or 1) + 1)))
if "--threads" in sys.argv:
    THREADS = sorted({1, int(sys.argv[sys.argv.index("--threads") + 1])})
MOST = THREADS[-1]
CORES = f"{MOST} threads" if MOST > 1 else "1 thread"
ROUNDS = 7 if FULL else 3
report = open(os.path.join(OUT, "report.md"), "w")
samples = open(os.path.join(OUT, "samples.jsonl"), "w")


def say(text=""):
    print(text, flush=True)
    print(text, file=report, flush=True)


middle = statistics.median


# ---- processes that take samples

class Server:
    """A process with the protocol above.  alive is False when it could not start or has failed.
    Processes get ready side by side: wait() for all, then ask()."""

    def __init__(self, *command, patience=180):
        self.alive, self.rest, self.ready, self.patience = True, b"", False, patience
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)

    def wait(self):
        while self.alive and not self.ready:
            self.ready = self.read(self.patience) == "ready"

    def read(self, patience):
        while b"\n" not in self.rest:
            there = select.select([self.process.stdout], [], [], patience)[0]
            more = os.read(self.process.stdout.fileno(), 65536) if there else b""
            if not more:
                self.close()
                return None
            self.rest += more
        line, self.rest = self.rest.split(b"\n", 1)
        return line.decode().strip()

    def ask(self, line):
        if not self.alive:
            return None
        try:
            self.process.stdin.write(f"{line}\n".encode())
        except OSError:
            self.close()
            return None
        answer = self.read(600)
        if answer:
            samples.write(answer + "\n")
        return json.loads(answer) if answer else None

    def close(self):
        """Ends it, and says why if that was not wanted."""
        if not self.alive:
            return
        self.alive = False
        try:
            self.process.stdin.write(b"quit\n")
            self.process.stdin.close()
            self.process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        if self.process.returncode:
            last = self.process.stderr.read().decode().strip().splitlines()[-1:]
            print(f"(no {' '.join(self.process.args[-4:])}: {' '.join(last)})", file=sys.stderr)
        self.process.stdout.close()
        self.process.stderr.close()


def ours(row, threads=MOST, arithmetic=None):
    return Server(BENCH, row, "--serve", "--threads", threads, "--arithmetic",
                  arithmetic or ARITHMETIC, *(["--full"] if FULL else []))


def torch_peer(mode, *arguments, threads=MOST, variant="best" if FULL else "eager",
               arithmetic=None):
    """PyTorch as it comes in the short form; the full one lets it compile, where that is faster."""
    script = os.path.join(HERE, "torch_peer.py")
    if not TORCH or not os.path.exists(script):
        return None
    return Server(sys.executable, script, mode, *arguments, "--threads", threads, "--serve",
                  "--variant", variant, *bf16_option(arithmetic), patience=900)


def torch_product(threads=MOST, arithmetic=None):
    return Server(sys.executable, os.path.join(HERE, "torch_product.py"), "--threads", threads,
                  *bf16_option(arithmetic)) if TORCH else None


def bf16_option(arithmetic):
    return ["--bf16"] if (arithmetic or ARITHMETIC).startswith("bf16") else []


def close(servers):
    for s, _ in servers.values():
        if s:
            s.close()


def turns(servers, rounds=ROUNDS):
    """servers: {name: (Server, line)}.  Answers of each, taken in turn; nothing of who failed."""
    for server, _ in servers.values():
        if server:
            server.wait()
    servers = {n: s for n, s in servers.items() if s[0] and s[0].alive}
    answers = {n: [] for n in servers}
    for _ in range(rounds):
        for name, (server, line) in servers.items():
            answer = server.ask(line)
            if answer:
                answers[name].append(answer)
    return {n: a for n, a in answers.items() if len(a) == rounds}


def ratio(a, b):
    return middle([x / y for x, y in zip(a, b)])


def entrants(answers, pick=middle):
    """Of a row's answers: {entrant: (median seconds, the entrant)}, in order."""
    names = [e["name"] for e in answers[0]["entrants"]]
    return {n: (pick([a["entrants"][i]["seconds"] for a in answers]),
                answers[0]["entrants"][i]) for i, n in enumerate(names)}


def measure(row, threads=MOST, seconds=0.1, rounds=ROUNDS, pick=middle, arithmetic=None):
    server = ours(row, threads, arithmetic)
    answers = turns({"ours": (server, seconds)}, rounds).get("ours")
    server.close()
    return (answers[-1], entrants(answers, pick)) if answers else (None, {})


# ---- tables and plots

def number(x, digits=3):
    if x is None:
        return "–"
    if x >= 1000:
        return f"{x:,.0f}"
    return f"{x:.{max(0, digits - 1 - (math.floor(math.log10(x)) if x > 0 else 0))}f}"


def percent(x):
    return "–" if x is None else f"{100 * x:.0f} %"


def times(x):
    return "–" if x is None else f"{x:.2f}x"


def size(n):
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024 or unit == "GiB":
            return f"{n:.3g} {unit}"
        n /= 1024


def table(title, head, rows, note=""):
    if not rows:
        return
    say(f"\n### {title}\n")
    if note:
        say(f"{note}\n")
    say("| " + " | ".join(head) + " |")
    say("|" + "|".join("---" if i == 0 else "---:" for i in range(len(head))) + "|")
    for row in rows:
        say("| " + " | ".join(str(c) for c in row) + " |")


COLOURS = ["#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#a463f2", "#97bbf5"]


def svg(name, width, height, body):
    with open(os.path.join(OUT, name), "w") as f:
        f.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
                'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" '
                'fill="white"/>' + "".join(body) + "</svg>\n")


def text(x, y, what, anchor="start", colour="#333", extra=""):
    what = str(what).replace("&", "&amp;").replace("<", "&lt;")
    return (f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="{colour}"{extra}>'
            f'{what}</text>')


def lines(name, title, x_title, y_title, series):
    """A log-log plot.  series: {name: [(x, y), ...]}."""
    series = {n: [p for p in s if p[0] > 0 and p[1] > 0] for n, s in series.items()}
    points = [p for s in series.values() for p in s]
    if len(points) < 2:
        return
    W, H, L, T, R, B = 560, 320, 70, 34, 130, 46
    x0, x1 = math.log10(min(p[0] for p in points)), math.log10(max(p[0] for p in points))
    y0 = math.log10(min(p[1] for p in points)) - 0.1
    y1 = math.log10(max(p[1] for p in points)) + 0.1
    px = lambda x: L + (math.log10(x) - x0) / max(x1 - x0, 1e-9) * (W - L - R)
    py = lambda y: H - B - (math.log10(y) - y0) / (y1 - y0) * (H - T - B)
    body = [text(L, 20, title, extra=' font-weight="bold"'),
            text((L + W - R) / 2, H - 8, x_title, "middle"),
            text(8, T - 2, y_title)]
    marks = (1, 2, 5) if y1 - y0 > 0.8 else (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
    ticks = [m * 10 ** e for e in range(math.floor(y0), math.ceil(y1) + 1) for m in marks]
    for y in (t for t in ticks if y0 <= math.log10(t) <= y1):
        body.append(f'<path d="M{L} {py(y):.1f}H{W - R}" stroke="#ddd"/>')
        body.append(text(L - 6, py(y) + 4, f"{y:g}", "end"))
    last = 0
    for x in sorted({p[0] for p in points}):
        if px(x) - last < 34 and last:
            continue
        last = px(x)
        label = size(x).replace("iB", "") if "bytes" in x_title else f"{x:g}"
        body.append(text(px(x), H - B + 16, label, "middle", extra=' font-size="9"'))
    for i, (n, s) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        path = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in s)
        body.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        body += [f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="3" fill="{colour}"/>' for x, y in s]
        body.append(text(W - R + 8, T + 14 + 16 * i, n, colour=colour))
    svg(name, W, H, body)


def bars(name, title, rows, legend, unit="%"):
    """Horizontal bars; rows: [(label, [values])], one value per legend entry, None: left out."""
    if not rows:
        return
    W, L, R, T, each = 640, 170, 60, 52, 11
    most = max((v for _, vs in rows for v in vs if v is not None), default=0)
    if most <= 0:
        return
    body, y = [text(12, 20, title, extra=' font-weight="bold"')], T
    for i, n in enumerate(legend):
        body.append(text(L + 120 * i, 40, n, colour=COLOURS[i]))
    for label, values in rows:
        body.append(text(L - 8, y + each * len(values) / 2 + 4, label, "end"))
        for i, v in enumerate(values):
            if v is not None:
                w = v / most * (W - L - R)
                body.append(f'<rect x="{L}" y="{y}" width="{w:.1f}" height="{each - 2}" '
                            f'fill="{COLOURS[i]}"/>')
                body.append(text(L + w + 4, y + 9, f"{number(v)} {unit}", extra=' font-size="9"'))
            y += each
        y += 6
    svg(name, W, y + 8, body)


# ---- what the machine can do

class Machine:
    """Limits with so many threads: peak per instruction set, bytes per second by working set.
    The best of all samples: a limit is what can be reached, disturbance only takes from it."""

    def __init__(self, threads):
        self.answer, found = measure("machine", threads, 0.05 if FULL else 0.02,
                                     2 * ROUNDS, min, "auto")
        if not found:
            sys.exit("report.py: the machine could not be measured")
        self.simd = self.answer["simd"]
        self.peaks = {n[5:]: e["flops"] / s for n, (s, e) in found.items() if n.startswith("peak")}
        # an instruction set with pairs of its own, or with tiles
        wide = self.simd.removesuffix("bf16").replace("amx", "avx512")
        self.used = self.simd if ARITHMETIC == self.answer["arithmetic"] != "f32" else wide
        self.pairs = self.peaks.get(self.simd, self.peaks[wide])
        self.peak = self.peaks[self.used]
        self.exps = found["exp"][1]["items"] / found["exp"][0]
        self.region = found["parallel region"][0]
        self.curves = {k: [(float(n.split()[1]), e["moved"] / s) for n, (s, e) in found.items()
                           if n.startswith(k)] for k in ("read", "triad")}
        self.threads = threads

    def bandwidth(self, kind, nbytes):
        """Bytes per second when the working set has so many bytes, all threads together."""
        curve = self.curves[kind]
        at = bisect.bisect([c[0] for c in curve], nbytes)
        if at in (0, len(curve)):
            return curve[min(at, len(curve) - 1)][1]
        (x0, y0), (x1, y1) = curve[at - 1:at + 1]
        part = math.log(nbytes / x0) / math.log(x1 / x0)
        return y0 * (y1 / y0) ** part

    def level(self, nbytes):
        each = nbytes / self.threads
        for name, bytes_, one in (("L1", self.answer.get("l1", 0), each),
                                  ("L2", self.answer.get("l2", 0), each),
                                  ("L3", self.answer.get("l3", 0), nbytes)):
            if one <= bytes_:
                return name
        return "DRAM"


machine = {}


def limits():
    global ARITHMETIC, NARROW
    native = measure("nn-256", 1, 0.001, 1, arithmetic="auto")[0]["arithmetic"]    # what AUTO takes
    if ARITHMETIC == "auto":
        ARITHMETIC = native
    if native == "bf16_tiles":
        NARROW = native
    for t in THREADS:
        machine[t] = Machine(t)
    m = machine[MOST]
    model = ""
    try:
        with open("/proc/cpuinfo") as f:
            model = next(l.split(":")[1].strip() for l in f if l.startswith("model name")) + ", "
    except (OSError, StopIteration):
        pass
    say(f"# Benchmark of glam.h\n\n{model}{os.cpu_count()} cores, kernels: {m.used}, {ARITHMETIC}; "
        f"{'full' if FULL else 'quick'} form, {time.strftime('%Y-%m-%d')}, load at the start "
        f"{LOAD:.2f}.")
    if LOAD > 0.5:
        say("**The machine was not idle when this began: judge nothing by it.**")
    table("Machine: multiply-adds, GFLOP/s",
          ["instruction set"] + [f"{t} thread{'s' * (t > 1)}" for t in THREADS],
          [[f"**{n}** (used)" if n == m.used else n] +
           [number(machine[t].peaks[n] / 1e9) for t in THREADS] for n in m.peaks],
          f"A parallel region of {CORES} costs {m.region * 1e6:.1f} us; an exponential "
          f"{machine[1].exps / 1e9:.2f} G/s a thread.")
    head = ["working set"] + [f"{k}, {t} thr" for t in THREADS for k in ("read", "triad")]
    rows = [[f"{size(x)}, {m.level(x)}"] +
            [number(machine[t].bandwidth(k, x) / 1e9) for t in THREADS for k in ("read", "triad")]
            for x, _ in m.curves["read"]]
    table("Machine: bandwidth, GB/s", head, rows)
    lines("bandwidth.svg", "Bandwidth by working set", "bytes, all threads", "GB/s",
          {f"{k}, {t} thr": [(x, y / 1e9) for x, y in machine[t].curves[k]]
           for t in THREADS for k in ("read", "triad")})


# ---- the groups

def ceiling(a, m, peak):
    """Tokens per second of a step whose parts each run at the machine's limit, one by one."""
    e = a["entrants"][0]
    return e["items"] / (e["flops"] / peak + a["exps"] / m.exps +
                         a["streamed"] * 4 / m.bandwidth("triad",
                                                         (a.get("l2") or 1 << 19) * m.threads)
                         + a["parameters"] * 28 / m.bandwidth("triad", a["parameters"] * 16))


def steps(rows):
    found, plot = [], []
    for name, p in rows:
        big = p[1] > 512                           # a step takes seconds
        seconds = 0.7 if not FULL else 2
        others = [t for t in THREADS if t != MOST]
        servers = {f"ours {t}": (ours(name, t), seconds) for t in [MOST] + others}
        servers["torch"] = (torch_peer("train", name), seconds)
        if FULL and 1 in others:
            servers["torch 1"] = (torch_peer("train", name, threads=1), seconds)
        got = turns(servers, 3 if big else ROUNDS)
        close(servers)
        if f"ours {MOST}" not in got:
            continue
        speed = {k: [a["tokens_per_s"] for a in v] for k, v in got.items()}
        a, us = got[f"ours {MOST}"][-1], speed[f"ours {MOST}"]
        e, m, tokens = a["entrants"][0], machine[MOST], a["entrants"][0]["items"]
        ideal = ceiling(a, m, m.peak)
        share = middle(us) * e["flops"] / tokens / m.peak
        torch = speed.get("torch")
        best = ratio(us, torch) if torch else None
        one = speed.get("ours 1")
        single = ratio(one, speed["torch 1"]) if one and "torch 1" in speed else None
        rss = got["torch"][-1].get("rss_mb", got["torch"][-1].get("peak_rss_mb")) if torch else None
        found.append([name, f"{a['parameters'] / 1e6:.1f} M", number(middle(us)),
                      number(middle(one)) if one else "–", times(ratio(us, one) if one else None),
                      percent(share), number(ideal), percent(middle(us) / ideal),
                      number(a["rss_mb"]), number(middle(torch)) if torch else "–", times(best),
                      times(single), number(rss)])
        plot.append((name, [100 * share, 100 * middle(torch) * e["flops"] / tokens / m.peak
                            if torch else None, 100 * ideal * e["flops"] / tokens / m.peak]))
    table("Training steps, tokens/s",
          ["model", "parameters", f"{MOST} thr", "1 thr", "scaling", "of FMA peak", "ceiling",
           "of ceiling", "peak RSS MB", "PyTorch", f"ratio, {MOST} thr", "ratio, 1 thr",
           "its RSS MB"], found,
          "One step: forward, backward, clip, AdamW. FLOPs: 6 per activated parameter and token, "
          "and attention's causal half. Ceiling: those at the FMA peak, then exponentials, element "
          "traffic from L2 and 28 bytes a parameter of AdamW at the measured rates, nothing "
          "overlapping.")
    bars("steps.svg", "Training: share of the FMA peak", plot, ["glam.h", "PyTorch", "ceiling"])


def layers(rows):
    found, plot = [], {}
    for name, p in rows:
        shape = [x for pair in zip(("--tokens", "--width", "--hidden"), p) for x in pair]
        servers = {"ours": (ours(name), 0.1)}
        for E in (8, 32, 64) if FULL else (8, 64):
            servers[E] = (torch_peer("layer", *shape, "--experts", E), 0.5)
        got = turns(servers)
        close(servers)
        flops = 24.0 * p[0] * p[1] * p[2]
        by = {}                                    # who: (dense seconds, {E: ratio}, {E: skewed})
        if "ours" in got:
            of = {e["name"]: [a["entrants"][i]["seconds"] for a in got["ours"]]
                  for i, e in enumerate(got["ours"][0]["entrants"])}
            dense = min((n for n in of if n.startswith("dense")), key=lambda n: middle(of[n]))
            by["glam.h"] = (middle(of[dense]),
                            {E: ratio(of[f"moe{E}"], of[dense]) for E in (8, 32, 64)},
                            {E: ratio(of[f"skewed{E}"], of[f"moe{E}"]) for E in (8, 32, 64)})
        peers = {E: a for E, a in got.items() if E != "ours"}
        if peers:
            by["PyTorch"] = (min(middle([x["dense_ms"] for x in a]) for a in peers.values()) / 1e3,
                             {E: middle([x["ratio"] for x in a]) for E, a in peers.items()}, {})
        for who, (dense, moe, skewed) in by.items():
            found.append([f"{p[0]}, {p[1]}, {p[2]}", who, f"{dense * 1e3:.2f}",
                          percent(flops / dense / machine[MOST].peak)] +
                         [times(x.get(E)) for E in (8, 32, 64) for x in (moe, skewed)])
            plot[f"{who}, T {p[0]}"] = list(moe.items())
    table(f"Mixture layer over the dense layer of equal work, {CORES}",
          ["T, M, H", "by", "dense ms", "of peak", "E 8", "skewed", "E 32", "skewed", "E 64",
           "skewed"], found,
          "Forward and backward, top 2 of E two-matrix ReLU experts of H over one such network of "
          "2H (the faster of two ways). Skewed, over balanced: one expert takes half the tokens.")
    lines("layers.svg", "Mixture over dense layer", "experts", "ratio", plot)


def products(rows):
    torch = torch_product()
    found, attention, plot = [], [], []
    libraries = ("openblas", "blis", "onednn", "onednn3")
    for name, p in rows:
        kind = name.split("-")[0]
        count = {"attention": 5, "matmul": 3}.get(kind, 4)
        line = " ".join([kind if count != 4 else "product"] + [str(v) for v in p[:count]])
        seconds = 0.03 if FULL else 0.015
        server = ours(name)
        got = turns({"ours": (server, seconds), "torch": (torch, f"{line} {seconds}")})
        server.close()
        if "ours" not in got:
            continue
        a = got["ours"][-1]
        speed = {n: a["entrants"][0]["flops"] / s / 1e9
                 for n, (s, _) in entrants(got["ours"]).items()}
        if "torch" in got:
            speed["torch"] = speed["glam"] * ratio(
                [x["entrants"][0]["seconds"] for x in got["ours"]],
                [x["seconds"] for x in got["torch"]])
        mine, peak = speed.pop("glam"), machine[MOST].peak / 1e9
        best = max(speed, key=speed.get) if speed else None
        cells = [name, a["shape"], number(mine), percent(mine / peak)] + \
                [number(speed.get(n)) for n in libraries + ("torch",)]
        if kind == "attention":
            blas = max((speed[n] for n in libraries if n in speed), default=None)
            attention.append(cells + [times(mine / speed["torch"] if "torch" in speed else None),
                                      times(mine / blas if blas else None)])
        else:
            found.append(cells + [f"{mine / speed[best]:.2f}x {best}" if best else "–"])
        plot.append((name, [100 * mine / peak, 100 * speed[best] / peak if best else None]))
    if torch:
        torch.close()
    head = ["row", "shape", "glam.h", "of peak", "OpenBLAS", "BLIS", "oneDNN", "oneDNN 3",
            "PyTorch"]
    table(f"Products, GFLOP/s, {CORES}", head + ["over the best"], found,
          "Packed: the weight's panels are made once, as in a training step; the peers get it as "
          "it is." + (" In bf16: ours and PyTorch's; the libraries stay in f32."
                      if ARITHMETIC.startswith("bf16") else ""))
    table(f"Attention between its projections, GFLOP/s, {CORES}",
          head + ["over PyTorch", "over the best BLAS"], attention,
          "FLOPs of the causal half for all. glam.h and PyTorch (scaled_dot_product_attention) do "
          "the softmax; the BLAS libraries none of it, only the products of the full square, a "
          "head per thread.")
    bars("products.svg", "Products: share of the FMA peak", plot, ["glam.h", "best peer"])


def decode(rows):
    found = []
    for name, p in rows:
        config = name[len("decode-"):]
        servers = {f"ours {t}": (ours(name, t), 0.3) for t in THREADS}
        for t in THREADS:
            servers[f"torch {t}"] = (torch_peer("gen", config, threads=t), 0.3)
        got = turns(servers)
        close(servers)
        best = None
        for t in THREADS:
            if f"ours {t}" not in got:
                continue
            of = entrants(got[f"ours {t}"])
            s, e = of["glam"]
            weights = got[f"ours {t}"][-1]["weights"]
            bound = e["moved"] / machine[t].bandwidth("read", weights)
            peer = got.get(f"torch {t}")
            peer = middle([a["tokens_per_s"] for a in peer]) if peer else None
            found.append([config, t, number(1 / s), f"{e['moved'] / 1e6:.1f}",
                          machine[t].level(weights), number(1 / bound), percent(bound / s),
                          f"{of['glam, prefill 16'][0] * 1e3:.2f}", number(peer),
                          number(got[f"torch {t}"][-1].get("prefill_ms")) if peer else "–"])
            best = max(best or 0, 1 / s)
        peers = [middle([a["tokens_per_s"] for a in got[k]]) for k in got if k.startswith("torch")]
        if best and peers:
            found.append([f"{config}, best over best", "", "", "", "", "", "", "",
                          times(best / max(peers))])
    table("Decoding, one sequence, tokens/s",
          ["model", "threads", "tokens/s", "MB per token", "weights in", "bound", "of bound",
           "prefill 16, ms", "PyTorch", "its prefill, ms"], found,
          "Bound: the activated weights read once per token at the bandwidth measured for a "
          "working set of all weights.")


def slope(points):
    """Exponent of growth between the ends, and over the last doubling or so."""
    log = lambda a, b: math.log(b[1] / a[1]) / math.log(b[0] / a[0])
    return log(points[0], points[-1]), log(points[-2], points[-1])


def growth(rows):
    found = []
    what = {"context": "context, equal tokens per step", "experts": "experts, equal active work",
            "batch": "batch", "vocab": "vocabulary"}
    slopes = []
    for name, p in rows:
        _, of = measure(name, seconds=0.3 if FULL else 0.1)
        if not of:
            continue
        by_time = [(float(n), s / e["items"] * 1e6) for n, (s, e) in of.items()]
        by_size = [(float(n), e["held"] / 1e6) for n, (s, e) in of.items()]
        for (x, us), (_, mb) in zip(by_time, by_size):
            found.append([what[name], f"{x:.0f}", f"{us:.1f}", number(mb),
                          number(mb * 1e3 / of[f"{x:.0f}"][1]["items"])])
        t, m = slope(by_time), slope(by_size)
        slopes.append([what[name], f"{t[0]:.2f}", f"{t[1]:.2f}", f"{m[0]:.2f}", f"{m[1]:.2f}"])
        lines(f"growth-{name}.svg", f"Time per token by {what[name]}", what[name], "us per token",
              {f"{CORES}": by_time})
        lines(f"growth-{name}-bytes.svg", f"Memory by {what[name]}", what[name], "MB",
              {"peak": by_size})
    table(f"Growth, training, {CORES}", ["what grows", "to", "us per token", "MB",
                                                "kB per token"], found)
    table("Growth: exponents", ["what grows", "time per token", "its last step", "memory",
                                "its last step"], slopes,
          "0: constant, 1: in proportion. Between the first and the last size, and between the "
          "last two.")


def costs(rows):
    found = []
    for name, p in rows:
        a, of = measure(name, seconds=1 if name.startswith("neighbour") else 0.1,
                        rounds=3 if name == "compile" else ROUNDS)
        if not of:
            continue
        first = next(iter(of.values()))[0]
        for i, (n, (s, e)) in enumerate(of.items()):
            speed = f"{e['moved'] / s / 1e9:.1f} GB/s" if e["moved"] else "–"
            if e["items"]:
                speed = f"{e['items'] / s:,.0f} tokens/s, {percent(first / s)}"
            unit = f"{s * 1e6:.2f} us" if s < 1e-3 else f"{s * 1e3:.1f} ms"
            found.append([f"{name}: {a['shape']}" if not i else "", n, unit, speed,
                          number(e["held"] / 1e6) if e["held"] else "–",
                          times(s / first) if i else ""])
        if name == "start" and TORCH:
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", "import torch"], check=False)
            s = time.perf_counter() - began
            found.append(["", "PyTorch, its import alone", f"{s * 1e3:.1f} ms", "–", "–",
                          times(s / first)])
    table(f"Costs, {CORES}", ["what", "", "time", "speed", "MB", "time over the first"],
          found)


BF16 = ["nano", "nano-moe", "small", "small-moe8"] + \
       [f"{kind}-{n}" for kind in ("nn", "nt", "tn") for n in (256, 512, 1024, 2048)]
BF16_NOTE = "A turn: ours in f32, ours in {2}, PyTorch {0}. Shares are of the peak of what " \
            "multiplies in bf16 here, tiles, pairs or floats{1}."


def bf16_steps(rows):
    found = []
    for name, p in rows:
        big = p[1] > 512                           # gigabytes each: not for all threads at once
        for some in [[t] for t in THREADS] if big else [THREADS]:
            seconds, servers = 0.7 if not FULL else 2, {}
            for t in some:
                servers["f32", t] = ours(name, t, "f32"), seconds
                servers["bf16", t] = ours(name, t, NARROW), seconds
                for v in ("eager", "compile"):
                    servers[v, t] = torch_peer("train", name, threads=t, variant=v,
                                               arithmetic="bf16"), seconds
            got = turns(servers, 3 if big else max(5, ROUNDS))
            close(servers)
            for t in reversed(some):
                found += bf16_step(name, t, {v: a for (v, n), a in got.items() if n == t})
    table("Training steps in bf16, tokens/s",
          ["model", "threads", "f32", "bf16", "over f32", "of peak", "ceiling", "of ceiling",
           "RSS MB", "PyTorch bf16, eager", "compiled", "its peak share", "over the faster",
           "its RSS MB"], found,
          BF16_NOTE.format("under autocast, eager and compiled", ", ceilings too", NARROW))


def bf16_step(name, t, got):
    if "bf16" not in got or "f32" not in got:
        return []
    speed = {v: [a["tokens_per_s"] for a in answers] for v, answers in got.items()}
    a, m = got["bf16"][-1], machine[t]
    us, wide, e = speed["bf16"], speed["f32"], a["entrants"][0]
    best = max((v for v in ("eager", "compile") if v in speed), default=None,
               key=lambda v: middle(speed[v]))
    share = lambda v: middle(v) * e["flops"] / e["items"] / m.pairs
    ideal = ceiling(a, m, m.pairs)
    theirs = [percent(share(speed[best])), times(ratio(us, speed[best])),
              number(got[best][-1]["peak_rss_mb"])] if best else ["–"] * 3
    return [[name, t, number(middle(wide)), number(middle(us)), times(ratio(us, wide)),
             percent(share(us)), number(ideal), percent(middle(us) / ideal),
             number(a["rss_mb"])] + [number(middle(speed[v]) if v in speed else None)
                                     for v in ("eager", "compile")] + theirs]


def bf16_products(rows):
    found = []
    torch = {t: torch_product(t, "bf16") for t in THREADS}
    for name, p in (r for r in rows if r[0][:3] in ("nn-", "nt-", "tn-")):
        for t in reversed(THREADS):
            seconds = 0.05
            line = " ".join(["product"] + [str(v) for v in p[:4]] + [str(seconds)])
            servers = {v: (ours(name, t, NARROW if v == "bf16" else v), seconds)
                       for v in ("f32", "bf16")}
            got = turns({**servers, "torch": (torch[t], line)}, max(5, ROUNDS))
            close(servers)
            if "f32" not in got or "bf16" not in got:
                continue
            flops, peak = got["bf16"][0]["entrants"][0]["flops"], machine[t].pairs
            speed = {v: [flops / (a if v == "torch" else a["entrants"][0])["seconds"] / 1e9
                         for a in answers] for v, answers in got.items()}
            share = lambda v: middle(v) * 1e9 / peak if v else None
            us, peer = speed["bf16"], speed.get("torch")
            found.append([got["bf16"][0]["shape"], t, number(middle(speed["f32"])),
                          number(middle(us)), times(ratio(us, speed["f32"])), percent(share(us)),
                          number(middle(peer) if peer else None), percent(share(peer)),
                          times(ratio(us, peer) if peer else None)])
    close({t: (s, 0) for t, s in torch.items()})
    table("Products in bf16, GFLOP/s",
          ["shape", "threads", "f32", "bf16", "over f32", "of peak", "PyTorch bf16",
           "its peak share", "over PyTorch"], found,
          BF16_NOTE.format("(oneDNN)", "", NARROW) + " Ours reads f32, rounds as it packs and "
          "writes f32; PyTorch's operands and results are bf16 already.")


def main():
    started = time.time()
    listed = subprocess.run([BENCH, "--list", "--full"], capture_output=True, text=True, check=True)
    wanted = [w for w in WANTED if w != "bf16"] or (BF16 if WANTED else [])
    rows = {}
    for line in listed.stdout.splitlines():
        group, name, quick, *p = line.split()
        if wanted and name not in wanted and group not in wanted:
            continue
        if name in wanted or FULL or quick == "1":
            rows.setdefault(group, []).append((name, [int(v) for v in p]))
    if "bf16" in WANTED:
        rows = {g: r for g, r in rows.items() if g in ("steps", "products")}
    unknown = [w for w in wanted if w not in rows and
               not any(w == n for g in rows.values() for n, _ in g)]
    if unknown:
        sys.exit(f"report.py: no such row: {' '.join(unknown)}; {BENCH} --list --full shows them")
    limits()
    if not TORCH:
        say("\n(no PyTorch in this python: its columns are empty)")
    elif not os.path.exists(os.path.join(HERE, "torch_peer.py")):
        say("\n(no bench/torch_peer.py: PyTorch takes part in products only)")
    groups = (steps, layers, products, decode, growth, costs)
    for group in (bf16_steps, bf16_products) if "bf16" in WANTED else groups:
        name = group.__name__.split("_")[-1]
        if name in rows:
            group(rows[name])
    say(f"\n{time.time() - started:.0f} seconds; tables, plots and samples in {OUT}")


main()
