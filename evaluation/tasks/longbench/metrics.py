"""The metrics of LongBench, each a share from 0 to 1, as its official scorer defines them.

Definitions: arXiv 2308.14508, section 3 and THUDM/LongBench `metrics.py`, with what those leave to libraries: words of
Chinese are jieba's, ROUGE-L is that of the package `rouge`, edit similarity is `difflib`'s ratio in whole per cent
(what `fuzzywuzzy` computes in the official environment, which has no python-Levenshtein).
"""

import logging
import re
import string
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import SequenceMatcher
from importlib import import_module
from typing import Any

CHINESE_PUNCTUATION = (
    "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿"
    "｀｛｜｝～｟｠｢｣､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏."
)
"""The official list, which lacks 《, 〈 and 〉."""


@dataclass(frozen=True)
class Metric:
    """How one kind of answer is scored."""

    name: str
    """Name in results, e.g. `f1`."""
    rule: str
    """The definition in words; the protocol keeps it."""
    score: Callable[[str, str, Sequence[str]], float]
    """(answer, one reference, class names of the dataset) -> share from 0 to 1."""
    packages: tuple[str, ...] = ()
    """Optional packages it needs."""

    def best(self, predicted: str, references: Sequence[str], classes: Sequence[str] = ()) -> float:
        """Return the highest score over the references.

        Raises:
            ValueError: an optional package is missing, or a reference isn't of the metric's kind.
        """
        return max(self.score(predicted, reference, classes) for reference in references)

    def check_packages(self) -> None:
        """Raise ValueError if an optional package is missing."""
        for package in self.packages:
            _require(package)


def first_line(predicted: str) -> str:
    """Return what is scored of a few-shot answer: its first line that isn't empty at the start."""
    return predicted.lstrip("\n").split("\n")[0]


def token_f1(predicted: Sequence[str], reference: Sequence[str]) -> float:
    """Return the F1 of two bags of words; 0 where they share none."""
    shared = (Counter(predicted) & Counter(reference)).total()
    if shared == 0:
        return 0.0
    precision, recall = shared / len(predicted), shared / len(reference)
    return 2 * precision * recall / (precision + recall)


def qa_f1(predicted: str, reference: str, classes: Sequence[str] = ()) -> float:
    """F1 of words in lower case without punctuation and articles, as in SQuAD."""
    return token_f1(_english_words(predicted), _english_words(reference))


def qa_f1_zh(predicted: str, reference: str, classes: Sequence[str] = ()) -> float:
    """F1 of jieba's words in lower case without punctuation."""
    return token_f1(_chinese_words(predicted), _chinese_words(reference))


def rouge_l(predicted: str, reference: str, classes: Sequence[str] = ()) -> float:
    """F of summary-level ROUGE-L; 0 where either text has no words.

    Where long sentences exhaust Python's recursion limit, the official scorer gives 0; here they get their score.
    """
    rouge = _require("rouge").Rouge(metrics=["rouge-l"], stats=["f"])
    with _recursion(len(predicted.split()) + len(reference.split())):
        try:
            return rouge.get_scores(predicted, reference)[0]["rouge-l"]["f"]
        except ValueError:  # no sentence in one of the texts
            return 0.0


def rouge_l_zh(predicted: str, reference: str, classes: Sequence[str] = ()) -> float:
    """F of ROUGE-L over jieba's words."""
    return rouge_l(" ".join(_segment(predicted)), " ".join(_segment(reference)))


def classification(predicted: str, reference: str, classes: Sequence[str]) -> float:
    """One over the number of class names in the answer, if the right one is among them, else 0.

    Names that are part of the right one don't count; removing them while walking skips the name after a removed one,
    and so does the official scorer.
    """
    found = [name for name in classes if name in predicted]
    for name in found:
        if name != reference and name in reference:
            found.remove(name)
    return 1 / len(found) if reference in found else 0.0


def count(predicted: str, reference: str, classes: Sequence[str] = ()) -> float:
    """Share of the numbers in the answer that are the right one; 0 without numbers."""
    numbers = re.findall(r"\d+", predicted)
    return numbers.count(reference) / len(numbers) if numbers else 0.0


def retrieval(predicted: str, reference: str, classes: Sequence[str] = ()) -> float:
    """Share of the numbers in the answer that are the paragraph's of a reference like `Paragraph 7`."""
    return count(predicted, _paragraph(r"Paragraph (\d+)", reference))


def retrieval_zh(predicted: str, reference: str, classes: Sequence[str] = ()) -> float:
    """Share of the numbers in the answer that are the paragraph's of a reference like `段落7`."""
    return count(predicted, _paragraph(r"段落(\d+)", reference))


def edit_similarity(predicted: str, reference: str, classes: Sequence[str] = ()) -> float:
    """Similarity of the first line of code, in whole per cent; lines with a backtick, # or // are no code."""
    lines = predicted.lstrip("\n").split("\n")
    code = next((line for line in lines if not re.search("`|#|//", line)), "")
    if not code or not reference:
        return float(code == reference)
    return round(100 * SequenceMatcher(None, code, reference).ratio()) / 100


F1 = Metric("f1", "F1 of words in lower case without punctuation and articles", qa_f1)
F1_ZH = Metric("f1", "F1 of words (jieba) without punctuation", qa_f1_zh, ("jieba",))
ROUGE_L = Metric("rouge_l", "F of summary-level ROUGE-L (package rouge)", rouge_l, ("rouge",))
ROUGE_L_ZH = Metric("rouge_l", "F of ROUGE-L (package rouge) of words (jieba)", rouge_l_zh, ("jieba", "rouge"))
CLASSIFICATION = Metric("accuracy", "1 / class names in the answer if the right one is among them", classification)
COUNT = Metric("accuracy", "share of the answer's integers that are the right count", count)
RETRIEVAL = Metric("accuracy", "share of the answer's integers that are the right paragraph", retrieval)
RETRIEVAL_ZH = Metric("accuracy", "share of the answer's integers that are the right paragraph", retrieval_zh)
EDIT_SIMILARITY = Metric(
    "edit_similarity", "difflib ratio of the first line of code, in whole per cent", edit_similarity
)


def _english_words(text: str) -> list[str]:
    kept = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()


def _chinese_words(text: str) -> list[str]:
    dropped = set(string.punctuation + CHINESE_PUNCTUATION)
    words = ("".join(c for c in word.lower() if c not in dropped and not c.isspace()) for word in _segment(text))
    return [word for word in words if word]


def _segment(text: str) -> list[str]:
    jieba = _require("jieba")
    jieba.setLogLevel(logging.WARNING)
    return jieba.lcut(text)


def _paragraph(pattern: str, reference: str) -> str:
    found = re.search(pattern, reference)
    if found is None:
        raise ValueError(
            f"answers must hold a paragraph like {pattern!r}, got {reference!r}; restore the official data"
        )
    return found.group(1)


def _require(package: str) -> Any:
    try:
        return import_module(package)
    except ImportError as error:
        raise ValueError(
            f"this LongBench dataset must have the package {package} to be scored, got none installed; "
            f"pip install {package}"
        ) from error


@contextmanager
def _recursion(depth: int) -> Iterator[None]:
    """Let Python recurse deeper by `depth`: `rouge` walks back a common subsequence one word a call."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + depth)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
