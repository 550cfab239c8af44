"""Variable tracking against RULER's definition (variable_tracking.py)."""

import re

from longrope.evaluation.data.prompts import FILLER

from .conftest import read_assignments


def text_of(task, sample):
    return task.tokenizer.decode(sample.ids, skip_special_tokens=True)


def test_the_answer_is_one_chain_of_four_hops_in_order(make_task):
    task = make_task("ruler_vt")
    for sample in task.samples(2048):
        text = text_of(task, sample)
        assignments = read_assignments(text)
        assert tuple(assignments) == sample.references
        assert len(set(sample.references)) == 5
        assert all(re.fullmatch("[A-Z]{5}", variable) for variable in assignments)
        value, *sources = assignments.values()
        assert re.fullmatch(r"[1-9]\d{4}", value)
        assert tuple(sources) == sample.references[:-1]
        assert text.endswith(f"5 variables are assigned the value {value}, they are:")
        assert f"Question: Find all variables that are assigned the value {value} in the text above." in text


def test_a_solved_example_with_variables_and_value_of_its_own_comes_first(make_task):
    task = make_task("ruler_vt")
    for sample in task.samples(2048):
        example, exercise = text_of(task, sample).split("\n\nThe text below")
        chain = re.findall(r"VAR (\w+) = (?:VAR )?(\w+)", example)
        variables = [variable for variable, _ in chain]
        assert len(variables) == 5
        assert all(re.fullmatch("[A-Z]{3}", variable) for variable in variables)
        assert example.endswith(f"they are: {' '.join(variables)}")
        assert chain[0][1] not in exercise
        assert exercise.count(FILLER) == sample.labels["units"]


def test_the_example_takes_500_tokens_at_4096_and_above_and_its_share_below(make_task):
    task = make_task("ruler_vt", samples=1)
    lines = []
    for length in (1024, 2048, 4096, 8192):
        example = text_of(task, task.samples(length)[0]).split("\n\nThe text below")[0]
        lines.append(example.count(FILLER))
    tokens = len(task.tokenizer.encode(example))
    line = len(task.tokenizer.encode(FILLER + "\n", add_special_tokens=False))
    assert lines[:2] == [5, 5]  # the chain's five assignments stand before different lines
    assert lines[2] == lines[3]
    assert 500 - 1.2 * line < tokens < 510
