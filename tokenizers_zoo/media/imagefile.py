"""Opening picture files: what types there are, what may hold them, and what is wrong with them."""

import io
import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, TypeGuard, Union

from ..errors import InputError
from ..files import existing
from .arrays import in_memory

if TYPE_CHECKING:
    from PIL.Image import Image

FileSource: TypeAlias = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, IO[bytes], Mapping[str, Any], "Image"]

FORMATS = {  # Pillow's name -> suffixes. Others are not tried: some start a program (EPS) or are no still pictures.
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "AVIF": (".avif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "JPEG2000": (".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc"),
    "ICO": (".ico",),
    "PCX": (".pcx",),
    "PSD": (".psd",),
    "QOI": (".qoi",),
    "SGI": (".sgi",),
    "DDS": (".dds",),
    "TGA": (".tga",),
}
HEIF_SUFFIXES = (".heic", ".heif", ".hif")
IMAGE_SUFFIXES = (*(suffix for suffixes in FORMATS.values() for suffix in suffixes), *HEIF_SUFFIXES)  # a folder is searched for
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")


def is_file_source(source: Any) -> TypeGuard[FileSource]:
    """Whether `opened` takes it."""
    from PIL import Image

    kinds = (str, os.PathLike, bytes, bytearray, memoryview, Mapping, Image.Image)
    return isinstance(source, kinds) or hasattr(source, "read")


@contextmanager
def opened(source: FileSource) -> Iterator["Image"]:
    """The PIL image of a path, encoded bytes, a binary file object (from its beginning where it can seek), a row
    {"bytes", "path"} of a Hugging Face dataset, or a PIL image.

    Whatever is wrong with the file, also while its pixels are read inside the block, is an InputError that names it.
    """
    from PIL import Image

    if isinstance(source, Mapping):
        source = _of_row(source)
    if isinstance(source, Image.Image):
        with _errors("the PIL image"):
            yield source
        return
    file: Path | io.BytesIO
    if isinstance(source, str | os.PathLike):
        file = existing(source)
        name = str(file)
        if file.is_fifo():
            with _errors(name):
                file = io.BytesIO(file.read_bytes())
    else:
        name = str(getattr(source, "name", "the bytes given"))
        with _errors(name):
            file = in_memory(source if isinstance(source, bytes | bytearray | memoryview) else _read(source))
    with (
        _errors(name),
        file.open("rb") if isinstance(file, Path) else file as stream,
        Image.open(stream, formats=[*FORMATS, *_heif(stream)]) as image,
    ):
        yield image


def _of_row(row: Mapping[str, Any]) -> FileSource:
    if row.get("bytes") is None and row.get("path") is None:
        raise InputError(f"a dictionary needs 'bytes' or 'path' to be an image, it has {', '.join(map(str, row)) or 'nothing'}")
    return row["path"] if row.get("bytes") is None else in_memory(row["bytes"])


def _read(file: Any) -> bytes:
    if getattr(file, "seekable", lambda: False)():
        file.seek(0)  # as Pillow does, so that a buffer that was just written can be given
    data = file.read()
    if not isinstance(data, bytes):
        raise InputError("a file object must give bytes; open it with mode 'rb'")
    return data


def _heif(file: IO[bytes]) -> list[str]:
    """Pillow's name of HEIC, with its plugin loaded, if `file` is one by its brands; else nothing."""
    head = file.read(64)
    file.seek(0)
    if head[4:8] != b"ftyp" or not any(brand in head[8 : int.from_bytes(head[:4], "big")] for brand in HEIF_BRANDS):
        return []
    try:
        import pillow_heif
    except ImportError as error:
        raise InputError("HEIC needs another package: pip install 'tokenizers-zoo[heic]'") from error
    pillow_heif.register_heif_opener()
    return ["HEIF"]


@contextmanager
def _errors(name: str) -> Iterator[None]:
    """Everything that goes wrong in reading `name` as an InputError that names it."""
    from PIL import Image, UnidentifiedImageError

    try:
        with _quiet:
            yield
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        fix = "make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it"
        raise InputError(f"cannot read {name} as an image ({error}); {fix}") from error
    except UnidentifiedImageError as error:  # it would name our stream
        raise InputError(f"cannot read {name} as an image (its type is not known); check the file or export it again") from error
    except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, struct.error, RuntimeError, MemoryError, ...
        reason = str(error) or type(error).__name__
        raise InputError(f"cannot read {name} as an image ({reason}); check the file or export it again") from error


class _Quiet:
    """While any thread is inside, Pillow's warnings of damaged metadata are dropped, and that of a huge image is an error.

    One pair of filters for all threads: each restoring those that it found would leave another's behind.
    """

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0

    def __enter__(self) -> None:
        from PIL import Image

        with self.lock:
            self.inside += 1
            if self.inside == 1:
                self.filters = warnings.catch_warnings()
                self.filters.__enter__()
                warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
                warnings.simplefilter("error", Image.DecompressionBombWarning)

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.filters.__exit__(None, None, None)


_quiet = _Quiet()
