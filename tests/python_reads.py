"""python_reads.py MODEL - another program opens our file: Python's own safetensors package.

Checks the metadata, the names and shapes against the config, and the checksum by a second
implementation of its rule: the sum over 8-byte little-endian words w_i of mix(w_i + (i+1)*golden),
plus mix(length xor "glam"<<32), with the 16 digits of the checksum itself taken as zeros.
"""
import json
import sys

import numpy as np
from safetensors import safe_open

path = sys.argv[1]
with safe_open(path, framework="numpy") as f:
    metadata, names = f.metadata(), list(f.keys())
    shapes = {n: f.get_tensor(n).shape for n in names}
    finite = all(np.isfinite(f.get_tensor(n)).all() for n in names)
config = json.loads(metadata["glam.config"])
moe = config["moe"]
assert metadata["format"] == "glam" and finite
assert shapes["embed"] == (config["vocab"], config["d_model"])
assert shapes["layers.0.moe.up"] == (moe["experts"], config["d_model"], moe["hidden"])
assert shapes["layers.0.attn.q"] == (config["d_model"], config["heads"] * config["d_head"])
assert ("layers.1.ffn.gate" in names) == (moe["every"] > 1) and "norm" in names


def mix(x):
    for shift, factor in ((30, 0xbf58476d1ce4e5b9), (27, 0x94d049bb133111eb)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(31))


raw = bytearray(open(path, "rb").read())
digits = metadata["glam.checksum"].encode()
at = raw.index(digits)
raw[at:at + 16] = b"0" * 16
words = np.frombuffer(bytes(raw) + bytes(-len(raw) % 8), "<u8")
with np.errstate(over="ignore"):
    place = np.arange(1, len(words) + 1, dtype=np.uint64) * np.uint64(0x9e3779b97f4a7c15)
    total = mix(words + place).sum(dtype=np.uint64)
    total += mix(np.array([len(raw) ^ (0x676c616d << 32)], dtype=np.uint64))[0]
assert b"%016x" % int(total) == digits, "checksum: %016x, the file says %s" % (int(total), digits)
print("%d tensors, %d bytes, checksum %s" % (len(names), len(raw), digits.decode()))
