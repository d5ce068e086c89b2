"""Our pages in Flower: the fleet and its analyses, beside Flower's own and in their look.

Flower is not changed and not copied. :mod:`.command` starts it as its own command does, :mod:`.application`
adds handlers and templates as Tornado provides for, :mod:`.handlers` answer, and what they show is read by
:mod:`.reading` into the values of :mod:`.fleet_page` and :mod:`.analysis_page`.
"""
