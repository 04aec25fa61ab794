"""A procedure of the clock tests' site."""

from datetime import timedelta


def Nap(context):
    """Wait for a durable timer of so many seconds."""
    due = context.current_utc_datetime + timedelta(seconds=context.get_input())
    yield context.create_timer(due)
    return context.get_input()


def Shed(context):
    """One command to open; the outcome of each feeder."""
    return (yield context.call_activity("SendDisconnectCommand", context.get_input()))
