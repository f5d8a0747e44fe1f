"""Files that are read exist, files that are written appear whole or not at all."""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from reprlib import repr as short

from .errors import InputError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is renamed to `path`, on failure removed.

    The parent folder is created. The temporary name keeps the suffix, because writers choose the format by it.
    A process that is killed leaves at most a hidden `.NAME.*` file, never a half-written `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes private files; ours are ordinary ones
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def existing(path: str | os.PathLike[str]) -> Path:
    """`path`, if it is a file. Raises FileNotFoundError, or InputError for a folder and for names that are too long."""
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise FileNotFoundError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"cannot look at {short(str(path))} ({error.strerror}); check its name and its rights") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{path} is a folder; give its files, e.g. sorted(Path({str(path)!r}).iterdir())")
    return path
