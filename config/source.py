"""Reading files, and finding the line of each key of a TOML file.

The standard TOML reader gives values without lines, so a small scanner walks over the same text and notes where each
table and each key stands. It only has to be right for text that the reader accepted: it understands comments, all four
kinds of strings, brackets, dotted and quoted keys. A key that it can't place is shown at the line of its table.

What must stay true: each file is read once, whole, and the hash covers exactly the bytes that were read.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from config.problems import Problems, Wrong

LARGEST_FILE_BYTES = 32 * 1024 * 1024
KeyPath = tuple[str | int, ...]


@dataclass(slots=True)
class Files:
    """Reads the files of one site and keeps the hash over their names and bytes."""

    problems: Problems
    _hash: hashlib._Hash = field(default_factory=hashlib.sha256)

    def read(self, path: Path, said_in: str, line: int) -> str | None:
        """The text of a file, or None after noting the one problem that it has.

        said_in, line: where the file is named; a file that can't be read at all is a problem of that place.
        """
        try:
            # Opening a FIFO or a device would wait for ever.
            if path.exists() and not path.is_file():
                raise OSError(0, "it is not a regular file")
            with path.open("rb") as file:
                raw = file.read(LARGEST_FILE_BYTES + 1)
        except FileNotFoundError:
            self.problems.add(said_in, line, f"there is no file {path}", "the path of a file that exists, or create it")
            return None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self.problems.add(said_in, line, f"{path} can't be read: {reason}", "the path of a file that may be read")
            return None
        self._add(path, raw)
        return self._text(path, raw)

    def read_bytes(self, path: Path, limit: int) -> bytes:
        """The bytes of a file that is no text, which count into the hash. Raises ``Wrong``."""
        try:
            # Opening a FIFO or a device would wait for ever.
            if path.exists() and not path.is_file():
                raise OSError(0, "it is not a regular file")
            with path.open("rb") as file:
                raw = file.read(limit + 1)
        except FileNotFoundError:
            raise Wrong(f"there is no file {path}", "the path of a file that exists, or put it there") from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise Wrong(f"{path} can't be read: {reason}", "the path of a file that may be read") from None
        if len(raw) > limit:
            raise Wrong(f"{path} is larger than {limit // 1024} KiB", "a smaller file")
        self._add(path, raw)
        return raw

    def _add(self, path: Path, raw: bytes) -> None:
        # Names and lengths go into the hash, so that no two sets of files give the same stream of bytes.
        self._hash.update(f"{path.name}\0{len(raw)}\0".encode(errors="surrogateescape"))
        self._hash.update(raw)

    def _text(self, path: Path, raw: bytes) -> str | None:
        def wrong(line: int, what: str, write_instead: str) -> None:
            self.problems.add(str(path), line, what, write_instead)

        if len(raw) > LARGEST_FILE_BYTES:
            wrong(1, f"the file is larger than {LARGEST_FILE_BYTES // 1024 // 1024} MiB", "a smaller file")
        elif not raw.strip():
            wrong(1, "the file is empty", "its content; the example site shows each file")
        elif raw.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
            wrong(1, "the file starts with a byte order mark", "the same text saved as UTF-8 without BOM")
        elif b"\r" in raw:
            line = raw.count(b"\n", 0, raw.index(b"\r")) + 1
            wrong(line, "lines end in CR LF (Windows)", "the same text saved with LF line ends (dos2unix does it)")
        elif b"\0" in raw:
            wrong(raw.count(b"\n", 0, raw.index(b"\0")) + 1, "the file holds a NUL byte", "plain text")
        else:
            try:
                return raw.decode("utf-8")
            except UnicodeDecodeError as error:
                line = raw.count(b"\n", 0, error.start) + 1
                wrong(line, f"byte 0x{raw[error.start]:02x} is not UTF-8", "the same text saved as UTF-8")
        return None

    def sha256(self) -> str:
        """Hash over every file read so far, as hex digits."""
        return self._hash.hexdigest()


@dataclass(frozen=True, slots=True)
class Document:
    """A TOML file that was read: its values, and where they stand."""

    file: str
    data: Mapping[str, object]
    lines: Mapping[KeyPath, int]

    def line(self, *path: str | int) -> int:
        """The line of a key or table, or of the nearest table around it."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path[:-1]
        return 1


def read_toml(file: str, text: str, problems: Problems) -> Document | None:
    """Read a TOML file, or note what is wrong with its syntax."""
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        message = str(error)
        at = re.search(r"\(at line (\d+), column \d+\)", message)
        line = int(at[1]) if at else text.count("\n") + 1
        what = re.sub(r" ?\(at [^)]*\)", "", message) if isinstance(error, ValueError) else "brackets nest too deep"
        shown = text.split("\n")[line - 1].strip()[:60]
        if what == "Cannot overwrite a value":  # tomllib's words for it
            problems.add(file, line, f"this key stands there twice (in {shown!r})", "each key once")
        else:
            instead = 'lines such as key = "text" or key = 1.5'
            problems.add(file, line, f"this is not TOML: {what} (in {shown!r})", instead)
        return None
    return Document(file, data, key_lines(text))


_SPACE = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_HEADER = re.compile(r"\[(\[?)([^\n]*?)\]\]?[ \t]*(?:#[^\n]*)?(?=\n|\Z)")
_KEY_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_KEY = re.compile(rf"{_KEY_PART}(?:[ \t]*\.[ \t]*{_KEY_PART})*")
_VALUE_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")'
    r"|'''.*?'{3,5}(?!')"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|#[^\n]*|\n|[\[{]|[\]}]|[^\"'#\n\[\]{}]+|.",
    re.DOTALL,
)


def key_lines(text: str) -> dict[KeyPath, int]:
    """Where each table and key of a valid TOML text stands: path → line. Entries of ``[[x]]`` are numbered from 0."""
    lines: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    at, line, counted = 0, 1, 0
    while True:
        space = _SPACE.match(text, at)
        at = space.end() if space else at
        line += text.count("\n", counted, at)
        counted = at
        if at >= len(text):
            return lines
        header = _HEADER.match(text, at)
        if header:
            table = _inside(_parts(header[2]), counts)
            if header[1]:
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            lines.setdefault(table, line)
            at = header.end()
            continue
        key = _KEY.match(text, at)
        if key:
            lines.setdefault((*table, *_parts(key[0])), line)
        at = _after_value(text, key.end() if key else at)


def _inside(parts: KeyPath, counts: dict[KeyPath, int]) -> KeyPath:
    """``[a.b]`` after ``[[a]]`` belongs to the last entry of a."""
    path: KeyPath = ()
    for index, part in enumerate(parts):
        path = (*path, part)
        if path in counts and index < len(parts) - 1:
            path = (*path, counts[path])
    return path


def _parts(dotted: str) -> KeyPath:
    return tuple(part[1:-1] if part[0] in "\"'" else part for part in re.findall(_KEY_PART, dotted))


def _after_value(text: str, at: int) -> int:
    """Where the value that starts at or after ``at`` ends: at the line end outside of all brackets and strings."""
    depth = 0
    while at < len(text):
        token = _VALUE_TOKEN.match(text, at)
        if token is None:
            return len(text)
        word = token[0]
        if word == "\n" and depth <= 0:
            return at
        depth += (word in "[{") - (word in "]}")
        at = token.end()
    return at
