"""A text chat with a language model in this process: in the terminal, or served. It remembers what was said.

    python examples/chat.py --max-tokens 60       type, and read; Ctrl+C ends an answer, once more (or Ctrl+D) the chat
    ezflow serve examples/chat.py                 the same for many, each with a history of their own
    curl -N http://127.0.0.1:3421/turns -d '{"user": "ann", "input": "Hello!", "options": {"LLM": {"max_tokens": 60}}}'

A session is one person's conversation, a turn in it one question with its answer; the model reads those before it.
"""

import argparse
import signal
import sys

import trio

from ezflow import EzflowError, Session
from stdlib_modules.llm.local import LLMOptions, LocalLLM

flow = LocalLLM(system_prompt="You are a friendly assistant. Answer in one to three plain sentences.")


async def chat(options: LLMOptions) -> None:
    async with flow.open() as service, service.session("you") as session, trio.open_nursery() as nursery:
        nursery.start_soon(end_on_ctrl_c, session, nursery.cancel_scope)
        while (question := await typed()) is not None:
            await answer(session, question, options)
        nursery.cancel_scope.cancel()


async def end_on_ctrl_c(session: Session, chatting: trio.CancelScope) -> None:
    """Let Ctrl+C end the answer; where there is none, the chat."""
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        async for _ in signals:
            if await session.interrupt() is None:
                chatting.cancel()


async def typed() -> str | None:
    """The next line; None at the end."""
    try:
        # A thread that waits for a key cannot be ended: when the chat is, it is left behind.
        return await trio.to_thread.run_sync(input, "> ", abandon_on_cancel=True)
    except EOFError:
        return None


async def answer(session: Session, question: str, options: LLMOptions) -> None:
    """Print the answer while it is written."""
    async for event in session.turn(question, options={"LLM": options}):
        if event.type == "text":
            print(event.item, end="", flush=True)
        elif event.error is not None:
            print(event.error.message, end="")
        elif event.reason == "interrupted":
            print(" …", end="")
    print()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Chat with a language model in this process.")
    parser.add_argument("--temperature", type=float, help="0 for the likeliest words, 1 for surprises")
    parser.add_argument("--max-tokens", type=int, help="how long an answer may be")
    try:
        trio.run(chat, LLMOptions(**vars(parser.parse_args())))
    except ValueError as error:  # an option out of its bounds
        parser.error(str(error))
    except EzflowError as error:
        sys.exit(str(error))
