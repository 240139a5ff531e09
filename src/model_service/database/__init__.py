"""Pool, migrations, repositories and the embedded PostgreSQL server."""
