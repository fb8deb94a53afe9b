"""Each rule of how services start, stop, fail and come back."""

from __future__ import annotations

import contextlib
import time

import pytest
from node import COMPANIONS, eventually

ROUTER = "xmpp-router"
PARTS = {"xmpp-connection-manager", "authentication-service"}
"""The services that belong to the router, as the answer file of the lab activates them."""

EVERY = [
    "database", "database-replicator", "database-layer-monitor", "sync-agent", "data-monitor", "log-partition-monitor", "web",
    "server-recovery-manager",
    "route-datastore", "login-datastore", "sip-registration-datastore", "presence-datastore",
    "xmpp-config-manager", "xmpp-router", "xmpp-connection-manager", "authentication-service",
]


@pytest.fixture(autouse=True)
def all_up(node):
    """Each test begins and ends with everything up."""
    node.settle()
    yield
    stopped = [f"{name}.service" for name, unit in node.units().items() if unit["ActiveState"] == "inactive"]
    if stopped:
        node.run("systemctl", "start", "--no-block", "signalbox.target", *stopped)
    node.settle(90)


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """The services that do not run in the same process any more."""
    return {name for name in before if after.get(name) != before[name]}


def kill(node, service: str, signal: str = "KILL") -> None:
    """Send a signal to the service's main process."""
    node.run("systemctl", "kill", f"--signal={signal}", "--kill-whom=main", service)


@contextlib.contextmanager
def broken(node, service: str, *lines: str):
    """A service whose unit has these lines as well, until the end."""
    folder = f"/run/systemd/system/{service}.service.d"
    node.run("sh", "-c", f"mkdir -p {folder} && cat > {folder}/90-test.conf && systemctl daemon-reload", input="\n".join(lines) + "\n")
    try:
        yield
    finally:
        node.run("sh", "-c", f"rm -r {folder} && systemctl daemon-reload && systemctl restart --no-block {service}")


def test_every_service_of_this_node_is_there_and_up(node):
    services = node.services()
    assert set(EVERY) <= set(services)
    for name in EVERY:
        assert services[name]["state"] == "STARTED", services[name]
        assert services[name]["up_seconds"] >= 0 and services[name]["started_at"] > 1_600_000_000


def test_the_router_takes_its_services_down_and_a_later_start_does_not_bring_them_back(node):
    before = node.running()
    node.cli("utils", "service", "stop", "Cisco XCP Router")
    services = node.services()
    assert {name for name in EVERY if services[name]["state"] == "STOPPED"} == PARTS | {ROUTER}
    assert "commanded" in services[ROUTER]["reason"].lower()
    assert changed(before, node.running()) == PARTS | {ROUTER}
    node.cli("utils", "service", "start", "Cisco XCP Router")
    # They would come at once if they came.
    time.sleep(2)
    assert node.state(ROUTER) == "STARTED"
    assert {node.state(name) for name in PARTS} == {"STOPPED"}
    for name in PARTS:
        node.cli("utils", "service", "start", name)
        assert node.state(name) == "STARTED"


def test_a_restart_of_the_router_restarts_every_active_service_of_its(node):
    before = node.running()
    node.cli("utils", "service", "restart", "Cisco XCP Router")
    eventually("all are up again", lambda: set(before) <= set(node.running()), 30)
    assert changed(before, node.running()) == PARTS | {ROUTER}


def test_a_restart_of_the_router_leaves_what_was_stopped_by_hand_alone(node):
    node.cli("utils", "service", "stop", "authentication-service")
    node.cli("utils", "service", "restart", "Cisco XCP Router")
    eventually("the connection manager is up", lambda: node.state("xmpp-connection-manager") == "STARTED")
    time.sleep(1)
    assert node.state("authentication-service") == "STOPPED"


@pytest.mark.parametrize("service", [*EVERY, *COMPANIONS])
def test_a_killed_service_comes_back_by_itself_and_takes_nobody_with_it(node, service):
    before, counted = node.running(), node.services()
    begin = time.monotonic()
    kill(node, service)
    def back() -> bool:
        unit = node.unit(service)
        return unit["ActiveState"] == "active" and unit["MainPID"] != before[service]
    eventually(f"{service} is back", back, 15)
    took = time.monotonic() - begin
    print(f"{service} was back after {took:.1f} s")
    assert changed(before, node.running()) == {service}
    assert took < 8
    if service not in COMPANIONS:
        eventually("the restart is counted", lambda: node.services()[service]["restarts"] == counted[service]["restarts"] + 1)


def test_a_service_that_hangs_is_caught_by_its_watchdog(node):
    """SIGSTOP: the process is there and does nothing."""
    before = node.running()
    kill(node, "login-datastore", "STOP")
    eventually("another process serves", lambda: node.running().get("login-datastore") not in (None, before["login-datastore"]), 40)
    assert changed(before, node.running()) == {"login-datastore"}
    assert "watchdog" in node.lab.command("logs", node.name, "--", "-u", "login-datastore", "-n", "50").stdout.lower()


def test_a_crash_loop_ends_in_an_alarm(node):
    with broken(node, "log-partition-monitor", "[Service]", "ExecStart=", "ExecStart=/usr/bin/signalbox serve no-such-service"):
        node.run("systemctl", "restart", "--no-block", "log-partition-monitor")
        def alarm():
            alarms = node.cli_json("show", "alarms")["alarms"]
            # By its id: the service itself has alarms, about the disk.
            return [one for one in alarms if one["id"] == "ServiceCrashLoop" and "log-partition-monitor" in one["text"]]
        eventually("there is an alarm", alarm, 60)
        # The pause between two attempts has grown: not an endless loop at full speed.
        attempts = int(node.unit("log-partition-monitor")["NRestarts"])
        time.sleep(5)
        assert int(node.unit("log-partition-monitor")["NRestarts"]) - attempts <= 3
        assert node.services()["log-partition-monitor"]["state"] in ("STARTING", "STOPPED", "NOTRUNNING")
    eventually("it runs again", lambda: node.state("log-partition-monitor") == "STARTED", 30)
    eventually("the alarm is over", lambda: not alarm(), 60)


def test_a_crash_loop_of_the_administration_is_an_alarm_too(node):
    """Nobody can type a command meanwhile: the alarm is still there when somebody can."""
    name = "signalbox-administration"
    with broken(node, name, "[Service]", "ExecStart=", "ExecStart=/usr/bin/signalbox serve no-such-service"):
        node.run("systemctl", "restart", "--no-block", name)
        restarts = ("systemctl", "show", "--property=NRestarts", "--value", name)
        eventually("it has died often enough", lambda: int(node.run(*restarts)) >= 6, 60)

    def alarm():
        alarms = node.cli_json("show", "alarms")["alarms"]
        return [one for one in alarms if one["id"] == "ServiceCrashLoop" and name in one["text"]]

    eventually("it serves again", lambda: node.attempt("systemctl", "is-active", name).returncode == 0, 30)
    assert alarm(), "there is an alarm"
    eventually("the alarm is over", lambda: not alarm(), 60, every=1)


@pytest.mark.parametrize("action", ["activate", "deactivate"])
def test_network_services_are_neither_activated_nor_deactivated(node, action):
    before = node.running()
    done = node.attempt_cli("utils", "service", action, "Cisco XCP Router")
    assert done.returncode == 1
    assert "network service" in done.stdout + done.stderr
    assert node.running() == before


def test_a_service_that_is_stopping_cannot_be_started(node):
    name = "presence-datastore"
    with broken(node, name, "[Service]", "ExecStop=/usr/bin/sleep 8", "ExecPaths=/usr/bin"):
        node.run("systemctl", "restart", name)
        node.run("systemctl", "stop", "--no-block", name)
        eventually("it is stopping", lambda: node.state(name) == "STOPPING", 10)
        done = node.attempt_cli("utils", "service", "start", name)
        assert done.returncode == 1
        assert "stopping" in (done.stdout + done.stderr).lower()
        eventually("it has stopped", lambda: node.state(name) in ("STOPPED", "NOTRUNNING"), 20)
        node.cli("utils", "service", "start", name)
        assert node.state(name) == "STARTED"


@pytest.fixture
def nothing_activated(node):
    """No feature service is activated; afterwards those of before are again."""
    features = [name for name, service in node.services().items() if service["kind"] == "feature" and service["activated"]]
    for name in features:
        node.cli("utils", "service", "deactivate", name)
    yield features
    for name in features:
        node.attempt_cli("utils", "service", "activate", name, "--yes")


def test_deactivated_services_are_down_and_say_so(node, nothing_activated):
    services = node.services()
    for name in nothing_activated:
        assert (services[name]["state"], services[name]["activated"]) == ("STOPPED", False)
        assert "not activated" in services[name]["reason"].lower()
        done = node.attempt_cli("utils", "service", "start", name)
        assert done.returncode == 1 and "activate" in (done.stdout + done.stderr).lower()


def test_activation_offers_what_is_missing_and_does_nothing_silently(node, nothing_activated):
    done = node.attempt_cli("utils", "service", "activate", "Cisco XCP Connection Manager")
    assert done.returncode != 0
    assert "Cisco XCP Authentication Service" in done.stdout + done.stderr
    assert not any(node.services()[name]["activated"] for name in PARTS)
    node.cli("utils", "service", "activate", "Cisco XCP Connection Manager", "--yes")
    assert all(node.services()[name]["activated"] for name in PARTS)
    node.settle()


def test_activation_outlives_a_power_cut(lab, nothing_activated):
    node = lab.node("node1")
    node.cli("utils", "service", "activate", "Cisco XCP Authentication Service")
    lab.command("kill", node.name)
    lab.command("start", node.name, seconds=240)
    services = node.services()
    assert services["authentication-service"]["activated"] and services["authentication-service"]["state"] == "STARTED"
    assert not services["xmpp-connection-manager"]["activated"] and services["xmpp-connection-manager"]["state"] == "STOPPED"


STAGES = [
    {"database"}, {"database-replicator"}, {"sync-agent"}, {"data-monitor"}, {"server-recovery-manager"},
    {"route-datastore", "login-datastore", "sip-registration-datastore", "presence-datastore"},
    {"xmpp-config-manager"}, {"xmpp-router"}, {"xmpp-connection-manager", "authentication-service"},
]
"""Each stage is up before the next begins; down in the opposite order."""


def stage_times(node, stamp: str) -> list[tuple[int, int]]:
    """For each stage the first and the last of its services' times."""
    units = node.units()
    times = [[int(units[name][stamp]) for name in stage] for stage in STAGES]
    assert all(time for stage in times for time in stage), times
    return [(min(stage), max(stage)) for stage in times]


def test_start_order_and_its_reverse(node):
    node.run("systemctl", "stop", "signalbox.target", seconds=90)
    # The answer is for the target alone, and the database is the last of its services.
    ours = set().union(*STAGES)
    eventually("all are down", lambda: {unit["ActiveState"] for name, unit in node.units().items() if name in ours} == {"inactive"})
    down = stage_times(node, "InactiveEnterTimestampMonotonic")
    node.run("systemctl", "start", "signalbox.target", seconds=120)
    node.settle()
    up = stage_times(node, "ActiveEnterTimestampMonotonic")
    for (_, last), (first, _) in zip(up, up[1:]):
        assert last <= first, up
    for (first, _), (_, last) in zip(down, down[1:]):
        assert last <= first, down


def test_who_waits_says_for_what(node):
    """Without the database the gate stays shut; the router behind it has a queued job and says why."""
    node.run("systemctl", "stop", "data-monitor", "database", "database-replicator", seconds=60)
    with broken(node, "database", "[Service]", "ExecStart=", "ExecStart=/usr/bin/signalbox serve no-such-service"):
        node.run("systemctl", "start", "--no-block", "data-monitor", "xmpp-router")
        router = eventually("the router waits", lambda: (one := node.services()["xmpp-router"])["state"] == "STARTING" and one, 30)
        assert "data-monitor" in router["reason"], router
        assert node.services()["data-monitor"]["state"] == "STARTING"
    eventually("the gate opens and the router runs", lambda: node.state("xmpp-router") == "STARTED", 90)


def test_the_publishers_gate_waits_for_the_sync_agent_and_says_so(node):
    with broken(node, "sync-agent", "[Service]", "ExecStart=", "ExecStart=/usr/bin/signalbox serve no-such-service"):
        node.run("systemctl", "restart", "--no-block", "sync-agent")
        eventually("the agent is away", lambda: node.state("sync-agent") != "STARTED", 10)
        node.run("systemctl", "restart", "--no-block", "data-monitor")
        def waits() -> bool:
            gate = node.services()["data-monitor"]
            return gate["state"] == "STARTING" and "sync-agent does not run" in gate["reason"]
        eventually("the gate waits for it", waits, 30)
        assert node.state("xmpp-router") == "STARTING"
    eventually("the gate opens and the router runs", lambda: node.state("xmpp-router") == "STARTED", 90)


@pytest.mark.parametrize("user", ["sb-web", "sb-xmpp-connection-manager", "sb-database"])
def test_only_the_supervisor_may_manage_units(node, user):
    def attempt(who: str):
        return node.attempt("setpriv", f"--reuid={who}", "--regid=signalbox", "--init-groups", "--",
                            "busctl", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                            "org.freedesktop.systemd1.Manager", "RestartUnit", "ss", "log-partition-monitor.service", "replace")
    before = node.running()
    refused = attempt(user)
    assert refused.returncode != 0
    assert "denied" in refused.stderr.lower() or "authentication" in refused.stderr.lower()
    assert node.running() == before
    assert attempt("sb-supervisor").returncode == 0, "the same call from the supervisor's user"


@pytest.mark.parametrize("call", [
    ("StartTransientUnit", "ssa(sv)a(sa(sv))", "taken-over.service", "fail", "1", "ExecStart", "a(sasb)", "1", "/bin/true", "1", "/bin/true", "false", "0"),
    ("StartTransientUnit", "ssa(sv)a(sa(sv))", "web.service", "replace", "1", "ExecStart", "a(sasb)", "1", "/bin/true", "1", "/bin/true", "false", "0"),
    ("SetUnitProperties", "sba(sv)", "web.service", "true", "0"),
    ("EnableUnitFiles", "asbb", "1", "/run/taken-over.service", "true", "true"),
    ("LinkUnitFiles", "asbb", "1", "/run/taken-over.service", "true", "true"),
    ("StartUnit", "ss", "debug-shell.service", "replace"),
    ("SetEnvironment", "as", "1", "LD_PRELOAD=/run/taken-over.so"),
], ids=lambda call: f"{call[0]} {call[2]}")
def test_the_supervisors_user_is_not_root(node, call):
    """What it may ask of systemd is no way to run a program of its own."""
    done = node.attempt("setpriv", "--reuid=sb-supervisor", "--regid=signalbox", "--init-groups", "--",
                        "busctl", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                        "org.freedesktop.systemd1.Manager", *call)
    assert done.returncode != 0
    assert any(word in done.stderr.lower() for word in ("denied", "authentication", "already loaded")), done.stderr


def test_the_supervisors_links_start_feature_services_and_nothing_else(node):
    """Whatever name it leaves, systemd is told of feature services only."""
    folder = "/etc/signalbox/features"
    strange = ["debug-shell.service", "systemd-networkd.service", "database.service", "rescue.target", "getty@tty9.service"]
    wants = lambda: set(node.run("systemctl", "show", "--property=Wants", "--value", "signalbox-feature.target").split())  # noqa: E731
    before = wants()
    assert f"{ROUTER}.service" not in before and {f"{name}.service" for name in PARTS} <= before
    supervisor = ("setpriv", "--reuid=sb-supervisor", "--regid=signalbox", "--init-groups", "--")
    for folder_of_systemd in ("/etc/systemd/system", "/etc/systemd/system/signalbox-feature.target.wants"):
        done = node.attempt(*supervisor, "ln", "-s", "/usr/lib/systemd/system/rescue.target", f"{folder_of_systemd}/rescue.target")
        assert done.returncode != 0, folder_of_systemd
    try:
        for name in strange:
            node.run(*supervisor, "ln", "-s", f"/usr/lib/systemd/system/{name}", f"{folder}/{name}")
        node.run("systemctl", "daemon-reload")
        assert wants() == before
    finally:
        node.run("rm", "-f", *[f"{folder}/{name}" for name in strange])
        node.run("systemctl", "daemon-reload")


def test_a_service_cannot_reach_what_is_not_its_own(node):
    """Another service's state and the certificates' keys."""
    for path in ("/var/lib/signalbox/database", "/etc/signalbox/certificates/xmpp/key.pem", "/etc/shadow"):
        done = node.attempt("setpriv", "--reuid=sb-web", "--regid=signalbox", "--init-groups", "--", "ls" if path.endswith("database") else "cat", path)
        assert done.returncode != 0, path
        assert "denied" in done.stderr.lower()


def test_auto_restart_can_be_switched_off(node):
    """A service so marked stays down when it dies, and says so."""
    name = "log-partition-monitor"
    node.cli("utils", "service", "auto-restart", "disable", name)
    try:
        assert "disable" in node.cli("utils", "service", "auto-restart", "show", name).lower()
        kill(node, name)
        eventually("it is down", lambda: node.state(name) in ("STOPPED", "NOTRUNNING"), 10)
        time.sleep(3)
        assert node.state(name) in ("STOPPED", "NOTRUNNING")
    finally:
        node.cli("utils", "service", "auto-restart", "enable", name)
        node.cli("utils", "service", "start", name)
    kill(node, name)
    eventually("it comes back", lambda: node.state(name) == "STARTED", 10)
