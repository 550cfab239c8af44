"""A folder that is built like a checkout of the official RULER, with scripts of a few lines."""

import json
import subprocess
from pathlib import Path

from longrope.evaluation.tasks.ruler.official import OFFICIAL

PREPARE = """
import argparse, json, pathlib, subprocess, sys, time
from template import Templates
parser = argparse.ArgumentParser()
for name in ("save_dir", "benchmark", "task", "subset", "tokenizer_path", "tokenizer_type", "model_template_type"):
    parser.add_argument("--" + name, required=True)
parser.add_argument("--max_seq_length", type=int)
parser.add_argument("--num_samples", type=int)
parser.add_argument("--prepare_for_ns", action="store_true")
args = parser.parse_args()
here = pathlib.Path(__file__).parent
with open(here / "runs.txt", "a") as file:
    file.write(f"{args.task} {args.max_seq_length}\\n")
if args.max_seq_length < 50:
    subprocess.run("sleep 600", shell=True)
if args.max_seq_length < 100:
    print("Error output: Traceback")
    print("KeyError: 'no' such\\n  word")
    sys.exit(0)
vocabulary = json.loads(pathlib.Path(args.tokenizer_path, "tokenizer.json").read_text())["model"]["vocab"]
template = Templates[args.model_template_type] if args.prepare_for_ns else ""
taken = len(template.replace("{task_template}", ""))
out = pathlib.Path(args.save_dir, args.task)
out.mkdir()
with open(out / (args.subset + ".jsonl"), "w") as file:
    for index in range(args.num_samples):
        row = {"index": index, "input": f"{args.task} of {len(vocabulary)}\\n\\u00e9 {index}?", "outputs": ["Ab", "cd"]}
        row |= {"length": args.max_seq_length - index - taken, "answer_prefix": " It is"}
        file.write(json.dumps(row) + "\\n")
"""
KINDS = {"niah": "niah", "vt": "variable_tracking", "cwe": "common_words_extraction", "fwe": "freq_words", "qa": "qa"}
"""First part of a task's name, and the script that makes it."""


def options(task: str) -> dict[str, str]:
    if task.startswith("qa"):
        return {"dataset": "squad"}
    return {"type_haystack": "essay"} if task == "niah_single_2" else {}


def make_checkout(root: Path) -> Path:
    """Make the folder, a git repository with one commit."""
    files = {
        "scripts/data/prepare.py": PREPARE,
        "scripts/data/template.py": "Templates = {'base': '{task_template}'}",
        "scripts/synthetic.yaml": json.dumps(
            {task: {"task": KINDS[task.split("_")[0]], "args": options(task)} for task in OFFICIAL.values()}
        ),
        "scripts/data/synthetic/constants.py": f"TASKS = { ({k: {'tokens_to_generate': 5} for k in KINDS.values()})!r}",
        "scripts/eval/synthetic/constants.py": "def string_match_all(): ...\ndef string_match_part(): ...\n"
        f"TASKS = {{kind: {{'metric_fn': string_match_all}} for kind in {list(KINDS.values())!r}}}\n"
        "TASKS['qa']['metric_fn'] = string_match_part\n",
        "scripts/data/synthetic/json/english_words.json": "version https://git-lfs.github.com/spec/v1\n",
        "scripts/data/synthetic/json/squad.json": "{}",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "First"]):
        subprocess.run(["git", *command], cwd=root, check=True)
    return root
