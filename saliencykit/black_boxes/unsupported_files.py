"""Unread: what to do with the file or address of a model that no installed plugin reads."""

from pathlib import PurePath

_ADVICE = {
    (
        ".onnx",
    ): "an ONNX file is read by the plugin saliencykit-onnx; write `pip install saliencykit-onnx`",
    (
        "http:",
        "https:",
    ): "a model behind an address is asked by the plugin saliencykit-http; write `pip install "
    "saliencykit-http`",
    (
        ".skops",
    ): "a scikit-learn pipeline is read by the plugin saliencykit-sklearn; write `pip install "
    "saliencykit-sklearn`",
    (".pkl", ".pickle", ".joblib"): (
        "saliencykit opens no pickles, which can run any code; save a scikit-learn pipeline with "
        "skops and use the plugin saliencykit-sklearn, or load the model in Python and write "
        "explain(model, image)"
    ),
    (".pt", ".pth", ".ckpt", ".bin", ".tar", ".pt2"): (
        "saliencykit opens no pickles, which can run any code, and weights alone are no model; "
        "save them with safetensors.torch.save_file(model.state_dict(), 'weights.safetensors') "
        "and write `timm:NAME,num_classes=N,checkpoint=weights.safetensors`, or build the model "
        "in Python and write explain(model, image)"
    ),
    (".safetensors",): (
        "weights alone are no model; write `timm:NAME,num_classes=N,checkpoint=FILE`, or build "
        "the model in Python and write explain(model, image). A trained masker's or a surrogate's "
        "file belongs to --masker"
    ),
    (".h5", ".keras", ".tflite", ".pb"): (
        "saliencykit asks TensorFlow models through ONNX (tf2onnx and saliencykit-onnx) or "
        "through a function from numpy (B, H, W, C) to (B, K), in Python: explain(function, image)"
    ),
}


def advice(text: str) -> str | None:
    """What to do with a text that looks like a model's file or address; None if it does not.

    Example:
        >>> advice("model.onnx")
        'an ONNX file is read by the plugin saliencykit-onnx; write `pip install saliencykit-onnx`'
        >>> advice("resnet18")
    """
    ending, scheme = PurePath(text).suffix.lower(), text.partition("/")[0].lower()
    return next(
        (words for endings, words in _ADVICE.items() if ending in endings or scheme in endings),
        None,
    )
