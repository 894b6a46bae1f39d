# What the MPIs must be told on one machine, and whether they left anything; read by mpi.sh and ranks_fail.sh.
# Open MPI refuses root, and more ranks than cores, unless it is told
OMPI_ALLOW_RUN_AS_ROOT=1
OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
OMPI_MCA_rmaps_base_oversubscribe=1
OMPI_MCA_mpi_yield_when_idle=1
OMPI_MCA_btl_vader_single_copy_mechanism=none
export OMPI_ALLOW_RUN_AS_ROOT OMPI_ALLOW_RUN_AS_ROOT_CONFIRM OMPI_MCA_rmaps_base_oversubscribe
export OMPI_MCA_mpi_yield_when_idle OMPI_MCA_btl_vader_single_copy_mechanism
OMP_WAIT_POLICY=passive
export OMP_WAIT_POLICY
deadline=3             # MPI_DEADLINE of mpi.c

# build_mpi FILE: the program of the ranks, unless run.sh has built it already.
build_mpi()
{
    if [ -x "${GLAM_MPI_BUILT:-}" ]; then cp "$GLAM_MPI_BUILT" "$1"; return; fi
    "mpicc.$flavour" -std=c99 -O2 -Wall -Wextra -Wno-unused-function -DGLAM_MPI tests/mpi.c -o "$1" -lm
}

# Are there processes of $work/mpi?  Asked a few times: those that die need a moment.
orphans()
{
    for try in 1 2 3 4 5 6 7 8; do
        left=0
        for process in /proc/[0-9]*; do
            [ "$(readlink "$process/exe" 2>/dev/null)" = "$work/mpi" ] && left=$((left + 1))
        done
        [ $left = 0 ] && return 1
        sleep 0.25
    done
    return 0
}
