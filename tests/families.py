"""Tiny random models of the families that examples/glam_hub.h reads, as transformers saves them, with what
transformers computes: logits and gradients.  Their folders are in tests/families, for tests/families.c.

    python3 tests/families.py [FOLDER]           needs torch 2.13 and transformers 5.24
"""
import os, shutil, sys, warnings
warnings.filterwarnings('ignore')
import torch, transformers
from safetensors.torch import save_file

OUT = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), 'families')
V = 40
BASE = dict(vocab_size=V, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=64, intermediate_size=12,      # a pad_token_id would stop its row's gradient
            pad_token_id=None, bos_token_id=1, eos_token_id=2)
MIX = dict(num_experts_per_tok=2)
YARN = dict(rope_type='yarn', factor=4.0, original_max_position_embeddings=16, rope_theta=10000.0)
LLAMA3 = dict(rope_type='llama3', factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, rope_theta=500000.0,
              original_max_position_embeddings=32)
# folder: (class, config, what differs, how it is saved)
FAMILIES = {
    'llama': ('Llama', dict(tie_word_embeddings=True), {}),
    'llama3': ('Llama', dict(rope_parameters=LLAMA3, head_dim=8), dict(max_shard_size='4KB')),
    'mistral': ('Mistral', dict(sliding_window=None), dict(dtype=torch.bfloat16)),
    'qwen3': ('Qwen3', dict(head_dim=8), dict(dtype=torch.float16)),
    'mixtral': ('Mixtral', dict(num_local_experts=4, sliding_window=None, **MIX), dict(max_shard_size='4KB')),
    'granitemoe': ('GraniteMoe', dict(num_local_experts=4, attention_multiplier=0.4, embedding_multiplier=3.0,
                                      residual_multiplier=0.5, logits_scaling=2.0, tie_word_embeddings=True, **MIX), {}),
    'olmoe': ('Olmoe', dict(num_experts=4, rope_parameters=dict(rope_type='linear', factor=2.0, rope_theta=10000.0),
                            **MIX), {}),
    'qwen3_moe': ('Qwen3Moe', dict(num_experts=4, moe_intermediate_size=8, decoder_sparse_step=2, head_dim=8,
                                   norm_topk_prob=True, rope_parameters=YARN, mlp_only_layers=[], **MIX), {}),
}


def make(name):
    kind, more, saved = FAMILIES[name]
    config = getattr(transformers, kind + 'Config')(**{**BASE, **more})
    model = getattr(transformers, kind + 'ForCausalLM')(config).eval()
    g = torch.Generator().manual_seed(len(name) + 7)
    kept = saved.pop('dtype', torch.float32)
    with torch.no_grad():
        for key, p in sorted(model.named_parameters()):
            if p.ndim > 1:
                p.copy_(torch.randn(p.shape, generator=g) / p.shape[-1] ** 0.5)
            else:
                p.copy_(1 + 0.1 * torch.randn(p.shape, generator=g))
            p.copy_(p.to(kept).float())          # what the file can hold
    folder = os.path.join(OUT, name)
    shutil.rmtree(folder, ignore_errors=True)
    model.to(kept).save_pretrained(folder, **saved)
    model = getattr(transformers, kind + 'ForCausalLM').from_pretrained(folder, dtype=torch.float32).eval()
    ids = (torch.arange(24) * 37 % V).view(2, 12)
    out = model(ids, labels=ids)
    out.loss.backward()
    # gradients under the names of the files: experts are stacked in memory
    expected = {'ids': ids.float(), 'logits': out.logits.detach(), 'loss': out.loss.detach().view(1)}
    for key, p in model.named_parameters():
        if p.grad is None:
            continue
        e, d = p.shape[0], p.grad
        if key.endswith('mlp.experts.gate_up_proj') and kind != 'GraniteMoe':
            block, first = key.rsplit('mlp.experts.', 1)[0], p.shape[1] // 2
            for i in range(e):
                if kind == 'Mixtral':
                    expected['%sblock_sparse_moe.experts.%d.w1.weight' % (block, i)] = d[i, :first].clone()
                    expected['%sblock_sparse_moe.experts.%d.w3.weight' % (block, i)] = d[i, first:].clone()
                else:
                    expected['%smlp.experts.%d.gate_proj.weight' % (block, i)] = d[i, :first].clone()
                    expected['%smlp.experts.%d.up_proj.weight' % (block, i)] = d[i, first:].clone()
        elif key.endswith('mlp.experts.down_proj') and kind != 'GraniteMoe':
            block = key.rsplit('mlp.experts.', 1)[0]
            for i in range(e):
                where = 'block_sparse_moe.experts.%d.w2' if kind == 'Mixtral' else 'mlp.experts.%d.down_proj'
                expected[block + where % i + '.weight'] = d[i].clone()
        else:
            if kind == 'Mixtral':
                key = key.replace('mlp.gate.', 'block_sparse_moe.gate.')
            if kind == 'GraniteMoe':
                key = key.replace('.mlp.', '.block_sparse_moe.').replace('experts.gate_up_proj', 'input_linear.weight')
                key = key.replace('experts.down_proj', 'output_linear.weight').replace('router.weight', 'router.layer.weight')
            expected[key] = d.clone()
    save_file({k: v.contiguous() for k, v in expected.items()}, os.path.join(folder, 'expected.safetensors'))
    for extra in ('README.md',):
        if os.path.exists(os.path.join(folder, extra)):
            os.remove(os.path.join(folder, extra))
    print(name, 'loss %.5f' % out.loss.item(), 'largest logit %.3f' % out.logits.abs().max().item(),
          sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder)), 'bytes')


if __name__ == '__main__':
    for name in FAMILIES:
        make(name)
