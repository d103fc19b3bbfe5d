"""The console: what Understudy does, on pages that need no JavaScript and no other host.

A request for a page walks through these rooms:

    page.py        what all pages have in common: safe headers, errors in words, the way to the login
    session.py     who is logged in: a signed cookie; forms that only our own pages can send; wrong tokens are throttled
    login.py       in and out
    savings.py     the start page: money
    tasks.py       the map and the table of tasks
    task.py        one task: skeleton, examples, proof, the life of its SLMs
    promotion.py   promote and demote, with what will happen said before
    calls.py       the log, live; one call
    runs.py        background work, and how far it is
    operations.py  models and the audit trail
    keys.py        the proxy's own keys
    assets.py      style sheet, script and icon

They ask the same functions as the admin API does (`proxy/endpoints`), and draw what these say:

    render.py      templates; every value in them is escaped
    figures.py     numbers, money and moments as people read them
    hostile.py     text of strangers: bounded, and without characters that make it look like something else
    transcript.py  a request or an answer as a conversation
    charts.py      where the marks of a picture go; the templates make SVG of them

The only script is htmx (vendored, with its licence beside it): it asks again for what changes while one looks.
"""
