"""Text files that anybody may have saved with any editor: what their bytes say of their encoding."""

import codecs

UTF8_MARK = codecs.BOM_UTF8
OTHER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # begins with the mark of UTF-16, so it is looked for first
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
LONGEST = 200
"""Characters of a parser's complaint; some quote a whole line of the file."""
LFS_POINTER = b"version https://git-lfs.github.com/"


def decode_text(data: bytes, errors: str = "strict") -> str:
    r"""The text in a file's bytes, UTF-8 with or without a byte order mark.

    `errors` as for bytes.decode. Raises ValueError that says in half a sentence what the bytes are in place of it.

    >>> from lrpcli.text_files import decode_text
    >>> decode_text("\\ufefftabby".encode())
    'tabby'
    >>> decode_text("tabby".encode("utf-16"))
    Traceback (most recent call last):
        ...
    ValueError: it is UTF-16 text; save it as UTF-8
    """
    encoding = marked_encoding(data)
    if encoding is not None:
        raise ValueError(f"it is {encoding} text; save it as UTF-8")
    if data.startswith(LFS_POINTER):
        raise ValueError("it is a Git LFS pointer that stands for the file; fetch the file with 'git lfs pull'")
    if b"\0" in data:
        raise ValueError("it is no text but holds bytes of value 0, as binary files and UTF-16 text do")
    try:
        return data.removeprefix(UTF8_MARK).decode("utf-8", errors)
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no UTF-8 text (byte {error.start} cannot be read); save it as UTF-8") from error


def marked_encoding(data: bytes) -> str | None:
    """The encoding that a file's first bytes say it has, "UTF-16" or "UTF-32"; None for UTF-8, and where none is."""
    return next((name for mark, name in OTHER_MARKS.items() if data.startswith(mark)), None)


def plain_reason(error: BaseException) -> str:
    """What a parser complains of, for people: the first line without its last dot, or the error's kind."""
    text = str(error).strip()
    if "int_max_str_digits" in text or "integer string conversion" in text:
        return "it holds a whole number of thousands of digits"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError) or "alloc failed" in text:
        return "it needs more memory than there is"
    line = text.splitlines()[0].rstrip(".") if text else type(error).__name__
    return line if len(line) <= LONGEST else line[:LONGEST] + "..."
