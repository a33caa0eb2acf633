"""Tardis.dev's CSV files from the network into a folder: resumed where they were cut, named only when they are whole.

One request at a time by the standard library.  Until a file is whole it is a `.part` beside its later place, with the
version the server named in a `.part.tag`; nothing else is left behind.  The rules are FETCH-001 to FETCH-006.
"""

import gzip
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from email.message import Message
from http.client import HTTPException, HTTPResponse, IncompleteRead
from pathlib import Path
from time import sleep
from typing import NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

from engine.errors import ConfigError, DataError
from engine.feeds.tardis import NAME, REPLAYED

BASE_URL = "https://datasets.tardis.dev/v1"
KEY_VARIABLE = "TARDIS_API_KEY"
AGENT = "perp-engine"  # the name Python gives itself is refused by some gateways
RETRIES = 5
PAUSE_S = 1.0  # before the first retry; twice as long before each further one
PAUSE_MAX_S = 60.0
DOUBLINGS_MAX = 6  # past that it is the longest pause anyway
TIMEOUT_S = 30.0  # for one answer of the network, not for a whole file
BLOCK_BYTES = 1 << 18
ANSWER_BYTES = 300  # of a server's own words in an error

EXCHANGE, KIND = re.compile(r"[A-Za-z0-9-]+"), re.compile(r"\w+", re.ASCII)
PARTIAL, TIMED_OUT, RANGE_REFUSED, TOO_MANY, SERVER_ERROR = 206, 408, 416, 429, 500
FETCHED, RESUMED, THERE, EMPTY = "fetched", "resumed", "there", "empty"

OnProgress = Callable[[str, int, int | None], None]  # file name, bytes there, bytes in all if the server says
OnRetry = Callable[[str], None]


class Dataset(NamedTuple):
    """One file of Tardis.dev: what one exchange sent of one kind, for one symbol, on one day (UTC)."""

    exchange: str
    kind: str
    day: date
    symbol: str

    @property
    def file_name(self) -> str:
        """The name the reader of recordings knows.

        Source: FETCH-001.
        """
        symbol = re.sub(r'[\\?*<>|"]', "-", self.symbol)  # what some file systems refuse
        return f"{self.exchange}_{self.kind}_{self.day.isoformat()}_{symbol}.csv.gz"

    @property
    def path(self) -> str:
        """Where it lies below the base URL.

        Source: FETCH-001.
        """
        return f"{self.exchange}/{self.kind}/{self.day:%Y/%m/%d}/{quote(self.symbol, safe='')}.csv.gz"

    @property
    def is_free(self) -> bool:
        """Whether it needs no key.

        Source: FETCH-005.
        """
        return self.day.day == 1


class Fetched(NamedTuple):
    """What became of one dataset."""

    file: Path
    url: str
    size_bytes: int  # of the file
    fetched_bytes: int  # of those that came now
    state: str  # fetched, resumed, there (it was already), empty (the venue has nothing, no file is kept)


def parse_days(text: str) -> list[date]:
    """Return the days that `2024-08-01,2024-09-01` or `2024-08-01..2024-08-07` names, both ends included.

    Raises
    ------
    ValueError
        If one is no date, or a range ends before it begins.
    """
    days: list[date] = []
    for part in text.split(","):
        first, dots, last = part.partition("..")
        begin = date.fromisoformat(first)
        end = date.fromisoformat(last) if dots else begin
        if end < begin:
            raise ValueError(f"expected FIRST..LAST, {last} is before {first}")
        days += [begin + timedelta(days=number) for number in range((end - begin).days + 1)]
    return days


def list_datasets(
    exchange: str, symbols: Sequence[str], days: Sequence[date], kinds: Sequence[str] = REPLAYED
) -> list[Dataset]:
    """Return each kind of each symbol of each day once, days first.

    Parameters
    ----------
    exchange : str
        Tardis.dev's id, `binance-futures`.
    symbols : sequence of str
        As the exchange writes them; upper case, `:` and `/` become `-`, as in Tardis.dev's paths.
    kinds : sequence of str
        Tardis.dev's data types; what a replay takes if not given.

    Raises
    ------
    ConfigError
        If one is no name that the reader of recordings would find again in the file's.

    Source: FETCH-001.
    """
    found: dict[Dataset, None] = {}
    for day in days:
        for symbol in symbols:
            for kind in kinds:
                dataset = Dataset(exchange, kind, day, re.sub("[:/]", "-", symbol).upper())
                is_plain = EXCHANGE.fullmatch(exchange) and KIND.fullmatch(kind) and symbol.isprintable()
                if not is_plain or not NAME.fullmatch(dataset.file_name):
                    raise ConfigError(
                        "fetch tardis: expected an exchange like binance-futures, a type like trades and a symbol like "
                        f"BTCUSDT, got {exchange!r}, {kind!r}, {symbol!r}"
                    )
                found[dataset] = None
    return list(found)


def fetch_datasets(
    datasets: Sequence[Dataset],
    folder: Path,
    *,
    base_url: str = BASE_URL,
    api_key: str = "",
    retries: int = RETRIES,
    on_progress: OnProgress | None = None,
    on_retry: OnRetry | None = None,
) -> Iterator[Fetched]:
    """Bring datasets into a folder, one after the other; what is there already is left as it is.

    Parameters
    ----------
    datasets : sequence of Dataset
        From `list_datasets`.
    folder : Path
        Made when the first file comes.
    base_url : str
        What stands before `<exchange>/<type>/...`, http or https: a mirror's.
    api_key : str
        Sent for days that are not free, and for those only.
    retries : int
        How often in a row a transfer may fail without a byte more.
    on_progress, on_retry : callable, optional
        Told of every block; told, in one sentence, why and when a transfer is tried again.

    Returns
    -------
    iterator of Fetched
        Nothing is asked of the network before its first item is.

    Raises
    ------
    ConfigError
        At once where a day needs a key and there is none, or the URL or the key cannot be one; while iterating where
        the server refuses the key.
    DataError
        While iterating: the file is not there, is broken, or does not come.  What came of it is kept where it can be
        gone on from.

    Source: FETCH-001..FETCH-005.
    """
    try:
        parts = urlsplit(base_url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        is_url = is_url and parts.username is None  # urllib cannot send it
    except ValueError:
        is_url = False
    if not is_url or not base_url.isascii() or not base_url.isprintable() or " " in base_url:
        raise ConfigError(f"--base-url: expected http://... or https://..., got {base_url!r}")
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise ConfigError(f"{KEY_VARIABLE}: expected a key without spaces or special characters")  # not shown: a secret
    paid = [dataset.day for dataset in datasets if not dataset.is_free]
    if paid and not api_key:
        raise ConfigError(
            f"{KEY_VARIABLE}: expected a Tardis.dev API key in this variable, {min(paid)} needs one; "
            "without a key only the first day of each month can be had"
        )
    fetcher = _Fetcher(folder, base_url.rstrip("/"), api_key, retries, on_progress, on_retry)
    return map(fetcher.fetch, datasets)


def count_unpacked(path: Path) -> int:
    """Read a gzip file to its end, checksums included, and return how many bytes it holds unpacked.

    Raises
    ------
    EOFError, gzip.BadGzipFile, zlib.error
        If it is cut, damaged or no gzip file.

    Source: FETCH-002.
    """
    count = 0
    with gzip.open(path) as stream:
        while block := stream.read(BLOCK_BYTES):
            count += len(block)
    return count


# ---------------------------------------------------------------- one file


class _Cut(Exception):
    """A transfer failed in a way that the next try may not."""

    def __init__(self, why: object, wait_s: float = 0.0) -> None:
        super().__init__(str(why))
        self.wait_s = wait_s  # what the server asks for


class _Part:
    """A file while it comes.  Its name does not end like a recording's, so that no reader of a folder takes it."""

    def __init__(self, final: Path) -> None:
        self.path = final.with_name(final.name.removesuffix(".csv.gz") + ".part")
        self.tag_path = self.path.with_name(self.path.name + ".tag")
        self.received = 0  # bytes of it that came in this run
        self.is_joined = False  # from more than one answer

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def tag(self) -> str:
        text = self.tag_path.read_text(encoding="latin-1") if self.tag_path.exists() else ""
        return text if text.isprintable() else ""  # it becomes a header

    def begin(self, tag: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.drop()  # bytes before tag: at no time does a tag stand beside bytes of another version
        self.path.touch()
        if tag:
            self.tag_path.write_text(tag, encoding="latin-1")

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        self.tag_path.unlink(missing_ok=True)
        self.received, self.is_joined = 0, False

    def finish(self, final: Path) -> None:
        self.path.replace(final)
        self.tag_path.unlink(missing_ok=True)


class _Fetcher:
    """The network on one side, a folder on the other."""

    def __init__(
        self,
        folder: Path,
        base_url: str,
        api_key: str,
        retries: int,
        on_progress: OnProgress | None,
        on_retry: OnRetry | None,
    ) -> None:
        self.folder, self.base_url, self.api_key, self.retries = folder, base_url, api_key, retries
        self.on_progress, self.on_retry = on_progress, on_retry
        self.is_reached = False  # whether the server ever answered

    def fetch(self, dataset: Dataset) -> Fetched:
        """Bring one file (FETCH-002)."""
        final, url = self.folder / dataset.file_name, f"{self.base_url}/{dataset.path}"
        if final.exists():
            return Fetched(final, url, final.stat().st_size, 0, THERE)
        part = _Part(final)
        unpacked = self._receive_sound(dataset, url, part)
        size, received = part.size, part.received
        if not unpacked:
            part.drop()
            return Fetched(final, url, 0, received, EMPTY)
        part.finish(final)
        return Fetched(final, url, size, received, FETCHED if received == size else RESUMED)

    def _receive_sound(self, dataset: Dataset, url: str, part: _Part) -> int:
        """Return how many bytes are in the file once it came whole and is sound gzip."""
        is_again = False
        while True:
            self._receive_all(dataset, url, part)
            try:
                return count_unpacked(part.path)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                is_joined = part.is_joined
                part.drop()
                if is_again or not is_joined:
                    raise DataError(
                        url, None, None, f"expected a sound gzip file, got: {error}; nothing is kept, try again later"
                    ) from error
                is_again = True  # its pieces may be of two files: once more, from the beginning

    def _receive_all(self, dataset: Dataset, url: str, part: _Part) -> None:
        """Ask again until everything came (FETCH-004)."""
        failures, most = 0, part.size
        while True:
            try:
                return self._receive(dataset, url, part)
            except _Cut as cut:
                failures = 1 if part.size > most else failures + 1
                most = max(most, part.size)
                if failures > self.retries:
                    raise DataError(
                        url, None, None, f"{cut}; gave up after {failures} tries, the same command goes on from here"
                    ) from cut
                wait_s = min(max(PAUSE_S * 2 ** min(failures - 1, DOUBLINGS_MAX), cut.wait_s), PAUSE_MAX_S)
                if self.on_retry:
                    self.on_retry(f"{url}: {cut}; again in {wait_s:g} s")
                sleep(wait_s)

    def _receive(self, dataset: Dataset, url: str, part: _Part) -> None:
        """Ask once for what is missing and append what comes (FETCH-003)."""
        offset, tag = part.size, part.tag
        if not tag:
            offset = 0  # nobody could say whether what is there belongs to what is now on the server
        response = self._open(dataset, url, offset, tag)
        if response is None:
            part.is_joined = True
            return
        with response:
            total = _read_total(response, offset)
            if response.status == PARTIAL:
                if total is None or _read_tag(response.headers) not in ("", tag):
                    part.drop()
                    raise _Cut("the server went on with something else")
                part.is_joined = True
            else:
                part.begin(_read_tag(response.headers))
            name = part.path.name
            with part.path.open("ab") as file:
                size = file.tell()
                while block := _read_block(response):
                    file.write(block)
                    size += len(block)
                    part.received += len(block)
                    if self.on_progress:
                        self.on_progress(name, size, total)
                file.flush()
                os.fsync(file.fileno())  # the name to come is a promise
        if total is None and not size:
            raise _Cut("nothing came")
        if total is not None and size != total:
            raise _Cut(f"the connection ended after {size:,} of {total:,} bytes")

    def _open(self, dataset: Dataset, url: str, offset: int, tag: str) -> HTTPResponse | None:
        """Return the answer to a request from `offset` on, or None where nothing is missing."""
        # Compressed is how the files lie there; asked for plain text, a server between could unpack them for us.
        request = Request(url, headers={"User-Agent": AGENT, "Accept-Encoding": "gzip"})
        if offset:
            request.add_header("Range", f"bytes={offset}-")
            request.add_header("If-Range", tag)
        if not dataset.is_free:
            request.add_unredirected_header("Authorization", f"Bearer {self.api_key}")
        try:
            response: HTTPResponse = urlopen(request, timeout=TIMEOUT_S)
        except HTTPError as error:
            self.is_reached = True
            with error:
                if error.code == RANGE_REFUSED and offset:
                    if error.headers.get("Content-Range", "").replace(" ", "") == f"bytes*/{offset}":
                        return None
                    return self._open(dataset, url, 0, "")
                raise self._explain(error, url, dataset) from error
        except TimeoutError as error:
            raise _Cut(f"no answer within {TIMEOUT_S:g} s") from error
        except URLError as error:
            if self.is_reached or isinstance(error.reason, TimeoutError):
                raise _Cut(error.reason) from error
            raise DataError(
                url,
                None,
                None,
                f"cannot be reached ({error.reason}): check the connection and the proxy, or name a mirror with "
                "--base-url; files once fetched are not asked for again",
            ) from error
        except (HTTPException, OSError) as error:
            raise _Cut(str(error) or type(error).__name__) from error
        self.is_reached = True
        return response

    def _explain(self, error: HTTPError, url: str, dataset: Dataset) -> Exception:
        """Return what an answer other than a file means (FETCH-004, FETCH-005)."""
        got = f"got {error.code} {error.reason}"
        if error.code >= SERVER_ERROR or error.code in (TIMED_OUT, TOO_MANY):
            asked = error.headers.get("Retry-After", "")
            return _Cut(got, float(asked) if asked.isdecimal() else 0.0)
        try:
            words = error.read(ANSWER_BYTES).decode("utf-8", "replace")
        except (HTTPException, OSError):
            words = ""
        words = " ".join("".join(character if character.isprintable() else " " for character in words).split())
        if words and not words.startswith("<"):
            got += f" ({words})"
        if error.code in (401, 403) and not dataset.is_free:
            return ConfigError(
                f"{KEY_VARIABLE}: {url}: expected the key to be accepted, {got}: "
                "check it, and whether the subscription covers exchange and day"
            )
        if error.code in (401, 403):
            why = "the first day of a month needs no key at Tardis.dev: check --base-url and the proxy"
        elif error.code in (400, 404):
            why = (
                "check exchange, type and symbol, which https://api.tardis.dev/v1/exchanges/"
                f"{dataset.exchange} lists, and the day: it is there from about 06:00 UTC of the next"
            )
        else:
            why = "check --base-url and the proxy"
        return DataError(url, None, None, f"expected a file, {got}: {why}")


def _read_block(response: HTTPResponse) -> bytes:
    """Return what has come, at most a block; apart, so that a full disk is not taken for the network's fault."""
    try:
        return response.read1(BLOCK_BYTES)
    except IncompleteRead as error:
        if response.chunked:
            raise _Cut("the connection ended early") from error
        return b""  # in some versions of Python; who counts finds it in all
    except TimeoutError as error:
        raise _Cut(f"nothing came for {TIMEOUT_S:g} s") from error
    except (HTTPException, OSError) as error:
        raise _Cut(str(error) or type(error).__name__) from error


def _read_tag(headers: Message) -> str:
    """Return what names the version on the server: a strong ETag, else its last change, else nothing."""
    tag: str = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def _read_total(response: HTTPResponse, offset: int) -> int | None:
    """Return how many bytes the whole file has, or None where the server does not say, or sends another piece."""
    if response.status == PARTIAL:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        return int(match[2]) if match and int(match[1]) == offset else None
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None
