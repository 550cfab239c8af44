"""The exported folder is the searched model: in Transformers' own classes, at every length, with a cache or without."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from longrope.rope import RescaleFactors, apply_factors, load_factors, rope_geometry
from longrope.rope.export import export_hf

from .conftest import ORIGINAL, TARGET, make_factors

Save = Callable[..., tuple[Path, nn.Module]]
SU = math.sqrt(1 + math.log(TARGET / ORIGINAL) / math.log(ORIGINAL))
IDS = torch.arange(TARGET)[None] * 7 % 60
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 2.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
FAMILIES = [
    ("llama", {"head_dim": 16}),
    ("llama", {"rope_parameters": LLAMA3}),
    ("mistral", {"sliding_window": 48}),
    ("mixtral", {"num_local_experts": 2, "head_dim": None}),
    ("qwen3", {"head_dim": 16}),
    ("phi3", {"partial_rotary_factor": 0.5, "original_max_position_embeddings": ORIGINAL}),
    ("gpt_neox", {"hidden_size": 128, "rotary_pct": 0.25}),
    ("cohere", {}),
    ("gemma3_text", {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}),
]
names = [f"{kind}-{next(iter(settings), 'plain')}" for kind, settings in FAMILIES]


def logits(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits


def assert_same(exported: torch.Tensor, applied: torch.Tensor) -> None:
    torch.testing.assert_close(exported, applied, atol=1e-5, rtol=0)


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(("kind", "settings"), FAMILIES, ids=names)
@pytest.mark.parametrize("attention_factor", [SU, 1.1], ids=["su", "constant"])
def test_an_export_gives_the_logits_of_apply_factors(
    saved: Save, tmp_path: Path, kind: str, settings: dict[str, object], attention_factor: float
) -> None:
    base, model = saved(kind, **settings)
    factors = make_factors(model, attention_factor)
    exported = AutoModelForCausalLM.from_pretrained(export_hf(base, factors, tmp_path / "out")).eval()
    plain = logits(model)
    with apply_factors(model, factors):
        for length in (ORIGINAL - 1, ORIGINAL, ORIGINAL + 1, TARGET):
            ids = IDS[:, :length]
            assert_same(logits(exported, ids), logits(model, ids))
    assert (logits(exported) - plain).abs().max() > 0.1, "the export is not the base model"


@given(steps=st.lists(st.integers(0, 300), min_size=4, max_size=4), theta=st.sampled_from([1e4, 5e5, 1e6]))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_cos_and_sin_of_an_export_are_bit_for_bit_those_of_apply_factors(
    saved: Save, tmp_path: Path, steps: list[int], theta: float
) -> None:
    base, model = saved(rope_parameters={"rope_type": "default", "rope_theta": theta})
    factors = changed(make_factors(model), lambdas=1 + np.cumsum(steps) / 100)
    exported: Any = AutoModelForCausalLM.from_pretrained(export_hf(base, factors, tmp_path / "out"))
    x, positions = torch.zeros(1, 2, 8), torch.tensor([[2**11, 2**17 - 1]])
    with apply_factors(model, factors) as installation:
        expected = installation.rotary(x, positions)
    for ours, theirs in zip(expected, exported.model.rotary_emb(x, positions), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("kind", "settings"), FAMILIES, ids=names)
def test_factors_in_the_config_give_the_searched_frequencies_by_the_definition(
    saved: Save, tmp_path: Path, kind: str, settings: dict[str, object]
) -> None:
    base, model = saved(kind, **settings)
    factors, geometry = make_factors(model), rope_geometry(model)
    config = config_of(export_hf(base, factors, tmp_path / "out", weights="none"))
    for name in ("rope_parameters", "rope_scaling"):
        rope = config[name].get("full_attention", config[name])
        for key in ("short_factor", "long_factor"):
            exponents = 2 * np.arange(geometry.pairs) / geometry.rotary_dim
            inv_freq = 1 / (np.array(rope[key]) * geometry.theta**exponents)
            np.testing.assert_allclose(inv_freq, geometry.inv_freq / factors.lambdas, rtol=3e-7)
        assert rope["rope_theta"] == config["rope_theta"] == geometry.theta
        assert (rope["attention_factor"], rope["short_mscale"], rope["long_mscale"]) == (1.1, 1.1, 1.1)
        assert (rope["factor"], rope["original_max_position_embeddings"]) == (TARGET / ORIGINAL, ORIGINAL)
    assert config["max_position_embeddings"] == TARGET
    assert config["head_dim"] * rope.get("partial_rotary_factor", 1) == geometry.rotary_dim
    assert ("original_max_position_embeddings" in config) == (kind == "phi3"), "vLLM would start at this length"


def test_theta_of_the_model_is_kept_not_a_default(saved: Save, tmp_path: Path) -> None:
    base, model = saved(rope_parameters={"rope_type": "default", "rope_theta": 5e5})
    out = export_hf(base, make_factors(model), tmp_path / "out", weights="none")
    assert config_of(out)["rope_theta"] == config_of(out)["rope_parameters"]["rope_theta"] == 5e5


def test_the_su_attention_factor_needs_no_mscale(saved: Save, tmp_path: Path) -> None:
    base, model = saved()
    config = config_of(export_hf(base, make_factors(model, SU), tmp_path / "out", weights="none"))
    assert not {"short_mscale", "long_mscale"} & set(config["rope_parameters"])
    assert config["rope_parameters"]["attention_factor"] == SU


def test_phi3_keeps_the_three_keys_of_version_4_where_they_suffice(saved: Save, tmp_path: Path) -> None:
    base, model = saved("phi3", original_max_position_embeddings=ORIGINAL)
    config = config_of(export_hf(base, make_factors(model, SU), tmp_path / "out", weights="none"))
    assert set(config["rope_scaling"]) == {"type", "short_factor", "long_factor"}


def test_every_other_key_of_the_config_stays(saved: Save, tmp_path: Path) -> None:
    base, model = saved()
    before = config_of(base) | {"some_key_of_the_future": [1, 2]}
    code = {"auto_map": {"AutoConfig": "configuration_llama.LlamaConfig"}}
    (base / "config.json").write_text(json.dumps(before | code))
    after = config_of(export_hf(base, make_factors(model), tmp_path / "out", weights="none"))
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {"rope_parameters", "max_position_embeddings"}
    assert "auto_map" not in after, "the code it names is not exported"


def test_generation_with_a_cache_across_the_original_length_equals_generation_without(
    saved: Save, tmp_path: Path
) -> None:
    base, model = saved()
    exported: Any = AutoModelForCausalLM.from_pretrained(export_hf(base, make_factors(model), tmp_path / "out"))
    settings = {"max_new_tokens": 24, "do_sample": False}
    cached = exported.generate(IDS[:, : ORIGINAL - 6], use_cache=True, **settings)
    assert torch.equal(cached, exported.generate(IDS[:, : ORIGINAL - 6], use_cache=False, **settings))
    assert cached.shape[1] > ORIGINAL


def test_a_short_and_long_pair_switches_after_the_original_length(saved: Save, tmp_path: Path) -> None:
    base, model = saved()
    long = make_factors(model)
    short = replace(long, lambdas=np.linspace(1, 1.5, long.pairs), target_length=ORIGINAL)
    with pytest.warns(UserWarning, match=f"--max-model-len is above {ORIGINAL}"):
        out = export_hf(base, long, tmp_path / "out", short_factors=short)
    assert config_of(out)["original_max_position_embeddings"] == ORIGINAL, "version 4 switches by it"
    assert load_factors(out / "longrope_short_factors.json") == short
    exported = AutoModelForCausalLM.from_pretrained(out).eval()
    for length, chosen in ((ORIGINAL - 1, short), (ORIGINAL, short), (ORIGINAL + 1, long), (TARGET, long)):
        with apply_factors(model, chosen):
            ids = IDS[:, :length]
            assert_same(logits(exported, ids), logits(model, ids))


def test_tokenizer_generation_settings_factors_and_card_come_along(saved: Save, tmp_path: Path) -> None:
    base, model = saved()
    (base / "README.md").write_text("the base model's card")
    (base / "LICENSE.txt").write_text("licence")
    (base / "optimizer.pt").write_text("not part of a model")
    factors = make_factors(model)
    out = export_hf(base, factors, tmp_path / "out", card="ours")
    assert load_factors(out / "longrope_factors.json") == factors
    assert (out / "README.md").read_text() == "ours"
    assert (out / "LICENSE.txt").read_text() == "licence"
    assert (out / "generation_config.json").read_bytes() == (base / "generation_config.json").read_bytes()
    assert not (out / "optimizer.pt").exists()
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer("w3 w5", add_special_tokens=False)["input_ids"] == [3, 5]
    assert tokenizer.model_max_length == TARGET, "truncation at the old length would undo the extension"


def test_a_tokenizer_saved_by_version_5_is_named_as_version_4_knows_it(saved: Save, tmp_path: Path) -> None:
    base, model = saved()
    own = AutoTokenizer.from_pretrained(base)
    own.add_special_tokens({"extra_special_tokens": ["w7"]})
    own.save_pretrained(base)
    before = json.loads((base / "tokenizer_config.json").read_text())
    assert (before["tokenizer_class"], before["extra_special_tokens"]) == ("TokenizersBackend", ["w7"])
    out = export_hf(base, make_factors(model), tmp_path / "out", weights="none")
    after = json.loads((out / "tokenizer_config.json").read_text())
    assert after["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert after["additional_special_tokens"] == ["w7"]
    assert "extra_special_tokens" not in after
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.decode(tokenizer("w3 w7 w5")["input_ids"], skip_special_tokens=True) == "w3 w5"


def test_weights_are_copied_linked_or_left_out(saved: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, model = saved()
    original, factors = base / "model.safetensors", make_factors(model)
    copied = export_hf(base, factors, tmp_path / "copied") / "model.safetensors"
    assert copied.read_bytes() == original.read_bytes()
    assert not copied.samefile(original)
    assert (export_hf(base, factors, tmp_path / "linked", "link") / "model.safetensors").samefile(original)
    assert not (export_hf(base, factors, tmp_path / "none", "none") / "model.safetensors").exists()

    def other_disk(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", other_disk)
    symbolic = export_hf(base, factors, tmp_path / "symbolic", "link") / "model.safetensors"
    assert symbolic.is_symlink()
    assert symbolic.samefile(original)


def test_a_hub_id_is_downloaded(saved: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, model = saved()
    asked: list[str] = []

    def download(name: str, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        asked.append(name)
        return str(base)

    monkeypatch.setattr("longrope.rope.export.folder.snapshot_download", download)
    out = export_hf("someone/model", make_factors(model), tmp_path / "out")
    assert set(asked) == {"someone/model"}
    assert (out / "model.safetensors").is_file()


def changed(factors: RescaleFactors, **changes: object) -> RescaleFactors:
    return replace(factors, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start_tokens": 4}, r"start_tokens must be 0 .* got 4; .*without_start_tokens\(\)"),
        ({"lambdas": np.ones((2, 4))}, r"lambdas must be one row .* got 2 rows \(layers\)"),
        ({"target_length": ORIGINAL}, "target_length must be above original_length"),
        ({"lambdas": np.ones(8), "rotary_dim": 16}, r"factors must have length 4 \(rotary dim 8 / 2\), got 8"),
        ({"theta": 5e5}, "factors must be made for theta 10000.0, got 500000.0"),
    ],
)
def test_factors_that_no_config_can_express_are_refused(
    saved: Save, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    base, model = saved()
    before = files(tmp_path)
    with pytest.raises(ValueError, match=message):
        export_hf(base, changed(make_factors(model), **changes), tmp_path / "out")
    assert files(tmp_path) == before
    assert not (tmp_path / "out").exists()


def test_a_pair_that_transformers_can_not_express_is_refused(saved: Save, tmp_path: Path) -> None:
    base, model = saved()
    long = make_factors(model)
    with pytest.raises(ValueError, match="short_factors must have the attention factor of the long ones"):
        export_hf(base, long, tmp_path / "out", short_factors=changed(long, attention_factor=1.0))
    with pytest.raises(ValueError, match="short_factors must have the original length of the long ones"):
        export_hf(base, long, tmp_path / "out", short_factors=changed(long, original_length=16))


def test_sources_that_are_no_model_are_refused(saved: Save, tmp_path: Path) -> None:
    base, model = saved()
    factors = make_factors(model)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="source must be a model folder with config.json or a hub id, got .*empty"):
        export_hf(tmp_path / "empty", factors, tmp_path / "out")
    with pytest.raises(ValueError, match="source must be a model folder or a readable hub id, got 'no//such id'"):
        export_hf("no//such id", factors, tmp_path / "out")
    with pytest.raises(ValueError, match="weights must be one of copy, link, none, got 'move'"):
        export_hf(base, factors, tmp_path / "out", weights="move")  # type: ignore[arg-type]
    (base / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="source must hold weights"):
        export_hf(base, factors, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "empty"]


def test_only_an_earlier_export_is_replaced(saved: Save, tmp_path: Path) -> None:
    base, model = saved()
    factors, out = make_factors(model), tmp_path / "out"
    export_hf(base, changed(factors, attention_factor=1.3), out)
    export_hf(base, factors, out)
    assert load_factors(out / "longrope_factors.json") == factors
    for path in (out / "my_notes.txt", tmp_path / "other" / "thesis.txt"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("keep me")
        before = files(tmp_path)
        with pytest.raises(ValueError, match="output must be a new, empty or earlier exported folder"):
            export_hf(base, factors, path.parent)
        assert files(tmp_path) == before


def test_the_source_is_never_overwritten(saved: Save, tmp_path: Path) -> None:
    base, model = saved()
    factors = make_factors(model)
    first = export_hf(base, factors, tmp_path / "out")
    before = files(tmp_path)
    with pytest.raises(ValueError, match="output must not be the source or hold it"):
        export_hf(first, factors, first)
    assert files(tmp_path) == before


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_export_leaves_everything_as_it_was(
    saved: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    base, model = saved()
    earlier = export_hf(base, make_factors(model), tmp_path / "earlier")
    before, entries = files(tmp_path), sorted(tmp_path.iterdir())

    def fail(source: Path, target: Path) -> None:
        if target.name.startswith("model"):
            target.write_bytes(b"half a fi")
            raise failure

    monkeypatch.setattr("shutil.copyfile", fail)
    for output in (earlier, tmp_path / "new"):
        with pytest.raises(type(failure)):
            export_hf(base, make_factors(model, 1.3), output)
        assert files(tmp_path) == before
        assert sorted(tmp_path.iterdir()) == entries


def test_a_config_that_does_not_give_the_factors_back_never_appears(
    saved: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, model = saved()
    monkeypatch.setattr("longrope.rope.export.config.config_factors", lambda inv_freq, theta: [1.0] * len(inv_freq))
    with pytest.raises(RuntimeError, match="exported inverse frequencies must equal the factors'"):
        export_hf(base, make_factors(model), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base"]


def test_an_export_can_be_exported_again_with_further_factors(saved: Save, tmp_path: Path) -> None:
    base, model = saved()
    first = export_hf(base, make_factors(model), tmp_path / "first")
    halfway = AutoModelForCausalLM.from_pretrained(first).eval()
    geometry = rope_geometry(halfway)
    factors = RescaleFactors(np.full(4, 2.0), TARGET, 2 * TARGET, geometry.theta, geometry.rotary_dim, 1.2)
    again = AutoModelForCausalLM.from_pretrained(export_hf(first, factors, tmp_path / "second")).eval()
    with apply_factors(halfway, factors):
        assert_same(logits(again), logits(halfway))
