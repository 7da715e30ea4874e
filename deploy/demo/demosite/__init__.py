"""The demonstration site: a guestbook on PostgreSQL."""
