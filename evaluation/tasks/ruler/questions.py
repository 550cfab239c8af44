"""RULER's question answering tasks: the documents of a question stand among others, numbered.

Data is SQuAD 2.0 (arXiv 1806.03822) or HotpotQA (arXiv 1809.09600, distractor setting): a local file in the JSON
format of their authors, or the hub's copy of the same development set.
"""

import hashlib
import json
import random
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

from ...data.seeding import seeded
from .base import Category, Prompt, RulerTask

INSTRUCTION = "Answer the question from the given documents. Give only the answer and no other words."


@dataclass(frozen=True)
class Question:
    """A question, what answers it, and where."""

    text: str
    answers: tuple[str, ...]
    gold: tuple[str, ...]
    """Documents that hold the answer."""
    related: tuple[str, ...]
    """Documents that come with the question but don't hold the answer: the first distractors."""


@dataclass(frozen=True, eq=False)
class QuestionTask(RulerTask):
    """Questions of one data set; the haystack grows by documents, the gold ones included."""

    category: ClassVar[Category] = "qa"
    metric: ClassVar[str] = "string_match_part"
    new_tokens: ClassVar[int] = 32
    data_format: ClassVar[str]

    hub_files: ClassVar[str]
    """The development set on the hub, as the hub converts every data set to Parquet."""

    source: Path | Literal["hub"] = field(kw_only=True)
    """JSON file of the data set, or `hub`."""

    @staticmethod
    @abstractmethod
    def read(payload: Any) -> Iterator[Question]:
        """Yield the questions that have an answer from a parsed file."""

    @staticmethod
    @abstractmethod
    def from_hub(rows: Iterable[Mapping[str, Any]]) -> Any:
        """Return the rows of the hub in the format of the authors' file."""

    def describe(self) -> dict[str, Any]:
        name = self.hub_files if self.source == "hub" else self.source.name
        return {**super().describe(), "format": self.data_format, "file": name, "sha256": self._content[1]}

    def least(self, length: int, place: int) -> int:
        return len(self._question(length, place).gold)

    def build(self, rng: random.Random, units: int, length: int, place: int) -> Prompt:
        question = self._question(length, place)
        shown = list(question.gold) + list(islice(self._distractors(rng, question), units - len(question.gold)))
        rng.shuffle(shown)
        context = "\n\n".join(f"Document {number}:\n{text}" for number, text in enumerate(shown, start=1))
        gold = sorted(shown.index(text) + 1 for text in question.gold)
        return Prompt(
            f"{INSTRUCTION}\n\nThe following are given documents.\n\n{context}\n\n{INSTRUCTION}\n\n"
            f"Question: {question.text}",
            " Answer:",
            question.answers,
            {"gold_documents": gold},
        )

    def _distractors(self, rng: random.Random, question: Question) -> Iterator[str]:
        """Yield documents without end: the question's own, then those of others, again when all are used up."""
        if len(self._documents) == len(question.gold):
            raise ValueError(f"qa_file must hold documents beside those of a question, got none in {self.source}")
        related = rng.sample(question.related, len(question.related))
        yield from related
        used = {*question.gold, *related}
        while True:
            if len(used) == len(self._documents):
                used = set(question.gold)
            text = rng.choice(self._documents)
            if text not in used:
                used.add(text)
                yield text

    def _question(self, length: int, place: int) -> Question:
        """Return one of the questions that are spread evenly over the file, from a seeded one on."""
        count = len(self._questions)
        return self._questions[(seeded(self.seed, self.name, length) + place * count // self.num_samples) % count]

    @cached_property
    def _questions(self) -> list[Question]:
        payload, _ = self._content
        try:
            questions = list(self.read(payload))
        except (LookupError, TypeError, ValueError) as error:
            raise self._refused(error) from error
        if len(questions) < self.num_samples:
            raise ValueError(
                f"samples must be at most the {len(questions)} answered questions of {self.source}, "
                f"got {self.num_samples}; take fewer or a larger file"
            )
        return questions

    @cached_property
    def _content(self) -> tuple[Any, str]:
        """Data in the format of the authors' file, and its sha256."""
        try:
            if self.source == "hub":
                payload = self.from_hub(_hub_rows(self.hub_files))
                return payload, hashlib.sha256(json.dumps(payload, ensure_ascii=False).encode()).hexdigest()
            raw = self.source.read_bytes()
            return json.loads(raw), hashlib.sha256(raw).hexdigest()
        except (OSError, LookupError, TypeError, ValueError) as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> ValueError:
        what = f"qa_file must be JSON in {self.data_format} format, or `hub`, for {self.name}, got {self.source}"
        return ValueError(f"{what}: {error!r}; give the data set's own file")

    @cached_property
    def _documents(self) -> list[str]:
        return sorted({text for question in self._questions for text in (*question.gold, *question.related)})


class SquadQuestions(QuestionTask):
    """SQuAD: one gold paragraph; the others of its article are the first distractors."""

    name = "ruler_qa_1"
    data_format = "SQuAD 2.0"
    hub_files = "hf://datasets/rajpurkar/squad_v2@refs/convert/parquet/squad_v2/validation/*.parquet"

    @staticmethod
    def from_hub(rows: Iterable[Mapping[str, Any]]) -> Any:
        articles: dict[str, dict[str, list[Any]]] = {}
        for row in rows:
            answers = [{"text": text} for text in row["answers"]["text"]]
            entry = {"question": row["question"], "is_impossible": not answers, "answers": answers}
            articles.setdefault(row["title"], {}).setdefault(row["context"], []).append(entry)
        paragraphs = [[{"context": text, "qas": qas} for text, qas in texts.items()] for texts in articles.values()]
        return {"data": [{"paragraphs": article} for article in paragraphs]}

    @staticmethod
    def read(payload: Any) -> Iterator[Question]:
        for article in payload["data"]:
            paragraphs = [paragraph["context"] for paragraph in article["paragraphs"]]
            for paragraph in article["paragraphs"]:
                gold = paragraph["context"]
                related = tuple(dict.fromkeys(text for text in paragraphs if text != gold))
                for entry in paragraph["qas"]:
                    if not entry.get("is_impossible", False):
                        answers = tuple(dict.fromkeys(answer["text"] for answer in entry["answers"]))
                        if not answers:
                            raise ValueError(f"question {entry['question']!r} has no answers")
                        yield Question(entry["question"], answers, (gold,), related)


class HotpotQuestions(QuestionTask):
    """HotpotQA: two gold paragraphs; the others that come with the question are the first distractors."""

    name = "ruler_qa_2"
    data_format = "HotpotQA"
    hub_files = "hf://datasets/hotpotqa/hotpot_qa@refs/convert/parquet/distractor/validation/*.parquet"

    @staticmethod
    def from_hub(rows: Iterable[Mapping[str, Any]]) -> Any:
        def pairs(columns: Mapping[str, Sequence[Any]], second: str) -> list[list[Any]]:
            return [list(pair) for pair in zip(columns["title"], columns[second], strict=True)]

        return [
            {
                "question": row["question"],
                "answer": row["answer"],
                "supporting_facts": pairs(row["supporting_facts"], "sent_id"),
                "context": pairs(row["context"], "sentences"),
            }
            for row in rows
        ]

    @staticmethod
    def read(payload: Any) -> Iterator[Question]:
        for entry in payload:
            supporting = {title for title, _ in entry["supporting_facts"]}
            texts = {title: f"{title}\n{''.join(sentences)}" for title, sentences in entry["context"]}
            gold = tuple(text for title, text in texts.items() if title in supporting)
            if not gold:
                raise ValueError(f"question {entry['question']!r} has none of its supporting documents")
            related = tuple(text for title, text in texts.items() if title not in supporting)
            yield Question(entry["question"], (entry["answer"],), gold, related)


def _hub_rows(files: str) -> list[Mapping[str, Any]]:
    import datasets

    try:
        rows: Any = datasets.load_dataset("parquet", data_files=files, split="train")
        return list(rows)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{files} can't be read: {' '.join(str(error).split())}") from error
