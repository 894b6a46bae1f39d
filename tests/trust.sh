#!/bin/sh
# The figures of tests/README.md, measured anew: one row of its table for each, in Markdown.
#
#   sh tests/trust.sh [--quick] [--hours H] [ROW...]      for example: sh tests/trust.sh 1 7 20
#
# --quick: small counts, about half an hour in all; without it several hours.  --hours: of fuzzing (row 6).  A tool that
# is missing makes the row a miss that says so.  What the rows ran is kept in the folder named at the end.
# The last line is "N passed, N failed"; the exit status is the truth.
set -u
cd "$(dirname "$0")/.." || exit 1
quick=0
hours=0
rows=""
while [ $# -gt 0 ]; do
    case $1 in
    --quick) quick=1 ;;
    --hours) hours=$2; shift ;;
    [0-9]*) rows="$rows $1" ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
    esac
    shift
done
work=$(mktemp -d "${TMPDIR:-/tmp}/glam_trust.XXXXXX") || exit 1
trap 'exit 130' INT TERM HUP
export TMPDIR="$work" GLAM_TEST_DIR="$work" ASAN_OPTIONS=allocator_may_return_null=1 OMP_WAIT_POLICY=passive
passed=0
failed=0

have() { command -v "$1" >/dev/null 2>&1; }
of() { if [ $quick = 1 ]; then echo "$1"; else echo "$2"; fi; }

# compile NAME COMMAND...: once for all rows; silent when it works
compile()
{
    name=$1
    shift
    [ -x "$work/$name" ] || "$@" -o "$work/$name" -lm >"$work/$name.log" 2>&1
}

compile_all() { compile all cc -std=c99 -O2 -w -fopenmp -pthread tests/all.c; }
compile_plain() { compile plain cc -std=c99 -O2 -w -pthread tests/all.c; }
compile_trust() { compile trust cc -std=c99 -O1 -g -w -pthread -fsanitize=address,undefined -fno-sanitize-recover=all tests/trust.c; }

# row NUMBER PROPERTY HOW WANTED: the figure is the text in $figure, $verdict 0 when it is reached
row()
{
    if [ "$verdict" = 0 ]; then passed=$((passed + 1)); word=yes; else failed=$((failed + 1)); word=**no**; fi
    echo "| $1 | $2 | $3 | $figure | $4 | $word |"
}

# judge COMMAND...: runs it, keeps what it prints in $work/out, and takes its last line as the figure
judge()
{
    "$@" >"$work/out" 2>&1
    verdict=$?
    figure=$(grep '[0-9]* passed, [0-9]* failed' "$work/out" | tail -n 1)
    [ -n "$figure" ] || { figure="stopped: $(tail -n 1 "$work/out" | cut -c1-80)"; verdict=1; }
    cp "$work/out" "$work/row_$number.$(ls "$work" | grep -c "^row_$number")"
}

figures() { figure=$(sed -n "s/^$1: //p" "$work/out" | tr '\n' ' ' | sed 's/ *$//'); [ -n "$figure" ] || figure="none; $(tail -n 1 "$work/out")"; }

# allocation refused, file calls failed, files damaged, kills, numbers: one program
part()
{
    compile_trust || { verdict=1; figure="does not compile"; return; }
    judge "$work/trust" "$@"
    figures "$1"
}

row_1()
{
    part alloc "$(of 7 1)"
    row 1 "allocation refused" "every allocation of two whole programs $(of "(every 7th) " "")in 26 variants, once and from there on; retry gives the same bits; ASan, UBSan: \`trust alloc\`" "no crash, no leak, nothing lost"
}

row_2()
{
    part files
    row 2 "file calls fail" "every call in 8 functions: EIO, ENOSPC, EDQUOT, half of the bytes, for good: \`trust files\`" "old or new file whole, nothing left"
}

row_3()
{
    part damage "$(of 20000 1000000)"
    row "3, 4, 5" "damaged files" "every prefix, every bit, random changes, the same with the checksum made to fit; memory and time of each: \`trust damage\`" "none accepted unfitted; under 1 s; at most twice the file and 256 KB"
}

row_6()
{
    if [ "$hours" != 0 ]; then GLAM_FUZZ_SECONDS=$(echo "$hours" | awk '{ print int($1 * 3600) }'); else GLAM_FUZZ_SECONDS=$(of 10 60); fi
    export GLAM_FUZZ_SECONDS
    judge sh tests/run.sh part fuzz
    figure=$(sed -n 's/^fuzz_\([a-z]*\): ok (\([0-9]*\) inputs.*/\1 \2/p;s/^fuzz_\([a-z]*\): FAILED.*/\1 FOUND/p' "$work/out" | tr '\n' ';' | sed 's/;$//;s/;/, /g')
    row 6 "fuzzing" "six targets with libFuzzer, ASan, UBSan, $GLAM_FUZZ_SECONDS s each: \`run.sh part fuzz\`" "nothing found"
    have afl-clang-fast || return
    compile afl afl-clang-fast -std=c99 -O1 -w -DFUZZ_ENGINE -fsanitize=fuzzer tests/fuzz.c
    compile fuzz cc -std=c99 -O1 -w tests/fuzz.c
    for target in load step options metadata tool text; do mkdir -p "$work/seeds/$target"; done
    "$work/fuzz" seeds "$work/seeds"
    found=0
    execs=""
    for target in load metadata options; do
        GLAM_FUZZ=$target AFL_NO_UI=1 AFL_SKIP_CPUFREQ=1 AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1 AFL_NO_AFFINITY=1 \
            afl-fuzz -V "$GLAM_FUZZ_SECONDS" -m none -t 5000 -i "$work/seeds/$target" -o "$work/afl_$target" "$work/afl" >"$work/out" 2>&1
        found=$((found + $(ls "$work/afl_$target"/default/crashes 2>/dev/null | grep -c '^id')))
        execs="$execs $target $(sed -n 's/^execs_done *: *//p' "$work/afl_$target/default/fuzzer_stats" 2>/dev/null),"
    done
    figure="${execs%,}; $found found"
    verdict=$found
    row 6 "fuzzing, second engine" "AFL++ on three of them, $GLAM_FUZZ_SECONDS s each" "nothing found"
}

row_7()
{
    part kill "$(of 200 1000)"
    row 7 "kill -9 while saving" "random moments; then resumed: \`trust kill\`" "0 unreadable, 0 lost, bits of the run never stopped"
}

row_8()
{
    part nan
    row 8 "numbers that are not finite" "in activations (by every weight), in gradients (100 of 1,000 steps), on one rank of 4, after an update: \`trust nan\`" "skipped on all ranks, no weight changed"
}

row_9()
{
    compile_all && compile_plain
    hashes=$({ for n in 1 2 3 4 7 8; do OMP_NUM_THREADS=$n "$work/all" --hash; done; "$work/plain" --hash; } | sort | uniq -c)
    figure="$(echo "$hashes" | wc -l) hash of $(echo "$hashes" | awk '{ n += $1 } END { print n }') runs"
    [ "$(echo "$hashes" | wc -l)" = 1 ]
    verdict=$?
    row 9 "threads" "weights after a training run with 1, 2, 3, 4, 7, 8 threads and without OpenMP: \`all --hash\`" "one hash"
}

row_10()
{
    judge env GLAM_TEST_FULL="$(of 20 100)" sh tests/run.sh part mesh mpi
    row 10 "ranks" "meshes of 1 to 8 ranks as threads, under Open MPI and MPICH: hashes, files, failures: \`run.sh part mesh mpi\`" "equal along X, near along Y"
}

# the whole suite on other processors
row_11()
{
    for pair in aarch64:aarch64-linux-gnu-gcc arm:arm-linux-gnueabihf-gcc riscv64:riscv64-linux-gnu-gcc s390x:s390x-linux-gnu-gcc; do
        machine=${pair%%:*}
        compiler=${pair#*:}
        filter=$(of "base kernels random text golden moe_v files data train_l" "")
        more=-D_FILE_OFFSET_BITS=64
        [ $machine = s390x ] && more=-fexcess-precision=fast
        if have "$compiler" && compile $machine "$compiler" -std=c99 $more -O2 -static -pthread -w tests/all.c; then
            judge qemu-$machine "$work/$machine" $filter
        else
            figure="no $compiler"
            verdict=1
        fi
        row 11 "$machine" "$(of "a part of" "all") tests, -O2, under qemu-user" "all pass"
    done
    compile wasm clang --target=wasm32-wasi -std=c99 -O1 -w -Wl,-z,stack-size=1048576 -D_WASI_EMULATED_GETPID \
        -DGLAM_TEST_NO_PTHREADS -lwasi-emulated-getpid tests/all.c
    judge node --no-warnings tests/wasi.mjs "$work/wasm" "$work"
    row 11 "wasm32" "all tests but those of ranks (no threads), under node" "all pass"
    if have musl-gcc && compile musl musl-gcc -std=c99 -O2 -static -pthread -w tests/all.c; then judge "$work/musl"; else figure="no musl-gcc"; verdict=1; fi
    row 11 "musl" "all tests, static" "all pass"
    judge sh tests/run.sh part target
    row 11 "the same bits" "weights after a training run equal on x86-64, aarch64, armhf, riscv64, musl, wasm32 with the portable kernels: \`run.sh part target\`" "one hash"
}

row_12()
{
    judge sh tests/run.sh part sanitizer
    figure=$(sed -n 's/^\(asan\|tsan\|valgrind\): /\1 /p' "$work/out" | tr '\n' ',' | sed 's/,$//;s/,/, /g')
    row "12, 13" "races, memory" "ASan and UBSan on all tests; TSan with clang's OpenMP and on ranks: \`run.sh part sanitizer\`" "0 reports"
    checked="-g -fsanitize=address,undefined -fno-sanitize-recover=all"
    judge env CC="cc $checked" CXX="c++ $checked" sh tests/run.sh part example
    row 12 "the numbered examples" "built as their first lines say, with ASan and UBSan, and what they print: \`run.sh part example\`" "0 reports"
    judge sh tests/run.sh part memory
    row 13 "values nobody wrote" "MSan, clang without OpenMP; valgrind on a part: \`run.sh part memory\`" "0 reports"
}

row_14()
{
    compile gradient cc -std=c99 -O2 -w tests/test_gradient.c
    judge "$work/gradient"
    row 14 "gradients" "every op, attention, mixture, balance loss and model against central differences in double: \`test_gradient.c\`" "1e-6 relative"
}

row_15()
{
    if ! have llvm-cov; then figure="no llvm-cov"; verdict=1
    else
        for name in all trust test_gradient; do
            compile cover_$name clang -std=c99 -O1 -g -w -pthread -fopenmp -fprofile-instr-generate -fcoverage-mapping tests/$name.c
        done
        LLVM_PROFILE_FILE="$work/1.profraw" "$work/cover_all" >"$work/out" 2>&1
        LLVM_PROFILE_FILE="$work/2.profraw" "$work/cover_test_gradient" >>"$work/out" 2>&1
        for simd in base sse2 amx; do
            GLAM_TEST_SIMD=$simd LLVM_PROFILE_FILE="$work/$simd.profraw" "$work/cover_all" tensor autograd ops attention ffn moe train_c >>"$work/out" 2>&1
        done
        for arithmetic in bf16 bf16_tiles; do
            GLAM_TEST_ARITHMETIC=$arithmetic LLVM_PROFILE_FILE="$work/$arithmetic.profraw" "$work/cover_all" generate train_rec lora_gradients_of >>"$work/out" 2>&1
        done
        for part in alloc files damage nan; do
            LLVM_PROFILE_FILE="$work/t_$part.profraw" "$work/cover_trust" $part $([ $part = alloc ] && echo 1 || echo 3000) >>"$work/out" 2>&1
        done
        llvm-profdata merge "$work"/*.profraw -o "$work/profile"
        llvm-cov report "$work/cover_all" -object "$work/cover_trust" -object "$work/cover_test_gradient" -instr-profile="$work/profile" "$(pwd)/glam.h" >"$work/cover"
        llvm-cov show "$work/cover_all" -object "$work/cover_trust" -object "$work/cover_test_gradient" -instr-profile="$work/profile" -show-branches=count "$(pwd)/glam.h" >"$work/cover_lines"
        set -- $(tail -n 1 "$work/cover")
        figure="lines ${10}, branches ${13} of ${11}"
        verdict=$(echo "${13}" | awk '{ sub(/%/, ""); print $1 < 95 }')
    fi
    row 15 "coverage" "source lines and branches of glam.h taken by the tests (llvm-cov: an inlined copy counts once)" "95 % of branches"
}

row_16()
{
    judge sh tests/run.sh part strict macro simd other optimised
    row 16 "compilers and options" "gcc, clang, tcc, C99, C++11, C++17, -m32, MPIs, every macro, every instruction set, -O3, -Os, -flto, -Ofast, -ffast-math" "no warning, all pass"
}

row_17()
{
    judge sh tests/analyse.sh cppcheck clang-tidy $(of "" gcc)
    figure=$(sed -n 's/^\(cppcheck\|clang-tidy\|gcc\): /\1 /p' "$work/out" | tr '\n' ',' | sed 's/,$//;s/,/, /g')
    row 17 "static analysis" "cppcheck, clang-tidy (bugprone, cert)$(of "" ", gcc -fanalyzer"): \`analyse.sh\`" "0, or a reason each"
}

row_18()
{
    python3 tests/mutate.py --count "$(of 30 300)" --jobs 2 >"$work/out" 2>&1
    figure=$(tail -n 1 "$work/out")
    cp "$work/out" "$work/row_18.0"
    verdict=$(echo "$figure" | sed -n 's/.*(\([0-9.]*\) %).*/\1/p' | awk '{ v = $1 < 95 } END { print NR ? v : 1 }')
    row 18 "seeded faults" "$(of 30 300) faults over rooms 05 to 21: \`mutate.py\`" "95 % caught"
}

row_19()
{
    judge sh tests/house.sh
    row 19 "hygiene" "no writable data, names, confinement of malloc, files, MPI, OpenMP: \`house.sh\`" "all pass"
}

row_20()
{
    for mpi in openmpi mpich; do
        judge sh tests/ranks_fail.sh $mpi "$(of 1 10)"
        figure=$(sed -n "s/^$mpi \([a-z]*\): ok (\([0-9]*\) of.*/\1 \2/p;s/^$mpi \([a-z]*\): FAILED (\([0-9]* of [0-9]*\).*/\1 \2 FAILED/p" "$work/out" | tr '\n' ',' | sed 's/,$//;s/,/, /g')
        row 20 "ranks that fail, $mpi" "$(of 1 10) times each: killed, a skipped collective, another one, another recipe, killed while saving, the cable cut: \`ranks_fail.sh\`" "all end within deadline + 2 s, no orphan, checkpoint loads"
    done
}

row_21()
{
    compile_all && judge "$work/all" moe
    row 21 "routing extremes" "all to one expert, none, one token, capacity 0 and 1, groups: \`all moe\`" "all pass"
}

row_22()
{
    compile_all && judge env GLAM_TEST_FULL=100 "$work/all" mesh_files mesh_x mesh_store_n
    row 22 "resharding" "a file written by one mesh, read by another; the next steps: \`all mesh_files\`" "equal files, equal bits along X"
}

row_23()
{
    part soak "$(of 60 3600)"
    row 23 "soak" "lives of open, train, save, resume, write, close, with ASan: \`trust soak\`" "no growth, the same bits"
}

echo "glam.h $(sed -n 's/.*GLAM_VERSION "\(.*\)"/\1/p' glam.h | head -n 1), $(git rev-parse --short HEAD 2>/dev/null), $(date -u '+%Y-%m-%d'), $(nproc) cores, $(cc --version | head -n 1)$(of ", --quick" "")"
echo
echo "| # | property | what is measured, and how | figure | wanted | reached |"
echo "|---|---|---|---|---|---|"
for number in ${rows:-1 2 3 6 7 8 9 10 11 12 14 15 16 17 18 19 20 21 22 23}; do
    case $number in
    4 | 5) number=3 ;;
    13) number=12 ;;
    esac
    row_"$number"
done
echo
echo "what was run is in $work"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
