# What the tests of the tool have in common; they begin with
#
#     . "$(dirname "$0")/tooling.sh"          $1 is the built tool (or another program to try)
#
# and are then at the top of the repository, with a folder $work of their own.  $verb stands before all that
# try gives the tool; what check says goes to $work/$said.

case $1 in /*) tool=$1 ;; *) tool=$PWD/$1 ;; esac
cd "$(dirname "$0")/.." || exit 1
[ -x "$tool" ] || { echo "$tool is not there: build it first"; exit 1; }
top=$PWD
work=$(mktemp -d "${TMPDIR:-/tmp}/glam-tool.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
passed=0 failed=0 verb="" said=out
NO_COLOR=1
OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}         # other tests want the cores too
export NO_COLOR OMP_WAIT_POLICY

pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); echo "FAILED: $*"; }

# check NAME COMMAND...: the command must succeed
check()
{
    name=$1
    shift
    if "$@" >"$work/$said" 2>&1; then pass; else fail "$name"; tail -5 "$work/$said"; fi
}

# try STATUS PATTERN ARGUMENTS...: the tool ends with that status and prints a line like that
try()
{
    status=$1 pattern=$2
    shift 2
    "$tool" $verb "$@" >"$work/out" 2>&1 </dev/null
    got=$?
    if [ $got -ne "$status" ]; then
        fail "glam $verb $*: status $got, not $status"
        tail -3 "$work/out"
    elif ! grep -q -e "$pattern" "$work/out"; then
        fail "glam $verb $*: no line like '$pattern'"
        tail -3 "$work/out"
    else pass; fi
}

# The other way to say it, in a line: ask ARGUMENTS...; is NAME STATUS PATTERN: the last command (what it
# printed is in $work/out, its status in $status) ended so and printed a line like that.
ask() { "$tool" $verb "$@" >"$work/out" 2>&1 </dev/null; status=$?; }
is()
{
    if [ "$status" = "$2" ] && grep -q -e "$3" "$work/out"; then pass
    else fail "$1 (status $status)"; head -5 "$work/out"; fi
}

# A text of so many lines that a small model learns fast.
hens()
{
    hen=0
    while [ $hen -lt "$1" ]; do
        echo "The $hen hen and the pen: then the ten of them went to the glen, again and again."
        hen=$((hen + 1))
    done
}

# and the same output has such a line too
also() { if grep -q -e "$1" "$work/out"; then pass; else fail "no line like '$1'"; fi; }
