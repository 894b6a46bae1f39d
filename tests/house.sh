#!/bin/sh
# The rules of the house that a script can check, on glam.h (or the file named): order of rooms,
# contents, confinement, widths, lengths, symbols.  One line per fault, file:line: what is wrong; the last
# line is "N passed, N failed" over the rules, and the exit status is the truth.
#
#   sh tests/house.sh [HEADER]
set -u
cd "$(dirname "$0")/.." || exit 1
header=${1:-glam.h}
CC=${CC:-cc}
work=$(mktemp -d "${TMPDIR:-/tmp}/glam_house.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
passed=0
failed=0

# rule NAME FILE: FILE holds the faults, one per line.
rule()
{
    if [ -s "$2" ]; then
        failed=$((failed + 1))
        cat "$2"
        echo "$1: FAILED ($(wc -l <"$2" | tr -d ' ') faults)"
    else
        passed=$((passed + 1))
        echo "$1: ok"
    fi
}

# The code without comments and without the insides of strings, each line with its number, its room
# and "i" (interface), "m" (implementation) or "-" (before the first room and after the last).
awk '
    /^\/\* == [0-9][0-9] [a-z]+ : (interface|implementation)/ {
        room = $3; part = ($6 ~ /^interface/) ? "i" : "m"
    }
    {
        line = $0; out = ""
        while (line != "") {
            if (comment) {
                at = index(line, "*/")
                if (!at) { line = ""; break }
                line = substr(line, at + 2); comment = 0; out = out " "
                continue
            }
            c = substr(line, 1, 1)
            if (substr(line, 1, 2) == "/*") { comment = 1; line = substr(line, 3); continue }
            if (substr(line, 1, 2) == "//") { line = ""; break }
            if (c == "\"" || c == "\047") {
                end = 2
                while (end <= length(line) && substr(line, end, 1) != c) {
                    if (substr(line, end, 1) == "\\") end++
                    end++
                }
                out = out c c; line = substr(line, end + 1)
                continue
            }
            out = out c; line = substr(line, 2)
        }
        printf "%d %s %s %s\n", NR, (room == "" ? "--" : room), (part == "" ? "-" : part), out
    }' "$header" >"$work/code"

# --- contents and banners
awk -v file="$header" '
    /^ +[0-9][0-9] [a-z]+  / && !banners { name[$1] = $2; listed[++n] = $1; at[$1] = NR }
    /^\/\* == [0-9][0-9] / {
        banners = 1
        if ($0 !~ /^\/\* == [0-9][0-9] [a-z]+ : (interface|implementation) =+( \*\/)?$/) {
            print file ":" NR ": a banner of another form: " $0
        }
        key = $3 " " $6; seen[key]++; where[key] = NR
        if (!($3 in name)) print file ":" NR ": room " $3 " is not in the contents"
        else if (name[$3] != $4) print file ":" NR ": room " $3 " is " $4 " here and " name[$3] " in the contents"
        if ($6 == last && $3 + 0 != previous + 1) print file ":" NR ": room " $3 " after room " previous
        if ($6 != last && $3 != "00") print file ":" NR ": the " $6 "s begin with room " $3
        last = $6; previous = $3 + 0
    }
    END {
        if (n != 23) print file ":1: the contents list " n + 0 " rooms, 23 are wanted"
        for (i = 1; i <= n; i++) {
            if (listed[i] + 0 != i - 1) print file ":" at[listed[i]] ": room " listed[i] " is out of order in the contents"
            for (k = 1; k <= 2; k++) {
                part = k == 1 ? "interface" : "implementation"
                if (seen[listed[i] " " part] != 1) {
                    print file ":1: room " listed[i] " has " seen[listed[i] " " part] + 0 " banners of its " part
                }
            }
        }
    }' "$header" >"$work/faults"
rule "contents and banners" "$work/faults"

# --- what a line of the contents names is declared in that room
awk -v file="$header" '
    /^ +[0-9][0-9] [a-z]+  / && !banners { line[$1] = $0; at[$1] = NR }
    /^\/\* == [0-9][0-9] / { banners = 1; room = $3; part = $6 }
    part ~ /^interface/ { text[room] = text[room] " " $0 }
    END {
        for (room in line) {
            rest = line[room]
            while (match(rest, /glam_[a-z0-9_]+/)) {
                name = substr(rest, RSTART, RLENGTH)
                rest = substr(rest, RSTART + RLENGTH)
                if (text[room] !~ name "[^a-z0-9_]")
                    print file ":" at[room] ": " name " is not declared in room " room
            }
        }
    }' "$header" >"$work/faults"
rule "contents and declarations" "$work/faults"

# --- every op is in the list that the gradient tests walk
awk -v file="$header" '
    { text = $0; sub(/^[0-9]+ [^ ]+ [^ ]+ /, "", text) }
    match(text, /^GLAM__OP\([a-z_0-9]+/) {
        made[substr(text, RSTART + 9, RLENGTH - 9)] = $1
    }
    text ~ /glam__ops\[\]/ { list = 1 }
    list { all = all " " text }
    list && text ~ /};/ { list = 0 }
    END {
        for (name in made)
            if (all !~ "glam__op_" name "[^a-z0-9_]")
                print file ":" made[name] ": the op " name " is not in glam__ops"
    }' "$work/code" >"$work/faults"
rule "list of ops" "$work/faults"

# --- order of rooms: who declares each function, and who mentions it
awk -v file="$header" '
    { number = $1; room = $2; part = $3; text = substr($0, length($1) + length($2) + length($3) + 4) }
    # A declaration in an interface, or a definition that begins in column one of an implementation.
    text ~ /^(GLAM_API|static|attr static)/ && match(text, /glam_[a-z0-9_]*\(/) {
        name = substr(text, RSTART, RLENGTH - 1)
        if (!(name in home)) { home[name] = room; line_of[name] = number }
    }
    part == "m" { body[++count] = number " " room " " text }
    END {
        for (i = 1; i <= count; i++) {
            split(body[i], f, " ")
            rest = substr(body[i], length(f[1]) + length(f[2]) + 3)
            while (match(rest, /glam_[a-z0-9_]+/)) {
                name = substr(rest, RSTART, RLENGTH)
                before = RSTART > 1 ? substr(rest, RSTART - 1, 1) : " "
                rest = substr(rest, RSTART + RLENGTH)
                if (before ~ /[A-Za-z0-9_]/) continue
                if (name in home && home[name] + 0 > f[2] + 0) {
                    print file ":" f[1] ": room " f[2] " mentions " name " of room " home[name]
                }
            }
        }
    }' "$work/code" >"$work/faults"
rule "order of rooms" "$work/faults"

# --- confinement: words and the rooms that may use them
awk -v file="$header" '
    function only(pattern, rooms, what) {
        if (text ~ pattern && index(" " rooms " ", " " room " ") == 0) {
            print file ":" number ": " what " in room " room
        }
    }
    { number = $1; room = $2; part = $3; text = " " substr($0, length($1) + length($2) + length($3) + 4) " " }
    part == "-" { next }
    {
        if (text !~ /#include <omp.h>/) only("(omp_[a-z]|pragma omp)", "02", "OpenMP")
        only("MPI_", "03", "MPI")
        only("(target\\(|vector_size)", "06", "instruction sets and vectors")
        only("[^A-Za-z0-9_.>](malloc|calloc|realloc|free)[ ]*\\(", "01", "malloc and free")
        # room 02 reads what a container may use, and nothing else
        only("[^A-Za-z0-9_.>](fopen|fdopen|fclose|fread|fwrite|fflush|fseeko?|ftello?|fsync|rename|remove|fgetc|fputc|opendir|stat|open(64)?|close|lseek(64)?|unlink|readlink|fchmod|fchown|_wopen|_wunlink|MoveFileExW)[ ]*\\(", "02 18 21", "files")
        only("[^A-Za-z0-9_](abort|exit|_exit|assert|printf|fprintf|sprintf|vprintf|vsprintf|puts|putchar|perror)[ ]*\\(", "", "abort, exit, assert or printing")
    }' "$work/code" >"$work/faults"
rule "confinement" "$work/faults"

# --- the page: 100 columns, no tabs, no blanks at the end, functions of 80 lines; 19510 lines in all:
# 10000 for one machine, 2000 for what many machines take (a third of room 03 and parts of 14 to 22), 1000
# for what files and numbers of others are refused (rooms 18 to 21), the rest for the paper's data and tasks
# (18, 20), routers and their traces (14), narrow operands and weights (05 to 10, 21), models and tokenizers of others (12, 15, 16)
# and their fine-tuning (adapters in 10, 15, 21; answers in 18); 330 for the sums of AMX (05, 06, 10):
# its plain twin, one by multiply-adds, the tiles, who asks the system for them, and what feeds them; the
# next 90 for operands that stay in bf16 between backward's products (05, 10, 13), and refusals; the last
# 90 for how panels are made: the instruction that rounds, memory read from end to end (05, 06, 10)
awk -v file="$header" '
    { wide = $0; gsub(/[\200-\277]/, "", wide) }
    length(wide) > 100 { print file ":" NR ": " length(wide) " columns, 100 are allowed" }
    /\t/ { print file ":" NR ": a tab" }
    /[ ]$/ { print file ":" NR ": a blank at the end of the line" }
    /\r/ { print file ":" NR ": a carriage return" }
    # A function begins with a line in column one that has a parenthesis, and its brace in column one.
    /^[A-Za-z].*\(/ && !/;[ ]*$/ { head = NR }
    /^[{]$/ { open = head; }
    /^}$/ && open {
        if (NR - open + 1 > 80) print file ":" open ": a function of " NR - open + 1 " lines, 80 are allowed"
        open = 0
    }
    END { if (NR > 19510) print file ":" NR ": " NR " lines, 19510 are allowed" }' "$header" >"$work/faults"
rule "the page" "$work/faults"

# --- symbols
grep -o '^GLAM_API [^(]*(' "$header" | sed 's/($//;s/.*[ *]//' | sort -u >"$work/declared"
printf '#define GLAM_IMPLEMENTATION\n#include "%s"\n' "$(pwd)/$header" >"$work/one.c"
# without -fPIC: constant tables of addresses would be listed with the writable data
if ! $CC -std=c99 -O1 -fno-pic -fno-pie -c "$work/one.c" -o "$work/one.o" >"$work/log" 2>&1; then
    sed -n '1,20p' "$work/log" >"$work/faults"
    rule "compiles" "$work/faults"
elif ! command -v nm >/dev/null 2>&1; then
    echo "symbols: skipped (there is no nm)"
else
    nm "$work/one.o" | awk -v file="$header" '$(NF - 1) ~ /^[BDbdCSsGg]$/ { print file ":1: writable data: " $NF }' >"$work/faults"
    rule "no writable data" "$work/faults"
    nm -g "$work/one.o" | awk '$(NF - 1) != "U" { print $NF }' | sed 's/^_glam/glam/' | sort -u >"$work/defined"
    grep -v '^glam_' "$work/defined" | sed "s#^#$header:1: an external symbol of another name: #" >"$work/faults"
    grep '^glam__' "$work/defined" | sed "s#^#$header:1: a private name with external linkage: #" >>"$work/faults"
    rule "names of symbols" "$work/faults"
    {
        comm -23 "$work/declared" "$work/defined" | grep -v "^glam_comm_mpi$" | sed "s#^#$header:1: declared and not defined: #"
        comm -13 "$work/declared" "$work/defined" | sed "s#^#$header:1: defined and not declared: #"
    } >"$work/faults"
    rule "declared is defined" "$work/faults"
fi

# --- every public function is in a test
: >"$work/faults"
cat tests/*.c tests/*.h | grep -o 'glam_[a-z0-9_]*' | sort -u >"$work/tested"
comm -23 "$work/declared" "$work/tested" | sed "s#^#$header:1: in no test: #" >"$work/faults"
rule "every public function is tested" "$work/faults"

# --- the licence travels with the single file
: >"$work/faults"
grep -q 'MIT No Attribution\|MIT-0' "$header" || echo "$header:1: no licence" >"$work/faults"
rule "licence" "$work/faults"

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
