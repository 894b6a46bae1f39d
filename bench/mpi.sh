#!/bin/sh
# mpi.sh [openmpi|mpich] [SECONDS] [ROW...] - one process against two, each with one thread, in turns.
#
# ROW: 8 32 sums (default: all).  Prints two Markdown tables: tokens per second of training (medians of three turns, each the median
# step of SECONDS seconds), and the ordered all-reduce beside MPI_Allreduce.  The machine should be
# idle and have two cores.  "1 part" is the fastest that one process can do; with 2 parts it has the
# bits of two processes.
set -eu
flavour=${1:-openmpi}
seconds=${2:-6}
[ $# -gt 2 ] && shift 2 || set -- 8 32 sums
cd "$(dirname "$0")/.."
work=$(mktemp -d "${TMPDIR:-/tmp}/glam_bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
OMPI_ALLOW_RUN_AS_ROOT=1
OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_ALLOW_RUN_AS_ROOT OMPI_ALLOW_RUN_AS_ROOT_CONFIRM
"mpicc.$flavour" -O2 -DGLAM_MPI bench/mpi.c -o "$work/mpi" -lm

ranks()
{
    n=$1
    shift
    case $flavour in
    openmpi) mpirun.openmpi -n "$n" "$work/mpi" "$@" ;;
    *) mpiexec.mpich -n "$n" "$work/mpi" "$@" ;;
    esac
}

median() { tr ' ' '\n' | sort -g | sed -n 2p; }

echo "| shape, $flavour | 1 process, 1 part | 1 process, 2 parts | 2 processes | speed-up | of equal bits |"
echo "| --- | ---: | ---: | ---: | ---: | ---: |"
for experts in "$@"; do
    [ "$experts" = sums ] && continue
    one='' same='' two=''
    for turn in 1 2 3; do
        one="$one $(ranks 1 step $experts 1 "$seconds")"
        same="$same $(ranks 1 step $experts 2 "$seconds")"
        two="$two $(ranks 2 step $experts 2 "$seconds")"
    done
    echo "$(echo $one | median) $(echo $same | median) $(echo $two | median)" |
        awk -v e=$experts '{ printf "| small-moe%d | %.0f | %.0f | %.0f | %.2f | %.2f |\n", e, $1, $2, $3, $3 / $1, $3 / $2 }'
done
case " $* " in
*" sums "*) echo ;;
*) exit 0 ;;
esac
echo "| all-reduce over 2 processes | ordered, us | MPI_Allreduce, us |"
echo "| --- | ---: | ---: |"
for floats in 1024 65536 1048576 8388608; do
    ranks 2 sum $floats | awk -v n=$floats '{ printf "| %d floats | %.0f | %.0f |\n", n, $1, $2 }'
done
