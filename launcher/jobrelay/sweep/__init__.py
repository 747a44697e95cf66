"""A sweep: many runs of train and eval that differ in a few keys, and one table of their results.

design         axes → trials. Pure
trial          one trial: a run of train and eval
running        trials → rows, several at a time
log            sweep.log: events of the sweep and output of its trials
table          the trials' files → sweep.csv, byte for byte reproducible
observations   rows → conclusions in words
plots          rows → plots
whole          the whole sweep in one folder; resumes after an interruption
command        the command `sweep`
"""
