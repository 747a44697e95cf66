"""Functions of the user's own: where their code is, how they are found and called."""
