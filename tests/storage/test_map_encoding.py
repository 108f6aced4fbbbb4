import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.storage.map_encoding import checked, decoded, encoded, packed, unpacked


def test_precision():
    mask = torch.linspace(0, 1, 1001)
    for precision, close in (("uint8", 1 / 510), ("float16", 1 / 4096)):
        assert float((unpacked(packed(mask, precision)) - mask).abs().max()) <= close + 1e-7
        assert unpacked(packed(torch.tensor([0.0, 1.0]), precision)).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("precision", ["uint8", "float16"])
def test_bytes_give_back_every_bit(precision):
    stored = packed(torch.rand(7, 5, generator=torch.Generator().manual_seed(0)), precision)
    assert torch.equal(decoded(encoded(stored), "a mask"), stored)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"\x89PNG\r\n\x1a\n", b"x" * 99])
def test_bytes_that_are_no_mask_are_one_line(content):
    with pytest.raises(InputError, match="a mask"):
        decoded(content, "a mask")


@pytest.mark.parametrize(
    "wrong",
    [torch.zeros(2, 2), torch.zeros(4, dtype=torch.uint8), torch.full((2, 2), 5.0).half()],
)
def test_tensors_that_are_no_mask_are_refused(wrong):
    with pytest.raises(InputError, match="a mask is damaged"):
        checked(wrong, "a mask")
