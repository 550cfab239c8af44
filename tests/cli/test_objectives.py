"""`longrope search`: which objective its options build, and what they say a score costs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longrope.cli.configs import SearchConfig
from longrope.cli.main import main
from longrope.cli.objectives import build_objective, forward_lengths, perplexity_lengths
from longrope.evaluation.data.tokenized import TokenDocument, TokenizedDocuments, TokensInfo, tokenizer_fingerprint
from longrope.evaluation.objectives.gradients import GradientObjective
from longrope.evaluation.objectives.key_tokens import KeyTokenObjective
from longrope.evaluation.objectives.mixed import MixedObjective
from longrope.evaluation.objectives.needle import NeedleObjective
from longrope.evaluation.objectives.perplexity import PerplexityObjective
from longrope.evolution import PaperSettings
from longrope.rope import RescaleFactors, install

LENGTH = 900
CONFIG = SearchConfig("model", "tokens", LENGTH, "run", batch_size=2)
OPTIONS: dict[str, dict[str, Any]] = {
    "perplexity": {},
    "lengths": {"objective_lengths": ("64:0.3", "900:0.7")},
    "needle": {"objective": "needle", "needle_style": "comment", "needle_questions": 2},
    "longppl": {"objective": "longppl", "longppl_alpha": 0.1, "longppl_beta": -9.0},
    "mixed": {
        "objective": "mixed",
        "needle_questions": 2,
        "needle_weight": 0.25,
        "objective_lengths": ("64:3", "128:1"),
    },
}


@pytest.fixture
def data(tokenizer: Any) -> TokenizedDocuments:
    texts = [f"{word} ipsum dolor sit amet, consetetur\n" * 40 for word in ("lorem", "laram")]
    documents = [TokenDocument(text[:5], np.array(tokenizer.encode(text))) for text in texts]
    info = TokensInfo({}, tokenizer_fingerprint(tokenizer), len(tokenizer), "<s>", 2, sum(map(len, texts)), "none")
    return TokenizedDocuments(documents, info)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_score_costs_what_its_options_say(
    make_llama: Any, tokenizer: Any, data: TokenizedDocuments, name: str
) -> None:
    config = replace(CONFIG, **OPTIONS[name])
    model = make_llama(vocab_size=len(tokenizer))
    candidate = RescaleFactors(np.linspace(1, 20, 8), 32, LENGTH, 10000.0, 16)
    with install(model) as installation:
        objective = build_objective(config, PaperSettings(), model, tokenizer, installation, data)
        (score,) = objective.score([candidate], 1)
        prices = objective.price(1, False), objective.price(1, True)
    assert score.error is None and score.tokens < score.forwarded == sum(forward_lengths(config))
    assert prices == (score.forwarded, 3 * score.forwarded)
    kinds = {"needle": NeedleObjective, "longppl": KeyTokenObjective, "perplexity": PerplexityObjective}
    assert isinstance(objective, GradientObjective)
    assert type(objective.objective) is kinds.get(name, MixedObjective)
    if name == "mixed":
        assert [weight for _, weight in objective.parts] == [0.75 * 0.75, 0.75 * 0.25, 0.25]


def test_lengths_weigh_their_share() -> None:
    assert perplexity_lengths(CONFIG) == {LENGTH: 1.0}
    assert perplexity_lengths(replace(CONFIG, objective_lengths=("64:1", "900:3"))) == {64: 0.25, 900: 0.75}
    assert perplexity_lengths(replace(CONFIG, objective="needle")) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"needle_style": "comment"}, "needle_style must be left out with the objective perplexity"),
        ({"objective": "needle", "objective_lengths": ("64:1",)}, "choose --objective perplexity or mixed"),
        ({"objective": "needle", "needle_weight": 0.3}, "needle_weight must be left out with the objective needle"),
        ({"objective": "mixed", "longppl_alpha": 1.0}, "choose --objective longppl"),
        ({"objective": "mixed", "needle_weight": 1.0}, "between 0 and 1, got 1.0"),
        ({"objective_lengths": ("64",)}, "must be LENGTH:WEIGHT .* got '64'"),
        ({"objective_lengths": ("64:0",)}, "weights above 0"),
        ({"objective_lengths": ("901:1",)}, "from 2 to the target length 900"),
        ({"objective_lengths": ("64:1", "64:2")}, "name each length once"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        forward_lengths(replace(CONFIG, **options))


def test_a_mixed_search_runs_from_the_command_line_and_is_resumed(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for word in ("lorem", "laram"):
        (tmp_path / "texts" / f"{word}.txt").write_text(f"{word} ipsum dolor sit amet, consetetur\n" * 40)
    settings = tmp_path / "short.yaml"
    settings.write_text("strategy: paper\npopulation_size: 4\nnum_iterations: 1\nnum_mutations: 1\nnum_crossovers: 1\n")
    with settings.open("a") as file:
        file.write("num_parents: 2\n")
    tokens, run = tmp_path / "tokens", tmp_path / "run"
    common = ["--model", str(model_folder)]
    assert main(["tokenize", *common, "--dataset", str(tmp_path / "texts"), "--save-tokenized", str(tokens)]) == 0
    search = ["search", *common, "--tokenized", str(tokens), "--target-length", "700", "--samples", "2"]
    search += ["--hyper-params", str(settings), "--output-dir", str(run), "--objective", "mixed"]
    search += ["--objective-lengths", "64:0.3", "700:0.7", "--needle-kinds", "passkey", "--needle-questions", "1"]
    assert main(search) == 0
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert {(row["tokens"], row["forwarded"]) for row in rows} == {(63 + 699 + 5, 64 + 700 + 700)}
    recorded = json.loads((run / "factors.json").read_text())["provenance"]["search"]
    assert (recorded["objective"], recorded["objective_lengths"]) == ("mixed", ["64:0.3", "700:0.7"])
    found = (run / "factors.json").read_bytes()
    assert main([*search, "--resume"]) == 0
    assert (run / "factors.json").read_bytes() == found
