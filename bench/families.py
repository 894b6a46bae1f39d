"""Logits, loss and gradients of small random models of public families: transformers' PyTorch against glam.h.

    pip install torch transformers numpy
    cc -O2 -fopenmp bench/families.c -o /tmp/families -lm
    python bench/families.py /tmp/families [NAME...]

Each model is written as a file of glam.h by this script, with a config of its own: what an importer does.
One line per model: the largest difference of logits (of size 3 to 5), of the loss, and of the gradients
relative to the largest of their tensor; whether cached decoding has the bits of the full pass.
"""
import json, os, struct, subprocess, sys, tempfile
import numpy as np, torch, transformers as T

BASE = dict(vocab_size=96, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=64, pad_token_id=None, bos_token_id=1, eos_token_id=2)
DENSE, MOE = dict(intermediate_size=48), dict(intermediate_size=24, num_local_experts=4, num_experts_per_tok=2)
GRANITE = dict(embedding_multiplier=3.0, residual_multiplier=0.4, attention_multiplier=0.2, logits_scaling=2.5)
QWEN = dict(intermediate_size=48, moe_intermediate_size=24, num_experts=4, num_experts_per_tok=2, head_dim=16)


def rope(kind, **more):
    return dict(rope_parameters=dict(rope_theta=1000.0, rope_type=kind, factor=4.0, **more))


MODELS = {
    'llama': ('Llama', DENSE), 'llama_linear': ('Llama', DENSE | rope('linear')),
    'llama_llama3': ('Llama', DENSE | rope('llama3', original_max_position_embeddings=16, low_freq_factor=1.0,
                                           high_freq_factor=4.0)),
    'llama_yarn': ('Llama', DENSE | rope('yarn', original_max_position_embeddings=16)),
    'llama_tied': ('Llama', DENSE | dict(tie_word_embeddings=True, head_dim=24, rms_norm_eps=0.01)),
    'mistral': ('Mistral', DENSE | dict(sliding_window=None)), 'granite': ('Granite', DENSE | GRANITE),
    'mixtral': ('Mixtral', MOE), 'granitemoe': ('GraniteMoe', MOE | GRANITE),
    'olmoe': ('Olmoe', dict(intermediate_size=24, num_experts=4, num_experts_per_tok=2)),
    'olmoe_renormalised': ('Olmoe', dict(intermediate_size=24, num_experts=4, num_experts_per_tok=2,
                                         norm_topk_prob=True)),
    'qwen3': ('Qwen3', dict(intermediate_size=48, head_dim=16)), 'qwen3_moe': ('Qwen3Moe', QWEN),
    'qwen3_moe_sparse': ('Qwen3Moe', QWEN | dict(decoder_sparse_step=2, norm_topk_prob=True, num_hidden_layers=4)),
}


def make(cls, more):
    config = getattr(T, cls + 'Config')(**(BASE | more))
    config._attn_implementation = config._experts_implementation = 'eager'
    torch.manual_seed(1)
    model = getattr(T, cls + 'ForCausalLM')(config).double().eval()
    g = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if p.ndim > 1: p.copy_(torch.randn(p.shape, generator=g) / p.shape[-1] ** 0.5)
            else: p.copy_(1 + 0.2 * torch.randn(p.shape, generator=g))
    return config, model


def glam_config(c):
    """What a config of transformers means in the fields of glam_config."""
    rope = dict(getattr(c, 'rope_parameters', None) or {})
    kind = c.model_type
    heads, d = c.num_attention_heads, getattr(c, 'head_dim', None) or c.hidden_size // c.num_attention_heads
    g = dict(vocab=c.vocab_size, context=c.max_position_embeddings, layers=c.num_hidden_layers,
             d_model=c.hidden_size, heads=heads, d_head=d, kv_heads=c.num_key_value_heads, hidden=c.intermediate_size,
             position='rotary', attention_scale=getattr(c, 'attention_multiplier', d ** -0.5),
             attention_sink=False, activation='swiglu', norm_eps=c.rms_norm_eps, tied=bool(c.tie_word_embeddings),
             embed_scale=getattr(c, 'embedding_multiplier', 1), residual_scale=getattr(c, 'residual_multiplier', 1),
             logit_scale=1 / getattr(c, 'logits_scaling', 1), z_loss=0,
             qk_norm='head' if kind.startswith('qwen3') else 'whole' if kind == 'olmoe' else 'none')
    scaling = rope.get('rope_type', 'default')
    g['rotary'] = dict(theta=rope.get('rope_theta', 10000.0))
    if scaling != 'default':
        g['rotary'] |= dict(scaling=scaling, factor=rope['factor'],
                            context=rope.get('original_max_position_embeddings', 0))
        if scaling == 'llama3': g['rotary'] |= dict(low=rope['low_freq_factor'], high=rope['high_freq_factor'])
        if scaling == 'yarn': g['rotary'] |= dict(low=rope.get('beta_slow') or 1, high=rope.get('beta_fast') or 32,
                                                  attention=rope.get('attention_factor') or 0)
    experts = getattr(c, 'num_local_experts', None) or getattr(c, 'num_experts', None) or 0
    renormalise = kind in ('mixtral', 'granitemoe') or getattr(c, 'norm_topk_prob', False)
    step = getattr(c, 'decoder_sparse_step', 1)
    g['moe'] = dict(experts=experts)
    if experts:
        g['moe'] |= dict(top_k=c.num_experts_per_tok, every=step, offset=step - 1, aux_weight=0,
                         hidden=getattr(c, 'moe_intermediate_size', None) or c.intermediate_size, activation='swiglu',
                         normalise='before_drop' if renormalise else 'none')
    return g


def glam_tensors(c, state):
    """Tensors of transformers under our names; ours are [in,out]."""
    t = {'embed': state['model.embed_tokens.weight'], 'norm': state['model.norm.weight']}
    if not c.tie_word_embeddings: t['unembed'] = state['lm_head.weight']
    for i in range(c.num_hidden_layers):
        a, b = f'model.layers.{i}.', f'layers.{i}.'
        t[b + 'attn.norm'] = state[a + 'input_layernorm.weight']
        for x in 'qkvo': t[b + 'attn.' + x] = state[a + f'self_attn.{x}_proj.weight'].T
        for x in 'qk':
            if a + f'self_attn.{x}_norm.weight' in state: t[b + f'attn.{x}_norm'] = state[a + f'self_attn.{x}_norm.weight']
        norm = state[a + 'post_attention_layernorm.weight']
        if a + 'mlp.gate_proj.weight' in state:
            t[b + 'ffn.norm'] = norm
            for x in ('gate', 'up', 'down'): t[b + 'ffn.' + x] = state[a + f'mlp.{x}_proj.weight'].T
            continue
        t[b + 'moe.norm'] = norm
        find = lambda *names: next(state[k] for n in names for k in state if k.startswith(a) and k.endswith(n))
        t[b + 'moe.router'] = find('mlp.gate.weight', 'block_sparse_moe.gate.weight', 'router.weight').T
        both = find('experts.gate_up_proj').transpose(1, 2)      # [E,2F,D], gate first
        half = both.shape[2] // 2
        t[b + 'moe.gate'], t[b + 'moe.up'] = both[:, :, :half], both[:, :, half:]
        t[b + 'moe.down'] = find('experts.down_proj').transpose(1, 2)
    return t


def write_glam(path, config, tensors):
    head, at, body = {'__metadata__': {'format': 'glam', 'glam.config': json.dumps(config), 'glam.checksum': 'none'}}, 0, []
    for name, x in tensors.items():
        raw = np.ascontiguousarray(x.detach().float().numpy()).tobytes()
        head[name] = {'dtype': 'F32', 'shape': list(x.shape), 'data_offsets': [at, at + len(raw)]}
        at += len(raw)
        body.append(raw)
    h = json.dumps(head).encode()
    h += b' ' * (-len(h) % 8)
    with open(path, 'wb') as f: f.write(struct.pack('<Q', len(h)) + h + b''.join(body))


def check(program, name, threads):
    cls, more = MODELS[name]
    c, model = make(cls, more)
    ids = torch.arange(40) * 37 % 96
    ids, targets = ids.view(2, 20), (ids * 5 + 3).view(2, 20) % 96
    logits = model(ids).logits
    loss = torch.nn.functional.cross_entropy(logits.view(-1, 96), targets.reshape(-1))
    loss.backward()
    state = dict(model.named_parameters())
    want = glam_tensors(c, {k: p.grad for k, p in state.items()})
    with tempfile.TemporaryDirectory() as d:
        write_glam(d + '/m', glam_config(c), glam_tensors(c, state))
        torch.cat([ids.reshape(-1), targets.reshape(-1)]).int().numpy().tofile(d + '/t')
        run = subprocess.run([program, d + '/m', d + '/t', '2', d + '/o', str(threads)], capture_output=True, text=True)
        if run.returncode: return print(f'{name:20s} FAILED: {run.stderr.strip()}') or 1
        out = np.fromfile(d + '/o', '<f4').astype(np.float64)
    n = logits.numel()
    off = np.abs(out[:n] - logits.detach().numpy().reshape(-1)).max()
    at, worst, where = n + 1, 0, ''
    for line in run.stdout.split('\n')[:-1]:
        tensor, *shape = line.split()
        g = want[tensor].numpy().reshape(-1)
        e = np.abs(out[at:at + g.size] - g).max() / max(np.abs(g).max(), 1e-9)
        if e > worst: worst, where = e, tensor
        at += g.size
    good = off < 1e-4 and abs(out[n] - loss.item()) < 1e-5 and worst < 1e-4 and out[at] == 0
    print(f'{name:20s} logits {off:.1e} of {np.abs(out[:n]).max():.1f}  loss {abs(out[n] - loss.item()):.1e}  gradients '
          f'{worst:.1e} ({where})  cache {"same bits" if out[at] == 0 else "DIFFERS"}  {"ok" if good else "FAILED"}')
    return not good


if __name__ == '__main__':
    if len(sys.argv) < 2: sys.exit(__doc__)
    sys.exit(sum(check(sys.argv[1], n, t) for n in sys.argv[2:] or MODELS for t in (1, 2)) > 0)
