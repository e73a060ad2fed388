"""A method of one object with something around it. Several may wrap one method, and stop in any order."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Wrapped:
    """Stands in for a method of one object."""

    def __init__(self, thing: Any, method: str) -> None:
        """Stand in for what is there now: what users made of it stays, and is put back."""
        self._thing = thing
        self._method = method
        self._run = getattr(thing, method)
        self._own = vars(thing).get(method)
        self._wrappers: list[Callable[..., Any]] = []
        setattr(thing, method, self)

    @classmethod
    def wrap(cls, thing: Any, method: str, wrapper: Callable[..., Any]) -> Callable[[], None]:
        """Put something around a method, and around what is around it already.

        Args:
            thing: What has the method.
            method: Its name.
            wrapper: Is called instead, with what it is around and then the arguments.

        Returns:
            Ends that, and gives the object its own method back if nothing else is around it.
        """
        found = vars(thing).get(method)
        wrapped = found if isinstance(found, Wrapped) else cls(thing, method)
        wrapped._wrappers.append(wrapper)  # noqa: SLF001
        return partial(wrapped._unwrap, wrapper)  # noqa: SLF001

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the outermost."""
        run = self._run
        for wrapper in self._wrappers:
            run = partial(wrapper, run)
        return run(*args, **kwargs)

    def _unwrap(self, wrapper: Callable[..., Any]) -> None:
        self._wrappers.remove(wrapper)
        attributes = vars(self._thing)
        if self._wrappers or attributes.get(self._method) is not self:
            return  # the latter: somebody else has wrapped or replaced it meanwhile
        del attributes[self._method]
        if self._own is not None:
            setattr(self._thing, self._method, self._own)
