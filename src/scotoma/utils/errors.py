"""Errors that a user can correct."""


class InputError(ValueError):
    """Something that the user gave cannot be used.

    The message says what is wrong and what to do. The command line prints it in one line and exits
    with status 2.

    >>> import scotoma
    >>> try:
    ...     scotoma.Threat.parse("lnf:0.3")
    ... except scotoma.InputError as error:
    ...     print(error)
    unknown norm 'lnf' in the threat; did you mean 'linf'?
    """
