"""Several processes behind one address: real ones, seen from outside."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import sys

import pytest
import trio
from supervised import FLOW, WITHIN_S, ask, first_process, gone, process_at, running, supervised

import ezflow
from ezflow import SettingsError
from ezflow.client import Client, ClientError
from ezflow.server.config import Settings
from ezflow.server.inherited import VARIABLE, Inherited
from ezflow.server.run import cannot_listen
from ezflow.server.workers import Supervisor
from ezflow.testing import FakeLLM

TWO = ("--workers", "2", "--worker-port", "0")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="workers need POSIX")


async def test_workers_share_an_address_and_have_one_each(tmp_path):
    async with supervised(tmp_path, *TWO) as server:
        shared, first, second = await server.urls(2)
        workers = {await process_at(first), await process_at(second)}
        assert len(workers) == 2
        assert server.process.pid not in workers
        assert await process_at(shared) in workers
        assert server.said.count("Pipeline verified") == server.said.count("Listening") == 1


@pytest.mark.parametrize("form", ["console", "json"])
async def test_the_lines_of_a_log_tell_which_worker_wrote_them(tmp_path, form):
    asked = ("--log-format", form, "--log-level", "info")
    async with supervised(tmp_path, *TWO, *asked) as server:
        *_, first, second = await server.urls(2)  # the log tells some too
        for number, url in ((2, second), (1, first)):
            await process_at(url)
            of_worker = f"worker={number}" if form == "console" else f'"worker": {number}'
            await server.until(rf"turn ended: done.*{of_worker}\b")


async def test_a_worker_that_is_killed_breaks_its_turns_alone_and_another_takes_its_sockets(tmp_path):
    async with supervised(tmp_path, *TWO) as server:
        _, first, second = await server.urls(2)
        killed, other = await process_at(first), await process_at(second)
        async with Client(first, user="ann") as ann, Client(second, user="bob") as bob:
            async with ann.turn("stay") as broken, bob.turn(f"wait {tmp_path}/go") as unharmed:
                assert [await first_process(turn) for turn in (broken, unharmed)] == [killed, other]
                os.kill(killed, signal.SIGKILL)
                with pytest.raises(ClientError):
                    async for _ in broken:
                        pass
                # Nobody is refused: what comes before the next worker is ready waits for it.
                assert await process_at(first) not in (killed, other)
                (tmp_path / "go").touch()
                assert [event.reason async for event in unharmed][-1] == "done"
        assert await process_at(second) == other
        await server.until(rf"worker 1 \(process {killed}\) died: SIGKILL; another starts at once")


async def test_a_signal_lets_turns_finish_whoever_else_gets_it(tmp_path):
    async with supervised(tmp_path, *TWO) as server:
        _, first, second = await server.urls(2)
        workers = [await process_at(first), await process_at(second)]
        async with Client(first, user="ann") as ann, Client(second, user="bob") as bob:
            async with ann.turn(f"wait {tmp_path}/go") as of_ann, bob.turn(f"wait {tmp_path}/go") as of_bob:
                assert [await first_process(turn) for turn in (of_ann, of_bob)] == workers
                server.signal(signal.SIGINT)
                await server.until("Shutting down")
                for worker in workers:  # as a terminal and systemd signal all of the processes
                    os.kill(worker, signal.SIGINT)
                    os.kill(worker, signal.SIGTERM)
                (tmp_path / "go").touch()
                for turn in (of_ann, of_bob):
                    assert [event.reason async for event in turn][-1] == "done"
        assert await server.ended() == 0
        for worker in workers:
            await gone(worker)
        assert server.said.count("Shutting down") == 1
        assert "died" not in server.said


async def test_a_second_signal_ends_all_at_once(tmp_path):
    async with supervised(tmp_path, "--workers", "2", "--grace", "600") as server:
        (shared,) = await server.urls(0)
        async with Client(shared, user="ann") as ann, ann.turn("stay") as turn:
            worker = await first_process(turn)
            server.signal(signal.SIGTERM)
            await server.until("Shutting down")
            server.signal(signal.SIGTERM)
            assert await server.ended() == -signal.SIGTERM
            await gone(worker)


async def test_a_supervisor_that_is_killed_leaves_no_worker_behind(tmp_path):
    async with supervised(tmp_path, *TWO) as server:
        _, first, second = await server.urls(2)
        workers = [await process_at(first), await process_at(second)]
        server.signal(signal.SIGKILL)
        for worker in workers:
            await gone(worker)


async def test_a_worker_that_dies_again_and_again_is_started_after_growing_pauses(tmp_path):
    async with supervised(tmp_path, "--workers", "2", "--worker-port", "0") as server:
        _, first, second = await server.urls(2)
        other = await process_at(second)
        for _ in range(2):
            with pytest.raises(ClientError):
                await ask(first, "die")
        await server.until(r"worker 1 \(process \d+\) died: exit code 3; another starts at once")
        await server.until(r"worker 1 \(process \d+\) died: exit code 3; another starts in 1 s")
        (tmp_path / "pipeline.py").write_text("fault")
        await server.until(r"worker 1 \(process \d+\) does not start: exit code 1; another starts in 2 s")
        (tmp_path / "pipeline.py").write_text(FLOW)
        assert await process_at(first) not in (other, server.process.pid)
        assert await process_at(second) == other
        server.signal(signal.SIGTERM)
        assert await server.ended() == 0


@pytest.mark.parametrize(
    ("flow", "said", "code"),
    [
        ("from ezflow.testing import FakeLLM, FakeASR\nflow = FakeLLM() >> FakeASR()", "FakeASR takes", 1),
        ("raise OSError('no such device')", "ezflow: no such device", 1),
        ("import os\nos.abort()", "", 128 + signal.SIGABRT),
        (None, "pipeline.py is no file", 2),
    ],
)
async def test_a_first_start_that_fails_ends_all_and_is_said_once(tmp_path, flow, said, code):
    async with supervised(tmp_path, "--workers", "3", flow=flow) as server:
        assert await server.ended() == code
    assert server.said.count(said) == 1 or not said
    assert "Listening" not in server.said


async def test_without_a_process_for_the_first_worker_all_ends_and_the_log_says_why(caplog):
    supervisor = Supervisor(["/nowhere"], Settings(port=0, workers=2))
    assert await supervisor.run() == 1
    assert [record.getMessage() for record in caplog.records] == [
        "worker 1: no process can be started: [Errno 2] No such file or directory: '/nowhere'"
    ]


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("b'nonsense\\n'", "what no worker says"),
        ('b\'{"ready": true, "files": [5]}\\n\'', "what no worker says"),
        ("b'[' * 200_000 + b'\\n'", "what no worker says"),
        ("bytes(17 << 20)", "more than 16 MiB"),
    ],
)
async def test_a_process_that_says_what_no_worker_says_is_killed_and_named(said, named, caplog):
    speaker = f"""if True:
        import json, os, socket, time
        line = socket.socket(fileno=json.loads(os.environ["EZFLOW_WORKER"])["line"])
        line.sendall({said})
        time.sleep(1000)
    """
    supervisor = Supervisor([sys.executable, "-c", speaker], Settings(port=0, workers=2))
    with trio.fail_after(WITHIN_S):
        assert await supervisor.run() == 128 + signal.SIGKILL
    [record] = caplog.records
    assert re.fullmatch(rf"worker 1 \(process \d+\) says {named}: it is killed", record.getMessage())


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="the end of a process is to be seen and left to the supervisor")
@pytest.mark.parametrize("forks", [False, True], ids=["alone", "one that it forked stays"])
async def test_what_a_process_says_right_before_it_leaves_is_heard_also_late(forks, tmp_path, caplog):
    go, begun = tmp_path / "go", tmp_path / "begun"
    os.mkfifo(go)
    speaker = f"""if True:
        import json, os, socket
        line = socket.socket(fileno=json.loads(os.environ["EZFLOW_WORKER"])["line"])
        open({str(begun)!r}, "w").write(f"{{os.getpid()}}\\n")
        open({str(go)!r}).close()
        if {forks} and not os.fork():
            line.recv(1)
            os._exit(0)
        line.sendall(b"nonsense\\n")
    """
    for _ in range(8):  # what comes first is left to chance
        begun.unlink(missing_ok=True)
        supervisor = Supervisor([sys.executable, "-c", speaker], Settings(port=0, workers=2))
        with trio.fail_after(WITHIN_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(supervisor.run)
                while not (begun.exists() and begun.read_text().endswith("\n")):  # noqa: ASYNC110
                    await trio.sleep(0.02)
                go.open("w").close()
                os.waitid(os.P_PID, int(begun.read_text()), os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222  (it is to wait)
    assert len(caplog.records) == 8


async def test_an_address_that_is_taken_is_said_before_any_worker_starts(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with supervised(tmp_path, "--workers", "2", "--worker-port", str(port), flow=None) as server:
            assert await server.ended() == 1
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use): choose another --worker-port" in server.said


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one process", "workers"])
async def test_a_host_that_is_not_of_this_machine_is_named_as_the_fault(tmp_path, options):
    async with supervised(tmp_path, "--host", "192.0.2.1", "--insecure", *options) as server:
        assert await server.ended() == 1
    assert re.search(r"cannot listen on 192\.0\.2\.1:0 \(.*\): choose another --host\n", server.said)


@pytest.mark.parametrize(
    ("why", "advice"),
    [
        (OSError(errno.EADDRINUSE, "why"), ": choose another --worker-port"),
        (OSError(errno.EACCES, "why"), ": choose another --worker-port, those below 1024 are not for everybody"),
        (OSError(errno.EADDRNOTAVAIL, "why"), ": choose another --host"),
        (socket.gaierror(socket.EAI_NONAME, "why"), ": choose another --host"),
        (OSError(errno.EMFILE, "why"), ""),
    ],
)
def test_the_option_is_named_that_is_at_fault(why, advice):
    assert cannot_listen("a:1", why, "--worker-port").strerror == f"cannot listen on a:1 (why){advice}"


async def test_a_worker_that_does_not_leave_is_killed(tmp_path, caplog):
    (tmp_path / "pipeline.py").write_text(FLOW)
    command = [sys.executable, "-m", "ezflow", "serve", str(tmp_path / "pipeline.py"), "--grace", "0.1"]
    said: list[str] = []
    settings = Settings(port=0, worker_port=0, grace_s=0.1, playground=False)
    supervisor = Supervisor(command, settings, say=said.append, leave_s=0.5)
    async with running(supervisor) as codes:
        while len(said) < 2:  # noqa: ASYNC110
            await trio.sleep(0.02)
        url = said[1].removeprefix("Workers: ")
        async with Client(url, user="ann") as ann, ann.turn(f"block {tmp_path}/go {tmp_path}/blocks") as turn:
            worker = await first_process(turn)
            (tmp_path / "go").touch()
            while not (tmp_path / "blocks").exists():  # noqa: ASYNC110
                await trio.sleep(0.02)
            os.kill(os.getpid(), signal.SIGTERM)
            await gone(worker)
    assert codes == [1]
    assert [record.getMessage() for record in caplog.records] == [
        f"worker 1 (process {worker}) did not leave: it is killed"
    ]


async def test_a_worker_that_cannot_start_and_does_not_leave_is_killed(caplog):
    speaker = """if True:
        import json, os, socket, time
        line = socket.socket(fileno=json.loads(os.environ["EZFLOW_WORKER"])["line"])
        line.sendall(b'{"ready": false, "files": []}\\n')
        time.sleep(1000)
    """
    supervisor = Supervisor([sys.executable, "-c", speaker], Settings(port=0, workers=2, grace_s=0.1), leave_s=0.1)
    with trio.fail_after(WITHIN_S):
        assert await supervisor.run() == 128 + signal.SIGKILL
    [record] = caplog.records
    assert re.fullmatch(r"worker 1 \(process \d+\) did not leave: it is killed", record.getMessage())


def test_a_program_is_one_process():
    with pytest.raises(SettingsError, match="ezflow serve FILE --workers N"):
        ezflow.serve(FakeLLM("hi"), workers=2)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"workers": 0}, "workers=0 was given, but 1 to 256 is needed."),
        ({"workers": 257}, "workers=257 was given, but 1 to 256 is needed."),
        ({"port": -1}, "port=-1 was given, but 0 to 65535 is needed."),
        ({"worker_port": 65536}, "worker_port=65536 was given, but 0 to 65535 is needed."),
        (
            {"worker_port": 65535, "workers": 2},
            "worker_port=65535 was given, but 65534 or less is needed: each of workers=2 has the next port, and 65535 "
            "is the last.",
        ),
        (
            {"worker_port": 3420, "workers": 2},
            "worker_port=3420 was given, but 3420 to 3421, the ports of the workers, may not hold port=3421, which is "
            "that of all.",
        ),
    ],
)
def test_workers_and_ports_that_cannot_be_are_refused(settings, said):
    with pytest.raises(SettingsError) as refused:
        Settings(**settings)
    assert str(refused.value) == said


def test_as_many_workers_and_ports_as_there_may_be():
    assert Settings(workers=256, worker_port=65280).worker_port == 65280


def test_what_a_worker_inherits_is_not_for_the_programs_that_it_starts():
    ours, its = socket.socketpair()
    with ours, its:
        its.set_inheritable(True)
        given = Inherited(sockets=(), line=its.fileno(), reports=True, tells_files=False)
        environment = given.environment()
        assert Inherited.take(environment) == given
        assert VARIABLE not in environment
        assert not its.get_inheritable()
    with pytest.raises(SettingsError, match="unset it"):
        Inherited.take({VARIABLE: "1"})
