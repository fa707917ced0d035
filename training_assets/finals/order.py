"""In which order the best may win: that of the leaderboard, or where other seeds were asked, what holds of it."""

from dataclasses import dataclass, field

from training_assets.finals.closing import Closing
from training_assets.finals.contenders import Contender


@dataclass(frozen=True)
class Order:
    """``best`` first; ``said`` is what other seeds say of it, empty where none were asked."""

    best: list[Contender] = field(default_factory=list)
    said: str = ""
    distinct: bool | None = None


def ordered(closing: Closing, able: list[Contender]) -> Order:
    """``able`` are those that may win, as the leaderboard has them."""
    asked = closing.sweep.stability
    if asked is None or len(able) < 2:
        return Order(able)
    return Order(able)
