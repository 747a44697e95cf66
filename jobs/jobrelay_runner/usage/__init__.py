"""What a stage uses: CPU, memory, time."""
