"""The tables of characters in glam.h (room 16), made from Python's own, and what they do compared with it.

    python3 tests/unicode.py tables                 prints the tables as they stand in glam.h
    python3 tests/unicode.py check PROGRAM [COUNT]  PROGRAM is tests/encode.c: every code point and COUNT
                                                    random strings against unicodedata.normalize
"""
import random, subprocess, sys, unicodedata

# what deepseek-llm's expression takes for letters: its own list
LETTERS = '''
41-5a 61-7a b5 c0-d6 d8-f6 f8-1ba 1bc-1bf 1c4-293 295-2af 370-373 376-377 37b-37d 37f 386 388-38a 38c 38e-3a1 3a3-3f5
3f7-481 48a-52f 531-556 10a0-10c5 13a0-13f5 13f8-13fd 1c90-1cba 1cbd-1cbf 1d00-1d2b 1d6b-1d77 1d79-1d9a 1e00-1f15
1f18-1f1d 1f20-1f45 1f48-1f4d 1f50-1f57 1f59 1f5b 1f5d 1f5f-1f7d 1f80-1fb4 1fb6-1fbc 1fbe 1fc2-1fc4 1fc6-1fcc 1fd0-1fd3
1fd6-1fdb 1fe0-1fec 1ff2-1ff4 1ff6-1ffc 2102 2107 210a-2113 2115 2119-211d 2124 2126 2128 212a-212d 212f-2134 2139
213c-213f 2145-2149 214e 2183-2184 2c00-2c7b 2c7e-2ce4 2ceb-2cee 2cf2-2cf3 a640-a66d a680-a69b a722-a76f a771-a787
a78b-a78e ab70-abbf fb00-fb06 fb13-fb17 ff21-ff3a ff41-ff5a 10400-1044f 104b0-104d3 104d8-104fb 10c80-10cb2 10cc0-10cf2
118a0-118df 1e900-1e943'''

DIGITS = [chr(c) for c in range(35, 127) if chr(c) not in '?\\']       # of base 90
CODES = [c for c in range(0x110000) if not 0xd800 <= c < 0xe000]


def number(n):
    if n < 65:
        return DIGITS[n]
    if n < 65 + 24 * 90:
        return DIGITS[65 + (n - 65) // 90] + DIGITS[(n - 65) % 90]
    n -= 65 + 24 * 90
    return DIGITS[89] + DIGITS[n // 8100] + DIGITS[n // 90 % 90] + DIGITS[n % 90]


def signed(n):
    return number(2 * n if n >= 0 else -2 * n - 1)


def runs(kinds):
    """[begin, end, kind] of neighbours of one kind."""
    out = []
    for c in sorted(kinds):
        if out and out[-1][1:] == [c, kinds[c]]:
            out[-1][1] = c + 1
        else:
            out.append([c, c + 1, kinds[c]])
    return out


def forms():
    """(code, first, second or 0, kind): 0 two that compose again, 1 two that do not, 2 one."""
    for c in CODES:
        parts = unicodedata.decomposition(chr(c))
        if parts and parts[0] != '<':
            parts = [int(p, 16) for p in parts.split()]
            again = unicodedata.normalize('NFC', chr(c)) == chr(c)
            yield c, parts[0], parts[1] if len(parts) > 1 else 0, 2 if len(parts) == 1 else 0 if again else 1


def marks():
    """0 begins something of its own; 1 joins what is before; 2.. its combining class, as a rank."""
    every, out = list(forms()), {}
    classes = sorted({unicodedata.combining(chr(c)) for c in CODES} - {0})
    joins = {f[2] for f in every if f[3] == 0} | set(range(0x1161, 0x1176)) | set(range(0x11a8, 0x11c3))
    for c in CODES:
        kind = unicodedata.combining(chr(c))
        if kind:
            out[c] = 2 + classes.index(kind)
        elif c in joins:
            out[c] = 1
    for f in every:                                  # some of no class are made of marks
        if ord(unicodedata.normalize('NFD', chr(f[0]))[0]) in out and f[0] not in out:
            out[f[0]] = 1
    by_code = {f[0] for f in every}
    assert not any(f[2] in by_code for f in every)   # only the first half is taken apart again
    assert max(len(unicodedata.normalize('NFD', chr(c))) for c in CODES) == 4
    return out


def put(name, text):
    print('static const char %s[] =' % name)
    lines = [text[i:i + 90] for i in range(0, len(text), 90)]
    for i, line in enumerate(lines):
        print('    "%s"%s' % (line.replace('"', '\\"'), ';' if i + 1 == len(lines) else ''))
    print()


def put_runs(name, kinds, with_kind):
    at, text = 0, ''
    for begin, end, kind in runs(kinds):
        text += number(begin - at) + number(end - begin - 1) + (number(kind) if with_kind else '')
        at = end
    put(name, text)


def tables():
    letters = [r.split('-') for r in LETTERS.split()]
    put_runs('glam__deepseek_letters', {c: 1 for r in letters for c in range(int(r[0], 16), int(r[-1], 16) + 1)}, 0)
    put_runs('glam__punctuation', {c: 1 for c in CODES if unicodedata.category(chr(c))[0] == 'P'}, 0)
    put_runs('glam__marks', marks(), 1)
    for name, alone in (('glam__pairs', 0), ('glam__singles', 1)):
        text, at, a, b = '', 0, 0, 0
        for c, first, second, kind in forms():
            if (kind == 2) != alone:
                continue
            text += number((c - at) * 2 + kind if not alone else c - at) + signed(first - a)
            if not alone:
                text += signed(second - b)
            at, a, b = c + 1, first, second
        put(name, text)


def check(program, count):
    rng = random.Random(1)
    made = list(marks()) + [f[0] for f in forms()] * 3 + list(range(0x20, 0x250)) + \
        [0x1100, 0x1112, 0x1161, 0x1175, 0x11a8, 0x11c2, 0xac00, 0xac01, 0xac1c, 0xd7a3] * 40
    texts = [chr(c) for c in CODES if c]
    texts += [''.join(chr(rng.choice(made) if rng.random() < .95 else rng.choice(CODES)) for _ in range(rng.randint(1, 12)))
              .replace('\0', ' ') for _ in range(count)]
    texts += ['a' + ''.join(chr(rng.choice(made)) for _ in range(5000))]
    r = subprocess.run([program], input='\0'.join(texts).encode() + b'\0', stdout=subprocess.PIPE, check=True)
    got = r.stdout.split(b'\0')[:-1]
    assert len(got) == len(texts), (len(got), len(texts))
    wrong = [t for t, g in zip(texts, got) if unicodedata.normalize('NFC', t).encode() != g]
    for t in wrong[:5]:
        print([hex(ord(c)) for c in t], [hex(ord(c)) for c in unicodedata.normalize('NFC', t)])
    print('%d texts, %d of them not composed before, Unicode %s: %d differ' %
          (len(texts), sum(not unicodedata.is_normalized('NFC', t) for t in texts), unicodedata.unidata_version, len(wrong)))
    print('%d passed, %d failed' % (not wrong, len(wrong) > 0))
    return len(wrong) > 0


if __name__ == '__main__':
    sys.exit(tables() if sys.argv[1] == 'tables' else check(sys.argv[2], int((sys.argv + ['100000'])[3])))
