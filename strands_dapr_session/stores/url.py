"""A store's URL, taken apart and checked."""

from __future__ import annotations

import math
import re
from urllib.parse import parse_qsl, unquote, urlsplit

from strands_dapr_session.errors import ConfigurationError


class StoreURL:
    """A store's URL. What is wrong with it is told without its password.

    Attributes:
        scheme: What is before ``://``.
        host: What is between ``://`` and the next slash, without a user and password.
        path: What follows, decoded, with its first slash.
        server: Scheme, host and path, with user and password, without options.
        shown: The same without user and password.
    """

    def __init__(self, url: str) -> None:
        """Take it apart.

        Raises:
            ConfigurationError: It is no URL.
        """
        try:
            parts = urlsplit(url)
            self._options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        except ValueError as error:
            shown = re.sub(r"//[^/]*@", "//", url)
            raise ConfigurationError(f"store {shown!r}: {error}") from error
        self.scheme = parts.scheme
        self.host = parts.netloc.rpartition("@")[2]
        self.path = unquote(parts.path)
        self.server = f"{parts.scheme}://{parts.netloc}{parts.path}"
        self.shown = f"{parts.scheme}://{self.host}{parts.path}"
        if parts.fragment:
            raise self.error(f"#{parts.fragment} has no meaning here")

    def error(self, reason: str) -> ConfigurationError:
        """Return the error that tells what is wrong with this URL."""
        return ConfigurationError(f"store {self.shown!r}: {reason}")

    def text(self, option: str, default: str | None = None) -> str | None:
        """Take an option's text."""
        return self._options.pop(option, default)

    def choice(self, option: str, *choices: str) -> str:
        """Take an option that is one of some words; the first of them when it is not given."""
        word = self._options.pop(option, choices[0]).lower()
        if word not in choices:
            raise self.error(f"{option}={word!r} is none of {', '.join(choices)}")
        return word

    def seconds(self, option: str, default: float) -> float:
        """Take an option that is a number of seconds."""
        text = self._options.pop(option, None)
        if text is None:
            return default
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not 0 < number < math.inf:
            raise self.error(f"{option}={text!r} is no number of seconds")
        return number

    def size(self, option: str) -> int | None:
        """Take an option that is a number of bytes; None when it is not given."""
        text = self._options.pop(option, None)
        if text is not None and (not text.isdecimal() or int(text) == 0):
            raise self.error(f"{option}={text!r} is no number of bytes")
        return None if text is None else int(text)

    def no_more_options(self) -> None:
        """Refuse options that nobody took.

        Raises:
            ConfigurationError: There are some.
        """
        if self._options:
            raise self.error(f"unknown option {', '.join(self._options)}")
