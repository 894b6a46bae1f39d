"""Tokenizers against those who had them first: the vector sets of llama.cpp and the package tokenizers.

    python3 tests/vectors.py FOLDER PROGRAM [LINES] [NAME...]

FOLDER has llama.cpp's models/ggml-vocab-NAME.gguf with .inp and .out (python: gguf, tokenizers); PROGRAM is
tests/encode.c.  Of each byte-level vocabulary a tokenizer.json is made as its model has it; both read that, the
vectors and LINES lines of several scripts, and write it anew.
"""
import json, os, random, re, subprocess, sys, tempfile
from gguf import GGUFReader
from tokenizers import Tokenizer

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import unicode as tables

SHORT = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LINE = r'[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
EAST = '[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+'
SIGNS = '\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+'
LIST = ''.join('-'.join(chr(int(c, 16)) for c in r.split('-')) for r in tables.LETTERS.split())
QWEN = SHORT + r'|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+' + LINE
STEPS = {                       # None: ByteLevel's own expression; a number: each digit alone
    'gpt-2': [None], 'refact': [1, None], 'starcoder': [1, None],
    'qwen2': [QWEN % r'\p{N}'], 'llama-bpe': [QWEN % r'\p{N}{1,3}'],
    'deepseek-llm': ['[\r\n]', r'\s?[%s]+' % LIST, SIGNS, r'\s+$', EAST, 1],
    'deepseek-coder': ['[\r\n]', r'\s?\p{L}+', r'\s?\p{P}+', EAST, 1],
}


def make(name, folder, path):
    reader = GGUFReader(os.path.join(folder, 'ggml-vocab-%s.gguf' % name))
    field = lambda key: reader.fields['tokenizer.ggml.' + key].contents()
    pieces, kinds = field('tokens'), field('token_type')
    split = lambda r: {'type': 'Split', 'pattern': {'Regex': r}, 'behavior': 'Isolated', 'invert': False}
    steps, own = [], False
    for s in STEPS[name]:
        own |= s is None
        if s is not None:
            steps.append({'type': 'Digits', 'individual_digits': True} if s == 1 else split(s))
    steps.append({'type': 'ByteLevel', 'add_prefix_space': False, 'trim_offsets': True, 'use_regex': own})
    added = [{'id': i, 'content': p, 'single_word': False, 'lstrip': False, 'rstrip': False, 'normalized': False,
              'special': k == 3} for i, (p, k) in enumerate(zip(pieces, kinds)) if k in (3, 4)]
    file = {'version': '1.0', 'truncation': None, 'padding': None, 'added_tokens': added,
            'normalizer': {'type': 'NFC'} if name.startswith('qwen') else None,
            'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': steps}, 'post_processor': None,
            'decoder': {'type': 'ByteLevel', 'add_prefix_space': False, 'trim_offsets': True, 'use_regex': True},
            'model': {'type': 'BPE', 'dropout': None, 'unk_token': None, 'continuing_subword_prefix': None,
                      'end_of_word_suffix': None, 'fuse_unk': False, 'byte_fallback': False,
                      'ignore_merges': name == 'llama-bpe', 'vocab': {p: i for i, p in enumerate(pieces)},
                      'merges': field('merges')}}
    json.dump(file, open(path, 'w'), ensure_ascii=False)


def lines(count):
    """Scripts, taken apart and not, mixed with signs, digits, blanks and lines."""
    rng = random.Random(7)
    blocks = [(0x20, 0x7e)] * 6 + [(0xa1, 0x24f), (0x370, 0x3ff), (0x400, 0x4ff), (0x5d0, 0x5ea), (0x620, 0x669),
              (0x900, 0x970), (0xe01, 0xe5b), (0x10a0, 0x10ff), (0x1e00, 0x1eff), (0x1f00, 0x1fff), (0x2000, 0x206f),
              (0x2100, 0x218f), (0x3000, 0x30ff), (0x4e00, 0x9fff), (0xac00, 0xd7a3), (0xff00, 0xff9f), (0x300, 0x345),
              (0x1f600, 0x1f64f), (0x1100, 0x11ff), (0xf900, 0xfaff)]
    words = "the a of Don't we'll I'M it's 1984 3.14 12345 foo_bar x+=1; // != caf\u00e9 e\u0301 \u3000 \u3002 \uff01".split(' ')
    out = []
    for _ in range(count):
        low, high = rng.choice(blocks)
        parts = []
        for _ in range(rng.randint(1, 24)):
            r = rng.random()
            parts.append(rng.choice(words) if r < .2 else rng.choice([' ', '  ', '\t', '\n', '\r\n', ' \n ', '\u3000 ', '\u00a0'])
                         if r < .45 else ''.join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 6)))
                         if r < .85 else chr(rng.randint(*rng.choice(blocks))))
        out.append(''.join(parts).replace('\0', ' '))
    return out


def main(folder, program, count=4000, *names):
    failed = 0
    for name in names or STEPS:
        with tempfile.TemporaryDirectory() as work:
            path, again = os.path.join(work, 'tokenizer.json'), os.path.join(work, 'again.json')
            make(name, folder, path)
            vectors = os.path.join(folder, 'ggml-vocab-%s.gguf.' % name)
            texts = open(vectors + 'inp', newline='').read().split('\n__ggml_vocab_test__\n')
            want = [[int(i) for i in l.split()] for l in open(vectors + 'out').read().split('\n')[:len(texts)]]
            vector_count = len(texts)
            texts += lines(int(count))
            theirs = Tokenizer.from_file(path)
            ids = [theirs.encode(t, add_special_tokens=False).ids for t in texts]
            for turn in (path, again):                      # the file that we wrote says the same
                r = subprocess.run([program, turn] + [again] * (turn == path), input=('\0'.join(texts) + '\0').encode(),
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                got = [[int(i) for i in l.split()] for l in r.stdout.decode().split('\n')[:-1]]
                if len(got) != len(texts):
                    sys.exit(r.stderr.decode())
                same = sum(a == b for a, b in zip(got, want))
                wrong = [i for i in range(len(texts)) if got[i] != ids[i]]
                print('%-15s %d of %d vectors; %d of %d lines differ from tokenizers; %s' %
                      (name, same, vector_count, len(wrong), len(texts), r.stderr.decode().strip().split('\n')[-1]))
                for i in wrong[:3]:
                    print('   ', ascii(texts[i]), got[i], ids[i])
                failed |= same != vector_count or len(wrong) > 0
            if Tokenizer.from_file(again).encode_batch(texts[-200:], add_special_tokens=False)[7].ids != ids[-193]:
                print('%-15s tokenizers reads our file in another way' % name)
                failed = 1
    return failed


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
