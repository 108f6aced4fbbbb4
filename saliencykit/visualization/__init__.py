"""Self-contained HTML pages: nothing is fetched, no script is needed, everything that came from
outside is escaped.
"""
