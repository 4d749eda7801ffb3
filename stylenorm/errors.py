"""Errors for people: one sentence that names the thing and says what to do."""


class StylenormError(ValueError):
    """A mistake of the caller's or in a file, told in one sentence. The CLI exits with code 2."""


class ImageError(StylenormError):
    """A picture that cannot be read, used or written."""


class WeightsError(StylenormError):
    """A network file that cannot be read or used."""


class StyleError(StylenormError):
    """A style that cannot be read or does not fit the network."""


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory is short: CUDA's own, Python's, or torch's plain RuntimeError on a CPU."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "memory" in str(error).lower())
