"""The engine for PostgreSQL with PostGIS."""
