"""The values of the gateway, the grid's stress, the procedure and the door, as operators see them.

Each function makes all values of one object; the feed tells what has changed. What must stay true: procedure, mode and
holds are as committed; load, links and clock are what they are at this moment; what is not known is a null that is Bad.
A crash here loses nothing: all is made anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from gateway import __version__
from gateway.clock import iso, to_us
from gateway.durable.codec import Json
from gateway.operations.desk import Desk
from gateway.operations.status import held, links, procedure, warnings
from gateway.operator.breaker_values import grade_of, sample
from gateway.shedding.entities import transformer_id
from gateway.shedding.measuring import read_load
from gateway.shedding.substation import Substation, Transformer
from protocols.opcua.surface import Doing, Grade, Sample, SessionInfo, Value

Values = dict[str, Sample]
"""Variable → value, of one object."""

TEXT_AT_MOST = 4_000
"""Characters of one text."""
USERS_SHOWN = 50
FAILED = (Doing.LOGIN_REFUSED, Doing.LOCKED_OUT)
REFUSED = (Doing.CALL_REFUSED, Doing.READ_REFUSED)


def gateway(desk: Desk, station: Substation) -> Values:
    """Health, mode, holds, clock, journal, links."""
    site, health = desk.field.site, desk.health
    seq, batch, head = health.head()
    hold, found, told = held(desk, station), links(desk), warnings(desk, station)
    in_time = health.synchronized()
    if in_time is False:
        told.append("the clock of this machine is not synchronised")
    held_why = str(hold["why"]) if hold["held"] else ""
    troubled = [f"{one['device']} {one['state']}: {one['detail']}" for one in _objects(found["troubled"])]
    mode = (station.mode or site.shedding.mode).value
    word, sentence = _health(mode, bool(hold["held"]), held_why, told, troubled, len(desk.field.feeders))
    return {
        "Health": sample(word),
        "HealthSentence": _text(sentence),
        "Mode": sample(mode),
        "Held": sample(bool(hold["held"])),
        "HeldWhy": _text(held_why),
        "ClockSynchronised": sample(in_time),
        "WallStep": sample(round(desk.clock.wall_step_s(), 1)),
        "JournalSeq": Sample(seq),
        "JournalBatch": Sample(batch),
        "JournalHead": Sample(head),
        **_sent_head(desk),
        "Site": sample(site.name),
        "Version": sample(__version__),
        "ConfigHash": sample(site.sha256),
        "Started": sample(health.started_us),
        "Warnings": _texts(told),
        "DevicesTotal": sample(_number(found["total"])),
        "DevicesUp": sample(_number(found["up"])),
        "DevicesTroubled": _texts(troubled),
    }


def _sent_head(desk: Desk) -> Values:
    """The head that was sent out last."""
    sent = None if desk.health.care is None else desk.health.care.heads.sent
    if sent is None:
        return {name: sample(None) for name in ("HeadBatch", "HeadHash", "HeadSignature")}
    return {"HeadBatch": Sample(sent.batch), "HeadHash": Sample(sent.hash_hex), "HeadSignature": _text(sent.line)}


def _health(mode: str, is_held: bool, why: str, told: list[str], troubled: list[str], feeders: int) -> tuple[str, str]:
    if is_held:
        return "held", f"no command leaves: {why}"
    if told or troubled:
        first = (told or troubled)[0]
        more = len(told) + len(troubled) - 1
        return "attention", f"{first} (and {more} more)" if more else first
    return "ok", f"{mode}, {feeders} feeders, nothing to see to"


def stress(desk: Desk, committed: Transformer) -> Values:
    """The loading now, and the stress that is committed."""
    field = desk.field
    load = read_load(field)
    grade = Grade.GOOD if load.good else Grade.BAD
    ambient, ambient_grade = None, Grade.BAD
    if field.site.transformer.ambient is not None:
        reading = field.driver.measurement(field.site.transformer.ambient)
        ambient, ambient_grade = reading.value, grade_of(reading.quality.value)
    return {
        "Transformer": sample(field.site.transformer.name),
        "LoadKw": Sample(round(load.kw, 1) if load.good else None, grade),
        "CapacityKw": sample(load.capacity_kw),
        "Percent": Sample(round(load.percent, 2) if load.good else None, grade),
        "Quality": sample(grade.value),
        "Zone": sample(desk.watch.load.state.zone.value),
        "Armed": sample(committed.armed),
        "Since": sample(committed.since_us or None),
        "HotSpot": sample(None),
        "Ambient": sample(None if ambient is None else round(ambient, 1), ambient_grade),
    }


def committed_transformer(desk: Desk) -> Transformer:
    """The committed state of the transformer."""
    raw = desk.engine.client.read_entity_raw(transformer_id(desk.field.site))
    return Transformer() if raw is None else msgspec.json.decode(raw, type=Transformer)


def shedding(desk: Desk, station: Substation) -> Values:
    """The procedure, what is shed, and how the breakers stand."""
    running, told = station.running, procedure(desk, station)
    known = told if isinstance(told, dict) else {}
    shed_kw = desk.watch.picture.shed_kw
    target, shortfall = known.get("target_kw"), known.get("shortfall_kw")
    counts = desk.watch.picture.counts
    return {
        "Running": sample(running is not None),
        "Instance": sample("" if running is None else running.instance),
        "Status": _word(known, "status"),
        "Since": sample(None if running is None else running.since_us),
        "Cause": _text("" if running is None else running.reason),
        "Phase": _word(known, "phase"),
        "Tier": _word(known, "tier"),
        "WaitsFor": _word(known, "waits_for"),
        "Until": sample(_moment(known.get("until"))),
        "Sentence": _word(known, "sentence"),
        "ShedKw": sample(round(shed_kw, 1)),
        "ShedMW": sample(round(shed_kw / 1000, 4)),
        "TargetMW": _megawatt(target),
        "ShortfallMW": _megawatt(shortfall),
        "FeedersShed": sample(_number(known.get("feeders_shed", 0))),
        "Overrides": Sample(tuple(_json(one) for one in station.consumed)),
        "LastNote": _text(station.last_note),
        "LastEnded": sample(station.last_ended),
        "LastResult": _text("" if station.last_result is None else _json(station.last_result)),
        "Tiers": Sample(tuple(tier.name for tier in sorted(desk.field.site.tiers, key=lambda tier: tier.rank))),
        **{f"Breakers{key.capitalize()}": sample(number) for key, number in counts.items()},
    }


def security(sessions: Sequence[SessionInfo], expires_us: int, counts: Mapping[Doing, int]) -> Values:
    """Who is there, who was turned away, and when the server's certificate expires."""
    return {
        "Sessions": sample(len(sessions)),
        "Users": _texts([_session(one) for one in sessions[:USERS_SHOWN]]),
        "FailedLogins": sample(sum(counts.get(doing, 0) for doing in FAILED)),
        "RefusedCertificates": sample(counts.get(Doing.CERTIFICATE_REFUSED, 0)),
        "RefusedCalls": sample(sum(counts.get(doing, 0) for doing in REFUSED)),
        "Attacks": sample(counts.get(Doing.ATTACK, 0)),
        "CertificateExpires": sample(expires_us or None),
    }


def _session(one: SessionInfo) -> str:
    caller = one.caller
    roles = ", ".join(sorted(caller.roles)) or "no role"
    return f"{caller.user or 'anonymous'} ({roles}) from {caller.address} since {iso(one.since_us)}"


def _text(words: str) -> Sample:
    return Sample(words[:TEXT_AT_MOST])


def _texts(words: list[str]) -> Sample:
    return Sample(tuple(one[:TEXT_AT_MOST] for one in words))


def _word(known: dict[str, Json], key: str) -> Sample:
    """A text of a custom status; a program of the site's own may not have it."""
    value = known.get(key)
    return _text(value) if isinstance(value, str) else sample("")


def _number(value: Value | Json) -> int:
    return value if isinstance(value, int) else 0


def _megawatt(kw: Json) -> Sample:
    return sample(round(kw / 1000, 4) if isinstance(kw, int | float) else None)


def _moment(text: Json) -> int | None:
    """Engine time of an RFC 3339 text; None for anything else."""
    try:
        return to_us(datetime.fromisoformat(text)) if isinstance(text, str) else None
    except ValueError:
        return None


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()[:TEXT_AT_MOST]


def _objects(value: Json) -> list[dict[str, Json]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
