from abc import ABC
from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest

from saliencykit.core.annotated_fields import check_fields
from saliencykit.core.errors import InputError


class Part(ABC):  # noqa: B024
    pass


@dataclass(frozen=True)
class Small(Part):
    size: int = 1


@dataclass(frozen=True)
class Options:
    lr: Annotated[float, "(0, 1]"] = 0.5
    steps: Annotated[int, "[2, inf)"] = 7
    limit: Annotated[int | None, "[1, inf)"] = None
    rule: Literal["a", "b"] | None = None
    strict: bool = False
    part: Part = Small()
    more: Part = field(default_factory=Small)
    other: Part | None = None
    free: object = None

    def __post_init__(self) -> None:
        check_fields(self)


def test_values_that_the_annotations_allow_and_defaults_of_none_are_taken():
    Options()
    Options(lr=1, steps=2, limit=1, rule="b", strict=True, part=Small(3), other=Small(), free=Small)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": 0}, r"Options\(lr=0\) takes a number in \(0, 1\]"),
        ({"lr": float("nan")}, "takes a number in"),
        ({"lr": "wide"}, "lr='wide'. takes a number in"),
        ({"lr": None}, "takes a number in"),
        ({"steps": 1}, "takes a whole number >= 2"),
        ({"steps": 2.0}, "takes a whole number >= 2"),
        ({"steps": None}, "takes a whole number >= 2"),
        ({"limit": 0}, "takes a whole number >= 1"),
        ({"rule": "c"}, "takes 'a' or 'b'"),
        ({"strict": 1}, "takes True or False"),
        ({"part": "small"}, r"takes Part, such as Small\(size=1\)"),
        ({"more": None}, r"takes Part, such as Small\(size=1\)"),
        ({"other": 3}, "takes Part"),
    ],
)
def test_a_value_that_does_not_fit_its_annotation_is_named_with_what_does(options, words):
    with pytest.raises(InputError, match=words):
        Options(**options)


def test_a_field_whose_annotation_cannot_be_read_is_left_out_and_the_others_are_checked():
    @dataclass
    class Half:
        unknown: "Elsewhere" = 1  # noqa: F821
        share: Annotated[float, "(0, 1)"] = 0.5

    check_fields(Half())
    with pytest.raises(InputError, match=r"Half\(share=2\) takes a number in \(0, 1\)"):
        check_fields(Half(share=2))


def test_a_class_that_another_package_calls_abstract_is_not_checked():
    class Wide(ABC):  # noqa: B024
        pass

    Wide.register(int)

    @dataclass
    class Counted:
        classes: int = 1

    check_fields(Counted(classes="many"))
