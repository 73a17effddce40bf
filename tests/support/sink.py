"""
A server that reads whole requests and answers like Lago after a fixed delay: ``python tests/support/sink.py 0.05``.

It prints its port. It checks nothing and keeps nothing.
"""

from __future__ import annotations

import asyncio
import sys

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n\r\n"
EVENT = (
    b'{"lago_id":"1a901a90-1a90-1a90-1a90-1a901a901a90","transaction_id":"transaction_1234567890",'
    b'"lago_customer_id":null,"code":"storage","timestamp":"2022-04-29T08:59:51.000Z",'
    b'"precise_total_amount_cents":null,"properties":{"gb":10},"lago_subscription_id":null,'
    b'"external_subscription_id":"sub_1234567890","created_at":"2022-04-29T08:59:51Z"}'
)


class Sink(asyncio.Protocol):
    """One connection. An answer echoes as many events as the request holds, as Lago's does."""

    delay = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = bytearray()
        self.needed: int | None = None

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            if self.needed is None:
                end = self.buffer.find(b"\r\n\r\n")
                if end < 0:
                    return
                head = bytes(self.buffer[:end]).lower()
                length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
                self.needed = end + 4 + int(length or 0)
            if len(self.buffer) < self.needed:
                return
            events = self.buffer.count(b'"transaction_id"', 0, self.needed)
            del self.buffer[: self.needed]
            self.needed = None
            if self.delay:
                asyncio.get_running_loop().call_later(self.delay, self.answer, events)
            else:
                self.answer(events)

    def answer(self, events: int) -> None:
        body = b'{"events":[' + b",".join([EVENT] * events) + b"]}"
        if not self.transport.is_closing():
            self.transport.write(HEAD % len(body) + body)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    Sink.delay = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0
    asyncio.run(main())
