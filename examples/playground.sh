#!/bin/sh
# Builds a page in which a mixture learns, beside its dense twin: one HTML file with the header as
# WebAssembly, the page examples/playground.html and a text.  It needs no network and no server.
#
#   sh examples/playground.sh OUT.html [TEXT]
#
# Without TEXT it learns from README.md, the examples and the interface of glam.h.  The compiler is WASM_CC when
# it is set (WASM_CC="zig cc -target wasm32-wasi"), else clang with wasi-libc, else zig.
set -u
top=$(cd "$(dirname "$0")/.." && pwd) || exit 1

fail() { echo "playground.sh: $1" >&2; exit "${2:-1}"; }

[ $# -ge 1 ] && [ $# -le 2 ] || fail "sh examples/playground.sh OUT.html [TEXT]" 2
out=$1
text=${2:-}
[ -z "$text" ] || [ -r "$text" ] || fail "$text cannot be read"
[ -z "$text" ] || [ "$(wc -c <"$text")" -ge 1000 ] || fail "$text has less than 1000 bytes: nothing to learn from"
[ -z "$text" ] || [ "$(wc -c <"$text")" -le 8000000 ] || fail "$text has more than 8 million bytes: too much for a page"
command -v base64 >/dev/null 2>&1 || fail "base64 is needed (coreutils)"

work=$(mktemp -d "${TMPDIR:-/tmp}/glam_playground.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

printf '#include <math.h>\n#include <stdlib.h>\nvoid *f(int n) { return malloc((size_t)sqrt(n)); }\n' >"$work/probe.c"
# compile COMMAND IN OUT: a library of functions, no main
compile()
{
    $1 -mexec-model=reactor -std=c99 -O3 -msimd128 -DGLAM_NO_STDIO -w -Wl,-z,stack-size=1048576 "$2" -o "$3" -lm
}
found=""
for c in "${WASM_CC:-}" "clang --target=wasm32-wasi" "zig cc -target wasm32-wasi" "python3 -m ziglang cc -target wasm32-wasi"; do
    [ -n "$c" ] || continue
    if compile "$c" "$work/probe.c" "$work/probe.wasm" >/dev/null 2>&1; then found=$c; break; fi
    [ "$c" != "${WASM_CC:-}" ] || fail "WASM_CC=$c builds no WebAssembly"
done
[ -n "$found" ] || fail "no compiler for WebAssembly is here; on Debian: apt-get install clang lld wasi-libc \
libclang-rt-14-dev-wasm32; or zig; or name one in WASM_CC"

compile "$found" "$top/examples/playground.c" "$work/glam.wasm" || fail "$found does not compile examples/playground.c"

if [ -n "$text" ]; then
    cat "$text"
else                                   # without the rulers, or it would learn to draw those
    sed '/ifdef GLAM_IMPLEMENTATION/,$d;s/=====*//' "$top/README.md" "$top"/examples/0*.c "$top/glam.h"
fi >"$work/text" || fail "the text cannot be read"

for part in glam.wasm text; do
    if command -v gzip >/dev/null 2>&1; then gzip -9n <"$work/$part"; else cat "$work/$part"; fi | base64 >"$work/$part.64"
done
awk -v wasm="$work/glam.wasm.64" -v text="$work/text.64" '
    function put(name) { while ((getline line < name) > 0) print line }
    $0 == "@@WASM@@" { put(wasm); next }
    $0 == "@@TEXT@@" { put(text); next }
    { print }' "$top/examples/playground.html" >"$work/page" || exit 1
cat "$work/page" >"$out" || fail "$out cannot be written"
echo "$out: $(($(wc -c <"$out") / 1000)) kB; open it in a browser"
