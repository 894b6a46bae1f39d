#!/bin/sh
# tool_eval.sh - tests of `glam eval`: tasks, shots, answers, suites, ids; what is wrong with a row is
# said with its line.
#
#     sh tests/tool_eval.sh PATH-OF-THE-BUILT-TOOL        last line "N passed, N failed"

. "$(dirname "$0")/tooling.sh"
cd "$work" || exit 1

# lines FILE ARGUMENTS...: eval writes its lines there
lines() {
    lines_to=$1
    shift
    "$tool" eval m.safetensors "$@" --out "$lines_to" --force >said 2>&1 ||
        { fail "glam eval $*"; tail -3 said; }
}

# file NAME LINE...: a file of these lines
file() {
    file_name=$1
    shift
    printf '%s\n' "$@" >"$file_name"
}

# a text that it knows by heart after this
i=0
while [ $i -lt 300 ]; do
    printf 'Q: where is the cat?\nA: on the old mat\n\n'
    i=$((i + 1))
done >cat.txt
"$tool" train cat.txt --steps 80 --layers 2 --moe-every 2 --d-model 32 --heads 2 --experts 4 \
    --context 64 --batch 8 --quiet --out m.safetensors >out 2>&1 || fail "there is no model"

# --- rows -------------------------------------------------------------------------------------
file choices.jsonl '{"query":"The model has","choices":["experts.","a loss"],"gold":0}' \
    '{"query":"The tests run in","choices":["minutes","seconds","hours"],"gold":2}' '' \
    '{"choices":["x","yy","zzz"],"gold":1,"query":"A file is called","more":{"a":[1,2]}}' \
    '{"query":"Größe","choices":["über alles","\u00fcber\n","naïve €"],"gold":1}' \
    '{"query":"ends in a blank ","choices":["here","there"],"gold":1}' \
    '{"query":"","choices":["no context","none"],"gold":0}' \
    "{\"query\":\"$(printf '%0200d' 7 | tr 07 ' x')long\",\"choices\":[\"this\",\"that\"],\"gold\":0}"
lines a.out --task choices.jsonl
check "a line for each option" test "$(wc -l <a.out)" = 17
check "the form of a line" grep -Eq '^\{"row":0,"option":0,"loglik":-[0-9.]+,"tokens":9,"chars":9,"bytes":9,"greedy":(true|false)\}$' a.out
check "chars and bytes differ" grep -q '"row":3,"option":2,.*"tokens":11,"chars":8,"bytes":11' a.out
check "a blank at the end is the continuation's" grep -q '"row":4,"option":0,.*"tokens":5,"chars":4,"bytes":4' a.out
check "a long context loses its begin" grep -q '2 of the contexts were too long' said
check "rows and chance" grep -q '7 rows, 0 shots, normalised by tokens' said
check "chance" grep -q 'chance 42.9 %' said          # (4/2 + 3/3) / 7

# accuracy and its standard error under each normalisation, by another program
for per in sum tokens chars bytes; do
    awk -v per=$per 'BEGIN { split("0 2 1 1 1 0 0", gold, " ") }
        { gsub(/[{}"]/, ""); n = split($0, f, ","); delete v
          for (i = 1; i <= n; i++) { split(f[i], pair, ":"); v[pair[1]] = pair[2] }
          s = v["loglik"] / (per == "sum" ? 1 : v[per])
          if (v["option"] == 0 || s > best) { best = s; at = v["option"] }
          chosen[v["row"] + 1] = at }
        END { for (r = 1; r <= 7; r++) right += chosen[r] == gold[r]
              p = right / 7
              printf "accuracy %.1f %% +- %.1f,\n", 100 * p, 100 * sqrt(p * (1 - p) / 6) }' a.out >want
    "$tool" eval m.safetensors --task choices.jsonl --normalise $per >said 2>&1
    check "accuracy by $per" grep -q "$(cat want)" said
done
lines b.out --task choices.jsonl --threads 1
check "the bits of one thread" cmp a.out b.out

file spaced.jsonl '{"query":"ab ","choices":["cd","ef"],"gold":0}'
file moved.jsonl '{"query":"ab","choices":[" cd"," ef"],"gold":0}'
file plain.jsonl '{"query":"ab","choices":["cd","ef"],"gold":0}'
for f in spaced moved plain; do
    lines $f.out --task $f.jsonl
    sed 's/.*loglik":\([^,]*\),.*/\1/' $f.out >$f.loglik
done
check "blank before or behind" cmp spaced.loglik moved.loglik
check "a blank is put between" cmp plain.loglik moved.loglik
lines tight.out --task plain.jsonl --delimiter ""
check "no delimiter" grep -q '"tokens":2' tight.out

file contexts.jsonl '{"context_options":["The cat because the cat","The cat because the dog"],"continuation":"ran.","gold":1}'
lines contexts.out --task contexts.jsonl
check "two contexts" test "$(grep -c '"tokens":5,"chars":5' contexts.out)" = 2
file words.jsonl '{"context":"the mod","continuation":"el"}' '{"context":"z z z","continuation":"qqq#"}'
lines words.out --task words.jsonl
check "a continuation alone" grep -q 'chance 0; 2 rows, 0 shots' said
check "its perplexity" grep -q 'perplexity of a continuation' said

if python3 -c 'import numpy' >/dev/null 2>&1; then
    for f in choices contexts words; do
        [ $f = choices ] || lines a.out --task $f.jsonl
        check "float64 on $f" python3 "$top/tests/score.py" m.safetensors $f.jsonl a.out
    done
    lines a.out --task choices.jsonl
else echo "skipped: the same scores in float64 (there is no numpy)"; fi

# --- shots ------------------------------------------------------------------------------------
file shot.jsonl '{"query":"one","choices":["two","three"],"gold":1}'
file asked.jsonl '{"query":"four","choices":["five","six"],"gold":0}'
file by_hand.jsonl '{"query":"one three\n\nfour","choices":["five","six"],"gold":0}'
lines shot.out --task asked.jsonl --shots 1 --shots-from shot.jsonl
lines hand.out --task by_hand.jsonl
check "a shot is a solved row and two new lines" cmp shot.out hand.out
cat asked.jsonl shot.jsonl >both.jsonl
lines both.out --task both.jsonl --shots 1
check "never the row itself" sh -c 'head -2 both.out | cmp - hand.out'
i=0
while [ $i -lt 30 ]; do
    echo "{\"query\":\"number $i\",\"choices\":[\"odd\",\"even\"],\"gold\":$((1 - i % 2))}"
    i=$((i + 1))
done >numbers.jsonl
lines n1.out --task choices.jsonl --shots 3 --shots-from numbers.jsonl
lines n2.out --task choices.jsonl --shots 3 --shots-from numbers.jsonl --threads 1
lines n3.out --task choices.jsonl --shots 3 --shots-from numbers.jsonl --seed 2
check "drawn alike each time" cmp n1.out n2.out
check "another seed, other shots" sh -c '! cmp -s n1.out n3.out'

# --- answers ----------------------------------------------------------------------------------
file ask.jsonl '{"context":"Q: where is the cat?\nA:","answers":["zzz"]}'
lines ask.out --task ask.jsonl --answer 30
check "what the model knows by heart" grep -q '"answer":" on the old mat","loglik":-[0-9.e-]*,"exact":false,"f1":0}' ask.out
answer() {                      # answer PATTERN RIGHT-ANSWERS ARGUMENTS...
    pattern=$1
    file right.jsonl "{\"query\":\"Q: where is the cat?\nA:\",$2}"
    shift 2
    try 0 "$pattern" eval m.safetensors --task right.jsonl --answer 30 "$@"
}
answer 'exact match 100.0 %.*F1 100.0 %; 1 row' '"answer":"zzz","aliases":["q","On an OLD mat!"]' --beam 1
answer 'exact match 0.0 %.*F1 44.4 %' '"answers":["zzz","the mat, on her bed of straw"]'   # 2 of 3 and 6
answer 'exact match 0.0 %.*F1 80.0 %' '"answers":["on the mat"]'                            # 2 of 3 and 2
answer 'exact match 100.0 %' '"answers":["on"]' --stop ' the'
answer 'exact match 100.0 %' '"answers":[""]' --stop ' on'

# --- a suite ----------------------------------------------------------------------------------
file suite.jsonl '{"task":"One","kind":"NLU","file":"choices.jsonl","normalise":"sum","shots":2,"shots_from":"numbers.jsonl"}' \
    '{"task":"Words","kind":"NLG","file":"words.jsonl"}' \
    '{"task":"Raw","kind":"NLU","metric":"f1a","file":"raw.jsonl","template":"{text}? {other}","choices":["no","yes"],"labels":["wrong","so"],"gold":"label"}' \
    '{"task":"Asked","kind":"NLG","metric":"f1","file":"ask.jsonl","most":5}' \
    '{"task":"Gone","kind":"NLU","file":"gone.jsonl"}'
file raw.jsonl '{"text":"a","other":"b","label":true}' '{"text":"c","other":"d","label":"so"}' \
    '{"text":"e","other":"f","label":"wrong"}' '{"text":"g","other":"h","label":0}' \
    '{"text":"i","other":"j","label":"yes"}'
"$tool" eval m.safetensors --suite suite.jsonl --shots 5 --out suite.out >said 2>&1 || fail "a suite"
check "a suite's own number of shots" grep -q '^  One  *NLU  *accuracy  *2  *7 ' said
check "what is missing" grep -q '^no data for Gone (gone.jsonl)$' said
check "averages" awk '/^  / && $2 ~ /^NL/ { sum[$2] += $6; n[$2]++ }
    /^averages/ { split($0, f, /[ ,]+/)
        near = (f[3] - sum["NLG"] / n["NLG"]) ^ 2 + (f[9] - sum["NLU"] / n["NLU"]) ^ 2
        all = f[15] - (sum["NLG"] + sum["NLU"]) / 4
        ok = near < 0.02 && all ^ 2 < 0.02 && /2 of 2/ && /2 of 3/ && /4 of 5/ }
    END { exit !ok }' said
awk '/"task":"Raw"/ { sub(/.*"loglik":/, ""); split($0, f, /[,:]/); s = f[1] / f[3]
        if (n++ % 2 == 0) first = s
        else { says = s > first; real = n / 2 != 3 && n / 2 != 4; hit += says && real; said += says } }
    END { printf "%.1f\n", said + 3 > 0 ? 200 * hit / (said + 3) : 0 }' suite.out >want
check "F1 over answers" grep -q "^  Raw  *NLU  *f1a  *0  *5  *$(cat want)" said
mkdir data
cp words.jsonl data/many_small.jsonl
file small.jsonl '{"task":"Many","kind":"NLG","file":"many.jsonl"}'
try 0 '^  Many  *NLG  *greedy  *0  *2' eval m.safetensors --suite small.jsonl --data data
try 0 'all none (0 of 29 tasks)' eval m.safetensors --suite "$top/examples/glam_suite.jsonl" --data data
try 0 'NLG none (0 of 8 tasks), NLU none (0 of 21' eval m.safetensors \
    --suite "$top/examples/glam_suite.jsonl" --data data

# --- ids --------------------------------------------------------------------------------------
dd if="$top/README.md" bs=65 count=1 of=start.txt 2>/dev/null
od -An -v -tu1 start.txt | tr '\n' ' ' >ids.txt
"$tool" eval m.safetensors start.txt >out 2>&1
loss=$(sed 's/.*loss \([0-9.]*\) .*/\1/' out)
try 0 ' 64 tokens predicted in 1 seq' eval m.safetensors --tokens ids.txt
ids=$(sed 's/.*loss \([0-9.]*\) .*/\1/' out)
check "the loss of the text" awk "BEGIN { d = $loss - $ids; exit !(d < 6e-5 && d > -6e-5) }"
file more.txt '1 2 3' '' '[72, 101, 108,108]'
try 0 '5 tokens predicted in 2 sequences' eval m.safetensors --tokens more.txt

# --- what is wrong ----------------------------------------------------------------------------
wrong() {                       # wrong PATTERN LINE...: the second line of a task is this
    pattern=$1
    file wrong.jsonl '{"query":"a","choices":["b","c"],"gold":0}' "$2"
    try 1 "wrong.jsonl:2: .*$pattern" eval m.safetensors --task wrong.jsonl --out wrong.out
}
wrong 'column' '{"query":"a","choices":["b","c"],"gold":0'
wrong 'no field "gold"' '{"query":"a","choices":["b","c"]}'
wrong 'none of the 2 options' '{"query":"a","choices":["b","c"],"gold":2}'
wrong 'none of the 2 options' '{"query":"a","choices":["b","c"],"gold":-1}'
wrong 'none of the 2 options' '{"query":"a","choices":["b","c"],"gold":0.5}'
wrong 'none of the 2 options' '{"query":"a","choices":["b","c"],"gold":"z"}'
wrong '1 to choose from' '{"query":"a","choices":["b"],"gold":0}'
wrong 'choice 1 is empty' '{"query":"a","choices":["b",""],"gold":0}'
wrong 'no query and no context' '{"choices":["b","c"],"gold":0}'
wrong 'a string is wanted' '{"query":3,"choices":["b","c"],"gold":0}'
wrong 'no row of a task' '{"text":"a"}'
wrong 'another form than the first' '{"context":"a","continuation":"b"}'
wrong 'no continuation' '{"context_options":["a","b"],"gold":0}'
wrong 'list of answers is empty' '{"query":"a","answers":[]}'
wrong 'u0000' '{"query":"a\u0000","choices":["b","c"],"gold":0}'
check "nothing is written" test ! -e wrong.out
: >empty.jsonl
try 1 'empty.jsonl has no rows' eval m.safetensors --task empty.jsonl
try 1 'cannot be opened' eval m.safetensors --task not_there.jsonl
try 1 '30 are too many' eval m.safetensors --task numbers.jsonl --shots 30
try 1 'cannot be opened' eval m.safetensors --task numbers.jsonl --shots 1 --shots-from no.jsonl
try 1 'exists already' eval m.safetensors --task plain.jsonl --out plain.out
try 2 'sum tokens chars bytes' eval m.safetensors --task plain.jsonl --normalise words
try 2 'one of them' eval m.safetensors --task plain.jsonl --suite suite.jsonl
try 2 'about a --task' eval m.safetensors start.txt --shots 3
try 2 'lines of a suite' eval m.safetensors --suite suite.jsonl --delimiter x
try 2 'about a --suite' eval m.safetensors --task plain.jsonl --data data
try 2 'how many to draw' eval m.safetensors --task plain.jsonl --shots-from numbers.jsonl
try 2 '1 at least' eval m.safetensors --task plain.jsonl --context 0
try 2 'one model beside its task' eval m.safetensors plain.jsonl --task plain.jsonl
file bad.jsonl '{"task":"T","kind":"NLU","file":"plain.jsonl","metric":"bleu"}'
try 1 'bad.jsonl:1: "metric": there is no bleu' eval m.safetensors --suite bad.jsonl
file bad.jsonl '{"kind":"NLU","file":"plain.jsonl"}'
try 1 'bad.jsonl:1: a task has a name' eval m.safetensors --suite bad.jsonl
try 1 'has no tasks' eval m.safetensors --suite empty.jsonl
file bad.txt '1 2 300'
try 1 'bad.txt:1: the id 300 is beyond' eval m.safetensors --tokens bad.txt
file bad.txt '1 2' '3 x'
try 1 'bad.txt:2: an id is wanted, not x' eval m.safetensors --tokens bad.txt
file bad.txt '7'
try 1 'bad.txt:1: one id alone' eval m.safetensors --tokens bad.txt
try 1 'holds no ids' eval m.safetensors --tokens empty.jsonl

echo "$passed passed, $failed failed"
[ $failed = 0 ]
