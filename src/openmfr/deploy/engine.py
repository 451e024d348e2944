"""What runs a network: ONNX Runtime, or OpenVINO for those who have it; the same few calls of both.

Both may be called from several threads at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError
from openmfr.workers import choose_workers

Runtime = Literal["onnxruntime", "openvino"]

#: Where ONNX Runtime computes by default.
CPU: Final = ("CPUExecutionProvider",)

#: The names by which a command knows a device → ONNX Runtime's.
PROVIDERS: Final[Mapping[str, tuple[str, ...]]] = {
    "cpu": CPU,
    # What a GPU cannot do falls to the CPU, node by node.
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
}

_NUMPY_TYPES: Final[Mapping[str, str]] = {"tensor(float)": "float32", "tensor(double)": "float64"}


@dataclass(frozen=True, kw_only=True)
class Port:
    """An input or output of a network.

    Attributes:
        name: In the graph.
        shape: Size of each axis; None where it may vary.
        dtype: numpy's name of the type.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def __str__(self) -> str:
        sizes = "×".join("N" if size is None else str(size) for size in self.shape)
        return f"{self.name}, {self.dtype}, {sizes}"


class Engine(Protocol):
    """A network that is ready to run."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    metadata: Mapping[str, str]

    def run(self, batch: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Give the first input a batch; return the outputs by name."""


class OnnxRuntime:
    """A network in ONNX Runtime.

    Args:
        path: ONNX file.
        threads: How many compute one call; all of this process's CPUs by default.
        providers: Where to compute, the preferred first.
        profile: Beginning of the name of a file for the times of every layer, which `end_profile`
            writes.

    Raises:
        UserError: If the file is unreadable, or a provider is not there.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int | None = None,
        providers: Sequence[str] = CPU,
        profile: Path | None = None,
    ) -> None:
        import onnxruntime

        _check_providers(providers, onnxruntime.get_available_providers())
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # warnings of a graph's odd but valid parts are not ours
        options.intra_op_num_threads = choose_workers(threads, where="threads")
        options.inter_op_num_threads = 1
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        self._session = _open(
            path,
            lambda: onnxruntime.InferenceSession(str(path), options, providers=list(providers)),
        )
        # A provider that fails to start is left out with no more than a warning.
        _check_providers(providers, self._session.get_providers())
        self.inputs = tuple(_port_of(node) for node in self._session.get_inputs())
        self.outputs = tuple(_port_of(node) for node in self._session.get_outputs())
        self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map

    def run(self, batch: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Give the first input a batch; return the outputs by name."""
        found = self._session.run(None, {self.inputs[0].name: batch})
        return {port.name: array for port, array in zip(self.outputs, found, strict=True)}

    def end_profile(self) -> Path:
        """Write the profile that was asked for; return its path."""
        return Path(self._session.end_profiling())


class OpenVino:
    """A network in OpenVINO, on the CPU: on recent ones faster, above all in int8.

    Arithmetic is float32 (OpenVINO's own choice may be bfloat16), or int8 where the file says so.

    Args:
        path: ONNX file.
        threads: How many compute one call; all of this process's CPUs by default.

    Raises:
        UserError: If the file is unreadable, or OpenVINO is not installed.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        self._core = _load_openvino().Core()
        self._model = _open(path, lambda: self._core.read_model(str(path)))
        self._options = {
            "INFERENCE_NUM_THREADS": choose_workers(threads, where="threads"),
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": 1,
        }
        self.inputs = tuple(_openvino_port(port) for port in self._model.inputs)
        self.outputs = tuple(_openvino_port(port) for port in self._model.outputs)
        own = dict(self._model.get_rt_info().items()).get("framework", {})
        self.metadata: Mapping[str, str] = {name: str(entry.value) for name, entry in own.items()}
        self._lock = threading.Lock()
        self._compiled: dict[bool, Any] = {}
        self._local = threading.local()

    def run(self, batch: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Give the first input a batch; return the outputs by name."""
        is_single = len(batch) == 1
        requests = self._local.__dict__.setdefault("requests", {})
        if is_single not in requests:
            requests[is_single] = self._compile(is_single).create_infer_request()
        found = requests[is_single].infer({0: batch})
        return {port.name: np.array(found[i]) for i, port in enumerate(self.outputs)}

    def _compile(self, is_single: bool) -> Any:
        """Compile for one image, whose known shape gains a tenth of the time, or for any number."""
        with self._lock:
            if is_single not in self._compiled:
                model = self._model
                if is_single and self.inputs[0].shape[0] is None:
                    model = model.clone()
                    shape = model.inputs[0].partial_shape
                    shape[0] = 1
                    model.reshape({0: shape})
                self._compiled[is_single] = self._core.compile_model(model, "CPU", self._options)
            return self._compiled[is_single]


def choose_providers(device: str) -> tuple[str, ...]:
    """Find ONNX Runtime's names of a device.

    Args:
        device: "cpu" or "cuda".

    Raises:
        UserError: If it is another.

    Example:
        >>> choose_providers("cpu")
        ('CPUExecutionProvider',)
    """
    if device not in PROVIDERS:
        raise UserError(
            where="device",
            found=device,
            allowed=f"{', '.join(PROVIDERS)}, for an ONNX file",
            next_step="name one of them",
        )
    return PROVIDERS[device]


def open_engine(
    path: Path, *, runtime: Runtime, threads: int | None, providers: Sequence[str] | None
) -> Engine:
    """Open an ONNX file in the runtime that was asked for.

    Raises:
        UserError: If the file is unreadable, or what was asked for is not there.
    """
    if runtime == "onnxruntime":
        return OnnxRuntime(path, threads=threads, providers=providers or CPU)
    if runtime != "openvino":
        raise UserError(
            where="runtime",
            found=str(runtime),
            allowed="onnxruntime, openvino",
            next_step="leave it out for ONNX Runtime",
        )
    if providers is not None and tuple(providers) != CPU:
        raise UserError(
            where="runtime",
            found=f"OpenVINO on {', '.join(providers)}",
            allowed="OpenVINO on the CPU",
            next_step="leave out the device, or use ONNX Runtime",
        )
    return OpenVino(path, threads=threads)


def _load_openvino() -> Any:
    try:
        import openvino  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise UserError(
            where="runtime",
            found=f"no usable OpenVINO ({error})",
            allowed="onnxruntime, or openvino where it is installed",
            next_step="pip install openvino",
        ) from error
    return openvino


def _open(path: Path, read: Callable[[], Any]) -> Any:
    """Open a file, and turn whatever the runtime raises at a bad one into one line."""
    if not path.is_file():
        raise UserError(
            where=str(path),
            found="a folder" if path.is_dir() else "nothing",
            allowed="an ONNX file",
            next_step="check the path; openmfr export makes one of a checkpoint",
        )
    try:
        return read()
    except Exception as error:  # the runtimes' errors have no common class
        reason = " ".join(str(error).split())
        raise UserError(
            where=str(path),
            found=f"no usable ONNX network ({reason[:300]})",
            allowed="an ONNX file that the runtime can open",
            next_step="export or copy it again",
        ) from error


def _check_providers(wanted: Sequence[str], there: Sequence[str]) -> None:
    if missing := [name for name in wanted if name not in there]:
        is_gpu = any("CUDA" in name or "Tensorrt" in name for name in missing)
        raise UserError(
            where="device",
            found=f"no {', '.join(missing)} in this installation of ONNX Runtime",
            allowed=", ".join(there),
            next_step="install onnxruntime-gpu in place of onnxruntime, with the CUDA that it names"
            if is_gpu
            else "choose one of them",
        )


def _port_of(node: Any) -> Port:
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in node.shape)
    dtype = _NUMPY_TYPES.get(node.type) or node.type.removeprefix("tensor(").removesuffix(")")
    return Port(name=node.name, shape=shape, dtype=dtype)


def _openvino_port(port: Any) -> Port:
    sizes = port.partial_shape
    shape = tuple(None if size.is_dynamic else size.get_length() for size in sizes)
    dtype = np.dtype(port.element_type.to_dtype()).name
    return Port(name=port.any_name, shape=shape, dtype=dtype)
