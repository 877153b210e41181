"""The suites by name: what each asks, what data it needs, how it writes and scores questions.

What must stay true: a suite with missing data is refused, not scored on something else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twinlens.errors import InputError
from twinlens.training.suites.answers import answer_sheet
from twinlens.training.suites.examinee import EmbeddedSheet, Examinee, embed_sheet
from twinlens.training.suites.material import Material
from twinlens.training.suites.questions.association import write_association
from twinlens.training.suites.questions.calibration import judge_calibration, write_calibration
from twinlens.training.suites.questions.classes import (
    judge_templates,
    write_classes,
    write_templates,
)
from twinlens.training.suites.questions.composition import write_composition
from twinlens.training.suites.questions.languages import judge_languages, write_languages
from twinlens.training.suites.questions.pairs import judge_pairs, write_pairs
from twinlens.training.suites.questions.relations import write_relations
from twinlens.training.suites.questions.retrieval import write_retrieval
from twinlens.training.suites.questions.robustness import write_robustness
from twinlens.training.suites.questions.typographic import write_typographic
from twinlens.training.suites.result import Result, summarise
from twinlens.training.suites.sheet import Sheet

ALL = "all"
_DATA = {
    "pairs": "pairs: folders of two pictures with a caption each",
    "names": "names in other languages: --names FILE, {language: {English name: name}}",
}

Write = Callable[[Material, Sequence[str], int], Sheet]
Judge = Callable[[str, Sheet, EmbeddedSheet, int], Result]


def judge_answers(suite: str, sheet: Sheet, rows: EmbeddedSheet, seed: int) -> Result:
    """Return the share of right answers, by cosine."""
    return summarise(suite, sheet, answer_sheet(sheet, rows), seed=seed)


@dataclass(frozen=True)
class Suite:
    """A suite: `asks` is its question, `needs` the required data, `takes` the optional data."""

    name: str
    asks: str
    write: Write
    needs: str = ""
    takes: str = ""
    judge: Judge = judge_answers
    reads_texts: bool = True  # whether the encoder needs a text tower


SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite(
            "composition",
            "a caption, or the same with one object, attribute or relation changed?",
            write_composition,
            needs="captions",
        ),
        Suite(
            "relations",
            "which of two descriptions fits a drawn scene: sides, counts, colours, sizes?",
            write_relations,
            takes="sentences",
        ),
        Suite(
            "pairs",
            "two pictures, two captions: which belongs to which (Winoground's three scores)?",
            write_pairs,
            takes="pairs",
            judge=judge_pairs,
        ),
        Suite(
            "association",
            "a thing in an unusual colour: that colour, or its usual one?",
            write_association,
            takes="captions or labels",
        ),
        Suite(
            "typographic",
            "another name is written on the picture: what it shows, or what it says?",
            write_typographic,
            takes="labels",
        ),
        Suite(
            "robustness",
            "which clean picture is it, after noise, blur, JPEG, resize or contrast?",
            write_robustness,
            takes="pictures",
            reads_texts=False,
        ),
        Suite(
            "retrieval",
            "which caption is the picture's, which picture the caption's?",
            write_retrieval,
            needs="captions",
        ),
        Suite(
            "languages",
            "which name is the picture's, in each language, and how far behind English?",
            write_languages,
            needs="names",
            judge=judge_languages,
        ),
        Suite(
            "classes",
            "which class is it, by the bundle's templates?",
            write_classes,
            needs="labels",
        ),
        Suite(
            "templates",
            "which class is it, by each template, and what does it add to the bare name?",
            write_templates,
            needs="labels",
            judge=judge_templates,
        ),
        Suite(
            "calibration",
            "is confidence lower without the right class? are probabilities calibrated?",
            write_calibration,
            needs="labels",
            judge=judge_calibration,
        ),
    )
}


def pick_suites(names: str, material: Material, *, reads_texts: bool = True) -> list[Suite]:
    """Return the suites of a comma-separated list; `all` means those that the data allow.

    `reads_texts` tells whether the encoder has a text tower.
    """
    if names == ALL:
        return [
            suite
            for suite in SUITES.values()
            if (not suite.needs or suite.needs in material.has)
            and (reads_texts or not suite.reads_texts)
        ]
    chosen = [_find(name.strip()) for name in names.split(",") if name.strip()]
    for suite in chosen:
        _refuse_missing(suite, material, reads_texts)
    return chosen


def _refuse_missing(suite: Suite, material: Material, reads_texts: bool) -> None:
    if suite.reads_texts and not reads_texts:
        without = ", ".join(one.name for one in SUITES.values() if not one.reads_texts)
        raise InputError(
            f"suite {suite.name!r} compares pictures with texts, and the encoder has no text"
            f" tower; --suite {without} asks about pictures alone",
            field="--suite",
        )
    if suite.needs and suite.needs not in material.has:
        raise InputError(
            f"suite {suite.name!r} needs {_DATA.get(suite.needs, suite.needs)}, and"
            f" {_describe(material)};"
            " `twinlens eval --list` says what each suite needs",
            field="DATA",
        )


def run_suite(suite: Suite, examinee: Examinee, material: Material, *, seed: int = 0) -> Result:
    """Return the result of a suite for an examinee on the data; equal seeds ask the same."""
    sheet = suite.write(material, examinee.templates, seed)
    if not sheet.questions:
        raise InputError(
            f"suite {suite.name!r} finds nothing to ask about in {material.name}", field="DATA"
        )
    return suite.judge(suite.name, sheet, embed_sheet(examinee, sheet), seed)


def describe_suites() -> list[str]:
    """Return a line for each suite: its name, its question, its data."""
    return [f"{suite.name:<13}{suite.asks}  [{_data_of(suite)}]" for suite in SUITES.values()]


def _data_of(suite: Suite) -> str:
    if suite.needs:
        return f"needs {_DATA.get(suite.needs, suite.needs)}"
    taken = _DATA.get(suite.takes, suite.takes)
    return f"takes {taken}, or its own drawings" if suite.takes else "draws its own scenes"


def _find(name: str) -> Suite:
    if name not in SUITES:
        raise InputError(
            f"--suite {name!r} is unknown; choose from {', '.join([*SUITES, ALL])}",
            field="--suite",
        )
    return SUITES[name]


def _describe(material: Material) -> str:
    if not material.exhibits:
        return "no DATA is given"
    return f"{material.name} has {' and '.join(sorted(material.has))} only"
