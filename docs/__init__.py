"""The manual. `python -m docs` writes `reference.md` out of the code; a test fails when it is stale."""
