"""docs/doctor.md quotes the doctor: each check with its cause and remedy, word for word."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.training.doctor.faulty_methods import small_run
from tests.training.doctor.test_examination import log_of
from twinlens.training.config import Config
from twinlens.training.doctor.checks import CAUSES, CONSEQUENCES
from twinlens.training.doctor.examination import diagnose
from twinlens.training.doctor.history import History
from twinlens.training.doctor.notes import NOTES
from twinlens.training.doctor.verdict import EXIT_CODES
from twinlens.training.objectives import METHODS, find_method
from twinlens.training.schedules import Linear

PAGE = Path(__file__).parents[3] / "docs" / "doctor.md"
FLAT = math.log(12)  # of the small DINO's prototypes


@dataclass(frozen=True)
class FaultyLog:
    """A method and the numbers of its log that one check fires on."""

    method: str
    numbers: Mapping[str, float]
    fields: Mapping[str, Any] = field(default_factory=dict)
    held_out: Sequence[float] = ()  # kNN on held-out data, validation by validation

    @property
    def config(self) -> Config:
        return small_run(self.method, 200, **self.fields)

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        checked = [{"step": 10 * n, "eval/knn": knn} for n, knn in enumerate(self.held_out)]
        return [*checked, *log_of(200, **self.numbers)]


PREDICTS = {"grad/predictor": 1.0}
CASES = {
    "constant data": FaultyLog("simclr", {"variety": 0.001}),
    "teacher is the student": FaultyLog("moco", {"twin_shared": 1.0, "twin_gap": 0.0}),
    "frozen encoder": FaultyLog("simclr", {"update/image": 0.0, "grad/image": 0.0}),
    "missing stop-gradient": FaultyLog("simsiam", {"target_gradient": 0.5, **PREDICTS}),
    "missing predictor": FaultyLog("simsiam", {}),
    "missing L2 norm": FaultyLog("simclr", {"radial_gradient": 0.4}),
    "prototypes not normalised": FaultyLog("swav", {"prototype_length": 1.2}),
    "queue enqueued before the loss": FaultyLog("moco", {"queue_hits": 1.0}),
    "missing variance term": FaultyLog("vicreg", {"variance": 0.9, "loss": 0.1}),
    "learning rate too high": FaultyLog("simclr", {"update/image": 0.1}),
    "teacher temperature too high": FaultyLog(
        "dino",
        {"teacher_entropy": 0.999 * FLAT, "shared_entropy": FLAT},
        {"teacher_temperature": Linear(0.2, 0.2)},
    ),
    "no centring": FaultyLog("dino", {"teacher_entropy": 0.1, "shared_entropy": 0.12}),
    "collapse": FaultyLog("simclr", {"head_spread": 1e-4}),
    "loss at its chance plateau": FaultyLog("simclr", {"loss": math.log(31)}),
    "held-out data falls": FaultyLog("simclr", {}, held_out=(40.0, 60.0, 50.0, 51.0, 49.0)),
}


def table() -> dict[str, list[str]]:
    """Return the rows of the page's table of verdicts, by name."""
    text = PAGE.read_text(encoding="utf-8")
    start = text.index("| verdict | what is seen |")
    lines = text[start:].split("\n\n", 1)[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in cells}


@pytest.mark.parametrize("name", CASES)
def test_the_page_quotes_cause_and_remedy_word_for_word(name: str) -> None:
    case = CASES[name]
    (verdict,) = diagnose(case.config, case.rows).verdicts
    assert verdict.name == name
    _, cause, remedy = table()[name]
    assert (cause, remedy) == (verdict.cause, verdict.remedy)


def test_the_page_names_every_check_and_no_other() -> None:
    assert set(table()) == set(CASES)
    for check in (*CAUSES, *CONSEQUENCES, *NOTES):
        verdicts = [check(History(case.config, case.rows)) for case in CASES.values()]
        assert any(verdicts), f"{check.__name__} has no row in the table"


def test_the_page_names_every_method_and_the_exit_codes() -> None:
    text = PAGE.read_text(encoding="utf-8")
    plateaus = set(re.findall(r"\w+", text[text.index("## Chance values") :]))
    assert set(METHODS) <= plateaus
    for state, code in EXIT_CODES.items():
        assert f"{code}: {state.split()[0]}" in text


@pytest.mark.parametrize(
    ("method", "batch", "fields"),
    [
        ("simclr", 256, {}),
        ("moco", 256, {"queue": 4096}),
        ("clip", 128, {}),
        ("siglip", 256, {}),
        ("supcon", 256, {"temperature": 0.1}),
        ("swav", 256, {"prototypes": 3000}),
        ("dino", 256, {"prototypes": 4096}),
        ("beit", 256, {"size": 8192}),
    ],
)
def test_the_plateaus_on_the_page_are_those_of_the_code(
    method: str, batch: int, fields: Mapping[str, Any]
) -> None:
    text = PAGE.read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| (?:\w+, )?{method}(?:, \w+)? \|.*$", text, re.MULTILINE)
    assert f"{find_method(method)(**fields).chance(batch):.3f}" in row
