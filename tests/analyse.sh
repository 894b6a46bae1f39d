#!/bin/sh
# Static analysis of glam.h: cppcheck, clang-tidy (bugprone, cert) and, when asked for (it takes minutes),
# gcc -fanalyzer.  Every finding is a fault unless tests/analyse.txt says why not.
#
#   sh tests/analyse.sh [cppcheck] [clang-tidy] [gcc]        none named: the first two
set -u
cd "$(dirname "$0")/.." || exit 1
work=$(mktemp -d "${TMPDIR:-/tmp}/glam_analyse.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
passed=0
failed=0
[ $# = 0 ] && set -- cppcheck clang-tidy

# Each prints its findings as  FILE:LINE: ID: MESSAGE
findings()
{
    case $1 in
    cppcheck)
        cppcheck --std=c99 --enable=warning,portability,performance --max-configs=1 -DGLAM_IMPLEMENTATION \
            -D__GNUC__=12 -D__x86_64__ -D__unix__ --suppress=missingIncludeSystem --quiet \
            --template='{file}:{line}: {id}: {message}' tests/compile_c.c 2>&1 ;;
    clang-tidy)
        clang-tidy --quiet --checks='-*,bugprone-*,cert-*' --header-filter='glam\.h' tests/compile_c.c -- \
            -std=c99 2>/dev/null |
            sed -n 's/^\([^:]*glam\.h:[0-9]*\):[0-9]*: warning: \(.*\) \[\([a-z0-9.-]*\).*\]$/\1: \3: \2/p' ;;
    gcc)
        gcc -std=c99 -O1 -fanalyzer -c tests/compile_c.c -o "$work/o" 2>&1 |
            sed -n 's/^\([^:]*glam\.h:[0-9]*\):[0-9]*: warning: \(.*\) \[\(.*\)\]$/\1: \3: \2/p' ;;
    esac
}

for tool in "$@"; do
    if ! command -v "$tool" >/dev/null 2>&1; then
        if [ "${GLAM_NO_SKIP:-0}" = 1 ]; then failed=$((failed + 1)); echo "$tool: FAILED (there is none)"
        else echo "$tool: skipped (there is none)"; fi
        continue
    fi
    findings "$tool" | sed 's#^[^ ]*glam\.h:#glam.h:#' >"$work/found"
    awk -v tool="$tool" '
        FILENAME ~ /glam\.h$/ { text[FNR] = $0; next }
        FILENAME ~ /analyse\.txt$/ {
            if ($0 ~ /^#/ || split($0, f, / \| /) < 3 || index(f[1], tool " ") != 1) next
            n++; id[n] = substr(f[1], length(tool) + 2); part[n] = f[2]; next
        }
        {
            all++
            split($1, at, ":"); name = $2; sub(/:$/, "", name)
            for (i = 1; i <= n; i++)
                if (id[i] == name && (part[i] == "*" || index(text[at[2]], part[i]))) { used[i] = 1; next }
            print; print "    " text[at[2]]
        }
        END {
            for (i = 1; i <= n; i++) if (!used[i]) print "analyse.txt: passes over nothing: " tool " " id[i] " | " part[i]
            print all + 0 " findings" >"/dev/stderr"
        }' glam.h tests/analyse.txt "$work/found" >"$work/left" 2>"$work/count"
    if [ -s "$work/left" ]; then
        failed=$((failed + 1))
        cat "$work/left"
        echo "$tool: FAILED ($(cat "$work/count"))"
    else
        passed=$((passed + 1))
        echo "$tool: ok ($(cat "$work/count"), each with its reason)"
    fi
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
