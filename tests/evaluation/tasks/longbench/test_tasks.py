"""Every dataset as a task: prompts, middle truncation, an oracle, a guesser, records and splits."""

import random
from itertools import count

import numpy as np
import pytest
from scipy import stats

from longrope.evaluation.data.chat import Frame
from longrope.evaluation.data.tokenized import leading_special_tokens
from longrope.evaluation.scoring.generation import NOT_FINITE
from longrope.evaluation.tasks import prompted
from longrope.evaluation.tasks.longbench.build import build_longbench
from longrope.evaluation.tasks.longbench.registry import DATASETS, NAMES, Prompt
from longrope.evaluation.tasks.longbench.task import mean_by
from longrope.evaluation.tasks.longbench.truncation import encode
from longrope.evaluation.tasks.longbench.v1 import length_bucket
from longrope.evaluation.tasks.longbench.v2 import ANSWER_TOKENS, REASONING_TOKENS, parse_answer

from .conftest import CLASSES, answering, v1_row, v2_row, write_jsonl


@pytest.fixture
def build(tmp_path):
    """Build a task on rows made here."""

    def built(name, tokenizer, num_rows=4, rows=None, **options):
        file = name.removeprefix("longbench_")
        if file in NAMES:
            for package in DATASETS[file.removesuffix("_e")].metric.packages:
                pytest.importorskip(package, reason="needs packages: pip install jieba rouge")
        made = [v1_row(file, i) if file in NAMES else v2_row(i) for i in range(num_rows)]
        source = write_jsonl(tmp_path / f"{name}.jsonl", rows or made)
        return build_longbench(name, tokenizer, source=source, **options)

    return built


def oracle(task, length):
    """A model that looks up the last reference of a prompt."""
    answers = {sample.ids.tobytes(): sample.references[-1] for sample in task.samples(length)}
    return answering(task.tokenizer, lambda ids: answers[ids.tobytes()])


def scores(task, generate, length):
    return [record.scores[task.metric] for record in task.ask(generate, length)]


@pytest.mark.parametrize("name", DATASETS)
def test_an_oracle_scores_everything_and_a_silent_model_nothing(build, tokenizer, name):
    task = build(f"longbench_{name}", tokenizer, batch_size=3)
    length = 1800
    assert scores(task, oracle(task, length), length) == pytest.approx([1.0] * 4, abs=1e-7)
    assert scores(task, answering(tokenizer, lambda ids: ""), length) == [0.0] * 4


@pytest.mark.parametrize(
    ("name", "chance"), [("trec", 1 / 4), ("passage_retrieval_en", 1 / 30), ("passage_count", 1 / 30)]
)
def test_a_guesser_scores_chance(build, tokenizer, name, chance):
    rng = random.Random(0)
    task = build(f"longbench_{name}", tokenizer, rows=[v1_row(name, i, context="A fact.\n") for i in range(300)])
    guess = {"trec": lambda: rng.choice(CLASSES)}.get(name, lambda: f"Paragraph {rng.randint(1, 30)}")
    right = sum(scores(task, answering(tokenizer, lambda ids: guess()), 3000))
    assert stats.binomtest(round(right), 300, chance).pvalue > 1e-3


@pytest.mark.parametrize("name", ["qasper", "gov_report", "triviaqa", "lcc"])
def test_random_words_score_almost_nothing(build, tokenizer, name):
    rng = random.Random(0)
    task = build(f"longbench_{name}", tokenizer)
    guesser = answering(tokenizer, lambda ids: "".join(rng.choices("qzjkvw ", k=30)))
    assert np.mean(scores(task, guesser, 1800)) < 0.2


@pytest.mark.parametrize("name", DATASETS)
def test_a_prompt_that_is_not_cut_is_the_template_with_the_row(build, tokenizer, name):
    task = build(f"longbench_{name}", tokenizer)
    for row, sample in zip(task.rows, task.samples(20_000), strict=True):
        text = task.dataset.template.replace("{context}", row.context).replace("{input}", row.input)
        assert tokenizer.decode(sample.ids) == "<s>" + text
        assert not sample.labels["cut"]


@pytest.mark.parametrize("length", [701, 702, 1000, 1001])
def test_a_long_prompt_keeps_the_first_and_last_half_of_its_tokens(build, either_tokenizer, length):
    row = v1_row("qasper", 1, context=v1_row("qasper")["context"] * 20)
    task = build("longbench_qasper", either_tokenizer, rows=[row] * 2, chat=False)
    length += 700  # the instruction alone has hundreds of bytes
    text = task.dataset.template.replace("{context}", row["context"]).replace("{input}", row["input"])
    whole = either_tokenizer.encode(text)
    for sample in task.samples(length):
        ids = sample.ids.tolist()
        assert len(ids) + 128 == length
        last = len(ids) // 2
        assert ids == whole[: len(ids) - last] + whole[-last:]
        assert ids[: len(leading_special_tokens(either_tokenizer))] == leading_special_tokens(either_tokenizer)
        assert either_tokenizer.decode(ids).endswith(f"Question: {row['input']}\n\nAnswer:")
        assert (sample.labels["cut"], sample.labels["prompt_tokens"]) == (True, len(whole))


@pytest.mark.parametrize("name", DATASETS)
def test_the_shortest_length_that_is_allowed_holds_instruction_and_question(build, either_tokenizer, name):
    task = build(f"longbench_{name}", either_tokenizer, chat=False)
    with pytest.raises(
        ValueError, match=r"lengths must be at least (\d+) tokens for .*, got \d+; ask for longer"
    ) as caught:
        task.samples(task.max_new_tokens + 1)
    length = int(str(caught.value).split("at least ")[1].split()[0])
    with pytest.raises(ValueError, match="never cut"):
        task.samples(length - 1)
    for row, sample in zip(task.rows, task.samples(length), strict=True):
        before, _, after = task.dataset.prompt(row.context, row.input)
        text = either_tokenizer.decode(sample.ids, skip_special_tokens=True)
        assert len(sample.ids) <= length - task.max_new_tokens
        assert text.startswith(before.strip())
        assert text.endswith(after)


def test_code_before_the_line_asked_for_may_be_cut_where_it_is_no_question(build, tokenizer):
    code = "import os\n" * 300
    task = build("longbench_repobench-p", tokenizer, rows=[v1_row("repobench-p", input=code)])
    (sample,) = task.samples(1000)
    assert len(sample.ids) == 1000 - 64
    assert tokenizer.decode(sample.ids).endswith("import os\nNext line of code:\n")


def test_braces_in_a_row_are_text(build, tokenizer):
    row = v1_row("qasper", context="f'{input} {x}'", input="What is {context}?")
    (sample,) = build("longbench_qasper", tokenizer, rows=[row]).samples(5000)
    text = tokenizer.decode(sample.ids)
    assert "Article: f'{input} {x}'\n" in text
    assert "Question: What is {context}?\n" in text


def test_a_chat_template_is_used_where_it_is_asked_for_and_the_dataset_allows_it(build, chat_tokenizer, tokenizer):
    for name, dataset in DATASETS.items():
        if dataset.metric.packages:
            continue
        task = build(f"longbench_{name}", chat_tokenizer, chat=True)
        chat = name not in ("trec", "triviaqa", "samsum", "lsht", "lcc", "repobench-p")
        (text, *_) = [chat_tokenizer.decode(sample.ids) for sample in task.samples(6000)]
        assert text.startswith("<s>[user]\n") is text.endswith("\n[assistant]\n") is chat
        assert bool(task.describe()["chat_template"]) is chat
    assert build("longbench_qasper", chat_tokenizer).describe()["chat_template"] is False
    with pytest.raises(ValueError, match="chat template must be off for a tokenizer that has none, got on"):
        build("longbench_qasper", tokenizer, chat=True).samples(5000)


def test_prompts_in_a_chat_template_are_those_of_transformers_and_are_cut_inside(build, chat_tokenizer):
    task = build("longbench_qasper", chat_tokenizer, chat=True)
    row = task.rows[0]
    text = task.dataset.template.replace("{context}", row.context).replace("{input}", row.input)
    message = [{"role": "user", "content": text}]
    expected = chat_tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=False)
    whole = task.samples(6000)[0].ids.tolist()
    assert chat_tokenizer.decode(whole) == chat_tokenizer.decode(expected)
    assert abs(len(whole) - len(expected)) <= 2  # the seams of the template
    room = len(whole) - 101
    cut = task.samples(room + 128)[0].ids.tolist()
    assert cut == whole[: room - room // 2] + whole[-(room // 2) :]


def test_a_prompt_keeps_its_head_and_its_tail_or_is_refused(tokenizer):
    prompt = encode(Prompt("abc", "0123456789", "wxyz"), Frame(tokenizer))
    assert (prompt.head, prompt.tail, prompt.halves) == (4, 4, 8)
    assert tokenizer.decode(prompt.fit(8)) == "<s>abcwxyz"
    assert tokenizer.decode(prompt.fit(11)) == "<s>abc0189wxyz"[:8] + "9wxyz"
    assert tokenizer.decode(prompt.fit(18)) == "<s>abc0123456789wxyz"
    with pytest.raises(ValueError, match="at least 8 tokens for a prompt whose question is never cut, got 7"):
        prompt.fit(7)


def test_only_the_first_line_of_a_few_shot_answer_counts(build, tokenizer):
    told = {"trec": "\nFood\nDate", "triviaqa": "\nBlue Whale\n\nPassage: more", "qasper": "Blue Whale\nyes or no"}
    means = {}
    for name, answer in told.items():
        rows = [v1_row(name, answers=["Food"] if name == "trec" else ["Blue Whale"])]
        task = build(f"longbench_{name}", tokenizer, rows=rows)
        means[name] = np.mean(scores(task, answering(tokenizer, lambda ids, answer=answer: answer), 4000))
    assert (means["trec"], means["triviaqa"]) == (1.0, 1.0)
    assert means["qasper"] == pytest.approx(2 * (2 / 5) / (7 / 5))


def test_records_carry_length_buckets_and_failures_no_score(build, tokenizer):
    rows = [v1_row("hotpotqa_e", i, words=[100, 3999, 4000, 7999, 8000][i]) for i in range(5)]
    task = build("longbench_hotpotqa_e", tokenizer, rows=rows)
    generate, calls = oracle(task, 1500), count()

    def failing(ids, num_tokens):
        tokens = generate(ids, num_tokens)
        return tokens.fill_(NOT_FINITE) if next(calls) == 2 else tokens

    records = [record.to_dict() for record in task.ask(failing, 1500)]
    assert [record["bucket"] for record in records] == ["0-4k", "0-4k", "4-8k", "4-8k", "8k+"]
    assert [record["error"] is None for record in records] == [True, True, False, True, True]
    assert {name: estimate.n for name, estimate in mean_by(records, "bucket", "f1").items()} == {
        "0-4k": 2,
        "4-8k": 1,
        "8k+": 1,
    }


def test_bucket_scores_are_means_per_bucket():
    told = [(0, 1.0), (3999, 0.5), (4000, 0.25), (9000, 0.0)]
    records = [{"bucket": length_bucket(words), "scores": {"f1": score}, "error": None} for words, score in told]
    assert {name: estimate.value for name, estimate in mean_by(records, "bucket", "f1").items()} == {
        "0-4k": 0.75,
        "4-8k": 0.25,
        "8k+": 0.0,
    }


def test_longbench_e_and_v2_measure_their_splits(build, make_llama, tokenizer, monkeypatch):
    model = make_llama(vocab_size=257)
    for name, length, expected in [
        ("longbench_qasper_e", 2500, ["f1", "f1_4-8k"]),
        ("longbench_qasper", 2500, ["f1"]),
        ("longbench2", 2500, [f"accuracy{s}" for s in ("", "_easy", "_hard", "_long", "_medium", "_short")]),
    ]:
        task = build(name, tokenizer, num_rows=6)
        generate = oracle(task, length)
        monkeypatch.setattr(prompted, "greedy", lambda model, ids, n, *_, generate=generate: generate(ids, n))
        cell = task.run(model, [length], lambda tokens: None)
        assert [m.metric for m in cell.measurements] == expected
        assert len(cell.records) == 6


def test_the_protocol_names_data_wording_and_kind_of_measurement(build, tokenizer):
    first, other = (
        build("longbench_qasper", tokenizer, 2).protocol(),
        build("longbench_qasper", tokenizer, 3).protocol(),
    )
    assert first["data"] != other["data"]
    assert (first["measurement"], first["samples"], first["max_new_tokens"]) == ("generation", 2, 128)
    assert first["template"] == DATASETS["qasper"].template
    v2 = build("longbench2_cot", tokenizer).protocol()
    assert v2["measurement"].startswith("generation: the letter is read from the answer")
    assert (v2["max_new_tokens"], v2["answer_tokens"]) == (1024, 128)


@pytest.mark.parametrize(
    ("predicted", "letter"),
    [
        ("The correct answer is (C).", "C"),
        ("The correct answer is C", "C"),
        ("**The correct answer is** (**B**)", "B"),
        ("I think A. The correct answer is (D), not (B).", "D"),
        ("The correct answer is B. The correct answer is (A).", "A"),  # the form in brackets goes first
        ("the correct answer is (A)", None),
        ("The correct answer is (E)", None),
        ("A", None),
        ("(A)", None),
        ("", None),
    ],
)
def test_letters_are_read_by_the_official_rule(predicted, letter):
    assert parse_answer(predicted) == letter


def test_another_letter_is_wrong_and_no_letter_is_wrong_and_recorded(build, tokenizer):
    task = build("longbench2", tokenizer, rows=[v2_row(answer="A")])
    for answer, parsed, score in [("(C).", "C", 0.0), ("(A).", "A", 1.0), ("unclear", None, 0.0)]:
        said = f"The correct answer is {answer}"
        (record,) = task.ask(answering(tokenizer, lambda ids, said=said: said), 2000)
        assert (record.labels["parsed"], record.scores, record.error) == (parsed, {"accuracy": score}, None)


def test_v2_shows_all_options_and_the_question_after_the_document(build, either_tokenizer):
    task = build("longbench2", either_tokenizer)
    for length in (1200, 1301, 3000):
        for row, sample in zip(task.rows, task.samples(length), strict=True):
            text = either_tokenizer.decode(sample.ids, skip_special_tokens=True)
            assert len(sample.ids) <= length - ANSWER_TOKENS
            assert sample.labels["cut"] is (sample.labels["prompt_tokens"] > length - ANSWER_TOKENS)
            asked = text.split("</text>")[1]
            assert row.question in asked
            assert "(A) a {fish}\n(B) a bird\n(C) a cat\n(D) a dog\n" in asked


@pytest.mark.parametrize("name", ["longbench2", "longbench2_cot"])
def test_v2_oracle_and_guesser(build, tokenizer, name):
    length, rng = 3000, random.Random(0)
    rows = [v2_row(i, context="A line.\n") for i in range(200)]
    task = build(name, tokenizer, rows=rows, batch_size=16)
    letters = {row.question: row.answer for row in task.rows}

    def knowing(ids):
        question = tokenizer.decode(ids).split("is correct: ")[1].split("\n")[0]
        return f"The correct answer is ({letters[question]})."

    assert scores(task, answering(tokenizer, knowing), length) == [1.0] * 200
    guesser = answering(tokenizer, lambda ids: f"The correct answer is ({rng.choice('ABCD')})")
    right = sum(scores(task, guesser, length))
    assert stats.binomtest(int(right), 200, 0.25).pvalue > 1e-3


def test_a_chain_of_thought_is_concluded_without_the_text(build, tokenizer):
    task = build("longbench2_cot", tokenizer, num_rows=3, batch_size=2)
    asked = []

    def reasons(ids):
        text = tokenizer.decode(ids)
        asked.append(text)
        return " The correct answer is (B), or so it seems. " if "Line 59" in text else "The correct answer is (C)."

    samples = task.samples(3000)
    records = task.ask(answering(tokenizer, reasons), 3000)
    assert [record.labels["parsed"] for record in records] == ["C"] * 3
    assert [record.scores["accuracy"] for record in records] == [0.0, 0.0, 1.0]
    assert [record.prompt_hash for record in records] == [sample.prompt_hash for sample in samples]
    assert {record.labels["reasoning"] for record in records} == {" The correct answer is (B), or so it seems. "}
    assert [record.references for record in records] == [("A",), ("B",), ("C",)]
    first, second = asked[:3], asked[3:]
    assert all(text.endswith("step by step:") for text in first)
    for text in second:
        assert "Line 5" not in text
        assert "step by step: The correct answer is (B), or so it seems.\n\nGiven all this" in text
        assert "(D) a dog" in text


def test_a_chain_of_thought_that_fails_is_not_concluded_or_scored(build, tokenizer):
    task, calls = build("longbench2_cot", tokenizer, num_rows=3), count()
    generate = answering(tokenizer, lambda ids: "The correct answer is (A)")

    def failing(ids, num_tokens):
        return generate(ids, num_tokens).fill_(NOT_FINITE) if next(calls) == 1 else generate(ids, num_tokens)

    records = task.ask(failing, 3000)
    assert [record.error is None for record in records] == [True, False, True]
    assert (records[1].scores, records[1].labels["parsed"]) == ({}, None)
    assert next(calls) == 3 + 2


def test_long_reasoning_is_cut_in_the_middle_and_the_question_is_not(build, tokenizer):
    task = build("longbench2_cot", tokenizer, num_rows=1)
    with pytest.raises(ValueError, match=r"lengths must be at least (\d+) tokens for longbench2_cot") as caught:
        task.samples(400)
    smallest = int(str(caught.value).split("at least ")[1].split()[0])
    asked = []

    def reasons(ids):
        asked.append(ids)
        return "x" * REASONING_TOKENS

    rows = [v2_row(context="short")]
    task = build("longbench2_cot", tokenizer, rows=rows)
    length = max(smallest, 1500)
    task.ask(answering(tokenizer, reasons), length)
    first, second = asked
    assert len(first) + REASONING_TOKENS <= length
    assert len(second) + ANSWER_TOKENS == length
    text = tokenizer.decode(second)
    assert "What is number 0?" in text
    assert text.endswith('(insert the letter here)".')
