"""One running stage: follow its Job, keep its log, start the next stage early, report."""
