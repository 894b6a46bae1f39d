"""Adapters side by side with transformers and PEFT: batch 1, context 256, rank 8, AdamW on the adapters;
tokens per second (the best of some steps) and the most memory that the process ever held.

    pip install torch transformers peft numpy
    cc -O2 -fopenmp bench/adapters.c -o /tmp/adapters -lm
    python bench/adapters.py /tmp/adapters [--smol FOLDER] [--steps N] [--only ROW]

FOLDER is a model of SmolLM2-135M's shape as transformers saves it; without it one with random numbers.  The
other shape is that of Granite-3.1-1b-a400m, random, written tensor by tensor into a file of glam.h, so that
writing it needs no memory; PyTorch makes its own.  Each row is a process of its own, alone on the machine.
"""
import argparse, json, os, re, struct, subprocess, sys, tempfile

SMOL = dict(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
            num_key_value_heads=3, rms_norm_eps=1e-5, rope_theta=100000.0, tie_word_embeddings=True,
            max_position_embeddings=8192)
GRANITE = dict(vocab_size=49155, hidden_size=1024, intermediate_size=512, num_hidden_layers=24,
               num_attention_heads=16, num_key_value_heads=8, num_local_experts=32, num_experts_per_tok=8,
               embedding_multiplier=12.0, residual_multiplier=0.22, attention_multiplier=0.015625,
               logits_scaling=6.0, rms_norm_eps=1e-6, rope_theta=1500000.0, tie_word_embeddings=True,
               max_position_embeddings=4096)
ROWS = [('smol', 'attention', 'f32'), ('granite', 'attention', 'f32'), ('granite', 'attention', 'bf16'),
        ('granite', 'attention,experts', 'f32'), ('granite', 'attention,experts', 'q8')]


def torch_row(shape, roles, kind, steps, smol):
    """In a process of its own: prints tokens/s."""
    import time, warnings
    warnings.filterwarnings('ignore')
    import torch, transformers
    from peft import LoraConfig, get_peft_model
    torch.set_num_threads(os.cpu_count())
    dtype = torch.bfloat16 if kind == 'bf16' else torch.float32         # it has no q8 on a processor: f32
    torch.set_default_dtype(dtype)
    if shape == 'smol' and smol:
        model = transformers.AutoModelForCausalLM.from_pretrained(smol, dtype=dtype)
    elif shape == 'smol':
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMOL))
    else:
        model = transformers.GraniteMoeForCausalLM(transformers.GraniteMoeConfig(**GRANITE))
    torch.set_default_dtype(torch.float32)
    more = dict(target_parameters=['experts.gate_up_proj', 'experts.down_proj']) if 'experts' in roles else {}
    model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, task_type='CAUSAL_LM', target_modules=[
        'q_proj', 'k_proj', 'v_proj', 'o_proj'], **more))
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    best = 1e9
    for _ in range(steps):
        x = torch.randint(0, 49152, (1, 256))
        start = time.time()
        model(input_ids=x, labels=x).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        best = min(best, time.time() - start)
    print('tokens/s %.2f' % (256 / best))


def write_granite(path):
    """A file of glam.h, piece by piece: normal numbers of standard deviation 0.02, norms of 1."""
    import numpy as np
    c = GRANITE
    D, F, E, K = c['hidden_size'], c['intermediate_size'], c['num_local_experts'], 8 * 64
    config = dict(vocab=c['vocab_size'], context=c['max_position_embeddings'], layers=24, d_model=D, heads=16,
                  d_head=64, kv_heads=8, hidden=F, position='rotary', rotary=dict(theta=c['rope_theta']),
                  attention_sink=False, attention_scale=c['attention_multiplier'], activation='swiglu',
                  norm_eps=1e-6, tied=True, embed_scale=12.0, residual_scale=0.22, logit_scale=1 / 6.0, z_loss=0.0,
                  moe=dict(experts=E, top_k=8, every=1, offset=0, hidden=F, activation='swiglu',
                           capacity_factor=0.0, normalise='before_drop', aux_weight=0.0))
    shapes = {'embed': (c['vocab_size'], D)}
    for i in range(24):
        a = 'layers.%d.' % i
        shapes.update({a + 'attn.norm': (D,), a + 'attn.q': (D, D), a + 'attn.k': (D, K), a + 'attn.v': (D, K),
                       a + 'attn.o': (D, D), a + 'moe.norm': (D,), a + 'moe.router': (D, E),
                       a + 'moe.gate': (E, D, F), a + 'moe.up': (E, D, F), a + 'moe.down': (E, F, D)})
    shapes['norm'] = (D,)
    head, at = {'__metadata__': {'format': 'glam', 'glam.config': json.dumps(config), 'glam.checksum': 'none'}}, 0
    for name, s in shapes.items():
        n = 4 * int(np.prod(s))
        head[name] = {'dtype': 'F32', 'shape': list(s), 'data_offsets': [at, at + n]}
        at += n
    text = json.dumps(head).encode()
    text += b' ' * (-len(text) % 8)
    g = np.random.default_rng(1)
    with open(path, 'wb') as f:
        f.write(struct.pack('<Q', len(text)) + text)
        for name, s in shapes.items():
            for piece in range(s[0] if len(s) == 3 else 1):
                one = s[1:] if len(s) == 3 else s
                x = np.ones(one, '<f4') if len(s) == 1 else g.standard_normal(one, 'f4') * np.float32(0.02)
                f.write(x.astype('<f4').tobytes())
    os.sync()                                        # not while something is timed


def measured(words):
    """Runs it; (tokens/s, GB at most)."""
    run = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    out = run.stdout.read()
    _, status, usage = os.wait4(run.pid, 0)
    found = re.search(r'tokens/s ([0-9.]+)', out)
    if status or not found:
        return print('%s: %s' % (' '.join(words), out.strip().split('\n')[-1])) or None
    return float(found.group(1)), usage.ru_maxrss / 1e6


def main():
    p = argparse.ArgumentParser()
    p.add_argument('program')
    p.add_argument('--smol')
    p.add_argument('--steps', type=int, default=3)
    p.add_argument('--only', type=int)
    p.add_argument('--row', nargs=3)
    a = p.parse_args()
    if a.row:
        return torch_row(*a.row, a.steps, a.smol)
    print('| shape, adapters, weights | PEFT tokens/s | GB | glam.h tokens/s | GB | times as fast | of its memory |')
    print('| --- | --- | --- | --- | --- | --- | --- |')
    with tempfile.TemporaryDirectory() as d:
        for i, (shape, roles, kind) in enumerate(ROWS):
            if a.only is not None and a.only != i:
                continue
            path = d + '/granite'
            if shape == 'granite' and not os.path.exists(path):
                write_granite(path)
            theirs = measured([sys.executable, __file__, a.program, '--steps', str(a.steps), '--row', shape, roles,
                               kind] + (['--smol', a.smol] if a.smol else []))
            source = a.smol or 'random' if shape == 'smol' else path
            ours = measured([a.program, source, roles, kind, str(a.steps)])
            if theirs and ours:
                print('| %s, %s, %s | %.1f | %.2f | %.1f | %.2f | %.2f | %.2f |' % (
                    shape, roles, kind, *theirs, *ours, ours[0] / theirs[0], ours[1] / theirs[1]), flush=True)


if __name__ == '__main__':
    main()
