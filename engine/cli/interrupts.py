"""Ctrl-C: answered between two pieces where something is kept, at once everywhere else (CLI-003, CLI-004)."""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Event, Thread, current_thread, main_thread
from types import FrameType, TracebackType
from typing import Any

INTERRUPTED = 130  # exit status
PATIENCE_S = 0.6  # how long a verb may take to end by itself where nothing would be lost
ANEW = "the same command begins anew"
NOTHING = f"nothing is kept, {ANEW}"


class Interrupts:
    """While active, Ctrl-C asks for a stop between two pieces; a second one stops at once.

    Until `should_stop` is asked for the first time nothing is done that could be kept: then the first one does, too.

    Source: CLI-003.
    """

    active: "Interrupts | None" = None  # the innermost: what it guards is not to be thrown away

    def __init__(self) -> None:
        self.is_asked = self._is_breaking = False
        self.is_empty = True
        self._before: Any = None
        self._outer: Interrupts | None = None

    def __enter__(self) -> "Interrupts":
        """Take over the signal; only the main thread can."""
        try:
            self._before = signal.signal(signal.SIGINT, self._ask)
        except ValueError:
            self._before = None
        self._outer, Interrupts.active = Interrupts.active, self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signal back."""
        Interrupts.active = self._outer
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def should_stop(self) -> bool:
        """Return whether somebody asked."""
        self.is_empty = False
        return self.is_asked

    @contextmanager
    def break_off(self) -> Iterator[None]:
        """Within, there is nothing to keep: Ctrl-C raises KeyboardInterrupt at once."""
        self._is_breaking = True
        try:
            if self.is_asked:
                raise KeyboardInterrupt
            yield
        except Exception as error:
            if comes_of_interrupt(error):
                raise KeyboardInterrupt from error
            raise
        finally:
            self._is_breaking = False

    def _ask(self, number: int, frame: FrameType | None) -> None:
        Watch.heard.set()
        if self.is_asked or self.is_empty or self._is_breaking:
            self.is_asked = True
            raise KeyboardInterrupt
        self.is_asked = True
        say("\nperp: stopping, and keeping what is done; once more to stop at once")


class Watch:
    """While a verb runs: sees to it that Ctrl-C ends it.

    Python tells of a signal between two of its own instructions only, and an exception raised there can get lost, in a
    library's callback for one.  A thread is told at once: where nothing would be lost it waits a moment for the verb to
    end, removes what is half-written, and ends the process; where something would, at the second Ctrl-C.

    Source: CLI-003.
    """

    heard = Event()

    def __init__(self, options: argparse.Namespace) -> None:
        self._options, self._is_on, self._over = options, False, Event()
        self.is_asked = False  # then whatever comes out of the verb comes of that

    def __enter__(self) -> "Watch":
        """Begin, unless the signal is somebody else's."""
        if current_thread() is not main_thread() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            return self
        self._is_on = True
        self.heard.clear()
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._fd_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._hook_before, sys.unraisablehook = sys.unraisablehook, self._drop
        signal.signal(signal.SIGINT, self._hear)
        Thread(target=self._watch, args=(reader,), daemon=True, name="interrupts").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the thread and give the signal back."""
        self._over.set()
        if self._is_on:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.set_wakeup_fd(self._fd_before)
            sys.unraisablehook = self._hook_before
            os.close(self._writer)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.is_asked = True
        raise KeyboardInterrupt

    def _drop(self, lost: Any) -> None:
        """Say nothing of an interrupt that was raised where nobody could catch it: the thread ends the process."""
        if lost.exc_type is not KeyboardInterrupt:
            self._hook_before(lost)

    def _watch(self, reader: int) -> None:
        asked = 0
        while told := os.read(reader, 64):
            if signal.SIGINT not in told:
                continue
            asked += 1
            if Interrupts.active is None or Interrupts.active.is_empty or asked > 1:
                if not self._over.wait(PATIENCE_S):
                    self._end()
            elif not self.heard.wait(PATIENCE_S):
                say("\nperp: stopping after this piece; once more to stop at once, without what is done")
        os.close(reader)

    def _end(self) -> None:
        if "engine.files" in sys.modules:
            from engine.files import Workplace

            for place in list(Workplace.under_way):
                place.remove()
        if "multiprocessing" in sys.modules:
            from multiprocessing import active_children

            for child in active_children():
                child.terminate()
        say(f"perp: interrupted; {tell_left(self._options)}")
        os._exit(INTERRUPTED)


def comes_of_interrupt(error: BaseException | None) -> bool:
    """Return whether an error is an interrupt, or what somebody made of one: compiled code makes a SystemError."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def say(text: str) -> None:
    """Write a line to stderr, past Python's buffer, which a handler of a signal must not touch."""
    with suppress(OSError):
        os.write(2, f"{text}\n".encode())


def say_kept(kept: str, again: str = "") -> int:
    """Say what an interrupted verb kept and which command goes on, if one does; return the exit status.

    Source: CLI-004.
    """
    sys.stdout.flush()
    print(f"perp: interrupted; {kept}; " + (f"go on with: {again}" if again else ANEW), file=sys.stderr)
    return INTERRUPTED


def tell_left(options: argparse.Namespace) -> str:
    """Return what is left of a verb that was ended at once."""
    return str(getattr(options, "left", NOTHING))


def compose_again(options: argparse.Namespace, *more: str, without: Sequence[str] = ()) -> str:
    """Return the command that was given, as it is typed, with more arguments; options in `without` lose their value.

    Source: CLI-004.
    """
    words: list[str] = []
    given = iter(options.given)
    for word in given:
        name, _, value = word.partition("=")
        if name in without:
            if not value:
                next(given, None)
            continue
        if word not in more:
            words.append(word)
    return shlex.join(["perp", *words, *more])
