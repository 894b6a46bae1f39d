#!/bin/sh
# report_page.sh - makes pages of `glam report` from models that it trains, and uses them in Chromium.
#
#     sh tests/report_page.sh PATH-OF-THE-BUILT-TOOL CHROMIUM        last line "N passed, N failed"

case $1 in /*) tool=$1 ;; *) tool=$PWD/$1 ;; esac
chromium=$2
cd "$(dirname "$0")/.." || exit 1
work=$(mktemp -d "${TMPDIR:-/tmp}/glam-page.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
export OMP_WAIT_POLICY
passed=0 failed=0

# page NAME ARGUMENTS...: the page of a model, used
page()
{
    name=$1
    shift
    if ! "$tool" report "$@" --out "$work/$name.html" >"$work/out" 2>&1; then
        failed=$((failed + 1))
        echo "FAILED: no page of $name"
        tail -3 "$work/out"
        return
    fi
    node tests/report_page.mjs "$chromium" "$work/$name.html" >"$work/out" 2>&1
    sed '$d' "$work/out" | sed "s/^/$name: /"
    set -- $(tail -n 1 "$work/out")
    case "$2 $4" in
    "passed, failed") passed=$((passed + $1)) failed=$((failed + $3)) ;;
    *) failed=$((failed + 1)); echo "FAILED: $name: $*" ;;
    esac
}

# learn NAME OPTIONS...: a model that has begun to learn the texts of this folder
learn()
{
    name=$1
    shift
    "$tool" train examples/*.h --context 64 --batch 8 --eval-every 50 --quiet --out "$work/$name" --log "$work/$name.jsonl" "$@"
}

learn mixture --steps 150 || exit 1
learn dense --steps 150 --dense || exit 1
learn crowded --steps 60 --layers 2 --d-model 48 --experts 16 --top-k 1 --normalise none --capacity 1 --aux 0 || exit 1
learn chosen --steps 20 --layers 2 --d-model 48 --router expert_choice || exit 1
page mixture "$work/mixture" examples/glam_show.h tests/README.md --log "$work/mixture.jsonl" --dense-log "$work/dense.jsonl"
page crowded "$work/crowded" 'A short text: naïve, 中文.
' --log "$work/crowded.jsonl"
page chosen "$work/chosen" examples/glam_show.h

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
