"""Models of other libraries: exported programs, fastai learners, YOLO; and advice for the rest."""

from typing import Any, final

import torch
from torch import Tensor, nn

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.output import Output
from saliencykit.core.types import Images, Logits


@final
class YoloClassifier(nn.Module):
    """A classification network of ultralytics, whose evaluation output is (probabilities, logits)
    or, in older versions, probabilities.

    Args:
        model: The network, `YOLO("yolo11n-cls.pt").model`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training

    def forward(self, images: Images) -> Logits:
        """Logits (B, K)."""
        output = self.model(images)
        if isinstance(output, tuple | list):
            logits: Tensor = output[1]
            return logits
        return torch.as_tensor(output, device="cpu").clamp_min(1e-12).log()


def wrap_library_model(model: object) -> BlackBox | None:
    """A black box around an exported program, a fastai learner or a YOLO classifier; None for
    anything else.

    Args:
        model: Any object; libraries are recognized by attributes and are not imported.

    Raises:
        InputError: It is a model of a known library that cannot be explained as it is; the message
            says how it can.
    """
    if isinstance(model, torch.export.ExportedProgram):
        return _exported(model)
    _refuse(model)
    inner = getattr(model, "model", None)
    if isinstance(inner, nn.Module) and hasattr(model, "dls") and hasattr(model, "loss_func"):
        return _fastai(model, inner)
    yolo = _yolo_network(model)
    return None if yolo is None else _yolo(model, yolo)


def _exported(program: torch.export.ExportedProgram) -> TorchBlackBox:
    """The program's module, one image at a time if it was exported for one."""
    names = program.graph_signature.user_inputs
    nodes = [node for node in program.graph.nodes if node.name in names]
    shape = nodes[0].meta["val"].shape if nodes else (None,)
    batch = shape[0] if isinstance(shape[0], int) else None
    if batch is not None and batch > 1:
        raise InputError(
            f"the program was exported for batches of exactly {batch} images; write torch.export."
            "export(model, (images,), dynamic_shapes=({0: torch.export.Dim('batch')},)), or export "
            "it for one image."
        )
    return TorchBlackBox(program.module(), max_batch_size=batch)


def _fastai(learner: Any, network: nn.Module) -> TorchBlackBox:
    """A learner's network with the normalization, size and classes of its data."""
    transforms = [
        transform
        for stage in ("after_item", "after_batch")
        for transform in getattr(getattr(learner.dls, stage, None), "fs", ())
    ]
    norms = [each for each in transforms if hasattr(each, "mean") and hasattr(each, "std")]
    mean, std = (norms[0].mean, norms[0].std) if norms else (0.0, 1.0)
    sizes = [each.size for each in transforms if getattr(each, "size", None) is not None]
    size = sizes[-1] if sizes else None
    loss = name_of(learner.loss_func)
    output: Output = "sigmoid" if "BCE" in loss else "softmax"
    if "MSE" in loss or "L1" in loss:
        output = "score"
    vocab = list(getattr(learner.dls, "vocab", None) or ())
    named = vocab and all(isinstance(name, str) for name in vocab)
    return TorchBlackBox(
        network,
        mean=_per_channel(mean),
        std=_per_channel(std),
        size=size if size is None or isinstance(size, int) else tuple(size),
        output=output,
        class_names=tuple(vocab) if named else None,
    )


def _per_channel(statistic: Any) -> tuple[float, ...]:
    values = torch.as_tensor(statistic, dtype=torch.float64, device="cpu").flatten().tolist()
    return tuple(values if len(values) > 1 else values * 3)


def _yolo_network(model: object) -> nn.Module | None:
    """The network of a YOLO object, or the object if it is the network."""
    own = getattr(model, "model", None)
    if hasattr(model, "task") and hasattr(model, "predictor") and isinstance(own, nn.Module):
        return own
    from_ultralytics = type(model).__module__.startswith("ultralytics.")
    return model if from_ultralytics and isinstance(model, nn.Module) else None


def _yolo(model: object, network: nn.Module) -> TorchBlackBox:
    args: Any = getattr(network, "args", None) or {}
    args = args if isinstance(args, dict) else vars(args)
    task = getattr(model, "task", None) or args.get("task", "")
    classifies = task == "classify"
    names = getattr(network, "names", None) or {}
    return TorchBlackBox(
        YoloClassifier(network) if classifies else network,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        size=args.get("imgsz") or (224 if classifies else 640),
        fit="crop" if classifies else "pad",
        class_names=tuple(names[key] for key in sorted(names)) or None,
    )


def _refuse(model: object) -> None:
    """Raise InputError for what has the shape of a model, and cannot be called with images."""
    library, who = type(model).__module__.partition(".")[0], name_of(model)
    if library in ("keras", "tensorflow", "tf_keras") or hasattr(model, "predict_on_batch"):
        raise InputError(
            f"{who} is a Keras model, which does not say in which range it takes pixels; write "
            "explain(FunctionBlackBox(lambda x: model.predict_on_batch(255 * x), size=224), "
            "image), without 255 if it takes [0, 1]."
        )
    if hasattr(model, "fit") and hasattr(model, "predict") and not isinstance(model, nn.Module):
        raise InputError(
            f"{who} is an estimator; those of scikit-learn are explained by the plugin "
            "saliencykit-sklearn: pip install saliencykit-sklearn. Without it write explain("
            "FunctionBlackBox(lambda x: model.predict_proba(x.reshape(len(x), -1))), image)."
        )
    texts = hasattr(model, "encode_text") or hasattr(model, "get_text_features")
    if texts and isinstance(model, nn.Module):
        raise InputError(
            f"{who} compares images with texts; say which: explain(zero_shot_black_box(model, "
            "['cat', 'dog'], tokenizer), image)."
        )
