"""Image files: decoded in the formats that photos and figures come in, and no others."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import cast

from PIL import Image, UnidentifiedImageError

from saliencykit.core.errors import InputError
from saliencykit.core.regular_file import refuse_special_file
from saliencykit.storage.locations import is_remote, read_bytes

# no EPS, which runs Ghostscript, and none of the formats that hardly anybody tests
_FORMATS = (
    "JPEG", "MPO", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "AVIF", "HEIF", "JPEG2000",
    "TGA", "ICO",
)  # fmt: skip


@contextmanager
def opened_image(file: Path | bytes, name: str | None = None) -> Iterator[Image.Image]:
    """An image file, which is decoded where it is used; errors in the block are those of the file.

    Args:
        file: The file, or its content.
        name: For messages; None: the path.

    Raises:
        InputError: It is not an image of a known format, is damaged, or is too large.
    """
    Image.init()
    name = name or repr(str(file))
    try:
        if is_remote(file):
            file = read_bytes(cast(Path, file))
        elif isinstance(file, Path):
            refuse_special_file(file)
        source = BytesIO(file) if isinstance(file, bytes) else file
        known = [each for each in _FORMATS if each in Image.OPEN]
        with Image.open(source, formats=known) as image:
            yield image
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(
            f"{name} is not an image that Pillow can read as one of {', '.join(_FORMATS)}."
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(
            f"{name} is too large to be opened safely ({error}) Resize it first: "
            "models see a few hundred pixels."
        ) from error
    except MemoryError as error:
        raise InputError(
            f"{name} has more pixels than there is memory for; resize it first: models see "
            "a few hundred pixels."
        ) from error
    # truncated or damaged: Pillow raises OSError, SyntaxError, struct.error, zlib.error ...
    except Exception as error:
        raise InputError(f"{name} cannot be read, it is truncated or damaged: {error}.") from error
