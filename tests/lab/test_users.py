"""Users: one by one and by the thousand, effective at once."""

from __future__ import annotations

import time

import pytest
from node import online, scene
from wire import Wire

ROWS = 10_000


def delete_by_prefix(node, prefix: str) -> None:
    """Remove what an import made, in one go."""
    names = [user["user"] for user in node.cli_json("users", "list")["users"] if user["user"].startswith(prefix)]
    for begin in range(0, len(names), 500):
        node.cli("users", "delete", *names[begin:begin + 500], seconds=300)


def test_ten_thousand_rows_by_standard_input_and_all_can_sign_in(node, lab):
    rows = "".join(f"bulk{number},pw-{number},Bulk {number},bulk{number}@example.org\n" for number in range(ROWS))
    begin = time.monotonic()
    lab.command("cli", node.name, "--", "users", "import", "/dev/stdin", input="user,password,name,mail\n" + rows, seconds=300)
    took = time.monotonic() - begin
    print(f"{ROWS} rows in {took:.1f} s")
    try:
        assert sum(user["user"].startswith("bulk") for user in node.cli_json("users", "list")["users"]) == ROWS
        for number in (0, 4999, ROWS - 1):
            with Wire(node, direct_tls=True) as wire:
                wire.header()
                assert wire.scram(f"bulk{number}", f"pw-{number}").startswith(b"<success")
        shown = node.cli_json("users", "show", "bulk7")
        assert (shown["name"], shown["mail"]) == ("Bulk 7", "bulk7@example.org")
    finally:
        delete_by_prefix(node, "bulk")
    assert took < 60


@pytest.mark.parametrize("row, word", [
    ("bad2", "fields"), ("b ad2,pw", "user"), ("bad2,", "password"), (",pw", "user"), ("bad1,again", "already"),
])
def test_a_bad_row_is_named_with_its_line_and_nothing_is_imported(node, lab, row, word):
    text = f"user,password\nbad1,pw\n{row}\nbad3,pw\n"
    done = lab.attempt("cli", node.name, "--", "users", "import", "/dev/stdin", input=text)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "line 3" in said.lower() and word in said
    assert not [user for user in node.cli_json("users", "list")["users"] if user["user"].startswith("bad")]


def test_a_wrong_header_is_told(node, lab):
    done = lab.attempt("cli", node.name, "--", "users", "import", "/dev/stdin", input="name;secret\na;b\n")
    assert done.returncode == 1
    assert "user,password" in done.stdout + done.stderr


@scene(60)
async def test_add_show_list_delete(node, people):
    (carol,) = people("carol")
    assert carol.user in [user["user"] for user in node.cli_json("users", "list")["users"]]
    assert node.cli_json("users", "show", carol.user)["jid"] == carol.jid
    async with online(carol.slix()):
        pass
    again = node.attempt_cli("users", "add", carol.user, "--password", "other")
    assert again.returncode == 1 and carol.user in again.stdout + again.stderr
    node.cli("users", "delete", carol.user)
    assert node.attempt_cli("users", "show", carol.user).returncode == 1


@scene(60)
async def test_a_deleted_users_session_ends(node, people):
    """Effective at once means for those who are signed in, too."""
    from slix import until
    (carol,) = people("carol")
    client = carol.slix()
    await client.sign_in()
    client.staying = False
    node.cli("users", "delete", carol.user)
    await until("the session ends", lambda: not client.online)


def test_a_password_never_shows_in_the_journal(node, people):
    people("carol")
    (dora,) = people("dora")
    node.cli("users", "passwd", dora.user, "--password", "correct-horse-battery")
    journal = node.lab.command("logs", node.name, "--", "--boot").stdout
    ours = [line for line in journal.splitlines() if "lab-exec" not in line and "systemd-run" not in line]
    assert dora.password not in "\n".join(ours)
    assert "correct-horse-battery" not in "\n".join(ours)
