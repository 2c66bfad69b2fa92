"""Numbers as text: the only place that rounds them, so that page, Markdown and terminal never differ."""

ABSENT = "\N{EN DASH}"


def decibels(value: float) -> str:
    """PSNR with two decimals."""
    return f"{value:.2f}"


def similarity(value: float) -> str:
    """SSIM with four decimals."""
    return f"{value:.4f}"


def difference(value: float) -> str:
    """Signed difference in dB: two decimals, three under 0.01, no sign if it rounds to zero."""
    text = f"{value:+.2f}" if abs(value) >= 0.01 else f"{value:+.3f}"
    return text if float(text) else "0.000"


def distance(value: float) -> str:
    """The same without its sign."""
    return difference(value).lstrip("+-")


def whole(value: float) -> str:
    """Whole number with commas."""
    return f"{value:,.0f}"


def short(value: float) -> str:
    """Three significant digits, and k, M, G or T for thousands."""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        scaled = value / size
        if scaled >= 0.9995:
            decimals = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:.{decimals}f} {prefix}"
    return f"{value:.3g}"


def loss(value: float) -> str:
    """Three significant digits."""
    return f"{value:.3g}"


def percent(share: float) -> str:
    """Whole percent."""
    return f"{100 * share:.0f} %"


def milliseconds(value: float) -> str:
    """Three significant digits or more, no exponent."""
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:,.{decimals}f}"


def levels(value: float) -> str:
    """A distance in levels of luma, with three decimals."""
    return f"{value:.3f}"
