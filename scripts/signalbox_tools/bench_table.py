"""The figures as tables to read."""

from __future__ import annotations


def _row(*cells) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |\n"


def _best(server: dict) -> dict | None:
    held = [one for one in server["messages"] if one["held"]]
    return held[-1] if held else None


def _ratio(value: float, ours: float, *, less_is_better: bool) -> str:
    """How many times better we are than a peer."""
    if not value or not ours:
        return "-"
    return f"{(value / ours) if less_is_better else (ours / value):.1f}×"


def seconds(value: float | None) -> str:
    """Seconds to two places; a dash where there are none, as when nobody came back."""
    return "-" if value is None else f"{value:.2f}"


def im(result: dict) -> str:
    """Servers as columns; behind each peer's figure, how many times better ours is."""
    servers = result["servers"]
    ours = servers[0]

    def line(title: str, get, digits: int, *, less_is_better: bool) -> str:
        cells = [title]
        for server in servers:
            value = get(server)
            text = "-" if value is None else f"{value:,.{digits}f}"
            if server is not ours and value is not None and get(ours) is not None:
                text += f" ({_ratio(value, get(ours), less_is_better=less_is_better)})"
            cells.append(text)
        return _row(*cells)

    def at(server: dict, rate: int, key: str):
        return next((one[key] for one in server["messages"] if one["rate"] == rate and one["received"]), None)

    text = _row(f"{result['users']} users, {result['machine']}, {result['date']}", *(f"{s['name']} {s['version']}" for s in servers))
    text += _row(*["---"] * (len(servers) + 1))
    text += line("memory before anybody signs in, MiB", lambda s: s["idle"]["mib_before"], 0, less_is_better=True)
    text += line("KiB per idle TLS session", lambda s: s["idle"]["kib_per_session"], 1, less_is_better=True)
    for index, one in enumerate(ours["login"]):
        name = one["mechanism"].upper()
        text += line(f"logins per second, TLS + {name}", lambda s, i=index: s["login"][i]["per_second"], 0, less_is_better=False)
        text += line(f"CPU per login, TLS + {name}, ms", lambda s, i=index: s["login"][i]["cpu_ms"], 2, less_is_better=True)
    text += line("most messages per second held, p99 ≤ 50 ms", lambda s: (_best(s) or {}).get("rate"), 0, less_is_better=False)
    text += line("µs of CPU per message there", lambda s: (_best(s) or {}).get("cpu_us"), 0, less_is_better=True)
    for one in ours["messages"]:
        rate = one["rate"]
        text += line(f"p50 at {rate} per second, ms", lambda s, r=rate: at(s, r, "p50_ms"), 1, less_is_better=True)
        text += line(f"p99 at {rate} per second, ms", lambda s, r=rate: at(s, r, "p99_ms"), 1, less_is_better=True)
        text += line(f"µs of CPU per message at {rate} per second", lambda s, r=rate: at(s, r, "cpu_us"), 0, less_is_better=True)
    return text


def boot(result: dict) -> str:
    """One figure a line."""
    text = _row(f"{result['machine']}, {result['date']}", "")
    text += _row("---", "---")
    for title, value in result["figures"]:
        text += _row(title, value)
    return text


def failover(result: dict) -> str:
    """One fault a line."""
    text = _row(
        f"{result['machine']}, {result['date']}", "clients", "gap p50, s", "gap p99, s", "longest, s", "until decided, s", "until served, s",
        "sent", "returned", "missing", "duplicated",
    )
    text += _row(*["---"] * 11)
    for one in result["rows"]:
        text += _row(
            one["what"], f"{one['users']:,} {one['clients']}", seconds(one["p50_s"]), seconds(one["p99_s"]), seconds(one["max_s"]), seconds(one.get("detection_s")),
            seconds(one.get("takeover_s")), f"{one['sent']:,}", one["returned"], one["missing"], one["duplicated"],
        )
    return text
