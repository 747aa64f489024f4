"""The papers behind classes, as their docstrings name them, in BibTeX.

A method says where it comes from in its own file: a section ``References``, or a sentence that begins with ``Source:``, in the docstring of
the class or of its module. Papers are separated by semicolons: ``Li et al., ICLR 2021 (arXiv:2010.08895); ...``.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

_NAME = r"(?:(?:de|der|van|von|di) )*[A-Z][\w'-]+"
_AUTHORS = re.compile(
    rf"^(?P<names>(?:{_NAME}, )*{_NAME}(?: & {_NAME}| et al\.)|{_NAME}(?:, {_NAME})*)(?:, |: | (?=\())(?P<rest>.+)$"
)
_ARXIV = re.compile(r"\(?arXiv[: ](\d{4}\.\d{4,5})\)?")
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")


@dataclass(frozen=True)
class Paper:
    """What one reference says.

    Parameters
    ----------
    authors : last names; the last one may be ``"others"``.
    title, venue, arxiv : empty where the reference does not say.
    """

    authors: tuple[str, ...]
    year: str
    title: str = ""
    venue: str = ""
    arxiv: str = ""

    @property
    def key(self) -> str:
        return re.sub(r"\W", "", self.authors[0].rpartition(" ")[2]).lower() + self.year

    def bibtex(self, key: str | None = None) -> str:
        fields = {
            "author": " and ".join(f"{{{a}}}" if " " in a else a for a in self.authors),
            "title": f"{{{self.title}}}" if self.title else "",
            "howpublished": self.venue,
            "year": self.year,
            "eprint": self.arxiv,
            "archiveprefix": "arXiv" if self.arxiv else "",
        }
        lines = [f"  {name} = {{{_escaped(value)}}}," for name, value in fields.items() if value]
        return "\n".join([f"@misc{{{key or self.key},", *lines, "}"])


def read(text: str) -> Paper | None:
    """One reference; None where the text names no author and year (a remark between references)."""
    text = re.sub(r"^[a-z][^:]*?(?:\bas in|:) ", "", " ".join(text.split()).rstrip("."))
    found = _AUTHORS.match(text)
    if found is None:
        return None
    arxiv = _ARXIV.search(found["rest"])
    said = _ARXIV.sub("", found["rest"]).strip(" ,.")
    bracketed = re.findall(r"\(((?:19|20)\d\d)\)", said)
    years = bracketed or _YEAR.findall(said) or ([f"20{arxiv[1][:2]}"] if arxiv else [])
    if not years:
        return None
    title, comma, venue = said.rpartition(", ")
    if not (comma and _YEAR.search(venue)):
        title, venue = ("", said) if _YEAR.search(said) else (said, "")
    names = re.split(r", | & ", found["names"].replace(" et al.", " & others"))
    return Paper(tuple(names), years[-1], title, venue, arxiv[1] if arxiv else "")


def papers(cls: type) -> list[Paper]:
    """The papers that a class names, itself or by its module."""
    module = sys.modules.get(cls.__module__)
    for doc in (cls.__dict__.get("__doc__"), getattr(module, "__doc__", None)):
        found = [paper for text in _references(doc or "") if (paper := read(text))]
        if found:
            return found
    return []


def _references(doc: str) -> Iterator[str]:
    doc = inspect.cleandoc(doc)
    section = re.search(r"^References\n-+\n(.+?)(?:\n\n|\Z)", doc, re.MULTILINE | re.DOTALL)
    source = re.search(r"\bSource: (.+?)(?:\n\n|\Z)", doc, re.DOTALL)
    for found in (section, source):
        if found:
            yield from found[1].split(";")


def bibliography(classes: Iterable[type]) -> str:
    """Everything that some classes rest on, each paper once, after a line that says for what."""
    used: dict[Paper, list[str]] = {}
    for cls in classes:
        for paper in papers(cls):
            if cls.__name__ not in used.setdefault(paper, []):
                used[paper].append(cls.__name__)
    taken: dict[str, int] = {}
    entries = []
    for paper, names in used.items():
        count = taken[paper.key] = taken.get(paper.key, 0) + 1
        key = paper.key if count == 1 else f"{paper.key}{chr(ord('a') + count - 1)}"
        entries.append(f"% for {', '.join(names)}\n{paper.bibtex(key)}")
    return "\n\n".join(entries)


def classes_in(description: Any) -> Iterator[str]:
    """The dotted paths in what `slipstream.pretrained.describe` gave, outermost first."""
    if isinstance(description, dict):
        for key in ("class", "factory"):
            if isinstance(description.get(key), str):
                yield description[key]
        for value in description.values():
            yield from classes_in(value)
    elif isinstance(description, list):
        for value in description:
            yield from classes_in(value)


def _escaped(text: str) -> str:
    return re.sub(r"(?<!\\)([&%#_])", r"\\\1", text)
