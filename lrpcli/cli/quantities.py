"""Sizes and times for people."""

UNITS = ("kB", "MB", "GB", "TB", "PB")


def size(count: float) -> str:
    """A number of bytes for people, in powers of 1000.

    >>> from lrpcli.cli.quantities import size
    >>> size(999), size(1_250_000)
    ('999 bytes', '1.2 MB')
    """
    if count < 1000:
        return f"{count:.0f} bytes"
    power = 1
    while power < len(UNITS) and round(count / 1000**power, 1) >= 1000:
        power += 1
    return f"{count / 1000**power:.1f} {UNITS[power - 1]}"


def duration(seconds: float) -> str:
    """A time for people, in its two largest units.

    >>> from lrpcli.cli.quantities import duration
    >>> duration(42), duration(3700)
    ('42 s', '1 h 1 min')
    """
    left, parts = round(seconds), []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        parts += [f"{count} {unit}"] if count else []
    return " ".join(parts[:2]) or "0 s"
