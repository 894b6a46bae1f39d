#!/bin/sh
# tool_wrong.sh - every command as someone gets it wrong, in a folder of their own: what is not there, what is
# something else, numbers with rubbish, names of other things.  One sentence each, status 1 for files and 2 for
# the command line, and the folder as it was.
#
#     sh tests/tool_wrong.sh PATH-OF-THE-BUILT-TOOL        last line "N passed, N failed"

. "$(dirname "$0")/tooling.sh"

small="--layers 2 --moe-every 2 --d-model 32 --heads 2 --context 16 --batch 2 --steps 2 --quiet"
mkdir "$work/home"
cd "$work/home" || exit 1
said=../out
cp "$top/examples/02_autograd.c" book.txt
mkdir folder
: >empty
echo 'some words of no use at all' >words.txt
echo '{"a": [1, 2' >half.jsonl
echo '{"text": "abc"}' >row.jsonl
check "a mixture" "$tool" train book.txt $small --experts 4 --out mixture
check "a dense model" "$tool" train book.txt $small --experts 0 --out dense
check "an adapter" "$tool" train book.txt --from mixture --lora attention --steps 2 --quiet --out adapter
check "a tokenizer" "$tool" tokenizer book.txt --vocab 300 --out pieces.json
sums() { find . -type f -exec cksum {} + | sort; find . -type d | sort; }
sums >../before

# refuse STATUS PATTERN ARGUMENTS...: one line, with this status, and nothing made, lost or changed
refuse()
{
    try "$@"
    shift 2
    [ "$(grep -c . ../out)" = 1 ] || { fail "glam $*: more than a line"; head -5 ../out; }
    sums | diff ../before - >../changed || { fail "glam $*: the folder is another"; cat ../changed; sums >../before; }
}

# --- the same for all: no words, options that are none, values that are none -----------------------------------
for command in train race eval generate route report tokenizer chat upcycle merge import export info \
    "data score" "data filter" "data mix" "data dedup" "data overlap"; do
    refuse 2 'want' $command
    refuse 2 'no option --frobnicate' $command book.txt --frobnicate 3
    refuse 2 'begin with two dashes' $command book.txt -f
    refuse 2 'a word of the command line is empty' $command ''
    try 0 "glam.* $command " help $command
    try 0 "glam.* $command " $command book.txt --help
done
try 0 'plan \[PRESET' plan book.txt --help
refuse 2 'one preset or model' plan 8B 137B
for command in "train book.txt" "eval dense book.txt" "report mixture book.txt" "tokenizer book.txt" \
    "upcycle dense" "merge mixture adapter" "import folder" "export dense" "data score book.txt" \
    "data dedup book.txt"; do
    refuse 2 '--out wants a value' $command --out
    refuse 2 '--out is empty' $command --out ''
    refuse 2 '--force takes no value' $command --force=1
done
for command in "train book.txt" "race book.txt" "eval dense book.txt" "generate dense" "route mixture abc" \
    "report mixture book.txt" "chat dense" "data dedup book.txt" "plan 8B"; do
    for number in 2x ' 2' -2 1e3 '' 99999; do
        refuse 2 'a whole number from 0 to 1024' $command --threads "$number"
    done
done
for command in "train book.txt" "race book.txt" "eval dense book.txt" "generate dense"; do
    refuse 2 'f32, bf16' $command --arithmetic half
done
refuse 2 'did you mean --layers' train book.txt --layer 3
refuse 2 'see .* help race' race book.txt --out x
refuse 2 'no command' frobnicate
refuse 2 'no verb' data frobnicate

# --- models: what is not there, a folder, an empty file, another file -------------------------------------------
for command in generate chat upcycle info "merge MODEL adapter" "eval MODEL book.txt" "route MODEL abc" \
    "report MODEL book.txt" "export MODEL --out new" "export MODEL --adapter adapter --out new" \
    "train book.txt --from MODEL" "train book.txt --resume MODEL"; do
    case $command in *MODEL*) ;; *) command="$command MODEL" ;; esac
    for model in missing folder empty words.txt pieces.json adapter; do
        refuse 1 "load $model: " $(echo "$command" | sed "s/MODEL/$model/")
    done
done
for command in generate "merge mixture" "eval mixture book.txt --adapter" "export mixture --out new --adapter"; do
    [ "$command" = generate ] || refuse 1 'no file of adapters' $command dense
    refuse 1 'is truncated' $command empty
    refuse 1 'cannot open' $command missing
done
refuse 1 'no config.json' import folder
for file in missing empty words.txt; do refuse 1 'is no folder' import $file; done
refuse 1 'every layer is dense' route dense abc
refuse 1 'every layer is dense' report dense book.txt
refuse 1 'is a mixture already' upcycle mixture
refuse 2 '1 at least' upcycle dense --experts 0
refuse 2 '1 at least' upcycle dense --every 0
refuse 1 'no public family' export mixture --out new
refuse 1 'was it trained to talk' chat mixture

# --- texts ------------------------------------------------------------------------------------------------------
for command in train race tokenizer "eval mixture" "data dedup" "data overlap --eval row.jsonl" \
    "data score --curated book.txt" "data mix --draws 3"; do
    refuse 1 'missing: cannot be opened' $command missing
    refuse 1 'folder.* is a folder' $command folder
done
for command in train race tokenizer "eval mixture" "route mixture" "report mixture" "data mix --draws 3"; do
    refuse 1 'empty' $command empty
done
refuse 1 'every text is empty' tokenizer empty empty
for command in "route mixture" "report mixture --out ../page.html --force"; do
    try 0 'no file mistyped.txt: its name' $command mistyped.txt
done
for command in "data dedup" "data mix --draws 3" "train --documents lines"; do
    refuse 1 'half.jsonl:1: column 12' $command half.jsonl
done
refuse 2 'lines (of JSON), blank or file' train book.txt --documents verses
refuse 2 'lines (of JSON), blank or file' data dedup book.txt --documents verses
refuse 2 'cut skip refuse' train book.txt --long never
refuse 2 'chatml, granite' train book.txt --format none
for list in 1,x 1x 1,2 '1,' ,1 x; do refuse 2 'for each of 1 texts' train book.txt --weights $list; done
refuse 2 'for each of 2 texts' race book.txt words.txt --weights 1
for where in missing folder words.txt half.jsonl; do
    refuse 1 "$where" train book.txt --tokenizer $where
    refuse 1 "$where" tokenizer $where --show abc
    refuse 1 "$where" eval mixture --task $where
    refuse 1 "$where" eval mixture --tokens $where
    refuse 1 "$where" report mixture book.txt --log $where
    refuse 1 "$where" data overlap book.txt --eval $where
    refuse 1 "$where" plan 8B --device $where
done
refuse 1 'no field of a device' plan 8B --device empty
for line in 'flops' 'flops 1x' 'flops 1e12 3' 'flop 1'; do
    echo "$line" >../device
    refuse 1 'device:1: ' plan 8B --device ../device
done
echo 'flops 1e12   # a comment' >../device
try 0 'time' plan 8B --device ../device
refuse 2 'goes with one file' tokenizer pieces.json book.txt --show abc
refuse 2 'goes with one file' tokenizer pieces.json --show abc --out new
refuse 1 'its tokens are bytes' tokenizer mixture --show abc
refuse 2 'one of them' data score book.txt --curated words.txt --classifier words.txt
refuse 2 'from 8 to 24' data score book.txt --curated words.txt --hash-bits 3
refuse 2 'more than 0' data score book.txt --curated words.txt --rate 0

# --- lines of JSON: what is none, and what is one in another spelling ----------------------------------------------
wrong() { printf '%s\n' '{"text":"a"}' "$2" >../line.jsonl; refuse 1 "line.jsonl:2: column $1" data dedup ../line.jsonl; }
wrong '1: an object' '[1]'
wrong '13: ' '{"text":"a",}'
wrong '13: neither' '{"text":"a" "b":1}'
wrong '20: neither' '{"text":"a","b":[1 2]}'
wrong '13: something after' '{"text":"a"}}'
wrong '17: ' '{"text":"a","b":tru}'
wrong '11: ' '{"text":"\x"}'
wrong '11: ' '{"text":"\u12g4"}'
wrong '10: a control' "$(printf '{"text":"\t"}')"
wrong '13: a string without an end' '{"text":"a\"'
for number in 1. .5 -x +1 1e 1e+; do wrong '17: ' "{\"text\":\"a\",\"b\":$number}"; done
wrong '18: neither' '{"text":"a","b":01}'
wrong '[0-9]*: too deep' "{\"text\":\"a\",\"b\":$(printf '[%.0s' $(seq 300))}"
# right TEXT LINE: the document in that line
right()
{
    printf '%s\n' "$2" >../line.jsonl
    try 0 'removed 0 of 1' data dedup ../line.jsonl --out ../line.txt --force
    printf '%b\n\n' "$1" | cmp -s - ../line.txt && pass || fail "the text of $2: $(cat ../line.txt)"
}
right abc ' { "te\u0078t" : "a\u0062c" , "n" : [ ] , "o" : { } } '
right second '{"text":"first","text":"second"}'
right 'A\0303\0251\0360\0237\0230\0200/"' '{"text":"\u0041\u00e9\ud83d\ude00\/\""}'
right '\0357\0277\0275-\0357\0277\0275' '{"text":"\ud83d-\ude00"}'
right a '{"a":-0,"b":1.5E+3,"c":0.1000000000000000055511151231257827021181583404541015625000000000000,"text":"a"}'

# --- where it goes: a folder, a place that is none, a file that is there, what is read ---------------------------
for command in "train book.txt" "report mixture book.txt" "tokenizer book.txt" "upcycle dense" \
    "merge mixture adapter" "data dedup book.txt" "export mixture --adapter adapter --as gguf"; do
    refuse 1 'is a folder' $command --out folder
    refuse 1 'cannot be written' $command --out nowhere/new
    refuse 1 'words.txt exists already; --force' $command --out words.txt
done
for command in "export dense" "export mixture --adapter adapter"; do
    refuse 1 'cannot be made' $command --out nowhere/new
    refuse 1 'cannot be made' $command --out words.txt
done
refuse 1 'cannot be made' report mixture book.txt --svg words.txt
refuse 1 'cannot be written' plan --calibrate nowhere/new
refuse 1 'exists already' plan --calibrate words.txt
refuse 2 'is what is read' tokenizer book.txt --out book.txt --force
refuse 2 'is what is read' upcycle dense --out dense --force
refuse 2 'is what is read' merge mixture adapter --out ./adapter --force
refuse 2 'is what is read' report mixture book.txt --out book.txt --force
refuse 2 'is what is read' export mixture --adapter adapter --as gguf --out adapter --force
refuse 2 'is one of the files' data dedup book.txt --out book.txt --force
mkdir public
cp dense public/model.safetensors
sums >../before
refuse 2 'is what is read' export public/model.safetensors --out public --force
refuse 1 'has model.safetensors already; --force' export dense --out public
refuse 2 'is in the folder that is read' import public --out public/model.safetensors --force

# --- twice: the last one holds --------------------------------------------------------------------------------
"$tool" generate mixture --tokens 5 --tokens 3 >../once
[ "$(wc -c <../once)" = 3 ] && pass || fail "an option that is given twice"
try 2 'a whole number' generate mixture --tokens 5 --tokens 3x

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
