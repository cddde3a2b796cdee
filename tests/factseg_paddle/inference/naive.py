"""The sliding window in its plainest form: whole image, whole maps, one window after the other.

Written from the original's description, in float64, and from OpenCV's resize; nothing of the
package is used.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def starts(length, size, stride):
    count = math.ceil((length - size) / stride) + 1 if length > size else 1
    return [index * stride for index in range(count - 1)] + [max(length - size, 0)]


def one_window(pixels, predict, mean, std):
    """Normalise, pad, predict, crop: [h, w, 3] to [C, h, w] float64."""
    height, width = pixels.shape[:2]
    normal = (pixels.astype(np.float64) - mean) / std
    padded = np.zeros((math.ceil(height / 32) * 32, math.ceil(width / 32) * 32, 3))
    padded[:height, :width] = normal
    output = predict(padded.transpose(2, 0, 1)[None].astype(np.float32))
    return output[0, :, :height, :width].astype(np.float64)


def one_scale(image, predict, *, size, stride, flip, mean, std):
    height, width = image.shape[:2]
    total, count = None, np.zeros((height, width))
    for top in starts(height, size, stride):
        for left in starts(width, size, stride):
            rows = slice(top, top + min(size, height))
            columns = slice(left, left + min(size, width))
            crop = image[rows, columns]
            maps = [one_window(crop, predict, mean, std)]
            if flip:
                maps.append(one_window(crop[:, ::-1], predict, mean, std)[:, :, ::-1])
                maps.append(one_window(crop[::-1], predict, mean, std)[:, ::-1])
            if total is None:
                total = np.zeros((len(maps[0]), height, width))
            total[:, rows, columns] += sum(maps) / len(maps)
            count[rows, columns] += 1
    return total / count


def probabilities(
    image, predict, *, size=896, stride=512, flip=False, scales=(1.0,), mean=MEAN, std=STD
):
    """[C, H, W] float64."""
    height, width = image.shape[:2]
    maps = []
    for scale in scales:
        scaled = image.astype(np.float32)
        if scale != 1:
            size_there = (max(1, round(width * scale)), max(1, round(height * scale)))
            scaled = cv2.resize(scaled, size_there, interpolation=cv2.INTER_LINEAR)
        found = one_scale(scaled, predict, size=size, stride=stride, flip=flip, mean=mean, std=std)
        there = [
            cv2.resize(channel, (width, height), interpolation=cv2.INTER_LINEAR)
            for channel in found
        ]
        maps.append(np.stack(there) if scale != 1 else found)
    return sum(maps) / len(maps)


def same_classes(labels, exact, tie=1e-5):
    """Whether labels are the argmax of exact probabilities wherever these are no tie."""
    ordered = np.sort(exact, axis=0)
    clear = ordered[-1] - ordered[-2] > tie * np.abs(ordered[-1])
    assert clear.any()
    return bool((labels == exact.argmax(axis=0))[clear].all())
