"""Networks, their weights, and what they predict."""
