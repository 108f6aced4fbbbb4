"""The same images through one process and through each engine have the same rows and masks."""

import pytest

from benchmarks.engines import ENGINES, differences, make_photos

ELSEWHERE = ("one process", "two processes", "four shards, ten killed")  # beside explain_dataset
PACKAGES = {"four shards": "torch", "datasets.map": "datasets", "Spark, local[2]": "pyspark"}
SAME = {"images": 0, "labels": 0, "masks": 0, "numbers": pytest.approx(0, abs=1e-6)}


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines")
    photos = make_photos(folder / "photos", 60)
    return folder, photos, ENGINES["one process"](folder, photos, folder / "one")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the engines
@pytest.mark.parametrize("engine", [name for name in ENGINES if name not in ELSEWHERE])
def test_an_engine_gives_the_rows_of_one_process(engine, wanted, tmp_path):
    pytest.importorskip(PACKAGES.get(engine, "ray"))
    folder, photos, rows = wanted
    assert len(rows) == 60
    assert differences(rows, ENGINES[engine](folder, photos, tmp_path / "run")) == SAME
