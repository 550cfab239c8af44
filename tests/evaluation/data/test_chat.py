"""Frames of prompts against `apply_chat_template` of Transformers, for templates as model families have them."""

from copy import deepcopy
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from longrope.evaluation.data.chat import DATE, Frame, frame
from longrope.evaluation.data.tokenized import leading_special_tokens

CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are "
    "helpful.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TRIMMING = (
    "{{- bos_token }}{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}"
    "Today Date: {{ date_string }}\n\n{%- for message in messages %}<|start|>{{ message.role }}\n\n"
    "{{- message['content'] | trim }}<|eot|>{%- endfor %}"
    "{%- if add_generation_prompt %}<|start|>assistant\n\n{%- endif %}"
)
BRACKETS = "{{ bos_token }}{% for message in messages %}[INST] {{ message['content'] }} [/INST]{% endfor %}"
MESSAGES = ("What is it?", "\n two\n\nparagraphs, {braces} and 'quotes' \n")


def with_template(tokenizer: PreTrainedTokenizerFast, template: str) -> PreTrainedTokenizerFast:
    chosen = deepcopy(tokenizer)
    chosen.chat_template = template
    return chosen


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("template", [CHATML, TRIMMING, BRACKETS])
def test_a_whole_prompt_is_what_transformers_makes_of_the_message(tokenizer, template, message):
    chosen = with_template(tokenizer, template)
    conversation = [{"role": "user", "content": message}]
    options = {"add_generation_prompt": True, "date_string": DATE, "return_dict": False}
    expected: Any = chosen.apply_chat_template(conversation, **options)
    around = frame(chosen, chat=True)
    assert around.encode(message) == expected
    assert around.encode(message, " It is") == expected + chosen.encode(" It is", add_special_tokens=False)
    assert around.opening + around.ending(around.shown(message), " It is") == around.encode(message, " It is")


def test_a_template_that_prints_the_date_prints_the_same_one_every_day(tokenizer):
    for form, shown in {"%d %b %Y": DATE, "%Y-%m-%d": "2024-07-26", "%B %d, %Y": "July 26, 2024"}.items():
        chosen = with_template(tokenizer, f"\n{{{{ strftime_now('{form}') }}}}|{{{{ messages[0].content }}}}|")
        assert frame(chosen, chat=True).before == f"\n{shown}|"


def test_without_a_chat_template_there_are_only_the_leading_special_tokens(tokenizer):
    around = frame(with_template(tokenizer, CHATML), chat=False)
    assert around.opening == leading_special_tokens(tokenizer) != []
    assert around.closing == []
    assert around.encode(" two ", " It is") == tokenizer.encode(" two  It is")
    assert around.ending(" two ", " It is") == tokenizer.encode(" two  It is", add_special_tokens=False)
    assert around.describe() == "none"


def test_the_description_tells_templates_apart(tokenizer):
    told = [
        frame(with_template(tokenizer, template), chat=True).describe() for template in (CHATML, TRIMMING, BRACKETS)
    ]
    assert told[2] == {"before": "<s>[INST] ", "after": " [/INST]", "strips": False}
    assert told[1]["strips"] is True  # pyright: ignore[reportArgumentType]
    assert told[0] != told[1]
    assert Frame(tokenizer).describe() not in told


@pytest.mark.parametrize(
    "template", ["{{ messages[0].content | lower }}", "{{ messages[0].content }}|{{ messages[0].content }}", "hello"]
)
def test_a_template_that_does_not_show_the_message_as_it_is_is_refused(tokenizer, template):
    with pytest.raises(ValueError, match="must show the user's message once and as it is"):
        frame(with_template(tokenizer, template), chat=True)


def test_a_tokenizer_without_a_template_is_refused(tokenizer):
    with pytest.raises(
        ValueError, match=r"chat template must be off for a tokenizer that has none, got on; leave --ch"
    ):
        frame(tokenizer, chat=True)
