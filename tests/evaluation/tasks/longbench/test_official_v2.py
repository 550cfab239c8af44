"""LongBench v2 of an official checkout: of one that is written here, and of the real one.

Where LONGBENCH_CHECKOUT names the real one, its own `pred.py` asks a client that records what it is asked, and its
`result.py` counts the answers. The data is `data.json` of the folder LONGBENCH_DATA, or made here in its format.
"""

import importlib.util
import io
import json
import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from longrope.cli.main import main
from longrope.evaluation.comparison.results import read_results
from longrope.evaluation.tasks.longbench.build import build_longbench
from longrope.evaluation.tasks.longbench.checkout_v2 import CheckoutV2
from longrope.evaluation.tasks.longbench.v2 import ANSWER_TOKENS

from .conftest import answering, v2_row

REAL, DATA = os.environ.get("LONGBENCH_CHECKOUT"), os.environ.get("LONGBENCH_DATA")
TEMPLATE = "{{ bos_token }}[{{ messages[0].content }}]"
CHOICES = "$Q$\n(A) $C_A$\n(B) $C_B$\n(C) $C_C$\n(D) $C_D$\n"
PROMPTS = {
    "0shot": f"Official words.\n<text>\n$DOC$\n</text>\n\nAsked: {CHOICES}\nSay it.\n",
    "0shot_cot": f"Official words.\n$DOC$\n\nAsked: {CHOICES}\nLet’s think:",
    "0shot_cot_ans": f"Nothing here.\n\nAsked: {CHOICES}\nLet’s think: $COT$\n\nWhat is it?",
}
KEPT = 1000
THOUGHT = " So: $Q$ \n"


@pytest.fixture
def standin(tmp_path):
    """A folder in the format of the official checkout, a git repository with one commit."""
    root = tmp_path / "checkout"
    for folder in ("prompts", "config"):
        (root / folder).mkdir(parents=True)
    for name, text in PROMPTS.items():
        (root / "prompts" / f"{name}.txt").write_text(text, encoding="utf-8")
    (root / "config/model2path.json").write_text(json.dumps({"a-128k": "a/a", "b": "b/b"}))
    (root / "config/model2maxlen.json").write_text(json.dumps({"a-128k": KEPT, "b": KEPT, "served-elsewhere": 7}))
    author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "First"]):
        subprocess.run(["git", *command], cwd=root, check=True)
    return root


@pytest.fixture
def build(tmp_path, standin):
    def built(tokenizer, rows, cot=False, checkout=standin, **options):
        (tmp_path / "data.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
        name = "official_longbench2" + ("_cot" if cot else "")
        return build_longbench(name, tokenizer, source=tmp_path / "data.json", checkout=checkout, **options)

    return built


def filled(template: str, row: dict, reasoning: str = "") -> str:
    """The official rule, written down again."""
    text = template.replace("$DOC$", row["context"].strip()).replace("$Q$", row["question"].strip())
    for letter in "ABCD":
        text = text.replace(f"$C_{letter}$", row[f"choice_{letter}"].strip())
    return text.replace("$COT$", reasoning)


def with_template(tokenizer):
    chosen = deepcopy(tokenizer)
    chosen.chat_template = TEMPLATE
    return chosen


@pytest.mark.parametrize("cot", [False, True])
def test_prompts_and_answer_lengths_are_those_of_the_checkout(build, either_tokenizer, cot):
    rows = [v2_row(i, context=f"  Text {i} of $Q$ and {{x}}.\n", choice_B=" b $C_A$\n") for i in range(3)]
    task = build(either_tokenizer, rows, cot)
    assert task.name == "official_longbench2" + ("_cot" if cot else "")
    assert task.max_new_tokens == (1024 if cot else 128)
    for row, sample in zip(rows, task.samples(20_000), strict=True):
        text = filled(PROMPTS["0shot_cot" if cot else "0shot"], row)
        assert sample.ids.tolist() == either_tokenizer(text).input_ids
        assert sample.references == (row["answer"],)
        assert sample.labels["cut"] is False


@pytest.mark.parametrize(("length", "limit"), [(1300, KEPT), (901, 901 - 128)])
@pytest.mark.parametrize("chat", [False, True])
def test_a_long_prompt_is_cut_in_the_middle_decoded_and_tokenized_again(build, either_tokenizer, length, limit, chat):
    chosen, row = with_template(either_tokenizer), v2_row(1, context="A fact. 事实。 More of it,\nand more.\n" * 900)
    (sample,) = build(chosen, [row], chat=chat).samples(length)
    kept = sample.labels["kept_tokens"]
    limit -= len(chosen.encode("<s>[]", add_special_tokens=False)) if chat and limit != KEPT else 0
    assert limit - 4 <= kept <= limit  # the seam of the halves may have more tokens
    ids = chosen(filled(PROMPTS["0shot"], row)).input_ids
    text = chosen.decode(ids[: kept // 2] + ids[-kept // 2 :], skip_special_tokens=True)  # Python rounds -kept/2 down
    assert text.startswith("Official words.")
    assert text.endswith("Say it.\n")
    message = [{"role": "user", "content": text}]
    expected = chosen.apply_chat_template(message, return_dict=False) if chat else chosen(text).input_ids
    assert sample.ids.tolist() == expected


def test_the_second_prompt_has_the_reasoning_as_it_was_written_but_for_its_ends(build, tokenizer):
    rows = [v2_row(i) for i in range(2)]
    task, asked = build(tokenizer, rows, cot=True), []

    def answer(ids):
        asked.append(tokenizer.decode(ids, skip_special_tokens=True))
        return "\n Look at $Q$: " if len(asked) <= 2 else "The correct answer is (B)"

    records = task.ask(answering(tokenizer, answer), 6000)
    second = filled(PROMPTS["0shot_cot_ans"], rows[0], "Look at $Q$:")
    assert asked[2] == second
    assert [record.scores["accuracy"] for record in records] == [0, 1]
    assert records[0].labels["prompt_tokens"] == len(tokenizer(filled(PROMPTS["0shot_cot"], rows[0])).input_ids)


def test_a_length_in_which_the_question_would_be_cut_is_refused(build, either_tokenizer):
    task = build(either_tokenizer, [v2_row(question="Is it so, or not? " * 30)])
    with pytest.raises(ValueError, match="room for instruction and question of official_longbench2, which are never"):
        task.samples(300)


def test_the_protocol_names_the_checkout(build, standin, tokenizer):
    protocol = build(tokenizer, [v2_row()], cot=True).protocol()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=standin, capture_output=True, text=True).stdout.strip()
    assert protocol["definition"] == f"official LongBench v2, checkout commit {commit}"
    assert protocol["template"] == PROMPTS["0shot_cot"]
    assert protocol["answer_template"] == PROMPTS["0shot_cot_ans"]
    (standin / "config/model2maxlen.json").write_text(json.dumps({"a-128k": 5, "b": 5}))
    assert build(tokenizer, [v2_row()]).protocol()["files_sha256"] != protocol["files_sha256"]


def test_other_folders_and_damaged_files_are_refused(standin, tmp_path):
    with pytest.raises(ValueError, match="official LongBench with v2, got .* without prompts/0shot.txt"):
        CheckoutV2(tmp_path)
    (standin / "config/model2maxlen.json").write_text(json.dumps({"a-128k": KEPT}))
    with pytest.raises(ValueError, match="must have one number of tokens for all models of config/model2path.json"):
        _ = CheckoutV2(standin).kept
    (standin / "prompts/0shot.txt").write_text("$DOC$ $Q$ $Q$ $C_A$ $C_B$ $C_C$")
    with pytest.raises(ValueError, match=r"once, got another number of \$Q\$, \$C_D\$; restore"):
        CheckoutV2(standin)


def test_evaluate_runs_it_by_its_name(standin, model_folder, tmp_path, capsys):
    (tmp_path / "data.json").write_text(json.dumps([v2_row(i, context="Short.") for i in range(3)]))
    command = ["evaluate", "--model", str(model_folder), "--output-dir", str(tmp_path / "out"), "--methods", "none"]
    command += ["--lengths", "500", "--longbench-source", str(tmp_path), "--tasks", "official_longbench2"]
    assert main(command) == 2
    assert "longbench_checkout must be a checkout of the official LongBench, got none" in capsys.readouterr().err
    assert main([*command, "--longbench-checkout", str(standin)]) == 0
    rows = read_results(tmp_path / "out" / "results.json").rows
    assert {(row.task, row.metric) for row in rows} >= {("official_longbench2", "accuracy")}


class Client:
    """A server that keeps what it is asked and answers with given texts, one after the other."""

    def __init__(self, answers: list[str]) -> None:
        self.asked: list[dict] = []
        self.answers = iter(answers)
        self.chat = SimpleNamespace(completions=SimpleNamespace(create=self.create))

    def create(self, **options):
        self.asked.append(options)
        message = SimpleNamespace(content=next(self.answers))
        return SimpleNamespace(choices=[SimpleNamespace(message=message)])


def official_pred(monkeypatch) -> ModuleType:
    """Import `pred.py` of the real checkout, which reads its files from the current folder."""
    monkeypatch.chdir(str(REAL))
    for name, member in (("openai", "OpenAI"), ("tiktoken", "encoding_for_model")):
        stub = ModuleType(name)
        setattr(stub, member, None)
        monkeypatch.setitem(sys.modules, name, stub)
    spec = importlib.util.spec_from_file_location("official_pred_v2", f"{REAL}/pred.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def real_rows(limit: int) -> list[dict]:
    if DATA is not None:
        return json.loads((Path(DATA) / "data.json").read_text(encoding="utf-8"))[:6]
    long = "A fact. 事实。 More of it,\nand more.\n" * (limit // 8)
    return [v2_row(0), v2_row(1, context=long), v2_row(2, question=" What?\n"), v2_row(3, context=f"\n{long} end ")]


@pytest.mark.skipif(REAL is None, reason="LONGBENCH_CHECKOUT names no checkout of github.com/THUDM/LongBench")
@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("length", [4096, 131072])
@pytest.mark.parametrize("cot", [False, True])
def test_prompts_answers_and_scores_equal_those_of_the_official_checkout(
    cot, length, chat, build, bpe_tokenizer, monkeypatch, tmp_path
):
    chosen = with_template(bpe_tokenizer)
    rows = real_rows(length)
    task = build(chosen, rows, cot, checkout=REAL, chat=chat)
    samples = task.samples(length)
    pred = official_pred(monkeypatch)
    if length >= 131072:
        assert max(sample.labels["kept_tokens"] for sample in samples) == pred.maxlen_map["Llama-3.1-8B-Instruct"]
    final = ["The correct answer is (B).", "**The correct answer is C**", "It is (A)", "The correct answer is (D)"]
    answers = [part for text in final for part in ([THOUGHT, text] if cot else [text])]
    client = Client(answers)
    vars(pred).update(
        OpenAI=lambda **options: client,
        AutoTokenizer=SimpleNamespace(from_pretrained=lambda *names, **options: chosen),
        model_map={"m": "served"},
        tqdm=lambda data: data,
    )
    out, args = io.StringIO(), SimpleNamespace(model="m", rag=0, no_context=False, cot=cot)
    for row, sample in zip(rows, samples, strict=True):
        pred.maxlen_map["m"] = sample.labels["kept_tokens"]
        pred.get_pred([deepcopy(row)], args, out)
    told = [json.loads(line) for line in out.getvalue().splitlines()]
    step = 2 if cot else 1
    encoded = [put(chosen, options["messages"][0]["content"], chat) for options in client.asked]
    assert [sample.ids.tolist() for sample in samples] == encoded[::step]
    assert {options["max_tokens"] for options in client.asked[::step]} == {task.max_new_tokens}
    if cot:
        seen: list[list[int]] = []

        def reason(ids):
            seen.append(ids.tolist())
            return THOUGHT

        task.ask(answering(chosen, reason), length)
        assert sorted(seen[len(samples) :]) == sorted(encoded[1::2])
        assert {options["max_tokens"] for options in client.asked[1::2]} == {ANSWER_TOKENS}
    scores = [task.score(answer["response"], sample)["accuracy"] for answer, sample in zip(told, samples, strict=True)]
    assert scores == [float(answer["judge"]) for answer in told]
    assert 0 < sum(scores) < len(scores)


def put(tokenizer, text: str, chat: bool) -> list[int]:
    """The tokens of what a server is asked, in the chat template that it applies."""
    if not chat:
        return tokenizer(text).input_ids
    return tokenizer.apply_chat_template([{"role": "user", "content": text}], return_dict=False)
