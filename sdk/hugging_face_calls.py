"""Hugging Face's InferenceClient, as it asks Text Embeddings Inference and an endpoint."""

from __future__ import annotations

from pathlib import Path

from calls import check, run_calls
from huggingface_hub import InferenceClient

HEART = Path(__file__).resolve().parent.parent / "examples" / "heart.png"


def features(url: str) -> None:
    """Texts at the root, as TEI has it, and one at /embed."""
    client = InferenceClient(model=url, token="none")
    check(client.feature_extraction("a cat").shape == (1, 256))
    check(client.feature_extraction(["a cat", "a dog"], truncate=True).shape == (2, 256))
    at_embed = InferenceClient(model=f"{url}/embed", token="none")
    check(at_embed.feature_extraction("a cat").shape == (1, 256))


def zero_shot(url: str) -> None:
    """One image, labels best first."""
    client = InferenceClient(model=f"{url}/zeroshot", token="none")
    told = client.zero_shot_image_classification(HEART, candidate_labels=["sun", "red heart"])
    check(told[0].label == "red heart", told)


if __name__ == "__main__":
    run_calls(
        "huggingface_hub",
        {"feature_extraction": features, "zero_shot_image_classification": zero_shot},
    )
