"""The class masks of SBD, the Semantic Boundaries Dataset: `cls/NAME.mat`, MATLAB's format 5.

Each file holds a struct GTcls whose field Segmentation has the class of each pixel, [H, W] uint8;
no pixel is void. Source: Hariharan et al., "Semantic contours from inverse detectors", ICCV 2011,
http://home.bharathh.info/pubs/codes/SBD/download.html.

Reading a file runs no code in it: MATLAB's functions and objects would come as plain arrays. But
SciPy 1.15.3 dies of a segmentation fault on a damaged file, so the checksums come first.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

SIGNATURE = b"MATLAB 5.0 MAT-file"

_HEADER = 128
_BYTE_ORDERS = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}  # the end of the header
_COMPRESSED = 15  # type of a top-level element
_LARGEST = 1 << 28  # bytes of one element: 16384 x 16384 pixels
_DAMAGED = "is damaged or truncated; copy it again or unpack benchmark.tgz again"


def decode_segmentation(data: bytes) -> np.ndarray:
    """Decode the content of a file of SBD's `cls` folder to class indices, [H, W] uint8.

    Raises:
        ValueError: it is damaged, or another kind of file; the sentence goes on after the file's
            name.
    """
    _check_elements(data)
    try:
        variables = loadmat(io.BytesIO(data), variable_names=["GTcls"])
    except (MatReadError, ValueError, TypeError, NotImplementedError) as error:
        raise ValueError(f"can't be read as MATLAB data ({error})") from error
    truth = variables.get("GTcls")
    if truth is None or truth.size != 1 or "Segmentation" not in (truth.dtype.names or ()):
        raise ValueError("has no GTcls with a Segmentation; give SBD's cls/*.mat, not inst/*.mat")
    labels = truth["Segmentation"].item()
    if labels.ndim != 2 or labels.dtype != np.uint8 or labels.size == 0:
        raise ValueError(
            f"has a Segmentation of {list(labels.shape)} {labels.dtype}; [H, W] uint8 is expected"
        )
    return np.ascontiguousarray(labels)


def _check_elements(data: bytes) -> None:
    """Check that every element is whole and has the checksum that zlib keeps."""
    order = _BYTE_ORDERS.get(data[_HEADER - 4 : _HEADER])
    if order is None or len(data) == _HEADER:
        raise ValueError(_DAMAGED)
    position = _HEADER
    while position < len(data):
        if position + 8 > len(data):
            raise ValueError(_DAMAGED)
        kind, length = struct.unpack_from(f"{order}II", data, position)
        if kind != _COMPRESSED:
            raise ValueError(
                "is damaged, or saved without compression and so without a checksum; copy it "
                "again, or save it with MATLAB's -v7 or SciPy's do_compression=True"
            )
        position += 8
        decompressor = zlib.decompressobj()
        try:
            decompressor.decompress(data[position : position + length], _LARGEST)
        except zlib.error as error:
            raise ValueError(_DAMAGED) from error
        if not decompressor.eof or decompressor.unused_data:
            raise ValueError(_DAMAGED)
        position += length
