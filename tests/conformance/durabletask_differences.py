"""Where this engine differs from durabletask 1.12.0 (its worker, or its in-memory backend) on purpose: the one list.

Generated programs do not go there, or they would differ; each difference has a test of its own.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Difference:
    """See above. whose: what of durabletask differs. why: by which rule ours is right. test: the test that shows it."""

    name: str
    ours: str
    theirs: str
    whose: str
    why: str
    test: str


DIFFERENCES = (
    Difference(
        "all of nothing",
        "task_all([]) gives an empty list at once",
        "when_all([]) never completes",
        "worker",
        "all of nothing has happened already",
        "test_all_of_nothing",
    ),
    Difference(
        "any of nothing",
        "task_any([]) raises ValueError",
        "when_any([]) never completes",
        "worker",
        "an orchestration that can never go on is a mistake that is to be told at once",
        "test_any_of_nothing",
    ),
    Difference(
        "failures without a message",
        "an activity that raises has failed",
        "it has succeeded with None if its exception has no message",
        "backend",
        "a command that failed must not count as done",
        "test_a_failure_without_a_message_is_a_failure",
    ),
    Difference(
        "custom status after continue_as_new",
        "is kept until the next one is set",
        "is gone",
        "backend",
        "as DTFx: it speaks of the instance, not of one execution",
        "test_the_custom_status_outlives_continue_as_new",
    ),
    Difference(
        "events after continue_as_new",
        "are kept unless the author says otherwise",
        "are dropped unless the author says otherwise",
        "worker",
        "as v1 and .NET; no event is lost",
        "test_events_outlive_continue_as_new_by_default",
    ),
    Difference(
        "carried events of several names",
        "a race of waits takes the event of the first wait that has one",
        "it takes the one that was raised first",
        "worker",
        "carried events are as if nobody had asked for them yet, and so is every other event that came early",
        "test_a_race_of_waits_for_carried_events",
    ),
    Difference(
        "events that come with the one that leads to continue_as_new",
        "belong to the next execution, whether it keeps events or not",
        "are dropped with the others if it keeps none",
        "worker",
        "only what has been heard can be dropped; no event is lost by a turn that happens to take many",
        "test_events_behind_the_one_that_leads_to_continue_as_new",
    ),
    Difference(
        "what comes after continue_as_new",
        "is ignored",
        "is done",
        "worker",
        "one rule for all: the execution has ended",
        "test_what_comes_after_continue_as_new",
    ),
    Difference(
        "operations of others on a locked entity",
        "wait until it is unlocked",
        "run",
        "backend",
        "as DTFx: that is what a lock is for",
        "test_a_locked_entity_lets_others_wait",
    ),
    Difference(
        "sub-orchestrations in a critical section",
        "are refused",
        "run",
        "worker",
        "as DTFx: they might want the same locks",
        "test_a_critical_section_has_no_sub_orchestrations",
    ),
    Difference(
        "termination while waiting for a lock",
        "takes the request back",
        "the lock is granted to the dead, and nobody gets it any more",
        "backend",
        "whoever ends, however, gives up its locks",
        "test_who_is_terminated_while_waiting_for_a_lock",
    ),
    Difference(
        "recursive termination",
        "ends sub-orchestrations, too",
        "is not supported",
        "backend",
        "as DTFx",
        "test_termination_reaches_sub_orchestrations",
    ),
    Difference(
        "reason of a termination",
        "is the message of the failure; there is no output",
        "is the output",
        "worker",
        "an output is what an orchestrator has returned",
        "test_the_reason_of_a_termination",
    ),
    Difference(
        "kind of a failed sub-orchestration",
        "is that of its failure",
        "is always Exception",
        "backend",
        "as DTFx: a parent can tell one failure from another",
        "test_the_kind_of_a_failed_sub_orchestration",
    ),
    Difference(
        "id of a retried sub-orchestration",
        "is a new one for each attempt",
        "is the same, and what the first attempt left is gone",
        "backend",
        "the journal shows every attempt",
        "test_each_attempt_of_a_sub_orchestration_has_an_id",
    ),
    Difference(
        "parent of a sub-orchestration",
        "is known to it",
        "is not known to it",
        "backend",
        "as DTFx",
        "test_a_sub_orchestration_knows_its_parent",
    ),
    Difference(
        "decisions in the turn of a suspension",
        "are carried out once",
        "are carried out again each time something arrives while it is suspended",
        "worker",
        "a breaker must not be commanded twice",
        "test_what_is_decided_when_the_suspension_comes_is_done_once",
    ),
    Difference(
        "events for one that has finished",
        "are refused",
        "are dropped",
        "backend",
        "never dropped in silence",
        "test_an_event_for_one_that_has_finished",
    ),
    Difference(
        "ids that were used",
        "can be used again once their instance has finished",
        "can't, unless a policy is given with the start",
        "backend",
        "as v1 and its host",
        "test_an_id_can_be_used_again",
    ),
    Difference(
        "unknown orchestrators",
        "can't be started",
        "are started, and fail",
        "backend",
        "who mistypes is told so at once",
        "test_an_unknown_orchestrator_is_not_started",
    ),
    Difference(
        "waits with a time-out",
        "wait_for_external_event(name, timeout=…, default=…)",
        "no such parameters; a race with a timer, whose loser is to be cancelled by hand",
        "worker",
        "as .NET",
        "test_a_wait_may_have_a_timeout",
    ),
    Difference(
        "retries without a wait",
        "the first interval must be above 0",
        "may be 0",
        "worker",
        "a loop of failures must not keep the machine busy",
        "test_a_retry_waits",
    ),
)
