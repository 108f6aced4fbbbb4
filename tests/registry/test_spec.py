import contextlib
from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saliencykit.core.alternative import Alternative
from saliencykit.core.errors import InputError, RegistryError
from saliencykit.registry.spec import Spec, build, parse

words = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_./", min_size=1, max_size=12)
letters = "abcdefghijklmnopqrstuvwxyz_"
keys = st.builds(str.__add__, st.sampled_from(letters), st.text(f"{letters}0123456789", max_size=8))
values = st.one_of(
    words,
    st.integers().map(str),
    st.floats(allow_nan=False).map(repr),
    st.tuples(st.integers(), st.floats(0, 1)).map(repr),
)


def write(spec):
    arguments = ",".join([*spec.values, *(f"{key}={value}" for key, value in spec.options.items())])
    return f"{spec.name}:{arguments}" if arguments else spec.name


@given(
    st.builds(
        Spec,
        words,
        st.lists(values, max_size=3).map(tuple),
        st.dictionaries(keys, values, max_size=3),
    )
)
def test_parsing_inverts_writing(spec):
    assert parse(write(spec)) == spec
    assert parse(f"  {write(spec)} ") == spec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("blur", Spec("blur")),
        ("blur:11", Spec("blur", ("11",))),
        (
            "timm:resnet18,checkpoint=my.safetensors",
            Spec("timm", ("resnet18",), {"checkpoint": "my.safetensors"}),
        ),
        ("constant:color=(1,0.5,0)", Spec("constant", (), {"color": "(1,0.5,0)"})),
        ("x:[1,2],a=[3,(4,5)],b=6", Spec("x", ("[1,2]",), {"a": "[3,(4,5)]", "b": "6"})),
        ("timm:hf-hub:timm/vit.a=b", Spec("timm", ("hf-hub:timm/vit.a=b",))),
        (
            "iterative:alternative=blur:sigma=5,steps=3",
            Spec("iterative", (), {"alternative": "blur:sigma=5", "steps": "3"}),
        ),
        ("a: b , c = d ", Spec("a", ("b",), {"c": "d"})),
        ("timm:x,checkpoint=/tmp/a=b.pt", Spec("timm", ("x",), {"checkpoint": "/tmp/a=b.pt"})),
    ],
)
def test_texts_are_parsed(text, spec):
    assert parse(text) == spec


@pytest.mark.parametrize("text", ["", "  ", ":", ":5", "blur:", " :x", "x:a=1,2", "x:a=1,a=2"])
def test_malformed_texts_are_refused(text):
    with pytest.raises(InputError):
        parse(text)


@given(st.text("ab1.:,=()[]{}'\"\\ \n\t\0-_/é\u202e\ud800", max_size=30))
def test_any_text_is_read_or_refused_with_advice(text):
    with contextlib.suppress(InputError):
        assert parse(text).name


@dataclass(frozen=True, kw_only=True)
class Part:
    sigma: float = 1.0
    steps: int = 3
    color: float | tuple[float, ...] | Literal["mean"] = 0.5
    path: str | None = None
    loud: bool = False
    fill: Alternative | None = None
    fills: tuple[Alternative, ...] = ()


def make(text, factory=Part, makers=None):
    return build(
        parse(text), factory, {Alternative: lambda name: f"<{name}>"} if makers is None else makers
    )


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("p", Part()),
        ("p:sigma=2.5,steps=7", Part(sigma=2.5, steps=7)),
        ("p:2.5", Part(sigma=2.5)),
        ("p:2.5,7,color=mean", Part(sigma=2.5, steps=7, color="mean")),
        ("p:color=(1,0.5,0)", Part(color=(1, 0.5, 0))),
        ("p:color=1e-2", Part(color=0.01)),
        ("p:path=007", Part(path="007")),
        ("p:path=7", Part(path="7")),
        ("p:path=none", Part(path=None)),
        ("p:loud=true", Part(loud=True)),
        ("p:loud=False", Part(loud=False)),
        ("p:fill=blur:sigma=5", Part(fill="<blur:sigma=5>")),
        (
            "p:fill=(noise:spread=0.1,std=0.2),steps=7",
            Part(fill="<noise:spread=0.1,std=0.2>", steps=7),
        ),
        ("p:fills=blur:sigma=5+noise", Part(fills=("<blur:sigma=5>", "<noise>"))),
        ("p:fills=(a:b=1,c=(2+3))+ d", Part(fills=("<a:b=1,c=(2+3)>", "<d>"))),
    ],
)
def test_arguments_are_parsed_by_annotation(text, part):
    assert make(text) == part


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "p:sigmo=2",
            "p has no option 'sigmo'; its options are sigma, steps, color, path, loud, fill, fills",
        ),
        ("p:1,2,3,4,5,6,7,8", "p takes at most"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(text, words):
    with pytest.raises(InputError, match=words):
        make(text)


def test_positional_and_open_factories():
    assert make(
        "f:resnet18,checkpoint=x.pt", lambda name, *, checkpoint=None: (name, checkpoint)
    ) == ("resnet18", "x.pt")
    assert make("f:a=1,b=two", lambda **more: more) == {"a": 1, "b": "two"}
    assert make("f", lambda: 5) == 5
    with pytest.raises(InputError, match="f takes at most 1 values; its options are name"):
        make("f:a,b", lambda name: name)
    with pytest.raises(InputError, match=r"f needs name; write 'f:name=\.\.\.'"):
        make("f", lambda name: name)


def test_errors_of_the_factory_are_reported():
    def fails(error):
        def factory():
            raise error

        return factory

    with pytest.raises(RegistryError, match="f needs a package that is not installed: no timm"):
        make("f", fails(ImportError("no timm")))
    with pytest.raises(InputError, match=r"^exactly$"):
        make("f", fails(InputError("exactly")))
    with pytest.raises(
        InputError, match=r"f could not be created from \{\} \[\]: RuntimeError: boom"
    ):
        make("f", fails(RuntimeError("boom")))


def test_a_factory_without_a_signature():
    assert make("f", type("Odd", (), {"__init__": lambda self: None}))


def test_a_missing_argument_is_reported_by_name():
    def black_box(checkpoint, *, crop_pct=1.0):
        return checkpoint, crop_pct

    with pytest.raises(
        InputError,
        match=r"box needs checkpoint; write 'box:checkpoint=\.\.\.'; its options are checkpoint, "
        r"crop_pct\.",
    ):
        build(parse("box:crop_pct=0.5"), black_box, {})
    assert build(parse("box:my.file"), black_box, {}) == ("my.file", 1.0)
