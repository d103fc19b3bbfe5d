"""Every query, as plain functions that take a session, a module per aggregate."""
