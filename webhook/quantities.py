"""Kubernetes quantities as exact integers, so that `128Mi` and `134217728` are the same amount.

Source: apimachinery, resource.Quantity.
"""

import re
from functools import lru_cache

NANO = 10**9
"""Amounts are integers of 10⁻⁹: cpu `1n` is 1, memory `1Ki` is 1024 · 10⁹."""

_FORM = re.compile(
    r"([+-]?)([0-9]{1,19})?(?:\.([0-9]{0,9}))?([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?",
    re.ASCII,
)
_SCALE: dict[str, int] = {
    "n": 1,
    "u": 10**3,
    "m": 10**6,
    "": NANO,
    **{unit: NANO * 1000**power for power, unit in enumerate("kMGTPE", 1)},
    **{unit + "i": NANO * 1024**power for power, unit in enumerate("KMGTPE", 1)},
}


def parse_quantity(value: object) -> int | None:
    """Return the amount in 10⁻⁹, or None if `value` is no quantity (a string, or a JSON number)."""
    if isinstance(value, str):
        return _parse(value) if len(value) <= 40 else None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _parse(str(value)) if abs(value) < 10**19 else None
    return None


@lru_cache(maxsize=4096)
def _parse(text: str) -> int | None:
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    sign, whole, part, unit = match[1], match[2] or "", match[3] or "", match[4] or ""
    if not whole and not part:
        return None
    amount = int((whole or "0") + part) * _scale(unit)
    amount = -(-amount // int("1" + "0" * len(part)))  # rounded up, as Kubernetes does
    return -amount if sign == "-" else amount


def _scale(unit: str) -> int:
    if unit in _SCALE:
        return _SCALE[unit]
    power = int("1" + "0" * abs(int(unit[1:])))
    return NANO * power if unit[1] != "-" else max(1, NANO // power)


def render_quantity(amount: int) -> str:
    """Return `amount` (in 10⁻⁹) in the shortest form people use: `250m`, `64Mi`, `1500`.

    Anything finer than a thousandth is rounded up.
    """
    milli = -(-amount // 10**6)
    if milli % 1000:
        return f"{milli}m"
    whole = milli // 1000
    for unit in ("Gi", "Mi", "Ki"):
        size = _SCALE[unit] // NANO
        if whole >= size and whole % size == 0:
            return f"{whole // size}{unit}"
    return str(whole)
