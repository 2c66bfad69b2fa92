"""What went wrong with one picture, in words, so that the others go on."""

from components.run.errors import InputError


def fault_of(error: Exception) -> str:
    """Bad input in its own words; a file that can't be written, too little memory, or a fault of the program."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError):
        return f"cannot be written: {error.filename or 'file'}: {error.strerror}; free space or choose another place."
    if isinstance(error, MemoryError) or "allocate memory" in str(error):  # so says torch
        return "needs more memory than there is; cut it into parts, or write a smaller --tile."
    return f"is met by a fault of the program: {type(error).__name__}: {error}"
