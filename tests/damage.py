"""Damage as disks do it: a byte that changed, or an end that is missing."""

import random


def damaged(data: bytes, seed: int) -> bytes:
    """Return data with one byte changed at random, or cut at random (one time in four)."""
    dice = random.Random(seed)
    place = dice.randrange(len(data))
    if dice.random() < 0.25:
        return data[:place]
    other = dice.choice([byte for byte in range(256) if byte != data[place]])
    digits = b"0123456789"
    if data[place] in digits:  # the hardest to notice
        other = dice.choice([byte for byte in digits if byte != data[place]])
    return data[:place] + bytes([other]) + data[place + 1 :]
