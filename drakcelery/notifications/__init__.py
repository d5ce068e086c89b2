"""Notifies those who want it of the end of an analysis: an outbox in Redis, and a webhook."""
