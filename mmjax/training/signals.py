"""SIGTERM, SIGHUP and Ctrl-C as a flag that is checked between two steps."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_signal() -> Iterator[Callable[[], str]]:
    """Turns SIGTERM, SIGHUP and the first Ctrl-C into a flag; a second Ctrl-C interrupts at once.

    SIGHUP comes when a terminal is closed; under `nohup`, which ignores it, it stays ignored.
    Outside the main thread, Python cannot handle signals; there the flag is never set.

    Yields:
        A function that gives the name of the first signal received; "" if none was.
    """
    received: list[str] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(signal.Signals(number).name)

    with _handled_by(note):
        yield lambda: received[0] if received else ""


@contextmanager
def raise_at_signal(error: Callable[[str], Exception]) -> Iterator[None]:
    """Raises an error, made from the signal's name, as soon as a signal comes."""

    def end(number: int, frame: FrameType | None) -> None:
        raise error(signal.Signals(number).name)

    with _handled_by(end):
        yield


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGTERM, signal.SIGINT]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
