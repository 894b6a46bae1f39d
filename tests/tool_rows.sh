#!/bin/sh
# Rows of JSON to fine-tune on: what is learnt of them, what is wrong with them, cut, packed, gone on with.
#
#   sh tests/tool_rows.sh PROGRAM
. "$(dirname "$0")/tooling.sh"
cd "$work" || exit 1
hens 60 >text
quick="--layers 1 --d-model 16 --heads 2 --experts 4 --moe-hidden 16 --capacity 0 --batch 2 --context 48 --quiet"
"$tool" tokenizer text --vocab 300 --out plain.json >out 2>&1
piece() { printf '{"id":%s,"content":"%s","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}' "$1" "$2"; }
marks=$(piece 300 '<|im_start|>'),$(piece 301 '<|im_end|>')
sed "s/\"added_tokens\":\[\]/\"added_tokens\":[$marks]/" plain.json >marks.json
ask train text --tokenizer marks.json $quick --steps 2 --out talk;   is "a model that talks" 0 'saved talk'
ask train text --tokenizer plain.json $quick --steps 2 --out mute;   is "one without turns" 0 'saved mute'
ask train text $quick --steps 2 --out bytes;                         is "one of bytes" 0 'saved bytes'

say() { printf '{"role":"%s","content":"%s"}' "$1" "$2"; }
i=0
while [ $i -lt 30 ]; do
    echo "{\"messages\":[$(say user "pen $i?"),$(say assistant "the hen $i")]}" >>chat.jsonl
    echo "{\"prompt\":\"pen $i:\",\"completion\":\" hen $i.\"}" >>pairs.jsonl
    echo "{\"text\":\"the hen and the pen $i\"}" >>texts.jsonl
    i=$((i + 1))
done

# what is learnt, and what is not: by where it stands, though the same words are in both
printf '%s\n' "{\"messages\":[$(say system 'the hen'),$(say user 'the hen 5'),$(say assistant 'the hen 5'),$(say user 'it?'),$(say assistant 'A\u00e9 \"go\"')]}" >turns.jsonl
ask train turns.jsonl --from talk --show-mask --context 96
is "both answers, with the ends of their turns" 0 '^\[the hen 5<|im_end|>\]$'
also '^\[Aé "go"<|im_end|>\]$'
[ "$(grep -c '\[' out)" = 2 ] && grep -q '^the hen 5<|im_end|>$' out && grep -q '^<|im_start|>assistant$' out && pass ||
    fail "more is learnt than answers"
ask train turns.jsonl --from talk --show-mask --format mistral
is "a system's words in the user's turn" 0 '^the hen 5\[/INST\]\[the hen 5</s>\]'
also '1 longer than 49 tokens, cut at the end'
ask train pairs.jsonl --from bytes --show-mask;   is "completions" 0 '^pen 0:\[ hen 0\.\]$'
ask train texts.jsonl --from bytes --show-mask --documents rows
is "all of a text but its first" 0 '^t\[he hen and the pen 0\]$'
[ "$(ls model* 2>/dev/null)" = "" ] && pass || fail "--show-mask leaves something"
ask train texts.jsonl --from bytes --show-mask;   is "documents have no mask" 1 'wants files of rows'
ask train pairs.jsonl --from mute --show-mask;    is "pieces, too" 0 '^pen 0:\[ hen 0\.\]$'

# what is wrong, with its file and line
wrong() # ROW PATTERN MODEL OPTIONS...: behind a good row
{
    model=$3 row=$1 pattern=$2
    shift 3
    { head -1 pairs.jsonl; echo "$row"; } >wrong.jsonl
    ask train wrong.jsonl --from $model --steps 2 --out none "$@"
    is "wrong: $row" 1 "wrong.jsonl:2: .*$pattern"
}
wrong '{"prompt":"a","completion":"b"' 'a list without an end' bytes
wrong '{"prompt":"a"}' 'no "completion"' bytes
wrong '{"completion":"a"}' 'no "prompt"' bytes
wrong '{"prompt":"a","completion":7}' 'is a number; a string' bytes
wrong '{"prompt":"a","completion":""}' 'nothing of the row.s 1 token' bytes
wrong '{"query":"a"}' 'none of' bytes
wrong '{"text":"a","prompt":"b"}' 'one of' bytes
wrong "{\"messages\":[$(say user a),$(say assistant b)]}" 'no marks of turns' mute
wrong "{\"messages\":[$(say user a)]}" 'nothing of the row' talk
wrong "{\"messages\":[$(say tool a)]}" 'message 1: there is no role "tool"' talk
wrong '{"messages":[{"role":"user"}]}' 'message 1 has no content' talk
wrong '{"messages":[{"role":"user","content":[1]}]}' 'its content is a list' talk
wrong '{"messages":["a"]}' 'message 1 is no object' talk
wrong '{"messages":"a"}' 'a list is wanted' talk
wrong "{\"messages\":[$(say system a),$(say assistant b)]}" 'must come next' talk --format mistral
long=$(printf '%070d' 0)
wrong "{\"prompt\":\"$long\",\"completion\":\"b\"}" 'cuts off all' bytes
wrong "{\"prompt\":\"a\",\"completion\":\"$long\"}" 'has room for 49' bytes --long refuse
[ ! -e none ] && pass || fail "a broken file makes a model"
ask train wrong.jsonl --from bytes --long never;  is "an unknown way" 2 'cut.*skip.*refuse'
ask train wrong.jsonl --from bytes --long skip --steps 2 --out some --val-fraction 0
is "left out" 0 '1 longer than 49 tokens, left out'
ask train wrong.jsonl --from bytes --steps 2 --out cut --val-fraction 0
is "cut" 0 '1 longer than 49 tokens, cut at the end'

# it trains, packed, and a run that is stopped goes on with the same bits
run="--steps 8 --batch 2 --eval-every 4 --quiet"
for rows in chat pairs; do
    ask train $rows.jsonl --from talk $run --out whole.$rows --log whole.$rows.log --keep last
    is "$rows" 0 "saved whole.$rows"
    ask train $rows.jsonl --from talk $run --steps 3 --out half --checkpoint half.st --force
    is "$rows, a part" 0 'saved half'
    ask train $rows.jsonl --resume half.st --steps 8 --out part.$rows --keep last --threads 2 --quiet
    is "$rows, the rest" 0 "saved part.$rows"
    cmp whole.$rows part.$rows >out 2>&1 && pass || fail "$rows: other bits"
done
ask train chat.jsonl --resume half.st --steps 8 --out x --quiet;   is "other rows" 1 'other'
grep -q '"event":"eval","step":4,"val_loss":[0-9]' whole.chat.log && pass || fail "nothing validates"
first=$(grep '"event":"step"' whole.chat.log | head -1 | sed 's/.*"tokens":\([0-9]*\),.*/\1/')
[ "$first" -gt 5 ] && [ "$first" -lt 60 ] && pass || fail "of 96 places $first are learnt"
ask train chat.jsonl pairs.jsonl --from talk $run --out both;      is "two files of rows" 0 'saved both'
ask train chat.jsonl text --weights 0.5,0.5 --from talk $run --out mixed
is "rows and a text" 0 'saved mixed'
ask train pairs.jsonl --from bytes --steps 60 --lr 0.05 --out learnt --val-fraction 0.2
is "it says what it packed" 0 'packed into [0-9]* windows'
also '30, [0-9]* of their [0-9]* tokens to be learnt'
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
