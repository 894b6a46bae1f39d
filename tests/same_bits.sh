#!/bin/sh
# Whether a change has left every bit as it was: short runs of all recipes, positions, capacities and
# meshes, on each instruction set of this machine, with the header of an older revision and with this one.
#
#   sh tests/same_bits.sh REVISION       for example: sh tests/same_bits.sh HEAD~1
#
# The last line is "N passed, N failed" over the instruction sets, and the exit status is the truth.
set -u
cd "$(dirname "$0")/.." || exit 1
[ $# = 1 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2; }
CC=${CC:-cc}
work=$(mktemp -d "${TMPDIR:-/tmp}/glam_same.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
git show "$1:glam.h" >"$work/before.h" || exit 1
cp glam.h "$work/after.h"
openmp=""
printf 'int main(void) { return 0; }\n' >"$work/probe.c"
$CC -fopenmp "$work/probe.c" -o "$work/probe" 2>/dev/null && openmp=-fopenmp
older=""
grep -q 'float \*gate; *// \[T,k\]\|\*gate;  *// \[T,k\] weight' "$work/before.h" && older=-DROUTED_WEIGHT=gate
for which in before after; do
    lacks=""
    grep -q GLAM_POSITION_ROTARY "$work/before.h" || lacks=-DMESH_WITHOUT_ROTARY
    grep -q glam_router_score "$work/before.h" || lacks="$lacks -DMESH_WITHOUT_ROUTERS"
    grep -q GLAM_BF16 "$work/before.h" || lacks="$lacks -DWITHOUT_ARITHMETIC"
    grep -q GLAM_BF16_TILES "$work/before.h" || lacks="$lacks -DWITHOUT_TILES"
    [ $which = before ] && lacks="$lacks $older"
    $CC -std=c99 -O2 $openmp $lacks -pthread "-DGLAM_HEADER=\"$work/$which.h\"" tests/same_bits.c \
        -o "$work/$which" -lm || { echo "$which: does not compile"; echo "0 passed, 1 failed"; exit 1; }
done
passed=0
failed=0
for simd in base sse2 avx2 avx512 neon; do
    "$work/after" $simd 2>&1 | head -n 1 | grep -q failed && continue      # not on this machine
    "$work/before" $simd >"$work/before.txt" 2>&1
    "$work/after" $simd >"$work/after.txt" 2>&1
    if [ ! -s "$work/after.txt" ] || grep -q failed "$work/after.txt"; then
        echo "$simd: FAILED (a run failed)"
        grep failed "$work/after.txt" | head -n 5
        failed=$((failed + 1))
    elif cmp -s "$work/before.txt" "$work/after.txt"; then
        echo "$simd: ok ($(wc -l <"$work/after.txt" | tr -d ' ') runs)"
        passed=$((passed + 1))
    else
        echo "$simd: FAILED"
        diff "$work/before.txt" "$work/after.txt" | head -n 20
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
