from case import Case

from ezflow.testing.backends import OllamaStandIn
from stdlib_modules.llm.ollama import Ollama

CASE = Case(
    standin=OllamaStandIn,
    module=lambda url, **settings: Ollama("qwen2.5", url=url, **settings),
    samples=["héllo 你好", "again"],
    gives=["You", " said", " héllo", " 你好.", "You", " said", " again."],
)
