"""Image files: decoded in the formats that photos and figures come in, and no others."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from saliencykit.core.errors import InputError

# no EPS, which runs Ghostscript, and none of the formats that hardly anybody tests
_FORMATS = (
    "JPEG", "MPO", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "AVIF", "HEIF", "JPEG2000",
    "TGA", "ICO",
)  # fmt: skip


@contextmanager
def opened_image(path: Path) -> Iterator[Image.Image]:
    """An image file, which is decoded where it is used; errors in the block are those of the file.

    Args:
        path: The file.

    Raises:
        InputError: It is not an image of a known format, is damaged, or is too large.
    """
    Image.init()
    try:
        if not path.is_file():  # a pipe would wait for ever
            raise InputError(f"{str(path)!r} is not a file.")
        with Image.open(path, formats=[name for name in _FORMATS if name in Image.OPEN]) as image:
            yield image
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(
            f"{str(path)!r} is not an image that Pillow can read as one of {', '.join(_FORMATS)}."
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(
            f"{str(path)!r} is too large to be opened safely ({error}) Resize it first: "
            "models see a few hundred pixels."
        ) from error
    except MemoryError as error:
        raise InputError(
            f"{str(path)!r} has more pixels than there is memory for; resize it first: models see "
            "a few hundred pixels."
        ) from error
    # truncated or damaged: Pillow raises OSError, SyntaxError, struct.error, zlib.error ...
    except Exception as error:
        raise InputError(
            f"{str(path)!r} cannot be read, it is truncated or damaged: {error}."
        ) from error
