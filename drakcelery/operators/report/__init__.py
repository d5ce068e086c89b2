"""What a sample did, for people: ``report.json`` as text, as Markdown, and in a few lines.

:mod:`~drakcelery.operators.report.document` has the parts that a page consists of, ``sections`` and
``summary`` make them of a report, ``text`` and ``markdown`` show them. Whatever a sample chose goes through
``values`` first.
"""
