"""Arrays in files that may be damaged or hostile: no pickles, no bombs, no wrong types."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from router.errors import SnapshotInvalid

#: Unpacked size of one file's arrays; a static encoder of 250,000 tokens has 128 MB.
_MAX_BYTES = 2**30


def write_arrays(**arrays: NDArray[Any]) -> bytes:
    """Arrays as a compressed `.npz` file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def read_arrays(files: Mapping[str, bytes], name: str, expected: Mapping[str, DTypeLike]) -> dict[str, NDArray[Any]]:
    """Read a `.npz` file.

    Args:
        files: of a snapshot, by name.
        name: the one to read.
        expected: array name → dtype; others are ignored.

    Raises:
        SnapshotInvalid: missing, no zip file, an array missing or of another type, not finite, or over 1 GiB.
    """
    if name not in files:
        raise SnapshotInvalid(f"{name}: missing")
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(files[name])) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MAX_BYTES:
                raise SnapshotInvalid(f"{name}: unpacks to more than {_MAX_BYTES} bytes")
            for key, dtype in expected.items():
                with archive.open(f"{key}.npy") as entry:
                    arrays[key] = np.lib.format.read_array(entry, allow_pickle=False, max_header_size=4096)
                if arrays[key].dtype != np.dtype(dtype):
                    raise SnapshotInvalid(f"{name}: {key} holds {arrays[key].dtype}, not {np.dtype(dtype)}")
                if arrays[key].dtype.kind == "f" and not np.isfinite(arrays[key]).all():
                    raise SnapshotInvalid(f"{name}: {key} holds numbers that are not finite")
    except (zipfile.BadZipFile, zlib.error, KeyError, OSError, EOFError, MemoryError, NotImplementedError) as error:
        raise SnapshotInvalid(f"{name}: {error}") from error
    except ValueError as error:
        raise error if isinstance(error, SnapshotInvalid) else SnapshotInvalid(f"{name}: {error}") from error
    return arrays
