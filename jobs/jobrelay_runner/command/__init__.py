"""Any command as a stage: its folder, its files, and what the runner can tell about it from outside."""
