import os

from case import Case

from ezflow.testing.backends.doubao import DouBaoStreamStandIn
from stdlib_modules.tts.doubao import DouBao

os.environ |= {"DOUBAO_TEST_APPID": "1234567890", "DOUBAO_TEST_TOKEN": "a-token"}


CASE = Case(
    standin=DouBaoStreamStandIn,
    module=lambda url, **settings: DouBao(
        "zh_female", url=url, streaming=True, appid_env="DOUBAO_TEST_APPID", token_env="DOUBAO_TEST_TOKEN", **settings
    ),
    samples=["héllo 你好", "again"],
    title="DouBao(streaming=True)",
)
