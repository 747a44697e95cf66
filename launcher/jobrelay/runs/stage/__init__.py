"""The stage that runs: its Job followed, its log kept, the next stage started early, its report."""
