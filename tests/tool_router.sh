#!/bin/sh
# The tool's routers and upcycling: each --router trains and, where it can, writes; a dense model grown
# into a mixture has the loss it had, and learns on.
#
#   sh tests/tool_router.sh PROGRAM
set -u
glam=$1
case $glam in /*) ;; *) glam=$(pwd)/$glam ;; esac
work=$(mktemp -d "${TMPDIR:-/tmp}/glam_router.XXXXXX") || exit 1
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
while [ $i -lt 300 ]; do
    echo "The $i hen and the pen: then the ten of them went to the glen, again and again."
    i=$((i + 1))
done >text
quick="--layers 2 --d-model 16 --batch 2 --context 16 --steps 6"
small="$quick --experts 4 --moe-hidden 16"

for router in top_k sampled random noisy hash; do
    try train text $small --router $router --out $router.m --log $router.l
    is "$router trains" 0 "saved"
    grep -q "\"router\":\"$router\"" $router.l; status=$?; is "$router is logged" 0 ''
    try generate $router.m --prompt The --tokens 5;   is "$router writes" 0 'The'
done
try train text $small --router expert_choice --out ec.m;  is "expert_choice trains" 0 'look at later'
try generate ec.m --prompt The;                       is "expert_choice cannot write" 1 'another router'
try train text $small --router best;                  is "no such router" 2 'top_k sampled random'
try train text $small --score tanh;                   is "no such score" 2 'softmax sigmoid'
try train text $small --score sigmoid --bias --aux 0 --shared 16 --out s.m
is "sigmoid, bias and shared" 0 'balanced by a bias'

try race text $small --router hash --router top_k --log two.jsonl
is "two routers race" 0 'router hash .* router top_k'
grep -q '"side":"hash"' two.jsonl && grep -q '"second_loss"' two.jsonl; status=$?; is "both are in the log" 0 ''
try race text $small --router hash --router hash;     is "a router against itself" 2 'hash twice'
try race text $small --router hash --router best;     is "no such rival" 2 'top_k sampled random'

try train text $quick --dense --out dense.m;          is "a dense model" 0 'saved'
try upcycle dense.m --experts 4 --every 2 --out up.m; is "upcycles" 0 '1 of 2 layers are mixtures of 4'
try upcycle dense.m --experts 4 --out up.m;           is "does not overwrite" 1 'exists already'
try upcycle up.m --out two.m;                         is "a mixture already" 1 'mixture already'
try upcycle dense.m --experts 1 --out two.m;          is "too few experts" 1 'top_k is 2 with 1'
try upcycle;                                          is "no model" 2 'wants a dense model'
try upcycle none.m --out two.m;                       is "no such model" 1 'none.m'
loss() { "$glam" eval "$1" text | grep -o 'loss [0-9.]*\|[0-9]\.[0-9]* nats' | head -n 1; }
a=$(loss dense.m); b=$(loss up.m); echo "$a is $b" >out
[ -n "$a" ] && [ "$a" = "$b" ]; status=$?;            is "the same loss" 0 ''
try train text --from up.m --steps 4 --batch 2 --out on.m;  is "learns on" 0 'saved'
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
