"""A bounded queue between two threads, which either end may close."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

TICK = 0.2
"""Seconds after which a waiting thread looks up, so that Ctrl-C is heard on every system."""


class Channel:
    """Holds at most `size` items. One thread puts and ends it, another gets and may stop it.

    With `merge` a full channel drops its oldest item instead of letting the giver wait, because a camera cannot wait;
    merge(dropped, next one) gives what takes the next one's place.
    """

    def __init__(self, size: int, *, merge: Callable[[Any, Any], Any] | None = None) -> None:
        self._items: deque[Any] = deque()
        self._size, self._merge = size, merge
        self._changed = threading.Condition()
        self._ended = self._stopped = False
        self.dropped = 0
        """How many items were left out because newer ones came."""

    def put(self, item: Any) -> bool:
        """Hands an item over, waiting for room; False when nobody takes items any more."""
        with self._changed:
            while len(self._items) >= self._size and not self._stopped:
                if self._merge is None:
                    self._changed.wait(TICK)
                    continue
                dropped = self._items.popleft()
                self.dropped += 1
                if self._items:
                    self._items[0] = self._merge(dropped, self._items[0])
                else:
                    item = self._merge(dropped, item)
            if self._stopped:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def get(self) -> Any | None:
        """The next item, waiting for it; None when there will be no more."""
        with self._changed:
            while not self._items:
                if self._ended or self._stopped:
                    return None
                self._changed.wait(TICK)
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def end(self) -> None:
        """The giver's last word; what is inside can still be taken."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def stop(self) -> None:
        """The taker's last word: what is inside is thrown away."""
        with self._changed:
            self._stopped = True
            self._items.clear()
            self._changed.notify_all()
