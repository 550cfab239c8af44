"""The text that corpora yield."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Document:
    """One text and the name it is reported under."""

    name: str
    text: str
