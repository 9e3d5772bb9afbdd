#!/usr/bin/env python3
"""Writes tests/pictures: one picture, 24 pixels wide and 16 high, in the kinds of JPEG that there are.

Red is 10 times the column, green 10 times the row, blue 128; the grey picture has the red channel only.
Needs Pillow (the committed files are from 13.0.0):

    python tools/make_jpegs.py tests/pictures
"""
import sys

from PIL import Image

colour = Image.new("RGB", (24, 16))
colour.putdata([(10 * x, 10 * y, 128) for y in range(16) for x in range(24)])
for name, picture, options in [
    ("colour", colour, {"subsampling": 0}),
    ("halved", colour, {"subsampling": 2}),
    ("progressive", colour, {"subsampling": 0, "progressive": True}),
    ("cmyk", colour.convert("CMYK"), {}),
    ("grey", colour.getchannel("R"), {}),
]:
    picture.save("%s/%s.jpg" % (sys.argv[1], name), quality=90, optimize=True, **options)
