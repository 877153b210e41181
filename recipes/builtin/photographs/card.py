"""What a user should know of the encoder of photographs and drawings before choosing it."""

from __future__ import annotations

from recipes.builtin.words import LANGUAGES
from twinlens.bundle.model_card import ModelCard

CARD = ModelCard(
    domain="photographs of things and animals; emoji, icons and clothes",
    good_for=(
        "photographs by what they show: animals, vehicles, food, tools, furniture, buildings",
        "emoji, icons and flat drawings, and single pieces of clothing",
        "searching one's own pictures offline, in eleven languages",
    ),
    not_for=(
        "people: who they are, what they do, how they feel",
        "colours, counts, positions and negation in photographs",
        "places and events",
        "decisions about people",
    ),
    languages=LANGUAGES,
    licence="Apache-2.0; NOTICE names the weights, word lists and artwork that it came from",
    training_data=(
        "an EfficientNet-Lite0 trained on ImageNet by others; 312,351 words, definitions and"
        " captions in twelve languages, without pictures; and all that builtin:drawings learned"
        " from; docs/builtin.md"
    ),
)
