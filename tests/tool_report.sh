#!/bin/sh
# tool_report.sh - tests of what the tool shows of its experts: the bars of train, lines of --log, route
# and the page of report, from the outside.
#
#     sh tests/tool_report.sh PATH-OF-THE-BUILT-TOOL        last line "N passed, N failed"

. "$(dirname "$0")/tooling.sh"
said=said
LC_ALL=C
export LC_ALL
unset NO_COLOR

has() { check "$1: no line like '$2'" grep -q -e "$2" "$work/out"; }

# narrow COLUMNS: no line of the last output is wider, but for those that name our long folder
narrow() { check "lines wider than $1" awk -v most="$1" -v folder="$work" 'length($0) > most && !index($0, folder) { print; bad = 1 } END { exit bad }' "$work/out"; }

text=examples/02_autograd.c
other=examples/05_generate.c
# in f32 on every chip: so are route and report
small="--layers 3 --moe-every 2 --d-model 32 --heads 2 --experts 4 --context 32 --batch 4 --threads 2 --arithmetic f32"
model=$work/model.safetensors
log=$work/run.jsonl

# --- train: bars of first choices, what a capacity has room for, lines of the log -----------------
try 0 'room for 50 % of the choices' train $text $small --capacity 1 --accumulate 2 --recompute --steps 60 \
    --eval-every 20 --out "$model" --log "$log"
has "the remedy" 'evenly spread, --capacity 2$'
has "the legend" 'first choices since the last bars'
has "a bar" 'layer 0  .* most [0-9.]* ([0-3]), least [0-9.]* ([0-3]), [0-4] dead, entropy [0-9.]*/1.39$'
has "the column" ' drop first choices '
has "what to do with the log" "^  .* report .*model.safetensors $text --log .*run.jsonl$"
narrow 79
sed -n 's/^  \(.* report .*\)/\1 --out "$work\/next.html"/p' "$work/out" >"$work/next"
check "the report that it names is made" sh -c "work='$work' sh '$work/next' && test -s '$work/next.html'"
check "layer 1 is dense and has no bar" sh -c "! grep -q 'layer 1  .*most' '$work/out'"
try 0 'first choices' train $text $small --capacity 2.5 --steps 1 --out "$work/roomy"
check "enough room is not told" sh -c "! grep -q 'room for' '$work/out'"
narrow 79
# 128 tokens a step, both parts of the batch; a choice is kept or dropped; slots are never exceeded
check "what a step of the log adds up to" awk '
    function list(name,    s, n, i, sum) {
        match($0, "\"" name "\":\\[[0-9,]*\\]")
        s = substr($0, RSTART, RLENGTH)
        sub(/.*\[/, "", s)
        n = split(s, v, ",")
        if (n != 4) { print "not four: " s; bad = 1 }
        for (i = sum = 0; i++ < n; sum += v[i]) if (name == "kept" && v[i] + 0 > slots) { print "over " slots ": " s; bad = 1 }
        return sum
    }
    function value(name) {
        match($0, "\"" name "\":[0-9.]*")
        return substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 3)
    }
    /"event":"step"/ {
        steps++
        if (split($0, parts, "{\"layer\":") != 3) { print "not two mixtures: " $0; bad = 1 }
        for (k = 2; k <= 3; k++) {
            $0 = "{\"layer\":" parts[k]
            slots = value("slots")
            dropped = value("dropped")
            if (value("tokens") != 128 || slots != 32 || list("first") != 128 || list("kept") + dropped != 256) { print; bad = 1 }
            if (value("entropy") <= 0 || value("entropy") > 1.3863 || value("balance") <= 0) { print; bad = 1 }
        }
    }
    END { if (steps != 60) print steps " steps"; exit bad || steps != 60 }' "$log"
# 3 of some thousands stay: to the last parameter
try 0 'trains [0-9,]* of [0-9,]* parameters (99[0-9.]* %); 256 are frozen' train $other --from "$model" --freeze router \
    --steps 1 --threads 1 --out "$work/frozen"
check "not: 0.1 of 0.1 million" sh -c "! grep -q 'trains \([0-9.]*\) of \1' '$work/out'"
"$tool" train $text $small --dense --steps 60 --eval-every 20 --out "$work/dense" --log "$work/dense.jsonl" --quiet >/dev/null
check "a dense run logs no routing" sh -c "! grep -q routing '$work/dense.jsonl'"
try 0 'mixture' race $text $small --steps 4 --log "$work/race.jsonl"
narrow 79
check "a race logs the mixture's loads" grep -q '"side":"mixture".*"routing":\[{"layer":0.*{"layer":2' "$work/race.jsonl"
check "and none of the dense model" sh -c "! grep '\"side\":\"dense\"' '$work/race.jsonl' | grep -q routing"

# --- route ----------------------------------------------------------------------------------------
try 0 'layer 2: under each letter its first expert' route "$model" 'static int x = 0;'
narrow 60
check "a digit under each letter" awk '/^  static int x = 0;$/ { getline below; good = below ~ /^  [0-3]{17}$/ || below ~ /^  [0-3][0-3][0-3][0-3][0-3][0-3][0-3][0-3][0-3][0-3][0-3][0-3][0-3][0-3][0-3][0-3][0-3]$/ } END { exit !good }' "$work/out"
check "no colours into a file" sh -c "! grep -q \"\$(printf '\\033')\" '$work/out'"
has "loads of both mixtures" 'layer 0  .* dead  [0-9.]*/1.39$'
has "what an expert takes" "^ *[0-3]  *[0-9.]*  *[0-9.]*  [^ ]* [0-9]*%"
has "a token" "^   10  ' '   |  [0-3] [01]\.[0-9][0-9]   [0-3] [01]\.[0-9][0-9] | *[0-9.]* %$"
try 0 'layer 0: under each letter the weight of expert 2' route "$model" 'static int x = 0;' --layer 0 --expert 2
narrow 60
check "one layer alone" sh -c "! grep -q 'layer 2' '$work/out'"
try 0 'in windows of 32' route "$model" $text
narrow 60
"$tool" route "$model" $text --json >"$work/file.json"
"$tool" route "$model" - --json <$text >"$work/input.json"
"$tool" route "$model" "$(cat $text)
" --json >"$work/words.json"
check "a file and standard input are the same text" cmp "$work/file.json" "$work/input.json"
check "and so are words" cmp "$work/file.json" "$work/words.json"
"$tool" route "$model" "$(printf 'a\tb\"\\\377')" --layer 2 --json >"$work/odd.json"
check "one layer of JSON" sh -c "grep -q '\"routing\":\[{\"layer\":2,' '$work/odd.json' && ! grep -q '\"layer\":0' '$work/odd.json'"
"$tool" train $text $other $small --vocab 300 --steps 40 --out "$work/pieces" --quiet >/dev/null
try 0 'layer 2: under each token its first expert' route "$work/pieces" 'static int x = 0;'
narrow 60
check "a digit under the first letter of each piece" awk '/^  static int x = 0;$/ { getline below; good = below ~ /^  [0-3]/ && below ~ /  +[0-3]/ && below !~ /[^0-3 ]/ } END { exit !good }' "$work/out"
has "a piece of several letters" "^ *[0-9]*  '* *[a-z][a-z][a-z]*'*  *| "
"$tool" route "$work/pieces" $text --json >"$work/pieces.json"
if python3 -c 'import json' 2>/dev/null; then
    check "JSON" python3 - "$work/file.json" "$work/odd.json" "$work/pieces.json" $text <<'EOF'
import json, sys
text = open(sys.argv[4], 'rb').read()
for path in sys.argv[1:4]:
    d = json.load(open(path, encoding='utf-8'))
    assert d['experts'] == 4 and d['top_k'] == 2 and d['window'] == 32 or d['window'] == len(d['tokens'])
    for layer in d['routing']:
        first, kept = [0] * 4, [0] * 4
        assert len(layer['routes']) == len(d['tokens']) == layer['tokens'] and layer['dropped'] == 0
        for r in layer['routes']:
            order = sorted(range(4), key=lambda e: -r['probabilities'][e])
            assert r['experts'] == order[:2] or len(set(r['probabilities'])) < 4
            assert abs(sum(r['probabilities']) - 1) < 1e-4 and abs(sum(r['weights']) - 1) < 1e-4
            chosen = [r['probabilities'][e] for e in r['experts']]
            assert all(abs(w - p / sum(chosen)) < 1e-4 for w, p in zip(r['weights'], chosen))
            first[r['experts'][0]] += 1
            for e, k in zip(r['experts'], r['kept']): kept[e] += k
        assert first == layer['first'] and kept == layer['kept'], (first, layer['first'])
    if len(d['tokens']) > 10:
        assert path.endswith('pieces.json') or bytes(t['id'] for t in d['tokens']) == text
        assert ''.join(t['text'] for t in d['tokens']).encode() == text
        assert all((t['loss'] is None) == (i % 32 == 0) for i, t in enumerate(d['tokens']))
EOF
else
    echo "JSON by another reader: skipped (there is no python3)"
fi
try 1 'layers 0 to 2' route "$model" abc --layer 3
try 1 'layer 1 is dense; layer 2 is a mixture' route "$model" abc --layer 1
try 1 'experts 0 to 3' route "$model" abc --expert 4
try 1 'every layer is dense' route "$work/dense" abc
try 1 'is a folder' route "$model" "$work"
try 2 'empty' route "$model" ''
try 1 'empty' route "$model" -
try 2 'route wants a model and a text' route "$model"
try 0 'routing \[{layer, tokens' route --help

# --- report ---------------------------------------------------------------------------------------
page=$work/page.html
try 0 'open it in a browser' report "$model" $text $other --log "$log" --dense-log "$work/dense.jsonl" --out "$page" --svg "$work/svg"
check "below 1 MB" test "$(wc -c <"$page")" -lt 1000000
check "no other place is named" sh -c "! grep -v 'www.w3.org/2000/svg' '$page' | grep -q 'https\{0,1\}://'"
for id in text takes run loads pairs hand data; do check "the page has #$id" grep -q "id=\"$id\"" "$page"; done
check "the twin has a line of its own" grep -q 'data-n="dense".*class="line dash"' "$page"
check "two texts are compared" grep -q "% of each text's choices" "$page"
check "a capacity is a line" grep -q '>slots</text>' "$page"
check "drops have a chart" grep -q 'dropped choices' "$page"
check "balance is no proof" grep -q 'no proof of even loads' "$page"
for chart in loss validation balance load-layer-0 load-layer-2 dropped entropy dead kinds-layer-0 sources-layer-2 pairs-layer-2; do
    check "$chart.svg" sh -c "grep -q '^<svg.*xmlns' '$work/svg/$chart.svg' && tail -n 1 '$work/svg/$chart.svg' | grep -q '</svg>'"
done
if python3 -c 'import json' 2>/dev/null; then
    "$tool" route "$model" $text --json >"$work/route.json"
    check "numbers of the page are those of route and of the log" python3 - "$page" "$work/route.json" "$log" $text "$work/svg" <<'EOF'
import json, math, os, re, sys
import xml.dom.minidom
html = open(sys.argv[1], encoding='utf-8').read()
data = json.loads(re.search(r'id="data">(.*?)</script>', html, re.S).group(1))
text = open(sys.argv[4], 'rb').read()
begin = text.index(bytes(data['bytes']))
assert len(data['bytes']) == min(len(text), 1200) and len(data['layers']) == 2
for layer in data['layers']:                          # routed as in training: slots, drops, weights
    n = len(data['bytes'])
    assert layer['slots'] > 0 and 2 in layer['fate'] and len(layer['p']) == 4 * n
    for t in range(n):
        p, e = layer['p'][4 * t:4 * t + 4], layer['expert'][2 * t:2 * t + 2]
        assert abs(sum(p) - 1000) <= 2 and p[e[0]] >= p[e[1]] >= sorted(p)[-2] - 1
        for j in (0, 1):
            dropped = layer['fate'][2 * t + j] == 2
            assert (layer['slot'][2 * t + j] == -1) == dropped
            assert layer['weight'][2 * t + j] == (0 if dropped else layer['before'][2 * t + j])
steps = [json.loads(l) for l in open(sys.argv[3]) if '"step"' in l and '"event":"step"' in l]
run = html[html.index('id="run"'):html.index('id="pairs"')]
loads = re.findall(r'aria-label="layer (\d): first choices.*?</svg>', run, re.S)
assert loads == ['0', '2'], loads
block = re.search(r'aria-label="layer 2: first choices.*?</svg>', run, re.S).group(0)
for e in range(4):
    x, y = re.search(r'data-n="%d" data-x="([^"]*)" data-y="([^"]*)"' % e, block).groups()
    want = [s['routing'][1]['first'][e] * 4 / s['routing'][1]['tokens'] for s in steps]
    assert all(abs(float(a) - b) < 5e-3 * (1 + b) for a, b in zip(y.split(), want)), e
    assert [float(v) for v in x.split()] == [s['step'] for s in steps]
loss = open(os.path.join(sys.argv[5], 'loss.svg'), encoding='utf-8').read()   # its first tenth is cut off above
assert 'from 5.' in loss or 'from 6.' in loss, re.findall('<text.*?</text>', loss)
for points in re.findall(r'points="([^"]*)"', loss):
    at = [float(p.split(',')[1]) for p in points.split()]
    assert all(26 <= y <= 190 for y in at) and 0 < sum(y < 26.05 for y in at) <= len(at) / 10 + 1, at
for name in os.listdir(sys.argv[5]): xml.dom.minidom.parse(os.path.join(sys.argv[5], name))
EOF
else
    echo "the page's numbers by another reader: skipped (there is no python3)"
fi
try 1 'exists already; --force' report "$model" $text --out "$page"
try 0 'page.html' report "$model" $text --out "$page" --force --layer 0 --expert 3 --token 7
check "it opens where it was told" grep -q '"start":\[0,3\]' "$page"
check "that token is done by hand" grep -q 'number 7 of the text, in layer 0' "$page"
check "without a log there is none" sh -c "! grep -q 'data-n=\"mix\"' '$page'"
try 0 'pieces.html' report "$work/pieces" $text --out "$work/pieces.html"
check "its letters are pieces" grep -q '"pieces":\["' "$work/pieces.html"
try 0 'race.html' report "$model" 'a few words of my own' --log "$work/race.jsonl" --out "$work/race.html"
check "both sides of a race" sh -c "grep -q 'data-n=\"mix\"' '$work/race.html' && grep -q 'data-n=\"dense\"' '$work/race.html'"
before=$(ls "$work" | wc -l)
try 2 'report wants a model and a text' report "$model"
try 1 'is a folder' report "$model" "$work" --out "$work/none.html"
try 1 'every layer is dense' report "$work/dense" $text --out "$work/none.html"
try 1 'has no steps of a run' report "$model" $text --log "$work/odd.json" --out "$work/none.html"
try 1 'run.txt' report "$model" $text --log "$work/run.txt" --out "$work/none.html"
try 1 'object' report "$model" $text --log $text --out "$work/none.html"
try 1 'layers 0 to 2' report "$model" $text --layer 7 --out "$work/none.html"
try 1 'token 99999' report "$model" $text --token 99999 --out "$work/none.html"
try 1 'cannot be written' report "$model" $text --out "$work/no/such/none.html"
try 2 'would be overwritten' report "$model" "$work/run.jsonl" --out "$work/run.jsonl"
check "what fails leaves nothing behind" test "$(ls "$work" | wc -l)" -eq "$before"

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
