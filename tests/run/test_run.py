"""The first of the README's two commands, in the lab: a running node, and how to use it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import ssl
import subprocess
import urllib.request

import pytest
from node import REPOSITORY, Lab, Person, online, scene

from signalbox_tools.cli import ROOT
from signalbox_tools.run import farewell

RUN = REPOSITORY / "scripts/run"


def run(*words: str) -> subprocess.CompletedProcess:
    """`scripts/run WORDS`."""
    return subprocess.run([RUN, "--lab", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False)


def without_alarms(text: str) -> list[str]:
    """The closing text without what may differ from one moment to the next."""
    return [line for line in text.splitlines() if "Alarms" not in line]


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
        subprocess.run(command.split(), cwd=REPOSITORY, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
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
    assert without_alarms(again.stdout) == without_alarms(told)
    assert node.running() == before
    assert "alice" in node.cli("users", "list")


def test_answers_for_a_node_that_is_there_are_refused(told, tmp_path):
    answers = tmp_path / "answers.toml"
    answers.write_text((REPOSITORY / "image/answers.example.toml").read_text())
    refused = run("--answers", str(answers))
    assert refused.returncode == 1
    assert "--fresh" in refused.stderr
    assert Lab().node("node1").all_up()


def test_the_closing_text_tells_of_alarms_and_of_every_node(told):
    facts = Lab().json
    quiet, loud = (farewell("lab", facts, {"node1": count}) for count in (0, 2))
    assert without_alarms(quiet) == without_alarms(loud) == without_alarms(told.removesuffix("\n"))
    assert "Alarms" not in quiet and "Alarms    2: scripts/lab cli node1 -- show alarms" in loud
    assert "continues with what the nodes stored; --fresh begins anew" in told


def test_a_lab_taken_by_another_folder_says_so_and_what_crashed_there_is_cleared(told, tmp_path):
    shutil.copytree(REPOSITORY / "scripts", tmp_path / "scripts")
    there = Lab(tmp_path / "scripts/lab")
    there.command("up", "--take", seconds=300, env={**os.environ, "SIGNALBOX_ROOT": str(ROOT)})
    refused = Lab().attempt("cli", "node1", "--", "users", "list")
    assert refused.returncode == 1 and f"the lab of {tmp_path} runs" in refused.stderr
    refused = run()
    assert refused.returncode == 1 and str(tmp_path) in refused.stderr
    assert there.node("node1").all_up()
    # What watches over the node there dies: its lab is a leftover now.
    os.kill(there.json["nodes"][0]["runner_pid"], signal.SIGKILL)
    done = run()
    assert done.returncode == 0, done.stderr
    assert "alice" in Lab().node("node1").cli("users", "list")


def test_as_many_nodes_run_again_as_there_were(told):
    lab = Lab()
    lab.command("up", "--nodes", "2", seconds=400)
    lab.command("kill", "node2")
    one = run()
    assert one.returncode == 0, one.stderr
    assert "node1 runs already" in one.stderr and lab.node("node2").all_up()
    assert "node1 and node2 are up" in one.stdout
    for node in lab.json["nodes"]:
        assert node["web"] in one.stdout and node["xmpp"] in one.stdout
    lab.command("down")
    both = run()
    assert both.returncode == 0, both.stderr
    assert without_alarms(both.stdout) == without_alarms(one.stdout)
    assert [node["name"] for node in lab.status()["nodes"]] == ["node1", "node2"]
    assert all(node["phase"] == "up" for node in lab.status()["nodes"])
