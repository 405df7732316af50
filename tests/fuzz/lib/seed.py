#!/usr/bin/env python3
"""An input for the fuzz targets of image formats (tests/lib/fuzz_image.h) from an
image: seed.py IMAGE OUTPUT [FLAGS]"""
import sys

image = open(sys.argv[1], 'rb').read()
flags = int(sys.argv[3]) if len(sys.argv) > 3 else 0
image += bytes(-len(image) % 64)
out = bytearray([flags])
at = 0
while at < len(image):
    piece = image[at:at + 64]
    if not any(piece) and at + 64 < len(image):
        at += 64
        continue
    end = at + 64
    while end < len(image) and end - at < 1984 and any(image[end:end + 64]):
        end += 64
    piece = image[at:end].rstrip(b'\0') or b'\0'
    piece += bytes(-len(piece) % 8)
    out += (at // 64).to_bytes(3, 'little') + bytes([len(piece) // 8]) + piece
    at = end
out += bytes(4)
# A few requests: write, write and read back, zeroes, discard, flush, read.
for op in ((1, 0, 0, 1), (0x72, 3, 0, 7), (2, 40, 0, 0x83), (0x81, 8, 1, 0x90),
           (3, 9, 0, 4), (4, 16, 0, 0x82), (5, 0, 0, 0), (0x71, 30, 0, 9),
           (9, 0, 200, 9), (0x80, 0, 0, 0xff), (7, 0, 0, 0), (0x85, 0, 0, 0)):
    out += bytes(op)
open(sys.argv[2], 'wb').write(out)
