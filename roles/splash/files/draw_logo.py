#!/usr/bin/python3
"""Draw the logo that a device shows while it starts: `draw_logo.py FILE.png`.

A gantry crane that carries a container, and the word under it, in strokes of one width. Each
pixel's cover is a function of its distance to the nearest stroke, so edges are smooth. Standard
library only; the result is in git beside this file, and a unit test draws it again.
"""

import math
import struct
import sys
import zlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

WIDTH, HEIGHT = 480, 360
LIGHT = (236, 240, 241)
ACCENT = (46, 196, 182)

Point = tuple[float, float]
Stroke = tuple[Sequence[Point], float, tuple[int, int, int]]


def arc(centre: Point, radius: float, start: float, end: float) -> list[Point]:
    """Points of an arc; degrees, clockwise from the right, as y grows downwards."""
    steps = 16
    angles = (math.radians(start + (end - start) * step / steps) for step in range(steps + 1))
    return [(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles]


def crane() -> list[Stroke]:
    """Beam, legs and braces; the trolley, its rope and the container."""
    beam, leg, thin = 9.0, 8.0, 3.5
    lines: list[Stroke] = [
        ([(80, 60), (400, 60)], beam, LIGHT),
        ([(110, 60), (92, 230)], leg, LIGHT),
        ([(370, 60), (388, 230)], leg, LIGHT),
        ([(106, 100), (150, 64)], thin, LIGHT),
        ([(374, 100), (330, 64)], thin, LIGHT),
        ([(74, 232), (112, 232)], beam, LIGHT),
        ([(368, 232), (406, 232)], beam, LIGHT),
        ([(222, 76), (274, 76)], leg, ACCENT),
        ([(248, 80), (248, 122)], thin, ACCENT),
        ([(248, 122), (204, 146)], thin, ACCENT),
        ([(248, 122), (292, 146)], thin, ACCENT),
    ]
    box = [(190.0, 148.0), (306.0, 148.0), (306.0, 214.0), (190.0, 214.0), (190.0, 148.0)]
    lines.append((box, 5.0, ACCENT))
    lines += [([(x, 162), (x, 200)], thin, ACCENT) for x in (213.0, 236.0, 259.0, 282.0)]
    return lines


def word() -> list[Stroke]:
    """`gantry`, each letter in a box of its own."""
    top, bottom, step, width = 282.0, 326.0, 51.0, 30.0
    # The first letter is wider than the others.
    left = (WIDTH - 5 * step - width + 14) / 2
    middle, radius = (top + bottom) / 2, (bottom - top) / 2
    letters: list[list[list[Point]]] = [
        # g
        [
            arc((radius - 18, middle), radius, -50, -360),
            [(2 * radius - 18, middle), (radius - 12, middle)],
        ],
        # a
        [
            [(0, bottom), (width / 2, top), (width, bottom)],
            [(6, middle + 8), (width - 6, middle + 8)],
        ],
        # n
        [[(0, bottom), (0, top), (width, bottom), (width, top)]],
        # t
        [[(0, top), (width, top)], [(width / 2, top), (width / 2, bottom)]],
        # r
        [
            [(0, bottom), (0, top), (width - 11, top), *arc((width - 11, top + 11), 11, -90, 90)],
            [(width - 11, top + 22), (0, top + 22)],
            [(width / 2, top + 22), (width, bottom)],
        ],
        # y
        [[(0, top), (width / 2, middle), (width, top)], [(width / 2, middle), (width / 2, bottom)]],
    ]
    return [
        ([(x + left + index * step, y) for x, y in line], 5.0, LIGHT)
        for index, letter in enumerate(letters)
        for line in letter
    ]


def distance(x: float, y: float, start: Point, end: Point) -> float:
    """From a point to a segment."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = dx * dx + dy * dy or 1.0  # a point is a segment too
    along = max(0.0, min(1.0, ((x - start[0]) * dx + (y - start[1]) * dy) / length))
    return math.hypot(x - start[0] - along * dx, y - start[1] - along * dy)


def paint(pixels: bytearray, stroke: Stroke) -> None:
    """Lay a stroke over the picture (RGBA, rows from the top)."""
    points, width, colour = stroke
    reach = width / 2 + 1
    for start, end in pairwise(points):
        rows = range(int(min(start[1], end[1]) - reach), int(max(start[1], end[1]) + reach) + 1)
        columns = range(int(min(start[0], end[0]) - reach), int(max(start[0], end[0]) + reach) + 1)
        for y in rows:
            for x in columns:
                gap = distance(x + 0.5, y + 0.5, start, end)
                cover = round(255 * max(0.0, min(1.0, width / 2 - gap + 0.5)))
                at = 4 * (y * WIDTH + x)
                if cover > pixels[at + 3]:
                    pixels[at : at + 4] = bytes((*colour, cover))


def png(pixels: bytes) -> bytes:
    """A PNG of 8 bit RGBA (https://www.w3.org/TR/png/)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    rows = b"".join(b"\0" + pixels[at : at + 4 * WIDTH] for at in range(0, len(pixels), 4 * WIDTH))
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 6, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows, 9)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def pixels() -> bytes:
    """The picture."""
    picture = bytearray(4 * WIDTH * HEIGHT)
    for stroke in crane() + word():
        paint(picture, stroke)
    return bytes(picture)


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(png(pixels()))
