#!/bin/sh
# The tool's tokenizers: learnt, shown, stored with a model, gone on with.
#
#   sh tests/tool_tokens.sh PROGRAM
. "$(dirname "$0")/tooling.sh"
families=$top/tests/families
cd "$work" || exit 1
hens 400 >text
quick="--layers 2 --d-model 16 --experts 4 --moe-hidden 16 --batch 2 --context 16 --quiet"

ask help tokenizer;                                   is "help" 0 'split NAME'
ask tokenizer;                                        is "no text" 2 'wants texts'
ask tokenizer text --vocab 200;                       is "too few pieces" 2 'more than the 256'
ask tokenizer text --split words;                     is "unknown split" 2 'gpt2, digits'
ask tokenizer none;                                   is "no such text" 1 'cannot be opened'
ask tokenizer .;                                      is "a folder" 1 'is a folder'
ask tokenizer text --vocab 320 --out t.json;          is "learns" 0 '320 pieces learnt'
cp t.json first.json
ask tokenizer text --vocab 320 --out t.json;          is "does not overwrite" 1 'exists already'
ask tokenizer text --vocab 320 --out t.json --force;  is "overwrites when told" 0 'saved'
cmp t.json first.json >out 2>&1; status=$?; echo >>out; is "the same file again" 0 '^'
ask tokenizer t.json --show 'the hen';                is "shows pieces" 0 'tokens for 7 bytes'
ask tokenizer text --show x;                          is "a text is no tokenizer" 1 'neither JSON nor'
printf '{"model":{"type":"WordPiece"}}' >bad.json
ask tokenizer bad.json --show x;                      is "another kind is named" 1 'type WordPiece'
printf '{"model":' >cut.json
ask tokenizer cut.json --show x;                      is "cut JSON" 1 'is no JSON: byte'
sed 's/"Sequence","pretokenizers":\[/&{"type":"Split","pattern":{"Regex":"x+"}},/' t.json >odd.json
ask tokenizer odd.json --show x;                      is "an unknown expression" 1 'words cut by x+'
sed 's/: *300\([,}]\)/:299\1/' t.json >twice.json
ask tokenizer twice.json --show x;                    is "two pieces of one id" 1 'share the id 299'
printf 'caf\303\251 cafe\314\201\n' >accents
ask tokenizer t.json --show "$(cat accents)";         is "an accent stays apart" 0 '12 tokens for 12 bytes'
sed 's/"normalizer":null/"normalizer":{"type":"NFC"}/' t.json >nfc.json
ask tokenizer nfc.json --show "$(cat accents)";       is "NFC composes it" 0 '11 tokens for 12 bytes'
for split in deepseek deepseek-coder; do
    ask tokenizer text --vocab 300 --split $split --out deep.json --force
    is "learns by $split" 0 ' pieces learnt'
    ask tokenizer deep.json --show 'the 1984';        is "reads $split back" 0 'tokens for 8 bytes'
done
sed 's/"Digits","individual_digits":true/"Digits","individual_digits":false/' deep.json >odd.json
ask tokenizer odd.json --show x;                      is "digits in groups" 1 'Digits in groups'
sed 's/p{P}/p{S}/' deep.json >odd.json
ask tokenizer odd.json --show x;                      is "half of DeepSeek's steps" 1 'words cut by'
ask train text --vocab 300 $quick --steps 3 --out a.safetensors --checkpoint c.st
is "learns and trains" 0 'saved a.safetensors'
ask tokenizer a.safetensors --show 'the hen';         is "stored with the model" 0 'tokens for 7 bytes'
ask generate a.safetensors --prompt 'The ' --tokens 9; is "writes" 0 '^The '
ask train text --resume c.st --steps 5 --out b.safetensors --quiet
is "goes on with it" 0 'saved b.safetensors'
ask train text --from a.safetensors --steps 2 --out f.safetensors --quiet
is "fine-tunes with it" 0 'saved f.safetensors'
ask train text --tokenizer t.json $quick --steps 2 --out g.safetensors
is "takes a file" 0 'saved g.safetensors'
ask train text --tokenizer t.json --vocab 256 $quick --steps 2 --out h.safetensors
is "more pieces than the vocabulary" 1 'it has 320 pieces'
ask train text --tokenizer none.json $quick --steps 2 --out h.safetensors
is "no such tokenizer" 1 'cannot be opened'
ask chat a.safetensors;                               is "no marks of turns" 1 'has no marks of turns'
ask chat a.safetensors --format words;                is "unknown turns" 2 'chatml, granite'
printf 'the hen\n/new\nthe pen\n' >said
"$tool" chat a.safetensors --format olmoe --tokens 90 <said >out 2>&1; status=$?; echo . >>out
is "talks" 0 .
ask import .;                                         is "a folder without a model" 1 'there is no config.json'
ask import text;                                      is "no folder" 1 'is no folder'
ask import "$families/mixtral" --out m.safetensors;   is "imports" 0 '4 experts, 2 at work'
ask export m.safetensors --out back;                  is "exports" 0 'saved     config.json'
ask export m.safetensors --out back;                  is "does not overwrite a folder" 1 'config.json already'
ask import back --out n.safetensors;                  is "imports what it wrote" 0 'saved     n.safetensors'
cmp m.safetensors n.safetensors >out 2>&1; status=$?; echo . >>out; is "the same model" 0 .
ask train text $quick --steps 2 --family mixtral --out x.safetensors
is "trains like a family" 0 'saved x.safetensors'
ask export x.safetensors --out as_mixtral;            is "exports what it trained" 0 'as_mixtral'
ask train text $quick --steps 2 --family bert --out y.safetensors
is "an unknown family" 2 'one of llama qwen3 mixtral'
ask export a.safetensors --out other;                 is "no family" 1 'no public family is like this'
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
