"""One HTML page for a run or a sweep: self-contained, without network access, small enough to send.

ending     at the end of a run: write its page, or report why not
command    a run or a sweep, named or just ended → its page in a file
run        the folder of a run → the content of its page
stages     the state of one stage
sweep      the folder of a sweep → the content of its page
programs   the same for any other programs: curves, pictures, JSON, how they were started
gallery    predictions → the pictures worth a look
confusion  the confusion matrix
curves     series of numbers → lines, ticks and labels
bars       pairs of numbers → bars and labels
drawing    curves and bars → SVG, and PNG if matplotlib is installed
phases     a timeline → phases with their durations
files      the expected format of a run's files, and their readers
page       all of this → HTML (templates/, with one style sheet and one script)

Files of a run come from a volume that others can write to: they are read with limits, an unusable file is
reported on the page, and all content appears as text, never as markup.
"""
