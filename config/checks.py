"""Cross-checks: what can only be seen by looking at several tables and files together.

Each check is a function of the draft; it notes problems (nothing starts) or warnings (somebody should look). A check
that needs a file or a table that could not be read stays silent: one mistake gives one problem and not thousands.
"""

from __future__ import annotations

from collections.abc import Iterable

from config.device_models import Address, BreakerPoints, Device
from config.draft import Draft
from config.models import Feeder
from config.node_checks import no_node_twice, nodes_have_namespaces, selections_are_whole
from config.problems import unknown

# Rated power is the sum of contracts, load is what is drawn at one time: diversity makes the first the larger one.
RATED_TO_CAPACITY_LOW, RATED_TO_CAPACITY_HIGH = 0.3, 5.0
LATE_MOVE_POLLS = 3
"""A late movement is seen at the next slow poll; one poll may be lost, and the movement takes its time."""


def check(draft: Draft) -> None:
    """Run every check."""
    _limits_are_ordered(draft)
    _tiers(draft)
    _measurements_exist(draft)
    _devices(draft)
    _late_moves_are_seen(draft)
    _feeders_belong(draft)
    _no_address_twice(draft)
    no_node_twice(draft)
    nodes_have_namespaces(draft)
    selections_are_whole(draft)
    _power_is_plausible(draft)


def _limits_are_ordered(draft: Draft) -> None:
    """Each limit must lie on the right side of the others, else the procedure would shed and restore in a circle."""
    document, trigger, shedding, restoration = draft.document, draft.trigger, draft.shedding, draft.restoration

    def must_be_below(table: str, key: str, value: float, other: str, limit: float) -> None:
        if value >= limit:
            what = f"[{table}] {key} = {value:g} is not below {other} = {limit:g}"
            draft.problems.add(document.file, document.line(table, key), what, f"{key} = a value below {limit:g}")

    if trigger:
        must_be_below("trigger", "clear_pct", trigger.clear_pct, "arm_pct", trigger.arm_pct)
    if trigger and shedding:
        must_be_below("shedding", "target_pct", shedding.target_pct, "trigger.arm_pct", trigger.arm_pct)
    if restoration:
        other, ceiling = "abort_pct", restoration.abort_pct
        if trigger and trigger.arm_pct < ceiling:
            other, ceiling = "trigger.arm_pct", trigger.arm_pct
        must_be_below("restoration", "limit_pct", restoration.limit_pct, other, ceiling)
        must_be_below("restoration", "stage_pct", restoration.stage_pct, "limit_pct", restoration.limit_pct)


def _tiers(draft: Draft) -> None:
    ranks: dict[int, str] = {}
    used = {feeder.tier for feeder in draft.feeders}
    for tier in draft.tiers:
        line, rank_line = draft.tier_lines[tier.name]
        if tier.rank in ranks:
            what = f"tier {tier.name!r} has rank {tier.rank}, as has tier {ranks[tier.rank]!r}"
            free = next(rank for rank in range(1, 1002) if rank not in {t.rank for t in draft.tiers})
            draft.problems.add(draft.document.file, rank_line, what, f"rank = {free}, or another one that is free")
        ranks.setdefault(tier.rank, tier.name)
        if tier.name not in used and draft.feeder_rows.readable:
            draft.problems.warn(draft.document.file, line, f"tier {tier.name!r} has no feeders: nothing to shed in it")


def _measurements_exist(draft: Draft) -> None:
    if draft.transformer is None or not draft.measurement_rows.readable:
        return
    names = draft.measurement_rows.names
    for key, name in (("load", draft.transformer.load), ("ambient", draft.transformer.ambient)):
        if name is not None and name not in names:
            line = draft.document.line("transformer", key)
            what = f"[transformer] {key}: there is no measurement {name!r} in {draft.measurements_file}"
            draft.problems.add(draft.document.file, line, what, unknown(name, names))


def _devices(draft: Draft) -> None:
    file, problems = draft.devices_file, draft.problems
    places: dict[tuple[str, int, int | str], Device] = {}
    served = {feeder.device for feeder in draft.feeders} | {m.device for m in draft.measurements}
    all_known = draft.feeder_rows.readable and draft.measurement_rows.readable
    for device in draft.devices:
        if device.opcua is None and device.unit == 0:
            what = f"device {device.name!r} has unit 0, which is broadcast: nothing answers, every device obeys"
            problems.add(file, device.line, what, "the unit of this device, 1 to 255")
        place = (device.host.lower(), device.port, device.unit if device.opcua is None else device.opcua.path)
        if place in places:
            other = places[place]
            where = f"{device.host}:{device.port}" + (f":{device.unit}" if device.opcua is None else device.opcua.path)
            what = f"device {device.name!r} is at {where}, as is {other.name!r} in line {other.line}"
            kind = "unit" if device.opcua is None else "path"
            problems.add(file, device.line, what, f"another host, port or {kind}, or put the points on one device")
        places.setdefault(place, device)
        if device.backoff_min_s > device.backoff_max_s:
            what = f"device {device.name!r}: backoff_min_s {device.backoff_min_s:g} is above backoff_max_s"
            problems.add(file, device.line, what, f"backoff_min_s of at most {device.backoff_max_s:g}")
        if device.stale_after_s <= device.poll_fast_s:
            sentence = (
                f"device {device.name!r}: values go stale after {device.stale_after_s:g} s and are read "
                f"each {device.poll_fast_s:g} s, so they will often be stale"
            )
            problems.warn(file, device.line, sentence)
        if all_known and device.name not in served:
            problems.warn(file, device.line, f"device {device.name!r} has neither feeders nor measurements")


def _late_moves_are_seen(draft: Draft) -> None:
    """A breaker that obeys late is known by the next slow poll alone."""
    if not draft.shedding or not draft.devices:
        return
    slowest, late_s = max(draft.devices, key=lambda device: device.poll_slow_s), draft.shedding.late_move_s
    needed_s = LATE_MOVE_POLLS * slowest.poll_slow_s
    if late_s < needed_s:
        sentence = (
            f"[shedding] late_move_s = {late_s:g} is short for device {slowest.name!r}, which is read each "
            f"{slowest.poll_slow_s:g} s: a breaker that obeys late would count as opened by somebody else, and stay "
            f"open; late_move_s = {needed_s:g} or more is safe"
        )
        draft.problems.warn(draft.document.file, draft.document.line("shedding", "late_move_s"), sentence)


def _feeders_belong(draft: Draft) -> None:
    problems, file = draft.problems, draft.feeders_file
    for name, device, line in _device_references(draft):
        if draft.device_rows.readable and device not in draft.device_rows.names:
            what = f"{name!r} is on device {device!r}, which {draft.devices_file} doesn't have"
            in_file = file if name in draft.feeder_rows.names else draft.measurements_file
            problems.add(in_file, line, what, unknown(device, draft.device_rows.names))
    for feeder in draft.feeders:
        if feeder.tier is None:
            continue
        if draft.tiers_readable and feeder.tier not in draft.tier_lines:
            what = f"feeder {feeder.name!r} is in tier {feeder.tier!r}, which {draft.document.file} doesn't have"
            problems.add(file, feeder.line, what, unknown(feeder.tier, draft.tier_lines))
        if feeder.critical:
            what = f"feeder {feeder.name!r} is critical and in tier {feeder.tier!r}: a critical feeder is never shed"
            problems.add(file, feeder.line, what, "an empty tier, or critical = no")
        if feeder.ufls_stage is not None:
            sentence = (
                f"feeder {feeder.name!r} is in tier {feeder.tier!r} and armed in under-frequency stage "
                f"{feeder.ufls_stage}: once shed, it is missing from that stage"
            )
            problems.warn(file, feeder.line, sentence)


def _device_references(draft: Draft) -> Iterable[tuple[str, str, int]]:
    for feeder in draft.feeders:
        yield feeder.name, feeder.device, feeder.line
    for measurement in draft.measurements:
        yield measurement.name, measurement.device, draft.measurement_rows.names[measurement.name]


def _no_address_twice(draft: Draft) -> None:
    """No two breakers may share a command or a position, nor may one breaker's points be the same point."""
    used: dict[tuple[str, str, str, int], list[tuple[int | None, Feeder, str]]] = {}
    for feeder in draft.feeders:
        points = feeder.points
        if not isinstance(points, BreakerPoints):
            continue
        for role, column, address in (
            ("position", "pos_closed", points.pos_closed),
            ("position", "pos_open", points.pos_open),
            ("command", "open_cmd", points.open_cmd),
            ("command", "close_cmd", points.close_cmd),
        ):
            at_number = used.setdefault((feeder.device, role, address.table, address.number), [])
            for bit, other, other_column in at_number:
                # A whole register and a bit of it are the same point too.
                if bit == address.bit or bit is None or address.bit is None:
                    _say_twice(draft, feeder, column, address, other, other_column)
                    break
            # One entry for each bit, one for the whole register: the list stays short however many rows collide.
            if all(bit != address.bit for bit, _, _ in at_number):
                at_number.append((address.bit, feeder, column))


def _say_twice(draft: Draft, feeder: Feeder, column: str, address: Address, other: Feeder, other_column: str) -> None:
    point = f"{address.table}:{address.number}" + (f".{address.bit}" if address.bit is not None else "")
    if other is feeder:
        what = f"feeder {feeder.name!r} uses {point} of {feeder.device!r} as {other_column} and as {column}"
    else:
        what = (
            f"{column} of {feeder.name!r} is {point} of {feeder.device!r}, "
            f"which is {other_column} of {other.name!r} in line {other.line}"
        )
    draft.problems.add(draft.feeders_file, feeder.line, what, f"the address of {column} of this breaker alone")


def _power_is_plausible(draft: Draft) -> None:
    if draft.transformer is None or not draft.feeder_rows.readable or draft.problems.found:
        return
    rated, capacity = sum(feeder.rated_kw for feeder in draft.feeders), draft.transformer.capacity_kw
    if not RATED_TO_CAPACITY_LOW * capacity <= rated <= RATED_TO_CAPACITY_HIGH * capacity:
        sentence = (
            f"rated_kw of all feeders is {rated:,.0f} kW together, the transformer's capacity_kw {capacity:,.0f}: "
            "is one of them in another unit?"
        )
        draft.problems.warn(draft.document.file, draft.document.line("transformer", "capacity_kw"), sentence)
