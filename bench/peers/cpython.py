"""The peer CPython: multiprocessing.Pool. It follows the protocol of peer.ts."""

import json
import multiprocessing
import sys
import time

MIB = 1024 * 1024


def noop(value):
    return value


def echo(value):
    return value


def rate(n, began):
    return {"rate": n / (time.perf_counter() - began)}


def sequence(pool, n):
    began = time.perf_counter()
    for i in range(n):
        pool.apply(noop, (i,))
    return rate(n, began)


def burst(pool, n):
    began = time.perf_counter()
    for result in [pool.apply_async(noop, (i,)) for i in range(n)]:
        result.get()
    return rate(n, began)


def mapping(items_of, **options):
    def run(pool, n):
        items = items_of(n)
        began = time.perf_counter()
        pool.map(noop, items, **options)
        return rate(n, began)

    return run


def imap(pool, n):
    began = time.perf_counter()
    for _ in pool.imap(noop, range(n)):
        pass
    return rate(n, began)


def imap_unordered(pool, n):
    began = time.perf_counter()
    for _ in pool.imap_unordered(noop, range(n), chunksize=1000):
        pass
    return rate(n, began)


def echoes(pool, n):
    value = b"\7" * MIB
    began = time.perf_counter()
    for _ in range(n // 4):
        for result in [pool.apply_async(echo, (value,)) for _ in range(4)]:
            result.get()
    return rate(n // 4 * 4, began)


ROWS = {
    "sequence": sequence,
    "burst": burst,
    "map-integers": mapping(lambda n: list(range(n))),
    "map-floats": mapping(lambda n: [i + 0.1 for i in range(n)]),
    "map-strings": mapping(lambda n: [f"item {i}" for i in range(n)]),
    "map-1": mapping(lambda n: list(range(n)), chunksize=1),
    "imap-1": imap,
    "imap-unordered-1000": imap_unordered,
    "echo": echoes,
}

if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        for line in sys.stdin:
            asked = json.loads(line)
            print(json.dumps(ROWS[asked["row"]](pool, asked["n"])), flush=True)
