#!/bin/sh
# tool.sh - tests of examples/glam.c from the outside: messages, exit status, files.
#
#     sh tests/tool.sh PATH-OF-THE-BUILT-TOOL        last line "N passed, N failed"

case $1 in /*) tool=$1 ;; *) tool=$PWD/$1 ;; esac
cd "$(dirname "$0")/.." || exit 1
[ -x "$tool" ] || { echo "$tool is not there: build examples/glam.c first"; exit 1; }
work=${TMPDIR:-/tmp}/glam-tool.$$
mkdir "$work" || exit 1
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
NO_COLOR=1
export NO_COLOR

pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); echo "FAILED: $*"; }

# check NAME COMMAND...: the command must succeed
check() {
    name=$1
    shift
    if "$@" >"$work/out" 2>&1; then pass; else fail "$name"; tail -5 "$work/out"; fi
}

# try STATUS PATTERN ARGUMENTS...: the tool ends with that status and prints a line like that
try() {
    status=$1 pattern=$2
    shift 2
    "$tool" "$@" >"$work/out" 2>&1
    got=$?
    if [ $got -ne "$status" ]; then
        fail "glam $*: status $got, not $status"
        tail -3 "$work/out"
    elif ! grep -q -e "$pattern" "$work/out"; then
        fail "glam $*: no line like '$pattern'"
        tail -3 "$work/out"
    else pass; fi
}

text=examples/02_autograd.c
other=examples/05_generate.c
small="--layers 2 --moe-every 2 --d-model 32 --heads 2 --experts 4 --context 32 --batch 4"

# --- help, and a command line that is wrong: status 2, and what was meant --------------------
try 0 'Start with any text file'
try 0 'help COMMAND' help
try 0 '--minutes M' train --help
try 0 '--min-p P' help generate
try 0 '--preset NAME' info -h
try 0 'training time of EACH model' help race
try 2 'did you mean train' trian
try 2 'no command frobnicate' frobnicate
try 2 'did you mean --layers' train $text --laeyrs 3
try 2 'no option --zzzzzzzz' train $text --zzzzzzzz 3
try 2 'no option --steps' generate model --steps 3
try 2 '--steps wants a value' train $text --steps
try 2 'XxY is wanted, such as 4x2' info --preset 0.1B --mesh 4
try 2 'XxY is wanted' train $text --mesh 0x3
try 2 'built without MPI' train $text --mesh 2x1
try 2 'mpirun -n 8' train $text --mesh 4x2 --mesh-store
try 2 'each rank has its own clock' train $text --mesh 2x1 --minutes 1
try 2 'wants a --mesh' info --preset 0.1B --mesh-store
try 1 'power of two' info --preset 0.1B/64E --mesh 3x1
try 1 'heads' info --preset 0.1B/64E --mesh 1x5
try 0 'mesh      8 ranks: 4 share batch and experts, 2 heads' info --preset 0.1B/64E --mesh 4x2
try 0 'split over both' info --preset 64B/64E --mesh 64x16 --mesh-store
try 2 'whole number' train $text --steps many
try 2 'whole number' train $text --steps -3
try 2 'whole number' train $text --steps 99999999999
try 2 'a number, 0 or more' train $text --lr fast
try 2 'takes no value' train $text --force=yes
try 2 'train wants one text' train
try 2 'one of them' train $text --steps 3 --minutes 1
try 2 'buckets transformer_xl none' train $text --position left
try 2 'before_drop after_drop none' train $text --normalise maybe
try 2 'relu gelu_tanh gelu_erf geglu swiglu' train $text --expert-activation tan
try 2 'adafactor adamw' train $text --optimizer sgd
try 2 'less than 1' train $text --val-fraction 1.5
try 2 'race wants one text' race
try 2 'no option --dense' race $text --dense
try 2 'no option --from' race $text --from model
try 2 'one of them' race $text --steps 3 --minutes 1
try 2 'takes some time' race $text --minutes 0
try 2 'wants a mixture' race $text --experts 0
try 2 'part to validate on' race $text --val-fraction 0
try 2 'generate wants one model' generate
try 2 'eval wants a model and a text' eval model
try 2 'route wants a model and a text' route model
try 2 'info wants a model or a preset' info

# --- files and numbers that are wrong: status 1, each with its own message -------------------
: >"$work/empty.txt"
printf 'too short' >"$work/short.txt"
: >"$work/there.safetensors"
head -c 300 $text >"$work/damaged.safetensors"
try 1 'missing.txt' train "$work/missing.txt" --out "$work/x"
try 1 'empty' train "$work/empty.txt" --out "$work/x"
try 1 'too few for a context of 128' train "$work/short.txt" --out "$work/x"
try 1 'too few for a context' train $text --context 100000 --out "$work/x"
try 1 'too few for a context' train $text --val-fraction 0.001 --out "$work/x"
try 1 'there is no preset 64B/64F; did you mean 64B/64E' info --preset 64B/64F
try 1 'there is no preset' train $text --preset huge --out "$work/x"
try 1 'top_k' train $text $small --top-k 9 --out "$work/x"
try 1 'd_model' train $text --d-model 0 --out "$work/x"
try 1 'logit_cap' train $text $small --logit-cap 1e-40 --out "$work/x"
try 1 'vocab' train $text $small --vocab 64 --out "$work/x"
try 1 'exists already; --force' train $text --out "$work/there.safetensors"
try 1 'cannot be written' train $text --out "$work/nowhere/x.safetensors"
try 1 'cannot be written' train $text --out "$work/x" --log "$work/nowhere/log"
try 1 'cannot be written' train $text --force --out "$work"
cp $text "$work/book.txt"
try 1 'is no log' train $text --out "$work/x" --log "$work/book.txt"
try 1 'missing' train $text --from "$work/missing" --out "$work/x"
try 1 'damaged' train $text --from "$work/damaged.safetensors" --out "$work/x"
try 1 'missing' train $text --resume "$work/missing" --out "$work/x"
try 1 'damaged' generate "$work/damaged.safetensors"
try 1 'damaged' eval "$work/damaged.safetensors" $text
try 1 'damaged' route "$work/damaged.safetensors" abc
try 1 'damaged' info "$work/damaged.safetensors"
try 1 'missing' generate "$work/missing"
try 1 'missing.txt' race "$work/missing.txt"
try 1 'too few for a context of 128' race "$work/short.txt"
try 1 'top_k' race $text $small --top-k 9
try 1 'steps' race $text $small --steps 0
try 1 'is no log' race $text $small --steps 1 --log "$work/book.txt"
try 1 'frobs' train $text $small --freeze frobs --out "$work/x"
try 1 'simd' train $text $small --simd mmx --out "$work/x"
[ ! -e "$work/x" ] && pass || fail "a run that failed has left a model"
[ ! -s "$work/there.safetensors" ] && pass || fail "a file was overwritten without --force"

# --- a run: its files, its log, and every command on its model -------------------------------
model=$work/model.safetensors
try 0 'saved .*model.safetensors after 40 steps' train $text $other $small --steps 40 \
    --eval-every 20 --val-fraction 0.2 --out "$model" --log "$work/log.jsonl"
grep -q 'bits/byte' "$work/out" && grep -q 'writes' "$work/out" && grep -q 'try next' "$work/out" &&
    pass || fail "the run does not show what it should"
try 0 'needs .*weights .*optimiser .*activations' train $text $small --steps 1 --out "$work/one"
try 1 'exists already' train $text $small --steps 1 --out "$work/one"
try 0 'saved' train $text $small --steps 1 --out "$work/one" --force --quiet
[ "$(wc -l <"$work/out")" -eq 1 ] && pass || fail "--quiet prints more than the last line"
try 0 'every layer is dense' train $text $small --dense --steps 2 --out "$work/dense"
try 0 'hidden 128' info "$work/dense"
try 0 'top 1' train $text $small --top-k 1 --steps 2 --out "$work/top1" --log "$work/top1.jsonl"
grep -q '"normalise":"none"' "$work/top1.jsonl" && pass || fail "top-1 is not set to normalise none"
try 0 'optimizer' help train
try 0 'attention-cap C' help race
try 0 'saved' train $text $small --attention-cap 20 --router-cap 8.5 --logit-cap 30 --steps 2 \
    --out "$work/capped" --log "$work/capped.jsonl"
grep -q '"attention_cap":20,.*"logit_cap":30,.*"router_cap":8.5}' "$work/capped.jsonl" && pass ||
    fail "the caps are not in the log"
try 0 '.' generate "$work/capped" --prompt 'static ' --tokens 5 --temperature 0
try 0 'trains .* of .*' train $other --from "$model" --freeze experts,router --steps 3 \
    --out "$work/tuned"
try 2 'comes from the file' train $text --from "$model" --layers 3
try 0 'repeats this run' train $text $small --minutes 0.05 --out "$work/min"
try 0 'bits per byte' eval "$model" $text
try 0 'the last part of' eval "$model" $text --val-fraction 0.2
try 1 'fewer than a context' eval "$model" "$work/short.txt"
try 0 '.' generate "$model" --prompt 'static ' --tokens 20 --temperature 0
"$tool" generate "$model" --tokens 50 --seed 3 >"$work/a"
"$tool" generate "$model" --tokens 50 --seed 3 >"$work/b"
"$tool" generate "$model" --tokens 50 --seed 4 >"$work/c"
cmp -s "$work/a" "$work/b" && ! cmp -s "$work/a" "$work/c" && pass || fail "the seed of generate"
try 0 '   10  ' route "$model" 'static int x'
try 1 'every layer is dense' route "$work/dense" abc
try 0 'active' info "$model"

# without --out the first command works twice
root=$PWD
mkdir "$work/twice"
for i in 1 2; do
    (cd "$work/twice" && "$tool" train "$root/$text" $small --steps 1 --quiet) >"$work/out" 2>&1
done
[ -s "$work/twice/model.safetensors" ] && [ -s "$work/twice/model-2.safetensors" ] && pass ||
    { fail "two runs without --out"; cat "$work/out"; }

# --- the log is JSON, line by line, with the keys that were promised --------------------------
if command -v python3 >/dev/null 2>&1; then
    check "the log as JSON" python3 - "$work/log.jsonl" <<'PYTHON'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
start, done = rows[0], rows[-1]
steps = [r for r in rows if r["event"] == "step"]
evals = [r for r in rows if r["event"] == "eval"]
assert start["event"] == "start" and done["event"] == "done"
assert start["config"]["moe"]["experts"] == 4 and start["config"]["position"] == "buckets"
assert {"config", "seed", "version", "compiler", "simd", "steps"} <= set(start)
assert [r["step"] for r in steps] == list(range(1, 41)) and start["steps"] == 40
assert [r["step"] for r in evals] == [20, 40]
assert all({"val_loss", "train_seconds"} <= set(r) for r in evals)
keys = "steps tokens train_seconds val_loss tokens_per_second params active_params peak_bytes"
assert set(keys.split()) <= set(done) and done["tokens"] == 40 * 4 * 32
assert done["val_loss"] == evals[-1]["val_loss"] and steps[-1]["loss"] < steps[0]["loss"]
PYTHON
else
    for word in '"event":"start"' '"event":"step"' '"event":"eval"' '"event":"done"' \
        '"peak_bytes":' '"val_loss":' '"tokens_per_second":'; do
        check "the log has $word" grep -q "$word" "$work/log.jsonl"
    done
fi

# --- resume: only what it may take, and the bits of a run that was never stopped ---------------
run="train $text $other $small --seed 5 --val-fraction 0.2 --quiet"
check "40 steps" "$tool" $run --steps 40 --out "$work/straight"
if python3 -c 'import safetensors, numpy' 2>/dev/null; then
    check "python opens the model" python3 tests/python_reads.py "$work/straight"
elif [ "${GLAM_NO_SKIP:-0}" = 1 ]; then
    fail "python opens the model: no safetensors package"
fi
check "20 steps" "$tool" $run --steps 20 --out "$work/half" --checkpoint "$work/half.checkpoint"
try 2 'cannot go with --resume' train $text $other --resume "$work/half.checkpoint" --lr 1
try 2 'cannot go with --resume' train $text $other --resume "$work/half.checkpoint" --minutes 1
try 1 'text' train $text --resume "$work/half.checkpoint" --steps 40 --out "$work/wrong"
try 0 'after 40 steps' train $text $other --resume "$work/half.checkpoint" --steps 40 \
    --out "$work/whole" --threads 1
check "20 and 20 steps are 40" cmp "$work/straight" "$work/whole"
check "a checkpoint on the way" "$tool" $run --steps 40 --checkpoint-every 15 \
    --checkpoint "$work/on.checkpoint" --out "$work/on"
check "checkpoints change nothing" cmp "$work/straight" "$work/on"

# --- a race: both sides end with the clock or with the steps, and the sentence is what the log says
try 0 '0:02 of training each' race $text $other $small --minutes 0.04 --val-fraction 0.2 \
    --log "$work/clock.jsonl"
grep -q 'm mixture, d dense' "$work/out" && grep -q '^peak memory ' "$work/out" && pass ||
    fail "the race does not show what it should"
try 0 'the twin has .* 100.* of the mixture' race $text $small --experts 64 --moe-every 2 --steps 1
race="race $text $other $small --val-fraction 0.2 --quiet --steps"
try 0 'the mixture' $race 200 --log "$work/race.jsonl"
[ "$(wc -l <"$work/out")" -eq 1 ] && pass || fail "--quiet prints more than the sentence"
try 0 'the mixture' $race 200 --log "$work/again.jsonl" --threads 1
grep -o '"val_loss":[0-9.]*' "$work/race.jsonl" | sort >"$work/a"
grep -o '"val_loss":[0-9.]*' "$work/again.jsonl" | sort >"$work/b"
check "a race of steps, the same bits" cmp "$work/a" "$work/b"
check "the dense model of a race" "$tool" train $text $other $small --val-fraction 0.2 --quiet \
    --steps 200 --dense --out "$work/twin" --log "$work/twin.jsonl"
loss=$(grep '"event":"done"' "$work/twin.jsonl" | grep -o '"val_loss":[0-9.]*')
grep '"event":"result","side":"dense"' "$work/race.jsonl" | grep -q "$loss," && pass ||
    fail "the dense model of a race is not that of train --dense"
if command -v python3 >/dev/null 2>&1; then
    for log in clock race; do
        check "the log of the race ($log)" python3 - "$work/$log.jsonl" $log <<'PYTHON'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
of = lambda side, event: [r for r in rows if r.get("side") == side and r["event"] == event]
done, last = rows[-1], {}
assert done["event"] == "done" and "side" not in done
for side in ("mixture", "dense"):
    start, steps, evals, result = (of(side, e) for e in ("start", "step", "eval", "result"))
    start, result = start[0], result[0]
    assert (start["config"]["moe"]["experts"] > 0) == (side == "mixture")
    assert [r["step"] for r in steps] == list(range(1, result["steps"] + 1))
    assert evals and evals[-1]["step"] == result["steps"]
    assert all(r["tokens"] == r["step"] * 4 * 32 for r in evals)
    assert result["val_loss"] == done[side + "_loss"] and result["params"] == start["params"]
    gaps = [b["step"] - a["step"] for a, b in zip(evals, evals[1:])]
    if sys.argv[2] == "clock":          # a busy machine stretches steps: the clock decides no more than this
        assert result["train_seconds"] > 2.3, result
    else:
        assert 15 <= len(evals) <= 24 and sum(gaps[-5:]) < sum(gaps[:5])
        assert result["steps"] == start["steps"] == 200
    last[side] = evals
flops = [r["flops_per_token"] for r in rows if r["event"] == "start"]
assert abs(flops[0] / flops[1] - 1) < 0.02
target, curve, all = last["dense"][-1]["val_loss"], last["mixture"], last["dense"][-1]
above = max([i for i, r in enumerate(curve) if r["val_loss"] > target], default=-1)
assert done["target"] == target and done["reached"] == (above < len(curve) - 1)
whole = done["mixture_loss"] <= done["dense_loss"]
if done["reached"]:
    b = curve[above + 1]
    a = curve[above] if above >= 0 else b
    gap = a["val_loss"] - b["val_loss"]
    part = (a["val_loss"] - target) / gap if gap > 0 else 1
    for key, share in ("train_seconds", "time_share"), ("tokens", "token_share"):
        assert abs((a[key] + part * (b[key] - a[key])) / all[key] - done[share]) < 1e-4
else:
    assert done["time_share"] is None and done["token_share"] is None
told = done["sentence"]
if done["reached"] != whole: assert "ended level" in told
elif whole: assert "in %.0f %% of its time and %.0f %% of its tokens" % (
    100 * done["time_share"], 100 * done["token_share"]) in told
else: assert "did not reach" in told
assert "%.4f" % done["mixture_loss"] in told and "%.4f" % done["dense_loss"] in told
assert (abs(done["mixture_loss"] - done["dense_loss"]) < 0.01) == ("turn it round" in told) or \
    "ended level" in told
PYTHON
    done
fi
"$tool" race $text $small --minutes 5 --log "$work/stop.jsonl" >"$work/stop.out" 2>&1 &
victim=$!
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    grep -q '"event":"step","side":"dense"' "$work/stop.jsonl" 2>/dev/null && break
    sleep 0.2 2>/dev/null || sleep 1
done
kill -INT $victim
wait $victim
[ $? -eq 130 ] && pass || { fail "Ctrl-C in a race: the status is not 130"; tail -3 "$work/stop.out"; }
grep -q '^stopped after' "$work/stop.out" && grep -q '^tokens/s' "$work/stop.out" &&
    grep -q '"event":"stopped","side":"dense"' "$work/stop.jsonl" && pass ||
    fail "Ctrl-C in a race does not tell what is known"

# --- Ctrl-C: saved, told, and gone on with ----------------------------------------------------
long="train $text $small --seed 6 --steps 1500 --eval-every 0"
check "1500 steps" "$tool" $long --out "$work/calm" --quiet
"$tool" $long --out "$work/cut" --log "$work/cut.jsonl" >"$work/cut.out" 2>&1 &
victim=$!
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    [ "$(grep -c '"event":"step"' "$work/cut.jsonl" 2>/dev/null)" -gt 10 ] 2>/dev/null && break
    sleep 0.2 2>/dev/null || sleep 1
done
kill -INT $victim
wait $victim
[ $? -eq 130 ] && pass || { fail "Ctrl-C: the status is not 130"; tail -3 "$work/cut.out"; }
grep -q 'to go on' "$work/cut.out" && pass || fail "Ctrl-C does not say how to go on"
[ ! -e "$work/cut" ] && pass || fail "Ctrl-C has written the model"
try 0 'after 1500 steps' train $text --resume "$work/cut.checkpoint" --out "$work/cut"
check "stopped and gone on with, the same bits" cmp "$work/calm" "$work/cut"

# --- the paper's table: exact counts -----------------------------------------------------------
count() { try 0 "^total  *$2 " info --preset "$1"; grep -q "^active  *$3 " "$work/out" && pass ||
    fail "active parameters of $1"; }
count 0.1B 137846016 137846016
count 0.1B/64E 1907612928 152296704
count 1.7B 1676261376 1676261376
count 1.7B/32E 13957969920 1878374400
count 1.7B/64E 26843658240 1879160832
count 1.7B/128E 52615034880 1880733696
count 1.7B/256E 104157788160 1883879424
count 8B 8721305600 8721305600
count 8B/64E 142943227904 9799241728
count 137B 137702416384 137702416384
count 64B/64E 1161756418048 96604528640
try 0 'L 64  M 8192  H 32768  heads 128  d_head 128  E 64' info --preset 64B/64E

# --- one mixture pass, recomputed from what it prints ------------------------------------------
cc=${CC:-cc}
check "build example 03" $cc -O1 examples/03_moe_step_by_step.c -o "$work/steps" -lm
check "build its check" $cc -O1 tests/moe_step_by_step.c -o "$work/recompute" -lm
"$work/steps" >"$work/printout" 2>&1
if "$work/recompute" <"$work/printout" >"$work/out"; then pass
else fail "one mixture pass, recomputed"; cat "$work/out"; fi
sed '/^== choices/,/^$/s/^0 0 \([0-9]*\) /0 0 9 /' "$work/printout" |
    "$work/recompute" >"$work/out" && fail "a spoilt printout is not noticed" || pass

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
