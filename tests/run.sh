#!/bin/sh
# Runs the tests.  Needs a C compiler and nothing else; what a machine lacks is named as skipped.
#
#   sh tests/run.sh                everything once as C, once as C++, the gradient walk: two minutes
#   sh tests/run.sh golden         the golden cases alone (GLAM_GOLDEN=folder: the cases of that folder)
#   sh tests/run.sh moe model_is   the tests whose names begin so
#   sh tests/run.sh full           the matrix of compilers, options and sanitizers as well
#   sh tests/run.sh matrix         that without the ordinary run
#   sh tests/run.sh part NAME...   parts of the matrix alone; their names are alone, in_front, behind, below
#
# One line per configuration; the last line is "N passed, N failed" and the exit status is the truth.
# CC and CXX choose the compilers, GLAM_NO_SKIP=1 makes a skip a failure, GLAM_TEST_SIMD and
# GLAM_TEST_THREADS force an instruction set or a number of threads on every test, GLAM_TEST_JOBS says how
# many parts run at once behind those that watch the clock (as many as there are processors).
set -u
cd "$(dirname "$0")/.." || exit 1
CC=${CC:-cc}
CXX=${CXX:-c++}
top=$(mktemp -d "${TMPDIR:-/tmp}/glam_tests.XXXXXX") || exit 1
work=$top                      # what several parts use is in $top; each part has a $work of its own
trap 'end_all; rm -rf "$top"' EXIT
trap 'exit 130' INT TERM HUP
GLAM_TEST_DIR=$work
export GLAM_TEST_DIR
# malloc may say no: the tests ask for sizes that no machine has
ASAN_OPTIONS=allocator_may_return_null=1
TSAN_OPTIONS=ignore_noninstrumented_modules=1
export ASAN_OPTIONS TSAN_OPTIONS
# seven workers on two cores: who has nothing to do must not spin
OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
export OMP_WAIT_POLICY
# Open MPI refuses root, and more ranks than cores, unless it is told
OMPI_ALLOW_RUN_AS_ROOT=1
OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_ALLOW_RUN_AS_ROOT OMPI_ALLOW_RUN_AS_ROOT_CONFIRM OMPI_MCA_rmaps_base_oversubscribe
passed=0
failed=0

have() { command -v "${1%% *}" >/dev/null 2>&1; }

ok() { passed=$((passed + 1)); echo "$1: ok${2:+ ($2)}"; }
bad() { failed=$((failed + 1)); echo "$1: FAILED${2:+ ($2)}"; }

skip()
{
    if [ "${GLAM_NO_SKIP:-0}" = 1 ]; then bad "$1" "would be skipped: $2"; else echo "$1: skipped ($2)"; fi
}

# Ends all that this shell has started, and what that has: a job in the background hears no Ctrl-C.
me=$$
end_all()
{
    trap '' INT TERM HUP
    ours=$(ps -A -o pid= -o ppid= 2>/dev/null | awk -v top="$me" '
        { above[$1] = $2 }
        END { for (p in above) { for (q = above[p]; q > 1 && q != top; q = above[q]); if (q == top) print p } }')
    kill $ours 2>/dev/null
    wait
    for try in 1 2 3 4 5 6 7 8 9 10; do
        left=""
        for pid in $ours; do kill -0 "$pid" 2>/dev/null && left="$left $pid"; done
        [ -n "$left" ] || return
        sleep 1
    done
    kill -9 $left 2>/dev/null
}

# build NAME COMMAND...: compiles in the background, at most two at a time.
builds=2
running=""
build()
{
    build_name=$1
    shift
    ("$@" >"$work/$build_name.log" 2>&1; echo $? >"$work/$build_name.rc") &
    running="$running $!"
    set -- $running
    if [ $# -ge $builds ]; then
        wait "$1"
        shift
        running="$*"
    fi
}

built() { wait; running=""; }

# compiled NAME: reports a build that is a test by itself (warnings are errors, or it must link).
compiled()
{
    if [ "$(cat "$work/$1.rc" 2>/dev/null)" = 0 ]; then ok "$1"; else bad "$1" "does not compile"; head -n 30 "$work/$1.log"; fi
}

# run NAME COMMAND...: runs a test program and adds up what its last line says.
run()
{
    run_name=$1
    shift
    if [ -f "$work/$run_name.rc" ] && [ "$(cat "$work/$run_name.rc")" != 0 ]; then
        bad "$run_name" "does not compile"
        head -n 30 "$work/$run_name.log"
        return
    fi
    if [ -f "$work/$run_name.ahead" ]; then
        wait "$(cat "$work/$run_name.ahead")"
        status=$?
        mv "$work/$run_name.said" "$work/out"
        rm "$work/$run_name.ahead"
    else
        "$@" >"$work/out" 2>&1
        status=$?
    fi
    last=$(tail -n 1 "$work/out")
    p=$(echo "$last" | sed -n 's/^\([0-9][0-9]*\) passed, [0-9][0-9]* failed$/\1/p')
    f=$(echo "$last" | sed -n 's/^[0-9][0-9]* passed, \([0-9][0-9]*\) failed$/\1/p')
    if [ -z "$p" ] || [ -z "$f" ]; then
        bad "$run_name" "stopped, status $status"
        tail -n 40 "$work/out"
        return
    fi
    passed=$((passed + p))
    failed=$((failed + f))
    if [ "$status" = 0 ] && [ "$f" = 0 ]; then
        echo "$run_name: ok ($p passed)"
    elif [ "$f" = 0 ]; then
        bad "$run_name" "status $status"
        tail -n 40 "$work/out"
    else
        echo "$run_name: FAILED ($p passed, $f failed)"
        head -n 200 "$work/out" | sed '$!b;/passed,/d'
    fi
}

# ahead NAME COMMAND...: begins, beside what runs now and in a folder of its own, what "run NAME" will wait for.
ahead()
{
    ahead_name=$1
    shift
    [ "$(cat "$work/$ahead_name.rc" 2>/dev/null || echo 0)" = 0 ] || return
    mkdir "$work/$ahead_name.folder"
    GLAM_TEST_DIR=$work/$ahead_name.folder "$@" >"$work/$ahead_name.said" 2>&1 &
    echo $! >"$work/$ahead_name.ahead"
}

finish()
{
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
    exit $?
}

# Whether a compiler can make and run a program with these flags.
works()
{
    printf 'int main(void) { return 0; }\n' >"$work/probe.c"
    "$@" "$work/probe.c" -o "$work/probe" >/dev/null 2>&1 && "$work/probe" >/dev/null 2>&1
}

if ! have "$CC"; then
    bad "c" "there is no C compiler called $CC; set CC"
    finish
fi

warn="-Wall -Wextra"
openmp=""
if works $CC -fopenmp; then openmp="-fopenmp"; fi
# ranks of the tests of the mesh are threads
pthread="-pthread"
if ! works $CC -pthread; then
    pthread="-DGLAM_TEST_NO_PTHREADS"
    skip mesh "$CC has no -pthread"
fi
CC="$CC $pthread"
CXX="$CXX $pthread"

# ------------------------------------------------------------------------------------ filtered runs

kind=${1:-ordinary}
case $kind in
ordinary | full | matrix) ;;
part) shift ;;
*)
    build c $CC -std=c99 -O2 $warn $openmp tests/all.c -o "$top/c" -lm
    built
    case "$*" in
    *gradient*)
        build gradient $CC -std=c99 -O2 $warn tests/test_gradient.c -o "$work/gradient" -lm
        built
        run gradient "$work/gradient" "$@"
        ;;
    *) run c "$top/c" "$@" ;;
    esac
    finish ;;
esac

# ---------------------------------------------------------------------------------- the ordinary run

ordinary_run()
{
    build c $CC -std=c99 -O2 $warn $openmp tests/all.c -o "$top/c" -lm
    build gradient $CC -std=c99 -O2 $warn tests/test_gradient.c -o "$work/gradient" -lm
    if have "$CXX"; then
        build cpp $CXX -x c++ -std=c++11 -O2 $warn tests/all.c -o "$work/cpp" -lm
        build cpp_alone $CXX -std=c++11 $warn -fsyntax-only tests/compile_cpp.cpp
    fi
    build c_alone $CC -std=c99 $warn -fsyntax-only tests/compile_c.c
    build after $CC -std=c99 -O0 $warn -Werror -DGLAM_NO_SIMD tests/compile_after.c -o "$work/after" -lm
    build words $CC -std=c99 $warn -Werror -include tests/words.h -fsyntax-only tests/compile_c.c
    build families $CC -std=c99 -O1 $warn $openmp tests/families.c -o "$work/families" -lm
    build two_files $CC -std=c99 -O1 $warn -DGLAM_NO_SIMD tests/two_files_a.c tests/two_files_b.c -o "$work/two_files" -lm
    built
    [ -z "$openmp" ] && skip openmp "$CC has no -fopenmp"
    have "$CXX" && ahead cpp "$work/cpp"
    run c "$top/c"
    run gradient "$work/gradient"
    run families "$work/families"
    if have "$CXX"; then
        run cpp "$work/cpp"
        compiled cpp_alone
    else
        skip cpp "there is no C++ compiler called $CXX"
    fi
    compiled c_alone
    run two_files "$work/two_files"
    run after "$work/after" "$work"
    compiled words
}

case $kind in ordinary | full) ordinary_run ;; esac
[ $kind != ordinary ] || finish

# --------------------------------------------------------------------------------------- the matrix

strict="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Werror"

# The header alone, every warning an error: two families of compilers, three languages, each macro.  What needs the
# optimiser comes with c99 and cpp17, unused functions without it by clang; the rest is seen by reading, in a second.
strict_runs()
{
    for c in gcc clang; do
        cxx=g++
        less="-fsyntax-only"
        [ $c = clang ] && cxx=clang++ && less="-O0 -c -o /dev/null"
        if have $c; then
            build ${c}_c99 $c -std=c99 -O2 $strict -c tests/compile_c.c -o "$work/${c}_c99.o"
            build ${c}_no_simd $c -std=c99 $strict $less -DGLAM_NO_SIMD tests/compile_c.c
            build ${c}_static $c -std=c99 $strict $less -Wno-unused-function -DGLAM_STATIC tests/compile_c.c
            build ${c}_no_stdio $c -std=c99 $strict $less -DGLAM_NO_STDIO tests/compile_c.c
            build ${c}_openmp $c -std=c99 $strict $less -fopenmp tests/compile_c.c
        fi
        if have $cxx; then
            build ${c}_cpp11 $cxx -std=c++11 $strict $less tests/compile_cpp.cpp
            build ${c}_cpp17 $cxx -std=c++17 -O2 $strict -c tests/compile_cpp.cpp -o "$work/${c}_17.o"
        fi
    done
    for mpi in openmpi mpich; do
        if have mpicc.$mpi; then
            build ${mpi}_c99 mpicc.$mpi -std=c99 $strict -DGLAM_MPI -fsyntax-only tests/compile_c.c
        fi
    done
    built
    for mpi in openmpi mpich; do
        if have mpicc.$mpi; then compiled ${mpi}_c99; else skip ${mpi}_c99 "there is no mpicc.$mpi"; fi
    done
    for c in gcc clang; do
        cxx=g++
        [ $c = clang ] && cxx=clang++
        if have $c; then
            for kind in c99 no_simd static no_stdio openmp; do compiled ${c}_$kind; done
        else
            skip ${c}_c99 "there is no $c"
        fi
        if have $cxx; then
            for kind in cpp11 cpp17; do compiled ${c}_$kind; done
        else
            skip ${c}_cpp11 "there is no $cxx"
        fi
    done
}

# Programs of other shapes, most of them over a part of the tests.
macro_runs()
{
    build static $CC -std=c99 -O2 -DGLAM_NO_SIMD -DGLAM_STATIC -Wno-unused-function tests/all.c -o "$work/static" -lm
    build two_static $CC -std=c99 -O1 -DGLAM_STATIC -Wno-unused-function tests/two_files_a.c \
        tests/two_files_b.c -o "$work/two_static" -lm
    build fast_math $CC -std=c99 -O2 -ffast-math tests/all.c -o "$work/fast_math" -lm
    built
    run static "$work/static" base ops attention ffn moe golden generate train_l data
    run two_static "$work/two_static"
    # nothing bit-exact is promised here; numbers that are not finite are found all the same
    run fast_math "$work/fast_math" moe_v attention_v ops_p ops_u ffn_v train_l golden_found \
        train_skips train_tries train_bad generate_spoilt generate_pick evaluate_spoilt extremes data
    if [ -n "$openmp" ]; then
        with=$("$top/c" --hash)
        without=$("$top/plain" --hash)
        if [ -n "$with" ] && [ "$with" = "$without" ]; then ok openmp_same_bits; else bad openmp_same_bits "$with, $without"; fi
    else
        skip openmp_same_bits "$CC has no -fopenmp"
    fi
}

# What OpenMP's threads do not survive, and the ways out that README.md names.
fork_runs()
{
    [ -n "$openmp" ] || { skip fork "$CC has no -fopenmp"; return; }
    if ! works $CC -fPIC -ldl || ! $CC -w -O1 -fopenmp -DPLUGIN -fPIC -shared -Wl,-z,nodelete tests/fork.c \
        -o "$work/plugin.so" -lm 2>/dev/null; then
        skip fork "$CC makes no shared objects"
        return
    fi
    build fork $CC -std=c99 -O1 $warn -Wno-unused-function $openmp tests/fork.c -o "$work/fork" -lm -ldl
    build loader $CC -std=c99 -O1 -w tests/fork.c -o "$work/loader" -lm -ldl     # OpenMP comes with the plug-in
    built
    run fork "$work/fork"
    run dlclose "$work/loader" "$work/plugin.so"
}

# Products in bf16: every promise about bits; golden cases and gradients within what rounding explains; the
# tiles of aarch64, with BFMLAL and without.
bf16_runs()
{
    build bf16_gradient $CC -std=c99 -O1 $warn -Wno-missing-field-initializers -Wno-unused-function \
        -DGRADIENT_BF16 tests/test_gradient.c -o "$work/bf16_gradient" -lm
    built
    run bf16_bits env GLAM_TEST_ARITHMETIC=bf16 "$top/c" generate train_rec train_res mesh_x files_ch lora_gradients_of
    run bf16_tiles env GLAM_TEST_ARITHMETIC=bf16_tiles "$top/c" generate train_rec train_res mesh_x files_ch bf16_golden
    if GLAM_TEST_SIMD=amx "$top/c" --has-simd amx; then
        run bf16_amx env GLAM_TEST_SIMD=amx GLAM_TEST_ARITHMETIC=bf16_tiles "$top/c" simd_tiles simd_bf16 \
            generate_cache train_resume
    else
        skip bf16_amx "neither AMX nor a way to imitate it: Linux on x86-64 with AVX2"
    fi
    for simd in base sse2 avx2 avx512 avx512bf16 neon; do
        "$top/c" --has-simd $simd || continue
        run bf16_$simd env GLAM_TEST_SIMD=$simd "$top/c" bf16_golden simd_bf16
    done
    run bf16_gradient "$work/bf16_gradient"
    if [ ! -f "$top/aarch64.rc" ]; then skip bf16_arm "aarch64-linux-gnu-gcc and qemu-aarch64 are needed"; return; fi
    for cpu in max cortex-a57; do
        run bf16_arm_$cpu qemu-aarch64 -cpu $cpu "$top/aarch64" simd_pairs simd_narrow simd_bf16 bf16_golden
    done
}

simd_runs()
{
    for simd in base sse2 avx2 avx512 neon; do
        if "$top/c" --has-simd $simd; then
            GLAM_TEST_SIMD=$simd
            export GLAM_TEST_SIMD
            run simd_$simd "$top/c" tensor autograd ops attention ffn moe model generate train golden context_m
            unset GLAM_TEST_SIMD
        else
            case $simd:$(uname -m) in
            neon:x86_64 | neon:i?86 | sse2:aarch64 | sse2:arm64 | avx*:aarch64 | avx*:arm64) ;;   # of the other family
            avx512:*) echo "simd_avx512: skipped (this CPU has no AVX-512)" ;;
            *) skip simd_$simd "this machine or build has no $simd" ;;
            esac
        fi
    done
}

# Every test with ASan, UBSan and every assertion of the header, by gcc: clang takes four times as long to compile the
# kernels so.  Threads with TSan and the portable kernels, by clang, whose OpenMP it knows.
sanitizer_runs()
{
    asan=$CC
    works $CC -fsanitize=address,undefined || asan="clang $pthread"
    if have "$asan" && works $asan -fsanitize=address,undefined; then
        build asan $asan -std=c99 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all \
            '-DGLAM_ASSERT(c)=((c)?(void)0:abort())' tests/all.c -o "$work/asan" -lm
    fi
    if have clang && works clang -fopenmp -fsanitize=thread; then
        build tsan clang $pthread -std=c99 -O1 -g -DGLAM_NO_SIMD -DGLAM_TEST_SHORT -fopenmp -fsanitize=thread \
            tests/all.c -o "$work/tsan" -lm
    fi
    built
    if [ -f "$work/asan.rc" ]; then run asan "$work/asan"; else skip asan "no compiler has the sanitizers"; fi
    if [ -f "$work/tsan.rc" ]; then
        GLAM_TEST_THREADS=3
        export GLAM_TEST_THREADS
        run tsan "$work/tsan" threads ops_pr attention_v ffn_v moe_v golden_moe_c golden_t generate_g train_o train_fr \
            comm mesh_x mesh_ot mesh_rank mesh_c mesh_use mesh_files mesh_d mesh_y mesh_store_n
        unset GLAM_TEST_THREADS
    else
        skip tsan "clang with libomp is needed"
    fi
}

# Every mesh of threads and kind of model, so many steps (trust.sh 10: a hundred).
mesh_runs() { run mesh_full env GLAM_TEST_FULL=${GLAM_TEST_FULL:-20} "$top/c" mesh; }

# Ranks as processes, under each MPI that is here.
mpi_runs()
{
    for mpi in openmpi mpich; do
        if ! have mpicc.$mpi; then skip $mpi "there is no mpicc.$mpi"; continue; fi
        GLAM_MPI_BUILT=$top/$mpi
        export GLAM_MPI_BUILT
        run $mpi sh tests/mpi.sh $mpi "$top/c"
        run ${mpi}_fail sh tests/ranks_fail.sh $mpi 1 other saving link
    done
}

other_runs()
{
    # headers without gcc-multilib, which no cross compiler suffers beside it
    m32="-m32"
    [ -d "/usr/include/$(uname -m)-linux-gnu" ] && m32="-m32 -I/usr/include/$(uname -m)-linux-gnu"
    if works $CC $m32; then
        build m32 $CC $m32 -std=c99 -O1 tests/all.c -o "$work/m32" -lm
        built
        run m32 "$work/m32" base model_counts plan_ extremes golden_moe_c text data
    else
        skip m32 "$CC has no -m32 (lib32gcc-12-dev, libc6-dev-i386)"
    fi
    if have tcc; then
        build tcc tcc -w $pthread tests/all.c -o "$work/tcc" -lm
        built
        run tcc "$work/tcc" base tensor ops attention_b ffn moe_w golden generate_g
    else
        skip tcc "there is no tcc"
    fi
}

# Behind other headers, whatever those were asked to show; behind words that others define.
placed_runs()
{
    after="-Wall -Wextra -Werror -O0 -DGLAM_NO_SIMD tests/compile_after.c -lm"
    n=0
    for flags in "-std=c99 -D_POSIX_C_SOURCE=199309L" "-std=c99 -D_XOPEN_SOURCE=500" "-std=gnu11" \
        "-std=c99 -D_GNU_SOURCE" "-std=c99 -m32" "-std=gnu99 -m32" "-std=c99 -m32 -D_FILE_OFFSET_BITS=64" \
        "-x c++ -std=c++11" "-x c++ -std=gnu++17"; do
        n=$((n + 1))
        c=$CC
        case $flags in
        *c++* | *gnu++*) c=$CXX ;;
        *-m32*)                                 # the headers of the other width will do
            for more in "" "-I/usr/include/$(uname -m)-linux-gnu"; do
                works $CC -m32 $more -include errno.h && break
            done
            works $CC -m32 $more -include errno.h || { skip "after $flags" "$CC has no -m32"; continue; }
            flags="$flags $more" ;;
        esac
        if [ "$flags" != "${flags#-std=c99 -m32 -I}" ] || [ "$flags" = "-std=c99 -m32 " ]; then
            build m32_files $CC $flags -O1 -DGLAM_NO_SIMD tests/all.c -o "$work/m32_files" -lm
            built
            run m32_files "$work/m32_files" files data text places
        fi
        build after$n $c $flags $after -o "$work/after$n"
        built
        run "after$n" "$work/after$n" "$work"
    done
    for c in clang musl-gcc tcc; do
        have $c || { skip "after_$c" "there is no $c"; continue; }
        build after_$c $c -std=c99 -w -O0 -DGLAM_NO_SIMD tests/compile_after.c -o "$work/after_$c" -lm
        built
        run "after_$c" "$work/after_$c" "$work"
    done
    if have "$CXX"; then
        build words_cpp $CXX -std=c++11 $warn -Werror -include tests/words.h -fsyntax-only tests/compile_cpp.cpp
        built
        compiled words_cpp
    fi
}

# Windows: both kinds of threads that mingw comes with, every warning an error, the tests under wine.
wine_runs()
{
    for kind in win32 posix; do
        c=x86_64-w64-mingw32-gcc-$kind
        have $c || { skip wine_$kind "there is no $c"; continue; }
        build mingw_${kind}_c99 $c -std=c99 -O1 $strict -DGLAM_NO_SIMD -c tests/compile_c.c -o "$work/mingw.o"
        build mingw_${kind}_words $c -std=c99 $strict -include tests/words.h -fsyntax-only tests/compile_c.c
        build wine_$kind $c -std=c99 -O1 $warn -DGLAM_TEST_NO_PTHREADS tests/all.c -o "$work/$kind.exe" -lm -static
        built
        compiled mingw_${kind}_c99
        compiled mingw_${kind}_words
        have wine || { skip wine_$kind "there is no wine"; continue; }
        run wine_$kind env WINEDEBUG=-all WINEDLLOVERRIDES="mscoree,mshtml=" WINEPREFIX="$work/wine" sh -c \
            "wine \"$work/$kind.exe\" base files data text context_o golden train_l generate_s 2>&1 | tr -d '\r'"
    done
    [ -d "$work/wine" ] && WINEPREFIX="$work/wine" wineserver -k 2>/dev/null
}

# Each example is built by the line "Build: COMPILE && ./RUN" of its header, runs in a folder of its
# own, and prints what its header says after "Prints:": every line up to its first ".." must appear.
example_prints()
{
    sed -n '/^ *Prints:/,/\*\//p' "$1" | sed '1d;s/\*\/.*$//;s/\.\..*$//' | tr -s ' ' | sed 's/^ //;s/ $//' |
        sed '/^$/d'
}

example_matches()
{
    example_prints "$1" >"$work/wanted"
    tr -s ' ' <"$2" >"$work/printed"
    while IFS= read -r line; do
        grep -qF -- "$line" "$work/printed" || { echo "not printed: $line"; return 1; }
    done <"$work/wanted"
}

# Prints the compiler call of a Build line for the compilers of this run, writing to $work/example.
example_command()
{
    line=$(sed -n 's/^ *Build: *//p' "$1" | head -n 1 | sed 's/ *&&.*//;s/ *(without.*//')
    [ -n "$line" ] || return 1
    [ -n "$openmp" ] || line=$(echo "$line" | sed 's/ -fopenmp//')
    echo "$line" | sed "s# -o [^ ]*# -o $work/example#;s#^cc #$CC $warn #;s#^c++ #$CXX $warn #"
}

example_run()
{
    file=$1
    name=$(basename "$file" | sed 's/\./_/')
    command=$(example_command "$file") || return      # a part of another example has no Build line
    launch=""
    case $file:$command in
    *.cpp:*) have "$CXX" || { skip "$name" "no C++ compiler"; return; } ;;
    *:mpicc\ *)
        { have mpicc && have mpirun; } || { skip "$name" "there is no mpicc with its mpirun"; return; }
        launch="mpirun -n 2" ;;
    esac
    if ! sh -c "$command" >"$work/out" 2>&1; then
        bad "$name" "does not compile"
        head -n 20 "$work/out"
        return
    fi
    here=$(pwd)
    rm -rf "$work/run"
    mkdir "$work/run"
    for part in glam.h README.md LICENSE examples tests; do
        [ -e "$part" ] && ln -s "$here/$part" "$work/run/$part"
    done
    (cd "$work/run" && $launch "$work/example") >"$work/out" 2>&1
    status=$?
    if [ $status != 0 ]; then
        bad "$name" "status $status"
        tail -n 20 "$work/out"
    elif ! example_matches "$file" "$work/out" >"$work/why"; then
        bad "$name" "$(head -n 1 "$work/why")"
    else
        ok "$name"
    fi
    # the printout of the mixture is parsed and recomputed
    if [ "$name" = 03_moe_step_by_step_c ] && [ -f tests/moe_step_by_step.c ]; then
        cp "$work/out" "$work/steps"
        build moe_steps $CC -std=c99 -O1 $warn tests/moe_step_by_step.c -o "$work/moe_steps" -lm
        built
        run moe_steps sh -c "\"$work/moe_steps\" <\"$work/steps\""
    fi
}

example_runs()
{
    found=0
    for file in examples/[0-9]*.c examples/[0-9]*.cpp; do
        [ -f "$file" ] || continue
        found=1
        example_run "$file"
    done
    [ $found = 1 ] || skip examples "there are none"
}

# The tool: its options, its files, its messages, its signals.
tool_runs() { run tool sh tests/tool.sh "$top/glam"; }

verb_runs()
{
    for verbs in tests/tool_*.sh; do
        run "$(basename "$verbs" .sh)" sh "$verbs" "$top/glam"
    done
}

# The benchmark looks into the header: what it calls must still be there.
bench_runs()
{
    build bench_study $CC -O1 $warn -Werror $openmp bench/study.c -o "$work/bench_study" -lm -ldl
    for name in bench recipe in_context mpi; do
        compiler=$CC
        [ $name = mpi ] && compiler="mpicc -DGLAM_MPI"
        have "$compiler" || { skip bench_mpi "no mpicc"; continue; }
        build bench_$name $compiler $warn -Werror $openmp -fsyntax-only bench/$name.c
    done
    built
    for name in study bench recipe in_context mpi; do
        [ -f "$work/bench_$name.rc" ] && compiled bench_$name
    done
    [ -x "$work/bench_study" ] && run study sh tests/study.sh "$work/bench_study"
}

# Other ways to optimise: the same bits as -O2 where the language is kept, and a part of the tests.
optimised_runs()
{
    wanted=$("$top/plain" --hash)
    for kind in O3 Os flto Ofast; do
        flags=-$kind
        [ $kind = flto ] && flags="-O2 -flto"
        if ! works $CC $flags; then skip "$kind" "$CC has no $flags"; continue; fi
        build $kind $CC -std=c99 $flags -w tests/all.c -o "$work/$kind" -lm
    done
    built
    for kind in O3 Os flto Ofast; do
        [ -f "$work/$kind.rc" ] || continue
        if [ $kind = Ofast ]; then
            run $kind "$work/$kind" moe_v attention_v ops_p ops_u ffn_v train_l golden_found
            continue
        fi
        run $kind "$work/$kind" base kernels tensor autograd ops attention_b ffn moe_v golden generate_g files_r corners
        have_hash=$("$work/$kind" --hash)
        if [ "$have_hash" = "$wanted" ]; then ok ${kind}_same_bits; else bad ${kind}_same_bits "$have_hash, $wanted"; fi
    done
}

# Values that nobody wrote, and memory that nobody gives back: everything built by clang, without OpenMP; the
# portable kernels, which take a quarter of the time to compile here; a part under valgrind.
memory_runs()
{
    if have clang && works clang -fsanitize=memory; then
        build msan clang $pthread -std=c99 -O1 -g -DGLAM_NO_SIMD -fsanitize=memory -fno-sanitize-recover=all -w \
            tests/all.c -o "$work/msan" -lm
        built
        run msan env MSAN_OPTIONS=allocator_may_return_null=1 "$work/msan" base random kernels tensor autograd ops \
            attention ffn moe_v moe_w model_b generate_s text data train_frozen evaluate files corners
    else
        skip msan "clang with its sanitizers is needed"
    fi
    if have valgrind; then
        run valgrind valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite \
            "$top/plain" base tensor autograd_a moe_w model_b generate_s data_t files_
    else
        skip valgrind "there is no valgrind"
    fi
}

# Everything fails once: allocations, calls for files, bytes of a file, whole processes, numbers.
trust_runs()
{
    build trust $CC -std=c99 -O1 $warn -Wno-unused-function tests/trust.c -o "$work/trust" -lm
    built
    run trust env TMPDIR="$work" "$work/trust" quick
}

# Each target for GLAM_FUZZ_SECONDS (60), two at a time: libFuzzer with sanitizers, else a plain loop.  The seed is
# fixed, so that a find can be had again; trust.sh 6 takes others.
fuzz_one()
{
    if [ -f "$work/fuzz_engine" ]; then
        (cd "$work/fuzz" && GLAM_FUZZ=$1 TMPDIR=$work "$work/fuzz_engine" -seed=1 -max_total_time="$fuzz_seconds" -timeout=20 \
            -rss_limit_mb=3000 -max_len=20000 -print_final_stats=1 "$1" >"$1.out" 2>&1)
    else
        (cd "$work/fuzz" && TMPDIR=$work "$work/fuzz_alone" "$1" "$fuzz_seconds" >"$1.out" 2>&1)
    fi
    echo $? >"$work/fuzz/$1.rc"
}

fuzz_runs()
{
    fuzz_seconds=${GLAM_FUZZ_SECONDS:-60}
    targets="load step options metadata tool text"
    build fuzz_alone $CC -std=c99 -O1 $warn -Wno-unused-function tests/fuzz.c -o "$work/fuzz_alone" -lm
    if have clang && works clang -fsanitize=address,undefined; then
        build fuzz_engine clang -std=c99 -O1 -g -w -DFUZZ_ENGINE -DGLAM_NO_SIMD -fsanitize=fuzzer,address,undefined \
            -fno-sanitize-recover=all tests/fuzz.c -o "$work/fuzz_engine" -lm
    fi
    built
    compiled fuzz_alone
    [ -f "$work/fuzz_alone" ] || return
    for target in $targets; do mkdir -p "$work/fuzz/$target"; done
    "$work/fuzz_alone" seeds "$work/fuzz" || bad fuzz_seeds
    waiting=""
    for target in $targets; do
        fuzz_one $target &
        waiting="$waiting $!"
        set -- $waiting
        if [ $# = 2 ]; then wait "$1" "$2"; waiting=""; fi
    done
    for target in $targets; do
        if [ "$(cat "$work/fuzz/$target.rc")" = 0 ]; then
            ok fuzz_$target "$(sed -n 's/^stat::number_of_executed_units: *\([0-9]*\)/\1 inputs/p;s/^[a-z]*: \([0-9]* inputs\).*/\1/p' \
                "$work/fuzz/$target.out") in $fuzz_seconds s"
        else
            bad fuzz_$target
            grep -v '^#' "$work/fuzz/$target.out" | tail -n 25
            # what failed, to be run again by "fuzz again"
            for found in "$work/fuzz"/crash-* "$work/fuzz"/timeout-* "$work/fuzz"/oom-* "$work/fuzz/fuzz_${target}_found"; do
                [ -f "$found" ] && base64 "$found" | head -n 60
            done
        fi
    done
}

analysis_runs() { run analyse sh tests/analyse.sh; }

# Other processors, by emulation: the bits that the portable kernels have here, and a part of the tests
# (trust.sh: all of them).  s390x sums in double under -std=c99 unless told, and its hash is over bytes in the
# other order; 32-bit ARM reads folders only with large offsets.
target_build()
{
    if ! have "$2" || ! have qemu-$1; then skip $1 "$2 and qemu-$1 are needed"; return; fi
    more=-D_FILE_OFFSET_BITS=64
    [ $1 = s390x ] && more=-fexcess-precision=fast
    build $1 $2 -std=c99 $more -O1 -static -pthread -w tests/all.c -o "$work/$1" -lm
}

target_runs()
{
    wanted=$(GLAM_TEST_SIMD=base "$top/plain" --hash)
    for pair in arm:arm-linux-gnueabihf-gcc riscv64:riscv64-linux-gnu-gcc s390x:s390x-linux-gnu-gcc; do
        target_build ${pair%%:*} ${pair#*:}
    done
    [ ! -f "$top/aarch64.rc" ] || cp "$top"/aarch64* "$work"
    if have musl-gcc; then
        build musl musl-gcc -std=c99 -O1 -static -pthread -w tests/all.c -o "$work/musl" -lm
    else
        skip musl "there is no musl-gcc"
    fi
    if have node && works_wasm; then
        build wasm clang --target=wasm32-wasi -std=c99 -O1 -w -Wl,-z,stack-size=1048576 -D_WASI_EMULATED_GETPID \
            -DGLAM_TEST_NO_PTHREADS tests/all.c -o "$work/wasm" -lm -lwasi-emulated-getpid
    else
        skip wasm "node, wasi-libc, libclang-rt-14-dev-wasm32 and lld are needed"
    fi
    built
    for machine in aarch64 arm riscv64 s390x musl wasm; do
        [ -f "$work/$machine.rc" ] || continue
        case $machine in
        musl) launch="" ;;
        wasm) launch="node --no-warnings tests/wasi.mjs" ;;
        *) launch=qemu-$machine ;;
        esac
        folder=""
        [ $machine = wasm ] && folder=$work
        run $machine $launch "$work/$machine" $folder base random text golden_found golden_moe_c moe_v files_c files_r files_n data plan_of
        # bytes in another order; multiply-adds that are always fused
        case $machine in s390x | aarch64 | riscv64) continue ;; esac
        have_hash=$(GLAM_TEST_SIMD=base $launch "$work/$machine" $folder --hash 2>/dev/null)
        if [ "$have_hash" = "$wanted" ]; then ok ${machine}_same_bits; else bad ${machine}_same_bits "$have_hash, $wanted"; fi
    done
}

# In a browser, the page of report; the page in which a mixture trains, its keys, knobs and files; that one's
# losses and speed.
page_runs()
{
    browser=""
    for b in chromium chromium-browser google-chrome; do [ -z "$browser" ] && have $b && browser=$b; done
    if [ -n "$browser" ] && have node; then run report_page sh tests/report_page.sh "$top/glam" $browser
    else skip report_page "needs chromium and node"; fi
    if ! have node || ! works_wasm; then
        skip playground "node, clang, wasi-libc, libclang-rt-14-dev-wasm32 and lld are needed"
        return
    fi
    how=""
    if ! have "${CHROMIUM:-chromium}"; then skip playground_page "there is no chromium"; how=losses; fi
    run playground sh tests/playground.sh "$top/glam" $how
}

# What the lessons promise happens.
lesson_runs() { run lessons sh tests/lessons.sh "$top/glam"; }

# Unicode's form C against Python's own.
unicode_runs()
{
    if have python3; then
        build encode $CC -std=c99 -O2 $warn tests/encode.c -o "$work/encode" -lm
        built
        run unicode python3 tests/unicode.py check "$work/encode"
    else
        skip unicode "there is no python3"
    fi
}

works_wasm()
{
    printf 'int main(void) { return 0; }\n' >"$work/probe.c"
    have clang && clang --target=wasm32-wasi "$work/probe.c" -o "$work/probe.wasm" >/dev/null 2>&1
}

# ------------------------------------------------------------------- parts in front and parts behind

# Ranks of an MPI spin while they wait for each other: beside other work they take five times as long, so they run
# alone, before all.  What watches the clock (signals, kills, a browser, seconds of fuzzing) runs in front, one after
# the other, as if alone.  The rest wants processors and nothing else: it runs behind, niced, one part to a processor,
# and fills what is idle.  The longest come first.
alone="mpi"
in_front="mesh fuzz sanitizer tool page trust fork"
behind="target optimised strict macro memory example wine verb bench placed bf16 simd lesson analysis other unicode"
[ $kind = part ] || set -- $alone $in_front $behind

# chosen NAME...: those of them that are to run
chosen()
{
    for name in "$@"; do
        case " $wanted " in *" $name "*) echo "$name" ;; esac
    done
}

# part NAME: in a folder and with sums of its own; how long it took, and what the processors did for it
part()
{
    mkdir -p "$parts/$1"
    (
        me=$(exec sh -c 'echo $PPID')           # $$ is the pid of the first shell
        trap end_all EXIT
        trap 'exit 130' INT TERM HUP
        begin=$(date +%s)
        work=$parts/$1 GLAM_TEST_DIR=$parts/$1 passed=0 failed=0
        "${1}_runs"
        times >"$work/times"
        used=$(tr 'ms' '  ' <"$work/times" | awk '{ s += 60 * $1 + $2 + 60 * $3 + $4 } END { printf "%.0f", s }')
        echo "$passed $failed $(($(date +%s) - begin)) $used" >"$work/sum"
    )
}

add()
{
    if [ -f "$parts/$1/sum" ]; then
        read -r p f seconds used <"$parts/$1/sum"
        passed=$((passed + p))
        failed=$((failed + f))
        printf '%8s %10s  %s\n' "$seconds" "$used" "$1" >>"$parts/table"
    else
        bad "$1" "stopped"
    fi
}

# A lane does the parts that no other has begun; a part's folder is its lock.
lane()
{
    [ $jobs = 1 ] || builds=1
    for name in $in_back; do
        mkdir "$parts/$name" 2>/dev/null || continue
        part "$name" >"$parts/$name/said" 2>&1
        : >"$parts/$name/over"
    done
}

wanted=$*
parts=$top/parts
mkdir "$parts"
: >"$parts/table"
in_back=$(chosen $behind)
for name in "$@"; do
    case " $alone $in_front $behind " in *" $name "*) ;; *) bad "$name" "there is no such part" ;; esac
done

# what several parts use is built once
[ $kind = full ] || [ -z "$(chosen mesh mpi macro bf16 simd)" ] ||
    build c $CC -std=c99 -O2 $warn $openmp tests/all.c -o "$work/c" -lm
for mpi in openmpi mpich; do
    [ -n "$(chosen mpi)" ] && have mpicc.$mpi || continue
    build $mpi sh -c 'flavour=$1; . tests/mpi_env.sh; build_mpi "$2"' sh $mpi "$work/$mpi"
done
[ -z "$(chosen macro optimised memory target)" ] || build plain $CC -std=c99 -O2 tests/all.c -o "$work/plain" -lm
[ -z "$(chosen tool verb page lesson)" ] || build glam $CC -O2 $warn -Wshadow $openmp examples/glam.c -o "$work/glam" -lm
[ -z "$(chosen bf16 target)" ] || target_build aarch64 aarch64-linux-gnu-gcc
built
for name in c openmpi mpich plain glam aarch64; do
    [ "$(cat "$top/$name.rc" 2>/dev/null || echo 0)" = 0 ] || compiled $name
done

# in_turn NAME...: those that are to run, one after the other
in_turn()
{
    for name in $(chosen "$@"); do
        part "$name"
        add "$name"
    done
}

in_turn $alone
jobs=${GLAM_TEST_JOBS:-$(nproc 2>/dev/null || echo 2)}
[ "$jobs" -ge 1 ] || jobs=1
set -- $in_back
[ $# -ge "$jobs" ] || jobs=$#
(
    i=0
    while [ $((i += 1)) -le "$jobs" ]; do
        lane &
        renice -n 10 -p $! >/dev/null 2>&1
    done
    wait
    : >"$parts/over"
) &
in_turn $in_front
for name in $in_back; do
    until [ -f "$parts/$name/over" ] || [ -f "$parts/over" ]; do sleep 1; done
    cat "$parts/$name/said"
    add "$name"
done
wait
echo " seconds  processor  part"
sort -rn "$parts/table"
finish
