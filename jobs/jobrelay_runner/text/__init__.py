"""Words of messages: counts, secrets taken out, the time that is left."""
