#!/usr/bin/env python
"""Writes tests/pickles: the same small dict, pickled by the Python and the protocol that the file name says.

Needs numpy and nothing else. The committed files are from Python 2.7.18 with numpy 1.16.6 (protocol 2 of cPickle, as
the CIFAR and ImageNet32x32 archives have it), Python 3.6.15 with numpy 1.19.5 and Python 3.11.7 with numpy 2.4.6:

    python tools/make_pickles.py tests/pickles
"""
import pickle
import sys

import numpy

try:
    import cPickle as pickle
except ImportError:
    pass

python = sys.version_info[0]
data = (numpy.arange(12) * 23).astype(numpy.uint8).reshape(2, 6)  # 0, 23, ... 253: beyond ASCII
contents = {
    "batch_label": "batch 1",
    "labels": [7, 300],
    "fine_labels": numpy.array([3, 99]),
    "data": data,
    "columns": numpy.asfortranarray(data),
    "mean": numpy.array([0.5, -1.25]),
    "filenames": ["a.png", "b.png"],
}
numpy_major = numpy.__version__.split(".")[0]
for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
    name = "%s/python%d-numpy%s-protocol%d.pickle" % (sys.argv[1], python, numpy_major, protocol)
    with open(name, "wb") as file:
        file.write(pickle.dumps(contents, protocol))
