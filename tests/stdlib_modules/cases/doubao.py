import os

from case import Case

from ezflow.testing.backends import Fault
from ezflow.testing.backends.doubao import DouBaoStandIn
from stdlib_modules.tts.doubao import DouBao

os.environ |= {"DOUBAO_TEST_APPID": "1234567890", "DOUBAO_TEST_TOKEN": "a-token"}


CASE = Case(
    standin=DouBaoStandIn,
    module=lambda url, **settings: DouBao(
        "zh_female", url=url, appid_env="DOUBAO_TEST_APPID", token_env="DOUBAO_TEST_TOKEN", **settings
    ),
    samples=["héllo 你好", "again"],
    faults={Fault.NO_END: "an answer is one JSON document, whose end is its own"},
)
