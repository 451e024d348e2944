"""The model card: what a model is, where it comes from, what it reached, and what it is not for.

It is JSON inside the ONNX file, so that the two cannot be parted, and Markdown beside it for
people. A card says what is known. What is not known is called that: a checkpoint without its run's
folder has no recipe, and a licence is the user's to state.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from openmfr.config import to_dict
from openmfr.deploy.int8_cost import FMR, Int8Cost
from openmfr.deploy.parity import Parity
from openmfr.evaluation.intervals import Measured
from openmfr.evaluation.wording import PLAIN, describe, fmr_text, percent

FORMAT_VERSION = 1
NOT_STATED, UNKNOWN = "not stated", "unknown"

Precision = Literal["float32", "int8"]

INTENDED_USE = (
    "Comparing aligned faces of people who know of it and agreed, or where the law allows it "
    "otherwise, with a person in charge who sees the images and may disagree.",
    "Scores are cosines of two embeddings. A threshold belongs to a false match rate that was "
    "measured with this very file on people like those it is used on: see openmfr evaluate "
    "calibration.",
)
LIMITS = (
    "It does not tell a live face from a picture of one.",
    "Errors are not spread evenly over people: measure by group on those whom the system is for.",
    "Masks cost accuracy: choose thresholds for masked and bare faces apart.",
    "In a search the chance of a false match grows with the gallery.",
    "Embeddings are personal data, and do not mix with those of another model or precision.",
    "The figures here hold for the images that they were measured on.",
)


@dataclass(frozen=True, kw_only=True)
class Network:
    """What computes.

    Attributes:
        backbone: Name of the network.
        checkpoint: Fingerprint of the weights.
        embedding_dim: D.
        face_size: Edge in pixels of the aligned faces that the file takes.
        input_size: Edge in pixels that they are resized to inside.
        macs: Multiply-adds of one image, normalisations and activations included.
        matmul_macs: Those of convolutions and matrix products alone.
        params: Number of parameters.
    """

    backbone: str
    checkpoint: str
    embedding_dim: int
    face_size: int
    input_size: int
    macs: int
    matmul_macs: int
    params: int


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What the weights were trained on, and how; None where nobody knows.

    Attributes:
        store: Fingerprint of the training images; empty if unknown.
        labels: Fingerprint of the training labels; empty if unknown.
        identities: People in the training labels; None if unknown.
        images: Images in the training labels; None if unknown.
        masked_images: How many of them show masks; None if unknown. Masks that training put on are
            in the recipe.
        step: Optimizer steps; 0 if unknown, as of weights that another program trained.
        images_seen: Images that these steps saw, repetitions counted; 0 if unknown.
        started_from: Fingerprint of the checkpoint that was fine-tuned; None for none, or unknown.
        recipe: The run's resolved configuration; None if the checkpoint was parted from its run.
        openmfr: Version that trained it; None if unknown.
    """

    store: str
    labels: str
    identities: int | None
    images: int | None
    masked_images: int | None
    step: int
    images_seen: int
    started_from: str | None
    recipe: Mapping[str, Any] | None
    openmfr: str | None


@dataclass(frozen=True, kw_only=True)
class Result:
    """What the checkpoint reached on one list of pairs, before it was exported.

    Attributes:
        title: Of the report.
        how: How images were embedded: precision, mirrored images.
        genuine_pairs: Number of genuine pairs.
        impostor_pairs: Number of impostor pairs.
        identities: Number of people in the pairs.
        accuracy: By folds.
        eer: Equal error rate.
        auc: Area under the ROC curve.
        tar: True accept rate at each false match rate, written as a share.
    """

    title: str
    how: str
    genuine_pairs: int
    impostor_pairs: int
    identities: int
    accuracy: Measured
    eer: Measured
    auc: Measured
    tar: Mapping[str, Measured]


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """All that is known of an exported model.

    Attributes:
        format_version: Of this card.
        name: Of the file, without its ending.
        fingerprint: Identifies embeddings: those of another fingerprint do not mix with them.
        precision: Of the layers' arithmetic.
        file_bytes: Size of the file.
        licence: What the user stated.
        network: What computes.
        origin: What it was trained on.
        results: What the checkpoint reached.
        parity: How like PyTorch's embeddings those of the float32 file are.
        int8: What int8 costs; None in float32.
        intended_use: What it is for.
        limits: What to know before using it.
        openmfr: Version that exported it.
    """

    format_version: int = FORMAT_VERSION
    name: str
    fingerprint: str
    precision: Precision
    file_bytes: int
    licence: str
    network: Network
    origin: Origin
    results: tuple[Result, ...]
    parity: Parity
    int8: Int8Cost | None
    intended_use: tuple[str, ...] = INTENDED_USE
    limits: tuple[str, ...] = LIMITS
    openmfr: str

    def to_json(self) -> str:
        """Write it as one JSON object."""
        return json.dumps(to_dict(self), ensure_ascii=False)

    def to_markdown(self) -> str:
        """Write it for people."""
        parts = [
            f"# {self.name}",
            "A face recogniser as an ONNX file: aligned faces in, unit embeddings out. Written by "
            f"openmfr {self.openmfr}.",
            "## The file",
            _table(_about_file(self)),
            "## Training",
            _table(_about_origin(self.origin)),
            "## Results of the checkpoint",
            *(_about_results(self.results) or ["No report of this checkpoint was given."]),
            "## Parity with PyTorch",
            _about_parity(self.parity),
            *(["## What int8 costs", *_about_int8(self.int8)] if self.int8 else []),
            "## Intended use",
            _bullets(self.intended_use),
            "## Limits",
            _bullets(self.limits),
            "## Recipe",
            _recipe(self.origin.recipe),
        ]
        return "\n\n".join(parts) + "\n"


def describe_card(card: Mapping[str, Any]) -> dict[str, str]:
    """Say what a card of an ONNX file says in a few lines, by name; also one of a later version.

    Args:
        card: The JSON object in the file's metadata.

    Returns:
        What is there; nothing is made up for what is not.

    Example:
        >>> describe_card({"precision": "int8", "licence": "not stated"})
        {'precision': 'int8', 'licence': 'not stated'}
    """
    network, origin = card.get("network") or {}, card.get("origin") or {}
    int8, parity = card.get("int8") or {}, card.get("parity") or {}
    found = {
        "precision": card.get("precision"),
        "backbone": network.get("backbone"),
        "embedding dim": network.get("embedding_dim"),
        "face size": network.get("face_size"),
        "multiply-adds": _giga(network.get("macs")),
        "parameters": _mega(network.get("params")),
        "fingerprint": card.get("fingerprint"),
        "checkpoint": network.get("checkpoint"),
        "trained on": _people(origin.get("images"), origin.get("identities")) or None,
        "training store": origin.get("store") or None,
        "least cosine to PyTorch": parity.get("least_cosine"),
        "median cosine of int8": int8.get("median_cosine"),
        "licence": card.get("licence"),
        "exported by openmfr": card.get("openmfr"),
    }
    return {name: str(value) for name, value in found.items() if value is not None}


def _about_file(card: ModelCard) -> list[tuple[str, str]]:
    network = card.network
    resized = (
        f", resized inside to {network.input_size} × {network.input_size}"
        if network.input_size != network.face_size
        else ""
    )
    return [
        ("Precision", card.precision),
        ("Size", f"{card.file_bytes / 1e6:.1f} MB"),
        ("Network", network.backbone),
        (
            "Input",
            f"`image`, uint8, RGB, N × {network.face_size} × {network.face_size} × 3{resized}",
        ),
        ("Output", f"`embedding`, float32, N × {network.embedding_dim}, unit length; `length`"),
        ("Multiply-adds", f"{_giga(network.macs)} ({_giga(network.matmul_macs)} in layers)"),
        ("Parameters", f"{_mega(network.params)}"),
        ("Fingerprint", f"`{card.fingerprint}`"),
        ("Checkpoint", f"`{network.checkpoint}`"),
        ("Licence", card.licence),
    ]


def _about_origin(origin: Origin) -> list[tuple[str, str]]:
    masked = f", {origin.masked_images:,} with masks in the photo" if origin.masked_images else ""
    people = _people(origin.images, origin.identities)
    length = [f"{origin.step:,} steps"] if origin.step else []
    length += [f"{origin.images_seen:,} images"] if origin.images_seen else []
    start = f"`{origin.started_from}`" if origin.started_from else "fresh weights"
    return [
        ("Data", f"{people}{masked}" if people else UNKNOWN),
        ("Store", f"`{origin.store}`" if origin.store else UNKNOWN),
        ("Labels", f"`{origin.labels}`" if origin.labels else UNKNOWN),
        ("Length", ", ".join(length) or UNKNOWN),
        ("Started from", UNKNOWN if origin.recipe is None else start),
        ("Trained by", f"openmfr {origin.openmfr}" if origin.openmfr else UNKNOWN),
    ]


def _about_results(results: Sequence[Result]) -> list[str]:
    parts = []
    for result in results:
        rows = [
            ("Accuracy by folds", describe(result.accuracy)),
            ("Equal error rate", describe(result.eer)),
            ("AUC", describe(result.auc, PLAIN)),
            *(
                (f"TAR at FAR {fmr_text(float(fmr))}", describe(tar))
                for fmr, tar in result.tar.items()
            ),
        ]
        parts += [
            f"**{result.title}**: {result.genuine_pairs:,} genuine and {result.impostor_pairs:,} "
            f"impostor pairs of {result.identities:,} people; {result.how}.",
            _table(rows),
        ]
    return parts


def _about_parity(parity: Parity) -> str:
    return (
        f"{parity.images} random images and {parity.faces} faces, in batches of "
        f"{', '.join(map(str, parity.batch_sizes))}: cosine at least {parity.least_cosine:.7f}, "
        f"length within {parity.greatest_length_error:.1e} (float32)."
    )


def _about_int8(cost: Int8Cost) -> list[str]:
    people = "held out from the training" if cost.is_held_out else "not known to be held out"
    return [
        f"{cost.images:,} images of {cost.identities:,} people, {people}; the ranges were chosen "
        f"on {cost.calibration_images:,} images of others (store `{cost.store}`, labels "
        f"`{cost.labels}`). Cosine to float32: median {cost.median_cosine:.4f}, smallest "
        f"{cost.least_cosine:.4f}. {cost.pairs:,} pairs:",
        _table(
            [
                ("Equal error rate", str(cost.eer)),
                ("Accuracy by folds", str(cost.accuracy)),
                (f"TAR at FAR {fmr_text(FMR)}", str(cost.tar)),
            ]
        ),
        f"It was let through as the equal error rate's rise is at most {percent(cost.max_loss)}, "
        "interval included.",
    ]


def _recipe(recipe: Mapping[str, Any] | None) -> str:
    if recipe is None:
        return "Unknown: the checkpoint does not lie in its run's folder."
    return f"```json\n{json.dumps(recipe, indent=2, ensure_ascii=False)}\n```"


def _people(images: int | None, identities: int | None) -> str:
    if identities is None:
        return ""
    return (
        f"{identities:,} people"
        if images is None
        else f"{images:,} images of {identities:,} people"
    )


def _giga(number: int | None) -> str | None:
    return None if number is None else f"{number / 1e9:.2f} G"


def _mega(number: int | None) -> str | None:
    return None if number is None else f"{number / 1e6:.2f} M"


def _table(rows: Iterable[tuple[str, str]]) -> str:
    # A bar of a user's text would end its cell.
    cells = [(name, text.replace("|", "\\|").replace("\n", " ")) for name, text in rows]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in cells)])


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
