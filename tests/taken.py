"""What a test has this process take as secret."""

from contextlib import contextmanager

from ezflow.redaction import SECRETS


@contextmanager
def taken(*secrets):
    new = set(secrets) - SECRETS
    SECRETS.update(new)
    try:
        yield
    finally:
        SECRETS.difference_update(new)
