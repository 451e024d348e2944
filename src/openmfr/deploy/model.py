"""An ONNX file as an `Embedder`: aligned faces → embeddings, without torch.

Two kinds of files are known. Those that `openmfr export` wrote take faces as they are, uint8, and
say so in their metadata. Any other recogniser in the style of ArcFace, one image in and one vector
out, runs too, once the user has declared what its pixels mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import numpy.typing as npt

from openmfr.deploy.engine import Engine, Port, Runtime, open_engine
from openmfr.deploy.input_spec import (
    INSIGHTFACE,
    InputSpec,
    Layout,
    Pixels,
    PixelType,
    UInt8Array,
    read_input,
)
from openmfr.errors import UserError
from openmfr.files import fingerprint, sha256_of_file

__all__ = ["InputSpec", "OnnxModel", "Pixels", "read_input"]

Float32Array = npt.NDArray[np.float32]

FORMAT_VERSION: Final = "1"
#: Keys of the metadata of files that openmfr wrote.
VERSION_KEY: Final = "openmfr.format_version"
INPUT_KEY: Final = "openmfr.input"
FINGERPRINT_KEY: Final = "openmfr.fingerprint"
CARD_KEY: Final = "openmfr.card"
#: Outputs of files that openmfr wrote.
EMBEDDING: Final = "embedding"
LENGTH: Final = "length"

#: How an ONNX file names another that holds weights: the key "location" and its value, in protobuf.
_WEIGHTS_ELSEWHERE: Final = re.compile(rb"\x0a\x08location\x12([\x01-\x7f])")


class OnnxModel:
    """Embeds with an ONNX network; safe to share between threads.

    Args:
        path: ONNX file.
        spec: What its input means, for a file that openmfr did not write: `Pixels`, if the graph
            has the rest, as most do; or a whole `InputSpec`.
        threads: How many compute one call; all of this process's CPUs by default.
        providers: Where ONNX Runtime computes, the preferred first; on the CPU by default.
        runtime: "onnxruntime", or "openvino" where that is installed.

    Attributes:
        path: The file.
        spec: What the input means.
        card: The model card of a file that openmfr wrote; empty for others.

    Raises:
        UserError: If the file is unreadable, is no recogniser, or its input was not declared.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        spec: Pixels | None = None,
        threads: int | None = None,
        providers: Sequence[str] | None = None,
        runtime: Runtime = "onnxruntime",
    ) -> None:
        self.path = Path(path)
        self._opened_with = (self.path, spec, providers, runtime)
        self._engine = open_engine(self.path, runtime=runtime, threads=threads, providers=providers)
        if VERSION_KEY in self._engine.metadata:
            self.spec = _own_spec(self.path, self._engine, spec)
        else:
            self.spec = _foreign_spec(self.path, self._engine, spec)
        self.card = read_card(self.path, self._engine)
        self._output = _find_output(self.path, self._engine.outputs)
        self._embedding_dim = self._output.shape[-1] if len(self._output.shape) == 2 else None
        if self._embedding_dim is None:
            black = np.zeros((1, self.spec.face_size, self.spec.face_size, 3), np.uint8)
            self._embedding_dim = self._run(black).shape[1]

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to other processes as a path; each loads the weights once, for one thread."""
        return _reopened, self._opened_with

    @property
    def embedding_dim(self) -> int:
        """D."""
        assert self._embedding_dim is not None
        return self._embedding_dim

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the weights and what the input means, whatever runs them."""
        if own := self._engine.metadata.get(FINGERPRINT_KEY):
            return own
        return fingerprint(*_hashes_of_weights(self.path), self.spec.to_json())

    @property
    def face_size(self) -> int:
        """Edge in pixels of the aligned faces that `embed` takes."""
        return self.spec.face_size

    def embed(self, images: UInt8Array) -> Float32Array:
        """Map aligned RGB faces, uint8 (B, S, S, 3), to embeddings, float32 (B, D), not normalised.

        The length of an embedding says how sure the network is. Any B will do, also for a network
        that is made for one image at a time.

        Raises:
            UserError: If the images have another shape or type, or the network gives no numbers.
        """
        size = self.spec.face_size
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (size, size, 3):
            raise UserError(
                where=f"images for {self.path}",
                found=f"{images.dtype} {images.shape}",
                allowed=f"uint8 (B, {size}, {size}, 3)",
                next_step=f"align faces to {size} pixels: openmfr ingest --size {size}",
            )
        parts = [self._run(part) for part in self._batches(images)]
        if not parts:
            return np.zeros((0, self.embedding_dim), np.float32)
        embeddings = np.concatenate(parts)[: len(images)]
        if not (is_finite := np.isfinite(embeddings).all(axis=1)).all():
            raise UserError(
                where=str(self.path),
                found=f"no finite embedding for image {int(np.argmin(is_finite))} of the batch",
                allowed="finite numbers",
                next_step="check the declared mean and std, or export the model again in float32",
            )
        return embeddings

    def _batches(self, images: UInt8Array) -> Iterator[UInt8Array]:
        """Split into batches of the size that the network is made for; the last is filled up."""
        fixed = self._engine.inputs[0].shape[0]
        if fixed is None:
            if len(images):
                yield images
            return
        for start in range(0, len(images), fixed):
            part = images[start : start + fixed]
            missing = fixed - len(part)
            yield np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part

    def _run(self, images: UInt8Array) -> Float32Array:
        found = self._engine.run(self.spec.prepare(images))
        embeddings: Float32Array = np.asarray(found[self._output.name], np.float32)
        embeddings = embeddings.reshape(len(images), -1)  # some have (B, D, 1, 1)
        if LENGTH in found and self._output.name == EMBEDDING:
            embeddings = embeddings * found[LENGTH].reshape(-1, 1)
        return embeddings


@lru_cache(maxsize=1)
def _reopened(
    path: Path, spec: Pixels | None, providers: Sequence[str] | None, runtime: Runtime
) -> OnnxModel:
    return OnnxModel(path, spec=spec, threads=1, providers=providers, runtime=runtime)


def _own_spec(path: Path, engine: Engine, declared: Pixels | None) -> InputSpec:
    """Read what a file that openmfr wrote says of itself."""
    version = engine.metadata[VERSION_KEY]
    if version != FORMAT_VERSION or INPUT_KEY not in engine.metadata:
        raise UserError(
            where=f"{path}, {VERSION_KEY}",
            found=version,
            allowed=FORMAT_VERSION,
            next_step="update openmfr, or export the model again",
        )
    spec = InputSpec.from_json(engine.metadata[INPUT_KEY], where=f"{path}, {INPUT_KEY}")
    if declared is not None and declared != spec:
        raise UserError(
            where="input",
            found=f"a declaration for {path}, which says itself what it takes",
            allowed="declarations only for files that openmfr did not write",
            next_step="leave it out",
        )
    _check_shape(path, spec, _image_port(path, engine))
    return spec


def _foreign_spec(path: Path, engine: Engine, declared: Pixels | None) -> InputSpec:
    """Put together what the graph says and what the user declared."""
    port = _image_port(path, engine)
    if declared is None:
        raise UserError(
            where=str(path),
            found=f"an ONNX file that does not say what its pixels mean (input {port})",
            allowed="a file that openmfr export wrote, or a declared colour order, mean and std",
            next_step=f'declare them with --input {INSIGHTFACE}, in Python spec=Pixels(color="RGB",'
            " mean=127.5, std=127.5): these are those of InsightFace's models",
        )
    if isinstance(declared, InputSpec):
        _check_shape(path, declared, port)
        return declared
    layout, height, width = _read_shape(port)
    if height is None or width is None or layout is None or port.dtype not in get_args(PixelType):
        raise UserError(
            where=str(path),
            found=f"input {port}",
            allowed="uint8 or float32, N×3×H×W or N×H×W×3 with H and W known",
            next_step="declare height, width, layout and dtype in a JSON file: --input input.json; "
            "types other than these two are not supported",
        )
    return InputSpec(
        color=declared.color,
        mean=declared.mean,
        std=declared.std,
        height=height,
        width=width,
        layout=layout,
        dtype="uint8" if port.dtype == "uint8" else "float32",
    )


def _read_shape(port: Port) -> tuple[Layout | None, int | None, int | None]:
    """Find layout, height and width in the shape of an input."""
    match port.shape:
        case (_, 3, height, width):
            return "NCHW", height, width
        case (_, height, width, 3):
            return "NHWC", height, width
    return None, None, None


def _check_shape(path: Path, spec: InputSpec, port: Port) -> None:
    fits = len(port.shape) == 4 and all(
        size in (None, want) for size, want in zip(port.shape[1:], spec.shape, strict=True)
    )
    if not fits or port.dtype != spec.dtype:
        raise UserError(
            where=str(path),
            found=f"input {port}",
            allowed=f"{spec.dtype}, N×{'×'.join(map(str, spec.shape))}, as its description says",
            next_step="correct the description of the input, or choose another file",
        )


def _image_port(path: Path, engine: Engine) -> Port:
    if len(engine.inputs) == 1:
        return engine.inputs[0]
    raise UserError(
        where=str(path),
        found=f"{len(engine.inputs)} inputs: {'; '.join(map(str, engine.inputs))}",
        allowed="one: the image",
        next_step="choose the ONNX file of a recogniser",
    )


def _find_output(path: Path, outputs: Sequence[Port]) -> Port:
    """Find the embedding among the outputs: the one of that name, or the only one."""
    named = [port for port in outputs if port.name == EMBEDDING]
    chosen = named or list(outputs)
    if len(chosen) == 1 and len(chosen[0].shape) in (2, 4):
        return chosen[0]
    raise UserError(
        where=str(path),
        found=f"outputs {'; '.join(map(str, outputs))}",
        allowed=f"one vector for each image, or an output named {EMBEDDING} among several",
        next_step="choose the ONNX file of a recogniser; detectors and classifiers are none",
    )


def read_card(path: Path, engine: Engine) -> dict[str, Any]:
    """Read the model card of an ONNX file; empty for a file that openmfr did not write.

    Raises:
        UserError: If it is no JSON object.
    """
    try:
        card = json.loads(engine.metadata.get(CARD_KEY, "{}"))
    except json.JSONDecodeError:
        card = None
    if isinstance(card, dict):
        return card
    raise UserError(
        where=f"{path}, {CARD_KEY}",
        found="no JSON object",
        allowed="a model card",
        next_step="export the model again",
    )


def _hashes_of_weights(path: Path) -> list[str]:
    """Hash an ONNX file and the files beside it in which it keeps weights."""
    content = path.read_bytes()
    names = {
        content[found.end() : found.end() + found[1][0]].decode(errors="replace")
        for found in _WEIGHTS_ELSEWHERE.finditer(content)
    }
    beside = (path.parent / name for name in sorted(names))
    return [sha256_of_file(file) for file in (path, *beside) if file.is_file()]
