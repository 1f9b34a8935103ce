"""Text of results and names of files, made safe and readable for a page of HTML."""

from html import escape


def shown(text: str) -> str:
    """Text for the page: control characters, and bytes of a name that are no UTF-8, as escapes (`\\xe9`); HTML-safe."""
    return escape("".join(char if char.isprintable() else _escaped(char) for char in text))


def wrapping(path: str) -> str:
    """The same, with places after slashes where a line may end."""
    return shown(path).replace("/", "/<wbr>")


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name, see `json_writer`
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
