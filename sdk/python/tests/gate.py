"""A place where a function waits until a test lets it go on."""
import asyncio


class Gate:
    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.opened = asyncio.Event()
        self.calls = 0

    async def __call__(self) -> None:
        self.calls += 1
        self.begun.set()
        await self.opened.wait()
