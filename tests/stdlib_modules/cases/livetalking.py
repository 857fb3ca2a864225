from case import Case

from ezflow.testing.backends.livetalking import LiveTalkingStandIn
from stdlib_modules.avatar.livetalking import LiveTalking

CASE = Case(
    standin=LiveTalkingStandIn,
    module=lambda url, **settings: LiveTalking(url=url, quiet_s=0.02, **settings),
    samples=["Hello there, héllo.", "你好！"],
    gives=["Hello there, héllo.", "你好！"],
)
