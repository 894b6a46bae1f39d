#!/bin/sh
# study.sh - tests of bench/study.sh: kills, files, fair twins.
#
#     sh tests/study.sh PATH-OF-BENCH/STUDY.C-BUILT        last line "N passed, N failed"

. "$(dirname "$0")/tooling.sh"
study_program=$tool

# killed over and over, it finds what it finds undisturbed
cat examples/*.c >"$work/text"
plain() {
    # neither the clock nor what loading a checkpoint took
    cat "$1"/*.jsonl | grep -v '"checkpoint"' |
        sed 's/"cpu_seconds":[^,]*,"seconds":[^,]*,//; s/,"peak_bytes":[0-9]*//' | cksum
}
study="sh bench/study.sh tiny --novels $work/text --plays $work/text"
mkdir "$work/once" "$work/often"
cp "$study_program" "$work/once/study"
check "study" $study --out "$work/once" --jobs 2
grep -q '^\([0-9]*\) of \1 runs' "$work/out" && pass || fail "study: not all runs"
cp "$work/once/study" "$work/often/study"
i=0
while [ $i -lt 6 ]; do
    "$work/often/study" run tiny "$work/often" --novels "$work/text" --plays "$work/text" >>"$work/runs" 2>&1 &
    pid=$!
    sleep 0.2
    kill -9 $pid 2>/dev/null
    wait $pid 2>/dev/null
    i=$((i + 1))
done
check "study after kills" "$work/often/study" run tiny "$work/often" --novels "$work/text" --plays "$work/text"
if [ "$(plain "$work/once")" = "$(plain "$work/often")" ]; then pass; else fail "kills changed the study"; fi
if ls "$work/often"/*.checkpoint >/dev/null 2>&1; then fail "a checkpoint stays"; else pass; fi
for file in study.md study.json study_tokens.svg study_experts.svg study_cost.svg study_changes.svg study_flops.svg; do
    [ -s "$work/once/$file" ] && pass || fail "study makes no $file"
done
for twin in dense e4 e64; do         # the same work, and both counts told
    grep -q "\"id\":\"novels-small-$twin-s1\".*\"active\":160560,\"flops_forward\":368640" "$work/once/study.json" &&
        pass || fail "study: $twin is no fair twin"
done
check "study page" sh bench/study.sh page tiny --out "$work/once"
if sh bench/study.sh tiny --novels "$work/none" --plays "$work/text" --out "$work/x" >"$work/out" 2>&1; then
    fail "study without a text"
else also 'none cannot be read'; fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
