"""Does lm-evaluation-harness give each option the log-likelihood that `glam eval` gives it?

    ./glam import FOLDER --out model.safetensors
    ./glam eval model.safetensors --task copa.jsonl --normalise sum --out lines.jsonl
    python3 bench/harness.py FOLDER copa.jsonl lines.jsonl       needs lm-eval, transformers and torch

FOLDER is a model as the hub has it; the rows of the task have query, choices and gold.
"""
import json, os, sys, tempfile, warnings
os.environ['HF_HUB_OFFLINE'] = os.environ['HF_DATASETS_OFFLINE'] = '1'
warnings.filterwarnings('ignore')
import lm_eval
from lm_eval.tasks import TaskManager

folder, rows, lines = sys.argv[1:4]
ours = {}
for line in open(lines):
    option = json.loads(line)
    ours[option['row'], option['option']] = option
with tempfile.TemporaryDirectory() as work:
    with open(os.path.join(work, 'task.yaml'), 'w') as f:
        f.write('''task: rows
dataset_path: json
dataset_kwargs: {data_files: {test: "%s"}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{query}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{gold}}"
target_delimiter: " "
metric_list: [{metric: acc}]
''' % os.path.abspath(rows))
    result = lm_eval.simple_evaluate(model='hf', model_args='pretrained=%s,dtype=float32' % folder, tasks=['rows'],
                                     task_manager=TaskManager(include_path=work, include_defaults=False),
                                     batch_size=1, log_samples=True, device='cpu', bootstrap_iters=0)
worst = greedy = count = 0
for sample in result['samples']['rows']:
    for k, answer in enumerate(sample['resps']):
        loglik, is_greedy = answer[0] if isinstance(answer[0], (list, tuple)) else answer
        mine = ours[sample['doc_id'], k]
        worst = max(worst, abs(float(loglik) - mine['loglik']))
        greedy += bool(is_greedy) != mine['greedy']
        count += 1
print('%d options: largest difference %.1e, %d greedy flags differ, accuracy there %.4f'
      % (count, worst, greedy, result['results']['rows']['acc,none']))
sys.exit(worst > 1e-4 or greedy > 0)
