from case import Case

from ezflow.testing.backends import Fault
from ezflow.testing.backends.openai import OpenAIStandIn
from stdlib_modules.tts.openai import OpenAISpeech

CASE = Case(
    standin=OpenAIStandIn,
    module=lambda url, **settings: OpenAISpeech("small", url=url, **settings),
    samples=["Hello, 你好.", "Again."],
    faults={Fault.NO_END: "bare samples have no end mark: the end of the answer is theirs"},
)
