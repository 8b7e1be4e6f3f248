"""The pools of Python: multiprocessing.Pool, ProcessPoolExecutor, mpire, joblib, Ray. They follow the protocol of peer.ts."""

import json
import os
import sys
import threading
import time

MIB = 1024 * 1024
KIND = sys.argv[1]
PROCESSES = int(sys.argv[2]) if len(sys.argv) > 2 else 2


def noop(value):
    return value


def echo(value):
    return value


def sleep_1_ms(_):
    time.sleep(0.001)


class CPython:
    """Also the base of the pools that have its interface."""

    def __init__(self):
        import multiprocessing

        self.pool = multiprocessing.Pool(PROCESSES)

    def apply(self, function, value):
        return self.pool.apply(function, (value,))

    def apply_all(self, function, values):
        for result in [self.pool.apply_async(function, (value,)) for value in values]:
            result.get()

    def map(self, values):
        self.pool.map(noop, values)

    def map_1(self, values):
        self.pool.map(noop, values, chunksize=1)

    def imap_1(self, values):
        return self.pool.imap(noop, values)

    def imap_unordered_1000(self, values):
        return self.pool.imap_unordered(noop, values, chunksize=1000)

    def close(self):
        self.pool.terminate()


class Ray(CPython):
    def __init__(self):
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray
        from ray.util.multiprocessing import Pool

        ray.init(num_cpus=PROCESSES, include_dashboard=False, logging_level="error", log_to_driver=False)
        self.shutdown = ray.shutdown
        self.pool = Pool(PROCESSES)

    def close(self):
        self.pool.terminate()
        self.shutdown()


class Executor:
    def __init__(self):
        from concurrent.futures import ProcessPoolExecutor

        self.pool = ProcessPoolExecutor(PROCESSES)

    def apply(self, function, value):
        return self.pool.submit(function, value).result()

    def apply_all(self, function, values):
        for future in [self.pool.submit(function, value) for value in values]:
            future.result()

    def map(self, values):
        # Its default is 1, also for a million items. These are the chunks of multiprocessing.Pool.
        list(self.pool.map(noop, values, chunksize=-(-len(values) // (4 * PROCESSES))))

    def map_1(self, values):
        list(self.pool.map(noop, values))

    def imap_1(self, values):
        return self.pool.map(noop, values)

    def close(self):
        self.pool.shutdown()


class Mpire(CPython):
    def __init__(self):
        from mpire import WorkerPool

        self.pool = WorkerPool(PROCESSES, keep_alive=True)

    def map_1(self, values):
        self.pool.map(noop, values, chunk_size=1)

    def imap_1(self, values):
        return self.pool.imap(noop, values, chunk_size=1)

    def imap_unordered_1000(self, values):
        return self.pool.imap_unordered(noop, values, chunk_size=1000)


class Joblib:
    """Parallel, with its default: the processes of loky. It has no single call."""

    def __init__(self):
        from joblib import Parallel, delayed

        self.delayed = delayed
        self.parallel = lambda **options: Parallel(PROCESSES, pre_dispatch="all", **options)

    def calls(self, function, values):
        return (self.delayed(function)(value) for value in values)

    def apply(self, function, value):
        return self.parallel()(self.calls(function, [value]))

    def apply_all(self, function, values):
        self.parallel(batch_size=1)(self.calls(function, values))

    def map(self, values):
        self.parallel()(self.calls(noop, values))

    def map_1(self, values):
        self.parallel(batch_size=1)(self.calls(noop, values))

    def imap_1(self, values):
        return self.parallel(batch_size=1, return_as="generator")(self.calls(noop, values))

    def imap_unordered_1000(self, values):
        return self.parallel(batch_size=1000, return_as="generator_unordered")(self.calls(noop, values))

    def close(self):
        pass


POOLS = {"cpython": CPython, "executor": Executor, "mpire": Mpire, "joblib": Joblib, "ray": Ray}


def sequence(pool, n):
    times = []
    for i in range(n):
        began = time.perf_counter()
        pool.apply(noop, i)
        times.append((time.perf_counter() - began) * 1e6)
    times.sort()
    mean = sum(times) / n
    return {"rate": 1e6 / mean, "mean": mean, "p50": times[n // 2], "p99": times[n * 99 // 100]}


def rated(run):
    """A row whose figure is the rate of `run(pool, input)`; the input is ready before the clock starts."""

    def row(input_of):
        def measure(pool, n):
            values = input_of(n)
            began = time.perf_counter()
            run(pool, values)
            return {"rate": n / (time.perf_counter() - began)}

        return measure

    return row


def drain(results):
    for _ in results:
        pass


def integers(n):
    return list(range(n))


def echoes(pool, values):
    for at in range(0, len(values), 4):
        pool.apply_all(echo, values[at : at + 4])


def seconds(pool, width):
    """As in peer.ts. Only for multiprocessing.Pool."""
    counts = [0, 0, 0]
    ended = threading.Semaphore(0)
    began = time.perf_counter()

    def go_on(_):
        second = int(time.perf_counter() - began)
        if second < len(counts):
            counts[second] += 1
            call()
        else:
            ended.release()

    def call():
        pool.pool.apply_async(sleep_1_ms, (0,), callback=go_on)

    for _ in range(width):
        call()
    for _ in range(width):
        ended.acquire()
    return {f"second {second + 1}": count for second, count in enumerate(counts)}


def opening(_pool, _n):
    began = time.perf_counter()
    pool = POOLS[KIND]()
    pool.apply(noop, 0)
    figures = {"ms": (time.perf_counter() - began) * 1000}
    pool.close()
    return figures


map_rows = rated(lambda pool, values: pool.map(values))

ROWS = {
    "ready": lambda _pool, _n: {},
    "sequence": sequence,
    "burst": rated(lambda pool, values: pool.apply_all(noop, values))(range),
    "map-integers": map_rows(integers),
    "map-floats": map_rows(lambda n: [i + 0.1 for i in range(n)]),
    "map-strings": map_rows(lambda n: [f"item {i}" for i in range(n)]),
    "map-1": rated(lambda pool, values: pool.map_1(values))(integers),
    "imap-1": rated(lambda pool, values: drain(pool.imap_1(values)))(integers),
    "imap-unordered-1000": rated(lambda pool, values: drain(pool.imap_unordered_1000(values)))(integers),
    "echo": rated(echoes)(lambda n: [b"\7" * MIB] * n),
    "seconds": seconds,
    "open": opening,
}

if __name__ == "__main__":
    # Nothing that a pool prints gets between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    own = POOLS[KIND]()
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(ROWS[asked["row"]](own, asked["n"])), file=answers, flush=True)
    own.close()
