#!/bin/sh
# The lessons of examples/lessons.md: each trains what it needs, draws its picture and says whether what the lesson
# promises has happened.  Models, logs and pictures go into the folder ./lessons.
#
#   sh examples/lessons.sh NUMBER [TEXT]      1 to 10; TEXT: learn from this instead of the files of glam.h
#
# GLAM_TOOL and GLAM_LESSONS name the programs when they are there already; GLAM_LESSON_STEPS (200) is how long each
# model trains.
set -u
top=$(cd "$(dirname "$0")/.." && pwd) || exit 1
number=${1:-}
text=${2:-}
steps=${GLAM_LESSON_STEPS:-200}
CC=${CC:-cc}
OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
export OMP_WAIT_POLICY

fail() { echo "lessons.sh: $1" >&2; exit "${2:-1}"; }

case $number in
[1-9] | 10) ;;
*) fail "sh examples/lessons.sh NUMBER [TEXT], with a number from 1 to 10" 2 ;;
esac
[ -z "$text" ] || [ -r "$text" ] || fail "$text cannot be read"
mkdir -p lessons || exit 1
out=lessons/$number

# make PROGRAM: from examples/PROGRAM.c, unless it is here
make()
{
    [ -x "lessons/$1" ] && [ "lessons/$1" -nt "$top/glam.h" ] && [ "lessons/$1" -nt "$top/examples/$1.c" ] && return
    echo "(compiling examples/$1.c)"
    $CC -O2 -fopenmp "$top/examples/$1.c" -o "lessons/$1" -lm 2>/dev/null || $CC -O2 "$top/examples/$1.c" -o "lessons/$1" -lm ||
        fail "$CC does not compile examples/$1.c"
}

[ -n "${GLAM_TOOL:-}" ] || make glam
[ -n "${GLAM_LESSONS:-}" ] || make lessons
glam=${GLAM_TOOL:-lessons/glam}
lessons=${GLAM_LESSONS:-lessons/lessons}
if [ -z "$text" ]; then
    text=lessons/text
    cat "$top/README.md" "$top/glam.h" "$top"/examples/*.[ch] >$text
fi

# train NAME OPTION...: a small model for a few seconds; its log and weights are lessons/N_NAME.*
train()
{
    name=$1
    shift
    set -- train "$text" --layers 2 --d-model 64 --batch 8 --steps "$steps" "$@"
    echo "\$ glam $*" | sed "s#$text#TEXT#"
    "$glam" "$@" --log "${out}_$name.jsonl" --out "${out}_$name.safetensors" --force >"${out}_$name.txt" 2>&1 ||
        { tail -n 3 "${out}_$name.txt" >&2; fail "this run failed"; }
}

last() { "$lessons" last "$1" "${out}_$2.jsonl"; }           # last FIELD NAME
draw() { kind=$1; shift; "$lessons" "$kind" "$out.svg" "$@" && echo "picture: $out.svg"; }
is() { awk "BEGIN { exit !($1) }"; }                         # is CONDITION of numbers

# holds CONDITION SENTENCE: what the lesson promises
holds()
{
    if is "$1"; then echo "as promised: $2"; else echo "NOT as promised: $2"; wrong=1; fi
}
wrong=0

# logs NAME...: name=log for a picture
logs() { for name in "$@"; do printf '%s=%s_%s.jsonl ' "$name" "$out" "$name"; done; }

lesson_1()
{
    $CC -O1 "$top/examples/03_moe_step_by_step.c" -o lessons/steps -lm || fail "$CC does not compile 03_moe_step_by_step.c"
    lessons/steps >"$out.txt"
    # by hand, for token 4: x . router, softmax, the best two, their share, the sum of two outputs
    awk '
        /^== / { name = $2; head = 1; next }
        NF == 0 { name = ""; next }
        head { head = 0; next }
        { for (i = 2; i <= NF; i++) v[name, $1, i - 2] = $i }
        name == "choices" && $1 == 4 { said = said " " $3 " " $4; n++ }
        END {
            for (e = 0; e < 4; e++) { for (m = 0; m < 6; m++) l[e] += v["x", 4, m] * v["router", m, e]; sum += exp(l[e]) }
            for (e = 0; e < 4; e++) p[e] = exp(l[e]) / sum
            for (e = 1; e < 4; e++) if (p[e] > p[a]) a = e
            b = a == 0; for (e = 0; e < 4; e++) if (e != a && p[e] > p[b]) b = e
            printf "token 4 by hand: logits %.3f %.3f %.3f %.3f, best two %d and %d\n", l[0], l[1], l[2], l[3], a, b
            w = p[a] / (p[a] + p[b])
            for (m = 0; m < 6; m++) {
                y = w * v["expert_" a, 4, m] + (1 - w) * v["expert_" b, 4, m]
                d = y - v["output", 4, m]; if (d < 0) d = -d; if (d > far) far = d
            }
            printf "weights %.4f and %.4f (the program says expert and weight%s)\n", w, 1 - w, said
            printf "apart %.7f\n", far
        }' "$out.txt" | tee "$out.hand"
    set --
    while read -r row; do set -- "$@" "$row"; done <<EOF
$(awk '/^== probabilities/ { on = 1; getline; next } on && NF == 0 { exit } on { print "token " $1 "=" $2 "," $3 "," $4 "," $5 }' "$out.txt")
EOF
    draw table "the gate, %" "expert" "$@"
    holds "$(sed -n 's/^apart //p' "$out.hand") < 0.00001" "the output of token 4, done by hand, is the program's"
}

lesson_2()
{
    all="" used="" eight="" experts_of=""
    echo "experts   parameters   used for a byte   in experts  attention  embedding  the rest"
    for experts in 2 4 8 16 32 64; do
        "$lessons" count $experts 2 >"$out.txt" || exit 1
        read -r a u in attention embedding rest <"$out.txt"
        printf '%7d %12d %17d %11d%% %9d%% %9d%% %8d%%\n' $experts "$a" "$u" $((100 * in / a)) $((100 * attention / a)) \
            $((100 * embedding / a)) $((100 * rest / a))
        all="$all,$experts:$(awk "BEGIN { print $a / 1e6 }")"
        used="$used,$experts:$(awk "BEGIN { print $u / 1e6 }")"
        [ $experts = 8 ] && eight="$a $u $in"
    done
    draw points "parameters, by experts in a layer" "million" "experts" "all=${all#,}" "used=${used#,}"
    set -- $eight
    holds "$a > 5 * $1 && $u < 1.2 * $2" "64 experts have $(awk "BEGIN { printf \"%.1f\", $a / $1 }") times the parameters of 8, \
and a byte uses $(awk "BEGIN { printf \"%.2f\", $u / $2 }") times as many"
    holds "$3 > 0.7 * $1" "of the default model $((100 * $3 / $1)) % are in its experts"
}

lesson_3()
{
    train with --top-k 1 --experts 16 --capacity 1.25
    train none --top-k 1 --experts 16 --capacity 1.25 --aux 0
    draw lines "dropped, with and without balance loss" "share" dropped $(logs with none)
    set -- $(last dropped with) $(last dropped none) $(last val_loss with) $(last val_loss none)
    echo "dropped at the end $1 and $2, validation $3 and $4"
    holds "$1 < 0.15 && $2 > 1.7 * $1 && $2 > 0.15" "without the balance loss some experts overflow, and what they drop is not learnt from"
    holds "$4 > $3" "and that costs loss"
}

lesson_4()
{
    points="" drops=""
    for capacity in 0.5 1 2 4; do
        train $capacity --capacity $capacity
        points="$points,$capacity:$(last val_loss $capacity)"
        drops="$drops $(last dropped $capacity)"
    done
    train none
    draw points "validation, by capacity" "nats" "capacity" "slots=${points#,}" \
        "none=0.5:$(last val_loss none),4:$(last val_loss none)"
    set -- $drops
    echo "dropped at the end $1 $2 $3 $4"
    holds "$1 > 0.7 && $2 > 0.45 && $2 < 0.6 && $3 < 0.3 && $4 < 0.1" "capacity 1 has room for half of the choices, and drops them"
    holds "$(last val_loss 0.5) > $(last val_loss 2) + 0.05" "what is dropped is missed"
}

lesson_5()
{
    points=""
    for k in 1 2 4 8; do
        train $k --top-k $k
        points="$points,$k:$(last val_loss $k)"
    done
    train dense --dense
    draw points "validation, by experts for a byte" "nats" "experts for a byte, of 8" "mixed=${points#,}" \
        "dense=1:$(last val_loss dense),8:$(last val_loss dense)"
    echo "validation ${points#,}; dense, of the work of two: $(last val_loss dense)"
    holds "$(last val_loss 4) < $(last val_loss 1)" "four experts are better than one"
    holds "$(last val_loss 1) - $(last val_loss 2) > $(last val_loss 4) - $(last val_loss 8)" \
        "the second expert helps more than the last four"
}

lesson_6()
{
    train learns --top-k 1 --experts 16
    train frozen --top-k 1 --experts 16 --freeze router
    draw lines "loss, router learns or is frozen" "nats" loss $(logs learns frozen)
    set -- $(last val_loss learns) $(last val_loss frozen)
    echo "validation $1 and $2"
    holds "$1 < $2" "a router that learns is better than one that does not"
    holds "$2 < 3" "but one that does not learn is no ruin: the experts adapt to whatever they get"
}

lesson_7()
{
    train dense --dense
    "$lessons" upcycle "${out}_dense.safetensors" "${out}_copies.safetensors" 8 2 || exit 1
    echo "\$ lessons upcycle dense.safetensors copies.safetensors 8 2"
    dense=$("$glam" eval "${out}_dense.safetensors" "$text" | sed 's/.*loss \([0-9.]*\) nats.*/\1/')
    copies=$("$glam" eval "${out}_copies.safetensors" "$text" | sed 's/.*loss \([0-9.]*\) nats.*/\1/')
    echo "dense $dense, eight copies of each of its layers $copies"
    shape="--layers 2 --d-model 64"
    for pair in grown:copies more:dense; do
        from=${pair#*:}
        set -- train "$text" --from "${out}_$from.safetensors" --batch 8 --steps "$steps" --lr 0.02 --warmup 20
        echo "\$ glam $*" | sed "s#$text#TEXT#"
        "$glam" "$@" --log "${out}_${pair%%:*}.jsonl" --out "${out}_${pair%%:*}.safetensors" --force >"$out.txt" 2>&1 ||
            { tail -n 3 "$out.txt" >&2; fail "this run failed"; }
    done
    train new
    draw lines "loss: grown, the dense goes on, new" "nats" loss $(logs grown more new)
    holds "$dense - $copies < 0.0002 && $copies - $dense < 0.0002" "a mixture of copies has the loss of its dense model"
    holds "$(last val_loss grown) < $(last val_loss new)" "and learns on from there, ahead of a mixture that is new"
    echo "validation: grown $(last val_loss grown), the dense one goes on $(last val_loss more), new $(last val_loss new)"
}

lesson_8()
{
    train mixture
    train dense --dense
    draw lines "loss of mixture and dense twin" "nats" loss $(logs mixture dense)
    "$glam" info "${out}_mixture.safetensors" | grep -E '^(total|active|work)'
    "$glam" info "${out}_dense.safetensors" | grep -E '^(total|active|work)'
    set -- $("$glam" info "${out}_mixture.safetensors" | sed -n 's/^total *\([0-9]*\) .*/\1/p;s/^active *\([0-9]*\) .*/\1/p') \
        $("$glam" info "${out}_dense.safetensors" | sed -n 's/^total *\([0-9]*\) .*/\1/p')
    holds "$2 < 1.03 * $3 && $1 > 2 * $3" "both use as many parameters for a byte, and the mixture has $(awk "BEGIN { printf \"%.1f\", $1 / $3 }") times as many"
    set -- $(last val_loss mixture) $(last val_loss dense)
    echo "validation: mixture $1, dense $2"
    holds "$1 < $2 + 0.02" "for the same work the mixture is not behind"
}

lesson_9()
{
    "$glam" help train | grep -q -- '--router ' || fail "this tool knows one router only"
    names=""
    for router in top_k random hash; do
        train $router --router $router
        names="$names $router"
    done
    draw lines "loss, by who chooses the experts" "nats" loss $(logs $names)
    for router in $names; do echo "validation with $router: $(last val_loss $router)"; done
    set -- $(last load_max top_k) $(last load_max hash)
    echo "the fullest expert: top_k $1, hash $2 times an even share"
    holds "$(last val_loss hash) < $(last val_loss top_k) + 0.05" "an expert that is drawn by the byte alone is not behind one that is learnt"
    holds "$2 > $1" "but its loads are those of the bytes, and nothing evens them"
}

lesson_10()
{
    train own
    rm -rf "${out}_charts"
    "$glam" report "${out}_own.safetensors" "$text" --log "${out}_own.jsonl" --out "$out.html" --svg "${out}_charts" --force \
        >"$out.txt" 2>&1 || { tail -n 3 "$out.txt" >&2; fail "the report failed"; }
    echo "\$ glam report own.safetensors TEXT --log own.jsonl --out report.html --svg charts"
    best=-1
    for chart in "${out}_charts"/kinds-layer-*.svg; do          # the layer that is the most particular
        most=$(tr '<' '\n' <"$chart" | sed -n 's/^text[^>]*class="number"[^>]*text-anchor="middle"[^>]*>\([0-9][0-9]*\)$/\1/p;
            s/^text[^>]*text-anchor="middle"[^>]*class="number"[^>]*>\([0-9][0-9]*\)$/\1/p' | sort -n | tail -n 1)
        [ "${most:-0}" -gt $best ] && best=$most && cp "$chart" "$out.svg"
    done
    echo "picture: $out.svg; the page: $out.html; all charts: ${out}_charts"
    holds "$best >= 40" "some kind of letter goes to one expert in $best of 100 cases; even would be 13"
}

rm -f "$out.svg"
lesson_$number
exit $wrong
