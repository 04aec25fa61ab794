"""The journal as evidence: signed heads, exports that prove themselves, drafts of reports to authorities.

What must stay true: evidence is read, never changed; nothing that a filter leaves out is left out in silence.
"""
