"""Every loss as a float64 loop over pixels, written from its equation."""

import math

import numpy as np

IGNORED = 255


def pixels(labels):
    """The valid pixels: (n, y, x, label)."""
    for (n, y, x), label in np.ndenumerate(labels):
        if label != IGNORED:
            yield n, y, x, int(label)


def softmax(logits):
    largest = max(logits)
    exponentials = [math.exp(logit - largest) for logit in logits]
    return [e / sum(exponentials) for e in exponentials]


def negative_log_softmax(logits, label):
    largest = max(logits)
    total = sum(math.exp(logit - largest) for logit in logits)
    return math.log(total) + largest - logits[label]


def joint_losses(class_logits, binary_logits, labels):
    """-log joint_y, by the product of the paper."""
    losses = np.zeros(labels.shape)
    for n, y, x, label in pixels(labels):
        foreground = 1 / (1 + math.exp(-binary_logits[n, 0, y, x]))
        classes = softmax(class_logits[n, :, y, x].tolist())
        joint = [(1 - foreground) * classes[0]] + [foreground * p for p in classes[1:]]
        losses[n, y, x] = -math.log(joint[label] / sum(joint))
    return losses


def joint_losses_of_logits(class_logits, binary_logits, labels):
    """The same without a product that under- or overflows."""
    losses = np.zeros(labels.shape)
    for n, y, x, label in pixels(labels):
        logits = class_logits[n, :, y, x].tolist()
        logits[1:] = [logit + binary_logits[n, 0, y, x] for logit in logits[1:]]
        losses[n, y, x] = negative_log_softmax(logits, label)
    return losses


def class_losses(logits, labels):
    losses = np.zeros(labels.shape)
    for n, y, x, label in pixels(labels):
        losses[n, y, x] = negative_log_softmax(logits[n, :, y, x].tolist(), label)
    return losses


def som(losses, ratio=0.1):
    k = max(1, int(ratio * losses.size))
    kept = [loss for loss in sorted(losses.ravel().tolist(), reverse=True)[:k] if loss != 0]
    return sum(kept) / (len(kept) + 1e-6)


def ohem(losses, labels, thresh=0.7, min_kept=100_000):
    losses = [losses[n, y, x] for n, y, x, _ in pixels(labels)]
    if not losses:
        return 0.0
    probabilities = sorted(math.exp(-loss) for loss in losses)
    kth = probabilities[min(min_kept * labels.shape[0], len(probabilities) - 1)]
    kept = [loss for loss in losses if math.exp(-loss) < max(kth, thresh)]
    return sum(kept) / len(kept) if kept else 0.0


def mean(losses, labels):
    num_valid = sum(1 for _ in pixels(labels))
    return losses.sum() / num_valid if num_valid else 0.0


def inverse_frequency(logits, labels):
    valid = list(pixels(labels))
    weights = [
        1 / math.log(1.02 + sum(label == c for *_, label in valid) / len(valid))
        for c in range(logits.shape[1])
    ]
    losses = class_losses(logits, labels)
    total = sum(weights[label] * losses[n, y, x] for n, y, x, label in valid)
    return total / sum(weights[label] for *_, label in valid)


def focal(logits, labels, alpha=None, gamma=2.0):
    total, num_valid = 0.0, 0
    for n, y, x, label in pixels(labels):
        p = softmax(logits[n, :, y, x].tolist())[label]
        weight = 1.0 if alpha is None else alpha[label]
        loss = negative_log_softmax(logits[n, :, y, x].tolist(), label)
        total += weight * (1 - p) ** gamma * loss
        num_valid += 1
    return total / num_valid


def focal_over_all_pixels(logits, labels):
    return focal(logits, labels) * sum(1 for _ in pixels(labels)) / labels.size


def farseg_focal(logits, labels, gamma=2.0, *, normalize=False, progress=None, at=None):
    """FarSeg's; the weights are those of the logits `at`, for the slope with the weights held."""
    losses = class_losses(logits, labels)
    held = losses if at is None else class_losses(at, labels)
    weights = {pixel[:3]: (1 - math.exp(-held[pixel[:3]])) ** gamma for pixel in pixels(labels)}
    scale = 1.0
    if normalize:
        scale = held.sum() / sum(weight * held[place] for place, weight in weights.items())
    total = 0.0
    for place, weight in weights.items():
        weight = weight * scale
        if progress is not None:
            weight += 0.5 * (1 - weight) * (1 + math.cos(math.pi * progress))
        total += weight * losses[place]
    return total / (len(weights) + len(labels))


def dice(logits, labels, smooth=1.0):
    losses = []
    for c in range(logits.shape[1]):
        both = probability = target = 0.0
        for n, y, x, label in pixels(labels):
            p = softmax(logits[n, :, y, x].tolist())[c]
            both += p * (label == c)
            probability += p
            target += label == c
        losses.append(1 - (2 * both + smooth) / (probability + target + smooth))
    return sum(losses) / len(losses)


def binary_dice(binary_logits, labels, smooth=1.0):
    both = probability = target = 0.0
    for n, y, x, label in pixels(labels):
        p = softmax([0.0, binary_logits[n, 0, y, x]])[1]
        both += p * label
        probability += p
        target += label
    return 1 - (2 * both + smooth) / (probability + target + smooth)


def class_binary(class_logits, binary_logits, labels):
    losses = class_losses(class_logits, labels)
    for n, y, x, label in pixels(labels):
        logits = [0.0, binary_logits[n, 0, y, x]]
        losses[n, y, x] += negative_log_softmax(logits, int(label > 0))
    return mean(losses, labels)
