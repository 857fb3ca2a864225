"""A flow of fakes, for `tests/bench/start.py`: what `ezflow serve` itself takes to be ready."""

from ezflow.testing import FakeASR, FakeLLM, FakeTTS

flow = FakeASR() >> FakeLLM().shown() >> FakeTTS()
