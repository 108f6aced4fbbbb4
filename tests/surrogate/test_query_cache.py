from dataclasses import dataclass, field

import pytest
import torch
from safetensors.torch import save_file

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import ContractError, InputError
from saliencykit.surrogate.masked_images import MaskedImages
from saliencykit.surrogate.query_cache import QueryCache


@dataclass
class Service(BlackBox):
    """Answers with the mean of each image, and dies or says NaN when it is queried with the
    image of some number.
    """

    breaks: int = -1
    how: str = "dies"
    max_batch_size: int | None = 4
    seen: list[int] = field(default_factory=list)

    num_classes = 2
    differentiable = False

    def logits(self, images):
        numbers = (images[:, 0, 0, 0] * 255).round().long().tolist()
        if self.breaks in numbers and self.how == "dies":
            raise ConnectionError("the server went away")
        self.seen += numbers
        light = images.mean((1, 2, 3)) + torch.tensor(
            [float("nan") if n == self.breaks else 0.0 for n in numbers]
        )
        return torch.stack([light, -light], 1)


@pytest.fixture
def photos():
    pixels = torch.arange(30, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2).contiguous()
    return MaskedImages(
        pixels, torch.arange(30) // 2, torch.where(torch.arange(30) % 2 == 0, 1.0, 0.25)
    )


WANTED = torch.stack([torch.arange(30) / 255, -torch.arange(30) / 255], 1)


def test_each_is_queried_once_in_order(photos):
    black_box, told = Service(), []
    answers = QueryCache(black_box, photos, "a", None, on_progress=lambda *now: told.append(now))
    assert torch.allclose(answers.logits(), WANTED)
    assert black_box.seen == list(range(30))
    assert len(answers) == 30
    assert told == [(done, 30) for done in (*range(4, 30, 4), 30)]
    answers.logits()
    assert len(black_box.seen) == 30


def test_a_box_that_dies_costs_only_what_is_missing(photos, tmp_path):
    black_box = Service(breaks=21)
    with pytest.raises(
        InputError,
        match=r"went away.* 20 of 30, are kept in .*: the same call queries only the missing ones",
    ):
        QueryCache(black_box, photos, "a", tmp_path / "new").logits()
    assert black_box.seen == list(range(20))
    again = Service()
    answers = QueryCache(again, photos, "a", tmp_path / "new")
    assert len(answers) == 20
    assert torch.allclose(answers.logits(), WANTED)
    assert again.seen == list(range(20, 30))
    third = Service()
    assert torch.allclose(QueryCache(third, photos, "a", tmp_path / "new").logits(), WANTED)
    assert third.seen == []
    fourth = Service()
    QueryCache(fourth, photos, "a", tmp_path / "new", resume=False).logits()
    assert fourth.seen == list(range(30))


def test_an_interrupt_keeps_what_there_is(photos, tmp_path):
    def stop(count, total):
        if count >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        QueryCache(Service(), photos, "a", tmp_path, on_progress=stop).logits()
    assert len(QueryCache(Service(), photos, "a", tmp_path)) == 12


def test_nan_is_named_by_photo(photos):
    with pytest.raises(
        ContractError,
        match=r"NaN.*row 3.*\(that row: image 11, masked, 25% kept\).* 20 of 30, are lost; "
        r"give",
    ):
        QueryCache(Service(breaks=23, how="nan"), photos, "a", None).logits()


def test_fewer_and_more_photos_from_one_folder(photos, tmp_path):
    few = MaskedImages(photos.pixels[:10], photos.source[:10], photos.area[:10])
    assert len(QueryCache(Service(), few, "a", tmp_path).logits()) == 10
    black_box = Service()
    assert torch.allclose(QueryCache(black_box, photos, "a", tmp_path).logits(), WANTED)
    assert black_box.seen == list(range(10, 30))
    assert len(QueryCache(Service(breaks=0), few, "a", tmp_path).logits()) == 10


def test_answers_about_something_else_are_refused(photos, tmp_path):
    QueryCache(Service(), photos, "a", tmp_path).logits()
    with pytest.raises(InputError, match="another model, or for other images or settings"):
        QueryCache(Service(), photos, "b", tmp_path)


def test_damaged_and_missing_files_are_named(photos, tmp_path):
    with pytest.raises(InputError):
        QueryCache(Service(breaks=21), photos, "a", tmp_path).logits()
    QueryCache(Service(), photos, "a", tmp_path).logits()
    first, second = sorted(tmp_path.iterdir())
    assert [first.name, second.name] == ["answers-000000.safetensors", "answers-000020.safetensors"]
    kept = first.read_bytes()
    first.unlink()
    with pytest.raises(InputError, match="does not follow the file before it"):
        QueryCache(Service(), photos, "a", tmp_path)
    first.write_bytes(kept[:-9])
    with pytest.raises(
        InputError, match=r"answers-000000.safetensors' is not a valid .* Delete it"
    ):
        QueryCache(Service(), photos, "a", tmp_path)
    save_file({"logits": torch.zeros(1, 2)}, first)
    with pytest.raises(InputError, match=r"answers-000000.safetensors is damaged"):
        QueryCache(Service(), photos, "a", tmp_path)


def test_nothing_is_queried_that_cannot_be_kept(photos, tmp_path):
    (tmp_path / "file").write_text("in the way")
    black_box = Service()
    with pytest.raises(InputError, match="cannot write to"):
        QueryCache(black_box, photos, "a", tmp_path / "file" / "below").logits()
    assert black_box.seen == []
