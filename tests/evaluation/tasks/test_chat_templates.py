"""All prompted tasks with a chat template: the message, the stem after the generation prompt, lengths, protocols."""

import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from longrope.evaluation.data.prompts import Needle
from longrope.evaluation.tasks.needle import MultiNeedle, SingleNeedle
from longrope.evaluation.tasks.nolima import NoLiMa
from longrope.evaluation.tasks.passkey import Passkey, PasskeyHard
from longrope.evaluation.tasks.ruler.tasks import RULER, build_ruler, reads_essays

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
START = "<|end|>\n<|assistant|>\n"
STEMS = {
    "passkey": " The pass key is",
    "passkey_hard": " The pass key of ",
    "niah": " The special magic number for ",
    "niah_multi": " The special magic numbers for ",
    "nolima": " The person who lives in Paris is",
    "ruler_vt": " Answer: According to the chain(s) of variable assignment",
    "ruler_cwe": " Answer: The top 10 words",
    "ruler_fwe": " Answer: According to the coded text",
    "ruler_qa_1": " Answer:",
}
EMBEDDED = Path(__file__).parents[3] / "examples" / "tiny" / "model"
HAYSTACKS = (Passkey, PasskeyHard, SingleNeedle, MultiNeedle, NoLiMa)


@pytest.fixture(scope="module", params=["bytes", "embedded"])
def chatty(request, tokenizer):
    chosen = deepcopy(tokenizer) if request.param == "bytes" else AutoTokenizer.from_pretrained(EMBEDDED)
    chosen.chat_template = TEMPLATE
    return chosen


@pytest.fixture
def ruler(tmp_path):
    file = tmp_path / "squad.json"
    question = {"is_impossible": False, "answers": [{"text": "Rex"}]}
    paragraphs = [
        {"context": f"The dog of house {i} is Rex.", "qas": [{**question, "question": f"Whose dog is {i}?"}]}
        for i in range(9)
    ]
    file.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    names = [name for name in RULER if name != "ruler_qa_2" and not reads_essays(name)]
    return lambda tokenizer, **options: [
        build_ruler(name, tokenizer, samples=2, qa_file=file, **options) for name in names
    ]


def haystacks(tokenizer, **options):
    return [task(tokenizer, depths=2, **options) for task in HAYSTACKS]


def parts(tokenizer, sample):
    """The message of a prompt, and what stands after the generation prompt."""
    before, message, stem = tokenizer.decode(sample.ids).partition("<|user|>\n")
    assert before == tokenizer.bos_token
    message, _, stem = stem.partition(START)
    return message, stem


def test_the_prompt_is_the_message_and_the_stem_follows_the_generation_prompt(chatty, ruler):
    for task in [*haystacks(chatty, chat=True), *ruler(chatty, chat=True)]:
        (sample, *_) = task.samples(7000)
        message, stem = parts(chatty, sample)
        expected = chatty.apply_chat_template(
            [{"role": "user", "content": message}], tokenize=False, add_generation_prompt=True
        )
        assert chatty.decode(sample.ids) == expected + stem
        assert stem.startswith(STEMS.get(task.name, " The special magic ")), task.name
        assert message.endswith("?" if task.name != "ruler_vt" else "in the text above.")


def test_prompt_and_answer_never_exceed_the_length_and_haystacks_fill_it(chatty, ruler):
    for length in (7001, 7002):
        for task in haystacks(chatty, chat=True):
            assert {len(sample.ids) + task.max_new_tokens for sample in task.samples(length)} == {length}
        for task in ruler(chatty, chat=True):
            assert max(len(sample.ids) for sample in task.samples(length)) + task.max_new_tokens <= length


def test_a_message_of_ruler_is_tokenized_as_one_text(chatty, ruler):
    for task in ruler(chatty, chat=True):
        for sample in task.samples(7000):
            assert sample.ids.tolist() == chatty.encode(chatty.decode(sample.ids), add_special_tokens=False)


def test_without_one_nothing_changes_where_the_tokenizer_has_one(chatty, ruler):
    plain = deepcopy(chatty)
    plain.chat_template = None
    for ours, other in zip([*haystacks(chatty), *ruler(chatty)], [*haystacks(plain), *ruler(plain)], strict=True):
        assert ours.protocol() == other.protocol()
        assert ours.protocol()["template"] == "none"
        for first, second in zip(ours.samples(7000), other.samples(7000), strict=True):
            assert np.array_equal(first.ids, second.ids)


def test_the_protocol_holds_the_template_so_that_cells_never_mix(chatty, ruler):
    changed = deepcopy(chatty)
    changed.chat_template = TEMPLATE.replace("<|end|>", "<|stop|>")
    for plain, ours, other in zip(
        [*haystacks(chatty), *ruler(chatty)],
        [*haystacks(chatty, chat=True), *ruler(chatty, chat=True)],
        [*haystacks(changed, chat=True), *ruler(changed, chat=True)],
        strict=True,
    ):
        protocols = [json.dumps(task.protocol(), sort_keys=True) for task in (plain, ours, other)]
        assert len(set(protocols)) == 3
        assert ours.protocol()["template"]["after"] == START


def test_a_needle_of_ones_own_without_a_stem_leaves_the_answer_to_the_model(chatty):
    own = Needle("The best dish in Lyon is quenelles.", "What is the best dish in Lyon?", "quenelles")
    for sample in SingleNeedle(chatty, depths=3, needle=own, chat=True).samples(900):
        message, stem = parts(chatty, sample)
        assert message.endswith(own.question)
        assert stem == ""
        assert message.count(own.statement) == 1
