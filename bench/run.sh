#!/bin/sh
# run.sh [quick|full] [--out DIR] [--threads N] [--arithmetic NAME] [ROW|GROUP ...] - builds the
# benchmark and runs it.
#
#   quick   the default: about two minutes;  full: every row, more samples, about half an hour
#   GROUP   machine products layers steps decode growth costs; ROW: what bench --list shows
#   bf16    in place of other groups: ours in f32 and in bf16 and PyTorch in bf16, in turn, of the
#           steps and products named beside it (none: nano, nano-moe, small, small-moe8 and
#           squares of 256 to 2048, about seven minutes with PyTorch)
#   --out   where tables, plots and raw numbers go (default build/bench, which git ignores)
#   --threads  the most to use (default: all cores; one thread is always measured beside it)
#   --arithmetic  f32, bf16, bf16_tiles or auto: what products multiply; of either bf16 PyTorch's
#           multiply bf16 too (default f32)
#
# Tables are Markdown, on stdout and in DIR/report.md.  With python3, bench/report.py drives it
# all: peers interleaved with ours, shares of the machine's limits, plots.  Without, our own rows
# are printed as they are.  CC and CFLAGS are honoured; BENCH_PYTHON names another python3 (one
# that has torch), "none" does without.  Nothing here is a test: the machine should be idle, and of
# all numbers only ratios within one table are comparable.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$here/../build/bench
how=quick
case ${1:-} in quick|full) how=$1; shift ;; esac
rows= threads= arithmetic=f32
while [ $# -gt 0 ]; do
    case $1 in
        --out) out=$2; shift ;;
        --threads) threads=$2; shift ;;
        --arithmetic) arithmetic=$2; shift ;;
        -*) sed -n '2,21s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
        *) rows="$rows $1" ;;
    esac
    shift
done
case $arithmetic in
    f32|bf16|bf16_tiles|auto) ;;
    *) echo "run.sh: --arithmetic takes f32, bf16, bf16_tiles or auto" >&2; exit 2 ;;
esac
mkdir -p "$out"
out=$(cd "$out" && pwd)
CC=${CC:-cc}
GLAM_H=$here/../glam.h
export CC GLAM_H
for flags in "-fopenmp -ldl" "-fopenmp" "-ldl" ""; do      # what this system needs and has
    # shellcheck disable=SC2086
    if $CC ${CFLAGS:--O2} ${flags%-ldl} "$here/bench.c" -o "$out/bench" -lm \
        $(case $flags in *-ldl) echo -ldl ;; esac) 2>"$out/compiler.txt"; then
        built=yes
        break
    fi
done
[ "${built:-}" ] || { cat "$out/compiler.txt" >&2; exit 1; }
python=${BENCH_PYTHON:-python3}
if [ "$python" != none ] && command -v "$python" >/dev/null 2>&1; then
    # shellcheck disable=SC2086
    exec "$python" "$here/report.py" "$how" --bench "$out/bench" --out "$out" \
        --arithmetic "$arithmetic" ${threads:+--threads "$threads"} $rows
fi
echo "(no python3: our own rows only)"
set -- --arithmetic "$arithmetic"
[ "$how" = full ] && set -- "$@" --full
[ "$threads" ] && set -- "$@" --threads "$threads"
# shellcheck disable=SC2086
"$out/bench" "$@" $rows | tee "$out/report.md"
