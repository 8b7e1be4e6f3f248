"""Runs real farpool servers as processes, and waits for their effects."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc

HERE = Path(__file__).resolve().parent
FUNCTIONS = HERE / 'functions.mjs'
MAIN = HERE.parent.parent / 'dist' / 'cli' / 'main.js'

# Seconds. Everything that a test waits for takes well under a second.
PATIENCE = 20.0

# The --grace of the common server, in seconds.
GRACE = 0.5

# No limit for messages. The limit for trailers stays at the default of grpcio.
CHANNEL_OPTIONS = [('grpc.max_receive_message_length', -1), ('grpc.max_send_message_length', -1)]


class Server:
    """`farpool serve` with the functions of these tests. Keeps the lines of its log."""

    def __init__(self, *options: str, listen: str = '127.0.0.1:0'):
        self.log: list[dict] = []
        self._logged = threading.Condition()
        self._process = subprocess.Popen(
            ['node', str(MAIN), 'serve', str(FUNCTIONS), '--listen', listen, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._channels: list[grpc.Channel] = []
        try:
            self.address = self.logged('serving')['address']
        except BaseException:
            self.stop()
            raise
        self.channel = self.connect()

    @property
    def pid(self) -> int:
        return self._process.pid

    def connect(self) -> grpc.Channel:
        """Opens a new connection, which stop() closes."""
        options = [*CHANNEL_OPTIONS, ('grpc.use_local_subchannel_pool', 1)]
        channel = grpc.insecure_channel(self.address, options)
        self._channels.append(channel)
        return channel

    def logged(self, message: str) -> dict:
        """Waits for a log line that begins with this message, and returns the first one."""
        end = time.monotonic() + PATIENCE
        with self._logged:
            while True:
                for line in self.log:
                    if line.get('msg', '').startswith(message):
                        return line
                if not self._reader.is_alive() or time.monotonic() > end:
                    raise AssertionError(f'the server never logged {message!r}; its log: {self.log}')
                self._logged.wait(0.1)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def exit_code(self) -> int:
        """Waits until the process has ended, and returns its exit code."""
        return self._process.wait(PATIENCE)

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        for channel in self._channels:
            channel.close()
        if self.is_running:
            # The second signal ends the server without waiting for calls in flight.
            self._process.send_signal(signal.SIGTERM)
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._process.stderr.close()

    def _read(self) -> None:
        for text in self._process.stderr:
            line = json.loads(text) if text.startswith('{') else {'msg': text}
            with self._logged:
                self.log.append(line)
                self._logged.notify_all()


def until(holds: Callable[[], bool], what: str) -> None:
    """Waits for what can only be seen from outside: a file, a process, a counter."""
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f'waited {PATIENCE} s in vain until {what}')
        time.sleep(0.005)


def is_alive(pid: int) -> bool:
    """Whether a process is there; one that has ended and only waits to be reaped is not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0] != 'Z'
    except FileNotFoundError:
        return not Path('/proc/self').exists()


def lines(file: Path) -> list[str]:
    """The whole lines that functions have written to a file so far."""
    return file.read_text().split('\n')[:-1] if file.exists() else []


def until_begun(file: Path, times: int = 1) -> list[int]:
    """Waits until `times` functions have written their pids to the file; returns the pids."""
    until(lambda: len(lines(file)) >= times, f'{times} functions have begun')
    return [int(line) for line in lines(file)]
