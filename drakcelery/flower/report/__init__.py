"""What a sample did, on the page of its analysis: ``report.json``, a page of each list at a time.

A report has up to 20 000 processes and tens of thousands of other entries, and a sample chooses what they
say. So the browser gets what it shows, of at most :data:`~.pages.PAGE` entries; searching, filtering and
folding happen here, in time that the limits of a report bound.
"""
