#!/bin/sh
# in_context.sh - does a small model learn to learn from examples?  A mixture and its dense twin of the
# same work per token read the same episodes (bench/in_context.c), and are asked about rules that they
# never saw, after 0, 1, 2, 4 and 7 solved rows.  One example leaves most rules open, a few settle them.
#
#   sh bench/in_context.sh [STEPS [SEED]]        4000 steps, 6.1 million bytes, by default
#
# Everything goes into build/in_context, models and logs included; what is there already is used again.
# The seed draws the rules held back, the rows, the models' beginnings.
set -eu
LC_ALL=C
OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
export LC_ALL OMP_WAIT_POLICY
cd "$(dirname "$0")/.."
steps=${1:-4000} seed=${2:-1}
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
    build/in_context/glam train "$to/train.jsonl" $dense --layers 3 --d-model 64 --heads 4 --context 96 \
        --batch 16 --steps "$steps" --seed "$seed" --val-fraction 0.01 --eval-every 500 \
        --quiet ${THREADS:+--threads "$THREADS"} --out "$to/$model.safetensors" --log "$to/$model.log" --force
done
for model in mixture dense; do
    build/in_context/glam info "$to/$model.safetensors" | sed -n 's/^total/'"$model"': total/p; s/^active/    active/p'
done

sed 's/^/ideal /' "$to/ideal.txt" >"$to/scores"
for model in mixture dense; do
    for shots in 0 1 2 4 7; do
        build/in_context/glam eval "$to/$model.safetensors" --suite "$to/suite.jsonl" --shots $shots \
            ${THREADS:+--threads "$THREADS"} 2>/dev/null |
            sed -n "s/^  \([a-z]*\)_\([0-9_]*\)  *NLU *accuracy *[0-9]* *[0-9]* *\([0-9.]*\) .*/$model $shots \1 \2 \3/p"
    done
done >>"$to/scores"

# A line: "ideal family shots accuracy", or "model shots family rule accuracy".  Rules are what was drawn,
# so a standard error is that of a mean over the rules of a family; a difference is taken rule by rule.
awk '
function show(name, model, shots, minus,    f, r, n, x, sum, squares, mean, error, all, line) {
    all = error = 0
    line = sprintf("%-8s %-13s", model, name)
    for (f = 1; f <= 3; f++) {
        n = sum = squares = 0
        for (r in rule)
            if ((model, shots, family[f], r) in score) {
                x = score[model, shots, family[f], r]
                if (minus != "") x -= score[model, minus, family[f], r]
                n++
                sum += x
                squares += x * x
            }
        if (!n) return
        mean = sum / n
        x = (squares / n - mean * mean) / (n - 1)
        if (x < 0) x = 0
        all += mean / 3
        error += x / 9
        line = line sprintf("  %6.1f (%3.1f)", mean, sqrt(x))
    }
    print line sprintf("  %6.1f (%3.1f)", all, sqrt(error))
}
BEGIN { split("letters lists sums", family); count = split("0 1 2 4 7", tried)
        printf "\n%-8s %-13s %14s %14s %14s %14s\n", "model", "shots", "letters", "lists", "sums", "all" }
$1 == "ideal" { ideal[$2, $3] = $4; next }
{ score[$1, $2, $3, $4] = $5; rule[$4] }
END {
    for (i = 1; i <= count; i++) {
        k = tried[i]
        printf "%-8s %-13s", "ideal", k
        for (f = 1; f <= 3; f++) { printf "  %6.1f      ", ideal[family[f], k]; all[k] += ideal[family[f], k] / 3 }
        printf "  %6.1f\n", all[k]
    }
    for (m = 1; m <= split("mixture dense", model); m++) {
        for (i = 1; i <= count; i++) show(tried[i], model[m], tried[i], "")
        show("one - zero", model[m], 1, 0)
        show("seven - one", model[m], 7, 1)
    }
}' "$to/scores"
echo "accuracy in %, in brackets the standard error over eight rules of 40 rows each (all: 24); chance 25.0"
