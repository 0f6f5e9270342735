"""The figures of a run as a chart: `python -m bench.chart bench/results/STAMP.json > chart.svg`.

One bar a program, as long as its lines per CPU-second; behind each other's bar stands how many
times as much ours does.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

CASES = ("130-byte lines, plain", "130-byte lines, gzip")
OURS = "sidetail"
_WIDTH, _LEFT, _RIGHT = 860, 230, 130
_BAR, _GAP, _HEAD = 20, 8, 40
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#6b7280}"
    ".head{font-weight:600}.ours{fill:#0d9488}.other{fill:#9ca3af}"
)


def chart(figures: Mapping[str, Mapping[str, float]]) -> str:
    """Return the chart as SVG.

    Args:
        figures: title of a case → program → lines per CPU-second.
    """
    top, parts = 0, []
    for title in CASES:
        if title in figures:
            parts += list(_case(title, figures[title], top))
            top += _HEAD + len(figures[title]) * (_BAR + _GAP)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top + _GAP}" role="img">'
    )
    label = "<title>Lines per CPU-second, ours and others</title>"
    return "\n".join((head, label, f"<style>{_STYLE}</style>", *parts, "</svg>\n"))


def _case(title: str, programs: Mapping[str, float], top: int) -> Iterator[str]:
    most = max(programs.values())
    yield f'<text class="head" x="0" y="{top + 24}">{escape(title)}: lines per CPU-second</text>'
    for row, (name, value) in enumerate(programs.items()):
        y = top + _HEAD + row * (_BAR + _GAP)
        length = max(1.0, value / most * (_WIDTH - _LEFT - _RIGHT))
        kind = "ours" if name.startswith(OURS) else "other"
        times = "" if name == OURS else f"  (1 : {programs[OURS] / max(value, 1.0):.1f})"
        label = f"{value / 1e6:.2f} M{times}"
        yield f'<text x="0" y="{y + 15}">{escape(name)}</text>'
        yield f'<rect class="{kind}" x="{_LEFT}" y="{y}" width="{length:.0f}" height="{_BAR}"/>'
        yield f'<text x="{_LEFT + length + 8:.0f}" y="{y + 15}">{escape(label)}</text>'


if __name__ == "__main__":
    sys.stdout.write(chart(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
