"""The choice of a sweep is made on some documents and tested on others; luck on the first wins nothing."""

from pathlib import Path

import numpy as np
import pytest

from longrope.evaluation.report.advice import Advice, advice_rows, advice_table, advise, sentence
from longrope.evaluation.report.runs import Evaluation, read_evaluation

from ...conftest import FULL
from .synthetic import TOKENS, answers, write_run

PERPLEXITY, PASSKEY = ("perplexity", "token_weighted"), ("passkey", "accuracy")
SPECS = [f"{method}:factor={factor}" for method in ("linear", "ntk", "yarn") for factor in range(1, 11)]


def documents(spec: str, name: str, losses: np.ndarray) -> list[dict]:
    return [
        {
            "method": spec,
            "length": 512,
            "document": f"{name} {i}",
            "nats": loss * TOKENS,
            "tokens": TOKENS,
            "error": None,
        }
        for i, loss in enumerate(losses.tolist())
    ]


def sweep(folder: Path, name: str, means: dict[str, float], noise: float, count: int) -> Evaluation:
    """Return an evaluation whose methods have these mean losses and noise of their own on each document."""
    shared = np.random.default_rng(len(name)).normal(2, 0.3, count)
    own = np.random.default_rng([len(name), count])
    records = [
        r for spec, mean in means.items() for r in documents(spec, name, shared + mean + own.normal(0, noise, count))
    ]
    return read_evaluation(write_run(folder, {"perplexity": records}))


def choose(tuning: Evaluation, held_out: Evaluation | None, of: tuple[str, str] = PERPLEXITY) -> Advice:
    return advise(tuning, held_out, *of, 512, PERPLEXITY, 0)


def test_a_planted_best_configuration_is_found_and_is_a_clear_winner(tmp_path: Path):
    means = dict.fromkeys(SPECS, 0.0) | {"ntk:factor=4": -0.2}
    tuning = sweep(tmp_path / "a", "tuning", means, 0.02, 3)
    held_out = sweep(tmp_path / "b", "other", means, 0.02, 12)
    advice = choose(tuning, held_out)
    assert advice.best.method == "ntk:factor=4" and advice.clear
    assert [row.method.partition(":")[0] for row in advice.chosen][0] == "ntk" and len(advice.chosen) == 3
    text = sentence(advice)
    assert text.startswith("Perplexity at 512 tokens: take ntk:factor=4: ") and "on 12 other documents" in text
    first, *others = advice_rows([advice])
    assert first["clear_winner"] and first["difference"] is None
    assert all(float(str(row["difference"])) < -0.1 and float(str(row["p_holm"])) < 0.05 for row in others)
    assert advice_table(advice, folded=False).rows[0][2].mark == "best"


def test_configurations_that_are_all_equal_have_no_clear_winner(tmp_path: Path):
    equal = dict.fromkeys(SPECS, 0.0)
    advice = choose(sweep(tmp_path / "a", "tuning", equal, 0, 3), sweep(tmp_path / "b", "other", equal, 0, 12))
    assert not advice.clear and "no clear winner" in sentence(advice)
    assert all(one.p == 1.0 for one in advice.contrasts)
    assert advice_table(advice, folded=False).rows[0][2].mark == "tie"


def test_luck_on_the_documents_that_choose_wins_nothing(tmp_path: Path):
    """Of 300 configurations that differ by noise alone one leads on two documents; others show that it is none."""
    many = {f"{method}:factor={i}": 0.0 for method in ("linear", "ntk", "yarn") for i in range(1, 101)}
    false = 0
    for seed in range(5 if FULL else 2):
        place = tmp_path / str(seed)
        tuning = sweep(place / "a", "tuning" + "x" * seed, many, 0.2, 2)
        held_out = sweep(place / "b", "other documents" + "x" * seed, many, 0.2, 12)
        values = sorted(row.value for row in tuning.rows)
        assert values[0] < 0.8 * float(np.median(values))  # how lucky the choice is where it was made
        false += choose(tuning, held_out).clear
    assert false == 0


def test_documents_that_chose_are_left_out_of_the_test(tmp_path: Path):
    means = {"ntk": 0.0, "yarn": 0.1}
    tuning = sweep(tmp_path / "a", "same", means, 0.0, 12)
    assert choose(tuning, tuning).contrasts == []
    assert "was not tested on other documents" in sentence(choose(tuning, tuning))
    assert "which is optimistic" in sentence(choose(tuning, None))


def test_a_choice_that_is_worse_on_other_documents_is_told(tmp_path: Path):
    tuning = sweep(tmp_path / "a", "tuning", {"ntk": -0.2, "yarn": 0.0}, 0.0, 2)
    held_out = sweep(tmp_path / "b", "other", {"ntk": 0.2, "yarn": 0.0}, 0.001, 12)
    text = sentence(choose(tuning, held_out))
    assert "no clear winner: ntk, which was chosen, has " in text and ", worse than yarn with" in text


def test_too_few_documents_prove_nothing_and_that_is_told(tmp_path: Path):
    means = dict.fromkeys(SPECS, 0.0) | {"ntk:factor=4": -0.5}
    tuning = sweep(tmp_path / "a", "tuning", means, 0.01, 2)
    text = sentence(choose(tuning, sweep(tmp_path / "b", "other", means, 0.01, 4)))
    assert "no clear winner" in text and text.endswith(
        "With 4 documents no difference between 3 methods can be proven."
    )


@pytest.mark.parametrize(
    ("share", "message"), [(0.0, "because no configuration gets above 0 %"), (0.5, "not told apart")]
)
def test_pass_keys_that_nobody_or_everybody_finds_alike_have_no_clear_winner(
    tmp_path: Path, share: float, message: str
):
    def run(folder: Path, lucky: float, task: str = "passkey") -> Evaluation:
        found = [r for spec in SPECS for r in answers(spec, task, 512, lucky)]
        return read_evaluation(write_run(folder, {"passkey": found}))

    text = sentence(choose(run(tmp_path / "a", share), run(tmp_path / "b", share, "others"), PASSKEY))
    assert "no clear winner" in text and message in text
