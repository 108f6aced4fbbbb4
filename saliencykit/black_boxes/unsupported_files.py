"""What to do with the file or address of a model that no installed plugin reads."""

from pathlib import PurePath

_HINTS = {
    (".onnx",): "ONNX files are read by saliencykit-onnx; write `pip install saliencykit-onnx`",
    ("http:", "https:"): (
        "models behind an address are queried by saliencykit-http; write "
        "`pip install saliencykit-http`"
    ),
    (".skops",): (
        "scikit-learn pipelines are read by saliencykit-sklearn; write "
        "`pip install saliencykit-sklearn`"
    ),
    (".pkl", ".pickle", ".joblib"): (
        "saliencykit opens no pickles, which can run any code; save a scikit-learn pipeline with "
        "skops and use the plugin saliencykit-sklearn, or load the model in Python and write "
        "explain(model, image)"
    ),
    (".pt", ".pth", ".ckpt", ".bin", ".tar", ".pt2"): (
        "saliencykit opens no pickles, which can run any code, and weights alone are not a model; "
        "save them with safetensors.torch.save_file(model.state_dict(), 'weights.safetensors') "
        "and write `timm:NAME,num_classes=N,checkpoint=weights.safetensors`, or build the model "
        "in Python and write explain(model, image)"
    ),
    (".safetensors",): (
        "weights alone are not a model; write `timm:NAME,num_classes=N,checkpoint=FILE`, or build "
        "the model in Python and write explain(model, image). The file of a trained masker or a "
        "surrogate goes to --masker"
    ),
    (".py", ".ipynb"): (
        "saliencykit runs no code that is named by its path; write explain(model, image) in that "
        "file, or give the model a name with a plugin, `saliencykit plugins new`"
    ),
    (".h5", ".keras", ".tflite", ".pb"): (
        "TensorFlow models are explained through ONNX (tf2onnx and saliencykit-onnx), or in Python "
        "as a function from numpy (B, H, W, C) to (B, K): explain(function, image)"
    ),
}


def unsupported_model_hint(text: str) -> str | None:
    """What to do with a text that looks like a model's file or address; None if it does not.

    Example:
        >>> unsupported_model_hint("model.onnx")
        'ONNX files are read by saliencykit-onnx; write `pip install saliencykit-onnx`'
        >>> unsupported_model_hint("resnet18")
    """
    suffix, scheme = PurePath(text).suffix.lower(), text.partition("/")[0].lower()
    of_file = next((hint for endings, hint in _HINTS.items() if suffix in endings), None)
    of_address = next((hint for endings, hint in _HINTS.items() if scheme in endings), None)
    return f"download the file; {of_file}" if of_file and of_address else of_file or of_address
