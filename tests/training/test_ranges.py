"""Every setting has a range, every recipe lies within, and a value outside is refused in words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.training.family import small_config, with_settings, write_images
from twinlens.errors import InputError
from twinlens.training.config import Config, apply_sets, get_value, known_keys
from twinlens.training.loop.loop import train
from twinlens.training.objectives import METHODS
from twinlens.training.ranges import Range, check_config, find_range
from twinlens.training.recipes import list_recipes, open_recipe


def numbers(value: Any) -> list[float]:
    """Return the numbers of a setting's value."""
    values = value if isinstance(value, tuple) else (value,)
    return [one for one in values if isinstance(one, int | float) and not isinstance(one, bool)]


@pytest.mark.parametrize("method", METHODS)
def test_every_recipe_is_accepted_and_every_number_of_it_has_a_range(method: str) -> None:
    for recipe in list_recipes(method).values():
        config = recipe()
        check_config(config)
        for instance in (config.objective, config.settings):
            for key in known_keys(instance):
                if numbers(get_value(instance, key)):
                    assert find_range(method, key) is not None, f"{method} {key}: no range"


@pytest.mark.parametrize("method", METHODS)
def test_no_number_may_be_infinite_or_below_its_range(method: str) -> None:
    config = open_recipe(method, "default")
    for instance in (config.objective, config.settings):
        for key in known_keys(instance):
            found, allowed = numbers(get_value(instance, key)), find_range(method, key)
            if not found or allowed is None or allowed == Range():
                continue
            below = str(int(min(0, allowed.low)) - 1)
            wrong = [below] + (["nan"] if isinstance(found[0], float) else [])
            for text in wrong:
                pair = f"{key}={','.join([text] * len(found))}"
                with pytest.raises(
                    InputError, match=rf"^{re.escape(key)} is .*; it must be "
                ) as told:
                    check_config(apply_sets(config, [pair]))
                assert told.value.field == key


@pytest.mark.parametrize(
    ("method", "pairs", "message"),
    [
        (
            "simclr",
            ["temperature=0"],
            "temperature is 0; it must be above 0; --set temperature=0.2",
        ),
        ("simclr", ["temperature=-1"], "temperature is -1; it must be above 0"),
        ("simclr", ["batch=0"], "batch is 0; it must be at least 1; --set batch=256"),
        ("simclr", ["batch=1"], "at least 2, since simclr compares the images"),
        ("simclr", ["steps=-3"], "steps is -3; it must be at least 0"),
        ("simclr", ["epochs=0"], "epochs and steps are 0; one of them must be above 0"),
        ("byol", ["chunk=3", "accumulate=4"], "turn one off: --set accumulate=1 or --set chunk=0"),
        ("simclr", ["accumulate=2"], "fewer negatives"),
        ("byol", ["batch=10", "accumulate=4"], "does not divide into 4 .*--set accumulate=2"),
        ("clip", ["text_heads=7"], "text_heads is 7; it must divide text_width, which is 256"),
        ("mae", ["attention_heads=3"], "attention_heads is 3; it must divide width"),
        ("simclr", ["crops.scale_max=0.1"], "crops.scale_min is 0.2 and crops.scale_max is 0.1"),
        ("simclr", ["crops.blur=0.5,1.5"], "crops.blur is 0.5,1.5; .* at most 1"),
        ("simclr", ["std=0,1,1"], "std is 0,1,1; it must be above 0"),
        ("mae", ["ratio=1"], "ratio is 1; it must be above 0 and below 1"),
    ],
)
def test_a_wrong_value_is_named_with_what_it_may_be_and_what_to_set(
    method: str, pairs: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_config(apply_sets(open_recipe(method, "default"), pairs))


def test_the_remedy_that_an_error_names_is_accepted() -> None:
    for method in METHODS:
        config = open_recipe(method, "default")
        for key in known_keys(config.objective):
            if not numbers(get_value(config.objective, key)):
                continue
            if find_range(method, key) in (None, Range()):
                continue
            wrong = apply_sets(config, [f"{key}=-1"])
            with pytest.raises(InputError) as told:
                check_config(wrong)
            remedy = told.value.message.rpartition("--set ")[2]
            assert remedy.startswith(f"{key}=")
            mended = apply_sets(wrong, [remedy])
            try:
                check_config(mended)
            except InputError as error:  # the default beside the recipe's other bound
                assert "must not be above" in error.message


def refuses(config: Config, where: str, out: Path, message: str) -> None:
    with pytest.raises(InputError, match=message):
        train(config, where, out)
    assert not out.exists()


def test_a_wrong_value_and_a_wrong_encoder_are_refused_before_the_data_are_looked_for(
    tmp_path: Path,
) -> None:
    out = tmp_path / "run"
    refuses(small_config("simclr", batch=0), "nowhere", out, "batch is 0")
    refuses(small_config("simclr", encoder="resnet81"), "nowhere", out, "did you mean 'resnet18'")
    refuses(small_config("clip", encoder="resnet81"), "nowhere", out, "did you mean 'resnet18'")
    blind = with_settings(small_config("mae"), encoder="resnet18")
    refuses(blind, "nowhere", out, "hides patches")
    refuses(small_config("simclr", encoder="timm:nothing"), "nowhere", out, "timm:nothing")
    refuses(small_config("simclr", accumulate=3, batch=8), "nowhere", out, "fewer negatives")


def test_too_few_images_are_told_before_one_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_images(tmp_path / "data", 5)
    monkeypatch.setattr(
        "twinlens.training.data.pixels.PixelStore._try",
        lambda self, record: pytest.fail("an image was decoded"),
    )
    refuses(small_config("simclr", batch=8), str(data), tmp_path / "run", "--set batch=4")
    name = {"tokenizer": str(tmp_path / "none.json"), "batch": 4}
    refuses(small_config("clip", **name), str(data), tmp_path / "run", "no such file")


def test_released_weights_that_cannot_be_had_offline_are_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timm = pytest.importorskip("timm")
    hub = pytest.importorskip("huggingface_hub")

    def fail(*arguments: Any, **options: Any) -> Any:
        raise hub.errors.LocalEntryNotFoundError("cannot find the file in the local cache")

    monkeypatch.setattr(timm, "create_model", fail)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = small_config("simclr", encoder="timm:resnet18", pretrained=True)
    refuses(
        config, "nowhere", tmp_path / "run",
        r"encoder 'timm:resnet18' cannot be fetched: the model hub cannot be reached; run once",
    )  # fmt: skip
