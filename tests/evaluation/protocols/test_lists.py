"""Published pair lists, each written as its authors lay it out, and what is wrong with some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from openmfr.errors import UserError
from openmfr.evaluation.protocols.lists import identities_from_pairs, read_pairs
from openmfr.evaluation.protocols.pairs import PairList
from openmfr.evaluation.protocols.sources import find_images

PEOPLE = ("Ann_Lee", "Bo_Xu", "Cy_Day")
SOURCES = [f"{name}/{name}_{i:04d}.jpg" for name in PEOPLE for i in range(1, 21)]
FLAT = [source.split("/")[1] for source in SOURCES]


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def named(pairs: PairList, sources: list[str]) -> list[tuple[str, str]]:
    return [(sources[a], sources[b]) for a, b in zip(pairs.index_a, pairs.index_b, strict=True)]


def folds(pairs: PairList) -> list[int]:
    assert pairs.fold is not None
    return [int(fold) for fold in pairs.fold]


def test_lfw_has_the_folds_of_its_header(tmp_path: Path) -> None:
    text = "2\t1\nAnn_Lee\t1\t2\nAnn_Lee\t3\tBo_Xu\t1\nBo_Xu\t2\t3\nAnn_Lee\t1\tCy_Day\t12\n"
    pairs = read_pairs(written(tmp_path / "pairs.txt", text), SOURCES)
    assert named(pairs, SOURCES)[3] == ("Ann_Lee/Ann_Lee_0001.jpg", "Cy_Day/Cy_Day_0012.jpg")
    assert pairs.is_genuine.tolist() == [True, False, True, False]
    assert folds(pairs) == [0, 0, 1, 1]


def test_view_1_of_lfw_has_no_folds(tmp_path: Path) -> None:
    text = "1\nAnn_Lee\t1\t2\nAnn_Lee\t3\tBo_Xu\t1\n"
    pairs = read_pairs(written(tmp_path / "pairsDevTest.txt", text), SOURCES)
    assert len(pairs) == 2
    assert pairs.fold is None


def rfw_list(person: str, other: str) -> str:
    genuine = [f"{person}\t{i}\t{i + 1}" for i in range(1, 11)]
    impostor = [f"{person}\t{i}\t{other}\t{i}" for i in range(1, 11)]
    pairs = zip(genuine, impostor, strict=True)
    return "".join(f"{g}\n{i}\n" for g, i in pairs)


def test_a_list_of_rfw_has_no_header_and_ten_folds(tmp_path: Path) -> None:
    sources = [f"{m}/{m}_{i:04d}.jpg" for m in ("m.0c7mh2", "m.0dd") for i in range(1, 21)]
    path = written(tmp_path / "African_pairs.txt", rfw_list("m.0c7mh2", "m.0dd"))
    pairs = read_pairs(path, sources)
    assert named(pairs, sources)[1] == ("m.0c7mh2/m.0c7mh2_0001.jpg", "m.0dd/m.0dd_0001.jpg")
    assert folds(pairs) == [i // 2 for i in range(20)]
    assert pairs.kind is None


def test_the_four_lists_of_rfw_are_one_with_a_kind_for_each(tmp_path: Path) -> None:
    groups = ("African", "Asian", "Caucasian", "Indian")
    for group in groups:
        written(tmp_path / "txts" / group / f"{group}_pairs.txt", rfw_list("m.1", "m.2"))
    sources = [
        f"data/{group}/{m}/{m}_{i:04d}.jpg"
        for group in groups
        for m in ("m.1", "m.2")
        for i in range(1, 21)
    ]
    for folder in (tmp_path, tmp_path / "txts"):
        pairs = read_pairs(folder, sources)
        assert pairs.kind is not None
        assert pairs.kind.tolist() == [group for group in groups for _ in range(20)]
        assert all(
            a.split("/")[1] == b.split("/")[1] == kind
            for (a, b), kind in zip(named(pairs, sources), pairs.kind, strict=True)
        )
        assert folds(pairs) == [i // 2 for i in range(20)] * 4


@pytest.mark.parametrize("genuine_label", ["1", "7"], ids=["CPLFW", "CALFW"])
def test_calfw_and_cplfw_take_two_lines_for_a_pair(tmp_path: Path, genuine_label: str) -> None:
    genuine = [(FLAT[i], FLAT[i + 1], genuine_label) for i in range(20)]
    impostor = [(FLAT[i], FLAT[20 + i], "0") for i in range(20)]
    text = "".join(f"{a} {label}\n{b} {label}\n" for a, b, label in genuine + impostor)
    pairs = read_pairs(written(tmp_path / "pairs_CALFW.txt", text), FLAT)
    assert named(pairs, FLAT) == [(a, b) for a, b, _ in genuine + impostor]
    assert pairs.is_genuine.tolist() == [True] * 20 + [False] * 20
    assert folds(pairs) == [i // 2 for i in range(20)] * 2


def cfp(folder: Path, split: str) -> None:
    for letter, pose in (("F", "frontal"), ("P", "profile")):
        lines = [f"{n} ../Data/Images/{n:03d}/{pose}/01.jpg" for n in range(1, 5)]
        written(folder / f"Pair_list_{letter}.txt", "\n".join(lines) + "\n")
    for fold in ("01", "02"):
        written(folder / "Split" / split / fold / "same.txt", "1,1\n2,2\n")
        written(folder / "Split" / split / fold / "diff.txt", "1,3\n4,2\n")


CFP_SOURCES = [f"{n:03d}/{pose}/01.jpg" for n in range(1, 5) for pose in ("frontal", "profile")]


@pytest.mark.parametrize("prefix", ["", "Images/", "Data/Images/", "cfp/Data/Images/"])
def test_cfp_compares_frontal_with_profile_faces_whatever_was_ingested(
    tmp_path: Path, prefix: str
) -> None:
    cfp(tmp_path / "Protocol", "FP")
    sources = [prefix + source for source in CFP_SOURCES]
    for path in (tmp_path, tmp_path / "Protocol", tmp_path / "Protocol" / "Split" / "FP"):
        pairs = read_pairs(path, sources)
        assert named(pairs, sources)[2] == (
            f"{prefix}001/frontal/01.jpg",
            f"{prefix}003/profile/01.jpg",
        )
        assert pairs.is_genuine.tolist() == [True, True, False, False] * 2
        assert folds(pairs) == [0] * 4 + [1] * 4


def test_cfp_compares_frontal_faces_if_its_split_is_named(tmp_path: Path) -> None:
    cfp(tmp_path / "Protocol", "FF")
    pairs = read_pairs(tmp_path / "Protocol" / "Split" / "FF", CFP_SOURCES)
    assert all("frontal" in a and "frontal" in b for a, b in named(pairs, CFP_SOURCES))


def cells(values: list[Any]) -> npt.NDArray[Any]:
    array = np.empty((1, len(values)), dtype=object)
    array[0] = values
    return array


@pytest.mark.parametrize("impostor", [-1, 0])
def test_agedb_is_read_from_its_matlab_file(tmp_path: Path, impostor: int) -> None:
    io = pytest.importorskip("scipy.io")
    pairs = np.concatenate(
        [
            cells([{"name": "0_AnnLee_35_f"}, {"name": "1_AnnLee_60_f"}]),
            cells([{"name": "1_AnnLee_60_f"}, {"name": "2_BoXu_20_m"}]),
        ]
    )
    split = {"pairs": pairs, "labels": np.array([[1, impostor]])}
    io.savemat(tmp_path / "agedb.mat", {"splits": cells([split] * 10).T})
    sources = ["0_AnnLee_35_f.jpg", "1_AnnLee_60_f.jpg", "2_BoXu_20_m.jpg"]
    read = read_pairs(tmp_path / "agedb.mat", sources)
    assert read.index_a.tolist() == [0, 1] * 10
    assert read.index_b.tolist() == [1, 2] * 10
    assert read.is_genuine.tolist() == [True, False] * 10
    assert folds(read) == [i // 2 for i in range(20)]


def test_our_own_csv_is_read_too(tmp_path: Path) -> None:
    text = f"path_a,path_b,genuine\n{SOURCES[0]},{SOURCES[1]},1\n"
    assert len(read_pairs(written(tmp_path / "pairs.csv", text), SOURCES)) == 1


def test_missing_images_are_named_together_the_first_with_the_nearest_source(
    tmp_path: Path,
) -> None:
    text = "Ann_Lee 1 2\nAnn_Lee 98 99\nAnn_Leo 1 Bo_Xu 99\nAnn_Lee 1 98\n"
    with pytest.raises(UserError) as caught:
        read_pairs(written(tmp_path / "pairs.txt", text), SOURCES)
    message = str(caught.value)
    assert "4 images not in the store" in message
    for name in ("Ann_Lee_0098", "Ann_Lee_0099", "Ann_Leo/Ann_Leo_0001", "Bo_Xu_0099"):
        assert name in message
    assert "did you mean Ann_Lee/Ann_Lee_00" in message
    assert "60 sources" in message


def test_many_missing_images_are_counted() -> None:
    with pytest.raises(UserError, match=r"40 images .*nobody_9 and 30 more;"):
        find_images([f"nobody_{i}" for i in range(40)], SOURCES, where="list")


def test_an_image_that_fits_two_sources_is_refused() -> None:
    with pytest.raises(UserError, match=r"a/Ann\.jpg and b/Ann\.jpg among them"):
        find_images(["Ann.jpg"], ["a/Ann.jpg", "b/Ann.jpg"], where="list")


def test_a_source_that_is_the_name_goes_before_one_that_ends_like_it() -> None:
    assert find_images(["Ann/1.jpg"], ["b/Ann/1.jpg", "Ann/1.jpg"], where="list").tolist() == [1]


def test_two_images_of_a_list_are_never_one_of_the_store() -> None:
    with pytest.raises(UserError, match=r"image Bo/1\.jpg: .*also all there is of Ann/1\.jpg"):
        find_images(["Ann/1.jpg", "Bo/1.jpg"], ["1.jpg"], where="list")
    assert find_images(["Ann/1.jpg", "Ann/1.png"], ["1.jpg"], where="list").tolist() == [0, 0]


def test_the_end_of_a_longer_name_is_not_mistaken_for_another_image() -> None:
    with pytest.raises(UserError, match="an image not in the store: 003/frontal/01"):
        find_images(["003/frontal/01.jpg"], ["002/frontal/01.jpg"], where="list")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "no pairs"),
        ("b.txt", "Ann_Lee one two\n", "line 1: found 'Ann_Lee one two'"),
        ("c.txt", "2 1\nAnn_Lee 1 2\nAnn_Lee\n", "line 3: found 'Ann_Lee'"),
        ("d.txt", f"{FLAT[0]} 1\n{FLAT[1]} 0\n", "line 2"),
        ("e.txt", f"{FLAT[0]} 1\n{FLAT[1]} 1\n{FLAT[2]} 0\n", "line 3"),
        ("f.txt", f"{FLAT[0]} 1\n{FLAT[1]} yes\n", "line 2"),
        ("g.mat", "no MATLAB", "no splits in it"),
    ],
)
def test_a_faulty_list_is_refused_with_its_line(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read_pairs(written(tmp_path / name, text), FLAT)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"neither Split nor \*_pairs\.txt"):
        read_pairs(tmp_path, SOURCES)
    cfp(tmp_path, "FP")
    written(tmp_path / "Split" / "FP" / "02" / "diff.txt", "1,9\n")
    with pytest.raises(UserError, match=r"02/diff\.txt, line 1: found '1,9'"):
        read_pairs(tmp_path, CFP_SOURCES)
    (tmp_path / "Split" / "FP" / "02" / "diff.txt").unlink()
    with pytest.raises(UserError, match=r"diff\.txt: found no readable text"):
        read_pairs(tmp_path, CFP_SOURCES)
    with pytest.raises(UserError, match="no readable text"):
        read_pairs(tmp_path / "nothing.txt", SOURCES)


def test_people_are_told_apart_by_what_genuine_pairs_link() -> None:
    a, b = np.array([0, 3, 2, 5]), np.array([2, 4, 4, 6])
    linked = identities_from_pairs(a, b, np.array([True, True, False, True]), count=8)
    assert linked.tolist() == [0, 1, 0, 2, 2, 3, 3, 4]
    all_linked = identities_from_pairs(a, b, np.ones(4, dtype=np.bool_), count=8)
    assert all_linked.tolist() == [0, 1, 0, 0, 0, 2, 2, 3]
