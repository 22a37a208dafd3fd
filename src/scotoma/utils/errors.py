"""What a user can put right is an `InputError`; the command line prints it in one line and exits with 2."""


class InputError(ValueError):
    """Something that the user gave cannot be used. The message says what is wrong, with what, and what to do."""


class InputWarning(UserWarning):
    """Something that the user gave works, but not as they may believe."""
