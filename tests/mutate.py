#!/usr/bin/env python3
"""How many seeded faults do the tests catch?

    python3 tests/mutate.py [--count 60] [--seed 1] [--jobs 1] [--rooms 11,13]
                            [--work FOLDER [--minutes M] [--again]]

Faults (a bound off by one, a sign or a condition turned, a constant changed, a statement dropped) are put into
a copy of glam.h, spread over the implementations of rooms 05 to 21.  All stand in one build; the environment
(GLAM_FAULT=number) switches one of them on.  One run of every test without a fault notes which faults each test
comes by; a fault is judged by those tests alone, the short ones and those of its room first, until one fails.
The same seed and the same header give the same faults.  Prints each survivor with its line and, where
tests/mutate_reasons.txt has that line, why no test can see it; then the score, with them and without.

With --work what was built and judged stays there, and the same command goes on where it stopped: after M
minutes, or killed.  Tests that have changed since are built anew; --again judges the survivors once more.
"""
import argparse, concurrent.futures, hashlib, json, os, random, re, resource, shutil, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
STAGES = [                      # (program, filters): all tests of each program, in pieces
    ('all', 'base threads random kernels simd context tensor autograd ops attention ffn moe model text'
            ' generate data evaluate files plan golden corners'),
    ('all', 'train'),
    ('all', 'narrow lora router extremes sampling beam bf energy device curate places'),
    ('all', 'comm mesh'),
    ('gradient', ''),
    ('trust', 'quick'),
]
ROOM_TESTS = {'05': 'kernels simd', '06': 'simd', '07': 'context', '08': 'tensor', '09': 'autograd',
              '10': 'ops attention', '11': 'ops', '12': 'attention', '13': 'ffn', '14': 'moe', '15': 'model',
              '16': 'text', '17': 'generate', '18': 'data', '19': 'train', '20': 'evaluate', '21': 'files places'}

PRELUDE = '''
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <sys/mman.h>
#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS 0x20
#endif
enum { FAULTS = 10000 };
static int glam__fault;
static unsigned char *glam__fault_seen;              // only while reach is noted; children write there too
static clock_t glam__fault_began;
__attribute__((constructor, unused)) static void glam__fault_read(void)
{
    const char *text = getenv("GLAM_FAULT");
    glam__fault = text ? atoi(text) : -1;
    if (getenv("GLAM_FAULT_LOG"))
        glam__fault_seen = mmap(NULL, FAULTS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}
__attribute__((unused)) static void glam__fault_begin(void)
{
    for (int k = 0; glam__fault_seen && k < FAULTS; k++) glam__fault_seen[k] = 0;
    glam__fault_began = clock();
}
__attribute__((unused)) static void glam__fault_end(const char *name, int ok)
{
    FILE *log = glam__fault_seen ? fopen(getenv("GLAM_FAULT_LOG"), "a") : NULL;
    if (log) {
        fprintf(log, "%s %.2f", name, (double)(clock() - glam__fault_began) / CLOCKS_PER_SEC);
        for (int k = 0; k < FAULTS; k++) if (glam__fault_seen[k]) fprintf(log, " %d", k);
        fprintf(log, "\\n");
        fclose(log);
    }
    if (!ok && glam__fault >= 0) {
        fflush(NULL);
        _exit(3);
    }
}
#define FAULT(k) ((glam__fault_seen ? (void)(glam__fault_seen[k] = 1) : (void)0), glam__fault == (k))
#define FAULT_SIGN(k) (FAULT(k) ? -1 : 1)
'''
# what the runner of the tests is made to tell
HOOKS = (('    test__now.checks = test__now.bad = 0;\n', '    glam__fault_begin();\n'),
         ('    if (!ok) printf("FAILED %s: %d of %d checks\\n", test__now.name, test__now.bad, test__now.checks);\n',
          '    glam__fault_end(test__now.name, ok);\n'))
# before room 05: so the rooms above cannot have faults
PRELUDE_AT = '/* == 05 kernels : implementation'


def operand_end(code, at):
    """Where the operand that begins at `at` ends: at a closing bracket, a comma, a logical operator ..."""
    depth = 0
    for i in range(at, len(code)):
        c = code[i]
        if c in '([{':
            depth += 1
        elif c in ')]}':
            if depth == 0:
                return i
            depth -= 1
        elif depth == 0 and (c in ';?:,' or code[i:i + 2] in ('&&', '||')):
            while code[i - 1] == ' ':
                i -= 1
            return i
    return None


def faults_of_line(code, before):
    """All faults that this line can have: (what, from, to, replacement with %d for the number)."""
    out = []
    for m in re.finditer(r' (<|<=|>|>=) (?!<|>)', code):
        out.append(('bound of %s off by one' % m.group(1), m.end(), m.end(), 'FAULT(%d) + '))
    for m in re.finditer(r' (==|!=) ', code):
        end = operand_end(code, m.end())
        if end:
            out.append(('%s turned' % m.group(1), end, end, ' ^ FAULT(%d)'))
    for m in re.finditer(r'(?<=[\w\)\]]) ([+-]) (?=[\w\(\*])', code):
        out.append(('%s turned' % m.group(1), m.end(), m.end(), 'FAULT_SIGN(%d) * '))
    for m in re.finditer(r'(?<![\w.\]\)\[])([1-9]\d*)(?![\w.])', code):
        if not re.search(r'\[\s*$', code[:m.start()]) and '{' not in code[:m.start()].replace('{ ', '', 1):
            out.append(('%s + 1' % m.group(1), m.start(), m.end(), '(%s + FAULT(%%d))' % m.group(1)))
    for m in re.finditer(r'(?<![\w.])(\d+\.\d*f?)(?![\w.])', code):
        if float(m.group(1).rstrip('f')) == 0:
            continue                         # a quarter more of nothing
        out.append(('%s * 1.25' % m.group(1), m.start(), m.end(), '(%s * (1 + 0.25f * FAULT(%%d)))' % m.group(1)))
    whole = code.count('(') == code.count(')') and not re.search(r'(\)|else|[&|+*=,(?:-])$', before)
    m = re.match(r'^(\s+)((?:\w+(?:->|\.|\[[^\]]*\])?)+(?:\([^;]*\)| (?:[-+*/|&^]|<<|>>)?= [^;]*|\+\+|--));$', code)
    if m and whole and not re.match(r'\s+(return|break|continue|else|int|size_t|float|double|char|const|u?int\d+_t|'
                                    r'unsigned|glam_\w+ \**\w+ =|glam__\w+ \**\w+ =)\b', code):
        out.append(('statement dropped', len(m.group(1)), len(code),
                    '{ if (!FAULT(%%d)) %s; }' % m.group(2).replace('%', '%%')))
    m = re.match(r'^(\s+)if \((.*)\)( [^)]*;| \{|)$', code)
    if m and operand_end(m.group(2) + ')', 0) is not None and m.group(2).count('(') == m.group(2).count(')'):
        out.append(('condition turned', m.start(2), m.end(2), 'FAULT(%%d) ^ !!(%s)' % m.group(2).replace('%', '%%')))
    return out


def candidates(lines, wanted):
    """Every fault of the bodies of functions: dicts with line (from 0), room, what, begin, end, text."""
    out, room, body, comment, macro = [], None, False, False, False
    for i, line in enumerate(lines):
        m = re.match(r'/\* == (\d\d) \w+ : (interface|implementation)', line)
        if m:
            room = m.group(1) if m.group(2) == 'implementation' else None
        if comment or line.lstrip().startswith('/*'):
            comment = '*/' not in line
            continue
        if macro or line.startswith('#'):
            macro = line.endswith('\\')
            continue
        if line in '{}' and line:
            body = line == '{'
            continue
        if room not in wanted or not (body or re.match(r'^\{ .* \}$', line)):
            continue
        code = re.sub(r'\s*//.*', '', line)
        # words, tables and labels are judged by eye; SIMD and mesh code by tests of their own
        if not code.strip() or re.search(r'["\']|static const|GLAM__RESTRICT|GLAM__INLINE|GLAM__[A-Z_]+\(|mesh', code) or \
                re.match(r'\s*(case|enum|default|goto|typedef)\b', code):
            continue
        before = re.sub(r'\s*//.*', '', lines[i - 1]).rstrip()
        for what, begin, end, text in faults_of_line(code, before):
            out.append(dict(line=i, room=room, what=what, begin=begin, end=end, text=text))
    return out


def spread(found, count, rng):
    """`count` of them, at most one per line, larger rooms a little less than in proportion."""
    rooms = {}
    for c in found:
        rooms.setdefault(c['room'], []).append(c)
    weight = {r: len(v) ** .8 for r, v in rooms.items()}
    picked = []
    for r in sorted(rooms):
        n, used = max(1, round(count * weight[r] / sum(weight.values()))), set()
        rng.shuffle(rooms[r])
        for c in rooms[r]:
            if len(used) < n and c['line'] not in used:
                used.add(c['line'])
                picked.append(c)
    return sorted(picked, key=lambda c: c['line'])


def seeded(lines, picked, left_out):
    out = list(lines)
    for k, c in enumerate(picked):
        if k not in left_out:
            line = out[c['line']]
            out[c['line']] = line[:c['begin']] + c['text'] % k + line[c['end']:]
    at = next(i for i, l in enumerate(out) if l.startswith(PRELUDE_AT))
    out[at] = PRELUDE + out[at]
    return '\n'.join(out), at


def compile_check(work, lines, picked):
    """Writes the header with all faults that compile; returns the numbers of those that do not."""
    left_out = set()
    for _ in range(8):
        text, at = seeded(lines, picked, left_out)
        with open(os.path.join(work, 'glam.h'), 'w') as f:
            f.write(text)
        r = subprocess.run(['cc', '-std=gnu99', '-fsyntax-only', '-w', 'tests/compile_c.c'], cwd=work,
                           capture_output=True, text=True)
        if r.returncode == 0:
            return left_out
        shift = PRELUDE.count('\n')
        wrong = {int(n) - 1 for n in re.findall(r'glam\.h:(\d+):\d+: error', r.stderr)}
        wrong = {n - shift if n > at else n for n in wrong}
        more = {k for k, c in enumerate(picked) if c['line'] in wrong} - left_out
        if not more:
            sys.exit(r.stderr[:2000])
        left_out |= more
    sys.exit('faults that do not compile remain')


def limits(seconds):
    if os.getuid() == 0:                     # a fault must not be able to write where root can
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 33, 1 << 33))     # a test makes a file of 4 GB, all holes


def run(work, fault, program, words, seconds, log=None):
    """What one program says with one fault: ('ok' | 'status N' | 'time', last line).  seconds: of processor time, so that
    a busy machine makes no fault look caught; five times that by the clock, for programs that wait for ever."""
    own = tempfile.mkdtemp(dir=os.path.join(work, 'tmp'))
    os.chmod(own, 0o777)
    env = dict(os.environ, GLAM_FAULT=str(fault), GLAM_TEST_DIR=own, TMPDIR=own, OMP_NUM_THREADS='2',
               OMP_WAIT_POLICY='passive')
    if log:
        env['GLAM_FAULT_LOG'] = log
    try:
        r = subprocess.run([os.path.join(work, program)] + words.split(), cwd=work, env=env, timeout=60 + 5 * seconds,
                           preexec_fn=lambda: limits(seconds), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT)
        last = (r.stdout.decode(errors='replace').strip().split('\n') or [''])[-1]
        if r.returncode in (-9, -24):
            return 'time', last
        return ('ok' if r.returncode == 0 else 'status %d' % r.returncode), last
    except subprocess.TimeoutExpired:
        return 'time', ''
    finally:
        shutil.rmtree(own, ignore_errors=True)


def build(work):
    """The programs of all faults, if what they are made of has changed, and who comes by each fault."""
    for name in ('tests', 'examples'):
        shutil.copytree(os.path.join(HERE, name), os.path.join(work, name), dirs_exist_ok=True)
    path = os.path.join(work, 'tests/test.h')
    text = open(path).read()
    for at, hook in HOOKS:
        if text.count(at) != 1:
            sys.exit('tests/test.h has changed: ' + at.strip())
        text = text.replace(at, at + hook)
    open(path, 'w').write(text)
    digest = hashlib.sha256()
    for folder, _, names in sorted(os.walk(work)):
        if folder[len(work):].split('/')[1:2] in (['tests'], ['examples']) or folder == work:
            for name in sorted(n for n in names if n.endswith(('.c', '.h'))):
                digest.update(open(os.path.join(folder, name), 'rb').read())
    digest = digest.hexdigest()
    path = os.path.join(work, 'reach.json')
    known = json.load(open(path)) if os.path.exists(path) else {}
    if known.get('of') != digest:
        for name, source in (('all', 'all.c'), ('gradient', 'test_gradient.c'), ('trust', 'trust.c')):
            subprocess.run(['cc', '-std=gnu99', '-O1', '-w', '-fopenmp', '-pthread', 'tests/' + source, '-o', name, '-lm'],
                           cwd=work, check=True)
        known = {'of': digest, 'stages': []}
    log = os.path.join(work, 'tmp/reach')
    for program, words in STAGES[len(known['stages']):]:
        if os.path.exists(log):
            os.remove(log)
        result, last = run(work, -1, program, words, 1200, log)
        if result != 'ok':
            sys.exit('without a fault: %s: %s %s' % (result, program + ' ' + words, last))
        tests = []
        for line in open(log):
            name, took, *seen = line.split()
            tests.append((name, float(took), [int(k) for k in seen]))
        known['stages'].append(tests)
        with open(path, 'w') as f:
            json.dump(known, f)
    return known['stages']


def judge(work, stages, k, c):
    """None when no test sees fault k, else which does.  Growing batches: most faults fall to the first."""
    mine, found = ROOM_TESTS[c['room']].split(), []
    for (program, _), tests in zip(STAGES, stages):
        if program == 'trust':
            if any(k in seen for _, _, seen in tests):
                found.append((1e9, sum(took for _, took, _ in tests), program, 'quick'))
            continue
        for name, took, seen in tests:
            if k in seen:
                found.append((took * (.2 if any(name.startswith(m) for m in mine) else 1), took, program, name))
    found.sort()
    budget, at = 1., 0
    while at < len(found):
        program, names, sum_of = found[at][2], [], 0.
        while at < len(found) and found[at][2] == program and (not names or sum_of + found[at][1] < budget):
            names.append(found[at][3])
            sum_of += found[at][1]
            at += 1
        result, last = run(work, k, program, ' '.join(names), int(10 + 5 * sum_of))
        if result != 'ok':
            return '%s in %s %s: %s' % (result, program, ' '.join(names)[:30], last[:80])
        budget *= 3
    return None


def reason_of(known, lines, c):
    """By the line; by the line before and it, where the line alone says too little."""
    before, line = (lines[c['line'] + i].strip() for i in (-1, 0))
    return known.get(before + ' ' + line) or known.get(line)


def reasons():
    path, out = os.path.join(HERE, 'tests/mutate_reasons.txt'), {}
    if os.path.exists(path):
        for line in open(path):
            if line.strip() and not line.startswith('#'):
                code, _, why = line.rstrip('\n').partition(' => ')
                out[code.strip()] = why
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--count', type=int, default=60)
    p.add_argument('--seed', type=int, default=1)
    p.add_argument('--jobs', type=int, default=1)
    p.add_argument('--rooms', default=','.join(sorted(ROOM_TESTS)))
    p.add_argument('--work')
    p.add_argument('--minutes', type=float, default=1e9)
    p.add_argument('--again', action='store_true')
    a = p.parse_args()
    work = a.work or tempfile.mkdtemp(prefix='glam_mutate.')
    begun = time.time()
    os.makedirs(os.path.join(work, 'tmp'), exist_ok=True)
    os.chmod(work, 0o755)
    os.chmod(os.path.join(work, 'tmp'), 0o777)
    for name in ('tests', 'examples'):
        shutil.copytree(os.path.join(HERE, name), os.path.join(work, name), dirs_exist_ok=True)
    lines = open(os.path.join(HERE, 'glam.h')).read().split('\n')
    picked = spread(candidates(lines, a.rooms.split(',')), a.count, random.Random(a.seed))
    left_out = compile_check(work, lines, picked)
    stages = build(work)
    number, survived, known = 0, [], reasons()
    todo = [(k, c) for k, c in enumerate(picked) if k not in left_out]
    print('%d faults, %d more did not compile; seed %d' % (len(todo), len(left_out), a.seed), flush=True)
    path, done = os.path.join(work, 'done.json'), {}
    if os.path.exists(path):
        done = {(k, line): caught for k, line, caught in map(json.loads, open(path))}

    def judge_once(kc):
        k, c = kc
        key = k, '%d %s: %s' % (c['line'] + 1, c['what'], lines[c['line']].strip())
        if key in done and not (a.again and done[key] is None):
            return done[key]
        if time.time() - begun > 60 * a.minutes:
            return 'later'
        caught = judge(work, stages, k, c)
        with open(path, 'a') as f:
            f.write(json.dumps((*key, caught)) + '\n')
        return caught

    later = 0
    with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
        for (k, c), caught in zip(todo, pool.map(judge_once, todo)):
            if caught == 'later':
                later += 1
                continue
            number += 1
            where = 'glam.h:%d: %s: %s' % (c['line'] + 1, c['what'], lines[c['line']].strip())
            if caught is None:
                tests = sum(k in seen for tests in stages for _, _, seen in tests)
                survived.append((where + ('' if tests else '   [no test comes by]'), reason_of(known, lines, c)))
            print('%3d %s  %s' % (number, 'SURVIVED' if caught is None else 'caught (%s)' % caught, where), flush=True)
    named = [s for s in survived if s[1]]
    print('\nsurvivors:')
    for where, reason in survived:
        print('  %s%s' % (where, '\n      ' + reason if reason else ''))
    if later:
        print('%d still to be judged: the same command goes on' % later)
    caught = number - len(survived)
    seen = number - len(named)
    print('%d of %d caught; without %d that no test can see %d of %d (%.1f %%)' %
          (caught, number, len(named), caught, seen, 100.0 * caught / max(1, seen)))
    if not a.work:
        shutil.rmtree(work, ignore_errors=True)
    return 2 if later else len(survived) > len(named)


if __name__ == '__main__':
    sys.exit(main())
