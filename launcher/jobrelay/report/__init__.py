"""A run, or a sweep, as one HTML page to look at: no network, nothing beside it, small enough to send.

ending     at the end of a run: its page, or a line that says why not
command    what was asked for by name, or has just ended → its page in a file
run        the folder of a run → what its page shows
stages     what is known of one stage
sweep      the folder of a sweep → what its page shows
gallery    predictions → the pictures worth looking at
confusion  who was taken for whom
curves     series of numbers → lines, ticks and labels
bars       pairs of numbers → bars and labels
drawing    curves and bars → SVG, and PNG where matplotlib is installed
phases     a timeline → what each stretch of it was spent on
files      what the files of a run are expected to say, and their reading
page       all of this → HTML (templates/, with one style sheet and one script)

What a run has left comes from a volume that others write to: files are read with limits, one that
cannot be used is told on the page, and everything is text there, never markup.
"""
