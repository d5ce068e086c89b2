"""What drakcelery costs and how fast it is, beside its peers and the machine's limits: ``make bench``.

One module for each question, each with a function ``measure(*, quick: bool) -> list[Result]``; it returns
medians. What is compared is measured in turn in one run, so that a machine that is busy is busy for both: the
ratios tell more than the figures. Nothing here is a gate: no test fails by time.
"""
