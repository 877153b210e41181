"""One file, three executors: the reference evaluator, stock ONNX Runtime, and our library in it."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from twinlens.errors import InputError
from twinlens.kernels.onnx.attach import build_similarity, build_topk
from twinlens.kernels.onnx.build import build_library
from twinlens.kernels.onnx.register import DOMAIN, OP_TYPES, Kind

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None,
    reason="building the library needs g++ (apt-get install g++); serving on a CPU does not",
)

Array = npt.NDArray[Any]
CPU: Final = ["CPUExecutionProvider"]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library without machine code for GPUs: g++ alone, a few seconds."""
    return build_library(tmp_path_factory.mktemp("library"), architectures=()).library


def _options(library: Path | None, **settings: Any) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    for name, value in settings.items():
        setattr(options, name, value)
    if library is not None:
        options.register_custom_ops_library(str(library))
    return options


def _run(model: onnx.ModelProto, feeds: dict[str, Array], library: Path | None) -> list[Array]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), _options(library), providers=CPU
    )
    outputs: list[Array] = session.run(None, feeds)
    return outputs


def _unit_rows(n: int, d: int = 64) -> Array:
    rows = np.random.default_rng(n).standard_normal((n, d))
    unit: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit.astype(np.float32)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (7, 203), (33, 5)])
def test_three_executors_agree_to_a_millionth(kind: Kind, n: int, m: int, library: Path) -> None:
    model = build_similarity(kind, scale=20.0, bias=-3.0)
    feeds = {"embeddings": _unit_rows(n), "classes": _unit_rows(m)}
    evaluated: Any = ReferenceEvaluator(model).run(None, feeds)
    stock, ours = _run(model, feeds, None), _run(model, feeds, library)
    for other in (evaluated, stock):
        assert np.abs(ours[0] - other[0]).max() <= 1e-6
        assert (ours[0].argmax(1) == other[0].argmax(1)).all()


@pytest.mark.parametrize(("n", "m", "k"), [(5, 203, 8), (1, 3, 3), (4, 10, 1)])
def test_the_top_k_node_agrees_in_three_executors(n: int, m: int, k: int, library: Path) -> None:
    model = build_topk(scale=20.0)
    classes = _unit_rows(m)
    classes[m - 1] = classes[0]  # of equals the first must win, everywhere
    feeds = {"embeddings": _unit_rows(n), "classes": classes, "k": np.array([k])}
    evaluated: Any = ReferenceEvaluator(model).run(None, feeds)
    stock, ours = _run(model, feeds, None), _run(model, feeds, library)
    for other in (evaluated, stock):
        assert np.abs(ours[0] - other[0]).max() <= 1e-6
    assert (ours[1] == stock[1]).all()


def test_rows_are_normalised_inside_and_zeros_are_harmless(library: Path) -> None:
    model = build_similarity("softmax", scale=20.0)
    x, y = _unit_rows(3), _unit_rows(9)
    longer = x * np.array([[3.0], [0.01], [0.0]], np.float32)
    plain = _run(model, {"embeddings": x, "classes": y}, library)[0]
    scores = _run(model, {"embeddings": longer, "classes": y}, library)[0]
    np.testing.assert_allclose(scores[:2], plain[:2], atol=1e-6)
    np.testing.assert_allclose(scores[2], np.full(9, 1 / 9), atol=1e-6)


def test_the_library_wins_over_the_body_and_keeps_the_node(library: Path, tmp_path: Path) -> None:
    model = build_similarity("softmax", scale=20.0)
    ran = {}
    for name, used in (("stock", None), ("ours", library)):
        path = tmp_path / f"{name}.onnx"
        options = _options(used, optimized_model_filepath=str(path))
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=CPU)
        ran[name] = {node.op_type for node in onnx.load(path).graph.node}
    assert OP_TYPES["softmax"] in ran["ours"]
    assert OP_TYPES["softmax"] not in ran["stock"]


def test_a_node_without_a_body_runs_only_with_the_library(library: Path) -> None:
    model = build_similarity("softmax", scale=20.0)
    feeds = {"embeddings": _unit_rows(3), "classes": _unit_rows(4)}
    want = _run(model, feeds, None)[0]
    del model.functions[:]
    np.testing.assert_allclose(_run(model, feeds, library)[0], want, atol=1e-6)
    with pytest.raises(Exception, match=OP_TYPES["softmax"]):
        _run(model, feeds, None)


def test_a_session_that_asked_for_cuda_in_vain_gets_the_cpu_kernel(library: Path) -> None:
    """ONNX Runtime lists CUDA where there is none, and then falls back without an error."""
    code = (
        "import sys, numpy as np, onnxruntime as ort\n"
        "options = ort.SessionOptions(); options.log_severity_level = 4\n"
        "options.register_custom_ops_library(sys.argv[1])\n"
        "wanted = ['CUDAExecutionProvider', 'CPUExecutionProvider']\n"
        "session = ort.InferenceSession(sys.argv[2], options, providers=wanted)\n"
        "x = np.eye(3, 8, dtype=np.float32)\n"
        "p = session.run(['scores'], {'embeddings': x, 'classes': x})[0]\n"
        "assert (p.argmax(1) == [0, 1, 2]).all()\n"
    )
    path = library.parent / "similarity.onnx"
    onnx.save(build_similarity("softmax", scale=20.0), path)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, library, path],
        capture_output=True,
        text=True,
        env={"TWINLENS_TRACE_KERNELS": "1", "CUDA_VISIBLE_DEVICES": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "twinlens: NormalizedSimilaritySoftmax on CPU" in done.stderr


_CUDA_ONLY = """
#include "similarity.cc"
TWINLENS_EXPORT Handle RegisterOnlyCuda(Handle options, const ort::ApiBase* base) {
  static Op op;
  static Handle domain = nullptr;
  uint32_t version = ort::kNewestApi;
  while (!(api = base->get(version)) && version > ort::kOldestApi) version--;
  op = make_op(version, kSoftmax, true);
  TRY(ort::call<ort::kCreateDomain>(api, "ai.twinlens", &domain));
  TRY(ort::call<ort::kDomainAdd>(api, domain, &op.table));
  return ort::call<ort::kSessionAddDomain>(api, options, domain);
}
"""


def test_a_library_with_cuda_alone_would_break_cpu_sessions(library: Path, tmp_path: Path) -> None:
    """The trap that the CPU kernels exist for: a registered operator hides the body entirely."""
    import twinlens.kernels.onnx.build as build

    source = tmp_path / "only_cuda.cc"
    source.write_text(_CUDA_ONLY.replace("RegisterOnlyCuda", "RegisterCustomOps2"))
    (tmp_path / "embedded_kernels.inc").write_text(
        "const Embedded kEmbedded[] = {{}};\nconst int kEmbeddedCount = 0;\n"
    )
    folder = Path(build.__file__).parent
    # The real entry is renamed, so that ours can stand in its place.
    subprocess.run(
        [
            "g++", "-std=c++17", "-fPIC", "-shared", "-fvisibility=hidden", "-w",
            "-DRegisterCustomOps=RegisterBoth", "-DRegisterCustomOps2=RegisterCustomOps_",
            f"-I{folder}", f"-I{tmp_path}", str(source), "-o", str(tmp_path / "only.so"), "-ldl",
            "-Wl,--defsym=RegisterCustomOps=RegisterCustomOps_",
        ],
        check=True,
    )  # fmt: skip
    model = build_similarity("softmax", scale=20.0)
    feeds = {"embeddings": _unit_rows(3), "classes": _unit_rows(4)}
    with pytest.raises(Exception, match="NOT_IMPLEMENTED"):
        _run(model, feeds, tmp_path / "only.so")


def test_widths_that_differ_are_refused_by_number(library: Path) -> None:
    node = helper.make_node(OP_TYPES["softmax"], ["X", "Y", "s"], ["P"], domain=DOMAIN)
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("X", ["n", "a"]), ("Y", ["m", "b"]), ("s", []))
    ]
    output = helper.make_tensor_value_info("P", TensorProto.FLOAT, ["n", "m"])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    graph = helper.make_graph([node], "g", inputs, [output])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    feeds = {
        "X": np.ones((2, 3), np.float32),
        "Y": np.ones((2, 4), np.float32),
        "s": np.array(1, np.float32),
    }
    with pytest.raises(Exception, match="X is 3 wide and Y 4"):
        _run(model, feeds, library)


def test_k_beyond_the_classes_is_refused(library: Path) -> None:
    feeds = {"embeddings": _unit_rows(2), "classes": _unit_rows(4), "k": np.array([5])}
    with pytest.raises(Exception, match="k is 5"):
        _run(build_topk(scale=20.0), feeds, library)


def test_the_output_keeps_its_symbolic_shape(library: Path) -> None:
    model = build_similarity("softmax", scale=20.0)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), _options(library), providers=CPU
    )
    shapes = {output.name: output.shape for output in session.get_outputs()}
    assert shapes["scores"] == ["n", "m"]


def test_without_a_driver_the_direct_launch_says_so(library: Path) -> None:
    loaded = ctypes.CDLL(str(library))
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        empty = ctypes.c_void_p()
        size = ctypes.c_int64(1)
        assert loaded.twinlens_score_cuda(*[empty] * 6, size, size, size) == 100001


def test_the_manifest_names_what_is_embedded(library: Path) -> None:
    manifest = json.loads(library.with_suffix(".json").read_text())
    assert manifest == {"format": 1, "sources": "no kernels", "kernels": []}
    assert ctypes.CDLL(str(library)).twinlens_embedded_count() == 0


def test_an_unknown_architecture_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="80, 90"):
        build_library(tmp_path, architectures=(70,))
