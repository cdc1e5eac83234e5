"""A reader of bbolt files, in which containerd keeps what its snapshots are called.

Format: https://github.com/etcd-io/bbolt (page.go, bucket.go): pages, of which two describe the
file, trees of keys in them, buckets within buckets. The file is read while its owner writes: a page
may be another one by the time that it is read. So nothing here is believed further than its bounds
go, and whoever uses an answer checks it otherwise.
"""

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

_PAGE = struct.Struct("<QHHI")  # id, flags, count, overflow
# Magic, version, page size, flags, root page, sequence, free list, pages, transaction, checksum.
_META = struct.Struct("<IIIIQQQQQQ")
_BRANCH = struct.Struct("<IIQ")  # position, length of the key, page
_LEAF = struct.Struct("<IIII")  # flags, position, lengths of key and value
_BUCKET = struct.Struct("<QQ")  # root page, sequence
_MAGIC = 0xED0CDAED
_IS_BRANCH, _IS_LEAF = 1, 2
_DEPTH = 16
_LARGEST_NODE = 4 * 1024**2  # bytes: a page with those that overflow from it
_TRIES = 4


class BoltError(OSError):
    """The file is none of these, or was written to each time that it was read."""


def find(path: Path, buckets: Sequence[bytes], ending: bytes, key: bytes) -> bytes | None:
    """The value of `key` in the bucket whose name ends so, within these buckets; None where there
    is no such bucket.

    Raises:
        OSError: the file cannot be read.
        BoltError: it makes no sense.
    """
    for left in reversed(range(_TRIES)):
        try:
            with path.open("rb") as stream:
                return _File(stream.fileno()).find(buckets, ending, key)
        except (BoltError, struct.error, IndexError) as error:
            if not left:
                raise BoltError(f"{path} cannot be understood: {error}") from error
    return None


class _File:
    """One reading of a file, from the state that its newest sound description tells."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        first = self._bytes(0, _PAGE.size + _META.size)
        size = self._meta(first)[2] if self._is_meta(first) else 4096
        metas = [first, self._bytes(size, _PAGE.size + _META.size)]
        sound = [self._meta(each) for each in metas if self._is_meta(each)]
        if not sound:
            raise BoltError("it has no description")
        newest = max(sound, key=lambda each: each[8])
        self._size, self._root = newest[2], newest[4]
        if not 512 <= self._size <= 65536:
            raise BoltError(f"pages of {self._size} bytes")

    @staticmethod
    def _meta(page: bytes) -> tuple[int, ...]:
        return _META.unpack_from(page, _PAGE.size)

    def _is_meta(self, page: bytes) -> bool:
        if len(page) < _PAGE.size + _META.size:
            return False
        found = self._meta(page)
        return found[0] == _MAGIC and found[1] == 2 and found[9] == _fnv(page[16:-8])

    def _bytes(self, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, offset)

    def find(self, buckets: Sequence[bytes], ending: bytes, key: bytes) -> bytes | None:
        node = self._node(self._root)
        for name in buckets:
            value = self._value(node, name.__eq__)
            if value is None:
                return None
            node = self._bucket(value)
        value = self._value(node, lambda found: found.endswith(ending))
        if value is None:
            return None
        return self._value(self._bucket(value), lambda found: found == key)

    def _value(self, node: bytes, is_it: Callable[[bytes], bool]) -> bytes | None:
        return next((value for key, value in self._items(node, _DEPTH) if is_it(key)), None)

    def _bucket(self, value: bytes) -> bytes:
        """The top node of a bucket: a page of its own, or within its value."""
        root, _ = _BUCKET.unpack_from(value)
        return self._node(root) if root else value[_BUCKET.size :]

    def _node(self, page: int) -> bytes:
        """A page, with those that overflow from it."""
        offset = page * self._size
        head = self._bytes(offset, _PAGE.size)
        number, _, _, overflow = _PAGE.unpack(head)
        length = (overflow + 1) * self._size
        if number != page or length > _LARGEST_NODE:
            raise BoltError(f"page {page} says that it is {number}, of {length} bytes")
        node = self._bytes(offset, length)
        if len(node) < length:
            raise BoltError(f"it ends within page {page}")
        return node

    def _items(self, node: bytes, depth: int) -> Iterator[tuple[bytes, bytes]]:
        _, flags, count, _ = _PAGE.unpack_from(node)
        if depth == 0 or not flags & (_IS_BRANCH | _IS_LEAF):
            raise BoltError("a page of another kind than expected")
        for number in range(count):
            if flags & _IS_BRANCH:
                place = _PAGE.size + number * _BRANCH.size
                yield from self._items(self._node(_BRANCH.unpack_from(node, place)[2]), depth - 1)
                continue
            place = _PAGE.size + number * _LEAF.size
            _, position, of_key, of_value = _LEAF.unpack_from(node, place)
            begin = place + position
            if begin + of_key + of_value > len(node):
                raise BoltError("a key beyond its page")
            middle = begin + of_key
            yield node[begin:middle], node[middle : middle + of_value]


def _fnv(content: bytes) -> int:
    """The checksum of a description: FNV-1a of 64 bits."""
    value = 0xCBF29CE484222325
    for byte in content:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value
