"""Inputs a little wrong, from inputs that are right: a function of the random numbers alone.

What a byte-wise fuzzer finds only with luck in text is done on purpose here: numbers become extremes, fields and lines
change places, brackets open and never close.
"""

import re
from random import Random

# What numbers in a recording never are, until they are.
EXTREMES = tuple(
    text.encode()
    for text in (
        *("0", "-1", "1", "-0", "00", "0.0", "1e9", "1e-30", "1e30", "1e400", "1e999999", "1e-999999", "1e99999999"),
        *("nan", "-inf", "Infinity", "", ".", "+5", " 5", "1_000", "0x10", "null", "true", "\u0661\u0662", "\u00b2"),
        *(str((1 << bits) + more) for bits in (15, 16, 31, 32, 40, 53, 62, 63, 64) for more in (-1, 0)),
        *("-" + str(1 << 63), "9" * 30, "9" * 400, "9" * 5_000, "0." + "0" * 40 + "1", "1." + "1" * 60),
        *("1700000000", "1700000000000", "1700000000000000000", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"),
    )
)
SIGNS = tuple(bytes([sign]) for sign in b'{}[]",:\n\r\t\0 .-=#\\\xff\xc3')
WORDS = tuple(
    word.encode()
    for word in (
        '"',
        "[]",
        "{}",
        "null",
        "[[[[[[[[",
        '{"a":' * 8,
        "\\u0000",
        "\\ud800",
        "\ufeff",
        "\u2028",
        "\r\n",
        ",,",
        "\n\n",
    )
)
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
FIELD = re.compile(rb'[^,:\n"\[\]{}]+')
BYTES_MOST = 1 << 17


def mutate(data: bytes, other: bytes, random: Random, most: int = BYTES_MOST) -> bytes:
    """Return `data` with one to four things changed; `other` lends parts."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        data = random.choice(WAYS)(data, other, random)[:most]
    return data


def _cut_at(data: bytes, random: Random) -> int:
    return random.randrange(len(data) + 1)


def _flip(data: bytes, other: bytes, random: Random) -> bytes:
    found = bytearray(data or b"\0")
    for _ in range(random.choice((1, 1, 2, 8))):
        found[random.randrange(len(found))] ^= 1 << random.randrange(8)
    return bytes(found)


def _set(data: bytes, other: bytes, random: Random) -> bytes:
    at, size = _cut_at(data, random), random.choice((1, 2, 4, 8))
    value = random.choice((0, 1, (1 << 8 * size) - 1, 1 << 8 * size - 1, random.getrandbits(8 * size)))
    return data[:at] + value.to_bytes(size, "little") + data[at + size :]


def _truncate(data: bytes, other: bytes, random: Random) -> bytes:
    return data[: _cut_at(data, random)]


def _drop(data: bytes, other: bytes, random: Random) -> bytes:
    first, last = sorted((_cut_at(data, random), _cut_at(data, random)))
    return data[:first] + data[min(last, first + 64) :]


def _repeat(data: bytes, other: bytes, random: Random) -> bytes:
    first, last = sorted((_cut_at(data, random), _cut_at(data, random)))
    return data[:last] + data[first:last] * random.choice((1, 1, 3, 40)) + data[last:]


def _splice(data: bytes, other: bytes, random: Random) -> bytes:
    return data[: _cut_at(data, random)] + other[_cut_at(other, random) :]


def _insert(data: bytes, other: bytes, random: Random) -> bytes:
    at = _cut_at(data, random)
    return data[:at] + random.choice(random.choice((SIGNS, WORDS))) * random.choice((1, 1, 1, 100)) + data[at:]


def _replace_number(data: bytes, other: bytes, random: Random) -> bytes:
    found = list(NUMBER.finditer(data))
    if not found:
        return _flip(data, other, random)
    match = random.choice(found)
    return data[: match.start()] + random.choice(EXTREMES) + data[match.end() :]


def _nudge_number(data: bytes, other: bytes, random: Random) -> bytes:
    found = [match for match in NUMBER.finditer(data) if match[0].isdigit() and len(match[0]) < 30]
    if not found:
        return _set(data, other, random)
    match = random.choice(found)
    value = max(int(match[0]) + random.choice((-1, 1, -1000, 1000, int(match[0]), -int(match[0]))), 0)
    return data[: match.start()] + str(value).encode() + data[match.end() :]


def _swap_fields(data: bytes, other: bytes, random: Random) -> bytes:
    found = list(FIELD.finditer(data))
    if len(found) < 2:
        return _drop(data, other, random)
    first, last = sorted(random.sample(range(len(found)), 2))
    one, two = found[first], found[last]
    return data[: one.start()] + two[0] + data[one.end() : two.start()] + one[0] + data[two.end() :]


def _shuffle_lines(data: bytes, other: bytes, random: Random) -> bytes:
    lines = data.split(b"\n")
    if len(lines) < 3:
        return _repeat(data, other, random)
    first, last = random.randrange(len(lines)), random.randrange(len(lines))
    if random.random() < 0.5:
        lines[first], lines[last] = lines[last], lines[first]
    else:
        lines.insert(last, lines[first])
    return b"\n".join(lines)


WAYS = (
    _flip,
    _set,
    _truncate,
    _drop,
    _repeat,
    _splice,
    _insert,
    _insert,
    _replace_number,
    _replace_number,
    _replace_number,
    _nudge_number,
    _swap_fields,
    _swap_fields,
    _shuffle_lines,
)
