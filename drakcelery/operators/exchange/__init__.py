"""A report in the forms in which others exchange findings: STIX 2.1 and MISP.

An extra brings what makes them. Whatever a sample chose goes through
:mod:`~drakcelery.operators.exchange.values` first, so it can make nothing that others refuse.
"""
