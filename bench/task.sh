#!/bin/sh
# task.sh - does SmolLM2-135M learn a task that it fails, from 300 rows, in twenty minutes of one core?
# Sentences become records by rules that no row says: weekdays are numbers, a dozen is 12 pieces, and a
# box stays a box.  Exact match on 48 rows held back, of the model as it is (with and without solved rows
# before the question), with adapters on its attention, and with adapters on the experts of the mixture
# that is grown from it.
#
#   sh bench/task.sh FOLDER [STEPS [SEED]]       FOLDER: SmolLM2-135M-Instruct; 320 steps by default
#
# Everything goes into build/task, models and logs included; what is there already is used again, and a
# run that was stopped goes on from its checkpoint.
set -eu
LC_ALL=C
OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
export LC_ALL OMP_WAIT_POLICY
[ $# -ge 1 ] || { echo "sh bench/task.sh FOLDER [STEPS [SEED]]" >&2; exit 2; }
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
steps=${2:-320} seed=${3:-1}
to=build/task/$steps-$seed
threads="--threads ${THREADS:-2}"
glam=build/task/glam
mkdir -p "$to"
[ -x $glam ] || ${CC:-cc} -O2 -fopenmp examples/glam.c -o $glam -lm 2>/dev/null ||
    ${CC:-cc} -O2 examples/glam.c -o $glam -lm

# 300 rows to learn from and 48 to be asked, none of which is among the others.  The generator is Lehmer's,
# whose numbers every awk holds exactly.
awk -v seed="$seed" -v to="$to" '
function draw(n) { state = state * 16807 % 2147483647; return int(state / 2147483647 * n) }
function one(list,    part) { return part[1 + draw(split(list, part, " "))] }
BEGIN {
    state = 1 + seed * 7919
    for (i = 0; i < 10; i++) draw(2)
    things = "lamp chair book shirt cup bag hat pen clock ball plate knife bottle ring coat mirror"
    goods = "tea rice sugar coffee soap paper salt flour"
    towns = "Leeds Bristol York Oxford Dover Derby Cardiff Exeter Bath Hull Kent Perth"
    days = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
    for (i = split(days, day, " "); i > 0; i--) number[day[i]] = i
    frames = split("Please send # to @ by %.|We need # in @ on %.|On % bring # to @.|" \
                   "@ wants # before %.|Ship # to @, not later than %.", frame, "|")
    while (made < 348) {
        kind = draw(4)
        n = kind < 2 ? 2 + draw(89) : 2 + draw(kind == 2 ? 3 : 18)
        unit = kind == 3 ? "box" : "piece"
        item = kind == 3 ? one(goods) : one(things)
        many = kind == 3 ? n " boxes of " item \
             : kind == 2 ? n " dozen " (item == "knife" ? "knives" : item "s") \
             : n " " (item == "knife" ? "knives" : item "s")
        if (kind == 2) n *= 12
        town = one(towns)
        when = one(days)
        asked = frame[1 + draw(frames)]
        sub(/#/, many, asked)
        sub(/@/, town, asked)
        sub(/%/, when, asked)
        if (asked in seen) continue
        seen[asked] = 1
        record = "item=" item " count=" n " unit=" unit " to=" town " day=" number[when]
        train = made++ < 300
        if (train)
            printf "{\"prompt\": \"%s\\n\", \"completion\": \"%s\"}\n", asked, record >(to "/rows.jsonl")
        printf "{\"context\": \"%s\\n\", \"answers\": [\"%s\"]}\n", asked, record \
            >(to (train ? "/shots.jsonl" : "/asked.jsonl"))
    }
}'

[ -s build/task/smol.safetensors ] || $glam import "$folder" --out build/task/smol.safetensors
[ -s build/task/grown.safetensors ] ||
    $glam upcycle build/task/smol.safetensors --experts 4 --every 2 --out build/task/grown.safetensors

# NAME MODEL ROLES: an adapter, from its checkpoint if there is one.
learn() {
    [ -s "$to/$1.safetensors" ] && return
    if [ -s "$to/$1.checkpoint" ]; then
        set -- "$1" --resume "$to/$1.checkpoint"
    else
        set -- "$1" --from "$2" --lora "$3" --rank 8 --lr 1e-3 --warmup 20 --context 128 --batch 1 \
            --steps "$steps" --seed "$seed" --val-fraction 0.04 --eval-every 160
    fi
    name=$1
    shift
    # shellcheck disable=SC2086
    $glam train "$to/rows.jsonl" "$@" $threads --checkpoint "$to/$name.checkpoint" --checkpoint-every 40 \
        --keep last --log "$to/$name.log" --out "$to/$name.part" --force
    mv "$to/$name.part" "$to/$name.safetensors"
}

# NAME MODEL [OPTIONS]: how many of the held back rows are answered to the letter.
ask() {
    if [ ! -s "$to/$1.answers" ]; then
        name=$1 model=$2
        shift 2
        # shellcheck disable=SC2086
        $glam eval "$model" --task "$to/asked.jsonl" --beam 1 --answer 40 $threads "$@" \
            --out "$to/$name.part" --force >/dev/null
        mv "$to/$name.part" "$to/$name.answers"
        set -- "$name"
    fi
    awk -v name="$1" '
        { text = $0; sub(/.*"answers?": *\[?"/, "", text); sub(/".*/, "", text) }
        NR == FNR { right[NR] = text; next }
        { same += text == right[FNR] }
        END { printf "%-22s %d of %d\n", name, same, NR - FNR; }' "$to/asked.jsonl" "$to/$1.answers"
}

learn attention build/task/smol.safetensors attention
learn experts build/task/grown.safetensors experts
{
    ask base build/task/smol.safetensors
    ask base-8-shots build/task/smol.safetensors --shots 8 --shots-from "$to/shots.jsonl"
    ask attention build/task/smol.safetensors --adapter "$to/attention.safetensors"
    ask grown build/task/grown.safetensors
    ask experts build/task/grown.safetensors --adapter "$to/experts.safetensors"
} | tee "$to/page.txt"
