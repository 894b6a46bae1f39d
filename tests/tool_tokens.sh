#!/bin/sh
# The tool's tokenizers: learnt, shown, stored with a model, gone on with.
#
#   sh tests/tool_tokens.sh PROGRAM
set -u
glam=$1
case $glam in /*) ;; *) glam=$(pwd)/$glam ;; esac
families=$(cd "$(dirname "$0")/families" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/glam_tokens.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
passed=0
failed=0
# is NAME STATUS PATTERN: the last command (its output in out, its status in $status) did so.
is()
{
    if [ "$status" = "$2" ] && grep -q -e "$3" out; then passed=$((passed + 1))
    else failed=$((failed + 1)); echo "$1: FAILED (status $status)"; sed 's/^/    /' out | head -5; fi
}
try() { "$glam" "$@" >out 2>&1; status=$?; }
i=0
while [ $i -lt 400 ]; do
    echo "The $i hen and the pen: then the ten of them went to the glen, again and again."
    i=$((i + 1))
done >text
quick="--layers 2 --d-model 16 --experts 4 --moe-hidden 16 --batch 2 --context 16 --quiet"

try help tokenizer;                                   is "help" 0 'split NAME'
try tokenizer;                                        is "no text" 2 'wants texts'
try tokenizer text --vocab 200;                       is "too few pieces" 2 'more than the 256'
try tokenizer text --split words;                     is "unknown split" 2 'gpt2, digits'
try tokenizer none;                                   is "no such text" 1 'cannot be opened'
try tokenizer .;                                      is "a folder" 1 'is a folder'
try tokenizer text --vocab 320 --out t.json;          is "learns" 0 '320 pieces learnt'
cp t.json first.json
try tokenizer text --vocab 320 --out t.json;          is "does not overwrite" 1 'exists already'
try tokenizer text --vocab 320 --out t.json --force;  is "overwrites when told" 0 'saved'
cmp t.json first.json >out 2>&1; status=$?; echo >>out; is "the same file again" 0 '^'
try tokenizer t.json --show 'the hen';                is "shows pieces" 0 'tokens for 7 bytes'
try tokenizer text --show x;                          is "a text is no tokenizer" 1 'neither JSON nor'
printf '{"model":{"type":"WordPiece"}}' >bad.json
try tokenizer bad.json --show x;                      is "another kind is named" 1 'type WordPiece'
printf '{"model":' >cut.json
try tokenizer cut.json --show x;                      is "cut JSON" 1 'is no JSON: byte'
sed 's/"Sequence","pretokenizers":\[/&{"type":"Split","pattern":{"Regex":"x+"}},/' t.json >odd.json
try tokenizer odd.json --show x;                      is "an unknown expression" 1 'words cut by x+'
try train text --vocab 300 $quick --steps 3 --out a.safetensors --checkpoint c.st
is "learns and trains" 0 'saved a.safetensors'
try tokenizer a.safetensors --show 'the hen';         is "stored with the model" 0 'tokens for 7 bytes'
try generate a.safetensors --prompt 'The ' --tokens 9; is "writes" 0 '^The '
try train text --resume c.st --steps 5 --out b.safetensors --quiet
is "goes on with it" 0 'saved b.safetensors'
try train text --from a.safetensors --steps 2 --out f.safetensors --quiet
is "fine-tunes with it" 0 'saved f.safetensors'
try train text --tokenizer t.json $quick --steps 2 --out g.safetensors
is "takes a file" 0 'saved g.safetensors'
try train text --tokenizer t.json --vocab 256 $quick --steps 2 --out h.safetensors
is "more pieces than the vocabulary" 1 'it has 320 pieces'
try train text --tokenizer none.json $quick --steps 2 --out h.safetensors
is "no such tokenizer" 1 'cannot be opened'
try chat a.safetensors;                               is "no marks of turns" 1 'has no marks of turns'
try chat a.safetensors --format words;                is "unknown turns" 2 'chatml, granite'
printf 'the hen\n/new\nthe pen\n' >said
"$glam" chat a.safetensors --format olmoe --tokens 90 <said >out 2>&1; status=$?; echo . >>out
is "talks" 0 .
try import .;                                         is "a folder without a model" 1 'there is no config.json'
try import text;                                      is "no folder" 1 'is no folder'
try import "$families/mixtral" --out m.safetensors;   is "imports" 0 '4 experts, 2 at work'
try export m.safetensors --out back;                  is "exports" 0 'saved     config.json'
try export m.safetensors --out back;                  is "does not overwrite a folder" 1 'config.json already'
try import back --out n.safetensors;                  is "imports what it wrote" 0 'saved     n.safetensors'
cmp m.safetensors n.safetensors >out 2>&1; status=$?; echo . >>out; is "the same model" 0 .
try export a.safetensors --out other;                 is "no family" 1 'no public family is like this'
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
