"""`--time-pattern`: the camera and the time of a frame, read from its name.

    {camera}_%Y-%m-%d_%H-%M-%S     gate_2024-05-03_12-00-01.jpg
    {camera}/%Y%m%d/%H%M%S_*       gate/20240503/120001_front.jpg
    {frame/25}                     000550.jpg, 22 seconds after the first of 25 frames a second

A pattern describes the end of a name: with N slashes, its last N + 1 parts, each of them whole. An extension that the
pattern does not spell out is passed over.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from qeeps_cli.errors import UsageError

# The codes of strftime that say when, as they stand in names. %s, seconds since 1970, is ours: strptime has none.
_CODES = {
    **dict.fromkeys("mdHIMS", "[0-9]{1,2}"),
    **dict.fromkeys("bB", "[A-Za-z]+"),
    "Y": "[0-9]{4}",
    "y": "[0-9]{2}",
    "j": "[0-9]{1,3}",
    "p": "[AaPp][Mm]",
    "f": "[0-9]{1,6}",
    "z": "(?:Z|[+-][0-9]{2}:?[0-9]{2})",
    "s": "[0-9]{9,10}",
}
_TOKEN = re.compile(r"%.?|\{[^}]*\}?|\*|[^%{*]+", re.DOTALL)
_FRAME = re.compile(r"frame(?:/([0-9]+(?:\.[0-9]+)?))?")
_ANY_EXTENSION = r"(?:\.[^./]+)?"
_HELP = "Write it like {camera}_%Y-%m-%d_%H-%M-%S"


@dataclass(frozen=True)
class NamedTime:
    """What a name says. date: aware where the name has a time zone or seconds since 1970. seconds: since the start of
    the recording. Each is None where the pattern does not ask for it."""

    camera: str | None = None
    date: datetime | None = None
    number: int | None = None
    seconds: float | None = None


class TimePattern:
    """A pattern that was understood. Raises UsageError for one that cannot be."""

    def __init__(self, text: str):
        self.text = text
        self.codes: list[str] = []
        self.fields: set[str] = set()
        self.rate: float | None = None  # frames a second
        tokens = _TOKEN.findall(text)
        body = "".join(map(self._expression, tokens))
        self._check()
        self._parts = 1 + sum(token.count("/") for token in tokens if not token.startswith("{"))
        self._expression_of_end = re.compile(body + _ANY_EXTENSION, re.DOTALL)

    def read(self, name: str) -> NamedTime | None:
        """name: of a frame, with forward slashes. None where it does not fit, or has a date that never was."""
        found = self._expression_of_end.fullmatch("/".join(name.split("/")[-self._parts :]))
        if found is None:
            return None
        given = found.groupdict()
        number = int(given["frame"]) if "frame" in given else None
        seconds = number / self.rate if self.rate else None
        try:
            date = self._date([given[f"code_{code}"] for code in self.codes])
            if date is not None and seconds is not None:
                date += timedelta(seconds=seconds)
        except (ValueError, OverflowError):
            return None
        return NamedTime(given.get("camera"), date, number, seconds)

    def _date(self, values: list[str]) -> datetime | None:
        if not self.codes:
            return None
        given = dict(zip(self.codes, values, strict=True))
        if "s" in given:
            micros = int(given.get("f", "0").ljust(6, "0"))
            return datetime.fromtimestamp(int(given["s"]), UTC) + timedelta(microseconds=micros)
        return datetime.strptime("\t".join(values), "\t".join(f"%{code}" for code in self.codes))

    def _expression(self, token: str) -> str:
        """One piece of the pattern as a regular expression."""
        if token == "*":
            return "[^/]*?"
        if token == "%%":
            return "%"
        if token.startswith("%"):
            if token[1:] not in _CODES:
                raise self._error(f"got {token}", f"It knows {' '.join(f'%{code}' for code in _CODES)} and %%")
            self._once(token)
            self.codes.append(token[1:])
            return f"(?P<code_{token[1:]}>{_CODES[token[1:]]})"
        if not token.startswith("{"):
            return re.escape(token)
        if token == "{camera}":
            self._once("{camera}")
            return "(?P<camera>[^/]+?)"
        if (frame := _FRAME.fullmatch(token[1:-1])) and token.endswith("}"):
            self._once("{frame}")
            self.rate = float(frame[1]) if frame[1] else None
            if self.rate == 0:
                raise self._error(f"got {token}", "Frames a second are more than 0")
            return "(?P<frame>[0-9]+)"
        raise self._error(f"got {token}", "It knows {camera}, {frame} and {frame/25}, with frames a second")

    def _once(self, field: str) -> None:
        if field in self.fields:
            raise self._error(f"has {field} twice", "A * stands for what does not matter")
        self.fields.add(field)

    def _check(self) -> None:
        if not self.fields:
            raise self._error("has neither a date nor {camera} nor {frame}", _HELP)
        codes = set(self.codes)
        if not codes:
            return
        if "s" in codes and codes - {"s", "f"}:
            raise self._error("has %s, the seconds since 1970, beside other codes", "Leave one of them away")
        has_day = codes & {"j"} or ("d" in codes and codes & set("mbB"))
        if "s" not in codes and not (codes & set("Yy") and has_day):
            missing = "a time of day without" if codes & set("HIMSfp") else "not all of"
            raise self._error(f"has {missing} year, month and day", f"{_HELP}, or in folders %Y-%m-%d/%H-%M-%S")
        if "I" in codes and "p" not in codes:
            raise self._error("has %I, hours up to 12, without %p", "Write %H for hours up to 23")

    def _error(self, problem: str, help: str) -> UsageError:
        return UsageError(f"--time-pattern {self.text!r} {problem}. {help}.")


def check_names(pattern: TimePattern, names: Iterator[str]) -> str | None:
    """A note where some names do not fit. Raises UsageError where none does."""
    count, others, first = 0, 0, ""
    for name in names:
        count += 1
        if pattern.read(name) is None:
            others += 1
            first = first or name
    if count and others == count:
        raise UsageError(
            f"--time-pattern {pattern.text!r} fits none of {count} names, of which the first is {first!r}. "
            "It describes the end of a name; * stands for any text between slashes."
        )
    if not others:
        return None
    return f"{others} of {count} names do not fit the time pattern {pattern.text!r}, as {first!r}"
