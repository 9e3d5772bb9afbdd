#!/usr/bin/env python3
"""Writes the first COUNT images of each class of FOLDER/full-PART-*-ubyte, in their original
order, as FOLDER/PART-*-ubyte (IDX, big-endian). Usage: first_of_each_class.py FOLDER PART COUNT"""
import struct
import sys

CLASSES = 10


def main(folder, part, count):
    images = open(f"{folder}/full-{part}-images-idx3-ubyte", "rb").read()
    labels = open(f"{folder}/full-{part}-labels-idx1-ubyte", "rb").read()
    magic, total, rows, columns = struct.unpack(">IIII", images[:16])
    assert magic == 0x803 and struct.unpack(">II", labels[:8]) == (0x801, total)
    pixels = rows * columns
    taken = [0] * CLASSES
    kept = []
    for index in range(total):
        label = labels[8 + index]
        if taken[label] < count:
            taken[label] += 1
            kept.append(index)
    assert taken == [count] * CLASSES, taken
    with open(f"{folder}/{part}-images-idx3-ubyte", "wb") as out:
        out.write(struct.pack(">IIII", magic, len(kept), rows, columns))
        for index in kept:
            out.write(images[16 + index * pixels : 16 + (index + 1) * pixels])
    with open(f"{folder}/{part}-labels-idx1-ubyte", "wb") as out:
        out.write(struct.pack(">II", 0x801, len(kept)))
        out.write(bytes(labels[8 + index] for index in kept))


main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
