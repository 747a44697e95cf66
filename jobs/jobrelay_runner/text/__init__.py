"""Text of messages: counts, redaction of secrets, the time that is left."""
