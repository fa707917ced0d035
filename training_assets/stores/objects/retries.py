"""Waiting before another try: exponential with full jitter, and not for ever."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

ATTEMPTS = 6
FIRST_SECONDS = 0.1
T = TypeVar("T")


def patiently(call: Callable[[], T], again: Callable[[Exception], bool]) -> T:
    """What ``call`` gives, tried ``ATTEMPTS`` times at most while ``again`` says of its error that it may pass.

    The waits are drawn evenly up to a bound that doubles ("full jitter", AWS Architecture Blog): 3.1 s at most.
    """
    for attempt in range(ATTEMPTS - 1):
        try:
            return call()
        except Exception as error:
            if not again(error):
                raise
        time.sleep(random.uniform(0, FIRST_SECONDS * 2**attempt))  # noqa: S311
    return call()
