#!/bin/sh
# Ranks that fail, many times each:  sh tests/ranks_fail.sh openmpi|mpich [TRIALS] [KIND...]
#
# KIND: kill (SIGKILL in a step), skip (a collective that nobody else calls), other (saves where the others
# train), recipe (another configuration), saving (SIGKILL while all save), link (the cable between two network
# namespaces is cut; wants root).  Each trial must end with a status that is not 0, no rank later than the
# deadline plus two seconds, with no process left behind and a checkpoint that loads.
set -u
cd "$(dirname "$0")/.." || exit 1
flavour=$1
trials=${2:-10}
[ $# -ge 2 ] && shift 2 || shift 1
[ $# = 0 ] && set -- kill skip other recipe saving link
work=$(mktemp -d "${TMPDIR:-/tmp}/glam_ranks.XXXXXX") || exit 1
chmod 755 "$work"
east=glam_e$$
west=glam_w$$
trap '[ -n "${GLAM_KEEP:-}" ] || { unplug; rm -rf "$work"; }' EXIT
trap 'exit 130' INT TERM HUP
. tests/mpi_env.sh
passed=0
failed=0

# Two namespaces with a cable between them, 10.77.0.1 and 10.77.0.2; a launcher that enters them.
plug()
{
    ip netns add $east && ip netns add $west || return 1
    ip link add ve$$ type veth peer name vw$$ && ip link set ve$$ netns $east && ip link set vw$$ netns $west || return 1
    ip -n $east addr add 10.77.0.1/24 dev ve$$
    ip -n $west addr add 10.77.0.2/24 dev vw$$
    for ns in $east $west; do ip -n $ns link set lo up; done
    ip -n $east link set ve$$ up
    ip -n $west link set vw$$ up
    cat >"$work/enter" <<END
#!/bin/sh
# rsh for two namespaces: options, host, command
while [ "\${1#-}" != "\$1" ]; do shift; done
host=\$1
shift
case \$host in 10.77.0.1) ns=$east ;; *) ns=$west ;; esac
exec ip netns exec \$ns /bin/sh -c "\$*"
END
    chmod 755 "$work/enter"
}

unplug()
{
    for ns in $east $west; do
        if ip netns pids $ns >/dev/null 2>&1; then
            for p in $(ip netns pids $ns); do kill -9 "$p" 2>/dev/null; done
            ip netns del $ns
        fi
    done
}

job()
{
    case $flavour in
    openmpi) timeout -k 5 60 mpirun.openmpi -n 4 "$work/mpi" trouble "$1" "$2" "$work/save" ;;
    *) timeout -k 5 60 mpiexec.mpich -n 4 "$work/mpi" trouble "$1" "$2" "$work/save" ;;
    esac
}

# Two ranks, one in each namespace; the cable is cut once they are at work.  Both MPIs would find that they
# are on one machine, and talk through its memory: TCP it must be.
cut_job()
{
    case $flavour in
    openmpi)
        ip netns exec $east timeout -k 5 60 mpirun.openmpi -n 2 --host 10.77.0.1:1,10.77.0.2:1 \
            --mca plm_rsh_agent "$work/enter" --mca btl tcp,self --mca btl_tcp_if_include 10.77.0.0/24 \
            --mca oob_tcp_if_include 10.77.0.0/24 "$work/mpi" trouble 2x1 link "$work/save" ;;
    *)
        ip netns exec $east timeout -k 5 60 mpiexec.mpich -n 2 -ppn 1 -hosts 10.77.0.1,10.77.0.2 -launcher rsh \
            -launcher-exec "$work/enter" -iface ve$$ -localhost 10.77.0.1 -genv UCX_TLS tcp,self \
            "$work/mpi" trouble 2x1 link "$work/save" ;;
    esac &
    cut_pid=$!
    for try in $(seq 1 200); do
        grep -q 'the link may go' "$work/out" && break
        sleep 0.1
    done
    ip -n $west link set vw$$ down
    begin=$(date +%s)
    # the launcher may wait for a machine that nobody can reach; the ranks may not
    for try in $(seq 1 $((4 * (deadline + 8)))); do
        kill -0 $cut_pid 2>/dev/null || break
        orphans || break
    done
    took=$(($(date +%s) - begin))
    ! orphans || return 99
    kill $cut_pid 2>/dev/null
    wait $cut_pid
    return 1
}

trial()
{
    kind=$1
    mesh=4x1
    [ $((i % 2)) = 0 ] && mesh=2x2
    rm -f "$work/save"
    : >"$work/out"
    why=""
    begin=$(date +%s)
    if [ "$kind" = link ]; then
        unplug
        plug || { why="no namespaces"; return; }
        cut_job >"$work/out" 2>&1
        status=$?
        [ $status = 99 ] && why="$left ranks are left"
        grep -q 'the link may go' "$work/out" || why="it did not begin"
    else
        job $mesh "$kind" >"$work/out" 2>&1
        status=$?
        took=$(($(date +%s) - begin))
        case $status in
        0) why="exit status 0" ;;
        124 | 137) [ $took -ge 60 ] && why="it hung" ;;
        esac
        orphans && why="$left processes are left"
    fi
    [ $took -gt $((deadline + 2 + 6)) ] && why="$took seconds"        # six to start and to clear up
    late=$(sed -n 's/^rank [0-9]* after \([0-9]*\)\..* s: .*/\1/p' "$work/out" | sort -n | tail -n 1)
    [ "${late:-0}" -ge $((deadline + 2)) ] && why="a rank ended $late seconds after its last step"
    [ "${late:-0}" -gt $latest ] && latest=$late
    [ $took -gt $longest ] && longest=$took
    if [ "$kind" != recipe ]; then
        "$work/mpi" load "$work/save" >"$work/loaded" 2>&1
        grep -q 'checkpoint of step [3-9]' "$work/loaded" || grep -q 'checkpoint of step [0-9][0-9]' "$work/loaded" ||
            why="the checkpoint: $(tail -n 1 "$work/loaded")"
    fi
}

if ! build_mpi "$work/mpi" >"$work/out" 2>&1; then
    head -n 20 "$work/out"
    echo "0 passed, 1 failed"
    exit 1
fi
for kind in "$@"; do
    # a privilege, no package: not to have it is no failure
    if [ "$kind" = link ] && ! { ip netns add $east && ip netns del $east; } >/dev/null 2>&1; then
        echo "$flavour link: skipped (no namespaces without root and iproute2)"
        continue
    fi
    good=0
    latest=0
    longest=0
    reason=""
    for i in $(seq 1 "$trials"); do
        trial "$kind"
        if [ -z "$why" ]; then good=$((good + 1)); else reason=$why; cp "$work/out" "$work/bad"; fi
    done
    if [ $good = "$trials" ]; then
        passed=$((passed + 1))
        echo "$flavour $kind: ok ($good of $trials; longest job $longest s, last rank $latest s after its last step)"
    else
        failed=$((failed + 1))
        echo "$flavour $kind: FAILED ($good of $trials; $reason)"
        head -n 20 "$work/bad"
    fi
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
