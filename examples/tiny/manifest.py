"""Write the manifest of the embedded corpus `python-packages`, and check how far its splits are from each other.

Files of the packages in `requirements.lock` go to a split by the hash of their group (package and first folder or
module), so that near relatives stay on one side. Of the search and eval splits, documents that share more than
`MAX_SHARED` of their 13-grams (words and signs) with a document of a split before it (train, search, eval) are left
out, too. Run it in the locked environment whenever a package of the corpus changes its version:

    python examples/tiny/manifest.py
"""

import argparse
import csv
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
from tqdm import tqdm

from longrope.evaluation.data.packages import MANIFEST, SPLITS, SourceFile, decode_source

ROOT = Path(__file__).parents[2]
TRAIN_ONLY = ("numpy", "torch")
"""Packages whose files differ between builds or Pythons: the numbers of an evaluation must not hang on them."""
CORPUS = (
    "accelerate", "datasets", "fonttools", "fsspec", "huggingface_hub", "hypothesis", "jsonargparse", "matplotlib",
    "mpmath", "networkx", "numpy", "pandas", "pydantic", "pytest", "rich", "scipy", "setuptools", "sympy", "torch",
    "transformers",
)  # fmt: skip
LEFT_OUT = re.compile(
    r"(^|/)(version|_version|__config__|conftest|_distributor_init)\.py$"  # made by builds
    r"|/_vendor/|/_vendored/|/extern/|/_antlr/|transformers/models/"  # copies of each other or of other packages
    r"|numpy/distutils/"  # not there from Python 3.12 on
    r"|torch/(_C|version|testing|share)/|fontTools/unicodedata|transformers/utils/dummy"  # tables and generated code
)
MIN_CHARS = {"train": 4_000, "search": 12_000, "eval": 12_000}
MAX_CHARS = 250_000
MAX_OF_GROUP = {"train": 60, "search": 8, "eval": 8}
"""Documents of one group in a split, so that no package is most of it."""
MAX_SHARED = 0.02
GRAM = 13


def candidates() -> Iterator[tuple[SourceFile, str]]:
    """Yield every file that may be a document, with its text."""
    pinned = dict(line.strip().split("==") for line in (ROOT / "requirements.lock").open() if "==" in line)
    for package in CORPUS:
        installed = distribution(package)
        if installed.version.partition("+")[0] != pinned[package]:
            raise SystemExit(f"{package} must be {pinned[package]} as in requirements.lock, got {installed.version}")
        paths = sorted(p.as_posix() for p in installed.files or () if p.suffix == ".py" and ".." not in p.parts)
        for path in paths:
            if LEFT_OUT.search(path):
                continue
            data = Path(str(installed.locate_file(path))).read_bytes()
            try:
                text = decode_source(data)
            except SyntaxError:
                continue
            split = "train" if package in TRAIN_ONLY else split_of(path)
            if MIN_CHARS[split] <= len(text) <= MAX_CHARS and is_code(text):
                digest = hashlib.sha256(data).hexdigest()
                yield SourceFile(split, package, pinned[package], path, digest), text


def group_of(path: str) -> str:
    """Return package and first folder or module: `scipy/stats`, `networkx/convert.py`."""
    return "/".join(path.split("/")[:2])


def split_of(path: str) -> str:
    """Return the split of a path, from a hash of its group: 60 % train, 20 % search, 20 % eval."""
    percentile = int.from_bytes(hashlib.sha256(group_of(path).encode()).digest()[:8], "big") % 100
    return "train" if percentile < 60 else "search" if percentile < 80 else "eval"


def is_code(text: str) -> bool:
    """Tell code from tables of numbers and data: at most a tenth of the characters are digits."""
    return sum(character.isdigit() for character in text) <= 0.1 * len(text)


def grams(text: str) -> set[int]:
    """Return hashes of all 13-grams of words and signs."""
    words = np.array([hash_of(word) for word in re.findall(r"\w+|[^\w\s]", text)], dtype=np.uint64)
    total = np.zeros(max(len(words) - GRAM + 1, 0), dtype=np.uint64)
    for offset in range(GRAM):
        total = total * np.uint64(0x100000001B3) + words[offset : offset + len(total)]
    return set(total.tolist())


def hash_of(word: str) -> int:
    """Return a 64-bit hash that is the same in every process."""
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")


def choose(found: Iterable[tuple[SourceFile, str]]) -> tuple[list[SourceFile], dict[str, list[float]]]:
    """Return the documents of all splits, and the share of 13-grams that each has in the splits before its own."""
    by_hash = sorted(found, key=lambda one: one[0].sha256)  # which of a large group are taken is by chance
    seen: set[int] = set()
    chosen: list[SourceFile] = []
    shared: dict[str, list[float]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        taken: Counter[str] = Counter()
        own: set[int] = set()
        for row, text in tqdm([one for one in by_hash if one[0].split == split], split):
            if taken[group_of(row.path)] == MAX_OF_GROUP[split]:
                continue
            all_grams = grams(text)
            share = len(all_grams & seen) / len(all_grams)
            if split != "train" and share > MAX_SHARED:
                continue
            taken[group_of(row.path)] += 1
            own |= all_grams
            chosen.append(row)
            shared[split].append(share)
        seen |= own
    return sorted(chosen, key=lambda row: (SPLITS.index(row.split), row.sha256)), shared


def main() -> None:
    """Write the manifest and print what the splits hold and share."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "evaluation" / "data" / MANIFEST)
    output = parser.parse_args().output
    chosen, shared = choose(candidates())
    with output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(SourceFile.__dataclass_fields__)
        writer.writerows((row.split, row.package, row.version, row.path, row.sha256) for row in chosen)
    for split in SPLITS:
        rows = [row for row in chosen if row.split == split]
        groups = len({group_of(row.path) for row in rows})
        line = f"{split}: {len(rows)} documents of {groups} groups in {len({row.package for row in rows})} packages"
        if split != "train":
            line += f"; 13-grams shared with earlier splits: median {np.median(shared[split]):.2%}, "
            line += f"mean {np.mean(shared[split]):.2%}, most {max(shared[split]):.2%}"
        print(line)


if __name__ == "__main__":
    main()
