from case import Case

from ezflow.testing.backends.dify import DifyStandIn
from stdlib_modules.llm.dify import Dify

CASE = Case(
    standin=DifyStandIn,
    module=lambda url, **settings: Dify(url=url, **settings),
    samples=["héllo 你好", "again"],
    gives=["You", " said", " héllo", " 你好.", "You", " said", " again."],
    again={"lasting": True},
)
