#!/bin/sh
# tool.sh - tests of examples/glam.c from the outside: messages, exit status, files.
#
#     sh tests/tool.sh PATH-OF-THE-BUILT-TOOL        last line "N passed, N failed"

. "$(dirname "$0")/tooling.sh"

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
try 2 'f32, bf16, bf16_tiles or auto' train $text --arithmetic half
try 2 'whole number' train $text --steps many
try 2 'whole number' train $text --steps -3
try 2 'whole number' train $text --steps 99999999999
try 2 'a number from 0 to 1e+06' train $text --lr fast
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
printf 'mine' >"$work/there.safetensors"
head -c 300 $text >"$work/damaged.safetensors"
try 1 'missing.txt' train "$work/missing.txt" --out "$work/x"
try 1 'empty' train "$work/empty.txt" --out "$work/x"
try 1 'too few for a context of 128' train "$work/short.txt" --out "$work/x"
try 1 'too few for a context' train $text --context 100000 --out "$work/x"
try 1 'too few for a context' train $text --val-fraction 0.001 --out "$work/x"
try 2 'there is no preset 64B/64F; did you mean 64B/64E' info --preset 64B/64F
try 2 'there is no preset' train $text --preset huge --out "$work/x"
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
[ "$(cat "$work/there.safetensors")" = mine ] && pass || fail "a file was overwritten without --force"

# --- a run: its files, its log, and every command on its model -------------------------------
model=$work/model.safetensors
try 0 'saved .*model.safetensors after 40 steps' train $text $other $small --steps 40 \
    --eval-every 20 --val-fraction 0.2 --out "$model" --log "$work/log.jsonl"
grep -q 'bits/byte' "$work/out" && grep -q 'writes' "$work/out" && grep -q 'try next' "$work/out" &&
    pass || fail "the run does not show what it should"
try 0 'needs .*weights .*gradients' train $text $small --steps 1 --out "$work/one"
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
grep -q '"attention_cap":20,.*"logit_cap":30,.*"router_cap":8.5,' "$work/capped.jsonl" && pass ||
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
kill -TERM $victim                  # a shell lets its jobs in the background ignore SIGINT
wait $victim
[ $? -eq 143 ] && pass || { fail "SIGTERM in a race: the status is not 143"; tail -3 "$work/stop.out"; }
grep -q '^stopped after' "$work/stop.out" && grep -q '^tokens/s' "$work/stop.out" &&
    grep -q '"event":"stopped","side":"dense"' "$work/stop.jsonl" && pass ||
    fail "SIGTERM in a race does not tell what is known"

# --- SIGTERM: saved, told, and gone on with ----------------------------------------------------
long="train $text $small --seed 6 --steps 1500 --eval-every 0"
check "1500 steps" "$tool" $long --out "$work/calm" --quiet
"$tool" $long --out "$work/cut" --log "$work/cut.jsonl" >"$work/cut.out" 2>&1 &
victim=$!
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    [ "$(grep -c '"event":"step"' "$work/cut.jsonl" 2>/dev/null)" -gt 10 ] 2>/dev/null && break
    sleep 0.2 2>/dev/null || sleep 1
done
kill -TERM $victim
wait $victim
[ $? -eq 143 ] && pass || { fail "SIGTERM: the status is not 143"; tail -3 "$work/cut.out"; }
grep -q 'to go on' "$work/cut.out" && pass || fail "SIGTERM does not say how to go on"
[ ! -e "$work/cut" ] && pass || fail "SIGTERM has written the model"
grep -A 1 'to go on' "$work/cut.out" | grep -q -e "--log $work/cut.jsonl" && pass || fail "the command has no --log"
try 0 'after 1500 steps' train $text --resume "$work/cut.checkpoint" --out "$work/cut"
check "stopped and gone on with, the same bits" cmp "$work/calm" "$work/cut"

# --- numbers: what is no number, or out of range, is refused with the range --------------------
try 2 'from 0 to 18446744073709551615' train $text --seed 12345678901234567890123
try 2 'from 0 to 18446744073709551615' train $text --seed 18446744073709551616
try 2 'from 0 to 18446744073709551615' generate model --seed 0x10
try 2 'XxY is wanted' info --preset 0.1B --mesh 99999999999x1
try 2 'XxY is wanted' info --preset 0.1B --mesh 16777216x2
try 2 'XxY is wanted' info --preset 0.1B --mesh '2x 2'
try 2 'from 0 to 100000000' generate model --tokens 2147483647
try 2 'from 0 to 1000000000' train $text --steps '3 '
try 2 'from 0 to 1000000000' train $text --steps ''
try 2 'from 0 to 1024' eval model $text --threads 99999
try 2 'from 0 to 16777216' train $text --experts 99999999
for word in nan inf 0x10 1e400 1e-400 -1 3x '' ' 3'; do
    try 2 'from 0 to 1e+06' train $text --lr "$word"
done
try 2 'less than 1' eval model $text --val-fraction 1
try 2 'best last' train $text --keep all
try 2 'begin with two dashes' train $text -steps 3
try 0 '^glam [0-9]' --version

# --- files: one file under two names, names that are taken, long ones ---------------------------
few="train $text $small --steps 2 --quiet"
mkdir "$work/same" "$work/empty"
cp $text "$work/same/book"
ln -s same "$work/link"
try 2 'same file' $few --out "$work/same/x" --checkpoint "$work/same/../link/./x"
try 2 'same file' $few --out "$work/same/x" --log "$work/link/x"
try 2 'same file' $few --out "$work/same/x" --checkpoint "$work/same/y" --log "$work/link/y"
try 2 'is the text' train "$work/same/book" $small --steps 2 --out "$work/link/book" --force
try 2 'is the text' train "$work/same/book" $small --steps 2 --out "$work/y" --log "$work/link/book" --force
try 2 'is the text' race "$work/same/book" $small --steps 2 --log "$work/link/book" --force
cmp -s $text "$work/same/book" && pass || fail "a text was overwritten"
[ "$(ls "$work/same")" = book ] && pass || { fail "a refused run leaves files"; ls "$work/same"; }
try 1 'is a folder; name the files' train "$work/empty" --out "$work/y"
try 1 'it is a folder' $few --out "$work/y" --log "$work/empty"
if mkfifo "$work/pipe" 2>/dev/null; then try 1 'no plain file' $few --out "$work/pipe" --force; fi
try 0 'saved' $few --out "$work/same/x"
try 2 'same file' train $text --from "$work/same/x" --steps 2 --out "$work/link/x"
try 2 'same file' train $text --from "$work/same/x" --steps 2 --out "$work/y" --log "$work/link/x" --force
try 0 'saved' train $text --from "$work/same/x" --steps 2 --out "$work/link/x" --force --quiet
: >"$work/same/left.safetensors"                    # a killed run leaves an empty file behind
try 0 'saved' $few --out "$work/same/left.safetensors"
long=$work
for i in 1 2 3 4 5 6; do long=$long/$(printf '%0200d' $i); done
if mkdir -p "$long" 2>/dev/null; then
    try 0 'saved' $few --out "$long/model.safetensors" --checkpoint "$long/x" --log "$long/log"
    [ -s "$long/model.safetensors" ] && [ -s "$long/x" ] && [ -s "$long/log" ] && pass ||
        fail "a long path is cut"
    try 0 'active' info "$long/model.safetensors"
fi
mkdir "$work/three"
for i in 1 2 3; do
    (cd "$work/three" && exec "$tool" train "$root/$text" $small --steps 30 --quiet --threads 1 \
        --checkpoint-every 15 >"out$i" 2>&1) &
done
wait
for name in model model-2 model-3; do
    [ -s "$work/three/$name.safetensors" ] && [ -s "$work/three/$name.checkpoint" ] && pass ||
        fail "three runs in one folder: no $name of its own"
done
[ "$(ls "$work/three" | wc -l)" -eq 9 ] && pass || { fail "three runs leave files"; ls "$work/three"; }
# the commands that are suggested can be pasted
mkdir "$work/it's a folder"
cp "$tool" "$work/it's a folder/gl am"
(cd "$work/it's a folder" && cp "$root/$text" ./-book && PATH=$PATH:. &&
    "./gl am" train $small --steps 2 --experts 0 -- -book >out && sed -n 's/^  //;/gl am.* eval /p' out >run && [ -s run ] &&
    sh ./run) >"$work/out" 2>&1 && grep -q 'bits per byte' "$work/out" && pass ||
    { fail "a suggested command"; cat "$work/out"; }
mkdir "$work/none"
(cd "$work/none" && "$tool" train "$root/$text" $small --steps 2 --top-k 9 >/dev/null 2>&1)
[ -z "$(ls "$work/none")" ] && pass || { fail "a run that failed leaves files"; ls "$work/none"; }

# --- texts: an empty file among others is named and left out ------------------------------------
try 0 'empty.txt is left out' train $text "$work/empty.txt" $other $small --steps 2 \
    --out "$work/left" --checkpoint "$work/left.checkpoint"
try 0 'short.txt.*none is drawn' train $text "$work/short.txt" $small --steps 2 --out "$work/left2"
try 0 'after 3 steps' train $text "$work/empty.txt" $other --resume "$work/left.checkpoint" \
    --steps 3 --out "$work/left3"
try 0 'trains .*(9.* %); 128 are frozen' train $other --from "$model" --freeze ' router ' \
    --steps 1 --out "$work/blank"
try 0 'saved' train $other --from "$model" --freeze 'experts, router' --steps 1 --out "$work/blank2"

# --- bf16, bf16_tiles: resumed, in the arithmetic of the file, to the bits of a run that was never stopped ----
for word in bf16 bf16_tiles; do
    narrow="train $text $small --arithmetic $word --val-fraction 0" to=$work/$word
    try 0 "$word" $narrow --steps 6 --out "$to"
    try 0 'after 3 steps' $narrow --steps 3 --out "$to.half" --checkpoint "$to.checkpoint"
    try 1 "multiplies in $word, this context in f32" train $text --resume "$to.checkpoint" --steps 6 \
        --arithmetic f32 --out "$to.wrong"
    try 0 "$word, threads 3" train $text --resume "$to.checkpoint" --steps 6 --threads 3 --out "$to.more"
    cmp -s "$to" "$to.more" && pass || fail "a run in $word resumes to other bits"
done

# --- resume: any fraction, any number of files --------------------------------------------------
mkdir "$work/many"
for i in $(seq 1 61 2>/dev/null); do head -c $((400 + 7 * i)) $other >"$work/many/$i"; done
if [ -s "$work/many/61" ]; then
    many="train $(echo "$work"/many/*)"
    check "61 files" "$tool" $many $small --steps 2 --val-fraction 0.1234567890123 --quiet \
        --out "$work/many.model" --checkpoint "$work/many.checkpoint"
    try 0 'after 3 steps' $many --resume "$work/many.checkpoint" --steps 3 --out "$work/many.more"
fi

# --- the best weights are saved, or the last, and the words say which ---------------------------
over="train $work/over.txt --layers 1 --experts 0 --d-model 32 --heads 2 --context 16 --batch 4"
head -c 400 $other >"$work/over.txt"
over="$over --lr 0.1 --eval-every 20 --val-fraction 0.2 --seed 2"
try 0 'the weights of the best validation, .* (the last have' $over --steps 120 --out "$work/best" --log "$work/best.jsonl"
told=$(sed -n 's/.*best validation, \([0-9.]*\) after.*/\1/p' "$work/out")
least=$(grep '"eval"' "$work/best.jsonl" | sed 's/.*"val_loss":\([0-9.]*\).*/\1/' | sort -n | head -1)
case $(printf '%.4f' "$least") in "$told") pass ;; *) fail "best $told, the log has $least" ;; esac
try 0 'it was best after step .*--keep best' $over --steps 120 --keep last --out "$work/last" --quiet
"$tool" eval "$work/best" "$work/over.txt" --val-fraction 0.2 >"$work/a" 2>&1
"$tool" eval "$work/last" "$work/over.txt" --val-fraction 0.2 >"$work/b" 2>&1
a=$(sed 's/.*loss \([0-9.]*\).*/\1/' "$work/a") b=$(sed 's/.*loss \([0-9.]*\).*/\1/' "$work/b")
[ "$(printf '%s\n%s\n' "$a" "$b" | sort -n | head -1)" = "$a" ] && [ "$a" != "$b" ] && pass ||
    fail "best $a, last $b"
try 0 'stopped, as it no longer gained' train "$work/over.txt" --from "$work/best" --steps 200 \
    --eval-every 5 --val-fraction 0.2 --lr 0.1 --out "$work/early"
grep -q 'the weights of the best validation' "$work/out" && pass || fail "early stop saves the last"

# ... of both parts of a run that was stopped: they are in a file beside the checkpoint
try 0 'the weights of the best validation' $over --steps 120 --out "$work/part" --checkpoint "$work/part.checkpoint"
more="train $work/over.txt --steps 140 --resume $work/part.checkpoint"
try 0 "the weights of the best validation, $told after" $more --out "$work/parts" --checkpoint "$work/parts.checkpoint"
cmp -s "$work/best" "$work/parts" && pass || fail "a resumed run saves other best weights than those of its first part"
cmp -s "$work/part.checkpoint.best" "$work/parts.checkpoint.best" && pass || fail "the second part has other best weights"
try 0 "the weights of the best validation, $told after" train "$work/over.txt" --steps 145 \
    --resume "$work/parts.checkpoint" --out "$work/parts.again"
cmp -s "$work/best" "$work/parts.again" && pass || fail "the best weights are lost in the third part"
try 0 'after 140 steps, validation' $more --keep last --out "$work/parts.last" --checkpoint "$work/parts.other"
[ ! -e "$work/parts.other.best" ] && pass || fail "--keep last keeps the best"
try 1 'part.checkpoint.best, beside --checkpoint, exists' $over --steps 2 --out "$work/x" --checkpoint "$work/part.checkpoint"
try 2 'are the same file' $over --steps 2 --out "$work/y.best" --checkpoint "$work/y"
cp "$work/part.checkpoint.best" "$work/part.best"
head -c 500 "$work/part.best" >"$work/part.checkpoint.best"
try 0 'not at hand: .*part.checkpoint.best' $more --out "$work/parts.cut"
rm "$work/part.checkpoint.best"
try 0 'not at hand: .* is not there' $more --out "$work/parts.gone"
try 0 saved $(echo "$over" | sed "s/--lr 0.1/--lr 0.2/") --steps 80 --out "$work/hot" --checkpoint "$work/part.lr" --quiet
cp "$work/part.lr.best" "$work/part.checkpoint.best"
try 0 'not at hand: .* is of another run' $more --out "$work/parts.lr"

# --- weights that are no numbers -----------------------------------------------------------------
if command -v python3 >/dev/null 2>&1; then
    python3 - "$model" "$work/nan" <<'PYTHON'
import json, struct, sys
data = bytearray(open(sys.argv[1], "rb").read())
size = struct.unpack("<Q", data[:8])[0]
head = data[8:8 + size]
at = head.index(b'"glam.checksum":"') + len(b'"glam.checksum":"')
head[at:at + 17] = b'none"' + b' ' * 12
data[8:8 + size] = head
begin = json.loads(head)["norm"]["data_offsets"][0]
data[8 + size + begin:8 + size + begin + 4] = struct.pack("<f", float("nan"))
open(sys.argv[2], "wb").write(data)
head = json.loads(head)                  # a file of 270 KB that asks for rows of 16 million tokens
config = json.loads(head["__metadata__"]["glam.config"])
config["context"] = 16000000
head["__metadata__"]["glam.config"] = json.dumps(config)
text = json.dumps(head).encode()
text += b" " * (-len(text) % 8)
open(sys.argv[2] + "-long", "wb").write(struct.pack("<Q", len(text)) + text + data[8 + size:])
PYTHON
    try 0 'adafactor, 1 x 16000000 tokens' info "$work/nan-long"
    try 1 'not finite' eval "$work/nan" $text
    try 1 'not finite' generate "$work/nan" --tokens 3
    try 1 'not finite' route "$work/nan" abc
    try 1 'not finite' train $text --from "$work/nan" --steps 1 --out "$work/y"
    try 0 'active' info "$work/nan"
fi
try 0 'bits per byte' eval "$model" $text --threads 1
try 0 '.' generate "$model" --tokens 3 --threads 1

# --- what a prompt is: bytes, into the model and out of it ----------------------------------------
prompt=$(printf 'h\303\251 \377\r\033[31m\a x')
printf '%s' "$prompt" >"$work/a"
"$tool" generate "$model" --prompt "$prompt" --tokens 0 >"$work/b"
check "a prompt into a file, byte for byte" cmp "$work/a" "$work/b"
"$tool" generate "$model" --prompt "$prompt" --tokens 30 --seed 2 >"$work/b"
[ "$(wc -c <"$work/b")" -eq $(($(wc -c <"$work/a") + 30)) ] && pass || fail "text into a file, byte for byte"
if command -v python3 >/dev/null 2>&1; then
    check "a terminal" python3 - "$tool" "$model" <<'PYTHON'
import os, pty, subprocess, sys
def on_terminal(prompt, tokens="0", **env):
    master, slave = pty.openpty()
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM", "LC_ALL", "LC_CTYPE", "LANG")}
    p = subprocess.Popen([sys.argv[1].encode(), b"generate", sys.argv[2].encode(), b"--tokens", tokens.encode(),
                          b"--prompt", prompt], stdout=slave, env={**clean, **env})
    os.close(slave)
    out = b""
    while True:
        try: more = os.read(master, 4096)
        except OSError: break
        if not more: break
        out += more
    assert p.wait() == 0
    return out.replace(b"\r\n", b"\n")
text = "h\u00e9 \u65e5\u672c \U0001f600".encode()
assert on_terminal(text, LANG="C.UTF-8", TERM="xterm") == text + b"\n"
assert on_terminal(text, LANG="en_GB.utf8", NO_COLOR="1", TERM="xterm") == text + b"\n"
nasty = b"a\xff\r\x1b[31m\x07\xc2\x9bz\xe6\x97"
shown = on_terminal(nasty, LANG="C.UTF-8", TERM="dumb")
assert shown == b"a\xef\xbf\xbd\\r\\x1b[31m\\x07\\xc2\\x9bz\xef\xbf\xbd\xef\xbf\xbd\n", shown
assert on_terminal(text, LANG="C", TERM="xterm") == b"h\\xc3\\xa9 " + b"".join(b"\\x%02x" % c for c in
    "\u65e5\u672c".encode()) + b" \\xf0\\x9f\\x98\\x80\n"
for term in "dumb", "xterm":
    shown = on_terminal(b"x", "200", LANG="C", TERM=term)
    assert all(c == 10 or c == 9 or 32 <= c < 127 for c in shown), shown
PYTHON
fi

# --- a full disk, a closed pipe, a folder that goes away -------------------------------------------
if [ -e /dev/full ]; then
    for what in "generate $model --tokens 3" "eval $model $text" "info $model" "route $model abc" "help" \
        "help train"; do
        "$tool" $what >/dev/full 2>"$work/out"
        [ $? -eq 1 ] && grep -q 'standard output cannot be written' "$work/out" && pass ||
            { fail "$what into a full disk"; cat "$work/out"; }
    done
    "$tool" $few --out "$work/y" --log /dev/full >"$work/out" 2>&1
    [ $? -eq 1 ] && [ -s "$work/y" ] && grep -q 'has no more lines' "$work/out" && pass ||
        { fail "a log on a full disk"; cat "$work/out"; }
    "$tool" train $text $small --steps 2 --out "$work/z" >/dev/full 2>"$work/out"
    [ $? -eq 1 ] && [ -s "$work/z" ] && grep -q 'standard output' "$work/out" && pass ||
        { fail "train into a full disk"; cat "$work/out"; }
fi

# steps_in LOG N: waits until the log has N steps
steps_in() {
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
        [ "$(grep -c '"event":"step"' "$1" 2>/dev/null)" -ge "$2" ] 2>/dev/null && return
        sleep 0.2 2>/dev/null || sleep 1
    done
}
slow="train $text $small --batch 8 --threads 1 --eval-every 0"
mkdir "$work/kept"
# loses OPTION...: a run whose folder "gone" is removed after a few steps; ends with its status
loses() {
    rm -f "$work/gone.jsonl"
    mkdir "$work/gone"
    "$tool" $slow --steps 1000 "$@" --checkpoint-every 50 --log "$work/gone.jsonl" --quiet >"$work/out" 2>&1 &
    victim=$!
    steps_in "$work/gone.jsonl" 5
    rm -r "$work/gone"
    wait $victim
}
loses --out "$work/gone/x.safetensors" --checkpoint "$work/kept/x"
[ $? -eq 1 ] && [ -s "$work/kept/x.safetensors" ] && [ -s "$work/kept/x" ] &&
    tail -1 "$work/out" | grep -q 'the model is in .*kept/x.safetensors' && pass ||
    { fail "the folder of --out went away"; cat "$work/out"; }
grep -q "\"saved\":\"$work/kept/x.safetensors\"" "$work/gone.jsonl" && pass || fail "the log says where it is"
loses --out "$work/kept/y.safetensors" --checkpoint "$work/gone/y"
[ $? -eq 1 ] && [ -s "$work/kept/y.safetensors" ] && grep -q 'the run goes on' "$work/out" &&
    tail -1 "$work/out" | grep -q 'the checkpoint is in .*kept/y' && pass ||
    { fail "the folder of --checkpoint went away"; cat "$work/out"; }
# files may have 360 KB: the model has fewer, a checkpoint more
(ulimit -f 700 && exec "$tool" $few --out "$work/fits" --checkpoint "$work/much" --checkpoint-every 1) \
    >"$work/out" 2>&1
[ $? -eq 1 ] && [ -s "$work/fits" ] && [ ! -e "$work/much" ] && grep -q 'the run goes on' "$work/out" &&
    pass || { fail "a checkpoint that is too large"; cat "$work/out"; }
(cd "$work/none" && ulimit -f 300 && TMPDIR=$work/none exec "$tool" train "$root/$text" $small --steps 2) \
    >"$work/out" 2>&1
[ $? -eq 1 ] && [ -z "$(ls "$work/none")" ] && tail -1 "$work/out" | grep -q 'could not be written anywhere' &&
    pass || { fail "a model that is too large for every place"; cat "$work/out"; ls "$work/none"; }
try 1 'are saved in' $few --lr 1e6 --optimizer adamw --steps 40 --out "$work/wild"
"$tool" $slow --steps 30 --out "$work/piped" --log "$work/piped.jsonl" 2>"$work/out" | head -1 >/dev/null
[ -s "$work/piped" ] && grep -q '"event":"done"' "$work/piped.jsonl" && pass || fail "train | head"
"$tool" $slow --steps 2 --out "$work/shut" --log "$work/shut.jsonl" >&- 2>"$work/out"
[ $? -eq 0 ] && ! grep -q saves "$work/shut" "$work/shut.jsonl" && pass || fail "closed output goes into a file"

# --- signals ----------------------------------------------------------------------------------------
# stop SIGNAL STATUS: a run is stopped by it, and can be gone on with
stop() {
    rm -f "$work/sig"*
    "$tool" $slow --steps 100000 --out "$work/sig" --log "$work/sig.jsonl" >"$work/sig.out" 2>&1 &
    victim=$!
    steps_in "$work/sig.jsonl" 3
    try 1 'another run is writing it' $few --out "$work/sig" --force
    try 1 'another run is writing it' $few --out "$work/y" --force --log "$work/sig.jsonl"
    kill -$1 $victim
    wait $victim
    got=$?
    [ $got -eq $2 ] && [ -s "$work/sig.checkpoint" ] && [ ! -e "$work/sig" ] &&
        grep -q 'to go on' "$work/sig.out" && pass || { fail "SIG$1: status $got"; tail -3 "$work/sig.out"; }
}
stop HUP 129
stop TERM 143
# stopped when the best weights are not the last: both are saved
"$tool" $over --steps 100000 --threads 1 --out "$work/risen" --log "$work/risen.jsonl" >"$work/out" 2>&1 &
victim=$!
steps_in "$work/risen.jsonl" 75
kill -TERM $victim
wait $victim
[ $? -eq 143 ] && [ -s "$work/risen" ] && [ -s "$work/risen.checkpoint" ] &&
    grep -q 'the best weights, after step .* are in .*risen$' "$work/out" &&
    ! grep -q -e '--resume.*--out' "$work/out" && pass || { fail "the best weights of a run that is stopped"; tail "$work/out"; }
# killed without a word: those that the last checkpoint knew
"$tool" $over --steps 100000 --checkpoint-every 30 --out "$work/slain" --log "$work/slain.jsonl" >"$work/out" 2>&1 &
victim=$!
steps_in "$work/slain.jsonl" 200
kill -9 $victim
wait $victim 2>/dev/null
behind=$("$tool" train "$work/over.txt" --resume "$work/slain.checkpoint" --steps 1 --out "$work/x" 2>&1 |
    sed -n 's/.*the run has \([0-9]*\) behind it.*/\1/p')
try 0 "the weights of the best validation, $told after" train "$work/over.txt" --resume "$work/slain.checkpoint" \
    --steps $((${behind:-0} + 20)) --out "$work/slain"
cmp -s "$work/best" "$work/slain" && pass || fail "the best weights of a run that was killed"
(trap '' HUP INT; exec "$tool" $slow --steps 800 --out "$work/deaf" --log "$work/deaf.jsonl") >"$work/out" 2>&1 &
victim=$!
steps_in "$work/deaf.jsonl" 3
kill -HUP $victim
kill -INT $victim
wait $victim
[ $? -eq 0 ] && [ -s "$work/deaf" ] && pass || { fail "a signal that is ignored stops the run"; tail -3 "$work/out"; }
# commands that save leave half of nothing: killed at moments that cover the whole of each
try 0 saved train $text --family llama --layers 2 --d-model 512 --heads 8 --context 16 --batch 1 --steps 1 --out "$work/wide"
try 0 'saved' export "$work/wide" --out "$work/wide.folder"
try 0 '' import "$work/wide.folder" --out "$work/wide.back"
leaves_nothing()
{
    ended=0 whole=0
    for moment in 01 02 04 06 08 10 12 15 18 22 26 30 35 40 50 60 80 99; do
        mkdir "$work/rest"
        "$tool" "$@" "$work/rest/made" >"$work/out" 2>&1 &
        victim=$!
        sleep 0.$moment
        kill -TERM $victim 2>/dev/null
        wait $victim 2>/dev/null
        case $? in 143) ended=$((ended + 1)) ;; 0) whole=$((whole + 1)) ;; *) fail "$1, killed: $(tail -1 "$work/out")" ;; esac
        left=$(find "$work/rest" -name '*.part' -o -name '*.tmp' -o -type f -size 0)
        [ -z "$left" ] || { fail "$1, killed after 0.$moment s, leaves $left"; }
        rm -r "$work/rest"
    done
    [ $ended -gt 0 ] && pass || fail "$1: never killed in time ($whole whole)"
}
leaves_nothing export "$work/wide" --out
leaves_nothing import "$work/wide.folder" --out
if command -v python3 >/dev/null 2>&1; then
    check "the terminal is closed" python3 - "$tool" "$work" $text <<'PYTHON'
import os, pty, sys, time
tool, work, text = sys.argv[1:]
pid, master = pty.fork()
if pid == 0:
    os.execv(tool, [tool, "train", text, "--layers", "2", "--d-model", "32", "--heads", "2", "--steps", "100000",
                    "--eval-every", "0", "--out", work + "/lid", "--log", work + "/lid.jsonl"])
for i in range(500):
    if os.path.exists(work + "/lid.jsonl") and open(work + "/lid.jsonl").read().count('"step"') > 4: break
    time.sleep(0.02)
os.close(master)
status = os.waitpid(pid, 0)[1]
assert os.WIFEXITED(status) and os.WEXITSTATUS(status) == 129, status
assert os.path.getsize(work + "/lid.checkpoint") > 0
PYTHON
    check "Ctrl-C, once and twice" python3 - "$tool" "$work" $text <<'PYTHON'
import os, signal, subprocess, sys, time
tool, work, text = sys.argv[1:]
signal.signal(signal.SIGINT, signal.SIG_DFL)           # jobs in a shell's background begin with it ignored
p = subprocess.Popen([tool, "train", text, "--layers", "2", "--d-model", "32", "--heads", "2", "--steps", "100000",
                      "--out", work + "/once.model", "--log", work + "/once.jsonl", "--eval-every", "0"],
                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
for i in range(500):
    if os.path.exists(work + "/once.jsonl") and open(work + "/once.jsonl").read().count('"step"') > 4: break
    time.sleep(0.02)
p.send_signal(signal.SIGINT)
told = p.communicate(timeout=120)[0].decode()
assert p.returncode == 130 and "to go on" in told, (p.returncode, told)
assert os.path.getsize(work + "/once.model.checkpoint") > 0 and not os.path.exists(work + "/once.model")
p = subprocess.Popen([tool, "train", text, "--d-model", "768", "--layers", "8", "--batch", "64", "--out", work + "/twice.model",
                      "--steps", "9"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
for i in range(300):
    if os.path.exists(work + "/twice.model"): break
    time.sleep(0.02)
time.sleep(0.5)
p.send_signal(signal.SIGINT)
time.sleep(0.1)
p.send_signal(signal.SIGINT)
told = p.communicate()[1].decode()
assert p.returncode in (-2, 130), p.returncode
assert "once more ends at once" in told, told
assert "ended at once" in told or "before the first step" in told, told
assert not os.path.exists(work + "/twice.model") and not os.path.exists(work + "/twice.model.checkpoint")
PYTHON
fi

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
