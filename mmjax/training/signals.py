"""SIGTERM and Ctrl-C as a flag that is checked between two steps."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_signal() -> Iterator[Callable[[], str]]:
    """Turns SIGTERM and the first Ctrl-C into a flag; a second Ctrl-C interrupts at once.

    Outside the main thread, Python cannot handle signals; there the flag is never set.

    Yields:
        A function that gives the name of the first signal received; "" if none was.
    """
    received: list[str] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(signal.Signals(number).name)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: ""
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: received[0] if received else ""
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
