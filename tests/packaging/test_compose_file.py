"""deploy/compose.yaml fits the Compose Specification, the image, and ezflow's own settings."""

from __future__ import annotations

import re
import subprocess
import sys

from deployed import COMPOSE, DEPLOY, in_context, service, the, words
from packaged import IN_CHECKOUT, ROOT, run

from ezflow.server.config import Settings


def test_it_is_of_the_specification():
    schema = ("--builtin-schema", "vendor.compose-spec")
    run(sys.executable, "-m", "check_jsonschema", *schema, COMPOSE, cwd=ROOT)


def test_what_it_names_of_the_checkout_is_there():
    built = service("ezflow")["build"]
    assert (DEPLOY / built["context"]).resolve() == ROOT
    assert (ROOT / built["dockerfile"]).is_file()
    mounted = [volume.split(":")[0] for volume in service("ezflow")["volumes"] if volume.startswith(".")]
    assert [(DEPLOY / file).is_file() for file in mounted] == [True]


def test_it_mounts_and_publishes_what_the_image_has():
    ezflow = service("ezflow")
    kept = {volume.split(":")[1] for volume in ezflow["volumes"] if not volume.startswith(".")}
    assert kept == set(words(the("VOLUME")))
    assert [port.rpartition(":")[2] for port in ezflow["ports"]] == [the("EXPOSE")]
    assert all(port.startswith("127.0.0.1:") for port in ezflow["ports"])


def test_its_settings_and_values_are_understood(tmp_path):
    given = {name: str(value) for name, value in service("ezflow")["environment"].items()}
    assert given["EZFLOW_TOKENS_FILE"] == f"/run/secrets/{service('ezflow')['secrets'][0]}"
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-of-more-than-16 ann\n", encoding="utf-8")
    given["EZFLOW_TOKENS_FILE"] = str(tokens)
    given["EZFLOW_STORE"] = given["EZFLOW_STORE"].replace("/var/lib/ezflow", str(tmp_path))
    shown = run(sys.executable, "-m", "ezflow", "config", DEPLOY / "flow.py", cwd=tmp_path, **given)
    for name in given.keys() - {"EZFLOW_TOKENS_FILE"}:
        assert re.search(rf"^{name} = .* # environment$|^\w+ = .* # {name}$", shown, re.MULTILINE), shown


def test_turns_may_end_and_models_be_released_before_it_is_killed():
    patience_s = float(service("ezflow")["stop_grace_period"].removesuffix("s"))
    grace_s = float(service("ezflow")["environment"]["EZFLOW_GRACE_S"])
    assert patience_s > grace_s + 4 * (Settings().cleanup_s + 1)  # turns, stages, two modules; and a store


@IN_CHECKOUT
def test_the_file_of_tokens_gets_neither_into_git_nor_into_the_image():
    assert "file: secrets/tokens" in COMPOSE.read_text(encoding="utf-8")
    ignored = subprocess.run(["git", "check-ignore", "--quiet", "deploy/secrets/tokens"], cwd=ROOT, check=False)
    assert ignored.returncode == 0
    assert in_context({"deploy/secrets/tokens"}) == set()
