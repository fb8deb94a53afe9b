"""The first of the README's two commands, in the lab: a running node, and how to use it."""

from __future__ import annotations

import re
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS / "lab"), str(TESTS / "clients")]

from node import Lab, Person, online, scene  # noqa: E402

RUN = TESTS.parent / "scripts/run"


def run(*words: str) -> subprocess.CompletedProcess:
    """`scripts/run WORDS`."""
    return subprocess.run([RUN, "--lab", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def told():
    """What a first run said in the end."""
    done = run("--fresh")
    assert done.returncode == 0, done.stderr
    yield done.stdout
    Lab().command("down")


def test_it_tells_how_to_sign_in_and_what_it_tells_is_so(told):
    lab = Lab()
    node = lab.node("node1")
    assert node.all_up()
    page = re.search(r"Web +(\S+)", told)[1]
    with urllib.request.urlopen(page, context=ssl.create_default_context(cafile=re.search(r"CA +(\S+)", told)[1]), timeout=10) as answer:
        assert answer.status == 200
    add = [line.strip().replace("SECRET", "a-fine-password") for line in told.splitlines() if "users add" in line]
    assert len(add) == 2
    for command in add:
        subprocess.run(command.split(), cwd=TESTS.parent, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    alice, bob = (Person(node, name, "a-fine-password") for name in ("alice", "bob"))

    @scene(60)
    async def they_talk():
        async with online(alice.slix(), bob.slix()) as (a, b):
            a.write(bob.jid, "it runs")
            await b.received("it runs")

    they_talk()


def test_a_second_run_leaves_the_node_and_what_it_stored_alone(told):
    node = Lab().node("node1")
    before = node.running()
    again = run()
    assert again.returncode == 0, again.stderr
    assert "runs already" in again.stderr
    assert again.stdout == told
    assert node.running() == before
    assert "alice" in node.cli("users", "list")


def test_answers_for_a_node_that_is_there_are_refused(told, tmp_path):
    answers = tmp_path / "answers.toml"
    answers.write_text((TESTS.parent / "image/answers.example.toml").read_text())
    refused = run("--answers", str(answers))
    assert refused.returncode == 1
    assert "--fresh" in refused.stderr
    assert Lab().node("node1").all_up()
