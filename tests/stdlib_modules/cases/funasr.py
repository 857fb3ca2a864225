from itertools import permutations

from case import Case

from ezflow import Utterance
from ezflow.testing.backends import Fault
from ezflow.testing.backends.funasr import VOCABULARY, FunASRStandIn, speech
from stdlib_modules.asr.funasr import FunASR
from stdlib_modules.sound import slices

ORDERS = list(permutations(VOCABULARY[1:], 4))  # of words

CASE = Case(
    standin=FunASRStandIn,
    module=lambda url, **settings: FunASR(url=url, final_s=0.2, **settings),
    samples=[
        Utterance.of(*slices(speech("你好", "世界", "", "hello", " world"), 0.032)),
        speech("stop"),
    ],
    gives=["你好世界。hello world。", "stop。"],
    faults={Fault.NO_END: None},
    nth=lambda number: speech(*ORDERS[number]),
)
