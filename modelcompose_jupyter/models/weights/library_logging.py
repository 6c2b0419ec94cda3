"""Keeps what libraries print about loading and generating off the user's screen.

Only for the threads that work for this package: the user's own use of the same libraries prints as
before, and no global level is changed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

_state = threading.local()
_install_lock = threading.Lock()
_hooked = False

OnStep = Callable[[int, int | None], None]


class SilentBar:
    """A progress bar that shows nothing, and tells ``on_step(done, total)`` of its thread."""

    def __init__(self, iterable: Iterable[Any] | None = None, *_: Any, **options: Any) -> None:
        self._iterable = iterable
        self.n = 0
        self.total = options.get("total")
        if self.total is None and hasattr(iterable, "__len__"):
            self.total = len(iterable)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        for item in self._iterable or ():
            yield item
            self.update()

    def __enter__(self) -> SilentBar:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, amount: float | None = 1) -> None:
        """Count, and tell."""
        self.n += int(amount or 0)
        on_step: OnStep | None = getattr(_state, "on_step", None)
        if on_step is not None:
            on_step(self.n, self.total)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


def _allows(record: logging.LogRecord) -> bool:
    return not getattr(_state, "quiet", False)


def _hook_transformers() -> None:
    """Send the bars of quiet threads to `SilentBar`. transformers has one hook for all threads.

    What torchao says on its import is kept from the screen, too: transformers and peft import it
    wherever it is installed, for models of any kind.
    """
    global _hooked
    with _install_lock:
        if _hooked:
            return
        for name in ("torchao", "torch.utils._pytree"):
            logging.getLogger(name).addFilter(_allows)
        from transformers.utils.logging import set_tqdm_hook

        previous: Any = None

        def make(factory: Any, args: Any, kwargs: Any) -> Any:
            if getattr(_state, "quiet", False):
                return SilentBar(*args, **kwargs)
            return previous(factory, args, kwargs) if previous else factory(*args, **kwargs)

        previous = set_tqdm_hook(make)
        _hooked = True


@contextmanager
def quiet(*libraries: str, on_step: OnStep | None = None) -> Iterator[None]:
    """Silence the loggers and bars of these libraries on this thread."""
    if "transformers" in libraries:
        _hook_transformers()
    for library in libraries:
        for handler in logging.getLogger(library).handlers:
            handler.addFilter(_allows)  # adds it once only
    before = getattr(_state, "quiet", False), getattr(_state, "on_step", None)
    _state.quiet, _state.on_step = True, on_step
    try:
        yield
    finally:
        _state.quiet, _state.on_step = before
