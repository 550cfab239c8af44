"""lm-eval on an installed model, offline: tasks from local files."""

import ast
import json
import math
from pathlib import Path

import pytest
import torch
import yaml

pytest.importorskip("lm_eval")

from lm_eval.api.instance import Instance  # noqa: E402  # pyright: ignore[reportMissingImports]
from lm_eval.models.huggingface import HFLM  # noqa: E402  # pyright: ignore[reportMissingImports]

from longrope.evaluation.comparison.compare import compare  # noqa: E402
from longrope.evaluation.comparison.results import provenance  # noqa: E402
from longrope.evaluation.scoring.loss import token_nats  # noqa: E402
from longrope.evaluation.tasks.harness import LmEval, _Harness  # noqa: E402
from longrope.rope import install  # noqa: E402
from longrope.rope.methods import Linear, NoScaling  # noqa: E402

ITEMS = [
    {"question": f"{index} plus {index}?", "choices": ["none", str(2 * index), "all of it"], "answer": index % 3}
    for index in range(6)
]


@pytest.fixture(scope="module")
def task_folder(tmp_path_factory) -> Path:
    """Return a folder with a multiple-choice and a generation task on local data."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    common = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "items.jsonl")}},
        "test_split": "test",
        "doc_to_text": "Q: {{question}}\nA:",
        "metadata": {"version": 1.0},
    }
    choice = {
        "task": "local_choice",
        "output_type": "multiple_choice",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean"}, {"metric": "acc_norm", "aggregation": "mean"}],
    }
    written = {
        "task": "local_written",
        "output_type": "generate_until",
        "doc_to_target": "{{choices[answer]}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 5},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean"}],
    }
    rolling = {
        "task": "local_rolling",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{question}}",
        "metric_list": [{"metric": "bits_per_byte"}],
    }
    for task in (choice, written, rolling):
        (folder / f"{task['task']}.yaml").write_text(yaml.safe_dump(common | task))
    return folder


@pytest.fixture
def ending_tokenizer(tokenizer):
    """Return the byte tokenizer with an end of text, which lm-eval can't do without."""
    tokenizer.eos_token = "<s>"
    return tokenizer


@pytest.fixture
def make_task(task_folder, ending_tokenizer):
    def make(name="local_choice", **settings) -> LmEval:
        return LmEval(ending_tokenizer, name, include_path=str(task_folder), **settings)

    return make


def best_choice(model, tokenizer, item, normalized) -> int:
    """Answer by hand: the choice with the largest log-probability, per byte if normalized."""
    scores = []
    context = tokenizer.encode(f"Q: {item['question']}\nA:")
    for choice in item["choices"]:
        answer = tokenizer.encode(f" {choice}", add_special_tokens=False)
        nats = token_nats(model, torch.tensor([context + answer]))[0, -len(answer) :].sum().item()
        scores.append(-nats / (len(choice) if normalized else 1))
    return max(range(len(scores)), key=scores.__getitem__)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_scores_are_those_of_the_installed_factors_worked_out_by_hand(
    make_llama, ending_tokenizer, make_task, batch_size
):
    model = make_llama(vocab_size=257)
    task = make_task(batch_size=batch_size)
    seen = set()
    with install(model) as installation:
        for method in (NoScaling(), Linear(factor=8.0)):
            installation.set([method.factors(installation.geometry)])
            cell = task.run(model, [64, 128], lambda tokens: None)
            by_hand = [
                {
                    "acc": float(best_choice(model, ending_tokenizer, item, False) == item["answer"]),
                    "acc_norm": float(best_choice(model, ending_tokenizer, item, True) == item["answer"]),
                }
                for item in ITEMS
            ]
            for length in (64, 128):
                assert [r["scores"] for r in cell.records if r["length"] == length] == by_hand
            seen.add(json.dumps(cell.records))
            for m in cell.measurements:
                assert m.estimate.value == pytest.approx(sum(scores[m.metric] for scores in by_hand) / len(ITEMS))
                assert m.estimate.low is not None and m.estimate.low <= m.estimate.value
            assert cell.measurements[0].metric == "acc_norm"
    assert len(seen) == 2, "the factors changed nothing"


def test_a_cell_is_run_once_for_all_lengths_and_compared_like_any_task(make_llama, make_task, tmp_path):
    model = make_llama(vocab_size=257)
    task = make_task(samples=4)
    facts = provenance(model, "tiny", {task.name: task.protocol()})
    compared = compare(model, {"none": NoScaling()}, [20, 64, 128], [task], tmp_path, facts)
    assert [(entry.task, entry.length) for entry in compared.left_out] == [("local_choice", 20)]
    assert "lengths must be at least" in compared.left_out[0].reason
    assert {row.length for row in compared.rows} == {64, 128}
    assert all(row.n == 4 for row in compared.rows)
    assert len(compared.entries) == 1 and compared.entries[0].tokens > 0


def test_prompts_are_never_cut(make_llama, make_task, ending_tokenizer):
    model = make_llama(vocab_size=257)
    for name in ("local_choice", "local_written"):
        task = make_task(name)
        longest = task.requests.longest
        task.check(model, [longest])
        task.run(model, [longest], lambda tokens: None)
        with pytest.raises(ValueError, match="leave the shorter lengths out"):
            task.check(model, [longest - 1])
        with pytest.raises(ValueError, match="none is cut"):
            task.run(model, [longest - 6], lambda tokens: None)


def test_written_answers_are_scored(make_llama, make_task):
    cell = make_task("local_written").run(make_llama(vocab_size=257), [64], lambda tokens: None)
    assert [m.metric for m in cell.measurements] == ["exact_match"]
    assert len(cell.records) == len(ITEMS)
    for record, item in zip(cell.records, ITEMS, strict=True):
        assert record["references"] == [item["choices"][item["answer"]]]
        assert record["scores"]["exact_match"] == float(
            record["references"][0] in ast.literal_eval(record["predicted"])
        )


def test_logits_that_are_not_finite_fail_the_cell(make_llama, make_task):
    for name in ("local_choice", "local_written"):
        model = make_llama(vocab_size=257)
        with torch.no_grad():
            model.lm_head.weight[3] = math.nan
        with pytest.raises(ArithmeticError, match="logits are not finite"):
            make_task(name).run(model, [64], lambda tokens: None)


def test_batches_shrink_when_memory_runs_out(make_llama, make_task):
    model = make_llama(vocab_size=257)
    whole = make_task(batch_size=1).run(model, [64], lambda tokens: None)

    def refuse(module, args, kwargs):
        if len(args[0] if args else kwargs["input_ids"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    model.register_forward_pre_hook(refuse, with_kwargs=True)
    shrunk = make_task(batch_size=16).run(model, [64], lambda tokens: None)
    assert [r["scores"] for r in shrunk.records] == [r["scores"] for r in whole.records]


def test_the_protocol_follows_the_questions_and_the_tokenizer_stays_as_it_was(make_llama, make_task, ending_tokenizer):
    before = ending_tokenizer.get_vocab(), ending_tokenizer.pad_token
    assert make_task().protocol() == make_task().protocol()
    assert make_task().protocol() != make_task(samples=3).protocol()
    assert make_task().requests.fingerprint != make_task(shots=1).requests.fingerprint
    make_task("local_written").run(make_llama(vocab_size=257), [64], lambda tokens: None)
    assert (ending_tokenizer.get_vocab(), ending_tokenizer.pad_token) == before


@pytest.mark.parametrize(("name", "message"), [("nowhere", "nowhere"), ("local_rolling", "no rolling perplexity")])
def test_tasks_that_lm_eval_lacks_or_we_measure_ourselves_are_refused(make_task, name, message):
    with pytest.raises(ValueError, match=message):
        make_task(name).protocol()


def test_the_harness_is_lm_eval_s_own_model_but_for_its_traps(make_llama, ending_tokenizer):
    model = make_llama(vocab_size=257)
    pairs = [("alpha beta", " gamma"), ("one", " two three"), ("x", " y")]
    requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    plain = HFLM(pretrained=model, tokenizer=ending_tokenizer, max_length=64, batch_size=3)
    ours = _Harness(model, ending_tokenizer, 64, 3)
    assert ours.loglikelihood(requests) == plain.loglikelihood(requests, disable_tqdm=True)
