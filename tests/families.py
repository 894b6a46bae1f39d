"""Tiny random models of the families that examples/glam_hub.h reads, as transformers saves them, with what
transformers computes: logits and gradients.  Their folders are in tests/families, for tests/families.c; each has a
folder adapter of PEFT's, or by hand in the older form of names, with what PEFT computes.

    python3 tests/families.py [FOLDER]           needs torch 2.13, transformers 5.24, peft 0.21
    python3 tests/families.py adapters [FOLDER]  makes the adapters alone
    python3 tests/families.py check TOOL [FAMILIES]   PEFT and gguf read what the built tool writes of them,
                                               transformers what it has trained; FAMILIES is the built
                                               tests/families.c: PEFT reads adapters of ours on all roles
"""
import json, os, shutil, subprocess, sys, tempfile, warnings
warnings.filterwarnings('ignore')
import torch, transformers
from safetensors.torch import save_file

WORD = sys.argv[1] if len(sys.argv) > 1 and sys.argv[1] in ('adapters', 'check') else None
REST = sys.argv[2 if WORD else 1:]
OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'families')
if REST and WORD != 'check':
    OUT = REST[0]
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


ATTENTION = ['q_proj', 'k_proj', 'v_proj', 'o_proj']
STACKED = ['mlp.experts.gate_up_proj', 'mlp.experts.down_proj']
# what each adapts; by_hand: PEFT reads names of experts one by one, and writes them stacked
ADAPTERS = {
    'llama': dict(target_modules=ATTENTION + ['gate_proj', 'up_proj', 'down_proj'], rank_pattern={'q_proj': 3},
                  alpha_pattern={r'.*\.(k|v)_proj': 5, 'layers.1.mlp.up_proj': 2}),
    'llama3': dict(target_modules=['q_proj', 'v_proj'], use_rslora=True, r=4),
    'mistral': dict(target_modules=ATTENTION),
    'qwen3': dict(target_modules=['o_proj', 'down_proj'], rank_pattern={r'^model\.layers\.[01]\.mlp.+': 1}),
    'mixtral': dict(target_modules=['q_proj', 'gate'], target_parameters=STACKED),
    'granitemoe': dict(target_modules=ATTENTION, target_parameters=['experts.gate_up_proj', 'experts.down_proj',
                                                                     'router.weight']),
    'olmoe': dict(target_modules=ATTENTION + ['gate', 'gate_proj', 'up_proj', 'down_proj'], by_hand=True),
    'qwen3_moe': dict(target_modules=['q_proj', 'gate_proj', 'up_proj', 'down_proj']),
}


def load(name):
    return getattr(transformers, FAMILIES[name][0] + 'ForCausalLM').from_pretrained(
        os.path.join(OUT, name), dtype=torch.float32).eval()


def by_hand(name, folder, config):
    """Names of transformers 4: a module for each expert; the router a module too."""
    g, tensors = torch.Generator().manual_seed(3), {}
    for layer in range(2):
        a = 'base_model.model.model.layers.%d.' % layer
        sides = {a + 'mlp.gate': (4, 16)}
        for x in ATTENTION:
            sides[a + 'self_attn.' + x] = (8 if x[0] in 'kv' else 16, 16)
        for e in range(4):
            for x in ('gate_proj', 'up_proj', 'down_proj'):
                sides[a + 'mlp.experts.%d.%s' % (e, x)] = (16, 12) if x[0] == 'd' else (12, 16)
        for key, (o, i) in sides.items():
            tensors[key + '.lora_A.weight'] = 0.3 * torch.randn(2, i, generator=g)
            tensors[key + '.lora_B.weight'] = 0.3 * torch.randn(o, 2, generator=g)
    os.makedirs(folder)
    save_file(tensors, os.path.join(folder, 'adapter_model.safetensors'), metadata={'format': 'pt'})
    json.dump(dict(peft_type='LORA', task_type='CAUSAL_LM', base_model_name_or_path='', r=2, lora_alpha=4,
                   lora_dropout=0.0, bias='none', target_modules=config['target_modules'], inference_mode=True,
                   fan_in_fan_out=False), open(os.path.join(folder, 'adapter_config.json'), 'w'))


def adapter(name):
    import peft
    more, folder = dict(ADAPTERS[name]), os.path.join(OUT, name, 'adapter')
    shutil.rmtree(folder, ignore_errors=True)
    if more.pop('by_hand', False):
        by_hand(name, folder, more)
        model = peft.PeftModel.from_pretrained(load(name), folder, is_trainable=True)
    else:
        torch.manual_seed(1)
        model = peft.get_peft_model(load(name), peft.LoraConfig(**{**dict(r=2, lora_alpha=4,
                                    task_type='CAUSAL_LM'), **more}))
        g = torch.Generator().manual_seed(len(name))
        with torch.no_grad():
            for key, p in sorted(model.named_parameters()):
                if 'lora_B' in key:
                    p.copy_(0.2 * torch.randn(p.shape, generator=g))
        model.save_pretrained(folder)
        os.remove(os.path.join(folder, 'README.md'))
        path = os.path.join(folder, 'adapter_config.json')
        config = json.load(open(path))
        config['base_model_name_or_path'] = ''
        for key in ('target_modules', 'target_parameters'):        # sets, in any order
            config[key] = sorted(config[key]) if config[key] else config[key]
        json.dump(config, open(path, 'w'), indent=1)
    model.eval()
    ids = (torch.arange(24) * 37 % V).view(2, 12)
    out = model(ids, labels=ids)
    out.loss.backward()
    save_file({'logits': out.logits.detach().contiguous(), 'loss': out.loss.detach().view(1)},
              os.path.join(folder, 'expected.safetensors'))
    # gradients as an adapter of their own, under the names that PEFT writes
    for p in model.parameters():
        if p.requires_grad:
            p.data.copy_(p.grad)
    model.peft_config['default'].base_model_name_or_path = ''
    model.save_pretrained(os.path.join(folder, 'gradients'))
    os.remove(os.path.join(folder, 'gradients', 'README.md'))
    path = os.path.join(folder, 'gradients', 'adapter_config.json')
    config = json.load(open(path))
    for key in ('target_modules', 'target_parameters'):
        config[key] = sorted(config[key]) if config[key] else config[key]
    json.dump(config, open(path, 'w'), indent=1)
    print(name, 'adapter: loss %.5f' % out.loss.item())


def check(tool, name):
    """The tool's forms of the adapter: PEFT has the stored logits with one, gguf reads the other."""
    import gguf, peft
    from safetensors.torch import load_file
    folder = os.path.join(OUT, name)
    want = load_file(os.path.join(folder, 'adapter', 'expected.safetensors'))['logits']
    with tempfile.TemporaryDirectory() as d:
        for words in (['import', folder, '--out', d + '/m'],
                      ['export', d + '/m', '--adapter', folder + '/adapter', '--out', d + '/a'],
                      ['export', d + '/m', '--adapter', folder + '/adapter', '--as', 'gguf', '--out', d + '/g']):
            subprocess.run([tool] + words, check=True, stdout=subprocess.DEVNULL)
        model = peft.PeftModel.from_pretrained(load(name), d + '/a').eval()
        with torch.no_grad():
            apart = float((model((torch.arange(24) * 37 % V).view(2, 12)).logits - want).abs().max())
        read = gguf.GGUFReader(d + '/g')
        kind = read.fields['general.type'].contents(), read.fields['adapter.type'].contents()
    pairs = {t.name[:-1] for t in read.tensors}
    ok = apart < 1e-4 and kind == ('adapter', 'lora') and 2 * len(pairs) == len(read.tensors)
    print('%-10s PEFT with our adapter within %.1e; gguf: %d pairs%s' % (name, apart, len(pairs),
                                                                        '' if ok else '  FAILED'))
    return ok


def trained(tool, family):
    """What the tool has trained as a family: transformers has its losses, after 1 to 23 tokens."""
    import re
    with tempfile.TemporaryDirectory() as d:
        run = lambda *words: subprocess.run([tool, *words], check=True, stdout=subprocess.PIPE, cwd=d).stdout.decode()
        with open(d + '/text', 'w') as f:
            f.write(''.join('the %d hen and the pen: then the ten of them went again\n' % i for i in range(300)))
        size = '--layers 2 --d-model 16 --heads 2 --kv-heads 1 --moe-hidden 12 --batch 4 --context 32 --steps 60'
        if family in ('mixtral', 'granitemoe', 'olmoe', 'qwen3_moe'):
            size += ' --experts 4'
        run('train', 'text', '--family', family, *size.split(), '--quiet', '--threads', '1', '--out', 'm')
        run('export', 'm', '--out', 'e')
        model = transformers.AutoModelForCausalLM.from_pretrained(d + '/e').eval()
        apart, most = 0, 0
        for length in range(2, 25):
            ids = (torch.arange(length) * 37 + length * length) % 256
            with open(d + '/ids', 'w') as f:
                f.write(' '.join(str(int(i)) for i in ids) + '\n')
            ours = float(re.search(r'loss ([0-9.]+) nats', run('eval', 'm', '--tokens', 'ids')).group(1))
            with torch.no_grad():
                out = model(ids.view(1, -1), labels=ids.view(1, -1))
            apart, most = max(apart, abs(float(out.loss) - ours)), max(most, float(out.logits.abs().max()))
    kind = model.config.model_type
    ok = apart < 1e-4 * most and kind == family
    print('%-10s trained here, opened as %s: losses within %.1e of logits up to %.1f%s' %
          (family, kind, apart, most, '' if ok else '  FAILED'))
    return ok


def check_ours(program):
    """Adapters of ours, on every role: PEFT's logits with them are ours."""
    import numpy, peft
    bad = 0
    with tempfile.TemporaryDirectory() as d:
        subprocess.run([program, 'write', d], check=True, cwd=os.path.join(OUT, '..', '..'))
        for name in ADAPTERS:
            want = torch.from_numpy(numpy.fromfile(os.path.join(d, name, 'logits'), '<f4')).view(2, 12, V)
            ids = (torch.arange(24) * 37 % V).view(2, 12)
            with torch.no_grad():
                base = load(name)(ids).logits
                mine = peft.PeftModel.from_pretrained(load(name), os.path.join(d, name)).eval()(ids).logits
            apart, moved = float((mine - want).abs().max()), float((base - want).abs().max())
            ok = apart < 1e-4 and moved > 0.1
            bad += not ok
            print('%-10s PEFT with an adapter of ours within %.1e (the base: %.1f)%s' % (
                name, apart, moved, '' if ok else '  FAILED'))
    return bad


if __name__ == '__main__':
    if WORD == 'check':
        tool = os.path.abspath(REST[0])
        sys.exit(sum(not check(tool, name) for name in ADAPTERS) +
                 sum(not trained(tool, name) for name in ('llama', 'qwen3', 'mixtral', 'granitemoe', 'olmoe',
                                                         'qwen3_moe')) +
                 (check_ours(os.path.abspath(REST[1])) if len(REST) > 1 else 0))
    for name in FAMILIES:
        if not WORD:
            make(name)
        adapter(name)
