"""What is refused before any route: foreign pages and names, requests without a token, for another user, too often."""

from __future__ import annotations

import json

import pytest
import trio
from quart import Blueprint, jsonify, request, websocket

from ezflow import EzflowError, Inbox, Module, Outbox, SettingsError, Turn, module
from ezflow.server.config import Settings
from ezflow.server.edges import _is_ours
from ezflow.server.rates import USERS, Rates
from ezflow.server.tokens import Token, find, read_file, read_tokens, tokens_of_environment
from ezflow.testing import FakeLLM

BODY = json.dumps({"user": "ann", "input": "x"}).encode()
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


async def status(server, method="POST", path="/turns", **headers):
    async with server.request(method, path, BODY if method == "POST" else b"", **headers) as response:
        body = await response.read()
        if response.status == 403:
            assert path == "/input" or json.loads(body)["error"] == "Forbidden"
        return response.status


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:3421", "127.8.9.10", "[::1]:3421", "[::1]"])
async def test_a_page_of_its_own_and_a_client_without_a_page_are_served(serving, host):
    async with serving(FakeLLM("hi")) as server:
        assert await status(server, Host=host) == 200
        assert await status(server, Host=host, Origin=f"http://{host}") == 200
        assert await status(server, Host=host, Origin=f"https://{host}") == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:81", "https://localhost.evil.example", "localhost", ""]
)
async def test_a_page_of_a_foreign_site_is_refused(serving, origin):
    async with serving(FakeLLM("hi")) as server:
        for method, path in (("POST", "/turns"), ("POST", "/interrupt"), ("POST", "/input"), ("GET", "/flow")):
            assert await status(server, method, path, Origin=origin) == 403
        assert await status(server, "GET", "/ws?user=ann", **UPGRADE, Origin=origin) == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:3421", "127.0.0.1.evil.example", "192.168.1.5", "["])
async def test_a_name_that_is_not_the_servers_is_refused_though_the_page_has_it_too(serving, host):
    async with serving(FakeLLM("hi")) as server:
        assert await status(server, Host=host) == 403
        assert await status(server, Host=host, Origin=f"http://{host}") == 403
        assert await status(server, "GET", "/ws?user=ann", **UPGRADE, Host=host) == 403


async def test_listed_origins_and_hosts_are_served(serving):
    async with serving(FakeLLM("hi"), origins=("https://app.example",), hosts=("voice.example",)) as server:
        assert await status(server, Origin="https://app.example") == 200
        assert await status(server, Origin="http://app.example") == 403
        assert await status(server, Host="Voice.example:8080") == 200
        assert await status(server, Host="voice.example", Origin="https://voice.example") == 200


def test_a_server_on_every_address_is_called_by_any_address_and_no_unlisted_name():
    public = Settings(host="0.0.0.0", insecure=True, hosts=("box.lan",))
    assert _is_ours("192.168.1.5", public)
    assert _is_ours("2001:db8::1", public)
    assert _is_ours("box.lan", public)
    assert not _is_ours("evil.example", public)
    assert _is_ours("box.lan", Settings(host="Box.lan", insecure=True))


CHECKED = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


async def test_an_image_on_a_foreign_page_cannot_interrupt_anybody(serving):
    async with serving(FakeLLM("hi"), origins=("https://app.example",)) as server:
        path = "/interrupt_talk?user=ann"
        assert await status(server, "GET", "/flow", **CHECKED) == 403
        for headers in (CHECKED, CHECKED | {"Sec-Fetch-Site": "same-site"}, LINK):
            async with server.request("GET", path, **headers) as response:
                assert (response.status, list(json.loads(await response.read()))) == (403, ["detail"])
        for headers in ({}, {"Sec-Fetch-Site": "none"}, {"Sec-Fetch-Site": "same-origin"}):
            assert await status(server, "GET", path, **headers) == 200
        assert await status(server, "GET", "/flow", **LINK) == 200
        assert await status(server, "GET", path, **CHECKED, Origin="https://app.example") == 200


async def test_a_listed_site_may_ask_what_it_may_do_and_read_the_answer(serving):
    listed, foreign = {"Origin": "https://app.example"}, {"Origin": "https://evil.example"}
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    async with serving(FakeLLM("hi"), origins=("https://app.example",), tokens=[TOKEN]) as server:
        async with server.request("OPTIONS", "/turns", **listed, **ask) as response:
            assert response.status == 204
            assert response.headers["access-control-allow-origin"] == "https://app.example"
            assert "POST" in response.headers["access-control-allow-methods"]
            assert "Authorization" in response.headers["access-control-allow-headers"]
        for headers, code in ((listed, 401), (listed | bearer(), 200)):  # a refusal can be read too
            async with server.request("POST", "/turns", BODY, **headers) as response:
                assert response.status == code
                assert response.headers["access-control-allow-origin"] == "https://app.example"
                assert response.headers["vary"] == "Origin"
        async with server.request("OPTIONS", "/turns", **foreign, **ask) as response:
            assert response.status == 403
            assert "access-control-allow-origin" not in response.headers


async def test_a_route_tells_its_own_methods_and_no_route_tells_none(serving):
    async with serving({"a": Keeps(), "b": FakeLLM("hi")}) as server:
        for path, methods in (
            ("/turns", "OPTIONS, POST"),
            ("/b/history", "DELETE, GET, HEAD, OPTIONS"),
            ("/conversations/delete", "DELETE, OPTIONS"),
        ):
            async with server.request("OPTIONS", path) as response:
                assert (response.status, response.headers["allow"]) == (204, methods)
                assert "content-type" not in response.headers
        assert (await server.json("OPTIONS", "/nowhere"))[0] == 404


async def test_every_response_has_safe_headers(serving):
    async with serving(FakeLLM("hi")) as server:
        for method, path, body in (("GET", "/flow", b""), ("POST", "/turns", BODY), ("GET", "/nowhere", b"")):
            async with server.request(method, path, body) as response:
                await response.read()
                assert response.headers["x-content-type-options"] == "nosniff"
                assert response.headers["x-frame-options"] == "DENY"
                assert response.headers["cache-control"] == "no-store"
                assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
                assert not response.headers.keys() & {"access-control-allow-origin", "server"}


TOKEN, OTHER = "a-token-of-more-than-16", "another-token-of-a-team"


def bearer(token=TOKEN):
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("wrong"),
        bearer(TOKEN[:-1]),
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
    ],
)
async def test_without_a_token_that_counts_nothing_is_told_but_that_the_server_is_up(serving, headers):
    async with serving({"a": FakeLLM("hi"), "b": FakeLLM("ho")}, tokens=[TOKEN]) as server:
        for method, path in (("POST", "/turns"), ("POST", "/b/interrupt"), ("GET", "/flow"), ("GET", "/nowhere")):
            async with server.request(method, path, BODY if method == "POST" else b"", **headers) as response:
                assert response.status == 401
                assert response.headers["www-authenticate"] == "Bearer"
                assert json.loads(await response.read())["error"] == "Unauthorized"
        for method, path in (("POST", "/input"), ("GET", "/b/interrupt_talk?user=ann"), ("GET", "/schema")):
            async with server.request(method, path, BODY if method == "POST" else b"", **headers) as response:
                assert (response.status, list(json.loads(await response.read()))) == (401, ["detail"])
        for path in ("/health/live", "/health/ready", "/b/health/ready"):
            assert await status(server, "GET", path, **headers) == 200


async def test_a_token_lets_in_and_its_users_are_the_only_ones_it_stands_for(serving):
    async with serving(FakeLLM("hi"), tokens=[TOKEN, f"{OTHER} ann team-*"]) as server:
        for user, code in (("ann", 200), ("team-7", 200), ("bob", 403), ("Ann", 403)):
            body = json.dumps({"user": user, "input": "x"}).encode()
            named = json.dumps({"user": user, "Input": "x"}).encode()
            for path, sent in (("/turns", body), ("/input", named), ("/interrupt", b'{"user": "%s"}' % user.encode())):
                async with server.request("POST", path, sent, **bearer(OTHER)) as response:
                    assert response.status == code, path
                async with server.request("POST", path, sent, **bearer()) as response:
                    assert response.status == 200, path
            for path in ("/heartbeat", "/interrupt_talk"):
                async with server.request("GET", f"{path}?user={user}", **bearer(OTHER)) as response:
                    assert response.status == code, path


async def test_trusted_networks_need_no_token_for_ezpipes_routes_alone(serving):
    async with serving(FakeLLM("hi"), tokens=[TOKEN], trusted=["127.0.0.0/8"]) as server:
        assert await status(server, "GET", "/heartbeat?user=ann") == 200
        assert await status(server, "GET", "/schema") == 200
        assert await status(server, "GET", "/flow") == 401
        assert await status(server, "POST", "/turns") == 401
    async with serving(FakeLLM("hi"), tokens=[TOKEN], trusted=["10.0.0.0/8", "2001:db8::/32"]) as server:
        assert await status(server, "GET", "/heartbeat?user=ann", **{"Remote-Addr": "10.0.0.1"}) == 401


@module
class Keeps(Module[str, str]):
    """Brings a route of its own, as the Dify module does."""

    def routes(self) -> Blueprint:
        routes = Blueprint("keeps", __name__)

        @routes.delete("/conversations/delete")
        async def delete_conversation():
            return jsonify(await request.get_json())

        return routes

    async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
        async for item in inbox:
            await outbox.send(item)


async def test_a_modules_routes_are_for_a_tokens_users_alone_too(serving):
    async with serving(Keeps(), tokens=[f"{OTHER} ann"], max_body=100) as server:
        for user, code in (("ann", 200), ("bob", 403)):
            body = json.dumps({"user": user, "conversation_id": "c"}).encode()
            headers = bearer(OTHER) | {"Content-Type": "application/json"}
            async with server.request("DELETE", "/conversations/delete", body, **headers) as response:
                assert response.status == code
                if code == 200:
                    assert json.loads(await response.read())["conversation_id"] == "c"
            async with server.request("DELETE", "/conversations/delete", body) as response:
                assert response.status == 401
        async with server.request("DELETE", "/conversations/delete", bytes(101), **bearer(OTHER)) as response:
            assert response.status == 413


def test_tokens_come_from_the_environment_and_a_file_and_are_never_shown(tmp_path):
    file = tmp_path / "tokens"
    file.write_text(f"# the team's\n{OTHER}  ann team-*\n\n")
    found = tokens_of_environment({"EZFLOW_TOKENS": f"{TOKEN};  {TOKEN}2 bob\n", "EZFLOW_TOKENS_FILE": str(file)})
    assert [token.users for token in found] == [("*",), ("bob",), ("ann", "team-*")]
    assert tokens_of_environment({}) == ()
    assert find(found, OTHER) is found[2]
    assert find(found, OTHER.upper()) is None
    settings = Settings(tokens=[TOKEN])
    assert TOKEN not in repr(settings) + repr(found)
    assert Settings(host="0.0.0.0", tokens=[TOKEN]).host == "0.0.0.0"


def test_the_environments_tokens_hold_for_a_server_that_is_given_none(monkeypatch):
    monkeypatch.setenv("EZFLOW_TOKENS", TOKEN)
    assert find(Settings().tokens, TOKEN)
    assert Settings(tokens=()).tokens == ()


@pytest.mark.parametrize("line", ["short", "with-a-comma,in-between-it", "a-token-of-ümlauts-here"])
def test_what_can_be_guessed_or_cannot_be_sent_is_no_token(line):
    with pytest.raises(EzflowError) as caught:
        read_tokens([line])
    assert line not in str(caught.value)
    assert "at least 16" in str(caught.value)


@pytest.mark.parametrize("given", ["{}", "{} ann", " {}\tann bob", "{};{} ann", "{}\n{}", "{} ann;" * 20])
def test_tokens_that_are_given_in_place_of_their_file_are_not_repeated(given):
    given = given.replace("{}", TOKEN)
    with pytest.raises(SettingsError) as refused:
        read_file(given)
    assert str(refused.value).startswith("a token file is needed, and what was given is none")
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize("path", ["tokens", "/run/secrets/the tokens of all", "our-production-tokens.txt", "x/" * 3000])
def test_a_token_file_that_cannot_be_read_is_named(path):
    with pytest.raises(SettingsError) as refused:
        read_file(path)
    assert str(refused.value).startswith(f"the token file {path} cannot be read: ")


def test_every_token_is_compared_whichever_fits(monkeypatch):
    compared = []
    monkeypatch.setattr("ezflow.server.tokens.hmac.compare_digest", lambda a, b: compared.append((a, b)) or a == b)
    tokens = read_tokens([TOKEN, OTHER])
    assert find(tokens, TOKEN) is tokens[0]
    assert [a for a, _ in compared] == [token.digest for token in tokens]
    assert len({len(part) for pair in compared for part in pair}) == 1


def test_a_network_that_is_none_is_refused_with_the_way_to_write_one():
    with pytest.raises(EzflowError, match=r"trusted: .*10\.0\.0\.0/8"):
        Settings(trusted=["everywhere"])
    assert Token.read(TOKEN).stands_for("anybody")


async def test_a_user_who_asks_too_often_is_told_when_to_come_again_and_nobody_else(serving):
    async with serving(FakeLLM("hi"), rate_per_s=0.01, rate_burst=3) as server:
        for _ in range(3):
            assert await status(server) == 200
        async with server.request("POST", "/turns", BODY) as response:
            refused = json.loads(await response.read())
            assert (response.status, refused["error"]) == (429, "TooManyRequests")
            assert 95 <= int(response.headers["retry-after"]) <= 100
        async with server.request("POST", "/input", b'{"user": "ann", "Input": "x"}') as response:
            assert (response.status, list(json.loads(await response.read()))) == (429, ["detail"])
        assert (await server.turn(user="bob", input="x"))[-1]["reason"] == "done"


async def test_fifty_users_behind_one_address_and_one_in_quick_succession_are_within_the_rate(serving):
    async with serving(FakeLLM("hi")) as server:
        for _ in range(50):
            assert await status(server) == 200

        async def ask(user: str) -> None:
            for _ in range(3):
                assert (await server.turn(user=user, input="x"))[-1]["reason"] == "done"

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(ask, f"user{number}")


async def test_a_rate_is_so_many_at_once_and_so_many_a_second(autojump_clock):
    rates = Rates(per_s=2.0, burst=3)
    assert [rates.wait_s("ann") for _ in range(3)] == [0.0] * 3
    assert [rates.wait_s("ann") for _ in range(2)] == pytest.approx([0.5, 0.5], rel=1e-3)
    assert rates.wait_s("bob") == 0.0
    await trio.sleep(0.5)
    assert rates.wait_s("ann") == 0.0
    assert rates.wait_s("ann") > 0.0
    await trio.sleep(60)
    assert [rates.wait_s("ann") for _ in range(4)].count(0.0) == 3


@pytest.mark.parametrize(("per_s", "burst"), [(10.0, 3), (3.0, 7), (0.3, 1), (1000.0, 999)])
async def test_a_burst_is_whole_whatever_the_rate_rounds_to(per_s, burst, autojump_clock):
    rates = Rates(per_s, burst)
    assert [rates.wait_s("ann") for _ in range(burst + 1)].count(0.0) == burst


async def test_of_too_many_users_those_who_have_not_asked_for_longest_are_forgotten(autojump_clock):
    rates = Rates(per_s=0.001, burst=1)
    for number in range(USERS):
        rates.wait_s(str(number))
    assert rates.wait_s("0") > 0.0  # and is now the one who asked last
    assert rates.wait_s("one more") == 0.0
    assert len(rates._empty_at) == USERS
    assert rates.wait_s("0") > 0.0
    assert rates.wait_s("1") == 0.0


@pytest.mark.parametrize("origin", ["https://App.example", "https://app.example/", "HTTPS://app.example"])
async def test_a_site_may_be_listed_as_people_write_it(serving, origin):
    async with serving(FakeLLM("hi"), origins=[origin]) as server:
        assert await status(server, Origin="https://app.example") == 200
        for foreign in ("https://app.example.co", "https://app.exampl", "https://a", "app.example"):
            assert await status(server, Origin=foreign) == 403


@pytest.mark.parametrize(
    "wrong",
    [
        {"origins": "https://app.example"},
        {"origins": ["app.example"]},
        {"origins": ["https://app.example/page"]},
        {"hosts": "box.lan"},
        {"trusted": "10.0.0.0/8"},
        {"port": 99999},
        {"port": "80"},
        {"grace_s": -1.0},
        {"grace_s": float("nan")},
        {"max_sessions": 0},
        {"max_holders": 0},
        {"turn_s": 0},
        {"idle_s": -1},
        {"rate_per_s": 0},
        {"rate_burst": 0},
        {"tokens": ["# nobody"]},
        {"tokens": [TOKEN, f"{TOKEN} bob"]},
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_is_named(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong)).rstrip("s")):
        Settings(**wrong)


@pytest.mark.parametrize("name", ["<x>", "a b", "../x", "", "-x"])
async def test_a_flow_is_not_called_what_no_url_can_hold(serving, name):
    with pytest.RaisesGroup(SettingsError):
        async with serving({"good": FakeLLM("hi"), name: FakeLLM("ho")}):
            pass


@module
class Told(Module[str, str]):
    """Its routes tell whose request they think it is."""

    def routes(self) -> Blueprint:
        routes = Blueprint("told", __name__, url_prefix="/told")

        @routes.route("/whose", methods=["GET", "POST"])
        async def whose():
            body = await request.get_json(force=True) if request.method == "POST" else {}
            return jsonify([*request.args.getlist("user"), body.get("user")])

        @routes.post("/form")
        async def form():
            return jsonify([(await request.form).get("user")])

        @routes.websocket("/live")
        async def live():
            await websocket.send(",".join(websocket.args.getlist("user")))

        return routes

    async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
        async for item in inbox:
            await outbox.send(item)


ANN, BOB = {"user": "ann"}, {"user": "bob"}
DEEP = b'{"user":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/told/whose?user=ann", None, 200),
        ("/told/whose?user=bob", None, 403),
        ("/told/whose?user=ann&user=bob", None, 403),
        ("/told/whose", b'{"user": "ann"}', 200),
        ("/told/whose", b'{"user": "bob", "x": NaN}', 403),
        ("/told/whose", b'{"user": "bob", "x": "\\ud800"}', 403),
        ("/told/whose", b'{"user": ["ann"]}', 422),
        ("/told/whose", b'{"user": null}', 422),
        ("/told/whose", b'{"user": "%s"}' % (b"x" * 257), 422),
        ("/told/whose", DEEP, 403),
        ("/told/whose?user=ann", b'{"user": "bob"}', 403),
        ("/told/form", b"user=bob", 403),
        ("/told/whose", b"not json", 403),
    ],
)
async def test_whatever_a_module_reads_as_the_user_is_one_of_the_tokens(serving, path, body, code):
    async with serving({"a": Told()}, tokens=[f"{OTHER} ann"]) as server:
        for prefix in ("", "/a"):
            method = "GET" if body is None else "POST"
            headers = bearer(OTHER) | {"Content-Type": "application/x-www-form-urlencoded" if "form" in path else "x/y"}
            async with server.request(method, prefix + path, body or b"", **headers) as response:
                assert response.status == code, await response.read()


async def test_without_a_restricted_token_a_module_may_read_what_it_likes(serving):
    async with serving(Told(), tokens=[TOKEN]) as server:
        headers = bearer() | {"Content-Type": "application/x-www-form-urlencoded"}
        async with server.request("POST", "/told/form", b"user=bob", **headers) as response:
            assert json.loads(await response.read()) == ["bob"]


@pytest.mark.parametrize("path", ["/turns", "/interrupt", "/input"])
async def test_the_url_may_name_the_user_of_the_body_and_no_other(serving, path):
    given = {"/turns": {"input": "x"}, "/interrupt": {}, "/input": {"Input": "x"}}[path]
    body = json.dumps({"user": "ann & bob", **given}).encode()
    async with serving(FakeLLM("hi"), tokens=[f"{OTHER} ann*"]) as server:
        for query, code in (("ann%20%26%20bob", 200), ("ann+%26+bob", 200), ("ann", 422)):
            async with server.request("POST", f"{path}?user={query}", body, **bearer(OTHER)) as response:
                said = await response.read()
                assert response.status == code, (query, said)
                assert (b"the URL names another user than the body" in said) is (code == 422)


async def test_a_modules_websocket_is_for_a_tokens_users_alone(serving):
    async with serving(Told(), tokens=[f"{OTHER} ann"]) as server:
        for user, headers, code in (("ann", bearer(OTHER), 101), ("bob", bearer(OTHER), 403), ("ann", {}, 401)):
            async with server.request("GET", f"/told/live?user={user}", **UPGRADE, **headers) as response:
                assert response.status == code


async def test_the_rate_holds_for_a_modules_routes_too(serving):
    async with serving(Told(), rate_per_s=0.01, rate_burst=2) as server:
        codes = [(await server.json("GET", "/told/whose?user=ann"))[0] for _ in range(3)]
        assert codes == [200, 200, 429]


async def test_a_name_that_is_too_long_is_not_remembered(serving):
    async with serving(Told(), rate_per_s=0.01) as server:
        for path in ("/told/whose", "/turns", "/interrupt", "/input"):
            long = json.dumps({"user": "x" * 100_000, "input": "x", "Input": "x"}).encode()
            async with server.request("POST", path, long) as response:
                assert response.status == 422


async def test_a_websocket_to_a_route_that_is_none_is_refused_without_a_traceback(serving, caplog):
    async with serving(FakeLLM("hi")) as server:
        for path in ("/turns", "/nowhere"):
            async with server.request("GET", path, **UPGRADE) as response:
                assert response.status in (400, 404, 405)
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("target", ["?user=a", "http://[", "*", "ftp://x/y"])
async def test_a_target_that_is_no_path_is_refused_before_anybody_reads_it(serving, target, caplog):
    async with serving(FakeLLM("hi")) as server:
        async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
            await stream.send_all(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 400")
    assert caplog.text == ""


async def test_a_page_that_only_tells_where_it_is_cannot_interrupt_anybody(serving):
    async with serving(FakeLLM("hi"), host="127.0.0.1") as server:
        path = "/interrupt_talk?user=ann"
        assert await status(server, "GET", path, Referer="http://localhost/page") == 200
        async with server.request("GET", path, Referer="http://evil.example/page") as response:
            assert response.status == 403
