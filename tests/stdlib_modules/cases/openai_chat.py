from case import Case

from ezflow.testing.backends.openai import OpenAIStandIn
from stdlib_modules.llm.openai import OpenAIChat

CASE = Case(
    standin=OpenAIStandIn,
    module=lambda url, **settings: OpenAIChat("small", url=url, **settings),
    samples=["héllo 你好", "again"],
    gives=["You", " said", " héllo", " 你好.", "You", " said", " again."],
)
