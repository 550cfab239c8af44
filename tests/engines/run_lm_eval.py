"""Ask `lm_eval --model hf`, in an environment without longrope. Usage: python run_lm_eval.py WORK

Each prompt becomes two tasks: the log-likelihood of single tokens spread over it, and the text that follows it.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from answers import GREEDY_TOKENS, Answer, Prompt, read_prompts, write_answers


def tasks(prompts: dict[str, Prompt]) -> Iterator[tuple[dict[str, Any], list[dict[str, str]]]]:
    """Yield the settings and the documents of each task."""
    for length, prompt in prompts.items():
        documents = [{"before": before, "token": token} for _, before, token in prompt.single]
        settings = {"output_type": "loglikelihood", "metric_list": [{"metric": "acc"}]}
        yield {"task": f"tokens_{length}", **settings}, documents
        settings = {
            "output_type": "generate_until",
            "generation_kwargs": {"until": [], "max_gen_toks": GREEDY_TOKENS, "do_sample": False},
            "metric_list": [{"metric": "exact_match"}],
        }
        yield {"task": f"greedy_{length}", **settings}, [{"before": prompt.text, "token": "unused"}]


def run(case: Path, folder: Path) -> None:
    """Run the command on a case and leave its samples in a folder."""
    names = []
    for settings, documents in tasks(read_prompts(case)):
        name = settings["task"]
        names.append(name)
        data = folder / f"{name}.json"
        data.write_text("\n".join(json.dumps(document) for document in documents), encoding="utf-8")
        settings |= {
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data)}},
            "test_split": "test",
            "doc_to_text": "{{before}}",
            "doc_to_target": "{{token}}",
            "target_delimiter": "",
        }
        (folder / f"{name}.yaml").write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
    model = f"pretrained={case / 'exported'},dtype=float32,max_length=2048,add_bos_token=True"
    command = ["lm_eval", "--model", "hf", "--model_args", model, "--tasks", ",".join(names), "--device", "cpu"]
    command += ["--include_path", str(folder), "--batch_size", "1", "--log_samples", "--output_path", str(folder)]
    subprocess.run([str(Path(sys.executable).parent / command[0]), *command[1:]], check=True)


def samples(folder: Path, task: str) -> list[dict[str, Any]]:
    file = next(folder.rglob(f"samples_{task}_*.jsonl"))
    found = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return sorted(found, key=lambda sample: sample["doc_id"])


def answer(case: Path, prompt: Prompt, folder: Path) -> Answer:
    length = len(prompt.ids)
    logprobs = np.full(length - 1, np.nan)
    for (index, _, _), sample in zip(prompt.single, samples(folder, f"tokens_{length}"), strict=True):
        logprobs[index - 1] = float(sample["resps"][0][0][0])
    return Answer(logprobs, samples(folder, f"greedy_{length}")[0]["resps"][0][0])


if __name__ == "__main__":
    assert find_spec("longrope") is None, "longrope must not be importable here"
    for case in sorted(Path(sys.argv[1]).iterdir()):
        with tempfile.TemporaryDirectory() as name:
            run(case, Path(name))
            write_answers(case, "lm_eval", version("lm_eval"), lambda c, p, f=Path(name): answer(c, p, f))
