#!/bin/sh
# The ten lessons of examples/lessons.md: each runs, draws its picture, and what it promises happens.
#
#   sh tests/lessons.sh TOOL [NUMBER...]       the last line is "N passed, N failed"
set -u
cd "$(dirname "$0")/.." || exit 1
top=$(pwd)
GLAM_TOOL=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
shift
export GLAM_TOOL
CC=${CC:-cc}
work=$(mktemp -d "${TMPDIR:-/tmp}/glam_lessons.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
passed=0
failed=0

check()
{
    if [ "$2" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $1"; fi
}

{ $CC -O1 -w -fopenmp examples/lessons.c -o "$work/program" -lm 2>/dev/null || $CC -O1 -w examples/lessons.c -o "$work/program" -lm; }
check "examples/lessons.c compiles" $?
GLAM_LESSONS=$work/program
export GLAM_LESSONS
cd "$work" || exit 1

sh "$top/examples/lessons.sh" 11 >said 2>&1
[ $? = 2 ] && grep -q "from 1 to 10" said
check "a lesson that does not exist" $?
sh "$top/examples/lessons.sh" 3 none.txt >said 2>&1
[ $? = 1 ] && grep -q "none.txt cannot be read" said
check "a text that does not exist" $?

[ $# -gt 0 ] || set -- 1 2 3 4 5 6 7 8 9 10
for n in "$@"; do
    sh "$top/examples/lessons.sh" "$n" >said 2>&1
    status=$?
    [ $status = 0 ] && grep -q '^as promised: ' said && ! grep -q '^NOT as promised' said
    check "lesson $n: $(grep '^NOT' said || tail -n 1 said)" $?
    picture=lessons/$n.svg
    head -c 4 $picture 2>/dev/null | grep -q '<svg' && tail -n 1 $picture | grep -q '</svg>$' &&
        grep -Eq '<(polyline|rect)' $picture && ! grep -Eq 'nan|inf[^o]' $picture
    check "picture $n" $?
    grep -q "^## $n\. " "$top/examples/lessons.md" && grep -q "lessons/$(printf %02d "$n").svg" "$top/examples/lessons.md" &&
        [ -s "$top/examples/lessons/$(printf %02d "$n").svg" ]
    check "lesson $n is in lessons.md, with its picture" $?
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
