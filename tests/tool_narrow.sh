#!/bin/sh
# The tool's narrow weights: import --weights bf16 and q8 with what they cost, smaller files, the same loss
# through export and back, adapters over them, and what cannot be done with them.
#
#   sh tests/tool_narrow.sh PROGRAM
. "$(dirname "$0")/tooling.sh"
cd "$work" || exit 1
hens 300 >text
ask train text --family mixtral --vocab 300 --layers 2 --d-model 64 --heads 2 --experts 4 --moe-hidden 96 \
    --batch 2 --context 32 --steps 12 --out m
is "a model to begin with" 0 'saved'
ask export m --out hf;                                is "its folder" 0 'saved'
bytes() { wc -c <"$1"; }
loss() { "$tool" eval "$1" text | grep -o 'loss [0-9.]*' | head -n 1; }
ask import hf --out f32;                              is "f32" 0 'saved'
for form in bf16 q8; do
    ask import hf --weights $form --text text --out $form
    is "$form says what it costs" 0 "weights  *$form: loss [0-9.]* nats, f32 [0-9.]*: [+-][0-9.]* "
    off=$(grep -o ': [+-][0-9.]*' out | tr -d ': +-')
    awk "BEGIN { exit !($off < 0.05) }"; status=$?;   is "$form costs little" 0 "$form"
    ask info $form;                                   is "info says $form" 0 "weights in $form"
    ask generate $form --prompt The --tokens 5;       is "$form writes" 0 'The'
    ask export $form --out back-$form;                is "$form is exported" 0 'saved'
    ask import back-$form --out wide-$form;           is "and comes back" 0 'saved'
    a=$(loss $form) b=$(loss wide-$form); echo "$a is $b" >out
    [ -n "$a" ] && [ "$a" = "$b" ]; status=$?;        is "$form is what it was" 0 'loss'
    ask train text --from $form --lora attention,experts --rank 2 --batch 2 --context 32 --steps 4 --out l-$form
    is "adapters over $form" 0 'saved'
    ask eval $form text --adapter l-$form;            is "and used" 0 'loss'
    ask train text --from $form --batch 2 --context 32 --steps 4 --out no-$form
    is "$form itself does not train" 1 'frozen\|narrow'
done
f=$(bytes f32) b=$(bytes bf16) q=$(bytes q8); echo "$f $b $q" >out
[ $((b * 10)) -lt $((f * 7)) ] && [ $((q * 10)) -lt $((b * 8)) ]; status=$?
is "files get smaller" 0 ''
ask import hf --out fresh --weights f16;              is "no such form" 2 'f32, bf16 and q8'
ask import hf --out fresh --text text;                is "nothing to compare" 2 'about --weights'
ask import hf --out fresh --weights q8 --text nowhere; is "no such text" 1 'nowhere'
[ ! -e fresh ]; status=$?;                            is "nothing was written" 0 ''
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
