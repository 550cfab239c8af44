"""`longrope extend` on a tiny random model: every stage, killed and continued, one table over all of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from longrope.cli import model_search
from longrope.cli.main import main
from longrope.evaluation.comparison.results import read_results
from longrope.hyperparams import extend_recipe
from longrope.rope import apply_factors, load_factor_sets, load_factors

from .small import PAPER, tokenize_words

TUNING = {"learning_rate": 1e-2, "batch_size": 2, "stages": [{"length": 64, "steps": 3}]}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("extend")
    for split in ("train", "search", "eval"):
        tokenize_words(model_folder, folder / f"{split}-tokens", f"{split} ")
    (folder / "paper.yaml").write_text(yaml.safe_dump(PAPER))
    (folder / "tuning.yaml").write_text(yaml.safe_dump(TUNING))
    searching = {"hyper_params": str(folder / "paper.yaml"), "samples": 3, "attention_factor": 1.0}
    stages = [
        {"search": {"target_length": 64, "max_scored_tokens": 3000, **searching}},
        {"finetune": {"recipe": str(folder / "tuning.yaml")}},
        {"search": {"target_length": 128, "max_scored_tokens": 6000, **searching}},
        {"readjust": {"lengths": [32], "max_scored_tokens": 2000, **searching}},
        {"evaluate": {"lengths": [32, 128], "methods": ["none", "yarn"], "tasks": ["perplexity"], "samples": 3}},
        {"export": {}},
    ]
    data = {"train": [f"{folder}/train-tokens"], "search": f"{folder}/search-tokens", "eval": f"{folder}/eval-tokens"}
    path = folder / "recipe.yaml"
    places = {"model": str(model_folder), "output_dir": f"{folder}/run"}
    path.write_text(yaml.safe_dump({**places, "stages": stages, **data}))
    return path


@pytest.fixture(scope="module")
def run(recipe: Path) -> Path:
    """Return the folder of an extension that was interrupted in its second search, and continued."""
    whole = model_search.run_search

    def interrupted(*args, **kwargs):
        if (recipe.parent / "run" / "2-finetune" / "model").is_dir():
            raise RuntimeError("the machine is gone")
        return whole(*args, **kwargs)

    model_search.run_search = interrupted  # type: ignore[assignment]
    try:
        assert main(["extend", str(recipe), "--device", "cpu"]) == 2
    finally:
        model_search.run_search = whole
    folder = recipe.parent / "run"
    finished = [folder / "1-search" / "factors.json", folder / "2-finetune" / "factors.json"]
    before = [path.stat().st_mtime_ns for path in finished]
    assert not (folder / "3-search" / "factors.json").exists()
    assert main(["extend", str(recipe), "--device", "cpu"]) == 0
    assert before == [path.stat().st_mtime_ns for path in finished], "finished stages do not run again"
    return folder


def test_one_table_holds_the_model_at_every_stage(run: Path) -> None:
    results = read_results(run / "results.json")
    methods = ["none", "yarn", "search", "fine-tuned", "second search", "readjusted"]
    assert list(dict.fromkeys(row.method for row in results.rows)) == methods
    assert {(row.method, row.length) for row in results.rows if row.metric == "token_weighted"} == {
        (method, length) for method in methods for length in (32, 128)
    }
    assert len({one["sha256"] for one in results.provenance["models"]}) == 2
    assert (run / "report" / "report.html").is_file()


def test_the_seed_is_that_of_every_search_and_fine_tuning(run: Path, recipe: Path, tmp_path: Path) -> None:
    raw = yaml.safe_load(recipe.read_text())
    raw["stages"] = raw["stages"][:3]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(raw))
    command = ["extend", str(tmp_path / "recipe.yaml"), "--device", "cpu", "--output-dir", str(tmp_path / "run")]
    assert main([*command, "--seed", "3"]) == 0
    for folder, seed in ((run, 0), (tmp_path / "run", 3)):
        assert load_factors(folder / "1-search" / "factors.json").provenance["search"]["seed"] == seed
        assert load_factors(folder / "2-finetune" / "factors.json").provenance["finetune"]["options"]["seed"] == seed
        assert load_factors(folder / "3-search" / "factors.json").provenance["search"]["seed"] == seed


def test_factors_of_all_lengths_are_relative_to_the_pretrained_rope(run: Path) -> None:
    first, second = load_factors(run / "2-finetune"), load_factors(run / "3-search")
    total = load_factors(run / "3-search" / "total.json")
    assert np.allclose(total.lambdas, first.lambdas * second.lambdas)
    sets = load_factor_sets(run / "factor_sets.json")
    assert [(one.original_length, one.target_length) for one in sets.sets] == [(32, 32), (32, 64), (32, 128)]
    assert sets.longest == total
    assert sets.at(64) == first, "a length that is not readjusted keeps what the weights were tuned with"
    assert sets.at(32).provenance["search"]["readjust"] == str(run / "2-finetune" / "factors.json")


def test_the_export_switches_where_the_factors_do(run: Path) -> None:
    exported = AutoModelForCausalLM.from_pretrained(run / "6-export")
    tuned = AutoModelForCausalLM.from_pretrained(run / "2-finetune" / "tuned")
    sets = load_factor_sets(run / "factor_sets.json")
    ids = torch.randint(0, 64, (1, 100), generator=torch.Generator().manual_seed(0))
    for length, factors in ((20, sets.at(32)), (100, sets.longest)):  # of one attention factor: a true pair
        with torch.no_grad(), apply_factors(tuned, factors):
            expected = tuned(ids[:, :length], use_cache=False).logits
        with torch.no_grad():
            assert torch.allclose(exported(ids[:, :length], use_cache=False).logits, expected, atol=1e-4)


def test_another_recipe_in_the_same_folder_is_refused(run: Path, recipe: Path, capsys) -> None:
    changed = yaml.safe_load(recipe.read_text())
    changed["stages"][0]["search"]["target_length"] = 96
    other = recipe.with_name("other.yaml")
    other.write_text(yaml.safe_dump(changed))
    assert main(["extend", str(other), "--device", "cpu"]) == 2
    assert "whose" not in (message := capsys.readouterr().err)
    assert "must be of the same recipe" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modell": "x"}, "did you mean 'model'"),
        ({"stages": [{"finetune": {}}]}, "must have a search before finetune"),
        ({"stages": [{"search": {"target_length": 64}}]}, "max_scored_tokens must be given"),
        ({"stages": [{"serch": {}}]}, "did you mean 'search'"),
        ({"stages": [{"search": {"target_lenght": 64}}]}, "did you mean 'target_length'"),
    ],
)
def test_wrong_recipes_are_refused(recipe: Path, tmp_path: Path, capsys, change, message) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(recipe.read_text()), **change}))
    assert main(["extend", str(path), "--plan"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["llama2-2048k", "mistral", "llama3-128k", "phi3-128k", "phi4-64k", "smollm2-64k", "tiny"]
)
def test_shipped_recipes_plan_every_stage(name: str, model_folder: Path, capsys) -> None:
    stages = yaml.safe_load(extend_recipe(name).read_text())["stages"]
    assert main(["extend", name, "--plan", "--model", str(model_folder)]) == 0
    printed = capsys.readouterr().out
    assert all(next(iter(stage)) in printed for stage in stages if "export" not in stage)


def test_the_plan_says_what_does_not_fit(tmp_path: Path, capsys) -> None:
    from transformers import LlamaConfig

    sizes: dict[str, Any] = {"hidden_size": 4096, "intermediate_size": 11008}
    sizes |= {"num_hidden_layers": 32, "num_attention_heads": 32}
    LlamaConfig(**sizes, max_position_embeddings=4096, vocab_size=32000).save_pretrained(tmp_path)
    assert main(["extend", "llama2-2048k", "--plan", "--model", str(tmp_path)]) == 0
    lines = {line.split("  ")[0].strip(): line for line in capsys.readouterr().out.splitlines()}
    assert "6.74 billion parameters" in "".join(lines)
    assert "does not fit" in lines["search 2097152"]
    assert "does not fit" not in lines["search 131072"]
    assert json.dumps(lines["finetune, stage 2"]).count("context parallelism over") == 1
    notes = {name: "goes on without" in line for name, line in lines.items() if name.startswith(("search", "readjust"))}
    assert notes == {name: name == "search 2097152" for name in notes}


@pytest.mark.parametrize("kind", ["search", "readjust"])
@pytest.mark.parametrize("hyper_params", ["tiny", "longrope"])
def test_a_budget_too_small_is_refused_before_the_first_stage(
    recipe: Path, tmp_path: Path, capsys, kind: str, hyper_params: str
) -> None:
    changed = yaml.safe_load(recipe.read_text())
    for stage in changed["stages"]:
        if kind in stage and stage[kind].get("target_length") != 64:
            stage[kind] |= {"max_scored_tokens": 300, "hyper_params": hyper_params}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(changed | {"output_dir": str(tmp_path / "run")}))
    assert main(["extend", str(tmp_path / "small.yaml"), "--device", "cpu"]) == 2
    assert f"stage {3 if kind == 'search' else 4}, {kind}" in (message := capsys.readouterr().err)
    assert "must be at least" in message and not (tmp_path / "run").exists()
