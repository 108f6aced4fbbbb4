"""The plugin: its hook, and that importing it is cheap."""

import subprocess
import sys

import saliencykit_zoo


def test_the_hook_maps_names_to_factories():
    provided = saliencykit_zoo.provide_black_boxes()
    imagenet = {"mobilenetv2", "squeezenet1-0", "mobilenetv1-100", "mobilenetv1-075"}
    assert set(provided) == {"cifar10-fitnet", "efficientnet-lite0", *imagenet}
    assert all(callable(factory) for factory in provided.values())


HEAVY = {"torchvision", "safetensors.torch", "timm", "skimage", "matplotlib", "captum"}


def test_importing_it_and_listing_its_names_is_cheap():
    code = "import sys, saliencykit_zoo; saliencykit_zoo.provide_black_boxes(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())
