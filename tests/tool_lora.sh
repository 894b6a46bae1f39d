#!/bin/sh
# The tool's adapters: trained, shown, used, merged, written for others; what is refused.
#
#   sh tests/tool_lora.sh PROGRAM
. "$(dirname "$0")/tooling.sh"
families=$top/tests/families
cd "$work" || exit 1
hens 300 >text
shape="--layers 2 --d-model 16 --experts 4 --moe-hidden 16 --moe-every 2 --batch 2 --context 16 --quiet"
fit="--batch 2 --context 16"

ask train text $shape --steps 30 --out base.st;       is "a base" 0 'saved base.st'
ask train text --lora attention --steps 2;            is "wants a base" 2 'lora wants --from'
ask train text --from base.st --rank 4;               is "rank alone" 2 'are about --lora'
ask train text --from base.st --lora heads;           is "an unknown role" 2 'attention experts router'
ask train text --from base.st --lora attention --freeze norms; is "freezing goes with it already" 2 'freeze cannot'
ask train text --from base.st --lora attention --expert-rank 2; is "ranks of experts alone" 2 'want experts in'
ask train text --from base.st --lora attention --share 0.3; is "share alone" 2 'is about --experts-by-load'
ask train text --from base.st --lora attention --rank 0; is "no rank" 2 '1 at least'
ask train text --from base.st --lora shared --steps 2 $fit; is "a role that it lacks" 1 'shared'
"$tool" train text --layers 16 --d-model 64 --batch 1 --context 16 --steps 1 --quiet --out wide.st >out 2>&1
ask train text --from wide.st --lora attention --batch 100000 --context 64 --steps 2
is "more than this machine has" 1 'the run needs .* and this machine has'
ask train text --from base.st --lora attention,experts,dense --rank 4 --expert-rank 2 --steps 12 --lr 0.01 $fit \
    --out a.st --checkpoint a.check
is "trains" 0 'validation loss .* before and .* after'
also 'memory    needs'
also 'attn.q .*2 x 16 x 16 .* 4 .* 256 of 512'
also 'moe.up .*1 x 4 x 16 x 16 .* 2 .*256 of 1,024'
also 'router    frozen, and no balance loss'
also "choices that are not the base's"
also 'saved a.st'
also 'generate base.st --adapter a.st'
ask train text --from base.st --lora router --steps 2 $fit --out r.st; is "trains a router" 0 'trains, with its balance'
ask train text --resume a.check --steps 14 --out a2.st --quiet
is "goes on" 0 'saved a2.st'
ask train text --from base.st --lora experts --experts-by-load text --share 0.3 --steps 12 --lr 0.01 $fit --out e.st
is "experts by load" 0 'of 4 take .* % of the choices'
also 'of experts .* % alone train'
ask train text --from base.st --experts-by-load text --share 0.3 --steps 12 $fit --out esft.st
is "experts themselves by load" 0 'saved esft.st'
also 'of 4 take .* % of the choices'
also 'are frozen'
ask train text --experts-by-load text --steps 2 --out no.st; is "of no model" 2 'wants --from MODEL'
ask eval base.st text;                                is "the base" 0 'loss'
cp out base.out
ask eval base.st text --adapter a.st;                 is "with its adapter" 0 'loss'
if cmp -s out base.out; then fail "the adapter changes nothing"; else pass; fi
ask generate base.st --adapter a.st --prompt The --tokens 8; is "writes with it" 0 '^The'
ask route base.st "the hen" --adapter a.st;           is "routes with it" 0 'layer'
ask eval base.st text --adapter none.st;              is "no such adapter" 1 'none.st'
ask eval base.st text --adapter base.st;              is "a model is no adapter" 1 'base.st'
ask merge base.st;                                    is "merge wants both" 2 'a model and an adapter'
ask merge base.st a.st --out base.st --force;         is "not over what is read" 2 'another name'
ask merge base.st a.st --out merged.st;               is "merges" 0 'saved     merged.st'
also 'logits differ by at most'
ask merge base.st a.st --out merged.st;               is "does not overwrite" 1 'exists already'
ask eval base.st text --adapter a.st;                 grep -o 'loss [0-9.]*' out >with
ask eval merged.st text;                              grep -o 'loss [0-9.]*' out >alone
cmp with alone >out 2>&1; status=$?; echo . >>out;    is "the merged model is the same" 0 .
ask export base.st --adapter a.st --out folder;       is "no family" 1 'no public family'
[ ! -e folder/adapter_config.json ] && pass || fail "something was written"

for f in mixtral granitemoe; do
    ask import "$families/$f" --out $f.st;            is "$f" 0 'saved'
    ask eval $f.st --tokens "$top/tests/golden/none"; is "ids that are not there" 1 .
    ask export $f.st --adapter "$families/$f/adapter" --out $f.peft; is "$f for PEFT" 0 'adapters in'
    ask export $f.st --adapter "$families/$f/adapter" --out $f.peft; is "$f again" 1 'adapter_config.json already'
    ask export $f.st --adapter "$families/$f/adapter" --as gguf --out $f.gguf; is "$f for llama.cpp" 0 'adapters in'
    [ "$(head -c 4 $f.gguf)" = GGUF ] && pass || fail "$f.gguf is none"
    ask merge $f.st "$families/$f/adapter" --out $f-1.st; is "$f merged" 0 'saved'
    ask merge $f.st $f.peft --out $f-2.st;            is "$f merged from ours" 0 'saved'
    cmp $f-1.st $f-2.st >out 2>&1; status=$?; echo . >>out; is "$f: the same" 0 .
done
ask export mixtral.st --as gguf --out x;              is "a form of nothing" 2 'as is about --adapter'
ask export mixtral.st --adapter mixtral.peft --as pt --out x; is "an unknown form" 2 'peft gguf'
ask merge mixtral.st "$families/olmoe/adapter" --out x.st; is "of another family" 1 'has no place\|do not fit'
[ ! -e x.st ] && pass || fail "x.st was written"
sed 's/"use_dora": false/"use_dora": true/' mixtral.peft/adapter_config.json >/dev/null
cp "$families/mixtral/adapter"/adapter_* . && sed 's/"use_dora": false/"use_dora": true/' adapter_config.json >c &&
    mkdir dora && mv c dora/adapter_config.json && mv adapter_model.safetensors dora
ask merge mixtral.st dora --out x.st;                 is "DoRA is refused by its name" 1 'use_dora'
# a folder that cannot be written whole leaves nothing of it
mkdir -p blocked/adapter_model.safetensors
ask export mixtral.st --adapter mixtral.peft --out blocked --force; is "a place that is taken" 1 'cannot be written'
[ "$(ls blocked)" = adapter_model.safetensors ] && pass || fail "blocked has $(ls blocked)"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
