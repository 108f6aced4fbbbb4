import sys
import textwrap
import warnings
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch

import saliencykit
from saliencykit.alternatives.blur import Blur
from saliencykit.alternatives.choice import Choice
from saliencykit.alternatives.noise import Noise
from saliencykit.core.alternative import Alternative
from saliencykit.core.errors import ContractError, InputError, RegistryError
from saliencykit.core.masker import Masker
from saliencykit.core.objective import Objective
from saliencykit.maskers.baselines import CenterBox
from saliencykit.registry import manager as module
from saliencykit.registry.coerce import (
    as_alternative,
    as_black_box,
    as_masker,
    as_metric,
    as_objective,
    trained_masker,
)
from saliencykit.registry.manager import KINDS, Registry
from saliencykit.terms.area import Area
from saliencykit.terms.destroy import DestroyedMargin
from saliencykit.testing.black_boxes import PlantedEvidence

GOOD = """
    from saliencykit import hookimpl
    from saliencykit.alternatives.constant import Constant

    @hookimpl
    def provide_alternatives():
        return {"white": lambda: Constant(color=1.0), "constant": Constant}
"""


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """`plugins(good=source, other=source)` is a Registry with these modules as its plugins."""
    monkeypatch.delenv("SALIENCYKIT_DISABLE", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    made = []

    def make(**sources):
        points = []
        for name, source in sources.items():
            made.append(f"plugin_{name}")
            (tmp_path / f"plugin_{name}.py").write_text(textwrap.dedent(source))
            points.append(EntryPoint(name, f"plugin_{name}", "saliencykit"))
        return Registry(points)

    yield make
    for name in made:
        sys.modules.pop(name, None)


@pytest.fixture
def own(monkeypatch):
    """A process registry of this test's own, without installed plugins."""
    monkeypatch.delenv("SALIENCYKIT_DISABLE", raising=False)
    fresh = Registry([])
    monkeypatch.setattr(module, "_registry", fresh)
    return fresh


def state(registry, name):
    return next(record.failure for record in registry.plugins if record.name == name)


def test_built_in_parts_come_through_the_same_hooks(plugins):
    registry = plugins()
    assert [(r.name, r.origin, r.failure) for r in registry.plugins] == [
        ("saliencykit", "built in", "")
    ]
    for kind in KINDS:
        names = registry.names(kind)
        assert names
        assert all(name.startswith("saliencykit/") for name in names)


def test_short_and_full_names(plugins):
    registry = plugins(good=GOOD)
    assert registry.create("alternative", "white").color == 1.0
    assert registry.create("alternative", "good/white").color == 1.0
    assert registry.find("alternative", "blur") == ("saliencykit/blur", Blur)
    assert isinstance(registry.create("alternative", "saliencykit/blur:sigma=3"), Blur)


def test_two_plugins_with_one_short_name_are_both_reachable(plugins):
    registry = plugins(good=GOOD)
    with pytest.raises(
        RegistryError,
        match=r"several plugins provide the alternative 'constant'; write one of "
        r"saliencykit/constant, good/constant\.",
    ):
        registry.create("alternative", "constant")
    assert registry.create("alternative", "good/constant") == registry.create(
        "alternative", "saliencykit/constant"
    )


def test_unknown_names_come_with_a_suggestion(plugins):
    registry = plugins(good=GOOD)
    with pytest.raises(
        RegistryError,
        match=r"unknown alternative 'blurr'\. Did you mean 'blur'\? Known: saliencykit/blur, "
        r".*good/white\.$",
    ):
        registry.create("alternative", "blurr:sigma=3")
    with pytest.raises(RegistryError, match=r"unknown model 'zzz'\. Known"):
        registry.find("black_box", "zzz")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "import no_such_package_at_all",
            "ModuleNotFoundError: No module named 'no_such_package_at_all'",
        ),
        ("raise RuntimeError('out of order')", "RuntimeError: out of order"),
        ("raise SystemExit('bye')", "SystemExit: bye"),
        ("def broken(:", "SyntaxError"),
        (
            GOOD.replace("provide_alternatives", "provide_alternativs"),
            "PluginValidationError: .*provide_alternativs",
        ),
        (
            GOOD.replace("provide_alternatives()", "provide_alternatives(color)"),
            "PluginValidationError: .*color",
        ),
        (
            GOOD.replace("@hookimpl", ""),
            "ContractError: provide_alternatives is not marked as a hook; write "
            "@saliencykit.hookimpl",
        ),
        ("def wrap_model(model): ...", "ContractError: wrap_model is not marked as a hook"),
    ],
    ids=[
        "import",
        "raises",
        "exits",
        "syntax",
        "misspelt hook",
        "wrong argument",
        "unmarked hook",
        "unmarked wrapper",
    ],
)
def test_a_plugin_that_does_not_load_is_left_out_with_the_reason(plugins, source, words):
    with pytest.warns(
        UserWarning, match=rf"saliencykit: plugin 'bad' \(plugin_bad\) is left out: (?s:{words})"
    ):
        registry = plugins(bad=source, good=GOOD)
    assert state(registry, "bad")
    assert state(registry, "good") == ""
    assert registry.create("alternative", "white").color == 1.0
    with pytest.raises(RegistryError, match=r"(?s)Plugins left out: bad \(.*\)\."):
        registry.find("alternative", "from-the-bad-one")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            "raise OSError('no weights here')",
            r"provide_maskers\(\) raised OSError: no weights here",
        ),
        ("raise SystemExit(1)", r"provide_maskers\(\) raised SystemExit"),
        ("return None", r"provide_maskers\(\) raised TypeError"),
        ("return {'a/b': print}", r"provide_maskers\(\) raised ContractError: 'a/b'"),
        ("return {'x': 3}", r"provide_maskers\(\) raised ContractError: 'x': 3"),
        (
            "return {'x': Constant()}",
            r"provide_maskers\(\) raised ContractError: 'x': give the class Constant or a function",
        ),
    ],
)
def test_a_failing_hook_warns_once_and_its_plugin_is_left_out(plugins, body, words):
    source = f"{GOOD}\n    @hookimpl\n    def provide_maskers():\n        {body}\n"
    registry = plugins(bad=source)
    assert state(registry, "bad") == ""  # nothing is known before somebody looks
    with pytest.warns(UserWarning, match=words):
        assert set(registry.names("masker")) == {
            n for n in registry.names("masker") if n.startswith("saliencykit/")
        }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "saliencykit/rise" in registry.names("masker")
        assert "bad/white" not in registry.names("alternative")
    assert state(registry, "bad")


def test_a_hook_is_called_only_when_its_kind_is_needed(plugins):
    source = """
        from saliencykit import hookimpl
        queried = []

        @hookimpl
        def provide_terms():
            queried.append("terms")
            return {}
    """
    registry = plugins(lazy=source)
    registry.names("alternative")
    queried = registry.manager.get_plugin("lazy").queried
    assert queried == []
    registry.names("term")
    registry.names("term")
    assert queried == ["terms"]


def test_a_factory_that_needs_a_missing_package(plugins):
    source = """
        from saliencykit import hookimpl

        def heavy():
            import no_such_package_at_all

        @hookimpl
        def provide_maskers():
            return {"heavy": heavy, "wrong": dict}
    """
    registry = plugins(needy=source)
    assert "needy/heavy" in registry.names("masker")
    with pytest.raises(
        RegistryError,
        match="needy/heavy needs a package that is not installed: No module named 'no_such_package",
    ):
        registry.create("masker", "heavy")
    with pytest.raises(
        ContractError, match="the factory of needy/wrong returned dict; expected a Masker"
    ):
        registry.create("masker", "wrong")
    assert state(registry, "needy") == ""


def test_disabled_plugins_are_not_even_imported(plugins, monkeypatch):
    registry = plugins()
    monkeypatch.setenv("SALIENCYKIT_DISABLE", " bad , other")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registry = plugins(bad="raise RuntimeError('imported')", good=GOOD)
    assert state(registry, "bad") == "disabled by SALIENCYKIT_DISABLE"
    assert registry.create("alternative", "white")


@pytest.mark.parametrize("name", ["saliencykit", "local"])
def test_no_plugin_can_take_a_reserved_name(plugins, name):
    with pytest.warns(UserWarning, match="another plugin already has this name"):
        registry = plugins(**{name: GOOD})
    assert "saliencykit/blur" in registry.names("alternative")
    assert f"{name}/white" not in registry.names("alternative")


def test_an_installed_distribution_is_found(tmp_path, monkeypatch):
    monkeypatch.delenv("SALIENCYKIT_DISABLE", raising=False)
    info = tmp_path / "white_plugin-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: white-plugin\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[saliencykit]\nwhite-plugin = plugin_installed\n")
    (tmp_path / "plugin_installed.py").write_text(textwrap.dedent(GOOD))
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry()
    assert ("white-plugin", "white-plugin 1.2", "") in [
        (r.name, r.origin, r.failure) for r in registry.plugins
    ]
    assert registry.create("alternative", "white-plugin/white").color == 1.0


def test_models_are_wrapped_by_the_newest_plugin_that_knows_them(plugins):
    source = """
        from saliencykit import hookimpl
        from saliencykit.testing.black_boxes import PlantedEvidence

        @hookimpl
        def wrap_model(model):
            return PlantedEvidence(num_classes={classes}) if model == "planted" else None
    """
    registry = plugins(a=source.format(classes=2), b=source.format(classes=3))
    assert registry.wrap("planted").num_classes == 3
    assert type(registry.wrap(torch.nn.Flatten())).__name__ == "TorchBlackBox"
    assert registry.wrap(object()) is None


def test_a_string_that_is_not_a_name_is_passed_to_wrap_model(plugins, monkeypatch):
    source = """
        from saliencykit import hookimpl
        from saliencykit.testing.black_boxes import PlantedEvidence

        @hookimpl
        def provide_black_boxes():
            return {"planted": PlantedEvidence}

        @hookimpl
        def wrap_model(model):
            return PlantedEvidence(num_classes=2) if str(model).endswith(".planted") else None
    """
    monkeypatch.setattr(module, "_registry", plugins(files=source))
    assert as_black_box("some/where.planted").num_classes == 2
    assert as_black_box(Path("where.planted")).num_classes == 2
    assert as_black_box("planted").num_classes == 4
    assert as_black_box("files/planted:num_classes=3").num_classes == 3
    with pytest.raises(RegistryError, match=r"unknown model 'some/where\.else'"):
        as_black_box("some/where.else")
    with pytest.raises(RegistryError, match=r"unknown model 'C'"):
        as_black_box(r"C:\models\where.else")


def test_a_plugin_whose_wrap_model_fails_is_left_out(plugins):
    source = """
        from saliencykit import hookimpl

        @hookimpl
        def wrap_model(model):
            {body}
    """
    for body, words in [
        ("raise KeyError('x')", r"wrap_model\(\) raised KeyError"),
        ("raise SystemExit('bye')", r"wrap_model\(\) raised SystemExit: bye"),
        ("return wrap_model(model)", r"wrap_model\(\) raised RecursionError"),
        ("return 3", "returned int, which is not a BlackBox"),
    ]:
        registry = plugins(bad=source.format(body=body))
        with pytest.warns(UserWarning, match=words):
            assert type(registry.wrap(torch.nn.Flatten())).__name__ == "TorchBlackBox"
        assert state(registry, "bad")
        sys.modules.pop("plugin_bad")


@pytest.mark.parametrize(
    ("fits", "call", "words"),
    [
        ("raise KeyError('x')", "return 3", "KeyError: 'x'"),
        ("raise SystemExit(3)", "return 3", "SystemExit: 3"),
        ("return True", "raise OSError('no file')", "OSError: no file"),
        ("return True", "raise SystemExit", "SystemExit: no message"),
        ("return True", "return 3", "its factory returned int; expected a Masker"),
    ],
)
def test_a_trained_masker_that_fails_is_named_and_not_used(plugins, monkeypatch, fits, call, words):
    source = f"""
        from saliencykit import hookimpl
        from saliencykit.core.masker import TrainedMaskerFactory

        class Trained(TrainedMaskerFactory):
            def fits(self, black_box):
                {fits}

            def __call__(self):
                {call}

        @hookimpl
        def provide_maskers():
            return {{"mine": Trained()}}
    """
    monkeypatch.setattr(module, "_registry", plugins(bad=source))
    with pytest.warns(UserWarning, match=f"masker bad/mine cannot be used: {words}"):
        assert trained_masker(PlantedEvidence()) is None


def test_a_factory_that_exits_is_one_error(plugins):
    source = """
        from saliencykit import hookimpl

        def leave():
            raise SystemExit(4)

        @hookimpl
        def provide_maskers():
            return {"leaves": leave}
    """
    with pytest.raises(InputError, match=r"bad/leaves could not be created .* SystemExit: 4"):
        plugins(bad=source).create("masker", "leaves")


def test_wrap_model_may_refuse_a_model_with_advice(plugins):
    registry = plugins(
        picky="""
        from saliencykit import InputError, hookimpl

        @hookimpl
        def wrap_model(model):
            raise InputError("this model takes two inputs; give the first")
    """
    )
    with pytest.raises(InputError, match="takes two inputs"):
        registry.wrap(torch.nn.Flatten())
    assert state(registry, "picky") == ""


class Mine(Masker):
    def __init__(self, level: float = 1.0):
        self.level = level

    def mask(self, black_box, images, labels, generator):
        return images.new_full((len(images), 1, 1, 1), self.level)


def test_register_names_a_class(own):
    assert saliencykit.register("mine", Mine) == "local/mine"
    assert as_masker("mine:0.5").level == 0.5
    assert isinstance(as_masker("local/mine"), Mine)
    assert saliencykit.register("mine", Mine) == "local/mine"  # again: nothing new
    with pytest.raises(InputError, match=r"local/mine is already .*Mine.*; choose another name"):
        saliencykit.register("mine", CenterBox)
    saliencykit.register("rise", CenterBox)
    with pytest.raises(RegistryError, match="several plugins provide the masker 'rise'"):
        as_masker("rise")
    assert isinstance(as_masker("local/rise"), CenterBox)


def test_register_reads_the_kind_from_the_base_class(own):
    class Gray(Alternative):
        def fill(self, images, generator, mask=None):
            return images * 0 + 0.5

    saliencykit.register("gray", Gray)
    saliencykit.register("planted", PlantedEvidence)
    assert "local/gray" in own.names("alternative")
    assert "local/gray" not in own.names("masker")
    assert as_black_box("planted:num_classes=2").num_classes == 2


@pytest.mark.parametrize("factory", [print, Mine(), dict, None])
def test_register_takes_classes_only(own, factory):
    with pytest.raises(
        InputError,
        match=r"takes a class derived from one of BlackBox, Alternative, Term, Masker, Metric; got",
    ):
        saliencykit.register("mine", factory)


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "a,b", "a=b", "a b", "a+b"])
def test_register_takes_plain_names_only(own, name):
    with pytest.raises(InputError, match="is not a name"):
        saliencykit.register(name, Mine)


def test_objects_pass_and_texts_are_created(own):
    for coerce, thing, text in [
        (as_masker, CenterBox(area=0.3), "center-box:area=0.3"),
        (as_alternative, Blur(sigma=11), "blur:11"),
    ]:
        assert coerce(thing) is thing
        assert coerce(text) == thing
        with pytest.raises(
            InputError,
            match=r"int is no \w+: give an object derived from \w+, or a name .* such as \w+",
        ):
            coerce(3)
    assert as_metric("saliency-score:floor=0.1").floor == 0.1
    black_box = PlantedEvidence()
    assert as_black_box(black_box) is black_box


def test_black_boxes_from_models_and_functions(own):
    black_box = as_black_box(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2)))
    assert black_box(torch.rand(1, 3, 2, 2)).shape == (1, 2)
    black_box = as_black_box(
        lambda images: np.stack([images.mean((1, 2, 3)), 1 - images.mean((1, 2, 3))], 1)
    )
    assert not black_box.differentiable
    with pytest.raises(
        InputError,
        match=r"int is not a classifier that saliencykit knows\. Give a torch nn\.Module",
    ):
        as_black_box(3)


def test_objectives_come_from_presets_or_terms(own):
    objective = Objective((Area(),))
    assert as_objective(objective) is objective
    assert as_objective("paper-mean").terms[1] == Area(weight=6.0)
    assert as_objective("area:weight=8+destroyed-margin") == Objective(
        (Area(weight=8), DestroyedMargin())
    )
    assert as_objective("area") == Objective((Area(),))
    with pytest.raises(
        RegistryError,
        match=r"unknown objective 'paper-men'\. Did you mean 'paper-mean'\? Presets: paper, ",
    ):
        as_objective("paper-men")
    with pytest.raises(RegistryError, match=r"unknown term 'aera'\. Did you mean 'area'"):
        as_objective("aera:weight=3")
    with pytest.raises(InputError, match="an objective must be an Objective or a text; got int"):
        as_objective(3)


def test_arguments_that_are_parts_themselves(own):
    choice = as_alternative("choice:alternatives=blur:sigma=3+noise")
    assert choice == Choice(alternatives=(Blur(sigma=3), Noise()))
    with pytest.raises(RegistryError, match="unknown alternative 'blurr'"):
        as_alternative("choice:alternatives=blurr+noise")


def test_bad_arguments_name_the_part(own):
    for text, words in [
        ("blur:sigma=-1", "takes a number in"),
        ("blur:sigma=wide", r"Blur\(sigma='wide'\) takes a number in"),
        ("blur:radius=3", r"saliencykit/blur has no option 'radius'; its options are sigma"),
        ("blur:1,2,3", "saliencykit/blur takes at most"),
        ("blur:", "'blur:' is not a name"),
    ]:
        with pytest.raises(InputError, match=words):
            as_alternative(text)


def test_one_registry_per_process(monkeypatch):
    monkeypatch.setattr(module, "_registry", None)
    assert module.registry() is module.registry()
