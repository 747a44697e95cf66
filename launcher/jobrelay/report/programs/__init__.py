"""What the page shows of the stages of any program, from the files that they wrote in the workspace.

part        all of it, in one place
written     which files there are, and of which stage
facts       how each stage was started, and what it left
tables      .jsonl and .csv → columns of numbers over steps
charts      columns → groups that share a scale
lines       one group → a chart with a line per column
images      the pictures that stages wrote
documents   the JSON that stages wrote

Nothing is declared: the record of a stage lists the files. All of it is read with limits, and shown as text
or as a picture, never as markup or script.
"""
