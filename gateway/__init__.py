"""gridlatch: a SCADA-facing edge gateway that sheds load by durable procedures."""

__version__ = "0.1.0"
