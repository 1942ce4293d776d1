"""The one exception that is written for the person who runs MMIE."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message names the file and line, or the config key, then what is wrong, then the remedy.
    """
