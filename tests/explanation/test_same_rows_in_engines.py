"""The same images through one process and through each engine have the same rows and masks."""

import tarfile

import pytest

from benchmarks.engines import ENGINES, EXPLAIN, differences, load, make_photos, saved_rows
from saliencykit import explain_dataset
from saliencykit.explanation.cluster_explainer import explain_on

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


def packed(photos, folder):
    """Three tars, and a Parquet file of the same photos."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(photos), folder / "photos.parquet")
    for number in range(3):
        with tarfile.open(folder / f"photos-{number}.tar", "w") as tar:
            for each in photos[number::3]:
                tar.add(folder / "photos" / each["id"], each["id"])
    return [f"{folder}/photos-{{0..2}}.tar", f"{folder}/photos.parquet"]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the engine
def test_two_workers_of_ray_explain_archives_as_one_process_does(tmp_path):
    pytest.importorskip("ray")
    for data in packed(make_photos(tmp_path / "photos", 12), tmp_path):
        name = data.rpartition(".")[2]
        one = saved_rows(explain_dataset("demo", data, output_dir=tmp_path / name, **EXPLAIN))
        options = {"output_dir": tmp_path / f"ray-{name}", "num_workers": 2, **EXPLAIN}
        assert len(one) == 12
        assert differences(one, saved_rows(explain_on("ray", load, data, **options))) == SAME
