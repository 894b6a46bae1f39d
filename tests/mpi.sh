#!/bin/sh
# The mesh under a real MPI:  sh tests/mpi.sh openmpi|mpich ALL    (run.sh full does it)
#
# ALL is the program of tests/all.c: its ranks are threads, and every hash must be the same there, under
# Open MPI and under MPICH.  Then files, and jobs in which one rank goes wrong: exit status, time,
# message, no process left behind, and the last checkpoint still loads.  Processes may be more than cores.
set -u
cd "$(dirname "$0")/.." || exit 1
flavour=$1
all=$2
work=$(mktemp -d "${TMPDIR:-/tmp}/glam_mpi.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
. tests/mpi_env.sh
passed=0
failed=0

ok() { passed=$((passed + 1)); echo "$flavour $1: ok${2:+ ($2)}"; }
bad() { failed=$((failed + 1)); echo "$flavour $1: FAILED${2:+ ($2)}"; }

# ranks N SECONDS ARGUMENT...: the program on N ranks, cut off after so long
ranks()
{
    n=$1
    most=$2
    shift 2
    case $flavour in
    openmpi) timeout -k 5 "$most" mpirun.openmpi -n "$n" "$work/mpi" "$@" ;;
    *) timeout -k 5 "$most" mpiexec.mpich -n "$n" "$work/mpi" "$@" ;;
    esac
}

size_of() { echo "$1" | sed 's/s$//;s/x/ /' | { read -r x y; echo $((x * y)); }; }

hashes()
{
    if "$all" --mesh "$1" >"$work/threads" 2>&1 && ranks "$(size_of "$1")" 240 hash "$1" >"$work/out" 2>&1 &&
        ! grep -q failed "$work/out" && cmp -s "$work/threads" "$work/out"; then
        ok "hash $1" "$(wc -l <"$work/out") cases as with threads"
    else
        bad "hash $1"
        diff "$work/threads" "$work/out" | head -n 20
    fi
    # along X the bits are those of one rank as well
    case $1 in
    *x1) cmp -s "$work/one" "$work/out" && ok "bits $1" || bad "bits $1" "not those of one rank" ;;
    esac
}

files()
{
    if ranks "$(size_of "$1")" 120 again "$1" "$work/from" "$work/save" "$work/later2" "$work/model2" \
        >"$work/out" 2>&1 && cmp "$work/from" "$work/save" && cmp "$work/model" "$work/model2"; then
        ok "files $1"
    else
        bad "files $1" "$(grep rank "$work/out" | head -n 1)"
    fi
    case $1 in
    *x1) cmp -s "$work/later" "$work/later2" && ok "resume $1" || bad "resume $1" ;;
    esac
}

# trouble MESH KIND WORDS...: the job must end badly, in time, with these words from some rank
trouble()
{
    mesh=$1
    kind=$2
    shift 2
    for try in 1 2 3; do         # who aborts first may end the others before their words are out
        rm -f "$work/save"
        why=""
        begin=$(date +%s)
        ranks "$(size_of "$mesh")" 60 trouble "$mesh" "$kind" "$work/save" >"$work/out" 2>&1
        status=$?
        took=$(($(date +%s) - begin))
        for words in "$@"; do
            grep -q -- "$words" "$work/out" || why="no '$words'"
        done
        [ -z "$why" ] && break
    done
    case $status in
    0) why="exit status 0" ;;
    124 | 137) [ $took -ge 60 ] && why="it hung" ;;
    esac
    [ $took -gt $((deadline + 2 + 6)) ] && why="$took seconds"       # six to start and to clear up
    late=$(sed -n 's/^rank [0-9]* after \([0-9]*\)\..* s: .*/\1/p' "$work/out" | sort -n | tail -n 1)
    [ "${late:-0}" -ge $((deadline + 2)) ] && why="a rank ended $late seconds after the last step"
    orphans && why="$left processes are left"
    if [ "$kind" != recipe ]; then
        ranks 1 60 load "$work/save" >"$work/loaded" 2>&1
        grep -q 'checkpoint of step 3' "$work/loaded" || why="the checkpoint: $(tail -n 1 "$work/loaded")"
    fi
    if [ -z "$why" ]; then
        ok "$kind $mesh" "status $status, $took s: $(grep '^rank' "$work/out" | head -n 1)"
    else
        bad "$kind $mesh" "$why"
        head -n 20 "$work/out"
    fi
}

if ! build_mpi "$work/mpi" >"$work/out" 2>&1; then
    bad build
    head -n 20 "$work/out"
    echo "$passed passed, $failed failed"
    exit 1
fi
"$all" --mesh 1x1 >"$work/one"
for mesh in 2x1 4x1 8x1 2x2 4x2 2x2s; do hashes $mesh; done
ranks 1 60 first "$work/from" "$work/later" "$work/model" >"$work/out" 2>&1 || bad first "$(tail -n 1 "$work/out")"
for mesh in 2x1 4x1 8x1 1x2 2x2 4x2 2x2s; do files $mesh; done
for mesh in 4x1 2x2; do
    trouble $mesh kill
    trouble $mesh leave
    trouble $mesh sleep "did not answer" "layer"
    trouble $mesh skip "rank 1 " "valid"
    trouble $mesh recipe "rank 1 " "other configurations"
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
