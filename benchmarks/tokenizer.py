"""The CLIP tokenizer beside open_clip's SimpleTokenizer: equality of ids, and the ratio of speeds.

Equality over a million fuzz strings (`--quick`: 100,000), those of the tests and more; speed on
short captions, alternating in this process. Hugging Face's Rust tokenizer with the same merges is
timed too: its cleaning is not open_clip's, so it gets texts that open_clip has cleaned.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import open_clip.tokenizer
import tokenizers
import torch
from report import Report, parse_arguments, time_interleaved
from tokenizers import models, normalizers, pre_tokenizers, processors

from twinlens.bundle.manifest import TextSpec
from twinlens.bundle.text.clip_vocabulary import END_OF_WORD, write_merges
from twinlens.bundle.text.tokenizer import Tokenizer, open_tokenizer

sys.path.append(str(Path(__file__).resolve().parent.parent))
from tests.bundle.text.fuzz_texts import fuzz_texts

CAPTIONS = 2_000
WORDS = """
    a photo of the red big small dog cat car tree house street person man woman child running
    sitting on in under near beach mountain river sky sunset old new bright dark wooden glass
    metal with and two three many playing eating holding umbrella bicycle horse train plane it's
""".split()  # noqa: SIM905


def main() -> None:
    """Measure speed, then equality."""
    arguments = parse_arguments(__doc__)
    torch.set_num_threads(1)
    report = Report("tokenizer")
    reference = open_clip.tokenizer.SimpleTokenizer()
    tokenizer = open_ours(reference)
    measure_speed(report, reference, tokenizer, rounds=5 if arguments.quick else 15)
    measure_equality(report, reference, tokenizer, 100_000 if arguments.quick else 1_000_000)
    report.finish(arguments.json)


def open_ours(reference: Any) -> Tokenizer:
    """Return our tokenizer with the reference's merges, read from a file as in a bundle."""
    with tempfile.TemporaryDirectory() as folder:
        write_merges(Path(folder) / "merges.txt.gz", reference.bpe_ranks)
        spec = TextSpec("text.onnx", "merges.txt.gz", "clip", context_length=77)
        return open_tokenizer(spec, Path(folder))


def measure_speed(report: Report, reference: Any, tokenizer: Tokenizer, rounds: int) -> None:
    """Time short captions, every word of which was seen before."""
    rng = random.Random(0)
    captions = [
        " ".join(rng.choices(WORDS, k=rng.randint(6, 12))) + rng.choice(["", "."])
        for _ in range(CAPTIONS)
    ]
    rust = build_rust(reference)
    contenders: dict[str, Callable[[], object]] = {
        "open_clip SimpleTokenizer": lambda: reference(captions),
        "tokenizers (Rust), ids only": lambda: rust.encode_batch_fast(captions),
        "twinlens, batch padded to 77": lambda: tokenizer.batch(captions, cut=False),
        "twinlens, batch cut": lambda: tokenizer.batch(captions, cut=True),
    }
    times = time_interleaved(contenders, rounds)
    slowest = times["open_clip SimpleTokenizer"]
    for name, seconds in times.items():
        report.row(contender=name, us_a_text=seconds / CAPTIONS * 1e6, ratio=slowest / seconds)
    ratio = slowest / times["twinlens, batch padded to 77"]
    report.bar("tokenizer_speed", ratio, 6.0, ratio >= 6.0)


def measure_equality(report: Report, reference: Any, tokenizer: Tokenizer, count: int) -> None:
    """Count the strings with ids other than the reference's."""
    texts = fuzz_texts(count)
    rust, wrong, rust_wrong = build_rust(reference), 0, 0
    while part := list(islice(texts, 2_000)):
        expected = reference(part).numpy()
        wrong += int((tokenizer.batch(part, cut=False) != expected).any(1).sum())
        rust_wrong += count_other(rust, [reference.clean_fn(text) for text in part], expected)
    report.row(contender=f"twinlens, {count:,} fuzz strings", mismatches=wrong)
    report.row(contender=f"tokenizers (Rust), {count:,} fuzz strings", mismatches=rust_wrong)
    report.bar("tokenizer_mismatches", wrong, 0, wrong == 0)


def build_rust(reference: Any) -> tokenizers.Tokenizer:
    """Return a tokenizer of Hugging Face's library with the same merges and word rule."""
    model = models.BPE(
        vocab=reference.encoder, merges=list(reference.bpe_ranks), end_of_word_suffix=END_OF_WORD
    )
    rust = tokenizers.Tokenizer(model)
    rust.normalizer = normalizers.Lowercase()
    words = tokenizers.Regex(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")
    rust.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    specials = [(token, reference.encoder[token]) for token in ("<start_of_text>", "<end_of_text>")]
    rust.add_special_tokens([token for token, _ in specials])
    rust.post_processor = processors.TemplateProcessing(
        single=f"{specials[0][0]} $A {specials[1][0]}", pair=None, special_tokens=specials
    )
    rust.enable_truncation(77)
    return rust


def count_other(rust: tokenizers.Tokenizer, texts: Sequence[str], expected: Any) -> int:
    """Return how many texts get other ids from the Rust tokenizer."""
    rows = [encoding.ids for encoding in rust.encode_batch_fast(list(texts))]
    return sum(
        not np.array_equal(row, ids[: len(row)]) or bool(ids[len(row) :].any())
        for row, ids in zip(rows, expected, strict=True)
    )


if __name__ == "__main__":
    main()
