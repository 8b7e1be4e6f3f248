"""Simulates a network with a delay on one machine, for kernels without netem.

It sends each packet for 10.9.0.2 back to 10.9.0.1 after the delay, with the two addresses exchanged. That does not change
any checksum. So the machine talks to itself over a real TCP connection with a round trip.

    python3 mirror.py DEVICE MILLISECONDS_EACH_WAY
"""

import collections
import fcntl
import os
import select
import struct
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000

device, delay = sys.argv[1], float(sys.argv[2]) / 1000
tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", device.encode(), IFF_TUN | IFF_NO_PI))
poll = select.epoll()
poll.register(tun, select.EPOLLIN)
print("ready", flush=True)

late = collections.deque()  # (due time, packet), in order, because all packets have the same delay
while True:
    poll.poll(max(0, late[0][0] - time.monotonic()) if late else -1)
    try:
        while True:
            packet = os.read(tun, 65536)
            if packet[0] >> 4 == 4:
                late.append((time.monotonic() + delay, packet[:12] + packet[16:20] + packet[12:16] + packet[20:]))
    except BlockingIOError:
        pass
    while late and late[0][0] <= time.monotonic():
        os.write(tun, late.popleft()[1])
