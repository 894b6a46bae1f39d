#!/bin/sh
# tool_data.sh - tests of "glam data" from the outside: messages, exit status, files, pipes.
#
#     sh tests/tool_data.sh PATH-OF-THE-BUILT-TOOL        last line "N passed, N failed"

. "$(dirname "$0")/tooling.sh"
verb=data
unset NO_COLOR

# documents KIND COUNT SEED: good ones are C of this repository's own header, cut into pieces; junk
# is the same words in an order of chance
documents() {
    grep -v '^ *$' glam.h | awk -v kind="$1" -v most="$2" -v seed="$3" '
        BEGIN { srand(seed) }
        {
            gsub(/[\\"\t]/, " ")
            n = split($0, w, " ")
            for (i = n; i > 1 && kind == "junk"; i--) {
                k = int(rand() * i) + 1
                t = w[i]; w[i] = w[k]; w[k] = t
            }
            for (i = 1; i <= n; i++) line = line " " (kind == "junk" ? "zq" int(rand() * 5000) w[i] : w[i])
            if (NR % 7 == 0) { if (n) print line; line = ""; if (++made == most) exit }
        }'
}
as_json() { awk -v kind="$1" '{ print "{\"id\": " NR ", \"kind\":\"" kind "\", \"text\":\"" $0 "\"}" }'; }

documents good 800 1 | awk 'NR % 2 { print; print "" }' >"$work/good.txt"
{ documents good 800 1 | awk 'NR % 2 == 0' | as_json good; documents junk 400 2 | as_json junk; } |
    awk '{ key = (NR * 7919) % 1009; print key "\t" $0 }' | sort -n | cut -f2- >"$work/raw.jsonl"
total=$(wc -l <"$work/raw.jsonl")

# --- help, and a command line that is wrong
try 0 'data VERB'
try 0 'data filter' --help
try 0 '--curated FILE' filter --help
try 0 '--threshold J' help dedup
try 0 '--start N' mix -h
try 0 '--eval LIST' help overlap
try 2 'did you mean filter' fitler
try 2 'no option --curated' dedup "$work/raw.jsonl" --curated x
try 2 'wants files of documents' filter --curated "$work/good.txt"
try 2 'good documents to learn from are wanted' filter "$work/raw.jsonl"
try 2 'lines (of JSON), blank or file' score "$work/raw.jsonl" --curated "$work/good.txt" --documents words
try 2 'is one of the files to read' filter "$work/raw.jsonl" --curated "$work/good.txt" --out "$work/raw.jsonl"
try 1 'cannot be opened' filter "$work/none" --curated "$work/good.txt"
try 1 'is a folder' score examples --curated "$work/good.txt"
try 2 'alpha must be more than 0' filter "$work/raw.jsonl" --curated "$work/good.txt" --alpha 0

# --- score: the same lines, with one field more; junk is scored lower
try 0 'held out' score "$work/raw.jsonl" --curated "$work/good.txt" --out "$work/scored.jsonl" \
    --save-classifier "$work/c.safetensors"
sed 's/,"quality":[0-9.e+-]*}$/}/' "$work/scored.jsonl" | cmp -s - "$work/raw.jsonl" && pass ||
    fail "score: the lines are not those that came"
sum=$(sed 's/.*"kind":"\([a-z]*\)".*"quality":\(.*\)}/\1 \2/' "$work/scored.jsonl" |
    awk '{ n[$1]++; s[$1] += $2 } END { print (s["good"] / n["good"] > s["junk"] / n["junk"] + 0.1) }')
[ "$sum" = 1 ] && pass || fail "score: junk is not scored lower"
try 1 'exists already; --force' score "$work/raw.jsonl" --curated "$work/good.txt" --out "$work/scored.jsonl"
# scored again, the field is put in place of the old one; threads and a pipe change nothing
"$tool" data score "$work/scored.jsonl" --curated "$work/good.txt" --threads 1 2>/dev/null >"$work/again.jsonl"
cmp -s "$work/again.jsonl" "$work/scored.jsonl" && pass || fail "score: a second time is not the same"
gzip -c "$work/raw.jsonl" >"$work/raw.gz"
gzip -dc "$work/raw.gz" | "$tool" data score - --curated "$work/good.txt" --threads 3 2>/dev/null >"$work/pipe.jsonl"
cmp -s "$work/pipe.jsonl" "$work/scored.jsonl" && pass || fail "score: through a pipe it is not the same"
"$tool" data score "$work/raw.jsonl" --classifier "$work/c.safetensors" 2>/dev/null | cmp -s - "$work/scored.jsonl" &&
    pass || fail "score: a saved classifier is not the same"
try 1 'c.safetensors' score "$work/raw.jsonl" --classifier "$work/c.safetensors" --hash-bits 12
check "python reads the lines" sh -c '! command -v python3 >/dev/null || python3 -c "
import json, sys
for line in open(sys.argv[1]): assert 0 <= json.loads(line)[\"quality\"] <= 1" '"$work/scored.jsonl"

# --- filter: the share that stays is the sum of (2 - quality)^-alpha, and lines pass as they are
try 0 "of $total documents" filter "$work/raw.jsonl" --curated "$work/good.txt" --out "$work/kept.jsonl" --alpha 3 --seed 5
kept=$(wc -l <"$work/kept.jsonl")
sed 's/.*"quality":\(.*\)}/\1/' "$work/scored.jsonl" | awk -v kept="$kept" '
    { p = (2 - $1) ^ -3; mean += p; spread += p * (1 - p) }
    END { off = kept - mean; if (off < 0) off = -off; exit !(off < 5 * sqrt(spread) + 20) }' &&
    pass || fail "filter: $kept kept is not the share that the formula says"
grep -v -x -F -q -f "$work/raw.jsonl" "$work/kept.jsonl" && fail "filter: a line was changed" || pass
try 0 "kept $kept of" filter "$work/raw.jsonl" --curated "$work/good.txt" --out "$work/kept2.jsonl" --alpha 3 --seed 5 --threads 1
cmp -s "$work/kept.jsonl" "$work/kept2.jsonl" && pass || fail "filter: the same seed is not the same"
"$tool" data filter "$work/good.txt" --classifier "$work/c.safetensors" --alpha 0.001 --out "$work/kept.txt" >/dev/null
awk 'NF' "$work/kept.txt" | sed 's/ *$//' >"$work/a"
awk 'NF' "$work/good.txt" | sed 's/ *$//' >"$work/b"
grep -v -x -F -q -f "$work/b" "$work/a" && fail "filter: plain text was changed" || pass

# --- broken lines: the file, the line, nothing written
printf '{"text":"one"}\n\n{"text":"two}\n' >"$work/bad.jsonl"
try 1 'bad.jsonl:3: column 14: a string without an end' score "$work/bad.jsonl" --classifier "$work/c.safetensors" --out "$work/bad.out"
[ -e "$work/bad.out" ] && fail "a broken run left a file" || pass
ls "$work" | grep -q part && fail "a broken run left its part" || pass
printf '{"text":1}\n' >"$work/bad.jsonl"
try 1 'bad.jsonl:1: the field "text" is a number; a string is wanted' dedup "$work/bad.jsonl"
printf '{"tekst":"x"}\n' >"$work/bad.jsonl"
try 1 'bad.jsonl:1: there is no field "text"' dedup "$work/bad.jsonl"
printf '{"text":"\\ud83d\\ude00 \\u00e9\\n"}\n' >"$work/odd.jsonl"
"$tool" data dedup "$work/odd.jsonl" --out "$work/odd.txt" >/dev/null
printf '\360\237\230\200 \303\251\n\n\n' | cmp -s - "$work/odd.txt" && pass || fail "escapes are not what they say"

# --- dedup: what is there twice, nearly, goes once
{ cat "$work/raw.jsonl"; sed -n '10,29s/"id": /"id": 1/p' "$work/raw.jsonl" | sed 's/}$/ }/'; } >"$work/twice.jsonl"
try 0 "removed [0-9]* of $((total + 20)) documents" dedup "$work/twice.jsonl" --out "$work/once.jsonl" --removed "$work/pairs.jsonl" --threads 1
grep -c '"document":8' "$work/pairs.jsonl" >"$work/out"
tail -n 20 "$work/pairs.jsonl" | awk -F'[:,}]' '{ bad += $4 - 10 < 0 || $2 - $4 < 100 } END { exit bad > 2 }' && pass ||
    fail "dedup: the twins are not the planted ones"
"$tool" data dedup "$work/twice.jsonl" --threads 3 2>/dev/null | cmp -s - "$work/once.jsonl" && pass || fail "dedup: threads change it"
try 2 'shingle' dedup "$work/raw.jsonl" --shingle 0

# --- overlap: a planted row is named, others are not
printf '%s\n' '{"query":"never said before words one two three four five six seven eight","choices":["nine","ten"],"gold":1}' \
    '{"context":"alpha beta gamma delta epsilon zeta eta theta","continuation":"iota kappa lambda mu nu xi"}' >"$work/eval.jsonl"
printf 'We write Alpha, beta; GAMMA delta epsilon zeta eta theta iota kappa lambda mu.\n\nAnd no more.\n' >"$work/train.txt"
try 0 '1 of 2 rows overlap' overlap "$work/train.txt" --eval "$work/eval.jsonl" --ngram 8
try 0 'eval.jsonl:2  5 of 7 8-grams, first in document 1' overlap "$work/train.txt" --eval "$work/eval.jsonl" --ngram 8 --out "$work/rows.jsonl"
grep -q '"line":2,"n":8,"ngrams":7,"met":5,"document":1' "$work/rows.jsonl" && pass || fail "overlap: the file does not name the row"
try 2 'an evaluation set is wanted' overlap "$work/train.txt"

# --- mix: shares of bytes, epochs, a second part that goes on where the first ended
grep '"kind":"good"' "$work/raw.jsonl" >"$work/g.jsonl"
try 0 'go on with --start 300' mix "$work/g.jsonl=0.75" "$work/good.txt=0.25" --draws 300 --out "$work/m.jsonl" --seed 3
"$tool" data mix "$work/g.jsonl=0.75" "$work/good.txt=0.25" --draws 100 --seed 3 2>/dev/null >"$work/m1"
"$tool" data mix "$work/g.jsonl=0.75" "$work/good.txt=0.25" --draws 200 --start 100 --seed 3 2>/dev/null >"$work/m2"
cat "$work/m1" "$work/m2" | cmp -s - "$work/m.jsonl" && pass || fail "mix: two parts are not the whole"
awk '/"source":"g.jsonl"/ { g += length($0) } /"source":"good.txt"/ { t += length($0) }
     END { s = g / (g + t); exit !(s > 0.6 && s < 0.88) }' "$work/m.jsonl" && pass || fail "mix: the shares are not the weights"
# each pass over a source has every document once
"$tool" data mix "$work/g.jsonl=1" --draws 800 2>/dev/null | sed 's/,"source".*//' >"$work/m3"
head -n 400 "$work/m3" | sort >"$work/p1"
tail -n 400 "$work/m3" | sort >"$work/p2"
cmp -s "$work/p1" "$work/p2" && [ "$(sort -u "$work/p1" | wc -l)" = "$(sort -u "$work/g.jsonl" | wc -l)" ] && pass ||
    fail "mix: a pass is not each document once"
head -n 400 "$work/m3" | cmp -s - "$work/p1" && fail "mix: there is no order of chance" || pass
try 0 'wikipedia .*12.000' mix "wikipedia=$work/good.txt" "books=$work/g.jsonl" --preset paper --draws 20 --out "$work/m4.txt"
try 2 'NAME=FILE' mix "$work/good.txt" --preset paper --draws 20
try 2 'how much' mix "$work/good.txt"
try 1 'no pipes' mix - --draws 3

# --- train: documents packed into rows, weights, epochs told, the same after a stop
small="--layers 2 --d-model 32 --heads 2 --experts 4 --context 32 --batch 4 --threads 1"
cd "$work" || exit 1
"$tool" train g.jsonl good.txt --weights 0.8,0.2 --documents blank $small --steps 6 --out whole.safetensors >t1 2>&1
"$tool" train g.jsonl good.txt --weights 0.8,0.2 --documents blank $small --steps 3 --out half.safetensors --checkpoint c >t2 2>&1
"$tool" train g.jsonl good.txt --weights 0.8,0.2 --documents blank --resume c --steps 6 --threads 1 --keep last --out again.safetensors >t3 2>&1
grep -q '^epochs: g.jsonl 0.0' t1 && pass || { fail "train: no epochs"; tail -3 t1; }
e1=$(grep '^epochs' t1)
[ "$e1" = "$(grep '^epochs' t3)" ] && pass || { fail "train: a resumed run tells other epochs"; tail -3 t3; }
"$tool" train g.jsonl good.txt --weights 0.8 $small --steps 1 >t4 2>&1
grep -q 'for each of 2 texts' t4 && pass || fail "train: --weights 0.8 for two texts"
"$tool" train g.jsonl good.txt --weights 0.8,0.3 --documents blank --resume c --steps 6 >t5 2>&1
grep -q 'other weights' t5 && pass || fail "train: resumed with other weights"
"$tool" eval whole.safetensors odd.jsonl >t6 2>&1
grep -q 'fewer than a context' t6 && pass || { fail "eval reads lines of JSON"; tail -1 t6; }
"$tool" eval whole.safetensors g.jsonl >t6 2>&1
grep -q 'nats per token' t6 && pass || { fail "eval reads lines of JSON"; tail -1 t6; }

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
