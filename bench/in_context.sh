#!/bin/sh
# in_context.sh - does a small model learn to learn from examples?  A mixture and its dense twin of the
# same work per token read the same episodes (bench/in_context.c), and are asked about rules that they
# never saw, after 0, 1, 2, 4 and 7 solved rows.
#
#   sh bench/in_context.sh [STEPS [SEED]]        6000 steps, 4.6 million bytes, by default
#
# Everything goes into build/in_context, models and logs included; what is there already is used again.
set -eu
cd "$(dirname "$0")/.."
steps=${1:-6000} seed=${2:-1}
to=build/in_context/$steps-$seed
CC=${CC:-cc}
mkdir -p "$to"
$CC -O2 bench/in_context.c -o build/in_context/make -lm
$CC -O2 -fopenmp examples/glam.c -o build/in_context/glam -lm 2>/dev/null ||
    $CC -O2 examples/glam.c -o build/in_context/glam -lm
build/in_context/make "$to" "$seed"

for model in mixture dense; do
    [ -s "$to/$model.safetensors" ] && continue
    dense=
    [ $model = dense ] && dense=--dense
    # shellcheck disable=SC2086
    build/in_context/glam train "$to/train.txt" $dense --layers 3 --d-model 64 --heads 4 --context 96 \
        --batch 8 --optimizer adamw --lr 0.003 --steps "$steps" --seed "$seed" --eval-every 500 \
        --quiet ${THREADS:+--threads "$THREADS"} --out "$to/$model.safetensors" --log "$to/$model.log" --force
    build/in_context/glam info "$to/$model.safetensors" | sed -n 's/^total/'"$model"': total/p; s/^active/    active/p'
done

printf '\n%-8s %6s  %7s %7s %7s %7s\n' model shots letters places sums all
for model in mixture dense; do
    for shots in 0 1 2 4 7; do
        build/in_context/glam eval "$to/$model.safetensors" --suite "$to/suite.jsonl" --shots $shots \
            ${THREADS:+--threads "$THREADS"} 2>/dev/null |
            awk -v model=$model -v shots=$shots '/^  [a-z].* NLU / { sum[int(n / 4)] += $6 / 4; n++ }
                END { printf "%-8s %6d  %7.1f %7.1f %7.1f %7.1f\n", model, shots, sum[0], sum[1], sum[2],
                          (sum[0] + sum[1] + sum[2]) / 3 }'
    done
done
echo "accuracy in %, 400 rows each; chance 25.0; standard error at most 2.5"
