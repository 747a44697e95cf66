"""A sweep: many runs of a pipeline that differ in a few keys, and one table of their results.

design         axes → trials. Pure
pipeline       what a sweep needs of the pipeline that it runs
built_in       the built-in programs: keys of their configuration, accuracy
programs       any other pipeline: its `params`, any metric
trial          one trial: a run of the pipeline
packing        how many trials share a Job
running        trials → rows, several at a time
log            sweep.log: events of the sweep and output of its trials
table          rows → sweep.csv, byte for byte reproducible
observations   rows → conclusions in words
plots          rows → plots
whole          the whole sweep in one folder; resumes after an interruption
command        the command `sweep`
"""
