"""Compare what engines answered with `apply_factors`, print a row and a JSON line for each, and write the report.

Usage: python tests/engines/table.py WORK REPORT     (writes REPORT.md and REPORT.json; without REPORT it only prints)

Exits with 1 where an engine differs and `longrope export` says nothing of it, or says so and it agrees.
"""

import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longrope.rope import RescaleFactors, load_factors
from longrope.rope.export.engines import departure

TOLERANCE = 0.02
"""Largest difference of log-probabilities (nats) that rounding explains; a wrong RoPE gives more than 0.5."""
COLUMNS = (
    "engine",
    "version",
    "family",
    "attention factor",
    "difference at 200",
    "at 2000",
    "greedy",
    "factor applied",
    "note",
)
ABOUT = """# Exports in other engines

By `bash tests/engines.sh`: each engine is installed in an environment of its own, without longrope, and loads what
`longrope export` wrote. Every row compares it with `apply_factors` on the original model, in float32 on a CPU: the
largest difference of the log-probability of a token (nats) in a prompt of 200 and one of 2,000 tokens, whether the 30
greedy tokens after each are the same, and what explains the log-probabilities best: the exported attention factor
applied `once` or `twice`, `dropped`, the engines' own formula in its place (`su`), or no factors at all (`ignored`).
Models were trained at 256 tokens or have random weights; factors are for 2,048. lm-eval is asked about up to 80 tokens
spread over each prompt, the others about all of them.

- llama.cpp's converter refuses tokenizers that it does not know by their hash, as that of the embedded model, and a
  Phi-3 without `tokenizer.model`; the script overrules it, as prompts are token ids here.
- vLLM and llama.cpp run with float32 weights and cache here; their defaults have 16 bits and round more.
"""
Json = dict[str, Any]


def difference(ours: list[float], theirs: list[float]) -> NDArray[np.float64]:
    found = np.abs(np.subtract(ours, np.array(theirs, dtype=float)))
    return found[~np.isnan(found)]


def applied(reference: Json, answers: Json) -> str:
    """Return the variant of the factors whose log-probabilities come closest, over all prompts."""
    variants = [name for name in next(iter(reference.values())) if not name.startswith("greedy")]

    def distance(variant: str) -> float:
        parts = [difference(reference[n][variant], answers[n]["logprobs"]) for n in reference]
        return float(np.concatenate(parts).mean())

    return min(variants, key=distance)


def same_greedy(reference: Json, answers: Json) -> bool:
    return all(
        answers[n]["greedy"] == reference[n]["greedy_text" if isinstance(answers[n]["greedy"], str) else "greedy"]
        for n in reference
    )


def row(work: Path, about: Json, case: str, factors: RescaleFactors, result: Json) -> Json:
    """Return the row of an engine and a case, with `ok`: whether it agrees with us, or `export` warns of it."""
    reference, answers = about["reference"], result["answers"]
    said = departure(result["engine"], about["model_type"], factors)
    if result["engine"] == "llama.cpp" and (refused := work / case / "refused.txt").is_file():
        said = refused.read_text(encoding="utf-8")
    found: Json = {"engine": result["engine"], "version": result["version"], "case": case}
    found |= {"family": about["model_type"], "attention_factor": round(factors.attention_factor, 4)}
    if "error" in result:
        found |= {"agrees": False, "error": result["error"]}
    else:
        largest = {n: float(difference(reference[n]["once"], answers[n]["logprobs"]).max()) for n in reference}
        compared = {n: len(difference(reference[n]["once"], answers[n]["logprobs"])) for n in reference}
        greedy, variant = same_greedy(reference, answers), applied(reference, answers)
        agrees = greedy and variant == "once" and max(largest.values()) < TOLERANCE
        found |= {"difference": largest, "compared_tokens": compared, "greedy_equal": greedy}
        found |= {"factor_applied": variant, "agrees": agrees}
    return found | {"warning": said, "ok": found["agrees"] == (said is None)}


def cells(found: Json) -> list[str]:
    largest = found.get("difference", {})
    note = "" if found["agrees"] else found.get("error", "differs")[:90]
    return [
        found["engine"],
        found["version"],
        found["family"] + (" (embedded, searched factors)" if found["case"] == "embedded" else ""),
        f"{found['attention_factor']:g}",
        *(f"{largest[n]:.1e}" if n in largest else "-" for n in ("200", "2000")),
        {True: "equal", False: "differs", None: "-"}[found.get("greedy_equal")],
        found.get("factor_applied", "-"),
        note,
    ]


def main(work: Path, report: Path | None = None) -> int:
    rows = []
    for case in sorted(path for path in work.iterdir() if (path / "case.json").is_file()):
        about = json.loads((case / "case.json").read_text(encoding="utf-8"))
        factors = load_factors(case / "factors.json")
        known = {"case.json", "prompts.json", "factors.json"}
        for file in sorted(path for path in case.glob("*.json") if path.name not in known):
            rows.append(row(work, about, case.name, factors, json.loads(file.read_text(encoding="utf-8"))))
            print(json.dumps(rows[-1]))
    rows.sort(key=lambda found: (found["engine"], found["case"] != "embedded", found["case"]))
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    table = "\n".join([*lines, *("| " + " | ".join(cells(found)) + " |" for found in rows)])
    print(table)
    if report is not None:
        said = sorted(
            {f"- {found['engine']}, {found['family']}: {found['warning']}." for found in rows if found["warning"]}
        )
        text = "\n".join([ABOUT, table, "", "What `longrope export` says of those that do not agree:", "", *said])
        report.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
        payload = {"python": platform.python_version(), "tolerance": TOLERANCE, "rows": rows}
        report.with_suffix(".json").write_text(json.dumps(payload, indent=2) + "\n", encoding="utf-8")
    return int(not all(found["ok"] for found in rows))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *map(Path, sys.argv[2:3])))
