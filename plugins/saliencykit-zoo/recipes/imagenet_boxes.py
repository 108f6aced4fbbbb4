"""Convert the ImageNet MobileNetV2 that the zoo's masker belongs to, from torchvision's names to timm's, and check it.

    python plugins/saliencykit-zoo/recipes/imagenet_boxes.py mobilenet_v2_imagenet.safetensors --output mobilenetv2_100.safetensors

The result loads into `timm.create_model("mobilenetv2_100", pad_type="same")`, which then predicts exactly like the torchvision form
with TensorFlow's padding; the fingerprint of both is the same, so the zoo's masker is picked for either.
"""

import argparse
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file, save_file
from saliencykit_zoo.imagenet import imagenet_classifier


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    a = parser.parse_args()
    black_box = imagenet_classifier("mobilenetv2", a.checkpoint)
    net = timm.create_model("mobilenetv2_100", pad_type="same").eval()
    # both list their layers in the same order
    values = dict(zip(net.state_dict(), black_box.model.state_dict().values(), strict=True))
    net.load_state_dict(values)
    image = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = (net((image - 0.5) / 0.5) - black_box(image)).abs().max()
    if difference > 1e-4:
        raise SystemExit(f"the two forms differ by {difference:.2g}; nothing was written")
    save_file(
        {
            name: value.half() if value.is_floating_point() else value
            for name, value in values.items()
        },
        a.output,
    )
    print(
        f"{a.output}: {len(load_file(a.output))} tensors, largest difference of the logits {difference:.1g}"
    )


if __name__ == "__main__":
    main()
