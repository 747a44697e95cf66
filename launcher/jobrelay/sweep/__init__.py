"""A sweep: many runs of train and eval that differ in a few keys, and one table of what came of them.

design         axes → trials. Pure
trial          one trial: a run of train and eval
running        trials → rows, some at a time
log            sweep.log: what happens, and what the trials say
table          the trials' own files → sweep.csv, byte for byte the same every time
observations   rows → what can be said of them
plots          rows → pictures
whole          all of it, in one folder; goes on where it was
command        what was typed → all of it
"""
