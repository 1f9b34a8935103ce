"""Errors that users meet, each with the exit code of the process that it ends.

A message says what was expected, what was got and what to do. Code below the command line raises; only `cli/` turns
an error into an exit code.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of `qeeps`; part of its contract with shell pipelines."""

    OK = 0  # done
    UNEXPECTED = 1  # a bug: something that no rule below foresees
    USAGE = 2  # a wrong option, box or input file; also unusable training data
    SKIPPED = 3  # done, but some inputs could not be read and were skipped
    NOTHING = 4  # nothing to search: no image in the gallery could be used
    WEIGHTS = 5  # weights absent, damaged, or not a qeeps checkpoint
    CACHE = 6  # the cache was required but is unusable
    OUTPUT = 7  # the output could not be written (exists, full disk, closed device)
    SIGINT = 130  # interrupted with Ctrl-C
    SIGPIPE = 141  # the reader of our output went away
    SIGTERM = 143  # asked to stop


class QeepsError(Exception):
    """Base of every error with a message meant for the user."""

    exit_code = ExitCode.UNEXPECTED


class UsageError(QeepsError):
    """An option, a box or a named input is wrong."""

    exit_code = ExitCode.USAGE


class DataError(QeepsError):
    """A dataset cannot be used: the message names the file and what was expected of it."""

    exit_code = ExitCode.USAGE


class ImageError(QeepsError):
    """One image cannot be decoded. Searches collect it as a skipped input; a query image that raises it ends the run.

    `reason` is the message without the path, for `skipped` lists.
    """

    exit_code = ExitCode.USAGE

    def __init__(self, path, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self):  # from one process to another
        return type(self), (self.path, self.reason)


class NothingToSearchError(QeepsError):
    """The gallery holds no usable image."""

    exit_code = ExitCode.NOTHING


class WeightsError(QeepsError):
    """A checkpoint is absent, damaged, or does not fit."""

    exit_code = ExitCode.WEIGHTS


class CacheError(QeepsError):
    """The cache was required but cannot serve."""

    exit_code = ExitCode.CACHE


class OutputError(QeepsError):
    """Results cannot be written where they were asked for."""

    exit_code = ExitCode.OUTPUT


class DeviceError(QeepsError):
    """An explicitly requested device cannot be used."""

    exit_code = ExitCode.USAGE


class ClusterError(QeepsError):
    """The machines that were to share the work cannot do it."""

    exit_code = ExitCode.USAGE


class NotANumberError(QeepsError):
    """The network gave a score that is not a number; nothing of it is written."""

    exit_code = ExitCode.UNEXPECTED
