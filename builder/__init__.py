"""aras: make, judge and publish land-cover vision and language datasets."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from builder.parts.opened import open_release as open_release

__version__ = "0.1.0"
__all__ = ["open_release"]


def __getattr__(name: str) -> Any:
    """`open_release`, imported when it is asked for: `import builder` alone stays light."""
    if name != "open_release":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from builder.parts.opened import open_release

    return open_release
