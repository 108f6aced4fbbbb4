"""One thread, and the data directory."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # small tensors: threads cost more than they bring


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The directory with real images, or skip the test. Mark such tests `data`."""
    folder = Path(
        os.environ.get("SALIENCYKIT_DATA", Path(__file__).parents[3] / ".." / "shared" / "data")
    ).resolve()
    if not folder.is_dir():
        pytest.skip("no data folder: set SALIENCYKIT_DATA")
    return folder
