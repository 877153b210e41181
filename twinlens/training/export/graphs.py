"""From torch modules to ONNX files: tracing, short names, weights in one shared external file.

What must stay true: graphs saved together store each distinct weight once, and no file reveals the
machine that wrote it (the tracer's notes contain source paths).
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.export import Dim

# 23 is the first opset with Attention. ONNX Runtime runs it as fast as the nine nodes that it
# replaces, and faster after int8 quantisation.
OPSET: Final = 23
_CHATTERING: Final = ("torch.onnx", "onnxscript.optimizer._constant_folding")
_INLINE_BYTES: Final = 1024  # smaller tensors stay in the graph file
_ALIGNMENT: Final = 4096  # one page, so that a runtime can map a tensor instead of reading it


def trace(
    module: nn.Module, example: Tensor, names: tuple[str, str], dims: Mapping[int, str]
) -> ir.Model:
    """Return `module` as a graph with the given input and output `names`.

    `dims` names the input's axes of any size; `name:max` sets an upper bound.
    """
    shapes = {axis: _dimension(text) for axis, text in dims.items()}
    with _quiet_tracer(), torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[names[0]],
            output_names=[_TEMPORARY],
            dynamic_shapes=(shapes,),
            verbose=False,
        )
    assert program is not None
    model = program.model
    _strip_notes(model)
    _name_output(model, names[1])
    return model


def save_graphs(graphs: Mapping[Path, ir.Model], weights: Path) -> None:
    """Write the graphs, with their weights in the one file `weights` beside them."""
    places: dict[tuple[Any, ...], tuple[int, int]] = {}
    with weights.open("wb") as file:
        for model in graphs.values():
            for value in model.graph.initializers.values():
                _move_out(value, weights.name, file, places)
                # A shape stored twice would be wrong once a quantiser has transposed the weight.
                value.shape = value.type = None
    if not places:
        weights.unlink()
    for path, model in graphs.items():
        model.producer_name, model.producer_version = "twinlens", None
        ir.save(model, path)


_TEMPORARY: Final = "twinlens_output"


def _dimension(text: str) -> Dim:
    name, _, most = text.partition(":")
    return Dim(name, min=1, max=int(most)) if most else Dim(name)


def _move_out(
    value: ir.Value, location: str, file: Any, places: dict[tuple[Any, ...], tuple[int, int]]
) -> None:
    """Replace the tensor of `value` by a reference into `file`, appended if it is new there."""
    tensor = value.const_value
    if tensor is None or tensor.nbytes < _INLINE_BYTES:
        return
    content = tensor.tobytes()
    # The dtype is not part of the key: equal bytes may be read as either.
    key = (len(content), hashlib.sha256(content).digest())
    if key not in places:
        file.write(b"\0" * (-file.tell() % _ALIGNMENT))
        places[key] = (file.tell(), len(content))
        file.write(content)
    offset, length = places[key]
    value.const_value = ir.ExternalTensor(
        location,
        offset,
        length,
        tensor.dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=value.name or "",
    )


def _name_output(model: ir.Model, name: str) -> None:
    """Give the only output its `name`, which a torch op may have taken for an inner value."""
    (output,) = model.graph.outputs
    for node in model.graph:
        for value in node.outputs:
            if value.name == name and value is not output:
                value.name = f"{name}_inner"
    output.name = name


def _strip_notes(model: ir.Model) -> None:
    """Remove the tracer's notes: stack traces with local paths, larger than the graph itself."""
    graph = model.graph
    values = [*graph.inputs, *graph.initializers.values()]
    values += [value for node in graph for value in node.outputs]
    for part in (model, graph, *graph, *values):
        part.metadata_props.clear()
        part.doc_string = None


@contextmanager
def _quiet_tracer() -> Iterator[None]:
    """Silence warnings that the tracer logs for every model."""
    loggers = [logging.getLogger(name) for name in _CHATTERING]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.|onnx")
            warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.|copyreg")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
