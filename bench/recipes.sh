#!/bin/sh
# recipes.sh TEXT... - the search behind glam_recipe_default(): every candidate on every text with
# SEEDS seeds (default 3), one line each from bench/recipe.c.  Takes hours; JOBS (default 2) at once.
# SETTINGS are added to every run, for example SETTINGS="steps=5000" or "shape=small batch=2".
set -eu
[ $# -ge 1 ] || { echo "usage: sh bench/recipes.sh TEXT..." >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
${CC:-cc} -O2 "$(dirname "$0")/recipe.c" -o "$work/recipe" -lm

candidates='
optimizer=adamw lr=1e-3 embed_lr=1
optimizer=adamw lr=2e-3 embed_lr=1
optimizer=adamw lr=3e-3 embed_lr=1
optimizer=adamw lr=3e-3 embed_lr=3
optimizer=adamw lr=5e-3 embed_lr=3
optimizer=adafactor lr=0.01 embed_lr=1
optimizer=adafactor lr=0.02 embed_lr=1
optimizer=adafactor lr=0.02 embed_lr=3
optimizer=adafactor lr=0.03 embed_lr=1
optimizer=adafactor lr=0.05 embed_lr=1'

for text in "$@"; do
    seed=1
    while [ "$seed" -le "${SEEDS:-3}" ]; do
        echo "$candidates" | sed '/^$/d' | sed "s#^#$text seed=$seed ${SETTINGS:-} #"
        seed=$((seed + 1))
    done
done | xargs -P "${JOBS:-2}" -I{} sh -c "$work/recipe {}"
