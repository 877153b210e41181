"""The rewritten towers against the modules that they rewrite, and attention against a hook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import open_clip
import pytest
import timm
import torch
from torch import nn

from twinlens.bundle.manifest import TextSpec
from twinlens.training.export.blocks import FirstToken, PooledBlock, read_block
from twinlens.training.export.lean_image import lean_image, project_patches, read_attention
from twinlens.training.export.towers import find_padding_reason
from twinlens.training.export.wrappers import unit_rows

if TYPE_CHECKING:
    from tests.training.export.conftest import Exported

TOLERANCE = 2e-5


def build_block(kind: str) -> Any:
    """Return one block of either library, every gain of it away from its start."""
    torch.manual_seed(1)
    if kind == "open_clip":
        block: Any = open_clip.transformer.ResidualAttentionBlock(48, 4, ls_init_value=0.7)
    else:
        make = timm.models.vision_transformer.Block
        block = make(48, 4, qkv_bias=True, qk_norm=True, scale_attn_norm=True, init_values=0.7)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    return block.eval()


@pytest.mark.parametrize("kind", ["open_clip", "timm"])
@torch.no_grad()
def test_a_lean_block_computes_the_librarys_block(kind: str) -> None:
    block, x = build_block(kind), torch.randn(3, 7, 48)
    lean = read_block(block)
    assert lean is not None
    torch.testing.assert_close(lean(x), block(x), atol=TOLERANCE, rtol=1e-4)


@pytest.mark.parametrize("kind", ["open_clip", "timm"])
@torch.no_grad()
def test_a_causal_lean_block_computes_the_librarys_masked_block(kind: str) -> None:
    block, x = build_block(kind), torch.randn(3, 7, 48)
    lean = read_block(block)
    assert lean is not None
    mask = torch.full((7, 7), float("-inf")).triu(1)
    torch.testing.assert_close(
        lean(x, causal=True), block(x, attn_mask=mask), atol=TOLERANCE, rtol=1e-4
    )


@pytest.mark.parametrize("kind", ["open_clip", "timm"])
@torch.no_grad()
def test_a_pooled_block_gives_one_token_of_the_whole_block(kind: str) -> None:
    block, x = build_block(kind), torch.randn(3, 7, 48)
    lean = read_block(block)
    assert lean is not None
    whole = block(x)
    torch.testing.assert_close(FirstToken(lean)(x), whole[:, :1], atol=TOLERANCE, rtol=1e-4)
    keep = (torch.arange(7) <= 4).view(1, 1, 1, 7)
    masked = lean(x, causal=True)[:, 4:5]
    torch.testing.assert_close(
        PooledBlock(lean)(x, x[:, 4:5], keep), masked, atol=TOLERANCE, rtol=1e-4
    )


def test_a_block_of_another_build_is_left_to_its_library() -> None:
    assert read_block(open_clip.transformer.CustomResidualAttentionBlock(48, 4)) is None
    assert read_block(timm.models.vision_transformer.ParallelScalingBlock(48, 4)) is None
    assert lean_image(timm.create_model("resnet10t")) is None


def test_rewriting_a_tower_leaves_the_tower_as_it_was_and_shares_its_weights() -> None:
    tower = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=2)
    before = repr(tower)
    lean = lean_image(tower)
    assert lean is not None
    assert repr(tower) == before
    addresses = {p.untyped_storage().data_ptr() for p in tower.parameters()}
    assert {p.untyped_storage().data_ptr() for p in lean.parameters()} <= addresses


@torch.no_grad()
def test_a_patch_convolution_is_the_same_as_a_matrix_product() -> None:
    conv, x = nn.Conv2d(3, 20, (4, 8), stride=(4, 8)), torch.randn(2, 3, 16, 32)
    projection = project_patches(conv)
    assert projection is not conv
    torch.testing.assert_close(projection(x), conv(x), atol=1e-5, rtol=1e-4)
    overlapping = nn.Conv2d(3, 20, 7, stride=4)
    assert project_patches(overlapping) is overlapping


@torch.no_grad()
def test_the_attention_map_is_what_the_last_layer_of_the_whole_model_does() -> None:
    torch.manual_seed(3)
    tower: Any = timm.create_model(
        "vit_small_patch14_reg4_dinov2", num_classes=0, img_size=42, depth=3, embed_dim=48,
        num_heads=3,
    ).eval()  # fmt: skip
    last, seen = tower.blocks[-1].attn, []
    last.fused_attn = False  # so that the probabilities pass through a module
    last.attn_drop.register_forward_hook(lambda *parts: seen.append(parts[2]))
    x = torch.randn(2, 3, 42, 42)
    tower(x)
    attention = read_attention(tower)
    assert attention is not None
    patches = seen[0][:, :, 0, 5:]  # a class token and four registers come first
    expected = (patches / patches.sum(-1, keepdim=True)).view(2, 3, 3, 3)
    torch.testing.assert_close(attention.module(x), expected, atol=1e-6, rtol=1e-4)
    assert (attention.heads, attention.rows, attention.columns) == (3, 3, 3)


def test_a_tower_pooled_over_all_patches_has_no_class_attention() -> None:
    tower = timm.create_model("vit_tiny_patch16_224", global_pool="avg", depth=1)
    assert read_attention(tower) is None
    assert lean_image(tower) is not None


def test_a_causal_text_tower_is_cut_and_its_manifest_says_so(exported_vit: Exported) -> None:
    spec = exported_vit.manifest.text
    assert spec is not None
    assert (spec.cut_to_longest, spec.padding_reason) == (True, "")


class MeanText(nn.Module):
    """A two-way tower: the mean of its tokens, with or without those that pad."""

    def __init__(self, *, masked: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.masked = nn.Embedding(50, 8), masked

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        seen = (tokens != 0).float() if self.masked else torch.ones(tokens.shape)
        rows: torch.Tensor = self.table(tokens) * seen[..., None]
        return rows.sum(1) / seen.sum(1, keepdim=True)


@torch.no_grad()
def test_texts_are_cut_exactly_where_that_changes_nothing() -> None:
    spec = TextSpec("text.onnx", "tokenizer.json", "huggingface", context_length=12)
    rows = [[3, 4, 5], [7, 8], list(range(1, 13))]
    padded = torch.tensor([row + [0] * (12 - len(row)) for row in rows])
    masked, blind = MeanText(masked=True), MeanText(masked=False)
    assert find_padding_reason(masked, rows, spec, unit_rows(masked(padded))) == ""
    reason = find_padding_reason(blind, rows, spec, unit_rows(blind(padded)))
    assert "cut to 2 tokens the embeddings change by" in reason
