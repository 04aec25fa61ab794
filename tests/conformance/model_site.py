"""A site for the model: the real engine, a disk that can be held and that can lose its power, a clock moved by hand.

Everything runs on one event loop that stands still between two calls, so a run is the same each time. What clients do is
started in order and watched: each act ends as promised, refused or, when a crash came first, open.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from gateway.durable import (
    ActivityContext,
    AlreadyExistsError,
    DurableError,
    Engine,
    EngineStoppedError,
    EntityId,
    EntityOperationError,
    GoneError,
    Registry,
)
from gateway.durable.activities import decode_pending
from gateway.durable.store import Batch
from gateway.durable.testing import MemoryStore, PowerLost, VirtualClock
from gateway.durable.testing.clock import DEFAULT_START
from journal import Journal
from tests.conformance.model_audit import TERMINAL, Audit, Facts
from tests.conformance.model_programs import Shaky, audit, run, tally

Json = Any
QUIET_ROUNDS = 6
MAX_ROUNDS = 20_000
MAX_CLOSING_ROUNDS = 400


class Disk:
    """A journal whose commits can be held, let through one by one, or cut off. shadow: what has been committed."""

    def __init__(
        self, shadow: MemoryStore, journal: Journal | None, committing: Callable[[Batch], None] | None = None
    ) -> None:
        self.shadow = shadow
        self._committing = committing
        self.journal = journal
        self.held = False
        self.in_flight: Batch | None = None
        self.begun = 0
        self._permits = 0
        self._dead = False
        self._changed = asyncio.Event()

    def hold(self, held: bool) -> None:
        """Let commits wait, or go on."""
        self.held = held
        self._permits = 0
        self._changed.set()

    def let_through(self) -> None:
        """One commit returns."""
        self._permits += 1
        self._changed.set()

    def die(self) -> None:
        """The power fails."""
        self._dead = True
        self._changed.set()

    async def commit(self, batch: Batch) -> None:
        """See Store."""
        self.begun += 1
        self.in_flight = batch
        if self._committing is not None:
            self._committing(batch)
        while self.held and not self._permits and not self._dead:
            self._changed.clear()
            await self._changed.wait()
        if self._dead:
            raise PowerLost("the power is off")
        self._permits = max(0, self._permits - 1)
        if self.journal is not None:
            await self.journal.commit(batch)
        await self.shadow.commit(batch)
        self.in_flight = None

    async def recover(self) -> Any:
        """See Store."""
        if self.journal is None:
            return await self.shadow.recover()
        found, expected = await self.journal.recover(), await self.shadow.recover()
        for part in ("instances", "messages", "timers", "activities"):
            ours, theirs = ([tuple(row) for row in getattr(side, part)] for side in (expected, found))
            assert sorted(ours) == sorted(theirs), part
        assert found.last_seq == expected.last_seq
        assert found.last_message_id >= expected.last_message_id
        return found

    async def history(self, instance: str, first_seq: int) -> Sequence[Any]:
        """See Store."""
        return await (self.journal or self.shadow).history(instance, first_seq)

    async def instance(self, instance: str) -> Any:
        """See Store."""
        return await (self.journal or self.shadow).instance(instance)

    async def instances(self, **which: Any) -> Sequence[Any]:
        """See Store."""
        return await (self.journal or self.shadow).instances(**which)


class ModelSite:
    """See above. path: where a real journal lies; without it, the journal is in memory. shadow, facts, now: what a process
    before this one left, what the world knew by then, and the time. committing: told of each batch when it is sealed.
    """

    def __init__(
        self,
        path: Path | None = None,
        max_live: int = 10_000,
        shadow: MemoryStore | None = None,
        facts: Facts | None = None,
        now: datetime = DEFAULT_START,
        committing: Callable[[Batch], None] | None = None,
    ) -> None:
        self.loop = asyncio.new_event_loop()
        self.clock = VirtualClock(now)
        self.facts = facts or Facts()
        self._committing = committing
        self.crashes = 0
        self.acts = 0
        self._musts = 0
        self._path = path
        self._max_live = max_live
        self._gate_open = True
        self._gates: list[asyncio.Future[None]] = []
        self._clients: list[tuple[asyncio.Future[Any], Callable[[str], None]]] = []
        self.registry = Registry()
        self._register()
        self.do(self._begin(shadow or MemoryStore()))

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run this, and all that follows from it, until nothing moves any more."""

        async def both() -> Any:
            result = await work
            await self.settle()
            return result

        return self.loop.run_until_complete(both())

    # Activities

    def _register(self) -> None:
        async def act(x: int, context: ActivityContext) -> int:
            self._note(context)
            return x * 2

        async def held(x: int, context: ActivityContext) -> int:
            self._note(context)
            if not self._gate_open:
                gate = self.loop.create_future()
                self._gates.append(gate)
                await gate
            return x * 2

        async def fail(times: int, context: ActivityContext) -> str:
            self._note(context)
            if context.attempt <= times:
                raise Shaky(context.attempt)
            return "well"

        self.registry.activity(act)
        self.registry.activity(held, "slow")
        self.registry.activity(held, "once", at_most_once=True)

        async def must(x: int, context: ActivityContext) -> int:
            self._note(context)
            self._musts += 1
            if self._musts % 2:
                raise Shaky(self._musts)
            return x * 2

        self.registry.activity(must)
        self.registry.activity(fail)
        self.registry.orchestrator(run)
        self.registry.entity(tally)
        self.registry.entity(audit)

    def _note(self, context: ActivityContext) -> None:
        """Nothing leaves the process before its cause is on disk."""
        causes = [decode_pending(row.payload) for row in self.disk.shadow.pending_activities.values()]
        key = (context.operation_id, context.attempt)
        if key not in [(cause.operation_id, cause.attempt) for cause in causes]:
            self.facts.ahead.append(key)
        self.facts.executed[*key, context.name] += 1

    def open_gate(self, is_open: bool) -> None:
        """Let held activities end, or hold those that come."""
        self._gate_open = is_open
        if is_open:
            for gate in self._gates:
                if not gate.done():
                    gate.set_result(None)
            self._gates.clear()

    # Life

    async def _begin(self, shadow: MemoryStore) -> None:
        journal = None if self._path is None else await Journal.open(self._path)
        self.disk = Disk(shadow, journal, self._committing)
        self.engine = Engine(self.disk, self.registry, self.clock, max_live=self._max_live)
        await self.engine.recover()
        self.engine.start()

    def crash(self, landed: bool) -> None:
        """The power fails, and comes back. landed: the commit under way had reached the disk."""
        self.crashes += 1
        self.loop.run_until_complete(self._crash(landed))

    async def _crash(self, landed: bool) -> None:
        await self._end()
        batch = self.disk.in_flight
        batches = list(self.disk.shadow.batches)
        if landed and batch is not None:
            batches.append(batch)
            if self.disk.journal is not None:
                await self.disk.journal.commit(batch)
        if self.disk.journal is not None:
            await self.disk.journal.close()
        await self._begin(MemoryStore.after(batches))
        await self.settle()

    async def _end(self) -> None:
        self.watch()
        self.engine._fail(PowerLost("the power is off"))
        self.disk.die()
        await self.engine.stop(0.0)
        while self._clients:
            await asyncio.sleep(0)
            self.watch()
        for gate in self._gates:
            gate.cancel()
        self._gates.clear()

    def close(self) -> None:
        """Leave nothing behind."""

        async def ending() -> None:
            await self._end()
            if self.disk.journal is not None:
                await self.disk.journal.close()

        self.loop.run_until_complete(ending())
        self.loop.close()

    async def settle(self) -> None:
        """Return when nothing moves any more but by the clock, a client, the gate or the disk."""
        engine = self.engine
        quiet, before = 0, None
        for _ in range(MAX_ROUNDS):
            self.watch()
            if engine.failure is not None and not isinstance(engine.failure, PowerLost):
                raise AssertionError("the engine stopped") from engine.failure
            counters = engine.counters
            now = (
                counters.turns,
                counters.messages,
                counters.batches,
                self.disk.begun,
                self.disk.shadow.commits_begun,
                len(engine.ledger.ready),
                engine.activities.running,
                len(self._clients),
                engine.idle,
            )
            quiet = quiet + 1 if now == before and (self.disk.held or engine.idle) else 0
            if quiet >= QUIET_ROUNDS and not engine._orchestrations.reading:
                return
            before = now
            await asyncio.sleep(0 if self._path is None else 0.0003)
        raise AssertionError(f"it never comes to rest: {now}")

    # Clients

    def ask(self, act: Awaitable[Any], note: Callable[[str], None]) -> None:
        """Start a client's act; note is told what becomes of it."""
        self.acts += 1
        self._clients.append((asyncio.ensure_future(act, loop=self.loop), note))

    def watch(self) -> None:
        """Note what has become of the acts of clients."""
        rest: list[tuple[asyncio.Future[Any], Callable[[str], None]]] = []
        for future, note in self._clients:
            if not future.done():
                rest.append((future, note))
                continue
            error = future.exception()
            if error is None or isinstance(error, EntityOperationError):
                note("promised")
            elif isinstance(error, EngineStoppedError):
                note("open")
            elif isinstance(error, AlreadyExistsError | GoneError):
                note("exists" if isinstance(error, AlreadyExistsError) else "gone")
            elif isinstance(error, DurableError):
                note("refused")
            else:
                raise error
        self._clients = rest

    async def start(self, instance: str, program: Json, nonce: str) -> None:
        """Start an instance."""

        def note(what: str) -> None:
            if what == "exists":
                known = instance in self.disk.shadow.rows
                assert known, f"{instance} was said to run, which is not on disk"
            elif what != "refused" and self.facts.starts.get(instance) != "promised":
                self.facts.starts[instance] = what

        given = {"steps": program, "log": [], "nonce": nonce, "n": 0}
        self.ask(self.engine.client.start_new("run", instance, given), note)

    async def send(self, instance: str, name: str, sender: str, number: int) -> None:
        """Raise an event."""

        def note(what: str) -> None:
            self.facts.events[instance, sender, number] = "refused" if what == "gone" else what
            assert what != "gone" or self._has_ended(instance), (
                f"{instance} was said to have ended, which is not on disk"
            )

        self.ask(self.engine.client.raise_event(instance, name, [sender, number]), note)

    def _has_ended(self, instance: str) -> bool:
        ends = (b'"ExecutionCompleted"', b'"ExecutionFailed"', b'"ExecutionTerminated"')
        records = (r.payload for r in self.disk.shadow.records if r.instance == instance)
        return any(end in payload for payload in records for end in ends)

    async def tell(self, key: str, token: str, n: int, way: str, seconds: int = 0) -> None:
        """Signal or call an entity."""

        def note(what: str) -> None:
            self.facts.tokens[token] = what

        entity, value = EntityId("tally", key), {"token": token, "n": n}
        client = self.engine.client
        match way:
            case "signal":
                self.ask(client.signal_entity(entity, "add", value), note)
            case "later":
                at = self.clock.now + timedelta(seconds=seconds)
                self.ask(client.signal_entity(entity, "add", value, at), note)
            case "call":
                self.ask(client.call_entity(entity, "add", value), note)
            case "ask":
                self.ask(client.call_entity(entity, "ask", {"token": token, "x": n}), note)
            case "post":
                client.post_to_entity(entity, "add", value)

    async def begin_by_entity(self, key: str, token: str, program: Json) -> None:
        """An entity starts an instance."""

        def note(what: str) -> None:
            self.facts.tokens[token] = what

        value = {"token": token, "steps": program}
        self.ask(self.engine.client.call_entity(EntityId("tally", key), "begin", value), note)

    async def control(self, instance: str, word: str) -> None:
        """Terminate, suspend or resume."""
        self.ask(getattr(self.engine.client, word)(instance, f"{word} it"), lambda what: None)

    async def rewind(self, instance: str) -> None:
        """Take a failed instance back."""
        reason = f"rewind {self.acts}"

        def note(what: str) -> None:
            self.facts.rewinds[instance, reason] = what

        self.ask(self.engine.client.rewind(instance, reason), note)

    async def purge(self, instance: str) -> None:
        """Remove what is left of an instance that has ended."""
        self.facts.purged.add(instance)
        self.ask(self.engine.client.purge_instance_history(instance), lambda what: None)

    def ended(self, status: str) -> list[str]:
        """Instances that have come to this end, as committed."""
        return sorted(row.instance for row in self.disk.shadow.rows.values() if row.status == status)

    async def advance(self, span: timedelta) -> None:
        """The clock goes on."""
        self.clock.go_on(span)
        self.engine.timers.look()

    # Looking

    def audit(self) -> Audit:
        """Hold the journal against the reference; what is on disk now, whatever the engine knows beyond."""
        look = Audit(self.disk.shadow, self.facts)
        look.check()
        if not self.disk.held:
            late = [row for row in self.disk.shadow.pending_timers.values() if row.due_us <= self.clock.now_us()]
            assert not late, f"timers that nobody fires: {late}"
        return look

    def check_status(self, instance: str) -> None:
        """A status that is seen is a committed one."""

        async def seen() -> str:
            try:
                return (await self.engine.client.get_status(instance)).runtime_status.value
            except DurableError:
                return "unknown"

        row = self.disk.shadow.rows.get(instance)
        assert self.loop.run_until_complete(seen()) == ("unknown" if row is None else row.status)

    def live(self) -> list[str]:
        """Instances that have not ended, as committed."""
        rows = self.disk.shadow.rows.values()
        return sorted(r.instance for r in rows if r.kind == "orchestration" and r.status not in TERMINAL)

    def output(self, instance: str) -> Json:
        """What an orchestration has come to, as committed."""
        return json.loads(self.disk.shadow.rows[instance].state).get("output")

    def state(self, entity: str) -> Json:
        """The state of an entity, as committed."""
        return json.loads(self.disk.shadow.rows[entity].state).get("state")

    async def verified(self) -> bool:
        """The real journal's own proof."""
        assert self.disk.journal is not None
        return (await self.disk.journal.verify()).ok

    def finish(self, raising: bool = True) -> Audit:
        """Give all that is waited for, until every instance has ended: none is forgotten. raising: events, too."""
        self.disk.hold(False)
        self.open_gate(True)
        self.do(asyncio.sleep(0))
        number, closer = 0, f"closer {len(self.disk.shadow.batches)}"
        for _ in range(MAX_CLOSING_ROUNDS):
            look = self.audit()
            live = self.live()
            following = self.engine.timers.next_due()
            if not live and following is None:
                assert not self.disk.shadow.messages, self.disk.shadow.messages
                assert not self.disk.shadow.pending_activities
                assert not self.disk.shadow.pending_timers
                return look
            moved = False
            for instance in live:
                reference = look.references[instance]
                if reference.suspended:
                    moved = True
                    self.do(self.control(instance, "resume"))
                for name in reference.wanted if raising else ():
                    moved = True
                    number += 1
                    self.do(self.send(instance, name, closer, number))
            if following is not None:
                moved = True
                self.do(self.advance(timedelta(microseconds=max(1, following[0] - self.clock.now_us()))))
            assert moved, f"forgotten: {live}"
        raise AssertionError(f"there is no end to {self.live()}")
