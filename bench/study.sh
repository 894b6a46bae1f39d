#!/bin/sh
# study.sh [10min|hour|night] --novels FILE --plays FILE [--out DIR] [--jobs N] [--threads N]
#          [--powercap FOLDER] [--joules-per-gflop J]
#
# The paper in miniature: mixtures of 4 to 64 experts, top 2, against dense models whose tokens cost
# the same, on two texts; and one change at a time (balance loss, experts, positions, optimiser,
# places, capacity).  DIR (build/study/MODE, which git ignores) gets a file of JSON lines for each
# run, study.json with all of them, plots as SVG and study.md: tables, and what agrees with the
# paper.  Needs a C compiler and no package.
#
# The modes take about 13 minutes, an hour and a night on two quiet cores; budgets are tokens, so a
# busy machine takes longer and finds the same losses.  Killed, it goes on where it was when called
# again; `study.sh page MODE --out DIR` makes the page of what there is so far.  --jobs processes
# (default: one a core; one where the machine counts its joules, which belong to all) share the work.
# CC and CFLAGS are honoured.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mode=10min out= jobs= novels= plays= page=
usage() { sed -n '2,17s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ "${1:-}" = page ] && { page=yes; shift; }
case ${1:-} in -*|'') ;; *) mode=$1; shift ;; esac
powercap=/sys/class/powercap
more=
while [ $# -gt 0 ]; do
    [ $# -gt 1 ] || usage
    case $1 in
        --novels) novels=$2 ;;
        --plays) plays=$2 ;;
        --out) out=$2 ;;
        --jobs) jobs=$2 ;;
        --powercap) powercap=$2 ;;
        --threads|--joules-per-gflop) more="$more $1 $2" ;;
        *) usage ;;
    esac
    shift 2
done
out=${out:-$here/../build/study/$mode}
mkdir -p "$out"
newest=$(ls -t "$out/study" "$here"/study*.[ch] "$here/plot.h" "$here/../examples/glam_energy.h" \
    "$here/../glam.h" 2>/dev/null | head -1)
if [ "$newest" != "$out/study" ]; then
    ${CC:-cc} ${CFLAGS:--O2} "$here/study.c" -o "$out/study.tmp.$$" -lm
    mv "$out/study.tmp.$$" "$out/study"               # one that runs keeps its own
fi
[ -n "$page" ] && exec "$out/study" page "$mode" "$out"
for file in "$novels" "$plays"; do
    [ -n "$file" ] || usage
    [ -r "$file" ] || { echo "study.sh: $file cannot be read" >&2; exit 1; }
done
if [ -z "$jobs" ]; then
    jobs=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
    cat "$powercap"/intel-rapl:0/energy_uj >/dev/null 2>&1 && jobs=1
fi
pids=
trap 'kill $pids 2>/dev/null; exit 130' INT TERM
i=0
while [ "$i" -lt "$jobs" ]; do
    # shellcheck disable=SC2086
    "$out/study" run "$mode" "$out" --novels "$novels" --plays "$plays" --powercap "$powercap" $more &
    pids="$pids $!"
    i=$((i + 1))
done
failed=0
for pid in $pids; do wait "$pid" || failed=1; done
"$out/study" page "$mode" "$out"
exit $failed
