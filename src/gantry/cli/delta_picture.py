"""The history of a fleet's update sizes as a picture: SVG without scripts and fonts of its own.

Two bars for each update, what a pull fetches and what a delta does, on one linear axis, so that
lengths can be compared; the number over a bar says what is too short to be seen. Where no delta is
worth its while, the second bar is an outline. Colours are told apart by those who see them
otherwise, and change with the reader's light or dark.
"""

from collections.abc import Sequence
from datetime import datetime
from html import escape
from math import floor, log10

from gantry.client.delta_history import Update

LEFT, RIGHT, TOP, BOTTOM = 64, 24, 92, 64
PLOT_HEIGHT = 260
SLOT, BAR, GAP = 84, 30, 4
LEAST_WIDTH = 560
STYLE = """
  .page{fill:#fff}.title{fill:#1f2933;font-size:18px;font-weight:600}
  .text{fill:#52606d;font-size:12px}.value{fill:#1f2933;font-size:11px}
  .grid{stroke:#e4e7eb}.axis{stroke:#9aa5b1}.whole{fill:#b8c2cc}.delta{fill:#0f766e}
  .pulled{fill:none;stroke:#0f766e;stroke-width:1.5}
  .none{fill:none;stroke:#9aa5b1;stroke-dasharray:3 3}
  text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
  @media (prefers-color-scheme:dark){
    .page{fill:#16191d}.title{fill:#f0f4f8}.text{fill:#aab4be}.value{fill:#f0f4f8}
    .grid{stroke:#2b3138}.axis{stroke:#66707a}.whole{fill:#56616c}.delta{fill:#2dd4bf}
    .pulled{stroke:#2dd4bf}.none{stroke:#66707a}
  }
"""


def draw(name: str, updates: Sequence[Update]) -> str:
    """The picture of an application's updates, the oldest at the left."""
    width = max(LEAST_WIDTH, LEFT + RIGHT + SLOT * len(updates))
    height = TOP + PLOT_HEIGHT + BOTTOM
    label = escape(f"Update sizes of {name}, {len(updates)} updates. {_saved(updates)}")
    top = axis_top(max((each.whole or 0 for each in updates), default=0))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="{label}">',
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{width}" height="{height}" rx="8"/>',
        _text(LEFT, 32, "title", f"Updates of {name}"),
        _text(LEFT, 52, "text", _saved(updates)),
        *_legend(width),
        *_axis(width, top),
    ]
    for number, update in enumerate(updates):
        parts += _update(LEFT + SLOT * number + SLOT / 2, update, top)
    if not updates:
        parts.append(_text(width / 2, TOP + PLOT_HEIGHT / 2, "text", "no updates yet", "middle"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def axis_top(most: int) -> int:
    """Where the axis ends, in bytes: some steps of 1, 2 or 5 times a power of ten."""
    step = axis_step(most)
    return step * max(1, -(-most // step))


def axis_step(most: int) -> int:
    """From one line of the axis to the next."""
    rough = max(most, 5) / 5
    power = 10 ** floor(log10(rough))
    return int(next(each * power for each in (1, 2, 5, 10) if each * power >= rough))


def size_text(size: int) -> str:
    """`999 B`, `1.5 kB`, `84 MB`: two digits or three, for a place over a bar."""
    value, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5 or unit == "GB":
            break
        value /= 1000
    digits = 0 if unit == "B" or value >= 9.95 or value == int(value) else 1
    return f"{value:.{digits}f} {unit}"


def _saved(updates: Sequence[Update]) -> str:
    known = [each for each in updates if each.whole and each.saved is not None]
    whole = sum(each.whole or 0 for each in known)
    delta = sum(each.delta or 0 for each in known)
    if not whole:
        return "No sizes are known yet."
    share = 100 * (whole - delta) / whole
    return f"{size_text(delta)} instead of {size_text(whole)}: {share:.1f} % saved on each device"


def _legend(width: int) -> list[str]:
    right = width - RIGHT
    return [
        f'<rect class="whole" x="{LEFT}" y="66" width="11" height="11" rx="2"/>',
        _text(LEFT + 17, 76, "text", "whole layers, packed"),
        f'<rect class="delta" x="{LEFT + 158}" y="66" width="11" height="11" rx="2"/>',
        _text(LEFT + 175, 76, "text", "delta"),
        _text(right, 76, "text", "outlined: pulled whole; dashed: not known", "end"),
    ]


def _axis(width: int, top: int) -> list[str]:
    parts = []
    step = axis_step(top)
    for size in range(0, top + 1, step):
        y = _y(size, top)
        kind = "axis" if size == 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{LEFT}" x2="{width - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(_text(LEFT - 8, y + 4, "text", size_text(size), "end"))
    return parts


def _update(middle: float, update: Update, top: int) -> list[str]:
    parts = [f"<g><title>{escape(_told(update))}</title>"]
    if update.state == "unchanged":
        parts.append(_text(middle, TOP + PLOT_HEIGHT - 6, "text", "no change", "middle"))
    else:
        parts += _bar(middle - BAR - GAP / 2, update.whole, "whole", top)
        is_pulled = update.state == "whole" and update.delta == update.whole
        parts += _bar(middle + GAP / 2, update.delta, "pulled" if is_pulled else "delta", top)
    base = TOP + PLOT_HEIGHT
    parts.append(_text(middle, base + 20, "text", update.release[:7], "middle"))
    parts.append(_text(middle, base + 38, "text", _day(update.at), "middle"))
    return [*parts, "</g>"]


def _bar(x: float, size: int | None, kind: str, top: int) -> list[str]:
    base = TOP + PLOT_HEIGHT
    if size is None:
        return [f'<rect class="none" x="{x:g}" y="{base - 24}" width="{BAR}" height="24"/>']
    y = _y(size, top)
    height = max(1.0, base - y)
    return [
        f'<rect class="{kind}" x="{x:g}" y="{base - height:g}" width="{BAR}" height="{height:g}"/>',
        _text(x + BAR / 2, base - height - 5, "value", _short(size), "middle"),
    ]


def _short(size: int) -> str:
    """Two bars stand side by side: the number and the first letter of its unit fit."""
    return size_text(size).replace(" ", "").removesuffix("B") or "0"


def _told(update: Update) -> str:
    sizes = [
        f"{what} {size_text(size)}"
        for what, size in (("whole", update.whole), ("delta", update.delta))
        if size is not None
    ]
    downloads = f"{update.downloads} download{'' if update.downloads == 1 else 's'}"
    words = [f"release {update.release[:7]}", *sizes, downloads, update.state]
    return ", ".join(words)


def _day(iso: str) -> str:
    try:
        return datetime.fromisoformat(iso).strftime("%Y-%m-%d")
    except ValueError:
        return ""


def _y(size: int, top: int) -> float:
    return round(TOP + PLOT_HEIGHT * (1 - size / top), 1)


def _text(x: float, y: float, kind: str, text: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'
