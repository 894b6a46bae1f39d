#!/bin/sh
# tool_plan.sh - tests of the command plan, and of energy in train and race, from the outside.
#
#     sh tests/tool_plan.sh PATH-OF-THE-BUILT-TOOL        last line "N passed, N failed"

. "$(dirname "$0")/tooling.sh"

# --- the paper's table, published systems, devices ------------------------------------------
try 0 '^64B/64E  *1,161,756,418,048 .* 96,604,528,640 *96.6B *+0.00%' plan
also '^1.7B/32E  *13,957,969,920 *20B *-30.21%'                # a misprint, and shown as one
also '^0.1B/64E  *1,907,612,928 .* 152,296,704 '
also '^GLaM 64B/64E.* 7.74 s *5.8[0-9]* to *8.1[0-9]* s *yes'
also '^GShard 600B.* x  paper'
also '212.7 MWh (printed'
also '455.8 MWh (printed 456), 35.4 %'
also '^tpuv4 .* 326 '

# --- one model ------------------------------------------------------------------------------
try 0 'paper prints 96.6 billion' plan 64B/64E --mesh 64x16 --mesh-store --batch 1024 --recompute \
    --device tpuv4
also '^time  *5.82 to 8.15 s a step of 1,048,576 tokens; longest: compute'
also 'sums over the model axis .* 242 GB sent'
also 'rows to experts and back .* of each of 32 mixtures'
also 'weights gathered .* of each of 64 layers'
also "^holds .* of a device's 32.0 GB"
try 0 'does not fit' plan 64B/64E --mesh 64x4 --mesh-store --batch 1024 --recompute --device tpuv4
try 0 'adamw, 64 x 512 tokens' plan 1.7B --batch 64 --context 512 --optimizer adamw
also -- '--device NAME plans it'
try 2 '--batch 100: a whole number of sequences for each of 64' plan 8B/64E --mesh 64x1 --batch 100
try 2 'XxY is wanted' plan 8B/64E --mesh 64
try 2 '--mesh-store wants a --mesh' plan 8B --mesh-store
try 2 'one of adafactor adamw' plan 8B --optimizer sgd
try 2 'did you mean 64B/64E' plan 64B/46E
try 2 'one preset or model' plan 8B 137B
try 2 'did you mean --device' plan 8B --devise h100
try 1 'neither a device nor a file' plan 8B --device abacus
try 0 'glam plan \[PRESET\|plan \[PRESET' plan --help

# a saved model is planned like a preset
text=examples/02_autograd.c
small="--layers 2 --moe-every 2 --d-model 32 --heads 2 --experts 4 --context 32 --batch 4 --threads 1"
# shellcheck disable=SC2086
try 0 'J (FLOPs at 0.1 J for 1e9)' train $text $small --steps 4 --val-fraction 0 \
    --out "$work/m.safetensors" --log "$work/log.jsonl"
active=$("$tool" info "$work/m.safetensors" | sed -n 's/^active *\([0-9]*\).*/\1/p')
"$tool" plan "$work/m.safetensors" >"$work/out" 2>&1
if [ "$(sed -n 's/^active *\([0-9,]*\) param.*/\1/p' "$work/out" | tr -d ,)" = "$active" ]; then pass
else fail "plan and info count differently"; fi

# --- a device of one's own ------------------------------------------------------------------
printf '# mine\nflops 1e12\neta 0.5\nmemory 1e6\n' >"$work/mine"
try 0 '^device .*mine: from a file; 1e+12 FLOP/s' plan 0.1B --device "$work/mine"
also 'does not fit'
printf 'flops 1e12\nflop 3\n' >"$work/wrong"
try 1 'wrong:2: there is no field flop' plan 0.1B --device "$work/wrong"
printf 'flops many\n' >"$work/wrong"
try 1 'wrong:1: a field and a number' plan 0.1B --device "$work/wrong"
printf 'flops 0\n' >"$work/wrong"
try 1 'must be more than 0' plan 0.1B --device "$work/wrong"
try 2 'afterwards' plan 0.1B --calibrate "$work/here"
try 1 'exists already' plan --calibrate "$work/mine"
try 1 'cannot be written' plan --calibrate "$work/none/here"

# --- joules: the figure, or counters that another process turns ------------------------------
log() { tail -1 "$work/log.jsonl" | sed -n "s/.*\"$1\":\\([^,}]*\\).*/\\1/p"; }
if [ -n "$(log flops)" ] && awk "BEGIN { exit !(($(log joules) - 1e-10 * $(log flops))^2 < 1e-12) }"; then pass
else fail "joules are not the figure times FLOPs"; fi
# shellcheck disable=SC2086
"$tool" train $text $small --steps 4 --val-fraction 0 --joules-per-gflop 5 --out "$work/m.safetensors" \
    --force --log "$work/log.jsonl" --quiet >/dev/null 2>&1
if awk "BEGIN { exit !(($(log joules) / (5e-9 * $(log flops)) - 1)^2 < 1e-9) }"; then pass
else fail "--joules-per-gflop"; fi
mkdir -p "$work/cap/intel-rapl:0"
echo package-0 >"$work/cap/intel-rapl:0/name"
echo 262143328850 >"$work/cap/intel-rapl:0/max_energy_range_uj"
echo 262143000000 >"$work/cap/intel-rapl:0/energy_uj"
( sleep 0.3; echo 671149 >"$work/cap/intel-rapl:0/turned"
  mv "$work/cap/intel-rapl:0/turned" "$work/cap/intel-rapl:0/energy_uj" ) &
# shellcheck disable=SC2086
"$tool" train $text $small --steps 150 --val-fraction 0 --powercap "$work/cap" --out "$work/m.safetensors" \
    --force --log "$work/log.jsonl" >"$work/out" 2>&1
wait
also 'J (counted by the machine)'
if grep -q '"energy":"rapl"' "$work/log.jsonl"; then pass; else fail "the log does not say rapl"; fi
case $(log joules) in
1|1.0*|0.99999*|0) pass ;;           # 0: the run was over first
*) fail "a counter that began again: $(log joules) J" ;;
esac
# shellcheck disable=SC2086
"$tool" race $text $small --steps 6 --log "$work/log.jsonl" >"$work/out" 2>&1
also '^energy .* J .* J   FLOPs at 0.1 J for 1e9'
if grep -q '"energy_share":' "$work/log.jsonl"; then pass; else fail "race logs no energy_share"; fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
