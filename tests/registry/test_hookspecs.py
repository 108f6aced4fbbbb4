import inspect

import pluggy

from saliencykit.registry import builtins, hookspecs
from saliencykit.registry.manager import KINDS


def hooks():
    return {
        name: f
        for name, f in vars(hookspecs).items()
        if inspect.isfunction(f) and hasattr(f, "saliencykit_spec")
    }


def test_there_is_one_hook_per_kind_and_wrap_model():
    assert set(hooks()) == {
        "wrap_model",
        "provide_black_boxes",
        *(f"provide_{kind}s" for kind in KINDS if kind != "black_box"),
    }


def test_pluggy_accepts_our_own_plugin_and_refuses_a_misspelt_one():
    manager = pluggy.PluginManager("saliencykit")
    manager.add_hookspecs(hookspecs)
    manager.register(builtins)
    manager.check_pending()
    assert all(getattr(manager.hook, name).get_hookimpls() for name in hooks())


def test_each_is_documented():
    assert all(inspect.getdoc(hook) for hook in hooks().values())
