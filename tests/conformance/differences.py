"""Where this engine differs from azure-functions-durable 1.7.0 on purpose: the one list.

Some show in generated programs; the comparison then has to recognise exactly that difference (``seen``), and compares on
as far as both sides can have the same history. The others never show there: the programs do not use what v1 lacks, or the
form of the history makes them equal. Each has a test of its own, where both engines differ in just the stated way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.conformance.v1_history import (
    EARLY_TASKS,
    FAIL_FAST,
    KEPT_EVENTS,
    NEWEST_WAIT,
    Cut,
    ExecutionExport,
    Fork,
)


@dataclass(frozen=True, slots=True)
class Difference:
    """See above. why: by which rule ours is right. test: the test that shows it. seen: does it show at this cut?"""

    name: str
    ours: str
    v1: str
    why: str
    test: str
    seen: Callable[[ExecutionExport, Cut], bool] | None = None


def _ends_with(fork: Fork) -> Callable[[ExecutionExport, Cut], bool]:
    """The comparison ends there: after this cut, or (when the SDK can't be told enough) with it."""
    return lambda export, cut: cut.fork is fork or (export.untold is fork and cut is export.cuts[-1])


DIFFERENCES = (
    Difference(
        "scheduled when made",
        "a task is scheduled when it is created",
        "when it is first waited for; never, if nothing waits for it",
        "as DTFx (.NET) and durabletask: what was asked for is done, and work that goes on side by side begins at once",
        "test_a_task_is_scheduled_when_it_is_made",
        lambda export, cut: cut.early > 0 or _ends_with(EARLY_TASKS)(export, cut),
    ),
    Difference(
        "task_all waits for all",
        "task_all ends when all parts have ended, then raises the first failure",
        "it fails at the first failure; a part that ends after that can break the orchestration from inside the SDK",
        "as DTFx and durabletask ≥ 1.8: nothing runs on unseen while the orchestrator already cleans up",
        "test_task_all_waits_for_all",
        _ends_with(FAIL_FAST),
    ),
    Difference(
        "the oldest wait takes the event",
        "several waits for one name are served in the order in which they were made",
        "the newest wait first",
        "first come, first served, as durabletask",
        "test_the_oldest_wait_takes_the_event",
        _ends_with(NEWEST_WAIT),
    ),
    Difference(
        "events are kept",
        "events that come before anybody waits are kept in order, one for each wait",
        "the SDK keeps the last one of a name, and gives it to every later wait (its host hides most of that)",
        "no event is lost, none handled twice",
        "test_events_are_kept_for_those_who_wait_later",
        _ends_with(KEPT_EVENTS),
    ),
    Difference(
        "task_all of nothing",
        "its result is an empty list",
        "None",
        "a list for a list, as DTFx",
        "test_task_all_of_nothing_is_an_empty_list",
    ),
    Difference(
        "task_any of nothing",
        "raises ValueError",
        "completes at once with None",
        "there is no winner, and the next line would use one",
        "test_task_any_of_nothing_is_an_error",
    ),
    Difference(
        "what has ended already",
        "of parts that have ended when task_any is made, the first in the list wins",
        "a task_all of nothing wins over an event that came before",
        "as WhenAny of .NET and durabletask",
        "test_of_what_has_ended_already_the_first_in_the_list_wins",
    ),
    Difference(
        "names of events",
        "don't mind case",
        "do mind case in the SDK",
        "as DTFx: the host compares them without case",
        "test_names_of_events_do_not_mind_case",
    ),
    Difference(
        "waits with a time-out",
        "wait_for_external_event(name, timeout=…, default=…)",
        "no such parameters",
        "as .NET; a race with a timer leaves a wait behind that eats a later event",
        "test_a_wait_may_have_a_timeout",
    ),
    Difference(
        "timers of any length",
        "one timer",
        "one of more than six days becomes a chain of timers of three days",
        "the journal has no upper limit for a due time",
        "test_a_long_timer_is_one_timer",
    ),
    Difference(
        "timers after a span",
        "create_timer takes a timedelta, too",
        "a datetime only",
        "shorter, and a span of engine time is what is meant",
        "test_a_timer_may_be_set_for_a_span",
    ),
    Difference(
        "attempts of a retry",
        "each attempt and the wait before it is an action of its own in the journal",
        "one action with a policy; the host repeats it",
        "the journal shows every command that went out",
        "test_each_attempt_of_a_retry_is_an_action",
    ),
    Difference(
        "the last failure of a retry",
        "is raised when the last attempt fails",
        "after one more timer",
        "nobody gains by waiting once more",
        "test_the_last_failure_of_a_retry_is_raised_at_once",
    ),
    Difference(
        "retry options",
        "backoff_coefficient, max_retry_interval_in_milliseconds, retry_timeout_in_milliseconds",
        "a first interval and a number of attempts",
        "as .NET",
        "test_retries_may_back_off",
    ),
    Difference(
        "ids of sub-orchestrations",
        "{parent}:{task id}, known when the call is made",
        "given by the host",
        "whoever looks at a parent finds its children",
        "test_a_sub_orchestration_has_an_id_made_from_its_parents",
    ),
    Difference(
        "empty custom status",
        'a custom status of 0, "" or [] is kept',
        "is dropped",
        "what was set is what is shown",
        "test_an_empty_custom_status_is_a_status",
    ),
    Difference(
        "errors of tasks",
        "TaskFailedError with typed details",
        "Exception, with the details in its text",
        "an orchestrator can tell a time-out from a refusal",
        "test_the_error_of_a_task_has_details",
    ),
    Difference(
        "what runs after continue_as_new",
        "the execution ends at the next yield or return",
        "the code runs on through tasks that are complete already, and may still fail",
        "what comes after it is ignored, always",
        "test_continue_as_new_ends_the_execution_at_the_next_yield",
    ),
    Difference(
        "another history",
        "NondeterminismError, which names the step and the line",
        "goes on, with a warning at most",
        "a changed program must not command breakers by somebody else's results",
        "test_another_history_is_an_error",
    ),
    Difference(
        "foreign objects",
        "an orchestrator that yields something that is no task fails with TypeError and the line",
        "an AttributeError of the SDK's own",
        "the author's mistake is named as such",
        "test_a_yield_of_something_else_is_an_error_that_names_it",
    ),
    Difference(
        "UUIDs",
        "other values",
        "other values",
        "the same at every replay is all that is promised",
        "test_uuids_are_the_same_at_every_replay_not_on_both_engines",
    ),
)
