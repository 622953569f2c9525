"""Errors that a user can mend, as opposed to defects of this package."""

from collections.abc import Iterable, Sequence
from pathlib import Path


class InputError(Exception):
    """A user's mistake: what was expected, what came, where, and what mends it.

    Attributes:
        expected: noun phrase, to follow "expected".
        got: noun phrase, to follow "got"; "none" where something is missing.
        where: the file or folder that is concerned.
        remedy: clause in the imperative that mends it, for any caller; None where there is no such clause.
        parameters: names of the caller's parameters of which another value mends it. A command line names its own flags
            instead (`told`).

    Examples:
        >>> str(InputError("one entry a stage", "3 of 6", remedy="add three", parameters=["strides"]))
        'Expected one entry a stage, got 3 of 6; add three, or change strides.'
    """

    def __init__(
        self,
        expected: str,
        got: str,
        *,
        where: Path | str | None = None,
        remedy: str | None = None,
        parameters: Sequence[str] = (),
    ):
        super().__init__(expected, got)
        self.expected = expected
        self.got = got
        self.where = where
        self.remedy = remedy
        self.parameters = tuple(parameters)

    @property
    def problem(self) -> str:
        """Description of the problem, without a remedy.

        Examples:
            >>> InputError("a folder of images", "none", where="raw", remedy="unpack the images").problem
            'raw: expected a folder of images, got none'
        """
        what = f"xpected {self.expected}, got {self.got}"
        return f"E{what}" if self.where is None else f"{self.where}: e{what}"

    def told(self, hints: Iterable[str] = ()) -> str:
        """Return one sentence with the problem and its remedies.

        Args:
            hints: clauses in the imperative that follow the remedy, as further ways out.

        Examples:
            >>> InputError("a folder of images", "none", where="raw").told(["choose another with -i"])
            'raw: expected a folder of images, got none; choose another with -i.'
        """
        ways_out = ", or ".join(filter(None, (self.remedy, *hints)))
        return f"{self.problem}; {ways_out}." if ways_out else f"{self.problem}."

    def __str__(self) -> str:
        """Return the message for callers of a function, which names parameters."""
        return self.told([f"change {' or '.join(self.parameters)}"] if self.parameters else [])


class MissingInputError(InputError):
    """A required file, folder, case or variable is missing."""


class DamagedFileError(InputError):
    """A file exists, but can't be read or holds something else."""


class ConflictingInputError(InputError):
    """Two inputs contradict each other, or do not belong together."""


class UnavailableError(InputError):
    """A package, command or device is not installed or not available here."""


class SeveralProblemsError(InputError):
    """Several problems, each named on a line of its own.

    Attributes:
        problems: one sentence for each problem.

    Examples:
        >>> print(SeveralProblemsError("every case to be whole", ["a.mha is empty.", "b.mha is missing."], where="raw"))
        raw: expected every case to be whole, got 2 problems.
        a.mha is empty.
        b.mha is missing.
    """

    def __init__(
        self,
        expected: str,
        problems: Sequence[str],
        *,
        where: Path | str | None = None,
        remedy: str | None = None,
        parameters: Sequence[str] = (),
    ):
        super().__init__(
            expected,
            f"{len(problems) or 'no'} problem{'s' * (len(problems) != 1)}",
            where=where,
            remedy=remedy,
            parameters=parameters,
        )
        self.problems = tuple(problems)
        self.args = (expected, self.problems)  # by which it is pickled

    def told(self, hints: Iterable[str] = ()) -> str:
        """Return a sentence on all problems, and below it one line for each."""
        return "\n".join([super().told(hints), *self.problems])


class TargetExistsError(InputError):
    """A file or folder that was to be written exists, and is not to be replaced.

    Examples:
        >>> str(TargetExistsError("page.html"))
        'page.html exists and is not replaced; change output or overwrite.'
    """

    def __init__(self, where: Path | str, parameters: Sequence[str] = ("output", "overwrite")):
        super().__init__(
            "nothing there",
            "a file or folder",
            where=where,
            parameters=parameters,
            remedy=None if parameters else "move it away",
        )
        self.args = (where, parameters)  # by which it is pickled

    @property
    def problem(self) -> str:
        """Description of the problem, without a remedy."""
        return f"{self.where} exists and is not replaced"


class RefusedSettingsError(InputError):
    """Settings or plans that make no network, in the words of the code that refuses them.

    Examples:
        >>> str(RefusedSettingsError("kernel must be one of 1, 3, got 5.", "Template mine"))
        'Template mine: kernel must be one of 1, 3, got 5.'
    """

    def __init__(self, reason: str, where: Path | str, parameters: Sequence[str] = ()):
        super().__init__("settings that make a network", reason, where=where, parameters=parameters)
        self.args = (reason, where, parameters)  # by which it is pickled

    @property
    def problem(self) -> str:
        """Description of the problem, without a remedy."""
        return f"{self.where}: {self.got}".removesuffix(".")


def check_name(what: str, name: str, known: Iterable[str], *, parameters: Sequence[str]) -> None:
    """Check that a name is one of those that are known.

    Args:
        what: noun phrase for what has such a name.
        name: name that was given.
        known: names that there are.
        parameters: name of the caller's parameter that it was given as.

    Raises:
        InputError: it is none of them.

    Examples:
        >>> check_name("an executor", "Slurm", ["local", "slurm"], parameters=["executor"])
        Traceback (most recent call last):
            ...
        nnunetv2_gsp.errors.InputError: Expected an executor among local, slurm, got Slurm; change executor.
    """
    known = list(known)
    if name not in known:
        raise InputError(f"{what} among {', '.join(known)}", name, parameters=parameters)
