"""The field: drivers for real devices. Nothing in here is durable, and nothing in here knows the gateway."""
