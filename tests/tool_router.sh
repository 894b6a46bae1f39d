#!/bin/sh
# The tool's routers and upcycling: each --router trains and, where it can, writes; a dense model grown
# into a mixture has the loss it had, and learns on.
#
#   sh tests/tool_router.sh PROGRAM
. "$(dirname "$0")/tooling.sh"
cd "$work" || exit 1
hens 300 >text
quick="--layers 2 --d-model 16 --batch 2 --context 16 --steps 6"
small="$quick --experts 4 --moe-hidden 16"

for router in top_k sampled random noisy hash; do
    ask train text $small --router $router --out $router.m --log $router.l
    is "$router trains" 0 "saved"
    grep -q "\"router\":\"$router\"" $router.l; status=$?; is "$router is logged" 0 ''
    ask generate $router.m --prompt The --tokens 5;   is "$router writes" 0 'The'
done
ask train text $small --router expert_choice --out ec.m;  is "expert_choice trains" 0 'look at later'
ask generate ec.m --prompt The;                       is "expert_choice cannot write" 1 'another router'
ask train text $small --router best;                  is "no such router" 2 'top_k sampled random'
ask train text $small --score tanh;                   is "no such score" 2 'softmax sigmoid'
ask train text $small --score sigmoid --bias --aux 0 --shared 16 --out s.m
is "sigmoid, bias and shared" 0 'balanced by a bias'

ask race text $small --router hash --router top_k --log two.jsonl
is "two routers race" 0 'router hash .* router top_k'
grep -q '"side":"hash"' two.jsonl && grep -q '"second_loss"' two.jsonl; status=$?; is "both are in the log" 0 ''
ask race text $small --router top_k --router expert_choice
tr '\n' ' ' <out | grep -q 'router expert_choice looks at later tokens: its loss cannot be compared'; status=$?
is "a race with one that looks ahead says so" 0 ''
awk 'length > 79 && !/^note: / { print; bad = 1 } END { exit bad }' out;  status=$?; is "in 79 columns" 0 ''
ask race text $small --router hash --router hash;     is "a router against itself" 2 'hash twice'
ask race text $small --router hash --router best;     is "no such rival" 2 'top_k sampled random'

ask train text $quick --dense --out dense.m;          is "a dense model" 0 'saved'
ask upcycle dense.m --experts 4 --every 2 --out up.m; is "upcycles" 0 '1 of 2 layers are mixtures of 4'
is "and tells how far it is from the dense one" 0 'at most \(0\|[0-9.]*e-0[6-9]\) from the dense'
ask upcycle dense.m --experts 4 --out up.m;           is "does not overwrite" 1 'exists already'
ask upcycle up.m --out two.m;                         is "a mixture already" 1 'mixture already'
ask upcycle dense.m --experts 1 --out two.m;          is "too few experts" 1 'top_k is 2 with 1'
ask upcycle;                                          is "no model" 2 'wants a dense model'
ask upcycle none.m --out two.m;                       is "no such model" 1 'none.m'
loss() { "$tool" eval "$1" text | grep -o 'loss [0-9.]*\|[0-9]\.[0-9]* nats' | head -n 1; }
a=$(loss dense.m); b=$(loss up.m); echo "$a is $b" >out
[ -n "$a" ] && [ "$a" = "$b" ]; status=$?;            is "the same loss" 0 ''
ask train text --from up.m --steps 4 --batch 2 --out on.m;  is "learns on" 0 'saved'
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
