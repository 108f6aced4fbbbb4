"""Opening image files: decoded, upright, with a clear error for everything that is not one."""

import re
import shlex
import warnings
from pathlib import Path, PurePosixPath

from PIL import Image, ImageOps

from saliencykit.black_boxes.pil_modes import declared_white
from saliencykit.core.errors import InputError
from saliencykit.core.regular_file import refuse_special_file
from saliencykit.data.decoding_budget import DECODING
from saliencykit.storage.image_formats import opened_image
from saliencykit.storage.locations import is_remote, read_bytes

_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):/+(.+)", re.DOTALL)  # C:/ is a drive


def refuse_url(text: str) -> None:
    """Say how to get the image behind an address, which is not opened.

    Args:
        text: A path, or a URL with one or, as `Path` leaves it, one slash of two missing.

    Raises:
        InputError: It is a URL.

    Example:
        >>> refuse_url("photos/cat.jpg")
    """
    if (url := _URL.match(text)) and not is_remote(text) and not Path(text).exists():
        scheme, rest = url.groups()
        address, how = f"{scheme}://{rest}", "copy the file to this machine and give its path"
        if scheme.startswith("http"):
            name = shlex.quote(PurePosixPath(rest.partition("?")[0]).name)
            how = (
                f"download it, `curl -L -o {name} {shlex.quote(address)}` and give the path {name}"
            )
        elif scheme == "file":
            address, how = f"file:///{rest}", f"give the path {'/' + rest!r}"
        raise InputError(f"{address!r} is a URL; {how}.")


def open_image(path: Path) -> Image.Image:
    """A decoded, upright image.

    Raises:
        InputError: The file is missing, damaged or not an image; the message names it.
    """
    if is_remote(path):
        try:
            return decoded_image(read_bytes(path), repr(str(path)))
        except FileNotFoundError:
            raise InputError(f"there is no file {str(path)!r}.") from None
        except OSError as error:
            raise InputError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from error
    refuse_special_file(path)
    try:
        size = None if path.is_dir() else path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"there is no file {str(path)!r}.") from None
    except (OSError, ValueError) as error:  # a name that is too long, or holds a null byte
        raise InputError(f"{str(path)[:200]!r} cannot be read: {error}.") from error
    if size is None:
        raise InputError(
            f"{str(path)!r} is a folder; explain(model, "
            f"saliencykit.data.read_folder({str(path)!r})) takes its images."
        )
    if size == 0:
        raise InputError(f"{str(path)!r} is empty (0 bytes).")
    return _decoded(path, repr(str(path)))


def decoded_image(content: bytes, name: str) -> Image.Image:
    """A decoded, upright image from the content of its file.

    Args:
        content: In one of the formats of image files.
        name: For messages.

    Raises:
        InputError: It is damaged or not an image.
    """
    if not content:
        raise InputError(f"{name} is empty (0 bytes).")
    return _decoded(content, name)


def _decoded(file: Path | bytes, name: str) -> Image.Image:
    with opened_image(file, name) as image:
        DECODING.claim(image.width * image.height)
        image.load()
        return upright_image(image, name)


def upright_image(image: Image.Image, name: str) -> Image.Image:
    """A decoded copy, turned as its EXIF data says; of several frames the first.

    Args:
        image: As Pillow opened it.
        name: For messages.

    Raises:
        InputError: It is truncated or damaged.
    """
    try:
        if (
            getattr(image, "n_frames", 1) > 1 and image.format != "MPO"
        ):  # MPO: a photo with a hidden second one
            frames = getattr(image, "n_frames", 1)
            warnings.warn(f"{name} has {frames} frames; the first one is explained.", stacklevel=2)
            image.seek(0)
        image.load()
    except (OSError, EOFError, SyntaxError, ValueError) as error:
        raise InputError(f"{name} cannot be read, it is truncated or damaged: {error}.") from error
    try:
        upright = ImageOps.exif_transpose(image)
    except Exception:  # broken EXIF data do not matter
        upright = image.copy()
    upright.format, white = image.format, declared_white(image)
    if white is not None:
        upright.info["white"] = white
    return upright
