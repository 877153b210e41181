"""Classes and templates: which class is the picture's, and what does each template add?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from twinlens.training.suites.answers import answer_sheet
from twinlens.training.suites.examinee import EmbeddedSheet
from twinlens.training.suites.material import Exhibit, Material
from twinlens.training.suites.result import Result, compare_groups, summarise
from twinlens.training.suites.sheet import ItemNumbers, Question, Sheet

GROUPS = 20  # with more classes than this, no class has its own line
MOST = 200  # pictures asked about with every template
BARE = "{}"
TEMPLATES = (
    BARE,
    "a photo of a {}",
    "a {}",
    "a picture of a {}",
    "a drawing of a {}",
    "a close-up photo of a {}",
    "a blurry photo of a {}",
    "an icon of a {}",
    "this is a {}",
)
OWN = "the bundle's own"


def write_classes(material: Material, templates: Sequence[str], seed: int) -> Sheet:
    """Ask for the class of each picture, by the bundle's templates."""
    sheet = Sheet()
    names = list_classes(material)
    classes = add_classes(sheet, names, templates)
    for exhibit in material.exhibits:
        if exhibit.label:
            group = exhibit.label if len(names) <= GROUPS else ""
            right = frozenset([int(classes[names.index(exhibit.label)])])
            picture = sheet.add_picture(exhibit.picture)
            sheet.questions.append(Question(picture, classes, right, exhibit.key, group))
    return sheet


def write_templates(material: Material, templates: Sequence[str], seed: int) -> Sheet:
    """Ask for the class of the same pictures with each template, and with the bundle's own ones."""
    sheet, rng = Sheet(), np.random.default_rng(seed)
    names = list_classes(material)
    asked: dict[str, Sequence[str]] = {**{text: (text,) for text in TEMPLATES}, OWN: templates}
    classes = {group: add_classes(sheet, names, own) for group, own in asked.items()}
    labelled = [exhibit for exhibit in material.exhibits if exhibit.label]
    for place in sorted(rng.permutation(len(labelled))[:MOST]):
        exhibit = labelled[place]
        picture = sheet.add_picture(exhibit.picture)
        for group, numbers in classes.items():
            right = frozenset([int(numbers[names.index(label_of(exhibit))])])
            sheet.questions.append(Question(picture, numbers, right, exhibit.key, group))
    return sheet


def judge_templates(suite: str, sheet: Sheet, rows: EmbeddedSheet, seed: int) -> Result:
    """Return the score over all templates, and the paired gain of each over the bare name."""
    answers = answer_sheet(sheet, rows)
    numbers = {}
    for template, (gain, low, high) in compare_groups(answers, BARE, seed=seed).items():
        name = f"gain: {template}"
        numbers[name] = round(gain, 4)
        numbers[f"{name} (low)"], numbers[f"{name} (high)"] = round(low, 4), round(high, 4)
    return replace(summarise(suite, sheet, answers, seed=seed), numbers=numbers)


def list_classes(material: Material) -> list[str]:
    """Return the labels of the data, sorted."""
    return sorted({exhibit.label for exhibit in material.exhibits if exhibit.label})


def label_of(exhibit: Exhibit) -> str:
    """Return the label of a picture that has one."""
    assert exhibit.label is not None
    return exhibit.label


def add_classes(sheet: Sheet, names: Sequence[str], templates: Sequence[str]) -> ItemNumbers:
    """Add a text for each class, worded by all the templates; return their numbers."""
    wordings = [tuple(template.replace("{}", name) for template in templates) for name in names]
    return np.array([sheet.add_text(*wording) for wording in wordings], np.int64)
