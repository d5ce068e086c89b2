"""Who asked for it is notified of an analysis' end: an outbox in Redis, and a webhook."""
