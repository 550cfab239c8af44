"""The search from Python: the same as the command's, and with a loss of one's own."""

from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from longrope.cli.main import main
from longrope.cli.optimize import OPTIONS, optimize
from longrope.evolution import Genome, HybridSettings, PaperSettings, ParetoSettings, read_history
from longrope.rope import load_factors

SMALL = PaperSettings(population_size=6, num_iterations=2, num_mutations=2, num_crossovers=2, num_parents=3)
TARGET = 128
TEXTS = ["".join(f"{word} {i * (index + 3)} " for i in range(60)) for index, word in enumerate(("alpha", "beta"))]


@pytest.fixture
def model(model_folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(60)[None]).logits


def own_loss(tokenizer: PreTrainedTokenizerFast):
    """Nats per token by Transformers' own loss."""

    @torch.no_grad()
    def loss(model: PreTrainedModel, text: str) -> float:
        ids = tokenizer(text, return_tensors="pt").input_ids[:, :TARGET]
        return float(model(input_ids=ids, labels=ids).loss)

    return loss


def trace(folder: Path) -> list[tuple[Genome, int, str, float]]:
    rows = read_history(folder / "history.jsonl").rows
    return [(row.genome, row.document, row.origin, row.nats or 0.0) for row in rows]


def test_it_finds_what_the_command_finds(
    model: PreTrainedModel, model_folder: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    found = optimize(model, TEXTS, TARGET, tmp_path / "python", tokenizer=tokenizer, settings=SMALL, seed=3)
    names = ("population_size", "num_iterations", "num_mutations", "num_crossovers", "num_parents")
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump({"strategy": "paper"} | {name: getattr(SMALL, name) for name in names}))
    command = ["search", "--model", model_folder, "--tokenized", tmp_path / "python" / "tokens", "--samples", 2]
    command += [
        "--target-length",
        TARGET,
        "--hyper-params",
        settings,
        "--seed",
        3,
        "--output-dir",
        tmp_path / "command",
    ]
    assert main([str(part) for part in [*command, "--output-dir", tmp_path / "command"]]) == 0
    assert load_factors(tmp_path / "command") == load_factors(tmp_path / "python") == found
    assert trace(tmp_path / "command") == trace(tmp_path / "python")


def test_a_loss_of_one_s_own_is_asked_for_with_the_candidate_in_the_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    own = optimize(model, TEXTS, TARGET, tmp_path / "own", objective=own_loss(tokenizer), settings=SMALL, seed=3)
    optimize(model, TEXTS, TARGET, tmp_path / "built-in", tokenizer=tokenizer, settings=SMALL, seed=3)
    assert own.target_length == TARGET and own == load_factors(tmp_path / "own")
    first = [row for row in trace(tmp_path / "own") if row[0] in {one[0] for one in trace(tmp_path / "built-in")}]
    known = {row[:2]: row[3] for row in trace(tmp_path / "built-in")}
    assert len(first) >= 12
    for genome, document, _, loss in first:
        assert loss == pytest.approx(known[genome, document] / (TARGET - 1), rel=1e-5)
    assert len({row[3] for row in first}) > 6, "candidates differ"


def test_the_default_takes_a_loss_of_one_s_own(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    settings = HybridSettings(num_scores=60, windows_per_document=3)
    asked: list[int] = []

    def loss(model: PreTrainedModel, document: int) -> float:
        asked.append(document)
        return own_loss(tokenizer)(model, TEXTS[document % 2])

    optimize(model, range(5), TARGET, tmp_path, objective=loss, settings=settings)
    assert set(asked) == set(range(5)) and len(asked) <= 60


class Interrupted(Exception):
    pass


def test_the_model_is_as_it_was_also_after_an_error_and_the_search_goes_on(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model.train()
    before, rotary = logits(model), model.model.rotary_emb
    calls: list[str] = []

    def loss(model: PreTrainedModel, text: str) -> float:
        assert not model.training
        calls.append(text)
        if len(calls) == 8:
            raise Interrupted
        return own_loss(tokenizer)(model, text)

    with pytest.raises(Interrupted):
        optimize(model, TEXTS, TARGET, tmp_path / "run", objective=loss, settings=SMALL)
    optimize(model, TEXTS, TARGET, tmp_path / "run", objective=loss, settings=SMALL, resume=True)
    optimize(model, TEXTS, TARGET, tmp_path / "whole", objective=loss, settings=SMALL)
    assert trace(tmp_path / "run") == trace(tmp_path / "whole")
    optimize(model, TEXTS, TARGET, tmp_path / "built-in", tokenizer=tokenizer, settings=SMALL)
    assert model.training and all(weight.requires_grad for weight in model.parameters())
    assert model.model.rotary_emb is rotary and torch.equal(logits(model), before)


def test_an_own_loss_beyond_the_largest_perplexity_is_searched_and_resumed(
    model: PreTrainedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for resume in (False, True):
        found = optimize(
            model, [1, 2], TARGET, tmp_path, objective=lambda _, number: 800.0 + number, settings=SMALL, resume=resume
        )
        assert found == load_factors(tmp_path)
        assert "inf on 2 windows" in capsys.readouterr().out
    for file in (tmp_path / "factors.json", tmp_path / "history.jsonl", tmp_path / "proposals.jsonl"):
        assert "Infinity" not in file.read_text()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"device": "cpu"}, "options must be among max_scored_tokens, .* got device"),
        ({"tokenizer": None}, "tokenizer must be the model's for the objective perplexity"),
        ({"target_length": 2000}, "documents of 2000 or more tokens"),
        ({"target_length": 16}, "target_length must be above the original length"),
        ({"objective": lambda model, text: 0.0, "settings": ParetoSettings()}, "got pareto; choose hybrid"),
        ({"objective": lambda model, text: 0.0, "needle_weight": 0.3}, "needle_weight must be left out"),
    ],
)
def test_what_does_not_fit_is_refused(
    changes: dict[str, object],
    reason: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    arguments = {"documents": TEXTS, "target_length": TARGET, "output_dir": tmp_path, "tokenizer": tokenizer}
    with pytest.raises(ValueError, match=reason):
        optimize(model, **{**arguments, "settings": SMALL, **changes})  # type: ignore[arg-type]


def test_options_are_those_of_the_command() -> None:
    from dataclasses import fields

    from longrope.cli.configs import SearchConfig

    assert {*OPTIONS} < {field.name for field in fields(SearchConfig)}
