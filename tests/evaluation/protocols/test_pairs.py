"""Reading pair lists, and the mistakes in them that a user can mend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from openmfr.errors import UserError
from openmfr.evaluation.protocols.pairs import PairList, read_csv_pairs

SOURCES = [f"{name}/{name}_000{i}.jpg" for name in ("Ann_Lee", "Bo_Xu") for i in (1, 2, 3)]
IDENTITY = np.array([0, 0, 0, 1, 1, 1])


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_list_is_read_with_folds_and_kinds(tmp_path: Path) -> None:
    text = (
        "path_a,path_b,genuine,fold,kind\n"
        "Ann_Lee/Ann_Lee_0001.jpg,Ann_Lee/Ann_Lee_0003.jpg,1,0,mu\n"
        "Ann_Lee/Ann_Lee_0002.jpg,Bo_Xu/Bo_Xu_0001.jpg,false,1,uu\n"
    )
    pairs = read_csv_pairs(written(tmp_path / "pairs.csv", text), SOURCES)
    assert pairs.index_a.tolist() == [0, 1]
    assert pairs.index_b.tolist() == [2, 3]
    assert pairs.is_genuine.tolist() == [True, False]
    assert pairs.fold is not None
    assert pairs.fold.tolist() == [0, 1]
    assert pairs.kind is not None
    assert pairs.kind.tolist() == ["mu", "uu"]


def test_missing_images_are_named_together_with_the_nearest_source(tmp_path: Path) -> None:
    text = (
        "path_a,path_b,genuine\n"
        "Ann_Lee/Ann_Lee_0001.jpg,Ann_Leo/Ann_Lee_0002.jpg,1\n"
        "Ann_Lee/Ann_Lee_0001.jpg,Cy_Po/Cy_Po_0001.jpg,0\n"
    )
    with pytest.raises(UserError) as caught:
        read_csv_pairs(written(tmp_path / "pairs.csv", text), SOURCES)
    message = str(caught.value)
    assert "2 images not in the store: Ann_Leo/Ann_Lee_0002.jpg, Cy_Po/Cy_Po_0001.jpg" in message
    assert "did you mean Ann_Lee/Ann_Lee_0002.jpg?" in message


def test_several_faulty_rows_are_reported_together(tmp_path: Path) -> None:
    a, b = SOURCES[:2]
    text = f"path_a,path_b,genuine,fold\n{a},{b},perhaps,0\nnobody.jpg,{b},1,0\n{a},{b},1,first\n"
    with pytest.raises(UserError) as caught:
        read_csv_pairs(written(tmp_path / "pairs.csv", text), SOURCES)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "row 2, genuine: found 'perhaps'" in lines[0]
    assert "row 4, fold: found 'first'" in lines[1]
    assert "an image not in the store: nobody.jpg" in lines[2]
    assert "ingest and embed the photos" in lines[2]


def test_images_are_found_by_the_end_of_their_path(tmp_path: Path) -> None:
    text = "path_a,path_b,genuine\nAnn_Lee_0001.png,lfw/Ann_Lee/Ann_Lee_0003.jpg,1\n"
    pairs = read_csv_pairs(written(tmp_path / "pairs.csv", text), SOURCES)
    assert (pairs.index_a.tolist(), pairs.index_b.tolist()) == ([0], [2])


def test_an_image_is_not_compared_with_itself(tmp_path: Path) -> None:
    text = f"path_a,path_b,genuine\n{SOURCES[0]},{SOURCES[0]},1\n{SOURCES[0]},,0\n"
    with pytest.raises(UserError) as caught:
        read_csv_pairs(written(tmp_path / "pairs.csv", text), SOURCES)
    lines = str(caught.value).splitlines()
    assert f"row 2: found '{SOURCES[0]}' with itself; allowed: two images" in lines[0]
    assert f"row 3: found '{SOURCES[0]}' with ''" in lines[1]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "header: found nothing"),
        ("b.csv", "left,right\n", "add path_a, path_b, genuine"),
        ("c.csv", "path_a,path_b,genuine\n", "found no pairs"),
        (
            "f.csv",
            "path_a,path_b,genuine,fold\n"
            f"{SOURCES[0]},{SOURCES[1]},1,0\n{SOURCES[0]},{SOURCES[2]},1,\n",
            "1 pairs without a fold",
        ),
    ],
)
def test_a_list_that_is_none_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_csv_pairs(written(tmp_path / name, text), SOURCES)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no readable text"):
        read_csv_pairs(tmp_path / "nothing.csv", SOURCES)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x9f")
    with pytest.raises(UserError, match="no readable text"):
        read_csv_pairs(tmp_path / "binary.csv", SOURCES)


def list_of(*pairs: tuple[int, int, bool]) -> PairList:
    a, b, is_genuine = zip(*pairs, strict=True)
    return PairList(index_a=np.array(a), index_b=np.array(b), is_genuine=np.array(is_genuine))


def test_scores_are_cosines_whatever_the_length_and_type_of_the_embeddings() -> None:
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(6, 32)).astype(np.float32) * np.arange(1, 7)[:, None]
    compared = list_of((0, 1, True), (2, 5, False)).compare(embedding, IDENTITY)
    for i, (a, b) in enumerate([(0, 1), (2, 5)]):
        x, y = embedding[a].astype(np.float64), embedding[b].astype(np.float64)
        expected = x @ y / np.sqrt(x @ x) / np.sqrt(y @ y)
        assert compared.score[i] == pytest.approx(expected, abs=1e-12)


def test_a_list_that_contradicts_the_labels_is_refused() -> None:
    embedding = np.eye(6)
    with pytest.raises(UserError, match=r"pair 2 .*impostor, but identities 0 and 0"):
        list_of((0, 1, True), (0, 2, False)).compare(embedding, IDENTITY)
    with pytest.raises(UserError, match="identities 0 and -1"):
        list_of((0, 1, True)).compare(embedding, np.array([0, -1, 0, 1, 1, 1]))


@pytest.mark.parametrize("broken", [0.0, np.nan, np.inf])
def test_an_embedding_without_direction_is_named(broken: float) -> None:
    embedding = np.eye(6)
    embedding[4] = broken
    with pytest.raises(UserError, match="embedding 4: found length"):
        list_of((0, 1, True), (3, 4, True)).compare(embedding, IDENTITY)
